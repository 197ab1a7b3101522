"""What NumPy's functions mean on traced values: each is put together from the operations of `fastgd._primitives`.

A function that is not entered here (`FUNCTIONS`, `UFUNCS`) is refused by its name.
"""

from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from fastgd import _primitives as p
from fastgd._primitives import as_operand, trace_of
from fastgd._traced import FUNCTIONS, UFUNC_METHODS, UFUNCS, VALUES_ONLY, Traced

__all__ = ["meaning"]


def meaning(*functions: Any, differentiable: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter what NumPy functions mean on traced values; and that their results have no derivative, if so."""

    def enter(handler: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS.update(dict.fromkeys(functions, handler))
        if not differentiable:
            VALUES_ONLY.update(functions)
        return handler

    return enter


def node(value: Any, *others: Any) -> Traced:
    """An argument as a node."""
    if type(value) is Traced:
        return value
    trace = trace_of((value, *others))
    return trace.node_of(as_operand(trace, value))


def floating(x: Traced) -> Traced:
    """Integers and bools as float64, as NumPy's means are."""
    return x if x.dtype.kind == "f" else p.astype(x, np.float64)


def axes_of(x: Traced, axis: Any) -> tuple[int, ...]:
    """An axis argument as sorted numbers that are not negative; None for all axes."""
    if axis is None:
        return tuple(range(x.ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(sorted(one_axis(a, x.ndim) for a in given))
    if len(set(axes)) < len(axes):
        raise ValueError(f"an axis is named twice in {axis}")
    return axes


def one_axis(axis: Any, ndim: int) -> int:
    number = operator.index(axis)
    if not -ndim <= number < ndim:
        raise np.exceptions.AxisError(number, ndim)
    return number % ndim


def refuse_options(name: str, **options: Any) -> None:
    """Options that only NumPy's own function has."""
    for option, value in options.items():
        if value is not None and value is not np._NoValue:
            raise TypeError(f"np.{name} of a traced value takes no {option}=")


# ---- operators whose meaning is not one ufunc's ----------------------------------------------------------------------


def power_operator(x: Any, y: Any) -> Any:
    """``x ** y``: NumPy takes the square root for 0.5."""
    if type(y) is float and y == 0.5 and x.dtype.kind == "f":
        return p.sqrt(x)
    return p.power(x, y)


UFUNCS["power operator"] = power_operator       # type: ignore[index]
UFUNCS[np.float_power] = lambda x, y: p.power(p.astype(node(x, y), np.float64), p.astype(node(y, x), np.float64))
UFUNCS[np.positive] = lambda x: x
UFUNCS[np.fabs] = lambda x: p.absolute(floating(x))
UFUNCS[np.reciprocal] = lambda x: 1.0 / x if x.dtype.kind == "f" else p.floor_divide(1, x)
UFUNCS[np.deg2rad] = UFUNCS[np.radians] = lambda x: x * (math.pi / 180)
UFUNCS[np.rad2deg] = UFUNCS[np.degrees] = lambda x: x * (180 / math.pi)
UFUNCS[np.conjugate] = lambda x: x


# ---- sums ------------------------------------------------------------------------------------------------------------


@meaning(np.sum)
def sum_(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
         where: Any = None) -> Any:
    refuse_options("sum", out=out, initial=initial)
    x = node(x, where)
    if dtype is not None:
        x = p.astype(x, dtype)
    if where is not None and where is not np._NoValue and where is not True:
        x = p.where(where, x, x.tracer.constant(0, x.dtype))
    return p.sum_(x, axes_of(x, axis), truth(keepdims))


def truth(keepdims: Any) -> bool:
    return keepdims is not np._NoValue and bool(keepdims)


def count(x: Traced, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[i] for i in axes)


@meaning(np.mean)
def mean(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *,
         where: Any = None) -> Any:
    refuse_options("mean", out=out, where=where)
    x = floating(node(x))
    if dtype is not None:
        x = p.astype(x, dtype)
    axes = axes_of(x, axis)
    return over(p.sum_(x, axes, truth(keepdims)), count(x, axes))


def over(x: Traced, n: float) -> Any:
    """X / n, by a product: a mean's gradient is then one factor."""
    return x * (1.0 / n if n else math.nan)


@meaning(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    x = floating(node(a, weights))
    if returned:
        raise TypeError("np.average of a traced value takes no returned=True")
    if weights is None:
        return mean(x, axis, keepdims=keepdims)
    w = node(weights, x)
    if w.shape != x.shape:
        if w.ndim != 1 or not isinstance(axis, int):
            raise TypeError(f"np.average: weights of shape {w.shape} for values of shape {x.shape} need one axis")
        shape = [1] * x.ndim
        shape[one_axis(axis, x.ndim)] = w.shape[0]
        w = p.reshape(w, tuple(shape))
    axes = axes_of(x, axis)
    return p.sum_(x * w, axes, truth(keepdims)) / p.sum_(p.broadcast_to(w, x.shape), axes, truth(keepdims))


@meaning(np.var)
def var(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False, *,
        where: Any = None, mean: Any = None, correction: Any = None) -> Any:
    refuse_options("var", out=out, where=where, mean=mean, correction=correction)
    x = floating(node(x))
    if dtype is not None:
        x = p.astype(x, dtype)
    axes = axes_of(x, axis)
    centre = over(p.sum_(x, axes, True), count(x, axes))
    return over(p.sum_(p.square(x - centre), axes, truth(keepdims)), count(x, axes) - ddof)


@meaning(np.std)
def std(x: Any, *args: Any, **kwargs: Any) -> Any:
    return root_of_squares(var(x, *args, **kwargs))


def root_of_squares(total: Traced) -> Any:
    """The square root of a sum of squares, whose derivative is 0 where all of them are."""
    zero = p.equal(total, 0.0)
    return p.where(zero, 0.0, p.sqrt(p.where(zero, 1.0, total)))


@meaning(np.max)
def max_(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
         where: Any = None) -> Any:
    refuse_options("max", out=out, initial=initial, where=where)
    x = node(x)
    return p.extreme(p.MAX, x, axes_of(x, axis), truth(keepdims))


@meaning(np.min)
def min_(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
         where: Any = None) -> Any:
    refuse_options("min", out=out, initial=initial, where=where)
    x = node(x)
    return p.extreme(p.MIN, x, axes_of(x, axis), truth(keepdims))


@meaning(np.ptp)
def ptp(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return max_(x, axis, out, keepdims) - min_(x, axis, out, keepdims)


@meaning(np.prod)
def prod(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
         where: Any = None) -> Any:
    """By halves, in log2(n) elementwise products: all derivatives are right, also where elements are zero."""
    refuse_options("prod", out=out, initial=initial, where=where)
    x = node(x)
    if dtype is not None:
        x = p.astype(x, dtype)
    axes = axes_of(x, axis)
    shape = p.reduced_shape(x.shape, axes, truth(keepdims))
    rest = tuple([i for i in range(x.ndim) if i not in axes])
    x = p.transpose(x, rest + axes)
    n = math.prod(x.shape[len(rest):])
    x = p.reshape(x, (*x.shape[: len(rest)], n))
    if n == 0:
        return p.broadcast_to(x.tracer.constant(1, x.dtype), shape)
    while n > 1:
        half = n // 2
        product = x[..., :half] * x[..., half : 2 * half]
        x = p.concatenate((product, x[..., 2 * half :]), x.ndim - 1) if n % 2 else product
        n -= half
    return p.reshape(x, shape)


# ---- products --------------------------------------------------------------------------------------------------------


def matmul(a: Any, b: Any) -> Any:
    """``a @ b``: of vectors, matrices and stacks of matrices."""
    a, b = node(a, b), node(b, a)
    if not (a.ndim and b.ndim):
        raise ValueError("matmul of a number; use * instead")
    left = p.reshape(a, (1, *a.shape)) if a.ndim == 1 else a
    right = p.reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
    product = p.matmul2(left, right)
    shape = product.shape
    if b.ndim == 1:
        shape = shape[:-1]
    if a.ndim == 1:
        shape = (*shape[:-2], shape[-1]) if b.ndim > 1 else shape[:-1]
    return p.reshape(product, shape)


UFUNCS[np.matmul] = matmul


# ---- shapes ----------------------------------------------------------------------------------------------------------


def full_shape(x: Traced, shape: Any) -> tuple[int, ...]:
    """A shape argument without -1."""
    lengths = [operator.index(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,))]
    if lengths.count(-1) == 1:
        rest = -math.prod(lengths)
        lengths[lengths.index(-1)] = x.size // rest if rest else 0
    if math.prod(lengths) != x.size or builtins.min(lengths, default=0) < 0:
        raise ValueError(f"cannot reshape a traced value of shape {x.shape} into {shape}")
    return tuple(lengths)


@meaning(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    x = node(a)
    new = full_shape(x, newshape if shape is None else shape)
    if order == "F":
        return transpose(p.reshape(transpose(x), new[::-1]))
    if order not in ("C", "A"):
        raise TypeError(f"np.reshape of a traced value takes order 'C' or 'F', got {order!r}")
    return p.reshape(x, new)


@meaning("ndarray.reshape")
def reshape_method(x: Traced, *shape: Any, order: str = "C", copy: Any = None) -> Any:
    return reshape(x, shape[0] if len(shape) == 1 else shape, order)


@meaning(np.ravel, "ndarray.flatten")
def ravel(a: Any, order: str = "C") -> Any:
    return reshape(a, (-1,), "C" if order == "K" else order) if a.size else p.reshape(a, (0,))


@meaning(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    x = node(a)
    order = tuple(range(x.ndim))[::-1] if axes is None else tuple([one_axis(i, x.ndim) for i in axes])
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(f"np.transpose: axes {axes} are no order of the {x.ndim} axes")
    return p.transpose(x, order)


@meaning("ndarray.transpose")
def transpose_method(x: Traced, *axes: Any) -> Any:
    return transpose(x, None if axes in ((), (None,)) else axes[0] if isinstance(axes[0], (tuple, list)) else axes)


@meaning(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    x = node(a)
    order = list(range(x.ndim))
    i, j = one_axis(axis1, x.ndim), one_axis(axis2, x.ndim)
    order[i], order[j] = j, i
    return p.transpose(x, tuple(order))


@meaning(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    x = node(a)
    model = np.broadcast_to(np.zeros(()), tuple(range(x.ndim)))     # axis i has length i
    order = tuple(range(x.ndim)) if not model.ndim else np.moveaxis(np.lib.stride_tricks.as_strided(
        np.zeros(()), tuple(range(x.ndim)), (0,) * x.ndim), source, destination).shape
    return p.transpose(x, order)


@meaning(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Any:
    x = node(a)
    axes = tuple([i for i, n in enumerate(x.shape) if n == 1]) if axis is None else axes_of(x, axis)
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"np.squeeze: axis {axis} of shape {x.shape} has not length 1")
    return p.reshape(x, p.reduced_shape(x.shape, axes, False))


@meaning(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    x = node(a)
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    ndim = x.ndim + len(given)
    axes = {one_axis(i, ndim) for i in given}
    rest = iter(x.shape)
    return p.reshape(x, tuple([1 if i in axes else next(rest) for i in range(ndim)]))


@meaning(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    return p.broadcast_to(node(array), (shape,) if isinstance(shape, int) else tuple(shape))


@meaning("ndarray.astype", *([np.astype] if hasattr(np, "astype") else []))       # since NumPy 2.1
def astype(x: Any, dtype: Any, /, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True,
           **_: Any) -> Any:
    return p.astype(x, dtype)


@meaning("ndarray.copy", np.copy, "ndarray.conj", "ndarray.conjugate", np.real)
def copy(x: Traced, *args: Any, **kwargs: Any) -> Any:
    return x


@meaning(np.shape, differentiable=False)
def shape(a: Any) -> tuple[int, ...]:
    return node(a).shape


@meaning(np.ndim, differentiable=False)
def ndim(a: Any) -> int:
    return node(a).ndim


@meaning(np.size, differentiable=False)
def size(a: Any, axis: Any = None) -> int:
    x = node(a)
    return x.size if axis is None else x.shape[axis]


# ---- indexing --------------------------------------------------------------------------------------------------------


@meaning("index")
def index(x: Traced, key: Any) -> Any:
    """``x[key]``: slices, integers, None and Ellipsis; integer and boolean arrays. Traced masks are looked at."""
    pattern: list[Any] = []
    indices: list[Traced] = []
    for item in key if isinstance(key, tuple) else (key,):
        if isinstance(item, slice):
            bounds = (item.start, item.stop, item.step)
            pattern.append(slice(*(None if i is None else operator.index(i) for i in bounds)))
        elif item is None or item is Ellipsis:
            pattern.append(item)
        elif isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            pattern.append(int(item))
        else:
            arrays = index_arrays(x, item)
            pattern.extend([p.SLOT] * len(arrays))
            indices.extend(arrays)
    return p.index(x, tuple(pattern), tuple(indices))


def index_arrays(x: Traced, item: Any) -> list[Traced]:
    """An index array, or a mask as index arrays."""
    trace = x.tracer
    if isinstance(item, Traced) and item.dtype.kind == "b":
        item = np.asarray(trace.look(item, "a boolean index"))
    if isinstance(item, Traced):
        if item.dtype.kind not in "iu":
            raise TypeError(f"an index array must hold integers or bools, got dtype {item.dtype}")
        return [item]
    array = np.asarray(item)
    if array.dtype.kind == "b":
        return [trace.constant(i) for i in np.nonzero(array)]
    if array.size == 0:
        array = array.astype(np.intp)
    if array.dtype.kind not in "iu":
        raise TypeError(f"an index array must hold integers or bools, got dtype {array.dtype}")
    return [trace.constant(array)]


@meaning(np.take)
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    refuse_options("take", out=out)
    if mode != "raise":
        raise TypeError(f"np.take of a traced value takes mode='raise' only, got {mode!r}")
    x = node(a, indices)
    if axis is None:
        return ravel(x)[indices]
    return x[(*(slice(None),) * one_axis(axis, x.ndim), indices)]


# ---- joining ---------------------------------------------------------------------------------------------------------


def nodes_of(arrays: Any) -> list[Traced]:
    """Nodes of one dtype: the one that NumPy would promote them to."""
    nodes = [node(x, *arrays) for x in arrays]
    dtypes = [x.dtype for x in nodes if not x.weak]
    dtype = np.result_type(*dtypes) if dtypes else nodes[0].dtype
    return [p.astype(x, dtype) for x in nodes]


@meaning(np.concatenate)
def concatenate(arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = None) -> Any:
    refuse_options("concatenate", out=out, dtype=dtype)
    nodes = nodes_of(arrays)
    if axis is None:
        nodes, axis = [ravel(x) for x in nodes], 0
    if any(x.ndim != nodes[0].ndim or not x.ndim for x in nodes):
        raise ValueError(f"np.concatenate of shapes {', '.join(str(x.shape) for x in nodes)}: all need the same number "
                         "of dimensions, at least one")
    return p.concatenate(nodes, one_axis(axis, nodes[0].ndim))


@meaning(np.stack)
def stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = None) -> Any:
    refuse_options("stack", out=out, dtype=dtype)
    nodes = nodes_of(list(arrays))
    if any(x.shape != nodes[0].shape for x in nodes):
        raise ValueError(f"np.stack of shapes {', '.join(str(x.shape) for x in nodes)}: all need the same one")
    return p.concatenate([expand_dims(x, axis) for x in nodes], one_axis(axis, nodes[0].ndim + 1))


@meaning(np.array, np.asarray)
def array(values: Any) -> Any:
    """A nested list of traced values as one."""
    if isinstance(values, (list, tuple)):
        return stack([array(value) if isinstance(value, (list, tuple)) else value for value in values])
    return values




@meaning(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    return concatenate([at_least(x, 2) for x in nodes_of(tup)], 0, dtype=dtype)


@meaning(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    nodes = [at_least(x, 1) for x in nodes_of(tup)]
    return concatenate(nodes, 0 if nodes[0].ndim == 1 else 1, dtype=dtype)


@meaning(np.column_stack)
def column_stack(tup: Any) -> Any:
    return concatenate([p.reshape(x, (x.size, 1)) if x.ndim < 2 else x for x in nodes_of(tup)], 1)


@meaning(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Any:
    return concatenate((node(arr, values), node(values, arr)), axis)


def at_least(x: Traced, ndim: int) -> Any:
    """Leading axes of length one up to a number of dimensions."""
    return p.reshape(x, (1,) * (ndim - x.ndim) + x.shape) if x.ndim < ndim else x


@meaning(np.atleast_1d)
def atleast_1d(*arrays: Any) -> Any:
    out = tuple([at_least(node(x, *arrays), 1) for x in arrays])
    return out[0] if len(out) == 1 else out


@meaning(np.atleast_2d)
def atleast_2d(*arrays: Any) -> Any:
    out = tuple([at_least(node(x, *arrays), 2) for x in arrays])
    return out[0] if len(out) == 1 else out


# ---- choices ---------------------------------------------------------------------------------------------------------


@meaning(np.where)
def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        return nonzero(condition)
    return p.where(condition, x, y)


@meaning(np.clip)
def clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None) -> Any:  # noqa: A002
    """Gradients pass at the bounds and between them."""
    refuse_options("clip", out=out)
    low, high = a_min if min is None else min, a_max if max is None else max
    x = node(a, low, high)
    if low is not None:
        x = p.where(p.less(x, low), low, x)
    if high is not None:
        x = p.where(p.greater(x, high), high, x)
    return x


UFUNCS[np._core.umath.clip] = lambda x, low, high: clip(x, low, high)       # type: ignore[attr-defined]


@meaning(np.nonzero, differentiable=False)
def nonzero(a: Any) -> Any:
    """Which elements are not zero: their number depends on values, so these are looked at."""
    x = node(a)
    return np.nonzero(np.asarray(x.tracer.look(x, "np.nonzero")))


def enter_without_derivative(*functions: Callable[..., Any]) -> None:
    """Functions whose results are integers or bools."""
    for function in functions:
        FUNCTIONS[function] = functools.partial(p.without_derivative, function)
        VALUES_ONLY.add(function)


enter_without_derivative(np.argmax, np.argmin, np.argsort, np.any, np.all, np.count_nonzero, np.searchsorted)


def logsumexp(x: Any, axis: Any = None, keepdims: Any = False, base: float | None = None) -> Any:
    """Log Σ exp x without overflow: the largest element is taken out, and has no part in derivatives."""
    x = floating(node(x))
    axes = axes_of(x, axis)
    exponential, logarithm = (p.exp, p.log) if base is None else (p.exp2, p.log2)
    top = p.stop_gradient(p.extreme(p.MAX, x, axes, True))
    top = p.where(p.isfinite(top), top, 0.0)
    total = logarithm(p.sum_(exponential(x - top), axes, True)) + top
    return total if truth(keepdims) else p.reshape(total, p.reduced_shape(x.shape, axes, False))


UFUNC_METHODS[np.logaddexp, "reduce"] = lambda x, axis=0, keepdims=False, **_: logsumexp(x, axis, keepdims)
UFUNC_METHODS[np.logaddexp2, "reduce"] = lambda x, axis=0, keepdims=False, **_: logsumexp(x, axis, keepdims, 2.0)
UFUNC_METHODS[np.add, "reduce"] = lambda x, axis=0, dtype=None, keepdims=False, **_: sum_(
    x, axis, dtype, keepdims=keepdims
)
UFUNC_METHODS[np.multiply, "reduce"] = lambda x, axis=0, dtype=None, keepdims=False, **_: prod(
    x, axis, dtype, keepdims=keepdims
)
UFUNC_METHODS[np.maximum, "reduce"] = lambda x, axis=0, keepdims=False, **_: max_(x, axis, keepdims=keepdims)
UFUNC_METHODS[np.minimum, "reduce"] = lambda x, axis=0, keepdims=False, **_: min_(x, axis, keepdims=keepdims)


# ---- along an axis ---------------------------------------------------------------------------------------------------


def along(x: Traced, axis: int, key: Any) -> Any:
    """The key along one axis."""
    return index(x, (*(slice(None),) * axis, key))


@meaning(np.cumsum)
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    refuse_options("cumsum", out=out)
    x = node(a) if dtype is None else p.astype(node(a), dtype)
    if axis is None:
        x, axis = ravel(x), 0
    return p.cumsum(x, one_axis(axis, x.ndim))


@meaning(np.cumprod)
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """By doubling: after step k each element is a product of 2^k (Hillis and Steele 1986); zeros do no harm."""
    refuse_options("cumprod", out=out)
    x = node(a) if dtype is None else p.astype(node(a), dtype)
    if axis is None:
        x, axis = ravel(x), 0
    axis = one_axis(axis, x.ndim)
    shift = 1
    while shift < x.shape[axis]:
        head = along(x, axis, slice(None, shift))
        x = p.concatenate((head, along(x, axis, slice(shift, None)) * along(x, axis, slice(None, -shift))), axis)
        shift *= 2
    return x


@meaning(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    refuse_options("diff", prepend=prepend, append=append)
    x = node(a)
    axis = one_axis(axis, x.ndim)
    for _ in range(n):
        x = along(x, axis, slice(1, None)) - along(x, axis, slice(None, -1))
    return x


@meaning(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    values = node(y, x, dx)
    axis = one_axis(axis, values.ndim)
    if x is not None:
        points = node(x, values)
        width = diff(points, axis=axis if points.ndim == values.ndim else -1)
        if points.ndim != values.ndim:
            width = p.reshape(width, (*width.shape, *(1,) * (values.ndim - axis - 1)))
    else:
        width = dx
    means = 0.5 * (along(values, axis, slice(1, None)) + along(values, axis, slice(None, -1)))
    return sum_(means * width, axis)


@meaning(np.flip, np.flipud, np.fliplr)
def flip(m: Any, axis: Any = None) -> Any:
    x = node(m)
    for i in axes_of(x, axis):
        x = p.flip(x, i)
    return x


FUNCTIONS[np.flipud] = lambda m: p.flip(node(m), 0)
FUNCTIONS[np.fliplr] = lambda m: p.flip(node(m), 1)


@meaning(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    x = node(a)
    if axis is None:
        return p.reshape(roll(ravel(x), shift, 0), x.shape)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    for by, i in zip(shifts * (len(axes) if len(shifts) == 1 else 1), axes, strict=True):
        i = one_axis(i, x.ndim)
        by = operator.index(by) % x.shape[i] if x.shape[i] else 0
        if by:
            x = p.concatenate((along(x, i, slice(-by, None)), along(x, i, slice(None, -by))), i)
    return x


@meaning(np.tile)
def tile(A: Any, reps: Any) -> Any:
    x = node(A)
    counts = tuple(reps) if isinstance(reps, (tuple, list)) else (operator.index(reps),)
    x = at_least(x, len(counts))
    counts = (1,) * (x.ndim - len(counts)) + counts
    apart = p.reshape(x, tuple([n for length in x.shape for n in (1, length)]))
    repeated = p.broadcast_to(apart, tuple([n for pair in zip(counts, x.shape, strict=True) for n in pair]))
    return p.reshape(repeated, tuple([m * n for m, n in zip(counts, x.shape, strict=True)]))


@meaning(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    x = node(a)
    if axis is None:
        x, axis = ravel(x), 0
    axis = one_axis(axis, x.ndim)
    return along(x, axis, np.repeat(np.arange(x.shape[axis]), repeats))


@meaning(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    x = node(ary)
    axis = one_axis(axis, x.ndim)
    parts = np.array_split(np.arange(x.shape[axis]), indices_or_sections)
    return [along(x, axis, slice(int(i[0]), int(i[-1]) + 1) if len(i) else slice(0, 0)) for i in parts]


@meaning(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    x = node(ary)
    n = x.shape[one_axis(axis, x.ndim)]
    if isinstance(indices_or_sections, (int, np.integer)) and n % indices_or_sections:
        raise ValueError(f"np.split: {indices_or_sections} parts of {n} elements are not equal")
    return array_split(x, indices_or_sections, axis)


@meaning(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    x = node(arr, indices)
    if axis is None:
        x, axis = ravel(x), 0
    axis = one_axis(axis, x.ndim)
    grids = np.ogrid[tuple(slice(n) for n in x.shape)]
    return index(x, tuple([indices if i == axis else grids[i] for i in range(x.ndim)]))


@meaning(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    x = node(a)
    if axis is None:
        x, axis = ravel(x), 0
    return take_along_axis(x, p.without_derivative(np.argsort, x, axis=axis, kind="stable"), axis)


@meaning(np.median)
def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    refuse_options("median", out=out)
    x = floating(node(a))
    axes = axes_of(x, axis)
    rest = tuple([i for i in range(x.ndim) if i not in axes])
    n = count(x, axes)
    flat = sort(p.reshape(p.transpose(x, rest + axes), (*(x.shape[i] for i in rest), n)))
    middle = 0.5 * (flat[..., (n - 1) // 2] + flat[..., n // 2])
    return p.reshape(middle, p.reduced_shape(x.shape, axes, truth(keepdims)))


# ---- diagonals -------------------------------------------------------------------------------------------------------


@meaning(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x = node(a)
    i, j = one_axis(axis1, x.ndim), one_axis(axis2, x.ndim)
    x = p.transpose(x, (*(k for k in range(x.ndim) if k not in (i, j)), i, j))
    rows, columns = on_diagonal(x.shape[-2], x.shape[-1], offset)
    return x[..., rows, columns]


def on_diagonal(n: int, m: int, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a diagonal of a matrix."""
    rows = np.arange(builtins.max(0, -offset), builtins.min(n, m - offset))
    return rows, rows + offset


@meaning(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    refuse_options("trace", out=out)
    return sum_(diagonal(a, offset, axis1, axis2), -1, dtype)


@meaning(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    x = node(v)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"np.diag takes a vector or a matrix, got shape {x.shape}")
    n = x.shape[0] + abs(k)
    rows, columns = on_diagonal(n, n, k)
    indices = (x.tracer.constant(rows), x.tracer.constant(columns))
    return p.scatter(x, (p.SLOT, p.SLOT), indices, (n, n))


@meaning(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    x = node(m)
    return p.where(np.tri(x.shape[-2], x.shape[-1], k, dtype=bool), x, x.tracer.constant(0, x.dtype))


@meaning(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    x = node(m)
    return p.where(np.tri(x.shape[-2], x.shape[-1], k - 1, dtype=bool), x.tracer.constant(0, x.dtype), x)


# ---- put together ----------------------------------------------------------------------------------------------------


@meaning(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    out = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        out = p.where(condition, choice, out)
    return out


@meaning(np.sinc)
def sinc(x: Any) -> Any:
    """sin(πx)/πx; near 0 the first terms of its series, for whose derivatives nothing cancels."""
    x = floating(node(x))
    y = math.pi * x
    near = p.less(p.absolute(y), 0.05)
    safe = p.where(near, 1.0, y)
    square = p.square(p.where(near, y, 0.0))
    series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72 * (1 - square / 110))))
    return p.where(near, series, p.sin(safe) / safe)


@meaning(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    x = node(x)
    largest = float(np.finfo(x.dtype).max)
    x = p.where(p.isnan(x), nan, x)
    x = p.where(p.equal(x, math.inf), largest if posinf is None else posinf, x)
    return p.where(p.equal(x, -math.inf), -largest if neginf is None else neginf, x)


@meaning(np.nansum)
def nansum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    x = node(a)
    return sum_(p.where(p.isnan(x), 0.0, x), axis, dtype, out, keepdims)


@meaning(np.nanmean)
def nanmean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    x = node(a)
    present = sum_(p.astype(p.logical_not(p.isnan(x)), x.dtype), axis, keepdims=keepdims)
    return nansum(x, axis, dtype, out, keepdims) / present


@meaning(np.polyval)
def polyval(p_: Any, x: Any) -> Any:
    """Horner's rule, for coefficients from the highest power down."""
    total: Any = 0.0
    for coefficient in p_:
        total = total * x + coefficient
    return total


@meaning(np.round)
def round_(a: Any, decimals: int = 0, out: Any = None) -> Any:
    refuse_options("round", out=out)
    x = node(a)
    return p.rint(x) if decimals == 0 else p.rint(x * 10.0**decimals) / 10.0**decimals


@meaning(np.isclose, differentiable=False)
def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    a, b = node(a, b), node(b, a)
    near = p.less_equal(p.absolute(a - b), atol + rtol * p.absolute(b))
    near = p.logical_or(p.logical_and(near, p.isfinite(b)), p.equal(a, b))
    return p.logical_or(near, p.logical_and(p.isnan(a), p.isnan(b))) if equal_nan else near


@meaning(np.allclose, differentiable=False)
def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    return FUNCTIONS[np.all](isclose(a, b, rtol, atol, equal_nan))


def filled(value: float) -> Callable[..., Any]:
    """A function that makes arrays like another one, which depend on its shape and dtype alone."""

    def like(a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **_: Any) -> Any:
        x = node(a)
        return np.full(x.shape if shape is None else shape, value, x.dtype if dtype is None else dtype)

    return like


meaning(np.zeros_like, np.empty_like, differentiable=False)(filled(0))
meaning(np.ones_like, differentiable=False)(filled(1))


@meaning(np.full_like)
def full_like(a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True,
              shape: Any = None) -> Any:
    trace = trace_of((fill_value, a))
    value = trace.node_of(as_operand(trace, fill_value))
    like = a if shape is None else None
    value = p.astype(value, (a.dtype if dtype is None else dtype))
    return p.broadcast_to(value, like.shape if like is not None else tuple(shape))


def refuse_in_place(name: str, instead: str) -> Callable[..., Any]:
    """A method that writes into its array."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise TypeError(f"a traced value cannot be written into by {name}; use {instead}")

    return refuse


FUNCTIONS["ndarray.fill"] = refuse_in_place("fill", "np.full_like")
FUNCTIONS["ndarray.sort"] = refuse_in_place("sort", "np.sort")

