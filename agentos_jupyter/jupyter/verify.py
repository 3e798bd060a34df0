"""`%verify`, `agentos verify`: what a saved notebook shows, compared with what the log says, cell by cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import BY_CODE, AgentOSError, CommandError, DispatchNotFound, LogDamaged
from agentos_jupyter.jupyter.cells import Asking, Bash, Cell, Command, Help, Prompt, classify
from agentos_jupyter.jupyter.display import Note
from agentos_jupyter.jupyter.failures import described
from agentos_jupyter.jupyter.retold import Call, Retold, retell
from agentos_jupyter.jupyter.safe import one_line, plain
from agentos_jupyter.jupyter.saved import Output, Saved, SavedCell
from agentos_jupyter.jupyter.words import count

OK, TEXT, ANSWER, OUTPUT, ORIGIN, FOREIGN, NOTHING, DAMAGED = (
    "ok", "cell text differs", "answer differs", "output differs", "metadata differs",
    "dispatch not in this log", "outputs without a dispatch", "log damaged",
)  # fmt: skip
NOT_RUN, NO_OUTPUTS, NO_DISPATCH, NOT_SAVED, NOT_ENDED = (
    "not run",
    "no outputs",
    "no dispatch",
    "not saved",
    "not ended",
)

WRONG = frozenset({TEXT, ANSWER, OUTPUT, ORIGIN, FOREIGN, NOTHING, DAMAGED})
"""Verdicts that say the notebook shows what did not happen; the others say what it does not show."""

COLUMNS = ("cell", "[n]", "verdict", "dispatch", "what differs", "text of the cell")

_ATTACH = re.compile(r"^[ \t]*%(?:aos[ \t]+)?attach[ \t]+(d-[\w-]+)[ \t]*$", re.MULTILINE)
_MAGIC = re.compile(r"%%(?:aos[ \t]+)?agent\b")


@dataclass(frozen=True, slots=True)
class Finding:
    """A cell's verdict; `detail` says what is other than in the log."""

    cell: SavedCell | None
    verdict: str
    dispatch: str = ""
    detail: str = ""

    @property
    def wrong(self) -> bool:
        return self.verdict in WRONG

    def row(self) -> list[Any]:
        number, count, text = (self.cell.number, self.cell.count, self.cell.source) if self.cell else (None, None, "")
        return [number, count, self.verdict, self.dispatch, self.detail, one_line(text, 40)]


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about a notebook, and a sentence that sums them up."""

    findings: Sequence[Finding]
    sentence: str

    @property
    def wrong(self) -> bool:
        return any(each.wrong for each in self.findings)

    def rows(self) -> list[list[Any]]:
        return [each.row() for each in self.findings]


async def verify(call: Call, saved: Saved) -> Report:
    """Compare each cell that asked an agent, or shows one, with the log; and the log with its own digests."""
    examiner = _Examiner(call, saved, await _newest(call, saved.path))
    findings = [found for cell in saved.cells if (found := await examiner.cell(cell)) is not None]
    damage, events = await _chains(call, examiner.sessions)
    counts = Counter(each.verdict for each in findings)
    said = ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())
    parts = [f"{count(len(findings), 'cell')}: {said}." if findings else "No cell of this notebook asked an agent."]
    parts += [each.detail for each in damage]
    if examiner.sessions and not damage:
        parts.append(f"The digests of {count(len(examiner.sessions), 'session')} ({count(events, 'event')}) hold.")
    return Report([*findings, *damage], " ".join(parts))


async def _chains(call: Call, sessions: Iterable[str]) -> tuple[list[Finding], int]:
    damage, events = [], 0
    for session in sorted(sessions):
        try:
            events += (await call("session.verify", {"session": session}))["events"]
        except LogDamaged as error:
            damage.append(Finding(None, DAMAGED, session, error.message))
    return damage, events


async def _newest(call: Call, path: Path) -> Mapping[str, str]:
    """The newest dispatch of each cell of this notebook, where the front end told cell and path."""
    quoted = "'" + str(path).replace("'", "''") + "'"
    return dict((await call("sql.query", {"sql": _NEWEST.format(path=quoted)}))["rows"])


_NEWEST = """
select data->>'$.client.cell_id' as cell, arg_max(dispatch, position) from events
where type = 'dispatch.started' and data->>'$.client.notebook' = {path} and data->>'$.client.cell_id' is not null group by 1
"""


class _Examiner:
    """Looks at the cells of one notebook, and remembers which sessions they are from."""

    def __init__(self, call: Call, saved: Saved, newest: Mapping[str, str]) -> None:
        self._call, self._newest = call, newest
        self._ours = saved.language == "agentos"
        self._numbers = {cell.digest: cell.number for cell in reversed(saved.cells)}
        self.sessions: set[str] = set()

    async def cell(self, cell: SavedCell) -> Finding | None:
        """The verdict on a cell; None for one that has nothing to do with an agent."""
        parts = self._parts(cell.source)
        asks = any(isinstance(each, Prompt | Asking | Bash) for each in parts)
        claimed = list(dict.fromkeys(each.dispatch for each in cell.outputs if each.dispatch))
        if not claimed:
            return self._unclaimed(cell) if asks else None
        others = any(isinstance(each, Command | Help) for each in parts) or not (asks or self._ours)
        problems = [] if others else list(_unmarked(cell.outputs))
        for dispatch in claimed:
            problems += await self._dispatch(cell, dispatch, last=dispatch == claimed[-1])
        problems.sort(key=lambda problem: problem[0] not in WRONG)
        verdict = problems[0][0] if problems else OK
        return Finding(cell, verdict, claimed[-1], "; ".join(detail for _, detail in problems if detail))

    def _parts(self, source: str) -> tuple[Cell, ...]:
        if not self._ours and not _MAGIC.match(source):
            return ()
        try:
            return classify(source.replace("%%aos", "%%", 1) if not self._ours else source)
        except CommandError:
            return ()

    def _unclaimed(self, cell: SavedCell) -> Finding:
        """A cell that should show a dispatch and names none."""
        newest = self._newest.get(cell.id, "")
        if not cell.outputs:
            return Finding(cell, NO_OUTPUTS if newest or cell.count else NOT_RUN, newest)
        errors = [each.data.get("ename", "") for each in cell.outputs if each.kind == "error"]
        if errors and not list(_unmarked(cell.outputs)):
            return Finding(cell, NO_DISPATCH, "", f"{one_line(errors[0], 60)}: it ended before one began")
        return Finding(cell, NOTHING)

    async def _dispatch(self, cell: SavedCell, name: str, last: bool) -> list[tuple[str, str]]:
        """What is wrong with a cell by one of the dispatches it shows."""
        outputs = [each for each in cell.outputs if each.dispatch == name]
        try:
            info = await self._call("dispatch.get", {"dispatch": name})
        except DispatchNotFound:
            info = {"id": ""}
        if info["id"] != name:  # a beginning of an id is enough for people, and is none that we wrote
            return [(FOREIGN, one_line(name, 60))]
        self.sessions.add(info["session"])
        until = max((to for each in outputs if isinstance(to := each.mark.get("to"), int)), default=0)
        retold = await retell(self._call, info, min(until or info["last"], info["last"]))
        problems = [*_origin(retold, outputs), *self._text(cell, retold)]
        if not until and not any(each.kind == "execute_result" for each in outputs):
            return [*problems, (NOT_ENDED, f"saved while it ran; it is {info['status']} now")]
        problems += _outcome(cell, retold, outputs, last)
        if retold.status not in ("interrupted", "running", "lost") and (unlike := retold.unlike(outputs)):
            problems.append((OUTPUT, unlike))
        newest = self._newest.get(cell.id, name)
        if newest != name and last and not problems:
            problems.append((NOT_SAVED, f"asked again since, as {newest}: save the notebook"))
        return problems

    def _text(self, cell: SavedCell, retold: Retold) -> Iterable[tuple[str, str]]:
        """The cell's text is the one that asked, or attaches itself to what another asked."""
        name = retold.info["id"]
        if cell.digest in retold.texts or any(name.startswith(found) for found in _ATTACH.findall(cell.source)):
            return
        if not retold.texts:
            yield TEXT, "no cell asked this"
            return
        other = next((self._numbers[each] for each in retold.texts if each in self._numbers), None)
        yield TEXT, f"these outputs are of cell {other}" if other else f"asked was {_asked(retold)!r}"


