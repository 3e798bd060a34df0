"""A link survives its daemon; the blocking twin and the generated client say the same."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import subprocess
import threading
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter import paths
from agentos_jupyter.errors import (
    Cancelled,
    ConnectionLost,
    DaemonUnavailable,
    FrameTooLarge,
    InvalidParams,
    SessionNotFound,
    UnknownSyscall,
    VersionMismatch,
)
from agentos_jupyter.microkernel import clients
from agentos_jupyter.microkernel.syscalls import TABLE
from agentos_jupyter.rpc import client as generated
from agentos_jupyter.rpc import start
from agentos_jupyter.rpc.link import Link
from agentos_jupyter.rpc.sync import SyncLink
from agentos_jupyter.rpc.wire import MAX_FRAME, pack, unpack


def test_the_client_in_the_repository_is_what_the_table_writes() -> None:
    assert Path(generated.__file__).read_text(encoding="utf-8") == clients.generate()


def test_every_syscall_is_a_typed_method_of_the_client() -> None:
    made = generated.Client(lambda method, params, on_stream=None: None)  # type: ignore[arg-type,return-value]
    for name, row in TABLE.items():
        space, _, method = name.partition(".")
        function = getattr(getattr(made, space), method)
        hints = typing.get_type_hints(function, vars(generated))
        assert hints["return"] is getattr(generated, row.result.__name__), name
        assert set(row.params.model_fields) <= set(inspect.signature(function).parameters), name


@pytest.mark.slow
def test_the_clients_user_code_is_checked_by_the_type_checker(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(
        "from agentos_jupyter.rpc.client import Client, SyncClient\n"
        "async def a(c: Client) -> str:\n    return (await c.session.create(key='k'))['name']\n"
        "def b(c: SyncClient) -> int:\n    return c.session.list(limit=3)['sessions'][0]['turns']\n"
        "def bad(c: SyncClient) -> int:\n    return c.session.list(limt=3)['sessions']\n"
    )
    ran = subprocess.run(
        ["mypy", "--strict", "--no-incremental", "--follow-imports=silent", "use.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(Path(generated.__file__).parents[2])},
    )
    assert "limt" in ran.stdout
    assert all(":7:" in line for line in ran.stdout.splitlines()[:-1]), ran.stdout


async def test_an_unknown_method_is_told_with_the_nearest_name(link: Link) -> None:
    with pytest.raises(UnknownSyscall, match=r"'sesion\.create'; did you mean 'session\.create'"):
        await link.call("sesion.create", {})


async def test_wrong_parameters_are_named(link: Link) -> None:
    with pytest.raises(InvalidParams, match=r"session\.create: key: field required"):
        await link.call("session.create", {})
    with pytest.raises(InvalidParams, match=r"keey: extra inputs"):
        await link.call("session.create", {"key": "k" * 8, "keey": 1})


async def test_a_link_goes_on_with_the_next_daemon_after_kill_9(
    link: Link, kill: Callable[[], int], key: Callable[[], str]
) -> None:
    made = await link.client.session.create(key=key(), name="first")
    first = kill()
    assert (await link.client.session.get(session=made["id"]))["name"] == "first"
    assert link.info["pid"] != first


async def test_a_call_cut_off_by_kill_9_is_made_again(link: Link, kill: Callable[[], int], script: Callable) -> None:
    os.environ["AGENTOS_MODEL"] = script([{"when": "slow", "say": "a b c d e f g h", "delay": 0.15}])
    try:
        async with asyncio.timeout(30):
            other = await Link.open(link.workspace)
            session = await other.client.session.create(key="k" * 8)
            began = await other.client.dispatch.begin(session=session["id"], prompt="slow", key="k" * 9)
            began_to_speak = asyncio.Event()
            asked = asyncio.create_task(
                other.client.compute.complete(
                    dispatch=began["dispatch"],
                    epoch=began["epoch"],
                    turn=1,
                    on_stream=lambda data: began_to_speak.set(),
                )
            )
            await began_to_speak.wait()
            kill()
            assert (await asked)["text"] == "a b c d e f g h"
            await other.aclose()
    finally:
        del os.environ["AGENTOS_MODEL"]


async def test_sixty_calls_at_once_survive_one_kill(
    link: Link, kill: Callable[[], int], key: Callable[[], str]
) -> None:
    keys = [key() for _ in range(60)]
    calls = [asyncio.create_task(link.client.session.create(key=each, name=each)) for each in keys]
    await asyncio.sleep(0.01)
    kill()
    made = await asyncio.gather(*calls)
    stored = (await link.client.session.list(limit=1000))["sessions"]
    assert sorted(each["name"] for each in stored) == sorted(keys)
    assert {each["id"] for each in made} == {each["id"] for each in stored}


async def test_a_subscription_and_a_follower_go_on_after_the_daemon_was_killed(
    link: Link, kill: Callable[[], int], key: Callable[[], str], begin: Callable[..., Any]
) -> None:
    session = (await link.client.session.create(key=key(), name="followed"))["id"]
    began = await begin(link, session)
    heard: list[dict[str, Any]] = []
    followed: list[dict[str, Any]] = []
    calls = [
        asyncio.create_task(link.call("event.subscribe", {"prefix": "session/"}, heard.append)),
        asyncio.create_task(link.call("dispatch.follow", {"dispatch": began["dispatch"]}, followed.append)),
    ]
    await asyncio.sleep(0.3)
    kill()
    again = await begin(link, session, dispatch=began["dispatch"])
    handle = {"dispatch": again["dispatch"], "epoch": again["epoch"]}
    await link.call("dispatch.end", {**handle, "status": "ok"})
    await asyncio.wait_for(calls[1], 20)
    calls[0].cancel()
    await asyncio.gather(*calls, return_exceptions=True)

    stored = (await link.call("event.read", {"stream": f"session/{session}"}))["events"]
    told = [each["version"] for data in heard for each in data.get("events", ())]
    assert told[:3] == [1, 2, 3] and len(told) == len(set(told)), "nothing is told twice"
    facts = [data["event"]["version"] for data in followed if data["kind"] == "event"]
    assert facts == [each["version"] for each in stored if each["dispatch"]]


async def test_a_closed_link_starts_no_daemon_again(link: Link, owner: Callable[[], int]) -> None:
    pid = owner()
    waiting = asyncio.create_task(link.call("event.subscribe", {}))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGTERM)
    await link.aclose()
    with pytest.raises(Cancelled):
        await waiting
    with pytest.raises(Cancelled):
        await link.call("system.info")
    await asyncio.sleep(0.3)
    with pytest.raises(DaemonUnavailable):
        SyncLink(link.workspace, start=False)


async def test_cancelling_while_connecting_leaves_no_socket_open(workspace: Path) -> None:
    for pause in (0.0, 0.01, 0.1, 0.3):
        task = asyncio.create_task(Link.open(workspace))
        await asyncio.sleep(pause)
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        if isinstance(results[0], Link):
            await results[0].aclose()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
    link = await Link.open(workspace)
    assert (await link.call("system.info"))["workspace"] == str(workspace)
    await link.aclose()


def test_the_blocking_twin_makes_calls_and_raises_what_they_raise(workspace: Path) -> None:
    with SyncLink(workspace) as link:
        session = link.client.session.create(key="k" * 8, name="n")
        assert link.client.session.get(session="n") == session
        with pytest.raises(SessionNotFound):
            link.client.session.get(session="nobody")
        with pytest.raises(UnknownSyscall):
            link.call("sql.qery")


def test_the_blocking_twin_refuses_a_long_message_and_stays_usable(workspace: Path) -> None:
    with SyncLink(workspace) as link:
        with pytest.raises(FrameTooLarge):
            link.call("session.create", {"key": "k" * 8, "name": "x" * MAX_FRAME})
        assert link.call("system.info")["workspace"] == str(workspace)


def test_the_blocking_twin_says_so_when_its_daemon_dies(workspace: Path, kill: Callable[[], int]) -> None:
    with SyncLink(workspace) as link:
        kill()
        with pytest.raises(ConnectionLost, match="agentos status"):
            link.call("system.info")


def test_without_a_daemon_the_sentence_names_the_command(workspace: Path) -> None:
    with pytest.raises(DaemonUnavailable, match="agentos start"):
        SyncLink(workspace, start=False)


def test_starting_a_daemon_leaves_no_zombie(workspace: Path) -> None:
    before = _children()
    with SyncLink(workspace):
        assert _children() == before


def _children() -> list[str]:
    tasks = Path("/proc/self/task").iterdir()
    return sorted(pid for task in tasks for pid in (task / "children").read_text().split())


def _impostor(workspace: Path, answer: dict) -> socket.socket:
    """Something else that listens on the workspace's socket and answers one greeting."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.fspath(paths.socket_path(workspace)))
    server.listen()

    def serve() -> None:
        while True:
            try:
                channel, _ = server.accept()
            except OSError:
                return
            with channel, channel.makefile("rb") as lines:
                asked = unpack(lines.readline())
                channel.sendall(pack({"jsonrpc": "2.0", "id": asked["id"], **answer}))

    threading.Thread(target=serve, daemon=True).start()
    return server


