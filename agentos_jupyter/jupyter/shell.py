"""The Python of the notebook kernel: what `%%python` cells and silent executes run in."""

# ipykernel is annotated in part only.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from ipykernel.zmqshell import ZMQInteractiveShell


class AgentOSShell(ZMQInteractiveShell):
    """IPython's shell, in which `%%python` on the first line of a cell is ours and not IPython's."""

    hidden: ClassVar[dict[str, Any]] = {}
    """Names every Python cell has; set by the kernel, kept through `%reset`."""

    def transform_cell(self, raw_cell: str) -> str:
        return str(super().transform_cell(body_of(raw_cell)))

    async def run_ast_nodes(self, *args: Any, **kwargs: Any) -> Any:
        with _working_folder_importable():
            return await super().run_ast_nodes(*args, **kwargs)

    def init_user_ns(self) -> None:
        super().init_user_ns()
        self.user_ns.update(self.hidden)
        self.user_ns_hidden.update(self.hidden)


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    """Python cells may import from the folder they run in; the kernel itself (started with `-P`) never does, because
    an agent writes there: a planted `json.py` would run outside its sandbox. Last, so that it shadows nothing."""
    if "" in sys.path:
        yield
        return

    sys.path.append("")
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove("")


def body_of(code: str) -> str:
    """The Python of a cell: what is beneath `%%python`, or all of it."""
    first, _, body = code.lstrip().partition("\n")
    return body if first.strip() == "%%python" else code
