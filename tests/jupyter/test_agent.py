"""An agent at work in cells: a real daemon, sandbox and log; only the model is scripted."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.jupyter.display import Step

from .conftest import Notebook

Configure = Callable[..., Path]
Script = Callable[..., str]
Open = Callable[..., Notebook]

BASH = {"call": "bash"}


def _bash(command: str) -> list[dict[str, Any]]:
    return [{"bash": {"command": command}}]


@pytest.fixture
def rules(configure: Configure, script: Script) -> Callable[..., None]:
    """Give the workspace's agent these rules."""

    def write(*rules: dict[str, Any]) -> None:
        configure(model=script(list(rules)))

    return write


def test_a_prompt_runs_a_command_and_answers(rules: Callable[..., None], notebook: Notebook, workspace: Path) -> None:
    rules(
        {"when": "make it", "say": "I look first.", "calls": _bash("echo made > new.txt; cat new.txt")},
        {"when": "made", "say": "# Done\nIt is **made** <b>now</b>."},
    )
    cell = notebook.run("make it")
    assert cell.reply["status"] == "ok"
    assert (workspace / "new.txt").read_text() == "made\n"
    [result] = cell.of("execute_result")
    assert result["data"]["text/markdown"].startswith("# Done\nIt is **made** &lt;b>now&lt;/b>.\n\n*scripted model (")
    assert "scripted model" in cell.answer
    banner, said, command, summary = (each["data"]["text/plain"] for each in cell.shown)
    assert banner.startswith("New session ")
    assert "scripted model (model.yaml)" in banner
    assert str(workspace) in banner
    assert said == "I look first."
    assert command.startswith("$ echo made > new.txt; cat new.txt")
    assert command.endswith("\nmade")
    assert "2 turns · 1 command" in summary
    assert "scripted model" in summary
    assert "+new.txt" in summary
    assert "<details><summary><span>$</span> echo made &gt; new.txt; cat new.txt" in cell.html
    metadata = result["metadata"]["agentos"]
    assert set(metadata) == {"session", "dispatch", "from", "to", "harness"}
    assert 0 < metadata["from"] < metadata["to"]
    assert all(each["metadata"]["agentos"]["dispatch"] == metadata["dispatch"] for each in cell.shown[1:])
    assert notebook.run("%%python\naos.last").answer.startswith("'# Done")
    assert notebook.run("%%python\naos.session").answer == repr(metadata["session"])
    assert notebook.run("%%python\n_3 is _, _1 is Out[1], _1[:6]").answer == "(True, True, '# Done')"


def test_a_text_of_several_lines_is_said_once_in_plain_text() -> None:
    step = Step("I look.")
    step.finish(body="I look.\nThen I act.")
    assert step.plain() == "I look.\nThen I act."
    assert "<summary>I look.</summary>" in step.html()


def test_parameters_fill_a_prompt_once(rules: Callable[..., None], notebook: Notebook) -> None:
    rules({"when": r"^go to Berlin \{\{x\}\}$", "say": "gone"}, {"when": "", "say": "no"})
    notebook.run("%%parameters\ncity: Berlin {{x}}")
    assert notebook.run("go to {{city}}").answer.startswith("gone")
    code, sentence = notebook.run("go to {{citi}}").error
    assert code == "command.invalid"
    assert "did you mean 'city'?" in sentence


def test_the_persons_command_runs_in_the_agents_sandbox_and_the_agent_sees_it(
    rules: Callable[..., None], notebook: Notebook
) -> None:
    rules({"when": "", "say": "yes"})
    assert notebook.run("!cd /tmp && pwd; echo $HOME").text.splitlines()[1] == "/tmp"
    assert notebook.run("%%bash\nexport A='x y'\nf() { echo \"f: $A\"; }").reply["status"] == "ok"
    assert notebook.run("!f; pwd").text.strip() == "f: x y\n/tmp"
    failed = notebook.run("!echo out; exit 3")
    assert failed.reply["status"] == "ok"
    assert failed.text == "out\n[exit code 3]"
    strict = notebook.run("%%bash\necho out\nexit 3")
    assert strict.error == ("command.failed", "The command ended with exit code 3.")
    assert "out" in strict.text
    notebook.run("what did I do?")
    context = notebook.run("%%python\nstr(aos.call('context.get', {'session': aos.session}))").answer
    assert "f: x y" in context


