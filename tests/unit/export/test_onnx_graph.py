"""ONNX Runtime computes the probabilities of the native engine, for every kind of network."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lstm_ray.config import Pooling, Side
from lstm_ray.model.weights import LstmWeights, NetworkWeights
from lstm_ray.score.engine import NativeEngine
from lstm_ray.text.sequences import Sequences

onnx = pytest.importorskip("onnx", reason="needs lstm-ray[test]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs lstm-ray[test]")

from lstm_ray.export.onnx_graph import onnx_model  # noqa: E402

MAX_TOKENS = 9
LENGTHS = (1, 9, 2, 3, 9, 8, 1, 4, 5, 6, 7)
COMBINATIONS = list(product((1, 2), (1, 2), ("last", "max", "mean", "mean_max"), (False, True), ("pre", "post")))


def make_network(layers: int, directions: int, pooling: Pooling, masked: bool, padding: Side) -> NetworkWeights:
    """Returns a random network whose layers differ in size."""
    generator = np.random.default_rng(layers)

    def normal(*shape: int) -> NDArray[np.float32]:
        return (generator.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    made, inputs = [], 7
    for units in (17, 5)[:layers]:
        made.append(
            tuple(
                LstmWeights(normal(inputs, 4 * units), normal(units, 4 * units), normal(4 * units))
                for _ in range(directions)
            )
        )
        inputs = units * directions
    embedding = generator.normal(size=(40, 7)).astype(np.float32)
    inputs *= 2 if pooling == "mean_max" else 1
    return NetworkWeights(embedding, tuple(made), normal(inputs), -0.3, pooling, masked, padding, MAX_TOKENS)


def padded(rows: list[NDArray[np.int32]], padding: Side, time: int) -> NDArray[np.int32]:
    batch = np.zeros((len(rows), time), np.int32)
    for index, row in enumerate(rows):
        batch[index, time - len(row) if padding == "pre" else 0 :][: len(row)] = row
    return batch


def run(model: Any, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (probability,) = session.run(["probability"], {"token_ids": token_ids})
    assert probability.shape == (len(token_ids), 1)
    return probability[:, 0]


@pytest.mark.parametrize(("layers", "directions", "pooling", "masked", "padding"), COMBINATIONS)
def test_every_kind_of_network(layers: int, directions: int, pooling: Pooling, masked: bool, padding: Side) -> None:
    network = make_network(layers, directions, pooling, masked, padding)
    generator = np.random.default_rng(1)
    rows = [generator.integers(1, 40, length).astype(np.int32) for length in LENGTHS]
    expected = NativeEngine(network, 1).probabilities(Sequences(np.concatenate(rows), np.cumsum([0, *LENGTHS])))
    model = onnx_model(network)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, padded(rows, padding, MAX_TOKENS)), expected, rtol=0, atol=1e-6)
    if masked:  # padding changes nothing, on either side and in any amount
        other: Side = "post" if padding == "pre" else "pre"
        np.testing.assert_allclose(run(model, padded(rows, other, MAX_TOKENS + 4)), expected, rtol=0, atol=1e-6)


@settings(max_examples=30)
@given(
    rows=st.lists(st.lists(st.integers(1, 4) | st.integers(1, 39), min_size=1, max_size=MAX_TOKENS), min_size=1),
    ngrams=st.integers(1, 3),
    buckets=st.sampled_from([2, 30, 1_000_003]),
    masked=st.booleans(),
    padding=st.sampled_from(["pre", "post"]),
)
def test_ngrams(rows: list[list[int]], ngrams: int, buckets: int, masked: bool, padding: Side) -> None:
    table = np.random.default_rng(buckets).normal(size=buckets).astype(np.float32)
    network = replace(make_network(1, 1, "max", masked, padding), ngrams=ngrams, ngram_table=table)
    arrays = [np.array(row, np.int32) for row in rows]
    sequences = Sequences(np.concatenate(arrays), np.cumsum([0, *map(len, rows)]))
    model = onnx_model(network)
    onnx.checker.check_model(model, full_check=True)
    time = max(map(len, rows)) if masked else MAX_TOKENS
    given = run(model, padded(arrays, padding, time))
    np.testing.assert_allclose(given, NativeEngine(network, 1).probabilities(sequences), rtol=0, atol=1e-6)
