"""What only the Keras engine does: users' networks, mixed precision, and slices of a batch in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from steps import batches, make_corpus, settings, train

from lstm_ray.collective.protocol import Alone
from lstm_ray.errors import TrainingError
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.data.batches import Batch

WriteModule = Callable[..., Path]
OWN = """
import keras
from keras import layers

class Idle(layers.Layer):
    def build(self, shape):
        self.idle = self.add_weight(shape=(2,), name="idle")

    def call(self, words):
        return words

def build(text, model):
    ids = keras.Input((text.max_tokens,), dtype="int32")
    words = Idle()(layers.Embedding(text.vocabulary_size, model.embedding_size, embeddings_regularizer="l2")(ids))
    state = layers.GRU(model.units, kernel_regularizer="l2")(words)
    return keras.Model(ids, layers.Dense(1, activation="sigmoid", dtype="float32")(state))
"""


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables:UserWarning")  # Keras's own, of the idle one
def test_a_users_network_learns_as_in_fit(write_module: WriteModule) -> None:
    """Regularizers count; unused weights keep their values."""
    write_module("mine", OWN)
    start_tensorflow()
    import keras

    from lstm_ray.model.architectures import build_model

    config, corpus = settings(network="mine:build", epochs=1), make_corpus(70)
    fitted = build_model(config, config, config.seed)
    fitted.compile(keras.optimizers.Adam(config.learning_rate), "binary_crossentropy")
    for batch in batches(config, corpus):
        fitted.train_on_batch(batch.token_ids, batch.labels[:, None])
    stepper, _ = train(config, corpus)
    for ours, theirs in zip(stepper.model.variables, fitted.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5, err_msg=ours.path)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_users_network_learns_in_mixed_precision(write_module: WriteModule, precision: str) -> None:
    write_module("mine", OWN)
    corpus = make_corpus()
    _, sums = train(settings(network="mine:build", precision=precision, epochs=8, learning_rate=0.05), corpus)
    steps = -(-len(corpus) // 7)
    losses = np.array(sums).reshape(8, steps, 2).sum(axis=1)[:, 0] / len(corpus)
    assert losses[-1] < losses[0]


def test_a_function_that_has_changed_cannot_resume(write_module: WriteModule) -> None:
    write_module("mine", OWN)
    config, corpus = settings(network="mine:build", epochs=1, output="run"), make_corpus(20)
    state = train(config, corpus)[0].state()
    train(config, corpus)[0].restore(state)
    write_module("mine", OWN.replace("GRU", "LSTM"))
    changed, _ = train(config, corpus)
    with pytest.raises(TrainingError, match=r"run: the shapes of the weights have changed .* started: choose"):
        changed.restore(state)


def test_the_gradient_of_slices_is_that_of_the_whole() -> None:
    start_tensorflow()
    import tensorflow as tf

    from lstm_ray.train.step.keras_engine import KerasStepper

    config = settings(accumulate=3)
    corpus = make_corpus()
    batch = next(batches(config, corpus))
    stepper = KerasStepper(config, Alone(), corpus.labels)
    arguments = [tf.constant(array) for array in (batch.token_ids, batch.labels, batch.weights)]
    whole, sums = stepper._differentiate(*arguments, tf.constant(7.0))
    sliced, sliced_sums = stepper._accumulate(*arguments, tf.constant(7.0))
    np.testing.assert_allclose(sliced_sums, sums, rtol=1e-6)
    for one, other in zip(whole, sliced, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(other), tf.convert_to_tensor(one), atol=1e-7)


@pytest.mark.parametrize(
    ("precision", "changes"), [("fp16", {}), ("bf16", {"mask": True, "pooling": "mean", "bidirectional": True})]
)
def test_mixed_precision_learns_with_float32_weights(precision: str, changes: dict[str, Any]) -> None:
    corpus = make_corpus()
    stepper, sums = train(settings(precision=precision, epochs=8, **changes), corpus)
    steps = -(-len(corpus) // 7)
    losses = np.array(sums).reshape(8, steps, 2).sum(axis=1)[:, 0] / len(corpus)
    assert losses[-1] < 0.25 < 0.5 < losses[0]
    assert {variable.dtype for variable in stepper.model.trainable_variables} == {"float32"}
    assert stepper.model.get_layer("embedding").compute_dtype == {"bf16": "bfloat16", "fp16": "float16"}[precision]
    other, _ = train(settings(epochs=8, engine="keras", **changes), corpus)
    assert other.model.get_layer("embedding").compute_dtype == "float32", "the policy is not left behind"


def test_an_fp16_overflow_skips_the_step_and_halves_the_scale_until_that_cannot_be_the_cause() -> None:
    corpus = make_corpus()
    stepper, _ = train(settings(precision="fp16", epochs=1), corpus)
    batch = next(batches(settings(), corpus))
    overflowing = Batch(batch.token_ids, batch.labels, np.full_like(batch.weights, 1e38), batch.global_rows)
    before = [variable.numpy() for variable in stepper.model.trainable_variables]
    stepper.optimizer.dynamic_scale.assign(2.0)
    for scale, is_finite in ((1.0, True), (0.5, False)):
        stepper.train(overflowing)
        assert float(stepper.optimizer.dynamic_scale) == scale
        assert stepper.is_finite() == is_finite
    for variable, value in zip(stepper.model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize(("mask", "most"), [(False, 1), (True, 8)])
def test_a_step_is_traced_few_times(mask: bool, most: int) -> None:
    config = settings(mask=mask, global_batch_size=1, epochs=1, engine="keras")
    corpus = make_corpus(60, shortest=2)  # a masked batch of one row is as long as the row
    stepper, _ = train(config, corpus)
    lengths = set()
    for batch in batches(config, corpus):
        stepper.predict(batch)
        lengths.add(batch.token_ids.shape[1])
    assert len(lengths) == (5 if mask else 1)
    for function in (
        stepper._packed_gradients,
        stepper._differentiate,
        stepper._apply,
        stepper._update,
        stepper._predict,
    ):
        assert function.experimental_get_tracing_count() <= most


@pytest.mark.parametrize(("batch_by", "is_compiled"), [("rows", True), ("tokens", False)])
def test_xla_does_not_compile_for_each_batch_again(
    monkeypatch: pytest.MonkeyPatch, batch_by: str, is_compiled: bool
) -> None:
    """By tokens nearly every batch has another number of rows."""
    start_tensorflow()
    import tensorflow as tf

    from lstm_ray.train.step.keras_engine import KerasStepper

    made: dict[str, bool] = {}
    function = tf.function

    def remember(compute: Any, jit_compile: bool = False, **options: Any) -> Any:
        made[compute.__name__] = jit_compile
        return function(compute, jit_compile=jit_compile, **options)

    monkeypatch.setattr(tf, "function", remember)
    config = settings(mask=True, recurrent_dropout=0.2, batch_by=batch_by, engine="keras")
    KerasStepper(config, Alone(), make_corpus().labels)
    assert made["_compute_gradients"] is is_compiled


@pytest.fixture
def exact_products() -> Iterator[None]:
    """Lets a GPU multiply in float32; TensorFlow's default there, TF32, rounds factors to 10 bits."""
    start_tensorflow()
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


