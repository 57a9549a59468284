"""Scoring runs in this process: nothing lost, nothing twice, and a rerun does only what is missing."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from lstm_ray import storage
from lstm_ray.cli.app import app, main
from lstm_ray.config import Precision, ScoreConfig, resolve
from lstm_ray.errors import ConfigError, InputError, LstmRayError, OutputError
from lstm_ray.kernels.emitter import Target
from lstm_ray.model.bundle import read_bundle
from lstm_ray.model.profile import Profile, TrainingData
from lstm_ray.progress import Count, Event, ignore
from lstm_ray.score import output
from lstm_ray.score import run as run_module
from lstm_ray.score.output import Manifest
from lstm_ray.score.plan import Plan
from lstm_ray.score.run import score
from lstm_ray.score.scorer import Scorer

ROWS = 1_000
GROUP = 100


def nothing(*_: Any) -> None:
    """Ignores what it is called with."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Gives a directory with two input files of 1,000 and 500 rows, in row groups of 100."""
    generator = np.random.default_rng(0)
    for name, rows in (("a", ROWS), ("b", ROWS // 2)):
        words = generator.choice(["good", "bad", "a film", "fine", ""], (rows, 4))
        texts = [" ".join(row) if place % 50 else None for place, row in enumerate(words)]
        table = pa.table({"id": [f"{name}{number}" for number in range(rows)], "text": texts})
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "in" / f"{name}.parquet", row_group_size=GROUP, compression="zstd")
    return tmp_path


Run = Callable[..., Manifest]


def test_a_printed_manifest_shows_the_figures_alone() -> None:
    made = Manifest(
        "out", 2, 1, 30, 9, {"null_text": 2}, 0, 0.123456, 3.0, "hash", "print", {"rows": 30}, {"a": {}}, [{}]
    )
    assert str(made) == (
        "Manifest(output='out', parts=2, parts_kept=1, rows=30, positives=9, errors={'null_text': 2}, bad_files=0, "
        "seconds=0.1235, rows_per_s=3.0)"
    )
    assert "unsure=4)" in str(replace(made, unsure=4))


@pytest.fixture
def run(place: Path, tiny_bundle: Path) -> Run:
    """Gives a function that scores `place`/in into `place`/out."""

    def score_it(progress: Callable[[int, int], None] = nothing, **changes: Any) -> Manifest:
        settings = {
            "inputs": (str(place / "in"),),
            "model": str(tiny_bundle),
            "output": str(place / "out"),
            "rows_per_part": 200,
            **changes,
        }

        def report(event: Event) -> None:
            if isinstance(event, Count) and event.unit == "rows":
                progress(event.done, event.total)

        return score(ScoreConfig.model_validate(settings), report)

    return score_it


def parts(output: Path) -> dict[str, bytes]:
    """Returns the parts by name."""
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}


