"""A real gateway: the child process with the real litellm, asked through `Models` about local servers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter import config
from agentos_jupyter.limits import Limits
from agentos_jupyter.microkernel.gateway.process import Gateway
from agentos_jupyter.models import Attempt, Completion, Delta, Models, Request, complete
from tests.models.conftest import ASK, KEY, QUICK
from tests.servers.openai_server import FakeOpenAI

PATIENT = {**QUICK, "first_token": 20}
"""The first call of a gateway imports litellm."""


@dataclass
class Asked:
    """A server, a gateway, and what was heard while a model was asked."""

    server: FakeOpenAI
    gateway: Gateway
    models: Models
    limits: Limits
    name: str
    deltas: list[Delta] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    async def ask(self, request: Request = ASK, name: str | None = None) -> Completion:
        chain = self.models.resolve(name or self.name)
        return await complete(chain, request, self.limits, self.deltas.append, self.note)

    async def note(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)


Through = Callable[..., AbstractAsyncContextManager[Asked]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the gateway keeps its log."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def through(workspace: Path, state: Path) -> Through:
    """`async with through(server, name, yaml="…", limit=…) as asked: await asked.ask()`."""

    @asynccontextmanager
    async def opened(
        server: FakeOpenAI, name: str, environ: dict[str, str] | None = None, yaml: str = "", **limits: Any
    ) -> AsyncIterator[Asked]:
        (workspace / "agentos.yaml").write_text(yaml)
        provider = name.removeprefix("litellm:").partition("/")[0].upper()
        async with server:
            base = {f"{provider}_BASE_URL": server.base_url, f"{provider}_API_KEY": KEY, "AGENTOS_TRUST": "1"}
            known = base if environ is None else {"AGENTOS_TRUST": "1", **environ}
            settings = config.load(workspace, known)
            chosen = config.limits(settings, {**PATIENT, **limits})
            gateway = Gateway(state, workspace, {"PATH": os.environ["PATH"], "SECRET_OF_MINE": "never", **known})
            models = Models(settings, known, chosen, channel=gateway)
            try:
                yield Asked(server, gateway, models, chosen, name)
            finally:
                await models.aclose()
                await gateway.aclose()

    return opened
