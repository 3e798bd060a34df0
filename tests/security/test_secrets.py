"""A secret is in no output of a notebook and nowhere below the state folder, whoever says it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agentos_jupyter.models.chunks import read_usage
from tests.jupyter.conftest import Notebook, open_notebook

__all__ = ["open_notebook"]

EXACT = "an-exact-key-0123456789abcdef"
PATTERN = "sk-proj-" + "A1b2" * 8


def test_a_secret_in_a_models_arguments_is_shown_nowhere(
    workspace: Path, open_notebook: Callable[..., Notebook], script: Callable[..., str]
) -> None:
    """Tried: a model that writes keys into a long command, into arguments of an unknown tool, and into text.

    The command itself runs with what the model wrote.
    """
    command = f"echo {EXACT} {PATTERN} | tr a-z A-Z # {'long ' * 50}\necho 2"
    calls = [{"bash": {"command": command}}, {"unknown": {PATTERN: [EXACT]}}]
    model = script(
        [
            {"when": {"role": "user"}, "say": f"Now {EXACT} {PATTERN}", "calls": calls},
            {"say": f"It was {EXACT} and {PATTERN}"},
        ]
    )
    notebook = open_notebook(AGENTOS_MODEL=model, OPENAI_API_KEY=EXACT)

    cell = notebook.run("begin")

    assert EXACT.upper() in cell.text
    sent = json.dumps(cell.messages, default=str)
    assert "[redacted:key]" in sent
    assert "[redacted:api-key]" in sent
    assert EXACT not in sent
    assert PATTERN not in sent
    kept = [path for path in (workspace / ".agentos").rglob("*") if path.is_file()]
    assert [path for path in kept if EXACT.encode() in path.read_bytes() or PATTERN.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("number", [float("inf"), float("nan"), -5, 10**30, "7", None, [1], True])
def test_counts_and_costs_of_an_endpoint_are_bounded(number: object) -> None:
    usage = read_usage({"prompt_tokens": number, "completion_tokens": number, "cost": number})

    assert usage.input in (0, 1)
    assert usage.output in (0, 1)
    assert usage.usd is None
