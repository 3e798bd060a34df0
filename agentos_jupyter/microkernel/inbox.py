"""What is said to a session from elsewhere: it waits in `inbox/<session>` and enters the history between two turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentos_jupyter.errors import DispatchEnded
from agentos_jupyter.microkernel import ids
from agentos_jupyter.microkernel.sessions import Caller, Dispatch, Session
from agentos_jupyter.records import Event, NewEvent

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


async def steer(kernel: Microkernel, session: Session, caller: Caller, text: str, key: str) -> Event:
    """Put a person's words into the inbox of a session at work; a repeat with the same key returns what was put.

    Raises `DispatchEnded` when nothing runs that could hear them.
    """
    async with session.hearing:
        stream = ids.inbox_of(session.id)
        for event in await kernel.log.read(stream, session.heard):
            if event.data.get("key") == key:
                return event
        dispatch = session.running
        if dispatch is None or dispatch.kind != "prompt" or dispatch.answered:
            raise DispatchEnded(_cure(session))
        said = {"text": kernel.redactor.text(text), "from": caller.name or caller.identity, "key": key}
        [event] = await kernel.log.append(stream, "any", [NewEvent("inbox.message", said, "person", dispatch.id)])
        return event


def _cure(session: Session) -> str:
    """Why nothing hears it, and what to do instead."""
    last, where = session.current, f"session {session.name} ({session.id})"
    if last is not None and last.kind == "prompt" and last.status == "lost":
        return (
            f"Nothing is at work in {where} that could hear this: {last.id} was lost with the program that ran it. "
            f"Continue it with `%dispatch run {last.id}` and say it then, or write it as a prompt."
        )
    return f"Nothing is at work in {where} that could hear this: write it as a prompt."


def unheard(kernel: Microkernel, session: Session) -> bool:
    """Whether something waits in the session's inbox."""
    return kernel.log.head(ids.inbox_of(session.id)) > session.heard


async def hear(kernel: Microkernel, session: Session, dispatch: Dispatch) -> list[str]:
    """Let what waits in the inbox enter the history, in order; the words that entered."""
    if not unheard(kernel, session):
        return []
    said = await kernel.log.read(ids.inbox_of(session.id), session.heard)
    await kernel.record(
        session,
        [
            NewEvent(
                "user.message",
                {"text": event.data["text"], "from": "steer", "inbox": event.version},
                event.actor,
                dispatch.id,
            )
            for event in said
        ],
    )
    return [str(event.data["text"]) for event in said]
