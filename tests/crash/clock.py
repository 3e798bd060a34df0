"""A wall clock that can be set: a few lines of C stand between processes and it, and add what a file says.

The monotonic clock stays true, as when a clock is set.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jupyter.conftest import Notebook

CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32] = {0};
    int file = open(getenv("CLOCK_FILE"), O_RDONLY | O_CLOEXEC);
    if (file >= 0) { if (read(file, text, 31) < 0) text[0] = 0; close(file); }
    return atol(text);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += offset();
    return result;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec; now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *where) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (where) *where = precise.tv_sec;
    return precise.tv_sec;
}
"""


class Clock:
    """The clock of the notebooks that `opening` opens, and of the daemon they start; it is made in `folder`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("cc") is None:
            pytest.skip("there is no C compiler to make the clock with")
        self._folder = folder
        (folder / "clock.c").write_text(CLOCK)
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", folder / "clock.so", folder / "clock.c"]
        subprocess.run(command, check=True, timeout=50)
        self.jump(0)

    def jump(self, days: int) -> None:
        """Set it so many days off the true time."""
        fresh = self._folder / "fresh"
        fresh.write_text(str(days * 86400))
        fresh.rename(self._folder / "clock")

    def opening(self, open_notebook: Callable[..., Notebook]) -> Callable[..., Notebook]:
        given = {"LD_PRELOAD": str(self._folder / "clock.so"), "CLOCK_FILE": str(self._folder / "clock")}
        return lambda *where, **environ: open_notebook(*where, **{**given, **environ})
