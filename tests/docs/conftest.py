"""Notebooks in front of what the troubleshooting page tells of."""

from __future__ import annotations

from tests.jupyter.conftest import open_notebook
from tests.rpc.versions import other

__all__ = ["open_notebook", "other"]
