"""Cluster definitions, checked by Ray itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

READY = sorted((Path(__file__).parents[2] / "cluster").glob("*.yaml"))


@pytest.mark.parametrize("path", [path for path in READY if "kuberay" not in path.name], ids=lambda path: path.name)
def test_ray_takes_a_ready_definition(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    prepared = prepare_config(content)  # what `ray up` does first: fills in its defaults
    validate_config(prepared)
    for name, value in content.items():
        if name not in (
            "setup_commands",
            "min_workers",
            "head_setup_commands",
            "available_node_types",
        ):  # joined, moved
            assert prepared[name] == value, name
    for name, node_type in content.get("available_node_types", {}).items():
        assert {**prepared["available_node_types"][name], **node_type} == prepared["available_node_types"][name]
    assert prepared["head_setup_commands"][: len(content["setup_commands"])] == content["setup_commands"]
    workers = next(kind for name, kind in prepared["available_node_types"].items() if name != "head")
    assert (workers["min_workers"], workers["max_workers"]) == ((2, 2) if path.stem == "onprem" else (0, 4))
