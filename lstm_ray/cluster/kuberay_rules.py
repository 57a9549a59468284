"""What has to hold in a RayCluster or RayJob beyond the CRD: what KubeRay's operator refuses, and what would go wrong.

Source: KubeRay 1.7, ray-operator/controllers/ray/utils/validation.go; Ray's pages on KubeRay.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from lstm_ray.cluster import fields
from lstm_ray.cluster.demand import Demand, demands
from lstm_ray.cluster.document import Finding, Place, at
from lstm_ray.cluster.quantity import quantity
from lstm_ray.cluster.schema import unknown
from lstm_ray.cluster.settings import NAMESPACE
from lstm_ray.cluster.versions import as_numbers, version_of_image
from lstm_ray.room import Nodes, room

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MOST_CHARACTERS = {"RayCluster": 53, "RayJob": 47}
_TOKEN_SINCE = (2, 52, 0)
_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
_OPEN_SERVICES = ("LoadBalancer", "NodePort")
_NO_REPLICAS_LIMIT = 2**31 - 1  # the CRD's default


def check_kuberay(content: dict[str, Any], ray_version: str) -> Iterator[Finding]:
    """Yields what is wrong with a RayCluster or RayJob, whether or not its fields have the right types.

    Args:
        content: The document; its `kind` is one of the two.
        ray_version: That of this installation.
    """
    kind = content["kind"]
    yield from _check_metadata(content, kind)
    spec = at(content, ["spec"], dict)
    if spec is None:
        yield Finding(("spec",), "is missing; it has to be there")
    elif kind == "RayJob":
        yield from _check_fields(spec, ("spec",), fields.JOB)
        yield from _check_job(spec, ray_version)
    else:
        yield from _check_cluster(spec, ("spec",), ray_version)


def _check_metadata(content: dict[str, Any], kind: str) -> Iterator[Finding]:
    if content.get("apiVersion") != "ray.io/v1":
        yield Finding(("apiVersion",), f"is {content.get('apiVersion')}; KubeRay 1.0 and later want ray.io/v1")
    name, most = at(content, ["metadata", "name"]), _MOST_CHARACTERS[kind]
    if name is None:
        if not at(content, ["metadata", "generateName"], str):
            yield Finding(("metadata", "name"), "is missing; it has to be there")
    elif not isinstance(name, str) or not _LABEL.fullmatch(name):
        yield Finding(("metadata", "name"), f"is {name!r}; use lower-case letters, digits and hyphens, a letter first")
    elif len(name) > most:
        yield Finding(("metadata", "name"), f"has {len(name)} characters; a {kind}'s may have {most}")
    namespace = at(content, ["metadata", "namespace"])
    if namespace is not None and not (isinstance(namespace, str) and NAMESPACE.fullmatch(namespace)):
        yield Finding(("metadata", "namespace"), f"is {namespace!r}; use lower-case letters, digits and hyphens")


def _check_fields(mapping: dict[str, Any], place: Place, known: tuple[str, ...]) -> Iterator[Finding]:
    for name in mapping:
        if name not in known:
            message = unknown(str(name), known)
            kind = "mistake" if "did you mean" in message else "note"  # a later KubeRay may have more
            yield Finding((*place, str(name)), message, kind)  # type: ignore[arg-type]


def _check_cluster(spec: dict[str, Any], place: Place, ray_version: str) -> Iterator[Finding]:
    yield from _check_fields(spec, place, fields.CLUSTER)
    scales = spec.get("enableInTreeAutoscaling") is True
    head = at(spec, ["headGroupSpec"], dict)
    if head is None:
        yield Finding((*place, "headGroupSpec"), "is missing; a cluster needs a head")
    else:
        yield from _check_fields(head, (*place, "headGroupSpec"), fields.HEAD_GROUP)
        yield from _check_group(spec, head, (*place, "headGroupSpec"), scales)
        yield from _check_doors(head, (*place, "headGroupSpec"))
    names = set()
    for position, group in enumerate(at(spec, ["workerGroupSpecs"], list) or []):
        inner = (*place, "workerGroupSpecs", position)
        if not isinstance(group, dict):
            yield Finding(inner, "is no mapping; a worker group has fields such as groupName")
            continue
        yield from _check_fields(group, inner, fields.WORKER_GROUP)
        yield from _check_group(spec, group, inner, scales)
        yield from _check_replicas(group, inner)
        name = group.get("groupName")
        if not name:
            yield Finding((*inner, "groupName"), "is missing; the operator tells groups apart by it")
        elif name in names:
            yield Finding((*inner, "groupName"), f"is {name!r} a second time; give each group its own")
        names.add(name)
    yield from _check_autoscaler(spec, place, scales)
    yield from _check_version(spec, place, ray_version)
    yield from _check_token(spec, place)


def _groups(spec: dict[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yields the head's group and the workers', each with its place in the spec."""
    head = at(spec, ["headGroupSpec"], dict)
    if head is not None:
        yield ("headGroupSpec",), head
    for position, group in enumerate(at(spec, ["workerGroupSpecs"], list) or []):
        if isinstance(group, dict):
            yield ("workerGroupSpecs", position), group


