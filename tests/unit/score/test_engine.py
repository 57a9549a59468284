"""NativeEngine against a plain float64 LSTM and against Keras; a row's result does not depend on other rows."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lstm_ray.model.weights import LstmWeights, NetworkWeights, Padding, Pooling
from lstm_ray.score.engine import NativeEngine
from lstm_ray.text.ngrams import bags
from lstm_ray.text.sequences import Sequences

Row = NDArray[np.int32]
POOLINGS = ("last", "max", "mean", "mean_max")
COMBINATIONS = list(product((1, 2), (1, 2), POOLINGS, (False, True), ("pre", "post")))


def make_network(
    units: Sequence[int] = (5,),
    directions: int = 1,
    pooling: Pooling = "last",
    masked: bool = False,
    padding: Padding = "pre",
    max_tokens: int = 9,
    vocabulary_size: int = 40,
    embedding_size: int = 7,
    scale: float = 1.0,
    seed: int = 0,
    ngrams: int = 0,
    ngram_buckets: int = 70,
) -> NetworkWeights:
    """Returns a random network; `scale` 1 gives pre-activations around 1, as training does."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return (generator.normal(size=shape) * scale / np.sqrt(shape[0])).astype(np.float32)

    layers = []
    inputs = embedding_size
    for size in units:
        layers.append(
            tuple(
                LstmWeights(normal(inputs, 4 * size), normal(size, 4 * size), normal(4 * size))
                for _ in range(directions)
            )
        )
        inputs = size * directions
    embedding = generator.normal(size=(vocabulary_size, embedding_size)).astype(np.float32)
    inputs *= 2 if pooling == "mean_max" else 1
    return NetworkWeights(
        embedding,
        tuple(layers),
        normal(inputs),
        -0.3,
        pooling,
        masked,
        padding,
        max_tokens,
        ngrams,
        generator.normal(size=ngram_buckets).astype(np.float32) if ngrams else None,
    )


def make_rows(network: NetworkWeights, lengths: Sequence[int], seed: int = 1) -> list[Row]:
    generator = np.random.default_rng(seed)
    return [generator.integers(1, len(network.embedding), length).astype(np.int32) for length in lengths]


def ragged(rows: Sequence[Row]) -> Sequences:
    return Sequences(np.concatenate([*rows, np.zeros(0, np.int32)]), np.cumsum([0, *map(len, rows)]))


def score(network: NetworkWeights, rows: Sequence[Row], threads: int = 1) -> NDArray[np.float32]:
    return NativeEngine(network, threads).probabilities(ragged(rows))


def sigmoid(value: Any) -> Any:
    return 0.5 + 0.5 * np.tanh(0.5 * value)


