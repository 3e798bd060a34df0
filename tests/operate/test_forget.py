"""Content is forgotten: its bytes go, a tombstone stays, sessions go on, and no event is touched."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from agentos_jupyter import paths
from agentos_jupyter.errors import ContentForgotten, ContentNotFound
from agentos_jupyter.log import Log, forgetting
from agentos_jupyter.records import NewEvent
from agentos_jupyter.rpc.link import Link
from agentos_jupyter.rpc.sync import SyncLink
from tests.servers.openai_server import FakeOpenAI, say

from .conftest import Run

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def put(link: SyncLink, data: bytes) -> str:
    chunk = base64.b64encode(data).decode()
    return str(link.call("content.put", {"upload": secrets.token_hex(8), "base64": chunk, "last": True})["digest"])


@pytest.fixture
def link(workspace: Path) -> Iterator[SyncLink]:
    with SyncLink(workspace) as opened:
        yield opened


def test_what_was_forgotten_is_gone_and_says_when_by_whom_and_why(
    agentos: Run, workspace: Path, link: SyncLink
) -> None:
    digest, other = put(link, b"a customer's file"), put(link, b"another")
    path = paths.state_dir(workspace) / "blobs" / digest[7:9] / digest[7:]
    done = agentos("forget", digest[:17], "--reason", "they asked us to", "--yes")
    assert done.returncode == 0, done.stderr
    assert not path.exists()
    with pytest.raises(
        ContentForgotten, match=r"was forgotten at 20\d\d-.* by .*: they asked us to. Its bytes are gone"
    ):
        link.call("content.read", {"digest": digest})
    assert base64.b64decode(link.call("content.read", {"digest": other})["base64"]) == b"another"
    assert "already" in agentos("forget", digest, "--yes").stdout
    with pytest.raises(ContentNotFound, match="never put"):
        link.call("content.forget", {"digest": "sha256:" + "0" * 64})
    assert "is no digest" in agentos("forget", "everything", "--yes").stderr
    assert "Nobody can be asked" in agentos("forget", other).stderr
    assert put(link, b"a customer's file") == digest
    assert link.call("content.read", {"digest": digest})["total"] == 17
    assert json.loads(agentos("forget", digest, "--yes", "--json").stdout)["now"]


def test_a_person_is_asked(agentos: Run, workspace: Path, link: SyncLink) -> None:
    digest = put(link, b"to be kept")
    child = pexpect.spawn(
        sys.executable, ["-m", "agentos_jupyter.cli", "forget", digest], cwd=str(workspace), timeout=20
    )
    child.expect("named by 0 events")
    child.expect("Go on")
    child.sendline("n")
    child.expect("Nothing was done")
    child.close()
    assert link.call("content.read", {"digest": digest})["total"] == 10


async def test_a_chain_stays_valid_and_a_forgetting_that_was_cut_off_is_carried_out(tmp_path: Path) -> None:
    folder = tmp_path / ".agentos"
    async with await Log.open(folder) as log:
        digest = await log.blobs.put(b"secret")
        await log.append("session/1", "new", [NewEvent("tool.result", {"full": digest})])
        data = {"digest": digest, "bytes": 6, "reason": "", "by": "test"}
        await asyncio.sleep(0.01)
        await log.append(f"content/{digest}", "any", [NewEvent("content.forgotten", data, "person")])
    async with await Log.open(folder) as log:
        await forgetting.carry_out(log)
        assert not log.blobs.has(digest)
        assert [await log.verify(stream) for stream in log.streams()] == [1, 1]
        with pytest.raises(ContentForgotten, match="without a reason"):
            await log.content(digest)
        await log.blobs.put(b"secret")
        await forgetting.carry_out(log)
        assert log.blobs.has(digest), "it was put again since"


async def test_a_session_goes_on_without_the_image_that_was_forgotten(
    workspace: Path, configure: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOS_TRUST", "1")
    shown = base64.b64encode(PIXEL).decode()
    async with FakeOpenAI(say("A dot.")) as server:
        configure(model="here/m", providers={"here": {"base_url": server.base_url}})
        link = await Link.open(workspace)
        chunk = {"upload": secrets.token_hex(8), "base64": shown, "last": True}
        digest = (await link.call("content.put", chunk))["digest"]
        session = (await link.call("session.create", {"key": secrets.token_hex(8)}))["id"]
        image = {"digest": digest, "mime": "image/png", "name": "a customer"}
        await ask(link, session, "What is this?", images=[image])
        assert shown.encode() in server.requests[-1].raw
        await link.call("content.forget", {"digest": digest})
        await ask(link, session, "And now?")
        sent = server.requests[-1].raw
        assert b"has been forgotten" in sent and b"blob:" not in sent and shown.encode() not in sent
        await link.aclose()


async def ask(link: Link, session: str, prompt: str, **more: Any) -> None:
    """A dispatch of one turn."""
    asked = {"session": session, "prompt": prompt, "key": secrets.token_hex(8), **more}
    began = await link.call("dispatch.begin", asked)
    handle = {"dispatch": began["dispatch"], "epoch": began["epoch"]}
    await link.call("compute.complete", {**handle, "turn": began["turn"] + 1})
    await link.call("dispatch.end", {**handle, "status": "ok"})
