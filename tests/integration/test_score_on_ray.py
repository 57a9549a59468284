"""Scoring on Ray: any number of actors writes the same bytes as one process."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from heads import RayCluster

from lstm_ray.config import ScoreConfig
from lstm_ray.score.output import Manifest
from lstm_ray.score.run import score


def nothing(*_: Any) -> None:
    """Ignores progress."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives 3 files of 700 rows, some of them without a usable text."""
    generator = np.random.default_rng(0)
    directory = tmp_path_factory.mktemp("corpus")
    for file in range(3):
        words = generator.choice(["good", "bad", "a film", "fine"], (700, 5))
        texts = [" ".join(row[: place % 6]).encode() for place, row in enumerate(words)]
        texts[10:13] = [None, b"\xff", b"?!"]
        table = pa.table({"id": np.arange(700) + 700 * file, "text": texts, "note": [None, "x"] * 350})
        pq.write_table(table, directory / f"{file}.parquet", row_group_size=250)
    return directory


Run = Callable[..., Manifest]


@pytest.fixture(scope="module")
def model(make_bundle: Callable[..., Path]) -> Path:
    """Gives a masked BiLSTM."""
    return make_bundle(mask=True, bidirectional=True, pooling="max")


@pytest.fixture(scope="module")
def run(running: RayCluster, corpus: Path, model: Path) -> Run:
    """Gives a function that scores the corpus with the model, in this process or by the command on Ray."""

    def score_it(output: Path, actors: int = 0, **changes: Any) -> Manifest:
        if actors:
            options = (
                "--rows-per-part",
                200,
                "--cpus-per-actor",
                0.5,
                "--actors",
                actors,
                "--address",
                running.address,
            )
            done = running.lstm_ray("score", corpus, "--model", model, "--output", output, *options)
            assert done.returncode == 0, done.stderr
            return Manifest(**json.loads((output / "_manifest.json").read_bytes()))
        settings = {"inputs": (str(corpus),), "model": str(model), "output": str(output), "rows_per_part": 200}
        return score(ScoreConfig.model_validate({**settings, **changes}), nothing)

    return score_it


