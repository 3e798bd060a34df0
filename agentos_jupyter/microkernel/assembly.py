"""Asking the context engine: at the start of a dispatch, and when the token budget is crossed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentos_jupyter.errors import ContextTooLong, HookFailed
from agentos_jupyter.microkernel.context import Plan, parse_plan
from agentos_jupyter.microkernel.sessions import Dispatch, Session
from agentos_jupyter.records import NewEvent

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel

INSTRUCTION_FILES = ("AGENTS.md", "CLAUDE.md")
MAX_INSTRUCTIONS = 64 * 1024


async def assemble(kernel: Microkernel, session: Session, dispatch: Dispatch, reason: str) -> None:
    """Ask for a plan and carry it out. The outline of the history travels only when the engine must start afresh."""
    window = kernel.models.resolve(dispatch.chosen)[0].window
    context = session.context
    fresh = context.base is None or reason == "over"
    given = {
        "session": session.id,
        "dispatch": dispatch.id,
        "reason": reason,
        "base": context.base,
        "outline": context.outline() if fresh else [],
        "texts": context.texts(),
        "system": kernel.agent(session.agent).system or "",
        "files": await asyncio.to_thread(instructions, Path(session.root)),
        "tokens": context.tokens,
        "budget": budget(dispatch, window),
    }
    try:
        answer = await kernel.hooks.assemble(kernel.engine, given)
    except TimeoutError:
        raise HookFailed(
            f"The context engine {kernel.engine} did not answer session.assemble in time: see its log in the state folder."
        ) from None
    plan = _plan_in(answer, kernel.engine)
    if plan is None:
        return
    context.check(plan)
    await kernel.record(
        session,
        [
            NewEvent(
                "context.planned", {"plan": _compact(plan), "reason": reason}, f"skill:{kernel.engine}", dispatch.id
            )
        ],
    )


async def fit(kernel: Microkernel, session: Session, dispatch: Dispatch, window: int) -> None:
    """Make the context fit the model's window: ask the engine once, then raise `ContextTooLong`."""
    limit = budget(dispatch, window)
    if session.context.tokens <= limit:
        return
    await assemble(kernel, session, dispatch, "over")
    if session.context.tokens > limit:
        raise ContextTooLong(
            f"The context of session {session.name} is about {session.context.tokens} tokens and the model takes {limit}: "
            "start a new session with `%session new`, or choose a model with a larger window."
        )


def budget(dispatch: Dispatch, window: int) -> int:
    """Tokens the context may have: the window less what is kept for the answer."""
    return max(0, window - int(dispatch.limits["answer"]))


def instructions(root: Path) -> list[dict[str, Any]]:
    """The root's instruction files: name, digest, text (at most 64 kB); links are not followed."""
    found = []
    for name in INSTRUCTION_FILES:
        try:
            descriptor = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            continue
        with open(descriptor, "rb") as file:
            raw = file.read(MAX_INSTRUCTIONS)
        found.append(
            {"name": name, "digest": hashlib.sha256(raw).hexdigest()[:12], "text": raw.decode("utf-8", "replace")}
        )
    return found


def _plan_in(answer: Any, engine: str) -> Plan | None:
    """The plan in the engine's answer; `None` where the context stays as it is."""
    value = answer.get("plan") if isinstance(answer, dict) else answer
    return None if value is None else parse_plan(value, engine)


def _compact(plan: Plan) -> dict[str, Any]:
    return plan.model_dump(by_alias=True, exclude_defaults=True)
