"""Writes the files of a dataset: all or none, and replaces existing files only on request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.errors import OutputError


def refuse_existing(*paths: Path, overwrite: bool) -> None:
    """Raises OutputError if one of the files exists and must not be overwritten."""
    existing = [path for path in paths if os.path.lexists(path)]
    if existing and not overwrite:
        verb = "exists" if len(existing) == 1 else "exist"
        names = ", ".join(map(str, existing))
        raise OutputError(f"{names}: {verb} already: choose another --output, or pass --overwrite")


def write_tables(tables: Mapping[Path, pa.Table]) -> None:
    """Writes each table as Parquet. No file gets its final name before all tables are written.

    Raises:
        OutputError: A file cannot be written.
    """

    def write(*streams: Any) -> None:
        for table, stream in zip(tables.values(), streams, strict=True):
            pq.write_table(table, stream, compression="zstd", row_group_size=10_000)

    storage.write_files([*map(str, tables)], write)
