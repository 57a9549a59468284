"""What has to hold in YAML for Ray's launcher beyond its schema: the parts that each provider reads, ports, the token.

Source: ray/autoscaler/_private/{util,aws/config,gcp/config,_azure/config,local/config}.py of Ray 2.60, and the clouds'
references of EC2 RunInstances, Compute Engine instances.insert and Azure virtual machines.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check import fields
from lstm_ray.cluster.check.document import Finding, Place, at
from lstm_ray.cluster.check.schema import unknown
from lstm_ray.cluster.check.versions import version_of_image, versions_in_command
from lstm_ray.cluster.definition.machines import gpus_of, has_gpus, other_cloud
from lstm_ray.cluster.definition.settings import is_loopback

_DEFAULT_MAX_WORKERS = 2  # what Ray fills in
_MACHINE = {"aws": ("InstanceType",), "gcp": ("machineType",), "azure": ("azure_arm_parameters", "vmSize")}
_CLOUDS = tuple(_MACHINE)
# Source: _NODE_PROVIDERS in ray/autoscaler/_private/providers.py.
_PROVIDERS = (*_CLOUDS, "local", "vsphere", "aliyun", "spark", "kuberay", "fake_multinode", "readonly", "external")
_COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
_EVERYBODY = ("0.0.0.0/0", "::/0")


def check_launcher(content: dict[str, Any], ray_version: str) -> Iterator[Finding]:
    """Yields what is wrong with a definition for `ray up`, whether or not its fields have the right types.

    Args:
        content: The document.
        ray_version: That of this installation.
    """
    provider = at(content, ["provider", "type"], str)
    if provider in _CLOUDS:
        yield from _check_node_types(content, str(provider))
        yield from {"aws": _check_aws, "gcp": _check_gcp, "azure": _check_azure}[str(provider)](content)
    elif provider == "local":
        yield from _check_local(content)
    elif provider is not None:
        meant = ["local"] if provider == "onprem" else difflib.get_close_matches(provider, _PROVIDERS, n=1)
        if meant and provider not in _PROVIDERS:
            yield Finding(("provider", "type"), f"is {provider}; did you mean {meant[0]}?")
        else:
            yield Finding(("provider", "type"), f"is {provider}, whose fields are not checked here", "note")
    yield from _check_start(content)
    yield from _check_token(content)
    yield from _check_versions(content, ray_version)
    yield from _check_files(content)


def _types(content: dict[str, Any]) -> Iterator[tuple[str, Place, dict[str, Any]]]:
    """Yields the name, place and fields of each node type."""
    for name, node_type in (at(content, ["available_node_types"], dict) or {}).items():
        if isinstance(node_type, dict):
            yield str(name), ("available_node_types", str(name)), node_type


def _check_node_types(content: dict[str, Any], provider: str) -> Iterator[Finding]:
    if "available_node_types" not in content:
        message = "is missing; Ray's own defaults are taken: name the machines of the head and of the workers"
        yield Finding(("available_node_types",), message, "note")
        return
    names = [name for name, _, _ in _types(content)]
    if not names:
        yield Finding(("available_node_types",), "is missing; name the machines of the head and of the workers")
        return
    head = content.get("head_node_type")
    if head is None:
        yield Finding(("head_node_type",), f"is missing; choose one of {', '.join(names)}")
    elif head not in names:
        yield Finding(("head_node_type",), f"is {head!r}, which is no node type; choose one of {', '.join(names)}")
    total = at(content, ["max_workers"], int)
    total = _DEFAULT_MAX_WORKERS if total is None else total
    kept = 0
    for name, place, node_type in _types(content):
        least, most = at(node_type, ["min_workers"], int) or 0, at(node_type, ["max_workers"], int)
        kept += max(least, 0)
        for field in ("min_workers", "max_workers"):
            value = at(node_type, [field], int)
            if value is not None and value < 0:
                yield Finding((*place, field), f"is {value}; it cannot be below 0")
        if most is not None and least > most:
            yield Finding((*place, "max_workers"), f"is {most}, below min_workers {least}; raise it, or lower that")
        if most is not None and most > total:
            yield Finding((*place, "max_workers"), f"is {most}, but max_workers at the top allows {total}", "note")
        if provider != "aws" and not at(node_type, ["resources"], dict):
            yield Finding((*place, "resources"), "is missing or empty; say what the machine has, such as {CPU: 8}")
        machine = at(node_type, ["node_config", *_MACHINE[provider]], str) or ""
        if named := other_cloud(machine, provider):
            yield Finding((*place, "node_config", *_MACHINE[provider]), f"is {machine}; that is a machine of {named}")
        told, there = at(node_type, ["resources", "GPU"], int), gpus_of(machine)
        if told is not None and there is not None and told > there:
            remedy = f"write {there}" if there else "take it out"
            yield Finding((*place, "resources", "GPU"), f"is more than {machine} has, which is {there}; {remedy}")
        if provider == "gcp" and not re.fullmatch(r"[a-z0-9_-]{1,63}", name):
            yield Finding(place, "becomes a label at Google: use lower-case letters, digits, _ and - only")
    if kept > total:
        yield Finding(("max_workers",), f"is {total}, but the node types' min_workers add up to {kept}; raise it")


def _required(mapping: Any, place: Place, names: dict[str, str]) -> Iterator[Finding]:
    for name, example in names.items():
        if at(mapping, [name]) in (None, ""):
            yield Finding((*place, name), f"is missing; give one, such as {example}")


def _check_aws(content: dict[str, Any]) -> Iterator[Finding]:
    provider = content["provider"]
    yield from _required(provider, ("provider",), {"region": "us-east-1"})
    region = at(provider, ["region"], str)
    if region and not re.fullmatch(r"[a-z]{2,3}(-[a-z]+)+-\d", region):
        zone = re.fullmatch(r"(.*-\d)[a-z]", region)
        remedy = f"the region is {zone[1]}, the rest belongs into availability_zone" if zone else "such as us-east-1"
        yield Finding(("provider", "region"), f"is {region!r}, which is no region of AWS; {remedy}")
    for zone_name in str(at(provider, ["availability_zone"], str) or "").split(","):
        if region and zone_name and not zone_name.strip().startswith(region):
            yield Finding(
                ("provider", "availability_zone"), f"{zone_name} is not in region {region}; take one such as {region}a"
            )
    for number, rule in enumerate(at(provider, ["security_group", "IpPermissions"], list) or []):
        yield from _check_rule(rule, ("provider", "security_group", "IpPermissions", number))
    own_key = bool(at(content, ["auth", "ssh_private_key"]))
    for _, type_place, node_type in _types(content):
        place, node = (*type_place, "node_config"), at(node_type, ["node_config"], dict)
        if node is None:
            continue  # the schema says so
        if "LaunchTemplate" not in node:
            yield from _required(node, place, {"InstanceType": "c7i.2xlarge"})
        for name in node:
            if name not in fields.EC2:
                message = unknown(str(name), fields.EC2)
                yield Finding((*place, str(name)), message, "mistake" if "did you mean" in message else "note")
        if own_key and "KeyName" not in node and "UserData" not in node and "LaunchTemplate" not in node:
            yield Finding(
                (*place, "KeyName"), "is missing; with auth.ssh_private_key Ray wants the key pair's name here"
            )
        market = at(node, ["InstanceMarketOptions", "MarketType"])
        if node.get("InstanceMarketOptions") is not None and market not in ("spot", "capacity-block"):
            yield Finding((*place, "InstanceMarketOptions", "MarketType"), f"is {market!r}; write spot")


def _check_rule(rule: Any, place: Place) -> Iterator[Finding]:
    """Checks that a rule of a security group lets in the whole world for SSH at most."""
    networks = [at(network, ["CidrIp"]) for network in at(rule, ["IpRanges"], list) or []]
    networks += [at(network, ["CidrIpv6"]) for network in at(rule, ["Ipv6Ranges"], list) or []]
    if not any(network in _EVERYBODY for network in networks):
        return
    ports = at(rule, ["FromPort"]), at(rule, ["ToPort"])
    if ports == (22, 22):
        yield Finding(place, "lets everybody try SSH; your own network would do", "note")
    else:
        shown = "all ports" if None in ports or -1 in ports else f"ports {ports[0]} to {ports[1]}"
        message = f"opens {shown} to the world; name your network instead, and reach Ray with `ray dashboard FILE`"
        yield Finding(place, message)


def _check_gcp(content: dict[str, Any]) -> Iterator[Finding]:
    provider = content["provider"]
    names = {"region": "us-central1", "availability_zone": "us-central1-a", "project_id": "your project's id"}
    yield from _required(provider, ("provider",), names)
    region, zone = at(provider, ["region"], str), at(provider, ["availability_zone"], str)
    if region and zone and not re.fullmatch(rf"{re.escape(region)}-[a-z]", zone):
        yield Finding(
            ("provider", "availability_zone"),
            f"is {zone}, which is not in region {region}; take one such as {region}-a",
        )
    for name, type_place, node_type in _types(content):
        place, node = (*type_place, "node_config"), at(node_type, ["node_config"], dict)
        if node is None or "acceleratorType" in node or "acceleratorConfig" in node:
            continue  # the schema says so; or a TPU
        yield from _required(node, place, {"machineType": "n2-standard-8"})
        if not at(node, ["disks"], list) and "sourceInstanceTemplate" not in node and "sourceMachineImage" not in node:
            yield Finding((*place, "disks"), "is missing; a machine needs a disk with an image to start from")
        for number, disk in enumerate(at(node, ["disks"], list) or []):
            if at(disk, ["boot"]) is True and not (
                at(disk, ["initializeParams", "sourceImage"]) or at(disk, ["source"])
            ):
                yield Finding((*place, "disks", number, "initializeParams", "sourceImage"), "is missing; name an image")
        attached, machine = at(node, ["guestAccelerators"], list), str(node.get("machineType"))
        has_gpu = bool(attached) or bool(has_gpus(machine))
        if at(node_type, ["resources", "GPU"]) and not attached and machine.startswith("n1-"):
            yield Finding((*place, "guestAccelerators"), f"is missing; {machine} has no GPU of its own: attach some")
        if has_gpu and "onHostMaintenance" not in str(node.get("scheduling")):
            message = "is missing; a machine with a GPU cannot be moved: set onHostMaintenance: TERMINATE"
            yield Finding((*place, "scheduling"), message)
        if has_gpu and not at(node_type, ["resources", "GPU"]) and name != content.get("head_node_type"):
            yield Finding(
                (*type_place, "resources", "GPU"), "is missing; Ray does not see a GPU here that is not named"
            )


def _check_azure(content: dict[str, Any]) -> Iterator[Finding]:
    yield from _required(
        content["provider"], ("provider",), {"location": "eastus", "resource_group": "a name; it is made if missing"}
    )
    keys = [name for name in ("ssh_private_key", "ssh_public_key") if at(content, ["auth", name])]
    if len(keys) == 1:
        other = "ssh_public_key" if keys == ["ssh_private_key"] else "ssh_private_key"
        yield Finding(("auth", other), "is missing; give both keys, or neither: then Ray makes a pair")
    for _, type_place, node_type in _types(content):
        node = at(node_type, ["node_config"], dict)
        if node is None:
            continue  # the schema says so
        place = (*type_place, "node_config", "azure_arm_parameters")
        parameters = at(node, ["azure_arm_parameters"], dict)
        if parameters is None:
            yield Finding(place, "is missing; it says what machine to rent, such as {vmSize: Standard_D8s_v5, ...}")
            continue
        names = {"vmSize": "Standard_D8s_v5"}
        if "imageId" not in parameters:
            names |= {"imagePublisher": "Canonical", "imageOffer": "ubuntu-24_04-lts", "imageSku": "server"}
            names["imageVersion"] = "latest"
        yield from _required(parameters, place, names)
        priority = parameters.get("priority")
        if priority not in (None, "Regular", "Spot", "Low"):
            yield Finding((*place, "priority"), f"is {priority!r}; choose one of Regular, Spot")


def _check_local(content: dict[str, Any]) -> Iterator[Finding]:
    for name in ("available_node_types", "head_node_type", "head_node", "worker_nodes"):
        if content.get(name):
            yield Finding((name,), "is not for machines of your own; take it out")
    provider = content["provider"]
    if provider.get("coordinator_address"):
        if content.get("max_workers") is None:
            yield Finding(("max_workers",), "is missing; the coordinator has to know how many to hand out")
        return
    yield from _required(provider, ("provider",), {"head_ip": "10.0.0.1"})
    workers = at(provider, ["worker_ips"], list)
    if workers is None:
        yield Finding(("provider", "worker_ips"), "is missing; list the workers' addresses, [] for none")
        workers = []
    head = provider.get("head_ip")
    if workers and is_loopback(str(head)):
        yield Finding(("provider", "head_ip"), f"is {head}, another machine to each; give the address that all know")
    for number, worker in enumerate(workers):
        place: Place = ("provider", "worker_ips", number)
        if worker == head:
            yield Finding(place, f"{worker} is the head; take it out: the head does work too")
        elif worker in workers[:number]:
            yield Finding(place, f"{worker} is there already; take it out")
        elif is_loopback(str(worker)):
            yield Finding(place, f"{worker} is the head to the head; give the address that the other machines know")
    least, most = at(content, ["min_workers"], int), at(content, ["max_workers"], int)
    for name, value in (("min_workers", least), ("max_workers", most)):
        if value is not None and value > len(workers):
            yield Finding((name,), f"is {value}, but there are {len(workers)} worker_ips; lower it, or add some")
    if least is not None and least < 0:
        yield Finding(("min_workers",), f"is {least}; it cannot be below 0")
    if least is not None and most is not None and least > most:
        yield Finding(("min_workers",), f"is {least}, above max_workers {most}; lower it, or raise that")
    yield from _required(content.get("auth"), ("auth",), {"ssh_user": "ubuntu"})
    starts = " ".join(line for _, line in _lines(content, "head_start_ray_commands"))
    if len(workers) > 1 and "RAY_enable_autoscaler_v2=0" not in starts:
        message = "leaves a host out with Ray 2.60, whose autoscaler v2 takes the head for a worker; put"
        place = ("head_start_ray_commands",)
        yield Finding(place, f"{message} `export RAY_enable_autoscaler_v2=0;` in front of `ray start`", "note")


def _lines(content: dict[str, Any], name: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(at(content, [name], list) or []) if isinstance(line, str)]


def _check_start(content: dict[str, Any]) -> Iterator[Finding]:
    port = "6379"
    heads, workers = _lines(content, "head_start_ray_commands"), _lines(content, "worker_start_ray_commands")
    starts = [(number, line) for number, line in heads if "ray start" in line]
    if heads and not any("--head" in line for _, line in starts):
        yield Finding(("head_start_ray_commands",), "has no `ray start --head`; without it there is no cluster")
    for number, line in starts:
        place: Place = ("head_start_ray_commands", number)
        found = re.search(r"--port[= ](\d+)", line)
        port = found[1] if found else port
        if "--head" in line and "--autoscaling-config" not in line:
            message = "has no --autoscaling-config=~/ray_bootstrap_config.yaml; without it no worker is started"
            yield Finding(place, message)
        host = re.search(r"--dashboard-host[= ](\S+)", line)
        if host and host[1].strip("'\"") not in ("127.0.0.1", "localhost", "::1"):
            message = (
                f"lets the dashboard and job server listen on {host[1]}; 127.0.0.1 is enough for `ray dashboard FILE`"
            )
            yield Finding(place, message, "note")
    for number, line in workers:
        if "ray start" in line:
            address = re.search(r"--address[= ]\S+?(?::(\d+))?(?=[\s;'\"]|$)", line)
            place = ("worker_start_ray_commands", number)
            if not address:
                yield Finding(place, "has no --address=$RAY_HEAD_IP:6379; without it a worker finds no head")
            elif address[1] not in (None, port):
                yield Finding(place, f"goes to port {address[1]}; the head listens on {port}")


def _check_token(content: dict[str, Any]) -> Iterator[Finding]:
    # Each command has a shell of its own, which reads ~/.bashrc; docker's options hold for what runs in the container.
    profile = [
        line for _, line in _lines(content, "setup_commands") if re.search(r"\.(bashrc|bash_profile|profile)", line)
    ]
    for who in ("head", "worker"):
        options = [str(option) for name in ("run_options", f"{who}_run_options") for option in _docker(content, name)]
        elsewhere = " ".join([*profile, *options])
        name = f"{who}_start_ray_commands"
        lines = [(number, line) for number, line in _lines(content, name) if "ray start" in line]
        if not lines or not all("RAY_AUTH_MODE=token" in line + elsewhere for _, line in lines):
            place: Place = (name, lines[0][0]) if lines else (name,)
            message = (
                "starts Ray without a token: whoever reaches a port of it can run anything there; "
                "put `export RAY_AUTH_MODE=token;` in front of `ray start`"
            )
            yield Finding(place, message)
    mounts = at(content, ["file_mounts"], dict) or {}
    commands = " ".join(line for name in _COMMANDS for _, line in _lines(content, name))
    commands += " ".join(map(str, _docker(content, "run_options")))
    if not any(str(remote).endswith("auth_token") for remote in mounts) and "RAY_AUTH_TOKEN_PATH" not in commands:
        message = 'has no token for the nodes; add "~/.ray/auth_token": "~/.ray/auth_token"'
        yield Finding(("file_mounts",), message)


def _docker(content: dict[str, Any], name: str) -> list[Any]:
    return at(content, ["docker", name], list) or []


def _check_versions(content: dict[str, Any], ray_version: str) -> Iterator[Finding]:
    found: list[tuple[Place, str]] = []
    for name in ("image", "head_image", "worker_image"):
        image = at(content, ["docker", name], str)
        version = version_of_image(image) if image else None
        found += [(("docker", name), version)] if version else []
    for name in _COMMANDS:
        for number, line in _lines(content, name):
            found += [((name, number), version) for version in versions_in_command(line)]
    for place, version in found:
        if version != found[0][1]:
            message = f"has Ray {version}, but {found[0][1]} stands before; all of a cluster must have the same"
            yield Finding(place, message)
    if found and found[0][1] != ray_version:
        message = f"has Ray {found[0][1]}, this installation {ray_version}; `up` and ray:// want the same on both sides"
        yield Finding(found[0][0], message, "note")


def _check_files(content: dict[str, Any]) -> Iterator[Finding]:
    mounts = at(content, ["file_mounts"], dict) or {}
    places = [(("file_mounts", str(remote)), local) for remote, local in mounts.items()]
    for name in ("ssh_private_key", "ssh_public_key"):
        places.append((("auth", name), at(content, ["auth", name])))
    for place, local in places:
        if isinstance(local, str) and not os.path.exists(os.path.expanduser(local)):
            remedy = "put it there, or name another"
            if local.endswith("auth_token"):
                remedy = "make it with `ray get-auth-token --generate`"
            elif place[1].startswith("~/lstm-ray/"):
                remedy = "use the definition in a checkout of lstm-ray"
            seen = "" if local.startswith(("/", "~")) else ", seen from this directory"
            yield Finding(place, f"{local} is not there{seen}; {remedy}", "to do")
