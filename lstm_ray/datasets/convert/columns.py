"""Determines a type for each column, and converts values to that type.

The type is chosen so that no value changes. Texts become numbers only if all of them are numbers in their usual form. A
column with one other value stays text: ids like 007 or 18446744073709551615, 0.12345678901234567890, "n.a.". Words for
a missing value, such as NaN, are null among numbers, and counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.wording import counted, reason


@dataclass(frozen=True)
class Block:
    """Some rows of a file.

    Attributes:
        columns: Values by column; all columns have the same length.
        row_numbers: Number of each row's line or item in the file.
        unit: What `row_numbers` counts: "line", or "item" of an array.
    """

    columns: dict[str, list[Any]]
    row_numbers: Sequence[int]
    unit: str


MOST_COLUMNS = 10_000
"""Maximum number of columns in a file, because each one needs memory."""


_NULLS = ("", "na", "n/a", "#n/a", "nan", "null", "none")  # as pandas, R, SQL and Arrow write missing values

_BOOLEAN = r"(?i)^(?:true|false)$"
_INTEGER = r"^(?:0|-?[1-9][0-9]*)$"
# Programs write exponents with a sign or after a decimal point; 12e45 is an id.
_FLOAT = r"^-?(?:(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]+)?|(?:0|[1-9][0-9]*)(?:[eE][+-][0-9]+)?|inf)$"
_NO_TYPE = (pa.ArrowException, OverflowError, ValueError)
_MOST_SHOWN = 80  # characters of a value in a note
_MOST_CELLS = 1 << 20  # of a block: keys times objects
_MOST_CELLS_PER_VALUE = 50
_EXACT_DIGITS = 15  # any decimal number with this many digits is exact in float64


def is_missing(text: str) -> bool:
    """Returns whether a text stands for a missing value: it is blank, or NA, n/a, #N/A, NaN, null or none."""
    return text.strip().lower() in _NULLS


class TextColumn:
    """A column of a format in which everything is text, such as CSV.

    Attributes:
        note: Why the column is text although it looks like another type; "" if it does not.
        doubt: Why the column may better be text although it is numbers; "" if there is no doubt.
    """

    def __init__(self, as_text: bool) -> None:
        """Creates an empty column; with `as_text` its type is always text."""
        self.note = self.doubt = ""
        self._possible = [] if as_text else [pa.bool_(), pa.int64(), pa.float64()]
        self._has_values = False
        self._first = ""
        self._decimals: set[int] = set()  # how many the numbers have after their point
        self._padded = ""  # where the first number is that ends with a zero after its point, such as 1.10
        self._lost: dict[str, tuple[int, str]] = {}  # words for a missing value: how often, and where first

    @property
    def type(self) -> pa.DataType:
        """Returns the narrowest possible type; text for a column without values."""
        return self._possible[0] if self._possible and self._has_values else pa.string()

    @property
    def lost(self) -> str:
        """Returns which words became null, how often and where first; "" for a column of texts, which keeps them."""
        if self.type == pa.string():
            return ""
        return "; ".join(
            f"{word!r} {counted(times, 'time')}, first in {at}" for word, (times, at) in self._lost.items()
        )

    def add(self, values: list[str], row_numbers: Sequence[int], unit: str) -> None:
        """Rules out the types that do not hold all values."""
        if not self._possible:
            return
        trimmed = pc.utf8_trim_whitespace(pa.array(values, pa.string()))
        is_null = _are_missing(trimmed)
        self._count_lost(trimmed, is_null, row_numbers, unit)
        first = pc.index(is_null, False).as_py()
        if first < 0:
            return
        if not self._has_values:
            self._has_values, self._first = True, trimmed[first].as_py()
        for kind in list(self._possible):
            misfit = pc.index(pc.or_(is_null, _holds(kind, trimmed)), False).as_py()
            if misfit >= 0:
                self._possible.remove(kind)
                if not self._possible and is_number(self._first.replace(",", ".", 1)):
                    value = values[misfit]
                    why = "would change as a number" if is_number(value) else "is not a number"
                    if is_number(value.replace(",", ".", 1)) and "," in value:
                        why = "has a comma, and numbers have a point"
                    self.note = f"{value!r} in {unit} {row_numbers[misfit]:,} {why}"
        if self._possible == [pa.float64()]:
            self._look_at_decimals(trimmed, row_numbers, unit)

    def _count_lost(
        self, texts: pa.StringArray, is_null: pa.BooleanArray, row_numbers: Sequence[int], unit: str
    ) -> None:
        words = texts.filter(pc.and_(is_null, pc.not_equal(texts, "")))
        for found in words.value_counts().to_pylist():
            word = found["values"]
            times, at = self._lost.get(word, (0, ""))
            at = at or f"{unit} {row_numbers[pc.index(texts, word).as_py()]:,}"
            self._lost[word] = times + found["counts"], at

    def _look_at_decimals(self, texts: pa.StringArray, row_numbers: Sequence[int], unit: str) -> None:
        """Doubts numbers where 1.1 and 1.10 may be two values, such as versions.

        Where all have the same number of decimals, as prices do, the zeros say nothing.
        """
        decimals = pc.struct_field(pc.extract_regex(texts, r"\.(?P<decimals>[0-9]+)$"), "decimals")
        self._decimals.update(pc.unique(pc.binary_length(decimals).drop_null()).to_pylist())
        padded = pc.index(pc.fill_null(pc.match_substring_regex(decimals, "^[0-9]+0$"), False), True).as_py()
        if padded >= 0 and not self._padded:
            self._padded = f"{texts[padded].as_py()!r} in {unit} {row_numbers[padded]:,}"
        if self._padded and len(self._decimals) > 1:
            self.doubt = f"{self._padded} loses its last zero as a number, and others have fewer decimals"

    def to_arrow(self, values: list[str]) -> pa.Array:
        """Returns values in the column's type. All of them must have been passed to `add`."""
        texts, kind = pa.array(values, pa.string()), self.type
        if kind == pa.string():
            return texts
        trimmed = pc.utf8_trim_whitespace(texts)
        trimmed = pc.if_else(_are_missing(trimmed), None, trimmed)
        if kind == pa.bool_():
            return pc.equal(pc.utf8_lower(trimmed), "true")
        return trimmed.cast(kind)


