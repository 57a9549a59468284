"""What a cluster's status says of Ray's own answers."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.cluster.status import summarise


def node(address: str, cpus: float, gpus: float = 0, head: bool = False, alive: bool = True) -> dict[str, Any]:
    """Returns a node as `ray.nodes()` gives it."""
    resources = {"CPU": cpus, "GPU": gpus, "memory": 4.0 * 2**30} | ({"node:__internal_head__": 1.0} if head else {})
    return {"NodeManagerAddress": address, "Alive": alive, "Resources": resources}


def test_nodes_are_told_with_the_head_first() -> None:
    status = summarise(
        [node("10.0.0.2", 4), node("10.0.0.9", 2, head=True), node("10.0.0.1", 4, alive=False)], {"CPU": 5}
    )
    assert [one.address for one in status.nodes] == ["10.0.0.9", "10.0.0.2"]
    assert [one.is_head for one in status.nodes] == [True, False]
    assert status.lost == 1
    assert status.nodes[0].memory_gib == 4
    assert (status.free_cpus, status.free_gpus, status.free_memory_gib) == (5, 0, 0)


@pytest.mark.parametrize(
    ("nodes", "free", "workers", "actors"),
    [
        ([node("a", 4), node("b", 4)], {"CPU": 8}, 8, 7),
        ([node("a", 4), node("b", 4)], {"CPU": 3}, 3, 2),
        ([node("a", 4)], {}, 0, 0),
        ([node("a", 1)], {"CPU": 1}, 1, 1),
        ([node("a", 0, head=True), node("b", 8, 2), node("c", 8, 4)], {"CPU": 16, "GPU": 6}, 6, 6),
        ([node("a", 8, 2), node("c", 2, 4)], {"CPU": 10, "GPU": 6}, 4, 4),
        ([node("a", 8, 2)], {"CPU": 8, "GPU": 1}, 1, 1),
        ([node("a", 8, 2)], {"CPU": 8, "GPU": 0.5}, 8, 7),
    ],
)
def test_what_a_run_would_get(nodes: list[dict[str, Any]], free: dict[str, float], workers: int, actors: int) -> None:
    status = summarise(nodes, free)
    assert (status.train_workers, status.score_actors) == (workers, actors)
