"""Every setting of lstm-ray: its type, unit, default and one sentence.

These models are the only place where a setting is declared. The command line builds its options from them
(`lstm_ray.cli.options`), job files are read into them, and every result carries the resolved settings as `config.yaml`.
Precedence: option > job file > preset > default.

    Settings
    ├── TextSettings      how a text becomes token ids     ┐
    ├── ModelSettings     the network                      ├── TrainConfig
    ├── ComputeSettings   where it runs                    ┘
    ├── ScoreConfig
    └── EvaluateConfig
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lstm_ray.errors import ConfigError
from lstm_ray.wording import reason

Side = Literal["pre", "post"]

C = TypeVar("C", bound="Settings")


class Settings(BaseModel):
    """A frozen group of settings that knows no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


PANELS = ("Input and output", "Text", "Model", "Training", "Compute")
"""The groups of settings, in the order in which people read them."""


_FILES = PANELS[0]


def setting(
    default: Any,
    help: str,
    *,
    panel: str,
    argument: bool = False,
    flag: bool = False,
    metavar: str | None = None,
    **limits: Any,
) -> Any:
    """Declares a setting.

    Args:
        default: Its value if nobody gives one.
        help: Its sentence in `--help`.
        panel: Which of `PANELS` it stands in.
        argument: True if the command line takes it without an option's name.
        flag: True for a boolean that is only ever turned on, so that it needs no --no-... option.
        metavar: What stands for its value in `--help`; by default its type.
        limits: ge=, le=, pattern=, ... as pydantic's `Field` takes them.
    """
    shown: dict[str, Any] = {"panel": panel, "argument": argument, "flag": flag, "metavar": metavar}
    return Field(default, description=help, json_schema_extra=shown, **limits)


class TextSettings(Settings):
    """How a text becomes token ids. A bundle keeps these, so that scoring does what training did."""

    strip_html: bool = setting(True, "Turn <br />, <br/> and <br> into a space before splitting words.", panel="Text")
    lowercase: Literal["unicode", "ascii"] = setting(
        "unicode", "Lower-case all letters, or A-Z alone as the ids of keras.datasets.imdb were made.", panel="Text"
    )
    split_on: Literal["space", "whitespace"] = setting(
        "whitespace", "What separates words: any white space, or the space alone as Keras does.", panel="Text"
    )
    unlisted_words: Literal["oov", "drop"] = setting(
        "oov", "A word the vocabulary does not list: id 2, or left out as keras.datasets.imdb does.", panel="Text"
    )
    vocabulary_size: int = setting(
        20_000, "Number of ids, the 4 reserved ones included: the most frequent words keep one.", panel="Text", ge=5
    )
    max_tokens: int = setting(80, "Tokens kept of a text, the start token counted.", panel="Text", ge=1, le=100_000)
    padding: Side = setting("pre", "Where short texts are filled up.", panel="Text")
    truncating: Side = setting(
        "pre", "Where long texts are cut: pre keeps their end, post their beginning.", panel="Text"
    )


class ModelSettings(Settings):
    """The network: Embedding, LSTM layers, pooling over time, Dense(1, sigmoid)."""

    embedding_size: int = setting(128, "Numbers in a word's vector.", panel="Model", ge=1)
    layers: int = setting(1, "LSTM layers, one on top of the other.", panel="Model", ge=1, le=16)
    units: int = setting(128, "Units of each LSTM layer (and direction).", panel="Model", ge=1)
    bidirectional: bool = setting(False, "Read each text in both directions (doubles the LSTM's work).", panel="Model")
    pooling: Literal["last", "max", "mean"] = setting(
        "last",
        "What the classifier sees of the top layer: its last state, or its maximum or mean over time.",
        panel="Model",
    )
    mask: bool = setting(
        False,
        "Skip padding: the network does not see it, and batches need only be as long as their rows.",
        panel="Model",
    )
    embedding_dropout: float = setting(
        0.0, "Share of the word vectors' numbers dropped in training.", panel="Model", ge=0, lt=1
    )
    dropout: float = setting(0.2, "Share of each LSTM's inputs dropped in training.", panel="Model", ge=0, lt=1)
    recurrent_dropout: float = setting(
        0.0,
        "Share of each LSTM's state dropped in training; above 0 it rules out cuDNN on GPUs.",
        panel="Model",
        ge=0,
        lt=1,
    )


