"""Checkpoints are read as they were saved; if one is damaged, the one before it is used."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lstm_ray.errors import InputError, OutputError
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.state import State


def save(output: Path, epoch: int, step: int = 0) -> Path:
    """Saves a checkpoint and returns its file."""
    checkpoints.save(str(output), make(epoch, step))
    (path,) = (output / checkpoints.DIRECTORY).glob(f"epochs_{epoch:04d}_steps_{step:08d}.*")
    return path


def make(epoch: int, step: int = 0) -> Checkpoint:
    """Returns a checkpoint whose arrays hold its position."""
    variables = [np.full((2, 3), epoch, np.float32), np.array(step, np.int64)]
    history = [{"epoch": number + 1, "loss": 0.5} for number in range(epoch)]
    state = State(epoch, 1, history, {"auc": None}, "summary", step=step, loss_sum=0.1 * step)
    return Checkpoint(state, variables, variables[:1], [np.arange(5, dtype=np.float32), np.array(0.25)])


def files(output: Path) -> list[str]:
    """Lists the checkpoints' names without their hashes."""
    return sorted(path.name.partition(".")[0] for path in (output / checkpoints.DIRECTORY).iterdir())


def test_a_checkpoint_is_read_as_it_was_saved(tmp_path: Path) -> None:
    save(tmp_path, 3, 7)
    found = checkpoints.latest(str(tmp_path))
    assert found is not None
    assert found.state == checkpoints.latest_state(str(tmp_path)) == make(3, 7).state
    assert found.state.loss_sum == 0.1 * 7
    assert found.state.history[-1] == {"epoch": 3, "loss": 0.5}
    assert [array.dtype for array in found.variables] == [np.float32, np.int64]
    assert [array.shape for array in found.variables] == [(2, 3), ()]
    np.testing.assert_array_equal(found.variables[0], np.full((2, 3), 3))
    np.testing.assert_array_equal(found.best[0], found.variables[0])
    np.testing.assert_array_equal(found.ngrams[0], np.arange(5))
    assert found.ngrams[1] == 0.25


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert checkpoints.latest(str(tmp_path)) is None
    assert checkpoints.latest_state(str(tmp_path)) is None
    assert checkpoints.latest(str(tmp_path / "missing")) is None


def test_the_latest_is_that_of_the_last_epoch_and_step_in_it(tmp_path: Path) -> None:
    for position in ((10, 0), (9, 0), (9, 99_999_999), (2, 5)):
        (tmp_path / str(position) / checkpoints.DIRECTORY).mkdir(parents=True)
        path = save(tmp_path / str(position), *position)
        (tmp_path / "all" / checkpoints.DIRECTORY).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "all" / checkpoints.DIRECTORY / path.name)
    for expected in ((10, 0), (9, 99_999_999), (9, 0), (2, 5)):
        state = checkpoints.latest_state(str(tmp_path / "all"))
        assert state is not None
        assert (state.epoch, state.step) == expected
        max((tmp_path / "all" / checkpoints.DIRECTORY).iterdir()).unlink()


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for position in ((0, 5), (0, 10), (1, 0), (1, 5)):
        save(tmp_path, *position)
    assert files(tmp_path) == ["epochs_0001_steps_00000000", "epochs_0001_steps_00000005"]


def test_the_arrays_of_many_variables_keep_their_order(tmp_path: Path) -> None:
    variables = [np.array(number) for number in range(120)]
    checkpoints.save(str(tmp_path), Checkpoint(State(epoch=1), variables, []))
    found = checkpoints.latest(str(tmp_path))
    assert found is not None
    assert [int(array) for array in found.variables] == list(range(120))
    assert found.best == []


@pytest.mark.parametrize("damage", ["byte", "half", "empty"])
def test_instead_of_a_damaged_checkpoint_the_one_before_it_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    whole = make(1, 4)
    save(tmp_path, 1, 4)
    path = save(tmp_path, 1, 8)
    content = bytearray(path.read_bytes())
    if damage == "byte":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: {"byte": len(content), "half": len(content) // 2, "empty": 0}[damage]])
    found = checkpoints.latest(str(tmp_path))
    assert found is not None
    assert found.state == whole.state
    assert f"{path} is damaged: using the one before it" in caplog.text


def test_when_all_are_damaged_the_run_starts_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (1, 2):
        save(tmp_path, epoch).write_bytes(b"")
    assert checkpoints.latest(str(tmp_path)) is None
    assert caplog.text.count("is damaged") == 2


def test_damaged_checkpoints_do_not_replace_later_ones(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for position in ((1, 5), (2, 0)):
        checkpoints.save(str(tmp_path), make(*position))
    for path in (tmp_path / checkpoints.DIRECTORY).iterdir():
        path.write_bytes(b"damaged")
    (tmp_path / checkpoints.DIRECTORY / f".epochs.npz.{'0' * 16}.tmp").write_bytes(b"unfinished")
    checkpoints.discard_after(str(tmp_path), checkpoints.latest_state(str(tmp_path)))
    assert files(tmp_path) == []
    save(tmp_path, 0, 5)
    save(tmp_path, 1)
    checkpoints.discard_after(str(tmp_path), State(epoch=0, step=5))
    assert files(tmp_path) == ["epochs_0000_steps_00000005"]


def test_the_same_state_is_the_same_file(tmp_path: Path) -> None:
    names = set()
    for directory in ("first", "second"):
        names.add(save(tmp_path / directory, 1).name)
    assert len(names) == 1


def test_saving_and_asking_for_the_state_copy_no_arrays(tmp_path: Path) -> None:
    size = 64 << 20
    variables = [np.zeros(size // 8)]
    tracemalloc.start()
    try:
        checkpoints.save(str(tmp_path), Checkpoint(State(epoch=1), variables, []))
        assert checkpoints.latest_state(str(tmp_path)) == State(epoch=1)
        assert tracemalloc.get_traced_memory()[1] < size
        checkpoints.latest(str(tmp_path))
        assert size < tracemalloc.get_traced_memory()[1] < 1.9 * size, "the arrays themselves, once"
    finally:
        tracemalloc.stop()


def test_a_checkpoint_that_cannot_be_read_now_is_not_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    path.unlink()
    path.mkdir()  # root reads any file, whatever its permissions
    with pytest.raises(InputError, match=r"epochs_0002_.*: cannot be read: .* is a directory"):
        checkpoints.latest(str(tmp_path))


def test_a_checkpoint_is_due_after_some_steps_or_some_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    with checkpoints.Writer(str(tmp_path), 30.0, 3) as writer:
        assert [writer.count_step() for _ in range(3)] == [False, False, True]
        writer.save(make(0, 3))
        assert not writer.count_step()
        now = 30.0
        assert writer.count_step()
        writer.save(make(0, 5))
        assert not writer.count_step()


def test_a_writer_has_saved_everything_when_it_exits(tmp_path: Path) -> None:
    with checkpoints.Writer(str(tmp_path), math.inf, math.inf) as writer:
        for step in range(1, 9):
            writer.save(make(0, step))
    assert files(tmp_path) == ["epochs_0000_steps_00000007", "epochs_0000_steps_00000008"]


def test_a_writer_reports_that_it_could_not_save(tmp_path: Path) -> None:
    (tmp_path / checkpoints.DIRECTORY).write_bytes(b"in the way")
    with checkpoints.Writer(str(tmp_path), math.inf, math.inf) as writer:
        writer.save(make(0, 1))
        with pytest.raises(OutputError, match="cannot be written"):
            writer.save(make(0, 2))
