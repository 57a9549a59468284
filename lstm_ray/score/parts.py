"""Parts: the files of the output, each with the rows of one chunk, its counts and the plan's fingerprint."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.arrays import Integers
from lstm_ray.errors import LstmRayError, OutputError
from lstm_ray.model.profile import Profile
from lstm_ray.score.columns import PartLayout
from lstm_ray.score.plan import Chunk, Plan, file_of_part
from lstm_ray.score.scorer import SENTIMENTS, UNSURE, Scored
from lstm_ray.storage.formats import PARQUET
from lstm_ray.wording import reason

_FOOTER_KEY = b"lstm_ray"
_THREADS = 16  # that wait for a disk, or an object store

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A part that has been written.

    Attributes:
        name: Its file name.
        rows: Rows in it.
        positives: Rows whose sentiment is positive.
        errors: Rows without a score, by reason.
        profile: Counts of its rows (`Profile.to_json`); empty in a part that an older version wrote.
        unsure: Rows whose sentiment is unsure.
    """

    name: str
    rows: int
    positives: int
    errors: dict[str, int]
    profile: dict[str, int | list[int]] = field(default_factory=dict)
    unsure: int = 0


class FileCounts(NamedTuple):
    """Counts of the rows of one input file.

    Attributes:
        rows: All of them.
        positives: Rows whose sentiment is positive.
        without_score: Rows that have none.
        words: Words that the model has read.
        unknown: Those of them that it does not know.
        truncated: Rows that were truncated.
    """

    rows: int
    positives: int
    without_score: int
    words: int
    unknown: int
    truncated: int


@dataclass
class Tally:
    """The parts that are done, and the sums of their counts.

    Attributes:
        by_file: int64[files, 6], the `FileCounts` of each input file; an array, because there may be a million files.
    """

    by_file: Integers
    done: set[str] = field(default_factory=set)
    rows: int = 0
    positives: int = 0
    unsure: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    profile: Profile = field(default_factory=Profile)

    def add(self, part: Part) -> None:
        """Adds a part."""
        self.done.add(part.name)
        self._count(part, 1)

    def remove(self, part: Part) -> None:
        """Removes a part that was added."""
        self.done.remove(part.name)
        self._count(part, -1)

    def _count(self, part: Part, sign: int) -> None:
        profile = Profile.from_json(part.profile) if part.profile else Profile()
        self.rows += sign * part.rows
        self.positives += sign * part.positives
        self.unsure += sign * part.unsure
        self.errors.update({error: sign * rows for error, rows in part.errors.items()})
        self.profile = self.profile + profile if sign > 0 else self.profile - profile
        counts = FileCounts(
            part.rows,
            part.positives,
            sum(part.errors.values()),
            profile.words,
            profile.unknown,
            profile.truncated,
        )
        self.by_file[file_of_part(part.name)] += sign * np.array(counts)


def write_part(chunk: Chunk, kept: Sequence[Any], scored: Scored, layout: PartLayout, output: str) -> Part:
    """Writes a chunk's part: under a temporary name, which is then renamed (`storage.write_file`).

    It need not be on the disk yet: after a power failure a part that was cut short is recognised and written again,
    and `sync_parts` comes before `_SUCCESS`. Waiting for each would take 7 ms, as long as scoring 100 rows.

    Args:
        chunk: The rows.
        kept: Their kept columns, in the types of the layout.
        scored: Their scores.
        layout: What all parts have in common.
        output: The output directory.

    Raises:
        OutputError: The part cannot be written.
    """
    sentiments = _count_values(scored.sentiment)
    positives, unsure = sentiments.get(SENTIMENTS[1], 0), sentiments.get(UNSURE, 0)
    errors, profile = _count_values(scored.error), scored.profile.to_json()
    part = Part(chunk.part_name, chunk.rows, positives, errors, profile, unsure)
    counts = {"fingerprint": layout.fingerprint, **asdict(part)}
    if not unsure:  # so that a part without such rows has the bytes that it had before there were any
        del counts["unsure"]
    footer = json.dumps(counts, sort_keys=True).encode()
    schema = pa.schema([field.with_nullable(True) for field in layout.schema], metadata={_FOOTER_KEY: footer})
    table = pa.Table.from_arrays([*kept, *scored.columns()], schema=schema)
    storage.write_file(
        storage.join(output, part.name),
        lambda stream: pq.write_table(table, stream, compression="zstd", write_page_checksum=True),
        durable=False,
    )
    return part


