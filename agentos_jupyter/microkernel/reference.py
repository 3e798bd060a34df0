"""Writes the reference pages of syscalls and hooks from their tables: `python -m agentos_jupyter.microkernel.reference`."""

from __future__ import annotations

import inspect
from pathlib import Path

from pydantic.fields import FieldInfo

from agentos_jupyter.microkernel.clients import shapes, spell
from agentos_jupyter.microkernel.hooks import HOOKS
from agentos_jupyter.microkernel.syscalls import TABLE
from agentos_jupyter.microkernel.table import Empty, Shape, Syscall

PAGES = Path(__file__).parent.parent.parent / "docs" / "reference"
_MADE = "<!-- Made by `python -m agentos_jupyter.microkernel.reference`: change the table, then run that. -->\n"

_SYSCALLS = f"""# Syscalls

{_MADE}
JSON-RPC 2.0 over the daemon's unix socket, one JSON object a line, at most 4 MiB. A streaming call sends
notifications `stream {{id, seq, data}}` before its response; the notification `cancel {{id}}` ends any call,
which then answers `cancelled`. An error has the integer code -32000 and its name in `data.code`
([errors](errors.md)). In Python: `agentos_jupyter.connect().client`, or `rpc.link.Link` in coroutines.

A parameter with a `=` may be left out.
"""

_HOOKS = f"""# Hooks

{_MADE}
A hook is a named point where skills may reject, rewrite or watch. A service registers handlers
([skills](../../skills/aos-context/SKILL.md) is an example); a handler gets `input` (facts) and `output` (what
it may change).

| kind | may | an error or a timeout |
|---|---|---|
| admission | rewrite, reject, ask | is a rejection |
| transform | rewrite | leaves the data as it was |
| observe | watch | is logged and forgotten |

Handlers are asked in order of priority, then name. One rejection is enough. When an admission handler
rewrote something, all judges see the final form once more and may only allow or reject it; a rewrite there
is `hook.unstable`.

| hook | kind | what it is asked |
|---|---|---|
"""


def pages() -> dict[str, str]:
    """Every page by file name."""
    rows = "\n".join(_syscall(row) for row in TABLE.values())
    records = "\n".join(_record(shape) for shape in shapes())
    hooks = "".join(
        f"| `{name}` | {kind} | {doc.replace('|', chr(92) + '|')} |\n" for name, (kind, doc) in HOOKS.items()
    )
    return {"syscalls.md": f"{_SYSCALLS}\n{rows}\n## Records\n\n{records}", "hooks.md": _HOOKS + hooks}


def _syscall(row: Syscall) -> str:
    parameters = ", ".join(_field(name, field) for name, field in row.params.model_fields.items())
    kind = ("write" if row.writes else "read") + (", streams" if row.streams else "")
    signature = f"{row.name}({parameters}) -> {row.result.__name__}"
    about = "" if row.params is Empty else f"\n{inspect.cleandoc(row.params.__doc__ or '')}\n"
    return f"### {row.name}\n\n*{kind}*\n\n```\n{signature}\n```\n\n{row.doc}\n{about}"


def _record(shape: type[Shape]) -> str:
    fields = "".join(f"- `{name}: {spell(field.annotation)}`\n" for name, field in shape.model_fields.items())
    return f"### {shape.__name__}\n\n{inspect.cleandoc(shape.__doc__ or '')}\n\n{fields}"


def _field(name: str, field: FieldInfo) -> str:
    spelled = f"{name}: {spell(field.annotation)}"
    return spelled if field.is_required() else f"{spelled} = {field.get_default(call_default_factory=True)!r}"


def main() -> None:
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
