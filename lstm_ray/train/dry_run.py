"""Describes what a run would do, without starting it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lstm_ray import storage
from lstm_ray.config import TrainConfig, left_open, to_yaml, with_paths
from lstm_ray.datasets.labelled import Shard, count_labels, describe_left_out
from lstm_ray.datasets.labels import OTHER, label_mapping
from lstm_ray.datasets.unlabelled import find_text_shards
from lstm_ray.errors import InputError
from lstm_ray.model.architectures import build_model, summary_text
from lstm_ray.model.user_network import check_network
from lstm_ray.progress import Event, Progress, ignore
from lstm_ray.runtime.devices import available_cores
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.best import choose
from lstm_ray.train.checks import asked_by, check_inputs, notes_on_no_effect, performance_notes
from lstm_ray.train.data.corpus import check_groups, find_all_shards
from lstm_ray.train.resume import open_run
from lstm_ray.train.step.choice import choose_collective, runs_on_gpu
from lstm_ray.train.step.memory import least_memory
from lstm_ray.train.warm_start import start_from
from lstm_ray.wording import counted

_COLLECTIVES = {"tcp": "TCP", "tensorflow": "TensorFlow's collectives"}


def describe(config: TrainConfig) -> str:
    """Returns a run's settings, model, inputs and workers, after the checks that start a run.

    Raises:
        InputError: A file is missing, is not Parquet, or lacks a column.
        OutputError: The output directory contains something else.
    """
    notes: list[Event] = []
    config, _ = start_from(config)
    shards = find_all_shards(config, notes.append)
    chosen = left_open(config)
    config, reasons = choose(config, shards)
    inputs = describe_inputs(config, shards, chosen, notes.append)
    start_tensorflow()
    if config.network is not None:
        check_network(config)
    memory = least_memory(config)
    crowding = asked_by(config).crowding(available_cores()) if config.address == "local" else None
    model = summary_text(build_model(config, config, config.seed))
    return "\n".join(
        [
            to_yaml(config),
            model,
            "",
            *(f"preset best: {reason}" for reason in reasons),
            *map(str, notes),
            *(f"note: {note}" for note in notes_on_no_effect(config, chosen)),
            *(f"note: {note}" for note in performance_notes(config, runs_on_gpu(config))),
            *([] if crowding is None else [f"warning: {crowding}"]),
            *inputs,
            *([] if memory is None else [f"memory: {memory.describe()}"]),
            *describe_workers(config),
            "",
        ]
    )


def describe_inputs(
    config: TrainConfig, shards: Sequence[Shard], chosen: Collection[str] = (), progress: Progress = ignore
) -> list[str]:
    """Returns a line on the training, validation and unlabelled data; reads labels and groups, but no texts.

    Args:
        config: The settings.
        shards: Row groups of the run, as `find_all_shards` lists them.
        chosen: Settings that were chosen for the data.
        progress: Receives notes on the files of unlabelled data.

    Raises:
        InputError: A file is missing, is not Parquet, or lacks a column, or a label is not 0 or 1 and not mapped, or
            groups are all on one side.
        OutputError: The output directory contains something else.
    """
    run = with_paths(config, storage.absolute)
    check_inputs(run)
    open_run(run, chosen)
    lines = []
    mapping = label_mapping(config)
    for side, inputs in (("training", config.train), ("validation", config.validation)):
        used = [shard for shard in shards if (shard.is_validation is True) == (side == "validation")]
        if inputs:
            files = len({shard.file.path for shard in used})
            labels = count_labels(used, config.label_column, mapping)
            found = f"{labels[1]:,} positive, {labels[0]:,} negative"
            left_out = describe_left_out(0, labels[OTHER], used, config.label_column, mapping)
            if not (labels[1] and labels[0]) and side == "training":
                problem = f"{found}: training needs both classes{left_out}"
                raise InputError(f"{', '.join(inputs)}: column {config.label_column!r}: {problem}")
            if side == "training":
                check_groups(used, config)
                found += "; rows without words, which the run leaves out, are not looked for"
            lines.append(
                f"{side}: {counted(sum(labels.values()), 'row')} in {counted(files, 'file')}, {found}{left_out}"
            )
    if config.unlabelled:
        texts = find_text_shards(config.unlabelled, config.text_column, progress)
        rows = sum(len(shard.rows) for shard in texts)
        times = counted(config.pretrain_epochs, "time")
        predicted = f"; the LSTM goes through all texts {times} to predict words" if config.pretrain_epochs else ""
        lines.append(f"unlabelled: {counted(rows, 'row')}, to learn word vectors from in this process{predicted}")
    return lines


def describe_workers(config: TrainConfig) -> list[str]:
    """Returns a line for each worker: where it would run, its resources, and its rows a step; then what sums."""
    least, most = config.worker_limits
    if most == 0:
        cores = counted(available_cores(), "core")
        return [f"worker 0: this process, {cores}, {_rows_a_step(config, config.global_batch_size)}"]
    where = "a new Ray instance on this machine" if config.address == "local" else f"the Ray at {config.address}"
    gpus = f", {counted(config.gpus_per_worker, 'GPU')}" if config.gpus_per_worker else ""
    resources = counted(config.cpus_per_worker, "CPU") + gpus
    lines = []
    for rank in range(most):
        rows = len(range(rank, config.global_batch_size, most))
        condition = ", if there is room" if rank >= least else ""
        lines.append(f"worker {rank}: {where}, {resources}, {_rows_a_step(config, rows)}{condition}")
    if most > 1:
        lines.append(f"gradients are summed by {_COLLECTIVES[choose_collective(config)]}")
    return lines


def _rows_a_step(config: TrainConfig, rows: int) -> str:
    return f"{counted(rows, 'row')} a step" + (" on average" if config.batch_by == "tokens" else "")
