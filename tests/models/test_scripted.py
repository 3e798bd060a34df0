"""The scripted model: rules, groups, bounds and errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter import config
from agentos_jupyter.errors import ConfigError, ModelMalformed
from agentos_jupyter.models import Completion, Delta, Models, RawCall, Request, Text, complete
from agentos_jupyter.models.scripted import fill, last_seen, turn
from tests.models.conftest import message

Ask = Callable[..., Any]


@pytest.fixture
def ask(workspace: Path) -> Ask:
    """`await ask(yaml, *messages)`: the scripted model's reply to these messages."""

    async def reply(text: str, *messages: bytes, heard: list[Delta] | None = None) -> Completion:
        (workspace / "script.yaml").write_text(text)
        settings = config.load(workspace, {})
        limits = config.limits(settings, {"attempts": 1})
        models = Models(settings, {}, limits)
        seen: list[Delta] = [] if heard is None else heard
        return await complete(models.resolve("scripted:script.yaml"), Request(messages), limits, seen.append)

    return reply


def called(id: str, command: str) -> bytes:
    call = {"id": id, "type": "function", "function": {"name": "bash", "arguments": json.dumps({"command": command})}}
    return message("assistant", "", tool_calls=[call])


def result(id: str, text: str) -> bytes:
    return message("tool", text, tool_call_id=id)


async def test_the_first_rule_that_matches_answers(ask: Ask) -> None:
    rules = "rules: [{when: no, say: a}, {when: 'y.s', say: b}, {when: yes, say: c}]"
    done = await ask(
        rules.replace("when: no", "when: 'no'").replace("when: yes", "when: 'yes'"), message("user", "oh yes")
    )
    assert (done.text, done.scripted, done.model, done.usage.usd) == ("b", True, "scripted:script.yaml", 0.0)


async def test_what_was_said_earlier_is_found_newest_first_and_the_last_observation_wins(ask: Ask) -> None:
    text = """
rules:
- when: {match: 'add (?P<what>\\w+)', earlier: 'call it (?P<name>\\w+)(?P<what>)'}
  say: "{what} to {name}"
"""
    said = [message("system", "call it nothing"), message("user", "call it tally"), message("assistant", "Yes.")]
    assert (await ask(text, *said, message("user", "add tests"))).text == "tests to tally"
    renamed = [*said, message("user", "no, call it count"), message("assistant", "Yes.")]
    assert (await ask(text, *renamed, message("user", "add tests"))).text == "tests to count"
    assert "thinks nothing" in (await ask(text, message("system", "call it x"), message("user", "add tests"))).text


async def test_groups_are_filled_in_and_quoted(ask: Ask) -> None:
    text = """
rules:
- when: 'read (?P<file>.+) line (\\d+)'
  say: "{file} and {2}, but not {this} or {0.__class__}"
  calls: {bash: {command: "sed -n {2}p {file!q} | awk '{print $1}'", env: [{A: "{2}"}]}}
"""
    done = await ask(text, message("user", "read it's; rm -rf / line 7"))
    assert done.text == "it's; rm -rf / and 7, but not {this} or {0.__class__}"
    assert json.loads(done.calls[0].arguments) == {
        "command": """sed -n 7p 'it'"'"'s; rm -rf /' | awk '{print $1}'""",
        "env": [{"A": "7"}],
    }


def test_what_is_filled_in_is_not_filled_again() -> None:
    assert fill("{a} {b}", {"a": "{b}", "b": "{a}"}) == "{b} {a}"


async def test_a_tool_result_knows_the_call_it_answers(ask: Ask) -> None:
    text = """
rules:
- when: {role: tool, call: '^bash$', arguments: 'cat (?P<file>\\S+)', match: 'error in line (?P<line>\\d+)'}
  say: "{file}:{line}"
"""
    history = [message("user", "x"), called("call-1", "cat a.py"), result("call-1", "error in line 12\n")]
    assert (await ask(text, *history)).text == "a.py:12"
    other = [message("user", "x"), called("call-1", "ls"), result("call-1", "error in line 12\n")]
    assert "no rule of script.yaml matches" in (await ask(text, *other)).text


async def test_several_calls_in_one_reply_keep_their_order(ask: Ask) -> None:
    done = await ask("rules: [{calls: [{bash: {command: ls}}, {bash: {command: pwd}}]}]", message("user", "x"))
    assert done.calls == (RawCall("bash", '{"command": "ls"}'), RawCall("bash", '{"command": "pwd"}'))
    assert done.finish == "tool_calls"


