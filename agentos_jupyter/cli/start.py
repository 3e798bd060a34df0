"""Start the daemon of this workspace and wait until it answers. Any client does so by itself."""

from __future__ import annotations

import argparse

from agentos_jupyter import paths
from agentos_jupyter.cli.text import visible
from agentos_jupyter.errors import DaemonUnavailable
from agentos_jupyter.rpc.sync import SyncLink


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace) -> int:
    workspace = paths.workspace()
    try:
        link, verb = SyncLink(workspace, start=False), "already runs"
    except DaemonUnavailable:
        link, verb = SyncLink(workspace), "runs"
    with link:
        about = f"(AgentOS {link.info['version']}, pid {link.info['pid']})"
        print(f"The daemon {verb} for {visible(str(workspace))} {about}.")
    return 0
