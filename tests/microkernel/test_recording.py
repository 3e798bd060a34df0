"""Record a session from the log, and replay it by content."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.errors import ConfigError, ModelNotFound, ModelReplayMiss
from agentos_jupyter.models import Request
from agentos_jupyter.models.recording import Recording, Writer
from agentos_jupyter.models.replay import Player

RULES = [
    {"when": {"turn": 1}, "say": "I look.", "calls": [{"bash": {"command": "date"}}]},
    {"when": {"turn": 2}, "calls": [{"bash": {"command": "ls"}}, {"bash": {"command": "pwd"}}]},
    {"say": "Done."},
]
TOOLS = [{"name": "bash", "parameters": {"type": "object"}}]
FILE = "recordings/demo.jsonl"


def record(desk: Any, session: str, file: str = FILE) -> list[dict[str, Any]]:
    """The session's recording, written where `replay:` finds it."""
    lines: list[dict[str, Any]] = desk.call("session.record", session=session)["lines"]
    path = desk.workspace / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def prompt(desk: Any, session: str, text: str = "hi", results: str = "Tue Nov 24", **more: Any) -> dict[str, Any]:
    """A whole dispatch whose commands all print `results`; a call that brings its result is not run."""
    began = desk.begin(session, text, tools=TOOLS, **more)
    turn = 0
    try:
        while calls := desk.complete(began, turn := turn + 1)["tool_calls"]:
            for call in calls:
                desk.result(began, call["id"], call["recorded"]["text"] if call["recorded"] else results)
    except ModelReplayMiss:
        desk.end(began, "failed")
        raise
    return dict(desk.end(began))


@pytest.fixture
def recorded(open_desk: Any) -> Any:
    """A desk with one recorded session."""
    desk = open_desk(RULES)
    session = desk.session(name="first")
    assert prompt(desk, session)["answer"] == "Done."
    record(desk, session)
    return desk


def test_a_replay_gives_the_same_conversation_under_another_name(recorded: Any) -> None:
    session = recorded.session(model=f"replay:{FILE}")
    info = prompt(recorded, session)
    assert (info["answer"], info["turns"], info["calls"], info["scripted"]) == ("Done.", 3, 3, False)
    assert info["model"] == f"replay:{FILE}"
    assert info["usage"]["usd"] == 0.0
    first = recorded.call("session.get", session="first")["id"]
    assert recorded.raw_context(session) == recorded.raw_context(first)
    assert recorded.events(session, "assistant.message")[0]["data"]["served"].endswith("model.yaml")


def test_the_numbers_of_calls_are_no_part_of_what_is_compared(recorded: Any) -> None:
    session = recorded.session()
    recorded.prompt(session, "something before", "x")
    lines = record(recorded, session, "other.jsonl")
    fresh = recorded.session(model="replay:other.jsonl")
    began = recorded.begin(fresh, kind="person")
    recorded.call(
        "tool.begin", dispatch=began["dispatch"], epoch=began["epoch"], name="bash", arguments={}, key="k" * 8
    )
    recorded.end(began)
    assert [line["turn"] for line in lines if "turn" in line] == [1, 2, 3]
    with pytest.raises(ModelReplayMiss, match="message 1 "):  # what the person did is a message of its own
        prompt(recorded, fresh, "something before", "x")


def test_recording_the_same_session_twice_and_its_replay_gives_the_same_file(recorded: Any) -> None:
    first = recorded.call("session.get", session="first")["id"]
    again = recorded.session(model=f"replay:{FILE}", name="first")
    prompt(recorded, again)
    assert record(recorded, first) == record(recorded, first) == record(recorded, again)


def test_a_miss_names_the_first_message_that_diverged(recorded: Any) -> None:
    session = recorded.session(model=f"replay:{FILE}")
    with pytest.raises(ModelReplayMiss) as caught:
        prompt(recorded, session, results="Wed Nov 25")
    error = caught.value
    assert (error.data["turn"], error.data["index"], error.data["role"]) == (2, 3, "tool")
    assert "turn 2" in error.message
    assert "message 3 (tool) is the first that diverged" in error.message
    assert "-Tue Nov 24\n+Wed Nov 25" in error.message
    assert "?tools=recorded" in error.message
    assert not recorded.events(session, "compute.attempt")[1:]


def test_a_miss_of_another_prompt_shows_both_and_no_secret(recorded: Any) -> None:
    session = recorded.session(model=f"replay:{FILE}")
    with pytest.raises(ModelReplayMiss) as caught:
        prompt(recorded, session, "use ghp_" + "a1B2" * 10)
    assert "message 1 (user)" in caught.value.message
    assert "-hi" in caught.value.message
    assert "a1B2a1B2" not in caught.value.message


def test_a_conversation_that_goes_on_where_the_recording_ends_is_a_miss(recorded: Any) -> None:
    session = recorded.session(model=f"replay:{FILE}")
    prompt(recorded, session)
    with pytest.raises(ModelReplayMiss, match="only in what was asked"):
        prompt(recorded, session, "go on")


