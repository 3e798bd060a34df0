"""What a person reads of a dispatch in one line."""

from __future__ import annotations

from agentos_jupyter.jupyter.words import changes


def test_changed_files_are_named_and_folders_that_programs_fill_come_last() -> None:
    created = [".pytest_cache/", "a.py", "x/__pycache__/"]
    shown = changes({"created": created, "modified": ["b.py"], "deleted": ["c"]})
    assert shown == "files: +a.py ~b.py -c +.pytest_cache/ +x/__pycache__/"
    assert changes({"created": [f"f{n}" for n in range(10)], "more": 5}).endswith("+f7 and 7 more")
    assert changes({}) == ""
