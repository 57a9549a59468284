"""What a file is that is not of the expected format, by the bytes with which it begins, and what helps."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Sequence

from lstm_ray.errors import OutputError
from lstm_ray.wording import reason

PARQUET = b"PAR1"
HEAD_BYTES = 64
"""How many bytes tell what a file is."""

_CONVERTIBLE = re.compile(r"\.(csv|tsv|jsonl|ndjson|json)(\.(gz|bz2|zst))?$", re.IGNORECASE)
"""What `lstm-ray data convert` reads."""
_WEB_PAGE = "a web page: fetch the file again, from the address of its raw content"
_ZIP = "a zip archive or a spreadsheet: unpack it, or save the sheet as CSV"
_ORC = "an ORC file: pandas.read_orc(FILE).to_parquet(OTHER) makes Parquet of it"
_COMPRESSED = (
    "compressed by {0}: unpack it, or if it is CSV, TSV or JSON let its name end in {1}, such as reviews.csv{1}"
)
_FORMATS = {
    b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` fetches the file itself",
    b"<!doctype html": _WEB_PAGE,
    b"<!DOCTYPE html": _WEB_PAGE,
    b"<!DOCTYPE HTML": _WEB_PAGE,
    b"<html": _WEB_PAGE,
    b"<HTML": _WEB_PAGE,
    b"ARROW1\0\0": "an Arrow (Feather) file: pandas.read_feather(FILE).to_parquet(OTHER) makes Parquet of it",
    b"ORC": _ORC,
    b"PK\x03\x04": _ZIP,
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": _ZIP,  # what Excel wrote until 2003
    b"\x1f\x8b": _COMPRESSED.format("gzip", ".gz"),
    b"BZh91AY&SY": _COMPRESSED.format("bzip2", ".bz2"),
    b"(\xb5/\xfd": _COMPRESSED.format("zstd", ".zst"),
}
"""What a file is, and what helps, by the bytes with which it begins."""
_LINE_CHARACTERS = str.maketrans("", "", "\r\n\t\ufeff")


def stand_in(begin: bytes) -> str | None:
    """Returns what a file is, with what helps, if it is of a format that is neither read nor converted; else None.

    Args:
        begin: The file's first bytes.
    """
    found = next((what for magic, what in _FORMATS.items() if begin.startswith(magic)), None)
    return None if found is _ORC and is_text(begin) else found  # CSV may begin with a column named ORCID


def is_text(begin: bytes) -> bool:
    """Returns whether a file's first bytes are text: UTF-8, or another encoding with few characters besides ASCII."""
    text = begin.decode(errors="ignore")
    return 2 * len(text.encode()) > len(begin) and text.translate(_LINE_CHARACTERS).isprintable()


def not_parquet(path: str, error: BaseException, begin: bytes = b"") -> str:
    """Returns why a file is not Parquet, and what helps: for CSV, TSV and JSON the command that converts it.

    Args:
        path: The file, a path or URI.
        error: What Arrow says.
        begin: The file's first bytes.
    """
    name = os.path.basename(path)
    found = _CONVERTIBLE.search(name)
    if found is not None:
        source = name if "://" in path else path
        fetched = f"fetch {name}, and " if "://" in path else ""
        return f"not a Parquet file: {fetched}{_conversion(source, name[: found.start()])} it"
    if (what := stand_in(begin)) is not None:
        return f"not a Parquet file: it is {what}"
    if is_text(begin):
        why = "it looks like text: let its name end in .csv, .tsv or .jsonl, for lstm-ray data convert"
    elif begin.startswith(PARQUET) and "magic bytes not found" in str(error):
        why = "it begins as one, but has no end: it was cut off, or is still being written"
    else:
        why = reason(error).rstrip(".")
    return f"not a Parquet file: {why}"


def check_parquet_name(path: str) -> None:
    """Raises OutputError if a file of Parquet would be named like CSV, TSV or JSON, which programs go by."""
    if (found := _CONVERTIBLE.search(path)) is not None:
        raise OutputError(f"{path}: would be Parquet, not {found[1].upper()}: name it {path[: found.start()]}.parquet")


def many_to_convert(directory: str, names: Sequence[str]) -> str | None:
    """Returns what makes Parquet of the CSV, TSV or JSON files in a directory; None unless all names have one ending.

    Args:
        directory: The directory, a path or URI.
        names: The files' paths in it.
    """
    endings = {found[0] if (found := _CONVERTIBLE.search(name)) else "" for name in names}
    if len(endings) != 1 or "" in endings:
        return None
    if "://" in directory:
        return "fetch them, and convert them with lstm-ray data convert"
    below = "**" if any("/" in name for name in names) else ""
    pattern = os.path.join(glob.escape(directory), below, f"*{endings.pop()}")
    # Into the directory: the same command then finds it there.
    output = os.path.join(directory, os.path.basename(os.path.abspath(directory)) or "all")
    return f"{_conversion(pattern, output)} them"


def _conversion(source: str, stem: str) -> str:
    command = shlex.join(("lstm-ray", "data", "convert", source, "--output", f"{stem}.parquet"))
    return f"`{command}` makes Parquet of"
