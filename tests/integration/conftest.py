"""Corpora for the runs, and the real command in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.datasets.demo import generate_reviews


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exempts from "warnings are errors" what Ray and Keras cause and nobody here can change."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for exemption in _EXEMPTIONS:
                item.add_marker(pytest.mark.filterwarnings(exemption))


_EXEMPTIONS = (
    # Keras turns its variables into arrays through an __array__ without `copy`, which NumPy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    # Ray Data's context sets its own deprecated settings when Ray is imported and when a run begins.
    "ignore:`use_(push_based_shuffle|polars|arrow_tensor_v2)` is deprecated:DeprecationWarning",
)


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a directory of two Parquet files, 260 labelled reviews of 3 to 40 words, 5 row groups."""
    generator = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(250)])
    chances = 1 / np.arange(2, 252)
    texts, labels = [], generator.integers(0, 2, 260)
    for label in labels:
        chosen = generator.choice(words, generator.integers(2, 40), p=chances / chances.sum())
        place = generator.integers(0, len(chosen))
        texts.append(" ".join(np.insert(chosen, place, "splendid" if label else "dreadful")))
    table = pa.table({"text": texts, "label": labels})
    directory = tmp_path_factory.mktemp("reviews")
    pq.write_table(table.slice(0, 150), directory / "a.parquet", row_group_size=64)
    pq.write_table(table.slice(150), directory / "b.parquet", row_group_size=64)
    return directory


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a directory of two Parquet files, 40,000 demo reviews with the numbers of their rows, 50 row groups."""
    few = generate_reviews(4_000, 0).select(["text", "product"])
    table = pa.concat_tables([few] * 10)
    table = table.append_column("row", pa.array(np.arange(len(table))))
    directory = tmp_path_factory.mktemp("numbered")
    pq.write_table(table.slice(0, 20_000), directory / "a.parquet", row_group_size=500)
    pq.write_table(table.slice(20_000), directory / "b.parquet", row_group_size=2_000)
    return directory


class Command:
    """An `lstm-ray` that runs.

    Attributes:
        process: The process.
    """

    def __init__(self, arguments: tuple[str, ...], settings: dict[str, str]) -> None:
        """Starts it in a session of its own, with `settings` in its environment."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from lstm_ray.cli import main; main()", *arguments],
            env={**os.environ, "COLUMNS": "200", **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_until(self, condition: Callable[[], bool], limit_s: float = 60) -> None:
        """Waits until something is so; the command has to run on meanwhile."""
        begun = time.monotonic()
        while not condition():
            assert self.process.poll() is None, f"it ended too early: {self.end()}"
            assert time.monotonic() < begun + limit_s
            time.sleep(0.002)

    def kill(self, sign: int = signal.SIGKILL) -> tuple[int, str]:
        """Sends a signal to this process alone and waits for its end."""
        self.process.send_signal(sign)
        return self.end()

    def end(self) -> tuple[int, str]:
        """Waits for its end; returns its exit code and what it wrote to stderr."""
        stderr = self.process.communicate(timeout=300)[1]
        return self.process.returncode, stderr


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    """Gives a function that starts `lstm-ray`. What runs still at the end of the test is killed."""
    started: list[Command] = []

    def start_it(*arguments: object, **settings: str) -> Command:
        started.append(Command(tuple(map(str, arguments)), settings))
        return started[-1]

    yield start_it
    for command in started:
        if command.process.poll() is None:
            command.kill()


def read_parts(output: Path) -> dict[str, bytes]:
    """Returns the parts by name."""
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}


@pytest.fixture(scope="session")
def parts() -> Callable[[Path], dict[str, bytes]]:
    """Gives a function that returns the parts of an output by name."""
    return read_parts
