"""The workers of a run, on threads of this process, connected over TCP."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from lstm_ray.collective.rendezvous import address_of, listen
from lstm_ray.collective.tcp import TcpCollective, join

T = TypeVar("T")
TIMEOUT_S = 300.0


def on_workers(world_size: int, work: Callable[[TcpCollective], T]) -> list[T]:
    """Returns what `work` returns on each worker, by rank."""
    listeners = [listen("127.0.0.1") for _ in range(world_size)]
    addresses = [address_of(listener) for listener in listeners]

    def member(rank: int) -> T:
        with closing(join(listeners[rank], addresses, rank=rank, token="token", timeout_s=TIMEOUT_S)) as group:
            return work(group)

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(member, range(world_size)))
