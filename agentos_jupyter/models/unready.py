"""A model of a chain that cannot be asked: it fails by its own name, so the log shows why the next one answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.models.deltas import Delta, Request


class UnreadyModel:
    scripted = False

    def __init__(self, name: str, error: AgentOSError, window: int) -> None:
        self.name = name
        self.window = window
        self._error = error

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        raise self._error
        yield  # makes this a generator

    async def aclose(self) -> None:
        """Nothing to close."""
