"""Small measures of English text."""

from textkit.layout import wrap
from textkit.measure import mean_length, median_length
from textkit.words import most_common, words

__all__ = ["mean_length", "median_length", "most_common", "words", "wrap"]
