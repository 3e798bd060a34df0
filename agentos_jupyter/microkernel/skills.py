"""The shipped skills: folders with a SKILL.md, some with a service."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml

from agentos_jupyter.errors import ConfigError

MAX_SKILL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill as found: `service` is the file of its service face, `digest` covers SKILL.md and the service."""

    name: str
    description: str
    folder: Path
    service: Path | None
    digest: str


def find(folder: Path) -> dict[str, Skill]:
    """The skills in a folder, by name. Raises `ConfigError` naming the file that cannot be understood."""
    return {skill.name: skill for skill in map(_read, sorted(folder.glob("*/SKILL.md")))}


def _read(path: Path) -> Skill:
    text = path.read_bytes()[: MAX_SKILL_BYTES + 1].decode("utf-8", "replace")
    if len(text) > MAX_SKILL_BYTES or not text.startswith("---\n") or "\n---" not in text[4:]:
        raise ConfigError(f"{path}: a SKILL.md begins with YAML between two lines of ---.")
    try:
        front = yaml.safe_load(text[4 : text.index("\n---", 4)])
        name, description = front["name"], front["description"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: the front matter needs name and description ({error}).") from None
    if not isinstance(name, str) or not isinstance(description, str):
        raise ConfigError(f"{path}: name and description are texts: put quotes around {name!r} and {description!r}.")
    metadata = front.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    service = path.parent / str(metadata["agentos-service"]) if "agentos-service" in metadata else None
    if service is not None and not service.resolve().is_relative_to(path.parent.resolve()):
        raise ConfigError(f"{path}: agentos-service must lie in the skill's folder.")
    if service is not None and not service.is_file():
        raise ConfigError(f"{path}: agentos-service names {service.name}, which is not there.")
    digest = hashlib.sha256(text.encode() + (service.read_bytes() if service else b"")).hexdigest()
    return Skill(name, description, path.parent, service, digest)
