"""The scripted model: rules over the last observation, for demonstrations, tests and teaching.

It reacts to what the tools printed, but thinks nothing; `scripted` is true wherever its answers are shown.
Its patterns come from files anybody may have written, so each match has a time limit.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import ModelMalformed, WorkspaceUntrusted
from agentos_jupyter.limits import Limits
from agentos_jupyter.models.deltas import CallPart, Delta, Finish, Request, Text, UsageSeen
from agentos_jupyter.models.script import Pattern, Rule, Script, When, read
from agentos_jupyter.records import Usage

_GROUP = re.compile(r"\{(\w+)(!q)?\}")
_WORD = re.compile(r"\s*\S+\s*")
_SEEN = 65_536
"""Characters of an observation that patterns are searched in."""
_BACK = 256
"""Messages looked back for the call that was answered and for the last user message: never the whole context."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The last observation: a user's words, or what a tool answered to a call."""

    role: str
    text: str
    call: str = ""
    arguments: str = ""


def load(file: str, workspace: Path, limits: Limits, trusted: bool) -> ScriptedModel:
    """`demo` is shipped; another name is a file, relative to the workspace and inside it, unless a person's word is behind it.

    Raises `ModelNotFound`, `ConfigError`, `WorkspaceUntrusted`.
    """
    path = Path(__file__).with_name("demo.yaml") if file == "demo" else workspace / file
    if file != "demo" and not trusted and not path.resolve().is_relative_to(workspace.resolve()):
        raise WorkspaceUntrusted(
            f"scripted:{file} is a file outside of the workspace, which a workspace's own files may not name: "
            "copy it into the workspace, name it in AGENTOS_MODEL, or start with AGENTOS_TRUST=1."
        )
    stamp = path.stat() if path.is_file() else None
    script = _cached(path, stamp.st_mtime_ns if stamp else 0, stamp.st_size if stamp else 0)
    return ScriptedModel(f"scripted:{file}", script, path.name, limits)


@lru_cache(maxsize=8)
def _cached(path: Path, mtime_ns: int, size: int) -> Script:
    return read(path)


class ScriptedModel:
    """Answers by the first rule that matches."""

    scripted = True

    def __init__(self, name: str, script: Script, file: str, limits: Limits) -> None:
        self.name = name
        self.window = limits.window
        self._script = script
        self._file = file
        self._seconds = limits.pattern

    async def aclose(self) -> None:
        """Nothing to close."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        seen = last_seen(request.messages)
        rule, groups = self._choose(seen, request.messages)
        say = fill(rule.say, groups)
        for piece in _WORD.findall(say) if rule.delay else [say] if say else []:
            await asyncio.sleep(rule.delay)
            yield Text(piece)

        written = len(say)
        for index, (name, values) in enumerate(pair for call in rule.calls for pair in call.items()):
            arguments = json.dumps(fill(values, groups), ensure_ascii=False)
            written += len(arguments)
            yield CallPart(index, "", name, arguments)
        yield UsageSeen(Usage(input=sum(map(len, request.messages)) // 4, output=written // 4, usd=0.0))
        yield Finish("tool_calls" if rule.calls else "stop")

    def _choose(self, seen: Seen, messages: Sequence[bytes]) -> tuple[Rule, Mapping[str, str]]:
        for number, rule in enumerate(self._script.rules, 1):
            try:
                groups = self._matches(rule.when, seen, messages)
            except TimeoutError:
                raise ModelMalformed(
                    f"{self._file}: a pattern of rule {number} took more than {self._seconds:g} s: make it simpler.",
                    final=True,
                ) from None
            if groups is not None:
                return rule, groups
        return Rule(say=self._script.otherwise or self._lost()), {}

    def _lost(self) -> str:
        return (
            f"{self.name} is a scripted model, which thinks nothing: no rule of {self._file} matches what it last saw."
        )

    def _matches(self, when: When, seen: Seen, messages: Sequence[bytes]) -> Mapping[str, str] | None:
        """The captured groups when all conditions hold; those of `match` win over the call's, and these over older ones."""
        if when.role is not None and when.role != seen.role:
            return None
        groups: dict[str, str] = {}
        before = earlier(messages) if when.earlier is not None else ""
        for pattern, text in (
            (when.earlier, before),
            (when.call, seen.call),
            (when.arguments, seen.arguments),
            (when.match, seen.text),
        ):
            if pattern is None:
                continue
            found = self._search(pattern, text)
            if found is None:
                return None
            groups |= found
        if when.turn is not None and when.turn != turn(messages):
            return None
        return groups

    def _search(self, pattern: Pattern, text: str) -> dict[str, str] | None:
        found = pattern.search(text[:_SEEN], timeout=self._seconds)
        if found is None:
            return None
        numbered = {str(number): group or "" for number, group in enumerate(found.groups(), 1)}
        return numbered | {"0": found[0]} | {name: group or "" for name, group in found.groupdict().items()}


def fill(value: Any, groups: Mapping[str, str]) -> Any:
    """Put captured groups into `{name}` or `{1}`; `{name!q}` quotes for the shell. Other braces stay as they are.

    Only whole groups are filled in, once: no attributes, no formats, nothing of what is filled in is looked at again.
    """
    if isinstance(value, str):
        return _GROUP.sub(lambda found: _group(found, groups), value)
    if isinstance(value, dict):
        return {name: fill(inner, groups) for name, inner in value.items()}
    return [fill(inner, groups) for inner in value] if isinstance(value, list) else value


def _group(found: re.Match[str], groups: Mapping[str, str]) -> str:
    if found[1] not in groups:
        return found[0]
    return shlex.quote(groups[found[1]]) if found[2] else groups[found[1]]


def last_seen(messages: Sequence[bytes]) -> Seen:
    """The last user or tool message, decoded; of the context before it only the call it answers."""
    for position in range(len(messages) - 1, max(-1, len(messages) - 1 - _BACK), -1):
        message = json.loads(messages[position])
        if message.get("role") == "user":
            return Seen("user", _text(message.get("content")))
        if message.get("role") == "tool":
            call, arguments = _answered(messages[:position][-_BACK:], message.get("tool_call_id"))
            return Seen("tool", _text(message.get("content")), call, arguments)
    return Seen("user", "")


def earlier(messages: Sequence[bytes]) -> str:
    """What was said and printed before the last observation, newest first, as far as it is looked at."""
    texts: list[str] = []
    size = 0
    for encoded in reversed(messages[-_BACK:]):
        message = json.loads(encoded)
        if message.get("role") == "system" or size > _SEEN:
            break
        texts.append(_text(message.get("content")))
        size += len(texts[-1])
    return "\n".join(texts[1:])


def turn(messages: Sequence[bytes]) -> int:
    """Which reply since the last user message is due now, from 1."""
    replies = 0
    for message in reversed(messages[-_BACK:]):
        role = json.loads(message).get("role")
        if role == "user":
            break
        replies += role == "assistant"
    return replies + 1


def _answered(before: Sequence[bytes], id: Any) -> tuple[str, str]:
    """Name and arguments of the call that a tool message answers; the command itself where there is one."""
    for encoded in reversed(before):
        message = json.loads(encoded)
        if message.get("role") != "assistant":
            continue
        for call in message.get("tool_calls") or ():
            if call.get("id") == id:
                function = call.get("function") or {}
                return str(function.get("name") or ""), _command(str(function.get("arguments") or ""))
        break
    return "", ""


def _command(arguments: str) -> str:
    try:
        values = json.loads(arguments)
    except ValueError:
        return arguments
    command = values.get("command") if isinstance(values, dict) else None
    return command if isinstance(command, str) else arguments


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
