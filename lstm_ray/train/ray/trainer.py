"""Training on Ray: shards encoded by tasks, epochs run by a Ray Train worker group.

    driver                                     each worker
      ray_session                                listens, and hears of the others: _GroupBackend
      encode_all -> tasks run encode_shard       epochs.run, a TcpCollective between them
      run -> DataParallelTrainer.fit             rank 0 saves checkpoints; no ray.train.report
      Listener  <-  Board  <-                    progress, epochs, errors of ours, the end of an interrupted run
                    Board  ->                    "stop", asked for twice a second

A worker that dies, or that the others wait for in vain (WorkerLostError), makes Ray Train start the whole group again,
as large as there is room for; epochs.run then goes on from the last checkpoint. An error of ours would only come again,
so it does not reach Ray Train: it goes to the driver over the board.

Ray's own TensorflowTrainer is not used: it switches workers to Keras 2 (TF_USE_LEGACY_KERAS) and imports TensorFlow in
the driver too. A generic DataParallelTrainer with the small backend below needs neither.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray.train import UserCallback
from ray.train.backend import Backend, BackendConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstm_ray import storage, user_code
from lstm_ray.collective import rendezvous, tcp
from lstm_ray.collective.protocol import Collective
from lstm_ray.config import TrainConfig
from lstm_ray.datasets.labelled import Shard
from lstm_ray.errors import LstmRayError, TrainingError, WorkerLostError
from lstm_ray.model.user_network import sources_of
from lstm_ray.progress import Progress, Watcher
from lstm_ray.runtime.nodes import check_paths
from lstm_ray.runtime.ray_session import StillAtWorkError, connect, our_error
from lstm_ray.runtime.room import Asked
from lstm_ray.train.data.corpus import EncodedShard, Prepared, encode_shard
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.state import State
from lstm_ray.train.ray.board import Begun, Board, Interrupted, Listener
from lstm_ray.wording import counted, reason

_PROGRESS_EVERY_S = 0.5
_SAVE_WITHIN_S = 60.0
_ENDS_WITHIN_S = 10.0
_LOOK_FOR_ROOM_EVERY_S = 30.0
_PLACE_WITHIN_S = 15.0
_GOES_ON = "the same command goes on from the last checkpoint"


@contextmanager
def ray_session(config: TrainConfig, watcher: Watcher) -> Iterator[None]:
    """Holds a connection to Ray that has room for the run's workers."""
    least, most = config.worker_limits
    with connect(config.address, Asked(least, most, config.cpus_per_worker, config.gpus_per_worker), watcher.say):
        yield


