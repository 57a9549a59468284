"""Simulates a scoring run on many nodes: how long it takes, and what slow nodes, lost nodes and the object store cost.

python -m benchmarks.scale_model
python -m benchmarks.scale_model --group-rows 1000000 --rows-per-s 2085
python -m benchmarks.scale_model validate scale.json

The first simulates 571 million reviews on 64 nodes and on fewer and more; the last compares the model with what
`scoring_scale hosts` measured: it takes rate and start from the runs on one host, and predicts those on 2 and 3.

The work is that of the real plan: `Plan.tasks` cuts the files' row groups into tasks. They are handed out as by Ray
Data: `score/ray_data.py` gives it 10,000 tasks at once, with new actors each time; the actor with the fewest tasks gets
the next one, and has two at most, one of them waiting. The tasks of a lost actor are done again, from the start, by an
actor that takes its place: on the node's replacement, or, once all tasks are handed out, on the core of an idle actor.

Assumptions. Measured here (`Costs`; benchmarks/RESULTS.md has the commands):

- A core scores `rows_per_s`. Rows that a task skips, because another has them, are decoded: `skip_s` each.
- A task costs the driver `driver_task_s`, half when it is handed out and half when its result comes, one task after the
  other; an actor `task_s`. That is all CPU time of the driver's process with 16 actors, though some of it is in
  parallel. More actors were not measured. To start an actor takes `driver_actor_s` (Ray's GCS, with 12 actors).
- Requests to the object store: to plan, a GET a file, on 16 threads; for a task HEAD, HEAD, GET, GET, and for each part
  HEAD and PUT. A task reads the text of its whole row groups. An actor does nothing else meanwhile.

Not measured, plausible (`Cluster`, `Store`; choose your own in Python):

- Nodes have 8 cores, an actor each, and are all there at the start; the driver has a core of its own. Each node
  computes at its own speed: a normal distribution of 3 %, and one in twenty nodes at 40 to 80 %.
- A node is lost every 20 hours (spot prices), at any time with equal probability, and replaced after three minutes.
- The store answers after 30 ms (median; one answer in a hundred takes 300 ms or more); one request in a thousand is
  sent again, after two seconds; a stream has 80 MB/s (two of three within 30 % of that), however many there are.
- A review takes 300 bytes, compressed, in the input and in the output.

Left out: Ray's own traffic, which holds no text; networks between racks; loss of the head, which ends a run (the same
command completes it); a cluster that grows while it works.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

# `python benchmarks/scale_model.py` puts benchmarks/ first on the path, where tokenize.py hides the standard library's.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402

from lstm_ray.score.plan import Plan, Task  # noqa: E402
from lstm_ray.storage.inputs import InputFile  # noqa: E402

_FOOTER_READERS = 16
_LISTED_AT_ONCE = 1_000
_FINISH_REQUESTS = 6  # manifest, report, _SUCCESS, and what is looked for before


@dataclass(frozen=True)
class Costs:
    """What was measured on this machine; seconds of one core."""

    rows_per_s: float = 11_000
    skip_s: float = 2.5e-6
    task_s: float = 0.005
    driver_task_s: float = 0.0034
    driver_actor_s: float = 0.0075
    driver_start_s: float = 3.0
    actor_start_s: float = 3.8
    footer_s: float = 0.00012
    stop_s: float = 1.6


@dataclass(frozen=True)
class Store:
    """An object store: latency of a request and rate of a stream, lognormal; a request may have to be sent again."""

    latency_s: float = 0.03
    latency_sigma: float = 0.99  # the 99th percentile is ten times the median
    again_share: float = 0.001
    again_s: float = 2.0
    bytes_per_s: float = 80e6
    rate_sigma: float = 0.3
    row_bytes: float = 300

    def latency(self, requests: int, random: np.random.Generator) -> float:
        """Returns the seconds of requests one after the other."""
        answers = random.lognormal(math.log(self.latency_s), self.latency_sigma, requests).sum()
        return float(answers) + self.again_s * int(random.binomial(requests, self.again_share))

    def transfer(self, rows: int, random: np.random.Generator) -> float:
        """Returns the seconds that rows take on one stream."""
        return rows * self.row_bytes / random.lognormal(math.log(self.bytes_per_s), self.rate_sigma)


@dataclass(frozen=True)
class Cluster:
    """Nodes and what happens to them."""

    nodes: int = 64
    actors_per_node: int = 8
    speed_sigma: float = 0.03
    slow_share: float = 0.05
    slow: tuple[float, float] = (0.4, 0.8)
    hours_between_losses: float = 20.0  # of one node; 0 for no loss
    replaced_after_s: float = 180.0

    @property
    def actors(self) -> int:
        """Actors on all nodes."""
        return self.nodes * self.actors_per_node

    def speeds(self, random: np.random.Generator) -> list[float]:
        """Returns the speed of each node; 1 is that of the measured core."""
        usual = np.maximum(0.1, random.normal(1, self.speed_sigma, self.nodes))
        slow = random.uniform(*self.slow, self.nodes)
        speeds: list[float] = np.where(random.random(self.nodes) < self.slow_share, slow, usual).tolist()
        return speeds


@dataclass(frozen=True)
class Rules:
    """How Ray Data is used: tasks given to it at once (0: all), with new actors each time, and tasks of an actor."""

    tasks_at_once: int = 10_000
    tasks_of_an_actor: int = 2


@dataclass(frozen=True)
class Work:
    """Tasks that are handed out together: rows and parts, rows decoded and skipped, and rows whose text is fetched."""

    rows: int
    parts: int
    skipped: int
    fetched: int


@dataclass
class Outcome:
    """What came out.

    Attributes:
        seconds: From the command's start to its end.
        last_part_s: From the command's start to the last part.
        utilisation: CPU time that scoring the rows needs, as a share of all cores' time.
        driver: Share of the time after the plan in which the driver was busy.
        fetched: Rows fetched, as a multiple of the rows scored.
        again: Tasks that a lost node had to do again.
    """

    seconds: float
    last_part_s: float
    utilisation: float
    driver: float
    fetched: float
    again: int


def make_work(rows: int, file_rows: int, group_rows: int, rows_per_part: int, actors: int) -> list[Work]:
    """Returns the tasks into which the plan cuts files of equal size."""
    sizes = [min(file_rows, rows - start) for start in range(0, rows, file_rows)]
    groups = [tuple(min(group_rows, size - start) for start in range(0, size, group_rows)) for size in sizes]
    files = [InputFile(f"s3://bucket/{number:06}.parquet", 0, "", {}) for number in range(len(sizes))]
    plan = Plan(files, groups, rows_per_part, rows, 0, "", None, [])  # type: ignore[arg-type]
    plan = replace(plan, parts=sum(1 for _ in plan.chunks()))
    return [_work_of(tasks, groups) for tasks in plan.task_lists(set(), actors)]


def _work_of(tasks: Sequence[Task], groups: Sequence[Sequence[int]]) -> Work:
    chunks = [chunk for task in tasks for chunk in task.chunks]
    firsts = [task.chunks[0] for task in tasks]
    fetched = sum(sum(groups[first.file][slice(*first.row_groups)]) for first in firsts)
    return Work(sum(chunk.rows for chunk in chunks), len(chunks), sum(first.skip for first in firsts), fetched)


@dataclass(eq=False)
class _Actor:
    """An actor. `life` counts its restarts, so that events of an earlier life are ignored."""

    node: int
    speed: float
    life: int = 0
    is_up: bool = False
    is_working: bool = False
    in_flight: int = 0
    queue: deque[Work] = field(default_factory=deque)


class Simulation:
    """One run. Events are (time, number, action, arguments), in the order of time."""

    def __init__(
        self, work: Sequence[Work], cluster: Cluster, costs: Costs, store: Store | None, rules: Rules, seed: int = 0
    ) -> None:
        """Prepares a run; without a store, files are at hand at no cost."""
        self.work, self.cluster, self.costs, self.store, self.rules = work, cluster, costs, store, rules
        self.random = np.random.default_rng(seed)
        self.now = self.last_part = self.driver_free = self.driver_busy = 0.0
        self.again = self.left = 0
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.numbers = itertools.count()

    def run(self, files: int) -> Outcome:
        """Simulates the run from the command's start to its end."""
        cluster, costs = self.cluster, self.costs
        speeds = cluster.speeds(self.random)
        self.now = self.driver_free = planned = costs.driver_start_s + self._plan_s(files)
        at_once = self.rules.tasks_at_once or len(self.work)
        for start in range(0, len(self.work), at_once):
            self._run_batch(self.work[start : start + at_once], speeds)
        scored = self.now
        parts, rows = sum(work.parts for work in self.work), sum(work.rows for work in self.work)
        requests = 2 * -(-parts // _LISTED_AT_ONCE) + _FINISH_REQUESTS
        ended = scored + costs.stop_s + (self.store.latency(requests, self.random) if self.store else 0)
        return Outcome(
            ended,
            self.last_part,
            rows / costs.rows_per_s / (cluster.actors * ended),
            self.driver_busy / (scored - planned),
            sum(work.fetched for work in self.work) / rows,
            self.again,
        )

    def _plan_s(self, files: int) -> float:
        asked = 0.0
        if self.store:
            asked = self.store.latency(-(-files // _LISTED_AT_ONCE), self.random)
            asked += self.store.latency(files, self.random) / min(files, _FOOTER_READERS)
        return max(asked, files * self.costs.footer_s)

    def _run_batch(self, work: Sequence[Work], speeds: Sequence[float]) -> None:
        """Gives Ray Data some tasks, for which it starts actors, and waits for their results."""
        cluster = self.cluster
        self.pending, self.left = deque(work), len(work)
        self.events.clear()
        self.free: list[tuple[int, int, _Actor]] = []
        self.lost: deque[_Actor] = deque()
        count = min(cluster.actors, len(work))
        # Ray spreads actors over the nodes: one on each, then a second one.
        self.actors = [_Actor(number % cluster.nodes, speeds[number % cluster.nodes]) for number in range(count)]
        for actor in self.actors:
            self._start(actor, self._drive(self.costs.driver_actor_s))
        if cluster.hours_between_losses:
            for node in range(cluster.nodes):
                self._at(self._until_loss(), self._lose, node)
        while self.left:
            self.now, _, action, arguments = heapq.heappop(self.events)
            action(*arguments)

    def _at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self.events, (time, next(self.numbers), action, arguments))

    def _drive(self, seconds: float) -> float:
        """Returns when the driver has done something that it is asked for now."""
        self.driver_free = max(self.driver_free, self.now) + seconds
        self.driver_busy += seconds
        return self.driver_free

    def _start(self, actor: _Actor, time: float) -> None:
        seconds = self.costs.actor_start_s / actor.speed
        if self.store:
            seconds += self.store.latency(4, self.random)
        self._at(time + seconds, self._ready, actor, actor.life)

    def _ready(self, actor: _Actor, life: int) -> None:
        if actor.life == life:
            actor.is_up = True
            self._offer(actor)
            self._work_on(actor)
            self._hand_out()

    def _offer(self, actor: _Actor) -> None:
        if actor.is_up and actor.in_flight < self.rules.tasks_of_an_actor:
            heapq.heappush(self.free, (actor.in_flight, next(self.numbers), actor))

    def _hand_out(self) -> None:
        """Gives tasks to the actors with the fewest."""
        while self.pending and self.free:
            in_flight, _, actor = heapq.heappop(self.free)
            if actor.is_up and actor.in_flight == in_flight:
                actor.in_flight += 1
                self._at(self._drive(self.costs.driver_task_s / 2), self._arrive, actor, self.pending.popleft())
                self._offer(actor)

    def _arrive(self, actor: _Actor, work: Work) -> None:
        actor.queue.append(work)
        self._work_on(actor)

    def _work_on(self, actor: _Actor) -> None:
        if actor.is_up and not actor.is_working and actor.queue:
            actor.is_working = True
            self._at(self.now + self._seconds(actor.queue[0], actor.speed), self._finish, actor, actor.life)

    def _seconds(self, work: Work, speed: float) -> float:
        costs, store = self.costs, self.store
        seconds = (work.rows / costs.rows_per_s + work.skipped * costs.skip_s + costs.task_s) / speed
        if store:
            seconds += store.latency(4 + 2 * work.parts, self.random)
            seconds += store.transfer(work.fetched, self.random) + store.transfer(work.rows, self.random)
        return seconds

    def _finish(self, actor: _Actor, life: int) -> None:
        if actor.life == life:
            actor.queue.popleft()
            actor.is_working = False
            self.last_part = self.now
            self._at(self._drive(self.costs.driver_task_s / 2), self._result, actor)
            self._work_on(actor)

    def _result(self, actor: _Actor) -> None:
        self.left -= 1
        actor.in_flight -= 1
        self._offer(actor)
        self._hand_out()
        self._make_room()

    def _until_loss(self) -> float:
        return self.now + float(self.random.exponential(self.cluster.hours_between_losses * 3_600))

    def _lose(self, node: int) -> None:
        for actor in self.actors:
            if actor.node == node:
                actor.life += 1
                actor.is_up = actor.is_working = False
                self.again += len(actor.queue)
                self.lost.append(actor)
        self._at(self.now + self.cluster.replaced_after_s, self._replace, node)
        self._make_room()

    def _replace(self, node: int) -> None:
        for actor in [actor for actor in self.lost if actor.node == node]:
            self.lost.remove(actor)
            self._start(actor, self.now)
        self._at(self._until_loss(), self._lose, node)

    def _make_room(self) -> None:
        """Once all tasks are handed out: ends idle actors, on whose cores lost ones with tasks start again."""
        if self.pending or not self.lost:
            return
        idle = [actor for actor in self.actors if actor.is_up and not actor.in_flight]
        waiting = [actor for actor in self.lost if actor.in_flight]
        for gone, actor in zip(idle, waiting, strict=False):
            gone.is_up = False
            self.lost.remove(actor)
            actor.node, actor.speed = gone.node, gone.speed
            self._start(actor, self.now)


@dataclass(frozen=True)
class Setting:
    """All that a run depends on."""

    rows: int
    file_rows: int
    group_rows: int
    rows_per_part: int
    cluster: Cluster
    costs: Costs
    store: Store | None
    rules: Rules = Rules()

    def outcomes(self, seeds: Iterable[int]) -> list[Outcome]:
        """Returns the outcome for each seed."""
        work = make_work(self.rows, self.file_rows, self.group_rows, self.rows_per_part, self.cluster.actors)
        files = -(-self.rows // self.file_rows)
        return [Simulation(work, self.cluster, self.costs, self.store, self.rules, seed).run(files) for seed in seeds]


def undisturbed(setting: Setting) -> Setting:
    """Returns the same without any disturbance: equal nodes, none lost, files at hand, a driver that costs nothing."""
    cluster = replace(setting.cluster, speed_sigma=0, slow_share=0, hours_between_losses=0)
    costs = replace(setting.costs, driver_task_s=0, driver_actor_s=0)
    return replace(setting, cluster=cluster, costs=costs, store=None, rules=replace(setting.rules, tasks_at_once=0))


def disturbances(setting: Setting) -> dict[str, Setting]:
    """Returns runs with no, each and all disturbances."""
    none = undisturbed(setting)
    slow = replace(none.cluster, speed_sigma=setting.cluster.speed_sigma, slow_share=setting.cluster.slow_share)
    lost = replace(none.cluster, hours_between_losses=setting.cluster.hours_between_losses)
    return {
        "none": none,
        "the driver's time": replace(none, costs=setting.costs),
        "new actors for every 10,000 tasks": replace(none, rules=setting.rules),
        "slow nodes": replace(none, cluster=slow),
        "lost nodes": replace(none, cluster=lost),
        "object store": replace(none, store=setting.store),
        "all": setting,
    }


def driver_limit(setting: Setting) -> float:
    """Returns the number of nodes whose tasks keep the driver busy all the time."""
    work = make_work(setting.rows, setting.file_rows, setting.group_rows, setting.rows_per_part, setting.cluster.actors)
    simulation = Simulation(work, setting.cluster, setting.costs, setting.store, setting.rules)
    seconds = statistics.mean(simulation._seconds(each, 1) for each in work[:2_000])
    return seconds / setting.costs.driver_task_s / setting.cluster.actors_per_node


def describe(name: str, outcomes: Sequence[Outcome], least_s: float) -> str:
    """Returns a line of a table."""
    seconds = [outcome.seconds for outcome in outcomes]
    mean = statistics.mean(seconds)
    each = [
        statistics.mean(getattr(outcome, figure) for outcome in outcomes)
        for figure in ("utilisation", "driver", "fetched")
    ]
    return (
        f"| {name} | {mean:,.0f} ({min(seconds):,.0f} to {max(seconds):,.0f}) | {mean - least_s:+,.0f} "
        f"| {each[0]:.0%} | {each[1]:.0%} | {each[2]:.1f}x |"
    )


def validate(measured: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a table of what was measured on hosts, and what the model predicts from the runs on one host.

    It predicts twice: for hosts that get as much CPU time as one alone did, and for the CPU time that they got.
    """

    def median(hosts: str, figure: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(figure(turn[hosts]) for turn in measured)

    def rate(run: dict[str, Any]) -> float:
        return math.fsum(share["later_rows"] / (share["last_s"] - share["first_s"]) for share in run["shares"])

    def last(run: dict[str, Any]) -> float:
        return max(float(share["last_s"]) for share in run["shares"])

    def got(run: dict[str, Any]) -> float:
        return statistics.fmean(share["cpu_s"] / (share["last_s"] - share["first_s"]) for share in run["shares"])

    (alone,) = measured[0]["1"]["shares"]
    rows, part, speed = alone["rows"], alone["rows"] - alone["later_rows"], median("1", rate)
    start = median("1", lambda run: run["shares"][0]["first_s"]) - part / speed
    driver = 2 * Costs.driver_task_s  # it has half a core, too
    lines = [
        "| hosts | rows/s | predicted | with their CPU time | last part, s | predicted | with their CPU time |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for hosts in sorted(measured[0]):
        cells = [f"{median(hosts, rate):,.0f}", "", "", f"{median(hosts, last):.1f}", "", ""]
        for number, share in enumerate((1.0, median(hosts, got) / median("1", got)), 1):
            costs = Costs(speed * share, 0, 0, driver, 0, start / 2, start / 2, 0, 0)
            cluster = Cluster(int(hosts), 1, speed_sigma=0, slow_share=0, hours_between_losses=0)
            (outcome,) = Setting(rows, 50_000, 10_000, part, cluster, costs, None).outcomes([0])
            together = int(hosts) * speed * share
            cells[number] = f"{together:,.0f} ({together / median(hosts, rate) - 1:+.0%})"
            cells[number + 3] = f"{outcome.last_part_s:.1f} ({outcome.last_part_s / median(hosts, last) - 1:+.0%})"
        lines.append(f"| {hosts} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["simulate", "validate"], default="simulate")
    parser.add_argument("measured", nargs="?", help="what `scoring_scale hosts --json` wrote")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--disturbed", type=int, default=64, help="nodes for the table of disturbances")
    parser.add_argument("--rows", type=int, default=571_000_000)
    parser.add_argument("--file-rows", type=int, default=1_000_000)
    parser.add_argument("--group-rows", type=int, default=100_000)
    parser.add_argument("--rows-per-part", type=int, default=50_000)
    parser.add_argument("--rows-per-s", type=float, default=Costs.rows_per_s, help="of one core")
    parser.add_argument("--tasks-at-once", type=int, default=Rules.tasks_at_once)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.what == "validate":
        print("\n".join(validate(json.loads(Path(arguments.measured).read_text()))))
        return
    setting = Setting(
        arguments.rows,
        arguments.file_rows,
        arguments.group_rows,
        arguments.rows_per_part,
        Cluster(arguments.disturbed),
        Costs(rows_per_s=arguments.rows_per_s),
        Store(),
        Rules(arguments.tasks_at_once),
    )
    seeds = range(arguments.seeds)
    titles = "| seconds (least to most) | more | utilisation | driver busy | text fetched |"
    print(f"| {arguments.disturbed} nodes {titles}\n|---|---:|---:|---:|---:|---:|")
    least = statistics.mean(outcome.seconds for outcome in undisturbed(setting).outcomes(seeds))
    for name, disturbed in disturbances(setting).items():
        print(describe(name, disturbed.outcomes(seeds), least), flush=True)
    print(f"\n| nodes {titles}\n|---:|---:|---:|---:|---:|---:|")
    for nodes in arguments.nodes:
        some = replace(setting, cluster=replace(setting.cluster, nodes=nodes))
        print(describe(str(nodes), some.outcomes(seeds), undisturbed(some).outcomes([0])[0].seconds), flush=True)
    limit = driver_limit(setting)
    print(f"\nThe driver is always busy from {limit:,.0f} nodes on, with tasks as for {arguments.disturbed} nodes.")


if __name__ == "__main__":
    main()
