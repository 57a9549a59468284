"""What Kubernetes refuses of a pod, and says only when KubeRay's operator makes the pod: no CRD holds it.

Source: Kubernetes' reference of Pod, and pkg/apis/core/validation/validation.go.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import Finding, Place, at
from lstm_ray.cluster.check.kubernetes_names import DNS_LABEL
from lstm_ray.cluster.check.quantity import quantity
from lstm_ray.cluster.check.schema import AMOUNT, unknown

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_GPUS = ("nvidia.com/gpu", "amd.com/gpu")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_LAST_PORT = 65535
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def check_pod(pod: dict[str, Any], place: Place) -> Iterator[Finding]:
    """Yields what Kubernetes would refuse of a pod's spec, whether or not its fields have the right types."""
    volumes = at(pod, ["volumes"], list) or []
    for number, volume in enumerate(volumes):
        size = at(volume, ["emptyDir", "sizeLimit"])
        if size is not None and quantity(size) is None:
            yield Finding((*place, "volumes", number, "emptyDir", "sizeLimit"), f"is {size!r}; {AMOUNT}")
    names: list[Any] = []
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(at(pod, [kind], list) or []):
            where = (*place, kind, number)
            if not isinstance(container, dict):
                yield Finding(where, "is no mapping; a container has a name and an image")
                continue
            name = container.get("name")
            if name in names:
                yield Finding((*where, "name"), f"is {name!r} a second time; give each container its own")
            names.append(name)
            yield from _check_container(container, where)
            for mount_number, mount in enumerate(at(container, ["volumeMounts"], list) or []):
                mounted = at(mount, ["name"])
                if mounted not in [at(volume, ["name"]) for volume in volumes]:
                    message = f"there is no volume {mounted!r}; add it to template.spec.volumes"
                    yield Finding((*where, "volumeMounts", mount_number, "name"), message)


def _check_container(container: dict[str, Any], place: Place) -> Iterator[Finding]:
    name, image, policy = (container.get(field) for field in ("name", "image", "imagePullPolicy"))
    if not isinstance(name, str) or not DNS_LABEL.fullmatch(name):
        yield Finding((*place, "name"), f"is {name!r}; use lower-case letters, digits and hyphens")
    if not image:
        yield Finding((*place, "image"), "is missing; name the image to run")
    elif re.search(r"\s", str(image)):
        yield Finding((*place, "image"), f"is {image!r}; an image's name has no spaces")
    if policy is not None and policy not in _PULL_POLICIES:
        yield Finding((*place, "imagePullPolicy"), f"is {policy!r}; choose one of {', '.join(_PULL_POLICIES)}")
    for number, variable in enumerate(at(container, ["env"], list) or []):
        named = at(variable, ["name"])
        if not isinstance(named, str) or not _VARIABLE.fullmatch(named):
            yield Finding((*place, "env", number, "name"), f"is {named!r}; use letters, digits, _, - and .")
    yield from _check_ports(container, place)
    yield from _check_resources(container, place)


def _check_ports(container: dict[str, Any], place: Place) -> Iterator[Finding]:
    ports = at(container, ["ports"], list) or []
    for number, port in enumerate(ports):
        at_port = at(port, ["containerPort"], int)
        if at_port is not None and not 0 < at_port <= _LAST_PORT:
            yield Finding((*place, "ports", number, "containerPort"), f"is {at_port}; ports go to {_LAST_PORT}")
    for probe in _PROBES:
        asked = at(container, [probe, "httpGet", "port"], str)
        if asked is not None and asked not in [at(port, ["name"]) for port in ports]:
            yield Finding((*place, probe, "httpGet", "port"), f"is {asked!r}; write a number, or the name of a port")


def _check_resources(container: dict[str, Any], place: Place) -> Iterator[Finding]:
    amounts: dict[str, dict[str, float]] = {"requests": {}, "limits": {}}
    for level, of_level in amounts.items():
        for name, value in (at(container, ["resources", level], dict) or {}).items():
            where = (*place, "resources", level, name)
            number = quantity(value)
            if "/" not in name and name not in _RESOURCES and not name.startswith("hugepages-"):
                yield Finding(where, unknown(name, _RESOURCES))
            elif number is None or number < 0:
                yield Finding(where, f"is {value!r}; {AMOUNT}")
            else:
                of_level[name] = number
                if "/" in name and number != int(number):
                    yield Finding(where, f"is {value}; Kubernetes gives out whole ones alone: write a whole number")
            if "/" in name and name not in _GPUS and "did you mean" in (message := unknown(name, _GPUS)):
                yield Finding(where, message.replace("is no field", "is none that we know"), "note")
    for name, asked in amounts["requests"].items():
        if asked > amounts["limits"].get(name, math.inf):
            yield Finding((*place, "resources", "requests", name), "is above its limit; Kubernetes refuses the pod")
