"""The process of the command line: Ctrl-C, SIGTERM, and the exit."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from lstm_ray.cli import app, streams

_INTERRUPTED = 130  # Typer's code after a KeyboardInterrupt


def main() -> None:
    """Runs the command line as a process.

    The first Ctrl-C or SIGTERM (which spot machines, Slurm, Kubernetes and `jobs stop` send) interrupts the command,
    which saves its work and prints how to resume; the second ends the process at once. An interrupted process does not
    shut down Ray and TensorFlow: while a thread waits for Ray, the shutdown would crash the process, or end it with
    Ray's exit code. A Ray that this process started ends with it.
    """
    streams.prepare()
    received: list[int] = []

    def interrupt(number: int, _: object) -> NoReturn:
        received.append(number)
        for each in handled:
            signal.signal(each, _end_at_once)
        raise KeyboardInterrupt

    # Signals that the parent process ignores stay ignored: with nohup, or in a shell's background job.
    defaults = (signal.default_int_handler, signal.SIG_DFL)
    handled = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) in defaults]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        app.main()
    except (SystemExit, KeyboardInterrupt) as ended:  # KeyboardInterrupt: before or after Typer runs
        if received and (isinstance(ended, KeyboardInterrupt) or ended.code == _INTERRUPTED):
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # the reader has closed it
                    stream.flush()
            _end_at_once(received[0])
        raise
    finally:
        # All work is done: do not interrupt TensorFlow's shutdown, which takes seconds.
        for number in handled:
            signal.signal(number, signal.SIG_IGN)


def _end_at_once(number: int, _: object = None) -> NoReturn:
    os._exit(128 + number)  # the exit code that shells report for a signal
