"""SymPy at the door: its expressions as functions of NumPy's values, and graphs as its expressions.

SymPy is an extra. This module imports it only where an object of SymPy's is already there, or where it may be absent.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from fastgd._graph import Node, in_order

__all__ = ["as_expression", "as_function", "is_sympy"]


def is_sympy(value: Any) -> bool:
    """Whether this is an object of SymPy's, which need not be installed to know."""
    return any(base.__module__.partition(".")[0] == "sympy" for base in type(value).__mro__)


# ---- an expression as a function -------------------------------------------------------------------------------------

# SymPy's class of an operation, and what does it on NumPy's values. Pow, Mul and Piecewise have their own ways below.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "Add": lambda *terms: reduce(lambda a, b: a + b, terms),
    "Abs": np.abs,
    "And": lambda *conditions: reduce(np.logical_and, conditions),
    "Eq": lambda a, b: a == b,
    "Equality": lambda a, b: a == b,
    "GreaterThan": lambda a, b: a >= b,
    "Heaviside": lambda x, at_zero=0.5: np.where(x > 0, 1.0, np.where(x < 0, 0.0, at_zero)),
    "LessThan": lambda a, b: a <= b,
    "Max": lambda *values: reduce(np.maximum, values),
    "Min": lambda *values: reduce(np.minimum, values),
    "Not": np.logical_not,
    "Or": lambda *conditions: reduce(np.logical_or, conditions),
    "StrictGreaterThan": lambda a, b: a > b,
    "StrictLessThan": lambda a, b: a < b,
    "Unequality": lambda a, b: a != b,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "cos": np.cos,
    "cosh": np.cosh,
    "cot": lambda x: 1.0 / np.tan(x),
    "coth": lambda x: 1.0 / np.tanh(x),
    "csc": lambda x: 1.0 / np.sin(x),
    "exp": np.exp,
    "log": np.log,
    "sec": lambda x: 1.0 / np.cos(x),
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "tan": np.tan,
    "tanh": np.tanh,
}


def as_function(expression: Any, symbols: Sequence[Any] | None = None) -> Callable[..., Any]:
    """The function that a SymPy expression stands for, in NumPy's operations.

    Parameters
    ----------
    expression : sympy.Expr or sympy.Lambda
        Of real numbers. A Lambda says in which order its symbols come.
    symbols : sequence of sympy.Symbol, optional
        The order of the arguments. By default that of a Lambda, or else all free symbols by their names, where numbers
        count as such: x2 comes before x10.

    Returns
    -------
    callable
        Of the symbols' values one by one, or, of several symbols, of one array or list of them. Values may be arrays,
        which are computed with entry by entry. Of a Piecewise only the piece that holds is computed, unless its
        condition is an array.

    Raises
    ------
    TypeError
        If this is a Matrix or no expression, or one that holds what NumPy has no operation for, which is named.
    ValueError
        If it has no symbols, symbols that cannot be told apart, or some that are not in `symbols`.
    """
    import sympy

    if isinstance(expression, sympy.Lambda):
        symbols = expression.signature if symbols is None else symbols
        expression = expression.expr
    if getattr(expression, "is_Matrix", False):
        raise TypeError(
            f"a SymPy expression must be a number, got a {type(expression).__name__} of shape {expression.shape}; "
            "its entries are expressions"
        )
    if not isinstance(expression, sympy.Expr):
        raise TypeError(f"a SymPy expression must be a number, got the {type(expression).__name__} {expression}")
    arguments = as_symbols(expression, symbols)
    refuse_unknown(expression)
    names = ", ".join(symbol.name for symbol in arguments)

    def function(*values: Any) -> Any:
        given: Any = values[0] if len(values) == 1 < len(arguments) else values
        if length(given) != len(arguments):
            raise TypeError(
                f"the expression {expression} takes its symbols {names} one by one, or in one array of {len(arguments)}"
                + (f"; got one of {length(given)}" if given is not values else f"; got {len(values)} arguments")
            )
        known = {symbol: given[k] for k, symbol in enumerate(arguments)}
        return evaluate(expression, known)

    function.__name__ = function.__qualname__ = str(expression)
    function.__signature__ = signature(arguments)  # type: ignore[attr-defined]
    return function


