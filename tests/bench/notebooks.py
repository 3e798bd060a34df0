"""Notebook kernels as a front end starts them, with the shipped kernelspec, installed or not."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.bench.common import REPOSITORY


def offer_kernelspec(base: Path) -> None:
    """Let Jupyter find the kernelspec of this source tree."""
    folder = base / "jupyter" / "kernels" / "agentos"
    shutil.copytree(REPOSITORY / "agentos_jupyter" / "kernelspec", folder, dirs_exist_ok=True)
    os.environ["JUPYTER_PATH"] = str(base / "jupyter")


@dataclass
class Notebook:
    """A kernel that is ready; `seconds` from its spawn to the answer of its first kernel_info_request."""

    client: BlockingKernelClient
    pid: int
    seconds: float

    def run(self, code: str) -> float:
        """Execute a cell and wait for its end; the monotonic time at which it was sent."""
        sent = time.monotonic()
        reply = self.client.execute_interactive(code, timeout=600, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok", reply["content"]
        return sent


@contextlib.contextmanager
def notebook(kernel: str, folder: Path) -> Iterator[Notebook]:
    """An open notebook; shut down at the end."""
    manager = KernelManager(kernel_name=kernel)
    began = time.perf_counter()
    manager.start_kernel(cwd=str(folder), stderr=subprocess.DEVNULL)
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        seconds = time.perf_counter() - began
        yield Notebook(client, manager.provisioner.process.pid, seconds)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
