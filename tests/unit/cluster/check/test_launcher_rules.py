"""Good launcher definitions broken by one mutation each, and the mistake reported with its path and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from definitions import GONE, RAY, Mutation, check_mutation, documents, mistakes, names_of, rendered, write

from lstm_ray.cluster.check.validate import validate

pytestmark = pytest.mark.usefixtures("bare_machine")

WORKERS = "available_node_types.worker.max_workers"
RULES = "provider.security_group.IpPermissions"
WORLD = {"FromPort": 8265, "ToPort": 8265, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
ALL_PORTS = {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
START = "export RAY_AUTH_MODE=token; ray start"

BROKEN: list[Mutation] = [
    ("aws", "cluster_name", GONE, None, "is missing; add it"),
    ("aws", "cluster_name", 7, None, "is 7; it should be a string"),
    ("aws", "max_worker", 4, None, "unknown field; did you mean max_workers?"),
    ("aws", "max_workers", -1, None, "is -1; it should be at least 0"),
    ("aws", "max_workers", "four", None, "is 'four'; it should be an integer"),
    ("aws", "available_node_types.worker.min_workers", 9, WORKERS, "is 4, below min_workers 9"),
    ("aws", "provider.type", GONE, None, "is missing"),
    ("aws", "auth.ssh_usr", "x", None, "did you mean ssh_user?"),
    ("aws", "provider.security_group", {"IpPermissions": [WORLD]}, f"{RULES}.0", "ports 8265 to 8265 to the world"),
    ("aws", "provider.security_group", {"IpPermissions": [ALL_PORTS]}, f"{RULES}.0", "all ports to the world"),
    ("aws", "head_start_ray_commands.1", f"{START} --head", None, "no --autoscaling-config"),
    ("aws", "head_start_ray_commands.1", f"{START} --heads", None, "unknown option; did you mean --head?"),
    ("aws", "head_start_ray_commands", ["ray stop"], None, "has no `ray start --head`"),
    ("aws", "worker_start_ray_commands.1", START, None, "a worker does not find the head"),
    ("aws", "worker_start_ray_commands.1", f"{START} --addres=x:1", None, "did you mean --address?"),
    ("aws", "worker_start_ray_commands.1", f"{START} --address=$RAY_HEAD_IP:6380", None, "the head listens on 6379"),
    ("aws", "file_mounts", {}, None, "has no token for the nodes"),
    ("aws", "setup_commands.0", "export RAY_AUTH_TOKEN=5ecret", None, "contains the token"),
    ("aws", "setup_commands.0", 7, None, "is 7; it should be a string"),
    ("gcp", "available_node_types.worker.resources.CPU", 1.5, None, "should be an integer"),
    ("azure", "docker.head_image", "me/lstm-ray:ray-2.59.0", None, f"but an earlier field has Ray {RAY}"),
    ("azure", "docker.imge", "x", None, "did you mean image?"),
    ("azure", "docker.run_options.1", "--env RAY_AUTH_TOKEN=abc", "docker.run_options.1", "contains the token"),
    ("onprem", "provider.head_ip", "localhost", None, "give an address that all nodes know"),
    ("onprem", "provider.head_ip", "10.0.0.333", None, "is neither an IPv4 address nor a host name; correct it"),
    ("onprem", "provider.worker_ips.1", "10.0.0.333", None, "is neither an IPv4 address nor a host name"),
    ("onprem", "provider.worker_ips.1", 7, None, "is neither an IPv4 address nor a host name"),
    ("onprem", "provider.worker_ips.0", "10.0.0.1", None, "is already the head or a worker; remove it"),
    ("onprem", "provider.worker_ips.1", "10.0.0.2", None, "is already the head or a worker; remove it"),
    ("onprem", "provider.worker_ips.1", "127.0.0.1", None, "give an address that all nodes know"),
    ("onprem", "max_workers", 1, None, "is 1, below min_workers 2; raise it"),
]  # fmt: skip


@pytest.mark.parametrize("mutation", BROKEN, ids=names_of(BROKEN))
def test_one_mutation_is_reported(mutation: Mutation, tmp_path: Path) -> None:
    check_mutation(mutation, tmp_path)


@pytest.mark.parametrize(
    ("changes", "exposed"),
    [
        ({"setup_commands.0": "export RAY_AUTH_MODE=token"}, {"head", "worker"}),  # a shell of its own
        ({"setup_commands.0": "echo 'export RAY_AUTH_MODE=token' >> ~/.bashrc"}, set()),
        ({"docker.run_options": ["--env RAY_AUTH_MODE=token"]}, set()),
        ({"docker.run_options": ["--env RAY_AUTH_MODE=tokens"]}, {"head", "worker"}),
        ({"docker.worker_run_options": ["--env RAY_AUTH_MODE=token"]}, {"head"}),
    ],
)
def test_token_authentication_counts_where_it_reaches_ray(
    changes: dict[str, Any], exposed: set[str], tmp_path: Path
) -> None:
    bare = {
        "setup_commands": ["true"],
        "head_start_ray_commands": ["ray start --head --autoscaling-config=~/ray_bootstrap_config.yaml"],
        "worker_start_ray_commands": ["ray start --address=$RAY_HEAD_IP:6379"],
    }
    remedy = "put `export RAY_AUTH_MODE=token;` in front of `ray start`"
    found = {path for path, message in mistakes("aws", {**bare, **changes}, tmp_path) if remedy in message}
    assert found == {f"{who}_start_ray_commands[0]" for who in exposed}


@pytest.mark.parametrize("name", ["aws", "gcp", "azure", "onprem"])
def test_a_cluster_without_tokens_is_reported_for_every_provider(name: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(rendered(name).replace("RAY_AUTH_MODE=token", "X=y"), encoding="utf-8")
    found = {remark.path: remark.finding.message for remark in validate(str(path)).mistakes}
    assert set(found) == {"head_start_ray_commands[1]", "worker_start_ray_commands[1]"}
    assert all("put `export RAY_AUTH_MODE=token;` in front" in message for message in found.values())


@pytest.mark.parametrize("address", ["$RAY_HEAD_IP:$PORT", "$RAY_HEAD_IP", "'$RAY_HEAD_IP:6379'"])
def test_an_address_that_the_shell_fills_in_is_no_mistake(address: str, tmp_path: Path) -> None:
    line = f"{START} --address={address} --object-manager-port=8076"
    assert mistakes("aws", {"worker_start_ray_commands.1": line}, tmp_path) == []


def test_rays_own_machines_may_be_taken(tmp_path: Path) -> None:
    assert mistakes("aws", {"available_node_types": GONE, "head_node_type": GONE}, tmp_path) == []


def test_the_autoscaler_that_leaves_a_host_out_is_noted(tmp_path: Path) -> None:
    onprem = documents("onprem")
    assert validate(write(onprem, tmp_path)).notes == ()
    start = onprem[0]["head_start_ray_commands"][1]
    onprem[0]["head_start_ray_commands"][1] = start.replace("RAY_enable_autoscaler_v2=0", "X=y")
    (note,) = validate(write(onprem, tmp_path)).notes
    assert "one worker will not be started" in note.finding.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"), "dashboard and job server listen on 0.0.0.0"),
        (("--object-manager-port", "--quantum-port"), "`ray start --quantum-port`: unknown option"),
    ],
)
def test_what_may_be_meant_is_noted(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    aws = documents("aws")
    aws[0]["head_start_ray_commands"][1] = aws[0]["head_start_ray_commands"][1].replace(*change)
    report = validate(write(aws, tmp_path))
    assert report.mistakes == ()
    assert [message in note.finding.message for note in report.notes] == [True]


def test_ssh_from_anywhere_is_noted(tmp_path: Path) -> None:
    aws = documents("aws")
    rule = {**WORLD, "FromPort": 22, "ToPort": 22}
    aws[0]["provider"]["security_group"] = {"IpPermissions": [rule]}
    (note,) = validate(write(aws, tmp_path)).notes
    assert "opens SSH to the world" in note.finding.message
