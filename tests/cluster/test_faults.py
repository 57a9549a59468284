"""Hosts that fail, vanish for a while, or come while a corpus is being scored: every row is there once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from conftest import Cluster
from hosts import Host

pytestmark = pytest.mark.long

MakeBundle = Callable[..., Path]
WaitUntil = Callable[..., None]
TIMES = 20


@pytest.fixture
def start_scoring(
    cluster: Cluster, reviews: Path, make_bundle: MakeBundle, tmp_path: Path
) -> Callable[[str], subprocess.Popen[str]]:
    """Gives a function that starts to score 80,000 rows, 800 parts, on the head; slowly, with 256 units."""
    model = make_bundle(units=256, max_tokens=60)

    def start(actors: str) -> subprocess.Popen[str]:
        command = ("score", *[reviews] * TIMES, "--model", model, "--output", tmp_path / "out", "--rows-per-part", 100)
        return cluster.head.start_lstm_ray(*command, "--actors", actors, "--address", "auto")

    return start


def wait_for_work_on(host: Host, scoring: subprocess.Popen[str], output: Path, wait_until: WaitUntil) -> None:
    """Waits until the host scores and some parts are there."""
    wait_until(lambda: host.runs("_ScoringActor") or scoring.poll() is not None)
    there = len(list(output.glob("part-*")))
    wait_until(lambda: len(list(output.glob("part-*"))) > there + 10 or scoring.poll() is not None)
    assert scoring.poll() is None, scoring.communicate()


def assert_done(scoring: subprocess.Popen[str], output: Path) -> None:
    """Checks that scoring ends, with every row once and in order."""
    _, err = scoring.communicate(timeout=500)
    assert scoring.returncode == 0, err
    rows = ds.dataset(output).to_table(columns=["row"])["row"].to_pylist()
    assert rows == list(range(4_000)) * TIMES


def test_a_host_is_killed(
    cluster: Cluster,
    add_host: Callable[[], Host],
    start_scoring: Callable[[str], subprocess.Popen[str]],
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    victim = add_host()
    victim.start_ray(cluster.head)
    scoring = start_scoring("4")
    wait_for_work_on(victim, scoring, tmp_path / "out", wait_until)
    victim.kill_ray()
    assert_done(scoring, tmp_path / "out")


def test_a_link_is_down_for_a_while(
    cluster: Cluster,
    add_host: Callable[[], Host],
    start_scoring: Callable[[str], subprocess.Popen[str]],
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    far = add_host()
    far.start_ray(cluster.head)
    scoring = start_scoring("4")
    wait_for_work_on(far, scoring, tmp_path / "out", wait_until)
    far.link_down()
    before = len(list((tmp_path / "out").glob("part-*")))
    wait_until(lambda: len(list((tmp_path / "out").glob("part-*"))) > before + 10)
    far.link_up()
    assert_done(scoring, tmp_path / "out")


def test_a_host_that_comes_takes_part(
    cluster: Cluster,
    add_host: Callable[[], Host],
    start_scoring: Callable[[str], subprocess.Popen[str]],
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    scoring = start_scoring("1:4")
    wait_until(lambda: any((tmp_path / "out").glob("part-*")) or scoring.poll() is not None)
    newcomer = add_host()
    newcomer.start_ray(cluster.head)
    wait_until(lambda: newcomer.runs("_ScoringActor") or scoring.poll() is not None)
    assert scoring.poll() is None, scoring.communicate()
    assert_done(scoring, tmp_path / "out")
