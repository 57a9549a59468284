"""Tables with a log of which files are live: Delta, Iceberg, Hudi.

The directory of such a table also contains files that were replaced or deleted, until they are vacuumed. Delta's log
is read with deltalake, Iceberg's with pyiceberg; both are optional extras. Tables that need more than their files
(because of deleted rows or renamed columns) are refused, and so is Hudi, for which there is no such library.
"""

from __future__ import annotations

import contextlib
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from lstm_ray.errors import InputError
from lstm_ray.storage.locations import join, locate, split_options, with_options
from lstm_ray.wording import reason

Partitions = dict[str, "str | None"]

_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}  # subdirectories of a table's directory
_ICEBERG_STATE = re.compile(r"(v\d+|\d+-[0-9a-f-]{36})(\.gz)?\.metadata\.json|v\d+\.metadata\.json\.gz")
_PLAIN_DELTA = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}  # they do not change how files are read

_COPY = "write its rows to plain Parquet files with the tool that wrote it, and give those"


class Table(NamedTuple):
    """A table.

    Attributes:
        kind: Delta, Iceberg or Hudi.
        path: The table's directory, within its filesystem.
    """

    kind: str
    path: str


def is_iceberg_state(path: str) -> bool:
    """Returns whether a file is the metadata of a state of an Iceberg table: TABLE/metadata/00003-....metadata.json."""
    directory, name = os.path.split(path)
    return os.path.basename(directory) == "metadata" and _ICEBERG_STATE.fullmatch(name) is not None


def tables_among(paths: Iterable[str]) -> list[Table]:
    """Returns the tables whose logs are among the given paths of files and directories."""
    found: dict[str, Table] = {}
    for path in paths:
        segments = path.split("/")
        for position, segment in enumerate(segments):
            if segment in _LOGS:
                directory = "/".join(segments[:position])
                found.setdefault(directory, Table(_LOGS[segment], directory))
        if is_iceberg_state(path):
            directory = "/".join(segments[:-2])
            found.setdefault(directory, Table("Iceberg", directory))
    return list(found.values())


def table_around(filesystem: fs.FileSystem, directory: str) -> Table | None:
    """Returns the table that a directory is, or is inside; None if there is none."""
    parents = [directory.rstrip("/")]
    while os.path.dirname(parents[-1]) not in ("", parents[-1]):
        parents.append(os.path.dirname(parents[-1]))
    there = []
    for parent in parents:
        # The user may have permission to read the files but not their parent directories.
        with contextlib.suppress(OSError):
            found = filesystem.get_file_info([f"{parent}/{name}" for name in (*_LOGS, "metadata")])
            there += [info.path for info in found if info.type == fs.FileType.Directory]
            if there and there[-1] == f"{parent}/metadata":
                there += [info.path for info in filesystem.get_file_info(fs.FileSelector(there[-1]))]
    return max(tables_among(there), key=lambda table: len(table.path), default=None)


def live_files(given: str, table: Table, state: str | None) -> list[tuple[str, Partitions]]:
    """Returns the paths of a table's live files, each with the values of columns that only the log contains.

    Args:
        given: The input that names the table.
        table: The table.
        state: For Iceberg, the metadata file of the state to read; None is the one that version-hint.text names.

    Raises:
        InputError: The library is missing, the log cannot be read, or the files alone do not determine the rows.
    """
    if table.kind == "Hudi":
        raise InputError(f"{given}: is a Hudi table, which lstm-ray does not read: {_COPY}")
    read = _delta_files if table.kind == "Delta" else _iceberg_files
    try:
        return list(read(given, state))
    except ModuleNotFoundError as error:
        name = table.kind.lower()
        raise InputError(
            f"{given}: is {_a(table.kind)} table, and reading its log needs {error.name}: pip install "
            f"'lstm-ray[{name}]'; or {_COPY}"
        ) from error


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def _unreadable(given: str, kind: str, what: str) -> InputError:
    return InputError(f"{given}: {_a(kind)} table {what}: {_COPY}")


