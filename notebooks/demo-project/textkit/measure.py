"""How long the words of a text are."""

from textkit.words import words


def mean_length(text: str) -> float:
    """The mean length of the words; 0 for a text without any."""
    lengths = [len(word) for word in words(text)]
    return sum(lengths) / len(lengths) if lengths else 0.0


def median_length(text: str) -> float:
    """The median length of the words: half of them are no longer, half no shorter. 0 for a text without any."""
    lengths = sorted(len(word) for word in words(text))
    if not lengths:
        return 0.0

    middle = len(lengths) // 2
    if len(lengths) % 2:
        return float(lengths[middle])

    return (lengths[middle] + lengths[middle + 1]) / 2