def _check_group(spec: dict[str, Any], group: dict[str, Any], place: Place, scales: bool) -> Iterator[Finding]:
    for name, value in (at(group, ["rayStartParams"], dict) or {}).items():
        inner = (*place, "rayStartParams", str(name))
        if not isinstance(value, str):
            yield Finding(inner, f'is {value!r}; values here are texts: "{str(value).lower()}"')
        if str(name).startswith("-"):
            yield Finding(inner, f"begins with hyphens; write {str(name).lstrip('-')}")
    pod = (*place, "template", "spec")
    containers = at(group, ["template", "spec", "containers"], list)
    if not containers:
        yield Finding((*pod, "containers"), "is missing or empty; the first container runs Ray")
        return
    if at(spec, ["autoscalerOptions", "version"]) == "v2" and scales:
        policy = at(group, ["template", "spec", "restartPolicy"])
        if policy not in (None, "Never"):
            yield Finding((*pod, "restartPolicy"), f"is {policy}; the autoscaler v2 wants Never, or none")
    volumes = {volume.get("name") for volume in at(group, ["template", "spec", "volumes"], list) or [] if volume}
    for number, container in enumerate(containers):
        inner = (*pod, "containers", number)
        if not isinstance(container, dict):
            yield Finding(inner, "is no mapping; a container has a name and an image")
            continue
        yield from _check_container(container, inner, is_ray=number == 0, scales=scales)
        for mount_number, mount in enumerate(at(container, ["volumeMounts"], list) or []):
            if isinstance(mount, dict) and mount.get("name") not in volumes:
                missing = f"there is no volume {mount.get('name')!r}; add it to {'.'.join(map(str, pod[-2:]))}.volumes"
                yield Finding((*inner, "volumeMounts", mount_number, "name"), missing)
    yield from _check_gpus(group, place)


def _check_container(container: dict[str, Any], place: Place, *, is_ray: bool, scales: bool) -> Iterator[Finding]:
    if not container.get("image"):
        yield Finding((*place, "image"), "is missing; name the image to run")
    amounts: dict[str, dict[str, float]] = {}
    for level in ("requests", "limits"):
        amounts[level] = {}
        for name, value in (at(container, ["resources", level], dict) or {}).items():
            number = quantity(value)
            if number is None or number < 0:
                yield Finding(
                    (*place, "resources", level, name), f"is {value!r}; write an amount such as 2, 500m or 16Gi"
                )
            else:
                amounts[level][name] = number
    for name, asked in amounts["requests"].items():
        if asked > amounts["limits"].get(name, math.inf):
            yield Finding((*place, "resources", "requests", name), "is above its limit; Kubernetes refuses the pod")
    if not is_ray:
        return
    for name in ("cpu", "memory"):
        if name not in (at(container, ["resources", "limits"], dict) or {}):
            asked_at_least = name in (at(container, ["resources", "requests"], dict) or {})
            # Ray takes limits, or CPU requests, for what a node has. Without them it takes the whole machine's.
            hard = scales and not asked_at_least
            message = f"is missing; without it Ray takes the pod to have all the {name} of its node"
            yield Finding((*place, "resources", "limits", name), message, "mistake" if hard else "note")


