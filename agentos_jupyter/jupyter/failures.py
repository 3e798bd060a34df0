"""What ended a cell, as front ends show errors: a name, a sentence, and a Python stack only for what is our fault."""

from __future__ import annotations

import traceback
from typing import Any

from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.jupyter.safe import plain

INTERRUPTED = "Interrupted"


def described(error: BaseException) -> dict[str, Any]:
    """The condition's own name and sentence; a Python stack only for what is our fault."""
    if isinstance(error, KeyboardInterrupt):
        sentence = "You interrupted this cell: the model call was stopped and the command killed. What was done before is in the history."
        return {"ename": INTERRUPTED, "evalue": "interrupted by you", "traceback": [f"{INTERRUPTED}: {sentence}"]}
    if isinstance(error, AgentOSError):
        return {
            "ename": error.code,
            "evalue": plain(error.message),
            "traceback": [f"{error.code}: {plain(error.message)}"],
        }
    stack = "".join(traceback.format_exception(error)).rstrip()
    sentence = "This is a defect of AgentOS, not of what you wrote: please report it with the lines above."
    return {"ename": type(error).__name__, "evalue": plain(str(error)), "traceback": [plain(stack), sentence]}
