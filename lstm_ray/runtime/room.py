"""What a run asks of a cluster, and how much of it nodes hold: arithmetic, without Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Nodes:
    """Nodes of a kind.

    Attributes:
        count: How many there may be; math.inf if there is no limit.
        cpus: Cores of each.
        gpus: GPUs of each.
    """

    count: float
    cpus: float
    gpus: float

    def holds(self, cpus: float, gpus: float) -> float:
        """Returns how many workers of so many cores and GPUs the nodes hold."""
        sizes = [(self.cpus, cpus), (self.gpus, gpus)]
        each = min((there / asked + 1e-9 for there, asked in sizes if asked), default=0.0)
        each = each if math.isinf(each) else math.floor(each)
        return self.count * each if each else 0


@dataclass(frozen=True)
class Asked:
    """What a run asks for: workers, actors or tasks, all alike, each of which has to fit on one node.

    Attributes:
        least: How many it needs to begin.
        most: How many it can use.
        cpus: Cores of each.
        gpus: GPUs of each.
        spare_cpus: Cores that it needs beside them, anywhere.
    """

    least: int
    most: int
    cpus: float
    gpus: float
    spare_cpus: float = 0

    def lack(self, nodes: Sequence[Nodes]) -> tuple[str, str] | None:
        """Says what is asked for and what there is instead, if these are all nodes; None if that is enough to begin."""
        cpus, gpus = self.least * self.cpus + self.spare_cpus, self.least * self.gpus
        has_cpus = sum(kind.count * kind.cpus for kind in nodes if kind.count)
        has_gpus = sum(kind.count * kind.gpus for kind in nodes if kind.count)
        if has_cpus < cpus or has_gpus < gpus:
            return f"{_amount(cpus, gpus or None)} are asked for", _amount(has_cpus, has_gpus)
        held = room(nodes, self.cpus, self.gpus)
        if held < self.least:
            each = _amount(self.cpus, self.gpus or None)
            there = ", ".join(f"{kind.count:g} x {_amount(kind.cpus, kind.gpus)}" for kind in nodes)
            times = f"{self.least} x {each}, each on one node," if self.least > 1 else f"{each} on one node"
            return f"{times} are asked for", f"room for {held:g} of these ({there})"
        return None


def room(nodes: Iterable[Nodes], cpus: float, gpus: float) -> float:
    """Returns how many workers of so many cores and GPUs all the nodes hold."""
    return sum(kind.holds(cpus, gpus) for kind in nodes)


def _amount(cpus: float, gpus: float | None = None) -> str:
    return f"{cpus:g} CPUs" + ("" if gpus is None else f" and {gpus:g} GPUs")
