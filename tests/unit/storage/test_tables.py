"""Tables stand for the live files in their logs; tables whose files alone do not determine the rows are refused."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from lstm_ray.errors import InputError
from lstm_ray.storage.inputs import find_inputs
from lstm_ray.storage.tables import is_iceberg_state, table_around

ROWS = pa.table({"text": ["a good film", "a bad film"], "label": [1, 0], "lang": ["en us", None]})

needs_delta = pytest.mark.skipif(importlib.util.find_spec("deltalake") is None, reason="needs lstm-ray[delta]")
needs_iceberg = pytest.mark.skipif(
    None in (importlib.util.find_spec("pyiceberg"), importlib.util.find_spec("sqlalchemy")),
    reason="needs lstm-ray[iceberg], and pyiceberg[sql-sqlite] to write a table",
)


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """Gives a directory that looks like a Delta table without a readable log."""
    path = tmp_path / "delta"
    (path / "_delta_log").mkdir(parents=True)
    (path / "day=1").mkdir()
    (path / "_delta_log" / f"{0:020d}.json").write_text(json.dumps({"add": {"path": "a.parquet"}}))
    for name in ("a.parquet", "day=1/b.parquet"):
        pq.write_table(ROWS, path / name)
    return path


def hidden_from_imports(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Makes the import of a package fail, as if it were not installed."""
    monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("given", ["delta", "delta/", "del*"])
