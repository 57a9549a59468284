"""Times training steps: against PyTorch and `keras.Model.fit`, over workers, and against the processor's own limit.

    python -m benchmarks.training --input imdb/train.parquet --rounds 5

Contestants take turns, a few dozen steps each, so that a slow minute of the machine hits all alike; medians of the
rounds are printed as rows/s and as ratios. Our side does everything an epoch does with its rows: it cuts, pads and
seeds. Keras's `fit` gets one array, padded before the clock starts, and PyTorch its batches: of a masked network's rows
the same as ours, of similar lengths.

    steps     our loop, PyTorch, `fit` and a matrix product, each in a process of its own
    workers   one process on two cores, and two workers of one core each (no Ray: processes over loopback)

The limit is the speed of a large float32 product, divided by the arithmetic of a step's products (`Network.flops`).
`--threads 1 --cpu-time` divides by the processor time of each contestant instead of the time on the clock. On a busy
machine only that means something.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, fields
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS as SHAPES
from benchmarks.networks import Network
from lstm_ray.collective import rendezvous, tcp
from lstm_ray.collective.protocol import Alone, Collective
from lstm_ray.config import TrainConfig, resolve
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.sequences import pad
from lstm_ray.train.data.batches import epoch_steps, worker_batches
from lstm_ray.train.data.corpus import Corpus, assemble, encode_shard, find_all_shards

NETWORKS: dict[str, dict[str, Any]] = {
    "lstm": {"preset": "lstm"},
    "bilstm": {"preset": "bilstm"},
    "masked bilstm, 400 tokens": {
        "preset": "none",
        "mask": True,
        "bidirectional": True,
        "pooling": "max",
        "max_tokens": 400,
        "units": 64,
    },
    # Without what `best` adds beside the steps: word vectors, n-grams, averages.
    "default": {"preset": "none", **asdict(SHAPES["default"])},
    "300 numbers a word, 512 units": {
        "preset": "none",
        "mask": True,
        "padding": "post",
        "bidirectional": True,
        "pooling": "max",
        "max_tokens": 400,
        "embedding_size": 300,
        "units": 512,
        "embedding_dropout": 0.5,
    },
}
MATRIX_SIZE = 1536
POOL = 32  # batches, as in lstm_ray/train/data/batches.py


def main() -> None:
    """Runs the rounds and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="Parquet with columns `text` and `label`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=64, help="steps of a turn")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--contestants", nargs="*", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--threads", type=int, default=2, help="of each contestant")
    parser.add_argument("--cpu-time", action="store_true", help="divide by the processor's time, not the clock's")
    parser.add_argument(
        "--pytorch-ways", nargs="*", default=[], help='such as "padded, dense"; by default all are tried'
    )
    parser.add_argument("--without-workers", action="store_true")
    parser.add_argument("--json", help="write the figures here")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # for the processes that are started below
    figures: dict[str, dict[str, list[float]]] = {}
    for network in arguments.networks:
        config = resolve(TrainConfig, {**NETWORKS[network], "train": (arguments.input,), "output": "-"})
        corpus = assemble([encode_shard(shard, config) for shard in find_all_shards(config)], config).training
        corpus = some_batches(corpus, config, arguments.steps)
        print(f"\n{network}: medians of {arguments.rounds} rounds of {arguments.steps} steps", flush=True)
        rates: dict[str, list[float]] = {}
        if not arguments.without_workers:
            rates |= compare_workers(config, corpus, arguments.rounds)
        if arguments.contestants:
            contestants = {name: CONTESTANTS[name] for name in arguments.contestants}
            if "pytorch" in contestants:
                contestants["pytorch"] = partial(pytorch, named=arguments.pytorch_ways)
            rates |= compete(config, corpus, contestants, arguments.rounds, arguments.threads, arguments.cpu_time)
        figures[network] = rates
        report(rates, flops_of_row(config, corpus))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def some_batches(corpus: Corpus, config: TrainConfig, steps: int) -> Corpus:
    """Returns the rows of some steps, drawn from all of a corpus, so that files sorted by label or length do no harm.

    A masked network's batches are as alike in length as in a whole epoch: they are some of a pool's. Few rows that are
    sorted by themselves would have more padding, which PyTorch computes and our engine does not.
    """
    size = config.global_batch_size
    chosen = np.random.default_rng(0).permutation(len(corpus))[: max(steps, POOL if config.mask else 0) * size]
    if config.mask and steps < POOL:
        batches = chosen[np.argsort(corpus.sequences.lengths[chosen], kind="stable")].reshape(-1, size)
        chosen = batches[np.linspace(0, len(batches) - 1, steps + 2).round().astype(int)[1:-1]].ravel()
    return Corpus(corpus.sequences.take(chosen), corpus.labels[chosen])


