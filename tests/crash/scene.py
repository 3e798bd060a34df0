"""A notebook at work in a workspace, and what may happen to the machine around it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentos_jupyter import paths
from agentos_jupyter.cli.stop import stop
from agentos_jupyter.errors import BY_CODE
from agentos_jupyter.rpc.sync import SyncLink
from tests.jupyter.conftest import Cell, Notebook
from tests.rpc.versions import HOLD, Other

Facts = set[tuple[str, int, str]]


class Scene:
    """One notebook that was answered once; `facts` is what its log had acknowledged until then."""

    def __init__(self, workspace: Path, open_notebook: Callable[..., Notebook], other: Other) -> None:
        self.workspace, self.open, self._other = workspace, open_notebook, other
        self.state, self.runtime = workspace / ".agentos", paths.runtime_dir()
        self.after = contextlib.ExitStack()
        self.facts: Facts = set()
        self.notebook: Notebook | None = None

    def begin(self, **settings: Any) -> None:
        rules = [
            {"when": {"match": "say (.+)"}, "say": "{1}"},
            {"when": {"match": "run (.+)"}, "calls": [{"bash": {"command": "{1}"}}]},
            {"when": {"role": "tool"}, "say": "done"},
        ]
        (self.workspace / "model.yaml").write_text(yaml.safe_dump({"rules": rules}))
        self.configure(**settings)
        self.notebook = self.open(self.workspace)
        assert self.say("first").answer.startswith("first")
        self.facts = self.stored()

    def configure(self, **settings: Any) -> None:
        given = {"model": "scripted:model.yaml", "limits": {"lease": "1s"}, **settings}
        (self.workspace / "agentos.yaml").write_text(yaml.safe_dump(given))

    def say(self, word: str) -> Cell:
        """Have the model say a word, and enough more that its facts need new pages of a disk."""
        assert self.notebook is not None
        return self.notebook.run(f"say {word} {'x' * 20_000}", timeout=50)

    def shown(self, code: str = "") -> str:
        """What the next cell shows: an answer or text, or its error, which is a known code and a sentence without a stack."""
        assert self.notebook is not None
        cell = self.notebook.run(code, timeout=50) if code else self.say("second")
        if cell.reply["status"] == "ok":
            return cell.text
        name, sentence = cell.error
        assert name in BY_CODE and name != "internal"
        assert cell.reply["traceback"] == [f"{name}: {sentence}"] and "\n" not in sentence
        return f"{name}: {sentence}"

    def stored(self) -> Facts:
        """Every event of the log."""
        with SyncLink(self.workspace) as link:
            rows = link.call("sql.query", {"sql": "select stream, version, digest from events"})["rows"]
        return {(row[0], row[1], row[2]) for row in rows}

    def agentos(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agentos_jupyter.cli", *arguments]
        return subprocess.run(command, cwd=self.workspace, capture_output=True, text=True, timeout=50)

    # -- what fails, and how it is mended

    def nothing(self) -> None:
        """It mends itself."""

    def stop(self) -> None:
        stop(self.workspace)

    def kill_daemon(self) -> None:
        kill(int(json.loads((self.state / "lock").read_text())["pid"]))

    def kill_sandbox(self) -> None:
        assert self.notebook is not None
        assert self.notebook.run("!true").reply["status"] == "ok"  # it is there from the first command on
        for pid in children(self.notebook.manager.provisioner.pid, "bwrap"):  # type: ignore[union-attr]
            kill(pid)

    def kill_kernel(self) -> None:
        assert self.notebook is not None
        self.notebook.manager.signal_kernel(signal.SIGKILL)
        self.notebook = self.open(self.workspace)

    def on_a_disk(self, size: str) -> None:
        """The workspace is a file system of its own."""
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(self.workspace)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting a file system takes root")
        self.after.callback(subprocess.run, ["umount", "-l", str(self.workspace)], check=True)
        self.after.callback(stop, self.workspace)

    def fill_disk(self) -> None:
        free = os.statvfs(self.workspace)
        (self.workspace / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize))

    def free_disk(self) -> None:
        (self.workspace / "filler").unlink()

    def remount(self, how: str) -> Callable[[], None]:
        def now() -> None:
            subprocess.run(["mount", "-o", f"remount,{how}", str(self.workspace)], check=True)

        return now

    def runtime_mode(self, mode: int) -> None:
        self.runtime.chmod(mode)
        self.after.callback(self.runtime.chmod, 0o700)

    def runtime_owner(self, owner: int) -> None:
        if os.geteuid() != 0:
            pytest.skip("giving a folder away takes root")
        os.chown(self.runtime, owner, -1)
        self.after.callback(os.chown, self.runtime, os.geteuid(), -1)

    def remove_runtime(self) -> None:
        """As a cleaner of temporary folders does; a notebook opened afterwards knows no other way."""
        shutil.rmtree(self.runtime)
        self.notebook = self.open(self.workspace)

    def block_socket(self) -> None:
        self.stop()
        paths.socket_path(self.workspace).write_text("no socket")

    def long_runtime(self) -> None:
        self.stop()
        folder = self.workspace / ("long" * 25)
        folder.mkdir(mode=0o700)
        self.notebook = self.open(self.workspace, XDG_RUNTIME_DIR=str(folder))

    def reopen(self) -> None:
        self.notebook = self.open(self.workspace)

    def move_state(self) -> None:
        self.state.rename(self.workspace / "moved")

    def put_state_back(self) -> None:
        stop(self.workspace)
        shutil.rmtree(self.state, ignore_errors=True)
        (self.workspace / "moved").rename(self.state)

    def other_version(self) -> None:
        """A daemon that is older, speaks another protocol, and is at work."""
        self.stop()
        holding = self._other(HOLD, "0.0.1", 99)
        assert holding.stdout is not None and holding.stdout.readline() == "held\n"
        self.after.callback(self.end_other_version, holding)
        self._holding = holding

    def end_other_version(self, holding: Any = None) -> None:
        holding = holding or self._holding
        if holding.poll() is None:
            holding.kill()
            holding.communicate()
            stopping = "from agentos_jupyter.cli.main import main; main(['stop'])"
            self._other(stopping, "0.0.1").communicate(timeout=30)


def kill(pid: int) -> None:
    """Kill -9, and wait until it has let go of what it held."""
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
            time.sleep(0.01)


def children(pid: int, name: str) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in listed if name in Path(f"/proc/{each}/cmdline").read_text()]
