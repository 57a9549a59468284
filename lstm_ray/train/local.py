"""Training in this process: no Ray, nothing to start, nothing to wait for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from lstm_ray.collective.protocol import Alone, Collective
from lstm_ray.config import TrainConfig
from lstm_ray.datasets.labelled import Shard
from lstm_ray.progress import Progress, Watcher
from lstm_ray.runtime.devices import available_cores
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.data.corpus import EncodedShard, Prepared, encode_shard
from lstm_ray.train.loop.state import State


class LocalWorkers:
    """The one worker that this process is."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def encode_all(self, shards: Sequence[Shard], config: TrainConfig) -> Iterable[EncodedShard]:
        """Encodes shards on all cores: Arrow and numpy let go of Python's lock."""
        with ThreadPoolExecutor(available_cores()) as pool:
            return list(pool.map(encode_shard, shards, [config] * len(shards)))

    def run(self, config: TrainConfig, prepared: Prepared) -> State:
        """Trains to the end."""
        self._watcher.say("starting TensorFlow")
        start_tensorflow()
        from lstm_ray.train.loop import epochs

        with interrupts_counted() as interrupted:
            return epochs.run(config, prepared, LocalContext(self._watcher, interrupted))


class LocalContext:
    """A world of one worker."""

    rank = 0
    world_size = 1

    def __init__(self, watcher: Watcher, interrupted: threading.Event) -> None:
        self.collective: Collective = Alone()
        self._watcher = watcher
        self._interrupted = interrupted

    def begin(self, state: State) -> None:
        """Says nothing: who began the run in this process knows."""

    def progress(self, progress: Progress) -> None:
        """Passes it on."""
        self._watcher.progress(progress)

    def epoch(self, row: dict[str, Any]) -> None:
        """Passes it on."""
        self._watcher.epoch(row)

    def is_interrupted(self) -> bool:
        """Says whether Ctrl-C was pressed."""
        return self._interrupted.is_set()


@contextmanager
def interrupts_counted() -> Iterator[threading.Event]:
    """Gives an event that the first Ctrl-C sets; the second one interrupts as ever."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield interrupted
        return
    before = signal.getsignal(signal.SIGINT)

    def take(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, take)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
