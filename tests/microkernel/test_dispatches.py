"""The life of a dispatch: who holds it, what is lost with a unit, and that a repeat changes nothing."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.errors import (
    BudgetExceeded,
    Cancelled,
    ContentNotFound,
    DispatchNotFound,
    InvalidParams,
    LeaseExpired,
    SessionBusy,
)

TWO = [
    {"when": {"role": "tool"}, "say": "Done."},
    {"say": "Both.", "calls": [{"bash": {"command": "one"}}, {"bash": {"command": "two"}}]},
]
SAY = [{"say": "ok"}]
SLOW = [{"say": "a b c d e f g h i j k l m n o p q r s t", "delay": 0.5}]


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return found


def status(desk: Any, began: dict[str, Any]) -> str:
    return str(desk.call("dispatch.get", dispatch=began["dispatch"])["status"])


# -- one writer


def test_a_second_writer_is_told_who_holds_the_session_and_until_when(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    session = desk.session(name="shared")
    one, two = desk.connect(), desk.connect()
    began = desk.begin(session, link=one)
    with pytest.raises(SessionBusy) as busy:
        desk.begin(session, link=two)
    said = busy.value.message
    assert f"process {os.getpid()}" in said
    assert f"until its dispatch {began['dispatch']} ends" in said
    assert "%session new" in said
    assert busy.value.data["dispatch"] == began["dispatch"]
    assert f"process {os.getpid()}" in desk.call("session.get", session=session)["holder"]


def test_a_lost_connection_keeps_its_dispatch_for_the_lease_and_says_how_long(open_desk: Any) -> None:
    desk = open_desk(rules=SAY, limits={"lease": "1s"})
    session = desk.session()
    link = desk.connect()
    began = desk.begin(session, link=link)
    link.close()
    wait_for(lambda: "kept for" in desk.call("session.get", session=session)["holder"])
    with pytest.raises(SessionBusy, match=r"kept for 1 s .*%dispatch run"):
        desk.begin(session)
    assert status(desk, began) == "running"
    wait_for(lambda: status(desk, began) == "lost", 3)
    assert desk.begin(session)["dispatch"] != began["dispatch"]


def test_any_call_with_the_current_epoch_takes_the_lease_back(open_desk: Any) -> None:
    desk = open_desk(rules=SAY, limits={"lease": "500ms"})
    session = desk.session()
    link = desk.connect()
    began = desk.begin(session, link=link)
    link.close()
    wait_for(lambda: "kept for" in desk.call("session.get", session=session)["holder"])
    assert desk.complete(began, 1)["text"] == "ok"
    time.sleep(0.8)
    assert desk.end(began)["status"] == "ok"


def test_a_dispatch_whose_process_is_gone_is_lost_at_once(open_desk: Any) -> None:
    desk = open_desk(rules=TWO, limits={"lease": "30s"})
    session = desk.session()
    unit = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from agentos_jupyter.rpc.sync import SyncLink
        link = SyncLink(Path({str(desk.workspace)!r}), start=False)
        began = link.call("dispatch.begin", {{"session": {session!r}, "prompt": "go", "key": "k" * 8}})
        link.call("compute.complete", {{"dispatch": began["dispatch"], "epoch": 1, "turn": 1}})
        print(began["dispatch"], flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", unit], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        dispatch = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        wait_for(lambda: desk.call("dispatch.get", dispatch=dispatch)["status"] == "lost", 5)
        assert time.monotonic() - killed < 3
    results = {each["data"]["id"]: each["data"]["status"] for each in desk.events(session, "tool.result")}
    assert results == {"call-1": "unknown", "call-2": "not_run"}


def test_a_stale_epoch_may_write_nothing(open_desk: Any) -> None:
    desk = open_desk(rules=TWO)
    session = desk.session()
    link = desk.connect()
    old = desk.begin(session, link=link)
    desk.complete(old, 1, link=link)
    link.close()
    wait_for(lambda: "kept for" in desk.call("session.get", session=session)["holder"])
    new = desk.begin(session, dispatch=old["dispatch"])
    assert (new["dispatch"], new["epoch"], new["turn"]) == (old["dispatch"], 2, 1)
    before = desk.types(session)
    for write in (
        lambda: desk.complete(old, 2),
        lambda: desk.end(old),
        lambda: desk.call("tool.begin", dispatch=old["dispatch"], epoch=1, name="bash", arguments={}, key="k" * 8),
    ):
        with pytest.raises(LeaseExpired, match=r"epoch 2.*%dispatch run"):
            write()
    assert desk.types(session) == before
    assert desk.complete(new, 2)["text"] == "Done."


def test_a_real_result_after_unknown_is_kept_as_a_late_one(open_desk: Any) -> None:
    desk = open_desk(rules=TWO)
    session = desk.session()
    link = desk.connect()
    old = desk.begin(session, link=link)
    desk.complete(old, 1, link=link)
    link.close()
    wait_for(lambda: "kept for" in desk.call("session.get", session=session)["holder"])
    new = desk.begin(session, dispatch=old["dispatch"])
    context = desk.messages(session)
    for _ in range(2):
        assert desk.result(old, "call-1", "it did run") == "it did run"
    assert [each["data"]["text"] for each in desk.events(session, "tool.result.late")] == ["it did run"]
    assert desk.messages(session) == context
    assert desk.result(old, "call-2", "no") == "This command was not run."
    desk.complete(new, 2)
    desk.end(new)
    assert len(desk.events(session, "tool.result.late")) == 1


def test_an_answered_dispatch_that_is_continued_is_answered_without_the_model(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    session = desk.session()
    link = desk.connect()
    old = desk.begin(session, link=link)
    desk.complete(old, 1, link=link)
    link.close()
    wait_for(lambda: "kept for" in desk.call("session.get", session=session)["holder"])
    new = desk.begin(session, dispatch=old["dispatch"])
    reply = desk.complete(new, new["turn"] + 1)
    assert (reply["text"], reply["turn"]) == ("ok", 1)
    assert desk.end(new)["turns"] == 1


def test_only_the_last_unfinished_dispatch_can_be_continued(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    session = desk.session()
    done = desk.prompt(session)
    with pytest.raises(DispatchNotFound, match="nothing is left to continue"):
        desk.begin(session, dispatch=done["id"])
    with pytest.raises(DispatchNotFound, match="not the last dispatch"):
        desk.begin(session, dispatch="d-nothing-0001")
    desk.prompt(session)
    with pytest.raises(DispatchNotFound, match="only that one"):
        desk.begin(session, dispatch=done["id"])


def test_a_dispatch_is_found_again_after_a_restart_and_goes_on(open_desk: Any) -> None:
    desk = open_desk(rules=TWO)
    session = desk.session()
    began = desk.begin(session)
    desk.complete(began, 1)
    desk.result(began, "call-1", "first")
    desk.reopen()
    desk.result(began, "call-2", "second")
    assert desk.complete(began, 2)["text"] == "Done."
    ended = desk.end(began)
    assert (ended["status"], ended["calls"], ended["turns"]) == ("ok", 2, 2)
    assert desk.types(session).count("dispatch.started") == 1


def test_a_continued_dispatch_has_its_whole_wall_time_again(open_desk: Any) -> None:
    desk = open_desk(rules=TWO, limits={"wall": "500ms", "lease": "50ms"})
    session = desk.session()
    link = desk.connect()
    old = desk.begin(session, link=link)
    desk.complete(old, 1, link=link)
    link.close()
    wait_for(lambda: status(desk, old) == "lost")
    time.sleep(0.6)
    new = desk.begin(session, dispatch=old["dispatch"])
    assert desk.complete(new, 2)["text"] == "Done."


# -- a repeat changes nothing


def test_beginning_twice_with_one_key_is_one_dispatch_even_across_a_restart(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    session = desk.session()
    first = desk.begin(session, key="k" * 8)
    assert desk.begin(session, key="k" * 8) == first
    types = desk.types(session)
    desk.reopen()
    assert desk.begin(session, key="k" * 8) == first
    assert desk.types(session) == types
    desk.complete(first, 1)
    desk.end(first)
    assert desk.begin(session, key="k" * 8)["dispatch"] == first["dispatch"]
    assert desk.types(session)[-1] == "dispatch.ended"


def test_continuing_twice_with_one_key_raises_the_epoch_once(open_desk: Any) -> None:
    desk = open_desk(rules=TWO)
    session = desk.session()
    link = desk.connect()
    old = desk.begin(session, link=link)
    desk.complete(old, 1, link=link)
    link.close()
    wait_for(lambda: "kept for" in desk.call("session.get", session=session)["holder"])
    new = desk.begin(session, dispatch=old["dispatch"], key="again-again")
    assert desk.begin(session, dispatch=old["dispatch"], key="again-again") == new
    assert new["epoch"] == 2


def test_a_repeated_begin_plans_the_context_that_a_crash_left_out(open_desk: Any, workspace: Path) -> None:
    desk = open_desk(rules=SAY, limits={"hook": "20s"})
    session = desk.session()
    assert desk.call("system.health")["ok"]
    engine = _service_pid("aos-context")
    os.kill(engine, signal.SIGSTOP)  # the begin commits its start and waits for a plan
    link = desk.connect()
    beginning = threading.Thread(target=lambda: _quietly(lambda: desk.begin(session, key="k" * 8, link=link)))
    beginning.start()
    wait_for(lambda: "dispatch.started" in desk.types(session))
    assert "context.planned" not in desk.types(session)
    link._sock.shutdown(socket.SHUT_RDWR)
    beginning.join()
    os.kill(engine, signal.SIGKILL)
    desk.reopen()
    began = desk.begin(session, key="k" * 8)
    assert desk.types(session).count("dispatch.started") == 1
    assert [each["role"] for each in desk.messages(session)] == ["system", "user"]
    assert desk.complete(began, 1)["text"] == "ok"


def _quietly(work: Callable[[], Any]) -> None:
    with contextlib.suppress(BaseException):
        work()


def _service_pid(name: str) -> int:
    """The service that a microkernel of this process started."""
    found = subprocess.run(
        ["pgrep", "-n", "-P", str(os.getpid()), "-f", f"{name}/service.py"], capture_output=True, text=True, check=True
    )
    return int(found.stdout)


def test_a_reply_is_given_again_for_its_turn_without_asking_the_model(open_desk: Any) -> None:
    desk = open_desk(rules=TWO)
    session = desk.session()
    began = desk.begin(session)
    first = desk.complete(began, 1)
    commits = desk.commits()
    assert desk.complete(began, 1) == first
    desk.result(began, "call-1")
    assert [each["id"] for each in desk.complete(began, 1)["tool_calls"]] == ["call-2"]
    assert desk.types(session).count("assistant.message") == 1
    assert desk.commits() == commits + 1


def test_a_turn_out_of_order_or_before_its_results_is_refused(open_desk: Any) -> None:
    desk = open_desk(rules=TWO)
    began = desk.begin(desk.session())
    for turn in (0, 2, -1):
        with pytest.raises(InvalidParams, match=r"next turn of .* is 1"):
            desk.complete(began, turn)
    desk.complete(began, 1)
    with pytest.raises(InvalidParams, match="call-1, call-2"):
        desk.complete(began, 2)


def test_a_result_is_stored_once_however_often_it_is_sent(open_desk: Any) -> None:
    desk = open_desk(rules=TWO)
    session = desk.session()
    began = desk.begin(session)
    desk.complete(began, 1)

    async def ten() -> list[str]:
        import asyncio

        link = desk.kernel.link()
        params = {"dispatch": began["dispatch"], "epoch": began["epoch"], "id": "call-1"}
        many = (link.call("tool.end", {**params, "observation": {"status": "ok", "text": f"{n}"}}) for n in range(10))
        return [each["text"] for each in await asyncio.gather(*many)]

    texts = desk.kernel.run(ten())
    assert len(set(texts)) == 1
    assert len(desk.events(session, "tool.result")) == 1
    with pytest.raises(InvalidParams, match="call-9 is no call"):
        desk.result(began, "call-9")


def test_a_persons_call_is_made_once_and_its_verdict_is_told_again(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    session = desk.session()
    began = desk.begin(session, "ls", kind="person")
    ask = {"dispatch": began["dispatch"], "epoch": 1, "name": "bash", "arguments": {"command": "ls"}, "key": "k" * 8}
    first = desk.call("tool.begin", **ask)
    assert desk.call("tool.begin", **ask) == first
    desk.result(began, first["id"], "files")
    assert desk.call("tool.begin", **ask) == first
    assert len(desk.events(session, "tool.call")) == 1
    assert desk.events(session, "tool.call")[0]["actor"] == "person"
    desk.end(began)
    assert desk.messages(session) == []
    desk.prompt(session)
    assert "I ran this in your sandbox myself:\n$ ls\nfiles" in [each["content"] for each in desk.messages(session)]


def test_one_key_may_be_used_for_a_dispatch_and_for_a_call(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    session = desk.session()
    began = desk.begin(session, "ls", kind="person", key="same-key")
    call = desk.call("tool.begin", dispatch=began["dispatch"], epoch=1, name="bash", arguments={}, key="same-key")
    assert call["id"] == "call-1"
    again = desk.begin(session, "ls", kind="person", key="same-key")
    assert (again["dispatch"], again["epoch"], again["earlier"]) == (began["dispatch"], 1, 1)


def test_an_end_is_written_once(open_desk: Any) -> None:
    desk = open_desk(rules=TWO)
    session = desk.session()
    began = desk.begin(session)
    desk.complete(began, 1)
    first = desk.end(began, "interrupted")
    assert desk.end(began, "ok") == first
    assert desk.types(session).count("dispatch.ended") == 1
    statuses = [each["data"]["status"] for each in desk.events(session, "tool.result")]
    assert statuses == ["not_run", "not_run"]
    assert desk.call("session.get", session=session)["phase"] == "interrupted"


def test_an_end_while_the_model_speaks_leaves_no_call_without_a_result(open_desk: Any) -> None:
    desk = open_desk(rules=[{**TWO[1], "delay": 0.02}])
    session = desk.session()
    for pause in (0.0, 0.01, 0.02, 0.025, 0.03, 0.04):
        began = desk.begin(session)
        asking = threading.Thread(target=lambda began=began: _quietly(lambda: desk.complete(began, 1)))
        asking.start()
        time.sleep(pause)
        desk.end(began, "interrupted")
        asking.join()
    calls = [each["data"]["id"] for each in desk.events(session, "tool.call")]
    results = [each["data"]["id"] for each in desk.events(session, "tool.result")]
    assert sorted(calls) == sorted(results)
    assert desk.types(session)[-1] == "dispatch.ended"


def test_content_is_addressed_by_its_digest_and_put_again_harmlessly(open_desk: Any) -> None:
    desk = open_desk()
    data = bytes(range(256)) * 5000
    half = len(data) // 2
    for _ in range(2):
        upload = {"upload": "upload-1"}
        first = base64.b64encode(data[:half]).decode()
        assert desk.call("content.put", **upload, offset=0, base64=first)["digest"] is None
        assert desk.call("content.put", **upload, offset=0, base64=first)["digest"] is None
        digest = desk.call(
            "content.put", **upload, offset=half, base64=base64.b64encode(data[half:]).decode(), last=True
        )["digest"]
        assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
    part = desk.call("content.read", digest=digest, offset=100, length=50)
    assert (base64.b64decode(part["base64"]), part["total"]) == (data[100:150], len(data))
    with pytest.raises(ContentNotFound):
        desk.call("content.read", digest="sha256:" + "0" * 64)
    with pytest.raises(InvalidParams, match="base64"):
        desk.call("content.put", upload="upload-2", base64="***", last=True)


def test_a_long_prompt_comes_by_reference_and_one_beyond_the_limit_is_refused(open_desk: Any) -> None:
    desk = open_desk(rules=SAY, limits={"prompt": "300k"})
    session = desk.session()

    def put(text: bytes) -> str:
        given = {"base64": base64.b64encode(text).decode(), "last": True}
        return str(desk.call("content.put", upload=hashlib.md5(text).hexdigest(), **given)["digest"])

    began = desk.begin(session, "", prompt_ref=put(b"x" * 290_000))
    assert len(desk.messages(session)[-1]["content"]) == 290_000
    desk.end(began)
    with pytest.raises(BudgetExceeded, match=r"310000 bytes .*limits\.prompt allows 307200"):
        desk.begin(session, "", prompt_ref=put(b"x" * 310_000))
    with pytest.raises(InvalidParams, match="needs text"):
        desk.begin(session, "  \n")
    assert desk.call("session.get", session=session)["phase"] == "idle"


# -- interrupts


def test_an_interrupt_from_another_client_cuts_the_model_call_and_tells_the_unit(open_desk: Any) -> None:
    desk = open_desk(rules=SLOW)
    session = desk.session()
    told: list[tuple[str, dict[str, Any]]] = []

    async def unit() -> None:
        import asyncio

        link = desk.kernel.link("unit")
        link.on_notice = lambda method, params: told.append((method, params))
        began = await link.call("dispatch.begin", {"session": session, "prompt": "go", "key": "k" * 8})
        speaking = asyncio.Event()
        handle = {"dispatch": began["dispatch"], "epoch": 1, "turn": 1}
        asking = asyncio.create_task(link.call("compute.complete", handle, lambda data: speaking.set()))
        await speaking.wait()
        other = desk.kernel.link("somebody else")
        started = asyncio.get_running_loop().time()
        answer = await other.call("session.interrupt", {"session": session})
        assert answer["dispatch"]["id"] == began["dispatch"]
        with pytest.raises((Cancelled, asyncio.CancelledError)):
            await asking
        assert asyncio.get_running_loop().time() - started < 0.4
        assert told == [("unit.interrupt", {"dispatch": began["dispatch"], "by": "somebody else"})]
        await link.call("dispatch.end", {"dispatch": began["dispatch"], "epoch": 1, "status": "interrupted"})

    desk.kernel.run(unit())
    assert desk.types(session)[-2:] == ["session.interrupted", "dispatch.ended"]


def test_an_interrupt_reaches_a_unit_over_its_socket(open_desk: Any) -> None:
    desk = open_desk(rules=SLOW)
    session = desk.session()
    link = desk.connect()
    began = desk.begin(session, link=link)
    asking = threading.Timer(0.3, lambda: desk.call("session.interrupt", session=session))
    asking.start()
    with pytest.raises(Cancelled):
        desk.complete(began, 1, link=link)
    asking.join()


def test_an_interrupt_without_a_holder_ends_the_dispatch(open_desk: Any) -> None:
    desk = open_desk(rules=TWO)
    session = desk.session()
    link = desk.connect()
    began = desk.begin(session, link=link)
    desk.complete(began, 1, link=link)
    link.close()
    wait_for(lambda: "kept for" in desk.call("session.get", session=session)["holder"])
    assert desk.call("session.interrupt", session=session)["dispatch"]["status"] == "interrupted"
    assert status(desk, began) == "interrupted"
    statuses = [each["data"]["status"] for each in desk.events(session, "tool.result")]
    assert statuses == ["unknown", "not_run"]
    assert desk.begin(session)["epoch"] == 1


def test_an_interrupt_of_a_session_that_does_nothing_is_harmless(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    session = desk.session()
    assert desk.call("session.interrupt", session=session) == {"dispatch": None}
    types = desk.types(session)
    assert types == ["session.created"]


def test_a_begin_that_is_cancelled_does_not_hold_the_session_for_ever(open_desk: Any) -> None:
    desk = open_desk(rules=SAY, limits={"lease": "200ms"})
    session = desk.session()

    async def torn() -> None:
        import asyncio

        link = desk.kernel.link()
        for pause in (0, 0.001, 0.002, 0.003, 0.005):
            params = {"session": session, "prompt": "go", "key": os.urandom(8).hex()}
            task = asyncio.create_task(link.call("dispatch.begin", params))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.3)

    desk.kernel.run(torn())
    assert desk.prompt(session)["status"] == "ok"


# -- following


def test_a_follower_sees_a_dispatch_from_its_first_event_to_its_end(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "a b c", "delay": 0.05}])
    session = desk.session()
    began = desk.begin(session)
    seen: list[dict[str, Any]] = []

    async def follow() -> Any:
        return await desk.kernel.link().client.dispatch.follow(dispatch=began["dispatch"], on_stream=seen.append)

    import asyncio

    following = asyncio.run_coroutine_threadsafe(follow(), desk.kernel._loop)
    desk.complete(began, 1)
    desk.end(began)
    assert following.result(5)["status"] == "ok"
    types = [each["event"]["type"] for each in seen if each["kind"] == "event"]
    assert types == ["dispatch.started", "user.message", "context.planned", "assistant.message", "dispatch.ended"]
    assert "".join(each["text"] for each in seen if each["kind"] == "text") == "a b c"
    again: list[dict[str, Any]] = []
    desk.kernel.run(desk.kernel.link().client.dispatch.follow(dispatch=began["dispatch"], on_stream=again.append))
    assert [each["event"]["type"] for each in again] == types


def test_an_unknown_dispatch_is_a_sentence_everywhere(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    for ref in ("", "d-", "d-0000-0001", "nonsense", desk.session()):
        with pytest.raises(DispatchNotFound, match="%runs"):
            desk.call("dispatch.get", dispatch=ref)


def test_the_harness_has_one_digest_that_changes_with_every_part_of_it(
    open_desk: Any, configure: Any, script: Any
) -> None:
    desk = open_desk(rules=SAY)
    model = script(SAY)

    def digest(model: str | None = None, **begin: Any) -> str:
        began = desk.begin(desk.session(), model=model, **begin)
        desk.end(began)
        return str(began["harness"])

    configure(model=model)
    plain = digest()
    assert digest() == plain
    desk.reopen()
    assert digest() == plain
    other = [digest(model=script(SAY, "other.yaml")), digest(limits={"turns": 3}), digest(tools=[{"name": "bash"}])]
    for settings in ({"agent": {"system": "Be terse."}}, {"protect": ["data"]}):
        configure(model=model, **settings)
        other.append(digest())
    assert len({plain, *other}) == 6
