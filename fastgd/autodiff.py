"""The chain rule: derivatives of plain Python and NumPy functions.

    dz/dx = dz/dy · dy/dx

``grad(f)`` is a function of f's arguments. When it is called, f runs once on traced values, which write down what is
done to them; the chain rule turns that into a graph of the derivative, which is simplified and then computed. Branches
and loops of Python go by the values of this call. ``compile`` keeps the graph for further calls.

>>> import fastgd as fg
>>> fg.derivative(lambda x: (3*x**2 + 2*x + 1)**2)(2.0)
476.0

What NumPy's functions mean to derivatives, and where they have none, is listed in the documentation; all others raise a
TypeError with their name. NaN and infinities go through as in NumPy. Results of no dimensions are Python floats.

Notes
-----
Arguments with respect to which is derived are Python numbers, float32 or float64 arrays, and nested lists, tuples and
dicts of these. Python's integers count as floats; integer arrays are refused, since their gradient could not be added
to them. Large arrays that a function finds outside its arguments (more than 64 KiB; small ones are copied) are read
when the result is computed: a function must not write into them after it has used them.

In place of a function a SymPy expression is taken: of its symbols one by one, in the order of their names, or of one
array of them. ``sympy.Lambda((y, x), expression)`` has an order of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastgd import _linear_algebra  # noqa: F401  (enters the meanings of NumPy's functions)
from fastgd import _primitives as p
from fastgd import _validation as validate
from fastgd._check import Check, is_float
from fastgd._compiled import Compiled, as_result, compute, is_weak
from fastgd._sympy import as_function, is_sympy
from fastgd._traced import Trace, Traced, active_trace, attach_operators, refuse_leaked
from fastgd._transform import (
    depends_on_inputs,
    elementwise_in,
    pull_back,
    push_forward,
)
from fastgd._trees import leaves_of, named_leaves, rebuild, structure_of

__all__ = ["check_grads", "compile", "derivative", "grad", "hessp", "jacobian", "value_and_grad"]

Function = Callable[..., Any]

attach_operators()

# ---- arguments and results -------------------------------------------------------------------------------------------


def as_variable(value: Any, name: str) -> Any:
    """A leaf of an argument with respect to which is derived, as an array; a traced value as it is."""
    if isinstance(value, Traced):
        if value.dtype.kind != "f":
            raise TypeError(f"{name} must hold floats to have a derivative, got dtype {value.dtype}")
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return np.asarray(value, np.float64 if not isinstance(value, np.generic) else None)
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill or drop the masked entries first")
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype not in (np.float32, np.float64) or not value.dtype.isnative:
            raise TypeError(f"{name} must be float32 or float64 to have a derivative, got dtype {value.dtype}; "
                            f"use {name}.astype(float)")
        return np.asarray(value)
    raise TypeError(f"{name} must be a number, an array, or a list, tuple or dict of these, got {type(value).__name__}")


def positions_of(argnums: int | Sequence[int], n_args: int) -> tuple[int, ...]:
    """Which arguments are derived with respect to."""
    given = tuple(argnums) if isinstance(argnums, (tuple, list)) else (argnums,)
    for i in given:
        if not isinstance(i, (int, np.integer)) or isinstance(i, bool):
            raise TypeError(f"argnums must be an int or a sequence of ints, got {argnums!r}")
        if not -n_args <= i < n_args:
            raise ValueError(f"argnums={argnums!r}, but the function was called with {n_args} positional arguments")
    return tuple(int(i) % n_args for i in given)


def as_callable(f: Any) -> Function:
    """A function as it is, and a SymPy expression as one of its symbols."""
    if is_sympy(f):
        return as_function(f)
    if not callable(f):
        raise TypeError(f"f must be a function or a SymPy expression, got {f!r}")
    return f


def called(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


Body = Callable[[list[Any], list[Traced]], Any]


def evaluate(name: str, args: Sequence[Any], positions: Sequence[int], body: Body) -> Any:
    """Trace `body`, and compute what it returns.

    Parameters
    ----------
    name : str
        Of the function, for messages.
    args : sequence
        Its positional arguments.
    positions : sequence of int
        The arguments with respect to which is derived.
    body : callable
        ``body(args, variables)``, of the arguments with traced leaves at those positions, and a list of these leaves;
        returns a nested structure of traced results.
    """
    named = [leaf for i in positions for leaf in named_leaves(args[i], f"argument {i} of {name}")]
    values = [as_variable(leaf, of) for of, leaf in named]
    outer = active_trace()
    if outer is not None:
        return evaluate_inside(outer, args, positions, body, values, [is_weak(leaf) for _, leaf in named])
    if any(isinstance(value, Traced) for value in values):
        refuse_leaked()
    with Trace() as trace:
        nodes = [trace.input(value, is_weak(leaf)) for value, (_, leaf) in zip(values, named, strict=True)]
        results = body(with_leaves(args, positions, nodes), nodes)
        leaves = leaves_of(results)
        return rebuild(results, compute(trace, nodes, values, leaves))


def evaluate_inside(
    trace: Trace, args: Sequence[Any], positions: Sequence[int], body: Body, values: Sequence[Any],
    weak: Sequence[bool],
) -> Any:
    """A derivative within a function that is being traced itself: it becomes a part of that function's graph.

    What is derived with respect to is an alias of the argument, since the argument may also reach the inner function
    from outside, where it counts as fixed. Results that no traced value went into are computed.
    """
    nodes = [
        p.alias(value if isinstance(value, Traced) else trace.constant(value, weak=flag))
        for value, flag in zip(values, weak, strict=True)
    ]
    results = body(with_leaves(args, positions, nodes), nodes)
    leaves = leaves_of(results)
    if not any(isinstance(value, Traced) for value in values) and not any(
        isinstance(leaf, Traced) and depends_on_inputs(leaf) for leaf in leaves
    ):
        leaves = [as_result(np.array(trace.value(leaf))) if isinstance(leaf, Traced) else leaf for leaf in leaves]
    return rebuild(results, leaves)


def with_leaves(args: Sequence[Any], positions: Sequence[int], nodes: Sequence[Traced]) -> list[Any]:
    """The arguments with traced leaves at some positions."""
    out = list(args)
    rest = iter(nodes)
    for i in positions:
        out[i] = rebuild(args[i], rest)
    return out


# ---- derivatives -----------------------------------------------------------------------------------------------------


def as_output(value: Any, trace: Trace, what: str) -> Traced:
    """What a function returned, as a node of floats."""
    if isinstance(value, (list, tuple, dict)) or value is None:
        raise TypeError(f"{what} must return a number or an array, got {type(value).__name__}")
    node = trace.node_of(value)
    return node if node.dtype.kind == "f" else p.astype(node, np.float64)


def as_scalar(value: Any, trace: Trace, name: str) -> Traced:
    """What a function returned, as a node without dimensions."""
    node = as_output(value, trace, name)
    if node.shape:
        raise TypeError(
            f"{name} must return a number to have a gradient, got shape {node.shape}; for the derivatives of all its "
            "elements use jacobian, or sum them"
        )
    return node


def one(node: Traced) -> Any:
    """1 of the dtype of a node without dimensions."""
    return node.tracer.constant(1.0, node.dtype, node.weak)


def dense(gradient: Any, node: Traced) -> Any:
    """A gradient or tangent that may be None for zero, as a node of the shape and dtype of `node`."""
    return p.zeros(node) if gradient is None else p.broadcast_to(gradient, node.shape)


def gradient_nodes(output: Traced, variables: Sequence[Traced]) -> list[Any]:
    """The gradient of a number with respect to variables."""
    gradients = pull_back((output,), (one(output),), variables)
    return [dense(g, node) for g, node in zip(gradients, variables, strict=True)]


def gradient_tree(
    argnums: int | Sequence[int], args: Sequence[Any], positions: Sequence[int], gradients: Sequence[Any]
) -> Any:
    """Gradients in the structure of the arguments: of one argument, or a tuple for several."""
    rest = iter(gradients)
    trees = tuple([rebuild(args[i], rest) for i in positions])
    return trees[0] if isinstance(argnums, (int, np.integer)) else trees


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns f's value and its gradient: ``(f(x), ∇f(x))``, both computed at once.

    Parameters
    ----------
    f : callable
        Returns a number. Plain Python and NumPy.
    argnums : int or sequence of int, default 0
        The positional arguments with respect to which is derived.

    Returns
    -------
    callable
        Takes the arguments of f, returns (value, gradient). The gradient has the structure and shapes of the argument:
        of a dict of arrays it is a dict of arrays; for several `argnums` it is a tuple.

    Raises
    ------
    TypeError
        When called: if f returns an array, if an argument is none that can be derived with respect to, or if f uses an
        operation that has no derivative here.

    Notes
    -----
    Reverse mode: the cost is a small multiple of f's, whatever the number of inputs (Baur and Strassen 1983; Griewank
    and Walther, "Evaluating Derivatives", chapter 4).

    Examples
    --------
    >>> import numpy as np
    >>> value_and_grad(lambda w: np.sum(w**2))(np.array([1.0, 2.0]))
    (5.0, array([2., 4.]))
    """
    f = as_callable(f)
    name = called(f)

    @functools.wraps(f)
    def with_gradient(*args: Any, **kwargs: Any) -> Any:
        positions = positions_of(argnums, len(args))

        def body(traced: list[Any], variables: list[Traced]) -> Any:
            output = as_scalar(f(*traced, **kwargs), current_trace(), name)
            return output, gradient_tree(argnums, args, positions, gradient_nodes(output, variables))

        return evaluate(name, args, positions, body)

    return with_gradient


