"""Builds lstm-ray's Keras 3 models, and reads a trained model's weights as plain arrays.

Only Keras's own layers and operations are used, so that `keras.models.load_model` opens the saved models without
lstm-ray.

    token_ids int32[batch, time]
      -> Embedding                     float32[batch, time, embedding_size]
      -> LSTM | Bidirectional(LSTM)    x layers
      -> last state | max | mean | mean and max over time
      -> Dense(1, sigmoid)             float32[batch, 1], probability of the positive class

Training steps use this model. With n-grams (`--ngrams`) the saved model has an n-gram part, whose logit is added
before the sigmoid:

    token_ids int32[batch, time]
      -> distinct buckets of n-grams   int32[batch, n-grams], as in text/ngrams.py
      -> Embedding(buckets, 1), sum    float32[batch, 1], added to the logit of the LSTM

`keras` is imported inside functions, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_ray.config import ModelSettings, TextSettings, pools_of
from lstm_ray.errors import ConfigError
from lstm_ray.model.user_network import build_user_network
from lstm_ray.model.weights import LstmWeights, Mix, NetworkWeights
from lstm_ray.runtime.devices import memory_bytes
from lstm_ray.text.ngrams import MULTIPLIERS, OFFSETS, PRIME
from lstm_ray.text.sequences import PAD_ID

if TYPE_CHECKING:
    import keras

INPUT_NAME = "token_ids"
OUTPUT_NAME = "probability"
_LOGIT_NAME = "lstm_logit"
_TABLE_NAME = "ngram_table"
LAST_LAYERS = {False: (OUTPUT_NAME,), True: (_LOGIT_NAME, _TABLE_NAME)}
"""The layers whose weights the logit is linear in, by whether the network has n-grams."""
_BYTES_PER_WEIGHT = 16  # float32: itself, its gradient and Adam's two moments
_LEAST = 1e-7  # probabilities of a user's network are clipped here: 0 and 1 have no finite logit
LOWEST = -1e9  # used instead of minus infinity in a maximum over time


def build_model(text: TextSettings, model: ModelSettings, seed: int) -> keras.Model:
    """Builds the network, or calls the user's function if `network` names one.

    Args:
        text: vocabulary_size and max_tokens are used. A masked model accepts rows of any length; an unmasked one only
            rows of max_tokens, because padding is part of its input.
        model: The network's settings.
        seed: Seeds every initializer and dropout.

    Raises:
        ConfigError: The network is larger than memory.
    """
    if model.network is not None:
        return build_user_network(text, model, seed)
    _check_size(text, model)
    import keras

    keras.utils.set_random_seed(seed)
    token_ids = keras.Input((None if model.mask else text.max_tokens,), dtype="int32", name=INPUT_NAME)
    hidden = keras.layers.Embedding(text.vocabulary_size, model.embedding_size, mask_zero=model.mask, name="embedding")(
        token_ids
    )
    if model.embedding_dropout:
        kind = keras.layers.SpatialDropout1D if model.shared_dropout else keras.layers.Dropout
        hidden = kind(model.embedding_dropout, name="embedding_dropout")(hidden)
    # With "auto" and an unsupported mask, Keras raises an error instead of falling back.
    use_cudnn = False if cudnn_obstacle(model, text) else "auto"
    for depth in range(1, model.layers + 1):
        is_top = depth == model.layers
        lstm = keras.layers.LSTM(
            model.units,
            dropout=model.dropout,
            recurrent_dropout=model.recurrent_dropout,
            use_cudnn=use_cudnn,
            return_sequences=not is_top or model.pooling != "last",
            name=f"lstm_{depth}",
        )
        layer = keras.layers.Bidirectional(lstm, name=f"bidirectional_{depth}") if model.bidirectional else lstm
        hidden = layer(hidden)
    if model.pooling != "last":
        hidden = _pool(hidden, token_ids, model.pooling, model.mask)
    if model.output_dropout:
        hidden = keras.layers.Dropout(model.output_dropout, name="output_dropout")(hidden)
    # The output is float32 in any precision: in bf16 0.999 would be rounded to 1, with an infinite loss.
    probability = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name=OUTPUT_NAME)(hidden)
    return keras.Model(token_ids, probability, name="bilstm" if model.bidirectional else "lstm")


def _check_size(text: TextSettings, model: ModelSettings) -> None:
    """Raises ConfigError if training needs more memory than there is."""
    weights = count_weights(text, model)
    needed, memory = weights * _BYTES_PER_WEIGHT, memory_bytes()
    if needed > memory:
        raise ConfigError(
            f"a network of {weights:,} weights takes {needed / 2**20:,.0f} MiB to train, and there are "
            f"{memory / 2**20:,.0f} MiB of memory: choose a lower --vocabulary-size, --embedding-size or --units"
        )


def count_weights(text: TextSettings, model: ModelSettings) -> int:
    """Returns the number of weights of lstm-ray's own network, without the n-gram part."""
    directions = 1 + model.bidirectional
    total, width = text.vocabulary_size * model.embedding_size, model.embedding_size
    for _ in range(model.layers):
        total += directions * 4 * model.units * (width + model.units + 1)
        width = directions * model.units
    return total + width * pools_of(model.pooling) + 1


