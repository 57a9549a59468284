"""Checks of a run's settings against its files, and notes on its speed, before the run starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lstm_ray.config import PRESETS, TrainConfig, option_name
from lstm_ray.errors import ConfigError
from lstm_ray.kernels.emitter import slow_note
from lstm_ray.model.architectures import cudnn_obstacle
from lstm_ray.runtime.devices import may_have_gpu
from lstm_ray.runtime.room import Asked
from lstm_ray.storage import refuse_keys
from lstm_ray.storage.inputs import check_apart
from lstm_ray.text.word_vectors import read_vector_size
from lstm_ray.train.step.choice import choose_engine
from lstm_ray.train.step.memory import least_memory

_NEEDED = {
    "ngrams": ("--ngrams", ("ngram_buckets", "ngram_rows", "ngram_c", "ngram_refit")),
    "learns_vectors": ("--learn-vectors or --unlabelled", ("vector_epochs", "vector_window")),
    "embedding_dropout": ("--embedding-dropout", ("shared_dropout",)),
}
"""Settings that others need: name, options that give it, and the others."""
_MUCH_BYTES = 2e9  # a GPU that is used for training has more than twice as much


def check_inputs(config: TrainConfig) -> None:
    """Checks that the output is not among the inputs, that word vectors have the model's size, and MLflow's URI.

    Raises:
        ConfigError: A check fails.
        InputError: The word vectors cannot be read.
    """
    check_tracking(config)
    inputs = (*config.train, *config.validation, *config.unlabelled)
    check_apart(inputs, config.output, "history.parquet", "so the next run would read its history as reviews")
    if config.embeddings is not None:
        size = read_vector_size(config.embeddings)
        if size != config.embedding_size:
            raise ConfigError(
                f"{config.embeddings}: its vectors have {size} dimensions, but --embedding-size is "
                f"{config.embedding_size}: use --embedding-size {size}"
            )


def asked_by(config: TrainConfig) -> Asked:
    """Returns what a run's workers need."""
    return Asked(*config.worker_limits, config.cpus_per_worker, config.gpus_per_worker)


def check_tracking(config: TrainConfig) -> None:
    """Raises ConfigError if MLflow's URI contains keys: settings are written to files and to MLflow."""
    refuse_keys(
        config.mlflow or "",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_URI to all of it with --mlflow "
        "yes",
    )


def notes_on_no_effect(config: TrainConfig, chosen: Collection[str]) -> Iterator[str]:
    """Yields notes on settings that were given, but have no effect because of another one.

    Notes, not errors: `tune` may draw both of them.

    Args:
        config: The settings.
        chosen: Settings that training has chosen.
    """
    preset = PRESETS.get(config.preset, {})
    for needed, (option, names) in _NEEDED.items():
        kept = {name: TrainConfig.model_fields[name].default for name in names} | preset
        given = [name for name in names if name not in chosen and getattr(config, name) != kept[name]]
        if given and not getattr(config, needed):
            yield f"without {option} there is no effect of {', '.join(map(option_name, given))}"


def performance_notes(config: TrainConfig, on_gpu: bool) -> Iterator[str]:
    """Yields notes on settings that make a run slower, or its model worse, than necessary."""
    if config.network is None and not config.mask and config.padding == "post" and config.pooling == "last":
        yield "with --padding post and without --mask the last state is computed from padding: use --mask"
    if config.worker_limits == (0, 0) and not on_gpu and may_have_gpu():
        yield (
            "this machine may have a GPU, but TensorFlow sees none: training on the CPU; for an NVIDIA GPU, "
            "pip install 'lstm-ray[gpu]'"
        )
    if on_gpu and config.network is not None:
        yield f"cannot tell whether cuDNN can run the network {config.network}: Keras decides"
    elif on_gpu and (obstacle := cudnn_obstacle(config, config)):
        yield f"on a GPU this trains several times slower than it could: {obstacle}"
    if on_gpu and (memory := least_memory(config)) is not None and memory.weights + (memory.states or 0) > _MUCH_BYTES:
        yield f"each GPU needs {memory.describe()}; --accumulate saves memory"
    if choose_engine(config, on_gpu=on_gpu) == "native" and (note := slow_note()):
        yield note