class ComputeSettings(Settings):
    """Where training runs."""

    workers: int = setting(
        0, "0 trains in this process; 1 and up on that many Ray workers, one device each.", panel="Compute", ge=0
    )
    cpus_per_worker: float = setting(1.0, "CPU cores of a Ray worker.", panel="Compute", gt=0)
    gpus_per_worker: int = setting(0, "GPUs of a Ray worker: one or none.", panel="Compute", ge=0, le=1)
    address: str = setting(
        "local", "Ray to run on: local starts one here; auto, HOST:PORT or ray://HOST:PORT joins one.", panel="Compute"
    )
    collective_timeout_s: float = setting(
        300.0, "Seconds a worker waits for the others in a step before it gives them up.", panel="Compute", gt=0
    )

    @model_validator(mode="after")
    def _needs_workers(self) -> ComputeSettings:
        if self.workers == 0 and self.address != "local":
            raise ValueError(f"address {self.address!r} needs workers of 1 or more; 0 trains in this process")
        if self.workers == 0 and self.gpus_per_worker:
            raise ValueError(
                "gpus_per_worker needs workers of 1 or more; in this process a GPU is used if there is one"
            )
        return self


class TrainConfig(TextSettings, ModelSettings, ComputeSettings):
    """Everything that decides a training run."""

    preset: Literal["lstm", "bilstm"] | None = setting(
        None, "Settings to start from: lstm or bilstm, the textbook's two models.", panel=_FILES
    )
    train: tuple[str, ...] = setting(
        (),
        "Parquet to learn from: files, directories, globs, s3:// gs:// abfs:// URIs.",
        panel=_FILES,
        metavar="PATH",
    )
    validation: tuple[str, ...] = setting(
        (), "Parquet to measure each epoch on, instead of a part of --train.", panel=_FILES, metavar="PATH"
    )
    validation_fraction: float = setting(
        0.1,
        "Share of --train held out when there is no --validation; equal texts stay on one side. 0 holds out none.",
        panel=_FILES,
        ge=0,
        lt=1,
    )
    output: str = setting("", "Directory of the run: model, checkpoints, history, report.", panel=_FILES, metavar="DIR")
    fresh: bool = setting(
        False, "Start over where --output holds an earlier run, deleting it.", panel=_FILES, flag=True
    )
    text_column: str = setting("text", "Column of the reviews.", panel=_FILES, metavar="NAME")
    label_column: str = setting("label", "Column of the labels: 1 positive, 0 negative.", panel=_FILES, metavar="NAME")
    max_rows: int | None = setting(
        None,
        "Use only this many rows, drawn evenly from all of --train: for a quick try.",
        panel=_FILES,
        ge=1,
    )
    vocabulary: str | None = setting(
        None,
        "Words and ids to use instead of counting them: a bundle's vocabulary.parquet, or a JSON object word: rank.",
        panel="Text",
        metavar="FILE",
    )
    epochs: int = setting(5, "Times to go through the training rows.", panel="Training", ge=1)
    global_batch_size: int = setting(64, "Rows of a step, shared out over the workers.", panel="Training", ge=1)
    learning_rate: float = setting(0.001, "Adam's step size.", panel="Training", gt=0)
    seed: int = setting(
        0,
        "Decides initial weights, row order, dropout and the held-out rows.",
        panel="Training",
        ge=0,
        le=2**32 - 1,  # what NumPy's and Keras's global seeds take
    )

    @model_validator(mode="after")
    def _needs_rows_for_all(self) -> TrainConfig:
        if self.workers > self.global_batch_size:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} cannot be shared out over {self.workers} workers"
            )
        return self

    @model_validator(mode="after")
    def _needs_vocabulary(self) -> TrainConfig:
        if self.unlisted_words == "drop" and self.vocabulary is None:
            raise ValueError("unlisted_words drop needs a vocabulary: a counted one lists no other words to drop")
        return self


