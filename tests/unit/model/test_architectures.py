"""The Keras models: the textbook's sizes, masks that hide padding, and files that Keras opens without lstm-ray."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from lstm_ray.config import ModelSettings, TextSettings, TrainConfig, resolve
from lstm_ray.errors import ConfigError
from lstm_ray.model import architectures
from lstm_ray.model.architectures import build_model, cudnn_obstacle, network_weights, summary_text, with_ngrams
from lstm_ray.model.bundle import read_bundle
from lstm_ray.model.weights import Mix
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.score.engine import NativeEngine
from lstm_ray.text.ngrams import bags
from lstm_ray.text.sequences import Sequences

TEXT = TextSettings(vocabulary_size=50, max_tokens=7)
COMBINATIONS = [  # every pair of values of two settings
    {"mask": False, "pooling": "last", "layers": 2, "bidirectional": True},
    {"mask": False, "pooling": "max", "layers": 1, "bidirectional": False},
    {"mask": False, "pooling": "mean", "layers": 1, "bidirectional": False},
    {"mask": True, "pooling": "last", "layers": 1, "bidirectional": False},
    {"mask": True, "pooling": "max", "layers": 2, "bidirectional": True},
    {"mask": True, "pooling": "mean", "layers": 2, "bidirectional": False},
    {"mask": True, "pooling": "mean", "layers": 1, "bidirectional": True},
    {"mask": True, "pooling": "mean_max", "layers": 1, "bidirectional": False},
    {"mask": False, "pooling": "mean_max", "layers": 2, "bidirectional": True},
]


def tiny(**settings: Any) -> ModelSettings:
    return ModelSettings(embedding_size=3, units=4, **settings)


def name_of(combination: dict[str, Any]) -> str:
    return "-".join(f"{key}={value}" for key, value in combination.items())


def padded(rows: list[list[int]], length: int, padding: str) -> Any:
    filled = [[0] * (length - len(row)) + row if padding == "pre" else row + [0] * (length - len(row)) for row in rows]
    return np.array(filled, np.int32)


def probabilities(model: Any, token_ids: Any) -> Any:
    return np.asarray(model(token_ids, training=False))[:, 0]


@pytest.fixture(scope="module", autouse=True)
def tensorflow() -> None:
    start_tensorflow()


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    generator = np.random.default_rng(3)
    return [[1, *generator.integers(2, 50, length).tolist()] for length in (0, 2, 6)]


# The presets


@pytest.mark.parametrize(
    ("preset", "layers"),
    [
        (
            "lstm",
            {
                "token_ids": ("InputLayer", 0),
                "embedding": ("Embedding", 20_000 * 128),
                "lstm_1": ("LSTM", 131_584),  # 4 gates x 128 units x (128 inputs + 128 states + 1)
                "probability": ("Dense", 129),
            },
        ),
        (
            "bilstm",
            {
                "token_ids": ("InputLayer", 0),
                "embedding": ("Embedding", 5_000 * 32),
                "bidirectional_1": ("Bidirectional", 164_864),  # 2 directions x 4 x 128 x (32 + 128 + 1)
                "probability": ("Dense", 257),
            },
        ),
    ],
)
def test_a_preset_has_the_textbook_s_layers_and_parameters(preset: str, layers: dict[str, tuple[str, int]]) -> None:
    config = resolve(TrainConfig, {"preset": preset})
    model = build_model(config, config, seed=0)
    assert {layer.name: (type(layer).__name__, layer.count_params()) for layer in model.layers} == layers
    assert model.count_params() == sum(parameters for _, parameters in layers.values())
    assert (model.name, model.input_shape, model.output_shape) == (preset, (None, 80), (None, 1))
    cell = (
        model.get_layer("lstm_1") if preset == "lstm" else model.get_layer("bidirectional_1").forward_layer
    ).get_config()
    assert (cell["dropout"], cell["recurrent_dropout"]) == (config.dropout, config.recurrent_dropout)
    assert (cell["return_sequences"], cell["activation"]) == (False, "tanh")
    assert not model.get_layer("embedding").mask_zero


@pytest.mark.parametrize(
    "changes", [{"units": 10**9}, {"embedding_size": 10**10}, {"units": 10**5, "layers": 16, "bidirectional": True}]
)
def test_a_network_that_memory_cannot_hold_is_refused_before_it_is_built(changes: dict[str, int]) -> None:
    settings = ModelSettings.model_validate({"units": 4, "embedding_size": 3, **changes})
    with pytest.raises(ConfigError, match=r"a network of [\d,]+ weights takes [\d,]+ MiB to train, and there are"):
        build_model(TEXT, settings, seed=0)


def test_the_check_of_the_size_counts_what_keras_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny(layers=2, bidirectional=True)
    model = build_model(TEXT, settings, seed=0)
    monkeypatch.setattr(architectures, "memory_bytes", lambda: 0)
    with pytest.raises(ConfigError, match=f"a network of {model.count_params():,} weights"):
        build_model(TEXT, settings, seed=0)


def test_the_summary_is_keras_s() -> None:
    shown = summary_text(build_model(TEXT, tiny(layers=2), seed=0))
    for expected in ("token_ids", "embedding", "lstm_1", "lstm_2", "probability", "Total params"):
        assert expected in shown


def test_dropout_of_word_vectors_is_a_layer_of_its_own() -> None:
    model = build_model(TEXT, tiny(embedding_dropout=0.4), seed=0)
    assert model.get_layer("embedding_dropout").rate == 0.4
    assert "embedding_dropout" not in [layer.name for layer in build_model(TEXT, tiny(), seed=0).layers]


def test_output_dropout_is_the_last_layer_before_the_output() -> None:
    model = build_model(TEXT, tiny(output_dropout=0.4, pooling="mean_max"), seed=0)
    *_, dropout, _ = model.layers
    assert (dropout.name, dropout.rate) == ("output_dropout", 0.4)
    assert "output_dropout" not in [layer.name for layer in build_model(TEXT, tiny(), seed=0).layers]


@pytest.mark.parametrize("shared", [False, True])
def test_shared_dropout_drops_the_same_numbers_at_all_words_of_a_text(shared: bool) -> None:
    model = build_model(TEXT, tiny(embedding_dropout=0.5, shared_dropout=shared), seed=0)
    layer = model.get_layer("embedding_dropout")
    is_dropped = layer(np.ones((30, 7, 3), np.float32), training=True).numpy() == 0
    assert (is_dropped == is_dropped[:, :1]).all() == shared
    assert (is_dropped[:1] != is_dropped[1:]).any()


# Seeds


@pytest.mark.parametrize("bidirectional", [False, True])
def test_initial_weights_are_a_function_of_the_seed(bidirectional: bool) -> None:
    settings = tiny(bidirectional=bidirectional, layers=2)
    first, again, other = (build_model(TEXT, settings, seed=seed).get_weights() for seed in (5, 5, 6))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[1], other[1])


# Masks


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("pooling", ["last", "max", "mean", "mean_max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_masked_model_does_not_see_padding(
    rows: list[list[int]], bidirectional: bool, pooling: Any, padding: str
) -> None:
    model = build_model(TEXT, tiny(mask=True, pooling=pooling, bidirectional=bidirectional), seed=1)
    alone = np.concatenate([probabilities(model, np.array([row], np.int32)) for row in rows])
    assert len(set(alone.tolist())) == len(rows), "the rows must differ for this to mean anything"
    for length in (7, 11):
        np.testing.assert_allclose(probabilities(model, padded(rows, length, padding)), alone, rtol=0, atol=1e-6)


def test_the_sides_of_padding_may_be_mixed_in_a_masked_batch(rows: list[list[int]]) -> None:
    model = build_model(TEXT, tiny(mask=True, pooling="mean", bidirectional=True), seed=1)
    both = np.concatenate([padded(rows, 12, "pre"), padded(rows, 12, "post")])
    before, after = np.split(probabilities(model, both), 2)
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", ["last", "max", "mean", "mean_max"])
def test_to_an_unmasked_model_padding_is_input(rows: list[list[int]], pooling: Any) -> None:
    model = build_model(TEXT, tiny(pooling=pooling), seed=1)
    before = probabilities(model, padded(rows[:2], 7, "pre"))
    after = probabilities(model, padded(rows[:2], 7, "post"))
    assert np.abs(before - after).min() > 1e-6


@pytest.mark.parametrize("mask", [False, True])
def test_pooling_is_what_its_name_says(mask: bool) -> None:
    # The models share their LSTM's weights: the pooling has none, and the seed is one.
    token_ids = padded([[1, 9, 8, 7], [1, 30]], 7, "pre")
    settings = {pooling: tiny(pooling=pooling, mask=mask) for pooling in ("last", "max", "mean", "mean_max")}
    models = {pooling: build_model(TEXT, settings[pooling], seed=4) for pooling in settings}
    import keras

    states_of = keras.Model(models["max"].input, models["max"].get_layer("lstm_1").output)
    states = np.asarray(states_of(token_ids))
    for pooling, model in models.items():
        output, expected = model.get_layer("probability"), []
        for row, row_states in zip(token_ids, states, strict=True):
            seen = row_states[row != 0] if mask else row_states
            pools = {"last": seen[-1], "max": seen.max(axis=0), "mean": seen.mean(axis=0)}
            pooled = np.concatenate([pools[name] for name in pooling.split("_")])
            logit = pooled @ output.kernel.numpy()[:, 0] + output.bias.numpy()[0]
            expected.append(1 / (1 + np.exp(-logit)))
        np.testing.assert_allclose(probabilities(model, token_ids), expected, rtol=0, atol=1e-6)


# n-grams


MIX = Mix(lstm=0.7, ngrams=1.3, bias=-0.2)


def ragged(rows: list[list[int]]) -> Sequences:
    return Sequences(np.array([token for row in rows for token in row], np.int32), np.cumsum([0, *map(len, rows)]))


@pytest.mark.parametrize(
    ("mask", "padding", "ngrams", "buckets"),
    [(False, "pre", 2, 2**20), (False, "post", 3, 97), (True, "pre", 3, 2**20), (True, "post", 1, 2)],
)
def test_ngrams_are_added_as_they_are_defined(mask: bool, padding: Any, ngrams: int, buckets: int) -> None:
    """Keras, whole and in a graph of several lengths, and the native engine against the two parts alone."""
    import tensorflow as tf

    text = TextSettings(vocabulary_size=50, max_tokens=7, padding=padding)
    settings = tiny(mask=mask, pooling="mean", ngrams=ngrams, ngram_buckets=buckets)
    model = build_model(text, settings, seed=1)
    table = np.random.default_rng(buckets).normal(size=buckets).astype(np.float32)
    folded = with_ngrams(model, settings, table, MIX)
    assert (folded.input.name, folded.output_names) == ("token_ids", ["probability"])
    in_a_graph = tf.function(lambda token_ids: folded(token_ids, training=False)[:, 0], reduce_retracing=True)
    engine = NativeEngine(network_weights(folded, text, settings))

    # Few ids, so that n-grams repeat; rows may be shorter than an n-gram.
    @examples(max_examples=20)
    @given(st.lists(st.lists(st.integers(1, 3) | st.integers(1, 49), min_size=1, max_size=7), min_size=1, max_size=9))
    def check(rows: list[list[int]]) -> None:
        token_ids = padded(rows, max(map(len, rows)) if mask else 7, padding)
        alone = probabilities(model, token_ids).astype(np.float64)
        sums = bags(ragged(rows), ngrams, buckets).sums(table)
        logits = MIX.lstm * np.log(alone / (1 - alone)) + MIX.ngrams * sums + MIX.bias
        expected = 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(probabilities(folded, token_ids), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(in_a_graph(token_ids), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(engine.probabilities(ragged(rows)), expected, rtol=0, atol=1e-5)

    check()


@pytest.mark.parametrize("padding", ["pre", "post"])
def test_ngrams_of_a_masked_model_do_not_see_the_amount_of_padding(rows: list[list[int]], padding: str) -> None:
    settings = tiny(mask=True, ngrams=3)
    table = np.random.default_rng(0).normal(size=settings.ngram_buckets).astype(np.float32)
    model = with_ngrams(build_model(TEXT, settings, seed=1), settings, table, MIX)
    alone = np.concatenate([probabilities(model, np.array([row], np.int32)) for row in rows])
    for length in (7, 11):
        np.testing.assert_allclose(probabilities(model, padded(rows, length, padding)), alone, rtol=0, atol=1e-6)


def test_the_trained_model_keeps_its_weights() -> None:
    settings = tiny(ngrams=1, ngram_buckets=9)
    model = build_model(TEXT, settings, seed=1)
    before = model.get_weights()
    with_ngrams(model, settings, np.ones(9, np.float32), MIX)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


# Weights as arrays


@pytest.mark.parametrize("combination", COMBINATIONS, ids=name_of)
def test_shapes_and_network_weights_are_the_model_s(combination: dict[str, Any]) -> None:
    settings = tiny(**combination)
    text = TextSettings(vocabulary_size=50, max_tokens=7, padding="post")
    model = build_model(text, settings, seed=2)
    assert model.input_shape == (None, None if settings.mask else text.max_tokens)
    assert model.output_shape == (None, 1)
    network = network_weights(model, text, settings)
    network.check()
    directions = 2 if settings.bidirectional else 1
    assert network.embedding.shape == (50, 3)
    assert [len(layer) for layer in network.layers] == [directions] * settings.layers
    for depth, layer in enumerate(network.layers):
        for lstm in layer:
            assert lstm.kernel.shape == (3 if depth == 0 else 4 * directions, 16)
            assert lstm.recurrent.shape == (4, 16)
            assert lstm.bias.shape == (16,)
    assert network.output_kernel.shape == (4 * directions * (2 if settings.pooling == "mean_max" else 1),)
    assert (network.pooling, network.masked) == (settings.pooling, settings.mask)
    assert (network.padding, network.max_tokens) == ("post", 7)
    arrays = [network.embedding, *(part for layer in network.layers for lstm in layer for part in vars(lstm).values())]
    for array, weight in zip([*arrays, network.output_kernel[:, None]], model.get_weights()[:-1], strict=True):
        np.testing.assert_array_equal(array, weight)
    assert network.output_bias == model.get_weights()[-1][0]


# Files


LOAD_WITHOUT_US = """
import json, os, sys
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")
sys.modules["lstm_ray"] = None  # importing it now fails, wherever it is installed
import keras, numpy
directory = sys.argv[1]
token_ids = numpy.load(directory + "/token_ids.npy")
names = sorted(name for name in os.listdir(directory) if name.endswith(".keras"))
models = {name: keras.models.load_model(directory + "/" + name) for name in names}
scores = {name: numpy.asarray(model(token_ids, training=False))[:, 0].tolist() for name, model in models.items()}
assert not [name for name in sys.modules if name.startswith("lstm_ray.")]
print(json.dumps(scores))
"""


def test_keras_alone_loads_what_was_saved_and_predicts_the_same(
    tmp_path: Path, rows: list[list[int]], make_bundle: Callable[..., Path]
) -> None:
    token_ids = padded(rows, 7, "pre")
    np.save(tmp_path / "token_ids.npy", token_ids)
    expected = {}
    for place, combination in enumerate(COMBINATIONS):
        model = build_model(TEXT, tiny(embedding_dropout=0.1, recurrent_dropout=0.1, **combination), seed=place)
        model.save(tmp_path / f"{place}.keras")
        expected[f"{place}.keras"] = probabilities(model, token_ids)
    for mask in (False, True):  # n-grams are compared with the native engine
        path = make_bundle(vocabulary_size=50, max_tokens=7, mask=mask, ngrams=3)
        shutil.copy(path / "model.keras", tmp_path / f"ngrams {mask}.keras")
        engine = NativeEngine(read_bundle(str(path)).weights())
        expected[f"ngrams {mask}.keras"] = engine.probabilities(ragged(rows))
    # -I: no PYTHONPATH, no current directory.
    command = [sys.executable, "-I", "-c", LOAD_WITHOUT_US, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert set(loaded) == set(expected)
    for name, scores in loaded.items():
        np.testing.assert_allclose(scores, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "obstacle"),
    [
        ({}, None),
        ({"mask": True, "padding": "post"}, None),
        ({"bidirectional": True, "layers": 2, "dropout": 0.5, "embedding_dropout": 0.5}, None),
        ({"recurrent_dropout": 0.2}, "recurrent_dropout is 0.2: --recurrent-dropout 0 would let cuDNN run it"),
        ({"mask": True}, "mask with padding pre: --padding post would let cuDNN run it"),
    ],
)
def test_what_keeps_cudnn_from_running_a_model(settings: dict[str, Any], obstacle: str | None) -> None:
    config = TrainConfig.model_validate({"preset": "none", **settings})
    assert cudnn_obstacle(config, config) == obstacle