def test_other_tools_are_named_as_what_differs(recorded: Any) -> None:
    session = recorded.session(model=f"replay:{FILE}")
    with pytest.raises(ModelReplayMiss, match="but the tools of the request are not"):
        recorded.complete(recorded.begin(session, tools=[{"name": "other"}]), 1)


def test_recorded_tools_are_not_run_and_the_history_says_so(recorded: Any) -> None:
    session = recorded.session(model=f"replay:{FILE}?tools=recorded")
    began = recorded.begin(session, tools=TOOLS)
    [call] = recorded.complete(began, 1)["tool_calls"]
    assert (call["recorded"]["status"], call["recorded"]["text"]) == ("ok", "Tue Nov 24")
    recorded.result(began, call["id"], call["recorded"]["text"])
    [result] = recorded.events(session, "tool.result")
    assert result["data"]["replayed"] is True
    assert recorded.complete(began, 1 + 1)["turn"] == 2


def test_a_reply_that_was_lost_on_its_way_still_brings_what_was_recorded(recorded: Any) -> None:
    session = recorded.session(model=f"replay:{FILE}?tools=recorded")
    began = recorded.begin(session, tools=TOOLS)
    first = recorded.complete(began, 1)
    recorded.reopen()
    assert recorded.complete(began, 1)["tool_calls"] == first["tool_calls"]


def test_asked_the_same_several_times_a_session_gets_the_replies_in_turn() -> None:
    hello = b'{"role":"user","content":"hello"}'
    writer = Writer("two")
    for said in ("one", "two"):
        writer.turn([hello], [], "m", {}, {"text": said})
    player = Player(Recording("x", "\n".join(json.dumps(line) for line in writer.lines)))
    said = [player.find(Request([hello], who=who)).reply.text for who in ("a", "b", "a", "a")]
    assert said == ["one", "one", "two", "two"]


@pytest.mark.parametrize(
    "name", ["../x.jsonl", "/etc/passwd", "", ".agentos/log.duckdb", "no/such.jsonl", "link.jsonl", "in/x"]
)
def test_only_files_of_the_workspace_are_opened_and_no_link_is_followed(recorded: Any, name: str, base: Path) -> None:
    outside = base / "outside.jsonl"
    outside.write_text((recorded.workspace / FILE).read_text())
    (recorded.workspace / "link.jsonl").symlink_to(outside)
    (recorded.workspace / "in").symlink_to(recorded.workspace / "recordings")
    with pytest.raises(ModelNotFound, match=r"recording|workspace"):
        recorded.call("model.resolve", name=f"replay:{name}")


def test_a_pipe_and_a_file_too_large_are_refused(recorded: Any) -> None:
    os.mkfifo(recorded.workspace / "pipe")
    with pytest.raises(ModelNotFound, match="no file of at most"):
        recorded.call("model.resolve", name="replay:pipe")
    with (recorded.workspace / "large").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(ModelNotFound, match=r"limits\.recording"):
        recorded.call("model.resolve", name="replay:large")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("[]", 1),
        ('{"agentos_recording": 2}', 1),
        ('{"agentos_recording": 1}\n{"turn": 1}', 2),
        ('{"agentos_recording": 1}\nnull', 2),
        ('{"agentos_recording": 1}\n' + "[" * 100_000, 2),
        (
            '{"agentos_recording": 1}\n{"turn": 1, "model": "m", "keep": 9, "add": [], "tools": "x", "reply": {}}',
            2,
        ),
        (
            '{"agentos_recording": 1}\n{"turn": 1, "model": "m", "keep": 0, "add": ["x"], "tools": "x", "reply": {}}',
            2,
        ),
    ],
)
def test_what_is_no_recording_is_refused_with_file_and_line(recorded: Any, text: str, line: int) -> None:
    (recorded.workspace / "bad.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.jsonl:{line}:1: .*agentos record"):
        recorded.call("model.resolve", name="replay:bad.jsonl")


def test_an_unknown_option_is_refused(recorded: Any) -> None:
    with pytest.raises(ModelNotFound, match="tools=recorded"):
        recorded.call("model.resolve", name=f"replay:{FILE}?tools=real")


def test_a_long_session_is_recorded_page_by_page(open_desk: Any) -> None:
    recorded = open_desk(RULES, limits={"window": "10M"})
    session = recorded.session()
    prompt(recorded, session, results="x" * 900_000)
    page = recorded.call("session.record", session=session)
    lines, pages = list(page["lines"]), 1
    while page["next"] is not None:
        page = recorded.call("session.record", session=session, line=page["next"], until=page["until"])
        lines, pages = lines + page["lines"], pages + 1
    assert pages > 1
    assert [line["turn"] for line in lines if "turn" in line] == [1, 2, 3]
