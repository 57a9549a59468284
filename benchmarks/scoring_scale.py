"""Measures how scoring scales with hosts, and what a task costs the driver, which is one however many hosts there are.

python -m benchmarks.scoring_scale hosts --model runs/imdb/model --input imdb/unlabelled.parquet --json scale.json
python -m benchmarks.scoring_scale driver --actors 2 16

hosts    the same reviews on 1, 2 and 3 hosts of half a core each, in turns, an actor on each host. Hosts are namespaces
         on this machine (tests/cluster/hosts.py; root only), each with a control group that limits its CPU time. One
         more of half a core runs Ray's head and the command, and no actor. Every run has a Ray cluster of its own. All
         outputs must be the same to the byte
driver   CPU time of the command's process for each task, while actors that only answer are given tasks: the real
         `_drive` of score/ray_data.py with another actor. Run it on an idle machine

Seconds of `hosts`: to form the cluster ("cluster"); from the command's start to the first part of the first host and
of the last one ("start"). Rates are summed over the hosts, each from its first part to its last. "Half cores" says how
much of its half core a host's actor and Ray got in that time: less than 100 % if the machine had other work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.scoring import repeat

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "cluster"))
from hosts import Host, Network, obstacle

CORES = 0.5
HOSTS = (1, 2, 3)
ROWS_PER_PART = 2_500
SAMPLE_S = 0.25

IDLE_ROWS = 50_000  # that an actor claims to have scored


@dataclass(frozen=True)
class Share:
    """What one host did in a run.

    Attributes:
        first_s: From the command's start to its first part.
        last_s: From the command's start to its last part.
        rows: Rows of all its parts.
        later_rows: Those after its first part.
        cpu_s: CPU time of the host between its first part and its last.
    """

    first_s: float
    last_s: float
    rows: int
    later_rows: int
    cpu_s: float

    @property
    def rate(self) -> float:
        """Rows/s after the start."""
        return self.later_rows / (self.last_s - self.first_s)

    @property
    def got(self) -> float:
        """CPU time that the host got, as a share of its half core."""
        return self.cpu_s / CORES / (self.last_s - self.first_s)


@dataclass(frozen=True)
class Run:
    """A run on some hosts.

    Attributes:
        cluster_s: Seconds until Ray was up on all hosts.
        command_s: Seconds of the command.
        digest: sha256 of all parts.
        shares: What each host did.
    """

    cluster_s: float
    command_s: float
    digest: str
    shares: list[Share]

    @property
    def rate(self) -> float:
        """Rows/s of all hosts together, after the start of each."""
        return sum(share.rate for share in self.shares)

    @property
    def rows(self) -> int:
        """Rows scored."""
        return sum(share.rows for share in self.shares)

    @property
    def rate_per_core(self) -> float:
        """Rows for each second of CPU time that hosts got."""
        return sum(share.later_rows for share in self.shares) / sum(share.cpu_s for share in self.shares)


def main() -> None:
    """Runs one of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    hosts = commands.add_parser("hosts")
    hosts.add_argument("--model", required=True, help="model bundle")
    hosts.add_argument("--input", required=True, help="Parquet with a column `text`")
    hosts.add_argument("--rows", type=int, default=200_000)
    hosts.add_argument("--rounds", type=int, default=3)
    hosts.add_argument("--json", help="write the figures here, for `scale_model validate`")
    hosts.set_defaults(run=measure_hosts)
    driver = commands.add_parser("driver")
    driver.add_argument("--actors", type=int, nargs="+", default=[2, 16])
    driver.add_argument("--tasks", type=int, default=3_000)
    driver.set_defaults(run=measure_driver)
    arguments = parser.parse_args()
    arguments.run(arguments)


