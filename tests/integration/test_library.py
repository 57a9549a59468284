"""lstm_ray in a program that has a Ray session of its own, as a notebook has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SESSION = """
import collections, logging, os, random, signal

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import ray

import lstm_ray
from lstm_ray.errors import LstmRayError

texts = [f"{'good' if number % 2 else 'bad'} film {number}" for number in range(200)]
pq.write_table(pa.table({"text": texts, "label": [number % 2 for number in range(200)]}), "in.parquet")
ray.init(num_cpus=3, include_dashboard=False)
counter = ray.remote(lambda: os.getpid())
before_all = ray.get(counter.remote())


def state():
    return {
        "environment": dict(os.environ),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "descriptors": {number: os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)},
        "random numbers": (random.getstate(), repr(numpy.random.get_state())),
        "session": ray.get_runtime_context().get_job_id(),
        "log levels": {name: logging.getLogger(name).level for name in ("", "ray", "ray.data")},
        "progress bars": ray.data.DataContext.get_current().enable_progress_bars,
    }


def open_files():
    # Not connections: those of Ray come and go.
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # that of the listing itself
            pass
    return collections.Counter(path for path in found if path.startswith("/"))


def work(name):
    small = {"preset": "none", "vocabulary_size": 50, "embedding_size": 4, "units": 4, "epochs": 1}
    run = lstm_ray.train("in.parquet", output=f"{name}/run", **small)
    model = lstm_ray.load(run.model)
    assert model.predict("good film").label in model.labels
    scored = lstm_ray.score("in.parquet", model=run.model, output=f"{name}/scored", actors=1)
    assert scored.rows == 200
    measured = lstm_ray.evaluate("in.parquet", model=run.model, address="auto", allow_seen_files=True)
    assert measured.metrics["rows"] == 200
    for wrong in (
        lambda: lstm_ray.train("missing.parquet", output=f"{name}/other"),
        lambda: lstm_ray.train("in.parquet", output=f"{name}/run", **{**small, "units": 5}),
        lambda: lstm_ray.train("in.parquet", output=f"{name}/other", epochs="many"),
        lambda: lstm_ray.score("in.parquet", model=run.model, output=f"{name}/other", actors=1, address="head:6379"),
        lambda: lstm_ray.load(f"{name}/run"),
        lambda: model.predict([1]),
    ):
        try:
            wrong()
        except LstmRayError as error:
            assert "--" not in str(error), error
        else:
            raise AssertionError("no error")
    return run, model


import ray.data

before = state()
work("first")  # loads TensorFlow and Ray Data, which keep files open
files = open_files()
run, model = work("second")
after = state()
for part in before:
    assert after[part] == before[part], (part, before[part], after[part])
print("left open:", *open_files() - files)
rows = ray.data.from_items([{"text": "good film"}, {"text": None}]).map_batches(model).take_all()
assert [row["sentiment_error"] for row in rows] == [None, "null_text"], rows
assert ray.is_initialized() and ray.get(counter.remote())
print("alive")
"""


@pytest.mark.second_tier
def test_a_session_of_the_programs_own_is_left_as_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SESSION]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["left open:", "alive"]
