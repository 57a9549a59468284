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
HEAD_BYTES = 512
"""How many bytes tell what a file is: of a tar archive the first block."""

_CONVERTIBLE = re.compile(r"\.(csv|tsv|jsonl|ndjson|json)(\.(gz|bz2|zst))?$", re.IGNORECASE)
"""What `lstm-ray data convert` reads."""
_WEB_PAGE = "a web page: fetch the file again, from the address of its raw content"
_ZIP = "a zip archive or a spreadsheet: unpack it, or save the sheet as CSV"
_ORC = "an ORC file: pandas.read_orc(FILE).to_parquet(OTHER) makes Parquet of it"
_PICKLE = (
    "a pickle, which may run code: if you trust it, pandas.read_pickle(FILE).to_parquet(OTHER) makes Parquet of it"
)
_STORE_ERROR = "an error message of an object store: fetch the file again"
_XML = "XML: pandas.read_xml(FILE).to_parquet(OTHER) makes Parquet of it"
_COMPRESSED = (
    "compressed by {0}: unpack it, or if it is CSV, TSV or JSON let its name end in {1}, such as reviews.csv{1}"
)
_GZIP, _BZIP2, _ZSTD = (_COMPRESSED.format(*names) for names in (("gzip", ".gz"), ("bzip2", ".bz2"), ("zstd", ".zst")))
_BY_SUFFIX = {".gz": _GZIP, ".bz2": _BZIP2, ".zst": _ZSTD}
_FORMATS = {
    b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` fetches the file itself",
    b"/annex/objects/": "a pointer of git-annex: `git annex get` fetches the file itself",
    b"<!doctype html": _WEB_PAGE,
    b"<!DOCTYPE html": _WEB_PAGE,
    b"<!DOCTYPE HTML": _WEB_PAGE,
    b"<html": _WEB_PAGE,
    b"<HTML": _WEB_PAGE,
    b"ARROW1\0\0": "an Arrow (Feather) file: pandas.read_feather(FILE).to_parquet(OTHER) makes Parquet of it",
    b"\xff\xff\xff\xff": "an Arrow stream: datasets.load_from_disk(DIRECTORY).to_parquet(OTHER) makes Parquet of it",
    b"ORC": _ORC,
    b"PK\x03\x04": _ZIP,
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": _ZIP,  # what Excel wrote until 2003
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!\x1a\x07": "a rar archive: unpack it",
    b"\xfd7zXZ\0": "compressed by xz: unpack it",
    b"\x04\x22\x4d\x18": "compressed by lz4: unpack it",
    b"\x1f\x9d": "compressed by compress: unpack it",
    b"\x1f\x8b": _GZIP,
    **{b"BZh%d1AY&SY" % level: _BZIP2 for level in range(1, 10)},
    b"(\xb5/\xfd": _ZSTD,
    b"SQLite format 3\0": "an SQLite database: pandas.read_sql(QUERY, CONNECTION).to_parquet(OTHER) makes Parquet",
    b"Obj\x01": "an Avro file: write its rows as Parquet or JSON lines with the tool that wrote it",
    b"\x89HDF\r\n": "an HDF5 file: pandas.read_hdf(FILE).to_parquet(OTHER) makes Parquet of it",
    b"%PDF-": "a PDF: write its texts into CSV",
    **{b"\x80%c" % protocol: _PICKLE for protocol in range(2, 6)},
    b"<?xml ": _XML,
    b"\xef\xbb\xbf<?xml ": _XML,
}
"""What a file is, and what helps, by the bytes with which it begins."""
_FEWEST_NUL = 3  # of UTF-16: text that is damaged has one or two
_TEXT_BYTES = 64  # of more, some text or other has a character that is not printable, such as a no-break space
_TAR = (b"ustar\x0000", b"ustar  \0")  # of POSIX and of GNU; in Spanish "ustar" ends many a word
_LINE_CHARACTERS = str.maketrans("", "", "\r\n\t\ufeff")


def stand_in(begin: bytes) -> str | None:
    """Returns what a file is, with what helps, if it is of a format that is neither read nor converted; else None.

    Args:
        begin: The file's first bytes.
    """
    found = next((what for magic, what in _FORMATS.items() if begin.startswith(magic)), None)
    if begin[257:265] in _TAR:
        return "a tar archive: unpack it"
    if found is _XML and b"<Error>" in begin:
        return _STORE_ERROR
    return None if found is _ORC and is_text(begin) else found  # CSV may begin with a column named ORCID


def is_compressed_as_named(suffix: str, begin: bytes) -> bool:
    """Returns whether a file is compressed as its suffix says: .gz, .bz2 or .zst."""
    return stand_in(begin) == _BY_SUFFIX[suffix]


def is_text(begin: bytes) -> bool:
    """Returns whether a file's first bytes are text: UTF-8, or another encoding with few characters besides ASCII."""
    begin = begin[:_TEXT_BYTES]
    text = begin.decode(errors="ignore")
    return 2 * len(text.encode()) > len(begin) and text.translate(_LINE_CHARACTERS).isprintable()


def without_mark(begin: bytes) -> str | None:
    """Returns the encoding of a text that begins with these bytes if it is UTF-16 without a byte order mark.

    Only characters below U+0100, such as spaces and commas, have a NUL byte there. Cyrillic letters have none, and are
    UTF-8 as well, but control characters.
    """
    high, low = begin[::2].count(0), begin[1::2].count(0)
    rest = begin.replace(b"\0", b"")
    is_utf8 = len(rest.decode(errors="ignore").encode()) > len(rest) - 4  # the last character may be cut
    is_damaged = 4 * (high + low) < len(begin) and is_utf8 and is_text(rest)
    if is_damaged or max(high, low) < _FEWEST_NUL or 2 * min(high, low) >= max(high, low):
        return None
    return "utf-16-le" if low > high else "utf-16-be"


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
        return f"not a Parquet file: {fetched}{_conversion([source], name[: found.start()])} it"
    if (what := stand_in(begin)) is not None:
        return f"not a Parquet file: it is {what}"
    if begin.startswith(PARQUET) and ("magic bytes not found" in str(error) or "file size is" in str(error)):
        why = "it begins as one, but has no end: it was cut off, or is still being written"
    elif is_text(begin):
        why = "it looks like text: let its name end in .csv, .tsv or .jsonl, for lstm-ray data convert"
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
    endings = sorted({found[0] if (found := _CONVERTIBLE.search(name)) else "" for name in names})
    if len({ending.lower() for ending in endings}) != 1 or "" in endings:
        return None
    if "://" in directory:
        return "fetch them, and convert them with lstm-ray data convert"
    below = "**" if any("/" in name for name in names) else ""
    patterns = [os.path.join(glob.escape(directory), below, f"*{ending}") for ending in endings]
    # Into the directory: the same command then finds it there.
    output = os.path.join(directory, os.path.basename(os.path.abspath(directory)) or "all")
    return f"{_conversion(patterns, output)} them"


def _conversion(sources: Sequence[str], stem: str) -> str:
    command = shlex.join(("lstm-ray", "data", "convert", *sources, "--output", f"{stem}.parquet"))
    return f"`{command}` makes Parquet of"
