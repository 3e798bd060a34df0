from textkit import most_common, words


def test_words_are_in_order_and_in_lower_case():
    assert words("The cat, the DOG!") == ["the", "cat", "the", "dog"]


def test_an_apostrophe_belongs_to_its_word():
    assert words("Don't re-read it.") == ["don't", "re-read", "it"]


def test_most_common_prefers_the_one_that_came_first():
    assert most_common("b a b a c", 2) == [("b", 2), ("a", 2)]
