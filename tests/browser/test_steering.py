"""A person steers a running cell by its field, in JupyterLab; the saved notebook shows the words and nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from .conftest import CHROMIUM, picture, set_theme

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt install chromium"),
]
HINT = "Say something to the agent"


WAIT = "echo begun; until [ -e go ]; do sleep 0.1; done; rm go"
RULES: list[dict[str, Any]] = [
    {"when": {"role": "user", "match": "^also (.+)"}, "say": "I do **{1}**, too."},
    {"when": {"role": "tool"}, "say": "Done."},
    {"say": "I wait until you have decided.", "calls": [{"bash": {"command": WAIT}}]},
]


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_person_steers_a_running_cell(
    lab: str, page: Page, write: Callable[..., Path], theme: str, tmp_path: Path
) -> None:
    written = write(RULES, "tidy up the notes")
    set_theme(tmp_path, theme)
    page.goto(f"{lab}/doc/tree/{written.name}")
    page.get_by_text("AgentOS | Idle").wait_for(timeout=60_000)
    page.locator(".jp-Cell").first.click()
    page.keyboard.press("Control+Enter")
    field = page.get_by_placeholder(HINT)
    field.wait_for(timeout=40_000)
    page.wait_for_timeout(500)
    picture(page, f"field-{theme.split()[-1].lower()}")
    field.fill("also sweep the floor")
    field.press("Enter")
    page.get_by_text("waits for the next turn").first.wait_for()
    assert field.input_value() == ""
    (written.parent / "go").touch()
    page.locator(".jp-OutputArea-executeResult", has_text="I do sweep the floor, too.").wait_for(timeout=30_000)
    page.get_by_text("You: also sweep the floor").first.wait_for()
    assert field.count() == 0
    picture(page, f"steered-{theme.split()[-1].lower()}")
    page.keyboard.press("Control+s")
    page.wait_for_timeout(2000)
    saved = written.read_text()
    assert "I do **sweep the floor**, too." in saved
    assert "You: also sweep the floor" in saved
    assert "widget" not in saved
