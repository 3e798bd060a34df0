"""The context of a session: a fold over its history, steered by plans of references.

Each message is encoded to JSON once, when its event enters; a request body is joined from these pieces.
A plan (`context.planned`) comes from the context engine; between plans its append rule adds new events
without asking. Because both are events, a context can be rebuilt from the log alone, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from agentos_jupyter.errors import HookFailed
from agentos_jupyter.microkernel.images import place
from agentos_jupyter.microkernel.table import Shape
from agentos_jupyter.records import Event

BYTES_PER_TOKEN = 4
"""A first guess for text and code; the provider's own count corrects it after each call."""


class Add(Shape):
    """One entry of a plan: an event of this session (cut to `cut` bytes of content), or a text and where it is from."""

    event: int | None = None
    cut: int | None = Field(None, ge=256)
    text: str | None = None
    source: str | None = Field(None, alias="from")
    role: Literal["system", "user"] = "system"


class Drop(Shape):
    """An entry to leave out: an event, or the text from `from`."""

    event: int | None = None
    source: str | None = Field(None, alias="from")


class AppendRule(Shape):
    """Which event types enter by themselves, and to how many bytes their content is cut."""

    types: list[str] = Field(default_factory=list)
    cut: dict[str, Annotated[int, Field(ge=256)]] = Field(default_factory=dict)


class Plan(Shape):
    """What a context engine answers: `base` null starts afresh, else it changes the context as it stands."""

    base: int | None = None
    drop: list[Drop] = Field(default_factory=list)
    add: list[Add] = Field(default_factory=list)
    append: AppendRule | None = None


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_readable = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the context: where it came from and its JSON."""

    ref: int | str
    role: str
    piece: bytes
    asks: tuple[str, ...] = ()
    answers: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A message event as it is kept for later plans: encoded, since few are looked at again, in a quarter of the memory."""

    type: str
    size: int
    data: bytes

    @staticmethod
    def of(event: Event) -> Kept:
        needed = {name: event.data[name] for name in _NEEDED if name in event.data}
        return Kept(event.type, _content_bytes(event.data), _encode(needed))


_NEEDED = ("id", "text", "calls", "form", "images")
"""What a message is made of, of all that its event holds."""


def _encode(message: Mapping[str, Any]) -> bytes:
    return _compact(message).encode("utf-8", "replace")


def shorten(text: str, limit: int | None) -> str:
    """Head and tail of `text` within `limit` bytes of UTF-8, with a line between that says what is left out."""
    raw = text.encode("utf-8", "replace")
    if limit is None or len(raw) <= limit:
        return text
    half = limit // 2
    head, tail = raw[:half].decode("utf-8", "ignore"), raw[len(raw) - half :].decode("utf-8", "ignore")
    return f"{head}\n[… {len(raw) - 2 * half} bytes left out …]\n{tail}"


