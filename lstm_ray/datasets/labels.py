"""Turns a column of labels into 1 and 0: numbers that are that already, star ratings, or texts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.text.tokenize import decode_texts, is_text_type

OTHER = -1
"""Stands for a label that means neither positive nor negative."""

_MOST_SHOWN = 8
_MOST_CLASSES = 20  # a column with more texts than that holds no labels


@dataclass(frozen=True)
class LabelMapping:
    """Which labels mean what.

    Attributes:
        positive: Labels that mean positive; empty without a mapping: then 1 does, and 0 means negative.
        negative: Labels that mean negative.
    """

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    @property
    def is_given(self) -> bool:
        """Says whether there is a mapping; without one no other labels are allowed."""
        return bool(self.positive)

    def problem(self, kind: pa.DataType) -> str | None:
        """Says why a column of this type cannot be read, as the end of a sentence about it; None if it can be."""
        if is_text_type(kind):
            return None if self.is_given else f"is {kind}, expected 0 and 1"
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            return f"is {kind}, expected {'texts or numbers' if self.is_given else '0 and 1'}"
        for label in (*self.positive, *self.negative):
            if _number(label) is None:
                return f"is {kind}, and the label {label!r} is no number"
        return None

    def decode(self, column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
        """Returns 1, 0 or `OTHER` for each row, int8[rows]; the column's type has no `problem`."""
        if is_text_type(column.type):
            values: pa.Array = decode_texts(column)
            positive, negative = (pa.array(labels, pa.large_string()) for labels in (self.positive, self.negative))
        else:
            values = column.combine_chunks().cast(pa.float64(), safe=False)  # past 2^53 nothing is a label anyway
            both = (self.positive, self.negative) if self.is_given else (("1",), ("0",))
            positive, negative = (pa.array([_number(label) for label in labels], pa.float64()) for labels in both)
        decoded = np.full(len(values), OTHER, np.int8)
        decoded[_is_in(values, positive)] = 1
        decoded[_is_in(values, negative)] = 0
        return decoded


ZERO_AND_ONE = LabelMapping()
"""No mapping: a label is 1 or 0."""


def propose_mapping(texts: pa.LargeStringArray) -> str | None:
    """Says which texts a column of labels holds and how to tell them apart, or None if they are no labels."""
    seen = sorted(pc.unique(texts.drop_null()).to_pylist())
    if not 2 <= len(seen) <= _MOST_CLASSES:
        return None
    shown = ", ".join(map(repr, seen[:_MOST_SHOWN])) + (", ..." if len(seen) > _MOST_SHOWN else "")
    # By the alphabet, positive follows negative, good bad, yes no, true false, and five stars one.
    options = f"--positive-labels {shlex.quote(seen[-1])} --negative-labels {shlex.quote(seen[0])}"
    return f"holds the texts {shown}: say which is which: {options}"


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
