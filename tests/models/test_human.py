"""What a person writes in a model's place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentos_jupyter import config
from agentos_jupyter.errors import InvalidParams, ModelAsksPerson
from agentos_jupyter.models import Attempt, Models, RawCall, complete
from agentos_jupyter.models.human import answered, reply
from tests.models.conftest import ASK


def bash(command: str) -> RawCall:
    return RawCall("bash", json.dumps({"command": command}))


@pytest.mark.parametrize(
    ("written", "calls", "text"),
    [
        ("! ls -l", (bash("ls -l"),), ""),
        ("$ echo $HOME", (bash("echo $HOME"),), ""),
        ('{"tool": "bash", "arguments": {"command": "ls"}}', (bash("ls"),), ""),
        ('{"tool": "other"}', (RawCall("other", "{}"),), ""),
        ('{"tool": 1}', (), '{"tool": 1}'),
        ('{"answer": 42}', (), '{"answer": 42}'),
        ("{curly", (), "{curly"),
        ("!", (), "!"),
        (" It is done. \n", (), "It is done."),
    ],
)
def test_a_command_a_call_or_the_answer(written: str, calls: tuple[RawCall, ...], text: str) -> None:
    said = reply(written)
    assert said is not None
    assert (said.calls, said.text) == (calls, text)


async def test_a_person_is_asked_without_an_attempt_and_takes_the_answer(workspace: Path) -> None:
    settings = config.load(workspace, {})
    limits = config.limits(settings)
    chain = Models(settings, {}, limits).resolve("human")
    attempts: list[Attempt] = []

    async def note(attempt: Attempt) -> None:
        attempts.append(attempt)

    with pytest.raises(ModelAsksPerson, match="You are the model"):
        await complete(chain, ASK, limits, on_attempt=note)
    assert attempts == []
    done = await complete(*answered(chain, ASK, "Yes."), limits)
    assert (done.text, done.model, done.scripted, done.usage.usd) == ("Yes.", "human", False, 0.0)
    with pytest.raises(ModelAsksPerson):
        await complete(*answered(chain, ASK, " \n"), limits)


def test_an_answer_for_a_model_that_is_no_person_is_refused(workspace: Path) -> None:
    settings = config.load(workspace, {})
    chain = Models(settings, {}, config.limits(settings)).resolve("scripted:demo")
    with pytest.raises(InvalidParams, match="no person"):
        answered(chain, ASK, "Yes.")
