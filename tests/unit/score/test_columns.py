"""The columns of a part: kept, unified over all files, and values that do not fit named with column and files."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import ScoreConfig
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


def test_columns_of_two_types_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a.parquet", {"text": ["good"], "id": [1]})
    other = write(tmp_path / "b.parquet", {"text": ["bad"], "id": ["x"]})
    with pytest.raises(InputError, match=r"b\.parquet: its columns do not fit .*id"):
        layout_of(one, other)


def test_kept_columns_are_chosen_and_ordered(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["good"], "id": [1], "stars": [5]})
    assert layout_of(path, keep_columns="stars, id").kept == ["stars", "id"]
    with pytest.raises(ConfigError, match=r"no column 'star' .*'stars'"):
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
