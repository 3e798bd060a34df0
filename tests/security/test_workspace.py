"""What a workspace that somebody else prepared can do to the person who opens it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentos_jupyter import paths
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


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file that somebody else owns")
@pytest.mark.parametrize("mark", ["agentos.yaml", ".agentos"])
def test_a_strangers_mark_above_our_folder_does_not_choose_the_workspace(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    """Tried: another user's `/tmp/agentos.yaml`, found by everyone who works below `/tmp`."""
    ours = workspace / "ours"
    ours.mkdir()
    path = workspace / mark
    path.touch() if mark.endswith("yaml") else path.mkdir()
    monkeypatch.delenv("AGENTOS_WORKSPACE", raising=False)
    monkeypatch.chdir(ours)

    assert paths.workspace() == workspace.resolve()
    os.chown(path, 54321, 54321)
    assert paths.workspace() == ours.resolve()
    os.chown(ours, 54321, 54321)  # a folder that is mounted into a container: one owner for all of it
    assert paths.workspace() == workspace.resolve()


@pytest.mark.parametrize("trick", ["link", "file", "open", "relative"])
def test_sockets_lie_in_a_private_folder_of_ours_or_nowhere(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, trick: str
) -> None:
    """Tried: somebody was there first. A relative XDG_RUNTIME_DIR could lie in the workspace, where agents look."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "." if trick == "relative" else str(workspace))
    monkeypatch.chdir(workspace)
    taken = workspace / "agentos"
    match trick:
        case "link":
            taken.symlink_to("/tmp")
        case "file":
            taken.touch()
        case "open":
            taken.mkdir()
            taken.chmod(0o755)
        case "relative":
            assert workspace.name not in str(paths.socket_path(workspace))
            return

    with pytest.raises(WorkspaceRefused, match="not a private folder of yours"):
        paths.socket_path(workspace)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_reaches_no_daemon(workspace: Path) -> None:
    with SyncLink(workspace):
        path = paths.socket_path(workspace)
        attack = f"import os, socket; os.setuid(65534); socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", attack], capture_output=True, text=True, check=False)

        assert "PermissionError" in done.stderr
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert (workspace / ".agentos").stat().st_mode & 0o777 == 0o700
