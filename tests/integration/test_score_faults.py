"""Faults of a scoring run in one process: whatever happens, the same command ends with every row once."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import ScoreConfig
from lstm_ray.errors import InputError
from lstm_ray.model.bundle import read_bundle
from lstm_ray.progress import Event
from lstm_ray.score.local import score_here
from lstm_ray.score.output import Manifest
from lstm_ray.score.plan import BadFile, make_plan
from lstm_ray.score.run import score

KILLS = 10
ROWS = 40_000

Start = Callable[..., Any]
Parts = Callable[[Path], dict[str, bytes]]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a filesystem")


@pytest.fixture(scope="module")
def arguments(numbered: Path, tiny_bundle: Path) -> tuple[object, ...]:
    """Gives the command without its output: 80 parts of 500 rows."""
    return ("score", numbered, "--model", tiny_bundle, "--rows-per-part", 500)


@pytest.fixture(scope="module")
def undisturbed(numbered: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Any:
    """Gives the parts of an undisturbed run."""
    output = tmp_path_factory.mktemp("undisturbed")
    score_in_process(numbered, tiny_bundle, output)
    assert_rows_are_there_once(output)
    return parts(output)


def nothing(*_: Any) -> None:
    """Ignores progress."""


def score_in_process(
    given: Path, model: Path, output: Path, notify: Callable[[str], None] = nothing, **settings: Any
) -> Manifest:
    """Scores in this process."""
    return score(score_config(given, model, output, **settings), notify)


def score_config(given: Path, model: Path, output: Path, **settings: Any) -> ScoreConfig:
    """Returns the settings of `arguments`."""
    return ScoreConfig.model_validate(
        {"inputs": (str(given),), "model": str(model), "output": str(output), "rows_per_part": 500, **settings}
    )


def assert_rows_are_there_once(output: Path, expected: range = range(ROWS)) -> None:
    """Reads the output as a user would, and compares the rows' numbers."""
    assert ds.dataset(output).to_table(columns=["row"])["row"].to_pylist() == list(expected)


def assert_parts_are_whole(output: Path, undisturbed: dict[str, bytes], parts: Parts) -> None:
    """Checks that the parts so far are right, and that readers find no other file."""
    there = parts(output)
    assert {name: undisturbed[name] for name in there} == there
    assert len(ds.dataset(output, format="parquet").files) == len(there)


def hidden(output: Path) -> list[str]:
    """Lists temporary files."""
    return sorted(path.name for path in output.rglob(".*"))


