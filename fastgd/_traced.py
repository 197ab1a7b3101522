"""Traced values: nodes of a graph that behave as NumPy's arrays do, so that plain NumPy functions write graphs.

A function is called with traced values in place of its arguments. They know shape and dtype alone; each operation on
them makes a node, and nothing is computed until somebody looks: a branch (``if x > 0``) evaluates what it depends on.

Two things happen while nodes are made: equal operations on equal operands become one node (common subexpressions), and
`fastgd._simplify` replaces operations by cheaper ones of the same value. What NumPy's functions mean here stands in
`fastgd._primitives` and `fastgd._functions`, which enter themselves into the tables `UFUNCS` and `FUNCTIONS`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from fastgd._graph import CONSTANT, INPUT, Node, Primitive
from fastgd.errors import TraceError

__all__ = ["FUNCTIONS", "UFUNCS", "Trace", "Traced", "active_trace", "is_constant", "refuse_unsupported"]

#: What a NumPy function means on traced values: handlers take the function's own arguments.
UFUNCS: dict[np.ufunc, Callable[..., Any]] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
#: Functions whose results are bools, integers, or depend on shapes alone.
VALUES_ONLY: set[Any] = set()
#: ufuncs' methods, such as (np.logaddexp, "reduce").
UFUNC_METHODS: dict[tuple[np.ufunc, str], Callable[..., Any]] = {}

INPUT_PRIMITIVE = Primitive("input", INPUT)
CONSTANT_PRIMITIVE = Primitive("constant", CONSTANT)
FLOAT64, BOOL = np.dtype(np.float64), np.dtype(np.bool_)
#: Arrays of at most so many bytes are copied when they enter a graph: code may write into its arrays as it goes on.
COPIED_BYTES = 1 << 16
#: Arrays of at most so many bytes are one node if they are equal.
COMPARED_BYTES = 256

#: Operations whose operands may be exchanged.
COMMUTATIVE = frozenset({"add", "multiply", "maximum", "minimum", "equal", "not_equal", "hypot", "logaddexp"})

_local = threading.local()


def active_trace() -> Trace | None:
    """The trace that this thread is in the middle of."""
    return getattr(_local, "trace", None)


class Trace:
    """One run of a function on traced values: its nodes, and how its inputs' values are looked at.

    Parameters
    ----------
    fixed : bool
        The graph is to be run on other inputs later, so that looking at a value is an error.

    Attributes
    ----------
    simplifies : bool
        Whether operations are replaced by cheaper ones; what is to be read keeps those that were written.
    """

    __slots__ = ("_outer", "aliases", "ended", "fixed", "held", "nodes", "powers", "simplifies", "values")

    def __init__(self, fixed: bool = False) -> None:
        self.fixed = fixed
        self.ended = False
        self.simplifies = True
        self.aliases = 0        # nodes that stand for another one, until `_simplify.finished`
        self.powers = False     # whether there are powers that will become products
        self.nodes: dict[Any, Traced] = {}      # by what makes them
        self.values: dict[int, Any] = {}        # by id: of inputs, and of what was looked at
        self.held: list[tuple[np.ndarray, bytes]] = []      # large arrays, and samples of what they held

    def __enter__(self) -> Trace:
        self._outer = active_trace()
        _local.trace = self
        return self

    def __exit__(self, *error: object) -> None:
        _local.trace = self._outer
        self.ended = True
        self.nodes, self.values, self.held = {}, {}, []     # nodes know their trace: no cycle stays behind

    def make(
        self, primitive: Primitive, inputs: tuple[Traced, ...], shape: tuple[int, ...], dtype: np.dtype[Any],
        attributes: dict[str, Any] | None = None, key: Any = None, weak: bool = False,
    ) -> Traced:
        """The node of this operation: a new one, unless there is one already. `key` stands for the attributes."""
        if self.ended:
            refuse_leaked()
        if primitive.name in COMMUTATIVE:
            identity = (primitive, weak, *sorted(map(id, inputs)))
        else:
            identity = (primitive, key, weak, *map(id, inputs))
        node = self.nodes.get(identity)
        if node is None:
            node = self.nodes[identity] = Traced(primitive, inputs, shape, dtype, attributes, None, self, weak)
        return node

    def input(self, value: Any, weak: bool = False) -> Traced:
        """An input of the value's shape and dtype."""
        node = Traced(INPUT_PRIMITIVE, (), value.shape, value.dtype, None, None, self, weak)
        self.nodes["input", id(node)] = node
        self.values[id(node)] = value
        return node

    def number(self, value: float, dtype: np.dtype[Any], weak: bool) -> Traced:
        """A Python number in this dtype."""
        kind = "float" if weak else dtype.char
        key = (value, kind, math.copysign(1.0, value)) if value == 0 else (value, kind)
        node = self.nodes.get(key)
        if node is None:
            node = self.nodes[key] = self.constant(value, dtype, weak)
        return node

    def constant(self, value: Any, dtype: np.dtype[Any] | None = None, weak: bool = False) -> Traced:
        """A node that holds this value: a copy, unless it is large."""
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError("a traced value meets a masked array; fill or drop the masked entries first")
        array = np.asarray(value, dtype)
        if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
            raise TypeError(f"a traced value meets an array of dtype {array.dtype}; derivatives are of real numbers, "
                            "float64 at most")
        if self.ended:
            refuse_leaked()
        small = array.nbytes <= COPIED_BYTES
        key: Any = (CONSTANT, array.dtype.char, array.shape, weak, array.tobytes()) if array.nbytes <= COMPARED_BYTES \
            else (CONSTANT, id(array), weak)
        node = None if small and array.nbytes > COMPARED_BYTES else self.nodes.get(key)
        if node is None:
            held = array.copy() if small else array
            if not small:
                self.held.append((array, sample_of(array)))
            node = Traced(CONSTANT_PRIMITIVE, (), array.shape, array.dtype, None, held, self, weak)
            self.nodes[key] = node
        return node

    def check_held(self) -> None:
        """Refuse what was computed from a large array that the function has written into since it used it."""
        for array, sample in self.held:
            if sample_of(array) != sample:
                raise TraceError(
                    f"an array of shape {array.shape} was written into after the function had used it, and before the "
                    "results were computed: use a copy, or make a new array in each turn"
                )

    def node_of(self, value: Any, weak_dtype: np.dtype[Any] = FLOAT64) -> Traced:
        """`value` as a node: a traced value itself, anything else as a constant; Python floats of `weak_dtype`."""
        if isinstance(value, Traced):
            if value.tracer is not self:
                refuse_leaked()
            return value
        if type(value) in (int, float):
            return self.constant(float(value), weak_dtype, weak=True)
        if isinstance(value, (list, tuple)) and holds_traced(value):
            return FUNCTIONS[np.array](value)
        return self.constant(value)

    def look(self, node: Traced, what: str) -> Any:
        """The value of a node, for code that cannot go on without it."""
        if self.ended:
            refuse_leaked()
        if self.fixed and not is_constant(node):
            raise TraceError(
                f"{what} depends on a value, and a compiled function has one fixed sequence of operations: use "
                "np.where instead of a branch, pass what decides as an int, bool or str, or do not compile"
            )
        return self.value(node)

    def value(self, node: Traced) -> Any:
        """The value of a node, and of all that it depends on, kept for the next time."""
        values = self.values
        stack: list[Traced] = [node]
        while stack:
            last = stack[-1]
            missing = [source for source in last.inputs if id(source) not in values]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if id(last) not in values:
                values[id(last)] = value_of(last, [values[id(source)] for source in last.inputs])
        return values[id(node)]


