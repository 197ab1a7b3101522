"""The operations that graphs are made of: from operands, each makes one node of known shape and dtype.

NumPy's functions are put together from these in `fastgd._functions`; `fastgd._rules` has their derivatives. Elementwise
operations broadcast as NumPy's do. An operand that was only broadcast is used as it was before that, as the operation
broadcasts it again: gradients of sums and means never become arrays of one repeated number.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastgd._graph import CALL, ELEMENTWISE, MATMUL, SUM, Primitive
from fastgd._simplify import SIMPLER
from fastgd._traced import BOOL, FLOAT64, FUNCTIONS, UFUNCS, Trace, Traced, active_trace, full_name, holds_traced

Shape = tuple[int, ...]
Axes = tuple[int, ...]

# ---- elementwise -----------------------------------------------------------------------------------------------------


class Loop(NamedTuple):
    """A ufunc's loop for operands of certain kinds: the dtypes it takes and returns, and the kind of the result."""

    takes: tuple[np.dtype[Any], ...]
    result: np.dtype[Any]
    weak: bool


@functools.cache
def loop_of(ufunc: np.ufunc, *kinds: str) -> Loop:
    """The loop for operands of these kinds: a dtype's character, or "float" and "int" for what is weak."""
    weak = all(kind in PYTHON_TYPES for kind in kinds)
    given = [
        (FLOAT64 if kind == "float" else INTEGER) if weak else PYTHON_TYPES[kind] if kind in PYTHON_TYPES
        else np.dtype(kind)
        for kind in kinds
    ]
    try:
        dtypes = ufunc.resolve_dtypes((*given, *(None,) * ufunc.nout))
    except TypeError:
        names = ", ".join(kind if kind in PYTHON_TYPES else np.dtype(kind).name for kind in kinds)
        raise TypeError(f"np.{ufunc.__name__} is not defined on values of type {names}") from None
    return Loop(dtypes[: ufunc.nin], dtypes[ufunc.nin], weak and dtypes[ufunc.nin].kind == "f")


PYTHON_TYPES = {"float": float, "int": int}
INTEGER = np.dtype(np.int64)


@functools.lru_cache(maxsize=4096)
def broadcast_shape(*shapes: Shape) -> Shape:
    """The shape of shapes broadcast against each other."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"operands of shapes {', '.join(map(str, shapes))} do not broadcast") from None


def trace_of(operands: Sequence[Any]) -> Trace:
    """The trace of the first operand that is traced."""
    for operand in operands:
        if isinstance(operand, Traced):
            return operand.tracer
        if isinstance(operand, (list, tuple)) and holds_traced(operand):
            return trace_of(operand)
    trace = active_trace()
    if trace is None:
        raise AssertionError("no traced value among the operands")
    return trace


def kind_of(operand: Any) -> str:
    """What decides about dtypes: "float" and "int" for what is weak, else the dtype's character."""
    if type(operand) is Traced:
        return operand.kind
    return "float" if type(operand) is float else "int" if type(operand) is int else operand.dtype.char


def ufunc_builder(ufunc: np.ufunc) -> Callable[..., Any]:
    """A ufunc as an operation of graphs, entered into `UFUNCS`."""
    primitive = Primitive(ufunc.__name__, ELEMENTWISE, ufunc, ufunc)
    build = unary_builder(primitive, ufunc) if ufunc.nin == 1 else binary_builder(primitive, ufunc)
    UFUNCS[ufunc] = build
    return build


#: ufuncs of scipy.special that have rules; SciPy itself is never imported.
OF_SCIPY = ("erf", "erfc", "expit", "log_expit", "log_ndtr", "ndtr", "xlogy")


def other_ufunc(ufunc: np.ufunc) -> Callable[..., Any] | None:
    """The operation for a ufunc that is met for the first time: one of SciPy's, or None."""
    known = ufunc.__name__ in OF_SCIPY and "scipy.special" in sys.modules
    return ufunc_builder(ufunc) if known and getattr(sys.modules["scipy.special"], ufunc.__name__) is ufunc else None


FUNCTIONS["other ufunc"] = other_ufunc


