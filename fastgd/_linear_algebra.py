"""Products of vectors and matrices, norms and systems of equations on traced values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastgd import _primitives as p
from fastgd._functions import (
    axes_of,
    diagonal,
    floating,
    matmul,
    meaning,
    node,
    one_axis,
    ravel,
    refuse_options,
    root_of_squares,
    tril,
)
from fastgd._graph import CALL, Primitive
from fastgd._rules import LINEAR_RULES, swapped, unbroadcast
from fastgd._traced import Traced


@meaning(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    refuse_options("dot", out=out)
    a, b = node(a, b), node(b, a)
    if not (a.ndim and b.ndim):
        return a * b
    if b.ndim <= 2:
        return matmul(a, b) if a.ndim <= 2 else tensordot(a, b, ((a.ndim - 1,), (0,)))
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 2,)))


@meaning(np.vdot)
def vdot(a: Any, b: Any) -> Any:
    return matmul(ravel(node(a, b)), ravel(node(b, a)))


@meaning(np.inner)
def inner(a: Any, b: Any) -> Any:
    a, b = node(a, b), node(b, a)
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,))) if a.ndim and b.ndim else a * b


@meaning(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    refuse_options("outer", out=out)
    a, b = ravel(node(a, b)), ravel(node(b, a))
    return p.reshape(a, (*a.shape, 1)) * b


@meaning(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = node(a, b), node(b, a)
    if isinstance(axes, (int, np.integer)):
        over_a, over_b = tuple(range(a.ndim - int(axes), a.ndim)), tuple(range(int(axes)))
    else:
        over_a, over_b = (
            tuple(one_axis(i, x.ndim) for i in (given if isinstance(given, (tuple, list)) else (given,)))
            for given, x in zip(axes, (a, b), strict=True)
        )
    if [a.shape[i] for i in over_a] != [b.shape[i] for i in over_b]:
        raise ValueError(f"np.tensordot of shapes {a.shape} and {b.shape} over axes {over_a} and {over_b}")
    free_a = tuple([i for i in range(a.ndim) if i not in over_a])
    free_b = tuple([i for i in range(b.ndim) if i not in over_b])
    n = math.prod(a.shape[i] for i in over_a)
    rows = tuple([a.shape[i] for i in free_a])
    columns = tuple([b.shape[i] for i in free_b])
    left = p.reshape(p.transpose(a, free_a + over_a), (math.prod(rows), n))
    right = p.reshape(p.transpose(b, over_b + free_b), (n, math.prod(columns)))
    return p.reshape(p.matmul2(left, right), rows + columns)


# ---- einsum ----------------------------------------------------------------------------------------------------------


@meaning(np.einsum)
def einsum(subscripts: Any, *operands: Any, out: Any = None, dtype: Any = None, **options: Any) -> Any:
    """One or two operands, as a matrix product, or an elementwise product and a sum."""
    refuse_options("einsum", out=out, dtype=dtype)
    if not isinstance(subscripts, str):
        raise TypeError("np.einsum of traced values takes its subscripts as a string")
    if len(operands) not in (1, 2):
        raise TypeError(f"np.einsum of traced values takes one or two operands, got {len(operands)}: put it together "
                        "from products of two")
    nodes = [node(x, *operands) for x in operands]
    letters, result = parsed(subscripts, nodes)
    reduced = [without_repeats(x, axes) for x, axes in zip(nodes, letters, strict=True)]
    if len(reduced) == 1:
        (x, axes), = reduced
        return permuted(*summed(x, axes, set(result)), result)
    return product_of(reduced[0], reduced[1], result)


def parsed(subscripts: str, nodes: list[Traced]) -> tuple[list[str], str]:
    """The axes of each operand and of the result, one letter each; those of an ellipsis become Greek letters."""
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    parts = inputs.split(",")
    if len(parts) != len(nodes):
        raise ValueError(f"np.einsum: {subscripts!r} names {len(parts)} operands, got {len(nodes)}")
    spare = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ"
    letters, longest = [], 0
    for part, x in zip(parts, nodes, strict=True):
        hidden = x.ndim - len(part.replace("...", "")) if "..." in part else 0
        longest = max(longest, hidden)
        named = part.replace("...", spare[len(spare) - hidden:]) if hidden >= 0 else part
        if len(named) != x.ndim:
            raise ValueError(f"np.einsum: {part!r} does not fit an operand of shape {x.shape}")
        letters.append(named)
    rest = spare[len(spare) - longest:] if longest else ""
    if not arrow:
        every = "".join(letters)
        result = rest + "".join(sorted(c for c in set(every) - set(rest) if every.count(c) == 1))
    else:
        result = result.replace("...", rest)
    unknown = set(result) - set("".join(letters))
    if unknown or len(set(result)) < len(result):
        raise ValueError(f"np.einsum: the result of {subscripts!r} names an axis twice, or one that no operand has")
    return letters, result


def without_repeats(x: Traced, axes: str) -> tuple[Any, str]:
    """Diagonals in place of axes that are named twice."""
    for letter in dict.fromkeys(axes):
        while axes.count(letter) > 1:
            i = axes.index(letter)
            j = axes.index(letter, i + 1)
            x = diagonal(x, 0, i, j)
            axes = axes[:i] + axes[i + 1 : j] + axes[j + 1 :] + letter
    return x, axes


def summed(x: Traced, axes: str, kept: set[str]) -> tuple[Any, str]:
    """Summed over axes that are not kept."""
    gone = tuple([i for i, letter in enumerate(axes) if letter not in kept])
    return p.sum_(x, gone), "".join(letter for letter in axes if letter in kept)


def permuted(x: Traced, axes: str, result: str) -> Any:
    return p.transpose(x, tuple([axes.index(letter) for letter in result]))


def product_of(first: tuple[Any, str], second: tuple[Any, str], result: str) -> Any:
    """The product of two operands, summed over the axes that the result has not."""
    a, of_a = summed(*first, set(result) | set(second[1]))
    b, of_b = summed(*second, set(result) | set(of_a))
    shared = [c for c in of_a if c in of_b]
    batch = "".join(c for c in result if c in shared)
    inner = "".join(c for c in shared if c not in result)
    rows = "".join(c for c in of_a if c not in shared)
    columns = "".join(c for c in of_b if c not in shared)
    a, b = permuted(a, of_a, batch + rows + inner), permuted(b, of_b, batch + inner + columns)
    n, k = len(batch), len(inner)
    lengths_a, lengths_b = a.shape[n : a.ndim - k], b.shape[n + k :]
    check_inner(a.shape[a.ndim - k :], b.shape[n : n + k])
    if not inner:
        a = p.reshape(a, a.shape + (1,) * len(columns))
        b = p.reshape(b, b.shape[:n] + (1,) * len(rows) + lengths_b)
        return permuted(a * b, batch + rows + columns, result)
    if not (rows or columns):
        return permuted(p.sum_(a * b, tuple(range(n, n + k))), batch, result)
    summands = math.prod(a.shape[a.ndim - k :])
    a = p.reshape(a, (*a.shape[:n], math.prod(lengths_a), summands))
    b = p.reshape(b, (*b.shape[:n], summands, math.prod(lengths_b)))
    product = p.matmul2(a, b)
    return permuted(p.reshape(product, product.shape[:n] + lengths_a + lengths_b), batch + rows + columns, result)


def check_inner(of_a: tuple[int, ...], of_b: tuple[int, ...]) -> None:
    if of_a != of_b:
        raise ValueError(f"np.einsum: axes of lengths {of_a} meet axes of lengths {of_b}")


# ---- norms -----------------------------------------------------------------------------------------------------------


@meaning(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002
    """Vector norms, and the Frobenius norm of matrices; the derivative of the 2-norm is 0 at zero."""
    x = floating(node(x))
    if axis is None and ord is not None and x.ndim != 1:
        if ord != "fro" or x.ndim != 2:
            raise TypeError(f"np.linalg.norm of a traced value of {x.ndim} dimensions takes ord=None or 'fro', "
                            f"got {ord!r}; or name an axis")
        ord = None  # noqa: A001
    axes = axes_of(x, axis)
    if len(axes) > 1 and axis is not None and ord not in (None, "fro"):
        raise TypeError(f"np.linalg.norm of a traced value takes ord=None or 'fro' for two axes, got {ord!r}")
    if ord in (None, 2, "fro"):
        return root_of_squares(p.sum_(p.square(x), axes, bool(keepdims)))
    if ord == 1:
        return p.sum_(p.absolute(x), axes, bool(keepdims))
    if ord == math.inf:
        return p.extreme(p.MAX, p.absolute(x), axes, bool(keepdims))
    if ord == -math.inf:
        return p.extreme(p.MIN, p.absolute(x), axes, bool(keepdims))
    if isinstance(ord, (int, float)) and ord > 0:
        return p.power(p.sum_(p.power(p.absolute(x), float(ord)), axes, bool(keepdims)), 1.0 / ord)
    raise TypeError(f"np.linalg.norm of a traced value takes ord None, 'fro', a positive number or ±inf, got {ord!r}")


# ---- systems of equations --------------------------------------------------------------------------------------------

SOLVE = Primitive("linalg.solve", CALL, np.linalg.solve)
INV = Primitive("linalg.inv", CALL, np.linalg.inv)


#: What np.linalg.slogdet returns, under NumPy's name of its type.
SlogdetResult: Any = type(np.linalg.slogdet(np.eye(1)))


def apply_logdet(a: Any) -> Any:
    return np.linalg.slogdet(a)[1]


LOGDET = Primitive("linalg.slogdet", CALL, apply_logdet)
DET = Primitive("linalg.det", CALL, np.linalg.det)


def square_matrix(a: Any, *others: Any, name: str) -> Traced:
    x = floating(node(a, *others))
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"np.linalg.{name} takes a square matrix, got shape {x.shape}")
    return x


@meaning(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    a, b = square_matrix(a, b, name="solve"), floating(node(b, a))
    right = p.reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
    if right.shape[-2] != a.shape[-1]:
        raise ValueError(f"np.linalg.solve: a matrix of shape {a.shape} and a right-hand side of shape {b.shape}")
    dtype = np.result_type(a.dtype, right.dtype)
    a, right = p.astype(a, dtype), p.astype(right, dtype)
    x = solve_matrix(a, right)
    return p.reshape(x, x.shape[:-1]) if b.ndim == 1 else x


def solve_matrix(a: Traced, b: Traced) -> Any:
    shape = (*p.broadcast_shape(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])
    return p.call_node(SOLVE, (a, b), shape, a.dtype)


def _solve_tangent(x: Traced, tangents: list[Any]) -> Any:
    """From a x = b: a dx = db - da x."""
    a = x.inputs[0]
    da, db = tangents
    change = None if da is None else -p.matmul2(da, x)
    right = db if change is None else change if db is None else db + change
    return solve_matrix(a, right)


def _solve_gradient(x: Traced, g: Any, i: int) -> Any:
    back = solve_matrix(swapped(x.inputs[0]), g)
    return unbroadcast(back if i == 1 else -p.matmul2(back, swapped(x)), x.inputs[i].shape)


@meaning(np.linalg.inv)
def inv(a: Any) -> Any:
    x = square_matrix(a, name="inv")
    return p.call_node(INV, (x,), x.shape, x.dtype)


def _inv_tangent(x: Traced, tangents: list[Any]) -> Any:
    return -p.matmul2(p.matmul2(x, tangents[0]), x)


def _inv_gradient(x: Traced, g: Any, _: int) -> Any:
    return -p.matmul2(p.matmul2(swapped(x), g), swapped(x))


@meaning(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    """The sign, which has derivative zero, and log |det a|."""
    x = square_matrix(a, name="slogdet")
    sign = p.sign(p.stop_gradient(p.call_node(DET, (x,), x.shape[:-2], x.dtype)))
    return SlogdetResult(sign, p.call_node(LOGDET, (x,), x.shape[:-2], x.dtype))


@meaning(np.linalg.det)
def det(a: Any) -> Any:
    x = square_matrix(a, name="det")
    return p.call_node(DET, (x,), x.shape[:-2], x.dtype)


def traced_with(weights: Any, tangent: Any) -> Any:
    """The trace of (weights tangent): the sum of the products of the elements of weights transposed and tangent."""
    ndim = tangent.ndim
    return p.sum_(swapped(weights) * tangent, (ndim - 2, ndim - 1))


def _logdet_tangent(out: Traced, tangents: list[Any]) -> Any:
    """Jacobi's formula: d log det a = tr(a⁻¹ da)."""
    return traced_with(inv(out.inputs[0]), tangents[0])


