"""lstm-ray calibrate"""

from __future__ import annotations

import lstm_ray
from lstm_ray.cli import bars, console
from lstm_ray.cli.options import given_options, takes_settings
from lstm_ray.config import CalibrateConfig, ColumnSettings, LabelSettings
from lstm_ray.wording import command_line, in_words


@takes_settings(CalibrateConfig)
def calibrate(config: CalibrateConfig) -> None:
    """Calibrate a model's probabilities and choose its threshold; writes a new bundle.

    Use labelled reviews that the model was not trained on, and evaluate the new model on others. The old bundle stays
    as it is.

    Example: lstm-ray calibrate labelled.parquet --model runs/first/model --output calibrated
    """
    from lstm_ray import storage

    with bars.progress("nothing is written") as progress:
        made = lstm_ray.calibrate(job=config, progress=progress)
    before, after = made.before.metrics(), made.after.metrics()
    rows = [("rows", f"{after['rows']:,}"), ("temperature", f"{made.temperature:.4g}")]
    rows.append(("threshold", f"{before['threshold']:g} -> {after['threshold']:g}"))
    names = ("calibration_error", "log_loss", "accuracy", "precision", "recall")
    rows += [(in_words(name), f"{before[name]:.4f} -> {after[name]:.4f}") for name in names]
    model = storage.absolute(made.output)
    rows.append(("model", model))
    columns = given_options(config, ColumnSettings, LabelSettings)
    rows.append(("next", command_line("evaluate", "OTHERS.parquet", "--model", model, *columns)))
    console.show_table("Calibrated", rows)
