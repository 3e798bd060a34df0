"""What the jobs on real input share: a published package in a workspace, its own tests, and what the log says in the end.

Packages come as source from the package index, at a pinned version, and are not kept here. Where the index cannot be
reached, the test fails and says so. Only the model is scripted: its rules read what the tools print.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import agentos_jupyter
from agentos_jupyter.cli.stop import stop

Rules = list[dict[str, Any]]
FETCH_SECONDS = 180


def bash(*commands: str) -> list[dict[str, Any]]:
    """Calls of a rule."""
    return [{"bash": {"command": command}} for command in commands]


def prompted(match: str, say: str, *commands: str, earlier: str | None = None) -> dict[str, Any]:
    """A rule on a person's words."""
    when = {"role": "user", "match": match, "earlier": earlier}
    return {"when": {k: v for k, v in when.items() if v is not None}, "say": say, "calls": bash(*commands)}


def printed(arguments: str, match: str, say: str, *commands: str, earlier: str | None = None) -> dict[str, Any]:
    """A rule on what a command that matches `arguments` printed."""
    when = {"role": "tool", "arguments": arguments, "match": match, "earlier": earlier}
    return {"when": {k: v for k, v in when.items() if v is not None}, "say": say, "calls": bash(*commands)}


@dataclass(frozen=True)
class Package:
    """A project's folder, which is the workspace, and how its own tests are run."""

    folder: Path
    tests: Sequence[str]

    def failures(self, *more: str) -> int:
        """How many of its own tests fail, run by this test outside the sandbox; an error counts, too."""
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", *self.tests, *more]
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=120)
        said = done.stdout + done.stderr
        found = len(re.findall(r"^(?:FAIL:|ERROR:|FAILED |ERROR )", said, re.MULTILINE))
        assert bool(found) == bool(done.returncode), said[-2000:]
        return found

    def plant(self, file: str, right: str, wrong: str) -> str:
        """Put a bug into a file; the file's text as it was."""
        path = self.folder / file
        original = path.read_text()
        assert original.count(right) == 1, f"{file} of this version has {right!r} {original.count(right)} times"
        path.write_text(original.replace(right, wrong))
        return original

    def model(self, rules: Rules, otherwise: str = "I am lost.") -> None:
        """Let the workspace's model be these rules."""
        (self.folder / "model.yaml").write_text(yaml.safe_dump({"rules": rules, "otherwise": otherwise}))
        (self.folder / "agentos.yaml").write_text("model: scripted:model.yaml\n")


@pytest.fixture
def package(base: Path, workspace: Path) -> Callable[..., Package]:
    """The unpacked source of a package: `package("yamllint==1.38.0", "unittest")`."""

    def unpack(pinned: str, *tests: str) -> Package:
        with tarfile.open(_archive(base / "sdists" / pinned, pinned)) as archive:
            archive.extractall(workspace, filter="data")
        [folder] = [each for each in workspace.iterdir() if each.is_dir()]
        return Package(folder, tests)

    return unpack


def _archive(folder: Path, pinned: str) -> Path:
    """The source distribution, fetched once for all tests of this process."""
    if not folder.exists():
        options = ("-q", "--no-deps", "--no-binary", ":all:", "--retries", "1", "-d", str(folder))
        command = [sys.executable, "-m", "pip", "download", *options, pinned]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS)
            problem = done.stderr if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"nothing came within {FETCH_SECONDS} s"
        if problem:
            pytest.fail(f"{pinned} could not be fetched from the package index, which this test needs: {problem}")
    [found] = folder.glob("*.tar.gz")
    return found


def verify(notebook: Path) -> None:
    """`agentos verify`: the executed notebook shows what the log has."""
    done = subprocess.run(
        [sys.executable, "-m", "agentos_jupyter.cli", "verify", str(notebook)],
        cwd=notebook.parent, env={**os.environ, "AGENTOS_WORKSPACE": str(notebook.parent)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class Logged:
    """What a workspace's log holds once its daemon has stopped: dispatches, oldest first, and the facts in order."""

    dispatches: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """The data of the events of a type."""
        return [event["data"] for event in self.events if event["type"] == kind]


def logged(folder: Path) -> Logged:
    """The log, checked: whole digest chains, versions without gaps, one result for each call, all of it scripted."""
    stop(folder)
    with agentos_jupyter.open(folder) as opened:
        kernel = opened._kernel
        assert kernel is not None
        for stream in kernel.log.streams():
            assert opened.run(kernel.log.verify(stream)) > 0
        dispatches = opened.call("dispatch.list", {"limit": 100})["dispatches"][::-1]
        sessions = {each["session"] for each in dispatches}
        histories = [opened.call("session.history", {"session": each, "limit": 10_000})["events"] for each in sessions]
    for history in histories:
        assert [event["version"] for event in history] == list(range(1, len(history) + 1))
    found = Logged(dispatches, [event for history in histories for event in history])
    calls = Counter(call["id"] for message in found.of("assistant.message") for call in message["calls"])
    results = Counter(result["id"] for result in found.of("tool.result"))
    assert results - calls == Counter() or {each["kind"] for each in dispatches} != {"prompt"}
    assert calls - results == Counter()
    assert all(each["scripted"] for each in dispatches if each["kind"] == "prompt")
    return found


def changed(dispatch: Mapping[str, Any]) -> dict[str, list[str]]:
    """The files a dispatch changed, by what was done to them, without what is empty."""
    assert dispatch["changed"] is not None
    return {kind: paths for kind, paths in dispatch["changed"].items() if paths}
