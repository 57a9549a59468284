"""The groups of a RayCluster's pods, and what they offer to Ray."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.document import Place, at
from lstm_ray.cluster.quantity import quantity
from lstm_ray.room import Nodes

_NO_REPLICAS_LIMIT = 2**31 - 1  # the CRD's default


def groups(cluster: dict[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yields the head's group and the workers', each with its place in the cluster's spec."""
    head = at(cluster, ["headGroupSpec"], dict)
    if head is not None:
        yield ("headGroupSpec",), head
    for position, group in enumerate(at(cluster, ["workerGroupSpecs"], list) or []):
        if isinstance(group, dict):
            yield ("workerGroupSpecs", position), group


def scales(cluster: dict[str, Any]) -> bool:
    """Returns whether Ray's autoscaler runs."""
    return cluster.get("enableInTreeAutoscaling") is True


def environment(group: dict[str, Any]) -> Iterator[tuple[Place, str, Any]]:
    """Yields the variables of a group's Ray container: place in the group, name, value or None if it is looked up."""
    for number, variable in enumerate(at(group, ["template", "spec", "containers", 0, "env"], list) or []):
        name = at(variable, ["name"], str)
        if name is not None:
            yield ("template", "spec", "containers", 0, "env", number), name, at(variable, ["value"])


def amount(group: dict[str, Any], name: str) -> float:
    """Returns how much of a resource the pod of a group has: its Ray container's limit, else its request."""
    for level in ("limits", "requests"):
        found = quantity(at(group, ["template", "spec", "containers", 0, "resources", level, name]))
        if found is not None:
            return found
    return 0.0


def nodes(cluster: dict[str, Any]) -> list[Nodes]:
    """Returns the nodes that a cluster may come to have."""
    found = []
    for place, group in groups(cluster):
        count: float = 1
        if place != ("headGroupSpec",):
            most = at(group, ["maxReplicas" if scales(cluster) else "replicas"], int)
            most = most if most is not None else _NO_REPLICAS_LIMIT if scales(cluster) else 0
            count = math.inf if most >= _NO_REPLICAS_LIMIT else most * (at(group, ["numOfHosts"], int) or 1)
        cpus, gpus = (quantity(at(group, ["rayStartParams", name])) for name in ("num-cpus", "num-gpus"))
        found.append(
            Nodes(
                count,
                math.ceil(amount(group, "cpu")) if cpus is None else cpus,  # KubeRay rounds a share of a core up
                amount(group, "nvidia.com/gpu") if gpus is None else gpus,
            )
        )
    return found
