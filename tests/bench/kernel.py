"""Cold start of the notebook kernel to its first answer, alternating with ipykernel's, and its memory before widgets."""

from __future__ import annotations

import statistics
import time

from agentos_jupyter.cli.stop import stop
from tests.bench.common import memory, private, server, table, workspace
from tests.bench.notebooks import notebook, offer_kernelspec


def measure(times: int = 9) -> str:
    seconds: dict[str, list[float]] = {"agentos": [], "python3": []}
    sizes: dict[str, list[dict[str, float]]] = {"agentos": [], "python3": [], "after": []}
    with private() as base, server() as asked:
        offer_kernelspec(base)
        for number in range(times):
            with workspace(base, asked.base_url(f"k{number}", 3)) as folder:
                for kernel in ("agentos", "python3"):
                    with notebook(kernel, folder) as opened:
                        seconds[kernel].append(opened.seconds)
                        time.sleep(1.5)
                        sizes[kernel].append(memory(opened.pid))
                        if kernel == "agentos":
                            opened.run("Work.")
                            sizes["after"].append(memory(opened.pid))
                    stop(folder)
    ours, theirs = (statistics.median(seconds[kernel]) for kernel in ("agentos", "python3"))
    fastest = [min(seconds[kernel]) for kernel in ("agentos", "python3")]
    starts = [
        ["ipykernel (python3)", theirs, fastest[1]],
        ["**AgentOS kernel**", ours, fastest[0]],
        ["AgentOS ÷ ipykernel", ours / theirs, fastest[0] / fastest[1]],
    ]
    names = {
        "python3": "ipykernel, ready",
        "agentos": "AgentOS kernel, ready",
        "after": "AgentOS kernel, after its first prompt",
    }
    rows = [
        [name, *(statistics.median(each[kind] for each in sizes[key]) for kind in ("rss", "pss"))]
        for key, name in names.items()
    ]
    return "\n".join(
        [
            table("Notebook kernel, cold start to ready, s", ["", "median", "fastest"], starts),
            table("Notebook kernel, memory before widgets", ["", "RSS MB", "PSS MB"], rows),
        ]
    )
