"""Where training runs: in this process, or on Ray's workers."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lstm_ray.config.base import COUNT, free, limits_of, setting
from lstm_ray.config.shared import RaySettings

_NO_OTHERS = {"tune": "has no effect in a search: a trial has no other workers"}


class ComputeSettings(RaySettings):
    """Where training runs."""

    workers: str = setting(
        "0",
        "Number of Ray workers, one device each; MIN:MAX uses as many as fit, and 0 trains in this process.",
        panel="Compute",
        metavar="N|MIN:MAX",
        pattern=COUNT,
        examples=["4", "1:4"],
        coerce_numbers_to_str=True,
        may_change=("train",),
        searchable=False,
        refused={"tune": "must be 0: a trial trains in one process, and `concurrency` sets how many run at once"},
    )
    cpus_per_worker: float = free(1.0, "CPU cores per Ray worker.", panel="Compute", gt=0)
    gpus_per_worker: int = free(0, "GPUs per Ray worker: 0 or 1.", panel="Compute", ge=0, le=1)
    collective_timeout_s: float = setting(
        300.0,
        "Seconds without an answer after which a worker counts as lost.",
        panel="Compute",
        gt=0,
        le=86_400,
        may_change=("train",),
        searchable=False,
        refused=_NO_OTHERS,
    )
    collective: Literal["auto", "tcp", "tensorflow"] = setting(
        "auto",
        "What sums gradients over the workers: TCP, or TensorFlow (NCCL on GPUs, a ring on CPUs), which needs the "
        "Keras engine; auto uses TensorFlow for workers with GPUs.",
        panel="Compute",
        may_change=("train",),
        searchable=False,
        refused=_NO_OTHERS,
    )
    max_failures: int = free(
        3, "How many times lost Ray workers may be replaced before the run fails.", panel="Compute", ge=0
    )

    @property
    def worker_limits(self) -> tuple[int, int]:
        """Returns the least and the most workers; (0, 0) trains in this process."""
        return limits_of("workers", self.workers)

    @model_validator(mode="after")
    def _needs_workers(self) -> ComputeSettings:
        if self.worker_limits == (0, 0) and self.address != "local":
            raise ValueError(f"`address` {self.address!r} needs `workers` of 1 or more; 0 trains in this process")
        if self.worker_limits == (0, 0) and self.gpus_per_worker:
            raise ValueError(
                "`gpus_per_worker` needs `workers` of 1 or more; in this process a GPU is used if there is one"
            )
        if self.worker_limits[1] < 2 and self.collective == "tensorflow":
            raise ValueError("`collective` tensorflow needs `workers` of 2 or more: one worker has nothing to sum")
        return self