def _are_missing(trimmed: pa.StringArray) -> pa.BooleanArray:
    return pc.is_in(pc.utf8_lower(trimmed), pa.array(_NULLS))


def _holds(kind: pa.DataType, texts: pa.StringArray) -> pa.BooleanArray:
    """Returns which texts can be converted to a type without loss."""
    pattern = {pa.bool_(): _BOOLEAN, pa.int64(): _INTEGER, pa.float64(): _FLOAT}[kind]
    holds = pc.match_substring_regex(texts, pattern)
    if kind == pa.bool_():
        return holds
    is_long = pc.greater(pc.binary_length(texts), _EXACT_DIGITS)
    doubtful = pc.and_(holds, pc.or_(is_long, pc.match_substring(texts, "e", ignore_case=True)))
    fits = _fits_int64 if kind == pa.int64() else is_exact_float
    rows = np.flatnonzero(doubtful)
    mask: npt.NDArray[np.bool_] = np.array(holds)
    mask[rows] = [fits(text) for text in texts.take(pa.array(rows)).to_pylist()]
    return pa.array(mask)


def _fits_int64(text: str) -> bool:
    return len(text) <= 20 and -(2**63) <= int(text) < 2**63


def is_exact_float(text: str) -> bool:
    """Returns whether a number's shortest form as a float64 is the same decimal number."""
    number = float(text)
    if number in (float("inf"), float("-inf")):
        return "inf" in text.lower()
    try:
        return Decimal(repr(number)) == Decimal(text)
    except InvalidOperation:  # an exponent beyond the limits of Decimal
        return False


def is_number(text: str) -> bool:
    """Returns whether a text can be read as a number of any size and form."""
    try:
        float(text)
    except ValueError:
        return False
    return True


