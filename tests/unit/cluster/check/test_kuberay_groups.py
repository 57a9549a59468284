"""Groups of pods and their resources."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lstm_ray.cluster.check.kuberay_groups import nodes, quantity
from lstm_ray.runtime.room import Nodes


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", 0.5),
        ("2", 2),
        (2, 2),
        (0.5, 0.5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("16Gi", 16 * 2**30),
        ("1k", 1000),
        ("1Ki", 1024),
        ("2E", 2e18),
        ("12e3", 12000),
        ("-1", -1),
        ("16GB", None),
        ("1e999", None),
        ("1K", None),
        ("two", None),
        ("", None),
        ("1 Gi", None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_quantity(text: object, number: float | None) -> None:
    assert quantity(text) == (pytest.approx(number) if number is not None else None)


def group(more: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Returns a group of pods with a container of these limits."""
    return {"template": {"spec": {"containers": [{"resources": {"limits": limits}}]}}, **more}


@pytest.mark.parametrize(
    ("more", "limits", "expected"),
    [
        ({"replicas": 1, "maxReplicas": 3}, {"cpu": "1500m"}, Nodes(3, 2, 0)),
        ({"maxReplicas": 3, "numOfHosts": 2}, {"cpu": 4, "nvidia.com/gpu": "2"}, Nodes(6, 4, 2)),
        ({}, {"cpu": 4}, Nodes(math.inf, 4, 0)),
        ({"maxReplicas": 1, "rayStartParams": {"num-cpus": "0", "num-gpus": "3"}}, {"cpu": 4}, Nodes(1, 0, 3)),
        ({"maxReplicas": 1, "resources": {"CPU": "7"}, "rayStartParams": {"num-cpus": "0"}}, {}, Nodes(1, 7, 0)),
        ({"maxReplicas": 1}, {"cpu": 1, "nvidia.com/mig-1g.5gb": 1}, Nodes(1, 1, 1)),
    ],
)
def test_the_nodes_of_a_group(more: dict[str, Any], limits: dict[str, Any], expected: Nodes) -> None:
    head = group({"rayStartParams": {"num-cpus": "0"}}, {"cpu": 2})
    cluster = {"enableInTreeAutoscaling": True, "headGroupSpec": head, "workerGroupSpecs": [group(more, limits)]}
    assert nodes(cluster) == [Nodes(1, 0, 0), expected]


def test_without_an_autoscaler_there_are_the_replicas() -> None:
    cluster = {"workerGroupSpecs": [group({"replicas": 2, "maxReplicas": 9}, {"cpu": 1})]}
    assert nodes(cluster) == [Nodes(2, 1, 0)]
