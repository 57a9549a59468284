"""Jobs on a cluster, through the Ray Jobs API: packed, submitted, followed, stopped.

    job file ── load_job ──> settings with paths that all nodes understand
             ── packing.py > a directory: lstm_ray/, lstm-ray-job.yaml, the user's own modules
             ── submit ────> over HTTP to the cluster; there: python -m lstm_ray COMMAND --config lstm-ray-job.yaml
             <── follow ──── its log, its exit code

The package travels with the job, so the cluster needs lstm-ray's dependencies and not lstm-ray itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from lstm_ray import storage, user_code
from lstm_ray.config import (
    COMMANDS,
    ScoreConfig,
    Settings,
    TrainConfig,
    TuneConfig,
    command_of,
    load_job_file,
    resolve,
)
from lstm_ray.errors import ConfigError, LstmRayError
from lstm_ray.jobs.package import JOB_FILE, packed
from lstm_ray.wording import reason

_PATHS = ("train", "validation", "inputs", "model", "output", "vocabulary", "embeddings", "mlflow")
_MLFLOW_PLACES = ("yes", "databricks", "databricks-uc")  # words, not directories
_DASHBOARD = "http://127.0.0.1:8265"
_OUTPUT = "output"  # of a job's metadata
_ENTRYPOINTS = {
    "train": f"python -m lstm_ray train --config {JOB_FILE}",
    "tune": f"python -m lstm_ray tune {JOB_FILE}",
    "score": f"python -m lstm_ray score --config {JOB_FILE}",
}
_TALKATIVE = ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging")
"""Modules of Ray that log uploads and closed connections."""

_RECONNECT_FOR_S = 120.0
_ANSWER_LIMIT_S = 60.0
_SILENT_FOR_S = 15.0  # after which it is asked whether the cluster is there
_STOP_LIMIT_S = 60.0

Show = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A job as the cluster knows it.

    Attributes:
        id: Its name.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        command: What it runs.
        output: The directory it writes to; "" if it was not sent by us.
        started: When, local time; "" if it has not begun.
        seconds: How long it ran, or has been running.
        message: What Ray says about it.
        exit_code: Of its command; None while it runs, and if it never began or was stopped.
    """

    id: str
    status: str
    command: str
    output: str
    started: str
    seconds: float
    message: str
    exit_code: int | None

    @property
    def has_ended(self) -> bool:
        """Says whether it is over, in whatever way."""
        return bool(JobStatus(self.status).is_terminal())


def load_job(path: str, shared: str | None = None, code: str | None = None) -> Settings:
    """Reads a job file, and makes of it settings that mean the same on every node of a cluster.

    Args:
        path: The job file.
        shared: Directory or URI that all nodes reach; relative paths are taken to be below it.
        code: Directory of the user's own modules, where the file's preset may lie; None is the current directory.

    Raises:
        ConfigError: The job file is not valid, needs no cluster, or has a path that only this machine understands.
    """
    kind = _kind_of(path)
    config = resolve(kind, {}, path, code)
    for uri in (shared, getattr(config, "mlflow", None)):
        storage.refuse_keys(uri or "")
    if shared is not None and not _is_absolute(shared):
        raise ConfigError(f"--storage is {shared!r}: give an absolute path that all nodes share, or s3://BUCKET/...")
    paths = {name: _reachable(getattr(config, name), name, path, shared) for name in _PATHS if hasattr(config, name)}
    for name in ("output", "inputs" if kind is ScoreConfig else "train"):
        if not paths[name]:
            raise ConfigError(f"{path}: {name} is missing")
    workers = {TrainConfig: "workers", ScoreConfig: "actors"}.get(kind)  # a search always runs on Ray
    if workers is not None and str(getattr(config, workers)) == "0":
        raise ConfigError(f"{path}: {workers} is 0, which uses no cluster: set {workers} to 1 or more")
    for network in _networks(config):
        _check_network_is_sent(network, path, code)
    settings = {name: getattr(config, name) for name in kind.model_fields}
    return resolve(kind, {**settings, **paths, "address": "auto"})


def _networks(config: Settings) -> list[str]:
    """Lists the users' networks that a job may train."""
    networks = [config.network] if isinstance(config, TrainConfig) else []
    if isinstance(config, TuneConfig) and "network" in config.search:
        networks += config.search["network"].choice or ()
    return [network for network in networks if network is not None]


