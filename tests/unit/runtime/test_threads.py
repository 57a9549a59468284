"""Threads for machine code: in order, side by side, or the caller's own; blocks that several threads are in."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lstm_ray.runtime.threads import Threads, shared


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    assert list(Threads(count, "some").map(lambda item: item * 2, range(50))) == [2 * item for item in range(50)]


def test_a_single_thread_is_the_callers_own() -> None:
    assert set(Threads(1, "some").map(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}


def test_several_threads_work_at_once() -> None:
    everybody = threading.Barrier(2, timeout=60)
    Threads(2, "some").run(
        lambda _: everybody.wait() and None, range(2)
    )  # alone, the first would wait until the barrier breaks


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_reaches_the_caller(count: int) -> None:
    def fail(item: int) -> None:
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 7"):
        Threads(count, "some").run(fail, [7])


def names() -> list[str]:
    """Returns the names of all threads of this process."""
    return [thread.name for thread in threading.enumerate()]


def test_threads_end_when_closed() -> None:
    threads = Threads(2, "to-close")
    threads.run(lambda _: None, range(8))
    assert any(name.startswith("to-close") for name in names())
    threads.close()
    assert not any(name.startswith("to-close") for name in names())
    with pytest.raises(RuntimeError):
        threads.run(lambda _: None, range(8))
    Threads(1, "the caller's own").close()


def test_threads_end_when_nothing_refers_to_them() -> None:
    threads = Threads(2, "to-forget")
    threads.run(lambda _: None, range(8))
    running = [thread for thread in threading.enumerate() if thread.name.startswith("to-forget")]
    del threads
    gc.collect()
    for thread in running:
        thread.join(timeout=60)
    assert running
    assert not any(thread.is_alive() for thread in running)


def test_the_first_thread_enters_a_shared_block_and_the_last_one_leaves_it() -> None:
    value = ["before"]

    @shared
    @contextmanager
    def replaced() -> Iterator[None]:
        before, value[0] = value[0], "replaced"
        yield
        value[0] = before

    first_may_end, both_are_in = threading.Event(), threading.Event()

    def first() -> None:
        with replaced():
            both_are_in.set()
            first_may_end.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    assert both_are_in.wait(60)
    with replaced():
        first_may_end.set()
        thread.join(60)
        assert value == ["replaced"], "the second thread is still in the block"
    assert value == ["before"]


def test_a_shared_block_ends_with_an_error_and_may_begin_again() -> None:
    seen: list[str] = []

    @shared
    @contextmanager
    def noted() -> Iterator[None]:
        seen.append("enter")
        try:
            yield
        finally:
            seen.append("leave")

    with pytest.raises(ValueError, match="inside"), noted():
        raise ValueError("inside")
    with noted():
        assert seen == ["enter", "leave", "enter"]
