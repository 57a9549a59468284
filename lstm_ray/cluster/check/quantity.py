"""Kubernetes' quantities: 500m, 2, 16Gi."""

from __future__ import annotations

import math
import re

_UNITS = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    **{unit: 1000.0 ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": 1024.0 ** (power + 1) for power, unit in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")


def quantity(value: object) -> float | None:
    """Returns a quantity in its unit (cores, bytes, GPUs), or None if it is none: 500m -> 0.5, 2Ki -> 2048.

    Source: Kubernetes' resource.Quantity.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _QUANTITY.fullmatch(str(value))
    if not found:
        return None
    number, exponent, unit = found.groups()
    amount = float(f"{number}e{exponent or 0}") * _UNITS[unit or ""]
    return amount if math.isfinite(amount) else None
