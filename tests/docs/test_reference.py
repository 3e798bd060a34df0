"""`docs/reference/` is complete: what the code defines stands there, by its exact name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from agentos_jupyter.cli.main import VERBS
from agentos_jupyter.config import ModelSettings, Settings
from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.limits import Limits
from agentos_jupyter.log.views import VIEWS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")), *sorted(DOCS.rglob("*.md"))]


def reference(page: str) -> str:
    return (DOCS / "reference" / f"{page}.md").read_text()


def rows(page: str) -> set[str]:
    """The first cell of each table row, without its backticks and what follows the name."""
    return {match[1] for match in re.finditer(r"^\| `([^`\s]+)[^|]*\|", reference(page), re.MULTILINE)}


def errors(cls: type[AgentOSError] = AgentOSError) -> Iterator[type[AgentOSError]]:
    """The whole tree, which stands in one module; tests may have made classes of their own."""
    yield cls
    for child in cls.__subclasses__():
        yield from errors(child)


def event_types() -> set[str]:
    """The literal types of all events the package makes."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "agentos_jupyter").rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    made = [call.args[0] for call in calls if getattr(call.func, "id", "") == "NewEvent" and call.args]
    return {str(argument.value) for argument in made if isinstance(argument, ast.Constant)}


def test_every_verb_of_the_terminal_is_documented() -> None:
    page = reference("cli")
    missing = [verb for verb in VERBS if f"`agentos {verb}" not in page]
    assert not missing


def test_every_error_has_its_own_documented_code() -> None:
    known = [cls.code for cls in errors()]
    assert len(known) == len(set(known))
    assert {f"`{cls.code}` | `{cls.__name__}`" for cls in errors() if cls.__module__.startswith("agentos_jupyter")} <= {
        match[1] for match in re.finditer(r"^\| (`[^|]+` \| `[^|]+`) \|", reference("errors"), re.MULTILINE)
    }


def test_every_event_type_is_documented() -> None:
    assert event_types() <= rows("events")


def test_every_view_is_documented() -> None:
    assert set(VIEWS) <= rows("events")


def test_every_limit_is_documented_with_its_default() -> None:
    page = reference("configuration")
    shipped = (ROOT / "skills" / "aos-budget" / "defaults.yaml").read_text()
    defaults = {match[1]: match[2].strip() for match in re.finditer(r"^(\w+): +([^#\n]+)", shipped, re.MULTILINE)}
    assert set(defaults) == {field.name for field in fields(Limits)}
    assert [name for name, value in defaults.items() if f"| `{name}` | {value} |" not in page] == []


def test_every_setting_is_documented() -> None:
    settings = set(Settings.model_fields) - {"workspace"}
    assert settings | set(ModelSettings.model_fields) <= rows("configuration")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target.split("#")[0]).exists() and target[0] != "#"]
    assert not missing


def test_every_page_is_reached_from_the_contents() -> None:
    contents = (DOCS / "README.md").read_text()
    assert [path.name for path in DOCS.rglob("*.md") if f"({path.relative_to(DOCS)})" not in contents] == ["README.md"]
