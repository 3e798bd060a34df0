"""The replayed model: what was asked is looked up in a recording by its content, and the recorded reply is given again.

Nothing of a recording runs. What was never asked so is a miss, which names the first message that diverged.
"""

from __future__ import annotations

import difflib
import json
import os
import stat
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.errors import ModelNotFound, ModelReplayMiss, nearest
from agentos_jupyter.limits import Limits
from agentos_jupyter.models.deltas import CallPart, Delta, Finish, Recorded, Request, Served, Text, UsageSeen
from agentos_jupyter.models.recording import Recording, Turn, digest, key, message_digest, prefix
from agentos_jupyter.records import Usage
from agentos_jupyter.redact import Redactor

_DIFF_LINES, _DIFF_WIDTH = 24, 160
"""What is shown of a difference."""


class Recordings:
    """The recordings of one workspace, each read once for as long as its file stays the same."""

    def __init__(self, workspace: Path, limits: Limits) -> None:
        self._workspace, self._limits = workspace, limits
        self._read: dict[str, tuple[tuple[int, ...], Player]] = {}

    def model(self, named: str) -> ReplayModel:
        """The model of `FILE` or `FILE?tools=recorded`. Raises `ModelNotFound`, `ConfigError`."""
        file, mark, option = named.partition("?")
        if mark and option != "tools=recorded":
            raise ModelNotFound(nearest("option of replay:", option, ["tools=recorded"]))
        return ReplayModel(f"replay:{named}", self._player(file), bool(mark), self._limits.window)

    def _player(self, file: str) -> Player:
        with open(_inside(self._workspace, file), "rb") as opened:
            found = os.fstat(opened.fileno())
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            known = self._read.get(file)
            if known is not None and known[0] == stamp:
                return known[1]
            if not stat.S_ISREG(found.st_mode) or found.st_size > self._limits.recording:
                raise ModelNotFound(
                    f"{file} is no file of at most {self._limits.recording} bytes (limits.recording): name a recording."
                )
            text = opened.read(self._limits.recording).decode("utf-8", "replace")
        player = Player(Recording(file, text))
        self._read[file] = stamp, player
        return player


def _inside(workspace: Path, file: str) -> int:
    """A descriptor of a file of the workspace, opened without following a link anywhere on the way."""
    parts = PurePosixPath(file).parts
    if not parts or file.startswith("/") or ".." in parts or "\0" in file or paths.in_state(str(PurePosixPath(file))):
        raise ModelNotFound(f"A recording is a file of the workspace, written without / at the front, not {file!r}.")
    folder = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in parts[:-1]:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise ModelNotFound(
            f"There is no recording {file} to open ({error.strerror}; links are not followed): "
            "make one with `agentos record SESSION -o FILE`."
        ) from None
    finally:
        os.close(folder)


class Player:
    """A recording being replayed: where the same was asked several times, each session gets the replies in turn."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._asked: dict[tuple[str, str], int] = {}

    def find(self, request: Request) -> Turn:
        """The recorded turn for a request. Raises `ModelReplayMiss`."""
        digests = [message_digest(piece) for piece in request.messages]
        conversation, tools = prefix(digests), digest(json.loads(request.tools))
        for model in self.recording.models:
            name = key(conversation, tools, model, request.params)
            turns = self.recording.keys.get(name)
            if turns:
                return turns[self._occurrence(request.who, name, len(turns))]
        raise _miss(self.recording, request, digests, tools)

    def _occurrence(self, who: str, name: str, most: int) -> int:
        """Which of several replies is due; asked more often than recorded, the last is given again."""
        if most == 1:
            return 0
        number = self._asked.get((who, name), 0)
        self._asked[who, name] = number + 1
        return min(number, most - 1)


class ReplayModel:
    """Answers as the recording does. `tools`: the calls bring what they came to, so that nothing runs again."""

    scripted = False

    def __init__(self, name: str, player: Player, tools: bool, window: int) -> None:
        self.name, self.window = name, window
        self._player, self._tools = player, tools

    async def aclose(self) -> None:
        """Nothing to close."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        turn = self._player.find(request)
        reply = turn.reply
        yield Served(turn.model)
        if reply.text:
            yield Text(reply.text)
        for index, call in enumerate(reply.calls):
            yield CallPart(index, "", call.name, call.text)
            if self._tools and call.result is not None:
                yield Recorded(index, call.result.model_dump(mode="json"))
        yield UsageSeen(Usage(reply.usage.input, reply.usage.output, reply.usage.cached, usd=0.0))
        yield Finish(reply.finish)


