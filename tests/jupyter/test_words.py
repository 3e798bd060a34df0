"""What a person reads of a dispatch in one line."""

from __future__ import annotations

from agentos_jupyter.jupyter.words import changes


def test_changed_files_are_named_and_those_in_caches_counted() -> None:
    created = ["a.py", ".pytest_cache/README.md", "src/x/__pycache__/x.cpython-311.pyc"]
    assert changes({"created": created, "modified": ["b.py"], "deleted": ["c"]}) == "files: +a.py ~b.py -c, 2 in caches"
    assert changes({"created": created[1:]}) == "files: 2 in caches"
    assert changes({"created": [f"f{n}" for n in range(10)], "more": 5}).endswith("+f7 and 7 more")
    assert changes({}) == ""
