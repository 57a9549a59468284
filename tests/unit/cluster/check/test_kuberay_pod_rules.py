"""Good pods broken by one mutation each, and the mistake told with its path and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from definitions import Mutation, check_mutation, documents, mistakes, names_of, write

from lstm_ray.cluster.check.validate import validate

pytestmark = pytest.mark.usefixtures("bare_machine")

POD = "spec.headGroupSpec.template.spec"
RAY = f"{POD}.containers.0"
GPU = 'spec.headGroupSpec.template.spec.containers[0].resources.limits["a.b/gpu"]'
SIDECAR = {"name": "logs", "image": "busybox"}

BROKEN: list[Mutation] = [
    ("cluster", f"{RAY}.name", "ray head", None, "use lower-case letters"),
    ("cluster", f"{RAY}.image", "me/lstm ray", None, "has no spaces"),
    ("cluster", f"{RAY}.imagePullPolicy", "Sometimes", None, "choose one of Always, IfNotPresent, Never"),
    ("cluster", f"{RAY}.env", [{"name": "LSTM RAY"}], f"{RAY}.env.0.name", "is 'LSTM RAY'; use letters"),
    ("cluster", f"{RAY}.ports.0.containerPort", 82650, None, "is 82650; ports go to 65535"),
    ("cluster", f"{RAY}.readinessProbe.httpGet.port", "banana", None, "the name of a port"),
    ("cluster", f"{RAY}.resources.limits", {"cpus": 1}, f"{RAY}.resources.limits.cpus", "did you mean cpu?"),
    ("cluster", f"{RAY}.resources.limits", {"cpu": 1, "memory": "1Gi", "a.b/gpu": 0.5}, GPU, "write a whole number"),
    ("cluster", f"{RAY}.resources.limits.memory", "16GB", None, "write an amount such as 2, 500m or 16Gi"),
    (
        "cluster",
        f"{POD}.volumes.0.emptyDir",
        {"sizeLimit": "2Gigs"},
        f"{POD}.volumes.0.emptyDir.sizeLimit",
        "an amount",
    ),
    ("cluster", f"{POD}.containers.0", 7, None, "is no mapping"),
    ("cluster", f"{POD}.initContainers", [SIDECAR, SIDECAR], f"{POD}.initContainers.1.name", "a second time"),
    ("cluster", f"{POD}.initContainers", [{"name": "x"}], f"{POD}.initContainers.0.image", "is missing"),
]


@pytest.mark.parametrize("mutation", BROKEN, ids=names_of(BROKEN))
def test_one_mutation_is_told(mutation: Mutation, tmp_path: Path) -> None:
    check_mutation(mutation, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (f"{POD}.initContainers", [SIDECAR]),
        (f"{RAY}.readinessProbe.httpGet.port", "dashboard"),
        (f"{RAY}.resources.limits.hugepages-2Mi", "4Mi"),
    ],
)
def test_what_kubernetes_takes_is_no_mistake(field: str, value: Any, tmp_path: Path) -> None:
    assert mistakes("cluster", {field: value}, tmp_path) == []


def test_a_resource_that_may_be_a_slip_is_noted(tmp_path: Path) -> None:
    content = documents("cluster")
    content[0]["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["limits"][
        "nvidia.com/gpus"
    ] = 1
    report = validate(write(content, tmp_path))
    assert report.mistakes == ()
    assert "is none that we know; did you mean nvidia.com/gpu?" in str(report.notes)


def test_what_else_is_in_the_file_is_said_not_to_be_checked(tmp_path: Path) -> None:
    content = documents("cluster")
    report = validate(write([*content, content[0]], tmp_path))
    assert "kind is NetworkPolicy, which is not checked here" in " ".join(
        f"{remark.path} {remark.finding.message}" for remark in report.notes
    )
    (twice,) = report.mistakes
    assert twice.path == "metadata.name"
    assert "is that of another RayCluster in the file" in twice.finding.message
