"""The plan of a scoring run: every row in one part, parts in input order, bad files found beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.config import ScoreConfig
from lstm_ray.errors import InputError
from lstm_ray.progress import Count, Event
from lstm_ray.score import plan as plans
from lstm_ray.score.plan import Chunk, Plan, cut, make_plan
from lstm_ray.score.reading import read_task
from lstm_ray.storage.inputs import InputFile


def write(path: Path, columns: dict[str, Any], rows_per_group: int = 1_000_000) -> str:
    """Writes a Parquet file and returns its path."""
    pq.write_table(pa.table(columns), path, row_group_size=rows_per_group)
    return str(path)


def plan(*inputs: str, model: str = "hash", **settings: Any) -> Plan:
    """Returns the plan for inputs and settings."""
    return make_plan(ScoreConfig.model_validate({"inputs": inputs, **settings}), model)


row_groups = st.lists(st.integers(0, 300), max_size=30)


@given(row_groups, st.integers(1, 120))
def test_chunks_hold_every_row_once_and_in_order(group_rows: list[int], rows_per_part: int) -> None:
    starts = [sum(group_rows[:group]) for group in range(len(group_rows) + 1)]
    position = 0
    for chunk in cut(group_rows, rows_per_part, file=3):
        assert chunk.file == 3
        assert chunk.rows > 0
        assert chunk.row_offset == position
        first, stop = chunk.row_groups
        assert starts[first] + chunk.skip == chunk.row_offset, "the skipped rows lead to the chunk's first"
        assert chunk.row_offset + chunk.rows <= starts[stop], "the chunk ends within its row groups"
        position += chunk.rows
    assert position == sum(group_rows)


@given(row_groups, st.integers(1, 120))
def test_chunks_have_between_one_and_two_times_the_rows_asked_for(group_rows: list[int], rows_per_part: int) -> None:
    chunks = list(cut(group_rows, rows_per_part, file=0))
    for chunk in chunks[:-1]:
        assert rows_per_part <= chunk.rows
    for chunk in chunks:
        assert chunk.rows < 2 * rows_per_part


def test_the_worked_example_of_the_module() -> None:
    assert list(cut([40, 40, 40], 50, 0)) == [Chunk(0, 0, 80, (0, 2), 0), Chunk(0, 80, 40, (2, 3), 0)]
    assert list(cut([120], 50, 1)) == [Chunk(1, 0, 60, (0, 1), 0), Chunk(1, 60, 60, (0, 1), 60)]


@given(st.lists(st.tuples(st.integers(0, 999_999), st.integers(0, 10**12 - 1)), max_size=20))
def test_part_names_sort_in_input_order(places: list[tuple[int, int]]) -> None:
    names = [Chunk(file, row, 1, (0, 1), 0).part_name for file, row in sorted(places)]
    assert names == sorted(names)


def test_chunks_of_one_row_group_are_one_task_so_that_it_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["good"] * 70}, rows_per_group=30)
    made = plan(path, rows_per_part=10)
    tasks = list(made.tasks(set()))
    assert [[chunk.row_offset for chunk in task.chunks] for task in tasks] == [[0, 10, 20], [30, 40, 50], [60]]
    missing = list(made.tasks({tasks[0].chunks[1].part_name, *(chunk.part_name for chunk in tasks[1].chunks)}))
    assert [[chunk.row_offset for chunk in task.chunks] for task in missing] == [[0, 20], [60]]


@pytest.mark.parametrize(("actors", "sizes"), [(1, [7]), (2, [4, 3]), (3, [3, 3, 1]), (7, [1] * 7), (100, [1] * 7)])
def test_a_large_row_group_can_be_shared_out(tmp_path: Path, actors: int, sizes: list[int]) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["good"] * 70})
    made = plan(path, rows_per_part=10)
    tasks = list(made.tasks(set(), actors))
    assert [len(task.chunks) for task in tasks] == sizes
    assert [chunk for task in tasks for chunk in task.chunks] == list(made.chunks())


def test_row_groups_are_split_once_there_is_little_left(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["good"] * 480}, rows_per_group=80)
    made = plan(path, rows_per_part=10)
    sizes = [len(task.chunks) for task in made.tasks(set(), 2)]
    assert sizes == [8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]  # 48 chunks are left for 2 actors, 40, ...
    sizes = [len(task.chunks) for task in made.tasks(set(), 4)]
    assert sizes == [4, 4, 3, 3, 2, *[2] * 16]
    names = [chunk.part_name for chunk in made.chunks()]
    tasks = made.tasks(set(names[:40]), 4)  # what is done does not count
    assert [[chunk.part_name for chunk in task.chunks] for task in tasks] == [
        names[at : at + 2] for at in (40, 42, 44, 46)
    ]


def many_files(tmp_path: Path, files: int, rows: int, **settings: Any) -> Plan:
    """Returns the plan of files of `rows` rows each."""
    for file in range(files):
        write(tmp_path / f"{file:04d}.parquet", {"text": ["good"] * rows})
    return plan(str(tmp_path), **settings)


def test_small_files_are_handed_out_together(tmp_path: Path) -> None:
    made = many_files(tmp_path, 450, 2)
    lists = list(made.task_lists(set()))
    assert [task for tasks in lists for task in tasks] == list(made.tasks(set()))
    sizes = [len(tasks) for tasks in lists]
    assert sizes[:3] == [100, 100, 83]  # 450, 350 and 250 are left: a third of it, but never more than 100
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1, "so that no actor is idle for long at the end"
    assert [len(tasks) for tasks in made.task_lists(set(), 10)][:2] == [15, 14]
    done = {chunk.part_name for chunk in list(made.chunks())[:444]}
    assert [len(tasks) for tasks in made.task_lists(done)] == [2, 1, 1, 1, 1], "what is done does not count"


def test_lists_have_no_more_rows_than_a_part_unless_a_task_alone_has(tmp_path: Path) -> None:
    made = many_files(tmp_path, 30, 4, rows_per_part=9)
    assert [len(tasks) for tasks in made.task_lists(set())][:3] == [2, 2, 2]
    made = many_files(tmp_path, 30, 40, rows_per_part=9)
    assert all(len(tasks) == 1 for tasks in made.task_lists(set()))


@pytest.mark.parametrize("max_rows", [1, 9, 10, 11, 35, 1000])
def test_max_rows_takes_the_first(tmp_path: Path, max_rows: int) -> None:
    paths = [write(tmp_path / f"{name}.parquet", {"text": ["good"] * 20}, rows_per_group=10) for name in "ab"]
    made = plan(*paths, rows_per_part=10, max_rows=max_rows)
    assert made.rows == min(max_rows, 40)
    whole = list(plan(*paths, rows_per_part=10).chunks())
    chunks = list(made.chunks())
    assert [chunk.part_name for chunk in chunks] == [chunk.part_name for chunk in whole[: made.parts]]
    assert sum(chunk.rows for chunk in chunks) == made.rows


def test_a_column_of_numbers_is_not_proposed_for_the_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", {"texts": [1], "review": ["good"]})
    with pytest.raises(InputError, match=r"no column 'text'; .*: did you mean --text-column review\?$"):
        plan(path)


def test_bad_files_are_set_aside_up_to_the_number_allowed(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", {"text": ["good"]})
    columns = write(tmp_path / "columns.parquet", {"review": ["good"]})
    kind = write(tmp_path / "kind.parquet", {"text": [1]})
    words = tmp_path / "words.parquet"
    words.write_text("good,bad", encoding="utf-8")
    inputs = (columns, good, kind, str(words))
    with pytest.raises(InputError, match=r"columns\.parquet: no column 'text'.* \(and 2 more bad files\); --max-bad"):
        plan(*inputs, max_bad_files=2)
    made = plan(*inputs, max_bad_files=3)
    assert [file.path for file in made.files] == [good]
    assert [Path(file.path).name for file in made.bad_files] == ["columns.parquet", "kind.parquet", "words.parquet"]
    assert next(made.chunks()).file == 0


def test_the_fingerprint_changes_with_what_decides_the_output_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["good"] * 9, "id": range(9)})
    same = {plan(path, actors=4, cpus_per_actor=2, max_bad_files=7, overwrite=True, output="there").layout.fingerprint}
    same.add(plan(path).layout.fingerprint)
    (tmp_path / "bad.parquet").write_bytes(b"no Parquet")
    same.add(plan(path, str(tmp_path / "bad.parquet"), max_bad_files=1).layout.fingerprint)
    assert len(same) == 1
    others = [
        plan(path, model="other"),
        plan(path, max_rows=3),
        plan(path, rows_per_part=3),
        plan(path, keep_columns="id"),
        plan(path, prefix="new_"),
        plan(path, engine="keras"),
        plan(path, explain=3),
        plan(path, write(tmp_path / "b.parquet", {"text": ["good"], "id": [0]})),
    ]
    write(tmp_path / "a.parquet", {"text": ["fine"] * 9, "id": range(9)})  # rewritten: another time of change
    others.append(plan(path))
    assert len(same | {other.layout.fingerprint for other in others}) == 1 + len(others)


def test_slices_hold_all_items_in_order() -> None:
    assert list(plans.slices("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(plans.slices("", 2)) == []


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_files_keep_their_order_however_many_footers_a_thread_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(plans, "_FOOTER_READERS", 2)
    monkeypatch.setattr(plans, "_FOOTERS_AT_ONCE", at_once)
    rows = range(1, 100)
    for number in rows:
        write(tmp_path / f"{number:03d}.parquet", {"text": ["good"] * number})
    (tmp_path / "050.parquet").write_bytes(b"no Parquet")
    counts: list[int] = []

    def count(event: Event) -> None:
        if isinstance(event, Count):
            counts.append(event.done)

    made = make_plan(ScoreConfig(inputs=(str(tmp_path),), max_bad_files=1), "hash", count)
    assert made.group_rows == [(number,) for number in rows if number != 50]
    assert [Path(file.path).name for file in made.bad_files] == ["050.parquet"]
    assert counts == list(rows)


def test_the_fingerprint_is_that_of_the_versions_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and order of settings must not change it; other scores change the version. Recorded with 0.3.0."""
    monkeypatch.chdir(tmp_path)
    write(Path("a.parquet"), {"body": ["a", "b", "c"], "id": [1, 2, 3]})
    file = InputFile("a.parquet", 123, "2026-01-02T03:04:05", {"year": "2026"})
    monkeypatch.setattr(plans, "find_inputs", lambda inputs, notify: [file])
    monkeypatch.setattr(plans, "SCORES_VERSION", "0.3.0")
    settings = {"text_column": "body", "keep_columns": "id", "prefix": "new_", "max_rows": 2, "rows_per_part": 1}
    made = plan("in", engine="native", actors=3, output="out", **settings)
    assert made.layout.fingerprint == "01fa8e0fc129301ec005257d63a8b544d1b5b4d288bbb11941dd25239d100c9f"


