"""Streamed text never shows a secret, however it is cut, and shows everything else in time."""

from __future__ import annotations

import random
import time

import pytest

from agentos_jupyter.microkernel.live import HELD, Live
from agentos_jupyter.redact import Redactor

KEY = "sk-or-v1-" + "0123456789abcdef" * 4
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA1234567890abcdef\n" * 8 + "-----END RSA PRIVATE KEY-----\n"
TEXT = (
    f"Look: the key is {KEY}, and again {KEY}\nurl https://me:hunter2hunter@example.org/x y\n"
    f"Authorization: Bearer abcdef0123456789abcdef\n{PEM}after ünïcode 漢字漢字 done exact-key-value-1 end"
)
REDACTOR = Redactor(exact=["exact-key-value-1"])


def spoken(pieces: list[str]) -> str:
    live = Live(REDACTOR.text)
    return "".join([*(live.take(piece) for piece in pieces), live.rest()])


@pytest.mark.parametrize("seed", range(20))
def test_however_a_text_is_cut_no_secret_is_shown(seed: int) -> None:
    dice = random.Random(seed)
    pieces, rest = [], TEXT
    while rest:
        size = dice.choice((1, 1, 2, 5, 30))
        pieces.append(rest[:size])
        rest = rest[size:]
    shown = spoken(pieces)
    for secret in (KEY, "hunter2", "abcdef0123456789", "MIIEpA", "exact-key"):
        assert secret not in shown
    assert shown.startswith("Look: the key is [redacted:api-key], and again [redacted:api-key]\nurl https://me:")
    assert shown.endswith("after ünïcode 漢字漢字 done [redacted:key] end")


def test_text_without_secrets_comes_out_as_it_went_in() -> None:
    text = "Plain words,\n\twith  spaces\n\n\nand lines\r\n" * 50
    assert spoken(list(text)) == text
    assert spoken([text]) == text


def test_words_are_shown_as_soon_as_they_are_whole_and_other_scripts_at_once() -> None:
    live = Live(REDACTOR.text)
    assert live.take("Hello wor") == "Hello "
    assert live.take("ld! ") == "world! "
    assert live.take("漢字") == "漢字"
    assert live.take("") == ""
    assert live.take("end") == ""
    assert live.rest() == "end"


def test_a_word_without_end_is_shown_in_the_end_and_costs_no_square() -> None:
    live = Live(REDACTOR.text)
    started = time.perf_counter()
    shown = "".join(live.take("x" * 7) for _ in range(60_000)) + live.rest()
    assert time.perf_counter() - started < 5
    assert len(shown) == 420_000
    live.take("y" * (HELD + 1))
    live.clear()
    assert live.rest() == ""
