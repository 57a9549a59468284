"""What commands ask for, and what nodes hold."""

from __future__ import annotations

import math

import pytest

from lstm_ray.cluster.demand import Demand, Nodes, demands, room


@pytest.mark.parametrize(
    ("entrypoint", "expected"),
    [
        ("lstm-ray train --workers 4", [Demand("train", 4, 4, 1, 0, "local")]),
        ("lstm-ray score a --actors=2:8 --address auto", [Demand("score", 2, 8, 1, 0, "auto")]),
        (
            "lstm-ray --debug score --actors 1 --cpus-per-actor 2 --gpus-per-actor 0.5",
            [Demand("score", 1, 1, 2, 0.5, "local")],
        ),
        (
            "cd /x && /opt/bin/lstm-ray train --workers 2 --gpus-per-worker 1; ls",
            [Demand("train", 2, 2, 1, 1, "local")],
        ),
        ("lstm-ray train", [Demand("train", 0, 0, 1, 0, "local")]),
        (
            "lstm-ray train --workers 2 && lstm-ray score --actors 3",
            [Demand("train", 2, 2, 1, 0, "local"), Demand("score", 3, 3, 1, 0, "local")],
        ),
        ("lstm-ray train --workers $N", []),
        ("lstm-ray train --workers 1 --cpus-per-worker $C", []),
        ("lstm-ray evaluate a", []),
        ("python train.py --workers 4", []),
        ("lstm-ray train 'open", []),
        ("", []),
    ],
)
def test_a_commands_demand(entrypoint: str, expected: list[Demand]) -> None:
    assert demands(entrypoint) == expected


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
        ([], 1, 0, 0),
    ],
)
def test_the_room_of_nodes(nodes: list[Nodes], cpus: float, gpus: float, number: float) -> None:
    assert room(nodes, cpus, gpus) == number
