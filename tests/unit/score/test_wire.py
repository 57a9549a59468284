"""What passes through Ray comes out as it went in, and errors keep their type."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lstm_ray.errors import BundleError
from lstm_ray.model.profile import Profile
from lstm_ray.score import wire
from lstm_ray.score.parts import Part
from lstm_ray.score.plan import BadFile, Chunk, Task
from lstm_ray.storage.inputs import InputFile

TASK = Task(InputFile("s3://b/é.parquet", 7, "2024-01-01", {"year": None}), [Chunk(3, 0, 80, (0, 2), 0)])


def test_tasks_come_out_as_they_went_in() -> None:
    assert wire.tasks_from_text(wire.tasks_to_text([TASK, TASK])) == [TASK, TASK]


def test_results_are_parts_and_bad_files_or_an_error_of_the_same_type() -> None:
    parts = [Part("part-0", 5, 2, {"no_words": 1}, Profile(rows=4).to_json()), Part("part-1", 3, 0, {})]
    results = [parts[0], BadFile("s3://b/é.parquet", "row group 0 cannot be read"), parts[1]]
    assert list(wire.results_from_text(wire.results_to_text(results))) == results
    with pytest.raises(BundleError, match=r"^damaged$"):
        list(wire.results_from_text(wire.error_to_text(BundleError("damaged"))))


def test_a_row_has_arrays_or_a_failure() -> None:
    chunks = [np.array([1, 2, 3], np.int32), np.array([], np.int32)]
    row = wire.row_of_arrays(wire.tasks_to_text([TASK]), {"token_ids": chunks})
    assert not wire.has_failed(row)
    for found, chunk in zip(wire.arrays_of(row, "token_ids", np.int32), chunks, strict=True):
        np.testing.assert_array_equal(found, chunk)
    assert wire.has_failed(wire.row_of_failure("tasks", "what was wrong"))
    assert not wire.has_failed(pa.table({"tasks": ["tasks"]}))