@pytest.mark.second_tier
def test_killed_at_ten_moments_and_run_again(
    start: Start, arguments: tuple[object, ...], undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path
) -> None:
    chance = random.Random(7)
    output = tmp_path / "out"
    kept = 0
    for kill in range(KILLS):
        command = start(*arguments, "--output", output)
        wanted = kept + chance.randint(1, 5)  # never so many that the run could end before it is killed
        at = time.monotonic() + (chance.uniform(0.2, 1.5) if kill % 3 == 0 else 60)  # some while they start
        command.wait_until(
            lambda wanted=wanted, at=at: time.monotonic() > at or len(list(output.glob("part-*"))) >= wanted
        )
        code, error = command.kill()
        assert code == -signal.SIGKILL, error
        if output.exists():
            assert not (output / "_SUCCESS").exists()
            assert_parts_are_whole(output, undisturbed, parts)
        assert len(parts(output)) >= kept, "what is done stays done"
        kept = len(parts(output))
    assert 0 < kept < len(undisturbed)
    before = {path: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert start(*arguments, "--output", output).end()[0] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing is done twice"
    assert parts(output) == undisturbed
    assert_rows_are_there_once(output)
    assert (output / "_SUCCESS").exists()
    assert hidden(output) == []


@pytest.mark.second_tier
@pytest.mark.parametrize(("sign", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_and_run_again(
    start: Start,
    arguments: tuple[object, ...],
    undisturbed: dict[str, bytes],
    parts: Parts,
    tmp_path: Path,
    sign: signal.Signals,
    expected: int,
) -> None:
    output = tmp_path / "out"
    command = start(*arguments, "--output", output)
    command.wait_until(lambda: len(parts(output)) >= 3)
    code, error = command.kill(sign)
    assert code == expected
    told = error.splitlines()[-1]
    assert re.fullmatch(r"interrupted at [\d,]+ of [\d,]+ rows: the same command scores what is missing", told)
    assert hidden(output) == []
    assert 3 <= len(parts(output)) < len(undisturbed)
    assert_parts_are_whole(output, undisturbed, parts)
    assert start(*arguments, "--output", output).end()[0] == 0
    assert parts(output) == undisturbed


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """Mounts a small filesystem in memory."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "lstm-ray-test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.second_tier
@needs_root
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    start: Start, arguments: tuple[object, ...], undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path
) -> None:
    size_kib = sum(map(len, undisturbed.values())) // 1024
    with mounted(tmp_path / "disk", f"size={size_kib // 2}k") as disk:
        output = disk / "out"
        for _ in range(2):  # the second time it is full from the start
            code, error = start(*arguments, "--output", output).end()
            assert code == 1, error
            last = error.splitlines()[-1]
            assert last.startswith(f"error: {output}/")
            assert last.endswith("cannot be written: no space left on device")
            assert 0 < len(parts(output)) < len(undisturbed)
            assert_parts_are_whole(output, undisturbed, parts)
            assert hidden(output) == []
        subprocess.run(["mount", "-o", f"remount,size={3 * size_kib}k", disk], check=True)
        assert start(*arguments, "--output", output).end()[0] == 0
        assert parts(output) == undisturbed
        assert_rows_are_there_once(output)


@pytest.mark.second_tier
@needs_root
def test_an_output_on_a_read_only_disk_is_named(start: Start, arguments: tuple[object, ...], tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro") as disk:
        code, error = start(*arguments, "--output", disk / "out").end()
    assert code == 1
    assert error.startswith(f"error: {disk}/out: cannot be written: "), "before anything is read"


@pytest.mark.second_tier
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_without_permission_is_named(start: Start, arguments: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o500)
    code, error = start(*arguments, "--output", tmp_path / "mine" / "out").end()
    assert code == 1
    assert error.startswith(f"error: {tmp_path}/mine/out: cannot be written: ")


@pytest.fixture
def copied(numbered: Path, tmp_path: Path) -> Path:
    """Gives a copy of the corpus to damage."""
    return Path(shutil.copytree(numbered, tmp_path / "in"))


@pytest.mark.second_tier
def test_a_truncated_file_fails_the_run_or_is_set_aside(
    start: Start, copied: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    os.truncate(copied / "a.parquet", (copied / "a.parquet").stat().st_size * 2 // 3)
    arguments = ("score", copied, "--model", tiny_bundle, "--rows-per-part", 500, "--output", tmp_path / "out")
    code, error = start(*arguments).end()
    assert code == 1
    assert f"error: {copied}/a.parquet: not a Parquet file: " in error
    assert error.endswith("--max-bad-files 1 would set bad files aside\n")
    assert not (tmp_path / "out").exists()
    assert start(*arguments, "--max-bad-files", 1).end()[0] == 3
    assert_rows_are_there_once(tmp_path / "out", range(20_000, ROWS))


def damage(path: Path, row_group: int) -> None:
    """Overwrites the texts of a row group; the footer stays as it is."""
    column = pq.ParquetFile(path).metadata.row_group(row_group).column(0)
    start = (column.dictionary_page_offset or column.data_page_offset) + 30  # about a page header
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * (column.total_compressed_size - 30))


@pytest.mark.second_tier
def test_garbage_in_the_third_row_group(
    start: Start, copied: Path, tiny_bundle: Path, undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path
) -> None:
    damage(copied / "a.parquet", 2)
    output = tmp_path / "out"
    arguments = ("score", copied, "--model", tiny_bundle, "--rows-per-part", 500, "--output", output)
    code, error = start(*arguments).end()
    assert code == 1
    assert f"error: {copied}/a.parquet: row group 2 cannot be read: " in error
    assert not (output / "_SUCCESS").exists()
    code, error = start(*arguments, "--max-bad-files", 1).end()
    assert code == 3, error
    assert_rows_are_there_once(output, range(20_000, ROWS))
    (bad,) = pq.read_table(output / "_bad_files.parquet").to_pylist()
    assert bad["path"] == f"{copied}/a.parquet"
    assert bad["error"].startswith("row group 2 cannot be read: ")


@pytest.mark.second_tier
def test_two_runs_to_one_output(
    start: Start, arguments: tuple[object, ...], undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    first = start(*arguments, "--output", output)
    first.wait_until(lambda: len(parts(output)) >= 1)
    first.process.send_signal(signal.SIGSTOP)
    code, error = start(*arguments, "--output", output).end()
    first.process.send_signal(signal.SIGCONT)
    assert code == 1
    assert error.splitlines()[-1] == (
        f"error: {output}: another run is writing here: wait for it, or choose another --output"
    )
    assert first.end()[0] == 0
    assert parts(output) == undisturbed


def test_temporary_files_of_a_killed_run_are_no_parts_and_are_cleaned(
    start: Start, arguments: tuple[object, ...], undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = start(*arguments, "--output", output)
    command.wait_until(lambda: len(parts(output)) >= 1)
    command.kill()
    name, content = next(iter(undisturbed.items()))
    for place in (output, output / "_plan"):
        (place / f".{name}.0123456789abcdef.tmp").write_bytes(content[:-100])
    assert_parts_are_whole(output, undisturbed, parts)
    ds.dataset(output).count_rows()
    assert start(*arguments, "--output", output).end()[0] == 0
    assert hidden(output) == []
    assert parts(output) == undisturbed


@pytest.mark.parametrize("left", [(), ("_plan/lock",), ("_plan/lock", "_plan/config.yaml")], ids=str)
def test_a_run_killed_before_it_wrote_its_plan_does_not_keep_the_next_out(
    numbered: Path, tiny_bundle: Path, tmp_path: Path, left: tuple[str, ...]
) -> None:
    (tmp_path / "out" / "_plan").mkdir(parents=True)
    for name in left:
        (tmp_path / "out" / name).touch()
    manifest = score_in_process(numbered, tiny_bundle, tmp_path / "out", max_rows=1_000)
    assert (manifest.rows, manifest.parts_kept) == (1_000, 0)


def change_nothing_but_the_time(path: Path) -> None:
    """Writes the same bytes again."""
    path.write_bytes(path.read_bytes())
    os.utime(path, (1, 1))


def replace_by_another(path: Path) -> None:
    """Puts another file in its place, of the same rows."""
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "text", pa.array(["bad"] * len(table))), path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def overwrite_in_place(path: Path) -> None:
    """Writes other bytes into the same file."""
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, (1, 1))


CHANGES = [change_nothing_but_the_time, replace_by_another, overwrite_in_place]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_between_plan_and_read_is_not_scored(
    copied: Path, tiny_bundle: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    config = score_config(copied, tiny_bundle, tmp_path / "out")
    bundle = read_bundle(config.model)
    plan = make_plan(config, bundle.hash)
    change(copied / "b.parquet")
    results = list(score_here(config, bundle, plan, set()))
    bad = [result for result in results if isinstance(result, BadFile)]
    assert {file.path for file in bad} == {f"{copied}/b.parquet"}
    assert all("has changed since the run was planned" in file.error for file in bad)
    assert_rows_are_there_once(tmp_path / "out", range(20_000))


@pytest.mark.parametrize("change", [Path.unlink, replace_by_another])
def test_a_file_that_goes_or_changes_while_the_run_is_planned(
    copied: Path, tiny_bundle: Path, tmp_path: Path, parts: Parts, change: Callable[[Path], None]
) -> None:
    def change_now(event: Event) -> None:
        if "80 parts to write" in str(event):
            change(copied / "b.parquet")

    output = tmp_path / "out"
    with pytest.raises(InputError, match=r"b\.parquet: (no such file|has changed since)"):
        score_in_process(copied, tiny_bundle, output, change_now)
    assert not (output / "_SUCCESS").exists()
    assert all(name.startswith("part-000000-") for name in parts(output))


@pytest.mark.parametrize("change", [Path.unlink, replace_by_another])
def test_a_file_that_goes_or_changes_is_set_aside_if_it_may_be(
    copied: Path, tiny_bundle: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    def change_now(event: Event) -> None:
        if "80 parts to write" in str(event):
            change(copied / "b.parquet")

    manifest = score_in_process(copied, tiny_bundle, tmp_path / "out", change_now, max_bad_files=1)
    assert (manifest.rows, manifest.bad_files) == (20_000, 1)
    assert_rows_are_there_once(tmp_path / "out", range(20_000))
