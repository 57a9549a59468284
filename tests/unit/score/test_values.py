"""Kept columns are what pyarrow reads from the input, whatever their types and values."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from lstm_ray.config import ScoreConfig
from lstm_ray.errors import InputError
from lstm_ray.model.bundle import read_bundle
from lstm_ray.score.plan import make_plan
from lstm_ray.score.scorer import Scorer
from lstm_ray.score.tasks import score_task

UNITS = ("s", "ms", "us", "ns")
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.sampled_from(
    ["", "\0", "\ufeff", "😀", "NA"]
)
BYTES = st.binary(max_size=8)


def integers(bits: int, signed: bool = True) -> st.SearchStrategy[int]:
    """Draws integers, the smallest and the largest often."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high) | st.sampled_from([low, high, 0])


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    """Draws decimals of all digits; not through arithmetic, which would round them."""
    numbers = st.integers(0, 10**precision - 1) | st.just(10**precision - 1)
    return st.builds(lambda sign, one: Decimal((sign, tuple(map(int, str(one))), -scale)), st.integers(0, 1), numbers)


LEAVES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.null(), st.none()),
    (pa.bool_(), st.booleans()),
    *((kind, integers(kind.bit_width)) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((kind, integers(kind.bit_width, signed=False)) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    *((kind, st.floats(width=kind.bit_width, allow_nan=False)) for kind in (pa.float32(), pa.float64())),
    *((pa.decimal128(*size), decimals(*size)) for size in ((1, 0), (9, 2), (18, 18), (38, 10))),
    (pa.decimal256(76, 40), decimals(76, 40)),
    *((kind, decimals(kind.precision, kind.scale)) for kind in (pa.decimal32(9, 2), pa.decimal64(18, 4))),
    *((kind, TEXTS) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *((kind, BYTES) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.dictionary(pa.int32(), pa.string()), TEXTS),
    (pa.dictionary(pa.int8(), pa.int64()), st.sampled_from([2**63 - 1, -5, 0])),
    (pa.dictionary(pa.int32(), pa.binary()), BYTES),
    (pa.float16(), st.floats(width=16, allow_nan=False).map(np.float16)),
    (pa.date32(), integers(32)),
    (pa.date64(), st.integers(-(10**8), 10**8).map(lambda day: day * 86_400_000)),
    (pa.time32("s"), st.integers(0, 86_399)),
    (pa.time32("ms"), st.integers(0, 86_399_999)),
    (pa.time64("us"), st.integers(0, 86_399_999_999)),
    (pa.time64("ns"), st.integers(0, 86_399_999_999_999)),
    # Seconds are milliseconds in Parquet.
    *(
        (pa.timestamp(unit, zone), integers(53 if unit == "s" else 64))
        for unit in UNITS
        for zone in (None, "Asia/Tokyo")
    ),
    *((pa.duration(unit), integers(64)) for unit in UNITS),
]
EXTENSIONS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [  # Arrow cannot make them from Python within a list
    (pa.uuid(), st.binary(min_size=16, max_size=16)),
    (pa.json_(pa.string()), st.sampled_from(["{}", "[1, null]"])),
    (pa.fixed_shape_tensor(pa.int64(), [2]), st.lists(integers(64), min_size=2, max_size=2)),
]


def columns(leaves: Any) -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    """Draws a type, perhaps nested, and how its values are drawn."""

    def nest(inner: Any) -> Any:
        def wrap(drawn: tuple[pa.DataType, st.SearchStrategy[Any]], how: str) -> Any:
            kind, values = drawn[0], st.none() | drawn[1]
            if how == "list":
                return pa.list_(kind), st.lists(values, max_size=3)
            if how == "large_list":
                return pa.large_list(kind), st.lists(values, max_size=3)
            if how == "fixed_size_list":
                return pa.list_(kind, 2), st.lists(values, min_size=2, max_size=2)
            if how == "map":
                return pa.map_(pa.string(), kind), st.lists(st.tuples(TEXTS, values), max_size=3)
            fields = {"a": values, "b.c": st.none() | st.integers(0, 9)}
            return pa.struct([("a", kind), ("b.c", pa.int64())]), st.fixed_dictionaries(fields)

        return st.builds(wrap, inner, st.sampled_from(["list", "large_list", "fixed_size_list", "map", "struct"]))

    return st.recursive(leaves, nest, max_leaves=2)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Draws a table of reviews and other columns."""
    rows = draw(st.integers(0, 12))
    made = {"text": pa.array(draw(st.lists(st.none() | TEXTS, min_size=rows, max_size=rows)), pa.string())}
    names = draw(st.lists(st.sampled_from(["id", "text.x", "text2", " ", "", "Ä", "__index_level_0__"]), unique=True))
    for name in names:
        kind, values = draw(columns(st.sampled_from(LEAVES)) | st.sampled_from(EXTENSIONS))
        column = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        if pa.types.is_dictionary(kind):
            made[name] = pa.array(column, kind.value_type).dictionary_encode().cast(kind)
        elif isinstance(kind, pa.BaseExtensionType):
            made[name] = kind.wrap_array(pa.array(column, kind.storage_type))
        else:
            made[name] = pa.array(column, kind)
    return pa.table(made)


@pytest.fixture(scope="module")
def scorer(tiny_bundle: Path) -> Iterator[Scorer]:
    """Gives a scorer on one thread."""
    with Scorer(read_bundle(str(tiny_bundle)), "native", 1) as scorer:
        yield scorer


def kept(source: Path, output: Path, scorer: Scorer, **changes: Any) -> pa.Table:
    """Scores a file and returns the columns kept of it."""
    plan = make_plan(ScoreConfig.model_validate({"inputs": (str(source),), **changes}), "hash")
    written = [
        pq.read_table(output / part.name)
        for task in plan.tasks(set())
        for part in score_task(task, plan.layout, scorer, str(output))
    ]
    return pa.concat_tables(written).select(plan.layout.kept)


@given(tables(), st.integers(1, 6), st.integers(1, 6), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_kept_columns_are_what_pyarrow_reads(
    scorer: Scorer, table: pa.Table, in_group: int, in_part: int, data: st.DataObject
) -> None:
    named = [name for name in table.column_names if name]
    names = data.draw(st.just(table.column_names) | st.lists(st.sampled_from(named), min_size=1, unique=True))
    chosen = "all" if names == table.column_names else names
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "in.parquet"
        try:
            pq.write_table(table, source, row_group_size=in_group)
        except pa.ArrowException:
            reject()  # a type that Arrow does not put into Parquet, or a dictionary without values that it cannot cut
        expected = pq.read_table(source).select(names)
        found = kept(source, Path(directory) / "out", scorer, rows_per_part=in_part, keep_columns=chosen)
    assert found.schema.types == expected.schema.types
    assert found.equals(expected)


@pytest.mark.parametrize("name", ["a", "a.b"])
def test_a_column_is_told_apart_from_a_field_of_another(tmp_path: Path, scorer: Scorer, name: str) -> None:
    table = pa.table({"text": ["x", "y"], "a": [{"b": 1}, {"b": 2}], "a.b": [7, 8], "text.id": [3, 4]})
    pq.write_table(table, tmp_path / "in.parquet")
    assert kept(tmp_path / "in.parquet", tmp_path / "out", scorer, keep_columns=name).equals(table.select([name]))


def test_not_a_number_is_kept(tmp_path: Path, scorer: Scorer) -> None:
    values = pa.array([float("nan"), -0.0, None], pa.float64())
    pq.write_table(pa.table({"text": ["a", "b", "c"], "x": values}), tmp_path / "in.parquet")
    assert repr(kept(tmp_path / "in.parquet", tmp_path, scorer)["x"].to_pylist()) == "[nan, -0.0, None]"


def test_times_of_the_old_type_are_kept_or_refused(tmp_path: Path, scorer: Scorer) -> None:
    far = [dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1), None, dt.datetime(2020, 5, 4, 1, 2, 3, 456_789)]
    times = pa.array(far, pa.timestamp("us"))
    nested = pa.array([{"t": [one]} for one in far], pa.struct([("t", pa.list_(pa.timestamp("us")))]))
    table = pa.table({"text": list("abcd"), "until": times, "nested": nested})
    pq.write_table(table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True)
    found = kept(tmp_path / "in.parquet", tmp_path, scorer)
    assert found["until"].to_pylist() == far
    assert found["nested"].to_pylist() == nested.to_pylist()
    fine = pa.table({"text": ["a", "b"], "until": pa.array([1_000, 1_001], pa.timestamp("ns"))})
    pq.write_table(fine, tmp_path / "fine.parquet", use_deprecated_int96_timestamps=True)
    with pytest.raises(InputError, match=r"fine\.parquet: column 'until' holds nanoseconds .*--keep-columns"):
        kept(tmp_path / "fine.parquet", tmp_path, scorer)
    assert kept(tmp_path / "fine.parquet", tmp_path, scorer, keep_columns="text")["text"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(("kind", "bits"), [("float16", "uint16"), ("float32", "uint32"), ("float64", "uint64")])
def test_not_a_number_keeps_its_bits(scorer: Scorer, tmp_path: Path, kind: str, bits: str) -> None:
    """Equal tables may not have NaN, so hypothesis draws none."""
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 1.5], kind)
    odd = np.append(odd, (odd[:1].view(bits) + 1).view(kind))  # another NaN
    pq.write_table(pa.table({"text": ["fine"] * len(odd), "odd": odd}), tmp_path / "in.parquet")
    found = kept(tmp_path / "in.parquet", tmp_path / "out", scorer, rows_per_part=3)["odd"].to_numpy()
    np.testing.assert_array_equal(found.view(bits), odd.view(bits))
