"""The notebook kernel: Jupyter's messages in, the cell language out; it holds no truth.

Cells that are not Python run as one asyncio.Task on the main thread's loop, so widgets, completion and a
reloading tab are answered while an agent works, and an interrupt ends the cell at once.
"""

# ipykernel is annotated in part only.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from traitlets import List, Type

from agentos_jupyter import __version__
from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.jupyter import completion, manual
from agentos_jupyter.jupyter.cells import Cell, Command, Python, classify
from agentos_jupyter.jupyter.desk import Desk
from agentos_jupyter.jupyter.display import Screen
from agentos_jupyter.jupyter.failures import described
from agentos_jupyter.jupyter.port import KernelPort
from agentos_jupyter.jupyter.runner import Answer, CellRun, Client
from agentos_jupyter.jupyter.shell import AgentOSShell, body_of

_ANSWERED_WHILE_BUSY = {
    "complete_request",
    "inspect_request",
    "is_complete_request",
    "history_request",
    "kernel_info_request",
    "comm_info_request",
}


class AgentOSKernel(IPythonKernel):
    """IPython's kernel with another language; `%%python` cells are IPython's own."""

    implementation = "agentos"
    implementation_version = __version__
    language_info = {  # noqa: RUF012 - the name and kind are ipykernel's
        "name": "agentos",
        "version": __version__,
        "mimetype": "text/x-agentos",
        "file_extension": ".aos",
        "codemirror_mode": "agentos",
        "pygments_lexer": "text",
        "nbconvert_exporter": "script",
    }
    help_links = List([{"text": "AgentOS for Jupyter", "url": "https://github.com/agentos-jupyter/agentos-jupyter"}])
    shell_class = Type(AgentOSShell)

    def __init__(self, **kwargs: Any) -> None:
        self.desk = Desk()
        AgentOSShell.hidden = {"aos": self.desk.client}
        super().__init__(**kwargs)
        self._running: set[asyncio.Task[Any]] = set()
        self._python = False
        self._working: dict[str, Any] = {}
        """The request of the cell that runs on the main shell."""

    @property
    def banner(self) -> str:  # type: ignore[override]
        return (
            f"AgentOS for Jupyter {__version__} in {self.desk.place()}\n"
            "Write what you want, and an agent does it; ? shows the commands."
        )

    @property
    def python(self) -> Any:
        """The shell of Python cells; execution count, history and variables of all cells are its."""
        return self.shell

    @property
    def main_loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self.io_loop.asyncio_loop  # type: ignore[attr-defined]
        return loop

    # -- start and end

    async def kernel_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        await super().kernel_info_request(stream, ident, parent)
        self.io_loop.add_callback(self.desk.begin)  # this may be the control thread

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        closing = asyncio.run_coroutine_threadsafe(self._close(), self.main_loop)
        try:
            await asyncio.wait_for(asyncio.wrap_future(closing), 5)
        except TimeoutError:
            self.log.warning("the cell did not end within 5 s")
        result: dict[str, Any] = super().do_shutdown(restart)
        return result

    async def _close(self) -> None:
        self._cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self.desk.aclose()

    # -- execution

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool = False,
        *,
        cell_meta: Mapping[str, Any] | None = None,
        cell_id: str | None = None,
    ) -> dict[str, Any]:
        """Run a cell. A silent one is Python and nothing else: it never reaches a model."""
        cells: tuple[Cell, ...] = ()
        failure: AgentOSError | None = None
        if not silent:
            try:
                cells = classify(code)
            except AgentOSError as error:
                failure = error
        if silent or (cells and isinstance(cells[0], Python)):
            return await self._python_cell(
                code, silent, store_history, user_expressions, allow_stdin, cell_meta, cell_id
            )

        count = self.python.execution_count
        if store_history and code.strip():
            self.python.history_manager.store_inputs(count, code, code)
            self.python.execution_count += 1
        widgets = allow_stdin and cell_id is not None
        client = Client(self._notebook(), cell_id, count, batch=not allow_stdin, widgets=widgets)
        outcome: Answer | BaseException | None = failure or await self._cells(code, cells, client)
        reply = self._finish(outcome, count, store_history)
        reply["execution_count"] = count
        reply["user_expressions"] = (
            self.python.user_expressions(user_expressions or {}) if reply["status"] == "ok" else {}
        )
        reply["payload"] = self.python.payload_manager.read_payload()
        self.python.payload_manager.clear_payload()
        return reply

    async def _python_cell(
        self, code: str, silent: bool, store: bool, expressions: Any, stdin: bool, meta: Any, cell_id: str | None
    ) -> dict[str, Any]:
        self._python = True
        count = self.python.execution_count
        try:
            reply: dict[str, Any] = await super().do_execute(
                code, silent, store, expressions, stdin, cell_meta=meta, cell_id=cell_id
            )
        except KeyboardInterrupt as interrupt:  # it came just before or after the code itself: IPython lets it pass
            reply = {**self._finish(interrupt, count, store), "execution_count": count, "payload": []}
        finally:
            self._python = False
        return reply

    async def _cells(self, code: str, cells: tuple[Cell, ...], client: Client) -> Answer | BaseException | None:
        """The last answer of the cell, or what ended it; the displays are complete when this returns."""
        port = KernelPort(self)
        live, ask = client.batch or client.cell_id is not None, None if client.batch else port.ask
        screen = Screen(port, f"aos-{uuid.uuid4().hex[:12]}", live, ask)
        run = CellRun(self.desk, screen, client, self.python.user_ns, code)
        if threading.current_thread() is threading.main_thread():
            self._working = self._working if self._running else self.get_parent("shell")
            with nullcontext() if self._running else self._sigint_cancels():
                outcome = await self._wait(run, cells)
        else:  # a subshell: the cell works on the main loop, beside what runs there
            work = asyncio.run_coroutine_threadsafe(self._wait(run, cells), self.main_loop)
            outcome = await asyncio.wrap_future(work)
        if isinstance(outcome, BaseException) and screen.metadata:
            port.show({"text/plain": ""}, {"agentos": screen.metadata}, uuid.uuid4().hex, update=False)
        return outcome

    async def _wait(self, run: CellRun, cells: tuple[Cell, ...]) -> Answer | BaseException | None:
        task = asyncio.ensure_future(run.all(cells))
        self._running.add(task)
        try:
            await asyncio.wait([task])
        finally:
            self._running.discard(task)
            run.screen.draw()
        if task.cancelled():
            return KeyboardInterrupt()
        return task.exception() or task.result()

    @contextmanager
    def _sigint_cancels(self) -> Iterator[None]:
        """SIGINT ends the cell. The loop's own handler is used: it wakes the loop whichever thread got the signal."""
        before = signal.getsignal(signal.SIGINT)
        self.main_loop.add_signal_handler(signal.SIGINT, self._cancel)
        try:
            yield
        finally:
            self.main_loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)

    def _cancel(self) -> None:
        for task in self._running:
            task.cancel()

    def _finish(self, outcome: Answer | BaseException | None, count: int, store: bool) -> dict[str, Any]:
        """Publish the answer or the error of a cell; the reply says the same."""
        if isinstance(outcome, BaseException):
            content = described(outcome)
            self._publish("error", content)
            return {"status": "error", **content}
        if outcome is not None:
            metadata = {"agentos": outcome.metadata} if outcome.metadata else {}
            self._publish("execute_result", {"execution_count": count, "data": outcome.data, "metadata": metadata})
            if store:
                self._keep(outcome.value, count)
        return {"status": "ok"}

    def _keep(self, value: Any, count: int) -> None:
        """Make it `_` and `Out[count]`; a cell that ran beside may have counted on."""
        now, self.python.execution_count = self.python.execution_count, count + 1
        self.python.displayhook.update_user_ns(value)
        self.python.execution_count = now

    def _publish(self, kind: str, content: dict[str, Any]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.send_response(self.iopub_socket, kind, content, ident=self._topic(kind), channel="shell")

    def _notebook(self) -> str | None:
        return os.environ.get("JPY_SESSION_NAME") or None

    # -- interrupts

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Runs on the control thread: end the cell at once, wherever it is."""
        if self._running:
            self.main_loop.call_soon_threadsafe(self._cancel)
        elif self._python:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert self.session is not None
        self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    # -- what is answered while a cell works

    async def shell_main(self, subshell_id: str | None, msg: Any) -> None:
        """ipykernel answers comms beside a running cell; with an agent at work the questions of a front end, too."""
        if subshell_id is None and self._running:
            assert self.session is not None
            _, frames = self.session.feed_identities(msg, copy=False)
            request = self.session.deserialize(frames, content=False, copy=False)
            kind = request["header"]["msg_type"]
            if kind in _ANSWERED_WHILE_BUSY or (kind == "execute_request" and self._is_about_running(request)):
                await asyncio.create_task(self._beside(msg, request))
                return
        await super().shell_main(subshell_id, msg)

    def _is_about_running(self, request: Any) -> bool:
        """Whether a cell names the dispatch at work here by its whole id: nobody can have written that before it began,
        so the cell is meant now (a reloaded tab attaches itself, a person steers) and not after the running one."""
        running = self.desk.running
        if running is None:
            return False
        try:
            cells = classify(self.session.unpack(bytes(request["content"]))["code"])  # type: ignore[union-attr]
        except (AgentOSError, KeyError, ValueError):
            return False
        return len(cells) == 1 and isinstance(cells[0], Command) and cells[0].names(running)

    async def _beside(self, msg: Any, request: Any) -> None:
        busy, ident = self.get_parent("shell"), self._get_shell_context_var(self._shell_parent_ident)
        self._publish_status("busy", "shell", parent=request)
        try:
            await self.dispatch_shell(msg, concurrent=True)
        finally:
            self.set_parent(ident, busy, channel="shell")
            self._publish_status("idle", "shell", parent=request)

    def _publish_status(self, status: str, channel: str, parent: Any = None) -> None:
        """An answer beside a running cell, from whichever thread, ends with `idle`; front ends believe the last they hear."""
        super()._publish_status(status, channel, parent)
        if status == "idle" and self._running:
            self.main_loop.call_soon_threadsafe(self._still_busy)

    def _still_busy(self) -> None:
        if self._running:
            super()._publish_status("busy", "shell", self._working)

    # -- questions of a front end

    async def do_complete(self, code: str, cursor_pos: int | None) -> dict[str, Any]:
        position = len(code) if cursor_pos is None else cursor_pos
        if (start := completion.python_start(code)) is not None and position >= start:
            return completion.shifted(super().do_complete(code[start:], position - start), start)
        start, matches = await completion.complete(code, position, self.desk, self.python.user_ns)
        return {"status": "ok", "matches": matches, "cursor_start": start, "cursor_end": position, "metadata": {}}

    async def do_inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()
    ) -> dict[str, Any]:
        if (start := completion.python_start(code)) is not None and cursor_pos >= start:
            reply: dict[str, Any] = super().do_inspect(code[start:], cursor_pos - start, detail_level, omit_sections)
            return reply
        text = manual.at(code, cursor_pos)
        return {"status": "ok", "found": text is not None, "data": {"text/plain": text} if text else {}, "metadata": {}}

    async def do_history(
        self, hist_access_type: str, output: bool, raw: bool, session: int | None = 0, *args: Any, **which: Any
    ) -> dict[str, Any]:
        """IPython calls the running session 0 in a range; a front end that asked for its number gets the number."""
        reply: dict[str, Any] = super().do_history(hist_access_type, output, raw, session or 0, *args, **which)
        if hist_access_type == "range" and session:
            reply["history"] = [(number or session, *rest) for number, *rest in reply["history"]]
        return reply

    async def do_is_complete(self, code: str) -> dict[str, Any]:
        """A line is complete; a cell that begins with %% goes on until a blank line, Python until it is whole."""
        text = code.strip()
        if not text.startswith("%%"):
            return {"status": "incomplete", "indent": ""} if text.endswith("\\") else {"status": "complete"}
        if code.endswith("\n") and "\n" in text:
            reply: dict[str, Any] = (
                super().do_is_complete(body_of(code)) if completion.python_start(code) else {"status": "complete"}
            )
            return reply
        return {"status": "incomplete", "indent": ""}
