"""What has to hold in a RayJob beyond the CRD, but for its cluster: command, end, and that it fits the cluster.

Source: KubeRay 1.7, ray-operator/controllers/ray/utils/validation.go.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import yaml

from lstm_ray.cluster.check.demand import Demand, demands
from lstm_ray.cluster.check.document import Finding, Place, at
from lstm_ray.cluster.check.kuberay_groups import nodes, scales
from lstm_ray.runtime.room import Nodes, room

_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
_CLUSTER_LABEL = "ray.io/cluster"
_STATES = ("jobStatus", "jobDeploymentStatus")
_DELETIONS = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")  # in the order in which they may happen


def check_job(spec: dict[str, Any], place: Place) -> Iterator[Finding]:
    """Yields what is wrong with the spec of a RayJob, whether or not its fields have the right types."""
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
    if selector is not None and not selector.get(_CLUSTER_LABEL):
        yield Finding((*place, "clusterSelector"), f"names no cluster; write {_CLUSTER_LABEL}: NAME")
    if selector and mode == "SidecarMode":
        yield Finding((*place, "submissionMode"), "SidecarMode needs a cluster of its own; take out clusterSelector")
    if mode == "SidecarMode":
        for name in ("submitterPodTemplate", "submitterConfig"):
            if spec.get(name) is not None:
                yield Finding((*place, name), "excludes submissionMode SidecarMode; take one of them out")
        head: Place = ("headGroupSpec", "template", "spec", "restartPolicy")
        if at(cluster, head) not in (None, "Never"):
            yield Finding((*place, "rayClusterSpec", *head), "has to be Never with SidecarMode, or left out; change it")
    yield from _check_job_end(spec, place, mode, bool(selector))
    yield from _check_deletion(spec, place)
    if isinstance(spec.get("runtimeEnvYAML"), str):
        try:
            parsed = yaml.safe_load(spec["runtimeEnvYAML"])
        except (yaml.YAMLError, ValueError):
            parsed = "not YAML"
        if not isinstance(parsed, dict | None):
            yield Finding((*place, "runtimeEnvYAML"), "is no YAML mapping; write for example env_vars: {NAME: value}")
    if cluster is not None:
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


def _check_deletion(spec: dict[str, Any], place: Place) -> Iterator[Finding]:
    strategy = at(spec, ["deletionStrategy"], dict)
    if strategy is None:
        return
    where = (*place, "deletionStrategy")
    rules = at(strategy, ["deletionRules"], list)
    by_outcome = [name for name in ("onSuccess", "onFailure") if strategy.get(name) is not None]
    if rules and by_outcome:
        yield Finding((*where, "deletionRules"), f"excludes {by_outcome[0]}; take one of them out")
    elif not rules and len(by_outcome) < 2:
        yield Finding(where, "wants deletionRules, or both onSuccess and onFailure; add them")
    ends = spec.get("shutdownAfterJobFinishes") is True
    if rules and ends:
        yield Finding((*where, "deletionRules"), "excludes shutdownAfterJobFinishes; take one of them out")
    for name in by_outcome:
        policy, policy_place = at(strategy, [name, "policy"]), (*where, name, "policy")
        if policy is None:
            yield Finding(policy_place, f"is missing; choose one of {', '.join((*_DELETIONS, 'DeleteNone'))}")
        elif policy == "DeleteNone" and ends:
            yield Finding(policy_place, "is DeleteNone; that excludes shutdownAfterJobFinishes: take one of them out")
        yield from _check_policy(spec, policy, policy_place)
    yield from _check_deletion_rules(spec, rules or [], (*where, "deletionRules"))


def _check_policy(spec: dict[str, Any], policy: Any, place: Place) -> Iterator[Finding]:
    if policy in ("DeleteCluster", "DeleteWorkers") and at(spec, ["clusterSelector"], dict):
        yield Finding(place, f"is {policy}; a cluster chosen by clusterSelector stays: take it out")
    elif policy == "DeleteWorkers" and scales(at(spec, ["rayClusterSpec"], dict) or {}):
        yield Finding(place, "is DeleteWorkers, which excludes enableInTreeAutoscaling; take one of them out")


def _check_deletion_rules(spec: dict[str, Any], rules: list[Any], place: Place) -> Iterator[Finding]:
    by_state: dict[tuple[str, Any], dict[Any, tuple[int, Place]]] = {}  # policy to seconds, and where they stand
    for position, rule in enumerate(rules):
        condition, where = at(rule, ["condition"], dict) or {}, (*place, position, "condition")
        states = [name for name in _STATES if condition.get(name) is not None]
        if len(states) != 1:
            yield Finding(where, f"has {len(states)} states; give one, {' or '.join(_STATES)}")
            continue
        policy, seconds = at(rule, ["policy"], str), at(condition, ["ttlSeconds"], int) or 0
        if seconds < 0:
            yield Finding((*where, "ttlSeconds"), f"is {seconds}; it cannot be below 0")
        yield from _check_policy(spec, policy, (*place, position, "policy"))
        of_state = by_state.setdefault((states[0], str(condition[states[0]])), {})
        if policy in of_state:
            yield Finding((*place, position), f"is a second rule of {policy} for {condition[states[0]]}; take one out")
        of_state.setdefault(policy, (seconds, (*where, "ttlSeconds")))
    for of_state in by_state.values():
        there = [(policy, *of_state[policy]) for policy in _DELETIONS if policy in of_state]
        for (earlier, least, _), (later, seconds, where) in itertools.pairwise(there):
            if seconds < least:
                yield Finding(where, f"is {seconds}; {later} cannot come before {earlier}, at {least}: wait longer")


def _check_room(spec: dict[str, Any], cluster: dict[str, Any], place: Place) -> Iterator[Finding]:
    """Checks that what the job asks for fits into what the cluster may have."""
    there = nodes(cluster)
    for name, resource, biggest in (
        ("entrypointNumCpus", "cores", max((kind.cpus for kind in there), default=0)),
        ("entrypointNumGpus", "GPUs", max((kind.gpus for kind in there), default=0)),
    ):
        asked = at(spec, [name], (int, float))
        if asked is not None and asked > biggest:
            yield Finding((*place, name), f"is {asked:g}, but no pod has more than {biggest:g} {resource}; lower it")
    for demand in demands(str(spec.get("entrypoint") or "")):
        yield from _check_demand(demand, there, (*place, "entrypoint"))


def _check_demand(demand: Demand, there: list[Nodes], place: Place) -> Iterator[Finding]:
    option = f"--{demand.noun}"
    if demand.most == 0:
        yield Finding(place, f"lstm-ray {demand.command} without {option} runs on the head alone; add it", "note")
        return
    if demand.address == "local":
        yield Finding(place, f"lstm-ray {demand.command} would start a Ray of its own; add --address auto")
    held = room(there, demand.cpus, demand.gpus)
    what = f"{demand.noun} of {demand.cpus:g} cores" + (f" and {demand.gpus:g} GPUs" if demand.gpus else "")
    if held < demand.least:
        message = f"asks for {demand.least} {what}, but the groups hold {held:g}; raise maxReplicas or the pods' limits"
        yield Finding(place, message)
    elif held < demand.most:
        yield Finding(place, f"may use {demand.most} {what}, but the groups hold {held:g}", "note")
