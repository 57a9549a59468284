"""Adam, as machine code.

A row takes the steps that it missed one after the other, in registers; train/native/adam.py explains why it missed
some. The moving average of its values, if there is one, is updated in the same loop.

Source: D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", 2015, in the form of `keras.optimizers.Adam`;
weight decay as `keras.optimizers.AdamW` (I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2019).
"""

from collections.abc import Sequence

from lstm_ray.kernels.emitter import F32, I32, I64, Emitter, Target, Value
from lstm_ray.kernels.function import compiled


@compiled
def adam(target: Target, width: int, has_gradients: bool, averages: bool = False, decays: bool = False) -> Emitter:
    """Takes steps done[id] .. step - 1 for rows of a matrix, with gradients of 0; then `step`, if it has gradients.

    Args:
        target: The processor.
        width: Values in a row, a multiple of the vector length.
        has_gradients: Whether step `step` is taken too, with gradients.
        averages: Whether there is a moving average, which is updated after each step.
        decays: Whether each step first shrinks the values (weight decay).
    """
    arguments = {
        "ids": "int32[rows]",  # rows of the matrix, without duplicates
        "values": f"float32[matrix, {width}] out",  # the matrix, and the moments of its gradients:
        "first": f"float32[matrix, {width}] out",
        "second": f"float32[matrix, {width}] out",
        "done": "int32[matrix]",  # number of steps that each row has taken
        "step": "int64",
        "rates": "float32[steps]",  # the learning rate of each step, with Adam's bias correction
        "constants": "float32[3]",  # 1 - beta_1, 1 - beta_2, epsilon
    }
    if has_gradients:
        arguments["gradients"] = f"float32[rows, {width}]"
    if averages:
        arguments["averages"] = f"float32[matrix, {width}] out"
        arguments["shares"] = "float32[steps]"  # weight of each step's values in the moving average
    if decays:
        arguments["decays"] = "float32[steps]"  # share by which values shrink
    names = ("values", "first", "second", *(["averages"] if averages else []))
    b = Emitter(target, "adam", arguments)
    a = b.arguments
    lanes = target.lanes
    take_first, take_second, epsilon = (
        b.broadcast(b.load(b.at(a["constants"], number), typ=F32)) for number in range(3)
    )
    zero = b.like(take_first, 0)

    def take_step(gradient: Value, number: Value, carried: Sequence[Value]) -> list[Value]:
        weight, first, second, *average = carried
        rate = b.broadcast(b.load(b.at(a["rates"], number), typ=F32))
        first = b.multiply_add(b.fsub(gradient, first), take_first, first)
        second = b.multiply_add(b.fsub(b.fmul(gradient, gradient), second), take_second, second)
        root = b.intrinsic(f"llvm.sqrt.v{lanes}f32", second.type, [second])
        if decays:
            decay = b.broadcast(b.load(b.at(a["decays"], number), typ=F32))
            weight = b.fsub(weight, b.fmul(weight, decay))
        weight = b.fsub(weight, b.fdiv(b.fmul(first, rate), b.fadd(root, epsilon)))
        if averages:
            share = b.broadcast(b.load(b.at(a["shares"], number), typ=F32))
            average = [b.multiply_add(b.fsub(weight, average[0]), share, average[0])]
        return [weight, first, second, *average]

    def row(number: Value, _: list[Value]) -> list[Value]:
        identity = b.load_integer(a["ids"], number, I32)
        offset = b.mul(identity, I64(width))
        done = b.load_integer(a["done"], identity, I32)

        def vector(index: Value, _: list[Value]) -> list[Value]:
            unit = b.mul(index, I64(lanes))
            arrays = [b.at(b.at(a[name], offset), unit) for name in names]
            values = [b.load_vector(array) for array in arrays]
            missed = b.sub(a["step"], done)
            values = b.loop(missed, values, lambda k, carried: take_step(zero, b.add(done, k), carried))
            if has_gradients:
                gradient = b.load_vector(b.at(b.at(a["gradients"], b.mul(number, I64(width))), unit))
                values = take_step(gradient, a["step"], values)
            for value, array in zip(values, arrays, strict=True):
                b.store_vector(value, array)
            return []

        return b.loop(I64(width // lanes), [], vector)

    b.loop(a["rows"], [], row)
    b.ret_void()
    return b
