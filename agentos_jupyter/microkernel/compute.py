"""One model call, judged and committed: the first of a turn's two durable points.

`complete` asks the model (retries and fallback included), fires `tool.before` for each call of the reply in
order, and appends the message, its calls and their verdicts in ONE commit. A repeat returns what was committed.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentos_jupyter.errors import AgentOSError, AnswerInvalid, InvalidParams, ModelError
from agentos_jupyter.microkernel import answers, assembly, dispatches, images, inbox
from agentos_jupyter.microkernel.live import Live
from agentos_jupyter.microkernel.sessions import Dispatch, Session
from agentos_jupyter.microkernel.table import Sink
from agentos_jupyter.models import Attempt, Completion, Delta, Model, Reasoning, Request, Reset, Text, Waiting, complete
from agentos_jupyter.models.human import answered
from agentos_jupyter.records import Event, NewEvent, Reject, Wait
from agentos_jupyter.redact import Redactor

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel

MAX_DEPTH = 32
"""Nesting of a call's arguments: they travel in frames and stand in histories, each of which adds levels."""


async def reply_to(
    kernel: Microkernel, session: Session, dispatch: Dispatch, turn: int, sink: Sink, answer: str | None = None
) -> dict[str, Any]:
    """The reply of this turn: asked of the model, or read from the log when it was committed before.

    `answer` is what a person wrote, where a person is the model.
    """
    lease = session.lease
    assert lease is not None
    if turn == dispatch.turns + 1:
        await lease.quiet()  # the same turn, asked again by a client that lost its connection
    if dispatch.reply is not None and (turn == dispatch.turns or _answered(dispatch, turn)):
        return await _committed(kernel, session, dispatch)
    dispatches.check_turn(dispatch, turn)
    work = asyncio.get_running_loop().create_task(_complete(kernel, session, dispatch, turn, sink, answer))
    lease.computing = work
    try:
        return await work
    finally:
        if lease.computing is work:
            lease.computing = None
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


def _answered(dispatch: Dispatch, turn: int) -> bool:
    """Whether the last reply was final: a unit that goes on with the dispatch is given it again."""
    return turn == dispatch.turns + 1 and dispatch.answered


async def _complete(
    kernel: Microkernel, session: Session, dispatch: Dispatch, turn: int, sink: Sink, answer: str | None
) -> dict[str, Any]:
    chain = kernel.models.resolve(dispatch.chosen)
    for words in await inbox.hear(kernel, session, dispatch):
        sink.send({"kind": "heard", "text": words})
    await assembly.fit(kernel, session, dispatch, chain[0].window)
    attempts: list[NewEvent] = []
    started = time.perf_counter()
    try:
        completion = await _ask(kernel, session, dispatch, turn, chain, sink, attempts, answer)
    except (AgentOSError, asyncio.CancelledError):
        await kernel.record(session, attempts)
        raise
    calls, events = await judged(kernel, session, dispatch, turn, completion)
    message = _message(turn, completion, calls, round(time.perf_counter() - started, 4))
    async with session.hearing:  # what is said until here is heard by a further turn; what comes later is refused
        mistakes = _mistakes(dispatch, completion.text) if not calls else []
        if mistakes:
            told = {"text": answers.correction(mistakes), "from": "schema"}
            events.append(NewEvent("user.message", told, "system", dispatch.id))
        if mistakes or (not calls and inbox.unheard(kernel, session)):
            message["more"] = True
        spoken = NewEvent("assistant.message", message, f"model:{completion.model}", dispatch.id)
        stored = await kernel.record(session, [*attempts, spoken, *events])
    if mistakes:
        sink.send({"kind": "note", "text": told["text"]})
        _check_corrections(dispatch, mistakes)
    kernel.hooks.observe(
        "turn.after",
        {
            "session": session.id,
            "dispatch": dispatch.id,
            "turn": turn,
            "usage": message["usage"],
            "model": completion.model,
        },
    )
    return _reply(dict(stored[len(attempts)].data), calls)


def _mistakes(dispatch: Dispatch, text: str) -> list[str]:
    """What is wrong with a final answer; nothing where no form was asked for."""
    return [] if dispatch.schema is None else answers.mistakes(dispatch.schema, text)


def _check_corrections(dispatch: Dispatch, mistakes: Sequence[str]) -> None:
    allowed = dispatch.limits["corrections"]
    if dispatch.corrections > allowed:
        raise AnswerInvalid(
            f"The model answered {dispatch.corrections} times without the form that was asked for; the last time: "
            f"{mistakes[0].rstrip('.')}. Say `go on` to let it try again (limits.corrections is {allowed}), or ask another model."
        )