def current_trace() -> Trace:
    trace = active_trace()
    assert trace is not None
    return trace


def grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns f's gradient ∇f(x).

    Parameters
    ----------
    f : callable
        Returns a number. Plain Python and NumPy.
    argnums : int or sequence of int, default 0
        The positional arguments with respect to which is derived.

    Returns
    -------
    callable
        Takes the arguments of f, returns the gradient as `value_and_grad` does.

    Raises
    ------
    TypeError
        As of `value_and_grad`.

    Examples
    --------
    >>> grad(lambda x, y: x * y**2, argnums=(0, 1))(2.0, 3.0)
    (9.0, 12.0)
    """
    f = as_callable(f)
    name = called(f)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        positions = positions_of(argnums, len(args))

        def body(traced: list[Any], variables: list[Traced]) -> Any:
            output = as_scalar(f(*traced, **kwargs), current_trace(), name)
            return gradient_tree(argnums, args, positions, gradient_nodes(output, variables))

        return evaluate(name, args, positions, body)

    return gradient


def derivative(f: Function) -> Function:
    """A function that returns the derivative f′(x) with respect to the first argument, a number.

    Parameters
    ----------
    f : callable
        Of a number; returns a number or an array. If its first argument is an array, each element of f's result must
        depend on the same element of x alone, and the derivative is taken element by element.

    Returns
    -------
    callable
        Takes the arguments of f. Higher derivatives by nesting: ``derivative(derivative(f))``.

    Raises
    ------
    TypeError
        When called with an array, if f mixes elements: use `grad` or `jacobian`.

    Notes
    -----
    Forward mode: one pass along with f.

    Examples
    --------
    >>> derivative(lambda x: (3*x**2 + 2*x + 1)**2)(2.0)
    476.0
    """
    f = as_callable(f)
    name = called(f)

    @functools.wraps(f)
    def derived(*args: Any, **kwargs: Any) -> Any:
        positions = positions_of(0, len(args))
        if isinstance(args[0], (list, tuple, dict)):
            raise TypeError(f"derivative is with respect to a number or an array, got {type(args[0]).__name__}; "
                            "use grad")

        def body(traced: list[Any], variables: list[Traced]) -> Any:
            (x,) = variables
            output = as_output(f(*traced, **kwargs), current_trace(), name)
            if x.shape and not elementwise_in(output, x):
                raise TypeError(
                    f"{name} of an array of shape {x.shape} mixes its elements, and its derivative is no array of that "
                    "shape; use grad if it returns a number, else jacobian"
                )
            seed = p.broadcast_to(one(x), x.shape)
            return dense(push_forward((output,), (x,), (seed,))[0], output)

        return evaluate(name, args, positions, body)

    return derived


def hessp(f: Function) -> Function:
    r"""A function (x, v, \*args) that returns the product ∇²f(x) v of the Hessian and a direction.

    Parameters
    ----------
    f : callable
        Of x and further arguments; returns a number.

    Returns
    -------
    callable
        ``hessp(f)(x, v, *args)``: x and v of one structure and one shape, as is the result. This is the order of
        arguments of scipy.optimize.minimize's `hessp`.

    Raises
    ------
    TypeError, ValueError
        As `grad`; if v has not the structure and the shapes of x.

    Notes
    -----
    Forward over reverse: the derivative of ∇f along v, at a small multiple of f's cost, without the Hessian
    (Pearlmutter, "Fast exact multiplication by the Hessian", 1994).

    Examples
    --------
    >>> hessp(lambda x: x[0]**2 * x[1])(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([4., 2.])
    """
    f = as_callable(f)
    name = called(f)

    @functools.wraps(f)
    def product(x: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        check_alike(x, v)

        def body(traced: list[Any], variables: list[Traced]) -> Any:
            n = len(variables) // 2
            point, direction = variables[:n], variables[n:]
            output = as_scalar(f(traced[0], *args, **kwargs), current_trace(), name)
            gradients = gradient_nodes(output, point)
            tangents = push_forward(gradients, point, direction)
            return rebuild(x, [dense(t, node) for t, node in zip(tangents, point, strict=True)])

        return evaluate(name, (x, v), (0, 1), body)

    return product


def check_alike(x: Any, v: Any) -> None:
    """Whether a direction has the structure and the shapes of the point."""
    if structure_of(x) != structure_of(v):
        raise TypeError("the direction v must have the structure of x")
    for (name, a), b in zip(named_leaves(x, "x"), leaves_of(v), strict=True):
        if np.shape(a) != np.shape(b):
            raise ValueError(f"the direction v must have the shape of {name}, {np.shape(a)}, got {np.shape(b)}")


# ---- Jacobians -------------------------------------------------------------------------------------------------------


def jacobian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns the Jacobian: of y = f(x), the array ∂y/∂x of shape ``y.shape + x.shape``.

    Parameters
    ----------
    f : callable
        Returns a number or an array.
    argnums : int or sequence of int, default 0
        The positional arguments with respect to which is derived.

    Returns
    -------
    callable
        Takes the arguments of f. For a structured argument the result has its structure, with a Jacobian in place of
        each array; for several `argnums` it is a tuple.

    Notes
    -----
    Column by column in forward mode where x has no more elements than y, else row by row in reverse mode: the cost is
    min(x.size, y.size) times a small multiple of f's.

    Examples
    --------
    >>> jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    f = as_callable(f)
    name = called(f)

    @functools.wraps(f)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        positions = positions_of(argnums, len(args))

        def body(traced: list[Any], variables: list[Traced]) -> Any:
            output = as_output(f(*traced, **kwargs), current_trace(), name)
            return gradient_tree(argnums, args, positions, jacobian_nodes(output, variables))

        return evaluate(name, args, positions, body)

    return jacobian_of


def jacobian_nodes(output: Traced, variables: Sequence[Traced]) -> list[Any]:
    """The Jacobians with respect to the variables: by columns or by rows, whichever are fewer."""
    n = sum(node.size for node in variables)
    return columns_forward(output, variables) if n <= output.size else rows_backward(output, variables)


def unit(node: Traced, i: int) -> Any:
    """A node's shape and dtype, 1 at element i and 0 elsewhere."""
    array = np.zeros(node.shape, node.dtype)
    array.flat[i] = 1.0
    return node.tracer.constant(array)


def rows_backward(output: Traced, variables: Sequence[Traced]) -> list[Any]:
    """Jacobians from one gradient for each element of the output."""
    rows = [pull_back((output,), (unit(output, i),), variables) for i in range(output.size)]
    out = []
    for k, node in enumerate(variables):
        stacked = [p.reshape(dense(row[k], node), (1, node.size)) for row in rows]
        whole = p.concatenate(stacked, 0) if stacked else node.tracer.constant(np.zeros((0, node.size), node.dtype))
        out.append(p.reshape(whole, output.shape + node.shape))
    return out


def columns_forward(output: Traced, variables: Sequence[Traced]) -> list[Any]:
    """Jacobians from one tangent for each element of the variables."""
    out = []
    for node in variables:
        columns = [
            p.reshape(dense(push_forward((output,), (node,), (unit(node, i),))[0], output), (output.size, 1))
            for i in range(node.size)
        ]
        whole = p.concatenate(columns, 1) if columns else node.tracer.constant(np.zeros((output.size, 0), node.dtype))
        out.append(p.reshape(whole, output.shape + node.shape))
    return out


def compile(f: Function) -> Compiled:  # noqa: A001  (in its module it is fastgd's)
    """Keep the graph of f: traced at the first call for each kind of arguments, and then only computed.

    Parameters
    ----------
    f : callable
        A function of plain Python and NumPy, or one made by `grad`, `value_and_grad`, `derivative`, `jacobian` or
        `hessp`.

    Returns
    -------
    callable
        Takes the arguments of f. Floats and arrays may change from call to call; for new shapes, dtypes or structures,
        and for each new value of other arguments (ints, bools, strings), f is traced anew. What f takes from outside
        its arguments is read when it is traced: arrays must not be written to later.

    Raises
    ------
    fastgd.errors.TraceError
        When called: if a branch or a loop of f depends on a value of a float or an array.

    Examples
    --------
    >>> fast = compile(grad(lambda w: np.sum(np.exp(-w**2))))
    >>> fast(np.array([0.0, 1.0]))
    array([-0.        , -0.73575888])
    """
    return Compiled(as_callable(f))


# ---- checking --------------------------------------------------------------------------------------------------------


def along_forward(f: Function, x: Any, v: Any) -> Any:
    """The derivative of a number along a direction, in forward mode."""

    def body(traced: list[Any], variables: list[Traced]) -> Any:
        n = len(variables) // 2
        output = as_scalar(f(traced[0]), current_trace(), called(f))
        return dense(push_forward((output,), variables[:n], variables[n:])[0], output)

    return evaluate(called(f), (x, v), (0, 1), body)


def along_reverse(f: Function, x: Any, v: Any) -> Any:
    """The derivative of a number along a direction, from its gradient."""
    gradients = leaves_of(grad(f)(x))
    total: Any = 0.0
    for gradient, direction in zip(gradients, leaves_of(v), strict=True):
        total = total + np.sum(gradient * direction)
    return total


def check_grads(
    f: Function, *args: Any, order: int = 2, modes: Sequence[str] = ("forward", "reverse"), rtol: float | None = None,
    random_state: Any = 0,
) -> None:
    """Check the derivatives of f at a point against difference quotients.

    Results are summed with random weights, and derived along a random direction of all arguments at once: some
    evaluations of f whatever the number of its inputs and outputs. The second derivative is that of the first along
    another direction, against difference quotients of the first, in all combinations of the modes.

    Parameters
    ----------
    f : callable
        Returns numbers or arrays, in any structure.
    *args : number, array_like, or nested list, tuple, dict of these
        Its arguments. Those that hold floats are varied; float32 and float64 each with steps and bounds of their
        precision.
    order : {1, 2}, default 2
        The highest derivative that is checked.
    modes : sequence of {"forward", "reverse"}
    rtol : float, optional
        How far derivative and difference quotient may be apart, relative to the larger of them and to the sum of the
        weighted results. By default 1e-7 for float64, and 4e-3 for float32.
    random_state : int or None, default 0
        Seed of the directions and weights; None for others at each call.

    Raises
    ------
    DerivativeError
        If they are farther apart (an AssertionError), with both figures.
    TypeError, ValueError
        If an argument has not the type or range above, or as `grad`.

    Notes
    -----
    Central differences of steps h and 2h, (4 D(h) - D(2h)) / 3, have an error of the order h⁴. At kinks of f they are
    no derivatives.

    Examples
    --------
    >>> check_grads(lambda x: np.tanh(x) @ x, np.array([0.5, -1.0]))
    """
    f = as_callable(f)
    known = {"forward": along_forward, "reverse": along_reverse}
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    for mode in modes:
        validate.as_choice(mode, "modes", tuple(known))
    positions = [i for i, arg in enumerate(args) if any(is_float(leaf) for leaf in leaves_of(arg))]
    if not positions:
        raise TypeError("check_grads needs an argument of floats")
    for i in positions:
        for name, leaf in named_leaves(args[i], f"argument {i} of {called(f)}"):
            as_variable(leaf, name)

    def varied(point: Any) -> Any:
        given = list(args)
        for i, value in zip(positions, point, strict=True):
            given[i] = value
        return f(*given)

    Check(varied, [args[i] for i in positions], {mode: known[mode] for mode in modes}, rtol, random_state).run(order)
