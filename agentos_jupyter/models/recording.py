"""A recording: what a model was asked and what it answered, as lines of JSON that people read and git compares.

The first line names the format. Then each message and list of tools stands once, under the beginning of its digest,
before the first turn that has it; a turn says how many messages of the turn before it keeps, and which it adds.
Ids, cache marks and provenance are no part of it, nor are times, so recording the same session twice gives the same file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentos_jupyter.errors import ConfigError
from agentos_jupyter.records import ToolStatus

FORMAT = 1
_SHOWN = 16
"""Characters of a digest that name a message within a file."""
_LARGEST = 2**53


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON (RFC 8785) of a value; numbers it cannot hold are written as text."""
    try:
        text = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        text = rfc8785.dumps(_plain(value))
    return hashlib.sha256(text).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return value if abs(value) < _LARGEST else str(value)


def bare(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without what may differ between two runs of the same: ids, marks, and an image's own bytes."""
    kept = {name: value for name, value in message.items() if name not in ("id", "tool_call_id", "cache_control")}
    if isinstance(kept.get("content"), list):
        kept["content"] = [_part(part) for part in kept["content"]]
    if kept.get("tool_calls"):
        kept["tool_calls"] = [{"function": call.get("function")} for call in kept["tool_calls"]]
    return kept


def _part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    kept = {name: value for name, value in part.items() if name != "cache_control"}
    url = kept["image_url"].get("url") if isinstance(kept.get("image_url"), Mapping) else None
    return kept if not isinstance(url, str) else {**kept, "image_url": {**kept["image_url"], "url": _named(url)}}


def _named(url: str) -> str:
    """An image in a data URL, by its digest, as it stands in a context."""
    head, comma, data = url.partition(";base64,")
    if not comma or not head.startswith("data:"):
        return url
    try:
        raw = base64.b64decode(data)
    except binascii.Error:
        return url
    return f"blob:{head.removeprefix('data:')};sha256:{hashlib.sha256(raw).hexdigest()}"


@lru_cache(maxsize=8192)
def message_digest(piece: bytes) -> str:
    """The digest of an encoded message. Each piece is looked at once: contexts share theirs from turn to turn."""
    return digest(bare(json.loads(piece)))


def prefix(digests: Iterable[str]) -> str:
    """One digest for a conversation: a chain over those of its messages."""
    chain = ""
    for each in digests:
        chain = hashlib.sha256(f"{chain}{each}".encode()).hexdigest()
    return chain


def key(conversation: str, tools: str, model: str, params: Mapping[str, Any]) -> str:
    """What a reply is found by: the conversation that led to it, the tools, the model and its parameters."""
    return digest({"prefix": conversation, "tools": tools, "model": model, "params": params})


# -- writing


class Writer:
    """Makes the lines of a recording, turn by turn; what a call came to is added to its turn later."""

    def __init__(self, session: str) -> None:
        self.lines: list[dict[str, Any]] = [{"agentos_recording": FORMAT, "session": session}]
        self._before: list[str] = []
        self._known: set[str] = set()
        self._turns = 0

    def turn(
        self, messages: Sequence[bytes], tools: list[Any], model: str, params: Mapping[str, Any], reply: dict[str, Any]
    ) -> None:
        """Add what was asked and `reply` (`text`, `calls`, `usage`, `finish`), which stays the caller's to complete."""
        digests = [message_digest(piece) for piece in messages]
        for one, piece in zip(digests, messages, strict=True):
            self._once("message", one, lambda piece=piece: bare(json.loads(piece)))
        self._once("tools", digest(tools), lambda: tools)
        keep = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._before, digests, strict=False)))
        self._turns += 1
        self.lines.append(
            {
                "turn": self._turns,
                "model": model,
                "keep": keep,
                "add": [one[:_SHOWN] for one in digests[keep:]],
                "tools": digest(tools)[:_SHOWN],
                **({"params": dict(params)} if params else {}),
                "reply": reply,
            }
        )
        self._before = digests

    def _once(self, kind: str, name: str, value: Any) -> None:
        if name not in self._known:
            self._known.add(name)
            self.lines.append({kind: name[:_SHOWN], "is": value()})


