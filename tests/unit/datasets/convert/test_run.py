"""CSV and JSON into Parquet: every value as it was, and errors that say what to do."""

from __future__ import annotations

import ast
import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm_ray.config import ConvertConfig, resolve
from lstm_ray.datasets import convert as package
from lstm_ray.datasets.convert import Converted, delimited, json_lines, run
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.progress import Count, Event, Progress, ignore

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=30)
oddities = st.sampled_from(
    ["007", "-0", "1e5", "1.0", "0.1", "NA", "", " 7", "true", "9" * 30, "inf", "+1", "1_0", '"', "\\"]
)


def convert(source: Any, output: Path, *, progress: Progress = ignore, **settings: Any) -> Converted:
    """Converts a file."""
    return run.convert(resolve(ConvertConfig, {"source": source, "output": output, **settings}), progress)


def rewritten(value: object) -> set[str]:
    """Returns the ways in which CSV may write a value that Parquet holds."""
    if value is None:
        return {"", "NA"}
    if isinstance(value, bool):
        return {str(value).lower()}
    return {f"{value:g}", str(value), f"{value}".removesuffix(".0")}


@given(st.lists(st.lists(texts | oddities, min_size=3, max_size=3), min_size=1, max_size=20), st.sampled_from("\"'"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_are_what_pythons_csv_wrote(tmp_path: Path, rows: list[list[str]], quote: str) -> None:
    source = tmp_path / "in.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, quotechar=quote)
        writer.writerow(["a", "b", "text"])
        writer.writerows(rows)
    made = convert(source, tmp_path / "out.parquet", as_text=["text"], quote=quote, overwrite=True)
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    kept = [row for row in rows if any(map(str.strip, row)) or len(row) == 3]
    assert made.rows == len(kept)
    assert found["text"] == [row[2] for row in kept]
    for name, column in (("a", 0), ("b", 1)):
        for value, row in zip(found[name], kept, strict=True):
            assert value == row[column] or row[column].strip() in rewritten(value)


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts
lists = st.lists(scalars, max_size=3)
values = scalars | lists | st.dictionaries(texts, scalars | lists, max_size=3) | st.lists(lists, max_size=2)


@given(
    st.lists(st.fixed_dictionaries({"a": values}, optional={"b": st.integers() | st.floats()}), min_size=1, max_size=9)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_is_what_python_wrote_or_its_text(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    convert(source, tmp_path / "out.parquet", overwrite=True)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.num_rows == len(rows)
    for name in table.column_names:
        for found, row in zip(table[name].to_pylist(), rows, strict=True):
            assert repr(without_nulls(found)) in (
                repr(without_nulls(row.get(name))),
                repr(without_nulls(as_floats(row.get(name)))),
                repr(json.dumps(row.get(name), ensure_ascii=False)),
            )


def without_nulls(value: object) -> object:
    """Returns a value without the keys whose value is null: a struct has all keys of its column."""
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {key: without_nulls(value[key]) for key in sorted(value) if value[key] is not None}
    return value


def as_floats(value: object) -> object:
    """Returns a value whose integers are floats, as in a column that has both."""
    if isinstance(value, list):
        return [as_floats(one) for one in value]
    if isinstance(value, dict):
        return {key: as_floats(one) for key, one in value.items()}
    return float(value) if type(value) is int else value


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


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.jsonl", "in.json"])
def test_another_encoding_is_named_or_asked_for(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    content = '{"text": "un café"}' if "json" in name else "text\nun café\n"
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):  # these begin with a mark
        source.write_text(content, encoding=encoding)
        convert(source, tmp_path / "out.parquet", overwrite=True)
        assert pq.read_table(tmp_path / "out.parquet").to_pydict() == {"text": ["un café"]}
    for encoding in ("utf-16-le", "utf-16-be"):
        source.write_text(content, encoding=encoding)
        with pytest.raises(InputError, match=f"try --encoding {encoding}"):
            convert(source, tmp_path / "out.parquet", overwrite=True)
        convert(source, tmp_path / "out.parquet", encoding=encoding, overwrite=True)
        assert pq.read_table(tmp_path / "out.parquet").to_pydict() == {"text": ["un café"]}
    source.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"line \d+, byte \d+ of the file \(0x.*\) is not .*: name its --encoding"):
        convert(source, tmp_path / "out.parquet", overwrite=True)
    convert(source, tmp_path / "out.parquet", encoding="latin-1", overwrite=True)
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["un café"]
    source.write_bytes((content.replace("un café", "x" * 100_000) + "\n" + content).encode("latin-1"))
    with pytest.raises(InputError, match="--encoding"):
        convert(source, tmp_path / "out.parquet", overwrite=True)
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["un café"], "what was there stays"


@pytest.mark.parametrize("text", ["очень хороший фильм", "很好的电影", "ĀāĂ", "good"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_wide_characters_without_a_mark_are_recognised_in_any_script(tmp_path: Path, text: str, encoding: str) -> None:
    """In Cyrillic letters the bytes are UTF-8 as well, with control characters."""
    source, output = tmp_path / "in.csv", tmp_path / "out.parquet"
    source.write_text(f"{text},n\n" + f"{text} ({text}),1\n" * 9, encoding=encoding)
    with pytest.raises(InputError, match=rf"in\.csv: looks like UTF-16: try --encoding {encoding}"):
        convert(source, output)
    assert convert(source, output, encoding=encoding).columns == {text: "string", "n": "int64"}


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_other_text_that_begins_with_nul_characters_needs_an_encoding(tmp_path: Path, encoding: str) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.parquet"
    source.write_text("очень,n\n" + "хороший фильм,1\n" * 9, encoding=encoding)
    with pytest.raises(InputError, match="begins with NUL characters: is it text"):
        convert(source, output)
    assert convert(source, output, encoding=encoding).rows == 9


def test_text_with_nul_characters_is_no_wide_encoding(tmp_path: Path) -> None:
    (source,) = write_all(tmp_path, {"in.csv": "text,label\na\0good film,1\nba\0d,0\n"})
    convert(source, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["a\0good film", "ba\0d"]


@pytest.mark.parametrize("end", [b"\n", b"\n\0good\n"])
def test_a_cut_or_mixed_file_of_wide_characters_needs_no_other_encoding(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "in.csv").write_bytes("text\nun café".encode("utf-16") + end)
    with pytest.raises(InputError, match=r"line \d, byte \d+ .* is not utf-16: the file is cut off, or .*encoding$"):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet")


def test_a_link_that_leads_nowhere_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    (source,) = write_all(tmp_path, {"in.csv": "text\ngood\n"})
    (tmp_path / "out.parquet").symlink_to("gone.parquet")
    with pytest.raises(OutputError, match=r"out.parquet: exists already"):
        convert(source, tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").is_symlink()
    assert convert(source, tmp_path / "out.parquet", overwrite=True).rows == 1


def test_an_encoding_that_encodes_nothing_is_refused(tmp_path: Path) -> None:
    (source,) = write_all(tmp_path, {"in.csv": "text\ngood\n"})
    with pytest.raises(ConfigError, match=r"--encoding: .*undefined"):
        convert(source, tmp_path / "out.parquet", encoding="undefined")


def test_a_column_whose_type_changes_in_a_later_block_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "_BLOCK_ROWS", 4)
    monkeypatch.setattr(json_lines, "_BLOCK_ROWS", 4)
    ids = [*map(str, range(1, 11)), "x"]
    (tmp_path / "in.csv").write_text("id,text\n" + "".join(f"{one},good\n" for one in ids), encoding="utf-8")
    made = convert(tmp_path / "in.csv", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == ids
    assert made.notes == ("column 'id' is kept as text: 'x' in line 12 is not a number",)
    lines = [f'{{"id": {one}}}' for one in ids[:-1]]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, '{"id": "x"}']), encoding="utf-8")
    made = convert(tmp_path / "in.jsonl", tmp_path / "out.parquet", overwrite=True)
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == ids
    assert made.notes == ("column 'id' is kept as text: line 11 holds \"x\", others are int64",)


@pytest.mark.parametrize("values", ["[0.5, false]", "[[0.5], [false]]", '[{"x": 0.5}, {"x": true}]', "[1, true]"])
def test_booleans_do_not_become_numbers(tmp_path: Path, values: str) -> None:
    lines = [json.dumps({"x": value}) for value in json.loads(values)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    made = convert(tmp_path / "in.jsonl", tmp_path / "out.parquet")
    assert made.columns == {"x": "string"}
    found = pq.read_table(tmp_path / "out.parquet")["x"].to_pylist()
    assert [json.loads(value) for value in found] == json.loads(values)


def test_integers_among_numbers_with_a_point_are_kept_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "_BLOCK_ROWS", 1)
    (tmp_path / "in.jsonl").write_text('{"my id": 9007199254740993}\n{"my id": 0.5}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"column 'my id': .*9007199254740993.*: --as-text 'my id'$"):
        convert(tmp_path / "in.jsonl", tmp_path / "out.parquet")
    convert(tmp_path / "in.jsonl", tmp_path / "out.parquet", as_text=["my id"])
    assert pq.read_table(tmp_path / "out.parquet")["my id"].to_pylist() == ["9007199254740993", "0.5"]


@pytest.mark.parametrize(
    ("values", "kind", "note"),
    [
        (["9223372036854775807", "-9223372036854775808"], "int64", ""),
        (["9223372036854775808", "1"], "string", "'9223372036854775808' in line 2 would change as a number"),
        (["12", "007"], "string", "'007' in line 3 would change as a number"),
        (["0", "-12", "NA", ""], "int64", ""),
        (["0.50", "4.25", "1e-05", ".5", "inf", "9007199254740992"], "double", "doubt"),
        (["0.5", "9007199254740993"], "string", "'9007199254740993' in line 3 would change as a number"),
        (["12e45", "3"], "string", "'12e45' in line 2 would change as a number"),
        (["1.5e45", "1e+20"], "double", ""),
        (["0.12345678901234567890"], "string", "'0.12345678901234567890' in line 2 would change as a number"),
        (["1e-400"], "string", "'1e-400' in line 2 would change as a number"),
        (["1e+400"], "string", "'1e+400' in line 2 would change as a number"),
        (["+49123"], "string", "'+49123' in line 2 would change as a number"),
        (["1,5", "2"], "string", "'1,5' in line 2 has a comma, and numbers have a point"),
        (["5", "five"], "string", "'five' in line 3 is not a number"),
        (["Infinity"], "string", "'Infinity' in line 2 would change as a number"),
        (["True", "false", ""], "bool", ""),
        (["true", "1"], "string", ""),
        (["2024-05-04", "9999-12-31"], "string", ""),
        (["", ""], "string", ""),
    ],
)
def test_numbers_are_numbers_where_no_value_changes(tmp_path: Path, values: list[str], kind: str, note: str) -> None:
    (tmp_path / "in.csv").write_text("x,y\n" + "".join(f'"{one}",a\n' for one in values), encoding="utf-8")
    made = convert(tmp_path / "in.csv", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")["x"].to_pylist()
    assert made.columns["x"] == kind
    doubt = "column 'x' is numbers: '0.50' in line 2 loses its last zero as a number"
    assert [one for one in made.notes if not one.startswith(doubt) and "became null" not in one] == (
        [f"column 'x' is kept as text: {note}"] if note not in ("", "doubt") else []
    )
    assert (note == "doubt") == any(one.startswith(doubt) for one in made.notes)
    readers = {"int64": int, "double": float, "bool": lambda text: text.lower() == "true"}
    read = readers.get(kind, str)
    assert found == [None if kind != "string" and one in ("", "NA") else read(one) for one in values]


def test_what_would_go_wrong_unnoticed_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    for content, message in (
        (b"text;label\ngood;1\n", r"has one column, 'text;label': try --delimiter ';'"),
        (b"text\tlabel\ngood\t1\n", r"has one column, .*: try --delimiter \$'\\t'"),
        (b"text\x01label\ngood\x011\n", r"has one column, .*: try --delimiter \$'\\x01'"),
        (
            b"text,label\nfine,0\ngood, bad,1\n",
            r"line 3 has 3 values, expected 2, for 'text', 'label': correct the line$",
        ),
        (
            b"Report,May\nfrom,1\nlabel,text,stars\n",
            r"line 3 has 3 values, expected 2, for 'Report', 'May': .* columns' names, delete the lines before them$",
        ),
        (
            b"# by hand\nlabel,text\n",
            r"line 2 has 2 values, expected 1, for '# by hand': .*delete the lines before them$",
        ),
        (b"label,text\n1,'good, really'\n", r"line 2 has 3 values, .*if values are quoted by ', give --quote \"'\""),
        (
            b'label, text\n1, "good, really"\n',
            r"line 2 has 3 values, .*delete the spaces between delimiter and quotation",
        ),
        (b"text,label\ngood;1\n", r"line 2 has 1 value, expected 2, for .* is the --delimiter ';'\?"),
        (b"text,text\ngood,bad\n", "has two columns named 'text'"),
        (b'text,label\n"a, b",c,1\n', r"line 2 has 3 values, .*: correct the line$"),
        (
            b'text,label\n5" long,c,1\n',
            "line 2 has 3 values, .*: correct the line; if no value is quoted, .*--quote none",
        ),
        (b'text,label\n"a lone mark,1\nanother "one",0\n', "line 2 continues after the end of a quoted value: .*none"),
        (b'text,label\n"a lone mark,1\nfine,0\n', "line 2 begins a quoted value that never ends: .*--quote none"),
        (b'text,label\n"a \\"great\\" film",1\n', r"line 2 continues .*: try --escape '\\'$"),
        (b"text,label\ngood\\, bad,1\n", r"line 2 has 3 values, .*: try --escape '\\'$"),
        (b"", "is empty"),
        ("Körper\ngood\n".encode("latin-1"), "'Körper' in cp1252"),
    ):
        source.write_bytes(content)
        with pytest.raises(InputError, match=message):
            convert(source, tmp_path / "out.parquet")
        assert not (tmp_path / "out.parquet").exists()
    with pytest.raises(OutputError, match=r"in\.csv: is the file to convert"):
        convert(source, source, overwrite=True)
    source.write_bytes(b"text,label\na,b,c\n")
    for quote in "*(|":  # a character of regular expressions
        with pytest.raises(InputError, match=r"line 2 has 3 values, .*: correct the line; if these"):
            convert(source, tmp_path / "out.parquet", quote=quote)
    for option, value in (("delimiter", ";;"), ("quote", "''"), ("escape", "\n"), ("delimiter", "")):
        with pytest.raises(ConfigError, match=f"--{option} is .*: expected one character"):
            convert(source, tmp_path / "out.parquet", **{option: value})
    for value, meant in (("\\t", "\t"), ("tab", "\t"), ("TAB", "\t"), ("\\x01", "\x01")):
        with pytest.raises(ConfigError, match="expected one character; a shell makes one of ") as raised:
            convert(source, tmp_path / "out.parquet", delimiter=value)
        for_shell, for_yaml = str(raised.value).split(" of ")[1:]
        assert subprocess.check_output(["bash", "-c", f"printf %s {for_shell.split(',')[0]}"], text=True) == meant
        assert yaml.safe_load(for_yaml) == meant
    with pytest.raises(ConfigError, match="--delimiter, --quote: expected different characters"):
        convert(source, tmp_path / "out.parquet", delimiter='"')


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ('text,label\n"he said \\"great\\", twice",1\n', {"escape": "\\"}, ['he said "great", twice']),
        ('text,label\n"a lone mark,1\nanother ""one"",0\n', {"quote": "none"}, ['"a lone mark', 'another ""one""']),
        ("text,label\n'a, b',1\n", {"quote": "'"}, ["a, b"]),
        ("text,label\na,1\n\n \n,\nb,0\n", {}, ["a", "", "b"]),
        ("good,1\nbad,0\n", {"column_names": ["text", "label"]}, ["good", "bad"]),
        ("text,label\r\ngood\0,1\r\n", {}, ["good\0"]),
        ("text,label,,\ngood,1,,\n,,,\n", {}, ["good", ""]),
        ("text,label\ngood,1\n\ufeffbad,0\n", {}, ["good", "\ufeffbad"]),
        (f"text,label\n{'x' * 200_000},1\n", {}, ["x" * 200_000]),
    ],
)
def test_rows_are_told_apart_as_the_options_say(
    tmp_path: Path, content: str, options: dict[str, Any], expected: list[str]
) -> None:
    (tmp_path / "in.csv").write_bytes(content.encode())
    convert(tmp_path / "in.csv", tmp_path / "out.parquet", **options)
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == expected


def test_a_lone_quotation_mark_between_tabs_takes_no_row_with_it(tmp_path: Path) -> None:
    rows = [("text", "stars"), *((f'"review {row}' if row % 5 == 0 else f"review {row}", row % 5) for row in range(99))]
    (tmp_path / "in.tsv").write_text("".join(f"{text}\t{stars}\n" for text, stars in rows), encoding="utf-8")
    convert(tmp_path / "in.tsv", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert list(zip(found["text"].to_pylist(), found["stars"].to_pylist(), strict=True)) == rows[1:]


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("in.csv", "1,good film\n2,bad film\n", "1 row, the first at line 1: .*looks like a row.*--column-names"),
        ("in.csv", f"a,{'good film ' * 10}\nb,c\n", "looks like a row"),
        ("in.csv", 'a,b\n"x,1\ny",2\n', "1 row, the first at line 2: .*lines that look like rows.*--quote none"),
        ("in.csv", "a,b\nx,1\na,b\na,b\n", "2 rows, the first at line 3: .*repeats the columns' names"),
        ("in.tsv", 'a\tb\n"x y"\t1\n', "1 row, the first at line 2: .*in quotation marks.*--quote '\"'"),
        ("in.csv", "a, b\nx,1\n", "line 1: a column's name has spaces around it, or characters that are not seen"),
        ("in.csv", "a,\ufeffb\nx,1\n", "line 1: a column's name has spaces around it, or characters that are not seen"),
        ("in.csv", "a,\u202eb\nx,1\n", "line 1: a column's name has spaces around it, or characters that are not seen"),
        ("in.csv", "a,b\nx,1,,\ny,2\n", "1 row, the first at line 2: .*empty values after the last column, .*left out"),
        ("in.csv", "a,b,,\nx,1,,\ny,2,,\n", "2 rows, the first at line 2: .*empty values after the last column"),
        ("in.csv", "a,b\nx,1\n,,,\n", "1 row, the first at line 3: .*empty values after the last column"),
        ("in.csv", ",a\n0,x\n", "line 1: a column has no name, such as the index that pandas writes"),
        ("in.csv", "a,b\nx,1\n\ufeffa,b\ny,2\n", "1 row, the first at line 3: .*repeats the columns' names"),
        ("in.csv", "a,b\nx,1\n\ufeffy,2\n", "1 row, the first at line 3: .*byte order mark, .*joined"),
        ("in.csv", 'a,b\n"x", "1"\n', "1 row, the first at line 2: a value stands in quotation marks after a space"),
        ("in.csv", 'a,b\n"""x""", "\n', None),
        ("in.csv", 'a,b\n"two\nlines",1\n', None),
        ("in.csv", "a,b\nx,1\n", None),
    ],
)
def test_what_looks_wrong_is_told(tmp_path: Path, name: str, content: str, note: str | None) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    notes = convert(tmp_path / name, tmp_path / "out.parquet").notes
    if note is None:
        assert notes == ()
    else:
        assert re.search(note, "\n".join(notes))


def test_names_that_do_not_fit_the_first_row_are_the_ones_to_correct(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,c\n1,2,3\n", encoding="utf-8")
    told = r"line 1 has 3 values, but --column-names has 1: give a name for each value; or correct the line$"
    with pytest.raises(InputError, match=told):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet", column_names=["Nr"])
    (tmp_path / "in.csv").write_text("1,2\n3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2 has 1 value, expected 2, as --column-names says: correct the line$"):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet", column_names=["a", "b"])


@pytest.mark.parametrize(
    ("content", "is_header"),
    [
        ("Stars,Review\n5,good\n", True),
        ("label,review\n1,good\n,bad\n", True),
        ("class,TEXT \nx,good\n", True),
        ("stars,text\n5,good\nstars,text\n", False),
        ("5,good\n1,bad\n", False),
        ("NA,good\n1,bad\n", False),
        ("five,good\none,bad\n", False),
        ("1,good\n", False),
    ],
)
def test_a_header_that_becomes_a_row_is_told(tmp_path: Path, content: str, is_header: bool) -> None:
    (tmp_path / "in.csv").write_text(content, encoding="utf-8")
    notes = convert(tmp_path / "in.csv", tmp_path / "out.parquet", column_names=["stars", "text"]).notes
    assert any("its first row looks like the columns' names" in note for note in notes) == is_header


def test_json_comes_as_lines_or_as_an_array(tmp_path: Path) -> None:
    rows = [{"text": "good", "n": 1}, {"text": "bad", "new": [{"x": None}]}]
    for content in (json.dumps(rows, indent=1), json.dumps(rows), "\n\n".join(map(json.dumps, rows))):
        (tmp_path / "in.json").write_text(content, encoding="utf-8")
        convert(tmp_path / "in.json", tmp_path / "out.parquet", overwrite=True)
        found = pq.read_table(tmp_path / "out.parquet").to_pylist()
        assert found == [{"text": "good", "n": 1, "new": None}, {"text": "bad", "n": None, "new": [{"x": None}]}]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (
            '{"version": 1, "my data": [{"text": "a"}, {"text": "b"}]}',
            r"""2 objects in 'my data': .* `jq -c '\."my data"\[\]' """,
        ),
        ('{"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 0}}', "an object in each column: .*orient='records'"),
        ('{"text": ["a", "b"], "label": [1, 0]}', "a list or an object in each column: .*orient='records'"),
        ('{"columns": ["text"], "index": [0, 1], "data": [["a"], ["b"]]}', "a list or an object in each column"),
        ('{"text": ["a"], "label": [1]}', None),
        ('{"text": "a", "tags": [{"x": 1}]}', None),
        ('{"text": "a", "from": {"x": 1, "y": 2}}', None),
        ('{"text": "a", "tags": [{"x": 1}, {"x": 2}]}\n{"text": "b"}', None),
    ],
)
def test_a_table_inside_one_object_is_told(tmp_path: Path, content: str, note: str | None) -> None:
    (tmp_path / "in.jsonl").write_text(content, encoding="utf-8")
    notes = convert(tmp_path / "in.jsonl", tmp_path / "out.parquet").notes
    assert not notes if note is None else re.search(note, notes[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\ngood,1\n", r"begins neither with .*; if it is delimited text, let its name end in .csv"),
        (
            "{not json",
            "line 1: Expecting property name .* at character 2: expected one object a line, or one array of objects",
        ),
        ('{"a": 1}\n[2]\n', "line 2 is no object"),
        ('[{"a": 1}, 2]', "item 2 is no object"),
        ('{\n"a": 1\n}\n', r"line 1: Expecting .*; `jq -c \. .*in\.jsonl` writes each object in one line"),
        ('{"a": 1, "a": 2}', "key 'a' occurs twice"),
        ('{"a": 1}{"a": 2}\n', r"Extra data at character 9: .*; `jq -c \. .*in\.jsonl` writes each object in one line"),
        ("{'a': 1}\n", "it is Python's notation: write it with json.dumps"),
        ('{"a": 1} // one\n', r"line 1: Extra data at character 10: [^;]*$"),
        ('{"a": "one\ntwo"}\n', r"line 1: Unterminated string .*; is the file cut off\? Or .*, write it as \\n$"),
        ('{"a": 1}\n{"a": 2', "line 2: Expecting .*; is the file cut off"),
        ('[{"a": 1},\n{"a": 2}\n', "line 2: Expecting .*; is the file cut off"),
        ("[]", r"in\.jsonl: no rows, so there are no columns"),
        ('{"a": "fine"}\n{"a": "\\ud83d"}', "line 2 holds half a character"),
        ("", "is empty"),
        ("{}", "objects have no keys"),
    ],
)
def test_json_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "in.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "in.jsonl", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_commas_between_lines_of_json_are_deleted_by_what_the_message_proposes(tmp_path: Path) -> None:
    (source,) = write_all(tmp_path, {"in.jsonl": '{"text": "a,"},\n{"text": "b"}, \n{"text": "c"}\n'})
    with pytest.raises(InputError, match="line 1: Extra data") as raised:
        convert(source, tmp_path / "out.parquet")
    new = tmp_path / "new.jsonl"
    subprocess.run(str(raised.value).split("`")[1].replace("NEW.jsonl", str(new)), shell=True, check=True)
    convert(new, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["a,", "b", "c"]


def test_control_characters_in_json_are_kept_and_numbers_keep_their_digits_in_text(tmp_path: Path) -> None:
    content = '{"text": "a\tb\x01", "x": [1.00000000000000000001, {"é": 5}]}\n{"text": "c", "x": [1]}\n'
    (source,) = write_all(tmp_path, {"in.jsonl": content})
    convert(source, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert found == {"text": ["a\tb\x01", "c"], "x": ['[1.00000000000000000001, {"é": 5}]', "[1]"]}


def test_numbers_in_json_that_are_kept_as_text_keep_their_form(tmp_path: Path) -> None:
    content = (
        '{"v": 1.10, "x": 2.50}\n{"v": 1.1, "x": 2e1}\n{"v": 1e2, "x": 3}\n{"v": [1.50], "x": 4}\n{"v": -0, "x": -0}\n'
    )
    (source,) = write_all(tmp_path, {"in.jsonl": content})
    made = convert(source, tmp_path / "out.parquet")
    assert made.columns == {"v": "string", "x": "double"}
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert found == {"v": ["1.10", "1.1", "1e2", "[1.50]", "-0"], "x": [2.5, 20.0, 3.0, 4.0, 0.0]}


def test_a_truncated_archive_is_an_input_error(tmp_path: Path) -> None:
    content = gzip.compress(b"text,label\n" + os.urandom(5_000).hex().encode() + b",1\n")
    (tmp_path / "in.csv.gz").write_bytes(content[:-20])
    with pytest.raises(InputError, match=r"in\.csv\.gz: cannot be read: .*[Tt]runcated"):
        convert(tmp_path / "in.csv.gz", tmp_path / "out.parquet")
    (tmp_path / "in.csv.gz").write_bytes(b"text,label\ngood,1\n")
    with pytest.raises(InputError, match=r"in\.csv\.gz: cannot be read: "):
        convert(tmp_path / "in.csv.gz", tmp_path / "out.parquet")


def test_bytes_after_a_compressed_file_are_skipped_by_what_the_message_proposes(tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"text\ngood\n") + b"\0" * 512)
    with pytest.raises(InputError, match="inflate failed") as raised:
        convert(tmp_path / "in.csv.gz", tmp_path / "out.parquet")
    command = str(raised.value).split("`")[1]
    subprocess.run(f"{command} > {tmp_path}/in.csv || true", shell=True, check=True, stderr=subprocess.DEVNULL)
    assert convert(tmp_path / "in.csv", tmp_path / "out.parquet").rows == 1


def test_a_file_of_zstd_with_a_large_window_is_unpacked_by_what_the_message_proposes(tmp_path: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    content = b"text\ngood\n"
    block = (1 | len(content) << 3).to_bytes(3, "little") + content  # the last one, not compressed
    (tmp_path / "in.csv.zst").write_bytes(b"\x28\xb5\x2f\xfd\0\xa8" + block)  # a window of 2 GiB
    with pytest.raises(InputError, match=r"cannot be read: .*too much memory") as raised:
        convert(tmp_path / "in.csv.zst", tmp_path / "out.parquet")
    unpacked = subprocess.run(str(raised.value).split("`")[1], shell=True, check=True, stdout=subprocess.PIPE)
    assert unpacked.stdout == content


def test_what_cannot_be_converted_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.csv: no such file"):
        convert(tmp_path / "missing.csv", tmp_path / "out.parquet")
    (tmp_path / "in.xls").write_bytes(b"\xd0\xcf")
    with pytest.raises(ConfigError, match=r"neither \.csv, \.tsv nor \.jsonl"):
        convert(tmp_path / "in.xls", tmp_path / "out.parquet")
    (tmp_path / "in.jsonl").write_text('{"text": "good"}', encoding="utf-8")
    for option, value in (("delimiter", ";"), ("quote", "'"), ("escape", "\\"), ("column_names", ["text"])):
        with pytest.raises(ConfigError, match=f"--{option.replace('_', '-')} is for CSV and TSV"):
            convert(tmp_path / "in.jsonl", tmp_path / "out.parquet", **{option: value})
    (tmp_path / "in.csv").write_text("text\ngood\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--encoding: unknown encoding: klingon"):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet", encoding="klingon")
    (tmp_path / "out.parquet").touch()
    with pytest.raises(OutputError, match="--overwrite"):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet")


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.jsonl"])
def test_progress_is_told_in_bytes_of_the_file_up_to_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(delimited, "_BLOCK_ROWS", 2_000)
    monkeypatch.setattr(json_lines, "_BLOCK_ROWS", 2_000)
    lines = [f"{i * 7919 % 100_003},a film of {i}" for i in range(20_000)]
    if name.endswith(".jsonl"):
        content = "\n".join(json.dumps({"text": line}) for line in lines).encode()
    else:
        content = "\n".join(["id,text", *lines, ""]).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    events: list[Any] = []
    made = convert(tmp_path / name, tmp_path / "out.parquet", progress=events.append)
    told = [(count.done, count.total) for count in events]
    size = (tmp_path / name).stat().st_size
    assert made.rows == 20_000
    assert told[0] == (0, size)
    assert told[-1] == (size, size)
    assert told == sorted(told)
    assert len({done for done, _ in told}) >= 5


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("position", [0, 3, 65_533, 65_534, 65_535, 65_536, 200_000])
def test_what_cannot_be_decoded_is_named_with_its_line_and_byte(tmp_path: Path, position: int, packed: str) -> None:
    content = bytearray(b"text\n" * 50_000)
    content[position : position + 1] = b"\xe9\xe9"
    name = f"latin.csv{packed}"
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if packed else content)
    line = content[:position].count(b"\n") + 1
    with pytest.raises(InputError, match=rf"line {line:,}, byte {position + 1:,} of the file \(0xe9\) is not utf-8"):
        convert(tmp_path / name, tmp_path / "out.parquet")


def test_a_wrong_encoding_is_told_by_what_it_reads(tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.parquet"
    source.write_bytes("text\nДлинный фильм\n".encode("cp1251"))
    with pytest.raises(InputError, match="name its --encoding; it may be 'Длинный фильм' in cp1251"):
        convert(source, output)
    source.write_bytes("text\nun café\n".encode() + "un café\n".encode("latin-1"))
    for encoding in (None, "UTF8"):
        with pytest.raises(InputError, match=r"line 3, .*: correct it, as the file is UTF-8 up to there; .* in cp1252"):
            convert(source, output, encoding=encoding)
    with pytest.raises(InputError, match=r"line 1 or one soon after it is not utf-16: name its --encoding"):
        convert(source, output, encoding="utf-16")
    (note,) = convert(source, output, encoding="cp1252").notes
    assert note == "is --encoding cp1252 right? It fits UTF-8 as well in 1 line: line 2 has 'cafÃ©', in UTF-8 'café'"
    source.write_bytes("text\nun café\n".encode("latin-1"))
    assert convert(source, output, encoding="latin-1", overwrite=True).notes == ()


@pytest.mark.parametrize("given", ["out/", "there"])
def test_a_directory_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("a.csv.gz").write_bytes(gzip.compress(b"text\ngood\n"))
    with pytest.raises(OutputError, match=rf"{given.strip('/')} is a directory: name a file, such as (.*)$") as refused:
        convert("a.csv.gz", given)
    option, file = str(refused.value).rpartition("such as ")[2].split()
    assert (option, convert("a.csv.gz", file).rows) == ("--output", 1)


@pytest.mark.parametrize("given", ["out.CSV", "data.csv/out.jsonl.gz"])
def test_parquet_does_not_get_the_name_of_what_it_was_made_from(tmp_path: Path, given: str) -> None:
    source = tmp_path / "a.csv"
    source.write_text("text\ngood\n", encoding="utf-8")
    with pytest.raises(OutputError, match=r": would be Parquet, not (CSV|JSONL): name it (.*)$") as refused:
        convert(source, tmp_path / given)
    assert str(refused.value).endswith(f"name it {tmp_path / Path(given).parent}/out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_arrows_readers_are_not_used() -> None:
    """They read ahead on threads: one that frees a Python object while Python ends aborts the process."""
    for module in Path(package.__file__).parent.glob("*.py"):
        imported = {name for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))) for name in names_in(node)}
        assert imported.isdisjoint({"pyarrow.csv", "pyarrow.json", "pyarrow.dataset"}), module


def names_in(node: ast.AST) -> list[str]:
    """Returns the modules that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.parametrize("more", ['{"a": 2}', '{"b": 2}'])
def test_a_file_that_grows_between_the_passes_is_refused(tmp_path: Path, more: str) -> None:
    path = tmp_path / "grows.jsonl"
    path.write_text('{"a": 1}\n', encoding="utf-8")

    def grow(event: Any) -> None:
        if event.done:
            path.write_text('{"a": 1}\n' + more + "\n", encoding="utf-8")

    with pytest.raises(InputError, match="has changed while it was read: convert it again"):
        convert(path, tmp_path / "grows.parquet", progress=grow)


def test_an_empty_first_line_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\na,b\n1,2\n", encoding="utf-8")
    assert convert(tmp_path / "a.csv", tmp_path / "a.parquet").rows == 1


@pytest.mark.parametrize(
    ("values", "kind", "note"),
    [
        (["1.1", "1.10"], "double", "column 'v' is numbers: '1.10' in line 3 loses its last zero as a number"),
        (["2.0", "1.10", "1.9"], "double", "column 'v' is numbers: '1.10' in line 3 loses its last zero"),
        (["1.1", "1.10", "x"], "string", "column 'v' is kept as text: 'x' in line 4 is not a number"),
        (["9.90", "10.50", "0.00"], "double", None),
        (["4.5", "3.0", "5"], "double", None),
        (["4.50", "5"], "double", None),
        (["4.0", "4.5", ""], "double", None),
        (["1e-10", "2.5"], "double", None),
    ],
)
def test_decimals_that_may_be_two_values_are_doubted(
    tmp_path: Path, values: list[str], kind: str, note: str | None
) -> None:
    (tmp_path / "a.csv").write_text("v,x\n" + "".join(f"{value},x\n" for value in values), encoding="utf-8")
    made = convert(tmp_path / "a.csv", tmp_path / "a.parquet")
    assert made.columns["v"] == kind
    assert [one.startswith(note or "") for one in made.notes] == ([True] if note else [])
    if note and kind == "double":
        assert made.notes[0].endswith(": if these are no numbers, keep them with `--as-text v`")
        again = convert(tmp_path / "a.csv", tmp_path / "a.parquet", as_text=["v"], overwrite=True)
        assert (pq.read_table(again.output)["v"].to_pylist(), again.notes) == (values, ())


def test_decimals_that_may_be_two_values_are_found_in_different_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "_BLOCK_ROWS", 1)
    (tmp_path / "a.csv").write_text("v\n1.1\n1.10\n", encoding="utf-8")
    (note,) = convert(tmp_path / "a.csv", tmp_path / "a.parquet").notes
    assert note.startswith("column 'v' is numbers: '1.10' in line 3 loses its last zero")


@pytest.mark.parametrize("nested", [lambda number: {f"k{number}": 1}, lambda number: [{"a": {f"k{number}": 1}}]])
def test_objects_with_keys_of_their_own_take_no_memory(tmp_path: Path, nested: Callable[[int], Any]) -> None:
    lines = [json.dumps({"text": "good", "more": nested(number)}) for number in range(3_000)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    made = convert(tmp_path / "a.jsonl", tmp_path / "a.parquet")
    assert made.columns == {"text": "string", "more": "string"}
    assert made.notes == ("column 'more' is kept as text: its objects have keys of their own, thousands of them",)
    assert json.loads(pq.read_table(made.output)["more"][7].as_py()) == nested(7)


def test_keys_that_many_objects_share_make_a_column(tmp_path: Path) -> None:
    lines = [json.dumps({"more": {f"k{number % 40 + key}": 1 for key in range(30)}}) for number in range(3_000)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert convert(tmp_path / "a.jsonl", tmp_path / "a.parquet").columns["more"].startswith("struct<")


def write_all(tmp_path: Path, files: dict[str, str]) -> list[Path]:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return [tmp_path / name for name in files]


def test_several_files_become_one_with_one_type_for_each_column(tmp_path: Path) -> None:
    sources = write_all(
        tmp_path,
        {
            "a.csv": "id,text,stars\n1,good,5\n2,bad,1\n",
            "b.tsv": 'text\tstars\tid\n"fine"\t4.5\t007\n',
            "c.csv": "id,text,stars\n9,poor,NA\n",
        },
    )
    seen: list[Event] = []
    made = convert(tmp_path / "[abc].?sv", tmp_path / "out.parquet", progress=seen.append)
    assert made.rows == 4
    assert made.columns == {"id": "string", "text": "string", "stars": "double"}
    assert pq.read_table(made.output).to_pydict() == {
        "id": ["1", "2", "007", "9"],
        "text": ["good", "bad", '"fine"', "poor"],
        "stars": [5.0, 1.0, 4.5, None],
    }
    assert made.notes == (
        f"{sources[1]}, 1 row, the first at line 2: values stand in quotation marks, which were kept; --quote '\"' "
        "takes them off",
        f"column 'id' is kept as text: '007' in {sources[1]}, line 2 would change as a number",
        f"column 'stars' is double, so these became null: 'NA' 1 time, first in {sources[2]}, line 2: keep them with "
        "`--as-text stars`",
    )
    done = [event.done for event in seen if isinstance(event, Count)]
    assert done == sorted(done)
    assert done[-1] == sum(source.stat().st_size for source in sources)


def test_several_files_of_json_have_the_columns_of_all(tmp_path: Path) -> None:
    sources = write_all(
        tmp_path, {"a.jsonl": '{"text": "good", "stars": 5}\n', "b.json": '[{"text": "bad", "stars": 1.5, "id": "x"}]'}
    )
    made = convert(sources, tmp_path / "out.parquet")
    assert made.columns == {"text": "string", "stars": "double", "id": "string"}
    assert pq.read_table(made.output)["id"].to_pylist() == [None, "x"]


@pytest.mark.parametrize(
    ("files", "error", "says"),
    [
        (
            {"a.csv": "text,stars\ngood,1\n", "b.csv": "text\nbad\n"},
            InputError,
            r"b\.csv: no column 'stars', which .*a\.csv",
        ),
        (
            {"a.csv": "text\ngood\n", "b.csv": "text,id\nbad,1\n"},
            InputError,
            r"a\.csv: no column 'id', which .*b\.csv has",
        ),
        (
            {"a.csv": "text\ngood\n", "b.jsonl": '{"text": "bad"}'},
            ConfigError,
            r"b\.jsonl: one of it and .*a\.csv is JSON",
        ),
        ({"a.csv": "text\ngood\n", "b.csv": "text\nbad\n", "./a.csv": "text\n"}, InputError, r"a\.csv: is given twice"),
        ({"a.csv": "text\ngood\n", "b.csv": "text\nbad,x\n"}, InputError, r"b\.csv: line 2 has 2 values, expected 1"),
    ],
)
def test_files_that_do_not_fit_together_are_named(
    tmp_path: Path, files: dict[str, str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        convert([*write_all(tmp_path, files)], tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(("name", "begin"), [("in.csv", "text\ngood\n"), ("in.jsonl", '{"text": "good"}\n')])
@pytest.mark.parametrize("end", ["\0" * 4096, "\x1a", "\0\r\n"])
def test_what_no_program_wrote_ends_no_file(tmp_path: Path, name: str, begin: str, end: str) -> None:
    (tmp_path / name).write_text(begin + end, encoding="utf-8", newline="")
    with pytest.raises(InputError, match=r"line \d has nothing but NUL or Ctrl-Z") as raised:
        convert(tmp_path / name, tmp_path / "out.parquet")
    new = tmp_path / f"new_{name}"
    subprocess.run(str(raised.value).split("with ")[1].replace("NEW", str(new)), shell=True, check=True)
    convert(new, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["good"]


def test_the_end_of_a_damaged_file_is_deleted_in_what_is_compressed_too(tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"text\ngood\n\x1a"))
    with pytest.raises(InputError, match="nothing but NUL or Ctrl-Z") as raised:
        convert(tmp_path / "in.csv.gz", tmp_path / "out.parquet")
    command = re.sub("NEW, .*", str(tmp_path / "in.csv"), str(raised.value).split("with ")[1])
    subprocess.run(command, shell=True, check=True)
    assert convert(tmp_path / "in.csv", tmp_path / "out.parquet").rows == 1
    (tmp_path / "wide.csv").write_text("text\nāā\n\x1a", encoding="utf-16")
    with pytest.raises(InputError, match=r"old file: delete them$"):  # tr would delete halves of other characters
        convert(tmp_path / "wide.csv", tmp_path / "out.parquet", overwrite=True)


def test_a_column_without_a_name_keeps_no_values_from_being_seen(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,\nx,1,\ny,2,more\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 3 has 3 values, expected 2, .*name the last column in the first line"):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet")


def test_objects_may_begin_with_a_mark_or_separator(tmp_path: Path) -> None:
    lines = ['\ufeff{"text": "\ufeffgood"}', '\ufeff{"text": "bad"}', '\x1e{"text": "fine"}', "\ufeff"]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    convert(tmp_path / "in.jsonl", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["\ufeffgood", "bad", "fine"]


def test_fasttext_s_format_is_told_with_what_converts_it(tmp_path: Path) -> None:
    source, tsv = tmp_path / "cooking.txt", tmp_path / "new.tsv"
    source.write_text("__label__pos a good film\n__label__neg  bad\tfilm\n".replace("\t", " "), encoding="utf-8")
    with pytest.raises(InputError, match="is fastText's format") as raised:
        convert(source, tmp_path / "out.parquet")
    subprocess.run(str(raised.value).split("`")[1].replace("NEW.tsv", str(tsv)), shell=True, check=True)
    convert(tsv, tmp_path / "out.parquet", column_names=["label", "text"])
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.to_pydict() == {"label": ["pos", "neg"], "text": ["a good film", " bad film"]}


def test_what_is_no_text_file_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["good"]}), tmp_path / "in.csv")
    text = b"text\ngood\n"
    with zipfile.ZipFile(tmp_path / "sheet.csv", "w") as sheet:
        sheet.writestr("[Content_Types].xml", "")
    (tmp_path / "packed.csv").write_bytes(gzip.compress(text))
    (tmp_path / "packed.tsv").write_bytes(bz2.compress(text))
    (tmp_path / "packed.jsonl").write_bytes(pa.compress(text, "zstd", asbytes=True))
    (tmp_path / "lfs.csv").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    (tmp_path / "page.csv").write_bytes(b"<!DOCTYPE HTML><title>404</title>\n")
    (tmp_path / "objects.csv").write_bytes(b'{"text": "good"}\n')
    for source, says in (
        (tmp_path / "in.csv", r"in\.csv: is Parquet already: give it to train, evaluate or score as it is"),
        (tmp_path / "sheet.csv", r"sheet\.csv: is a zip archive or a spreadsheet: unpack it, or save the sheet as CSV"),
        (tmp_path / "packed.csv", r"is compressed by gzip: unpack it, .* end in \.gz, such as reviews\.csv\.gz"),
        (tmp_path / "packed.tsv", r"is compressed by bzip2: .* let its name end in \.bz2"),
        (tmp_path / "packed.jsonl", r"is compressed by zstd: .* let its name end in \.zst"),
        (tmp_path / "lfs.csv", r"lfs\.csv: is a pointer of Git LFS: `git lfs pull` fetches the file itself"),
        (tmp_path / "page.csv", r"page\.csv: is a web page: fetch the file again"),
        (tmp_path / "objects.csv", r"looks like JSON: let its name end in \.jsonl"),
        (tmp_path, r"is a directory: name its files, such as .*/\*\.csv"),
        ("-", "-: a file is read twice, which stdin cannot be"),
        ("s3://bucket/in.csv", "s3://bucket/in.csv: only local files are converted: fetch it first"),
    ):
        with pytest.raises(InputError, match=says):
            convert(source, tmp_path / "out.parquet")


def test_a_compressed_file_is_looked_into(tmp_path: Path) -> None:
    text = b"text\ngood\n" * 30
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("in.csv"))
    for name, content, says in (
        (
            "tar.csv.gz",
            gzip.compress(archive.getvalue()),
            "is compressed, and what it holds is a tar archive: unpack it",
        ),
        ("twice.csv.gz", gzip.compress(gzip.compress(text)), "what it holds is compressed by gzip: unpack it"),
        ("page.csv.bz2", bz2.compress(b"<!doctype html>"), "what it holds is a web page"),
        ("other.csv.gz", pa.compress(text, "zstd", asbytes=True), "is compressed by zstd: .* end in .zst"),
        ("fast.csv", bz2.compress(text, 1), "is compressed by bzip2"),
        ("plain.csv.zst", text, r"it is not compressed, so delete \.zst at the end of its name"),
        ("in.csv.xz", lzma.compress(text), "is compressed by xz: unpack it"),
        ("in.tar", archive.getvalue(), "is a tar archive: unpack it"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"/{re.escape(name)}: .*{says}"):
            convert(tmp_path / name, tmp_path / "out.parquet")
    (tmp_path / "plain.csv.zst").rename(tmp_path / "plain.csv")
    assert convert(tmp_path / "plain.csv", tmp_path / "out.parquet").rows == 59


def test_a_word_where_archives_have_theirs_is_text(tmp_path: Path) -> None:
    begin = "text,label\n"
    (source,) = write_all(tmp_path, {"in.csv": f"{begin}{'bueno ' * 40}a{'j' * (257 - len(begin) - 241)}ustar,1\n"})
    assert source.read_bytes()[257:262] == b"ustar"
    assert convert(source, tmp_path / "out.parquet").rows == 1


def test_numbers_that_are_all_too_exact_are_told(tmp_path: Path) -> None:
    (source,) = write_all(tmp_path, {"in.jsonl": '{"a": null}\n{"a": 1e999}\n{"a": 1e-999}\n'})
    made = convert(source, tmp_path / "out.parquet")
    assert pq.read_table(made.output)["a"].to_pylist() == [None, "1e999", "1e-999"]
    assert made.notes == ("column 'a' is kept as text: 1e999 in line 2 would change as a number",)


def test_two_byte_order_marks_are_no_part_of_a_name(tmp_path: Path) -> None:
    (source,) = write_all(tmp_path, {"in.csv": "\ufeff\ufefftext,label\ngood,1\n"})
    assert convert(source, tmp_path / "out.parquet").columns == {"text": "string", "label": "int64"}


def test_words_for_a_missing_value_become_null_among_numbers_and_are_counted(tmp_path: Path) -> None:
    words = ["NA", "None", "none", "N/a", "n/a", "#N/A", "nan", "NaN", "null", "NULL", "na"]
    lines = ["stars,good,name,empty", "1,true,none,NA", *(f"{word},{word},{word},{word}" for word in [*words, "NA"])]
    (source,) = write_all(tmp_path, {"in.csv": "\n".join(lines) + "\n,,,\n"})
    made = convert(source, tmp_path / "out.parquet")
    found = pq.read_table(made.output).to_pydict()
    assert found["stars"] == [1] + [None] * 13
    assert found["good"] == [True] + [None] * 13
    assert found["name"] == ["none", *words, "NA", ""]
    assert found["empty"] == ["NA", *words, "NA", ""]
    assert [note.split(",")[0] for note in made.notes] == ["column 'stars' is int64", "column 'good' is bool"]
    assert "'NA' 2 times, first in line 3; 'None' 1 time, first in line 4; 'none' 1 time" in made.notes[0]
    assert made.notes[0].endswith("keep them with `--as-text stars`")


def test_a_word_for_a_missing_value_is_counted_over_blocks_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "_BLOCK_ROWS", 2)
    content = "stars,text\n1,a\nNA,b\n3,c\nNA,d\n"
    made = convert(
        [str(one) for one in write_all(tmp_path, {"a.csv": content, "b.csv": content})], tmp_path / "out.parquet"
    )
    (note,) = made.notes
    assert f"'NA' 4 times, first in {tmp_path / 'a.csv'}, line 3: keep" in note


def test_a_file_without_rows_is_pointed_out(tmp_path: Path) -> None:
    (source,) = write_all(tmp_path, {"in.csv": "text,label\n"})
    made = convert(source, tmp_path / "out.parquet")
    assert made.rows == 0
    assert any("no rows, only the names of columns" in note for note in made.notes)


def test_pipes_devices_and_links_that_lead_nowhere_are_named_as_such(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    for source in (tmp_path / "pipe.csv", "/dev/null"):
        with pytest.raises(InputError, match=r": not a regular file: write it to a file first$"):
            convert(Path(source), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"loop\.csv: this link leads nowhere$"):
        convert(tmp_path / "loop.csv", tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"sep=;\r\ntext;stars\r\ngood;1\r\n", {}),
        (b"\xef\xbb\xbfSEP=;\r\ntext;stars\r\ngood;1\r\n", {"delimiter": ";"}),
        (b"sep='\r\ntext'stars\r\ngood'1\r\n", {}),
        (b"sep=,\ntext;stars\ngood;1\n", {"delimiter": ";"}),  # what the user says is right
        (b"sep=|\ngood|1\n", {"column_names": ("text", "stars")}),
    ],
)
def test_a_first_line_that_tells_excel_the_delimiter_is_no_header(
    tmp_path: Path, content: bytes, options: dict[str, Any]
) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    convert(tmp_path / "in.csv", tmp_path / "out.parquet", **options)
    assert pq.read_table(tmp_path / "out.parquet").to_pydict() == {"text": ["good"], "stars": [1]}


def test_a_line_after_the_one_for_excel_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"sep=;\ntext;stars\ngood;1\nbad\n")
    with pytest.raises(InputError, match=r"line 4 has 1 value, expected 2"):
        convert(tmp_path / "in.csv", tmp_path / "out.parquet")
