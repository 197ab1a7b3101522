"""The chain rule in plain Python: against derivatives by hand, central differences, and itself in the other mode."""

from __future__ import annotations

import ast
import math
import operator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgd as fg
from fastgd import reference
from fastgd.reference import Dual, Value, adjoints, cos, derivative, exp, grad, log, power, sin, sqrt, tanh

MODES = {"forward": derivative, "reverse": lambda f: lambda x: grad(lambda w: f(w[0]))([x])[0]}


@pytest.fixture(params=list(MODES))
def mode(request):
    """A derivative by forward mode, and one by reverse mode."""
    return MODES[request.param]


# What the variable is put into, its derivative by hand, and where.
BY_HAND = {
    "x": (lambda x: x, lambda x: 1.0, 1.7),
    "7": (lambda x: 7.0, lambda x: 0.0, 1.7),
    "x + 2": (lambda x: x + 2, lambda x: 1.0, 1.7),
    "2 + x": (lambda x: 2 + x, lambda x: 1.0, 1.7),
    "x - 2": (lambda x: x - 2, lambda x: 1.0, 1.7),
    "2 - x": (lambda x: 2 - x, lambda x: -1.0, 1.7),
    "-x": (lambda x: -x, lambda x: -1.0, 1.7),
    "+x + x": (lambda x: +x + x, lambda x: 2.0, 1.7),
    "3 x": (lambda x: 3 * x, lambda x: 3.0, 1.7),
    "x x": (lambda x: x * x, lambda x: 2 * x, -1.7),
    "x / 4": (lambda x: x / 4, lambda x: 0.25, 1.7),
    "4 / x": (lambda x: 4 / x, lambda x: -4 / x**2, -1.7),
    "x / (1 + x)": (lambda x: x / (1 + x), lambda x: 1 / (1 + x) ** 2, 1.7),
    "x^2": (lambda x: x**2, lambda x: 2 * x, -1.7),
    "x^3 at 0": (lambda x: x**3, lambda x: 0.0, 0.0),
    "x^1 at 0": (lambda x: x**1, lambda x: 1.0, 0.0),
    "x^0 at 0": (lambda x: x**0, lambda x: 0.0, 0.0),
    "x^-1.5": (lambda x: x**-1.5, lambda x: -1.5 * x**-2.5, 1.7),
    "2^x": (lambda x: 2**x, lambda x: math.log(2) * 2**x, 1.7),
    "x^x": (lambda x: x**x, lambda x: (math.log(x) + 1) * x**x, 1.7),
    "|x|": (abs, lambda x: -1.0, -1.7),
    "|x| at 0": (abs, lambda x: 0.0, 0.0),
    "exp": (exp, math.exp, -1.7),
    "log": (log, lambda x: 1 / x, 1.7),
    "sqrt": (sqrt, lambda x: 0.5 / math.sqrt(x), 1.7),
    "sin": (sin, math.cos, 1.7),
    "cos": (cos, lambda x: -math.sin(x), 1.7),
    "tanh": (tanh, lambda x: 1 / math.cosh(x) ** 2, 1.7),
    "tanh far out": (tanh, lambda x: 0.0, 1e3),
    "the textbook": (lambda x: (3 * x**2 + 2 * x + 1) ** 2, lambda x: 2 * (3 * x**2 + 2 * x + 1) * (6 * x + 2), 2.0),
    "a branch": (lambda x: x**2 if x > 0 else -x, lambda x: -1.0, -1.7),
    "max": (lambda x: max(x, 2.0 * x, 1.0), lambda x: 2.0, 1.7),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_by_hand(mode, case):
    f, by_hand, x = BY_HAND[case]
    assert mode(f)(x) == pytest.approx(by_hand(x), rel=4e-15, abs=1e-300)


def test_the_textbook_example_is_exact(mode):
    """z = y², y = 3x² + 2x + 1: dz/dx = 2y (6x + 2)."""
    assert mode(lambda x: (3 * x**2 + 2 * x + 1) ** 2)(2.0) == 2 * 17.0 * 14.0 == 476.0


# ---- compositions ----------------------------------------------------------------------------------------------------

X = st.floats(-1.5, 1.5).map(lambda x: x or 0.25)
LEAVES = st.one_of(st.just("x"), st.just("y"), st.sampled_from(["0.5", "2.0", "-1.5"]))
OUTER = [
    "sin({0})", "cos({0})", "tanh({0})", "exp(-{0} * {0})", "log(1.0 + {0} * {0})", "sqrt(1.0 + {0} * {0})",
    "-{0}", "{0} ** 2", "1.5 ** tanh({0})",
]
INNER = ["({0} + {1})", "({0} - {1})", "({0} * {1})", "({0} / (2.0 + {1} * {1}))", "power(1.0 + {0} * {0}, tanh({1}))"]
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda part: st.one_of(
        st.builds(lambda form, a: form.format(f"({a})"), st.sampled_from(OUTER), part),
        st.builds(lambda form, a, b: form.format(a, b), st.sampled_from(INNER), part, part),
    ),
    max_leaves=8,
)


