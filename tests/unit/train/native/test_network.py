"""The compiled forward and backward pass against Keras and TensorFlow's gradients, dropout included."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from lstm_ray.config import TrainConfig
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.kernels.layout import GATES, transpose, wide
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.native.layout import WeightLayout, directions, lay_out
from lstm_ray.train.native.network import NO_DROPOUT, Dropout, Network, Weights, sigmoid

VOCABULARY_SIZE = 40
TOLERANCE = 3e-6  # of the largest gradient

Arrays = list[npt.NDArray[Any]]


def settings(**changes: Any) -> TrainConfig:
    """Returns the settings of a small network without dropout."""
    small = {"preset": "none", "max_tokens": 9, "embedding_size": 6, "units": 5, "dropout": 0.0}
    return TrainConfig.model_validate({**small, "vocabulary_size": VOCABULARY_SIZE, **changes})


class Both:
    """The same network twice."""

    def __init__(self, config: TrainConfig, seed: int = 0, target: Target | None = None, noise: float = 0.2) -> None:
        start_tensorflow()
        from lstm_ray.model.architectures import build_model

        generator = np.random.default_rng(seed)
        target = target or Target.host()
        self.config = config
        self.model = build_model(config, config, seed)
        for variable in self.model.trainable_variables:  # biases begin at 0, which would hide a mistake
            variable.assign(variable.numpy() + generator.normal(0, noise, variable.shape).astype(np.float32))
        self.layout = lay_out(config, target.lanes)
        table, *others = (variable.numpy() for variable in self.model.trainable_variables)
        embedding = aligned_empty(VOCABULARY_SIZE, self.layout.embedding_width)
        embedding[:] = 0
        embedding[:, : config.embedding_size] = table
        dense = aligned_empty(self.layout.size)
        dense[:] = 0
        for offsets, values in zip(self.layout.offsets, others, strict=True):
            dense[offsets] = values
        self.weights = Weights(
            np.arange(VOCABULARY_SIZE),
            embedding,
            dense,
            {
                direction: (
                    transpose(dense[direction.kernel], direction.inputs, target.lanes),
                    transpose(dense[direction.recurrent], direction.width, target.lanes),
                )
                for direction in directions(self.layout)
            },
        )
        self.network = Network(config, self.layout, target)

    def rows(self, lengths: list[int], seed: int = 0) -> npt.NDArray[np.int32]:
        """Returns int32[rows, time] with so many tokens each."""
        generator = np.random.default_rng(seed)
        time = self.config.max_tokens
        token_ids = generator.integers(1, VOCABULARY_SIZE, (len(lengths), time)).astype(np.int32)
        for row, length in zip(token_ids, lengths, strict=True):
            padding = slice(0, time - length) if self.config.padding == "pre" else slice(length, time)
            row[padding] = 0
        return token_ids

    def keras(self, token_ids: Any, labels: Any, counts: Any, training: bool = False) -> tuple[Any, Arrays]:
        """Returns Keras's probabilities, and TensorFlow's gradients of the weighted sum of losses."""
        import keras
        import tensorflow as tf

        with tf.GradientTape() as tape:
            probabilities = self.model(token_ids, training=training)
            loss = tf.reduce_sum(keras.losses.binary_crossentropy(labels[:, None], probabilities) * counts)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        return probabilities.numpy()[:, 0], [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]

    def ours(self, token_ids: Any, labels: Any, counts: Any, drop: Dropout = NO_DROPOUT) -> tuple[Any, Arrays]:
        """Returns the same, by the compiled code."""
        found = self.network.gradients(token_ids, labels, counts, self.weights, drop)
        table = np.zeros_like(self.weights.vectors)
        table[found.words] = found.embedding
        columns = self.config.embedding_size
        assert not table[:, columns:].any(), "padding learns nothing"
        is_used = np.zeros(self.layout.size, np.bool_)
        for offsets in self.layout.offsets:
            is_used[offsets] = True
        assert not found.dense[~is_used].any(), "padding learns nothing"
        dense = [found.dense[offsets].copy() for offsets in self.layout.offsets]
        return sigmoid(found.logits), [table[:, :columns], *dense]


def assert_equal(ours: tuple[Any, Arrays], theirs: tuple[Any, Arrays], tolerance: float = TOLERANCE) -> None:
    """Compares probabilities, and gradients relative to the largest of their numbers."""
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-6)
    largest = max(np.abs(gradient).max() for gradient in theirs[1])
    for one, other in zip(ours[1], theirs[1], strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=tolerance * max(largest, 1e-6), rtol=0)


@st.composite
def networks(draw: st.DrawFn) -> TrainConfig:
    """Draws every kind of network that a run can train."""
    return settings(
        embedding_size=draw(st.sampled_from([1, 6, 16, 33])),
        units=draw(st.sampled_from([1, 5, 16, 40, 70])),
        layers=draw(st.integers(1, 3)),
        bidirectional=draw(st.booleans()),
        pooling=draw(st.sampled_from(["last", "max", "mean", "mean_max"])),
        mask=draw(st.booleans()),
        padding=draw(st.sampled_from(["pre", "post"])),
    )


@given(config=networks(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=14), seed=st.integers(0, 99))
@example_settings(max_examples=15)
def test_gradients_are_those_of_keras(config: TrainConfig, lengths: list[int], seed: int) -> None:
    both = Both(config, seed)
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, len(lengths)).astype(np.float32)
    counts = generator.random(len(lengths)).astype(np.float32)
    token_ids = both.rows(lengths, seed)
    for label in (0, 1):
        # Rows of one label at a time count: those of two could cancel, and leave no scale for rounding.
        of_label = counts * (labels == label)
        ours = both.ours(token_ids, labels, of_label)
        assert_equal(ours, both.keras(token_ids, labels, of_label))
    np.testing.assert_array_equal(sigmoid(both.network.logits(token_ids, both.weights)), ours[0])


def keras_gradients_with_shifts(both: Both, token_ids: Any, labels: Any, counts: Any) -> Arrays:
    """Returns the gradients of adversarial training as `train/step/loss.py` defines them, by Keras and TensorFlow.

    In a network in which each step of each row is a word of its own, with the vector of the step's word, gradients by
    the vectors are gradients by the steps, and vectors can be shifted step by step.
    """
    from lstm_ray.model.architectures import build_model

    config, size = both.config, token_ids.size + 1
    is_read = token_ids != 0 if config.mask else np.ones(token_ids.shape, np.bool_)
    steps = np.where(is_read, np.arange(1, size).reshape(token_ids.shape), 0).astype(np.int32)
    table, *others = (variable.numpy() for variable in both.model.trainable_variables)
    vectors = np.concatenate([table[:1], table[token_ids.reshape(-1)]])
    apart = config.model_copy(update={"vocabulary_size": size})
    both.model = build_model(apart, apart, 0)
    both.model.set_weights([vectors, *others])
    _, (by_vectors, *dense) = both.keras(steps, labels, counts)
    for row, read in zip(steps, is_read, strict=True):
        x, g = vectors[row[read]], by_vectors[row[read]]
        if g.any():
            shift = config.adversarial * np.linalg.norm(x) / np.sqrt(read.sum()) * g / np.linalg.norm(g)
            np.testing.assert_allclose(
                np.linalg.norm(shift) ** 2, config.adversarial**2 * np.square(x).sum(1).mean(), rtol=1e-5
            )
            vectors[row[read]] += shift
    both.model.set_weights([vectors, *others])
    _, (by_shifted, *more) = both.keras(steps, labels, counts)
    by_word = np.zeros_like(table)
    np.add.at(by_word, token_ids.reshape(-1), (by_vectors + by_shifted)[1:] * is_read.reshape(-1, 1))
    return [by_word, *(one + other for one, other in zip(dense, more, strict=True))]


@given(config=networks(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=14), seed=st.integers(0, 99))
@example_settings(max_examples=6)
def test_adversarial_gradients_are_those_of_the_definition(config: TrainConfig, lengths: list[int], seed: int) -> None:
    both = Both(config.model_copy(update={"adversarial": 0.5}), seed)
    generator = np.random.default_rng(seed)
    token_ids, label = both.rows(lengths, seed), np.float32(seed % 2)
    labels, counts = np.full(len(lengths), label), generator.integers(0, 3, len(lengths)).astype(np.float32)
    probabilities, _ = both.keras(token_ids, labels, counts)
    ours = both.ours(token_ids, labels, counts)
    theirs = keras_gradients_with_shifts(both, token_ids, labels, counts)
    assert_equal(ours, (probabilities, theirs), 10 * TOLERANCE)


@pytest.mark.parametrize("noise", [0.02, 0.2], ids=["as a network begins", "large weights, which enlarge rounding"])
def test_gradients_round_about_as_much_as_those_of_keras(noise: float) -> None:
    start_tensorflow()
    import keras

    from lstm_ray.model.architectures import build_model

    config = settings(max_tokens=80, embedding_size=128, units=128)
    both = Both(config, noise=noise)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        network = build_model(config, config, 0).get_config()
        network["layers"][-1]["config"]["dtype"] = "float64"  # which is float32 whatever the policy
        exact = keras.Model.from_config(network)
    finally:
        keras.config.set_dtype_policy(policy)
    exact.set_weights(both.model.get_weights())
    generator = np.random.default_rng(0)
    rows = both.rows(generator.integers(1, 81, 32).tolist())
    labels, counts = generator.integers(0, 2, 32).astype(np.float32), np.ones(32, np.float32)
    _, ours = both.ours(rows, labels, counts)
    _, theirs = both.keras(rows, labels, counts)
    both.model = exact
    _, right = both.keras(rows, labels, counts)
    for one, other, true in zip(ours, theirs, right, strict=True):
        off, usual = (np.abs(gradient - true).max() / np.abs(true).max() for gradient in (one, other))
        assert off < 4 * usual + 2e-6


@pytest.mark.parametrize(
    ("pooling", "padding", "bidirectional"),  # each two of them in every combination
    [("max", "pre", False), ("max", "post", True), ("mean_max", "pre", True), ("mean_max", "post", False)],
)
def test_equal_maxima_share_the_gradient(pooling: str, padding: str, bidirectional: bool) -> None:
    """On long padding the state converges to the same bits for hundreds of steps, any of which may be the maximum."""
    config = settings(max_tokens=300, units=40, pooling=pooling, padding=padding, bidirectional=bidirectional)
    both = Both(config, noise=0.0)
    rows = both.rows(list(range(2, 30, 4)))
    labels, counts = np.arange(len(rows), dtype=np.float32) % 2, np.ones(len(rows), np.float32)
    assert_equal(both.ours(rows, labels, counts), both.keras(rows, labels, counts), 10 * TOLERANCE)


def test_a_masked_row_without_a_token_is_refused() -> None:
    both = Both(settings(mask=True))
    rows = both.rows([3, 0, 2])
    with pytest.raises(ValueError, match="row 1 has no token"):
        both.network.logits(rows, both.weights)


def draw_dropout(layout: WeightLayout, config: TrainConfig, rows: int, masks: int) -> Dropout:
    """Draws factors of 0, 1 and 2 for everything that can be dropped."""
    generator = np.random.default_rng(5)

    def factors(*shape: int) -> npt.NDArray[np.float32]:
        return generator.integers(0, 3, (rows, *shape)).astype(np.float32)

    both = list(directions(layout))
    return Dropout(
        factors(1 if config.shared_dropout else config.max_tokens, config.embedding_size)
        if config.embedding_dropout
        else None,
        {one: factors(masks, wide(one.inputs, layout.lanes)) for one in both} if config.dropout else {},
        {one: factors(GATES, wide(one.width, layout.lanes)) for one in both} if config.recurrent_dropout else {},
        factors(layout.output_kernel.stop - layout.output_kernel.start) if config.output_dropout else None,
    )


RATES: list[dict[str, float]] = [
    {"dropout": 0.3},
    {"recurrent_dropout": 0.3},
    {"dropout": 0.3, "recurrent_dropout": 0.3},
    {"embedding_dropout": 0.3},
    {"embedding_dropout": 0.3, "shared_dropout": True},
    {"output_dropout": 0.3},
    {"embedding_dropout": 0.3, "dropout": 0.3, "recurrent_dropout": 0.3, "output_dropout": 0.3},
]


@pytest.mark.parametrize(
    ("rates", "bidirectional", "size"),  # each two of them in every combination; 70 units are several blocks
    [
        pytest.param(rates, bidirectional, 70 if bidirectional == bool(number % 2) else 5, id="+".join([*rates, side]))
        for number, rates in enumerate(RATES)
        for bidirectional, side in ((False, "lstm"), (True, "bilstm"))
    ],
)
def test_dropout_falls_where_keras_lets_it_fall(
    rates: dict[str, float], bidirectional: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both get the same masks; Keras's own cells say where they are used."""
    start_tensorflow()
    import keras

    sizes = {"units": size, "embedding_size": size + 1}
    config = settings(layers=2, **sizes, pooling="max", mask=True, bidirectional=bidirectional, **rates)
    both = Both(config)
    masks = GATES if config.recurrent_dropout else 1
    drop = draw_dropout(both.layout, config, 7, masks)
    cells = []
    for depth in (1, 2):
        name = f"bidirectional_{depth}" if bidirectional else f"lstm_{depth}"
        layer = both.model.get_layer(name)
        cells += [layer.forward_layer.cell, layer.backward_layer.cell] if bidirectional else [layer.cell]
    for number, (cell, direction) in enumerate(zip(cells, directions(both.layout), strict=True)):
        is_bottom = number < (2 if bidirectional else 1)
        # A layer's inputs are padded to whole vectors, one direction after the other.
        below = (
            np.arange(config.embedding_size)
            if is_bottom
            else np.concatenate([one.column + np.arange(size) for one in both.layout.layers[0]])
        )
        own = range(size)
        for kind, found, columns in (("dropout", drop.inputs, below), ("recurrent_dropout", drop.recurrent, own)):
            if not found:
                continue
            of_gates = [keras.ops.convert_to_tensor(found[direction][:, gate, list(columns)]) for gate in range(masks)]
            value = of_gates if masks == GATES else of_gates[0]
            monkeypatch.setattr(cell, f"get_{kind}_mask", lambda _, value=value: value)
    if config.embedding_dropout:
        layer = both.model.get_layer("embedding_dropout")
        monkeypatch.setattr(layer, "call", lambda inputs, training=False: inputs * drop.embedding)
    if config.output_dropout:
        layer = both.model.get_layer("output_dropout")
        columns = both.layout.offsets[-2].ravel() - both.layout.output_kernel.start
        monkeypatch.setattr(layer, "call", lambda inputs, training=False: inputs * drop.output[:, columns])
    token_ids = both.rows([9, 3, 1, 7, 7, 9, 2])
    labels, counts = np.arange(7, dtype=np.float32) % 2, np.linspace(0.1, 1, 7, dtype=np.float32)
    ours = both.ours(token_ids, labels, counts, drop)
    assert_equal(ours, both.keras(token_ids, labels, counts, training=True))
    assert np.abs(ours[0] - both.ours(token_ids, labels, counts)[0]).max() > 0.001, "the masks do something"


