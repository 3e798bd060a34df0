"""model: which models there are, and which one would be asked."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.shapes import UsageInfo
from agentos_jupyter.microkernel.table import Empty, Shape, namespace
from agentos_jupyter.models import Model, Request, complete
from agentos_jupyter.models.prices import Price

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


PROBE_SECONDS = 60.0
"""All of one `model.probe`."""


class ModelInfo(Shape):
    """A model that is configured; `reason` says why it is not ready, and the cure.

    `window` is in tokens, prices in US dollars for a million tokens, null where nobody knows them.
    """

    name: str
    role: str | None = None
    scripted: bool = False
    ready: bool = True
    reason: str = ""
    window: int | None = None
    price_input: float | None = None
    price_output: float | None = None
    price_cached: float | None = None


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
    kernel.refresh()
    return ModelList(
        models=[ModelInfo(**asdict(each)) for each in kernel.models.list()], default=kernel.models.choice(None).names[0]
    )


async def resolve(kernel: Microkernel, caller: Caller, params: Which) -> Chain:
    """The chain a name stands for. Raises `model.not_found` or `model.key_missing`."""
    kernel.refresh()
    return Chain(chain=[_info(model) for model in kernel.models.resolve(params.name)])


def _info(model: Model) -> ModelInfo:
    price = getattr(model, "price", None)
    found = ModelInfo(name=model.name, scripted=model.scripted, window=model.window)
    if not isinstance(price, Price):
        return found
    return found.model_copy(
        update={"price_input": price.input, "price_output": price.output, "price_cached": price.cached}
    )


class Provider(Shape):
    """A provider of agentos.yaml or a known one."""

    provider: str


class Reached(Shape):
    """The provider's endpoint answered: how many models it lists, and after how many seconds."""

    models: int
    seconds: float


class Probed(Shape):
    """What a model said to a word of greeting; it cost these tokens and seconds."""

    model: str
    scripted: bool
    text: str
    seconds: float
    usage: UsageInfo


async def reach(kernel: Microkernel, caller: Caller, params: Provider) -> Reached:
    """Ask a provider for the list of its models, with its key. Raises what kept it from answering."""
    kernel.refresh()
    started = time.perf_counter()
    found = await kernel.models.reach(params.provider)
    return Reached(models=found, seconds=time.perf_counter() - started)


async def probe(kernel: Microkernel, caller: Caller, params: Which) -> Probed:
    """Ask a model or role one real, tiny question, once, without fallbacks. Nothing of it enters a history."""
    kernel.refresh()
    message = json.dumps({"role": "user", "content": "Answer with the word ready."}).encode()
    limits = replace(kernel.limits(), attempts=1, compute=PROBE_SECONDS)
    chain = kernel.models.resolve(params.name)[:1]
    done = await complete(chain, Request([message]), limits)
    usage = UsageInfo(input=done.usage.input, output=done.usage.output, cached=done.usage.cached, usd=done.usage.usd)
    text = kernel.redactor.text(done.text)
    return Probed(model=done.model, scripted=done.scripted, text=text, seconds=done.seconds, usage=usage)


CALLS = namespace("model", reads=(list_, resolve, reach, probe))