def unary_builder(primitive: Primitive, ufunc: np.ufunc) -> Callable[..., Any]:
    """What makes the node of a ufunc of one operand."""
    rule = SIMPLER.get(primitive.name)

    def build(x: Any) -> Any:
        if type(x) is not Traced:
            trace = trace_of((x,))
            x = trace.node_of(as_operand(trace, x))
        loop = loop_of(ufunc, x.kind)
        if x.dtype != loop.takes[0]:
            x = astype(x, loop.takes[0])
        if x.value is not None or x.primitive is BROADCAST:
            return elementwise_node(x.tracer, primitive, (x,), loop.result, loop.weak)
        if rule is not None and x.tracer.simplifies:
            simpler = rule(x)
            if simpler is not None:
                return simpler
        return x.tracer.make(primitive, (x,), x.shape, loop.result, None, None, loop.weak)

    return build


def binary_builder(primitive: Primitive, ufunc: np.ufunc) -> Callable[..., Any]:
    """What makes the node of a ufunc of two operands."""
    rule = SIMPLER.get(primitive.name)

    def build(a: Any, b: Any) -> Any:
        trace = a.tracer if type(a) is Traced else b.tracer if type(b) is Traced else trace_of((a, b))
        if type(a) is not Traced and type(a) is not float:
            a = as_operand(trace, a)
        if type(b) is not Traced and type(b) is not float:
            b = as_operand(trace, b)
        takes, result, weak = loop_of(ufunc, kind_of(a), kind_of(b))
        if type(a) is not Traced or a.dtype != takes[0]:
            a = cast(trace, a, takes[0], weak)
        if type(b) is not Traced or b.dtype != takes[1]:
            b = cast(trace, b, takes[1], weak)
        if (a.value is not None and b.value is not None) or a.primitive is BROADCAST or b.primitive is BROADCAST:
            return elementwise_node(trace, primitive, (a, b), result, weak)
        shape = a.shape
        if b.shape != shape and b.shape:
            shape = broadcast_shape(shape, b.shape) if shape else b.shape
        if rule is not None and trace.simplifies:
            simpler = rule(a, b)
            if simpler is not None:
                return broadcast_to(simpler, shape)
        return trace.make(primitive, (a, b), shape, result, None, None, weak)

    return build


def elementwise_node(
    trace: Trace, primitive: Primitive, nodes: tuple[Traced, ...], dtype: np.dtype[Any], weak: bool,
    attributes: dict[str, Any] | None = None, key: Any = None,
) -> Any:
    """The node of an elementwise operation on nodes of the right dtypes."""
    shapes = [node.shape for node in nodes]
    shape = shapes[0] if len(shapes) == 1 else broadcast_shape(*shapes)
    for node in nodes:
        if node.primitive is BROADCAST:
            bare = tuple([node.inputs[0] if node.primitive is BROADCAST else node for node in nodes])
            return broadcast_to(elementwise_node(trace, primitive, bare, dtype, weak, attributes, key), shape)
    if all(node.value is not None for node in nodes):
        with np.errstate(all="ignore"):
            value = evaluate(primitive, [node.value for node in nodes], attributes or {})
        return trace.constant(value, dtype, weak)
    rule = SIMPLER.get(primitive.name)
    if rule is not None and trace.simplifies:
        simpler = rule(*nodes)
        if simpler is not None:
            return broadcast_to(simpler, shape)
    return trace.make(primitive, nodes, shape, dtype, attributes, key, weak)


