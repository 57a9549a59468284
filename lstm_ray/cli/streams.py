"""The process's standard streams: work does not end because one is closed or lacks a character."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lstm_ray.errors import OutputError
from lstm_ray.wording import reason

_is_stdout_closed = False


def prepare() -> None:
    """Opens closed streams to /dev/null, and escapes characters that a stream's encoding lacks.

    If stdout stayed closed, the next file that is opened would take its number, and get what libraries print.
    """
    global _is_stdout_closed
    _is_stdout_closed = sys.stdout is None
    codecs.register_error("lstm_ray_escape", _escape)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: the one of this stream
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8"))
        stream = getattr(sys, name)
        if name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lstm_ray_escape")


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Replaces what cannot be encoded by \\u00e9, which in a JSON string means the same."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


@contextmanager
def results() -> Iterator[None]:
    """Raises OutputError if a result cannot be written, as to a closed stdout. Typer handles a reader that has gone."""
    if _is_stdout_closed:
        raise OutputError("stdout cannot be written: it is closed")
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  Python writes the rest at its end
        raise OutputError(f"stdout cannot be written: {reason(error)}") from error
