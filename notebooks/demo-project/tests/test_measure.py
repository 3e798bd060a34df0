from textkit import mean_length, median_length


def test_mean_of_no_words_is_zero():
    assert mean_length("123 ...") == 0


def test_median_of_an_odd_number_of_words():
    assert median_length("a bb cccc") == 2


def test_median_of_an_even_number_of_words():
    assert median_length("a bb cccc dddddd") == 3
