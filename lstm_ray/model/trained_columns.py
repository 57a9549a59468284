"""The columns and labels that a model was trained with, for errors about files that have them too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lstm_ray.config import CalibrateConfig, EvaluateConfig, LabelSettings, ScoreConfig, option_name
from lstm_ray.errors import BundleError, InputError
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.progress import ignore
from lstm_ray.storage.inputs import find_inputs
from lstm_ray.storage.parquet import read_footer
from lstm_ray.wording import join_list, quoted


@contextlib.contextmanager
def columns_of_training_named(config: ScoreConfig | EvaluateConfig | CalibrateConfig) -> Iterator[None]:
    """Adds to an InputError of the block what `options_of_training` returns."""
    try:
        yield
    except InputError as error:
        options: list[str] = []
        with contextlib.suppress(BundleError, InputError):  # then the columns are not what is wrong
            options = options_of_training(config, read_bundle(config.model))
        if options:
            said = f"{error}" if str(error).endswith("?") else f"{error}."
            error.args = (f"{said} The model was trained with {quoted(*options)}", *error.args[1:])
        raise


def options_of_training(config: ScoreConfig | EvaluateConfig | CalibrateConfig, bundle: Bundle) -> list[str]:
    """Returns the options for columns and labels with which a model was trained, and which the settings do not have.

    None are returned unless the first input has these columns.

    Raises:
        InputError: The first input cannot be read.
    """
    options, columns = [], set()
    for name in ("text_column", *LabelSettings.model_fields):
        value = bundle.training.get(name)
        if not value or not isinstance(value, str | list) or name not in type(config).model_fields:
            continue
        if isinstance(value, str):
            columns.add(value)
        if value != (given := getattr(config, name)) and value != list(given):
            options += [option_name(name), value if isinstance(value, str) else join_list(value)]
    if not options:
        return []
    file = find_inputs(config.inputs, ignore)[0]
    schema, _ = read_footer(file)
    return options if columns <= {*schema.names, *file.partitions} else []
