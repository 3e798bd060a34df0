"""A dispatch as it is seen in a cell: what the unit, or the log, says becomes steps on the screen."""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from agentos_jupyter.errors import AnswerInvalid
from agentos_jupyter.jupyter.display import WIDEST, Note, Screen, Step
from agentos_jupyter.jupyter.safe import one_line
from agentos_jupyter.jupyter.words import summary
from agentos_jupyter.records import JudgedCall, Observation, Reply
from agentos_jupyter.redact import Redactor

MARKS = {
    "failed": "exit {code}",
    "timeout": "timed out",
    "killed": "killed",
    "rejected": "rejected",
    "unknown": "result unknown",
    "not_run": "not run",
    "withdrawn": "withdrawn",
}


class Watch:
    """The unit's observer for one dispatch, which has run for `seconds` already.

    `quiet` is a person's own command: its output is shown as it is.
    """

    def __init__(self, screen: Screen, quiet: bool = False, seconds: float = 0.0) -> None:
        self._screen, self._quiet = screen, quiet
        self._writing: Step | None = None
        self._calls: dict[str, _Running] = {}
        self._redactor = Redactor()
        self._since = time.monotonic() - seconds
        self._noted = ("", 0, Note(""))
        self._said: list[Step] = []
        self._told = 0
        self._own: Step | None = None
        self.turns = 0
        self.commands = 0
        self._tokens = 0
        self._usd = 0.0

    @asynccontextmanager
    async def ticking(self) -> AsyncIterator[None]:
        """Keep the seconds and the spend on the open step's line true."""
        task = asyncio.ensure_future(self._tick())
        try:
            yield
        finally:
            task.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            for step in (self._writing, *(running.step for running in self._calls.values())):
                if step is not None and not step.done and not self._quiet:
                    self._screen.touch(step)

    # -- the unit's observer

    def began(self, began: Mapping[str, Any]) -> None:
        self._screen.metadata.update(
            {
                "session": began["session"],
                "dispatch": began["dispatch"],
                "from": began["first"],
                "harness": began["harness"],
            }
        )
        for sentence in began.get("news", ()):
            self._screen.note(sentence)

    def delta(self, kind: str, text: str) -> None:
        if kind == "note":
            self.note(text)
        elif kind == "heard":
            self.heard(text)
        elif kind == "reset":
            if self._writing is not None:
                self._writing.rename("the model begins its answer again")
                self._screen.touch(self._writing)
        elif kind == "text":
            self._write(text)

    def replied(self, reply: Reply) -> None:
        self._told = reply.turn
        self._spend(asdict(reply.usage))
        self.reply(reply.text, last=not reply.tool_calls and not reply.more)

    def _spend(self, usage: Mapping[str, Any]) -> None:
        self._tokens += (usage.get("input") or 0) + (usage.get("output") or 0)
        self._usd += usage.get("usd") or 0.0

    def spent(self, turn: int) -> str:
        """What the dispatch has used so far, for the line of a step at work."""
        seconds = round(time.monotonic() - self._since)
        parts = [
            f"turn {turn}",
            f"{self._tokens} tokens" if self._tokens else "",
            f"${self._usd:.4f}" if self._usd else "",
            f"{seconds} s" if seconds else "",
        ]
        return " · ".join(part for part in parts if part)

    def call(self, judged: JudgedCall) -> None:
        call = judged.call
        arguments = call.arguments if call.arguments is not None else call.raw
        self.began_call(call.id, call.name, arguments, judged.recorded is not None)

    def output(self, judged: JudgedCall, data: bytes) -> None:
        running = self._calls.get(judged.call.id)
        if running is not None and running.feed(data, self._redactor):
            self._screen.touch(running.step)

    def result(self, judged: JudgedCall, observation: Observation) -> None:
        self.ended_call(
            judged.call.id, observation.status, observation.text, observation.exit_code, observation.seconds
        )

    async def ask(self, question: str) -> str:
        """What the person at the cell writes who is the model."""
        return await self._screen.ask(question)

    # -- dispatch.follow

    def followed(self, data: Mapping[str, Any]) -> None:
        """A live piece, or a fact of the log."""
        if data["kind"] != "event":
            self._live(data)
            return
        event = data["event"]
        fact = event["data"]
        match event["type"]:
            case "assistant.message":
                self._told = fact["turn"]
                self._spend(fact.get("usage") or {})
                self.reply(fact["text"], last=not fact["calls"] and not fact.get("more"))
            case "user.message" if fact.get("from") == "steer":
                self.heard(fact["text"])
            case "user.message" if fact.get("from") == "schema":
                self.note(fact["text"])
            case "tool.call":
                arguments = fact.get("arguments") or fact.get("raw", "")
                self.began_call(fact["id"], fact["name"], arguments, "recorded" in fact)
            case "tool.result":
                self.ended_call(
                    fact["id"], fact["status"], fact["text"], fact.get("exit_code"), fact.get("seconds", 0.0)
                )
            case "compute.attempt":
                self.note(fact["error"])

    def _live(self, data: Mapping[str, Any]) -> None:
        if data["kind"] in ("text", "reset"):
            self.delta(data["kind"], data.get("text", ""))
        elif data["kind"] == "output" and data["text"] and (running := self._calls.get(data["id"])) is not None:
            running.step.append(data["text"])
            self._screen.touch(running.step)

    def note(self, text: str) -> None:
        """A sentence on the way; said again at once (a server that stays down), it is counted and not repeated."""
        said, times, note = self._noted
        if said == text:
            note.head = f"{text} ({times + 1} times)"
            self._noted = (text, times + 1, note)
        else:
            note = Note(text)
            self._noted = (text, 1, note)
        self._screen.touch(note)

    # -- what a person says meanwhile

    def said(self, text: str) -> Step:
        """Words that are on their way to the agent."""
        step = _Said(f"You: {self._redactor.text(text)}")
        self._said.append(step)
        self._screen.touch(step)
        return step

    def heard(self, text: str) -> None:
        """Words have entered the history, from here or from elsewhere."""
        head = f"You: {text}"
        step = next((each for each in self._said if each.head == head and not each.done), None) or Step(head)
        step.finish(f"read before turn {self.turns + 1}")
        self._screen.touch(step)

    # -- the same, in words that the log uses too

    def _write(self, text: str) -> None:
        if self._writing is None:
            self._writing = Step("the agent writes")
            self._writing.state = partial(self.spent, self.turns + 1)
        self._writing.append(text)
        self._screen.touch(self._writing)

    def reply(self, text: str, last: bool) -> None:
        """A reply is whole: text on the way collapses to its first line; the last one is the answer, shown elsewhere."""
        self.turns += 1
        step = self._writing
        if last:
            return
        self._writing = None
        if not text.strip():
            return
        step = step or Step("")
        first = text.strip().partition("\n")[0].strip()
        step.rename(one_line(first, WIDEST))
        step.finish(body=text if step.head != text.strip() else "")
        self._screen.touch(step)

    def began_call(self, call_id: str, name: str, arguments: Any, replayed: bool = False) -> None:
        self.commands += 1
        command = arguments.get("command") if name == "bash" and isinstance(arguments, Mapping) else None
        step = _Own() if self._quiet else _step_of(name, command if isinstance(command, str) else None, arguments)
        step.state = partial(self.spent, self.turns)
        self._calls[call_id] = _Running(step, replayed)
        if not self._quiet:
            self._screen.touch(step)

    def ended_call(self, call_id: str, status: str, text: str, code: int | None, seconds: float) -> None:
        running = self._calls.pop(call_id, None)
        if running is None:
            return
        mark = MARKS.get(status, "").format(code="?" if code is None else code)
        if status == "failed" and code is None:
            mark = "failed"
        took = f"{seconds:.1f} s" if seconds >= 0.05 else ""
        origin = "replayed, not run" if running.replayed else ""
        running.step.finish(" · ".join(part for part in (origin, mark, took) if part), text)
        self._own = running.step
        self._screen.touch(running.step)

    def end(self, info: Mapping[str, Any]) -> None:
        """The dispatch is over: the place where the answer was being written becomes its summary."""
        self._screen.metadata["to"] = info["last"]
        if (info.get("error") or {}).get("code") == AnswerInvalid.code and info["turns"] > self._told:
            self.reply(str(info["answer"]), last=False)  # the reply that was refused is a fact, and came as the error
        for call_id in list(self._calls):
            self.ended_call(call_id, "unknown", "", None, 0.0)
        for step in self._said:
            if not step.done:
                step.finish("not read: it enters with the next prompt")
                self._screen.touch(step)
        if self._quiet:
            self._screen.mark(self._own)
            return
        step = self._writing or Step("")
        step.rename(summary(info))
        step.finish()
        self._screen.touch(step)


