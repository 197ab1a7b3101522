"""Derivatives of random compositions beside SymPy's, and of random array programs beside PyTorch's."""

import math

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import fastgd as fg

# ---- scalar compositions ---------------------------------------------------------------------------------------------

#: Functions of one number: in NumPy, in SymPy.
UNARY = [
    (np.sin, sympy.sin), (np.cos, sympy.cos), (np.tanh, sympy.tanh), (np.arctan, sympy.atan), (np.exp, sympy.exp),
    (np.arcsinh, sympy.asinh), (np.sinh, sympy.sinh), (np.cosh, sympy.cosh),
    (lambda u: np.log1p(u * u), lambda u: sympy.log(1 + u**2)), (lambda u: np.sqrt(1 + u**2),
                                                                 lambda u: sympy.sqrt(1 + u**2)),
    (np.expm1, lambda u: sympy.exp(u) - 1), (lambda u: np.log(2 + np.sin(u)), lambda u: sympy.log(2 + sympy.sin(u))),
    (lambda u: u**2, lambda u: u**2), (lambda u: u**3, lambda u: u**3), (lambda u: 1 / (1 + u**2),
                                                                         lambda u: 1 / (1 + u**2)),
    (lambda u: (1 + u**2) ** -1.5, lambda u: (1 + u**2) ** sympy.Rational(-3, 2)), (lambda u: -u, lambda u: -u),
    (lambda u: np.arctan2(u, 2.0), lambda u: sympy.atan(u / 2)), (lambda u: 2.0**u, lambda u: sympy.Integer(2) ** u),
    (lambda u: np.logaddexp(u, 0.5), lambda u: sympy.log(sympy.exp(u) + sympy.exp(sympy.Rational(1, 2)))),
    (lambda u: np.cbrt(3 + np.cos(u)), lambda u: (3 + sympy.cos(u)) ** sympy.Rational(1, 3)),
    (lambda u: np.arcsin(0.5 * np.sin(u)), lambda u: sympy.asin(sympy.sin(u) / 2)),
    (lambda u: np.hypot(u, 1.0), lambda u: sympy.sqrt(u**2 + 1)),
]
BINARY = [
    (lambda u, v: u + v,) * 2, (lambda u, v: u - v,) * 2, (lambda u, v: u * v,) * 2,
    (lambda u, v: u / (2 + v**2),) * 2, (lambda u, v: (1 + u**2) ** v,) * 2,
    (lambda u, v: u * 3 - v / 4, lambda u, v: u * 3 - v / sympy.Integer(4)),
]


