"""Fits the n-gram part: two logistic regressions on the distinct n-grams of the training rows, added up.

A row's features are its buckets. The two differ in what a bucket's factor, which is learned, is multiplied by:

    ratio    how much more frequent the bucket is in positive rows: log((p / sum of all p) / (q / sum of all q)),
             p = 1 + positive rows with the bucket, q = 1 + negative ones            (Wang & Manning 2012)
    idf      how rare it is: 1 + log((1 + rows) / (1 + rows with the bucket)), divided so that a row's mean square
             length is 1                                                             (scikit-learn's TfidfVectorizer)

    logit of a row = bias + sum of multiplier * factor over its buckets
    loss = sum over the rows of class weight * cross-entropy  +  |factors|^2 / (2 C)

On few rows the first is the better one for long texts and the second for short ones, and their sum is better than
either (docs/accuracy.md). What each counts in it is fitted on rows that it did not learn from: each fifth of the
training rows in turn, of many rows one fifth (mix.py). Sums of linear functions of the same features are one such
function: the result is one table.

Each worker holds its own rows' buckets; counts, losses and gradients are summed over the workers.

Sources: S. Wang, C. Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", 2012;
scikit-learn, "Tf-idf term weighting".
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
from lstm_ray.train.ngrams.mix import fit_shares
from lstm_ray.train.step.loss import Labels

_CLOSE = 1e-6
_IDF_CLOSE = 1e-2  # on IMDb 96 evaluations instead of 247, and the same accuracy: the bound is far from tight here
_FOLDS = 5
_MANY_ROWS = 5_000  # from which on one fold measures what the two regressions count
_IDF_STRENGTH = 30.0  # of 1 to 100 the best on average for 500 and 2,000 rows of three corpora; little depends on it
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
        bags: Of this worker's training rows: those with the numbers rank, rank + world_size, ...
        labels: Of these rows.
        class_weights: Of negative and positive rows in the loss.
        strength: C of the first regression, the inverse strength of its penalty as in scikit-learn.
        buckets: Number of buckets.
        collective: The workers.
        threads: Compute the sums.
    """
    rows = Rows(bags, labels, np.array(class_weights)[labels], buckets, collective, threads)
    numbers = collective.rank + collective.world_size * np.arange(len(labels))
    folds = _FOLDS if rows.total < _MANY_ROWS else 1
    measured = numbers % _FOLDS < folds
    found, unseen = [], []
    for view in (Ratio(strength), Idf()):
        found.append(view.fit(rows, np.ones(len(labels))))
        logits = np.zeros(len(labels))
        for fold in range(folds):
            is_unseen = numbers % _FOLDS == fold
            logits[is_unseen] = rows.logits(view.fit(rows, ~is_unseen * 1.0))[is_unseen]
        unseen.append(rows.gathered(numbers, measured, logits))
    everyone = rows.gathered(numbers, measured, np.where(labels == 1, 1.0, -1.0))
    is_known = everyone != 0
    weights = np.where(everyone[is_known] > 0, class_weights[1], class_weights[0])
    shares = fit_shares([part[is_known] for part in unseen], (everyone[is_known] > 0).astype(np.int8), weights)
    shares = collective.all_gather(shares)[0]  # worker 0's, where processors round differently
    table = np.zeros(buckets, np.float32)
    table[rows.buckets] = sum(np.float32(share) * one.weights for share, one in zip(shares, found, strict=False))
    return NgramPart(
        table, float(shares[-1] + sum(share * one.bias for share, one in zip(shares, found, strict=False)))
    )


@dataclass(frozen=True)
class Linear:
    """A linear function of a row's features.

    Attributes:
        weights: float32[features].
        bias: Added to the sum of the weights of a row's features.
    """

    weights: Floats
    bias: float


@dataclass(frozen=True)
class Ratio:
    """Logistic regression on features multiplied by the log ratio of their frequencies in the classes.

    Attributes:
        strength: C, the inverse strength of the penalty.
    """

    strength: float

    def fit(self, rows: Rows, used: Doubles) -> Linear:
        """Fits it on the rows where `used` is 1 and not 0; all workers must call it."""
        p, q = (1 + rows.totals(used * (rows.labels == label)).astype(np.float64) for label in (1, 0))
        return rows.minimise(np.log(p / p.sum() * (q.sum() / q)).astype(np.float32), used, self.strength, _CLOSE)


class Idf:
    """Logistic regression on features multiplied by how rare they are."""

    def fit(self, rows: Rows, used: Doubles) -> Linear:
        """Fits it on the rows where `used` is 1 and not 0; all workers must call it."""
        count = rows.sum_over_workers(used.sum())
        occurring = rows.totals(used).astype(np.float64)
        idf = np.where(occurring > 0, 1 + np.log((1 + count) / (1 + occurring)), 0)
        length = np.sqrt((occurring @ np.square(idf)) / max(count, 1))
        return rows.minimise((idf / max(length, 1)).astype(np.float32), used, _IDF_STRENGTH, _IDF_CLOSE)


