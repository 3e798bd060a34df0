"""A secret is in no output of a notebook and nowhere below the state folder, whoever says it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agentos_jupyter.models.chunks import read_usage
from agentos_jupyter.redact import PIECE, Redactor
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


def test_a_secret_in_a_long_output_or_prompt_is_not_stored(
    workspace: Path, open_notebook: Callable[..., Notebook], script: Callable[..., str]
) -> None:
    """Tried: more than an event holds, so that it goes into the content store instead."""
    notebook = open_notebook(AGENTOS_MODEL=script([{"say": "done"}]), OPENAI_API_KEY=EXACT)
    (workspace / "dotenv").write_text(f"A={EXACT}\nB={PATTERN}\n")

    assert notebook.run("!for i in $(seq 5000); do cat dotenv; done").reply["status"] == "ok"
    assert notebook.run(f"{'word ' * 80_000} {EXACT} {PATTERN}").reply["status"] == "ok"

    blobs = [path for path in (workspace / ".agentos" / "blobs").rglob("*") if path.is_file()]
    assert len(blobs) == 2
    kept = [path for path in (workspace / ".agentos").rglob("*") if path.is_file()]
    assert [path for path in kept if EXACT.encode() in path.read_bytes() or PATTERN.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("shift", range(0, 60, 7))
def test_a_file_is_cleaned_wherever_it_is_cut(shift: int) -> None:
    """Whole words and whole private keys are looked at together; other bytes, text or not, stay as they are."""
    key = (
        b"-----BEGIN RSA PRIVATE KEY-----\n"
        + b"QUJD" * 16
        + b"\n"
        + b"REVG" * 16
        + b"\n-----END RSA PRIVATE KEY-----\n"
    )
    secret = b"x " + EXACT.encode() + b" \xff\x00\r\n"
    data = b"\xc3" * (PIECE - shift) + b" " + secret * 3 + b"." * (PIECE - 200 + shift) + b"\n" + key + b"end"

    clean = b"".join(Redactor(exact=[EXACT]).file(io.BytesIO(data)))

    expected = data.replace(EXACT.encode(), b"[redacted:key]").replace(key.rstrip(), b"[redacted:private-key]")
    assert clean == expected


@pytest.mark.parametrize("number", [float("inf"), float("nan"), -5, 10**30, "7", None, [1], True])
def test_counts_and_costs_of_an_endpoint_are_bounded(number: object) -> None:
    usage = read_usage({"prompt_tokens": number, "completion_tokens": number, "cost": number})

    assert usage.input in (0, 1)
    assert usage.output in (0, 1)
    assert usage.usd is None
