"""The person's own keys: `keys.env` in the user's configuration folder, a file that only its owner can read."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.errors import ConfigError

NAME = re.compile(r"[A-Z][A-Z0-9_]{1,99}")
LARGEST = 64 * 1024
ENDINGS = ("_API_KEY", "_BASE_URL", "_API_BASE")
_SECRET = """
AWS_ACCESS_KEY_ID AWS_BEARER_TOKEN_BEDROCK AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN DATABRICKS_TOKEN FRIENDLI_TOKEN
HF_TOKEN REPLICATE_API_TOKEN SCW_SECRET_KEY SNOWFLAKE_JWT VERTEXAI_CREDENTIALS WATSONX_APIKEY
"""
_PLAIN = """
AWS_DEFAULT_REGION AWS_REGION AWS_REGION_NAME AZURE_API_VERSION GOOGLE_APPLICATION_CREDENTIALS SNOWFLAKE_ACCOUNT_ID
VERTEXAI_LOCATION VERTEXAI_PROJECT VERTEX_LOCATION VERTEX_PROJECT WATSONX_PROJECT_ID WATSONX_SPACE_ID WATSONX_URL
"""
SECRET, PLAIN = frozenset(_SECRET.split()), frozenset(_PLAIN.split())
"""What reaches a provider and has none of the usual endings: keys, and names that may be seen."""

_HEAD = "# Keys of model providers: NAME=value, one a line. Made by `agentos key set`; only you can read this file.\n"


def is_key(name: str) -> bool:
    """Whether a variable's value is a secret."""
    return name.endswith("_API_KEY") or name in SECRET


def reaches(name: str) -> bool:
    """Whether a variable is about reaching a provider, so that a client offers it to the daemon."""
    return name.endswith(ENDINGS) or name in SECRET or name in PLAIN


def file() -> Path:
    return paths.user_config_dir() / "keys.env"


def load() -> dict[str, str]:
    """The keys by their variable; nothing where there is no file.

    Raises `ConfigError` with the cure for a file that somebody else can read or has made, and for a line that is none.
    """
    path = file()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): put a regular file of yours there.") from None
    with open(descriptor, encoding="utf-8", errors="replace") as opened:
        _refuse_shared(path, os.fstat(opened.fileno()))
        text = opened.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ConfigError(f"{path} is longer than {LARGEST // 1024} kB: it holds one key a line.")
    return dict(_pair(path, number, line) for number, line in enumerate(text.splitlines(), 1) if _says(line))


def _refuse_shared(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(f"{path} is not a file of yours: move it away and set your keys with `agentos key set`.")
    if found.st_mode & 0o077:
        raise ConfigError(
            f"Others can read {path} (mode {stat.S_IMODE(found.st_mode):o}): `chmod 600 {path}`, and think of new keys."
        )


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _pair(path: Path, number: int, line: str) -> tuple[str, str]:
    name, equals, value = line.strip().removeprefix("export ").partition("=")
    if not equals or not NAME.fullmatch(name.strip()):
        raise ConfigError(
            f"{path}:{number}: a line is NAME=value, such as OPENROUTER_API_KEY=…."
        )  # never the line itself
    return name.strip(), value.strip().strip("'\"")


def save(name: str, value: str | None) -> None:
    """Set one key, or forget it (`None`): the file is replaced as a whole, or stays as it was. Raises `ConfigError`."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be the name of a key: write it like OPENROUTER_API_KEY.")
    if value is not None and (not value.isascii() or not value.isprintable() or " " in value or not value):
        raise ConfigError(
            f"This is no key for {name}: spaces, line ends or special characters are in it, or nothing at all."
        )
    kept = {**load(), name: value}
    _replace({each: key for each, key in kept.items() if key is not None})


def _replace(keys: Mapping[str, str]) -> None:
    path = file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as opened:
            opened.write(_HEAD + "".join(f"{name}={value}\n" for name, value in sorted(keys.items())))
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
