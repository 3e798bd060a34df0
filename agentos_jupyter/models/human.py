"""You are the model: what a person writes becomes a reply, read as a command, a call, or the final answer."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from agentos_jupyter.errors import InvalidParams, ModelAsksPerson
from agentos_jupyter.models.deltas import CallPart, Delta, Finish, Model, RawCall, RawReply, Request, Text, UsageSeen
from agentos_jupyter.records import Usage

QUESTION = 'You are the model. What next? (`! command`, {"tool": …, "arguments": {…}}, or the answer)'


class HumanModel:
    """Yields what the person wrote; raises `ModelAsksPerson` as long as nobody has written anything."""

    scripted = False
    name = "human"

    def __init__(self, window: int) -> None:
        self.window = window

    async def aclose(self) -> None:
        """Nothing to close."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if request.answer is None:
            raise ModelAsksPerson(QUESTION)
        if request.answer.text:
            yield Text(request.answer.text)
        for index, call in enumerate(request.answer.calls):
            yield CallPart(index, "", call.name, call.arguments)
        yield UsageSeen(Usage(usd=0.0))
        yield Finish("tool_calls" if request.answer.calls else "stop")


def answered(chain: Sequence[Model], request: Request, written: str) -> tuple[Sequence[Model], Request]:
    """Who takes what a person wrote, and the request with it. Raises `InvalidParams` where no person is the model."""
    people = [model for model in chain if isinstance(model, HumanModel)]
    if not people:
        raise InvalidParams("This dispatch's model is no person: compute.complete takes no answer for it.")
    return people, replace(request, answer=reply(written))


def reply(written: str) -> RawReply | None:
    """`! command` or `$ command` is bash, a JSON object with `tool` is that call, all else the answer; None is nothing."""
    text = written.strip()
    if text[:1] in ("!", "$") and text[1:].strip():
        command = json.dumps({"command": text[1:].strip()}, ensure_ascii=False)
        return RawReply(calls=(RawCall("bash", command),))
    return (_call(text) or RawReply(text)) if text else None


def _call(text: str) -> RawReply | None:
    if not text.startswith("{"):
        return None
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(asked.get("tool"), str) or not set(asked) <= {"tool", "arguments"}:
        return None
    return RawReply(calls=(RawCall(asked["tool"], json.dumps(asked.get("arguments", {}), ensure_ascii=False)),))
