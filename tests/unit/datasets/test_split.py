"""A training and a test file: every row in one of them, in order, as it was; decided by its group or text alone."""

from __future__ import annotations

import datetime
import itertools
import re
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lstm_ray.config import SplitConfig, TrainConfig, resolve
from lstm_ray.datasets import split as splitting
from lstm_ray.datasets.held_out import group_keys, hash_keys, held_out
from lstm_ray.datasets.seen import SeenTexts, hash_texts
from lstm_ray.datasets.split import SplitFile
from lstm_ray.errors import ConfigError, InputError, LstmRayError, OutputError
from lstm_ray.progress import Count, Event, Progress, ignore
from lstm_ray.storage import parquet
from lstm_ray.text.tokenize import decode_texts
from lstm_ray.train.data.corpus import assemble, encode_shard, find_all_shards

ROWS = 60


def split(
    inputs: list[str], output: Path, *, progress: Progress = ignore, **settings: Any
) -> tuple[SplitFile, SplitFile]:
    """Splits files."""
    return splitting.split(resolve(SplitConfig, {"inputs": inputs, "output": output, **settings}), progress)


def make_table(rows: int = ROWS) -> pa.Table:
    """Returns reviews of 17 films, some without a film or a text, with columns of many types."""
    numbers = range(rows)
    films = [None if number % 11 == 5 else number * number % 17 for number in numbers]
    return pa.table(
        {
            "id": pa.array(numbers, pa.uint16()),
            "text": pa.array([None if number % 13 == 4 else f"review {number // 2}" for number in numbers]),
            "label": pa.array([number % 2 for number in numbers], pa.int8()),
            "film": pa.array(films, pa.int64()),
            "genre": pa.array([f"genre {number % 7}" for number in numbers]).dictionary_encode(),
            "stars": pa.array([number / 7 for number in numbers], pa.float32()),
            "price": pa.array([Decimal(number) / 4 for number in numbers], pa.decimal128(9, 2)),
            "at": pa.array([datetime.datetime(2020, 1, 1) for _ in numbers], pa.timestamp("us", "UTC")),
            "tags": pa.array([[{"tag": str(number)}] * (number % 3) for number in numbers]),
            "scan": pa.array([bytes([number % 256]) for number in numbers], pa.large_binary()),
            "empty": pa.nulls(rows),
        }
    )


def write_cut(directory: Path, table: pa.Table, bounds: list[int], rows_per_group: int) -> list[str]:
    """Writes a table as files that end at the given rows."""
    edges = sorted({0, len(table), *bounds})
    paths = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        paths.append(str(directory / f"{number:03d}.parquet"))
        pq.write_table(table.slice(start, stop - start), paths[-1], row_group_size=rows_per_group)
    return paths


@given(
    bounds=st.lists(st.integers(1, ROWS - 1), max_size=3),
    rows_per_group=st.integers(1, ROWS),
    read_rows=st.integers(1, ROWS),
    written_rows=st.integers(1, ROWS),
    by=st.sampled_from([None, "film", "genre", "tags", "stars"]),
    seed=st.integers(0, 3),
)
@settings(max_examples=15)
def test_rows_are_those_of_the_whole_table_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory,
    bounds: list[int],
    rows_per_group: int,
    read_rows: int,
    written_rows: int,
    by: str | None,
    seed: int,
) -> None:
    directory, table = tmp_path_factory.mktemp("split"), make_table()
    texts = [None if text is None else text.encode() for text in table["text"].to_pylist()]
    groups = [None] * ROWS if by is None else group_keys(table[by]).to_pylist()
    keys = [group if group is not None else text or b"" for group, text in zip(groups, texts, strict=True)]
    side = held_out(hash_keys(pa.array(keys, pa.large_binary()), seed, b"data split"), 0.4)
    assume(0 < side.sum() < ROWS)  # with few groups all may be on one side, which is an error
    (directory / "in").mkdir()
    inputs = write_cut(directory / "in", table, bounds, rows_per_group)
    seen: list[Event] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parquet, "_READ_ROWS", read_rows)
        patched.setattr(splitting, "_GROUP_ROWS", written_rows)
        train, test = split(inputs, directory / "out", test=0.4, by=by, seed=seed, progress=seen.append)
    assert seen[-1] == Count(ROWS, ROWS, "rows")

    whole = pq.read_table(inputs)
    for made, chosen in ((train, ~side), (test, side)):
        written = pq.read_table(made.path)
        expected = whole.filter(pa.array(chosen))
        assert written.schema.equals(whole.schema, check_metadata=True)
        assert written.to_pylist() == expected.to_pylist()
        assert made.rows == len(expected)
        distinct = {group for group, is_here in zip(groups, chosen, strict=True) if is_here and group is not None}
        assert made.groups == (None if by is None else len(distinct))
        metadata = pq.read_metadata(made.path)
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        assert all(size >= written_rows for size in sizes[:-1])
    assert train.rows + test.rows == ROWS