def _asked(retold: Retold) -> str:
    return one_line(retold.info["prompt"], 60)


def _unmarked(outputs: Iterable[Output]) -> Iterable[tuple[str, str]]:
    """Outputs of an asking cell that name no dispatch; errors cannot, and a new session's greeting need not."""
    for each in outputs:
        text = each.data.get("text/plain", "")
        greeting = each.kind == "display_data" and text.startswith("New session ") and each.data == Note(text).data()
        if not each.mark and not greeting and each.kind != "error":
            shown = each.data.get("text/plain") or each.data.get("text") or each.kind
            yield OUTPUT, f"{one_line(shown, 60)!r} names no dispatch"


def _origin(retold: Retold, outputs: Iterable[Output]) -> Iterable[tuple[str, str]]:
    """Session, versions and harness, as the outputs tell them."""
    info = retold.info
    harnesses = {start.get("harness") for start in retold.starts}
    for mark in (each.mark for each in outputs):
        to = mark.get("to", info["last"])
        right = {
            "session": mark.get("session") == info["session"],
            "from": mark.get("from") == info["first"],
            "to": isinstance(to, int) and info["first"] <= to <= info["last"],
            "harness": mark.get("harness") in harnesses,
        }
        if wrong := [name for name, good in right.items() if not good]:
            yield ORIGIN, ", ".join(wrong)
            return


def _outcome(cell: SavedCell, retold: Retold, outputs: Sequence[Output], last: bool) -> Iterable[tuple[str, str]]:
    """The answer, or the error that ended the dispatch."""
    results = [each.data for each in outputs if each.kind == "execute_result"]
    errors = [each.data for each in cell.outputs if each.kind == "error"] if last else []
    answered = retold.info["kind"] == "prompt" and retold.status == "ok" and last
    if answered and not errors and results != [retold.answer()]:
        yield ANSWER, "" if results else "it is not shown"
    if results and not answered:
        yield ANSWER, f"the log has none: {retold.status}"
    if errors and (wrong := _unlike_error(retold, errors[0])):
        yield ANSWER, wrong


def _unlike_error(retold: Retold, error: Mapping[str, str]) -> str:
    """What is wrong with a cell's error; nothing where the dispatch ended with it, or with an answer that a person's own
    class or `%%bash` took for a failure."""
    name, sentence, shown = (error.get(key, "") for key in ("ename", "evalue", "traceback"))
    if retold.status == "interrupted":
        return "" if [shown] == described(KeyboardInterrupt())["traceback"] else "the log has an interrupt"
    known = (retold.ended or {}).get("error")
    if known is not None:
        right = plain(known["message"])
        names = {known["code"], BY_CODE.get(known["code"], AgentOSError).__name__}
        same = name in names and sentence == right and shown == f"{known['code']}: {right}"
        return "" if same else f"it ended with {known['code']}"
    late = {"command.failed", "CommandFailed", "command.invalid", "CommandError", "hook.rejected", "HookRejected"}
    return "" if name in late and shown.endswith(f": {sentence}") else f"the log has no such error: {retold.status}"
