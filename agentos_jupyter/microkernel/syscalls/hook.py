"""hook: the extension points and who stands at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentos_jupyter.microkernel.hooks import HOOKS
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.table import Empty, Shape, namespace

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class HandlerInfo(Shape):
    skill: str
    digest: str
    priority: int


class HookInfo(Shape):
    name: str
    kind: str
    doc: str
    handlers: list[HandlerInfo]


class HookList(Shape):
    hooks: list[HookInfo]


async def list_(kernel: Microkernel, caller: Caller, params: Empty) -> HookList:
    """Every hook with its kind, its manual and its handlers in the order they are asked."""
    await kernel.services_ready()
    hooks = []
    for name, (kind, doc) in HOOKS.items():
        handlers = [
            HandlerInfo(skill=each.skill, digest=each.digest, priority=each.priority)
            for each in kernel.hooks.handlers(name)
        ]
        hooks.append(HookInfo(name=name, kind=kind, doc=doc, handlers=handlers))
    return HookList(hooks=hooks)


CALLS = namespace("hook", reads=(list_,))
