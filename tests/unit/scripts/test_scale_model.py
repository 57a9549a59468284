"""The simulation of scoring on many nodes: cases whose outcome can be computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import scale_model
from benchmarks.scale_model import Cluster, Costs, Outcome, Rules, Simulation, Store, Work

FREE = Costs(1, 0, 0, 0, 0, 0, 0, 0, 0)  # a core scores a row a second, nothing else takes time
CALM = Cluster(1, 1, speed_sigma=0, slow_share=0, hours_between_losses=0)


class TwoSpeeds(Cluster):
    """A fast node, and one at a tenth of its speed."""

    def speeds(self, random: np.random.Generator) -> list[float]:
        """Returns them."""
        del random
        return [1, 0.1]


def tasks(count: int, rows: int = 10) -> list[Work]:
    """Returns equal tasks."""
    return [Work(rows, 1, 0, rows)] * count


def simulate(work: list[Work], cluster: Cluster = CALM, costs: Costs = FREE, **others: Any) -> Outcome:
    """Runs a simulation."""
    arguments = {"store": None, "rules": Rules(0), **others}
    return Simulation(work, cluster, costs, **arguments).run(1)


def test_an_actor_does_one_task_after_the_other() -> None:
    costs = replace(FREE, driver_start_s=3, actor_start_s=4, task_s=1, stop_s=2, skip_s=0.5)
    outcome = simulate([Work(10, 1, 0, 20), Work(10, 1, 10, 20)], costs=costs)
    assert outcome.seconds == 3 + 4 + (10 + 1) + (10 + 5 + 1) + 2
    assert outcome.last_part_s == outcome.seconds - 2
    assert outcome.utilisation == pytest.approx(20 / outcome.seconds)
    assert outcome.fetched == 2


@pytest.mark.parametrize(("nodes", "seconds"), [(1, 120), (2, 60), (3, 40), (5, 30), (12, 20), (100, 20)])
def test_nodes_share_the_tasks(nodes: int, seconds: float) -> None:
    outcome = simulate(tasks(12), replace(CALM, nodes=nodes))  # the first actors take two at once
    assert outcome.seconds == seconds
    assert outcome.utilisation == pytest.approx(120 / nodes / seconds)


@pytest.mark.parametrize(("most", "seconds"), [(1, 100), (2, 200)])
def test_a_task_that_waits_for_a_slow_actor_is_not_taken_from_it(most: int, seconds: float) -> None:
    assert simulate(tasks(5), TwoSpeeds(2, 1), rules=Rules(0, most), costs=FREE).seconds == seconds


def test_from_some_number_of_nodes_on_the_driver_decides() -> None:
    costs = replace(FREE, driver_task_s=1)
    few, many = (simulate(tasks(1_000), replace(CALM, nodes=nodes), costs) for nodes in (5, 100))
    assert few.seconds == pytest.approx(1_000 * 10 / 5, rel=0.02)
    assert few.driver == pytest.approx(0.5, rel=0.02)
    assert many.seconds == pytest.approx(1_000, rel=0.02)
    assert many.driver == pytest.approx(1, rel=0.02)


def test_actors_start_again_for_every_batch_of_tasks() -> None:
    costs = replace(FREE, actor_start_s=7)
    assert simulate(tasks(9), costs=costs, rules=Rules(3)).seconds == 3 * 7 + 90


def test_the_tasks_of_a_lost_node_are_done_again() -> None:
    cluster = replace(CALM, nodes=4, hours_between_losses=100 / 3_600, replaced_after_s=20)
    outcomes = [simulate(tasks(100), cluster, seed=seed) for seed in range(20)]
    assert min(outcome.seconds for outcome in outcomes) >= 250
    assert max(outcome.seconds for outcome in outcomes) > 300
    assert all(outcome.again for outcome in outcomes)
    assert outcomes[0] == simulate(tasks(100), cluster)


def test_a_node_that_does_not_come_back_leaves_its_tasks_to_idle_actors() -> None:
    class LosesOne(Simulation):
        def _until_loss(self) -> float:
            return 26 if self.now == 0 and not any(action == self._lose for _, _, action, _ in self.events) else 1e9

    cluster = replace(CALM, nodes=2, hours_between_losses=1, replaced_after_s=1e9)
    outcome = LosesOne(tasks(10), cluster, replace(FREE, actor_start_s=5), None, Rules(0)).run(1)
    # 5 s of start; at 26 s each has done two tasks, and the first has two more, which it loses. The other does four,
    # until 65 s; then the lost one starts on its node, and does its two.
    assert outcome.again == 2
    assert outcome.seconds == 65 + 5 + 20


def test_the_store_is_as_slow_as_it_says() -> None:
    random, store = np.random.default_rng(0), Store(again_share=0)
    one = np.array([store.latency(1, random) for _ in range(20_000)])
    assert np.median(one) == pytest.approx(0.03, rel=0.05)
    assert np.quantile(one, 0.99) == pytest.approx(0.3, rel=0.1)
    assert np.median([store.transfer(1_000, random) for _ in range(5_000)]) == pytest.approx(3e5 / 80e6, rel=0.05)
    again = replace(store, latency_s=1e-9, again_share=0.25)
    assert np.mean([again.latency(8, random) for _ in range(2_000)]) == pytest.approx(4, rel=0.1)


def test_the_work_is_that_of_the_plan() -> None:
    work = scale_model.make_work(250, 100, 40, 10, actors=2)
    assert sum(task.rows for task in work) == 250
    assert sum(task.parts for task in work) == 25
    assert work[0] == Work(40, 4, 0, 40)  # a whole row group
    assert work[-1] == Work(10, 1, 0, 10)  # the last file has 50 rows, its last row group 10
    assert [task.skipped for task in work[-3:]] == [0, 20, 0]


def test_each_disturbance_costs_something() -> None:
    cluster = Cluster(4, 2, hours_between_losses=0.2, slow_share=0.5)
    setting = scale_model.Setting(10_000_000, 1_000_000, 100_000, 50_000, cluster, Costs(), Store(), Rules(50))
    seconds = {
        name: np.mean([outcome.seconds for outcome in disturbed.outcomes(range(4))])
        for name, disturbed in scale_model.disturbances(setting).items()
    }
    assert all(seconds["none"] < each < seconds["all"] for name, each in seconds.items() if name not in ("none", "all"))
    assert scale_model.driver_limit(setting) > 4


def test_hosts_that_scale_perfectly_are_predicted_so() -> None:
    def run(hosts: int, got: float = 1) -> dict[str, Any]:
        rows = 60_000 // hosts
        works = (rows - 2_500) / 1_000 / got
        share = {"first_s": 12.5, "last_s": 12.5 + works, "rows": rows, "later_rows": rows - 2_500}
        return {"shares": [{**share, "cpu_s": works * got / 2}] * hosts}

    lines = scale_model.validate([{"1": run(1), "2": run(2), "3": run(3, 0.8)}])
    cells = [line.strip("| ").split(" | ")[1:] for line in lines[2:]]
    assert [row[:3] for row in cells] == [
        ["1,000", "1,000 (+0%)", "1,000 (+0%)"],
        ["2,000", "2,000 (+0%)", "2,000 (+0%)"],
        ["2,400", "3,000 (+25%)", "2,400 (+0%)"],
    ]
    predicted = [[float(cell.split()[0]) for cell in row[4:]] for row in cells]
    assert predicted == [pytest.approx(each, rel=0.02) for each in ([70, 70], [40, 40], [30, 35])]
