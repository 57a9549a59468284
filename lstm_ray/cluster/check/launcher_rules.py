"""Rules for launcher YAML that neither its schema, the launcher nor the cloud checks.

Tokens, open ports, commands that start Ray, addresses of machines, matching versions, files on this machine.

Source: ray/autoscaler/_private/{util,local/config}.py of Ray 2.60.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import FieldPath, Finding, at, strings
from lstm_ray.cluster.check.entrypoint import shell_commands
from lstm_ray.cluster.check.ray_files import check_start_options
from lstm_ray.cluster.check.versions import as_numbers, check_agreement, python_of_image, ray_of_image, rays_in_command
from lstm_ray.cluster.definition.addresses import is_host, is_loopback

_COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
_WORLD = ("0.0.0.0/0", "::/0")
_TOKEN_ON = re.compile(r"(?<!\w)RAY_AUTH_MODE=(['\"]?)token\1(?![\w-])")


def check_launcher(content: dict[str, Any], ray_version: str) -> Iterator[Finding]:
    """Yields findings about a definition for `ray up`. Its fields may have wrong types.

    Args:
        content: The document.
        ray_version: The version of Ray in this installation.
    """
    yield from _check_counts(content)
    if at(content, ["provider", "type"]) == "local":
        yield from _check_machines(content)
    yield from _check_security_group(content)
    yield from _check_start(content)
    yield from _check_token(content)
    yield from _check_versions(content, ray_version)
    yield from _check_files(content)


def _check_counts(content: dict[str, Any]) -> Iterator[Finding]:
    levels: list[tuple[FieldPath, Any]] = [((), content)]
    for name, node_type in (at(content, ["available_node_types"], dict) or {}).items():
        levels.append((("available_node_types", str(name)), node_type))
    for base, level in levels:
        least, most = at(level, ["min_workers"], int), at(level, ["max_workers"], int)
        if least is not None and most is not None and least > most:
            message = f"is {most}, below min_workers {least}; raise it, or lower min_workers"
            yield Finding((*base, "max_workers"), message)


def _check_machines(content: dict[str, Any]) -> Iterator[Finding]:
    """Checks the addresses of the user's own machines."""
    provider = content["provider"]
    workers = at(provider, ["worker_ips"], list) or []
    hosts: list[tuple[FieldPath, Any]] = [(("provider", "head_ip"), provider.get("head_ip"))]
    hosts += [(("provider", "worker_ips", index), host) for index, host in enumerate(workers)]
    known: list[str] = []
    for field, host in hosts:
        if host is None:
            continue
        if not isinstance(host, str) or not is_host(host):
            yield Finding(field, f"{host!r} is neither an IPv4 address nor a host name; correct it")
        elif workers and is_loopback(host):
            yield Finding(field, f"{host} is a different machine on each node; give an address that all nodes know")
        elif host in known:
            yield Finding(field, f"{host} is already the head or a worker; remove it: the head does work too")
        known.append(host)
    starts = " ".join(line for _, line in strings(content, ["head_start_ray_commands"]))
    if len(workers) > 1 and "RAY_enable_autoscaler_v2=0" not in starts:
        message = (
            "one worker will not be started with Ray 2.60, whose autoscaler v2 counts the head as a worker; "
            "put `export RAY_enable_autoscaler_v2=0;` in front of `ray start`"
        )
        yield Finding(("head_start_ray_commands",), message, "note")


def _check_security_group(content: dict[str, Any]) -> Iterator[Finding]:
    """Checks that an AWS security group opens no port except SSH to the world."""
    base: FieldPath = ("provider", "security_group", "IpPermissions")
    for index, rule in enumerate(at(content, base, list) or []):
        networks = [at(network, ["CidrIp"]) for network in at(rule, ["IpRanges"], list) or []]
        networks += [at(network, ["CidrIpv6"]) for network in at(rule, ["Ipv6Ranges"], list) or []]
        if not any(network in _WORLD for network in networks):
            continue
        ports = at(rule, ["FromPort"]), at(rule, ["ToPort"])
        if ports == (22, 22):
            yield Finding((*base, index), "opens SSH to the world; your own network is enough", "note")
        else:
            shown = "all ports" if None in ports or -1 in ports else f"ports {ports[0]} to {ports[1]}"
            message = f"opens {shown} to the world; name your network, and reach Ray with `ray dashboard FILE`"
            yield Finding((*base, index), message)


