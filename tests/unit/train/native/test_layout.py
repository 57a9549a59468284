"""The layout of a network's numbers: every one of Keras's has a place of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.native.layout import directions, lay_out, transposed


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize(
    "changes", [{}, {"bidirectional": True, "layers": 2}, {"units": 70, "layers": 3}, {"embedding_size": 16}], ids=str
)
def test_every_number_of_keras_has_its_own_place(changes: dict[str, Any], lanes: int) -> None:
    start_tensorflow()
    from lstm_ray.model.architectures import build_model

    config = TrainConfig.model_validate({"vocabulary_size": 9, "embedding_size": 6, "units": 5, **changes})
    layout = lay_out(config, lanes)
    _, *variables = build_model(config, config, 0).trainable_variables
    assert [places.shape for places in layout.places] == [tuple(variable.shape) for variable in variables]
    taken = np.concatenate([places.ravel() for places in layout.places])
    assert len(np.unique(taken)) == len(taken)
    assert taken.max() < layout.size
    assert layout.size % lanes == layout.embedding_width % lanes == 0
    parts = [part for one in directions(layout) for part in (one.kernel, one.recurrent, one.bias)]
    parts += [layout.output_kernel, layout.output_bias]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]


@pytest.mark.parametrize(("rows", "width"), [(16, 16), (32, 16), (48, 80)])
def test_a_transposed_matrix_multiplies_the_other_way(rows: int, width: int) -> None:
    lanes = 16
    generator = np.random.default_rng(0)
    packed = generator.normal(size=(width // lanes, rows, 4, lanes)).astype(np.float32)
    deltas = generator.normal(size=4 * width).astype(np.float32)  # of [blocks, 4, lanes]
    expected = np.einsum("brgl,bgl->r", packed, deltas.reshape(-1, 4, lanes))
    matrix = transposed(packed.ravel(), rows, lanes)
    assert matrix.shape == (-(-rows // (4 * lanes)), 4 * width, 4 * lanes)
    found = np.einsum("i,sic->sc", deltas, matrix).ravel()
    np.testing.assert_allclose(found[:rows], expected, rtol=1e-4, atol=1e-4)
    assert not found[rows:].any()