def evaluate(primitive: Primitive, values: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """An operation on arrays."""
    assert primitive.apply is not None
    return primitive.apply(*values, **attributes)


def as_operand(trace: Trace, value: Any) -> Any:
    """What a user gave as an operand: Python's numbers as they are, all else as a node."""
    if type(value) in (Traced, float, int):
        return value
    if isinstance(value, (bool, np.bool_)):
        return trace.constant(value, BOOL)
    if isinstance(value, (complex, np.complexfloating)):
        raise TypeError("derivatives are of real numbers, and a traced value meets a complex one")
    if value is None or isinstance(value, (str, bytes, dict, set)):
        raise TypeError(f"a traced value meets {value!r}, which is no number")
    return trace.node_of(value)


def cast(trace: Trace, operand: Any, dtype: np.dtype[Any], weak: bool = False) -> Traced:
    """An operand as a node of this dtype."""
    return astype(operand, dtype) if type(operand) is Traced else trace.number(operand, dtype, weak)


def apply_astype(array: Any, dtype: np.dtype[Any]) -> Any:
    return np.asarray(array).astype(dtype)


def apply_where(condition: Any, a: Any, b: Any) -> Any:
    return np.where(condition, a, b)


ASTYPE = Primitive("astype", ELEMENTWISE, apply_astype)
WHERE = Primitive("where", ELEMENTWISE, apply_where)


def astype(node: Traced, dtype: Any) -> Any:
    """The node in another dtype: bool, integer, float32 or float64."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "buif":
        raise TypeError(f"derivatives are of real numbers: a traced value cannot have dtype {dtype}")
    if node.dtype == dtype:
        return node
    return elementwise_node(node.tracer, ASTYPE, (node,), dtype, False, {"dtype": dtype}, dtype)


def where(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where the condition holds, else ``b``."""
    trace = trace_of((condition, a, b))
    condition, a, b = (as_operand(trace, operand) for operand in (condition, a, b))
    _, dtype, weak = loop_of(np.add, kind_of(a), kind_of(b))
    nodes = (cast(trace, condition, BOOL), cast(trace, a, dtype, weak), cast(trace, b, dtype, weak))
    return elementwise_node(trace, WHERE, nodes, dtype, weak)


add, subtract, multiply, divide = map(ufunc_builder, (np.add, np.subtract, np.multiply, np.divide))
negative, absolute, sign, square, sqrt, cbrt = map(
    ufunc_builder, (np.negative, np.absolute, np.sign, np.square, np.sqrt, np.cbrt)
)
power, remainder, floor_divide, fmod = map(ufunc_builder, (np.power, np.remainder, np.floor_divide, np.fmod))
exp, exp2, expm1, log, log2, log10, log1p = map(
    ufunc_builder, (np.exp, np.exp2, np.expm1, np.log, np.log2, np.log10, np.log1p)
)
sin, cos, tan, arcsin, arccos, arctan = map(
    ufunc_builder, (np.sin, np.cos, np.tan, np.arcsin, np.arccos, np.arctan)
)
sinh, cosh, tanh, arcsinh, arccosh, arctanh = map(
    ufunc_builder, (np.sinh, np.cosh, np.tanh, np.arcsinh, np.arccosh, np.arctanh)
)
arctan2, hypot, logaddexp, logaddexp2, copysign = map(
    ufunc_builder, (np.arctan2, np.hypot, np.logaddexp, np.logaddexp2, np.copysign)
)
maximum, minimum, fmax, fmin = map(ufunc_builder, (np.maximum, np.minimum, np.fmax, np.fmin))
floor, ceil, trunc, rint, heaviside = map(ufunc_builder, (np.floor, np.ceil, np.trunc, np.rint, np.heaviside))
less, less_equal, greater, greater_equal, equal, not_equal = map(
    ufunc_builder, (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)
)
logical_and, logical_or, logical_xor, logical_not = map(
    ufunc_builder, (np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
)
bitwise_and, bitwise_or, bitwise_xor, invert = map(
    ufunc_builder, (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert)
)
isnan, isinf, isfinite, signbit = map(ufunc_builder, (np.isnan, np.isinf, np.isfinite, np.signbit))


# ---- shapes ----------------------------------------------------------------------------------------------------------


def call_node(
    primitive: Primitive, nodes: tuple[Traced, ...], shape: Shape, dtype: np.dtype[Any],
    attributes: dict[str, Any] | None = None,
) -> Any:
    """The node of a call; the same call of constants is done at once."""
    trace = nodes[0].tracer
    attributes = attributes or {}
    if all(node.value is not None for node in nodes):
        return trace.constant(evaluate(primitive, [node.value for node in nodes], attributes), dtype)
    key = tuple([repr(value) for value in attributes.values()])
    weak = primitive in KEEP_WEAK and nodes[0].weak
    return trace.make(primitive, nodes, shape, dtype, attributes, key, weak)


def apply_reshape(array: Any, shape: Shape) -> Any:
    return np.reshape(array, shape)


def apply_transpose(array: Any, axes: Axes) -> Any:
    return np.transpose(array, axes)


def apply_broadcast(array: Any, shape: Shape) -> Any:
    return np.broadcast_to(array, shape)


def apply_alias(array: Any) -> Any:
    return array


RESHAPE = Primitive("reshape", CALL, apply_reshape)
TRANSPOSE = Primitive("transpose", CALL, apply_transpose)
BROADCAST = Primitive("broadcast_to", CALL, apply_broadcast)
ALIAS = Primitive("alias", CALL, apply_alias)
STOP = Primitive("stop_gradient", CALL, apply_alias)
KEEP_WEAK = frozenset({RESHAPE, TRANSPOSE, BROADCAST, ALIAS, STOP})


def alias(node: Traced) -> Any:
    """A node that stands for another one: what an inner derivative is taken with respect to."""
    node.tracer.aliases += 1
    return node.tracer.make(
        ALIAS, (node,), node.shape, node.dtype, None, node.tracer.aliases, node.weak
    )


def stop_gradient(node: Traced) -> Any:
    """A node's value, held fixed in derivatives."""
    if node.value is not None:
        return node
    return node.tracer.make(STOP, (node,), node.shape, node.dtype, None, None, node.weak)


def reshape(node: Traced, shape: Shape) -> Any:
    """The elements in C order in another shape, all of whose lengths are known."""
    if shape == node.shape:
        return node
    if node.primitive is RESHAPE:
        node = node.inputs[0]
        if shape == node.shape:
            return node
    return call_node(RESHAPE, (node,), shape, node.dtype, {"shape": shape})


def transpose(node: Traced, axes: Axes) -> Any:
    """Axes in another order."""
    if axes == tuple(range(node.ndim)):
        return node
    if node.primitive is TRANSPOSE:
        inner = node.attributes["axes"]
        return transpose(node.inputs[0], tuple([inner[axis] for axis in axes]))
    shape = tuple([node.shape[axis] for axis in axes])
    return call_node(TRANSPOSE, (node,), shape, node.dtype, {"axes": axes})


def broadcast_to(node: Traced, shape: Shape) -> Any:
    """Repeated along new axes and axes of length one."""
    if shape == node.shape:
        return node
    if node.primitive is BROADCAST:
        node = node.inputs[0]
    if broadcast_shape(node.shape, shape) != shape:
        raise ValueError(f"a traced value of shape {node.shape} does not broadcast to {shape}")
    if node.value is not None:
        # A constant of one number stays one number.
        return node.tracer.make(BROADCAST, (node,), shape, node.dtype, {"shape": shape}, shape, node.weak)
    return call_node(BROADCAST, (node,), shape, node.dtype, {"shape": shape})


def zeros(like: Traced) -> Any:
    """Zeros of a node's shape and dtype."""
    return broadcast_to(like.tracer.constant(0.0, like.dtype), like.shape)


# ---- sums and products -----------------------------------------------------------------------------------------------


def apply_sum(array: Any, axis: Axes, keepdims: bool) -> Any:
    return np.sum(array, axis=axis, keepdims=keepdims)


SUM_PRIMITIVE = Primitive("sum", SUM, apply_sum)
MATMUL_PRIMITIVE = Primitive("matmul", MATMUL, np.matmul, np.matmul)


def reduced_shape(shape: Shape, axis: Axes, keepdims: bool) -> Shape:
    """The shape after a reduction over these axes."""
    if keepdims:
        return tuple([1 if i in axis else length for i, length in enumerate(shape)])
    return tuple([length for i, length in enumerate(shape) if i not in axis])


def sum_(node: Traced, axis: Axes, keepdims: bool = False) -> Any:
    """The sum over axes, sorted and not negative; of bools and integers in NumPy's dtype of such sums."""
    if not axis:
        return node
    if node.dtype.kind != "f":
        wide = np.add.reduce(np.zeros(1, node.dtype)).dtype
        node = astype(node, wide)
    shape = reduced_shape(node.shape, axis, keepdims)
    if node.primitive is BROADCAST and node.dtype.kind == "f":
        return sum_of_broadcast(node, axis, shape)
    if all(node.shape[i] == 1 for i in axis):
        return reshape(node, shape)
    attributes = {"axis": axis, "keepdims": keepdims}
    if node.value is not None:
        return node.tracer.constant(apply_sum(node.value, axis, keepdims), node.dtype)
    return node.tracer.make(SUM_PRIMITIVE, (node,), shape, node.dtype, attributes, (axis, keepdims), node.weak)


def sum_of_broadcast(node: Traced, axis: Axes, shape: Shape) -> Any:
    """Repeated elements are multiplied instead of added up."""
    bare = node.inputs[0]
    lengths = (1,) * (node.ndim - bare.ndim) + bare.shape
    repeated = [i for i in axis if lengths[i] != node.shape[i]]
    rest = tuple([i for i in axis if i not in repeated])
    count = math.prod(node.shape[i] for i in repeated)
    inner = sum_(reshape(bare, lengths), rest, keepdims=True)
    kept = tuple([1 if i in axis else length for i, length in enumerate(node.shape)])
    return reshape(broadcast_to(inner * float(count), kept), shape)


def matmul2(a: Traced, b: Traced) -> Any:
    """NumPy's matmul of nodes of two and more dimensions."""
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul of shapes {a.shape} and {b.shape}: {a.shape[-1]} columns meet {b.shape[-2]} rows")
    dtypes, dtype, weak = loop_of(np.matmul, a.kind, b.kind)
    a, b = (node if node.dtype == needed else astype(node, needed) for node, needed in zip((a, b), dtypes, strict=True))
    shape = (*broadcast_shape(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    if a.value is not None and b.value is not None:
        return a.tracer.constant(np.matmul(a.value, b.value), dtype)
    return a.tracer.make(MATMUL_PRIMITIVE, (a, b), shape, dtype, None, None, weak)


# ---- indexing --------------------------------------------------------------------------------------------------------


class Slot:
    """Where an index array stands in a pattern."""

    def __repr__(self) -> str:
        return "Slot"


SLOT = Slot()


def filled(pattern: tuple[Any, ...], indices: tuple[Any, ...]) -> tuple[Any, ...]:
    """The key of a pattern and its index arrays."""
    rest = iter(indices)
    return tuple([next(rest) if item is SLOT else item for item in pattern])


def apply_index(array: Any, *indices: Any, pattern: tuple[Any, ...]) -> Any:
    return array[filled(pattern, indices)]


def apply_scatter(array: Any, *indices: Any, pattern: tuple[Any, ...], shape: Shape) -> Any:
    """Zeros with `array` added at a key: the transpose of indexing."""
    out = np.zeros(shape, array.dtype)
    if indices:
        np.add.at(out, filled(pattern, indices), array)
    else:
        out[pattern] = array
    return out


def apply_concatenate(*arrays: Any, axis: int) -> Any:
    return np.concatenate(arrays, axis)


INDEX = Primitive("index", CALL, apply_index)
SCATTER = Primitive("scatter", CALL, apply_scatter)
CONCATENATE = Primitive("concatenate", CALL, apply_concatenate)


def index(node: Traced, pattern: tuple[Any, ...], indices: tuple[Traced, ...] = ()) -> Any:
    """Elements at a key: a pattern of slices, integers, None, and slots for integer arrays.

    The shape is found by indexing an array without memory.
    """
    model = np.broadcast_to(np.zeros((), np.bool_), node.shape)
    dummies = tuple([np.zeros(i.shape, np.intp) if i.value is None else i.value for i in indices])
    shape = model[filled(pattern, dummies)].shape
    return call_node(INDEX, (node, *indices), shape, node.dtype, {"pattern": pattern})


def scatter(node: Traced, pattern: tuple[Any, ...], indices: tuple[Traced, ...], shape: Shape) -> Any:
    """Zeros of this shape, to which the elements of `node` are added at the key."""
    return call_node(SCATTER, (node, *indices), shape, node.dtype, {"pattern": pattern, "shape": shape})


def concatenate(nodes: Sequence[Traced], axis: int) -> Any:
    """Nodes of one dtype and number of dimensions end to end."""
    first = nodes[0]
    for node in nodes:
        if node.shape[:axis] + node.shape[axis + 1:] != first.shape[:axis] + first.shape[axis + 1:]:
            raise ValueError(f"concatenate along axis {axis} of shapes {', '.join(str(n.shape) for n in nodes)}")
    shape = (*first.shape[:axis], sum(node.shape[axis] for node in nodes), *first.shape[axis + 1:])
    return call_node(CONCATENATE, tuple(nodes), shape, first.dtype, {"axis": axis})


# ---- order -----------------------------------------------------------------------------------------------------------


def apply_cumsum(array: Any, axis: int) -> Any:
    return np.cumsum(array, axis)


CUMSUM = Primitive("cumsum", CALL, apply_cumsum)


def cumsum(node: Traced, axis: int) -> Any:
    """Sums of the elements up to each along an axis."""
    return call_node(CUMSUM, (node,), node.shape, node.dtype, {"axis": axis})


def flip(node: Traced, axis: int) -> Any:
    """An axis in reverse."""
    return index(node, (*(slice(None),) * axis, slice(None, None, -1)))


def apply_max(array: Any, axis: Axes, keepdims: bool) -> Any:
    return np.max(array, axis=axis, keepdims=keepdims)


def apply_min(array: Any, axis: Axes, keepdims: bool) -> Any:
    return np.min(array, axis=axis, keepdims=keepdims)


MAX = Primitive("max", CALL, apply_max)
MIN = Primitive("min", CALL, apply_min)


def extreme(primitive: Primitive, node: Traced, axis: Axes, keepdims: bool) -> Any:
    """The largest or smallest element over axes."""
    if not axis:
        return node
    if any(node.shape[i] == 0 for i in axis):
        raise ValueError(f"{primitive.name} over axes {axis} of shape {node.shape}: there is no element")
    shape = reduced_shape(node.shape, axis, keepdims)
    return call_node(primitive, (node,), shape, node.dtype, {"axis": axis, "keepdims": keepdims})


def apply_whole(*arrays: Any, function: Callable[..., Any], arguments: tuple[tuple[str, Any], ...]) -> Any:
    return function(*arrays, **dict(arguments))


WHOLE = Primitive("numpy", CALL, apply_whole)


def without_derivative(function: Callable[..., Any], *operands: Any, **arguments: Any) -> Any:
    """A NumPy function whose result is integers or bools, and has no derivative: argmax, argsort, searchsorted ..."""
    for name, value in arguments.items():
        if isinstance(value, (np.ndarray, list)):
            raise TypeError(f"{full_name(function)} of a traced value takes no array as {name}=")
    trace = trace_of(operands)
    nodes = tuple([trace.node_of(operand) for operand in operands])
    model = function(*(np.zeros(node.shape, node.dtype) for node in nodes), **arguments)
    return call_node(
        WHOLE, nodes, np.shape(model), np.asarray(model).dtype,
        {"function": function, "arguments": tuple(arguments.items())},
    )


def again(node: Traced, inputs: tuple[Traced, ...]) -> Any:
    """The operation of a node on other inputs of the same shapes."""
    primitive, trace = node.primitive, node.tracer
    if primitive.kind == ELEMENTWISE:
        key = node.attributes.get("dtype")
        return elementwise_node(trace, primitive, inputs, node.dtype, node.weak, node.attributes, key)
    if primitive is RESHAPE:
        return reshape(inputs[0], node.shape)
    if primitive is TRANSPOSE:
        return transpose(inputs[0], node.attributes["axes"])
    if primitive is BROADCAST:
        return broadcast_to(inputs[0], node.shape)
    if primitive is SUM_PRIMITIVE:
        return sum_(inputs[0], **node.attributes)
    if primitive is MATMUL_PRIMITIVE:
        return matmul2(*inputs)
    if primitive is STOP:
        return stop_gradient(inputs[0])
    return call_node(primitive, inputs, node.shape, node.dtype, node.attributes)