def _check_gpus(group: dict[str, Any], place: Place) -> Iterator[Finding]:
    told = at(group, ["rayStartParams", "num-gpus"])
    given = _amount(group, "nvidia.com/gpu")
    if told is not None and quantity(told) is not None and given and quantity(told) != given:
        message = (
            f"is {told}, but the container's limit of nvidia.com/gpu is {given:g}; leave it out, KubeRay fills it in"
        )
        yield Finding((*place, "rayStartParams", "num-gpus"), message)


def _check_replicas(group: dict[str, Any], place: Place) -> Iterator[Finding]:
    least, most, now = (at(group, [name], int) for name in ("minReplicas", "maxReplicas", "replicas"))
    for name, value in (("minReplicas", least), ("maxReplicas", most), ("replicas", now)):
        if value is not None and value < 0:
            yield Finding((*place, name), f"is {value}; it cannot be below 0")
    if least is not None and most is not None and least > most:
        yield Finding((*place, "maxReplicas"), f"is {most}, below minReplicas {least}; raise it, or lower that")
    elif most is not None and now is not None and now > most:
        yield Finding((*place, "replicas"), f"is {now}, above maxReplicas {most}; lower it, or raise that")
    elif least is not None and now is not None and now < least:
        yield Finding((*place, "replicas"), f"is {now}, below minReplicas {least}; raise it, or lower that")


def _check_autoscaler(spec: dict[str, Any], place: Place, scales: bool) -> Iterator[Finding]:
    idle = at(spec, ["autoscalerOptions", "idleTimeoutSeconds"], int)
    if idle is not None and idle < 0:
        yield Finding((*place, "autoscalerOptions", "idleTimeoutSeconds"), f"is {idle}; it cannot be below 0")
    if spec.get("autoscalerOptions") and not scales:
        yield Finding(
            (*place, "autoscalerOptions"), "has no effect; set enableInTreeAutoscaling: true, or take it out", "note"
        )


def _check_version(spec: dict[str, Any], place: Place, ray_version: str) -> Iterator[Finding]:
    told = spec.get("rayVersion")
    if told is not None and not isinstance(told, str):
        yield Finding((*place, "rayVersion"), f'is a number; write it in quotes: "{told}"')
        return
    for inner, group in _groups(spec):
        image = at(group, ["template", "spec", "containers", 0, "image"], str)
        found = version_of_image(image) if image else None
        if found and told and found != told:
            where = (*place, *inner, "template", "spec", "containers", 0, "image")
            yield Finding(where, f"has Ray {found}, but rayVersion is {told}; all of a cluster must have the same")
    if told and as_numbers(told) and told != ray_version:
        message = f"is {told}, this installation has {ray_version}; jobs can be sent there, but ray:// wants the same"
        yield Finding((*place, "rayVersion"), message, "note")


def _check_token(spec: dict[str, Any], place: Place) -> Iterator[Finding]:
    options = at(spec, ["authOptions"], dict) or {}
    by_operator = options.get("mode") == "token"
    if by_operator:
        told = spec.get("rayVersion")
        numbers = as_numbers(told) if isinstance(told, str) else None
        if told is None:
            yield Finding((*place, "rayVersion"), "is missing; the operator wants it with authOptions.mode token")
        elif numbers is not None and numbers < _TOKEN_SINCE:
            yield Finding((*place, "rayVersion"), f"is {told}; tokens came with Ray 2.52.0: take a later one")
    if options.get("enableK8sTokenAuth") and options.get("secretName"):
        yield Finding((*place, "authOptions", "secretName"), "excludes enableK8sTokenAuth; take one of them out")
    if options.get("enableK8sTokenAuth") and not by_operator:
        yield Finding((*place, "authOptions", "enableK8sTokenAuth"), "needs mode: token beside it")
    for inner, group in _groups(spec):
        by_hand = False
        for number, variable in enumerate(at(group, ["template", "spec", "containers", 0, "env"], list) or []):
            name, where = at(variable, ["name"]), (*place, *inner, "template", "spec", "containers", 0, "env", number)
            if name == "RAY_AUTH_MODE" and at(variable, ["value"]) == "token":
                by_hand = True
            if name == "RAY_AUTH_TOKEN" and at(variable, ["value"]):
                message = "is the token itself; keep it in a Secret: valueFrom.secretKeyRef, or authOptions.secretName"
                yield Finding((*where, "value"), message, is_exposed=True)
        if not by_operator and not by_hand:
            message = "is off: whoever reaches a port of Ray can run anything there; set authOptions: {mode: token}"
            yield Finding((*place, "authOptions", "mode"), message, is_exposed=True)
            return


