"""Stores hashes of a model's training texts, to recognise these texts among the rows that it is evaluated on.

    texts, in lower case and with single spaces -> 40-bit hashes -> sorted, distinct -> seen.parquet, delta-encoded:
    3.4 bytes per text for 25,000 texts

The probability that a new text is mistaken for a training text is (number of texts) / 2**40: 1 in 40 million for 25,000
texts, 1 in 100,000 for ten million. The hash is not secret: anyone who has the file can find out whether a text that
they know is among the training texts.

Of the rows on which an epoch or a threshold was chosen only the sum of the hashes is stored (`sum_of`), which
recognises the same rows in any order, but no part of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstm_ray.datasets.held_out import hash_keys, trim
from lstm_ray.wording import counted

Hashes40 = npt.NDArray[np.int64]

_BITS = 40
_PURPOSE = b"seen texts"
# Not single spaces: a text has hundreds, and replacing each of them would take twice as long as tokenizing.
_WHITE_SPACE = r"[\t-\r\p{Z}]{2,}|[\t-\r]|[^\P{Z} ]"
_COLUMN = "hash"


def hash_texts(texts: pa.LargeStringArray) -> Hashes40:
    """Returns the 40-bit hash of each text; letter case and white space make no difference. No text may be null."""
    lower = pc.utf8_lower(trim(texts))
    keys = pc.replace_substring_regex(lower, pattern=_WHITE_SPACE, replacement=" ").cast(pa.large_binary())
    return (hash_keys(keys, 0, _PURPOSE) >> np.uint64(64 - _BITS)).astype(np.int64)


def sum_of(hashes: Hashes40) -> int:
    """Returns the sum of the hashes of rows; the sums of parts add up to the sum of the whole."""
    return sum(hashes.tolist())  # of any size, without overflow


class SeenTexts:
    """The distinct hashes of texts.

    Attributes:
        hashes: The hashes, in ascending order.
    """

    def __init__(self, hashes: Iterable[Hashes40] = ()) -> None:
        self.hashes = np.unique(np.concatenate([np.zeros(0, np.int64), *hashes]))

    def __len__(self) -> int:
        return len(self.hashes)

    def contains(self, hashes: Hashes40) -> npt.NDArray[np.bool_]:
        """Returns for each of the given hashes whether it is among these."""
        if not len(self):
            return np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self) - 1)
        is_in: npt.NDArray[np.bool_] = self.hashes[at] == hashes
        return is_in

    def count(self, hashes: Hashes40) -> int:
        """Returns how many of the given hashes are among these."""
        return int(self.contains(hashes).sum())

    def write(self, stream: Any) -> None:
        """Writes the hashes as Parquet, to a path or stream."""
        table = pa.table({_COLUMN: self.hashes})
        pq.write_table(
            table,
            stream,
            use_dictionary=False,
            compression="none",
            column_encoding={_COLUMN: "DELTA_BINARY_PACKED"},
            write_statistics=False,
            store_schema=False,
        )

    @classmethod
    def read(cls, source: Any) -> SeenTexts:
        """Reads a file that `write` wrote.

        Raises:
            pa.ArrowException: The file is not Parquet, or lacks the column.
        """
        content = pq.ParquetFile(source)
        if content.metadata.num_rows > source.size():  # an encoded hash takes more than one byte
            raise pa.ArrowInvalid(f"{content.metadata.num_rows:,} rows in {source.size():,} bytes")
        return cls([content.read(columns=[_COLUMN])[_COLUMN].cast(pa.int64()).to_numpy()])


def describe_lost(bundle: str) -> str:
    """Returns a warning that the hashes of a model's training texts were deleted, given the path of its bundle."""
    return (
        "cannot check whether the model was trained on some of these rows: seen.parquet, the hashes of the training "
        f"texts, is missing in {bundle}"
    )


def describe_seen(seen: int, rows: int, kind: str, model: str = "the model", accuracy: float | None = None) -> str:
    """Returns a warning about rows whose text is a training text.

    Args:
        seen: Number of such rows.
        rows: Number of rows that the model is evaluated on.
        kind: "validation" or "evaluation".
        model: What was trained on them: "the model", or the path of another that it is compared with.
        accuracy: The model's accuracy on all rows, if it is known.
    """
    whose, its = ("", "the model's") if model == "the model" else (f" of {model}", "its")
    share = seen / rows
    if share == 1:
        meaning = "nothing here is measured on new reviews"
    elif accuracy is None:
        meaning = f"on new reviews {its} accuracy may be lower than measured here"
    else:
        # The accuracy of the other rows, b, is lowest if all rows that were seen are right: a = s + (1 - s) b.
        most = min(accuracy, share * (1 - accuracy) / (1 - share))
        meaning = (
            f"on new reviews {its} accuracy may be up to {max(0.1, 100 * most):.1f} points lower than measured here"
        )
    return f"{seen:,} of {counted(rows, f'{kind} row')} ({share:.1%}) also occur in the training data{whose}: {meaning}"
