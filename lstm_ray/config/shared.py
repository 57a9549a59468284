"""Settings that several commands share."""

from __future__ import annotations

from lstm_ray.config.base import FILES, Settings, fixed, free, setting


class InputSettings(Settings):
    """Inputs and model of `score` and `evaluate`."""

    inputs: tuple[str, ...] = setting(
        (),
        "Reviews as Parquet: files, directories, globs, or s3:// gs:// abfs:// URIs.",
        panel=FILES,
        argument=True,
        must_be_given=True,
        path="input",
        fingerprint="content",
    )
    model: str = setting(
        "",
        "Directory of the model bundle, such as OUTPUT/model of train.",
        panel=FILES,
        metavar="DIR",
        must_be_given=True,
        path="input",
        fingerprint="content",
    )


class RowSettings(Settings):
    """Which rows and which text column of the input are read, for all commands."""

    text_column: str = fixed("text", "Column of the reviews.", panel=FILES, metavar="NAME", fingerprint="value")
    max_rows: int | None = fixed(
        None,
        "Use only this many rows, for a quick try: score takes the first, other commands sample the whole input.",
        panel=FILES,
        ge=1,
        fingerprint="value",
    )


class RaySettings(Settings):
    """The Ray cluster that runs the workers of `train` and the actors of `score`."""

    address: str = free(
        "local",
        "Ray to run on: local starts one here; auto, HOST:PORT (Ray's or the dashboard's), ray://HOST:PORT join one.",
        panel="Compute",
        fingerprint="nothing",
    )
