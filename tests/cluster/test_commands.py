"""The commands on three hosts, as people run them on one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from conftest import Cluster
from hosts import Host

NETWORK = ("--vocabulary-size", 500, "--max-tokens", 40, "--embedding-size", 16, "--units", 8, "--pooling", "max")
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
    cluster: Cluster, trained: Path, reviews: Path, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    there: set[Host] = set()
    command = ("score", reviews, "--model", trained / "model", "--output", tmp_path / "scored", "--rows-per-part", 100)
    scoring = cluster.workers[0].start_lstm_ray(*command, "--actors", 3, "--address", f"{cluster.head.address}:6379")

    def ended() -> bool:
        there.update(host for host in cluster.hosts if host.runs("_ScoringActor"))
        return scoring.poll() is not None

    wait_until(ended, 300)
    out, err = scoring.communicate()
    assert scoring.returncode == 0, err
    assert there == set(cluster.hosts)
    assert "4,000" in out
    assert ds.dataset(tmp_path / "scored").to_table(columns=["row"])["row"].to_pylist() == list(range(4_000))


def test_a_driver_without_the_token_is_refused(cluster: Cluster, trained: Path, reviews: Path, tmp_path: Path) -> None:
    command = ("score", reviews, "--model", trained / "model", "--output", tmp_path / "scored", "--actors", 1)
    done = cluster.head.lstm_ray(*command, "--address", "auto", RAY_AUTH_TOKEN="0" * 64)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == ""
    assert not (tmp_path / "scored").exists()
