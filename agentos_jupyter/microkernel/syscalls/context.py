"""context: what the model sees of a session."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.microkernel.context import Context
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.shapes import PAGE
from agentos_jupyter.microkernel.table import Shape, namespace

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


COUNT_SECONDS = 3.0
"""What one waits for a count before a guess will do."""


class Which(Shape):
    session: str


class Page(Shape):
    """A session, and how many of its messages are passed over."""

    session: str
    after: int = Field(0, ge=0)


class Messages(Shape):
    """Messages in the form the model gets them, an estimate of the tokens of all, and `next`, the `after` of the next page."""

    messages: list[dict[str, Any]]
    tokens: int
    base: int | None
    next: int | None


class Source(Shape):
    """Where one message came from: an event's version, or the text a skill gave."""

    event: int | None
    text: str | None
    role: str
    bytes: int


class Provenance(Shape):
    """`basis` is what stands behind `tokens`: the `provider`'s count of an earlier request, a `count` by the gateway
    (with the encoding cl100k_base), or a `guess` of four bytes for a token."""

    sources: list[Source]
    tokens: int
    basis: Literal["provider", "count", "guess"] = "guess"


async def get(kernel: Microkernel, caller: Caller, params: Page) -> Messages:
    """The context as it would be sent now, as much of it as a frame carries."""
    context = (await kernel.session(params.session)).context
    pieces = list(context.messages())[params.after :]
    sizes = itertools.accumulate(len(piece) for piece in pieces)
    page = [piece for piece, size in zip(pieces, sizes, strict=True) if size <= PAGE] or pieces[:1]
    return Messages(
        messages=[json.loads(piece) for piece in page],
        tokens=context.tokens,
        base=context.base,
        next=params.after + len(page) if len(page) < len(pieces) else None,
    )


async def explain(kernel: Microkernel, caller: Caller, params: Which) -> Provenance:
    """Which event or text each message came from, and its size."""
    context = (await kernel.session(params.session)).context
    sources = [
        Source(
            event=entry.ref if isinstance(entry.ref, int) else None,
            text=entry.ref.removeprefix("text:") if isinstance(entry.ref, str) else None,
            role=entry.role,
            bytes=len(entry.piece),
        )
        for entry in context.entries()
    ]
    tokens, basis = await _tokens(kernel, context)
    return Provenance(sources=sources, tokens=tokens, basis=basis)


async def _tokens(kernel: Microkernel, context: Context) -> tuple[int, Literal["provider", "count", "guess"]]:
    """A gateway is not started to count, but one that runs is asked; nothing is downloaded for it."""
    if context.corrected:
        return context.tokens, "provider"
    if kernel.gateway.pid is not None:
        with contextlib.suppress(AgentOSError, TimeoutError):
            async with asyncio.timeout(COUNT_SECONDS):
                counted = await kernel.gateway.call("count", {}, b"[" + b",".join(context.messages()) + b"]")
            return int(counted["tokens"]), "count"
    return context.tokens, "guess"


CALLS = namespace("context", reads=(get, explain))
