"""Renders a cluster definition from templates: `lstm-ray cluster render`."""

from __future__ import annotations

import functools
import json
import os
import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_ray.cluster.check.document import parse as parse_yaml
from lstm_ray.cluster.check.entrypoint import ParseCommand
from lstm_ray.cluster.check.validate import check
from lstm_ray.cluster.definition import machines
from lstm_ray.cluster.definition.addresses import is_ip
from lstm_ray.cluster.definition.cloud_packages import CLOUD_PACKAGES
from lstm_ray.cluster.definition.settings import PROVIDERS, ClusterConfig
from lstm_ray.errors import ConfigError, OutputError
from lstm_ray.wording import counted

if TYPE_CHECKING:
    import jinja2

_COMMENT_COLUMN = 52
# Values that need no quotes: they begin like a word or path, and contain nothing that YAML would interpret.
_PLAIN = re.compile(r"[A-Za-z~./][\w./@+=~-]*((://?|:)[\w./@+=~-]+)?")
_NOT_STRINGS = {"true", "false", "yes", "no", "on", "off", "null", "~", "y", "n"}
_COMMENT = re.compile(r"^(.*?\S)  +# ", re.MULTILINE)

_REGIONS = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}
_STORAGE = {
    "aws": "s3://my-bucket/lstm-ray",
    "gcp": "gs://my-bucket/lstm-ray",
    "azure": "abfs://my-container@my-account.dfs.core.windows.net/lstm-ray",
}
_SHARED_DIRECTORY = "/mnt/lstm-ray"
_POD_CPUS = 4
_HEAD_POD = {"cpus": 2, "memory": 8, "gpus": 0}


def render(config: ClusterConfig, ray_version: str | None = None, parse: ParseCommand | None = None) -> str:
    """Returns a complete definition: YAML for Ray's launcher or for KubeRay, with comments.

    Args:
        config: The settings of the cluster.
        ray_version: The version of Ray on the nodes; by default that of this installation.
        parse: Parses a command line of lstm-ray; None leaves the entrypoint unchecked.

    Raises:
        ConfigError: There is no provider, the cores or GPUs of a machine type are unknown, or the definition would
            contain a mistake.
    """
    if config.provider is None:
        raise ConfigError(f"--provider is missing: one of {', '.join(PROVIDERS)}")
    ray_version = ray_version or version("ray")
    storage = config.storage or _STORAGE.get(config.provider, _SHARED_DIRECTORY)
    least, most = config.worker_limits
    values = {
        **config.model_dump(),
        "command": config.command,
        "ray_version": ray_version,
        "least": least,
        "most": most,
        "storage": storage,
        "storage_is_mounted": "://" not in storage,
    }
    if config.provider == "kuberay":
        template, more = "kuberay.yaml.j2", _kuberay_values(config, ray_version)
    else:
        template, more = "launcher.yaml.j2", _launcher_values(config)
    text = _aligned(_templates().get_template(template).render(values | more))
    if mistakes := check(parse_yaml(text, "the definition"), "the definition", parse=parse).mistakes:
        lines = "\n".join(f"  {remark.path}: {remark.finding.message}" for remark in mistakes)
        raise ConfigError(f"these settings make a definition with {counted(len(mistakes), 'mistake')}:\n{lines}")
    return text


def write(text: str, path: Path, *, overwrite: bool) -> None:
    """Writes a definition to a file.

    Raises:
        OutputError: The file cannot be written, or contains another definition and may not be overwritten.
    """
    from lstm_ray.storage import write_bytes  # loads pyarrow, which a definition that is printed does not need

    if os.path.isdir(path):
        raise OutputError(f"{path}: is a directory: give a file")
    if os.path.exists(path) and not overwrite and path.read_bytes() not in (b"", text.encode()):
        raise OutputError(f"{path}: contains another definition, perhaps edited by hand: use --overwrite to replace it")
    write_bytes(str(path), text.encode())


def _launcher_values(config: ClusterConfig) -> dict[str, Any]:
    provider = str(config.provider)
    exports = "RAY_AUTH_MODE=token"
    if not config.image:
        exports = f"PATH={config.venv.replace('~', '$HOME', 1)}/bin:$PATH {exports}"
    values = {"environment": f"export {exports}", "installs": config.install and not config.image}
    if provider == "onprem":
        head, *workers = config.host_list
        return values | {"head_host": head, "worker_hosts": workers}
    worker = machines.worker_machine(provider, config.gpus_per_node, config.instance_type)
    cores = config.cpus_per_node or machines.cores(worker)
    if cores is None and provider != "aws":  # Ray asks only Amazon's cloud
        raise ConfigError(f"--instance-type {worker}: the cores are not part of its name: add --cpus-per-node")
    return values | {
        "region": config.region or _REGIONS[provider],
        "cloud_packages": CLOUD_PACKAGES[provider],
        "cpus_per_node": cores,
        "head": {
            "is_head": True,
            "machine": config.head_instance_type or machines.HEADS[provider],
            "gpus": 0,
            "remark": "small: it runs no work",
        },
        "worker": {
            "is_head": False,
            "machine": worker,
            "gpus": config.gpus_per_node,
            "remark": "must be offered in the region, and within your quota",
        },
    }


def _kuberay_values(config: ClusterConfig, ray_version: str) -> dict[str, Any]:
    worker = {
        "cpus": config.cpus_per_node or _POD_CPUS,
        "memory": config.memory_per_node,
        "gpus": config.gpus_per_node,
    }
    return {
        "image": config.image or f"lstm-ray:ray-{ray_version}",
        "head": {**_HEAD_POD, "is_head": True, "machine": config.head_instance_type, "spot": False},
        "worker": {**worker, "is_head": False, "machine": config.instance_type, "spot": config.spot},
    }


def yaml_scalar(value: str | int | float | bool) -> str:
    """Returns a value as YAML, quoted if necessary: `a-word`, `"1"`, `1`, `true`."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_STRINGS:
        return value
    return json.dumps(value)  # YAML reads all of JSON


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    directory = files(__package__) / "templates"
    environment = jinja2.Environment(
        # A tab marks comments in templates: a value may look like a comment, but cannot contain a tab.
        loader=jinja2.FunctionLoader(lambda name: _COMMENT.sub("\\1\t# ", (directory / name).read_text("utf-8"))),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # YAML, not HTML: the filter `yaml` quotes
    )
    environment.filters["yaml"] = yaml_scalar
    environment.tests["ip"] = is_ip
    return environment


def _aligned(text: str) -> str:
    """Aligns the comments in one column, except after longer lines."""
    lines = []
    for line in text.split("\n"):
        code, tab, comment = line.partition("\t")
        lines.append(f"{code.ljust(_COMMENT_COLUMN)}  {comment}" if tab else code)
    return "\n".join(lines)
