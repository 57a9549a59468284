"""Training from S3 to S3, against a fake server: interrupted in this process, then resumed on Ray."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import fs
from stores import BUCKET, S3

from lstm_ray.model.bundle import read_bundle
from lstm_ray.train.loop import checkpoints

pytestmark = [pytest.mark.second_tier, pytest.mark.usefixtures("aws_environment")]

EPOCHS = 3
SETTINGS = {
    "preset": "none",
    "vocabulary-size": 200,
    "max-tokens": 24,
    "embedding-size": 8,
    "units": 8,
    "dropout": 0,
    "global-batch-size": 2,  # 231 rows to train on: 116 steps an epoch
    "learning-rate": 0.01,
    "epochs": EPOCHS,
    "cpus-per-worker": 0.5,
    "checkpoint-every": "20steps",
}


@pytest.fixture
def run(start: Callable[..., Any], s3: S3, reviews: Path, ray_directory: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives a function that starts `lstm-ray train` on the bucket, with any output."""
    endpoint = f"http://{s3[0]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for path in reviews.iterdir():
        with s3[1].open_output_stream(f"{BUCKET}/in/{path.name}") as stream:
            stream.write(path.read_bytes())
    arguments = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]

    def start_it(output: str, *more: object) -> Any:
        given = ("train", "--train", f"s3://{BUCKET}/in", "--output", output, *arguments, *more)
        return start(*given, RAY_TMPDIR=ray_directory)

    return start_it


def reached(output: str, *place: int) -> Callable[[], bool]:
    """Returns a function that tells whether there is a checkpoint of this epoch and step, or a later one."""

    def is_there() -> bool:
        names = checkpoints._newest_first(output)
        return bool(names) and checkpoints._parts(names[0])[:2] >= place

    return is_there


def final_variables(output: str) -> list[np.ndarray]:
    """Returns all state of model and optimizer after the last epoch."""
    checkpoint = checkpoints.latest(output)
    assert checkpoint is not None
    assert (checkpoint.state.epoch, checkpoint.state.step) == (EPOCHS, 0)
    return checkpoint.variables


def test_a_run_on_s3_is_killed_and_goes_on(run: Any, s3: S3, tmp_path: Path) -> None:
    output = f"s3://{BUCKET}/killed"
    command = run(output)
    command.wait_until(reached(output, 1, 20), 300)
    assert command.kill()[0] == -signal.SIGKILL
    state = checkpoints.latest_state(output)
    assert state is not None
    code, error = run(output).end()
    assert code == 0, error
    assert f"resuming from {state.position()}" in error
    assert run(str(tmp_path / "undisturbed")).end()[0] == 0
    for one, other in zip(final_variables(str(tmp_path / "undisturbed")), final_variables(output), strict=True):
        np.testing.assert_array_equal(other, one)
    names = {info.base_name for info in s3[1].get_file_info(fs.FileSelector(f"{BUCKET}/killed/checkpoints"))}
    assert len(names) == checkpoints.KEPT
    assert read_bundle(f"{output}/model").metrics


def test_ray_workers_on_s3_lose_one_of_them(
    run: Any, s3: S3, tmp_path: Path, ray_processes: Callable[..., list[int]]
) -> None:
    output = f"s3://{BUCKET}/workers"
    command = run(output, "--workers", 2)
    command.wait_until(reached(output, 1, 20), 300)
    os.kill(ray_processes("RayTrainWorker")[0], signal.SIGKILL)
    code, error = command.end()
    assert code == 0, error
    assert error.count("worker lost (") == 1
    assert run(str(tmp_path / "undisturbed"), "--workers", 2).end()[0] == 0
    for one, other in zip(final_variables(str(tmp_path / "undisturbed")), final_variables(output), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-6)
    with s3[1].open_input_file(f"{BUCKET}/workers/metrics.json") as file:
        assert json.loads(file.read())["epochs"] == EPOCHS
