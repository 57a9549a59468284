"""Starts and ends clusters by Ray's launcher: `lstm-ray cluster up` and `down`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from lstm_ray.cluster.document import at, read_documents
from lstm_ray.cluster.launcher import CLOUD_PACKAGES
from lstm_ray.cluster.validate import Remark, validate
from lstm_ray.errors import ConfigError, InputError, LstmRayError
from lstm_ray.wording import counted

# What tells that CLOUD_PACKAGES are installed. Source: imports in ray/autoscaler/_private.
_MODULES = {"aws": "boto3", "gcp": "googleapiclient", "azure": "azure.identity"}


def up(path: str, yes: bool) -> None:
    """Starts the cluster of a definition, or brings a running one in line with it.

    Args:
        path: Launcher YAML.
        yes: True starts it unasked; else Ray asks on the terminal.

    Raises:
        ConfigError: It is for Kubernetes, whose own tool applies it.
        InputError: It is not valid, or not ready to be used.
        LstmRayError: The cluster did not start.
    """
    report = validate(path)
    if report.mistakes:
        raise InputError(f"{path}: {counted(len(report.mistakes), 'mistake')}:\n{_listed(report.mistakes)}")
    if report.is_kubernetes:
        raise ConfigError(
            f"{path}: is for Kubernetes, which starts it itself:\n"
            f"  kubectl apply --filename {path}\n"
            "  kubectl get rayclusters,rayjobs,pods --watch"
        )
    if report.to_do:
        raise InputError(f"{path}: not ready yet:\n{_listed(report.to_do)}")
    _check_provider(path)
    _ray("up", path, yes)


def down(path: str, yes: bool) -> None:
    """Ends the cluster of a definition; what is in its storage stays.

    Args:
        path: Launcher YAML.
        yes: True ends it unasked; else Ray asks on the terminal.

    Raises:
        ConfigError: It is for Kubernetes.
        InputError: It is no definition.
        LstmRayError: The cluster did not end.
    """
    content = _content(path)
    if "apiVersion" in content:
        raise ConfigError(f"{path}: is for Kubernetes, which ends it itself:\n  kubectl delete --filename {path}")
    if not at(content, ["provider", "type"], str):
        raise InputError(f"{path}: provider.type: is missing; is it a definition for `ray up`?")
    _check_provider(path)
    _ray("down", path, yes)


def _listed(remarks: tuple[Remark, ...]) -> str:
    return "\n".join(f"  line {remark.line}: {remark.path}: {remark.finding.message}" for remark in remarks)


def _content(path: str) -> dict[str, object]:
    documents = read_documents(path)
    content = documents[0].content if documents else None
    if not isinstance(content, dict):
        raise InputError(f"{path}: no cluster definition")
    return content


def _check_provider(path: str) -> None:
    """Raises LstmRayError if what Ray needs to speak to the cloud is not installed."""
    provider = at(_content(path), ["provider", "type"], str)
    module = _MODULES.get(str(provider))
    if module is None:
        return
    try:
        is_there = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is not there
        is_there = False
    if not is_there:
        raise LstmRayError(f"Ray cannot speak to {provider}: pip install {CLOUD_PACKAGES[str(provider)]}")


def _ray(command: str, path: str, yes: bool) -> None:
    """Runs a command of Ray's own command line; what it says goes to stderr."""
    arguments = [sys.executable, "-m", "ray.scripts.scripts", command, path, *(["--yes"] if yes else [])]
    done = subprocess.run(arguments, stdout=sys.stderr.fileno(), check=False)
    if done.returncode:
        raise LstmRayError(f"{path}: `ray {command}` failed with exit code {done.returncode}; its last lines say why")