# Columns that are there twice


def twice(path: Path) -> str:
    """Writes a file with two columns `id`."""
    table = pa.Table.from_arrays([pa.array([1, 2]), pa.array(["good", "bad"]), pa.array([3, 4])], ["id", "text", "id"])
    pq.write_table(table, path)
    return str(path)


@pytest.mark.parametrize(("keep", "is_planned"), [("all", False), ("text,id", False), ("text", True), ("", True)])
def test_a_column_that_is_there_twice_is_refused_only_if_it_is_kept(
    tmp_path: Path, keep: str, is_planned: bool
) -> None:
    path = twice(tmp_path / "a.parquet")
    if is_planned:
        assert plan(path, keep_columns=keep).rows == 2
        return
    with pytest.raises(InputError, match="has two columns named 'id': name those to keep, without it, in --keep-col"):
        plan(path, keep_columns=keep)


def test_a_column_in_the_file_and_in_its_directory_is_the_files_and_told(tmp_path: Path) -> None:
    (tmp_path / "year=2024" / "lang=en").mkdir(parents=True)
    write(tmp_path / "year=2024" / "lang=en" / "a.parquet", {"text": ["good"], "year": [2023]})
    said: list[Event] = []
    made = make_plan(ScoreConfig.model_validate({"inputs": (str(tmp_path),)}), "hash", said.append)
    assert made.layout.schema.field("year").type == pa.int64()
    assert made.layout.kept == ["text", "year", "lang"]
    assert [event for event in said if isinstance(event, str)] == [
        "note: year: in files and in their directories' names: the files' own values are kept"
    ]
    (task,) = made.tasks(set())
    ((_, table),) = read_task(task, made.layout.kept)
    assert table.select(made.layout.kept).to_pylist() == [{"text": "good", "year": 2023, "lang": "en"}]
