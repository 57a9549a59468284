"""Threads for machine code, which runs without the GIL; context managers that threads share."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Threads:
    """A pool of threads. A pool of one runs in the calling thread, so that several callers do not wait for each other.

    The threads end with `close`, or when the pool is garbage-collected.

    Attributes:
        count: Number of threads.
    """

    def __init__(self, count: int, name: str) -> None:
        """Creates a pool; `name` is the prefix of the threads' names."""
        self.count = count
        self._pool = ThreadPoolExecutor(count, name) if count > 1 else None

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Returns the results, in the order of the items."""
        return (map if self._pool is None else self._pool.map)(work, items)

    def run(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        """Runs `work` on all items, and returns when all are done."""
        for _ in self.map(work, items):
            pass

    def close(self) -> None:
        """Ends the threads when their work is done. The pool accepts no more work."""
        if self._pool is not None:
            self._pool.shutdown()


def shared(block: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Lets threads share a context manager: the first thread enters it, the last one leaves it.

    Otherwise a second thread would save what the first one has changed, and restore that at the end.
    """
    lock = threading.RLock()  # garbage collection may run `finally` below while this thread holds it
    leave = ExitStack()
    users = 0

    @wraps(block)
    @contextmanager
    def joined() -> Iterator[None]:
        nonlocal users
        with lock:
            if not users:
                leave.enter_context(block())
            users += 1
        try:
            yield
        finally:
            with lock:
                users -= 1
                if not users:
                    leave.close()

    return joined
