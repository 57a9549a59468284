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

from lstm_ray.config import Pooling, Precision, Side
from lstm_ray.errors import ConfigError
from lstm_ray.kernels.emitter import Target
from lstm_ray.model.weights import LstmWeights, NetworkWeights
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
    padding: Side = "pre",
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


def score(
    network: NetworkWeights, rows: Sequence[Row], threads: int = 1, precision: Precision = "float32"
) -> NDArray[np.float32]:
    return NativeEngine(network, threads, precision).probabilities(ragged(rows))


def sigmoid(value: Any) -> Any:
    return 0.5 + 0.5 * np.tanh(0.5 * value)


def round_bf16(values: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the nearest numbers with 8 significant bits, half to even."""
    mantissa, exponent = np.frexp(values.astype(float))
    return np.ldexp(np.rint(mantissa * 256) / 256, exponent)


def round_states(values: NDArray[Any], precision: Precision) -> NDArray[Any]:
    """Returns hidden states as a product reads them."""
    if precision == "int8":
        return np.rint(values * 127) / 127
    return round_bf16(values) if precision == "bf16" else values


def round_weights(matrix: NDArray[np.float32], precision: Precision) -> NDArray[np.float64]:
    """Returns weights as a product reads them."""
    if precision == "int8":
        scale = np.abs(matrix).max(axis=0) / np.float32(127)
        return np.rint(matrix / scale) * scale.astype(float)
    return round_bf16(matrix) if precision == "bf16" else matrix.astype(float)


def run_lstm(
    lstm: LstmWeights, inputs: NDArray[np.float64], precision: Precision, is_first: bool
) -> NDArray[np.float64]:
    """Returns the outputs of all steps, float64[time, units]. The first layer's inputs are not rounded."""
    hidden = cell = np.zeros(lstm.units)
    outputs = np.zeros((len(inputs), lstm.units))
    kernel = lstm.kernel.astype(float) if is_first else round_weights(lstm.kernel, precision)
    recurrent = round_weights(lstm.recurrent, precision)
    for step, values in enumerate(inputs if is_first else round_states(inputs, precision)):
        sums = values @ kernel + round_states(hidden, precision) @ recurrent + lstm.bias
        i, f, g, o = np.split(sums, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        outputs[step] = hidden = sigmoid(o) * np.tanh(cell)
    return outputs


def expected(network: NetworkWeights, row: Row, precision: Precision = "float32") -> float:
    """Returns the probability of one row in float64, from states and weights in a precision."""
    padding = np.zeros(0 if network.masked else network.max_tokens - len(row), np.int32)
    token_ids = np.concatenate([padding, row] if network.padding == "pre" else [row, padding])
    sequence = network.embedding[token_ids].astype(float)
    for depth, layer in enumerate(network.layers):
        how = precision, depth == 0
        outputs = [run_lstm(layer[0], sequence, *how)]
        outputs += [run_lstm(lstm, sequence[::-1], *how)[::-1] for lstm in layer[1:]]
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
def test_every_kind_of_network(layers: int, directions: int, pooling: Pooling, masked: bool, padding: Side) -> None:
    network = make_network((17, 5)[:layers], directions, pooling, masked, padding)
    assert_scores(network, make_rows(network, [0, 1, 9, 2, 3, 9, 8, 1, 0, 4, 5, 6, 7]))


@pytest.mark.parametrize("ngrams", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("padding", ["pre", "post"])
def test_ngrams_are_added_to_the_logit(ngrams: int, masked: bool, padding: Side) -> None:
    network = make_network(masked=masked, padding=padding, vocabulary_size=5, ngrams=ngrams)  # n-grams repeat
    rows = make_rows(network, [0, 1, 9, 2, 3, 9, 8, 1, 0, 4, 5, 6, 7])
    assert_scores(network, rows)
    without = replace(network, ngrams=0, ngram_table=None)
    different = score(network, rows) != score(without, rows)
    np.testing.assert_array_equal(different, [len(row) > 0 for row in rows])


def assert_rounded(network: NetworkWeights, rows: Sequence[Row], precision: Precision) -> None:
    """Scores are those of rounded numbers, except where a number in the middle was rounded to the other side."""
    rounded = np.array([expected(network, row, precision) for row in rows])
    difference = np.abs(score(network, rows, precision=precision) - rounded)
    from_exact = np.abs(rounded - [expected(network, row) for row in rows])
    assert np.median(difference) < 2e-7
    assert np.median(difference) < np.median(from_exact) / 20, "rounding would not be seen"
    assert difference.max() < 0.01


@pytest.mark.parametrize(
    ("layers", "directions", "pooling", "masked", "padding"),
    list(product((1, 2, 3), (1, 2), ("last", "mean_max"), (False, True), ("pre", "post"))),
)
def test_every_kind_of_network_in_low_precision(
    layers: int, directions: int, pooling: Pooling, masked: bool, padding: Side, low_precision: Precision
) -> None:
    network = make_network((17, 5, 33)[:layers], directions, pooling, masked, padding, max_tokens=6)
    assert_rounded(network, make_rows(network, [1, 6, 2, 3, 6, 1, 4, 5, 6, 5, 4, 2, 1]), low_precision)


@pytest.mark.parametrize("units", [1, 2, 3, 15, 16, 18, 63, 200])
def test_awkward_sizes_in_low_precision(units: int, low_precision: Precision) -> None:
    network = make_network((units,), 2, "max", max_tokens=5, embedding_size=50)
    assert_rounded(network, make_rows(network, [5, 1, 4, 3, 5, 5, 2]), low_precision)


def test_low_precision_is_close_on_long_rows(low_precision: Precision) -> None:
    network = make_network((128,), 2, "mean_max", masked=True, max_tokens=400)
    rows = make_rows(network, [400, 3, 390, 120, 250])
    np.testing.assert_allclose(score(network, rows, precision=low_precision), score(network, rows), rtol=0, atol=0.01)


def test_columns_of_zeros_stay_zero_in_low_precision(low_precision: Precision) -> None:
    """A column's scale must not divide by 0."""
    network = make_network((4,))
    lstm = network.layers[0][0]
    without = replace(network, layers=((replace(lstm, recurrent=np.zeros_like(lstm.recurrent)),),))
    rows = make_rows(network, [9, 1, 4])
    np.testing.assert_array_equal(score(without, rows, precision=low_precision), score(without, rows))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_processor_without_the_instructions_is_refused(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target.of("haswell", {"avx2": True, "fma": True, "avx512vnni": False})
    monkeypatch.setattr(Target, "host", classmethod(lambda cls: target))
    with pytest.raises(ConfigError, match=f"--precision {precision} needs a processor with .*: choose float32"):
        NativeEngine(make_network(), precision=precision)


@settings(max_examples=40)
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


def assert_independent(network: NetworkWeights, precision: Precision = "float32") -> None:
    rows = make_rows(network, np.random.default_rng(3).integers(0, 10, 230).tolist())
    engine = NativeEngine(network, precision=precision)
    together = engine.probabilities(ragged(rows))
    np.testing.assert_array_equal(score(network, rows, 2, precision), together)
    np.testing.assert_array_equal(engine.probabilities(ragged(rows[::-1]))[::-1], together)
    np.testing.assert_array_equal(engine.probabilities(ragged(rows[100:109])), together[100:109])
    alone = [engine.probabilities(ragged([row]))[0] for row in rows[:40]]
    np.testing.assert_array_equal(alone, together[:40])


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("layers", "directions", "pooling", "ngrams"),
    [(1, 1, "last", 0), (1, 2, "max", 3), (2, 2, "mean", 2), (1, 2, "mean_max", 0)],
)
def test_a_row_does_not_depend_on_its_company(
    layers: int, directions: int, pooling: Pooling, ngrams: int, masked: bool, padding: Side
) -> None:
    assert_independent(make_network((17, 5)[:layers], directions, pooling, masked, padding, ngrams=ngrams))


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_row_does_not_depend_on_its_company_in_low_precision(
    masked: bool, padding: Side, low_precision: Precision
) -> None:
    assert_independent(make_network((17, 5), 2, "mean_max", masked, padding, ngrams=2), low_precision)


def test_padding_read_ahead_gives_the_bits_of_padding_read_as_tokens() -> None:
    assert_padding_is_free("float32")


def test_padding_read_ahead_gives_the_same_bits_in_low_precision(low_precision: Precision) -> None:
    assert_padding_is_free(low_precision)


def assert_padding_is_free(precision: Precision) -> None:
    """The shortcut for leading padding must not show: where id 0 is an ordinary token, every step is computed."""
    for padding, directions in (("pre", 1), ("post", 2)):
        network = make_network((17,), directions, "last", False, padding)
        rows = make_rows(network, [0, 1, 5, 8])
        blanks = [np.zeros(network.max_tokens - len(row), np.int32) for row in rows]
        pairs = [(blank, row) if padding == "pre" else (row, blank) for blank, row in zip(blanks, rows, strict=True)]
        padded = [np.concatenate(pair) for pair in pairs]
        ahead, as_tokens = (score(network, one, precision=precision) for one in (rows, padded))
        np.testing.assert_array_equal(ahead, as_tokens)


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
def test_keras_agrees(layers: int, directions: int, pooling: Pooling, masked: bool, padding: Side) -> None:
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
