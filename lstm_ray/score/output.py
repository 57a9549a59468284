"""The output directory of a scoring run: whose it is, what is deleted from it, what is written beside the parts.

OUTPUT/part-<file>-<row>.parquet   the parts (score/parts.py)
       _plan/                      the plan, written before anything is scored; the lock of a running run
       _bad_files.parquet          input files set aside, and why
       _manifest.json              counts
       _report.html                the same for people; with the underscore, or readers would take it for a part
       _SUCCESS                    empty, written last
       _next/                      the same for other scores, which take the place of these once they are complete
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lstm_ray import storage
from lstm_ray.config import OLDER_ENGINES, ScoreConfig, describe_changes, meaning_of, read_yaml, split_list, to_yaml
from lstm_ray.errors import LstmRayError, OutputError
from lstm_ray.progress import Progress
from lstm_ray.score.parts import FileCounts, Tally, at_once, read_part, refuse_foreign, sync_parts
from lstm_ray.score.plan import SCORES_VERSION, BadFile, Plan, is_part_name
from lstm_ray.wording import as_call, command_line, counted

_LOCK, _PLAN, _SETTINGS = "_plan/lock", "_plan/plan.json", "_plan/config.yaml"
_MANIFEST = "_manifest.json"
_NEXT = "_next"
MOST_FILES = 20  # as many as a person compares
_MOST_NAMED = 2  # input files in a message


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
        seconds: Duration of this run in seconds, including reading the model and planning.
        rows_per_s: Rows that this run scored, divided by its seconds.
        model_hash: Hash of the bundle.
        fingerprint: Fingerprint of the plan.
        profile: Counts of the rows (`Profile`), without the parts that an older version wrote.
        moved: How far each property of the rows, by name, has moved from the training data (`Movement`).
        files: Counts of the rows of each input file; of the 20 with the largest shares of unknown words, if there are
            more.
        unsure: Rows whose sentiment is unsure.
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
    profile: dict[str, int | list[int]] = field(default_factory=dict)
    moved: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    unsure: int = 0

    def __repr__(self) -> str:
        """Returns the figures of the run, without hashes and the counts of the texts."""
        left_out = ("model_hash", "fingerprint", "profile", "moved", "files", *(() if self.unsure else ("unsure",)))
        return as_call("Manifest", {name: value for name, value in vars(self).items() if name not in left_out})

    @property
    def scored(self) -> int:
        """Returns how many rows have a score."""
        return self.rows - sum(self.errors.values())


def check_output(config: ScoreConfig, plan: Plan) -> None:
    """Checks that the output directory is empty, has parts of this plan, or may be overwritten.

    Raises:
        OutputError: The directory has other content; the message says how the two runs differ.
    """
    output = config.output
    names = storage.list_names(output)
    if not names:
        return
    if "_plan" not in names:
        raise OutputError(f"{output}: not empty, and not written by lstm-ray score: choose another --output")
    if names == ["_plan"] and _is_begun_plan(output):
        return
    fingerprint = _planned_fingerprint(output)
    if fingerprint is None:
        raise OutputError(
            f"{output}: its _plan/plan.json is not one of lstm-ray score, so nothing here is overwritten: choose "
            "another --output"
        )
    if fingerprint != plan.layout.fingerprint and not config.overwrite:
        unfinished = ""
        if "_SUCCESS" not in names:
            again = command_line("score", "--config", storage.join(output, _SETTINGS))
            unfinished = f". They are unfinished; `{again}` finishes them"
        raise OutputError(
            f"{output}: holds other scores ({_difference(config, plan)}): choose another --output, or --overwrite to "
            f"replace them{unfinished}"
        )


def _is_begun_plan(output: str) -> bool:
    """Returns whether `_plan` holds only what a run writes there, which ended before it wrote a part."""
    names = storage.list_names(storage.join(output, "_plan"))
    if not all(name.startswith(".") or f"_plan/{name}" in (_LOCK, _PLAN, _SETTINGS) for name in names):
        return False
    if storage.exists(storage.join(output, _PLAN)):
        return "fingerprint" in _read_plan(output)
    path = storage.join(output, _SETTINGS)  # written before the plan
    settings = storage.read_bytes(path) if storage.exists(path) else b""  # empty after a power failure, too
    return not settings or read_yaml(ScoreConfig, settings) is not None


def check_parts(output: str, plan: Plan) -> None:
    """Raises OutputError if a file that the run would delete has a part's name, but no run wrote it."""
    for directory in (output, storage.join(output, _NEXT)):
        there = storage.list_names(directory)
        names = set(filter(is_part_name, there))
        if "_SUCCESS" in there and _read_json(directory, _MANIFEST).get("parts") == len(names):
            continue  # none was added since; a million parts need not be read
        if names and _read_plan(directory).get("fingerprint") == plan.layout.fingerprint:
            names -= {chunk.part_name for chunk in plan.chunks()}  # these are read later, and kept if they are whole
        at_once(refuse_foreign, [storage.join(directory, name) for name in sorted(names)])


