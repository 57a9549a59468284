"""Performs a task of a plan: reads its rows, scores them, writes its parts.

    score_tasks    all three, a chunk at a time        in this process, and on actors without a GPU
    encode_task    reads and encodes texts             on CPUs, before an actor with a GPU
    write_task     writes the scored rows              on CPUs, after that actor

Actors and Ray tasks call these functions, but this module does not use Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from lstm_ray.errors import InputError
from lstm_ray.score.columns import PartLayout, kept_columns
from lstm_ray.score.parts import Part, write_part
from lstm_ray.score.plan import BadFile, Task
from lstm_ray.score.reading import read_task
from lstm_ray.score.scorer import Encoded, Encoder, Scored, Scorer, encode_column
from lstm_ray.storage import is_local

_FILES_AT_ONCE = 16  # of an object store, whose answers take longer than scoring a small file


def score_tasks(tasks: Sequence[Task], layout: PartLayout, scorer: Scorer, output: str) -> Iterator[Part | BadFile]:
    """Performs tasks; yields each part once it is written, and each file that cannot be read.

    Raises:
        OutputError: A part cannot be written.
    """
    if len(tasks) == 1 or (is_local(output) and all(is_local(task.file.path) for task in tasks)):
        for task in tasks:
            yield from _parts_or_bad_file(task, layout, scorer, output)
        return
    pool = ThreadPoolExecutor(_FILES_AT_ONCE)
    try:
        for results in pool.map(lambda task: list(_parts_or_bad_file(task, layout, scorer, output)), tasks):
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def _parts_or_bad_file(task: Task, layout: PartLayout, scorer: Scorer, output: str) -> Iterator[Part | BadFile]:
    try:
        yield from score_task(task, layout, scorer, output)
    except InputError as error:
        yield bad_file(task, error)


def score_task(task: Task, layout: PartLayout, scorer: Scorer, output: str) -> Iterator[Part]:
    """Reads, scores and writes the chunks of a task, one after the other; yields each part once it is written.

    Raises:
        InputError: The file cannot be read, or has changed since it was planned.
        OutputError: A part cannot be written.
    """
    columns = list(dict.fromkeys([*layout.kept, layout.text_column]))
    for chunk, table in read_task(task, columns):
        scored = scorer.score(table[layout.text_column], layout.words)
        yield write_part(chunk, kept_columns(table, layout, task.file.path), scored, layout, output)


def encode_task(task: Task, text_column: str, encoder: Encoder) -> list[Encoded]:
    """Reads and tokenizes the texts of a task's chunks.

    Raises:
        InputError: See `score_task`.
    """
    return [encode_column(encoder, table[text_column]) for _, table in read_task(task, [text_column])]


def write_task(task: Task, layout: PartLayout, scores: Iterable[Scored], output: str) -> list[Part]:
    """Reads the kept columns of a task's chunks, and writes them with the scores of each.

    Raises:
        InputError, OutputError: See `score_task`.
    """
    chunks = zip(read_task(task, layout.kept), scores, strict=True)
    return [
        write_part(chunk, kept_columns(table, layout, task.file.path), scored, layout, output)
        for (chunk, table), scored in chunks
    ]


def bad_file(task: Task, error: InputError) -> BadFile:
    """Returns a task's file as a bad file, with the error that the task raised."""
    return BadFile(task.file.path, str(error).removeprefix(f"{task.file.path}: "))
