"""The names of a cluster's nodes, and what they answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lstm_ray.runtime import nodes as asked
from lstm_ray.runtime.nodes import names_of, on_every_node


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


@pytest.mark.parametrize("dies", [True, False])
def test_a_node_that_dies_before_it_answers_is_left_out(monkeypatch: pytest.MonkeyPatch, dies: bool) -> None:
    first, lost = node("a" * 56, "10.0.0.1"), node("b" * 56, "10.0.0.2")
    listings = iter([[first, lost], [first, {**lost, "Alive": not dies}]])
    error = RuntimeError("no answer")
    monkeypatch.setattr(asked, "ray", SimpleNamespace(nodes=lambda: next(listings), wait=lambda *_, **__: None))
    monkeypatch.setattr(asked, "_start", lambda node, function: node["NodeID"])
    monkeypatch.setattr(asked, "_answer", lambda ref: "here" if ref == first["NodeID"] else error)
    expected = {"10.0.0.1": "here"} if dies else {"10.0.0.1": "here", "10.0.0.2": error}
    assert on_every_node(print) == expected
