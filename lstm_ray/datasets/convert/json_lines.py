"""Reads JSON: one object per line, or one array of objects."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lstm_ray.datasets.convert.columns import MOST_COLUMNS, Block, Digits, MinusZero, Written, is_exact_float
from lstm_ray.datasets.convert.source import Lines
from lstm_ray.errors import InputError
from lstm_ray.wording import quoted, shortened, to_copy

SUFFIXES = (".jsonl", ".ndjson", ".json")

_BLOCK_ROWS = 1 << 15
_BLOCK_CHARACTERS = 16 << 20
_BLOCK_VALUES = 1 << 22  # rows times columns, because each row may have different keys
_MOST_OF_AN_ARRAY = 256 << 20  # characters; parsed, they take about ten times as much memory
_MOST_NESTED = 40  # Parquet needs two or three levels for each, and Arrow reads at most 100
_EXPECTED = "expected one object a line, or one array of objects"
_SURELY_EXACT = 15  # characters of a number without an exponent


class JsonRows:
    """The rows of a JSON file."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._rows = 0
        self._first: dict[str, Any] = {}

    def blocks(self) -> Iterator[Block]:
        """Yields the rows, a few thousand at a time. An array is first read as a whole.

        Raises:
            InputError: A line is not JSON, or not an object.
        """
        # Before an object may be a byte order mark, where files were joined, or the separator of RFC 7464.
        lines = (kept for line in self._lines if (kept := line.lstrip("\ufeff\x1e")).strip())
        first = next(lines, None)
        if first is None:
            raise InputError(f"{self._lines.path} is empty: was it written completely?")
        if not first.lstrip().startswith(("{", "[")):
            raise InputError(
                f"{self._lines.path}: begins neither with {{ nor with [: {_EXPECTED}; if it is delimited text, "
                "let its name end in .csv or .tsv"
            )
        if first.lstrip().startswith("["):
            yield from self._array(self._whole(first, lines))
            return
        rows: list[dict[str, Any]] = []
        row_numbers: list[int] = []
        names: set[str] = set()
        size = 0
        for line in itertools.chain([first], lines):
            rows.append(self._object(self._parse(line), "line", self._lines.number))
            row_numbers.append(self._lines.number)
            size += len(line)
            names.update(rows[-1])
            if len(rows) == _BLOCK_ROWS or size >= _BLOCK_CHARACTERS or len(rows) * len(names) >= _BLOCK_VALUES:
                yield self._block(rows, row_numbers, "line")
                rows, row_numbers, names, size = [], [], set(), 0
        yield self._block(rows, row_numbers, "line")

    def notes(self) -> list[str]:
        """Returns a note if the file is one object that seems to hold the rows, after all rows have been read."""
        if self._rows != 1:
            return []
        for name, value in self._first.items():
            if isinstance(value, list) and len(value) > 1 and all(isinstance(one, dict) for one in value):
                command = quoted("jq", "-c", f".{json.dumps(to_copy(name, 'KEY'))}[]", str(self._lines.path))
                return [
                    f"it is one row, with {len(value):,} objects in {shortened(repr(name))}: if these are the rows, "
                    f"convert what `{command}` prints"
                ]
        values = self._first.values()
        if all(isinstance(value, dict | list) for value in values) and any(len(value) > 1 for value in values):
            return [
                "it is one row, with a list or an object in each column: if these are the columns of a table, write it "
                "row by row, in pandas with to_json(FILE, orient='records', lines=True)"
            ]
        return []

    def _whole(self, first: str, lines: Iterator[str]) -> str:
        """Returns the text of an array, which is parsed as a whole."""
        parts = [first]
        size = len(first)
        for line in lines:
            parts.append(line)
            size += len(line)
            if size > _MOST_OF_AN_ARRAY:
                raise InputError(
                    f"{self._lines.path}: the array has more than {_MOST_OF_AN_ARRAY >> 20} Mi characters, too many to "
                    "hold: write one object a line"
                )
        return "".join(parts)

    def _array(self, text: str) -> Iterator[Block]:
        items = self._parse(text)
        for start in range(0, len(items), _BLOCK_ROWS):
            numbers = range(start + 1, min(start + _BLOCK_ROWS, len(items)) + 1)
            rows = [self._object(items[number - 1], "item", number) for number in numbers]
            yield self._block(rows, numbers, "item")

    def _parse(self, text: str) -> Any:
        try:  # not strict: tabs and the like stand for themselves
            return json.loads(text, strict=False, parse_int=_integer, parse_float=_number, object_pairs_hook=_object_of)
        except (ValueError, RecursionError) as error:
            # Python counts lines in the text that it was given, which is one line.
            what = f"{error.msg} at character {error.pos + 1:,}" if isinstance(error, json.JSONDecodeError) else error
            raise InputError(
                f"{self._lines.path}: line {self._lines.number:,}: {what}: {_EXPECTED}{self._remedy(text, error)}"
            ) from error

    def _remedy(self, text: str, error: Exception) -> str:
        """Returns what helps against a line that is not JSON, as the end of a sentence; "" if that is unclear."""
        problem, path = str(error), str(self._lines.path)
        rest = text[getattr(error, "pos", 0) :].strip()
        is_object = text.lstrip().startswith("{")
        if problem.startswith("Extra data") and rest == ",":
            return f"; `{quoted('sed', 's/, *$//', path)} > NEW.jsonl` deletes the commas at the ends of lines"
        if (problem.startswith("Extra data") and rest.startswith("{")) or (is_object and not rest and not self._rows):
            return f"; `{quoted('jq', '-c', '.', path)}` writes each object in one line"
        if problem.startswith("Unterminated string") or not rest:
            return "; is the file cut off? Or if the text has a line break, write it as \\n"
        if text.lstrip("[ \t").startswith("{'"):
            return "; it is Python's notation: write it with json.dumps"
        return ""

    def _object(self, value: Any, unit: str, number: int) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InputError(f"{self._lines.path}: {unit} {number:,} is no object: {_EXPECTED}")
        self._rows += 1
        if self._rows == 1:
            self._first = value
        level: list[Any] = [one for one in value.values() if isinstance(one, dict | list)]
        for _ in range(_MOST_NESTED):
            if not level:
                return value
            inside = (inner for one in level for inner in (one.values() if isinstance(one, dict) else one))
            level = [inner for inner in inside if isinstance(inner, dict | list)]
        raise InputError(f"{self._lines.path}: {unit} {number:,} is nested more than {_MOST_NESTED} deep")

    def _block(self, rows: list[dict[str, Any]], row_numbers: Any, unit: str) -> Block:
        names = dict.fromkeys(name for row in rows for name in row)
        if len(names) > MOST_COLUMNS:
            raise InputError(
                f"{self._lines.path}: has more than {MOST_COLUMNS:,} columns: its objects have keys of their own; "
                "write each as a list of objects with a key and a value"
            )
        return Block({name: [row.get(name) for row in rows] for name in names}, row_numbers, unit)


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"key {shortened(repr(repeated))} occurs twice in one object")
    return made


def _integer(text: str) -> int:
    return MinusZero() if text == "-0" else int(text)


def _number(text: str) -> float | Digits:
    """Returns a number with a point or an exponent as float, or as its text if float64 would change it."""
    is_exact = (len(text) <= _SURELY_EXACT and "e" not in text.lower()) or is_exact_float(text)
    if not is_exact:
        return Digits(text)
    number = float(text)
    return number if repr(number) == text else Written(text)
