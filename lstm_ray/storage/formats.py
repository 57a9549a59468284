"""Recognises the format of a file by its first bytes, and proposes a remedy if it is not the expected format."""

from __future__ import annotations

import codecs
import glob
import os
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from lstm_ray.errors import InputError, OutputError
from lstm_ray.wording import command_line, quoted, reason

PARQUET = b"PAR1"
HEAD_BYTES = 512
"""How many bytes tell what a file is: of a tar archive the first block."""


class Compression(NamedTuple):
    """A compression that `data convert` reads: Arrow's codec, the command that unpacks, how it begins."""

    codec: str
    command: str
    begin: bytes


COMPRESSIONS = {
    ".gz": Compression("gzip", "gzip -dc", rb"\x1f\x8b"),
    ".bz2": Compression("bz2", "bzip2 -dc", rb"BZh[1-9]1AY&SY"),
    ".zst": Compression("zstd", "zstd -dc -M2048MB", rb"\(\xb5/\xfd"),  # by default a window has at most 128 MB
}
_COMPRESSED = "|".join(map(re.escape, COMPRESSIONS))
_CONVERTIBLE = re.compile(rf"\.(csv|tsv|jsonl|ndjson|json)({_COMPRESSED})?$", re.IGNORECASE)
"""What `lstm-ray data convert` reads."""
_BY_PANDAS = "pandas.{0}.to_parquet(OTHER) makes Parquet of it"
_XML = rb"(\xef\xbb\xbf)?<\?xml "
_FORMATS = {
    rb".{257}ustar(\x0000|  \0)": "a tar archive: unpack it",  # in Spanish "ustar" ends many a word
    rb"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` fetches the file itself",
    rb"/annex/objects/": "a pointer of git-annex: `git annex get` fetches the file itself",
    rb"(?i:<!doctype html|<html)": "a web page: fetch the file again, from the address of its raw content",
    _XML + rb".*<Error>": "an error message of an object store: fetch the file again",
    _XML: "XML: " + _BY_PANDAS.format("read_xml(FILE)"),
    rb"ARROW1\0\0": "an Arrow (Feather) file: " + _BY_PANDAS.format("read_feather(FILE)"),
    rb"\xff\xff\xff\xff": "an Arrow stream: datasets.load_from_disk(DIRECTORY).to_parquet(OTHER) makes Parquet of it",
    rb"ORC.{0,60}\0": "an ORC file: " + _BY_PANDAS.format("read_orc(FILE)"),  # CSV may begin with a column named ORCID
    rb"PK\x03\x04|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": (  # the second is what Excel wrote until 2003
        "a zip archive or a spreadsheet: unpack it, or save the sheet as CSV"
    ),
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    rb"Rar!\x1a\x07": "a rar archive: unpack it",
    rb"\xfd7zXZ\0": "compressed by xz: unpack it",
    rb"\x04\x22\x4d\x18": "compressed by lz4: unpack it",
    rb"\x1f\x9d": "compressed by compress: unpack it",
    **{
        one.begin: f"compressed by {one.command.split()[0]}: unpack it, or if it is CSV, TSV or JSON let its name end "
        f"in {suffix}, such as reviews.csv{suffix}"
        for suffix, one in COMPRESSIONS.items()
    },
    rb"SQLite format 3\0": "an SQLite database: " + _BY_PANDAS.format("read_sql(QUERY, CONNECTION)"),
    rb"Obj\x01": "an Avro file: write its rows as Parquet or JSON lines with the tool that wrote it",
    rb"\x89HDF\r\n": "an HDF5 file: " + _BY_PANDAS.format("read_hdf(FILE)"),
    rb"%PDF-": "a PDF: write its texts into CSV",
    rb"\x80[\x02-\x05]": "a pickle, which may run code: if you trust it, " + _BY_PANDAS.format("read_pickle(FILE)"),
}
"""A format and its remedy for each pattern of first bytes; the first pattern that matches is used."""
LANCE = ".lance"  # files of this name have no magic bytes in front
OF_LANCE = "are of a Lance table: pyarrow.parquet.write_table(lance.dataset(DIRECTORY).to_table(), OTHER) makes Parquet"
_FEWEST_NUL = 3  # of UTF-16: text that is damaged has one or two
_TEXT_BYTES = 64  # of more, some text or other has a character that is not printable, such as a no-break space
_LINE_CHARACTERS = str.maketrans("", "", "\r\n\t\ufeff")


def unsupported_format(begin: bytes) -> str | None:
    """Returns what a file is, with what helps, if it is of a format that is neither read nor converted; else None.

    Args:
        begin: The file's first bytes.
    """
    return next((what for pattern, what in _FORMATS.items() if re.match(pattern, begin, re.DOTALL)), None)


def is_text(begin: bytes) -> bool:
    """Returns whether a file's first bytes are text: UTF-8, or another encoding with few characters besides ASCII."""
    begin = begin[:_TEXT_BYTES]
    text = begin.decode(errors="ignore")
    return 2 * len(text.encode()) > len(begin) and text.translate(_LINE_CHARACTERS).isprintable()


def utf16_without_mark(begin: bytes) -> str | None:
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


