"""Tables as inputs: files during a call, named by a hash of their content."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lstm_ray
from lstm_ray.api import tables
from lstm_ray.api.tables import tables_as_files
from lstm_ray.config import TrainConfig, resolve
from lstm_ray.errors import ConfigError, InputError, LstmRayError, OutputError
from lstm_ray.progress import Count, ignore
from lstm_ray.report.rendering import flatten
from lstm_ray.storage.inputs import find_inputs
from lstm_ray.train.resume import begin_run, open_run

TABLE = pa.table({"text": ["good", "bad"], "label": [1, 0]})
FRAME = pd.DataFrame({"text": ["good", "bad"], "label": [1, 0]}, index=[7, 8])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives the directory of the tables."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/lstm-ray/tables"


def left_in(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name != ".lock"]


@pytest.mark.parametrize(
    "table", [TABLE, FRAME, TABLE.to_reader(), TABLE.to_batches()[0]], ids=lambda one: type(one).__name__
)
def test_a_table_is_a_file_during_the_call(cache: Path, table: Any) -> None:
    with tables_as_files({"train": table, "output": "o", "epochs": None}, ignore) as (given, _):
        path = Path(given.pop("train"))
        assert given == {"output": "o", "epochs": None}
        assert pq.read_table(path).cast(TABLE.schema) == TABLE  # pandas' texts are large_string
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert left_in(cache) == []


def test_equal_tables_have_one_name_and_others_another(cache: Path) -> None:
    names = []
    for table in (TABLE, pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]), TABLE.slice(1)):
        with tables_as_files({"train": table}, ignore) as (given, _):
            names.append(given["train"])
    assert names[0] == names[1] != names[2]


def test_a_call_does_not_delete_what_another_reads(cache: Path) -> None:
    with tables_as_files({"train": TABLE}, ignore) as (one, _):
        with tables_as_files({"train": TABLE, "validation": TABLE}, ignore) as (other, _):
            assert set(other.values()) == {one["train"]}
        assert pq.read_table(one["train"]).equals(TABLE)
    assert left_in(cache) == []


def test_errors_of_the_call_are_its_own_and_the_file_is_deleted(cache: Path) -> None:
    with pytest.raises(OSError, match=r"^mine$"), tables_as_files({"train": TABLE}, ignore):
        raise OSError("mine")
    assert left_in(cache) == []


@pytest.mark.parametrize(
    "table", [pd.DataFrame({"text": [1, "a"]}), pa.table({"a": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})]
)
def test_what_parquet_cannot_hold_is_named(cache: Path, table: Any) -> None:
    with pytest.raises(InputError, match=r"table.*: leave out the columns"), tables_as_files({"train": table}, ignore):
        pass
    assert not cache.exists() or left_in(cache) == []


@pytest.mark.parametrize(
    ("value", "how"),
    [
        ({"text": ["good"], "label": [1]}, "pandas.DataFrame(inputs)"),
        ([{"text": "good", "label": 1}], "pandas.DataFrame(inputs)"),
        ((["good"], [1]), "pandas.DataFrame(inputs)"),
        (np.array([["good", "1"]]), "pandas.DataFrame(inputs)"),
        ([pd.DataFrame({"text": ["good"]})], "pandas.concat(inputs)"),
        (SimpleNamespace(to_pandas=list), "inputs.to_pandas()"),
    ],
)
def test_rows_in_something_else_are_refused_with_what_makes_a_table_of_them(value: Any, how: str) -> None:
    with pytest.raises(ConfigError) as raised:
        lstm_ray.evaluate(value, model="m")
    assert str(raised.value) == (
        f"inputs= is of type {type(value).__name__}: give paths, an Arrow table or a data frame, such as {how}"
    )


def test_a_path_may_be_a_str_of_numpy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        lstm_ray.evaluate(np.str_(tmp_path / "missing.parquet"), model="m")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="file/lstm-ray/tables: the table cannot be written there"):
        lstm_ray.train(TABLE, output="o")


def test_tables_are_taken_where_this_process_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[pa.Table] = []

    def see(config: Any, progress: Any) -> None:
        read.extend(pq.read_table(path).cast(TABLE.schema) for path in getattr(config, "train", None) or config.inputs)

    from lstm_ray.evaluate import evaluation
    from lstm_ray.train import run

    monkeypatch.setattr(run, "train", see)
    monkeypatch.setattr(evaluation, "evaluate", see)
    lstm_ray.train(FRAME, output="o", validation=TABLE)
    lstm_ray.evaluate(TABLE, model="m")
    assert read == [TABLE, TABLE]
    calls: list[Any] = [
        lambda: lstm_ray.train(TABLE, output="o", workers=2),
        lambda: lstm_ray.evaluate(TABLE, model="m", address="auto"),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="= is a Table: Ray's nodes cannot read it: write it to Parquet and give"):
            call()
    with pytest.raises(
        ConfigError, match=r"inputs= is a Table: .* `lstm_ray\.load\(model\)\(table\)`, or write it to Parquet"
    ):
        lstm_ray.score(TABLE, model="m", output="o")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="source= is a DataFrame, which needs no conversion"):
        lstm_ray.convert(FRAME, output="o.parquet")  # type: ignore[arg-type]
    assert tables.is_table("a.parquet") is False


def test_a_table_is_split_and_calibrates(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_ray.evaluate import calibration

    frame = pd.DataFrame({"text": [f"good film {row}" for row in range(50)]})
    train, test = lstm_ray.split(frame, output=tmp_path / "sides")
    rows = [*pq.read_table(train.path)["text"].to_pylist(), *pq.read_table(test.path)["text"].to_pylist()]
    assert sorted(rows) == sorted(frame["text"])
    monkeypatch.setattr(calibration, "calibrate", lambda config, progress: pq.read_table(config.inputs[0]))
    read: Any = lstm_ray.calibrate(TABLE, model="m", output="o")
    assert read.cast(TABLE.schema) == TABLE


def test_a_column_of_a_frame_is_no_table() -> None:
    with (
        pytest.raises(InputError, match="train cannot be converted to an Arrow table"),
        tables_as_files({"train": FRAME["text"]}, ignore),
    ):
        pass


def test_an_error_names_the_argument_not_the_file(cache: Path) -> None:
    for call in (
        lambda: lstm_ray.train(TABLE, output="o", text_column="txt", preset="none"),
        lambda: lstm_ray.evaluate(FRAME, model="m"),
    ):
        with pytest.raises(LstmRayError) as raised:
            call()
        assert str(cache) not in str(raised.value)
    with (
        pytest.raises(InputError, match=r"^train and validation: empty$"),
        tables_as_files({"train": TABLE, "validation": TABLE, "output": "o"}, ignore) as (given, _),
    ):
        raise InputError(f"{given['train']}: empty")
    with pytest.raises(InputError, match=r"^train: no column 'txt'; .*: did you mean text_column='text'\?$"):
        lstm_ray.train(TABLE, output="o", text_column="txt", preset="none")


@pytest.mark.parametrize("cache_home", ["cache", "my cache"])
def test_messages_name_the_argument_and_no_file_of_an_earlier_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_home: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache_home))
    cache = tmp_path / cache_home / "lstm-ray/tables"
    old = f"{cache}/table-{'0' * 32}.parquet"
    told: list[Any] = []
    with tables_as_files({"train": TABLE, "output": "o"}, told.append) as (files, progress):
        progress(f"warning: {files['train']!r} changed")
        progress(f"note: {files['train']}: {old} there, {cache}/table-1.parquet here")
        progress(f"note: {old!r}, [{old!r}], ({old})")
        progress(Count(1, 2, "rows"))
    assert told == [
        "warning: train changed",
        f"note: train: another table there, {cache}/table-1.parquet here",
        "note: another table, [another table], (another table)",
        Count(1, 2, "rows"),
    ]


def test_the_settings_of_a_run_of_a_table_say_what_resumes_it(cache: Path, tmp_path: Path) -> None:
    """As `lstm-ray train --config RUN/config.yaml` does, which has no table."""
    config = resolve(TrainConfig, {"output": str(tmp_path / "run"), "preset": "none"})
    with tables_as_files({"train": TABLE}, ignore) as (files, _):
        begin_run(config.model_copy(update={"train": (files["train"],)}))
    gone = "it was a file only during an earlier call: repeat that call with the same table, or give files$"
    with pytest.raises(InputError, match=f"^a table that a call from Python was given: {gone}"):
        lstm_ray.train(job=tmp_path / "run/config.yaml")
    with pytest.raises(InputError, match=f"^another table: {gone}"):
        lstm_ray.train(job=tmp_path / "run/config.yaml", validation=TABLE.slice(1))


def test_a_table_has_not_changed_after_a_run_and_another_one_is_named_as_such(cache: Path, tmp_path: Path) -> None:
    config = resolve(TrainConfig, {"train": ["a"], "output": str(tmp_path / "run"), "preset": "none"})
    times = set()
    for table in (TABLE, TABLE.slice(0), TABLE.slice(1)):
        with tables_as_files({"train": table}, ignore) as (files, _):
            run = config.model_copy(update={"train": (files["train"],)})
            times.update(file.modified for file in find_inputs(run.train))
            if table is TABLE:
                begin_run(run)
                written = (tmp_path / "run/config.yaml").read_text(encoding="utf-8")
                assert written.startswith("# lstm_ray.train was given a data frame: ")
                shown = dict(flatten({"train": list(run.train), "inputs": ["a.parquet"]}))
                assert re.fullmatch("data frame [0-9a-f]{8}", shown["train"])
                assert shown["inputs"] == "a.parquet"
            elif len(table) == len(TABLE):
                assert open_run(run)
            else:
                with pytest.raises(OutputError) as raised, tables_as_files({"train": table}, ignore):
                    open_run(run)
    assert len(times) == 1
    assert str(raised.value) == (
        f"{tmp_path}/run: holds a run with other settings (--train another table there, this one here): choose another "
        "--output, or use --fresh to delete that run and start over"
    )


def test_tables_of_killed_processes_are_deleted_by_the_next_call(cache: Path) -> None:
    """The lock of a process ends with it, however it ends."""
    program = (
        "import os, signal, pyarrow as pa; from lstm_ray.api.tables import tables_as_files\n"
        "from lstm_ray.progress import ignore\n"
        "with tables_as_files({'train': pa.table({'text': ['another']})}, ignore): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    (cache / ".0123456789abcdef.tmp").write_bytes(b"half of a table")
    assert len(left_in(cache)) == 2
    with tables_as_files({"train": TABLE}, ignore) as (given, _):
        assert left_in(cache) == [Path(given["train"]).name]
    assert left_in(cache) == []
