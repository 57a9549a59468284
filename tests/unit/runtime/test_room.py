"""What a run asks for, and what nodes hold."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from lstm_ray.errors import LstmRayError
from lstm_ray.runtime import capacity
from lstm_ray.runtime.capacity import autoscaler_of_head, check_room, nodes_at_most
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
        (Asked(1, 1, cpus=1, gpus=1), FOUR_SMALL, ("1 CPUs and 1 GPUs are asked for", "4 CPUs and 0 GPUs")),
        (
            Asked(1, 1, cpus=4, gpus=0),
            FOUR_SMALL,
            ("4 CPUs on one node are asked for", "room for 0 of these (4 x 1 CPUs and 0 GPUs)"),
        ),
        (
            Asked(3, 3, cpus=3, gpus=0),
            [Nodes(2, 4, 0), Nodes(1, 1, 0)],
            ("3 x 3 CPUs, each on one node, are asked for", "room for 2 of these (2 x 4 CPUs and 0 GPUs, "),
        ),
        (
            Asked(1, 1, cpus=4, gpus=1),
            [Nodes(1, 8, 0), Nodes(1, 1, 1)],
            ("4 CPUs and 1 GPUs on one node", "room for 0"),
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
    """Gives a function that stands in for a cluster: cores of each node, and what its head says of an autoscaler."""

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
            Asked(1, 1, 4, 0),
            (1, 1, 1, 1),
            (False, None),
            "has room for 0 of these (4 x 1 CPUs and 0 GPUs), and no auto",
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


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Gives a function that starts what looks like a cluster's autoscaler, which is that of 10.0.0.1:6379."""
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(gcs_address="10.0.0.1:6379"))
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> None:
        code = "import time; print(flush=True); time.sleep(60)"
        command = [sys.executable, "-c", code, "/ray/autoscaler/monitor.py", *options]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert started[-1].stdout is not None
        started[-1].stdout.readline()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_autoscaler_is_found_on_the_head(monitor: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(yaml.safe_dump(AWS), encoding="utf-8")
    monitor("--gcs-address=10.0.0.1:63790", f"--autoscaling-config={path}")
    assert autoscaler_of_head() == (True, None), "another cluster's is not ours: KubeRay's lies elsewhere"
    monitor("--gcs-address=10.0.0.1:6379", f"--autoscaling-config={path}")
    assert autoscaler_of_head() == (True, AWS)
    path.unlink()
    assert autoscaler_of_head() == (True, None)


def test_an_autoscaler_without_a_definition_adds_nothing(monitor: Callable[..., None]) -> None:
    monitor("--gcs-address=10.0.0.1:6379")
    assert autoscaler_of_head() == (False, None)
