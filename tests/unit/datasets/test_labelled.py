"""Labelled Parquet: row groups are listed, sampled and read; an invalid label is reported with its row."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.config import split_list
from lstm_ray.datasets import labelled
from lstm_ray.datasets.convert.next_step import next_command
from lstm_ray.datasets.labelled import Shard, count_labels, doubt_left_out, find_shards, read_shard, sample_rows
from lstm_ray.datasets.labels import OTHER, ZERO_AND_ONE, LabelMapping
from lstm_ray.errors import InputError
from lstm_ray.progress import Event
from lstm_ray.storage.inputs import InputFile
from lstm_ray.storage.parquet import read_batches


def write(path: Path, texts: Any, labels: Any, rows_per_group: int = 1_000) -> str:
    """Writes a file of texts and labels and returns its path."""
    pq.write_table(
        pa.table({"id": range(len(texts)), "text": texts, "label": labels}), path, row_group_size=rows_per_group
    )
    return str(path)


def shards_of(*paths: str) -> list[Shard]:
    """Lists the row groups of files with the usual columns."""
    return find_shards(paths, "text", "label")


def read(shard: Shard) -> tuple[list[str], list[int], int]:
    """Reads a shard as plain lists."""
    rows = read_shard(shard, "text", "label")
    assert rows.labels.dtype == np.int8
    assert rows.with_other_label == 0
    return rows.texts.to_pylist(), rows.labels.tolist(), rows.without_text


def test_shards_are_the_row_groups_in_order(tmp_path: Path) -> None:
    one = write(tmp_path / "a.parquet", list("abcde"), [0, 1, 0, 1, 1], rows_per_group=2)
    other = write(tmp_path / "b.parquet", list("fg"), [1, 0])
    shards = shards_of(one, other)
    places = [(Path(shard.file.path).name, shard.row_group, shard.first_row) for shard in shards]
    assert places == [("a.parquet", 0, 0), ("a.parquet", 1, 2), ("a.parquet", 2, 4), ("b.parquet", 0, 0)]
    texts = [text for shard in shards for text in read(shard)[0]]
    labels = [label for shard in shards for label in read(shard)[1]]
    assert texts == list("abcdefg")
    assert labels == [0, 1, 0, 1, 1, 1, 0]


def test_splits_that_are_read_together_are_told(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        write(tmp_path / f"{name}.parquet", ["good", "bad"], [1, 0])
    notes: list[Any] = []
    find_shards([str(tmp_path)], "text", "label", progress=notes.append)
    assert [note.partition(": takes ")[2].partition(";")[0] for note in notes] == ["the splits test, train together"]


def test_no_file_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    honest = InputFile.open

    def remember(file: InputFile) -> Any:
        opened.append(honest(file))
        return opened[-1]

    monkeypatch.setattr(InputFile, "open", remember)
    (shard,) = shards_of(write(tmp_path / "a.parquet", ["good"], [1]))
    read(shard)
    (tmp_path / "b.parquet").write_bytes(b"no Parquet")
    with pytest.raises(InputError):
        shards_of(str(tmp_path / "b.parquet"))
    assert [stream.closed for stream in opened] == [True] * 3


def test_rows_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    texts = pa.array([b"good", None, b"\xff", b""], pa.binary())
    (shard,) = shards_of(write(tmp_path / "a.parquet", texts, [1, 0, 1, 0]))
    assert read(shard) == (["good", ""], [1, 0], 2)


@pytest.mark.parametrize("rows", [np.arange(1_005), np.array([3, 1_002])], ids=["all rows", "some rows"])
def test_a_row_group_of_fewer_rows_than_the_footer_says_is_named(
    tmp_path: Path, claim_rows: Callable[[Path, int, int], None], rows: Any
) -> None:
    path = tmp_path / "a.parquet"
    columns = {"text": ["good"] * 1_000, "label": pa.array([1] * 1_000, pa.int8())}
    pq.write_table(pa.table(columns), path, write_statistics=False)
    claim_rows(path, 1_000, 1_005)
    (shard,) = shards_of(str(path))
    message = r"a\.parquet: row group 0 cannot be read: 1,000 rows found, but the footer says 1,005$"
    with pytest.raises(InputError, match=message):
        read(replace(shard, rows=rows))


def test_labels_of_a_damaged_file_are_an_input_error(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.parquet", ["good"] * 9, ["neg", "pos", "pos"] * 3))
    content = bytearray(path.read_bytes())
    start = content.index(b"neg") - 12
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: row group 0 cannot be read: "):
        shards_of(str(path))


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_()], ids=str)
def test_labels_may_be_of_any_number_type(tmp_path: Path, kind: pa.DataType) -> None:
    labels = pa.array([0, 1, 1]).cast(kind)
    (shard,) = shards_of(write(tmp_path / "a.parquet", list("abc"), labels))
    assert read(shard)[1] == [0, 1, 1]


@pytest.mark.parametrize(
    ("labels", "row", "shown"),
    [
        ([0, 1, 0, 2, 1], 3, "2 is neither 0 nor 1 .* --positive-labels LABELS --negative-labels LABELS"),
        ([0, -1, 5, 0, 1], 1, "-1 is neither 0 nor 1 .* -1 for unknown, .* --positive-labels 5 --negative-labels 0,1"),
        ([1, 0, 1, 0, 1234567], 4, "1234567 is neither 0 nor 1 .*"),
        ([1, 0, 2**53 + 1, 0, 1], 2, "9007199254740993 is neither 0 nor 1 .*"),
        ([1, 0, 1, 0, 0.5], 4, "0.5 is neither 0 nor 1 .* --positive-labels 1 --negative-labels 0"),
        ([1, 0, None, 0, 0], 2, "is null .* --positive-labels 1 --negative-labels 0"),
    ],
)
def test_the_first_wrong_label_is_named_with_its_row_in_the_file(
    tmp_path: Path, labels: list[Any], row: int, shown: str
) -> None:
    shards = shards_of(write(tmp_path / "a.parquet", list("abcde"), labels, rows_per_group=2))
    with pytest.raises(InputError, match=rf"a\.parquet: column 'label', row {row}: label {shown}$"):
        [read(shard) for shard in shards]


def test_the_row_of_a_wrong_label_is_right_in_a_sample(tmp_path: Path) -> None:
    labels = [0, 1] * 50
    labels[63] = 3
    shards = shards_of(write(tmp_path / "a.parquet", ["x"] * 100, labels, rows_per_group=30))
    sampled = [shard if shard.row_group != 2 else Shard(shard.file, 2, 60, np.array([1, 3, 20])) for shard in shards]
    with pytest.raises(InputError, match="row 63: label 3"):
        read(sampled[2])


@pytest.mark.parametrize(
    ("text_column", "label_column", "message"),
    [
        ("review", "label", r"no column 'review'; it has 'id', 'text', 'label': did you mean --text-column text\?"),
        ("text", "stars", r"no column 'stars'; it has 'id', 'text', 'label': did you mean --label-column label\?"),
        ("id", "label", r"column 'id' is int64, expected text: choose with --text-column"),
    ],
)
def test_a_missing_or_wrong_column_is_named(tmp_path: Path, text_column: str, label_column: str, message: str) -> None:
    path = write(tmp_path / "a.parquet", ["a"], [1])
    with pytest.raises(InputError, match=rf"a\.parquet: {message}"):
        find_shards([path], text_column, label_column)


@pytest.mark.parametrize(
    ("columns", "end"),
    [
        ({"Review Text": ["a"], "Star Rating": [1]}, "--text-column 'Review Text' --label-column 'Star Rating'?"),
        ({"Review Text": ["a"], "label": [1], "stars": [1]}, "--text-column 'Review Text'?"),
        ({"Review Text": ["a"], "id": [1]}, "--text-column 'Review Text'?"),
        ({"comment": ["a"], "overall": [1]}, "--text-column comment --label-column overall?"),
        ({"texts": [1], "Review": ["a"]}, "--text-column Review?"),
    ],
    ids=str,
)
def test_two_missing_columns_are_named_at_once(tmp_path: Path, columns: dict[str, list[Any]], end: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError) as refused:
        find_shards([str(tmp_path / "a.parquet")], "text", "label")
    assert str(refused.value).endswith(f"did you mean {end}")


@pytest.mark.parametrize("kind", [pa.struct({"en": pa.string()}), pa.list_(pa.string())], ids=str)
def test_texts_inside_a_nested_column_are_to_be_written_to_one_of_their_own(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.array([None], kind), "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"expected text: write its texts to a column of their own, or choose with"):
        find_shards([str(tmp_path / "a.parquet")], "text", "label")


def test_stars_become_labels_and_the_middle_is_left_out_and_counted(tmp_path: Path) -> None:
    texts = ["bad", "fine", None, "good", "so-so", "great", None]
    stars = pa.array([1, 3, 2, 4, None, 5, 3], pa.int64())
    path = write(tmp_path / "a.parquet", texts, stars, rows_per_group=4)
    mapping = LabelMapping(("4", "5"), ("1", "2"))
    first, second = (
        read_shard(shard, "text", "label", mapping) for shard in find_shards([path], "text", "label", mapping)
    )
    assert (first.texts.to_pylist(), first.labels.tolist()) == (["bad", "good"], [0, 1])
    assert (first.without_text, first.with_other_label) == (1, 1)
    assert (second.texts.to_pylist(), second.labels.tolist()) == (["great"], [1])
    assert (second.without_text, second.with_other_label) == (0, 2), "no text and no label: counted once"


def test_labels_that_are_texts_are_listed_with_the_options_that_tell_them_apart(tmp_path: Path) -> None:
    labels = pa.array(["neg"] * 5 + ["pos"] * 3 + [None]).dictionary_encode()
    path = write(tmp_path / "a.parquet", ["x"] * 9, labels, rows_per_group=4)
    says = (
        r"a\.parquet: column 'label' holds the texts 'neg', 'pos': name the labels of each class .*: "
        "--positive-labels pos --negative-labels neg$"
    )
    with pytest.raises(InputError, match=says):
        shards_of(path)


@pytest.mark.parametrize(("negative", "positive"), [("0", "1"), ("neg", "pos")])
def test_labels_may_stand_in_the_names_of_directories(tmp_path: Path, negative: str, positive: str) -> None:
    for label, texts in ((negative, ["dull"]), (positive, ["lovely", None])):
        (tmp_path / f"label={label}").mkdir()
        pq.write_table(pa.table({"text": texts}), tmp_path / f"label={label}" / "a.parquet")
    mapping = ZERO_AND_ONE if positive == "1" else LabelMapping((positive,), (negative,))
    shards = find_shards([str(tmp_path)], "text", "label", mapping, group_column="label")
    rows = [read_shard(shard, "text", "label", mapping, "label") for shard in shards]
    assert [one.texts.to_pylist() for one in rows] == [["dull"], ["lovely"]]
    assert [one.labels.tolist() for one in rows] == [[0], [1]]
    assert count_labels(shards, "label", mapping) == {1: 2, 0: 1, OTHER: 0}
    if positive == "pos":
        with pytest.raises(InputError, match=r"texts 'neg', 'pos': .* --positive-labels pos --negative-labels neg$"):
            find_shards([str(tmp_path)], "text", "label")


def test_labels_in_the_names_of_directories_are_proposed_over_all_of_them(tmp_path: Path) -> None:
    for label in ("5", "1", "n%2Fa"):
        (tmp_path / f"label={label}").mkdir()
        pq.write_table(pa.table({"text": [f"of {label}"]}), tmp_path / f"label={label}" / "a.parquet")
    with pytest.raises(
        InputError, match=r"'1', '5', 'n/a': .*'n/a' for unknown, .*--positive-labels 5 --negative-labels 1$"
    ):
        find_shards([str(tmp_path)], "text", "label")
    mapping = LabelMapping(("5",), ("1",))
    shards = find_shards([str(tmp_path)], "text", "label", mapping)
    assert count_labels(shards, "label", mapping) == {1: 1, 0: 1, OTHER: 1}


def test_labels_that_are_words_in_one_file_and_numbers_in_another_need_one_type(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["x"] * 2, [0, 1])
    write(tmp_path / "b.parquet", ["x"] * 2, ["neg", "pos"])
    says = r"b\.parquet: column 'label' is string here, but numbers in .*a\.parquet: write both with one type$"
    with pytest.raises(InputError, match=says):
        find_shards([str(tmp_path)], "text", "label")


def test_a_directory_without_a_label_beside_others_says_what_leaves_it_out(tmp_path: Path) -> None:
    for label in ("1", "0", "__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / f"label={label}").mkdir()
        pq.write_table(pa.table({"text": ["fine"]}), tmp_path / f"label={label}" / "a.parquet")
    shards = find_shards([str(tmp_path)], "text", "label")
    says = (
        "label is null .*; if other files have labels, name these, and rows without one are left out: --positive-labels"
    )
    with pytest.raises(InputError, match=says):
        count_labels(shards, "label", ZERO_AND_ONE)
    assert count_labels(shards, "label", LabelMapping(("1",), ("0",))) == {1: 1, 0: 1, OTHER: 1}


def test_rows_of_a_directory_without_a_label_are_left_out_beside_labels_that_are_words(tmp_path: Path) -> None:
    for label in ("pos", "neg", "__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / f"label={label}").mkdir()
        pq.write_table(pa.table({"text": ["fine"]}), tmp_path / f"label={label}" / "a.parquet")
    says = r"null for unknown, are left out\): --positive-labels pos --negative-labels neg$"
    with pytest.raises(InputError, match=says):
        find_shards([str(tmp_path)], "text", "label")
    mapping = LabelMapping(("pos",), ("neg",))
    shards = find_shards([str(tmp_path)], "text", "label", mapping, group_column="label")
    assert count_labels(shards, "label", mapping) == {1: 1, 0: 1, OTHER: 1}
    assert [len(read_shard(shard, "text", "label", mapping, "label").texts) for shard in shards] == [0, 1, 1]


def write_classes(path: Path, labels: list[int], names: Any, kind: str = "ClassLabel") -> str:
    """Writes labels whose classes have names, as Hugging Face's `datasets` does, or any other metadata."""
    features = {"label": {"names": names, "_type": kind}, "text": {"dtype": "string", "_type": "Value"}}
    content = names if isinstance(names, bytes) else json.dumps({"info": {"features": features}})
    table = pa.table({"text": ["good"] * len(labels), "label": labels})
    pq.write_table(table.replace_schema_metadata({"huggingface": content}), path)
    return str(path)