ON_GPU = {
    "lstm": {},
    "bilstm": {"bidirectional": True},
    "default": {"mask": True, "padding": "post", "bidirectional": True, "pooling": "mean_max"},
}


@pytest.mark.gpu
@pytest.mark.usefixtures("exact_products")
@pytest.mark.parametrize("network", ON_GPU)
def test_a_gpu_learns_and_predicts_what_the_cpu_does(network: str) -> None:
    corpus = make_corpus(shortest=4 if network == "default" else 10)
    on_cpu, expected = train(settings(engine="native", **ON_GPU[network]), corpus)
    on_gpu, sums = train(settings(engine="keras", **ON_GPU[network]), corpus)
    assert all("GPU" in variable.value.device for variable in on_gpu.model.trainable_variables)
    np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(on_gpu.weights(), on_cpu.weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    batch = next(batches(settings(), corpus))
    np.testing.assert_allclose(on_gpu.predict(batch), on_cpu.predict(batch), atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize(("changes", "is_used"), [(ON_GPU["default"], True), ({"recurrent_dropout": 0.2}, False)])
def test_a_gpu_uses_cudnn_where_it_can(changes: dict[str, Any], is_used: bool) -> None:
    import tensorflow as tf

    corpus = make_corpus(20)
    stepper, _ = train(settings(engine="keras", epochs=1, **changes), corpus)
    batch = next(batches(settings(), corpus))
    arguments = [tf.constant(array) for array in (batch.token_ids, batch.labels, batch.weights)]
    traced = stepper._differentiate.get_concrete_function(*arguments, tf.constant(7.0))
    assert ("CudnnRNN" in str(traced.graph.as_graph_def())) == is_used


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_on_a_gpu(precision: str) -> None:
    corpus = make_corpus(shortest=4)
    stepper, sums = train(settings(precision=precision, epochs=8, **ON_GPU["default"]), corpus)
    losses = np.array(sums).reshape(8, -1, 2).sum(axis=1)[:, 0] / len(corpus)
    assert all("GPU" in variable.value.device for variable in stepper.model.trainable_variables)
    assert losses[-1] < 0.25 < 0.5 < losses[0]
