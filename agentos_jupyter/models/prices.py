"""What a model takes and costs, where nobody said: read from the price map that litellm ships, without importing litellm.

The map is a file of some megabytes. It is searched for one name, and only that entry is decoded; nothing else is kept.
"""

from __future__ import annotations

import importlib.util
import json
import math
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from agentos_jupyter.records import Usage

FILE = "model_prices_and_context_window_backup.json"
MILLION = 1_000_000
_LONGEST_ENTRY = 64 * 1024
_ABOVE = re.compile(r"input_cost_per_token_above_(\d+)k_tokens")
_CHAT = ("chat", "completion", "responses")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens; `cached` and `written` (to the provider's cache) default to `input`.

    `above` holds the prices of requests with more than so many tokens sent.
    """

    input: float
    output: float
    cached: float | None = None
    written: float | None = None
    above: tuple[tuple[int, Price], ...] = ()

    def of(self, usage: Usage) -> float:
        """US dollars of one call."""
        higher = [price for least, price in self.above if usage.input > least]
        if higher:
            return higher[-1].of(usage)
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        fresh = max(0, usage.input - usage.cached - usage.written)
        sent = fresh * self.input + usage.cached * cached + usage.written * written
        return (sent + usage.output * self.output) / MILLION


@dataclass(frozen=True, slots=True)
class Facts:
    """What the map knows of a model; None where it does not say."""

    window: int | None = None
    max_output: int | None = None
    price: Price | None = None


UNKNOWN = Facts()


@lru_cache(maxsize=256)
def facts(provider: str, model: str) -> Facts:
    """Of a model at a provider, both in litellm's words; `UNKNOWN` where the map has no such chat model."""
    for name in (f"{provider}/{model}", model):
        entry = _entry(name)
        if entry is not None and _is_of(entry, provider) and entry.get("mode", "chat") in _CHAT:
            return _facts(entry)
    return UNKNOWN


def _is_of(entry: Mapping[str, Any], provider: str) -> bool:
    """Whether an entry is this provider's: `vertex_ai-anthropic_models` and `bedrock_converse` are kinds of it."""
    owner = str(entry.get("litellm_provider", ""))
    return owner == provider or owner.startswith((f"{provider}-", f"{provider}_"))


def _entry(name: str) -> Mapping[str, Any] | None:
    path = _file()
    if path is None or not name.isprintable():
        return None
    key = json.dumps(name).encode()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        at = text.find(key)
        while at >= 0:
            rest = text[at + len(key) : at + len(key) + _LONGEST_ENTRY].decode("utf-8", "ignore")
            found = re.match(r"\s*:\s*(?=\{)", rest)
            if found is not None:
                return _decoded(rest[found.end() :])
            at = text.find(key, at + 1)
    return None


def _decoded(text: str) -> Mapping[str, Any] | None:
    try:
        value: Mapping[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        return None
    return value


@lru_cache(maxsize=1)
def _file() -> Path | None:
    found = importlib.util.find_spec("litellm")  # finds the package and runs nothing of it
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / FILE).is_file():
            return path
    return None


def _facts(entry: Mapping[str, Any]) -> Facts:
    return Facts(
        window=_whole(entry.get("max_input_tokens") or entry.get("max_tokens")),
        max_output=_whole(entry.get("max_output_tokens")),
        price=_price(entry),
    )


def _price(entry: Mapping[str, Any]) -> Price | None:
    base = _rates(entry, "")
    if base is None:
        return None
    limits = sorted(int(found[1]) for name in entry if (found := _ABOVE.fullmatch(name)))
    above = [(limit * 1000, _rates(entry, f"_above_{limit}k_tokens")) for limit in limits]
    known = tuple((least, price) for least, price in above if price is not None)
    return Price(base.input, base.output, base.cached, base.written, known)


def _rates(entry: Mapping[str, Any], suffix: str) -> Price | None:
    sent, received = (_dollars(entry.get(f"{kind}_cost_per_token{suffix}")) for kind in ("input", "output"))
    if sent is None or received is None:
        return None
    cached = _dollars(entry.get(f"cache_read_input_token_cost{suffix}"))
    return Price(sent, received, cached, _dollars(entry.get(f"cache_creation_input_token_cost{suffix}")))


def _dollars(value: Any) -> float | None:
    """For a million tokens, of what the map says for one."""
    return round(value * MILLION, 9) if isinstance(value, int | float) and 0 <= value < math.inf else None


def _whole(value: Any) -> int | None:
    """The map writes some counts as text or as fractions."""
    try:
        return int(float(value)) or None
    except (TypeError, ValueError, OverflowError):
        return None
