"""`aos`: the daemon's client in `%%python` cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentos_jupyter.rpc.sync import SyncLink


class Aos:
    """The client of the daemon, for Python cells.

    `aos.last` is the last answer, `aos.dispatch` what is known of its dispatch, `aos.session` this notebook's session (its
    id, or None before the first prompt), `aos.give(df)` a file for the agent, `aos.sql("select …")` a list of dicts,
    `aos.call("session.list", {…})` any syscall, and `aos.client` its typed face.
    """

    def __init__(self) -> None:
        self.last: Any = None
        self.dispatch: dict[str, Any] | None = None
        self.root: str | None = None
        self.session: str | None = None
        self._link: SyncLink | None = None

    @property
    def client(self) -> Any:
        """The typed client: one attribute for each namespace of syscalls."""
        return self._connected().client

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The result of a syscall; raises the `AgentOSError` it answered with. A lost connection is made anew once."""
        from agentos_jupyter.errors import ConnectionLost

        try:
            return self._connected().call(method, params)
        except ConnectionLost:
            self.close()
            return self._connected().call(method, params)

    def sql(self, query: str) -> list[dict[str, Any]]:
        """The rows of a read-only question to the log."""
        found = self.call("sql.query", {"sql": query})
        return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]

    def give(self, data: Any, name: str | None = None) -> str:
        """Put data where the agent finds it; returns the path, relative to the session's root.

        A table (pandas, polars, Arrow, a list of dicts) becomes Parquet, bytes and text become what they are.
        Raises `CommandError` for anything else, and for a name outside the workspace.
        """
        from agentos_jupyter import paths
        from agentos_jupyter.jupyter import giving

        root = Path(self.root) if self.root else paths.workspace()
        return giving.give(data, name or giving.name_of(data), root)

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _connected(self) -> SyncLink:
        from agentos_jupyter.rpc.sync import SyncLink

        if self._link is None:
            self._link = SyncLink()
        return self._link

    def __repr__(self) -> str:
        return f"<aos: client of the AgentOS daemon, session {self.session or 'none yet'}>"
