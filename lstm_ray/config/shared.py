"""Settings that several commands share."""

from __future__ import annotations

from lstm_ray.config.base import FILES, Settings, fixed, free, setting


class InputSettings(Settings):
    """What a trained model is used on: `score` and `evaluate`."""

    inputs: tuple[str, ...] = setting(
        (),
        "Reviews as Parquet: files, directories, globs, s3:// gs:// abfs:// URIs.",
        panel=FILES,
        argument=True,
        must_be_given=True,
        path="input",
        fingerprint="content",
    )
    model: str = setting(
        "",
        "Model bundle, as train writes to OUTPUT/model.",
        panel=FILES,
        metavar="DIR",
        must_be_given=True,
        path="input",
        fingerprint="content",
    )


class RowSettings(Settings):
    """Which rows and which column of the input are read: all commands."""

    text_column: str = fixed("text", "Column of the reviews.", panel=FILES, metavar="NAME", fingerprint="value")
    max_rows: int | None = fixed(
        None,
        "Use only this many rows, for a quick try: score takes the first, other commands draw from the whole input.",
        panel=FILES,
        ge=1,
        fingerprint="value",
    )


class RaySettings(Settings):
    """The Ray that runs the workers of `train` and the actors of `score`."""

    address: str = free(
        "local",
        "Ray to run on: local starts one here; auto, HOST:PORT (Ray's or the dashboard's), ray://HOST:PORT join one.",
        panel="Compute",
        fingerprint="nothing",
    )
