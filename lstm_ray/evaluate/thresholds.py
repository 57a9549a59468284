"""Chooses the threshold above which a row counts as positive, from the counts of labelled rows.

The histograms of `BinaryCounts` give the number of rows of each class above the end of any score bin. So the candidates
are the ends of bins, and their metrics on these rows are exact. The best of them differs from the best of all
thresholds by the rows of at most one bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Doubles, Integers
from lstm_ray.config import option_name
from lstm_ray.errors import InputError
from lstm_ray.evaluate.counts import BinaryCounts, PrecisionRecallCurve, bin_ends, bin_starts
from lstm_ray.wording import counted

_SHOWN = tuple(round(0.05 * step, 2) for step in range(1, 20))
_BARS = 20  # of the histogram
_POINTS = 100  # of the curve


@dataclass(frozen=True, eq=False)
class Sweep:
    """Counts at each threshold, by rising threshold.

    Attributes:
        least: float32[thresholds]. All numbers from `least` up to, but not including, `below` separate the rows alike.
        below: float32[thresholds].
        true_positives: int64[thresholds], rows of label 1 above the threshold.
        false_positives: int64[thresholds], rows of label 0 above the threshold.
        positives: Rows of label 1.
        negatives: Rows of label 0.
    """

    least: npt.NDArray[np.float32]
    below: npt.NDArray[np.float32]
    true_positives: Integers
    false_positives: Integers
    positives: int
    negatives: int

    @classmethod
    def of(cls, counts: BinaryCounts) -> Sweep:
        """Returns all thresholds that separate the rows differently; there is at least one."""
        occupied = np.flatnonzero(counts.positive_histogram + counts.negative_histogram)
        # The first threshold predicts every row positive, the last one none.
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
    def precision(self) -> Doubles:
        """Returns the share of rows above the threshold that have label 1; 0 where there are none."""
        above = np.maximum(self.true_positives + self.false_positives, 1)
        return np.asarray(self.true_positives / above, np.float64)

    @cached_property
    def recall(self) -> Doubles:
        """Returns the share of the rows of label 1 that are above the threshold."""
        return self.true_positives / max(self.positives, 1)

    @cached_property
    def f1(self) -> Doubles:
        """Returns the harmonic mean of precision and recall."""
        wrong = self.false_positives + self.positives - self.true_positives
        return 2 * self.true_positives / np.maximum(2 * self.true_positives + wrong, 1)

    @cached_property
    def accuracy(self) -> Doubles:
        """Returns the share of rows that are predicted right."""
        right = self.true_positives + self.negatives - self.false_positives
        return right / max(self.positives + self.negatives, 1)

    @cached_property
    def balanced_accuracy(self) -> Doubles:
        """Returns the mean, over both classes, of the share of rows that are predicted right."""
        return (self.recall + 1 - self.false_positives / max(self.negatives, 1)) / 2

    def threshold(self, number: int) -> float:
        """Returns a threshold as a short decimal number, if possible midway between the rows that it separates."""
        least, below = float(self.least[number]), float(self.below[number])
        for digits in range(2, 9):
            shown = round((least + min(below, 1.0)) / 2, digits)
            if 0 < shown < 1 and np.float32(least) <= np.float32(shown) < np.float32(below):
                return shown
        return least


def choose_threshold(counts: BinaryCounts, goal: tuple[str, Any]) -> BinaryCounts:
    """Returns the counts of the same rows at the threshold that meets a goal best; of ties, the one nearest to 0.5.

    Args:
        counts: Counts of labelled rows.
        goal: "maximize" and a metric, or "target_precision" or "target_recall" and a share, as
            `ThresholdSettings.goal` returns it.

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
            f"{option_name(name)} {wanted:g}: no threshold reaches it on {counted(counts.rows, 'row')}: the highest "
            f"{target} is {metrics[target]:.4f}, at threshold {found.threshold:g}, with {other} {metrics[other]:.4f}"
        )
    return found


def threshold_table(counts: BinaryCounts) -> list[dict[str, float]]:
    """Returns the metrics at thresholds from 0.05 to 0.95, for JSON.

    A threshold inside a score bin that has rows is replaced by the end of the bin, at most 0.0005 above, so that the
    figures are exact.
    """
    names = ("precision", "recall", "f1", "accuracy", "balanced_accuracy")
    sweep = Sweep.of(counts)
    rows = []
    for shown in _SHOWN:
        number = max(0, int(np.searchsorted(sweep.below, np.float32(shown), side="right")))
        threshold = max(shown, float(sweep.least[number]))
        rows.append({"threshold": threshold, **{name: float(getattr(sweep, name)[number]) for name in names}})
    return rows


def histogram(counts: BinaryCounts) -> list[dict[str, float]]:
    """Returns the number of rows of each class by probability, in 20 bins of equal width, for JSON.

    A row within 0.0005 of the border of two bins may be counted in the other one, because score bins are not split.
    """
    bounds = np.searchsorted(bin_starts(), np.linspace(0, 1, _BARS + 1).astype(np.float32)[:-1])
    sums = [np.add.reduceat(rows, bounds) for rows in (counts.negative_histogram, counts.positive_histogram)]
    return [
        {"from": number / _BARS, "to": (number + 1) / _BARS, "negatives": int(negatives), "positives": int(positives)}
        for number, (negatives, positives) in enumerate(zip(*sums, strict=True))
    ]


def thinned(curve: PrecisionRecallCurve) -> PrecisionRecallCurve:
    """Returns about a hundred points of a curve: the last one of each step of recall."""
    steps = (curve.recall * _POINTS).astype(np.int64)
    is_last = np.append(steps[1:] != steps[:-1], np.ones(min(1, steps.size), np.bool_))
    return PrecisionRecallCurve(curve.precision[is_last], curve.recall[is_last])


def _first_of_best(keys: list[Doubles]) -> int:
    """Returns the first position with the highest first key; ties are resolved by the second key, and so on."""
    best = np.arange(len(keys[0]))
    for key in keys:
        best = best[key[best] == key[best].max()]
    return int(best[0])
