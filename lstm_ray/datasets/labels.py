"""Turns a column of labels into 1 and 0: 1 and 0 themselves, star ratings, or texts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.config import LabelSettings
from lstm_ray.text.tokenize import decode_texts, is_text_type

OTHER = -1
"""A label that is neither positive nor negative."""

_MOST_SHOWN = 8  # labels in a message
_MOST_CLASSES = 20  # a column with more distinct values does not have labels
_CHOOSE = "choose with --label-column"


@dataclass(frozen=True)
class LabelMapping:
    """Which labels are positive and which negative.

    Attributes:
        positive: Positive labels; empty without a mapping: then 1 is positive and 0 negative.
        negative: Negative labels.
    """

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    @property
    def is_given(self) -> bool:
        """Returns whether there is a mapping; without one only 1 and 0 are allowed."""
        return bool(self.positive)

    def problem(self, kind: pa.DataType) -> str | None:
        """Returns why a column of this type cannot be read, as the end of a sentence; None if it can be."""
        if is_text_type(kind):
            return None if self.is_given else f"is {kind}, expected 0 and 1: {_CHOOSE}"
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            return f"is {kind}, expected {'texts or numbers' if self.is_given else '0 and 1'}: {_CHOOSE}"
        for option, labels in (("--positive-labels", self.positive), ("--negative-labels", self.negative)):
            for label in labels:
                if _number(label) is None:
                    return f"is {kind}, but {label!r} of {option} is not a number; several are written 4,5"
        return None

    def decode(self, column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
        """Returns 1, 0 or `OTHER` for each row, int8[rows]; the column's type has no `problem`."""
        if is_text_type(column.type):
            values: pa.Array = decode_texts(column)
            positive, negative = (pa.array(labels, pa.large_string()) for labels in (self.positive, self.negative))
        else:
            values = column.combine_chunks().cast(pa.float64(), safe=False)  # a number beyond 2^53 is not a label
            both = (self.positive, self.negative) if self.is_given else (("1",), ("0",))
            positive, negative = (pa.array([_number(label) for label in labels], pa.float64()) for labels in both)
        decoded = np.full(len(values), OTHER, np.int8)
        decoded[_is_in(values, positive)] = 1
        decoded[_is_in(values, negative)] = 0
        return decoded


ZERO_AND_ONE = LabelMapping()
"""No mapping: a label is 1 or 0."""


def label_mapping(settings: LabelSettings) -> LabelMapping:
    """Returns which labels are positive and which negative, as the settings say."""
    return LabelMapping(settings.positive_labels, settings.negative_labels)


def propose_mapping(column: pa.ChunkedArray) -> str | None:
    """Returns options that would map the labels of a column; None if it does not have labels."""
    labels = _distinct(column)
    if labels and set(labels) <= {"0", "1"}:
        labels = ["0", "1"]
    if not 2 <= len(labels) <= _MOST_CLASSES:
        return None
    # In alphabetical order positive comes after negative, good after bad, yes after no, true after false; five stars
    # come after one.
    positive, negative = labels[-1:], labels[:1]
    if len(labels) > 2 and set(labels) <= set("12345"):
        positive = [label for label in labels if label > "3"] or positive
        negative = [label for label in labels if label < "3"] or negative
    return shlex.join(("--positive-labels", ",".join(positive), "--negative-labels", ",".join(negative)))


def describe_labels(*columns: pa.ChunkedArray) -> str:
    """Lists the labels in columns for a message, without null: 'neg', 'pos'; or 1, 2, 3, 4, 5; or none."""
    labels = (repr(label) if is_text_type(column.type) else label for column in columns for label in _distinct(column))
    shown = list(dict.fromkeys(labels))
    return (", ".join(shown[:_MOST_SHOWN]) + (", ..." if len(shown) > _MOST_SHOWN else "")) or "none"


def _distinct(column: pa.ChunkedArray) -> list[str]:
    """Returns the distinct labels of a column as they are written in options, in rising order."""
    if is_text_type(column.type):
        labels = pc.unique(decode_texts(column).drop_null()).to_pylist()
    else:
        labels = [_written(value) for value in pc.unique(column.drop_null()).to_pylist()]
    numbers = {label: number for label in labels if (number := _number(label)) is not None}
    return sorted(labels, key=numbers.__getitem__ if len(numbers) == len(labels) else None)


def _written(value: float) -> str:
    """Returns a number as a person writes it: 4 and -1, also for 4.0 and -1.0."""
    return f"{int(value)}" if float(value).is_integer() and not isinstance(value, bool) else str(value).lower()


def _is_in(values: pa.Array, labels: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.is_in(values, value_set=labels).to_numpy(zero_copy_only=False)
    return found


def _number(label: str) -> float | None:
    if label.lower() in ("true", "false"):
        return float(label.lower() == "true")
    try:
        return float(label)
    except ValueError:
        return None
