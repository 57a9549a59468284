"""The process of the command line: Ctrl-C, and the exit."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from lstm_ray.cli import app

_INTERRUPTED = 130


def main() -> None:
    """Runs the command line as a process.

    The first Ctrl-C interrupts the command, which prints how to resume; the next one ends the process at once. An
    interrupted process does not shut down Ray and TensorFlow: while a thread waits for Ray, the shutdown would crash
    the process, or end it with Ray's exit code. A Ray that this process started ends with it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if our parent process ignores Ctrl-C
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app.main()
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # closed by its reader
                    stream.flush()
            _end_at_once()
        raise
    finally:
        # All work is done: TensorFlow's shutdown, which takes seconds, is not to be interrupted.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(*_: object) -> NoReturn:
    signal.signal(signal.SIGINT, _end_at_once)
    raise KeyboardInterrupt


def _end_at_once(*_: object) -> NoReturn:
    os._exit(_INTERRUPTED)
