"""Where the displays of a cell go: the front end of a kernel, or the terminal that IPython runs in."""

# ipykernel and IPython are annotated in part only.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import zmq
import zmq.asyncio

if TYPE_CHECKING:
    from ipykernel.ipkernel import IPythonKernel
    from IPython.core.interactiveshell import InteractiveShell


SETTLE = 0.05
"""Seconds between an output and a question: a console prints what it has when it is asked, and the rest after the answer."""


class KernelPort:
    """Displays of one cell: they belong to its request, whatever is answered in between."""

    def __init__(self, kernel: IPythonKernel) -> None:
        self._kernel = kernel
        self._parent = kernel.get_parent("shell")
        self._ident = kernel._get_shell_context_var(kernel._shell_parent_ident)
        assert kernel.session is not None
        self._session = kernel.session

    def show(self, data: Mapping[str, Any], metadata: Mapping[str, Any], display_id: str, update: bool) -> None:
        content = {"data": data, "metadata": metadata, "transient": {"display_id": display_id}}
        self._send("update_display_data" if update else "display_data", content)

    def clear(self) -> None:
        self._send("clear_output", {"wait": True})

    async def ask(self, question: str) -> str:
        """What the person writes; the loop goes on meanwhile, so an interrupt ends the wait and completion is answered."""
        socket = self._kernel.stdin_socket
        while socket.get(zmq.EVENTS) & zmq.POLLIN:
            socket.recv_multipart(zmq.NOBLOCK)  # an answer to a question that nobody waits for any more
        await self._sent()
        asked = {"prompt": f"{question}\n> ", "password": False}
        self._session.send(socket, "input_request", asked, self._parent, ident=self._ident)
        poller = zmq.asyncio.Poller()
        poller.register(socket, zmq.POLLIN)
        while True:
            await poller.poll()
            _, reply = self._session.recv(socket)
            if reply is not None and reply["msg_type"] == "input_reply":
                return str(reply["content"].get("value", ""))

    async def _sent(self) -> None:
        """What was shown so far has gone out, and had time to arrive: questions take another channel."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()
        self._kernel.iopub_thread.schedule(lambda: loop.call_soon_threadsafe(sent.set))
        await sent.wait()
        await asyncio.sleep(SETTLE)

    def _send(self, kind: str, content: dict[str, Any]) -> None:
        kernel = self._kernel
        self._session.send(kernel.iopub_socket, kind, content, self._parent, ident=kernel._topic(kind))


class ShellPort:
    """Displays of an IPython shell that has no kernel: a terminal prints their text."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    def show(self, data: Mapping[str, Any], metadata: Mapping[str, Any], display_id: str, update: bool) -> None:
        transient = {"display_id": display_id}
        self._shell.display_pub.publish(data, dict(metadata), transient=transient, update=update)

    def clear(self) -> None:
        self._shell.display_pub.clear_output(wait=True)
