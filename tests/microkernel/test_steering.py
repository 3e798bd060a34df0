"""What is said to a session at work enters between two turns; nothing that was taken is lost."""

from __future__ import annotations

from typing import Any

import pytest

from agentos_jupyter.errors import DispatchEnded
from tests.microkernel.conftest import key

RULES = [
    {"when": {"role": "user", "match": "^also (.+)"}, "say": "I do {1}, too."},
    {"when": {"role": "user", "match": "answer"}, "say": "The answer."},
    {"when": {"role": "tool"}, "say": "Done."},
    {"calls": [{"bash": {"command": "ls"}}]},
]


def history(desk: Any, session: str) -> list[tuple[str, str]]:
    events = desk.call("session.history", session=session)["events"]
    return [(each["type"], each["data"].get("text", "")) for each in events if each["type"].endswith(".message")]


def test_words_enter_before_the_next_turn(open_desk: Any) -> None:
    desk = open_desk(RULES)
    session = desk.session()
    began = desk.begin(session, "go")
    [call] = desk.complete(began, 1)["tool_calls"]
    steered = desk.call("session.steer", session=session, text="also sweep", key=key())
    assert steered == {"inbox": 1, "dispatch": began["dispatch"], "held": True}
    desk.result(began, call["id"])
    assert desk.complete(began, 2)["text"] == "I do sweep, too."
    assert history(desk, session)[-2] == ("user.message", "also sweep")


def test_words_that_come_while_the_answer_is_written_ask_for_a_further_turn(open_desk: Any) -> None:
    desk = open_desk([{"when": {"match": "^also"}, "say": "Both."}, {"say": "one two three", "delay": 0.2}])
    session = desk.session()
    began = desk.begin(session, "go")
    link = desk.connect()
    import threading

    replies: list[Any] = []
    asking = threading.Thread(target=lambda: replies.append(desk.complete(began, 1)))
    asking.start()
    link.call("session.steer", {"session": session, "text": "also this", "key": key()})
    asking.join()
    assert (replies[0]["text"], replies[0]["more"]) == ("one two three", True)
    assert (desk.complete(began, 2)["text"], desk.complete(began, 2)["more"]) == ("Both.", False)


def test_the_same_words_sent_twice_enter_once(open_desk: Any) -> None:
    desk = open_desk(RULES)
    session = desk.session()
    began = desk.begin(session, "go")
    desk.complete(began, 1)
    one = key()
    first = desk.call("session.steer", session=session, text="also sweep", key=one)
    assert desk.call("session.steer", session=session, text="also sweep", key=one) == first


@pytest.mark.parametrize("when", ["idle", "answered"])
def test_words_for_nobody_are_refused_with_the_cure(open_desk: Any, when: str) -> None:
    desk = open_desk(RULES)
    session = desk.session()
    if when == "answered":
        desk.complete(desk.begin(session, "answer me"), 1)
    with pytest.raises(DispatchEnded, match="write it as a prompt"):
        desk.call("session.steer", session=session, text="hello", key=key())


def test_words_that_were_not_heard_survive_a_restart_and_enter_with_the_next_dispatch(open_desk: Any) -> None:
    desk = open_desk(RULES)
    session = desk.session()
    began = desk.begin(session, "go")
    [call] = desk.complete(began, 1)["tool_calls"]
    desk.call("session.steer", session=session, text="also sweep", key=key())
    desk.result(began, call["id"])
    desk.end(began, "interrupted")
    desk.reopen()
    assert desk.complete(desk.begin(session, "again"), 1)["text"] == "I do sweep, too."
    assert history(desk, session)[-3:-1] == [("user.message", "again"), ("user.message", "also sweep")]


def test_a_secret_in_the_words_is_not_stored(open_desk: Any) -> None:
    desk = open_desk(RULES)
    session = desk.session()
    desk.complete(desk.begin(session, "go"), 1)
    secret = "sk-" + "a1B2" * 12
    desk.call("session.steer", session=session, text=f"use {secret}", key=key())
    events = desk.call("event.read", stream=f"inbox/{session}")["events"]
    assert secret not in str(events) and "use" in events[0]["data"]["text"]
