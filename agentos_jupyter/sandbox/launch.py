"""How a sandbox's first process is started, in either tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agentos_jupyter.sandbox import mounts, seccomp
from agentos_jupyter.sandbox.channel import Channel, anonymous, close_all, python
from agentos_jupyter.sandbox.protect import Guard
from agentos_jupyter.sandbox.shapes import Limits


def supervisor(script: str, control: str, folder: str, limits: Limits) -> list[str]:
    """The supervisor's command line."""
    numbers = (limits.cpu, limits.memory, limits.processes, limits.open_files, limits.file_size)
    return [python(), "-I", "-S", script, control, folder, *(str(number) for number in numbers)]


def bubblewrap(
    bwrap: Path, root: Path, guards: Sequence[Guard], binds: Sequence[mounts.Bind], limits: Limits
) -> tuple[list[str], list[int]]:
    """The command line up to the program, and the descriptors it names, which the caller closes."""
    descriptors: list[int] = []
    try:
        files = {}
        for path, content in mounts.contents().items():
            descriptors.append(anonymous(content))
            files[path] = descriptors[-1]
        program, filter_fd = seccomp.program(), None
        if program is not None:
            filter_fd = anonymous(program)
            descriptors.append(filter_fd)
        argv = [str(bwrap), *mounts.arguments(root, guards, binds, limits, files, filter_fd)]
    except BaseException:
        close_all(descriptors)
        raise
    return argv, descriptors


async def namespaces(
    bwrap: Path,
    root: Path,
    guards: Sequence[Guard],
    binds: Sequence[mounts.Bind],
    limits: Limits,
    environ: Mapping[str, str],
) -> Channel:
    """A sandbox of the tier `namespaces`. Raises `SandboxUnavailable`."""
    argv, descriptors = bubblewrap(bwrap, root, guards, binds, limits)
    program = supervisor(mounts.COMPILED, "{control}", mounts.STATE, limits)
    try:
        argv = [*argv, "--as-pid-1", "--", *program]
        return await Channel.start(argv, mounts.environment(environ), descriptors, cwd=str(root))
    finally:
        close_all(descriptors)


async def contained(root: Path, home: Path, limits: Limits, environ: Mapping[str, str]) -> Channel:
    """The same supervisor without walls, for a machine that is itself the sandbox. `home` is a private folder."""
    state = home / ".agentos-shell"
    state.mkdir(mode=0o700, exist_ok=True)
    program = supervisor(str(mounts.SUPERVISOR), "{control}", str(state), limits)
    variables = mounts.environment(environ, home=str(home)) | {"TMPDIR": str(home)}
    return await Channel.start(program, variables, (), cwd=str(root))
