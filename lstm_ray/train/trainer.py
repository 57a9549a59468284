"""Training on Ray: shards encoded by tasks, epochs run by a Ray Train worker group.

    driver                                     each worker
      ray_session                                listens, and hears of the others: _GroupBackend
      encode_all -> tasks run encode_shard       loop.run, a TcpCollective between them
      run -> DataParallelTrainer.fit             ray.train.report(row, checkpoint)

Ray's own TensorflowTrainer is not used: it switches workers to Keras 2 (TF_USE_LEGACY_KERAS) and imports TensorFlow in
the driver too. A generic DataParallelTrainer with the small backend below needs neither.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.backend import Backend, BackendConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from lstm_ray.config import TrainConfig
from lstm_ray.datasets.labelled import Shard
from lstm_ray.errors import TrainingError
from lstm_ray.ray_session import connect, our_error
from lstm_ray.train import checkpoints, collective
from lstm_ray.train.checkpoints import State
from lstm_ray.train.corpus import EncodedShard, Prepared, encode_shard
from lstm_ray.train.progress import Progress, Watcher
from lstm_ray.wording import counted

_PROGRESS_EVERY_S = 0.5


@contextmanager
def ray_session(config: TrainConfig, watcher: Watcher) -> Iterator[None]:
    """Holds a connection to Ray that has room for the run's workers."""
    watcher.say("starting Ray" if config.address == "local" else f"connecting to Ray at {config.address}")
    with connect(config.address, config.workers * config.cpus_per_worker, config.workers * config.gpus_per_worker):
        yield


class RayWorkers:
    """The Ray workers of a run."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def encode_all(self, shards: Sequence[Shard], config: TrainConfig) -> Iterable[EncodedShard]:
        """Encodes shards on the cluster's cores."""
        encode = ray.remote(encode_shard)
        settings = ray.put(config)
        try:
            return list(ray.get([encode.remote(shard, settings) for shard in shards]))
        except ray.exceptions.RayTaskError as error:
            raise our_error(error, TrainingError) from error

    def run(self, config: TrainConfig, prepared: Prepared) -> State:
        """Trains to the end on `config.workers` workers."""
        self._watcher.say(f"starting {counted(config.workers, 'Ray worker')}")
        board = ray.remote(num_cpus=0)(_Board).remote()
        trainer = DataParallelTrainer(
            _worker_loop,
            train_loop_config={"config": config.model_dump(mode="json"), "prepared": ray.put(prepared), "board": board},
            backend_config=GroupConfig(),
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.workers,
                use_gpu=config.gpus_per_worker > 0,
                resources_per_worker={"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker},
            ),
            run_config=ray.train.RunConfig(
                name=checkpoints.DIRECTORY,
                storage_path=config.output,
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=checkpoints.KEPT),
            ),
        )
        try:
            _fit(trainer, board, self._watcher)
        except ray.train.TrainingFailedError as error:
            raise our_error(error, TrainingError) from error
        state = checkpoints.latest_state(config.output)
        if state is None:
            raise TrainingError(f"{config.output}: training ended without a checkpoint; do all workers see this path?")
        return state


@dataclass
class GroupConfig(BackendConfig):
    """Tells each worker where the others are."""

    @property
    def backend_cls(self) -> type[Backend]:
        """Returns what sets the workers up."""
        return _GroupBackend


class _GroupBackend(Backend):
    def on_start(self, worker_group: Any, backend_config: GroupConfig) -> None:
        addresses = worker_group.execute(_listen)
        token = secrets.token_hex(16)
        ray.get([worker_group.execute_single_async(r, _hear, addresses, token) for r in range(len(addresses))])


@dataclass
class _Group:
    """What a worker's process keeps between being set up and training.

    Attributes:
        listener: Where the other workers call.
        addresses: Of all workers, by rank.
        token: Of this group.
    """

    listener: socket.socket
    addresses: Sequence[collective.Address] = ()
    token: str = ""


_group: _Group | None = None


def _listen() -> collective.Address:
    global _group
    _group = _Group(collective.listen(ray.util.get_node_ip_address()))
    return collective.address_of(_group.listener)


def _hear(addresses: list[collective.Address], token: str) -> None:
    assert _group is not None
    _group.addresses, _group.token = addresses, token


def _worker_loop(arguments: dict[str, Any]) -> None:
    """Runs on each worker: brings up TensorFlow, then the same loop as without Ray."""
    from lstm_ray.model.runtime import start_tensorflow

    config = TrainConfig.model_validate(arguments["config"])
    start_tensorflow(threads=max(1, int(config.cpus_per_worker)))
    from lstm_ray.train import loop

    assert _group is not None
    group = collective.join(
        _group.listener,
        _group.addresses,
        rank=ray.train.get_context().get_world_rank(),
        token=_group.token,
        timeout_s=config.collective_timeout_s,
    )
    with closing(group):
        loop.run(config, ray.get(arguments["prepared"]), _RayContext(arguments["board"], group))


class _RayContext:
    """A worker's place in its group."""

    def __init__(self, board: Any, group: collective.Collective) -> None:
        self.rank = group.rank
        self.world_size = group.world_size
        self.collective = group
        self._board = board

    def report(self, row: dict[str, Any], checkpoint: Path | None) -> None:
        """Reports through Ray Train, which copies rank 0's checkpoint to storage and waits for all workers."""
        ray.train.report(row, checkpoint=None if checkpoint is None else ray.train.Checkpoint(str(checkpoint)))
        if self.rank == 0:
            self._board.post.remote(row)

    def progress(self, progress: Progress) -> None:
        """Posts it on the board."""
        self._board.post.remote(progress)


class _Board:
    """Holds what rank 0 has to tell until the driver fetches it."""

    def __init__(self) -> None:
        self._news: list[Progress | dict[str, Any]] = []

    def post(self, news: Progress | dict[str, Any]) -> None:
        self._news.append(news)

    def take(self) -> list[Progress | dict[str, Any]]:
        news, self._news = self._news, []
        return news


def _fit(trainer: DataParallelTrainer, board: Any, watcher: Watcher) -> None:
    """Runs the trainer to its end and passes on what is posted on the board.

    The trainer gets a thread of its own: in the main thread it would take Ctrl-C for itself, and exit without a word.
    """
    failures: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001  raised again below, in the main thread
            failures.append(error)

    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_PROGRESS_EVERY_S)
        for news in ray.get(board.take.remote()):
            if isinstance(news, Progress):
                watcher.progress(news)
            else:
                watcher.epoch(news)
    if failures:
        raise failures[0]
