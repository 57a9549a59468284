"""The nodes of a running cluster, and the workers that a run would get: `lstm-ray cluster status`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_ray.runtime.room import Nodes, room

_GIB = 2**30
_GIVEN_BACK = (1, 4)  # expected termination, idle. Source: NodeDeathInfo.Reason in Ray's common.proto


@dataclass(frozen=True)
class Node:
    """A node of a running cluster.

    Attributes:
        address: Its IP address.
        is_head: True for the head.
        cpus: Cores that Ray offers on it.
        gpus: GPUs.
        memory_gib: Memory that Ray offers on it, in GiB.
        free_cpus: Unused cores.
        free_gpus: Unused GPUs.
        free_memory_gib: Unused memory, in GiB.
    """

    address: str
    is_head: bool
    cpus: float
    gpus: float
    memory_gib: float
    free_cpus: float
    free_gpus: float
    free_memory_gib: float


@dataclass(frozen=True)
class Status:
    """A running cluster.

    Attributes:
        nodes: Nodes that are alive, the head first.
        lost: Number of nodes lost since the cluster started, without those that its autoscaler released.
        free_cpus: Unused cores of all nodes.
        free_gpus: Unused GPUs.
        free_memory_gib: Unused memory, in GiB.
    """

    nodes: tuple[Node, ...]
    lost: int
    free_cpus: float
    free_gpus: float
    free_memory_gib: float

    @property
    def gpus_each(self) -> int:
        """Returns the GPUs per worker of a run: 1 if any node has a free GPU and a free core, otherwise 0."""
        return int(any(node.free_gpus >= 1 and node.free_cpus >= 1 for node in self.nodes))

    @property
    def train_workers(self) -> int:
        """Returns how many workers a training run could have now, with one core each, and one GPU if there are any."""
        return int(room([Nodes(1, node.free_cpus, node.free_gpus) for node in self.nodes], 1, self.gpus_each))

    @property
    def score_actors(self) -> int:
        """Returns how many actors a scoring run could have now; with GPUs, one core is left for the tasks that read."""
        most = self.train_workers
        return min(most, int(self.free_cpus) - 1) if self.gpus_each else most


def read_status(address: str, notify: Callable[[str], None]) -> Status:
    """Returns the status of a running cluster.

    Args:
        address: "auto", HOST:PORT or ray://HOST:PORT.
        notify: Receives a message that says which Ray is waited for.

    Raises:
        LstmRayError: There is no Ray at the address.
    """
    import ray

    from lstm_ray.runtime.ray_session import connect, is_ray_client

    def free_by_node() -> dict[str, dict[str, float]]:
        from ray._private.state import available_resources_per_node  # Ray has no public function for this

        found: dict[str, dict[str, float]] = available_resources_per_node()
        return found

    with connect(address, notify=notify):
        # Only processes of the cluster can call it. The function is sent by value, as lstm-ray may be missing there.
        if is_ray_client():
            return summarise(ray.nodes(), ray.get(ray.remote(num_cpus=0)(free_by_node).remote()))
        return summarise(ray.nodes(), free_by_node())


def summarise(nodes: Sequence[Mapping[str, Any]], free: Mapping[str, Mapping[str, float]]) -> Status:
    """Returns the status of a cluster from Ray's answers.

    Args:
        nodes: The result of `ray.nodes()`.
        free: Free resources by node id, named as in `ray.nodes()`; memory in bytes.
    """
    alive = []
    for node in nodes:
        if node["Alive"]:
            has, spare = node["Resources"], free.get(node["NodeID"], {})
            amounts = [
                one.get(name, 0.0) / unit
                for one in (has, spare)
                for name, unit in (("CPU", 1), ("GPU", 1), ("memory", _GIB))
            ]
            alive.append(Node(str(node["NodeManagerAddress"]), "node:__internal_head__" in has, *amounts))
    alive.sort(key=lambda node: (not node.is_head, node.address))
    lost = sum(not node["Alive"] and node.get("DeathReason") not in _GIVEN_BACK for node in nodes)
    return Status(
        nodes=tuple(alive),
        lost=lost,
        free_cpus=sum(node.free_cpus for node in alive),
        free_gpus=sum(node.free_gpus for node in alive),
        free_memory_gib=sum(node.free_memory_gib for node in alive),
    )
