"""Checks that the connected Ray cluster has room for a run, or can grow until it has.

This is checked before any work starts, because a worker that fits on no node would wait without a message.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import ray

from lstm_ray.errors import LstmRayError
from lstm_ray.runtime.nodes import on_the_head
from lstm_ray.runtime.ray_internals import autoscaler_of_head
from lstm_ray.runtime.room import Asked, Nodes


def check_room(address: str, asked: Asked) -> str | None:
    """Checks that the cluster has the CPUs and GPUs that a run needs, or can add them.

    Returns:
        A note if the cluster's autoscaler has to start nodes first; otherwise None.

    Raises:
        LstmRayError: The cluster is too small and cannot grow enough.
    """
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    current = _by_size(Nodes(1, node.get("CPU", 0), node.get("GPU", 0)) for node in alive)
    lack = asked.lack(current)
    if lack is None:
        return None
    asks, has = lack
    scales, definition = on_the_head(autoscaler_of_head)
    if not scales:
        raise LstmRayError(
            f"{asks}, but the Ray at {address} has {has}, and no autoscaler to add nodes: ask for fewer "
            f"{asked.kind}, or add nodes"
        )
    if definition is not None:
        most = nodes_at_most(definition)
        is_full = len(alive) >= sum(kind.count for kind in most)
        if lack := asked.lack(current if is_full else most):
            raise LstmRayError(
                f"{lack[0]}, but the Ray at {address} grows to {lack[1]} at most: ask for fewer {asked.kind}, or raise "
                "the cluster's limits"
            )
    return f"{asks}, the cluster has {has} now: waiting for its autoscaler to add nodes"


def _by_size(nodes: Iterable[Nodes]) -> list[Nodes]:
    """Groups nodes of the same size, the largest first."""
    sizes = Counter((node.cpus, node.gpus) for node in nodes)
    return [Nodes(count, *size) for size, count in sorted(sizes.items(), reverse=True)]


def nodes_at_most(definition: Mapping[str, Any]) -> list[Nodes]:
    """Returns all nodes that a cluster can grow to.

    Args:
        definition: The launcher YAML on the head. A node type without a number of cores counts as unlimited.
    """
    most, head = definition.get("max_workers", math.inf), definition.get("head_node_type")
    nodes = []
    for name, kind in (definition.get("available_node_types") or {}).items():
        count = min(most, kind.get("max_workers", most)) + (name == head)
        size = kind.get("resources") or {}
        nodes.append(Nodes(count, size.get("CPU", 0 if size else math.inf), size.get("GPU", 0 if size else math.inf)))
    return nodes
