"""A fresh machine has what is declared and nothing else: every import belongs to a declared distribution."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"agentos_jupyter", "aos_sdk", "tests"}
UNDECLARED = {
    "minisweagent": "the bench compares with it, in an environment of its own",
    "pandas": "used where a person has it",
    "pydantic_core": "pinned by pydantic",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[<>=!~;\[ ]", requirement)[0]) for requirement in requirements}


def imported(folder: str) -> Iterator[str]:
    """The top-level names that the modules of a folder import, anywhere in them."""
    paths = list((ROOT / folder).rglob("*.py"))
    own = {path.stem for path in paths}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            else:
                continue
            yield from ({name.split(".")[0] for name in names} - own)


def undeclared(folder: str, requirements: set[str]) -> set[str]:
    distributions = packages_distributions()
    foreign = set(imported(folder)) - set(sys.stdlib_module_names) - OURS - set(UNDECLARED)
    return {name for name in foreign if not {normal(each) for each in distributions.get(name, [name])} & requirements}


def test_the_package_declares_what_it_imports() -> None:
    assert not undeclared("agentos_jupyter", declared(PROJECT["dependencies"]))


def test_the_dev_extra_declares_what_the_tests_import() -> None:
    everything = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert not undeclared("tests", declared(everything))
