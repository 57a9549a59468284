"""What has to hold in a RayCluster or RayJob beyond the CRD: what KubeRay's operator refuses, and what would go wrong.

Source: KubeRay 1.7, ray-operator/controllers/ray/utils/validation.go; Ray's pages on KubeRay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from lstm_ray.cluster.check import fields
from lstm_ray.cluster.check.document import Finding, Place, at
from lstm_ray.cluster.check.kuberay_conflicts import check_conflicts
from lstm_ray.cluster.check.kuberay_groups import environment, gpus, groups, scales
from lstm_ray.cluster.check.kuberay_job_rules import check_job
from lstm_ray.cluster.check.kuberay_pod_rules import check_pod
from lstm_ray.cluster.check.kubernetes_names import DNS_LABEL, LABEL
from lstm_ray.cluster.check.quantity import quantity
from lstm_ray.cluster.check.schema import check_schema, unknown
from lstm_ray.cluster.check.versions import as_numbers, version_of_image

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SERVICES = ("ClusterIP", "NodePort", "LoadBalancer")
_MOST_CHARACTERS = {"RayCluster": 53, "RayJob": 47}
_OPEN_SERVICES = ("LoadBalancer", "NodePort")
_MANAGERS = ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")


def check_kuberay(content: dict[str, Any], ray_version: str) -> Iterator[Finding]:
    """Yields what is wrong with a RayCluster or RayJob, whether or not its fields have the right types.

    Args:
        content: The document; its `kind` is one of the two.
        ray_version: That of this installation.
    """
    kind = content["kind"]
    yield from _check_metadata(content, kind)
    place: Place = ("spec",)
    cluster = spec = at(content, place, dict)
    if spec is None:
        yield Finding(place, "is missing; it has to be there")
        return
    if kind == "RayJob":
        yield from _check_fields(spec, place, fields.JOB)
        yield from _check_manager(spec, place)
        yield from check_job(spec, place)
        cluster, place = at(spec, ["rayClusterSpec"], dict), (*place, "rayClusterSpec")
    if cluster is not None:
        yield from _check_cluster(cluster, place, ray_version)
        annotations = at(content, ["metadata", "annotations"], dict) or {}
        yield from check_conflicts(cluster, place, annotations, of_job=kind == "RayJob")


def _check_metadata(content: dict[str, Any], kind: str) -> Iterator[Finding]:
    if content.get("apiVersion") not in (None, "ray.io/v1"):
        yield Finding(("apiVersion",), f"is {content.get('apiVersion')}; KubeRay 1.0 and later want ray.io/v1")
    name, most = at(content, ["metadata", "name"]), _MOST_CHARACTERS[kind]
    if name is None:
        if not at(content, ["metadata", "generateName"], str):
            yield Finding(("metadata", "name"), "is missing; it has to be there")
    elif not isinstance(name, str) or not _NAME.fullmatch(name):
        yield Finding(("metadata", "name"), f"is {name!r}; use lower-case letters, digits and hyphens, a letter first")
    elif len(name) > most:
        yield Finding(("metadata", "name"), f"has {len(name)} characters; a {kind}'s may have {most}")
    namespace = at(content, ["metadata", "namespace"])
    if namespace is not None and not (isinstance(namespace, str) and DNS_LABEL.fullmatch(namespace)):
        yield Finding(("metadata", "namespace"), f"is {namespace!r}; use lower-case letters, digits and hyphens")


def _check_fields(mapping: dict[str, Any], place: Place, known: dict[str, str | None]) -> Iterator[Finding]:
    for name, value in mapping.items():
        if name not in known:
            yield _unknown((*place, name), known)
        elif (expected := known[name]) and value is not None:
            for finding in check_schema(value, {"type": expected}):
                yield Finding((*place, name), finding.message)


def _unknown(place: Place, known: Iterable[str]) -> Finding:
    """Returns what to say of a name that there is not, unless in another version: a mistake if it is close to one."""
    message = unknown(str(place[-1]), known)
    return Finding(place, message, "mistake" if "did you mean" in message else "note")


def _check_manager(spec: dict[str, Any], place: Place) -> Iterator[Finding]:
    if spec.get("managedBy") not in (None, *_MANAGERS):
        yield Finding((*place, "managedBy"), f"is {spec['managedBy']!r}; choose one of {', '.join(_MANAGERS)}")


def _check_cluster(spec: dict[str, Any], place: Place, ray_version: str) -> Iterator[Finding]:
    yield from _check_fields(spec, place, fields.CLUSTER)
    yield from _check_manager(spec, place)
    head = at(spec, ["headGroupSpec"], dict)
    if head is None:
        yield Finding((*place, "headGroupSpec"), "is missing; a cluster needs a head")
    else:
        yield from _check_fields(head, (*place, "headGroupSpec"), fields.HEAD_GROUP)
        yield from _check_group(spec, head, (*place, "headGroupSpec"))
        yield from _check_doors(head, (*place, "headGroupSpec"))
    names: list[Any] = []
    for position, group in enumerate(at(spec, ["workerGroupSpecs"], list) or []):
        inner = (*place, "workerGroupSpecs", position)
        if not isinstance(group, dict):
            yield Finding(inner, "is no mapping; a worker group has fields such as groupName")
            continue
        yield from _check_fields(group, inner, fields.WORKER_GROUP)
        yield from _check_group(spec, group, inner)
        yield from _check_replicas(group, inner)
        name = group.get("groupName")
        if isinstance(name, str) and name and not LABEL.fullmatch(name):
            yield Finding((*inner, "groupName"), f"is {name!r}; it becomes a label: use letters, digits, -, _ and .")
        if not name:
            yield Finding((*inner, "groupName"), "is missing; the operator tells groups apart by it")
        elif name in names:
            yield Finding((*inner, "groupName"), f"is {name!r} a second time; give each group its own")
        names.append(name)
    yield from _check_autoscaler(spec, place)
    yield from _check_version(spec, place, ray_version)
    yield from _check_token(spec, place)


def _check_group(spec: dict[str, Any], group: dict[str, Any], place: Place) -> Iterator[Finding]:
    for name, value in (at(group, ["rayStartParams"], dict) or {}).items():
        inner = (*place, "rayStartParams", name)
        if not isinstance(value, str):
            yield Finding(inner, f'is {value!r}; values here are texts: "{str(value).lower()}"')
        elif name in ("num-cpus", "num-gpus") and quantity(value) is None:
            yield Finding(inner, f"is {value!r}; write a number")
        if name.startswith("-"):
            yield Finding(inner, f"begins with hyphens; write {name.lstrip('-')}")
        elif name not in fields.RAY_START:
            yield _unknown(inner, fields.RAY_START)
    pod = (*place, "template", "spec")
    containers = at(group, ["template", "spec", "containers"], list)
    if not containers:
        yield Finding((*pod, "containers"), "is missing or empty; the first container runs Ray")
        return
    if at(spec, ["autoscalerOptions", "version"]) == "v2" and scales(spec):
        policy = at(group, ["template", "spec", "restartPolicy"])
        if policy not in (None, "Never"):
            yield Finding((*pod, "restartPolicy"), f"is {policy}; the autoscaler v2 wants Never, or none")
    yield from check_pod(group["template"]["spec"], pod)
    if isinstance(containers[0], dict):
        yield from _check_limits(containers[0], (*pod, "containers", 0), autoscales=scales(spec))
    yield from _check_gpus(group, place)


def _check_limits(container: dict[str, Any], place: Place, *, autoscales: bool) -> Iterator[Finding]:
    for name in ("cpu", "memory"):
        if name not in (at(container, ["resources", "limits"], dict) or {}):
            asked_at_least = name in (at(container, ["resources", "requests"], dict) or {})
            # Ray takes limits, or CPU requests, for what a node has. Without them it takes the whole machine's.
            hard = autoscales and not asked_at_least
            message = f"is missing; without it Ray takes the pod to have all the {name} of its node"
            yield Finding((*place, "resources", "limits", name), message, "mistake" if hard else "note")


def _check_gpus(group: dict[str, Any], place: Place) -> Iterator[Finding]:
    told = at(group, ["rayStartParams", "num-gpus"])
    given = gpus(group)
    if told is not None and quantity(told) is not None and given and quantity(told) != given:
        message = f"is {told}, but the container's limit of GPUs is {given:g}; leave it out, KubeRay fills it in"
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


def _check_autoscaler(spec: dict[str, Any], place: Place) -> Iterator[Finding]:
    idle = at(spec, ["autoscalerOptions", "idleTimeoutSeconds"], int)
    if idle is not None and idle < 0:
        yield Finding((*place, "autoscalerOptions", "idleTimeoutSeconds"), f"is {idle}; it cannot be below 0")
    if spec.get("autoscalerOptions") and not scales(spec):
        yield Finding(
            (*place, "autoscalerOptions"), "has no effect; set enableInTreeAutoscaling: true, or take it out", "note"
        )


def _check_version(spec: dict[str, Any], place: Place, ray_version: str) -> Iterator[Finding]:
    told = spec.get("rayVersion")
    if told is not None and not isinstance(told, str):
        yield Finding((*place, "rayVersion"), 'is no text; write it in quotes, such as "2.60.0"')
        return
    for inner, group in groups(spec):
        image = at(group, ["template", "spec", "containers", 0, "image"], str)
        found = version_of_image(image) if image else None
        if found and told and as_numbers(found) != as_numbers(told):
            where = (*place, *inner, "template", "spec", "containers", 0, "image")
            yield Finding(where, f"has Ray {found}, but rayVersion is {told}; all of a cluster must have the same")
    if told and as_numbers(told) not in (None, as_numbers(ray_version)):
        message = f"is {told}, this installation has {ray_version}; jobs can be sent there, but ray:// wants the same"
        yield Finding((*place, "rayVersion"), message, "note")


def _check_token(spec: dict[str, Any], place: Place) -> Iterator[Finding]:
    by_operator = at(spec, ["authOptions", "mode"]) == "token"
    for _, group in groups(spec):
        modes = [value for _, name, value in environment(group) if name == "RAY_AUTH_MODE"]
        if modes[-1:] != ["token"] and (modes or not by_operator):
            message = "is off: whoever reaches a port of Ray can run anything there; set authOptions: {mode: token}"
            yield Finding((*place, "authOptions", "mode"), message)
            return


def _check_doors(head: dict[str, Any], place: Place) -> Iterator[Finding]:
    closed = "opens Ray's ports to the outside; use ClusterIP and `kubectl port-forward`"
    if head.get("serviceType") not in (None, *_SERVICES):
        message = f"is {head['serviceType']!r}; choose one of {', '.join(_SERVICES)}"
        yield Finding((*place, "serviceType"), message)
    elif head.get("serviceType") in _OPEN_SERVICES:
        yield Finding((*place, "serviceType"), f"is {head['serviceType']}: it {closed}")
    service = at(head, ["headService", "spec", "type"])
    if service in _OPEN_SERVICES:
        yield Finding((*place, "headService", "spec", "type"), f"is {service}: it {closed}")
    if head.get("enableIngress") is True and not at(head, ["ingressOptions", "tls"], list):
        message = "opens the dashboard to the outside without TLS; take it out, or add ingressOptions.tls"
        yield Finding((*place, "enableIngress"), message)
    if at(head, ["template", "spec", "hostNetwork"]) is True:
        message = "opens Ray's ports on the node itself; take it out"
        yield Finding((*place, "template", "spec", "hostNetwork"), message)
