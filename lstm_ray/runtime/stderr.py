"""Keeps what libraries written in C++ say on stderr from people who did not ask."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back(shown_on_failure: bool = True) -> Iterator[None]:
    """Holds back what the process writes to stderr meanwhile, and shows it if the block fails, unless told not to."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:  # whatever it was, it goes on upwards; on Ctrl-C nobody wants to read this
            if shown_on_failure:
                held.seek(0)
                os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
