"""Notebook kernels as a front end starts them, and what they answered."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager


class Cell:
    """What one execution answered: the reply, and the messages on iopub."""

    def __init__(self, reply: dict[str, Any], messages: list[dict[str, Any]]) -> None:
        self.reply, self.messages = reply["content"], messages

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [message["content"] for message in self.messages if message["msg_type"] in kinds]

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The displays as they stand in the end, in order, after redraws and cleared outputs."""
        outputs: dict[str, dict[str, Any]] = {}
        for message in self.messages:
            content = message["content"]
            if message["msg_type"] == "clear_output":
                outputs.clear()
            elif message["msg_type"] in ("display_data", "update_display_data"):
                outputs[content["transient"]["display_id"]] = content
        return list(outputs.values())

    @property
    def text(self) -> str:
        """All that is shown, as plain text."""
        parts = [each["data"]["text/plain"] for each in [*self.shown, *self.of("execute_result")]]
        return "\n".join([*(each["text"] for each in self.of("stream")), *parts])

    @property
    def html(self) -> str:
        return "\n".join(each["data"].get("text/html", "") for each in [*self.shown, *self.of("execute_result")])

    @property
    def answer(self) -> str:
        [result] = self.of("execute_result")
        return str(result["data"]["text/plain"])

    @property
    def error(self) -> tuple[str, str]:
        [error] = self.of("error")
        assert self.reply["status"] == "error"
        assert (self.reply["ename"], self.reply["evalue"]) == (error["ename"], error["evalue"])
        return error["ename"], error["evalue"]


class Notebook:
    """A notebook kernel and its client."""

    def __init__(self, workspace: Path, environ: dict[str, str], prefix: Sequence[str] = ()) -> None:
        # Sockets in the tests' own folder: a free port may be another test's by the time the kernel takes it.
        place = Path(os.environ["XDG_RUNTIME_DIR"]) / secrets.token_hex(4)
        self.manager = KernelManager(kernel_name="agentos", transport="ipc", ip=str(place))
        assert self.manager.kernel_spec is not None
        self.manager.kernel_spec.argv[:0] = prefix
        self.manager.start_kernel(cwd=str(workspace), env=environ)
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=30)

    def begin(self, code: str, cell_id: str | None = "cell-1", **options: Any) -> str:
        """Send a cell without waiting for it, as JupyterLab does; the id of the request."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": True,
            "stop_on_error": True,
            **options,
        }
        metadata = {"cellId": cell_id} if cell_id else {}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def end(self, request: str, timeout: float = 30) -> Cell:
        """Wait for a cell to end."""
        messages, deadline = [], time.monotonic() + timeout
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
            if message["msg_type"] not in ("status", "execute_input"):
                messages.append(message)
        return Cell(self.reply(request), messages)

    def reply(self, request: str, timeout: float = 30) -> dict[str, Any]:
        while True:
            reply: dict[str, Any] = self.client.get_shell_msg(timeout=timeout)
            if reply["parent_header"].get("msg_id") == request:
                return reply

    def run(self, code: str, timeout: float = 30, **options: Any) -> Cell:
        return self.end(self.begin(code, **options), timeout)

    def wait_for(self, request: str, text: str, timeout: float = 20) -> None:
        """Wait until a running cell shows this text."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=0.5)
            except Empty:
                continue
            if message["parent_header"].get("msg_id") == request and text in str(message["content"]):
                return
        raise AssertionError(f"{text!r} was not shown within {timeout} s")

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.is_alive():
            self.manager.shutdown_kernel()
        else:
            self.manager.cleanup_resources()


@pytest.fixture
def open_notebook(workspace: Path) -> Iterator[Callable[..., Notebook]]:
    """Opens notebooks in the test's workspace and closes them in the end: `open_notebook(NAME="value")`.

    `prefix` is a command that runs the kernel.
    """
    opened: list[Notebook] = []

    def start(folder: Path | None = None, prefix: Sequence[str] = (), **environ: str) -> Notebook:
        notebook = Notebook(folder or workspace, {**os.environ, "AGENTOS_WORKSPACE": str(workspace), **environ}, prefix)
        opened.append(notebook)
        return notebook

    yield start
    for notebook in opened:
        notebook.close()


@pytest.fixture
def notebook(open_notebook: Callable[..., Notebook]) -> Notebook:
    """One notebook in the test's workspace."""
    return open_notebook()
