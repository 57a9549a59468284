"""Checks a cluster definition, all of it at once: `lstm-ray cluster validate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution, version
from typing import Any

from lstm_ray.cluster.check.crds import ENVIRONMENT, find_schema
from lstm_ray.cluster.check.document import Document, Finding, Place, at, path_of, read_documents
from lstm_ray.cluster.check.kuberay_rules import check_kuberay
from lstm_ray.cluster.check.launcher_rules import check_launcher
from lstm_ray.cluster.check.leaks import find_leaks
from lstm_ray.cluster.check.placeholders import find_placeholders
from lstm_ray.cluster.check.schema import check_schema, strict, unknown, without_nulls
from lstm_ray.config import ScoreConfig, TrainConfig, TuneConfig, command_of
from lstm_ray.errors import InputError

_KINDS = ("RayCluster", "RayJob")
_NAME: Place = ("metadata", "name")
_TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec", "status")
_JOBS = [command_of(kind) for kind in (TrainConfig, TuneConfig, ScoreConfig)]

FindSchema = Callable[[str, str], dict[str, Any] | None]


@dataclass(frozen=True)
class Remark:
    """A finding, with where it stands.

    Attributes:
        line: In the file, from 1.
        path: Of the field: spec.workerGroupSpecs[0].maxReplicas.
        finding: What there is to say.
    """

    line: int
    path: str
    finding: Finding


@dataclass(frozen=True)
class Report:
    """What a check found, in the order of the file.

    Attributes:
        path: The file.
        is_kubernetes: True if it is for kubectl, False if for `ray up`.
        mistakes: What makes it invalid.
        to_do: What has to be done before it can be used: files that are not there, names to be put in.
        notes: For information.
    """

    path: str
    is_kubernetes: bool
    mistakes: tuple[Remark, ...]
    to_do: tuple[Remark, ...]
    notes: tuple[Remark, ...]


def validate(path: str, crds: str | None = None) -> Report:
    """Returns what is wrong with a definition for Ray's launcher or for KubeRay.

    Args:
        path: A YAML file.
        crds: Directory with KubeRay's CRDs.

    Raises:
        InputError: It cannot be read, is not YAML, or neither kind of definition.
    """
    return check(read_documents(path), path, lambda kind, api_version: find_schema(kind, api_version, crds))


def check(documents: Sequence[Document], path: str, find: FindSchema = lambda kind, api_version: None) -> Report:
    """Returns what is wrong with the documents of a definition; `path` is for messages.

    Args:
        documents: What is in the file.
        path: The file.
        find: Gives the CRD's schema of a kind and version of KubeRay's; None leaves it at the basic checks.

    Raises:
        InputError: They are neither kind of definition.
    """
    if not documents:
        raise InputError(f"{path}: is empty")
    is_kubernetes = any(isinstance(one.content, dict) and "apiVersion" in one.content for one in documents)
    remarks = []
    for number, document in enumerate(documents):
        found = _kubernetes(document, find) if is_kubernetes else _launcher(document, path)
        for finding in [
            *_doubles(document),
            *_namesakes(document, documents[:number]),
            *found,
            *find_placeholders(document.content),
            *find_leaks(document.content),
        ]:
            remarks.append(Remark(document.line(finding.place), path_of(finding.place), finding))
    if not is_kubernetes and len(documents) > 1:
        remarks.append(Remark(1, path_of(()), Finding((), f"has {len(documents)} documents; `ray up` wants one")))
    if is_kubernetes and not any(at(one.content, ["kind"]) in _KINDS for one in documents):
        kinds = ", ".join(str(at(one.content, ["kind"])) for one in documents)
        raise InputError(f"{path}: no {' or '.join(_KINDS)} in it but {kinds}: nothing else is checked here")
    remarks.sort(key=lambda remark: remark.line)

    def of(kind: str) -> tuple[Remark, ...]:
        return tuple(remark for remark in remarks if remark.finding.kind == kind)

    return Report(path, is_kubernetes, of("mistake"), of("to do"), of("note"))


def _doubles(document: Document) -> Iterator[Finding]:
    for place in document.doubles:
        yield Finding(place, "stands twice, and only the last counts; take one out")


def _namesakes(document: Document, earlier: Sequence[Document]) -> Iterator[Finding]:
    """Yields a mistake if an object of the same kind has the same name; what is for `ray up` has none."""

    def named(one: Document) -> list[Any]:
        return [at(one.content, place) for place in (["kind"], ["metadata", "namespace"], _NAME)]

    kind, _, name = named(document)
    if name is not None and named(document) in map(named, earlier):
        yield Finding(_NAME, f"is that of another {kind} in the file; give each its own")


def _launcher(document: Document, path: str) -> Iterator[Finding]:
    content = document.content
    if (command := at(content, ["command"], str)) in _JOBS:
        raise InputError(
            f"{path}: is a job file for `lstm-ray {command}`, not a cluster definition: check it with `lstm-ray config "
            f"show {command} --config {path}`, run it with `lstm-ray submit {path}`"
        )
    is_rays = isinstance(content, dict) and any(name in content for name in ray_schema()["properties"])
    if not is_rays or not isinstance(content.get("provider"), dict | None):
        raise InputError(f"{path}: neither for `ray up`, which has a provider, nor for Kubernetes, which has a kind")
    by_schema = set()
    for finding in check_schema(_as_ray_sees_it(content), ray_schema()):
        by_schema.add(finding.place)
        yield finding
    if isinstance(content.get("provider"), dict):
        yield from _once(check_launcher(content, version("ray")), by_schema)


def _as_ray_sees_it(content: dict[str, Any]) -> dict[str, Any]:
    """Returns a definition as Ray's own check gets it: Ray first moves and fills in what its schema does not know."""
    seen = dict(content)
    provider = at(content, ["provider", "type"])
    if provider == "local":
        seen.pop("min_workers", None)  # becomes the node type's
    if provider == "aws" and isinstance(content.get("available_node_types"), dict):
        seen["available_node_types"] = {  # EC2 is asked for them
            name: {"resources": {}, **node} if isinstance(node, dict) else node
            for name, node in content["available_node_types"].items()
        }
    return seen


