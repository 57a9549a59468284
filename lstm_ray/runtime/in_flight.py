"""Runs work in parallel with a bounded number of results in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from lstm_ray.runtime.devices import available_cores

Item = TypeVar("Item")
Started = TypeVar("Started")
Result = TypeVar("Result")

_ITEMS_PER_CORE = 2  # running or waiting: enough to keep the cores busy, few enough for memory


def in_order(
    items: Iterable[Item], start: Callable[[Item], Started], wait: Callable[[Started], Result], *, most: int
) -> Iterator[Result]:
    """Yields the result of each item, in the order of the items.

    Args:
        items: The items, which are consumed as results are consumed.
        start: Starts the work on an item, like a thread pool's `submit`.
        wait: Returns the result of an item, given what `start` returned.
        most: Maximum number of items that are running, or done and not yet consumed.
    """
    started: deque[Started] = deque()
    for item in items:
        if len(started) == most:
            yield wait(started.popleft())
        started.append(start(item))
    while started:
        yield wait(started.popleft())


def on_all_cores(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields the result of each item, in order, computed by threads: Arrow and NumPy release the GIL."""
    cores = available_cores()
    pool = ThreadPoolExecutor(cores, "on-all-cores")
    try:
        yield from in_order(items, lambda item: pool.submit(work, item), Future.result, most=_ITEMS_PER_CORE * cores)
    finally:
        pool.shutdown(cancel_futures=True)
