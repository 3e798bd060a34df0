"""Which words a text has, and how often."""

import re
from collections import Counter

_WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*", re.IGNORECASE)


def words(text: str) -> list[str]:
    """The words of a text in their order, in lower case. An apostrophe or a hyphen inside belongs to the word."""
    return [word.lower() for word in _WORD.findall(text)]


def most_common(text: str, n: int) -> list[tuple[str, int]]:
    """The `n` most frequent words with their counts; among equals the one that came first."""
    return Counter(words(text)).most_common(n)
