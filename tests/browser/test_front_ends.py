"""What a person does in JupyterLab and Notebook 7: reloads a tab, presses Tab and Shift-Tab, interrupts, runs a prompt."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from .conftest import CHROMIUM, picture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt install chromium"),
]
Write = Callable[..., Path]

COUNT = "for i in $(seq 600); do echo tick $i; [ -e go ] && break; sleep 0.2; done; echo the end"
RULES: list[dict[str, Any]] = [
    {"when": {"role": "tool", "match": "the end"}, "say": "It is **over**."},
    {"when": "count", "say": "I count.", "calls": [{"bash": {"command": COUNT}}]},
    {"say": "Yes, **I am here**."},
]


def _open(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_text("AgentOS | Idle").wait_for(timeout=60_000)


def _cell(page: Page, number: int) -> Any:
    return page.locator(".jp-Notebook .jp-CodeCell").nth(number)


def _write_into(page: Page, number: int, text: str) -> None:
    _cell(page, number).locator(".cm-content").click()
    page.keyboard.type(text)


def test_a_reloaded_tab_gets_its_run_back(lab: str, page: Page, write: Write) -> None:
    path = write(RULES, "count, please", "")
    _open(page, f"{lab}/doc/tree/{path.name}")
    _cell(page, 0).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    _cell(page, 0).get_by_text("tick 3").first.wait_for(timeout=30_000)
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1000)
    page.reload()
    page.get_by_text("AgentOS | Busy").wait_for(timeout=60_000)
    _write_into(page, 1, "%attach d-")
    page.keyboard.press("Tab")
    page.wait_for_timeout(1000)
    if (offered := page.locator(".jp-Completer-item")).count():
        offered.first.click()
    page.keyboard.press("Control+Enter")
    attached = _cell(page, 1).locator(".jp-OutputArea")
    attached.get_by_text("I count.").first.wait_for(timeout=20_000)
    seen = _ticks(attached)
    page.wait_for_timeout(2000)
    assert 3 < seen < _ticks(attached), "what the command prints comes live"
    (path.parent / "go").touch()
    attached.locator(".jp-OutputArea-executeResult", has_text="It is over.").wait_for(timeout=20_000)
    assert "the end" in attached.inner_text() or attached.locator("pre", has_text="the end").count()
    page.get_by_text("AgentOS | Idle").wait_for(timeout=20_000)
    picture(page, "reloaded")


def _ticks(attached: Any) -> int:
    """The last number that is shown."""
    shown: str = attached.locator("pre", has_text="tick").last.inner_text()
    return int(shown.rpartition("tick ")[2].split()[0])


def test_tab_completes_and_shift_tab_explains(lab: str, page: Page, write: Write) -> None:
    path = write(RULES, "", "")
    _open(page, f"{lab}/doc/tree/{path.name}")
    _write_into(page, 0, "%session re")
    page.keyboard.press("Tab")
    page.locator(".jp-Completer-item", has_text="resume").wait_for(timeout=10_000)
    page.keyboard.press("Enter")
    page.locator(".cm-content", has_text="%session resume").first.wait_for(timeout=10_000)
    _write_into(page, 1, "%s")
    page.keyboard.press("Tab")
    names = page.locator(".jp-Completer-item")
    names.first.wait_for(timeout=10_000)
    assert {"%session", "%skill", "%status", "%steer"} <= {each.strip() for each in names.all_inner_texts()}
    page.keyboard.press("Escape")
    page.keyboard.type("teer")
    page.keyboard.press("Shift+Tab")
    tooltip = page.locator(".jp-Tooltip")
    tooltip.wait_for(timeout=10_000)
    assert "the agent reads it before its next turn" in tooltip.inner_text()


def test_the_interrupt_button_stops_a_command_at_once(lab: str, page: Page, write: Write) -> None:
    path = write(RULES, "count, please", "are you there?")
    _open(page, f"{lab}/doc/tree/{path.name}")
    _cell(page, 0).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    _cell(page, 0).get_by_text("tick 3").first.wait_for(timeout=30_000)
    began = time.monotonic()
    page.locator('[data-command="notebook:interrupt-kernel"], [title^="Interrupt the kernel"]').first.click()
    _cell(page, 0).locator(".jp-OutputArea", has_text="Interrupted").first.wait_for(timeout=10_000)
    assert time.monotonic() - began < 3
    _cell(page, 1).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    _cell(page, 1).locator(".jp-OutputArea-executeResult", has_text="I am here").wait_for(timeout=20_000)


def test_notebook_7_runs_a_prompt(classic: str, page: Page, write: Write) -> None:
    path = write(RULES, "are you there?")
    page.goto(f"{classic}/notebooks/{path.name}")
    _cell(page, 0).locator(".cm-content").click(timeout=60_000)
    page.locator(".jp-Toolbar-kernelName", has_text="AgentOS").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    page.keyboard.press("Control+Enter")
    _cell(page, 0).locator(".jp-OutputArea-executeResult", has_text="I am here").wait_for(timeout=30_000)