def read_parts(output: Path) -> pa.Table:
    """Returns all scored rows."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(output.glob("part-*"))])


def damage(path: Path, row_group: int) -> None:
    """Overwrites the compressed texts of a row group; the footer stays as it is."""
    column = pq.ParquetFile(path).metadata.row_group(row_group).column(1)
    start = (column.dictionary_page_offset or column.data_page_offset) + 30  # about a page header
    stop = start + column.total_compressed_size - 30
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\xff" * (stop - start) + content[stop:])


def without_times(manifest: Manifest) -> Manifest:
    """Returns a manifest without times and what depends on earlier runs."""
    return replace(manifest, seconds=0, rows_per_s=0, parts_kept=0)


def test_every_row_is_there_in_order_with_its_score(run: Run, place: Path, tiny_bundle: Path) -> None:
    reported: list[tuple[int, int]] = []
    manifest = run(progress=lambda done, total: reported.append((done, total)))
    output = place / "out"
    given = pa.concat_tables([pq.read_table(place / "in/a.parquet"), pq.read_table(place / "in/b.parquet")])
    written = read_parts(output)
    assert written.select(["id", "text"]).equals(given)
    expected = Scorer(read_bundle(str(tiny_bundle)), "native", 1).score(given["text"])
    assert written["sentiment_probability"].combine_chunks().equals(expected.probability)
    errors = written["sentiment_error"].to_pylist()
    assert [error is None for error in errors] == expected.probability.is_valid().to_pylist()
    assert reported[0] == (0, len(given))
    assert reported[-1] == (len(given), len(given))
    assert manifest.rows == len(given)
    assert manifest.parts == len(parts(output)) == 8
    assert manifest.errors["null_text"] == errors.count("null_text") == 30
    assert manifest.positives == expected.sentiment.to_pylist().count("positive")
    on_disk = json.loads((output / "_manifest.json").read_text(encoding="utf-8"))
    assert on_disk["rows"] == manifest.rows
    assert (output / "_SUCCESS").exists()
    assert (output / "_plan" / "plan.json").exists()
    assert not (output / "_bad_files.parquet").exists()
    assert list(output.glob(".*")) == []


def test_all_parts_are_on_the_disk_before_the_run_is_complete(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    run()
    (success,) = (number for number, name in enumerate(synced) if name.startswith("._SUCCESS."))
    assert set(parts(place / "out")) < set(synced[:success])


def test_a_second_run_does_nothing(run: Run, place: Path) -> None:
    first = run()
    before = {path: path.stat().st_mtime_ns for path in (place / "out").glob("part-*")}
    again = run()
    assert again.parts_kept == first.parts
    assert again.rows_per_s == 0
    assert without_times(again) == without_times(first)
    assert {path: path.stat().st_mtime_ns for path in (place / "out").glob("part-*")} == before


def test_an_output_among_the_inputs_is_refused(run: Run, place: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--output .*/in/out is inside the input .*/in, so a rerun would read its own"
    ):
        run(output=str(place / "in" / "out"))
    assert not (place / "in" / "out").exists()
    first = run(output=str(place / "in" / "_out"))
    assert run(output=str(place / "in" / "_out")).parts_kept == first.parts


def test_the_manifest_tells_of_the_texts_and_of_each_file(run: Run, place: Path, tiny_bundle: Path) -> None:
    manifest = run()
    texts = pa.concat_tables([pq.read_table(place / "in" / name) for name in ("a.parquet", "b.parquet")])["text"]
    expected = Scorer(read_bundle(str(tiny_bundle)), "native", 1).score(texts).profile
    assert manifest.profile == expected.to_json()
    assert run(rows_per_part=50, output=str(place / "cut")).profile == manifest.profile
    assert sum(one["rows"] for one in manifest.files) == manifest.rows
    assert sum(one["unknown"] for one in manifest.files) == expected.unknown
    shares = [one["unknown"] / one["words"] for one in manifest.files]
    assert shares == sorted(shares, reverse=True)
    assert {name: one["moved"] for name, one in manifest.moved.items()}["unknown_words"] is None, "an older bundle"
    assert "older version" in (place / "out/_report.html").read_text(encoding="utf-8")
    assert ds.dataset(place / "out", format="parquet").count_rows() == manifest.rows, "the report is no part"


def test_texts_in_another_language_are_told(
    run: Run, place: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(str(tiny_bundle))
    like_these = Scorer(bundle, "native", 1).score(pq.read_table(place / "in/a.parquet")["text"]).profile
    known = replace(bundle, profile=TrainingData(like_these, like_these))
    monkeypatch.setattr(run_module, "read_bundle", lambda path: known)
    alike = run(output=str(place / "alike"))
    assert {one["moved"] for one in alike.moved.values()} == {"no"}
    texts = ["Leider stuerzt die App staendig ab", "Sehr gut und schnell"] * 300
    pq.write_table(pa.table({"text": texts}), place / "german.parquet")
    said: list[Event] = []
    settings = {"inputs": (str(place / "german.parquet"),), "model": str(tiny_bundle), "output": str(place / "german")}
    foreign = score(ScoreConfig.model_validate(settings), said.append)
    assert foreign.moved["unknown_words"]["moved"] == "much"
    (warning,) = (event for event in said if str(event).startswith("warning:"))
    assert "unknown words" in str(warning)
    assert "another language" in (place / "german/_report.html").read_text(encoding="utf-8")


def test_a_part_without_counts_of_its_texts_is_kept_and_told(run: Run, place: Path) -> None:
    """As an older version wrote it."""
    whole = run()
    part = min((place / "out").glob("part-*"))
    table = pq.read_table(part)
    footer = json.loads(table.schema.metadata[b"lstm_ray"])
    del footer["profile"]
    pq.write_table(table.replace_schema_metadata({b"lstm_ray": json.dumps(footer).encode()}), part)
    again = run()
    assert (again.parts_kept, again.rows, again.positives) == (whole.parts, whole.rows, whole.positives)
    assert Profile.from_json(again.profile).rows < Profile.from_json(whole.profile).rows
    report = (place / "out/_report.html").read_text(encoding="utf-8")
    assert "lack 200 rows, in parts that an older version wrote" in report
    assert again.moved["scores"]["here"] == whole.moved["scores"]["here"] == whole.positives / whole.scored
    assert f"{100 * whole.positives / whole.scored:.1f}" in report


@pytest.mark.parametrize(
    ("changes", "is_compared"),
    [({}, True), ({"threshold": 0.5}, True), ({"threshold": 0.51}, False), ({"unsure": "0.4:0.6"}, False)],
)
def test_the_share_of_positives_is_compared_if_the_model_decided_them(
    run: Run,
    place: Path,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    is_compared: bool,
) -> None:
    bundle = read_bundle(str(tiny_bundle))
    known = TrainingData(Profile(), Scorer(bundle, "native", 1).score(pa.array(["a good film", "bad"])).profile)
    monkeypatch.setattr(run_module, "read_bundle", lambda path: replace(bundle, profile=known))
    manifest = run(**changes)
    scores = manifest.moved["scores"]
    assert scores["psi"] is not None
    assert (scores["here"] is not None, scores["training"] is not None) == (is_compared, is_compared)
    if is_compared:
        assert scores["here"] == manifest.positives / manifest.scored
    report = (place / "out/_report.html").read_text(encoding="utf-8")
    assert f'>threshold</td><td class="value">{changes.get("threshold", bundle.threshold)}<' in report


def test_readers_find_the_rows_of_the_parts_alone(run: Run, place: Path) -> None:
    (place / "in/z.parquet").write_bytes(b"no Parquet")
    manifest = run(max_bad_files=1)
    shutil.copytree(place / "out", place / "next")
    shutil.copytree(place / "next", place / "out/_next")  # as while other scores are written
    beside = {path.name for path in (place / "out").iterdir()} - parts(place / "out").keys()
    assert beside == {"_plan", "_bad_files.parquet", "_manifest.json", "_report.html", "_SUCCESS", "_next"}
    read = pd.read_parquet(place / "out")
    assert len(read) == manifest.rows == ds.dataset(place / "out").count_rows()
    assert list(read["id"]) == read_parts(place / "out")["id"].to_pylist()


class StoppedError(Exception):
    """Stands for any error that ends a run halfway."""


def test_an_interrupted_run_is_finished_to_the_same_bytes(run: Run, place: Path) -> None:
    whole = run(output=str(place / "whole"))

    def stop(done: int, total: int) -> None:
        if done > total / 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(progress=stop)
    assert not (place / "out" / "_SUCCESS").exists()
    resumed = run()
    assert 0 < resumed.parts_kept < resumed.parts
    assert parts(place / "out") == parts(place / "whole")
    assert replace(without_times(resumed), output="") == replace(without_times(whole), output="")


def test_ctrl_c_counts_the_parts_that_actors_have_written_but_not_reported(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_here = run_module.score_here

    def interrupted(*arguments: Any) -> Iterator[Any]:
        with contextlib.closing(score_here(*arguments)) as results:
            next(results)
        raise KeyboardInterrupt
        yield

    counts = []
    monkeypatch.setattr(run_module, "score_here", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(progress=lambda *count: counts.append(count))
    written = sum(pq.read_metadata(part).num_rows for part in (place / "out").glob("part-*"))
    assert 0 < written < 3 * ROWS // 2
    assert counts[0] == (0, 3 * ROWS // 2)
    assert counts[-1] == (written, 3 * ROWS // 2)


def test_a_run_that_is_refused_before_its_first_part_leaves_nothing(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Iterator[Any]:
        raise LstmRayError("no GPU")
        yield

    def planned() -> set[str]:
        return {path.name for path in (place / "out").rglob("*")}

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "score_here", refuse)
        with pytest.raises(LstmRayError, match="no GPU"):
            run(output=str(place / "made/on/the/way"))
        assert not (place / "made/on/the/way").exists()
        (place / "out").mkdir()
        with pytest.raises(LstmRayError, match="no GPU"):
            run()
        assert planned() == set()
    with pytest.raises(StoppedError):
        run(progress=stop_at_once)
    interrupted = planned()
    assert interrupted == {"_plan", "plan.json", "config.yaml", "lock"}
    monkeypatch.setattr(run_module, "score_here", refuse)
    with pytest.raises(LstmRayError, match="no GPU"):
        run()
    assert planned() == interrupted, "another run's plan stays"


def stop_at_once(done: int, total: int) -> None:
    """Ends a run before its first part."""
    raise StoppedError


def test_a_part_that_is_missing_or_damaged_is_made_again(run: Run, place: Path) -> None:
    manifest = run()
    before = parts(place / "out")
    names = list(before)
    (place / "out" / names[1]).unlink()
    (place / "out" / names[3]).write_bytes(before[names[3]][:-50])
    (place / "out" / names[5]).write_bytes(b"")
    again = run()
    assert again.parts_kept == manifest.parts - 3
    assert parts(place / "out") == before


DIFFERENCES = {
    "--prefix none there, new_ here": {"prefix": "new_"},
    "--rows-per-part 200 there, 300 here": {"rows_per_part": 300},
    "--keep-columns all there, id here": {"keep_columns": "id"},
    "--max-rows none there, 700 here, --prefix none there, new_ here": {"prefix": "new_", "max_rows": 700},
}


@pytest.mark.parametrize("said", DIFFERENCES)
def test_other_settings_are_named_and_want_overwrite(run: Run, place: Path, said: str) -> None:
    change = DIFFERENCES[said]
    run()
    settings = place / "out/_plan/config.yaml"
    written = settings.read_text(encoding="utf-8")
    for now, earlier in (("keep_columns:\n- all\n", "keep_columns: all\n"), ("engine: native\n", "engine: cpu\n")):
        assert now in written
        written = written.replace(now, earlier)  # as earlier versions wrote it
    settings.write_text(written, encoding="utf-8")
    before = parts(place / "out")
    with pytest.raises(OutputError, match=f"out: holds other scores .{said}.: choose another --output, or --overwrite"):
        run(**change)
    assert parts(place / "out") == before
    run(**change, overwrite=True)
    fresh = run(**change, output=str(place / "fresh"))
    assert parts(place / "out") == parts(place / "fresh")
    assert fresh.parts == len(parts(place / "out"))


def test_overwrite_leaves_what_score_did_not_write(run: Run, place: Path) -> None:
    run()
    output = place / "out"
    foreign = ("notes.md", ".git/config", "part-of-mine.parquet", "part-000099-000000000000.parquet/x", "_other")
    for name in foreign:
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_text("mine")
    (output / "_next").mkdir()
    (output / "_next" / "notes.md").write_text("mine")
    foreign = (*foreign, "_next/notes.md")
    stale = output / "part-000077-000000000000.parquet"
    stale.write_bytes(b"")
    run(prefix="new_", overwrite=True)
    assert [(output / name).read_text() for name in foreign] == ["mine"] * len(foreign)
    assert not stale.exists()
    assert (output / "_SUCCESS").exists()
    assert run(prefix="new_").parts_kept, "the same command again deletes nothing either"
    assert [(output / name).read_text() for name in foreign] == ["mine"] * len(foreign)


@pytest.mark.parametrize("directory", ["", "_next/"])
@pytest.mark.parametrize("is_parquet", [True, False])
def test_a_file_with_the_name_of_a_part_that_no_run_wrote_is_refused(
    run: Run, place: Path, directory: str, is_parquet: bool
) -> None:
    run()
    before = parts(place / "out")
    mine = place / "out" / directory / "part-000099-000000000000.parquet"
    mine.parent.mkdir(exist_ok=True)
    if is_parquet:
        pq.write_table(pa.table({"mine": [1]}), mine)
    else:
        mine.write_text("mine")
    content = mine.read_bytes()
    for changes in ({"prefix": "new_", "overwrite": True}, {}):
        with pytest.raises(
            OutputError, match=r"99-000000000000\.parquet: has the name of a part, but .*: move it away"
        ):
            run(**changes)
        assert mine.read_bytes() == content
    mine.rename(place / "mine.parquet")
    assert parts(place / "out") == before
    assert run(prefix="new_", overwrite=True).parts_kept == 0


def test_complete_scores_are_replaced_without_reading_their_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    read: list[str] = []
    monkeypatch.setattr(output, "refuse_foreign", read.append)
    assert run(prefix="new_", overwrite=True).parts_kept == 0
    assert read == []


@pytest.mark.parametrize("left", [0, 5, -100, None])
def test_parts_that_a_power_failure_cut_short_are_replaced(run: Run, place: Path, left: int | None) -> None:
    run()
    (place / "out" / "_SUCCESS").unlink()
    first = min((place / "out").glob("part-*"))
    content = first.read_bytes()
    first.write_bytes(bytes(len(content)) if left is None else content[:left])
    run(prefix="new_", overwrite=True)
    assert "new_sentiment" in pq.read_schema(first).names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *product(["config.yaml", "plan.json"], ["mine: 1\n", "command: train\n", "{", "[]"]),
        ("plan.json", ""),  # empty settings hold nothing
    ],
)
def test_a_plan_of_somebody_else_is_left_alone(run: Run, place: Path, name: str, content: str) -> None:
    mine = place / "out" / "_plan" / name
    mine.parent.mkdir(parents=True)
    mine.write_text(content)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"its _plan/plan\.json is not one of lstm-ray score"):
            run(overwrite=overwrite)
    assert mine.read_text() == content


@pytest.mark.parametrize("names", [["config.yaml"], ["config.yaml", "lock"], ["config.yaml", "plan.json"], ["lock"]])
def test_a_run_that_ended_before_its_first_part_begins_again(run: Run, place: Path, names: list[str]) -> None:
    run()
    for path in [*(place / "out").glob("*.*"), place / "out" / "_SUCCESS"]:
        path.unlink()
    for path in (place / "out" / "_plan").iterdir():
        if path.name not in names:
            path.unlink()
    assert run().parts_kept == 0


@pytest.mark.parametrize("plan", ["", "{}", "[]", '{"fingerprint": null}'])
def test_nothing_is_overwritten_in_a_directory_whose_plan_is_not_ours(run: Run, place: Path, plan: str) -> None:
    (place / "out" / "_plan").mkdir(parents=True)
    (place / "out" / "_plan" / "plan.json").write_text(plan)
    (place / "out" / "part-000000-000000000000.parquet").write_text("mine")
    with pytest.raises(OutputError, match=r"its _plan/plan\.json is not one of lstm-ray score"):
        run(overwrite=True)
    assert (place / "out" / "part-000000-000000000000.parquet").read_text() == "mine"


def test_a_plan_directory_of_somebody_else_is_left_alone(run: Run, place: Path) -> None:
    notes = place / "out" / "_plan" / "notes.md"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(OutputError, match=r"its _plan/plan\.json is not one of lstm-ray score"):
        run()
    assert [path.name for path in notes.parent.iterdir()] == ["notes.md"]


def test_the_same_input_twice_is_scored_once_and_told(place: Path, tiny_bundle: Path) -> None:
    said: list[Event] = []
    inputs = (str(place / "in"), str(place / "in/a.parquet"))
    settings = {"inputs": inputs, "model": str(tiny_bundle), "output": str(place / "out")}
    assert score(ScoreConfig.model_validate(settings), said.append).rows == ROWS + ROWS // 2
    assert f"note: read once, although named more than once: 1 file ({place}/in/a.parquet)" in said


def test_another_model_is_named_and_wants_overwrite(
    run: Run, make_bundle: Callable[..., Path], tiny_bundle: Path
) -> None:
    first = run()
    other = str(make_bundle(seed=1))
    with pytest.raises(OutputError, match=rf"--model {tiny_bundle} there, {other} here\): .*--overwrite"):
        run(model=other)
    assert run(model=other, overwrite=True).model_hash != first.model_hash
    shutil.rmtree(other)
    shutil.copytree(tiny_bundle, other)
    with pytest.raises(OutputError, match=rf"the model {other} has changed\): .*--overwrite"):
        run(model=other)


def test_the_command_that_finishes_other_scores_is_named(run: Run, place: Path) -> None:
    run()
    whole = parts(place / "out")
    for name in ("_SUCCESS", "_manifest.json", max(whole)):
        (place / "out" / name).unlink()
    with pytest.raises(OutputError) as failed:
        run(threshold=0.7)
    said, config = str(failed.value).split(" `lstm-ray score --config ")
    assert said.endswith(": choose another --output, or --overwrite to replace them. They are unfinished;")
    config = config.removesuffix("` finishes them")
    assert CliRunner().invoke(app, ["score", "--config", config]).exit_code == 0
    assert parts(place / "out") == whole


def test_other_inputs_are_named(run: Run, place: Path) -> None:
    run()
    a, b = place / "in/a.parquet", place / "in/b.parquet"
    with pytest.raises(OutputError, match=rf"holds other scores \({b} is no longer an input\): choose"):
        run(inputs=(str(a),))
    with pytest.raises(OutputError, match=r"\(the inputs are in another order\)"):
        run(inputs=(str(b), str(a)))
    pq.write_table(pq.read_table(b), place / "in/c.parquet")
    with pytest.raises(OutputError, match=r"\(.*in/c.parquet is a new input\)"):
        run()
    os.utime(a, (1, 1))
    with pytest.raises(OutputError, match=rf"\({a} has changed; {place}/in/c.parquet is a new input\)"):
        run()
    pq.write_table(pq.read_table(b), place / "other.parquet")
    with pytest.raises(OutputError, match=rf"\(its inputs were {a} and {b}, now {place}/other.parquet\)"):
        run(inputs=(str(place / "other.parquet"),))
    for name in "defg":
        pq.write_table(pq.read_table(b), place / f"in/{name}.parquet")
    b.unlink()
    said = rf"{place}/in/c.parquet, {place}/in/d.parquet and 3 more are new inputs; {b} is no longer an input\)"
    with pytest.raises(OutputError, match=said):
        run()
    b.write_bytes(b"not Parquet")
    with pytest.raises(OutputError, match=rf"3 more are new inputs; {b} cannot be read any more\)"):
        run(max_bad_files=1)


def test_scores_of_an_older_version_say_what_they_can(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    with monkeypatch.context() as patched:
        for module in ("plan", "output"):
            patched.setattr(importlib.import_module(f"lstm_ray.score.{module}"), "SCORES_VERSION", "9.9")
        with pytest.raises(OutputError, match=r"\(of lstm-ray 0.*; 9\.9 and later score otherwise\)"):
            run()
        path = place / "out/_plan/plan.json"
        plan = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({name: plan[name] for name in ("fingerprint", "files")}), encoding="utf-8")
        with pytest.raises(OutputError, match=r"\(of another model, or another version of lstm-ray\)"):
            run()


def test_the_old_scores_stay_until_the_new_ones_are_complete(run: Run, place: Path) -> None:
    run()
    out = place / "out"
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    before = parts(out)

    def look(done: int, total: int) -> None:
        assert parts(out) == before
        assert (out / "_SUCCESS").exists()

    run(look, prefix="new_", overwrite=True)
    run(prefix="new_", output=str(place / "fresh"))
    assert parts(out) == parts(place / "fresh")
    others = sorted(path.name for path in out.iterdir() if not path.name.startswith("part-"))
    assert others == ["_SUCCESS", "_manifest.json", "_plan", "_report.html", "notes.txt"]
    assert run(prefix="new_").parts_kept == len(before)


def test_scores_are_replaced_also_if_that_is_killed_halfway(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed before each of its writes, moves and deletions in turn; the same command finishes it."""
    old, new, out = place / "old", place / "new", place / "out"
    run(output=str(old))
    run(output=str(new), prefix="new_", rows_per_part=500)
    for allowed in itertools.count():
        shutil.copytree(old, out)
        shutil.copytree(new, out / "_next")
        left = [allowed]
        with monkeypatch.context() as patched:
            for name in ("write_bytes", "move", "delete"):
                patched.setattr(output.storage, name, _counted(name, left))
            with contextlib.suppress(StoppedError):
                output.finish_replacing(str(out))
        if left[0]:
            break
        assert run(prefix="new_", rows_per_part=500).parts_kept == len(parts(new))
        assert parts(out) == parts(new)
        assert (out / "_SUCCESS").exists()
        assert (out / "_plan/plan.json").read_bytes() == (new / "_plan/plan.json").read_bytes()
        assert not (out / "_next/_SUCCESS").exists()
        shutil.rmtree(out)
    assert allowed > 15


