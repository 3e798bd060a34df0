"""The unit: made for a dispatch, it runs the loop in the front end's process, with bash in that process's sandbox."""

from __future__ import annotations

from agentos_jupyter.unit.loop import react
from agentos_jupyter.unit.turn import Observer, Turn
from agentos_jupyter.unit.unit import Asked, Image, Outcome, Unit

__all__ = ["Asked", "Image", "Observer", "Outcome", "Turn", "Unit", "react"]
