"""compute: the model, asked for one turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from agentos_jupyter.microkernel import compute as work
from agentos_jupyter.microkernel import dispatches
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.shapes import CallInfo, UsageInfo
from agentos_jupyter.microkernel.syscalls.dispatch import find
from agentos_jupyter.microkernel.table import Shape, Sink, namespace

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class Complete(Shape):
    """The next turn of a dispatch. Messages do not travel: the daemon holds the context.

    `answer` is what a person wrote who is the model, after `model.asks_person`.
    """

    dispatch: str
    epoch: int
    turn: int
    answer: str | None = Field(None, max_length=1_000_000)


class ReplyInfo(Shape):
    """The committed reply and its judged calls; without calls, and unless there is `more`, it is the final answer."""

    turn: int
    text: str
    tool_calls: list[CallInfo]
    model: str
    scripted: bool
    usage: UsageInfo
    seconds: float
    more: bool = False


async def complete(kernel: Microkernel, caller: Caller, params: Complete, stream: Sink) -> ReplyInfo:
    """Ask the model, judge its calls and commit both; streams `{"kind": "text" | "reset" | "note" | "heard", "text": …}`.

    A repeat for the same turn returns what was committed. Raises `lease.expired`, `budget.exceeded`,
    `context.too_long`, `model.asks_person` where a person is the model, and the model's errors after retries and fallbacks.
    """
    session, _ = await find(kernel, params.dispatch)
    dispatch = dispatches.held(session, params.dispatch, params.epoch, caller)
    return ReplyInfo.model_validate(await work.reply_to(kernel, session, dispatch, params.turn, stream, params.answer))


CALLS = namespace("compute", writes=(complete,))
