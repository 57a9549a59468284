"""Says what a running cluster has, and what a run would get of it: `lstm-ray cluster status`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_ray.room import Nodes, room

_GIB = 2**30


@dataclass(frozen=True)
class Node:
    """A node of a running cluster.

    Attributes:
        address: Its IP address.
        is_head: True for the head.
        cpus: Cores that Ray gives out on it.
        gpus: GPUs.
        memory_gib: Memory that Ray gives out on it, in GiB.
    """

    address: str
    is_head: bool
    cpus: float
    gpus: float
    memory_gib: float


@dataclass(frozen=True)
class Status:
    """A running cluster.

    Attributes:
        nodes: Those alive, the head first.
        lost: How many nodes have been lost since it started.
        free_cpus: Cores nobody uses.
        free_gpus: GPUs nobody uses.
        free_memory_gib: Memory nobody uses, in GiB.
    """

    nodes: tuple[Node, ...]
    lost: int
    free_cpus: float
    free_gpus: float
    free_memory_gib: float

    @property
    def train_workers(self) -> int:
        """Returns how many workers a training run could have now: one GPU each if there are any, and one core."""
        return self._fitting(self.free_cpus)

    @property
    def score_actors(self) -> int:
        """Returns how many actors a scoring run could have now; one core is left to Ray Data's other tasks."""
        return self._fitting(self.free_cpus - 1 if self.free_cpus >= 2 else self.free_cpus)

    def _fitting(self, free_cpus: float) -> int:
        gpus = 1 if self.free_gpus >= 1 else 0
        there = room([Nodes(1, node.cpus, node.gpus) for node in self.nodes], 1, gpus)
        limits = [there, free_cpus, *([self.free_gpus] if gpus else [])]
        return math.floor(min(limits) + 1e-9)


def read_status(address: str) -> Status:
    """Asks a running cluster.

    Args:
        address: "auto", HOST:PORT or ray://HOST:PORT.

    Raises:
        LstmRayError: There is no Ray at that address.
    """
    import ray

    from lstm_ray.ray_session import connect

    with connect(address):
        return summarise(ray.nodes(), ray.available_resources())


def summarise(nodes: Sequence[Mapping[str, Any]], free: Mapping[str, float]) -> Status:
    """Returns the status of a cluster from what Ray tells.

    Args:
        nodes: As `ray.nodes()` gives them.
        free: As `ray.available_resources()` gives them; memory in bytes.
    """
    alive = [
        Node(
            str(node["NodeManagerAddress"]),
            "node:__internal_head__" in node["Resources"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
            node["Resources"].get("memory", 0.0) / _GIB,
        )
        for node in nodes
        if node["Alive"]
    ]
    alive.sort(key=lambda node: (not node.is_head, node.address))
    lost = len(nodes) - len(alive)
    return Status(tuple(alive), lost, free.get("CPU", 0.0), free.get("GPU", 0.0), free.get("memory", 0.0) / _GIB)
