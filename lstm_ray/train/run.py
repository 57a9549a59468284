"""A training run as a directory: begun, resumed, finished; in this process or on Ray.

OUTPUT/config.yaml  model/  checkpoints/  tensorboard/  history.parquet  history.png  metrics.json  report.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lstm_ray import storage
from lstm_ray.config import TrainConfig, changed_since, option_name, read_yaml, to_yaml, with_paths
from lstm_ray.datasets.labelled import Shard, find_shards
from lstm_ray.errors import ConfigError, OutputError
from lstm_ray.kernels.emitter import slow_note
from lstm_ray.model.architectures import cudnn_obstacle
from lstm_ray.model.user_network import check_network
from lstm_ray.progress import Watcher
from lstm_ray.runtime.devices import available_cores, has_gpu
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.storage.inputs import check_apart
from lstm_ray.text.word_vectors import read_vector_size, read_word_vectors
from lstm_ray.train.data.corpus import EncodedShard, Prepared, assemble, find_all_shards, label_mapping
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.mlflow_run import KEPT, MlflowRun
from lstm_ray.train.loop.state import State
from lstm_ray.train.step.schedule import check_schedule
from lstm_ray.wording import counted

_LOCK = ".lock"
_RESULTS = (
    "metrics.json",
    "model",
    "checkpoints",
    "tensorboard",
    "history.parquet",
    "history.png",
    "report.html",
    KEPT,
)

HISTORY = pa.schema(
    [
        ("epoch", pa.int32()),
        ("loss", pa.float64()),
        ("accuracy", pa.float64()),
        ("validation_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("validation_auc", pa.float64()),
        ("learning_rate", pa.float64()),
        ("seconds", pa.float64()),
        ("rows_per_s", pa.float64()),
        ("best", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Outcome:
    """What a finished run has to show.

    Attributes:
        state: History, best epoch and its metrics.
        output: The run's directory.
        training_rows: Rows learned from.
        validation_rows: Rows measured on.
        rows_without_text: Rows left out because they have no words.
        rows_with_other_label: Rows left out because the label mapping does not name their label.
        was_finished: True if there was nothing left to do.
    """

    state: State
    output: str
    training_rows: int
    validation_rows: int
    rows_without_text: int
    rows_with_other_label: int
    was_finished: bool = False


class Workers(Protocol):
    """Those who do the work of a run: this process, or Ray's."""

    def encode_all(self, shards: Sequence[Shard], config: TrainConfig) -> Iterable[EncodedShard]:
        """Runs `encode_shard` over all shards; results in the same order."""

    def run(self, config: TrainConfig, prepared: Prepared) -> State:
        """Runs `loop.run` to its end on every worker."""


def train(config: TrainConfig, watcher: Watcher) -> Outcome:
    """Trains a model, or goes on with an earlier run of the same settings in the same directory.

    Raises:
        InputError: The data cannot be used.
        OutputError: The output directory holds something else, or cannot be written.
        TrainingError: Training failed.
    """
    config = with_paths(config, storage.absolute)
    _check_apart(config)
    open_run(config)
    _check_embeddings(config)
    shards = find_all_shards(config)
    with storage.locked(config.output, _LOCK):
        resumed = open_run(config)  # again: the run that wrote here may have ended in between
        try:
            return _train(config, shards, watcher, resumed)
        finally:
            _leave_nothing(config.output)


