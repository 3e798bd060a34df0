"""Exports hold every event and view, are read by other programs, and overwrite nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import duckdb
import pytest

from agentos_jupyter import paths
from agentos_jupyter.log import Log
from agentos_jupyter.log.views import VIEWS
from agentos_jupyter.records import NewEvent

from .conftest import Run


async def _fill(workspace: Path) -> None:
    async with await Log.open(paths.state_dir(workspace)) as log:
        for number in range(30):
            name = f"nämé 'q' \x00 {number}"
            await log.append(f"session/{number}", "new", [NewEvent("session.created", {"name": name, "root": "/"})])


@pytest.fixture(autouse=True)
def filled(workspace: Path) -> None:
    asyncio.run(_fill(workspace))


def test_parquet_files_hold_every_event_and_view(agentos: Run, workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "it's here"
    done = agentos("export", "--parquet", str(folder))
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in folder.glob("*.parquet")} >= {"events", *VIEWS}
    frame = duckdb.sql(
        "select * from read_parquet($path) order by position", params={"path": f"{folder}/events.parquet"}
    ).df()
    assert list(frame["position"]) == list(range(1, 31))
    assert json.loads(frame["data"][4])["name"] == "nämé 'q' \x00 4"
    sessions = duckdb.sql("select count(*) from read_parquet($path)", params={"path": f"{folder}/sessions.parquet"})
    assert sessions.fetchall() == [(30,)]
    assert not list((paths.state_dir(workspace) / "exports").iterdir())


def test_json_lines_hold_the_same(agentos: Run, workspace: Path) -> None:
    made = json.loads(agentos("export", "--jsonl", "--json").stdout)
    assert Path(made["folder"]).parent == paths.state_dir(workspace) / "exports"
    lines = (Path(made["folder"]) / "events.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["position"] for line in lines) == list(range(1, 31))
    assert {each["name"]: each["rows"] for each in made["files"]}["sessions.jsonl"] == 30


def test_nothing_is_overwritten(agentos: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert agentos("export", "--parquet", str(folder)).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    done = agentos("export", "--parquet", str(folder))
    assert done.returncode == 1 and "overwrites nothing" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert "make it first" in agentos("export", "--jsonl", str(tmp_path / "no" / "such")).stderr
    assert agentos("export").returncode == 2
