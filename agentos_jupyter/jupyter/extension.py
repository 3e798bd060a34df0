"""`%load_ext agentos_jupyter`: every command of the cell language as a magic of a plain Python notebook or terminal.

The table of commands makes the magics. IPython's own names, and those another extension took, are left alone.
"""

# IPython is annotated in part only.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import atexit
import sys
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentos_jupyter.errors import CommandError
from agentos_jupyter.jupyter.answers import shown_as
from agentos_jupyter.jupyter.background import Background
from agentos_jupyter.jupyter.cells import Python, classify
from agentos_jupyter.jupyter.desk import Desk
from agentos_jupyter.jupyter.display import Screen
from agentos_jupyter.jupyter.failures import described
from agentos_jupyter.jupyter.matcher import Matcher
from agentos_jupyter.jupyter.port import KernelPort, ShellPort
from agentos_jupyter.jupyter.runner import Answer, CellRun, Client
from agentos_jupyter.jupyter.shell import AgentOSShell
from agentos_jupyter.jupyter.table import COMMANDS, Entry

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

AOS = "aos"
"""The magic that reaches every command, and the name of the client."""

_HELD = "_agentos_extension"


def load(shell: InteractiveShell) -> None:
    """Give the shell the magics, and `aos`."""
    if isinstance(shell, AgentOSShell):
        print("This notebook's own kernel is AgentOS: its cells have every command already.")
        return
    setattr(shell, _HELD, Extension(shell))


def unload(shell: InteractiveShell) -> None:
    """Take everything away again that `load` gave."""
    extension: Extension | None = vars(shell).pop(_HELD, None)
    if extension is not None:
        extension.close()


