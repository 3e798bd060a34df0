"""An answer has the form that was asked for, or the dispatch says that it has not."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from agentos_jupyter.errors import (
    AgentNotFound,
    AnswerInvalid,
    BudgetExceeded,
    ConfigError,
    ContentNotFound,
    InvalidParams,
)
from agentos_jupyter.microkernel import answers
from tests.microkernel.conftest import key

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def test_a_valid_answer_comes_as_a_value(open_desk: Any) -> None:
    desk = open_desk([{"say": '{"n": 3}'}])
    session = desk.session()
    began = desk.begin(session, "count", answer_schema=SCHEMA)
    assert desk.complete(began, 1)["more"] is False
    assert desk.end(began)["value"] == {"n": 3}
    assert desk.call("dispatch.get", dispatch=began["dispatch"])["value"] == {"n": 3}
    sent = desk.call("context.get", session=session)["messages"]
    assert '"required": ["n"]' in sent[-2]["content"]


def test_a_wrong_answer_is_told_to_the_model_which_corrects_it(open_desk: Any) -> None:
    rules = [
        {"when": {"match": r"\$\.n: 'three' is not of type"}, "say": 'Sorry.\n```json\n{"n": 3}\n```'},
        {"say": '{"n": "three"}'},
    ]
    desk = open_desk(rules)
    began = desk.begin(desk.session(), "count", answer_schema=SCHEMA)
    assert desk.complete(began, 1)["more"] is True
    assert desk.complete(began, 2)["more"] is False
    assert desk.end(began)["value"] == {"n": 3}


def test_a_model_that_never_gets_it_right_ends_the_dispatch_and_can_be_asked_again(open_desk: Any) -> None:
    desk = open_desk([{"say": "no idea"}])
    session = desk.session()
    began = desk.begin(session, "count", answer_schema=SCHEMA, limits={"corrections": 1})
    assert desk.complete(began, 1)["more"] is True
    with pytest.raises(AnswerInvalid, match="2 times"):
        desk.complete(began, 2)
    assert desk.end(began, "failed")["value"] is None
    again = desk.begin(session, "", dispatch=began["dispatch"])
    assert desk.complete(again, 3)["more"] is True


def test_a_schema_that_is_none_is_refused_before_anything_is_written(open_desk: Any) -> None:
    desk = open_desk([{"say": "x"}])
    session = desk.session()
    with pytest.raises(InvalidParams, match="no JSON Schema"):
        desk.begin(session, "count", answer_schema={"type": "integr"})
    assert len(desk.call("session.history", session=session)["events"]) == 1


def test_a_schema_never_fetches_anything() -> None:
    with pytest.raises(InvalidParams, match="outside itself"):
        answers.mistakes({"$ref": "http://127.0.0.1:1/schema.json"}, "{}")


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def put(desk: Any, data: bytes) -> str:
    encoded = base64.b64encode(data).decode()
    return str(desk.call("content.put", upload=key(), base64=encoded, last=True)["digest"])


def test_an_image_is_stored_once_and_named_in_the_context(open_desk: Any) -> None:
    desk = open_desk([{"say": "A dot."}])
    session = desk.session()
    image = {"digest": put(desk, PNG), "mime": "image/png", "name": "dot.png"}
    began = desk.begin(session, 'what is in "url":"blob:image/png;x"?', images=[image])
    assert desk.complete(began, 1)["text"] == "A dot."
    [sent] = [each for each in desk.call("context.get", session=session)["messages"] if each["role"] == "user"]
    assert sent["content"][1] == {"type": "image_url", "image_url": {"url": f"blob:image/png;{image['digest']}"}}
    event = desk.call("session.history", session=session)["events"][-2]
    assert len(str(event)) < 3000


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"mime": "image/tiff"}, InvalidParams, "models read image/png"),
        ({"digest": "sha256:" + "0" * 64}, ContentNotFound, "No content"),
    ],
)
def test_an_image_that_cannot_be_sent_is_refused(
    open_desk: Any, change: dict[str, str], error: type[Exception], words: str
) -> None:
    desk = open_desk([{"say": "x"}])
    image = {"digest": put(desk, PNG), "mime": "image/png", "name": "dot.png", **change}
    with pytest.raises(error, match=words):
        desk.begin(desk.session(), "what?", images=[image])


def test_a_budget_that_is_used_up_stops_before_the_next_turn(open_desk: Any) -> None:
    desk = open_desk([{"calls": [{"bash": {"command": "ls"}}]}])
    session = desk.session()
    desk.call("session.update", session=session, limits={"tokens": 1})
    began = desk.begin(session)
    [call] = desk.complete(began, 1)["tool_calls"]
    desk.result(began, call["id"])
    with pytest.raises(BudgetExceeded, match=r"limits\.tokens is 1"):
        desk.complete(began, 2)
    desk.end(began, "limit")
    assert desk.call("session.get", session=session)["limits"] == {"tokens": 1}
    with pytest.raises(ConfigError, match="did you mean 'turns'"):
        desk.call("session.update", session=session, limits={"turn": 1})


def test_an_agent_of_the_workspace_brings_its_own_text_model_and_limits(open_desk: Any) -> None:
    desk = open_desk([{"say": "hello"}])
    (desk.workspace / "agentos.yaml").write_text("agents: agents\n")
    (desk.workspace / "agents").mkdir()
    (desk.workspace / "agents" / "reviewer.yaml").write_text(
        "description: reads\nsystem: You review.\nlimits: {turns: 7}\n"
    )
    listed = desk.call("agent.list")["agents"]
    assert [each["name"] for each in listed] == ["agent", "reviewer"]
    session = desk.session(agent="reviewer")
    began = desk.begin(session)
    assert began["limits"]["turns"] == 7
    assert "You review." in str(desk.call("context.get", session=session)["messages"])
    with pytest.raises(AgentNotFound, match="did you mean 'reviewer'"):
        desk.session(agent="reviwer")
    (desk.workspace / "agents" / "bad.yaml").write_text("sytem: x\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml:1:1.*did you mean 'system'"):
        desk.call("agent.list")
