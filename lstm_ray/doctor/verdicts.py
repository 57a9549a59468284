"""Judges what the facts about a machine or a cluster's nodes mean for a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lstm_ray.doctor.facts import PACKAGES, Facts

_SKEW_WARNING_S = 5.0
_SKEW_PROBLEM_S = 300.0  # object stores refuse requests whose clock is off by more than 5 to 15 minutes

Level = Literal["OK", "warning", "problem"]


@dataclass(frozen=True)
class Verdict:
    """A line of the report.

    Attributes:
        subject: What was examined.
        state: Its state.
        level: "problem" if a run would fail.
        remedy: What to do about it.
    """

    subject: str
    state: str
    level: Level = "OK"
    remedy: str = ""


def judge(
    nodes: Mapping[str, Facts], failed: Mapping[str, str], clock_error_s: float, directory: str | None = None
) -> list[Verdict]:
    """Returns the lines of the report.

    Args:
        nodes: Facts by node.
        failed: Nodes that did not answer, and why.
        clock_error_s: Error of the clock differences, in seconds.
        directory: The storage that nodes were asked to use, if any.
    """
    verdicts = [_no_answer(node, why) for node, why in failed.items()]
    for package in ("python", "lstm-ray", *PACKAGES):
        verdicts.append(_versions(package, {node: facts.versions[package] for node, facts in nodes.items()}))
    for node, facts in nodes.items():
        verdicts.append(Verdict(f"{node}: cores", str(facts.cpus)))
        verdicts.append(_native_engine(node, facts))
        verdicts.append(_gpus(node, facts))
        if facts.object_store_bytes is not None:
            verdicts.append(_object_store(node, facts.object_store_bytes, facts.shm_bytes))
        elif facts.shm_bytes is not None:
            verdicts.append(Verdict(f"{node}: /dev/shm", _gib(facts.shm_bytes)))
        if facts.auth_mode is not None:
            verdicts.append(_authentication(node, facts.auth_mode))
            verdicts.append(_clock(node, facts.clock, clock_error_s))
        if facts.storage_failure is not None:
            remedy = "use a shared filesystem or an object store, with permission from every node"
            verdicts.append(Verdict(f"{node}: storage", facts.storage_failure, "problem", remedy))
        elif directory is not None:
            verdicts.append(Verdict(f"{node}: storage", f"writes to {directory} and reads it back"))
    return verdicts


def _no_answer(node: str, why: str) -> Verdict:
    if "No module named 'lstm_ray'" in why:
        remedy = "install it there, or start the run with lstm-ray submit, which sends it"
        return Verdict(f"{node}: lstm-ray", "not installed", "problem", remedy)
    return Verdict(node, f"does not answer: {why[-200:]}", "problem", "see its logs: ray logs")


def _versions(package: str, versions: Mapping[str, str | None]) -> Verdict:
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


def _native_engine(node: str, facts: Facts) -> Verdict:
    if facts.native_engine_is_slow:
        remedy = "use a processor with AVX2 (x86 since 2013) or NEON (64-bit ARM)"
        return Verdict(f"{node}: native engine", facts.native_engine, "warning", remedy)
    return Verdict(f"{node}: native engine", facts.native_engine)


def _gpus(node: str, facts: Facts) -> Verdict:
    if facts.driver_failure is not None:
        remedy = "repair the NVIDIA driver: until then no GPU can be used"
        return Verdict(f"{node}: GPUs", f"the driver fails: {facts.driver_failure[-200:]}", "problem", remedy)
    if not facts.gpus:
        return Verdict(f"{node}: GPUs", "none: training and scoring run on the CPU")
    names = ", ".join(f"{count} x {name}" for name, count in Counter(facts.gpus).items())
    if not facts.cudnn:
        remedy = "install tensorflow[and-cuda]: without cuDNN TensorFlow does not use the GPU"
        return Verdict(f"{node}: GPUs", f"{names}, without cuDNN", "problem", remedy)
    if not facts.tensorflow_gpus:
        seen = "TensorFlow fails" if facts.tensorflow_gpus is None else "TensorFlow sees none"
        remedy = "install tensorflow[and-cuda], in a version that the driver supports: a worker without its GPU fails"
        return Verdict(f"{node}: GPUs", f"{names}, but {seen}", "problem", remedy)
    return Verdict(f"{node}: GPUs", f"{names}, with cuDNN; TensorFlow sees {facts.tensorflow_gpus}")


def _object_store(node: str, store: int, shm: int | None) -> Verdict:
    state = f"{_gib(store)}" + ("" if shm is None else f", /dev/shm has {_gib(shm)}")
    if shm is not None and shm < store:
        remedy = "give the container a larger /dev/shm (docker run --shm-size): otherwise the store uses the disk"
        return Verdict(f"{node}: object store", state, "warning", remedy)
    return Verdict(f"{node}: object store", state)


def _authentication(node: str, mode: str) -> Verdict:
    if mode != "token":
        remedy = "anyone who reaches Ray's ports can run code there: start it with RAY_AUTH_MODE=token"
        return Verdict(f"{node}: authentication", "none", "warning", remedy)
    return Verdict(f"{node}: authentication", "token")


def _clock(node: str, ahead: float, error_s: float) -> Verdict:
    state = f"{ahead:+.1f} s relative to this machine (± {error_s:.1f} s)"
    off = abs(ahead) - error_s
    if off > _SKEW_WARNING_S:
        level: Level = "problem" if off > _SKEW_PROBLEM_S else "warning"
        return Verdict(f"{node}: clock", state, level, "synchronise the clocks with NTP (chrony)")
    return Verdict(f"{node}: clock", state)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