class Extension:
    """The commands in one IPython shell. A cell waits here while a thread of its own does the work."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self.desk = Desk(keys=True)
        self._background = Background()
        self._magics: list[tuple[str, str, Callable[..., Any]]] = []
        self._register()
        self._matcher = Matcher(lambda: self.names, self._complete)
        shell.Completer.custom_matchers.append(self._matcher.match)
        if AOS not in shell.user_ns:
            shell.push({AOS: self.desk.client}, interactive=False)
        self._background.loop.call_soon_threadsafe(self.desk.begin)
        atexit.register(self.close)

    @property
    def names(self) -> set[str]:
        """The magics that are ours now: one loaded later may have taken a name."""
        found = self._shell.magics_manager.magics
        return {name for kind, name, magic in self._magics if found[kind].get(name) is magic}

    def _register(self) -> None:
        for entry in COMMANDS.values():
            for mark in ("%", "%%"):
                if _is_written(entry, mark):
                    self._add(entry.name, mark, entry.help())
        manual = "Reaches any command, also one whose name is taken: %aos NAME …, %%aos NAME. %aos alone lists them."
        for mark in ("%", "%%"):
            self._add(AOS, mark, manual)

    def _add(self, name: str, mark: str, manual: str) -> None:
        kind = "line" if mark == "%" else "cell"
        manager = self._shell.magics_manager
        if name in manager.magics[kind]:
            return

        def magic(line: str, cell: str | None = None) -> Any:
            written = line.strip() if name == AOS else f"{name} {line}".strip()
            return self.execute(mark, written, cell)

        from IPython.core.magic import no_var_expand

        magic.__doc__ = manual
        made = no_var_expand(magic)
        manager.register_function(made, kind, name)
        self._magics.append((kind, name, manager.magics[kind][name]))

    # -- a cell

    def execute(self, mark: str, line: str, body: str | None) -> Any:
        """What the command came to, as IPython shows and keeps it; raises what ended it, told in a sentence."""
        try:
            return self._execute(mark, line, body)
        except BaseException as error:
            told = described(error)["traceback"]
            error._render_traceback_ = lambda: told  # type: ignore[attr-defined]  # how IPython asks an exception
            raise

    def _execute(self, mark: str, line: str, body: str | None) -> Any:
        code = f"{mark}{line}" if body is None else f"{mark}{line}\n{body}"
        if line in ("", "help"):
            print(self._overview())
            return None
        cells = classify(code)
        if any(isinstance(cell, Python) for cell in cells):
            raise CommandError("This notebook is Python already: write the code into a cell of its own, without a %%.")
        port, client, live = self._cell()
        sys.stdout.flush()
        ask = port.ask if isinstance(port, KernelPort) and not client.batch else None
        screen = Screen(port, f"aos-{uuid.uuid4().hex[:12]}", live, ask)
        run = CellRun(self.desk, screen, client, self._shell.user_ns, self._text() or code)
        try:
            answer = self._background.run(_carried(run, cells))
        except BaseException:
            if screen.metadata:
                port.show({"text/plain": ""}, {"agentos": screen.metadata}, uuid.uuid4().hex, update=False)
            raise
        return shown_as(answer)

    def _cell(self) -> tuple[KernelPort | ShellPort, Client, bool]:
        """Where the running cell shows things, who asks, and whether its front end can redraw."""
        shell, kernel = self._shell, getattr(self._shell, "kernel", None)
        notebook, count = self.desk.notebook(), int(shell.execution_count)
        if kernel is None or not hasattr(kernel, "iopub_socket"):
            batch = sys.stdin is None or not sys.stdin.isatty()
            return ShellPort(shell), Client(notebook, None, count, batch), False
        cell_id = kernel.get_parent("shell").get("metadata", {}).get("cellId")
        batch = not kernel._allow_stdin
        return KernelPort(kernel), Client(notebook, cell_id, count, batch), batch or cell_id is not None

    def _text(self) -> str:
        """The text of the running cell, as its notebook has it; nothing in a terminal."""
        kernel = getattr(self._shell, "kernel", None)
        return str(kernel.get_parent("shell").get("content", {}).get("code", "")) if kernel else ""

    def _overview(self) -> str:
        """All commands as they are written here."""
        rows = [(self._written(entry), entry.does) for entry in COMMANDS.values() if entry.name != "python"]
        width = max(len(written) for written, _ in rows)
        listing = "\n".join(f"  {written:<{width}}  {does}" for written, does in rows)
        return (
            "%%agent asks the agent of this notebook's session; its other commands are magics, too:\n\n"
            f"{listing}\n\n%aos NAME … and %%aos NAME reach any of them, also where a name is taken. %help NAME shows a manual."
        )

    def _written(self, entry: Entry) -> str:
        kind = "cell" if entry.mark == "%%" else "line"
        ours = any((kind, entry.name) == (each, name) for each, name, _ in self._magics)
        return entry.written if ours else f"{entry.mark}{AOS} {entry.name}"

    # -- completion, and the end

    def _complete(self, code: str, position: int) -> tuple[int, list[str]]:
        from agentos_jupyter.jupyter import completion

        return self._background.run(completion.complete(code, position, self.desk, self._shell.user_ns))

    def close(self) -> None:
        """Take the magics away, end sandboxes and the connection. A second call does nothing."""
        atexit.unregister(self.close)
        magics = self._shell.magics_manager.magics
        for kind, name, magic in self._magics:
            if magics[kind].get(name) is magic:
                del magics[kind][name]
        self._magics.clear()
        matchers = self._shell.Completer.custom_matchers
        if self._matcher.match in matchers:
            matchers.remove(self._matcher.match)
        if self._shell.user_ns.get(AOS) is self.desk.client:
            self._shell.del_var(AOS)
        self._background.close(self.desk.aclose())


async def _carried(run: CellRun, cells: Any) -> Answer | None:
    """The cell's work; its displays are complete when this ends."""
    try:
        return await run.all(cells)
    finally:
        run.screen.draw()


def _is_written(entry: Entry, mark: str) -> bool:
    """Whether the command is written with this mark: the table's usage says it."""
    return any(usage.split(" ")[0] == mark + entry.name for usage in entry.usage)
