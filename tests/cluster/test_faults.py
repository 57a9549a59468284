"""Hosts that fail, are cut off for a while, or join while a corpus is scored: every row is there once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from conftest import Cluster
from hosts import Host

MakeBundle = Callable[..., Path]
WaitUntil = Callable[..., None]
Copies = Callable[[int], list[Path]]
TIMES = 20  # 80,000 rows, 800 parts


@pytest.fixture
def start_scoring(
    cluster: Cluster, copies: Copies, make_bundle: MakeBundle, tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    """Gives a function that starts to score copies of the reviews on the head; slowly, with a model of 256 units."""
    model = make_bundle(units=256, max_tokens=60)

    def start(actors: str, times: int = TIMES) -> subprocess.Popen[str]:
        command = ("score", *copies(times), "--model", model, "--output", tmp_path / "out", "--rows-per-part", 100)
        return cluster.head.start_lstm_ray(*command, "--actors", actors, "--address", "auto")

    return start


def parts(output: Path) -> int:
    """Counts what is scored."""
    return len(list(output.glob("part-*")))


def wait_for_work_on(host: Host, scoring: subprocess.Popen[str], output: Path, wait_until: WaitUntil) -> None:
    """Waits until the host scores and some parts are there."""
    wait_until(lambda: host.runs("_ScoringActor") or scoring.poll() is not None)
    there = parts(output)
    wait_until(lambda: parts(output) > there + 10 or scoring.poll() is not None)
    assert scoring.poll() is None, scoring.communicate()


def assert_done(scoring: subprocess.Popen[str], output: Path, times: int = TIMES) -> None:
    """Checks that scoring ends, with every row once and in order."""
    _, err = scoring.communicate(timeout=500)
    assert scoring.returncode == 0, err
    rows = ds.dataset(output).to_table(columns=["row"])["row"].to_pylist()
    assert rows == list(range(4_000)) * times


@pytest.mark.parametrize("fault", ["power", "cable"])
def test_what_a_host_leaves_undone_others_do(
    cluster: Cluster,
    add_host: Callable[[], Host],
    start_scoring: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    wait_until: WaitUntil,
    fault: str,
) -> None:
    """The host is killed, or cut off until the others have written ten more parts."""
    victim = add_host()
    victim.start_ray(cluster.head)
    scoring = start_scoring("4")
    wait_for_work_on(victim, scoring, tmp_path / "out", wait_until)
    victim.kill_ray() if fault == "power" else victim.link_down()
    before = parts(tmp_path / "out")
    wait_until(lambda: parts(tmp_path / "out") > before + 10)
    victim.link_up()
    assert_done(scoring, tmp_path / "out")


def test_a_host_that_comes_takes_part(
    cluster: Cluster,
    add_host: Callable[[], Host],
    start_scoring: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    times = 3 * TIMES  # some hundred seconds of work: the host has to boot, and Ray Data to notice it
    scoring = start_scoring("1:4", times)
    wait_until(lambda: any((tmp_path / "out").glob("part-*")) or scoring.poll() is not None)
    newcomer = add_host()
    newcomer.start_ray(cluster.head)
    wait_until(lambda: newcomer.runs("_ScoringActor") or scoring.poll() is not None)
    assert scoring.poll() is None, scoring.communicate()
    assert_done(scoring, tmp_path / "out", times)