def test_unicode_binary_and_markup_in_output(rules: Callable[..., None], notebook: Notebook) -> None:
    rules({"when": "", "say": "ok"})
    cell = notebook.run(
        "%%bash\nprintf 'straße 日本 🎉\\n'; printf '\\x00\\xff\\x1b[31mred\\x1b]0;t\\x07\\n'; echo '<script>alert(1)</script>'"
    )
    assert "straße 日本 🎉" in cell.text
    assert "\x1b" not in cell.text
    assert "\x00" not in cell.text
    assert "<script" not in cell.html
    assert "&lt;script&gt;" in cell.html


def test_a_nul_in_a_cell_is_said(rules: Callable[..., None], notebook: Notebook) -> None:
    rules({"when": "", "say": "ok"})
    assert "Line 2 of the cell holds a NUL" in notebook.run("a\nb\0c").error[1]
    assert "NUL" in notebook.run("!echo \0x").error[1]
    assert notebook.run("%%python\nx = '\0'").reply["status"] == "error"


def test_an_error_is_its_name_and_its_sentence(configure: Configure, notebook: Notebook) -> None:
    configure(model="nonsense:x")
    cell = notebook.run("do it")
    code, sentence = cell.error
    assert code.startswith("model.") or code == "config.invalid"
    assert "nonsense" in sentence
    assert "Traceback" not in "".join(cell.of("error")[0]["traceback"])


def test_a_limit_ends_the_cell_with_an_error_and_its_metadata(
    configure: Configure, script: Script, notebook: Notebook
) -> None:
    configure(model=script([{"when": "", "say": "again", "calls": _bash("true")}]), limits={"turns": 3})
    cell = notebook.run("for ever")
    code, sentence = cell.error
    assert code == "budget.exceeded"
    assert "3 turns" in sentence
    kinds = [message["msg_type"] for message in cell.messages]
    assert kinds[-2:] == ["display_data", "error"]
    empty = cell.messages[-2]["content"]
    assert empty["data"] == {"text/plain": ""}
    assert set(empty["metadata"]["agentos"]) >= {"session", "dispatch", "from", "to"}
    assert any("stopped at a limit" in each["data"]["text/plain"] for each in cell.shown)


def test_many_steps_stay_within_fifty_outputs(configure: Configure, script: Script, notebook: Notebook) -> None:
    configure(
        model=script(
            [
                {"when": "go", "say": "begin", "calls": [{"bash": {"command": f"echo step {n}"}} for n in range(120)]},
                {"when": {"role": "tool"}, "say": "end"},
            ]
        ),
        limits={"calls": 200},
    )
    cell = notebook.run("go", timeout=60)
    assert cell.answer.startswith("end")
    assert len(cell.shown) <= 50
    assert "earlier steps" in cell.shown[0]["data"]["text/plain"]
    assert "$ echo step 3" in cell.shown[0]["data"]["text/plain"]
    assert "step 119" in cell.text
    assert sum(len(str(message["content"])) for message in cell.messages) < 1_000_000


def test_a_flood_of_output_is_shown_by_its_tail_ten_times_a_second(
    rules: Callable[..., None], notebook: Notebook
) -> None:
    rules({"when": "", "say": "ok"})
    started = time.monotonic()
    cell = notebook.run("!for i in $(seq 300000); do echo line $i; done", timeout=60)
    took = time.monotonic() - started
    drawn = cell.of("display_data", "update_display_data")
    assert len(drawn) <= 10 * took + 4
    assert max(len(str(each["data"])) for each in drawn) < 60_000
    assert "line 300000" in cell.text


def test_a_terminal_gets_each_step_once(rules: Callable[..., None], notebook: Notebook) -> None:
    rules(
        {"when": "go", "say": "First.", "calls": _bash("echo one; sleep 0.5; echo two")}, {"when": "two", "say": "end"}
    )
    cell = notebook.run("go", cell_id=None)
    assert cell.of("update_display_data") == []
    assert [each["data"]["text/plain"].splitlines()[-1] for each in cell.of("display_data")][1:3] == ["First.", "two"]