def _train(config: TrainConfig, shards: Sequence[Shard], watcher: Watcher, resumed: bool) -> Outcome:
    state = checkpoints.latest_state(config.output) if resumed else None
    if state is not None and _is_finished(config, state):
        return _finished(config, state)
    if state is not None:
        watcher.say(f"going on from {state.place()}")
    if config.network is not None:
        start_tensorflow()
        check_network(config)
    elif not config.mask and config.padding == "post" and config.pooling == "last":
        watcher.say("note: with --padding post and no --mask the last state has read the padding last; --mask helps")
    on_gpu = config.gpus_per_worker > 0 or (config.worker_limits == (0, 0) and has_gpu())
    if on_gpu and config.network is not None:
        watcher.say(f"note: whether cuDNN can run the network of {config.network} is not known here: Keras decides")
    elif on_gpu and (obstacle := cudnn_obstacle(config, config)):
        watcher.say(f"note: on a GPU this trains several times slower than it could: {obstacle}")
    if not on_gpu and config.network is None and config.engine != "keras" and (note := slow_note()):
        watcher.say(note)
    tracker = MlflowRun(config, watcher) if config.mlflow else None
    with _ended_in(tracker), _workers(config, tracker or watcher) as workers:
        watcher.say("reading and tokenizing")
        prepared = assemble(workers.encode_all(shards, config), config)
        watcher.say(
            f"{counted(len(prepared.training), 'row')} to train on, {len(prepared.validation):,} to validate on, "
            f"{counted(len(prepared.vocabulary.words), 'word')} known"
        )
        check_schedule(config, len(prepared.training))
        if config.embeddings is not None:
            prepared = _add_word_vectors(prepared, config.embeddings, watcher)
        if state is not None and state.data != prepared.fingerprint():
            raise OutputError(
                f"{config.output}: the training data has changed since this run began: choose another --output, or "
                "--fresh to delete that run and start over"
            )
        begin_run(config)
        if tracker is not None:
            tracker.begin()
        state = workers.run(config, prepared)
    outcome = Outcome(
        state,
        config.output,
        len(prepared.training),
        len(prepared.validation),
        prepared.rows_without_text,
        prepared.rows_with_other_label,
    )
    with _ended_in(tracker):
        write_results(config, outcome)
    if tracker is not None:
        tracker.finish(state)
    return outcome


@contextmanager
def _ended_in(tracker: MlflowRun | None) -> Iterator[None]:
    """Ends the run in MLflow, if there is one, where it fails or is interrupted here."""
    try:
        yield
    except BaseException as error:
        if tracker is not None:
            tracker.fail(error)
        raise


def _check_apart(config: TrainConfig) -> None:
    inputs = (*config.train, *config.validation)
    check_apart(inputs, config.output, "history.parquet", "which the next run could not read")


def _check_embeddings(config: TrainConfig) -> None:
    if config.embeddings is not None:
        size = read_vector_size(config.embeddings)
        if size != config.embedding_size:
            raise ConfigError(
                f"{config.embeddings}: its vectors have {size} numbers, but --embedding-size is "
                f"{config.embedding_size}: give --embedding-size {size}"
            )


def _add_word_vectors(prepared: Prepared, path: str, watcher: Watcher) -> Prepared:
    vectors = read_word_vectors(path, prepared.vocabulary)
    found, words = len(vectors.ids), len(prepared.vocabulary.words)
    watcher.say(f"{found:,} of {words:,} words ({found / words:.0%}) begin with a vector of {os.path.basename(path)}")
    return replace(prepared, word_vectors=vectors)


@contextmanager
def _workers(config: TrainConfig, watcher: Watcher) -> Iterator[Workers]:
    if config.worker_limits == (0, 0):
        from lstm_ray.train.local import LocalWorkers

        yield LocalWorkers(watcher)
    else:
        from lstm_ray.train.ray.trainer import RayWorkers, ray_session

        with ray_session(config, watcher):
            yield RayWorkers(watcher)


def open_run(config: TrainConfig) -> bool:
    """Says whether `config.output` holds a run of these settings to go on with.

    Raises:
        OutputError: The directory holds something else. Nothing is changed in it.
    """
    storage.check_writable(config.output)
    names = set(storage.list_names(config.output))
    if names <= {_LOCK}:
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
        differences = ", ".join(
            f"{option_name(key)} {_show(earlier[key])} there, {_show(wanted[key])} here" for key in changed
        )
        if changed == ["epochs"]:
            differences += f"; the {config.schedule} schedule has fallen towards the end of the first number"
        raise OutputError(
            f"{config.output}: holds a run with other settings ({differences}): choose another --output, or --fresh "
            "to delete that run and start over"
        )
    return True


