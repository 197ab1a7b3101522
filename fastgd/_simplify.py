"""Cheaper operations of the same value: what `fastgd._primitives.elementwise` asks before it makes a node.

The speed of a compiled graph is its number of elementwise steps, so derivatives are to come out lean. An identity is
used if it holds to the bit (x·1, x − 0, −(−x), a + (−b) = a − b) or moves rounding alone: constant factors are
multiplied among themselves (c·(d·x) = (cd)·x where cd is far from over- and underflow), a·(1/b) becomes a/b, and x**n
is products of x for small integers n. Never used: x·0 = 0 and x − x = 0, which hide NaN and infinities, and x + 0 = x,
wrong for −0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastgd._graph import in_order
from fastgd._traced import UFUNCS, Traced, is_constant

__all__ = ["SIMPLER", "finished", "scalar_of"]

#: By name of the primitive: operands, of the dtypes of its loop, to a node or None.
SIMPLER: dict[str, Callable[..., Traced | None]] = {}
#: Integer powers that become products: at most four of them.
LARGEST_POWER = 8
#: Constant factors are put together while their product is within these powers of ten, safe in float32 too.
LARGEST_FACTOR, TINIEST_FACTOR = 1e15, 1e-15


def simpler(name: str) -> Callable[[Callable[..., Traced | None]], Callable[..., Traced | None]]:
    """Enter a rule into the table."""

    def enter(rule: Callable[..., Traced | None]) -> Callable[..., Traced | None]:
        SIMPLER[name] = rule
        return rule

    return enter


def scalar_of(node: Traced) -> float | None:
    """The number a node is, if it is a constant number."""
    return float(node.value) if node.value is not None and not node.shape and is_constant(node) else None


def is_(node: Traced, name: str) -> bool:
    return node.primitive.name == name


def fits(node: Traced, other: Traced) -> bool:
    """Whether a result of both has the shape of `node` anyway."""
    return not other.shape or node.shape == other.shape


@simpler("add")
def _add(a: Traced, b: Traced) -> Any:
    if is_(b, "negative"):
        return a - b.inputs[0]
    if is_(a, "negative"):
        return b - a.inputs[0]
    if a is b and a.dtype.kind == "f":
        return 2.0 * a
    return None


@simpler("subtract")
def _subtract(a: Traced, b: Traced) -> Any:
    if is_(b, "negative"):
        return a + b.inputs[0]
    number = scalar_of(b)
    if number == 0.0 and math.copysign(1.0, number) > 0:
        return a
    return None


@simpler("multiply")
def _multiply(a: Traced, b: Traced) -> Any:
    if a.dtype.kind != "f":
        return None
    if a is b:
        return UFUNCS[np.square](a)
    for number, node in ((scalar_of(a), b), (scalar_of(b), a)):
        if number is not None:
            return scaled(number, node)
    if is_(a, "negative"):
        return -(a.inputs[0] * b)
    if is_(b, "negative"):
        return -(a * b.inputs[0])
    if is_(b, "divide") and scalar_of(b.inputs[0]) == 1.0:
        return a / b.inputs[1]
    if is_(a, "divide") and scalar_of(a.inputs[0]) == 1.0:
        return b / a.inputs[1]
    return None


def scaled(number: float, node: Traced) -> Any:
    """A constant number times a node."""
    if number == 1.0:
        return node
    if number == -1.0:
        return -node
    if is_(node, "negative"):
        return -number * node.inputs[0]
    if is_(node, "multiply"):
        inner, rest = node.inputs
        factor = scalar_of(inner)
        if factor is None:
            inner, rest = rest, inner
            factor = scalar_of(inner)
        if factor is not None and TINIEST_FACTOR < abs(number * factor) < LARGEST_FACTOR:
            return node.tracer.constant(number * factor, node.dtype, node.weak) * rest
    if is_(node, "divide"):
        factor = scalar_of(node.inputs[0])
        if factor is not None and TINIEST_FACTOR < abs(number * factor) < LARGEST_FACTOR:
            return node.tracer.constant(number * factor, node.dtype, node.weak) / node.inputs[1]
    return None


@simpler("divide")
def _divide(a: Traced, b: Traced) -> Any:
    number = scalar_of(b)
    if number is not None:
        if number == 1.0:
            return a
        if number == -1.0:
            return -a
        if abs(math.frexp(number)[0]) == 0.5 and TINIEST_FACTOR < abs(number) < LARGEST_FACTOR:
            return a * b.tracer.constant(1.0 / number, b.dtype, b.weak)
    if is_(a, "negative"):
        return -(a.inputs[0] / b)
    if is_(b, "negative"):
        return -(a / b.inputs[0])
    return None


@simpler("negative")
def _negative(a: Traced) -> Any:
    if is_(a, "negative"):
        return a.inputs[0]
    if is_(a, "multiply") and a.dtype.kind == "f":
        for inner, rest in (a.inputs, a.inputs[::-1]):
            factor = scalar_of(inner)
            if factor is not None:
                return a.tracer.constant(-factor, a.dtype, a.weak) * rest
    return None


@simpler("square")
def _square(a: Traced) -> Any:
    return UFUNCS[np.square](a.inputs[0]) if is_(a, "negative") or is_(a, "absolute") else None


@simpler("absolute")
def _absolute(a: Traced) -> Any:
    return UFUNCS[np.absolute](a.inputs[0]) if is_(a, "negative") else None


@simpler("power")
def _power(a: Traced, b: Traced) -> Any:
    number = scalar_of(b)
    if number is None or a.dtype.kind != "f":
        return None
    if number == 1.0:
        return a
    if number == 2.0:
        return UFUNCS[np.square](a)
    if number == -1.0:
        return 1.0 / a
    a.tracer.powers |= is_short(number)
    return None


def is_short(number: float) -> bool:
    """Whether products are cheaper than this power."""
    return number == -2.0 or (number.is_integer() and 2 < abs(number) <= LARGEST_POWER)


def integer_power(a: Traced, n: int) -> Any:
    """a**n by squaring."""
    if n < 0:
        return 1.0 / integer_power(a, -n)
    if n == 1:
        return a
    half = UFUNCS[np.square](integer_power(a, n // 2))
    return half * a if n % 2 else half


@simpler("where")
def _where(_: Traced, a: Traced, b: Traced) -> Any:
    return a if a is b else None


def finished(outputs: Sequence[Traced], again: Callable[[Traced, tuple[Traced, ...]], Traced]) -> list[Traced]:
    """The outputs as they are computed, once all derivatives are taken; `again` makes a node of other inputs.

    Aliases are replaced by what they stand for: nested derivatives are taken with respect to an alias of their
    argument, which hides from the table of equal operations that they were done before. And integer powers become
    products, which they are not before, since the derivative of x**3 is shorter than that of x·x·x.
    """
    new: dict[int, Traced] = {}
    for node in in_order(outputs):
        assert isinstance(node, Traced)
        inputs = tuple([new[id(source)] for source in node.inputs])
        number = scalar_of(node.inputs[1]) if node.primitive.name == "power" and node.dtype.kind == "f" else None
        if node.primitive.name == "alias":
            new[id(node)] = inputs[0]
        elif number is not None and is_short(number):
            new[id(node)] = integer_power(inputs[0], int(number))
        elif all([source is old for source, old in zip(inputs, node.inputs, strict=True)]):  # noqa: C419  (faster)
            new[id(node)] = node
        else:
            new[id(node)] = again(node, inputs)
    return [new[id(node)] for node in outputs]
