"""Examines this machine or the nodes of a cluster: `lstm-ray doctor`.

facts.py      facts about a machine ──┐
ray_nodes.py  facts about all nodes ──┴── verdicts.py  what they mean for a run
"""

from __future__ import annotations

from typing import Any

from lstm_ray import storage
from lstm_ray.config import COMMANDS, BundleSettings, TrainConfig, load_job_file, resolve
from lstm_ray.doctor.facts import describe, probe_in
from lstm_ray.doctor.verdicts import Verdict, judge
from lstm_ray.errors import ConfigError


def examine(address: str | None, directory: str | None, model: str | None, job_file: str | None) -> list[Verdict]:
    """Examines a cluster, or this machine without starting Ray, and returns the lines of the report.

    Args:
        address: The cluster's address; None for this machine only.
        directory: Directory or URI that every node should write to and read from.
        model: A bundle; the report says whether cuDNN can run it.
        job_file: A job file for whose network or bundle to check the same.

    Raises:
        ConfigError: The URI contains keys.
        LstmRayError: There is no cluster at the address.
    """
    if directory is not None:
        storage.refuse_keys(directory)
        directory = storage.absolute(directory)  # nodes have different current directories
    with probe_in(directory) as probe:
        if address is None:
            verdicts = judge({"this machine": describe(directory, probe)}, {}, 0.0, directory)
        else:
            from lstm_ray.doctor.ray_nodes import describe_nodes

            verdicts = judge(*describe_nodes(address, directory, probe), directory)
    for settings in (None if model is None else _bundle_settings(model), _job_settings(job_file)):
        if settings is not None:
            verdicts.append(_cudnn(*settings))
    return verdicts


def _bundle_settings(path: str) -> tuple[str, Any, Any]:
    from lstm_ray.model.bundle import read_bundle

    bundle = read_bundle(path)
    return path, bundle.model, bundle.text


def _job_settings(job_file: str | None) -> tuple[str, Any, Any] | None:
    if job_file is None:
        return None
    kind = COMMANDS.get(str(load_job_file(job_file).get("command")), TrainConfig)
    config = resolve(kind, {}, job_file)
    if isinstance(config, TrainConfig):  # train or tune
        return job_file, config, config
    if not isinstance(config, BundleSettings):  # vectors, convert, split
        return None
    if not config.model:
        raise ConfigError(f"{job_file}: model is missing")
    return _bundle_settings(config.model)


def _cudnn(name: str, model: Any, text: Any) -> Verdict:
    from lstm_ray.model.architectures import cudnn_obstacle

    if model.network is not None:
        return Verdict(f"{name}: cuDNN", f"unknown: {model.network} builds the network, and Keras decides")
    obstacle = cudnn_obstacle(model, text)
    if obstacle is None:
        return Verdict(f"{name}: cuDNN", "can run it")
    state, _, remedy = obstacle.partition(": ")
    return Verdict(f"{name}: cuDNN", f"cannot run it: {state}", "warning", f"{remedy}; CPUs do not need it")
