"""How a training run learns: epochs, steps, loss, and the engine that computes them."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import field_validator

from lstm_ray.config.base import Settings, fixed, learned, setting


class LearningSettings(Settings):
    """Epochs, steps, loss and engine."""

    epochs: int = setting(
        5,
        "Passes over the training rows.",
        panel="Training",
        ge=1,
        may_change=("train",),
        searchable=True,
        from_data=True,
        from_bundle=True,
    )
    global_batch_size: int = learned(
        64, "Rows per step, divided among the workers.", panel="Training", ge=1, from_data=True
    )
    batch_by: Literal["rows", "tokens"] = learned(
        "rows",
        "Size of a step: --global-batch-size rows, or about as many tokens as that many rows have on average; tokens "
        "needs --mask.",
        panel="Training",
    )
    learning_rate: float = learned(
        0.001, "Adam's learning rate; with a schedule, its highest value.", panel="Training", gt=0, from_data=True
    )
    schedule: Literal["constant", "cosine", "linear"] = learned(
        "constant",
        "How the learning rate falls to 0 by the end of the last epoch; constant keeps it.",
        panel="Training",
    )
    warmup_steps: int = learned(
        0, "Steps over which the learning rate first rises linearly to its full value.", panel="Training", ge=0
    )
    best_by: Literal["loss", "auc", "accuracy"] = fixed(
        "accuracy",
        "Validation metric that selects the best epoch, whose model is kept; the lower loss breaks ties.",
        panel="Training",
        from_bundle=True,
    )
    early_stopping: int = setting(
        0,
        "Stop after this many epochs without improvement in --best-by; 0 trains all epochs.",
        panel="Training",
        ge=0,
        may_change=("train",),
        searchable=True,
        from_bundle=True,
    )
    clip_norm: float | None = learned(
        None,
        "Maximum norm of a step's gradient, over all weights; a larger gradient is scaled down to it.",
        panel="Training",
        gt=0,
    )
    accumulate: int = setting(
        1,
        "Number of slices that a worker's rows of a step are divided into; it computes one at a time, to save memory.",
        panel="Training",
        ge=1,
        may_change=("train",),
        searchable=True,
    )
    word_dropout: float = learned(
        0.0, "Share of each text's words left out in training, chosen anew in each epoch.", panel="Training", ge=0, lt=1
    )
    adam_beta_1: float = learned(
        0.9, "Adam's beta_1, the decay of the moving average of gradients.", panel="Training", ge=0, le=0.99999
    )
    adam_beta_2: float = learned(
        0.999,
        "Adam's beta_2, the decay of the moving average of squared gradients.",
        panel="Training",
        ge=0,
        le=0.99999,
    )
    weight_decay: float = learned(
        0.0,
        "Weight decay as in AdamW: each step shrinks every weight by this share times the learning rate.",
        panel="Training",
        ge=0,
    )
    ema: float = learned(
        0.0,
        "Decay, such as 0.999, of a moving average of the weights, which is validated and kept; 0 takes no average.",
        panel="Training",
        ge=0,
        lt=1,
    )
    label_smoothing: float = learned(
        0.0,
        "How far labels are moved towards 1/2 in training: 0.1 turns 0 and 1 into 0.05 and 0.95.",
        panel="Training",
        ge=0,
        lt=1,
    )
    class_weights: str = learned(
        "none",
        "Weights of the classes in the loss: none (1 each), balanced (equal in total), or two numbers, negative first.",
        panel="Training",
        metavar="none|balanced|X,X",
    )
    ngram_refit: bool = learned(
        False,
        "After training, fit the n-gram part again, including the rows of --train held out for validation; the "
        "reported metrics are measured before that.",
        panel="Training",
    )
    ngram_rows: int = learned(
        0,
        "Maximum number of rows to fit the n-gram part on, to save memory (some 40 bytes an n-gram); 0 takes all rows.",
        panel="Training",
        ge=0,
        from_data=True,
    )
    ngram_c: float = learned(
        0.5,
        "Inverse strength of the penalty (scikit-learn's C) in the first of the n-gram part's two regressions.",
        panel="Training",
        gt=0,
    )
    adversarial: float = learned(
        0.0,
        "Adversarial training: also train on word vectors that are shifted to raise the loss, by this multiple of a "
        "vector's length; 0 disables it.",
        panel="Training",
        ge=0,
    )
    precision: Literal["float32", "bf16", "fp16"] = learned(
        "float32", "Floating-point type of the computation in training; weights are kept in float32.", panel="Training"
    )
    engine: Literal["auto", "native", "keras"] = setting(
        "auto",
        "What computes the steps: Keras, or the native engine (2 to 8 times as fast, but only float32 on CPUs); auto "
        "uses the native engine where possible.",
        panel="Training",
        may_change=("train",),
        searchable=True,
    )
    checkpoint_every: str = setting(
        "5min",
        "Time or steps between checkpoints; there is also one at the end of each epoch.",
        panel="Training",
        metavar="TIME|STEPS|epoch",
        pattern=r"^[1-9]\d*(s|min|h|steps)$|^epoch$",
        examples=["30s", "2min", "500steps", "epoch"],
        may_change=("train",),
        searchable=True,
    )
    # Not searchable: it also decides which rows are held out, and trials must be compared on the same rows.
    seed: int = fixed(
        0,
        "Random seed for initial weights, row order, dropout and the held-out rows.",
        panel="Training",
        ge=0,
        le=2**32 - 1,  # what NumPy's and Keras's global seeds take
    )

    @property
    def checkpoint_interval(self) -> tuple[float, float]:
        """Returns the seconds and the steps after which to save; at least one of them is infinite."""
        number, unit = re.fullmatch(r"(\d*)(\w+)", self.checkpoint_every).groups()  # type: ignore[union-attr]
        seconds = {"s": 1, "min": 60, "h": 3600}
        every = int(number or 0)
        return every * seconds[unit] if unit in seconds else math.inf, every if unit == "steps" else math.inf

    @property
    def fixed_class_weights(self) -> tuple[float, float] | None:
        """Returns the weights of negative and positive rows; None with "balanced", where they depend on the data."""
        if self.class_weights == "balanced":
            return None
        negative, _, positive = ("1,1" if self.class_weights == "none" else self.class_weights).partition(",")
        return float(negative), float(positive)

    @field_validator("class_weights")
    @classmethod
    def _are_weights(cls, given: str) -> str:
        if given not in ("none", "balanced") and not re.fullmatch(r"\d+(\.\d+)?,\d+(\.\d+)?", given):
            raise ValueError("should be none, balanced or two numbers such as 1,2.5")
        if re.fullmatch(r"[0.]+,[0.]+", given):
            raise ValueError("at least one class needs a weight above 0")
        return given
