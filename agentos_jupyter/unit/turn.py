"""Call, verdict, act, observation: nothing of these happens anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from agentos_jupyter.errors import AgentOSError, BadArguments, ModelAsksPerson, nearest
from agentos_jupyter.records import Allow, Call, JudgedCall, Observation, Reject, Reply, Usage, Wait
from agentos_jupyter.rpc.client import CallInfo, ObservationInfo, ReplyInfo
from agentos_jupyter.unit.telling import Telling
from agentos_jupyter.unit.tools import Stopped, Tool

T = TypeVar("T")


class Observer(Protocol):
    """What a front end shows of a dispatch. All methods return at once."""

    def began(self, began: Mapping[str, Any]) -> None:
        """The dispatch has begun (`dispatch.begin`'s answer)."""

    def delta(self, kind: str, text: str) -> None:
        """A piece of the reply: `text`, `reasoning`, `note`, `heard` (a person's words that entered), or `reset`
        (forget the pieces so far)."""

    def replied(self, reply: Reply) -> None:
        """The reply is committed."""

    def call(self, judged: JudgedCall) -> None:
        """A call is about to run, or was rejected."""

    def output(self, judged: JudgedCall, data: bytes) -> None:
        """Live output of a running call, as it comes, secrets not yet removed."""

    def result(self, judged: JudgedCall, observation: Observation) -> None:
        """A call has ended; `observation.text` is what was stored and what the model reads."""

    async def ask(self, question: str) -> str:
        """What a person writes who is the model. Raises `ModelAsksPerson` where nobody can be asked."""


class Caller(Protocol):
    """The calls a turn makes: `rpc.link.Link`, or the in-process twin."""

    async def call(self, method: str, params: dict[str, Any] | None = None, on_stream: Any = None) -> Any: ...


async def carried_through(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that a cancellation must not tear: it is done first, then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


class Turn:
    """The turns of one dispatch, one after the other."""

    def __init__(self, link: Caller, handle: Mapping[str, Any], tools: Mapping[str, Tool], on: Observer) -> None:
        self._link, self._tools, self._on = link, tools, on
        self._handle = {"dispatch": handle["dispatch"], "epoch": handle["epoch"]}
        self.number: int = handle["turn"]

    async def compute(self) -> Reply:
        """The next reply, committed with its verdicts; where a person is the model, what the person writes."""
        written: str | None = None
        while True:
            try:
                reply = _reply(await self._complete(written))
                break
            except ModelAsksPerson as asks:
                written = await self._on.ask(asks.message)
        self.number = reply.turn
        self._on.replied(reply)
        return reply

    async def _complete(self, written: str | None) -> ReplyInfo:
        given = {} if written is None else {"answer": written}
        return await self._link.call(  # type: ignore[no-any-return]
            "compute.complete",
            {**self._handle, "turn": self.number + 1, **given},
            lambda data: self._on.delta(data["kind"], data["text"]),
        )

    async def act(self, judged: JudgedCall) -> Observation | None:
        """Carry out what was allowed. `None` where the verdict said no: that result is recorded already."""
        self._on.call(judged)
        match judged.verdict:
            case Allow() if judged.recorded is not None:
                return judged.recorded
            case Allow(arguments):
                return await self._run(judged, arguments)
            case Reject(reason):
                self._on.result(judged, Observation("rejected", f"Rejected: {reason}"))
            case Wait(approval):
                self._on.result(judged, Observation("rejected", f"Waits for {approval}"))
        return None

    async def _run(self, judged: JudgedCall, arguments: Mapping[str, Any]) -> Observation:
        tool = self._tools.get(judged.call.name)
        if tool is None:
            return Observation("failed", nearest("tool", judged.call.name, self._tools))

        def printed(data: bytes) -> None:
            self._on.output(judged, data)
            telling.take(data)

        try:
            async with Telling(self._link, {**self._handle, "id": judged.call.id}) as telling:
                return await tool.run(arguments, printed)
        except BadArguments as error:
            return Observation("failed", error.message)
        except Stopped as stopped:
            await carried_through(self._commit(judged, stopped.observation))
            raise asyncio.CancelledError from None

    async def observe(self, judged: JudgedCall, observation: Observation | None) -> None:
        """Commit the observation and show it as it was stored."""
        if observation is not None:
            await carried_through(self._commit(judged, observation))

    async def _commit(self, judged: JudgedCall, observation: Observation) -> None:
        params = {**self._handle, "id": judged.call.id, "observation": _observation(observation)}
        stored = await self._link.call("tool.end", params)
        self._on.result(judged, Observation(**{**_fields(observation), "text": stored["text"]}))


def _fields(observation: Observation) -> dict[str, Any]:
    return {name: getattr(observation, name) for name in Observation.__slots__}


def _observation(observation: Observation) -> dict[str, Any]:
    return {**_fields(observation), "notes": list(observation.notes)}


def _reply(answer: ReplyInfo) -> Reply:
    calls = tuple(judged_call(each) for each in answer["tool_calls"])
    usage = Usage(**answer["usage"])
    return Reply(answer["turn"], answer["text"], calls, answer["model"], answer["scripted"], usage, answer["more"])


def _recorded(info: ObservationInfo | None) -> Observation | None:
    return None if info is None else Observation(**info)


def judged_call(info: CallInfo) -> JudgedCall:
    """A judged call as the daemon tells it."""
    call = Call(info["id"], info["name"], info["shown"] or info["arguments"], info["raw"])
    match info["verdict"]:
        case "allow":
            return JudgedCall(call, Allow(info["arguments"] or {}), _recorded(info["recorded"]))
        case "wait":
            return JudgedCall(call, Wait(info["approval"] or ""))
        case "reject":
            return JudgedCall(call, Reject(info["reason"] or "rejected"))
    raise AgentOSError(f"The daemon answered with a verdict this version does not know: {info['verdict']}.")