def sample_of(array: np.ndarray) -> bytes:
    """Some 64 elements from all over an array, as bytes."""
    lengths = [max(1, round(n ** (1 - 6 / max(array.size, 2).bit_length()))) for n in array.shape]
    return array[tuple([slice(None, None, step) for step in lengths])].tobytes()


def value_of(node: Node, values: Sequence[Any]) -> Any:
    """A node's value from those of its inputs."""
    if node.primitive.apply is None:
        if node.primitive.kind == INPUT:
            refuse_leaked()
        return node.value
    return node.primitive.apply(*values, **node.attributes)


def refuse_leaked() -> NoReturn:
    raise TraceError(
        "a traced value is used outside the call that it was traced in; a function that is differentiated must return "
        "its results, and not keep them elsewhere (or use them in another thread)"
    )


def refuse_unsupported(name: str, why: str = "") -> NoReturn:
    raise TypeError(f"fastgd has no derivative of {name}{': ' + why if why else ''}")


def is_constant(node: Node) -> bool:
    return node.primitive is CONSTANT_PRIMITIVE


def holds_traced(values: Any) -> bool:
    """Whether a (nested) list or tuple holds a traced value."""
    return any(
        isinstance(value, Traced) or (isinstance(value, (list, tuple)) and holds_traced(value)) for value in values
    )


