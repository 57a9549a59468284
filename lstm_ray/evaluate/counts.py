"""Binary-classification metrics as sums and counts, so that parts merge by addition.

Each worker counts its own rows, the vectors of all workers are added, and the divisions come once, at the end: the
result does not depend on how the rows were distributed. (Averages of batch averages do depend on it: the last, shorter
batch would weigh too much, and an average of AUCs is not an AUC.)
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Doubles, Integers
from lstm_ray.model.profile import SCORE_LIMITS
from lstm_ray.wording import as_call

CALIBRATION_BINS = len(SCORE_LIMITS) + 1
LOG_LOSS_EPSILON = float(np.finfo(np.float32).eps)  # 1.19e-7; Keras clips at 1e-7, which float32 rounds to this near 1

# The histogram of probabilities for AUC and the ROC curve. The probabilities of an untrained model are close to 0.5,
# those of a trained one close to 0 and 1: evenly spaced bins (in probability or in logit) would put most of them into a
# handful of bins. So a bin's width is a fixed share, 1/512 at most, of the distance to the nearest of 0, 0.5 and 1: the
# float32 bits of that distance, cut after 9 bits of mantissa. The subtraction is exact there (Sterbenz), so that bins
# do not depend on how a machine rounds logarithms; and within 1.5e-5 of 0.5 or of 1 every float32 has its own bin.
# Cost: 2 x 65,536 counts, 1 MiB to add up per evaluation, whatever the number of rows.
_MANTISSA_BITS = 9
# Octaves of distance below 2**-2 in each quarter of [0, 1]. 23 reach float32's spacing at 0.5 and at 1; towards 0
# float32 continues to 2**-149, but the 59 that complete 2**16 bins end at 2**-61, a logit of -42.
_OCTAVES = np.array([59, 23, 23, 23])
_LEVELS = _OCTAVES << _MANTISSA_BITS
SCORE_BINS = int(_LEVELS.sum())


class RocCurve(NamedTuple):
    """Points of the ROC curve from (0, 0) to (1, 1), both coordinates float64[points], never falling."""

    false_positive_rate: Doubles
    true_positive_rate: Doubles


class PrecisionRecallCurve(NamedTuple):
    """Precision and recall by falling threshold, float64[points]; recall never falls."""

    precision: Doubles
    recall: Doubles


class Reliability(NamedTuple):
    """The calibration bins that have rows, by rising probability.

    Attributes:
        rows: int64[bins], rows in the bin.
        mean_probability: float64[bins], mean predicted probability of label 1.
        positive_share: float64[bins], share of the rows that have label 1.
    """

    rows: Integers
    mean_probability: Doubles
    positive_share: Doubles


@dataclass(frozen=True, eq=False)
class BinaryCounts:
    """Counts from which all metrics are computed; `a + b` counts the rows of both.

    Attributes:
        threshold: a row is predicted positive when its probability is greater (as in `keras.metrics.BinaryAccuracy`).
        true_positives: rows of label 1, predicted 1.
        false_positives: rows of label 0, predicted 1.
        true_negatives: rows of label 0, predicted 0.
        false_negatives: rows of label 1, predicted 0.
        log_loss_sum: sum of -ln(probability of the true label), in nats.
        brier_sum: sum of (probability - label)**2.
        calibration_rows: int64[10], rows by probability, in tenths.
        calibration_positives: int64[10], those of label 1.
        calibration_probability_sum: float64[10], sum of their probabilities.
        positive_histogram: int64[SCORE_BINS], rows of label 1 by probability.
        negative_histogram: int64[SCORE_BINS], rows of label 0 by probability.
    """

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    log_loss_sum: float
    brier_sum: float
    calibration_rows: Integers
    calibration_positives: Integers
    calibration_probability_sum: Doubles
    positive_histogram: Integers
    negative_histogram: Integers

    def __repr__(self) -> str:
        """Returns the most important figures; `metrics` has all."""
        metrics, names = self.metrics(), ("rows", "threshold", "accuracy", "precision", "recall")
        return as_call("BinaryCounts", {name: metrics[name] for name in names})

    @classmethod
    def from_scores(
        cls,
        labels: npt.NDArray[np.integer],
        probabilities: npt.NDArray[np.floating],
        threshold: float = 0.5,
    ) -> BinaryCounts:
        """Counts the rows of one part, which may have no rows.

        Args:
            labels: int8[rows], 0 or 1.
            probabilities: float32[rows] of label 1, from 0 to 1.
            threshold: Probability above which a row is predicted positive.

        Raises:
            ValueError: Shapes that differ, a label other than 0 and 1, or a probability that is NaN or outside [0, 1].
        """
        labels, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float32)
        _check_scores(labels, scores)
        positive = labels == 1
        predicted = scores > np.float32(threshold)
        wide = scores.astype(np.float64)
        of_true_label = np.clip(np.where(positive, wide, 1.0 - wide), LOG_LOSS_EPSILON, 1.0 - LOG_LOSS_EPSILON)
        # (a, b] like scikit-learn's calibration_curve; the float32 nearest to 0.1 is above 0.1, there as here.
        tenth = np.searchsorted(SCORE_LIMITS, wide)
        score_bin = _score_bins(scores)
        return cls(
            threshold=threshold,
            true_positives=int(np.count_nonzero(positive & predicted)),
            false_positives=int(np.count_nonzero(~positive & predicted)),
            true_negatives=int(np.count_nonzero(~positive & ~predicted)),
            false_negatives=int(np.count_nonzero(positive & ~predicted)),
            log_loss_sum=float(-np.log(of_true_label).sum()),
            brier_sum=float(np.square(wide - positive).sum()),
            calibration_rows=np.bincount(tenth, minlength=CALIBRATION_BINS),
            calibration_positives=np.bincount(tenth[positive], minlength=CALIBRATION_BINS),
            calibration_probability_sum=np.bincount(tenth, wide, CALIBRATION_BINS).astype(np.float64),
            positive_histogram=np.bincount(score_bin[positive], minlength=SCORE_BINS),
            negative_histogram=np.bincount(score_bin[~positive], minlength=SCORE_BINS),
        )

    @classmethod
    def from_array(cls, values: Doubles, *, threshold: float) -> BinaryCounts:
        """Reads back what `to_array` wrote, or a sum of several such vectors.

        Args:
            values: float64[6 + 3 * CALIBRATION_BINS + 2 * SCORE_BINS].
            threshold: The threshold of the counts, which is not in the vector because it is not a sum.

        Raises:
            ValueError: A vector of another length.
        """
        sizes = [4, 2, *[CALIBRATION_BINS] * 3, *[SCORE_BINS] * 2]
        if values.shape != (sum(sizes),):
            raise ValueError(f"counts have shape ({sum(sizes)},), got {values.shape}")
        outcomes, sums, *arrays = np.split(values, np.cumsum(sizes)[:-1])
        tp, fp, tn, fn = (round(one) for one in outcomes.tolist())
        log_loss, brier = sums.tolist()
        rows, positives, _, of_positives, of_negatives = (np.rint(array).astype(np.int64) for array in arrays)
        return cls(
            threshold, tp, fp, tn, fn, log_loss, brier, rows, positives, arrays[2].copy(), of_positives, of_negatives
        )

    def to_array(self) -> Doubles:
        """Returns all counts as one float64 vector, to sum over workers (float64 counts exactly up to 2**53 rows)."""
        sums = [getattr(self, one.name) for one in fields(self) if one.name != "threshold"]
        return np.concatenate([np.atleast_1d(one).astype(np.float64) for one in sums])

    def __add__(self, other: BinaryCounts) -> BinaryCounts:
        """Counts the rows of both parts.

        Raises:
            ValueError: the parts were counted with different thresholds.
        """
        if self.threshold != other.threshold:
            raise ValueError(f"counts at thresholds {self.threshold} and {other.threshold} cannot be merged")
        return BinaryCounts.from_array(self.to_array() + other.to_array(), threshold=self.threshold)

    @property
    def rows(self) -> int:
        """Rows counted."""
        return self.positives + self.negatives

    @property
    def positives(self) -> int:
        """Rows of label 1."""
        return self.true_positives + self.false_negatives

    @property
    def negatives(self) -> int:
        """Rows of label 0."""
        return self.true_negatives + self.false_positives

    def metrics(self) -> dict[str, float | int | None]:
        """Divides the counts into metrics, ready for JSON.

        `accuracy_standard_error` is that of a binomial share, sqrt(p (1 - p) / n): rows are assumed to be independent;
        reviews of one product are so only roughly. `base_rate` is the share of the larger class, the accuracy of always
        predicting it. `balanced_accuracy` is the mean share of right predictions over the classes that occur.

        `precision`, `recall`, `f1` and `specificity` are 0.0 where they would divide by zero, as in scikit-learn with
        `zero_division=0`. `auc` is None when only one label occurs. With no rows every ratio is None.

        `log_loss` is in nats, and the probability of the true label is clipped to [eps, 1 - eps], eps = 1.19e-7: what
        scikit-learn does with float32 probabilities. `calibration_error` is the expected calibration error over 10
        bins of equal width. Source: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian
        Binning", with the probability of label 1 in place of the confidence.
        """
        tp, fp, tn, fn = self.true_positives, self.false_positives, self.true_negatives, self.false_negatives
        accuracy = (tp + tn) / max(self.rows, 1)
        ratios: dict[str, float | None] = {
            "accuracy": accuracy,
            "accuracy_standard_error": math.sqrt(accuracy * (1 - accuracy) / max(self.rows, 1)),
            "base_rate": max(self.positives, self.negatives) / max(self.rows, 1),
            "balanced_accuracy": self._balanced_accuracy(),
            "precision": tp / max(tp + fp, 1),
            "recall": tp / max(tp + fn, 1),
            "f1": 2 * tp / max(2 * tp + fp + fn, 1),
            "specificity": tn / max(tn + fp, 1),
            "auc": self._auc(),
            "log_loss": self.log_loss_sum / max(self.rows, 1),
            "brier": self.brier_sum / max(self.rows, 1),
            "calibration_error": self._calibration_error(),
        }
        if self.rows == 0:
            ratios = dict.fromkeys(ratios)
        return {
            "rows": self.rows,
            "positives": self.positives,
            **ratios,
            "threshold": self.threshold,
            "true_positives": tp,
            "false_positives": fp,
            "true_negatives": tn,
            "false_negatives": fn,
        }

    def roc_curve(self) -> RocCurve:
        """Returns the ROC curve, one point for each score bin with rows; empty arrays when only one label occurs."""
        if self.positives == 0 or self.negatives == 0:
            return RocCurve(np.zeros(0), np.zeros(0))
        occupied = np.flatnonzero(self.positive_histogram + self.negative_histogram)[::-1]
        found = np.cumsum(self.positive_histogram[occupied]) / self.positives
        alarms = np.cumsum(self.negative_histogram[occupied]) / self.negatives
        return RocCurve(np.concatenate([[0.0], alarms]), np.concatenate([[0.0], found]))

    def precision_recall_curve(self) -> PrecisionRecallCurve:
        """Returns precision and recall, one point for each score bin with rows; empty arrays without positives."""
        if self.positives == 0:
            return PrecisionRecallCurve(np.zeros(0), np.zeros(0))
        occupied = np.flatnonzero(self.positive_histogram + self.negative_histogram)[::-1]
        found = np.cumsum(self.positive_histogram[occupied])
        alarms = np.cumsum(self.negative_histogram[occupied])
        return PrecisionRecallCurve(found / (found + alarms), found / self.positives)

    def average_precision(self) -> float | None:
        """Returns the mean precision over the positives, as scikit-learn's; None without positives.

        Rows in one score bin count as ties.
        """
        if self.positives == 0:
            return None
        curve = self.precision_recall_curve()
        return float(np.diff(curve.recall, prepend=0.0) @ curve.precision)

    def at(self, threshold: float) -> BinaryCounts:
        """Counts the same rows at another threshold.

        Exact if the threshold splits no score bin that has rows; those of `bin_ends` do not. Otherwise the rows of its
        bin, which are within 0.0005 of it, count as predicted 0.
        """
        above = int(_score_bins(np.array([threshold], np.float32))[0]) + 1
        found, alarms = int(self.positive_histogram[above:].sum()), int(self.negative_histogram[above:].sum())
        return replace(
            self,
            threshold=threshold,
            true_positives=found,
            false_positives=alarms,
            true_negatives=self.negatives - alarms,
            false_negatives=self.positives - found,
        )

    def reliability(self) -> Reliability:
        """Returns predicted probability and share of positives for each tenth of probability that has rows."""
        occupied = self.calibration_rows > 0
        rows = self.calibration_rows[occupied]
        return Reliability(
            rows, self.calibration_probability_sum[occupied] / rows, self.calibration_positives[occupied] / rows
        )

    def calibration_error_by_chance(self) -> float:
        """Returns about the calibration error of perfectly calibrated probabilities; it falls with more rows.

        The share of positives among n rows with mean probability p differs from p by sqrt(2 p (1 - p) / (pi n)) on
        average, if n is large (normal approximation).
        """
        bins = self.reliability()
        p, n = bins.mean_probability, bins.rows
        return float(np.sqrt(2 * n * p * (1 - p) / np.pi).sum()) / max(self.rows, 1)

    def _auc(self) -> float | None:
        """Returns the area under the ROC curve: the share of (positive, negative) pairs in order; a tie counts half."""
        if self.positives == 0 or self.negatives == 0:
            return None
        curve = self.roc_curve()
        heights = (curve.true_positive_rate[1:] + curve.true_positive_rate[:-1]) / 2
        return min(float(np.diff(curve.false_positive_rate) @ heights), 1.0)

    def _balanced_accuracy(self) -> float:
        sides = ((self.true_positives, self.positives), (self.true_negatives, self.negatives))
        shares = [right / rows for right, rows in sides if rows]
        return sum(shares) / max(len(shares), 1)

    def _calibration_error(self) -> float:
        gaps = np.abs(self.calibration_probability_sum - self.calibration_positives)
        return float(gaps.sum()) / max(self.rows, 1)


def _check_scores(labels: npt.NDArray[np.integer], scores: npt.NDArray[np.float32]) -> None:
    """Raises ValueError with the row unless labels are 0 or 1 and scores are probabilities, one of each a row."""
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and probabilities {scores.shape} must be two vectors of one length")
    bad_labels = np.flatnonzero((labels != 0) & (labels != 1))
    if bad_labels.size:
        raise ValueError(f"labels are 0 or 1, got {labels[bad_labels[0]]} in row {bad_labels[0]}")
    bad_scores = np.flatnonzero(~((scores >= 0) & (scores <= 1)))  # NaN compares false
    if bad_scores.size:
        raise ValueError(f"probabilities are from 0 to 1, got {scores[bad_scores[0]]} in row {bad_scores[0]}")


def _score_bins(scores: npt.NDArray[np.float32]) -> Integers:
    """Returns the histogram bin of each probability, float32[rows] -> int64[rows], in rising order.

    The unit interval has four quarters. In each, the level (0 is nearest) is the distance of the probability from the
    quarter's anchor: 0, 0.5, 0.5 and 1. Levels count upwards where the anchor is the quarter's lower end:

        0 ---levels--> 0.25 <--levels--- 0.5 ---levels--> 0.75 <--levels--- 1
    """
    quarter = np.minimum((scores * np.float32(4)).astype(np.int64), 3)
    anchor = np.array([0.0, 0.5, 0.5, 1.0], dtype=np.float32)
    distance = np.abs(scores - anchor[quarter])
    shift = 23 - _MANTISSA_BITS
    nearest = np.exp2(-2 - _OCTAVES).astype(np.float32).view(np.int32) >> shift
    level = np.clip((distance.view(np.int32) >> shift) - nearest[quarter], 0, _LEVELS[quarter] - 1)
    lowest = np.cumsum(_LEVELS) - _LEVELS
    upwards = quarter % 2 == 0
    bins: Integers = lowest[quarter] + np.where(upwards, level, _LEVELS[quarter] - 1 - level)
    return bins


@functools.cache
def bin_starts() -> npt.NDArray[np.float32]:
    """Returns the least probability of each score bin, float32[SCORE_BINS], as `_score_bins` assigns them.

    A bin that contains no float32 has the start of the next bin.
    """
    shift = 23 - _MANTISSA_BITS
    starts = []
    for anchor, octaves, upwards in zip((0.0, 0.5, 0.5, 1.0), _OCTAVES, (True, False, True, False), strict=True):
        nearest = np.exp2(np.float32(-2 - octaves)).view(np.int32) >> shift
        levels = np.arange((octaves << _MANTISSA_BITS) + 1, dtype=np.int32)
        distances = ((nearest + levels) << shift).astype(np.int32).view(np.float32).astype(np.float64)
        if upwards:
            distances[0] = 0.0
            exact = anchor + distances[:-1]
            rounded = exact.astype(np.float32)
            starts.append(np.where(rounded < exact, np.nextafter(rounded, np.float32(1)), rounded))
        else:
            exact = anchor - distances[:0:-1]  # a bin has smaller distances than this, so it starts above `exact`
            rounded = exact.astype(np.float32)
            starts.append(np.where(rounded <= exact, np.nextafter(rounded, np.float32(1)), rounded))
            starts[-1][0] = anchor - 0.25  # the quarter's farthest distance is in its last level
    return np.concatenate(starts).astype(np.float32)


@functools.cache
def bin_ends() -> npt.NDArray[np.float32]:
    """Returns the greatest probability of each score bin, float32[SCORE_BINS]: as a threshold, it splits no bin."""
    return np.append(np.nextafter(bin_starts()[1:], np.float32(0)), np.float32(1))
