"""Decides whether a run in a directory is started, resumed or refused."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import yaml

from lstm_ray import storage
from lstm_ray.config import (
    TrainConfig,
    apart_from_presets,
    changed_since,
    describe_changes,
    left_open,
    read_yaml,
    read_yaml_as_written,
    to_yaml,
)
from lstm_ray.errors import OutputError
from lstm_ray.model.bundle import delete_bundle
from lstm_ray.storage.inputs import InputFile
from lstm_ray.train.data.corpus import Prepared
from lstm_ray.train.loop import checkpoints, tensorboard
from lstm_ray.train.loop.mlflow_run import ID_FILE
from lstm_ray.train.loop.state import State
from lstm_ray.wording import shown_path

LOCK = ".lock"
_OF_PYTHON = (
    "# lstm_ray.train was given a data frame: it was the file .../lstm-ray/tables/table-....parquet during the call.\n"
    "# The same call, with the same data frame, resumes this run."
)
_MOST_NAMED = 5  # settings that differ
VECTORS = "vectors"
PRETRAINING = "pretraining"
_RESULTS = ("metrics.json", "history.parquet", "history.png", "report.html", ID_FILE)
_DIRECTORIES = {  # with the names of a run's files in them; inner ones first
    checkpoints.DIRECTORY: checkpoints.NAME,
    f"{PRETRAINING}/{checkpoints.DIRECTORY}": checkpoints.NAME,
    PRETRAINING: "",
    f"{tensorboard.DIRECTORY}/train": tensorboard.NAME,
    f"{tensorboard.DIRECTORY}/validation": tensorboard.NAME,
    tensorboard.DIRECTORY: "",
    VECTORS: r"[0-9a-f]{16}\.txt",
}


def as_begun(config: TrainConfig) -> TrainConfig:
    """Returns the settings, with the defaults of those that the version which began the run did not have.

    Otherwise the preset `best` would choose them now, and the run could not be resumed.

    Raises:
        OutputError: The directory cannot be written to.
    """
    storage.check_writable(config.output)
    if config.fresh or "config.yaml" not in storage.list_names(config.output):
        return config
    written = read_yaml_as_written(TrainConfig, storage.read_bytes(storage.join(config.output, "config.yaml")))
    unknown = [] if written is None else [name for name in left_open(config) if name not in written]
    return config.model_copy(update={name: getattr(config, name) for name in unknown})


def open_run(config: TrainConfig, chosen: Collection[str] = ()) -> bool:
    """Returns whether `config.output` contains a run with these settings that can be resumed. Changes nothing.

    Args:
        config: The settings.
        chosen: Those that were chosen for the data.

    Raises:
        OutputError: The directory contains something else.
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
        told = apart_from_presets(TrainConfig, changed, earlier, wanted, chosen)
        differences = describe_changes(told[:_MOST_NAMED], earlier, wanted)
        if len(told) > _MOST_NAMED:
            differences += f", and {len(told) - _MOST_NAMED} more"
        if set(changed) <= set(chosen):
            raise OutputError(
                f"{config.output}: the training data has changed since this run began: for it the preset best chose "
                f"other settings ({differences}): choose another --output, or use --fresh to delete that run and start "
                "over"
            )
        if changed == ["epochs"]:
            differences += f"; the {config.schedule} schedule depends on the number of epochs"
        resumed = f", or resume it with the job file {path}" if _has_inputs(earlier) else ""
        raise OutputError(
            f"{config.output}: holds a run with other settings ({differences}): choose another --output, or use "
            f"--fresh to delete that run and start over{resumed}"
        )
    return True


def _has_inputs(settings: Mapping[str, Any]) -> bool:
    """Returns whether the local files of an earlier run are still there; a table that it was given is not."""
    paths = [path for name in ("train", "validation", "unlabelled") for path in settings[name]]
    return all(glob.has_magic(path) or not storage.is_local(path) or storage.exists(path) for path in paths)


def check_same_data(config: TrainConfig, state: State, prepared: Prepared) -> None:
    """Checks that the data is the same as when the run was started.

    Raises:
        OutputError: The data has changed.
    """
    if state.data != prepared.fingerprint():
        raise data_changed(config)


def data_changed(config: TrainConfig) -> OutputError:
    """Returns the error for a run whose data has changed."""
    return OutputError(
        f"{config.output}: the data has changed since this run began (--train, --validation or --unlabelled): "
        "choose another --output, or use --fresh to delete that run and start over"
    )


def pretraining_begun(config: TrainConfig) -> bool:
    """Returns whether the run has learned to predict words."""
    return bool(storage.list_names(storage.join(config.output, PRETRAINING)))


def changed_after_the_end(config: TrainConfig, files: Iterable[InputFile]) -> list[str]:
    """Returns the files that were changed after a complete run had ended."""
    filesystem, target = storage.locate(storage.join(config.output, "metrics.json"))
    ended = filesystem.get_file_info(target).mtime
    return [file.path for file in files if file.modified and ended and datetime.fromisoformat(file.modified) > ended]


def begin_run(config: TrainConfig) -> None:
    """Creates the run's directory and writes the settings; with `--fresh`, deletes an earlier run's results first.

    A resumed run writes its settings again, because the number of epochs and workers may have changed.
    """
    storage.delete(storage.join(config.output, "metrics.json"))
    if config.fresh:
        _delete_results(config.output)
    # config.yaml can be used as a job file, and must then resume this run, not delete it.
    kept = config.model_copy(update={"fresh": False})
    content = to_yaml(kept)
    paths = (*config.train, *config.validation, *config.unlabelled)
    if any(shown_path(path) != path for path in paths):
        content = f"{_OF_PYTHON}\n{content}"
    storage.write_bytes(storage.join(config.output, "config.yaml"), content.encode())


def _delete_results(output: str) -> None:
    """Deletes what a run has written, but no file of another name beside it."""
    for name in _RESULTS:
        storage.delete(storage.join(output, name), tree=False)
    delete_bundle(storage.join(output, "model"))
    for directory, names in _DIRECTORIES.items():
        storage.delete_matching(storage.join(output, directory), names)


def remove_if_empty(output: str) -> None:
    """Deletes the run's directory if it contains nothing but the lock."""
    if storage.is_local(output) and storage.list_names(output) == [LOCK]:
        storage.delete(output)
