"""Which rows a worker sees in which step, padded.

The order of an epoch is a function of (seed, epoch) alone. A step takes the next `global_batch_size` rows of it; worker
r of N gets every N-th of these, beginning with the r-th. So the rows of a step are the same for any number of workers.
All workers take the same number of steps with arrays of the same shape: where a worker has a row less than the others,
or the last batch is short, rows of weight 0 fill it up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig
from lstm_ray.text.sequences import Sequences, bucket_length, pad
from lstm_ray.text.vocabulary import START_ID
from lstm_ray.train.corpus import Corpus


@dataclass(frozen=True)
class Batch:
    """One worker's share of a step.

    Attributes:
        token_ids: int32[rows, time].
        labels: float32[rows].
        weights: float32[rows], 1 for a row that counts, 0 for one that fills up.
        global_rows: Rows that count, over all workers.
    """

    token_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    global_rows: int


def epoch_order(rows: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Returns the order in which an epoch visits the rows, int64[rows]."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def worker_batches(
    corpus: Corpus,
    order: npt.NDArray[np.int64],
    config: TrainConfig,
    *,
    rank: int,
    world_size: int,
    batch_size: int,
    first_step: int = 0,
) -> Iterator[Batch]:
    """Yields the batches of worker `rank` of `world_size`, ceil(len(order) / batch_size) of them.

    Args:
        corpus: All rows.
        order: int64[n], the rows to visit.
        config: Padding, and whether the model is masked: only then may a batch be shorter than max_tokens.
        rank: This worker's number, from 0.
        world_size: Workers in all.
        batch_size: Rows of a step, over all workers.
        first_step: Steps, counted from 0, before this one are left out: they were done before.
    """
    worker_rows = -(-batch_size // world_size)
    lengths = corpus.sequences.lengths
    for start in range(first_step * batch_size, len(order), batch_size):
        step_rows = order[start : start + batch_size]
        rows = step_rows[rank::world_size]
        longest = int(lengths[step_rows].max())
        time = bucket_length(longest, config.max_tokens) if config.mask else config.max_tokens
        yield _fill_up(corpus, rows, worker_rows, len(step_rows), time, config)


def _fill_up(
    corpus: Corpus, rows: npt.NDArray[np.int64], worker_rows: int, global_rows: int, time: int, config: TrainConfig
) -> Batch:
    # A filler row holds a start token, because cuDNN wants at least one token in a masked row.
    token_ids = np.repeat(
        pad(Sequences(np.array([START_ID], np.int32), np.array([0, 1])), time, config.padding), worker_rows, axis=0
    )
    labels = np.zeros(worker_rows, np.float32)
    weights = np.zeros(worker_rows, np.float32)
    token_ids[: len(rows)] = pad(corpus.sequences.take(rows), time, config.padding)
    labels[: len(rows)] = corpus.labels[rows]
    weights[: len(rows)] = 1.0
    return Batch(token_ids, labels, weights, global_rows)
