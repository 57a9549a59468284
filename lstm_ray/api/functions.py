"""The Python API: a function for each command, with the settings as keywords.

Precedence: keyword > job file > preset > default. A function imports what it needs when it is called, so that
`import lstm_ray` loads no Ray, TensorFlow, numpy or pyarrow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

# The functions below have the same names as these packages. The packages are loaded first, because one that is loaded
# later would replace its function in `lstm_ray`. `from lstm_ray.train import run` still finds the package.
import lstm_ray.evaluate
import lstm_ray.export
import lstm_ray.score
import lstm_ray.train
import lstm_ray.tune
import lstm_ray.vectors  # noqa: F401

if TYPE_CHECKING:
    from lstm_ray.api.model import Model
    from lstm_ray.config import (
        CalibrateConfig,
        ConvertConfig,
        EvaluateConfig,
        ScoreConfig,
        Settings,
        SplitConfig,
        TrainConfig,
        TuneConfig,
        VectorsConfig,
    )
    from lstm_ray.datasets.convert import Converted
    from lstm_ray.datasets.split import SplitFile
    from lstm_ray.evaluate.calibration import Calibration
    from lstm_ray.evaluate.evaluation import Evaluation
    from lstm_ray.export.export import Exported
    from lstm_ray.progress import Progress
    from lstm_ray.score.output import Manifest
    from lstm_ray.train.results import Outcome
    from lstm_ray.tune.run import SearchResult
    from lstm_ray.vectors.run import LearnedFile

C = TypeVar("C", bound="Settings")

Path: TypeAlias = "str | os.PathLike[str]"
"""A local path or a URI."""
Paths: TypeAlias = "Path | Sequence[Path]"
"""Files, directories, globs or URIs."""
Data: TypeAlias = "Paths | Any"
"""Paths, or an Arrow table or data frame (pandas, polars). Tables work in this process only: Ray cannot read them."""
_ELSEWHERE = "Ray's nodes cannot read it: "


def train(
    train: Data | None = None,
    *,
    output: Path | None = None,
    job: Path | TrainConfig | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Trains a model, or resumes the run in the output directory.

    Example: lstm_ray.train("reviews.parquet", output="runs/first", preset="bilstm", epochs=3).metrics["accuracy"]

    Args:
        train: Labelled reviews, as Parquet or a table (Arrow, pandas, polars). `validation` and `unlabelled` may be
            tables too. A table is stored as a file in the user's cache directory (XDG_CACHE_HOME, or ~/.cache) during
            the call.
        output: Directory of the run. If it contains a run, the same call resumes it.
        job: YAML job file, or settings object, with all other settings.
        progress: Called with messages, row counts and epochs; for example `print`.
        settings: Any setting of `lstm-ray train`, by name.

    Raises:
        ConfigError: A setting is missing, unknown or not valid.
        InputError: The data cannot be used.
        OutputError: The output directory contains something else, or cannot be written.
        TrainingError: Training failed.
        KeyboardInterrupt: Ctrl-C was pressed; the run has been saved.
    """
    from lstm_ray.api.boundary import random_state_kept
    from lstm_ray.api.tables import refuse_tables
    from lstm_ray.config import TrainConfig
    from lstm_ray.train import run

    given = {"train": train, "output": output, **settings}
    with random_state_kept(), _call(TrainConfig, given, job, progress, takes_tables=True) as (config, report):
        if config.worker_limits != (0, 0):
            refuse_tables(given, _ELSEWHERE)
        return run.train(config, report)


