"""The lowest point of a smooth convex function, by L-BFGS.

Vectors are float32: those of the last steps take most of the memory. The value, which decides on a step, is float64.

Sources: J. Nocedal, S. Wright, "Numerical Optimization", 2006, algorithm 7.4; the line search, which doubles and
halves, is that of A. Lewis, M. Overton, "Nonsmooth optimization via quasi-Newton methods", 2013.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lstm_ray.collective.protocol import Floats

_REMEMBERED = 10  # steps
_MOST_STEPS = 1000
_MOST_TRIALS = 40  # lengths of a step
_FALL = 1e-4  # least decrease of the value, as a share of what the slope promises
_FLATTER = 0.9  # largest slope after a step, as a share of the one before it


@dataclass(frozen=True)
class Point:
    """A point, and what the function is there.

    Attributes:
        at: float32[n].
        value: Of the function.
        gradient: float32[n].
    """

    at: Floats
    value: float
    gradient: Floats


Evaluate = Callable[[Floats], Point]
Dot = Callable[[Floats, Floats], float]
_Step = tuple[Floats, Floats, float]
"""How a step changed the point and the gradient, and the dot product of the two."""


def minimise(evaluate: Evaluate, start: Floats, dot: Dot, is_low: Callable[[Point], bool]) -> Floats:
    """Returns the point where a function is lowest, float32[n].

    Args:
        evaluate: Evaluates the function.
        start: float32[n], where to start.
        dot: Returns a dot product. Workers that search together must all get the same values and products.
        is_low: Returns whether a point is low enough.
    """
    point = evaluate(start)
    steps: deque[_Step] = deque(maxlen=_REMEMBERED)
    for _ in range(_MOST_STEPS):
        if is_low(point):
            break
        reached = _search(evaluate, point, _direction(point.gradient, steps, dot), dot, is_scaled=bool(steps))
        if reached is None:  # here and below, only rounding is left
            break
        step, bend = reached.at - point.at, reached.gradient - point.gradient
        point, product = reached, dot(step, bend)
        if not product > 0:
            break
        steps.append((step, bend, product))
    return point.at


def _direction(gradient: Floats, steps: deque[_Step], dot: Dot) -> Floats:
    """Returns where to go: minus the gradient, times the inverse Hessian as far as the last steps show it."""
    direction, shares = -gradient, []
    for step, bend, product in reversed(steps):
        shares.append(dot(step, direction) / product)
        direction -= shares[-1] * bend
    if steps:
        _, bend, product = steps[-1]
        direction *= product / dot(bend, bend)
    for (step, bend, product), share in zip(steps, reversed(shares), strict=True):
        direction += (share - dot(bend, direction) / product) * step
    return direction


def _search(evaluate: Evaluate, point: Point, direction: Floats, dot: Dot, *, is_scaled: bool) -> Point | None:
    """Returns a point in a direction that is lower, and where the slope is flatter; None if none is found.

    Args:
        evaluate: Evaluates the function.
        point: Where to start.
        direction: Where to go.
        dot: Returns a dot product.
        is_scaled: Whether the direction's length is a good one to try first.
    """
    slope = dot(direction, point.gradient)
    if not slope < 0:
        return None
    length = 1.0 if is_scaled else min(1.0, float((-slope) ** -0.5))
    least, most = 0.0, None
    for _ in range(_MOST_TRIALS):
        reached = evaluate(point.at + length * direction)
        if not reached.value <= point.value + _FALL * length * slope:
            most = length
        elif dot(direction, reached.gradient) < _FLATTER * slope:
            least = length
        else:
            return reached
        length = 2 * least if most is None else (least + most) / 2
    return None
