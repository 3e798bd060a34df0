"""A model at a local server, and limits short enough to wait for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter import config
from agentos_jupyter.limits import Limits
from agentos_jupyter.models import Attempt, Completion, Delta, Models, Request, complete
from tests.servers.openai_server import Behaviour, FakeOpenAI

KEY = "sk-test-0123456789abcdef"
QUICK = {
    "connect": 2,
    "first_token": 1.0,
    "idle": 0.3,
    "backoff": 0.01,
    "backoff_max": 0.05,
    "retry_after": 1,
    "attempts": 3,
    "reply": "200k",
    "calls": 8,
}


def message(role: str, content: Any, **more: Any) -> bytes:
    return json.dumps({"role": role, "content": content, **more}).encode()


ASK = Request([message("user", "hello")])


@dataclass
class Asked:
    """A server, a model of it, and what was heard while it was asked."""

    server: FakeOpenAI
    models: Models
    limits: Limits
    environ: dict[str, str]
    deltas: list[Delta] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    async def ask(self, request: Request = ASK, name: str = "openai/local") -> Completion:
        return await complete(self.models.resolve(name), request, self.limits, self.deltas.append, self.note)

    async def note(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)


Serve = Callable[..., AbstractAsyncContextManager[Asked]]


@pytest.fixture
def serve(workspace: Path) -> Serve:
    """`async with serve(behaviour, …, attempts=2) as asked: await asked.ask()`."""

    @asynccontextmanager
    async def opened(*script: Behaviour, **limits: Any) -> AsyncIterator[Asked]:
        async with FakeOpenAI(list(script)) as server:
            settings = config.load(workspace, {})
            environ = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY}
            chosen = config.limits(settings, {**QUICK, **limits})
            models = Models(settings, environ, chosen)
            try:
                yield Asked(server, models, chosen, environ)
            finally:
                await models.aclose()

    return opened
