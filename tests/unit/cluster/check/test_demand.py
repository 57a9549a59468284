"""What commands ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lstm_ray.cluster.check.demand import Demand, demands

TWO, THREE = Demand("train", 2, 2, 1, 0, "local"), Demand("score", 3, 3, 1, 0, "local")


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
            [TWO, THREE],
        ),
        ("lstm-ray train --workers 2;\n\n(lstm-ray score --actors 3)", [TWO, THREE]),
        ("lstm-ray train \\\n --workers 2 &&\nlstm-ray score --actors 3", [TWO, THREE]),
        ("python -m lstm_ray train --workers 2", [TWO]),
        ("lstm-ray train --config job.yaml --workers 2", [replace(TWO, address="")]),
        ("lstm-ray train --config job.yaml", []),
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
