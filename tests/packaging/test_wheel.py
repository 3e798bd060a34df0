"""What `pip install .` puts on a machine: built and installed for real, into a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = "agentos_jupyter-{}.data/data/share/jupyter/kernels/agentos/{}"
KERNELSPEC = ("kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution; the wheel is built from the latter, as pip does."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix the wheel was installed into, without its dependencies."""
    prefix = tmp_path_factory.mktemp("prefix")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed", "--no-index"]
    done = subprocess.run(
        [*install, "--prefix", str(prefix), str(next(dist.glob("*.whl")))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return prefix


def run(prefix: Path, *command: str, cwd: Path | None = None) -> str:
    """What a command prints with the installed package first on its path, in a folder that is not the checkout."""
    library = next(prefix.glob("lib/python*/site-packages"))
    environ = {**os.environ, "PYTHONPATH": str(library), "JUPYTER_PATH": str(prefix / "share" / "jupyter")}
    done = subprocess.run(command, cwd=cwd or prefix, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_carries_package_skills_notebooks_sdk_and_kernelspec(dist: Path) -> None:
    wheel = next(dist.glob("*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    version = wheel.name.split("-")[1]
    assert {DATA.format(version, name) for name in KERNELSPEC} <= names
    assert {"aos_sdk.py", "agentos_jupyter/sdk/aos_sdk.py", "agentos_jupyter/_skills/aos-budget/defaults.yaml"} <= names
    assert "agentos_jupyter/_notebooks/01-fix-a-bug.ipynb" in names
    assert {"agentos_jupyter/_reference/errors.md", "agentos_jupyter/_reference/configuration.md"} <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "agentos_jupyter",
        "aos_sdk.py",
        f"agentos_jupyter-{version}.data",
        f"agentos_jupyter-{version}.dist-info",
    }
    assert not [name for name in names if "__pycache__" in name or "/.agentos/" in name]


def test_the_source_distribution_is_enough_to_build_and_test(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"pyproject.toml", "hatch_build.py", "Makefile", "LICENSE", "README.md", "tests/conftest.py"} <= names
    assert {"skills/aos-budget/defaults.yaml", "notebooks/01-fix-a-bug.ipynb"} <= names


def test_jupyter_finds_the_installed_kernelspec(installed: Path) -> None:
    specs = json.loads(run(installed, sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"))["kernelspecs"]
    assert specs["agentos"]["resource_dir"] == str(installed / "share/jupyter/kernels/agentos")
    assert specs["agentos"]["spec"]["argv"][1:] == ["-P", "-m", "agentos_jupyter.jupyter", "-f", "{connection_file}"]


def test_installed_skills_and_sdk_are_found(installed: Path) -> None:
    code = "import aos_sdk, agentos_jupyter.paths as p; print(aos_sdk.__file__, *p.skills_dir().glob('*/SKILL.md'))"
    found = run(installed, sys.executable, "-c", code).split()
    assert all(name.startswith(str(installed)) for name in found)
    assert any(name.endswith("_skills/aos-budget/SKILL.md") for name in found)


def test_the_installed_terminal_program_runs(installed: Path) -> None:
    assert run(installed, str(installed / "bin" / "agentos"), "version").startswith("agentos ")


def test_daemon_services_and_sandbox_of_an_installed_package_work(installed: Path, workspace: Path) -> None:
    report = run(installed, str(installed / "bin" / "agentos"), "doctor", cwd=workspace)
    assert "✓ services" in report


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_installed_package_does_the_main_job(installed: Path, workspace: Path) -> None:
    report = run(installed, str(installed / "bin" / "agentos"), "demo", cwd=workspace)
    assert "all 8 tests pass" in report
