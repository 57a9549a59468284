"""Packs what is sent with a job: lstm-ray, the job's settings, and the user's code."""

from __future__ import annotations

import fnmatch
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lstm_ray
from lstm_ray.config import Settings, to_yaml
from lstm_ray.errors import ConfigError
from lstm_ray.wording import reason

JOB_FILE = "lstm-ray-job.yaml"
"""Name of the settings file in the package; no user file should have it."""

ENTRYPOINTS = {
    "train": f"python -m lstm_ray train --config {JOB_FILE}",
    "tune": f"python -m lstm_ray tune {JOB_FILE}",
    "score": f"python -m lstm_ray score --config {JOB_FILE}",
    "evaluate": f"python -m lstm_ray evaluate --config {JOB_FILE}",
}
"""The command line of a job, by command."""

# Hidden files may contain secrets and histories. Ray would apply the rules of a .gitignore to lstm-ray's files too.
_NOT_SHIPPED = shutil.ignore_patterns(
    ".*", "__pycache__", "node_modules", "*.pyc", "*.parquet", "*.keras", "*.npz", "*.onnx"
)
_KEYS = """
    id_rsa* id_dsa* id_ecdsa* id_ed25519* *-key.json *key.csv *accesskeys.csv credentials credentials.* *.env *.pem
    *.key *.ppk *.p12 *.pfx *.jks *.kdbx *.p8 *.gpg *.keytab *.keystore *credentials*.json client_secret*.json
    service[-_]account*.json kubeconfig* *.kubeconfig kaggle.json token.json _netrc netrc auth_token *.tfstate
    *.tfstate.backup *.tfvars *.tfvars.json secret.* secrets.* secret*.y*ml password.* passwords.* *adminsdk*.json
    api[-_]key* apikey* *[-_]token htpasswd rclone.conf boto.cfg *.asc *.age *.kdb *.ovpn
"""
"""Usual names of files with keys or passwords, in lower case."""

_ENVIRONMENT = ("pyvenv.cfg", "conda-meta")  # in the directory of a virtual environment, or a conda environment


@contextmanager
def packed(
    config: Settings, code: str | None = None, notify: Callable[[str], None] = lambda note: None
) -> Iterator[Path]:
    """Yields a temporary directory with everything that a job needs: lstm-ray, settings, and the user's code.

    Args:
        config: Settings from `prepare.load_job`.
        code: Directory of the user's modules, which the job imports.
        notify: Receives a message if some files look like keys and are not sent.

    Raises:
        ConfigError: `code` cannot be read, or contains a reserved name.
    """
    with tempfile.TemporaryDirectory(prefix="lstm-ray-job-") as name:
        directory = Path(name, "package")  # a subdirectory, because copytree changes the mode to that of `code`
        directory.mkdir()
        if code is not None:
            keys: list[str] = []
            try:
                shutil.copytree(code, directory, ignore=_not_shipped(code, keys), dirs_exist_ok=True)
            except OSError as error:
                raise ConfigError(f"--working-dir {code}: cannot be read: {reason(error)}") from error
            if keys:
                notify(f"not sent, because files of this name contain keys or passwords: {', '.join(sorted(keys))}")
        taken = [name for name in ("lstm_ray", JOB_FILE) if (directory / name).exists()]
        if taken:
            raise ConfigError(
                f"--working-dir {code}: contains {taken[0]}, a name that lstm-ray needs for what it sends"
            )
        shutil.copytree(Path(lstm_ray.__file__).parent, directory / "lstm_ray", ignore=_NOT_SHIPPED)
        (directory / JOB_FILE).write_text(to_yaml(config), encoding="utf-8")
        yield directory


def _not_shipped(code: str, keys: list[str]) -> Callable[[str, list[str]], set[str]]:
    """Returns a filter for `copytree` that excludes hidden files, environments, sockets, keys and links out of `code`.

    Args:
        code: The directory that is copied.
        keys: Receives the paths of files that look like keys.
    """
    root = Path(code).resolve()

    def ignored(directory: str, names: list[str]) -> set[str]:
        leads_out = {name for name in names if not Path(directory, name).resolve().is_relative_to(root)}
        special = {name for name in names if not (Path(directory, name).is_file() or Path(directory, name).is_dir())}
        environments = {name for name in names if any(Path(directory, name, mark).exists() for mark in _ENVIRONMENT)}
        others = _NOT_SHIPPED(directory, names) | leads_out | special | environments
        like_keys = {name for name in names if _is_key(Path(directory, name))} - others
        keys.extend(str(Path(directory, name).relative_to(code)) for name in like_keys)
        return others | like_keys

    return ignored


def _is_key(path: Path) -> bool:
    is_code = path.suffix in (".py", ".pub")
    return (
        path.is_file() and not is_code and any(fnmatch.fnmatchcase(path.name.lower(), name) for name in _KEYS.split())
    )
