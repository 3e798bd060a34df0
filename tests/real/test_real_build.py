"""A small package built from nothing, in one session: plan, code, tests, wheel, and a change that needs what was said.

The model's first code has a defect that its own tests show; it reads the failure and repairs it. What comes out is
checked by this test, outside of the model: imported, tested, installed and called.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from tests.real.conftest import Package, changed, logged, printed, prompted, verify

CALLED = r"package called (?P<name>\w+)"
"""How the model finds the package's name in what was said before."""

CODE = """\
mkdir -p src/{name} tests
cat > src/{name}/__init__.py <<'end'
"Seconds of a duration such as 1h30m."

import re
import sys

UNITS = {"h": 3600, "m": 60, "s": 1}


def seconds(text: str) -> int:
    "The seconds of a duration; raises ValueError for anything else."
    found = re.findall(r"(\\d+)([a-z]+)", text)
    if "".join(number + unit for number, unit in found) != text or not found:
        raise ValueError(f"no duration: {text!r}")
    return sum(int(number) for number, unit in found)


def main() -> None:
    print(seconds(sys.argv[1]))
end
cat > tests/test_{name}.py <<'end'
import pytest
from {name} import seconds


def test_parts_add_up():
    assert seconds("1h30m") == 5400


def test_words_are_refused():
    with pytest.raises(ValueError):
        seconds("soon")
end
cat > pyproject.toml <<'end'
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
description = "Seconds of a duration such as 1h30m."
readme = "README.md"
requires-python = ">={python}"

[project.scripts]
{name} = "{name}:main"

[tool.pytest.ini_options]
pythonpath = ["src"]
addopts = "-p no:cacheprovider -p no:asyncio -p no:anyio"
end
printf '# %s\\n\\n`%s 1h30m` prints 5400.\\n' {name} {name} > README.md
python -m pytest -q 2>&1 | tail -12"""
CHANGE = """\
sed -i '{line}s/}/, "d": 86400}/' src/{name}/__init__.py
sed -i 's/^version = .*/version = "0.2.0"/' pyproject.toml
printf '\\n\\ndef test_days_count():\\n    assert seconds("2d") == 172800\\n' >> tests/test_{name}.py
python -m pytest -q 2>&1 | tail -12"""
INSTALL = """\
.venv/bin/pip install -q --no-index dist/{wheel} && .venv/bin/{name} {sample}"""
RULES = [
    prompted(
        r"^Plan .*" + CALLED,
        "I look at what there is to build {name} with.",
        "ls -A; python -c 'import sys, hatchling; print(\"python\", *sys.version_info[:2], hatchling.__name__)'",
    ),
    printed(
        "hatchling",
        r"python (?P<major>\d+) (?P<minor>\d+) (?P<backend>\w+)",
        "{name}, for Python {major}.{minor}: one module in `src/{name}`, tests beside it, built by {backend}.",
        earlier=CALLED,
    ),
    prompted("^Write", "I write it and run its tests.", CODE, earlier=r"(?P<name>\w+), for Python (?P<python>[\d.]+):"),
    printed(
        "pytest",
        r"assert (?P<got>\d+) == (?P<wanted>\d+)",
        "{got} instead of {wanted}: the numbers are added without their units.",
        "sed -i 's/sum(int(number) for/sum(int(number) * UNITS[unit] for/' src/{name}/__init__.py; python -m pytest -q 2>&1 | tail -12",
        earlier=CALLED,
    ),
    printed("pytest", r"(?P<count>\d+) passed", "Done: {count} tests pass."),
    prompted("^Build", "I build a wheel.", "python -m build --no-isolation 2>&1 | tail -1; ls -d .venv"),
    printed(
        "-m build",
        r"and (?P<wheel>\S+\.whl)[\s\S]*No such file",
        "It is {wheel}. I make an environment and install it there.",
        "python -m venv .venv && " + INSTALL.replace("{sample}", "1h30m"),
        earlier=CALLED,
    ),
    printed(
        "-m build",
        r"and (?P<wheel>\S+\.whl)",
        "It is {wheel}. I install it over the old one.",
        INSTALL.replace("{sample}", "1d"),
        earlier=CALLED,
    ),
    printed("install", r"^(?P<seconds>\d+)$", "Installed: {name} says {seconds}.", earlier=CALLED),
    prompted(
        "^Days",
        "Days belong to the units of {name}. I look where they are.",
        "grep -n 'UNITS = ' src/{name}/__init__.py",
        earlier=CALLED,
    ),
    printed("^grep -n 'UNITS", r"(?P<line>\d+):UNITS", "Line {line}.", CHANGE, earlier=CALLED),
]
CELLS = [
    "Plan a small package called spans, which tells the seconds of a duration such as 1h30m.",
    "Write it, with tests and a README.",
    "!python -m pytest -q",
    "Build it, install it into an environment of its own and try it.",
    "Days are missing. Add them, with a test, as version 0.2.0.",
    "Build and install it again.",
    "%cost",
    "%context",
]


def _answers(notebook: nbformat.NotebookNode) -> list[str]:
    """The answers of the prompts, without the line on the model."""
    found = [output for cell in notebook.cells for output in cell.outputs if output.output_type == "execute_result"]
    return [each.data["text/plain"].partition("\n\n[scripted")[0] for each in found]


def _prints(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_package_is_built_from_nothing(workspace: Path) -> None:
    made = Package(workspace, ("pytest", "-q"))
    made.model(RULES)
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in CELLS])
    where = {"metadata": {"path": str(workspace)}}
    NotebookClient(notebook, kernel_name="agentos", timeout=120, resources=where).execute()
    nbformat.write(notebook, workspace / "out.ipynb")
    verify(workspace / "out.ipynb")

    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert _answers(notebook) == [
        f"spans, for Python {python}: one module in `src/spans`, tests beside it, built by hatchling.",
        "Done: 2 tests pass.",
        "Installed: spans says 5400.",
        "Done: 3 tests pass.",
        "Installed: spans says 86400.",
    ]
    assert made.failures() == 0
    assert (
        _prints(
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, '{workspace}/src'); import spans; print(spans.seconds('1d2h'))",
        )
        == "93600"
    )
    assert _prints(workspace / ".venv" / "bin" / "spans", "2d") == "172800"
    assert "spans-0.2.0-py3" in _prints(workspace / ".venv" / "bin" / "pip", "freeze")
    _check_log(workspace)


def _check_log(workspace: Path) -> None:
    log = logged(workspace)
    assert [(each["kind"], each["status"]) for each in log.dispatches] == [
        ("person" if cell.startswith("!") else "prompt", "ok") for cell in CELLS if not cell.startswith("%")
    ]
    plan, write, _, build, change, again = log.dispatches
    assert changed(plan) == {}
    assert {"README.md", "pyproject.toml", "src/spans/__init__.py", "tests/test_spans.py"} < set(
        changed(write)["created"]
    )
    assert set(changed(build)["created"]) == {".venv/", "dist/spans-0.1.0-py3-none-any.whl", "dist/spans-0.1.0.tar.gz"}
    assert set(changed(change)["modified"]) > {"pyproject.toml", "src/spans/__init__.py", "tests/test_spans.py"}
    assert changed(again)["modified"] == [".venv/"]
