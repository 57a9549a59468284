"""The command that a converted file is for, with the options that it needs."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.datasets.convert.next_step import next_command, note_on_placeholder

LONG = ["a long review of a film", "another of the same length"]


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"text": LONG, "label": [1, 0]}, ""),
        ({"text": LONG, "label": [True, False]}, ""),
        ({"text": ["a", "b"], "body": LONG, "label": [1.0, 0.0]}, ""),
        (
            {"review": LONG, "stars": [5, 1]},
            "--text-column review --label-column stars --positive-labels 5 --negative-labels 1",
        ),
        ({"text": LONG, "stars": [5, 1], "id": [1, 2]}, "--label-column stars --positive-labels 5 --negative-labels 1"),
        (
            {"title": ["a", "b"], "body": LONG, "label": ["pos", "neg"]},
            "--text-column body --positive-labels pos --negative-labels neg",
        ),
        ({"text": LONG, "label": ["Fresh", "Rotten"]}, ""),
        ({"text": LONG, "label": [1, 2]}, ""),
        ({"text": LONG, "Sentiment": [1, None]}, "--label-column Sentiment --positive-labels 1 --negative-labels 0"),
        ({"text": LONG, "a": [1, 0], "b": [1, 0]}, "--label-column COLUMN"),
        *(
            (
                {"text": LONG, "verdict": ["Positive", "Negative"], **more},
                "--label-column verdict --positive-labels Positive --negative-labels Negative",
            )
            for more in ({}, {"stars": ["", ""]}, {"stars": [5, 5]}, {"score": [None, 66]}, {"helpful": [2, 7]})
        ),
        ({"text": LONG, "verdict": ["Positive", "Negative"], "label": [0, 1]}, ""),
        (
            {"text": LONG, "a": ["good", "bad"], "stars": [5, 1]},
            "--label-column stars --positive-labels 5 --negative-labels 1",
        ),
        (
            {"Review Text": LONG, "Star Rating": [5, 1], "Helpful Votes": [1, 2]},
            "--text-column Review Text --label-column Star Rating --positive-labels 5 --negative-labels 1",
        ),
        ({"a": [1, 0]}, "--text-column COLUMN --label-column a"),
        ({"text": LONG, "label": [[1], [0]]}, ""),
    ],
)
def test_what_is_clear_is_given(tmp_path: Path, columns: dict[str, list[Any]], options: str) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table(columns), path)
    expected = f"train --train {path} --output runs/in {options}".rstrip()
    assert " ".join(next_command(path, "runs/in")) == expected
    assert " ".join(next_command(path, "runs/in", "no such column")) == expected


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"text": LONG}, ""),
        ({"text": pa.array([], pa.string())}, ""),
        ({"text": LONG * 15, "id": range(30)}, ""),
        ({"text": LONG * 5, "id": range(1, 11)}, ""),
        (
            {name: [f"{name} of film {number}" for number in range(30)] for name in ("title", "long review")},
            " --text-column 'long review'",
        ),
        ({"text": LONG, "language": ["en", "en"], "length": [None, 4]}, ""),
        ({"text": LONG * 2, "tags": [["a"], ["b"]] * 2}, ""),
    ],
)
def test_a_file_without_labels_is_to_be_scored(tmp_path: Path, columns: dict[str, Any], options: str) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table(columns), path)
    assert shlex.join(next_command(path, "run")) == f"score {path} --model MODEL --output SCORED{options}"


@pytest.mark.parametrize(
    ("columns", "note"),
    [
        ({"text": LONG, "label": [1, 0], "b": [1, 0]}, None),
        ({"text": LONG}, None),
        (
            {"review": LONG, "useful": [5, 1], "funny": [0, 3]},
            "for COLUMN give the column that has the labels: 'useful' (1, 5) or 'funny' (0, 3)",
        ),
        (
            {"text": LONG, **{f"c{number}": [number, 9] for number in range(7)}},
            "for COLUMN give the column that has the labels: 'c0' (0, 9), 'c1' (1, 9), 'c2' (2, 9), 'c3' (3, 9), "
            "'c4' (4, 9) or one of 2 other columns",
        ),
    ],
)
def test_columns_that_may_have_the_labels_are_named(
    tmp_path: Path, columns: dict[str, list[Any]], note: str | None
) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table(columns), path)
    command = next_command(path, "run")
    assert note_on_placeholder(path, command) == note
    assert (command[-1] == "COLUMN") == (note is not None)


@pytest.mark.parametrize("group_rows", [120_000, 1_000], ids=["one row group", "many"])
def test_labels_are_found_in_a_file_that_is_sorted_by_them(tmp_path: Path, group_rows: int) -> None:
    path, rows = tmp_path / "in.parquet", 60_000
    texts = pa.array(map(str, range(2 * rows)))
    for name, kinds, options in (
        ("is_positive", (0, 1), "--label-column COLUMN"),
        ("stars", (1, 5), "--label-column stars --positive-labels 5 --negative-labels 1"),
    ):
        labels = [kind for kind in kinds for _ in range(rows)]
        table = pa.table({"text": texts, "id": range(2 * rows), name: labels})
        pq.write_table(table, path, row_group_size=group_rows)
        assert " ".join(next_command(path, "run")) == f"train --train {path} --output run {options}"


def test_a_column_that_is_given_has_the_labels(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": LONG, "stars": [5, 1], "verdict": ["yes", "no"]}), path)
    assert next_command(path, "run", label_column="verdict")[5:] == [
        *("--label-column", "verdict", "--positive-labels", "yes", "--negative-labels", "no")
    ]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"url": [f"https://example.com/reviews/{n:060}" for n in range(9)], "content": ["so bad"] * 9}, "content"),
        ({"Datum": [f"2026-01-0{n} 10:00:00" for n in range(1, 9)], "Urteil": ["sehr gut"] * 8}, "Urteil"),
        ({"name": ["Anna", None], "Urteil": [None, "gut so"]}, "Urteil"),
        ({"product description": ["a very long text about a camera"] * 9, "Review Text": ["ok"] * 9}, "Review Text"),
        ({"Review Text": ["ok"] * 9, "text": ["ok"] * 9}, "text"),
        ({"name": ["Anna Berta Maier"] * 9, "评论": ["这部电影很好看"] * 9}, "评论"),
        ({"comment": pa.nulls(9, pa.string()), "Urteil": ["gut"] * 9}, "Urteil"),
    ],
)
def test_the_texts_are_known_by_name_or_by_their_words(tmp_path: Path, columns: dict[str, Any], expected: str) -> None:
    pq.write_table(pa.table(columns), path := tmp_path / "in.parquet")
    command = next_command(path, "runs/in")
    assert dict(itertools.pairwise(command)).get("--text-column", "text") == expected
