"""Fits the n-gram part: logistic regression on the distinct n-grams of the training rows.

A row's features are its buckets. The weight of a bucket is its ratio, which says how much more frequent the bucket is
in positive rows than in negative ones, times a factor that is learned:

    p = 1 + positive rows with the bucket      q = 1 + negative rows with the bucket
    ratio = log((p / sum of all p) / (q / sum of all q))
    logit of a row = bias + sum of ratio * factor over its buckets
    loss = sum over the rows of class weight * cross-entropy  +  |factors|^2 / (2 C)

Each worker holds its own rows' buckets; counts, losses and gradients are summed over the workers.

Source: S. Wang, C. Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.collective.protocol import Collective, Floats, SparseRows
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.products import gathered_sums
from lstm_ray.runtime.threads import Threads
from lstm_ray.text.ngrams import Bags
from lstm_ray.train.ngrams.lbfgs import Point, minimise
from lstm_ray.train.step.loss import Labels

_CLOSE = 1e-6  # distance from the lowest loss, as a share of it or of 1, at which the fit ends
_SHARES = 8  # of the rows for each thread, so that none waits long for another

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NgramPart:
    """The fitted n-gram part: a row's logit is the bias and the sum of the table over its distinct n-grams.

    Attributes:
        table: float32[ngram_buckets], 0 for a bucket that no training row has.
        bias: Added to the sum.
    """

    table: Floats
    bias: float

    def arrays(self) -> list[npt.NDArray[Any]]:
        """Returns table and bias as a checkpoint keeps them."""
        return [self.table, np.array(self.bias)]

    @classmethod
    def from_arrays(cls, arrays: list[npt.NDArray[Any]]) -> NgramPart:
        """Returns the part that `arrays` came from."""
        table, bias = arrays
        return cls(table, float(bias))

    def logits(self, bags: Bags) -> Doubles:
        """Returns the logit of each row, float64[rows]."""
        return bags.sums(self.table) + self.bias


def fit(
    bags: Bags,
    labels: Labels,
    class_weights: tuple[float, float],
    *,
    strength: float,
    buckets: int,
    collective: Collective,
    threads: Threads,
) -> NgramPart:
    """Fits the n-gram part; all workers must call it, and all get the same.

    Args:
        bags: Of this worker's training rows.
        labels: Of these rows.
        class_weights: Of negative and positive rows in the loss.
        strength: C, the inverse strength of the penalty, as in scikit-learn.
        buckets: Number of buckets.
        collective: The workers.
        threads: Compute the sums.
    """
    occurring, counts = _count(bags, labels, buckets, collective)
    p, q = (1 + counts[:, label].astype(np.float64) for label in (1, 0))
    ratios = np.log(p / p.sum() * (q.sum() / q)).astype(np.float32)
    number_of = np.zeros(buckets, np.int64)
    number_of[occurring] = np.arange(len(occurring))
    features = Bags(number_of[bags.buckets], bags.offsets)
    problem = _Problem(features, labels, np.array(class_weights)[labels], ratios, strength, collective, threads)
    solution = minimise(problem.evaluate, np.zeros(len(ratios) + 1, np.float32), problem.dot, problem.is_low)
    table = np.zeros(buckets, np.float32)
    table[occurring] = ratios * solution[:-1]
    return NgramPart(table, float(solution[-1]))


def _count(bags: Bags, labels: Labels, buckets: int, collective: Collective) -> tuple[npt.NDArray[np.int64], Floats]:
    """Returns the buckets that occur, int64[n], rising; and their negative and positive rows, float32[n, 2]."""
    is_positive = np.repeat(labels == 1, np.diff(bags.offsets))
    counts = np.stack(
        [np.bincount(bags.buckets[side], minlength=buckets) for side in (~is_positive, is_positive)], axis=1
    )
    mine = np.flatnonzero(counts.any(axis=1))
    _, [total] = collective.all_reduce(np.zeros(0, np.float32), [SparseRows(mine, counts[mine].astype(np.float32))])
    order = np.argsort(total.ids)
    return total.ids[order], total.values[order]


class _Problem:
    """The loss as a function of the factors of all occurring buckets, and of the bias, which comes last."""

    def __init__(
        self,
        bags: Bags,
        labels: Labels,
        weights: Doubles,
        ratios: Floats,
        strength: float,
        collective: Collective,
        threads: Threads,
    ) -> None:
        """Prepares the sums over this worker's rows; their buckets are positions in `ratios`."""
        rows, size = len(labels), len(ratios)
        self._of_rows = _Sums(bags, threads)
        # The rows of each feature, too: so the gradient is a sum of the same kind, in an order that does not depend on
        # the threads. To sort pairs as numbers takes a fraction of the time of numpy.argsort.
        pairs = np.sort(bags.buckets * rows + np.repeat(np.arange(rows), np.diff(bags.offsets)))
        ends = np.cumsum(np.bincount(bags.buckets, minlength=size))
        self._of_features = _Sums(Bags(pairs % max(rows, 1), np.concatenate([[0], ends])), threads)
        self._signs = np.where(labels == 1, 1.0, -1.0)
        self._weights, self._ratios, self._strength, self._collective = weights, ratios, strength, collective
        mine, workers = collective.rank, collective.world_size
        self._share = slice((size + 1) * mine // workers, (size + 1) * (mine + 1) // workers)

    def evaluate(self, at: Floats) -> Point:
        """Returns loss and gradient."""
        factors, bias = at[:-1], float(at[-1])
        margins = self._signs * (self._of_rows(self._ratios * factors) + bias)
        losses = self._weights * np.logaddexp(0, -margins)
        slopes = -self._signs * self._weights * np.exp(-np.logaddexp(0, margins))
        of_features = self._of_features(slopes.astype(np.float32))
        gradient, _ = self._collective.all_reduce(np.append(of_features, slopes.sum()).astype(np.float32), [])
        gradient[:-1] *= self._ratios
        gradient[:-1] += factors / np.float32(self._strength)
        penalty = np.square(factors[self._share], dtype=np.float64).sum() / (2 * self._strength)
        return Point(at, float(self._collective.all_gather([losses.sum() + penalty]).sum()), gradient)

    def dot(self, one: Floats, other: Floats) -> float:
        """Returns a dot product, of which each worker computes a share.

        So all workers get the same number, also where their processors round differently.
        """
        return float(self._collective.all_gather([one[self._share] @ other[self._share]]).sum())

    def is_low(self, point: Point) -> bool:
        """Returns whether the loss is close to the lowest.

        The penalty's curvature is 1 / C everywhere, so the loss is at most C / 2 |gradient|^2 too high. (The bias has
        no penalty, but far more curvature: that of all rows.)
        """
        return self._strength / 2 * self.dot(point.gradient, point.gradient) <= _CLOSE * max(point.value, 1.0)


class _Sums:
    """Sums of a table over the ids of each segment, on several threads."""

    def __init__(self, segments: Bags, threads: Threads) -> None:
        self._ids, self._offsets, self._threads = segments.buckets.astype(np.int32), segments.offsets, threads
        self._sums = gathered_sums(Target.host())
        # Cut at equal numbers of ids: a frequent word is in thousands of rows, most n-grams are in one.
        cuts = np.searchsorted(self._offsets, np.linspace(0, len(self._ids), threads.count * _SHARES + 1))
        self._cuts = np.unique([0, *np.minimum(cuts, len(segments)), len(segments)])

    def __call__(self, table: Floats) -> Doubles:
        """Returns the sums, float64[segments]."""
        out = np.empty(len(self._offsets) - 1)

        def add(share: int) -> None:
            first, last = self._cuts[share], self._cuts[share + 1]
            begin, ends = self._offsets[first], self._offsets[first + 1 : last + 1]
            self._sums(table=table, ids=self._ids, begin=begin, ends=ends, out=out[first:last])

        self._threads.run(add, range(len(self._cuts) - 1))
        return out
