"""Results come in order, with a bounded number of tasks in flight."""

from __future__ import annotations

import pytest

from lstm_ray.runtime.in_flight import in_order


@pytest.mark.parametrize(("items", "most"), [(0, 3), (1, 3), (3, 3), (10, 3), (5, 1)])
def test_results_come_in_order_with_a_bounded_number_in_flight(items: int, most: int) -> None:
    in_flight: list[int] = []
    largest = 0

    def start(item: int) -> int:
        nonlocal largest
        in_flight.append(item)
        largest = max(largest, len(in_flight))
        return item

    def wait(item: int) -> int:
        in_flight.remove(item)
        return item * item

    assert list(in_order(range(items), start, wait, most=most)) == [item * item for item in range(items)]
    assert largest == min(items, most)


def test_items_are_started_ahead_of_the_one_that_is_awaited() -> None:
    started: list[int] = []
    results = in_order(range(9), lambda item: started.append(item) or item, lambda item: item, most=4)
    assert next(results) == 0
    assert started == [0, 1, 2, 3]
    assert next(results) == 1
    assert started == [0, 1, 2, 3, 4]
