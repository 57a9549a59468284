"""Converts a trained network into an ONNX graph, for runtimes without Keras and lstm-ray.

    token_ids int32[batch, time]
      -> Gather                  float32[time, batch, embedding_size]
      -> LSTM x layers           forward or bidirectional
      -> last state | max | mean | mean and max over time
      -> MatMul                  logit float32[batch, 1], to which the sum of the n-grams is added, if any
      -> Sigmoid                 probability float32[batch, 1]

    token_ids int32[batch, time]
      -> buckets of n-grams, TopK to sort them, Gather from the table, ReduceSum over distinct n-grams

ONNX's LSTM skips padding only at the end of a row, with `sequence_lens`. So the rows of a masked network are first
rotated so that their tokens come first; this works for padding on either side.

Source: ONNX operators, LSTM (gates in the order input, output, forget, candidate; bias of W, then of R).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper

import lstm_ray
from lstm_ray.model.architectures import INPUT_NAME, LOWEST, OUTPUT_NAME
from lstm_ray.model.weights import LstmWeights, NetworkWeights
from lstm_ray.text.ngrams import MULTIPLIERS, OFFSETS, PRIME
from lstm_ray.text.sequences import PAD_ID

OPSET = 17
_IR_VERSION = 8  # can be read by runtimes with this opset; the default depends on the installed onnx package


def onnx_model(network: NetworkWeights) -> ModelProto:
    """Returns the graph from `token_ids` to `probability`, with its weights."""
    graph = _Graph()
    is_token = None
    token_ids, lengths = INPUT_NAME, ""
    if network.masked:
        token_ids, is_token, lengths = _tokens_first(graph)
    by_time = graph.add("Transpose", token_ids, perm=[1, 0])
    states = graph.add("Gather", graph.constant("embedding", network.embedding), by_time)
    last = ""
    for depth, layer in enumerate(network.layers, 1):
        states, last = _lstm(graph, f"lstm_{depth}", layer, states, lengths)
    features = last if network.pooling == "last" else _pool(graph, network.pooling, states, is_token, lengths)
    kernel = graph.constant("output_kernel", network.output_kernel[:, None])
    bias = graph.constant("output_bias", np.array([network.output_bias], np.float32))
    logit = graph.add("Add", graph.add("MatMul", features, kernel), bias)
    if network.ngram_table is not None:
        logit = graph.add("Add", logit, _ngrams(graph, network.ngrams, network.ngram_table))
    graph.nodes.append(helper.make_node("Sigmoid", [logit], [OUTPUT_NAME]))
    time: int | str = "time" if network.masked else network.max_tokens
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "bilstm" if len(network.layers[0]) == 2 else "lstm",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.INT32, ["batch", time])],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", 1])],
            graph.constants,
        ),
        producer_name="lstm-ray",
        producer_version=lstm_ray.__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )


class _Graph:
    """Collects the nodes and constants of a graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Adds a constant and returns its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        """Adds a constant int64[n] and returns its name."""
        return self.constant(f"integers_{len(self.constants)}", np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its output."""
        return self.add_all(operator, 1, *inputs, **attributes)[0]

    def add_all(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node and returns the names of its outputs."""
        names = [f"{operator}_{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names


def _tokens_first(graph: _Graph) -> tuple[str, str, str]:
    """Rotates rows so that their tokens come first.

    Returns:
        The names of the ids, int32[batch, time]; of the mask of tokens, bool[batch, time]; and of the rows' lengths,
        int32[batch].
    """
    zero = graph.constant("padding_id", np.array(0, np.int32))
    counts = graph.add("Cast", graph.add("Not", graph.add("Equal", INPUT_NAME, zero)), to=TensorProto.INT32)
    lengths = graph.add("ReduceSum", counts, graph.integers(1), keepdims=0)
    start = graph.add("ArgMax", counts, axis=1, keepdims=1)
    time = graph.add("Gather", graph.add("Shape", INPUT_NAME), graph.constant("time_axis", np.array(1, np.int64)))
    first, step = (graph.constant(name, np.array(value, np.int64)) for name, value in (("first", 0), ("step", 1)))
    positions = graph.add("Mod", graph.add("Add", graph.add("Range", first, time, step), start), time)
    token_ids = graph.add("GatherElements", INPUT_NAME, positions, axis=1)
    return token_ids, graph.add("Not", graph.add("Equal", token_ids, zero)), lengths


def _lstm(graph: _Graph, name: str, layer: tuple[LstmWeights, ...], inputs: str, lengths: str) -> tuple[str, str]:
    """Adds a layer.

    Args:
        graph: Receives the nodes.
        name: The layer's name.
        layer: The weights of its directions.
        inputs: Name of the input, float32[time, batch, inputs].
        lengths: Name of the rows' lengths, int32[batch], or "" without a mask.

    Returns:
        The names of all states, float32[time, batch, features], and of the last states, float32[batch, features].
    """
    states, last = graph.add_all(
        "LSTM",
        2,
        inputs,
        graph.constant(f"{name}_W", np.stack([_reordered(lstm.kernel) for lstm in layer])),
        graph.constant(f"{name}_R", np.stack([_reordered(lstm.recurrent) for lstm in layer])),
        graph.constant(f"{name}_B", np.stack([_both_biases(lstm) for lstm in layer])),
        *([lengths] if lengths else []),
        hidden_size=layer[0].units,
        direction="bidirectional" if len(layer) == 2 else "forward",
    )
    features = sum(lstm.units for lstm in layer)
    states = graph.add("Transpose", states, perm=[0, 2, 1, 3])  # from [time, directions, batch, units]
    last = graph.add("Transpose", last, perm=[1, 0, 2])
    return (
        graph.add("Reshape", states, graph.integers(0, 0, features)),
        graph.add("Reshape", last, graph.integers(0, features)),
    )


def _reordered(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Converts gates from Keras's layout, [..., 4 * units], to the order and layout of ONNX, [4 * units, ...]."""
    input_gate, forget, candidate, output = np.split(matrix, 4, axis=-1)
    return np.concatenate([input_gate, output, forget, candidate], axis=-1).T


def _both_biases(lstm: LstmWeights) -> npt.NDArray[np.float32]:
    return np.concatenate([_reordered(lstm.bias), np.zeros_like(lstm.bias)])


def _pool(graph: _Graph, pooling: str, states: str, is_token: str | None, lengths: str) -> str:
    """Adds the maximum or mean over time, float32[batch, features], of states float32[time, batch, features].

    For "mean_max" it adds the mean and then the maximum, float32[batch, 2 * features].
    """
    if pooling == "mean_max":
        return graph.add("Concat", *(_pool(graph, one, states, is_token, lengths) for one in ("mean", "max")), axis=1)
    if is_token is None:
        return graph.add("ReduceMax" if pooling == "max" else "ReduceMean", states, axes=[0], keepdims=0)
    counts = graph.add("Unsqueeze", graph.add("Transpose", is_token, perm=[1, 0]), graph.integers(2))
    neutral = graph.constant(f"padding_{pooling}", np.array(LOWEST if pooling == "max" else 0, np.float32))
    states = graph.add("Where", counts, states, neutral)
    if pooling == "max":
        return graph.add("ReduceMax", states, axes=[0], keepdims=0)
    total = graph.add("ReduceSum", states, graph.integers(0), keepdims=0)
    divisors = graph.add("Cast", graph.add("Unsqueeze", lengths, graph.integers(1)), to=TensorProto.FLOAT)
    one = graph.constant("one", np.array(1, np.float32))
    return graph.add("Div", total, graph.add("Max", divisors, one))


def _ngrams(graph: _Graph, longest: int, table: npt.NDArray[np.float32]) -> str:
    """Adds the sum of a table over the distinct n-grams of each row, float32[batch, 1].

    Works like `_ngram_buckets` in `model/architectures.py`: each row is padded and treated as a ring, n-grams with
    padding get the bucket -1, and a sorted bucket counts if it is not negative and differs from the previous one.
    """

    def rolled(matrix: str, first: int) -> str:
        """Rotates the columns of a matrix so that column `first` comes first."""
        start, end, axis = graph.integers(first), graph.integers(np.iinfo(np.int64).max), graph.integers(1)
        behind = graph.add("Slice", matrix, start, end, axis)
        return graph.add("Concat", behind, graph.add("Slice", matrix, graph.integers(0), start, axis), axis=1)

    pad_id, pads = graph.constant("closing_id", np.array(PAD_ID, np.int64)), graph.integers(0, 0, 0, 1)
    prime, buckets, padding = graph.integers(PRIME), graph.integers(len(table)), graph.integers(-1)
    token_ids = graph.add("Cast", INPUT_NAME, to=TensorProto.INT64)
    ring = graph.add("Pad", token_ids, pads, pad_id)
    hashed, is_whole = "", ""
    found = []
    for n in range(1, longest + 1):
        ids = rolled(ring, n - 1)
        product = graph.add("Mul", ids, graph.integers(MULTIPLIERS[n - 1]))
        hashed = graph.add("Add", hashed, product) if hashed else product
        is_token = graph.add("Not", graph.add("Equal", ids, pad_id))
        is_whole = graph.add("And", is_whole, is_token) if is_whole else is_token
        bucket = graph.add("Mod", graph.add("Add", hashed, graph.integers(OFFSETS[n])), prime)
        found.append(graph.add("Where", is_whole, graph.add("Mod", bucket, buckets), padding))
    together = graph.add("Concat", *found, axis=1)
    count = graph.add("Slice", graph.add("Shape", together), graph.integers(1), graph.integers(2))
    rising, _ = graph.add_all("TopK", 2, together, count, axis=1, largest=0, sorted=1)
    is_new = graph.add("Not", graph.add("Equal", rising, rolled(rising, -1)))
    counts = graph.add("And", is_new, graph.add("Not", graph.add("Equal", rising, padding)))
    # Of the bucket -1 this gathers the last entry, which does not count.
    values = graph.add("Gather", graph.constant("ngram_table", table), rising)
    summed = graph.add("Where", counts, values, graph.constant("nothing", np.array(0, np.float32)))
    return graph.add("ReduceSum", summed, graph.integers(1), keepdims=1)
