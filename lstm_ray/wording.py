"""Wording of messages: reasons of errors, lists of names, counts, and text that is safe to print."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Sequence

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_UNSEEN = re.compile(
    "["
    "\0-\x08\x0b-\x1f\x7f-\x9f"  # control characters, which a terminal executes; except line feed and tab
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks, which reorder the text after them
    "\u2028\u2029"  # line and paragraph separators
    "\ud800-\udfff"  # bytes of a name that are not UTF-8: they cannot be printed
    "]"
)
_CONVERTIBLE = re.compile(r"\.(csv|tsv|jsonl|ndjson|json)(\.(gz|bz2|zst))?$", re.IGNORECASE)
"""What `lstm-ray data convert` reads."""
_NO_CONTENT = {
    b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` fetches the file itself",
    b"<!doctype html": "a web page: fetch the file again, from the address of its raw content",
    b"<html": "a web page: fetch the file again, from the address of its raw content",
}
"""What a file is that stands in another one's place, by the bytes with which it begins, in lower case."""
_OTHER_FORMATS = {
    b"ARROW1": "it is an Arrow (Feather) file: pandas.read_feather(FILE).to_parquet(OTHER) makes Parquet of it",
    b"ORC": "it is an ORC file: pandas.read_orc(FILE).to_parquet(OTHER) makes Parquet of it",
    b"PK\x03\x04": "it is a zip archive or a spreadsheet: unpack it, or save the sheet as CSV",
    b"\x1f\x8b": "it is compressed by gzip: unpack it",
    b"(\xb5/\xfd": "it is compressed by zstd: unpack it",
}
"""What helps, by the bytes with which a file begins."""
_LINE_CHARACTERS = str.maketrans("", "", "\r\n\t\ufeff")
_MOST_NAMED = 20
_MOST_COMPARED = 1000
_MOST_CHARACTERS = 200


def reason(error: BaseException) -> str:
    """Returns an exception's message as one line, without Arrow's and Python's prefixes and Keras's colours."""
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror
        if error.errno and error.errno > 0:  # negative if a host name cannot be resolved
            message = os.strerror(error.errno)  # Arrow's message repeats the path
        return message[0].lower() + message[1:]
    return " ".join(uncoloured(str(error)).split()) or type(error).__name__


def uncoloured(text: str) -> str:
    """Returns a text without terminal colour codes."""
    return _COLOURS.sub("", text)


def visible(text: str) -> str:
    """Escapes characters that a terminal or a page would interpret instead of showing, such as \\u001b.

    Line feeds and tabs stay. In a JSON string the result means the same text.
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def on_one_line(text: str) -> str:
    """Escapes the same characters as `visible`, and line feeds and tabs too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def named(names: Iterable[object]) -> str:
    """Returns names for a message, quoted and separated by commas: 'id', 'text'; the first 20 if there are more."""
    names = list(names)
    more = len(names) - _MOST_NAMED
    return ", ".join(shortened(repr(name)) for name in names[:_MOST_NAMED]) + (
        f" and {more:,} more" if more > 0 else ""
    )


def no_column(name: str, names: Iterable[str], option: str = "") -> str:
    """Returns that a column is missing, which there are, and what helps: the option with a similar name, if any.

    no column 'txt'; it has 'id', 'text': did you mean --text-column text?
    """
    names = list(names)
    similar = difflib.get_close_matches(name.lower(), [one.lower() for one in names[:_MOST_COMPARED]], n=1)
    meant = next((one for one in names if [one.lower()] == similar), None)
    if meant is None:
        remedy = f": choose with {option}" if option else ""
    else:
        remedy = f": did you mean {option} {shlex.quote(meant)}?" if option else f": did you mean {meant!r}?"
    return f"no column {name!r}; it has {named(names) or 'none'}{remedy}"


def shortened(text: str) -> str:
    """Returns a text for a message, cut after 200 characters."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: 1 file, 2 files."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def not_parquet(path: str, error: BaseException, begin: bytes = b"") -> str:
    """Returns why a file is not Parquet, and what helps: for CSV, TSV and JSON the command that converts it.

    Args:
        path: The file, a path or URI.
        error: What Arrow says.
        begin: The file's first bytes.
    """
    name = os.path.basename(path)
    found = _CONVERTIBLE.search(name)
    if found is None:
        other = next((remedy for magic, remedy in _OTHER_FORMATS.items() if begin.startswith(magic)), "")
        if (what := in_place_of_content(begin)) is not None:
            other = f"it is {what}"
        if not other and begin and begin.decode(errors="ignore").translate(_LINE_CHARACTERS).isprintable():
            other = "it looks like text: let its name end in .csv, .tsv or .jsonl, for lstm-ray data convert"
        return f"not a Parquet file: {other or reason(error)}"
    source = name if "://" in path else path
    fetched = f"fetch {name}, and " if "://" in path else ""
    return f"not a Parquet file: {fetched}{_conversion(source, name[: found.start()])} it"


def in_place_of_content(begin: bytes) -> str | None:
    """Returns what a file is that stands in the place of the wanted one, with what helps; None if it is none."""
    return next((what for magic, what in _NO_CONTENT.items() if begin.lower().startswith(magic)), None)


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
    pattern = os.path.join(directory, "**" if any("/" in name for name in names) else "", f"*{endings.pop()}")
    return f"{_conversion(pattern, os.path.basename(directory.rstrip('/')) or 'all')} them"


def _conversion(source: str, stem: str) -> str:
    command = shlex.join(("lstm-ray", "data", "convert", source, "--output", f"{stem}.parquet"))
    return f"`{command}` makes Parquet of"
