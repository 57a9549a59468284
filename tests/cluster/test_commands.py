"""The commands on three hosts, as people run them on one of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from conftest import Cluster
from hosts import Host

NETWORK = (
    *("--preset", "none", "--vocabulary-size", 500, "--max-tokens", 40, "--embedding-size", 16, "--units", 8),
    *("--pooling", "max"),
)
LEARNING = ("--dropout", 0, "--learning-rate", 0.03, "--global-batch-size", 120, "--epochs", 3)


@pytest.fixture(scope="module")
def trained(cluster: Cluster, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a run of three workers, each of which needs a host's only core."""
    output = tmp_path_factory.mktemp("trained") / "run"
    command = ("train", "--train", reviews, "--output", output, *NETWORK, *LEARNING)
    done = cluster.head.lstm_ray(*command, "--workers", 3, "--address", "auto")
    assert done.returncode == 0, done.stderr
    assert "starting 3 Ray workers" in done.stderr
    return output


def test_train(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_bytes())
    assert metrics["epochs"] == 3
    assert metrics["validation"]["accuracy"] > 0.7


def test_score_uses_all_hosts(
    cluster: Cluster,
    trained: Path,
    copies: Callable[[int], list[Path]],
    tmp_path: Path,
    wait_until: Callable[..., None],
) -> None:
    there: set[Host] = set()
    many = copies(10)  # few would be scored before the last actor is up
    command = ("score", *many, "--model", trained / "model", "--output", tmp_path / "scored", "--rows-per-part", 100)
    scoring = cluster.workers[0].start_lstm_ray(*command, "--actors", 3, "--address", f"{cluster.head.address}:6379")

    def ended() -> bool:
        there.update(host for host in cluster.hosts if host.runs("_ScoringActor"))
        return scoring.poll() is not None

    wait_until(ended, 300)
    out, err = scoring.communicate()
    assert scoring.returncode == 0, err
    assert there == set(cluster.hosts)
    assert "40,000" in out
    assert ds.dataset(tmp_path / "scored").to_table(columns=["row"])["row"].to_pylist() == list(range(4_000)) * 10


def test_a_driver_without_the_token_is_refused(cluster: Cluster, trained: Path, reviews: Path, tmp_path: Path) -> None:
    command = ("score", reviews, "--model", trained / "model", "--output", tmp_path / "scored", "--actors", 1)
    done = cluster.head.lstm_ray(*command, "--address", "auto", RAY_AUTH_TOKEN="0" * 64)
    assert done.returncode == 1
    assert "refuses this machine's token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH" in done.stderr
    assert list((tmp_path / "scored").glob("part-*")) == []


def test_more_than_the_cluster_has_is_refused(cluster: Cluster, trained: Path, reviews: Path, tmp_path: Path) -> None:
    command = ("score", reviews, "--model", trained / "model", "--output", tmp_path / "scored", "--actors", 9)
    done = cluster.head.lstm_ray(*command, "--rows-per-part", 100, "--address", "auto")
    assert done.returncode == 1
    refused = r"9 CPUs are asked for, but the Ray at [\d.]+:\d+ has 3 CPUs and 0 GPUs, and no autoscaler"
    assert re.search(refused, done.stderr)


@pytest.fixture
def hidden(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """Gives a path that is a different directory on one of the hosts."""
    place, host = tmp_path / "hidden", cluster.workers[0]
    place.mkdir()
    assert host.run("mount", "-t", "tmpfs", "hidden", place).returncode == 0
    yield place
    assert host.run("umount", "-l", place).returncode == 0


def test_a_place_that_one_host_does_not_see_is_refused(
    cluster: Cluster, trained: Path, reviews: Path, hidden: Path
) -> None:
    node = cluster.workers[0].address
    command = ("score", reviews, "--model", trained / "model", "--output", hidden / "scored", "--actors", 1)
    done = cluster.head.lstm_ray(*command, "--address", "auto")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {hidden}/scored: on node {node} this is a different directory than here: put it on")
    shutil.copy(reviews / "0.parquet", hidden)
    command = ("score", hidden / "0.parquet", "--model", trained / "model", "--output", hidden.parent / "scored")
    done = cluster.head.lstm_ray(*command, "--actors", 1, "--address", "auto")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {hidden}/0.parquet: node {node} does not see it: put it on")
    relative = ("evaluate", "0.parquet", "--model", trained / "model", "--address", "auto")
    done = cluster.head.lstm_ray(*relative, cwd=hidden)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == last


def test_doctor(cluster: Cluster, hidden: Path) -> None:
    healthy = cluster.head.lstm_ray("doctor", "--address", "auto", "--storage", hidden.parent)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    for host in cluster.hosts:
        assert re.search(rf"^{re.escape(host.address)}: authentication +OK +token$", healthy.stdout, re.MULTILINE)
    ill = cluster.head.lstm_ray("doctor", "--address", "auto", "--storage", hidden)
    assert ill.returncode == 1
    (problem,) = (line for line in ill.stdout.splitlines() if "problem" in line)
    assert problem.startswith(f"{cluster.workers[0].address}: storage")
    assert "is a different directory than on the machine that runs doctor" in problem
    assert cluster.network.token not in healthy.stdout + healthy.stderr + ill.stdout + ill.stderr
