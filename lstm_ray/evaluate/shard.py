"""Evaluates one shard, in this process or in a Ray task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lstm_ray.arrays import Floats
from lstm_ray.config import LENGTH, EvaluateConfig
from lstm_ray.datasets.labelled import Shard, read_shard
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.datasets.seen import Hashes40, SeenTexts, hash_texts, sum_of
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.groups import Outcomes, band_of_length, count_outcomes
from lstm_ray.evaluate.intervals import Paired, compare_paired
from lstm_ray.evaluate.predictions import prediction_table
from lstm_ray.model.bundle import Bundle
from lstm_ray.model.explain import WordWeight
from lstm_ray.score.scorer import HAS_WORDS, Engine, Scorer, native_engine

_NGRAMS_THRESHOLD = 0.5  # of the n-grams alone, as in training


@dataclass(frozen=True)
class Mistake:
    """A review that the model predicted wrong.

    Attributes:
        text: The review.
        label: Its label, 0 or 1.
        probability: The predicted probability of label 1.
        file: Path of its file.
        row: Its number in the file, from 0.
        words: Its words and what they weigh in the score, heaviest first; empty if they were not asked for.
    """

    text: str
    label: int
    probability: float
    file: str = ""
    row: int = 0
    words: tuple[WordWeight, ...] = ()

    @property
    def error(self) -> float:
        """Difference of probability and label."""
        return abs(self.probability - self.label)


@dataclass(frozen=True)
class Comparison:
    """Two models on the rows that both can score; `a + b` counts the rows of both.

    Attributes:
        other: Counts of the other model on these rows.
        rows: Number of these rows.
        right: Rows that the model predicts right.
        only_this: Rows that only the model predicts right.
        only_other: Rows that only the other model predicts right.
    """

    other: BinaryCounts
    rows: int
    right: int
    only_this: int
    only_other: int

    def __add__(self, more: Comparison) -> Comparison:
        """Counts the rows of both."""
        return Comparison(
            self.other + more.other,
            self.rows + more.rows,
            self.right + more.right,
            self.only_this + more.only_this,
            self.only_other + more.only_other,
        )

    def paired(self) -> Paired | None:
        """Returns the test whether the two differ; None without rows."""
        return compare_paired(self.only_this, self.only_other, self.rows) if self.rows else None


@dataclass(frozen=True)
class ShardScores:
    """What a model got right and wrong in one shard.

    Attributes:
        counts: Counts of the scored rows.
        rows_without_text: Rows left out because they have no words to score.
        rows_with_other_label: Rows left out because the label mapping does not name their label.
        mistakes: The wrong predictions with the largest errors, largest first.
        rows_seen: Scored rows whose text is in the model's training data.
        other_rows_seen: Scored rows whose text is in the other model's training data.
        sum_of_texts: Sum of the hashes of the scored rows' texts.
        outcomes: Outcomes of each group, if groups were asked for.
        comparison: The comparison with another model, if one was given.
        ngrams: The comparison with the model's n-grams alone, if they have a part in it.
        predictions: Predictions of the scored rows (`predictions.SCHEMA`), if they were asked for.
    """

    counts: BinaryCounts
    rows_without_text: int
    rows_with_other_label: int
    mistakes: list[Mistake]
    rows_seen: int
    other_rows_seen: int
    sum_of_texts: int
    outcomes: Outcomes
    comparison: Comparison | None
    ngrams: Comparison | None
    predictions: pa.Table | None


@dataclass(frozen=True)
class Models:
    """The models that evaluate a shard.

    Attributes:
        scorer: The model.
        seen: Its training texts, if its bundle has them.
        other: The model to compare with, if there is one.
        other_seen: The training texts of that one, if its bundle has them.
        ngrams: Computes the model's n-grams alone, if they have a part in it.
    """

    scorer: Scorer
    seen: SeenTexts | None = None
    other: Scorer | None = None
    other_seen: SeenTexts | None = None
    ngrams: Engine | None = None


def ngrams_alone(bundle: Bundle, threads: int | None = None) -> Engine | None:
    """Returns an engine that computes a model's n-grams alone; None if they have no part in it."""
    if bundle.mix is None or bundle.mix.ngrams == 0 or bundle.ngram_bias is None:
        return None
    return native_engine(bundle.weights().ngrams_alone(bundle.mix.ngrams, bundle.ngram_bias), threads)


def evaluate_shard(shard: Shard, config: EvaluateConfig, models: Models) -> ShardScores:
    """Scores the rows of one shard and compares the predictions with the labels.

    Args:
        shard: The rows.
        config: The settings; `threshold` must be set.
        models: The models.

    Raises:
        InputError: The shard cannot be read, or contains an invalid label or too many groups.
    """
    assert config.threshold is not None
    columns = [name for name in config.by if name != LENGTH]
    rows = read_shard(shard, config.text_column, config.label_column, label_mapping(config), others=columns)
    encoded = models.scorer.encode(rows.texts)
    has_score = encoded.reasons == HAS_WORDS
    probabilities = models.scorer.probabilities(encoded.sequences)
    labels, numbers, texts = rows.labels[has_score], rows.numbers[has_score], rows.texts.filter(pa.array(has_score))
    predicted = probabilities > np.float32(config.threshold)
    wrong = np.flatnonzero(predicted != (labels == 1))
    largest = wrong[np.argsort(-np.abs(probabilities[wrong] - labels[wrong]), kind="stable")][: config.mistakes]
    by = {
        name: band_of_length(texts) if name == LENGTH else rows.others[name].filter(pa.array(has_score))
        for name in config.by
    }
    hashes = hash_texts(texts)
    path, predictions = shard.file.path, None
    if config.predictions is not None:
        predictions = prediction_table(path, numbers, texts, labels, probabilities, predicted)
    comparison = ngrams = None
    if models.other is not None:
        others = models.other.encode(rows.texts)
        other_has_score = others.reasons == HAS_WORDS
        has_both = has_score & other_has_score
        comparison = _compare(
            rows.labels[has_both],
            probabilities[has_both[has_score]],
            config.threshold,
            models.other.probabilities(others.sequences)[has_both[other_has_score]],
            models.other.threshold,
        )
    if models.ngrams is not None:
        alone = models.ngrams.probabilities(encoded.sequences)
        ngrams = _compare(labels, probabilities, config.threshold, alone, _NGRAMS_THRESHOLD)
    return ShardScores(
        BinaryCounts.from_scores(labels, probabilities, threshold=config.threshold),
        rows.without_text + int((~has_score).sum()),
        rows.with_other_label,
        [
            Mistake(texts[row].as_py(), int(labels[row]), float(probabilities[row]), path, int(numbers[row]))
            for row in largest.tolist()
        ],
        _count_seen(hashes, models.seen),
        _count_seen(hashes, models.other_seen),
        sum_of(hashes),
        count_outcomes(by, labels, predicted),
        comparison,
        ngrams,
        predictions,
    )


def _count_seen(hashes: Hashes40, seen: SeenTexts | None) -> int:
    return 0 if seen is None else seen.count(hashes)


def _compare(
    labels: NDArray[np.int8], mine: Floats, threshold: float, theirs: Floats, other_threshold: float
) -> Comparison:
    """Counts which of two models is right, from their probabilities of the same rows."""
    is_positive = labels == 1
    right = (mine > np.float32(threshold)) == is_positive
    other_right = (theirs > np.float32(other_threshold)) == is_positive
    return Comparison(
        BinaryCounts.from_scores(labels, theirs, threshold=other_threshold),
        len(right),
        int(right.sum()),
        int((right & ~other_right).sum()),
        int((other_right & ~right).sum()),
    )
