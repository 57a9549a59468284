"""Checkpoints: what is saved is read back, and a damaged one is passed over for the one before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.train import checkpoints
from lstm_ray.train.checkpoints import Checkpoint, State


def save(output: Path, epoch: int, name: str | None = None) -> Path:
    """Saves a checkpoint of an epoch and returns its directory."""
    directory = output / checkpoints.DIRECTORY / (name or f"epoch_{epoch:04d}")
    directory.mkdir(parents=True)
    variables = [np.full((2, 3), epoch, np.float32), np.array(epoch, np.int64)]
    state = State(epoch, 1, [{"epoch": number + 1, "loss": 0.5} for number in range(epoch)], {"auc": None}, "summary")
    checkpoints.save(directory, Checkpoint(state, variables, variables[:1]))
    return directory


def test_a_checkpoint_is_read_as_it_was_saved(tmp_path: Path) -> None:
    save(tmp_path, 3)
    found = checkpoints.latest(str(tmp_path))
    assert found is not None
    assert found.state == checkpoints.latest_state(str(tmp_path))
    assert found.state.epoch == 3
    assert found.state.history[-1] == {"epoch": 3, "loss": 0.5}
    assert found.state.metrics == {"auc": None}
    assert [array.dtype for array in found.variables] == [np.float32, np.int64]
    np.testing.assert_array_equal(found.variables[0], np.full((2, 3), 3))
    np.testing.assert_array_equal(found.best[0], found.variables[0])


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert checkpoints.latest(str(tmp_path)) is None
    assert checkpoints.latest_state(str(tmp_path)) is None
    assert checkpoints.latest(str(tmp_path / "missing")) is None


def test_the_latest_is_that_of_the_last_epoch_whatever_its_name(tmp_path: Path) -> None:
    save(tmp_path, 2, "checkpoint_2026-01-02")
    save(tmp_path, 10, "checkpoint_2026-01-01")
    save(tmp_path, 9, "epoch_0009")
    found = checkpoints.latest(str(tmp_path))
    assert found is not None
    assert found.state.epoch == 10


def test_the_arrays_of_many_variables_keep_their_order(tmp_path: Path) -> None:
    directory = tmp_path / checkpoints.DIRECTORY / "one"
    directory.mkdir(parents=True)
    variables = [np.array(number) for number in range(120)]
    checkpoints.save(directory, Checkpoint(State(epoch=1), variables, []))
    found = checkpoints.latest(str(tmp_path))
    assert found is not None
    assert [int(array) for array in found.variables] == list(range(120))
    assert found.best == []


@pytest.mark.parametrize("file", ["variables.npz", "best.npz", "state.json"])
@pytest.mark.parametrize("damage", ["byte", "half", "missing"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: str
) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2) / file
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "half":
        path.write_bytes(content[: len(content) // 2])
    elif file == "state.json":
        path.write_bytes(content.replace(b'"sha256"', b'"sha255"'))
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    found = checkpoints.latest(str(tmp_path))
    assert found is not None
    assert found.state.epoch == 1
    # Without state.json, which is written last, it never was a checkpoint: nothing to warn of.
    is_unfinished = (file, damage) == ("state.json", "missing")
    assert ("epoch_0002" in caplog.text) != is_unfinished


def test_when_all_are_damaged_the_run_starts_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (1, 2):
        (save(tmp_path, epoch) / "best.npz").write_bytes(b"")
    assert checkpoints.latest(str(tmp_path)) is None
    assert caplog.text.count("is damaged") == 2


@pytest.mark.parametrize(
    ("epoch", "best", "patience", "ended", "early"),
    [
        (4, 4, 0, False, False),
        (5, 1, 0, True, False),
        (3, 2, 2, False, False),
        (4, 2, 2, True, True),
        (4, 2, 3, False, False),
        (0, 0, 1, False, False),
    ],
)
def test_a_run_ends_at_its_last_epoch_or_when_none_gets_better(
    epoch: int, best: int, patience: int, ended: bool, early: bool
) -> None:
    config = TrainConfig(epochs=5, early_stopping=patience)
    state = State(epoch=epoch, best_epoch=best)
    assert (state.has_ended(config), state.stops_early(config)) == (ended, early)