# -- reading


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Result(_Line):
    """What a call came to when it was recorded."""

    status: ToolStatus
    text: str
    exit_code: int | None = None
    seconds: float = Field(default=0.0, ge=0)
    total: int = Field(default=0, ge=0)
    notes: tuple[str, ...] = ()


class RecordedCall(_Line):
    """A call that the model asked for: its arguments, or what it wrote where that was no JSON object."""

    name: str
    arguments: dict[str, Any] | None = None
    raw: str = ""
    result: Result | None = None

    @property
    def text(self) -> str:
        """The arguments as a model writes them."""
        return self.raw if self.arguments is None else json.dumps(self.arguments, ensure_ascii=False)


class RecordedUsage(_Line):
    input: int = Field(default=0, ge=0)
    output: int = Field(default=0, ge=0)
    cached: int = Field(default=0, ge=0)
    usd: float | None = None


class RecordedReply(_Line):
    text: str = ""
    calls: tuple[RecordedCall, ...] = ()
    usage: RecordedUsage = RecordedUsage()
    finish: str = "stop"


class _Header(_Line):
    agentos_recording: Literal[1]
    session: str = ""


class _Message(_Line):
    message: str
    content: dict[str, Any] = Field(alias="is")


class _Tools(_Line):
    tools: str
    content: list[Any] = Field(alias="is")


class _Turn(_Line):
    turn: int
    model: str
    keep: int = Field(ge=0)
    add: tuple[str, ...]
    tools: str
    params: dict[str, Any] = {}
    reply: RecordedReply


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a recording: `keep` messages of the one before it, then `add` (digests); `end` is its last message."""

    number: int
    model: str
    keep: int
    add: tuple[str, ...]
    tools: str
    params: Mapping[str, Any]
    reply: RecordedReply


class Recording:
    """A recording that was read: its turns, and the messages in it by digest."""

    def __init__(self, file: str, text: str) -> None:
        """Raises `ConfigError` with file, line and cure for what is no recording."""
        self.file = file
        self.turns: list[Turn] = []
        self.messages: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, list[Turn]] = {}
        self._names: dict[str, str] = {}
        self._before: list[str] = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip() or number == 1:
                self._read(number, line)
        self.models = tuple(dict.fromkeys(turn.model for turn in self.turns))
        self._before = []

    def _read(self, number: int, line: str) -> None:
        try:
            data = json.loads(line)
            if number == 1:
                _Header.model_validate(data)
            elif "message" in data:
                self._message(_Message.model_validate(data))
            elif "turn" in data:
                self._turn(_Turn.model_validate(data))
            else:
                given = _Tools.model_validate(data)
                self._names[given.tools] = digest(given.content)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(map(str, problem["loc"]))
            raise self._wrong(number, f"{where}: {problem['msg'][:200]}") from None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._wrong(number, f"{type(error).__name__}: {str(error)[:200]}") from None

    def _wrong(self, number: int, why: str) -> ConfigError:
        return ConfigError(
            f"{self.file}:{number}:1: this is no line of a recording ({why}): make one with `agentos record SESSION -o FILE`."
        )

    def _message(self, line: _Message) -> None:
        message = bare(line.content)
        self._names[line.message] = name = digest(message)
        self.messages[name] = message

    def _turn(self, line: _Turn) -> None:
        if line.keep > len(self._before):
            raise ValueError(f"keep is {line.keep}, and the turn before has {len(self._before)} messages")
        add = tuple(self._names[name] for name in line.add)
        self._before = [*self._before[: line.keep], *add]
        tools = self._names[line.tools]
        turn = Turn(line.turn, line.model, line.keep, add, tools, line.params, line.reply)
        self.turns.append(turn)
        self.keys.setdefault(key(prefix(self._before), tools, line.model, line.params), []).append(turn)