def begin_run(config: TrainConfig) -> None:
    """Makes the run's directory, or for `--fresh` deletes what a run made in it, and writes the settings into it.

    A resumed run's settings are written again: the number of epochs and workers may differ.
    """
    for name in _RESULTS if config.fresh else ("metrics.json",):
        storage.delete(storage.join(config.output, name))
    # As a job file, config.yaml goes on with this run: it must not delete it.
    kept = config.model_copy(update={"fresh": False})
    storage.write_bytes(storage.join(config.output, "config.yaml"), to_yaml(kept).encode())


def _leave_nothing(output: str) -> None:
    """Leaves no directory behind if there was nothing in it but the lock."""
    if storage.is_local(output) and storage.list_names(output) == [_LOCK]:
        storage.delete(output)


def _is_finished(config: TrainConfig, state: State) -> bool:
    """Says whether the model and results of a run's last epoch are there."""
    there = [storage.exists(storage.join(config.output, name)) for name in ("metrics.json", "model/bundle.json")]
    return state.has_ended(config) and all(there)


def write_results(config: TrainConfig, outcome: Outcome) -> None:
    """Writes history, metrics and report of a run whose model has been saved."""
    from lstm_ray.report.pages import history_png, training_report

    state = outcome.state
    history = pa.Table.from_pylist(
        [{**row, "best": row["epoch"] == state.best_epoch} for row in state.history], schema=HISTORY
    )
    metrics = {
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "training_rows": outcome.training_rows,
        "validation_rows": outcome.validation_rows,
        "rows_without_text": outcome.rows_without_text,
        "rows_with_other_label": outcome.rows_with_other_label,
        "validation": state.metrics,
    }
    report = training_report(
        title=f"Training run {os.path.basename(config.output.rstrip('/'))}",
        history=history,
        metrics=state.metrics or None,
        config=config.model_dump(mode="json"),
        summary=state.summary,
    )
    place = config.output
    storage.write_file(storage.join(place, "history.parquet"), lambda stream: pq.write_table(history, stream))
    storage.write_bytes(storage.join(place, "history.png"), history_png(history))
    storage.write_bytes(storage.join(place, "report.html"), report.encode())
    storage.write_bytes(storage.join(place, "metrics.json"), (json.dumps(metrics, indent=2) + "\n").encode())


def check_inputs(config: TrainConfig) -> list[str]:
    """Reads the footers of all input files; a line on each side of the data.

    Raises:
        InputError: A file is missing, is not Parquet, or lacks a column.
        OutputError: The output directory holds something else.
    """
    _check_apart(with_paths(config, storage.absolute))
    open_run(with_paths(config, storage.absolute))
    _check_embeddings(config)
    lines = []
    for side, inputs in (("training", config.train), ("validation", config.validation)):
        shards = find_shards(inputs, config.text_column, config.label_column, label_mapping(config))
        if inputs:
            files = len({shard.file.path for shard in shards})
            rows = sum(len(shard.rows) for shard in shards)
            lines.append(f"{side}: {counted(rows, 'row')} in {counted(files, 'file')}")
    return lines


def describe_workers(config: TrainConfig) -> list[str]:
    """Says where each worker would run and what it would hold."""
    least, most = config.worker_limits
    if most == 0:
        return [f"worker 0: this process, {available_cores()} cores, {config.global_batch_size} rows a step"]
    place = "a Ray started on this machine" if config.address == "local" else f"the Ray at {config.address}"
    resources = f"{config.cpus_per_worker:g} CPU" + (
        f", {config.gpus_per_worker} GPU" if config.gpus_per_worker else ""
    )
    lines = []
    for rank in range(most):
        rows = len(range(rank, config.global_batch_size, most))
        condition = ", if there is room" if rank >= least else ""
        lines.append(f"worker {rank}: {place}, {resources}, {rows} rows a step{condition}")
    return lines


def _finished(config: TrainConfig, state: State) -> Outcome:
    metrics = json.loads(storage.read_bytes(storage.join(config.output, "metrics.json")))
    names = ("training_rows", "validation_rows", "rows_without_text", "rows_with_other_label")
    counts: dict[str, Any] = {name: metrics.get(name, 0) for name in names}  # an older version's lacks the last
    return Outcome(state, config.output, **counts, was_finished=True)


def _show(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