@pytest.mark.parametrize(
    ("labels", "names", "options"),
    [
        ([0, 1, 2], ["negative", "neutral", "positive"], "--positive-labels 2 --negative-labels 0"),
        ([2, 1], ["neg", "other", "pos"], "--positive-labels 2 --negative-labels 0"),
        ([0, 1], ["pos", "neg"], "--positive-labels 0 --negative-labels 1"),
        ([1], ["Positive", "Negative"], "--positive-labels 0 --negative-labels 1"),
        ([0, 4], ["very positive", "positive", "so", "bad", "very bad"], "--positive-labels 0,1 --negative-labels 3,4"),
        ([-1, 0, 1], ["neg", "pos"], "--positive-labels 1 --negative-labels 0"),
        ([0, 1, 2], ["world", "sport", "positive"], "--positive-labels LABELS --negative-labels LABELS"),
        ([0, 3, 7], ["negative", "neutral", "positive"], "--positive-labels LABELS --negative-labels LABELS"),
    ],
)
def test_names_of_classes_say_which_labels_are_positive(
    tmp_path: Path, labels: list[int], names: list[str], options: str
) -> None:
    path = write_classes(tmp_path / "a.parquet", labels, names)
    asks = "say which of these are positive" if "LABELS" in options else "name the labels of each class"
    with pytest.raises(InputError, match=rf"a\.parquet: column 'label'.*: {asks}.*: {options}$"):
        read(shards_of(path)[0])
    if "LABELS" not in options:
        _, positive, _, negative = options.split()
        assert find_shards([path], "text", "label", LabelMapping(split_list(positive), split_list(negative)))
        assert next_command(Path(path), "run")[-4:] == options.split()


