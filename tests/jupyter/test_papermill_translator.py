"""What papermill injects is read back as the same values."""

from __future__ import annotations

import datetime
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell

from agentos_jupyter.errors import CommandError
from agentos_jupyter.jupyter.cells import Parameters, classify
from agentos_jupyter.jupyter.papermill import AgentOSTranslator
from agentos_jupyter.jupyter.parameters import load

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
names = st.from_regex(r"\A[a-z_][a-z0-9_]{0,8}\Z").filter(lambda name: not __import__("keyword").iskeyword(name))


def _read_back(parameters: dict[str, Any]) -> dict[str, Any]:
    (cell,) = classify(AgentOSTranslator.codify(parameters, "Parameters"))
    assert isinstance(cell, Parameters)
    return load(cell.yaml)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, values, max_size=5))
def test_every_value_is_read_back(parameters: dict[str, Any]) -> None:
    assert _read_back(parameters) == parameters


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -1, 1.5, 1e20, math.inf, "", " ", "yes", "no", "null", "~", "1", "1.0", "1e3", "0x1f",
     "2024-01-01", "12:30:00",
     "a: b", "- a", "# a", "&a", "*a", "!x", "%%python", "{{x}}", "'", '"', "a\nb\n", "\n", "a\n\n  b", "%TAG", "--- ",
     "日本 🎉", "\t", "\x85",
     [], {}, [[1, None], {"a": []}], {"1": {"b": "yes"}}, {1: 2}, datetime.date(2024, 1, 1)],
)  # fmt: skip
def test_values_that_look_like_something_else(value: Any) -> None:
    assert _read_back({"x": value}) == {"x": value}


def test_nan_and_unknown_types() -> None:
    assert math.isnan(_read_back({"x": math.nan})["x"])
    assert _read_back({"x": {1, 2}, "y": complex(1, 2)}) is not None


def test_codify_is_a_readable_cell() -> None:
    assert AgentOSTranslator.codify({"city": "Berlin", "n": 3, "tags": ["a", "b"]}) == (
        "%%parameters\n# Parameters\ncity: Berlin\nn: 3\ntags: [a, b]\n"
    )
    assert AgentOSTranslator.codify({}, "two\nlines") == "%%parameters\n# two\n# lines\n"


def test_inspect_reads_the_defaults() -> None:
    cell = new_code_cell("%%parameters\n# who\ncity: Berlin   # where it is\nn: 3\nx: null\ntags: [a]\n")
    found = [(p.name, p.inferred_type_name, p.default, p.help) for p in AgentOSTranslator.inspect(cell)]
    assert found == [
        ("city", "str", "Berlin", "where it is"),
        ("n", "int", "3", ""),
        ("x", "NoneType", "null", ""),
        ("tags", "list", "[a]", ""),
    ]
    assert AgentOSTranslator.inspect(new_code_cell("a prompt")) == []
    assert AgentOSTranslator.inspect(new_code_cell("%%parameters\n: [")) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "line 1: "),
        ("- a", "not a mapping"),
        ("my-name: 1", "'my-name' cannot be the name"),
        ("class: 1", "'class' cannot be the name"),
        ("1: 1", "1 cannot be the name"),
        ("a: !!python/object:os.system x", "constructor"),
        ("[" * 5000, "nested more than"),
    ],
)
def test_bad_parameters_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(CommandError) as caught:
        load(text)
    assert says in caught.value.message


@pytest.mark.parametrize("first", ["papermill", "agentos_jupyter.jupyter.papermill"])
def test_papermill_finds_translator_and_engine_in_either_order(first: str) -> None:
    code = f"import {first}, papermill.engines as e, papermill.translators as t; print(e.papermill_engines.get_engine('agentos').__name__, "
    code += (
        "*(t.papermill_translators.find_translator(*names).__name__ for names in (('agentos', 'x'), ('x', 'agentos'))))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.split() == ["AgentOSEngine", "AgentOSTranslator", "AgentOSTranslator"]


def test_the_package_does_not_import_papermill() -> None:
    code = "import agentos_jupyter.jupyter.cells, sys; sys.exit(any(m in sys.modules for m in ('papermill', 'yaml', 'nbformat')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