def function(expression):
    code = compile(expression, "expression", "eval")
    return lambda w: eval(code, vars(reference) | {"x": w[0], "y": w[1]})


def slope(f, x, h=6e-3):
    """A central difference of sixth order: nine digits and more of what is not steep."""
    return sum(c * (f(x + k * h) - f(x - k * h)) for k, c in ((1, 45), (2, -9), (3, 1))) / (60 * h)


@given(EXPRESSIONS, X, X)
def test_compositions_equal_central_differences(expression, x, y):
    f = function(expression)
    gradient = grad(f)([x, y])
    forward = [derivative(lambda t: f([t, y]))(x), derivative(lambda t: f([x, t]))(y)]
    assert gradient == pytest.approx(forward, rel=1e-12, abs=1e-12)
    differences = [slope(lambda t: f([t, y]), x), slope(lambda t: f([x, t]), y)]
    size = abs(f([x, y])) + sum(map(abs, gradient)) + 1
    assert gradient == pytest.approx(differences, rel=1e-6, abs=1e-6 * size)


@given(EXPRESSIONS, X, X)
def test_second_derivatives_in_every_nesting_are_the_same(expression, x, y):
    """Forward over forward, forward over reverse, reverse over forward, reverse over reverse: one mixed derivative."""
    f = function(expression)
    nestings = [
        derivative(lambda s: derivative(lambda t: f([s, t]))(y))(x),
        derivative(lambda s: grad(f)([s, y])[1])(x),
        grad(lambda w: derivative(lambda t: f([w[0], t]))(w[1]))([x, y])[0],
        grad(lambda w: grad(f)(w)[1])([x, y])[0],
        grad(lambda w: grad(f)(w)[0])([x, y])[1],
    ]
    assert nestings == pytest.approx([nestings[0]] * 5, rel=1e-10, abs=1e-10)


# ---- nesting ---------------------------------------------------------------------------------------------------------


def test_higher_orders(mode):
    f = derivative
    third = mode(mode(mode(lambda x: x**5)))
    assert third(2.0) == 5 * 4 * 3 * 2.0**2
    assert f(f(f(f(sin))))(0.5) == math.sin(0.5)
    assert mode(mode(mode(lambda x: x**2)))(0.0) == 0.0


def test_an_outer_variable_is_a_constant_of_the_inner_derivative(mode):
    """x (d/dy)(x + y) is x, whatever else has a slope of one (Siskind and Pearlmutter, 2005)."""
    assert mode(lambda x: x * derivative(lambda y: x + y)(1.0))(1.0) == 1.0
    assert mode(lambda x: x * grad(lambda w: x * w[0])([1.0])[0])(3.0) == 6.0
    assert mode(lambda x: derivative(lambda y: x)(1.0))(3.0) == 0.0


# ---- what is remembered ----------------------------------------------------------------------------------------------


def test_values_and_slopes_can_be_looked_at():
    x = Dual(2.0, 1.0)
    assert repr(x * x + 1) == "Dual(5.0, 4.0)"
    a, b = Value(2.0), Value(3.0)
    z = a * b + sin(a)
    back = adjoints(z)
    assert repr(z) == f"Value({6.0 + math.sin(2.0)!r})"
    assert (back[a.number], back[b.number], back[z.number]) == (3.0 + math.cos(2.0), 2.0, 1.0)


