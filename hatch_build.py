"""What a wheel carries besides the package: skills, notebooks, and `aos_sdk` as a top-level module too.

A hook, because hatchling's `force-include` would also copy them into an editable install, where the copies go stale.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HELP = ("configuration.md", "errors.md")
"""Pages that `?name` reads limits and error codes from."""

SDK = "agentos_jupyter/sdk/aos_sdk.py"


class WheelContents(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return

        # A forced file is taken out of its own place, and the daemon starts services with the one in the package.
        self.copies = tempfile.mkdtemp()
        copy = shutil.copy(Path(self.root) / SDK, self.copies)
        build_data["force_include"] |= {copy: "aos_sdk.py", **self.files("skills"), **self.files("notebooks")}
        build_data["force_include"] |= {
            str(Path(self.root) / "docs" / "reference" / page): f"agentos_jupyter/_reference/{page}" for page in HELP
        }

    def files(self, folder: str) -> dict[str, str]:
        """Every file of a folder and its place in the package, without what running it leaves (`.agentos`, caches)."""
        top = Path(self.root) / folder
        found = [path for path in top.rglob("*") if path.is_file()]
        kept = [
            path
            for path in found
            if not any(part[0] == "." or part == "__pycache__" for part in path.relative_to(top).parts)
        ]
        return {str(path): f"agentos_jupyter/_{folder}/{path.relative_to(top)}" for path in kept}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self.copies)
