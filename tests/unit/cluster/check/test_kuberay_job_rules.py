"""Good RayJobs broken by one mutation each, and the mistake told with its path and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from definitions import GONE, JOB, Mutation, Mutations, check_mutation, check_mutations, mistakes, names_of

pytestmark = pytest.mark.usefixtures("bare_machine")

GROUP = "spec.rayClusterSpec.workerGroupSpecs.0"
STRATEGY = "spec.deletionStrategy"
RULES = f"{STRATEGY}.deletionRules"
STAYS = {"spec.shutdownAfterJobFinishes": False, "spec.ttlSecondsAfterFinished": 0}
SELECTS = {**STAYS, "spec.rayClusterSpec": GONE, "spec.clusterSelector": {"ray.io/cluster": "x"}}
BY_OUTCOME = {"onSuccess": {"policy": "DeleteSelf"}, "onFailure": {"policy": "DeleteNone"}}


def rules(*given: tuple[str, str, int]) -> list[dict[str, Any]]:
    """Returns deletion rules of policies, the states they are for, and seconds to wait."""
    return [
        {"policy": policy, "condition": {"jobStatus": state, "ttlSeconds": seconds}} for policy, state, seconds in given
    ]


BROKEN: list[Mutation] = [
    ("job", "spec.entrypoint", GONE, None, "is missing or empty"),
    ("job", "spec.entrypoint", "  ", None, "is missing or empty"),
    ("job", "spec.entrypoint", JOB.replace("4", "5"), None, "asks for 5 workers of 1 cores and 1 GPUs"),
    ("job", "spec.entrypoint", JOB.replace(" --address auto", ""), None, "add --address auto"),
    ("job", f"{GROUP}.maxReplicas", 3, "spec.entrypoint", "the groups hold 3; raise maxReplicas"),
    (
        "job",
        f"{GROUP}.template.spec.containers.0.resources",
        {"limits": {"cpu": "4", "memory": "1Gi"}},
        "spec.entrypoint",
        "the groups hold 0",
    ),
    ("job", f"{GROUP}.rayStartParams", {"num-gpus": "2"}, f"{GROUP}.rayStartParams.num-gpus", "GPUs is 1;"),
    ("job", "spec.entrypointNumGpus", 2, None, "no pod has more than 1 GPUs"),
    ("job", "spec.rayClusterSpec", GONE, None, "clusterSelector"),
    ("job", "spec.submissionMode", "HttpMode", None, "choose one of K8sJobMode, HTTPMode"),
    ("job", "spec.shutdownAfterJobFinishes", False, "spec.ttlSecondsAfterFinished", "set shutdownAfterJobF"),
    ("job", "spec.backoffLimit", -1, None, "cannot be below 0"),
    ("job", "spec.activeDeadlineSeconds", 0, None, "has to be above 0"),
    ("job", "spec.runtimeEnvYAML", "- a", None, "is no YAML mapping"),
    ("job", "spec.entrypont", "x", None, "did you mean entrypoint?"),
    ("job", "metadata.name", "a" * 48, None, "a RayJob's may have 47"),
    ("job", "spec.rayClusterSpec.authOptions.enableK8sTokenAuth", True, None, "does not work with a RayJob"),
    ("job", "spec.backoffLimit", "none", None, "is 'none'; it should be a whole number"),
    ("job", "spec.clusterSelector", {"app": "x"}, None, "names no cluster; write ray.io/cluster: NAME"),
    ("job", "spec.managedBy", "me", None, "choose one of ray.io/kuberay-operator"),
]  # fmt: skip

TOGETHER: list[Mutations] = [
    ("job", {**STAYS, STRATEGY: {}}, STRATEGY, "wants deletionRules, or both"),
    ("job", {**STAYS, STRATEGY: {"onSuccess": {"policy": "DeleteSelf"}}}, STRATEGY, "wants deletionRules, or both"),
    ("job", {STRATEGY: BY_OUTCOME}, f"{STRATEGY}.onFailure.policy", "that excludes shutdownAfterJobFinishes"),
    ("job", {**STAYS, STRATEGY: {**BY_OUTCOME, "onFailure": {}}}, f"{STRATEGY}.onFailure.policy", "is missing"),
    ("job", {RULES: rules(("DeleteSelf", "FAILED", 1))}, RULES, "excludes shutdownAfterJobFinishes"),
    (
        "job",
        {**STAYS, STRATEGY: {**BY_OUTCOME, "deletionRules": rules(("DeleteSelf", "FAILED", 1))}},
        RULES,
        "excludes onSuccess",
    ),
    ("job", {**STAYS, RULES: [{"policy": "DeleteSelf", "condition": {}}]}, f"{RULES}.0.condition", "has 0 states"),
    ("job", {**STAYS, RULES: rules(("DeleteSelf", "FAILED", -1))}, f"{RULES}.0.condition.ttlSeconds", "below 0"),
    ("job", {**STAYS, RULES: rules(("DeleteWorkers", "FAILED", 1))}, f"{RULES}.0.policy", "enableInTreeAutoscaling"),
    (
        "job",
        {**SELECTS, RULES: rules(("DeleteCluster", "FAILED", 1))},
        f"{RULES}.0.policy",
        "chosen by clusterSelector",
    ),
    (
        "job",
        {**STAYS, RULES: rules(("DeleteSelf", "FAILED", 1), ("DeleteSelf", "FAILED", 2))},
        f"{RULES}.1",
        "is a second rule of DeleteSelf for FAILED",
    ),
    (
        "job",
        {**STAYS, RULES: rules(("DeleteSelf", "FAILED", 1), ("DeleteCluster", "FAILED", 2))},
        f"{RULES}.0.condition.ttlSeconds",
        "is 1; DeleteSelf cannot come before DeleteCluster, at 2",
    ),
    (
        "job",
        {
            "spec.submissionMode": "SidecarMode",
            "spec.rayClusterSpec.headGroupSpec.template.spec.restartPolicy": "Always",
        },
        "spec.rayClusterSpec.headGroupSpec.template.spec.restartPolicy",
        "has to be Never with SidecarMode",
    ),
]


@pytest.mark.parametrize("mutation", BROKEN, ids=names_of(BROKEN))
def test_one_mutation_is_told(mutation: Mutation, tmp_path: Path) -> None:
    check_mutation(mutation, tmp_path)


@pytest.mark.parametrize("mutations", TOGETHER, ids=[f"{where}-{message[:12]}" for _, _, where, message in TOGETHER])
def test_mutations_that_belong_together_are_told(mutations: Mutations, tmp_path: Path) -> None:
    check_mutations(mutations, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {**STAYS, STRATEGY: BY_OUTCOME},
        {
            **STAYS,
            RULES: rules(("DeleteCluster", "FAILED", 1), ("DeleteSelf", "FAILED", 1), ("DeleteSelf", "STOPPED", 0)),
        },
        {**SELECTS, RULES: rules(("DeleteSelf", "FAILED", 9))},
        {"spec.managedBy": "kueue.x-k8s.io/multikueue"},
        {"spec.submissionMode": "SidecarMode"},
    ],
)
def test_what_the_operator_takes_is_no_mistake(changes: dict[str, Any], tmp_path: Path) -> None:
    assert mistakes("job", changes, tmp_path) == []