def test_sessions_are_named_resumed_and_listed(rules: Callable[..., None], open_notebook: Open) -> None:
    rules({"when": "", "say": "ok"})
    first = open_notebook(JPY_SESSION_NAME="/somewhere/analysis.ipynb")
    assert "no session yet" in first.run("%session").text
    first.run("hello")
    assert "analysis" in first.run("%session").text
    session = first.run("%%python\naos.session").answer.strip("'")
    assert "New session other" in first.run("%session other").text
    assert "Going on with session analysis" in first.run("%session analysis").text
    listed = first.run("%session list").text
    assert session in listed
    assert "other" in listed
    assert "New session third" in first.run("%session new third").text
    assert "written:" in first.run("%session resume a b").error[1]
    assert first.run("%session resume nobody").error[0] == "session.not_found"
    second = open_notebook()
    assert session in second.run(f"%session resume {session[:-1]}").text
    assert "1 turn so far" in second.run(f"%session resume {session}").text
    completed = second.reply(second.client.complete(f"%session resume {session[:6]}"))["content"]["matches"]
    assert session in completed
    assert second.run("%runs 5").text.count("prompt      1") == 1
    assert "not 'x'" in second.run("%runs x").error[1]


def test_status_says_what_works_here(rules: Callable[..., None], notebook: Notebook, workspace: Path) -> None:
    rules({"when": "", "say": "ok"})
    text = notebook.run("%status").text
    assert str(workspace) in text
    assert "scripted model" in text
    assert re.search(r"^sandbox +namespaces", text, re.MULTILINE)


def test_sql_shows_a_table_and_binds_rows(rules: Callable[..., None], notebook: Notebook) -> None:
    rules({"when": "", "say": "ok"})
    notebook.run("!echo '<b>x</b>'")
    cell = notebook.run("%%sql\nselect type, '<i>' as mark from events order by position limit 2")
    [result] = cell.of("execute_result")
    cells = re.findall("<td[^>]*>(.*?)</td>", result["data"]["text/html"])
    assert cells[:2] == ["session.created", "&lt;i&gt;"]
    assert result["data"]["text/plain"].splitlines()[2].split() == ["session.created", "<i>"]
    bound = notebook.run("%%sql rows <<\nselect count(*) as n from events")
    assert bound.messages == []
    assert notebook.run("%%python\nint(rows['n'][0]) if hasattr(rows, 'columns') else rows[0]['n']").answer.isdecimal()
    code, _ = notebook.run("%%sql\ndelete from events").error
    assert code == "sql.refused"
    assert notebook.run("%%python\naos.sql('select 1 as one')").answer == "[{'one': 1}]"


def test_an_interrupt_stops_a_model_call_at_once(rules: Callable[..., None], notebook: Notebook) -> None:
    rules({"when": "talk", "say": "word " * 400, "delay": 0.1}, {"when": "", "say": "ok"})
    request = notebook.begin("talk")
    notebook.wait_for(request, "word word")
    queued = notebook.begin("%%python\n1")
    started = time.monotonic()
    notebook.manager.interrupt_kernel()
    cell = notebook.end(request)
    assert time.monotonic() - started < 2
    assert cell.error[0] == "Interrupted"
    assert "You interrupted this cell" in cell.of("error")[0]["traceback"][0]
    assert notebook.reply(queued)["content"]["status"] == "aborted"
    assert "interrupted" in notebook.run("%runs").text
    assert (
        "session.interrupted" in notebook.run("%%sql\nselect type from events where type = 'session.interrupted'").text
    )
    assert notebook.run("and now?").answer.startswith("ok")


