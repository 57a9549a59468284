"""Scores the tasks of a plan in this process, on all its cores."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Collection, Generator
from concurrent.futures import ThreadPoolExecutor

from lstm_ray.config import ScoreConfig
from lstm_ray.model.bundle import Bundle
from lstm_ray.score.parts import Part
from lstm_ray.score.plan import BadFile, Plan, Task
from lstm_ray.score.scorer import Scorer
from lstm_ray.score.tasks import score_tasks

_TASKS_AT_ONCE = 2  # one reads and writes while the other computes


def score_here(
    config: ScoreConfig, bundle: Bundle, plan: Plan, done: Collection[str]
) -> Generator[Part | BadFile, None, None]:
    """Scores the missing parts, and yields parts and bad files as they are finished."""
    lists = plan.task_lists(done)
    first = next(lists, None)
    if first is None:
        return
    lists = itertools.chain([first], lists)
    results: queue.SimpleQueue[Part | BadFile | None] = queue.SimpleQueue()
    taking, stopped = threading.Lock(), threading.Event()

    def take() -> list[Task] | None:
        with taking:
            return None if stopped.is_set() else next(lists, None)

    def work() -> None:
        try:
            while tasks := take():
                for result in score_tasks(tasks, plan.layout, scorer, config.output):
                    results.put(result)
                    if stopped.is_set():
                        return
        except BaseException:  # raised again below, once the other thread has stopped too
            stopped.set()
            raise
        finally:
            results.put(None)

    with (
        Scorer(bundle, config.engine, None, *config.decision, config.precision) as scorer,
        ThreadPoolExecutor(_TASKS_AT_ONCE) as pool,
    ):
        workers = [pool.submit(work) for _ in range(_TASKS_AT_ONCE)]
        try:
            for _ in workers:
                while (result := results.get()) is not None:
                    yield result
            for worker in workers:
                worker.result()  # raises the error that ended it
        finally:
            stopped.set()  # on a failure or Ctrl-C: a part that is being written is finished first
