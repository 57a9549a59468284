"""Sums of tensors over the workers by TensorFlow's collective operations: NCCL on GPUs, a ring over gRPC on CPUs.

    tcp.join() on every worker -> TcpCollective -> connect() on every worker -> TensorFlowCollective

The tensors stay on the device, while TCP copies them to the host and back. A sum takes two operations:

    dense values, and how many rows each worker has  ->  CollectiveReduceV2  ->  their sums
    ids and rows, padded to the longest worker's     ->  CollectiveGatherV2  ->  added up here, in the order of ranks

Both give every worker the same bits: a ring and NCCL sum each value once and send the result around, and the rows are
added in one order everywhere. The order is not that of TCP, so the last bits differ from it.

TCP remains the control channel: it carries counts, checksums and everything on the host. And it shows a dead peer at
once: then the operation under way is aborted, because NCCL would wait for ever. The same is done when a peer hangs or
is cut off, because the operation's own timeout uses memory after it was freed: one group in four crashed (TensorFlow
2.21). Afterwards the process cannot use these operations again, so that a group is replaced by new processes.

TensorFlow's server listens on all interfaces without authentication: the workers' network must be trusted.

`tf.distribute.MultiWorkerMirroredStrategy` would start the same server by public API. But where a worker is missing its
constructor waits, for more than 19 minutes when we ended it, through SIGTERM too; and aborting needs a private method
anyway. So this file uses three methods of TensorFlow's private context, which the strategy calls too.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Sequence
from threading import Event, Lock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lstm_ray.arrays import Floats
from lstm_ray.collective.protocol import SparseRows
from lstm_ray.collective.tcp import TcpCollective
from lstm_ray.errors import TrainingError, WorkerLostError
from lstm_ray.wording import reason

Rows: TypeAlias = "tuple[tf.Tensor, tf.Tensor]"
"""Rows of a matrix that are not zero: int64[n], their distinct numbers, and float32[n, width]."""

_JOB = "worker"
_GROUP = 1
_ROOM = 64  # rows are padded to a multiple of this: each shape needs an instance of its own, which is kept for ever
_CAUSE = "Collective ops is aborted by: "
_PEERS_FAULT = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,  # another process has the peer's address
    tf.errors.UnavailableError,
)
_HANG_UP_S = 2.0  # gRPC may report a dead peer earlier than its closed connection arrives, which names it


def connect(control: TcpCollective, *, on_gpus: bool) -> TensorFlowCollective:
    """Starts TensorFlow's server on this worker. All workers of the group call this, before anything else computes.

    Args:
        control: The group, connected over TCP.
        on_gpus: Whether each worker has a GPU, with the tensors on it.

    Raises:
        WorkerLostError: A peer was lost, or the server cannot start.
    """
    hosts = [host for host, _ in control.addresses]
    if len(set(hosts)) == 1:  # all on one machine
        hosts = ["127.0.0.1"] * len(hosts)
    with socket.socket() as reserved:
        # TensorFlow cannot choose a free port and tell it. This socket keeps one until the server has it; it does not
        # listen, and both sockets allow another one on their port.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("", 0))
        ports = control.all_gather([reserved.getsockname()[1]])[:, 0].astype(int).tolist()
        servers = [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)
        ]
        _start_server(servers, control.rank)
    control.all_gather([])  # no worker calls a server that has not started
    return TensorFlowCollective(control, "nccl" if on_gpus else "ring")


def _start_server(servers: Sequence[str], rank: int) -> None:
    from tensorflow.python.eager import context  # private: not needed by a worker alone

    cluster = tf.train.ClusterSpec({_JOB: list(servers)})
    ours = context.context()
    ours.configure_collective_ops(
        collective_leader=f"/job:{_JOB}/replica:0/task:0",
        device_filters=(f"/job:{_JOB}/task:{rank}",),  # use only this worker's devices
    )
    ours.enable_collective_ops(
        tf.train.ServerDef(
            cluster=cluster.as_cluster_def(),
            job_name=_JOB,
            task_index=rank,
            protocol="grpc",
            default_session_config=ours.config,
        )
    )
    try:
        ours.ensure_initialized()
    except tf.errors.OpError as error:
        raise WorkerLostError(f"TensorFlow's server at {servers[rank]} does not start: {reason(error)}") from error


class TensorFlowCollective:
    """The workers of a run, which sum tensors by TensorFlow and everything else over TCP.

    Attributes:
        rank: This worker's number.
        world_size: Number of workers.
        hint: What TensorFlow should use: "nccl" between GPUs, "ring" between CPUs.
    """

    def __init__(self, control: TcpCollective, hint: str) -> None:
        """Watches the peers from now on, until `control` is closed."""
        self.rank, self.world_size = control.rank, control.world_size
        self.hint = hint
        self._control = control
        self._total = tf.function(self._add_up, reduce_retracing=True)
        self._dense = 0
        self._widths: list[int] = []
        self._rooms: list[tf.Tensor] = []
        self._lock = Lock()  # for the next two: the thread that watches the peers uses them too
        self._due = math.inf  # when the operation under way must have ended; infinite if there is none
        self._loss: WorkerLostError | None = None
        self._is_lost = Event()
        control.watch(self._abort, self._abort_if_late)

    def all_gather(self, vector: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Returns the vectors of all workers, over TCP; see `Collective`."""
        return self._control.all_gather(vector)

    def all_reduce(self, dense: Floats, sparse: Sequence[SparseRows]) -> tuple[Floats, list[SparseRows]]:
        """Returns the sums of arrays over all workers, over TCP; see `Collective`."""
        return self._control.all_reduce(dense, sparse)

    def all_reduce_tensors(self, dense: tf.Tensor, sparse: Sequence[Rows]) -> tuple[tf.Tensor, list[Rows]]:
        """Returns the sums over all workers, bit-identical on each, on the device where the tensors are.

        Args:
            dense: float32[n], with the same n on every worker and in every call.
            sparse: The same number of matrices on every worker and in every call; their rows may differ.

        Raises:
            WorkerLostError: A peer died or does not answer.
            TrainingError: A peer made a different call.
        """
        with self._lock:
            if self._loss is not None:
                raise self._loss
            self._due = time.monotonic() + self._control.timeout_s
        try:
            total, rows, self._rooms = self._total(dense, list(sparse))
        except tf.errors.OpError as error:
            raise self._explained(error) from error
        finally:
            with self._lock:
                self._due = math.inf
        self._dense, self._widths = dense.shape[0], [values.shape[1] for _, values in sparse]
        return total, rows

    def describe(self) -> str:
        """Returns what sums tensors, and how much each worker sends for the last sum."""
        others, widths = self.world_size - 1, self._widths
        dense = 2 * others / self.world_size * (self._dense + self.world_size * len(widths))
        rows = others * sum(int(room) * (width + 1) for room, width in zip(self._rooms, widths, strict=True))
        return f"TensorFlow's collectives ({self.hint}), {4e-6 * (dense + rows):.2g} MB a step from each worker"

    def _add_up(self, dense: tf.Tensor, sparse: list[Rows]) -> tuple[tf.Tensor, list[Rows], list[tf.Tensor]]:
        """Returns the sums, and for each matrix the number of rows that each worker sends."""
        tables = len(sparse)
        sizes = tf.stack([tf.size(ids) for ids, _ in sparse]) if sparse else tf.zeros([0], tf.int32)
        mine = tf.one_hot(self.rank, self.world_size)[:, None] * tf.cast(sizes, tf.float32)
        total = self._reduce(tf.concat([dense, tf.reshape(mine, [-1])], 0))
        counts = tf.cast(tf.reshape(total[dense.shape[0] :], [self.world_size, tables]), tf.int32)
        sums: list[Rows] = []
        rooms: list[tf.Tensor] = []
        for table, (ids, values) in enumerate(sparse):
            instance = tf.maximum(-(-tf.reduce_max(counts[:, table]) // _ROOM), 1)
            rooms.append(instance * _ROOM)
            with tf.control_dependencies([values for _, values in sums]):  # NCCL needs the same order on all workers
                packed = _packed(ids, values, rooms[-1])
                gathered = self._gather(packed, instance * tables + table + 2)
            sums.append(self._added(gathered, counts[:, table]))
        return total[: dense.shape[0]], sums, rooms

    def _reduce(self, values: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.CollectiveReduceV2(
            input=values, instance_key=1, merge_op="Add", final_op="Id", **self._group()
        )

    def _gather(self, values: tf.Tensor, instance: tf.Tensor) -> tf.Tensor:
        """Returns the values of all workers, one after the other; equal shapes have equal instances."""
        return tf.raw_ops.CollectiveGatherV2(input=values, instance_key=instance, **self._group())

    def _group(self) -> dict[str, Any]:
        return {
            "group_size": self.world_size,
            "group_key": _GROUP,
            "ordering_token": [],
            "communication_hint": self.hint,
        }

    def _added(self, gathered: tf.Tensor, counts: tf.Tensor) -> Rows:
        """Returns the sum of all workers' rows."""
        parts = [part[: counts[rank]] for rank, part in enumerate(tf.split(gathered, self.world_size))]
        ids, positions = tf.unique(tf.concat([tf.bitcast(part[:, 0], tf.int32) for part in parts], 0))
        values = tf.zeros([tf.size(ids), gathered.shape[1] - 1])
        # One worker after the other, whose ids are distinct: with several at once a GPU would add in any order.
        for part, rows in zip(parts, tf.split(positions, counts, num=self.world_size), strict=True):
            values = tf.tensor_scatter_nd_add(values, rows[:, None], part[:, 1:])
        return tf.cast(ids, tf.int64), values

    def _abort(self, loss: WorkerLostError) -> None:
        """Ends the operation under way, if any, which may wait for a lost peer. Called from another thread."""
        with self._lock:
            self._end(loss)

    def _abort_if_late(self) -> None:
        """Ends the operation under way if it takes too long. Called from another thread, every second."""
        with self._lock:
            if time.monotonic() > self._due and self._loss is None:
                self._end(self._control.late())

    def _end(self, loss: WorkerLostError) -> None:
        from tensorflow.python.eager import context

        self._loss = loss
        if self._due < math.inf:  # peers also leave at the end of a run: TensorFlow would log an error
            context.context().abort_collective_ops(tf.errors.UNAVAILABLE, str(loss))
        self._is_lost.set()

    def _explained(self, error: Exception) -> Exception:
        """Returns our error for one of TensorFlow's, if a peer is the cause, otherwise TensorFlow's."""
        self._is_lost.wait(_HANG_UP_S)
        if self._loss is not None:
            return self._loss
        why = " ".join(str(error).partition(_CAUSE)[2].split("\n")[:1])
        if isinstance(error, tf.errors.InvalidArgumentError):
            return TrainingError(f"the workers are out of step: {why}; do all workers run the same code?")
        if isinstance(error, _PEERS_FAULT):
            return WorkerLostError(f"a worker is gone: {why}")
        return error


def _packed(ids: tf.Tensor, values: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
    """Returns float32[room, 1 + width]: ids, as the floats with the same bits, beside their rows, then zeros."""
    first = tf.bitcast(tf.cast(ids, tf.int32), tf.float32)
    return tf.pad(tf.concat([first[:, None], values], 1), [[0, room - tf.size(ids)], [0, 0]])
