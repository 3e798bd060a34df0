"""The unit: a loop one can read, tools that tell the truth, and nothing lost when something dies."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import inspect
import io
import json
import os
import random
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.errors import BudgetExceeded, InternalError, LeaseExpired, SessionBusy
from agentos_jupyter.unit import Asked, loop
from agentos_jupyter.unit.tools import CHUNK, put

DONE = {"when": {"role": "tool"}, "say": "Done."}


def once(command: str, **more: Any) -> list[dict[str, Any]]:
    """Rules: one command, then an answer."""
    return [DONE, {"say": "I try.", "calls": [{"bash": {"command": command, **more}}]}]


def steps(*commands: str) -> list[dict[str, Any]]:
    """Rules: one command a turn, then an answer."""
    rules: list[dict[str, Any]] = [
        {"when": {"turn": number}, "calls": [{"bash": {"command": command}}]}
        for number, command in enumerate(commands, 1)
    ]
    return [*rules, {"say": "All done."}]


def test_the_loop_fits_on_one_screen() -> None:
    assert len(inspect.getsource(loop).splitlines()) <= 24


async def test_a_prompt_runs_to_its_answer_and_names_the_files_it_changed(open_desk: Any, workspace: Path) -> None:
    (workspace / "old.txt").write_text("a")
    (workspace / "gone.txt").write_text("a")
    desk = await open_desk(once("echo b > new.txt; echo more >> old.txt; rm gone.txt; echo said"))
    session = await desk.session()
    outcome = await desk.unit.prompt(session, "go")
    assert (outcome.error, outcome.info["status"], outcome.info["answer"]) == (None, "ok", "Done.")
    changed = outcome.info["changed"]
    assert (changed["created"], changed["modified"], changed["deleted"]) == (["new.txt"], ["old.txt"], ["gone.txt"])
    assert desk.watch.kinds() == ["began", "text", "replied", "call", "output", "result", "text", "replied"]
    assert desk.watch.outputs == b"said\n"
    [observation] = desk.watch.results()
    assert (observation.status, observation.text, observation.exit_code) == ("ok", "said", 0)
    assert (outcome.info["turns"], outcome.info["calls"]) == (2, 1)


async def test_state_carries_over_between_commands_and_dispatches(open_desk: Any) -> None:
    desk = await open_desk(steps("mkdir d; cd d; export X=7; f() { echo f$X; }", "pwd; f"))
    session = await desk.session()
    await desk.unit.prompt(session, "go")
    assert desk.watch.results()[1].text.splitlines() == [f"{desk.link.workspace}/d", "f7"]
    again = await desk.unit.command(session, "f")
    assert again.observation is not None
    assert again.observation.text == "f7"


async def test_a_second_front_end_is_told_once_that_the_shell_state_is_gone(open_desk: Any) -> None:
    first = await open_desk(once("true"))
    session = await first.session()
    await first.unit.prompt(session, "go")
    second = await open_desk()
    texts = [(await second.unit.command(session, "true")).observation.text for _ in range(2)]
    assert texts == ["[shell state was reset]", "[no output]"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, 'needs "command"'),
        ({"command": ""}, 'needs "command"'),
        ({"command": 7}, 'needs "command"'),
        ({"command": ["ls"]}, 'needs "command"'),
        ({"cmd": "ls"}, "takes command and timeout, not cmd"),
        ({"command": "ls", "cwd": "/"}, "not cwd"),
        ({"command": "ls", "timeout": "soon"}, "number of seconds above 0"),
        ({"command": "ls", "timeout": -1}, "number of seconds above 0"),
        ({"command": "ls", "timeout": True}, "number of seconds above 0"),
        ({"command": "a\0b"}, "NUL"),
    ],
)
async def test_wrong_arguments_of_bash_are_told_to_the_model(open_desk: Any, arguments: Any, said: str) -> None:
    desk = await open_desk([DONE, {"calls": [{"bash": arguments}]}])
    session = await desk.session()
    outcome = await desk.unit.prompt(session, "go")
    [result] = await desk.events(session, "tool.result")
    assert (result["data"]["status"], outcome.info["answer"]) == ("failed", "Done.")
    assert said in result["data"]["text"]


async def test_an_unknown_tool_is_told_with_the_nearest_name(open_desk: Any) -> None:
    desk = await open_desk([DONE, {"calls": [{"bsh": {"command": "ls"}}]}])
    session = await desk.session()
    await desk.unit.prompt(session, "go")
    [result] = await desk.events(session, "tool.result")
    assert (result["data"]["status"], "did you mean 'bash'" in result["data"]["text"]) == ("failed", True)


async def test_several_calls_run_in_order_and_a_failure_does_not_stop_the_next(open_desk: Any) -> None:
    calls = [{"bash": {"command": command}} for command in ("echo 1 > f", "cat f; exit 3", "echo 2 >> f; cat f")]
    desk = await open_desk([DONE, {"calls": calls}])
    session = await desk.session()
    await desk.unit.prompt(session, "go")
    results = desk.watch.results()
    assert [(each.status, each.exit_code) for each in results] == [("ok", 0), ("failed", 3), ("ok", 0)]
    assert results[1].text == "1\n[exit code 3]"
    assert results[2].text == "1\n2"


async def test_the_whole_of_a_long_output_is_stored_and_the_model_reads_head_and_tail(open_desk: Any) -> None:
    desk = await open_desk(once("seq 1 60000; printf 'end\\xff\\x00'"))
    session = await desk.session()
    await desk.unit.prompt(session, "go")
    whole = "".join(f"{n}\n" for n in range(1, 60001)).encode() + b"end\xff\x00"
    data = (await desk.events(session, "tool.result"))[0]["data"]
    assert data["total"] == len(whole)
    assert data["full"] == "sha256:" + hashlib.sha256(whole).hexdigest()
    assert data["text"].startswith("1\n2\n3\n")
    assert data["text"].endswith("end\ufffd\ufffd")
    assert len(data["text"].encode()) < 40_000
    read = await desk.link.call("content.read", {"digest": data["full"], "length": 10})
    assert (base64.b64decode(read["base64"]), read["total"]) == (whole[:10], len(whole))


async def test_an_output_above_one_chunk_of_content_is_stored_whole(open_desk: Any) -> None:
    desk = await open_desk(once("head -c 5000000 /dev/zero | tr '\\0' x"))
    session = await desk.session()
    await desk.unit.prompt(session, "go")
    data = (await desk.events(session, "tool.result"))[0]["data"]
    assert data["full"] == "sha256:" + hashlib.sha256(b"x" * 5_000_000).hexdigest()


async def test_a_command_of_its_own_timeout_is_killed_and_keeps_its_output(open_desk: Any) -> None:
    desk = await open_desk(once("echo before; sleep 60", timeout=0.5))
    session = await desk.session()
    outcome = await desk.unit.prompt(session, "go")
    data = (await desk.events(session, "tool.result"))[0]["data"]
    assert data["status"] == "timeout"
    assert data["text"].startswith("before\n[killed after 0.5 s; this is the output until then]")
    assert outcome.info["answer"] == "Done."


async def test_a_persons_command_is_recorded_and_the_agent_is_told(open_desk: Any) -> None:
    desk = await open_desk([{"say": "ok"}])
    session = await desk.session()
    outcome = await desk.unit.command(session, "echo mine; false")
    assert outcome.observation is not None
    assert (outcome.observation.status, outcome.observation.text) == ("failed", "mine\n[exit code 1]")
    assert (outcome.info["kind"], outcome.info["status"], outcome.info["model"]) == ("person", "ok", None)
    [call] = await desk.events(session, "tool.call")
    assert call["actor"] == "person"
    await desk.unit.prompt(session, "and?")
    messages = (await desk.link.call("context.get", {"session": session}))["messages"]
    assert any("$ echo mine; false\nmine" in each["content"] for each in messages)


async def test_a_long_prompt_travels_and_one_beyond_the_limit_is_refused(open_desk: Any) -> None:
    desk = await open_desk([{"say": "ok"}], limits={"window": "2M"})
    session = await desk.session()
    assert (await desk.unit.prompt(session, "x" * 400_000)).info["status"] == "ok"
    with pytest.raises(BudgetExceeded, match=r"5000000 bytes .*limits\.prompt"):
        await desk.unit.prompt(session, "x" * 5_000_000)
    assert await desk.phase(session) == "idle"


# -- limits


async def test_the_turn_limit_ends_the_dispatch_and_the_session_goes_on(open_desk: Any) -> None:
    desk = await open_desk([{"calls": [{"bash": {"command": "true"}}]}], limits={"turns": 3})
    session = await desk.session()
    outcome = await desk.unit.prompt(session, "go")
    assert outcome.info["status"] == "limit"
    assert isinstance(outcome.error, BudgetExceeded)
    assert outcome.info["error"]["code"] == "budget.exceeded"
    assert (await desk.unit.prompt(session, "go on")).info["turns"] == 3


async def test_wall_time_ends_a_command_with_its_output_kept(open_desk: Any) -> None:
    desk = await open_desk(once("echo so far; sleep 60"), limits={"wall": "1500ms"})
    session = await desk.session()
    started = time.monotonic()
    outcome = await desk.unit.prompt(session, "go")
    assert time.monotonic() - started < 6
    assert (outcome.info["status"], type(outcome.error)) == ("limit", BudgetExceeded)
    assert "limits.wall" in str(outcome.error)
    [result] = await desk.events(session, "tool.result")
    assert (result["data"]["status"], result["data"]["text"].splitlines()[0]) == ("killed", "so far")
    assert await desk.phase(session) == "idle"


async def test_wall_time_ends_a_model_call(open_desk: Any) -> None:
    desk = await open_desk([{"say": "a b c d e f g h i j", "delay": 0.5}], limits={"wall": "1s"})
    outcome = await desk.unit.prompt(await desk.session(), "go")
    assert (outcome.info["status"], type(outcome.error)) == ("limit", BudgetExceeded)


# -- interrupts


async def interrupted(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_interrupt_in_a_model_call_ends_the_dispatch_at_once(open_desk: Any) -> None:
    desk = await open_desk([{"say": "a b c d e f g h i j", "delay": 1}])
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    await desk.watch.until("text")
    started = time.monotonic()
    await interrupted(task)
    assert time.monotonic() - started < 1
    assert (await desk.types(session))[-2:] == ["session.interrupted", "dispatch.ended"]
    assert await desk.phase(session) == "interrupted"


async def test_an_interrupt_in_a_command_kills_it_and_keeps_what_it_said(open_desk: Any, workspace: Path) -> None:
    desk = await open_desk(once("echo so far; (sleep 2; touch late) & sleep 60; touch late"))
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    await desk.watch.until("output")
    started = time.monotonic()
    await interrupted(task)
    assert time.monotonic() - started < 2
    [result] = await desk.events(session, "tool.result")
    assert result["data"]["status"] == "killed"
    assert result["data"]["text"].startswith("so far\n[killed before it ended; this is the output so far]")
    await asyncio.sleep(2.5)
    assert not (workspace / "late").exists()
    assert (await desk.unit.command(session, "echo alive")).observation.text.startswith("alive")


async def test_somebody_elses_interrupt_stops_the_command_here(open_desk: Any) -> None:
    desk, other = await open_desk(once("echo so far; sleep 60")), await open_desk()
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    await desk.watch.until("output")
    await other.link.call("session.interrupt", {"session": session})
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert (await desk.events(session, "tool.result"))[0]["data"]["status"] == "killed"
    assert (await desk.events(session, "dispatch.ended"))[0]["data"]["status"] == "interrupted"


async def test_somebody_elses_interrupt_stops_a_model_call_here(open_desk: Any) -> None:
    desk, other = await open_desk([{"say": "a b c d e", "delay": 2}]), await open_desk()
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    await desk.watch.until("text")
    await other.link.call("session.interrupt", {"session": session})
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    assert (await desk.events(session, "dispatch.ended"))[0]["data"]["status"] == "interrupted"


@pytest.mark.slow
async def test_an_interrupt_at_any_instant_leaves_the_session_free_and_every_call_answered(open_desk: Any) -> None:
    desk = await open_desk(steps("echo a", "echo b; sleep 0.05"))
    session = await desk.session()
    await desk.unit.prompt(session, "warm up")
    for number in range(60):
        task = asyncio.create_task(desk.unit.prompt(session, f"go {number}"))
        await asyncio.sleep(number * 0.0025)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await desk.phase(session) in ("idle", "interrupted"), number
    events = await desk.events(session)
    calls = [each["data"]["id"] for each in events if each["type"] == "tool.call"]
    results = [each["data"]["id"] for each in events if each["type"].startswith("tool.result")]
    assert sorted(calls) == sorted(results)
    assert len(set(results)) == len(results)
    assert (await desk.unit.prompt(session, "still there?")).info["status"] == "ok"


async def test_two_interrupts_in_a_row_are_as_good_as_one(open_desk: Any) -> None:
    desk = await open_desk(once("echo so far; sleep 60"))
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    await desk.watch.until("output")
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.005)
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(5):
        while await desk.phase(session) == "dispatched":
            await asyncio.sleep(0.02)
    assert (await desk.unit.prompt(session, "go", Asked(model="scripted:demo"))).info["status"] == "ok"


# -- what dies


async def test_a_second_unit_on_a_session_is_told_who_works_on_it(open_desk: Any) -> None:
    desk, other = await open_desk(once("sleep 60")), await open_desk()
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    await desk.watch.until("call")
    with pytest.raises(SessionBusy, match=f"process {os.getpid()}"):
        await other.unit.command(session, "ls")
    await interrupted(task)


async def test_kill_9_of_the_daemon_in_a_command_loses_and_doubles_nothing(open_desk: Any, kill: Any) -> None:
    desk = await open_desk(steps("echo one", "echo two >> f; sleep 1; cat f", "echo three"))
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    await desk.watch.until("call", 2)
    kill()
    outcome = await asyncio.wait_for(task, 30)
    assert (outcome.info["status"], outcome.info["answer"]) == ("ok", "All done.")
    texts = [each["data"]["text"] for each in await desk.events(session, "tool.result")]
    assert texts == ["one", "two", "three"]
    types = await desk.types(session)
    assert (types.count("dispatch.started"), types.count("dispatch.ended"), types.count("assistant.message")) == (
        1,
        1,
        4,
    )


async def test_kill_9_of_the_daemon_in_a_model_call_asks_again(open_desk: Any, kill: Any) -> None:
    desk = await open_desk([{"say": "a b c d e", "delay": 0.2}])
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    await desk.watch.until("text")
    kill()
    outcome = await asyncio.wait_for(task, 30)
    assert (outcome.info["status"], outcome.info["answer"]) == ("ok", "a b c d e")
    assert (await desk.types(session)).count("assistant.message") == 1


async def test_kill_9_of_the_daemon_between_two_chunks_sends_them_again(open_desk: Any, kill: Any) -> None:
    desk = await open_desk([{"say": "ok"}])
    data = os.urandom(CHUNK * 2 + 5)

    class Dying(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            if self.reads == 3:
                kill()
            return super().read(size)

    digest = await put(desk.link, Dying(data))
    assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert (await desk.link.call("content.read", {"digest": digest, "length": 0}))["total"] == len(data)


@pytest.mark.slow
async def test_the_daemon_may_be_killed_at_any_instant(open_desk: Any, kill: Any, workspace: Path) -> None:
    n = 12
    desk = await open_desk(steps(*(f"echo {number} >> f; sleep 0.1" for number in range(n))))
    dice = random.Random(7)
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    for _ in range(4):
        await asyncio.sleep(dice.uniform(0.1, 0.9))
        if task.done():
            break
        kill()
    outcome = await asyncio.wait_for(task, 50)
    assert (outcome.info["status"], outcome.info["turns"]) == ("ok", n + 1)
    assert (workspace / "f").read_text().split() == [str(number) for number in range(n)]
    events = await desk.events(session)
    for type in ("tool.call", "tool.result"):
        ids = [each["data"]["id"] for each in events if each["type"] == type]
        assert ids == [f"call-{number}" for number in range(1, n + 1)]
    turns = [each["data"]["turn"] for each in events if each["type"] == "assistant.message"]
    assert turns == list(range(1, n + 2))


UNIT = """
import asyncio, os, sys
from pathlib import Path
from agentos_jupyter.rpc.link import Link
from agentos_jupyter.unit import Unit
class Quiet:
    def __getattr__(self, name):
        def told(*what):
            if name == "output": print(os.getpid(), flush=True)
        return told
