"""Builds lstm-ray's Keras 3 models, and reads a trained one's weights as plain arrays.

Only layers and operations that Keras ships are used, so plain `keras.models.load_model` opens what we save, without
lstm-ray installed.

    token_ids int32[batch, time]
      -> Embedding                     float32[batch, time, embedding_size]
      -> LSTM | Bidirectional(LSTM)    x layers
      -> last state | max | mean | mean and max over time
      -> Dense(1, sigmoid)             float32[batch, 1], probability of the positive class

`keras` is imported inside the functions: the command line must not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_ray.config import ModelSettings, TextSettings
from lstm_ray.model.user_network import build_user_network
from lstm_ray.model.weights import LstmWeights, NetworkWeights

if TYPE_CHECKING:
    import keras

INPUT_NAME = "token_ids"
OUTPUT_NAME = "probability"
_LOWEST = -1e9  # stands in for minus infinity in a float32 maximum over time


def build_model(text: TextSettings, model: ModelSettings, seed: int) -> keras.Model:
    """Builds the network, or has the user's function build it if `network` names one; `seed` determines the weights.

    Args:
        text: vocabulary_size and max_tokens are used. A masked model accepts rows of any length, an unmasked one of
            exactly max_tokens, because padding is input to it.
        model: The network's settings.
        seed: Seeds every initializer and dropout.
    """
    if model.network is not None:
        return build_user_network(text, model, seed)
    import keras

    keras.utils.set_random_seed(seed)
    token_ids = keras.Input((None if model.mask else text.max_tokens,), dtype="int32", name=INPUT_NAME)
    hidden = keras.layers.Embedding(text.vocabulary_size, model.embedding_size, mask_zero=model.mask, name="embedding")(
        token_ids
    )
    if model.embedding_dropout:
        kind = keras.layers.SpatialDropout1D if model.shared_dropout else keras.layers.Dropout
        hidden = kind(model.embedding_dropout, name="embedding_dropout")(hidden)
    # With "auto" and such a mask Keras would raise instead of falling back.
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
    # In bf16 0.999 is 1, and its loss infinite: the output is float32 in any precision.
    probability = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name=OUTPUT_NAME)(hidden)
    return keras.Model(token_ids, probability, name="bilstm" if model.bidirectional else "lstm")


def cudnn_obstacle(model: ModelSettings, text: TextSettings) -> str | None:
    """Returns which setting keeps a GPU from running the LSTM in cuDNN, and what to set instead; None if none does.

    cuDNN needs tanh and sigmoid, a bias, no unrolling, which all our models have; no recurrent dropout; and a mask only
    with the padding last and a token in each row, which each row has.

    Source: Keras, `keras.layers.LSTM`, "Requirements to use the cuDNN implementation".
    """
    if model.recurrent_dropout:
        return f"recurrent_dropout is {model.recurrent_dropout:g}: --recurrent-dropout 0 would let cuDNN run it"
    if model.mask and text.padding == "pre":
        return "mask with padding pre: --padding post would let cuDNN run it"
    return None


def _pool(states: Any, token_ids: Any, pooling: str, mask: bool) -> Any:
    """Returns the maximum or mean over time, float32[batch, features], of states float32[batch, time, features].

    "mean_max" returns the mean and then the maximum, float32[batch, 2 * features]. Written with `keras.ops`:
    GlobalMaxPooling1D ignores a mask, so the maximum would include padding.
    """
    from keras import ops

    if pooling == "mean_max":
        return ops.concatenate([_pool(states, token_ids, one, mask) for one in ("mean", "max")], axis=1)
    if not mask:
        return ops.max(states, axis=1) if pooling == "max" else ops.mean(states, axis=1)
    is_token = ops.expand_dims(ops.not_equal(token_ids, 0), axis=-1)
    if pooling == "max":
        return ops.max(ops.where(is_token, states, _LOWEST), axis=1)
    counted = ops.cast(is_token, "float32")
    return ops.sum(states * counted, axis=1) / ops.maximum(ops.sum(counted, axis=1), 1.0)


def network_weights(model: keras.Model, text: TextSettings, settings: ModelSettings) -> NetworkWeights:
    """Reads the weights of a model that `build_model` built."""

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
    output = model.get_layer(OUTPUT_NAME)
    return NetworkWeights(
        embedding=array(model.get_layer("embedding").embeddings),
        layers=tuple(layers),
        output_kernel=array(output.kernel)[:, 0],
        output_bias=float(array(output.bias)[0]),
        pooling=settings.pooling,
        masked=settings.mask,
        padding=text.padding,
        max_tokens=text.max_tokens,
    )


def summary_text(model: keras.Model) -> str:
    """Returns what Keras's `model.summary()` prints."""
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=78)  # wider loses a column on a terminal of 80
    return "\n".join(lines)
