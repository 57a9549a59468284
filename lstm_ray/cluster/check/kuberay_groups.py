"""The pod groups of a RayCluster, and the resources that they offer to Ray."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import FieldPath, at
from lstm_ray.runtime.room import Nodes

HEAD: FieldPath = ("headGroupSpec",)
RAY_CONTAINER: FieldPath = ("template", "spec", "containers", 0)
_NO_REPLICAS_LIMIT = 2**31 - 1  # the CRD's default

_UNITS = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    **{unit: 1000.0 ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": 1024.0 ** (power + 1) for power, unit in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")


def groups(cluster: dict[str, Any]) -> Iterator[tuple[FieldPath, dict[str, Any]]]:
    """Yields the head group and the worker groups, each with its field in the cluster's spec."""
    head = at(cluster, HEAD, dict)
    if head is not None:
        yield HEAD, head
    for index, group in enumerate(at(cluster, ["workerGroupSpecs"], list) or []):
        if isinstance(group, dict):
            yield ("workerGroupSpecs", index), group


def nodes(cluster: dict[str, Any]) -> list[Nodes]:
    """Returns the maximum nodes of a cluster."""
    scales = cluster.get("enableInTreeAutoscaling") is True
    found = []
    for field, group in groups(cluster):
        count: float = 1
        if field != HEAD:
            most = at(group, ["maxReplicas" if scales else "replicas"], int)
            most = most if most is not None else _NO_REPLICAS_LIMIT if scales else 0
            count = math.inf if most >= _NO_REPLICAS_LIMIT else most * (at(group, ["numOfHosts"], int) or 1)
        cpus, gpus = _declared(group, "cpu", "num-cpus"), _declared(group, "gpu", "num-gpus")
        found.append(
            Nodes(
                count,
                math.ceil(_container_cpus(group)) if cpus is None else cpus,  # KubeRay rounds up to whole cores
                _container_gpus(group) if gpus is None else gpus,
            )
        )
    return found


def quantity(value: object) -> float | None:
    """Returns a Kubernetes quantity as a number, or None if it is not one: 500m -> 0.5, 2Ki -> 2048.

    Source: Kubernetes' resource.Quantity.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _QUANTITY.fullmatch(str(value))
    if not found:
        return None
    number, exponent, unit = found.groups()
    amount = float(f"{number}e{exponent or 0}") * _UNITS[unit or ""]
    return amount if math.isfinite(amount) else None


def _container_cpus(group: dict[str, Any]) -> float:
    """Returns the cores of a group's Ray container: its limit, or its request."""
    for level in ("limits", "requests"):
        found = quantity(at(group, [*RAY_CONTAINER, "resources", level, "cpu"]))
        if found is not None:
            return found
    return 0.0


def _container_gpus(group: dict[str, Any]) -> float:
    """Returns the GPUs, of any vendor, of a group's Ray container, from the first limit that names some."""
    limits = at(group, [*RAY_CONTAINER, "resources", "limits"], dict) or {}
    amounts = (quantity(limits[name]) for name in sorted(limits, key=str) if _is_gpu(name))
    return next((amount for amount in amounts if amount), 0.0)


def _declared(group: dict[str, Any], resource: str, param: str) -> float | None:
    """Returns the resource that a group declares to Ray; `resources` takes precedence over `rayStartParams`."""
    for name, value in (at(group, ["resources"], dict) or {}).items():
        if str(name).lower() == resource or (resource == "gpu" and _is_gpu(name)):
            return quantity(value)
    return quantity(at(group, ["rayStartParams", param]))


def _is_gpu(name: Any) -> bool:
    return bool(re.search(r"gpu$|nvidia\.com/mig-\d+g\.\d+gb$", str(name).lower()))
