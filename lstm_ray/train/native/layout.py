"""Where a network's trainable numbers lie in memory for the compiled kernels, and back again.

All weights but the embedding lie in one vector, one array after the other, each in its kernel's layout: so a gradient
is one vector too, and travels and is applied as such. The embedding is a matrix of a row a word, padded to whole
vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig
from lstm_ray.kernels.function import Floats
from lstm_ray.kernels.products import wide
from lstm_ray.kernels.tiles import GATES

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)  # a key of dictionaries
class DirectionLayout:
    """One direction of a layer.

    Attributes:
        inputs: Values that a step reads, padded to whole vectors.
        width: Units, padded.
        column: Where its output stands in that of the layer.
        is_backward: It reads the last step first.
        kernel, recurrent, bias: Its parts of the vector, packed.
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
    """A network's.

    Attributes:
        lanes: float32 values in a vector register.
        embedding_width: Columns of the embedding, padded.
        layers: From the bottom; each has one direction or two.
        features: Values that the output reads, padded.
        output_kernel, output_bias: The output's parts of the vector.
        size: Of the vector, in whole vectors.
        places: Of each trainable array but the embedding, in the order of Keras: where its numbers stand in the vector,
            int64 in the array's shape.
    """

    lanes: int
    embedding_width: int
    layers: tuple[tuple[DirectionLayout, ...], ...]
    features: int
    output_kernel: slice
    output_bias: slice
    size: int
    places: tuple[Places, ...]


def lay_out(config: TrainConfig, lanes: int) -> WeightLayout:
    """Lays out the network of a run.

    Args:
        config: The network's settings.
        lanes: float32 values in a vector register.
    """
    places: list[Places] = []
    layers = []
    width = _padded(config.units, lanes)
    below = np.arange(config.embedding_size)  # columns that are not padding
    inputs = _padded(config.embedding_size, lanes)
    end = 0
    for _ in range(config.layers):
        directions = []
        for number in range(2 if config.bidirectional else 1):
            parts = []
            for rows, padded_rows in ((below, inputs), (np.arange(config.units), width), (np.arange(1), 1)):
                parts.append(slice(end, end + padded_rows * GATES * width))
                places.append(end + _packed_places(rows, padded_rows, config.units, width, lanes))
                end = parts[-1].stop
            places[-1] = places[-1][0]  # a bias has no rows
            directions.append(DirectionLayout(inputs, width, number * width, number == 1, *parts))
        layers.append(tuple(directions))
        inputs = width * len(directions)
        below = np.concatenate([d.column + np.arange(config.units) for d in directions])
    output_kernel = slice(end, end + inputs)
    places.append((end + below)[:, None])
    output_bias = slice(output_kernel.stop, output_kernel.stop + 1)
    places.append(np.array([output_bias.start]))
    return WeightLayout(
        lanes=lanes,
        embedding_width=_padded(config.embedding_size, lanes),
        layers=tuple(layers),
        features=inputs,
        output_kernel=output_kernel,
        output_bias=output_bias,
        size=_padded(output_bias.stop, lanes),
        places=tuple(places),
    )


def transposed(packed: Floats, rows: int, lanes: int) -> Floats:
    """Returns a packed matrix for the way back.

    Args:
        packed: Any shape; as float32[blocks, rows, 4, lanes].
        rows: The inner dimension of the way forward.
        lanes: Values in a vector.

    Returns:
        float32[wide / (4 * lanes), 4 * width, 4 * lanes], where `wide` is `rows` padded to four vectors.
    """
    matrix = packed.reshape(-1, rows, GATES * lanes).transpose(0, 2, 1).reshape(-1, rows)
    if wide(rows, lanes) > rows:
        matrix = np.pad(matrix, ((0, 0), (0, wide(rows, lanes) - rows)))
    return np.ascontiguousarray(matrix.reshape(len(matrix), -1, GATES * lanes).transpose(1, 0, 2))


def _packed_places(rows: Places, padded_rows: int, units: int, width: int, lanes: int) -> Places:
    """Returns where the numbers of a matrix of gates stand in float32[blocks, padded_rows, 4, lanes]."""
    blocks = np.arange(padded_rows * GATES * width).reshape(width // lanes, padded_rows, GATES, lanes)
    by_gate = blocks.transpose(1, 2, 0, 3).reshape(padded_rows, GATES, width)
    return by_gate[rows, :, :units].reshape(len(rows), GATES * units)


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def directions(layout: WeightLayout) -> Iterator[DirectionLayout]:
    """Lists the directions of all layers, from the bottom."""
    for layer in layout.layers:
        yield from layer
