"""Submits, follows and stops jobs on a cluster, with the Ray Jobs API.

    job file ── prepare.py ──> settings with paths that all nodes understand
             ── package.py ──> a directory: lstm_ray/, lstm-ray-job.yaml, the user's modules
             ── submit ──────> over HTTP to the cluster; there: python -m lstm_ray COMMAND --config lstm-ray-job.yaml
             <── follow ────── log and exit code

lstm-ray is sent with the job, so the cluster needs its dependencies but not lstm-ray itself.
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
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from lstm_ray.config import Settings, command_of
from lstm_ray.errors import ConfigError, LstmRayError
from lstm_ray.jobs.package import ENTRYPOINTS, packed
from lstm_ray.runtime.addresses import DASHBOARD_PORT, find_dashboard, refuse_password
from lstm_ray.runtime.ray_internals import without_log
from lstm_ray.wording import command_line, reason

_DASHBOARD = "http://127.0.0.1:8265"
_OUTPUT = "output"  # of a job's metadata
_VERBOSE = ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging")
"""Ray's modules that log uploads and closed connections."""

_RECONNECT_FOR_S = 120.0
_ANSWER_LIMIT_S = 60.0
_SILENT_FOR_S = 15.0  # after this silence, the cluster is asked whether it still answers
_SAVES_WITHIN_S = 75  # time for a stopped run to save; Ray's default is 3 s
_STOP_LIMIT_S = 90.0
_MOST_LINES = 10  # of Ray's message, which may contain a traceback

Show = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A job, as the cluster reports it.

    Attributes:
        id: The job's name.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        command: The command line.
        output: The directory that the job writes to; "" if another program submitted it.
        started: Start time, in local time; "" if the job has not started.
        seconds: Duration so far.
        message: Ray's message about the job.
        exit_code: Exit code of the command; None while it runs, and if it never started or was stopped.
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
    def reason(self) -> list[str]:
        """Returns Ray's message in lines for people: each sentence on one, without the end of the log."""
        sentences = re.sub(r"(?<=[.:]) +(?=[A-Z])", "\n", without_log(self.message) or self.message).splitlines()
        return sentences if len(sentences) <= _MOST_LINES else [*sentences[:2], "...", *sentences[2 - _MOST_LINES :]]

    @property
    def has_ended(self) -> bool:
        """Returns whether the job has succeeded, failed or been stopped."""
        return bool(JobStatus(self.status).is_terminal())


class _FinalError(LstmRayError):
    """An error that reconnecting does not fix: the job does not exist, or the token is refused."""


class _CannotShowError(Exception):
    """The log could not be shown.

    Attributes:
        error: The cause, which lies in this process, not in the connection.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Client(JobSubmissionClient):
    """Ray's client with a timeout; by default it waits for ever."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        return super()._do_request(*arguments, **{"timeout": _ANSWER_LIMIT_S, **options})

    def ping(self) -> None:
        """Asks the cluster for its version. Raises an error of `requests` if there is no answer."""
        self._do_request("GET", "/api/version", timeout=_SILENT_FOR_S)


