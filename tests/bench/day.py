"""A day's work in minutes: thousands of dispatches by real units in processes of their own, then the same under kills.

First one daemon lives undisturbed: its memory, threads, descriptors, tasks and files are looked at each second. Then it
and the units are killed at random until all is done. In the end every fact that a unit was told must be in the log once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentos_jupyter.cli.stop import stop
from agentos_jupyter.log import Log
from agentos_jupyter.microkernel.kernel import IDLE_SESSIONS
from agentos_jupyter.records import Event
from agentos_jupyter.rpc.sync import SyncLink
from tests.bench.common import REPOSITORY, memory, private, server, table, workspace
from tests.bench.kills import owner, torn
from tests.bench.worker import ENDED, digest, facts

WORKERS, TURNS = 4, 10
UNDISTURBED = 0.7
"""The share of the dispatches that one daemon sees."""

COMMAND = "if (( RANDOM % 40 )); then echo $RANDOM; else seq $RANDOM $((RANDOM + 40000)); fi"
"""One output in forty is longer than what the model gets: it is stored whole."""

AGE = 2.0
"""Seconds after its birth at which a daemon's memory is compared with that of others."""

GROWTH = 0.05
"""How much more memory the daemon may have at the end than once it was warm."""

WAL_MOST = 40.0
"""MB: a checkpoint comes at 32, or at 1 in a quiet moment."""


@dataclass(frozen=True)
class Sample:
    """The daemon at a moment: megabytes, counts, and the position of its log."""

    rss: float
    threads: int
    files: int
    tasks: int
    loaded: int
    position: int
    log: float
    wal: float


@dataclass
class Day:
    """What a day came to; `problems` are sentences, `buffers` DuckDB's own megabytes when the undisturbed part ended."""

    dispatches: int
    samples: list[Sample] = field(default_factory=list)
    aged: list[float] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    buffers: float = 0.0
    told: int = 0
    events: int = 0
    turns: int = 0
    bytes: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def part(self, first: float, last: float) -> list[Sample]:
        """The samples of a part of the undisturbed life, by position in the log."""
        whole = self.samples[-1].position
        return [each for each in self.samples if first * whole <= each.position <= last * whole]


