"""Gradient descent: its steps and its momentum, and the same trajectory through the moments.

Held against the textbook's loop in plain Python, and against itself where each iterate takes a pass.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fastgd as fg
from fastgd import _moments, reference
from fastgd.errors import ConvergenceWarning
from fastgd.objective import SecondMoments
from fastgd.solvers import _trajectory, gd
from fastgd.solvers._interface import Options
from fastgd.solvers._monitor import Monitor
from fastgd.solvers._recurrence import Recurrence
from fastgd.solvers._trajectory import Spectrum, Trajectory

N, D = 60, 4
#: A part of the limit, momentum and nesterov.
METHODS = {
    "plain": (0.95, 0.0, False),
    "plain, small": (0.05, 0.0, False),
    "heavy ball": (0.5, 0.9, False),
    "heavy ball, near its limit": (0.98, 0.6, False),
    "Nesterov": (0.75, 0.9, True),
    "Nesterov, near its limit": (0.98, 0.5, True),
}
GIVEN = {
    "no more": {},
    "no intercept": {"fit_intercept": False},
    "l2": {"l2": 0.3},
    "weights": {"sample_weight": np.random.default_rng(5).uniform(0.1, 3.0, N)},
    "all": {
        "l2": 0.05,
        "sample_weight": np.random.default_rng(6).integers(0, 3, N),
        "fit_intercept": False,
        "w0": [1.0, -2.0, 0.5, 3.0],
    },
    "a start": {"w0": [1.0, -2.0, 0.5, 3.0, -4.0]},
}
by_method = pytest.mark.parametrize("method", METHODS)
by_given = pytest.mark.parametrize("given", GIVEN)


def data(n=N, d=D, *, seed=0, noise=0.5, spread=2.0, means=1.0):
    """Columns of deviations 1 to `spread` and means up to `means`."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.geomspace(1, spread, d) + means * rng.uniform(-1, 1, d)
    return X, X @ rng.standard_normal(d) + 2.0 + noise * rng.standard_normal(n)


def limit(X, momentum=0.0, nesterov=False, *, sample_weight=None, fit_intercept=True, l2=0.0, **_):
    """The step size from which on the method diverges."""
    columns = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    s = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight)
    hessian = 2 / s.sum() * (columns.T * s) @ columns
    hessian[range(X.shape[1]), range(X.shape[1])] += 2 * l2
    largest = float(np.linalg.eigvalsh(hessian)[-1])
    return 2 * (1 + momentum) / (1 + 2 * momentum * nesterov) / largest


def take(patch, way):
    """Steps are taken in this way, whatever it costs; returns the passes that they may need."""
    def asked_for(_objective, options, _monitor):
        return "recurrence" if way != "passes" and options.nesterov and options.momentum == 0 else way

    patch.setattr(gd, "cheapest_way", asked_for)
    return {"passes": 10**9, "recurrence": 40, "eigenbasis": 3}[way]


@pytest.fixture(params=["eigenbasis", "recurrence"])
def by_moments(request, monkeypatch):
    """Many steps at once; the number of passes that this may take."""
    return take(monkeypatch, request.param)


def passes(X, y, **given):
    """The fit by a pass for each iteration."""
    with pytest.MonkeyPatch.context() as patch:
        take(patch, "passes")
        return fit(X, y, **given)


