"""Which tier a machine has, and what happens where there is none."""

# ruff: noqa: ASYNC240 - a test may block

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agentos_jupyter.errors import SandboxUnavailable
from agentos_jupyter.sandbox import Limits, Sandbox, Tier, probe
from agentos_jupyter.sandbox.probe import attack, contained_by_person, cure, try_out


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


async def test_the_probe_is_quick_and_asked_once(tier: Tier) -> None:
    assert tier.bwrap is not None and "held" in tier.reason
    began = time.monotonic()
    assert try_out(tier.bwrap) is None
    assert time.monotonic() - began < 1
    assert await probe(allow_contained=False) is tier


def test_a_bubblewrap_that_does_not_isolate_is_found_out(tmp_path: Path) -> None:
    """A program that only runs what it is told, without walls, fails the canaries."""
    fake = script(tmp_path / "bwrap", 'while [[ $1 != -- ]]; do shift; done; shift; exec "$@"')
    failure = try_out(fake) or ""
    for escape in ("reads a file outside", "reads the callers environment", "connects tcp", "sends udp",
                   "connects abstract", "writes outside", "leaves a survivor"):  # fmt: skip
        assert escape in failure


def test_silence_is_no_success(tmp_path: Path) -> None:
    assert try_out(script(tmp_path / "bwrap", "exit 0")) == "it ended with status 0"
    assert try_out(tmp_path / "missing") is not None


async def test_without_a_tier_bash_is_refused_with_the_cure(root: Path, limits: Limits, tmp_path: Path) -> None:
    failing = script(tmp_path / "bwrap", "echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    tier = attack(False, [failing])
    assert tier.name == "none" and "No permissions to create new namespace" in tier.reason and tier.cure
    async with Sandbox(root, tier, limits) as box:
        with pytest.raises(SandboxUnavailable, match="No permissions to create") as caught:
            await box.run("touch made")
    assert tier.cure in caught.value.message and list(root.iterdir()) == []
    assert "apt install bubblewrap" in attack(False, []).cure


def test_every_cure_names_an_action() -> None:
    assert "bubblewrap" in cure("no bubblewrap was found.", {})
    assert cure("x", {"KUBERNETES_SERVICE_HOST": "1"})


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("sandbox: none-already-contained\n", True),
        ("other: 1\nsandbox: 'none-already-contained'\n", True),
        ("sandbox: none\n", False),
        ("# sandbox: none-already-contained\n", False),
        ("sandbox: [none-already-contained\n", False),
        ("- sandbox: none-already-contained\n", False),
        ("\0" * 10 + "none-already-contained", False),
    ],
)
def test_only_the_persons_own_configuration_can_go_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, allowed: bool
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert not contained_by_person()
    (tmp_path / "agentos").mkdir()
    (tmp_path / "agentos" / "config.yaml").write_text(text)
    assert contained_by_person() == allowed


async def test_already_contained_is_named_and_still_bounded(
    root: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "secret-key")
    tier = attack(True, [])
    assert tier.name == "none-already-contained" and "without walls" in tier.reason
    async with Sandbox(root, tier, limits) as box:
        assert b"secret-key" not in (await box.run("env; export A=1; cd /tmp")).head_tail
        assert (await box.run("echo $A $PWD; ulimit -n")).head_tail == b"1 /tmp\n256\n"
        marker = f"4{os.getpid()}"
        outcome = await box.run(f"(setsid setsid sleep {marker} &); sleep {marker}", timeout=0.5)
        assert outcome.status == "timeout"
        assert (await box.run(f"(setsid sleep {marker} & disown); echo on")).head_tail == b"on\n"
        assert (await box.run(f"pgrep -f 'sleep {marker}'")).head_tail == b""
        home = (await box.run("echo $HOME")).head_tail.decode().strip()
    assert not Path(home).exists() and list(root.iterdir()) == []
