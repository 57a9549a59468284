"""Examines this machine or the nodes of a cluster, and says what that means for a run.

describe (on each node) ── facts ──> judge ── findings ──> a table
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import platform
import secrets
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import lstm_ray
from lstm_ray import storage
from lstm_ray.config import COMMANDS, EvaluateConfig, ScoreConfig, TrainConfig, load_job_file, resolve
from lstm_ray.errors import ConfigError, LstmRayError
from lstm_ray.runtime.devices import available_cores
from lstm_ray.wording import reason

PACKAGES = ("ray", "tensorflow", "keras", "pyarrow")
_SKEW_WARNING_S = 5.0
_SKEW_PROBLEM_S = 300.0  # object stores refuse requests whose clock is off by more than 5 to 15 minutes
_DRIVER_LIMIT_S = 30
_CUDNN = "libcudnn.so.9"

Level = Literal["OK", "warning", "problem"]


@dataclass(frozen=True)
class Facts:
    """What there is on a node.

    Attributes:
        versions: Of Python, lstm-ray and `PACKAGES`; None for what is not installed.
        cpus: Cores.
        gpus: Names of the GPUs.
        driver_failure: What NVIDIA's driver says if it is there and does not work; None if it does, or is not there.
        cudnn: True if cuDNN can be loaded.
        shm_bytes: Size of /dev/shm; None where there is none.
        object_store_bytes: Of Ray's object store; None without Ray.
        auth_mode: How Ray lets people in: "token", "disabled", ...; None without Ray.
        clock: Seconds since 1970.
        storage: Why the place to store at cannot be used from here; None if it can, or nobody asked.
    """

    versions: Mapping[str, str | None]
    cpus: int
    gpus: Sequence[str]
    driver_failure: str | None
    cudnn: bool
    shm_bytes: int | None
    object_store_bytes: int | None
    auth_mode: str | None
    clock: float
    storage: str | None


@dataclass(frozen=True)
class Verdict:
    """A line of the report.

    Attributes:
        subject: What was examined.
        state: What it is like.
        verdict: OK, warning or problem.
        remedy: What to do about it.
    """

    subject: str
    state: str
    verdict: Level = "OK"
    remedy: str = ""


@dataclass
class Diagnosis:
    """All that was found.

    Attributes:
        findings: In the order of the report.
    """

    findings: list[Verdict] = field(default_factory=list)

    @property
    def has_problem(self) -> bool:
        """Says whether a run would fail."""
        return any(finding.verdict == "problem" for finding in self.findings)


def examine(address: str | None, place: str | None, model: str | None, job_file: str | None) -> Diagnosis:
    """Examines a cluster, or this machine without starting Ray.

    Args:
        address: Of the cluster; None for this machine alone.
        place: Directory or URI that every node is to write to and read from.
        model: A bundle to say of whether cuDNN can run it.
        job_file: A job to say the same of: of the network it trains, or of the bundle that it scores with.

    Raises:
        ConfigError: There are keys in the URI of the place.
        LstmRayError: There is no cluster at that address.
    """
    if place is not None:
        storage.refuse_keys(place)
        place = storage.absolute(place)  # nodes have other current directories
    probe = None if place is None else _Probe(place)
    try:
        if address is None:
            findings = judge({"this machine": describe(place, None if probe is None else probe.path)}, {}, 0.0, place)
        else:
            findings = _examine_cluster(address, place, probe)
    finally:
        if probe is not None:
            probe.remove()
    for settings in (None if model is None else _bundle_settings(model), _job_settings(job_file)):
        if settings is not None:
            findings.append(_cudnn_finding(*settings))
    return Diagnosis(findings)


class _Probe:
    """A file in the place to store at, which nodes should see.

    Attributes:
        path: Its path; None if it could not be written from here, which `describe` finds too.
    """

    def __init__(self, place: str) -> None:
        self.path: str | None = storage.join(place, f".lstm-ray-doctor-{secrets.token_hex(8)}")
        try:
            storage.write_bytes(self.path, b"lstm-ray doctor")
        except LstmRayError:
            self.path = None

    def remove(self) -> None:
        """Deletes it."""
        if self.path is not None:
            storage.delete(self.path)


def describe(place: str | None, probe: str | None) -> Facts:
    """Returns what there is on the machine this runs on.

    Args:
        place: Directory or URI to write to and read back from.
        probe: A file there that another machine has written.
    """
    versions: dict[str, str | None] = {"python": platform.python_version(), "lstm-ray": lstm_ray.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    gpus, driver_failure = _gpus()
    return Facts(
        versions=versions,
        cpus=available_cores(),
        gpus=gpus,
        driver_failure=driver_failure,
        cudnn=_has_cudnn(),
        shm_bytes=shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else None,
        object_store_bytes=None,
        auth_mode=None,
        clock=time.time(),
        storage=None if place is None else _storage_obstacle(place, probe),
    )


def _gpus() -> tuple[list[str], str | None]:
    """Lists the names of the GPUs that the driver knows; or says why it does not work."""
    if shutil.which("nvidia-smi") is None:
        return [], None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DRIVER_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], reason(error)
    if done.returncode:
        return [], " ".join((done.stdout + done.stderr).split()) or f"nvidia-smi ends with {done.returncode}"
    return done.stdout.splitlines(), None


def _has_cudnn() -> bool:
    """Says whether TensorFlow would find cuDNN: on the system, or as the package that tensorflow[and-cuda] brings."""
    try:
        importlib.metadata.version("nvidia-cudnn-cu12")
    except importlib.metadata.PackageNotFoundError:
        try:
            ctypes.CDLL(_CUDNN)
        except OSError:
            return False
    return True


def _storage_obstacle(place: str, probe: str | None) -> str | None:
    own = storage.join(place, f".lstm-ray-doctor-{secrets.token_hex(8)}")
    try:
        storage.write_bytes(own, b"lstm-ray doctor")
        back = storage.read_bytes(own)
        storage.delete(own)
    except (LstmRayError, OSError) as error:
        return reason(error)
    if back != b"lstm-ray doctor":
        return f"{place}: what is written there does not come back"
    if probe is not None and not storage.exists(probe):
        return f"{place}: is another directory than on the machine that asks"
    return None


def _examine_cluster(address: str, place: str | None, probe: _Probe | None) -> list[Verdict]:
    import ray

    from lstm_ray.runtime.nodes import names_of, on_every_node
    from lstm_ray.runtime.ray_session import connect

    with connect(address):
        nodes = ray.nodes()
        names = names_of(nodes)
        stores = {
            names[node["NodeID"]]: int(node["Resources"].get("object_store_memory", 0))
            for node in nodes
            if node["NodeID"] in names
        }
        # This starts a worker on each node, so that the clocks are told at once.
        answers = on_every_node(describe_with_ray, place, None if probe is None else probe.path)
        ahead, error_s = compare_clocks(on_every_node)
    facts: dict[str, Facts] = {}
    failed: dict[str, str] = {}
    for node, answer in answers.items():
        if isinstance(answer, Facts):
            clock_ahead = ahead.get(node, 0.0)
            object_store = stores.get(node)
            facts[node] = Facts(**{**vars(answer), "object_store_bytes": object_store, "clock": clock_ahead})
        else:
            failed[node] = reason(answer)
    return judge(facts, failed, error_s, place)


def compare_clocks(ask: Callable[[Callable[[], float]], Mapping[str, Any]]) -> tuple[dict[str, float], float]:
    """Compares the nodes' clocks with this machine's.

    Args:
        ask: Runs a function on every node and returns what came of it, by node.

    Returns:
        By how many seconds each node that answers is ahead, and by how many seconds that may be wrong: a node told its
        time at some moment of the while that asking took, taken to be the middle.
    """
    asked = time.time()
    told = ask(clock)
    took = time.time() - asked
    return {node: at - (asked + took / 2) for node, at in told.items() if isinstance(at, float)}, took / 2


def clock() -> float:
    """Returns a node's time in seconds since 1970; runs there. (Ray takes no function that is written in C.)"""
    return time.time()


