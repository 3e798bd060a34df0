"""The gateway's process: what it is given, what it does not do, and that it is never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentos_jupyter.errors import ModelUnavailable
from agentos_jupyter.microkernel.gateway import process
from agentos_jupyter.microkernel.gateway.bodies import Bodies, hand_over
from agentos_jupyter.microkernel.gateway.process import Gateway
from tests.gateway.conftest import Through
from tests.models.conftest import KEY
from tests.servers import openai_server
from tests.servers.openai_server import FakeOpenAI

pytestmark = pytest.mark.timeout(120)


def gone(pid: int, seconds: float = 5) -> bool:
    """Whether a process ends within so many seconds; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def gateways() -> list[int]:
    """The gateways among this process's children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if b"gateway.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_nothing_starts_before_it_is_needed(through: Through) -> None:
    async with through(FakeOpenAI(openai_server.say("Hi")), "litellm:openai/x") as asked:
        asked.models.list()
        asked.models.resolve("litellm:openai/x")
        assert asked.gateway.pid is None


async def test_its_environment_is_empty_and_no_key_is_visible(through: Through, state: Path) -> None:
    async with through(FakeOpenAI(openai_server.say("Hi")), "litellm:openai/x") as asked:
        await asked.ask()
        folder = Path(f"/proc/{asked.gateway.pid}")
        names = {line.partition("=")[0] for line in (folder / "environ").read_text().split("\0") if line}
        assert names <= {"PATH", "LANG", "PYTHONSAFEPATH", "PYTHONPATH", "PYTHONUSERBASE"}
        assert KEY not in (folder / "cmdline").read_text()
        assert (folder / "cwd").readlink() == Path("/")
    assert KEY not in (state / "gateway.log").read_text()


def test_loading_litellm_reads_no_dotenv_and_touches_no_network(tmp_path: Path) -> None:
    """An audit hook sees every connection and every name that is looked up."""
    (tmp_path / ".env").write_text("OPENAI_API_KEY=planted\nLITELLM_LOG=DEBUG\n")
    code = """
import sys
seen = []
sys.addaudithook(lambda event, given: seen.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
from agentos_jupyter.microkernel.gateway import library
litellm = library.load()
import os
print("seen", seen, os.environ.get("OPENAI_API_KEY"), litellm.num_retries, litellm.success_callback, litellm.callbacks)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "seen [] None 0 [] []\n"
    assert not done.stderr


async def test_it_ends_with_whoever_started_it(state: Path, workspace: Path) -> None:
    gateway = Gateway(state, workspace, os.environ)
    await gateway.call("ping", {})
    pid = gateway.pid
    assert pid is not None
    await gateway.aclose()
    assert gone(pid)
    assert gateway.pid is None


def test_it_ends_when_its_parent_is_killed(state: Path, workspace: Path) -> None:
    code = f"""
import asyncio, os
from pathlib import Path
from agentos_jupyter.microkernel.gateway.process import Gateway
async def main():
    gateway = Gateway(Path({str(state)!r}), Path({str(workspace)!r}), os.environ)
    await gateway.call("ping", {{}})
    print(gateway.pid, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        assert gone(pid)


async def test_many_first_calls_start_one(state: Path, workspace: Path) -> None:
    gateway = Gateway(state, workspace, os.environ)
    try:
        await asyncio.gather(*(gateway.call("ping", {}) for _ in range(20)))
        assert gateways() == [gateway.pid]
    finally:
        await gateway.aclose()


async def test_one_that_does_not_start_in_time_is_ended(
    state: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.001)
    gateway = Gateway(state, workspace, os.environ)
    with pytest.raises(ModelUnavailable, match="did not start: see"):
        await gateway.call("ping", {})
    assert gateway.pid is None
    assert not gateways()


def test_bodies_of_calls_that_never_came_are_dropped() -> None:
    import socket

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        bodies = Bodies(theirs)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(1, 6):
            hand_over(ours, number, b"x" * number)
        assert bodies.take(4) == b"xxxx"
        assert len(os.listdir("/proc/self/fd")) == before, "1 to 3 are closed, 5 has not been received"
        assert bodies.take(5) == b"xxxxx"
        with pytest.raises(KeyError):
            bodies.take(6)
