"""The padded batches of each worker and step.

The rows of an epoch's steps depend only on (seed, epoch), the batch size and the rows' lengths, so they are the same
for any number of workers; worker r of N gets every N-th row of a step, starting with the r-th. All workers take the
same number of steps with arrays of the same shape: where a worker has one row less than its peers, or the last batch is
short, filler rows of weight 0 are added.

A masked model's batch can be as short as its longest row, but among 64 random reviews one is always long. So its rows
are shuffled, divided into pools, sorted by length within each pool and divided into batches, which are shuffled again:
IMDb's batches at 400 tokens are on average 237 tokens long instead of 400 (its reviews: 209). With `batch_by` tokens
the batches of a pool have about equally many tokens: few long rows, or many short ones.

The words that `word_dropout` removes depend only on (seed, epoch, step), so they are the same for both engines and any
number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig
from lstm_ray.text.sequences import Sequences, bucket_length, pad_batch
from lstm_ray.text.vocabulary import START_ID
from lstm_ray.train.data.corpus import Corpus

RowNumbers: TypeAlias = npt.NDArray[np.int64]

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


def epoch_steps(lengths: npt.NDArray[np.int64], config: TrainConfig, epoch: int) -> list[RowNumbers]:
    """Returns the row numbers of each step of an epoch, `steps_per_epoch` of them.

    Args:
        lengths: Tokens of each row, int64[rows].
        config: Seed, batch size, and whether the model is masked: only then do lengths matter.
        epoch: The epoch's number, from 1.
    """
    generator = np.random.default_rng([config.seed, epoch])
    order = generator.permutation(len(lengths))
    size = config.global_batch_size
    if not config.mask:
        return in_steps(order, size)
    whole = len(order) // size * size
    steps: list[RowNumbers] = []
    for pool in in_steps(order[:whole], _POOL * size):
        by_length = pool[np.argsort(lengths[pool], kind="stable")]
        if config.batch_by == "tokens":
            steps += _with_equal_tokens(by_length, lengths[by_length], len(pool) // size)
        else:
            steps += in_steps(by_length, size)
    shuffled = [steps[number] for number in generator.permutation(len(steps))]
    return shuffled + in_steps(order[whole:], size)  # the short batch stays last, with rows of any length


def validation_steps(lengths: npt.NDArray[np.int64], rows: int) -> list[RowNumbers]:
    """Returns the row numbers of steps of so many rows, by length: this needs the least padding."""
    return in_steps(np.argsort(lengths, kind="stable"), rows)


def in_steps(order: RowNumbers, rows: int) -> list[RowNumbers]:
    """Divides row numbers into steps of so many rows; the last one may have fewer."""
    return [order[start : start + rows] for start in range(0, len(order), rows)]


def _with_equal_tokens(order: RowNumbers, lengths: npt.NDArray[np.int64], steps: int) -> list[RowNumbers]:
    """Divides row numbers into so many steps of about the same number of tokens, each with at least one row.

    Example: rows of 1, 1, 1, 1, 2 and 6 tokens make two steps, of five rows and of one.
    """
    ends, number = np.cumsum(lengths), np.arange(1, steps)
    cuts = np.searchsorted(ends - lengths, ends[-1] * number / steps)
    cuts = np.maximum.accumulate(np.maximum(cuts - number, 0)) + number  # a row may have more tokens than a step
    return np.split(order, np.minimum(cuts, len(order) - steps + number))


def worker_batches(
    corpus: Corpus,
    steps: Sequence[RowNumbers],
    config: TrainConfig,
    *,
    rank: int,
    world_size: int,
    first_step: int = 0,
    epoch: int | None = None,
) -> Iterator[Batch]:
    """Yields the batches of worker `rank` of `world_size`, one for each step.

    Args:
        corpus: All rows.
        steps: The row numbers of each step.
        config: Padding, and whether the model is masked: only then may a batch be shorter than max_tokens.
        rank: This worker's number, from 0.
        world_size: Number of workers.
        first_step: The first step to yield, from 0; a resumed epoch has done the steps before it.
        epoch: The epoch's number, for `word_dropout`; None if the rows are not trained on.
    """
    most = max(map(len, steps), default=0)
    for step, step_rows in enumerate(steps[first_step:], first_step):
        # As many in each step, so that Keras compiles one shape; by tokens the shapes differ anyway.
        worker_rows = -(-(len(step_rows) if config.batch_by == "tokens" else most) // world_size)
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
    return sequences.only(is_kept)


def _filled(values: npt.NDArray[Any], rows: int) -> npt.NDArray[np.float32]:
    """Returns float32[rows], with zeros for filler rows."""
    filled = np.zeros(rows, np.float32)
    filled[: len(values)] = values
    return filled
