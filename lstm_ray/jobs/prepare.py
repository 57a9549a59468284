"""Loads a job file and makes its settings valid on every node of a cluster."""

from __future__ import annotations

import os

from lstm_ray import storage, user_code
from lstm_ray.config import (
    COMMANDS,
    ScoreConfig,
    Settings,
    TrainConfig,
    TuneConfig,
    load_job_file,
    missing,
    paths_of,
    resolve,
    with_paths,
)
from lstm_ray.errors import ConfigError
from lstm_ray.jobs.package import ENTRYPOINTS
from lstm_ray.train.checks import check_tracking


def load_job(path: str, shared: str | None = None, code: str | None = None) -> Settings:
    """Returns the resolved settings of a job file, without relative paths.

    Args:
        path: The job file.
        shared: Directory or URI that all nodes can access; relative paths are resolved against it.
        code: Directory of the user's modules, which may contain a preset; None is the current directory.

    Raises:
        ConfigError: The job file is not valid, needs no cluster, or has a path that exists only on this machine.
    """
    kind = _kind_of(path)
    config = resolve(kind, {}, path, code)
    if names := missing(kind, dict(config)):
        raise ConfigError(f"{path}: {names[0]} is missing")
    _check_paths(config, path, shared)
    _check_workers(config, path)
    for network in _networks(config):
        _check_network_is_sent(network, path, code)
    if shared is not None:
        config = with_paths(config, lambda given: given if _is_absolute(given) else storage.join(shared, given))
    return config.model_copy(update={"address": "auto"})


def _kind_of(job_file: str) -> type[Settings]:
    command = load_job_file(job_file).get("command")
    if not isinstance(command, str) or command not in ENTRYPOINTS:
        problem = "does not say what to run" if command is None else f"command is {command!r}"
        raise ConfigError(f"{job_file}: {problem}: a job needs `command: {' | '.join(ENTRYPOINTS)}`")
    return COMMANDS[command]


def _check_paths(config: Settings, job_file: str, shared: str | None) -> None:
    """Raises ConfigError if a path is relative without `shared`, or a URI contains keys."""
    if shared is not None:
        storage.refuse_keys(shared)
        if not _is_absolute(shared):
            raise ConfigError(
                f"--storage is {shared!r}: give an absolute path that all nodes share, or s3://BUCKET/..."
            )
    if isinstance(config, TrainConfig):
        check_tracking(config)
    if isinstance(config, ScoreConfig):
        storage.check_options(config.filesystem_option)
    for name, paths in paths_of(config).items():
        for path in paths:
            storage.refuse_keys(path)
            if shared is None and not _is_absolute(path):
                raise ConfigError(
                    f"{job_file}: {name} is {path!r}, a path on this machine, which the cluster does not see: give "
                    "--storage with a directory that all nodes share, or s3://BUCKET/..., which contains it; or put "
                    "a URI into the file"
                )


def _is_absolute(path: str) -> bool:
    return "://" in path or path.startswith("/")


def _check_workers(config: Settings, job_file: str) -> None:
    """Raises ConfigError if the job would run in one process. (A search has 0 workers, but runs its trials on Ray.)"""
    name = {TrainConfig: "workers", ScoreConfig: "actors"}.get(type(config))
    if name is not None and getattr(config, name) == "0":
        raise ConfigError(f"{job_file}: {name} is 0, which does not use the cluster: set {name} to 1 or more")


def _networks(config: Settings) -> list[str]:
    """Returns the names of the user networks that a job may train."""
    networks = [config.network] if isinstance(config, TrainConfig) else []
    if isinstance(config, TuneConfig) and "network" in config.search:
        networks += config.search["network"].choice or ()
    return [network for network in networks if network is not None]


def _check_network_is_sent(network: str, job_file: str, code: str | None) -> None:
    """Raises ConfigError if the module of a network is neither sent nor installed, so that workers cannot import it."""
    module = network.partition(":")[0]
    is_sent = code is not None and user_code.is_in(module, code)
    if not is_sent and user_code.is_in(module, os.curdir):
        remedy = "--working-dir . sends it" if code is None else f"it is not in {code}, which --working-dir sends"
        raise ConfigError(f"{job_file}: network is {network!r}: the module is in this directory: {remedy}")
    if not is_sent and not user_code.is_installed(module):
        raise ConfigError(
            f"{job_file}: network is {network!r}: no module {module!r} in {code or os.getcwd()}, and none is "
            "installed: give --working-dir with the directory that contains it"
        )
