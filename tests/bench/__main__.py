"""Prints the tables of measures: `python -m tests.bench [names]`; without names, all of them.

The machine is noisy: what counts are ratios within one run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys

NAMES = (
    "turns",
    "gateway",
    "sandbox",
    "kernel",
    "first",
    "sessions",
    "notebook",
    "resume",
    "replay",
    "front",
    "kills",
    "day",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}")
    names = parser.parse_args().names or NAMES
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, Linux {platform.release()}, load before: {load}")
    for name in names:
        print(importlib.import_module(f"tests.bench.{name}").measure(), flush=True)
        print(f"load now: {os.getloadavg()[0]:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
