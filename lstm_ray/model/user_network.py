"""User networks: Keras models that a user's function builds, and their checks before a run.

    def build(text: TextSettings, model: ModelSettings) -> keras.Model

The model maps token ids, int32[batch, time], to probabilities of the positive class, float32[batch, 1]. Everything else
is the same as for built-in networks: vocabulary, batches, workers, checkpoints, bundles.

`keras` is imported inside functions, so that the command line starts fast.
"""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_ray import user_code
from lstm_ray.config import ModelSettings, TextSettings, TrainConfig
from lstm_ray.errors import ConfigError
from lstm_ray.runtime.tensorflow import computing_in, start_tensorflow
from lstm_ray.text.sequences import Sequences, pad
from lstm_ray.text.vocabulary import FIRST_WORD_ID, OOV_ID
from lstm_ray.wording import counted

if TYPE_CHECKING:
    import keras

_PROBED_ROWS = 32
_PROBED_TOKENS = 3  # tokens in the rows that are compared with and without padding
_SAME = 1e-4  # maximum difference of two probabilities that count as equal


def build_user_network(text: TextSettings, model: ModelSettings, seed: int) -> keras.Model:
    """Sets Keras's seed, calls the user's function, and checks inputs and outputs of the model that it returns.

    Args:
        text: Passed to the function as a plain `TextSettings`.
        model: Passed to the function as a plain `ModelSettings`; `network` names the function.
        seed: Seeds every initializer and dropout.

    Raises:
        ConfigError: There is no such function, it fails, or it returns an unsuitable model.
    """
    import keras

    assert model.network is not None
    try:
        function = user_code.find(model.network, inspect.isfunction, "function")
    except ConfigError as error:
        raise ConfigError(f"network {model.network}: {error}") from error
    keras.utils.set_random_seed(seed)
    try:
        with user_code.importable_from():  # the function may import modules
            network = function(_only(text, TextSettings), _only(model, ModelSettings))
    except (Exception, SystemExit) as error:  # user code may raise anything
        raise _wrong(model, f"fails: {user_code.described(error)}") from error
    _check_kind(network, text, model)
    return network


def check_network(config: TrainConfig) -> None:
    """Builds the network and tries everything once that the run will do, before any data is read.

    Raises:
        ConfigError: The network cannot be built, does not return probabilities, depends on padding that it must skip,
            cannot be saved and read back, cannot learn, or has state that divided batches would update separately.
    """
    network = build_user_network(config, config, config.seed)
    token_ids = pad(_random_rows(config), config.max_tokens, config.padding)
    probabilities = _apply(network, token_ids, config)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and (probabilities <= 1).all()):
        raise _wrong(
            config,
            f"returns numbers from {probabilities.min():.3g} to {probabilities.max():.3g}, not probabilities: end with "
            "keras.layers.Dense(1, activation='sigmoid')",
        )
    if config.mask:
        _check_mask(network, config)
    _check_saving(network, token_ids, probabilities, config)
    _check_training(token_ids, config)
    if config.worker_limits[1] > 1 or config.accumulate > 1:
        _check_state(network, token_ids, config)


def sources_of(*configs: TrainConfig) -> dict[str, bytes]:
    """Returns the source files that remote workers need to build the networks; empty without user networks.

    Raises:
        ConfigError: A module is missing, or fails to import.
    """
    files: dict[str, bytes] = {}
    for network, config in {config.network: config for config in configs if config.network is not None}.items():
        start_tensorflow()  # the module imports it
        with contextlib.suppress(ConfigError):  # reported when the network is trained
            build_user_network(config, config, config.seed)
        try:
            files |= user_code.sources(network.partition(":")[0])
        except ConfigError as error:
            raise ConfigError(f"network {network}: {error}") from error
    return files


def _check_kind(network: Any, text: TextSettings, model: ModelSettings) -> None:
    import keras

    if not isinstance(network, keras.Model):
        raise _wrong(model, f"returns {_a(type(network).__name__)}, not a keras.Model")
    inputs, outputs = getattr(network, "inputs", None), getattr(network, "outputs", None)
    time = "None" if model.mask else f"{text.max_tokens}"
    wanted = f"begin with keras.Input(({time},), dtype='int32')"
    if not inputs or not outputs:
        raise _wrong(model, f"returns a model without an input: {wanted}")
    if len(inputs) != 1 or len(outputs) != 1:
        raise _wrong(
            model,
            f"has {counted(len(inputs), 'input')} and {counted(len(outputs), 'output')}: it must have one of each",
        )
    times = (None,) if model.mask else (None, text.max_tokens)
    shape = tuple(inputs[0].shape)
    if len(shape) != 2 or shape[0] is not None or shape[1] not in times or inputs[0].dtype != "int32":
        raise _wrong(model, f"takes {inputs[0].dtype}{_shown(shape)}, not int32{_shown((None, times[-1]))}: {wanted}")
    shape = tuple(outputs[0].shape)
    if shape != (None, 1) or outputs[0].dtype != "float32":
        raise _wrong(
            model,
            f"returns {outputs[0].dtype}{_shown(shape)}, not float32[batch, 1]: end with keras.layers.Dense(1, "
            "activation='sigmoid', dtype='float32')",
        )
    last = network.layers[-1]
    if isinstance(last, keras.layers.Dense) and last.activation is keras.activations.linear:
        raise _wrong(model, "ends without an activation: end with keras.layers.Dense(1, activation='sigmoid')")


