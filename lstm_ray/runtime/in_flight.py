"""Runs work in parallel with a bounded number of results in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Future = TypeVar("Future")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Item], start: Callable[[Item], Future], wait: Callable[[Future], Result], *, most: int
) -> Iterator[Result]:
    """Yields the result of each item, in the order of the items.

    Args:
        items: The items, which are consumed as results are consumed.
        start: Starts the work on an item, like a thread pool's `submit`.
        wait: Returns the result of an item, given what `start` returned.
        most: Maximum number of items that are running, or done and not yet consumed.
    """
    started: deque[Future] = deque()
    for item in items:
        if len(started) == most:
            yield wait(started.popleft())
        started.append(start(item))
    while started:
        yield wait(started.popleft())
