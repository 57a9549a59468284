"""Curves for TensorBoard, in OUTPUT/tensorboard/train and .../validation; TensorBoard draws both in the same charts.

Each epoch has its own file, named by its number: a resumed run replaces the file, so that no point is written twice. An
object store gets one small object per epoch. TensorBoard reads the files in the order of their names.

Source of the format: tensorflow/core/util/event.proto; an event file is a TFRecord file of `Event` messages.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray import storage
from lstm_ray.config import TrainConfig
from lstm_ray.train.step.schedule import count_steps, learning_rate_at, steps_per_epoch

DIRECTORY = "tensorboard"
NAME = r"events\.out\.tfevents\.\d+\.lstm-ray"
_POINTS_PER_EPOCH = 100

_Scalar = tuple[int, str, float]  # step, tag, value


def write_epoch(config: TrainConfig, row: dict[str, Any], sums: npt.NDArray[np.float64], rows: int) -> None:
    """Writes an epoch's events.

    Args:
        config: The run's settings; `output` is its directory.
        row: The epoch's row of the history.
        sums: float64[steps, 3], for each step the sum of its rows' losses, the number of rows predicted correctly, and
            the number of rows. For a resumed epoch, only the steps since it was resumed.
        rows: Number of training rows.
    """
    sides = {"train": [*_step_scalars(config, row["epoch"], sums, rows), *_epoch_scalars(row, "")]}
    if row["validation_loss"] is not None:
        sides["validation"] = list(_epoch_scalars(row, "validation_"))
    for side, scalars in sides.items():
        name = f"events.out.tfevents.{row['epoch']:010d}.lstm-ray"
        storage.write_bytes(
            storage.join(config.output, f"{DIRECTORY}/{side}/{name}"), _event_file(scalars, time.time())
        )


def _epoch_scalars(row: dict[str, Any], prefix: str) -> Iterator[_Scalar]:
    """Yields an epoch's metrics, named as by Keras's TensorBoard callback."""
    for name in ("loss", "accuracy", "auc", "learning_rate"):
        value = row.get(prefix + name)
        if value is not None:
            yield row["epoch"], f"epoch_{name}", value


def _step_scalars(config: TrainConfig, epoch: int, sums: npt.NDArray[np.float64], rows: int) -> Iterator[_Scalar]:
    """Yields means over groups of steps, about `_POINTS_PER_EPOCH` per epoch, each placed at its group's last step."""
    steps = steps_per_epoch(config, rows)
    first = steps - len(sums)
    starts = np.arange(first, steps, -(-steps // _POINTS_PER_EPOCH))
    if not len(starts):
        return
    stops = np.append(starts[1:], steps)
    totals = np.add.reduceat(sums, starts - first, axis=0)
    means = totals[:, :2] / totals[:, 2:]
    numbers = (epoch - 1) * steps + stops - 1
    rates = np.asarray(learning_rate_at(config, count_steps(config, rows), numbers))
    for number, (loss, accuracy), rate in zip(numbers.tolist(), means.tolist(), rates.tolist(), strict=True):
        yield number, "loss", loss
        yield number, "accuracy", accuracy
        yield number, "learning_rate", rate


def _event_file(scalars: list[_Scalar], wall_time: float) -> bytes:
    import tensorflow as tf

    event, summary = tf.compat.v1.Event, tf.compat.v1.Summary
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "events"
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(event(wall_time=wall_time, file_version="brain.Event:2").SerializeToString())
            for step, tag, number in scalars:
                value = summary.Value(tag=tag, simple_value=number)
                writer.write(event(wall_time=wall_time, step=step, summary=summary(value=[value])).SerializeToString())
        return path.read_bytes()
