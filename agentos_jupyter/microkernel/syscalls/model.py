"""model: which models there are, and which one would be asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.table import Empty, Shape, namespace

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class ModelInfo(Shape):
    """A model that is configured; `reason` says why it is not ready, and the cure."""

    name: str
    role: str | None = None
    scripted: bool = False
    ready: bool = True
    reason: str = ""


class ModelList(Shape):
    models: list[ModelInfo]
    default: str | None


class Which(Shape):
    """A model or role; null is the default."""

    name: str | None = None


class Chain(Shape):
    """The models that would be asked, in order: the primary, then its fallbacks."""

    chain: list[ModelInfo]


async def list_(kernel: Microkernel, caller: Caller, params: Empty) -> ModelList:
    """The configured models and roles, and the default."""
    return ModelList(
        models=[ModelInfo(**asdict(each)) for each in kernel.models.list()], default=kernel.models.choice(None).names[0]
    )


async def resolve(kernel: Microkernel, caller: Caller, params: Which) -> Chain:
    """The chain a name stands for. Raises `model.not_found` or `model.key_missing`."""
    return Chain(
        chain=[ModelInfo(name=model.name, scripted=model.scripted) for model in kernel.models.resolve(params.name)]
    )


CALLS = namespace("model", reads=(list_, resolve))
