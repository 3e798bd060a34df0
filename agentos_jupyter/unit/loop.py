"""The ReAct loop: model, tool calls, observations, until an answer comes that asks for nothing more."""

from __future__ import annotations

from agentos_jupyter.records import Reply
from agentos_jupyter.unit.turn import Turn


async def react(turn: Turn) -> Reply:
    """Run a dispatch to its final answer. Limits, verdicts and history are the microkernel's: it raises, or records."""
    while (reply := await turn.compute()).tool_calls or reply.more:
        for judged in reply.tool_calls:
            await turn.observe(judged, await turn.act(judged))
    return reply
