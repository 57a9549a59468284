"""Compares what sums gradients over two workers on CPUs: TCP, and TensorFlow's collectives (a ring).

    python benchmarks/collectives.py [--rounds 15]

Two processes of this machine take turns with both, for gradients of several sizes: dense values alone, and the rows of
an embedding beside them. Tensors begin and end on the device, as in the Keras engine, so that TCP's times include the
copies to NumPy and back; on a CPU these are cheap. In ms: the median and the fastest round, and the median of worker
0's CPU time, which other work on the machine disturbs less. Ratios above 1: TensorFlow takes longer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import numpy as np

from lstm_ray.collective import tcp
from lstm_ray.collective.protocol import SparseRows
from lstm_ray.collective.rendezvous import address_of, listen
from lstm_ray.runtime.tensorflow import start_tensorflow

Times: TypeAlias = tuple[float, float]
"""Seconds, and seconds of CPU time of all threads."""

WORKERS = 2
WIDTH = 128


@dataclass(frozen=True)
class Case:
    """A gradient.

    Attributes:
        name: What it stands for.
        dense: Number of dense values.
        words: Number of rows of the embedding, of 128 values each, on a worker.
        vocabulary: Number of rows of which these are drawn.
    """

    name: str
    dense: int
    words: int
    vocabulary: int


CASES = (
    Case("0.3 MB dense", 75_000, 0, 0),
    Case("10 MB dense", 2_500_000, 0, 0),
    Case("100 MB dense", 25_000_000, 0, 0),
    Case("lstm preset: 0.5 MB dense, 500 words (0.3 MB)", 131_713, 500, 20_000),
    Case("the same, the whole embedding dense: 10.8 MB", 131_713 + 20_000 * WIDTH, 0, 0),
    Case("0.5 MB dense, 5,000 words (2.6 MB)", 131_713, 5_000, 100_000),
)


def main() -> None:
    """Runs the rounds of each case in new processes, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    columns = "".join(f"{f'{name}: TCP':>14}{'TensorFlow':>12}{'ratio':>7}" for name in ("median", "fastest", "CPU"))
    print(f"{'gradient of each worker':46}{columns}", flush=True)
    for case in CASES:
        over_tcp, by_tensorflow = zip(*measure(case, rounds), strict=True)
        line = ""
        for part, middle in ((0, statistics.median), (0, min), (1, statistics.median)):
            one, other = (1e3 * middle(times[part] for times in all_) for all_ in (over_tcp, by_tensorflow))
            line += f"{one:14.2f}{other:12.2f}{other / one:7.2f}"
        print(f"{case.name:46}{line}", flush=True)


def measure(case: Case, rounds: int) -> list[tuple[Times, Times]]:
    """Returns the times of both in each round, on worker 0."""
    spawn = multiprocessing.get_context("spawn")  # TensorFlow's collectives are set up once in a process
    pipes = [spawn.Pipe() for _ in range(WORKERS)]
    workers = [
        spawn.Process(target=take_turns, args=(rank, case, rounds, pipe)) for rank, (_, pipe) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    addresses = [pipe.recv() for pipe, _ in pipes]
    for pipe, _ in pipes:
        pipe.send(addresses)
    results: list[list[tuple[tuple[float, float], tuple[float, float]]]] = [pipe.recv() for pipe, _ in pipes]
    for worker in workers:
        worker.join()
    return results[0]


def take_turns(rank: int, case: Case, rounds: int, pipe: Connection) -> None:
    """Joins the group and sums the same gradient by both in turn; a process of its own."""
    listener = listen("127.0.0.1")
    pipe.send(address_of(listener))
    addresses = pipe.recv()
    start_tensorflow(threads=1)
    import tensorflow as tf

    from lstm_ray.collective.tensorflow import connect

    with closing(tcp.join(listener, addresses, rank=rank, token="benchmark", timeout_s=600)) as group:
        member = connect(group, on_gpus=False)
        generator = np.random.default_rng([rank, case.dense])
        dense = tf.constant(generator.normal(size=case.dense).astype(np.float32))
        ids = generator.choice(case.vocabulary or 1, case.words, replace=False).astype(np.int64)
        rows = tf.constant(generator.normal(size=(case.words, WIDTH)).astype(np.float32))
        tables = [(tf.constant(ids), rows)] if case.words else []

        def over_tcp() -> Any:
            total, sums = group.all_reduce(dense.numpy(), [SparseRows(i.numpy(), r.numpy()) for i, r in tables])
            return tf.constant(total), [(tf.constant(one.ids), tf.constant(one.values)) for one in sums]

        def by_tensorflow() -> Any:
            return member.all_reduce_tensors(dense, tables)

        for call in (over_tcp, by_tensorflow, by_tensorflow):  # traced, connected, retraced
            call()
        rounds_done = []
        for number in range(rounds):
            both = {}
            for call in (over_tcp, by_tensorflow) if number % 2 == 0 else (by_tensorflow, over_tcp):
                group.all_gather([])  # both begin together
                begun = time.perf_counter(), time.process_time()
                call()
                both[call] = (time.perf_counter() - begun[0], time.process_time() - begun[1])
            rounds_done.append((both[over_tcp], both[by_tensorflow]))
        group.all_gather([])
        pipe.send(rounds_done)


if __name__ == "__main__":
    main()
