"""Good launcher definitions broken by one mutation each, and the mistake told with its path and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from definitions import GONE, RAY, Mutation, check_mutation, mistakes, names_of

pytestmark = pytest.mark.usefixtures("bare_machine")

NODE = "available_node_types.worker.node_config"
VM = f"{NODE}.azure_arm_parameters"
GPUS = "available_node_types.worker.resources.GPU"
SPOT = f"{NODE}.InstanceMarketOptions"
RULES = "provider.security_group.IpPermissions"
TYPES = {"a": {"resources": {}, "node_config": {}}}
WORLD = {"FromPort": 8265, "ToPort": 8265, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
START = "export RAY_AUTH_MODE=token; ray start"

BROKEN: list[Mutation] = [
    ("aws", "cluster_name", GONE, None, "is missing"),
    ("aws", "cluster_name", 7, None, "is 7; it should be a text"),
    ("aws", "max_worker", 4, None, "did you mean max_workers?"),
    ("aws", "max_workers", -1, None, "is -1; it should be 0 at least"),
    ("aws", "max_workers", "four", None, "is 'four'; it should be a whole number"),
    ("aws", "available_node_types.worker.min_workers", 9, "max_workers", "min_workers add up to 9"),
    ("aws", "available_node_types.worker.max_workers", -2, None, "cannot be below 0"),
    ("aws", "head_node_type", "haed", None, "is no node type; choose one of head, worker"),
    ("aws", "head_node_type", GONE, None, "is missing; choose one of head, worker"),
    ("aws", "available_node_types", {}, None, "name the machines"),
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
    ("gcp", f"{NODE}.machineType", "n2-standard-8", GPUS, "which is 0; take it out"),
    ("gcp", f"{NODE}.disks", GONE, None, "an image to start from"),
    ("gcp", f"{NODE}.disks.0.initializeParams.sourceImage", GONE, None, "name an image"),
    ("gcp", f"{NODE}.scheduling", GONE, None, "onHostMaintenance: TERMINATE"),
    ("gcp", "available_node_types.worker.resources.GPU", GONE, None, "Ray does not see a GPU"),
    ("gcp", "available_node_types.worker.resources.CPU", 1.5, None, "should be a whole number"),
    ("gcp", GPUS, 4, None, "has, which is 1; write 1"),
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
    ("azure", "docker.run_options.1", "--env RAY_AUTH_TOKEN=abc", "docker.run_options.1", "holds the token itself"),
    ("aws", f"{NODE}.InstanceType", "n2-standard-8", None, "that is a machine of gcp"),
    ("gcp", f"{NODE}.machineType", "n1-standard-8", f"{NODE}.guestAccelerators", "attach some"),
    ("onprem", "provider.head_ip", "localhost", None, "give the address that all know"),
    ("onprem", "provider.head_ip", GONE, None, "is missing"),
    ("onprem", "provider.worker_ips", GONE, None, "list the workers' addresses"),
    ("onprem", "provider.worker_ips.0", "10.0.0.1", None, "is the head; take it out"),
    ("onprem", "provider.worker_ips.1", "10.0.0.2", None, "is there already"),
    ("onprem", "provider.worker_ips.1", "127.0.0.1", None, "the address that the other machines know"),
    ("onprem", "max_workers", 5, None, "there are 2 worker_ips"),
    ("onprem", "max_workers", 1, "min_workers", "above max_workers 1"),
    ("onprem", "available_node_types", TYPES, None, "not for machines of your own"),
    ("onprem", "auth.ssh_user", GONE, None, "is missing"),
]  # fmt: skip


@pytest.mark.parametrize("mutation", BROKEN, ids=names_of(BROKEN))
def test_one_mutation_is_told(mutation: Mutation, tmp_path: Path) -> None:
    check_mutation(mutation, tmp_path)


@pytest.mark.parametrize(
    ("changes", "exposed"),
    [
        ({"setup_commands.0": "export RAY_AUTH_MODE=token"}, {"head", "worker"}),  # a shell of its own
        ({"setup_commands.0": "echo 'export RAY_AUTH_MODE=token' >> ~/.bashrc"}, set()),
        ({"docker.run_options": ["--env RAY_AUTH_MODE=token"]}, set()),
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
    found = {path for path, message in mistakes("aws", {**bare, **changes}, tmp_path) if "without a token" in message}
    assert found == {f"{who}_start_ray_commands[0]" for who in exposed}


@pytest.mark.parametrize("address", ["$RAY_HEAD_IP:$PORT", "$RAY_HEAD_IP", "'$RAY_HEAD_IP:6379'"])
def test_an_address_that_the_shell_fills_in_is_no_mistake(address: str, tmp_path: Path) -> None:
    line = f"{START} --address={address} --object-manager-port=8076"
    assert mistakes("aws", {"worker_start_ray_commands.1": line}, tmp_path) == []


def test_rays_own_machines_may_be_taken(tmp_path: Path) -> None:
    assert mistakes("aws", {"available_node_types": GONE, "head_node_type": GONE}, tmp_path) == []