def test_columns_that_directories_add_are_kept_and_can_be_split_by(tmp_path: Path) -> None:
    for year in range(2000, 2030):
        (tmp_path / f"in/year={year}").mkdir(parents=True)
        pq.write_table(pa.table({"text": [f"{year} a", f"{year} b"]}), tmp_path / f"in/year={year}/a.parquet")
    sides = split([str(tmp_path / "in")], tmp_path / "out", test=0.3, by="year")
    tables = [pq.read_table(side.path).to_pydict() for side in sides]
    years = [set(table["year"]) for table in tables]
    assert years[0] | years[1] == {str(year) for year in range(2000, 2030)}
    assert not years[0] & years[1]
    assert all(text[:4] == year for table in tables for text, year in zip(*table.values(), strict=True))


def test_times_of_the_old_type_are_kept_or_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["good", "bad"] * 9, "at": pa.array([datetime.datetime(9999, 12, 31)] * 18)})
    pq.write_table(table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True)
    sides = split([str(tmp_path / "in.parquet")], tmp_path / "out", test=0.5, seed=1)
    assert {at for side in sides for at in pq.read_table(side.path)["at"].to_pylist()} == set(table["at"].to_pylist())
    fine = table.set_column(1, "at", pa.array([1] * 18, pa.timestamp("ns")))
    pq.write_table(fine, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True)
    with pytest.raises(InputError, match="column 'at' holds nanoseconds"):
        split([str(tmp_path / "in.parquet")], tmp_path / "fine", test=0.5, seed=1)


