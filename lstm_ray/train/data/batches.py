"""The padded batches of each worker and step.

The order of an epoch depends only on (seed, epoch), the batch size and the rows' lengths. A step takes the next
`global_batch_size` rows; worker r of N gets every N-th of these, starting with the r-th. So the rows of a step are the
same for any number of workers. All workers take the same number of steps with arrays of the same shape: where a worker
has one row less than its peers, or the last batch is short, filler rows of weight 0 are added.

A masked model's batch can be as short as its longest row, but among 64 random reviews one is always long. So its rows
are shuffled, divided into pools, sorted by length within each pool and divided into batches, which are shuffled again:
IMDb's batches at 400 tokens are on average 237 tokens long instead of 400 (its reviews: 209).

The words that `word_dropout` removes depend only on (seed, epoch, step), so they are the same for both engines and any
number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig
from lstm_ray.text.sequences import Sequences, bucket_length, pad_batch
from lstm_ray.text.vocabulary import START_ID
from lstm_ray.train.data.corpus import Corpus

_POOL = 32  # batches; IMDb's batches are then 2 % longer than with all rows in one pool
_WORDS = 1  # makes the seed of word dropout differ from that of a step's dropout: NumPy pads seeds with zeros


@dataclass(frozen=True)
class Batch:
    """One worker's share of a step.

    Attributes:
        token_ids: int32[rows, time].
        labels: float32[rows].
        weights: float32[rows], 1 for a real row, 0 for a filler row.
        global_rows: Real rows of the step, over all workers.
    """

    token_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    global_rows: int


def epoch_order(lengths: npt.NDArray[np.int64], config: TrainConfig, epoch: int) -> npt.NDArray[np.int64]:
    """Returns the row numbers in the order in which an epoch visits them, int64[rows].

    Args:
        lengths: Tokens of each row, int64[rows].
        config: Seed, batch size, and whether the model is masked: only then do lengths matter.
        epoch: The epoch's number, from 1.
    """
    generator = np.random.default_rng([config.seed, epoch])
    order = generator.permutation(len(lengths))
    if not config.mask:
        return order
    size = config.global_batch_size
    whole, rest = np.split(order, [len(order) // size * size])  # the short batch stays last, with rows of any length
    pools = np.split(whole, range(_POOL * size, len(whole), _POOL * size))
    by_length = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    batches = by_length.reshape(-1, size)
    return np.concatenate([batches[generator.permutation(len(batches))].reshape(-1), rest])


def validation_order(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the row numbers sorted by length, int64[rows]: this needs the least padding, and any order will do."""
    return np.argsort(lengths, kind="stable")


def worker_batches(
    corpus: Corpus,
    order: npt.NDArray[np.int64],
    config: TrainConfig,
    *,
    rank: int,
    world_size: int,
    batch_size: int,
    first_step: int = 0,
    epoch: int | None = None,
) -> Iterator[Batch]:
    """Yields the batches of worker `rank` of `world_size`, ceil(len(order) / batch_size) of them.

    Args:
        corpus: All rows.
        order: int64[n], the rows to visit.
        config: Padding, and whether the model is masked: only then may a batch be shorter than max_tokens.
        rank: This worker's number, from 0.
        world_size: Number of workers.
        batch_size: Rows of a step, over all workers.
        first_step: The first step to yield, from 0; a resumed epoch has done the steps before it.
        epoch: The epoch's number, for `word_dropout`; None if the rows are not trained on.
    """
    batch_size = min(batch_size, max(1, len(order)))  # a step of all rows needs no filler rows beyond them
    worker_rows = -(-batch_size // world_size)
    for step in range(first_step, -(-len(order) // batch_size)):
        step_rows = order[step * batch_size : (step + 1) * batch_size]
        sequences = corpus.sequences.take(step_rows)
        if epoch is not None and config.word_dropout:
            generator = np.random.default_rng([config.seed, epoch, step, 0, _WORDS])
            sequences = drop_words(sequences, config.word_dropout, generator)
        longest = int(sequences.lengths.max())
        rows = np.arange(rank, len(step_rows), world_size)
        time = bucket_length(longest, config.max_tokens) if config.mask else config.max_tokens
        yield Batch(
            pad_batch(sequences.take(rows), worker_rows, time, config.padding),
            _filled(corpus.labels[step_rows[rows]], worker_rows),
            _filled(np.ones(len(rows)), worker_rows),
            len(step_rows),
        )


def drop_words(sequences: Sequences, rate: float, generator: np.random.Generator) -> Sequences:
    """Returns the rows without some of their words; each row keeps at least one token.

    Args:
        sequences: Rows of at least one token.
        rate: Probability of removing a word. Start tokens are always kept.
        generator: Chooses the words.

    Source: Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", 2015, "word
    dropout".
    """
    draws = generator.random(len(sequences.token_ids), np.float32)
    draws[sequences.token_ids == START_ID] = 1
    largest = np.maximum.reduceat(draws, sequences.offsets[:-1])  # each row keeps the token with its largest draw
    is_kept = draws >= np.repeat(np.minimum(largest, np.float32(rate)), sequences.lengths)
    kept_before = np.concatenate([[0], np.cumsum(is_kept)])
    return Sequences(sequences.token_ids[is_kept], kept_before[sequences.offsets])


def _filled(values: npt.NDArray[Any], rows: int) -> npt.NDArray[np.float32]:
    """Returns float32[rows], with zeros for filler rows."""
    filled = np.zeros(rows, np.float32)
    filled[: len(values)] = values
    return filled
