"""A list of dispatches comes from the log, however many there are, and says what the sessions in memory say."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.errors import DispatchNotFound, SessionNotFound
from tests.filled import fill

RULES = [{"say": "Done."}]


def test_a_dispatch_is_listed_the_same_in_memory_and_from_the_log(open_desk: Any) -> None:
    desk = open_desk([{"say": "Done."}])
    one, two = desk.session(name="one"), desk.session(name="two")
    desk.prompt(one, "first")
    began = desk.begin(two, "second " + "long " * 1000)
    desk.complete(began, 1)
    desk.end(began, "failed", error={"code": "internal", "message": "broke"}, changed={"created": ["a"]})
    desk.prompt(one, "third")
    desk.prompt(two, "fourth")
    running = desk.begin(one, "fifth")
    before = desk.call("dispatch.list", limit=50)["dispatches"]
    assert [each["prompt"].split()[0] for each in before] == ["fifth", "fourth", "third", "second", "first"]
    desk.end(running)
    before = desk.call("dispatch.list", limit=50)["dispatches"]
    desk.reopen()
    after = desk.call("dispatch.list", limit=50)["dispatches"]
    for each in (*before, *after):
        each["prompt"], each["answer"] = each["prompt"][:500], each["answer"][:500]
    assert [each["started"][:22] for each in after] == [each["started"][:22] for each in before]
    for each in (*before, *after):
        del each["started"]
    assert after == before


def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one(open_desk: Any) -> None:
    desk = open_desk([{"say": "Done."}])
    session = desk.session(name="harbour")
    first, second = desk.prompt(session)["id"], desk.prompt(session)["id"]
    assert desk.call("dispatch.get", dispatch=second)["id"] == second
    with pytest.raises(DispatchNotFound, match=f"begins 2 dispatch ids .{first}, {second}.*write more"):
        desk.call("dispatch.get", dispatch=first[:-3])
    with pytest.raises(DispatchNotFound, match=r"did you mean 'd-.*-000[12]'"):
        desk.call("dispatch.get", dispatch=first.replace("0001", "0009"))
    for nothing in ("", "d-", "x", "s-"):
        with pytest.raises(DispatchNotFound, match="`%runs` lists"):
            desk.call("dispatch.get", dispatch=nothing)
    with pytest.raises(SessionNotFound, match=r"did you mean 'harbour'"):
        desk.call("session.get", session="harbor")


def test_a_thousand_dispatches_of_a_thousand_sessions_are_listed_without_loading_one(
    open_desk: Any, workspace: Path
) -> None:
    asyncio.run(fill(workspace, 1000))
    desk = open_desk(RULES)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        found = desk.call("dispatch.list", limit=50)["dispatches"]
        took.append(time.perf_counter() - began)
    assert len(found) == 50
    assert found[0]["usage"]["output"] == 4
    assert min(took) < 0.5, took
