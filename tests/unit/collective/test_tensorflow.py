"""Sums of tensors: equal to the bit on all workers, equal to TCP's but for rounding, and never without a timeout."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Iterator
from signal import SIGKILL, SIGSTOP
from typing import Any

import numpy as np
import pytest
import tensorflow_workers
from tensorflow_workers import Worker, on_all

from lstm_ray.collective.protocol import SparseRows
from lstm_ray.errors import TrainingError, WorkerLostError

Sums = tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]


@pytest.fixture(scope="module", params=[2, 3, pytest.param(4, marks=pytest.mark.second_tier)])
def workers(request: pytest.FixtureRequest) -> Iterator[list[Worker]]:
    """Gives the workers of a group."""
    with tensorflow_workers.group(request.param) as started:
        yield started


def gradients(rank: int, seed: int, size: int, rows: list[int], widths: list[int]) -> tuple[np.ndarray, list[Any]]:
    """Returns dense values, and matrices with distinct ids, different on every rank and of very different sizes."""
    generator = np.random.default_rng([rank, seed])

    def values(*shape: int) -> np.ndarray:
        return (generator.normal(size=shape) * np.exp(generator.normal(0, 4, shape))).astype(np.float32)

    return values(size), [
        SparseRows(generator.permutation(2 * n + 1)[:n].astype(np.int64), values(n, width))
        for n, width in zip(rows, widths, strict=True)
    ]


def add_up(member: Any, seed: int, size: int, rows: list[list[int]], widths: list[int]) -> tuple[Sums, Sums]:
    """Returns the sums by TensorFlow and over TCP, of which `rows` has the numbers of rows of each worker."""
    import tensorflow as tf

    dense, sparse = gradients(member.rank, seed, size, rows[member.rank], widths)
    total, sums = member.all_reduce_tensors(
        tf.constant(dense), [(tf.constant(one.ids), tf.constant(one.values)) for one in sparse]
    )
    expected, expected_rows = member.all_reduce(dense, sparse)
    return (total.numpy(), [(ids.numpy(), values.numpy()) for ids, values in sums]), (
        expected,
        [(one.ids, one.values) for one in expected_rows],
    )


def in_order(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the rows by ascending id."""
    assert len(set(ids.tolist())) == len(ids)
    return values[np.argsort(ids)]


@pytest.mark.parametrize(
    ("size", "rows", "widths"),
    [
        (1000, [[70], [3], [200], [65]], [5]),
        (1000, [[0], [1], [64], [0]], [5]),  # a worker without rows
        (1000, [[0], [0], [0], [0]], [5]),
        (1000, [[500], [500], [500], [500]], [5]),
    ],
    ids=str,
)
def test_sums_are_equal_on_all_workers_and_to_those_of_tcp(
    workers: list[Worker], size: int, rows: list[list[int]], widths: list[int]
) -> None:
    for seed in range(3):
        answers = on_all(workers, add_up, seed, size, rows, widths)
        for (dense, sums), (expected, expected_sums) in answers:
            np.testing.assert_allclose(dense, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
            for found, other in zip(sums, expected_sums, strict=True):
                assert sorted(found[0].tolist()) == sorted(other[0].tolist())
                # Rows are added in the order of ranks, as over TCP.
                assert in_order(*found).tobytes() == in_order(*other).tobytes()
            assert dense.tobytes() == answers[0][0][0].tobytes()
            for found, first in zip(sums, answers[0][0][1], strict=True):
                assert [array.tobytes() for array in found] == [array.tobytes() for array in first]


def test_several_matrices_or_none_and_odd_values() -> None:
    """Matrices of other widths; NaN and infinity without a matrix. Two groups, because a group's calls are alike."""
    rows = [[3, 0], [90, 200]]
    with tensorflow_workers.group(2) as workers:
        for (dense, sums), (expected, expected_sums) in on_all(workers, add_up, 0, 7, rows, [2, 9]):
            np.testing.assert_array_equal(dense, expected)  # two values are added in either order
            for found, other in zip(sums, expected_sums, strict=True):
                np.testing.assert_array_equal(in_order(*found), in_order(*other))
    with tensorflow_workers.group(2) as workers:
        for dense, words in on_all(workers, add_odd_values):
            np.testing.assert_array_equal(dense, [np.nan, np.inf, np.nan, np.float32(2e30)])
            assert words.startswith("TensorFlow's collectives (ring), 1.6e-05 MB a step")


def add_odd_values(member: Any) -> tuple[np.ndarray, str]:
    """Returns the sum of dense values alone, and what the group says of it."""
    import tensorflow as tf

    mine = [[np.nan, np.inf, np.inf, 1e30], [1, 1, -np.inf, 1e30]][member.rank]
    total, sums = member.all_reduce_tensors(tf.constant(mine, tf.float32), [])
    assert sums == []
    return total.numpy(), member.describe()


def add_for_ever(member: Any, leaver: int = -1) -> None:
    """Adds up until that fails; the worker `leaver` leaves the group first."""
    import tensorflow as tf

    dense, ids = tf.ones(100_000), tf.range(300, dtype=tf.int64)
    for step in range(10**9):
        if step == 20 and member.rank == leaver:
            raise SystemExit  # closes the connection, as an error in a step does; TensorFlow's server dies later
        member.all_reduce_tensors(dense, [(ids, tf.ones([300, 8]))])


@pytest.mark.parametrize("fault", ["killed", "leaves", "stopped"])
def test_a_lost_worker_is_noticed(fault: str) -> None:
    timeout_s = 5.0 if fault == "stopped" else 1000.0
    with tensorflow_workers.group(3, timeout_s) as workers:
        for worker in workers:
            worker.start(add_for_ever, 1 if fault == "leaves" else -1)
        time.sleep(1)  # somewhere in the middle of adding up
        if fault != "leaves":
            workers[1].send_signal(SIGKILL if fault == "killed" else SIGSTOP)
        errors = [workers[rank].result() for rank in (0, 2)]
    assert [type(error) for error in errors] == [WorkerLostError, WorkerLostError]
    said = "has not answered for 5 s" if fault == "stopped" else "^worker 1 at 127.0.0.2:[0-9]+ is gone: it closed"
    for error in errors:
        assert re.search(said, str(error)), error


def add_other_sizes(member: Any) -> None:
    """Adds up as many values as no other worker has."""
    import tensorflow as tf

    member.all_reduce_tensors(tf.ones(10 + member.rank), [])


def test_gradients_of_other_networks_are_reported() -> None:
    with tensorflow_workers.group(2) as workers:
        for worker in workers:
            worker.start(add_other_sizes)
        error = workers[1].result()
        assert isinstance(error, TrainingError)
        assert re.search(r"out of step: Shape mismatch .* do all workers run the same code\?$", str(error)), error
        workers[1].end()
        assert isinstance(workers[0].result(), WorkerLostError)


def test_tensorflow_has_the_private_methods_that_are_used() -> None:
    """If this fails, TensorFlow has changed: see what its MultiWorkerMirroredStrategy calls now."""
    from tensorflow.python.eager import context

    expected = {
        "configure_collective_ops": {"collective_leader", "device_filters"},
        "enable_collective_ops": {"server_def"},
        "abort_collective_ops": {"code", "message"},
    }
    for name, parameters in expected.items():
        assert parameters <= set(inspect.signature(getattr(context.Context, name)).parameters), name
    assert isinstance(context.Context.config, property)
