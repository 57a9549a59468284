"""The memory that a training step needs at least, known before TensorFlow or a GPU is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lstm_ray.config import TrainConfig
from lstm_ray.model.architectures import count_weights

_GATES = 4
_COPIES = 4  # of each weight: itself, its gradient, and Adam's two moments
_BYTES = {"float32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a worker's training step.

    Attributes:
        weights: Weights, gradients, Adam's moments, and averages with `ema`.
        states: Word vectors, gates and states of a slice's rows of max_tokens, which the backward pass reads; None with
            `batch_by` tokens, where a slice's size depends on the lengths of the texts.
    """

    weights: int
    states: int | None

    def describe(self) -> str:
        """Returns the sum and its parts."""
        weights = math.ceil(self.weights / 1e6)
        if self.states is None:
            return f"at least {weights:,} MB in a step for weights and Adam; states come on top, by the texts' lengths"
        states = math.ceil(self.states / 1e6)
        return f"at least {weights + states:,} MB in a step: {weights:,} for weights and Adam, {states:,} for states"


def least_memory(config: TrainConfig) -> StepMemory | None:
    """Returns what a step needs at least; None for a user's network.

    Gradients of states, masks of dropout and work space come on top: on CPUs Keras took 1.5 times the states of an
    LSTM(256), and 2.6 times those of a masked BiLSTM(128), both at 300 tokens. Not measured on a GPU.
    """
    if config.network is not None:
        return None
    workers = max(1, config.worker_limits[0])
    rows = math.ceil(math.ceil(config.global_batch_size / workers) / config.accumulate)
    directions = 1 + config.bidirectional
    # Of each token the word's vector, and of each layer and direction the gates, the cell's state and the output.
    values = config.embedding_size + config.layers * directions * (_GATES + 2) * config.units
    states = _BYTES[config.precision] * rows * config.max_tokens * values
    copies = _COPIES + (config.ema > 0)
    return StepMemory(4 * copies * count_weights(config, config), None if config.batch_by == "tokens" else states)
