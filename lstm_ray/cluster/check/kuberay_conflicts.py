"""Fields of a RayCluster that exclude or need one another.

KubeRay's operator refuses such a cluster after kubectl has taken it, and says so only in an event.

Source: KubeRay 1.7, ray-operator/controllers/ray/utils/validation.go and ray-operator/pkg/features/features.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import Finding, Place, at
from lstm_ray.cluster.check.kuberay_groups import environment, groups, scales
from lstm_ray.cluster.check.kubernetes_names import DNS_LABEL, DNS_NAME, LABEL
from lstm_ray.cluster.check.versions import as_numbers

_AUTOSCALER_V2 = "RAY_enable_autoscaler_v2"
_GROUP_PRIORITY_SINCE = (2, 56, 0)
_K8S_TOKENS_SINCE = (2, 55, 0)
_TOKENS_SINCE = (2, 52, 0)
_UPGRADES = ("Recreate", "None")
_FEATURE_GATES = {
    "networkPolicy": "RayClusterNetworkPolicy",
    "tlsOptions": "RayClusterMTLS",
    "historyServerOptions": "RayClusterHistoryServer",
}
_PARAMS_OF_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
_TLS_VARIABLES = ("RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
_TLS_MOUNTS = ("ray-tls", "/etc/ray/tls")
_REDIS_FIELDS = ("redisAddress", "redisUsername", "redisPassword", "externalStorageNamespace")


def check_conflicts(
    cluster: dict[str, Any], place: Place, annotations: dict[str, Any], *, of_job: bool
) -> Iterator[Finding]:
    """Yields what the operator would refuse, whether or not the fields have the right types.

    Args:
        cluster: Spec of a RayCluster.
        place: Where it stands.
        annotations: Those of the object it stands in.
        of_job: True if that is a RayJob.
    """
    for name, gate in _FEATURE_GATES.items():
        if cluster.get(name) is not None:
            yield Finding((*place, name), f"needs the operator's feature gate {gate}; it is off by default", "note")
    for inner, group in groups(cluster):
        yield from _check_group(group, (*place, *inner))
    yield from _check_autoscaling(cluster, place)
    yield from _check_upgrade(cluster, place, of_job)
    yield from _check_token_options(cluster, place)
    yield from _check_fault_tolerance(cluster, place, annotations)
    yield from _check_network_policy(cluster, place)
    yield from _check_tls(cluster, place)


def _check_group(group: dict[str, Any], place: Place) -> Iterator[Finding]:
    params = at(group, ["rayStartParams"], dict) or {}
    doubled = [name for name in _PARAMS_OF_RESOURCES if params.get(name)]
    if doubled and at(group, ["resources"], dict):
        yield Finding((*place, "resources"), f"excludes rayStartParams.{doubled[0]}; take one of them out")
    if "labels" in params:
        yield Finding((*place, "rayStartParams", "labels"), "is not supported; write it as the group's labels")
    for name, value in (at(group, ["labels"], dict) or {}).items():
        prefix, slash, rest = str(name).rpartition("/")
        if not LABEL.fullmatch(rest) or (slash and not DNS_NAME.fullmatch(prefix)):
            yield Finding((*place, "labels", str(name)), "is no label; use up to 63 letters, digits, -, _ and .")
        if isinstance(value, str) and value and not LABEL.fullmatch(value):
            message = f"is {value!r}; use up to 63 letters, digits, -, _ and ."
            yield Finding((*place, "labels", str(name)), message)


def _check_autoscaling(cluster: dict[str, Any], place: Place) -> Iterator[Finding]:
    version = at(cluster, ["autoscalerOptions", "version"])
    by_variable = False
    for inner, name, value in environment(at(cluster, ["headGroupSpec"], dict) or {}):
        if name != _AUTOSCALER_V2:
            continue
        by_variable = value in ("1", "true")
        where = (*place, "headGroupSpec", *inner)
        if not scales(cluster) and by_variable:
            yield Finding(where, f"{name} needs enableInTreeAutoscaling: true; set it, or take this out")
        elif scales(cluster) and version is not None:
            yield Finding(where, f"{name} excludes autoscalerOptions.version; take this out")
    options = at(cluster, ["autoscalerOptions", "env"], list) or []
    for number, variable in enumerate(options):
        if at(variable, ["name"]) == "KUBERAY_GEN_AUTOSCALER_START_CMD":
            yield Finding((*place, "autoscalerOptions", "env", number), "is KubeRay's own; take it out")
    for inner, group in groups(cluster):
        if at(group, ["suspend"]) is True and scales(cluster):
            yield Finding((*place, *inner, "suspend"), "excludes enableInTreeAutoscaling; take one of them out")
        idle = at(group, ["idleTimeoutSeconds"], int)
        if idle is not None and idle < 0:
            yield Finding((*place, *inner, "idleTimeoutSeconds"), f"is {idle}; it cannot be below 0")
        for name in ("idleTimeoutSeconds", "priority"):
            has_effect = group.get(name) is not None and not (name == "priority" and group[name] == 0)
            if has_effect and version != "v2" and not by_variable:
                message = "needs the autoscaler v2; set autoscalerOptions: {version: v2}, or take it out"
                yield Finding((*place, *inner, name), message)
        if at(group, ["priority"]):
            yield from _check_since(cluster, place, _GROUP_PRIORITY_SINCE, "priority of a group")


def _check_since(cluster: dict[str, Any], place: Place, since: tuple[int, ...], what: str) -> Iterator[Finding]:
    told = cluster.get("rayVersion")
    numbers = as_numbers(told) if isinstance(told, str) else None
    if not told:
        yield Finding((*place, "rayVersion"), f"is missing; the operator wants it with {what}")
    elif isinstance(told, str) and numbers is None:
        yield Finding((*place, "rayVersion"), f"is {told!r}; the operator wants numbers with {what}, such as 2.60.0")
    elif numbers is not None and numbers < since:
        yield Finding((*place, "rayVersion"), f"is {told}; {what} came with Ray {'.'.join(map(str, since))}: take that")


def _check_upgrade(cluster: dict[str, Any], place: Place, of_job: bool) -> Iterator[Finding]:
    kind = at(cluster, ["upgradeStrategy", "type"])
    where = (*place, "upgradeStrategy", "type")
    if kind is not None and of_job:
        yield Finding(where, "is not for the cluster of a RayJob; take it out")
    elif kind is not None and kind not in _UPGRADES:
        yield Finding(where, f"is {kind!r}; choose one of {', '.join(_UPGRADES)}")


def _check_token_options(cluster: dict[str, Any], place: Place) -> Iterator[Finding]:
    options = at(cluster, ["authOptions"], dict) or {}
    by_operator = options.get("mode") == "token"
    by_kubernetes = options.get("enableK8sTokenAuth") is True
    if by_operator and not by_kubernetes:
        yield from _check_since(cluster, place, _TOKENS_SINCE, "authOptions.mode token")
    elif by_operator:
        yield from _check_since(cluster, place, _K8S_TOKENS_SINCE, "authOptions.enableK8sTokenAuth")
    if by_kubernetes and options.get("secretName"):
        yield Finding((*place, "authOptions", "secretName"), "excludes enableK8sTokenAuth; take one of them out")
    if by_kubernetes and not by_operator:
        yield Finding((*place, "authOptions", "enableK8sTokenAuth"), "needs mode: token beside it")


def _check_fault_tolerance(cluster: dict[str, Any], place: Place, annotations: dict[str, Any]) -> Iterator[Finding]:
    options = at(cluster, ["gcsFaultToleranceOptions"], dict)
    where = (*place, "gcsFaultToleranceOptions")
    by_annotation = str(annotations.get("ray.io/ft-enabled", "")).lower()
    if options is not None:
        for name in ("ray.io/ft-enabled", "ray.io/external-storage-namespace"):
            if annotations.get(name):
                yield Finding(("metadata", "annotations", name), "excludes gcsFaultToleranceOptions; take it out")
        yield from _check_backend(options, where)
    head = at(cluster, ["headGroupSpec"], dict) or {}
    for name in ("redis-password", "redis-username"):
        if at(head, ["rayStartParams", name]) and (options is not None or name == "redis-username"):
            message = "is refused; give it in gcsFaultToleranceOptions"
            yield Finding((*place, "headGroupSpec", "rayStartParams", name), message)
    for inner, name, _ in environment(head):
        refused = name == "REDIS_USERNAME" or (options is not None and name in ("REDIS_PASSWORD", "RAY_REDIS_ADDRESS"))
        if refused or (name == "RAY_REDIS_ADDRESS" and by_annotation != "true"):
            message = f"{name} is refused; give it in gcsFaultToleranceOptions"
            yield Finding((*place, "headGroupSpec", *inner), message)


def _check_backend(options: dict[str, Any], place: Place) -> Iterator[Finding]:
    if options.get("backend") == "rocksdb":
        gate = "GCSFaultToleranceEmbeddedStorage"
        yield Finding((*place, "backend"), f"needs the operator's feature gate {gate}; it is off by default", "note")
        for name in _REDIS_FIELDS:
            if options.get(name):
                yield Finding((*place, name), "is not for backend rocksdb; take it out")
        claim = at(options, ["storage", "claimName"])
        for name in ("size", "storageClassName", "accessModes"):
            if claim and at(options, ["storage", name]):
                yield Finding((*place, "storage", name), "excludes claimName; take one of them out")
    elif options.get("storage") is not None:
        yield Finding((*place, "storage"), "is for backend rocksdb; take it out, or set that")


def _check_network_policy(cluster: dict[str, Any], place: Place) -> Iterator[Finding]:
    policy = at(cluster, ["networkPolicy"], dict)
    if policy is None:
        return
    where = (*place, "networkPolicy")
    open_rules = {"DenyAllEgress": "ingressRules", "DenyAllIngress": "egressRules"}.get(str(policy.get("mode")))
    names: list[Any] = []
    for inner, group in groups(cluster):
        if inner != ("headGroupSpec",):
            name = group.get("groupName")
            names.append(name)
            if isinstance(name, str) and not DNS_LABEL.fullmatch(name):
                message = f"is {name!r}; with networkPolicy use lower-case letters, digits and hyphens"
                yield Finding((*place, *inner, "groupName"), message)
    parts: list[tuple[Place, Any]] = [((name,), policy.get(name)) for name in ("head", "worker")]
    for position, part in enumerate(at(policy, ["workerGroups"], list) or []):
        parts.append((("workerGroups", position), part))
        name = at(part, ["groupName"])
        if name not in names:
            yield Finding((*where, "workerGroups", position, "groupName"), f"is {name!r}; there is no such group")
    for inner, part in parts:
        if open_rules and at(part, [open_rules], list):
            message = f"has no effect with mode {policy['mode']}; take it out, or change the mode"
            yield Finding((*where, *inner, open_rules), message)


def _check_tls(cluster: dict[str, Any], place: Place) -> Iterator[Finding]:
    if at(cluster, ["tlsOptions", "enabled"]) is not True:
        return
    for inner, group in groups(cluster):
        for variable_place, name, _ in environment(group):
            if name in _TLS_VARIABLES:
                yield Finding((*place, *inner, *variable_place), f"{name} is set by tlsOptions; take it out")
        mounts: Place = ("template", "spec", "containers", 0, "volumeMounts")
        for number, mount in enumerate(at(group, mounts, list) or []):
            if at(mount, ["name"]) in _TLS_MOUNTS or at(mount, ["mountPath"]) in _TLS_MOUNTS:
                yield Finding((*place, *inner, *mounts, number), "is where tlsOptions mounts its own; take it out")
