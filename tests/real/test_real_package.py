"""A bug in a published library, found and repaired in a notebook that nbclient executes.

The model reads the failing test in what the tests print, from it the function, from its source the line.
"""

from __future__ import annotations

from collections.abc import Callable

import nbformat
import pytest
from nbclient import NotebookClient

from tests.real.conftest import Package, changed, logged, printed, prompted, verify

SOURCE = "more_itertools/recipes.py"
RIGHT, WRONG = "return list(islice(iterable, n))", "return list(islice(iterable, n + 1))"
RULES = [
    prompted(
        "bug",
        "I run the tests of the recipes.",
        "python -m unittest -q tests.test_recipes 2>&1 | grep -A 8 '^FAIL: .*tests'",
    ),
    printed(
        "tests.test_recipes",
        r"(?s).*FAIL: (?P<test>\w+) \(tests\.(?P<file>\w+)\.(?P<case>\w+)\.",
        "The test {test} of {case} fails. I read it.",
        "grep -n -A 8 'class {case}' tests/{file}.py",
    ),
    printed(
        "^grep -n -A 8",
        r"(?s)mi\.(?P<function>\w+)\(",
        "It tests {function}.",
        "grep -n -A 15 'def {function}(' " + SOURCE,
    ),
    printed(
        "^grep -n -A 15",
        r"(?P<line>\d+)-\s+return list\(islice\(iterable, n \+ 1\)\)",
        "Line {line} takes one item too many.",
        "sed -i '{line}s/n + 1/n/' " + SOURCE,
        "python -m unittest -q tests.test_recipes 2>&1 | tail -5",
    ),
    printed("tail -5$", r"Ran (?P<count>\d+) tests[\s\S]*\nOK", "Repaired: all {count} tests pass."),
]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_planted_bug_in_a_published_package_is_found_and_repaired(package: Callable[..., Package]) -> None:
    library = package("more-itertools==11.2.1", "unittest", "-q")
    assert library.failures("tests.test_recipes") == 0
    original = library.plant(SOURCE, RIGHT, WRONG)
    assert library.failures("tests.test_recipes") > 0
    library.model(RULES)

    prompt = nbformat.v4.new_code_cell("One of this package's tests fails. Find the bug and repair it.")
    notebook = nbformat.v4.new_notebook(cells=[prompt])
    where = {"metadata": {"path": str(library.folder)}}
    NotebookClient(notebook, kernel_name="agentos", timeout=180, resources=where).execute()
    nbformat.write(notebook, library.folder / "out.ipynb")
    verify(library.folder / "out.ipynb")

    [answer] = [each for each in prompt.outputs if each.output_type == "execute_result"]
    assert "all 195 tests pass" in answer.data["text/plain"]
    assert (library.folder / SOURCE).read_text() == original
    assert library.failures("tests.test_recipes") == 0
    [dispatch] = logged(library.folder).dispatches
    assert dispatch["status"] == "ok"
    assert SOURCE in changed(dispatch)["modified"]
    assert all(
        path == SOURCE or path.endswith("__pycache__/") for paths in changed(dispatch).values() for path in paths
    )
