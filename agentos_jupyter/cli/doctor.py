"""Check every part AgentOS stands on, and say how to mend what is broken.

Exit status 1 when something that bash or the daemon needs is broken; a missing key or kernelspec is shown and is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentos_jupyter import __version__, config, keys, limits, paths, storage
from agentos_jupyter.cli import text
from agentos_jupyter.cli.status import model
from agentos_jupyter.cli.stop import stop
from agentos_jupyter.errors import AgentOSError, ConfigError, DaemonUnavailable, WorkspaceUntrusted
from agentos_jupyter.rpc.sync import SyncLink

WORKS = "Everything that bash and the daemon need works."
BROKEN = "Mend the lines with ✗, then run `agentos doctor` again."
NAME_A_MODEL = "name a model in AGENTOS_MODEL or agentos.yaml, and put its key into the environment"


@dataclass(frozen=True, slots=True)
class Check:
    """One part: what was found, whether bash or the daemon `needs` it, and the cure when it is not `ok`."""

    name: str
    ok: bool
    found: str
    cure: str = ""
    needed: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--live", action="store_true", help="ask every model that is configured a real, tiny question")


def run(args: argparse.Namespace) -> int:
    checks = list(examine(args.live))
    healthy = all(check.ok for check in checks if check.needed)
    if args.json:
        print(json.dumps({"ok": healthy, "checks": [asdict(check) for check in checks]}, ensure_ascii=False))
    else:
        print("\n".join(line(check) for check in checks))
        print(f"\n{WORKS if healthy else BROKEN}")
    return 0 if healthy else 1


def line(check: Check) -> str:
    mark = "✓" if check.ok else "✗" if check.needed else "!"
    cure = f"\n  {'':<10} → {text.visible(check.cure)}" if check.cure and not check.ok else ""
    return f"{mark} {check.name:<10} {text.visible(check.found)}{cure}"


def examine(live: bool = False) -> Iterator[Check]:
    """Every check in the order in which one part stands on another. A daemon it has to start is stopped again."""
    yield python()
    yield sandbox()
    yield keys_file()
    try:
        workspace = paths.workspace()
    except AgentOSError as error:
        yield Check("workspace", False, error.message, "the sentence says what to do")
    else:
        yield disk(workspace)
        yield backup(workspace)
        yield from _with_daemon(workspace, live)
    yield kernelspec()


def _with_daemon(workspace: Path, live: bool) -> Iterator[Check]:
    before = _runs(workspace)
    try:
        yield from daemon(workspace, live)
    finally:
        if not before:
            stop(workspace)


def keys_file() -> Check:
    try:
        kept = keys.load()
    except ConfigError as error:
        return Check("keys", False, error.message, "the sentence says what to do")
    return Check("keys", True, f"{', '.join(sorted(kept)) or 'none'} in {keys.file()}", needed=False)


def _runs(workspace: Path) -> bool:
    try:
        SyncLink(workspace, start=False).close()
    except DaemonUnavailable:
        return False
    return True


def python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"Python {version} at {sys.executable}, AgentOS {__version__}"
    return Check("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer and AgentOS into it")


def disk(workspace: Path) -> Check:
    free = shutil.disk_usage(workspace).free
    if not os.access(workspace, os.W_OK):
        return Check("disk", False, f"{workspace} is read-only for you", "work in a folder you may write to")
    try:
        low = config.limits(config.load(workspace, {**os.environ, "AGENTOS_TRUST": "1"})).disk_low
    except ConfigError:  # the daemon's check says what is wrong with the file
        low = limits.merge(config.shipped_limits()).disk_low
    little = storage.little(free, low, workspace)
    cure = "free some space: history is kept whole"
    return Check("disk", little is None, little or f"{text.size(free)} free at {workspace}", cure)


def backup(workspace: Path) -> Check:
    """The last backup, and what kept a later one from being made."""
    try:
        config.user_backup()
    except ConfigError as error:
        return Check("backup", False, error.message, "mend the line that the sentence names", needed=False)
    noted = storage.notes(workspace)
    last, failed = noted.get("backup"), noted.get("failed")
    if failed:
        found = f"failed at {failed['time']}: {failed['message']}"
        return Check("backup", False, found, "mend it, then run `agentos backup`", needed=False)
    if last:
        return Check(
            "backup", True, f"{last['made']}, up to event {last['position']}, in {last['backup']}", needed=False
        )
    return Check("backup", True, "none yet: `agentos backup FOLDER` makes one", needed=False)


def sandbox() -> Check:
    from agentos_jupyter.sandbox import probe

    tier = asyncio.run(probe())
    return Check("sandbox", tier.name != "none", f"{tier.name}: {tier.reason}", tier.cure)


def daemon(workspace: Path, live: bool) -> Iterator[Check]:
    """The daemon, and what can only be asked of a running one: its log, its services and its model."""
    last_words = f"look into {paths.state_dir(workspace) / 'daemon.log'}"
    try:
        with SyncLink(workspace) as link:
            info = link.call("system.info")
            yield Check("daemon", True, f"answers for {workspace} (AgentOS {info['version']}, pid {info['pid']})")
            yield asked("log", lambda: log(link), last_words)
            yield asked("services", lambda: services(link, info), last_words)
            unasked = "" if live else ", not asked: `agentos doctor --live` does"
            yield Check("model", not info["model_problem"], model(info) + unasked, NAME_A_MODEL, needed=False)
            if live:
                yield from models(link)
    except (ConfigError, WorkspaceUntrusted) as error:
        yield Check("daemon", False, error.message, "mend the line, or set the variable, that the sentence names")
    except AgentOSError as error:
        yield Check("daemon", False, error.message, last_words)


def asked(name: str, check: Callable[[], Check], cure: str) -> Check:
    """The check, or its error as a finding: one broken part must not hide the next."""
    try:
        return check()
    except AgentOSError as error:
        return Check(name, False, error.message, cure)


def log(link: SyncLink) -> Check:
    rows = link.call("sql.query", {"sql": "select count(*) from events"})["rows"]
    survived = "".join(f"; salvaged {each}" for each in link.info.get("salvages", ()))
    return Check("log", True, f"{rows[0][0]} events in {paths.state_dir(link.workspace)}{survived}")


def services(link: SyncLink, info: dict[str, Any]) -> Check:
    """What the daemon says of its own health; its model and the disk have lines of their own."""
    elsewhere = {info["model_problem"], *link.call("storage.get")["problems"]}
    problems = [problem for problem in link.call("system.health")["problems"] if problem not in elsewhere]
    return Check(
        "services", not problems, "; ".join(problems) or f"{info['engine']} answers", "the sentence says what to do"
    )


def models(link: SyncLink) -> Iterator[Check]:
    """What each configured model says when it is really asked."""
    for name in [each["name"] for each in link.call("model.list")["models"]]:
        try:
            said = link.call("model.probe", {"name": name})
        except AgentOSError as error:
            yield Check("live", False, error.message, "the sentence says what to do", needed=False)
            continue
        usage, scripted = said["usage"], " (scripted)" if said["scripted"] else ""
        tokens = f"{usage['input']} tokens in, {usage['output']} out"
        yield Check("live", True, f"{name}{scripted} answered in {said['seconds']:.1f} s, {tokens}", needed=False)


def kernelspec() -> Check:
    """The kernelspec Jupyter would start, and whether it starts this interpreter."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    cure = "install AgentOS into the environment that runs Jupyter: `pip install .` in its source folder"
    try:
        spec = KernelSpecManager().get_kernel_spec("agentos")
    except NoSuchKernel:
        return Check("kernel", False, "Jupyter knows no kernel named agentos", cure, needed=False)

    # Jupyter replaces a bare `python` by its own interpreter, so only a full path can name a wrong one.
    program = spec.argv[0]
    if os.path.isabs(program) and Path(program) != Path(sys.executable):
        return Check("kernel", False, f"{spec.resource_dir} starts {program}, another interpreter", cure, needed=False)
    return Check("kernel", True, f"{spec.resource_dir}", needed=False)
