"""CSV and JSON lines into Parquet: every value as it was, and errors that say what to do."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm_ray.datasets import convert as module
from lstm_ray.datasets.convert import Converted, convert
from lstm_ray.errors import ConfigError, InputError, OutputError

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1, max_size=30)


@given(st.lists(texts, min_size=1, max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_texts_are_what_pythons_csv_wrote(tmp_path: Path, values: list[str]) -> None:
    source = tmp_path / "in.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(values))
    made = convert(source, tmp_path / "out.parquet", as_text=["text"], overwrite=True)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["text"].to_pylist() == values
    assert table["id"].to_pylist() == list(range(len(values)))
    assert made.rows == len(values)


def test_line_breaks_delimiters_and_compression(tmp_path: Path) -> None:
    source = tmp_path / "in.csv.gz"
    source.write_bytes(gzip.compress(b'text;label\n"two\nlines; one ""review""";1\nshort;0\n'))
    convert(source, tmp_path / "out.parquet", delimiter=";")
    expected = {"text": ['two\nlines; one "review"', "short"], "label": [1, 0]}
    assert pq.read_table(tmp_path / "out.parquet").to_pydict() == expected


def test_tabs_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("text\tstars\na, b\t5\n", encoding="utf-8")
    convert(tmp_path / "in.tsv", tmp_path / "tsv.parquet")
    assert pq.read_table(tmp_path / "tsv.parquet").to_pydict() == {"text": ["a, b"], "stars": [5]}
    rows = [{"text": "good\nfilm", "stars": 4}, {"text": None, "stars": 1}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    convert(tmp_path / "in.jsonl", tmp_path / "json.parquet")
    assert pq.read_table(tmp_path / "json.parquet").to_pylist() == rows
    convert(tmp_path / "in.jsonl", tmp_path / "json.parquet", as_text=["stars"], overwrite=True)
    assert pq.read_table(tmp_path / "json.parquet")["stars"].to_pylist() == ["4", "1"]


def test_ids_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n007,good\n", encoding="utf-8")
    made = convert(tmp_path / "in.csv", tmp_path / "out.parquet", as_text=["id"])
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == ["007"]
    assert made.columns == {"id": "string", "text": "string"}
    with pytest.raises(InputError, match="no column 'zip'; it has 'id', 'text'"):
        convert(tmp_path / "in.csv", tmp_path / "other.parquet", as_text=["zip"])


def test_another_encoding_is_named_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes("text\nun café\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"in\.csv: column 'text' is not UTF-8: name its --encoding"):
        convert(source, tmp_path / "out.parquet")
    convert(source, tmp_path / "out.parquet", encoding="latin-1")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["un café"]
    monkeypatch.setattr(module, "_BLOCK_BYTES", 64)  # found in a later block than the first
    source.write_bytes(b"text\n" + b"plain text\n" * 20 + "un café\n".encode("latin-1"))
    with pytest.raises(InputError, match="--encoding"):
        convert(source, tmp_path / "out.parquet", overwrite=True)
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["un café"], "what was there stays"


def test_a_type_that_changes_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 64)
    (tmp_path / "in.csv").write_text("id,text\n" + "1,good\n" * 20 + "x,bad\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"in\.csv: cannot be read: .*--as-text"):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_what_would_go_wrong_unnoticed_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    for content, message in (
        (b"text;label\ngood;1\n", r"has one column, 'text;label': try --delimiter ';'"),
        (b"text;label\ngood, bad;1\n", r"cannot be read: .*does it have another --delimiter"),
        (b"text,text\ngood,bad\n", "has two columns named 'text'"),
        ("Körper\ngood\n".encode("latin-1"), "--encoding, often latin-1"),
    ):
        source.write_bytes(content)
        with pytest.raises(InputError, match=message):
            convert(source, tmp_path / "out.parquet")
        assert not (tmp_path / "out.parquet").exists()
    with pytest.raises(OutputError, match=r"in\.csv: is the file to convert"):
        convert(source, source, overwrite=True)
    assert source.read_bytes() == "Körper\ngood\n".encode("latin-1")
    with pytest.raises(ConfigError, match="--delimiter is ';;': expected one character"):
        convert(source, tmp_path / "out.parquet", delimiter=";;")


def test_what_cannot_be_converted_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.csv: no such file"):
        convert(tmp_path / "missing.csv", tmp_path / "out.parquet")
    (tmp_path / "in.xls").write_bytes(b"\xd0\xcf")
    with pytest.raises(ConfigError, match=r"neither \.csv, \.tsv nor \.jsonl"):
        convert(tmp_path / "in.xls", tmp_path / "out.parquet")
    (tmp_path / "in.jsonl").write_text("{not json", encoding="utf-8")
    with pytest.raises(InputError, match=r"in\.jsonl: cannot be read"):
        convert(tmp_path / "in.jsonl", tmp_path / "out.parquet")
    (tmp_path / "in.csv").write_text("text\ngood\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be read.*klingon"):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet", encoding="klingon")
    (tmp_path / "out.parquet").touch()
    with pytest.raises(OutputError, match="--overwrite"):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet")


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.jsonl"])
def test_progress_is_told_in_bytes_of_the_file_up_to_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1 << 16)
    lines = [f"{i * 7919 % 100_003},a film of {i}" for i in range(20_000)]
    if name.endswith(".jsonl"):
        content = "\n".join(json.dumps({"text": line}) for line in lines).encode()
    else:
        content = "\n".join(["id,text", *lines, ""]).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    told: list[tuple[int, int]] = []
    made = convert(tmp_path / name, tmp_path / "out.parquet", progress=lambda *done: told.append(done))
    size = (tmp_path / name).stat().st_size
    assert made.rows == 20_000
    assert told[0] == (0, size)
    assert told[-1] == (size, size)
    assert told == sorted(told)
    assert len({done for done, _ in told}) >= (5 if name.endswith(".csv") else 2)


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"text": "string", "label": "int64"}, []),
        ({"review": "string", "stars": "int64"}, ["--text-column", "review", "--label-column", "stars"]),
        ({"text": "string", "stars": "int64", "id": "int64"}, ["--label-column", "NAME"]),
        ({"title": "string", "body": "string", "label": "string"}, ["--text-column", "NAME"]),
        ({"text": "string"}, ["--label-column", "NAME"]),
    ],
)
def test_what_training_on_it_must_be_told(columns: dict[str, str], options: list[str]) -> None:
    assert Converted(Path("out.parquet"), 1, columns).column_options() == options
