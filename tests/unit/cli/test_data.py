"""What `lstm-ray data` prints, and the commands that messages propose to make Parquet."""

from __future__ import annotations

import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from lstm_ray.cli.app import app
from lstm_ray.datasets.convert.delimited import DELIMITERS
from lstm_ray.datasets.convert.json_lines import SUFFIXES
from lstm_ray.errors import InputError
from lstm_ray.storage.formats import COMPRESSIONS, many_to_convert, not_parquet
from lstm_ray.storage.inputs import find_file, find_inputs
from lstm_ray.storage.parquet import open_parquet


@pytest.mark.parametrize("name", ["reviews.csv", "my reviews' list.TSV", "2026.11.jsonl"])
def test_what_is_no_parquet_names_the_command_that_makes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "text\tlabel\ngood\t1\n" if name.endswith("TSV") else "text,label\ngood,1\n"
    Path(name).write_text('{"text": "good", "label": 1}\n' if "json" in name else text, encoding="utf-8")
    with pytest.raises(InputError) as refused, open_parquet(find_file(str(tmp_path / name))):
        pass
    program, *words = shlex.split(str(refused.value).split("`")[1])
    assert program == "lstm-ray"
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert pq.read_table(words[-1]).to_pylist() == [{"text": "good", "label": 1}]
    with pytest.raises(InputError) as again, open_parquet(find_file(str(tmp_path / name))):
        pass
    assert f"not a Parquet file: did you mean {shlex.quote(words[-1])}? If not, `lstm-ray" in str(again.value)
    _, *others = shlex.split(str(again.value).split("`")[1])
    assert others == [*words[:-1], words[-1].replace(".parquet", "-2.parquet")]


@pytest.mark.parametrize("names", [["a.csv", "b.csv"], ["a.csv", "b.CSV"], ["a/x.jsonl", "y.jsonl"]], ids=str)
def test_a_directory_of_what_is_no_parquet_is_refused_with_a_command_that_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        path = tmp_path / "my [old] reviews" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\ngood\n" if name.lower().endswith("csv") else '{"text": "good"}\n', encoding="utf-8")
    with pytest.raises(InputError) as refused:
        find_inputs(["my [old] reviews"], print)
    _, *words = shlex.split(str(refused.value).split("`")[1])
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    notes: list[object] = []
    (made,) = find_inputs(["my [old] reviews"], notes.append)  # the same input now has the rows
    assert str(notes[0]).endswith(f"; their rows may be in {tmp_path}/my [old] reviews/my [old] reviews.parquet")
    assert made.path == str(tmp_path / "my [old] reviews/my [old] reviews.parquet")
    assert pq.read_table(made.path, partitioning=None).to_pylist() == [{"text": "good"}] * 2


def test_the_command_is_named_for_all_that_can_be_converted() -> None:
    for suffix in (*DELIMITERS, *SUFFIXES):
        for packed in ("", *COMPRESSIONS):
            said = not_parquet(f"s3://bucket/a/b{suffix}{packed}", ValueError("no"))
            command = f"lstm-ray data convert b{suffix}{packed} --output b.parquet"
            assert said == f"not a Parquet file: fetch b{suffix}{packed}, and `{command}` makes Parquet of it"
    assert many_to_convert("s3://bucket/a", ["b.csv"]) == "fetch them, and convert them with lstm-ray data convert"
    assert many_to_convert("a", ["b.csv", "c.json"]) is many_to_convert("a", ["b.csv", "README"]) is None
    assert not_parquet("a/b.csv.parquet", ValueError("no")) == "not a Parquet file: no"


