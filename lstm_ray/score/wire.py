"""What the processes of a scoring run on Ray exchange: tasks and results as JSON, arrays as bytes, but no texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstm_ray import errors
from lstm_ray.errors import InputError, LstmRayError
from lstm_ray.score.parts import Part
from lstm_ray.score.plan import BadFile, Chunk, Task
from lstm_ray.score.tasks import bad_file
from lstm_ray.storage.inputs import InputFile

Arrays: TypeAlias = dict[str, list[npt.NDArray[Any]]]
"""What one stage passes to the next: arrays by name, one for each chunk of a task."""
_ARRAYS = pa.list_(pa.large_binary())


def task_to_text(task: Task) -> str:
    """Returns a task as JSON."""
    return json.dumps(asdict(task))


def task_from_text(text: str) -> Task:
    """Returns the task that `task_to_text` turned into JSON."""
    fields = json.loads(text)
    chunks = [Chunk(**{**chunk, "row_groups": tuple(chunk["row_groups"])}) for chunk in fields["chunks"]]
    return Task(InputFile(**fields["file"]), chunks)


def parts_to_text(parts: Sequence[Part]) -> str:
    """Returns the parts of a task as JSON."""
    return json.dumps([asdict(part) for part in parts])


def failure_to_text(task: Task, error: LstmRayError) -> str:
    """Returns a task's bad file or error as JSON, because Ray Data would only quote the message of a raised error."""
    if isinstance(error, InputError):
        return json.dumps(asdict(bad_file(task, error)))
    return json.dumps({"raised": type(error).__name__, "message": str(error)})


def results_from_text(text: str) -> Iterator[Part | BadFile]:
    """Yields the parts or the bad file of a task.

    Raises:
        LstmRayError: The error that ended the task, with its own type.
    """
    fields = json.loads(text)
    if isinstance(fields, list):
        yield from (Part(**part) for part in fields)
    elif "raised" in fields:
        raise getattr(errors, fields["raised"])(fields["message"])
    else:
        yield BadFile(**fields)


def row_of_arrays(task: str, arrays: Arrays) -> pa.Table:
    """Returns a task's row for the next stage: task, arrays, and no result yet."""
    stored = {name: pa.array([[array.tobytes() for array in chunks]], _ARRAYS) for name, chunks in arrays.items()}
    return pa.table({"task": [task], "results": pa.nulls(1, pa.string()), **stored})


def row_of_failure(task: str, failure: str) -> pa.Table:
    """Returns the row of a task that has failed, which later stages pass on."""
    return pa.table({"task": [task], "results": [failure]})


def has_failed(row: pa.Table) -> bool:
    """Returns whether an earlier stage has failed on a task's row."""
    return "results" in row.column_names and bool(row["results"][0].is_valid)


def arrays_of(row: pa.Table, name: str, kind: type[np.generic]) -> list[npt.NDArray[Any]]:
    """Returns an array for each chunk of a task's row."""
    return [np.frombuffer(value.as_buffer(), kind) for value in row[name][0].values]