def test_without_the_library_a_delta_table_is_refused_with_the_remedy(
    delta: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden_from_imports(monkeypatch, "deltalake")
    with pytest.raises(InputError, match=r"is a Delta table, .* needs deltalake: pip install 'lstm-ray\[delta\]'; or"):
        find_inputs([f"{delta.parent}/{given}"])


@pytest.mark.parametrize(
    "given",
    ["delta/a.parquet", "delta/*.parquet", "delta/*", "delta/day=1", "delta/day=1/b.parquet", "", "**/*.parquet"],
)
def test_a_part_of_a_table_and_what_holds_one_are_refused(delta: Path, given: str) -> None:
    with pytest.raises(InputError, match=rf"has files of the Delta table {delta}, .*: give {delta} itself"):
        find_inputs([f"{delta.parent}/{given}"])


@pytest.mark.parametrize("target", ["delta/a.parquet", "delta/day=1"])
def test_a_link_into_a_table_is_refused(delta: Path, target: str) -> None:
    (delta.parent / "link").symlink_to(delta.parent / target)
    with pytest.raises(InputError, match=rf"link: has files of the Delta table {delta}, "):
        find_inputs([f"{delta.parent}/link"])


def test_an_input_beside_a_table_is_none_of_its(delta: Path) -> None:
    pq.write_table(ROWS, delta.parent / "a.parquet")
    assert [file.path for file in find_inputs([f"{delta.parent}/*.parquet"])] == [f"{delta.parent}/a.parquet"]


def test_a_log_that_cannot_be_read_is_refused(delta: Path) -> None:
    pytest.importorskip("deltalake", reason="needs lstm-ray[delta]")
    with pytest.raises(InputError, match=r"a Delta table whose log cannot be read \(.*write its rows to plain Parquet"):
        find_inputs([str(delta)])


def test_a_hudi_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table" / ".hoodie").mkdir(parents=True)
    pq.write_table(ROWS, tmp_path / "table" / "a.parquet")
    with pytest.raises(InputError, match="is a Hudi table, which lstm-ray does not read: write its rows to plain"):
        find_inputs([str(tmp_path / "table")])


@needs_delta
def test_of_a_delta_table_the_live_files_are_read_with_the_columns_of_its_log(tmp_path: Path) -> None:
    import deltalake

    path = tmp_path / "table"
    deltalake.write_deltalake(path, ROWS, partition_by=["lang"])
    deltalake.write_deltalake(path, ROWS, mode="append")
    deltalake.DeltaTable(path).delete("lang is null")
    files = find_inputs([str(path)])
    assert len(list(path.rglob("*.parquet"))) == 4
    assert [file.partitions for file in files] == [{"lang": "en us"}] * 2
    assert [pq.read_table(file.open())["text"].to_pylist() for file in files] == [["a good film"]] * 2
    assert [file.path for file in find_inputs([f"{tmp_path}/*"])] == [file.path for file in files]


@needs_delta
def test_a_live_file_that_is_missing_is_named(tmp_path: Path) -> None:
    import deltalake

    deltalake.write_deltalake(tmp_path / "table", ROWS)
    (file,) = find_inputs([str(tmp_path / "table")])
    Path(file.path).unlink()
    with pytest.raises(InputError, match=r"\.parquet: missing, but the log of the Delta table .* says that it is live"):
        find_inputs([str(tmp_path / "table")])


@needs_delta
def test_a_delta_table_whose_columns_have_other_names_in_its_files_is_refused(tmp_path: Path) -> None:
    import deltalake

    path = tmp_path / "table"
    deltalake.write_deltalake(path, ROWS)
    log = next((path / "_delta_log").glob("*.json"))
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            action["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
            schema = json.loads(action["metaData"]["schemaString"])
            for number, field in enumerate(schema["fields"], 1):
                field["metadata"] = {
                    "delta.columnMapping.id": number,
                    "delta.columnMapping.physicalName": f"col-{number}",
                }
            action["metaData"]["schemaString"] = json.dumps(schema)
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
    log.write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(InputError, match="a Delta table with columnMapping, so that its files"):
        find_inputs([str(path)])


@pytest.mark.parametrize(
    ("name", "is_state"),
    [
        ("00003-f325e2f1-33f7-4acd-aa32-8aa363ab0bb6.metadata.json", True),
        ("v12.metadata.json", True),
        ("v12.gz.metadata.json", True),
        ("v12.metadata.json.gz", True),
        ("dataset.metadata.json", False),
        ("v12.json", False),
    ],
)
def test_states_of_iceberg_tables_are_known_by_name(name: str, is_state: bool) -> None:
    assert is_iceberg_state(f"/a/metadata/{name}") == is_state
    assert not is_iceberg_state(f"/a/{name}")


@pytest.fixture
def iceberg(tmp_path: Path) -> Any:
    """Gives an Iceberg table, one of whose two rows was deleted by writing its file again."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("test", uri="sqlite:///:memory:", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("reviews")
    table = catalog.create_table("reviews.films", schema=ROWS.schema)
    table.append(ROWS)
    table.delete("label = 0")
    return table


@needs_iceberg
def test_of_an_iceberg_table_the_state_that_is_named_is_read(iceberg: Any) -> None:
    state = iceberg.metadata_location.removeprefix("file://")
    table = Path(state).parents[1]
    assert len(list(table.rglob("*.parquet"))) == 2
    with pytest.raises(InputError, match=f"only its catalog knows its current state: .*, perhaps {state}"):
        find_inputs([str(table)])
    (file,) = find_inputs([state])
    assert pq.read_table(file.open())["text"].to_pylist() == ["a good film"]
    (Path(state).parent / "version-hint.text").write_text(Path(state).name)
    assert find_inputs([str(table)]) == [file]


@needs_iceberg
def test_an_iceberg_table_with_renamed_columns_is_refused(iceberg: Any) -> None:
    with iceberg.update_schema() as update:
        update.rename_column("text", "review")
    with pytest.raises(InputError, match="an Iceberg table with renamed columns"):
        find_inputs([iceberg.metadata_location.removeprefix("file://")])


@needs_iceberg
def test_an_iceberg_table_imports_no_module_that_it_names(iceberg: Any) -> None:
    state = Path(iceberg.metadata_location.removeprefix("file://"))
    metadata = json.loads(state.read_text())
    metadata["properties"]["py-io-impl"] = "antigravity.FileIO"
    state.write_text(json.dumps(metadata))
    assert len(find_inputs([str(state)])) == 1
    assert "antigravity" not in sys.modules


def test_a_store_that_lets_nobody_look_around_shows_no_table() -> None:
    class Guarded:
        """A filesystem that gives access to one directory only."""

        def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
            """Returns nothing, or raises."""
            if any(not path.startswith("bucket/team/a/") for path in paths):
                raise OSError("ACCESS_DENIED")
            return [fs.FileInfo(path, fs.FileType.NotFound) for path in paths]

    assert table_around(Guarded(), "bucket/team/a") is None  # type: ignore[arg-type]
