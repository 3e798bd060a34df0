"""`%load_ext agentos_jupyter` in plain Python notebooks and in IPython's terminal: the same commands, as magics."""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

from agentos_jupyter.jupyter.table import COMMANDS

from .conftest import Notebook

Rules = Callable[..., None]


class PythonNotebook(Notebook):
    """A kernel of plain Python, with the extension."""

    def __init__(self, workspace: Path, environ: dict[str, str]) -> None:
        place = Path(os.environ["XDG_RUNTIME_DIR"]) / secrets.token_hex(4)
        self.manager = KernelManager(transport="ipc", ip=str(place))
        self.manager._kernel_spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python"
        )
        self.manager.start_kernel(cwd=str(workspace), env=environ)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=30)


@pytest.fixture
def plain(workspace: Path) -> Iterator[PythonNotebook]:
    environ = {**os.environ, "AGENTOS_WORKSPACE": str(workspace), "OPENAI_API_KEY": "sk-test-of-the-extension"}
    notebook = PythonNotebook(workspace, environ)
    yield notebook
    notebook.close()


@pytest.fixture
def python(plain: PythonNotebook) -> PythonNotebook:
    loaded = plain.run("%load_ext agentos_jupyter")
    assert loaded.reply["status"] == "ok", loaded.reply
    return plain


@pytest.fixture
def rules(configure: Callable[..., Path], script: Callable[..., str]) -> Rules:
    def write(*rules: dict[str, Any]) -> None:
        configure(model=script(list(rules)))

    return write


def _bash(command: str) -> list[dict[str, Any]]:
    return [{"bash": {"command": command}}]


def test_a_prompt_streams_its_steps_and_its_answer_is_text(rules: Rules, python: PythonNotebook) -> None:
    rules(
        {"when": "go to Berlin", "say": "I look.", "calls": _bash("echo se''en")},
        {"when": "seen", "say": "It is **there**."},
    )
    python.run("city = 'Berlin'")
    cell = python.run("%%agent\ngo to {{city}}")
    assert cell.reply["status"] == "ok"
    [result] = cell.of("execute_result")
    assert result["data"]["text/markdown"].startswith("It is **there**.")
    assert set(result["metadata"]["agentos"]) == {"session", "dispatch", "from", "to", "harness"}
    assert "New session" in cell.text
    assert "$ echo se''en" in cell.text
    assert "<details>" in cell.html
    assert python.run("_ == aos.last == 'It is **there**.', isinstance(_, str)").answer == "(True, True)"


def test_each_command_of_the_table_is_a_magic(python: PythonNotebook) -> None:
    for name, entry in COMMANDS.items():
        for mark in {usage.partition(name)[0] for usage in entry.usage} & {"%", "%%"}:
            kind = "line" if mark == "%" else "cell"
            found = python.run(f"get_ipython().find_magic({name!r}, {kind!r}).__module__").answer
            ours = found == "'agentos_jupyter.jupyter.extension'"
            assert ours or name in ("bash", "python"), f"{mark}{name} is {found}"
    assert "workspace" in python.run("%status").text
    assert "%%agent [NAME <<]" in python.run("%help agent").text
    assert python.run("%runs 5").reply["status"] == "ok"
    assert python.run("%%sql\nselect 41 + 1 as n").of("execute_result")[0]["data"]["text/html"].startswith("<table>")
    python.run("%%sql rows <<\nselect 41 + 1 as n")
    assert "42" in python.run("rows").answer


def test_ipythons_own_names_stay_and_are_reached_behind_aos(rules: Rules, python: PythonNotebook) -> None:
    rules({"when": "", "say": "ok"})
    assert python.run("!echo outside; echo $AGENTOS_WORKSPACE").text.splitlines()[-1] != ""
    assert "OPENAI_API_KEY=sk-test" in python.run("%%bash\nenv | grep OPENAI").text
    inside = python.run("%%aos bash\nenv | grep -c OPENAI; pwd").text
    assert inside.splitlines()[-2] == "0"
    again = python.run("%%agent --bash\necho $((6*7))").text
    assert again.strip().endswith("42")
    assert python.run("%%agent --bash\nexit 3").error[0] == "CommandFailed"
    assert "is Python already" in python.run("%%aos python\n1").error[1]
    listing = python.run("%aos").text
    assert "%%aos bash" in listing
    assert "%%agent " in listing
    assert "%%python" not in listing