def score(
    inputs: Paths | None = None,
    *,
    model: Path | None = None,
    output: Path | None = None,
    job: Path | ScoreConfig | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Manifest:
    """Scores reviews in Parquet, and writes Parquet; a repeated call scores only what is missing.

    Example: lstm_ray.score("reviews/", model="runs/first/model", output="scored").rows

    Args:
        inputs: Reviews as Parquet.
        model: The model bundle.
        output: Directory for the scored Parquet. If it contains a run, the same call resumes it.
        job: YAML job file, or settings object, with all other settings.
        progress: Called with messages, and counts of files and rows; for example `print`.
        settings: Any setting of `lstm-ray score`, by name.

    Raises:
        ConfigError: A setting is missing, unknown or not valid.
        BundleError: The model cannot be used.
        InputError: The input cannot be used, or there are more bad files than allowed.
        OutputError: The output directory contains something else, or cannot be written.
    """
    from lstm_ray.api.tables import refuse_tables
    from lstm_ray.config import ScoreConfig
    from lstm_ray.score import run

    refuse_tables({"inputs": inputs}, "call the loaded model with it, as in `lstm_ray.load(model)(table)`, or ")
    given = {"inputs": inputs, "model": model, "output": output, **settings}
    with _call(ScoreConfig, given, job, progress) as (config, report):
        return run.score(config, report)


def evaluate(
    inputs: Data | None = None,
    *,
    model: Path | None = None,
    job: Path | EvaluateConfig | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Evaluation:
    """Measures a model on labelled reviews; writes a report if `output` is given.

    Example: lstm_ray.evaluate("test.parquet", model="runs/first/model").metrics["accuracy"]

    Args:
        inputs: Labelled reviews, as Parquet or a table, as for `train`.
        model: The model bundle.
        job: YAML job file, or settings object, with all other settings.
        progress: Called with messages and row counts; for example `print`.
        settings: Any setting of `lstm-ray evaluate`, by name.

    Raises:
        ConfigError: A setting is missing, unknown or not valid.
        BundleError: The model cannot be used.
        InputError: The data cannot be used.
        OutputError: The output directory is not empty or cannot be written.
    """
    from lstm_ray.api.tables import refuse_tables
    from lstm_ray.config import EvaluateConfig
    from lstm_ray.evaluate import evaluation

    given = {"inputs": inputs, "model": model, **settings}
    with _call(EvaluateConfig, given, job, progress, takes_tables=True) as (config, report):
        if config.address is not None:
            refuse_tables(given, _ELSEWHERE)
        return evaluation.evaluate(config, report)


def calibrate(
    inputs: Data | None = None,
    *,
    model: Path | None = None,
    output: Path | None = None,
    job: Path | CalibrateConfig | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Calibration:
    """Calibrates a model on labelled reviews: fits a temperature, chooses a threshold, and writes a new bundle.

    Example: lstm_ray.calibrate("labelled.parquet", model="runs/first/model", output="calibrated").temperature

    Args:
        inputs: Labelled reviews that the model was not trained on, as Parquet or a table, as for `train`.
        model: The model bundle; it stays as it is.
        output: A new or empty directory for the new bundle.
        job: YAML job file, or settings object, with all other settings.
        progress: Called with messages and row counts; for example `print`.
        settings: Any setting of `lstm-ray calibrate`, by name.

    Raises:
        ConfigError: A setting is missing, unknown or not valid.
        BundleError: The model cannot be used.
        InputError: The data cannot be used, or no threshold reaches the target.
        OutputError: The output directory is not empty or cannot be written.
    """
    from lstm_ray.config import CalibrateConfig
    from lstm_ray.evaluate import calibration

    given = {"inputs": inputs, "model": model, "output": output, **settings}
    with _call(CalibrateConfig, given, job, progress, takes_tables=True) as (config, report):
        return calibration.calibrate(config, report)


def tune(
    train: Paths | None = None,
    *,
    output: Path | None = None,
    search: Mapping[str, Mapping[str, Any]] | None = None,
    job: Path | TuneConfig | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> SearchResult:
    """Searches for better settings: trains many models on Ray, and stops the worse ones early.

    Example: lstm_ray.tune("reviews.parquet", output="search", search={"units": {"choice": [64, 128]}}).best.config

    Args:
        train: Labelled reviews, as Parquet.
        output: Directory of the search. If it contains a search, the same call resumes it.
        search: The range of each searched setting: choice, uniform, log_uniform or integer.
        job: YAML job file, or settings object, with all other settings.
        progress: Called with messages; for example `print`.
        settings: Any setting of `lstm-ray tune`, by name.

    Raises:
        ConfigError: A setting is missing, unknown or not valid.
        InputError: The data cannot be used.
        OutputError: The output directory contains something else, or cannot be written.
        TrainingError: A trial failed for a reason other than its settings, or all trials failed.
    """
    from lstm_ray.config import TuneConfig
    from lstm_ray.tune import run

    given = {"train": train, "output": output, "search": search, **settings}
    with _call(TuneConfig, given, job, progress) as (config, report):
        return run.tune(config, report)


def export(model: Path, *, format: str, output: Path) -> Exported:
    """Writes a model for other runtimes, from token ids to probabilities.

    Args:
        model: The model bundle.
        format: "onnx", or "savedmodel", the format of TensorFlow Serving.
        output: A new or empty directory; export.json in it describes how to turn a text into token ids.

    Raises:
        ConfigError: The format is unknown, or needs a package that is not installed.
        BundleError: The model cannot be used.
        OutputError: The directory is not empty, or cannot be written.
    """
    from lstm_ray.api.boundary import as_path, python_call
    from lstm_ray.export import export

    with python_call({"format": str, "output": str}):
        return export.export(as_path("model", model), format, as_path("output", output))


def vectors(
    text: Paths | None = None,
    *,
    output: Path | None = None,
    job: Path | VectorsConfig | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> LearnedFile:
    """Learns word vectors from reviews, labelled or not, for `embeddings=` of `train`.

    Example: lstm_ray.vectors(["train.parquet", "unlabelled.parquet"], output="vectors.txt").words

    Args:
        text: Reviews as Parquet.
        output: File for the vectors, in word2vec's text format.
        job: YAML job file, or settings object, with all other settings.
        progress: Called with messages and word counts; for example `print`.
        settings: Any setting of `lstm-ray vectors`, by name.

    Raises:
        ConfigError: A setting is missing, unknown or not valid.
        InputError: The data cannot be used, or no word occurs often enough.
        OutputError: The file exists, or cannot be written.
    """
    from lstm_ray.config import VectorsConfig
    from lstm_ray.vectors import run

    with _call(VectorsConfig, {"text": text, "output": output, **settings}, job, progress) as (config, report):
        return run.write_vectors(config, report)


def convert(
    source: Paths | None = None,
    *,
    output: Path | None = None,
    job: Path | ConvertConfig | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Converted:
    """Converts one or several CSV, TSV or JSON files to one Parquet file, without changing any value.

    Example: lstm_ray.convert("reviews.csv", output="reviews.parquet").columns

    Args:
        source: CSV, TSV, JSON lines or JSON arrays of objects, compressed or not. Each column has one type in
            all files.
        output: The Parquet file.
        job: YAML job file, or settings object, with all other settings.
        progress: Called with counts of bytes; for example `print`.
        settings: Any setting of `lstm-ray data convert`, by name.

    Raises:
        ConfigError: A setting is missing, unknown or not valid; a file's name does not show its format; or two files
            have different formats.
        InputError: A file is missing, cannot be read as the format its name says, or has other columns than the
            first.
        OutputError: The output exists, is a directory, or cannot be written.
    """
    from lstm_ray.api.tables import is_table
    from lstm_ray.config import ConvertConfig
    from lstm_ray.datasets.convert import run
    from lstm_ray.errors import ConfigError

    if is_table(source):
        raise ConfigError(f"source= is a {type(source).__name__}, which needs no conversion: pass it to train")
    with _call(ConvertConfig, {"source": source, "output": output, **settings}, job, progress) as (config, report):
        return run.convert(config, report)


def split(
    inputs: Data | None = None,
    *,
    output: Path | None = None,
    job: Path | SplitConfig | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> tuple[SplitFile, SplitFile]:
    """Splits Parquet into train.parquet and test.parquet; returns path, rows and groups of each.

    Example: train, test = lstm_ray.split("reviews.parquet", output="reviews", by="product")

    Args:
        inputs: Parquet files that all have the same columns, or a table, as for `train`.
        output: Directory for the two files.
        job: YAML job file, or settings object, with all other settings.
        progress: Called with row counts, and notes on files that are left out; for example `print`.
        settings: Any setting of `lstm-ray data split`, by name.

    Raises:
        ConfigError: A setting is missing, unknown or not valid, or the output is inside an input directory.
        InputError: A file cannot be read or has other columns than the first, or one side would have no row.
        OutputError: An output file exists, is an input, or cannot be written.
    """
    from lstm_ray.config import SplitConfig
    from lstm_ray.datasets import split as splitting

    given = {"inputs": inputs, "output": output, **settings}
    with _call(SplitConfig, given, job, progress, takes_tables=True) as (config, report):
        return splitting.split(config, report)


def load(
    model: Path,
    *,
    threshold: float | None = None,
    unsure: str | tuple[float, float] | None = None,
    precision: Literal["float32", "bf16", "int8"] = "float32",
) -> Model:
    """Loads a trained model to score texts in this process, without Ray.

    TensorFlow is needed only for custom networks.

    Example: lstm_ray.load("runs/first/model").predict("Not bad at all")

    Args:
        model: The model bundle.
        threshold: Probability above which a text counts as positive; None for the bundle's.
        unsure: Range of probabilities, such as "0.4:0.6" or (0.4, 0.6), that are labelled "unsure".
        precision: "bf16" and "int8" are faster than "float32", with slightly different scores, on processors that
            support them.

    Raises:
        BundleError: The bundle is missing or damaged, or needs a newer version of lstm-ray.
        ConfigError: The threshold is not between 0 and 1, or not in the unsure range; or the processor lacks the
            instructions of that precision.
    """
    from lstm_ray.api.model import Model

    return Model(model, threshold=threshold, unsure=unsure, precision=precision)


@contextmanager
def _call(
    kind: type[C],
    given: Mapping[str, Any],
    job: Path | C | None,
    progress: Progress | None,
    *,
    takes_tables: bool = False,
) -> Iterator[tuple[C, Progress]]:
    """Wraps the work of a call; yields its settings, and the callback for its progress.

    Args:
        kind: The configuration class.
        given: Settings by name; None if a setting was not given.
        job, progress: As the caller gave them.
        takes_tables: True if tables are written to files for the call; otherwise they are refused.

    Raises:
        ConfigError: A setting is missing, unknown or not valid.
    """
    from lstm_ray.api.boundary import python_call
    from lstm_ray.api.tables import refuse_tables, tables_as_files
    from lstm_ray.config import argument_types, check_complete, known_settings, resolve
    from lstm_ray.errors import ConfigError

    with python_call(argument_types(kind), progress) as report, ExitStack() as files:
        if takes_tables:
            given, report = files.enter_context(tables_as_files(given, report))
        by_name = known_settings(kind, given, "setting")
        refuse_tables(by_name)
        if isinstance(job, kind):
            config = resolve(kind, {**job.model_dump(exclude_unset=True), **by_name}) if by_name else job
        elif job is None or isinstance(job, str | os.PathLike):
            config = resolve(kind, by_name, None if job is None else os.fspath(job))
        else:
            raise ConfigError(
                f"job= is of type {type(job).__name__}: give the path of a YAML job file, or a {kind.__name__}"
            )
        check_complete(config)
        yield config, report
