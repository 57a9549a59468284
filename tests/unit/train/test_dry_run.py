"""What a dry run shows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from runs import changed

from lstm_ray.config import TrainConfig
from lstm_ray.errors import InputError
from lstm_ray.train import dry_run
from lstm_ray.train.data.corpus import find_all_shards
from lstm_ray.train.dry_run import describe, describe_inputs, describe_workers


def test_what_each_worker_holds_adds_up(settings: TrainConfig) -> None:
    *lines, sums = describe_workers(changed(settings, workers=3, global_batch_size=8))
    assert [line.rsplit(", ", 1)[1] for line in lines] == ["3 rows a step", "3 rows a step", "2 rows a step"]
    assert sums == "gradients are summed by TCP"
    on_gpus = describe_workers(changed(settings, workers=2, gpus_per_worker=1))
    assert on_gpus[-1] == "gradients are summed by TensorFlow's collectives"
    assert describe_workers(changed(settings, workers=2, global_batch_size=2))[0].endswith(", 1 CPU, 1 row a step")
    (line,) = describe_workers(settings)
    assert "this process" in line
    (line,) = describe_workers(changed(settings, mask=True, batch_by="tokens"))
    assert line.endswith(" rows a step on average")


@pytest.mark.parametrize(("address", "is_warned"), [("local", True), ("head:6379", False)])
def test_a_dry_run_warns_of_more_workers_than_cores(
    settings: TrainConfig, monkeypatch: pytest.MonkeyPatch, address: str, is_warned: bool
) -> None:
    monkeypatch.setattr(dry_run, "available_cores", lambda: 2)
    shown = describe(changed(settings, workers=9, address=address))
    assert ("\nwarning: 9 workers on this machine's 2 cores take turns, and " in shown) == is_warned


def test_a_dry_run_counts_the_labels(settings: TrainConfig) -> None:
    shards = find_all_shards(settings)
    assert describe_inputs(settings, shards) == [
        "training: 60 rows in 1 file, 30 positive, 30 negative"
        "; rows without words, which the run leaves out, are not looked for"
    ]
    few = changed(settings, max_rows=10)
    (line,) = describe_inputs(few, find_all_shards(few))
    assert line.startswith("training: 10 rows in 1 file, ")
    assert not Path(settings.output).exists()


def test_a_dry_run_tells_of_files_that_are_named_twice_as_the_run_does(settings: TrainConfig, tmp_path: Path) -> None:
    texts, validation = str(tmp_path / "texts.parquet"), str(tmp_path / "validation.parquet")
    for path in (texts, validation):
        pq.write_table(pq.read_table(settings.train[0]).slice(1), path)
    files = {"train": settings.train * 2, "validation": (validation,) * 2, "unlabelled": (texts,) * 2}
    shown = describe(changed(settings, **files))
    for path in (*settings.train, validation, texts):
        assert f"\nnote: read once, although named more than once: 1 file ({path})\n" in shown


def test_a_dry_run_refuses_groups_that_are_all_on_one_side(settings: TrainConfig, tmp_path: Path) -> None:
    table = pq.read_table(settings.train[0])
    for films, message in (
        (
            pa.repeat("one", len(table)),
            "of 1 group .* held out for validation: choose another column with --validation-",
        ),
        (pa.array([["Up", "It"][row % 2] for row in range(len(table))]), "of 2 groups .*--validation-fraction to 0"),
    ):
        pq.write_table(table.append_column("film", films), tmp_path / "films.parquet")
        grouped = changed(
            settings, train=(str(tmp_path / "films.parquet"),), validation_group="film", validation_fraction=0.01
        )
        with pytest.raises(InputError, match=message):
            describe_inputs(grouped, find_all_shards(grouped))


def test_settings_model_inputs_and_workers_are_shown_and_nothing_is_written(settings: TrainConfig) -> None:
    text = describe(settings)
    shown = yaml.safe_load(text[: text.index("Model: ")])
    assert shown["units"] == settings.units
    *_, inputs, memory, worker, end = text.split("\n")
    assert inputs == (
        "training: 60 rows in 1 file, 30 positive, 30 negative"
        "; rows without words, which the run leaves out, are not looked for"
    )
    assert memory.startswith("memory: at least ")
    assert [worker, end] == [*describe_workers(settings), ""]
    slow = describe(changed(settings, workers=1, gpus_per_worker=1, recurrent_dropout=0.1))
    assert "\nnote: on a GPU this trains several times slower than it could: recurrent_dropout is 0.1" in slow
    assert not Path(settings.output).exists()