@pytest.fixture(scope="module")
def scored(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Gives what 2 actors made of the corpus."""
    output = tmp_path_factory.mktemp("two-actors")
    return output, run(output, actors=2)


def parts(output: Path) -> dict[str, bytes]:
    """Returns the parts by name."""
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}


def test_two_actors_write_the_bytes_of_one_process(scored: tuple[Path, Manifest], run: Run, tmp_path: Path) -> None:
    output, manifest = scored
    alone = run(tmp_path / "alone", actors=0)
    assert parts(output) == parts(tmp_path / "alone")
    assert len(parts(output)) == manifest.parts >= 6
    assert (alone.rows, alone.positives, alone.errors) == (manifest.rows, manifest.positives, manifest.errors)
    assert manifest.fingerprint == alone.fingerprint


def test_order_ids_and_nulls_are_kept(scored: tuple[Path, Manifest], corpus: Path) -> None:
    output, manifest = scored
    given = pa.concat_tables([pq.read_table(path) for path in sorted(corpus.iterdir())])
    written = pa.concat_tables([pq.read_table(path) for path in sorted(output.glob("part-*"))])
    assert written.select(given.column_names).equals(given)
    assert manifest.rows == len(given)


def test_rows_without_a_usable_text_say_why(scored: tuple[Path, Manifest]) -> None:
    output, manifest = scored
    written = pa.concat_tables([pq.read_table(path) for path in sorted(output.glob("part-*"))])
    errors = written["sentiment_error"].to_pylist()
    assert errors[10:13] == ["null_text", "invalid_utf8", "no_words"]
    assert errors[0] == "empty_text"
    for name in ("sentiment_probability", "sentiment"):
        values = written[name].to_pylist()
        assert [value is None for value in values] == [error is not None for error in errors]
    assert manifest.errors == {reason: errors.count(reason) for reason in sorted(set(errors) - {None})}


def test_a_rerun_restores_just_the_part_that_is_gone(scored: tuple[Path, Manifest], run: Run, tmp_path: Path) -> None:
    output, manifest = scored
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    gone = sorted(copy.glob("part-*"))[4]
    gone.unlink()
    before = {path.name: path.stat().st_mtime_ns for path in copy.glob("part-*")}
    again = run(copy, actors=2)
    assert again.parts_kept == manifest.parts - 1
    assert parts(copy) == parts(output)
    assert {path.name: path.stat().st_mtime_ns for path in copy.glob("part-*") if path != gone} == before


@pytest.mark.second_tier
def test_tasks_feed_an_actor_that_has_a_gpu(
    run: Run, corpus: Path, model: Path, ray_nodes: RayCluster, tmp_path: Path
) -> None:
    """The node claims to have a GPU: Keras computes on the CPU, but everything else works as with one."""
    alone = run(tmp_path / "alone", engine="keras")
    pretend = "from lstm_ray.runtime import tensorflow\ntensorflow._sees_gpu = lambda: True\n"
    (tmp_path / "sitecustomize.py").write_text(pretend, encoding="utf-8")  # Python imports it when it starts
    python_path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    ray_nodes.start_node(cpus=3, gpus=1, PYTHONPATH=python_path)
    arguments = ("score", corpus, "--model", model, "--rows-per-part", 200, "--address", ray_nodes.address)
    on_gpu = (*arguments, "--actors", 1, "--gpus-per-actor", 1, "--output")
    done = ray_nodes.lstm_ray(*on_gpu, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert parts(tmp_path / "out") == parts(tmp_path / "alone")
    assert len(parts(tmp_path / "out")) == alone.parts

    damaged = shutil.copytree(corpus, tmp_path / "damaged") / "1.parquet"
    content = bytearray(damaged.read_bytes())
    content[100:2000] = b"\xff" * 1900
    damaged.write_bytes(content)
    arguments = ("score", damaged.parent, *on_gpu[2:], tmp_path / "rest", "--max-bad-files", 1, "--keep-columns", "id")
    done = ray_nodes.lstm_ray(*arguments)
    assert done.returncode == 3, done.stderr
    left = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "rest").glob("part-*"))])
    assert left.column_names[0] == "id"
    assert left["id"].to_pylist() == [*range(700), *range(1400, 2100)]


@pytest.mark.gpu
def test_an_actor_on_a_gpu_scores_as_the_cpu_does(
    run: Run, corpus: Path, model: Path, ray_nodes: RayCluster, tmp_path: Path
) -> None:
    run(tmp_path / "cpu", engine="native")
    ray_nodes.start_node(cpus=3, gpus=1)
    arguments = ("--model", model, "--rows-per-part", 200, "--address", ray_nodes.address, "--actors", 1)
    done = ray_nodes.lstm_ray("score", corpus, *arguments, "--gpus-per-actor", 1, "--output", tmp_path / "gpu")
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / name).glob("part-*"))])
        for name in ("gpu", "cpu")
    )
    for name in ("id", "sentiment_error"):
        assert ours[name].to_pylist() == theirs[name].to_pylist()
    scores = [table["sentiment_probability"].to_numpy() for table in (ours, theirs)]
    np.testing.assert_allclose(*scores, atol=5e-3)  # TF32 rounds factors to 10 bits


def test_a_rerun_of_a_finished_run_starts_no_ray(scored: tuple[Path, Manifest], running: RayCluster) -> None:
    output, manifest = scored
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    command = ("score", "--config", output / "_plan" / "config.yaml", "--actors", 2, "--address", "127.0.0.1:1")
    done = running.lstm_ray(*command)  # no Ray answers at that address
    assert done.returncode == 0, done.stderr
    assert f"{manifest.parts} parts already done" in done.stderr
    assert {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")} == before
