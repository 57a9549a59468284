"""Learns word vectors: skip-gram with negative sampling, with the same result on any number of cores.

The texts are gone through in a random order, in rounds. In each round `_COPIES` copies of the vectors learn side by
side, each from texts of its own. Then they are merged: a word moves by the mean of its moves in the copies that moved
it. Threads that all wrote to the same vectors would save the merging, but no run would give the vectors of another.

Source: T. Mikolov et al., "Distributed Representations of Words and Phrases and their Compositionality", 2013, and
word2vec.c for what the paper leaves open (which occurrences are skipped, how the learning rate falls).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.config import SkipGramSettings
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import Floats, aligned_empty
from lstm_ray.kernels.layout import padded
from lstm_ray.kernels.skip_gram import LANES, skip_gram
from lstm_ray.runtime.devices import available_cores
from lstm_ray.runtime.threads import Threads
from lstm_ray.text.sequences import Sequences
from lstm_ray.vectors.corpus import TextCorpus

_COPIES = 2
_COPY_WORDS = 100_000  # that a copy learns from in a round, about
_LEAST_RATE = 1e-4  # share of the learning rate that is left at the end
_NEGATIVE_POWER = 0.75
_TABLE_SIZE = 1 << 22  # a word that is one in a million still has entries
_MERGED_ROWS = 1024  # at a time: they fit in a cache

Numbers = npt.NDArray[np.int32]


def learn_vectors(corpus: TextCorpus, settings: SkipGramSettings, progress: Callable[[int, int], None]) -> Floats:
    """Returns the vector of each word, float32[words, size].

    Args:
        corpus: What to learn from.
        settings: How.
        progress: Called after each round with the words gone through, and all that there are to go through.
    """
    learner = _Learner(corpus, settings)
    total, done = settings.epochs * len(corpus.texts.token_ids), 0
    for epoch in range(1, settings.epochs + 1):
        order = np.random.default_rng([settings.seed, 0, epoch]).permutation(len(corpus.texts))
        for texts in _rounds(corpus.texts.take(order)):
            learner.learn(texts, settings.learning_rate * max(1 - done / total, _LEAST_RATE))
            done += sum(len(one.token_ids) for one in texts)
            progress(done, total)
    return learner.vectors.inputs[:-1, : settings.size]


def _rounds(texts: Sequences) -> Iterator[list[Sequences]]:
    """Yields the texts, some for each copy at a time."""
    total = len(texts.token_ids)
    rounds = max(1, round(total / (_COPIES * _COPY_WORDS)))
    words = np.linspace(0, total, rounds * _COPIES + 1)
    cuts = [*np.searchsorted(texts.offsets[:-1], words[:-1]).tolist(), len(texts)]
    parts = [texts.take(np.arange(*bounds)) for bounds in itertools.pairwise(cuts)]
    for first in range(0, len(parts), _COPIES):
        yield parts[first : first + _COPIES]


@dataclass(frozen=True)
class _Vectors:
    """What is learned.

    Attributes:
        inputs: float32[words + 1, width], the vectors; the last row is of no word, see `kernels/skip_gram.py`.
        outputs: float32[words + 1, width], by which a word is told from others; not kept.
    """

    inputs: Floats
    outputs: Floats

    @classmethod
    def empty(cls, words: int, size: int) -> _Vectors:
        """Returns memory for vectors."""
        shape = words + 1, padded(size, LANES)
        return cls(aligned_empty(*shape), aligned_empty(*shape))

    @property
    def matrices(self) -> tuple[Floats, Floats]:
        """Returns both."""
        return self.inputs, self.outputs


class _Learner:
    """Vectors, and what they learn with.

    Attributes:
        vectors: After the last round.
    """

    def __init__(self, corpus: TextCorpus, settings: SkipGramSettings) -> None:
        """Begins with small random vectors."""
        words, size = len(corpus.words), settings.size
        self.vectors, *self._copies = (_Vectors.empty(words, size) for _ in range(1 + _COPIES))
        for matrix in self.vectors.matrices:
            matrix[:] = 0
        random = np.random.default_rng([settings.seed, 0]).random((words, size), np.float32)
        self.vectors.inputs[:words, :size] = (random - 0.5) / size
        self._sampler = _Sampler(corpus.counts, settings)
        self._kernel = skip_gram(Target.host(), self.vectors.inputs.shape[1], settings.negatives)
        self._round = 0
        self._threads = Threads(min(_COPIES, available_cores()), "vectors")

    def learn(self, texts: list[Sequences], rate: float) -> None:
        """Learns from texts for each copy."""
        self._round += 1

        def on_copy(number: int) -> None:
            copy = self._copies[number]
            for mine, ours in zip(copy.matrices, self.vectors.matrices, strict=True):
                np.copyto(mine, ours)
            self._kernel(
                **self._sampler.draw(texts[number], (self._round, number)),
                inputs=copy.inputs,
                outputs=copy.outputs,
                rate=np.array([rate], np.float32),
            )

        self._threads.run(on_copy, range(len(texts)))
        rows = range(0, len(self.vectors.inputs), _MERGED_ROWS)
        self._threads.run(self._merge, (slice(first, first + _MERGED_ROWS) for first in rows))

    def _merge(self, rows: slice) -> None:
        """Moves some words by the mean of their moves in the copies that moved them."""
        for number, matrix in enumerate(self.vectors.matrices):
            moves = np.stack([copy.matrices[number][rows] - matrix[rows] for copy in self._copies])
            has_moved = moves.any(axis=2, keepdims=True)
            matrix[rows] += moves.sum(axis=0) / np.maximum(has_moved.sum(axis=0), 1).astype(np.float32)


class _Sampler:
    """Draws what the kernel learns from: which occurrences of words, how wide their windows, which other words."""

    def __init__(self, counts: npt.NDArray[np.int64], settings: SkipGramSettings) -> None:
        self._settings = settings
        allowed = settings.subsample * counts.sum() / counts if settings.subsample else np.ones(len(counts))
        self._kept = np.sqrt(allowed) + allowed  # from 1 on: all
        ends = np.cumsum(counts**_NEGATIVE_POWER)
        entries = np.diff(np.rint(ends / ends[-1] * _TABLE_SIZE).astype(np.int64), prepend=0)
        self._table = np.repeat(np.arange(len(counts), dtype=np.int32), entries)

    def draw(self, texts: Sequences, key: tuple[int, ...]) -> dict[str, Numbers]:
        """Returns the kernel's arguments for some texts; equal keys give equal draws."""
        rng = np.random.default_rng([self._settings.seed, *key])
        is_kept = rng.random(len(texts.token_ids), np.float32) < self._kept[texts.token_ids]
        words = texts.token_ids[is_kept]
        bounds = np.concatenate([[0], np.cumsum(is_kept)])[texts.offsets].astype(np.int32)
        lengths = np.diff(bounds)
        positions = np.arange(len(words), dtype=np.int32)
        reach = rng.integers(1, self._settings.window, len(words), np.int32, endpoint=True)
        drawn = rng.integers(0, _TABLE_SIZE, (len(words), self._settings.negatives), np.int32)
        return {
            "words": words,
            "begin": np.maximum(positions - reach, np.repeat(bounds[:-1], lengths)),
            "end": np.minimum(positions + reach + 1, np.repeat(bounds[1:], lengths)),
            "negatives": self._table[drawn],
        }
