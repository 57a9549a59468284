"""Skip-gram with negative sampling, as machine code.

For each position of a text, the vectors of the surrounding words learn to distinguish the word at the position from
random words. All surrounding words share the same random words, which turns the work into small matrix products: those
of three surrounding words with all targets are computed at once.

    logits = inputs[around] @ outputs[targets].T          targets: the position's word, then the random words
    errors = rate * ([1, 0, 0, ...] - sigmoid(logits))    0 where a random word is the position's word
    inputs[around] += errors @ outputs[targets]           both use the old values;
    outputs[targets] += errors.T @ inputs[around]         a word that occurs twice is updated twice

The kernel always uses vectors of 16 floats, which LLVM splits as the processor requires: otherwise the order of sums,
and so their last bits, would depend on the processor.

Source: T. Mikolov et al., "Distributed Representations of Words and Phrases and their Compositionality", 2013; S. Ji et
al., "Parallelizing Word2Vec in Shared and Distributed Memory", 2016 (shared samples).
"""

from collections.abc import Sequence
from dataclasses import replace

from llvmlite import ir

from lstm_ray.kernels.cell import emit_sigmoid
from lstm_ray.kernels.emitter import F32, I32, I64, Emitter, Target, Value
from lstm_ray.kernels.function import compiled

LANES = 16
"""Word vectors are filled up with zeros to a multiple of this."""

_TOGETHER = 3  # with 5 negatives, the 18 sums and then the 18 errors fit in 32 registers


@compiled
def skip_gram(target: Target, width: int, negatives: int) -> Emitter:
    """Trains on every position of some texts, in order.

    Args:
        target: The processor.
        width: Values in a word vector, a multiple of `LANES`.
        negatives: Number of random words per position; at most `LANES` - 1, so that its errors fit in one vector.
    """
    arguments = {
        "words": "int32[positions]",  # of all texts, one after another
        "begin": "int32[positions]",  # the window of a position, which excludes the position itself:
        "end": "int32[positions]",  # from `begin` to before `end`
        "negatives": f"int32[positions, {negatives}]",
        "inputs": f"float32[rows, {width}] out",  # the word vectors; the last row belongs to no word, but is written to
        "outputs": f"float32[rows, {width}] out",
        "rate": "float32[1]",
    }
    b = Emitter(replace(target, lanes=LANES), "skip_gram", arguments)
    a = b.arguments
    vectors = I64(width // LANES)
    no_word = b.sub(a["rows"], I64(1))
    last = b.sub(a["positions"], I64(1))
    rate = b.load(a["rate"], typ=F32)
    lanes = _lanes_of_sums(negatives + 1)
    is_word = ir.Constant(b.vector, [float(lane == lanes[0]) for lane in range(LANES)])

    def row(matrix: str, word: Value) -> Value:
        return b.at(a[matrix], b.mul(word, I64(width)))

    def targets_of(number: Value) -> tuple[Value, list[Value], list[Value]]:
        """Returns the word at a position, its random words, and the output rows of them all."""
        word = b.load_integer(a["words"], number, I32)
        first = b.mul(number, I64(negatives))
        others = [b.load_integer(a["negatives"], b.add(first, I64(sample)), I32) for sample in range(negatives)]
        return word, others, [row("outputs", one) for one in (word, *others)]

    def position(number: Value, _: list[Value]) -> list[Value]:
        begin, end = (b.load_integer(a[name], number, I32) for name in ("begin", "end"))
        word, others, targets = targets_of(number)
        _prefetch(b, vectors, targets_of(b.smaller(b.add(number, I64(1)), last))[-1])
        rates = b.insert_element(b.like(is_word, 0), rate, I32(lanes[0]))
        for other, lane in zip(others, lanes[1:], strict=True):
            own = b.select(b.icmp_signed("==", other, word), F32(0), rate)
            rates = b.insert_element(rates, own, I32(lane))
        around = b.sub(b.sub(end, begin), I64(1))

        def group(index: Value, _: list[Value]) -> list[Value]:
            sources, group_rates = [], []
            for member in range(_TOGETHER):
                at = b.add(b.mul(index, I64(_TOGETHER)), I64(member))
                is_there = b.icmp_signed("<", at, around)
                at = b.add(begin, at)
                at = b.add(at, b.zext(b.icmp_signed(">=", at, number), I64))
                other = b.load_integer(a["words"], b.select(is_there, at, number), I32)
                sources.append(row("inputs", b.select(is_there, other, no_word)))
                group_rates.append(b.select(is_there, rates, b.like(rates, 0)))
            sums = _products(b, vectors, sources, targets)
            logits = b.join([_sum_lanes(b, of_source) for of_source in sums])
            right = b.join([is_word] * _TOGETHER)
            errors = b.fmul(b.join(group_rates), b.fsub(right, emit_sigmoid(b, logits)))
            by_source = [b.part(errors, member) for member in range(_TOGETHER)]
            _learn(b, vectors, sources, targets, [[_spread(b, one, lane) for lane in lanes] for one in by_source])
            return []

        return b.loop(b.sdiv(b.add(around, I64(_TOGETHER - 1)), I64(_TOGETHER)), [], group)

    b.loop(a["positions"], [], position)
    b.ret_void()
    return b


def _prefetch(b: Emitter, vectors: Value, rows: list[Value]) -> None:
    """Prefetches rows: random words are rarely in a cache, and waiting for them took a sixth of the time."""

    def one(index: Value, _: list[Value]) -> list[Value]:
        for address in rows:
            b.prefetch(b.at(address, b.mul(index, I64(LANES))))
        return []

    b.loop(vectors, [], one)


def _products(b: Emitter, vectors: Value, sources: list[Value], targets: list[Value]) -> list[list[Value]]:
    """Returns each source's dot products with all targets; a dot product is the sum of the returned vector's lanes."""

    def one(index: Value, sums: list[Value]) -> list[Value]:
        offset = b.mul(index, I64(LANES))
        right = [b.load_vector(b.at(target, offset)) for target in targets]
        left = [b.load_vector(b.at(source, offset)) for source in sources]
        pairs = [(x, y) for x in left for y in right]
        return [b.multiply_add(x, y, total) for (x, y), total in zip(pairs, sums, strict=True)]

    zero = ir.Constant(b.vector, [0.0] * LANES)
    sums = b.loop(vectors, [zero] * (len(sources) * len(targets)), one)
    return [sums[first : first + len(targets)] for first in range(0, len(sums), len(targets))]


def _learn(
    b: Emitter, vectors: Value, sources: list[Value], targets: list[Value], errors: Sequence[Sequence[Value]]
) -> None:
    """Updates the sources' and the targets' rows; both updates are computed from the old rows."""

    def one(index: Value, _: list[Value]) -> list[Value]:
        offset = b.mul(index, I64(LANES))
        to_sources, to_targets = ([b.at(row, offset) for row in rows] for rows in (sources, targets))
        left, right = ([b.load_vector(row) for row in rows] for rows in (to_sources, to_targets))
        for number, address in enumerate(to_sources):
            _add(b, address, errors[number], right)
        for number, address in enumerate(to_targets):
            _add(b, address, [of_source[number] for of_source in errors], left)
        return []

    b.loop(vectors, [], one)


def _add(b: Emitter, address: Value, factors: Sequence[Value], values: Sequence[Value]) -> None:
    """Adds products to a vector in memory. It is read again, because the same row may just have been written."""
    total = b.load_vector(address)
    for factor, value in zip(factors, values, strict=True):
        total = b.multiply_add(factor, value, total)
    b.store_vector(total, address)


def _spread(b: Emitter, vector: Value, lane: int) -> Value:
    """Returns a vector in which all lanes have the value of one lane of `vector`."""
    return b.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(I32, LANES), [lane] * LANES))


