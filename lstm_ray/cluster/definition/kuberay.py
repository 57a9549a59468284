"""Definitions for KubeRay: a RayCluster that stays, or a RayJob that makes a cluster, runs a command and ends both.

Source: KubeRay 1.7, ray.io/v1.
"""

from __future__ import annotations

from lstm_ray.cluster.definition.settings import ClusterConfig
from lstm_ray.cluster.definition.text import indented, noted, scalar

LABEL = "lstm-ray/cluster"
"""Marks the pods of a cluster; KubeRay's own label holds a name that a RayJob's cluster only gets when it starts."""

_DEFAULT_CPUS = 4
_DEFAULT_STORAGE = "/mnt/lstm-ray"
_PORTS = (("gcs-server", 6379), ("dashboard", 8265), ("client", 10001))


def render_kuberay(config: ClusterConfig, ray_version: str) -> str:
    """Returns a RayCluster, or with an entrypoint a RayJob, and the NetworkPolicy that shields it.

    Args:
        config: Settings of provider kuberay.
        ray_version: The version of Ray in the image.
    """
    cluster = _cluster_spec(config, ray_version)
    kind = "RayJob" if config.entrypoint else "RayCluster"
    lines = ["apiVersion: ray.io/v1", f"kind: {kind}", *_metadata(config), "spec:"]
    if config.entrypoint:
        lines += indented(_job_spec(config), 2)
        lines += ["  rayClusterSpec:", *indented(cluster, 4)]
    else:
        lines += indented(cluster, 2)
    return "\n".join([*lines, "---", *_network_policy(config)]) + "\n"


def storage(config: ClusterConfig) -> str:
    """Returns where inputs and results lie."""
    return config.storage or _DEFAULT_STORAGE


def _metadata(config: ClusterConfig) -> list[str]:
    return [
        "metadata:",
        f"  name: {scalar(config.name)}",
        noted(f"  namespace: {scalar(config.namespace)}", "must be there"),
    ]


def _job_spec(config: ClusterConfig) -> list[str]:
    return [
        noted("entrypoint: >-", "runs on the head, in a shell; --address auto is this cluster"),
        f"  {config.entrypoint}",
        noted("shutdownAfterJobFinishes: true", "the cluster goes when the command has ended"),
        noted("ttlSecondsAfterFinished: 600", "but stays so long, to look at"),
        noted("backoffLimit: 0", "tries after a failure; each with a new cluster, going on where parts are missing"),
        noted("# activeDeadlineSeconds: 86400", "ends what takes longer"),
    ]


def _cluster_spec(config: ClusterConfig, ray_version: str) -> list[str]:
    least, most = config.worker_limits
    return [
        noted(f'rayVersion: "{ray_version}"', "that of the image below"),
        "authOptions:",
        noted("  mode: token", "nobody gets in without; the operator makes the token, in a Secret"),
        noted("  # secretName: my-token", "a Secret of your own, with the key auth_token"),
        "enableInTreeAutoscaling: true",
        "autoscalerOptions:",
        "  version: v2",
        noted("  idleTimeoutSeconds: 600", "a worker without work for so long goes"),
        "  resources:",
        "    requests: {cpu: 500m, memory: 1Gi}",
        "    limits: {cpu: 500m, memory: 1Gi}",
        "headGroupSpec:",
        noted("  serviceType: ClusterIP", "not reachable from outside; kubectl port-forward leads there"),
        "  rayStartParams:",
        noted('    num-cpus: "0"', "no workers run on the head: its memory is for Ray"),
        "  template:",
        *indented(_head_pod(config, ray_version), 4),
        "workerGroupSpecs:",
        "  - groupName: workers",
        noted(f"    replicas: {least}", "at the start"),
        noted(f"    minReplicas: {least}", "kept even without work"),
        noted(f"    maxReplicas: {most}", "the autoscaler goes no further"),
        "    rayStartParams: {}",
        "    template:",
        *indented(_worker_pod(config, ray_version), 6),
    ]


def _head_pod(config: ClusterConfig, ray_version: str) -> list[str]:
    ports = ["ports:", *(f"  - {{name: {name}, containerPort: {number}}}" for name, number in _PORTS)]
    return _pod(config, ray_version, "ray-head", ports, cpus=2, memory=8, gpus=0, machine=config.head_instance_type)


def _worker_pod(config: ClusterConfig, ray_version: str) -> list[str]:
    cpus = config.cpus_per_worker or _DEFAULT_CPUS
    return _pod(
        config,
        ray_version,
        "ray-worker",
        [],
        cpus=cpus,
        memory=config.memory_per_worker,
        gpus=config.gpus_per_worker,
        machine=config.instance_type,
        spot=config.spot,
    )


