"""A bundle with a temperature: the same network, whose last weights are divided by it.

So native engine, Keras, ONNX and SavedModel compute sigmoid(logit / temperature) without knowing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lstm_ray.config import ModelSettings
from lstm_ray.model.architectures import LAST_LAYERS, logit_of, network_weights, probability_model
from lstm_ray.model.bundle import Bundle, network_files, with_files
from lstm_ray.runtime.tensorflow import start_tensorflow

if TYPE_CHECKING:
    import keras


def at_temperature(bundle: Bundle, temperature: float) -> Bundle:
    """Returns a bundle whose logits are divided by a temperature; it is not written yet. Imports TensorFlow.

    Raises:
        BundleError: The bundle's Keras model does not open.
    """
    start_tensorflow()
    model = _divided(bundle.keras_model(), bundle.model, temperature)
    weights = network_weights(model, bundle.text, bundle.model) if bundle.model.network is None else None
    return with_files(bundle, network_files(model, weights))


def _divided(model: keras.Model, settings: ModelSettings, temperature: float) -> keras.Model:
    """Returns a model whose logits are divided: in its weights, or in the graph if a user's function built it."""
    if settings.network is not None:
        token_ids, logit = logit_of(model)
        return probability_model(token_ids, logit / temperature, model.name)
    for name in LAST_LAYERS[bool(settings.ngrams)]:
        for variable in model.get_layer(name).variables:
            variable.assign(variable / temperature)
    return model