async def test_turns_count_since_the_last_user_message(ask: Ask) -> None:
    text = "rules: [{when: {turn: 1}, say: first}, {when: {turn: 2}, say: second}, {say: later}]"
    history = [message("user", "old"), called("a", "ls"), result("a", ""), message("assistant", "done")]
    new = [message("user", "new")]
    assert (await ask(text, *history, *new)).text == "first"
    new += [called("b", "ls"), result("b", "")]
    assert (await ask(text, *history, *new)).text == "second"
    new += [called("c", "ls"), result("c", "")]
    assert (await ask(text, *history, *new)).text == "later"


async def test_no_rule_says_so_and_names_the_file(ask: Ask) -> None:
    done = await ask("rules: [{when: never, say: a}]", message("user", "hello"))
    assert done.text.startswith("scripted:script.yaml is a scripted model") and "no rule of script.yaml" in done.text
    assert (await ask("{rules: [], otherwise: Sorry.}", message("user", "hello"))).text == "Sorry."


async def test_a_delay_streams_word_by_word(ask: Ask) -> None:
    heard: list[Delta] = []
    await ask("rules: [{say: 'one two  three ', delay: 0.001}]", message("user", "x"), heard=heard)
    assert len([delta for delta in heard if isinstance(delta, Text)]) == 3
    assert "".join(delta.text for delta in heard if isinstance(delta, Text)).split() == ["one", "two", "three"]


async def test_only_the_end_of_the_context_is_read(ask: Ask) -> None:
    broken = [b"this is not even JSON"] * 100_000
    history = [*broken, called("a", "ls"), result("a", "x")]
    started = time.perf_counter()
    assert last_seen(history).arguments == "ls"
    assert time.perf_counter() - started < 0.05


def test_turns_look_back_a_bounded_way() -> None:
    assert turn([message("assistant", "x")] * 100_000) == 257


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*x", "(a?){40}a{40}$", "^(([a-z])+.)+[A-Z]([a-z])+$"])
async def test_a_pattern_that_would_take_for_ever_is_stopped(ask: Ask, pattern: str) -> None:
    started = time.perf_counter()
    try:
        done = await ask(f"rules: [{{when: '{pattern}', say: found}}]", message("user", "a" * 60_000 + "!"))
        assert done.text != "found"
    except ModelMalformed as error:
        assert "script.yaml: a pattern of rule 1 took more than 0.25 s" in str(error)
    assert time.perf_counter() - started < 3


WRONG = {
    "rules: [{say: a, sya: b}]": "script.yaml:1:18: no key named 'sya'; did you mean 'say'?",
    "ruls: []": "script.yaml:1:1: no key named 'ruls'; did you mean 'rules'?",
    "rules: [{when: {mtch: a}, say: b}]": "script.yaml:1:17: no key named 'mtch'; did you mean 'match'?",
    "rules:\n- when: '(a'\n  say: b": "script.yaml:2:9: rules.0.when.match: this is no pattern",
    "rules:\n- when: a": "script.yaml:2:3: rules.0: a rule says something, or calls something",
    "rules: [{calls: [{a: {}, b: {}}]}]": "script.yaml:1:17: rules.0.calls: each call is one name with its arguments",
    "rules: [{say: a, delay: 99}]": "script.yaml:1:25: rules.0.delay: input should be less than or equal to 10",
    "rules: 3": "script.yaml:1:8: rules: input should be a valid list",
    "- a": "script.yaml:1:1: the file: input should be",
    "rules: [": "script.yaml:2:1: not valid YAML",
    "rules: [{say: !!python/object/apply:os.system [ls]}]": "script.yaml:1:15: not valid YAML",
}


@pytest.mark.parametrize("text", WRONG)
async def test_a_wrong_script_names_line_and_cure(ask: Ask, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await ask(text, message("user", "x"))
    assert WRONG[text] in str(caught.value)


async def test_a_changed_script_is_read_again(ask: Ask) -> None:
    assert (await ask("rules: [{say: before}]", message("user", "x"))).text == "before"
    assert (await ask("rules: [{say: then}]", message("user", "x"))).text == "then"


async def test_content_may_be_a_list_of_parts(ask: Ask) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "this"}]
    assert (await ask("rules: [{when: 'see\\s+this', say: 'yes'}]", message("user", parts))).text == "yes"
