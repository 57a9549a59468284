"""Corpora for the runs, the real command as a process, one Ray for the whole session, and a stand-in for S3."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from heads import LIMIT_S, PLANTED, ProcessList, RayCluster, kill, processes_of
from stores import KEYS, S3, s3_server

from lstm_ray.datasets.demo import write_demo
from lstm_ray.storage import locations


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exempts a warning that Ray causes from "warnings are errors"."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(_EXEMPTION))


# Ray Data's context sets its own deprecated settings when Ray is imported and when a run begins.
_EXEMPTION = "ignore:`use_(push_based_shuffle|polars|arrow_tensor_v2)` is deprecated:DeprecationWarning"


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a directory of two Parquet files, 260 labelled reviews of 3 to 40 words, 5 row groups."""
    generator = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(250)])
    chances = 1 / np.arange(2, 252)
    texts, labels = [], generator.integers(0, 2, 260)
    for label in labels:
        chosen = generator.choice(words, generator.integers(2, 40), p=chances / chances.sum())
        position = generator.integers(0, len(chosen))
        texts.append(" ".join(np.insert(chosen, position, "splendid" if label else "dreadful")))
    table = pa.table({"text": texts, "label": labels})
    directory = tmp_path_factory.mktemp("reviews")
    pq.write_table(table.slice(0, 150), directory / "a.parquet", row_group_size=64)
    pq.write_table(table.slice(150), directory / "b.parquet", row_group_size=64)
    return directory


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a directory of two Parquet files, 40,000 demo reviews with the numbers of their rows, 50 row groups."""
    few = pq.read_table(write_demo(tmp_path_factory.mktemp("demo"), rows=4_000).train, columns=["text", "product"])
    table = pa.concat_tables([few] * 10)
    table = table.append_column("row", pa.array(np.arange(len(table))))
    directory = tmp_path_factory.mktemp("numbered")
    pq.write_table(table.slice(0, 20_000), directory / "a.parquet", row_group_size=500)
    pq.write_table(table.slice(20_000), directory / "b.parquet", row_group_size=2_000)
    return directory


class Command:
    """A running `lstm-ray`.

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

    def wait_until(self, condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
        """Waits until a condition holds; fails if the command ends first."""
        begun = time.monotonic()
        while not condition():
            assert self.process.poll() is None, f"the command ended first: {self.end()}"
            assert time.monotonic() < begun + limit_s
            time.sleep(0.002)

    def kill(self, sign: int = signal.SIGKILL) -> tuple[int, str]:
        """Sends a signal to the process and waits for its end; returns what `end` returns."""
        self.process.send_signal(sign)
        return self.end()

    def end(self) -> tuple[int, str]:
        """Waits for its end; returns its exit code and what it wrote to stderr."""
        stderr = self.process.communicate(timeout=LIMIT_S)[1]
        return self.process.returncode, stderr


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    """Gives a function that starts `lstm-ray`. Commands still running when the test ends are killed."""
    started: list[Command] = []

    def start_it(*arguments: object, **settings: str) -> Command:
        started.append(Command(tuple(map(str, arguments)), settings))
        return started[-1]

    yield start_it
    for command in started:
        if command.process.poll() is None:
            command.kill()


@pytest.fixture(scope="session")
def running() -> Iterator[RayCluster]:
    """Gives the Ray that all tests share, except those that break one: a node of 3 CPUs.

    Only commands use it, never pytest's own process: Ray ends a process, without a message, in which a thread calls
    Ray after its end. A command that ends gives back what it took, but for three actors of Ray Data without CPUs.
    """
    with RayCluster() as made:
        made.start_node(cpus=3, dashboard=True)
        yield made


@pytest.fixture
def ray_nodes() -> Iterator[RayCluster]:
    """Gives a cluster without nodes, for a test that breaks it or needs another size. A node costs 10 s."""
    with RayCluster() as made:
        yield made


@pytest.fixture
def ray_directory() -> Iterator[str]:
    """Gives a directory for the files of a Ray that a command starts; kills Ray's processes there at the end."""
    directory = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's socket paths have to be short
    yield directory
    for process_id in processes_of(directory):
        kill(process_id)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def ray_processes(ray_directory: str) -> Callable[..., list[int]]:
    """Gives a function that lists the processes of `ray_directory`, or those whose command contains a name."""
    return lambda name="": processes_of(ray_directory, name)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """Gives a server that stands in for S3, with one empty bucket."""
    with s3_server() as server:
        yield server


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sets the variables that AWS clients read, and drops connections made with others."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    locations._connect.cache_clear()
    yield
    locations._connect.cache_clear()


def read_parts(output: Path) -> dict[str, bytes]:
    """Returns the parts by name."""
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}


@pytest.fixture(scope="session")
def parts() -> Callable[[Path], dict[str, bytes]]:
    """Gives a function that returns the parts of an output by name."""
    return read_parts


@pytest.fixture
def no_secret(running: RayCluster, tmp_path: Path) -> Iterator[None]:
    """Fails if a test leaves a secret in a command line, in Ray's files and logs, or in its own files."""
    watching = ProcessList()
    try:
        yield
    finally:
        seen = watching.end()
    assert seen == set()
    files = [path for top in (tmp_path, running.directory) for path in top.rglob("*") if path.is_file()]
    assert any(path.name.startswith("worker-") for path in files), "Ray's logs are among them"
    assert [path for path in files if PLANTED.encode() in path.read_bytes()] == []


OWN = """
import keras
from keras import layers
from near import Total

small = {"units": 4, "embedding_size": 4, "vocabulary_size": 50, "max_tokens": 12, "epochs": 1, "clip_norm": 1.0}

def build(text, model):
    ids = keras.Input((text.max_tokens,), dtype="int32")
    words = layers.Embedding(text.vocabulary_size, model.embedding_size)(ids)
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(Total()(layers.GRU(4, return_sequences=True)(words))))
"""
NEAR = """
import os
from pathlib import Path

import keras

Path("PLACE", str(os.getpid())).write_text(__file__)

@keras.saving.register_keras_serializable(package="mine")
class Total(keras.layers.Layer):
    def call(self, states):
        return keras.ops.sum(states, axis=1)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Gives a directory with a preset, a function that builds a network, and a layer.

    Every process that imports the layer's module writes to a file where it found the module: on one machine Ray's
    workers could import it from the directory of the command, on several machines they could not.
    """
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "code" / "near.py").write_text(NEAR.replace("PLACE", str(tmp_path / "seen")), encoding="utf-8")
    (tmp_path / "seen").mkdir()
    return tmp_path / "code"


@pytest.fixture
def model(make_bundle: Callable[..., Path]) -> Path:
    """Gives the bundle of a small model."""
    return make_bundle()
