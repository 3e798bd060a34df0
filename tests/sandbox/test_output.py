"""A command's output at bounded memory."""

from __future__ import annotations

import asyncio
import resource
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agentos_jupyter.sandbox import Limits, Sandbox, Tier


async def test_both_streams_in_order(box: Sandbox) -> None:
    outcome = await box.run("echo a; echo b >&2; echo c; ls /nonexistent; echo d >&2")
    assert outcome.head_tail.split(b"\n")[:3] == [b"a", b"b", b"c"]
    assert outcome.head_tail.endswith(b"d\n") and outcome.total == len(outcome.head_tail)


async def test_any_bytes_come_through(box: Sandbox) -> None:
    outcome = await box.run("python3 -c 'import os; os.write(1, bytes(range(256)))'")
    assert outcome.head_tail == bytes(range(256)) and outcome.full is None


async def test_long_output_keeps_head_and_tail_and_the_whole(box: Sandbox, limits: Limits) -> None:
    outcome = await box.run("seq 100000; echo end")
    whole = "".join(f"{n}\n" for n in range(1, 100001)).encode() + b"end\n"
    assert outcome.total == len(whole)
    assert len(outcome.head_tail) <= limits.output
    assert outcome.head_tail.startswith(b"1\n2\n3\n") and outcome.head_tail.endswith(b"100000\nend\n")
    assert b"bytes left out" in outcome.head_tail
    assert outcome.full is not None and outcome.full.read_bytes() == whole
    assert stat.S_IMODE(outcome.full.stat().st_mode) == 0o600
    assert not outcome.full.is_relative_to(box.root)


async def test_the_cut_is_between_characters(root: Path, tier: Tier, limits: Limits) -> None:
    for size in range(1000, 1008):
        async with Sandbox(root, tier, replace(limits, output=size)) as box:
            outcome = await box.run("python3 -c 'print(\"aé€😀\" * 1000)'")
            assert "\ufffd" not in outcome.head_tail.decode("utf-8", "replace")


async def test_output_at_the_limit_is_whole(box: Sandbox, limits: Limits) -> None:
    at = await box.run(f"head -c {limits.output} /dev/zero")
    over = await box.run(f"head -c {limits.output + 1} /dev/zero")
    assert (len(at.head_tail), at.full) == (limits.output, None)
    assert over.full is not None and over.full.stat().st_size == limits.output + 1


async def test_the_whole_is_stored_up_to_its_limit(box: Sandbox, limits: Limits) -> None:
    outcome = await box.run("head -c 5M /dev/zero; echo end")
    assert outcome.total == 5 * 1024 * 1024 + 4 and outcome.head_tail.endswith(b"end\n")
    assert outcome.full is not None and outcome.full.stat().st_size == limits.full


async def test_a_flood_is_killed(root: Path, tier: Tier, limits: Limits) -> None:
    async with Sandbox(root, tier, replace(limits, flood=50_000_000)) as box:
        outcome = await box.run("yes")
        assert outcome.status == "killed" and "bytes of output" in outcome.notes[0]
        assert (await box.run("echo on")).head_tail == b"on\n"


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_ten_gigabytes_at_bounded_memory(root: Path, tier: Tier, limits: Limits) -> None:
    async with Sandbox(root, tier, replace(limits, cpu=300)) as box:
        await box.run("seq 100000")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen: list[int] = []
        outcome = await box.run("yes | head -c 10G", timeout=170, on_output=lambda data: seen.append(len(data)))
        assert (outcome.status, outcome.total) == ("ok", 10 * 1024**3)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB
        assert max(seen) < 10 * limits.output


async def test_output_is_live_and_coalesced(box: Sandbox) -> None:
    times: list[tuple[float, bytes]] = []
    began = time.monotonic()
    await box.run("echo first; sleep 0.5; for i in $(seq 2000); do echo $i; done", on_output=lambda data: times.append(
        (time.monotonic() - began, data)))  # fmt: skip
    assert times[0][1] == b"first\n" and times[0][0] < 0.4
    assert len(times) < 40
    assert b"".join(data for _, data in times).endswith(b"2000\n")


async def test_the_loop_stays_free_in_a_flood(box: Sandbox) -> None:
    running = asyncio.create_task(box.run("head -c 1G /dev/zero"))
    worst = 0.0
    while not running.done():
        before = time.monotonic()
        await asyncio.sleep(0.005)
        worst = max(worst, time.monotonic() - before)
    assert worst < 0.3


async def test_a_failing_listener_does_not_fail_the_command(box: Sandbox) -> None:
    def broken(data: bytes) -> None:
        raise RuntimeError("no display")

    outcome = await box.run("echo on", on_output=broken)
    assert outcome.status == "ok" and "no display" in outcome.notes[0]


async def test_the_overflow_is_gone_with_the_sandbox(root: Path, tier: Tier, limits: Limits) -> None:
    async with Sandbox(root, tier, limits) as box:
        full = (await box.run("seq 10000")).full
    assert full is not None and not full.parent.exists()
