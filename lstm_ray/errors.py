"""Every error that lstm-ray raises on purpose.

    LstmRayError                 exit code 1: the work failed, for the reason that the message gives
    ├── InputError               a file, column or row that cannot be used
    ├── OutputError              a directory or file that cannot be written, or contains something else
    │   └── ReportError          the work is done, but what shows it cannot be written; the error carries the result
    ├── BundleError              a model bundle that is damaged, incomplete or of an unknown format
    ├── TrainingError            training stopped: it diverged, or did not find enough resources
    │   └── WorkerLostError      a worker died or does not answer; raised by its peers, so that it is replaced
    └── ConfigError              exit code 2: an invalid setting or combination of settings

A message says what was wrong, where (file, column, row) and what to do. The command line prints only the message;
`--debug` adds the traceback. Exit code 3 (done, but input files were set aside) is not an error: cli/score.py returns
it.
"""

from typing import Any


class LstmRayError(Exception):
    """A call or command failed; the message says why."""

    exit_code = 1


class InputError(LstmRayError):
    """An input file, column or row cannot be used."""


class OutputError(LstmRayError):
    """An output cannot be written, or contains something that must not be overwritten."""


class ReportError(OutputError):
    """There is a result, but its report or predictions cannot be written.

    Attributes:
        result: The result itself.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class BundleError(LstmRayError):
    """A model bundle is damaged, incomplete, or in a format that this version cannot read."""


class TrainingError(LstmRayError):
    """Training stopped before it was complete."""


class WorkerLostError(TrainingError):
    """A worker died or does not answer. Training can resume from the last checkpoint with another worker."""


class ConfigError(LstmRayError):
    """A setting, or a combination of settings, is not valid."""

    exit_code = 2
