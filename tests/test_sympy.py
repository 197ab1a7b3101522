"""SymPy's expressions where functions are taken: what they compute, the order of arguments, and what is refused."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp

import fastgd as fg
from fastgd import _sympy
from fastgd._sympy import as_function, is_sympy

x, y, z = sp.symbols("x y z")

# An expression for everything there is a way for, and where to look at it, symbols by name.
EXPRESSIONS = {
    "Add": (x + y - z + 2, (0.7, 1.3, 2.1)),
    "Mul": (-3 * x * y / 7, (0.7, 1.3)),
    "Mul, a fraction": (x * sp.exp(-y) / (z**2 * (1 + x)), (0.7, 1.3, 2.1)),
    "Mul, a reciprocal of two": (1 / (x * y), (0.7, 1.3)),
    "Pow": (x**5 - x**-3, (0.7,)),
    "Pow, a root": (sp.sqrt(x) + 1 / sp.sqrt(y) + x ** sp.Rational(1, 3), (0.7, 1.3)),
    "Pow, a root in digits": (x**0.5, (0.7,)),
    "Pow, of a number": (2**x + sp.pi ** (-x), (0.7,)),
    "Pow, of both": (x**y + x ** (-y), (0.7, 1.3)),
    "Piecewise": (sp.Piecewise((x**2, x < -1), (-x, x < 0), (sp.sin(x), True)), (-0.5,)),
    "Piecewise, first": (sp.Piecewise((x**2, x < -1), (-x, x < 0), (sp.sin(x), True)), (-1.5,)),
    "Piecewise, else": (sp.Piecewise((x**2, x < -1), (-x, x < 0), (sp.sin(x), True)), (1.5,)),
    "And, Or, Not": (
        sp.Piecewise((1, ((x > 0) & (y < 2)) | sp.Not(sp.Eq(z, 1) | (x > y), evaluate=False)), (2, True)), (-0.5, 1, 1)
    ),
    "numbers": (sp.pi * x + sp.E + sp.GoldenRatio + sp.Rational(1, 3) + sp.sqrt(2) + sp.Float("0.1") + 10**20, (0.7,)),
    "Abs": (sp.Abs(x), (-0.7,)),
    "GreaterThan": (sp.Piecewise((1, x >= 1), (2, True)), (1.0,)),
    "LessThan": (sp.Piecewise((1, x <= 1), (2, True)), (1.0,)),
    "StrictGreaterThan": (sp.Piecewise((1, x > 1), (2, True)), (1.0,)),
    "StrictLessThan": (sp.Piecewise((1, x < 1), (2, True)), (1.0,)),
    "Equality": (sp.Piecewise((1, sp.Eq(x, 1)), (2, True)), (1.0,)),
    "Unequality": (sp.Piecewise((1, sp.Ne(x, 1)), (2, True)), (1.0,)),
    "Heaviside": (sp.Heaviside(x) + 2 * sp.Heaviside(y) + 4 * sp.Heaviside(z, 0.25), (-0.7, 0.7, 0.0)),
    "Max": (sp.Max(x, y, 1), (0.7, 1.3)),
    "Min": (sp.Min(x, y, 1), (0.7, 1.3)),
    "atan2": (sp.atan2(x, y), (-0.7, -1.3)),
    **{name: (getattr(sp, name)(x), (0.7,)) for name in (
        "acos", "asin", "asinh", "atan", "atanh", "cos", "cosh", "cot", "coth", "csc", "exp", "log", "sec", "sign",
        "sin", "sinh", "tan", "tanh",
    )},
    "acosh": (sp.acosh(x), (1.7,)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_values_are_those_of_sympy(name):
    expression, values = EXPRESSIONS[name]
    symbols = sorted(expression.free_symbols, key=str)
    f = as_function(expression)
    expected = float(expression.subs(dict(zip(symbols, map(sp.Rational, values), strict=True))).evalf(30))
    assert f(*values) == pytest.approx(expected, rel=1e-15, abs=0)
    assert f(*values) == f(*map(np.float64, values))
    if "Piecewise" not in name:
        lists = [np.array([value, value]) for value in values]
        np.testing.assert_allclose(f(*lists), np.full(2, f(*values)), rtol=1e-15)


def test_every_operation_is_tried():
    tried = {part.func.__name__ for expression, _ in EXPRESSIONS.values() for part in sp.preorder_traversal(expression)}
    assert _sympy.OPERATIONS.keys() - {"Eq"} <= tried
    assert _sympy.OWN_WAYS.keys() <= tried


def test_a_division_is_one_and_a_square_too():
    """The operations are those of the formula: no rounding that it has not."""
    values = np.random.default_rng(0).uniform(1, 2, (2, 1000))
    np.testing.assert_array_equal(as_function(x / y)(*values), values[0] / values[1])
    np.testing.assert_array_equal(as_function(x - y)(*values), values[0] - values[1])
    np.testing.assert_array_equal(as_function(x**2 / sp.sqrt(y))(*values), values[0] ** 2 / np.sqrt(values[1]))


# ---- arguments -------------------------------------------------------------------------------------------------------


def test_symbols_one_by_one_or_in_one_array():
    f = as_function(x**2 * y)
    assert f(3.0, 2.0) == f([3.0, 2.0]) == f(np.array([3.0, 2.0])) == f((3.0, 2.0)) == 18.0
    np.testing.assert_array_equal(f(np.array([[3.0, 1.0], [2.0, 5.0]])), [18.0, 5.0])
    assert as_function(x + 1)(np.array([3.0])) == np.array([4.0])


def test_symbols_come_by_name_and_numbers_in_names_by_size():
    symbols = sp.symbols("x10 x2 a b1 X")
    f = as_function(sum(10**k * symbol for k, symbol in enumerate(symbols)))
    assert list(f.__signature__.parameters) == ["X", "a", "b1", "x2", "x10"]
    assert f(5, 3, 4, 2, 1) == 54321


def test_symbols_come_in_the_order_that_is_given():
    assert as_function(x - y, [y, x])(3.0, 5.0) == 2.0
    assert as_function(sp.Lambda((y, x), x - y))(3.0, 5.0) == 2.0
    assert as_function(sp.Lambda((y, x), x - y), [x, y])(3.0, 5.0) == -2.0
    assert as_function(x**2, [z, x])(3.0, 5.0) == 25.0
    assert as_function(sp.Symbol("learning rate") ** 2)(3.0) == 9.0
    assert as_function((3 * x**2 + 2 * x + 1) ** 2).__name__ == "(3*x**2 + 2*x + 1)**2"


def test_only_the_piece_that_holds_is_computed():
    f = as_function(sp.Piecewise((x * sp.log(x), x > 0), (0, True)))
    with np.errstate(all="raise"):
        assert f(np.float64(0.0)) == 0.0
        assert f(2.0) == 2 * math.log(2)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(f(np.array([0.0, 1.0])), [0.0, 0.0])
    assert math.isnan(as_function(sp.Piecewise((x, x > 0), (2, x < 0)))(0.0))


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, 2.0, 3.0), ([1.0, 2.0, 3.0],), (np.ones(3),), (np.float64(1.0),)])
def test_the_wrong_number_of_arguments_is_named(values):
    with pytest.raises(TypeError, match=r"takes its symbols x, y one by one, or in one array of 2"):
        as_function(x * y)(*values)
    if len(values) != 1:
        with pytest.raises(TypeError, match=r"takes its symbols x"):
            as_function(x + 1)(*values)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "error", "message"),
    [
        (sp.Matrix([x, y]), TypeError, r"must be a number, got a MutableDenseMatrix of shape \(2, 1\)"),
        (sp.MatrixSymbol("A", 2, 2), TypeError, r"must be a number, got a MatrixSymbol of shape \(2, 2\)"),
        (sp.Eq(x, 1), TypeError, r"must be a number, got the Equality Eq\(x, 1\)"),
        (sp.I * x, TypeError, r"must be real, got I in I\*x"),
        (sp.zoo + x, TypeError, r"must be real|has no symbols"),
        (sp.gamma(x), TypeError, r"SymPy's gamma has no counterpart in NumPy, got gamma\(x\)"),
        (sp.Function("f")(x), TypeError, r"SymPy's f has no counterpart in NumPy, got f\(x\)"),
        (x + sp.Integral(sp.exp(x**2), x), TypeError, r"SymPy's Integral has no counterpart"),
        (sp.Integer(3), ValueError, r"the expression 3 has no symbols"),
        (sp.Symbol("x", positive=True) + x, ValueError, r"two symbols .* are both named x"),
    ],
)
def test_what_is_no_function_is_refused_by_name(expression, error, message):
    with pytest.raises(error, match=message):
        as_function(expression)


@pytest.mark.parametrize(
    ("symbols", "error", "message"),
    [
        ([x], ValueError, r"must name all that x\*y depends on, but y is not there"),
        ([x, y, x], ValueError, r"both named x"),
        ([x, "y"], TypeError, r"symbols must be SymPy symbols, got \[x, 'y'\]"),
        ([x, y + 1], TypeError, r"symbols must be SymPy symbols"),
    ],
)
def test_symbols_that_do_not_fit_are_refused(symbols, error, message):
    with pytest.raises(error, match=message):
        as_function(x * y, symbols)


def test_what_is_of_sympy():
    assert is_sympy(x) and is_sympy(sp.Matrix([x])) and is_sympy(sp.Lambda(x, x))
    assert not any(map(is_sympy, (abs, 1.0, np.sin, np.ones(2), "x", None, object())))


def test_sympy_is_not_imported_before_somebody_has_it():
    code = "import sys, fastgd, fastgd._sympy as s; s.is_sympy(abs); print('sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


# ---- where functions are taken ---------------------------------------------------------------------------------------


def test_derivatives_of_expressions_are_those_of_sympy():
    """Of every operation in the table above that is smooth where it is looked at."""
    for name, (expression, values) in EXPRESSIONS.items():
        if name == "Heaviside":  # at its jump
            continue
        symbols = sorted(expression.free_symbols, key=str)
        exact = {symbol: sp.Rational(value) for symbol, value in zip(symbols, values, strict=True)}
        found = fg.grad(expression, argnums=tuple(range(len(values))))(*map(float, values))
        for symbol, slope in zip(symbols, found, strict=True):
            real = expression.subs({s: sp.Symbol(s.name, real=True) for s in symbols})
            expected = sp.diff(real, sp.Symbol(symbol.name, real=True))
            expected = float(expected.subs({sp.Symbol(s.name, real=True): v for s, v in exact.items()}).evalf(30))
            assert slope == pytest.approx(expected, rel=1e-13, abs=0), name


def test_every_door_takes_expressions():
    textbook = (3 * x**2 + 2 * x + 1) ** 2
    assert fg.derivative(textbook)(2.0) == fg.grad(textbook)(2.0) == fg.compile(fg.derivative(textbook))(2.0) == 476.0
    assert fg.derivative(fg.derivative(textbook))(2.0) == 596.0
    assert fg.compile(textbook)(2.0) == 289.0
    assert fg.value_and_grad(x**2 * y, argnums=(0, 1))(3.0, 2.0) == (18.0, (12.0, 9.0))
    np.testing.assert_array_equal(fg.grad(x**2 * y)(np.array([3.0, 2.0])), [12.0, 9.0])
    np.testing.assert_array_equal(fg.hessp(x**2 * y)(np.array([3.0, 2.0]), np.array([1.0, 0.0])), [4.0, 6.0])
    np.testing.assert_array_equal(fg.jacobian(x**2)(np.array([3.0, 2.0])), [[6.0, 0.0], [0.0, 4.0]])
    assert fg.grad(sp.Lambda((y, x), x - 2 * y))(1.0, 1.0) == -2.0
    fg.check_grads(sp.sin(x) * y, 0.5, 2.0)


def test_a_piece_that_does_not_hold_leaves_no_trace():
    entropy = sp.Piecewise((x * sp.log(x), x > 0), (0, True))
    assert fg.derivative(entropy)(0.0) == 0.0
    assert fg.derivative(entropy)(2.0) == pytest.approx(math.log(2) + 1, rel=1e-15)
    with pytest.raises(fg.errors.TraceError, match="branch"):
        fg.compile(entropy)(2.0)


@pytest.mark.parametrize("door", [fg.compile, fg.derivative, fg.grad, fg.hessp, fg.jacobian, fg.value_and_grad])
def test_what_is_neither_function_nor_expression_is_named(door):
    with pytest.raises(TypeError, match=r"f must be a function or a SymPy expression, got 3\.0"):
        door(3.0)
    with pytest.raises(TypeError, match="must be a number, got a MutableDenseMatrix"):
        door(sp.Matrix([x]))


def test_minimize_takes_expressions():
    rosenbrock = (1 - x) ** 2 + 100 * (y - x**2) ** 2
    r = fg.minimize(rosenbrock, [-1.2, 1.0])
    assert r.success
    np.testing.assert_allclose(r.x, [1.0, 1.0], rtol=1e-6)
    ordered = fg.minimize(sp.Lambda((y, x), (x - 1) ** 2 + (y - 2) ** 2), np.zeros(2))
    np.testing.assert_allclose(ordered.x, [2.0, 1.0], rtol=1e-6)
    assert fg.minimize((x - 3) ** 2, 0.0).x == pytest.approx(3.0, rel=1e-6)
    with pytest.raises(TypeError, match=r"takes its symbols x, y .* got one of 3"):
        fg.minimize(rosenbrock, np.zeros(3))