@pytest.mark.parametrize("how", ["message", "signal"])
def test_an_interrupt_kills_the_command_and_all_it_started(
    rules: Callable[..., None], notebook: Notebook, workspace: Path, how: str
) -> None:
    rules(
        {
            "when": "run",
            "say": "",
            "calls": _bash("(while :; do date > alive; sleep 0.1; done) & sleep 0.3; echo be''gun; sleep 60"),
        },
        {"when": "", "say": "ok"},
    )
    request = notebook.begin("run")
    notebook.wait_for(request, "begun")
    started = time.monotonic()
    if how == "message":
        notebook.manager.interrupt_kernel()
    else:
        notebook.manager.signal_kernel(2)
    cell = notebook.end(request)
    assert time.monotonic() - started < 3
    assert cell.error[0] == "Interrupted"
    assert any("killed" in each["data"]["text/plain"] for each in cell.shown)
    before = (workspace / "alive").stat().st_mtime_ns
    time.sleep(0.5)
    assert (workspace / "alive").stat().st_mtime_ns == before
    assert notebook.run("!echo still here").text.strip() == "still here"


def test_another_client_interrupts(rules: Callable[..., None], open_notebook: Open) -> None:
    rules({"when": "run", "say": "", "calls": _bash("echo be''gun; sleep 60")}, {"when": "", "say": "ok"})
    one, two = open_notebook(), open_notebook()
    request = one.begin("run")
    one.wait_for(request, "begun")
    two.run(
        "%%python\nsession = aos.call('session.list', {})['sessions'][0]['id']\naos.call('session.interrupt', {'session': session})"
    )
    assert one.end(request).error[0] == "Interrupted"


def test_a_widget_button_and_completion_work_while_an_agent_works(
    rules: Callable[..., None], notebook: Notebook
) -> None:
    pytest.importorskip("ipywidgets")
    rules({"when": "run", "say": "", "calls": _bash("echo be''gun; sleep 3")}, {"when": "", "say": "ok"})
    made = notebook.run(
        "%%python\nimport time\nfrom ipywidgets import Button\nclicks = []\nbutton = Button()\n"
        "button.on_click(lambda _: clicks.append(time.time()))\nbutton.comm.comm_id"
    )
    request = notebook.begin("run")
    notebook.wait_for(request, "begun")
    clicked = time.time()
    data = {"method": "custom", "content": {"event": "click"}}
    message = notebook.client.session.msg("comm_msg", {"comm_id": made.answer.strip("'"), "data": data})
    notebook.client.shell_channel.send(message)
    asked = time.monotonic()
    reply = notebook.reply(notebook.client.complete("%sess"))
    assert reply["content"]["matches"] == ["%session"]
    notebook.reply(notebook.client.kernel_info())
    assert time.monotonic() - asked < 1.5
    cell = notebook.end(request)
    assert cell.answer.startswith("ok")
    assert all(message["parent_header"]["msg_id"] == request for message in cell.messages)
    after = float(notebook.run("%%python\nclicks[0]").answer)
    assert after - clicked < 1.5


def test_two_notebooks_and_one_busy_session(rules: Callable[..., None], open_notebook: Open) -> None:
    rules({"when": "run", "say": "", "calls": _bash("echo be''gun; sleep 2")}, {"when": "", "say": "ok"})
    one, two = open_notebook(), open_notebook()
    request = one.begin("run")
    one.wait_for(request, "begun")
    assert two.run("hello").answer.startswith("ok")
    listed = two.run(
        "%%python\n[s['id'] for s in aos.call('session.list', {})['sessions'] if s['phase'] == 'dispatched'][0]"
    ).answer.strip("'")
    assert re.search(r"is held by .*`%attach d-", two.run(f"%session resume {listed}").text)
    code, sentence = two.run("me too").error
    assert code == "session.busy"
    assert "is at work for" in sentence
    assert one.end(request).answer.startswith("ok")
    assert two.run("me too").answer.startswith("ok")


def test_attach_shows_a_dispatch_again_after_a_restart(rules: Callable[..., None], notebook: Notebook) -> None:
    rules(
        {"when": "run", "say": "I run it.", "calls": _bash("echo seen; exit 2")}, {"when": "seen", "say": "It **ran**."}
    )
    first = notebook.run("run")
    dispatch = first.of("execute_result")[0]["metadata"]["agentos"]["dispatch"]
    notebook.manager.restart_kernel(now=True)
    notebook.client.wait_for_ready(timeout=30)
    again = notebook.run(f"%attach {dispatch}")
    assert again.answer == first.answer
    assert again.shown[0]["data"]["text/plain"] == f"{dispatch}: run"
    assert [each["data"]["text/html"] for each in again.shown[1:]] == [
        each["data"]["text/html"] for each in first.shown[1:]
    ]
    assert again.of("execute_result")[0]["metadata"] == first.of("execute_result")[0]["metadata"]
    assert notebook.run("%attach d-none").error[0] == "dispatch.not_found"
    completed = notebook.reply(notebook.client.complete("%attach d-"))["content"]["matches"]
    assert dispatch in completed


