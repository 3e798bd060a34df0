"""The context is a fold over the history, steered by plans; a turn adds to it, and the log alone makes it again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.errors import ContextTooLong, HookFailed, NoContextEngine
from agentos_jupyter.microkernel.context import Context, Plan, shorten
from agentos_jupyter.records import Event

BASH = {"when": {"role": "user"}, "say": "I look.", "calls": [{"bash": {"command": "ls"}}]}
DONE = {"when": {"role": "tool"}, "say": "Seen."}


class History:
    """Events of one session, made by hand."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, type: str, data: Mapping[str, Any], actor: str = "system") -> Event:
        version = len(self.events) + 1
        now = datetime(2026, 1, 1, tzinfo=UTC)
        self.events.append(Event(version, "session/s-1", version, now, type, actor, "d-1", data, ""))
        return self.events[-1]

    def user(self, text: str) -> Event:
        return self.add("user.message", {"text": text, "from": "prompt"})

    def assistant(self, text: str, *ids: str) -> Event:
        calls = [{"id": each, "name": "bash", "arguments": {"command": "ls"}} for each in ids]
        return self.add("assistant.message", {"text": text, "calls": calls, "turn": 1})

    def result(self, id: str, text: str) -> Event:
        return self.add("tool.result", {"id": id, "name": "bash", "status": "ok", "text": text})

    def plan(self, **plan: Any) -> Event:
        return self.add("context.planned", {"plan": plan})

    def fold(self) -> Context:
        context = Context()
        for event in self.events:
            context.apply(event)
        return context


ALL = {"types": ["user.message", "assistant.message", "tool.result"]}


def contents(context: Context) -> list[str]:
    return [json.loads(piece)["content"] for piece in context.messages()]


def plan(**given: Any) -> Plan:
    return Plan.model_validate(given)


@pytest.fixture
def history() -> History:
    """A question, a call with its result, an answer."""
    made = History()
    made.user("q")
    made.assistant("a", "call-1")
    made.result("call-1", "r" * 1000)
    made.assistant("end")
    return made


def test_nothing_is_in_the_context_before_a_plan_says_so(history: History) -> None:
    assert contents(history.fold()) == []
    history.plan(add=[{"event": 1}], append=ALL)
    assert contents(history.fold()) == ["q"]


def test_the_append_rule_lets_new_events_enter_and_cuts_them(history: History) -> None:
    history.plan(add=[{"event": 1}], append={"types": ["user.message", "tool.result"], "cut": {"tool.result": 300}})
    history.user("more")
    history.assistant("not named in the rule")
    history.result("call-9", "x" * 5000)
    context = history.fold()
    assert contents(context)[:2] == ["q", "more"]
    assert len(contents(context)[2].encode()) < 400


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"add": [{"event": 99}]}, "adds event 99, which is no message"),
        ({"add": [{"event": 5}]}, "adds event 5"),
        ({"add": [{"event": 3}]}, "result of call-1 without the message"),
        ({"add": [{"event": 2}, {"event": 4}]}, "leaves call-1 without a result"),
        ({"add": [{"event": 2}, {"event": 1}, {"event": 3}]}, "leaves call-1"),
        ({"base": 3, "add": [{"event": 1}]}, "based on 3, but the context stands on 5"),
        ({"base": 5, "drop": [{"event": 2}]}, "result of call-1 without"),
        ({"base": 5, "drop": [{"event": 3}]}, "leaves call-1 without"),
        ({"add": [{"event": 1, "text": "x", "from": "y"}]}, "either an event, or a text"),
        ({"add": [{"text": "x"}]}, "either an event, or a text"),
        ({"add": [{}]}, "either an event, or a text"),
    ],
)
def test_a_plan_that_would_break_the_conversation_is_refused(history: History, given: Any, said: str) -> None:
    history.plan(add=[{"event": n} for n in (1, 2, 3, 4)], append=ALL)
    context = history.fold()
    before = context.messages()
    with pytest.raises(HookFailed, match=said):
        context.check(plan(**given))
    assert context.messages() == before


def test_a_plan_on_the_current_base_drops_adds_and_cuts_in_place(history: History) -> None:
    history.plan(add=[{"event": n} for n in (1, 2, 3, 4)] + [{"text": "be kind", "from": "me"}], append=ALL)
    context = history.fold()
    change = {"base": 5, "drop": [{"event": 4}, {"from": "me"}], "add": [{"event": 3, "cut": 300}]}
    context.check(plan(**change))
    history.plan(**change)
    told = contents(history.fold())
    assert told[:2] == ["q", "a"]
    assert len(told) == 3
    assert len(told[2].encode()) < 400