class Rows:
    """This worker's training rows, and their features: the buckets that occur in a row of any worker.

    Attributes:
        labels: Of the rows.
        buckets: int64[features], rising.
        total: Rows of all workers.
    """

    def __init__(
        self,
        bags: Bags,
        labels: Labels,
        weights: Doubles,
        buckets: int,
        collective: Collective,
        threads: Threads,
    ) -> None:
        """Numbers the features; all workers must call it.

        Args:
            bags: Of the rows.
            labels: Of the rows.
            weights: float64[rows], what each counts in the loss.
            buckets: Number of buckets.
            collective: The workers.
            threads: Compute the sums.
        """
        self.labels, self._weights, self._collective = labels, weights, collective
        self.total = int(self.sum_over_workers(len(labels)))
        mine = np.flatnonzero(np.bincount(bags.buckets, minlength=buckets))
        ones = SparseRows(mine, np.ones((len(mine), 1), np.float32))
        self.buckets = np.sort(collective.all_reduce(np.zeros(0, np.float32), [ones])[1][0].ids)
        number_of = np.zeros(buckets, np.int64)
        number_of[self.buckets] = np.arange(len(self.buckets))
        features, rows = Bags(number_of[bags.buckets], bags.offsets), len(labels)
        self._of_rows = _Sums(features, threads)
        # The rows of each feature, too: so the gradient is a sum of the same kind, in an order that does not depend on
        # the threads. To sort pairs as numbers takes a fraction of the time of numpy.argsort. They are made in place:
        # of all that training holds in memory, this is the most.
        ends = np.cumsum(np.bincount(features.buckets, minlength=len(self.buckets)))
        pairs = features.buckets
        pairs *= rows
        pairs += np.repeat(np.arange(rows), np.diff(bags.offsets))
        pairs.sort()
        pairs %= max(rows, 1)
        self._of_features = _Sums(Bags(pairs, np.concatenate([[0], ends])), threads)

    def logits(self, linear: Linear) -> Doubles:
        """Returns the logit of each of this worker's rows, float64[rows]."""
        return self._of_rows(linear.weights) + linear.bias

    def totals(self, values: Doubles) -> Floats:
        """Returns the sum of a value over the rows of all workers that have a feature, float32[features]."""
        return self._collective.all_reduce(self._of_features(values.astype(np.float32)).astype(np.float32), [])[0]

    def sum_over_workers(self, value: float) -> float:
        """Returns the sum of a number over all workers."""
        return float(self._collective.all_gather([value]).sum())

    def gathered(self, numbers: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_], values: Doubles) -> Floats:
        """Returns values of the chosen rows of all workers, float32[total], 0 for the other rows."""
        everywhere = np.zeros(self.total, np.float32)
        everywhere[numbers[chosen]] = values[chosen]
        return self._collective.all_reduce(everywhere, [])[0]

    def minimise(self, multipliers: Floats, used: Doubles, strength: float, close: float) -> Linear:
        """Returns the weights with the lowest loss.

        Args:
            multipliers: float32[features].
            used: float64[rows], 1 for the rows to learn from, 0 for others.
            strength: C, the inverse strength of the penalty.
            close: Distance from the lowest loss, as a share of it or of 1, at which to end.
        """
        signs, weights = np.where(self.labels == 1, 1.0, -1.0), self._weights * used
        size, rank, workers = len(multipliers) + 1, self._collective.rank, self._collective.world_size
        mine = slice(size * rank // workers, size * (rank + 1) // workers)

        def evaluate(at: Floats) -> Point:
            factors = at[:-1]
            margins = signs * (self._of_rows(multipliers * factors) + float(at[-1]))
            slopes = -signs * weights * np.exp(-np.logaddexp(0, margins))
            of_features = self._of_features(slopes.astype(np.float32))
            gradient, _ = self._collective.all_reduce(np.append(of_features, slopes.sum()).astype(np.float32), [])
            gradient[:-1] *= multipliers
            gradient[:-1] += factors / np.float32(strength)
            penalty = np.square(factors[mine], dtype=np.float64).sum() / (2 * strength)
            loss = float(weights @ np.logaddexp(0, -margins)) + float(penalty)
            return Point(at, self.sum_over_workers(loss), gradient)

        def dot(one: Floats, other: Floats) -> float:
            # Each worker computes a share: so all get the same number, also where their processors round differently.
            return self.sum_over_workers(float(one[mine] @ other[mine]))

        def is_low(point: Point) -> bool:
            # The penalty's curvature is 1 / C everywhere, so the loss is at most C / 2 |gradient|^2 too high. (The bias
            # has no penalty, but far more curvature: that of all rows.)
            return strength / 2 * dot(point.gradient, point.gradient) <= close * max(point.value, 1.0)

        solution = minimise(evaluate, np.zeros(size, np.float32), dot, is_low)
        return Linear(multipliers * solution[:-1], float(solution[-1]))


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
