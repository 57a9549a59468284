"""Subwords: the character n-grams of words. "funny" and "funnier" share many of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np

from lstm_ray.text.ngrams import Bags

SHORTEST, LONGEST = 2, 5  # characters
_LONGEST_WORD = 40  # characters; parts of links and of other non-words have no meaning


def subwords(words: Iterable[str]) -> Bags:
    """Returns each word's distinct character n-grams, numbered from 0; those of a single word are left out.

    Args:
        words: Distinct words. Words of more than 40 characters have no n-grams.

    Example:
        With its ends marked, "sad" has the n-grams <s sa ad d> <sa sad ad> <sad sad> and <sad>. With the words "sad"
        and "mad", the result has only ad, d> and ad>.
    """
    numbers: dict[str, int] = {}
    found = [[numbers.setdefault(part, len(numbers)) for part in dict.fromkeys(_parts(word))] for word in words]
    ids = np.fromiter(chain.from_iterable(found), np.int64)
    is_shared = (np.bincount(ids, minlength=len(numbers)) > 1)[ids]
    ends = np.cumsum([0, *map(len, found)])
    _, renumbered = np.unique(ids[is_shared], return_inverse=True)
    return Bags(renumbered.astype(np.int64), np.concatenate([[0], np.cumsum(is_shared)])[ends])


def _parts(word: str) -> Iterable[str]:
    """Yields a word's n-grams, with its ends marked."""
    marked = f"<{word}>" if len(word) <= _LONGEST_WORD else ""
    return (
        marked[first : first + length]
        for length in range(SHORTEST, LONGEST + 1)
        for first in range(len(marked) - length + 1)
    )
