"""Model providers: names become models, a request becomes a stream of deltas, failures become named errors.

Nothing heavy is imported here: aiohttp comes with the first request, yaml and pydantic with the first scripted model.
"""

from __future__ import annotations

from agentos_jupyter.models.deltas import (
    Attempt,
    CallPart,
    Completion,
    Delta,
    Finish,
    Model,
    RawCall,
    Reasoning,
    Recorded,
    Request,
    Reset,
    Served,
    Text,
    UsageSeen,
    Waiting,
)
from agentos_jupyter.models.resolve import Choice, Listed, Models
from agentos_jupyter.models.retry import complete

__all__ = [
    "Attempt",
    "CallPart",
    "Choice",
    "Completion",
    "Delta",
    "Finish",
    "Listed",
    "Model",
    "Models",
    "RawCall",
    "Reasoning",
    "Recorded",
    "Request",
    "Reset",
    "Served",
    "Text",
    "UsageSeen",
    "Waiting",
    "complete",
]
