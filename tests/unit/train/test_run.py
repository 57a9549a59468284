"""A run's directory: begun, resumed, finished; never mistaken for another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lstm_ray.config import TrainConfig, resolve
from lstm_ray.errors import ConfigError, OutputError
from lstm_ray.model.bundle import read_bundle
from lstm_ray.train import run

pytestmark = pytest.mark.filterwarnings(
    # Keras turns its variables into arrays through an __array__ without `copy`, which NumPy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture
def settings(tmp_path: Path) -> TrainConfig:
    """Gives settings of a run that takes a second."""
    texts = [f"{'good' if number % 2 else 'bad'} film {number}" for number in range(60)]
    pq.write_table(pa.table({"text": texts, "label": [number % 2 for number in range(60)]}), tmp_path / "in.parquet")
    return TrainConfig.model_validate(
        {
            "train": (str(tmp_path / "in.parquet"),),
            "output": str(tmp_path / "run"),
            "vocabulary_size": 20,
            "max_tokens": 4,
            "embedding_size": 3,
            "units": 2,
            "epochs": 2,
            "validation_fraction": 0.3,
        }
    )


def changed(settings: TrainConfig, **changes: Any) -> TrainConfig:
    """Returns other settings."""
    return TrainConfig.model_validate({**settings.model_dump(), **changes})


def test_a_run_among_its_own_inputs_is_refused(tmp_path: Path) -> None:
    """Its history.parquet would be read as reviews next time."""
    for side in ("train", "validation"):
        config = TrainConfig.model_validate({"train": ("x",), side: (str(tmp_path),), "output": str(tmp_path / "run")})
        with pytest.raises(ConfigError, match=r"--output .*/run is inside the input "):
            run.check_inputs(config)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_or_missing_directory_begins_a_run(settings: TrainConfig) -> None:
    assert not run.open_run(settings)
    Path(settings.output).mkdir()
    assert not run.open_run(settings)
    run.begin_run(settings)
    assert run.open_run(settings)


@pytest.mark.parametrize(
    "change",
    [{"epochs": 9}, {"workers": 2}, {"workers": 1, "cpus_per_worker": 3}, {"workers": 1, "address": "auto"}],
    ids=str,
)
def test_a_run_goes_on_with_more_epochs_or_elsewhere(settings: TrainConfig, change: dict[str, Any]) -> None:
    run.begin_run(settings)
    assert run.open_run(changed(settings, **change))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 5}, ["--seed 0 there, 5 here"]),
        ({"units": 7, "padding": "post"}, ["--units 2 there, 7 here", "--padding pre there, post here"]),
        ({"train": ("other.parquet", "more.parquet")}, ["in.parquet there, other.parquet more.parquet here"]),
        ({"max_rows": 40}, ["--max-rows none there, 40 here"]),
        ({"mask": True, "validation": ("in.parquet",)}, ["--mask no there, yes here", "--validation none there, "]),
        ({"global_batch_size": 8, "epochs": 7}, ["--global-batch-size 64 there, 8 here"]),
    ],
    ids=str,
)
def test_other_settings_are_refused_and_named(settings: TrainConfig, change: dict[str, Any], named: list[str]) -> None:
    run.begin_run(settings)
    before = (Path(settings.output) / "config.yaml").read_bytes()
    with pytest.raises(OutputError, match="holds a run with other settings") as error:
        run.open_run(changed(settings, **change))
    for part in named:
        assert part in str(error.value)
    assert "epochs" not in str(error.value)
    assert "--fresh" in str(error.value)
    assert (Path(settings.output) / "config.yaml").read_bytes() == before


def test_a_setting_that_an_older_version_did_not_know_has_its_default(settings: TrainConfig) -> None:
    run.begin_run(settings)
    path = Path(settings.output) / "config.yaml"
    older = yaml.safe_load(path.read_text(encoding="utf-8"))
    del older["split_on"]
    path.write_text(yaml.safe_dump(older), encoding="utf-8")
    assert run.open_run(settings)
    with pytest.raises(OutputError, match="--split-on whitespace there, space here"):
        run.open_run(changed(settings, split_on="space"))


@pytest.mark.parametrize("fresh", [True, False])
def test_a_directory_of_somebody_else_is_refused(settings: TrainConfig, fresh: bool) -> None:
    Path(settings.output).mkdir()
    (Path(settings.output) / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match="not empty, and not an earlier run"):
        run.open_run(changed(settings, fresh=fresh))
    assert (Path(settings.output) / "thesis.txt").exists()


def test_fresh_deletes_an_earlier_run(settings: TrainConfig) -> None:
    run.begin_run(settings)
    (Path(settings.output) / "history.parquet").write_bytes(b"old")
    fresh = changed(settings, fresh=True, seed=3)
    assert not run.open_run(fresh)
    assert (Path(settings.output) / "history.parquet").exists(), "looking changes nothing"
    run.begin_run(fresh)
    assert [path.name for path in Path(settings.output).iterdir()] == ["config.yaml"]


def test_the_settings_of_a_run_repeat_it(settings: TrainConfig) -> None:
    run.begin_run(settings)
    written = yaml.safe_load((Path(settings.output) / "config.yaml").read_text(encoding="utf-8"))
    assert written.pop("command") == "train"
    assert TrainConfig.model_validate(written) == settings


def test_the_settings_of_a_fresh_run_do_not_delete_it(settings: TrainConfig) -> None:
    run.begin_run(changed(settings, fresh=True))
    written = yaml.safe_load((Path(settings.output) / "config.yaml").read_text(encoding="utf-8"))
    assert written["fresh"] is False
    assert run.open_run(settings)


def test_a_run_is_finished_once_and_goes_on_for_more_epochs(settings: TrainConfig, watcher: Any) -> None:
    output = Path(settings.output)
    first = run.train(settings, watcher)
    assert not first.was_finished
    assert {path.name for path in output.iterdir()} == {
        *(
            ".lock",
            "config.yaml",
            "model",
            "checkpoints",
            "tensorboard",
            "history.parquet",
            "history.png",
            "metrics.json",
            "report.html",
        )
    }
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}

    again = run.train(settings, watcher)
    assert again.was_finished
    assert again.state == first.state
    assert (again.training_rows, again.validation_rows) == (first.training_rows, first.validation_rows)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before

    more = run.train(changed(settings, epochs=3), watcher)
    assert not more.was_finished
    assert more.state.history[:2] == first.state.history
    assert "going on from the end of epoch 2" in watcher.said
    history = pq.read_table(output / "history.parquet")
    assert history.schema.equals(run.HISTORY)
    assert history["epoch"].to_pylist() == [1, 2, 3]
    assert history["best"].to_pylist().count(True) == 1

    fresh = run.train(changed(settings, epochs=1, fresh=True), watcher)
    assert fresh.state.epoch == 1
    assert pq.read_table(output / "history.parquet")["epoch"].to_pylist() == [1]


def test_a_run_that_gets_no_better_stops_early_and_is_finished(settings: TrainConfig, watcher: Any) -> None:
    hopeless = changed(settings, learning_rate=1e-9, epochs=9, early_stopping=2)  # each epoch as good as the first
    first = run.train(hopeless, watcher)
    assert (first.state.epoch, first.state.best_epoch) == (3, 1)
    again = run.train(hopeless, watcher)
    assert again.was_finished
    assert len(watcher.epochs) == 3
    more = run.train(changed(hopeless, early_stopping=3), watcher)
    assert (more.state.epoch, more.was_finished) == (4, False)


def test_a_schedule_resumes_and_the_history_holds_the_epochs_last_rate(settings: TrainConfig, watcher: Any) -> None:
    cosine = changed(settings, schedule="cosine", warmup_steps=1, global_batch_size=10)
    outcome = run.train(cosine, watcher)
    state, steps = outcome.state, 2 * -(-outcome.training_rows // 10)
    for row in state.history:
        done = row["epoch"] * steps // 2 - 1
        expected = 0.001 * 0.5 * (1 + math.cos(math.pi * (done - 1) / (steps - 1)))
        assert row["learning_rate"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(OutputError, match="--epochs 2 there, 3 here; the cosine schedule has fallen towards the end"):
        run.train(changed(cosine, epochs=3), watcher)


def test_words_begin_with_their_vectors_and_frozen_ones_keep_them(settings: TrainConfig, watcher: Any) -> None:
    path = Path(settings.train[0]).with_name("vectors.txt")
    path.write_text("good 1 2 3\nbad 4 5 6\nelse 7 8 9\n", encoding="utf-8")
    frozen = changed(settings, embeddings=str(path), freeze_embeddings=True, epochs=1)
    run.train(frozen, watcher)
    assert any("2 of 16 words (12%) begin with a vector of vectors.txt" in line for line in watcher.said), watcher.said
    bundle = read_bundle(f"{settings.output}/model")
    good, bad = (4 + bundle.vocabulary().words.to_pylist().index(word) for word in ("good", "bad"))
    table = bundle.weights().embedding
    np.testing.assert_array_equal(table[[good, bad]], [[1, 2, 3], [4, 5, 6]])
    assert np.abs(np.delete(table, [good, bad], axis=0)).max() < 0.051, "the others begin as without vectors"
    path.write_text("good 1 2 3\nbad 4 5 7\n", encoding="utf-8")
    with pytest.raises(OutputError, match="the training data has changed"):
        run.train(changed(frozen, epochs=2), watcher)
    learning = changed(settings, embeddings=str(path), output=settings.output + "2", epochs=1)
    run.train(learning, watcher)
    moved = read_bundle(f"{learning.output}/model").weights().embedding[[good, bad]] - [[1, 2, 3], [4, 5, 7]]
    assert 0 < np.abs(moved).max() < 0.1
    with pytest.raises(
        ConfigError, match=r"its vectors have 3 numbers, but --embedding-size is 8: give --embedding-size 3"
    ):
        run.train(changed(learning, embedding_size=8, fresh=True), watcher)


def test_a_run_that_died_before_its_results_were_written_writes_them(settings: TrainConfig, watcher: Any) -> None:
    run.train(settings, watcher)
    output = Path(settings.output)
    for name in ("metrics.json", "report.html"):
        (output / name).unlink()
    again = run.train(settings, watcher)
    assert not again.was_finished
    assert len(watcher.epochs) == 2, "no epoch is trained again"
    assert (output / "metrics.json").exists()
    assert (output / "report.html").exists()


def test_a_run_whose_data_has_changed_is_not_mixed_with_it(settings: TrainConfig, watcher: Any) -> None:
    run.train(changed(settings, epochs=1), watcher)
    (path,) = settings.train
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(OutputError, match="the training data has changed since this run began"):
        run.train(settings, watcher)
    pq.write_table(table, path, row_group_size=7)  # the same rows again, cut differently
    assert run.train(settings, watcher).state.epoch == 2


def test_a_second_run_at_the_same_time_is_refused(settings: TrainConfig, watcher: Any) -> None:
    refused = []

    class Meddler(type(watcher)):  # type: ignore[misc]
        def epoch(self, row: dict[str, Any]) -> None:
            """Starts the same run again while it goes on."""
            if row["epoch"] == 1:
                with pytest.raises(OutputError, match="another run is writing here"):
                    run.train(settings, watcher)
                refused.append(row)

    assert run.train(settings, Meddler()).state.epoch == 2
    assert refused


def test_a_run_resumes_in_any_directory_by_its_config_yaml(
    settings: TrainConfig, watcher: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    first = run.train(changed(settings, train=("in*.parquet",), output="run", epochs=1), watcher)
    assert first.output == str(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    more = run.train(resolve(TrainConfig, {"epochs": 2}, f"{first.output}/config.yaml"), watcher)
    assert (more.output, more.state.epoch, more.state.history[:1]) == (first.output, 2, first.state.history)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_run_with_relative_paths_of_an_older_version_resumes_where_it_began(
    settings: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = changed(settings, train=("in.parquet",), validation=("./in.parquet",), output="run")
    run.begin_run(relative)
    assert yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))["train"] == ["in.parquet"]
    assert run.open_run(relative)
    assert run.open_run(changed(settings, train=(str(tmp_path / "in.parquet"),), validation=("in.parquet",)))
    with pytest.raises(OutputError, match=r"--train in\.parquet there, other\.parquet here"):
        run.open_run(changed(relative, train=("other.parquet",)))


def test_what_each_worker_holds_adds_up(settings: TrainConfig) -> None:
    lines = run.describe_workers(changed(settings, workers=3, global_batch_size=8))
    assert [line.rsplit(", ", 1)[1] for line in lines] == ["3 rows a step", "3 rows a step", "2 rows a step"]
    (line,) = run.describe_workers(settings)
    assert "this process" in line


def test_a_dry_run_reads_footers_only(settings: TrainConfig) -> None:
    assert run.check_inputs(settings) == ["training: 60 rows in 1 file"]
    assert not Path(settings.output).exists()
