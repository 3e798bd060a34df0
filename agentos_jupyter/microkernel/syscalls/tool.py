"""tool: calls begin and end here; what runs them is the unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from agentos_jupyter.errors import InvalidParams
from agentos_jupyter.microkernel import compute, dispatches
from agentos_jupyter.microkernel.sessions import Caller, Dispatch, Session
from agentos_jupyter.microkernel.shapes import CallInfo, EventInfo, Events, ObservationInfo
from agentos_jupyter.microkernel.syscalls.dispatch import find
from agentos_jupyter.microkernel.table import Empty, Shape, namespace
from agentos_jupyter.records import NewEvent

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class Begin(Shape):
    """A call that no model made: the person's own action in the agent's sandbox."""

    dispatch: str
    epoch: int
    name: str
    arguments: dict[str, Any]
    key: str = Field(min_length=8, max_length=100)


class Output(Shape):
    """What a running call has printed since the last time: whole lines."""

    dispatch: str
    epoch: int
    id: str
    text: str = Field(max_length=16_384)


class End(Shape):
    """The result of a call."""

    dispatch: str
    epoch: int
    id: str
    observation: ObservationInfo


class Stored(Shape):
    """The result as it was stored: secrets are gone, skills may have rewritten it."""

    text: str


class Which(Shape):
    dispatch: str


async def begin(kernel: Microkernel, caller: Caller, params: Begin) -> CallInfo:
    """Judge and record a call with the person as its actor."""
    session, _ = await find(kernel, params.dispatch)
    async with session.writing:
        dispatch = dispatches.held(session, params.dispatch, params.epoch, caller)
        return CallInfo.model_validate(
            await compute.begin_tool(kernel, session, dispatch, params.name, params.arguments, params.key)
        )


async def output(kernel: Microkernel, caller: Caller, params: Output) -> Empty:
    """Show those who follow the dispatch what a call prints while it runs, without its secrets; nothing is kept."""
    session, _ = await find(kernel, params.dispatch)
    dispatch = dispatches.held(session, params.dispatch, params.epoch, caller)
    if params.id in dispatch.pending:
        text = dispatch.printed.take(kernel.redactor.text, params.text)
        session.tell({"dispatch": dispatch.id, "kind": "output", "id": params.id, "text": text})
    return Empty()


async def end(kernel: Microkernel, caller: Caller, params: End) -> Stored:
    """Commit a result: the second durable point of a turn. A repeat returns what was committed.

    When the call was already given up as `unknown`, the result is kept as `tool.result.late`.
    """
    session, dispatch = await find(kernel, params.dispatch)
    async with session.writing:  # a repeat waits for the first
        return await _end(kernel, caller, session, dispatch, params)


async def _end(kernel: Microkernel, caller: Caller, session: Session, dispatch: Dispatch, params: End) -> Stored:
    stored = dispatch.results.get(params.id)
    if stored is not None and not (stored.data["status"] == "unknown" and params.epoch <= dispatch.epoch):
        return Stored(text=stored.data["text"])
    if stored is not None:
        return await _late(kernel, session, dispatch, params)
    dispatches.held(session, params.dispatch, params.epoch, caller)
    call = dispatch.pending.get(params.id)
    if call is None:
        raise InvalidParams(f"{params.id} is no call of {params.dispatch} that waits for a result.")
    data = {"id": params.id, "name": call.data["name"], **_stored(params.observation)}
    given = {
        "session": session.id,
        "dispatch": dispatch.id,
        "tool": call.data["name"],
        "args": call.data.get("arguments"),
    }
    receipts: list[dict[str, Any]] = []
    if call.data.get("recorded"):
        data["replayed"] = True  # it was transformed before it was recorded
    else:
        output, receipts = await kernel.hooks.transform("tool.after", given, {"text": data["text"]})
        data["text"] = str(output.get("text", data["text"]))
    [event] = await kernel.record(
        session, [NewEvent("tool.result", {**data, "receipts": receipts} if receipts else data, "system", dispatch.id)]
    )
    ended = {
        "session": session.id,
        "dispatch": dispatch.id,
        "id": params.id,
        "tool": call.data["name"],
        "status": data["status"],
    }
    kernel.hooks.observe("tool.ended", {**ended, "seconds": data.get("seconds", 0.0)})
    return Stored(text=event.data["text"])


async def _late(kernel: Microkernel, session: Session, dispatch: Dispatch, params: End) -> Stored:
    if params.id in dispatch.late:
        return Stored(text=kernel.redactor.text(params.observation.text))
    data = {"id": params.id, **_stored(params.observation)}
    [event] = await kernel.record(session, [NewEvent("tool.result.late", data, "system", dispatch.id)])
    return Stored(text=event.data["text"])


def _stored(observation: ObservationInfo) -> dict[str, Any]:
    return observation.model_dump(exclude_defaults=True) | {"status": observation.status, "text": observation.text}


async def list_(kernel: Microkernel, caller: Caller, params: Which) -> Events:
    """The calls and results of a dispatch, in order."""
    session, dispatch = await find(kernel, params.dispatch)
    events = await kernel.log.read(session.stream, dispatch.first - 1)
    kept = [each for each in events if each.dispatch == dispatch.id and each.type.startswith("tool.")]
    return Events(events=[EventInfo.of(each) for each in kept])


CALLS = namespace("tool", writes=(begin, output, end), reads=(list_,))