def fit(X, y, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fg.fit(X, y, solver="gd", **given)


def assert_same(r, other, rtol=1e-9):
    """The same iterates: losses, gradients and the end."""
    assert (r.n_iter, r.stop_reason, r.converged) == (other.n_iter, other.stop_reason, other.converged)
    assert r.lr == pytest.approx(other.lr, rel=1e-9)
    np.testing.assert_allclose(r.history["loss"], other.history["loss"], rtol=rtol)
    first = other.history["grad_norm"][0]
    np.testing.assert_allclose(r.history["grad_norm"], other.history["grad_norm"], rtol=rtol, atol=rtol * first)
    np.testing.assert_allclose(r.coef, other.coef, rtol=rtol, atol=rtol * np.abs(other.coef).max())
    assert r.intercept == pytest.approx(other.intercept, rel=rtol, abs=rtol)


# ---- the textbook ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["passes", "recurrence", "eigenbasis"])
@by_given
@by_method
def test_each_method_is_the_textbooks(method, given, way, monkeypatch):
    share, momentum, nesterov = METHODS[method]
    X, y = data()
    options = GIVEN[given]
    lr = share * limit(X, momentum, nesterov, **options)
    steps = 60
    lists = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in options.items()}
    w, losses = reference.momentum_descent(X.tolist(), y.tolist(), lr, momentum, steps, nesterov, **lists)
    if momentum == 0:
        assert reference.gradient_descent(X.tolist(), y.tolist(), lr, steps, **lists) == (w, losses)
    few = take(monkeypatch, way)
    r = fit(X, y, lr=lr, momentum=momentum, nesterov=nesterov, max_iter=steps, tol=0, **options)
    assert r.n_iter == steps
    assert r.n_passes <= few
    assert (r.n_passes > steps) == (way == "passes")
    np.testing.assert_allclose(r.history["loss"], losses, rtol=1e-11)
    np.testing.assert_allclose(np.append(r.coef, r.intercept)[: len(w)], w, rtol=1e-10, atol=1e-10)
    assert r.lr == lr


def test_the_reference_needs_no_momentum_to_look_ahead():
    X, y = (array.tolist() for array in data(20, 2))
    still = reference.momentum_descent(X, y, 0.05, 0.0, 9, True)
    assert still == reference.gradient_descent(X, y, 0.05, 9)
    assert reference.momentum_descent(X, y, 0.05, 0.5, 9, True) != reference.momentum_descent(X, y, 0.05, 0.5, 9)


# ---- the trajectory through the moments ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 31, 32, 33, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("lr", ["auto", "a number"])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_any_number_of_iterations_is_that_many_passes(momentum, nesterov, lr, steps, by_moments):
    """On both sides of where blocks and chunks end."""
    X, y = data(spread=10.0)
    step = "auto" if lr == "auto" else 0.3 * limit(X, momentum, nesterov)
    given = {"lr": step, "momentum": momentum, "nesterov": nesterov, "max_iter": steps, "tol": 0}
    r = fit(X, y, **given)
    assert r.n_passes <= by_moments
    assert_same(r, passes(X, y, **given))


@by_given
@by_method
def test_a_tolerance_ends_it_at_the_same_iteration(method, given, by_moments):
    share, momentum, nesterov = METHODS[method]
    X, y = data(spread=10.0)
    options = GIVEN[given]
    ends = set()
    for lr in ("auto", share * limit(X, momentum, nesterov, **options)):
        for tol in (1e-2, 1e-5, 1e-8):
            full = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "max_iter": 2000, "tol": tol, **options}
            r = fit(X, y, **full)
            other = passes(X, y, **full)
            assert_same(r, other)
            assert r.optimality == pytest.approx(other.optimality, rel=1e-5)
            assert r.n_passes <= 2 * by_moments
            ends.add(r.n_iter)
    assert len(ends) > 3


@by_method
def test_an_exact_fit_ends_at_the_same_iteration(method, by_moments):
    """Its losses fall to the rounding of the moments, and below: F* is taken from a pass."""
    share, momentum, nesterov = METHODS[method]
    X, y = data(noise=0.0)
    lr = share * limit(X, momentum, nesterov)
    for tol in (1e-3, 1e-6, 1e-9):
        given = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "max_iter": 20_000, "tol": tol}
        r, other = fit(X, y, **given), passes(X, y, **given)
        assert r.n_iter == other.n_iter
        assert r.converged
        np.testing.assert_allclose(r.history["loss"], other.history["loss"], rtol=1e-6)
        assert r.n_passes <= 5 * by_moments


@pytest.mark.usefixtures("by_moments")
@pytest.mark.parametrize("means", [0.0, 3.0, 1e2, 1e3, 1e4, 1e5])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_losses_have_nine_digits_whatever_the_means(fit_intercept, means):
    """Of columns as they are, large means are large condition numbers."""
    X, y = data(means=means)
    given = {"lr": 0.4 * limit(X, fit_intercept=fit_intercept), "fit_intercept": fit_intercept, "max_iter": 2000}
    r = fit(X, y, tol=0, **given)
    other = passes(X, y, tol=0, **given)
    np.testing.assert_allclose(r.history["loss"], other.history["loss"], rtol=1e-9)
    assert r.n_passes <= 40


