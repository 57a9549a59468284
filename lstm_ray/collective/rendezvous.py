"""Connects the workers of a group: each connects to those of lower rank, and both sides check the other's group.

    caller -> hello: protocol, token, rank, world size -> listener
    caller <-            the listener's hello          <-

The token rejects other programs, other runs and earlier groups of this run that connect by mistake. It does not
encrypt.
"""

from __future__ import annotations

import hmac
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from typing import TypeAlias

from lstm_ray.errors import WorkerLostError
from lstm_ray.wording import reason

Address: TypeAlias = tuple[str, int]

_HELLO = struct.Struct("!8s64sII")  # name of the protocol, token, rank, world size
_PROTOCOL = b"lstmray1"
_MOST_PENDING = 128


def listen(host: str) -> socket.socket:
    """Returns a socket that listens on a free port of `host`, a name or address of this machine."""
    family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, 0), family=family, backlog=128)


def address_of(listener: socket.socket) -> Address:
    """Returns the address of a socket from `listen`."""
    host, port = listener.getsockname()[:2]
    return host, port


def as_text(address: Address) -> str:
    """Returns an address as HOST:PORT."""
    return f"{address[0]}:{address[1]}"


def meet(
    listener: socket.socket, addresses: Sequence[Address], *, rank: int, token: str, timeout_s: float
) -> dict[int, socket.socket]:
    """Connects this worker to all others, closes `listener`, and returns the connections by rank.

    Args:
        listener: This worker's socket, from `listen`.
        addresses: The addresses of all workers, by rank.
        rank: This worker's number.
        token: At most 64 ASCII characters, the same on all workers of the group and unknown to others.
        timeout_s: Maximum seconds to wait for the others.

    Raises:
        WorkerLostError: A worker cannot be reached, belongs to another group, or did not connect in time.
    """
    deadline = time.monotonic() + timeout_s
    hello = _HELLO.pack(_PROTOCOL, token.encode("ascii"), rank, len(addresses))
    peers: dict[int, socket.socket] = {}
    refused = ""
    try:
        with listener:
            for other in range(rank):  # they already listen, otherwise their addresses would not be known
                peers[other] = _call(other, addresses[other], hello, deadline)
            with _PendingConnections(listener) as pending:
                while len(peers) < len(addresses) - 1:
                    try:
                        connection, theirs = pending.next_hello(deadline)
                    except TimeoutError:
                        missing = ", ".join(str(r) for r in range(rank + 1, len(addresses)) if r not in peers)
                        raise WorkerLostError(
                            f"worker {rank}: worker {missing} did not connect within {timeout_s:g} s{refused}"
                        ) from None
                    try:
                        caller = _answer_hello(connection, theirs, hello)
                        if caller <= rank or caller in peers:
                            raise ConnectionError(f"no worker {caller} is expected")
                    except OSError as error:
                        connection.close()
                        refused = f"; a connection was refused: {reason(error)}"
                    else:
                        peers[caller] = connection
    except BaseException:  # re-raised below, after the sockets are closed
        for peer in peers.values():
            peer.close()
        raise
    return peers


def _call(other: int, address: Address, hello: bytes, deadline: float) -> socket.socket:
    """Connects to a worker.

    Raises:
        WorkerLostError: The worker cannot be reached, or another process listens at its address.
    """
    try:
        peer = socket.create_connection(address, timeout=_time_left(deadline))
        try:
            peer.sendall(hello)
            answer = _receive(peer, _HELLO.size, deadline)
            _check_hello(answer, hello)
            if (found := _HELLO.unpack(answer)[2]) != other:
                raise ConnectionError(f"worker {found} answered")
        except BaseException:  # re-raised below, after the socket is closed
            peer.close()
            raise
    except OSError as error:
        raise WorkerLostError(f"worker {other} at {as_text(address)} cannot be reached: {reason(error)}") from error
    return peer


class _PendingConnections:
    """Incoming connections that have not sent a hello yet. A silent one does not block the others.

    Silent connections take no more than `_MOST_PENDING` sockets: a new one replaces the oldest. A worker sends its
    hello at once.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._received: dict[socket.socket, bytearray] = {}

    def __enter__(self) -> _PendingConnections:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for connection in self._received:
            connection.close()

    def next_hello(self, deadline: float) -> tuple[socket.socket, bytes]:
        """Returns the next connection that has sent a hello's number of bytes or was closed, and the bytes.

        Raises:
            TimeoutError: There was none before the deadline.
        """
        while time.monotonic() < deadline:
            for key, _ in self._selector.select(_time_left(deadline)):
                if key.fileobj is self._listener:
                    self._accept()
                    continue
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                so_far = self._received[connection]
                try:
                    received = connection.recv(_HELLO.size - len(so_far))
                except OSError:  # the connection was broken
                    received = b""
                so_far += received
                if not received or len(so_far) == _HELLO.size:
                    self._selector.unregister(connection)
                    return connection, bytes(self._received.pop(connection))
        raise TimeoutError

    def _accept(self) -> None:
        if len(self._received) == _MOST_PENDING:
            oldest = next(iter(self._received))
            self._selector.unregister(oldest)
            del self._received[oldest]
            oldest.close()
        connection, _ = self._listener.accept()
        self._selector.register(connection, selectors.EVENT_READ)
        self._received[connection] = bytearray()


def _answer_hello(connection: socket.socket, theirs: bytes, hello: bytes) -> int:
    """Answers the hello of a connection, and returns the caller's rank.

    Raises:
        OSError: The caller is not of this group, or has closed the connection.
    """
    if len(theirs) < _HELLO.size:
        raise ConnectionError("it closed the connection")
    name, _, rank, world_size = _HELLO.unpack(hello)
    try:
        _check_hello(theirs, hello)
    except ConnectionError:
        if theirs.startswith(_PROTOCOL):  # so that it can report why; without our token, which it must not learn
            connection.sendall(_HELLO.pack(name, b"", rank, world_size))
        raise
    connection.sendall(hello)
    return int(_HELLO.unpack(theirs)[2])


def _check_hello(theirs: bytes, ours: bytes) -> None:
    """Raises ConnectionError if a hello is not from a worker of our group."""
    name, token, _, world_size = _HELLO.unpack(ours)
    their_name, their_token, _, their_size = _HELLO.unpack(theirs)
    if their_name != name:
        raise ConnectionError("not a worker, or a worker of another version of lstm-ray")
    if their_size != world_size:
        raise ConnectionError(f"a worker of a group of {their_size}, not of {world_size}")
    if not hmac.compare_digest(their_token, token):
        raise ConnectionError("a worker of another run, or of an earlier group of this one")


def _receive(peer: socket.socket, size: int, deadline: float) -> bytes:
    """Returns the next `size` bytes.

    Raises:
        OSError: The connection is closed or broken, or the bytes do not arrive in time.
    """
    content = bytearray()
    while len(content) < size:
        peer.settimeout(_time_left(deadline))
        received = peer.recv(size - len(content))
        if not received:
            raise ConnectionError("it closed the connection")
        content += received
    return bytes(content)


def _time_left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 1e-3)
