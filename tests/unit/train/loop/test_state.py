"""The state of a run: its position in words, and when it has ended."""

from __future__ import annotations

import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.train.loop.state import State


def test_a_position_in_words() -> None:
    assert State(epoch=2).position() == "the end of epoch 2"
    assert State(epoch=1, step=340).position() == "epoch 2, step 340"


@pytest.mark.parametrize(
    ("epoch", "best", "patience", "ended", "early"),
    [
        (4, 4, 0, False, False),
        (5, 1, 0, True, False),
        (3, 2, 2, False, False),
        (4, 2, 2, True, True),
        (4, 2, 3, False, False),
        (0, 0, 1, False, False),
    ],
)
def test_a_run_ends_after_its_last_epoch_or_when_no_epoch_is_better(
    epoch: int, best: int, patience: int, ended: bool, early: bool
) -> None:
    config = TrainConfig(preset="none", epochs=5, early_stopping=patience)
    state = State(epoch=epoch, best_epoch=best)
    assert (state.has_ended(config), state.stops_early(config)) == (ended, early)
