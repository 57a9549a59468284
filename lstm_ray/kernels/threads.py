"""Threads for machine code, which runs without Python's lock."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Threads:
    """Some threads; a single one is the caller's own, so that callers do not queue up.

    Attributes:
        count: How many.
    """

    def __init__(self, count: int, name: str) -> None:
        """Makes them; `name` begins theirs."""
        self.count = count
        self._pool = ThreadPoolExecutor(count, name) if count > 1 else None

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Returns the results in the order of the items."""
        return (map if self._pool is None else self._pool.map)(work, items)

    def run(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        """Returns when all is done."""
        for _ in self.map(work, items):
            pass
