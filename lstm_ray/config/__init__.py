"""Every setting of lstm-ray, declared once with all that follows from it (`base.setting`).

These models are the only place where a setting is declared. The command line builds its options from them
(`lstm_ray.cli.options`), job files are read into them, and every result carries the resolved settings as `config.yaml`.
Precedence: option > job file > preset > default (resolve.py, job_file.py, presets.py).

    Settings                base.py
    ├── InputSettings       shared.py     inputs and model                   ScoreConfig, EvaluateConfig
    ├── RowSettings         shared.py     which rows, which column of text   TrainConfig, ScoreConfig, EvaluateConfig
    ├── LabelSettings       labels.py     which labels mean what             TrainConfig, EvaluateConfig
    ├── RaySettings         shared.py     which Ray                          TrainConfig, ScoreConfig
    ├── TextSettings        train.py      how a text becomes token ids       TrainConfig, bundles
    ├── ModelSettings       train.py      the network                        TrainConfig, bundles
    ├── ComputeSettings     train.py      where training runs                TrainConfig
    ├── RunSettings         train.py      what a run reads and writes        TrainConfig
    │
    ├── TrainConfig         train.py
    │   └── TuneConfig      tune.py       a search over these settings
    ├── ScoreConfig         score.py
    └── EvaluateConfig      evaluate.py
"""

from lstm_ray.config.base import (
    FILES,
    PANELS,
    Settings,
    argument_name,
    command_of,
    fields_in_order,
    meaning_of,
    missing,
    name_in_messages,
    option_name,
    paths_of,
    setting,
    shown_as,
    with_paths,
)
from lstm_ray.config.evaluate import EvaluateConfig
from lstm_ray.config.job_file import changed_since, load_job_file, read_job_file, read_yaml, to_yaml
from lstm_ray.config.presets import PRESETS
from lstm_ray.config.resolve import resolve
from lstm_ray.config.score import ScoreConfig
from lstm_ray.config.train import ComputeSettings, ModelSettings, Side, TextSettings, TrainConfig
from lstm_ray.config.tune import Range, TuneConfig

COMMANDS: dict[str, type[Settings]] = {
    command_of(kind): kind for kind in (TrainConfig, ScoreConfig, EvaluateConfig, TuneConfig)
}
"""The commands that job files are for, and their settings."""

__all__ = [
    "COMMANDS",
    "FILES",
    "PANELS",
    "PRESETS",
    "ComputeSettings",
    "EvaluateConfig",
    "ModelSettings",
    "Range",
    "ScoreConfig",
    "Settings",
    "Side",
    "TextSettings",
    "TrainConfig",
    "TuneConfig",
    "argument_name",
    "changed_since",
    "command_of",
    "fields_in_order",
    "load_job_file",
    "meaning_of",
    "missing",
    "name_in_messages",
    "option_name",
    "paths_of",
    "read_job_file",
    "read_yaml",
    "resolve",
    "setting",
    "shown_as",
    "to_yaml",
    "with_paths",
]