class ScoreConfig(Settings):
    """Everything that decides a scoring run."""

    inputs: tuple[str, ...] = setting(
        (),
        "Parquet to score: files, directories, globs, s3:// gs:// abfs:// URIs.",
        panel=_FILES,
        argument=True,
    )
    model: str = setting("", "Model bundle, as train writes to OUTPUT/model.", panel=_FILES, metavar="DIR")
    output: str = setting("", "Directory for the scored Parquet.", panel=_FILES, metavar="DIR")
    overwrite: bool = setting(
        False, "Replace what --output holds from other inputs or settings.", panel=_FILES, flag=True
    )
    text_column: str = setting("text", "Column of the reviews.", panel=_FILES, metavar="NAME")
    keep_columns: str = setting("all", "Input columns to keep: all, or names separated by commas.", panel=_FILES)
    prefix: str = setting("", "Put in front of the three new columns' names.", panel=_FILES)
    max_rows: int | None = setting(None, "Score only the first rows: for a quick try.", panel=_FILES, ge=1)
    rows_per_part: int = setting(
        50_000,
        "Rows of an output file, about: what is lost and done again if a run dies.",
        panel=_FILES,
        ge=1,
    )
    max_bad_files: int = setting(
        0, "Input files that may be set aside as unreadable before the run fails.", panel=_FILES, ge=0
    )
    engine: Literal["auto", "cpu", "keras"] = setting(
        "auto",
        "What computes: our compiled CPU kernel, or Keras (on GPUs); auto takes Keras on a GPU.",
        panel="Compute",
    )
    actors: str = setting(
        "0",
        "0 scores in this process on all its cores; more on that many Ray actors, which pays on a cluster.",
        panel="Compute",
        metavar="N|MIN:MAX",
        pattern=r"^(0|[1-9]\d*)$|^[1-9]\d*:[1-9]\d*$",
        coerce_numbers_to_str=True,
    )
    cpus_per_actor: float = setting(1.0, "CPU cores of a Ray actor.", panel="Compute", gt=0)
    gpus_per_actor: float = setting(0.0, "GPUs of a Ray actor.", panel="Compute", ge=0)
    address: str = setting(
        "local", "Ray to run on: local starts one here; auto, HOST:PORT or ray://HOST:PORT joins one.", panel="Compute"
    )

    @property
    def actor_limits(self) -> tuple[int, int]:
        """Returns the least and the most actors; (0, 0) scores in this process."""
        least, _, most = self.actors.partition(":")
        return int(least), int(most or least)

    @model_validator(mode="after")
    def _needs_actors(self) -> ScoreConfig:
        least, most = self.actor_limits
        if least > most:
            raise ValueError(f"actors {self.actors!r}: the first number is the least, the second the most")
        if self.actors == "0" and self.address != "local":
            raise ValueError(f"address {self.address!r} needs actors of 1 or more; 0 scores in this process")
        if self.actors == "0" and self.gpus_per_actor:
            raise ValueError("gpus_per_actor needs actors of 1 or more; in this process a GPU is used if there is one")
        if self.engine == "cpu" and self.gpus_per_actor:
            raise ValueError("engine cpu does not use GPUs: leave gpus_per_actor at 0")
        return self


class EvaluateConfig(Settings):
    """Everything that decides an evaluation."""

    inputs: tuple[str, ...] = setting(
        (), "Labelled Parquet: files, directories, globs, URIs.", panel=_FILES, argument=True
    )
    model: str = setting("", "Model bundle, as train writes to OUTPUT/model.", panel=_FILES, metavar="DIR")
    output: str | None = setting(None, "Directory for metrics.json and report.html.", panel=_FILES, metavar="DIR")
    text_column: str = setting("text", "Column of the reviews.", panel=_FILES, metavar="NAME")
    label_column: str = setting("label", "Column of the labels: 1 positive, 0 negative.", panel=_FILES, metavar="NAME")
    max_rows: int | None = setting(None, "Use only this many rows, drawn evenly: for a quick try.", panel=_FILES, ge=1)
    threshold: float | None = setting(
        None,
        "Probability above which a review counts as positive; the bundle's if not given.",
        panel=_FILES,
        gt=0,
        lt=1,
    )


PRESETS: dict[str, dict[str, Any]] = {
    # The textbook chapter's two models, on the last 80 words of a review, split exactly as Keras splits them: "<br />"
    # leaves the word "br", as in keras.datasets.imdb.
    "lstm": {
        "strip_html": False,
        "split_on": "space",
        "vocabulary_size": 20_000,
        "max_tokens": 80,
        "padding": "pre",
        "truncating": "pre",
        "embedding_size": 128,
        "units": 128,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "global_batch_size": 32,
        "epochs": 15,
        "learning_rate": 0.001,
    },
    "bilstm": {
        "strip_html": False,
        "split_on": "space",
        "vocabulary_size": 5_000,
        "max_tokens": 80,
        "padding": "pre",
        "truncating": "pre",
        "embedding_size": 32,
        "units": 128,
        "bidirectional": True,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "global_batch_size": 32,
        "epochs": 15,
        "learning_rate": 0.001,
    },
}


