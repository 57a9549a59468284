"""Reads a text file line by line: decompressed, decoded, with a limit on the length of a line."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from lstm_ray.errors import ConfigError, InputError
from lstm_ray.wording import reason

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Compression codecs by suffix."""

LONGEST = 64 << 20
"""Maximum characters in a line."""

_BLOCK_BYTES = 1 << 16
_MARKS = {  # UTF-32's first: its mark begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class Lines:
    """The lines of an open file, including line breaks.

    Attributes:
        path: The file, for messages.
        number: Number of the last line read, from 1.
    """

    def __init__(self, path: Path, text: io.TextIOWrapper, raw: pa.NativeFile) -> None:
        self.path = path
        self.number = 0
        self._text, self._raw = text, raw
        self._encoding = text.encoding

    def __iter__(self) -> Iterator[str]:
        """Yields the lines.

        Raises:
            InputError: The file cannot be decompressed or decoded, or a line is too long.
        """
        while line := self._next():
            self.number += 1
            if self.number == 1:
                line = line.lstrip("\ufeff")  # some programs write two
            if len(line) == LONGEST:
                raise InputError(f"{self.path}: line {self.number} has more than {LONGEST >> 20} Mi characters")
            yield line

    def bytes_read(self) -> int:
        """Returns the number of bytes of the file that have been read."""
        return int(self._raw.tell())

    def _next(self) -> str:
        try:
            return self._text.readline(LONGEST)
        except UnicodeError as error:
            where = _undecodable(self.path, self._encoding) or f"line {self.number + 1} or one soon after it"
            cause = getattr(error, "reason", None) or reason(error)  # else with a position in what was read ahead
            raise InputError(
                f"{self.path}: {where} is not {self._encoding} ({cause}): name its --encoding, often latin-1 or cp1252"
            ) from error
        except (OSError, EOFError, pa.ArrowException) as error:
            raise InputError(f"{self.path}: cannot be read: {reason(error)}") from error


def _undecodable(path: Path, encoding: str) -> str | None:
    """Returns the first byte of a file that an encoding cannot decode: its line, position and value; None if all can.

    The file is read again: the reader of lines has decoded some KiB ahead.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    line, read = 1, 0
    with _open(path) as (_, content):
        while True:
            block = content.read(_BLOCK_BYTES)
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                position = read + len(block) - len(error.object) + error.start
                return f"line {line:,}, byte {position + 1:,} of the file (0x{error.object[error.start]:02x})"
            if not block:
                return None
            read += len(block)


@contextmanager
def open_lines(path: Path, encoding: str | None) -> Iterator[Lines]:
    """Opens a file, which may be compressed. The encoding is the given one, that of the byte order mark, or UTF-8.

    Raises:
        InputError: The file cannot be opened, or its beginning is not UTF-8.
        ConfigError: Python does not know the encoding.
    """
    try:
        if encoding is None:
            with _open(path) as (_, content):
                head = content.read(4)
            encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
            if encoding == "utf-8" and b"\0" in head:  # UTF-16 without a byte order mark may be valid UTF-8
                guess = "utf-16-be" if head.startswith(b"\0") else "utf-16-le"
                raise InputError(f"{path}: begins with NUL characters: try --encoding {guess}")
        with _open(path) as (raw, content):
            try:
                text = io.TextIOWrapper(content, encoding, newline="")
            except LookupError as error:
                raise ConfigError(f"--encoding: {reason(error)}") from error
            yield Lines(path, text, raw)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error


@contextmanager
def _open(path: Path) -> Iterator[tuple[pa.NativeFile, pa.NativeFile]]:
    """Opens a file and the stream of its decompressed bytes."""
    with pa.OSFile(str(path)) as raw:
        codec = COMPRESSED.get(path.suffix.lower())
        if codec is None:
            yield raw, raw
        else:
            with pa.CompressedInputStream(raw, codec) as content:
                yield raw, content