def _count_values(column: pa.DictionaryArray) -> dict[str, int]:
    """Returns how often each value occurs in a column; nulls are not counted."""
    counted = column.drop_null().value_counts()
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def read_part(path: str, fingerprint: str) -> Part | None:
    """Returns a part's counts; None if it is damaged, holds fewer rows than it counts, or is of another plan."""
    rows, footer = _read_counts(path) or (0, {})
    if footer.pop("fingerprint", None) != fingerprint or footer["rows"] != rows:
        return None
    return Part(**footer)


def _read_counts(path: str) -> tuple[int, dict[str, Any]] | None:
    """Returns a file's rows and what `write_part` wrote to its footer, {} for others; None if it is not readable."""
    try:
        filesystem, target = storage.locate(path)
        with filesystem.open_input_file(target) as source:
            parquet = pq.ParquetFile(source)
            rows = parquet.metadata.num_rows
            footer = json.loads((parquet.schema_arrow.metadata or {}).get(_FOOTER_KEY, b"{}"))
    except (OSError, pa.ArrowException, LstmRayError, ValueError):
        return None
    return rows, footer if isinstance(footer, dict) else {}


def refuse_foreign(path: str) -> None:
    """Raises OutputError if a file is not a part of any run, not even of one that a power failure cut short."""
    found = _read_counts(path)
    if not found[1] if found is not None else _is_of_something_else(path):
        raise OutputError(
            f"{path}: has the name of a part, but lstm-ray score did not write it: move it away, or choose another "
            "--output"
        )


def _is_of_something_else(path: str) -> bool:
    """Returns whether an unreadable file was no part, which would be empty, or begin as Parquet or with zeros."""
    filesystem, target = storage.locate(path)
    try:
        if not filesystem.get_file_info(target).is_file:  # a directory: none is deleted
            return False
        with filesystem.open_input_file(target) as stream:
            return bytes(stream.read(len(PARQUET))).strip(b"\0") not in (b"", PARQUET)
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {reason(error)}") from error


def finished_parts(plan: Plan, output: str) -> Iterator[Part]:
    """Yields the parts of a plan that are in the output directory with all their rows."""
    names = set(storage.list_names(output))

    def read(chunk: Chunk) -> Part | None:
        part = read_part(storage.join(output, chunk.part_name), plan.layout.fingerprint)
        return part if part is not None and part.rows == chunk.rows else None

    present = (chunk for chunk in plan.chunks() if chunk.part_name in names)
    with ThreadPoolExecutor(_THREADS) as pool:
        for some in _batches(present):
            yield from (part for part in pool.map(read, some) if part is not None)


def sync_parts(names: Iterable[str], output: str) -> None:
    """Waits until a local disk has stored the parts.

    Raises:
        OutputError: The disk failed, or has no room.
    """
    try:
        at_once(storage.sync, [*(storage.join(output, name) for name in names), output])
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {reason(error)}") from error


def at_once(work: Callable[[str], None], names: Iterable[str]) -> None:
    """Calls a function that waits for a disk or an object store with each name, on threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for some in _batches(names):
            for _ in pool.map(work, some):
                pass


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Cuts what threads map into lists, because `map` takes all items at once, with 2 KB for each."""
    left = iter(items)
    while some := list(itertools.islice(left, 100 * _THREADS)):
        yield some
