"""The compiled LSTM layers against Keras and TensorFlow: dropout, other processors, memory that is reused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from twins import Both, assert_equal, settings

from lstm_ray.config import TrainConfig
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.layout import GATES, wide
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.native.layers import Dropout
from lstm_ray.train.native.layout import WeightLayout, directions


def draw_dropout(layout: WeightLayout, config: TrainConfig, rows: int, masks: int) -> Dropout:
    """Draws factors of 0, 1 and 2 for everything that can be dropped."""
    generator = np.random.default_rng(5)

    def factors(*shape: int) -> npt.NDArray[np.float32]:
        return generator.integers(0, 3, (rows, *shape)).astype(np.float32)

    both = list(directions(layout))
    return Dropout(
        factors(1 if config.shared_dropout else config.max_tokens, config.embedding_size)
        if config.embedding_dropout
        else None,
        {one: factors(masks, wide(one.inputs, layout.lanes)) for one in both} if config.dropout else {},
        {one: factors(GATES, wide(one.width, layout.lanes)) for one in both} if config.recurrent_dropout else {},
        factors(layout.output_kernel.stop - layout.output_kernel.start) if config.output_dropout else None,
    )


RATES: list[dict[str, float]] = [
    {"dropout": 0.3},
    {"recurrent_dropout": 0.3},
    {"dropout": 0.3, "recurrent_dropout": 0.3},
    {"embedding_dropout": 0.3},
    {"embedding_dropout": 0.3, "shared_dropout": True},
    {"output_dropout": 0.3},
    {"embedding_dropout": 0.3, "dropout": 0.3, "recurrent_dropout": 0.3, "output_dropout": 0.3},
]


@pytest.mark.parametrize(
    ("rates", "bidirectional", "size"),  # each two of them in every combination; 70 units are several blocks
    [
        pytest.param(rates, bidirectional, 70 if bidirectional == bool(number % 2) else 5, id="+".join([*rates, side]))
        for number, rates in enumerate(RATES)
        for bidirectional, side in ((False, "lstm"), (True, "bilstm"))
    ],
)
def test_dropout_falls_where_keras_lets_it_fall(
    rates: dict[str, float], bidirectional: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both get the same masks; Keras's own cells say where they are used."""
    start_tensorflow()
    import keras

    sizes = {"units": size, "embedding_size": size + 1}
    config = settings(layers=2, **sizes, pooling="max", mask=True, bidirectional=bidirectional, **rates)
    both = Both(config)
    masks = GATES if config.recurrent_dropout else 1
    drop = draw_dropout(both.layout, config, 7, masks)
    cells = []
    for depth in (1, 2):
        name = f"bidirectional_{depth}" if bidirectional else f"lstm_{depth}"
        layer = both.model.get_layer(name)
        cells += [layer.forward_layer.cell, layer.backward_layer.cell] if bidirectional else [layer.cell]
    for number, (cell, direction) in enumerate(zip(cells, directions(both.layout), strict=True)):
        is_bottom = number < (2 if bidirectional else 1)
        # A layer's inputs are padded to whole vectors, one direction after the other.
        below = (
            np.arange(config.embedding_size)
            if is_bottom
            else np.concatenate([one.column + np.arange(size) for one in both.layout.layers[0]])
        )
        own = range(size)
        for kind, found, columns in (("dropout", drop.inputs, below), ("recurrent_dropout", drop.recurrent, own)):
            if not found:
                continue
            of_gates = [keras.ops.convert_to_tensor(found[direction][:, gate, list(columns)]) for gate in range(masks)]
            value = of_gates if masks == GATES else of_gates[0]
            monkeypatch.setattr(cell, f"get_{kind}_mask", lambda _, value=value: value)
    if config.embedding_dropout:
        layer = both.model.get_layer("embedding_dropout")
        monkeypatch.setattr(layer, "call", lambda inputs, training=False: inputs * drop.embedding)
    if config.output_dropout:
        layer = both.model.get_layer("output_dropout")
        columns = both.layout.offsets[-2].ravel() - both.layout.output_kernel.start
        monkeypatch.setattr(layer, "call", lambda inputs, training=False: inputs * drop.output[:, columns])
    token_ids = both.rows([9, 3, 1, 7, 7, 9, 2])
    labels, counts = np.arange(7, dtype=np.float32) % 2, np.linspace(0.1, 1, 7, dtype=np.float32)
    ours = both.ours(token_ids, labels, counts, drop)
    assert_equal(ours, both.keras(token_ids, labels, counts, training=True))
    assert np.abs(ours[0] - both.ours(token_ids, labels, counts)[0]).max() > 0.001, "the masks do something"


@pytest.mark.parametrize(
    ("lanes", "tile_rows", "fused"),  # each two of them in every combination
    [(4, 3, True), (4, 6, False), (8, 3, False), (8, 6, True)],
)
def test_other_vectors_and_tiles_compute_the_same(lanes: int, tile_rows: int, fused: bool) -> None:
    """Workers of one group may have different processors."""
    host = Target.host()
    config = settings(units=20, layers=2, bidirectional=True, pooling="mean", mask=True)
    both = Both(config, target=Target(host.cpu, host.features, lanes, tile_rows, fused and host.fused))
    rows, ones = both.rows([9, 4, 2, 7, 7]), np.ones(5, np.float32)
    assert_equal(both.ours(rows, ones, ones), both.keras(rows, ones, ones))


def test_a_call_leaves_nothing_behind_for_the_next() -> None:
    both = Both(settings(layers=2, bidirectional=True, mask=True, pooling="mean_max"))
    ones = np.ones(20, np.float32)
    before = both.ours(both.rows([3, 5]), ones[:2], ones[:2])
    both.ours(both.rows([9] * 20, seed=3), ones, ones)
    after = both.ours(both.rows([3, 5]), ones[:2], ones[:2])
    assert [array.tobytes() for array in (before[0], *before[1])] == [
        array.tobytes() for array in (after[0], *after[1])
    ]
