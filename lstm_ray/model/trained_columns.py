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
from lstm_ray.wording import join_list, quoted, without_proposal


@contextlib.contextmanager
def columns_of_training_named(config: ScoreConfig | EvaluateConfig | CalibrateConfig) -> Iterator[None]:
    """Adds the options of the training to an InputError of the block, if the settings cannot fit without them.

    They replace what the error itself proposes.
    """
    try:
        yield
    except InputError as error:
        options: list[str] = []
        with contextlib.suppress(BundleError, InputError):  # then the columns are not what is wrong
            options = options_of_training(config, read_bundle(config.model))
        if options:
            said = without_proposal(str(error)).rstrip(".")
            error.args = (f"{said}. The model was trained with {quoted(*options)}", *error.args[1:])
        raise


def options_of_training(config: ScoreConfig | EvaluateConfig | CalibrateConfig, bundle: Bundle) -> list[str]:
    """Returns the options for columns and labels with which a model was trained, if the settings need them.

    They do if the first input has the columns of the training but not those of the settings, or if only the training
    mapped labels.

    Raises:
        InputError: The first input cannot be read.
    """
    given = config.model_dump(mode="json")
    names = [one for one in ("text_column", *LabelSettings.model_fields) if one in given and bundle.training.get(one)]
    trained = {name: bundle.training[name] for name in names}
    options = [(option_name(name), value) for name, value in trained.items() if value != given[name]]
    if not options:
        return []
    file = find_inputs(config.inputs, ignore)[0]
    present = {*read_footer(file)[0].names, *file.partitions}
    columns = [name for name in names if name.endswith("_column")]
    lacks_column = not all(given[name] in present for name in columns)
    lacks_mapping = "positive_labels" in trained and not given["positive_labels"]
    if not (lacks_column or lacks_mapping) or not all(trained[name] in present for name in columns):
        return []
    return [word for name, value in options for word in (name, value if isinstance(value, str) else join_list(value))]
