"""The worker group of a run on Ray: how its workers find each other, and what each of them runs.

    Ray Train's controller                        each worker
      GroupBackend.on_start, for every new group    _open_listener -> its address
        all addresses, a token, a number         ->   _set_membership
      the training function                      ->   work: TensorFlow, a collective, epochs.run

If a worker dies or does not answer its peers (they raise WorkerLostError), Ray Train starts a new group, as large as
there is room for, and epochs.run resumes from the last checkpoint. Any other error would only happen again. So Ray
Train does not see it: the worker appends it to the event log, and the driver raises it.
"""

from __future__ import annotations

import secrets
import socket
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray.train.backend import Backend, BackendConfig

from lstm_ray import user_code
from lstm_ray.collective import rendezvous, tcp
from lstm_ray.collective.protocol import Collective
from lstm_ray.config import TrainConfig
from lstm_ray.errors import LstmRayError, TrainingError, WorkerLostError
from lstm_ray.runtime.tensorflow import require_gpu, start_tensorflow
from lstm_ray.train.loop.state import State
from lstm_ray.train.ray.events import Begun, Finished, GroupEvent, Interrupted
from lstm_ray.train.ray.failures import RESUMES, in_short
from lstm_ray.wording import counted

_ASK_EVERY_S = 0.5


@dataclass
class GroupConfig(BackendConfig):
    """Settings of `GroupBackend`.

    Attributes:
        log: The event log; it numbers the groups.
        timeout_s: Maximum seconds to wait for a worker.
        max_failures: How many groups in a row may fail before they start to train.
    """

    log: Any
    timeout_s: float
    max_failures: int

    @property
    def backend_cls(self) -> type[Backend]:
        """Returns the class that sets up the workers."""
        return GroupBackend


class GroupBackend(Backend):
    """Gives the workers of a new group each other's addresses. Runs in Ray Train's controller."""

    def on_start(self, worker_group: Any, backend_config: GroupConfig) -> None:
        """Gives every worker its membership.

        Raises:
            RayActorError: A worker died or does not answer; Ray Train starts another group.
            TrainingError: This happened more than `max_failures` times in a row.
        """
        log, timeout_s = backend_config.log, backend_config.timeout_s
        number = ray.get(log.begin_group.remote(ray.get_runtime_context().current_actor))
        token = secrets.token_hex(16)
        try:
            addresses = _get_all(worker_group.execute_async(_open_listener), timeout_s)
            _get_all(worker_group.execute_async(_set_membership, addresses, token, number), timeout_s)
        except ray.exceptions.RayActorError as error:
            worker_group.shutdown()  # Ray 2.60 would keep its CPUs reserved, and wait for ever for others
            why = f"worker lost during setup ({in_short(error)})"
            if ray.get(log.lose_start.remote(why)) <= backend_config.max_failures:
                raise
            # Ray Train would retry for ever; an error of another type ends it.
            after = counted(backend_config.max_failures, "replacement")
            final = TrainingError(f"{why}, after {after} (--max-failures): {RESUMES}")
            ray.get(log.give_up.remote(final))
            raise final from error


def _get_all(answers: list[Any], timeout_s: float) -> list[Any]:
    """Waits for the answers of all workers.

    Raises:
        RayActorError: A worker died or does not answer.
    """
    try:
        return list(ray.get(answers, timeout=timeout_s))
    except ray.exceptions.GetTimeoutError as error:
        raise ray.exceptions.ActorUnavailableError(f"a worker did not answer for {timeout_s:g} s", None) from error


@dataclass
class _Membership:
    """What a worker knows about its group before it trains.

    Attributes:
        listener: Accepts connections from peers.
        addresses: Addresses of all workers, by rank.
        token: The group's token, which peers must present.
        number: The group's number in the run, from 1.
    """

    listener: socket.socket
    addresses: Sequence[rendezvous.Address] = ()
    token: str = ""
    number: int = 0


