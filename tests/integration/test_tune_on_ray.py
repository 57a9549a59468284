"""A search on a local Ray: interrupted, resumed after a killed process, extended; its best settings train."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import fs

from lstm_ray.config import TrainConfig, resolve

pytestmark = pytest.mark.second_tier

TRIAL = "ImplicitFunc"  # what Ray Tune calls the process of a trial
SETTINGS = {
    "command": "tune",
    "preset": "none",
    "vocabulary_size": 200,
    "max_tokens": 12,
    "embedding_size": 4,
    "epochs": 3,
    "trials": 3,
    "cpus_per_worker": 0.5,
    "search": {
        "units": {"choice": [3, 5]},
        "learning_rate": {"choice": [0.01, 0.001, 3e38]},  # 3e38 for the first trial
        "warmup_steps": {"choice": [0, 0, 9_999]},  # 9,999 for the fourth: more than its steps
    },
}


@pytest.fixture
def job(tmp_path: Path, reviews: Path) -> Path:
    """Gives the job file of a search whose first trial diverges; a fourth trial could not start."""
    path = tmp_path / "tune.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "train": str(reviews), "output": str(tmp_path / "search")}), "utf-8")
    return path


def test_an_interrupted_search_goes_on_and_its_best_settings_train(
    job: Path,
    tmp_path: Path,
    start: Callable[..., Any],
    ray_directory: str,
    ray_processes: Callable[..., list[int]],
) -> None:
    search = tmp_path / "search"

    def run(*arguments: object, code: int = 0) -> tuple[str, str]:
        command = start(*arguments, RAY_TMPDIR=ray_directory)
        stdout, stderr = command.process.communicate(timeout=300)
        assert command.process.returncode == code, stderr
        return stdout, stderr

    command = start("tune", job, RAY_TMPDIR=ray_directory)
    command.wait_until(lambda: ray_processes(TRIAL), limit_s=300)
    os.kill(ray_processes(TRIAL)[0], signal.SIGKILL)
    command.wait_until(lambda: any(search.glob("trials/*/checkpoints/*.npz")), limit_s=300)
    for sign, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        code, stderr = command.kill(sign)
        assert code == expected
        assert "interrupted: the same command resumes with the remaining trials" in stderr
        assert not (search / "best.yaml").exists()
        if sign == signal.SIGINT:
            command = start("tune", job, RAY_TMPDIR=ray_directory)
            command.wait_until(lambda: ray_processes(TRIAL), limit_s=300)

    stdout, stderr = run("tune", job)
    assert "epoch 1, validation accuracy" in stderr
    assert "best epoch  state" in stderr, "the table is on stderr"
    assert "trials.parquet" in stdout
    first = pq.read_table(search / "trials.parquet")
    assert sorted(first["trial"].to_pylist()) == [1, 2, 3]
    accuracies = first["validation_accuracy"].drop_null().to_pylist()
    assert accuracies == sorted(accuracies, reverse=True)
    assert "finished" in first["state"].to_pylist()
    assert {path.name for path in search.iterdir()} == {
        *(".lock", "tune.yaml", "trials", "trials.parquet", "trials.png", "report.html", "best.yaml")
    }

    before = {path: path.read_bytes() for path in search.rglob("*") if path.is_file()}
    assert "3 trials, 0 to run" in run("tune", job)[1]
    after = {path: path.read_bytes() for path in search.rglob("*") if path.is_file()}
    assert after == before

    assert "holds a search with other settings (--epochs)" in run("tune", job, "--epochs", 4, code=1)[1]
    told = run("tune", job, "--trials", 4)[1]
    assert "4 trials, 1 to run" in told
    assert "trial 4: failed: --warmup-steps is 9999, but the whole run has " in told
    assert "completed" not in told, "Ray's own line"
    failed = pq.read_table(search / "trials.parquet").to_pylist()[2:]
    assert {trial["trial"]: trial["state"] for trial in failed} == {1: "failed", 4: "failed"}
    assert "9999" in next(trial["error"] for trial in failed if trial["trial"] == 4)
    assert set(first["trial"].to_pylist()) < set(pq.read_table(search / "trials.parquet")["trial"].to_pylist())

    config = resolve(TrainConfig, {}, search / "best.yaml")
    assert config.output == str(search / "best")
    run("train", "--config", search / "best.yaml")
    assert (search / "best/model/bundle.json").exists()


def test_a_search_on_s3_at_an_endpoint_of_its_own(
    job: Path, s3: tuple[str, fs.S3FileSystem], aws_environment: None, start: Callable[..., Any], ray_directory: str
) -> None:
    endpoint, direct = s3
    settings = yaml.safe_load(job.read_text(encoding="utf-8"))
    uri = f"s3://bucket/search?endpoint_override={endpoint}&scheme=http"
    job.write_text(yaml.safe_dump({**settings, "output": uri, "epochs": 1, "trials": 2}), "utf-8")
    code, stderr = start("tune", job, RAY_TMPDIR=ray_directory).end()
    assert code == 0, stderr
    found = direct.get_file_info(fs.FileSelector("bucket/search", recursive=True))
    names = {info.path.removeprefix("bucket/search/") for info in found if info.type == fs.FileType.File}
    assert {"tune.yaml", "best.yaml", "trials.parquet"} <= names
    assert {"trials/0001.trial.json", "trials/0002.trial.json", "trials/0002/model/bundle.json"} <= names
    assert not any(name.startswith("ray/") for name in names)
