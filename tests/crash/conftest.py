"""Notebooks in front of what fails."""

from __future__ import annotations

from tests.jupyter.conftest import open_notebook

__all__ = ["open_notebook"]
