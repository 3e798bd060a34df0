"""Files of unknown origin: bounds, and errors with file, line and column."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agentos_jupyter import yamlfile
from agentos_jupyter.errors import ConfigError


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        yamlfile.read(path)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.yaml"


def test_a_value_knows_its_line_and_column(file: Path) -> None:
    file.write_text("a:\n  b:\n  - x\n  - {c: 1}\n")
    document = yamlfile.read(file)
    assert document.data == {"a": {"b": ["x", {"c": 1}]}}
    assert document.where(["a", "b", 1, "c"]) == f"{file}:4:9"
    assert document.where(["a", "b", 1, "c"], key=True) == f"{file}:4:6"
    assert document.where(["a", "nowhere", "deep"]) == f"{file}:2:3"
    assert document.where() == f"{file}:1:1"


def test_an_empty_file_says_nothing(file: Path) -> None:
    file.write_text("# only a comment\n")
    document = yamlfile.read(file)
    assert document.data is None and document.where(["a"]) == f"{file}:1:1"


def test_what_is_no_yaml_is_named_with_its_line(file: Path) -> None:
    file.write_text("a: 1\nb: [1, 2\nc: 3\n")
    assert refused(file).startswith(f"{file}:3:") and "not valid YAML" in refused(file)


def test_tags_that_would_run_something_are_refused(file: Path) -> None:
    file.write_text("a: !!python/object/apply:os.system ['touch /tmp/x']")
    assert f"{file}:1:4: not valid YAML" in refused(file)


def test_a_long_file_is_refused(file: Path) -> None:
    file.write_bytes(b"a: " + b"x" * 256_000)
    assert "longer than 256 kB" in refused(file)


def test_aliases_are_counted(file: Path) -> None:
    file.write_text("a: &x 1\nb:\n" + "- *x\n" * 100)
    assert len(yamlfile.read(file).data["b"]) == 100
    file.write_text("a: &x 1\nb:\n" + "- *x\n" * 101)
    assert f"{file}:103:3: more than 100 aliases" in refused(file)


def test_aliases_of_aliases_are_refused_before_they_grow(file: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 11)]
    file.write_text("\n".join(lines))
    started = time.perf_counter()
    assert "its aliases multiply" in refused(file)
    assert time.perf_counter() - started < 1


def test_an_alias_of_itself_is_refused(file: Path) -> None:
    file.write_text("a: &a [*a]")
    assert "an alias contains itself" in refused(file)


@pytest.mark.parametrize("text", ["[" * 51 + "]" * 51, "{a: " * 60 + "1" + "}" * 60, "[" * 100_000])
def test_depth_is_bounded(file: Path, text: str) -> None:
    file.write_text(text)
    assert "nested deeper than 50" in refused(file)


def test_a_link_is_not_followed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("a: 1")
    file.symlink_to(tmp_path / "real.yaml")
    assert "is a symbolic link, which is not followed" in refused(file)


def test_a_pipe_is_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    assert "not a regular file" in refused(file)


def test_a_folder_is_no_file(file: Path) -> None:
    file.mkdir()
    assert "not a regular file" in refused(file)


def test_a_missing_file_is_missing(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        yamlfile.read(file)


def test_bytes_that_are_no_utf8_are_named(file: Path) -> None:
    file.write_bytes(b"a: 1\nb: caf\xe9\n")
    assert f"{file}:2:7: byte 0xe9 is not UTF-8" in refused(file)


def test_control_characters_are_refused(file: Path) -> None:
    file.write_bytes(b"a: 1\nb: \x00\n")
    assert "not valid YAML" in refused(file)


@pytest.mark.parametrize(
    "value", ["2024-99-99", "0b", "1:99:99", "!!int x", "!!float y", "? [a]\n: b", "!!timestamp x"]
)
def test_values_that_yaml_cannot_make_are_an_error_of_ours_or_text(file: Path, value: str) -> None:
    file.write_text(f"a: {value}\n" if not value.startswith("?") else value)
    try:
        yamlfile.read(file)
    except ConfigError as error:
        assert str(file) in str(error)


def test_a_key_that_stands_twice_is_refused(file: Path) -> None:
    file.write_text("a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert f"{file}:4:3: the key 'b' stands twice (first in line 2)" in refused(file)
