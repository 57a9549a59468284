"""The columns of a part: those kept of the input, of one type in all files, and the new ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lstm_ray.config import ScoreConfig
from lstm_ray.errors import ConfigError, InputError
from lstm_ray.score.scorer import WORDS
from lstm_ray.storage.inputs import InputFile
from lstm_ray.wording import no_column, quoted, reason

NEW_COLUMNS = ("sentiment_probability", "sentiment", "sentiment_error")
WORDS_COLUMN = "sentiment_words"
"""Comes after these with `--explain`."""
_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
_OF_CSV = (pa.int64(), pa.float64(), pa.bool_())  # besides strings, what data convert makes of CSV


@dataclass(frozen=True)
class PartLayout:
    """Layout of all parts of a run.

    Attributes:
        schema: Columns of a part, the new ones last.
        kept: Names of the input columns among them.
        text_column: The input column to score.
        words: How many words a row's explanation has; without explanations 0.
        fingerprint: Of the plan: changes if and only if the output could.
        mixed_types: Of each kept column whose type differs between files, its types and a file with each, for messages.
    """

    schema: pa.Schema
    kept: list[str]
    text_column: str
    words: int
    fingerprint: str
    mixed_types: dict[str, str]


def part_schema(schemas: Mapping[pa.Schema, InputFile], config: ScoreConfig) -> tuple[pa.Schema, list[str]]:
    """Returns the columns of a part, and the names of those that are kept of the input.

    Args:
        schemas: The distinct schemas of the input files, each with the first file that has it.
        config: Which columns to keep, and the prefix of the new ones.

    Raises:
        InputError: A column's types in several files have no type in common.
        ConfigError: A column to keep is in no file, or a new column's name is taken.
    """
    kept = _kept_names(schemas, config)
    unified = _unify(schemas, kept)
    named_value = pa.dictionary(pa.int8(), pa.string())
    types = dict(zip(NEW_COLUMNS, (pa.float32(), named_value, named_value), strict=True))
    if config.explain:
        types[WORDS_COLUMN] = WORDS
    new = [pa.field(name, kind) for name, kind in zip(new_columns(config), types.values(), strict=True)]
    if taken := [field.name for field in new if field.name in kept]:
        raise ConfigError(f"the input already has a column {taken[0]!r}: give the new columns a --prefix, e.g. new_")
    return pa.schema([*(unified.field(name) for name in kept), *new]), kept


def new_columns(config: ScoreConfig) -> list[str]:
    """Returns the names of the new columns."""
    return [config.prefix + name for name in (*NEW_COLUMNS, *([WORDS_COLUMN] if config.explain else []))]


def kept_by(config: ScoreConfig) -> list[str] | None:
    """Returns the columns that `--keep-columns` names; None for all."""
    return None if config.keep_columns == ("all",) else list(dict.fromkeys(config.keep_columns))


def _kept_names(schemas: Collection[pa.Schema], config: ScoreConfig) -> list[str]:
    names = list(dict.fromkeys(name for schema in schemas for name in schema.names))
    kept = kept_by(config)
    if kept is None:
        return names
    if unknown := [name for name in kept if name not in names]:
        raise ConfigError(f"the input has {no_column(unknown[0], names, '--keep-columns', kept)}")
    return kept


def _unify(schemas: Mapping[pa.Schema, InputFile], kept: Sequence[str]) -> pa.Schema:
    """Returns the kept columns of all files, each with a type that can represent all of their values."""
    unified = pa.schema([])
    for schema, file in schemas.items():
        names = set(schema.names)
        fields = [_without_encoding(schema.field(name), schemas) for name in kept if name in names]
        try:
            unified = pa.unify_schemas([unified, pa.schema(fields)], promote_options="permissive")
        except pa.ArrowException as error:
            clash = next(field for field in fields if not _fits(field, unified))
            raise InputError(_clash(clash, file, schemas, unified)) from error
    return unified


def _fits(column: pa.Field, unified: pa.Schema) -> bool:
    """Returns whether a column's type and that of the files before have a type in common."""
    if not unified.get_all_field_indices(column.name):
        return True
    try:
        pa.unify_schemas([pa.schema([unified.field(column.name)]), pa.schema([column])], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def _clash(column: pa.Field, file: InputFile, schemas: Mapping[pa.Schema, InputFile], unified: pa.Schema) -> str:
    """Returns a message about a column of one file, whose type does not fit that of the files before it, `unified`."""
    name, kind = column.name, column.type
    pairs = (
        (other.path, schema.field(name).type)
        for schema, other in schemas.items()
        if name in schema.names and not _fits(column, pa.schema([_without_encoding(schema.field(name), schemas)]))
    )
    other, there = next(pairs, ("the files before it", unified.field(name).type))
    remedy = f"write both with one type, or leave {name!r} out with --keep-columns"
    kinds = {kind: file.path, there: other}
    if pa.string() in kinds and (numbers := next((path for one, path in kinds.items() if one in _OF_CSV), None)):
        remedy += f"; if {numbers} was CSV, `lstm-ray data convert` keeps it text with {quoted('--as-text', name)}"
    return f"{file.path}: column {name!r} is {kind} here and {there} in {other}: {remedy}"


def _without_encoding(column: pa.Field, schemas: Collection[pa.Schema]) -> pa.Field:
    """Returns a column that is dictionary-encoded or of views as its values, unless it has one type in every file."""
    plain = column.type.value_type if pa.types.is_dictionary(column.type) else _VIEWS.get(column.type)
    if plain is None:
        return column
    present = (schema for schema in schemas if schema.get_all_field_indices(column.name))
    is_alike = all(schema.field(column.name).type == column.type for schema in present)
    return column if is_alike else column.with_type(plain)


def mixed_types(schemas: Mapping[pa.Schema, InputFile], kept: Sequence[str]) -> dict[str, str]:
    """Returns, for each column with several types, all of them: {"id": "int64 in a.parquet, double in b.parquet"}."""
    found: dict[str, dict[pa.DataType, str]] = {}
    wanted = set(kept)
    for schema, file in schemas.items():
        for name in wanted.intersection(schema.names):
            found.setdefault(name, {}).setdefault(schema.field(name).type, file.path)
    return {
        name: ", ".join(f"{kind} in {path}" for kind, path in types.items())
        for name, types in found.items()
        if len(types) > 1
    }


def kept_columns(table: pa.Table, layout: PartLayout, path: str) -> list[Any]:
    """Returns the kept columns of some rows, converted to the parts' types; null if the file lacks a column.

    Args:
        table: Rows of an input file.
        layout: Names and types of the kept columns.
        path: The file, for messages.

    Raises:
        InputError: A value does not fit the type that the column has in the parts: the integer 2**53 + 1, or a decimal
            of 20 digits, where the column is double in another file.
    """
    columns = []
    present = set(table.column_names)  # of 5,000 columns, listing them for each took half a minute
    for name in layout.kept:
        kind = layout.schema.field(name).type
        if name not in present:
            columns.append(pa.nulls(table.num_rows, kind))
            continue
        column = table[name]
        try:
            columns.append(column if column.type == kind else _widened(column, kind))
        except pa.ArrowException as error:
            raise InputError(
                f"{path}: column {name!r} is {column.type} here and {kind} in the parts, which must hold all files "
                f"({layout.mixed_types[name]}), and a value does not fit: {reason(error)}; write the files with one "
                "type, or leave the column out with --keep-columns"
            ) from error
    return columns


def _widened(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Returns a column in a wider type.

    Raises:
        pa.ArrowException: A value would change. Arrow itself silently rounds a decimal to a double.
    """
    widened = column.cast(kind)
    if _has_decimal(column.type) and not _has_decimal(kind) and widened.cast(column.type) != column:
        raise pa.ArrowInvalid(f"a {column.type} has more digits than a {kind}")
    return widened


def _has_decimal(kind: pa.DataType) -> bool:
    nested = pa.types.is_nested(kind) and [kind.field(number).type for number in range(kind.num_fields)]
    return any(map(_has_decimal, nested)) if nested else bool(pa.types.is_decimal(kind))