def length(values: Any) -> int:
    """How many there are; 0 of a number."""
    try:
        return len(values)
    except TypeError:
        return 0


def as_symbols(expression: Any, symbols: Sequence[Any] | None) -> list[Any]:
    """The arguments in their order, which name all that the expression depends on."""
    free = expression.free_symbols
    if symbols is None:
        if not free:
            raise ValueError(f"the expression {expression} has no symbols, so it is no function of anything")
        ordered = sorted(free, key=lambda symbol: by_number(symbol.name))
    else:
        ordered = list(symbols)
    names = [getattr(symbol, "name", str(symbol)) for symbol in ordered]
    if any(not getattr(symbol, "is_Symbol", False) for symbol in ordered):
        raise TypeError(f"symbols must be SymPy symbols, got {ordered}")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two symbols of the expression {expression} are both named {name}")
    missing = sorted(symbol.name for symbol in free.difference(ordered))
    if missing:
        raise ValueError(f"symbols must name all that {expression} depends on, but {', '.join(missing)} is not there")
    return ordered


def by_number(name: str) -> list[Any]:
    """A key to sort names by, in which x2 comes before x10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def signature(arguments: Sequence[Any]) -> inspect.Signature:
    """That of a function with these parameters, so that what is traced goes by their names."""
    names = [symbol.name if symbol.name.isidentifier() else f"x{k}" for k, symbol in enumerate(arguments)]
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names])


def refuse_unknown(expression: Any) -> None:
    """Raise a TypeError that names the first part of the expression that `evaluate` cannot do."""
    import sympy

    waiting = [expression]
    while waiting:
        part = waiting.pop()
        if part.is_Symbol or part in (sympy.true, sympy.false):
            continue
        if getattr(part, "is_number", False):
            if not part.is_extended_real:
                raise TypeError(f"a SymPy expression must be real, got {part} in {expression}")
            continue
        if part.func.__name__ not in {"Pow", "Mul", "Piecewise", "ExprCondPair"} | OPERATIONS.keys():
            raise TypeError(f"SymPy's {part.func.__name__} has no counterpart in NumPy, got {part}")
        waiting.extend(part.args)


def evaluate(part: Any, known: dict[Any, Any]) -> Any:
    """The value of part of an expression; `known` holds the symbols, and gets whatever is computed on the way."""
    if part not in known:
        if getattr(part, "is_number", False):
            known[part] = int(part) if part.is_Integer and abs(part) < 2**53 else float(part.evalf(25))
        elif part.is_Boolean and not part.args:
            known[part] = bool(part)
        elif part.func.__name__ in OWN_WAYS:
            known[part] = OWN_WAYS[part.func.__name__](part, known)
        else:
            known[part] = OPERATIONS[part.func.__name__](*(evaluate(operand, known) for operand in part.args))
    return known[part]


def power(part: Any, known: dict[Any, Any]) -> Any:
    """A power of a base, with division and the square root where the exponent says so."""
    base, exponent = part.args
    if divides(part):
        return 1.0 / evaluate(part.func(base, -exponent), known)
    value = evaluate(base, known)
    raised = evaluate(exponent, known)
    return np.sqrt(value) if exponent.is_number and raised == 0.5 else value**raised


def divides(part: Any) -> bool:
    """Whether this is a power with a negative number as its exponent."""
    return bool(part.is_Pow and part.args[1].is_number and part.args[1].is_negative)


def product(part: Any, known: dict[Any, Any]) -> Any:
    """A product as a fraction of two, so that a / b is a division, and -a a negation."""
    if part.args[0] == -1:
        return -evaluate(part.func(*part.args[1:]), known)
    above = [evaluate(factor, known) for factor in part.args if not divides(factor)]
    below = [evaluate(factor.func(factor.args[0], -factor.args[1]), known) for factor in part.args if divides(factor)]
    top = reduce(lambda a, b: a * b, above) if above else 1.0
    return top / reduce(lambda a, b: a * b, below) if below else top


def piecewise(part: Any, known: dict[Any, Any]) -> Any:
    """The first piece whose condition holds; NaN where none does."""
    pieces = []
    for expression, condition in part.args:
        holds = evaluate(condition, known)
        if getattr(holds, "ndim", 0):
            pieces.append((holds, evaluate(expression, known)))
        elif holds:
            pieces.append((True, evaluate(expression, known)))
            break
    value: Any = float("nan")
    for holds, piece in reversed(pieces):
        value = piece if holds is True else np.where(holds, piece, value)
    return value


OWN_WAYS = {"Pow": power, "Mul": product, "Piecewise": piecewise}


# ---- a graph as an expression ----------------------------------------------------------------------------------------


def as_expression(output: Node, symbols: Mapping[int, Any]) -> Any:
    """The SymPy expression of a graph of real numbers.

    Parameters
    ----------
    output : Node
        Without dimensions, as all that it depends on.
    symbols : mapping
        SymPy's symbol of each input, by the node's id.

    Returns
    -------
    sympy.Expr or None
        None if the graph holds arrays or integers, or an operation that SymPy has no name for.
    """
    import sympy

    table = expressions()
    known: dict[int, Any] = dict(symbols)
    for node in in_order([output]):
        if id(node) in known:
            continue
        if node.shape != () or node.dtype.kind in "iu":
            return None
        if node.value is not None:
            known[id(node)] = exactly(node.value.item())
        elif node.primitive.name in ("alias", "broadcast_to", "reshape", "transpose"):
            known[id(node)] = known[id(node.inputs[0])]
        elif node.primitive.name in table:
            known[id(node)] = table[node.primitive.name](*(known[id(source)] for source in node.inputs))
        else:
            return None
    return sympy.sympify(known[id(output)])


def exactly(value: Any) -> Any:
    """A constant as SymPy writes it: whole numbers, halves, quarters ... without a point."""
    import sympy

    if isinstance(value, bool):
        return sympy.true if value else sympy.false
    if not math.isfinite(value):
        return sympy.nan if math.isnan(value) else sympy.oo * int(math.copysign(1, value))
    above, below = float(value).as_integer_ratio()
    return sympy.Rational(above, below) if below <= 64 and abs(above) < 2**53 else sympy.Float(value)


def expressions() -> dict[str, Callable[..., Any]]:
    """What SymPy makes of the primitives of a graph, by their names."""
    import sympy as sp

    names = ("cos", "cosh", "exp", "log", "sign", "sin", "sinh", "sqrt", "tan", "tanh")
    same = {name: getattr(sp, name) for name in names}
    inverse = {f"arc{name}": getattr(sp, f"a{name}") for name in ("cos", "cosh", "sin", "sinh", "tan", "tanh")}
    return same | inverse | {
        "absolute": sp.Abs,
        "add": lambda a, b: a + b,
        "arctan2": sp.atan2,
        "astype": lambda a: a,
        "bitwise_and": sp.And,
        "bitwise_or": sp.Or,
        "cbrt": lambda a: sp.sign(a) * sp.Abs(a) ** sp.Rational(1, 3),
        "divide": lambda a, b: a / b,
        "equal": sp.Eq,
        "exp2": lambda a: 2**a,
        "expm1": lambda a: sp.exp(a) - 1,
        "greater": sp.Gt,
        "greater_equal": sp.Ge,
        "invert": sp.Not,
        "hypot": lambda a, b: sp.sqrt(a**2 + b**2),
        "less": sp.Lt,
        "less_equal": sp.Le,
        "log10": lambda a: sp.log(a) / sp.log(10),
        "log1p": lambda a: sp.log(1 + a),
        "log2": lambda a: sp.log(a) / sp.log(2),
        "logaddexp": lambda a, b: sp.log(sp.exp(a) + sp.exp(b)),
        "logaddexp2": lambda a, b: sp.log(2**a + 2**b) / sp.log(2),
        "logical_and": sp.And,
        "logical_not": sp.Not,
        "logical_or": sp.Or,
        "maximum": sp.Max,
        "minimum": sp.Min,
        "multiply": lambda a, b: a * b,
        "negative": lambda a: -a,
        "not_equal": sp.Ne,
        "power": lambda a, b: a**b,
        "square": lambda a: a**2,
        "subtract": lambda a, b: a - b,
        "where": lambda condition, a, b: sp.Piecewise((a, condition), (b, True)),
    }