def lines_of(content: bytes, source: str) -> list[bytes]:
    """Returns the lines of a file, without line endings of any kind and byte order mark.

    Args:
        content: The whole content.
        source: What it is called in messages.

    Raises:
        InputError: There is none, or the file is UTF-16, or no text.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{source} is UTF-16: write it as UTF-8")
    begin = content[:HEAD_BYTES]
    if not is_text(begin) and (what := unsupported_format(begin)) is not None:
        raise InputError(f"{source} is {what}")
    if (encoding := utf16_without_mark(begin)) is not None:
        raise InputError(f"{source} looks like UTF-16: `iconv -f {encoding} -t utf-8` makes UTF-8 of it")
    line_end = rb"\r?\n" if b"\n" in content else rb"\r"  # a return within a line of a file with \n separates nothing
    lines = re.split(line_end, content.removeprefix(codecs.BOM_UTF8))
    if not lines[-1]:  # after the last line's end
        lines.pop()
    if not lines:
        raise InputError(f"{source} is empty: one text a line is expected")
    return lines


def not_parquet(path: str, error: BaseException, begin: bytes = b"") -> str:
    """Returns why a file is not Parquet, and what helps: for CSV, TSV and JSON the command that converts it.

    Args:
        path: The file, a path or URI.
        error: What Arrow says.
        begin: The file's first bytes.
    """
    if (remedy := conversion(path)) is not None:
        return f"not a Parquet file: {remedy}"
    if path.endswith(LANCE):
        return f"not a Parquet file: files in {LANCE} {OF_LANCE}"
    if (what := unsupported_format(begin)) is not None:
        return f"not a Parquet file: it is {what}"
    if "file size is 0 bytes" in str(error):
        why = "it is empty: was it written completely?"
    elif begin.startswith(PARQUET) and ("magic bytes not found" in str(error) or "file size is" in str(error)):
        why = "it begins as one, but has no end: it was cut off, or is still being written"
    elif is_text(begin):
        why = "it looks like text: let its name end in .csv, .tsv or .jsonl, for lstm-ray data convert"
    else:
        why = reason(error).rstrip(".")
    return f"not a Parquet file: {why}"


def conversion(path: str) -> str | None:
    """Returns what makes Parquet of a CSV, TSV or JSON file; None if its name does not end as that of one."""
    name = os.path.basename(path)
    if (found := _CONVERTIBLE.search(name)) is None:
        return None
    stem = name[: found.start()]
    return f"fetch {name}, and {_conversion([name], stem)}" if "://" in path else _conversion([path], stem)


def check_parquet_name(path: str) -> None:
    """Raises OutputError if a file of Parquet would be named like CSV, TSV or JSON, which programs go by."""
    if (found := _CONVERTIBLE.search(path)) is not None:
        raise OutputError(f"{path}: would be Parquet, not {found[1].upper()}: name it {path[: found.start()]}.parquet")


def not_converted(paths: Sequence[str], parquet: Collection[str]) -> list[str]:
    """Returns the paths of files, without CSV, TSV or JSON that has a Parquet file of the same name beside it."""
    return [
        path
        for path in paths
        if (found := _CONVERTIBLE.search(path)) is None or f"{path[: found.start()]}.parquet" not in parquet
    ]


def many_to_convert(directory: str, names: Sequence[str], are_all: bool = True) -> str | None:
    """Returns what makes Parquet of the CSV, TSV or JSON files in a directory; None unless all names have one ending.

    Args:
        directory: The directory, a path or URI.
        names: The files' paths in it.
        are_all: Whether it has no others with this ending, which a pattern would take too.
    """
    endings = sorted({found[0] if (found := _CONVERTIBLE.search(name)) else "" for name in names})
    if len({ending.lower() for ending in endings}) != 1 or "" in endings:
        return None
    if "://" in directory:
        return "fetch them, and convert them with lstm-ray data convert"
    if len(names) == 1:
        path = os.path.join(directory, names[0])
        return _conversion([path], path[: -len(endings[0])])
    if not are_all:
        return "convert them one by one with lstm-ray data convert"
    below = "**" if any("/" in name for name in names) else ""
    patterns = [os.path.join(glob.escape(directory), below, f"*{ending}") for ending in endings]
    # Into the directory: the same command then finds it there.
    output = os.path.join(directory, os.path.basename(os.path.abspath(directory)) or "all")
    if os.path.exists(f"{output}.parquet"):
        return f"their rows may be in {output}.parquet"
    return _conversion(patterns, output, "them")


def _conversion(sources: Sequence[str], stem: str, them: str = "it") -> str:
    """Returns the command that makes Parquet of sources: "`...` makes Parquet of it".

    Args:
        sources: CSV, TSV or JSON files.
        stem: Name of the output, without its ending. If there is one, it is proposed first, and then another output.
        them: The sources' pronoun.
    """
    output, number = f"{stem}.parquet", 1
    is_there = "" if not os.path.exists(output) else f"did you mean {quoted(output)}? If not, "
    while os.path.exists(output):
        number += 1
        output = f"{stem}-{number}.parquet"
    return f"{is_there}`{command_line('data', 'convert', *sources, '--output', output)}` makes Parquet of {them}"
