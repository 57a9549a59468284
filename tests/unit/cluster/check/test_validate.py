"""Validation: what is told, on which line, in which order, and what is not a mistake."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import definitions
import pytest
import yaml
from definitions import GONE, GOOD, JOB, RAY, change, documents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lstm_ray.cli.app import app as program
from lstm_ray.cluster.check.crds import ENVIRONMENT
from lstm_ray.cluster.check.validate import Report, validate
from lstm_ray.cluster.definition.render import render
from lstm_ray.cluster.definition.settings import ClusterConfig
from lstm_ray.errors import InputError

Write = Callable[[list[Any]], str]


pytestmark = pytest.mark.usefixtures("bare_machine")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Gives a function that writes documents to a file and returns its path."""
    return lambda content: definitions.write(content, tmp_path)


@pytest.mark.parametrize("name", GOOD)
def test_the_good_ones_are_good(name: str, write: Write) -> None:
    assert validate(write(documents(name))).mistakes == ()


def places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields where there is something in a definition."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


WHATEVER: list[Any] = [None, "", "x", "A B", "1e999", -1, 2.5, 10**30, True, [], {}, ["a"], [None], [[]], {"a": 1}]
WHATEVER += [[{}], {5: 5}, {None: [1]}, {True: "x"}, {2.5: {}}, float("inf"), "RAY_AUTH_TOKEN=x", date(2026, 2, 3)]


