"""How a cluster's status follows from Ray's answers."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.cluster.status import summarise
from lstm_ray.runtime.room import Asked, Nodes

IDLE, PREEMPTED = 4, 3


def node(address: str, cpus: float, gpus: float = 0, head: bool = False, **more: Any) -> dict[str, Any]:
    """Returns a node as `ray.nodes()` gives it; its address is its id."""
    resources = {"CPU": cpus, "GPU": gpus, "memory": 4.0 * 2**30} | ({"node:__internal_head__": 1.0} if head else {})
    return {"NodeID": address, "NodeManagerAddress": address, "Alive": True, "Resources": resources, **more}


def test_the_head_is_the_first_node() -> None:
    nodes = [node("10.0.0.2", 4), node("10.0.0.9", 2, head=True), node("10.0.0.1", 4, Alive=False)]
    nodes += [node("10.0.0.3", 4, Alive=False, DeathReason=reason) for reason in (IDLE, PREEMPTED)]
    status = summarise(nodes, {"10.0.0.2": {"CPU": 3, "memory": 2.0**30}, "10.0.0.9": {"CPU": 2, "GPU": 0}})
    assert [one.address for one in status.nodes] == ["10.0.0.9", "10.0.0.2"]
    assert [one.is_head for one in status.nodes] == [True, False]
    assert status.lost == 2, "all but the one that was given back"
    assert status.nodes[0].memory_gib == 4
    assert (status.free_cpus, status.free_gpus, status.free_memory_gib) == (5, 0, 1)


@pytest.mark.parametrize(
    ("free", "workers", "actors"),
    [
        ({"a": {"CPU": 4}, "b": {"CPU": 4}}, 8, 8),
        ({"a": {"CPU": 2}}, 2, 2),
        ({}, 0, 0),
        ({"a": {"CPU": 1}}, 1, 1),
        ({"a": {"CPU": 0.5}, "b": {"CPU": 0.5}, "c": {"CPU": 0.5}}, 0, 0),
        ({"b": {"CPU": 8, "GPU": 2}, "c": {"CPU": 8, "GPU": 4}}, 6, 6),
        ({"a": {"CPU": 8, "GPU": 2}, "c": {"CPU": 2, "GPU": 4}}, 4, 4),
        ({"a": {"CPU": 8, "GPU": 1}}, 1, 1),
        ({"a": {"CPU": 8, "GPU": 0.5}}, 8, 8),
        ({"a": {"GPU": 1}, "b": {"CPU": 8}}, 8, 8),
        ({"a": {"CPU": 4, "GPU": 4}}, 4, 3),
        ({"a": {"CPU": 1, "GPU": 1}}, 1, 0),
    ],
)
def test_what_a_run_would_get(free: dict[str, dict[str, float]], workers: int, actors: int) -> None:
    status = summarise([node("a", 8, 4), node("b", 8, 4), node("c", 8, 4)], free)
    assert (status.train_workers, status.score_actors) == (workers, actors)
    on = [Nodes(1, one.free_cpus, one.free_gpus) for one in status.nodes]
    gpus = status.gpus_each
    for number in (actors, actors + 1):  # what a scoring run asks for
        lack = Asked(number, number, cpus=1, gpus=gpus, spare_cpus=gpus if number else 0).lack(on)
        assert (lack is None) == (number == actors)