@pytest.mark.parametrize(
    "names",
    [
        ["neg", "pos"],
        ["world", "sport"],
        ["pos", "other"],
        [0, None],
        {"pos": 0, "neg": 1},
        "pos",
        None,
        b"no JSON",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"info": {"features": [{"label": 1}]}}',
        b'{"info": {"features": {"label": ["ClassLabel"]}}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel"}}}}',
    ],
    ids=lambda names: repr(names)[:60],
)
def test_other_names_and_other_metadata_change_nothing(tmp_path: Path, names: Any) -> None:
    (shard,) = shards_of(write_classes(tmp_path / "a.parquet", [0, 1], names))
    assert read(shard)[1] == [0, 1]
    shards_of(write_classes(tmp_path / "a.parquet", [0, 1], ["pos", "neg"], kind="Value"))


def test_labels_are_counted_without_a_text_and_wrong_ones_are_named(tmp_path: Path) -> None:
    shards = shards_of(write(tmp_path / "a.parquet", list("abc"), [0, 1, 2]))
    assert count_labels(shards, "label", LabelMapping(("2",), ("0",))) == {1: 1, 0: 1, OTHER: 1}
    with pytest.raises(InputError, match="row 2: label 2 is neither"):
        count_labels(shards, "label", ZERO_AND_ONE)


