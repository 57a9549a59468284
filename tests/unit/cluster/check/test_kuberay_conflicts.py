"""Good definitions with fields that exclude or need one another, which KubeRay's operator refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from definitions import GONE, Mutations, check_mutations, documents, mistakes, write

from lstm_ray.cluster.check.validate import validate

pytestmark = pytest.mark.usefixtures("bare_machine")

HEAD = "spec.headGroupSpec"
HEAD_ENV = f"{HEAD}.template.spec.containers.0.env"
GROUP = "spec.workerGroupSpecs.0"
FAULT_TOLERANCE = "spec.gcsFaultToleranceOptions"
POLICY = "spec.networkPolicy"
RULE = [{"to": []}]
FIXED = {"spec.enableInTreeAutoscaling": False, "spec.autoscalerOptions": GONE}
V1 = {"spec.autoscalerOptions.version": "v1"}
JOBS_CLUSTER = "spec.rayClusterSpec"


def variable(name: str, value: str = "x") -> list[dict[str, str]]:
    """Returns the variables of a container that has one."""
    return [{"name": name, "value": value}]


TOGETHER: list[Mutations] = [
    (
        "cluster",
        {f"{GROUP}.rayStartParams.num-cpus": "4", f"{GROUP}.resources": {"CPU": "4"}},
        f"{GROUP}.resources",
        "excludes rayStartParams.num-cpus",
    ),
    ("cluster", {f"{GROUP}.rayStartParams.labels": "a=b"}, f"{GROUP}.rayStartParams.labels", "is not supported"),
    ("cluster", {f"{GROUP}.labels": {"-a": "b"}}, f"{GROUP}.labels.-a", "is no label"),
    ("cluster", {f"{GROUP}.labels": {"a": "b c"}}, f"{GROUP}.labels.a", "is 'b c'; use up to 63 letters"),
    (
        "cluster",
        {**FIXED, HEAD_ENV: variable("RAY_enable_autoscaler_v2", "1")},
        f"{HEAD_ENV}.0",
        "needs enableInTreeAutoscaling",
    ),
    (
        "cluster",
        {HEAD_ENV: variable("RAY_enable_autoscaler_v2", "0")},
        f"{HEAD_ENV}.0",
        "excludes autoscalerOptions.version",
    ),
    (
        "cluster",
        {"spec.autoscalerOptions.env": variable("KUBERAY_GEN_AUTOSCALER_START_CMD")},
        "spec.autoscalerOptions.env.0",
        "is KubeRay's own",
    ),
    ("cluster", {f"{GROUP}.suspend": True}, f"{GROUP}.suspend", "excludes enableInTreeAutoscaling"),
    ("cluster", {f"{GROUP}.idleTimeoutSeconds": -1}, f"{GROUP}.idleTimeoutSeconds", "cannot be below 0"),
    ("cluster", {**V1, f"{GROUP}.idleTimeoutSeconds": 60}, f"{GROUP}.idleTimeoutSeconds", "needs the autoscaler v2"),
    ("cluster", {**V1, f"{GROUP}.priority": 5}, f"{GROUP}.priority", "needs the autoscaler v2"),
    (
        "cluster",
        {f"{GROUP}.priority": 5, "spec.rayVersion": "2.55.0"},
        "spec.rayVersion",
        "priority of a group came with Ray 2.56.0",
    ),
    (
        "cluster",
        {"spec.upgradeStrategy": {"type": "Rolling"}},
        "spec.upgradeStrategy.type",
        "choose one of Recreate, None",
    ),
    (
        "job",
        {f"{JOBS_CLUSTER}.upgradeStrategy": {"type": "None"}},
        f"{JOBS_CLUSTER}.upgradeStrategy.type",
        "not for the cluster of a RayJob",
    ),
    ("cluster", {"spec.rayVersion": "2.51.0"}, "spec.rayVersion", "authOptions.mode token came with Ray 2.52.0"),
    (
        "cluster",
        {"spec.rayVersion": "2.54.0", "spec.authOptions.enableK8sTokenAuth": True},
        "spec.rayVersion",
        "came with Ray 2.55.0",
    ),
    (
        "cluster",
        {"spec.authOptions": {"mode": "token", "enableK8sTokenAuth": True, "secretName": "x"}},
        "spec.authOptions.secretName",
        "excludes enableK8sTokenAuth",
    ),
    (
        "cluster",
        {"spec.authOptions": {"enableK8sTokenAuth": True}},
        "spec.authOptions.enableK8sTokenAuth",
        "needs mode: token",
    ),
    (
        "cluster",
        {"metadata.annotations": {"ray.io/ft-enabled": "true"}, FAULT_TOLERANCE: {}},
        'metadata.annotations["ray.io/ft-enabled"]',
        "excludes gcsFaultToleranceOptions",
    ),
    (
        "cluster",
        {f"{HEAD}.rayStartParams.redis-username": "x"},
        f"{HEAD}.rayStartParams.redis-username",
        "give it in gcsFaultToleranceOptions",
    ),
    ("cluster", {HEAD_ENV: variable("RAY_REDIS_ADDRESS")}, f"{HEAD_ENV}.0", "give it in gcsFaultToleranceOptions"),
    (
        "cluster",
        {FAULT_TOLERANCE: {}, HEAD_ENV: variable("REDIS_PASSWORD")},
        f"{HEAD_ENV}.0",
        "give it in gcsFaultToleranceOptions",
    ),
    (
        "cluster",
        {FAULT_TOLERANCE: {"backend": "rocksdb", "redisAddress": "x"}},
        f"{FAULT_TOLERANCE}.redisAddress",
        "not for backend rocksdb",
    ),
    (
        "cluster",
        {FAULT_TOLERANCE: {"backend": "rocksdb", "storage": {"claimName": "x", "size": "1Gi"}}},
        f"{FAULT_TOLERANCE}.storage.size",
        "excludes claimName",
    ),
    (
        "cluster",
        {FAULT_TOLERANCE: {"storage": {"size": "1Gi"}}},
        f"{FAULT_TOLERANCE}.storage",
        "is for backend rocksdb",
    ),
    (
        "cluster",
        {POLICY: {"mode": "DenyAllEgress", "head": {"ingressRules": RULE}}},
        f"{POLICY}.head.ingressRules",
        "has no effect with mode DenyAllEgress",
    ),
    (
        "cluster",
        {POLICY: {"mode": "DenyAllIngress", "workerGroups": [{"groupName": "workers", "egressRules": RULE}]}},
        f"{POLICY}.workerGroups.0.egressRules",
        "has no effect",
    ),
    (
        "cluster",
        {POLICY: {"workerGroups": [{"groupName": "others"}]}},
        f"{POLICY}.workerGroups.0.groupName",
        "there is no such group",
    ),
    (
        "cluster",
        {POLICY: {}, f"{GROUP}.groupName": "My_Group"},
        f"{GROUP}.groupName",
        "with networkPolicy use lower-case",
    ),
    (
        "cluster",
        {"spec.tlsOptions": {"enabled": True}, HEAD_ENV: variable("RAY_USE_TLS", "1")},
        f"{HEAD_ENV}.0",
        "RAY_USE_TLS is set by tlsOptions",
    ),
    (
        "cluster",
        {
            "spec.tlsOptions": {"enabled": True},
            f"{GROUP}.template.spec.containers.0.volumeMounts.0.mountPath": "/etc/ray/tls",
        },
        f"{GROUP}.template.spec.containers.0.volumeMounts.0",
        "is where tlsOptions mounts its own",
    ),
]


@pytest.mark.parametrize("mutations", TOGETHER, ids=[f"{where}-{message[:12]}" for _, _, where, message in TOGETHER])
def test_fields_that_do_not_go_together_are_told(mutations: Mutations, tmp_path: Path) -> None:
    check_mutations(mutations, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {f"{GROUP}.labels": {"example.com/tier": "spot", "zone": ""}},
        {f"{GROUP}.resources": {"CPU": "4"}},
        {f"{GROUP}.idleTimeoutSeconds": 60, f"{GROUP}.priority": 5},
        {**V1, f"{GROUP}.priority": 0},
        {
            "spec.autoscalerOptions.version": GONE,
            HEAD_ENV: variable("RAY_enable_autoscaler_v2", "1"),
            f"{GROUP}.priority": 1,
        },
        {**FIXED, f"{GROUP}.suspend": True},
        {"spec.upgradeStrategy": {"type": "None"}},
        {FAULT_TOLERANCE: {"redisAddress": "redis:6379"}},
        {"metadata.annotations": {"ray.io/ft-enabled": "true"}, HEAD_ENV: variable("RAY_REDIS_ADDRESS")},
        {FAULT_TOLERANCE: {"backend": "rocksdb", "storage": {"size": "1Gi"}}},
        {
            POLICY: {
                "mode": "DenyAllIngress",
                "head": {"ingressRules": RULE},
                "workerGroups": [{"groupName": "workers"}],
            }
        },
        {HEAD_ENV: variable("RAY_USE_TLS", "1")},
    ],
)
def test_what_the_operator_takes_is_no_mistake(changes: dict[str, Any], tmp_path: Path) -> None:
    assert mistakes("cluster", changes, tmp_path) == []


@pytest.mark.parametrize(
    ("field", "value", "gate"),
    [
        ("networkPolicy", {}, "RayClusterNetworkPolicy"),
        ("tlsOptions", {"enabled": True}, "RayClusterMTLS"),
        ("historyServerOptions", {"collectorOptions": {}}, "RayClusterHistoryServer"),
        ("gcsFaultToleranceOptions", {"backend": "rocksdb"}, "GCSFaultToleranceEmbeddedStorage"),
    ],
)
def test_feature_gates_are_noted(field: str, value: Any, gate: str, tmp_path: Path) -> None:
    content = documents("cluster")
    content[0]["spec"][field] = value
    report = validate(write(content, tmp_path))
    assert report.mistakes == ()
    assert f"needs the operator's feature gate {gate}; it is off by default" in str(report.notes)