def composed(draw, depth):
    """A random composition, as a function of NumPy and as one of SymPy."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        if draw(st.booleans()):
            return (lambda x: x), (lambda x: x)
        number = draw(st.sampled_from([0.5, 1.0, 2.0, -1.5, 3.0]))
        return (lambda x: number), (lambda x: sympy.Rational(number))
    if draw(st.booleans()):
        f, F = draw(st.sampled_from(UNARY))
        u, U = composed(draw, depth - 1)
        return (lambda x: f(u(x))), (lambda x: F(U(x)))
    f, F = draw(st.sampled_from(BINARY))
    (u, U), (v, V) = composed(draw, depth - 1), composed(draw, depth - 1)
    return (lambda x: f(u(x), v(x))), (lambda x: F(U(x), V(x)))


@st.composite
def compositions(draw):
    return composed(draw, 3)


def exact(expressions, x, point):
    """Their values, from 40 digits."""
    with mpmath.workdps(40):
        return [float(value) for value in sympy.lambdify(x, expressions, "mpmath", cse=True)(mpmath.mpf(point))]


def largest_part(expressions, x, point):
    """The largest value in the course of computing them, which bounds what rounding may come to."""
    replaced, reduced = sympy.cse(expressions)
    parts = [part for whole in (*(right for _, right in replaced),
                                *reduced) for part in sympy.preorder_traversal(whole)]
    known = {x: mpmath.mpf(point)}
    for name, right in replaced:
        known[name] = sympy.lambdify(list(known), right, "mpmath")(*known.values())
    values = sympy.lambdify(list(known), list(dict.fromkeys(parts)), "mpmath")(*known.values())
    return max(float(abs(value)) for value in values)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(compositions(), st.sampled_from([-1.25, -0.5, 0.375, 0.75, 1.5]))
def test_first_and_second_derivatives_of_compositions_equal_sympys(pair, point):
    f, F = pair
    x = sympy.Symbol("x", real=True)
    symbolic = sympy.sympify(F(x))
    assume(symbolic.has(x))
    derivatives = [symbolic.diff(x), symbolic.diff(x, 2)]
    size = max(largest_part(derivatives, x, point), 1.0)
    assume(size < 1e3)
    expected, curvature = exact(derivatives, x, point)
    f_of_floats = lambda x: f(x) + 0.0 * x
    for got in (fg.derivative(f)(point), fg.grad(f)(point), fg.compile(fg.grad(f_of_floats))(point)):
        assert math.isclose(got, expected, rel_tol=1e-12, abs_tol=1e-12 * min(size, 1.0))
    for got in (fg.derivative(fg.derivative(f))(point), fg.grad(fg.grad(f))(point), fg.derivative(fg.grad(f))(point),
                fg.compile(fg.grad(fg.derivative(f_of_floats)))(point), fg.hessp(f)(point, 1.0)):
        assert math.isclose(got, curvature, rel_tol=1e-12, abs_tol=1e-12 * size)


# ---- array programs --------------------------------------------------------------------------------------------------

ROWS, COLUMNS = 4, 5


def steps(torch, rng):
    """Operations on a matrix, by name: in NumPy and in PyTorch, each with constants of its own."""
    w = rng.normal(size=(COLUMNS, COLUMNS)) / COLUMNS
    v, c = rng.normal(size=COLUMNS), rng.uniform(0.5, 2, size=(ROWS, 1))
    w_, v_, c_ = map(torch.as_tensor, (w, v, c))
    rows = [2, 0, 0, 3]
    mask = rng.random((ROWS, COLUMNS)) < 0.5
    mask_ = torch.as_tensor(mask)
    return {
        "sin": (np.sin, torch.sin), "tanh": (np.tanh, torch.tanh), "gauss": (lambda x: np.exp(-(x**2)),
                                                                             lambda x: torch.exp(-(x**2))),
        "softplus": (lambda x: np.logaddexp(x, 0.0), lambda x: torch.logaddexp(x, torch.zeros_like(x))),
        "log1p": (lambda x: np.log1p(x * x), lambda x: torch.log1p(x * x)),
        "root": (lambda x: np.sqrt(1 + x * x), lambda x: torch.sqrt(1 + x * x)),
        "quotient": (lambda x: x / (1 + x**2) - v, lambda x: x / (1 + x**2) - v_),
        "power": (lambda x: (1 + x * x) ** 0.7, lambda x: (1 + x * x) ** 0.7),
        "affine": (lambda x: x @ w + v, lambda x: x @ w_ + v_),
        "scale": (lambda x: c * x, lambda x: c_ * x),
        "gram": (lambda x: x @ x.T @ x / 10, lambda x: x @ x.T @ x / 10),
        "centre": (lambda x: x - np.mean(x, axis=0), lambda x: x - x.mean(0)),
        "standard": (lambda x: x / np.sqrt(1 + np.var(x, axis=1, keepdims=True)),
                     lambda x: x / torch.sqrt(1 + x.var(1, unbiased=False, keepdim=True))),
        "softmax": (lambda x: np.exp(x - np.logaddexp.reduce(x, axis=1, keepdims=True)), lambda x: torch.softmax(x, 1)),
        "rows": (lambda x: x[rows], lambda x: x[rows]),
        "slice": (lambda x: np.concatenate([x[1:, ::-1], x[:1]]), lambda x: torch.cat([x[1:].flip(1), x[:1]])),
        "turn": (lambda x: x.T.reshape(x.shape) * v, lambda x: x.T.reshape(x.shape) * v_),
        "where": (lambda x: np.where(mask, x, x**2), lambda x: torch.where(mask_, x, x**2)),
        "branch": (lambda x: np.where(x > 0, x, np.sin(x)), lambda x: torch.where(x > 0, x, torch.sin(x))),
        "relu": (lambda x: np.maximum(x, 0.1), lambda x: torch.maximum(x, torch.full_like(x, 0.1))),
        "clip": (lambda x: np.clip(x, -1.1, 0.9) + 0.1 * x, lambda x: torch.clamp(x, -1.1, 0.9) + 0.1 * x),
        "abs": (lambda x: np.abs(x - 0.05), lambda x: torch.abs(x - 0.05)),
        "largest": (lambda x: x - 0.5 * np.max(x, axis=1, keepdims=True), lambda x: x - 0.5 * x.amax(1, keepdim=True)),
        "norm": (lambda x: x / (1 + np.linalg.norm(x, axis=0)), lambda x: x / (1 + torch.linalg.norm(x, dim=0))),
        "cumsum": (lambda x: np.cumsum(x, axis=1) / 3, lambda x: torch.cumsum(x, 1) / 3),
        "prod": (lambda x: x + np.prod(x, axis=0), lambda x: x + x.prod(0)),
        "einsum": (lambda x: np.einsum("ij,ik->jk", x, x)[:ROWS] / 5,
                   lambda x: torch.einsum("ij,ik->jk", x, x)[:ROWS] / 5),
        "stack": (lambda x: np.sum(np.stack([x, np.cos(x)]), axis=0), lambda x: torch.stack([x, torch.cos(x)]).sum(0)),
        "outer": (lambda x: np.outer(x[:, 0], x[1]), lambda x: torch.outer(x[:, 0], x[1])),
        "triangle": (lambda x: x + np.triu(x) * 0.5, lambda x: x + torch.triu(x) * 0.5),
        "roll": (lambda x: x * np.roll(x, 2, axis=1), lambda x: x * torch.roll(x, 2, 1)),
        "arctan2": (lambda x: np.arctan2(x, 1.5 + x[::-1] ** 2), lambda x: torch.arctan2(x, 1.5 + x.flip(0) ** 2)),
    }


def program(table, names):
    """The steps one after the other, and a number at the end: in NumPy, in PyTorch."""

    def run(x, side):
        y = x
        for name in names:
            y = table[name][side](y)
        return ((y * y).sum() + y.sum()) / ROWS

    return (lambda x: run(x, 0)), (lambda x: run(x, 1))


@pytest.mark.peer("torch")
@pytest.mark.parametrize("seed", range(100))
def test_gradients_and_hessian_products_of_array_programs_equal_pytorchs(seed):
    import torch

    rng = np.random.default_rng(seed)
    table = steps(torch, rng)
    names = list(rng.choice(list(table), size=5, replace=False))
    f, f_torch = program(table, names)
    x, v = rng.normal(size=(2, ROWS, COLUMNS))
    t = torch.tensor(x, requires_grad=True)
    loss = f_torch(t)
    (g,) = torch.autograd.grad(loss, t, create_graph=True)
    (h,) = torch.autograd.grad(torch.sum(g * torch.as_tensor(v)), t, allow_unused=True)
    h = np.zeros_like(x) if h is None else h.numpy()
    for value_and_grad in (fg.value_and_grad(f), fg.compile(fg.value_and_grad(f))):
        value, gradient = value_and_grad(x)
        assert math.isclose(value, loss.item(), rel_tol=1e-12)
        np.testing.assert_allclose(gradient, g.detach().numpy(), rtol=1e-10, atol=1e-10 * np.abs(gradient).max(),
                                   err_msg=str(names))
    np.testing.assert_allclose(fg.hessp(f)(x, v), h, rtol=1e-10, atol=1e-10 * (np.abs(h).max() + 1e-10),
                               err_msg=str(names))
    fg.check_grads(f, x)