async def main():
    link = await Link.open(Path(sys.argv[1]))
    await Unit(link, Quiet(), {"name": "first"}).prompt(sys.argv[2], "go")
asyncio.run(main())
"""


async def test_another_process_continues_what_a_killed_one_had_begun(open_desk: Any, workspace: Path) -> None:
    two = [{"bash": {"command": "echo first >> f; echo said; sleep 60"}}, {"bash": {"command": "echo second >> f"}}]
    rules = [
        {"when": {"turn": 1}, "say": "Both.", "calls": two},
        {"when": {"turn": 2}, "say": "I look first.", "calls": [{"bash": {"command": "cat f"}}]},
        {"say": "Seen."},
    ]
    desk = await open_desk(rules)
    session = await desk.session()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(UNIT), str(workspace), session, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readline(), 20)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    async with asyncio.timeout(10):
        while await desk.phase(session) == "dispatched":
            await asyncio.sleep(0.05)
    [dispatch] = (await desk.link.call("dispatch.list", {"session": session}))["dispatches"]
    assert dispatch["status"] == "lost"
    outcome = await desk.unit.resume(session, dispatch["id"])
    assert (outcome.info["id"], outcome.info["status"], outcome.info["answer"]) == (dispatch["id"], "ok", "Seen.")
    results = [each["data"] for each in await desk.events(session, "tool.result")]
    assert [each["status"] for each in results] == ["unknown", "not_run", "ok"]
    assert "Look at the files before you repeat it" in results[0]["text"]
    assert results[2]["text"].splitlines()[0] == "first"
    assert (workspace / "f").read_text() == "first\n"


async def test_a_unit_whose_dispatch_was_taken_over_stops_and_says_so(open_desk: Any, workspace: Path) -> None:
    desk = await open_desk(steps("sleep 1.5", "echo never"), limits={"lease": "100ms"})
    session = await desk.session()
    task = asyncio.create_task(desk.unit.prompt(session, "go"))
    await desk.watch.until("call")
    peer = desk.link._peer
    assert peer is not None
    await peer.aclose()  # the network is gone for longer than the lease
    other = await open_desk()
    async with asyncio.timeout(5):
        while await other.phase(session) == "dispatched":
            await asyncio.sleep(0.05)
    outcome = await asyncio.wait_for(task, 20)
    assert isinstance(outcome.error, LeaseExpired)
    assert outcome.info["status"] == "lost"
    assert len(await desk.events(session, "tool.call")) == 1
    assert [each["type"] for each in await desk.events(session, "tool.result")][-1].startswith("tool.result")


async def test_a_defect_in_a_front_end_ends_the_dispatch_and_frees_the_session(open_desk: Any) -> None:
    desk = await open_desk(once("echo x"))
    session = await desk.session()

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError("a front end's own")

    outcome = await desk.unit.prompt(session, "go", on=Broken())
    assert (outcome.info["status"], type(outcome.error)) == ("failed", InternalError)
    assert (await desk.unit.prompt(session, "go")).info["status"] == "ok"


async def test_a_unit_leaves_no_process_behind(open_desk: Any, workspace: Path) -> None:
    desk = await open_desk(once("echo x"))
    await desk.unit.prompt(await desk.session(), "go")
    await desk.unit.aclose()
    assert _of(workspace) == []


def _of(workspace: Path) -> list[bytes]:
    """The command lines of the workspace's processes besides its daemon."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            if os.fsencode(workspace) in command and b"microkernel.daemon" not in command:
                found.append(command)
    return found


