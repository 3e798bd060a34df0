"""What is known of a model: agentos.yaml's own numbers first, then the price map's, else nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentos_jupyter.models import prices
from agentos_jupyter.models.access import Access
from agentos_jupyter.models.prices import Price
from agentos_jupyter.models.spoken import NAMES_OF_KNOWN, PROVIDERS

if TYPE_CHECKING:
    from agentos_jupyter.config import ModelSettings


@dataclass(frozen=True, slots=True)
class About:
    """None where nobody knows; `said_max_output` is what agentos.yaml asks a provider to keep to."""

    window: int | None
    max_output: int | None
    said_max_output: int | None
    price: Price | None


class Known:
    """The facts of one workspace's models."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def of(self, provider: str, model: str) -> About:
        """The map tells of a provider at its own address only: who moved it has other prices."""
        given = self._access.given(provider)
        said = given.models.get(model) if given else None
        spoken = NAMES_OF_KNOWN.get(provider, provider)
        moved = self._access.address(provider)[0] is not None
        found = prices.UNKNOWN if moved or spoken not in PROVIDERS else prices.facts(spoken, model)
        return About(
            window=(said.window if said else None) or found.window,
            max_output=(said.max_output if said else None) or found.max_output,
            said_max_output=said.max_output if said else None,
            price=_price(said) or found.price,
        )


def _price(said: ModelSettings | None) -> Price | None:
    if said is None or said.price_input is None or said.price_output is None:
        return None
    return Price(said.price_input, said.price_output, said.price_cached)
