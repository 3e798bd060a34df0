"""What each kind of output looks like, in the light and in the dark theme: nothing is wider than its cell or hard to read."""

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

LOOK = "for f in README.md notes.txt; do printf '%-30s <b>%s</b> $x_1$\\n' $f ok; done; ls nowhere"
WAIT = "echo begun; seq 8; until [ -e go ]; do sleep 0.1; done"
TABLE = (
    "| file | lines |\n|---|---|\n| `a.py` | 12 |\n\n```python\nprint('x < y')\n```\n\n- one **bold** word\n- and $x^2$"
)
RULES: list[dict[str, Any]] = [
    {"when": {"role": "tool", "match": "nowhere"}, "say": f"## Found\n\nAll is well.\n\n{TABLE}"},
    {"when": "look", "say": "I look at the files first.\nThen I decide.", "calls": [{"bash": {"command": LOOK}}]},
    {"when": "for ever", "say": "Once more.", "calls": [{"bash": {"command": "true"}}]},
    {"when": "wait", "say": "I wait.", "calls": [{"bash": {"command": WAIT}}]},
    {"when": {"role": "tool"}, "say": "Again.", "calls": [{"bash": {"command": f"echo {'long ' * 60}"}}]},
]
CELLS = (
    "please look",
    "%%agent turns=2\nfor ever",
    "%attach d-",
    "%%sql\nselect dispatch, status, turns, calls, prompt, answer from dispatches",
    "%verify",
    "%runs",
    "%cost",
    "%session sesion list",
    "wait for me",
)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_output_stays_in_its_cell(
    lab: str, page: Page, write: Callable[..., Path], theme: str, tmp_path: Path
) -> None:
    path = write(RULES, *CELLS)
    set_theme(tmp_path, theme)
    page.set_viewport_size({"width": 900, "height": 900})
    page.goto(f"{lab}/doc/tree/{path.name}")
    page.get_by_text("AgentOS | Idle").wait_for(timeout=60_000)
    for number, source in enumerate(CELLS[:-1]):
        _run(page, number)
        page.get_by_text("AgentOS | Idle").wait_for(timeout=30_000)
        if source == "%verify":
            page.keyboard.press("Control+s")
            page.wait_for_timeout(1500)
            _run(page, number)
            page.wait_for_timeout(500)
        _shot(page, number, f"{theme.split()[-1].lower()}-{number}")
        _check(page, number)
    last = len(CELLS) - 1
    _run(page, last)
    page.get_by_placeholder("Say something to the agent").wait_for(timeout=40_000)
    page.wait_for_timeout(500)
    _shot(page, last, f"{theme.split()[-1].lower()}-{last}")
    _check(page, last)
    (path.parent / "go").touch()
    page.get_by_text("AgentOS | Idle").wait_for(timeout=30_000)


def _cell(page: Page, number: int) -> Any:
    return page.locator(".jp-Notebook .jp-CodeCell").nth(number)


def _run(page: Page, number: int) -> None:
    _cell(page, number).scroll_into_view_if_needed()
    _cell(page, number).locator(".cm-content").click()
    if CELLS[number] == "%attach d-":
        page.keyboard.press("End")
        page.keyboard.press("Tab")
        page.locator(".jp-Completer-item", has_text="-0001").click()
    page.keyboard.press("Control+Enter")
    page.wait_for_timeout(700)


def _check(page: Page, number: int) -> None:
    """Nothing runs out of the cell, and text differs enough from what is behind it (WCAG AA: 4.5 to 1)."""
    outputs = _cell(page, number).locator(".jp-OutputArea-output")
    wide = outputs.evaluate_all(_WIDE)
    assert not wide, "an output is wider than its cell"
    assert outputs.evaluate_all(_CONTRAST) >= 4.5


_WIDE = """all => all.filter(each => each.scrollWidth > each.clientWidth + 1
  && !['auto', 'scroll'].includes(getComputedStyle(each).overflowX)).length"""

_CONTRAST = """all => {
  const parse = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number)
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * x + 0.7152 * y + 0.0722 * z
  }
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor)
      if (color.length < 4 || color[3] > 0.5) return color
    }
    return [255, 255, 255]
  }
  let least = 21
  for (const output of all) for (const node of output.querySelectorAll('pre, summary, td, th, p, div, li, code')) {
    if (![...node.childNodes].some(each => each.nodeType === 3 && each.textContent.trim())) continue
    if (!node.checkVisibility()) continue
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x)
    least = Math.min(least, (a + 0.05) / (b + 0.05))
  }
  return least
}"""


def _shot(page: Page, number: int, name: str) -> None:
    page.mouse.move(0, 0)
    _cell(page, number).scroll_into_view_if_needed()
    picture(page, name)
