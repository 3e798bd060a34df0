"""What only the start needed is given back: pages of the libraries' code, which the system reads again when they are used."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_CODE = "r-xp"
_DONTNEED = 4
"""MADV_DONTNEED: of a file's mapping that nobody can write, only our share goes; the page cache keeps the rest."""


def give_back() -> None:
    """Return free heap and unused code to the system. Where that is not Linux with glibc, nothing happens."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        libc = ctypes.CDLL(None)
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for start, end in _code():
            libc.madvise(start, end - start, _DONTNEED)
        libc.malloc_trim(0)


def _code() -> Iterator[tuple[int, int]]:
    """Where shared libraries' code is mapped."""
    for line in _MAPS.read_text().splitlines():
        place, rights, *_, name = line.split(maxsplit=5)
        if rights == _CODE and ".so" in name:
            start, _, end = place.partition("-")
            yield int(start, 16), int(end, 16)