def test_adjoints_wait_for_all_their_parts():
    """A number used again and again: each way back is taken once, not each path, of which there are 2^60."""
    x = Value(1.0)
    z = x
    for _ in range(60):
        z = z + z
    assert adjoints(z)[x.number] == 2.0**60


def test_long_chains_need_no_recursion(mode):
    def f(x):
        for _ in range(20_000):
            x = x + 0.5 * x * (1.0 - x)
        return x

    assert abs(mode(f)(0.2)) < 1e-300  # the fixed point attracts


def test_gradient_of_a_constant_and_of_unused_inputs():
    assert grad(lambda w: 3.0)([1.0, 2.0]) == [0.0, 0.0]
    assert grad(lambda w: w[1] * 2)([1.0, 2.0]) == [0.0, 2.0]
    assert grad(lambda w: w[1])([1.0, 2.0]) == [0.0, 1.0]


def test_comparisons_are_those_of_values():
    for x in (Dual(2.0), Value(2.0)):
        assert x == 2 and x != 3.0 and x > 1 and x >= 2 and x < 3 and x <= 2.0 and not x < 2 and not x > 2
        assert bool(x) and not bool(x - 2) and float(x) == 2.0 and x != "2"
        unordered = x * math.nan
        assert not any(compare(x, unordered) for compare in (operator.lt, operator.le, operator.gt, operator.ge))


def test_where_there_is_no_derivative_python_says_so(mode):
    for f, x in ((log, 0.0), (sqrt, -1.0), (sqrt, 0.0), (lambda x: 1 / x, 0.0), (lambda x: x**0.5, -8.0)):
        with pytest.raises((ZeroDivisionError, ValueError)):
            mode(f)(x)


def test_power_takes_plain_numbers_too():
    assert power(2.0, 10.0) == 1024.0
    assert (exp(0.0), log(1.0), sqrt(4.0), sin(0.0), cos(0.0), tanh(0.0)) == (1.0, 0.0, 2.0, 0.0, 1.0, 0.0)


# ---- descent, and what the module may import -------------------------------------------------------------------------


def test_linear_regression_by_the_chain_rule():
    """The gradient of the mean squared error that nobody derived is the one that was derived by hand."""
    X, y, w = [[1.0, -2.0], [0.5, 3.0], [2.0, 1.0]], [1.0, -2.0, 0.5], [0.25, -0.75]

    def loss(w):
        return sum((x[0] * w[0] + x[1] * w[1] - target) ** 2 for x, target in zip(X, y, strict=True)) / len(y)

    assert grad(loss)(w) == pytest.approx(reference.mse_grad(X, y, w), rel=1e-15)
    product = [derivative(lambda t, i=i: grad(loss)([w[0] + t * 2.0, w[1] - t])[i])(0.0) for i in range(2)]
    assert product == pytest.approx(reference.hessian_product(X, [2.0, -1.0]), rel=1e-15)


def test_the_reference_imports_the_standard_library_only():
    tree = ast.parse(Path(reference.__file__).read_text())
    imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imports |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imports == {"__future__", "collections.abc", "itertools", "math", "operator", "random", "typing"}


# ---- against the compiled chain rule ---------------------------------------------------------------------------------


@given(EXPRESSIONS, X, X)
def test_autodiff_does_what_the_reference_does(expression, x, y):
    """First derivatives in both modes and one second derivative, of the same text with NumPy's functions in it."""
    f = function(expression)
    names = {name: getattr(np, name) for name in ("exp", "log", "sqrt", "sin", "cos", "tanh", "power")}
    code = compile(expression, "expression", "eval")

    def g(x, y):
        return eval(code, names | {"x": x, "y": y}) + 0.0 * x

    expected = grad(f)([x, y])
    assert fg.grad(g, argnums=(0, 1))(x, y) == pytest.approx(tuple(expected), rel=1e-12, abs=1e-12)
    assert fg.derivative(g)(x, y) == pytest.approx(expected[0], rel=1e-12, abs=1e-12)
    mixed = derivative(lambda t: grad(f)([t, y])[1])(x)
    assert fg.derivative(fg.grad(g, argnums=1))(x, y) == pytest.approx(mixed, rel=1e-10, abs=1e-10)