def test_a_file_without_rows_may_have_labels_of_any_type(tmp_path: Path) -> None:
    """Writers guess the type of a column without values: `data convert` makes it string."""
    write(tmp_path / "a.parquet", ["fine"], [1])
    pq.write_table(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), tmp_path / "b")
    (tmp_path / "b").rename(tmp_path / "b.parquet")
    shards = find_shards([str(tmp_path)], "text", "label")
    assert [read(shard)[0] for shard in shards] == [["fine"], []]


def test_one_column_cannot_have_both_texts_and_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["good", "bad"], ["good", "bad"])
    with pytest.raises(InputError, match=r"^--text-column and --label-column are both 'label': texts are no labels$"):
        find_shards([path], "label", "label", LabelMapping(("good",), ("bad",)))


def test_a_mapping_of_texts_onto_a_column_of_numbers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["a"], [5])
    says = r"a\.parquet: column 'label' is int64, but 'good' of --positive-labels is not a number"
    with pytest.raises(InputError, match=says):
        find_shards([path], "text", "label", LabelMapping(("5", "good"), ("1",)))


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"review number {number}" for number in range(1_000)]
    pq.write_table(pa.table({"text": texts, "label": [0, 1] * 500}), path, row_group_size=500, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = (column.dictionary_page_offset or column.data_page_offset) + 30  # about a page header
    stop = start + column.total_compressed_size - 30
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\xff" * (stop - start) + content[stop:])
    good, bad = shards_of(str(path))
    assert len(read(good)[0]) == 500
    with pytest.raises(InputError, match=r"a\.parquet: row group 1 cannot be read"):
        read(bad)


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
@pytest.mark.parametrize("column", ["text", "label"])
def test_rows_that_would_fill_the_memory_are_refused_with_what_helps(
    column: str, kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that Parquet stores once makes much of a file of some hundred bytes."""
    monkeypatch.setattr(labelled, "memory_bytes", lambda: 1 << 26)
    names = {"text": "label", "label": "text"} if column == "label" else {}
    columns = {"text": ["word " * 2_000] * 4_000, "label": ["1", "0"] * 2_000}
    table = pa.table({names.get(name, name): pa.array(values).cast(kind) for name, values in columns.items()})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    mapping = LabelMapping(("1",), ("0",))
    says = r"first [12],\d+ rows of row group 0 take more than 16 MiB of memory: write smaller row groups \(in pyarrow"
    with pytest.raises(InputError, match=says):
        count_labels(find_shards([str(tmp_path)], "text", "label", mapping), column, mapping)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1_000)
    shards = find_shards([str(tmp_path)], "text", "label", mapping)
    assert sum(count_labels(shards, column, mapping).values()) == 4_000


def test_a_whole_row_group_takes_no_memory_for_its_rows(tmp_path: Path) -> None:
    """The driver holds all shards of a run, and sends each to a worker."""
    few, many = (
        shards_of(write(tmp_path / f"{rows}.parquet", ["x"] * rows, [0] * rows, rows)) for rows in (10, 10_000)
    )
    assert len(many[0].rows) == 10_000
    assert len(pickle.dumps(many)) < len(pickle.dumps(few)) + 100


def fake_shards(sizes: list[int]) -> list[Shard]:
    """Returns shards of the given sizes, without files."""
    file = InputFile("a.parquet", 1, "")
    return [Shard(file, number, sum(sizes[:number]), range(size)) for number, size in enumerate(sizes)]


def chosen(shards: list[Shard]) -> list[int]:
    """Returns the rows of shards, numbered across all of them."""
    return [shard.first_row + int(row) for shard in shards for row in shard.rows]


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_a_sample_has_as_many_rows_as_asked_for_in_order_and_repeats(sizes: list[int], rows: int, seed: int) -> None:
    sampled = chosen(sample_rows(fake_shards(sizes), rows, seed))
    assert len(sampled) == min(rows, sum(sizes))
    assert sampled == sorted(set(sampled))
    assert sampled == chosen(sample_rows(fake_shards(sizes), rows, seed))
    assert sampled == chosen(sample_rows(fake_shards([1] * sum(sizes)), rows, seed)), "whatever the row groups"


def test_a_sample_is_drawn_from_all_shards_alike() -> None:
    counts = np.zeros(1_000)
    for seed in range(300):
        counts[chosen(sample_rows(fake_shards([100, 900]), 100, seed))] += 1
    assert abs(counts[:100].mean() - 30) < 3
    assert abs(counts[100:].mean() - 30) < 1


def test_a_label_in_the_file_and_in_its_directorys_name_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "label=0").mkdir()
    write(tmp_path / "label=0" / "a.parquet", list("ab"), [1, 0])
    notes: list[Event] = []
    find_shards([str(tmp_path)], "text", "label", progress=notes.append)
    assert notes == ["note: label: in files and in their directories' names: the files' own values are kept"]


@pytest.mark.parametrize(
    ("labels", "others", "remedy"),
    [
        (["5", "5,0", "1"], ["5", "5,0", "1"], """--positive-labels '5,"5,0"' --negative-labels 1?"""),
        ([5, 4, 1], ["5", "5,0", "1"], """--positive-labels '5,"5,0"' --negative-labels 1?"""),
        ([None] * 3, ["5", "5,0", "1"], """--positive-labels '5,"5,0"' --negative-labels 1?"""),
        ([5, 4, 1], [5, 4, 1], None),
    ],
)
def test_labels_that_are_left_out_are_read_again_if_they_are_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: list[Any], others: list[Any], remedy: str | None
) -> None:
    mapping = LabelMapping(("5",), ("1",))
    write(tmp_path / "a.parquet", list("abc"), labels)
    write(tmp_path / "b.parquet", list("abc"), others)
    shards = find_shards([str(tmp_path)], "text", "label", mapping)
    read: list[str] = []
    monkeypatch.setattr(labelled, "read_batches", lambda *given: read.append(given[0]) or read_batches(*given))
    doubt = doubt_left_out(2, shards, "label", mapping)
    assert doubt is None if remedy is None else str(doubt).endswith(remedy)
    assert len(read) == (0 if remedy is None else 2)
    assert doubt_left_out(0, shards, "label", mapping) is None
