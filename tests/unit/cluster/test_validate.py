"""Validation: good definitions broken by one mutation each, and the mistake told with its path, line and remedy."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from lstm_ray.cli.app import app as program
from lstm_ray.cluster.crds import ENVIRONMENT
from lstm_ray.cluster.render import render
from lstm_ray.cluster.settings import ClusterConfig
from lstm_ray.cluster.validate import Report, validate
from lstm_ray.errors import InputError

GONE = object()
RAY = "2.60.0"
JOB = "lstm-ray train --train a --output b --workers 4 --gpus-per-worker 1 --address auto"
GOOD: dict[str, dict[str, Any]] = {
    "aws": {"provider": "aws"},
    "gcp": {"provider": "gcp", "gpus_per_worker": 1, "project": "p"},
    "azure": {"provider": "azure", "image": f"me/lstm-ray:ray-{RAY}"},
    "onprem": {"provider": "onprem", "hosts": "10.0.0.1,10.0.0.2,10.0.0.3"},
    "cluster": {"provider": "kuberay"},
    "job": {"provider": "kuberay", "gpus_per_worker": 1, "workers": "0:4", "entrypoint": JOB},
}
NODE = "available_node_types.worker.node_config"
VM = f"{NODE}.azure_arm_parameters"
SPOT = f"{NODE}.InstanceMarketOptions"
RULES = "provider.security_group.IpPermissions"
GROUP = "spec.workerGroupSpecs.0"
PARAMS = f"{GROUP}.rayStartParams"
POD = f"{GROUP}.template.spec"
JOB_GROUP = "spec.rayClusterSpec.workerGroupSpecs.0"
TYPES = {"a": {"resources": {}, "node_config": {}}}
WORLD = {"FromPort": 8265, "ToPort": 8265, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
START = "export RAY_AUTH_MODE=token; ray start"

# A definition, the field that is changed, its new value; the path that is told (the field's if None), what is said.
BROKEN: list[tuple[str, str, Any, str | None, str]] = [
    ("aws", "cluster_name", GONE, None, "is missing"),
    ("aws", "cluster_name", 7, None, "is 7; it should be a text"),
    ("aws", "max_worker", 4, None, "did you mean max_workers?"),
    ("aws", "max_workers", -1, None, "is -1; it should be 0 at least"),
    ("aws", "max_workers", "four", None, "is 'four'; it should be a whole number"),
    ("aws", "available_node_types.worker.min_workers", 9, "max_workers", "min_workers add up to 9"),
    ("aws", "available_node_types.worker.max_workers", -2, None, "cannot be below 0"),
    ("aws", "head_node_type", "haed", None, "is no node type; choose one of head, worker"),
    ("aws", "head_node_type", GONE, None, "is missing; choose one of head, worker"),
    ("aws", "available_node_types", GONE, None, "name the machines"),
    ("aws", "provider.type", GONE, None, "is missing"),
    ("aws", "provider.region", GONE, None, "is missing; give one, such as us-east-1"),
    ("aws", "provider.region", "us-east-1a", None, "the region is us-east-1"),
    ("aws", "provider.availability_zone", "eu-west-1a", None, "is not in region us-east-1"),
    ("aws", f"{NODE}.InstanceType", GONE, None, "is missing"),
    ("aws", f"{NODE}.InstanceTyp", "c7i.large", None, "did you mean InstanceType?"),
    ("aws", f"{NODE}.InstanceMarketOptions", {"MarketType": "Spot"}, f"{SPOT}.MarketType", "write spot"),
    ("aws", "auth.ssh_private_key", "~/.ssh/x.pem", f"{NODE}.KeyName", "Ray wants the key pair's name"),
    ("aws", "auth.ssh_usr", "x", None, "did you mean ssh_user?"),
    ("aws", "provider.security_group", {"IpPermissions": [WORLD]}, f"{RULES}.0", "to the world"),
    ("aws", "head_start_ray_commands.1", f"{START} --head", None, "no --autoscaling-config"),
    ("aws", "head_start_ray_commands", ["ray stop"], None, "has no `ray start --head`"),
    ("aws", "worker_start_ray_commands.1", START, None, "a worker finds no head"),
    ("aws", "worker_start_ray_commands.1", f"{START} --address=$RAY_HEAD_IP:6380", None, "the head listens on 6379"),
    ("aws", "file_mounts", {}, None, "has no token for the nodes"),
    ("aws", "setup_commands.0", "export RAY_AUTH_TOKEN=5ecret", None, "holds the token itself"),
    ("aws", "setup_commands.0", 7, None, "is 7; it should be a text"),
    ("gcp", "provider.project_id", None, None, "is missing"),
    ("gcp", "provider.availability_zone", "europe-west4-a", None, "not in region us-central1"),
    ("gcp", f"{NODE}.machineType", GONE, None, "is missing; give one, such as n2-standard-8"),
    ("gcp", f"{NODE}.machineType", "n2-standard-8", "available_node_types.worker.resources.GPU", "which is none"),
    ("gcp", f"{NODE}.disks", GONE, None, "an image to start from"),
    ("gcp", f"{NODE}.disks.0.initializeParams.sourceImage", GONE, None, "name an image"),
    ("gcp", f"{NODE}.scheduling", GONE, None, "onHostMaintenance: TERMINATE"),
    ("gcp", "available_node_types.worker.resources.GPU", GONE, None, "Ray does not see a GPU"),
    ("gcp", "available_node_types.worker.resources.CPU", 1.5, None, "should be a whole number"),
    ("azure", "provider.resource_group", GONE, None, "is missing"),
    ("azure", "provider.location", GONE, None, "is missing; give one, such as eastus"),
    ("azure", f"{VM}.vmSize", GONE, None, "is missing"),
    ("azure", f"{VM}.imageSku", GONE, None, "is missing"),
    ("azure", VM, GONE, None, "what machine to rent"),
    ("azure", f"{VM}.priority", "spot", None, "choose one of Regular, Spot"),
    ("azure", "auth.ssh_private_key", "~/.ssh/id_rsa", "auth.ssh_public_key", "give both keys, or neither"),
    ("azure", "available_node_types.worker.resources", {}, None, "say what the machine has"),
    ("azure", "docker.head_image", "me/lstm-ray:ray-2.59.0", None, f"has Ray 2.59.0, but {RAY} stands before"),
    ("azure", "docker.imge", "x", None, "did you mean image?"),
    ("azure", "docker.run_options.1", "--env RAY_AUTH_TOKEN=abc", "docker.run_options", "holds the token itself"),
    ("onprem", "provider.head_ip", GONE, None, "is missing"),
    ("onprem", "provider.worker_ips", GONE, None, "list the workers' addresses"),
    ("onprem", "provider.worker_ips.0", "10.0.0.1", None, "is the head; take it out"),
    ("onprem", "provider.worker_ips.1", "10.0.0.2", None, "is there already"),
    ("onprem", "provider.worker_ips.1", "127.0.0.1", None, "the address that the other machines know"),
    ("onprem", "max_workers", 5, None, "there are 2 worker_ips"),
    ("onprem", "max_workers", 1, "min_workers", "above max_workers 1"),
    ("onprem", "available_node_types", TYPES, None, "not for machines of your own"),
    ("onprem", "auth.ssh_user", GONE, None, "is missing"),
    ("cluster", "apiVersion", "ray.io/v1alpha1", None, "want ray.io/v1"),
    ("cluster", "metadata.name", "My_Cluster", None, "lower-case letters"),
    ("cluster", "metadata.name", "a" * 54, None, "has 54 characters; a RayCluster's may have 53"),
    ("cluster", "metadata.name", GONE, None, "is missing"),
    ("cluster", "spec", GONE, None, "is missing"),
    ("cluster", "metadata.namespace", "MyTeam", None, "use lower-case letters"),
    ("cluster", "spec.headGroupSpec", GONE, None, "a cluster needs a head"),
    ("cluster", "spec.workerGroupSpec", [], None, "did you mean workerGroupSpecs?"),
    ("cluster", f"{GROUP}.maxReplica", 3, None, "did you mean maxReplicas?"),
    ("cluster", f"{GROUP}.maxReplicas", -1, None, "cannot be below 0"),
    ("cluster", f"{GROUP}.minReplicas", 9, f"{GROUP}.maxReplicas", "is 4, below minReplicas 9"),
    ("cluster", f"{GROUP}.replicas", 9, None, "above maxReplicas 4"),
    ("cluster", f"{GROUP}.groupName", GONE, None, "is missing"),
    ("cluster", PARAMS, {"num-cpus": 4}, f"{PARAMS}.num-cpus", 'values here are texts: "4"'),
    ("cluster", PARAMS, {"--num-cpus": "4"}, f"{PARAMS}.--num-cpus", "write num-cpus"),
    ("cluster", f"{POD}.containers", [], None, "is missing or empty"),
    ("cluster", f"{POD}.containers.0.image", GONE, None, "is missing"),
    ("cluster", f"{POD}.containers.0.image", "me/x:ray-2.59.0", None, f"has Ray 2.59.0, but rayVersion is {RAY}"),
    ("cluster", f"{POD}.containers.0.resources.limits.memory", "16GB", None, "write an amount such as 2, 500m or 16Gi"),
    ("cluster", f"{POD}.containers.0.resources.requests.cpu", "8", None, "is above its limit"),
    ("cluster", f"{POD}.containers.0.resources", GONE, f"{POD}.containers.0.resources.limits.cpu", "is missing"),
    ("cluster", f"{POD}.containers.0.volumeMounts.1.name", "strage", None, "there is no volume 'strage'"),
    ("cluster", f"{POD}.restartPolicy", "Always", None, "the autoscaler v2 wants Never"),
    ("cluster", "spec.authOptions", GONE, "spec.authOptions.mode", "is off"),
    ("cluster", "spec.authOptions.mode", "disabled", None, "is off"),
    ("cluster", "spec.rayVersion", GONE, None, "the operator wants it with authOptions.mode token"),
    ("cluster", "spec.rayVersion", 2.6, None, "is a number; write it in quotes"),
    ("cluster", "spec.headGroupSpec.serviceType", "LoadBalancer", None, "to the outside; use ClusterIP"),
    ("cluster", "spec.headGroupSpec.enableIngress", True, None, "without TLS"),
    ("cluster", "spec.headGroupSpec.template.spec.hostNetwork", True, None, "opens Ray's ports on the node"),
    (
        "cluster",
        f"{POD}.containers.0.env",
        [{"name": "RAY_AUTH_TOKEN", "value": "5ecret"}],
        f"{POD}.containers.0.env.0.value",
        "keep it in a Secret",
    ),
    ("cluster", "spec.autoscalerOptions.idleTimeoutSeconds", -5, None, "cannot be below 0"),
    ("job", "spec.entrypoint", GONE, None, "is missing or empty"),
    ("job", "spec.entrypoint", "  ", None, "is missing or empty"),
    ("job", "spec.entrypoint", JOB.replace("4", "5"), None, "asks for 5 workers of 1 cores and 1 GPUs"),
    ("job", "spec.entrypoint", JOB.replace(" --address auto", ""), None, "add --address auto"),
    ("job", f"{JOB_GROUP}.maxReplicas", 3, "spec.entrypoint", "the groups hold 3; raise maxReplicas"),
    (
        "job",
        f"{JOB_GROUP}.template.spec.containers.0.resources",
        {"limits": {"cpu": "4", "memory": "1Gi"}},
        "spec.entrypoint",
        "the groups hold 0",
    ),
    ("job", f"{JOB_GROUP}.rayStartParams", {"num-gpus": "2"}, f"{JOB_GROUP}.rayStartParams.num-gpus", "gpu is 1;"),
    ("job", "spec.entrypointNumGpus", 2, None, "no pod has more than 1 GPUs"),
    ("job", "spec.rayClusterSpec", GONE, None, "clusterSelector"),
    ("job", "spec.submissionMode", "HttpMode", None, "choose one of K8sJobMode, HTTPMode"),
    ("job", "spec.shutdownAfterJobFinishes", False, "spec.ttlSecondsAfterFinished", "set shutdownAfterJobF"),
    ("job", "spec.backoffLimit", -1, None, "cannot be below 0"),
    ("job", "spec.activeDeadlineSeconds", 0, None, "has to be above 0"),
    ("job", "spec.runtimeEnvYAML", "- a", None, "is no YAML mapping"),
    ("job", "spec.entrypont", "x", None, "did you mean entrypoint?"),
    ("job", "metadata.name", "a" * 48, None, "a RayJob's may have 47"),
    ("job", "spec.rayClusterSpec.authOptions.enableK8sTokenAuth", True, None, "does not work with a RayJob"),
]  # fmt: skip

Write = Callable[[list[Any]], str]


@pytest.fixture(autouse=True)
def ray_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the definitions' Ray installed, whichever is."""
    monkeypatch.setattr("lstm_ray.cluster.validate.version", lambda _: RAY)


