"""Which files were changed, told from two listings."""

from __future__ import annotations

import os
import time
from pathlib import Path

from agentos_jupyter.sandbox import Sandbox, diff, listing


def test_what_a_person_would_say(tmp_path: Path) -> None:
    for name in ("kept", "changed", "deleted", "same-size", "mode"):
        (tmp_path / name).write_text("one")
    before = listing(tmp_path)
    (tmp_path / "changed").write_text("three")
    (tmp_path / "same-size").write_text("two")
    (tmp_path / "mode").chmod(0o755)
    (tmp_path / "deleted").unlink()
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "new").touch()
    (tmp_path / "link").symlink_to("/etc")
    changes = diff(before, listing(tmp_path))
    assert changes.created == ["a/b/new", "link"]
    assert changes.modified == ["changed", "mode", "same-size"]
    assert (changes.deleted, changes.more) == (["deleted"], 0)


def test_folders_that_programs_fill_are_one_entry_each(tmp_path: Path) -> None:
    (tmp_path / "pkg" / "__pycache__").mkdir(parents=True)
    (tmp_path / "pkg" / "__pycache__" / "a.pyc").write_text("1")
    before = listing(tmp_path)
    for name in ("lib/one.py", "lib/two.py", "bin/python"):
        (tmp_path / ".venv" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".venv" / name).write_text("x")
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    (tmp_path / "pkg" / "__pycache__" / "b.pyc").write_text("2")
    (tmp_path / "pkg" / "a.py").write_text("3")
    changes = diff(before, listing(tmp_path))
    assert (changes.created, changes.modified) == ([".venv/", "pkg/a.py"], ["pkg/__pycache__/"])

    before = listing(tmp_path)
    (tmp_path / ".venv" / "lib" / "two.py").unlink()
    (tmp_path / "pkg" / "__pycache__" / "b.pyc").write_text("3")
    assert diff(before, listing(tmp_path)).modified == [".venv/", "pkg/__pycache__/"]


def test_the_root_itself_is_never_taken_for_an_environment(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").touch()
    before = listing(tmp_path)
    (tmp_path / "a.py").touch()
    assert diff(before, listing(tmp_path)).created == ["a.py"]


def test_a_change_with_its_time_set_back_is_seen(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("one")
    seen = (tmp_path / "f").stat()
    before = listing(tmp_path)
    (tmp_path / "f").write_text("two")
    os.utime(tmp_path / "f", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert diff(before, listing(tmp_path)).modified == ["f"]


def test_state_git_and_placeholders_are_left_out_and_links_not_followed(tmp_path: Path) -> None:
    for folder in (".agentos", ".git", "sub/.git", "sub/.agentos"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "f").touch()
    (tmp_path / "agentos.yaml").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert sorted(listing(tmp_path)) == ["loop", "sub/.agentos/f"]


def test_the_list_is_bounded_and_names_are_text(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"f{number:02}").touch()
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))).touch()
    changes = diff({}, listing(tmp_path), most=5)
    assert changes.created == [f"f{n:02}" for n in range(5)] and changes.more == 16
    assert "\\xff" in diff({}, listing(tmp_path)).created


def test_a_thousand_files_are_quick(tmp_path: Path) -> None:
    for folder in range(20):
        (tmp_path / str(folder)).mkdir()
        for number in range(50):
            (tmp_path / str(folder) / str(number)).touch()
    began = time.perf_counter()
    for _ in range(10):
        assert len(listing(tmp_path)) == 1000
    assert (time.perf_counter() - began) / 10 < 0.05


async def test_starting_a_sandbox_changes_nothing(box: Sandbox) -> None:
    before = listing(box.root)
    await box.run("mkdir empty")
    assert diff(before, listing(box.root)) == diff({}, {})
