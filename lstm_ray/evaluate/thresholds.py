"""Chooses the threshold above which a row counts as positive, from the counts of labelled rows.

The histograms of `BinaryCounts` say how many rows of each class are above the end of any score bin. So the candidates
are the ends of bins, and what a candidate reaches on these rows is exact. The best of them differs from the best of all
thresholds by the rows of one bin at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.config import option_name
from lstm_ray.errors import InputError
from lstm_ray.evaluate.counts import BinaryCounts, FloatArray, IntArray, PrecisionRecallCurve, bin_ends, bin_starts

_SHOWN = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True, eq=False)
class Sweep:
    """What each threshold reaches, by rising threshold.

    Attributes:
        least: float32[thresholds], the least number that is this threshold.
        below: float32[thresholds], the least number above `least` that is the next one.
        true_positives: int64[thresholds], rows of label 1 above it.
        false_positives: int64[thresholds], rows of label 0 above it.
        positives: Rows of label 1.
        negatives: Rows of label 0.
    """

    least: npt.NDArray[np.float32]
    below: npt.NDArray[np.float32]
    true_positives: IntArray
    false_positives: IntArray
    positives: int
    negatives: int

    @classmethod
    def of(cls, counts: BinaryCounts) -> Sweep:
        """Returns all thresholds that differ on some rows; there is at least one."""
        occupied = np.flatnonzero(counts.positive_histogram + counts.negative_histogram)
        # Threshold number 0 calls every row positive, the last one none.
        least = np.append(np.float32(0), bin_ends()[occupied])
        below = np.append(bin_starts()[occupied], np.nextafter(np.float32(1), np.float32(2)))
        found, alarms = (
            np.append(rows[occupied][::-1].cumsum()[::-1], 0)
            for rows in (counts.positive_histogram, counts.negative_histogram)
        )
        is_possible = least < below  # a probability of 0 is above no threshold
        return cls(
            least[is_possible],
            below[is_possible],
            found[is_possible],
            alarms[is_possible],
            counts.positives,
            counts.negatives,
        )

    @cached_property
    def precision(self) -> FloatArray:
        """Returns the share of rows above the threshold that have label 1; 0 where there are none."""
        above = np.maximum(self.true_positives + self.false_positives, 1)
        return np.asarray(self.true_positives / above, np.float64)

    @cached_property
    def recall(self) -> FloatArray:
        """Returns the share of the rows of label 1 that are above the threshold."""
        return self.true_positives / max(self.positives, 1)

    @cached_property
    def f1(self) -> FloatArray:
        """Returns the harmonic mean of precision and recall."""
        wrong = self.false_positives + self.positives - self.true_positives
        return 2 * self.true_positives / np.maximum(2 * self.true_positives + wrong, 1)

    @cached_property
    def accuracy(self) -> FloatArray:
        """Returns the share of rows that are predicted right."""
        right = self.true_positives + self.negatives - self.false_positives
        return right / max(self.positives + self.negatives, 1)

    @cached_property
    def balanced_accuracy(self) -> FloatArray:
        """Returns the mean of the shares of both classes that are predicted right."""
        return (self.recall + 1 - self.false_positives / max(self.negatives, 1)) / 2

    def threshold(self, number: int) -> float:
        """Returns a threshold as a short decimal, in the middle between the rows that it separates if it can be."""
        least, below = float(self.least[number]), float(self.below[number])
        for digits in range(2, 9):
            shown = round((least + min(below, 1.0)) / 2, digits)
            if 0 < shown < 1 and np.float32(least) <= np.float32(shown) < np.float32(below):
                return shown
        return least


def choose_threshold(counts: BinaryCounts, goal: tuple[str, Any]) -> BinaryCounts:
    """Returns the counts of the same rows at the threshold that fits a goal best.

    Args:
        counts: Of labelled rows.
        goal: "maximize" and a metric, or "target_precision" or "target_recall" and a share, as
            `ThresholdSettings.goal` has it. Of equally good thresholds it is the one nearest to 0.5.

    Raises:
        InputError: No threshold reaches the target, or the rows are all of one label.
    """
    name, wanted = goal
    if counts.positives == 0 or counts.negatives == 0:
        raise InputError(f"{option_name(name)} needs rows of both labels to choose a threshold")
    sweep = Sweep.of(counts)
    if name == "maximize":
        keys = [getattr(sweep, wanted)]
    else:
        target, other = ("precision", "recall") if name == "target_precision" else ("recall", "precision")
        reached, then = getattr(sweep, target), getattr(sweep, other)
        keys = [np.where(reached >= wanted, then, -1.0), reached] if reached.max() >= wanted else [reached, then]
    best = _first_of_best([*keys, -np.abs(sweep.least.astype(np.float64) - 0.5)])
    found = counts.at(sweep.threshold(best))
    if name != "maximize" and reached[best] < wanted:
        metrics = found.metrics()
        raise InputError(
            f"{option_name(name)} {wanted:g}: no threshold reaches it on these {counts.rows:,} rows: the highest "
            f"{target} is {metrics[target]:.4f}, at threshold {found.threshold:g}, with {other} {metrics[other]:.4f}"
        )
    return found


def threshold_table(counts: BinaryCounts) -> list[dict[str, float]]:
    """Returns what thresholds from 0.05 to 0.95 reach, as JSON has it.

    One that splits a score bin with rows gives way to the end of that bin, at most 0.0005 above it, so that the figures
    are exact.
    """
    names = ("precision", "recall", "f1", "accuracy", "balanced_accuracy")
    sweep = Sweep.of(counts)
    rows = []
    for shown in _SHOWN:
        number = max(0, int(np.searchsorted(sweep.below, np.float32(shown), side="right")))
        threshold = max(shown, float(sweep.least[number]))
        rows.append({"threshold": threshold, **{name: float(getattr(sweep, name)[number]) for name in names}})
    return rows


def histogram(counts: BinaryCounts, bins: int = 20) -> list[dict[str, float]]:
    """Returns how many rows of each class have a probability in bins of equal width, as JSON has it.

    A row within 0.0005 of the border of two bins may be counted in the neighbour: the score bins decide.
    """
    bounds = np.searchsorted(bin_starts(), np.linspace(0, 1, bins + 1).astype(np.float32)[:-1])
    sums = [np.add.reduceat(rows, bounds) for rows in (counts.negative_histogram, counts.positive_histogram)]
    return [
        {"from": number / bins, "to": (number + 1) / bins, "negatives": int(negatives), "positives": int(positives)}
        for number, (negatives, positives) in enumerate(zip(*sums, strict=True))
    ]


def thinned(curve: PrecisionRecallCurve, points: int = 100) -> PrecisionRecallCurve:
    """Returns about as many points of a curve: the last one of each step of recall."""
    steps = (curve.recall * points).astype(np.int64)
    is_last = np.append(steps[1:] != steps[:-1], np.ones(min(1, steps.size), np.bool_))
    return PrecisionRecallCurve(curve.precision[is_last], curve.recall[is_last])


def _first_of_best(keys: list[FloatArray]) -> int:
    """Returns the first position with the highest first key; of equal ones, with the highest second, and so on."""
    best = np.arange(len(keys[0]))
    for key in keys:
        best = best[key[best] == key[best].max()]
    return int(best[0])
