"""Training in this process: no Ray, nothing to start, nothing to wait for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lstm_ray import storage
from lstm_ray.config import TrainConfig
from lstm_ray.datasets.labelled import Shard
from lstm_ray.model.runtime import start_tensorflow
from lstm_ray.train import checkpoints
from lstm_ray.train.checkpoints import State
from lstm_ray.train.collective import Alone, Collective
from lstm_ray.train.corpus import EncodedShard, Prepared, encode_shard
from lstm_ray.train.progress import Progress, Watcher


class LocalWorkers:
    """The one worker that this process is."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def encode_all(self, shards: Sequence[Shard], config: TrainConfig) -> Iterable[EncodedShard]:
        """Encodes shards on all cores: Arrow and numpy let go of Python's lock."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(encode_shard, shards, [config] * len(shards)))

    def run(self, config: TrainConfig, prepared: Prepared) -> State:
        """Trains to the end."""
        self._watcher.say("starting TensorFlow")
        start_tensorflow()
        from lstm_ray.train import loop

        return loop.run(config, prepared, LocalContext(config.output, self._watcher))


class LocalContext:
    """A world of one worker, whose checkpoints are copied into the run's directory."""

    rank = 0
    world_size = 1

    def __init__(self, output: str, watcher: Watcher) -> None:
        self.collective: Collective = Alone()
        self._directory = storage.join(output, checkpoints.DIRECTORY)
        self._watcher = watcher

    def progress(self, progress: Progress) -> None:
        """Passes it on."""
        self._watcher.progress(progress)

    def report(self, row: dict[str, Any], checkpoint: Path | None) -> None:
        """Keeps the checkpoint as `epoch_<number>` and drops the oldest beyond those kept."""
        assert checkpoint is not None  # this is rank 0
        target = storage.join(self._directory, f"epoch_{row['epoch']:04d}")
        storage.delete(target)
        for file in sorted(checkpoint.iterdir(), key=lambda file: file.name == "state.json"):  # state.json last
            storage.write_bytes(storage.join(target, file.name), file.read_bytes())
        names = [name for name in storage.list_names(self._directory) if name.startswith("epoch_")]
        for name in names[: -checkpoints.KEPT]:
            storage.delete(storage.join(self._directory, name))
        self._watcher.epoch(row)
