"""Settings of a hyperparameter search."""

from __future__ import annotations

import difflib
import json
from typing import Any

from pydantic import Field, model_validator

from lstm_ray.config.base import FILES, Settings, fixed, free, meaning_of, setting, unknown_key
from lstm_ray.config.train import TrainConfig


class Range(Settings):
    """The distribution that `tune` draws a setting from; exactly one field is given."""

    choice: tuple[Any, ...] | None = Field(None, min_length=1, description="One of these values.")
    uniform: tuple[float, float] | None = Field(None, description="A number between the two.")
    log_uniform: tuple[float, float] | None = Field(
        None, description="A number between the two, which are above 0; its logarithm is uniform."
    )
    integer: tuple[int, int] | None = Field(None, description="An integer from the first to the second, inclusive.")

    @model_validator(mode="before")
    @classmethod
    def _has_known_keys(cls, given: Any) -> Any:
        if not isinstance(given, dict | Range):
            values = given if isinstance(given, list | tuple) else [given]
            raise ValueError(f"should say how to draw it, such as {json.dumps({'choice': values}, default=str)}")
        for key in given if isinstance(given, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(unknown_key(key, cls))
        return given

    @model_validator(mode="after")
    def _is_one(self) -> Range:
        given = [name for name in self.model_fields_set if getattr(self, name) is not None]  # null in YAML: not given
        if len(given) != 1:
            raise ValueError(f"needs one of {', '.join(type(self).model_fields)}, such as uniform: [0, 0.5]")
        for bounds in (self.uniform, self.log_uniform, self.integer):
            if bounds is not None and not bounds[0] < bounds[1]:
                raise ValueError("the first bound must be below the second")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError("the bounds of log_uniform must be above 0")
        return self


class TuneConfig(TrainConfig):
    """All settings of a search: those of a training run, and which of them to draw."""

    output: str = free(
        "",
        "Directory for the search: trials, their table, and the best trial's job file.",
        panel=FILES,
        metavar="DIR",
        must_be_given=True,
        path="output",
    )
    search: dict[str, Range] = fixed({}, "The distribution of each searched setting.", panel="Search", option=False)
    trials: int = setting(
        10,
        "Number of trials; a larger number than before continues a finished search.",
        panel="Search",
        ge=1,
        may_change=("tune",),
        searchable=False,
    )
    max_failures: int = free(
        3, "How many times a trial may resume after its process or node is lost.", panel="Compute", ge=0
    )
    concurrency: int = setting(
        0,
        "Trials that run at once, with --cpus-per-worker cores each; 0 runs as many as there are cores for.",
        panel="Search",
        ge=0,
        may_change=("tune",),
        searchable=False,
    )

    @model_validator(mode="after")
    def _needs_workers(self) -> TuneConfig:
        """Replaces the rule that an address and a GPU need workers: here Ray runs the trials."""
        return self

    @model_validator(mode="after")
    def _can_be_searched(self) -> TuneConfig:
        known = sorted(name for name, is_one in meaning_of(TrainConfig, "searchable").items() if is_one)
        for name in self.search:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"can be searched: {', '.join(known)}"
                raise ValueError(f"`search`: {name!r} cannot be searched; {hint}")
        if not self.has_validation:
            raise ValueError(
                "a search compares trials by validation rows: give `validation`, or a `validation_fraction`"
            )
        return self
