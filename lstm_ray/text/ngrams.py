"""The distinct n-grams of texts, as bucket numbers that a Keras model or an ONNX graph computes too.

An n-gram is n neighbouring token ids. Its bucket is a universal hash (Carter & Wegman 1979) in integers that never
overflow an int64, so that NumPy, Keras and ONNX Runtime compute the same number:

    ((multiplier[0] * id[0] + ... + multiplier[n - 1] * id[n - 1] + offset[n]) mod 2147483647) mod buckets

A text counts an n-gram once, however often it occurs. Padding (id 0) is in no n-gram.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.text.sequences import PAD_ID, Sequences

PRIME = 2**31 - 1
MULTIPLIERS = (1_640_531_527, 1_103_515_245, 1_812_433_253)
"""Of the first, second and third id: numbers below `PRIME` that other hashes and generators use because they mix well.

Not any number does. Near few powers of 2 (21 * 2**26 - 1, say) neighbouring ids share a bucket of 2**20, three in each.
"""
OFFSETS = (0, 104_395_301, 1_299_709_127, 611_953_009)
"""Added for n-grams of n ids, by n: equal ids of another n get another bucket."""
LONGEST = len(MULTIPLIERS)
_ROWS = 256  # hashed and sorted at a time, within the cache


@dataclass(frozen=True)
class Bags:
    """The distinct n-grams of many texts.

    Attributes:
        buckets: int64[total], all texts one after the other; of a text, rising.
        offsets: int64[rows + 1], from 0 to total, never falling.
    """

    buckets: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sums(self, table: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Returns the sum of a table's values over the n-grams of each text, float64[rows].

        Args:
            table: float32[buckets].
        """
        result = np.zeros(len(self))
        filled = np.flatnonzero(np.diff(self.offsets))
        if len(filled):
            result[filled] = np.add.reduceat(table[self.buckets], self.offsets[filled], dtype=np.float64)
        return result


def bags(sequences: Sequences, longest: int, buckets: int) -> Bags:
    """Returns the distinct n-grams of rows, of 1 to `longest` ids.

    Args:
        sequences: Token ids. The start token and unknown words are ids like others.
        longest: 1 to `LONGEST`.
        buckets: Number of buckets.

    Example:
        The row [1, 7, 7] with longest 2 has the n-grams (1), (7), (1, 7), (7, 7): at most 4 buckets.
    """
    parts = [_bags(sequences, first, longest, buckets) for first in range(0, len(sequences), _ROWS)]
    lengths = [np.diff(part.offsets) for part in parts]
    return Bags(
        np.concatenate([np.zeros(0, np.int64), *(part.buckets for part in parts)]),
        np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]))]),
    )


def _bags(sequences: Sequences, first: int, longest: int, buckets: int) -> Bags:
    """Returns the bags of at most `_ROWS` rows."""
    offsets = sequences.offsets[first : first + _ROWS + 1]
    ids = sequences.token_ids[offsets[0] : offsets[-1]].astype(np.int64)
    rows = len(offsets) - 1
    row_of = np.repeat(np.arange(rows), np.diff(offsets))
    is_token = ids != PAD_ID
    hashed, is_whole = np.zeros(len(ids), np.int64), is_token
    found = []
    for n in range(1, min(longest, len(ids)) + 1):
        starts = len(ids) - n + 1
        hashed = hashed[:starts] + MULTIPLIERS[n - 1] * ids[n - 1 :]
        is_whole = is_whole[:starts] & is_token[n - 1 :] & (row_of[:starts] == row_of[n - 1 :])
        found.append(row_of[:starts][is_whole] * buckets + (hashed[is_whole] + OFFSETS[n]) % PRIME % buckets)
    ordered = np.sort(np.concatenate([np.zeros(0, np.int64), *found]))
    distinct = ordered[np.diff(ordered, prepend=-1) != 0]
    return Bags(distinct % buckets, np.searchsorted(distinct, np.arange(rows + 1) * buckets))
