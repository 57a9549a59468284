"""Ragged token ids, and their truncation and padding.

Rows are stored in two arrays: `token_ids`, int32[total], contains all rows one after another; row r is
`token_ids[offsets[r]:offsets[r + 1]]`, with `offsets`, int64[rows + 1]. No row is a Python object.

Rows are truncated early and padded late: `pad_batch` is called for each batch in training (train/data/batches.py) and
in scoring with Keras (score/scorer.py). In scoring, the native engine arranges its rows itself (score/engine.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.config import Side, Truncating

PAD_ID = 0
_FILLER_ID = 1  # any id but padding: the result of a filler row is not used


@dataclass(frozen=True)
class Sequences:
    """Token ids of rows of any lengths.

    Attributes:
        token_ids: int32[total].
        offsets: int64[rows + 1], where each row begins, and `total` at the end.
    """

    token_ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, token_ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.integer[Any]]) -> Sequences:
        """Returns rows with these numbers of tokens, int[rows], given the tokens of all rows, int32[total]."""
        return cls(token_ids, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Returns the number of tokens of each row, int64[rows]."""
        return np.diff(self.offsets)

    def take(self, rows: npt.NDArray[np.int64]) -> Sequences:
        """Returns the rows with these numbers (int64[n], in that order, repeats allowed)."""
        starts = self.offsets[rows]
        return gather(self.token_ids, starts, self.offsets[rows + 1] - starts)

    def only(self, is_kept: npt.NDArray[np.bool_]) -> Sequences:
        """Returns the rows without the tokens where `is_kept`, bool[total], is False; a row may become empty."""
        return Sequences(self.token_ids[is_kept], np.concatenate([[0], np.cumsum(is_kept)])[self.offsets])

    def prepended(self, token_id: int) -> Sequences:
        """Returns the rows with one more token in front."""
        token_ids = np.insert(self.token_ids, self.offsets[:-1], token_id)
        return Sequences(token_ids, self.offsets + np.arange(len(self.offsets)))


def gather(
    token_ids: npt.NDArray[np.int32], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Sequences:
    """Returns the rows that start at `starts` (int64[rows]) and have `lengths` (int64[rows]) tokens."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Sequences(token_ids[positions], offsets)


def concatenate(parts: list[Sequences]) -> Sequences:
    """Returns the rows of all parts, one part after another."""
    token_ids = np.concatenate([np.zeros(0, np.int32), *(part.token_ids for part in parts)])
    return Sequences.of(token_ids, np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)]))


def kept_ends(max_tokens: int, truncating: Truncating) -> tuple[int, int]:
    """Returns how many tokens are kept from the beginning and from the end of a long row.

    With "middle" and an odd number, the beginning gets one more, because it includes the start token.

    Example:
        For 5 tokens: (0, 5) with "pre", (5, 0) with "post", (3, 2) with "middle".
    """
    last = {"pre": max_tokens, "post": 0, "middle": max_tokens // 2}[truncating]
    return max_tokens - last, last


def truncate(sequences: Sequences, max_tokens: int, truncating: Truncating) -> Sequences:
    """Cuts every row to `max_tokens` tokens: the last ("pre"), the first ("post"), or half of each ("middle").

    Example:
        The row [1, 5, 6, 7, 8, 9] cut to 5: [5, 6, 7, 8, 9], [1, 5, 6, 7, 8] or [1, 5, 6, 8, 9].
    """
    first, last = kept_ends(max_tokens, truncating)
    heads = np.minimum(sequences.lengths, first)
    tails = np.minimum(sequences.lengths - heads, last)
    starts = np.stack([sequences.offsets[:-1], sequences.offsets[1:] - tails], axis=1)
    pieces = gather(sequences.token_ids, starts.ravel(), np.stack([heads, tails], axis=1).ravel())
    return Sequences(pieces.token_ids, pieces.offsets[::2].copy())


def pad(sequences: Sequences, length: int, padding: Side) -> npt.NDArray[np.int32]:
    """Returns rows padded to `length` with `PAD_ID`, as `keras.utils.pad_sequences` does.

    Args:
        sequences: Rows of at most `length` tokens.
        length: Tokens of each row of the result, padding included.
        padding: "pre" pads before the tokens, "post" after them.

    Returns:
        int32[rows, length].

    Raises:
        ValueError: A row is longer than `length`.

    Example:
        Rows [5, 6, 7] and [8], length 4:
            pre   [[0, 5, 6, 7], [0, 0, 0, 8]]
            post  [[5, 6, 7, 0], [8, 0, 0, 0]]
    """
    lengths = sequences.lengths
    if len(lengths) and lengths.max() > length:
        raise ValueError(f"a row has {lengths.max()} tokens, more than the padded length {length}")
    column = np.arange(length)
    is_token = column >= (length - lengths)[:, None] if padding == "pre" else column < lengths[:, None]
    padded = np.full((len(lengths), length), PAD_ID, np.int32)
    padded[is_token] = sequences.token_ids
    return padded


def pad_batch(sequences: Sequences, rows: int, length: int, padding: Side) -> npt.NDArray[np.int32]:
    """Pads rows as `pad` does, and adds filler rows up to `rows` rows: int32[rows, length].

    Filler rows give all batches the same shape, as compiled code needs; their results are not used. A filler row has
    one token, because cuDNN rejects a masked row without tokens.

    Example:
        The row [1, 6, 7], 2 rows, length 4:
            pre   [[0, 1, 6, 7], [0, 0, 0, 1]]
            post  [[1, 6, 7, 0], [1, 0, 0, 0]]
    """
    padded = np.full((rows, length), PAD_ID, np.int32)
    padded[:, 0 if padding == "post" else -1] = _FILLER_ID
    padded[: len(sequences)] = pad(sequences, length, padding)
    return padded


def bucket_length(longest: int, max_tokens: int) -> int:
    """Returns the padded length for a batch whose longest row has `longest` tokens.

    Lengths are rounded up to a multiple of an eighth of `max_tokens`, so that compiled code sees at most 8 shapes, and
    at most an eighth of `max_tokens` is padded in vain. Only for masked models: for others, padding is part of the
    input.
    """
    step = -(-max_tokens // 8)
    return min(max_tokens, -(-max(longest, 1) // step) * step)
