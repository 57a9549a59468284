"""The names of a cluster's nodes."""

from __future__ import annotations

from typing import Any

from lstm_ray.runtime.nodes import names_of


def node(node_id: str, address: str, alive: bool = True) -> dict[str, Any]:
    """Returns a node as `ray.nodes()` describes it."""
    return {"NodeID": node_id, "NodeManagerAddress": address, "Alive": alive}


def test_nodes_with_the_same_address_have_different_names() -> None:
    nodes = [
        node("a" * 56, "10.0.0.1"),
        node("b" * 56, "127.0.0.1"),
        node("c" * 56, "127.0.0.1"),
        node("d" * 56, "10.0.0.1", alive=False),
    ]
    assert names_of(nodes) == {
        "a" * 56: "10.0.0.1",
        "b" * 56: "127.0.0.1 (bbbbbbbb)",
        "c" * 56: "127.0.0.1 (cccccccc)",
    }
