"""Collective operations over TCP, with a connection between every two workers.

    listen() on every worker -> addresses, collected by the caller -> join() on every worker -> TcpCollective

`all_reduce` takes two rounds. Each worker owns a share: an N-th of the dense values, and the rows whose id modulo N is
its rank. First every worker sends each owner its values of that share, and the owner adds up the N parts in the order
of ranks. Then every owner sends its sums to all peers. So each value is summed once, in one order, and all workers
receive the same bits. A worker sends and receives 2 (N - 1) / N of the gradients, as in a ring, but waits for 2
messages instead of 2 (N - 1): at the sizes here (1 MB, 2 to 8 workers) latency dominates.

No call waits longer than `timeout_s`. A peer that died is detected at once, a peer that hangs or is unreachable after
that time; both raise WorkerLostError. Messages contain only counts and numbers, no pickles. How workers connect is in
rendezvous.py.

Source: reduce-scatter and all-gather, R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication
Operations in MPICH", 2005.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Floats
from lstm_ray.collective.protocol import SparseRows
from lstm_ray.collective.rendezvous import Address, as_text, meet
from lstm_ray.errors import TrainingError, WorkerLostError
from lstm_ray.wording import reason

Bytes: TypeAlias = npt.NDArray[np.uint8]

_HEADER = struct.Struct("!QQ")  # number of the exchange, bytes that follow


def join(
    listener: socket.socket, addresses: Sequence[Address], *, rank: int, token: str, timeout_s: float
) -> TcpCollective:
    """Connects this worker to all others and closes `listener`. Arguments and errors are those of `meet`.

    Every later call also waits at most `timeout_s`.
    """
    peers = meet(listener, addresses, rank=rank, token=token, timeout_s=timeout_s)
    return TcpCollective(rank, addresses, peers, timeout_s)


class TcpCollective:
    """The workers of a run, connected to each other by `join`.

    Attributes:
        rank: This worker's number.
        world_size: Number of workers.
        addresses: Addresses of all workers, by rank.
        timeout_s: Maximum seconds that a call waits.
    """

    def __init__(
        self, rank: int, addresses: Sequence[Address], peers: dict[int, socket.socket], timeout_s: float
    ) -> None:
        self.rank = rank
        self.world_size = len(addresses)
        self.addresses = addresses
        self._peers = peers
        self.timeout_s = timeout_s
        self._exchanges = 0
        self._sent = 0
        self._watch: _Watch | None = None
        for peer in peers.values():
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # send short messages at once

    def close(self) -> None:
        """Leaves the group. A peer that still waits for this worker fails at once."""
        if self._watch is not None:
            self._watch.end()
        for peer in self._peers.values():
            peer.close()

    def watch(self, lost: Callable[[WorkerLostError], None], every_second: Callable[[], object]) -> None:
        """Calls `lost` once, from another thread, as soon as a peer leaves the group or dies. Ends at `close`.

        Args:
            lost: Called with the loss.
            every_second: Called every second from that thread, until `lost` is called or the group is left.
        """
        names = {peer.fileno(): self._name(other) for other, peer in self._peers.items()}
        self._watch = _Watch(names, lost, every_second)

    def late(self, name: str = "a worker") -> WorkerLostError:
        """Returns the error for a worker that has not answered for `timeout_s`."""
        return WorkerLostError(
            f"{name} has not answered for {self.timeout_s:g} s: its process is stopped, unreachable, or far slower "
            "than the others (--collective-timeout-s)"
        )

    def describe(self) -> str:
        """Returns what sums gradients, and how much each worker sent for the last sum."""
        return f"TCP, {self._sent / 1e6:.2g} MB a step from each worker"

    def all_gather(self, vector: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Returns the vectors of all workers; see `Collective`."""
        mine = np.array(vector, np.float64)
        gathered = np.empty((self.world_size, len(mine)))
        gathered[self.rank] = mine
        for other, message in self._exchange({other: [mine] for other in self._peers}).items():
            if len(message) != mine.nbytes:
                raise self._out_of_step(other, f"sent {len(message)} bytes, not {mine.nbytes}")
            gathered[other] = message.view(np.float64)
        return gathered

    def all_reduce(self, dense: Floats, sparse: Sequence[SparseRows]) -> tuple[Floats, list[SparseRows]]:
        """Returns the sums over all workers; see `Collective`."""
        bounds = [len(dense) * owner // self.world_size for owner in range(self.world_size + 1)]
        slices = [dense[start:end] for start, end in pairwise(bounds)]
        # By remainder, because with ranges of ids the first owner would get all frequent words, which have low ids.
        shares = {
            owner: _Share(slices[owner], [_select(rows, rows.ids % self.world_size == owner) for rows in sparse])
            for owner in range(self.world_size)
        }
        mine = shares[self.rank]
        parts = {self.rank: mine}
        outgoing = {other: shares[other].encode() for other in self._peers}
        for other, received in self._exchange(outgoing).items():
            parts[other] = self._decode(received, other, like=mine)
        mine = _Share.total([parts[rank] for rank in range(self.world_size)])
        sums = {self.rank: mine}
        results = dict.fromkeys(self._peers, mine.encode())
        self._sent = sum(array.nbytes for message in (*outgoing.values(), *results.values()) for array in message)
        for other, received in self._exchange(results).items():
            sums[other] = self._decode(received, other, like=shares[other])
        return _Share.joined([sums[owner] for owner in range(self.world_size)])

    def _decode(self, message: Bytes, sender: int, like: _Share) -> _Share:
        try:
            return _Share.decode(message, like)
        except ValueError as error:
            raise self._out_of_step(sender, str(error)) from error

    def _exchange(self, outgoing: Mapping[int, Sequence[npt.NDArray[Any]]]) -> dict[int, Bytes]:
        """Sends each peer its message and returns theirs. Sends and receives at the same time, to avoid deadlock.

        Raises:
            WorkerLostError: A peer closed its connection, or did not answer within `timeout_s`.
            TrainingError: A peer's message belongs to another exchange.
        """
        deadline = time.monotonic() + self.timeout_s
        self._exchanges += 1
        transfers = {
            peer.fileno(): _Transfer(other, peer, self._exchanges, outgoing[other])
            for other, peer in self._peers.items()
        }
        poll = select.poll()
        for descriptor, transfer in transfers.items():
            poll.register(descriptor, transfer.events)
        waiting = dict(transfers)
        while waiting:
            ready = poll.poll(1000 * max(deadline - time.monotonic(), 0))
            if not ready:
                late = min(transfer.other for transfer in waiting.values())
                raise self.late(self._name(late))
            for descriptor, _ in ready:
                transfer = waiting[descriptor]
                try:
                    transfer.advance()
                except OSError as error:
                    raise WorkerLostError(f"{self._name(transfer.other)} is gone: {reason(error)}") from error
                except ValueError as error:
                    raise self._out_of_step(transfer.other, str(error)) from error
                if transfer.events:
                    poll.modify(descriptor, transfer.events)
                else:
                    poll.unregister(descriptor)
                    del waiting[descriptor]
        return {transfer.other: transfer.message for transfer in transfers.values()}

    def _name(self, other: int) -> str:
        return f"worker {other} at {as_text(self.addresses[other])}"

    def _out_of_step(self, other: int, problem: str) -> TrainingError:
        return TrainingError(
            f"{self._name(other)} is out of step with worker {self.rank}: {problem}; do all workers run the same code?"
        )


class _Watch:
    """Waits on a thread for a peer to close its connection. Does not read: `_exchange` does that."""

    def __init__(
        self, peers: Mapping[int, str], lost: Callable[[WorkerLostError], None], every_second: Callable[[], object]
    ) -> None:
        """Starts the thread.

        Args:
            peers: Names of the peers, by the descriptors of their connections.
            lost: Called with the first peer's loss.
            every_second: Called every second until `lost` is called or the thread ends.
        """
        self._peers, self._lost, self._every_second = peers, lost, every_second
        self._end, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="watch-peers", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ends the thread, before the connections are closed."""
        self._wake.close()
        self._thread.join()
        self._end.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        for descriptor in self._peers:
            poll.register(descriptor, select.POLLRDHUP if sys.platform == "linux" else 0)
        while not (events := poll.poll(1000)):
            self._every_second()
        found = [descriptor for descriptor, _ in events]
        if self._end.fileno() not in found:
            self._lost(WorkerLostError(f"{self._peers[found[0]]} is gone: it closed the connection"))


@dataclass(frozen=True)
class _Share:
    """The values that one owner adds up.

    Message format: int64[matrices], the number of rows of each; int64, all ids; float32, dense values; float32, all
    rows.
    """

    dense: Floats
    sparse: list[SparseRows]

    def encode(self) -> list[npt.NDArray[Any]]:
        counts = np.array([len(rows.ids) for rows in self.sparse], np.int64)
        return [counts, *(rows.ids for rows in self.sparse), self.dense, *(rows.values for rows in self.sparse)]

    @staticmethod
    def decode(message: Bytes, like: _Share) -> _Share:
        """Reads a message with as many dense values as `like`, and matrices of the same widths.

        Raises:
            ValueError: The message has another length.
        """
        widths = [rows.values.shape[1] for rows in like.sparse]
        counts = message[: 8 * len(widths)].view(np.int64).tolist()
        rest = message[8 * len(widths) :]
        expected = 4 * len(like.dense) + sum(
            count * (8 + 4 * width) for count, width in zip(counts, widths, strict=True)
        )
        if min(counts, default=0) < 0 or len(rest) != expected:
            raise ValueError(f"sent {len(rest)} bytes, not {expected}")
        all_ids = rest[: 8 * sum(counts)].view(np.int64)
        floats = rest[8 * sum(counts) :].view(np.float32)
        dense, floats = floats[: len(like.dense)], floats[len(like.dense) :]
        sparse = []
        for count, width in zip(counts, widths, strict=True):
            sparse.append(SparseRows(all_ids[:count], floats[: count * width].reshape(count, width)))
            all_ids, floats = all_ids[count:], floats[count * width :]
        return _Share(dense, sparse)

    @staticmethod
    def total(parts: Sequence[_Share]) -> _Share:
        matrices = zip(*(part.sparse for part in parts), strict=True)
        with np.errstate(over="ignore", invalid="ignore"):  # the training loop detects a loss that is not finite
            dense = reduce(np.add, [part.dense for part in parts])
            return _Share(dense, [_sum_rows(matrix) for matrix in matrices])

    @staticmethod
    def joined(shares: Sequence[_Share]) -> tuple[Floats, list[SparseRows]]:
        matrices = zip(*(share.sparse for share in shares), strict=True)
        return np.concatenate([share.dense for share in shares]), [
            SparseRows(np.concatenate([rows.ids for rows in matrix]), np.concatenate([rows.values for rows in matrix]))
            for matrix in matrices
        ]


class _Transfer:
    """A message to a peer and a message from it, in transit.

    Attributes:
        other: The peer's rank.
        message: The bytes received; complete when `events` is 0.
        events: What to poll for: POLLOUT while something is left to send, POLLIN while something is left to receive.
    """

    def __init__(self, other: int, peer: socket.socket, number: int, content: Sequence[npt.NDArray[Any]]) -> None:
        self.other = other
        self.message: Bytes = np.empty(0, np.uint8)
        self.events = select.POLLIN | select.POLLOUT
        self._peer = peer
        self._number = number
        arrays = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in content]
        header = _HEADER.pack(number, sum(len(array) for array in arrays))
        self._unsent = [memoryview(header), *(array.data for array in arrays if len(array))]
        self._header = bytearray(_HEADER.size)
        self._unfilled = memoryview(self._header)
        self._is_header = True

    def advance(self) -> None:
        """Sends and receives as much as possible without blocking.

        Raises:
            OSError: The connection is closed or broken.
            ValueError: The message belongs to another exchange.
        """
        with suppress(BlockingIOError):
            while self._unsent:
                self._send()
            self.events &= ~select.POLLOUT
        with suppress(BlockingIOError):
            while self.events & select.POLLIN:
                self._receive()

    def _send(self) -> None:
        sent = self._peer.sendmsg(self._unsent)
        while self._unsent and sent >= len(self._unsent[0]):
            sent -= len(self._unsent.pop(0))
        if sent:
            self._unsent[0] = self._unsent[0][sent:]

    def _receive(self) -> None:
        received = self._peer.recv_into(self._unfilled)
        if not received:
            raise ConnectionError("it closed the connection")
        self._unfilled = self._unfilled[received:]
        if len(self._unfilled):
            return
        if self._is_header:
            number, size = _HEADER.unpack(self._header)
            if number != self._number:
                raise ValueError(f"it is at exchange {number}, not {self._number}")
            self.message = np.empty(size, np.uint8)
            self._unfilled = self.message.data
            self._is_header = False
        if not len(self._unfilled):
            self.events &= ~select.POLLIN


def _select(rows: SparseRows, chosen: npt.NDArray[np.bool_]) -> SparseRows:
    return SparseRows(rows.ids[chosen], rows.values[chosen])


def _sum_rows(parts: Sequence[SparseRows]) -> SparseRows:
    """Returns the sum of matrices, with rows sorted by id."""
    ids, positions = np.unique(np.concatenate([part.ids for part in parts]), return_inverse=True)
    values = np.zeros((len(ids), parts[0].values.shape[1]), np.float32)
    start = 0
    for part in parts:
        end = start + len(part.ids)
        values[positions[start:end]] += part.values  # += adds once per position: ids are unique within a part
        start = end
    return SparseRows(ids, values)