def measure_hosts(arguments: argparse.Namespace) -> None:
    """Runs the rounds on hosts, and prints the table."""
    if reason := obstacle():
        raise SystemExit(reason)
    runs: list[dict[int, Run]] = []
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        corpus = repeat(arguments.input, arguments.rows, work / "input")
        model = Path(arguments.model).resolve()
        for number in range(arguments.rounds):
            runs.append({})
            for hosts in HOSTS if number % 2 == 0 else reversed(HOSTS):
                run = runs[-1][hosts] = run_on_hosts(hosts, corpus, model, work / f"out-{number}-{hosts}")
                print(f"round {number + 1}: {hosts} hosts, {run.rate:,.0f} rows/s", file=sys.stderr)
    if len({run.digest for turn in runs for run in turn.values()}) > 1:
        raise SystemExit("the outputs differ")
    print("\n".join(hosts_table(runs)))
    if arguments.json:
        described = [{hosts: asdict(run) for hosts, run in turn.items()} for turn in runs]
        Path(arguments.json).write_text(json.dumps(described, indent=2) + "\n")


def run_on_hosts(hosts: int, corpus: Path, model: Path, output: Path) -> Run:
    """Starts hosts and Ray on them, scores, and removes them."""
    with Network() as network:
        head, *workers = (network.add_host(f"host{number}", CORES) for number in range(hosts + 1))
        begun = time.time()
        head.start_ray(cpus=0)
        starting = [(worker, worker.begin_ray(head)) for worker in workers]
        for worker, process in starting:
            worker.finish_ray(process, head)
        started = time.time()
        command = ("score", corpus, "--model", model, "--output", output, "--rows-per-part", ROWS_PER_PART)
        scoring = head.start_lstm_ray(*command, "--address", "auto", "--actors", hosts)
        samples = list(sample_cpu(scoring, workers))
        ended = time.time()
        if scoring.returncode:
            raise SystemExit(f"lstm-ray score failed:\n{samples[-1]}")
        return Run(started - begun, ended - started, digest(output), shares_of(workers, output, started, samples))


def sample_cpu(process: subprocess.Popen[str], hosts: Sequence[Host]) -> Iterator[list[float]]:
    """Yields the time, and the CPU time that each host has used so far, until the process ends.

    Raises:
        SystemExit: It failed.
    """
    while True:
        yield [time.time(), *(host.limit.cpu_s() for host in hosts if host.limit)]
        try:
            _, err = process.communicate(timeout=SAMPLE_S)
        except subprocess.TimeoutExpired:
            continue
        if process.returncode:
            raise SystemExit(f"lstm-ray score failed:\n{err}")
        return


def shares_of(hosts: Sequence[Host], output: Path, started: float, samples: Sequence[Sequence[float]]) -> list[Share]:
    """Returns what each host did, as told by time and group of the parts."""
    written = sorted((path.stat().st_mtime, path.stat().st_gid, rows_of(path)) for path in parts_in(output))
    times, *used = np.array(samples).T
    shares = []
    for host, cpu in zip(hosts, used, strict=True):
        mine = [(at, rows) for at, group, rows in written if group == host.group]
        if len(mine) < 2:
            raise SystemExit(f"{host.name} wrote {len(mine)} of {len(written)} parts: score more rows")
        first, last = mine[0][0], mine[-1][0]
        between = float(np.interp(last, times, cpu) - np.interp(first, times, cpu))
        rows = sum(each for _, each in mine)
        shares.append(Share(first - started, last - started, rows, rows - mine[0][1], between))
    return shares


def parts_in(output: Path) -> list[Path]:
    """Lists the parts."""
    return sorted(output.glob("part-*.parquet"))


def rows_of(part: Path) -> int:
    """Returns the rows of a part."""
    return int(pq.read_metadata(part).num_rows)


