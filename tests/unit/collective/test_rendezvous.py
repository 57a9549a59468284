"""Who is let into a group, and what those hear who are not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lstm_ray.collective import rendezvous
from lstm_ray.collective.rendezvous import address_of, listen, meet
from lstm_ray.errors import WorkerLostError

HOST = "127.0.0.1"


def errors_of(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Returns what workers 0 and 1 raise who differ in what they know of their group."""
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


def test_both_ends_hear_that_the_token_is_another_groups() -> None:
    why = "a worker of another run, or of an earlier group of this one, is there"
    assert errors_of({}, {"token": "older"}) == [
        f"worker 0: no word from worker 1 in 1 s; one who called was refused: {why}",
        f"worker 0 at ADDRESS cannot be reached: {why}",
    ]


def test_both_ends_hear_that_their_groups_are_not_as_large() -> None:
    listener = listen(HOST)
    three = [address_of(listener)] * 3
    with listener:
        first, second = errors_of({"addresses": three}, {})
    assert first.endswith(
        "no word from worker 1, 2 in 1 s; one who called was refused: a worker of a group of 2 is there, not of 3"
    )
    assert second == "worker 0 at ADDRESS cannot be reached: a worker of a group of 3 is there, not of 2"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((b"lstmray1", b"another", 0, 2), "a worker of another run, or of an earlier group of this one, is there"),
        ((b"lstmray1", b"token", 0, 5), "a worker of a group of 5 is there, not of 2"),
        ((b"lstmray1", b"token", 7, 2), "worker 7 answers there"),
        ((b"HTTP/1.1", b" 400 Bad Request", 0, 2), "somebody else is there, or another version of lstm-ray"),
    ],
)
def test_who_answers_must_be_of_the_group_too(answer: tuple[bytes, bytes, int, int], why: str) -> None:
    """Somebody listens where a worker of an earlier group did, and says yes to all."""
    stranger, own = listen(HOST), listen(HOST)

    def say_yes() -> None:
        visitor, _ = stranger.accept()
        with visitor:
            visitor.recv(100)
            visitor.sendall(rendezvous._HELLO.pack(*answer))
            visitor.recv(100)

    with stranger, ThreadPoolExecutor(1) as pool:
        answering = pool.submit(say_yes)
        with pytest.raises(WorkerLostError, match=f"^worker 0 at {HOST}:.* cannot be reached: {why}$"):
            meet(own, [address_of(stranger), address_of(own)], rank=1, token="token", timeout_s=20.0)
        answering.result()
