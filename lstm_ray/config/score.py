"""Settings of scoring."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from lstm_ray.config.base import COUNT, FILES, limits_of, meaning_of, setting
from lstm_ray.config.shared import (
    BundleSettings,
    DecisionSettings,
    InputSettings,
    NameList,
    PrecisionSettings,
    RaySettings,
    RowSettings,
)

EngineName = Literal["auto", "native", "keras"]

OLDER_ENGINES = {"cpu": "native"}
"""Names of engines in version 0.2, with those that they have now."""


class ScoreConfig(RaySettings, PrecisionSettings, DecisionSettings, RowSettings, BundleSettings, InputSettings):
    """All settings of a scoring run."""

    output: str = setting(
        "",
        "Directory for the scored rows, as Parquet.",
        panel=FILES,
        metavar="DIR",
        must_be_given=True,
        path="output",
        fingerprint="nothing",
    )
    overwrite: bool = setting(
        False,
        "Replace scores in --output that come from other inputs, settings or models; not needed to resume a run.",
        panel=FILES,
        flag=True,
        fingerprint="nothing",
    )
    fail_if_empty: bool = setting(
        False,
        "Fail if the input has no rows, instead of writing a part without rows.",
        panel=FILES,
        flag=True,
        fingerprint="nothing",
    )
    keep_columns: NameList = setting(
        ("all",),
        "Input columns to keep: all, or names separated by commas; quote a name that has a comma.",
        panel=FILES,
        metavar="COLUMN,...",
        fingerprint="content",
    )
    prefix: str = setting("", "Prefix of the names of the new columns.", panel=FILES, fingerprint="value")
    explain: int = setting(
        0,
        "Add a column with the N words of each row that weigh most in its score; 0 adds none. Slow: a row is scored "
        "again without each of its distinct words.",
        panel=FILES,
        ge=0,
        fingerprint="value if changed",
    )
    rows_per_part: int = setting(
        50_000,
        "Approximate rows per part; a part that was interrupted is scored again as a whole.",
        panel=FILES,
        ge=1,
        fingerprint="value",
    )
    max_bad_files: int = setting(
        0,
        "Maximum number of unreadable input files to set aside; with more, the run fails.",
        panel=FILES,
        ge=0,
        fingerprint="nothing",
    )
    filesystem_option: tuple[str, ...] = setting(
        (),
        "Filesystem option for all URIs, such as endpoint_override=HOST:PORT; credentials come from the environment.",
        panel=FILES,
        metavar="KEY=VALUE",
        fingerprint="nothing",
    )
    engine: EngineName = setting(
        "auto",
        "What computes the scores: Keras, or the native engine for CPUs; auto uses Keras on a GPU.",
        panel="Compute",
        fingerprint="value",
    )
    actors: str = setting(
        "0",
        "Number of Ray actors, or MIN:MAX; 0 scores in this process on all cores, which is best on one machine.",
        panel="Compute",
        metavar="N|MIN:MAX",
        pattern=COUNT,
        examples=["4", "2:8"],
        coerce_numbers_to_str=True,
        fingerprint="nothing",
    )
    cpus_per_actor: float = setting(1.0, "CPU cores per Ray actor.", panel="Compute", gt=0, fingerprint="nothing")
    gpus_per_actor: float = setting(
        0.0, "GPUs per Ray actor; may be a fraction.", panel="Compute", ge=0, fingerprint="nothing"
    )

    def fingerprint_values(self) -> dict[str, Any]:
        """Returns the settings whose values decide the output, as JSON values."""
        parts, fields = meaning_of(type(self), "fingerprint"), type(self).model_fields
        decide = {
            name
            for name, part in parts.items()
            if part == "value" or (part == "value if changed" and getattr(self, name) != fields[name].default)
        }
        values = self.model_dump(mode="json", include=decide)
        if values["engine"] == "native":
            values["engine"] = "cpu"  # as version 0.2 called it: its unfinished runs can be resumed
        return values

    @property
    def actor_limits(self) -> tuple[int, int]:
        """Returns the least and the most actors; (0, 0) scores in this process."""
        return limits_of("actors", self.actors)

    @field_validator("engine", mode="before")
    @classmethod
    def _has_its_name(cls, given: Any) -> Any:
        return OLDER_ENGINES.get(given, given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _needs_actors(self) -> ScoreConfig:
        if self.actor_limits == (0, 0) and self.address != "local":
            raise ValueError(f"`address` {self.address!r} needs `actors` of 1 or more; 0 scores in this process")
        if self.actors == "0" and self.gpus_per_actor:
            raise ValueError(
                "`gpus_per_actor` needs `actors` of 1 or more; in this process a GPU is used if there is one"
            )
        if self.explain and self.gpus_per_actor:
            raise ValueError("`explain` is computed on CPUs: leave `gpus_per_actor` at 0")
        if self.engine == "native" and self.gpus_per_actor:
            raise ValueError("`engine` native does not use GPUs: leave `gpus_per_actor` at 0")
        if self.precision != "float32" and (self.engine == "keras" or self.gpus_per_actor):
            given = "`engine` keras" if self.engine == "keras" else "GPUs"
            raise ValueError(f"`precision` {self.precision} needs the native engine, not {given}")
        return self
