"""KubeRay's CRDs, found in a directory or by kubectl, and the verdict of an API server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from definitions import documents, write
from typer.testing import CliRunner

from lstm_ray.cli.app import app
from lstm_ray.cluster.check.kubernetes import ENVIRONMENT
from lstm_ray.cluster.check.validate import Report, validate
from lstm_ray.errors import ConfigError, InputError, LstmRayError

pytestmark = pytest.mark.usefixtures("bare_machine")

CRDS = os.environ.get(ENVIRONMENT)  # read before the fixture hides it
FIELDS = {
    "rayVersion": "string",
    "authOptions": "object",
    "autoscalerOptions": "object",
    "enableInTreeAutoscaling": "boolean",
    "headGroupSpec": "object",
    "workerGroupSpecs": "array",
}
SCHEMA = {
    "type": "object",
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "properties": {
                name: {"type": kind, "x-kubernetes-preserve-unknown-fields": True} for name, kind in FIELDS.items()
            },
        },
    },
}
CRD = {
    "kind": "CustomResourceDefinition",
    "spec": {
        "names": {"kind": "RayCluster"},
        "versions": [{"name": "v1", "schema": {"openAPIV3Schema": SCHEMA}}],
    },
}


def cluster(directory: Path, **more: Any) -> str:
    """Writes a good RayCluster with more fields in its spec and returns its path."""
    content = documents("cluster")
    content[0]["spec"].update(more)
    return write(content, directory)


def messages(report: Report) -> dict[str, str]:
    """Returns the mistakes by path."""
    return {remark.path: remark.finding.message for remark in report.mistakes}


def test_a_crd_in_a_directory_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crds = tmp_path / "crds"
    crds.mkdir()
    (crds / "crd.yaml").write_text(yaml.safe_dump(CRD), encoding="utf-8")
    report = validate(cluster(tmp_path), str(crds))
    assert (report.mistakes, report.is_complete) == ((), True)
    path = cluster(tmp_path, enableInTreeAutoscaling="yes", entirelyNew=1)
    monkeypatch.setenv(ENVIRONMENT, str(crds))
    found = messages(validate(path))
    assert found["spec.enableInTreeAutoscaling"] == "is 'yes'; it should be true or false"
    assert found["spec.entirelyNew"].startswith("unknown field; remove it")
    with pytest.raises(InputError, match="no such directory with CRDs"):
        validate(path, str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"no \*.yaml in it is a CRD of RayJob v1"):
        validate(write(documents("job"), tmp_path))
    (content, _) = documents("cluster")
    with pytest.raises(InputError, match=r"no \*.yaml in it is a CRD of RayCluster v1alpha1"):
        validate(write([content | {"apiVersion": "ray.io/v1alpha1"}], tmp_path))
    del content["spec"]
    assert messages(validate(write([content], tmp_path))) == {"spec": "is missing; add it"}


Kubectl = Callable[[str], Path]


@pytest.fixture
def kubectl(tmp_path: Path) -> Kubectl:
    """Gives a function that installs a shell script as kubectl, and returns the file that logs its arguments."""

    def install(script: str) -> Path:
        program, log = tmp_path / "kubectl", tmp_path / "log"
        program.write_text(f'#!/bin/sh\n/bin/echo "$@" >> {log}\n{script}\n', encoding="utf-8")
        program.chmod(0o755)
        return log

    return install


def test_kubectl_is_asked_for_the_crd(tmp_path: Path, kubectl: Kubectl) -> None:
    path = cluster(tmp_path, entirelyNew=1)
    (tmp_path / "crd.yaml").write_text(yaml.safe_dump(CRD), encoding="utf-8")
    log = kubectl(f"/bin/cat {tmp_path}/crd.yaml")
    report = validate(path)
    assert list(messages(report)) == ["spec.entirelyNew"]
    assert report.is_complete
    assert log.read_text(encoding="utf-8").startswith("get customresourcedefinition rayclusters.ray.io")
    kubectl("echo no cluster >&2; exit 1")
    report = validate(path)
    assert (report.mistakes, report.is_complete) == ((), False)


ACCEPTS = "echo created"
REACHABLE = 'case "$*" in "get --raw"*) echo "{}"; exit 0;; "get customresourcedefinition"*) exit 1;; esac'


def test_a_server_that_accepts_it_makes_the_check_complete(tmp_path: Path, kubectl: Kubectl) -> None:
    path = cluster(tmp_path)
    log = kubectl(f"{REACHABLE}\n{ACCEPTS}")
    report = validate(path, on_server=True)
    assert (report.mistakes, report.notes, report.is_complete) == ((), (), True), "nor is the NetworkPolicy unchecked"
    asked = log.read_text(encoding="utf-8")
    assert f"apply --dry-run=server --validate=strict --filename={path}" in asked
    result = CliRunner().invoke(app, ["cluster", "validate", path, "--server"])
    assert result.exit_code == 0
    assert "not fully checked" not in result.stdout


REFUSALS = """Warning: spec.headGroupSpec is odd
The RayCluster "x" is invalid:
* spec.a: Required value
* spec.b: Invalid value: "7"
Error from server (BadRequest): error when creating: strict decoding error: unknown field "spec.c"
"""


def test_what_a_server_refuses_is_a_mistake(tmp_path: Path, kubectl: Kubectl) -> None:
    path = cluster(tmp_path)
    (tmp_path / "refusals").write_text(REFUSALS, encoding="utf-8")
    kubectl(f"{REACHABLE}\n/bin/cat {tmp_path}/refusals >&2; exit 1")
    report = validate(path, on_server=True)
    invalid, unknown = (remark.finding.message for remark in report.mistakes)
    assert invalid.startswith('the server refuses it; The RayCluster "x" is invalid: * spec.a: Required value * spec.b')
    assert unknown.endswith('strict decoding error: unknown field "spec.c"')
    assert [note.finding.message for note in report.notes] == ["the server warns; spec.headGroupSpec is odd"]
    assert CliRunner().invoke(app, ["cluster", "validate", path, "--server"]).exit_code == 1
    kubectl(f"{REACHABLE}\nexit 5")
    (silent,) = validate(path, on_server=True).mistakes
    assert "kubectl ended with exit code 5" in silent.finding.message


def test_without_a_server_to_ask_there_is_no_verdict(tmp_path: Path, kubectl: Kubectl) -> None:
    path = cluster(tmp_path)
    with pytest.raises(LstmRayError, match="kubectl is not installed, or not on the PATH"):
        validate(path, on_server=True)
    kubectl("echo 'The connection to the server localhost:8080 was refused' >&2; exit 1")
    with pytest.raises(LstmRayError, match="no Kubernetes cluster to ask: kubectl says: The connection to the server"):
        validate(path, on_server=True)
    with pytest.raises(ConfigError, match="is for Ray's launcher, which has no server to ask: leave out --server"):
        validate(write(documents("aws"), tmp_path), on_server=True)


@pytest.mark.skipif(CRDS is None, reason=f"needs KubeRay's CRDs: {ENVIRONMENT}=DIR")
@pytest.mark.parametrize("name", ["cluster", "job"])
def test_what_is_rendered_fits_kuberays_own_crds(name: str, tmp_path: Path) -> None:
    report = validate(write(documents(name), tmp_path), CRDS)
    assert messages(report) == {}
    broken = documents(name)
    broken[0]["spec"]["suspend"] = "no"
    assert list(messages(validate(write(broken, tmp_path), CRDS))) == ["spec.suspend"]
