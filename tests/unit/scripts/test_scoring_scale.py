"""What benchmarks/scoring_scale.py computes from the parts of several hosts, and how it limits them to half a core."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cores import CoreLimit


@pytest.fixture(scope="module")
def scale() -> Any:
    from benchmarks import scoring_scale

    return scoring_scale


def test_the_group_of_a_part_says_who_wrote_it(scale: Any, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    for number, (at, group) in enumerate([(110, 1), (114, 2), (120, 1), (130, 1), (134, 2)]):
        part = tmp_path / f"part-{number}.parquet"
        pq.write_table(pa.table({"text": ["good"] * (10 + number)}), part)
        os.chown(part, 0, group)
        os.utime(part, (at, at))
    hosts = [SimpleNamespace(name=f"host{group}", group=group) for group in (1, 2)]
    samples = [[100.0, 0.0, 50.0], [120.0, 10.0, 50.0], [140.0, 15.0, 60.0]]  # CPU time of both hosts
    one, other = scale.shares_of(hosts, tmp_path, 100.0, samples)
    assert (one.first_s, one.last_s, one.rows, one.later_rows) == (10, 30, 10 + 12 + 13, 12 + 13)
    assert (other.first_s, other.last_s, other.rows, other.later_rows) == (14, 34, 11 + 14, 14)
    assert (one.cpu_s, other.cpu_s) == pytest.approx((12.5 - 5, 57 - 50))
    assert one.rate == 25 / 20
    assert one.got == pytest.approx(7.5 / 20 / 0.5)
    run = scale.Run(5.0, 40.0, "digest", [one, other])
    assert (run.rows, run.rate) == (60, pytest.approx(25 / 20 + 14 / 20))
    hosts.append(SimpleNamespace(name="idle", group=3))
    with pytest.raises(SystemExit, match="idle wrote 0 of 5 parts"):
        scale.shares_of(hosts, tmp_path, 100.0, [[*sample, 0.0] for sample in samples])


def test_the_table_compares_with_one_host(scale: Any) -> None:
    def run(hosts: int, rate: float) -> Any:
        return scale.Run(20.0, 50.0, "", [scale.Share(10.0, 20.0, int(11 * rate), int(10 * rate), 4.0)] * hosts)

    lines = scale.hosts_table([{1: run(1, 100), 2: run(2, 90)}, {1: run(1, 100), 2: run(2, 70)}])
    assert lines[-2:] == [
        "| 1 | 20 | 10 to 10 | 100 | 100% (100% to 100%) | 80% | 250 | 100% (100% to 100%) | 50 |",
        "| 2 | 20 | 10 to 10 | 160 | 80% (70% to 90%) | 80% | 200 | 80% (70% to 90%) | 50 |",
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_is_given_half_a_core(tmp_path: Path, version: int) -> None:
    """In a directory that stands for the control groups' filesystem."""
    parents = [tmp_path / "cpu", tmp_path / "cpuacct"] if version == 1 else [tmp_path]
    for parent in parents:
        parent.mkdir(exist_ok=True)
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    limit = CoreLimit("name", 0.5, tmp_path)
    assert limit.directories == [parent / "name" for parent in parents]
    first, last = limit.directories[0], limit.directories[-1]
    if version == 1:
        assert (first / "cpu.cfs_quota_us").read_text() == "50000"
        assert (first / "cpu.cfs_period_us").read_text() == "100000"
        (last / "cpuacct.usage").write_text("1500000000\n")
    else:
        assert (first / "cpu.max").read_text() == "50000 100000"
        assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"
        (last / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\n")
    assert limit.cpu_s() == 1.5
    ran = subprocess.run(
        limit.command("sh", "-c", "echo $$ $1", "sh", "a b"), capture_output=True, text=True, check=True
    )
    process, *words = ran.stdout.split()
    assert words == ["a", "b"]
    assert {(directory / "cgroup.procs").read_text() for directory in limit.directories} == {f"{process}\n"}
