"""Good RayClusters broken by one mutation each, and the mistake reported with its path and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from definitions import GONE, RAY, Mutation, check_mutation, mistakes, names_of

pytestmark = pytest.mark.usefixtures("bare_machine")

GROUP = "spec.workerGroupSpecs.0"
PARAMS = f"{GROUP}.rayStartParams"
POD = f"{GROUP}.template.spec"
HEAD = "spec.headGroupSpec"
IMAGE = f"{POD}.containers.0.image"
JOB_GROUP = "spec.rayClusterSpec.workerGroupSpecs.0"
DISABLED = {"name": "RAY_AUTH_MODE", "value": "disabled"}
SECRET = [{"name": "RAY_AUTH_TOKEN", "value": "5ecret"}]

BROKEN: list[Mutation] = [
    ("cluster", f"{GROUP}.minReplicas", 9, f"{GROUP}.maxReplicas", "is 4, below minReplicas 9"),
    ("cluster", f"{GROUP}.replicas", 9, None, "is 9, above maxReplicas 4; lower it"),
    ("cluster", f"{GROUP}.replicas", -1, None, "is -1, below minReplicas 0"),
    ("cluster", IMAGE, "me/x:ray-2.59.0", None, f"has Ray 2.59.0, but an earlier field has Ray {RAY}"),
    ("cluster", "spec.authOptions", GONE, "spec.authOptions.mode", "token authentication is off"),
    ("cluster", "spec.authOptions.mode", "disabled", None, "set authOptions: {mode: token}"),
    ("cluster", f"{HEAD}.template.spec.containers.0.env", [DISABLED], "spec.authOptions.mode", "is off"),
    ("cluster", f"{HEAD}.serviceType", "LoadBalancer", None, "to the outside; use ClusterIP"),
    ("cluster", f"{HEAD}.serviceType", "NodePort", None, "to the outside; use ClusterIP"),
    ("cluster", f"{HEAD}.headService", {"spec": {"type": "NodePort"}}, f"{HEAD}.headService.spec.type", "to the outs"),
    ("cluster", f"{HEAD}.enableIngress", True, None, "without TLS"),
    ("cluster", f"{HEAD}.template.spec.hostNetwork", True, None, "opens Ray's ports on the node"),
    ("cluster", f"{POD}.containers.0.env", SECRET, f"{POD}.containers.0.env.0.value", "keep it in a Secret"),
    ("cluster", f"{PARAMS}.num-cpu", "0", None, "unknown option; did you mean --num-cpus?"),
    ("cluster", f"{HEAD}.rayStartParams.heads", "", None, "unknown option; did you mean --head?"),
    ("job", "spec.entrypoint", "lstm-ray scor a", None, "no command 'scor'; did you mean score?"),
    ("job", "spec.entrypoint", "lstm-ray score a --output b --actors 1", None, "--model is missing"),
    ("job", f"{JOB_GROUP}.maxReplicas", 3, "spec.entrypoint", "room for 3; raise maxReplicas"),
    ("job", f"{JOB_GROUP}.template.spec.containers.0.resources", {"limits": {}}, "spec.entrypoint", "room for 0"),
    ("job", "spec.entrypointNumGpus", 2, None, "no pod has more than 1 GPU; lower it"),
    ("job", "spec.entrypointNumCpus", 9, None, "no pod has more than 4 cores; lower it"),
]  # fmt: skip


@pytest.mark.parametrize("mutation", BROKEN, ids=names_of(BROKEN))
def test_one_mutation_is_reported(mutation: Mutation, tmp_path: Path) -> None:
    check_mutation(mutation, tmp_path)


def test_the_python_of_all_images_is_the_same(tmp_path: Path) -> None:
    images = {f"{HEAD}.template.spec.containers.0.image": "me/x:1-py311", IMAGE: "me/x:1-py310"}
    ((path, message),) = mistakes("cluster", images, tmp_path)
    assert path == "spec.workerGroupSpecs[0].template.spec.containers[0].image"
    assert message.startswith("has Python 3.10, but an earlier field has Python 3.11")


def test_a_job_on_another_cluster_has_no_groups_to_fit(tmp_path: Path) -> None:
    selects = {"spec.rayClusterSpec": GONE, "spec.clusterSelector": {"ray.io/cluster": "x"}}
    assert mistakes("job", selects, tmp_path) == []
