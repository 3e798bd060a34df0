"""A bug in a published numerical library: measured, found and repaired in a notebook kernel, with a person who steers.

The model measures before and after, as numbers by a schema; what it measured goes into the next prompt.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator

import pytest

from agentos_jupyter.rpc.sync import SyncLink
from tests.jupyter.conftest import Notebook
from tests.real.conftest import Package, changed, logged, printed, prompted

SOURCE, TESTS = "mpmath/calculus/quadrature.py", "mpmath/tests/test_quad.py"
RIGHT, WRONG = "w = 2/((1-r**2)*t4**2)", "w = 2/((1-r)*t4**2)"
PYTEST = (
    *("pytest", "-q", "-o", "addopts=", "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:cacheprovider"),
    *(TESTS, "--deselect", f"{TESTS}::test_quadosc"),  # which takes longer than all the others
)
MEASURE = """\
python - <<'end'
from mpmath import mp
for rule in ("quadgl", "quadts"):
    print(rule, "is off by", mp.nstr(abs(getattr(mp, rule)(lambda x: x**3 + 1, [-2, 4]) - 66), 3))
end"""
REGRESSION = """\
cat >> {file} <<'end'

def test_{function}_of_a_cubic():
    for degree in (2, 3, 4):
        assert {function}(lambda x: x**3 + 1, [-2, 4], maxdegree=degree).ae(66)
end
python -m """ + " ".join(PYTEST)
FORM = {
    "type": "object",
    "properties": {"quadgl": {"type": "number"}, "quadts": {"type": "number"}},
    "required": ["quadgl", "quadts"],
}
RULES = [
    prompted("^How far off", "I integrate x³ + 1 from -2 to 4, which is 66.", MEASURE),
    printed(
        "is off by", r"quadgl is off by (?P<gl>\S+)\nquadts is off by (?P<ts>\S+)", '{"quadgl": {gl}, "quadts": {ts}}'
    ),
    prompted(
        r"(?s)off by.*Repair it",
        "I run the tests of the integration.",
        f"python -m {' '.join(PYTEST)} -x --tb=line 2>&1 | tail -8",
    ),
    printed(
        "--tb=line",
        r"= (?P<function>quad\w+)\(<function (?P<test>\w+)",
        "{test} fails in {function}. I look up what that stands for.",
        "grep -n -A 25 'def {function}(' " + SOURCE + r" | grep -n 'method' ; grep -n '^class\|1-r' " + SOURCE,
    ),
    printed(
        r"\^class",
        r"(?s)'(?P<method>gauss-legendre)'.*?class (?P<rule>GaussLegendre).*?(?P<line>\d+):\s+w = 2/\(\(1-r\)\*t4\*\*2\)",
        "It is {method}. Its weights are 2/((1-r²)·P'(r)²), but line {line} of {rule} has 1-r.",
        "sed -i '{line}s/(1-r)/(1-r**2)/' " + SOURCE,
        f"python -m {' '.join(PYTEST)} 2>&1 | tail -3",
    ),
    prompted(
        r"add a test .* (?P<file>\S+\.py)",
        "You want a test, too: I add one for {function} to {file}.",
        REGRESSION,
        earlier=r"fails in (?P<function>quad\w+)",
    ),
    printed("_of_a_cubic", r"^(?P<count>\d+) passed", "Repaired, with a test of its own: {count} pass."),
]


@pytest.fixture
def library(package: Callable[..., Package]) -> Package:
    found = package("mpmath==1.4.1", *PYTEST)
    found.model(RULES)
    return found


@pytest.fixture
def notebook(library: Package) -> Iterator[Notebook]:
    opened = Notebook(library.folder, {**os.environ, "AGENTOS_WORKSPACE": str(library.folder)})
    yield opened
    opened.close()


def _measured(notebook: Notebook, name: str) -> dict[str, float]:
    """What the agent measures, as the notebook's Python has it."""
    notebook.run(f"%%agent {name} << schema=FORM\nHow far off is numerical integration here?")
    found: dict[str, float] = json.loads(notebook.run(f"%%python\nimport json; print(json.dumps({name}))").text)
    return found


def _steer(library: Package, text: str) -> None:
    """Say something to the dispatch at work, while its last two commands run."""
    with SyncLink(library.folder) as link:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            [newest, *_] = link.client.dispatch.list()["dispatches"]
            if newest["status"] == "running" and newest["calls"] == 4:
                link.client.session.steer(session=newest["session"], text=text, key="a test, please")
                return
            time.sleep(0.05)
    raise AssertionError(f"the dispatch did not come to its fourth command: {newest}")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_wrong_weights_are_measured_found_and_repaired(library: Package, notebook: Notebook) -> None:
    assert library.failures() == 0
    original = library.plant(SOURCE, RIGHT, WRONG)
    assert library.failures() > 0

    notebook.run(f"%%python\nFORM = {FORM!r}")
    before = _measured(notebook, "before")
    assert before["quadgl"] > 1 and before["quadts"] < 1e-12
    request = notebook.begin("Gauss-Legendre is off by {{before}}. Find out why. Repair it.")
    _steer(library, f"Please add a test of that, to {TESTS}.")
    cell = notebook.end(request, 120)
    assert "16 pass" in cell.answer, cell.text
    after = _measured(notebook, "after")
    assert max(after.values()) < 1e-12
    assert "scripted" in notebook.run("%cost").text

    notebook.close()
    assert (library.folder / SOURCE).read_text() == original
    assert "def test_quadgl_of_a_cubic" in (library.folder / TESTS).read_text()
    assert library.failures() == 0
    log = logged(library.folder)
    assert [each["status"] for each in log.dispatches if each["kind"] == "prompt"] == ["ok"] * 3
    assert [path for path in changed(log.dispatches[1])["modified"] if path.endswith(".py")] == [SOURCE, TESTS]
    assert [each["text"] for each in log.of("user.message") if each["from"] != "prompt"] == [
        f"Please add a test of that, to {TESTS}."
    ]
