"""The least memory of a step: the weights are those of Keras's model."""

from __future__ import annotations

from typing import Any

import pytest
import steps

from lstm_ray.model.architectures import count_weights
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.step.memory import least_memory


@pytest.mark.parametrize(
    "network",
    [{}, {"bidirectional": True, "layers": 2, "pooling": "mean_max", "mask": True}, {"layers": 3, "units": 7}],
    ids=str,
)
def test_the_weights_are_those_of_the_model(network: dict[str, Any]) -> None:
    start_tensorflow()
    from lstm_ray.model.architectures import build_model

    config = steps.settings(**network)
    model = build_model(config, config, 0)
    assert count_weights(config, config) == sum(weights.size for weights in model.get_weights())


def test_states_grow_with_the_rows_of_a_slice() -> None:
    one = least_memory(steps.settings())
    assert one is not None
    assert one.states == 4 * 7 * 10 * (6 + 6 * 5)  # 7 rows of 10 tokens, 6 values a word, 5 units
    assert one.weights == 4 * 4 * count_weights(steps.settings(), steps.settings())
    for changes, share in (
        ({"workers": "2"}, 4 / 7),
        ({"workers": "1:2"}, 1),  # it may become one worker
        ({"accumulate": 2}, 4 / 7),
        ({"precision": "bf16"}, 1 / 2),
    ):
        other = least_memory(steps.settings(**changes))
        assert other is not None
        assert other.states == pytest.approx(share * one.states)
    assert least_memory(steps.settings(network="mine:build")) is None
    assert one.describe() == "at least 2 MB in a step: 1 for weights and Adam, 1 for states"


def test_states_of_steps_of_equally_many_tokens_are_not_known_without_the_texts() -> None:
    memory = least_memory(steps.settings(mask=True, batch_by="tokens"))
    assert memory is not None
    assert memory.states is None
    assert (
        memory.describe() == "at least 1 MB in a step for weights and Adam; states come on top, by the texts' lengths"
    )
