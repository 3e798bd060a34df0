"""A person's own function as a model, in a real gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentos_jupyter.errors import AgentOSError, ModelMalformed, ModelNotFound, ModelRefused
from agentos_jupyter.microkernel.gateway import process
from agentos_jupyter.models import Delta, Request, Text
from tests.gateway.conftest import Asked, Through
from tests.models.conftest import message
from tests.servers import openai_server
from tests.servers.openai_server import FakeOpenAI

SOURCE = """
import asyncio, os, sys, time

def plain(messages, tools, params):
    return f"{messages[-1]['content']} {len(tools)} {params}"

async def later(messages, tools, params):
    await asyncio.sleep(0)
    return {"text": "Let me look.", "calls": [{"name": "bash", "arguments": {"command": "ls"}}]}

def pieces(messages, tools, params):
    yield "one "
    yield "two"
    yield {"calls": [{"name": "bash", "arguments": '{"command": "a"}'}]}
    yield {"calls": [{"name": "bash", "arguments": {"command": "b"}}]}

async def stream(messages, tools, params):
    for word in ("eins ", "zwei"):
        yield word
        await asyncio.sleep(0.01)

def breaks(messages, tools, params):
    raise RuntimeError("no such luck")

def number(messages, tools, params):
    return 42

def odd(messages, tools, params):
    return {"text": "x", "tools": []}

def seen(messages, tools, params):
    return f"{sorted(os.environ)} {sys.path}"

async def blocks(messages, tools, params):
    time.sleep(3600)

async def hangs(messages, tools, params):
    yield "…"
    await asyncio.sleep(3600)

def leaves(messages, tools, params):
    os._exit(3)

value = 7
"""
NAMES = [
    "plain",
    "later",
    "pieces",
    "stream",
    "breaks",
    "number",
    "odd",
    "seen",
    "blocks",
    "hangs",
    "leaves",
    "value",
    "missing",
]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The person's configuration, with a folder of theirs."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_models.py").write_text(SOURCE)
    file = tmp_path / "config" / "agentos" / "config.yaml"
    file.parent.mkdir(parents=True)
    names = [f"my_models:{name}" for name in NAMES]
    write(file, {"python_models": [*names, "planted:answer"], "python_path": [str(folder)]})
    return file


def write(file: Path, data: dict[str, list[str]]) -> None:
    file.write_text(json.dumps(data))


@pytest.fixture
def functions(through: Through):  # type: ignore[no-untyped-def]
    @asynccontextmanager
    async def opened(**limits: float) -> AsyncIterator[Asked]:
        server = FakeOpenAI(openai_server.say("never asked"))
        async with through(server, "python:my_models:plain", {"ANTHROPIC_API_KEY": "sk-ant"}, **limits) as asked:
            yield asked
            assert not server.requests

    return opened


async def test_every_kind_of_function_answers(functions) -> None:  # type: ignore[no-untyped-def]
    async with functions() as asked:
        request = Request([message("user", "ä")], b'[{"type": "function"}]', {"temperature": 1})
        assert (await asked.ask(request)).text == "ä 1 {'temperature': 1}"
        done = await asked.ask(name="python:my_models:later")
        assert (done.text, done.finish) == ("Let me look.", "tool_calls")
        assert [(call.name, json.loads(call.arguments)) for call in done.calls] == [("bash", {"command": "ls"})]
        done = await asked.ask(name="python:my_models:pieces")
        assert done.text == "one two"
        assert [json.loads(call.arguments)["command"] for call in done.calls] == ["a", "b"]
        asked.deltas.clear()
        assert (await asked.ask(name="python:my_models:stream")).text == "eins zwei"
        heard: list[Delta] = [delta for delta in asked.deltas if isinstance(delta, Text)]
        assert len(heard) == 2
        assert (done.usage.usd, done.scripted) == (None, False)


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("breaks", ModelRefused, "raised RuntimeError: no such luck"),
        ("number", ModelMalformed, "answered with 42, which is not text"),
        ("odd", ModelMalformed, "which is not text"),
        ("value", ModelNotFound, "is no function"),
        ("missing", ModelNotFound, "cannot be imported (AttributeError"),
        ("unlisted", ModelNotFound, "no function that may be a model named"),
    ],
)
async def test_what_goes_wrong_is_named(functions, name: str, kind: type[AgentOSError], sentence: str) -> None:  # type: ignore[no-untyped-def]
    async with functions() as asked:
        with pytest.raises(kind) as caught:
            await asked.ask(name=f"python:my_models:{name}")
    assert sentence in caught.value.message


async def test_the_line_that_raised_is_named(functions) -> None:  # type: ignore[no-untyped-def]
    async with functions() as asked:
        with pytest.raises(ModelRefused, match=r"my_models\.py:\d+\). Correct the function\."):
            await asked.ask(name="python:my_models:breaks")


async def test_it_sees_no_key_and_not_the_workspace(functions, workspace: Path) -> None:  # type: ignore[no-untyped-def]
    async with functions() as asked:
        seen = (await asked.ask(name="python:my_models:seen")).text
    assert "KEY" not in seen and "SECRET_OF_MINE" not in seen and "HOME" not in seen
    assert str(workspace) not in seen


async def test_a_planted_module_is_never_imported(functions, workspace: Path, own: Path) -> None:  # type: ignore[no-untyped-def]
    """Agents write the workspace; a name that the person lists must not lead into it, not even by their own path."""
    mark = workspace / "ran"
    (workspace / "planted.py").write_text(f"open({str(mark)!r}, 'w')\ndef answer(*given): return 'mine'\n")
    async with functions() as asked:
        with pytest.raises(ModelNotFound, match="cannot be imported"):
            await asked.ask(name="python:planted:answer")
        write(own, {"python_models": ["planted:answer"], "python_path": [str(workspace)]})
        with pytest.raises(ModelNotFound, match="lies in the workspace, where agents write"):
            await asked.ask(name="python:planted:answer")
    assert not mark.exists()


async def test_a_function_that_blocks_everything_is_ended(functions, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(process, "ANSWER_SECONDS", 0.5)
    async with functions(first_token=1, attempts=1) as asked:
        await asked.ask()
        before = asked.gateway.pid
        with pytest.raises(AgentOSError, match="said nothing for 1 s"):
            await asked.ask(name="python:my_models:blocks")
        async with asyncio.timeout(10):
            while asked.gateway.pid == before:
                await asyncio.sleep(0.05)
        assert (await asked.ask()).text
        assert asked.gateway.pid != before


async def test_a_function_that_hangs_is_cancelled_and_harms_nobody(functions) -> None:  # type: ignore[no-untyped-def]
    async with functions(idle=0.3, attempts=1) as asked:
        with pytest.raises(AgentOSError, match="limit `idle`"):
            await asked.ask(name="python:my_models:hangs")
        pid = asked.gateway.pid
        assert (await asked.ask()).text
        assert asked.gateway.pid == pid


async def test_a_function_that_ends_the_process_is_an_attempt_like_any_other(functions) -> None:  # type: ignore[no-untyped-def]
    async with functions(attempts=2) as asked:
        with pytest.raises(AgentOSError, match="No model answered after 2 attempts"):
            await asked.ask(name="python:my_models:leaves")
        assert [attempt.error[:18] for attempt in asked.attempts] == ["The gateway ended "] * 2
        assert (await asked.ask()).text
