"""A group of one worker returns what it is given."""

from __future__ import annotations

import numpy as np

from lstm_ray.collective.protocol import Alone, SparseRows


def test_alone_sums_and_gathers_its_own_numbers() -> None:
    dense, rows = np.ones(4, np.float32), SparseRows(np.array([3]), np.ones((1, 2), np.float32))
    assert Alone().all_reduce(dense, [rows]) == (dense, [rows])
    assert Alone().all_gather([2, 0.5]).tolist() == [[2.0, 0.5]]