def resolve(kind: type[C], options: Mapping[str, Any], job_file: str | Path | None = None) -> C:
    """Builds a configuration from options, a job file and a preset, in that precedence.

    Args:
        kind: The configuration class.
        options: Settings the user gave on the command line; those not given are absent.
        job_file: YAML with settings by name; its `command` key, if any, says what the file is for.

    Raises:
        ConfigError: A setting is unknown, of the wrong type, out of its limits, or excluded by another.
    """
    from_file = read_job_file(kind, job_file) if job_file else {}
    given = {**from_file, **options}
    preset = given.get("preset")
    base = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
    try:
        return kind.model_validate({**base, **given})
    except ValidationError as error:
        from_options = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]} <= set(options)
        raise ConfigError(_explain(kind, error, None if from_options or not from_file else job_file)) from error


def read_job_file(kind: type[Settings], path: str | Path) -> dict[str, Any]:
    """Returns the settings in a job file, checked for unknown names.

    Raises:
        ConfigError: The file is missing, is not a YAML mapping, is for another command, or has an unknown key.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the job file: {reason(error)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {reason(error).replace('<unicode string>', 'the file')}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a job file is a mapping of settings, such as `epochs: 3`")
    command = content.pop("command", None)
    expected = command_of(kind)
    if command not in (None, expected):
        raise ConfigError(f"{path}: is a job for `lstm-ray {command}`, not for `lstm-ray {expected}`")
    for key in content:
        if key not in kind.model_fields:
            close = difflib.get_close_matches(str(key), kind.model_fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(sorted(kind.model_fields))}"
            raise ConfigError(f"{path}: unknown key {str(key)!r}; {hint}")
    return {
        key: (value,) if isinstance(value, str) and _takes_many(kind, key) else value for key, value in content.items()
    }


def command_of(kind: type[Settings]) -> str:
    """Returns the command a configuration class belongs to: TrainConfig -> train."""
    return kind.__name__.removesuffix("Config").lower()


def option_name(field: str) -> str:
    """Returns the command-line option of a setting: max_tokens -> --max-tokens."""
    return "--" + field.replace("_", "-")


def _takes_many(kind: type[Settings], field: str) -> bool:
    return "tuple" in str(kind.model_fields[field].annotation)


def _explain(kind: type[Settings], error: ValidationError, job_file: str | Path | None) -> str:
    """Turns pydantic's findings into one line a person can act on."""
    findings = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            findings.append(message)
            continue
        field = str(problem["loc"][0])
        is_argument = field in kind.model_fields and shown_as(kind, field)["argument"]
        name = field.upper() if is_argument else option_name(field)
        message = message[0].lower() + message[1:]
        if problem["type"] == "string_pattern_mismatch":
            message = "should be N or MIN:MAX, such as 4 or 2:8"
        findings.append(f"{name} is {problem['input']!r}: {message.removeprefix('input ')}")
    where = f"{job_file}: " if job_file else ""
    return where + "; ".join(findings)


def fields_in_order(kind: type[Settings]) -> list[str]:
    """Returns the names of all settings as people read them: arguments first, then panel by panel."""

    def place(name: str) -> tuple[bool, int]:
        return not shown_as(kind, name)["argument"], PANELS.index(shown_as(kind, name)["panel"])

    return sorted(kind.model_fields, key=place)


def shown_as(kind: type[Settings], field: str) -> dict[str, Any]:
    """Returns how `--help` shows a setting: panel, argument, flag, metavar."""
    extra = kind.model_fields[field].json_schema_extra
    assert isinstance(extra, dict)
    return dict(extra)


def to_yaml(config: Settings) -> str:
    """Returns the resolved settings as a job file that repeats the run."""
    values = config.model_dump(mode="json")
    ordered = {name: values[name] for name in fields_in_order(type(config))}
    content = {"command": command_of(type(config)), **ordered}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    # PyYAML leaves U+0085 unescaped, and reads it as a line break.
    return text if "\x85" not in text else yaml.safe_dump(content, sort_keys=False)
