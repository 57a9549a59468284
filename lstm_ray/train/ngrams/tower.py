"""The n-gram part of a run: fitted before the first epoch, mixed with the LSTM after each one.

    training rows -> bags -> fit.py -> table and bias          once; saved in checkpoints
    validation rows -> bags -> logits                          once per process
    after an epoch: the LSTM's logits -> mix.py -> counts of the mixed probabilities, and of each part alone

The LSTM is trained independently: with a common loss, the n-grams would soon fit the training rows and leave the LSTM
nothing to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Doubles, Floats
from lstm_ray.collective.protocol import Collective, gather_rows
from lstm_ray.config import TrainConfig
from lstm_ray.evaluate.counts import LOG_LOSS_EPSILON, BinaryCounts
from lstm_ray.model.weights import Mix
from lstm_ray.runtime.threads import Threads
from lstm_ray.text.ngrams import Bags, bags
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.subwords import subwords
from lstm_ray.text.vocabulary import FIRST_WORD_ID, Vocabulary
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.ngrams.fit import NgramPart, fit
from lstm_ray.train.ngrams.mix import fit_mix, lstm_share
from lstm_ray.train.ngrams.rows import Words
from lstm_ray.train.step.loss import class_weights


@dataclass(frozen=True)
class Mixed:
    """An epoch's model on the validation rows.

    Attributes:
        mix: How the logits are mixed.
        lstm_share: The LSTM's share of the mixed logits, 0 to 1.
        counts: Counts for the mixed probabilities.
        lstm: Counts for the LSTM alone.
        ngrams: Counts for the n-grams alone.
    """

    mix: Mix
    lstm_share: float
    counts: BinaryCounts
    lstm: BinaryCounts
    ngrams: BinaryCounts

    def columns(self) -> dict[str, float | int | None]:
        """Returns the history's columns about the two parts."""
        lstm, ngrams = self.lstm.metrics(), self.ngrams.metrics()
        return {
            "validation_lstm_loss": lstm["log_loss"],
            "validation_lstm_accuracy": lstm["accuracy"],
            "validation_ngram_loss": ngrams["log_loss"],
            "validation_ngram_accuracy": ngrams["accuracy"],
            "lstm_share": self.lstm_share,
        }


def fit_on(
    config: TrainConfig,
    corpus: Corpus,
    vocabulary: Vocabulary,
    collective: Collective,
    threads: int,
    evaluated: Callable[[], None],
    before: Floats | None = None,
) -> NgramPart:
    """Fits the n-gram part on training rows; each of N workers takes every N-th of them. All workers must call this.

    Args:
        config: The settings.
        corpus: The rows.
        vocabulary: The vocabulary.
        collective: The workers.
        threads: Number of threads of this worker.
        evaluated: Called a few hundred times; an error that it raises ends the fit.
        before: The table of the model that the run starts from.
    """
    used = len(corpus) if config.ngram_rows == 0 else min(config.ngram_rows, len(corpus))
    mine = np.linspace(0, len(corpus) - 1, used).astype(np.int64)[collective.rank :: collective.world_size]
    pool = Threads(threads, "ngrams")
    try:
        return fit(
            _bags(config, corpus, mine),
            corpus.labels[mine],
            class_weights(config, corpus.labels),
            strength=config.ngram_c,
            buckets=config.ngram_buckets,
            words=_words(vocabulary, config.ngram_buckets),
            collective=collective,
            threads=pool,
            evaluated=evaluated,
            before=before,
        )
    finally:
        pool.close()


class Mixer:
    """Mixes the LSTM's predictions of the validation rows with the n-grams'."""

    def __init__(self, config: TrainConfig, prepared: Prepared, part: NgramPart, collective: Collective) -> None:
        """Computes the n-grams' logits. All workers must call this."""
        corpus = prepared.validation
        self._labels, self._collective = corpus.labels, collective
        self._mine = _share(corpus, collective)
        self._weights = np.array(class_weights(config, prepared.training.labels))[corpus.labels]
        self._ngrams = self._gathered(self._mine, part.logits(_bags(config, corpus, self._mine)))

    def mix(self, rows: npt.NDArray[np.int64], probabilities: Floats, threshold: float) -> Mixed:
        """Fits the mix on all validation rows and counts. All workers must call this, and all get the same result.

        Args:
            rows: int64[n], the rows that this worker predicted.
            probabilities: float32[n], the LSTM's probabilities for these rows.
            threshold: Probability above which a row counts as positive.
        """
        # A probability that was rounded to 0 or 1 has an infinite logit: clip it as the log loss does, at +-16.
        cut = np.clip(probabilities.astype(np.float64), LOG_LOSS_EPSILON, 1 - LOG_LOSS_EPSILON)
        lstm = self._gathered(rows, np.log(cut / (1 - cut)))
        mix = fit_mix(lstm, self._ngrams, self._labels, self._weights)
        # The mix of worker 0, because processors may round differently.
        mix = Mix(*self._collective.all_gather(astuple(mix))[0].tolist())
        mixed = mix.lstm * lstm[self._mine] + mix.ngrams * self._ngrams[self._mine] + mix.bias
        labels = self._labels[self._mine]
        mine = [
            BinaryCounts.from_scores(labels, _sigmoid(mixed), threshold),
            BinaryCounts.from_scores(self._labels[rows], probabilities, threshold),
            BinaryCounts.from_scores(labels, _sigmoid(self._ngrams[self._mine]), threshold),
        ]
        gathered = self._collective.all_gather(np.concatenate([counts.to_array() for counts in mine]))
        total, lstm_total, ngram_total = (
            BinaryCounts.from_array(part, threshold=threshold) for part in np.split(gathered.sum(axis=0), len(mine))
        )
        return Mixed(mix, lstm_share(mix, lstm, self._ngrams), total, lstm_total, ngram_total)

    def _gathered(self, rows: npt.NDArray[np.int64], values: Doubles) -> Floats:
        """Returns the values of all workers' validation rows, float32[rows]."""
        return gather_rows(self._collective, len(self._labels), rows, values)


def unmeasured_mix() -> Mix:
    """Returns the mix of a run without validation rows."""
    none = np.zeros(0)
    return fit_mix(none, none, np.zeros(0, np.int8), none)


def _share(corpus: Corpus, collective: Collective) -> npt.NDArray[np.int64]:
    """Returns the rows that a worker computes."""
    return np.arange(collective.rank, len(corpus), collective.world_size)


def _words(vocabulary: Vocabulary, buckets: int) -> Words:
    """Returns the words that have an id, with their buckets and subwords."""
    words = vocabulary.words[: vocabulary.size - FIRST_WORD_ID].to_pylist()
    ids = np.arange(FIRST_WORD_ID, FIRST_WORD_ID + len(words), dtype=np.int32)
    return Words(bags(Sequences(ids, np.arange(len(words) + 1)), 1, buckets).buckets, subwords(words))


def _bags(config: TrainConfig, corpus: Corpus, rows: npt.NDArray[np.int64]) -> Bags:
    return bags(corpus.sequences.take(rows), config.ngrams, config.ngram_buckets)


def _sigmoid(logits: npt.NDArray[np.floating]) -> Floats:
    return np.exp(-np.logaddexp(0, -logits.astype(np.float64))).astype(np.float32)