class _Crew:
    """The workers, each with its file of facts; who was killed is started again while work is left."""

    def __init__(self, folder: Path, facts_folder: Path) -> None:
        self._folder, self.files = folder, [facts_folder / f"told-{number}" for number in range(WORKERS)]
        self._running: dict[Path, subprocess.Popen[bytes]] = {}

    def work(self, dispatches: int) -> bool:
        """Let each do its share; whether anybody still works."""
        share = dispatches // WORKERS
        for file in self.files:
            process = self._running.get(file)
            if process is None or (process.poll() is not None and _ended(file) < share):
                command = [sys.executable, "-m", "tests.bench.worker", str(self._folder), str(file), str(share)]
                self._running[file] = subprocess.Popen(command, cwd=REPOSITORY)
        return any(process.poll() is None for process in self._running.values())

    def rest(self) -> None:
        """Forget those that are done, so that they can be given more."""
        self._running.clear()

    def kill_one(self, chance: random.Random) -> None:
        chance.choice(list(self._running.values())).kill()

    def end(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()


def _ended(file: Path) -> int:
    return file.read_text().count(f'"{ENDED}"') if file.exists() else 0


def live(folder: Path, facts_folder: Path, dispatches: int, seed: int, every: float = 1.0) -> Day:
    """Do the day's work in a workspace whose model is the server."""
    day, crew, began = Day(dispatches), _Crew(folder, facts_folder), time.monotonic()
    try:
        _undisturbed(day, crew, folder, round(dispatches * UNDISTURBED), every)
        crew.rest()
        _disturbed(day, crew, folder, dispatches, random.Random(seed))
    finally:
        crew.end()
    day.seconds = time.monotonic() - began
    stop(folder)
    asyncio.run(_check(day, folder, crew.files))
    return day


def _undisturbed(day: Day, crew: _Crew, folder: Path, dispatches: int, every: float) -> None:
    crew.work(dispatches)
    with SyncLink(folder) as link:
        while crew.work(dispatches):
            day.samples.append(_sample(link.client.system.info(), folder))
            time.sleep(every)
        asked = link.client.sql.query(sql="select sum(memory_usage_bytes) / 1e6 from duckdb_memory()")
        day.buffers = asked["rows"][0][0]


def _disturbed(day: Day, crew: _Crew, folder: Path, dispatches: int, chance: random.Random) -> None:
    born, seen, due = 0.0, 0, time.monotonic() + 1
    while crew.work(dispatches):
        time.sleep(0.02)
        now, pid = time.monotonic(), owner(folder)
        if pid != seen:
            born, seen = now, pid
        if born and now - born > AGE:
            with contextlib.suppress(OSError):
                day.aged.append(memory(pid).get("rss", 0.0))
            born = 0.0
        if now > due:
            due = now + chance.uniform(0.2, 2 * AGE)
            _kill(day, crew, pid, chance)


def _kill(day: Day, crew: _Crew, pid: int, chance: random.Random) -> None:
    if chance.random() < 0.4:
        crew.kill_one(chance)
        day.kills["units"] += 1
    elif pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        day.kills["daemons"] += 1


def _sample(info: Any, folder: Path) -> Sample:
    process, state = Path(f"/proc/{info['pid']}"), folder / ".agentos"
    counts = (len(list((process / name).iterdir())) for name in ("task", "fd"))
    sizes = (_megabytes(state / name) for name in ("log.duckdb", "log.duckdb.wal"))
    rss = memory(info["pid"])["rss"]
    return Sample(rss, *counts, info["tasks"], info["loaded"], info["position"], *sizes)


def _megabytes(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size / 1e6
    return 0.0


async def _check(day: Day, folder: Path, files: Sequence[Path]) -> None:
    """Look for everything that was told, and whether what is there is whole."""
    told = [fact for file in files for fact in facts(file)]
    kept: Counter[tuple[str, ...]] = Counter()
    wanted: set[str] = set()
    async with await Log.open(folder / ".agentos") as log:
        day.problems += log.notes
        for stream in log.streams():
            await log.verify(stream)
            events = await log.read(stream)
            kept.update(_fact(event) for event in events)
            wanted |= {event.data["full"] for event in events if event.data.get("full")}
            day.turns += sum(event.type == "assistant.message" for event in events)
            if stream.startswith("session/"):
                day.problems += [f"{stream}: {sentence}" for sentence in [*torn(events), *_twice(events)]]
        day.events = log.position
        blobs = {name: await log.blobs.get(name) for name in wanted}
    day.told = len(told)
    lost = [fact for fact in told if fact[2] != ENDED and kept[fact] != 1]
    day.problems += [f"told once, kept {kept[fact]} times: {fact}" for fact in lost]
    day.problems += [f"{name} has other bytes" for name, data in blobs.items() if _named(data) != name]
    day.blobs, day.blob_bytes = len(blobs), sum(map(len, blobs.values()))
    state = folder / ".agentos"
    day.bytes = sum(path.stat().st_size for path in state.glob("log.duckdb*"))
    stored = sum(1 for path in (state / "blobs").rglob("*") if path.is_file())
    if not len(blobs) <= stored <= len(blobs) + day.kills.total():
        day.problems.append(f"{stored} blobs are stored, {len(blobs)} are named by events")


def _named(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _fact(event: Event) -> tuple[str, ...]:
    """An event as a unit would have written it down."""
    data = event.data
    names: dict[str, Callable[[], Any]] = {
        "dispatch.started": lambda: data["epoch"],
        "assistant.message": lambda: data["turn"],
        "tool.result": lambda: data["id"],
        "inbox.message": lambda: event.version,
    }
    name = str(names.get(event.type, lambda: "")())
    text = "" if event.type == "dispatch.started" else str(data.get("text", ""))
    return event.stream.partition("/")[2], event.dispatch or "", event.type, name, digest(text)


def _twice(events: Sequence[Event]) -> list[str]:
    """What was said once and heard twice."""
    heard = Counter(event.data["inbox"] for event in events if event.data.get("inbox"))
    return [f"words {name} were heard {number} times" for name, number in heard.items() if number > 1]


def _judge(day: Day) -> None:
    """Whether anything grew that must not grow."""
    warm, last = day.part(0.1, 0.25), day.part(0.9, 1)
    for name in ("rss", "threads", "files", "tasks"):
        before, after = _level(warm, name), _level(last, name)
        if after > before * (1 + GROWTH if name == "rss" else 1) + (0 if name == "rss" else 1):
            day.problems.append(f"{name} grew from {before:.0f} to {after:.0f}")
    if (loaded := max(each.loaded for each in day.samples)) > IDLE_SESSIONS + WORKERS:
        day.problems.append(f"{loaded} sessions were in memory")
    if (wal := max(each.wal for each in day.samples)) > WAL_MOST:
        day.problems.append(f"the write-ahead log had {wal:.0f} MB")


def _level(part: Sequence[Sample], name: str) -> float:
    """The median of the memory; of what comes and goes with each call, the least."""
    return (statistics.median if name == "rss" else min)(getattr(each, name) for each in part)


def rows(day: Day) -> list[list[Any]]:
    warm, last = day.part(0.1, 0.25), day.part(0.9, 1)
    named = {"rss": "RSS of the daemon, MB", "threads": "its threads", "files": "its descriptors", "tasks": "its tasks"}
    found: list[list[Any]] = [
        ["dispatches; turns", f"{day.dispatches}; {day.turns}"],
        ["minutes", day.seconds / 60],
    ]
    for name, title in named.items():
        found.append([f"{title}: warm, at the end", f"{_level(warm, name):.1f}, {_level(last, name):.1f}"])
    found.insert(3, ["of the memory at the end, DuckDB's copy of the log", f"{day.buffers:.1f}"])
    third = max(1, len(day.aged) // 3)
    young = [statistics.median(part) if part else 0.0 for part in (day.aged[:third], day.aged[-third:])]
    return [
        *found,
        [f"RSS {AGE:g} s after a start: first, last third, MB", f"{young[0]:.1f}, {young[1]:.1f}"],
        ["sessions in memory, most", max(each.loaded for each in day.samples)],
        ["write-ahead log, most, MB", max(each.wal for each in day.samples)],
        ["bytes of log a turn", day.bytes / day.turns],
        ["blobs; MB", f"{day.blobs}; {day.blob_bytes / 1e6:.1f}"],
        ["`kill -9`: daemons, units", f"{day.kills['daemons']}, {day.kills['units']}"],
        ["facts that units were told", day.told],
        ["**problems**", len(day.problems)],
    ]


def measure(dispatches: int = 2000) -> str:
    with (
        private() as base,
        server(COMMAND) as asked,
        workspace(base, asked.base_url("d", f"since{TURNS - 1}")) as folder,
    ):
        day = live(folder, base, dispatches, seed=1)
    _judge(day)
    print(json.dumps([each.__dict__ for each in day.samples[:: max(1, len(day.samples) // 40)]]), file=sys.stderr)
    sentences = [f"\n{sentence}" for sentence in day.problems[:20]]
    return "\n".join([table("A day's work", ["", ""], rows(day)), *sentences])
