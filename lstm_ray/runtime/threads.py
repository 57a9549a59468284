"""Threads for machine code, which runs without Python's lock."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Threads:
    """A pool of threads; a single one is the caller's own, so that several callers work side by side.

    The threads end with `close`, or when nothing refers to the pool any more.

    Attributes:
        count: Number of threads.
    """

    def __init__(self, count: int, name: str) -> None:
        """Makes a pool; `name` begins the names of its threads."""
        self.count = count
        self._pool = ThreadPoolExecutor(count, name) if count > 1 else None

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Returns the results in the order of the items."""
        return (map if self._pool is None else self._pool.map)(work, items)

    def run(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        """Returns when all items are done."""
        for _ in self.map(work, items):
            pass

    def close(self) -> None:
        """Ends the threads when their work is done; the pool takes no more."""
        if self._pool is not None:
            self._pool.shutdown()
