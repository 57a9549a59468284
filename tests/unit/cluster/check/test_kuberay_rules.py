"""Good RayClusters broken by one mutation each, and the mistake told with its path and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from definitions import GONE, RAY, Mutation, check_mutation, names_of

pytestmark = pytest.mark.usefixtures("bare_machine")

GROUP = "spec.workerGroupSpecs.0"
PARAMS = f"{GROUP}.rayStartParams"
POD = f"{GROUP}.template.spec"
DISABLED = {"name": "RAY_AUTH_MODE", "value": "disabled"}

BROKEN: list[Mutation] = [
    ("cluster", "apiVersion", "ray.io/v1alpha1", None, "want ray.io/v1"),
    ("cluster", "metadata.name", "My_Cluster", None, "lower-case letters"),
    ("cluster", "metadata.name", "a" * 54, None, "has 54 characters; a RayCluster's may have 53"),
    ("cluster", "metadata.name", GONE, None, "is missing"),
    ("cluster", "spec", GONE, None, "is missing"),
    ("cluster", "metadata.namespace", "MyTeam", None, "use lower-case letters"),
    ("cluster", "spec.headGroupSpec", GONE, None, "a cluster needs a head"),
    ("cluster", "spec.workerGroupSpec", [], None, "did you mean workerGroupSpecs?"),
    ("cluster", f"{GROUP}.maxReplica", 3, None, "did you mean maxReplicas?"),
    ("cluster", f"{GROUP}.maxReplicas", -1, None, "cannot be below 0"),
    ("cluster", f"{GROUP}.minReplicas", 9, f"{GROUP}.maxReplicas", "is 4, below minReplicas 9"),
    ("cluster", f"{GROUP}.replicas", 9, None, "above maxReplicas 4"),
    ("cluster", f"{GROUP}.groupName", GONE, None, "is missing"),
    ("cluster", PARAMS, {"num-cpus": 4}, f"{PARAMS}.num-cpus", 'values here are texts: "4"'),
    ("cluster", PARAMS, {"--num-cpus": "4"}, f"{PARAMS}.--num-cpus", "write num-cpus"),
    ("cluster", f"{POD}.containers", [], None, "is missing or empty"),
    ("cluster", f"{POD}.containers.0.image", GONE, None, "is missing"),
    ("cluster", f"{POD}.containers.0.image", "me/x:ray-2.59.0", None, f"has Ray 2.59.0, but rayVersion is {RAY}"),
    ("cluster", f"{POD}.containers.0.resources.limits.memory", "16GB", None, "write an amount such as 2, 500m or 16Gi"),
    ("cluster", f"{POD}.containers.0.resources.requests.cpu", "8", None, "is above its limit"),
    ("cluster", f"{POD}.containers.0.resources", GONE, f"{POD}.containers.0.resources.limits.cpu", "is missing"),
    ("cluster", f"{POD}.containers.0.volumeMounts.1.name", "strage", None, "there is no volume 'strage'"),
    ("cluster", f"{POD}.restartPolicy", "Always", None, "the autoscaler v2 wants Never"),
    ("cluster", "spec.authOptions", GONE, "spec.authOptions.mode", "is off"),
    ("cluster", "spec.authOptions.mode", "disabled", None, "is off"),
    ("cluster", "spec.rayVersion", GONE, None, "the operator wants it with authOptions.mode token"),
    ("cluster", "spec.rayVersion", 2.6, None, "is no text; write it in quotes"),
    ("cluster", "spec.headGroupSpec.serviceType", "LoadBalancer", None, "to the outside; use ClusterIP"),
    ("cluster", "spec.headGroupSpec.enableIngress", True, None, "without TLS"),
    ("cluster", "spec.headGroupSpec.template.spec.hostNetwork", True, None, "opens Ray's ports on the node"),
    (
        "cluster",
        f"{POD}.containers.0.env",
        [{"name": "RAY_AUTH_TOKEN", "value": "5ecret"}],
        f"{POD}.containers.0.env.0.value",
        "keep it in a Secret",
    ),
    ("cluster", "spec.autoscalerOptions.idleTimeoutSeconds", -5, None, "cannot be below 0"),
    ("cluster", "spec.rayVersion", "nightly", None, "wants numbers with authOptions.mode token"),
    ("cluster", f"{POD}.volumes.0", "x", f"{POD}.containers.0.volumeMounts.0.name", "there is no volume"),
    ("cluster", f"{GROUP}.groupName", ["a"], None, "it should be a text"),
    ("cluster", f"{POD}.containers.0.resources.limits.memory", "1e999", None, "write an amount"),
    ("cluster", f"{PARAMS}.num-cpu", "0", None, "did you mean num-cpus?"),
    ("cluster", f"{PARAMS}.num-cpus", "zero", None, "is 'zero'; write a number"),
    ("cluster", f"{GROUP}.groupName", "My Workers", None, "it becomes a label"),
    ("cluster", "spec.headGroupSpec.template.spec.containers.0.env", [DISABLED], "spec.authOptions.mode", "is off"),
    ("cluster", "cluster_name", "x", None, "is no field; take it out"),
    ("cluster", "apiVersion", GONE, None, "is missing; every Kubernetes object"),
    ("cluster", "spec.managedBy", "me", None, "choose one of ray.io/kuberay-operator"),
    ("cluster", "spec.enableInTreeAutoscaling", "yes", None, "is 'yes'; it should be true or false"),
    ("cluster", f"{GROUP}.replicas", "many", None, "is 'many'; it should be a whole number"),
    ("cluster", f"{GROUP}.template", [], None, "is a list; it should be a mapping"),
    ("cluster", "spec.headGroupSpec.serviceType", 7, None, "choose one of ClusterIP"),
]  # fmt: skip


@pytest.mark.parametrize("mutation", BROKEN, ids=names_of(BROKEN))
def test_one_mutation_is_told(mutation: Mutation, tmp_path: Path) -> None:
    check_mutation(mutation, tmp_path)