def test_attach_follows_a_running_dispatch_of_another_notebook(rules: Callable[..., None], open_notebook: Open) -> None:
    rules(
        {"when": "run", "say": "", "calls": _bash("echo be''gun; sleep 2; echo over")}, {"when": "over", "say": "done"}
    )
    one, two = open_notebook(), open_notebook()
    request = one.begin("run")
    one.wait_for(request, "begun")
    dispatch = two.run("%%python\naos.call('dispatch.list', {})['dispatches'][0]['id']").answer.strip("'")
    followed = two.run(f"%attach {dispatch}")
    assert followed.answer.startswith("done")
    assert "over" in followed.text
    assert one.end(request).answer.startswith("done")


def test_attach_shows_the_live_output_of_a_command_also_what_came_before(
    rules: Callable[..., None], open_notebook: Open
) -> None:
    command = "echo AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENGbPxRfiCYzzzzzzzzKEY1; echo ea''rly; sleep 3; echo la''te; sleep 4"
    rules({"when": "run", "say": "", "calls": _bash(command)}, {"when": "late", "say": "done"})
    one, two = open_notebook(), open_notebook()
    two.run("%status")
    request = one.begin("run")
    one.wait_for(request, "early")
    time.sleep(1)
    dispatch = two.run("%%python\naos.call('dispatch.list', {})['dispatches'][0]['id']").answer.strip("'")
    following = two.begin(f"%attach {dispatch}")
    two.wait_for(following, "early", timeout=2)
    two.wait_for(following, "late", timeout=4)
    cell = two.end(following)
    assert cell.answer.startswith("done")
    assert "wJalrXUtnFEMI" not in str(cell.messages)
    assert one.end(request).answer.startswith("done")


def test_attach_goes_on_after_the_daemon_was_killed_and_says_nothing_twice(
    rules: Callable[..., None], open_notebook: Open, workspace: Path
) -> None:
    rules(
        {"when": "run", "say": "First.", "calls": _bash("echo be''gun; sleep 2")},
        {"when": "begun", "say": "Second.", "calls": _bash("sleep 2; echo ov''er")},
        {"when": "over", "say": "done"},
    )
    one, two = open_notebook(), open_notebook()
    request = one.begin("run")
    one.wait_for(request, "begun")
    dispatch = two.run("%%python\naos.call('dispatch.list', {})['dispatches'][0]['id']").answer.strip("'")
    following = two.begin(f"%attach {dispatch}")
    two.wait_for(following, "be''gun")
    os.kill(json.loads((workspace / ".agentos" / "lock").read_text())["pid"], signal.SIGKILL)
    cell = two.end(following)
    assert cell.answer.startswith("done")
    heads = [each["data"]["text/plain"].splitlines()[0] for each in cell.shown]
    assert len(set(heads)) == len(heads) == 4, "nothing twice, but for what was shown before the kill"
    assert one.end(request).answer.startswith("done")


def test_attach_to_200_turns_takes_less_than_a_second(
    configure: Configure, script: Script, open_notebook: Open
) -> None:
    rules = [
        {"when": "^200 of", "say": "end"},
        {"when": "", "say": "I go on.", "calls": _bash("echo $((N+=1)) of the steps; export N")},
    ]
    configure(model=script(rules), limits={"turns": 300, "calls": 300})
    one, two = open_notebook(), open_notebook()
    dispatch = one.run("go", timeout=50).of("execute_result")[0]["metadata"]["agentos"]["dispatch"]
    two.run("%status")
    took = []
    for _ in range(3):
        started = time.monotonic()
        cell = two.run(f"%attach {dispatch}")
        took.append(time.monotonic() - started)
        assert cell.answer.startswith("end")
        assert "201 turns · 200 commands" in cell.text
    assert min(took) < 1


