"""What clouds call their machines: the ones taken if nobody names another, and the cores that a name tells."""

from __future__ import annotations

import re

from lstm_ray.errors import ConfigError

HEADS = {"aws": "m7i.large", "gcp": "n2-standard-2", "azure": "Standard_D2s_v5"}
"""Two cores and 8 GiB: the head runs Ray's own processes and the job's, no workers."""

# By GPUs of a node. NVIDIA L4 on AWS (g6) and Google (g2), T4 and A10 on Azure. Source: the clouds' lists.
WORKERS: dict[str, dict[int, str]] = {
    "aws": {0: "c7i.2xlarge", 1: "g6.2xlarge", 4: "g6.12xlarge", 8: "g6.48xlarge"},
    "gcp": {0: "n2-standard-8", 1: "g2-standard-8", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"},
    "azure": {
        0: "Standard_D8s_v5",
        1: "Standard_NC8as_T4_v3",
        2: "Standard_NV72ads_A10_v5",
        4: "Standard_NC64as_T4_v3",
    },
}


def worker_machine(provider: str, gpus: int) -> str:
    """Returns the machine type taken for a worker with so many GPUs.

    Raises:
        ConfigError: There is none that we know.
    """
    machines = WORKERS[provider]
    if gpus not in machines:
        known = ", ".join(str(number) for number in machines)
        raise ConfigError(
            f"--gpus-per-worker {gpus}: name a machine with --instance-type; known are those with {known}"
        )
    return machines[gpus]


def cores(machine: str) -> int | None:
    """Returns the cores that a machine type's name tells, or None: n2-standard-8 -> 8, Standard_NC16as_T4_v3 -> 16."""
    google = re.fullmatch(r"[a-z]\w*-(?:standard|highmem|highcpu|custom)-(\d+)(?:-.*)?", machine)
    azure = re.fullmatch(r"Standard_[A-Z]+(\d+)[a-z]*(?:_.*)?", machine)
    found = google or azure
    return int(found[1]) if found else None