def _lanes_of_sums(count: int) -> list[int]:
    """Returns the lanes that contain the result of `_sum_lanes` for `count` vectors."""
    space = LANES // (1 << (count - 1).bit_length())
    return [number * space for number in range(count)]


def _sum_lanes(b: Emitter, vectors: list[Value]) -> Value:
    """Returns one vector that contains the sum of each vector's lanes, see `_lanes_of_sums`.

    Vectors are folded in pairs, so that 6 vectors take 27 instructions instead of 54.
    """
    vectors = vectors + [vectors[-1]] * ((1 << (len(vectors) - 1).bit_length()) - len(vectors))
    size = LANES  # lanes over which a vector's sum is spread
    while len(vectors) > 1:
        vectors = [_fold(b, *pair, size) for pair in zip(vectors[::2], vectors[1::2], strict=True)]
        size //= 2
    (total,) = vectors
    while size > 1:
        swapped = [lane ^ (size // 2) for lane in range(LANES)]
        total = b.fadd(total, b.shuffle_vector(total, total, ir.Constant(ir.VectorType(I32, LANES), swapped)))
        size //= 2
    return total


def _fold(b: Emitter, first: Value, second: Value, size: int) -> Value:
    """Adds the halves of each group of `size` lanes, and joins the results of two vectors."""
    low = [lane for lane in range(2 * LANES) if lane % size < size // 2]
    high = [lane + size // 2 for lane in low]
    halves = (b.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, LANES), half)) for half in (low, high))
    return b.fadd(*halves)
