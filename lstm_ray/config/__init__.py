"""All settings of lstm-ray, each declared once together with its properties (`base.setting`).

These models are the only place where a setting is declared. The command line builds its options from them
(`lstm_ray.cli.options`), job files are read into them, and every output contains the resolved settings as
`config.yaml`. Precedence: option > job file > preset > default (resolve.py, job_file.py, presets.py).

    Settings                   base.py
    ├── InputSettings          shared.py    inputs                             ScoreConfig, MeasureSettings, SplitConfig
    ├── BundleSettings         shared.py    the model                          ScoreConfig, MeasureSettings, `predict`
    ├── ColumnSettings         shared.py    where texts are                    SplitConfig
    │   └── RowSettings        shared.py    which rows                         all others
    ├── LabelSettings          shared.py    where labels are, what they mean   TrainConfig, MeasureSettings
    ├── Threshold              shared.py    the threshold itself
    │   ├── ThresholdSettings  shared.py    how it is chosen                   TrainConfig, MeasureSettings
    │   └── DecisionSettings   shared.py    how a probability becomes a label  ScoreConfig, `predict`, loaded models
    ├── PrecisionSettings      shared.py    numeric precision of scoring       the same, and EvaluateConfig
    ├── RaySettings            shared.py    address of the Ray cluster         TrainConfig, ScoreConfig
    ├── TokenSettings          model.py     how a text is split into words     VectorsConfig
    │   └── TextSettings       model.py     how a text becomes token ids       TrainConfig, bundles
    ├── ModelSettings          model.py     the network                        TrainConfig, bundles
    ├── SkipGramSettings       vectors.py   how word vectors are learned       VectorsConfig
    ├── MeasureSettings        evaluate.py  a model and rows with labels       EvaluateConfig, CalibrateConfig
    ├── RunSettings            train/       what a run reads and writes        TrainConfig
    ├── WordSettings           train/       vocabulary, vectors, pretraining   TrainConfig
    ├── LearningSettings       train/       epochs, steps, loss                TrainConfig
    ├── ComputeSettings        train/       where training runs                TrainConfig
    │
    ├── TrainConfig            train/
    │   └── TuneConfig         tune.py      a search over these settings
    ├── ScoreConfig            score.py
    ├── EvaluateConfig         evaluate.py
    ├── CalibrateConfig        evaluate.py
    ├── VectorsConfig          vectors.py
    ├── ConvertConfig          data.py      `data convert`
    └── SplitConfig            data.py      `data split`
"""

from lstm_ray.config.base import COUNTERPARTS as COUNTERPARTS
from lstm_ray.config.base import Settings as Settings
from lstm_ray.config.base import argument_name as argument_name
from lstm_ray.config.base import argument_types as argument_types
from lstm_ray.config.base import as_option as as_option
from lstm_ray.config.base import check_complete as check_complete
from lstm_ray.config.base import command_of as command_of
from lstm_ray.config.base import fields_in_order as fields_in_order
from lstm_ray.config.base import is_list as is_list
from lstm_ray.config.base import left_open as left_open
from lstm_ray.config.base import meaning_of as meaning_of
from lstm_ray.config.base import missing as missing
from lstm_ray.config.base import name_in_messages as name_in_messages
from lstm_ray.config.base import option_name as option_name
from lstm_ray.config.base import paths_of as paths_of
from lstm_ray.config.base import setting as setting
from lstm_ray.config.base import shown_as as shown_as
from lstm_ray.config.base import with_paths as with_paths
from lstm_ray.config.data import ConvertConfig as ConvertConfig
from lstm_ray.config.data import SplitConfig as SplitConfig
from lstm_ray.config.evaluate import LENGTH as LENGTH
from lstm_ray.config.evaluate import CalibrateConfig as CalibrateConfig
from lstm_ray.config.evaluate import EvaluateConfig as EvaluateConfig
from lstm_ray.config.job_file import changed_since as changed_since
from lstm_ray.config.job_file import describe_changes as describe_changes
from lstm_ray.config.job_file import job_file_schema as job_file_schema
from lstm_ray.config.job_file import known_settings as known_settings
from lstm_ray.config.job_file import load_job_file as load_job_file
from lstm_ray.config.job_file import read_yaml as read_yaml
from lstm_ray.config.job_file import read_yaml_as_written as read_yaml_as_written
from lstm_ray.config.job_file import to_yaml as to_yaml
from lstm_ray.config.model import ModelSettings as ModelSettings
from lstm_ray.config.model import Pooling as Pooling
from lstm_ray.config.model import Side as Side
from lstm_ray.config.model import TextSettings as TextSettings
from lstm_ray.config.model import TokenSettings as TokenSettings
from lstm_ray.config.model import Truncating as Truncating
from lstm_ray.config.model import Unlisted as Unlisted
from lstm_ray.config.model import pools_of as pools_of
from lstm_ray.config.presets import PRESETS as PRESETS
from lstm_ray.config.presets import apart_from_presets as apart_from_presets
from lstm_ray.config.resolve import resolve as resolve
from lstm_ray.config.score import OLDER_ENGINES as OLDER_ENGINES
from lstm_ray.config.score import EngineName as EngineName
from lstm_ray.config.score import ScoreConfig as ScoreConfig
from lstm_ray.config.shared import BundleSettings as BundleSettings
from lstm_ray.config.shared import ColumnSettings as ColumnSettings
from lstm_ray.config.shared import DecisionSettings as DecisionSettings
from lstm_ray.config.shared import LabelSettings as LabelSettings
from lstm_ray.config.shared import Precision as Precision
from lstm_ray.config.shared import PrecisionSettings as PrecisionSettings
from lstm_ray.config.shared import RowSettings as RowSettings
from lstm_ray.config.shared import split_list as split_list
from lstm_ray.config.train import TrainConfig as TrainConfig
from lstm_ray.config.tune import Range as Range
from lstm_ray.config.tune import TuneConfig as TuneConfig
from lstm_ray.config.vectors import SkipGramSettings as SkipGramSettings
from lstm_ray.config.vectors import VectorsConfig as VectorsConfig

COMMANDS: dict[str, type[Settings]] = {
    command_of(kind): kind
    for kind in (
        *(TrainConfig, ScoreConfig, EvaluateConfig, CalibrateConfig, TuneConfig, VectorsConfig),
        *(ConvertConfig, SplitConfig),
    )
}
"""The commands that accept job files, and their settings."""