def test_a_name_another_extension_took_is_left_alone(plain: PythonNotebook) -> None:
    plain.run("from IPython.core.magic import register_cell_magic, register_line_magic")
    plain.run("@register_cell_magic\ndef sql(line, cell): return 'theirs'")
    plain.run("aos = 'mine'")
    plain.run("%load_ext agentos_jupyter")
    assert plain.run("%%sql\nselect 1").answer == "'theirs'"
    assert "1" in plain.run("%%aos sql\nselect 1 as one").of("execute_result")[0]["data"]["text/plain"]
    assert "%%aos sql" in plain.run("%aos").text
    assert plain.run("aos").answer == "'mine'"
    assert plain.run("%unload_ext agentos_jupyter").reply["status"] == "ok"
    assert plain.run("aos").answer == "'mine'"
    assert plain.run("%%sql\nselect 1").answer == "'theirs'"


def test_unloading_takes_everything_away_again(rules: Rules, python: PythonNotebook) -> None:
    rules({"when": "", "say": "ok"})
    assert python.run("%%agent\nhello").answer.startswith("ok")
    before = "sorted(t.name for t in __import__('threading').enumerate())"
    assert "agentos" in python.run(before).answer
    python.run("%unload_ext agentos_jupyter")
    assert "'agentos'" not in python.run(before).answer
    assert "not found" in python.run("%%agent\nhello").text
    assert python.run("'aos' in globals()").answer == "False"
    python.run("%load_ext agentos_jupyter")
    assert python.run("%%agent\nhello").answer.startswith("ok")


def test_errors_are_a_sentence(rules: Rules, python: PythonNotebook) -> None:
    rules({"when": "", "say": "ok"})
    cell = python.run("%%agent modl=x\nhello")
    assert cell.error[0] == "CommandError"
    assert "did you mean 'model'?" in cell.error[1]
    assert len(cell.of("error")[0]["traceback"]) == 1
    assert python.run(
        "try:\n    get_ipython().run_line_magic('attach', 'd-none')\nexcept Exception as e: print(e.code)"
    ).text == ("dispatch.not_found\n")


@pytest.mark.parametrize("how", ["message", "signal"])
def test_an_interrupt_ends_the_command_at_once(rules: Rules, python: PythonNotebook, how: str) -> None:
    rules({"when": "run", "say": "", "calls": _bash("echo be''gun; sleep 60")}, {"when": "", "say": "ok"})
    request = python.begin("%%agent\nrun")
    python.wait_for(request, "begun")
    started = time.monotonic()
    if how == "signal":
        python.manager.interrupt_kernel()
    else:
        python.client.control_channel.send(python.client.session.msg("interrupt_request", {}))
    cell = python.end(request)
    assert time.monotonic() - started < 5
    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert "You interrupted this cell" in "".join(cell.reply["traceback"])
    assert python.run("%%agent\nhello").answer.startswith("ok")
    assert "interrupted" in python.run("%runs 2").text


def test_tab_completes_inside_the_magics(rules: Rules, python: PythonNotebook) -> None:
    rules({"when": "", "say": "ok"})
    python.run("city = 'Berlin'")
    python.run("%%agent\nhello")

    def completed(code: str) -> set[str]:
        reply = python.reply(python.client.complete(code))["content"]
        return {code[: reply["cursor_start"]] + match for match in reply["matches"]}

    assert "%session resume" in completed("%session res")
    assert "%aos session resume" in completed("%aos session res")
    assert "x = 1\n%session resume" in completed("x = 1\n%session res")
    assert "%%agent\nlook at {{city" in completed("%%agent\nlook at {{ci")
    assert any(match.startswith("%attach d-") for match in completed("%attach d"))
    assert "import zipfile" in completed("import zipfi")


def test_a_terminal_prints_the_steps_as_text(rules: Rules, workspace: Path) -> None:
    rules({"when": "go", "say": "I look.", "calls": _bash("echo se''en")}, {"when": "seen", "say": "It is there."})
    environ = {**os.environ, "AGENTOS_WORKSPACE": str(workspace), "TERM": "dumb"}
    command = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=nocolor"]
    terminal = pexpect.spawn(sys.executable, command, env=environ, cwd=str(workspace), encoding="utf-8", timeout=30)
    try:
        terminal.expect(re.escape("In [1]: "))
        terminal.sendline("%load_ext agentos_jupyter")
        terminal.expect(re.escape("In [2]: "))
        terminal.sendline("%aos status")
        terminal.expect("workspace")
        terminal.expect(re.escape("In [3]: "))
        terminal.sendline("get_ipython().run_cell_magic('agent', '', 'go')")
        terminal.expect("seen")
        terminal.expect(r"Out\[3\]: \r?\n?It is there\.")
        terminal.expect(re.escape("In [4]: "))
        terminal.sendline("exit")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
