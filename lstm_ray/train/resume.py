"""The rules by which a run's directory is begun, resumed or refused."""

from __future__ import annotations

import yaml

from lstm_ray import storage
from lstm_ray.config import TrainConfig, changed_since, describe_changes, read_yaml, to_yaml
from lstm_ray.errors import OutputError
from lstm_ray.train.data.corpus import Prepared
from lstm_ray.train.loop.mlflow_run import ID_FILE
from lstm_ray.train.loop.state import State

LOCK = ".lock"
VECTORS = "vectors"
_RESULTS = (
    "metrics.json",
    "model",
    VECTORS,
    "checkpoints",
    "tensorboard",
    "history.parquet",
    "history.png",
    "report.html",
    ID_FILE,
)


def open_run(config: TrainConfig) -> bool:
    """Returns whether `config.output` contains a run of these settings to resume.

    Raises:
        OutputError: The directory contains something else. Nothing is changed in it.
    """
    storage.check_writable(config.output)
    names = set(storage.list_names(config.output))
    if names <= {LOCK}:
        return False
    path = storage.join(config.output, "config.yaml")
    earlier = read_yaml(TrainConfig, storage.read_bytes(path)) if "config.yaml" in names else None
    if earlier is None:
        raise OutputError(f"{config.output}: not empty, and not an earlier run: choose another --output")
    if config.fresh:
        return False
    wanted = yaml.safe_load(to_yaml(config))
    changed = changed_since(earlier, config, storage.absolute)
    if changed:
        differences = describe_changes(changed, earlier, wanted)
        if changed == ["epochs"]:
            differences += f"; the {config.schedule} schedule has fallen towards the end of the first number"
        raise OutputError(
            f"{config.output}: holds a run with other settings ({differences}): choose another --output, or --fresh "
            "to delete that run and start over"
        )
    return True


def check_same_data(config: TrainConfig, state: State, prepared: Prepared) -> None:
    """Checks that a run to be resumed began with the same data.

    Raises:
        OutputError: It did not.
    """
    if state.data != prepared.fingerprint():
        raise OutputError(
            f"{config.output}: the training data has changed since this run began: choose another --output, or "
            "--fresh to delete that run and start over"
        )


def begin_run(config: TrainConfig) -> None:
    """Makes the run's directory and writes the settings into it; `--fresh` first deletes what an earlier run wrote.

    The settings of a resumed run are written again: the number of epochs and workers may differ.
    """
    for name in _RESULTS if config.fresh else ("metrics.json",):
        storage.delete(storage.join(config.output, name))
    # Used as a job file, config.yaml must resume this run, not delete it.
    kept = config.model_copy(update={"fresh": False})
    storage.write_bytes(storage.join(config.output, "config.yaml"), to_yaml(kept).encode())


def remove_if_empty(output: str) -> None:
    """Deletes the run's directory if it contains nothing but the lock."""
    if storage.is_local(output) and storage.list_names(output) == [LOCK]:
        storage.delete(output)
