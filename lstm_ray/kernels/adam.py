"""Machine code for Adam.

Adam moves every row of a matrix in every step. A row that nobody reads is left where it is, and takes the steps that it
missed when it next is read, all in registers: the same operations in the same order.

Source: D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", 2015, in the form of `keras.optimizers.Adam`.
"""

from collections.abc import Sequence

from lstm_ray.kernels.emitter import F32, I32, I64, POINTER, Emitter, Target, Value
from lstm_ray.kernels.function import compiled


@compiled
def adam(target: Target) -> Emitter:
    """Takes Adam's steps over rows of a matrix, those that a row missed included; see `_ADAM`."""
    b = Emitter(target, "adam", _ADAM)
    a = b.arguments
    lanes = target.lanes
    take_first, take_second, epsilon = (b.broadcast(b.load(b.at(a["constants"], place), typ=F32)) for place in range(3))
    zero = b.like(take_first, 0)

    def take_step(gradient: Value, number: Value, carried: Sequence[Value]) -> list[Value]:
        weight, first, second = carried
        rate = b.broadcast(b.load(b.at(a["rates"], number), typ=F32))
        first = b.multiply_add(b.fsub(gradient, first), take_first, first)
        second = b.multiply_add(b.fsub(b.fmul(gradient, gradient), second), take_second, second)
        root = b.intrinsic(f"llvm.sqrt.v{lanes}f32", second.type, [second])
        return [b.fsub(weight, b.fdiv(b.fmul(first, rate), b.fadd(root, epsilon))), first, second]

    def row(number: Value, _: list[Value]) -> list[Value]:
        identity = b.load_integer(a["ids"], number, I32)
        offset = b.mul(identity, a["width"])
        done = b.load_integer(a["done"], identity, I32)
        gradients = b.at(a["gradients"], b.mul(number, a["width"]))

        def vector(index: Value, _: list[Value]) -> list[Value]:
            unit = b.mul(index, I64(lanes))
            arrays = [b.at(b.at(a[name], offset), unit) for name in ("weights", "first", "second")]
            values = [b.load_vector(array) for array in arrays]
            missed = b.sub(a["missed_until"], done)
            values = b.loop(missed, values, lambda k, carried: take_step(zero, b.add(done, k), carried))

            def learn(_: Value, carried: list[Value]) -> list[Value]:
                return take_step(b.load_vector(b.at(gradients, unit)), a["missed_until"], carried)

            values = b.loop(a["has_gradients"], values, learn)
            for value, array in zip(values, arrays, strict=True):
                b.store_vector(value, array)
            return []

        return b.loop(b.sdiv(a["width"], I64(lanes)), [], vector)

    b.loop(a["rows"], [], row)
    b.ret_void()
    return b


_ADAM = {
    "rows": I64,
    "ids": POINTER,  # int32[rows], which rows of the matrix; each once
    "width": I64,  # of a row, in whole vectors
    "weights": POINTER,  # float32[ids, width], changed, and the moments of their gradients:
    "first": POINTER,
    "second": POINTER,
    "done": POINTER,  # int32[ids], the number of the step that a row has next to take; left as it is
    "missed_until": I64,  # steps done[id] .. missed_until - 1 are taken with a gradient of 0
    "has_gradients": I64,  # 1: then step missed_until is taken with
    "gradients": POINTER,  # float32[rows, width]
    "rates": POINTER,  # float32[steps], the learning rate of each, with Adam's correction of its first steps
    "constants": POINTER,  # float32[3]: 1 - beta_1, 1 - beta_2, epsilon
}
