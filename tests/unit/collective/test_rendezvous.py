"""Which connections a group accepts, and what both sides report of the others."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from lstm_ray.collective import rendezvous
from lstm_ray.collective.rendezvous import address_of, listen, meet
from lstm_ray.errors import WorkerLostError

HOST = "127.0.0.1"


def errors_of(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Returns the errors of workers 0 and 1 when their arguments of `meet` differ."""
    listeners = [listen(HOST) for _ in range(2)]
    addresses = [address_of(listener) for listener in listeners]

    def join(rank: int, **others: Any) -> str:
        given = {"addresses": addresses, "rank": rank, "token": "token", "timeout_s": 1.0, **others}
        with pytest.raises(WorkerLostError) as caught:
            meet(listeners[rank], given.pop("addresses"), **given)
        return str(caught.value).replace(f"{HOST}:{addresses[0][1]}", "ADDRESS")

    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(join, 0, **first), pool.submit(join, 1, **second)]
        return [end.result() for end in ends]


def test_both_sides_report_a_token_of_another_group() -> None:
    why = "a worker of another run, or of an earlier group of this one"
    assert errors_of({}, {"token": "older"}) == [
        f"worker 0: worker 1 did not connect within 1 s; a connection was refused: {why}",
        f"worker 0 at ADDRESS cannot be reached: {why}",
    ]


def test_both_sides_report_groups_of_other_sizes() -> None:
    listener = listen(HOST)
    three = [address_of(listener)] * 3
    with listener:
        first, second = errors_of({"addresses": three}, {})
    assert first.endswith(
        "worker 1, 2 did not connect within 1 s; a connection was refused: a worker of a group of 2, not of 3"
    )
    assert second == "worker 0 at ADDRESS cannot be reached: a worker of a group of 3, not of 2"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((b"lstmray1", b"another", 0, 2), "a worker of another run, or of an earlier group of this one"),
        ((b"lstmray1", b"token", 0, 5), "a worker of a group of 5, not of 2"),
        ((b"lstmray1", b"token", 7, 2), "worker 7 answered"),
        ((b"HTTP/1.1", b" 400 Bad Request", 0, 2), "not a worker, or a worker of another version of lstm-ray"),
    ],
)
def test_a_listener_of_another_group_is_refused(answer: tuple[bytes, bytes, int, int], why: str) -> None:
    """Another process listens on the port of an earlier worker, and accepts every hello."""
    stranger, own = listen(HOST), listen(HOST)

    def accept() -> None:
        visitor, _ = stranger.accept()
        with visitor:
            visitor.recv(100)
            visitor.sendall(rendezvous._HELLO.pack(*answer))
            visitor.recv(100)

    with stranger, ThreadPoolExecutor(1) as pool:
        answering = pool.submit(accept)
        with pytest.raises(WorkerLostError, match=f"^worker 0 at {HOST}:.* cannot be reached: {why}$"):
            meet(own, [address_of(stranger), address_of(own)], rank=1, token="token", timeout_s=20.0)
        answering.result()


def test_visitors_that_are_silent_or_leave_keep_no_worker_waiting() -> None:
    listeners = [listen(HOST) for _ in range(2)]
    addresses = [address_of(listener) for listener in listeners]
    with ExitStack() as stack:
        for said in (b"", b"lstmray1", b"GET / HTTP/1.1\r\n"):
            visitor = stack.enter_context(socket.create_connection(addresses[0]))
            visitor.sendall(said)
        socket.create_connection(addresses[0]).close()
        began = time.monotonic()
        pool = stack.enter_context(ThreadPoolExecutor(2))
        meetings = [
            pool.submit(meet, listeners[rank], addresses, rank=rank, token="token", timeout_s=60.0) for rank in range(2)
        ]
        for rank, meeting in enumerate(meetings):
            (peer,) = meeting.result().values()
            peer.close()
            assert [*meeting.result()] == [1 - rank]
        assert time.monotonic() - began < 5


def test_strangers_use_up_no_more_than_some_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_MOST_PENDING", 3)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(HOST))
        visitors = stack.enter_context(rendezvous._PendingConnections(listener))
        strangers = [stack.enter_context(socket.create_connection(address_of(listener))) for _ in range(10)]
        worker = stack.enter_context(socket.create_connection(address_of(listener)))
        worker.sendall(b"x" * rendezvous._HELLO.size)
        visitor, said = visitors.next_hello(time.monotonic() + 20)
        assert said == b"x" * rendezvous._HELLO.size
        visitor.close()
        assert len(visitors._received) <= 3
        for stranger in strangers[:7]:
            stranger.settimeout(5)
            assert stranger.recv(1) == b"", "it was sent away"
