"""Sessions: names, ids, and that memory is never more than what the log says."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from agentos_jupyter.errors import InvalidParams, SessionNotFound
from agentos_jupyter.microkernel import kernel as module

BASH = {"when": {"role": "user"}, "say": "I look.", "calls": [{"bash": {"command": "ls"}}]}
DONE = {"when": {"role": "tool"}, "say": "Seen."}


def test_a_session_is_found_by_id_by_the_beginning_of_its_id_and_by_name(open_desk: Any) -> None:
    desk = open_desk()
    session = desk.session(name="my work")
    for ref in (session, session[:-1], session[:8], "my work"):
        assert desk.call("session.get", session=ref)["id"] == session


def test_the_newest_session_of_a_name_is_meant_whichever_was_used_last(open_desk: Any) -> None:
    desk = open_desk()
    first = desk.session(name="it's")
    second = desk.session(name="it's")
    desk.call("session.get", session=first)
    assert desk.call("session.get", session="it's")["id"] == second
    desk.reopen()
    desk.call("session.get", session=first)
    assert desk.call("session.get", session="it's")["id"] == second


def test_a_renamed_session_is_found_by_its_new_name_only(open_desk: Any) -> None:
    desk = open_desk()
    session = desk.session(name="old")
    desk.call("session.update", session=session, name="new")
    assert desk.call("session.get", session="new")["id"] == session
    with pytest.raises(SessionNotFound):
        desk.call("session.get", session="old")
    desk.reopen()
    assert desk.call("session.get", session="new")["id"] == session


def test_an_ambiguous_beginning_lists_the_sessions_it_begins(open_desk: Any) -> None:
    desk = open_desk()
    ids = {desk.session() for _ in range(3)}
    with pytest.raises(SessionNotFound, match=r"begins 3 session ids") as error:
        desk.call("session.get", session="s-1")
    assert all(session in error.value.message for session in ids)


@pytest.mark.parametrize(
    "ref", ["", "nobody", "s-", "s-zzzz", "'; drop table events; --", "session/x", "a\x00b", "é" * 500]
)
def test_an_unknown_session_is_a_sentence_with_the_cure(open_desk: Any, ref: str) -> None:
    with pytest.raises(SessionNotFound, match=r"%session list"):
        open_desk().call("session.get", session=ref)


def test_a_session_without_a_name_is_named_after_the_workspace(open_desk: Any) -> None:
    desk = open_desk()
    assert desk.call("session.get", session=desk.session())["name"] == desk.workspace.name


def test_creating_twice_with_one_key_makes_one_session_even_across_a_restart(open_desk: Any) -> None:
    desk = open_desk()
    first = desk.call("session.create", key="same-key", name="a")
    assert desk.call("session.create", key="same-key", name="a") == first
    desk.reopen()
    assert desk.call("session.create", key="same-key", name="a") == first
    assert desk.call("session.create", key="other-key", name="a")["id"] != first["id"]
    assert len(desk.call("session.list")["sessions"]) == 2


def test_twenty_repeats_of_one_create_at_once_make_one_session(open_desk: Any) -> None:
    desk = open_desk()

    async def many() -> set[str]:
        link = desk.kernel.link()
        made = await asyncio.gather(*(link.client.session.create(key="same-key") for _ in range(20)))
        return {each["id"] for each in made}

    assert len(desk.kernel.run(many())) == 1


def test_an_update_of_nothing_is_refused(open_desk: Any) -> None:
    desk = open_desk()
    with pytest.raises(InvalidParams, match="needs a name, a model or limits"):
        desk.call("session.update", session=desk.session())


def _state(desk: Any, session: str) -> dict[str, Any]:
    calls = ("session.get", "context.get", "context.explain", "session.history")
    state = {method: json.dumps(desk.call(method, session=session)) for method in calls}
    state["dispatches"] = json.dumps(desk.call("dispatch.list", session=session))
    return state


def test_what_is_folded_after_a_restart_equals_what_was_known_before(open_desk: Any) -> None:
    desk = open_desk(rules=[BASH, DONE])
    session = desk.session(name="x", notebook="a.ipynb")
    (desk.workspace / "AGENTS.md").write_text("Be short. ü\U0001f600")
    for number in range(3):
        desk.prompt(session, f"do it {number} " + "words " * 300, answers="line\n" * 200)
    desk.call("session.update", session=session, name="y")
    began = desk.begin(session, "ls", kind="person")
    handle = {"dispatch": began["dispatch"], "epoch": began["epoch"]}
    call = desk.call("tool.begin", **handle, name="bash", arguments={"command": "ls"}, key="k" * 8)
    desk.result(began, call["id"], "a b")
    desk.end(began, changed={"created": ["a"], "modified": [], "deleted": [], "more": 0})
    before, raw = _state(desk, session), desk.raw_context(session)
    desk.reopen()
    assert _state(desk, session) == before
    assert desk.raw_context(session) == raw


def test_sessions_beyond_the_memory_for_idle_ones_are_folded_again_when_asked(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "ok"}])
    first = desk.session(name="first")
    desk.prompt(first, "hello")
    before = _state(desk, first)

    async def many() -> int:
        link = desk.kernel.link()
        await asyncio.gather(
            *(link.client.session.create(key=f"key-number-{n}") for n in range(module.IDLE_SESSIONS + 20))
        )
        return len(desk.kernel._kernel.live())

    assert desk.kernel.run(many()) <= module.IDLE_SESSIONS + 1
    assert first not in [each.id for each in desk.kernel._kernel.live()]
    assert _state(desk, first) == before
    desk.prompt(first, "again")
    assert desk.call("session.get", session=first)["dispatches"] == 2


def test_a_session_at_work_is_never_unloaded(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "ok"}])
    session = desk.session()
    began = desk.begin(session)
    for _ in range(module.IDLE_SESSIONS + 5):
        desk.session()
    assert desk.complete(began, 1)["text"] == "ok"
    assert desk.end(began)["status"] == "ok"


def test_sessions_are_listed_newest_first_from_memory_and_log_alike(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "ok"}])
    ids = [desk.session(name=f"n{n}") for n in range(4)]
    desk.prompt(ids[1])
    listed = desk.call("session.list")["sessions"]
    assert [each["id"] for each in listed] == sorted(ids, reverse=True)
    desk.reopen()
    assert desk.call("session.list")["sessions"] == listed
    assert len(desk.call("session.list", limit=2)["sessions"]) == 2


def test_history_is_paged_and_never_longer_than_a_frame(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "ok"}], limits={"window": "4M"})
    session = desk.session()
    for _ in range(6):
        desk.prompt(session, "x" * 450_000)
    link = desk.connect()
    after, seen = 0, []
    while events := link.call("session.history", {"session": session, "after": after, "limit": 10_000})["events"]:
        seen += [each["version"] for each in events]
        after = seen[-1]
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == 1 + 6 * 4 + 1
    assert len(link.call("dispatch.list", {"session": session})["dispatches"]) == 6


def test_a_subscriber_sees_everything_from_any_position_once_and_in_order(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "ok"}], limits={"window": "4M"})
    session = desk.session()
    for _ in range(3):
        desk.prompt(session, "x" * 300_000)
    seen: list[dict[str, Any]] = []

    async def follow(after: int, upto: int) -> None:
        done = asyncio.Event()

        def hear(data: dict[str, Any]) -> None:
            seen.extend(data["events"])
            if seen[-1]["position"] >= upto:
                done.set()

        link = desk.kernel.link()
        task = asyncio.create_task(link.client.event.subscribe(after=after, prefix="session/", on_stream=hear))
        await asyncio.wait_for(done.wait(), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    upto = desk.call("system.info")["position"]
    later = threading.Timer(0.2, lambda: desk.session())
    later.start()
    desk.kernel.run(follow(3, upto + 1))
    later.join()
    assert [each["position"] for each in seen] == list(range(4, upto + 2))


def test_a_session_verifies_its_own_digests(open_desk: Any) -> None:
    desk = open_desk()
    session = desk.session(name="honest")
    for _ in range(3):
        desk.call("session.update", session=session, name="renamed")
    assert desk.call("session.verify", session=session) == {"events": 4}
