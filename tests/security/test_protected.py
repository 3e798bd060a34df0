"""What the loader reads cannot be changed from inside a sandbox, however the path leads there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentos_jupyter.errors import SandboxUnavailable
from agentos_jupyter.sandbox import Limits, Sandbox, Tier
from tests.sandbox.conftest import limits, root, tier

__all__ = ["limits", "root", "tier"]


@pytest.mark.parametrize("target", ["../real", "../real/deep", "../skills", "../not-there-yet"])
async def test_what_a_protected_link_leads_to_is_read_only(root: Path, tier: Tier, limits: Limits, target: str) -> None:
    """Tried: `.claude/skills -> ../real`, a usual way to share skills, and then to write into `real`."""
    (root / "real" / "deep").mkdir(parents=True)
    (root / ".claude").mkdir()
    (root / ".claude" / "skills").symlink_to(target)
    place = target.removeprefix("../")

    async with Sandbox(root, tier, limits) as box:
        assert (await box.run(f"mkdir -p {place}; echo evil > {place}/SKILL.md")).status == "failed"
        assert (await box.run("echo evil > .claude/skills/SKILL.md")).status == "failed"
        assert (await box.run(f"mv {place.partition('/')[0]} away")).status == "failed"

    assert sorted(os.listdir(root)) == [".agentos", ".claude", "real"]


@pytest.mark.parametrize("target", ["..", "../.agentos", "../link", "../link/../real"])
async def test_a_protected_link_that_cannot_be_followed_safely_is_refused(
    root: Path, tier, limits, target: str
) -> None:  # type: ignore[no-untyped-def]
    """Tried: a link to a link, which an agent could turn elsewhere."""
    (root / "real").mkdir()
    (root / "link").symlink_to("/tmp")
    (root / ".claude").mkdir()
    (root / ".claude" / "skills").symlink_to(target)

    async with Sandbox(root, tier, limits) as box:
        with pytest.raises(SandboxUnavailable, match="is a symbolic link"):
            await box.run("true")
