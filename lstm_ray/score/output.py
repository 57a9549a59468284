"""The output directory of a scoring run: whose it is, what is deleted from it, what is written beside the parts.

OUTPUT/part-<file>-<row>.parquet   the parts (score/parts.py)
       _plan/                      the plan, written before anything is scored; the lock of a running run
       _bad_files.parquet          input files set aside, and why
       _manifest.json              counts
       _SUCCESS                    empty, written last
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.config import ScoreConfig, to_yaml
from lstm_ray.errors import LstmRayError, OutputError
from lstm_ray.score.parts import Tally, read_part, sync_parts
from lstm_ray.score.plan import BadFile, Plan, is_part_name
from lstm_ray.wording import counted

_LOCK = "_plan/lock"


@dataclass(frozen=True)
class Manifest:
    """What a scoring run did.

    Attributes:
        output: Directory of the parts.
        parts: Number of parts.
        parts_kept: Parts that an earlier run had written.
        rows: Rows in all parts.
        positives: Rows whose sentiment is positive.
        errors: Rows without a score, by reason.
        bad_files: Input files set aside.
        seconds: Duration of this run, reading the model and planning included.
        rows_per_s: Rows that this run scored, divided by its seconds.
        model_hash: Of the bundle.
        fingerprint: Of the plan.
    """

    output: str
    parts: int
    parts_kept: int
    rows: int
    positives: int
    errors: dict[str, int]
    bad_files: int
    seconds: float
    rows_per_s: float
    model_hash: str
    fingerprint: str


def check_output(output: str, plan: Plan, overwrite: bool) -> None:
    """Checks that the directory is empty, has parts of this plan, or may be overwritten.

    Raises:
        OutputError: It holds something else.
    """
    names = storage.list_names(output)
    if not names:
        return
    if "_plan" not in names:
        raise OutputError(f"{output}: not empty, and not written by lstm-ray score: choose another --output")
    if names == ["_plan"]:  # of a run that ended before it wrote a part
        return
    fingerprint = _planned_fingerprint(output)
    if fingerprint is None:
        raise OutputError(
            f"{output}: its _plan/plan.json is not one of lstm-ray score, so nothing here is overwritten: choose "
            "another --output"
        )
    if fingerprint != plan.layout.fingerprint and not overwrite:
        raise OutputError(
            f"{output}: holds the scores of other inputs, another model or other settings: choose another "
            "--output, or --overwrite to delete them"
        )


@contextlib.contextmanager
def locked_output(output: str) -> Iterator[None]:
    """Keeps other runs out. If a run fails before its first part, what it created is deleted."""
    existed, was_empty = storage.exists(output), not storage.list_names(output)
    with storage.locked(output, _LOCK):
        try:
            yield
        except LstmRayError:
            if was_empty and storage.list_names(output) == ["_plan"]:
                storage.delete(storage.join(output, "_plan") if existed else output)
            raise


def start_output(config: ScoreConfig, plan: Plan) -> None:
    """Deletes what another plan or a killed run has left, and writes the plan, for people and for the next run."""
    output = config.output
    if _planned_fingerprint(output) != plan.layout.fingerprint:
        for name in storage.list_names(output):
            if _is_ours(name):  # _plan stays until the new one is written: it marks the directory as ours
                storage.delete(storage.join(output, name), tree=False)
    for directory in (output, storage.join(output, "_plan")):
        storage.delete_unfinished(directory)
    storage.delete(storage.join(output, "_SUCCESS"))
    summary = {
        "fingerprint": plan.layout.fingerprint,
        "rows": plan.rows,
        "parts": plan.parts,
        "files": [asdict(file) for file in plan.files],
        "bad_files": [asdict(file) for file in plan.bad_files],
    }
    storage.write_bytes(storage.join(output, "_plan/config.yaml"), to_yaml(config).encode())
    storage.write_bytes(storage.join(output, "_plan/plan.json"), (json.dumps(summary, indent=1) + "\n").encode())


def _is_ours(name: str) -> bool:
    """Returns whether a scoring run writes files of this name into its output directory."""
    return is_part_name(name) or name in ("_bad_files.parquet", "_manifest.json", "_SUCCESS")


def _planned_fingerprint(output: str) -> str | None:
    path = storage.join(output, "_plan/plan.json")
    if not storage.exists(path):
        return None
    try:
        fingerprint = json.loads(storage.read_bytes(path))["fingerprint"]
    except (ValueError, KeyError, TypeError):
        return None
    return fingerprint if isinstance(fingerprint, str) else None


def finish_output(output: str, plan: Plan, tally: Tally, bad_files: Sequence[BadFile]) -> None:
    """Deletes what is not part of the result, and checks that the result is complete.

    Raises:
        LstmRayError: Parts are missing.
    """
    bad_chunks = list(plan.chunks_of({file.path for file in bad_files}))
    for chunk in bad_chunks:  # some may have been written before the file turned out to be bad
        part = read_part(storage.join(output, chunk.part_name), plan.layout.fingerprint)
        if part is not None and part.name in tally.done:
            tally.remove(part)
    if missing := plan.parts - len(bad_chunks) - len(tally.done):
        raise LstmRayError(f"{output}: {counted(missing, 'part')} not written: run the same command again")
    for name in storage.list_names(output):
        if is_part_name(name) and name not in tally.done:
            storage.delete(storage.join(output, name), tree=False)
    storage.delete_unfinished(output)  # left by an actor that was killed and replaced
    sync_parts(tally.done, output)
    _write_bad_files(output, bad_files)


def _write_bad_files(output: str, bad_files: Sequence[BadFile]) -> None:
    """Writes `_bad_files.parquet`, or deletes it if no file is bad."""
    path = storage.join(output, "_bad_files.parquet")
    if not bad_files:
        storage.delete(path)
        return
    schema = pa.schema([("path", pa.string()), ("error", pa.string())])
    table = pa.Table.from_pylist([asdict(file) for file in bad_files], schema=schema)
    storage.write_file(path, lambda stream: pq.write_table(table, stream))


def write_manifest(manifest: Manifest) -> None:
    """Writes the manifest, and `_SUCCESS`: from then on the run is complete."""
    content = json.dumps(asdict(manifest), indent=2) + "\n"
    storage.write_bytes(storage.join(manifest.output, "_manifest.json"), content.encode())
    storage.write_bytes(storage.join(manifest.output, "_SUCCESS"), b"")
