"""Writes the files of a dataset: all or none, and replaces existing files only on request."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray.errors import OutputError
from lstm_ray.wording import reason


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
    temporary = {path: path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp") for path in tables}
    try:
        for path, table in tables.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, temporary[path], compression="zstd", row_group_size=10_000)
        for path in tables:
            temporary[path].replace(path)
    except OSError as error:
        raise OutputError(f"{next(iter(tables)).parent} cannot be written: {reason(error)}") from error
    finally:
        for path in temporary.values():
            if os.path.isdir(path.parent):
                path.unlink(missing_ok=True)
