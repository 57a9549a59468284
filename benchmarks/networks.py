"""Networks and rows for comparisons with other libraries; imports only NumPy, so that any of them can run alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_FIRST_WORD = 4  # as in lstm_ray/text/vocabulary.py
_TELLING = 20  # words that occur only in positive rows, and as many that occur only in negative ones
_SHARE_TELLING = 0.05


@dataclass(frozen=True)
class Network:
    """Settings of a network and its training steps, named as in `lstm_ray.config.TrainConfig`."""

    vocabulary_size: int
    max_tokens: int
    embedding_size: int
    units: int
    padding: str = "pre"
    bidirectional: bool = False
    mask: bool = False
    pooling: str = "last"
    embedding_dropout: float = 0.0
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    learning_rate: float = 0.001
    global_batch_size: int = 32

    @property
    def directions(self) -> int:
        """Returns the number of directions in which a row is read."""
        return 2 if self.bidirectional else 1

    def flops(self, steps: float) -> float:
        """Returns the multiplications and additions of matrix products in a training step that reads `steps` tokens.

        Forward, each direction multiplies the word vector and the state by their weights; backward, the gates'
        gradients are multiplied by the same weights, and by the vectors and states.
        """
        return 3 * steps * self.directions * 2 * (self.embedding_size + self.units) * 4 * self.units


NETWORKS = {
    "lstm": Network(20_000, 80, 128, 128, dropout=0.2, recurrent_dropout=0.2),
    "bilstm": Network(5_000, 80, 32, 128, bidirectional=True),
    # What the preset `best` chooses for IMDb's 25,000 reviews; the units are those with unlabelled reviews.
    "default": Network(
        60_000,
        940,
        128,
        128,
        padding="post",
        bidirectional=True,
        mask=True,
        pooling="mean_max",
        embedding_dropout=0.5,
        dropout=0.3,
    ),
}


@dataclass(frozen=True)
class Rows:
    """Labelled rows of token ids.

    Attributes:
        token_ids: int32[total], row after row.
        lengths: int64[rows].
        labels: int8[rows].
    """

    token_ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]

    def padded(self, network: Network) -> npt.NDArray[np.int32]:
        """Returns int32[rows, max_tokens], padded on the network's side."""
        position = np.arange(network.max_tokens)
        if network.padding == "post":
            is_token = position < self.lengths[:, None]
        else:
            is_token = position >= network.max_tokens - self.lengths[:, None]
        ids = np.zeros(is_token.shape, np.int32)
        ids[is_token] = self.token_ids
        return ids


def draw_rows(network: Network, rows: int, seed: int = 0) -> Rows:
    """Draws rows with lengths like those of film reviews (median 175, mean 230), as far as the network reads them.

    Words are as frequent as in natural text. A twentieth of them tell the label, so that a network can learn.
    """
    generator = np.random.default_rng(seed)
    lengths = np.clip(generator.lognormal(np.log(175), 0.7, rows), 5, network.max_tokens).astype(np.int64)
    labels = generator.integers(0, 2, rows).astype(np.int8)
    first = _FIRST_WORD + 2 * _TELLING
    frequency = 1 / np.arange(1, network.vocabulary_size - first + 1)
    token_ids = first + generator.choice(len(frequency), lengths.sum(), p=frequency / frequency.sum()).astype(np.int32)
    telling = _FIRST_WORD + _TELLING * np.repeat(labels, lengths) + generator.integers(0, _TELLING, len(token_ids))
    is_telling = generator.random(len(token_ids)) < _SHARE_TELLING
    return Rows(np.where(is_telling, telling, token_ids).astype(np.int32), lengths, labels)
