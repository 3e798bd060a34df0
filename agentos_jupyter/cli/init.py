"""Make this folder a workspace: an agentos.yaml with what can be set, nothing of it in force but what you choose."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.errors import WorkspaceRefused

TEMPLATE = """\
# AgentOS: settings of this workspace. Agents may read this file and never change it.
# Everything has a default; take away a # to change one. The reference: docs/reference/configuration.md

# Which model is asked: <provider>/<model id>, or scripted:demo, which needs no key.
# `agentos key set openrouter` keeps a key; never write one here.
#model: openrouter/auto

# Short names for models (`%model quick`).
#models:
#  quick: openrouter/auto

# Models for other parts, with those that step in when one cannot answer.
#roles:
#  worker: {model: openrouter/auto, fallbacks: [scripted:demo]}

# An endpoint of your own that speaks OpenAI's API.
#providers:
#  mine:
#    base_url: http://127.0.0.1:8000/v1
#    models: {my-model: {window: 32k}}

# What a dispatch may use. The reference lists all.
#limits:
#  turns: 50
#  usd: 2
#  wall: 30m

# The agent of a session that names no other, and the folder of others (agents/NAME.yaml).
#agent:
#  system: You are careful, and you run the tests before you say that something works.
agents: agents
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace) -> int:
    named = os.environ.get("AGENTOS_WORKSPACE")
    workspace = paths.workspace(None if named else Path.cwd())
    file = workspace / paths.CONFIG_NAME
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        if file.is_symlink() or file.stat().st_size:
            raise WorkspaceRefused(
                f"{file} is there already, and stays as it is: edit it, or move it away first."
            ) from None
        descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)  # a placeholder of a sandbox at work
    with open(descriptor, "w", encoding="utf-8") as opened:
        opened.write(TEMPLATE)
    print(f"{workspace} is a workspace: {file.name} says what can be set.")
    print("Open a notebook with the AgentOS kernel here, or run `agentos doctor` to see whether everything works.")
    return 0
