"""The frames both ends of a channel exchange: JSON-RPC 2.0, one JSON object a line, bounded.

Application errors travel as `{"code": -32000, "message": sentence, "data": {"code": "session.busy", …}}`:
the integer is what JSON-RPC asks for, the name in `data` is what programs should look at.
"""

from __future__ import annotations

import json
import re
from typing import Any

from agentos_jupyter.errors import BY_CODE, AgentOSError, BadFrame, FrameTooLarge, InternalError, RpcError

PROTOCOL = 1
"""Raised when a frame or a syscall changes in a way that an older peer would misread."""

MAX_FRAME = 4 * 1024 * 1024
"""Bytes in one line; larger values travel by `content.put`."""

MAX_DEPTH = 64
"""Nesting of one frame: deeper ones are refused before they are parsed."""

APPLICATION_ERROR = -32000

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)')
_BRACKETS = re.compile(rb"[{\[]+|[}\]]+")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def pack(message: dict[str, Any]) -> bytes:
    """One frame, newline included. Lone surrogates are replaced, because UTF-8 cannot carry them.

    Raises `FrameTooLarge`: the other side would close the channel.
    """
    frame = _encode(message).encode("utf-8", "replace") + b"\n"
    if len(frame) > MAX_FRAME:
        raise FrameTooLarge(
            f"A message of {len(frame)} bytes is longer than a frame may be ({MAX_FRAME}): put large values with content.put."
        )
    return frame


def unpack(line: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The object in one line; raises `BadFrame`."""
    if _too_deep(bytes(line)):
        raise BadFrame(f"A frame nests deeper than {MAX_DEPTH} levels; the channel is closed.")
    try:
        message = json.loads(bytes(line))
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"A frame is not JSON ({error}); the channel is closed.") from None
    if not isinstance(message, dict):
        raise BadFrame("A frame is not a JSON object; the channel is closed.")
    return message


def _too_deep(line: bytes) -> bool:
    """Whether a line nests deeper than MAX_DEPTH; brackets inside strings do not count."""
    if line.count(b"{") + line.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for run in _BRACKETS.findall(_STRINGS.sub(b"", line)):
        depth += len(run) if run[0] in b"{[" else -len(run)
        if depth > MAX_DEPTH:
            return True
    return False


def error_to_wire(error: BaseException) -> dict[str, Any]:
    """The error member for any exception; defects become `internal` with their type named."""
    if not isinstance(error, AgentOSError):
        error = InternalError(
            f"A defect in AgentOS: {type(error).__name__}: {error}. Please report it with the daemon's log."
        )
    return {"code": APPLICATION_ERROR, "message": error.message, "data": {"code": error.code, **error.data}}


def error_from_wire(error: Any) -> AgentOSError:
    """The exception that the other side raised; unknown names become plain `AgentOSError`s."""
    if not isinstance(error, dict):
        return RpcError("The other side answered with an error that is not an object.")
    data = error.get("data")
    data = dict(data) if isinstance(data, dict) else {}
    cls = BY_CODE.get(str(data.pop("code", "")), AgentOSError)
    more = {str(name): value for name, value in data.items() if name not in ("message", "self")}
    return cls(str(error.get("message", "unknown error")), **more)
