"""An answer as a Python notebook shows and keeps it: text is a `str`, anything else is in `.value`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentos_jupyter.jupyter.runner import Answer

Bundle = tuple[dict[str, str], dict[str, Any]]


class Said(str):
    """An answer in words; a notebook renders it as Markdown."""

    _answer: Answer

    def _repr_mimebundle_(self, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None) -> Bundle:
        return _bundle(self._answer)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self._answer.data["text/plain"])


class Shown:
    """An answer that is no text: its `value`, shown as the agentos kernel shows it."""

    def __init__(self, answer: Answer) -> None:
        self.value = answer.value
        self._answer = answer

    def _repr_mimebundle_(self, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None) -> Bundle:
        return _bundle(self._answer)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self._answer.data["text/plain"])


def _bundle(answer: Answer) -> Bundle:
    return dict(answer.data), {"agentos": dict(answer.metadata)} if answer.metadata else {}


def shown_as(answer: Answer | None) -> Said | Shown | None:
    """What a magic returns for an answer."""
    if answer is None:
        return None
    if not isinstance(answer.value, str):
        return Shown(answer)
    said = Said(answer.value)
    said._answer = answer
    return said
