"""JupyterLab as a person sees it, in a real Chromium: the launcher, and the demo notebook run by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page

from agentos_jupyter.cli.demo import NOTEBOOK

from .conftest import CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt install chromium"),
]


def test_the_kernel_is_in_the_launcher_with_its_icon(lab: str, page: Page) -> None:
    page.goto(f"{lab}/lab")
    card = page.locator('.jp-LauncherCard[data-category="Notebook"]', has_text="AgentOS")
    card.wait_for(timeout=60_000)
    icon = card.locator("img")
    assert "/kernelspecs/agentos/logo-" in str(icon.get_attribute("src"))
    assert icon.evaluate("image => image.complete && image.naturalWidth > 0")


def test_a_person_runs_the_demo_notebook(lab: str, page: Page) -> None:
    page.goto(f"{lab}/doc/tree/{NOTEBOOK}")
    page.get_by_text("AgentOS | Idle").wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    answer = page.locator(".jp-OutputArea-executeResult", has_text="all 8 tests pass").first
    answer.wait_for(timeout=90_000)
    assert "scripted model" in answer.inner_text()
    page.locator(".jp-OutputArea-output table", has_text="dispatch").last.wait_for(timeout=60_000)
    typeset = page.locator(".jp-OutputArea-output mjx-container").count()
    assert typeset == 0, "what a command said was typeset as mathematics"
    if folder := os.environ.get("PYTEST_SCREENSHOTS"):
        _picture(page, Path(folder) / "notebook.png")


def _picture(page: Page, path: Path) -> None:
    """The picture of the README: prompt, folded steps and answer, with the notebook's frame around them."""
    page.set_viewport_size({"width": 1000, "height": 845})
    page.add_style_tag(content=".Toastify, .jp-toastContainer { display: none }")
    text = page.locator(".jp-RenderedMarkdown p", has_text="Now say what you want:")
    text.click()
    page.wait_for_timeout(300)
    panel, top = page.locator(".jp-WindowedPanel-outer").bounding_box(), text.bounding_box()
    assert panel is not None and top is not None
    page.mouse.wheel(0, top["y"] - panel["y"] - 12)
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    page.screenshot(path=path)