def test_a_killed_kernels_dispatch_is_continued_in_another(rules: Callable[..., None], open_notebook: Open) -> None:
    rules(
        {"when": "run", "say": "", "calls": _bash("echo be''gun; sleep 60")},
        {"when": "unknown whether", "say": "I looked."},
        {"when": "", "say": "ok"},
    )
    one = open_notebook()
    request = one.begin("run")
    one.wait_for(request, "begun")
    one.manager.signal_kernel(9)
    two = open_notebook()
    deadline = time.monotonic() + 10
    while "lost" not in (listed := two.run("%runs").text) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "lost" in listed
    dispatch = re.findall(r"d-\S+", listed)[0]
    assert f"`%dispatch run {dispatch}` continues it" in two.run(f"%session resume s-{dispatch.split('-')[1]}").text
    cell = two.run(f"%dispatch run {dispatch}")
    assert cell.answer.startswith("I looked.")


def test_keys_leave_the_kernels_environment(rules: Callable[..., None], open_notebook: Open) -> None:
    rules({"when": "", "say": "ok"})
    notebook = open_notebook(OPENROUTER_API_KEY="sk-or-v1-0123456789abcdef0123456789abcdef", OTHER="kept")
    assert notebook.run("hello").reply["status"] == "ok"
    assert (
        notebook.run("%%python\nimport os; [os.environ.get(n) for n in ('OPENROUTER_API_KEY', 'OTHER')]").answer
        == "[None, 'kept']"
    )


def test_a_secret_in_live_output_is_not_shown(rules: Callable[..., None], notebook: Notebook) -> None:
    rules({"when": "", "say": "ok"})
    cell = notebook.run("!echo ghp_012345678901234567890123456789abcdef; sleep 0.5; echo end")
    assert not any("ghp_0123" in str(message["content"]) for message in cell.messages)
    assert "[redacted:github-token]" in cell.text


def test_large_prompts_work_or_are_refused_with_a_sentence(
    configure: Configure, script: Script, notebook: Notebook
) -> None:
    configure(model=script([{"when": "", "say": "ok"}]))
    assert notebook.run("x" * 400_000).of("error", "execute_result") != []
    code, sentence = notebook.run("y" * 5_000_000, timeout=60).error
    assert code in ("budget.exceeded", "context.too_long")
    assert "limits" in sentence or "long" in sentence
    assert notebook.run("hello").reply["status"] in ("ok", "error")


def test_the_daemon_may_be_killed_between_and_during_cells(rules: Callable[..., None], notebook: Notebook) -> None:
    rules(
        {"when": "run", "say": "", "calls": _bash("echo be''gun; sleep 2; echo over")},
        {"when": "over", "say": "done"},
        {"when": "", "say": "ok"},
    )
    kill = "%%python\nimport os, signal\nos.kill(aos.call('system.info')['pid'], signal.SIGKILL)"
    assert notebook.run("hello").answer.startswith("ok")
    notebook.run(kill)
    assert notebook.run("hello").answer.startswith("ok")
    pid = int(notebook.run("%%python\naos.call('system.info')['pid']").answer)
    request = notebook.begin("run")
    notebook.wait_for(request, "begun")
    import os

    os.kill(pid, 9)
    assert notebook.end(request).answer.startswith("done")


def test_a_server_that_stays_down_is_said_once(configure: Configure, open_notebook: Open) -> None:
    url = "http://127.0.0.1:9/v1"
    configure(
        model="local/m",
        providers={"local": {"base_url": url}},
        limits={"attempts": 3, "backoff": "10ms", "backoff_max": "20ms"},
    )
    cell = open_notebook(AGENTOS_TRUST="1").run("hello")
    assert cell.error[0] == "model.unavailable"
    told = [
        each["data"]["text/plain"]
        for each in cell.shown
        if "9/v1" in each["data"]["text/plain"] or "attempt" in each["data"]["text/plain"]
    ]
    assert len(told) == 1, told
    assert re.search(r"\(\d times\)$", told[0])
