"""How many workers fit on nodes, and what nodes lack."""

from __future__ import annotations

import math

import pytest

from lstm_ray.runtime.room import Asked, Nodes, room


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "number"),
    [
        ([Nodes(4, 8, 0)], 1, 0, 32),
        ([Nodes(4, 8, 1)], 1, 1, 4),
        ([Nodes(4, 8, 1)], 3, 0.5, 8),
        ([Nodes(4, 8, 1)], 5, 0.5, 4),
        ([Nodes(1, 0, 0), Nodes(2, 4, 0)], 3, 0, 2),
        ([Nodes(4, 8, 0)], 1, 1, 0),
        ([Nodes(math.inf, 8, 0)], 1, 0, math.inf),
        ([Nodes(math.inf, 8, 0)], 9, 0, 0),
        ([Nodes(3, 1, 0)], 0.1, 0, 30),
        ([Nodes(2, math.inf, math.inf)], 8, 1, math.inf),
        ([], 1, 0, 0),
    ],
)
def test_the_room_of_nodes(nodes: list[Nodes], cpus: float, gpus: float, number: float) -> None:
    assert room(nodes, cpus, gpus) == number


FOUR_SMALL = [Nodes(4, 1, 0)]


@pytest.mark.parametrize(
    ("asked", "nodes", "lack"),
    [
        (Asked(4, 4, cpus=1, gpus=0), FOUR_SMALL, None),
        (Asked(1, 9, cpus=1, gpus=0), FOUR_SMALL, None),
        (Asked(5, 9, cpus=1, gpus=0), FOUR_SMALL, ("5 CPUs are asked for", "4 CPUs and 0 GPUs")),
        (Asked(4, 4, cpus=1, gpus=0, spare_cpus=1), FOUR_SMALL, ("5 CPUs are asked for", "4 CPUs and 0 GPUs")),
        (Asked(1, 1, cpus=1, gpus=1), FOUR_SMALL, ("1 CPU and 1 GPU are asked for", "4 CPUs and 0 GPUs")),
        (
            Asked(1, 1, cpus=4, gpus=0),
            FOUR_SMALL,
            ("4 CPUs on one node are asked for", "room for 0 of these (4 x 1 CPU and 0 GPUs)"),
        ),
        (
            Asked(3, 3, cpus=3, gpus=0),
            [Nodes(2, 4, 0), Nodes(1, 1, 0)],
            ("3 x 3 CPUs, each on one node, are asked for", "room for 2 of these (2 x 4 CPUs and 0 GPUs, "),
        ),
        (
            Asked(1, 1, cpus=4, gpus=1),
            [Nodes(1, 8, 0), Nodes(1, 1, 1)],
            ("4 CPUs and 1 GPU on one node", "room for 0"),
        ),
        (Asked(1, 1, cpus=1, gpus=0), [Nodes(1, 0, 1)], ("1 CPU is asked for", "0 CPUs and 1 GPU")),
        (
            Asked(1, 1, cpus=1, gpus=0),
            [Nodes(2, 0.5, 0)],
            ("1 CPU on one node is asked for", "room for 0 of these (2 x"),
        ),
        (Asked(0, 0, cpus=1, gpus=0), [], None),
    ],
)
def test_what_nodes_lack(asked: Asked, nodes: list[Nodes], lack: tuple[str, str] | None) -> None:
    found = asked.lack(nodes)
    if lack is None or found is None:
        assert found is lack
    else:
        assert found[0].startswith(lack[0])
        assert found[1].startswith(lack[1])


@pytest.mark.parametrize(
    ("asked", "warning"),
    [
        (Asked(0, 0, cpus=1, gpus=0), None),
        (Asked(2, 2, cpus=1, gpus=0), None),
        (
            Asked(1, 9, cpus=1, gpus=0),
            "up to 9 workers on this machine's 2 cores take turns, and each is a process with its own TensorFlow "
            "(about 0.7 GB): use --workers 0 or --workers 2",
        ),
        (
            Asked(1, 9, cpus=1, gpus=0, kind="trials"),
            "up to 9 trials on this machine's 2 cores take turns, and each is a process with its own TensorFlow "
            "(about 0.7 GB): use --concurrency 2",
        ),
        (Asked(4, 4, cpus=0.5, gpus=0), None),
        (Asked(1, 1, cpus=9, gpus=0), None),
        (
            Asked(9, 9, cpus=1, gpus=0),
            "9 workers on this machine's 2 cores take turns, and each is a process with its own TensorFlow "
            "(about 0.7 GB): use --workers 0 or --workers 2",
        ),
        (
            Asked(3, 4, cpus=1, gpus=0, kind="actors"),
            "up to 4 actors on this machine's 2 cores take turns, and each holds a copy of the model: use --actors 0 "
            "or --actors 2",
        ),
        (
            Asked(2, 2, cpus=1.5, gpus=1),
            "2 workers with 1.5 CPUs each on this machine's 2 cores take turns, and each is a process with its own "
            "TensorFlow (about 0.7 GB): use --workers 1",
        ),
    ],
)
def test_more_than_the_cores_of_this_machine_are_warned_of(asked: Asked, warning: str | None) -> None:
    assert asked.crowding(cores=2) == warning
