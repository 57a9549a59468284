"""Whether a cluster has room for a run, or will grow until it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from lstm_ray.errors import LstmRayError
from lstm_ray.runtime import capacity
from lstm_ray.runtime.capacity import check_room, nodes_at_most
from lstm_ray.runtime.room import Asked, Nodes

AWS = {
    "max_workers": 3,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 8}, "max_workers": 9},
        "gpu": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 2},
    },
}
OWN = {
    "max_workers": 2,
    "head_node_type": "local.cluster.node",
    "available_node_types": {"local.cluster.node": {"resources": {}, "min_workers": 2, "max_workers": 2}},
}


def test_to_what_a_cluster_may_grow() -> None:
    assert nodes_at_most(AWS) == [Nodes(1, 0, 0), Nodes(3, 8, 0), Nodes(2, 4, 1)]
    assert nodes_at_most(OWN) == [Nodes(3, math.inf, math.inf)]
    assert nodes_at_most({}) == []


Make = Callable[..., None]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Gives a function that fakes a cluster: cores of each node, and the head's answer about an autoscaler."""

    def make(*cores: float, head: tuple[bool, dict[str, Any] | None] = (False, None)) -> None:
        nodes = [{"Alive": True, "Resources": {"CPU": number}} for number in cores]
        dead = {"Alive": False, "Resources": {"CPU": 99.0}}
        monkeypatch.setattr("ray.nodes", lambda: [*nodes, dead])
        monkeypatch.setattr(capacity, "on_the_head", lambda function: head)

    return make


@pytest.mark.parametrize(
    ("asked", "cores", "head", "said"),
    [
        (Asked(2, 2, 1, 0), (1, 1), (False, None), None),
        (Asked(3, 3, 1, 0), (1, 1), (False, None), "3 CPUs are asked for, but the Ray at A has 2 CPUs and 0 GPUs, and"),
        (
            Asked(3, 3, 1, 0, kind="actors"),
            (1, 1),
            (False, None),
            "to add nodes: ask for fewer actors, or",
        ),
        (Asked(50, 50, 1, 0, kind="actors"), (0,), (True, AWS), "at most: ask for fewer actors, or"),
        (
            Asked(1, 1, 4, 0),
            (1, 1, 1, 1),
            (False, None),
            "has room for 0 of these (4 x 1 CPU and 0 GPUs), and no auto",
        ),
        (Asked(1, 1, 1, 0), (0,), (True, AWS), "waiting for its autoscaler"),
        (
            Asked(1, 1, 9, 0),
            (0,),
            (True, AWS),
            "9 CPUs on one node are asked for, but the Ray at A grows to room for 0",
        ),
        (Asked(50, 50, 1, 0), (0,), (True, AWS), "50 CPUs are asked for, but the Ray at A grows to 32 CPUs and 2 GPUs"),
        (Asked(50, 50, 1, 0), (0,), (True, None), "waiting for its autoscaler"),
        (Asked(9, 9, 1, 0), (4, 4), (True, OWN), "waiting for its autoscaler"),
        (Asked(99, 99, 1, 0), (4, 4, 4), (True, OWN), "grows to 12 CPUs and 0 GPUs at most"),
    ],
    ids=[
        "room",
        "few",
        "few actors",
        "too many actors",
        "small",
        "grows",
        "too large a worker",
        "too many",
        "KubeRay",
        "host to come",
        "all hosts there",
    ],
)
def test_a_run_waits_only_for_what_will_come(
    cluster: Make, asked: Asked, cores: tuple[float, ...], head: Any, said: str | None
) -> None:
    cluster(*cores, head=head)
    if said is None or said.startswith("waiting"):
        note = check_room("A", asked)
        assert note is None if said is None else note is not None and said in note
    else:
        with pytest.raises(LstmRayError) as refused:
            check_room("A", asked)
        assert said in str(refused.value)
