"""The whole way: a dispatch in the microkernel, a real daemon, and the terminal."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.cli.stop import stop
from agentos_jupyter.microkernel.inprocess import Workspace, open_workspace
from agentos_jupyter.rpc.sync import SyncLink
from tests.bench.common import children, server
from tests.gateway.test_life import gone
from tests.servers import anthropic_server as anthropic
from tests.servers.anthropic_server import FakeAnthropic

pytestmark = pytest.mark.timeout(120)
KEY = "sk-ant-test-0123456789abcdef"
YAML = {
    "model": "litellm:anthropic/claude-x",
    "providers": {"anthropic": {"models": {"claude-x": {"price_input": 3, "price_output": 15, "price_cached": 0.3}}}},
    "limits": {"backoff": "5ms"},
}


@pytest.fixture
def environ(workspace: Path, configure: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    configure(**YAML)
    monkeypatch.setenv("AGENTOS_TRUST", "1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    yield


def prompt(kernel: Workspace) -> tuple[str, list[dict[str, Any]]]:
    """A dispatch in which each call is answered; its session and its replies."""
    session = kernel.call("session.create", {"key": secrets.token_hex(8)})["id"]
    began = kernel.call("dispatch.begin", {"session": session, "prompt": "hi", "key": secrets.token_hex(8)})
    handle = {"dispatch": began["dispatch"], "epoch": began["epoch"]}
    replies = []
    for turn in (1, 2):
        replies.append(kernel.call("compute.complete", {**handle, "turn": turn}))
        for call in replies[-1]["tool_calls"]:
            observation = {"status": "ok", "text": "a.txt"}
            kernel.call("tool.end", {**handle, "id": call["id"], "observation": observation})
    kernel.call("dispatch.end", {**handle, "status": "ok"})
    return str(session), replies


async def test_a_dispatch_through_litellm(environ: None, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeAnthropic([anthropic.call("ls"), anthropic.say("One file.")]) as asked:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", asked.base_url)
        kernel = await asyncio.to_thread(open_workspace, workspace)
        try:
            session, (first, second) = await asyncio.to_thread(prompt, kernel)
            explained = await asyncio.to_thread(kernel.call, "context.explain", {"session": session})
            model = await asyncio.to_thread(kernel.call, "model.resolve", {})
        finally:
            await asyncio.to_thread(kernel.close)
    assert [(call["name"], call["arguments"]) for call in first["tool_calls"]] == [("bash", {"command": "ls"})]
    assert (second["text"], second["model"]) == ("One file.", "litellm:anthropic/claude-x")
    assert second["usage"]["cached"] == 100
    assert second["usage"]["usd"] == pytest.approx((50 * 3 + 100 * 0.3 + 7 * 15) / 1e6)
    assert explained["basis"] == "provider"
    assert model["chain"][0]["price_input"] == 3
    sent = asked.requests[1].body["messages"]
    assert sent[-1]["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "call-1",
        "content": [{"type": "text", "text": "a.txt", "cache_control": {"type": "ephemeral"}}],
    }
    log = b"".join(path.read_bytes() for path in (workspace / ".agentos").rglob("*") if path.is_file())
    assert KEY.encode() not in log


@pytest.fixture
def agentos(workspace: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*argv: str, text: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agentos_jupyter.cli", *argv]
        environ = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), **more}
        return subprocess.run(
            command, cwd=workspace, env=environ, input=text, capture_output=True, text=True, timeout=60
        )

    return run


def test_the_terminal_asks_a_model_of_litellm(environ: None, agentos: Any, tmp_path: Path) -> None:
    own = tmp_path / "agentos" / "config.yaml"
    own.parent.mkdir()
    own.write_text("python_models: [json:dumps]\n")
    with server() as asked:
        base = asked.base_url("live", 1).removesuffix("/v1")
        live = agentos("doctor", "--live", ANTHROPIC_BASE_URL=base).stdout
    assert "litellm:anthropic/claude-x answered in" in live, live
    assert "python:json:dumps raised TypeError" in live, "a function that may be a model is asked, too"


def test_keys_of_litellms_providers_are_kept_like_any_other(agentos: Any, workspace: Path) -> None:
    assert agentos("key", "set", "cohere_chat", text="co-0123456789abcdef0123456789\n").returncode == 0
    assert agentos("key", "set", "bedrock", text="bedrock-0123456789abcdef\n").returncode == 0
    listed = agentos("key", "list").stdout
    assert "COHERE_API_KEY" in listed and "AWS_BEARER_TOKEN_BEDROCK" in listed
    assert "set VERTEXAI_PROJECT" in agentos("key", "set", "vertex_ai", text="x\n").stderr
    (workspace / "agentos.yaml").write_text("model: cohere_chat/command-r\n")
    assert "cohere_chat/command-r" in agentos("doctor").stdout
    tested = agentos("key", "test")
    assert "Not asked, because litellm lists no models of them: bedrock, cohere" in tested.stdout, tested.stdout
    assert tested.returncode == 0
    named = agentos("key", "test", "cohere_chat")
    assert named.returncode == 1 and "`agentos doctor --live` asks those configured" in named.stdout


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_gateway_ends_with_the_daemon(environ: None, workspace: Path, end: str) -> None:
    with server() as asked, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_BASE_URL", asked.base_url("live", 9).removesuffix("/v1"))
        with SyncLink(workspace) as link:
            link.call("model.probe", {})
            daemon = link.info["pid"]
        [gateway] = [pid for pid in children(daemon) if b"gateway.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if end == "stop":
            stop(workspace)
        else:
            os.kill(daemon, signal.SIGKILL)
        assert gone(gateway)


def test_a_count_is_exact_and_asks_nobody() -> None:
    messages = [{"role": "user", "content": "Hello world, " * 100}, {"role": "assistant", "content": ""}]
    code = (
        "import sys; seen = []\n"
        "sys.addaudithook(lambda event, given: seen.append(event) if event.startswith('socket.') else None)\n"
        "from agentos_jupyter.microkernel.gateway import counting\n"
        f"print(counting.count({json.dumps(messages).encode()!r}), seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "309 []\n", "100 times three tokens, a last space, and four for each of two messages"
