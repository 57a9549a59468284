"""Rules for a RayCluster or RayJob that neither the CRD nor KubeRay's operator checks.

Tokens, open ports, matching versions, options of `ray start`, and a job that is valid and fits its cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import FieldPath, Finding, at
from lstm_ray.cluster.check.entrypoint import ParseCommand, check_entrypoint
from lstm_ray.cluster.check.kuberay_groups import HEAD, RAY_CONTAINER, groups, nodes
from lstm_ray.cluster.check.ray_files import check_start_options
from lstm_ray.cluster.check.versions import as_numbers, check_agreement, python_of_image, ray_of_image
from lstm_ray.wording import counted

_OPEN_SERVICES = ("LoadBalancer", "NodePort")
_OPEN = "opens Ray's ports to the outside; use ClusterIP and `kubectl port-forward`"


def check_kuberay(content: dict[str, Any], ray_version: str, parse: ParseCommand | None) -> Iterator[Finding]:
    """Yields findings about a RayCluster or RayJob. Its fields may have wrong types.

    Args:
        content: The document, of kind RayCluster or RayJob.
        ray_version: The version of Ray in this installation.
        parse: Parses a command line of lstm-ray; None leaves the job's entrypoint unchecked.
    """
    spec = at(content, ["spec"], dict) or {}
    if content["kind"] == "RayCluster":
        yield from _check_cluster(spec, ("spec",), ray_version)
        return
    cluster, field = at(spec, ["rayClusterSpec"], dict), ("spec", "rayClusterSpec")
    if cluster is not None:
        yield from _check_cluster(cluster, field, ray_version)
        yield from _check_job_room(spec, cluster)
    entrypoint = at(spec, ["entrypoint"], str)
    if entrypoint and parse is not None:
        available = None if cluster is None else nodes(cluster)
        yield from check_entrypoint(entrypoint, ("spec", "entrypoint"), available, parse)


def _check_cluster(spec: dict[str, Any], base: FieldPath, ray_version: str) -> Iterator[Finding]:
    yield from _check_token(spec, base)
    yield from _check_ports(at(spec, HEAD, dict) or {}, (*base, *HEAD))
    yield from _check_versions(spec, base, ray_version)
    for field, group in groups(spec):
        yield from _check_start_params(group, (*base, *field))
        if field != HEAD:
            yield from _check_replicas(group, (*base, *field))


def _check_token(spec: dict[str, Any], base: FieldPath) -> Iterator[Finding]:
    by_operator = at(spec, ["authOptions", "mode"]) == "token"
    for _, group in groups(spec):
        variables = at(group, [*RAY_CONTAINER, "env"], list) or []
        modes = [at(one, ["value"]) for one in variables if at(one, ["name"]) == "RAY_AUTH_MODE"]
        if modes[-1:] != ["token"] and (modes or not by_operator):
            message = "token authentication is off: anyone who reaches a port of Ray can run code there"
            yield Finding((*base, "authOptions", "mode"), f"{message}; set authOptions: {{mode: token}}")
            return


def _check_ports(head: dict[str, Any], base: FieldPath) -> Iterator[Finding]:
    for field in (("serviceType",), ("headService", "spec", "type")):
        if (service := at(head, field)) in _OPEN_SERVICES:
            yield Finding((*base, *field), f"is {service}, which {_OPEN}")
    if head.get("enableIngress") is True and not at(head, ["ingressOptions", "tls"], list):
        message = "opens the dashboard to the outside without TLS; remove it, or add ingressOptions.tls"
        yield Finding((*base, "enableIngress"), message)
    if at(head, ["template", "spec", "hostNetwork"]) is True:
        yield Finding((*base, "template", "spec", "hostNetwork"), "opens Ray's ports on the node itself; remove it")


def _check_versions(spec: dict[str, Any], base: FieldPath, ray_version: str) -> Iterator[Finding]:
    declared = at(spec, ["rayVersion"], str)
    mentions: list[tuple[FieldPath, str, str | None]] = [((*base, "rayVersion"), "Ray", declared)]
    for field, group in groups(spec):
        image = at(group, [*RAY_CONTAINER, "image"], str)
        if image:
            where = (*base, *field, *RAY_CONTAINER, "image")
            mentions += [(where, "Ray", ray_of_image(image)), (where, "Python", python_of_image(image))]
    yield from check_agreement(mentions)
    if declared and as_numbers(declared) not in (None, as_numbers(ray_version)):
        message = (
            f"is {declared}, this installation has {ray_version}; jobs can be submitted, but ray:// needs the same"
        )
        yield Finding((*base, "rayVersion"), message, "note")


def _check_start_params(group: dict[str, Any], base: FieldPath) -> Iterator[Finding]:
    """Checks names in rayStartParams: with a misspelt name `ray start` fails, and the pod restarts for ever."""
    for name in at(group, ["rayStartParams"], dict) or {}:
        yield from check_start_options([f"--{name}"], (*base, "rayStartParams", name))


def _check_replicas(group: dict[str, Any], base: FieldPath) -> Iterator[Finding]:
    least, now, most = (at(group, [name], int) for name in ("minReplicas", "replicas", "maxReplicas"))
    if least is not None and most is not None and least > most:
        yield Finding((*base, "maxReplicas"), f"is {most}, below minReplicas {least}; raise it, or lower minReplicas")
    elif most is not None and now is not None and now > most:
        yield Finding((*base, "replicas"), f"is {now}, above maxReplicas {most}; lower it, or raise maxReplicas")
    elif least is not None and now is not None and now < least:
        yield Finding((*base, "replicas"), f"is {now}, below minReplicas {least}; raise it, or lower minReplicas")


def _check_job_room(spec: dict[str, Any], cluster: dict[str, Any]) -> Iterator[Finding]:
    available = nodes(cluster)
    for name, resource, biggest in (
        ("entrypointNumCpus", "core", max((kind.cpus for kind in available), default=0)),
        ("entrypointNumGpus", "GPU", max((kind.gpus for kind in available), default=0)),
    ):
        asked = at(spec, [name], (int, float))
        if asked is not None and asked > biggest:
            most = counted(biggest, resource)
            yield Finding(("spec", name), f"is {asked:g}, but no pod has more than {most}; lower it")
