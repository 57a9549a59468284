"""PyTorch's LSTM, trained as its users would train it: the peer of benchmarks/training.py and scripts/gpu_check.

The network is that of lstm_ray/model/architectures.py, without recurrent dropout, which PyTorch does not have. What may
be done in several ways is an argument, and benchmarks/training.py takes the fastest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.networks import Network


@dataclass(frozen=True)
class Ways:
    """How PyTorch trains.

    Attributes:
        packed: A masked batch goes to the LSTM as a packed sequence, which skips padding, but for which PyTorch does
            not use oneDNN on CPUs. Otherwise each direction reads the padded batch, the backward one with each row
            reversed, which gives the same.
        sparse: The embedding's gradient is sparse, and its Adam updates only the words of the batch. That is not the
            same algorithm: other words no longer move by their moments.
        compiled: The model goes through `torch.compile`.
    """

    packed: bool = True
    sparse: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        words = ["packed" if self.packed else "padded", "sparse" if self.sparse else "dense"]
        return ", ".join([*words, "compiled"] if self.compiled else words)


def ways(network: Network) -> Iterator[Ways]:
    """Yields the ways that can be fastest for a network; packing is for masked ones."""
    for packed, sparse in itertools.product([False, True] if network.mask else [False], [False, True]):
        yield Ways(packed, sparse)


class TorchLstm(torch.nn.Module):
    """Embedding, LSTM, pooling and output."""

    def __init__(self, network: Network, way: Ways) -> None:
        """Builds the layers."""
        super().__init__()
        self._network, self._packed = network, way.packed and network.mask
        self.embedding = torch.nn.Embedding(network.vocabulary_size, network.embedding_size, sparse=way.sparse)
        # Without packing a masked network's directions are two layers, as the second one reads reversed rows.
        self._split = network.mask and not self._packed
        self.lstms = torch.nn.ModuleList(
            torch.nn.LSTM(
                network.embedding_size,
                network.units,
                batch_first=True,
                bidirectional=network.bidirectional and not self._split,
            )
            for _ in range(network.directions if self._split else 1)
        )
        pools = 2 if network.pooling == "mean_max" else 1
        self.output = torch.nn.Linear(network.units * network.directions * pools, 1)

    def forward(self, token_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Returns the logits, float32[rows]. `lengths`, int64[rows] on the CPU, is used by masked networks."""
        network = self._network
        vectors = torch.nn.functional.dropout(self.embedding(token_ids), network.embedding_dropout, self.training)
        if network.dropout:  # Keras draws a mask for each row, not for each step
            shape = (len(token_ids), 1, network.embedding_size)
            vectors = vectors * torch.nn.functional.dropout(vectors.new_ones(shape), network.dropout, self.training)
        if self._packed:
            rnn = torch.nn.utils.rnn
            states, (last, _) = self.lstms[0](
                rnn.pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
            )
            states = rnn.pad_packed_sequence(states, batch_first=True)[0]
        elif self._split:
            position = torch.arange(vectors.shape[1], device=vectors.device)
            rest = lengths.to(vectors.device)[:, None] - 1 - position
            reversed_at = torch.where(rest >= 0, rest, position)[:, :, None]
            states = self.lstms[0](vectors)[0]
            if network.bidirectional:
                other = self.lstms[1](vectors.gather(1, reversed_at.expand(vectors.shape)))[0]
                states = torch.cat([states, other.gather(1, reversed_at.expand(other.shape))], 2)
        else:
            states, (last, _) = self.lstms[0](vectors)
        if network.pooling == "last":
            features = last.transpose(0, 1).flatten(1)
        else:
            features = self._pool(states, lengths.to(states.device))
        return self.output(features)[:, 0]

    def _pool(self, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        pooling, pools = self._network.pooling, []
        if not self._network.mask:
            lengths = torch.full_like(lengths, states.shape[1])
        is_token = (torch.arange(states.shape[1], device=states.device) < lengths[:, None])[:, :, None]
        if pooling in ("mean", "mean_max"):
            pools.append((states * is_token).sum(1) / lengths[:, None])
        if pooling in ("max", "mean_max"):
            pools.append(states.masked_fill(~is_token, -torch.inf).amax(1))
        return torch.cat(pools, 1)


class TorchTrainer:
    """A network and its optimizers.

    Attributes:
        way: How it trains.
    """

    def __init__(self, network: Network, way: Ways, device: str = "cpu") -> None:
        """Builds model and optimizers on a device of PyTorch's."""
        torch.manual_seed(0)
        self.way, self._network, self._device = way, network, torch.device(device)
        self._model = TorchLstm(network, way).to(self._device)
        weights = dict(self._model.named_parameters())
        table = weights.pop("embedding.weight")
        rate = network.learning_rate
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(weights.values() if way.sparse else [table, *weights.values()], rate, eps=1e-7, fused=True)
        ]
        if way.sparse:
            self._optimizers.append(torch.optim.SparseAdam([table], rate, eps=1e-7))
        self._apply = torch.compile(self._model) if way.compiled else self._model

    def train(self, token_ids: npt.NDArray[np.int32], labels: npt.NDArray[np.float32]) -> torch.Tensor:
        """Takes one step with int32[rows, time]; returns its mean loss, which a GPU may still be computing.

        A masked network's rows must be padded behind the last token.
        """
        lengths = torch.from_numpy((token_ids != 0).sum(1))
        ids = torch.from_numpy(token_ids).to(self._device, torch.int64)
        logits = self._apply(ids, lengths)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, torch.from_numpy(labels).to(self._device, torch.float32)
        )
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self._optimizers:
            optimizer.step()
        return loss.detach()
