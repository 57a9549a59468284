"""Checks a cluster definition and reports all mistakes at once: `lstm-ray cluster validate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from lstm_ray.cluster.check.document import Document, Finding, at, path_of, read_documents
from lstm_ray.cluster.check.entrypoint import ParseCommand
from lstm_ray.cluster.check.kuberay_rules import check_kuberay
from lstm_ray.cluster.check.kubernetes import check_on_server, find_schema
from lstm_ray.cluster.check.launcher_rules import check_launcher
from lstm_ray.cluster.check.placeholders import find_placeholders
from lstm_ray.cluster.check.ray_files import launcher_schema
from lstm_ray.cluster.check.schema import check_schema, strict, without_nulls
from lstm_ray.cluster.check.secrets import find_secrets
from lstm_ray.config import ScoreConfig, TrainConfig, TuneConfig, command_of
from lstm_ray.errors import ConfigError, InputError
from lstm_ray.wording import quoted

_KINDS = ("RayCluster", "RayJob")
_JOBS = [command_of(kind) for kind in (TrainConfig, TuneConfig, ScoreConfig)]

FindSchema = Callable[[str, str], dict[str, Any] | None]


@dataclass(frozen=True)
class Remark:
    """A finding with its line.

    Attributes:
        line: Line in the file, from 1.
        path: Path of the field: spec.workerGroupSpecs[0].maxReplicas.
        finding: The finding.
    """

    line: int
    path: str
    finding: Finding


@dataclass(frozen=True)
class Report:
    """The result of a check, in the order of the file.

    Attributes:
        path: The file.
        is_kubernetes: True if the file is for kubectl, False if it is for `ray up`.
        is_complete: False if a RayCluster or RayJob could not be checked against a schema.
        mistakes: Findings that make the file invalid.
        to_do: What must be done before the file can be used: missing files, placeholders.
        notes: Findings for information.
    """

    path: str
    is_kubernetes: bool
    is_complete: bool
    mistakes: tuple[Remark, ...]
    to_do: tuple[Remark, ...]
    notes: tuple[Remark, ...]


def validate(
    path: str, crds: str | None = None, parse: ParseCommand | None = None, *, on_server: bool = False
) -> Report:
    """Checks a definition for Ray's launcher or for KubeRay.

    Args:
        path: A YAML file.
        crds: Directory with KubeRay's CRDs.
        parse: Parses a command line of lstm-ray; None leaves a job's entrypoint unchecked.
        on_server: True to also ask the Kubernetes cluster that kubectl is configured for.

    Raises:
        InputError: The file cannot be read, is not YAML, or is neither kind of definition.
        ConfigError: `on_server` is set, but the definition is for Ray's launcher.
        LstmRayError: There is no Kubernetes cluster to ask.
    """
    documents = read_documents(path)
    if on_server and not _is_kubernetes(documents):
        raise ConfigError(f"{path}: is for Ray's launcher, which has no server to ask: leave out --server")
    by_server = list(check_on_server(path)) if on_server else None
    return check(documents, path, lambda kind, api_version: find_schema(kind, api_version, crds), parse, by_server)


def check(
    documents: Sequence[Document],
    path: str,
    find: FindSchema = lambda kind, api_version: None,
    parse: ParseCommand | None = None,
    by_server: Sequence[Finding] | None = None,
) -> Report:
    """Checks the documents of a definition.

    Args:
        documents: The documents of the file.
        path: The file, for messages.
        find: Returns the schema of a KubeRay kind and API version, or None.
        parse: Parses a command line of lstm-ray; None leaves a job's entrypoint unchecked.
        by_server: Findings of a Kubernetes API server; None if none was asked.

    Raises:
        InputError: The documents are neither kind of definition.
    """
    if not documents:
        raise InputError(f"{path}: is empty")
    is_kubernetes = _is_kubernetes(documents)
    if is_kubernetes and not any(map(_is_kuberay, documents)):
        kinds = ", ".join(str(at(one.content, ["kind"])) for one in documents)
        raise InputError(f"{path}: contains no {' or '.join(_KINDS)}, only {kinds}, which is not checked")
    schemas = [_schema(one, is_kubernetes, find) for one in documents]
    remarks = [Remark(1, path_of(()), finding) for finding in by_server or ()]
    for number, (document, schema) in enumerate(zip(documents, schemas, strict=True)):
        if not is_kubernetes:
            found = _check_launcher(document.content, path, schema or {})
        elif _is_kuberay(document):
            found = _check_kuberay(document.content, schema, parse)
        else:
            found = _check_other(document.content, by_server is not None)
        for finding in [
            *_duplicate_keys(document),
            *_same_names(document, documents[:number]),
            *found,
            *find_placeholders(document.content),
            *find_secrets(document.content),
        ]:
            remarks.append(Remark(document.line(finding.field), path_of(finding.field), finding))
    if not is_kubernetes and len(documents) > 1:
        remarks.append(
            Remark(1, path_of(()), Finding((), f"has {len(documents)} documents; `ray up` accepts only one"))
        )
    remarks.sort(key=lambda remark: remark.line)

    def of(kind: str) -> tuple[Remark, ...]:
        return tuple(remark for remark in remarks if remark.finding.kind == kind)

    with_schema = all(schema is not None for one, schema in zip(documents, schemas, strict=True) if _is_kuberay(one))
    return Report(path, is_kubernetes, with_schema or by_server is not None, of("mistake"), of("to do"), of("note"))


def _is_kubernetes(documents: Sequence[Document]) -> bool:
    return any(isinstance(one.content, dict) and "apiVersion" in one.content for one in documents)


def _is_kuberay(document: Document) -> bool:
    return at(document.content, ["kind"]) in _KINDS


def _schema(document: Document, is_kubernetes: bool, find: FindSchema) -> dict[str, Any] | None:
    """Returns the schema of a document, or None if there is none."""
    if not is_kubernetes:
        return launcher_schema()
    if not _is_kuberay(document):
        return None
    crd = find(document.content["kind"], str(document.content.get("apiVersion")).rpartition("/")[2])
    return None if crd is None else strict(crd) | {"required": ["metadata", "spec"]}


def _duplicate_keys(document: Document) -> Iterator[Finding]:
    for field in document.duplicates:
        yield Finding(field, "duplicate key, of which only the last counts; remove one")


def _same_names(document: Document, earlier: Sequence[Document]) -> Iterator[Finding]:
    """Yields a mistake if an earlier object of the same kind has the same name."""

    def identity(one: Document) -> list[Any]:
        return [at(one.content, field) for field in (["kind"], ["metadata", "namespace"], ["metadata", "name"])]

    kind, _, name = identity(document)
    if name is not None and identity(document) in map(identity, earlier):
        yield Finding(("metadata", "name"), f"is the name of another {kind} in the file; rename one")


def _check_launcher(content: Any, path: str, schema: dict[str, Any]) -> Iterator[Finding]:
    if (command := at(content, ["command"], str)) in _JOBS:
        file = quoted(path)
        raise InputError(
            f"{path}: is a job file for `lstm-ray {command}`, not a cluster definition: check it with `lstm-ray config "
            f"show {command} --config {file}`, run it with `lstm-ray submit {file}`"
        )
    is_rays = isinstance(content, dict) and any(name in content for name in schema["properties"])
    if not is_rays or not isinstance(content.get("provider"), dict | None):
        raise InputError(f"{path}: neither a definition for `ray up` (it has no provider) nor for Kubernetes (no kind)")
    by_schema = list(check_schema(_as_ray_sees_it(content), schema))
    yield from by_schema
    yield from _not_yet_reported(check_launcher(content, version("ray")), by_schema)


def _as_ray_sees_it(content: dict[str, Any]) -> dict[str, Any]:
    """Returns a definition as Ray validates it, after Ray has moved and added fields that its schema does not have."""
    seen = dict(content)
    provider = at(content, ["provider", "type"])
    if provider == "local":
        seen.pop("min_workers", None)  # moves to the node type
    if provider == "aws" and isinstance(content.get("available_node_types"), dict):
        seen["available_node_types"] = {  # Ray asks EC2 for the resources
            name: {"resources": {}, **node} if isinstance(node, dict) else node
            for name, node in content["available_node_types"].items()
        }
    return seen


def _check_kuberay(
    content: dict[str, Any], schema: dict[str, Any] | None, parse: ParseCommand | None
) -> Iterator[Finding]:
    by_schema: list[Finding] = []
    if schema is not None:
        # The server fills in the status; a copy of a running object has one.
        given = {name: value for name, value in content.items() if name != "status"}
        by_schema = list(check_schema(without_nulls(given), schema))
    yield from by_schema
    yield from _not_yet_reported(check_kuberay(content, version("ray"), parse), by_schema)


def _check_other(content: Any, asked_server: bool) -> Iterator[Finding]:
    if not isinstance(content, dict):
        yield Finding((), "is not a Kubernetes object; it should be a mapping with apiVersion, kind and metadata")
    elif not asked_server:
        yield Finding(("kind",), f"is {content.get('kind')}, which only --server checks", "note")


def _not_yet_reported(findings: Iterator[Finding], reported: Sequence[Finding]) -> Iterator[Finding]:
    """Yields the findings about fields that have not been reported yet."""
    fields = {finding.field for finding in reported}
    return (finding for finding in findings if finding.field not in fields)
