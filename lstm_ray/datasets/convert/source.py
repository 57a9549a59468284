"""Reads a text file line by line: decompressed, decoded, with a limit on the length of a line."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from lstm_ray.errors import ConfigError, InputError
from lstm_ray.storage.formats import COMPRESSIONS, HEAD_BYTES, utf16_without_mark
from lstm_ray.text.encodings import readings, utf8_word
from lstm_ray.wording import counted, quoted, reason

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
        self._is_ascii_like = "a".encode(text.encoding) == b"a" and "utf" not in codecs.lookup(text.encoding).name
        self._utf8_lines, self._first_utf8 = 0, ""

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
                raise InputError(
                    f"{self.path}: line {self.number:,} has more than {LONGEST >> 20} Mi characters, so it is "
                    "hardly one review: write each row on its own line"
                )
            if (rest := line.strip("\r\n")) and not rest.strip("\0\x1a"):
                raise InputError(
                    f"{self.path}: line {self.number:,} has nothing but NUL or Ctrl-Z characters, as the end of a "
                    f"damaged or old file: delete them{self._deletion()}"
                )
            if self._is_ascii_like and (word := utf8_word(line, self._encoding)):
                self._utf8_lines += 1
                self._first_utf8 = self._first_utf8 or f"line {self.number:,} has {word}"
            yield line

    def notes(self) -> list[str]:
        """Returns whether the encoding seems wrong, from the lines read so far."""
        if not self._utf8_lines:
            return []
        lines = counted(self._utf8_lines, "line")
        return [f"is --encoding {self._encoding} right? It fits UTF-8 as well in {lines}: {self._first_utf8}"]

    def bytes_read(self) -> int:
        """Returns the number of bytes of the file that have been read."""
        return int(self._raw.tell())

    def _deletion(self) -> str:
        """Returns how to delete NUL and Ctrl-Z characters, as the end of a sentence; "" if other ones contain them."""
        if _is_wide(self._encoding):
            return ""
        if (unpack := _unpacking(self.path)) is None:
            return f", with tr -d '\\000\\032' < {quoted(str(self.path))} > NEW"
        return f", with {unpack} | tr -d '\\000\\032' > NEW, which is not compressed"

    def _next(self) -> str:
        try:
            return self._text.readline(LONGEST)
        except UnicodeError as error:
            found = _undecodable(self.path, self._encoding)
            if found is None:
                found = f"line {self.number + 1} or one soon after it is not {self._encoding}: name its --encoding"
            raise InputError(f"{self.path}: {found}") from error
        except (OSError, EOFError, pa.ArrowException) as error:
            raise _unreadable(self.path, error) from error


def _is_wide(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def _undecodable(path: Path, encoding: str) -> str | None:
    """Returns the first byte of a file that an encoding cannot decode, and what helps; None if all can be decoded.

    The file is read again: the reader of lines has decoded some KiB ahead.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    line, read, is_ascii = 1, 0, True
    with _open(path) as (_, content):
        while True:
            block = content.read(_BLOCK_BYTES)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                content_before = error.object[: error.start]
                line += content_before.count(b"\n")
                position = read + len(block) - len(error.object) + error.start
                where = f"line {line:,}, byte {position + 1:,} of the file (0x{error.object[error.start]:02x})"
                if _is_wide(encoding):
                    return f"{where} is not {encoding}: the file is cut off, or what follows is in another encoding"
                if codecs.lookup(encoding).name == "utf-8" and not (is_ascii and content_before.isascii()):
                    remedy = "correct it, as the file is UTF-8 up to there"
                else:
                    remedy = "name its --encoding"
                return f"{where} is not {encoding}: {remedy}; it may be {readings(error.object, error.start)}"
            except UnicodeError:  # UTF-16 or UTF-32 without a byte order mark
                return None
            line += text.count("\n")
            is_ascii = is_ascii and text.isascii()
            if not block:
                return None
            read += len(block)


def unpacked_beginning(path: Path) -> bytes:
    """Returns the first bytes in a compressed file; none if they cannot be read, which reading its lines explains."""
    with suppress(OSError, pa.ArrowException), _open(path) as (_, content):
        return bytes(content.read(HEAD_BYTES))
    return b""


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
                head = content.read(HEAD_BYTES)
            encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
            if encoding == "utf-8" and (guess := utf16_without_mark(head)) is not None:  # it may be valid UTF-8
                raise InputError(f"{path}: looks like UTF-16: try --encoding {guess}")
            if encoding == "utf-8" and b"\0" in head[:4]:
                raise InputError(f"{path}: begins with NUL characters: is it text? If so, name its --encoding")
        with _open(path) as (raw, content):
            try:
                text = io.TextIOWrapper(content, encoding, newline="")
                lines = Lines(path, text, raw)
            except (LookupError, UnicodeError) as error:
                raise ConfigError(f"--encoding: {reason(error)}") from error
            yield lines
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    remedy, unpack = "", _unpacking(path)
    if "Truncated" in str(error):
        remedy = "; fetch it again, or write it again"
    elif unpack is not None and not getattr(error, "errno", None):
        # Programs skip bytes after the compressed ones, and take the memory that a large window needs.
        remedy = f"; convert what `{unpack}` prints, if that works"
    return InputError(f"{path}: cannot be read: {reason(error)}{remedy}")


def _unpacking(path: Path) -> str | None:
    """Returns the command that prints a compressed file's content; None if the name is not that of one."""
    found = COMPRESSIONS.get(path.suffix.lower())
    return None if found is None else f"{found.command} {quoted(str(path))}"


@contextmanager
def _open(path: Path) -> Iterator[tuple[pa.NativeFile, pa.NativeFile]]:
    """Opens a file and the stream of its decompressed bytes."""
    with pa.OSFile(str(path)) as raw:
        found = COMPRESSIONS.get(path.suffix.lower())
        if found is None:
            yield raw, raw
        else:
            with pa.CompressedInputStream(raw, found.codec) as content:
                yield raw, content