@pytest.mark.parametrize(("by_moments", "rtol"), [("eigenbasis", 1e-9), ("recurrence", 1e-5)], indirect=["by_moments"])
@by_given
def test_float32_columns_are_followed_in_double(given, by_moments, rtol):
    """But for the passes on which a recurrence is anchored."""
    X, y = data()
    narrow, options = X.astype(np.float32), GIVEN[given]
    lr = 0.4 * limit(X, **options)
    r = fit(narrow, y, lr=lr, max_iter=500, tol=0, **options)
    assert r.coef.dtype == np.float32
    assert r.n_passes <= by_moments
    other = passes(narrow.astype(float), y, lr=lr, max_iter=500, tol=0, **options)
    np.testing.assert_allclose(r.history["loss"][:-1], other.history["loss"][:-1], rtol=rtol)
    np.testing.assert_allclose(r.coef, other.coef, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lr", ["auto", 0.05])
def test_columns_that_say_nothing_new(lr, by_moments):
    """A constant one, a copy, and an empty one: eigenvalues of zero."""
    X, y = data()
    X = np.column_stack([X, np.full(N, 2.0), X[:, 0], np.zeros(N)])
    w0 = np.arange(1.0, 9.0)
    for given in ({}, {"l2": 0.1}, {"fit_intercept": False, "w0": w0[:7]}, {"w0": w0}, {"l2": 0.1, "w0": w0}):
        r, other = (f(X, y, lr=lr, max_iter=3000, tol=0, **given) for f in (fit, passes))
        assert_same(r, other)
        assert r.n_passes <= by_moments


@pytest.mark.parametrize("by_moments", ["eigenbasis"], indirect=True)
@pytest.mark.usefixtures("by_moments")
def test_a_trajectory_that_a_pass_does_not_confirm_is_not_believed(monkeypatch):
    X, y = data()
    given = {"lr": 0.01, "max_iter": 500, "tol": 0}
    expected = passes(X, y, **given)
    moved = Trajectory.run

    def wrong(self, max_iter, tol):
        landing = moved(self, max_iter, tol)
        return landing._replace(losses=landing.losses * (1 + 1e-6))

    monkeypatch.setattr(Trajectory, "run", wrong)
    assert_same(fit(X, y, **given), expected)


@pytest.mark.usefixtures("by_moments")
@pytest.mark.parametrize("by_moments", ["recurrence"], indirect=True)
@pytest.mark.parametrize("wrong", ["losses", "slope"])
def test_a_stretch_that_a_pass_does_not_confirm_is_not_believed(wrong, monkeypatch):
    """Of whatever length: what is wrong at all of them is done by passes."""
    X, y = data()
    given = {"lr": 0.01, "max_iter": 500, "tol": 0}
    expected = passes(X, y, **given)
    follow, tried = Recurrence.follow, []

    def off(self, *args):
        stretch = follow(self, *args)
        tried.append(len(stretch.losses))
        return stretch._replace(**{wrong: getattr(stretch, wrong) * (1 + 1e-6)})

    monkeypatch.setattr(Recurrence, "follow", off)
    r = fit(X, y, **given)
    assert r.n_passes > 500
    assert max(tried) > min(tried)
    assert_same(r, expected, rtol=1e-12)


@pytest.mark.parametrize("means", [1e4, 1e5])
@pytest.mark.parametrize(
    "method", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"lr": "auto", "nesterov": True}]
)
def test_large_means_without_an_intercept_cost_no_passes(method, means):
    """What the eigenvectors do not know to nine digits, the recurrence does."""
    X, y = data(3000, 6, means=means)
    given = {"lr": 0.3 * limit(X, fit_intercept=False), "fit_intercept": False, "tol": 0, **method}
    r = fit(X, y, max_iter=200_000, **given)
    assert r.n_iter == 200_000
    assert r.n_passes < 150
    few = passes(X, y, max_iter=1000, **given)
    np.testing.assert_allclose(r.history["loss"][:1000], few.history["loss"][:1000], rtol=1e-9)
    assert r.loss <= few.loss * (1 + 1e-9)


