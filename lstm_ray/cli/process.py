"""The process of the command line: what Ctrl-C does to it, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from lstm_ray.cli import app

_INTERRUPTED = 130


def main() -> None:
    """Runs the command line as a process of its own.

    The first Ctrl-C interrupts the command, which says how to go on; the next one ends the process at once. An
    interrupted process does not take down Ray and TensorFlow: a thread that still waits for Ray would have Ray end the
    process with an exit code of its own, or crash it. The Ray that it has started ends with it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us has it ignored
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app.main()
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # nobody reads it any more
                    stream.flush()
            _end_at_once()
        raise
    finally:
        # All is done, and there is nothing to interrupt in the seconds that TensorFlow takes to be taken down.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(*_: object) -> NoReturn:
    signal.signal(signal.SIGINT, _end_at_once)
    raise KeyboardInterrupt


def _end_at_once(*_: object) -> NoReturn:
    os._exit(_INTERRUPTED)
