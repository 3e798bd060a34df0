"""Every row of the troubleshooting page is provoked, and the product really prints what stands in its first column."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentos_jupyter.cli.main import VERBS
from agentos_jupyter.jupyter.table import COMMANDS
from tests.crash.scene import Scene
from tests.jupyter.conftest import Notebook
from tests.log.damages import DAMAGES
from tests.rpc.versions import Other
from tests.servers.openai_server import Behaviour, FakeOpenAI, error

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md"
Provocation = Callable[[Scene], str]


def symptoms() -> list[str]:
    """The first cell of each table row."""
    rows = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [row for row in rows if row != "you see"]


def pattern(symptom: str) -> str:
    """What must be printed: the text between the backticks, with anything for `…`; for words, those in backticks."""
    literal = re.findall(r"`([^`]+)`", symptom)
    assert literal, f"the symptom {symptom!r} quotes nothing that the product prints"
    return ".*".join(re.escape(part.strip()) for part in literal[0].split("…"))


# -- the workspace and its daemon


def home(scene: Scene) -> str:
    scene.notebook = scene.open(scene.workspace, AGENTOS_WORKSPACE=os.environ["HOME"])
    return scene.shown()


def long_socket(scene: Scene) -> str:
    scene.begin()
    scene.long_runtime()
    return scene.shown()


def open_runtime(scene: Scene) -> str:
    scene.begin()
    scene.stop()
    scene.runtime_mode(0o755)
    return scene.shown()


def network_disk(scene: Scene) -> str:
    """A process that is told so by its /proc: no network file system can be had in a test."""
    mounts = scene.workspace / "mounts"
    mounts.write_text("22 1 259:2 / / rw,relatime shared:1 - nfs4 server:/ rw\n")
    opening = f"import agentos_jupyter; agentos_jupyter.open({os.fspath(scene.workspace)!r})"
    shell = f"mount --bind {mounts} /proc/$$/mountinfo && exec {sys.executable} -c {json.dumps(opening)}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", shell], cwd=scene.workspace, capture_output=True, text=True)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("mounting takes root")
    return done.stderr


def other_machine(scene: Scene) -> str:
    scene.begin()
    scene.stop()
    (scene.state / "lock").write_text(json.dumps({"pid": 7, "host": "elsewhere", "boot": "another"}))
    try:
        return scene.shown()
    finally:
        (scene.state / "lock").unlink()


def twin(scene: Scene) -> str:
    scene.begin()
    code = f"import agentos_jupyter; agentos_jupyter.open({os.fspath(scene.workspace)!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50).stderr


def untrusted(scene: Scene) -> str:
    scene.begin()
    scene.configure(providers={"here": {"base_url": "http://127.0.0.1:9/v1"}})
    return scene.shown()


def foreign_script(scene: Scene) -> str:
    scene.begin()
    scene.configure(model="scripted:/etc/hostname")
    return scene.shown()


def wrong_line(scene: Scene) -> str:
    scene.begin()
    scene.configure(modle="x")
    return scene.shown()


def other_version(scene: Scene) -> str:
    scene.begin()
    scene.other_version()
    return scene.shown()


def no_memory(scene: Scene) -> str:
    shell = f"ulimit -v 150000; exec {sys.executable} -m agentos_jupyter.cli start"
    done = subprocess.run(["bash", "-c", shell], cwd=scene.workspace, capture_output=True, text=True, timeout=50)
    return f"daemon.unavailable: {done.stderr}"


def placeholders(scene: Scene) -> str:
    scene.begin()
    (scene.workspace / "agentos.yaml").unlink()
    assert scene.notebook is not None
    assert scene.notebook.run("!true").reply["status"] == "ok"
    there = [path.name for path in scene.workspace.iterdir() if path.name in ("agentos.yaml", "skills", ".agents")]
    assert len(there) == 3 and (scene.workspace / "agentos.yaml").stat().st_size == 0
    return " ".join(there)


# -- the log and the disk


def damaged(scene: Scene) -> str:
    scene.begin()
    scene.kill_daemon()
    DAMAGES["wal with a flipped byte"](scene.state)
    return scene.shown()


def salvaged(scene: Scene) -> str:
    assert damaged(scene).startswith("log.damaged")
    assert scene.agentos("salvage").returncode == 0
    return scene.shown("%status")


def full(scene: Scene) -> str:
    scene.on_a_disk("16m")
    scene.begin()
    scene.fill_disk()
    try:
        return scene.shown()
    finally:
        scene.free_disk()


def read_only(scene: Scene) -> str:
    scene.on_a_disk("16m")
    scene.begin()
    scene.stop()
    scene.remount("ro")()
    try:
        return scene.shown()
    finally:
        scene.remount("rw")()


def removed(scene: Scene) -> str:
    scene.begin()
    scene.move_state()
    return scene.shown()


def newer_log(scene: Scene) -> str:
    scene.begin()
    scene.stop()
    write = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[1]); "
        "con.execute(\"insert into migrations values ('0009-quantum', now()::timestamp)\")"
    )
    subprocess.run([sys.executable, "-c", write, str(scene.state / "log.duckdb")], check=True, timeout=50)
    return scene.shown()


def clock_set_back(scene: Scene) -> str:
    from tests.crash.clock import Clock

    clock = Clock(scene.workspace)
    scene.open = clock.opening(scene.open)
    scene.begin()
    clock.jump(-3)
    assert "second" in scene.shown()
    shown = scene.shown("%runs")
    newest, older = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", shown)[:2]
    assert newest < older, shown
    return f"%runs shows an older time above a newer one: {newest}, {older}"


# -- sessions and agents


def held_elsewhere(scene: Scene) -> str:
    scene.begin()
    first = scene.notebook
    assert first is not None
    session = scene_session(scene)
    request = first.begin("run sleep 3")
    first.wait_for(request, "$ sleep 3")
    scene.reopen()
    assert scene.shown(f"%session resume {session}")
    shown = scene.shown()
    first.end(request)
    return shown


def scene_session(scene: Scene) -> str:
    assert scene.notebook is not None
    [found] = set(re.findall(r"s-\w{12}", scene.notebook.run("%session").text))
    return str(found)


def kept(scene: Scene) -> str:
    scene.begin(limits={"lease": "20s"})
    first = scene.notebook
    assert first is not None
    session = scene_session(scene)
    request = first.begin("run sleep 5")
    first.wait_for(request, "$ sleep 5")
    kernel = first.manager.provisioner.pid  # type: ignore[union-attr]
    os.kill(kernel, signal.SIGSTOP)  # it is there, and does not come back for its dispatch
    scene.kill_daemon()
    scene.reopen()
    assert scene.shown(f"%session resume {session}")
    shown = scene.shown()
    os.kill(kernel, signal.SIGCONT)
    return shown


def another_log(scene: Scene) -> str:
    removed(scene)
    return scene.shown()


def too_long(scene: Scene) -> str:
    scene.begin()
    scene.configure(limits={"window": "4k", "answer": "1k"})
    return scene.shown()


def no_engine(scene: Scene) -> str:
    scene.begin()
    scene.configure(context="aos-nonsense")
    return scene.shown()


def used_up(scene: Scene) -> str:
    scene.begin(limits={"turns": 1})
    return scene.shown("run true")


def no_sandbox(scene: Scene) -> str:
    """A user namespace in which no further one can be made."""
    forbid = ["unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
    if subprocess.run([*forbid, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace can be made here")
    scene.begin()
    scene.notebook = scene.open(scene.workspace, prefix=forbid)
    return scene.shown("!true")


# -- models


def demonstration(scene: Scene) -> str:
    scene.notebook = scene.open(scene.workspace)
    return scene.shown("hello")


def no_key(scene: Scene) -> str:
    scene.begin()
    scene.configure(model="openrouter/auto")
    return scene.shown()


def unreachable(scene: Scene) -> str:
    return asked(scene, "http://127.0.0.1:9/v1")


def rate_limited(scene: Scene) -> str:
    with serving(error(429, "slow down")) as url:
        return asked(scene, url)


def wrong_key(scene: Scene) -> str:
    with serving(error(401, "no such key")) as url:
        return asked(scene, url)


def asked(scene: Scene, url: str) -> str:
    scene.begin()
    scene.notebook = scene.open(scene.workspace, AGENTOS_TRUST="1", HERE_API_KEY="k" * 20)
    limits = {"attempts": 2, "backoff": "5ms", "compute": "5s"}
    scene.configure(model="here/m", providers={"here": {"base_url": url}}, limits=limits)
    return scene.shown()


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """A server in a thread that answers every request so; its base URL."""
    urls: list[str] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        async with FakeOpenAI(behaviour) as server:
            urls.append(server.base_url)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(10)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()


def no_such_model(scene: Scene) -> str:
    scene.begin()
    scene.configure(model="openruoter/auto")
    return scene.shown()


# -- Jupyter


def another_environment(scene: Scene) -> str:
    """An environment of its own that sees our packages, and not our kernelspec."""
    place = scene.workspace / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=50)
    [packages] = place.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "ours.pth").write_text("\n".join([*ours, str(PAGE.parents[2])]))
    done = subprocess.run(
        [place / "bin" / "python", "-m", "agentos_jupyter.cli", "doctor"],
        cwd=scene.workspace, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    return done.stdout


PROVOKED: dict[str, Provocation] = {
    "`workspace.refused: … cannot be a workspace`": home,
    "`workspace.refused: The socket path … is longer than unix sockets allow`": long_socket,
    "`workspace.refused: The runtime folder … is not a private folder of yours`": open_runtime,
    "`lies on a network file system`": network_disk,
    "`workspace.busy: … on the machine … work there`": other_machine,
    "`belongs to process`": twin,
    "`workspace.untrusted`": untrusted,
    "`outside of the workspace`": foreign_script,
    "`config.invalid: …agentos.yaml:…`": wrong_line,
    "`daemon.version`": other_version,
    "`daemon.unavailable: … did not get ready`": no_memory,
    "an empty `agentos.yaml` appears": placeholders,
    "`log.damaged`": damaged,
    "`log.unwritable: … is full`": full,
    "`log.unwritable: … Read-only file system`": read_only,
    "`log.unwritable: … was removed or replaced`": removed,
    "`log.too_new`": newer_log,
    "`salvaged`": salvaged,
    "`%runs` shows an older time above a newer one": clock_set_back,
    "`session.busy: … is at work for`": held_elsewhere,
    "`session.busy: … kept for`": kept,
    "`session.not_found`": another_log,
    "`context.too_long`": too_long,
    "`no_context_engine`": no_engine,
    "`budget.exceeded`": used_up,
    "`sandbox.unavailable`": no_sandbox,
    "`[scripted model`": demonstration,
    "`model.key_missing`": no_key,
    "`model.unavailable: … nothing answers at`": unreachable,
    "`model.unavailable: … 429`": rate_limited,
    "`model.refused: … 401`": wrong_key,
    "`model.not_found`": no_such_model,
    "`Jupyter knows no kernel named agentos`": another_environment,
}


def test_every_row_has_a_provocation_and_every_provocation_a_row() -> None:
    assert symptoms() == list(PROVOKED)


def test_every_cure_names_verbs_and_commands_that_there_are() -> None:
    page = PAGE.read_text()
    assert {match[1] for match in re.finditer(r"`agentos (\w+)", page)} <= set(VERBS)
    assert {match[1] for match in re.finditer(r"`%(\w+)", page)} <= set(COMMANDS)


@pytest.fixture
def scene(workspace: Path, open_notebook: Callable[..., Notebook], other: Other) -> Iterator[Scene]:
    made = Scene(workspace, open_notebook, other)
    with made.after:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("symptom", PROVOKED)
def test_the_symptom_is_what_the_product_prints(scene: Scene, symptom: str) -> None:
    printed = PROVOKED[symptom](scene)
    assert re.search(pattern(symptom), printed, re.DOTALL), printed
