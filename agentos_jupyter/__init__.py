"""AgentOS for Jupyter: an operating system for AI agents that lives in notebooks.

`open()` owns a workspace in this process, `connect()` shares it with its daemon (started when none runs).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from agentos_jupyter.microkernel.inprocess import Workspace
    from agentos_jupyter.rpc.sync import SyncLink

__version__ = "0.1.0"
__all__ = ["__version__", "connect", "open"]


def open(path: Path | str | None = None, skills: Path | None = None) -> Workspace:
    """Own a workspace in this process: the microkernel without a daemon, as a context manager.

    `path` is a folder (default: the workspace rule from the working directory on), `skills` the folder of the
    shipped skills. Raises `WorkspaceBusy` when another process owns it.
    """
    from agentos_jupyter.microkernel.inprocess import open_workspace

    return open_workspace(path, skills)


def connect(path: Path | str | None = None) -> SyncLink:
    """A blocking connection to the daemon of a workspace, started when none runs; `.client` has each syscall."""
    from agentos_jupyter import paths
    from agentos_jupyter.rpc.sync import SyncLink

    return SyncLink(paths.workspace(Path(path) if path is not None else None))


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext agentos_jupyter`: the commands of the cell language in a plain Python notebook, or IPython in a terminal."""
    from agentos_jupyter.jupyter import extension

    extension.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """`%unload_ext agentos_jupyter`."""
    from agentos_jupyter.jupyter import extension

    extension.unload(shell)