# -- a miss


def _miss(recording: Recording, request: Request, digests: Sequence[str], tools: str) -> ModelReplayMiss:
    turn = 1 + sum(json.loads(piece).get("role") == "assistant" for piece in request.messages)
    told = f"{recording.file} has no reply for turn {turn} of this conversation"
    if not recording.turns:
        return ModelReplayMiss(f"{told}: it holds no turn. Record a session that asked a model.", turn=turn)
    nearest_to, common = _nearest(recording, digests)
    messages = _conversation(recording, nearest_to)
    if common == len(digests) == len(messages):
        what = "the tools" if nearest_to.tools != tools else "the parameters"
        return ModelReplayMiss(
            f"{told}: all {common} messages are as recorded, but {what} of the request are not. "
            "Replay it as it was recorded, or record the session again with `agentos record`.",
            turn=turn,
        )
    asked = None if common >= len(digests) else json.loads(request.messages[common])
    was = None if common >= len(messages) else recording.messages[messages[common]]
    return _diverged(told, turn, common, asked, was)


def _diverged(
    told: str, turn: int, index: int, asked: Mapping[str, Any] | None, was: Mapping[str, Any] | None
) -> ModelReplayMiss:
    role = str((asked or was or {}).get("role", ""))[:20]
    cure = "record the session again with `agentos record SESSION -o FILE`"
    if role == "tool":
        cure = f"the tools answered otherwise than then: replay with `?tools=recorded`, or {cure}"
    if asked is None or was is None:
        where = "recorded" if asked is None else "asked"
        said = f"message {index} ({role}) is only in what was {where}"
    else:
        said = f"message {index} ({role}) is the first that diverged"
    diff = _difference(was, asked)
    return ModelReplayMiss(f"{told}: {said}; {cure}.\n{diff}", turn=turn, index=index, role=role)


def _nearest(recording: Recording, digests: Sequence[str]) -> tuple[Turn, int]:
    """The recorded turn whose conversation shares most messages with what is asked, and how many."""
    best, most, difference = recording.turns[0], -1, 0
    common = length = 0
    for turn in recording.turns:
        length = turn.keep + len(turn.add)
        if turn.keep <= common:
            common = turn.keep
            for one, other in zip(turn.add, digests[turn.keep :], strict=False):
                if one != other:
                    break
                common += 1
        away = abs(length - len(digests))
        if (common, -away) > (most, -difference):
            best, most, difference = turn, common, away
    return best, most


def _conversation(recording: Recording, wanted: Turn) -> list[str]:
    messages: list[str] = []
    for turn in recording.turns:
        messages = [*messages[: turn.keep], *turn.add]
        if turn is wanted:
            break
    return messages


def _difference(was: Mapping[str, Any] | None, asked: Mapping[str, Any] | None) -> str:
    """A short unified diff of two messages, without secrets."""
    lines = list(difflib.unified_diff(_lines(was), _lines(asked), "recorded", "asked", lineterm="", n=1))
    shown = [line if len(line) <= _DIFF_WIDTH else line[: _DIFF_WIDTH - 1] + "…" for line in lines[:_DIFF_LINES]]
    more = [f"… {len(lines) - _DIFF_LINES} more lines"] if len(lines) > _DIFF_LINES else []
    return Redactor().text("\n".join([*shown, *more]))


def _lines(message: Mapping[str, Any] | None) -> list[str]:
    if message is None:
        return []
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    functions = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    calls = [f"{function.get('name')} {function.get('arguments')}" for function in functions]
    return [*text[:65_536].splitlines()[:2_000], *calls]
