from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter import limits
from agentos_jupyter.errors import ConfigError
from agentos_jupyter.limits import Limits

QUANTITIES = [
    ("turns", 7, 7),
    ("turns", "400k", 400_000),
    ("window", "2M", 2_000_000),
    ("memory", "2G", 2 * 2**30),
    ("memory", "1.5 GiB", 3 * 2**29),
    ("output", "32kB", 32 * 1024),
    ("output", 100, 100),
    ("wall", "30m", 1800.0),
    ("wall", "250ms", 0.25),
    ("wall", 1.5, 1.5),
    ("wall", "2h", 7200.0),
    ("retry_status", [429, 503], (429, 503)),
]


@pytest.mark.parametrize("name, written, meant", QUANTITIES)
def test_quantities_have_units(name: str, written: Any, meant: Any) -> None:
    assert limits.quantity(name, written) == meant


@pytest.mark.parametrize(
    "name, value", [("turns", "30m"), ("turns", "2G"), ("wall", "2G"), ("memory", "30s"), ("turns", [])]
)
def test_a_unit_of_another_kind_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError):
        limits.quantity(name, value)


def test_the_later_layer_wins_and_nothing_may_be_missing() -> None:
    whole = {field.name: [429] if field.name == "retry_status" else 1 for field in fields(Limits)}
    assert limits.merge(whole, {"turns": 2}, {"turns": 3}).turns == 3
    del whole["lease"]
    with pytest.raises(ConfigError, match="No limit is given for lease"):
        limits.merge(whole)


def test_every_limit_says_what_it_is() -> None:
    tree = ast.parse(Path(limits.__file__).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Limits").body[1:]
    for field, text in zip(body[::2], body[1::2], strict=True):
        assert isinstance(field, ast.AnnAssign) and field.value is None, "a limit has no default in the package"
        assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
