"""Times training steps: against `keras.Model.fit`, over workers, and what they wait for.

    python benchmarks/training.py --input imdb/train.parquet --rounds 5

Contestants take turns, a few dozen steps each, so that a slow minute of the machine hits all alike; medians of the
rounds are printed as rows/s and as ratios. Each side does everything an epoch does with its rows: ours cuts, pads and
seeds, Keras's `fit` gets one array, padded before the clock starts.

    fit       our loop and `fit`, in one process on two cores
    workers   one process on two cores, and two workers of one core each (no Ray: processes over loopback)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# `python benchmarks/training.py` puts benchmarks/ first on the path, where tokenize.py hides the standard library's.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402

from lstm_ray.collective import rendezvous, tcp  # noqa: E402
from lstm_ray.collective.protocol import Alone, Collective  # noqa: E402
from lstm_ray.config import TrainConfig, resolve  # noqa: E402
from lstm_ray.runtime.tensorflow import start_tensorflow  # noqa: E402
from lstm_ray.text.sequences import pad  # noqa: E402
from lstm_ray.train.data.batches import epoch_order, worker_batches  # noqa: E402
from lstm_ray.train.data.corpus import Corpus, assemble, encode_shard, find_all_shards  # noqa: E402

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
}


def main() -> None:
    """Runs the rounds and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="Parquet with columns `text` and `label`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=64, help="steps of a turn")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--without-fit", action="store_true")
    parser.add_argument("--without-workers", action="store_true")
    parser.add_argument("--json", help="write the figures here")
    arguments = parser.parse_args()
    figures: dict[str, dict[str, list[float]]] = {}
    for network in arguments.networks:
        config = resolve(TrainConfig, {**NETWORKS[network], "train": (arguments.input,), "output": "-"})
        corpus = assemble([encode_shard(shard, config) for shard in find_all_shards(config)], config).training
        share = (config, first_rows(corpus, arguments.steps * config.global_batch_size), arguments.rounds)
        rates: dict[str, list[float]] = {}
        if not arguments.without_workers:
            rates |= compare_workers(*share)
        if not arguments.without_fit:
            rates |= in_a_process(compare_with_fit, *share)
        figures[network] = rates
        report(network, rates, arguments.rounds, arguments.steps)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def first_rows(corpus: Corpus, rows: int) -> Corpus:
    """Returns rows drawn from all of a corpus, so that files sorted by label or length do no harm."""
    chosen = np.random.default_rng(0).permutation(len(corpus))[:rows]
    return Corpus(corpus.sequences.take(chosen), corpus.labels[chosen])


class Loop:
    """Our loop over an epoch's rows, as `train/loop/epochs.py` runs it.

    Attributes:
        waited_s: Seconds of the last epoch spent on preparing batches.
    """

    def __init__(self, config: TrainConfig, corpus: Corpus, group: Collective) -> None:
        from lstm_ray.runtime.tensorflow import has_gpu
        from lstm_ray.train.step.choice import choose_engine, make_stepper

        self.waited_s = 0.0
        config = config.model_copy(update={"engine": choose_engine(config, on_gpu=has_gpu())})
        self._config, self._corpus, self._group = config, corpus, group
        self._stepper = make_stepper(config, group, corpus.labels)
        self._epoch = 0

    def run(self) -> float:
        """Returns the rows/s of the next epoch."""
        self._epoch += 1
        self.waited_s = 0.0
        sums = []
        started = before = time.perf_counter()
        order = epoch_order(self._corpus.sequences.lengths, self._config, self._epoch)
        size, rank, world_size = self._config.global_batch_size, self._group.rank, self._group.world_size
        shares = worker_batches(self._corpus, order, self._config, rank=rank, world_size=world_size, batch_size=size)
        for step, batch in enumerate(shares, 1):
            self.waited_s += time.perf_counter() - before
            self._stepper.reseed(self._config.seed, self._epoch, step, rank)
            sums.append(self._stepper.train(batch))
            before = time.perf_counter()
        np.stack([np.asarray(each) for each in sums])
        return len(self._corpus) / (time.perf_counter() - started)


def compare_with_fit(config: TrainConfig, corpus: Corpus, rounds: int) -> dict[str, list[float]]:
    """Returns the rows/s of our loop and of `fit` by rounds, and the share of our loop that waits for batches."""
    start_tensorflow()
    import keras

    from lstm_ray.model.architectures import build_model

    ours = Loop(config, corpus, Alone())
    model = build_model(config, config, config.seed)
    model.compile(keras.optimizers.Adam(config.learning_rate), "binary_crossentropy", metrics=["accuracy"])
    rows = pad(corpus.sequences, config.max_tokens, config.padding)
    labels = corpus.labels.astype(np.float32)

    def fit() -> float:
        started = time.perf_counter()
        model.fit(rows, labels, batch_size=config.global_batch_size, epochs=1, verbose=0)
        return len(rows) / (time.perf_counter() - started)

    rates: dict[str, list[float]] = {"our loop": [], "keras fit": [], "share waiting for batches": []}
    for number in range(rounds + 1):
        turn = {"our loop": ours.run(), "keras fit": fit()}
        turn["share waiting for batches"] = ours.waited_s * turn["our loop"] / len(rows)
        if number:  # the first compiles
            for name, value in turn.items():
                rates[name].append(value)
    return rates


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


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns a function's result from a new process, because TensorFlow cannot change its number of threads."""
    process, pipe = start(_send_result, function, arguments)
    result = pipe.recv()
    process.join()
    return result


def _send_result(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


def report(network: str, rates: dict[str, list[float]], rounds: int, steps: int) -> None:
    """Prints medians and the medians of the rounds' ratios."""
    print(f"\n{network}: medians of {rounds} rounds of {steps} steps")
    for name, values in rates.items():
        share = name.startswith("share")
        print(f"  {name:28} {statistics.median(values):10{'.2%' if share else ',.0f'}}{'' if share else ' rows/s'}")
    for ours, theirs in (("our loop", "keras fit"), ("2 workers, 1 core each", "1 worker, 2 cores")):
        if ours in rates:
            ratios = [one / other for one, other in zip(rates[ours], rates[theirs], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"  {ours} / {theirs}: {statistics.median(ratios):.2f}x ({spread})")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
