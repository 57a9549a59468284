"""The nodes of the Ray cluster we are connected to: what they have, and whether they see this machine's files.

Asked before any work begins: a worker that waits for a CPU which nobody has, or that cannot open a file, would
otherwise say so late, or never.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstm_ray import storage
from lstm_ray.errors import InputError, LstmRayError, OutputError
from lstm_ray.wording import reason

_ANSWER_WITHIN_S = 120.0
_SEEN_WITHIN_S = 5.0  # network filesystems may hold back news of a file for some seconds
_MOST_PATHS = 1_000

Answer = Any | BaseException


def on_every_node(function: Callable[..., Any], *arguments: Any) -> dict[str, Answer]:
    """Runs a function on every node and returns what came of it, by the nodes' names, see `names_of`.

    It asks for no CPU, so that it runs on busy nodes too. An exception is returned as one.
    """
    refs = {}
    for node_id, name in names_of(ray.nodes()).items():
        here = NodeAffinitySchedulingStrategy(node_id, soft=False)
        task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(function)
        refs[name] = task.remote(*arguments)
    ray.wait(list(refs.values()), num_returns=len(refs), timeout=_ANSWER_WITHIN_S, fetch_local=False)
    return {name: _answer(ref) for name, ref in refs.items()}


def names_of(nodes: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Returns the names of those of `ray.nodes()` that are alive, by id.

    A name is the node's address, and where several have the same, as on one machine they may, the beginning of its id.
    """
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["Alive"]}
    many = Counter(addresses.values())
    return {
        node_id: f"{address} ({node_id[:8]})" if many[address] > 1 else address
        for node_id, address in addresses.items()
    }


def _answer(ref: Any) -> Answer:
    try:
        return ray.get(ref, timeout=1)
    except ray.exceptions.RayError as error:
        return error


def check_room(address: str, cpus: float, gpus: float) -> str | None:
    """Checks that the cluster has what is asked for.

    Returns:
        None if it has, or a note that its autoscaler has to start nodes first.

    Raises:
        LstmRayError: It has not, and nothing will add nodes: Ray would wait in silence.
    """
    there = ray.cluster_resources()
    asked = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
    has = f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs"
    if there.get("CPU", 0) >= cpus and there.get("GPU", 0) >= gpus:
        return None
    most = _most_resources()
    if most is None:
        raise LstmRayError(
            f"{asked} are asked for, but the Ray at {address} has {has}, and no autoscaler to add nodes: ask for fewer "
            "workers, or add nodes"
        )
    if most.get("CPU", 0) < cpus or most.get("GPU", 0) < gpus:
        limit = f"{most.get('CPU', 0):g} CPUs and {most.get('GPU', 0):g} GPUs"
        raise LstmRayError(
            f"{asked} are asked for, but the Ray at {address} grows to {limit} at most: ask for fewer workers, or "
            "raise the cluster's limits"
        )
    return f"{asked} are asked for, {has} are there: waiting for the autoscaler to add nodes"


def _most_resources() -> dict[str, float] | None:
    """Returns what the autoscaler may grow the cluster to; None if there is no autoscaler.

    There is no public way to ask; Ray Data's own autoscaling asks like this.
    """
    most = ray._private.state.state.get_max_resources_from_cluster_config()
    return {name: float(amount) for name, amount in most.items()} if most else None


def check_paths(reads: Iterable[str], output: str) -> None:
    """Checks that every node sees the local paths among these as this machine does. URIs are left alone.

    Args:
        reads: What workers will read.
        output: The directory they will write to, which exists.

    Raises:
        InputError: A node does not see a path.
        OutputError: A node's output directory is another one, or may not be written to.
        LstmRayError: A node does not answer, or lacks lstm-ray.
    """
    local = sorted({path for path in reads if storage.is_local(path)})[:_MOST_PATHS]
    probe = None
    if storage.is_local(output):
        probe = storage.join(output, f".seen-{secrets.token_hex(8)}")
        storage.write_bytes(probe, b"")
    try:
        if local or probe:
            for address, answer in on_every_node(unseen, local, probe).items():
                _judge(address, answer, output)
    finally:
        if probe:
            storage.delete(probe)


def unseen(reads: list[str], probe: str | None) -> dict[str, str | bool | None]:
    """Says what a node does not see; runs there.

    Returns:
        "read": the first of `reads` that is not there, or None. "probe": True if the probe is there.
        "writable": True if the probe's directory is.
    """
    missing = next((path for path in reads if not os.path.exists(storage.locate(path)[1])), None)
    if probe is None:
        return {"read": missing, "probe": True, "writable": True}
    place = storage.locate(probe)[1]
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not (seen := os.path.exists(place)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return {"read": missing, "probe": seen, "writable": os.access(os.path.dirname(place), os.W_OK | os.X_OK)}


def _judge(address: str, answer: Answer, output: str) -> None:
    remedy = "put it on a filesystem that all nodes share, or use s3://BUCKET/..."
    if isinstance(answer, BaseException):
        message = reason(answer)
        if "No module named 'lstm_ray'" in message:
            raise LstmRayError(
                f"node {address} has no lstm-ray: install it there, or send it along with lstm-ray submit JOB.yaml"
            ) from answer
        raise LstmRayError(f"node {address} does not answer: {message[-300:]}") from answer
    if answer["read"]:
        raise InputError(f"{answer['read']}: node {address} does not see it: {remedy}")
    if not answer["probe"]:
        raise OutputError(f"{output}: on node {address} this is another directory than here: {remedy}")
    if not answer["writable"]:
        raise OutputError(f"{output}: node {address} may not write to it: change its permissions there, or {remedy}")
