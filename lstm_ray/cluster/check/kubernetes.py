"""Gets KubeRay's schemas, and asks an API server to check a definition."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lstm_ray.bounded_yaml import check_bounds, read_yaml_text
from lstm_ray.cluster.check.document import Finding, at
from lstm_ray.errors import InputError, LstmRayError
from lstm_ray.wording import reason

ENVIRONMENT = "LSTM_RAY_CRDS"
_REQUEST_LIMIT_S = 10
_LIMIT_S = 60
_PLURALS = {"RayCluster": "rayclusters", "RayJob": "rayjobs"}

# libyaml reads a CRD of 1.4 MB in half a second, PyYAML's own parser in ten.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def find_schema(kind: str, version: str, directory: str | None) -> dict[str, Any] | None:
    """Returns the OpenAPI schema of a kind from its CRD, or None if there is no CRD to be found.

    Args:
        kind: RayCluster or RayJob.
        version: Version of the API, such as "v1".
        directory: Directory with CRDs as YAML, or one such file; by default LSTM_RAY_CRDS, otherwise kubectl is asked.

    Raises:
        InputError: The directory cannot be read, or contains no CRD of this kind and version.
    """
    directory = directory or os.environ.get(ENVIRONMENT) or None
    if directory:
        return _from_directory(kind, version, directory)
    try:
        found = _kubectl("get", "customresourcedefinition", f"{_PLURALS[kind]}.ray.io", "--output=yaml")
        return _find(_documents(found.stdout), kind, version) if found.returncode == 0 else None
    except (LstmRayError, yaml.YAMLError):
        return None  # no kubectl, or no cluster: the report says that the schema was not checked


def _from_directory(kind: str, version: str, directory: str) -> dict[str, Any]:
    given = Path(directory)
    if not given.exists():
        raise InputError(f"{directory}: no such directory with CRDs")
    for path in [given] if given.is_file() else sorted(given.glob("*.y*ml")):
        try:
            documents = _documents(read_yaml_text(path))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as a CRD: {reason(error)}") from error
        schema = _find(documents, kind, version)
        if schema is not None:
            return schema
    raise InputError(
        f"{directory}: {'is not a' if given.is_file() else 'no *.yaml in it is a'} CRD of {kind} {version}"
    )


def _documents(text: str) -> list[Any]:
    """Returns the documents of YAML.

    Raises:
        yaml.YAMLError: The text is not YAML, or exceeds the limits; deeper nesting would crash libyaml.
    """
    check_bounds(text, _Loader)
    try:
        return list(yaml.load_all(text, _Loader))
    except (ValueError, LookupError, AttributeError) as error:  # an impossible date, or !!bool maybe
        raise yaml.YAMLError(reason(error)) from error


def _find(documents: Sequence[Any], kind: str, version: str) -> dict[str, Any] | None:
    """Returns the schema of a kind and version from the documents; None if none is its CRD."""
    for document in documents:
        if at(document, ("kind",)) == "CustomResourceDefinition" and at(document, ("spec", "names", "kind")) == kind:
            for served in at(document, ("spec", "versions"), list) or []:
                schema: dict[str, Any] | None = at(served, ("schema", "openAPIV3Schema"), dict)
                if at(served, ("name",)) == version and schema is not None:
                    return schema
    return None


def check_on_server(path: str) -> Iterator[Finding]:
    """Yields what the API server, including operators' webhooks, rejects in a file. Nothing is created.

    Raises:
        LstmRayError: There is no kubectl, or no cluster to ask.
    """
    asked = _kubectl("get", "--raw", "/api")
    if asked.returncode:
        raise LstmRayError(f"no Kubernetes cluster to ask: kubectl says: {' '.join(asked.stderr.split())}")
    applied = _kubectl("apply", "--dry-run=server", "--validate=strict", f"--filename={path}")
    for message in _messages(applied.stderr):
        if message.startswith("Warning: "):
            yield Finding((), f"the server warns; {message.removeprefix('Warning: ')}", "note")
        elif applied.returncode:
            yield Finding((), f"the server refuses it; {message}")
    if applied.returncode and not applied.stderr.strip():
        yield Finding((), f"the server refuses it; kubectl ended with exit code {applied.returncode}")


def _kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs kubectl and returns its output and exit code.

    Raises:
        LstmRayError: kubectl is not installed, or does not end.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise LstmRayError("kubectl is not installed, or not on the PATH: install it to ask a Kubernetes cluster")
    command = [program, *arguments, f"--request-timeout={_REQUEST_LIMIT_S}s"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise LstmRayError(f"kubectl cannot be run: {reason(error)}") from error


def _messages(output: str) -> list[str]:
    """Returns kubectl's messages, each as one line together with the list of causes below it."""
    messages: list[str] = []
    for line in output.splitlines():
        if messages and line.startswith(("*", " ", "\t")):
            messages[-1] += f" {line.strip()}"
        elif line.strip():
            messages.append(line.strip())
    return messages