def _difference(config: ScoreConfig, plan: Plan) -> str:
    """Returns in what the run that wrote the output differs from this one: settings, model, or inputs."""
    there = _in_force(config.output)
    path = storage.join(there, _SETTINGS)
    earlier = (read_yaml(ScoreConfig, storage.read_bytes(path)) if storage.exists(path) else None) or {}
    if earlier:
        earlier["keep_columns"] = list(split_list(earlier["keep_columns"]))  # a text in earlier versions
        earlier["engine"] = OLDER_ENGINES.get(earlier["engine"], earlier["engine"])
    now = yaml.safe_load(to_yaml(config))
    deciding = [name for name, part in meaning_of(ScoreConfig, "fingerprint").items() if part != "nothing"]
    names = [name for name in deciding if name != "inputs"]  # of which each file is compared below
    changed = [name for name in names if earlier and earlier[name] != now[name]]
    found = [describe_changes(changed, earlier, now)] if changed else []
    written = _read_plan(there)
    if "model" not in changed and written.get("model", plan.model_hash) != plan.model_hash:
        found.append(f"the model {config.model} has changed")
    if written.get("version", SCORES_VERSION) != SCORES_VERSION:
        found.append(f"of lstm-ray {written['version']}; {SCORES_VERSION} and later score otherwise")
    found += _changed_inputs(written.get("files", []), plan)
    return "; ".join(found) or "of another model, or another version of lstm-ray"


def _changed_inputs(earlier: Sequence[dict[str, Any]], plan: Plan) -> list[str]:
    """Returns sentences about the input files that differ; none if all are equal."""
    before = {file["path"]: file for file in earlier}
    now = {file["path"]: file for file in _as_json(plan.files)}
    if before and now and before.keys().isdisjoint(now):
        return [f"its inputs were {_some(before)}, now {_some(now)}"]
    bad = {file.path for file in plan.bad_files}
    lost = [path for path in before if path not in now]
    kinds = (
        ([path for path in before if path in now and before[path] != now[path]], "has changed", "have changed"),
        ([path for path in now if path not in before], "is a new input", "are new inputs"),
        ([path for path in lost if path in bad], "cannot be read any more", "cannot be read any more"),
        ([path for path in lost if path not in bad], "is no longer an input", "are no longer inputs"),
    )
    found = [f"{_some(paths)} {one if len(paths) == 1 else more}" for paths, one, more in kinds if paths]
    return found or ([] if list(before) == list(now) else ["the inputs are in another order"])


def _some(paths: Collection[str]) -> str:
    """Returns the first paths for a message, and how many more there are."""
    first, more = list(paths)[:_MOST_NAMED], len(paths) - _MOST_NAMED
    return f"{', '.join(first)} and {more:,} more" if more > 0 else " and ".join(first)


