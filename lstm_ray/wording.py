"""How things are said to people."""

from __future__ import annotations

import os
import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def reason(error: BaseException) -> str:
    """Returns an exception's message as one line, without Arrow's and Python's prefixes and Keras's colours."""
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror
        if error.errno and error.errno > 0:  # below 0 it is of a name that is not known
            message = os.strerror(error.errno)  # Arrow's own repeats the path
        return message[0].lower() + message[1:]
    return " ".join(_COLOURS.sub("", str(error)).split()) or type(error).__name__


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: 1 file, 2 files."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def not_parquet(path: str, error: BaseException) -> str:
    """Returns why a file is not Parquet; for one with another suffix, what makes Parquet of it."""
    if path.endswith(".parquet"):
        return f"not a Parquet file: {reason(error)}"
    return "not a Parquet file: convert CSV and JSON lines with lstm-ray data convert"
