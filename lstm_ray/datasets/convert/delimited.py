"""Reads CSV and TSV into blocks of strings, with errors that name the line of a wrongly quoted row."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lstm_ray.datasets.convert.columns import MOST_COLUMNS, Block, is_missing, is_number
from lstm_ray.datasets.convert.source import LONGEST, Lines
from lstm_ray.errors import ConfigError, InputError
from lstm_ray.wording import counted, named, quoted, shortened

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""By suffix."""

_OTHER_DELIMITER = re.compile(r"[;|\t,\x01]")  # the last one is Hive's
_UNSEEN = re.compile(r"^\s|\s$|[\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_NAMES_DELIMITER = re.compile(r"sep=(.)", re.IGNORECASE)  # the first line of some files, for Excel
_ESCAPED = re.compile(r"\\(t|x[0-9a-fA-F]{2})")
_BLOCK_ROWS = 1 << 16
_BLOCK_CHARACTERS = 16 << 20
_LOOKED_AT = 1000  # rows that decide whether the first one is a header
_LONGEST_NAME = 64  # characters; a longer value is probably a review


@dataclass(frozen=True)
class Dialect:
    """How the values of a row are separated.

    Attributes:
        delimiter: Separates two values.
        quote: Encloses a value that may contain delimiters and line breaks, and is doubled inside it; None if values
            are not quoted.
        escape: Removes the special meaning of the next character; None if nothing is escaped.
        column_names: Names of the columns, if the first line has none.
        is_usual: Whether the delimiter is that of the file's suffix, so that the file may name another.
    """

    delimiter: str
    quote: str | None
    escape: str | None
    column_names: tuple[str, ...]
    is_usual: bool


def make_dialect(
    suffix: str, delimiter: str | None, quote: str | None, escape: str | None, column_names: Sequence[str]
) -> Dialect:
    """Returns the dialect given by the options, or by the file's suffix.

    Between tabs nothing is quoted: a review begins with a quotation mark now and then, and one that is never closed
    would take the rows after it with it.

    Raises:
        ConfigError: An option is not one character, or two are the same.
    """
    is_usual = delimiter is None
    delimiter = DELIMITERS[suffix] if delimiter is None else delimiter
    quote = ("none" if delimiter == "\t" else '"') if quote is None else quote
    options = {"--delimiter": delimiter, "--quote": None if quote == "none" else quote, "--escape": escape}
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if len(value) != 1 or value in "\r\n":
            escaped = r"\t" if value.lower() == "tab" else value
            raise ConfigError(
                f"{option} is {value!r}: expected one character"
                + (", or none" if option == "--quote" else "")
                + (f"; a shell makes one of $'{escaped}', YAML of \"{escaped}\"" if _ESCAPED.fullmatch(escaped) else "")
            )
    if len(set(given.values())) < len(given):
        raise ConfigError(f"{', '.join(given)}: expected different characters")
    return Dialect(delimiter, options["--quote"], escape, tuple(column_names), is_usual)


class DelimitedRows:
    """The rows of a delimited file. Reading them collects notes on rows that look wrong."""

    def __init__(self, lines: Lines, dialect: Dialect) -> None:
        self._lines, self._dialect = lines, dialect
        self._record: list[str] = []  # the lines of the row that is being read
        self._first_rows: list[list[str]] = []
        self._doubts: dict[str, tuple[int, int]] = {}  # number of rows, and the line of the first one

    def blocks(self) -> Iterator[Block]:
        """Yields the rows, a few thousand at a time.

        Raises:
            InputError: A row has too few or too many values, or a quotation mark is wrong.
        """
        with _long_values():
            rows = self._rows()
            names = list(self._dialect.column_names) or next((row for row in rows if row), [])
            has_unnamed = any(names) and not names[-1]
            while has_unnamed and not names[-1]:  # as spreadsheets write: the values below are empty too
                names.pop()
            if not names:
                raise InputError(f"{self._lines.path} is empty: was it written completely?")
            self._check_names(names)
            block: list[list[str]] = []
            row_numbers: list[int] = []
            size = 0
            for row in rows:
                if not row or (len(row) < len(names) and not any(value.strip() for value in row)):
                    continue  # a line with nothing in it
                if len(row) > len(names) and not any(row[len(names) :]):  # as spreadsheets write
                    self._doubt("it has empty values after the last column, which were left out")
                    del row[len(names) :]
                if len(row) != len(names):
                    raise self._wrong_number(row, names, has_unnamed)
                self._look_at(row, names)
                block.append(row)
                row_numbers.append(self._first_line())
                size += sum(map(len, self._record))
                if len(block) == _BLOCK_ROWS or size >= _BLOCK_CHARACTERS:
                    yield _block(names, block, row_numbers)
                    block, row_numbers, size = [], [], 0
            yield _block(names, block, row_numbers)

    def notes(self) -> list[str]:
        """Returns notes for the user, after all rows have been read."""
        notes = [
            f"{counted(rows, 'row')}, the first at line {line:,}: {doubt}"
            for doubt, (rows, line) in self._doubts.items()
        ]
        if _looks_like_names(self._first_rows, self._dialect.column_names):
            notes.insert(
                0,
                "its first row looks like the columns' names, and was kept: if so, leave --column-names out, or delete "
                "it",
            )
        return notes

    def _rows(self) -> Iterator[list[str]]:
        dialect, lines = self._dialect, iter(self._lines)
        first = next(lines, "")
        told = _NAMES_DELIMITER.fullmatch(first.strip("\r\n"))
        if told is None or told[1] in (dialect.quote, dialect.escape):
            lines = itertools.chain([first] if first else [], lines)
        elif dialect.is_usual:
            self._dialect = dialect = replace(dialect, delimiter=told[1])
        reader = csv.reader(
            self._remembered(lines),
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
            escapechar=dialect.escape,
            strict=True,  # otherwise a wrong quotation mark changes the value, or swallows the next rows
        )
        while True:
            self._record = []
            try:
                row = next(reader, None)
            except csv.Error as error:
                is_open = "end of data" in str(error) or "field larger" in str(error)
                problem = (
                    "begins a quoted value that never ends" if is_open else "continues after the end of a quoted value"
                )
                raise self._error(problem, self._remedy()) from error
            if row is None:
                return
            yield row

    def _remembered(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            self._record.append(line)
            yield line

    def _check_names(self, names: Sequence[str]) -> None:
        is_given, path = bool(self._dialect.column_names), self._lines.path
        if len(names) > MOST_COLUMNS:
            raise InputError(f"{path}: has {len(names):,} columns, more than {MOST_COLUMNS:,}")
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            remedy = "--column-names" if is_given else "its first line; or if that is a row, give --column-names"
            raise InputError(f"{path}: has two columns named {shortened(repr(repeated[0]))}: rename one in {remedy}")
        if not is_given and any(is_number(name) or len(name) > _LONGEST_NAME for name in names):
            self._doubt("it was read as the columns' names, but looks like a row: if it is, give --column-names")
        if any(_UNSEEN.search(name) for name in names):
            self._doubt("a column's name has spaces around it, or characters that are not seen, which were kept")
        if "" in names:
            self._doubt("a column has no name, such as the index that pandas writes, and was kept")
        if len(names) == 1 and (other := _OTHER_DELIMITER.search(names[0])):
            raise InputError(f"{path}: has one column, {shortened(repr(names[0]))}: try --delimiter {quoted(other[0])}")

    def _look_at(self, row: list[str], names: list[str]) -> None:
        """Counts rows that are valid but look as if something else was intended."""
        dialect = self._dialect
        if dialect.column_names and len(self._first_rows) < _LOOKED_AT:
            self._first_rows.append(row)
        if [row[0].lstrip("\ufeff"), *row[1:]] == names:
            self._doubt("it repeats the columns' names, and was kept")
        elif row[0].startswith("\ufeff"):
            self._doubt("it begins with a byte order mark, as where files were joined, which was kept")
        if dialect.quote is None:
            if any(len(value) > 1 and value[0] == '"' == value[-1] for value in row):
                self._doubt("values stand in quotation marks, which were kept; --quote '\"' takes them off")
            return
        if any(value[:1] == " " and _stands_in(dialect.quote, value) for value in row):
            self._doubt(
                "a value stands in quotation marks after a space, which were kept: if so, delete the spaces between "
                "delimiter and quotation mark"
            )
        if len(self._record) > 1 and len(names) > 1:
            expected = len(names) - 1
            if all(line.count(dialect.delimiter) == expected for line in self._record):
                self._doubt("a quoted value continues over lines that look like rows: if they are, give --quote none")

    def _first_line(self) -> int:
        """Returns the number of the first line of the current row."""
        return self._lines.number - max(0, len(self._record) - 1)

    def _doubt(self, what: str) -> None:
        rows, line = self._doubts.get(what, (0, self._first_line()))
        self._doubts[what] = rows + 1, line

    def _wrong_number(self, row: Sequence[str], names: Sequence[str], has_unnamed: bool) -> InputError:
        """Returns the error of a row with too few or too many values."""
        has = f"has {counted(len(row), 'value')}, expected {len(names)}"
        if self._dialect.column_names and not self._first_rows:
            problem = f"has {counted(len(row), 'value')}, but --column-names has {len(names)}"
            return self._error(problem, f"give a name for each value; or {self._remedy()}")
        if self._dialect.column_names:
            return self._error(f"{has}, as --column-names says", self._remedy())
        is_header = len(row) > len(names) and all(0 < len(one) <= _LONGEST_NAME and not is_number(one) for one in row)
        remedy = self._remedy() + ("; or name the last column in the first line" if has_unnamed else "")
        late = "; if these are the columns' names, delete the lines before them" if is_header else ""
        return self._error(f"{has}, for {named(names)}", remedy + late)

    def _error(self, problem: str, remedy: str) -> InputError:
        return InputError(f"{self._lines.path}: line {self._first_line():,} {problem}: {remedy}")

    def _remedy(self) -> str:
        """Returns the remedy for a row that cannot be split."""
        text, dialect = "".join(self._record), self._dialect
        if dialect.escape is None and any(f"\\{one}" in text for one in (dialect.quote, dialect.delimiter) if one):
            return "values seem to be escaped: try --escape '\\'"
        if dialect.quote is None and '"' in text:
            return "if values are quoted, give --quote '\"'; else correct the line"
        if dialect.quote is not None and re.search(
            rf"{re.escape(dialect.delimiter)} +{re.escape(dialect.quote)}", text
        ):
            return "delete the spaces between delimiter and quotation mark"
        if dialect.quote == '"' and '"' not in text and "'" in text:
            return "correct the line; if values are quoted by ', give --quote \"'\""
        if dialect.quote is not None and dialect.quote in text and not self._has_quoted_value(text, dialect.quote):
            return "correct the line; if no value is quoted, give --quote none"
        other = _OTHER_DELIMITER.search(text.replace(dialect.delimiter, ""))
        return "correct the line" + (f", or is the --delimiter {quoted(other[0])}?" if other else "")

    def _has_quoted_value(self, text: str, quote: str) -> bool:
        """Returns whether a value between two delimiters is quoted as it should be."""
        mark, end = re.escape(quote), re.escape(self._dialect.delimiter)
        return re.search(rf"(?:^|{end}){mark}(?:[^{mark}]|{mark}{mark})*{mark}(?:{end}|\s*$)", text) is not None


def _stands_in(quote: str, value: str) -> bool:
    """Returns whether a value, spaces aside, begins and ends with a quotation mark."""
    value = value.strip(" ")
    return len(value) > 1 and value[0] == quote == value[-1]


def _looks_like_names(rows: Sequence[list[str]], names: Sequence[str]) -> bool:
    """Returns whether the first row has a column's name, or a text where the other rows have numbers."""
    if not rows or rows[0] == list(names):  # that case has a note for every row
        return False
    first, others = [value.strip() for value in rows[0]], zip(*rows[1:], strict=True)
    return any(value.lower() == name.lower() for value, name in zip(first, names, strict=True)) or any(
        not is_missing(value) and not is_number(value) and _are_numbers(column)
        for value, column in zip(first, others, strict=False)
    )


def _are_numbers(values: Sequence[str]) -> bool:
    """Returns whether all values are numbers or empty, and at least one is a number."""
    present = [value for value in values if not is_missing(value)]
    return bool(present) and all(map(is_number, present))


def _block(names: list[str], rows: list[list[str]], lines: list[int]) -> Block:
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return Block(dict(zip(names, map(list, columns), strict=True)), lines, "line")


@contextmanager
def _long_values() -> Iterator[None]:
    """Raises the limit of `csv` on the length of a value (128 KiB for the whole process) to that of a line."""
    limit = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
