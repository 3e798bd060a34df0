"""What a wheel carries besides the package: skills, notebooks, and `aos_sdk` as a top-level module.

A hook, because hatchling's `force-include` would also copy them into an editable install, where the copies go stale.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = {
    "agentos_jupyter/sdk/aos_sdk.py": "aos_sdk.py",
    "skills": "agentos_jupyter/_skills",
    "notebooks": "agentos_jupyter/_notebooks",
}


class WheelContents(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"].update(CARRIED)
