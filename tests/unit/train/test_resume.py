"""When a run's directory is started, resumed or refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import changed

from lstm_ray.config import TrainConfig, left_open, resolve
from lstm_ray.errors import OutputError
from lstm_ray.storage.inputs import find_inputs
from lstm_ray.train.resume import as_begun, begin_run, changed_after_the_end, open_run


def test_an_empty_or_missing_directory_begins_a_run(settings: TrainConfig) -> None:
    assert not open_run(settings)
    Path(settings.output).mkdir()
    assert not open_run(settings)
    begin_run(settings)
    assert open_run(settings)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 9},
        {"engine": "keras"},
        {"workers": 2},
        {"workers": 1, "cpus_per_worker": 3},
        {"workers": 1, "address": "auto"},
    ],
    ids=str,
)
def test_a_run_resumes_with_more_epochs_or_elsewhere(settings: TrainConfig, change: dict[str, Any]) -> None:
    begin_run(settings)
    assert open_run(changed(settings, **change))


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
    begin_run(settings)
    before = (Path(settings.output) / "config.yaml").read_bytes()
    with pytest.raises(OutputError, match="holds a run with other settings") as error:
        open_run(changed(settings, **change))
    for part in named:
        assert part in str(error.value)
    assert "epochs" not in str(error.value)
    assert "--fresh" in str(error.value)
    assert (Path(settings.output) / "config.yaml").read_bytes() == before


def test_of_many_other_settings_some_are_named(settings: TrainConfig) -> None:
    begin_run(settings)
    given = {
        "units": 9,
        "dropout": 0.1,
        "max_tokens": 9,
        "seed": 9,
        "padding": "post",
        "learning_rate": 0.1,
        "ema": 0.9,
    }
    with pytest.raises(OutputError, match=r"\([^)]*, and 2 more\)") as error:
        open_run(changed(settings, **given))
    assert str(error.value).count(" there, ") == 5


def test_settings_that_follow_from_another_preset_are_not_named(settings: TrainConfig) -> None:
    plain = {"train": settings.train, "output": settings.output}
    begin_run(TrainConfig.model_validate({**plain, "preset": "none", "seed": 3}))

    def difference(**given: Any) -> str:
        with pytest.raises(OutputError) as error:
            open_run(TrainConfig.model_validate({**plain, "seed": 3, **given}))
        return str(error.value).partition("(")[2].partition(")")[0]

    assert difference(preset="bilstm") == "--preset none there, bilstm here"
    assert difference(preset="bilstm", units=7) == "--preset none there, bilstm here, --units 128 there, 7 here"
    assert difference(preset="lstm", seed=4) == "--preset none there, lstm here, --seed 3 there, 4 here"
    assert difference(preset="none", seed=4) == "--seed 3 there, 4 here"
    settled = changed(TrainConfig.model_validate({**plain, "preset": "none", "seed": 3}), preset="best", max_tokens=90)
    for chosen, named in (((), True), (("max_tokens",), False)):
        with pytest.raises(OutputError, match="--preset none there, best here") as error:
            open_run(settled, chosen)
        assert ("--max-tokens" in str(error.value)) is named


def test_a_setting_unknown_to_an_older_version_has_its_default(settings: TrainConfig) -> None:
    begin_run(settings)
    path = Path(settings.output) / "config.yaml"
    older = yaml.safe_load(path.read_text(encoding="utf-8"))
    del older["split_on"]
    path.write_text(yaml.safe_dump(older), encoding="utf-8")
    assert open_run(settings)
    with pytest.raises(OutputError, match="--split-on whitespace there, space here"):
        open_run(changed(settings, split_on="space"))


@pytest.mark.parametrize("fresh", [True, False])
def test_another_directory_is_refused(settings: TrainConfig, fresh: bool) -> None:
    Path(settings.output).mkdir()
    (Path(settings.output) / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match="not empty, and not an earlier run"):
        open_run(changed(settings, fresh=fresh))
    assert (Path(settings.output) / "thesis.txt").exists()


def test_fresh_deletes_an_earlier_run(settings: TrainConfig) -> None:
    begin_run(settings)
    (Path(settings.output) / "history.parquet").write_bytes(b"old")
    fresh = changed(settings, fresh=True, seed=3)
    assert not open_run(fresh)
    assert (Path(settings.output) / "history.parquet").exists(), "looking changes nothing"
    (Path(settings.output) / "model").mkdir()
    for name in ("bundle.json", "weights.npz"):
        (Path(settings.output) / "model" / name).write_bytes(b"old")
    begin_run(fresh)
    assert [path.name for path in Path(settings.output).iterdir()] == ["config.yaml"]


OF_A_RUN = (
    "model/model.keras",
    "checkpoints/epochs_0001_steps_00000340.5f0c9ae1b2d34c77.npz",
    "pretraining/checkpoints/epochs_0001_steps_00000000.5f0c9ae1b2d34c77.npz",
    "tensorboard/train/events.out.tfevents.0000000001.lstm-ray",
    "vectors/ddfa2bc6defdc1c5.txt",
)


@pytest.mark.parametrize("has_notes", [False, True])
def test_fresh_deletes_what_a_run_writes_and_nothing_else(settings: TrainConfig, has_notes: bool) -> None:
    begin_run(settings)
    output = Path(settings.output)
    notes = {(output / name).with_name("README.md") for name in OF_A_RUN} if has_notes else set()
    for path in (*notes, *(output / name for name in OF_A_RUN)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("A model card.")
    begin_run(changed(settings, fresh=True))
    assert {path for path in output.rglob("*") if path.is_file()} == {*notes, output / "config.yaml"}
    assert has_notes or [path.name for path in output.iterdir()] == ["config.yaml"], "no directory is left"


def test_the_settings_of_a_run_repeat_it(settings: TrainConfig) -> None:
    begin_run(settings)
    written = yaml.safe_load((Path(settings.output) / "config.yaml").read_text(encoding="utf-8"))
    assert written.pop("command") == "train"
    assert TrainConfig.model_validate(written) == settings


def test_the_settings_of_a_fresh_run_do_not_delete_it(settings: TrainConfig) -> None:
    begin_run(changed(settings, fresh=True))
    written = yaml.safe_load((Path(settings.output) / "config.yaml").read_text(encoding="utf-8"))
    assert written["fresh"] is False
    assert open_run(settings)


def test_a_run_with_relative_paths_of_an_older_version_resumes_where_it_began(
    settings: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = changed(settings, train=("in.parquet",), validation=("./in.parquet",), output="run")
    begin_run(relative)
    assert yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))["train"] == ["in.parquet"]
    assert open_run(relative)
    assert open_run(changed(settings, train=(str(tmp_path / "in.parquet"),), validation=("in.parquet",)))
    with pytest.raises(OutputError, match=r"--train in\.parquet there, other\.parquet here"):
        open_run(changed(relative, train=("other.parquet",)))


def test_what_an_older_version_did_not_know_is_not_chosen_now(tmp_path: Path) -> None:
    config = resolve(TrainConfig, {"preset": "best", "train": ("in.parquet",), "output": str(tmp_path / "run")})
    assert as_begun(config) == config
    begin_run(config)
    path = tmp_path / "run/config.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    settled = {name: getattr(config, name) for name in left_open(config) if name != "pretrain_epochs"}
    path.write_text(yaml.safe_dump({**written, **settled}), encoding="utf-8")
    assert set(left_open(as_begun(config))) == settled.keys()
    assert as_begun(config).pretrain_epochs == 0
    fresh = changed(config, fresh=True)
    assert as_begun(fresh) == fresh


def test_settings_that_the_data_chose_show_that_it_has_changed(settings: TrainConfig) -> None:
    begin_run(settings)
    with pytest.raises(OutputError, match=r"the training data has changed .*\(--units 2 there, 7 here\)"):
        open_run(changed(settings, units=7), ["units", "max_tokens"])
    with pytest.raises(OutputError, match="holds a run with other settings"):
        open_run(changed(settings, units=7, seed=5), ["units", "max_tokens"])


def test_files_that_were_changed_after_the_end_are_named(settings: TrainConfig, tmp_path: Path) -> None:
    begin_run(settings)
    (tmp_path / "old.parquet").write_bytes(b"")
    metrics = Path(settings.output) / "metrics.json"
    metrics.write_text("{}")
    (tmp_path / "new.parquet").write_bytes(b"")
    ended = metrics.stat().st_mtime
    os.utime(tmp_path / "old.parquet", (ended - 10, ended - 10))
    os.utime(tmp_path / "new.parquet", (ended + 10, ended + 10))
    files = find_inputs([str(tmp_path / "old.parquet"), str(tmp_path / "new.parquet")])
    assert changed_after_the_end(settings, files) == [str(tmp_path / "new.parquet")]