def test_a_run_on_the_training_file_still_finds_rows_to_validate_on(tmp_path: Path) -> None:
    """With the same rule, training would hold out no row here: those with the lowest hashes are in the test file."""
    (path,) = write_cut(tmp_path, pa.table({"text": [f"r {n}" for n in range(999)], "label": [0, 1, 1] * 333}), [], 99)
    train, test = split([path], tmp_path / "out", test=0.2)
    config = TrainConfig(train=(str(train.path),), output="run", validation_fraction=0.1)
    prepared = assemble([encode_shard(shard, config) for shard in find_all_shards(config)], config)
    assert 40 < len(prepared.validation) < 120
    assert 150 < test.rows < 250


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with its row groups either: this one has 40 MB in one."""
    monkeypatch.setattr(parquet, "_READ_ROWS", 500)
    monkeypatch.setattr(splitting, "_GROUP_ROWS", 2_000)
    monkeypatch.setattr(splitting, "_BUFFER_BYTES", 1 << 20)
    generator = np.random.default_rng(0)
    texts = [generator.bytes(1_000).hex() for _ in range(20_000)]  # letters of a random number: a codec saves half
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    held: list[int] = []
    before = pa.total_allocated_bytes()
    split(
        [str(tmp_path / "in.parquet")],
        tmp_path / "out",
        test=0.5,
        progress=lambda _: held.append(pa.total_allocated_bytes() - before),
    )
    assert max(held) < 25_000_000


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"by": "author"}, InputError, "no column 'author'; it has 'id', 'text', .*: choose with --by"),
        ({"text_column": "body"}, InputError, r"no column 'body'; .*: did you mean --text-column text\?$"),
        ({"text_column": "ids"}, InputError, r"no column 'ids'; .*: did you mean --text-column text\?$"),
        (
            {"text_column": "body", "by": "genre"},
            InputError,
            r"did you mean --text-column text\? \(rows whose 'genre' is null are split by their text\)$",
        ),
        ({"text_column": "id"}, InputError, "column 'id' is uint16, expected text: choose with --text-column"),
        ({"test": 0.0}, ConfigError, "--test is 0.0: should be greater than 0"),
        ({"test": 1.0}, ConfigError, "--test is 1.0: should be less than 1"),
        ({"test": 1e-9}, InputError, "of its 60 rows none is for test.parquet: raise --test, or take another --seed"),
        (
            {"test": 1 - 1e-9, "by": "genre"},
            InputError,
            "of its 60 rows of 7 groups none is for train.parquet: lower --test to 0.[0-9]+, or take another --seed",
        ),
    ],
)
def test_what_cannot_be_split_is_refused_and_nothing_written(
    tmp_path: Path, changes: dict[str, Any], error: type[LstmRayError], message: str
) -> None:
    inputs = write_cut(tmp_path, make_table(), [], 50)
    with pytest.raises(error, match=message):
        split(inputs, tmp_path / "out", **{"test": 0.2, **changes})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by", [None, "group"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_side_of_a_split_needs_another_seed(tmp_path: Path, by: str | None, side: int) -> None:
    numbers = range(400)
    pq.write_table(pa.table({"text": [f"t {n}" for n in numbers], "group": numbers}), tmp_path / "in.parquet")
    part = str(split([str(tmp_path / "in.parquet")], tmp_path / "first", test=0.2, by=by)[side].path)
    empty = ("test", "train")[side]
    said = f"none is for {empty}.parquet: take another --seed: the rows seem to be one side of a split with --seed 0$"
    with pytest.raises(InputError, match=said):
        split([part], tmp_path / "second", test=0.2, by=by)
    assert all(one.rows for one in split([part], tmp_path / "second", test=0.2, by=by, seed=1))


def test_an_input_without_rows_has_no_sides(tmp_path: Path) -> None:
    pq.write_table(make_table().slice(0, 0), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"in\.parquet: no rows to split$"):
        split([str(tmp_path / "in.parquet")], tmp_path / "out", test=0.2)


@pytest.mark.parametrize("test", [0.01, 0.99])
def test_where_all_groups_are_on_one_side_the_share_that_the_message_names_divides_them(
    tmp_path: Path, test: float
) -> None:
    inputs = write_cut(tmp_path, make_table(), [], 50)
    with pytest.raises(InputError) as refused:
        split(inputs, tmp_path / "out", by="genre", test=test)
    (share,) = re.findall(r"--test to (0\.\d+),", str(refused.value))
    assert all(side.groups for side in split(inputs, tmp_path / "out", by="genre", test=float(share)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns("price"), "column 'price' is missing, but decimal128"),
        (lambda table: table.append_column("more", table["id"]), "column 'more' is uint16, but missing in"),
        (
            lambda table: table.set_column(0, "id", table["id"].cast(pa.int64())),
            r"column 'id' is int64, but uint16 in .*000\.parquet: split them one by one",
        ),
    ],
)
def test_files_with_other_columns_are_refused(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    (path,) = write_cut(tmp_path, make_table(), [], 50)
    pq.write_table(change(make_table()), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=rf"other\.parquet: {message}"):
        split([path, str(tmp_path / "other.parquet")], tmp_path / "out", test=0.2)


def test_columns_in_another_order_are_put_into_that_of_the_first_file(tmp_path: Path) -> None:
    table = make_table()
    (path,) = write_cut(tmp_path, table, [], 50)
    other = table.select(table.column_names[::-1])
    pq.write_table(other, tmp_path / "other.parquet")
    train, test = split([path, str(tmp_path / "other.parquet")], tmp_path / "out", test=0.2)
    ids = sorted(pq.read_table(train.path)["id"].to_pylist() + pq.read_table(test.path)["id"].to_pylist())
    assert ids == sorted([*range(ROWS), *range(ROWS)])
    assert pq.read_schema(train.path).names == table.column_names


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["a", "b"])] * 2, ["text", "text"])
    pq.write_table(twice, tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"has two columns named 'text': write it with one of them$"):
        split([str(tmp_path / "in.parquet")], tmp_path / "out", test=0.2)


def test_existing_files_are_replaced_only_if_asked_for_and_never_when_they_are_inputs(tmp_path: Path) -> None:
    (path,) = write_cut(tmp_path, make_table(), [], 50)
    train, test = split([path], tmp_path / "out", test=0.2)
    before = test.path.read_bytes()
    with pytest.raises(OutputError, match=r"train.parquet, .*test.parquet: exist already: .*--overwrite"):
        split([path], tmp_path / "out", test=0.5)
    with pytest.raises(OutputError, match=r"train.parquet: is an input: choose another --output"):
        split([str(train.path)], tmp_path / "out", test=0.5, overwrite=True)
    with pytest.raises(ConfigError, match="is inside the input"):
        split([str(tmp_path)], tmp_path / "out", test=0.5, overwrite=True)
    assert test.path.read_bytes() == before
    assert split([path], tmp_path / "out", test=0.5, overwrite=True)[1].rows > test.rows


def test_one_group_has_no_other_side_for_any_share(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["good", "bad"], "film": [7, 7]}), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"of its 2 rows of 1 group none is for .*: choose another column with --by$"):
        split([str(tmp_path / "in.parquet")], tmp_path / "out", by="film", test=0.5)


def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path) -> None:
    (path,) = write_cut(tmp_path, make_table(), [], 50)
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    Path(path).write_bytes(content)
    with pytest.raises(InputError, match=r"000\.parquet: row group \d cannot be read"):
        split([path], tmp_path / "out", test=0.2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_each_class_has_its_share_wherever_its_rows_are(tmp_path: Path, share: float) -> None:
    random = np.random.default_rng(0)
    labels = random.choice(["rare", "usual", "common", None], 2000, p=[0.02, 0.3, 0.63, 0.05]).tolist()
    table = pa.table({"text": [f"review {row}" for row in range(2000)], "label": pa.array(labels, pa.string())})
    paths = write_cut(tmp_path, table, [700, 1500], 300)
    split(paths, tmp_path / "out", test=share, stratify="label")
    tested = pq.read_table(tmp_path / "out/test.parquet")["label"].to_pylist()
    for label in ("rare", "usual", "common", None):
        assert abs(tested.count(label) - share * labels.count(label)) <= 1  # scikit-learn's rounds as well
    assert len(tested) + pq.read_metadata(tmp_path / "out/train.parquet").num_rows == 2000
    turned = write_cut(tmp_path / "out", table.take(pa.array(range(1999, -1, -1))), [], 2000)
    split(turned, tmp_path / "again", test=share, stratify="label")
    again = pq.read_table(tmp_path / "again/test.parquet")["text"].to_pylist()
    assert sorted(again) == sorted(pq.read_table(tmp_path / "out/test.parquet")["text"].to_pylist())


def test_equal_texts_of_a_class_stay_together(tmp_path: Path) -> None:
    texts = [f"review {row % 50}" for row in range(400)]
    pq.write_table(pa.table({"text": texts, "label": [row % 50 % 2 for row in range(400)]}), tmp_path / "in.parquet")
    split([str(tmp_path / "in.parquet")], tmp_path / "out", test=0.3, stratify="label")
    train, test = (
        set(pq.read_table(tmp_path / f"out/{name}.parquet")["text"].to_pylist()) for name in ("train", "test")
    )
    assert not train & test


@pytest.mark.parametrize("rule", [{}, {"stratify": "label"}])
def test_no_test_row_counts_as_seen_in_training_because_of_white_space_around_it(
    tmp_path: Path, rule: dict[str, str]
) -> None:
    plain = [f"review {row}" for row in range(100)]
    texts = [*plain, *(f"\u00a0 \t{text}\u3000\r\n" for text in plain), *(f"{text} " for text in plain)]
    pq.write_table(pa.table({"text": texts, "label": [row % 2 for row in range(300)]}), tmp_path / "in.parquet")
    split([str(tmp_path / "in.parquet")], tmp_path / "out", test=0.3, **rule)
    train, test = (pq.read_table(tmp_path / f"out/{name}.parquet")["text"] for name in ("train", "test"))
    assert SeenTexts([hash_texts(decode_texts(train))]).count(hash_texts(decode_texts(test))) == 0
    assert {*train.to_pylist(), *test.to_pylist()} == set(texts), "the rows are written as they are"
    if not rule:  # the sides that the plain texts always had
        sides = held_out(hash_keys(pa.array(plain).cast(pa.large_binary()), 0, b"data split"), 0.3)
        assert [text in test.to_pylist() for text in plain] == sides.tolist()


def test_more_classes_than_a_stratum_can_have_are_refused(tmp_path: Path) -> None:
    pq.write_table(make_table(300), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"^--stratify text: more than 100 values: choose a column of classes$"):
        split([str(tmp_path / "in.parquet")], tmp_path / "out", stratify="text")


DAYS = [datetime.date(2024, 4, 30), datetime.date(2024, 5, 1), datetime.date(2024, 5, 2), None]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(DAYS, pa.date32()),
        pa.array(DAYS, pa.date64()),
        pa.array(DAYS, pa.date32()).cast(pa.timestamp("ns")),
        pa.array(DAYS, pa.date32()).cast(pa.timestamp("s", "Europe/Berlin")),
        pa.array([None if day is None else str(day) for day in DAYS]),
        pa.array([-(2**63), 1714521600000, 2**63 - 1, None], pa.timestamp("ms")),
        pa.array([-(2**31), 19844, 2**31 - 1, None], pa.int32()).cast(pa.date32()),
    ],
    ids=lambda column: str(column.type),
)
def test_a_date_splits_columns_of_any_type_for_dates(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"text": ["a", "b", "c", "d"], "at": column}), tmp_path / "in.parquet")
    train, test = split([str(tmp_path / "in.parquet")], tmp_path / "out", before=DAYS[1], date_column="at")  # as YAML
    assert (train.undated, test.undated) == (1, 0)
    assert pq.read_table(tmp_path / "out/train.parquet")["text"].to_pylist() == ["a", "d"]
    assert pq.read_table(tmp_path / "out/test.parquet")["text"].to_pylist() == ["b", "c"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (
            {"before": "May", "date_column": "at"},
            ConfigError,
            "--before is 'May': should be a date, such as 2024-05-01",
        ),
        ({"before": "1.5.2024", "date_column": "at"}, ConfigError, r"year first: did you mean 2024-05-01\?"),
        ({"before": "2024-05-01", "test": 0.1}, ConfigError, "--before and --test exclude each other"),
        ({"by": "film", "stratify": "label"}, ConfigError, "--by and --stratify exclude each other"),
        (
            {"before": "2024-05-01", "date_column": "stars"},
            InputError,
            r"in\.parquet: column 'stars' is float, not a date",
        ),
        (
            {"before": "2024-05-01", "date_column": "film"},
            InputError,
            r"'film' is int64, not a date or a text: if it counts seconds, write it as a timestamp, for example with "
            r"pandas\.to_datetime\(frame\['film'\], unit=\"s\"\) .*, or choose with --date-column$",
        ),
        ({"before": "2024-05-01"}, InputError, "no column 'date'; .*--date-column"),
        (
            {"before": "2024-05-01", "date_column": "text"},
            InputError,
            r"in\.parquet: column 'text', row 0: 'review 0' is not a date such as 2024-05-31 or 2024",
        ),
        (
            {"before": "1999-01-01", "date_column": "at"},
            InputError,
            "none is for train.parquet: choose another --before",
        ),
        ({"stratify": "labels"}, InputError, "no column 'labels'; .*: did you mean --stratify label"),
    ],
)
def test_what_a_date_or_class_cannot_split_is_refused_and_nothing_written(
    tmp_path: Path, options: dict[str, Any], error: type[LstmRayError], says: str
) -> None:
    pq.write_table(make_table(), tmp_path / "in.parquet")
    with pytest.raises(error, match=says):
        split([str(tmp_path / "in.parquet")], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_dates_are_read_as_iso_8601_writes_them_and_others_are_named(tmp_path: Path) -> None:
    dates = ["2024-04-30", " 2024-05-01T00:00:00Z", "2024-05-01 00:30:00+02:00", "", None, "2024-05-01 18:30"]
    pq.write_table(pa.table({"id": range(6), "date": dates}), tmp_path / "in.parquet")
    train, _ = split([str(tmp_path / "in.parquet")], tmp_path / "out", before="2024-05-01")
    assert train.undated == 2
    assert pq.read_table(tmp_path / "out/test.parquet")["id"].to_pylist() == [1, 5]
    for wrong in ("31.12.2020", "12/31/2020", "May 1st"):
        table = pa.table({"date": [*["2020-01-01"] * 9000, wrong]})
        pq.write_table(table, tmp_path / "wrong.parquet", row_group_size=8900)
        with pytest.raises(
            InputError,
            match=rf"wrong\.parquet: column 'date', row 9,000: '{wrong}' is not a date such as 2024-05-31 or ",
        ):
            split([str(tmp_path / "wrong.parquet")], tmp_path / "wrong", before="2020-06-01")


def test_many_columns_take_seconds(tmp_path: Path) -> None:
    """Arrow makes the list of names anew each time, so it must not be asked for each column."""
    columns = {f"c{number}": list(range(10)) for number in range(5_000)}
    pq.write_table(pa.table({"text": list("abcdefghij"), **columns}), tmp_path / "wide.parquet")
    started = time.process_time()
    split([str(tmp_path / "wide.parquet")], tmp_path / "out", test=0.5)
    assert time.process_time() - started < 8
