"""What the processes of a scoring run on Ray exchange: tasks and results as JSON, arrays as bytes, but no texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstm_ray import errors
from lstm_ray.errors import LstmRayError
from lstm_ray.score.parts import Part
from lstm_ray.score.plan import BadFile, Chunk, Task
from lstm_ray.storage.inputs import InputFile

Arrays: TypeAlias = dict[str, list[npt.NDArray[Any]]]
"""What one stage passes to the next: arrays by name, one for each chunk of a task."""
_ARRAYS = pa.list_(pa.large_binary())


def tasks_to_text(tasks: Sequence[Task]) -> str:
    """Returns tasks as JSON."""
    return json.dumps([asdict(task) for task in tasks])


def tasks_from_text(text: str) -> list[Task]:
    """Returns the tasks that `tasks_to_text` turned into JSON."""
    return [
        Task(
            InputFile(**fields["file"]),
            [Chunk(**{**chunk, "row_groups": tuple(chunk["row_groups"])}) for chunk in fields["chunks"]],
        )
        for fields in json.loads(text)
    ]


def results_to_text(results: Iterable[Part | BadFile]) -> str:
    """Returns parts and bad files as JSON."""
    return json.dumps([vars(result) for result in results])


def error_to_text(error: LstmRayError) -> str:
    """Returns an error as JSON, because Ray Data would only quote the message of a raised error."""
    return json.dumps({"raised": type(error).__name__, "message": str(error)})


def results_from_text(text: str) -> Iterator[Part | BadFile]:
    """Yields the parts and bad files of tasks.

    Raises:
        LstmRayError: The error that ended them, with its own type.
    """
    results = json.loads(text)
    if isinstance(results, dict):
        raise getattr(errors, results["raised"])(results["message"])
    yield from (BadFile(**fields) if "path" in fields else Part(**fields) for fields in results)


def row_of_arrays(tasks: str, arrays: Arrays) -> pa.Table:
    """Returns a task's row for the next stage: task, arrays, and no result yet."""
    stored = {name: pa.array([[array.tobytes() for array in chunks]], _ARRAYS) for name, chunks in arrays.items()}
    return pa.table({"tasks": [tasks], "results": pa.nulls(1, pa.string()), **stored})


def row_of_failure(tasks: str, failure: str) -> pa.Table:
    """Returns the row of a task that has failed, which later stages pass on."""
    return pa.table({"tasks": [tasks], "results": [failure]})


def has_failed(row: pa.Table) -> bool:
    """Returns whether an earlier stage has failed on a task's row."""
    return "results" in row.column_names and bool(row["results"][0].is_valid)


def arrays_of(row: pa.Table, name: str, kind: type[np.generic]) -> list[npt.NDArray[Any]]:
    """Returns an array for each chunk of a task's row."""
    return [np.frombuffer(value.as_buffer(), kind) for value in row[name][0].values]