def _check_network_is_sent(network: str, job_file: str, code: str | None) -> None:
    """Raises ConfigError if the module of a user's network would be missing on the cluster; installed, it is there."""
    module = network.partition(":")[0]
    is_sent = code is not None and user_code.lies_in(module, code)
    if not is_sent and user_code.lies_in(module, os.curdir):
        remedy = "--working-dir . sends it along" if code is None else f"it is not in {code}, which --working-dir sends"
        raise ConfigError(f"{job_file}: network is {network!r}: the module lies in this directory: {remedy}")
    if not is_sent and not user_code.is_installed(module):
        raise ConfigError(
            f"{job_file}: network is {network!r}: no module {module!r} in {code or os.getcwd()}, nor installed: give "
            "--working-dir with the directory it lies in"
        )


def _kind_of(path: str) -> type[Settings]:
    command = load_job_file(path).get("command")
    if not isinstance(command, str) or command not in _ENTRYPOINTS:
        said = "does not say what to run" if command is None else f"command is {command!r}"
        raise ConfigError(f"{path}: {said}: a job needs `command: {' | '.join(_ENTRYPOINTS)}`")
    return COMMANDS[command]


def _reachable(value: Any, name: str, job_file: str, shared: str | None) -> Any:
    """Returns a path setting, one or many, with no relative path in it."""
    if isinstance(value, tuple):
        return tuple(_reachable(one, name, job_file, shared) for one in value)
    if not value or (name == "mlflow" and value in _MLFLOW_PLACES):
        return value
    storage.refuse_keys(value)
    if _is_absolute(value):
        return value
    if shared is not None:
        return storage.join(shared, value)
    raise ConfigError(
        f"{job_file}: {name} is {value!r}, a path on this machine, which the cluster does not see: give --storage with "
        "a directory that all its nodes share, or s3://BUCKET/..., to look below that; or put a URI into the file"
    )


def _is_absolute(path: str) -> bool:
    return "://" in path or path.startswith("/")


class _FinalError(LstmRayError):
    """What a connection that is made again would not change: no such job, a token that is refused."""


class _CannotShowError(Exception):
    """What was to be shown could not be.

    Attributes:
        error: Why; it is ours, not the connection's.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Client(JobSubmissionClient):
    """Ray's client, which by itself would wait for an answer without end."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        return super()._do_request(*arguments, **{"timeout": _ANSWER_LIMIT_S, **options})

    def knock(self) -> None:
        """Asks whether the cluster is there; raises what `requests` raises if it is not."""
        self._do_request("GET", "/api/version", timeout=_SILENT_FOR_S)