def test_system_texts_come_first_wherever_they_were_added(history: History) -> None:
    history.plan(add=[{"event": 1}, {"text": "rules", "from": "x"}, {"text": "hint", "from": "y", "role": "user"}])
    assert contents(history.fold()) == ["rules", "q", "hint"]


@pytest.mark.parametrize("limit", [0, 1, 10, 100, 3999, 4000, 5000, None])
def test_what_is_shortened_keeps_head_and_tail_and_never_tears_a_character(limit: int | None) -> None:
    text = "é漢\U0001f600" * 500
    short = shorten(text, limit)
    assert short.encode("utf-8").decode() == short
    if limit is not None and limit < len(text.encode()):
        assert "bytes left out" in short
        assert len(short.encode()) <= limit + 60
    else:
        assert short == text


def test_agents_md_enters_and_a_changed_one_replaces_it(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "ok"}])
    session = desk.session()
    file = desk.workspace / "AGENTS.md"
    file.write_text("Always say please.")
    desk.prompt(session)
    system = [each["content"] for each in desk.messages(session) if each["role"] == "system"]
    assert any("Always say please." in each for each in system)
    plans = len(desk.events(session, "context.planned"))
    desk.prompt(session)
    assert len(desk.events(session, "context.planned")) == plans
    file.write_text("Never say please.")
    desk.prompt(session)
    text = json.dumps(desk.messages(session))
    assert ("Never say please." in text, "Always say please." in text) == (True, False)
    file.unlink()
    desk.prompt(session)
    assert "say please" not in json.dumps(desk.messages(session))
    sources = desk.call("context.explain", session=session)["sources"]
    assert [each["event"] for each in sources if each["event"]] == sorted(e["event"] for e in sources if e["event"])


def test_agents_md_as_a_link_a_pipe_or_a_folder_is_left_out(open_desk: Any, base: Path) -> None:
    import os

    desk = open_desk(rules=[{"say": "ok"}])
    secret = base / "secret.txt"
    secret.write_text("not for agents")
    (desk.workspace / "AGENTS.md").symlink_to(secret)
    os.mkfifo(desk.workspace / "CLAUDE.md")
    session = desk.session()
    desk.prompt(session)
    assert "not for agents" not in json.dumps(desk.messages(session))
    (desk.workspace / "AGENTS.md").unlink()
    (desk.workspace / "AGENTS.md").mkdir()
    assert desk.prompt(session)["status"] == "ok"


def test_binary_in_agents_md_does_no_harm(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "ok"}])
    (desk.workspace / "AGENTS.md").write_bytes(bytes(range(256)) * 1000)
    session = desk.session()
    assert desk.prompt(session)["status"] == "ok"
    raw = desk.raw_context(session)
    desk.reopen()
    assert desk.raw_context(session) == raw


def test_a_context_larger_than_a_frame_is_told_in_pages(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "ok"}], limits={"window": "9M", "prompt": "512k"})
    session = desk.session()
    for letter in "abcdefghijkl":
        assert desk.prompt(session, letter * 500_000)["status"] == "ok"
    link, found, after = desk.connect(), [], 0
    while after is not None:
        page = link.call("context.get", {"session": session, "after": after})
        assert page["next"] is None or page["next"] > after
        found, after = found + page["messages"], page["next"]
    said = [each["content"][:1] for each in found if each["role"] == "user"]
    assert "".join(said)[-12:] == "abcdefghijkl"
    assert len(found) > len(link.call("context.get", {"session": session})["messages"])


def test_old_output_is_shortened_when_the_window_is_full(open_desk: Any) -> None:
    desk = open_desk(rules=[DONE, BASH], limits={"window": "20k", "answer": "1k"})
    session = desk.session()
    for _ in range(6):
        assert desk.prompt(session, "go", answers="line of output\n" * 900)["status"] == "ok"
    plans = desk.events(session, "context.planned")
    assert plans[-1]["data"]["reason"] == "over"
    assert desk.call("context.get", session=session)["tokens"] <= 19_000
    sizes = [len(each["content"]) for each in desk.messages(session) if each["role"] == "tool"]
    assert sizes[0] < sizes[-1]
    raw = desk.raw_context(session)
    desk.reopen()
    assert desk.raw_context(session) == raw


def test_what_does_not_fit_even_so_is_context_too_long_with_the_cure(open_desk: Any) -> None:
    desk = open_desk(rules=[DONE, BASH], limits={"window": "4k", "answer": "1k"})
    session = desk.session()
    began = desk.begin(session, "word " * 5000)
    with pytest.raises(ContextTooLong, match=r"the model takes 3000.*%session new"):
        desk.complete(began, 1)
    assert desk.end(began, "failed")["status"] == "failed"


