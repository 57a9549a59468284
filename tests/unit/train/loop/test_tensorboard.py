"""TensorBoard's curves hold the metrics of each epoch, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.loop.tensorboard import write_epoch

ROWS = 1_205
CONFIG: dict[str, Any] = {"global_batch_size": 5, "epochs": 2, "learning_rate": 0.5}
ROW = {
    "epoch": 2,
    "loss": 0.25,
    "accuracy": 0.75,
    "learning_rate": 0.5,
    "validation_loss": 0.5,
    "validation_accuracy": 0.625,
    "validation_auc": None,
}


def read(directory: Path) -> dict[str, dict[int, float]]:
    """Returns the curves below a directory: tag -> step -> value."""
    import tensorflow as tf

    curves: dict[str, dict[int, float]] = {}
    for path in sorted(directory.iterdir()):
        records = tf.data.TFRecordDataset(str(path))
        events = [tf.compat.v1.Event.FromString(record.numpy()) for record in records]
        assert events[0].file_version == "brain.Event:2"
        for event in events[1:]:
            (value,) = event.summary.value
            assert event.step not in curves.setdefault(value.tag, {}), "a step twice"
            curves[value.tag][event.step] = value.simple_value
    return curves


@pytest.fixture
def sums() -> np.ndarray:
    """Returns the sums of 241 steps of 5 rows."""
    return np.column_stack([np.random.default_rng(0).random((241, 2)) * 5, np.full(241, 5)])


def test_an_epoch_is_written_by_step_and_as_a_whole(tmp_path: Path, sums: np.ndarray) -> None:
    start_tensorflow()
    config = TrainConfig(preset="none", output=str(tmp_path), schedule="linear", **CONFIG)
    for _ in range(2):  # as after a resume: it replaces itself
        write_epoch(config, ROW, sums, ROWS)
    curves = read(tmp_path / "tensorboard/train")
    epoch = {tag: curve for tag, curve in curves.items() if tag.startswith("epoch_")}
    assert epoch == {"epoch_loss": {2: 0.25}, "epoch_accuracy": {2: 0.75}, "epoch_learning_rate": {2: 0.5}}
    assert read(tmp_path / "tensorboard/validation") == {"epoch_loss": {2: 0.5}, "epoch_accuracy": {2: 0.625}}
    steps = list(curves["loss"])
    assert steps == [*range(241 + 2, 482, 3), 481], "81 points, each at the last of 3 steps"
    assert curves["loss"][243] == pytest.approx(sums[:3, 0].sum() / 15)
    assert curves["accuracy"][481] == pytest.approx(sums[240, 1] / 5)
    assert curves["learning_rate"][243] == pytest.approx(0.5 * (1 - 243 / 482))
    weights = np.diff([240, *steps])
    assert np.average(list(curves["loss"].values()), weights=weights) == pytest.approx(sums[:, 0].sum() / ROWS)


def test_without_validation_there_is_no_curve_of_it(tmp_path: Path, sums: np.ndarray) -> None:
    start_tensorflow()
    row = {**ROW, "validation_loss": None, "validation_accuracy": None}
    write_epoch(TrainConfig(preset="none", output=str(tmp_path), **CONFIG), row, sums, ROWS)
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["train"]
