"""Parts: the files of the output, each with the rows of one chunk, its counts and the plan's fingerprint."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.errors import LstmRayError, OutputError
from lstm_ray.score.columns import PartLayout
from lstm_ray.score.plan import Chunk, Plan
from lstm_ray.score.scorer import SENTIMENTS, UNSURE, Scored
from lstm_ray.wording import reason

_FOOTER_KEY = b"lstm_ray"
_THREADS = 16  # reading a footer and syncing a file is waiting


@dataclass(frozen=True)
class Part:
    """A part that has been written.

    Attributes:
        name: Its file name.
        rows: Rows in it.
        positives: Rows whose sentiment is positive.
        errors: Rows without a score, by reason.
        unsure: Rows whose sentiment is unsure.
    """

    name: str
    rows: int
    positives: int
    errors: dict[str, int]
    unsure: int = 0


@dataclass
class Tally:
    """The parts that are done, and the sums of their counts."""

    done: set[str] = field(default_factory=set)
    rows: int = 0
    positives: int = 0
    unsure: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, part: Part) -> None:
        """Adds a part."""
        self.done.add(part.name)
        self.rows += part.rows
        self.positives += part.positives
        self.unsure += part.unsure
        self.errors.update(part.errors)

    def remove(self, part: Part) -> None:
        """Removes a part that was added."""
        self.done.remove(part.name)
        self.rows -= part.rows
        self.positives -= part.positives
        self.unsure -= part.unsure
        self.errors.subtract(part.errors)


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
        OutputError: It cannot be written.
    """
    sentiments = _count_values(scored.sentiment)
    positives, unsure = sentiments.get(SENTIMENTS[1], 0), sentiments.get(UNSURE, 0)
    part = Part(chunk.part_name, chunk.rows, positives, _count_values(scored.error), unsure)
    counts = {"fingerprint": layout.fingerprint, **asdict(part)}
    if not unsure:  # so that a part without such rows has the bytes that it had before there were any
        del counts["unsure"]
    footer = json.dumps(counts, sort_keys=True).encode()
    schema = pa.schema([field.with_nullable(True) for field in layout.schema], metadata={_FOOTER_KEY: footer})
    table = pa.Table.from_arrays([*kept, scored.probability, scored.sentiment, scored.error], schema=schema)
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
    try:
        filesystem, target = storage.locate(path)
        with filesystem.open_input_file(target) as source:
            parquet = pq.ParquetFile(source)
            rows = parquet.metadata.num_rows
            footer = json.loads((parquet.schema_arrow.metadata or {}).get(_FOOTER_KEY, b"{}"))
    except (OSError, pa.ArrowException, LstmRayError, ValueError):
        return None
    if footer.pop("fingerprint", None) != fingerprint or footer["rows"] != rows:
        return None
    return Part(**footer)


def finished_parts(plan: Plan, output: str) -> Iterator[Part]:
    """Yields the parts of a plan that are in the output directory with all their rows."""
    names = set(storage.list_names(output))

    def read(chunk: Chunk) -> Part | None:
        part = read_part(storage.join(output, chunk.part_name), plan.layout.fingerprint)
        return part if part is not None and part.rows == chunk.rows else None

    present = (chunk for chunk in plan.chunks() if chunk.part_name in names)
    with ThreadPoolExecutor(_THREADS) as pool:
        # In batches: `map` would take all chunks at once.
        while some := list(itertools.islice(present, 100 * _THREADS)):
            yield from (part for part in pool.map(read, some) if part is not None)


def sync_parts(names: Iterable[str], output: str) -> None:
    """Waits until a local disk has stored the parts.

    Raises:
        OutputError: The disk failed, or has no room.
    """
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(storage.sync, [*(storage.join(output, name) for name in names), output]):
                pass
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {reason(error)}") from error
