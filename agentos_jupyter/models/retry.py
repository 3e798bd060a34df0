"""One reply from a chain of models: attempts with backoff, then the next model, all within a time and a size."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from agentos_jupyter.errors import (
    AgentOSError,
    ContextTooLong,
    ModelAsksPerson,
    ModelMalformed,
    ModelNotFound,
    ModelUnavailable,
)
from agentos_jupyter.limits import Limits
from agentos_jupyter.models.deltas import (
    Attempt,
    CallPart,
    Completion,
    Delta,
    Finish,
    Model,
    RawCall,
    Reasoning,
    Recorded,
    Request,
    Reset,
    Served,
    Text,
    UsageSeen,
    Waiting,
)
from agentos_jupyter.models.rate import Limiter
from agentos_jupyter.records import Usage

BYTES_PER_TOKEN = 4
"""A guess at what a request will count, until the provider has told."""
TOO_MANY = 429

OnDelta = Callable[[Delta], None]
OnAttempt = Callable[[Attempt], Awaitable[None]]


async def _nobody(_: Attempt) -> None:
    """Nobody listens to attempts."""


async def complete(
    chain: Sequence[Model],
    request: Request,
    limits: Limits,
    on_delta: OnDelta = lambda delta: None,
    on_attempt: OnAttempt = _nobody,
) -> Completion:
    """The reply of the first model of `chain` that gives one.

    `on_delta` hears every delta, and `Reset` when those so far belong to a failed attempt; `on_attempt` each failure.
    Raises the error of the last attempt, with one sentence for each, within `limits.compute` seconds; what an attempt
    waits for its provider's turn does not count, and is bounded by `limits.queue`.
    """
    if not chain:
        raise ModelNotFound("There is no model to ask: name one with AGENTOS_MODEL or `model:` in agentos.yaml.")
    deadline = _Deadline(time.monotonic() + limits.compute)
    attempts: list[Attempt] = []
    error: AgentOSError | None = None
    for position, model in enumerate(chain):
        for number in range(1, limits.attempts + 1):
            started = time.monotonic()
            try:
                done = await _in_turn(model, request, limits, on_delta, deadline)
                return replace(done, attempts=tuple(attempts), params=request.params)
            except ModelAsksPerson:
                raise  # no failure: the caller asks, and comes again with the answer
            except AgentOSError as caught:
                error = caught
            attempts.append(Attempt(model.name, error.message, error.code, round(time.monotonic() - started, 3)))
            await on_attempt(attempts[-1])
            pause = _pause(error, number, limits)
            if pause is None or time.monotonic() + pause >= deadline.at:
                break
            await asyncio.sleep(pause)
        if time.monotonic() >= deadline.at or not _next_may_help(error, model, chain[position + 1 :]):
            break
    raise _final(error, attempts)


def _pause(error: AgentOSError | None, number: int, limits: Limits) -> float | None:
    """Seconds before the same model is asked again; None where that would not help."""
    if not isinstance(error, ModelUnavailable | ModelMalformed) or error.data.get("final") or number >= limits.attempts:
        return None
    status = error.data.get("status")
    if status and status not in limits.retry_status:
        return None
    told = error.data.get("retry_after")
    if told is not None and told > limits.retry_after:
        return None
    backoff = min(limits.backoff * 2.0 ** (number - 1), limits.backoff_max)
    return max(told or 0.0, backoff * random.uniform(0.5, 1.0))


def _next_may_help(error: AgentOSError | None, model: Model, rest: Sequence[Model]) -> bool:
    """Too long a context is no reason to ask a model with the same window: the caller compacts."""
    return not isinstance(error, ContextTooLong) or any(other.window > model.window for other in rest)


def _final(error: AgentOSError | None, attempts: Sequence[Attempt]) -> AgentOSError:
    assert error is not None
    if len(attempts) == 1:
        return error
    told = "; ".join(
        f"{attempt.model} ({attempt.seconds:.1f} s): {attempt.error.rstrip('.')}" for attempt in _folded(attempts)
    )
    data = {**error.data, "attempts": [(attempt.model, attempt.code, attempt.seconds) for attempt in attempts]}
    return type(error)(f"No model answered after {len(attempts)} attempts. {told}.", **data)


def _folded(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The same sentence several times in a row is said once."""
    folded: list[Attempt] = []
    for attempt in attempts:
        if folded and (folded[-1].model, folded[-1].error) == (attempt.model, attempt.error):
            folded[-1] = replace(attempt, seconds=folded[-1].seconds + attempt.seconds)
        else:
            folded.append(attempt)
    return folded