@pytest.fixture(autouse=True)
def no_crds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides the CRDs and the kubectl that this machine may have."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Gives a function that writes documents to a file and returns its path."""

    def write_documents(documents: list[Any]) -> str:
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
        return str(path)

    return write_documents


def documents(name: str) -> list[Any]:
    """Returns a good definition."""
    return list(yaml.safe_load_all(render(ClusterConfig(**GOOD[name]), RAY)))


def change(content: Any, field: str, value: Any) -> None:
    """Sets a field, or takes it out; what it stands in is made if it is missing."""
    parts: list[str | int] = [int(part) if part.isdigit() else part for part in field.split(".")]
    for part in parts[:-1]:
        content = content.setdefault(part, {}) if isinstance(content, dict) else content[part]
    if value is GONE:
        del content[parts[-1]]
    else:
        content[parts[-1]] = copy.deepcopy(value)


def told(field: str) -> str:
    """Returns a field as messages write it: a.0.b -> a[0].b."""
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in field.split(".")).removeprefix(".")


@pytest.mark.parametrize("name", GOOD)
def test_the_good_ones_are_good(name: str, write: Write) -> None:
    assert validate(write(documents(name))).mistakes == ()


@pytest.mark.parametrize(
    ("name", "field", "value", "path", "message"), BROKEN, ids=[f"{row[0]}-{row[1]}-{row[4][:12]}" for row in BROKEN]
)
def test_one_mutation_is_told(name: str, field: str, value: Any, path: str | None, message: str, write: Write) -> None:
    broken = documents(name)
    change(broken[0], field, value)
    report = validate(write(broken))
    found = [(remark.path, remark.finding.message) for remark in report.mistakes]
    assert any(where == told(path or field) and message in said for where, said in found), found
    assert len(found) == len(set(found)), "said once"
    assert all(";" in said or ":" in said or "?" in said for _, said in found), "each with a remedy"


