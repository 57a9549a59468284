"""Starts and stops clusters with Ray's launcher: `lstm-ray cluster up` and `down`."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from lstm_ray.cluster.check.document import at, read_documents
from lstm_ray.cluster.check.validate import Remark, validate
from lstm_ray.cluster.definition.cloud_packages import CLOUD_PACKAGES
from lstm_ray.errors import ConfigError, InputError, LstmRayError
from lstm_ray.wording import counted, quoted

_ENDS_WITHIN_S = 10
_KEY_ON_HEAD = "~/ray_bootstrap_key.pem"  # `ray up` copies the workers' key there
# One module of each cloud's CLOUD_PACKAGES, to check whether they are installed.
# Source: imports in ray/autoscaler/_private.
_MODULES = {"aws": "boto3", "gcp": "googleapiclient", "azure": "azure.identity"}


def up(path: str, yes: bool) -> None:
    """Starts the cluster of a definition, or updates a running one.

    Args:
        path: Launcher YAML.
        yes: True to start it without asking; otherwise Ray asks on the terminal.

    Raises:
        ConfigError: The definition is for Kubernetes, or there is no terminal to ask on.
        InputError: The definition is not valid, or not ready.
        LstmRayError: The cluster did not start.
    """
    report = validate(path)
    if report.mistakes:
        raise InputError(f"{path}: {counted(len(report.mistakes), 'mistake')}:\n{_listed(report.mistakes)}")
    if report.is_kubernetes:
        raise ConfigError(
            f"{path}: is for Kubernetes; start it with kubectl:\n"
            f"  kubectl apply --filename {quoted(path)}\n"
            "  kubectl get rayclusters,rayjobs,pods --watch"
        )
    if report.to_do:
        raise InputError(f"{path}: not ready:\n{_listed(report.to_do)}")
    _check_provider(_content(path))
    if not yes and not sys.stdin.isatty():
        raise ConfigError("`ray up` asks before it starts anything, and there is no terminal to ask on: give --yes")
    _ray("up", path, yes)


def down(path: str, yes: bool, confirm: Callable[[str], object] = lambda question: None) -> None:
    """Stops the cluster of a definition. The content of its storage is kept.

    Args:
        path: Launcher YAML.
        yes: True to stop it without asking; otherwise Ray asks on the terminal.
        confirm: Asks before `ray stop` on the user's machines, which comes before Ray's question; raises if the user
            declines.

    Raises:
        ConfigError: The definition is for Kubernetes.
        InputError: The file is not a definition.
        LstmRayError: The cluster did not stop.
    """
    content = _content(path)
    if "apiVersion" in content:
        raise ConfigError(
            f"{path}: is for Kubernetes; stop it with kubectl:\n  kubectl delete --filename {quoted(path)}"
        )
    if not at(content, ["provider", "type"], str):
        raise InputError(f"{path}: provider.type: is missing; is it a definition for `ray up`?")
    _check_provider(content)
    workers = _workers_left_running(content)
    if not workers:
        _ray("down", path, yes)
        return
    if not yes:
        confirm(f"Stop Ray on {at(content, ['provider', 'head_ip'])}, {', '.join(workers)}?")
    stopped = _run_ray("exec", path, _stop_everywhere(content, workers)) == 0
    _ray("down", path, yes=True)
    if not stopped:
        head = at(content, ["provider", "head_ip"])
        raise LstmRayError(
            f"{path}: Ray may still run on {head} {' '.join(workers)}: it could not be stopped on all of them, or this "
            "machine did not start the cluster: run `ray stop` there"
        )


def _workers_left_running(content: dict[str, object]) -> list[str]:
    """Returns the workers that `ray down` would not stop: the user's own machines, without containers."""
    if at(content, ["provider", "type"]) != "local" or at(content, ["docker"], dict):
        return []
    return [str(worker) for worker in at(content, ["provider", "worker_ips"], list) or []]


def _stop_everywhere(content: dict[str, object], workers: list[str]) -> str:
    """Returns a command, to be run on the head, that stops Ray on the head and the workers.

    Ray on a worker ends by itself after the head, except for its log monitor. The head is stopped first, because its
    autoscaler would otherwise restart the workers.
    """
    user, key = at(content, ["auth", "ssh_user"], str), at(content, ["auth", "ssh_private_key"], str)
    words = ["ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    words += ["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10"]
    ssh = " ".join(words + ([f"-i {_KEY_ON_HEAD}"] if key else []))
    stop = shlex.quote(f"bash --login -c {shlex.quote(_stop_command(content, 'worker_start_ray_commands'))}")
    each = [f'{ssh} {shlex.quote(f"{user}@{worker}")} {stop} & all="$all $!";' for worker in workers]
    wait = "failed=0; for one in $all; do wait $one || failed=1; done; exit $failed"
    return f"{_stop_command(content, 'head_start_ray_commands')}; all=; {' '.join(each)} {wait}"


def _stop_command(content: dict[str, object], name: str) -> str:
    """Returns the `ray stop` command from the definition's start commands, which includes the path to Ray."""
    lines = [line for line in at(content, [name], list) or [] if isinstance(line, str)]
    return next((line for line in lines if "ray stop" in line and "ray start" not in line), "ray stop")


def _listed(remarks: tuple[Remark, ...]) -> str:
    return "\n".join(f"  line {remark.line}: {remark.path}: {remark.finding.message}" for remark in remarks)


def _content(path: str) -> dict[str, object]:
    documents = read_documents(path)
    content = documents[0].content if documents else None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a cluster definition")
    return content


def _check_provider(content: dict[str, object]) -> None:
    """Raises LstmRayError if the packages that Ray needs for the cloud are not installed."""
    provider = at(content, ["provider", "type"], str)
    module = _MODULES.get(str(provider))
    if module is None:
        return
    try:
        is_installed = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        is_installed = False
    if not is_installed:
        raise LstmRayError(f"Ray needs packages for {provider}: pip install {CLOUD_PACKAGES[str(provider)]}")


def _ray(command: str, path: str, yes: bool) -> None:
    """Runs a command of Ray's command line.

    Raises:
        LstmRayError: The command failed.
    """
    code = _run_ray(command, path, *(["--yes"] if yes else []))
    if code:
        raise LstmRayError(f"{path}: `ray {command}` failed with exit code {code}: see its last lines")


def _run_ray(*arguments: str) -> int:
    """Runs Ray's command line with its output on stderr, and returns its exit code."""
    with subprocess.Popen([sys.executable, "-m", "ray.scripts.scripts", *arguments], stdout=sys.stderr.fileno()) as ray:
        try:
            return ray.wait()
        except KeyboardInterrupt:  # the terminal interrupts Ray too
            with suppress(subprocess.TimeoutExpired):
                ray.wait(_ENDS_WITHIN_S)
            ray.kill()
            raise
