"""Where things are: one rule for the workspace, one for its state, one for its socket."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from agentos_jupyter.errors import WorkspaceRefused

STATE_NAME = ".agentos"
CONFIG_NAME = "agentos.yaml"
PROTECTED = (CONFIG_NAME, "skills", ".agents/skills", ".claude/skills")
"""What the loader reads and what a sandbox may only read: one list for both."""


def workspace(named: Path | None = None) -> Path:
    """The workspace folder: `named`, else `AGENTOS_WORKSPACE`, else the nearest ancestor of the working
    directory that holds `.agentos/` or `agentos.yaml`, else the working directory itself.

    Raises `WorkspaceRefused` for the home folder, `/`, or a folder that does not exist.
    """
    chosen = named or os.environ.get("AGENTOS_WORKSPACE")
    if chosen:
        return _accept(Path(chosen).expanduser())
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if _forbidden(folder):
            break
        if _marked(folder, here):
            return _accept(folder)
    return _accept(here)


def _marked(folder: Path, here: Path) -> bool:
    """Whether it is a workspace; a mark that a stranger left above our folder (`/tmp/agentos.yaml`) makes it none."""
    ours = {os.getuid(), here.stat().st_uid}
    for mark, is_kind in ((folder / STATE_NAME, stat.S_ISDIR), (folder / CONFIG_NAME, stat.S_ISREG)):
        try:
            found = mark.stat()
        except OSError:
            continue
        if is_kind(found.st_mode) and (folder == here or found.st_uid in ours):
            return True
    return False


def _forbidden(folder: Path) -> bool:
    return folder == Path(folder.anchor) or folder == Path.home().resolve()


def _accept(folder: Path) -> Path:
    if not folder.is_dir():
        raise WorkspaceRefused(
            f"The workspace {folder} is not a folder: create it or name another one in AGENTOS_WORKSPACE."
        )
    folder = folder.resolve()
    if os.fsencode(folder).decode("utf-8", "replace") != str(folder):
        raise WorkspaceRefused(f"The name of the folder {str(folder)!r} is not UTF-8, as the log needs: rename it.")
    if _forbidden(folder):
        raise WorkspaceRefused(
            f"{folder} cannot be a workspace, because an agent may change every file in one: "
            "start in a project folder, or name one in AGENTOS_WORKSPACE."
        )
    return folder


def state_dir(workspace: Path) -> Path:
    """The folder that holds the log, blobs and lock of a workspace (made by the daemon, not here)."""
    return workspace / STATE_NAME


def runtime_dir() -> Path:
    """A 0700 folder of this user for sockets, made when missing; short, because socket paths are short.

    Raises `WorkspaceRefused` when somebody else owns it or others may enter it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = (
        Path(base) / "agentos"
        if base and os.path.isabs(base) and os.access(base, os.W_OK)
        else Path(tempfile.gettempdir()) / f"agentos-{os.getuid()}"
    )
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as error:
        raise WorkspaceRefused(
            f"The runtime folder {folder} cannot be made ({error.strerror}): set XDG_RUNTIME_DIR to a folder of yours."
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise WorkspaceRefused(
            f"The runtime folder {folder} is not a private folder of yours (owner {found.st_uid}, "
            f"mode {stat.S_IMODE(found.st_mode):o}): remove it, or set XDG_RUNTIME_DIR to a folder with mode 0700."
        )
    return folder


def socket_path(workspace: Path) -> Path:
    """The daemon's main socket: one per real path of a workspace."""
    name = hashlib.sha256(os.fsencode(workspace.resolve())).hexdigest()[:16]
    path = runtime_dir() / f"{name}.sock"
    if len(os.fsencode(path)) > 100:
        raise WorkspaceRefused(
            f"The socket path {path} is longer than unix sockets allow: set XDG_RUNTIME_DIR to a shorter folder."
        )
    return path


def user_config_dir() -> Path:
    """The person's own configuration folder (keys, trust)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "agentos"


def skills_dir() -> Path:
    """The shipped skills: inside the installed package, or beside it in a source checkout."""
    packaged = Path(__file__).parent / "_skills"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "skills"


def reference_dir() -> Path:
    """The reference pages that help is read from: inside the installed package, or in a source checkout's docs."""
    packaged = Path(__file__).parent / "_reference"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "docs" / "reference"


def open_beneath(root: Path, name: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """A descriptor of a file beneath `root`, whose folders an agent may write: no link on the way is followed.

    With `O_CREAT` missing folders are made. Raises `OSError`; `ELOOP` or `ENOTDIR` where a link stands.
    """
    *folders, last = Path(name).parts or ("",)
    if Path(name).is_absolute() or ".." in folders or last in ("", ".."):
        raise OSError(errno.EINVAL, "a path inside the workspace is meant, without / at the front and without ..", name)
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            if flags & os.O_CREAT:
                with suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=here)
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
        return os.open(last, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=here)
    finally:
        os.close(here)


def in_state(path: str) -> bool:
    """Whether a workspace-relative path lies in the state folder, which nothing that walks may open.

    Opening the DuckDB file a second time in a process drops its lock (POSIX record locks).
    """
    return path == STATE_NAME or path.startswith(STATE_NAME + "/")
