"""Finds KubeRay's CRDs: in a directory, or in the Kubernetes cluster that kubectl speaks to."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from lstm_ray.errors import InputError
from lstm_ray.wording import reason

ENVIRONMENT = "LSTM_RAY_CRDS"
_TIMEOUT_S = 20
_PLURALS = {"RayCluster": "rayclusters", "RayJob": "rayjobs"}

# libyaml reads a CRD of 1.4 MB in half a second, PyYAML's own parser in ten.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def find_schema(kind: str, version: str, directory: str | None) -> dict[str, Any] | None:
    """Returns the OpenAPI schema of a kind from its CRD, or None if there is none to be found.

    Args:
        kind: RayCluster or RayJob.
        version: Of the API, such as "v1".
        directory: Where CRDs lie as YAML, or one of them; else that of LSTM_RAY_CRDS; else kubectl is asked, if there
            is one.

    Raises:
        InputError: The directory cannot be read, or holds no CRD of this kind and version.
    """
    directory = directory or os.environ.get(ENVIRONMENT) or None
    if directory:
        return _from_directory(kind, version, directory)
    return _from_kubectl(kind, version)


def _from_directory(kind: str, version: str, directory: str) -> dict[str, Any]:
    given = Path(directory)
    if not given.exists():
        raise InputError(f"{directory}: no such directory with CRDs")
    for path in [given] if given.is_file() else sorted(given.glob("*.y*ml")):
        try:
            documents = list(yaml.load_all(path.read_text(encoding="utf-8"), _Loader))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as a CRD: {reason(error)}") from error
        for document in documents:
            schema = _schema(document, kind, version)
            if schema is not None:
                return schema
    raise InputError(f"{directory}: {'is no' if given.is_file() else 'no *.yaml in it is a'} CRD of {kind} {version}")


def _from_kubectl(kind: str, version: str) -> dict[str, Any] | None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return None
    name = f"{_PLURALS[kind]}.ray.io"
    command = [kubectl, "get", "customresourcedefinition", name, "--output=yaml", "--request-timeout=10s"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
        return _schema(yaml.load(done.stdout, _Loader), kind, version)
    except (OSError, subprocess.SubprocessError, yaml.YAMLError):
        return None  # no cluster, or no KubeRay in it: the caller says that only the basic checks ran


def _schema(document: Any, kind: str, version: str) -> dict[str, Any] | None:
    if not isinstance(document, dict) or document.get("kind") != "CustomResourceDefinition":
        return None
    spec = document["spec"]
    if spec["names"]["kind"] != kind:
        return None
    for served in spec["versions"]:
        if served["name"] == version:
            schema: dict[str, Any] = served["schema"]["openAPIV3Schema"]
            return schema
    return None
