"""The table of derivatives: for each operation, what a change of an input does to the output, and back.

An elementwise operation y = f(x₁, x₂, …) has one rule for each input, a function of (g, y, x₁, x₂, …) that returns
g · ∂f/∂xᵢ, written so that little is computed and nothing overflows or cancels: (1 − y²) for tanh, the output itself
for exp. It serves both ways: with g a tangent of xᵢ it gives the tangent of y; with g the gradient with respect to y it
gives that with respect to xᵢ. All other operations have two rules, for tangents and for gradients.

Rules are written in traced operations, so that derivatives can be differentiated again.

At kinks these are the conventions, which are PyTorch's too: |x| and sign have derivative 0 at 0; at ties of maximum and
minimum both sides get half, and those of max and min over axes share alike; floor, ceil, trunc, rint and sign have
derivative 0 everywhere; clip passes gradients on at its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastgd import _primitives as p
from fastgd._graph import Primitive
from fastgd._simplify import scalar_of
from fastgd._traced import UFUNCS, Traced, refuse_unsupported

__all__ = ["ELEMENTWISE_RULES", "FLAT", "LINEAR_RULES", "gradient_of_input", "tangent_of_output"]

Times = Callable[..., Any]
LN2, LN10 = math.log(2.0), math.log(10.0)


def _zero(*_: Any) -> None:
    return None


def _power_base(g: Any, _: Any, x: Any, y: Any) -> Any:
    """Times y x^(y-1), which is 0 for y = 0 whatever x is."""
    number = scalar_of(y)
    if number is not None:
        return None if number == 0 else g * (number * p.power(x, number - 1.0))
    return g * p.where(p.equal(y, 0.0), 0.0, y * p.power(x, p.where(p.equal(y, 0.0), 1.0, y - 1.0)))


def _power_exponent(g: Any, out: Any, x: Any, _: Any) -> Any:
    """x^y log x, which is 0 for x = 0."""
    return g * (out * p.log(p.where(p.equal(x, 0.0), 1.0, x)))


def _greater(g: Any, _: Any, x: Any, y: Any) -> Any:
    return p.where(p.greater(x, y), g, p.where(p.equal(x, y), 0.5 * g, 0.0))


def _less(g: Any, _: Any, x: Any, y: Any) -> Any:
    return p.where(p.less(x, y), g, p.where(p.equal(x, y), 0.5 * g, 0.0))


def _kept(g: Any, out: Any, x: Any, y: Any) -> Any:
    """Of fmax and fmin: where x is the result; half of it where y is, too."""
    return p.where(p.equal(out, x), p.where(p.equal(x, y), 0.5 * g, g), 0.0)


def _hypot(g: Any, out: Any, x: Any) -> Any:
    return g * (x / p.where(p.equal(out, 0.0), 1.0, out))


def _sqrt(g: Any, out: Any, _: Any) -> Any:
    return 0.5 * g / out


ELEMENTWISE_RULES: dict[str, tuple[Times, ...]] = {
    "add": (lambda g, out, x, y: g, lambda g, out, x, y: g),
    "subtract": (lambda g, out, x, y: g, lambda g, out, x, y: -g),
    "multiply": (lambda g, out, x, y: g * y, lambda g, out, x, y: g * x),
    "divide": (lambda g, out, x, y: g / y, lambda g, out, x, y: -(g / y) * out),
    "power": (_power_base, _power_exponent),
    "remainder": (lambda g, out, x, y: g, lambda g, out, x, y: -g * p.floor(x / y)),
    "fmod": (lambda g, out, x, y: g, lambda g, out, x, y: -g * p.trunc(x / y)),
    "negative": (lambda g, out, x: -g,),
    "absolute": (lambda g, out, x: g * p.sign(x),),
    "square": (lambda g, out, x: g * (2.0 * x),),
    "sqrt": (_sqrt,),
    "cbrt": (lambda g, out, x: g / (3.0 * p.square(out)),),
    "exp": (lambda g, out, x: g * out,),
    "exp2": (lambda g, out, x: g * (LN2 * out),),
    "expm1": (lambda g, out, x: g * p.exp(x),),
    "log": (lambda g, out, x: g / x,),
    "log2": (lambda g, out, x: g / (LN2 * x),),
    "log10": (lambda g, out, x: g / (LN10 * x),),
    "log1p": (lambda g, out, x: g / (1.0 + x),),
    "sin": (lambda g, out, x: g * p.cos(x),),
    "cos": (lambda g, out, x: -(g * p.sin(x)),),
    "tan": (lambda g, out, x: g * (1.0 + p.square(out)),),
    "arcsin": (lambda g, out, x: g / p.sqrt((1.0 - x) * (1.0 + x)),),
    "arccos": (lambda g, out, x: -g / p.sqrt((1.0 - x) * (1.0 + x)),),
    "arctan": (lambda g, out, x: g / (1.0 + p.square(x)),),
    "sinh": (lambda g, out, x: g * p.cosh(x),),
    "cosh": (lambda g, out, x: g * p.sinh(x),),
    "tanh": (lambda g, out, x: g * (1.0 - p.square(out)),),
    "arcsinh": (lambda g, out, x: g / p.hypot(1.0, x),),
    "arccosh": (lambda g, out, x: g / p.sqrt((x - 1.0) * (x + 1.0)),),
    "arctanh": (lambda g, out, x: g / ((1.0 - x) * (1.0 + x)),),
    "arctan2": (
        lambda g, out, y, x: g * _over_square(x, y), lambda g, out, y, x: -g * _over_square(y, x),
    ),
    "hypot": (lambda g, out, x, y: _hypot(g, out, x), lambda g, out, x, y: _hypot(g, out, y)),
    "logaddexp": (
        lambda g, out, x, y: g * _share(p.exp, x, out), lambda g, out, x, y: g * _share(p.exp, y, out),
    ),
    "logaddexp2": (
        lambda g, out, x, y: g * _share(p.exp2, x, out), lambda g, out, x, y: g * _share(p.exp2, y, out),
    ),
    "maximum": (_greater, lambda g, out, x, y: _greater(g, out, y, x)),
    "minimum": (_less, lambda g, out, x, y: _less(g, out, y, x)),
    "fmax": (_kept, lambda g, out, x, y: _kept(g, out, y, x)),
    "fmin": (_kept, lambda g, out, x, y: _kept(g, out, y, x)),
    "copysign": (lambda g, out, x, y: g * (p.copysign(1.0, x) * p.copysign(1.0, y)), _zero),
    "erf": (lambda g, out, x: g * (2 / math.sqrt(math.pi) * p.exp(-p.square(x))),),
    "erfc": (lambda g, out, x: g * (-2 / math.sqrt(math.pi) * p.exp(-p.square(x))),),
    "expit": (lambda g, out, x: g * (out * UFUNCS[out.primitive.ufunc](-x)),),
    "log_expit": (lambda g, out, x: g * p.exp(out - x),),
    "ndtr": (lambda g, out, x: g * (1 / math.sqrt(2 * math.pi) * p.exp(-0.5 * p.square(x))),),
    "log_ndtr": (lambda g, out, x: g * (1 / math.sqrt(2 * math.pi) * p.exp(-0.5 * p.square(x) - out)),),
    "xlogy": (lambda g, out, x, y: g * p.log(y), lambda g, out, x, y: g * x / y),
    "where": (_zero, lambda g, out, c, x, y: p.where(c, g, 0.0), lambda g, out, c, x, y: p.where(c, 0.0, g)),
}
#: Derivative zero wherever there is one.
FLAT = ("sign", "floor", "ceil", "trunc", "rint", "floor_divide", "heaviside", "stop_gradient")
ELEMENTWISE_RULES |= dict.fromkeys(FLAT, (_zero, _zero))


def _over_square(x: Any, y: Any) -> Any:
    """X / (x² + y²) without overflow of the squares."""
    length = p.hypot(x, y)
    return x / length / length


def _share(exponential: Any, x: Any, out: Any) -> Any:
    """exp(x - out): the part of x in a sum of exponentials; equal infinities are all of it."""
    return exponential(p.where(p.equal(x, out), 0.0, x - out))


# ---- operations that are linear in each input ------------------------------------------------------------------------
#
# LINEAR_RULES: by primitive, (tangent, gradient). tangent(node, tangents) gets one tangent or None for each input, and
# returns that of the output; gradient(node, g, i) returns the gradient with respect to input i.

Tangent = Callable[[Traced, list[Any]], Any]
Gradient = Callable[[Traced, Any, int], Any]
LINEAR_RULES: dict[Primitive, tuple[Tangent, Gradient]] = {}


def same_again(node: Traced, tangents: list[Any]) -> Any:
    """The tangent of a linear operation of one input: the operation itself."""
    return p.again(node, (tangents[0], *node.inputs[1:]))


def _sum_gradient(node: Traced, g: Any, _: int) -> Any:
    (source,) = node.inputs
    kept = p.reduced_shape(source.shape, node.attributes["axis"], True)
    return p.broadcast_to(p.reshape(g, () if len(node.attributes["axis"]) == source.ndim else kept), source.shape)


def _astype_gradient(node: Traced, g: Any, _: int) -> Any:
    return p.astype(g, node.inputs[0].dtype)


def _transpose_gradient(node: Traced, g: Any, _: int) -> Any:
    axes = node.attributes["axes"]
    inverse = [0] * len(axes)
    for i, axis in enumerate(axes):
        inverse[axis] = i
    return p.transpose(g, tuple(inverse))


def _index_gradient(node: Traced, g: Any, i: int) -> Any:
    source, *indices = node.inputs
    return p.scatter(g, node.attributes["pattern"], tuple(indices), source.shape) if i == 0 else None


def _scatter_gradient(node: Traced, g: Any, i: int) -> Any:
    return p.index(g, node.attributes["pattern"], node.inputs[1:]) if i == 0 else None


LINEAR_RULES[p.SUM_PRIMITIVE] = (same_again, _sum_gradient)
LINEAR_RULES[p.ASTYPE] = (same_again, _astype_gradient)
LINEAR_RULES[p.RESHAPE] = (same_again, lambda node, g, i: p.reshape(g, node.inputs[0].shape))
LINEAR_RULES[p.TRANSPOSE] = (same_again, _transpose_gradient)
LINEAR_RULES[p.BROADCAST] = (same_again, lambda node, g, i: unbroadcast(g, node.inputs[0].shape))
LINEAR_RULES[p.ALIAS] = (lambda node, tangents: tangents[0], lambda node, g, i: g)
LINEAR_RULES[p.STOP] = (lambda node, tangents: None, lambda node, g, i: None)
LINEAR_RULES[p.INDEX] = (same_again, _index_gradient)
LINEAR_RULES[p.SCATTER] = (same_again, _scatter_gradient)


def _concatenate_tangent(node: Traced, tangents: list[Any]) -> Any:
    parts = [
        p.zeros(source) if tangent is None else p.broadcast_to(tangent, source.shape)
        for source, tangent in zip(node.inputs, tangents, strict=True)
    ]
    return p.concatenate(parts, node.attributes["axis"])


def _concatenate_gradient(node: Traced, g: Any, i: int) -> Any:
    axis = node.attributes["axis"]
    start = sum(source.shape[axis] for source in node.inputs[:i])
    part = slice(start, start + node.inputs[i].shape[axis])
    return p.index(g, (*(slice(None),) * axis, part))


LINEAR_RULES[p.CONCATENATE] = (_concatenate_tangent, _concatenate_gradient)


def _matmul_tangent(node: Traced, tangents: list[Any]) -> Any:
    a, b = node.inputs
    da, db = tangents
    left = None if da is None else p.matmul2(da, b)
    right = None if db is None else p.matmul2(a, db)
    return left if right is None else right if left is None else left + right


def _matmul_gradient(node: Traced, g: Any, i: int) -> Any:
    a, b = node.inputs
    product = p.matmul2(g, swapped(b)) if i == 0 else p.matmul2(swapped(a), g)
    return unbroadcast(product, node.inputs[i].shape)


LINEAR_RULES[p.MATMUL_PRIMITIVE] = (_matmul_tangent, _matmul_gradient)


def _cumsum_gradient(node: Traced, g: Any, _: int) -> Any:
    axis = node.attributes["axis"]
    return p.flip(p.cumsum(p.flip(g, axis), axis), axis)


LINEAR_RULES[p.CUMSUM] = (same_again, _cumsum_gradient)


def swapped(node: Traced) -> Any:
    """The last two axes exchanged."""
    axes = (*range(node.ndim - 2), node.ndim - 1, node.ndim - 2)
    return p.transpose(node, axes)


def _extreme_weights(node: Traced) -> Any:
    """How much each element counts: those that equal the extreme share alike."""
    (source,) = node.inputs
    axis = node.attributes["axis"]
    kept = p.reduced_shape(source.shape, axis, True)
    hits = p.astype(p.equal(source, p.reshape(node, kept)), source.dtype)
    return hits / p.sum_(hits, axis, keepdims=True)


def _extreme_tangent(node: Traced, tangents: list[Any]) -> Any:
    return p.sum_(_extreme_weights(node) * tangents[0], node.attributes["axis"], node.attributes["keepdims"])


def _extreme_gradient(node: Traced, g: Any, _: int) -> Any:
    (source,) = node.inputs
    kept = p.reduced_shape(source.shape, node.attributes["axis"], True)
    return p.reshape(g, kept) * _extreme_weights(node)


LINEAR_RULES[p.MAX] = LINEAR_RULES[p.MIN] = (_extreme_tangent, _extreme_gradient)


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """The gradient with respect to what was broadcast: summed over the axes along which it was repeated."""
    if g.shape == shape:
        return g
    new = g.ndim - len(shape)
    if new < 0:
        raise AssertionError(f"a gradient of shape {g.shape} for a node of shape {shape}")
    axes = (*range(new), *(i + new for i, length in enumerate(shape) if length == 1 and g.shape[i + new] != 1))
    return p.reshape(p.sum_(g, axes), shape)


# ---- the two ways ----------------------------------------------------------------------------------------------------


def gradient_of_input(node: Traced, g: Any, i: int) -> Any:
    """The gradient with respect to input i of a node, from that with respect to the node; None for zero."""
    rules = ELEMENTWISE_RULES.get(node.primitive.name)
    if rules is not None:
        product = rules[i](g, node, *node.inputs)
        if product is None:
            return None
        if product.shape != node.shape:
            product = p.broadcast_to(product, node.shape)
        return unbroadcast(product, node.inputs[i].shape)
    return linear_rules(node)[1](node, g, i)


def tangent_of_output(node: Traced, tangents: list[Any]) -> Any:
    """The tangent of a node from those of its inputs, of which each may be None for zero; None for zero."""
    rules = ELEMENTWISE_RULES.get(node.primitive.name)
    if rules is None:
        return linear_rules(node)[0](node, tangents)
    total = None
    for rule, tangent in zip(rules, tangents, strict=False):
        term = None if tangent is None else rule(tangent, node, *node.inputs)
        if term is not None:
            total = term if total is None else total + term
    return total if total is None else p.broadcast_to(total, node.shape)


def linear_rules(node: Traced) -> tuple[Tangent, Gradient]:
    rules = LINEAR_RULES.get(node.primitive)
    if rules is None:
        refuse_unsupported(f"np.{node.primitive.name}")
    return rules