def digest(output: Path) -> str:
    """Returns the sha256 of all parts, names included."""
    total = hashlib.sha256()
    for path in parts_in(output):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def hosts_table(runs: Sequence[dict[int, Run]]) -> list[str]:
    """Returns lines of a table: medians over the rounds, with the spread of the efficiency."""

    def median(hosts: int, figure: Callable[[Run], float]) -> float:
        return statistics.median(figure(turn[hosts]) for turn in runs)

    rows = next(iter(runs[0].values())).rows
    lines = [
        f"{rows:,} rows, hosts of {CORES:g} cores, medians of {len(runs)} rounds in turns; all outputs equal",
        "",
        "| hosts | cluster, s | start, s | rows/s | efficiency | half cores | rows/CPU-s | efficiency | command, s |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for hosts in runs[0]:
        first = median(hosts, lambda run: min(share.first_s for share in run.shares))
        last = median(hosts, lambda run: max(share.first_s for share in run.shares))
        cells = [
            f"{hosts}",
            f"{median(hosts, lambda run: run.cluster_s):.0f}",
            f"{first:.0f} to {last:.0f}",
            f"{median(hosts, lambda run: run.rate):,.0f}",
            _efficiency([turn[hosts].rate / turn[1].rate / hosts for turn in runs]),
            f"{median(hosts, lambda run: statistics.mean(share.got for share in run.shares)):.0%}",
            f"{median(hosts, lambda run: run.rate_per_core):,.0f}",
            _efficiency([turn[hosts].rate_per_core / turn[1].rate_per_core for turn in runs]),
            f"{median(hosts, lambda run: run.command_s):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _efficiency(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.0%} ({min(ratios):.0%} to {max(ratios):.0%})"


def measure_driver(arguments: argparse.Namespace) -> None:
    """Prints what a task costs the driver, for each number of actors."""
    print("| actors | ms of CPU a task | of these in Python's threads | tasks/s | CPU-s until the first third | MiB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for actors in arguments.actors:
        print(drive_idle_actors(arguments.tasks, actors), flush=True)


def drive_idle_actors(count: int, actors: int) -> str:
    """Gives tasks to actors that only answer. Returns a line of the table, measured over the last two thirds."""
    import ray

    from lstm_ray.config import ScoreConfig
    from lstm_ray.model.profile import Profile
    from lstm_ray.score import ray_data, wire
    from lstm_ray.score.parts import FileCounts, Part, Tally
    from lstm_ray.score.plan import Chunk, Task
    from lstm_ray.storage.inputs import InputFile

    profile = Profile().to_json()

    class IdleActor:
        def __init__(self, run: Any) -> None:
            del run

        def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
            (task,) = wire.tasks_from_text(batch["tasks"][0])
            parts = [Part(chunk.part_name, chunk.rows, chunk.rows // 2, {}, profile) for chunk in task.chunks]
            return {"results": [wire.results_to_text(parts)]}

    file = InputFile("s3://bucket/reviews/category=Books/part-00000-of-01024.parquet", 123_456_789, "2026-01-01", {})
    tasks = [
        wire.tasks_to_text([Task(file, [Chunk(0, number * IDLE_ROWS, IDLE_ROWS, (number, number + 1), 0)])])
        for number in range(count)
    ]
    config = ScoreConfig(inputs=("idle",), model="idle", output="idle", actors=str(actors))
    ray.init(num_cpus=actors + 1, include_dashboard=False, log_to_driver=False)
    ray_data._ScoringActor = IdleActor  # type: ignore[misc,assignment]
    tally = Tally(np.zeros((1, len(FileCounts._fields)), np.int64))
    begun = time.process_time()
    marks: list[tuple[float, float, dict[int, float]]] = []
    run = ray_data._Run(config, None, "", 0.5, {})  # type: ignore[arg-type]
    for number, text in enumerate(ray_data._drive(run, tasks, (actors, actors)), 1):
        for part in wire.results_from_text(text):
            tally.add(part)  # type: ignore[arg-type]
        if number in (count // 3, count - 2 * actors):  # at the end there are fewer tasks than actors take
            marks.append((time.perf_counter(), time.process_time(), thread_times()))
    ray.shutdown()
    (first_at, first_cpu, first_threads), (last_at, last_cpu, last_threads) = marks
    between = count - 2 * actors - count // 3
    threads = sum(last_threads[thread] - first_threads.get(thread, 0) for thread in last_threads)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {actors} | {(last_cpu - first_cpu) / between * 1e3:.2f} | {threads / between * 1e3:.2f} "
        f"| {between / (last_at - first_at):,.0f} | {first_cpu - begun:.1f} | {peak:.0f} |"
    )


def thread_times() -> dict[int, float]:
    """Returns the CPU seconds of this process's Python threads, which share one interpreter lock, by id."""
    times = {}
    for thread in threading.enumerate():
        try:
            fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended
            continue
        times[thread.native_id or 0] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return times


if __name__ == "__main__":
    main()