class RayWorkers:
    """The Ray workers of a run."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def encode_all(self, shards: Sequence[Shard], config: TrainConfig) -> Iterable[EncodedShard]:
        """Encodes shards on the cluster's cores."""
        if config.address != "local":
            vocabulary = [] if config.vocabulary is None else [config.vocabulary]  # read by every task
            check_paths([*vocabulary, *(shard.file.path for shard in shards)], config.output)
        encode = ray.remote(encode_shard)
        settings = ray.put(config)
        try:
            return list(ray.get([encode.remote(shard, settings) for shard in shards]))
        except ray.exceptions.RayError as error:  # a task's error, or a worker process that died again and again
            raise our_error(error, TrainingError) from error

    def run(self, config: TrainConfig, prepared: Prepared) -> State:
        """Trains to the end on `config.workers` workers, replacing those that are lost."""
        least, most = config.worker_limits
        self._watcher.say(f"starting {'' if least == most else f'{least} to '}{counted(most, 'Ray worker')}")
        # A worker may hang where no other waits for it, or there may be no other: then this finds out.
        os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(config.collective_timeout_s)
        if least < most:
            # Ray Train counts on a node for a while after it is gone, and would wait a minute for a place there.
            os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(_PLACE_WITHIN_S))
        board = _start_board()
        filesystem, path = storage.locate(config.output)
        trainer = DataParallelTrainer(
            _worker_loop,
            train_loop_config={
                "config": config.model_dump(mode="json"),
                "prepared": ray.put(prepared),
                "board": board,
                "code": sources_of(config),
            },
            backend_config=GroupConfig(board, config.collective_timeout_s, config.max_failures),
            scaling_config=ray.train.ScalingConfig(
                num_workers=most if least == most else (least, most),
                elastic_resize_monitor_interval_s=_LOOK_FOR_ROOM_EVERY_S,
                use_gpu=config.gpus_per_worker > 0,
                resources_per_worker={"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker},
            ),
            run_config=ray.train.RunConfig(
                name=checkpoints.DIRECTORY,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
                callbacks=[_LossReporter(board)],
            ),
        )
        try:
            _fit(trainer, board, Listener(config, self._watcher))
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            raise TrainingError(_end_of(error, config)) from error
        state = checkpoints.latest_state(config.output)
        if state is None:
            raise TrainingError(f"{config.output}: training ended without a checkpoint; do all workers see this path?")
        return state


@dataclass
class GroupConfig(BackendConfig):
    """Tells each worker where the others are.

    Attributes:
        board: Numbers the groups.
        timeout_s: Most seconds to wait for a worker.
        max_failures: How many groups in a row may be lost before they begin.
    """

    board: Any
    timeout_s: float
    max_failures: int

    @property
    def backend_cls(self) -> type[Backend]:
        """Returns what sets the workers up."""
        return _GroupBackend


class _GroupBackend(Backend):
    def on_start(self, worker_group: Any, backend_config: GroupConfig) -> None:
        board, timeout_s = backend_config.board, backend_config.timeout_s
        number = ray.get(board.begin_group.remote(ray.get_runtime_context().current_actor))
        token = secrets.token_hex(16)
        try:
            addresses = _all_of(worker_group.execute_async(_await_calls), timeout_s)
            _all_of(worker_group.execute_async(_learn_addresses, addresses, token, number), timeout_s)
        except ray.exceptions.RayActorError as error:
            worker_group.shutdown()  # Ray 2.60 would leave its CPUs taken, and wait for ever for others
            why = f"worker lost while it was set up ({_in_short(error)})"
            if ray.get(board.lose_start.remote(why)) <= backend_config.max_failures:
                raise
            # Ray Train itself would go on for ever; another kind of error ends it.
            after = counted(backend_config.max_failures, "replacement")
            gives_up = TrainingError(f"{why}, after {after} (--max-failures): {_GOES_ON}")
            ray.get(board.give_up.remote(gives_up))
            raise gives_up from error


def _all_of(answers: list[Any], timeout_s: float) -> list[Any]:
    """Waits for the answers of all workers.

    Raises:
        RayActorError: A worker died or is silent; Ray Train starts another group.
    """
    try:
        return list(ray.get(answers, timeout=timeout_s))
    except ray.exceptions.GetTimeoutError as error:
        raise ray.exceptions.ActorUnavailableError(f"a worker was silent for {timeout_s:g} s", None) from error


@dataclass
class _Group:
    """What a worker's process keeps between being set up and training.

    Attributes:
        listener: Where the other workers call.
        addresses: Of all workers, by rank.
        token: Of this group.
        number: Of this group, among those of the run.
    """

    listener: socket.socket
    addresses: Sequence[rendezvous.Address] = ()
    token: str = ""
    number: int = 0


_group: _Group | None = None


def _await_calls() -> rendezvous.Address:
    global _group
    _group = _Group(rendezvous.listen(ray.util.get_node_ip_address()))
    return rendezvous.address_of(_group.listener)


def _learn_addresses(addresses: list[rendezvous.Address], token: str, number: int) -> None:
    assert _group is not None
    _group.addresses, _group.token, _group.number = addresses, token, number


def _worker_loop(arguments: dict[str, Any]) -> None:
    """Runs on each worker: brings up TensorFlow, then the same loop as without Ray."""
    from lstm_ray.runtime.tensorflow import start_tensorflow

    board = arguments["board"]
    assert _group is not None
    number = _group.number
    with ExitStack() as stack:  # the group is left when an error has been told: before that no other misses this worker
        try:
            config = TrainConfig.model_validate(arguments["config"])
            stack.enter_context(user_code.unpacked(arguments["code"]))
            start_tensorflow(threads=max(1, int(config.cpus_per_worker)))
            from lstm_ray.train.loop import epochs

            group = tcp.join(
                _group.listener,
                _group.addresses,
                rank=ray.train.get_context().get_world_rank(),
                token=_group.token,
                timeout_s=config.collective_timeout_s,
            )
            stack.enter_context(closing(group))
            epochs.run(config, ray.get(arguments["prepared"]), _RayContext(board, number, group))
        except WorkerLostError:
            if not ray.get(board.is_over.remote()):
                raise  # Ray Train starts the group again
        except KeyboardInterrupt as interrupt:
            ray.get(board.post.remote(Interrupted(str(interrupt)), number))
        except LstmRayError as error:
            ray.get(board.post.remote(error, number))
        except Exception as error:  # noqa: BLE001  it would come again; told to the driver, with its place in the log
            traceback.print_exc()
            failed = TrainingError(f"a worker failed with {user_code.described(error)[-500:]}")
            ray.get(board.post.remote(failed, number))


class _RayContext:
    """A worker's place in its group."""

    def __init__(self, board: Any, number: int, group: Collective) -> None:
        self.rank = group.rank
        self.world_size = group.world_size
        self.collective = group
        self._board, self._number = board, number
        self._is_interrupted = False
        self._answer: Any = None
        self._asked_at = 0.0

    def begin(self, state: State) -> None:
        """Posts it on the board."""
        self._post(Begun(State(epoch=state.epoch, step=state.step), self.world_size))

    def progress(self, progress: Progress) -> None:
        """Posts it on the board."""
        self._post(progress)

    def epoch(self, row: dict[str, Any]) -> None:
        """Posts it on the board."""
        self._post(row)

    def _post(self, news: Any) -> None:
        self._board.post.remote(news, self._number)

    def is_interrupted(self) -> bool:
        """Says what the board last answered; a new answer is never waited for."""
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            self._is_interrupted = ray.get(self._answer)
            self._answer = None
        if self._answer is None and time.monotonic() - self._asked_at > _PROGRESS_EVERY_S:
            self._asked_at = time.monotonic()
            self._answer = self._board.is_interrupted.remote()
        return self._is_interrupted


def _start_board() -> Any:
    """Starts the board on this node: it must not be lost with another."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()


class _LossReporter(UserCallback):
    """Posts on the board why a worker group failed; runs in Ray Train's controller."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Posts it."""
        self._board.lose_group.remote(_why(worker_exceptions))


def _end_of(error: BaseException, config: TrainConfig) -> str:
    """Says why Ray Train has given a run up."""
    failures = getattr(error, "worker_failures", {})
    if failures:
        why = f"{_why(failures)}, after {counted(config.max_failures, 'replacement')} (--max-failures)"
    else:  # Ray Train's controller failed, or died with its node
        why = f"Ray Train failed: {reason(getattr(error, 'controller_failure', error))[:500]}"
    return f"{why}: {_GOES_ON}"


def _why(failures: Mapping[int, BaseException]) -> str:
    """Says which workers were lost; what the others say, who waited for them, only if nothing else is known."""
    died = {rank: error for rank, error in failures.items() if not isinstance(_cause(error), WorkerLostError)}
    told = [f"worker {rank}: {_in_short(_cause(error))}" for rank, error in sorted((died or failures).items())]
    return "worker lost (" + "; ".join(told[:3]) + ")"


def _in_short(error: BaseException) -> str:
    """Says in a few words what Ray says in a paragraph."""
    message = reason(error)
    if isinstance(error, ray.exceptions.RayActorError):
        return "its node died" if "its node has died" in message else "its process died"
    if hanging := re.match(r"A worker health check has been hanging for (\d+)", message):
        return f"it has not answered for {hanging[1]} s: it is stopped, or cut off"
    return message[:200]


def _cause(error: BaseException) -> BaseException:
    """Returns an error of ours, or what Ray says of an actor that died, inside Ray's wrappers."""
    found = our_error(error, TrainingError)
    if isinstance(found, WorkerLostError):
        return found
    inner = getattr(error, "health_check_failure", None)
    return inner if isinstance(inner, BaseException) else error


def _fit(trainer: DataParallelTrainer, board: Any, listener: Listener) -> None:
    """Runs the trainer to its end and passes on what is posted on the board.

    The trainer gets a thread of its own: in the main thread it would take Ctrl-C for itself, and exit without a word.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; its message says what was saved.
    """
    failures: list[BaseException] = []
    # Thread.join would not do: interrupted while it waits, it takes the thread for ended (Python 3.11, bpo-45274).
    ended = threading.Event()

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001  raised again below, in the main thread
            failures.append(error)
        finally:
            ended.set()

    threading.Thread(target=fit, name="ray-train", daemon=True).start()
    try:
        _listen_until_saved(ended, board, listener)
    except (KeyboardInterrupt, LstmRayError) as error:
        is_told = not isinstance(error, KeyboardInterrupt) or str(error)  # by a worker: then all of them end
        if not ended.wait(_ENDS_WITHIN_S if is_told else 0):
            _kill_controller(board)
            if not ended.wait(_ENDS_WITHIN_S if is_told else 1) and isinstance(error, KeyboardInterrupt):
                raise StillAtWorkError(str(error)) from error
        raise
    if failures:
        raise failures[0]


def _kill_controller(board: Any) -> None:
    """Ends Ray Train, if it has got as far as a group of workers, so that the thread that waits for it ends, too."""
    controller = ray.get(board.controller.remote())
    if controller is not None:
        ray.kill(controller)


def _listen_until_saved(ended: threading.Event, board: Any, listener: Listener) -> None:
    """Passes on what is posted on the board until training has ended; on Ctrl-C has the run saved first."""
    try:
        _listen(ended, board, listener, math.inf)
    except KeyboardInterrupt as interrupt:
        if str(interrupt) or not listener.is_training():
            raise
        ray.get(board.interrupt.remote())
        listener.watcher.say("interrupted: saving; Ctrl-C again ends at once")
        if not _listen(ended, board, listener, _SAVE_WITHIN_S):  # else it ended, or failed, before it heard of that
            message = f"interrupted: no worker saved within {_SAVE_WITHIN_S:.0f} s; {_GOES_ON}"
            raise KeyboardInterrupt(message) from None


def _listen(ended: threading.Event, board: Any, listener: Listener, limit_s: float) -> bool:
    """Passes on what is posted on the board until training has ended, or for a time; says whether it has ended."""
    end = time.monotonic() + limit_s
    is_last = False
    while not is_last and time.monotonic() < end:
        is_last = ended.wait(_PROGRESS_EVERY_S)  # then one more look: all was posted before the end
        for news in ray.get(board.take.remote()):
            listener.hear(news)
        listener.watch_the_clock()
    return is_last
