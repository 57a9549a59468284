"""What is sent along with a job: the package, its settings, and the user's own code."""

from __future__ import annotations

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
"""The settings, among what is sent; a name that no file of the user's has."""

# Hidden files hold secrets and histories; of a .gitignore Ray would take its rules for our own files.
_NOT_SHIPPED = shutil.ignore_patterns(
    ".*", "__pycache__", "node_modules", "*.pyc", "*.parquet", "*.keras", "*.npz", "*.onnx"
)
_ENVIRONMENT = ("pyvenv.cfg", "conda-meta")  # what marks the directory of a virtual one, of conda's


@contextmanager
def packed(config: Settings, code: str | None = None) -> Iterator[Path]:
    """Gives a directory with all that a job needs, for the while: the package, the settings, and the user's own code.

    Args:
        config: What `jobs.load_job` returned.
        code: Directory of the user's own modules, which the job imports.
    """
    with tempfile.TemporaryDirectory(prefix="lstm-ray-job-") as made:
        place = Path(made)
        if code is not None:
            try:
                shutil.copytree(code, place, ignore=_not_shipped(code), dirs_exist_ok=True)
            except OSError as error:
                raise ConfigError(f"--working-dir {code}: cannot be read: {reason(error)}") from error
        taken = [name for name in ("lstm_ray", JOB_FILE) if (place / name).exists()]
        if taken:
            raise ConfigError(
                f"--working-dir {code}: holds {taken[0]}, which is the name of something that is sent along"
            )
        shutil.copytree(Path(lstm_ray.__file__).parent, place / "lstm_ray", ignore=_NOT_SHIPPED)
        (place / JOB_FILE).write_text(to_yaml(config), encoding="utf-8")
        yield place


def _not_shipped(code: str) -> Callable[[str, list[str]], set[str]]:
    """Returns what tells `copytree` what stays here: environments, sockets, links that lead out, besides patterns."""
    root = Path(code).resolve()

    def ignored(directory: str, names: list[str]) -> set[str]:
        leads_out = {name for name in names if not Path(directory, name).resolve().is_relative_to(root)}
        neither = {name for name in names if not (Path(directory, name).is_file() or Path(directory, name).is_dir())}
        environments = {name for name in names if any(Path(directory, name, mark).exists() for mark in _ENVIRONMENT)}
        return _NOT_SHIPPED(directory, names) | leads_out | neither | environments

    return ignored
