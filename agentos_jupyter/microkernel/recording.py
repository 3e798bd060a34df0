"""A session's recording, made from the log: before each reply the folded context is what the model was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentos_jupyter.microkernel.context import Context
from agentos_jupyter.records import Event

_RAN = ("ok", "failed", "timeout", "killed")
"""What a call came to when it ran; of the others nothing is to be given again."""
_RESULT = ("status", "text", "exit_code", "seconds", "total", "notes")


def lines(name: str, events: Sequence[Event]) -> list[dict[str, Any]]:
    """The lines of a recording of the session with this name and history."""
    from agentos_jupyter.models.recording import Writer

    writer, context = Writer(name), Context()
    tools: list[dict[str, Any]] = []
    calls: dict[str, dict[str, Any]] = {}
    for event in events:
        data = event.data
        match event.type:
            case "dispatch.started":
                tools = [{"type": "function", "function": tool} for tool in data.get("tools", ())]
            case "assistant.message":
                asked = {call["id"]: _call(call) for call in data["calls"]}
                calls |= asked
                model = data.get("served") if str(data["model"]).startswith("replay:") else data["model"]
                writer.turn(
                    context.messages(), tools, model or data["model"], data.get("params", {}), _reply(data, asked)
                )
            case "tool.result" if data["id"] in calls and data["status"] in _RAN:
                calls[data["id"]]["result"] = {part: data[part] for part in _RESULT if part in data}
        context.apply(event)
    return writer.lines


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    return {part: call[part] for part in ("name", "arguments", "raw") if call.get(part) is not None}


def _reply(data: Mapping[str, Any], calls: Mapping[str, Any]) -> dict[str, Any]:
    reply = {"text": data["text"], "calls": list(calls.values()), "usage": data.get("usage") or {}}
    return {**reply, "finish": data.get("finish", "stop")}
