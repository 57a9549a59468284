"""A warm start: a run that starts from a trained model, `train --from`.

    bundle -> settings that were not given           before the run is opened
           -> the vocabulary, with words added       while the rows are encoded (data/corpus.py)
           -> the first weights                      before the first step
           -> its metrics on the validation rows     which the results show beside those of the new model

The network and how it reads a text stay: what may differ is how it is trained further. An n-gram part is fitted on the
new rows and added to the model's. Their weights are fitted on rows that neither was trained on
(ngrams/fit.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray import storage
from lstm_ray.config import ModelSettings, TextSettings, TrainConfig, as_option, left_open, meaning_of, resolve
from lstm_ray.errors import ConfigError
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.model.description import VOCABULARY
from lstm_ray.model.weights import NetworkWeights
from lstm_ray.progress import Progress
from lstm_ray.runtime.devices import available_cores
from lstm_ray.score.engine import NativeEngine
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.vocabulary import OOV_ID
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.wording import counted


def start_from(config: TrainConfig) -> tuple[TrainConfig, Bundle | None]:
    """Reads the model that a run starts from, and returns the settings with those that it brings.

    Args:
        config: The settings. Without `from_` they are returned as they are, and no model.

    Raises:
        BundleError: The model cannot be read.
        ConfigError: The model cannot be trained further, or not with these settings.
    """
    if config.from_ is None:
        return config, None
    path, output = storage.absolute(config.from_), storage.absolute(config.output).rstrip("/")
    if config.output and f"{path}/".startswith(f"{output}/"):
        raise ConfigError(f"--from {config.from_} is inside --output {config.output}: choose another --output")
    bundle = read_bundle(config.from_)
    if bundle.model.network is not None:
        raise ConfigError(
            f"--from {config.from_}: {bundle.model.network} built its network: only lstm-ray's own can be trained on"
        )
    if config.add_words and bundle.text.unlisted_words == "drop":
        raise ConfigError(
            f"--from {config.from_}: its words are those of a list, and it leaves others out: leave --add-words out"
        )
    brought = {**bundle.training, **bundle.text.model_dump(), **bundle.model.model_dump()}
    brought["vocabulary_size"] = bundle.text.vocabulary_size + config.add_words
    taken = {name: brought[name] for name in left_open(config) if name in brought}  # older versions knew fewer
    own = storage.join(config.from_, VOCABULARY)
    if config.vocabulary is not None and storage.absolute(config.vocabulary) != storage.absolute(own):
        raise ConfigError(f"--from {config.from_} brings its vocabulary: leave --vocabulary out, or see --add-words")
    config = resolve(type(config), {**dict(config), **taken, "vocabulary": own})
    free = meaning_of(TrainConfig, "only_in_training")
    for name in (*TextSettings.model_fields, *ModelSettings.model_fields):
        if name not in free and getattr(config, name) != brought[name]:
            raise ConfigError(
                f"--from {config.from_}: its model was trained with {as_option(name, brought[name])}, which cannot "
                f"change: leave out {as_option(name, getattr(config, name))}"
            )
    return config, bundle


def with_weights_of(bundle: Bundle, config: TrainConfig, prepared: Prepared, progress: Progress) -> Prepared:
    """Returns the corpus with the weights that the model starts from, and reports how they differ from the model's."""
    weights, has_output = first_weights(bundle)
    added = prepared.vocabulary.end - bundle.vocabulary().end
    output = "" if has_output else ", but for its output, which starts with random weights"
    progress(f"beginning with the weights of {bundle.path}{output}; {counted(added, 'word')} added")
    if config.goal is None and config.epoch_threshold != bundle.threshold:
        progress(
            f"note: {bundle.path} decides at a threshold of {bundle.threshold:g}, the new model at "
            f"{config.epoch_threshold:g}: --threshold gives another, --maximize chooses one"
        )
    return replace(prepared, weights=weights, ngram_table=bundle.weights().ngram_table)


def first_weights(bundle: Bundle) -> tuple[list[npt.NDArray[np.float32]], bool]:
    """Returns the weights as `Stepper.set_weights` takes them, and whether those of the output are among them.

    The output of a model with n-grams is multiplied by the LSTM's share in the mix. That is divided out; where it is 0,
    or where an older version did not keep it, the output starts with random weights.
    """
    weights, mix = bundle.weights(), bundle.mix
    if not weights.ngrams:
        return [*_below_the_output(weights), *_output(weights.output_kernel, weights.output_bias)], True
    if mix is None or mix.lstm == 0:
        return list(_below_the_output(weights)), False
    kernel, bias = weights.output_kernel / np.float32(mix.lstm), (weights.output_bias - mix.bias) / mix.lstm
    return [*_below_the_output(weights), *_output(kernel, bias)], True


def _below_the_output(weights: NetworkWeights) -> Iterator[npt.NDArray[np.float32]]:
    yield weights.embedding
    for layer in weights.layers:
        for direction in layer:
            yield from (direction.kernel, direction.recurrent, direction.bias)


def _output(kernel: npt.NDArray[np.float32], bias: float) -> Iterator[npt.NDArray[np.float32]]:
    yield from (kernel[:, None], np.array([bias], np.float32))


def metrics_before(bundle: Bundle, validation: Corpus) -> dict[str, Any]:
    """Returns what the model reaches on a run's validation rows before it is trained on; nothing without rows.

    Args:
        bundle: The model.
        validation: The rows, perhaps with words that it does not know.
    """
    if not len(validation):
        return {}
    ids, known = validation.sequences.token_ids, bundle.vocabulary().end
    engine = NativeEngine(bundle.weights(), available_cores())
    rows = Sequences(np.where(ids < known, ids, np.int32(OOV_ID)), validation.sequences.offsets)
    probabilities = engine.probabilities(rows)
    engine.close()
    return BinaryCounts.from_scores(validation.labels, probabilities, threshold=bundle.threshold).metrics()
