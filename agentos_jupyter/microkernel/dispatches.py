"""The life of a dispatch: begin, hold, end; what is lost is said, and nothing is written by a stale unit."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentos_jupyter.config import AgentSettings
from agentos_jupyter.errors import (
    AgentOSError,
    BudgetExceeded,
    DispatchNotFound,
    HookRejected,
    InternalError,
    InvalidParams,
    LeaseExpired,
    SessionBusy,
)
from agentos_jupyter.microkernel import answers, assembly, ids, images
from agentos_jupyter.microkernel.sessions import Caller, Dispatch, Lease, Session, unfinished
from agentos_jupyter.records import NewEvent, Reject, Wait

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel
    from agentos_jupyter.microkernel.syscalls.dispatch import Begin, End


async def begin(kernel: Microkernel, caller: Caller, session: Session, params: Begin) -> Dispatch:
    """Start a dispatch, or begin an unfinished one again with a new epoch. Raises `SessionBusy`."""
    async with session.writing:
        known = session.begun.get(params.key)
        if known is not None:
            return await _begun(kernel, caller, session, session.dispatches[known])
        events = await _settle(session, params.dispatch)
        dispatch_id = params.dispatch or ids.dispatch_id(session.id, len(session.dispatches) + 1)
        started = await _started(kernel, session, params, dispatch_id)
        events += [NewEvent("dispatch.started", started, "person", dispatch_id)]
        if params.kind == "prompt" and params.dispatch is None:
            events += [NewEvent("user.message", _message(params, started["prompt"]), "person", dispatch_id)]
        session.lease = Lease(caller)
        try:
            await kernel.record(session, events)
            return await _ready(kernel, session)
        except asyncio.CancelledError:
            kernel.keep(session)  # its client may not have the handle: it asks again, or the dispatch is lost
            raise


async def _begun(kernel: Microkernel, caller: Caller, session: Session, dispatch: Dispatch) -> Dispatch:
    """The dispatch that a repeated begin made; its first answer may have been lost before the context was planned."""
    if session.running is not dispatch:
        return dispatch
    session.lease = session.lease or Lease(caller)
    session.lease.hold(caller)
    return await _ready(kernel, session)


async def _ready(kernel: Microkernel, session: Session) -> Dispatch:
    assert session.current is not None
    if session.current.kind == "prompt":
        await _assemble(kernel, session, session.current)
    return session.current


async def _assemble(kernel: Microkernel, session: Session, dispatch: Dispatch) -> None:
    """Ask the context engine; a dispatch that cannot have a context ends here, so that the session is free again."""
    try:
        await assembly.assemble(kernel, session, dispatch, "start")
    except Exception as error:  # a defect, too, must not leave the session held
        code = error.code if isinstance(error, AgentOSError) else InternalError.code
        told = {"code": code, "message": str(error)}
        await kernel.record(session, [_ended(dispatch, "failed", error=told)])
        _release(session)
        raise


async def _settle(session: Session, continued: str | None) -> list[NewEvent]:
    """What must be written of the previous dispatch first; raises `SessionBusy` when somebody still holds it."""
    running = session.running
    if continued is not None:
        dispatch = session.dispatches.get(continued)
        if dispatch is None or dispatch is not session.current:
            raise DispatchNotFound(
                f"{continued} is not the last dispatch of session {session.id}: only that one can be continued."
            )
        if dispatch.status not in ("running", "lost", "interrupted", "limit", "failed") or dispatch.kind != "prompt":
            raise DispatchNotFound(f"{continued} has ended ({dispatch.status}): nothing is left to continue.")
    if running is None:
        return []
    if session.lease is not None and session.lease.holder is not None:
        raise SessionBusy(
            f"The session {session.name} ({session.id}) is at work for {session.holder()}, until its dispatch {running.id} ends: "
            "wait, interrupt it, or open another session with `%session new`.",
            session=session.id,
            dispatch=running.id,
        )
    if session.lease is not None and session.lease.until is not None and continued is None:
        raise SessionBusy(
            f"The session {session.name} ({session.id}) has an unfinished dispatch {running.id}, held by {session.holder()}: "
            f"wait, or take it over with `%dispatch run {running.id}`.",
            session=session.id,
            dispatch=running.id,
        )
    if session.lease is not None:
        await session.lease.quiet()
    events = unfinished(running)
    if continued is None:
        events.append(_ended(running, "lost"))
    return events


async def _started(kernel: Microkernel, session: Session, params: Begin, dispatch_id: str) -> dict[str, Any]:
    """The data of `dispatch.started`; everything that can be refused is refused here, before anything is written."""
    prompt = await _prompt(kernel, params)
    previous = session.dispatches.get(dispatch_id)
    agent = kernel.agent(session.agent)
    limits = kernel.limits(agent.limits, session.limits, params.limits)
    model, schema = params.model or session.model or agent.model, params.answer_schema
    if previous is not None:
        prompt, model = previous.prompt, params.model or previous.chosen
        schema = dict(previous.schema) if previous.schema is not None else None
    if schema is not None:
        answers.check(schema)
    images.check(kernel, params.images)
    if params.kind == "prompt":
        kernel.models.resolve(model)
    given = {"session": session.id, "kind": params.kind, "client": params.client.model_dump()}
    judged = await kernel.hooks.judge("dispatch.before", given, {"prompt": prompt})
    if judged.stopped is not None:
        raise HookRejected(f"The prompt was not accepted: {_reason(judged.stopped)}")
    tools = [tool.model_dump() for tool in params.tools]
    return {
        "kind": params.kind,
        "agent": agent.name or "agent",
        "prompt": judged.output["prompt"],
        "client": params.client.model_dump(exclude_none=True),
        "model": model,
        "tools": tools,
        "limits": asdict(limits),
        "harness": harness(kernel, agent, model, tools, asdict(limits)),
        "epoch": previous.epoch + 1 if previous else 1,
        "key": params.key,
        "receipts": judged.receipts,
        **({"schema": schema} if schema is not None else {}),
        **({"resumed": True} if previous else {}),
    }


def _message(params: Begin, prompt: str) -> dict[str, Any]:
    """The prompt as it enters the history, with the form of its answer and its images."""
    message: dict[str, Any] = {"text": prompt, "from": "prompt"}
    if params.answer_schema is not None:
        message["form"] = answers.request(params.answer_schema)
    if params.images:
        message["images"] = [image.model_dump() for image in params.images]
    return message


def _reason(stopped: Reject | Wait) -> str:
    return (
        stopped.reason if isinstance(stopped, Reject) else f"{stopped.approval} (nobody can be asked in this version)"
    )


async def _prompt(kernel: Microkernel, params: Begin) -> str:
    text = params.prompt
    if params.prompt_ref is not None:
        text = (await kernel.log.content(params.prompt_ref)).decode("utf-8", "replace")
    limit = kernel.limits(params.limits).prompt
    size = len(text.encode("utf-8", "replace"))
    if size > limit:
        raise BudgetExceeded(
            f"The prompt is {size} bytes long and limits.prompt allows {limit}: "
            "put the text into a file of the workspace and name the file, or raise the limit in agentos.yaml."
        )
    return text


def harness(
    kernel: Microkernel,
    agent: AgentSettings,
    model: str | None,
    tools: Sequence[dict[str, Any]],
    limits: dict[str, Any],
) -> str:
    """One digest over what decides how an agent behaves: skills, engine, its own text, models, tools, limits, walls."""
    settings = kernel.settings
    parts = {
        "agent": agent.model_dump(),
        "models": kernel.models.choice(model).names,
        "protected": settings.protected,
        "skills": {skill.name: skill.digest for skill in kernel.skills.values()},
        "context": kernel.engine,
        "tools": list(tools),
        "limits": limits,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def held(session: Session, dispatch_id: str, epoch: int, caller: Caller) -> Dispatch:
    """The running dispatch that a handle (id and epoch) gives the right to write for. Raises `LeaseExpired`."""
    dispatch = session.dispatches.get(dispatch_id)
    if dispatch is None:
        raise DispatchNotFound(f"No dispatch {dispatch_id} in session {session.id}: `%runs` lists them.")
    if dispatch is not session.running or epoch != dispatch.epoch or session.lease is None:
        raise LeaseExpired(
            f"The dispatch {dispatch_id} is no longer this unit's (it is {dispatch.status}, epoch {dispatch.epoch}): "
            f"continue it with `%dispatch run {dispatch_id}`, or start anew."
        )
    session.lease.hold(caller)
    return dispatch


def _ended(dispatch: Dispatch, status: str, **more: Any) -> NewEvent:
    seconds = round(dispatch.seconds + dispatch.elapsed, 3)
    data = {
        "status": status,
        "answer": dispatch.answer,
        "turns": dispatch.turns,
        "calls": dispatch.calls,
        "seconds": seconds,
    }
    return NewEvent("dispatch.ended", {**data, "usage": dispatch.usage.model_dump(), **more}, "system", dispatch.id)


async def end(kernel: Microkernel, session: Session, dispatch: Dispatch, params: End) -> None:
    """Write the end, with results for the calls that never ran; release the lease."""
    if session.lease is not None:
        await session.lease.quiet()
    events = unfinished(dispatch, started_running=False)
    more = {
        "changed": params.changed.model_dump() if params.changed else None,
        "error": params.error.model_dump() if params.error else None,
    }
    if params.status == "interrupted":
        events.append(NewEvent("session.interrupted", {"by": "person"}, "person", dispatch.id))
    events.append(_ended(dispatch, params.status, **{k: v for k, v in more.items() if v is not None}))
    await kernel.record(session, events)
    _release(session)
    _observe_end(kernel, session, dispatch)


def _observe_end(kernel: Microkernel, session: Session, dispatch: Dispatch) -> None:
    given = {"session": session.id, "dispatch": dispatch.id, "status": dispatch.status}
    if dispatch.status == "interrupted":
        kernel.hooks.observe("session.interrupted", given)
    kernel.hooks.observe(
        "dispatch.after", {**given, "turns": dispatch.turns, "calls": dispatch.calls, "seconds": dispatch.seconds}
    )


def _release(session: Session) -> None:
    lease, session.lease = session.lease, None
    if lease is not None and lease.expiry is not None:
        lease.expiry.cancel()


async def lose(kernel: Microkernel, session: Session, lease: Lease) -> None:
    """End a dispatch whose unit is gone; does nothing when somebody took it back meanwhile."""
    async with session.writing:
        dispatch = session.running
        if dispatch is None or session.lease is not lease or lease.holder is not None:
            return
        await lease.quiet()
        _release(session)
        await kernel.record(session, [*unfinished(dispatch), _ended(dispatch, "lost")])
        _observe_end(kernel, session, dispatch)


async def interrupt(kernel: Microkernel, session: Session, by: Caller) -> Dispatch | None:
    """Stop what the session does now: cancel the model call, tell the unit; without a unit, end the dispatch here."""
    dispatch = session.running
    if dispatch is None or session.lease is None:
        return dispatch
    holder = session.lease.holder
    if holder is None:
        async with session.writing:
            if session.running is dispatch and session.lease is not None:
                await session.lease.quiet()
                _release(session)
                stop = NewEvent("session.interrupted", {"by": by.name or by.identity}, "person", dispatch.id)
                await kernel.record(session, [*unfinished(dispatch), stop, _ended(dispatch, "interrupted")])
                _observe_end(kernel, session, dispatch)
        return dispatch
    if session.lease.computing is not None and holder is not by:
        session.lease.computing.cancel()
    holder.tell("unit.interrupt", {"dispatch": dispatch.id, "by": by.name or by.identity})
    return dispatch


def check_turn(dispatch: Dispatch, turn: int) -> None:
    """Raise unless `turn` is the next one and may still be made."""
    if turn != dispatch.turns + 1:
        raise InvalidParams(f"The next turn of {dispatch.id} is {dispatch.turns + 1}, not {turn}.")
    if dispatch.pending:
        raise InvalidParams(
            f"These calls have no result yet: {', '.join(dispatch.pending)}; end them before the next turn."
        )
    limit = dispatch.limits["turns"]
    if turn > limit:
        raise BudgetExceeded(
            f"The dispatch used its {limit} turns (limits.turns): say `go on` for as many again, or raise it in agentos.yaml."
        )
    _check_spend(dispatch)
    wall = dispatch.limits["wall"]
    if dispatch.elapsed > wall:
        raise BudgetExceeded(
            f"The dispatch used its {wall:g} seconds (limits.wall): say `go on` for as many again, or raise it in agentos.yaml."
        )


def _check_spend(dispatch: Dispatch) -> None:
    """Raise when the dispatch has used its tokens or its money; what it used before it was begun again counts, too."""
    usage, limits = dispatch.usage, dispatch.limits
    cure = "say `go on` for as much again, or raise it in agentos.yaml or with %budget."
    used = usage.input + usage.output
    if used >= limits.get("tokens", math.inf):
        raise BudgetExceeded(f"The dispatch used {used} tokens (limits.tokens is {limits['tokens']}): {cure}")
    usd = usage.usd or 0.0
    if usd >= limits.get("usd", math.inf):
        raise BudgetExceeded(f"The dispatch cost ${usd:.4f} (limits.usd is {limits['usd']:g}): {cure}")
