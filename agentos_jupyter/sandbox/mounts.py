"""What exists inside a sandbox: the arguments for bubblewrap, from an empty root upwards."""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from agentos_jupyter.sandbox.protect import Guard
from agentos_jupyter.sandbox.shapes import Limits

HOME = "/home/agent"
USER = 1000
INSIDE = "/.sandbox"
STATE = "/run/agentos"
COMPILED = f"{INSIDE}/supervisor.pyc"
SUPERVISOR = Path(__file__).with_name("supervisor.py")

_ETC = {
    "passwd": f"agent:x:{USER}:{USER}:agent:{HOME}:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": f"agent:x:{USER}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
}
_SHARED_ETC = ("/etc/ld.so.cache", "/etc/alternatives")
_STORES = ("/nix/store", "/gnu/store")
"""Where the whole system, C library included, lives under one folder."""
_PREFIX_PARTS = ("bin", "lib", "lib64", "include", "pyvenv.cfg")

_ENVIRON = {
    "HOME": HOME,
    "USER": "agent",
    "LOGNAME": "agent",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "TMPDIR": "/tmp",
    "PAGER": "cat",
    # No network: five attempts and a look for a newer pip would only take ten seconds to say so.
    "PIP_RETRIES": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "true",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    # Files of the root may belong to another number in here.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}


@dataclass(frozen=True, slots=True)
class Bind:
    """A path of the host, readable at `target` inside."""

    source: str
    target: str


def environment(extra: Mapping[str, str], home: str = HOME) -> dict[str, str]:
    """The whole environment of a command: nothing of the caller's but where its interpreter is."""
    path = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
    return {**_ENVIRON, "HOME": home, "PATH": path, **extra}


def interpreter(root: Path) -> list[Bind]:
    """What the caller's Python needs to run: its prefixes, and each hop of the links that lead to it."""
    binds: dict[str, Bind] = {}
    for prefix in dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, sys.prefix)):
        for part in _prefix_parts(prefix, root):
            for target in dict.fromkeys((os.path.realpath(part), os.path.normpath(part))):
                binds.setdefault(target, Bind(os.path.realpath(part), target))
    for hop in _hops(sys.executable):
        if not any(_inside(hop, target) for target in binds):
            binds[hop] = Bind(os.path.realpath(hop), hop)
    for store in _STORES:
        if any(_inside(bind.source, store) for bind in binds.values()):
            binds = {store: Bind(store, store)} | binds
    return [bind for bind in binds.values() if not _inside(bind.target, "/usr")]


def own_code(root: Path) -> list[Bind]:
    """This package, where it lies in the root (a source checkout): an agent must not write the code that holds it."""
    package = os.path.realpath(Path(__file__).parent.parent)
    return [Bind(package, package)] if _inside(package, str(root)) else []


def _prefix_parts(prefix: str, root: Path) -> Iterator[str]:
    """The prefix; only its own folders where it holds more than Python, as a home folder does."""
    real = os.path.realpath(prefix)
    if not any(_inside(str(other), real) for other in (root, Path.home().resolve())):
        yield prefix
        return
    yield from (part for name in _PREFIX_PARTS if os.path.exists(part := os.path.join(prefix, name)))


def _hops(path: str) -> Iterator[str]:
    for _ in range(16):
        yield os.path.normpath(path)
        if not os.path.islink(path):
            return
        path = os.path.join(os.path.dirname(path), os.readlink(path))


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def split(binds: Iterable[Bind], root: Path) -> tuple[list[Bind], list[str]]:
    """Those outside the root, and the names of those below it, which are protected like its own files."""
    outside, below = [], []
    for bind in binds:
        if not _inside(bind.target, str(root)):
            outside.append(bind)
        elif bind.source == bind.target != str(root):  # a link needs no mount: it leads to one
            below.append(os.path.relpath(bind.target, root))
    return outside, below


def arguments(
    root: Path,
    guards: Sequence[Guard],
    binds: Sequence[Bind],
    limits: Limits,
    files: Mapping[str, int],
    seccomp: int | None,
) -> list[str]:
    """bubblewrap's arguments up to the program. `files`: path inside → descriptor of its content."""
    return [
        *_namespaces(),
        *(("--seccomp", str(seccomp)) if seccomp is not None else ()),
        *_system(limits),
        *_shortcuts((str(root), *(bind.target for bind in binds))),
        *_contents(files),
        *(arg for bind in binds for arg in ("--ro-bind", bind.source, bind.target)),
        *("--bind", str(root), str(root)),
        *(arg for guard in guards for arg in _guard(root, guard)),
        # /proc too: an owner who is root out there could else write /proc/sys and /proc/sysrq-trigger.
        *("--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(root)),
    ]


def _namespaces() -> list[str]:
    user = ("--uid", str(USER), "--gid", str(USER), "--disable-userns", "--cap-drop", "ALL")
    return ["--unshare-all", "--unshare-user", *user, "--new-session", "--die-with-parent", "--hostname", "sandbox"]


def _system(limits: Limits) -> Iterator[str]:
    yield from ("--ro-bind", "/usr", "/usr")
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(name):
            yield from ("--symlink", os.readlink(name), name)
        elif os.path.isdir(name):
            yield from ("--ro-bind", name, name)
    for name in _SHARED_ETC:
        if os.path.exists(name):
            yield from ("--ro-bind", name, name)
    yield from ("--proc", "/proc", "--dev", "/dev")
    for target, size in (("/dev/shm", limits.shm), ("/tmp", limits.tmp), ("/run", limits.shm), (HOME, limits.tmp)):
        yield from ("--size", str(size), "--tmpfs", target)


def _shortcuts(taken: Sequence[str]) -> Iterator[str]:
    for target, name in (("/tmp", "/var/tmp"), ("/run", "/var/run")):
        if not any(_inside(path, name) for path in taken):
            yield from ("--symlink", target, name)


def contents() -> dict[str, bytes]:
    """The synthetic files: path inside → content."""
    files = {f"/etc/{name}": text.encode() for name, text in _ETC.items()}
    return files | {COMPILED: _compiled()}


@cache
def _compiled() -> bytes:
    """The supervisor as a .pyc, which starts some milliseconds sooner."""
    code = SourceFileLoader("__main__", str(SUPERVISOR)).get_code("__main__")
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def _contents(files: Mapping[str, int]) -> Iterator[str]:
    for path, descriptor in files.items():
        yield from ("--perms", "0444", "--file", str(descriptor), path)


def _guard(root: Path, guard: Guard) -> tuple[str, ...]:
    path = str(root / guard.path)
    match guard.kind:
        case "read-only":
            return ("--ro-bind", path, path)
        case "itself":
            return ("--bind", path, path)
        case "hidden":
            return ("--perms", "0555", "--size", "4096", "--tmpfs", path, "--remount-ro", path)
