"""What a workspace that somebody else prepared can do to the person who opens it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentos_jupyter.errors import WorkspaceRefused
from agentos_jupyter.rpc.sync import SyncLink

NAMES = (
    ".gitignore",
    "daemon.log",
    "lock",
    "head",
    "log.duckdb",
    "log.duckdb.wal",
    "placeholders.json",
    "blobs",
    "exports",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_link_in_a_state_folder_that_came_along_is_refused(workspace: Path, base: Path, name: str) -> None:
    """Tried: a repository ships `.agentos/.gitignore -> ~/.bashrc`. Stopped by looking before anything is written."""
    target = base / f"precious-{workspace.name}"
    target.write_text("precious")
    (workspace / ".agentos").mkdir()
    (workspace / ".agentos" / name).symlink_to(target)

    with pytest.raises(WorkspaceRefused, match=r"is a link.*move it away"):
        SyncLink(workspace)

    assert target.read_text() == "precious"
    assert sorted(os.listdir(workspace / ".agentos")) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_in_a_state_folder_does_not_hang_the_daemon(workspace: Path, name: str) -> None:
    (workspace / ".agentos").mkdir()
    os.mkfifo(workspace / ".agentos" / name)

    with pytest.raises(WorkspaceRefused, match=r"no regular file"):
        SyncLink(workspace)


def test_a_state_folder_that_is_a_link_or_a_file_is_refused(workspace: Path, base: Path) -> None:
    elsewhere = base / f"elsewhere-{workspace.name}"
    elsewhere.mkdir(mode=0o755)
    (workspace / ".agentos").symlink_to(elsewhere)

    with pytest.raises(WorkspaceRefused, match="is not a folder of yours"):
        SyncLink(workspace)
    (workspace / ".agentos").unlink()
    (workspace / ".agentos").write_text("")
    with pytest.raises(WorkspaceRefused, match="is not a folder of yours"):
        SyncLink(workspace)

    assert not list(elsewhere.iterdir())
    assert elsewhere.stat().st_mode & 0o777 == 0o755
