"""What may fail around a notebook: what its next cell shows, that it goes on afterwards, and that nothing is lost.

Each row is provoked for real: a notebook is answered, the failure happens, the next cell shows `shown` (an answer, where
it mends itself; else one sentence that says what to do), the failure is mended as the sentence says, and the notebook is
answered again. In the end the log holds every fact that was acknowledged before, and its chains are whole.

Elsewhere: damaged logs (`test_salvage.py`, `tests/log/test_salvage.py`), `kill -9` at every event boundary
(`test_boundaries.py`), a hundred kernels at once (`test_many_kernels.py`), clocks (`test_clock.py`), locks of other
machines and network file systems (`tests/microkernel/test_lock.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import agentos_jupyter
from tests.crash.scene import Facts, Scene
from tests.jupyter.conftest import Notebook
from tests.rpc.versions import Other

Act = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """What happens, what the next cell shows (a pattern), and how a person mends it; `disk` is the workspace's size."""

    provoke: Act
    shown: str
    mend: Act = Scene.nothing
    disk: str = ""


def stopped(act: Act) -> Act:
    """Once the daemon is at rest."""
    return lambda scene: (scene.stop(), act(scene))[0]


FAILURES = {
    "daemon killed": Failure(Scene.kill_daemon, r"^second|\nsecond"),
    "sandbox killed": Failure(Scene.kill_sandbox, r"^second|\nsecond"),
    "kernel killed": Failure(Scene.kill_kernel, r"^second|\nsecond"),
    "disk full": Failure(
        Scene.fill_disk,
        r"^log\.unwritable: .*is full.*Nothing that was acknowledged is lost; free",
        Scene.free_disk,
        "16m",
    ),
    "disk read-only": Failure(
        stopped(lambda scene: scene.remount("ro")()),
        r"^log\.unwritable: The state folder .*Read-only file system.*work elsewhere",
        lambda scene: scene.remount("rw")(),
        "16m",
    ),
    "state folder removed": Failure(
        Scene.move_state, r"^log\.unwritable: .*was removed or replaced.*put the folder back", Scene.put_state_back
    ),
    "runtime folder open to others": Failure(
        stopped(lambda scene: scene.runtime_mode(0o755)),
        r"^workspace\.refused: The runtime folder .*mode 755.*remove it, or set XDG_RUNTIME_DIR",
        lambda scene: scene.runtime_mode(0o700),
    ),
    "runtime folder of somebody else": Failure(
        stopped(lambda scene: scene.runtime_owner(12345)),
        r"^workspace\.refused: The runtime folder .*owner 12345.*set XDG_RUNTIME_DIR",
        lambda scene: scene.runtime_owner(0),
    ),
    "runtime folder removed": Failure(Scene.remove_runtime, r"^second|\nsecond"),
    "a file where the socket was": Failure(Scene.block_socket, r"^second|\nsecond"),
    "socket path too long": Failure(
        Scene.long_runtime, r"^workspace\.refused: The socket path .*set XDG_RUNTIME_DIR to a shorter", Scene.reopen
    ),
    "daemon of another version": Failure(
        Scene.other_version,
        r"^daemon\.version: .*AgentOS 0\.0\.1 \(protocol 99\).*`agentos stop`",
        Scene.end_other_version,
    ),
}


@pytest.fixture
def scene(workspace: Path, open_notebook: Callable[..., Notebook], other: Other) -> Iterator[Scene]:
    made = Scene(workspace, open_notebook, other)
    with made.after:
        yield made


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_sentence_and_loses_nothing(scene: Scene, name: str) -> None:
    failure = FAILURES[name]
    if failure.disk:
        scene.on_a_disk(failure.disk)
    scene.begin()
    failure.provoke(scene)
    assert re.search(failure.shown, scene.shown(), re.DOTALL)

    failure.mend(scene)
    third = scene.say("third")
    if (
        third.reply["status"] == "error" and third.error[0] == "session.busy"
    ):  # what was begun is kept, here for a second
        time.sleep(1.2)
        third = scene.say("third")
    assert third.answer.startswith("third")
    assert scene.facts <= scene.stored()
    scene.stop()
    check_chains(scene.workspace, scene.facts)


def check_chains(workspace: Path, facts: Facts) -> None:
    with agentos_jupyter.open(workspace) as opened:
        kernel = opened._kernel
        assert kernel is not None
        for stream in {stream for stream, _, _ in facts}:
            assert opened.run(kernel.log.verify(stream)) > 0


def test_a_state_folder_that_is_gone_for_good_leaves_a_new_history(scene: Scene) -> None:
    scene.begin()
    scene.move_state()
    assert scene.shown().startswith("log.unwritable")
    assert re.search(r"^session\.not_found: .*`%session new` begins one", scene.shown())
    assert scene.notebook is not None and scene.notebook.run("%session new").reply["status"] == "ok"
    assert scene.say("third").answer.startswith("third")
