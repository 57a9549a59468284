"""Every error that lstm-ray raises on purpose.

    LstmRayError                 exit code 1: the work failed, and here is why
    ├── InputError               a file, column or row that cannot be used
    ├── OutputError              a directory or file that cannot be written, or holds something else
    │   └── ReportError          the work is done and here is its result, but its report cannot be written
    ├── BundleError              a model bundle that is damaged, incomplete or of an unknown format
    ├── TrainingError            training stopped: diverged, out of room
    │   └── WorkerLostError      a worker died or does not answer; raised by its peers, so that it is replaced
    └── ConfigError              exit code 2: a setting or combination of settings that cannot be

The message is for a person: what was wrong, where (file, column, row), what to do about it. The command line prints it
alone, without a traceback; `--debug` shows where it came from. Exit code 3, done but input files were set aside, is no
error: cli/score.py returns it.
"""

from typing import Any


class LstmRayError(Exception):
    """The work failed for a reason that the message explains."""

    exit_code = 1


class InputError(LstmRayError):
    """An input file, column or row cannot be used."""


class OutputError(LstmRayError):
    """An output cannot be written, or holds something that must not be overwritten."""


class ReportError(OutputError):
    """The report on a result cannot be written.

    Attributes:
        result: The result, which is not lost with its report.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class BundleError(LstmRayError):
    """A model bundle is damaged, incomplete, or of a format this version does not know."""


class TrainingError(LstmRayError):
    """Training stopped before it was done."""


class WorkerLostError(TrainingError):
    """A worker died or does not answer: another can resume training from the last checkpoint."""


class ConfigError(LstmRayError):
    """A setting, or a combination of settings, is not valid."""

    exit_code = 2