@pytest.mark.parametrize("by", [[], ["--by", "film"]], ids=["text", "film"])
def test_a_split_counts_all_rows_and_names_the_next_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    pq.write_table(
        pa.table({"body": [f"text {row}" for row in range(90)], "film": [row // 3 for row in range(90)]}), "in"
    )
    done = CliRunner().invoke(app, ["data", "split", "in", "--output", "out", "--text-column", "body", *by])
    assert done.exit_code == 0, done.output
    rows = {name: pq.read_metadata(f"out/{name}.parquet").num_rows for name in ("train", "test")}
    assert rows["train"] + rows["test"] == 90
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    for name, count in rows.items():
        groups = f" of {count // 3} groups" if by else ""
        assert shown[name] == f"out/{name}.parquet: {count} rows{groups}"
    train = "lstm-ray train --train out/train.parquet --output runs/out --text-column body"
    group = " --validation-group film" if by else ""
    assert shown["next"] == f"{train} --label-column COLUMN{group}"
    measure = "lstm-ray evaluate out/test.parquet --model runs/out/model --text-column body"
    assert shown["then"] == f"{measure} --label-column COLUMN"


def test_a_split_by_one_group_and_rows_without_one_is_not_trained_by_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    texts = [f"text {row}" for row in range(90)]
    groups = [None if row % 2 else "a film" for row in range(90)]  # which is for training
    pq.write_table(pa.table({"text": texts, "label": [row % 3 % 2 for row in range(90)], "film": groups}), "in")
    done = CliRunner().invoke(app, ["data", "split", "in", "--output", "out", "--by", "film"])
    assert done.exit_code == 0, done.output
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    assert shown["train"].endswith(" rows of 1 group")
    assert shown["test"].endswith(" rows, none with a group")
    assert shown["next"] == "lstm-ray train --train out/train.parquet --output runs/out"


@pytest.mark.parametrize("rows", [0, 1])
def test_a_file_without_rows_is_for_nothing(tmp_path: Path, rows: int) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text,label\n" + "good,1\n" * rows, encoding="utf-8")
    done = CliRunner().invoke(app, ["data", "convert", str(source), "--output", str(tmp_path / "out.parquet")])
    assert done.exit_code == 0, done.output
    assert ("next" in done.stdout) == bool(rows)
    assert ("no rows" in done.stderr) == (not rows)


def test_a_split_by_groups_is_trained_by_groups_and_rows_without_a_date_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = 40
    table = {
        "text": [f"good {row}" for row in range(rows)],
        "label": [row % 2 for row in range(rows)],
        "the film": list(range(rows)),
        "date": ["2024-01-01", "2024-02-01", None, " "] * (rows // 4),
    }
    pq.write_table(pa.table(table), "in.parquet")

    def printed(*options: str) -> str:
        done = CliRunner().invoke(app, ["data", "split", "in.parquet", "--output", "out", "--overwrite", *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    shown = printed("--by", "the film", "--test", "0.5")
    assert "train --train out/train.parquet --output runs/out --validation-group 'the film'\n" in shown
    assert shown.endswith("evaluate out/test.parquet --model runs/out/model\n")
    shown = printed("--before", "2024-01-15")
    assert "out/train.parquet: 30 rows, 20 of them without a date\n" in shown
    assert "--output runs/out\n" in shown
    assert "date" not in printed("--test", "0.5")


def test_the_columns_that_may_have_the_labels_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text(
        "useful,funny,text\n" + "".join(f"5,0,good {n}\n1,3,bad {n}\n" for n in range(20)), encoding="utf-8"
    )
    for words in (["convert", "in.csv", "-o", "in.parquet"], ["split", "in.parquet", "-o", "out"]):
        done = CliRunner().invoke(app, ["data", *words])
        assert "--label-column COLUMN\n" in done.stdout
        assert "COLUMN give the column that has the labels: 'useful' (1, 5) or 'funny' (0, 3)\n" in done.stderr


def test_a_column_with_a_very_long_name_does_not_fill_the_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "x" * 1_000_000
    Path("in.csv").write_text(f"{name},label,{name}2\na,1,007\nb,0,008\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["data", "convert", "in.csv", "--output", "out.parquet"])
    assert done.exit_code == 0, done.output
    assert "--text-column COLUMN" in done.output
    assert len(done.output) < 3_000
    assert pq.read_schema("out.parquet").names == [name, "label", f"{name}2"]
    missing = CliRunner().invoke(app, ["data", "convert", "in.csv", "--output", "x.parquet", "--as-text", "xx"])
    assert missing.exit_code == 1
    assert len(str(missing.exception)) < 3_000


def test_parquet_is_not_written_to_stdout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("text\ngood\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["data", "convert", "in.csv", "--output", "-"])
    assert (
        str(done.exception) == "--output -: Parquet is not written to stdout: name a file, or for one of this name ./-"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_of_a_file_without_texts_no_command_is_proposed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("columns.json").write_text('{"text": {"0": "a good film"}, "label": {"0": 1}}\n', encoding="utf-8")
    done = CliRunner().invoke(app, ["data", "convert", "columns.json", "-o", "out.parquet"])
    assert done.exit_code == 0, done.output
    assert "Converted" in done.output
    assert "next" not in done.output
