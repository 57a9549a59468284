"""Sums and vectors over TCP: exact, equal to the bit on all workers, and never without a timeout."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_ray.collective import rendezvous
from lstm_ray.collective.protocol import SparseRows, gather_rows
from lstm_ray.collective.rendezvous import address_of, listen
from lstm_ray.collective.tcp import TcpCollective, join
from lstm_ray.errors import TrainingError, WorkerLostError

HOST = "127.0.0.1"
TIMEOUT_S = 60.0


@contextmanager
def group(world_size: int, timeout_s: float = TIMEOUT_S) -> Iterator[list[TcpCollective]]:
    """Yields the members of a group, all in this process."""
    listeners = [listen(HOST) for _ in range(world_size)]
    addresses = [address_of(listener) for listener in listeners]

    def member(rank: int) -> TcpCollective:
        return join(listeners[rank], addresses, rank=rank, token="token", timeout_s=timeout_s)

    with ThreadPoolExecutor(world_size) as pool:
        members = list(pool.map(member, range(world_size)))
    try:
        yield members
    finally:
        for one in members:
            one.close()


def on_all(members: list[TcpCollective], call: Callable[[TcpCollective], Any]) -> list[Any]:
    """Returns the results of a call on every member, made at the same time."""
    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(call, members))


def gradients(rank: int, size: int, rows: int, width: int) -> tuple[np.ndarray, SparseRows]:
    """Returns dense numbers and rows with distinct ids, different on every rank."""
    generator = np.random.default_rng([rank, size, rows])
    ids = generator.permutation(2 * rows + 1)[:rows].astype(np.int64)
    # Of very different sizes, so that another order of adding up gives other bits.
    scale = np.exp(generator.normal(0, 4, (rows, 1)))
    return (
        (generator.normal(size=size) * np.exp(generator.normal(0, 4, size))).astype(np.float32),
        SparseRows(ids, (generator.normal(size=(rows, width)) * scale).astype(np.float32)),
    )


@settings(max_examples=25)
@given(
    world_size=st.integers(1, 5),
    size=st.integers(0, 40),
    rows=st.lists(st.integers(0, 30), min_size=5, max_size=5),
    width=st.integers(1, 4),
)
def test_sums_are_those_in_order_of_ranks_to_the_bit(world_size: int, size: int, rows: list[int], width: int) -> None:
    given = [gradients(rank, size, rows[rank], width) for rank in range(world_size)]
    with group(world_size) as members:
        sums = on_all(members, lambda one: one.all_reduce(given[one.rank][0], [given[one.rank][1]]))
    dense = np.zeros(size, np.float32)
    table = np.zeros((2 * 30 + 1, width), np.float32)
    for numbers, some in given:
        dense += numbers
        table[some.ids] += some.values
    for numbers, (some,) in sums:
        assert numbers.tobytes() == dense.tobytes()
        assert sorted(some.ids.tolist()) == sorted({i for _, r in given for i in r.ids.tolist()})
        found = np.zeros_like(table)
        found[some.ids] = some.values
        assert found.tobytes() == table.tobytes()
        assert some.ids.tobytes() == sums[0][1][0].ids.tobytes()  # in the same order too: what follows is the same


def test_several_matrices_of_other_widths_travel_together() -> None:
    given = [[gradients(rank, 3, 5 + rank, width)[1] for width in (2, 7)] for rank in range(3)]
    with group(3) as members:
        sums = on_all(members, lambda one: one.all_reduce(np.zeros(3, np.float32), given[one.rank]))
    for position, width in enumerate((2, 7)):
        expected = np.zeros((20, width), np.float32)
        for matrices in given:
            expected[matrices[position].ids] += matrices[position].values
        for _, matrices in sums:
            found = np.zeros_like(expected)
            found[matrices[position].ids] = matrices[position].values
            np.testing.assert_array_equal(found, expected)


def test_messages_larger_than_any_buffer_do_not_block_each_other() -> None:
    size = 4_000_000  # 16 MB: no socket holds that
    with group(3) as members:
        sums = on_all(members, lambda one: one.all_reduce(np.full(size, 1.0 + one.rank, np.float32), []))
    for numbers, _ in sums:
        assert numbers.shape == (size,)
        assert (numbers == 6).all()


def test_nan_and_infinity_pass_through() -> None:
    given = [np.array(values, np.float32) for values in ([np.nan, np.inf, np.inf, -0.0], [1, 1, -np.inf, -0.0])]
    rows = SparseRows(np.array([3]), np.array([[np.nan]], np.float32))
    with group(2) as members:
        sums = on_all(members, lambda one: one.all_reduce(given[one.rank], [rows]))
    for dense, (some,) in sums:
        np.testing.assert_array_equal(dense, [np.nan, np.inf, np.nan, -0.0])
        assert np.signbit(dense[3])
        assert np.isnan(some.values).all()


def test_every_worker_receives_the_vectors_of_all_in_float64() -> None:
    with group(3) as members:
        gathered = on_all(members, lambda one: one.all_gather([1 + 2.0**-50, np.nan if one.rank == 1 else one.rank]))
    for vectors in gathered:
        assert vectors.dtype == np.float64
        np.testing.assert_array_equal(vectors, [[1 + 2.0**-50, rank] for rank in (0, np.nan, 2)])


def test_every_worker_receives_the_values_of_rows_that_are_divided_unevenly() -> None:
    with group(3) as members:
        shares = {0: [5, 0], 1: [], 2: [3, 1, 2]}
        found = on_all(
            members, lambda one: gather_rows(one, 7, np.array(shares[one.rank], int), np.array(shares[one.rank]) / 8)
        )
    for values in found:
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, np.array([0, 1, 2, 3, 0, 5, 0]) / 8)


@pytest.mark.parametrize(
    "call",
    [
        lambda one: one.all_gather(np.ones(1 + one.rank)),
        lambda one: one.all_reduce(np.ones(10 + 10 * one.rank, np.float32), []),
    ],
    ids=["vectors of other lengths", "gradients of other networks"],
)
def test_messages_of_other_sizes_are_reported(call: Callable[[TcpCollective], Any]) -> None:
    def fail(one: TcpCollective) -> None:
        with pytest.raises(TrainingError, match=r"is out of step with worker \d: sent \d+ bytes, not \d+"):
            call(one)

    with group(2) as members:
        on_all(members, fail)


@pytest.mark.parametrize("leaver", [0, 1])
def test_a_peer_that_leaves_is_named_at_once(leaver: int) -> None:
    with group(2) as members:
        members[leaver].close()
        started = time.monotonic()
        address = rendezvous.as_text(members[0].addresses[leaver])
        with pytest.raises(WorkerLostError, match=f"^worker {leaver} at {address} is gone: ") as caught:
            members[1 - leaver].all_reduce(np.ones(3, np.float32), [])
    assert time.monotonic() - started < TIMEOUT_S / 2
    assert "\n" not in str(caught.value)


def test_a_silent_peer_is_given_up_after_the_timeout() -> None:
    with group(3, timeout_s=0.5) as members:
        started = time.monotonic()

        def add(one: TcpCollective) -> str:
            if one.rank == 1:
                return ""
            with pytest.raises(WorkerLostError) as caught:
                one.all_gather([1.0])
            return str(caught.value)

        errors = on_all(members, add)
    assert time.monotonic() - started < TIMEOUT_S / 2
    for error in (errors[0], errors[2]):
        assert "worker 1 at 127.0.0.1:" in error
        assert "has not answered for 0.5 s" in error
        assert "--collective-timeout-s" in error


def add_for_ever(rank: int, pipe: Connection) -> None:
    """Joins a group of 2 and adds up until that fails; a process of its own."""
    listener = listen(HOST)
    pipe.send(address_of(listener))
    with closing(join(listener, pipe.recv(), rank=rank, token="token", timeout_s=2.0)) as member:
        pipe.send("joined")
        try:
            while True:
                member.all_reduce(np.ones(300_000, np.float32), [])
        except WorkerLostError as error:
            pipe.send(str(error))


@pytest.mark.parametrize(
    ("fault", "said"),
    [(signal.SIGKILL, "worker 1 at .* is gone: "), (signal.SIGSTOP, "worker 1 at .* has not answered for 2 s")],
    ids=["killed", "stopped"],
)
def test_a_killed_or_stopped_process_is_noticed(fault: signal.Signals, said: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in range(2)]
    workers = [spawn.Process(target=add_for_ever, args=(rank, pipes[rank][1])) for rank in range(2)]
    try:
        for worker in workers:
            worker.start()
        ours = [pipe for pipe, _ in pipes]
        addresses = [pipe.recv() for pipe in ours]
        for pipe in ours:
            pipe.send(addresses)
        assert [pipe.recv() for pipe in ours] == ["joined", "joined"]
        time.sleep(0.2)  # somewhere in the middle of adding up
        os.kill(workers[1].pid or 0, fault)
        assert ours[0].poll(TIMEOUT_S)
        error = ours[0].recv()
        workers[0].join(TIMEOUT_S)
        assert workers[0].exitcode == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    assert re.match(said, error)


def test_what_a_sum_sent_is_described() -> None:
    rows = SparseRows(np.arange(100), np.ones((100, 24), np.float32))
    with group(2) as members:
        on_all(members, lambda one: one.all_reduce(np.ones(1000, np.float32), [rows]))
        # Half of the gradient to its owner, and the sums of the own half back: two times half of 14.4 kB.
        assert [one.describe() for one in members] == 2 * ["TCP, 0.014 MB a step from each worker"]


def test_a_watch_reports_the_first_peer_that_leaves_and_not_this_worker() -> None:
    lost: dict[int, list[str]] = {0: [], 1: [], 2: []}
    with group(3) as members:
        for one in members:
            one.watch(lambda error, rank=one.rank: lost[rank].append(str(error)), lambda: None)  # type: ignore[misc]
        on_all(members, lambda one: one.all_gather([1.0]))
        members[1].close()
        deadline = time.monotonic() + TIMEOUT_S
        while not (lost[0] and lost[2]):
            assert time.monotonic() < deadline
            time.sleep(0.001)
    said = f"worker 1 at {rendezvous.as_text(members[0].addresses[1])} is gone: it closed the connection"
    assert lost == {0: [said], 1: [], 2: [said]}


def test_a_watch_calls_every_second_until_the_group_is_left() -> None:
    calls: list[float] = []
    with group(2) as members:
        members[0].watch(lambda error: None, lambda: calls.append(time.monotonic()))
        time.sleep(2.5)
    assert len(calls) == 2


def test_members_at_different_calls_are_reported() -> None:
    with group(2) as members:
        members[1]._exchanges += 1

        def add(one: TcpCollective) -> None:
            with pytest.raises(TrainingError, match=f"worker {1 - one.rank} at .* is out of step .* at exchange"):
                one.all_gather([1.0])

        on_all(members, add)


def test_strangers_do_not_join() -> None:
    """One disconnects at once, one speaks HTTP, one has another run's token, two have a wrong rank or world size."""
    listeners = [listen(HOST) for _ in range(2)]
    addresses = [address_of(listener) for listener in listeners]
    hello = struct.Struct("!8s64sII")
    greetings = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n" + b"x" * 80,
        hello.pack(rendezvous._PROTOCOL, b"another", 1, 2),
        hello.pack(rendezvous._PROTOCOL, b"token", 0, 2),
        hello.pack(rendezvous._PROTOCOL, b"token", 1, 3),
    ]
    for greeting in greetings:
        with socket.create_connection(addresses[0]) as stranger:
            stranger.sendall(greeting)
    with ThreadPoolExecutor(2) as pool:
        members = list(
            pool.map(lambda r: join(listeners[r], addresses, rank=r, token="token", timeout_s=TIMEOUT_S), range(2))
        )
    assert [numbers.tolist() for numbers in on_all(members, lambda one: one.all_gather([one.rank]))] == 2 * [[[0], [1]]]
    for member in members:
        member.close()


def test_a_worker_that_never_joins_is_named() -> None:
    listeners = [listen(HOST) for _ in range(3)]
    addresses = [address_of(listener) for listener in listeners]
    with closing(listeners[1]), closing(listeners[2]):
        with pytest.raises(WorkerLostError, match=r"^worker 0: worker 1, 2 did not connect within 0\.3 s$"):
            join(listeners[0], addresses, rank=0, token="token", timeout_s=0.3)
        with pytest.raises(WorkerLostError, match=r"^worker 0 at 127\.0\.0\.1:\d+ cannot be reached: "):
            join(listeners[1], addresses, rank=1, token="token", timeout_s=5)
