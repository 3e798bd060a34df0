"""The wheel in a clean environment of its own, with each interpreter that is here: it installs, starts and does its job."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSIONS = ["3.11", "3.12", "3.13"]
JOB = """
import sys, warnings
import agentos_jupyter, aos_sdk
from agentos_jupyter.microkernel.inprocess import Workspace
with agentos_jupyter.open(sys.argv[1]) as workspace:
    session = workspace.call("session.create", {"key": "a-clean-environment"})["id"]
    print(workspace.call("system.health")["problems"], session[:2])
"""
NOTEBOOK = {
    "cells": [{"cell_type": "code", "id": "one", "metadata": {}, "source": "!echo in the sandbox", "outputs": [], "execution_count": None}],
    "metadata": {"kernelspec": {"name": "agentos", "display_name": "AgentOS", "language": "agentos"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}  # fmt: skip


def interpreter(version: str) -> str | None:
    """A Python of this version that really runs: on the path, or among those of pyenv."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    pyenv = sorted(map(str, home.glob(f".pyenv/versions/{version}.*/bin/python{version}")))
    for candidate in (sys.executable, shutil.which(f"python{version}"), *reversed(pyenv)):
        if candidate is None:
            continue
        told = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
        )
        if told.stdout.strip() == version:
            return candidate
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_works_in_a_clean_environment(version: str, wheel: Path, tmp_path: Path, workspace: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here; the workflow's matrix has one")
    subprocess.run([python, "-m", "venv", str(tmp_path / "v")], check=True)
    scripts = tmp_path / "v" / "bin"
    environ = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "AGENTOS_WORKSPACE": str(workspace)}
    environ.pop("PYTHONPATH", None)

    def run(*command: str) -> str:
        done = subprocess.run(command, env=environ, cwd=workspace, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run(str(scripts / "pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel))
    assert run("agentos", "version").strip()
    assert (
        run(
            str(scripts / "python"), "-W", "error::DeprecationWarning:agentos_jupyter", "-c", JOB, str(workspace)
        ).split()[-1]
        == "s-"
    )
    (workspace / "one.ipynb").write_text(json.dumps(NOTEBOOK))
    run("jupyter", "execute", "one.ipynb", "--inplace")
    assert "in the sandbox" in (workspace / "one.ipynb").read_text().split('"outputs"')[1]
    assert json.loads(run("agentos", "doctor", "--json"))["ok"]
    run("agentos", "stop")
