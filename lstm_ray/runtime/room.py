"""Computes how many workers of a run fit on given nodes. This module does not use Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lstm_ray.wording import are, counted

_PROCESS = "is a process with its own TensorFlow (about 0.7 GB)"
_EACH = {"workers": _PROCESS, "actors": "holds a copy of the model", "trials": _PROCESS}
_OPTION = {"workers": "--workers", "actors": "--actors", "trials": "--concurrency"}


@dataclass(frozen=True)
class Nodes:
    """Nodes of one size.

    Attributes:
        count: Number of nodes; math.inf if unlimited.
        cpus: Cores per node.
        gpus: GPUs per node.
    """

    count: float
    cpus: float
    gpus: float

    def holds(self, cpus: float, gpus: float) -> float:
        """Returns how many workers of `cpus` cores and `gpus` GPUs fit on the nodes."""
        sizes = [(self.cpus, cpus), (self.gpus, gpus)]
        each = min((has / needed + 1e-9 for has, needed in sizes if needed), default=0.0)
        each = each if math.isinf(each) else math.floor(each)
        return self.count * each if each else 0


@dataclass(frozen=True)
class Asked:
    """The resources that a run asks for: workers, actors or tasks of one size, each of which must fit on one node.

    Attributes:
        least: Number that the run needs to start.
        most: Maximum number that it can use.
        cpus: Cores per worker.
        gpus: GPUs per worker.
        spare_cpus: Additional cores that the run needs, on any node.
        kind: What the command calls them.
    """

    least: int
    most: int
    cpus: float
    gpus: float
    spare_cpus: float = 0
    kind: str = "workers"

    def lack(self, nodes: Sequence[Nodes]) -> tuple[str, str] | None:
        """Returns what is asked for and what the nodes have, as text; None if they have enough to start."""
        cpus, gpus = self.least * self.cpus + self.spare_cpus, self.least * self.gpus
        has_cpus = sum(kind.count * kind.cpus for kind in nodes if kind.count)
        has_gpus = sum(kind.count * kind.gpus for kind in nodes if kind.count)
        if has_cpus < cpus or has_gpus < gpus:
            return f"{_amount(cpus, gpus or None)} {are(2 if gpus else cpus)} asked for", _amount(has_cpus, has_gpus)
        held = room(nodes, self.cpus, self.gpus)
        if held < self.least:
            each = _amount(self.cpus, self.gpus or None)
            sizes = ", ".join(f"{kind.count:g} x {_amount(kind.cpus, kind.gpus)}" for kind in nodes)
            once = f"{each} on one node {are(2 if self.gpus else self.cpus)}"
            times = f"{self.least} x {each}, each on one node, are" if self.least > 1 else once
            return f"{times} asked for", f"room for {held:g} of these ({sizes})"
        return None

    def at_once(self, cores: int) -> int:
        """Returns how many can compute at the same time on one machine with `cores` cores, at least one."""
        return max(1, math.floor(cores / self.cpus + 1e-9))

    def fewer(self, cores: int) -> str:
        """Returns options that start fewer, as text: --workers 0 or --workers 2; "" if there are none."""
        # With 0, no GPUs can be asked for; for trials it means as many as there are cores.
        numbers = [] if self.gpus or self.kind == "trials" else [0]
        if self.at_once(cores) < self.most:
            numbers.append(self.at_once(cores))
        return " or ".join(f"{_OPTION[self.kind]} {number}" for number in numbers)

    def crowding(self, cores: int) -> str | None:
        """Returns a warning if more may run than can compute at the same time on one machine; otherwise None.

        All of them start: the Ray of one machine is begun with a CPU for each.
        """
        if self.most <= self.at_once(cores):
            return None
        up_to = "up to " if self.least < self.most else ""
        number = up_to + counted(self.most, self.kind.removesuffix("s"))
        size = "" if self.cpus == 1 else f" with {counted(self.cpus, 'CPU')} each"
        return (
            f"{number}{size} on this machine's {counted(cores, 'core')} take turns, and each {_EACH[self.kind]}: use "
            f"{self.fewer(cores)}"
        )


def room(nodes: Iterable[Nodes], cpus: float, gpus: float) -> float:
    """Returns how many workers of `cpus` cores and `gpus` GPUs fit on all the nodes."""
    return sum(kind.holds(cpus, gpus) for kind in nodes)


def _amount(cpus: float, gpus: float | None) -> str:
    return counted(cpus, "CPU") + ("" if gpus is None else f" and {counted(gpus, 'GPU')}")
