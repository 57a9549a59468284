"""Definitions for Ray's cluster launcher (`ray up`): AWS, Google Cloud, Azure, and machines of one's own over SSH.

Source: Ray's cluster YAML reference, ray/autoscaler/*/defaults.yaml, and what ray/autoscaler/_private does with it.
"""

from __future__ import annotations

from lstm_ray.cluster.definition import machines
from lstm_ray.cluster.definition.settings import ClusterConfig, is_ip
from lstm_ray.cluster.definition.text import indented, noted, scalar
from lstm_ray.errors import ConfigError

RAY_PORT = 6379
TOKEN_FILE = "~/.ray/auth_token"
_REGIONS = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}
_BUCKETS = {"aws": "s3://my-bucket/lstm-ray", "gcp": "gs://my-bucket/lstm-ray"}
_AZURE_BUCKET = "abfs://my-container@my-account.dfs.core.windows.net/lstm-ray"
_SHARED_DIRECTORY = "/mnt/lstm-ray"
# What Ray's node providers import on the head, where the autoscaler runs.
# Source: imports in ray/autoscaler/_private; versions for Azure from ray/autoscaler/azure/defaults.yaml.
CLOUD_PACKAGES = {
    "aws": "boto3",
    "gcp": "google-api-python-client google-auth cryptography",
    "azure": "azure-cli-core azure-core==1.35.0 azure-identity==1.23.1 azure-mgmt-compute==35.0.0"
    " azure-mgmt-network==29.0.0 azure-mgmt-resource==24.0.0 azure-common==1.1.28 msrest==0.7.1",
}
# Parts of a checkout that pip needs; the rest (tests, runs, a virtual environment) would be copied for nothing.
_SOURCES = ("lstm_ray", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")


def render_launcher(config: ClusterConfig, ray_version: str) -> str:
    """Returns a definition for `ray up`.

    Args:
        config: Settings of provider aws, gcp, azure or onprem.
        ray_version: The version of Ray that nodes are to have.

    Raises:
        ConfigError: A machine type whose cores or GPUs cannot be told.
    """
    provider = str(config.provider)
    sections = [_cluster(config), _provider(config), _auth(config)]
    if provider != "onprem":
        sections.append(_node_types(config))
    sections += [_docker(config), _files(config), _setup(config, ray_version), _start(config)]
    return "\n".join("\n".join(lines) + "\n" for lines in sections if lines)


def storage(config: ClusterConfig) -> str:
    """Returns where inputs and results lie."""
    if config.storage:
        return config.storage
    if config.provider == "azure":
        return _AZURE_BUCKET
    return _BUCKETS.get(str(config.provider), _SHARED_DIRECTORY)


def _cluster(config: ClusterConfig) -> list[str]:
    least, most = config.worker_limits
    lines = [
        noted(f"cluster_name: {scalar(config.name)}", "part of the names of all that is made for it"),
        noted(f"max_workers: {most}", "worker nodes at most, beside the head"),
    ]
    if config.provider == "onprem":
        lines.append(noted(f"min_workers: {least}", "that many are kept even without work"))
    return [
        *lines,
        noted("idle_timeout_minutes: 10", "a worker node without work for so long is given back"),
        noted("upscaling_speed: 1.0", "nodes added at a time, as a multiple of those there"),
    ]


def _provider(config: ClusterConfig) -> list[str]:
    region = scalar(config.region or _REGIONS.get(str(config.provider), ""))
    if config.provider == "aws":
        lines = ["  type: aws", noted(f"  region: {region}", "where nodes run; best where the bucket is")]
        if config.zone:
            lines.append(noted(f"  availability_zone: {scalar(config.zone)}", "tried in this order"))
        lines.append(
            noted("  cache_stopped_nodes: false", "down deletes nodes; true only stops them, disks go on costing")
        )
    elif config.provider == "gcp":
        lines = [
            "  type: gcp",
            noted(f"  region: {region}", "where nodes run; best where the bucket is"),
            noted(
                f"  availability_zone: {scalar(config.zone) if config.zone else f'{region}-a'}",
                "one that has the machine types below",
            ),
            noted(f"  project_id: {scalar(config.project)}", "your project"),
            noted("  cache_stopped_nodes: false", "down deletes nodes; true only stops them, disks go on costing"),
        ]
    elif config.provider == "azure":
        lines = [
            "  type: azure",
            noted(f"  location: {region}", "where nodes run; best where the storage account is"),
            noted(f"  resource_group: {scalar(config.resource_group)}", "is made if missing"),
            noted("  cache_stopped_nodes: false", "down deletes nodes; true only stops them, disks go on costing"),
            noted("  # subscription_id: ...", "default: the one that `az account show` names"),
        ]
    else:
        head, *rest = config.host_list
        workers = ", ".join(scalar(host) for host in rest)
        lines = [
            "  type: local",
            noted(f"  head_ip: {scalar(head)}", "as the workers reach it"),
            noted(f"  worker_ips: [{workers}]", "as the head reaches them; not the head itself"),
            noted("  # external_head_ip: ...", "if this machine reaches the head under another address"),
        ]
    return ["provider:", *lines]


def _auth(config: ClusterConfig) -> list[str]:
    lines = ["auth:", noted(f"  ssh_user: {scalar(config.ssh_user)}", "the image's user; on your own machines yours")]
    named = config.ssh_key or ("~/.ssh/id_ed25519" if config.provider == "onprem" else None)
    key = scalar(named) if named else None
    if config.provider == "onprem":
        lines.append(
            noted(f"  ssh_private_key: {key}", "opens all hosts; is copied to the head, which starts the workers")
        )
    elif key:
        lines.append(noted(f"  ssh_private_key: {key}", "is copied to the head, which starts the workers"))
        if config.provider == "azure":
            lines.append(f"  ssh_public_key: {scalar(f'{named}.pub')}")
        if config.provider == "gcp":
            lines.append(
                noted("  #", f"its public half belongs into the project's metadata, ssh-keys: {config.ssh_user}:...")
            )
    else:
        lines.append(
            noted("  # ssh_private_key: ~/.ssh/my-key.pem", "default: Ray makes a key pair and keeps it in ~/.ssh")
        )
        if config.provider == "aws":
            lines.append(noted("  #", "with a key of your own, give both node types its KeyName too"))
        if config.provider == "azure":
            lines.append(noted("  # ssh_public_key: ~/.ssh/my-key.pem.pub", "goes with it"))
    return lines


def _node_types(config: ClusterConfig) -> list[str]:
    provider = str(config.provider)
    least, most = config.worker_limits
    head = config.head_instance_type or machines.HEADS[provider]
    worker = machines.worker_machine(provider, config.gpus_per_worker, config.instance_type)
    return [
        "head_node_type: head",
        "available_node_types:",
        "  head:",
        noted("    resources: {CPU: 0}", "no workers run on the head: its memory is for Ray"),
        noted("    max_workers: 0", "no worker is of this type"),
        "    node_config:",
        *indented(_node_config(config, head, gpus=0, is_head=True), 6),
        "  worker:",
        noted(f"    min_workers: {least}", "kept even without work, and paid for"),
        noted(f"    max_workers: {most}", "not above max_workers at the top"),
        _resources(config, worker),
        "    node_config:",
        *indented(_node_config(config, worker, gpus=config.gpus_per_worker, is_head=False), 6),
    ]


def _resources(config: ClusterConfig, machine: str) -> str:
    """Returns what a worker node offers: told to Ray, because it asks no cloud but Amazon's."""
    if config.provider == "aws":
        return noted("    resources: {}", "Ray asks AWS for the cores and GPUs of the type below")
    number = config.cpus_per_worker or machines.cores(machine)
    if number is None:
        raise ConfigError(f"--instance-type {machine}: its name does not tell its cores: add --cpus-per-worker")
    gpus = f", GPU: {config.gpus_per_worker}" if config.gpus_per_worker else ""
    return noted(f"    resources: {{CPU: {number}{gpus}}}", "what the machine type below has")


def _node_config(config: ClusterConfig, machine: str, *, gpus: int, is_head: bool) -> list[str]:
    config_of = {"aws": _aws_node, "gcp": _gcp_node, "azure": _azure_node}[str(config.provider)]
    return config_of(config, machine, gpus=gpus, is_head=is_head)


def _size(is_head: bool) -> str:
    return "small: it runs no work" if is_head else "must be offered in the region, and within your quota"


def _aws_node(config: ClusterConfig, machine: str, *, gpus: int, is_head: bool) -> list[str]:
    # Names instead of numbers: EC2 itself looks up the newest image, in any region. The caller needs ssm:GetParameters.
    image = "canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
    if gpus:
        image = "deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
    profile = config.instance_profile + ("-head" if is_head else "")
    lines = [
        noted(f"InstanceType: {scalar(machine)}", _size(is_head)),
        f"ImageId: resolve:ssm:/aws/service/{image}",
        noted(
            f"IamInstanceProfile: {{Name: {scalar(profile)}}}",
            "may start nodes and use the bucket" if is_head else "may use the bucket, and no more",
        ),
        noted("MetadataOptions: {HttpTokens: required, HttpPutResponseHopLimit: 2}", "2: containers ask too"),
        "BlockDeviceMappings:",
        "  - DeviceName: /dev/sda1",
        noted("    Ebs: {VolumeSize: 100, VolumeType: gp3, Encrypted: true}", "GB"),
    ]
    if config.ssh_key:
        name = config.ssh_key.rsplit("/", 1)[-1].removesuffix(".pem")
        lines.append(noted(f"KeyName: {scalar(name)}", "the key pair's name at AWS"))
    else:
        lines.append(noted("# KeyName: my-key", "the key pair's name at AWS, with ssh_private_key above"))
    lines.append(
        noted("# SecurityGroupIds: [sg-...]", "default: Ray makes one: SSH from anywhere, else only the cluster")
    )
    if not is_head:
        lines += (
            ["InstanceMarketOptions:", noted("  MarketType: spot", "cheaper; AWS may take the node away")]
            if (config.spot)
            else [noted("# InstanceMarketOptions: {MarketType: spot}", "cheaper; AWS may take the node away")]
        )
    return lines


def _gcp_node(config: ClusterConfig, machine: str, *, gpus: int, is_head: bool) -> list[str]:
    # With GPUs the head has the workers' Ubuntu: Ray wants the same Python on all nodes, to the patch.
    family = "ubuntu-2204-lts" if config.gpus_per_worker else "ubuntu-2404-lts-amd64"
    image = f"projects/ubuntu-os-cloud/global/images/family/{family}"
    if gpus:
        image = "projects/deeplearning-platform-release/global/images/family/common-cu128-ubuntu-2204-nvidia-570"
    lines = [
        noted(f"machineType: {scalar(machine)}", _size(is_head)),
        "disks:",
        "  - boot: true",
        "    autoDelete: true",
        "    type: PERSISTENT",
        "    initializeParams:",
        noted("      diskSizeGb: 100", "GB"),
        f"      sourceImage: {image}",
    ]
    if gpus:
        lines += [
            "metadata:",
            "  items:",
            noted('    - {key: install-nvidia-driver, value: "True"}', "the image installs it when it first starts"),
        ]
    scheduling = ["onHostMaintenance: TERMINATE"] if gpus else []  # a machine with a GPU cannot be moved
    if config.spot and not is_head:
        scheduling = ["provisioningModel: SPOT", "instanceTerminationAction: DELETE", "automaticRestart: false"]
        scheduling.append("onHostMaintenance: TERMINATE")
    if scheduling:
        lines.append("scheduling:")
        lines += [f"  {line}" for line in scheduling]
    if not is_head:
        if not config.spot:
            lines.append(noted("# scheduling: {provisioningModel: SPOT, ...}", "cheaper: render with --spot"))
        lines += [
            noted("serviceAccounts:", "who the workers are when they use the bucket; this one is made by Ray"),
            f"  - email: {scalar(f'ray-autoscaler-sa-v1@{config.project}.iam.gserviceaccount.com')}",
            "    scopes: [https://www.googleapis.com/auth/cloud-platform]",
        ]
    return lines


def _azure_node(config: ClusterConfig, machine: str, *, gpus: int, is_head: bool) -> list[str]:
    image = ("Canonical", "ubuntu-24_04-lts", "server")
    if config.gpus_per_worker:  # the head has the workers' Ubuntu: Ray wants the same Python on all nodes, to the patch
        image = ("Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2")
    if gpus:
        image = ("microsoft-dsvm", "ubuntu-2204", "2204-gen2")  # has NVIDIA's driver
    lines = [
        "azure_arm_parameters:",
        noted(f"  vmSize: {scalar(machine)}", _size(is_head)),
        f"  imagePublisher: {image[0]}",
        f"  imageOffer: {image[1]}",
        f"  imageSku: {image[2]}",
        "  imageVersion: latest",
        noted("  osDiskSize: 128", "GB"),
    ]
    if not is_head:
        spot = ["  priority: Spot", "  billingProfile: {maxPrice: -1}"]
        comments = ["cheaper; Azure may take the node away", "US$ an hour at most; -1: up to the usual price"]
        lines += [
            noted(line if config.spot else f"  # {line.strip()}", comment)
            for line, comment in zip(spot, comments, strict=True)
        ]
    return lines


def _docker(config: ClusterConfig) -> list[str]:
    if not config.image:
        return []
    return [
        noted("docker:", "all commands below run in a container"),
        noted(f"  image: {scalar(config.image)}", "built from cluster/Dockerfile, where nodes can pull it"),
        f"  container_name: {scalar(config.name)}",
        noted("  pull_before_run: true", "false: an image that is on the nodes already"),
        "  run_options:",
        "    - --ulimit nofile=65536:65536",
        "    - --env RAY_AUTH_MODE=token",
        *_mount(config),
    ]


def _mount(config: ClusterConfig) -> list[str]:
    place = storage(config)
    return [] if "://" in place else [f"    - --volume {place}:{place}"]


def _installs(config: ClusterConfig) -> bool:
    return config.install and not config.image


def _files(config: ClusterConfig) -> list[str]:
    lines = [
        noted("file_mounts:", "on the nodes: here"),
        noted(f'  "{TOKEN_FILE}": "{TOKEN_FILE}"', "the token; `ray get-auth-token --generate` makes it"),
    ]
    if _installs(config):
        lines.append("  # lstm-ray itself: run `cluster up` in a checkout of it")
        lines += [f'  "~/lstm-ray/{name}": "./{name}"' for name in _SOURCES]
        lines.append('rsync_exclude: ["**/__pycache__"]')
    return lines


def _setup(config: ClusterConfig, ray_version: str) -> list[str]:
    is_cloud = config.provider != "onprem"
    venv = config.venv
    before: list[str] = []
    commands: list[str] = []
    if is_cloud:  # which holds apt's lock at first
        before.append("cloud-init status --wait > /dev/null || true")
    if is_cloud and config.image:
        # The wait outlasts Ray's SSH connection, kept for 10 s, in which the user is not in the group yet.
        before += [
            "command -v docker || (sudo apt-get -qq update && sudo apt-get -qq install -y docker.io)",
            "id -nG | grep -qw docker || (sudo usermod -aG docker $USER && sleep 15)",
        ]
    if is_cloud and config.gpus_per_worker and config.provider == "gcp":
        # Only on nodes with a GPU: the head has none.
        before.append("! lspci | grep -qi nvidia || timeout 600 bash -c 'until nvidia-smi; do sleep 10; done'")
    if _installs(config):
        if is_cloud:
            commands.append(
                f"test -x {venv}/bin/pip || (sudo apt-get -qq update && sudo apt-get -qq install -y python3-venv)"
            )
        # On a cloud's image the system's Python: others that it may have in front are not the same on all nodes.
        commands.append(f"test -x {venv}/bin/pip || {'/usr/bin/' if is_cloud else ''}python3 -m venv {venv}")
        extra = "[gpu]" if config.gpus_per_worker else ""
        # Ray itself is to be the version of this installation, which need not be that of the constraints.
        constraints = "~/lstm-ray/constraints-but-ray.txt"
        commands.append(f"grep -v ^ray= ~/lstm-ray/constraints.txt > {constraints}")
        commands.append(
            f"{venv}/bin/pip install --quiet --constraint {constraints} ray=={ray_version} ~/lstm-ray{extra}"
        )
    if not config.image:
        # For `ray exec`, `ray attach` and `ray down`, whose shells read this file; what is started below has its own.
        line = f"export PATH={venv.replace('~', '$HOME', 1)}/bin:$PATH RAY_AUTH_MODE=token"
        commands.append(f"grep -qsF '{line}' ~/.bashrc || echo '{line}' >> ~/.bashrc")
    commands.append("chmod 600 ~/.ray/auth_token")
    place = storage(config)
    if "://" not in place:
        commands.append(f"test -d {place} || (echo '{place} is not mounted on this node' >&2; exit 1)")
    head = []
    if is_cloud:
        pip = "pip" if config.image else f"{venv}/bin/pip"
        head = [f"{pip} install --quiet {CLOUD_PACKAGES[str(config.provider)]}"]
    lines = []
    if before:
        lines += [noted("initialization_commands:", "on the machine itself, first"), *_commands(before)]
    lines += [noted("setup_commands:", "on every node, once"), *_commands(commands)]
    if head:
        lines += [
            noted("head_setup_commands:", "the autoscaler runs on the head and rents the workers"),
            *_commands(head),
        ]
    return lines


def _start(config: ClusterConfig) -> list[str]:
    exports = ["RAY_AUTH_MODE=token"]
    if not config.image:
        exports.insert(0, f"PATH={config.venv.replace('~', '$HOME', 1)}/bin:$PATH")
    environment = f"export {' '.join(exports)}"
    scaler = []
    if config.provider == "onprem":
        # Ray 2.60's autoscaler v2, its default, takes the head for a worker here and leaves one host out.
        scaler = ["    export RAY_enable_autoscaler_v2=0;"]
    place = f"export LSTM_RAY_STORAGE={storage(config)}"
    head_address = worker_address = ""
    if config.provider == "onprem":
        # Ray takes the address of the default route, which need not lead to the other hosts, or is not there at all.
        if is_ip(config.host_list[0]):
            head_address = f"--node-ip-address={config.host_list[0]} "
        worker_address = "--node-ip-address=$(ip -o route get $RAY_HEAD_IP | sed 's/.* src \\([^ ]*\\).*/\\1/')"
    host = config.dashboard_host
    reached = (
        "`ray dashboard FILE` leads there" if host == "127.0.0.1" else "whoever reaches it and has the token gets in"
    )
    return [
        noted(
            "# LSTM_RAY_STORAGE:", "where inputs and results lie; commands of a job may say $LSTM_RAY_STORAGE/reviews"
        ),
        noted("# --dashboard-host:", f"where dashboard and job server listen; {reached}"),
        "head_start_ray_commands:",
        *_commands([f"{environment}; ray stop"]),
        "  - >-",
        f"    {environment};",
        f"    {place};",
        *scaler,
        "    ulimit -n 65536;",
        f"    ray start --head --port={RAY_PORT} --object-manager-port=8076 {head_address}--dashboard-host={host}",
        "    --autoscaling-config=~/ray_bootstrap_config.yaml",
        "worker_start_ray_commands:",
        *_commands([f"{environment}; ray stop"]),
        "  - >-",
        f"    {environment};",
        f"    {place};",
        "    ulimit -n 65536;",
        f"    ray start --address=$RAY_HEAD_IP:{RAY_PORT} --object-manager-port=8076",
        *([f"    {worker_address}"] if worker_address else []),
    ]


def _commands(commands: list[str]) -> list[str]:
    """Returns shell commands as a YAML list; folded, so that nothing in them has to be quoted.

    None may hold a shell comment: Ray puts each in parentheses.
    """
    return [line for command in commands for line in ("  - >-", f"    {command}")]