def _counted(name: str, left: list[int]) -> Callable[..., None]:
    """Returns a function of `storage` that raises once `left` calls of them all were made."""
    real = getattr(storage, name)

    def call(*arguments: Any, **options: Any) -> None:
        if not left[0]:
            raise StoppedError
        left[0] -= 1
        real(*arguments, **options)

    return call


def test_a_run_that_is_to_replace_others_resumes(run: Run, place: Path) -> None:
    def stop_later(done: int, total: int) -> None:
        if done > 600:
            raise StoppedError

    run()
    before = parts(place / "out")
    with pytest.raises(StoppedError):
        run(progress=stop_later, prefix="new_", overwrite=True)
    assert parts(place / "out") == before
    assert (place / "out/_SUCCESS").exists()
    assert run(prefix="new_", overwrite=True).parts_kept > 0
    with pytest.raises(StoppedError):
        run(progress=stop_later, prefix="other_", overwrite=True)
    assert run(prefix="new_").parts_kept == len(before), "what another run has begun is in nobody's way"
    assert run(prefix="other_", overwrite=True).parts_kept > 0
    assert not (place / "out/_next").exists()


@pytest.mark.parametrize("change", [{}, {"prefix": "new_", "overwrite": True}], ids=["same", "overwrite"])
def test_a_second_run_at_the_same_time_is_refused(run: Run, place: Path, change: dict[str, Any]) -> None:
    refused: list[str] = []

    def run_another(done: int, total: int) -> None:
        if done < total:
            with pytest.raises(OutputError, match="another run is writing here") as error:
                run(**change)
            refused.append(str(error.value))

    manifest = run(progress=run_another)
    assert refused
    assert manifest.parts == len(parts(place / "out"))
    assert run().parts_kept == manifest.parts, "the lock is free again"


