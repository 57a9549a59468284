"""Training in this process, without Ray."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from lstm_ray.collective.protocol import Alone, Collective
from lstm_ray.config import TrainConfig
from lstm_ray.datasets.labelled import Shard
from lstm_ray.progress import Progress
from lstm_ray.runtime.in_flight import on_all_cores
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.data.corpus import EncodedShard, Prepared, encode_shard
from lstm_ray.train.loop.state import State


class LocalWorkers:
    """This process as the only worker."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def encode_all(self, shards: Sequence[Shard], config: TrainConfig) -> Iterator[EncodedShard]:
        """Encodes shards on all cores and yields them in order."""
        return on_all_cores(lambda shard: encode_shard(shard, config), shards)

    def run(self, config: TrainConfig, prepared: Prepared) -> State:
        """Trains to the end."""
        self._progress("starting TensorFlow")
        start_tensorflow()
        from lstm_ray.train.loop import epochs

        with deferred_interrupts() as interrupted:
            return epochs.run(config, prepared, LocalContext(self._progress, interrupted))


class LocalContext:
    """The environment of the only worker, see `steps.Context`."""

    def __init__(self, progress: Progress, interrupted: threading.Event) -> None:
        self.collective: Collective = Alone()
        self.report = progress
        self._interrupted = interrupted

    def begin(self, state: State) -> None:
        """Does nothing: `run.train` has reported the position already."""

    def is_interrupted(self) -> bool:
        """Returns whether Ctrl-C was pressed, or SIGTERM received."""
        return self._interrupted.is_set()


@contextmanager
def deferred_interrupts() -> Iterator[threading.Event]:
    """Yields an event that the first interrupting signal sets: Ctrl-C, and in the command line SIGTERM.

    The second signal is handled as before. Signals without a Python handler (such as SIGTERM in most programs) keep
    their effect.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield interrupted
        return
    found = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in found.items() if callable(handler)}

    def restore() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is note:  # the earlier handler may have installed one for the second signal
                signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        restore()
        try:
            before[number](number, frame)  # `cli/process.py` keeps the number, for the exit code
        except KeyboardInterrupt:
            interrupted.set()

    for number in before:
        signal.signal(number, note)
    try:
        yield interrupted
    finally:
        restore()
