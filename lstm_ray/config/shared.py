"""Settings that several commands share."""

from __future__ import annotations

from lstm_ray.config.base import FILES, Settings, setting


class InputSettings(Settings):
    """What a trained model is used on: `score` and `evaluate`."""

    inputs: tuple[str, ...] = setting(
        (),
        "Reviews as Parquet: files, directories, globs, s3:// gs:// abfs:// URIs.",
        panel=FILES,
        argument=True,
        required=True,
        path="input",
        fingerprint="content",
    )
    model: str = setting(
        "",
        "Model bundle, as train writes to OUTPUT/model.",
        panel=FILES,
        metavar="DIR",
        required=True,
        path="input",
        fingerprint="content",
    )


class RowSettings(Settings):
    """Which rows and which column of the input are read: `train`, `score` and `evaluate`."""

    text_column: str = setting(
        "text",
        "Column of the reviews.",
        panel=FILES,
        metavar="NAME",
        may_change=(),
        searchable=False,
        fingerprint="value",
    )
    max_rows: int | None = setting(
        None,
        "Use only this many rows, for a quick try: score takes the first, other commands draw from the whole input.",
        panel=FILES,
        ge=1,
        may_change=(),
        searchable=False,
        fingerprint="value",
    )


class RaySettings(Settings):
    """The Ray that runs the workers of `train` and the actors of `score`."""

    address: str = setting(
        "local",
        "Ray to run on: local starts one here; auto, HOST:PORT or ray://HOST:PORT joins one.",
        panel="Compute",
        may_change=("train", "tune"),
        searchable=False,
        fingerprint="nothing",
    )