def test_a_row_group_of_garbage_sets_its_file_aside(
    run: Run, place: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(place / "in" / "a.parquet", row_group=5)
    with pytest.raises(InputError, match=r"a\.parquet: row groups 4 to 5 cannot be read: .*--max-bad-files 1"):
        run()
    assert not (place / "out" / "_SUCCESS").exists()
    manifest = run(max_bad_files=1)
    assert (manifest.bad_files, manifest.rows) == (1, ROWS // 2)
    profile = Profile.from_json(manifest.profile)
    assert profile.rows + profile.without_words == ROWS // 2, "its parts are taken away again"
    assert [one["path"] for one in manifest.files] == [str(place / "in" / "b.parquet")]
    assert all(name.startswith("part-000001-") for name in parts(place / "out"))
    assert read_parts(place / "out")["id"].to_pylist() == [f"b{number}" for number in range(ROWS // 2)]
    (bad,) = pq.read_table(place / "out" / "_bad_files.parquet").to_pylist()
    assert bad["path"] == str(place / "in" / "a.parquet")
    assert "row groups 4 to 5 cannot be read" in bad["error"]
    arguments = ["score", str(place / "in"), "--model", str(tiny_bundle), "--output", str(place / "again")]
    monkeypatch.setattr("sys.argv", ["lstm-ray", *arguments, "--max-bad-files", "1"])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 3


def test_the_time_that_bad_files_take_does_not_grow_with_their_square(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        shutil.copy(place / "in" / "b.parquet", place / "in" / f"c{number}.parquet")
        damage(place / "in" / f"c{number}.parquet", row_group=0)
    listed: list[None] = []
    chunks = Plan.chunks
    monkeypatch.setattr(Plan, "chunks", lambda plan: (listed.append(None), chunks(plan))[1])
    assert run(max_bad_files=9, output=str(place / "many")).bad_files == 9
    with_nine, listed[:] = len(listed), []
    for number in range(1, 9):
        (place / "in" / f"c{number}.parquet").unlink()
    assert run(max_bad_files=1, output=str(place / "one")).bad_files == 1
    assert len(listed) == with_nine


def test_a_run_of_bad_files_alone_leaves_the_old_scores(run: Run, place: Path) -> None:
    """Their footers are whole, so that they are planned."""
    run()
    old = parts(place / "out")
    for name in ("a.parquet", "b.parquet"):
        damage(place / "in" / name, row_group=0)
    for allowed, remedy in ((0, "; --max-bad-files 1 would set bad files aside"), (1, ""), (9, "")):
        with pytest.raises(InputError, match=r"row groups? 0.* cannot be read: .*") as raised:
            run(overwrite=True, max_bad_files=allowed)
        assert str(raised.value).endswith(remedy)
        assert ("--max-bad-files" in str(raised.value)) == bool(remedy)
        assert parts(place / "out") == old


def test_files_that_are_bad_from_the_start_are_set_aside(run: Run, place: Path) -> None:
    (place / "in" / "aa.parquet").write_text("no Parquet", encoding="utf-8")
    manifest = run(max_bad_files=1)
    assert (manifest.bad_files, manifest.rows) == (1, ROWS * 3 // 2)
    assert (place / "out" / "_bad_files.parquet").exists()
    (place / "in" / "aa.parquet").unlink()
    assert run(overwrite=True).bad_files == 0
    assert not (place / "out" / "_bad_files.parquet").exists()


def test_a_bad_file_that_comes_and_goes_leaves_the_scores_as_they_are(run: Run, place: Path) -> None:
    first = run()
    (place / "in" / "c.parquet").write_text("no Parquet", encoding="utf-8")
    with pytest.raises(InputError, match=r"c\.parquet: .*--max-bad-files 1 would set bad files aside"):
        run()
    for bad_files in (1, 0):
        manifest = run(max_bad_files=1)
        assert (manifest.bad_files, manifest.parts_kept) == (bad_files, first.parts)
        assert (place / "out" / "_bad_files.parquet").exists() == bool(bad_files)
        (place / "in" / "c.parquet").unlink(missing_ok=True)


def test_a_file_that_changes_while_the_run_goes_on_is_refused(run: Run, place: Path) -> None:
    def change(done: int, total: int) -> None:
        pq.write_table(pa.table({"id": ["x"], "text": ["good"]}), place / "in" / "b.parquet")

    with pytest.raises(InputError, match=r"b\.parquet: has changed since the run was planned"):
        run(progress=change)
    assert not (place / "out" / "_SUCCESS").exists()


def test_columns_differ_between_files(run: Run, place: Path) -> None:
    nested = pa.array([[{"x": 1, "y": None}], [], None], pa.list_(pa.struct([("x", pa.int8()), ("y", pa.string())])))
    one = pa.table({"text": ["good", "bad", None], "nested": nested, "id": [1, 2, 3]})
    other = pa.table({"id": [4], "when": [pa.scalar(7, pa.timestamp("us"))], "text": ["film"]})
    (place / "mixed").mkdir()
    pq.write_table(one, place / "mixed" / "1.parquet")
    pq.write_table(other, place / "mixed" / "2.parquet")
    run(inputs=(str(place / "mixed"),))
    written = read_parts(place / "out")
    assert written["nested"].to_pylist() == [*nested.to_pylist(), None]
    assert written["when"].to_pylist() == [None, None, None, other["when"][0].as_py()]
    assert written["id"].to_pylist() == [1, 2, 3, 4]
    assert written["text"].to_pylist() == ["good", "bad", None, "film"]


KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.dictionary(pa.int32(), pa.string()),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_text_column_of_any_type_is_scored_and_kept(run: Run, place: Path, kind: pa.DataType) -> None:
    values = ["good", None, "bad film", "...", "good"]
    is_dictionary = pa.types.is_dictionary(kind)
    column = pa.array(values).dictionary_encode() if is_dictionary else pa.array(values, pa.string()).cast(kind)
    try:
        pq.write_table(pa.table({"text": column}), place / "typed.parquet", row_group_size=3)
    except pa.ArrowNotImplementedError:
        pytest.skip(f"Arrow {pa.__version__} puts no {kind} into Parquet")
    run(inputs=(str(place / "typed.parquet"),), rows_per_part=2)
    written = read_parts(place / "out")
    assert written.schema.field("text").type == kind
    assert written["text"].cast(pa.string()).to_pylist() == values
    assert written["sentiment_error"].to_pylist() == [None, "null_text", None, "no_words", None]
    scores = written["sentiment_probability"].to_pylist()
    assert scores[0] == scores[4] != scores[2]


def test_bytes_that_are_no_utf8_are_kept_and_explained(run: Run, place: Path) -> None:
    values = [b"good", b"\xff\xfe", b"bad"]
    pq.write_table(pa.table({"text": pa.array(values, pa.binary())}), place / "bytes.parquet")
    manifest = run(inputs=(str(place / "bytes.parquet"),))
    assert manifest.errors == {"invalid_utf8": 1}
    assert read_parts(place / "out")["text"].to_pylist() == values


def test_kept_columns_may_leave_the_text_out(run: Run, place: Path) -> None:
    run(keep_columns="id")
    assert read_parts(place / "out").column_names == ["id", "sentiment_probability", "sentiment", "sentiment_error"]


def test_max_rows_scores_the_first(run: Run, place: Path) -> None:
    manifest = run(max_rows=1_234)
    assert manifest.rows == 1_234
    ids = read_parts(place / "out")["id"].to_pylist()
    assert ids == [*(f"a{number}" for number in range(ROWS)), *(f"b{number}" for number in range(234))]


def test_only_the_files_that_are_read_are_counted(place: Path, tiny_bundle: Path) -> None:
    said: list[Event] = []
    for rows, files in ((7, "1 file"), (1_234, "2 files")):
        output = str(place / f"out{rows}")
        score(
            ScoreConfig(inputs=(str(place / "in"),), model=str(tiny_bundle), output=output, max_rows=rows), said.append
        )
        assert any(str(event).startswith(f"{rows:,} rows in {files}, ") for event in said)


def test_an_input_without_rows_becomes_a_part_without_rows(run: Run, place: Path) -> None:
    columns = {"text": pa.array([], pa.string()), "id": pa.array([], pa.int64())}
    pq.write_table(pa.table(columns), place / "empty.parquet")
    for _ in ("run", "rerun"):
        manifest = run(inputs=(str(place / "empty.parquet"),))
        assert (manifest.rows, manifest.parts) == (0, 1)
        written = read_parts(place / "out")
        assert written.column_names == ["text", "id", "sentiment_probability", "sentiment", "sentiment_error"]
        assert (written.num_rows, written.schema.field("id").type) == (0, pa.int64())
        assert (place / "out" / "_SUCCESS").exists()
    assert manifest.parts_kept == 1
    with pytest.raises(InputError, match=r"empty\.parquet: no rows to score"):
        run(inputs=(str(place / "empty.parquet"),), output=str(place / "other"), fail_if_empty=True)
    assert not (place / "other").exists()


def test_both_engines_score_alike(run: Run, place: Path) -> None:
    run(engine="native")
    run(engine="keras", output=str(place / "keras"))
    ours, keras = (read_parts(place / name)["sentiment_probability"].combine_chunks() for name in ("out", "keras"))
    assert ours.is_null().equals(keras.is_null())
    np.testing.assert_allclose(ours.drop_null().to_numpy(), keras.drop_null().to_numpy(), atol=1e-6)


def test_a_run_is_repeated_in_any_directory_by_its_settings(
    run: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    first = run(inputs=("in/*.parquet",), output="out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = score(resolve(ScoreConfig, {}, place / "out/_plan/config.yaml"), ignore)
    assert (again.output, again.fingerprint, again.parts_kept) == (str(place / "out"), first.fingerprint, first.parts)


@pytest.mark.parametrize("plan", [None, "{}"])
def test_scores_that_claim_to_be_complete_without_a_plan_replace_nothing(
    run: Run, place: Path, plan: str | None
) -> None:
    run()
    before = parts(place / "out")
    (place / "out/_next/_plan").mkdir(parents=True)
    (place / "out/_next/_SUCCESS").touch()
    if plan:
        (place / "out/_next/_plan/plan.json").write_text(plan, encoding="utf-8")
    assert run().parts_kept == len(before)
    assert parts(place / "out") == before


def test_a_threshold_and_a_band_of_unsure_rows_decide_the_sentiment(run: Run, place: Path) -> None:
    plain = run(output=str(place / "plain"))
    probability = pq.read_table(place / "plain")["sentiment_probability"].drop_null().to_numpy()
    low, middle, high = (float(bound) for bound in np.quantile(probability, (0.3, 0.5, 0.7)).round(4))
    decided = run(threshold=middle, unsure=f"{low}:{high}")
    scored = pq.read_table(place / "out")
    assert scored["sentiment_probability"].equals(pq.read_table(place / "plain")["sentiment_probability"])
    for label, there in zip(scored["sentiment"].to_pylist(), scored["sentiment_probability"].to_pylist(), strict=True):
        if there is not None:
            between = np.float32(low) <= np.float32(there) <= np.float32(high)
            assert label == ("unsure" if between else "positive" if there > middle else "negative")
    assert decided.unsure == scored["sentiment"].to_pylist().count("unsure") > 0
    assert json.loads((place / "out/_manifest.json").read_text())["unsure"] == decided.unsure
    assert plain.unsure == 0
    with pytest.raises(
        OutputError, match=rf"threshold {middle} there, none here, --unsure {low}:{high} there, none here"
    ):
        run()


def test_a_band_without_the_threshold_is_refused_before_anything_is_written(run: Run, place: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--unsure 0.6:0.7 has no room for the threshold, 0.5"):
        run(unsure="0.6:0.7")
    assert not (place / "out").exists()


def test_settings_of_later_versions_leave_the_fingerprint_of_earlier_ones() -> None:
    values = ScoreConfig().fingerprint_values()
    assert not {"threshold", "unsure", "precision"} & values.keys()
    assert ScoreConfig(threshold=0.5).fingerprint_values() == {**values, "threshold": 0.5}
    assert ScoreConfig(precision="int8").fingerprint_values() == {**values, "precision": "int8"}


def test_scores_of_two_precisions_are_not_mixed(run: Run, place: Path, low_precision: Precision) -> None:
    run()
    with pytest.raises(OutputError, match=f"precision float32 there, {low_precision} here"):
        run(precision=low_precision)
    run(precision=low_precision, output=str(place / "low"))
    exact, low = (read_parts(place / name)["sentiment_probability"].combine_chunks() for name in ("out", "low"))
    assert low.is_null().equals(exact.is_null())
    difference = np.abs(low.drop_null().to_numpy() - exact.drop_null().to_numpy())
    assert 0 < difference.max() < 0.01


def test_a_precision_that_the_processor_lacks_is_refused_before_anything_is_written(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target.of("haswell", {"avx2": True, "fma": True})
    monkeypatch.setattr(Target, "host", classmethod(lambda cls: target))
    with pytest.raises(ConfigError, match=r"^--precision bf16 needs a processor with AVX512-BF16"):
        run(precision="bf16")
    assert not (place / "out").exists()


def test_many_columns_take_seconds(place: Path, run: Run) -> None:
    """Arrow makes the list of names anew each time: asked for each column, of 5,000 it took 40 seconds."""
    columns: dict[str, Any] = {f"c{number}": [number] for number in range(4_000)}
    columns |= {f"d{number}": pa.array(["a"]).dictionary_encode() for number in range(1_000)}
    pq.write_table(pa.table({"text": ["good"], **columns}), place / "wide.parquet")
    started = time.process_time()
    run(inputs=(str(place / "wide.parquet"),))
    assert time.process_time() - started < 8