def test_a_missing_context_engine_names_the_choices_and_frees_the_session(open_desk: Any) -> None:
    desk = open_desk(rules=[{"say": "ok"}], context="aos-contxt")
    session = desk.session()
    for _ in range(2):
        with pytest.raises(NoContextEngine, match=r"'aos-contxt' is not there \(offered: aos-context\).*agentos\.yaml"):
            desk.begin(session)
    assert desk.call("session.get", session=session)["phase"] == "idle"


ENGINE = """
    from aos_sdk import define_service
    @define_service
    def service():
        def assemble(facts, output):
            {body}
            return output
        return {{"hooks": {{"session.assemble": assemble}}}}
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("output['plan'] = {'base': None, 'add': [{'event': 4711}]}", "adds event 4711"),
        ("output['plan'] = {'add': 'nonsense'}", "something that is not a plan"),
        ("output['plan'] = {'base': 3}", "based on 3"),
        ("output['plan'] = {'surprise': 1}", "something that is not a plan"),
        ("output['plan'] = [1]", "something that is not a plan"),
        ("raise ValueError('engine broke')", "engine broke"),
        ("import time; time.sleep(9)", "in time"),
        ("import os; os._exit(3)", "died"),
    ],
)
def test_an_engine_that_answers_badly_is_named_and_the_session_is_free_again(
    open_desk: Any, body: str, said: str
) -> None:
    services = {"my_engine": ENGINE.format(body=body)}
    desk = open_desk(rules=[{"say": "ok"}], services=services, context="my-engine", limits={"hook": "500ms"})
    session = desk.session()
    with pytest.raises(HookFailed, match=said) as error:
        desk.begin(session)
    assert "my-engine" in error.value.message or "plan" in error.value.message
    assert desk.call("session.get", session=session)["phase"] == "idle"
    ended = desk.events(session, "dispatch.ended")[-1]["data"]
    assert (ended["status"], ended["error"]["code"]) == ("failed", "hook.failed")


def test_an_engine_that_is_killed_at_work_is_started_and_asked_once_more(open_desk: Any, base: Path) -> None:
    once = base / "killed-once"
    body = (
        "import os\n"
        f"            if not os.path.exists({str(once)!r}):\n"
        f"                open({str(once)!r}, 'w').close()\n"
        "                os.kill(os.getpid(), 9)\n"
        "            output['plan'] = {'base': None, 'add': [{'text': 'Alive.', 'from': 'me'}]}"
    )
    services = {"my_engine": ENGINE.format(body=body)}
    desk = open_desk(rules=[{"say": "ok"}], services=services, context="my-engine")
    assert desk.prompt(desk.session())["status"] == "ok"
    assert once.exists()


def test_an_engine_of_ones_own_decides_what_the_model_sees(open_desk: Any) -> None:
    body = (
        "events = [{'event': e['event']} for e in facts['outline'][-1:]]\n"
        "            output['plan'] = {'base': None, 'add': [{'text': 'Be odd.', 'from': 'me'}, *events]}"
    )
    services = {"my_engine": ENGINE.format(body=body)}
    desk = open_desk(rules=[{"say": "ok"}], services=services, context="my-engine")
    session = desk.session()
    desk.prompt(session, "first")
    assert [each["content"] for each in desk.messages(session)] == ["Be odd.", "first"]


def test_a_turn_costs_the_same_after_two_thousand_messages(history: History) -> None:
    history.plan(add=[{"event": n} for n in (1, 2, 3, 4)], append=ALL)
    context = history.fold()

    def turns(n: int) -> float:
        best = 1.0
        for _ in range(n):
            question, answer = history.user("next"), history.assistant("fine " * 100)
            started = time.perf_counter()
            context.apply(question)
            context.apply(answer)
            best = min(best, time.perf_counter() - started)
        return best

    early = turns(50)
    for _ in range(1000):
        for event in (history.user("q" * 200), history.assistant("a" * 200)):
            context.apply(event)
    assert turns(50) < 5 * early + 0.0001
    pieces = context.messages()
    assert len(pieces) > 2000
    assert history.fold().messages() == pieces
    assert history.fold().tokens == context.tokens
    assert context.size == sum(map(len, pieces))


def test_each_message_is_encoded_once(history: History) -> None:
    history.plan(add=[{"event": n} for n in (1, 2, 3, 4)], append=ALL)
    context = history.fold()
    before = context.messages()
    context.apply(history.user("one more"))
    after = context.messages()
    assert all(one is other for one, other in zip(before, after, strict=False))