@pytest.mark.parametrize(
    ("lanes", "tile_rows", "fused"),  # each two of them in every combination
    [(4, 3, True), (4, 6, False), (8, 3, False), (8, 6, True)],
)
def test_other_vectors_and_tiles_compute_the_same(lanes: int, tile_rows: int, fused: bool) -> None:
    """Workers of one group may have different processors."""
    host = Target.host()
    config = settings(units=20, layers=2, bidirectional=True, pooling="mean", mask=True)
    both = Both(config, target=Target(host.cpu, host.features, lanes, tile_rows, fused and host.fused))
    rows, ones = both.rows([9, 4, 2, 7, 7]), np.ones(5, np.float32)
    assert_equal(both.ours(rows, ones, ones), both.keras(rows, ones, ones))


def test_a_call_leaves_nothing_behind_for_the_next() -> None:
    both = Both(settings(layers=2, bidirectional=True, mask=True, pooling="mean_max"))
    ones = np.ones(20, np.float32)
    before = both.ours(both.rows([3, 5]), ones[:2], ones[:2])
    both.ours(both.rows([9] * 20, seed=3), ones, ones)
    after = both.ours(both.rows([3, 5]), ones[:2], ones[:2])
    assert [array.tobytes() for array in (before[0], *before[1])] == [
        array.tobytes() for array in (after[0], *after[1])
    ]