def _pod(
    config: ClusterConfig,
    ray_version: str,
    name: str,
    ports: list[str],
    *,
    cpus: int,
    memory: int,
    gpus: int,
    machine: str | None,
    spot: bool = False,
) -> list[str]:
    """Returns a pod template.

    Args:
        config: The cluster's settings.
        ray_version: Names the image if none is given.
        name: Of the container.
        ports: Lines of its ports.
        cpus: Cores.
        memory: GiB.
        gpus: GPUs.
        machine: Type of node that the pod wants.
        spot: True if it wants a node of the spot market.
    """
    image = config.image or f"lstm-ray:ray-{ray_version}"
    place = storage(config)
    is_mounted = "://" not in place
    container = [
        f"- name: {name}",
        noted(f"  image: {scalar(image)}", "built from cluster/Dockerfile, where nodes can pull it"),
        "  imagePullPolicy: IfNotPresent",
        *indented(ports, 2),
        "  env:",
        noted(f"    - {{name: LSTM_RAY_STORAGE, value: {scalar(place)}}}", "inputs and results; for commands"),
        "  resources:",
        noted(f"    requests: {_amounts(cpus, memory, gpus)}", "what Ray takes the node to have"),
        f"    limits: {_amounts(cpus, memory, gpus)}",
        *indented(_probes(is_head=bool(ports)), 2),
        "  securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}",
    ]
    # Ray's object store is shared memory, of which a container has 64 MiB unless it is given more.
    mounts = ["- {name: shared-memory, mountPath: /dev/shm}"]
    volumes = [
        noted(
            f"- {{name: shared-memory, emptyDir: {{medium: Memory, sizeLimit: {max(1, memory // 4)}Gi}}}}",
            "object store",
        )
    ]
    if is_mounted:
        mounts.append(f"- {{name: storage, mountPath: {scalar(place)}}}")
        claim = f"- {{name: storage, persistentVolumeClaim: {{claimName: {scalar(config.storage_claim)}}}}}"
        volumes.append(noted(claim, "ReadWriteMany"))
    return [
        "metadata:",
        f"  labels: {{{LABEL}: {scalar(config.name)}}}",
        "spec:",
        *(["  automountServiceAccountToken: false"] if name == "ray-worker" else []),  # the head's autoscaler needs it
        *indented(_placement(machine, spot, gpus), 2),
        "  securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000}",
        "  containers:",
        *indented([*container, "  volumeMounts:", *indented(mounts, 4)], 4),
        "  volumes:",
        *indented(volumes, 4),
    ]


def _amounts(cpus: int, memory: int, gpus: int) -> str:
    gpu = f', nvidia.com/gpu: "{gpus}"' if gpus else ""
    return f'{{cpu: "{cpus}", memory: {memory}Gi{gpu}}}'


def _probes(is_head: bool) -> list[str]:
    """Returns health checks: of the head that the cluster's state is served, of a worker that its Ray is alive."""
    path, port = ("/api/gcs_healthz", 8265) if is_head else ("/api/local_raylet_healthz", 52365)
    check = f"  httpGet: {{path: {path}, port: {port}}}"
    return [
        noted("livenessProbe:", "restarted after two minutes without an answer"),
        check,
        "  initialDelaySeconds: 60",
        "  periodSeconds: 10",
        "  timeoutSeconds: 5",
        "  failureThreshold: 12",
        noted("readinessProbe:", "not used before it answers"),
        check,
        "  initialDelaySeconds: 10",
        "  periodSeconds: 5",
        "  timeoutSeconds: 5",
        "  failureThreshold: 12",
    ]


def _placement(machine: str | None, spot: bool, gpus: int) -> list[str]:
    lines = []
    if machine:
        lines += ["nodeSelector:", f"  node.kubernetes.io/instance-type: {scalar(machine)}"]
    tolerations = ["  - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}"] if gpus else []
    if spot:
        lines += [
            "affinity:",
            "  nodeAffinity:",
            noted("    requiredDuringSchedulingIgnoredDuringExecution:", "spot nodes, as each cloud marks them"),
            "      nodeSelectorTerms:",
            '        - matchExpressions: [{key: cloud.google.com/gke-spot, operator: In, values: ["true"]}]',
            "        - matchExpressions: [{key: eks.amazonaws.com/capacityType, operator: In, values: [SPOT]}]",
            "        - matchExpressions: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]",
            "        - matchExpressions: [{key: kubernetes.azure.com/scalesetpriority, operator: In, values: [spot]}]",
        ]
        tolerations += [
            "  - {key: cloud.google.com/gke-spot, operator: Exists, effect: NoSchedule}",
            "  - {key: kubernetes.azure.com/scalesetpriority, operator: Exists, effect: NoSchedule}",
        ]
    return lines + (["tolerations:", *tolerations] if tolerations else [])


def _network_policy(config: ClusterConfig) -> list[str]:
    """Returns what shields the pods: whoever reaches an open Ray port and knows the token runs what he likes."""
    return [
        noted("apiVersion: networking.k8s.io/v1", "holds where the cluster's network enforces policies"),
        "kind: NetworkPolicy",
        *_metadata(config),
        "spec:",
        f"  podSelector: {{matchLabels: {{{LABEL}: {scalar(config.name)}}}}}",
        "  policyTypes: [Ingress]",
        "  ingress:",
        noted("    - from:", "the cluster's own pods, on all ports"),
        f"        - podSelector: {{matchLabels: {{{LABEL}: {scalar(config.name)}}}}}",
        noted("    - from:", "KubeRay's operator, and a RayJob's submitter, on the dashboard's"),
        "        - namespaceSelector: {}",
        "          podSelector: {matchLabels: {app.kubernetes.io/name: kuberay-operator}}",
        f"        - podSelector: {{matchLabels: {{ray.io/originated-from-cr-name: {scalar(config.name)}}}}}",
        "      ports: [{port: 8265}]",
    ]
