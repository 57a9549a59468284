"""lstm-ray vectors"""

from __future__ import annotations

import lstm_ray
from lstm_ray.cli import bars, console
from lstm_ray.cli.options import takes_settings
from lstm_ray.config import TokenSettings, TrainConfig, VectorsConfig, as_option
from lstm_ray.wording import command_line, counted


@takes_settings(VectorsConfig)
def vectors(config: VectorsConfig) -> None:
    """Learn word vectors from reviews, labelled or not, for `train --embeddings`.

    Example: lstm-ray vectors --text train.parquet --text unlabelled.parquet --output vectors.txt
    """
    with bars.progress("nothing is written") as progress:
        made = lstm_ray.vectors(job=config, progress=progress)
    speed = config.epochs * made.occurrences / max(made.seconds, 1e-9)
    console.show_table(
        "Learned",
        [
            ("texts", f"{made.texts:,} with {counted(made.occurrences, 'word')}"),
            ("vectors", f"{made.words:,}, {counted(config.size, 'number')} each"),
            ("speed", f"{speed:,.0f} words/s"),
            ("output", made.output),
            ("next", command_line(*_next_command(config))),
        ],
    )


def _next_command(config: VectorsConfig) -> list[str]:
    """Returns a command that uses the vectors, with the settings that must match theirs."""
    words = ["train", "--train", "TRAIN.parquet", "--output", "runs/first", "--embeddings", config.output]
    tokens = {name: getattr(config, name) for name in TokenSettings.model_fields}
    for name, value in {"embedding_size": config.size, "text_column": config.text_column, **tokens}.items():
        if value != TrainConfig.model_fields[name].default:
            words += as_option(name, value).split(" ", 1)
    return words
