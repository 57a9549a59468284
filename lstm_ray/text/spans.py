"""Where the words of a text are in it: `tokenize` lower-cases them, and keeps no positions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lstm_ray.config import TokenSettings
from lstm_ray.text.tokenize import LINE_BREAK

Span = tuple[int, int]
"""The position of a word's first character, and the one after its last."""

_LINE_BREAK = re.compile(LINE_BREAK)


def find_words(text: str, words: Sequence[str], settings: TokenSettings) -> list[Span]:
    """Returns the span of each word.

    Between two words there is nothing but what separates them, which is in no word. So the next word begins at the next
    character that is its first one, and has as many characters as its lower-cased ones need.

    Args:
        text: The text.
        words: All its words, as `tokenize` returns them.
        settings: With which they were made.

    Example:
        The words "not" and "bad" of "Not <br />BAD!" are at (0, 3) and (10, 13).
    """
    if settings.strip_html:
        text = _LINE_BREAK.sub(lambda found: " " * len(found[0]), text)
    spans, end = [], 0
    for word in words:
        start = end
        # In capitals: the sigma at the end of a word has another small letter.
        while _lower(text[start], settings)[0].upper() != word[0].upper():
            start += 1
        end, length = start, 0
        while length < len(word):
            length += len(_lower(text[end], settings))
            end += 1
        spans.append((start, end))
    return spans


def _lower(character: str, settings: TokenSettings) -> str:
    """Returns a character in lower case: of some capitals two characters."""
    return character.lower() if settings.lowercase == "unicode" or character.isascii() else character
