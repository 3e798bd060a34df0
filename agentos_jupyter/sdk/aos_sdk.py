"""Write a skill service: one decorated function that returns its hooks. Standard library only.

    from aos_sdk import define_service

    @define_service
    def service():
        def guard(input_data, output_data):
            if "rm -rf /" in output_data["args"].get("command", ""):
                return {"verdict": "reject", "reason": "blocked: rm -rf /"}
            return output_data
        return {"hooks": {"tool.before": guard}}

A handler is called with two arguments, `input` (facts) and `output` (what it may change); fewer parameters
are accepted, and it may be a coroutine function. It returns `output`, `None` to go on, or a verdict:
`{"verdict": "reject", "reason": …}` or `{"verdict": "ask", "question": …}`.

A hook may be given as `{"handler": f, "priority": 50, "when": {"tools": ["bash"]}}` instead of `f`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import signal
import socket
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

__all__ = ["define_service"]

_services: list[Callable[[], dict[str, Any]]] = []


def define_service(function: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Mark the function that returns the service: `{"hooks": {name: handler}}`."""
    _services.append(function)
    return function


class _Hook:
    """One handler with its registration."""

    def __init__(self, entry: Any) -> None:
        options = dict(entry) if isinstance(entry, dict) else {"handler": entry}
        self.handler: Callable[..., Any] = options.pop("handler")
        self.options = options
        try:
            parameters = inspect.signature(self.handler).parameters.values()
        except (TypeError, ValueError):
            self.arity = 2
            return
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.arity = 2 if any(p.kind == p.VAR_POSITIONAL for p in parameters) else min(2, len(positional))

    def __call__(self, given: Any, output: Any) -> Any:
        answer = self.handler(*(given, output)[: self.arity])
        if inspect.isawaitable(answer):
            return _loop().run_until_complete(answer)
        return answer


_event_loop: asyncio.AbstractEventLoop | None = None


def _loop() -> asyncio.AbstractEventLoop:
    global _event_loop
    if _event_loop is None:
        _event_loop = asyncio.new_event_loop()
    return _event_loop


def _serve(service: dict[str, Any], channel: socket.socket) -> None:
    """Register, then answer calls one by one until the channel closes."""
    hooks = {name: _Hook(entry) for name, entry in service.get("hooks", {}).items()}

    def send(message: dict[str, Any]) -> None:
        text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False, allow_nan=False)
        channel.sendall(text.encode("utf-8", "replace") + b"\n")

    send({"id": 1, "method": "register", "params": {"hooks": {name: hook.options for name, hook in hooks.items()}}})
    for line in channel.makefile("rb"):
        message = json.loads(line)
        if message.get("id") == 1 and "error" in message:
            sys.exit(f"registration refused: {message['error']['message']}")
        if message.get("method") != "hook.call":
            continue
        params = message["params"]
        try:
            send({"id": message["id"], "result": hooks[params["hook"]](params["input"], params["output"])})
        except OSError:
            return  # nobody listens any more
        except Exception as error:
            traceback.print_exc()
            told = f"{type(error).__name__}: {error}"
            send({"id": message["id"], "error": {"code": -32000, "message": told, "data": {"code": "hook.failed"}}})


def _die_with_parent() -> None:
    """Have Linux end us with the daemon: one who is stopped does not see that its channel closed."""
    with contextlib.suppress(Exception):  # elsewhere the closed channel is all there is
        import ctypes

        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG


def _run(path: str) -> None:
    """Load the file and serve what it defined on the inherited channel `AOS_CHANNEL`."""
    folder = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, folder)
    _die_with_parent()
    sys.modules["aos_sdk"] = sys.modules["__main__"]
    with open(path, encoding="utf-8") as file:
        code = compile(file.read(), path, "exec")
    module = types.ModuleType("aos_service")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses, pickle and inspect look a class's module up by name
    exec(code, vars(module))
    if len(_services) != 1:
        sys.exit(f"{path} must decorate exactly one function with @define_service; it has {len(_services)}.")
    channel = socket.socket(fileno=int(os.environ.pop("AOS_CHANNEL")))
    _serve(_services[0](), channel)


if __name__ == "__main__":
    _run(sys.argv[1])