async def _ask(
    kernel: Microkernel,
    session: Session,
    dispatch: Dispatch,
    turn: int,
    chain: Sequence[Model],
    sink: Sink,
    attempts: list[NewEvent],
    answer: str | None,
) -> Completion:
    given = {"session": session.id, "dispatch": dispatch.id, "turn": turn, "tokens": session.context.tokens}
    before = await kernel.hooks.judge("compute.before", given, {"params": {}})
    if before.stopped is not None:
        reason = before.stopped.reason if isinstance(before.stopped, Reject) else before.stopped.approval
        raise ModelError(f"The model was not asked: {reason}")
    tools = [{"type": "function", "function": tool} for tool in dispatch.tools]
    messages = await images.filled(kernel.log, session.context.messages())
    request = Request(messages, json.dumps(tools).encode(), before.output["params"], session.id)
    if answer is not None:
        chain, request = answered(chain, request, answer)

    def tell(kind: str, text: str) -> None:
        sink.send({"kind": kind, "text": text})
        session.tell({"dispatch": dispatch.id, "turn": turn, "kind": kind, "text": text})

    async def on_attempt(attempt: Attempt) -> None:
        attempts.append(NewEvent("compute.attempt", {"turn": turn, **asdict(attempt)}, "system", dispatch.id))
        tell("note", kernel.redactor.text(attempt.error))

    voice = _Voice(kernel.redactor, tell)
    lease = session.lease
    assert lease is not None
    lease.limits = lease.limits or kernel.limits(dispatch.limits)
    completion = await complete(chain, request, lease.limits, voice.hear, on_attempt)
    voice.end()
    return completion


class _Voice:
    """The deltas of one reply as they may be shown."""

    def __init__(self, redactor: Redactor, tell: Callable[[str, str], None]) -> None:
        self._tell, self._live, self._kind = tell, Live(redactor.text), "text"

    def hear(self, delta: Delta) -> None:
        match delta:
            case Text(text=text):
                self._speak("text", text)
            case Reasoning(text=text):
                self._speak("reasoning", text)
            case Waiting(text=text):
                self._tell("note", text)
            case Reset():
                self._live.clear()
                self._tell("reset", "")

    def _speak(self, kind: str, text: str) -> None:
        if kind != self._kind:
            self.end()
            self._kind = kind
        self._say(self._live.take(text))

    def end(self) -> None:
        self._say(self._live.rest())

    def _say(self, text: str) -> None:
        if text:
            self._tell(self._kind, text)


async def judged(
    kernel: Microkernel, session: Session, dispatch: Dispatch, turn: int, completion: Completion
) -> tuple[list[dict[str, Any]], list[NewEvent]]:
    """The calls with their verdicts, in order, and the events that record them."""
    calls: list[dict[str, Any]] = []
    events: list[NewEvent] = []
    flood = None
    if completion.dropped_calls:
        total = len(completion.calls) + completion.dropped_calls
        flood = f"You asked for {total} calls in one reply; limits.calls allows {len(completion.calls)}, and none was run. Ask for fewer."
    for number, raw in enumerate(completion.calls, session.calls + 1):
        asked = _object(raw.arguments)
        call: dict[str, Any] = {"id": f"call-{number}", "name": raw.name, "arguments": asked, "asked": asked}
        call["raw"] = kernel.redactor.text(raw.arguments) if asked is None else ""
        call["recorded"] = raw.recorded
        await _judge(kernel, session, dispatch, turn, call, events, "agent", flood)
        calls.append(call)
    return calls, events


async def _judge(
    kernel: Microkernel,
    session: Session,
    dispatch: Dispatch,
    turn: int,
    call: dict[str, Any],
    events: list[NewEvent],
    actor: str,
    reason: str | None,
) -> None:
    """Write the verdict into `call`, and append its event (and, for a rejection, its result)."""
    receipts: list[dict[str, Any]] = []
    if reason is None and call["arguments"] is None:
        reason = f"The arguments are not a JSON object of at most {MAX_DEPTH} levels: {call['raw'][:200]!r}. Write them as one."
    if reason is None:
        given = {"session": session.id, "dispatch": dispatch.id, "turn": turn, "actor": actor}
        verdict = await kernel.hooks.judge("tool.before", given, {"tool": call["name"], "args": call["arguments"]})
        receipts = verdict.receipts
        match verdict.stopped:
            case Reject(reason=reason):
                pass
            case Wait(approval=question):
                reason = f"A person would have to be asked ({question}), and nobody can be in this version."
            case None if verdict.output["tool"] != call["name"]:
                reason = "A skill answered with another tool: a judge may change arguments, never the tool."
            case None:
                call["arguments"] = verdict.output["args"]
    reason = reason and kernel.redactor.text(reason)
    call["verdict"], call["reason"] = ("allow", None) if reason is None else ("reject", reason)
    stored = {
        k: v for k, v in call.items() if v is not None and k != "asked" and (k != "raw" or call["arguments"] is None)
    }
    shown = kernel.redactor.data(call["arguments"])
    if shown != call["arguments"]:
        stored["redacted"], call["shown"] = True, shown
    events.append(NewEvent("tool.call", {**stored, "turn": turn, "receipts": receipts}, actor, dispatch.id))
    if reason is not None:
        result = {"id": call["id"], "name": call["name"], "status": "rejected", "text": f"Rejected: {reason}"}
        events.append(NewEvent("tool.result", result, "system", dispatch.id))