@dataclass
class _Reply:
    """What has come of one attempt."""

    limits: Limits
    text: list[str] = field(default_factory=list)
    calls: list[tuple[list[str], list[str]]] = field(default_factory=list)
    asked: int = 0
    size: int = 0
    usage: Usage = field(default_factory=Usage)
    finish: str = ""
    served: str | None = None
    recorded: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def take(self, delta: Delta) -> None:
        match delta:
            case Text(text):
                self.text.append(text)
                self.size += len(text)
            case CallPart():
                self._part(delta)
            case Reasoning(text):
                self.size += len(text)
            case Finish(reason):
                self.finish = reason
            case UsageSeen(usage):
                self.usage = usage
            case Recorded(index, result):
                self.recorded[index] = result
            case Served(model):
                self.served = model
        if self.size > self.limits.reply:
            raise ModelMalformed(
                f"The reply went on past {self.limits.reply} bytes and was cut off (limit `reply`): "
                "ask for something shorter.",
                final=True,
            )

    def _part(self, part: CallPart) -> None:
        """A fragment of a call; calls beyond the limit are counted, and their bytes still count."""
        self.asked = max(self.asked, part.index + 1)
        self.size += len(part.arguments) + len(part.name)
        if part.index >= self.limits.calls:
            return
        while len(self.calls) <= part.index:
            self.calls.append(([], []))
        name, arguments = self.calls[part.index]
        name.append(part.name)
        arguments.append(part.arguments)

    def wanted(self) -> bool:
        return bool(self.calls) or any(piece.strip() for piece in self.text)


@dataclass
class _Deadline:
    """When all attempts must be over."""

    at: float


async def _in_turn(
    model: Model, request: Request, limits: Limits, on_delta: OnDelta, deadline: _Deadline
) -> Completion:
    """One attempt when it is this session's turn at the provider; a pause that one is told of holds for all."""
    limiter = getattr(model, "limiter", None)
    if not isinstance(limiter, Limiter):
        return await _once(model, request, limits, on_delta, deadline.at)
    guess = sum(map(len, request.messages)) / BYTES_PER_TOKEN
    async with limiter.turn(request.who, guess, limits.queue, lambda text: on_delta(Waiting(text))) as place:
        deadline.at += place.waited
        try:
            done = await _once(model, request, limits, on_delta, deadline.at)
        except ModelUnavailable as error:
            told = error.data.get("retry_after")
            if error.data.get("status") == TOO_MANY and told is not None and told <= limits.retry_after:
                limiter.pause(told)
            raise
        place.used = done.usage.input + done.usage.output or None
        return done


async def _once(model: Model, request: Request, limits: Limits, on_delta: OnDelta, deadline: float) -> Completion:
    started = time.monotonic()
    reply = _Reply(limits)
    seen = False
    try:
        async with contextlib.aclosing(model.stream(request)) as stream, _Patience(limits, deadline) as patience:
            async for delta in stream:
                if not isinstance(delta, Waiting):  # a note of the harness is no word of the model
                    patience.heard()
                reply.take(delta)
                seen = True
                on_delta(delta)
    except TimeoutError:
        if not (reply.finish and reply.wanted()):
            _reset(seen, on_delta)
            raise patience.error(model.name) from None
    except AgentOSError:
        _reset(seen, on_delta)
        raise
    if not reply.wanted():
        _reset(seen, on_delta)
        raise ModelMalformed(f"{model.name} sent an empty reply: no text and no tool call{_why_empty(reply.finish)}.")
    return _completion(model, reply, time.monotonic() - started)


def _reset(seen: bool, on_delta: OnDelta) -> None:
    if seen:
        on_delta(Reset())


def _why_empty(finish: str) -> str:
    return f" (it stopped because of {finish!r})" if finish and finish != "stop" else ""


def _completion(model: Model, reply: _Reply, seconds: float) -> Completion:
    calls = tuple(
        RawCall("".join(name), "".join(arguments), reply.recorded.get(index))
        for index, (name, arguments) in enumerate(reply.calls)
    )
    return Completion(
        text="".join(reply.text),
        calls=calls,
        usage=reply.usage,
        finish=reply.finish or "stop",
        model=model.name,
        scripted=model.scripted,
        seconds=seconds,
        dropped_calls=max(0, reply.asked - len(calls)),
        served=reply.served if reply.served and reply.served != model.name else None,
    )


class _Patience:
    """How long silence is borne: before the first delta, between deltas, and all in all."""

    def __init__(self, limits: Limits, deadline: float) -> None:
        self._limits = limits
        self._deadline = deadline
        self._silence, self._name = limits.first_token, "first_token"
        self._clock = asyncio.get_running_loop().time
        self._skew = self._clock() - time.monotonic()
        self._timeout = asyncio.timeout_at(self._due())

    async def __aenter__(self) -> _Patience:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)

    def heard(self) -> None:
        self._silence, self._name = self._limits.idle, "idle"
        self._timeout.reschedule(self._due())

    def _due(self) -> float:
        return min(self._clock() + self._silence, self._deadline + self._skew)

    def error(self, model: str) -> ModelUnavailable:
        if time.monotonic() >= self._deadline:
            return ModelUnavailable(f"{model} was not done after {self._limits.compute:g} s (limit `compute`).")
        return ModelUnavailable(f"{model} said nothing for {self._silence:g} s (limit `{self._name}`).")
