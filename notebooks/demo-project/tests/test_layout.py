from textkit import wrap


def test_lines_are_filled_up_to_the_width():
    assert wrap("one two three four", 9) == ["one two", "three", "four"]


def test_a_long_word_has_a_line_of_its_own():
    assert wrap("a extraordinary b", 5) == ["a", "extraordinary", "b"]
