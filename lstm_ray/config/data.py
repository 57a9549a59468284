"""Settings of `data convert` and `data split`, which prepare files for training."""

from __future__ import annotations

from datetime import date
from typing import Any

from pydantic import field_validator, model_validator

from lstm_ray.config.base import FILES, Settings, setting
from lstm_ray.config.shared import ColumnSettings, InputSettings, NameList

_FORMAT = "CSV and TSV"
_SIDES = "Training or test"
_OVERWRITE = setting(False, "Replace existing files.", panel=FILES, flag=True)


class ConvertConfig(Settings):
    """All settings of a conversion to Parquet."""

    source: tuple[str, ...] = setting(
        (),
        "CSV, TSV, JSON lines or JSON arrays of objects, also compressed (.gz, .bz2, .zst).",
        panel=FILES,
        argument=True,
        must_be_given=True,
        path="input",
    )
    output: str = setting("", "Parquet file to write.", panel=FILES, metavar="FILE", must_be_given=True, path="output")
    as_text: tuple[str, ...] = setting(
        (), "Column to keep as text, whatever it contains, such as ids like 007.", panel=FILES, metavar="NAME"
    )
    overwrite: bool = _OVERWRITE
    encoding: str | None = setting(
        None,
        "Encoding of the files, such as latin-1; by default that of each file's byte order mark, or UTF-8.",
        panel=FILES,
        metavar="NAME",
    )
    delimiter: str | None = setting(
        None,
        "Character between values; by default a comma, or a tab in .tsv files.",
        panel=_FORMAT,
        metavar="CHARACTER",
    )
    quote: str | None = setting(
        None,
        'Character around values that contain a delimiter or a line break; the word none disables it. By default ", in '
        ".tsv files none.",
        panel=_FORMAT,
        metavar="CHARACTER",
    )
    escape: str | None = setting(
        None,
        "Character before a quote or delimiter that is part of a value; by default none.",
        panel=_FORMAT,
        metavar="CHARACTER",
    )
    column_names: NameList = setting(
        (),
        "Names of the columns, for files without a header, such as label,title,text.",
        panel=_FORMAT,
        metavar="NAME,...",
    )


class SplitConfig(ColumnSettings, InputSettings):
    """All settings of a split into a training and a test file."""

    output: str = setting(
        "",
        "Directory for train.parquet and test.parquet.",
        panel=FILES,
        metavar="DIR",
        must_be_given=True,
        path="output",
    )
    overwrite: bool = _OVERWRITE
    test: float | None = setting(
        None,
        "Share of the texts, or groups, for test.parquet; by default 0.2.",
        panel=_SIDES,
        metavar="SHARE",
        gt=0,
        lt=1,
    )
    by: str | None = setting(
        None,
        "Column, such as product or author; rows with equal values stay on one side, and where it is null, the text "
        "decides.",
        panel=_SIDES,
        metavar="COLUMN",
    )
    stratify: str | None = setting(
        None,
        "Column, such as the label, whose values are all split in the same proportion.",
        panel=_SIDES,
        metavar="COLUMN",
    )
    before: str | None = setting(
        None,
        "Put rows before this date, or date and time in UTC, into train.parquet, and the rest into test.parquet; rows "
        "without a date are for training.",
        panel=_SIDES,
        metavar="DATE",
    )
    date_column: str = setting("date", "Column of the dates.", panel=_SIDES, metavar="NAME")
    seed: int = setting(0, "Random seed of the split.", panel=_SIDES, ge=0, le=2**32 - 1)

    @field_validator("before", mode="before")
    @classmethod
    def _as_text(cls, given: Any) -> Any:
        return given.isoformat() if isinstance(given, date) else given  # so YAML reads it; a datetime is a date too

    @property
    def test_share(self) -> float:
        """Returns the share of the texts or groups for test.parquet."""
        return 0.2 if self.test is None else self.test

    @model_validator(mode="after")
    def _has_one_rule(self) -> SplitConfig:
        for name in ("test", "by", "stratify"):
            if self.before is not None and getattr(self, name) is not None:
                raise ValueError(f"`before` and `{name}` exclude each other: the date alone decides")
        if self.by is not None and self.stratify is not None:
            raise ValueError("`by` and `stratify` exclude each other: a group has rows of several classes")
        return self
