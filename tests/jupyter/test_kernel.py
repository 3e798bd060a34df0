"""The kernel as front ends know kernels: messages, counts, history, Python cells."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupyter_kernel_test
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import start_new_kernel

from .conftest import Notebook


@pytest.fixture(autouse=True, scope="class")
def workspace_of_class(request: pytest.FixtureRequest, base: Path) -> Any:
    """`jupyter_kernel_test` starts its kernel itself, in whatever workspace the environment names."""
    if request.cls is None:
        yield
        return
    folder = base / "kernel-test"
    folder.mkdir()
    os.environ["AGENTOS_WORKSPACE"] = str(folder)
    yield
    del os.environ["AGENTOS_WORKSPACE"]


class TestMessages(jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    kernel_name = "agentos"
    language_name = "agentos"
    file_extension = ".aos"
    code_hello_world = "%%python\nprint('hello, world')"
    code_stderr = "%%python\nimport sys\nprint('error', file=sys.stderr)"
    completion_samples = (
        {"text": "%ses", "matches": {"%session"}},
        {"text": "%%py", "matches": {"%%python"}},
        {"text": "?stat", "matches": {"?status"}},
        {"text": "%session re", "matches": {"resume"}},
        {"text": "%dispatch ", "matches": {"run"}},
        {"text": "%help attac", "matches": {"attach"}},
        {"text": "fix the bu", "matches": set()},
        {"text": "%%python\nimport zipfi", "matches": {"zipfile"}},
    )
    complete_code_samples = (
        "fix the bug",
        "why?",
        "!ls",
        "%session",
        "",
        "%%python\nx = 1\n",
        "%%bash\nls\n",
        "!ls \\\n  -la",
    )
    incomplete_code_samples = ("%%bash", "%%bash\nls", "%%python\nfor i in range(3):\n", "%%python\nx = 1", "!ls \\")
    code_page_something = "%%python\nzip?"
    code_generate_error = "%%python\nraise ValueError('x')"
    code_execute_result = (
        {"code": "%%python\n6 * 7", "result": "42"},
        {"code": "%%python\n1 + 1", "result": "2"},
    )
    code_display_data = (
        {"code": "%%python\nfrom IPython.display import HTML, display; display(HTML('<b>x</b>'))", "mime": "text/html"},
        {"code": "%help", "mime": "text/html"},
    )
    code_history_pattern = "%%python\n1?*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "%%python\nzip"
    code_clear_output = "%%python\nfrom IPython.display import clear_output; clear_output()"


def test_the_kernelspec_is_installed_with_its_icons() -> None:
    spec = KernelSpecManager().get_kernel_spec("agentos")
    assert spec.display_name == "AgentOS"
    assert spec.language == "agentos"
    assert spec.interrupt_mode == "message"
    assert {"kernel.json", "logo-64x64.png", "logo-svg.svg"} <= set(os.listdir(spec.resource_dir))


def test_a_started_kernel_has_imported_nothing_heavy(notebook: Notebook) -> None:
    heavy = [
        "pydantic",
        "duckdb",
        "litellm",
        "nbformat",
        "papermill",
        "yaml",
        "debugpy",
        "aiohttp",
        "agentos_jupyter.microkernel",
    ]
    asked = notebook.run("", user_expressions={"heavy": f"[m for m in {heavy} if m in __import__('sys').modules]"})
    assert asked.reply["user_expressions"]["heavy"]["data"]["text/plain"] == "[]"


def test_debugpy_can_still_be_imported(notebook: Notebook) -> None:
    pytest.importorskip("debugpy")
    assert notebook.run("%%python\nimport debugpy; debugpy.__name__").answer == "'debugpy'"


def test_language_info_names_our_own_language(notebook: Notebook) -> None:
    notebook.client.kernel_info()
    info = notebook.client.get_shell_msg(timeout=10)["content"]
    assert info["language_info"]["mimetype"] == "text/x-agentos"
    assert info["language_info"]["file_extension"] == ".aos"
    assert "debugger" not in info["supported_features"]


def test_counts_and_history_are_those_of_all_cells(notebook: Notebook) -> None:
    assert notebook.run("%%python\n41 + 1").of("execute_result")[0]["execution_count"] == 1
    assert notebook.run("%help").reply["execution_count"] == 2
    assert notebook.run("%nonsense").reply["execution_count"] == 3
    assert notebook.run("   ").reply["execution_count"] == 4
    assert notebook.run("%%python\n1").reply["execution_count"] == 4
    assert notebook.run("%%python\nIn[1], In[2], In[3], Out[1], _4").answer.startswith(
        "('41 + 1', '%help', '%nonsense', 42, 1)"
    )
    shown = notebook.run("%%python\n%history -n 1-3").text
    assert "%help" in shown
    notebook.client.history(hist_access_type="tail", n=3, raw=True)
    history = notebook.client.get_shell_msg(timeout=10)["content"]["history"]
    assert history[0][2] == "%%python\n1"


def test_store_history_false_leaves_no_trace(notebook: Notebook) -> None:
    assert notebook.run("%help", store_history=False).reply["execution_count"] == 1
    assert notebook.run("%%python\n1", store_history=False).reply["status"] == "ok"
    assert notebook.run("%%python\nIn").answer == "['', 'In']"


def test_a_silent_execute_is_python_and_shows_nothing(notebook: Notebook) -> None:
    silent = notebook.run("x = 3\nfix_the_bug = 4", silent=True, user_expressions={"x": "x"})
    assert silent.reply["status"] == "ok"
    assert silent.reply["user_expressions"]["x"]["data"]["text/plain"] == "3"
    assert silent.messages == []
    assert notebook.run("please fix the bug", silent=True).reply["ename"] == "SyntaxError"
    assert notebook.run("%%python\ny = x + 1", silent=True).reply["status"] == "ok"
    assert notebook.run("%%python\ny").answer == "4"


def test_a_python_cell_is_full_ipython(notebook: Notebook) -> None:
    assert notebook.run("%%python\nimport asyncio\nawait asyncio.sleep(0, 'waited')").answer == "'waited'"
    assert "Wall time" in notebook.run("%%python\n%%time\nx = 5").text
    assert notebook.run("%%python\nx").answer == "5"
    assert notebook.run("%%python\n!echo from ipython").text.strip() == "from ipython"
    assert "In[5], line 2" in "".join(notebook.run("%%python\ny = 0\n1 / y").reply["traceback"]).replace(
        "\x1b[39m", ""
    ).replace("\x1b[36m", "").replace("\x1b[32m", "")
    assert notebook.run("%%python\naos").answer.startswith("<aos: client of the AgentOS daemon")
    assert notebook.run("%%python\n%reset -f\naos.last").reply["status"] == "ok"


def test_input_in_a_python_cell_is_asked_of_the_person(notebook: Notebook) -> None:
    request = notebook.begin("%%python\ninput('name? ')")
    assert notebook.client.get_stdin_msg(timeout=10)["content"]["prompt"] == "name? "
    notebook.client.input("Ada")
    assert notebook.end(request).answer == "'Ada'"
    assert notebook.run("%%python\ninput()", allow_stdin=False).error[0] == "StdinNotImplementedError"


def test_parameters_are_python_variables(notebook: Notebook) -> None:
    assert notebook.run("%%parameters\n# for the run\ncity: Berlin\nlimits: {n: 3}\nnone:").reply["status"] == "ok"
    assert notebook.run("%%python\ncity, limits, none").answer == "('Berlin', {'n': 3}, None)"
    code, sentence = notebook.run("%%parameters\na: [1").error
    assert code == "command.invalid"
    assert "line 1" in sentence or "line 2" in sentence


def test_an_unknown_command_names_the_nearest(notebook: Notebook) -> None:
    cell = notebook.run("%sesion")
    assert cell.error == ("command.invalid", cell.error[1])
    assert "did you mean 'session'?" in cell.error[1]
    assert len(cell.of("error")[0]["traceback"]) == 1
    assert "File " not in cell.of("error")[0]["traceback"][0]


def test_stop_on_error(notebook: Notebook) -> None:
    failing, after = notebook.begin("%%bash\nsleep 0.5; false"), notebook.begin("%%python\nran = True")
    assert notebook.end(failing).error[0] == "command.failed"
    assert notebook.reply(after)["content"]["status"] == "aborted"
    failing, after = notebook.begin("%nonsense", stop_on_error=False), notebook.begin("%%python\n'ran'")
    assert notebook.end(failing).error[0] == "command.invalid"
    assert notebook.end(after).answer == "'ran'"


@pytest.mark.parametrize("how", ["message", "signal"])
def test_blocking_python_is_interrupted(notebook: Notebook, how: str) -> None:
    request = notebook.begin("%%python\nprint('begun', flush=True)\nimport time; time.sleep(60)")
    notebook.wait_for(request, "begun")
    time.sleep(0.3)  # an interrupt that meets `print` itself may be lost in it, in any IPython kernel
    started = time.monotonic()
    if how == "message":
        notebook.manager.interrupt_kernel()
    else:
        notebook.manager.signal_kernel(2)
    assert notebook.end(request).error[0] in ("KeyboardInterrupt", "Interrupted")
    assert time.monotonic() - started < 3
    assert notebook.run("%%python\n1").answer == "1"


def test_awaiting_python_is_interrupted(notebook: Notebook) -> None:
    request = notebook.begin("%%python\nprint('begun', flush=True)\nimport asyncio; await asyncio.sleep(60)")
    notebook.wait_for(request, "begun")
    notebook.manager.interrupt_kernel()
    assert notebook.end(request).error[0] in ("CancelledError", "KeyboardInterrupt")


def test_an_interrupt_of_an_idle_kernel_is_harmless(notebook: Notebook) -> None:
    notebook.manager.interrupt_kernel()
    time.sleep(0.3)  # it is only sent by now, and must not meet the next cell
    assert notebook.run("%%python\n1").answer == "1"


def test_help_on_commands_and_python(notebook: Notebook) -> None:
    def asked(code: str, position: int | None = None) -> dict[str, Any]:
        return dict(notebook.reply(notebook.client.inspect(code, position))["content"])

    assert "%session resume ID" in asked("%session", 3)["data"]["text/plain"]
    assert "%%sql NAME" in asked("%%sql\nselect 1", 10)["data"]["text/plain"]
    assert asked("a prompt", 3) == {"status": "ok", "found": False, "data": {}, "metadata": {}}
    assert "zip" in asked("%%python\nzip", 12)["data"]["text/plain"]
    assert "%%sql NAME" in notebook.run("?sql").text
    assert "%session" in notebook.run("%help").text
    assert "did you mean" in notebook.run("?statu").error[1]


def test_fields_are_completed(notebook: Notebook) -> None:
    notebook.run("%%parameters\ncity: Berlin")
    reply = notebook.reply(notebook.client.complete("go to {{ci", 10))["content"]
    assert (reply["matches"], reply["cursor_start"]) == (["city"], 8)


def test_the_kernel_starts_about_as_fast_as_ipykernel(workspace: Path) -> None:
    """A coarse guard against a heavy import; the measure itself is in the benchmarks."""

    def start(name: str) -> float:
        began = time.perf_counter()
        manager, client = start_new_kernel(
            kernel_name=name, cwd=str(workspace), env={**os.environ, "AGENTOS_WORKSPACE": str(workspace)}
        )
        took = time.perf_counter() - began
        client.stop_channels()
        manager.shutdown_kernel()
        return took

    ours, theirs = min(start("agentos") for _ in range(3)), min(start("python3") for _ in range(3))
    assert ours < 1.5 * theirs, f"{ours:.2f} s, ipykernel {theirs:.2f} s"


def test_an_unusable_workspace_is_said_in_the_first_cell_that_needs_it(open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook(AGENTOS_WORKSPACE="/nowhere/at/all")
    assert notebook.run("%%python\n1").answer == "1"
    code, sentence = notebook.run("fix the bug").error
    assert code == "workspace.refused"
    assert "/nowhere/at/all" in sentence


def test_the_kernel_module_alone_imports_no_daemon() -> None:
    code = "import sys, agentos_jupyter.jupyter.kernel; "
    code += "print([m for m in sys.modules if m.startswith(('agentos_jupyter.microkernel', 'pydantic'))])"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
    )
