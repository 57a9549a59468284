"""Collects facts about the nodes of a cluster, through Ray."""

from __future__ import annotations

from dataclasses import replace

import ray

from lstm_ray.doctor.facts import Facts, compare_clocks, describe
from lstm_ray.runtime.nodes import names_of, on_every_node
from lstm_ray.runtime.ray_internals import authentication_mode
from lstm_ray.runtime.ray_session import connect
from lstm_ray.wording import reason


def describe_nodes(
    address: str, directory: str | None, probe: str | None
) -> tuple[dict[str, Facts], dict[str, str], float]:
    """Returns the facts by node, why nodes did not answer, by node, and the error of the clock differences in seconds.

    Args:
        address: The cluster's address.
        directory: Directory or URI that every node should write to and read from.
        probe: A file in it that this machine has written.

    Raises:
        LstmRayError: There is no cluster at the address.
    """
    with connect(address):
        nodes = ray.nodes()
        names = names_of(nodes)
        stores = {
            names[node["NodeID"]]: int(node["Resources"].get("object_store_memory", 0))
            for node in nodes
            if node["NodeID"] in names
        }
        # The first call starts a worker process on each node, so that the second, which compares clocks, is fast.
        answers = on_every_node(_describe_node, directory, probe)
        ahead, error_s = compare_clocks(on_every_node)
    facts: dict[str, Facts] = {}
    failed: dict[str, str] = {}
    for node, answer in answers.items():
        if isinstance(answer, Facts):
            facts[node] = replace(answer, object_store_bytes=stores.get(node), clock=ahead.get(node, 0.0))
        else:
            failed[node] = reason(answer)
    return facts, failed, error_s


def _describe_node(directory: str | None, probe: str | None) -> Facts:
    return replace(describe(directory, probe), auth_mode=authentication_mode())
