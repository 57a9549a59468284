"""Confidence intervals of metrics, and tests whether two figures differ.

All are functions of counts, so that they do not depend on how the rows were distributed and need no random numbers.
Intervals have a confidence of 95 %. Rows are assumed to be independent; reviews of one product are so only roughly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lstm_ray.evaluate.counts import BinaryCounts

Interval: TypeAlias = tuple[float, float]

LEVEL = 0.05
"""Significance level: the probability that a test reports a difference where there is none."""

_Z = NormalDist().inv_cdf(1 - LEVEL / 2)  # 1.96 standard errors
_LEAST_SHOWN = 1e-16
_EXACT_ROWS = 1_000  # differing rows up to which the test is exact; for more, the normal approximation agrees


def share_interval(successes: int, rows: int) -> Interval | None:
    """Returns Wilson's score interval of a share; None without rows.

    Unlike the share plus or minus two standard errors, it stays within [0, 1] and is right for few rows and for shares
    near 0 and 1. Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    if rows == 0:
        return None
    share, weight = successes / rows, _Z * _Z / rows
    centre = (share + weight / 2) / (1 + weight)
    margin = _Z / (1 + weight) * math.sqrt(share * (1 - share) / rows + weight / (4 * rows))
    return max(0.0, centre - margin), min(1.0, centre + margin)


def auc_interval(positives: npt.NDArray[np.int64], negatives: npt.NDArray[np.int64]) -> Interval | None:
    """Returns DeLong's interval of the area under the ROC curve; None if it is undefined.

    DeLong's variance follows from the share of the other class below each row, and so from the histograms of which AUC
    is computed. A bootstrap would need random numbers and several passes over the rows. Source: DeLong et al. 1988,
    "Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves".

    Args:
        positives: int64[bins], rows of label 1 by rising probability. Rows in one bin count as ties.
        negatives: int64[bins], rows of label 0.

    Returns:
        None if a class has fewer than two rows, or if the classes do not overlap: the variance would be estimated as 0.
    """
    of_positives, of_negatives = int(positives.sum()), int(negatives.sum())
    if min(of_positives, of_negatives) < 2:
        return None
    below = (np.cumsum(negatives) - negatives / 2) / of_negatives
    above = (of_positives - np.cumsum(positives) + positives / 2) / of_positives
    auc = float(positives @ below) / of_positives
    variance = (
        float(positives @ np.square(below - auc)) / (of_positives - 1) / of_positives
        + float(negatives @ np.square(above - auc)) / (of_negatives - 1) / of_negatives
    )
    if variance == 0:
        return None
    margin = _Z * math.sqrt(variance)
    return max(0.0, auc - margin), min(1.0, auc + margin)


def intervals(counts: BinaryCounts) -> dict[str, Interval | None]:
    """Returns the intervals of metrics by name; None for those with too few rows."""
    tp, fp, tn, fn = counts.true_positives, counts.false_positives, counts.true_negatives, counts.false_negatives
    return {
        "accuracy": share_interval(tp + tn, counts.rows),
        "precision": share_interval(tp, tp + fp),
        "recall": share_interval(tp, tp + fn),
        "specificity": share_interval(tn, tn + fp),
        "auc": auc_interval(counts.positive_histogram, counts.negative_histogram),
    }


class Paired(NamedTuple):
    """Whether two models differ in accuracy on the same rows.

    Attributes:
        difference: Accuracy of the first model minus that of the second.
        interval: Confidence interval of the difference.
        p_value: Probability of a difference at least this large if the models are equally accurate.
        test: Name of the test.
    """

    difference: float
    interval: Interval
    p_value: float
    test: str


def compare_paired(only_first: int, only_second: int, rows: int) -> Paired:
    """Compares two models by the rows that only one of them predicts right.

    The test is McNemar's: exact for up to 1,000 such rows, else with Edwards's correction. The interval is Wald's with
    half a row added to each of the four counts. Source: Agresti and Min 2005, "Simple improved confidence intervals for
    comparing matched proportions".

    Args:
        only_first: Rows that only the first model predicts right.
        only_second: Rows that only the second model predicts right.
        rows: All rows, at least one.
    """
    differing = only_first + only_second
    if differing <= _EXACT_ROWS:
        tail = sum(math.comb(differing, count) for count in range(min(only_first, only_second) + 1))
        p_value, test = min(1.0, 2 * tail / 2**differing), "McNemar, exact"
    else:
        distance = max(0, abs(only_first - only_second) - 1) / math.sqrt(differing)
        p_value, test = math.erfc(distance / math.sqrt(2)), "McNemar, corrected"
    gap, padded = only_first - only_second, rows + 2
    centre = gap / padded
    margin = _Z * math.sqrt(differing + 1 - gap * gap / padded) / padded
    return Paired(gap / rows, (max(-1.0, centre - margin), min(1.0, centre + margin)), p_value, test)


def show_interval(interval: Interval | None) -> str:
    """Returns an interval as it follows its figure: " (0.8123 to 0.8345)"; "" if there is none."""
    return "" if interval is None else f" ({interval[0]:.4f} to {interval[1]:.4f})"


def show_p_value(p_value: float) -> str:
    """Returns a p-value for a message: "p 0.034", "p below 1e-16"."""
    return f"p {p_value:.2g}" if p_value >= _LEAST_SHOWN else f"p below {_LEAST_SHOWN:g}"


def part_p_value(successes: int, rows: int, all_successes: int, all_rows: int) -> float | None:
    """Returns the probability of a share as unusual as this part's if the part is drawn at random from all rows.

    This is Fisher's exact test of the part against the other rows: twice the smaller tail of the hypergeometric
    distribution. It is valid for parts of any size; the normal approximation fails for small ones.

    Returns:
        None if the part has no rows, or all of them.
    """
    if rows in (0, all_rows):
        return None
    expected = rows * all_successes / all_rows
    step = 1 if successes > expected else -1
    term = total = math.exp(
        _log_choose(all_successes, successes)
        + _log_choose(all_rows - all_successes, rows - successes)
        - _log_choose(all_rows, rows)
    )
    count = successes
    while term > total * 1e-17:  # away from the expected count, each term is smaller than the one before
        up = count + (step > 0)  # the larger of this count and the next
        ratio = (all_successes - up + 1) * (rows - up + 1) / (up * (all_rows - all_successes - rows + up) or math.inf)
        term *= ratio if step > 0 else (1 / ratio if ratio else 0.0)
        count += step
        if not max(0, rows + all_successes - all_rows) <= count <= min(rows, all_successes):
            break
        total += term
    return min(1.0, 2 * total)


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p-values corrected for their number by Holm's method, in the same order; None stays None.

    Holm's method keeps the probability of any false finding below the level, even if the tests depend on each other,
    as they do here: every group is compared with all the others. Source: Holm 1979, "A Simple Sequentially Rejective
    Multiple Test Procedure".
    """
    known = sorted((value, at) for at, value in enumerate(p_values) if value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, at) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        corrected[at] = largest
    return corrected


def _log_choose(rows: int, chosen: int) -> float:
    return math.lgamma(rows + 1) - math.lgamma(chosen + 1) - math.lgamma(rows - chosen + 1)
