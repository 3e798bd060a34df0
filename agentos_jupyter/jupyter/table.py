"""The commands of the cell language: one table for dispatch, completion, help and the reference page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """`name=value`, or a flag when `value` is empty; `value` is the kind of names that may stand there."""

    name: str
    value: str
    does: str

    @property
    def written(self) -> str:
        return f"{self.name}={self.value}" if self.value else self.name


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: how it is written, what it does, and the words that may follow it.

    `mark` is `%%` when the rest of the cell belongs to it, `%` when it is one line.
    `words` are what may follow, and `options` what may be written as `name=value`; a word in capitals stands for
    a kind of names that are looked up when they are needed (`SESSION`, `MODEL`, …).
    """

    name: str
    mark: str
    usage: tuple[str, ...]
    does: str
    more: str = ""
    words: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()

    @property
    def written(self) -> str:
        return self.mark + self.name

    def help(self) -> str:
        """The manual of the command, as text."""
        listing = [
            f"  {option.written:<{max(len(each.written) for each in self.options)}}  {option.does}"
            for option in self.options
        ]
        more = ["", self.more] if self.more else []
        return "\n".join([*self.usage, "", self.does, *more, *(["", *listing] if listing else [])])


SESSION, DISPATCH, MODEL, AGENT, SKILL, HOOK, LIMIT, FILE, VARIABLE = (
    "SESSION", "DISPATCH", "MODEL", "AGENT", "SKILL", "HOOK", "LIMIT", "FILE", "VARIABLE",
)  # fmt: skip

LIMITS = ("turns", "wall", "tokens", "usd", "corrections", "command", "compute")
"""Limits of a dispatch that a person may set where the prompt is written; `agentos.yaml` has them all."""

ASKING = (
    Option("agent", AGENT, "another agent of the workspace, in a session of its own"),
    Option("model", MODEL, "another model, for this prompt"),
    Option("session", SESSION, "another session, for this prompt"),
    Option(
        "schema",
        VARIABLE,
        "the form of the answer: a pydantic model, a JSON Schema in a dict, list[MODEL], json or table",
    ),
    Option("images", FILE, "images to look at: files, or variables with an image or a figure, with commas between"),
    Option("files", FILE, "files whose text is put beneath the prompt, with commas between"),
    *(Option(name, "VALUE", f"the limit `{name}` of this dispatch") for name in LIMITS),
    Option("--bash", "", "the body is your own command in the agent's sandbox"),
)
"""The options of `%%agent`."""

_ENTRIES = (
    Entry(
        "agent",
        "%%",
        ("%%agent [NAME <<] [OPTION=VALUE …]", "    PROMPT", "%agent", "%agent NAME", "%agent list"),
        "Write a prompt with options, or choose the agent of this notebook.",
        "With `NAME <<` the answer is bound to the Python variable NAME: its text, or with `schema=` its value.\n"
        "%agent NAME makes the prompts that follow go to that agent, in a session of its own. Quote what has spaces.",
        ("list", AGENT),
        ASKING,
    ),
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
        "model",
        "%",
        ("%model", "%model NAME", "%model list"),
        "Show the model that is asked, or give this notebook's session another one.",
        "NAME is <provider>/<model id>, a role, or a name of `models:` in agentos.yaml.",
        ("list", MODEL),
    ),
    Entry(
        "skill",
        "%",
        ("%skill list", "%skill NAME"),
        "List the skills in force, or show what one is.",
        words=("list", SKILL),
    ),
    Entry(
        "hook",
        "%",
        ("%hook list", "%hook NAME"),
        "List the hooks and the skills that stand at them, or explain one hook.",
        words=("list", HOOK),
    ),
    Entry(
        "budget",
        "%",
        ("%budget", "%budget LIMIT=VALUE …", "%budget reset"),
        "Show what a dispatch of this session may use, and what was used; or set the session's own limits.",
        "They count from the next prompt on. `reset` goes back to those of agentos.yaml.",
        ("reset",),
        tuple(Option(name, "VALUE", f"the limit `{name}`") for name in LIMITS),
    ),
    Entry(
        "cost",
        "%",
        ("%cost",),
        "Show what was spent here, and what the next prompt sends at least.",
        "By model, for this session and the whole workspace. A dollar sign stands only where a price is known.",
    ),
    Entry(
        "context",
        "%",
        ("%context",),
        "Show what the model sees of this session: each part, where it is from, and its size.",
    ),
    Entry(
        "steer",
        "%",
        ("%steer TEXT", "%steer ID TEXT"),
        "Say something to a dispatch at work; the agent reads it before its next turn.",
        "Without an id the one dispatch at work in the workspace is meant. In the notebook that runs it, use the field in its cell,\n"
        "or write the whole id: then the command does not wait for the running cell.",
        words=(DISPATCH,),
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
        "A reloaded tab loses output: this brings it back. The beginning of the id is enough; the whole id of the dispatch at work in\n"
        "this notebook (Tab offers it) is followed at once, beside the running cell. Interrupting stops only the showing.",
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
    Entry(
        "verify",
        "%",
        ("%verify", "%verify FILE"),
        "Compare what a saved notebook shows with the log, cell by cell.",
        "Without FILE it is this notebook, where the front end tells its path: save it first. `agentos verify FILE` does the\n"
        "same in a terminal, and its exit status is 1 when something differs.",
        words=(FILE,),
    ),
    Entry("status", "%", ("%status",), "Show the workspace, its daemon, sandbox, model and this notebook's session."),
    Entry(
        "help",
        "%",
        ("%help", "%help NAME", "?NAME", "?"),
        "Show the commands, or explain one of them.",
        "NAME is a command, an option, a limit, an error code, an agent, a model or a skill.",
    ),
)

COMMANDS = {entry.name: entry for entry in _ENTRIES}

LATER = {
    "task": "a board of tasks",
    "approve": "approvals",
    "fork": "branches of a session",
    "rewind": "stepping back in a session, with its files",
    "branch": "branches of a session",
    "undo": "stepping back in a session, with its files",
    "board": "a board of tasks and agents",
    "hooks": "a view of the hooks; %hook list lists them",
    "proposals": "proposals of agents",
}
"""Commands that are planned and do not exist yet, with what they will be for."""

OVERVIEW = "Write what you want, and the agent of this notebook's session does it. A cell that begins with %, ! or ? is a command:"


def overview() -> str:
    """All commands, a line each."""
    rows = [(usage.strip(), entry.does) for entry in _ENTRIES for usage in entry.usage[:1]]
    rows = [("%%bash" if usage.startswith("!") else usage, does) for usage, does in rows]
    rows.insert(0, ("!COMMAND", "The same as %%bash, on one line."))
    width = max(len(usage) for usage, _ in rows)
    listing = "\n".join(f"  {usage:<{width}}  {does}" for usage, does in rows)
    return f"{OVERVIEW}\n\n{listing}\n\n?NAME shows the manual of a command. \\% begins a prompt that starts with a %."
