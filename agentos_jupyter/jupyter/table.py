"""The commands of the cell language: one table for dispatch, completion, help and the reference page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: how it is written, what it does, and the words that may follow it.

    `mark` is `%%` when the rest of the cell belongs to it, `%` when it is one line.
    In `words`, `SESSION` and `DISPATCH` stand for ids and names the daemon knows.
    """

    name: str
    mark: str
    usage: tuple[str, ...]
    does: str
    more: str = ""
    words: tuple[str, ...] = ()

    @property
    def written(self) -> str:
        return self.mark + self.name

    def help(self) -> str:
        """The manual of the command, as text."""
        return "\n".join([*self.usage, "", self.does, *(["", self.more] if self.more else [])])


SESSION, DISPATCH = "SESSION", "DISPATCH"

_ENTRIES = (
    Entry(
        "bash",
        "%%",
        ("!COMMAND", "%%bash", "    COMMANDS"),
        "Run a command in the agent's sandbox, as yourself.",
        "It runs where the agent's own commands run, is recorded in the session, and the agent sees it with the next prompt.\n"
        "Working directory, exported variables and functions are kept from command to command.",
    ),
    Entry(
        "python",
        "%%",
        ("%%python", "    CODE"),
        "Run Python in the notebook kernel.",
        "Full IPython: magics, rich display, top-level await. `aos` is the client of the daemon, `aos.last` the last answer.\n"
        "A variable enters a prompt as {{name}}. The agent sees neither this code nor its variables.",
    ),
    Entry(
        "sql",
        "%%",
        ("%%sql", "    SELECT …", "%%sql NAME <<", "    SELECT …"),
        "Ask the log of the workspace a read-only question.",
        "Views: sessions, history, tool_calls, dispatches, costs; the facts themselves: events.\n"
        "With `NAME <<` the rows are bound to a Python variable: a DataFrame where pandas is installed, else a list of dicts.",
    ),
    Entry(
        "parameters",
        "%%",
        ("%%parameters", "    NAME: VALUE"),
        "Set parameters of the notebook, written in YAML.",
        "Each is a Python variable and fills {{NAME}} in a prompt. papermill's -p NAME VALUE writes such a cell.",
    ),
    Entry(
        "session",
        "%",
        ("%session", "%session NAME", "%session new [NAME]", "%session list", "%session resume ID"),
        "Show the session of this notebook, or change it.",
        "NAME goes on with the session of that name, or begins it; `new` begins another one; `resume` goes on with one by\n"
        "its id (its beginning is enough) or name, after a crash too. A session's history is in the log, not in the notebook.",
        ("new", "list", "resume", SESSION),
    ),
    Entry(
        "runs",
        "%",
        ("%runs", "%runs NUMBER"),
        "List the latest dispatches of this workspace.",
        "NUMBER: how many, 20 by default.",
    ),
    Entry(
        "attach",
        "%",
        ("%attach ID",),
        "Show a dispatch again from the log, and follow it while it runs.",
        "A reloaded tab loses output: this brings it back. The beginning of the id is enough. Interrupting stops only the showing.",
        words=(DISPATCH,),
    ),
    Entry(
        "dispatch",
        "%",
        ("%dispatch run ID",),
        "Continue a dispatch that did not end, in this notebook.",
        "For one whose kernel was killed: what it had done is in the log, the rest is done here.",
        ("run", DISPATCH),
    ),
    Entry("status", "%", ("%status",), "Show the workspace, its daemon, sandbox, model and this notebook's session."),
    Entry("help", "%", ("%help", "%help NAME", "?NAME", "?"), "Show the commands, or the manual of one of them."),
)

COMMANDS = {entry.name: entry for entry in _ENTRIES}

OVERVIEW = "Write what you want, and the agent of this notebook's session does it. A cell that begins with %, ! or ? is a command:"


def overview() -> str:
    """All commands, a line each."""
    rows = [(usage.strip(), entry.does) for entry in _ENTRIES for usage in entry.usage[:1]]
    rows = [("%%bash" if usage.startswith("!") else usage, does) for usage, does in rows]
    rows.insert(0, ("!COMMAND", "The same as %%bash, on one line."))
    width = max(len(usage) for usage, _ in rows)
    listing = "\n".join(f"  {usage:<{width}}  {does}" for usage, does in rows)
    return f"{OVERVIEW}\n\n{listing}\n\n?NAME shows the manual of a command. \\% begins a prompt that starts with a %."
