"""Files that a person names, read with a bound."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.errors import CommandError


def read(root: Path, name: str, most: int) -> tuple[bytes, int]:
    """The first bytes of a file and its size. Within the root no link is followed: an agent may have put it there."""
    path = Path(name).expanduser()
    inside = path.is_relative_to(root) if path.is_absolute() else True
    try:
        if inside:
            relative = str(path.relative_to(root) if path.is_absolute() else path)
            descriptor = paths.open_beneath(root, relative)
        else:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror or error}.") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise CommandError(f"{name} cannot be read: it is no regular file.")
    with open(descriptor, "rb") as file:
        return file.read(most), found.st_size
