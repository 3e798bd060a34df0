"""Prompt-cache marks, and the counts that tell whether they helped."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentos_jupyter.models import Request
from agentos_jupyter.models.chunks import read_usage
from agentos_jupyter.models.client import DirectModel, Endpoint, Pool
from agentos_jupyter.models.marks import marked, supported
from agentos_jupyter.records import Usage
from tests.models.conftest import message
from tests.servers.openai_server import FakeOpenAI, say

MARK = {"type": "ephemeral"}
TALK = [
    message("system", "You help."),
    message("system", "This is the workspace."),
    message("user", "hello"),
    message("assistant", "", tool_calls=[{"id": "call-1"}]),
    message("tool", "done", tool_call_id="call-1"),
]


def where(pieces: list[bytes]) -> list[int]:
    """Which messages carry a mark."""
    return [number for number, piece in enumerate(pieces) if b"cache_control" in piece]


def test_the_last_system_message_and_the_last_two_with_content_are_marked() -> None:
    pieces = marked(TALK)
    assert where(pieces) == [1, 2, 4]
    assert json.loads(pieces[4])["content"] == [{"type": "text", "text": "done", "cache_control": MARK}]
    assert json.loads(pieces[4])["tool_call_id"] == "call-1"
    assert [piece for number, piece in enumerate(pieces) if number in (0, 3)] == [TALK[0], TALK[3]]


def test_of_a_message_of_parts_the_last_part_is_marked() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:"}},
    ]
    [piece] = marked([message("user", parts)])
    assert json.loads(piece)["content"] == [parts[0], {**parts[1], "cache_control": MARK}]


def test_nothing_to_mark_stays_as_it_is() -> None:
    assert marked([]) == []
    assert marked([message("user", "")]) == [message("user", "")]
    assert where(marked([message("system", "alone")])) == [0]


@pytest.mark.parametrize(
    ("name", "yes"),
    [
        ("openrouter/anthropic/claude-x", True),
        ("litellm:anthropic/claude-x", True),
        ("litellm:bedrock/us.anthropic.claude-x", True),
        ("litellm:vertex_ai/claude-x", True),
        ("openrouter/openai/gpt-x", False),
        ("openrouter/auto", False),
        ("anthropic/claude-x", False),
        ("openai/gpt-x", False),
        ("mistral/anthropic/claude", False),
        ("deepseek/deepseek-chat", False),
    ],
)
def test_only_models_that_cache_what_is_marked_get_marks(name: str, yes: bool) -> None:
    assert supported(name) is yes


@pytest.mark.parametrize(("name", "marks"), [("openrouter/anthropic/claude-x", [1, 2, 4]), ("openrouter/x/y", [])])
async def test_marks_are_sent_and_the_request_keeps_none(name: str, marks: list[int]) -> None:
    pool = Pool(2)
    async with FakeOpenAI([say("ok")]) as server:
        model = DirectModel(name, Endpoint(server.base_url, "x"), pool, window=1000, limit=10_000)
        request = Request(list(TALK))
        async for _ in model.stream(request):
            pass
        sent = [json.dumps(each).encode() for each in server.requests[0].body["messages"]]
    await pool.aclose()
    assert where(sent) == marks
    assert request.messages == TALK


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (
            {"prompt_tokens": 120, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 100}},
            Usage(120, 7, 100),
        ),
        (
            {
                "input_tokens": 12,
                "output_tokens": 7,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 8,
            },
            Usage(120, 7, 100, written=8),
        ),
        (
            {
                "prompt_tokens": 120,
                "completion_tokens": 7,
                "prompt_cache_hit_tokens": 100,
                "prompt_cache_miss_tokens": 20,
            },
            Usage(120, 7, 100),
        ),
        ({"prompt_tokens": 120, "completion_tokens": 7, "cache_read_input_tokens": 100}, Usage(120, 7, 100)),
        ({"prompt_tokens": 120, "completion_tokens": 7, "prompt_tokens_details": None}, Usage(120, 7, 0)),
    ],
    ids=["openai", "anthropic", "deepseek", "litellm", "none"],
)
def test_cached_tokens_are_read_in_every_spelling(told: dict[str, Any], usage: Usage) -> None:
    assert read_usage(told) == usage
