"""What a model reads of a corpus, as counts that merge by addition; the bundle keeps those of the training data.

Training and scoring count token ids by the same function, where they make them. So the counts of any parts can be added
up in any order, and those of a scored corpus can be compared with those of the training data (drift.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Integers
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.vocabulary import OOV_ID, START_ID

LENGTH_LIMITS = (0, 1, 2, 3, *(words for power in range(2, 16) for words in (2**power, 3 * 2 ** (power - 1))))
"""Upper bounds of the bins of lengths, in words; an additional bin has the rows above the last one."""
UNKNOWN_LIMITS = (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
"""Upper bounds of the bins of a row's share of unknown words; an additional bin has the rows above the last one."""
SCORE_LIMITS = tuple(np.linspace(0, 1, 11)[1:-1].tolist())
"""Likewise for probabilities: tenths."""


def _no_rows(limits: tuple[float, ...]) -> Integers:
    return np.zeros(len(limits) + 1, np.int64)


@dataclass(frozen=True, eq=False)
class Profile:
    """Counts of a corpus's rows; `a + b` counts the rows of both.

    Attributes:
        rows: Rows with words. All other counts but the next are of these.
        without_words: Rows that have no words, and so no score.
        truncated: Rows that have more tokens than the model reads.
        positives: Rows that are positive: as predicted, or, where nothing is predicted, by their label.
        words: Words that the model reads.
        unknown: Those of them that its vocabulary lacks. With `unlisted_words: drop` the model does not read most of
            these, and they are not counted.
        lengths: int64[bins], rows by the words that the model reads of them (`LENGTH_LIMITS`).
        unknown_shares: int64[bins], rows by the share of unknown words in them (`UNKNOWN_LIMITS`).
        scores: int64[bins], rows by their probability (`SCORE_LIMITS`); zeros where nothing is predicted.
    """

    rows: int = 0
    without_words: int = 0
    truncated: int = 0
    positives: int = 0
    words: int = 0
    unknown: int = 0
    lengths: Integers = field(default_factory=lambda: _no_rows(LENGTH_LIMITS))
    unknown_shares: Integers = field(default_factory=lambda: _no_rows(UNKNOWN_LIMITS))
    scores: Integers = field(default_factory=lambda: _no_rows(SCORE_LIMITS))

    def to_array(self) -> Integers:
        """Returns all counts as one vector, int64[counts]."""
        return np.hstack(list(vars(self).values()))

    @classmethod
    def from_array(cls, values: Integers) -> Profile:
        """Reads back what `to_array` returned, or a sum of several such vectors."""
        counts = zip(np.split(values, _ENDS), _SHAPES, strict=True)
        fields: list[Any] = [one if shape else int(one[0]) for one, shape in counts]
        return cls(*fields)

    def __add__(self, other: Profile) -> Profile:
        """Counts the rows of both."""
        return Profile.from_array(self.to_array() + other.to_array())

    def __sub__(self, other: Profile) -> Profile:
        """Counts the rows of this one without those of another that was added to it."""
        return Profile.from_array(self.to_array() - other.to_array())

    def to_json(self) -> dict[str, int | list[int]]:
        """Returns the counts by name, as JSON has them: numbers and lists of numbers."""
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, counts: Mapping[str, Any]) -> Profile:
        """Reads what `to_json` returned.

        Raises:
            ValueError: A count is missing, unknown or not one.
        """
        empty = cls()
        if not isinstance(counts, Mapping) or counts.keys() != vars(empty).keys():
            raise ValueError(f"its counts are not {', '.join(vars(empty))}")
        return cls(*(_checked(name, counts[name], np.shape(value)) for name, value in vars(empty).items()))


_SHAPES = [np.shape(value) for value in vars(Profile()).values()]
_ENDS = np.cumsum([math.prod(shape) for shape in _SHAPES])[:-1]  # of the counts in an array


def _checked(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """Returns a number, or an array of a list of them; anything but counts that fit an int64 is a ValueError."""
    values = value if isinstance(value, list) else [value]
    are_counts = all(type(count) is int and 0 <= count < 2**62 for count in values)
    if isinstance(value, list) != bool(shape) or not are_counts or (shape and len(values) != shape[0]):
        raise ValueError(f"{name} does not hold counts")
    return np.array(values, np.int64) if shape else value


def count_texts(sequences: Sequences, truncated: int = 0) -> Profile:
    """Counts rows that have words.

    Args:
        sequences: Their token ids, truncated.
        truncated: How many of them had more tokens before.
    """
    token_ids, starts = sequences.token_ids, sequences.offsets[:-1]
    has_start = token_ids[starts] == START_ID  # truncation may have cut it off
    words = sequences.lengths - has_start
    # Few tokens are unknown: looking for their rows costs less than a sum over all tokens.
    rows_of_unknown = np.searchsorted(sequences.offsets, np.flatnonzero(token_ids == OOV_ID), side="right") - 1
    unknown = np.bincount(rows_of_unknown, minlength=len(words))
    # A row whose words were all dropped, because none is listed, has only unknown ones.
    shares = np.where(words > 0, unknown / np.maximum(words, 1), 1.0)
    return Profile(
        rows=len(words),
        truncated=truncated,
        words=int(words.sum()),
        unknown=int(unknown.sum()),
        lengths=_histogram(words, LENGTH_LIMITS),
        unknown_shares=_histogram(shares, UNKNOWN_LIMITS),
    )


def count_scores(probabilities: npt.NDArray[np.floating], threshold: float) -> Profile:
    """Counts the probabilities of rows that `count_texts` has counted: what is to be added to its result."""
    is_positive = probabilities > np.float32(threshold)
    return Profile(positives=int(np.count_nonzero(is_positive)), scores=_histogram(probabilities, SCORE_LIMITS))


def _histogram(values: npt.NDArray[Any], limits: tuple[float, ...]) -> Integers:
    """Returns how many values are in each bin; a value equal to a limit is below it."""
    return np.bincount(np.searchsorted(limits, values.astype(np.float64)), minlength=len(limits) + 1)


@dataclass(frozen=True)
class TrainingData:
    """The rows that a model was trained and validated on.

    Attributes:
        training: Rows that the model was trained on, and all that were left out because they have no words.
        validation: Rows it was validated on, as the saved model predicts them; no rows if there was no validation.
    """

    training: Profile = field(default_factory=Profile)
    validation: Profile = field(default_factory=Profile)

    def to_json(self) -> dict[str, Any]:
        """Returns both as JSON has them."""
        return {"training": self.training.to_json(), "validation": self.validation.to_json()}

    @classmethod
    def from_json(cls, described: Any) -> TrainingData:
        """Reads what `to_json` returned.

        Raises:
            ValueError: The content is not what `to_json` returns.
        """
        if not isinstance(described, dict) or described.keys() != {"training", "validation"}:
            raise ValueError("the profile is not one of training and validation rows")
        return cls(**{side: Profile.from_json(counts) for side, counts in described.items()})
