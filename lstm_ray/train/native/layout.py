"""Memory layout of a network's weights for the compiled kernels.

All weights except the embedding are stored in one vector, each array packed as the kernels read it
(`kernels/layout.py`). A gradient is therefore one vector too, and is summed over workers and applied as one. The
embedding is a matrix with a row for each word, filled up with zeros to whole vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lstm_ray.config import TrainConfig, pools_of
from lstm_ray.kernels.layout import GATES, Offsets, packed_offsets, rounded_up


@dataclass(frozen=True, eq=False)  # a key of dictionaries
class DirectionLayout:
    """One direction of a layer.

    Attributes:
        inputs: Number of values that a step reads, rounded up to whole vectors.
        width: Number of units, rounded up to whole vectors.
        column: The first column of this direction in the layer's output.
        is_backward: True if it reads the last step first.
        kernel, recurrent, bias: Where its weights are in the vector.
    """

    inputs: int
    width: int
    column: int
    is_backward: bool
    kernel: slice
    recurrent: slice
    bias: slice


@dataclass(frozen=True)
class WeightLayout:
    """Layout of all weights of a network.

    Attributes:
        lanes: float32 values in a vector register.
        embedding_width: Columns of the embedding, rounded up.
        layers: First layer first; each has one direction or two.
        features: Values that a layer returns for a step, rounded up.
        output_kernel, output_bias: Where the output layer's weights are in the vector.
        size: Length of the vector, a multiple of `lanes`.
        offsets: For each trainable array except the embedding, in Keras's order: where its elements are in the vector,
            int64 in the array's shape.
    """

    lanes: int
    embedding_width: int
    layers: tuple[tuple[DirectionLayout, ...], ...]
    features: int
    output_kernel: slice
    output_bias: slice
    size: int
    offsets: tuple[Offsets, ...]


def lay_out(config: TrainConfig, lanes: int) -> WeightLayout:
    """Returns the layout of a run's network.

    Args:
        config: The network's settings.
        lanes: float32 values in a vector register.
    """
    offsets: list[Offsets] = []
    layers = []
    width = rounded_up(config.units, lanes)
    below = np.arange(config.embedding_size)  # columns that are not zeros
    inputs = rounded_up(config.embedding_size, lanes)
    end = 0
    for _ in range(config.layers):
        directions = []
        for number in range(2 if config.bidirectional else 1):
            parts = []
            for rows, inner in ((below, inputs), (np.arange(config.units), width), (np.arange(1), 1)):
                parts.append(slice(end, end + inner * GATES * width))
                offsets.append(end + packed_offsets(rows, inner, config.units, lanes))
                end = parts[-1].stop
            offsets[-1] = offsets[-1][0]  # a bias is a vector
            directions.append(DirectionLayout(inputs, width, number * width, number == 1, *parts))
        layers.append(tuple(directions))
        inputs = width * len(directions)
        below = np.concatenate([direction.column + np.arange(config.units) for direction in directions])
    pools = pools_of(config.pooling)  # two: the means of all features, then their maxima
    output_kernel = slice(end, end + pools * inputs)
    offsets.append(np.concatenate([end + pool * inputs + below for pool in range(pools)])[:, None])
    output_bias = slice(output_kernel.stop, output_kernel.stop + 1)
    offsets.append(np.array([output_bias.start]))
    return WeightLayout(
        lanes=lanes,
        embedding_width=rounded_up(config.embedding_size, lanes),
        layers=tuple(layers),
        features=inputs,
        output_kernel=output_kernel,
        output_bias=output_bias,
        size=rounded_up(output_bias.stop, lanes),
        offsets=tuple(offsets),
    )


def directions(layout: WeightLayout) -> Iterator[DirectionLayout]:
    """Yields the directions of all layers, first layer first."""
    for layer in layout.layers:
        yield from layer
