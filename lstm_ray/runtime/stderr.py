"""Hides what C++ libraries print on stderr."""

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
    """Suppresses the process's stderr inside the block, and by default prints it if the block fails."""
    sys.stderr.flush()
    # With two threads at once, the second would restore the first one's file.
    with _replacing, tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        try:  # starts before stderr is replaced, so that Ctrl-C cannot prevent the restore
            os.dup2(held.fileno(), 2)
            yield
        except Exception:  # re-raised below; not on Ctrl-C, where the output explains nothing
            if shown_on_failure:
                held.seek(0)
                os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