_membership: _Membership | None = None
"""This worker's membership, set by `GroupBackend` and read by `work`. It is a global because Ray Train passes no value
from a backend to the training function (its own backends use the global state of torch.distributed)."""


def _open_listener() -> rendezvous.Address:
    """Starts to listen, and returns the address for peers. Runs on the worker."""
    global _membership
    _membership = _Membership(rendezvous.listen(ray.util.get_node_ip_address()))
    return rendezvous.address_of(_membership.listener)


def _set_membership(addresses: list[rendezvous.Address], token: str, number: int) -> None:
    """Completes this worker's membership. Runs on the worker."""
    assert _membership is not None
    _membership.addresses, _membership.token, _membership.number = addresses, token, number


def work(arguments: dict[str, Any]) -> None:
    """Trains on one worker, as `LocalWorkers` does in one process. This is Ray Train's training function.

    Args:
        arguments: `config`, the settings as a dict, with the engine and the collective that the driver chose;
            `prepared`, a reference to the corpus; `log`, the event log; `code`, the user's modules.

    Raises:
        WorkerLostError: A peer was lost. Ray Train then replaces the group.
    """
    log = arguments["log"]
    assert _membership is not None
    number = _membership.number
    with ExitStack() as stack:  # leave the group only after the error is reported: otherwise peers report a lost worker
        stack.enter_context(_membership.listener)
        try:
            config = TrainConfig.model_validate(arguments["config"])
            stack.enter_context(user_code.unpacked(arguments["code"]))
            start_tensorflow(threads=max(1, int(config.cpus_per_worker)))
            if config.gpus_per_worker:
                require_gpu()
            from lstm_ray.train.loop import epochs

            group = tcp.join(
                _membership.listener,
                _membership.addresses,
                rank=ray.train.get_context().get_world_rank(),
                token=_membership.token,
                timeout_s=config.collective_timeout_s,
            )
            stack.enter_context(closing(group))
            members: Collective = group
            if config.collective == "tensorflow" and group.world_size > 1:
                from lstm_ray.collective.tensorflow import connect

                members = connect(group, on_gpus=config.gpus_per_worker > 0)
            state = epochs.run(config, ray.get(arguments["prepared"]), _RayContext(log, number, members))
            if group.rank == 0:
                ray.get(log.append.remote(Finished(state), number))
        except WorkerLostError:
            if not ray.get(log.is_over.remote()):
                raise  # Ray Train starts a new group
        except KeyboardInterrupt as interrupt:
            ray.get(log.append.remote(Interrupted(str(interrupt)), number))
        except LstmRayError as error:
            ray.get(log.append.remote(error, number))
        except Exception as error:  # noqa: BLE001  a new group would fail too: the driver raises it
            traceback.print_exc()
            failed = TrainingError(f"a worker failed with {user_code.described(error)[-500:]}")
            ray.get(log.append.remote(failed, number))


class _RayContext:
    """The environment of a worker in its group, see `steps.Context`."""

    def __init__(self, log: Any, number: int, group: Collective) -> None:
        self.collective = group
        self._log, self._number = log, number
        self._is_interrupted = False
        self._answer: Any = None
        self._asked_at = 0.0

    def begin(self, state: State) -> None:
        """Logs that the group starts to train."""
        self.report(Begun(State(epoch=state.epoch, step=state.step), self.collective.world_size))

    def report(self, event: GroupEvent) -> None:
        """Appends an event to the log."""
        self._log.append.remote(event, self._number)

    def is_interrupted(self) -> bool:
        """Returns the log's last answer, and asks for a new one without waiting."""
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            self._is_interrupted = ray.get(self._answer)
            self._answer = None
        if self._answer is None and time.monotonic() - self._asked_at > _ASK_EVERY_S:
            self._asked_at = time.monotonic()
            self._answer = self._log.is_interrupted.remote()
        return self._is_interrupted
