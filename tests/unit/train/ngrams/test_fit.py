"""The n-gram part against scikit-learn's logistic regression on the same matrix."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from threads import on_workers

from lstm_ray.collective.protocol import Alone, Collective
from lstm_ray.runtime.threads import Threads
from lstm_ray.text.ngrams import Bags
from lstm_ray.train.ngrams import fit as fitting
from lstm_ray.train.ngrams.fit import Idf, NgramPart, Ratio, fit
from lstm_ray.train.ngrams.rows import Linear, Rows, Words

BUCKETS = 5000
WEIGHTS = (1.0, 1.0)


def make_bags(rows: list[NDArray[np.int64]]) -> Bags:
    lengths = [len(row) for row in rows]
    return Bags(np.concatenate([np.zeros(0, np.int64), *rows]), np.concatenate([[0], np.cumsum(lengths)]).astype(int))


def make_words(count: int, subwords: int = 40) -> Words:
    """Returns words whose buckets are those of `corpus`, two of them the same bucket, and one that no row has."""
    generator = np.random.default_rng(8)
    buckets = np.append(np.unique((BUCKETS * generator.random(count) ** 4).astype(np.int64)), [0, 0, BUCKETS - 1])
    return Words(buckets, make_bags([np.unique(generator.integers(0, subwords, 6)) for _ in buckets]))


WORDS = make_words(200)
NO_WORDS = Words(np.zeros(0, np.int64), make_bags([]))


def corpus(rows: int = 300, seed: int = 0) -> tuple[Bags, NDArray[np.int8]]:
    """Returns rows of 0 to 60 buckets, most of them frequent; some go with a label. Bucket 7 is in all but one row."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, rows).astype(np.int8)
    found = []
    for label in labels:
        drawn = (BUCKETS * generator.random(generator.integers(0, 60)) ** 4).astype(np.int64)
        likely = drawn[(drawn % 5 != label) | (generator.random(len(drawn)) < 0.5)]
        found.append(np.unique([7, *likely]))
    found[rows // 2] = np.zeros(0, np.int64)
    return make_bags(found), labels


def take(bags: Bags, rows: NDArray[np.int64]) -> Bags:
    return make_bags([bags.buckets[bags.offsets[row] : bags.offsets[row + 1]] for row in rows])


def fitted(bags: Bags, labels: NDArray[np.int8], collective: Collective | None = None, **changes: Any) -> NgramPart:
    settings = {
        "class_weights": WEIGHTS,
        "strength": 0.5,
        "buckets": BUCKETS,
        "words": WORDS,
        "evaluated": lambda: None,
        **changes,
    }
    threads = Threads(settings.pop("threads", 2), "test")
    with closing(threads):
        return fit(bags, labels, collective=collective or Alone(), threads=threads, **settings)


def fit_one(
    view: Ratio | Idf,
    bags: Bags,
    labels: NDArray[np.int8],
    weights: tuple[float, float] = WEIGHTS,
    used: NDArray[np.float64] | None = None,
    words: Words = NO_WORDS,
) -> NgramPart:
    """Returns one of the two regressions, as a part by itself."""
    with closing(Threads(2, "test")) as threads:
        rows = Rows(bags, labels, np.array(weights)[labels], BUCKETS, words, Alone(), threads, lambda: None)
        linear = view.fit(rows, np.ones(len(labels)) if used is None else used)
        np.testing.assert_allclose(rows.logits(linear), as_part(rows, linear).logits(bags), atol=1e-5)
    return as_part(rows, linear)


def as_part(rows: Rows, linear: Linear) -> NgramPart:
    table = np.zeros(BUCKETS, np.float32)
    table[rows.buckets] = linear.weights
    return NgramPart(table, linear.bias)


def matrix_of(bags: Bags) -> csr_matrix:
    return csr_matrix((np.ones(len(bags.buckets)), bags.buckets, bags.offsets), (len(bags), BUCKETS))


def ratios(bags: Bags, labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Returns the ratio of each bucket by its definition; 0 for a bucket that no row has."""
    matrix = matrix_of(bags).toarray()
    occurs = matrix.any(axis=0)
    p, q = (1 + matrix[labels == label].sum(axis=0)[occurs] for label in (1, 0))
    result = np.zeros(BUCKETS)
    result[occurs] = np.log((p / p.sum()) / (q / q.sum()))
    return result


def features(bags: Bags, labels: NDArray[np.int8]) -> csr_matrix:
    return csr_matrix((ratios(bags, labels)[bags.buckets], bags.buckets, bags.offsets), (len(bags), BUCKETS))


def loss(bags: Bags, labels: NDArray[np.int8], part: NgramPart, strength: float, weights: tuple[float, float]) -> float:
    """Returns the loss of a part; its factors are the table divided by the ratios."""
    by_bucket = ratios(bags, labels)
    factors = part.table[by_bucket != 0] / by_bucket[by_bucket != 0]
    margins = np.where(labels == 1, 1, -1) * part.logits(bags)
    return float(np.array(weights)[labels] @ np.logaddexp(0, -margins) + factors @ factors / (2 * strength))


@pytest.mark.parametrize(("strength", "weights"), [(0.5, WEIGHTS), (20.0, WEIGHTS), (0.01, (0.5, 3.0))])
def test_it_is_the_logistic_regression_of_scikit_learn(strength: float, weights: tuple[float, float]) -> None:
    bags, labels = corpus()
    part = fit_one(Ratio(strength), bags, labels, weights)
    oracle = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
    oracle.fit(features(bags, labels), labels, sample_weight=np.array(weights)[labels])
    expected = NgramPart((ratios(bags, labels) * oracle.coef_[0]).astype(np.float32), float(oracle.intercept_[0]))
    lowest = loss(bags, labels, expected, strength, weights)
    assert loss(bags, labels, part, strength, weights) == pytest.approx(lowest, rel=1e-6)
    probabilities, others = (1 / (1 + np.exp(-one.logits(bags))) for one in (part, expected))
    np.testing.assert_allclose(probabilities, others, atol=1e-3)
    assert part.table.dtype == np.float32
    assert not part.table[np.setdiff1d(np.arange(BUCKETS), bags.buckets)].any()


def test_the_other_is_that_of_scikit_learn_on_its_idf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_IDF_CLOSE", 1e-6)
    bags, labels = corpus()
    matrix = TfidfTransformer(norm=None).fit_transform(matrix_of(bags))
    matrix = matrix / np.sqrt(matrix.multiply(matrix).sum() / len(bags))
    oracle = LogisticRegression(C=30, tol=1e-10, max_iter=10_000).fit(matrix, labels)
    probabilities = 1 / (1 + np.exp(-fit_one(Idf(), bags, labels).logits(bags)))
    np.testing.assert_allclose(probabilities, oracle.predict_proba(matrix)[:, 1], atol=2e-3)


def subwords_of(bags: Bags) -> csr_matrix:
    """Returns how often each row has a subword: once for each word that has it."""
    parts = csr_matrix((np.ones(len(WORDS.subwords.buckets)), WORDS.subwords.buckets, WORDS.subwords.offsets))
    words = csr_matrix(
        (np.ones(len(WORDS.buckets)), (WORDS.buckets, np.arange(len(WORDS.buckets)))), (BUCKETS, len(WORDS.buckets))
    )
    return matrix_of(bags) @ words @ parts


def test_with_subwords_it_is_that_of_scikit_learn_on_both_kinds_of_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_IDF_CLOSE", 1e-6)
    bags, labels = corpus()
    matrix, parts = matrix_of(bags), subwords_of(bags)
    # A feature that no row has changes the sums of p and q: words are features whether or not a row has them.
    is_feature = np.isin(np.arange(BUCKETS), [*bags.buckets, *WORDS.buckets])

    def by_ratio(one: csr_matrix) -> csr_matrix:
        p, q = (1 + np.asarray(one[labels == label].sum(axis=0))[0] for label in (1, 0))
        return one.multiply(np.log(p / p.sum() / (q / q.sum()))).tocsr()

    def by_idf(one: csr_matrix) -> csr_matrix:
        occurring = np.asarray(one.sum(axis=0))[0]
        idf = np.maximum(1 + np.log((1 + len(bags)) / (1 + occurring)), 0)
        return one.multiply(idf / np.sqrt(occurring @ idf**2 / len(bags))).tocsr()

    for view, weigh, share, strength in ((Ratio(0.5), by_ratio, 0.3, 0.5), (Idf(), by_idf, 0.5, 30.0)):
        features = hstack([weigh(matrix[:, is_feature]), share * weigh(parts)]).tocsr()
        oracle = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(features, labels)
        probabilities = 1 / (1 + np.exp(-fit_one(view, bags, labels, words=WORDS).logits(bags)))
        np.testing.assert_allclose(probabilities, oracle.predict_proba(features)[:, 1], atol=2e-3)


def test_a_word_that_no_row_has_gets_the_weight_of_its_subwords() -> None:
    labels = np.tile(np.array([0, 1], np.int8), 20)
    words = Words(np.array([10, 11, 12]), make_bags([np.array([0]), np.array([1]), np.array([1])]))
    part = fit_one(Ratio(0.5), make_bags([np.array([10 + label]) for label in labels]), labels, words=words)
    assert part.table[11] > part.table[12] > 0 > part.table[10]


@pytest.mark.parametrize("view", [Ratio(0.5), Idf()], ids=["ratio", "idf"])
def test_rows_that_are_not_used_do_not_count(view: Ratio | Idf) -> None:
    bags, labels = corpus()
    used = np.random.default_rng(1).integers(0, 2, len(labels))
    rows = np.flatnonzero(used)
    part, other = fit_one(view, bags, labels, used=used * 1.0), fit_one(view, take(bags, rows), labels[rows])
    # With rows that are not used there are features that occur in none that is: they have a share in the sums of p, q.
    np.testing.assert_allclose(part.logits(bags), other.logits(bags), atol=0.1)
    np.testing.assert_array_equal(part.table[np.setdiff1d(bags.buckets, take(bags, rows).buckets)], 0)


def test_the_part_is_a_sum_of_both_regressions() -> None:
    bags, labels = corpus()
    part = fitted(bags, labels)
    both = np.stack([fit_one(view, bags, labels, words=WORDS).table for view in (Ratio(0.5), Idf())], axis=1)
    shares, *_ = np.linalg.lstsq(both, part.table, rcond=None)
    assert shares.min() > -1e-6
    assert shares.sum() > 0.1
    np.testing.assert_allclose(both @ shares, part.table, atol=1e-4)


def test_what_counts_more_predicts_unseen_rows_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """A regression that learns nothing has a share, but its logits are 0: the part is the other one, scaled."""
    bags, labels = corpus()
    alone = fit_one(Ratio(0.5), bags, labels, words=WORDS)
    monkeypatch.setattr(fitting, "_IDF_STRENGTH", 1e-9)
    part = fitted(bags, labels)
    scale = part.table @ alone.table / (alone.table @ alone.table)
    assert 0.05 < scale < 1, "overconfident on the rows it has learned, so that others scale it down"
    np.testing.assert_allclose(part.table, scale * alone.table, atol=1e-3)


def test_a_table_from_before_is_a_third_part() -> None:
    bags, labels = corpus(100, seed=1)
    before = fitted(*corpus(2_000, seed=2)).table
    part = fitted(bags, labels, before=before)
    parts = [fit_one(view, bags, labels, words=WORDS).table for view in (Ratio(0.5), Idf())]
    both = np.stack([*parts, before], axis=1)
    shares, *_ = np.linalg.lstsq(both, part.table, rcond=None)
    np.testing.assert_allclose(both @ shares, part.table, atol=1e-4)
    assert shares[2] > 0.3, "it knows more of what these few rows have"
    unseen, its = corpus(1_000, seed=3)
    right = [((one.logits(unseen) > 0) == (its == 1)).mean() for one in (part, fitted(bags, labels))]
    assert right[0] > right[1]
    useless = fitted(bags, labels, before=np.zeros(BUCKETS, np.float32))
    assert np.isfinite(useless.table).all()


@pytest.mark.parametrize("world_size", [2, 3])
def test_any_number_of_workers_finds_the_same(world_size: int) -> None:
    bags, labels = corpus(301)
    weights = (0.5, 3.0)

    def work(group: Collective) -> NgramPart:
        rows = np.arange(group.rank, len(bags), world_size)
        return fitted(take(bags, rows), labels[rows], group, class_weights=weights)

    parts = on_workers(world_size, work)
    for other in parts[1:]:
        assert other.bias == parts[0].bias
        assert other.table.tobytes() == parts[0].table.tobytes(), "equal to the bit"
    alone = fitted(bags, labels, class_weights=weights)
    np.testing.assert_allclose(parts[0].table, alone.table, atol=2e-4)
    assert parts[0].bias == pytest.approx(alone.bias, abs=2e-4)


def test_threads_change_no_bit() -> None:
    bags, labels = corpus()
    one, two, five = (fitted(bags, labels, threads=threads) for threads in (1, 2, 5))
    assert one.table.tobytes() == two.table.tobytes() == five.table.tobytes()
    assert one.bias == two.bias == five.bias


def test_rows_of_one_class_are_all_that_class() -> None:
    bags, _ = corpus(50)
    for label in (0, 1):
        labels = np.full(50, label, np.int8)
        assert np.isfinite(fitted(bags, labels).table).all()
        part = fit_one(Ratio(0.5), bags, labels)
        assert ((part.logits(bags) > 0) == label).all()


def test_a_worker_may_have_no_rows() -> None:
    bags, labels = make_bags([np.array([3, 9])]), np.array([1], np.int8)

    def work(group: Collective) -> NgramPart:
        rows = np.arange(group.rank, 1, 2)
        return fitted(take(bags, rows), labels[rows], group)

    first, second = on_workers(2, work)
    assert first.table.tobytes() == second.table.tobytes()


def test_rows_without_ngrams_leave_the_bias() -> None:
    labels = np.array([1, 1, 1, 0], np.int8)
    bags = make_bags([np.zeros(0, np.int64)] * 4)
    assert not fitted(bags, labels, words=NO_WORDS).table.any()
    part = fit_one(Ratio(0.5), bags, labels)
    assert part.bias == pytest.approx(np.log(3), rel=1e-3)
    assert not part.table.any()


def test_a_bucket_in_every_row_says_nothing() -> None:
    """In a thousand rows of each class: its ratio is 0, so that it has no weight whatever its factor."""
    labels = np.tile(np.array([0, 1], np.int8), 1000)
    part = fit_one(Ratio(0.5), make_bags([np.array([7, 10 + label]) for label in labels]), labels)
    assert part.table[7] == 0
    assert part.table[11] > 1
    assert part.table[10] < -1


def test_a_checkpoints_arrays_are_the_part() -> None:
    part = NgramPart(np.array([1, 2], np.float32), 0.1)
    again = NgramPart.from_arrays(part.arrays())
    assert again.bias == 0.1
    assert again.table is part.table
