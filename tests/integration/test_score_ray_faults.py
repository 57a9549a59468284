"""Faults of a scoring run on a local Ray: the run continues by itself, or the same command finishes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from heads import RayCluster, kill

from lstm_ray.config import ScoreConfig
from lstm_ray.score.run import score

pytestmark = pytest.mark.second_tier

ROWS = 40_000
KILLS = 10

Parts = Callable[[Path], dict[str, bytes]]
Processes = Callable[..., list[int]]
Run = Callable[..., Any]


def nothing(*_: Any) -> None:
    """Ignores progress."""


@pytest.fixture(scope="module")
def undisturbed(numbered: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Any:
    """Gives the parts of an undisturbed run."""
    output = tmp_path_factory.mktemp("undisturbed")
    settings = {"inputs": (str(numbered),), "model": str(tiny_bundle), "output": str(output), "rows_per_part": 500}
    score(ScoreConfig.model_validate(settings), nothing)
    return parts(output)


@pytest.fixture
def run(start: Callable[..., Any], numbered: Path, tiny_bundle: Path, ray_directory: str) -> Run:
    """Gives a function that starts `lstm-ray score` on a Ray of its own."""

    def start_it(output: Path, *more: object, model: Path = tiny_bundle) -> Any:
        arguments = ("score", numbered, "--model", model, "--output", output, "--rows-per-part", 500)
        return start(*arguments, "--actors", 2, *more, RAY_TMPDIR=ray_directory)

    return start_it


def assert_finished(output: Path, undisturbed: dict[str, bytes], parts: Parts) -> None:
    """Checks that every row is there once, and that the parts have the bytes of the undisturbed run."""
    assert parts(output) == undisturbed
    assert ds.dataset(output).to_table(columns=["row"])["row"].to_pylist() == list(range(ROWS))
    assert (output / "_SUCCESS").exists()
    assert sorted(path.name for path in output.rglob(".*")) == []


def test_an_actor_that_is_killed_is_replaced(
    run: Run, undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path, ray_processes: Processes
) -> None:
    command = run(tmp_path / "out")
    command.wait_until(lambda: len(parts(tmp_path / "out")) >= 3, 120)
    actors = ray_processes("_ScoringActor")
    assert actors
    for left_out in (
        "/dashboard.py",
        "/monitor.py",
        "/log_monitor.py",
        "Coordinator",
        "_StatsActor",
        "LocationTracker",
    ):
        assert not ray_processes(left_out), "a Ray of the command's own runs only what scoring needs"
    kill(actors[0])
    code, error = command.end()
    assert code == 0, error
    assert_finished(tmp_path / "out", undisturbed, parts)


@pytest.mark.series
def test_actors_are_killed_at_ten_moments(
    run: Run, undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path, ray_processes: Processes
) -> None:
    chance = random.Random(0)
    command = run(tmp_path / "out")
    for _ in range(KILLS):
        wanted = len(parts(tmp_path / "out")) + chance.randint(1, 5)
        command.wait_until(lambda wanted=wanted: len(parts(tmp_path / "out")) >= wanted, 120)
        command.wait_until(lambda: bool(ray_processes("_ScoringActor")), 120)
        kill(chance.choice(ray_processes("_ScoringActor")))
    code, error = command.end()
    assert code == 0, error
    assert_finished(tmp_path / "out", undisturbed, parts)


@pytest.mark.series
def test_the_driver_is_killed_at_ten_moments(
    run: Run, undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path, ray_directory: str
) -> None:
    chance = random.Random(1)
    output = tmp_path / "out"
    for _ in range(KILLS):
        command = run(output)
        wanted = len(parts(output)) + chance.randint(1, 6)
        command.wait_until(lambda wanted=wanted: len(parts(output)) >= wanted, 120)
        code, error = command.kill()
        assert code == -signal.SIGKILL, error
        there = parts(output)
        assert {name: undisturbed[name] for name in there} == there
    assert run(output).end()[0] == 0
    assert_finished(output, undisturbed, parts)


@pytest.mark.series
def test_the_raylet_of_a_worker_node_is_killed_at_ten_moments(
    start: Callable[..., Any],
    numbered: Path,
    tiny_bundle: Path,
    undisturbed: dict[str, bytes],
    parts: Parts,
    tmp_path: Path,
    ray_nodes: RayCluster,
) -> None:
    """Of two nodes one dies; the run continues with the other as if nothing had happened."""
    chance = random.Random(2)
    ray_nodes.start_node(cpus=1)
    for number in range(KILLS):
        output = tmp_path / str(number)
        raylet = ray_nodes.start_node(cpus=1)
        arguments = ("score", numbered, "--model", tiny_bundle, "--output", output, "--rows-per-part", 500)
        command = start(*arguments, "--actors", 2, "--address", ray_nodes.address, **ray_nodes.environment)
        wanted = chance.randint(1, 50)
        command.wait_until(lambda output=output, wanted=wanted: len(parts(output)) >= wanted, 120)
        kill(raylet)
        code, error = command.end()
        assert code == 0, error
        assert_finished(output, undisturbed, parts)


@pytest.mark.parametrize(
    ("sign", "expected"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_killed_driver_and_run_again(
    run: Run,
    undisturbed: dict[str, bytes],
    parts: Parts,
    tmp_path: Path,
    ray_processes: Processes,
    sign: int,
    expected: int,
) -> None:
    output = tmp_path / "out"
    command = run(output)
    command.wait_until(lambda: len(parts(output)) >= 3, 120)
    code, error = command.kill(sign)
    assert code == expected, error
    there = parts(output)
    assert 3 <= len(there) < len(undisturbed)
    assert {name: undisturbed[name] for name in there} == there
    assert run(output).end()[0] == 0
    assert_finished(output, undisturbed, parts)
    deadline = time.monotonic() + 60
    while left := ray_processes():
        assert time.monotonic() < deadline, f"Ray continues without its driver: {left}"
        time.sleep(0.2)


def test_a_killed_raylet(
    run: Run, undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path, ray_processes: Processes
) -> None:
    output = tmp_path / "out"
    command = run(output)
    command.wait_until(lambda: len(parts(output)) >= 3, 120)
    (raylet,) = ray_processes("/raylet/raylet ")
    kill(raylet)
    assert command.end()[0] == 1, "Ray ends the process itself, before anything could be said"
    there = parts(output)
    assert {name: undisturbed[name] for name in there} == there
    assert not (output / "_SUCCESS").exists()
    assert run(output).end()[0] == 0
    assert_finished(output, undisturbed, parts)


def test_a_model_that_an_actor_cannot_read_is_named(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_bundle, tmp_path / "model"))
    command = run(tmp_path / "out", model=model)
    assert any("starting Ray" in line for line in command.process.stderr)
    shutil.rmtree(model)
    code, error = command.end()
    assert code == 1
    assert error.splitlines()[-1] == f"error: {model}: no such model bundle"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a filesystem")
def test_a_full_disk_is_the_outputs_fault_on_an_actor_too(
    run: Run, undisturbed: dict[str, bytes], parts: Parts, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size_kib = sum(map(len, undisturbed.values())) // 1024
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib // 2}k", "lstm-ray-test", disk], check=True)
    try:
        code, error = run(disk / "out", "--max-bad-files", 2).end()
        there = parts(disk / "out")
        no_bad_files = not (disk / "out" / "_bad_files.parquet").exists()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert code == 1
    last = error.splitlines()[-1]
    assert last.startswith(f"error: {disk}/out/")
    assert last.endswith("cannot be written: no space left on device")
    assert no_bad_files
    assert {name: undisturbed[name] for name in there} == there