@pytest.mark.parametrize("info", [{"version": "9.9.9", "protocol": 99, "new": 1}, {}])
async def test_another_protocol_is_one_sentence_that_names_both_and_the_cure(workspace: Path, info: dict) -> None:
    server = _impostor(workspace, {"result": info})
    try:
        with pytest.raises(
            VersionMismatch, match=r"protocol (99|unknown)\), this is 0\.1\.0 \(protocol 1\).*agentos stop"
        ):
            SyncLink(workspace)
        with pytest.raises(VersionMismatch):
            await Link.open(workspace)
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_a_newer_clients_greeting_is_understood_and_answered_with_our_protocol(workspace: Path) -> None:
    with SyncLink(workspace) as link:
        info = link.call("system.hello", {"version": "9", "protocol": 99, "colour": "red", "environ": {}})
        assert info["protocol"] == 1


def test_a_daemon_that_stops_while_clients_arrive_is_waited_for(workspace: Path) -> None:
    for _ in range(5):
        with SyncLink(workspace) as link:
            link.call("system.shutdown")
        with SyncLink(workspace) as link:
            assert link.call("system.info")["workspace"] == str(workspace)


def test_the_daemon_is_started_with_a_safe_environment() -> None:
    environ = start._safe_environment()
    assert environ["PYTHONSAFEPATH"] == "1"
    assert not {"PYTHONSTARTUP", "PYTHONINSPECT"} & set(environ)


def test_a_client_offers_what_chooses_a_model_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {
        "AGENTOS_MODEL": "openai/a",
        "OPENAI_MODEL": "b",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "X_API_KEY": "c",
    }
    for name, value in {**chosen, "SECRET": "d"}.items():
        monkeypatch.setenv(name, value)
    offered = start.offer()["environ"]
    assert {name: offered.get(name) for name in [*chosen, "SECRET"]} == {**chosen, "SECRET": None}


def test_connecting_takes_milliseconds_when_a_daemon_runs(workspace: Path) -> None:
    with SyncLink(workspace):
        started = time.perf_counter()
        for _ in range(10):
            SyncLink(workspace).close()
        assert time.perf_counter() - started < 2
