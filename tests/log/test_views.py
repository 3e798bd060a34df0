"""The views say what a person would: one dispatch from start to end, counted right."""

from __future__ import annotations

from typing import Any

from agentos_jupyter.log import Log
from agentos_jupyter.records import NewEvent

USAGE = {"input": 100, "output": 20, "cached": 5, "usd": 0.25}


def fact(type_: str, dispatch: str | None = "d1", /, **data: Any) -> NewEvent:
    return NewEvent(type_, data, "agent", dispatch)


async def table(log: Log, sql: str) -> list[dict[str, Any]]:
    answer = await log.query(sql, max_rows=100, max_bytes=1_000_000, seconds=5)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


async def fill(log: Log) -> None:
    await log.append(
        "session/one",
        "new",
        [
            fact("session.created", None, name="demo", workspace="/w", root="/w", notebook="a.ipynb"),
            fact("dispatch.started", kind="prompt", prompt="fix it", agent="main", epoch=1),
            fact("user.message", text="fix it"),
            fact("compute.attempt", turn=1, model="m", error="busy", code=429, seconds=0.1),
            fact("assistant.message", turn=1, text="looking", calls=[], model="m", scripted=False, usage=USAGE, seconds=1.5),
            fact("tool.call", id="call-1", turn=1, name="bash", arguments={"command": "ls"}, verdict="allow"),
            fact("tool.call", id="call-2", turn=1, name="bash", arguments={"command": "rm"}, verdict="reject", reason="no"),
            fact("tool.result", id="call-1", name="bash", status="unknown", text="?"),
            fact("dispatch.started", kind="prompt", agent="main", epoch=2, resumed=True),
            fact("tool.result.late", id="call-1", name="bash", status="ok", text="a.py", exit_code=0, seconds=0.2, total=4),
            fact("assistant.message", turn=2, text="done", calls=[], model="m2", scripted=True, usage=USAGE, seconds=2),
            fact("dispatch.ended", status="ok", answer="done", turns=2, calls=2, seconds=4.5, usage=USAGE),
            fact("dispatch.started", "d2", kind="person", prompt_ref="sha256:x", epoch=3),
        ],
    )  # fmt: skip
    await log.append("inbox/one", "new", [fact("user.message", None, text="not a session's")])


async def test_dispatches(log: Log) -> None:
    await fill(log)
    first, second = await table(log, "from dispatches order by started, dispatch")
    assert (first["session"], first["dispatch"], first["status"], first["kind"]) == ("one", "d1", "ok", "prompt")
    assert (first["prompt"], first["answer"], first["agent"]) == ("fix it", "done", "main")
    assert (first["turns"], first["calls"], first["seconds"], first["tokens"], first["usd"]) == (2, 2, 4.5, 240, 0.5)
    assert (first["model"], first["scripted"], first["error"]) == ("m2", True, None)
    assert first["started"] <= first["ended"]
    assert (second["status"], second["prompt"], second["ended"], second["turns"]) == ("running", "sha256:x", None, 0)
    assert (second["tokens"], second["usd"]) == (0, None)


async def test_tool_calls(log: Log) -> None:
    await fill(log)
    first, second = await table(log, "from tool_calls order by position")
    assert (first["session"], first["call"], first["name"], first["arguments"]) == ("one", "call-1", "bash", "ls")
    assert (first["status"], first["late"], first["verdict"]) == ("unknown", True, "allow")
    assert (second["verdict"], second["reason"], second["status"], second["late"]) == ("reject", "no", None, False)


async def test_sessions_costs_and_history(log: Log) -> None:
    await fill(log)
    [session] = await table(log, "from sessions")
    assert (session["session"], session["name"], session["notebook"], session["model"]) == (
        "one",
        "demo",
        "a.ipynb",
        "m2",
    )
    assert (session["dispatches"], session["turns"], session["calls"], session["events"]) == (2, 2, 2, 13)
    assert (session["tokens"], session["usd"]) == (240, 0.5)
    costs = await table(log, "from costs order by position")
    assert [(cost["model"], cost["scripted"], cost["input"], cost["usd"]) for cost in costs] == [
        ("m", False, 100, 0.25),
        ("m2", True, 100, 0.25),
    ]
    history = await table(log, "from history where session = 'one' order by seq")
    assert [row["seq"] for row in history] == list(range(1, 14))
    assert [row["text"] for row in history][:7] == ["demo", "fix it", "fix it", "busy", "looking", "ls", "rm"]


async def test_events_with_other_shapes_break_no_view(log: Log) -> None:
    await log.append(
        "session/odd",
        "new",
        [
            fact("session.created"), fact("dispatch.started", kind=[1], prompt={"a": 1}), fact("assistant.message", usage="none", turn="x"),
            fact("assistant.message", usage={"input": "many", "usd": "free"}, seconds=None), fact("tool.call", id=3, arguments=[1]),
            fact("tool.result", id=3, exit_code="zero", seconds="long", total={}), fact("dispatch.ended", seconds="x", status=None),
        ],
    )  # fmt: skip
    for view in ("sessions", "history", "tool_calls", "dispatches", "costs"):
        assert await table(log, f"from {view}"), view
