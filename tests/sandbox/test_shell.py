"""A fresh bash for each command that continues where the last one left off, whatever that one did."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agentos_jupyter.sandbox import Limits, Sandbox, Tier
from agentos_jupyter.sandbox.box import STATE_KEPT, STATE_RESET


async def said(box: Sandbox, command: str) -> str:
    return (await box.run(command)).head_tail.decode()


async def test_folder_variables_and_functions_are_carried(box: Sandbox) -> None:
    first = await box.run(
        "mkdir sub; cd sub; export A='x \"y\" $z' B=$'two\\nlines'; f() { echo \"f $1\"; }; export -f f; plain=1"
    )
    assert (first.status, first.exit_code, first.notes) == ("ok", 0, ())
    assert await said(box, "pwd; echo \"$A|$B|${plain-gone}\"; f 1; bash -c 'f 2'; cd - >/dev/null; pwd") == (
        f'{box.root}/sub\nx "y" $z|two\nlines|gone\nf 1\nf 2\n{box.root}\n'
    )


async def test_what_is_unset_stays_unset(box: Sandbox) -> None:
    await box.run("unset LANG; unset -f f")
    assert await said(box, "echo ${LANG-gone}") == "gone\n"


async def test_nothing_of_the_machinery_is_left_in_the_shell(box: Sandbox) -> None:
    assert await said(box, "compgen -v | grep agentos; declare -F; ls /proc/$$/fd") == "0\n1\n2\n"


ACCIDENTS = {
    # name: (command, exit code, part of the output, whether the state is carried)
    "unmatched quote": ("echo 'abc", 2, "unexpected EOF", True),
    "heredoc": ("cat <<END\nhello", 0, "hello", True),
    "syntax error": ("if true; then", 2, "syntax error", True),
    "exit": ("exit 3", 3, "", True),
    "exec": ("exec echo replaced", 0, "replaced", False),
    "exec failing": ("exec /nonexistent", 127, "No such file", False),
    "set -e": ("set -e; false; echo not reached", 1, "", True),
    "set -u": ('set -u; echo "$missing"', 127, "unbound", True),
    "reads its input": ('read line; echo "[$line]"; cat', 0, "[]", True),
    "own exit trap": ("trap 'echo bye' EXIT; true", 0, "bye", True),
    "own exit trap, exit": ("trap 'echo bye' EXIT; exit 5", 5, "bye", False),
    "kill": ("kill $$; sleep 5", 143, "", True),
    "kill -9": ("kill -9 $$; sleep 5", 137, "", False),
    "kill all": ("kill -9 -1; exit 9", None, "", None),
    "noexec": ("set -n\necho not reached", 0, "", False),
    "closed output": ("exec >&- 2>&-; echo x", 1, "", True),
    "noclobber, noglob": ("set -Cf; true", 0, "", True),
    "return": ("return 4", 2, "", True),
    "background": ("sleep 60 & disown; echo started", 0, "started", True),
    "stops itself in a child": ("(kill -STOP $BASHPID) & echo on", 0, "on", True),
    "signals to the supervisor": ("kill -9 1; kill -INT 1; kill -TERM 1; kill -STOP 1; kill -CHLD 1; echo on", 0, "on", True),
    "empty": ("", 0, "", True),
    "comment": ("# nothing", 0, "", True),
    "no newline, binary": ("printf '\\377\\000\\376'", 0, "", True),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCIDENTS)
async def test_an_accident_ends_the_command_and_not_the_session(box: Sandbox, name: str) -> None:
    command, code, part, carried = ACCIDENTS[name]
    await box.run("export KEPT=yes; cd /tmp; g() { :; }")
    began = time.monotonic()
    outcome = await box.run(command)
    assert time.monotonic() - began < 4
    if code is not None:
        assert outcome.exit_code == code
        assert outcome.status == ("ok" if code == 0 else "failed")
    assert part in outcome.head_tail.decode(errors="replace")
    assert "not reached" not in outcome.head_tail.decode(errors="replace")
    if carried is not None:
        assert (STATE_KEPT not in outcome.notes) == carried
    assert await said(box, "echo $KEPT $PWD; declare -F g; ps ax -o comm= | grep -c sleep") == "yes /tmp\ng\n0\n"


async def test_an_own_exit_trap_does_not_lose_the_state(box: Sandbox) -> None:
    await box.run("trap 'rm -f x' EXIT; cd /usr; export T=1")
    assert await said(box, "echo $T $PWD") == "1 /usr\n"


async def test_a_poisoned_snapshot_hurts_only_inside(box: Sandbox) -> None:
    await box.run("echo 'exit 7' >> /run/agentos/state; mkdir /run/agentos/next; ln -sf /etc/passwd /run/agentos/save")
    for _ in range(3):
        outcome = await box.run("echo on")
        assert outcome.seconds < 5


async def test_a_removed_snapshot_is_said(box: Sandbox) -> None:
    await box.run("export A=1")
    await box.run("rm -rf /run/agentos")
    outcome = await box.run('echo "[$A]"')
    assert outcome.head_tail == b"[1]\n" or STATE_RESET in outcome.notes
    assert (await box.run("echo $HOME")).head_tail == b"/home/agent\n"


async def test_a_vanished_folder_is_said(box: Sandbox) -> None:
    await box.run("mkdir gone; cd gone")
    (box.root / "gone").rmdir()
    assert "gone; this command runs in" in await said(box, "pwd")


async def test_a_command_has_no_length_limit_and_no_quoting(box: Sandbox) -> None:
    long = "x" * 5_000_000
    assert await said(box, f"a='{long}'; echo ${{#a}} '\"' \"'\" \\$A `echo sub` ünïcödé") == (
        "5000000 \" ' $A sub ünïcödé\n"
    )
    assert (await box.run("echo \0")).exit_code == 2


async def test_a_timeout_returns_what_was_said(box: Sandbox) -> None:
    outcome = await box.run("echo before; sleep 60; echo after", timeout=0.3)
    assert (outcome.status, outcome.exit_code, outcome.head_tail) == ("timeout", 137, b"before\n")
    assert outcome.seconds < 1.5
    assert "killed after 0.3 s" in outcome.notes[0]


async def test_interrupt_kills_the_whole_tree_at_once(box: Sandbox) -> None:
    running = asyncio.create_task(box.run("trap '' TERM INT; (setsid sleep 60 &); echo on; sleep 60"))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await box.interrupt()
    outcome = await running
    assert time.monotonic() - began < 0.5
    assert (outcome.status, outcome.head_tail) == ("killed", b"on\n")
    assert await said(box, "ps ax -o comm= | grep -c sleep") == "0\n"


async def test_interrupting_nothing_is_nothing(box: Sandbox) -> None:
    await box.interrupt()
    await box.run("true")
    await box.interrupt()
    assert (await box.run("echo on")).head_tail == b"on\n"


async def test_cancelling_kills_the_command(box: Sandbox) -> None:
    running = asyncio.create_task(box.run("touch began; sleep 60; touch ended"))
    await asyncio.sleep(0.3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await said(box, "ls; ps ax -o comm= | grep -c sleep") == "agentos.yaml\nbegan\nskills\n0\n"


async def test_nothing_survives_its_command(box: Sandbox) -> None:
    """A daemon the old way: two forks and a session of its own, every signal ignored."""
    daemon = (
        "import os,signal,time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]\n"
        "time.sleep(60)\n"
    )
    count = "n=0; for each in /proc/[0-9]*; do n=$((n + 1)); done; echo $n"  # by bash itself, which starts nothing for it
    alone = await said(box, count)
    outcome = await box.run(f"python3 -c '{daemon}'; nohup sleep 60 & echo on")
    assert outcome.head_tail.startswith(b"on\n") and outcome.seconds < 3
    assert await said(box, count) == alone


async def test_a_hundred_commands_leave_no_descriptor(box: Sandbox) -> None:
    await box.run("true")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        assert (await box.run(f"echo {number}")).head_tail == f"{number}\n".encode()
    assert len(os.listdir("/proc/self/fd")) == before
    # 0, 1, 2 and the folder that ls reads; the shell itself may still hold a pipe of this very line
    assert (await said(box, "ls /proc/self/fd | wc -l")) == "4\n"


async def test_commands_wait_for_each_other(box: Sandbox) -> None:
    outcomes = await asyncio.gather(*(box.run(f"export N={n}; sleep 0.05; echo $N") for n in range(5)))
    assert [outcome.head_tail for outcome in outcomes] == [f"{n}\n".encode() for n in range(5)]


async def test_memory_is_bounded_for_one_and_for_all(box: Sandbox) -> None:
    one = await box.run("python3 -c 'bytearray(1 << 30)'")
    assert one.exit_code == 1 and b"MemoryError" in one.head_tail
    grab = "python3 -c 'import time; x = bytearray(100 << 20); time.sleep(10)'"
    together = await box.run(f"{grab} & {grab} & {grab} & {grab} & wait")
    assert together.status == "killed" and "of memory" in together.notes[0]
    assert together.seconds < 8


async def test_a_fork_bomb_is_bounded(box: Sandbox) -> None:
    began = time.monotonic()
    await box.run("bomb() { bomb | bomb & bomb; }; bomb", timeout=15)
    await box.run("bomb() { bomb & bomb & wait; }; bomb", timeout=15)
    assert time.monotonic() - began < 15
    assert await said(box, "echo on") == "on\n"


async def test_files_and_private_folders_are_bounded(box: Sandbox) -> None:
    outcome = await box.run("head -c 64M /dev/zero > big; stat -c %s big")
    assert outcome.head_tail.endswith(b"16777216\n")
    for folder in ("/tmp", "/dev/shm", "/home/agent"):
        assert "No space left" in await said(box, f"head -c 12M /dev/zero > {folder}/big; rm {folder}/big")
    assert await said(box, "ulimit -c; ulimit -n; ulimit -t") == "0\n256\n30\n"


async def test_cpu_time_is_bounded(root: Path, tier: Tier, limits: Limits) -> None:
    async with Sandbox(root, tier, replace(limits, cpu=1)) as box:
        outcome = await box.run("while :; do :; done")
        assert outcome.status == "failed" and outcome.seconds < 8


def walls(root: Path) -> list[int]:
    """Processes of bubblewrap that name this root."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and b"bwrap\0" in (entry / "cmdline").read_bytes().replace(b"/", b""):
                found += [int(entry.name)] if os.fsencode(root) in (entry / "cmdline").read_bytes() else []
    return found


async def test_killed_at_any_moment_of_its_start_it_starts_again_and_leaves_nothing(
    root: Path, tier: Tier, limits: Limits
) -> None:
    killed = 0
    for number in range(25):
        async with Sandbox(root, tier, limits) as box:
            starting = asyncio.create_task(box.run("echo on"))
            while not (first := walls(root)) and not starting.done():
                await asyncio.sleep(0)
            await asyncio.sleep(number * 0.0004)
            if not starting.done() and first:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(min(first), signal.SIGKILL)
                    killed += 1
            outcome = await asyncio.wait_for(starting, 5)
            assert outcome.status in ("ok", "killed")
        assert walls(root) == []
    assert killed > 5