class Jobs:
    """The jobs of a cluster.

    Attributes:
        address: Of the cluster's dashboard.
    """

    def __init__(self, address: str) -> None:
        """Connects to a cluster.

        Args:
            address: HOST:PORT of its dashboard, whose port is 8265 if not given, or a URL; "auto" is what
                RAY_API_SERVER_ADDRESS names, or else this machine's.

        Raises:
            LstmRayError: There is no cluster, or it does not let us in.
        """
        self.address = _dashboard_of(address)
        # Ray lets RAY_ADDRESS of the environment overrule the address it is given, and only this overrule that.
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address
        for talkative in _TALKATIVE:
            logging.getLogger(f"ray.{talkative}").setLevel(logging.WARNING)
        with self._errors_told():
            self._client = _Client(self.address)

    def submit(self, config: Settings, code: str | None = None) -> str:
        """Submits a job and returns its name.

        Args:
            config: What `load_job` returned.
            code: Directory of the user's own modules, sent along.
        """
        command = command_of(type(config))
        name = f"lstm-ray-{command}-{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(2)}"
        with packed(config, code) as place, self._errors_told():
            self._client.submit_job(
                entrypoint=_ENTRYPOINTS[command],
                submission_id=name,
                runtime_env={"working_dir": str(place)},
                metadata={_OUTPUT: getattr(config, "output", "")},
            )
        return name

    def list(self) -> list[Job]:
        """Lists the jobs that were submitted, the newest last."""
        with self._errors_told():
            known = self._client.list_jobs()
        submitted = sorted((job for job in known if job.submission_id), key=lambda job: job.start_time or 0)
        return [_job(job) for job in submitted]

    def job(self, name: str) -> Job:
        """Returns a job by its name."""
        with self._errors_told(name):
            return _job(self._client.get_job_info(name))

    def log(self, name: str) -> str:
        """Returns all that a job has written so far."""
        with self._errors_told(name):
            return str(self._client.get_job_logs(name))

    def stop(self, name: str) -> Job:
        """Stops a job and returns it when it has stopped; one that has ended stays as it is."""
        with self._errors_told(name):
            self._client.stop_job(name)
            deadline = time.monotonic() + _STOP_LIMIT_S
            while not (job := self.job(name)).has_ended and time.monotonic() < deadline:
                time.sleep(0.5)
        return job

    def follow(self, name: str, show: Show, notify: Show) -> Job:
        """Shows what a job writes, from its beginning to its end, and returns it.

        A connection that breaks is made again; what was shown is not repeated.

        Args:
            name: The job.
            show: Is called with each new piece of the log. What it raises is raised.
            notify: Is told that the connection broke.

        Raises:
            LstmRayError: There is no such job, or the cluster could not be reached for two minutes.
        """
        shown = 0  # characters

        def tell(piece: str) -> None:
            try:
                show(piece)
            except OSError as error:  # nobody reads on
                raise _CannotShowError(error) from error

        async def tail() -> None:
            nonlocal shown  # not returned: a connection that breaks ends in an exception
            position = 0
            pieces: AsyncIterator[str] = self._client.tail_job_logs(name)
            async for piece in self._while_answered(pieces):
                new = piece[max(0, shown - position) :]
                position += len(piece)
                if new:
                    tell(new)
                    shown = position

        failing_since: float | None = None
        while True:
            try:
                self.job(name)  # which tells a job that there is not from a broken connection
                asyncio.run(tail())
                job = self.job(name)
                if job.has_ended:
                    tell(self.log(name)[shown:])
                failing_since = None
            except _FinalError:
                raise
            except _CannotShowError as unshown:
                raise unshown.error from None
            except (LstmRayError, RuntimeError, OSError, aiohttp.ClientError) as error:
                if failing_since is None:
                    failing_since = time.monotonic()
                    notify(f"no connection to {self.address}: trying again for {_RECONNECT_FOR_S:.0f} s")
                if time.monotonic() - failing_since > _RECONNECT_FOR_S:
                    raise LstmRayError(
                        f"lost the cluster at {self.address}: {reason(error)}; the job may go on: "
                        f"lstm-ray jobs status {name} --address {self.address}"
                    ) from error
                time.sleep(2)
                continue
            if job.has_ended:
                return job
            time.sleep(0.5)

    async def _while_answered(self, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        """Yields the pieces of a log; raises LstmRayError if none comes and the cluster no longer answers, either.

        A connection that nobody closes, as when a link goes silent, would be waited for without end.
        """
        waiting = asyncio.ensure_future(anext(pieces, None))
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=_SILENT_FOR_S)
            if not done:
                with self._errors_told():
                    await asyncio.to_thread(self._client.knock)
                continue
            piece = waiting.result()
            if piece is None:
                return
            yield piece
            waiting = asyncio.ensure_future(anext(pieces, None))

    @contextmanager
    def _errors_told(self, name: str | None = None) -> Iterator[None]:
        """Turns the client's errors into ours."""
        try:
            yield
        except AuthenticationError as error:
            raise _FinalError(
                f"{self.address} refuses this machine's token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a "
                "file with the cluster's"
            ) from error
        except (OSError, requests.RequestException) as error:
            raise LstmRayError(
                f"no answer from {self.address}: is that the cluster's dashboard (--address HOST:8265), and is "
                "there a tunnel to it?"
            ) from error
        except RuntimeError as error:
            message = " ".join(str(error).split())
            if name is not None and ("status code 404" in message or "does not exist" in message):
                raise _FinalError(f"no job {name!r} at {self.address}: lstm-ray jobs list shows them") from error
            raise LstmRayError(f"{self.address}: {message[-500:]}") from error


def exit_code(job: Job) -> int:
    """Returns what a command should exit with that has waited for a job: the job's own, as shells tell it, or 1."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    code = job.exit_code or 1
    return 128 - code if code < 0 else code  # ended by a signal


def _dashboard_of(address: str) -> str:
    if address == "auto":
        address = os.environ.get("RAY_API_SERVER_ADDRESS") or _DASHBOARD
    if address.startswith("ray://"):
        raise ConfigError(f"--address {address}: jobs go to the cluster's dashboard, such as http://HOST:8265")
    scheme, _, rest = address.rpartition("://")
    rest = rest.rstrip("/")
    if not scheme and not re.search(r":\d+$", rest):
        rest += ":8265"
    return f"{scheme or 'http'}://{rest}"


def _job(details: Any) -> Job:
    begun, ended = details.start_time, details.end_time  # ms since 1970
    seconds = ((ended or time.time() * 1000) - begun) / 1000 if begun else 0.0
    started = datetime.fromtimestamp(begun / 1000).strftime("%Y-%m-%d %H:%M:%S") if begun else ""
    return Job(
        id=details.submission_id,
        status=details.status.value,
        command=details.entrypoint,
        output=(details.metadata or {}).get(_OUTPUT, ""),
        started=started,
        seconds=seconds,
        message=" ".join((details.message or "").split()),
        exit_code=details.driver_exit_code,
    )