class Jobs:
    """The jobs of a cluster.

    Attributes:
        address: URL of the cluster's dashboard.
    """

    def __init__(self, address: str, notify: Show = lambda note: None) -> None:
        """Connects to a cluster.

        Args:
            address: HOST:PORT of its dashboard, port 8265 if none is given, or a URL, or of Ray itself; "auto" is the
                value of RAY_API_SERVER_ADDRESS, or else this machine's.
            notify: Receives a message if the address is Ray's own, and the dashboard was found beside it.

        Raises:
            LstmRayError: There is no cluster, or it refuses our token.
        """
        refuse_password(address)
        self.address = address
        with self._translated_errors():
            self.address = _dashboard_of(find_dashboard(address, notify))
        # In Ray's client RAY_ADDRESS of the environment wins over the argument, and only this variable over that.
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address
        for module in _VERBOSE:
            logging.getLogger(f"ray.{module}").setLevel(logging.WARNING)
        with self._translated_errors():
            self._client = _Client(self.address)

    def address_option(self) -> list[str]:
        """Returns the option for a command to copy; none if the address has a password: it is in the environment."""
        return [] if "@" in self.address else ["--address", self.address]

    def submit(self, config: Settings, code: str | None = None, notify: Show = lambda note: None) -> str:
        """Submits a job and returns its name.

        Args:
            config: Settings from `prepare.load_job`.
            code: Directory of the user's modules, which is sent with the job.
            notify: Receives a message if some of its files are not sent.
        """
        command = command_of(type(config))
        name = f"lstm-ray-{command}-{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(2)}"
        with packed(config, code, notify) as directory, self._translated_errors():
            self._client.submit_job(
                entrypoint=ENTRYPOINTS[command],
                submission_id=name,
                runtime_env={
                    "working_dir": str(directory),
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_SAVES_WITHIN_S)},
                },
                metadata={_OUTPUT: getattr(config, "output", None) or ""},
            )
        return name

    def list(self) -> list[Job]:
        """Returns the submitted jobs, the newest last."""
        with self._translated_errors():
            known = self._client.list_jobs()
        submitted = sorted((job for job in known if job.submission_id), key=lambda job: job.start_time or 0)
        return [_job(job) for job in submitted]

    def job(self, name: str) -> Job:
        """Returns a job by its name."""
        with self._translated_errors(name):
            return _job(self._client.get_job_info(name))

    def log(self, name: str) -> str:
        """Returns the log of a job so far."""
        with self._translated_errors(name):
            return str(self._client.get_job_logs(name))

    def stop(self, name: str) -> Job:
        """Stops a job, and returns it after it has ended."""
        with self._translated_errors(name):
            self._client.stop_job(name)
            deadline = time.monotonic() + _STOP_LIMIT_S
            while not (job := self.job(name)).has_ended and time.monotonic() < deadline:
                time.sleep(0.5)
        return job

    def follow(self, name: str, show: Show, notify: Show) -> Job:
        """Shows the log of a job from beginning to end, and returns the job after it has ended.

        If the connection breaks, it reconnects without repeating what was shown.

        Args:
            name: The job's name.
            show: Receives each new piece of the log. Errors that it raises are passed on.
            notify: Receives a message when the connection breaks.

        Raises:
            LstmRayError: There is no such job, or the cluster could not be reached for two minutes.
        """
        shown = 0  # characters

        def show_piece(piece: str) -> None:
            try:
                show(piece)
            except OSError as error:  # stdout was closed
                raise _CannotShowError(error) from error

        async def tail() -> None:
            nonlocal shown  # not a return value: a broken connection raises an exception
            position = 0
            pieces: AsyncIterator[str] = self._client.tail_job_logs(name)
            async for piece in self._while_answered(pieces):
                new = piece[max(0, shown - position) :]
                position += len(piece)
                if new:
                    show_piece(new)
                    shown = position

        failing_since: float | None = None
        while True:
            try:
                self.job(name)  # unlike tail_job_logs, this distinguishes an unknown job from a broken connection
                asyncio.run(tail())
                job = self.job(name)
                if job.has_ended:
                    show_piece(self.log(name)[shown:])
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
                        f"lost the cluster at {self.address}: {reason(error)}; the job may still be running: "
                        f"{command_line('jobs', 'status', name, *self.address_option())}"
                    ) from error
                time.sleep(2)
                continue
            if job.has_ended:
                return job
            time.sleep(0.5)

    async def _while_answered(self, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        """Yields the pieces of a log. Raises LstmRayError if none arrives and the cluster does not answer.

        Without this check, it would wait for ever on a dead connection that neither side has closed.
        """
        waiting = asyncio.ensure_future(anext(pieces, None))
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=_SILENT_FOR_S)
            if not done:
                with self._translated_errors():
                    await asyncio.to_thread(self._client.ping)
                continue
            piece = waiting.result()
            if piece is None:
                return
            yield piece
            waiting = asyncio.ensure_future(anext(pieces, None))

    @contextmanager
    def _translated_errors(self, name: str | None = None) -> Iterator[None]:
        """Converts the client's errors into `LstmRayError`."""
        try:
            yield
        except AuthenticationError as error:
            raise _FinalError(
                f"{self.address} refuses this machine's token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a "
                "file with the cluster's token"
            ) from error
        except (OSError, requests.RequestException) as error:
            raise LstmRayError(
                f"no answer from {self.address}: is that the cluster's dashboard (--address HOST:8265), and is "
                f"there a tunnel to it?{_to_start(self.address)}"
            ) from error
        except RuntimeError as error:
            message = " ".join(str(error).split())
            if name is not None and ("status code 404" in message or "does not exist" in message):
                raise _FinalError(f"no job {name!r} at {self.address}: lstm-ray jobs list shows them") from error
            if "No available agent" in message:
                raise LstmRayError(
                    f"{self.address}: no node can start the job: ray start may have failed there, or the nodes are "
                    "still starting; try again when `ray status` lists one"
                ) from error
            raise LstmRayError(f"{self.address}: {message[-500:]}") from error


def _to_start(address: str) -> str:
    """Returns how a Ray is started if its dashboard should be on this machine."""
    if urlsplit(address).hostname not in ("127.0.0.1", "localhost", "::1"):
        return ""
    return " On one machine, ray start --head starts one (docs/how-to/ray-on-one-machine.md)"


def exit_code(job: Job) -> int:
    """Returns the exit code of a job as a shell reports it; 1 if the job failed without an exit code."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    code = job.exit_code or 1
    return 128 - code if code < 0 else code  # it was ended by a signal


def _dashboard_of(address: str) -> str:
    if address == "auto":
        address = os.environ.get("RAY_API_SERVER_ADDRESS") or _DASHBOARD
    if address.startswith("ray://"):
        raise ConfigError(f"--address {address}: jobs go to the cluster's dashboard, such as http://HOST:8265")
    scheme, _, rest = address.rpartition("://")
    rest = rest.rstrip("/")
    if not scheme and not re.search(r":\d+$", rest):
        rest += f":{DASHBOARD_PORT}"
    return f"{scheme or 'http'}://{rest}"


def _job(details: Any) -> Job:
    start, end = details.start_time, details.end_time  # ms since 1970
    seconds = ((end or time.time() * 1000) - start) / 1000 if start else 0.0
    started = datetime.fromtimestamp(start / 1000).strftime("%Y-%m-%d %H:%M:%S") if start else ""
    return Job(
        id=details.submission_id,
        status=details.status.value,
        command=details.entrypoint,
        output=(details.metadata or {}).get(_OUTPUT, ""),
        started=started,
        seconds=seconds,
        message="\n".join(line.strip() for line in (details.message or "").splitlines() if line.strip()),
        exit_code=details.driver_exit_code,
    )