def _check_doors(head: dict[str, Any], place: Place) -> Iterator[Finding]:
    closed = "opens Ray's ports to the outside; use ClusterIP and `kubectl port-forward`"
    if head.get("serviceType") in _OPEN_SERVICES:
        yield Finding((*place, "serviceType"), f"is {head['serviceType']}: it {closed}", is_exposed=True)
    service = at(head, ["headService", "spec", "type"])
    if service in _OPEN_SERVICES:
        yield Finding((*place, "headService", "spec", "type"), f"is {service}: it {closed}", is_exposed=True)
    if head.get("enableIngress") is True and not at(head, ["ingressOptions", "tls"], list):
        message = "opens the dashboard to the outside without TLS; take it out, or add ingressOptions.tls"
        yield Finding((*place, "enableIngress"), message, is_exposed=True)
    if at(head, ["template", "spec", "hostNetwork"]) is True:
        message = "opens Ray's ports on the node itself; take it out"
        yield Finding((*place, "template", "spec", "hostNetwork"), message, is_exposed=True)


def _check_job(spec: dict[str, Any], ray_version: str) -> Iterator[Finding]:
    place: Place = ("spec",)
    mode = spec.get("submissionMode", "K8sJobMode")
    cluster, selector = at(spec, ["rayClusterSpec"], dict), at(spec, ["clusterSelector"], dict)
    if mode not in _MODES:
        yield Finding((*place, "submissionMode"), f"is {mode!r}; choose one of {', '.join(_MODES)}")
    submits_itself = bool(at(spec, ["submitterPodTemplate", "spec", "containers", 0, "command"]))
    if not str(spec.get("entrypoint") or "").strip() and mode != "InteractiveMode" and not submits_itself:
        yield Finding(
            (*place, "entrypoint"), "is missing or empty; it is the command to run, such as lstm-ray score ..."
        )
    if cluster is None and not selector:
        yield Finding((*place, "rayClusterSpec"), "is missing; give it, or the clusterSelector of a cluster there is")
    if selector and mode == "SidecarMode":
        yield Finding((*place, "submissionMode"), "SidecarMode needs a cluster of its own; take out clusterSelector")
    if mode == "SidecarMode":
        for name in ("submitterPodTemplate", "submitterConfig"):
            if spec.get(name) is not None:
                yield Finding((*place, name), "excludes submissionMode SidecarMode; take one of them out")
    yield from _check_job_end(spec, place, mode, bool(selector))
    if isinstance(spec.get("runtimeEnvYAML"), str):
        try:
            parsed = yaml.safe_load(spec["runtimeEnvYAML"])
        except (yaml.YAMLError, ValueError):
            parsed = "not YAML"
        if not isinstance(parsed, dict | None):
            yield Finding((*place, "runtimeEnvYAML"), "is no YAML mapping; write for example env_vars: {NAME: value}")
    if cluster is not None:
        yield from _check_cluster(cluster, (*place, "rayClusterSpec"), ray_version)
        if at(cluster, ["authOptions", "enableK8sTokenAuth"]) is True:
            where = (*place, "rayClusterSpec", "authOptions", "enableK8sTokenAuth")
            yield Finding(where, "does not work with a RayJob; take it out")
        yield from _check_room(spec, cluster, place)