def ray_schema() -> dict[str, Any]:
    """Returns Ray's schema of launcher YAML, from its installation; importing Ray would take seconds."""
    file = distribution("ray").locate_file("ray/autoscaler/ray-schema.json")
    with open(str(file), encoding="utf-8") as opened:
        schema: dict[str, Any] = json.load(opened)
    return schema


def _kubernetes(document: Document, find: FindSchema) -> Iterator[Finding]:
    content = document.content
    if not isinstance(content, dict):
        yield Finding((), "is no mapping; a Kubernetes object has apiVersion, kind, metadata")
        return
    for name in ("apiVersion", "kind"):
        if content.get(name) is None:
            yield Finding((name,), "is missing; every Kubernetes object has one")
    kind = content.get("kind")
    if kind not in _KINDS:
        message = f"is {kind}, which is not checked here; `kubectl apply --dry-run=server` does it"
        yield Finding(("kind",), message, "note")
        return
    for name in content:
        if name not in _TOP_LEVEL:
            yield Finding((name,), unknown(name, _TOP_LEVEL))
    group, _, api_version = str(content.get("apiVersion")).rpartition("/")
    crd = find(str(kind), api_version) if (group, api_version) == ("ray.io", "v1") else None
    by_schema: set[Place] = set()
    if crd is not None:
        for finding in check_schema(without_nulls(content), strict(crd) | {"required": ["metadata", "spec"]}):
            if finding.place[:1] != ("metadata",) and finding.place[:1] != ("status",):
                by_schema.add(finding.place)
                yield finding
    elif api_version == "v1":
        message = f"fields were not held against KubeRay's CRD: give --crds DIR or {ENVIRONMENT}; the basic checks ran"
        yield Finding((), message, "note")
    yield from _once(check_kuberay(content, version("ray")), by_schema)


def _once(findings: Iterator[Finding], said: set[Place]) -> Iterator[Finding]:
    """Yields the findings about places of which nothing was said."""
    return (finding for finding in findings if finding.place not in said)
