"""Threads for machine code: in order, side by side, or the caller's own."""

import threading

import pytest

from lstm_ray.kernels.threads import Threads


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    assert list(Threads(count, "some").map(lambda item: item * 2, range(50))) == [2 * item for item in range(50)]


def test_a_single_thread_is_the_callers_own() -> None:
    assert set(Threads(1, "some").map(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}


def test_several_threads_work_at_once() -> None:
    everybody = threading.Barrier(2, timeout=60)
    Threads(2, "some").run(lambda _: everybody.wait() and None, range(2))  # alone, the first would wait in vain


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_reaches_the_caller(count: int) -> None:
    def fail(item: int) -> None:
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 7"):
        Threads(count, "some").run(fail, [7])