def describe_with_ray(place: str | None, probe: str | None) -> Facts:
    """Returns what there is on a node of a cluster; runs there."""
    raylet: Any = importlib.import_module("ray._raylet")  # there is no public way to ask
    mode = "token" if raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN else "disabled"
    return Facts(**{**vars(describe(place, probe)), "auth_mode": mode})


def judge(
    nodes: Mapping[str, Facts], failed: Mapping[str, str], clock_error_s: float, place: str | None = None
) -> list[Verdict]:
    """Says what the facts mean.

    Args:
        nodes: Facts by node. `clock` is by how many seconds a node is ahead, if there are several or one far away.
        failed: Nodes that could not be asked, and why.
        clock_error_s: By how much the clocks' differences may be wrong.
        place: Where nodes were to store, if anywhere.
    """
    findings = [_no_answer(node, why) for node, why in failed.items()]
    for package in ("python", "lstm-ray", *PACKAGES):
        findings.append(_version_finding(package, {node: facts.versions[package] for node, facts in nodes.items()}))
    for node, facts in nodes.items():
        findings.append(Verdict(f"{node}: cores", str(facts.cpus)))
        findings.append(_gpu_finding(node, facts))
        if facts.object_store_bytes is not None:
            findings.append(_store_finding(node, facts.object_store_bytes, facts.shm_bytes))
        elif facts.shm_bytes is not None:
            findings.append(Verdict(f"{node}: /dev/shm", _gib(facts.shm_bytes)))
        if facts.auth_mode is not None:
            findings.append(_auth_finding(node, facts.auth_mode))
            findings.append(_clock_finding(node, facts.clock, clock_error_s))
        if facts.storage is not None:
            remedy = "the place must be a shared filesystem or an object store, with permission from every node"
            findings.append(Verdict(f"{node}: storage", facts.storage, "problem", remedy))
        elif place is not None:
            findings.append(Verdict(f"{node}: storage", f"writes to {place} and reads it back"))
    return findings


