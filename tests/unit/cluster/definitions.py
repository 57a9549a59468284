"""Good definitions, and the mistakes in them after one mutation."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from lstm_ray.cli.app import app
from lstm_ray.cli.command_line import parse_command_line
from lstm_ray.cluster.check.validate import validate
from lstm_ray.cluster.definition.render import render
from lstm_ray.cluster.definition.settings import ClusterConfig
from lstm_ray.config import Settings

GONE = object()
RAY = "2.60.0"
JOB = "lstm-ray train --train a --output b --workers 4 --gpus-per-worker 1 --address auto"
GOOD: dict[str, dict[str, Any]] = {
    "aws": {"provider": "aws"},
    "gcp": {"provider": "gcp", "gpus_per_node": 1, "project": "p"},
    "azure": {"provider": "azure", "image": f"me/lstm-ray:ray-{RAY}"},
    "onprem": {"provider": "onprem", "hosts": "10.0.0.1,10.0.0.2,10.0.0.3"},
    "cluster": {"provider": "kuberay"},
    "job": {"provider": "kuberay", "gpus_per_node": 1, "workers": "0:4", "entrypoint": JOB},
}

Mutation = tuple[str, str, Any, str | None, str]
"""A definition, the field that is changed, its new value; the reported path (None: that field), the message."""


def parse(words: Sequence[str]) -> Settings | None:
    """Parses a command line of lstm-ray."""
    return parse_command_line(typer.main.get_command(app), words)


def documents(name: str) -> list[Any]:
    """Returns a good definition."""
    return list(yaml.safe_load_all(rendered(name)))


@functools.cache
def rendered(name: str) -> str:
    """Returns the text of a good definition."""
    return render(ClusterConfig(**GOOD[name]), RAY)


def write(content: list[Any], directory: Path) -> str:
    """Writes documents to a file and returns its path."""
    path = directory / "cluster.yaml"
    path.write_text(yaml.safe_dump_all(content, sort_keys=False), encoding="utf-8")
    return str(path)


def change(content: Any, field: str, value: Any) -> None:
    """Sets a field, or removes it; its parents are made if they are missing."""
    parts: list[str | int] = [int(part) if part.isdigit() else part for part in field.split(".")]
    for part in parts[:-1]:
        content = content.setdefault(part, {}) if isinstance(content, dict) else content[part]
    if value is GONE:
        del content[parts[-1]]
    else:
        content[parts[-1]] = copy.deepcopy(value)


def names_of(mutations: Sequence[Mutation]) -> list[str]:
    """Returns the names of the tests of mutations."""
    return [f"{name}-{field}-{message[:12]}" for name, field, _, _, message in mutations]


def check_mutation(mutation: Mutation, directory: Path) -> None:
    """Asserts that a mutation is reported once, with its path, and every mistake with a remedy."""
    name, field, value, path, message = mutation
    found = mistakes(name, {field: value}, directory)
    path = path or field
    where = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))[1:]
    assert any(at in (path, where) and message in said for at, said in found), found
    assert len(found) == len(set(found)), "reported once"
    assert all(";" in said or ":" in said or "?" in said for _, said in found), "each with a remedy"


def mistakes(name: str, changes: dict[str, Any], directory: Path) -> list[tuple[str, str]]:
    """Returns path and message of each mistake in a definition with fields changed."""
    content = documents(name)
    for field, value in changes.items():
        change(content[0], field, value)
    report = validate(write(content, directory), parse=parse)
    return [(remark.path, remark.finding.message) for remark in report.mistakes]
