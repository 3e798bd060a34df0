"""keys.env: only its owner reads it, it is replaced as a whole, and no error shows what is in it."""

from __future__ import annotations

import stat

import pytest

from agentos_jupyter import keys
from agentos_jupyter.errors import ConfigError

SECRET = "sk-or-v1-0123456789abcdef0123456789"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_keys_are_kept_for_their_owner_alone() -> None:
    assert keys.load() == {}
    keys.save("OPENROUTER_API_KEY", SECRET)
    keys.save("MY_API_KEY", "other-key-of-mine")
    assert keys.load() == {"OPENROUTER_API_KEY": SECRET, "MY_API_KEY": "other-key-of-mine"}
    assert stat.S_IMODE(keys.file().stat().st_mode) == 0o600
    keys.save("MY_API_KEY", None)
    assert list(keys.load()) == ["OPENROUTER_API_KEY"]
    assert [each.name for each in keys.file().parent.iterdir()] == ["keys.env"]


def test_a_file_by_hand_may_quote_and_export() -> None:
    keys.save("A_KEY", "x")
    keys.file().write_text(f"# mine\n\nexport A_KEY='{SECRET}'\nB_KEY = b\n")
    assert keys.load() == {"A_KEY": SECRET, "B_KEY": "b"}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_is_refused_with_the_cure(mode: int) -> None:
    keys.save("A_KEY", SECRET)
    keys.file().chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        keys.load()
    assert SECRET not in str(caught.value)


def test_a_link_or_a_line_that_is_none_is_refused_without_showing_it() -> None:
    keys.save("A_KEY", SECRET)
    keys.file().write_text(f"just {SECRET}\n")
    with pytest.raises(ConfigError, match=r"keys\.env:1") as caught:
        keys.load()
    assert SECRET not in str(caught.value)
    real = keys.file().rename(keys.file().parent / "elsewhere")
    keys.file().symlink_to(real)
    with pytest.raises(ConfigError, match="regular file of yours"):
        keys.load()


@pytest.mark.parametrize(
    ("name", "value"), [("lower", "x"), ("A B", "x"), ("A_KEY", "two words"), ("A_KEY", ""), ("A_KEY", "a\nb")]
)
def test_what_is_no_key_is_refused_and_nothing_changes(name: str, value: str) -> None:
    keys.save("A_KEY", SECRET)
    with pytest.raises(ConfigError):
        keys.save(name, value)
    assert keys.load() == {"A_KEY": SECRET}