def _no_answer(node: str, why: str) -> Verdict:
    if "No module named 'lstm_ray'" in why:
        remedy = "install it there, or send it along with lstm-ray submit"
        return Verdict(f"{node}: lstm-ray", "not installed", "problem", remedy)
    return Verdict(node, f"does not answer: {why[-200:]}", "problem", "see its logs: ray logs")


def _version_finding(package: str, versions: Mapping[str, str | None]) -> Verdict:
    counts = Counter(version or "not installed" for version in versions.values())
    having = {
        version: " ".join(node for node, one in versions.items() if (one or "not installed") == version)
        for version, _ in counts.most_common()
    }
    state = ", ".join(version if len(having) == 1 else f"{version} on {nodes}" for version, nodes in having.items())
    if None in versions.values():
        return Verdict(package, state, "problem", f"install {package} where it is missing")
    if len(counts) > 1:
        return Verdict(package, state, "problem", "install the same version on all nodes")
    return Verdict(package, state or "no node answered")


def _gpu_finding(node: str, facts: Facts) -> Verdict:
    if facts.driver_failure is not None:
        remedy = "mend NVIDIA's driver: until then there is no GPU to run on"
        return Verdict(f"{node}: GPUs", f"the driver fails: {facts.driver_failure[-200:]}", "problem", remedy)
    if not facts.gpus:
        return Verdict(f"{node}: GPUs", "none: training and scoring run on the CPU")
    names = ", ".join(f"{count} x {name}" for name, count in Counter(facts.gpus).items())
    if not facts.cudnn:
        remedy = "install tensorflow[and-cuda], or TensorFlow does not use the GPU"
        return Verdict(f"{node}: GPUs", f"{names}, without cuDNN", "problem", remedy)
    return Verdict(f"{node}: GPUs", f"{names}, with cuDNN")


def _store_finding(node: str, store: int, shm: int | None) -> Verdict:
    state = f"{_gib(store)}" + ("" if shm is None else f", /dev/shm has {_gib(shm)}")
    if shm is not None and shm < store:
        remedy = "give the container a larger /dev/shm (docker run --shm-size), or the store falls back to the disk"
        return Verdict(f"{node}: object store", state, "warning", remedy)
    return Verdict(f"{node}: object store", state)


def _auth_finding(node: str, mode: str) -> Verdict:
    if mode != "token":
        remedy = "who reaches Ray's ports can run anything there: start it with RAY_AUTH_MODE=token"
        return Verdict(f"{node}: Ray lets in", "anybody", "warning", remedy)
    return Verdict(f"{node}: Ray lets in", "who has its token")


def _clock_finding(node: str, ahead: float, error_s: float) -> Verdict:
    state = f"{ahead:+.1f} s against this machine, to {error_s:.1f} s"
    off = abs(ahead) - error_s
    if off > _SKEW_WARNING_S:
        return Verdict(
            f"{node}: clock", state, "problem" if off > _SKEW_PROBLEM_S else "warning", "keep time with NTP (chrony)"
        )
    return Verdict(f"{node}: clock", state)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _bundle_settings(path: str) -> tuple[str, Any, Any]:
    from lstm_ray.model.bundle import read_bundle

    bundle = read_bundle(path)
    return path, bundle.model, bundle.text


def _job_settings(job_file: str | None) -> tuple[str, Any, Any] | None:
    if job_file is None:
        return None
    kind = COMMANDS.get(str(load_job_file(job_file).get("command")), TrainConfig)
    config = resolve(kind, {}, job_file)
    if isinstance(config, TrainConfig):  # a search, too
        return job_file, config, config
    assert isinstance(config, ScoreConfig | EvaluateConfig)
    if not config.model:
        raise ConfigError(f"{job_file}: model is missing")
    return _bundle_settings(config.model)


def _cudnn_finding(name: str, model: Any, text: Any) -> Verdict:
    from lstm_ray.model.architectures import cudnn_obstacle

    if model.network is not None:
        return Verdict(
            f"{name}: cuDNN", f"cannot be judged here: {model.network} builds the network, and Keras decides"
        )
    obstacle = cudnn_obstacle(model, text)
    if obstacle is None:
        return Verdict(f"{name}: cuDNN", "can run it")
    state, _, remedy = obstacle.partition(": ")
    return Verdict(f"{name}: cuDNN", f"cannot run it: {state}", "warning", f"{remedy}; on CPUs it does not matter")