def _check_start(content: dict[str, Any]) -> Iterator[Finding]:
    heads, workers = _ray_starts(content, "head"), _ray_starts(content, "worker")
    misspelt = [finding for field, options in [*heads, *workers] for finding in check_start_options(options, field)]
    yield from misspelt
    has_head = any("--head" in options for _, options in heads)
    if at(content, ["head_start_ray_commands"], list) and not has_head and not misspelt:
        yield Finding(("head_start_ray_commands",), "has no `ray start --head`; without it there is no cluster")
    port = "6379"
    for field, options in heads:
        port = options.get("--port", port)
        if "--autoscaling-config" not in options:
            message = "has no --autoscaling-config=~/ray_bootstrap_config.yaml; without it no worker is started"
            yield Finding(field, message)
        host = options.get("--dashboard-host", "127.0.0.1")
        if host not in ("127.0.0.1", "localhost", "::1"):
            message = f"dashboard and job server listen on {host}; 127.0.0.1 is enough for `ray dashboard FILE`"
            yield Finding(field, message, "note")
    for field, options in workers:
        address = options.get("--address")
        if not address:
            yield Finding(field, "has no --address=$RAY_HEAD_IP:6379; without it a worker does not find the head")
        elif address.rpartition(":")[2].isdigit() and ":" in address and address.rpartition(":")[2] != port:
            yield Finding(field, f"connects to port {address.rpartition(':')[2]}; the head listens on {port}")


def _ray_starts(content: dict[str, Any], who: str) -> list[tuple[FieldPath, dict[str, str]]]:
    """Returns the fields of the head's or workers' `ray start` commands, and their options by name."""
    found: list[tuple[FieldPath, dict[str, str]]] = []
    for index, line in strings(content, [f"{who}_start_ray_commands"]):
        try:
            commands = shell_commands(line)
        except ValueError:
            continue  # an unclosed quotation mark, which the shell reports
        for words in commands:
            for position in range(len(words) - 1):
                if words[position].rsplit("/", 1)[-1] == "ray" and words[position + 1] == "start":
                    found.append(((f"{who}_start_ray_commands", index), _options(words[position + 2 :])))
    return found


def _options(words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for word, following in itertools.pairwise([*words, ""]):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            options[name] = value if equals else following
    return options


def _check_token(content: dict[str, Any]) -> Iterator[Finding]:
    # Each command runs in its own shell, which reads ~/.bashrc; docker's options apply inside the container.
    profile = [
        line for _, line in strings(content, ["setup_commands"]) if re.search(r"\.(bashrc|bash_profile|profile)", line)
    ]
    for who in ("head", "worker"):
        options = [option for name in ("run_options", f"{who}_run_options") for option in _docker(content, name)]
        elsewhere = " ".join([*profile, *options])
        name = f"{who}_start_ray_commands"
        lines = [(index, line) for index, line in strings(content, [name]) if "ray start" in line]
        if not lines or not all(_TOKEN_ON.search(f"{line} {elsewhere}") for _, line in lines):
            field: FieldPath = (name, lines[0][0]) if lines else (name,)
            message = (
                "starts Ray without token authentication: anyone who reaches a port of Ray can run code there; "
                "put `export RAY_AUTH_MODE=token;` in front of `ray start`"
            )
            yield Finding(field, message)
    mounts = at(content, ["file_mounts"], dict) or {}
    commands = " ".join(line for name in _COMMANDS for _, line in strings(content, [name]))
    commands += " ".join(_docker(content, "run_options"))
    if not any(str(remote).endswith("auth_token") for remote in mounts) and "RAY_AUTH_TOKEN_PATH" not in commands:
        message = 'has no token for the nodes; add "~/.ray/auth_token": "~/.ray/auth_token"'
        yield Finding(("file_mounts",), message)


def _docker(content: dict[str, Any], name: str) -> list[str]:
    return [value for _, value in strings(content, ["docker", name])]


def _check_versions(content: dict[str, Any], ray_version: str) -> Iterator[Finding]:
    mentions: list[tuple[FieldPath, str, str | None]] = []
    for name in ("image", "head_image", "worker_image"):
        if image := at(content, ["docker", name], str):
            mentions.append((("docker", name), "Ray", ray_of_image(image)))
            mentions.append((("docker", name), "Python", python_of_image(image)))
    for name in _COMMANDS:
        for index, line in strings(content, [name]):
            mentions += [((name, index), "Ray", version) for version in rays_in_command(line)]
    yield from check_agreement(mentions)
    first = next(((field, version) for field, program, version in mentions if program == "Ray" and version), None)
    if first and as_numbers(first[1]) != as_numbers(ray_version):
        message = f"has Ray {first[1]}, this installation {ray_version}; `up` and ray:// need the same on both sides"
        yield Finding(first[0], message, "note")


def _check_files(content: dict[str, Any]) -> Iterator[Finding]:
    mounts = at(content, ["file_mounts"], dict) or {}
    files: list[tuple[FieldPath, Any]] = [(("file_mounts", str(remote)), local) for remote, local in mounts.items()]
    for name in ("ssh_private_key", "ssh_public_key"):
        files.append((("auth", name), at(content, ["auth", name])))
    for field, local in files:
        if isinstance(local, str) and not os.path.exists(os.path.expanduser(local)):
            remedy = "put it there, or name another file"
            if local.endswith("auth_token"):
                remedy = "make it with `ray get-auth-token --generate`"
            elif str(field[1]).startswith("~/lstm-ray/"):
                remedy = "use the definition in a checkout of lstm-ray"
            relative = "" if local.startswith(("/", "~")) else " in this directory"
            yield Finding(field, f"{local} does not exist{relative}; {remedy}", "to do")