def _as_json(files: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns input or bad files as the plan's file has them, once it is read again."""
    return list(json.loads(json.dumps([asdict(file) for file in files])))


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


def start_output(config: ScoreConfig, plan: Plan, progress: Progress) -> str:
    """Writes the plan, for people and for the next run, and returns the directory for the parts.

    That is the output directory, or `_next` in it if it holds other scores: these stay until the new ones are complete.
    """
    output = config.output
    finish_replacing(output)
    replaces = _planned_fingerprint(output) != plan.layout.fingerprint and _has_results(output)
    new = storage.join(output, _NEXT)
    begun = _planned_fingerprint(new)
    if begun not in (None, plan.layout.fingerprint):
        if replaces:
            _delete_scores(new)
            progress(f"note: {new} held unfinished scores of another run: they are deleted")
        else:
            progress(f"note: {new} holds unfinished scores of another run, which its own command completes")
    elif begun and not replaces:
        _delete_scores(new)
    directory = new if replaces else output
    storage.delete_unfinished(directory)
    storage.delete_unfinished(storage.join(directory, "_plan"))
    storage.delete(storage.join(directory, "_SUCCESS"))
    summary = {
        "fingerprint": plan.layout.fingerprint,
        "version": SCORES_VERSION,
        "model": plan.model_hash,
        "rows": plan.rows,
        "parts": plan.parts,
        "files": _as_json(plan.files),
        "bad_files": _as_json(plan.bad_files),
    }
    storage.write_bytes(storage.join(directory, _SETTINGS), to_yaml(config).encode())
    storage.write_bytes(storage.join(directory, _PLAN), (json.dumps(summary, indent=1) + "\n").encode())
    return directory


def finish_replacing(output: str) -> None:
    """Puts new scores, if they are complete in `_next`, in the place of the old ones.

    A run that is killed in the middle of it is continued by the next one: as long as the plan is the old one, what is
    not in `_next` is old; once the plan is the new one, all is new.
    """
    new = storage.join(output, _NEXT)
    if _in_force(output) != new:
        return
    plan = {name: storage.read_bytes(storage.join(new, name)) for name in (_SETTINGS, _PLAN)}
    if _read_plan(output).get("fingerprint") != _read_plan(new).get("fingerprint"):
        _delete_results(output)
        for name, content in plan.items():
            storage.write_bytes(storage.join(output, name), content)
    names = [name for name in storage.list_names(new) if _is_result(name) and name != "_SUCCESS"]
    at_once(lambda name: storage.move(storage.join(new, name), storage.join(output, name)), names)
    storage.sync(output)
    storage.move(storage.join(new, "_SUCCESS"), storage.join(output, "_SUCCESS"))
    _delete_scores(new)


def _delete_scores(directory: str) -> None:
    """Deletes what a run writes to a directory, and the directory unless it holds something else."""
    storage.delete_unfinished(directory)
    _delete_results(directory)
    storage.delete(storage.join(directory, "_plan"))  # last: a run that is killed before is continued
    if not storage.list_names(directory):
        storage.delete(directory)


def _delete_results(directory: str) -> None:
    """Deletes the files that a run writes beside its plan."""
    storage.delete(storage.join(directory, "_SUCCESS"))  # first: from now on the scores are not complete
    names = filter(_is_result, storage.list_names(directory))
    at_once(lambda name: storage.delete(storage.join(directory, name), tree=False), names)


def _has_results(output: str) -> bool:
    return any(map(_is_result, storage.list_names(output)))


def _is_result(name: str) -> bool:
    """Returns whether a run writes a file of this name beside its plan."""
    return name in ("_SUCCESS", _MANIFEST, "_report.html", "_bad_files.parquet") or is_part_name(name)


def _planned_fingerprint(output: str) -> str | None:
    """Returns the fingerprint of the scores in force."""
    fingerprint = _read_plan(_in_force(output)).get("fingerprint")
    return None if fingerprint is None else str(fingerprint)


def _in_force(output: str) -> str:
    """Returns where the scores of an output are: there, or in `_next` if they are complete and about to be moved."""
    new = storage.join(output, _NEXT)
    is_complete = storage.exists(storage.join(new, "_SUCCESS")) and _read_plan(new).get("fingerprint") is not None
    return new if is_complete else output


def _read_plan(output: str) -> dict[str, Any]:
    """Returns what `start_output` wrote about the plan; nothing if that is missing or damaged."""
    return _read_json(output, _PLAN)


def _read_json(output: str, name: str) -> dict[str, Any]:
    path = storage.join(output, name)
    if not storage.exists(path):
        return {}
    try:
        content = json.loads(storage.read_bytes(path))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


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


def describe_files(plan: Plan, tally: Tally) -> list[dict[str, Any]]:
    """Returns path and counts of the input files with the largest shares of unknown words; `MOST_FILES` at most."""
    counts = tally.by_file
    unknown, words, rows = (counts[:, FileCounts._fields.index(name)] for name in ("unknown", "words", "rows"))
    order = np.lexsort((-rows, -unknown / np.maximum(words, 1)))
    shown = order[rows[order] > 0][:MOST_FILES].tolist()
    return [{"path": plan.files[file].path, **FileCounts(*counts[file].tolist())._asdict()} for file in shown]


def write_manifest(manifest: Manifest, report: str, directory: str) -> None:
    """Writes manifest and report beside the parts, and `_SUCCESS`: from then on the run is complete."""
    content = json.dumps(asdict(manifest), indent=2) + "\n"
    storage.write_bytes(storage.join(directory, _MANIFEST), content.encode())
    storage.write_bytes(storage.join(directory, "_report.html"), report.encode())
    storage.write_bytes(storage.join(directory, "_SUCCESS"), b"")
