"""What a front end feels: Tab while an agent works, `%attach` to a long run, and the bytes that a long answer sends."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

import yaml

from tests.bench.common import LIMITS, private, server, table, workspace
from tests.bench.notebooks import Notebook, notebook, offer_kernelspec
from tests.filled import fill

TURNS = 200
SESSIONS, FILES = 1000, 500
KINDS = {
    "commands": "%ses",
    "sessions": "%session resume na",
    "dispatches": "%attach d-",
    "models": "%model scr",
    "skills": "%skill ao",
    "agents": "%agent ",
    "options": "%%agent sch",
    "files": "!ls fi",
    "files of `files=`": "%%agent files=fi",
}
WORK = "sleep 600"
ANSWER = "word " * 7_000


def measure(rounds: int = 15) -> str:
    with private() as base:
        offer_kernelspec(base)
        return "\n".join([_completion(base, rounds), _streamed(base), _attach(base)])


def _scripted(folder: Path, rules: list[dict[str, Any]]) -> None:
    (folder / "model.yaml").write_text(yaml.safe_dump({"rules": rules}))
    (folder / "agentos.yaml").write_text(f"{LIMITS}model: scripted:{folder / 'model.yaml'}\n")


def _completion(base: Path, rounds: int) -> str:
    """Every kind, in a workspace with many sessions and files, while the agent of this notebook works."""
    with workspace(base) as folder:
        asyncio.run(fill(folder, SESSIONS))
        _scripted(folder, [{"calls": [{"bash": {"command": WORK}}]}])
        for number in range(FILES):
            (folder / f"file-{number}").touch()
        with notebook("agentos", folder) as opened:
            request = opened.client.execute("work")
            time.sleep(3)
            took = {kind: [_tab(opened, code) for _ in range(rounds)] for kind, code in KINDS.items()}
            opened.client.session.send(opened.client.control_channel.socket, "interrupt_request", {})
            opened.client._recv_reply(request, timeout=30)
    rows = [[kind, statistics.median(found), max(found)] for kind, found in took.items()]
    whole = [each for found in took.values() for each in found]
    rows.append(["**all**", statistics.median(whole), max(whole)])
    title = f"Tab while the agent works, {SESSIONS} sessions and {FILES} files, names stale, ms"
    return table(title, ["", "median", "slowest"], rows)


def _tab(opened: Notebook, code: str) -> float:
    time.sleep(0.3)  # as a person types; names grow stale in between
    began = time.perf_counter()
    reply = opened.client.complete(code, reply=True, timeout=10)
    seconds = time.perf_counter() - began
    assert reply["content"]["status"] == "ok"
    return 1000 * seconds


def _run(opened: Notebook, code: str) -> tuple[float, int]:
    """Run a cell as JupyterLab does; seconds, and the bytes of its messages as a websocket carries them."""
    client, size, began = opened.client, 0, time.perf_counter()
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True}
    request = client.session.msg("execute_request", content, metadata={"cellId": "cell"})
    client.shell_channel.send(request)
    while True:
        message = client.get_iopub_msg(timeout=600)
        if message["parent_header"].get("msg_id") == request["header"]["msg_id"]:
            size += len(json.dumps(message, default=str))
            assert message["msg_type"] != "error", message["content"]
            if message["content"].get("execution_state") == "idle":
                return time.perf_counter() - began, size


def _attach(base: Path) -> str:
    """A run of many turns in a cell, then shown again from the log, thrice."""
    with (
        server() as asked,
        workspace(base, asked.base_url("a", f"each{TURNS}")) as folder,
        notebook("agentos", folder) as opened,
    ):
        live, told = _run(opened, "Work.")
        found = opened.client.execute_interactive(
            "", user_expressions={"id": "aos.dispatch['id']"}, output_hook=lambda message: None
        )
        dispatch = found["content"]["user_expressions"]["id"]["data"]["text/plain"].strip("'")
        again = [_run(opened, f"%attach {dispatch}") for _ in range(3)]
    rows = [
        ["the run itself in a cell, s", live],
        ["the same, kB sent to the front end", told / 1000],
        ["**`%attach` to it, s**", statistics.median(seconds for seconds, _ in again)],
        ["the same, kB sent to the front end", again[0][1] / 1000],
    ]
    return table(f"A run of {TURNS} turns in a notebook", ["", ""], rows)


def _streamed(base: Path) -> str:
    with workspace(base) as folder:
        _scripted(folder, [{"say": ANSWER, "delay": 0.003}])
        with notebook("agentos", folder) as opened:
            seconds, told = _run(opened, "tell me all")
    rows = [
        ["the answer, kB", len(ANSWER) / 1000],
        ["it streamed for, s", seconds],
        ["**kB sent to the front end**", told / 1000],
    ]
    return table("A long answer, streamed word by word", ["", ""], rows)
