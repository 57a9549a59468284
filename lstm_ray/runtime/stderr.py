"""Hides what libraries written in C++ print on stderr."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_replacing = threading.RLock()


@contextmanager
def held_back(shown_on_failure: bool = True) -> Iterator[None]:
    """Holds back what the process writes to stderr inside the block, and by default shows it if the block fails."""
    sys.stderr.flush()
    # Two threads that replaced it in turn would leave it with the first one's file.
    with _replacing, tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        try:  # before stderr is replaced: Ctrl-C must not leave it so
            os.dup2(held.fileno(), 2)
            yield
        except Exception:  # raised again below; not on Ctrl-C, where the output explains nothing
            if shown_on_failure:
                held.seek(0)
                os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
