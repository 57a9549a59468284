"""Logging to MLflow, against a stand-in for its client: the real one is an extra that tests do not install."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import TrainConfig, resolve
from lstm_ray.errors import ConfigError, InputError, OutputError, TrainingError
from lstm_ray.progress import Epoch
from lstm_ray.train import local, run
from lstm_ray.train.local import LocalWorkers
from lstm_ray.train.loop.mlflow_run import MlflowRun
from lstm_ray.train.loop.state import State

ROW = {"epoch": 2, "loss": 0.5, "accuracy": 0.75, "validation_loss": None}


class MlflowError(Exception):
    """The error of the stand-in when its server does not answer."""


class Client:
    """Records the calls of `mlflow.MlflowClient`, by the name of the method."""

    calls: list[tuple[Any, ...]]
    is_away: bool

    def __init__(self, tracking_uri: str | None) -> None:
        self.record("connect", tracking_uri)

    def record(self, *call: Any) -> None:
        """Records a call."""
        if type(self).is_away:
            raise MlflowError("the server\nis away")
        type(self).calls.append(call)

    def get_experiment_by_name(self, name: str) -> None:
        """Finds none."""

    def create_experiment(self, name: str) -> str:
        """Makes one."""
        self.record("create_experiment", name)
        return "7"

    def create_run(self, experiment: str, run_name: str) -> Any:
        """Makes one."""
        self.record("create_run", experiment, run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self.record(name, *arguments, *named.values())


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    """Returns the class that stands in for MLflow's client."""
    Client.calls, Client.is_away = [], False
    module = ModuleType("mlflow")
    module.MlflowClient = Client  # type: ignore[attr-defined]
    module.exceptions = SimpleNamespace(MlflowException=MlflowError)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return Client


def test_a_run_is_logged_and_continued_when_it_is_resumed(client: type[Client], tmp_path: Path, watcher: Any) -> None:
    config = TrainConfig(output=str(tmp_path / "run"), mlflow="http://tracking:5000", units=7)
    tracked = MlflowRun(config, watcher)
    tracked.begin()
    tracked(Epoch(ROW))
    tracked.finish(State(best_epoch=2))
    assert ("connect", "http://tracking:5000") in client.calls
    assert ("create_run", "7", "run") in client.calls
    assert ("log_param", "abc", "units", 7) in client.calls
    metrics = [call[2:] for call in client.calls if call[0] == "log_metric"]
    assert metrics == [("loss", 0.5, 2), ("accuracy", 0.75, 2)]
    assert client.calls[-3:] == [
        ("set_tag", "abc", "model", str(tmp_path / "run/model")),
        ("set_tag", "abc", "best_epoch", 2),
        ("set_terminated", "abc", "FINISHED"),
    ]
    assert watcher.epochs == [ROW], "the other still receives them"
    client.calls.clear()
    MlflowRun(config, watcher).begin()
    assert client.calls == [("connect", "http://tracking:5000"), ("update_run", "abc", "RUNNING")]


def test_a_server_that_does_not_answer_prevents_the_start_of_a_run_but_does_not_end_it(
    client: type[Client], tmp_path: Path, watcher: Any
) -> None:
    config = TrainConfig(output=str(tmp_path / "run"), mlflow="yes")
    tracked = MlflowRun(config, watcher)
    tracked.begin()
    assert ("connect", None) in client.calls
    client.is_away = True
    tracked(Epoch(ROW))
    tracked.finish(State())
    assert watcher.said[0] == "note: MLflow did not receive epoch 2: the server is away"
    assert watcher.said[1].startswith("note: MLflow was not notified that the run is finished")
    with pytest.raises(OutputError, match="--mlflow yes: the server is away"):
        MlflowRun(config, watcher).begin()


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "KILLED"), (TrainingError("no"), "FAILED")])
def test_a_run_that_fails_or_is_interrupted_is_ended_in_mlflow(
    client: type[Client],
    tmp_path: Path,
    watcher: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: str,
) -> None:
    texts = [f"{'good' if number % 2 else 'bad'} film {number}" for number in range(20)]
    pq.write_table(pa.table({"text": texts, "label": [number % 2 for number in range(20)]}), tmp_path / "in.parquet")

    class Failing(LocalWorkers):
        def run(self, config: TrainConfig, prepared: Any) -> State:
            raise error

    monkeypatch.setattr(local, "LocalWorkers", Failing)
    config = TrainConfig(train=(str(tmp_path / "in.parquet"),), output=str(tmp_path / "run"), mlflow="http://tracking")
    with pytest.raises(type(error)):
        run.train(config, watcher)
    assert client.calls[-1] == ("set_terminated", "abc", status)


def test_what_fails_before_a_run_starts_is_not_logged(client: type[Client], tmp_path: Path, watcher: Any) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [7]}), tmp_path / "in.parquet")
    config = TrainConfig(train=(str(tmp_path / "in.parquet"),), output=str(tmp_path / "run"), mlflow="http://tracking")
    with pytest.raises(InputError):
        run.train(config, watcher)
    assert client.calls == []


def test_without_mlflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, watcher: Any) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"--mlflow needs MLflow: pip install 'lstm-ray\[mlflow\]'"):
        MlflowRun(TrainConfig(mlflow="yes"), watcher)


def test_a_database_needs_more_than_the_client(
    client: type[Client], monkeypatch: pytest.MonkeyPatch, watcher: Any
) -> None:
    def lacks(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'alembic'")

    monkeypatch.setattr(client, "get_experiment_by_name", lacks)
    with pytest.raises(ConfigError, match=r"sqlite:///runs.db needs more .* pip install mlflow \(No module"):
        MlflowRun(TrainConfig(output="run", mlflow="sqlite:///runs.db"), watcher).begin()


@pytest.mark.parametrize(("written", "expected"), [("yes", "yes"), ("no", None), ("http://a:1", "http://a:1")])
def test_a_job_file_may_say_yes(tmp_path: Path, written: str, expected: str | None) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"mlflow: {written}\n", encoding="utf-8")
    assert resolve(TrainConfig, {}, path).mlflow == expected
