"""The features of the training rows for the n-gram part, and sums over rows and features.

    row  ->  features: its buckets  ->  the subwords of those buckets that are words

A subword counts once for each of the row's words that contain it. So a linear function of buckets and subwords is also
a linear function of buckets alone (`Rows.fold`), and the gradient with respect to subwords is a sum of the gradient
with respect to buckets. Workers exchange, and models store, values of buckets only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Doubles, Floats
from lstm_ray.collective.protocol import Collective, SparseRows, gather_rows
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.products import gathered_sums
from lstm_ray.runtime.threads import Threads
from lstm_ray.text.ngrams import Bags
from lstm_ray.train.ngrams.lbfgs import Iterate, minimise
from lstm_ray.train.step.loss import Labels

_SHARES = 8  # calls of each thread, so that none waits long for another


@dataclass(frozen=True)
class Words:
    """The words of the vocabulary as features.

    Attributes:
        buckets: int64[words], the bucket of each word as an n-gram of length 1.
        subwords: The subwords of each word, numbered from 0.
    """

    buckets: npt.NDArray[np.int64]
    subwords: Bags


@dataclass(frozen=True)
class Linear:
    """A linear function of a row's features.

    Attributes:
        weights: float32[Rows.buckets].
        bias: Added to the sum of the weights of a row's buckets.
    """

    weights: Floats
    bias: float


class Rows:
    """This worker's training rows.

    Attributes:
        labels: The rows' labels.
        buckets: int64[n], the buckets of words and of n-grams that occur in a row of any worker, in ascending order.
            They are the first features; subwords follow.
        total: Number of rows of all workers.
    """

    def __init__(
        self,
        bags: Bags,
        labels: Labels,
        weights: Doubles,
        buckets: int,
        words: Words,
        collective: Collective,
        threads: Threads,
        evaluated: Callable[[], None],
    ) -> None:
        """Numbers the features. All workers must call this.

        Args:
            bags: The n-grams of the rows.
            labels: The rows' labels.
            weights: float64[rows], the rows' weights in the loss.
            buckets: Number of buckets.
            words: The words of the vocabulary.
            collective: The workers.
            threads: The threads that compute the sums.
            evaluated: Called after each evaluation of a loss; an error that it raises ends the search.
        """
        self.labels, self._weights, self._collective, self._evaluated = labels, weights, collective, evaluated
        self.total = int(self.sum_over_workers(len(labels)))
        mine = np.union1d(words.buckets, np.flatnonzero(np.bincount(bags.buckets, minlength=buckets)))
        ones = SparseRows(mine, np.ones((len(mine), 1), np.float32))
        self.buckets = np.sort(collective.all_reduce(np.zeros(0, np.float32), [ones])[1][0].ids)
        number_of = np.zeros(buckets, np.int64)
        number_of[self.buckets] = np.arange(len(self.buckets))
        self._rows = _Incidence(Bags(number_of[bags.buckets], bags.offsets), len(self.buckets), threads)
        self._word_features = number_of[words.buckets]
        parts = Bags(words.subwords.buckets.copy(), words.subwords.offsets)
        self._words = _Incidence(parts, int(parts.buckets.max(initial=-1)) + 1, threads)

    def by_kind(self, values: npt.NDArray[np.floating]) -> list[npt.NDArray[np.floating]]:
        """Splits values of all features into those of buckets and those of subwords."""
        return np.split(values, [len(self.buckets)])

    def logits(self, linear: Linear) -> Doubles:
        """Returns the logit of each of this worker's rows, float64[rows]."""
        return self._rows.row_sums(linear.weights) + linear.bias

    def totals(self, values: Doubles) -> Floats:
        """Returns, for each feature, the sum of `values` over all workers' rows that have it, float32[features].

        Args:
            values: float64[rows]. A row counts for a subword once for each of its words that contain it.
        """
        mine = self._rows.column_sums(values.astype(np.float32)).astype(np.float32)
        return self._with_subwords(self._collective.all_reduce(mine, [])[0])

    def fold(self, weights: Floats) -> Floats:
        """Returns equivalent weights of buckets alone, which give each row the same logit, float32[Rows.buckets].

        Args:
            weights: float32[features].
        """
        of_buckets, of_subwords = self.by_kind(weights)
        folded = of_buckets.copy()
        np.add.at(folded, self._word_features, self._words.row_sums(of_subwords).astype(np.float32))
        return folded

    def sum_over_workers(self, value: float) -> float:
        """Returns the sum of a number over all workers."""
        return float(self._collective.all_gather([value]).sum())

    def gathered(self, numbers: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_], values: Doubles) -> Floats:
        """Returns the values of the chosen rows of all workers, float32[total], and 0 for other rows."""
        return gather_rows(self._collective, self.total, numbers[chosen], values[chosen])

    def minimise(self, multipliers: Floats, used: Doubles, strength: float, close: float) -> Linear:
        """Returns the weights with the lowest loss.

        Args:
            multipliers: float32[features].
            used: float64[rows], 1 for the rows to train on, 0 for others.
            strength: C, the inverse strength of the penalty.
            close: The search ends when the loss is at most this above the lowest one, as a share of max(loss, 1).
        """
        signs, weights = np.where(self.labels == 1, 1.0, -1.0), self._weights * used
        size, rank, workers = len(multipliers) + 1, self._collective.rank, self._collective.world_size
        mine = slice(size * rank // workers, size * (rank + 1) // workers)

        def evaluate(at: Floats) -> Iterate:
            factors = at[:-1]
            margins = signs * (self._rows.row_sums(self.fold(multipliers * factors)) + float(at[-1]))
            slopes = -signs * weights * np.exp(-np.logaddexp(0, margins))
            of_buckets = self._rows.column_sums(slopes.astype(np.float32))
            reduced, _ = self._collective.all_reduce(np.append(of_buckets, slopes.sum()).astype(np.float32), [])
            gradient = np.append(multipliers * self._with_subwords(reduced[:-1]), reduced[-1])
            gradient[:-1] += factors / np.float32(strength)
            penalty = np.square(factors[mine], dtype=np.float64).sum() / (2 * strength)
            loss = float(weights @ np.logaddexp(0, -margins)) + float(penalty)
            self._evaluated()
            return Iterate(at, self.sum_over_workers(loss), gradient)

        def dot(one: Floats, other: Floats) -> float:
            # Each worker computes a share, so that all get the same number even if their processors round differently.
            return self.sum_over_workers(float(one[mine] @ other[mine]))

        def is_low(point: Iterate) -> bool:
            # The penalty's curvature is 1 / C everywhere, so the loss is at most C / 2 |gradient|^2 above its minimum.
            # (The bias has no penalty, but far more curvature: that of all rows.)
            return strength / 2 * dot(point.gradient, point.gradient) <= close * max(point.value, 1.0)

        solution = minimise(evaluate, np.zeros(size, np.float32), dot, is_low)
        return Linear(self.fold(multipliers * solution[:-1]), float(solution[-1]))

    def _with_subwords(self, of_buckets: Floats) -> Floats:
        """Appends the subwords' values, each the sum over the words that contain the subword: float32[features]."""
        of_subwords = self._words.column_sums(of_buckets[self._word_features])
        return np.append(of_buckets, of_subwords.astype(np.float32))


class _Incidence:
    """A sparse matrix of zeros and ones, stored by rows and by columns, and its sums on several threads."""

    def __init__(self, rows: Bags, columns: int, threads: Threads) -> None:
        """Stores the matrix by columns too.

        Args:
            rows: The columns of each row. Its memory is reused, so it must not be used afterwards.
            columns: Number of columns.
            threads: The threads that compute the sums.
        """
        self._of_rows = _Sums(rows, threads)
        # Stored by columns, a gradient is a sum of the same kind as a logit, in an order that does not depend on the
        # threads. Sorting pairs as integers takes a fraction of the time of numpy.argsort. They are built in place,
        # because this is the largest array of a training run.
        ends = np.cumsum(np.bincount(rows.buckets, minlength=columns))
        pairs = rows.buckets
        pairs *= len(rows)
        pairs += np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
        pairs.sort()
        pairs %= max(len(rows), 1)
        self._of_columns = _Sums(Bags(pairs, np.concatenate([[0], ends])), threads)

    def row_sums(self, values: Floats) -> Doubles:
        """Returns, for each row, the sum of the values of its columns, float64[rows]."""
        return self._of_rows(values)

    def column_sums(self, values: Floats) -> Doubles:
        """Returns, for each column, the sum of the values of its rows, float64[columns]."""
        return self._of_columns(values)


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