class JsonColumn:
    """A column of JSON values: numbers, texts, booleans, lists and objects. Attributes: see `TextColumn`."""

    lost = ""  # JSON has a null of its own

    def __init__(self, as_text: bool) -> None:
        """Creates an empty column; with `as_text` its type is always text."""
        self.note = self.doubt = ""
        self._type = pa.null()
        self._is_mixed = as_text

    @property
    def type(self) -> pa.DataType:
        """Returns the type that can represent all values; text if there is none."""
        return pa.string() if self._is_mixed else self._type

    def add(self, values: list[Any], row_numbers: Sequence[int], unit: str) -> None:
        """Widens the type for the values, or falls back to text."""
        if self._is_mixed:
            return
        changed = next((row for row, one in enumerate(values) if type(one) is Digits), -1)
        if changed >= 0 and not self.note:
            self.note = f"{values[changed]} in {unit} {row_numbers[changed]:,} would change as a number"
        try:
            _check_keys(values)
            kind = _union(self._type, _infer(values))
            if _leaves(kind) > MOST_COLUMNS:
                raise _KeysError(f"its objects have more than {MOST_COLUMNS:,} different keys")
            self._type = kind
        except _KeysError as error:
            self.note, self._is_mixed = str(error), True
        except _NO_TYPE as error:
            self.note = self.note or self._explain(values, row_numbers, unit, error)
            self._is_mixed = True

    def to_arrow(self, values: list[Any]) -> pa.Array:
        """Returns the values in the column's type; without a common type, as JSON text."""
        if self._is_mixed:
            values = [value if value is None or isinstance(value, str) else to_json(value) for value in values]
        return pa.array(values, self.type)

    def _explain(self, values: list[Any], row_numbers: Sequence[int], unit: str, error: Exception) -> str:
        """Returns which value does not fit the type of the others."""
        kind = self._type
        for value, number in zip(values, row_numbers, strict=True):
            try:
                kind = _union(kind, _infer([value]))
            except _NO_TYPE:
                others = "" if pa.types.is_null(kind) else f", others are {kind}"
                return f"{unit} {number:,} holds {to_json(value)[:_MOST_SHOWN]}{others}"
        return reason(error)


Column: TypeAlias = TextColumn | JsonColumn


class _KeysError(ValueError):
    """Objects have too many keys for a column."""


def _check_keys(values: list[Any]) -> None:
    """Raises _KeysError if objects have keys of their own: Arrow makes a column of each key, with a value for each row.

    Of 3,000 objects with one key each, 80 KB of JSON, these would be 9 million values.
    """
    level = [value for value in values if isinstance(value, dict | list)]
    while level:
        objects = [value for value in level if isinstance(value, dict)]
        cells = len(objects) * len(set().union(*objects))
        if cells > max(_MOST_CELLS, _MOST_CELLS_PER_VALUE * sum(map(len, objects))):
            raise _KeysError("its objects have keys of their own, thousands of them")
        inside = (inner for value in level for inner in (value.values() if isinstance(value, dict) else value))
        level = [inner for inner in inside if isinstance(inner, dict | list)]


def _leaves(kind: pa.DataType) -> int:
    """Returns how many columns of Parquet a type makes."""
    if pa.types.is_nested(kind):
        return sum(_leaves(kind.field(number).type) for number in range(kind.num_fields))
    return 1


def _infer(values: list[Any]) -> pa.DataType:
    """Returns a common type for JSON values.

    Raises:
        pa.ArrowException, OverflowError, ValueError: There is no common type.
    """
    kind = pa.array(values).type
    if _has_empty_struct(kind):
        raise ValueError("Parquet has no objects without keys")
    if _mixes_booleans(kind, values):
        raise ValueError("booleans among numbers")
    return kind


def _mixes_booleans(kind: pa.DataType, values: list[Any]) -> bool:
    """Returns whether booleans are mixed with floats, among which Arrow would convert true to 1.0."""
    if pa.types.is_floating(kind):
        return bool in set(map(type, values))
    if pa.types.is_list(kind):
        return _mixes_booleans(kind.value_type, [one for value in values if value for one in value])
    if pa.types.is_struct(kind):
        return any(_mixes_booleans(field.type, [one.get(field.name) for one in values if one]) for field in kind)
    return False


def _has_empty_struct(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_has_empty_struct(field.type) for field in kind)
    return bool(pa.types.is_list(kind)) and _has_empty_struct(kind.value_type)


def _union(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Returns the type that can represent the values of two types.

    Raises:
        pa.ArrowException: There is no such type.
    """
    schemas = [pa.schema([("value", kind)]) for kind in (one, other)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


class Digits(str):
    """The text of a JSON number that cannot be represented exactly in float64."""


class Written(float):
    """A JSON number with its text, where Python would write the number in another way: 1.10, 1e2."""

    def __new__(cls, text: str) -> Written:
        """Returns the number that a text stands for."""
        made = super().__new__(cls, text)
        made._text = text
        return made

    def __str__(self) -> str:
        """Returns the text."""
        return self._text

    _text: str


class MinusZero(int):
    """The JSON number -0, which Python reads as the integer 0."""

    def __str__(self) -> str:
        """Returns "-0"."""
        return "-0"


def to_json(value: Any) -> str:
    """Returns a value as JSON text, with all digits of its numbers."""
    if isinstance(value, Digits | Written | MinusZero):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(to_json, value))}]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key, ensure_ascii=False)}: {to_json(one)}" for key, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False)
