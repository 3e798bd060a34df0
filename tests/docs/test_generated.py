"""What is made from the syscall and hook tables is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentos_jupyter.microkernel import clients, reference

ROOT = Path(__file__).parents[2]


def test_the_typed_clients_agree_with_the_table() -> None:
    assert (ROOT / "agentos_jupyter" / "rpc" / "client.py").read_text() == clients.generate()


@pytest.mark.parametrize("page", ["syscalls.md", "hooks.md"])
def test_the_reference_page_agrees_with_its_table(page: str) -> None:
    assert (ROOT / "docs" / "reference" / page).read_text() == reference.pages()[page]