def full_name(function: Any) -> str:
    """A NumPy function's name as a user writes it."""
    name = getattr(function, "__name__", repr(function))
    if isinstance(function, np.ufunc):
        return f"np.{name}" if getattr(np, name, None) is function else f"the ufunc {name}"
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module.replace('numpy', 'np', 1)}.{name}" if module.startswith("numpy") else f"{module}.{name}"


class Traced(Node):
    """A value of a function that is being traced: it has a shape and a dtype, and takes part in NumPy's operations.

    ``weak`` values came from Python's numbers alone and take on the dtype of what they meet, as those do.
    """

    __slots__ = ("kind", "tracer", "weak")
    __hash__ = object.__hash__

    if TYPE_CHECKING:       # operators and methods are attached below
        inputs: tuple[Traced, ...]

        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __sub__(self, other: Any) -> Any: ...
        def __rsub__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __rmul__(self, other: Any) -> Any: ...
        def __truediv__(self, other: Any) -> Any: ...
        def __rtruediv__(self, other: Any) -> Any: ...
        def __pow__(self, other: Any) -> Any: ...

    def __init__(
        self, primitive: Primitive, inputs: tuple[Traced, ...], shape: tuple[int, ...], dtype: np.dtype[Any],
        attributes: dict[str, Any] | None, value: np.ndarray | None, trace: Trace, weak: bool,
    ) -> None:
        self.primitive, self.inputs, self.shape, self.dtype = primitive, inputs, shape, dtype
        self.attributes, self.value, self.tracer, self.weak = attributes or {}, value, trace, weak
        self.kind = "float" if weak else dtype.char

    # ---- NumPy's protocols ------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        handler = UFUNCS.get(ufunc) if method == "__call__" else UFUNC_METHODS.get((ufunc, method))
        if handler is None and method == "__call__":
            handler = FUNCTIONS["other ufunc"](ufunc)
        if handler is None:
            refuse_unsupported(full_name(ufunc) + ("" if method == "__call__" else f".{method}"))
        if options:
            if options.get("out") is not None:
                raise TypeError(f"np.{ufunc.__name__} writes into an array (out=, or an operator such as +=), and a "
                                "traced value cannot be written there; write y = y + x instead of y += x")
            if method == "__call__":
                raise TypeError(f"np.{ufunc.__name__} of a traced value takes no {', '.join(options)}")
        return handler(*inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        handler = FUNCTIONS.get(function)
        if handler is None:
            refuse_unsupported(full_name(function))
        if kwargs.get("out") is not None:
            raise TypeError(f"{full_name(function)} of a traced value takes no out=")
        return handler(*args, **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "a traced value cannot become an array of numbers: build arrays of traced values by np.stack or "
            "np.concatenate instead of np.array or np.asarray, and in place of x[i] = v use np.where or np.concatenate"
        )

    # ---- what it looks like -----------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def T(self) -> Any:
        return FUNCTIONS[np.transpose](self)

    @property
    def mT(self) -> Any:
        return FUNCTIONS[np.swapaxes](self, -1, -2)

    @property
    def real(self) -> Traced:
        return self

    @property
    def flat(self) -> Any:
        return iter(FUNCTIONS[np.ravel](self))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a traced value without dimensions")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise TypeError("a traced value without dimensions cannot be iterated over")
        return (self[i] for i in range(self.shape[0]))

    def __getitem__(self, key: Any) -> Any:
        return FUNCTIONS["index"](self, key)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError("a traced value cannot be written into (x[i] = v): use np.where or np.concatenate")

    def __contains__(self, value: Any) -> bool:
        return bool(FUNCTIONS[np.any](self == value))

    def __repr__(self) -> str:
        if self.tracer.ended or self.tracer.fixed:
            return f"Traced(shape={self.shape}, dtype={self.dtype})"
        return f"Traced({self.tracer.look(self, 'repr')!r})"

    def __str__(self) -> str:
        return repr(self) if self.tracer.ended or self.tracer.fixed else str(self.tracer.look(self, "str"))

    def __format__(self, spec: str) -> str:
        if self.tracer.ended or self.tracer.fixed:
            return repr(self)
        value = self.tracer.look(self, "format")
        return format(value.item() if not self.shape else value, spec)

    # ---- looking at values ------------------------------------------------------------------------------------------

    def _only_value(self, what: str) -> Any:
        if self.size != 1:
            if what == "a branch":
                raise ValueError(f"the truth value of a traced array of shape {self.shape} is ambiguous: use np.any "
                                 "or np.all")
            raise TypeError(f"{what} takes a traced value of one element, got shape {self.shape}")
        return self.tracer.look(self, what).item()

    def __bool__(self) -> bool:
        return bool(self._only_value("a branch"))

    def __int__(self) -> int:
        return int(self._only_value("int()"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError("a traced value of floats cannot be an index")
        return int(self._only_value("an index"))

    def __round__(self, digits: int | None = None) -> Any:
        value = self._only_value("round()")
        return round(value, digits)

    def __float__(self) -> float:
        if self.dtype.kind == "f":
            raise TypeError(
                "float() or a function of Python's math would cut the derivative here: use NumPy's function (np.sin "
                "instead of math.sin); to see a value, print it"
            )
        return float(self._only_value("float()"))

    def __complex__(self) -> NoReturn:
        raise TypeError("derivatives are of real numbers, and complex() makes a traced value complex")

    def item(self, *args: Any) -> Any:
        """The only element, still traced, so that derivatives go through."""
        if args:
            return self[args[0] if len(args) == 1 else args] if len(args) > 1 else FUNCTIONS[np.ravel](self)[args[0]]
        if self.size != 1:
            raise ValueError(f"item() takes a traced value of one element, got shape {self.shape}")
        return FUNCTIONS[np.reshape](self, ())

    def tolist(self) -> Any:
        """Nested lists of traced elements."""
        return [element.tolist() for element in self] if self.shape else self

    # ---- operators --------------------------------------------------------------------------------------------------

    def __neg__(self) -> Any:
        return UFUNCS[np.negative](self)

    def __pos__(self) -> Traced:
        return self

    def __abs__(self) -> Any:
        return UFUNCS[np.absolute](self)

    def __invert__(self) -> Any:
        return UFUNCS[np.invert](self)


def binary(build: Callable[[Any, Any], Any]) -> Any:
    """A binary operator, as a method."""
    return lambda self, other: build(self, other)


def swapped(build: Callable[[Any, Any], Any]) -> Any:
    """A binary operator with its operands exchanged, for the right-hand one's method."""
    return lambda self, other: build(other, self)


def equality(build: Callable[[Any, Any], Any], unlike: bool) -> Any:
    """``==`` and ``!=``, which compare with anything: what is no number is unlike all numbers, as in NumPy."""

    def compare(self: Traced, other: Any) -> Any:
        if other is None or isinstance(other, str):
            return np.full(self.shape, unlike) if self.shape else unlike
        return build(self, other)

    return compare


def method(handler: Callable[..., Any], name: str) -> Any:
    """What a NumPy function means, as the method of the same name."""

    def call(self: Traced, *args: Any, **kwargs: Any) -> Any:
        return handler(self, *args, **kwargs)

    call.__doc__ = f"ndarray's method {name}, on a traced value."
    return call


#: Python's names of operators: (name, ufunc).
OPERATORS: tuple[tuple[str, Any], ...] = (
    ("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("truediv", np.true_divide), ("pow", "power operator"),
    ("matmul", np.matmul), ("mod", np.remainder), ("floordiv", np.floor_divide), ("and", np.bitwise_and),
    ("or", np.bitwise_or), ("xor", np.bitwise_xor),
)
METHODS = (
    np.sum, np.mean, np.prod, np.max, np.min, np.var, np.std, np.cumsum, np.cumprod, np.dot, np.swapaxes, np.squeeze,
    np.ravel, np.repeat, np.take, np.trace, np.diagonal, np.clip, np.argmax, np.argmin, np.argsort, np.any, np.all,
    np.nonzero, np.round, np.searchsorted,
    "reshape", "transpose", "astype", "copy", "flatten", "conj", "conjugate", "fill", "sort",
)


def attach_operators() -> None:
    """Give `Traced` the operators and methods of arrays, once `UFUNCS` and `FUNCTIONS` are filled."""
    for name, ufunc in OPERATORS:
        setattr(Traced, f"__{name}__", binary(UFUNCS[ufunc]))
        setattr(Traced, f"__r{name}__", swapped(UFUNCS[ufunc]))
    for name, ufunc in (("lt", np.less), ("le", np.less_equal), ("gt", np.greater), ("ge", np.greater_equal)):
        setattr(Traced, f"__{name}__", binary(UFUNCS[ufunc]))
    for name, ufunc in (("eq", np.equal), ("ne", np.not_equal)):
        setattr(Traced, f"__{name}__", equality(UFUNCS[ufunc], name == "ne"))
    for function in METHODS:
        name = function if isinstance(function, str) else function.__name__
        setattr(Traced, name, method(FUNCTIONS.get(f"ndarray.{name}") or FUNCTIONS[function], name))
