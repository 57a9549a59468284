"""Where the words of a text are in it: `tokenize` lower-cases them, and keeps no positions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lstm_ray.config import TokenSettings
from lstm_ray.text.tokenize import LINE_BREAK

Span = tuple[int, int]
"""The position of a word's first character, and the one after its last."""

_LINE_BREAK = re.compile(LINE_BREAK)
_SIGMAS = str.maketrans("\u03c2", "\u03c3")  # at the end of a word the capital one becomes another small letter


def find_words(text: str, words: Sequence[str], settings: TokenSettings) -> list[Span]:
    """Returns the span of each word.

    Between two words there is nothing but what separates them, which is in no word. So the next word is where its
    characters are found next.

    Args:
        text: The text.
        words: All its words, as `tokenize` returns them.
        settings: With which they were made.

    Example:
        The words "not" and "bad" of "Not <br />BAD!" are at (0, 3) and (10, 13).
    """
    if settings.strip_html:
        text = _LINE_BREAK.sub(lambda found: " " * len(found[0]), text)
    lowered, origin = _lower(text, settings)
    lowered = lowered.translate(_SIGMAS)
    spans, end = [], 0
    for word in words:
        start = lowered.index(word.translate(_SIGMAS), end)
        end = start + len(word)
        spans.append((origin[start], origin[end - 1] + 1))
    return spans


def _lower(text: str, settings: TokenSettings) -> tuple[str, Sequence[int]]:
    """Returns a text in lower case, and where each of its characters comes from: some capitals become two."""
    if text.isascii():
        return text.lower(), range(len(text))
    all_letters = settings.lowercase == "unicode"
    parts = [one.lower() if all_letters or one.isascii() else one for one in text]
    return "".join(parts), [number for number, part in enumerate(parts) for _ in part]