class Loop:
    """Our loop over an epoch's rows, as `train/loop/epochs.py` runs it."""

    def __init__(self, config: TrainConfig, corpus: Corpus, group: Collective) -> None:
        from lstm_ray.runtime.tensorflow import has_gpu
        from lstm_ray.train.step.choice import choose_engine, make_stepper

        config = config.model_copy(update={"engine": choose_engine(config, on_gpu=has_gpu())})
        self._config, self._corpus, self._group = config, corpus, group
        self._stepper = make_stepper(config, group, corpus.labels)
        self._epoch = 0

    def run(self) -> float:
        """Returns the rows/s of the next epoch."""
        self._epoch += 1
        sums = []
        started = time.perf_counter()
        steps = epoch_steps(self._corpus.sequences.lengths, self._config, self._epoch)
        rank, world_size = self._group.rank, self._group.world_size
        shares = worker_batches(self._corpus, steps, self._config, rank=rank, world_size=world_size)
        for step, batch in enumerate(shares, 1):
            self._stepper.reseed(self._config.seed, self._epoch, step, rank)
            sums.append(self._stepper.train(batch))
        np.stack([np.asarray(each) for each in sums])
        return len(self._corpus) / (time.perf_counter() - started)


Turn = Callable[[], float]
"""Trains on all rows once; returns how many they are (a matrix product: its arithmetic)."""