@given(name=st.sampled_from(sorted(GOOD)), data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_somewhere_is_told_and_breaks_nothing(name: str, data: st.DataObject, write: Write) -> None:
    content = documents(name)
    place = data.draw(st.sampled_from(list(places(content))))
    inner = content
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = copy.deepcopy(data.draw(st.sampled_from(WHATEVER)))
    with suppress(InputError):
        path = write(content)
        report = validate(path)
        lines = Path(path).read_text(encoding="utf-8").count("\n")
        assert all(1 <= remark.line <= lines for remark in (*report.mistakes, *report.to_do, *report.notes))


@pytest.mark.parametrize("name", ["aws", "gcp", "azure", "onprem"])
def test_a_cluster_without_tokens_is_told(name: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(render(ClusterConfig(**GOOD[name]), RAY).replace("RAY_AUTH_MODE=token", "X=y"), encoding="utf-8")
    found = {remark.path: remark.finding for remark in validate(str(path)).mistakes}
    assert set(found) == {"head_start_ray_commands[1]", "worker_start_ray_commands[1]"}
    assert all("put `export RAY_AUTH_MODE=token;` in front" in one.message for one in found.values())


def test_all_mistakes_are_told_at_once_by_line(tmp_path: Path) -> None:
    text = render(ClusterConfig(**GOOD["cluster"]), RAY)
    text = text.replace("maxReplicas: 4", "maxReplica: 4").replace("mode: token", "mode: disabled")
    text = text.replace("serviceType: ClusterIP", "serviceType: NodePort").replace('cpu: "2"', "cpu: two")
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    report = validate(str(path))
    lines = text.splitlines()
    expected = {"maxReplica:": "did you mean", "mode: disabled": "is off", "NodePort": "outside", "cpu: two": "amount"}
    for part, message in expected.items():
        places = [number for number, line in enumerate(lines, 1) if part in line]
        remarks = [remark for remark in report.mistakes if message in remark.finding.message]
        assert {remark.line for remark in remarks} == set(places), part
    assert [remark.line for remark in report.mistakes] == sorted(remark.line for remark in report.mistakes)


def test_a_key_that_stands_twice_is_told(tmp_path: Path) -> None:
    text = render(ClusterConfig(**GOOD["aws"]), RAY)
    path = tmp_path / "cluster.yaml"
    path.write_text(text + "max_workers: 9\n", encoding="utf-8")
    (remark,) = validate(str(path)).mistakes
    assert remark.path == "max_workers"
    assert "stands twice" in remark.finding.message
    assert remark.line == len(text.splitlines()) + 1


def test_placeholders_and_missing_files_are_to_do_and_no_mistake(write: Write) -> None:
    config = ClusterConfig(provider="gcp", ssh_key="/no/such/key")
    report = validate(write(list(yaml.safe_load_all(render(config, RAY)))))
    assert report.mistakes == ()
    said = {(remark.path, remark.finding.message.split(";")[0]) for remark in report.to_do}
    assert ("provider.project_id", "still says my-project") in said
    assert ("auth.ssh_private_key", "/no/such/key is not there") in said


def test_the_autoscaler_that_leaves_a_host_out_is_noted(write: Write) -> None:
    onprem = documents("onprem")
    assert validate(write(onprem)).notes == ()
    start = onprem[0]["head_start_ray_commands"][1]
    onprem[0]["head_start_ray_commands"][1] = start.replace("RAY_enable_autoscaler_v2=0", "X=y")
    (note,) = validate(write(onprem)).notes
    assert "leaves a host out" in note.finding.message


def test_what_need_not_be_wrong_is_a_note(write: Write) -> None:
    job = documents("job")
    job[0]["spec"]["entrypoint"] = JOB.replace("4", "2:9")
    job[0]["spec"]["newField"] = 1
    job[0]["spec"]["rayClusterSpec"]["rayVersion"] = "2.61.0"
    for group in (
        job[0]["spec"]["rayClusterSpec"]["headGroupSpec"],
        job[0]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0],
    ):
        group["template"]["spec"]["containers"][0]["image"] = "me/own:7"
    report = validate(write(job))
    assert report.mistakes == ()
    notes = " ".join(f"{remark.path} {remark.finding.message}" for remark in report.notes)
    assert "may use 9 workers of 1 cores and 1 GPUs, but the groups hold 4" in notes
    assert "spec.newField is no field" in notes
    assert "rayVersion is 2.61.0, this installation has" in notes
    assert f"fields were not held against KubeRay's CRD: give --crds DIR or {ENVIRONMENT}" in notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a: [", "not YAML"),
        ("a: 2026-02-31", "not YAML"),
        ("just words", "neither for `ray up`"),
        ("- a\n- b", "neither for `ray up`"),
        ("provider: aws", "neither for `ray up`"),
        ("apiVersion: v1\nkind: Pod", "no RayCluster or RayJob in it but Pod"),
        ("\x00", "not YAML"),
    ],
)
def test_what_is_no_definition_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        validate(str(tmp_path / "cluster.yaml"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: no such file"):
        validate(str(tmp_path / "none.yaml"))


CRD = {
    "kind": "CustomResourceDefinition",
    "spec": {
        "names": {"kind": "RayCluster"},
        "versions": [
            {
                "name": "v1",
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "apiVersion": {"type": "string"},
                            "kind": {"type": "string"},
                            "metadata": {"type": "object"},
                            "spec": {
                                "type": "object",
                                "properties": {
                                    name: {"type": kind, "x-kubernetes-preserve-unknown-fields": True}
                                    for name, kind in {
                                        "rayVersion": "string",
                                        "authOptions": "object",
                                        "autoscalerOptions": "object",
                                        "enableInTreeAutoscaling": "boolean",
                                        "headGroupSpec": "object",
                                        "workerGroupSpecs": "array",
                                    }.items()
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


def test_a_crd_in_a_directory_is_used(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds" / "crd.yaml").write_text(yaml.safe_dump(CRD), encoding="utf-8")
    cluster = documents("cluster")
    path = write(cluster)
    report = validate(path, str(tmp_path / "crds"))
    assert report.mistakes == ()
    assert "CRD" not in str(report.notes)
    cluster[0]["spec"]["enableInTreeAutoscaling"] = "yes"
    cluster[0]["spec"]["entirelyNew"] = 1
    path = write(cluster)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "crds"))
    found = {remark.path: remark.finding.message for remark in validate(path).mistakes}
    assert found["spec.enableInTreeAutoscaling"] == "is 'yes'; it should be true or false"
    assert found["spec.entirelyNew"].startswith("is no field; take it out")
    with pytest.raises(InputError, match="no such directory with CRDs"):
        validate(path, str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"no \*.yaml in it is a CRD of RayJob v1"):
        validate(write(documents("job")))


def test_kubectl_is_asked_for_the_crd(write: Write, tmp_path: Path) -> None:
    cluster = documents("cluster")
    cluster[0]["spec"]["entirelyNew"] = 1
    path = write(cluster)
    (tmp_path / "crd.yaml").write_text(yaml.safe_dump(CRD), encoding="utf-8")
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\n/bin/echo "$@" > {tmp_path}/asked\n/bin/cat {tmp_path}/crd.yaml\n', encoding="utf-8"
    )
    kubectl.chmod(0o755)
    (remark,) = validate(path).mistakes
    assert remark.path == "spec.entirelyNew"
    assert (
        (tmp_path / "asked").read_text(encoding="utf-8").startswith("get customresourcedefinition rayclusters.ray.io")
    )
    kubectl.write_text("#!/bin/sh\necho no cluster >&2\nexit 1\n", encoding="utf-8")
    report = validate(path)
    assert report.mistakes == ()
    assert "the basic checks ran" in str(report.notes)


def real_crds() -> str | None:
    """Returns where KubeRay's own CRDs lie on this machine, if anywhere."""
    return os.environ.get(ENVIRONMENT)


CRDS = real_crds()  # read before the fixture above hides it


@pytest.mark.skipif(CRDS is None, reason=f"needs KubeRay's CRDs: {ENVIRONMENT}=DIR")
@pytest.mark.parametrize("name", ["cluster", "job"])
def test_what_is_rendered_fits_kuberays_own_crds(name: str, write: Write) -> None:
    report = validate(write(documents(name)), CRDS)
    assert [(remark.path, remark.finding.message) for remark in report.mistakes] == []
    broken = documents(name)
    broken[0]["spec"]["suspend"] = "no"
    assert [remark.path for remark in validate(write(broken), CRDS).mistakes] == ["spec.suspend"]


def run(*arguments: str) -> Any:
    """Runs `lstm-ray cluster validate`."""
    return CliRunner().invoke(program, ["cluster", "validate", *arguments])


def test_the_command_ends_with_0_or_1(write: Write) -> None:
    good = documents("azure")
    path = write(good)
    result = run(path)
    assert result.exit_code == 0
    assert result.stdout == f"{path}: no mistakes, but 2 things to do before it can be used\n"
    assert result.stderr.count("to do: ") == 2
    change(good[0], "provider.location", GONE)
    change(good[0], "max_workers", -1)
    path = write(good)
    result = run(path)
    assert result.exit_code == 1
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == f"{path}: 2 mistakes"
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{path}:2: max_workers: is -1; it should be 0 at least")
    assert "provider.location: is missing; give one, such as eastus" in lines[1]


def test_a_report_knows_what_it_is_for(write: Write) -> None:
    def report(name: str) -> Report:
        return validate(write(documents(name)))

    assert report("cluster").is_kubernetes
    assert not report("onprem").is_kubernetes


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("cluster", {"image": "MY-REGISTRY/lstm-ray:ray-2.60.0"}, "still says MY-REGISTRY; put in your own"),
        ("cluster", {}, "lstm-ray:ray-2.60.0 is in no registry; push it to yours and name that"),
        ("job", {"storage": "s3://MY-BUCKET/lstm-ray"}, "still says MY-BUCKET"),
        ("azure", {"image": "my-registry.example.com/x:1"}, "still says my-registry"),
    ],
)
def test_a_name_to_put_in_is_to_do(name: str, settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(render(ClusterConfig(**{**GOOD[name], **settings}), RAY), encoding="utf-8")
    report = validate(str(path))
    assert report.mistakes == ()
    assert said in str(report.to_do)
    result = run(str(path))
    assert result.exit_code == 0
    assert "to do before it can be used" in result.stdout
    assert ": valid" not in result.stdout


def test_a_definition_with_nothing_to_do_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    config = ClusterConfig(provider="kuberay", image=f"ghcr.io/me/lstm-ray:ray-{RAY}")
    path.write_text(render(config, RAY), encoding="utf-8")
    assert run(str(path)).stdout == f"{path}: valid\n"


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[4] / "jobs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_job_file_is_told_to_be_one(path: Path) -> None:
    with pytest.raises(
        InputError, match=r"is a job file for `lstm-ray \w+`, not a cluster definition: check it"
    ) as told:
        validate(str(path))
    assert f"`lstm-ray submit {path}`" in str(told.value)
