"""context: what the model sees of a session."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.table import Shape, namespace

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class Which(Shape):
    session: str


class Messages(Shape):
    """The messages in the form the model gets them, and an estimate of their tokens."""

    messages: list[dict[str, Any]]
    tokens: int
    base: int | None


class Source(Shape):
    """Where one message came from: an event's version, or the text a skill gave."""

    event: int | None
    text: str | None
    role: str
    bytes: int


class Provenance(Shape):
    sources: list[Source]
    tokens: int


async def get(kernel: Microkernel, caller: Caller, params: Which) -> Messages:
    """The context as it would be sent now."""
    context = (await kernel.session(params.session)).context
    return Messages(
        messages=[json.loads(piece) for piece in context.messages()], tokens=context.tokens, base=context.base
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
    return Provenance(sources=sources, tokens=context.tokens)


CALLS = namespace("context", reads=(get, explain))
