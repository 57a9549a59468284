"""The layout of a network's weights: each has an offset of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.native.layout import directions, lay_out


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bidirectional": True, "layers": 2},
        {"units": 70, "layers": 3},
        {"embedding_size": 16},
        {"bidirectional": True, "pooling": "mean_max"},
    ],
    ids=str,
)
def test_every_weight_of_keras_has_its_own_offset(changes: dict[str, Any], lanes: int) -> None:
    start_tensorflow()
    from lstm_ray.model.architectures import build_model

    config = TrainConfig.model_validate(
        {"preset": "none", "vocabulary_size": 9, "embedding_size": 6, "units": 5, **changes}
    )
    layout = lay_out(config, lanes)
    _, *variables = build_model(config, config, 0).trainable_variables
    assert [offsets.shape for offsets in layout.offsets] == [tuple(variable.shape) for variable in variables]
    taken = np.concatenate([offsets.ravel() for offsets in layout.offsets])
    assert len(np.unique(taken)) == len(taken)
    assert taken.max() < layout.size
    assert layout.size % lanes == layout.embedding_width % lanes == 0
    parts = [part for one in directions(layout) for part in (one.kernel, one.recurrent, one.bias)]
    parts += [layout.output_kernel, layout.output_bias]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