class Context:
    """The messages the model sees. `apply` folds one event in; nothing else changes it."""

    def __init__(self) -> None:
        self.base: int | None = None
        self._rule = AppendRule()
        self._entries: dict[int | str, Entry] = {}
        self._messages: dict[int, Kept] = {}
        self._person_calls: dict[str, Mapping[str, Any]] = {}
        self._bytes = 0
        self._bytes_per_token = float(BYTES_PER_TOKEN)
        self.corrected = False
        """Whether a provider's own count of an earlier request stands behind the estimate of `tokens`."""

    # -- folding

    def apply(self, event: Event) -> None:
        """Fold one event of the session's history in, in order of version."""
        if event.type == "context.planned":
            self._carry_out(Plan.model_validate(event.data["plan"]), event.version)
            return
        if event.type == "tool.call" and event.actor == "person":
            self._person_calls[event.data["id"]] = event.data
        if event.type not in _ENCODERS:
            return
        self._messages[event.version] = Kept.of(event)
        if event.type == "assistant.message":
            self._learn(self._bytes, (event.data.get("usage") or {}).get("input") or 0)
            self.corrected = self.corrected or (bool(event.data.get("usage")) and not event.data.get("scripted"))
        if event.type in self._rule.types:
            self._insert(self._entry(event.version, event.type, event.data, self._rule.cut.get(event.type)))

    def _learn(self, sent: int, tokens: int) -> None:
        """Correct the estimate: a request of `sent` bytes was counted as `tokens` by the provider."""
        if tokens > 100:
            self._bytes_per_token = min(8.0, max(1.0, sent / tokens))

    def check(self, plan: Plan) -> None:
        """Raise `HookFailed` unless every reference is known and each tool result keeps its call."""
        for add in plan.add:
            if (add.event is None) == (add.text is None or add.source is None):
                raise HookFailed("A plan's entry names either an event, or a text and where it is from.")
            if add.event is not None and add.event not in self._messages:
                raise HookFailed(f"A plan adds event {add.event}, which is no message of this session.")
        if plan.base is not None and plan.base != self.base:
            raise HookFailed(f"A plan is based on {plan.base}, but the context stands on {self.base}.")
        trial = self._trial(plan)
        open_calls: set[str] = set()
        for entry in trial:
            if entry.answers is not None and entry.answers not in open_calls:
                raise HookFailed(f"A plan keeps the result of {entry.answers} without the message that asked for it.")
            if entry.answers is None and open_calls:
                raise HookFailed(f"A plan leaves {', '.join(sorted(open_calls))} without a result.")
            open_calls.discard(entry.answers or "")
            open_calls.update(entry.asks)

    def _trial(self, plan: Plan) -> list[Entry]:
        kept = {} if plan.base is None else dict(self._entries)
        for drop in plan.drop:
            kept.pop(drop.event if drop.event is not None else f"text:{drop.source}", None)
        for add in plan.add:
            entry = self._planned(add)
            kept[entry.ref] = entry
        return list(kept.values())

    def _carry_out(self, plan: Plan, version: int) -> None:
        entries = self._trial(plan)
        self._entries = {}
        self._bytes = 0
        for entry in entries:
            self._insert(entry)
        self.base = version
        if plan.append is not None:
            self._rule = plan.append

    def _planned(self, add: Add) -> Entry:
        if add.event is not None:
            kept = self._messages[add.event]
            return self._entry(add.event, kept.type, json.loads(kept.data), add.cut)
        return Entry(f"text:{add.source}", add.role, _encode({"role": add.role, "content": add.text}))

    def _insert(self, entry: Entry) -> None:
        old = self._entries.pop(entry.ref, None)
        self._bytes += len(entry.piece) - (len(old.piece) if old else 0)
        self._entries[entry.ref] = entry

    def _entry(self, version: int, kind: str, data: Mapping[str, Any], cut: int | None) -> Entry:
        person = self._person_calls.get(data.get("id", "")) if kind == "tool.result" else None
        if person is not None:
            return Entry(version, "user", _encode(_person_message(person, data, cut)))
        message = _ENCODERS[kind](data, cut)
        asks = tuple(call["id"] for call in data.get("calls", ())) if kind == "assistant.message" else ()
        answers = data["id"] if kind == "tool.result" else None
        return Entry(version, message["role"], _encode(message), asks, answers)

    # -- reading

    def messages(self) -> list[bytes]:
        """The encoded messages in order, system texts first."""
        pieces = [entry.piece for entry in self._entries.values() if entry.role == "system"]
        return pieces + [entry.piece for entry in self._entries.values() if entry.role != "system"]

    @property
    def size(self) -> int:
        """Bytes of all messages."""
        return self._bytes

    @property
    def tokens(self) -> int:
        """Estimated tokens of all messages."""
        return int(self._bytes / self._bytes_per_token)

    def entries(self) -> Iterable[Entry]:
        return self._entries.values()

    def outline(self) -> list[dict[str, Any]]:
        """What an engine plans with: each message event of the history, its type and size, and whether it is in."""
        return [
            {"event": version, "type": kept.type, "bytes": kept.size, "in": version in self._entries}
            for version, kept in self._messages.items()
        ]

    def texts(self) -> list[str]:
        """Where the plan's texts are from."""
        return [str(ref).removeprefix("text:") for ref in self._entries if isinstance(ref, str)]


def _content_bytes(data: Mapping[str, Any]) -> int:
    return len(data.get("text") or "") + sum(len(call.get("raw") or "") for call in data.get("calls", ()))


def _user(data: Mapping[str, Any], cut: int | None) -> dict[str, Any]:
    """Words, what form the answer is to have, and the images, which are named here and filled in when it is sent."""
    text = "\n\n".join(part for part in (shorten(data["text"], cut), data.get("form")) if part)
    if not data.get("images"):
        return {"role": "user", "content": text}
    shown = [
        {"type": "image_url", "image_url": {"url": place(each["mime"], each["digest"])}} for each in data["images"]
    ]
    return {"role": "user", "content": [{"type": "text", "text": text}, *shown]}


def _assistant(data: Mapping[str, Any], cut: int | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": shorten(data["text"], cut)}
    if data.get("calls"):
        message["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": _arguments(call)}}
            for call in data["calls"]
        ]
    return message


def _arguments(call: Mapping[str, Any]) -> str:
    """What the model wrote, when it is a JSON object; providers refuse anything else in a history."""
    if call.get("arguments") is None:
        return json.dumps({"unreadable": call.get("raw", "")}, ensure_ascii=False)
    return _readable(call["arguments"])


def _tool(data: Mapping[str, Any], cut: int | None) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": data["id"], "content": shorten(data["text"], cut)}


def _person_message(call: Mapping[str, Any], result: Mapping[str, Any], cut: int | None) -> dict[str, Any]:
    command = (call.get("arguments") or {}).get("command", "")
    return {
        "role": "user",
        "content": f"I ran this in your sandbox myself:\n$ {command}\n{shorten(result['text'], cut)}",
    }


_ENCODERS = {"user.message": _user, "assistant.message": _assistant, "tool.result": _tool}


def parse_plan(value: Any, skill: str) -> Plan:
    """The plan in a hook's answer; raises `HookFailed` naming the skill."""
    try:
        return Plan.model_validate(value)
    except ValidationError as error:
        where = error.errors()[0]
        raise HookFailed(
            f"The context engine {skill} answered with something that is not a plan ({'.'.join(map(str, where['loc']))}: {where['msg']})."
        ) from None
