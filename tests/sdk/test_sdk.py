"""The skill SDK: one decorated function, handlers as people write them, on a real channel in a real process."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.sdk import aos_sdk

SDK = Path(aos_sdk.__file__)


class Channel:
    """The microkernel's end: what a service said at first, and questions to it."""

    def __init__(self, path: Path) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._lines = ours.makefile("rb")
        environ = {"AOS_CHANNEL": str(theirs.fileno()), "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(SDK), str(path)],
            env=environ,
            pass_fds=(theirs.fileno(),),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        theirs.close()
        ours.settimeout(10)
        self.printed: str | None = None
        self.registered = self._read()

    def _read(self) -> Any:
        line = self._lines.readline()
        return json.loads(line) if line else None

    def send(self, **message: Any) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def ask(self, hook: str = "tool.before", id: int = 7, given: Any = None, output: Any = None) -> dict[str, Any]:
        """The whole answer."""
        params = {"hook": hook, "input": given or {"i": 1}, "output": output if output is not None else {"o": 1}}
        self.send(id=id, method="hook.call", params=params)
        answer = self._read()
        assert answer["id"] == id
        return answer  # type: ignore[no-any-return]

    def end(self) -> str:
        """Close the channel; what the process printed."""
        self._lines.close()
        self._socket.close()
        if self.printed is None:
            self.printed = self.process.communicate(timeout=10)[0]
        return self.printed


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Channel]]:
    """Runs a service from its source."""
    running: list[Channel] = []

    def now(source: str, **files: str) -> Channel:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        (tmp_path / "service.py").write_text(textwrap.dedent(source))
        running.append(Channel(tmp_path / "service.py"))
        return running[-1]

    yield now
    for channel in running:
        channel.end()


def one(handler: str) -> str:
    """A service with one handler named `f`."""
    head = "import asyncio, functools\nfrom aos_sdk import define_service\n"
    tail = '\n@define_service\ndef service():\n    return {"hooks": {"tool.before": f}}\n'
    return head + textwrap.dedent(handler) + tail


def test_the_sdk_imports_nothing_but_the_standard_library() -> None:
    tree = ast.parse(SDK.read_text())
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]  # type: ignore[union-attr]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names <= set(sys.stdlib_module_names)


def test_a_service_registers_its_hooks_with_their_options(start: Any) -> None:
    channel = start("""
        from aos_sdk import define_service
        @define_service
        def service():
            def f(i, o): return o
            return {"hooks": {"tool.before": {"handler": f, "priority": 5, "when": {"tools": ["bash"]}}, "tool.after": f}}
    """)
    assert channel.registered["method"] == "register"
    options = {"priority": 5, "when": {"tools": ["bash"]}}
    assert channel.registered["params"] == {"hooks": {"tool.before": options, "tool.after": {}}}
    assert channel.ask("tool.after")["result"] == {"o": 1}


@pytest.mark.parametrize(
    ("handler", "result"),
    [
        ("def f(i, o): return [i, o]", [{"i": 1}, {"o": 1}]),
        ("def f(i): return i", {"i": 1}),
        ("def f(): return 'none'", "none"),
        ("def f(*all): return list(all)", [{"i": 1}, {"o": 1}]),
        ("def f(i, o, extra=3): return extra", 3),
        ("def f(i, o=None, *, key=4): return [o, key]", [{"o": 1}, 4]),
        ("async def f(i, o): await asyncio.sleep(0.01); return o", {"o": 1}),
        ("async def f(): return 'async'", "async"),
        ("f = lambda i, o: o", {"o": 1}),
        ("f = functools.partial(lambda a, i, o: [a, o], 9)", [9, {"o": 1}]),
        ("class C:\n    def __call__(self, i, o): return 'object'\nf = C()", "object"),
        ("class C:\n    def m(self, i): return i\nf = C().m", {"i": 1}),
        ("def f(i, o): print('noise'); return None", None),
        ("def f(i, o): o['o'] = 'ü \U0001f600'; return o", {"o": "ü \U0001f600"}),
    ],
)
def test_a_handler_may_be_written_as_people_write_functions(start: Any, handler: str, result: Any) -> None:
    channel = start(one(handler))
    for number in (1, 2):
        assert channel.ask(id=number)["result"] == result


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("def f(i, o): raise ValueError('broken')", "ValueError: broken"),
        ("async def f(i, o): raise ValueError('broken')", "ValueError: broken"),
        ("def f(i, o): return object()", "not JSON serializable"),
        ("def f(i, o): return {'n': float('nan')}", "not JSON compliant"),
        ("def f(i, o, more): return o", "missing 1 required positional argument"),
    ],
)
def test_a_handler_that_fails_is_an_error_with_its_name_and_the_service_lives_on(
    start: Any, handler: str, said: str
) -> None:
    channel = start(one(handler))
    for number in (1, 2):
        error = channel.ask(id=number)["error"]
        assert said in error["message"]
        assert error["data"]["code"] == "hook.failed"
    assert "Traceback" in channel.end()


def test_other_messages_are_ignored_and_the_end_of_the_channel_is_the_end(start: Any) -> None:
    channel = start(one("def f(i, o): return o"))
    channel.send(id=1, result={"skill": "x"})
    channel.send(method="something.new", params={})
    channel.send(id=3, method="other.call", params={})
    assert channel.ask()["result"] == {"o": 1}
    channel.end()
    assert channel.process.returncode == 0


def test_a_refused_registration_ends_the_service_with_the_sentence(start: Any) -> None:
    channel = start(one("def f(i, o): return o"))
    channel.send(id=1, error={"code": -32000, "message": "no hook named 'x'"})
    assert "registration refused: no hook named 'x'" in channel.end()
    assert channel.process.returncode == 1


def test_a_service_may_import_its_neighbours_and_define_dataclasses(start: Any) -> None:
    channel = start(
        """
        from __future__ import annotations
        import dataclasses, pickle
        from aos_sdk import define_service
        import neighbour

        @dataclasses.dataclass
        class Facts:
            name: str
            more: dataclasses.InitVar[int] = 1

        @define_service
        def service():
            def f(i, o):
                return [neighbour.VALUE, pickle.loads(pickle.dumps(Facts("n"))).name, __name__]
            return {"hooks": {"tool.before": f}}
        """,
        neighbour="VALUE = 3",
    )
    assert channel.ask()["result"] == [3, "n", "aos_service"]


@pytest.mark.parametrize("source", ["x = 1", one("f = 1") + one("f = 2")])
def test_a_file_must_define_exactly_one_service(start: Any, source: str) -> None:
    channel = start(source)
    assert channel.registered is None
    assert "exactly one function" in channel.end()
    assert channel.process.returncode == 1


def test_a_service_is_up_soon_and_small(start: Any) -> None:
    started = time.perf_counter()
    channel = start(one("def f(i, o): return o"))
    up = time.perf_counter() - started
    assert up < 1.0  # under 100 ms on a quiet machine; this one is shared
    status = Path(f"/proc/{channel.process.pid}/status").read_text()
    [resident] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert resident < 32_000