async def begin_tool(
    kernel: Microkernel, session: Session, dispatch: Dispatch, name: str, arguments: dict[str, Any], key: str
) -> dict[str, Any]:
    """A call no model made (`!cmd`): judged and recorded like any other, with the person as its actor."""
    known = session.called.get(key)
    if known is not None:
        return _repeated(kernel, known, arguments)
    call = {"id": f"call-{session.calls + 1}", "name": name, "arguments": arguments, "raw": "", "key": key}
    events: list[NewEvent] = []
    await _judge(kernel, session, dispatch, dispatch.turns, call, events, "person", None)
    await kernel.record(session, events)
    return _call(call)


def _repeated(kernel: Microkernel, known: Event, arguments: dict[str, Any]) -> dict[str, Any]:
    """The call as it was judged. What was stored without its secret is run as it was asked for, if nobody changed it."""
    call = _call(known.data)
    if not known.data.get("redacted"):
        return call
    if kernel.redactor.data(arguments) != call["arguments"]:
        raise InvalidParams(f"{call['id']} was changed by a skill and its arguments are not stored: ask again.")
    return {**call, "arguments": arguments, "shown": call["arguments"]}


def _object(raw: str) -> dict[str, Any] | None:
    """The JSON object in `raw`; None for anything else, and for one too deep to travel."""
    try:
        value = json.loads(raw or "{}", parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _fits(value, MAX_DEPTH) else None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not JSON")
    return number


def _fits(value: Any, levels: int) -> bool:
    """Whether a value nests at most so deep."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_fits(each, levels - 1) for each in inner)


def _message(turn: int, completion: Completion, calls: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    usage = completion.usage
    data = {
        "turn": turn,
        "text": completion.text,
        "calls": [_asked(call) for call in calls],
        "model": completion.model,
        "scripted": completion.scripted,
        "usage": {"input": usage.input, "output": usage.output, "cached": usage.cached, "usd": usage.usd},
        "seconds": seconds,
        "finish": completion.finish,
    }
    more = {"dropped_calls": completion.dropped_calls, "served": completion.served, "params": completion.params}
    return data | {name: value for name, value in more.items() if value}


def _asked(call: dict[str, Any]) -> dict[str, Any]:
    """The call as the model will see that it asked for it."""
    asked = {"id": call["id"], "name": call["name"], "arguments": call["asked"]}
    return asked if call["asked"] is not None else {**asked, "raw": call["raw"][:2000]}


def _call(data: Any) -> dict[str, Any]:
    call = {k: data.get(k) for k in ("id", "name", "arguments", "shown", "verdict", "reason", "recorded")}
    return {**call, "raw": (data.get("raw") or "") if call["arguments"] is None else ""}


def _reply(message: dict[str, Any], calls: list[dict[str, Any]]) -> dict[str, Any]:
    kept = {k: message[k] for k in ("turn", "text", "model", "scripted", "usage", "seconds")}
    return {**kept, "more": message.get("more", False), "tool_calls": [_call(call) for call in calls]}


async def _committed(kernel: Microkernel, session: Session, dispatch: Dispatch) -> dict[str, Any]:
    """The last committed reply with those of its calls that have no result yet.

    Arguments that held a secret were stored without it, so such a call cannot run any more.
    """
    assert dispatch.reply is not None
    lost = [event.data for event in dispatch.pending.values() if event.data.get("redacted")]
    text = (
        "Not run: its arguments held a secret that is not stored, and the first reply was lost on its way. Ask again."
    )
    await kernel.record(
        session,
        [
            NewEvent(
                "tool.result",
                {"id": call["id"], "name": call["name"], "status": "not_run", "text": text},
                "system",
                dispatch.id,
            )
            for call in lost
        ],
    )
    return _reply(dict(dispatch.reply.data), [dict(event.data) for event in dispatch.pending.values()])
