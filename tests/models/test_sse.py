from __future__ import annotations

import pytest

from agentos_jupyter.errors import ModelMalformed
from agentos_jupyter.models.sse import EventParser

STREAM = (
    ": OPENROUTER PROCESSING\r\n\r\n"
    "event: message\r\nid: 7\r\ndata: first\r\n\r\n"
    "data: two\ndata: lines\n\n"
    "data:naïve 🙂\r\rdata\n\n"
    "retry: 100\ndata: last"
).encode()
EVENTS = [b"first", b"two\nlines", "naïve 🙂".encode(), b"", b"last"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_chunks_of_any_size_give_the_same_events(size: int) -> None:
    parser = EventParser(10_000)
    events = [event for at in range(0, len(STREAM), size) for event in parser.feed(STREAM[at : at + size])]
    assert events + parser.close() == EVENTS


def test_an_event_without_an_end_is_refused_at_its_limit() -> None:
    parser = EventParser(1000)
    with pytest.raises(ModelMalformed, match="more than 1000 bytes"):
        for _ in range(100):
            parser.feed(b"data: " + b"x" * 50)


def test_data_lines_without_a_blank_line_are_refused_at_their_limit() -> None:
    parser = EventParser(1000)
    with pytest.raises(ModelMalformed, match="more than 1000 bytes"):
        for _ in range(100):
            parser.feed(b"data: " + b"x" * 50 + b"\n")
