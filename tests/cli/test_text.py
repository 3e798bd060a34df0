"""Plain text for people."""

from __future__ import annotations

from agentos_jupyter.cli import text


def test_a_table_aligns_text_to_the_left_and_numbers_to_the_right() -> None:
    assert text.table(["name", "n"], [["a", 1], ["bcd", 20]]).splitlines() == [
        "name   n",
        "────  ──",
        "a      1",
        "bcd   20",
    ]


def test_a_table_without_rows_still_names_its_columns() -> None:
    assert text.table(["name"], []).splitlines() == ["name", "────"]


def test_no_cell_can_steer_the_terminal() -> None:
    shown = text.table(["x"], [["\x1b[2J\x1b]0;owned\x07\r\nnext\x9b1m\u202e"]])
    assert not [character for character in shown if character < " " and character != "\n"]
    assert not {"\x9b", "\u202e"} & set(shown)


def test_a_long_cell_is_cut_and_says_so() -> None:
    assert text.table(["x"], [["a" * 500]]).splitlines()[-1] == "a" * (text.WIDEST - 1) + "…"


def test_sizes_and_durations_are_short() -> None:
    assert [text.size(count) for count in (0, 999, 1500, 25_000, 3_200_000)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "25 kB",
        "3.2 MB",
    ]
    assert [text.duration(seconds) for seconds in (0.34, 12.2, 90, 7300)] == [
        "0.3 s",
        "12 s",
        "1 min 30 s",
        "2 h 1 min",
    ]