def cudnn_obstacle(model: ModelSettings, text: TextSettings) -> str | None:
    """Returns which setting prevents cuDNN on a GPU, and what to set instead; None if none does.

    cuDNN requires tanh and sigmoid, a bias and no unrolling, which all our models have; no recurrent dropout; and with
    a mask, padding at the end and at least one token in each row, which our rows have.

    Source: Keras, `keras.layers.LSTM`, "Requirements to use the cuDNN implementation".
    """
    if model.recurrent_dropout:
        return f"recurrent_dropout is {model.recurrent_dropout:g}: --recurrent-dropout 0 would let cuDNN run it"
    if model.mask and text.padding == "pre":
        return "mask with padding pre: --padding post would let cuDNN run it"
    return None


def _pool(states: Any, token_ids: Any, pooling: str, mask: bool) -> Any:
    """Returns the maximum or mean over time, float32[batch, features], of states float32[batch, time, features].

    "mean_max" returns the mean and then the maximum, float32[batch, 2 * features]. This uses `keras.ops` because
    GlobalMaxPooling1D ignores a mask: its maximum would include padding.
    """
    from keras import ops

    if pooling == "mean_max":
        return ops.concatenate([_pool(states, token_ids, one, mask) for one in ("mean", "max")], axis=1)
    if not mask:
        return ops.max(states, axis=1) if pooling == "max" else ops.mean(states, axis=1)
    is_token = ops.expand_dims(ops.not_equal(token_ids, 0), axis=-1)
    if pooling == "max":
        return ops.max(ops.where(is_token, states, LOWEST), axis=1)
    counted = ops.cast(is_token, "float32")
    return ops.sum(states * counted, axis=1) / ops.maximum(ops.sum(counted, axis=1), 1.0)


def with_ngrams(model: keras.Model, settings: ModelSettings, table: npt.NDArray[np.float32], mix: Mix) -> keras.Model:
    """Returns a trained network with n-grams: sigmoid(lstm * mix.lstm + ngrams * mix.ngrams + mix.bias).

    The mix is multiplied into the weights of the output layer and of the table; the other layers are those of `model`.
    For a user's network, the graph converts its probability back into a logit and mixes that.

    Args:
        model: A trained model from `build_model`.
        settings: The network's settings.
        table: float32[ngram_buckets], the weights of the n-grams.
        mix: The weights of both parts, and the bias.
    """
    import keras
    from keras import ops

    if settings.network is None:
        token_ids, trained = model.input, model.get_layer(OUTPUT_NAME)
        dense = keras.layers.Dense(1, dtype="float32", name=_LOGIT_NAME)
        logit = dense(trained.input)
        kernel, bias = trained.get_weights()
        dense.set_weights([kernel * mix.lstm, bias * mix.lstm + mix.bias])
    else:
        token_ids, logit = logit_of(model)
        logit = logit * mix.lstm + mix.bias
    buckets, is_new = _ngram_buckets(token_ids, settings.ngrams, len(table))
    weights = keras.layers.Embedding(len(table), 1, dtype="float32", name=_TABLE_NAME)
    values = ops.where(is_new, ops.squeeze(weights(buckets), axis=-1), 0.0)
    weights.set_weights([table[:, None] * mix.ngrams])
    logit = logit + ops.sum(values, axis=1, keepdims=True)
    return probability_model(token_ids, logit, model.name)


