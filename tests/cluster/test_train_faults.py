"""Faults of a training run on several hosts: power, cables, returning nodes. Each has a cluster of its own to break."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hosts import Host

from lstm_ray.train import checkpoints

pytestmark = pytest.mark.long

EVERY_STEPS = 50
BATCH = 8
TIMEOUT_S = 20
EPOCHS = 12
SETTINGS = {
    "max-rows": 2000,  # about 1,800 to train on: 225 steps an epoch
    "vocabulary-size": 500,
    "max-tokens": 60,
    "embedding-size": 16,
    "units": 32,
    "dropout": 0,
    "global-batch-size": BATCH,
    "epochs": EPOCHS,
    "checkpoint-every": f"{EVERY_STEPS}steps",
    "collective-timeout-s": TIMEOUT_S,
}

WaitUntil = Callable[..., None]


class Training:
    """A run of `lstm-ray train` on a host, whose messages are kept with the seconds at which they came.

    Attributes:
        told: Messages and times.
    """

    def __init__(self, host: Host, *arguments: object) -> None:
        """Starts it."""
        self.told: list[tuple[float, str]] = []
        self._process = host.start_lstm_ray("train", *arguments)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.told.append((time.monotonic(), line.rstrip()))

    def end(self, limit_s: float = 500) -> str:
        """Waits for its end, which must be good; returns all messages."""
        try:
            code = self._process.wait(limit_s)
        finally:
            self._process.kill()
            self._reader.join()
        text = "\n".join(line for _, line in self.told)
        assert code == 0, text
        return text

    def when(self, pattern: str) -> float:
        """Returns when the first message that matches came."""
        return next(moment for moment, line in self.told if re.search(pattern, line))

    def has_told(self, pattern: str) -> bool:
        """Says whether a message that matches has come; the run must go on until then."""
        found = any(re.search(pattern, line) for _, line in self.told)
        assert found or self._process.poll() is None, self.told
        return found


@dataclass(frozen=True)
class Place:
    """A cluster of a head without room for workers, and two hosts with a core each; and the function that trains there.

    Attributes:
        head: Where the command runs.
        workers: The two others.
        train: Starts a run into a directory.
    """

    head: Host
    workers: tuple[Host, Host]
    train: Callable[..., Training]


@pytest.fixture
def place(add_host: Callable[[], Host], reviews: Path) -> Place:
    """Gives a cluster to break."""
    head, one, two = add_host(), add_host(), add_host()
    head.start_ray(cpus=0)
    for worker, starting in [(worker, worker.begin_ray(head)) for worker in (one, two)]:
        worker.finish_ray(starting, head)

    def train(output: Path, *more: object) -> Training:
        return Training(head, "--train", reviews, "--output", output, *options(), "--address", "auto", *more)

    return Place(head, (one, two), train)


def options() -> list[object]:
    """Returns the settings as options."""
    return [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]


@pytest.fixture
def assert_equal(reviews: Path, tmp_path: Path, add_host: Callable[[], Host]) -> Callable[[Path, float], None]:
    """Gives a function that compares a run's end with that of one process that nothing happened to."""

    def compare(output: Path, tolerance: float) -> None:
        alone = tmp_path / "alone"
        done = add_host().lstm_ray("train", "--train", reviews, "--output", alone, *options(), limit_s=500)
        assert done.returncode == 0, done.stderr
        for one, other in zip(final_variables(alone), final_variables(output), strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=tolerance)

    return compare


def final_variables(output: Path) -> list[np.ndarray]:
    """Returns all state of model and optimizer after the last epoch."""
    checkpoint = checkpoints.latest(str(output))
    assert checkpoint is not None
    assert (checkpoint.state.epoch, checkpoint.state.step) == (SETTINGS["epochs"], 0)
    return checkpoint.variables


def has_saved(output: Path, *place: int) -> Callable[[], bool]:
    """Returns what says whether there is a checkpoint of an epoch and step, or a later one."""

    def is_there() -> bool:
        state = checkpoints.latest_state(str(output))
        return state is not None and (state.epoch, state.step) >= place

    return is_there


def broken_host(place: Place) -> Host:
    """Returns a host on which a worker of the run is."""
    return next(host for host in place.workers if host.runs("RayTrainWorker"))


LOST = r"^worker lost \("


@pytest.mark.parametrize("fault", ["power", "cable"])
def test_a_lost_host_is_done_without_and_taken_back(
    place: Place,
    assert_equal: Callable[[Path, float], None],
    wait_until: WaitUntil,
    tmp_path: Path,
    fault: str,
) -> None:
    output = tmp_path / "run"
    training = place.train(output, "--workers", "1:2")
    wait_until(lambda: training.has_told("with 2 workers"), 300)
    wait_until(has_saved(output, 0, EVERY_STEPS), 300)
    host = broken_host(place)
    broken = time.monotonic()
    host.kill_ray() if fault == "power" else host.link_down()
    wait_until(lambda: training.has_told(LOST), 120)
    wait_until(lambda: training.has_told("with 1 worker;|with 1 worker$"), 300)
    print(f"{fault}: lost after {training.when(LOST) - broken:.0f} s, at work after ", end="")
    print(f"{training.when('with 1 worker') - broken:.0f} s")
    if fault == "cable":
        host.kill_ray()
        host.link_up()
    returned = time.monotonic()
    host.start_ray(place.head)
    wait_until(lambda: sum("with 2 workers" in line for _, line in training.told) == 2, 300)
    print(f"taken back after {training.told[-1][0] - returned:.0f} s")
    text = training.end()
    print(text)
    again = [int(rows.replace(",", "")) for rows in re.findall(r"([\d,]+) rows are done again", text)]
    assert max(again, default=0) <= 2 * EVERY_STEPS * BATCH
    # Other numbers of workers add up in another order: 1.2e-5 apart was seen after 2,700 steps. A step of Adam left out
    # or taken twice would be some 1e-3.
    assert_equal(output, 1e-4)