class _Said(Step):
    """Words on their way to the agent."""

    def line(self) -> str:
        return super().line() if self.done else f"{one_line(self.head, 3 * WIDEST)} · waits for the next turn"


class _Running:
    """A call that runs: its step, and the bytes of a line or character that is not whole yet."""

    def __init__(self, step: Step, replayed: bool) -> None:
        self.step, self.replayed = step, replayed
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, redactor: Redactor) -> bool:
        """Show the whole lines; a secret is recognised in a whole line only. True when there is something new."""
        text = self._rest + self._decoder.decode(data)
        whole, newline, self._rest = text.rpartition("\n")
        if len(self._rest) > 4096:
            whole, newline, self._rest = whole + newline + self._rest, "", ""
        if whole or newline:
            self.step.append(redactor.text(whole + newline))
        return bool(whole or newline)


class _Own(Step):
    """A person's own command: its output alone, which ends with what it cannot say itself (`[exit code 1]`)."""

    def __init__(self) -> None:
        super().__init__("")

    def line(self) -> str:
        return ""

    def text(self) -> str:
        text = super().text()
        return "" if text == "[no output]" else text

    def html(self) -> str:
        return self._block(text) if (text := self.text()) else ""


def _step_of(name: str, command: str | None, arguments: Any) -> Step:
    if command is not None:
        return Step(f"$ {one_line(command.strip().replace(chr(10), ' ⏎ '), WIDEST)}", command)
    return Step(f"{name} {one_line(str(arguments), WIDEST)}", str(arguments))
