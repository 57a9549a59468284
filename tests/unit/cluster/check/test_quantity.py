"""Kubernetes' quantities."""

from __future__ import annotations

import pytest

from lstm_ray.cluster.check.quantity import quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", 0.5),
        ("2", 2),
        (2, 2),
        (0.5, 0.5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("16Gi", 16 * 2**30),
        ("1k", 1000),
        ("1Ki", 1024),
        ("2E", 2e18),
        ("12e3", 12000),
        ("-1", -1),
        ("16GB", None),
        ("1e999", None),
        ("1K", None),
        ("two", None),
        ("", None),
        ("1 Gi", None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_quantity(text: object, number: float | None) -> None:
    assert quantity(text) == (pytest.approx(number) if number is not None else None)
