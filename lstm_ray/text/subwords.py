"""The character n-grams of words: "funny" and "funnier" share most of theirs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np

from lstm_ray.text.ngrams import Bags

SHORTEST, LONGEST = 2, 5  # characters
_LONGEST_WORD = 40  # characters; links and what is not text have no part that means anything


def subwords(words: Iterable[str]) -> Bags:
    """Returns the distinct character n-grams of each word that another word has too, numbered from 0.

    Args:
        words: Words, of which none is twice. One of more than 40 characters has no n-grams.

    Example:
        With its ends marked, "sad" has the n-grams <s sa ad d> <sa sad ad> <sad sad> and <sad>; beside "mad" only ad,
        d> and ad> are shared.
    """
    numbers: dict[str, int] = {}
    found = [[numbers.setdefault(part, len(numbers)) for part in dict.fromkeys(_parts(word))] for word in words]
    ids = np.fromiter(chain.from_iterable(found), np.int64)
    is_shared = (np.bincount(ids, minlength=len(numbers)) > 1)[ids]
    ends = np.cumsum([0, *map(len, found)])
    _, renumbered = np.unique(ids[is_shared], return_inverse=True)
    return Bags(renumbered.astype(np.int64), np.concatenate([[0], np.cumsum(is_shared)])[ends])


def _parts(word: str) -> Iterable[str]:
    """Returns a word's n-grams, with its ends marked."""
    marked = f"<{word}>" if len(word) <= _LONGEST_WORD else ""
    return (
        marked[first : first + length]
        for length in range(SHORTEST, LONGEST + 1)
        for first in range(len(marked) - length + 1)
    )
