"""Writes YAML line by line, because a definition is read and changed by people: comments stay and stand in a column."""

from __future__ import annotations

import json
import re

_COMMENT_COLUMN = 52
# What may stand without quotes: begins like a word or path, and holds nothing that YAML reads as something else.
_PLAIN = re.compile(r"[A-Za-z~./][\w./@+=~-]*((://?|:)[\w./@+=~-]+)?")
_NOT_STRINGS = {"true", "false", "yes", "no", "on", "off", "null", "~", "y", "n"}


def scalar(value: str | int | float | bool) -> str:
    """Returns a value as YAML: `a word`, `"1"`, `1`, `true`."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_STRINGS:
        return value
    return json.dumps(value)  # YAML reads all of JSON


def noted(line: str, comment: str) -> str:
    """Returns a line with its comment, a tab between them; `laid_out` turns it into spaces."""
    return f"{line}\t# {comment}"


def laid_out(text: str) -> str:
    """Returns the text with all comments in one column, but for lines that reach beyond it."""
    lines = []
    for line in text.split("\n"):
        code, tab, comment = line.partition("\t")
        lines.append(f"{code.ljust(_COMMENT_COLUMN)}  {comment}" if tab else code)
    return "\n".join(lines)


def indented(lines: list[str], columns: int) -> list[str]:
    """Returns the lines, moved to the right."""
    return [" " * columns + line if line else line for line in lines]
