"""Faults of a training run: it or the same command continues, and ends with the weights of an undisturbed run."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.state import State

EVERY_STEPS = 20
BATCH = 2  # 231 rows to train on: 116 steps an epoch
SETTINGS = {
    "preset": "none",
    "vocabulary-size": 200,
    "max-tokens": 24,
    "embedding-size": 8,
    "units": 8,
    "dropout": 0.2,
    "global-batch-size": BATCH,
    "learning-rate": 0.01,
    "epochs": 4,
    "cpus-per-worker": 0.5,
    "checkpoint-every": f"{EVERY_STEPS}steps",
}

Run = Callable[..., Any]
Processes = Callable[..., list[int]]


@pytest.fixture
def run(start: Callable[..., Any], reviews: Path, ray_directory: str) -> Run:
    """Gives a function that starts `lstm-ray train`, on a Ray of its own if there are workers."""

    def start_it(output: Path | str, *more: object, **environment: str) -> Any:
        arguments = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]
        given = ("train", "--train", reviews, "--output", output, *arguments, *more)
        return start(*given, RAY_TMPDIR=ray_directory, **environment)

    return start_it


@pytest.fixture(scope="module")
def undisturbed() -> dict[tuple[object, ...], list[np.ndarray]]:
    """Gives the final variables of undisturbed runs, by their options."""
    return {}


@pytest.fixture
def assert_equal(run: Run, undisturbed: dict[tuple[object, ...], list[np.ndarray]], tmp_path: Path) -> Any:
    """Gives a function that compares a run's end with that of an undisturbed run of the same options."""

    def compare(output: Path | str, *options: object) -> None:
        if options not in undisturbed:
            code, error = run(tmp_path / "undisturbed", *options).end()
            assert code == 0, error
            undisturbed[options] = final_variables(tmp_path / "undisturbed")
        for one, other in zip(undisturbed[options], final_variables(output), strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-6)

    return compare


def final_variables(output: Path | str) -> list[np.ndarray]:
    """Returns all state of model, optimizer and n-gram part after the last epoch, and the weights that are saved."""
    checkpoint = checkpoints.latest(str(output))
    assert checkpoint is not None
    assert (checkpoint.state.epoch, checkpoint.state.step) == (SETTINGS["epochs"], 0)
    with np.load(Path(output) / "model/weights.npz") as stored:
        saved = [stored[name] for name in stored.files if stored[name].dtype.kind == "f"]
    return [*checkpoint.variables, *checkpoint.ngrams, *saved]


def reached(output: Path, *position: int) -> Callable[[], bool]:
    """Returns a function that tells whether there is a checkpoint of this epoch and step, or a later one."""

    def is_there() -> bool:
        names = checkpoints._newest_first(str(output))
        return bool(names) and checkpoints._parts(names[0])[:2] >= position

    return is_there


def reported_position(error: str) -> str:
    """Returns the position in the message about an interrupt."""
    found = re.search(r"^interrupted: saved at (.*); the same command resumes there$", error, re.MULTILINE)
    assert found, error
    return found[1]


@pytest.mark.parametrize(
    ("seed", "options"),
    [
        (0, ()),
        pytest.param(1, (), marks=pytest.mark.second_tier),
        pytest.param(2, ("--ngrams", 2, "--ngram-buckets", 1000), marks=pytest.mark.second_tier),
    ],
)
def test_one_process_killed_again_and_again_ends_with_the_same_bits(
    run: Run, assert_equal: Any, tmp_path: Path, seed: int, options: tuple[object, ...]
) -> None:
    chance = random.Random(seed)
    output = tmp_path / "run"
    for epoch in (0, 2):
        command = run(output, *options)
        command.wait_until(reached(output, epoch, chance.randrange(EVERY_STEPS, 116, EVERY_STEPS)), 300)
        time.sleep(chance.random() / 5)
        assert command.kill()[0] == -signal.SIGKILL
        state = checkpoints.latest_state(str(output))
        assert state is not None
        assert state.epoch >= epoch
    command = run(output, *options)
    code, error = command.end()
    assert code == 0, error
    assert f"resuming from {state.position()}" in error
    assert_equal(output, *options)


INTERRUPTS = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Signals that save the run, with the exit code."""


@pytest.mark.second_tier
@pytest.mark.parametrize("sign", INTERRUPTS)
def test_ctrl_c_and_sigterm_save_where_it_is_and_say_so(
    run: Run, assert_equal: Any, tmp_path: Path, sign: signal.Signals
) -> None:
    output = tmp_path / "run"
    command = run(output)
    command.wait_until(reached(output, 0, EVERY_STEPS), 300)
    code, error = command.kill(sign)
    assert code == INTERRUPTS[sign], error
    state = checkpoints.latest_state(str(output))
    assert state is not None
    assert reported_position(error) == state.position()
    assert "Traceback" not in error
    command = run(output)
    code, error = command.end()
    assert code == 0, error
    assert f"resuming from {state.position()}" in error
    assert_equal(output)


@pytest.mark.second_tier
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_while_words_are_predicted_saves_too(run: Run, assert_equal: Any, tmp_path: Path, workers: int) -> None:
    output, options = tmp_path / "run", ("--mask", "--learn-vectors", "--pretrain-epochs", 400, "--workers", workers)
    command = run(output, *options)
    # After one epoch, which takes milliseconds, the driver may not have heard of it yet.
    command.wait_until(reached(output / "pretraining", 50, 0), 300)
    code, error = command.kill(signal.SIGINT)
    assert code == 130, error
    found = re.search(r"saved at (.*) of predicting words; the same command resumes there", error)
    assert found, error
    assert "no worker has started" not in error
    command = run(output, *options)
    code, error = command.end()
    assert code == 0, error
    assert f"words in 400 epochs, from {found[1]}" in error
    assert not (output / "pretraining").exists()
    assert_equal(output, *options)


def workers_of(ray_processes: Processes) -> list[int]:
    """Lists the processes of Ray Train's workers."""
    return ray_processes("RayTrainWorker")


