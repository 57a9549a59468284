"""Writes the files of a dataset: all of them or none, and none in the place of another by accident."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray.errors import OutputError


def refuse_existing(*paths: Path, overwrite: bool) -> None:
    """Raises OutputError when one of the files is already there and must not be overwritten."""
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        names = f"{', '.join(map(str, there))}: {'is' if len(there) == 1 else 'are'}"
        raise OutputError(f"{names} already there: choose another --output, or pass --overwrite")


def write_tables(tables: Mapping[Path, pa.Table]) -> None:
    """Writes each table as Parquet under its path; every name appears only after all of the tables are whole on disk.

    Raises:
        OutputError: A file cannot be written.
    """
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in tables}
    try:
        for path, table in tables.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, temporary[path], compression="zstd", row_group_size=10_000)
        for path in tables:
            temporary[path].replace(path)
    except OSError as error:
        raise OutputError(f"{next(iter(tables)).parent} cannot be written: {error}") from error
    finally:
        for path in temporary.values():
            if path.parent.is_dir():
                path.unlink(missing_ok=True)


# Reading the archive