def logit_of(model: keras.Model) -> tuple[Any, Any]:
    """Returns the token ids of a network that a user's function built, and its probability turned back into a logit."""
    import keras
    from keras import ops

    token_ids = keras.Input(model.input_shape[1:], dtype="int32", name=INPUT_NAME)
    probability = ops.clip(model(token_ids), _LEAST, 1 - _LEAST)
    return token_ids, ops.log(probability) - ops.log1p(-probability)


def probability_model(token_ids: Any, logit: Any, name: str) -> keras.Model:
    """Returns the model from token ids to the probability of a logit."""
    import keras

    output = keras.layers.Activation("sigmoid", dtype="float32", name=OUTPUT_NAME)(logit)
    return keras.Model(token_ids, output, name=name)


def _ngram_buckets(token_ids: Any, longest: int, buckets: int) -> tuple[Any, Any]:
    """Returns the bucket of each n-gram of 1 to `longest` ids, in ascending order, and whether it counts.

    A padding id is appended to each row, which is then treated as a ring, so that every n has the same number of
    n-grams. N-grams with padding (at least one per row) get the bucket -1 and do not count. Neither do buckets that
    repeat the previous one.

    Example:
        The row [7, 7], longest 2: the ring 7, 7, 0 has the n-grams (7), (7), (0), (7, 7), (7, 0), (0, 7). If (7) is in
        bucket 5 and (7, 7) in bucket 3, the buckets are -1, -1, -1, 3, 5, 5, and the fourth and fifth count.

    Returns:
        int32[batch, n-grams], at least 0, and bool[batch, n-grams].
    """
    from keras import ops

    ring = ops.pad(ops.cast(token_ids, "int64"), ((0, 0), (0, 1)), constant_values=PAD_ID)
    hashed: Any = 0
    is_whole: Any = True
    found = []
    for n in range(1, longest + 1):
        ids = ops.roll(ring, 1 - n, axis=1)
        hashed = hashed + MULTIPLIERS[n - 1] * ids
        is_whole = ops.logical_and(is_whole, ops.not_equal(ids, PAD_ID))
        found.append(ops.where(is_whole, (hashed + OFFSETS[n]) % PRIME % buckets, -1))
    rising = ops.sort(ops.cast(ops.concatenate(found, axis=1), "int32"), axis=1)
    is_new = ops.not_equal(rising, ops.roll(rising, 1, axis=1))
    return ops.maximum(rising, 0), ops.logical_and(is_new, rising >= 0)


def network_weights(model: keras.Model, text: TextSettings, settings: ModelSettings) -> NetworkWeights:
    """Returns the weights of a model from `build_model`, or from `with_ngrams` if the settings have n-grams."""

    def array(variable: Any) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(variable.numpy(), np.float32)

    def direction(lstm: Any) -> LstmWeights:
        cell = lstm.cell
        return LstmWeights(array(cell.kernel), array(cell.recurrent_kernel), array(cell.bias))

    layers: list[tuple[LstmWeights, ...]] = []
    for depth in range(1, settings.layers + 1):
        if settings.bidirectional:
            both = model.get_layer(f"bidirectional_{depth}")
            layers.append((direction(both.forward_layer), direction(both.backward_layer)))
        else:
            layers.append((direction(model.get_layer(f"lstm_{depth}")),))
    output = model.get_layer(_LOGIT_NAME if settings.ngrams else OUTPUT_NAME)
    return NetworkWeights(
        embedding=array(model.get_layer("embedding").embeddings),
        layers=tuple(layers),
        output_kernel=array(output.kernel)[:, 0],
        output_bias=float(array(output.bias)[0]),
        pooling=settings.pooling,
        masked=settings.mask,
        padding=text.padding,
        max_tokens=text.max_tokens,
        ngrams=settings.ngrams,
        ngram_table=array(model.get_layer(_TABLE_NAME).embeddings)[:, 0] if settings.ngrams else None,
    )


def summary_text(model: keras.Model) -> str:
    """Returns what Keras's `model.summary()` prints."""
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=78)  # fits a terminal of 80 columns
    return "\n".join(lines)
