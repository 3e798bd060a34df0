"""Single rules of what endpoints say: waits, sentences, usage and prices."""

from __future__ import annotations

import email.utils
import json
import time
from typing import Any

import pytest

from agentos_jupyter.models import failures
from agentos_jupyter.models.chunks import read_usage
from agentos_jupyter.models.prices import Price
from agentos_jupyter.records import Usage


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after-ms": "x"}, None),
    ],
)
def test_retry_after_is_a_number(headers: dict[str, str], seconds: float | None) -> None:
    assert failures.retry_after(headers) == seconds


@pytest.mark.parametrize("ahead, seconds", [(60, 60), (-60, 0)])
def test_retry_after_is_a_date(ahead: int, seconds: float) -> None:
    headers = {"retry-after": email.utils.formatdate(time.time() + ahead, usegmt=True)}
    assert failures.retry_after(headers) == pytest.approx(seconds, abs=2)


BODIES: list[tuple[Any, str]] = [
    ({"error": {"message": "No."}}, "No"),
    ({"error": "No"}, "No"),
    ({"detail": [{"msg": "field required"}]}, "field required"),
    ([{"error": {"message": "No"}}], "No"),
    ({"error": {"message": "Provider returned error", "metadata": {"raw": "busy"}}}, "Provider returned error (busy)"),
    ({"other": 1}, '{"other": 1}'),
    ([], ""),
]


@pytest.mark.parametrize("body, sentence", BODIES)
def test_the_sentence_is_found_however_it_is_nested(body: Any, sentence: str) -> None:
    assert failures.summary(json.dumps(body).encode()) == sentence


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[" * 60_000, b"<" * 60_000, b"<title>" * 9_000, b"plain\x07 text"]
)
def test_any_body_becomes_a_short_line_quickly(body: bytes) -> None:
    started = time.perf_counter()
    said = failures.summary(body)
    assert said.isprintable() and len(said) <= 300
    assert time.perf_counter() - started < 0.5


def test_usage_of_several_dialects() -> None:
    assert read_usage({"prompt_tokens": 5, "prompt_cache_hit_tokens": 3, "completion_tokens": 2}) == Usage(5, 2, 3)
    assert read_usage({"prompt_tokens": None, "completion_tokens": "x", "cost": True}) == Usage()


def test_a_price_counts_what_was_cached_separately() -> None:
    assert Price(3, 15, 0.5).of(Usage(1_000_000, 100_000, 400_000)) == pytest.approx(1.8 + 0.2 + 1.5)
    assert Price(3, 15).of(Usage(1_000_000, 0, 400_000)) == pytest.approx(3.0)