def run_lstm(lstm: LstmWeights, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the outputs of all steps, float64[time, units]."""
    hidden = cell = np.zeros(lstm.units)
    outputs = np.zeros((len(inputs), lstm.units))
    for step, values in enumerate(inputs):
        sums = values @ lstm.kernel.astype(float) + hidden @ lstm.recurrent.astype(float) + lstm.bias
        i, f, g, o = np.split(sums, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        outputs[step] = hidden = sigmoid(o) * np.tanh(cell)
    return outputs


def expected(network: NetworkWeights, row: Row) -> float:
    """Returns the probability of one row in float64."""
    padding = np.zeros(0 if network.masked else network.max_tokens - len(row), np.int32)
    token_ids = np.concatenate([padding, row] if network.padding == "pre" else [row, padding])
    sequence = network.embedding[token_ids].astype(float)
    for layer in network.layers:
        outputs = [run_lstm(layer[0], sequence), *(run_lstm(lstm, sequence[::-1])[::-1] for lstm in layer[1:])]
        sequence = np.concatenate(outputs, axis=1)
    if not len(sequence):
        features = np.zeros(len(network.output_kernel))
    elif network.pooling == "last":
        features = np.concatenate([outputs[-1 if index == 0 else 0] for index, outputs in enumerate(outputs)])
    else:
        pools = {"max": sequence.max(axis=0), "mean": sequence.mean(axis=0)}
        features = np.concatenate([pools[name] for name in network.pooling.split("_")])
    logit = features @ network.output_kernel.astype(float) + network.output_bias
    if network.ngram_table is not None:
        logit += bags(ragged([row]), network.ngrams, len(network.ngram_table)).sums(network.ngram_table)[0]
    return float(sigmoid(logit))


def assert_scores(network: NetworkWeights, rows: Sequence[Row], tolerance: float = 1e-6) -> None:
    oracle = [expected(network, row) for row in rows]
    np.testing.assert_allclose(score(network, rows), oracle, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("layers", "directions", "pooling", "masked", "padding"), COMBINATIONS)
def test_every_kind_of_network(layers: int, directions: int, pooling: Pooling, masked: bool, padding: Padding) -> None:
    network = make_network((17, 5)[:layers], directions, pooling, masked, padding)
    assert_scores(network, make_rows(network, [0, 1, 9, 2, 3, 9, 8, 1, 0, 4, 5, 6, 7]))


@pytest.mark.parametrize("ngrams", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("padding", ["pre", "post"])
def test_ngrams_are_added_to_the_logit(ngrams: int, masked: bool, padding: Padding) -> None:
    network = make_network(masked=masked, padding=padding, vocabulary_size=5, ngrams=ngrams)  # n-grams repeat
    rows = make_rows(network, [0, 1, 9, 2, 3, 9, 8, 1, 0, 4, 5, 6, 7])
    assert_scores(network, rows)
    without = replace(network, ngrams=0, ngram_table=None)
    different = score(network, rows) != score(without, rows)
    np.testing.assert_array_equal(different, [len(row) > 0 for row in rows])


@settings(max_examples=40, deadline=None)
@given(
    units=st.lists(st.sampled_from([1, 3, 16, 17, 33]), min_size=1, max_size=3),
    directions=st.integers(1, 2),
    pooling=st.sampled_from(POOLINGS),
    masked=st.booleans(),
    padding=st.sampled_from(["pre", "post"]),
    embedding_size=st.integers(1, 40),
    ngrams=st.integers(0, 3),
    lengths=st.lists(st.integers(0, 6), max_size=20),
    seed=st.integers(0, 1000),
)
def test_any_sizes(lengths: list[int], **settings: Any) -> None:
    network = make_network(max_tokens=6, **settings)
    assert_scores(network, make_rows(network, lengths))


@pytest.mark.parametrize("units", [1, 3, 17, 128, 200])
@pytest.mark.parametrize("directions", [1, 2])
def test_awkward_sizes(units: int, directions: int) -> None:
    network = make_network((units,), directions, max_tokens=30, embedding_size=50)
    assert_scores(network, make_rows(network, [30, 0, 1, 29, 12]))


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 95, 96, 97, 211])
def test_any_number_of_rows(count: int) -> None:
    network = make_network((3,), masked=True)
    assert_scores(network, make_rows(network, np.random.default_rng(count).integers(0, 10, count).tolist()))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("masked", [False, True])
def test_long_rows(pooling: Pooling, masked: bool) -> None:
    network = make_network((17,), 2, pooling, masked, max_tokens=1500)
    assert_scores(network, make_rows(network, [1500, 3, 700]))


@pytest.mark.parametrize("scale", [30.0, 1e3, 1e6, 1e18])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_saturated_gates_stay_exact(scale: float, pooling: Pooling) -> None:
    network = make_network((17,), 2, pooling, scale=scale)
    probabilities = score(network, make_rows(network, [9, 0, 1, 5]))
    assert np.isfinite(probabilities).all()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_a_cell_that_counts_up() -> None:
    """Gates wide open for 500 steps: the cell reaches 500 and the output is 1."""
    lstm = LstmWeights(
        np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32), np.array([90, 90, 90, 90], np.float32)
    )
    embedding, output = np.zeros((2, 1), np.float32), np.ones(1, np.float32)
    network = NetworkWeights(embedding, ((lstm,),), output, 0.0, "last", True, "pre", 500)
    assert score(network, [np.ones(500, np.int32)])[0] == pytest.approx(sigmoid(1.0), abs=1e-7)


def test_an_empty_row_of_a_masked_network_scores_the_bias() -> None:
    for pooling in POOLINGS:
        network = make_network(pooling=pooling, masked=True)
        assert score(network, make_rows(network, [0]))[0] == np.float32(sigmoid(network.output_bias))


def test_a_masked_network_skips_id_zero_inside_a_row() -> None:
    network = make_network(masked=True)
    with_zeros = [np.array([0, 5, 0, 6], np.int32), np.array([0], np.int32), np.array([7, 0], np.int32)]
    without = [np.array([5, 6], np.int32), np.zeros(0, np.int32), np.array([7], np.int32)]
    np.testing.assert_array_equal(score(network, with_zeros), score(network, without))


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("layers", "directions", "pooling", "ngrams"),
    [(1, 1, "last", 0), (1, 2, "max", 3), (2, 2, "mean", 2), (1, 2, "mean_max", 0)],
)
def test_a_row_does_not_depend_on_its_company(
    layers: int, directions: int, pooling: Pooling, ngrams: int, masked: bool, padding: Padding
) -> None:
    network = make_network((17, 5)[:layers], directions, pooling, masked, padding, ngrams=ngrams)
    rows = make_rows(network, np.random.default_rng(3).integers(0, 10, 230).tolist())
    engine = NativeEngine(network)
    together = engine.probabilities(ragged(rows))
    np.testing.assert_array_equal(score(network, rows, threads=2), together)
    np.testing.assert_array_equal(engine.probabilities(ragged(rows[::-1]))[::-1], together)
    np.testing.assert_array_equal(engine.probabilities(ragged(rows[100:109])), together[100:109])
    alone = [engine.probabilities(ragged([row]))[0] for row in rows[:40]]
    np.testing.assert_array_equal(alone, together[:40])


def test_padding_read_ahead_gives_the_bits_of_padding_read_as_tokens() -> None:
    """The shortcut for leading padding must not show: where id 0 is an ordinary token, every step is computed."""
    for padding, directions in (("pre", 1), ("post", 2)):
        network = make_network((17,), directions, "last", False, padding)
        rows = make_rows(network, [0, 1, 5, 8])
        blanks = [np.zeros(network.max_tokens - len(row), np.int32) for row in rows]
        pairs = [(blank, row) if padding == "pre" else (row, blank) for blank, row in zip(blanks, rows, strict=True)]
        padded = [np.concatenate(pair) for pair in pairs]
        np.testing.assert_array_equal(score(network, rows), score(network, padded))


@pytest.mark.parametrize(
    ("token_ids", "offsets", "message"),
    [
        ([1, 40], [0, 2], "token id 40"),
        ([1, -1], [0, 2], "token id -1"),
        ([1, 2], [0, 1], "offsets"),
        ([1, 2], [1, 2], "offsets"),
        ([1, 2], [0, 3, 2], "offsets"),
        ([1, 2], [], "offsets"),
        ([1] * 10, [0, 10], "10 tokens"),
    ],
)
def test_wrong_input_is_refused(token_ids: list[int], offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NativeEngine(make_network()).probabilities(
            Sequences(np.array(token_ids, np.int32), np.array(offsets, np.int64))
        )


def test_weights_may_be_laid_out_in_any_order() -> None:
    """Keras may return views and transposes."""
    network = make_network((3, 5), 2)
    layers = tuple(
        tuple(LstmWeights(*(np.asfortranarray(array) for array in (w.kernel, w.recurrent, w.bias))) for w in layer)
        for layer in network.layers
    )
    transposed = replace(network, embedding=np.asfortranarray(network.embedding), layers=layers)
    rows = make_rows(network, [9, 3, 0])
    np.testing.assert_array_equal(score(transposed, rows), score(network, rows))


@pytest.mark.parametrize(("layers", "directions", "pooling", "masked", "padding"), COMBINATIONS)
def test_keras_agrees(layers: int, directions: int, pooling: Pooling, masked: bool, padding: Padding) -> None:
    keras = pytest.importorskip("keras")
    network = make_network((8, 5)[:layers], directions, pooling, masked, padding, max_tokens=6)
    rows = make_rows(network, [6, 1, 3])  # Keras's own answer to an empty masked row differs between its back ends
    token_ids = keras.utils.pad_sequences(rows, network.max_tokens, padding=padding)
    inputs = keras.Input((network.max_tokens,), dtype="int32")
    embedding = keras.layers.Embedding(*network.embedding.shape, mask_zero=masked)
    values = embedding(inputs)
    lstms = []
    for depth, layer in enumerate(network.layers):
        lstm = keras.layers.LSTM(layer[0].units, return_sequences=depth < layers - 1 or pooling != "last")
        lstms.append(keras.layers.Bidirectional(lstm) if directions == 2 else lstm)
        values = lstms[-1](values)
    model = keras.Model(inputs, values)
    embedding.set_weights([network.embedding])
    for lstm, layer in zip(lstms, network.layers, strict=True):
        lstm.set_weights([array for weights in layer for array in (weights.kernel, weights.recurrent, weights.bias)])
    features = np.asarray(model(token_ids), np.float64)
    if pooling != "last":
        real = (token_ids != 0 if masked else np.ones_like(token_ids, bool))[:, :, None]
        pools = {
            "max": np.where(real, features, -np.inf).max(axis=1),
            "mean": (features * real).sum(axis=1) / real.sum(axis=1),
        }
        features = np.concatenate([pools[name] for name in pooling.split("_")], axis=1)
    probabilities = sigmoid(features @ network.output_kernel.astype(float) + network.output_bias)
    np.testing.assert_allclose(score(network, rows), probabilities, rtol=0, atol=1e-6)