def _check_mask(network: keras.Model, config: TrainConfig) -> None:
    """Checks that padding does not change the probabilities."""
    rows = _random_rows(config, _PROBED_TOKENS)
    times = int(rows.lengths.max()), config.max_tokens
    without, much = (_apply(network, pad(rows, time, config.padding), config) for time in times)
    if np.abs(without - much).max() > _SAME:
        raise _wrong(
            config,
            "depends on the padding (id 0), which --mask excludes: use keras.layers.Embedding(..., mask_zero=True) and "
            "layers that respect its mask, or leave --mask out",
        )


def _check_saving(
    network: keras.Model, token_ids: npt.NDArray[np.int32], expected: npt.NDArray[np.float32], config: TrainConfig
) -> None:
    """Checks that the model can be saved and read back, as scoring requires."""
    import keras

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.keras"
        try:
            network.save(path)
            again = keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            raise _wrong(
                config,
                f"cannot be saved and read back: {user_code.described(error)[:300]}: give your layers a get_config "
                "and @keras.saving.register_keras_serializable(), and use keras.ops instead of a Lambda",
            ) from error
    if np.abs(_apply(again, token_ids, config) - expected).max() > _SAME:
        raise _wrong(
            config, "returns other probabilities after being saved and read back: does each layer save its state?"
        )


def _check_training(token_ids: npt.NDArray[np.int32], config: TrainConfig) -> None:
    """Checks that a gradient can be computed in the precision of the run."""
    import keras
    import tensorflow as tf

    with computing_in(config.precision):
        network = build_user_network(config, config, config.seed)
    variables = network.trainable_variables
    if not variables:
        raise _wrong(config, "has no weights to train")
    if odd := next((v for v in variables if v.dtype != "float32"), None):
        raise _wrong(config, f"has {odd.path} in {odd.dtype}: leave dtype to lstm-ray, weights are float32")
    labels = (np.arange(len(token_ids)) % 2).astype(np.float32)[:, None]
    try:
        with tf.GradientTape() as tape:
            loss = keras.losses.binary_crossentropy(labels, network(token_ids, training=True))
        gradients = tape.gradient(loss, variables)
    except (Exception, SystemExit) as error:  # user code may raise anything
        raise _wrong(config, f"fails in training: {user_code.described(error)[:500]}") from error
    if all(gradient is None for gradient in gradients):
        raise _wrong(config, "cannot learn: no weight has a gradient; is there something like keras.ops.round in it?")


def _check_state(network: keras.Model, token_ids: npt.NDArray[np.int32], config: TrainConfig) -> None:
    """Checks that a training step changes no state besides the weights: it would differ between workers."""
    state = [v for v in network.non_trainable_variables if not v.path.endswith("seed_generator_state")]
    before = [v.numpy() for v in state]
    network(token_ids, training=True)
    changed = [v.path for v, value in zip(state, before, strict=True) if not np.array_equal(v.numpy(), value)]
    if changed:
        raise _wrong(
            config,
            f"has {changed[0]}, which every worker and every part of a batch would update separately: train with "
            "--workers 0 or 1 and --accumulate 1, or use keras.layers.LayerNormalization, not BatchNormalization",
        )


def _apply(network: keras.Model, token_ids: npt.NDArray[np.int32], config: TrainConfig) -> npt.NDArray[np.float32]:
    try:
        return np.asarray(network(token_ids, training=False).numpy(), np.float32)[:, 0]
    except (Exception, SystemExit) as error:  # user code may raise anything
        raise _wrong(config, f"fails on token ids: {user_code.described(error)[:500]}") from error


def _random_rows(config: TrainConfig, tokens: int | None = None) -> Sequences:
    """Returns rows of random token ids: `tokens` in each row, or random lengths up to max_tokens."""
    generator = np.random.default_rng(0)
    most = min(tokens or config.max_tokens, config.max_tokens)
    lengths = np.full(_PROBED_ROWS, most) if tokens else generator.integers(1, most + 1, _PROBED_ROWS)
    first = min(FIRST_WORD_ID, config.vocabulary_size - 1)
    ids = generator.integers(first, config.vocabulary_size, int(lengths.sum())).astype(np.int32)
    ids[:: OOV_ID + 1] = OOV_ID
    return Sequences.of(ids, lengths)


def _only(settings: Any, kind: Any) -> Any:
    return kind.model_validate(settings.model_dump(include=set(kind.model_fields)))


def _wrong(model: ModelSettings, message: str) -> ConfigError:
    return ConfigError(f"network {model.network}: {message}")


def _shown(shape: tuple[int | None, ...]) -> str:
    sizes = ["batch" if axis == 0 else "time" for axis in range(len(shape))]
    return f"[{', '.join(name if size is None else str(size) for name, size in zip(sizes, shape, strict=True))}]"


def _a(noun: str) -> str:
    return noun if noun == "NoneType" else f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
