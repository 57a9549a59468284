"""Runs functions on the nodes of the connected Ray cluster, and checks that all nodes see the run's files.

The files are checked before any work starts, because a worker that cannot open one would fail late.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstm_ray import storage
from lstm_ray.errors import InputError, LstmRayError, OutputError
from lstm_ray.runtime.ray_internals import HEAD_RESOURCE
from lstm_ray.wording import reason

_ANSWER_WITHIN_S = 120.0
_SEEN_WITHIN_S = 5.0  # a new file may take a few seconds to appear on a network filesystem
_MOST_PATHS = 1_000

Answer = Any | BaseException


def on_every_node(function: Callable[..., Any], *arguments: Any) -> dict[str, Answer]:
    """Runs a function on every node and returns the results by node name, see `names_of`.

    The function reserves no CPU, so that it runs on busy nodes too. Exceptions are returned, not raised. A node that
    dies before it answers is left out: Ray lists a dead node as alive for a few seconds, but runs no work there.
    """
    nodes = {node["NodeID"]: node for node in ray.nodes()}
    names = names_of(nodes.values())
    refs = {node_id: _start(nodes[node_id], function, *arguments) for node_id in names}
    ray.wait(list(refs.values()), num_returns=len(refs), timeout=_ANSWER_WITHIN_S, fetch_local=False)
    answers = {node_id: _answer(ref) for node_id, ref in refs.items()}
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return {
        names[node_id]: answer
        for node_id, answer in answers.items()
        if node_id in alive or not isinstance(answer, BaseException)
    }


def names_of(nodes: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Returns the names of the live nodes, by id.

    A name is the node's address. If several nodes share an address (as they may on one machine), the first 8 characters
    of the id are added.

    Args:
        nodes: The result of `ray.nodes()`.
    """
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["Alive"]}
    counts = Counter(addresses.values())
    return {
        node_id: f"{address} ({node_id[:8]})" if counts[address] > 1 else address
        for node_id, address in addresses.items()
    }


def on_the_head(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a function on the head node and returns its result.

    Raises:
        LstmRayError: The head does not answer, or does not have lstm-ray.
    """
    head = next(node for node in ray.nodes() if node["Alive"] and HEAD_RESOURCE in node["Resources"])
    ref = _start(head, function, *arguments)
    ray.wait([ref], timeout=_ANSWER_WITHIN_S)
    return _answered(head["NodeManagerAddress"], _answer(ref))


def _start(node: Mapping[str, Any], function: Callable[..., Any], *arguments: Any) -> Any:
    here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(function).remote(*arguments)


def _answer(ref: Any) -> Answer:
    try:
        return ray.get(ref, timeout=1)
    except ray.exceptions.RayError as error:
        return error


def check_paths(reads: Iterable[str], output: str | None = None) -> None:
    """Checks that every node sees the same local files as this machine. URIs are not checked.

    Args:
        reads: Paths that workers will read.
        output: An existing directory that they will write to; None if they write nothing.

    Raises:
        InputError: A node does not see a path.
        OutputError: The output is a different directory on a node, or is not writable there.
        LstmRayError: A node does not answer, or does not have lstm-ray.
    """
    local = sorted({path for path in reads if storage.is_local(path)})[:_MOST_PATHS]
    probe = None
    if output is not None and storage.is_local(output):
        probe = storage.join(output, f".seen-{secrets.token_hex(8)}")
        storage.write_bytes(probe, b"")
    try:
        if local or probe:
            for address, answer in on_every_node(unseen, local, probe).items():
                _check_seen(address, answer, output)
    finally:
        if probe:
            storage.delete(probe)


def unseen(reads: list[str], probe: str | None) -> dict[str, str | bool | None]:
    """Checks what this node sees. Runs on every node.

    Returns:
        "read": the first of `reads` that does not exist, or None. "probe": whether the probe exists. "writable":
        whether the probe's directory is writable.
    """
    missing = next((path for path in reads if not os.path.exists(storage.locate(path)[1])), None)
    if probe is None:
        return {"read": missing, "probe": True, "writable": True}
    path = storage.locate(probe)[1]
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not (seen := os.path.exists(path)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return {"read": missing, "probe": seen, "writable": os.access(os.path.dirname(path), os.W_OK | os.X_OK)}


def _check_seen(address: str, answer: Answer, output: str | None) -> None:
    seen = _answered(address, answer)
    remedy = "put it on a filesystem that all nodes share, or use s3://BUCKET/..."
    if seen["read"]:
        raise InputError(f"{seen['read']}: node {address} does not see it: {remedy}")
    if not seen["probe"]:
        raise OutputError(f"{output}: on node {address} this is a different directory than here: {remedy}")
    if not seen["writable"]:
        raise OutputError(
            f"{output}: node {address} has no permission to write to it: change the permissions there, or {remedy}"
        )


def _answered(address: str, answer: Answer) -> Any:
    if isinstance(answer, BaseException):
        message = reason(answer)
        if "No module named 'lstm_ray'" in message:
            raise LstmRayError(
                f"node {address} has no lstm-ray: install it there, or send it along with lstm-ray submit JOB.yaml"
            ) from answer
        raise LstmRayError(f"node {address} does not answer: {message[-300:]}") from answer
    return answer
