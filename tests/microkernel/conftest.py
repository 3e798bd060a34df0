"""A desk in front of a real microkernel: the in-process twin, opened on a workspace, and what a unit does with it."""

from __future__ import annotations

import os
import secrets
import shutil
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import agentos_jupyter
from agentos_jupyter import paths
from agentos_jupyter.microkernel.inprocess import Workspace
from agentos_jupyter.rpc.sync import SyncLink


def key() -> str:
    """A client's key."""
    return secrets.token_hex(8)


class Desk:
    """Calls as a client makes them, by the twin (`call`) or by sockets of one's own (`connect`)."""

    def __init__(self, workspace: Path, skills: Path | None) -> None:
        self.workspace, self._skills = workspace, skills
        self._links: list[SyncLink] = []
        self.kernel = agentos_jupyter.open(workspace, skills)

    def call(self, method: str, **params: Any) -> Any:
        return self.kernel.call(method, params)

    def connect(self) -> SyncLink:
        link = SyncLink(self.workspace, start=False)
        self._links.append(link)
        return link

    def reopen(self) -> None:
        """Close everything and open it again: what is known then comes from the log."""
        self.close()
        self.kernel = agentos_jupyter.open(self.workspace, self._skills)

    def close(self) -> None:
        for link in self._links:
            link.close()
        self._links.clear()
        self.kernel.close()

    # -- what a unit does

    def session(self, **more: Any) -> str:
        return str(self.call("session.create", key=key(), **more)["id"])

    def begin(self, session: str, prompt: str = "hi", link: Any = None, **more: Any) -> dict[str, Any]:
        params = {"session": session, "prompt": prompt, "key": key(), **more}
        return (link or self.kernel).call("dispatch.begin", params)  # type: ignore[no-any-return]

    def complete(self, began: dict[str, Any], turn: int, link: Any = None) -> dict[str, Any]:
        params = {"dispatch": began["dispatch"], "epoch": began["epoch"], "turn": turn}
        return (link or self.kernel).call("compute.complete", params)  # type: ignore[no-any-return]

    def result(self, began: dict[str, Any], call: str, text: str = "done", status: str = "ok", **more: Any) -> str:
        observation = {"status": status, "text": text, **more}
        handle = {"dispatch": began["dispatch"], "epoch": began["epoch"]}
        return str(self.call("tool.end", **handle, id=call, observation=observation)["text"])

    def end(self, began: dict[str, Any], status: str = "ok", **more: Any) -> dict[str, Any]:
        handle = {"dispatch": began["dispatch"], "epoch": began["epoch"]}
        return self.call("dispatch.end", **handle, status=status, **more)  # type: ignore[no-any-return]

    def prompt(self, session: str, text: str = "hi", answers: str = "done") -> dict[str, Any]:
        """A whole dispatch; every call is answered with the same text."""
        began = self.begin(session, text)
        turn = 0
        while calls := self.complete(began, turn := turn + 1)["tool_calls"]:
            for call in calls:
                if call["verdict"] == "allow":
                    self.result(began, call["id"], answers)
        return self.end(began)

    # -- what is known afterwards

    def events(self, session: str, type: str = "") -> list[dict[str, Any]]:
        found = self.call("session.history", session=session, limit=10_000)["events"]
        return [each for each in found if each["type"].startswith(type)]

    def types(self, session: str) -> list[str]:
        return [each["type"] for each in self.events(session)]

    def messages(self, session: str) -> list[dict[str, Any]]:
        return self.call("context.get", session=session)["messages"]  # type: ignore[no-any-return]

    def raw_context(self, session: str) -> bytes:
        """The messages byte for byte, as the model gets them."""

        async def read() -> bytes:
            assert self.kernel._kernel is not None
            return b",".join((await self.kernel._kernel.session(session)).context.messages())

        return self.kernel.run(read())

    def commits(self) -> int:
        assert self.kernel._kernel is not None
        return self.kernel._kernel.log.commits


@pytest.fixture
def skills(base: Path) -> Iterator[Callable[..., Path]]:
    """Makes a folder of skills: the shipped context engine, and services by name and source."""
    folder = base / f"s{secrets.token_hex(4)}"

    def make(**sources: str) -> Path:
        if not folder.exists():
            shutil.copytree(paths.skills_dir() / "aos-context", folder / "aos-context")
        for name, source in sources.items():
            skill = folder / name.replace("_", "-")
            skill.mkdir()
            (skill / "SKILL.md").write_text(
                f"---\nname: {skill.name}\ndescription: A test's own.\nmetadata:\n  agentos-service: ./service.py\n---\n"
            )
            (skill / "service.py").write_text(textwrap.dedent(source))
        return folder

    yield make
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_desk(
    workspace: Path, configure: Callable[..., Path], script: Callable[..., str], skills: Callable[..., Path]
) -> Iterator[Callable[..., Desk]]:
    """Opens the workspace: `open_desk(rules=[…], services={"name": source}, limits={…}, …)`."""
    opened: list[Desk] = []

    def now(rules: list[dict[str, Any]] | None = None, services: dict[str, str] | None = None, **settings: Any) -> Desk:
        if rules is not None:
            settings["model"] = script(rules)
        configure(**settings)
        opened.append(Desk(workspace, skills(**services) if services is not None else None))
        return opened[-1]

    yield now
    for desk in opened:
        desk.close()
    assert not [each for each in threading.enumerate() if each.name == "agentos"]


@pytest.fixture
def trusted() -> Iterator[None]:
    """The person trusts this workspace: `base_url` may be named in it."""
    os.environ["AGENTOS_TRUST"] = "1"
    yield
    os.environ.pop("AGENTOS_TRUST", None)


@pytest.fixture
def remote(trusted: None) -> Callable[..., dict[str, Any]]:
    """Settings for a model behind a URL, quick to give up: `open_desk(**remote(server.base_url))`."""

    def settings(url: str, **limits: Any) -> dict[str, Any]:
        quick = {"backoff": "5ms", "attempts": 2, "first_token": "2s", "idle": "2s", "compute": "10s", **limits}
        return {"model": "here/m", "providers": {"here": {"base_url": url}}, "limits": quick}

    return settings


__all__ = ["Desk", "Workspace", "key"]
