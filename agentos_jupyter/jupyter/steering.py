"""Words for a dispatch at work: `%steer` in another notebook, `agentos steer` in a terminal, the field in its cell."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Protocol

from agentos_jupyter.errors import CommandError, DispatchEnded
from agentos_jupyter.jupyter.table import COMMANDS

if TYPE_CHECKING:
    from agentos_jupyter.jupyter.runner import CellRun


class Caller(Protocol):
    """A connection to the daemon."""

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Any: ...


async def steer(run: CellRun, args: str) -> None:
    """`%steer [ID] TEXT`."""
    first, _, rest = args.strip().partition(" ")
    ref, text = (first, rest.strip()) if first.startswith("d-") else ("", args.strip())
    if not text:
        raise CommandError(f"%steer is written: {' or '.join(COMMANDS['steer'].usage)}.")
    run.screen.note(await say(run.desk, ref, text))


async def say(link: Caller, ref: str, text: str) -> str:
    """Put the words before a dispatch (its id, the beginning of it, a session, or the only one at work); what will happen."""
    if ref.startswith("d-") or not ref:
        found = await link.call("dispatch.get", {"dispatch": ref}) if ref else await at_work(link)
        ref = found["session"]
    put = await link.call("session.steer", {"session": ref, "text": text, "key": uuid.uuid4().hex})
    if put["held"]:
        return f"{put['dispatch']} hears it before its next turn."
    return f"Nobody runs {put['dispatch']} now: it hears this when `%dispatch run {put['dispatch']}` continues it."


async def at_work(link: Caller) -> dict[str, Any]:
    """The only dispatch at work in the workspace."""
    listed = (await link.call("dispatch.list", {"limit": 100}))["dispatches"]
    running = [each for each in listed if each["status"] == "running" and each["kind"] == "prompt"]
    if len(running) == 1:
        only: dict[str, Any] = running[0]
        return only
    if not running:
        raise DispatchEnded("Nothing is at work in this workspace: write it as a prompt.")
    raise CommandError(
        f"{len(running)} dispatches are at work ({', '.join(each['id'] for each in running[:5])}): write which one."
    )
