"""What a kernel refuses before machine code runs, by kernel and argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ray.kernels import products
from lstm_ray.kernels.arguments import Arguments
from lstm_ray.kernels.emitter import Target

ARGUMENTS = {
    "ids": "int32[rows]",
    "values": "float32[rows, 4+]",
    "scale": "int64",
    "total": "float32[sums, 4] out",
}


def good() -> dict[str, Any]:
    """Returns arguments that fit."""
    return {
        "ids": np.zeros(3, np.int32),
        "values": np.zeros((3, 6), np.float32),
        "scale": 7,
        "total": np.zeros((2, 4), np.float32),
    }


def read_only(*shape: int) -> Any:
    array = np.zeros(shape, np.float32)
    array.flags.writeable = False
    return array


def test_addresses_integers_lengths_and_strides_are_passed_by_name() -> None:
    arguments, given = Arguments("sum", ARGUMENTS), good()
    values = dict(zip(arguments.names, arguments.values(given), strict=True))
    assert values == {
        **{name: given[name].ctypes.data for name in ("ids", "values", "total")},
        "scale": 7,
        "rows": 3,
        "sums": 2,
        "values_stride": 6,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"values": np.zeros((3, 9), np.float32)[:, 2:]},
        {"values": read_only(3, 4)},
        {"values": np.broadcast_to(np.zeros(4, np.float32), (3, 4))},
        {"values": np.zeros((6, 4), np.float32)[::2]},
        {"ids": np.zeros(0, np.int32), "values": np.zeros((0, 1), np.float32) * np.zeros((0, 4), np.float32)},
        {"scale": np.int64(7)},
        {"scale": True},
    ],
    ids=["columns", "read-only input", "one row for all", "every other row", "no row", "NumPy's integer", "bool"],
)
def test_what_fits_is_taken(change: dict[str, Any]) -> None:
    Arguments("sum", ARGUMENTS).values({**good(), **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"values": np.zeros((3, 6))}, TypeError, r"sum: values must be float32\[rows, 4\+\], not float64"),
        ({"ids": np.zeros(3, np.int64)}, TypeError, r"sum: ids must be int32\[rows\], not int64"),
        ({"ids": np.zeros(3, ">i4")}, TypeError, "sum: ids"),
        ({"ids": [0, 0, 0]}, TypeError, r"sum: ids must be int32\[rows\], not list"),
        ({"ids": None}, TypeError, "sum: ids must be .* not NoneType"),
        ({"scale": 1.5}, TypeError, "float"),
        ({"ids": np.zeros((3, 1), np.int32)}, ValueError, r"sum: ids must be int32\[rows\], not of shape \(3, 1\)"),
        ({"total": np.zeros(8, np.float32)}, ValueError, "sum: total must be"),
        ({"values": np.zeros((4, 6), np.float32)}, ValueError, r"sum: values must be .* \(4, 6\).*'rows': 3"),
        ({"values": np.zeros((3, 3), np.float32)}, ValueError, "sum: values must be"),
        ({"total": np.zeros((2, 5), np.float32)}, ValueError, "sum: total must be"),
        ({"ids": np.zeros(6, np.int32)[::2]}, ValueError, "sum: ids must be C-contiguous"),
        ({"total": np.zeros((4, 2), np.float32).T}, ValueError, "sum: total must be C-contiguous"),
        ({"values": np.zeros((4, 3), np.float32).T}, ValueError, "sum: values must have contiguous rows"),
        ({"values": np.zeros((3, 4), np.float32)[::-1]}, ValueError, "sum: values must have contiguous rows"),
        ({"total": read_only(2, 4)}, ValueError, "sum: total is written to, but is read-only"),
        ({"other": 1}, TypeError, "sum takes ids, values, total, scale, not .* other"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Arguments("sum", ARGUMENTS).values({**good(), **change})


def test_a_missing_argument_is_refused() -> None:
    given = good()
    del given["scale"]
    with pytest.raises(TypeError, match="sum takes ids, values, total, scale, not ids, values, total"):
        Arguments("sum", ARGUMENTS).values(given)


def test_a_kernel_checks_before_it_runs() -> None:
    lanes = Target.host().lanes
    ids, values, out = np.zeros(2, np.int32), np.ones((2, lanes)), np.zeros((1, lanes), np.float32)
    add_rows = products.add_rows(Target.host(), lanes)
    with pytest.raises(TypeError, match=r"add_rows: values must be .* not float64"):
        add_rows(ids=ids, values=values, out=out)
    assert not out.any()
    add_rows(ids=ids, values=values.astype(np.float32), out=out)
    assert (out == 2).all()