def _check_job_end(spec: dict[str, Any], place: Place, mode: str, selects: bool) -> Iterator[Finding]:
    ends = spec.get("shutdownAfterJobFinishes") is True
    stays = at(spec, ["ttlSecondsAfterFinished"], int)
    if stays is not None and stays < 0:
        yield Finding((*place, "ttlSecondsAfterFinished"), f"is {stays}; it cannot be below 0")
    elif stays and not ends:
        yield Finding((*place, "ttlSecondsAfterFinished"), "has no effect; set shutdownAfterJobFinishes: true")
    if spec.get("suspend") is True and not ends:
        yield Finding((*place, "suspend"), "needs shutdownAfterJobFinishes: true")
    if spec.get("suspend") is True and selects:
        yield Finding((*place, "suspend"), "excludes clusterSelector; take one of them out")
    tries = at(spec, ["backoffLimit"], int)
    if tries is not None and tries < 0:
        yield Finding((*place, "backoffLimit"), f"is {tries}; it cannot be below 0")
    elif tries and (selects or mode == "InteractiveMode"):
        other = "clusterSelector" if selects else "submissionMode InteractiveMode"
        yield Finding((*place, "backoffLimit"), f"excludes {other}; set it to 0")
    for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        seconds = at(spec, [name], int)
        if seconds is not None and seconds <= 0:
            yield Finding((*place, name), f"is {seconds}; it has to be above 0, or left out")


def _amount(group: dict[str, Any], name: str) -> float:
    """Returns how much of a resource the pod of a group has: its Ray container's limit, else its request."""
    for level in ("limits", "requests"):
        found = quantity(at(group, ["template", "spec", "containers", 0, "resources", level, name]))
        if found is not None:
            return found
    return 0.0


def _nodes(group: dict[str, Any], count: float) -> Nodes:
    """Returns what a group's pods offer to Ray."""
    cpus, gpus = _amount(group, "cpu"), _amount(group, "nvidia.com/gpu")
    told_cpus, told_gpus = (quantity(at(group, ["rayStartParams", name])) for name in ("num-cpus", "num-gpus"))
    # KubeRay rounds a pod's share of a core up.
    return Nodes(count, math.ceil(cpus) if told_cpus is None else told_cpus, gpus if told_gpus is None else told_gpus)


def _all_nodes(cluster: dict[str, Any]) -> list[Nodes]:
    """Returns the nodes that a cluster may come to have."""
    scales = cluster.get("enableInTreeAutoscaling") is True
    nodes = []
    for inner, group in _groups(cluster):
        count: float = 1
        if inner != ("headGroupSpec",):
            most = at(group, ["maxReplicas"], int) if scales else at(group, ["replicas"], int)
            most = most if most is not None else _NO_REPLICAS_LIMIT if scales else 0
            count = math.inf if most >= _NO_REPLICAS_LIMIT else most * (at(group, ["numOfHosts"], int) or 1)
        nodes.append(_nodes(group, count))
    return nodes


def _check_room(spec: dict[str, Any], cluster: dict[str, Any], place: Place) -> Iterator[Finding]:
    """Checks that what the job asks for fits into what the cluster may have."""
    nodes = _all_nodes(cluster)
    for name, resource, biggest in (
        ("entrypointNumCpus", "cores", max((kind.cpus for kind in nodes), default=0)),
        ("entrypointNumGpus", "GPUs", max((kind.gpus for kind in nodes), default=0)),
    ):
        asked = at(spec, [name], (int, float))
        if asked is not None and asked > biggest:
            yield Finding((*place, name), f"is {asked:g}, but no pod has more than {biggest:g} {resource}; lower it")
    for demand in demands(str(spec.get("entrypoint") or "")):
        yield from _check_demand(demand, nodes, (*place, "entrypoint"))


def _check_demand(demand: Demand, nodes: list[Nodes], place: Place) -> Iterator[Finding]:
    option = f"--{demand.noun}"
    if demand.most == 0:
        yield Finding(place, f"lstm-ray {demand.command} without {option} runs on the head alone; add it", "note")
        return
    if demand.address == "local":
        yield Finding(place, f"lstm-ray {demand.command} would start a Ray of its own; add --address auto")
    there = room(nodes, demand.cpus, demand.gpus)
    what = f"{demand.noun} of {demand.cpus:g} cores" + (f" and {demand.gpus:g} GPUs" if demand.gpus else "")
    if there < demand.least:
        message = (
            f"asks for {demand.least} {what}, but the groups hold {there:g}; raise maxReplicas or the pods' limits"
        )
        yield Finding(place, message)
    elif there < demand.most:
        yield Finding(place, f"may use {demand.most} {what}, but the groups hold {there:g}", "note")
