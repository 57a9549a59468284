"""Settings of scoring."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lstm_ray.config.base import COUNT, FILES, Settings, limits_of, setting


class ScoreConfig(Settings):
    """Everything that decides a scoring run."""

    inputs: tuple[str, ...] = setting(
        (),
        "Parquet to score: files, directories, globs, s3:// gs:// abfs:// URIs.",
        panel=FILES,
        argument=True,
    )
    model: str = setting("", "Model bundle, as train writes to OUTPUT/model.", panel=FILES, metavar="DIR")
    output: str = setting("", "Directory for the scored Parquet.", panel=FILES, metavar="DIR")
    overwrite: bool = setting(
        False, "Replace what --output holds from other inputs or settings.", panel=FILES, flag=True
    )
    text_column: str = setting("text", "Column of the reviews.", panel=FILES, metavar="NAME")
    keep_columns: str = setting("all", "Input columns to keep: all, or names separated by commas.", panel=FILES)
    prefix: str = setting("", "Put in front of the three new columns' names.", panel=FILES)
    max_rows: int | None = setting(None, "Score only the first rows: for a quick try.", panel=FILES, ge=1)
    rows_per_part: int = setting(
        50_000,
        "Rows of an output file, about: what is lost and done again if a run dies.",
        panel=FILES,
        ge=1,
    )
    max_bad_files: int = setting(
        0, "Input files that may be set aside as unreadable before the run fails.", panel=FILES, ge=0
    )
    filesystem_option: tuple[str, ...] = setting(
        (),
        "Option of the stores of all URIs, such as endpoint_override=HOST:PORT; keys come from the environment.",
        panel=FILES,
        metavar="KEY=VALUE",
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
        resource="processes",
        metavar="N|MIN:MAX",
        pattern=COUNT,
        examples=["4", "2:8"],
        coerce_numbers_to_str=True,
    )
    cpus_per_actor: float = setting(1.0, "CPU cores of a Ray actor.", panel="Compute", resource="cpus", gt=0)
    gpus_per_actor: float = setting(0.0, "GPUs of a Ray actor.", panel="Compute", resource="gpus", ge=0)
    address: str = setting(
        "local", "Ray to run on: local starts one here; auto, HOST:PORT or ray://HOST:PORT joins one.", panel="Compute"
    )

    @property
    def actor_limits(self) -> tuple[int, int]:
        """Returns the least and the most actors; (0, 0) scores in this process."""
        return limits_of("actors", self.actors)

    @model_validator(mode="after")
    def _needs_actors(self) -> ScoreConfig:
        if self.actor_limits == (0, 0) and self.address != "local":
            raise ValueError(f"`address` {self.address!r} needs `actors` of 1 or more; 0 scores in this process")
        if self.actors == "0" and self.gpus_per_actor:
            raise ValueError(
                "`gpus_per_actor` needs `actors` of 1 or more; in this process a GPU is used if there is one"
            )
        if self.engine == "cpu" and self.gpus_per_actor:
            raise ValueError("`engine` cpu does not use GPUs: leave `gpus_per_actor` at 0")
        return self
