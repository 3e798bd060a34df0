"""Carries out the cells that are not Python: one class, one method a kind of cell."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import AgentOSError, CommandError, CommandFailed, HookRejected
from agentos_jupyter.jupyter import actions, tables, words
from agentos_jupyter.jupyter.cells import Asking, Bash, Cell, Command, Help, Parameters, Prompt, Sql, fill
from agentos_jupyter.jupyter.desk import Desk
from agentos_jupyter.jupyter.display import Screen
from agentos_jupyter.jupyter.field import Field
from agentos_jupyter.jupyter.knobs import asked
from agentos_jupyter.jupyter.saved import digest
from agentos_jupyter.jupyter.watch import Watch


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: the notebook, its cell, whether nobody is there to be asked, and whether widgets work
    while a cell runs."""

    notebook: str | None
    cell_id: str | None
    count: int
    batch: bool
    widgets: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a cell came to: its MIME bundle, the value that `_` and `Out` get, and the metadata of the output."""

    data: dict[str, str]
    value: Any
    metadata: Mapping[str, Any] = field(default_factory=dict)


class CellRun:
    """One execution of one cell."""

    def __init__(
        self, desk: Desk, screen: Screen, client: Client, variables: MutableMapping[str, Any], code: str
    ) -> None:
        self.desk, self.screen, self.variables = desk, screen, variables
        self._client, self._code = client, code

    async def all(self, cells: tuple[Cell, ...]) -> Answer | None:
        """Carry out the cells in order; the answer of the last one is the answer."""
        answer = None
        for cell in cells:
            self.screen.turn_over()
            answer = await self._one(cell)
        return answer

    async def _one(self, cell: Cell) -> Answer | None:
        match cell:
            case Prompt(text):
                return await self._prompt(text)
            case Asking():
                return await self._asking(cell)
            case Bash(command, strict):
                await self._bash(command, strict)
            case Sql(query, name):
                return await self._sql(query, name)
            case Parameters(text):
                self._parameters(text)
            case Help(name):
                await actions.help(self, name)
            case Command(name, args):
                return await actions.ACTIONS[name](self, args)
        return None

    async def session(self) -> Mapping[str, Any]:
        """The notebook's session; a new one is announced, with the earlier one of the same name."""
        if self.desk.session_info is not None or self._client.batch:
            return await self.desk.session()
        sessions = (await self.desk.call("session.list", {"limit": 100}))["sessions"]
        created = await self.desk.session()
        earlier = next((each["id"] for each in sessions if each["name"] == created["name"]), None)
        parts = [
            f"New session {created['name']} ({created['id']})",
            await asked(self),
            f"workspace {(await self.desk.link()).info['workspace']}",
            f"%session resume {earlier} goes on with the one before" if earlier else "",
        ]
        self.screen.note(" · ".join(part for part in parts if part))
        return created

    # -- prompts

    async def _prompt(self, text: str) -> Answer:
        _refuse_nul(text)
        filled = fill(text, self.variables)
        unit, session = await self.desk.unit(), await self.session()
        watch = Watch(self.screen)
        return await self.dispatch(watch, unit.prompt(session["id"], filled, on=watch, **self.client()))

    async def _asking(self, cell: Asking) -> Answer:
        """A prompt with options; what is wrong with them is said before anything is sent."""
        from agentos_jupyter.jupyter import asking

        _refuse_nul(cell.text)
        unit, session = await self.desk.unit(), await self._session_of(cell.options)
        asked = asking.question(cell.text, cell.options, self.variables, Path(session["root"]))
        watch = Watch(self.screen)
        work = unit.prompt(session["id"], asked.text, asked.asked, on=watch, **self.client())
        answer = await self.dispatch(watch, work, asked.value)
        if cell.name is not None:
            self.variables[cell.name] = answer.value
        return answer

    async def _session_of(self, options: Mapping[str, str]) -> Mapping[str, Any]:
        if "session" in options and "agent" in options:
            raise CommandError("A session belongs to one agent: give session= or agent=, not both.")
        if "session" in options:
            found: Mapping[str, Any] = await self.desk.call("session.get", {"session": options["session"]})
            return found
        return await self.desk.of_agent(options["agent"]) if "agent" in options else await self.session()

    async def dispatch(self, watch: Watch, work: Any, make: Callable[[Any], Any] | None = None) -> Answer:
        """Wait for a dispatch; its answer, or the error that ended it. `make` turns the answer's JSON into its value."""
        async with watch.ticking(), self._field(watch):
            outcome = await self._ended(watch, work)
        self.desk.client.dispatch = dict(outcome.info)
        self.desk.known.warm()
        if outcome.error is not None:
            raise outcome.error
        answer = self.answer(outcome.info)
        if make is not None:
            answer = replace(answer, value=_made(make, outcome.info["value"]))
        self.desk.client.last = answer.value
        return answer

    def _field(self, watch: Watch) -> contextlib.AbstractAsyncContextManager[Any]:
        """Where a person may say something meanwhile: in a front end that has cells and somebody in front of it."""
        if not self._client.widgets:
            return contextlib.nullcontext()
        return Field(self.desk, self.screen, watch)

    async def _ended(self, watch: Watch, work: Any) -> Any:
        try:
            outcome = await work
        except asyncio.CancelledError:
            with contextlib.suppress(AgentOSError, TimeoutError):
                async with asyncio.timeout(2):
                    watch.end(
                        await self.desk.call("dispatch.get", {"dispatch": self.screen.metadata.get("dispatch", "")})
                    )
            raise
        watch.end(outcome.info)
        return outcome

    def answer(self, info: Mapping[str, Any]) -> Answer:
        """The answer of a dispatch, as this cell's."""
        return Answer(words.answer(info), str(info["answer"]).strip(), dict(self.screen.metadata))

    def client(self) -> dict[str, Any]:
        """What the dispatch records of this cell."""
        given = {
            "notebook": self._client.notebook,
            "cell_id": self._client.cell_id,
            "count": self._client.count,
            "cell_digest": digest(self._code),
            "batch": self._client.batch,
        }
        return {name: value for name, value in given.items() if value is not None}

    # -- the person's own commands

    async def _bash(self, command: str, strict: bool) -> None:
        if "\0" in command:
            raise CommandError("The command holds a NUL character, which no shell can take: write it without.")
        unit, session = await self.desk.unit(), await self.session()
        watch = Watch(self.screen, quiet=True)
        outcome = await self._ended(watch, unit.command(session["id"], command, on=watch, **self.client()))
        if outcome.error is not None:
            raise outcome.error
        seen = outcome.observation
        if seen is not None and seen.status == "rejected":
            raise HookRejected(f"The command was not run: {seen.text}")
        if strict and seen is not None and seen.status != "ok":
            raise CommandFailed(
                f"The command ended with {f'exit code {seen.exit_code}' if seen.status == 'failed' else seen.status}."
            )

    # -- the log, and parameters

    async def _sql(self, query: str, name: str | None) -> Answer | None:
        found = await self.desk.call("sql.query", {"sql": query})
        rows = bound(found["columns"], found["rows"])
        note = (
            "There are more rows than the limit allows (limits.sql_rows): narrow the question."
            if found["truncated"]
            else ""
        )
        if name is not None:
            self.variables[name] = rows
            if note:
                self.screen.note(note)
            return None
        data = {
            "text/html": tables.html(found["columns"], found["rows"], note),
            "text/plain": tables.text(found["columns"], found["rows"], note),
        }
        return Answer(data, rows)

    def _parameters(self, text: str) -> None:
        from agentos_jupyter.jupyter import parameters

        self.variables.update(parameters.load(text))


def _refuse_nul(text: str) -> None:
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise CommandError(
            f"Line {line} of the cell holds a NUL character: put binary data into a file and name the file."
        )


def _made(make: Callable[[Any], Any], value: Any) -> Any:
    """The bound value; what a person's own class says against it is theirs to read."""
    try:
        return make(value)
    except Exception as error:
        raise CommandError(
            f"The answer is valid by the schema and was refused by your class ({type(error).__name__}: {error}): "
            "aos.dispatch['value'] has it as it came."
        ) from None


def bound(columns: list[str], rows: list[list[Any]]) -> Any:
    """The rows as Python has them: a DataFrame where pandas is installed, else a list of dicts."""
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError:
        return [dict(zip(columns, row, strict=True)) for row in rows]
    return pandas.DataFrame(rows, columns=columns)