async def test_what_travels_is_json_however_odd_the_output(open_desk: Any) -> None:
    desk = await open_desk(once(r"printf 'ü \xed\xa0\x80 \x1b[31mred\x1b[0m \x07 \u2028 end'"))
    session = await desk.session()
    assert (await desk.unit.prompt(session, "go")).info["status"] == "ok"
    json.dumps(await desk.events(session))


async def test_a_replay_runs_the_tools_again_and_with_recorded_tools_it_runs_none(
    open_desk: Any, workspace: Path
) -> None:
    desk = await open_desk(once("echo run >> runs; echo out"))
    await desk.unit.prompt(await desk.session(), "go")
    page = await desk.link.call("session.record", {"session": workspace.name})
    (workspace / "demo.jsonl").write_text("\n".join(json.dumps(line) for line in page["lines"]))
    for mode, runs in (("", 2), ("?tools=recorded", 2)):
        desk.watch.seen.clear()
        outcome = await desk.unit.prompt(await desk.session(), "go", Asked(model=f"replay:demo.jsonl{mode}"))
        assert (outcome.error, outcome.info["answer"], outcome.info["calls"]) == (None, "Done.", 1)
        assert desk.watch.results()[0].text == "out"
        assert (workspace / "runs").read_text() == "run\n" * runs