def _logdet_gradient(out: Traced, g: Any, _: int) -> Any:
    return p.reshape(g, (*g.shape, 1, 1)) * swapped(inv(out.inputs[0]))


CHOLESKY = Primitive("linalg.cholesky", CALL, np.linalg.cholesky)


@meaning(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """The derivative is with respect to a symmetric change of a, whose upper triangle is not read."""
    x = square_matrix(a, name="cholesky")
    lower = p.call_node(CHOLESKY, (x,), x.shape, x.dtype)
    return swapped(lower) if upper else lower


def half_lower(x: Traced) -> Any:
    """The lower triangle with half of the diagonal."""
    n = x.shape[-1]
    return tril(x) * (1.0 - 0.5 * np.eye(n, dtype=x.dtype))


def _cholesky_tangent(out: Traced, tangents: list[Any]) -> Any:
    """From a = l lᵀ: dl = l Φ(l⁻¹ da l⁻ᵀ), Φ the lower triangle with half of the diagonal (Murray 2016, eq. 8)."""
    change = tril(tangents[0]) + swapped(tril(tangents[0], -1))
    inner = solve_matrix(out, swapped(solve_matrix(out, change)))
    return p.matmul2(out, half_lower(swapped(inner)))


def _cholesky_gradient(out: Traced, g: Any, _: int) -> Any:
    """The same backwards: l⁻ᵀ Φ(lᵀ g) l⁻¹; what is below the diagonal stands for both sides (Murray 2016, eq. 10)."""
    inner = half_lower(p.matmul2(swapped(out), tril(g)))
    back = swapped(solve_matrix(swapped(out), swapped(solve_matrix(swapped(out), inner))))
    both = back + swapped(back)
    return half_lower(both)


LINEAR_RULES[CHOLESKY] = (_cholesky_tangent, _cholesky_gradient)
LINEAR_RULES[SOLVE] = (_solve_tangent, _solve_gradient)
LINEAR_RULES[INV] = (_inv_tangent, _inv_gradient)
LINEAR_RULES[LOGDET] = (_logdet_tangent, _logdet_gradient)
LINEAR_RULES[DET] = (
    lambda out, tangents: out * _logdet_tangent(out, tangents), lambda out, g, i: _logdet_gradient(out, g * out, i),
)