def _delta_files(given: str, _: str | None) -> Iterator[tuple[str, Partitions]]:
    from deltalake import DeltaTable

    uri, options = split_options(given)
    try:
        table = DeltaTable(uri if "://" in uri else locate(uri)[1], storage_options=_object_store_options(options))
        protocol = table.protocol()
        actions = pa.table(table.get_add_actions())
        is_renamed = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
    except Exception as error:  # deltalake's errors have no common class, and OSError is among them
        raise _unreadable(given, "Delta", f"whose log cannot be read ({reason(error)})") from error
    features = set(protocol.reader_features or ()) - _PLAIN_DELTA - {"columnMapping"}
    if "deletionVectors" in features and not pa.table(table.deletion_vectors()).num_rows:
        features.remove("deletionVectors")
    if is_renamed or features:
        used = ", ".join(sorted({*features, *(["columnMapping"] if is_renamed else [])}))
        raise _unreadable(given, "Delta", f"with {used}, so that its files alone do not determine its rows")
    partitions = actions["partition"].combine_chunks() if "partition" in actions.column_names else None
    names = [] if partitions is None else [field.name for field in partitions.type]
    values = [partitions.field(name).cast(pa.string()).to_pylist() for name in names]  # type: ignore[union-attr]
    for row, path in enumerate(actions["path"].to_pylist()):
        inner = urllib.parse.unquote(path)
        whole = inner if "://" in inner or inner.startswith("/") else join(given, inner)
        yield whole, {name: column[row] for name, column in zip(names, values, strict=True)}


def _object_store_options(options: Mapping[str, str]) -> dict[str, str]:
    """Returns the options of an S3 URI under deltalake's names; it reads other options from the environment."""
    endpoint = options.get("endpoint_override") or ""
    if endpoint and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    named = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": options.get("region", "")}
    in_environment = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if (endpoint or in_environment).startswith("http://"):
        named["AWS_ALLOW_HTTP"] = "true"
    return {name: value for name, value in named.items() if value}


def _iceberg_files(given: str, state: str | None) -> Iterator[tuple[str, Partitions]]:
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.io.pyarrow import PyArrowFileIO
    from pyiceberg.serializers import FromInputFile
    from pyiceberg.table import StaticTable

    filesystem, path = locate(given)
    _, options = split_options(given)
    io = PyArrowFileIO()
    io.fs_by_scheme = lambda scheme, netloc: filesystem
    state = state or _hinted_state(given, filesystem, path)
    try:
        metadata = FromInputFile.table_metadata(io.new_input(state))
        # Not StaticTable.from_metadata, which imports the module named in the table's property py-io-impl.
        table = StaticTable(("table",), metadata, state, io, NoopCatalog("table"))
        tasks = list(table.scan().plan_files())
    except Exception as error:  # the metadata may contain anything
        raise _unreadable(given, "Iceberg", f"whose metadata cannot be read ({reason(error)})") from error
    columns = {(field.field_id, field.name) for schema in metadata.schemas for field in schema.fields}
    if len({number for number, _ in columns}) < len(columns) or len({name for _, name in columns}) < len(columns):
        raise _unreadable(given, "Iceberg", "with renamed columns, so that its files have different column names")
    if any(task.delete_files for task in tasks):
        raise _unreadable(given, "Iceberg", "with deleted rows that are still in its files")
    for task in tasks:
        if task.file.file_format != "PARQUET":
            raise _unreadable(given, "Iceberg", f"with files in {task.file.file_format}")
        yield _path_of(task.file.file_path, [f"{key}={value}" for key, value in options.items()]), {}


def _hinted_state(given: str, filesystem: fs.FileSystem, path: str) -> str:
    """Returns the path of the metadata file that a table's version-hint.text names.

    Without that file only the table's catalog knows the current state: the newest file may belong to a failed change.
    """
    directory = f"{path.rstrip('/')}/metadata"
    try:
        with filesystem.open_input_file(f"{directory}/version-hint.text") as stream:
            version = stream.read().decode().strip()
    except FileNotFoundError as error:
        infos = filesystem.get_file_info(fs.FileSelector(directory))
        states = sorted(info.path for info in infos if is_iceberg_state(info.path))
        raise InputError(
            f"{given}: is an Iceberg table, and only its catalog knows its current state: give that state's file, "
            f"perhaps {join(given, 'metadata/' + os.path.basename(states[-1]))}"
        ) from error
    return f"{directory}/{f'v{version}' if version.isdigit() else version.removesuffix('.metadata.json')}.metadata.json"


def _path_of(path: str, options: list[str]) -> str:
    """Returns a path in Iceberg's metadata as `locate` takes it: s3a://b/a as s3://b/a, file:/a as /a."""
    path = re.sub(r"^file:(//)?(?=/)", "", re.sub(r"^s3[an]://", "s3://", path))
    return with_options(path, options)
