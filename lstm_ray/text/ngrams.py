"""The distinct n-grams of texts, as bucket numbers that Keras models and ONNX graphs can compute too.

An n-gram is a sequence of n token ids. Its bucket is a universal hash (Carter & Wegman 1979) in integers that never
overflow int64, so that NumPy, Keras and ONNX Runtime compute the same number:

    ((multiplier[0] * id[0] + ... + multiplier[n - 1] * id[n - 1] + offset[n]) mod 2147483647) mod buckets

An n-gram counts once in a text, however often it occurs. N-grams with padding (id 0) do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.text.sequences import PAD_ID, Sequences

PRIME = 2**31 - 1
MULTIPLIERS = (889_516_851, 1_572_067_138, 506_952_121)
"""Multipliers of the first, second and third id: the fractional parts of the square roots of 2, 3 and 5, times `PRIME`.

Their bits have no pattern. A multiplier with a regular pattern, such as 0x53ffffff, puts consecutive ids into the same
bucket.
"""
OFFSETS = (0, 104_395_301, 1_299_709_127, 611_953_009)
"""Offsets by n, so that the bucket depends on the length of an n-gram too."""
LONGEST = len(MULTIPLIERS)
_ROWS = 256  # rows that are hashed and sorted at a time, so that they fit in the cache


@dataclass(frozen=True)
class Bags:
    """The distinct n-grams of many texts.

    Attributes:
        buckets: int64[total], the buckets of all texts, one text after another; ascending within a text.
        offsets: int64[rows + 1], where each text begins in `buckets`, and `total` at the end.
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
    """Returns the distinct n-grams of 1 to `longest` ids of each row.

    Args:
        sequences: Token ids. The start token and unknown words are treated like other ids.
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