def rows_done_again(error: str) -> int:
    """Returns the number of rows that were repeated after losses, according to the messages."""
    return sum(int(rows.replace(",", "")) for rows in re.findall(r"; ([\d,]+) rows are repeated", error))


@pytest.mark.second_tier
@pytest.mark.parametrize("collective", ["tcp", "tensorflow"])
def test_a_worker_that_is_killed_is_replaced(
    run: Run, assert_equal: Any, tmp_path: Path, ray_processes: Processes, collective: str
) -> None:
    output = tmp_path / "run"
    options = ("--workers", 2, "--collective", collective)
    command = run(output, *options)
    for epoch in (0, 2):
        command.wait_until(reached(output, epoch, 2 * EVERY_STEPS), 300)
        os.kill(random.choice(workers_of(ray_processes)), signal.SIGKILL)
    code, error = command.end()
    assert code == 0, error
    assert error.count("worker lost (") == 2
    assert len(re.findall("^resuming from epoch .* with 2 workers", error, re.MULTILINE)) == 2
    # What is saved while the worker is killed may be lost too.
    assert rows_done_again(error) <= 2 * 2 * EVERY_STEPS * BATCH
    assert_equal(output, *options)


@pytest.mark.second_tier
@pytest.mark.parametrize("sign", [signal.SIGKILL, *INTERRUPTS])
def test_the_same_command_goes_on_when_the_driver_was_stopped(
    run: Run, assert_equal: Any, tmp_path: Path, ray_processes: Processes, sign: signal.Signals
) -> None:
    output = tmp_path / "run"
    command = run(output, "--workers", 2)
    command.wait_until(reached(output, 1, 2 * EVERY_STEPS), 300)
    code, error = command.kill(sign)
    assert code == INTERRUPTS.get(sign, -sign), error
    wait_for_no(ray_processes)
    state = checkpoints.latest_state(str(output))
    assert state is not None
    if sign in INTERRUPTS:
        assert reported_position(error) == state.position()
    code, error = run(output, "--workers", 2).end()
    assert code == 0, error
    assert f"resuming from {state.position()}" in error
    assert_equal(output, "--workers", 2)


@pytest.mark.second_tier
@pytest.mark.parametrize("line", ["starting Ray", "starting 2 Ray workers"])
def test_ctrl_c_twice_before_training_ends_it_at_once(
    run: Run, tmp_path: Path, ray_processes: Processes, line: str
) -> None:
    output = tmp_path / "run"
    command = run(output, "--workers", 2)
    assert any(line in told for told in command.process.stderr)
    time.sleep(1)  # Ray is at it
    command.process.send_signal(signal.SIGINT)
    code, error = command.kill(signal.SIGINT)
    assert code == 130, error
    assert "Traceback" not in error
    wait_for_no(ray_processes)
    assert checkpoints.latest_state(str(output)) is None


def wait_for_no(ray_processes: Processes) -> None:
    """Waits until Ray has ended, as it must with its driver."""
    deadline = time.monotonic() + 120
    while left := ray_processes():
        assert time.monotonic() < deadline, f"Ray continues without its driver: {left}"
        time.sleep(0.2)


@pytest.mark.second_tier
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_stands_still_is_replaced_within_the_timeout(
    run: Run, assert_equal: Any, tmp_path: Path, ray_processes: Processes, workers: int
) -> None:
    output = tmp_path / "run"
    command = run(output, "--workers", workers, "--collective-timeout-s", 20)
    command.wait_until(reached(output, 1, EVERY_STEPS), 300)
    stopped = workers_of(ray_processes)[0]
    os.kill(stopped, signal.SIGSTOP)
    begun = time.monotonic()
    command.wait_until(lambda: stopped not in workers_of(ray_processes), 200)
    assert time.monotonic() - begun < 120
    code, error = command.end()
    assert code == 0, error
    assert error.count("worker lost (") == 1
    assert_equal(output, "--workers", workers)


@pytest.mark.second_tier
def test_workers_that_are_lost_too_often_end_the_run(run: Run, tmp_path: Path, ray_processes: Processes) -> None:
    output = tmp_path / "run"
    command = run(output, "--workers", "1:2", "--max-failures", 0)
    command.wait_until(reached(output, 0, EVERY_STEPS), 300)
    os.kill(workers_of(ray_processes)[0], signal.SIGKILL)
    code, error = command.end()
    assert code == 1
    last = error.splitlines()[-1]
    assert last.startswith("error: worker lost (")
    assert "after 0 replacements (--max-failures): the same command resumes from the last checkpoint" in last
    code, error = run(output, "--workers", 0).end()
    assert code == 0
    assert f"resuming from {State(epoch=0, step=EVERY_STEPS).position().split(',')[0]}" in error


@pytest.mark.second_tier
def test_a_diverged_run_is_not_tried_again(run: Run, tmp_path: Path) -> None:
    code, error = run(tmp_path / "run", "--workers", 2, "--learning-rate", "1e38").end()
    assert code == 1
    assert re.search(r"^error: the loss is no longer a number in epoch 1, by step \d+, at", error, re.MULTILINE), error
    assert "worker lost" not in error
    assert checkpoints.latest(str(tmp_path / "run")) is None
