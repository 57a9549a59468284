"""Whether the Ray cluster we are connected to has room for a run, or will grow until it has.

Asked before any work begins: a worker that waits for a CPU which nobody has would wait in silence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
import yaml

from lstm_ray.errors import LstmRayError
from lstm_ray.runtime.nodes import on_the_head
from lstm_ray.runtime.room import Asked, Nodes

_CONFIGURATION = "--autoscaling-config="


def check_room(address: str, asked: Asked) -> str | None:
    """Checks that the cluster has what is asked for, or will have it.

    Returns:
        None if it has, or a note that its autoscaler has to start nodes first.

    Raises:
        LstmRayError: It has not, and nothing will add what is missing.
    """
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    there = _by_size(Nodes(1, node.get("CPU", 0), node.get("GPU", 0)) for node in alive)
    lack = asked.lack(there)
    if lack is None:
        return None
    asks, has = lack
    scales, definition = on_the_head(autoscaler_of_head)
    if not scales:
        raise LstmRayError(
            f"{asks}, but the Ray at {address} has {has}, and no autoscaler to add nodes: ask for fewer "
            "workers, or add nodes"
        )
    if definition is not None:
        most = nodes_at_most(definition)
        is_full = len(alive) >= sum(kind.count for kind in most)
        if lack := asked.lack(there if is_full else most):
            raise LstmRayError(
                f"{lack[0]}, but the Ray at {address} grows to {lack[1]} at most: ask for fewer workers, or raise the "
                "cluster's limits"
            )
    return f"{asks}, the cluster has {has} now: waiting for its autoscaler to add nodes"


def _by_size(nodes: Iterable[Nodes]) -> list[Nodes]:
    """Puts nodes of the same size together, the largest first."""
    sizes = Counter((node.cpus, node.gpus) for node in nodes)
    return [Nodes(count, *size) for size, count in sorted(sizes.items(), reverse=True)]


def autoscaler_of_head() -> tuple[bool, dict[str, Any] | None]:
    """Says whether an autoscaler adds nodes, and by what definition, if that is known; runs on the head.

    Ray cannot be asked: its own autoscaler does not report what Ray's `get_max_resources_from_cluster_config` would
    read. But it is a process of the head, `monitor.py`, also where it does nothing for want of a definition. Where
    there is none, KubeRay runs it in a container of its own, whose files nobody else sees.
    """
    cluster = f"--gcs-address={ray.get_runtime_context().gcs_address}"
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue  # it has gone
        if cluster in words and any(word.endswith("/monitor.py") for word in words):
            paths = [word.removeprefix(_CONFIGURATION) for word in words if word.startswith(_CONFIGURATION)]
            return bool(paths), _read(paths[0]) if paths else None
    return True, None


def _read(path: str) -> dict[str, Any] | None:
    try:
        content = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None


def nodes_at_most(definition: Mapping[str, Any]) -> list[Nodes]:
    """Returns all nodes that a cluster may come to have.

    Args:
        definition: Launcher YAML, as it lies on the head. A machine whose cores it does not tell counts as endless.
    """
    most, head = definition.get("max_workers", math.inf), definition.get("head_node_type")
    nodes = []
    for name, kind in (definition.get("available_node_types") or {}).items():
        count = min(most, kind.get("max_workers", most)) + (name == head)
        size = kind.get("resources") or {}
        nodes.append(Nodes(count, size.get("CPU", 0 if size else math.inf), size.get("GPU", 0 if size else math.inf)))
    return nodes
