"""A hundred notebooks opened at once share one daemon, and each gets its answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from jupyter_client.manager import AsyncKernelManager

KERNELS = 100


async def _open(workspace: Path, number: int) -> tuple[AsyncKernelManager, str]:
    """Start a kernel, ask it for one answer; the answer."""
    # Over TCP, Jupyter itself loses some of a hundred: a port that was free is taken before the kernel binds it.
    manager = AsyncKernelManager(kernel_name="agentos", transport="ipc", ip=str(workspace.parent / f"k{number}"))
    environ = {**os.environ, "AGENTOS_WORKSPACE": str(workspace), "OMP_NUM_THREADS": "1"}
    await manager.start_kernel(cwd=str(workspace), env=environ)
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=240)
    answers: list[str] = []

    def seen(message: dict[str, dict[str, dict[str, str]]]) -> None:
        if message["msg_type"] == "execute_result":  # type: ignore[comparison-overlap]
            answers.append(message["content"]["data"]["text/plain"])

    reply = await client.execute_interactive(f"I am {number}", output_hook=seen, timeout=240, allow_stdin=False)
    client.stop_channels()
    return manager, answers[0] if answers else str(reply["content"])


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_hundred_kernels_start_at_once(
    workspace: Path, configure: Callable[..., Path], script: Callable[..., str]
) -> None:
    configure(model=script([{"when": {"match": "I am (.+)"}, "say": "Hello {1}."}]))
    opened = await asyncio.gather(*(_open(workspace, number) for number in range(KERNELS)), return_exceptions=True)
    managers = [each[0] for each in opened if isinstance(each, tuple)]
    try:
        assert [each for each in opened if isinstance(each, BaseException)] == []
        answers = [each[1] for each in opened if isinstance(each, tuple)]
        assert [answer.split(".")[0] for answer in answers] == [f"Hello {number}" for number in range(KERNELS)]
    finally:
        await asyncio.gather(*(manager.shutdown_kernel(now=True) for manager in managers))
    log = (workspace / ".agentos" / "daemon.log").read_text()
    assert log.count("ready") == 1
