"""The columns of a part: kept, unified over all files, and values that do not fit named with column and files."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lstm_ray
from lstm_ray.config import ScoreConfig, resolve
from lstm_ray.errors import ConfigError, InputError
from lstm_ray.score.columns import NEW_COLUMNS, PartLayout, kept_columns
from lstm_ray.score.plan import make_plan


def write(path: Path, columns: dict[str, Any]) -> str:
    """Writes a Parquet file and returns its path."""
    pq.write_table(pa.table(columns), path)
    return str(path)


def layout_of(*inputs: str, **settings: Any) -> PartLayout:
    """Returns what the parts of a run have in common."""
    return make_plan(ScoreConfig.model_validate({"inputs": inputs, **settings}), "hash").layout


def test_a_column_that_a_file_lacks_is_planned_for_all(tmp_path: Path) -> None:
    one = write(tmp_path / "a.parquet", {"text": ["good"], "id": [1]})
    other = write(tmp_path / "b.parquet", {"stars": [5], "text": ["bad"]})
    layout = layout_of(one, other)
    assert layout.kept == ["text", "id", "stars"]
    assert layout.schema.names == ["text", "id", "stars", *NEW_COLUMNS]
    kept = kept_columns(pq.read_table(one), layout, one)
    assert [column.to_pylist() for column in kept] == [["good"], [1], [None]]


@pytest.mark.parametrize(
    ("ids", "remedy"),
    [
        (([1], ["x"]), r"a\.parquet was CSV, `lstm-ray data convert` keeps it text with --as-text 'my id'$"),
        ((["x"], [1]), r"b\.parquet was CSV, `lstm-ray data convert` keeps it text with --as-text 'my id'$"),
        (([1], [[1]]), r"or leave 'my id' out with --keep-columns$"),
        ((["x"], [[1]]), r"or leave 'my id' out with --keep-columns$"),
    ],
)
def test_columns_of_two_types_are_refused_with_the_remedy(tmp_path: Path, ids: Any, remedy: str) -> None:
    paths = [
        write(tmp_path / name, {"text": ["good"], "my id": values, "fits": [1]})
        for name, values in zip(("a.parquet", "b.parquet"), ids, strict=True)
    ]
    pattern = rf"b\.parquet: column 'my id' is .* here and .* in .*a\.parquet: write both with one type, .*{remedy}"
    with pytest.raises(InputError, match=pattern):
        layout_of(*paths)
    assert layout_of(*paths, keep_columns="text,fits").kept == ["text", "fits"]


def test_daily_files_with_ids_that_are_numbers_one_day_are_scored_after_the_remedy(tmp_path: Path) -> None:
    for day, ids in (("mon", "A1"), ("tue", "17")):
        (tmp_path / f"{day}.csv").write_text(f"text,id\ngood,{ids}\n", encoding="utf-8")
    paths = [
        str(lstm_ray.convert(tmp_path / f"{day}.csv", output=tmp_path / f"{day}.parquet").output)
        for day in ("mon", "tue")
    ]
    with pytest.raises(InputError, match=r"if .*tue\.parquet was CSV, .* keeps it text with --as-text id$"):
        layout_of(*paths)
    lstm_ray.convert(tmp_path / "tue.csv", output=tmp_path / "tue.parquet", as_text=["id"], overwrite=True)
    assert layout_of(*paths).schema.field("id").type == pa.string()


def test_kept_columns_are_chosen_and_ordered(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["good"], "id": [1], "stars": [5]})
    assert layout_of(path, keep_columns="stars, id").kept == ["stars", "id"]
    commas = write(tmp_path / "b.parquet", {"text": ["good"], "a, b": [1], "a": [5]})
    assert layout_of(commas, keep_columns=["a, b", "text"]).kept == ["a, b", "text"]
    assert layout_of(commas, keep_columns='a,"a, b"').kept == ["a", "a, b"]
    odd = write(tmp_path / "c.parquet", {"text": ["good"], " c": [1], "d\ne": [5]})
    assert layout_of(odd, keep_columns=[" c", "d\ne"]).kept == [" c", "d\ne"]
    assert layout_of(odd, keep_columns='text,"d\ne"').kept == ["text", "d\ne"]
    assert layout_of(path, keep_columns=["all"]).kept == ["text", "id", "stars"]
    with pytest.raises(ConfigError, match=r"^--keep-columns is 'xxx.*: cannot be split at commas: field larger"):
        resolve(ScoreConfig, {"keep_columns": "x" * 200_000})
    with pytest.raises(ConfigError, match=r"no column 'star'; .*: did you mean --keep-columns stars\?$"):
        layout_of(path, keep_columns="star")


def test_a_taken_name_proposes_a_prefix(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["good"], "sentiment": ["?"]})
    with pytest.raises(ConfigError, match=r"already has a column 'sentiment': .*--prefix"):
        layout_of(path)
    assert layout_of(path, prefix="new_").schema.names[2:] == ["new_" + name for name in NEW_COLUMNS]
    assert layout_of(path, keep_columns="text").schema.names[1:] == list(NEW_COLUMNS)


def test_a_column_that_is_a_dictionary_in_some_files_is_plain_in_the_parts(tmp_path: Path) -> None:
    texts = pa.array(["good", "bad"])
    write(tmp_path / "a.parquet", {"text": texts})
    write(tmp_path / "b.parquet", {"text": texts.dictionary_encode()})
    assert layout_of(str(tmp_path)).schema.field("text").type == pa.string()


@pytest.mark.parametrize(("view", "plain"), [(pa.string_view(), pa.string()), (pa.binary_view(), pa.binary())], ids=str)
def test_a_column_of_views_in_some_files_is_plain_in_the_parts(tmp_path: Path, view: Any, plain: Any) -> None:
    one = write(tmp_path / "a.parquet", {"text": pa.array(["good", None]).cast(view)})
    other = write(tmp_path / "b.parquet", {"text": pa.array(["bad"]).cast(plain)})
    assert layout_of(one).schema.field("text").type == view
    for paths in ((one, other), (other, one)):
        layout = layout_of(*paths)
        kept = [kept_columns(pq.read_table(path), layout, path)[0] for path in (one, other)]
        assert {column.type for column in kept} == {layout.schema.field("text").type}
        assert [column.cast(pa.string()).to_pylist() for column in kept] == [["good", None], ["bad"]]


def test_a_value_that_does_not_fit_the_common_type_is_named_with_its_column_and_files(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.parquet", {"text": ["good", "bad"], "id": pa.array([2**53, 2**53 - 1])})
    large = write(tmp_path / "b.parquet", {"text": ["good"], "id": pa.array([2**53 + 1])})
    decimal = write(tmp_path / "c.parquet", {"text": ["good"], "id": pa.array([0.5])})
    layout = layout_of(whole, large, decimal)
    assert layout.mixed_types == {"id": f"int64 in {whole}, double in {decimal}"}
    assert kept_columns(pq.read_table(whole), layout, whole)[1].to_pylist() == [2.0**53, 2.0**53 - 1]
    with pytest.raises(InputError) as raised:
        kept_columns(pq.read_table(large), layout, large)
    message = str(raised.value)
    assert message.startswith(f"{large}: column 'id' is int64 here and double in the parts")
    assert f"(int64 in {whole}, double in {decimal})" in message
    assert str(2**53 + 1) in message
    assert message.endswith("leave the column out with --keep-columns")


def test_a_decimal_is_not_rounded_to_a_double(tmp_path: Path) -> None:
    short = write(tmp_path / "a.parquet", {"text": ["good", "bad"], "price": [Decimal("19.75"), None]})
    long = write(tmp_path / "b.parquet", {"text": ["good"], "price": [Decimal("12345678901234567890.12")]})
    double = write(tmp_path / "c.parquet", {"text": ["good"], "price": [0.5]})
    layout = layout_of(short, long, double)
    assert kept_columns(pq.read_table(short), layout, short)[1].to_pylist() == [19.75, None]
    with pytest.raises(InputError, match=r"b\.parquet: column 'price' is decimal.* more digits than a double"):
        kept_columns(pq.read_table(long), layout, long)