def compete(
    config: TrainConfig,
    corpus: Corpus,
    contestants: Mapping[str, Callable[..., tuple[str, Turn]]],
    rounds: int,
    threads: int,
    cpu_time: bool,
) -> dict[str, list[float]]:
    """Returns the rows/s of each contestant by rounds; of the matrix product, operations/s."""
    pipes = {}
    for name, prepare in contestants.items():
        pipes[name] = start(take_turns, prepare, config, corpus, threads)
        note = pipes[name][1].recv()
        print(f"  {name} is ready{note and ': ' + note}", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, (_, pipe) in pipes.items():
            pipe.send(True)
            done, elapsed_s, cpu_s = pipe.recv()
            if number:  # the first compiles
                rates[name].append(done / (cpu_s if cpu_time else elapsed_s))
    for process, pipe in pipes.values():
        pipe.send(False)
        process.join()
    return rates


def take_turns(pipe: Connection, prepare: Callable[..., tuple[str, Turn]], *arguments: Any) -> None:
    """Takes turns for as long as the other end of the pipe wants one more; a process of its own."""
    note, turn = prepare(*arguments)
    pipe.send(note)
    while pipe.recv():
        started, cpu_started = time.perf_counter(), time.process_time()
        done = turn()
        pipe.send((done, time.perf_counter() - started, time.process_time() - cpu_started))


def our_loop(config: TrainConfig, corpus: Corpus, threads: int) -> tuple[str, Turn]:
    """Our loop."""
    start_tensorflow(threads)
    ours = Loop(config, corpus, Alone())

    def turn() -> float:
        ours.run()
        return len(corpus)

    return "", turn


def keras_fit(config: TrainConfig, corpus: Corpus, threads: int) -> tuple[str, Turn]:
    """`keras.Model.fit`."""
    start_tensorflow(threads)
    import keras

    from lstm_ray.model.architectures import build_model

    model = build_model(config, config, config.seed)
    model.compile(keras.optimizers.Adam(config.learning_rate), "binary_crossentropy", metrics=["accuracy"])
    rows = pad(corpus.sequences, config.max_tokens, config.padding)
    labels = corpus.labels.astype(np.float32)

    def turn() -> float:
        model.fit(rows, labels, batch_size=config.global_batch_size, epochs=1, verbose=0)
        return len(rows)

    return "", turn


def pytorch(config: TrainConfig, corpus: Corpus, threads: int, named: Sequence[str] = ()) -> tuple[str, Turn]:
    """PyTorch's LSTM, in whichever way is fastest (benchmarks/torch_lstm.py), by the processor's time."""
    import torch

    from benchmarks.torch_lstm import TorchTrainer, ways

    torch.set_num_threads(threads)
    network = network_of(config)
    steps = epoch_steps(corpus.sequences.lengths, config, 1)
    settings = config.model_copy(update={"padding": "post"}) if config.mask else config
    batches = []
    for batch in worker_batches(corpus, steps, settings, rank=0, world_size=1):
        longest = int((batch.token_ids != 0).sum(1).max()) if config.mask else config.max_tokens
        batches.append((np.ascontiguousarray(batch.token_ids[:, :longest]), batch.labels))

    def seconds(trainer: TorchTrainer) -> float:
        few = batches[: max(2, len(batches) // 8)]
        trainer.train(*few[0])
        started = time.process_time()
        for batch in few:
            trainer.train(*batch)
        return time.process_time() - started

    trainers = [TorchTrainer(network, way) for way in ways(network) if not named or str(way) in named]
    found = {trainer: seconds(trainer) for trainer in trainers}
    fastest = min(found, key=lambda trainer: found[trainer])
    note = ", ".join(f"{trainer.way} {found[trainer] / found[fastest]:.2f}" for trainer in trainers)

    def turn() -> float:
        for batch in batches:
            fastest.train(*batch)
        return len(corpus)

    return f"{fastest.way} (times of all ways: {note})", turn


def matrix_product(_: TrainConfig, __: Corpus, threads: int) -> tuple[str, Turn]:
    """A large float32 product, TensorFlow's: NumPy's is slower."""
    start_tensorflow(threads)
    import tensorflow as tf

    matrix = tf.random.normal((MATRIX_SIZE, MATRIX_SIZE))

    def turn() -> float:
        for _ in range(10):
            tf.matmul(matrix, matrix).numpy()
        return 10 * 2 * MATRIX_SIZE**3

    return "", turn


CONTESTANTS: dict[str, Callable[..., tuple[str, Turn]]] = {
    "our loop": our_loop,
    "pytorch": pytorch,
    "keras fit": keras_fit,
    "matmul": matrix_product,
}


def network_of(config: TrainConfig) -> Network:
    """Returns what PyTorch has to know of a run's settings."""
    return Network(**{field.name: getattr(config, field.name) for field in fields(Network)})


def flops_of_row(config: TrainConfig, corpus: Corpus) -> float:
    """Returns the arithmetic of a row's products: of all its tokens, and if they are not masked of its padding."""
    return network_of(config).flops(float(corpus.sequences.lengths.mean()) if config.mask else config.max_tokens)


def compare_workers(config: TrainConfig, corpus: Corpus, rounds: int) -> dict[str, list[float]]:
    """Returns the rows/s, by rounds, of one worker with both cores and of two with one core each."""
    one = [start(work, config, corpus, [0, 1])]
    two = [start(work, config, corpus, [core]) for core in (0, 1)]
    rates: dict[str, list[float]] = {"1 worker, 2 cores": [], "2 workers, 1 core each": []}
    for pipes in (one, two):
        addresses = [pipe.recv() for _, pipe in pipes]
        for rank, (_, pipe) in enumerate(pipes):
            pipe.send((addresses, rank))
    for number in range(rounds + 1):
        for name, pipes in zip(rates, (one, two), strict=True):
            for _, pipe in pipes:
                pipe.send(True)
            speed = min(pipe.recv() for _, pipe in pipes)
            if number:  # the first compiles
                rates[name].append(speed)
    for process, pipe in (*one, *two):
        pipe.send(False)
        process.join()
    return rates


def work(pipe: Connection, config: TrainConfig, corpus: Corpus, cores: list[int]) -> None:
    """Runs epochs on some cores as long as the other end of the pipe asks for one more; a process of its own."""
    os.sched_setaffinity(0, cores)
    start_tensorflow(threads=len(cores))
    listener = rendezvous.listen("127.0.0.1")
    pipe.send(rendezvous.address_of(listener))
    addresses, rank = pipe.recv()
    with closing(tcp.join(listener, addresses, rank=rank, token="benchmark", timeout_s=300)) as group:
        ours = Loop(config, corpus, group)
        while pipe.recv():
            pipe.send(ours.run())


def start(target: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    """Starts a fresh process and returns it, with a pipe to it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    return process, ours


def report(rates: dict[str, list[float]], flops: float) -> None:
    """Prints medians and the medians of the rounds' ratios; `flops` is the arithmetic of a row."""
    for name, values in rates.items():
        scale, unit = (1e9, "GFLOP/s") if name == "matmul" else (1, "rows/s")
        print(f"  {name:28} {statistics.median(values) / scale:10,.0f} {unit}")
    pairs = [("our loop", "pytorch"), ("our loop", "keras fit"), ("2 workers, 1 core each", "1 worker, 2 cores")]
    for ours, theirs in pairs:
        if ours in rates and theirs in rates:
            print(f"  {ours} / {theirs}: {_ratios(rates[ours], rates[theirs], '{:.2f}')}")
    if "our loop" in rates and "matmul" in rates:
        limit = [rate / flops for rate in rates["matmul"]]
        shares = _ratios(rates["our loop"], limit, "{:.0%}")
        print(f"  our loop / limit of {statistics.median(limit):,.0f} rows/s: {shares}")
    sys.stdout.flush()


def _ratios(ours: list[float], theirs: list[float], shown: str) -> str:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    median, least, most = (shown.format(each) for each in (statistics.median(ratios), min(ratios), max(ratios)))
    return f"{median} ({least} to {most})"


if __name__ == "__main__":
    main()
