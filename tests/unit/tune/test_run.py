"""The directory of a search: started, resumed, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lstm_ray.config import TrainConfig, TuneConfig, resolve
from lstm_ray.errors import ConfigError, OutputError
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.state import State
from lstm_ray.tune import ray_trials, run
from lstm_ray.tune.results import FINISHED, mark


@pytest.fixture
def config(tmp_path: Path) -> TuneConfig:
    """Gives a search in a directory that does not exist yet."""
    search = {"units": {"choice": [3, 4]}}
    settings = {"preset": "none", "train": ("a",), "output": str(tmp_path / "search"), "search": search}
    return TuneConfig.model_validate(settings)


def test_a_search_of_an_older_version_resumes(config: TuneConfig) -> None:
    run.open_search(config)
    path = Path(config.output) / "tune.yaml"
    older = yaml.safe_load(path.read_text(encoding="utf-8"))
    del older["split_on"]
    path.write_text(yaml.safe_dump(older), encoding="utf-8")
    run.open_search(config)
    with pytest.raises(OutputError, match=r"holds a search with other settings \(--split-on\)"):
        run.open_search(config.model_copy(update={"split_on": "space"}))
    other = TuneConfig.model_validate({**config.model_dump(), "preset": "lstm", "units": 128, "embedding_size": 32})
    with pytest.raises(OutputError, match=r"holds a search with other settings \(--preset, --embedding-size\)"):
        run.open_search(other)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("content", ["reeds: [5, 6]\n", "a: [", "\x00", None], ids=["music", "broken", "bytes", "none"])
def test_another_directory_is_refused(config: TuneConfig, content: str | None, fresh: bool) -> None:
    trials = Path(config.output) / "trials"
    trials.mkdir(parents=True)
    if content is not None:
        (Path(config.output) / "tune.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(OutputError, match="not empty, and not an earlier search"):
        run.open_search(config.model_copy(update={"fresh": fresh}))
    assert trials.exists()


def test_a_search_with_relative_paths_of_an_older_version_resumes(
    config: TuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run.open_search(config)
    run.open_search(config.model_copy(update={"train": (str(tmp_path / "a"),)}))
    assert str(tmp_path / "a") in (Path(config.output) / "tune.yaml").read_text(encoding="utf-8")
    with pytest.raises(OutputError, match=r"holds a search with other settings \(--train\)"):
        run.open_search(config.model_copy(update={"train": ("b",)}))


def test_keys_in_the_uri_of_mlflow_are_refused_before_they_are_written(config: TuneConfig) -> None:
    with pytest.raises(ConfigError, match="was given with keys in it"):
        run.tune(config.model_copy(update={"mlflow": "https://user:PLANTED@tracking:5000"}), print)
    assert not Path(config.output).exists()


def test_the_settings_of_a_search_hold_in_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoRayHereError(Exception):
        """Raised in place of running trials."""

    def run_trials(config: TuneConfig, trials: dict[int, TrainConfig], say: object) -> None:
        assert all(trial.train == config.train == (str(tmp_path / "in.parquet"),) for trial in trials.values())
        raise NoRayHereError

    monkeypatch.setattr(ray_trials, "run_trials", run_trials)
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"text": ["good", "bad"] * 9, "label": [1, 0] * 9}), "in.parquet")
    search = {"units": {"choice": [3]}}
    with pytest.raises(NoRayHereError):
        run.tune(resolve(TuneConfig, {"train": ("in.parquet",), "output": "search", "search": search}), print)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(NoRayHereError):
        run.tune(resolve(TuneConfig, {}, tmp_path / "search/tune.yaml"), print)


def test_fewer_trials_than_before_lose_no_better_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third of four trials is the best; the search is run again with two."""

    def run_trials(config: TuneConfig, trials: dict[int, TrainConfig], say: object) -> None:
        for number, trial in trials.items():
            metrics = {"accuracy": 0.9 if number == 3 else 0.5, "log_loss": 0.6}
            state = State(epoch=1, best_epoch=1, metrics=metrics)
            checkpoints.save(trial.output, Checkpoint(state, [np.zeros(1)], [np.zeros(1)]))
            mark(trial.output, FINISHED)

    def search(trials: int) -> run.SearchResult:
        settings = {"preset": "none", "train": (str(data),), "output": str(output)}
        settings["search"] = {"learning_rate": {"uniform": [0.1, 0.9]}}
        return run.tune(resolve(TuneConfig, {**settings, "trials": trials, "max_rows": 12}), said.append)

    monkeypatch.setattr(ray_trials, "run_trials", run_trials)
    data, output, said = tmp_path / "in.parquet", tmp_path / "search", list[str]()
    pq.write_table(pa.table({"text": ["good", "bad"] * 9, "label": [1, 0] * 9}), data)
    assert search(4).best.number == 3
    assert "Trial 3 is the best by validation accuracy" in (output / "report.html").read_text(encoding="utf-8")
    assert (output / "trials.png").read_bytes().startswith(b"\x89PNG")
    best, table = (output / "best.yaml").read_bytes(), pq.read_table(output / "trials.parquet")
    again = search(2)
    assert (again.best.number, len(again.trials)) == (3, 4)
    assert (output / "best.yaml").read_bytes() == best
    assert pq.read_table(output / "trials.parquet").equals(table)
    assert said[-1] == "best.yaml trains on all rows: it leaves out the search's --max-rows 12"
    assert resolve(TrainConfig, {}, output / "best.yaml").max_rows is None
