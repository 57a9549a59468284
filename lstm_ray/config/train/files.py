"""What a training run starts from, reads and writes."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import field_validator

from lstm_ray import user_code
from lstm_ray.config.base import FILES, Settings, fixed, free, setting
from lstm_ray.config.presets import PRESETS
from lstm_ray.wording import either


class RunSettings(Settings):
    """What a run reads and where it writes."""

    preset: str = fixed(
        "best",
        "Settings to start from: best (chosen for the data), lstm or bilstm (the two textbook models), none (plain "
        "defaults, shown with each setting; the default with --network and --from), or a mapping in your own module.",
        panel=FILES,
        metavar="|".join([*PRESETS, "MODULE:NAME"]),
        examples=[*PRESETS, "mine:small"],
    )
    train: tuple[str, ...] = fixed(
        (),
        "Training data as Parquet: files, directories, globs, or s3:// gs:// abfs:// URIs.",
        panel=FILES,
        metavar="PATH",
        must_be_given=True,
        path="input",
    )
    validation: tuple[str, ...] = fixed(
        (),
        "Validation data as Parquet; without it, a part of --train is held out.",
        panel=FILES,
        metavar="PATH",
        path="input",
    )
    allow_seen_files: bool = free(
        False, "Allow --validation to name files that --train names too.", panel=FILES, flag=True
    )
    validation_fraction: float = fixed(
        0.1,
        "Share of --train to hold out if there is no --validation; 0 holds out none. Equal texts stay on one side.",
        panel=FILES,
        ge=0,
        lt=1,
        from_data=True,
    )
    validation_group: str | None = fixed(
        None,
        "Column of --train, such as product or author; rows with the same value are held out together, or not at all.",
        panel=FILES,
        metavar="COLUMN",
    )
    from_: str | None = fixed(
        None,
        "Model bundle to start from, with its weights, words and settings; other options may change how it is "
        "trained, but not the network or how it reads a text.",
        panel=FILES,
        metavar="DIR",
        path="input",
        refused={"tune": "is for train: the trials of a search begin with random weights"},
    )
    output: str = free(
        "",
        "Directory for the run: model, checkpoints, history and report.",
        panel=FILES,
        metavar="DIR",
        must_be_given=True,
        path="output",
    )
    fresh: bool = free(
        False,
        "Delete the run in --output and start over; without this, a run with the same settings is resumed, and one "
        "with other settings is refused.",
        panel=FILES,
        flag=True,
    )
    mlflow: str | None = setting(
        None,
        "Log to MLflow too: URI of a tracking server or directory, or yes to use MLFLOW_TRACKING_URI.",
        panel=FILES,
        metavar="URI|yes",
        path="output",
        not_paths=r"yes|databricks(-uc)?|file:.*",
        may_change=("train",),
        searchable=False,
    )

    @field_validator("preset", mode="before")
    @classmethod
    def _none_is_a_preset(cls, given: Any) -> Any:
        return "none" if given is None else given  # as older versions wrote it, whose default it was

    @field_validator("preset")
    @classmethod
    def _is_a_preset(cls, given: str) -> str:
        if given not in PRESETS and not user_code.is_named(given):
            close = difflib.get_close_matches(given, PRESETS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"should be {either(map(repr, PRESETS))}, or {user_code.FORM} for your own{hint}")
        return given

    @field_validator("mlflow", mode="before")
    @classmethod
    def _yes_is_a_word(cls, given: Any) -> Any:
        if isinstance(given, bool):  # in older job files
            return "yes" if given else None
        return None if given == "no" else given
