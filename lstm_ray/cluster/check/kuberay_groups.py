"""The groups of a RayCluster's pods, and what they offer to Ray."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import Place, at
from lstm_ray.cluster.check.quantity import quantity
from lstm_ray.runtime.room import Nodes

_RAY_CONTAINER: Place = ("template", "spec", "containers", 0)
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
    place = (*_RAY_CONTAINER, "env")
    for number, variable in enumerate(at(group, place, list) or []):
        name = at(variable, ["name"], str)
        if name is not None:
            yield (*place, number), name, at(variable, ["value"])


def cpus(group: dict[str, Any]) -> float:
    """Returns the cores of a group's Ray container: its limit, else its request."""
    for level in ("limits", "requests"):
        found = quantity(at(group, [*_RAY_CONTAINER, "resources", level, "cpu"]))
        if found is not None:
            return found
    return 0.0


def gpus(group: dict[str, Any]) -> float:
    """Returns the GPUs of a group's Ray container, whoever makes them: those of the first limit that names some."""
    limits = at(group, [*_RAY_CONTAINER, "resources", "limits"], dict) or {}
    amounts = (quantity(limits[name]) for name in sorted(limits, key=str) if _is_gpu(name))
    return next((amount for amount in amounts if amount), 0.0)


def nodes(cluster: dict[str, Any]) -> list[Nodes]:
    """Returns the nodes that a cluster may come to have."""
    found = []
    for place, group in groups(cluster):
        count: float = 1
        if place != ("headGroupSpec",):
            most = at(group, ["maxReplicas" if scales(cluster) else "replicas"], int)
            most = most if most is not None else _NO_REPLICAS_LIMIT if scales(cluster) else 0
            count = math.inf if most >= _NO_REPLICAS_LIMIT else most * (at(group, ["numOfHosts"], int) or 1)
        cores, accelerators = _told(group, "cpu", "num-cpus"), _told(group, "gpu", "num-gpus")
        found.append(
            Nodes(
                count,
                math.ceil(cpus(group)) if cores is None else cores,  # KubeRay rounds a share of a core up
                gpus(group) if accelerators is None else accelerators,
            )
        )
    return found


def _told(group: dict[str, Any], resource: str, param: str) -> float | None:
    """Returns what a group says that Ray is to take its pods to have; `resources` comes before `rayStartParams`."""
    for name, value in (at(group, ["resources"], dict) or {}).items():
        if str(name).lower() == resource or (resource == "gpu" and _is_gpu(name)):
            return quantity(value)
    return quantity(at(group, ["rayStartParams", param]))


def _is_gpu(name: Any) -> bool:
    return bool(re.search(r"gpu$|nvidia\.com/mig-\d+g\.\d+gb$", str(name).lower()))
