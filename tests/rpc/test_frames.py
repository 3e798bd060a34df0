"""Frames: bounded, one JSON object a line, and never slower than they are long."""

from __future__ import annotations

import json
import time

import pytest

from agentos_jupyter.errors import BY_CODE, AgentOSError, BadFrame, FrameTooLarge, InternalError, RpcError, SessionBusy
from agentos_jupyter.rpc.wire import MAX_DEPTH, MAX_FRAME, error_from_wire, error_to_wire, pack, unpack


@pytest.mark.parametrize(
    "line", [b"", b"garbage", b"[1]", b"3", b"null", b'"text"', b'{"a":', b"\xff\xfe{}", b'{"a": "\\', b"{" * 100]
)
def test_what_is_not_a_json_object_is_refused_with_a_sentence(line: bytes) -> None:
    with pytest.raises(BadFrame, match="the channel is closed"):
        unpack(line)


def test_a_frame_may_nest_as_deep_as_the_limit_and_no_deeper() -> None:
    inner = MAX_DEPTH - 1
    assert unpack(b'{"a":' + b"[" * inner + b"]" * inner + b"}")
    with pytest.raises(BadFrame, match="deeper"):
        unpack(b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}")


def test_brackets_inside_strings_are_no_nesting() -> None:
    message = {"text": '[{"' * 1000 + "\\", "more": "]}" * 500}
    assert unpack(pack(message)) == message


def test_a_frame_of_half_open_strings_takes_no_longer_than_its_length() -> None:
    line = b'{"a":' + b"[]" * 100 + b'"' + b'\\"' * 1_500_000 + b"x"
    started = time.perf_counter()
    with pytest.raises(BadFrame):
        unpack(line)
    assert time.perf_counter() - started < 1.0


def test_lone_surrogates_and_every_character_survive_or_are_replaced() -> None:
    text = "".join(map(chr, range(0x250))) + "\u2028\U0001f600"
    assert unpack(pack({"t": text})) == {"t": text}
    assert unpack(pack({"t": "\ud800"})) == {"t": "?"}


def test_a_message_longer_than_a_frame_is_refused_before_it_is_sent() -> None:
    with pytest.raises(FrameTooLarge, match=r"content\.put"):
        pack({"t": "x" * MAX_FRAME})
    fits = MAX_FRAME - len(pack({"t": ""}))
    assert len(pack({"t": "x" * fits})) == MAX_FRAME


@pytest.mark.parametrize("cls", sorted(BY_CODE.values(), key=lambda each: each.code), ids=lambda each: each.code)
def test_every_error_comes_out_on_the_other_side_as_it_went_in(cls: type[AgentOSError]) -> None:
    wire = json.loads(json.dumps(error_to_wire(cls("a sentence", session="s-1", until=3))))
    assert isinstance(wire["code"], int)
    found = error_from_wire(wire)
    assert (type(found), found.message, found.data) == (cls, "a sentence", {"session": "s-1", "until": 3})


def test_a_defect_travels_as_internal_and_names_its_type() -> None:
    found = error_from_wire(error_to_wire(KeyError("x")))
    assert isinstance(found, InternalError)
    assert "KeyError" in found.message


@pytest.mark.parametrize(
    "wire", [None, 3, "no", [], {}, {"data": 5}, {"data": {"code": ["x"], "self": 1, "message": 2}}]
)
def test_an_error_of_any_shape_is_an_error(wire: object) -> None:
    assert isinstance(error_from_wire(wire), AgentOSError)


def test_an_unknown_code_keeps_its_sentence() -> None:
    found = error_from_wire({"code": 1, "message": "from the future", "data": {"code": "future.thing", "a": 1}})
    assert (type(found), found.message, found.data) == (AgentOSError, "from the future", {"a": 1})
    assert not isinstance(found, RpcError | SessionBusy)
