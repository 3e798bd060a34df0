"""agent: who can be asked; now they are read from the folder that `agents:` of agentos.yaml names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from agentos_jupyter import config
from agentos_jupyter.config import AgentSettings
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.table import Empty, Shape, namespace

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class AgentInfo(Shape):
    """An agent: its own text (`system`), the model and limits it prefers."""

    name: str
    description: str = ""
    system: str | None = None
    model: str | None = None
    limits: dict[str, Any] = Field(default_factory=dict)


class Agents(Shape):
    agents: list[AgentInfo]


class Which(Shape):
    """An agent by name; null is that of agentos.yaml."""

    name: str | None = None


async def get(kernel: Microkernel, caller: Caller, params: Which) -> AgentInfo:
    """One agent. Raises `agent.not_found` naming the nearest."""
    kernel.refresh()
    return _info(kernel.agent(params.name))


async def list_(kernel: Microkernel, caller: Caller, params: Empty) -> Agents:
    """The agent of agentos.yaml, then those of the agents' folder by name."""
    kernel.refresh()
    return Agents(agents=[_info(each) for each in (kernel.settings.agent, *config.agents(kernel.settings).values())])


def _info(agent: AgentSettings) -> AgentInfo:
    return AgentInfo(**{**agent.model_dump(), "name": agent.name or "agent"})


CALLS = namespace("agent", reads=(get, list_))
