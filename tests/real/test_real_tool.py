"""A bug in a published command-line tool, found by using the tool, in a notebook that papermill runs with a parameter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.real.conftest import Package, changed, logged, printed, prompted, verify

SOURCE = "yamllint/rules/common.py"
RIGHT = """\
        spaces = next.start_mark.pointer - token.end_mark.pointer
        if max != - 1 and spaces > max:"""
WRONG = RIGHT.replace("spaces > max", "spaces >= max")
LIST = "---\nfruit:\n  - apple\n  - pear\n"
RULES = [
    prompted(
        r"complains about (?P<file>\S+\w)",
        "I see for myself what it says of {file}.",
        "python -m yamllint -f parsable {file!q}",
    ),
    printed(
        "^python -m yamllint",
        r"(?P<file>[\w./]+):(?P<line>\d+):\d+: \[error\] (?P<complaint>.+) \((?P<rule>[\w-]+)\)",
        "It says `{complaint}` of line {line}. I read that line and the rule {rule}.",
        "sed -n '{line}p' {file!q} && grep -n -E 'import|spaces' yamllint/rules/{rule}.py",
    ),
    printed(
        "^sed -n",
        r"^\s*- \S[\s\S]*from yamllint\.rules\.(?P<module>\w+) import (?P<function>\w+)",
        "One space after the hyphen is fine: the rule is wrong. It counts with {function} of {module}.py.",
        "grep -n -A 6 'def {function}(' yamllint/rules/{module}.py",
    ),
    printed(
        "^grep -n -A 6",
        r"(?P<line>\d+)-\s+if max != - 1 and spaces >= max",
        "Line {line} complains of as many spaces as are allowed, not of more.",
        "sed -i '{line}s/>= max/> max/' " + SOURCE + " && sed -n '{line}p' " + SOURCE,
        "python -m unittest -q 2>&1 | tail -4",
    ),
    printed(
        "^python -m unittest",
        r"Ran (?P<count>\d+) tests[\s\S]*\nOK",
        "All {count} tests pass. Now the file again.",
        "python -m yamllint -f parsable {file!q} && echo clean",
        earlier=r"complains about (?P<file>\S+\w)",
    ),
    printed("clean$", "^clean$", "Repaired, and all {count} tests pass.", earlier=r"All (?P<count>\d+) tests pass"),
]


def _said(tool: Package, file: str) -> str:
    command = [sys.executable, "-m", "yamllint", "-f", "parsable", file]
    return subprocess.run(command, cwd=tool.folder, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_tool_that_complains_of_good_files_is_repaired(
    package: Callable[..., Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = package("yamllint==1.38.0", "unittest", "-q")
    monkeypatch.setenv("AGENTOS_WORKSPACE", str(tool.folder))
    (tool.folder / "lists.yaml").write_text(LIST)
    assert (tool.failures(), _said(tool, "lists.yaml")) == (0, "")
    original = tool.plant(SOURCE, RIGHT, WRONG)
    assert "too many spaces after hyphen" in _said(tool, "lists.yaml")
    tool.model(RULES)

    defaults = new_code_cell("%%parameters\nfile: other.yaml  # what to look at", metadata={"tags": ["parameters"]})
    cells = [
        defaults,
        new_code_cell("yamllint complains about {{file}}, which is fine. Why? Repair it."),
        new_code_cell("%cost"),
    ]
    spec = {"name": "agentos", "display_name": "AgentOS", "language": "agentos"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": spec}), tool.folder / "in.ipynb")
    out = papermill.execute_notebook(
        str(tool.folder / "in.ipynb"),
        str(tool.folder / "out.ipynb"),
        {"file": "lists.yaml"},
        cwd=str(tool.folder),
        progress_bar=False,
        autosave_cell_every=0,  # a save in mid-cell would be listed among the files changed meanwhile
    )
    verify(tool.folder / "out.ipynb")

    prompt, cost = out.cells[2:]
    assert "all 430 tests pass" in prompt.outputs[-1].data["text/plain"], prompt.outputs
    assert "scripted" in str(cost.outputs)
    assert ((tool.folder / SOURCE).read_text(), _said(tool, "lists.yaml"), tool.failures()) == (original, "", 0)
    log = logged(tool.folder)
    [dispatch] = log.dispatches
    assert (dispatch["status"], dispatch["calls"]) == ("ok", 6)
    assert log.of("dispatch.started")[0]["client"]["batch"] is True
    assert [path for path in changed(dispatch)["modified"] if not path.endswith("__pycache__/")] == [SOURCE]
    assert all(path.endswith("__pycache__/") for path in changed(dispatch).get("created", []))
