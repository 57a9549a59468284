"""Machine types of the clouds: defaults, and cores and GPUs as far as they can be derived from the names."""

from __future__ import annotations

import re

from lstm_ray.errors import ConfigError

HEADS = {"aws": "m7i.large", "gcp": "n2-standard-2", "azure": "Standard_D2s_v5"}
"""Two cores and 8 GiB: the head runs Ray's processes and the job's driver, but no workers."""

# By number of GPUs. NVIDIA L4 on AWS (g6) and Google (g2), T4 and A10 on Azure. Source: the clouds' lists.
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


def worker_machine(provider: str, gpus: int, named: str | None) -> str:
    """Returns the machine type of a worker with `gpus` GPUs: `named`, or a default.

    Raises:
        ConfigError: `named` has another number of GPUs, or there is no default.
    """
    machines = WORKERS[provider]
    if named is not None:
        if gpus and named.startswith("n1-"):
            raise ConfigError(f"--instance-type {named}: GPUs must be attached to it manually; {machines[1]} has one")
        has = has_gpus(named)
        if has is False and gpus:
            raise ConfigError(f"--gpus-per-node {gpus}: {named} has no GPU, {machines[1]} has one")
        if gpus and (there := gpus_of(named)) not in (None, gpus):
            raise ConfigError(f"--gpus-per-node {gpus}: {named} has {there}")
        if has and not gpus:
            raise ConfigError(f"--instance-type {named} has GPUs: give their number with --gpus-per-node")
        return named
    if gpus not in machines:
        known = ", ".join(str(number) for number in machines)
        raise ConfigError(f"--gpus-per-node {gpus}: name a machine with --instance-type; known are those with {known}")
    return machines[gpus]


def cores(machine: str) -> int | None:
    """Returns the cores in a machine type's name, or None: n2-standard-8 -> 8, Standard_NC16as_T4_v3 -> 16."""
    google = re.fullmatch(r"[a-z]\w*-(?:standard|highmem|highcpu|custom)-(\d+)(?:-.*)?", machine)
    azure = re.fullmatch(r"Standard_[A-Z]+(\d+)[a-z]*(?:_.*)?", machine)
    found = google or azure
    return int(found[1]) if found else None


def gpus_of(machine: str) -> int | None:
    """Returns the GPUs of a machine type, or None if its name does not determine them: a2-highgpu-4g -> 4."""
    if google := re.fullmatch(r"a[2-9]-\w+-(\d+)g(?:-.*)?", machine):
        return int(google[1])
    known = {name: number for machines in WORKERS.values() for number, name in machines.items()}
    return known.get(machine, 0 if has_gpus(machine) is False else None)


def has_gpus(machine: str) -> bool | None:
    """Returns whether machines of a type have NVIDIA GPUs; None if the name does not determine it.

    Source: the clouds' lists. On AWS, the families g, gr and p have them; on Google, a2 and later a families, g2 and
    g4, and they can be attached to n1; on Azure, NC, ND and NV.
    """
    if machine.startswith("Standard_"):
        return re.match("Standard_N[CDV]", machine) is not None
    if amazon := re.fullmatch(r"([a-z]+)\d[a-z0-9-]*\.[a-z0-9-]+", machine):
        return amazon[1] in ("g", "gr", "p")
    if google := re.fullmatch(r"([a-z]\w*)-[a-z]+.*", machine):
        return None if google[1] == "n1" else re.fullmatch(r"a[2-9]\w*|g[24]", google[1]) is not None
    return None