@pytest.mark.parametrize("n", [41, 60])
@pytest.mark.parametrize("noise", [0.5, 0.0])
def test_few_more_rows_than_columns_and_nearly_collinear_ones(noise, n):
    """Condition numbers of 10^12 and more, exact fits: what has no good eigenvectors."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 5)) @ rng.standard_normal((5, 40)) + 1e-5 * rng.standard_normal((n, 40))
    y = X @ rng.standard_normal(40) + noise * rng.standard_normal(n)
    given = {"lr": 0.3 * limit(X), "tol": 0, "max_iter": 3000}
    with pytest.MonkeyPatch.context() as patch:
        take(patch, "recurrence")
        r = fit(X, y, **given)
    other = passes(X, y, **given)
    assert r.n_passes < 100
    np.testing.assert_allclose(r.history["loss"], other.history["loss"], rtol=1e-9)


@pytest.mark.usefixtures("by_moments")
@by_method
def test_a_landing_short_of_the_tolerance_is_gone_on_from(method, monkeypatch):
    """As if rounding had taken the trajectory for converged too early: passes go on, with the same momentum."""
    share, momentum, nesterov = METHODS[method]
    X, y = data(spread=10.0)
    given = {"lr": share * limit(X, momentum, nesterov), "momentum": momentum, "nesterov": nesterov, "tol": 1e-8}
    expected = passes(X, y, max_iter=4000, **given)
    run = Trajectory.run
    monkeypatch.setattr(Trajectory, "run", lambda self, max_iter, tol: run(self, expected.n_iter // 2, 0.0))
    assert_same(fit(X, y, max_iter=4000, **given), expected)


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.2])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_optimality_of_many_is_that_of_each(fit_intercept, l2, standardised):
    X, y = data(means=3.0)
    objective = fg.MSE(X, y, None, fit_intercept, l2)
    spectrum = Spectrum(SecondMoments(D).update(X, y), objective, standardised=standardised)
    w0 = np.arange(1.0, D + 1 + fit_intercept)
    trajectory = Trajectory(spectrum, w0, 1.3 / spectrum.largest, 0.4, nesterov=True)
    chunk = next(trajectory.chunks(200))
    loss, square = trajectory.sums(chunk)
    optimality, noise, _ = trajectory.measured(chunk, np.arange(201), loss, square)
    points = trajectory.iterates(chunk.factors(np.arange(201)))
    np.testing.assert_allclose(points[0], w0, rtol=1e-13)
    for k in (0, 1, 2, 30):
        value, grad = objective.value_and_grad(points[k])
        assert loss[k] == pytest.approx(value, rel=1e-12)
        expected = spectrum.geometry.measure(points[k], value, grad)
        assert (optimality[k], noise[k]) == pytest.approx(expected, rel=1e-8)


def test_powers_of_matrices():
    rng = np.random.default_rng(0)
    step = rng.uniform(-0.7, 0.7, (2, 2, 3))
    for count in (1, 2, 7, 8, 9, 100):
        table = _trajectory.powers(step, count)
        assert table.shape == (2, 2, count + 1, 3)
        for k in (0, 1, count // 2, count):
            for i in range(3):
                expected = np.linalg.matrix_power(step[:, :, i], k)
                np.testing.assert_allclose(table[:, :, k, i], expected, rtol=1e-11, atol=1e-139)
                np.testing.assert_allclose(_trajectory.power(step, k)[:, :, i], expected, rtol=1e-11, atol=1e-139)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.8, False), (0.8, True), (0.0, True)])
@pytest.mark.parametrize("d", [1, 2, 7, 33])
def test_the_kernel_takes_the_steps_of_the_rules(d, momentum, nesterov):
    """On a quadratic that is known by its matrix: M + 2 a a'."""
    rng = np.random.default_rng(d)
    root = rng.standard_normal((2 * d + 2, d))
    matrix, side, anchor = root.T @ root, rng.standard_normal(d), rng.standard_normal(d)
    hessian = matrix + 2 * np.outer(side, side)
    restarted = nesterov and momentum == 0
    lr = 0.5 / float(np.linalg.eigvalsh(hessian)[-1])
    rule = (gd.Restarted if restarted else gd.FixedStep)(lr, 1.0, momentum, nesterov)

    def look(e):
        return gd.Point(e, anchor + hessian @ e, e, 0.0, e)

    point = rule.advance(look(rng.standard_normal(d)), look)
    moved, slopes = np.empty((2, 61, d))
    moved[0], slopes[0] = point.u, point.slope
    change, before, t = rule.change.copy(), rule.before.copy(), rule.t
    t = _moments.descend(matrix, side, anchor, change, before, moved, slopes, (lr, momentum, t, nesterov, restarted))
    for k in range(60):
        np.testing.assert_allclose(moved[k], point.u, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(slopes[k], point.slope, rtol=1e-9, atol=1e-10)
        point = rule.advance(point, look)
    np.testing.assert_allclose(change, rule.change, rtol=1e-6, atol=1e-12)
    assert t == rule.t
    with pytest.raises(ValueError, match="square matrix"):
        _moments.descend(matrix, side, anchor, change, before, moved, slopes[:60], (lr, momentum, t, nesterov, False))


@pytest.mark.parametrize(("steps", "way"), [(10, "passes"), (1000, "recurrence"), (100_000, "eigenbasis")])
def test_steps_are_taken_in_the_way_that_costs_least(steps, way):
    X, y = np.ones((3000, 1000), np.float32), np.ones(3000)
    objective, options = fg.MSE(X, y), Options(w0=np.zeros(1000), max_iter=steps, tol=0.0)
    assert gd.cheapest_way(objective, options, Monitor(objective, 0.0, steps)) == way
    watched = Monitor(objective, 0.0, steps, callback=lambda state: None)
    assert gd.cheapest_way(objective, options, watched) == "passes"
    assert gd.cheapest_way(fg.MSE(X[:1000], y[:1000]), options, Monitor(objective, 0.0, steps)) == "passes"


def test_a_million_epochs_cost_no_million_passes():
    X, y = data(5000, 8, spread=30.0)
    for given in ({"lr": 0.5 * limit(X)}, {"lr": "auto"}, {"lr": "auto", "momentum": 0.9}):
        r = fit(X, y, max_iter=1_000_000, tol=0, **given)
        assert r.n_iter == 1_000_000
        assert r.n_passes <= 3
        assert {len(column) for column in r.history.values()} == {1_000_001}
        assert (np.diff(r.history["seconds"]) >= 0).all()
        few = passes(X, y, max_iter=1000, tol=0, **given)
        np.testing.assert_allclose(r.history["loss"][:1000], few.history["loss"][:1000], rtol=1e-9)


def test_who_looks_at_each_iterate_is_shown_it():
    """A callback, or a validation set: no iterate is left out, however many there may be."""
    X, y = data()
    lr, seen = 0.4 * limit(X), []
    w, losses = reference.gradient_descent(X.tolist(), y.tolist(), lr, 500)

    def callback(state):
        seen.append((state.iteration, state.loss, state.coef, state.intercept))

    fit(X, y, lr=lr, max_iter=500, tol=0, callback=callback)
    assert [iteration for iteration, *_ in seen] == list(range(501))
    np.testing.assert_allclose([loss for _, loss, *_ in seen], losses, rtol=1e-12)
    np.testing.assert_allclose(np.append(seen[-1][2], seen[-1][3]), w, rtol=1e-10)
    r = fit(X, y, lr=lr, max_iter=500, tol=0, X_val=X, y_val=y, patience=500)
    assert len(r.history["val_loss"]) == r.n_iter + 1 == 501


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("given", [{}, {"l2": 0.1}, {"fit_intercept": False}, {"fit_intercept": False, "l2": 0.1}])
@pytest.mark.parametrize("lr", ["auto", 0.02])
@pytest.mark.usefixtures("by_moments")
def test_the_gap_bound_is_a_bound_that_says_something(lr, given, seed):
    X, y = data(seed=seed)
    optimum = fg.fit(X, y, solver="moments", **given).loss
    for steps in (1, 10, 100, 1000):
        r = fit(X, y, lr=lr, max_iter=steps, tol=0, **given)
        gap = r.loss - optimum
        assert gap <= r.gap_bound * (1 + 1e-9) + 1e-14 * optimum
        assert r.gap_bound <= 100 * gap + 1e-12 * optimum
    X = np.column_stack([X, X[:, 0]])
    assert np.isnan(fit(X, y, lr=lr, max_iter=9, tol=0).gap_bound)


# ---- scale -----------------------------------------------------------------------------------------------------------


RULES = {
    "auto": {"lr": "auto"},
    "backtracking": {"lr": "backtracking"},
    "bb": {"lr": "bb"},
    "heavy ball": {"lr": "auto", "momentum": 0.7},
    "Nesterov": {"lr": "auto", "nesterov": True, "momentum": 0.7},
    "Nesterov, restarted": {"lr": "auto", "nesterov": True},
}


@pytest.mark.parametrize("through", ["passes", "by itself"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_units_of_the_columns_cost_nothing(rule, fit_intercept, through):
    """Columns of 10^6 beside such of 10^-6: as many iterations as in their own units, and the same predictions."""
    X, y = data(200, 6, means=1.0)
    factors = 10.0 ** np.linspace(-6, 6, 6)
    run = passes if through == "passes" else fit
    given = {**RULES[rule], "fit_intercept": fit_intercept, "max_iter": 1000}
    r, scaled = run(X, y, **given), run(X * factors, y, **given)
    assert r.converged
    assert scaled.converged
    assert abs(scaled.n_iter - r.n_iter) <= 1
    assert scaled.lr == pytest.approx(r.lr, rel=1e-6)
    exact = fg.fit(X, y, solver="moments", fit_intercept=fit_intercept)
    np.testing.assert_allclose(scaled.coef * factors, exact.coef, rtol=1e-5, atol=1e-6)
    assert scaled.loss <= exact.loss * (1 + 1e-12)


def test_rules_never_read_more_than_twice_for_a_step():
    X, y = data(300, 8, spread=30.0)
    for lr in ("backtracking", "bb"):
        r = fit(X, y, lr=lr, max_iter=1000)
        assert r.converged
        assert r.n_iter < r.n_passes <= 2 * r.n_iter + 4  # the first point and the geometry of the columns


def test_backtracking_falls_with_each_step_as_armijo_asks():
    X, y = data(300, 8, spread=30.0, noise=5.0)
    X = (X - X.mean(axis=0)) / X.std(axis=0)  # so that gradients in the history are those of the search
    X -= X.mean(axis=0)
    y, seen = y - y.mean(), []
    r = fit(X, y, lr="backtracking", max_iter=200, fit_intercept=False, callback=lambda state: seen.append(state.coef))
    loss, norm = r.history["loss"], r.history["grad_norm"]
    assert (np.diff(loss) <= 1e-14 * loss[0]).all()
    steps = np.linalg.norm(np.diff(seen, axis=0), axis=1) / norm[:-1]
    early = norm[:-1] > 1e-5 * norm[0]
    assert early.sum() > 5
    promised = gd.ENOUGH * steps * norm[:-1] ** 2
    assert (loss[:-1] - loss[1:] >= promised * (1 - 1e-6))[early].all()


def test_the_step_of_barzilai_and_borwein():
    """s.s / s.y of the change before, as two gradients give it."""
    X, y = data(300, 5, spread=10.0)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    seen = []
    fit(X, y, lr="bb", max_iter=12, tol=0, fit_intercept=False, callback=lambda state: seen.append(state.coef))
    p = fg.MSE(X, y)
    w, g = np.array(seen), np.array([p.grad(coef) for coef in seen])
    for k in range(2, 12):
        s, change = w[k] - w[k - 1], g[k] - g[k - 1]
        step = np.linalg.norm(w[k + 1] - w[k]) / np.linalg.norm(g[k])
        cuts = np.log2(s @ s / (s @ change) / step)
        assert cuts == pytest.approx(round(cuts), abs=1e-5)
        assert cuts >= -1e-5


def test_momentum_pays_where_columns_are_correlated():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 1)) + 0.05 * rng.standard_normal((300, 8))
    y = X @ rng.standard_normal(8) + rng.standard_normal(300)
    plain, *others = (
        fit(X, y, max_iter=100_000, tol=1e-7, **given)
        for given in ({}, {"momentum": 0.95}, {"momentum": 0.95, "nesterov": True}, {"nesterov": True})
    )
    for r in (plain, *others):
        assert r.converged
    for r in others:
        assert r.n_iter < plain.n_iter / 5


# ---- divergence ------------------------------------------------------------------------------------------------------


def check_step_sizes(steps, seeds, fit_options):
    """Show that each step size above the limit is refused with a safe one, and none below it."""
    refused = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        X, y = data(int(rng.integers(20, 200)), int(rng.integers(1, 8)), seed=seed, spread=rng.uniform(1, 10))
        top = limit(X)
        start = float(np.mean(y**2))
        for share in np.geomspace(0.005, 50, steps):  # 0.01/λmax to 100/λmax
            lr, losses = float(share * top), []
            if 0.995 < share < 1:
                continue
            if share < 1:
                assert np.isfinite(fit(X, y, lr=lr, max_iter=20, tol=0, **fit_options).loss)
                continue
            with pytest.raises(fg.DivergenceError) as caught:
                fit(X, y, lr=lr, max_iter=20, tol=0, callback=lambda state, seen=losses: seen.append(state.loss))
            error = caught.value
            refused += 1
            assert max(losses, default=0.0) <= 1e3 * start
            assert error.max_lr == pytest.approx(top, rel=1e-5)
            assert f"{lr:.6g}" in str(error)
            assert f"lr={error.max_lr / 2:.6g} is safe" in str(error)
        for safe in (error.max_lr / 2, "auto"):
            assert fit(X, y, lr=safe, max_iter=1_000_000, tol=1e-6).converged
    return refused


@pytest.mark.parametrize("options", [{}, {"callback": lambda state: None}], ids=["alone", "watched"])
def test_steps_above_the_limit_are_refused_and_none_below(options):
    assert check_step_sizes(40, range(5), options) == 5 * 17


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.5, False), (0.9, False), (0.5, True), (0.9, True), (0.0, True)])
def test_limits_with_momentum(momentum, nesterov):
    """Just below it is a descent that stays bounded, just above one that does not; the limit is named."""
    X, y = data(means=0.5)
    top = limit(X, momentum, nesterov) * (2 / 3 if nesterov and momentum == 0 else 1)
    given = {"momentum": momentum, "nesterov": nesterov, "tol": 0, "max_iter": 500}
    for share in (1 + 1e-5, 2.0, 1e6):
        with pytest.raises(fg.DivergenceError, match="momentum" if momentum else "4/\\(3 λmax\\)") as caught:
            fit(X, y, lr=share * top, **given)
        assert caught.value.max_lr == pytest.approx(top, rel=1e-6)
    losses = passes(X, y, lr=0.99 * top, **given).history["loss"]
    assert losses[-1] < losses[0]
    for safe in (top / 2, "auto"):
        assert fit(X, y, lr=safe, momentum=momentum, nesterov=nesterov, max_iter=100_000).converged
    if momentum:  # what the limit keeps from happening
        lists = X.tolist(), y.tolist(), 1.1 * top, momentum, 200
        losses = reference.momentum_descent(*lists, nesterov)[1]
        assert losses[-1] > 1e3 * losses[0]


def test_a_loss_that_rises_names_the_limit_of_its_method():
    """Should the eigenvalue be too small, the losses tell; the best parameters come with the error."""
    X, y = data()
    for momentum, name in ((0.0, "below 2/λmax"), (0.5, r"below 2 \(1 \+ momentum\)/λmax")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gd, "largest_eigenvalue", lambda objective, frame: 1e-3)
            with pytest.raises(fg.DivergenceError, match=name) as caught:
                passes(X, y, lr=100.0, momentum=momentum)
        error = caught.value
        assert "the loss rose from" in str(error)
        np.testing.assert_array_equal(error.w, np.zeros(D + 1))
        assert error.loss == pytest.approx(np.mean(y**2))
