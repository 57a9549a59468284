"""The settings of `lstm-ray cluster render`, for all providers."""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import Any, Literal, get_args

from pydantic import field_validator, model_validator

from lstm_ray.cluster.definition.addresses import is_host, is_loopback
from lstm_ray.config import Settings, as_option, fields_in_order, meaning_of, option_name, setting
from lstm_ray.wording import are, counted, either

Provider = Literal["aws", "gcp", "azure", "onprem", "kuberay"]
_CLOUDS = ("aws", "gcp", "azure")

# A DNS-1035 label, as Kubernetes requires; KubeRay appends to a job's name, which leaves 47 characters.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?")
_WORKERS = re.compile(r"(0|[1-9]\d*)(:(0|[1-9]\d*))?")
_MOST_WORKERS = 100_000
_IMAGE = re.compile(r"([\w.-]+(:\d+)?/)?[a-z0-9._/-]+(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ClusterConfig(Settings):
    """The settings of a cluster definition."""

    provider: Provider | None = setting(
        None,
        "Cloud to use (aws, gcp or azure), or your own machines over SSH (onprem), or Kubernetes (kuberay).",
        panel="Cluster",
    )
    name: str = setting("lstm-ray", "Name of the cluster.", panel="Cluster", metavar="NAME")
    workers: str | None = setting(
        None,
        "Minimum and maximum number of worker nodes; by default 0:4, and on premises all hosts.",
        panel="Cluster",
        metavar="MIN:MAX",
        coerce_numbers_to_str=True,
    )
    region: str | None = setting(
        None,
        "Region of the machines; by default us-east-1, us-central1 or eastus.",
        panel="Cluster",
        metavar="NAME",
        only_for=_CLOUDS,
    )
    zone: str | None = setting(
        None,
        "Zone in the region; on aws several zones, separated by commas; on gcp by default zone a.",
        panel="Cluster",
        only_for=("aws", "gcp"),
    )
    project: str = setting(
        "my-project", "Google Cloud project that is billed.", panel="Cluster", metavar="ID", only_for=("gcp",)
    )
    resource_group: str = setting(
        "lstm-ray", "Azure resource group; created if missing.", panel="Cluster", metavar="NAME", only_for=("azure",)
    )
    namespace: str = setting("default", "Kubernetes namespace.", panel="Cluster", metavar="NAME", only_for=("kuberay",))
    hosts: str | None = setting(
        None,
        "Addresses at which your machines reach each other, separated by commas; the first is the head.",
        panel="Cluster",
        metavar="A,B,C",
        only_for=("onprem",),
    )
    entrypoint: str | None = setting(
        None,
        "Command to run; renders a RayJob, which starts a cluster, runs the command and deletes the cluster.",
        panel="Cluster",
        metavar="COMMAND",
        only_for=("kuberay",),
    )
    instance_type: str | None = setting(
        None,
        "Machine type of the workers; by default one with --gpus-per-node GPUs.",
        panel="Nodes",
        only_for=(*_CLOUDS, "kuberay"),
    )
    head_instance_type: str | None = setting(
        None, "Machine type of the head, which runs no workers.", panel="Nodes", only_for=(*_CLOUDS, "kuberay")
    )
    cpus_per_node: int | None = setting(
        None,
        "CPU cores per worker node; by default derived from the machine type's name, or 4 on Kubernetes.",
        panel="Nodes",
        ge=1,
        only_for=("gcp", "azure", "kuberay"),
    )
    gpus_per_node: int = setting(
        0, "GPUs of a worker node.", panel="Nodes", ge=0, le=16, only_for=(*_CLOUDS, "kuberay")
    )
    memory_per_node: int = setting(16, "Memory of a worker pod, in GiB.", panel="Nodes", ge=1, only_for=("kuberay",))
    spot: bool = setting(
        False,
        "Use spot machines as workers: cheaper, but the cloud may reclaim them at any time.",
        panel="Nodes",
        flag=True,
        only_for=(*_CLOUDS, "kuberay"),
    )
    image: str | None = setting(
        None,
        "Container image with lstm-ray, such as cluster/Dockerfile builds; without one, nodes install it with pip.",
        panel="Nodes",
    )
    install: bool = setting(
        True, "Install lstm-ray on the nodes with pip.", panel="Nodes", only_for=(*_CLOUDS, "onprem")
    )
    venv: str = setting(
        "~/lstm-ray/.venv",
        "Virtual environment of lstm-ray on the nodes.",
        panel="Nodes",
        only_for=(*_CLOUDS, "onprem"),
    )
    storage: str | None = setting(
        None,
        "Where inputs, models and results are stored: s3:// gs:// abfs:// URI, or a directory that all nodes mount.",
        panel="Nodes",
        metavar="PATH",
    )
    storage_claim: str = setting(
        "lstm-ray",
        "Persistent volume claim behind --storage, if that is a directory.",
        panel="Nodes",
        metavar="NAME",
        only_for=("kuberay",),
    )
    ssh_user: str = setting(
        "ubuntu", "User to log in as on the nodes.", panel="Access", metavar="NAME", only_for=(*_CLOUDS, "onprem")
    )
    ssh_key: str | None = setting(
        None,
        "Private key to log in with; by default Ray creates one on clouds, and uses ~/.ssh/id_ed25519 on premises.",
        panel="Access",
        metavar="FILE",
        only_for=(*_CLOUDS, "onprem"),
    )
    instance_profile: str = setting(
        "lstm-ray",
        "AWS instance profile of the workers, for access to S3; that of the head has the suffix -head.",
        panel="Access",
        metavar="NAME",
        only_for=("aws",),
    )
    dashboard_host: str = setting(
        "127.0.0.1",
        "Address that the head's dashboard and job server listen on; a loopback address is reached through SSH.",
        panel="Access",
        metavar="IP",
        only_for=(*_CLOUDS, "onprem"),
    )

    @property
    def worker_limits(self) -> tuple[int, int]:
        """Returns the minimum and the maximum number of worker nodes."""
        if self.workers is None:
            return (len(self.host_list) - 1,) * 2 if self.provider == "onprem" else (0, 4)
        least, _, most = self.workers.partition(":")
        return int(least), int(most or least)

    @property
    def host_list(self) -> list[str]:
        """Returns the hosts, the head first."""
        return [host.strip() for host in (self.hosts or "").split(",") if host.strip()]

    @property
    def command(self) -> str:
        """Returns the command line that renders this definition, with the settings that differ from their defaults."""
        options = [
            as_option(name, value if isinstance(value, bool) else shlex.quote(str(value)))
            for name in fields_in_order(type(self))
            if (value := getattr(self, name)) != type(self).model_fields[name].default
        ]
        return " ".join(["lstm-ray cluster render", *options])

    @field_validator("*", mode="after")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        # The values end up in YAML, some in shell commands: a line break in one would start another.
        if isinstance(value, str) and (not value.strip() or _UNPRINTABLE.search(value)):
            raise ValueError("should be one line of printable characters, not empty")
        return value

    @field_validator("name")
    @classmethod
    def _is_label(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("should have at most 47 lower-case letters, digits and hyphens, beginning with a letter")
        return value

    @field_validator("workers")
    @classmethod
    def _is_range(cls, value: str | None) -> str | None:
        if value is not None:
            if not _WORKERS.fullmatch(value):
                raise ValueError("should be N or MIN:MAX, such as 4 or 0:8")
            least, _, most = value.partition(":")
            if int(least) > int(most or least):
                raise ValueError("the first number is the least, the second the most")
            if int(most or least) > _MOST_WORKERS:
                raise ValueError(f"should be at most {_MOST_WORKERS:,}")
        return value

    @field_validator(
        *("venv", "ssh_key", "storage", "storage_claim", "image", "ssh_user", "dashboard_host", "project"),
        *("instance_type", "head_instance_type", "instance_profile", "region", "zone", "namespace"),
    )
    @classmethod
    def _is_safe_in_a_shell(cls, value: str | None) -> str | None:
        if value is not None and re.search(r"[\s'\"`$\\;&|<>(){}*!#]", value):
            raise ValueError("should have no spaces, quotes or other special characters of a shell")
        return value

    @field_validator("storage", "venv")
    @classmethod
    def _is_absolute(cls, value: str | None) -> str | None:
        if value is not None and "://" not in value and not value.startswith(("/", "~/")):
            raise ValueError("should be an absolute path, the same on all nodes")
        return value

    @field_validator("image")
    @classmethod
    def _is_image(cls, value: str | None) -> str | None:
        if value is not None and not _IMAGE.fullmatch(value):
            raise ValueError("should be the name of an image: REGISTRY/NAME:TAG, the name in lower case")
        return value

    @field_validator("dashboard_host")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value != "localhost":
            ipaddress.ip_address(value)
        return value

    @field_validator("entrypoint")
    @classmethod
    def _is_closed(cls, value: str | None) -> str | None:
        shlex.split(value or "")  # raises ValueError if a quotation is not closed
        return value

    @model_validator(mode="after")
    def _fits_the_provider(self) -> ClusterConfig:
        if self.provider is None:
            return self
        for name, providers in meaning_of(type(self), "only_for").items():
            if getattr(self, name) != type(self).model_fields[name].default and self.provider not in providers:
                raise ValueError(f"{option_name(name)} is for provider {either(providers)}, not {self.provider}")
        return self

    @model_validator(mode="after")
    def _has_an_effect(self) -> ClusterConfig:
        defaults = type(self).model_fields
        for name, other, why in (
            ("venv", self.image, "--image contains lstm-ray"),
            ("install", self.image, "--image contains lstm-ray"),
            ("storage_claim", "://" in (self.storage or ""), "--storage is a URI"),
        ):
            if other and getattr(self, name) != defaults[name].default:
                raise ValueError(f"{option_name(name)} has no effect: {why}: leave it out")
        return self

    @model_validator(mode="after")
    def _knows_its_hosts(self) -> ClusterConfig:
        if self.provider != "onprem":
            return self
        hosts = self.host_list
        if not hosts:
            raise ValueError("provider onprem needs --hosts: your machines, separated by commas, the head first")
        for host in hosts:
            if not is_host(host):
                raise ValueError(f"--hosts: {host!r} is neither an IPv4 address nor a host name")
            if len(hosts) > 1 and is_loopback(host):
                raise ValueError(
                    f"--hosts: {host} is a different machine on each of them: give an address that is valid on all"
                )
        if len({host.lower() for host in hosts}) < len(hosts):
            raise ValueError("--hosts names a machine twice")
        if self.worker_limits[1] > (rest := len(hosts) - 1):
            raise ValueError(f"--workers {self.workers}: there {are(rest)} {counted(rest, 'host')} beside the head")
        return self


PROVIDERS: tuple[str, ...] = get_args(Provider)