@pytest.mark.parametrize("name", ["aws", "gcp", "azure", "onprem"])
def test_a_cluster_without_tokens_is_told(name: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(render(ClusterConfig(**GOOD[name]), RAY).replace("RAY_AUTH_MODE=token", "X=y"), encoding="utf-8")
    found = {remark.path: remark.finding for remark in validate(str(path)).mistakes}
    assert set(found) == {"head_start_ray_commands[1]", "worker_start_ray_commands[1]"}
    assert all("put `export RAY_AUTH_MODE=token;` in front" in one.message and one.is_exposed for one in found.values())


def test_there_are_enough_of_them() -> None:
    assert len(BROKEN) >= 100
    assert {row[0] for row in BROKEN} == set(GOOD)


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
    assert ("auth.ssh_private_key", "/no/such/key is not there, seen from this directory") in said


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
        ("apiVersion: v1\nkind: Pod", "no RayCluster or RayJob in it"),
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
    cluster[0]["spec"]["enableInTreeAutoscaling"] = "yes"
    path = write(cluster)
    (tmp_path / "crd.yaml").write_text(yaml.safe_dump(CRD), encoding="utf-8")
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\n/bin/echo "$@" > {tmp_path}/asked\n/bin/cat {tmp_path}/crd.yaml\n', encoding="utf-8"
    )
    kubectl.chmod(0o755)
    (remark,) = validate(path).mistakes
    assert remark.path == "spec.enableInTreeAutoscaling"
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
    "path", sorted((Path(__file__).parents[3] / "jobs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_job_file_is_told_to_be_one(path: Path) -> None:
    with pytest.raises(
        InputError, match=r"is a job file for `lstm-ray \w+`, not a cluster definition: check it"
    ) as told:
        validate(str(path))
    assert f"`lstm-ray submit {path}`" in str(told.value)
