"""Groups of workers that sum tensors, each in a process, because TensorFlow has one context in a process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from lstm_ray.collective import tcp
from lstm_ray.collective.rendezvous import address_of, listen
from lstm_ray.errors import LstmRayError
from lstm_ray.runtime.tensorflow import choose_keras, start_tensorflow

WAIT_S = 300.0
# Processes are forked from one that has imported TensorFlow and Keras, which takes seconds.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tensorflow", "keras"])


class Worker:
    """A worker of a group, in a process of its own."""

    def __init__(self, rank: int, timeout_s: float) -> None:
        self._pipe, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=_serve, args=(rank, timeout_s, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def start(self, *message: Any) -> None:
        """Starts a call of a function with the worker's group and the arguments."""
        self._pipe.send(message)

    def result(self) -> Any:
        """Returns the result of the call, or its error."""
        assert self._pipe.poll(WAIT_S), "the worker does not answer"
        return self._pipe.recv()

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process."""
        os.kill(self._process.pid or 0, number)

    def end(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


@contextmanager
def group(world_size: int, timeout_s: float = WAIT_S) -> Iterator[list[Worker]]:
    """Yields the workers of a group, connected to each other."""
    choose_keras()  # for the process that all others are forked from
    workers = [Worker(rank, timeout_s) for rank in range(world_size)]
    try:
        addresses = [worker.result() for worker in workers]
        for worker in workers:
            worker.start(addresses)
        assert [worker.result() for worker in workers] == ["connected"] * world_size
        yield workers
    finally:
        for worker in workers:
            worker.end()


def on_all(workers: Sequence[Worker], call: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Returns the results of a call on every worker, made at the same time; an error of lstm-ray is a result too."""
    for worker in workers:
        worker.start(call, *arguments)
    return [worker.result() for worker in workers]


def _serve(rank: int, timeout_s: float, pipe: Connection) -> None:
    listener = listen(f"127.0.0.{rank + 1}")  # as on hosts of their own; all of this network is loopback on Linux
    pipe.send(address_of(listener))
    (addresses,) = pipe.recv()
    start_tensorflow()
    from lstm_ray.collective.tensorflow import connect

    with closing(tcp.join(listener, addresses, rank=rank, token="token", timeout_s=timeout_s)) as control:
        member = connect(control, on_gpus=False)
        pipe.send("connected")
        while True:
            call, *arguments = pipe.recv()
            try:
                result = call(member, *arguments)
            except LstmRayError as error:
                result = error
            pipe.send(result)
