"""Descent of any loss: beside SciPy's from the same starts, beside the textbook's loops, and where it must end."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections import namedtuple
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import CLASSICS, huber, logistic, quadratic, rosenbrock
from scipy import optimize

import fastgd as fg
from fastgd import reference
from fastgd._descents import DESCENTS
from fastgd._function import Function, Parameters
from fastgd._line_search import CURVATURE, ENOUGH, Along, Stuck, backtrack, search
from fastgd.errors import ConvergenceWarning
from fastgd.minimize import MinimizeResult

METHODS = list(DESCENTS)
FIXED = ("gd", "momentum", "nesterov", "adam")
by_method = pytest.mark.parametrize("method", METHODS)
LOSSES = CLASSICS | {"logistic": logistic(), "Huber": huber()}

square = lambda x: float(np.sum((x - 1) ** 2))
slope = lambda x: 2 * (x - 1)


def quiet(*args, **kwargs):
    """A descent whose warnings are not the matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fg.minimize(*args, **kwargs)


# ---- beside SciPy ----------------------------------------------------------------------------------------------------


def least_of_scipy(loss):
    """What SciPy's quasi-Newton methods reach from there: the values at their minima."""
    methods = {"BFGS": {"gtol": 1e-8}, "L-BFGS-B": {"gtol": 1e-8, "ftol": 1e-15, "maxiter": 10_000}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [optimize.minimize(loss.f, loss.x0, jac=loss.jac, method=m, options=o).fun for m, o in methods.items()]


@pytest.mark.parametrize("derived", [False, True], ids=["jac", "derived"])
@pytest.mark.parametrize("name", LOSSES)
def test_with_no_settings_it_reaches_scipys_minimum(name, derived):
    loss = LOSSES[name]
    r = fg.minimize(loss.f, loss.x0, jac=None if derived else loss.jac)
    assert r.success, r.message
    assert any(abs(r.fun - fun) <= 1e-6 * max(1, abs(fun)) for fun in least_of_scipy(loss)), r
    assert r.fun == pytest.approx(loss.f(r.x), rel=1e-12, abs=1e-20)


@pytest.mark.parametrize("name", LOSSES)
def test_bb_needs_no_settings_either(name):
    loss = LOSSES[name]
    r = fg.minimize(loss.f, loss.x0, jac=loss.jac, method="bb")
    assert r.success, r.message
    assert any(abs(r.fun - fun) <= 1e-6 * max(1, abs(fun)) for fun in least_of_scipy(loss)), r


@pytest.mark.parametrize("name", LOSSES)
def test_it_calls_f_about_as_often_as_scipy(name):
    loss = LOSSES[name]
    theirs = optimize.minimize(loss.f, loss.x0, jac=loss.jac, method="L-BFGS-B", options={"gtol": 1e-7, "ftol": 1e-15})
    assert fg.minimize(loss.f, loss.x0, jac=loss.jac).nfev <= 1.5 * theirs.nfev + 10


def test_hundred_thousand_parameters():
    scales = np.geomspace(1, 100, 100_000)
    r = fg.minimize(lambda x: np.sum(scales * (x - 1) ** 2) / 2, np.zeros(len(scales)))
    assert r.success
    np.testing.assert_allclose(r.x, 1, atol=1e-6)


# ---- convex quadratics -----------------------------------------------------------------------------------------------


@by_method
@given(
    kappa=st.floats(1, 1e4),
    d=st.integers(1, 8),
    seed=st.integers(0, 2**32),
    shift=st.sampled_from([0.0, 1.0, -1e3]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
@settings(max_examples=12, deadline=None)
def test_every_method_finds_the_minimum_of_a_quadratic(method, kappa, d, seed, shift, scale):
    """f - f* <= |g|^2 / 2 μ; plain gradient descent has maxiter steps, each with at least the usual contraction."""
    loss = quadratic(scale * np.geomspace(1, kappa, d), seed=seed, shift=shift)
    r = quiet(loss.f, loss.x0, jac=loss.jac, method=method)
    gap, first = r.fun - shift, loss.f(loss.x0) - shift
    rounding = 1e-12 * abs(shift)
    if r.status == 1:
        assert method == "gd" and kappa > 100
        assert gap <= 1e-4 * first + rounding
    else:
        assert r.success, r
        bound = np.sum(np.square(r.jac)) / (2 * scale)
        assert gap <= bound * (1 + 1e-6) + 1e-12 * first + rounding
        unit = min(1, max(abs(loss.f(loss.x0)), np.abs(loss.jac(loss.x0)).max()))
        assert r.status == 3 or np.abs(r.jac).max() <= 1e-7 * unit


@by_method
def test_the_loss_falls_from_each_point_to_the_next(method):
    loss = CLASSICS["Beale"]
    losses = quiet(loss.f, loss.x0, jac=loss.jac, method=method).history["loss"]
    if method == "bb":      # below the largest of the last ten
        losses = np.array([losses[max(0, k - 9) : k + 1].max() for k in range(len(losses))])
    assert (np.diff(losses) <= 1e-13 * np.abs(losses[:-1])).all()


@by_method
@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_of_the_loss_does_not_matter(method, unit):
    """In small units the descent does not end at its start, and in large ones it ends."""
    loss = quadratic(np.geomspace(1, 20, 5))
    r = fg.minimize(lambda x: unit * loss.f(x), loss.x0, jac=lambda x: unit * loss.jac(x), method=method)
    assert r.success
    assert r.fun / unit < 1e-9


@by_method
def test_a_start_at_the_minimum_ends_there(method):
    loss = logistic()
    best = fg.minimize(loss.f, loss.x0, jac=loss.jac)
    again = fg.minimize(loss.f, best.x, jac=loss.jac, method=method)
    assert again.success
    assert again.fun <= best.fun * (1 + 1e-14)
    there = fg.minimize(square, np.ones(3), jac=slope, method=method)
    assert (there.nit, there.nfev, there.status) == (0, 1, 0)


# ---- fixed steps: the textbook ---------------------------------------------------------------------------------------


def textbook(method, gradient, x, lr, m, steps):
    """The points of the textbook's loop."""
    points, v, z = [x], np.zeros(len(x)), x
    a = c = np.zeros(len(x))
    for k in range(1, steps + 1):
        g = gradient(x)
        if method == "adam":
            a, c = 0.9 * a + 0.1 * g, 0.999 * c + 0.001 * g**2
            x = x - lr * (a / (1 - 0.9**k)) / (np.sqrt(c / (1 - 0.999**k)) + 1e-8)
        elif method == "nesterov":
            z, before = x - lr * g, z
            x = z + m * (z - before)
        else:
            v = (m if method == "momentum" else 0.0) * v - g
            x = x + lr * v
        points.append(x)
    return points


@pytest.mark.parametrize("method", FIXED)
def test_a_fixed_step_is_the_textbooks(method):
    loss, lr, m = quadratic([1.0, 2.0, 5.0]), 0.05, 0.8
    given = {"momentum": m} if method in ("momentum", "nesterov") else {}
    seen = []
    r = quiet(loss.f, loss.x0, jac=loss.jac, method=method, lr=lr, maxiter=30, tol=0, callback=seen.append, **given)
    points = textbook(method, loss.jac, loss.x0, lr, m, 30)
    np.testing.assert_allclose(seen, points[1:], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(r.history["loss"], [loss.f(x) for x in points], rtol=1e-10)
    assert (r.nit, r.nfev, r.njev, r.method) == (30, 31, 31, method)


@pytest.mark.parametrize("method", ["gd", "momentum"])
def test_a_fixed_step_on_mean_squared_error_is_the_references(method):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    m = 0.5 if method == "momentum" else 0.0
    w, losses = reference.momentum_descent(X.tolist(), y.tolist(), 0.1, m, 25, fit_intercept=False)
    given = {"momentum": m} if m else {}
    r = quiet(lambda w: np.mean((X @ w - y) ** 2), np.zeros(3), method=method, lr=0.1, maxiter=25, tol=0, **given)
    np.testing.assert_allclose(r.x, w, rtol=1e-10)
    np.testing.assert_allclose(r.history["loss"], losses, rtol=1e-11)


@pytest.mark.peer("torch")
@pytest.mark.parametrize("method", ["nesterov", "adam"])
def test_a_fixed_step_is_pytorchs(method):
    import torch

    loss = quadratic([1.0, 2.0, 5.0])
    x = torch.tensor(loss.x0, requires_grad=True)
    optimiser = torch.optim.Adam([x], lr=0.05)
    if method == "nesterov":
        optimiser = torch.optim.SGD([x], lr=0.05, momentum=0.8, nesterov=True)
    for _ in range(20):
        x.grad = torch.tensor(loss.jac(x.detach().numpy()))
        optimiser.step()
    given = {"momentum": 0.8} if method == "nesterov" else {}
    r = quiet(loss.f, loss.x0, jac=loss.jac, method=method, lr=0.05, maxiter=20, tol=0, **given)
    np.testing.assert_allclose(r.x, x.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("method", ["gd", "momentum", "nesterov"])
def test_a_step_too_long_is_divergence_with_its_best_point(method):
    loss = quadratic([1.0, 10.0], shift=3.0)
    with pytest.raises(fg.DivergenceError, match=r"diverges with lr=1: in iteration \d+ the loss is .*smaller lr") as e:
        fg.minimize(loss.f, loss.x0, jac=loss.jac, method=method, lr=1.0)
    assert e.value.lr == 1.0
    assert e.value.loss == loss.f(e.value.w) <= loss.f(loss.x0)


@pytest.mark.parametrize("offset", [0.0, -50.0])
def test_a_loss_that_starts_at_zero_may_rise_for_a_while(offset):
    """Divergence is measured by what the first step was to gain, where the loss itself is no measure."""
    f = lambda x: np.sum(x**2) - 4.0 + offset
    r = fg.minimize(f, np.array([2.0]), jac=lambda x: 2 * x, method="momentum", lr=0.4, momentum=0.95, maxiter=3000)
    assert r.success
    assert r.history["loss"].max() > r.history["loss"][0] - 1e-9
    assert r.fun == pytest.approx(offset - 4.0)


# ---- the line searches -----------------------------------------------------------------------------------------------


def along(f, jac, x, direction):
    function = Function(f, jac, None, (), Parameters(x))
    return Along(function, function.look(np.asarray(x, float)), np.asarray(direction, float))


@given(seed=st.integers(0, 2**32), first=st.floats(1e-6, 1e4))
@settings(max_examples=60, deadline=None)
def test_the_search_ends_where_wolfes_conditions_hold(seed, first):
    rng = np.random.default_rng(seed)
    loss = CLASSICS["Wood (Colville)"]
    x = rng.uniform(-3, 3, 4)
    line = along(loss.f, loss.jac, x, -loss.jac(x))
    trial = search(line, first)
    gradient = loss.jac(x - trial.step * loss.jac(x))
    assert trial.point.loss <= line.start.point.loss + ENOUGH * trial.step * line.start.slope
    assert -gradient @ loss.jac(x) >= CURVATURE * line.start.slope


@given(seed=st.integers(0, 2**32), first=st.floats(1e-6, 1e4), share=st.sampled_from([ENOUGH, 0.3]))
@settings(max_examples=60, deadline=None)
def test_backtracking_ends_at_the_first_step_that_is_enough(seed, first, share):
    rng = np.random.default_rng(seed)
    loss = CLASSICS["Goldstein-Price"]
    x = rng.uniform(-2, 2, 2)
    gradient = loss.jac(x)
    tried = []

    def f(z):
        tried.append((float((x - z) @ gradient / (gradient @ gradient)), loss.f(z)))
        return tried[-1][1]

    line = along(f, loss.jac, x, -gradient)
    trial = backtrack(line, first, share)
    (_, start), *cut, (_, last) = tried
    assert trial.point.loss == last <= start + share * trial.step * line.start.slope
    assert all(value > start + share * step * line.start.slope for step, value in cut)
    assert all(0.09 <= after / before <= 0.51 for (before, _), (after, _) in pairwise(cut))


@pytest.mark.parametrize("find", [search, backtrack])
def test_no_step_uphill(find):
    line = along(square, lambda x: -slope(x), np.array([3.0]), [1.0])
    with pytest.raises(Stuck):
        find(line, 1.0)


# ---- what is not finite ----------------------------------------------------------------------------------------------


def barrier(x):
    return float(np.sum(x) - np.sum(np.log(x)))


@by_method
@pytest.mark.parametrize("start", [0.01, 50.0])
def test_a_trial_at_nan_is_a_step_too_long(method, start):
    r = fg.minimize(barrier, np.full(2, start), jac=lambda x: 1 - 1 / x, method=method)
    np.testing.assert_allclose(r.x, 1, atol=1e-6)


@by_method
def test_a_trial_where_only_the_gradient_is_nan_is_a_step_too_long(method):
    """A loss that goes on where its gradient does not."""
    jac = lambda x: np.where(np.abs(x) < 3, 2 * x, np.nan)
    r = fg.minimize(lambda x: np.sum(x**2), np.array([2.9]), jac=jac, method=method)
    np.testing.assert_allclose(r.x, 0, atol=1e-6)


def test_pythons_overflow_is_a_step_too_long():
    r = fg.minimize(lambda x: math.exp(x * x), 20.0, jac=lambda x: 2 * x * math.exp(x * x))
    assert r.x == pytest.approx(0, abs=1e-6)


def test_an_overflow_at_the_start_is_the_cause_of_the_error():
    with pytest.raises(fg.NonFiniteError, match="the loss is nan at the start") as error:
        fg.minimize(math.exp, 1000.0, jac=math.exp)
    assert isinstance(error.value.__cause__, OverflowError)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_at_the_start_is_named(bad):
    with pytest.raises(fg.NonFiniteError, match=rf"the loss is {bad} at the start") as error:
        fg.minimize(lambda x: bad, np.ones(2), jac=slope)
    np.testing.assert_array_equal(error.value.x, [1, 1])
    assert error.value.iteration == 0


def test_a_gradient_that_is_not_finite_is_named_with_its_place():
    x0 = {"w": np.ones((2, 2)), "b": 0.0}
    jac = lambda x: {"w": np.array([[0, 0], [np.nan, 0]]), "b": 0.0}
    with pytest.raises(fg.NonFiniteError, match=r"the gradient holds nan at x\['w'\]\[1, 0\] at the start"):
        fg.minimize(lambda x: 1.0, x0, jac=jac)


@pytest.mark.parametrize("method", FIXED)
def test_a_fixed_step_to_nan_is_named_with_its_iteration(method):
    with pytest.raises(fg.NonFiniteError, match=r"the loss is nan in iteration 1, after a step with lr=10") as error:
        fg.minimize(barrier, np.full(2, 5.0), jac=lambda x: 1 - 1 / x, method=method, lr=10.0)
    assert error.value.iteration == 1
    assert (error.value.x < 0).all()


@by_method
def test_a_wall_of_nan_is_named(method):
    """Downhill there is nothing but NaN: no step is short enough."""
    f = lambda x: float(x) if x >= 1 else math.nan
    with pytest.raises(fg.NonFiniteError, match="the loss is nan after iteration 0, however short the step"):
        fg.minimize(f, 1.0, jac=lambda x: 1.0, method=method)


@pytest.mark.parametrize("method", ["gd", "nesterov", "bb", "lbfgs"])
def test_a_loss_without_a_minimum_says_so(method):
    f = lambda x: -float(x) if x < 1000 else -math.inf
    with pytest.raises(fg.NonFiniteError, match=r"the loss is -inf after iteration \d+.*f has no minimum"):
        fg.minimize(f, 1.0, jac=lambda x: -1.0, method=method)


@by_method
def test_a_gradient_whose_square_overflows_says_so_or_is_followed(method):
    f, jac = (lambda x: 1e200 * np.sum(x**2)), (lambda x: 2e200 * x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        r = fg.minimize(f, np.array([2.0]), jac=jac, method=method)
    assert {w.category for w in caught} <= {ConvergenceWarning}
    assert abs(r.x[0]) < 1e-9 if method == "lbfgs" else "square out of float64's range" in r.message


# ---- a jac that does not fit -----------------------------------------------------------------------------------------


@by_method
@pytest.mark.parametrize(
    "jac", [lambda x: -slope(x), lambda x: slope(x)[::-1] * [1, -1]], ids=["sign", "order"]
)
def test_a_wrong_gradient_is_told(method, jac):
    with pytest.warns(ConvergenceWarning, match="jac is not the gradient of f there, or f has a kink"):
        r = fg.minimize(square, np.array([3.0, 7.0]), jac=jac, method=method)
    assert (r.success, r.status) == (False, 2)


def test_a_kink_is_told():
    f, jac = (lambda x: float(np.abs(x) @ [1, 3])), (lambda x: np.sign(x) * [1, 3])
    with pytest.warns(ConvergenceWarning, match="maxiter=1000 reached; but .* f has a kink"):
        fg.minimize(f, np.array([1.3, 2.1]), jac=jac, method="gd", maxiter=1000)


def test_a_trace_that_f_has_left_is_told():
    far = [0.0]
    f = lambda x: np.sum((x - 1) ** 2) + far[0]

    def move(_):
        far[0] = 5.0

    with pytest.warns(ConvergenceWarning, match=r"f gives 5 at the end and its trace .*jac=fastgd.grad\(f\)"):
        r = fg.minimize(f, np.zeros(2), callback=move)
    assert not r.success


# ---- derived gradients -----------------------------------------------------------------------------------------------


def test_f_is_traced_once():
    traced = []

    def f(x):
        traced.append(type(x).__name__)
        return rosenbrock(x)

    r = fg.minimize(f, [-1.2, 1.0])
    assert r.fun < 1e-12
    assert len(traced) == 2     # and its end compared
    assert r.njev > 40


def test_branches_on_values_are_followed():
    def f(x):
        return (x - 3.0) ** 2 if x > 1.0 else 5.0 - x

    r = fg.minimize(f, -4.0)
    assert r.success
    assert r.x == pytest.approx(3.0, abs=1e-6)


def test_errors_of_f_and_of_the_callback_come_through():
    def f(_):
        raise TypeError("f's own")

    def interrupted(_):
        raise ZeroDivisionError("the callback's own")

    with pytest.raises(TypeError, match="f's own"):
        fg.minimize(f, 1.0)
    with pytest.raises(ZeroDivisionError, match="the callback's own"):
        fg.minimize(square, 3.0, callback=interrupted, jac=slope)


# ---- parameters of every kind ----------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "left right")
STRUCTURES = {
    "float": 0.5,
    "integer": 3,
    "float32": np.float32(0.5),
    "list of numbers": [1, 2.5],
    "tuple of numbers": (1.0, 2.0),
    "matrix of numbers": [[1.0, 2.0], [3.0, 4.0]],
    "array": np.arange(6.0).reshape(2, 3),
    "array of no dimensions": np.array(2.0),
    "Fortran's order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "integers": np.arange(4),
    "big-endian": np.arange(4.0).astype(">f8"),
    "float32 array": np.arange(4, dtype=np.float32),
    "list of arrays": [np.ones(2), np.zeros((2, 1))],
    "tuple with a number": (np.ones(2), 3.0),
    "named tuple": Pair(np.ones(2), 0.0),
    "dict": {"w": np.ones((3, 2)), "b": np.zeros(2, np.float32)},
    "nested": {"layers": [{"w": np.ones((2, 2)), "b": 0.0}, (np.zeros(3), [np.ones(1), 2.0])], "scale": 1.5},
}


def each(function, x):
    """A function of each leaf, in the layout of x."""
    if isinstance(x, dict):
        return {key: each(function, value) for key, value in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(each(function, value) for value in x))
    if isinstance(x, (list, tuple)):
        return type(x)(each(function, value) for value in x)
    return function(x)


def leaves(x):
    out = []
    each(out.append, x)
    return out


@pytest.mark.parametrize("derived", [False, True], ids=["jac", "derived"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_results_have_the_layout_of_the_start(name, derived):
    x0 = STRUCTURES[name]
    before = repr(x0)
    f = lambda x: sum(np.sum((leaf - 1.0) ** 2) for leaf in leaves(x))
    r = fg.minimize(f, x0, jac=None if derived else lambda x: each(lambda leaf: 2 * (leaf - 1), x))
    assert repr(x0) == before
    assert r.success
    for result in (r.x, r.jac):
        if "numbers" in name:
            assert result.shape == np.shape(x0)
            continue
        assert repr(each(lambda leaf: 0, result)) == repr(each(lambda leaf: 0, x0))
        for leaf, start in zip(leaves(result), leaves(x0), strict=True):
            assert np.shape(leaf) == np.shape(start)
            single = getattr(start, "dtype", None) == np.float32
            assert np.asarray(leaf).dtype == (np.float32 if single else np.float64)
            assert isinstance(leaf, np.ndarray) == isinstance(start, np.ndarray)
    np.testing.assert_allclose(np.concatenate([np.ravel(leaf) for leaf in leaves(r.x)]), 1, atol=1e-6)


def test_a_start_is_not_modified_by_a_function_that_writes_into_its_argument():
    x0 = np.full(3, 5.0)

    def f(x):
        value = square(x)
        x[:] = 77
        return value

    r = fg.minimize(f, x0, jac=slope)
    np.testing.assert_array_equal(x0, 5)
    np.testing.assert_allclose(r.x, 1, atol=1e-6)


@by_method
def test_a_loss_in_float32_ends_at_its_rounding(method):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 4)).astype(np.float32)
    y = (X @ [1, 2, 3, 4] + rng.standard_normal(100)).astype(np.float32)

    def both(w):
        r = X @ w.astype(np.float32) - y
        return np.mean(r**2), 2 * X.T @ r / np.float32(len(y))

    r = fg.minimize(both, np.zeros(4, np.float32), jac=True, method=method)
    assert r.success
    assert r.x.dtype == np.float32
    np.testing.assert_allclose(r.x, np.linalg.lstsq(X.astype(float), y, rcond=None)[0], atol=1e-3)


def test_the_same_start_gives_the_same_bits():
    loss = LOSSES["logistic"]
    for method in METHODS:
        one, two = (quiet(loss.f, loss.x0, jac=loss.jac, method=method, maxiter=200) for _ in range(2))
        np.testing.assert_array_equal(one.history["loss"], two.history["loss"])
        np.testing.assert_array_equal(one.x, two.x)


# ---- SciPy's calling shape -------------------------------------------------------------------------------------------


@by_method
@pytest.mark.parametrize("way", ["separate", "together", "derived"])
def test_ways_to_give_a_gradient_and_arguments(method, way):
    target = np.array([1.0, -2.0])
    f = lambda x, a, b: np.sum(a * (x - b) ** 2)
    g = lambda x, a, b: 2 * a * (x - b)
    calls = {"f": 0, "g": 0}

    def counted(name, function):
        def call(*given):
            calls[name] += 1
            return function(*given)

        return call

    if way == "derived":
        r = fg.minimize(f, np.zeros(2), (3.0, target), method)
    elif way == "together":
        both = counted("f", lambda x, a, b: (f(x, a, b), g(x, a, b)))
        r = fg.minimize(both, np.zeros(2), args=(3.0, target), method=method, jac=True)
        assert r.nfev == r.njev == calls["f"]
    else:
        r = fg.minimize(counted("f", f), np.zeros(2), (3.0, target), method, counted("g", g))
        assert (r.nfev, r.njev) == (calls["f"], calls["g"])
    np.testing.assert_allclose(r.x, target, atol=1e-6)


def test_one_argument_needs_no_tuple():
    r = fg.minimize(lambda x, b: np.sum((x - b) ** 2), np.zeros(2), args=3.0)
    np.testing.assert_allclose(r.x, 3, atol=1e-6)


def test_the_result_has_scipys_fields():
    theirs = optimize.minimize(square, np.zeros(2), jac=slope, method="BFGS")
    r = fg.minimize(square, np.zeros(2), jac=slope)
    assert {*theirs} - {"hess_inv"} <= {*r}
    assert r.x is r["x"]
    assert {"x", "history"} <= {*dir(r)}
    r.note = "mine"
    assert r["note"] == "mine"
    del r.note
    with pytest.raises(AttributeError, match="MinimizeResult has no attribute 'hess_inv'; it has x, fun"):
        _ = r.hess_inv
    text = repr(r)
    assert re.search(r"^ +fun: 0\.0$", text, re.MULTILINE)
    assert "entries of iteration, loss, grad_norm, seconds" in text
    assert repr(MinimizeResult()) == ""
    for name in r:
        assert re.search(rf"^ *({name} : |nfev, {name} : )|^ *{name}, ", MinimizeResult.__doc__, re.MULTILINE), name


def test_errors_document_their_fields():
    for name in vars(fg.NonFiniteError("")):
        assert re.search(rf"^ *{name} : ", fg.NonFiniteError.__doc__, re.MULTILINE), name


def test_options_may_come_in_a_dict():
    loss = CLASSICS["Rosenbrock"]
    with pytest.warns(ConvergenceWarning, match="maxiter=5 reached"):
        r = fg.minimize(loss.f, loss.x0, jac=loss.jac, options={"maxiter": 5})
    assert (r.nit, r.status, r.success) == (5, 1, False)
    one = fg.minimize(loss.f, loss.x0, jac=loss.jac, options={"gtol": 1e-2, "memory": 3})
    two = fg.minimize(loss.f, loss.x0, jac=loss.jac, tol=1e-2, memory=3)
    assert one.nit == two.nit < fg.minimize(loss.f, loss.x0, jac=loss.jac).nit
    assert np.abs(one.jac).max() <= 1e-2


def test_maxfun_bounds_the_calls():
    loss = CLASSICS["Rosenbrock"]
    r = quiet(loss.f, loss.x0, jac=loss.jac, maxfun=20)
    assert r.message == "maxfun=20 reached"
    assert 20 <= r.nfev < 30


@by_method
def test_a_tolerance_of_zero_makes_all_iterations_and_warns_of_nothing(method):
    loss = CLASSICS["Wood (Colville)"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = fg.minimize(loss.f, loss.x0, jac=loss.jac, method=method, tol=0, maxiter=40)
    assert (r.nit, r.status) == (40, 1)


# ---- history, callback, bar ------------------------------------------------------------------------------------------


@by_method
def test_history_holds_every_point(method):
    loss = CLASSICS["Beale"]
    seen = []
    r = quiet(loss.f, loss.x0, jac=loss.jac, method=method, callback=lambda xk: seen.append(xk), maxiter=50)
    points = [loss.x0, *seen]
    assert {*r.history} == {"iteration", "loss", "grad_norm", "seconds"}
    np.testing.assert_array_equal(r.history["iteration"], np.arange(r.nit + 1))
    np.testing.assert_array_equal(r.history["loss"], [loss.f(x) for x in points])
    np.testing.assert_allclose(r.history["grad_norm"], [np.linalg.norm(loss.jac(x)) for x in points], rtol=1e-12)
    assert (np.diff(r.history["seconds"]) >= 0).all()
    assert r.fun == r.history["loss"][-1]
    np.testing.assert_array_equal(r.x, seen[-1])


def test_a_callback_may_take_the_intermediate_result():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)

    r = fg.minimize(rosenbrock, np.zeros(2), callback=callback)
    assert [result.nit for result in seen] == list(range(1, r.nit + 1))
    np.testing.assert_array_equal([result.fun for result in seen], r.history["loss"][1:])
    assert [result.grad_norm for result in seen] == r.history["grad_norm"][1:].tolist()
    seen[-1].x[:] = 99      # a copy
    assert r.x.max() < 2


def raised(_):
    raise StopIteration


@pytest.mark.parametrize("callback", [lambda x: True, raised])
def test_a_callback_ends_the_descent(callback):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = fg.minimize(rosenbrock, [-1.2, 1.0], callback=callback)
    assert (r.nit, r.status, r.success, r.message) == (1, 99, False, "the callback ended it")


def test_a_keyboard_interrupt_comes_through_and_takes_the_bar_away(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fg.minimize(rosenbrock, [-1.2, 1.0], callback=interrupt, progress=True)
    assert "\x1b[?25h" in capsys.readouterr().err       # the cursor is back
    assert fg.minimize(rosenbrock, [-1.2, 1.0]).success


def test_a_bar_shows_iteration_loss_and_gradient(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    fg.minimize(rosenbrock, [-1.2, 1.0], progress=True)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert re.search(r"iteration \d+ .*loss .*, gradient ", text)


def test_without_rich_a_bar_is_refused_in_one_line(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r"progress=True needs rich: pip install 'fastgd\[cli\]'"):
        fg.minimize(rosenbrock, [-1.2, 1.0], progress=True)


# ---- what is refused -------------------------------------------------------------------------------------------------

REFUSED = [
    ({"f": 3}, TypeError, "f must be a function of x, got 3"),
    ({"x0": None}, TypeError, "x0 must be an array, got None"),
    ({"x0": []}, ValueError, r"x0 must hold at least one number, got \[\]"),
    ({"x0": np.empty((0, 2))}, ValueError, r"x0 must hold at least one number, got shape \(0, 2\)"),
    ({"x0": "start"}, TypeError, "x0 must hold real numbers, got dtype <U5"),
    ({"x0": 1j}, TypeError, "x0 must hold real numbers, got dtype complex128"),
    ({"x0": [[1.0, 2.0], [3.0]]}, ValueError, "x0 is not a rectangular array"),
    ({"x0": [1.0, math.nan]}, ValueError, "x0 holds nan at index 1"),
    ({"x0": math.inf}, ValueError, "x0 must be finite, got inf"),
    ({"x0": {"w": [np.ones(2), np.array([1, np.inf])]}}, ValueError, r"x0\['w'\]\[1\] holds inf at index 1"),
    ({"x0": {"w": np.array(["a"])}}, TypeError, r"x0\['w'\] must hold real numbers"),
    ({"x0": np.ma.array([1.0], mask=[True])}, TypeError, "x0 is a masked array"),
    ({"method": "BFGS"}, ValueError, "method must be one of 'auto', 'gd', .*; got 'BFGS'"),
    ({"method": 3}, TypeError, "method must be one of"),
    ({"jac": "2-point"}, TypeError, r"jac must be a function of x, True \(f returns loss and gradient\) or None"),
    ({"tol": -1}, ValueError, "tol must be a finite number of at least 0, got -1"),
    ({"tol": math.nan}, ValueError, "tol must be a finite number of at least 0, got nan"),
    ({"tol": "small"}, TypeError, "tol must be a finite number"),
    ({"maxiter": 0}, ValueError, "maxiter must be an integer of at least 1, got 0"),
    ({"maxiter": 2.5}, TypeError, "maxiter must be an integer of at least 1, got 2.5"),
    ({"maxfun": 0}, ValueError, "maxfun must be an integer of at least 1, got 0"),
    ({"lr": 0, "method": "gd"}, ValueError, "lr must be a finite number above 0, got 0"),
    ({"lr": 0.1}, ValueError, "method='auto' has no use for lr; it is for 'gd', 'momentum', 'nesterov', 'adam'"),
    ({"lr": 0.1, "method": "bb"}, ValueError, "method='bb' has no use for lr"),
    ({"momentum": 1.0, "method": "momentum"}, ValueError, "momentum must be a finite number of at least 0 and below 1"),
    ({"momentum": 0.5, "method": "gd"}, ValueError, "method='gd' has no use for momentum; it is for 'momentum', 'nes"),
    ({"memory": 0}, ValueError, "memory must be an integer of at least 1"),
    ({"memory": 5, "method": "gd"}, ValueError, "method='gd' has no use for memory"),
    ({"callback": 3}, TypeError, "callback must be a function of x, or None, got 3"),
    ({"progress": 1}, TypeError, "progress must be True or False, got 1"),
    ({"options": 3}, TypeError, "options must be a dict or None, got 3"),
    ({"options": {"ftol": 1}}, ValueError, "options has an unknown key 'ftol'; known are gtol, lr, maxfun, maxiter"),
    ({"options": {"maxiter": 3}, "maxiter": 4}, ValueError, "maxiter is given twice"),
    ({"f": lambda x: x}, ValueError, r"f must return one number, got an array of shape \(2,\)"),
    ({"f": lambda x: None}, TypeError, "f must return a real number, got None"),
    ({"f": lambda x: 1j}, TypeError, "f must return a real number, got 1j"),
    ({"f": lambda x: "low"}, TypeError, "f must return a real number, got 'low'"),
    ({"jac": True}, TypeError, "with jac=True, f must return its value and its gradient, got 2.0"),
    ({"jac": lambda x: 1.0}, ValueError, r"jac\(x\) must have shape \(2,\), as x0 has, got \(\)"),
    ({"jac": lambda x: x[:, None]}, ValueError, r"jac\(x\) must have shape \(2,\), as x0 has, got \(2, 1\)"),
    ({"jac": lambda x: None}, TypeError, r"jac\(x\) must be an array, got None"),
    ({"jac": lambda x: x * 1j}, TypeError, r"jac\(x\) must hold real numbers"),
    ({"f": lambda x: (1.0, x[:1]), "jac": True}, ValueError, r"f\(x\)\[1\] must have shape \(2,\)"),
    ({"x0": {"a": 1.0, "b": np.ones(2)}, "f": lambda x: 1.0, "jac": lambda x: [1.0, np.ones(2)]}, ValueError,
     r"jac\(x\) must be a dict, got \[1.0, "),
    ({"x0": {"a": 1.0, "b": np.ones(2)}, "f": lambda x: 1.0, "jac": lambda x: {"a": 1.0}}, ValueError,
     r"jac\(x\) must have the keys \['a', 'b'\], got \['a'\]"),
    ({"x0": [np.ones(2), 0.0], "f": lambda x: 1.0, "jac": lambda x: [np.ones(2)]}, ValueError,
     r"jac\(x\) must have length 2, got 1"),
    ({"x0": {"a": [np.ones(2), 0.0]}, "f": lambda x: 1.0, "jac": lambda x: {"a": [np.ones(3), 0.0]}}, ValueError,
     r"jac\(x\)\['a'\]\[0\] must have shape \(2,\), as x0\['a'\]\[0\] has, got \(3,\)"),
]


@pytest.mark.parametrize(("given", "error", "message"), REFUSED, ids=[message[:60] for _, _, message in REFUSED])
def test_what_is_wrong_is_named(given, error, message):
    with pytest.raises(error, match=message):
        fg.minimize(**({"f": square, "x0": np.zeros(2), "jac": slope} | given))


def test_keys_of_a_gradient_may_come_in_another_order():
    jac = lambda x: {"b": 2 * (x["b"] - 2), "a": 2 * (x["a"] - 1)}
    r = fg.minimize(lambda x: (x["a"] - 1) ** 2 + (x["b"] - 2) ** 2, {"a": 0.0, "b": 0.0}, jac=jac)
    assert r.x == pytest.approx({"a": 1, "b": 2}, abs=1e-6)
