"""Cluster definitions: what is rendered is complete, valid, repeatable, and keeps the token out."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import definitions
import pytest
import typer
import yaml
from typer.testing import CliRunner

from lstm_ray.cli.app import app as program
from lstm_ray.cli.options import takes_settings
from lstm_ray.cluster.definition.machines import WORKERS, cores, gpus_of, has_gpus
from lstm_ray.cluster.definition.render import render, yaml_scalar
from lstm_ray.cluster.definition.settings import ClusterConfig
from lstm_ray.config import resolve
from lstm_ray.errors import ConfigError, OutputError

ROOT = Path(__file__).parents[4]
READY = sorted((ROOT / "cluster").glob("*.yaml"))
PINNED = re.search(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]  # type: ignore[index]
HOSTS = {"hosts": "10.0.0.1,10.0.0.2,10.0.0.3"}
# Settings of many kinds; each is to give a definition without a mistake.
VARIANTS: dict[str, dict[str, Any]] = {
    "aws": {"provider": "aws"},
    "aws spot gpu": {
        "provider": "aws",
        "spot": True,
        "gpus_per_node": 4,
        "region": "eu-west-1",
        "zone": "eu-west-1a",
    },
    "aws image": {"provider": "aws", "image": f"example/lstm-ray:ray-{PINNED}", "ssh_key": "~/.ssh/mine.pem"},
    "aws own bucket": {"provider": "aws", "storage": "s3://reviews/lstm", "workers": "2:9", "instance_profile": "mine"},
    "gcp": {"provider": "gcp", "project": "p-1"},
    "gcp spot gpu": {"provider": "gcp", "spot": True, "gpus_per_node": 2, "region": "europe-west4"},
    "gcp image": {"provider": "gcp", "image": "example/lstm-ray", "zone": "us-central1-b"},
    "gcp odd machine": {"provider": "gcp", "instance_type": "odd", "cpus_per_node": 3},
    "azure": {"provider": "azure"},
    "azure spot gpu": {"provider": "azure", "spot": True, "gpus_per_node": 1, "ssh_key": "~/.ssh/id_rsa"},
    "onprem": {"provider": "onprem", **HOSTS},
    "onprem as installed": {"provider": "onprem", **HOSTS, "install": False, "venv": "/opt/venv", "workers": "1:2"},
    "onprem image": {
        "provider": "onprem",
        **HOSTS,
        "image": "example/lstm-ray",
        "ssh_key": "~/.ssh/k",
        "ssh_user": "me",
    },
    "onprem by name": {"provider": "onprem", "hosts": "head.example,one.example", "dashboard_host": "10.0.0.1"},
    "onprem alone": {"provider": "onprem", "hosts": "10.0.0.1"},
    "kuberay": {"provider": "kuberay"},
    "kuberay spot gpu": {
        "provider": "kuberay",
        "spot": True,
        "gpus_per_node": 1,
        "namespace": "ml",
        "workers": "1:5",
    },
    "kuberay bucket": {"provider": "kuberay", "storage": "s3://reviews/lstm", "instance_type": "c7i.2xlarge"},
    "rayjob": {"provider": "kuberay", "entrypoint": "lstm-ray score a --actors 1:9 --address auto"},
}


def parse(command: str) -> ClusterConfig:
    """Returns the settings that a command line gives."""
    got: list[ClusterConfig] = []
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @takes_settings(ClusterConfig)
    def remember(config: ClusterConfig) -> None:
        """Remembers."""
        got.append(config)

    result = CliRunner().invoke(app, shlex.split(command)[3:])
    assert result.exit_code == 0, result.output
    return got[0]


def test_there_is_a_ready_definition_for_every_provider() -> None:
    types = {yaml.safe_load_all(path.read_text(encoding="utf-8")).__next__().get("kind", path.stem) for path in READY}
    assert types == {"aws", "gcp", "azure", "onprem", "RayCluster", "RayJob"}


@pytest.mark.parametrize("path", READY, ids=lambda path: path.name)
def test_a_ready_definition_is_what_the_command_in_its_first_line_prints(path: Path) -> None:
    text = path.read_bytes().decode()
    command = text.splitlines()[0].removeprefix("# ")
    assert command.startswith("lstm-ray cluster render ")
    assert render(parse(command), PINNED) == text
    if version("ray") == PINNED:
        result = CliRunner().invoke(program, shlex.split(command)[1:])
        assert result.stdout == text
        assert result.stderr == ""


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_what_is_rendered_is_valid(settings: dict[str, Any]) -> None:
    config = ClusterConfig(**settings)
    text = render(config, PINNED)  # which refuses a definition with a mistake
    assert parse(config.command) == config, "the first line makes the same definition again"
    assert "\t" not in text
    assert not re.search(r" $", text, re.MULTILINE)
    assert "RAY_AUTH_TOKEN=" not in text
    assert ("mode: token" in text) == (config.provider == "kuberay")
    assert ("RAY_AUTH_MODE=token" in text) == (config.provider != "kuberay")


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_every_shell_command_parses(settings: dict[str, Any]) -> None:
    for document in yaml.safe_load_all(render(ClusterConfig(**settings), PINNED)):
        for name, commands in document.items():
            if name.endswith("_commands"):
                for command in commands:
                    # In parentheses, as Ray runs them: a comment in one would swallow the second.
                    done = subprocess.run(
                        ["bash", "-n", "-c", f"({command})"], capture_output=True, text=True, check=False
                    )
                    assert done.returncode == 0, f"{command}: {done.stderr}"


def test_lines_that_a_user_may_change_have_a_comment() -> None:
    changeable = (
        "cluster_name max_workers idle_timeout_minutes region location project_id ssh_user ssh_private_key InstanceType"
        " machineType vmSize min_workers priority MarketType image rayVersion minReplicas maxReplicas namespace"
        " entrypoint head_ip worker_ips resource_group ttlSecondsAfterFinished idleTimeoutSeconds"
    )
    seen = set()
    for path in READY:
        for line in path.read_text(encoding="utf-8").splitlines():
            name = line.strip().removeprefix("# ").split(":")[0]
            if name in changeable.split():
                seen.add(name)
                assert "  # " in line, f"{path.name}: {line}"
    assert seen == set(changeable.split())


def test_the_dashboard_listens_on_loopback_unless_asked() -> None:
    for settings in VARIANTS.values():
        text = render(ClusterConfig(**settings), PINNED)
        if settings["provider"] == "kuberay":
            assert "serviceType: ClusterIP" in text
            assert "kind: NetworkPolicy" in text
        else:
            assert f"--dashboard-host={settings.get('dashboard_host', '127.0.0.1')}" in text


def test_numbers_of_workers_reach_the_definition() -> None:
    launcher = yaml.safe_load(render(ClusterConfig(provider="aws", workers="2:7"), PINNED))
    assert launcher["max_workers"] == 7
    worker = launcher["available_node_types"]["worker"]
    assert (worker["min_workers"], worker["max_workers"]) == (2, 7)
    onprem = yaml.safe_load(render(ClusterConfig(provider="onprem", **HOSTS), PINNED))
    assert (onprem["min_workers"], onprem["max_workers"]) == (2, 2)
    assert onprem["provider"]["head_ip"] == "10.0.0.1"
    assert onprem["provider"]["worker_ips"] == ["10.0.0.2", "10.0.0.3"]
    cluster, _ = yaml.safe_load_all(render(ClusterConfig(provider="kuberay", workers="3"), PINNED))
    group = cluster["spec"]["workerGroupSpecs"][0]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (3, 3, 3)


def test_gpus_and_spot_reach_the_definition() -> None:
    def worker(provider: str) -> dict[str, Any]:
        config = ClusterConfig(provider=provider, gpus_per_node=1, spot=True)  # type: ignore[arg-type]
        node_type: dict[str, Any] = yaml.safe_load(render(config, PINNED))["available_node_types"]["worker"]
        return node_type

    aws, gcp, azure = worker("aws"), worker("gcp"), worker("azure")
    assert aws["node_config"]["InstanceType"] == WORKERS["aws"][1]
    assert aws["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert gcp["resources"] == {"CPU": 8, "GPU": 1}
    assert gcp["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert gcp["node_config"]["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert azure["resources"] == {"CPU": 8, "GPU": 1}
    assert azure["node_config"]["azure_arm_parameters"]["priority"] == "Spot"
    cluster, _ = yaml.safe_load_all(render(ClusterConfig(provider="kuberay", gpus_per_node=2), PINNED))
    pod = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "nvidia.com/gpu" not in str(cluster["spec"]["headGroupSpec"])


def test_ray_has_the_version_that_was_asked_for() -> None:
    for settings in VARIANTS.values():
        text = render(ClusterConfig(**settings), "2.99.1")
        assert "2.99.1" in text.split("\n", 2)[2] or settings.get("image") or not settings.get("install", True)
        assert f"Ray {PINNED}" not in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"provider": "aws", "storage": "s3://KEY:PLANTED@b/x"}, r"mistakes:\n  .*: contains keys in a URI"),
        ({"provider": "gcp", "instance_type": "n1-standard-8", "gpus_per_node": 1}, "g2-standard-8 has one"),
        ({"provider": "kuberay", "image": "x/y:ray-2.55.0"}, "has Ray 2.55.0, but an earlier field has Ray "),
        (
            {"provider": "kuberay", "entrypoint": "lstm-ray score a --model m --output b --actors 2"},
            "add --address auto",
        ),
    ],
)
def test_no_definition_with_a_mistake_is_written(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        render(ClusterConfig(**settings), PINNED, definitions.parse)
    assert "PLANTED" not in str(raised.value)


@pytest.mark.parametrize("provider", ["gcp", "azure"])
@pytest.mark.parametrize("gpus", [0, 1])
def test_head_and_workers_have_the_same_ubuntu(provider: str, gpus: int) -> None:
    types = yaml.safe_load(render(ClusterConfig(provider=provider, gpus_per_node=gpus)))["available_node_types"]  # type: ignore[arg-type]
    releases = {
        re.search(r"ubuntu[-_]?(\d\d)|server-(jammy)", str(node["node_config"])).group(1, 2)  # type: ignore[union-attr]
        for node in types.values()
    }
    named = {number or {"jammy": "22"}[name] for number, name in releases}
    assert named == {"22" if gpus else "24"}


ODD = ["on", "yes", "1000", "a-1", "us-east-1a: x", "[a", "a # b", "x\ty", "'", "~"]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize(
    ("provider", "setting", "field"),
    [
        ("aws", "region", "provider.region"),
        ("aws", "zone", "provider.availability_zone"),
        ("aws", "ssh_user", "auth.ssh_user"),
        ("aws", "head_instance_type", "available_node_types.head.node_config.InstanceType"),
        ("gcp", "zone", "provider.availability_zone"),
        ("gcp", "ssh_key", "auth.ssh_private_key"),
        ("azure", "region", "provider.location"),
        ("azure", "resource_group", "provider.resource_group"),
        ("aws", "name", "cluster_name"),
        ("kuberay", "name", "metadata.name"),
        ("kuberay", "namespace", "metadata.namespace"),
    ],
)
def test_a_setting_is_read_back_as_it_was_given(provider: str, setting: str, field: str, value: str) -> None:
    try:
        text = render(ClusterConfig.model_validate({"provider": provider, setting: value}))
    except (ValueError, ConfigError):
        return  # refused, which is as good
    content = next(iter(yaml.safe_load_all(text)))
    for name in field.split("."):
        content = content[name]
    assert content == value


@pytest.mark.parametrize(
    ("machine", "gpus"),
    [
        ("g2-standard-8", 1),
        ("a2-highgpu-4g", 4),
        ("a3-megagpu-8g", 8),
        ("Standard_NC8as_T4_v3", 1),
        ("n2-standard-8", 0),
        ("g5.12xlarge", None),
        ("odd", None),
    ],
)
def test_the_gpus_of_a_machine(machine: str, gpus: int | None) -> None:
    assert gpus_of(machine) == gpus


def test_more_gpus_than_a_machine_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="--gpus-per-node 4: g2-standard-8 has 1"):
        render(ClusterConfig(provider="gcp", instance_type="g2-standard-8", gpus_per_node=4))


def test_the_dockerfile_says_the_pinned_version() -> None:
    text = (ROOT / "cluster" / "Dockerfile").read_text(encoding="utf-8")
    assert f"lstm-ray:ray-{PINNED} " in text.replace("\n", " ")
    assert f"image: lstm-ray:ray-{PINNED}" in (ROOT / "cluster" / "kuberay-cluster.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"provider": "azur"}, "--provider is 'azur'"),
        ({"provider": "kuberay", "region": "x"}, "--region is for provider aws, gcp or azure, not kuberay"),
        ({"provider": "aws", "hosts": "a,b"}, "--hosts is for provider onprem, not aws"),
        ({"provider": "onprem"}, "provider onprem needs --hosts"),
        ({"provider": "onprem", "hosts": "a,a"}, "names a machine twice"),
        ({"provider": "onprem", "hosts": "a,b;rm"}, "neither an IPv4 address nor a host name"),
        ({"provider": "onprem", "hosts": "fe80::1,a"}, "neither an IPv4 address nor a host name"),
        ({"provider": "kuberay", "namespace": "my team"}, "no spaces"),
        ({"provider": "onprem", "hosts": "a,b", "workers": "3"}, "there is 1 host beside the head"),
        ({"provider": "aws", "workers": "5:2"}, "the first number is the least"),
        ({"provider": "aws", "workers": "many"}, "should be N or MIN:MAX"),
        ({"provider": "aws", "name": "Mine"}, "lower-case letters"),
        ({"provider": "aws", "name": "a" * 48}, "at most 47"),
        ({"provider": "aws", "storage": "s3://b/$(id)"}, "special characters of a shell"),
        ({"provider": "aws", "storage": "s3://b\nx: y"}, "one line of printable characters"),
        ({"provider": "kuberay", "entrypoint": "a\tb"}, "one line of printable characters"),
        ({"provider": "aws", "venv": "~/my venv"}, "no spaces"),
        ({"provider": "aws", "venv": "my-venv"}, "an absolute path"),
        ({"provider": "kuberay", "storage": "reviews"}, "an absolute path"),
        ({"provider": "aws", "region": "us-east-1 # x"}, "no spaces"),
        ({"provider": "aws", "workers": "0:1000000"}, "should be at most 100,000"),
        ({"provider": "aws", "image": "Me/X:1"}, "should be the name of an image"),
        ({"provider": "aws", "image": "me/x:1", "venv": "~/v"}, "--venv has no effect: --image contains lstm-ray"),
        ({"provider": "aws", "dashboard_host": "banana"}, "does not appear to be an IPv4 or IPv6 address"),
        ({"provider": "kuberay", "storage": "s3://b/x", "storage_claim": "c"}, "--storage-claim has no effect"),
        ({"provider": "kuberay", "entrypoint": "lstm-ray score 'x"}, "no closing quotation"),
        ({"provider": "onprem", "hosts": "localhost,b"}, "localhost is a different machine on each of them"),
        ({"provider": "onprem", "hosts": "10.0.0.300"}, "neither an IPv4 address nor a host name"),
        ({"provider": "onprem", "hosts": "A,a"}, "names a machine twice"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        resolve(ClusterConfig, settings)


def test_a_provider_is_needed() -> None:
    with pytest.raises(ConfigError, match="--provider is missing: one of aws, gcp, azure, onprem, kuberay"):
        render(ClusterConfig())


def test_machines_that_are_not_known_well_enough_are_refused() -> None:
    with pytest.raises(ConfigError, match="add --cpus-per-node"):
        render(ClusterConfig(provider="gcp", instance_type="odd"))
    with pytest.raises(ConfigError, match="--gpus-per-node 3: name a machine with --instance-type; known are those"):
        render(ClusterConfig(provider="azure", gpus_per_node=3))
    with pytest.raises(ConfigError, match=r"--gpus-per-node 1: m5\.large has no GPU, g6\.2xlarge has one"):
        render(ClusterConfig(provider="aws", gpus_per_node=1, instance_type="m5.large"))
    with pytest.raises(
        ConfigError, match=r"--instance-type g6\.2xlarge has GPUs: give their number with --gpus-per-node"
    ):
        render(ClusterConfig(provider="aws", instance_type="g6.2xlarge"))


@pytest.mark.parametrize(
    ("has", "machines"),
    [
        (True, "g6.2xlarge gr6.4xlarge g5g.xlarge p4d.24xlarge p5.48xlarge a2-highgpu-1g a3-megagpu-8g g2-standard-8"),
        (True, "Standard_NC8as_T4_v3 Standard_ND96isr_H100_v5 Standard_NV72ads_A10_v5"),
        (False, "m5.large c7i.2xlarge trn1.2xlarge n2-standard-8 e2-micro c3-highcpu-22 Standard_D8s_v5"),
        (False, "Standard_NP10s"),
        (None, "n1-standard-8 odd"),
    ],
)
def test_a_machine_types_name_tells_whether_it_has_gpus(has: bool | None, machines: str) -> None:
    assert {machine: has_gpus(machine) for machine in machines.split()} == dict.fromkeys(machines.split(), has)


def test_machines_we_choose_have_the_gpus_asked_for() -> None:
    chosen = [(gpus > 0, machine) for machines in WORKERS.values() for gpus, machine in machines.items()]
    assert [(has_gpus(machine), machine) for _, machine in chosen] == chosen


@pytest.mark.parametrize(
    ("machine", "number"),
    [
        ("n2-standard-8", 8),
        ("g2-standard-96", 96),
        ("n2d-highmem-16", 16),
        ("Standard_D8s_v5", 8),
        ("Standard_NC16as_T4_v3", 16),
        ("Standard_NV72ads_A10_v5", 72),
        ("c7i.2xlarge", None),
        ("e2-micro", None),
    ],
)
def test_a_machine_types_name_tells_its_cores(machine: str, number: int | None) -> None:
    assert cores(machine) == number


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "~",
        "true",
        "No",
        "1",
        "1.5",
        "0x1f",
        "2026-01-01",
        "a: b",
        "a #b",
        "- a",
        "",
        "{a}",
        "é",
        "1:30",
        "a:tag",
        "s3://bucket/a-b_c",
        "~/x/y",
        "10.0.0.1",
        "fe80::1",
        "a@b",
        "&a",
        "*a",
        "!a",
        "null",
        "=",
        "<<",
        "a\\b",
        'a"b',
    ],
)
def test_a_scalar_is_read_back_as_it_was(value: str) -> None:
    assert yaml.safe_load(f"key: {yaml_scalar(value)}")["key"] == value


def test_output_is_written_whole_and_nothing_else_is_printed(tmp_path: Path) -> None:
    target = tmp_path / "made" / "aws.yaml"
    result = CliRunner().invoke(program, ["cluster", "render", "--provider", "aws", "--output", str(target)])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == f"wrote {target}\n"
    assert target.read_text(encoding="utf-8") == render(ClusterConfig(provider="aws"))
    assert list(target.parent.iterdir()) == [target]


def test_a_definition_that_was_changed_is_replaced_only_if_asked_to(tmp_path: Path) -> None:
    target = tmp_path / "aws.yaml"
    arguments = ["cluster", "render", "--provider", "aws", "--output", str(target)]
    for _ in range(2):
        assert CliRunner().invoke(program, arguments).exit_code == 0, "as it is"
    target.write_text("mine", encoding="utf-8")
    refused = CliRunner().invoke(program, arguments)
    assert isinstance(refused.exception, OutputError)
    assert target.read_text(encoding="utf-8") == "mine"
    assert CliRunner().invoke(program, [*arguments, "--overwrite"]).exit_code == 0
    assert target.read_text(encoding="utf-8") == render(ClusterConfig(provider="aws"))


def test_rendering_loads_no_heavy_package() -> None:
    code = (
        "import sys; from lstm_ray.cli.app import app\n"
        "app(['cluster', 'render', '--provider', 'kuberay'], standalone_mode=False)\n"
        "print(sorted({'ray', 'tensorflow', 'numpy', 'pyarrow'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("# lstm-ray cluster render")
    assert done.stderr.strip() == "[]"


def test_a_claim_may_have_dots_in_its_name() -> None:
    config = ClusterConfig(provider="kuberay", storage="/mnt/reviews", storage_claim="team.reviews")
    assert "claimName: team.reviews" in render(config)


def test_a_value_that_looks_like_a_comment_is_kept() -> None:
    command = "grep '  # a  # b' {{ name }}"
    job, _ = yaml.safe_load_all(render(ClusterConfig(provider="kuberay", entrypoint=command)))
    assert job["spec"]["entrypoint"] == command
