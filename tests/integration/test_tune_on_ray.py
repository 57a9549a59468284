"""A search on a local Ray: interrupted, gone on with, asked for more; its best settings train."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from lstm_ray.cli.app import main
from lstm_ray.config import TrainConfig, resolve

pytestmark = pytest.mark.long

SETTINGS = {
    "command": "tune",
    "vocabulary_size": 200,
    "max_tokens": 12,
    "embedding_size": 4,
    "epochs": 3,
    "trials": 3,
    "cpus_per_worker": 0.5,
    "search": {"units": {"choice": [3, 5]}, "learning_rate": {"choice": [0.01, 0.001, 3e38]}},
}


@pytest.fixture
def job(tmp_path: Path, reviews: Path) -> Path:
    """Gives a job file of a search; the third of its trials diverges."""
    path = tmp_path / "tune.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "train": str(reviews), "output": str(tmp_path / "search")}), "utf-8")
    return path


def test_an_interrupted_search_goes_on_and_its_best_settings_train(
    job: Path,
    tmp_path: Path,
    start: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    search = tmp_path / "search"
    command = start("tune", job)
    command.wait_until(lambda: any(search.glob("trials/*/checkpoints/*/state.json")), limit_s=300)
    code, stderr = command.kill(signal.SIGINT)
    assert code == 130
    assert "the same command goes on with the trials that are left" in stderr
    assert not (search / "best.yaml").exists()

    assert run(monkeypatch, "tune", str(job)) == 0
    captured = capfd.readouterr()
    assert "epoch 1, validation accuracy" in captured.err
    assert "best epoch  state" in captured.err, "the table is on stderr"
    assert "trials.parquet" in captured.out
    first = pq.read_table(search / "trials.parquet")
    assert sorted(first["trial"].to_pylist()) == [1, 2, 3]
    accuracies = first["validation_accuracy"].drop_null().to_pylist()
    assert accuracies == sorted(accuracies, reverse=True)
    assert "finished" in first["state"].to_pylist()
    assert {path.name for path in search.iterdir()} == {
        *(".lock", "tune.yaml", "trials", "trials.parquet", "best.yaml")
    }

    before = {path: path.read_bytes() for path in search.rglob("*") if path.is_file()}
    assert run(monkeypatch, "tune", str(job)) == 0
    assert "3 trials, 0 to run" in capfd.readouterr().err
    after = {path: path.read_bytes() for path in search.rglob("*") if path.is_file()}
    assert after == before

    assert run(monkeypatch, "tune", str(job), "--epochs", "4") == 1
    assert "holds a search with other settings (--epochs)" in capfd.readouterr().err
    assert run(monkeypatch, "tune", str(job), "--trials", "4") == 0
    assert "4 trials, 1 to run" in capfd.readouterr().err
    assert set(first["trial"].to_pylist()) < set(pq.read_table(search / "trials.parquet")["trial"].to_pylist())

    config = resolve(TrainConfig, {}, search / "best.yaml")
    assert config.output == str(search / "best")
    assert run(monkeypatch, "train", "--config", str(search / "best.yaml")) == 0
    assert (search / "best/model/bundle.json").exists()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs `lstm-ray` in this process and returns its exit code."""
    monkeypatch.setattr("sys.argv", ["lstm-ray", *arguments])
    with pytest.raises(SystemExit) as exit:
        main()
    return int(exit.value.code or 0)
