"""Print the version."""

from __future__ import annotations

import argparse

from agentos_jupyter import __version__


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace) -> int:
    print(f"agentos {__version__}")
    return 0
