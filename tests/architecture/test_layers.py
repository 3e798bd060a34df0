"""The layers of docs/explanation/architecture.md: imports point down, and a started kernel stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import agentos_jupyter
from agentos_jupyter.errors import BY_CODE

PACKAGE = Path(agentos_jupyter.__file__).parent

LAYERS = (
    {"errors", "records", "config", "keys", "limits", "paths", "redact", "storage", "yamlfile"},
    {"log", "rpc", "models", "sandbox"},
    {"microkernel"},
    {"unit"},
    {"jupyter", "sdk", "lab"},
    {"cli", "widgets"},
)
NEVER = {"unit": {"microkernel", "log", "models"}, "jupyter": {"microkernel", "log", "models"}}
"""What a layer may not import although it lies below: unit and notebook kernel reach the daemon by `rpc` alone."""

HEAVY = (
    "pydantic",
    "duckdb",
    "litellm",
    "nbformat",
    "papermill",
    "aiohttp",
    "jupyterlab",
    "agentos_jupyter.microkernel",
)


def layer(part: str) -> int:
    found = [number for number, parts in enumerate(LAYERS) if part in parts]
    assert found, f"agentos_jupyter/{part} has no layer: add it to LAYERS and to docs/explanation/architecture.md"
    return found[0]


def modules() -> list[tuple[str, Path]]:
    found = [(path.relative_to(PACKAGE).with_suffix("").parts[0], path) for path in sorted(PACKAGE.rglob("*.py"))]
    return [(part, path) for part, path in found if part not in ("__init__", "_skills")]


def printed(code: str) -> set[str]:
    """The words a fresh interpreter prints when it runs `code`."""
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def imported(path: Path) -> Iterator[str]:
    """The parts of the package that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively: write the whole name"
            names = [
                f"{node.module}.{alias.name}" if node.module == "agentos_jupyter" else str(node.module)
                for alias in node.names
            ]
        for name in names:
            pieces = name.split(".")
            if (
                pieces[0] == "agentos_jupyter"
                and len(pieces) > 1
                and not pieces[1].startswith("__")
                and pieces[1] != "open"
            ):
                yield pieces[1]


@pytest.mark.parametrize(
    ("part", "path"), modules(), ids=lambda value: str(value) if isinstance(value, str) else value.name
)
def test_imports_point_down(part: str, path: Path) -> None:
    for other in imported(path):
        lower = layer(other) < layer(part) or other == part
        beside = layer(other) == layer(part) == 0
        assert lower or beside, f"{path.relative_to(PACKAGE)} ({part}) must not import {other}"
        assert other not in NEVER.get(part, ()), f"{path.relative_to(PACKAGE)} must reach {other} through syscalls"


def test_the_sdk_stands_on_the_standard_library_alone() -> None:
    tree = ast.parse((PACKAGE / "sdk" / "aos_sdk.py").read_text())
    roots = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert roots <= set(sys.stdlib_module_names) | {"__future__"}


@pytest.mark.parametrize(
    "module", ["agentos_jupyter.jupyter.kernel", "agentos_jupyter.unit", "agentos_jupyter.rpc.sync"]
)
def test_what_a_kernel_loads_at_start_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    found = printed(code)
    assert not found, f"importing {module} also imports {', '.join(sorted(found))}"


def test_the_terminal_starts_with_the_standard_library() -> None:
    code = "import sys, agentos_jupyter.cli.main; print(*{name.split('.')[0] for name in sys.modules})"
    bare = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    assert printed(code) - printed(bare) <= set(sys.stdlib_module_names) | {"agentos_jupyter"}


def test_every_error_stands_in_the_one_tree() -> None:
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "errors.py"]
    classes = [
        node for path in sources for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    ]
    names = {cls.__name__ for cls in BY_CODE.values()}
    assert not [each.name for each in classes if names & {getattr(base, "id", "") for base in each.bases}]
