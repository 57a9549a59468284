"""Minimizes a smooth convex function with L-BFGS.

Vectors are float32, because those of the last steps take most of the memory. Function values are float64, because they
decide whether a step is accepted.

Sources: J. Nocedal, S. Wright, "Numerical Optimization", 2006, algorithm 7.4; the line search, which doubles and
halves, is that of A. Lewis, M. Overton, "Nonsmooth optimization via quasi-Newton methods", 2013.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lstm_ray.arrays import Floats

_REMEMBERED = 10  # steps
_MOST_STEPS = 1000
_MOST_TRIALS = 40  # step lengths that are tried
_DECREASE = 1e-4  # first Wolfe condition: least decrease of the value, as a share of what the slope predicts
_CURVATURE = 0.9  # second Wolfe condition: largest slope after a step, as a share of the slope before it


@dataclass(frozen=True)
class Iterate:
    """A point, with the function's value and gradient.

    Attributes:
        at: float32[n], the point.
        value: The function's value.
        gradient: float32[n], the function's gradient.
    """

    at: Floats
    value: float
    gradient: Floats


Evaluate = Callable[[Floats], Iterate]
Dot = Callable[[Floats, Floats], float]
_Step = tuple[Floats, Floats, float]
"""The changes of the point and of the gradient in a step, and the dot product of the two."""


def minimise(evaluate: Evaluate, start: Floats, dot: Dot, is_low: Callable[[Iterate], bool]) -> Floats:
    """Returns the minimum of a function, float32[n].

    Args:
        evaluate: Evaluates the function.
        start: float32[n], where to start.
        dot: Returns a dot product. Workers that search together must get the same values and products.
        is_low: Returns whether a point is close enough to the minimum.
    """
    point = evaluate(start)
    steps: deque[_Step] = deque(maxlen=_REMEMBERED)
    for _ in range(_MOST_STEPS):
        if is_low(point):
            break
        reached = _search(evaluate, point, _direction(point.gradient, steps, dot), dot, is_scaled=bool(steps))
        if reached is None:  # here and below: no progress beyond rounding errors
            break
        step, bend = reached.at - point.at, reached.gradient - point.gradient
        point, product = reached, dot(step, bend)
        if not product > 0:
            break
        steps.append((step, bend, product))
    return point.at


def _direction(gradient: Floats, steps: deque[_Step], dot: Dot) -> Floats:
    """Returns the search direction: minus the gradient, times the inverse Hessian estimated from the last steps."""
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


def _search(evaluate: Evaluate, point: Iterate, direction: Floats, dot: Dot, *, is_scaled: bool) -> Iterate | None:
    """Returns a point in the given direction that satisfies the Wolfe conditions; None if none is found.

    Args:
        evaluate: Evaluates the function.
        point: Where to start.
        direction: The search direction.
        dot: Returns a dot product.
        is_scaled: Whether the direction's length is a good first step.
    """
    slope = dot(direction, point.gradient)
    if not slope < 0:
        return None
    length = 1.0 if is_scaled else min(1.0, float((-slope) ** -0.5))
    least, most = 0.0, None
    for _ in range(_MOST_TRIALS):
        reached = evaluate(point.at + length * direction)
        if not reached.value <= point.value + _DECREASE * length * slope:
            most = length
        elif dot(direction, reached.gradient) < _CURVATURE * slope:
            least = length
        else:
            return reached
        length = 2 * least if most is None else (least + most) / 2
    return None
