"""Conjugate gradients: against LAPACK, on every kind of data; what they certify, when they stop, when they hand over.

And the cost model by which `solver="auto"` chooses.
"""

import dataclasses
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import sparse
from strategies import make_problem

import fastgd as fg
from fastgd._csr import CSR
from fastgd._engine import SHARED_BYTES
from fastgd.solvers import _chooser, _costs, cg, choose
from fastgd.solvers._interface import Options
from fastgd.solvers._monitor import Monitor
from fastgd.solvers._scaling import Coordinates


def data(n, d, seed=0, dtype=float):
    """Correlated columns with means, and targets that are not quite linear in them."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) @ (np.eye(d) + 0.3 * rng.standard_normal((d, d)) / np.sqrt(d))
    X += rng.uniform(-3, 3, d)
    y = X @ rng.standard_normal(d) + 2.0 + rng.standard_normal(n)
    return X.astype(dtype), y.astype(dtype)


def conditioned(n, d, condition, seed=0):
    """Columns of length one whose Hessian has about this condition number: eigenvalues in geometric progression."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((rows, d)))[0] for rows in (n, d))
    X = left * np.geomspace(1, condition**-0.5, d) @ right.T * np.sqrt(n)
    return X, X @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n)


def prepared(X, y, s=None, l2=0.0, fit_intercept=True):
    """Columns and targets centred, weighted by sqrt(s) and, for l2, above sqrt(S l2) I; and their means."""
    X, y = (X.toarray() if sparse.issparse(X) else np.asarray(X, float)), np.asarray(y, float)
    s = np.ones(len(X)) if s is None else np.asarray(s, float)
    x_mean, y_mean = (np.average(X, 0, s), np.average(y, 0, s)) if fit_intercept else (np.zeros(X.shape[1]), 0.0)
    A, b = np.sqrt(s)[:, None] * (X - x_mean), np.sqrt(s) * (y - y_mean)
    if l2:
        A, b = np.vstack([A, np.sqrt(s.sum() * l2) * np.eye(X.shape[1])]), np.append(b, np.zeros(X.shape[1]))
    return A, b, x_mean, y_mean


def least_squares(X, y, **given):
    """Coefficients, intercept and F by LAPACK's SVD."""
    A, b, x_mean, y_mean = prepared(X, y, **given)
    coef = np.linalg.lstsq(A, b, rcond=None)[0]
    s = given.get("s")
    loss = np.sum((A @ coef - b) ** 2) / (len(y) if s is None else np.sum(s))
    return coef, y_mean - x_mean @ coef, loss


def assert_optimal(r, X, y, rtol=1e-6, excess=1e-12, **given):
    """Coefficients relative to the largest; F relative to what it is."""
    coef, intercept, loss = least_squares(X, y, **given)
    assert r.converged, r.stop_reason
    assert r.solver == "cg"
    np.testing.assert_allclose(r.coef, coef, rtol=0, atol=rtol * np.abs(coef).max())
    assert r.intercept == pytest.approx(intercept, abs=rtol * max(1.0, np.abs(coef).max()))
    assert r.loss == pytest.approx(loss, rel=excess)


def by_hand(r):
    """Whether conjugate gradients went all the way."""
    return "handed over" not in r.stop_reason


OPTIONS = {
    "plain": {},
    "no intercept": {"fit_intercept": False},
    "weighted": {"s": np.random.default_rng(1).uniform(0, 3, 300)},
    "l2": {"l2": 0.1},
    "all": {"s": np.random.default_rng(1).uniform(0, 3, 300), "l2": 0.1, "fit_intercept": False},
}


def options_of_fit(given):
    return {"sample_weight" if name == "s" else name: value for name, value in given.items()}


# ---- the optimum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("d", [1, 7, 60])
def test_tall_data_equals_lstsq(d, kind):
    X, y = data(300, d)
    r = fg.fit(X, y, solver="cg", **options_of_fit(OPTIONS[kind]))
    assert by_hand(r)
    assert_optimal(r, X, y, **OPTIONS[kind])


@pytest.mark.parametrize("kind", OPTIONS)
def test_float32_equals_lstsq(kind):
    X, y = data(300, 7, dtype=np.float32)
    r = fg.fit(X, y, solver="cg", **options_of_fit(OPTIONS[kind]))
    assert r.coef.dtype == np.float32
    assert_optimal(r, X, y, rtol=2e-4, excess=1e-6, **OPTIONS[kind])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", OPTIONS)
def test_sparse_rows_are_their_dense_ones(kind, dtype):
    rng = np.random.default_rng(0)
    X = sparse.random_array((300, 40), density=0.1, format="csr", rng=rng, dtype=dtype)
    y = X @ rng.standard_normal(40) + rng.standard_normal(300)
    r = fg.fit(X, y, solver="cg", tol=1e-8, **options_of_fit(OPTIONS[kind]))
    double = dtype == np.float64
    assert_optimal(r, X, y, rtol=1e-6 if double else 2e-5, excess=1e-12 if double else 1e-6, **OPTIONS[kind])
    same = fg.fit(X.toarray(), y, solver="cg", tol=1e-8, **options_of_fit(OPTIONS[kind]))
    np.testing.assert_allclose(r.coef, same.coef, rtol=0, atol=(1e-6 if double else 2e-5) * np.abs(same.coef).max())


@pytest.mark.parametrize("kind", ["plain", "no intercept", "l2"])
@pytest.mark.parametrize("n", [5, 60])
def test_of_many_optima_the_one_nearest_in_standardised_columns_is_taken(n, kind, monkeypatch):
    """Where l2 leaves one only, that. Else lstsq's of columns scaled to unit length."""
    monkeypatch.setattr(cg, "MOMENTS_BYTES", 0)
    X, y = data(n, 150)
    given = OPTIONS[kind]
    A, b, x_mean, y_mean = prepared(X, y, **given)
    lengths = np.ones(150) if "l2" in given else np.linalg.norm(A, axis=0)
    coef = np.linalg.lstsq(A / lengths, b, rcond=None)[0] / lengths
    r = fg.fit(X, y, solver="cg", **given)
    assert r.converged
    assert by_hand(r)
    np.testing.assert_allclose(r.coef, coef, rtol=0, atol=1e-6 * np.abs(coef).max())
    assert r.intercept == pytest.approx(y_mean - x_mean @ coef, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_of_the_columns_cost_nothing(dtype):
    X, y = data(500, 20)
    plain = fg.fit(X.astype(dtype), y, solver="cg")
    factors = 2.0 ** np.random.default_rng(0).integers(-20, 21, 20)   # powers of two: the same columns to the bit
    scaled = fg.fit((X * factors).astype(dtype), y, solver="cg")
    assert scaled.n_iter == plain.n_iter
    np.testing.assert_allclose(scaled.coef * factors, plain.coef, rtol=1e-6 if dtype == np.float64 else 1e-4)
    assert scaled.converged


def test_large_means_cost_digits_in_proportion_only():
    X, y = data(500, 10)
    coef, _, loss = least_squares(X, y)
    plain = fg.fit(X, y, solver="cg")
    for mean in (1e2, 1e4, 1e6):
        shifted = X + mean
        r = fg.fit(shifted, y, solver="cg")
        assert r.converged
        assert r.n_iter <= plain.n_iter + 3
        np.testing.assert_allclose(r.coef, least_squares(shifted, y)[0], atol=1e-12 * mean + 1e-7)
        assert r.loss == pytest.approx(loss, rel=1e-9)
    assert np.abs(plain.coef - coef).max() < 1e-7


@pytest.mark.parametrize("condition", [1e2, 1e3, 1e4, 1e5])
def test_iterations_grow_with_the_root_of_the_condition_number(condition):
    """At most the sqrt(κ) / 2 ln(2 / ε) of the theory: ε in the norm of the error, of which the gradient is sqrt(κ)
    times as much at most."""
    X, y = conditioned(1000, 20, condition)
    r = fg.fit(X, y, solver="cg")
    assert by_hand(r)
    assert_optimal(r, X, y, rtol=1e-8 * condition)
    assert r.n_iter <= np.sqrt(condition) / 2 * np.log(2 * np.sqrt(condition) / 1e-8)
    told = float(r.stop_reason.partition("condition number ")[2].split()[0])
    lengths = np.linalg.norm(X - X.mean(0), axis=0)
    true = np.linalg.cond((X - X.mean(0)) / lengths) ** 2
    assert 0.1 * true <= told <= true       # "or more"


def test_a_condition_number_is_told_where_it_says_something():
    """Of columns that have nothing to do with each other it is near 1, which it always is or more."""
    rng = np.random.default_rng(0)
    for n, told in ((100_000, ""), (2000, "; condition number 1.1 or more")):
        X = rng.standard_normal((n, 10))
        r = fg.fit(X, X @ np.arange(10.0) + rng.standard_normal(n), solver="cg")
        assert r.stop_reason == f"optimality is within tol=1e-08{told}"


def test_a_start_is_taken_up():
    X, y = data(300, 30)
    best = fg.fit(X, y, solver="cg")
    again = fg.fit(X, y, solver="cg", w0=np.append(best.coef, best.intercept))
    assert again.n_iter == 0
    assert again.converged
    np.testing.assert_allclose(again.coef, best.coef, rtol=0, atol=0)
    near = fg.fit(X, y, solver="cg", w0=best.coef + 1e-5)
    assert 0 < near.n_iter < best.n_iter
    assert_optimal(near, X, y)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_constant_and_repeated_columns(fit_intercept):
    X, y = data(200, 5)
    X = np.column_stack([X, np.full(200, 7.0), X[:, 0], np.zeros(200)])
    r = fg.fit(X, y, solver="cg", fit_intercept=fit_intercept)
    assert r.converged
    assert r.loss == pytest.approx(least_squares(X, y, fit_intercept=fit_intercept)[2], rel=1e-12)
    assert r.coef[0] == pytest.approx(r.coef[6], rel=1e-9)
    assert r.coef[7] == 0
    assert (r.coef[5] == 0) == fit_intercept


def test_what_there_is_nothing_to_fit_to():
    for X, y in ((np.ones((10, 3)), np.arange(10.0)), (data(10, 3)[0], np.full(10, 4.0)), (np.ones((1, 1)), [2.0])):
        r = fg.fit(X, y, solver="cg")
        assert r.converged
        np.testing.assert_allclose(r.coef, 0, atol=1e-12)
        assert r.intercept == pytest.approx(np.mean(y))


# ---- passes, history, certificate ------------------------------------------------------------------------------------


def test_one_pass_for_each_iteration():
    """And one for the lengths of the columns, one at the start, and the exact gradients every so often."""
    X, y = conditioned(1000, 20, 1e4)
    r = fg.fit(X, y, solver="cg", tol=0, max_iter=120)
    assert r.n_passes == 120 + 2 + 120 // cg.PERIOD + 1
    r = fg.fit(*data(300, 30), solver="cg")
    assert r.n_passes <= r.n_iter + 4


@pytest.mark.parametrize("kind", OPTIONS)
def test_history_is_that_of_the_iterates(kind):
    """Loss and gradient that were carried along are what a pass finds."""
    X, y = data(300, 7)
    given = options_of_fit(OPTIONS[kind])
    seen = []
    r = fg.fit(X, y, solver="cg", callback=seen.append, **given)
    p = fg.MSE(X, y, given.get("sample_weight"), given.get("fit_intercept", True), given.get("l2", 0.0))
    assert len(seen) == r.n_iter + 1 == len(r.history["loss"])
    for k, iterate in enumerate(seen):
        w = np.append(iterate.coef, iterate.intercept) if p.fit_intercept else iterate.coef
        loss, grad = p.value_and_grad(w)
        assert r.history["loss"][k] == pytest.approx(loss, rel=1e-12)
        assert r.history["grad_norm"][k] == pytest.approx(np.linalg.norm(grad), rel=1e-6, abs=1e-11)
    assert (np.diff(r.history["loss"]) <= 0).all()


def test_what_is_certified_comes_from_a_pass():
    for X, y in (data(300, 7), data(300, 7, dtype=np.float32), conditioned(500, 30, 1e5)):
        for steps in (3, 10_000):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", fg.ConvergenceWarning)
                r = fg.fit(X, y, solver="cg", max_iter=steps)
            loss, grad = fg.MSE(X, y, fit_intercept=True).value_and_grad(
                np.append(r.coef.astype(float), r.intercept), out=np.empty(X.shape[1] + 1)
            )
            assert r.loss == r.history["loss"][-1] == loss
            assert r.history["grad_norm"][-1] == pytest.approx(np.linalg.norm(grad), rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gap_bound_is_one(dtype, fit_intercept):
    X, y = data(200, 6, dtype=dtype)
    X = (X * 10.0 ** np.arange(-3, 3)).astype(dtype)
    for l2 in (1e-4, 0.1, 10.0):
        best = least_squares(X, y, l2=l2, fit_intercept=fit_intercept)[2]
        for steps in (1, 2, 4, 100):
            given = {"l2": l2, "fit_intercept": fit_intercept, "max_iter": steps}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", fg.ConvergenceWarning)
                r = fg.fit(X, y, solver="cg", **given)
            coef, intercept = r.coef.astype(float), r.intercept
            reached = np.mean((X.astype(float) @ coef + intercept - y) ** 2) + l2 * coef @ coef
            assert reached - best <= r.gap_bound + 1e-13 * best
    assert r.gap_bound < 1e-3 * best
    assert np.isnan(fg.fit(X, y, solver="cg", fit_intercept=fit_intercept).gap_bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_the_threads(dtype):
    X, y = data(2**19, 10, dtype=dtype)
    assert X.nbytes >= SHARED_BYTES
    one, two = (fg.fit(X, y, solver="cg", n_threads=k) for k in (1, 2))
    np.testing.assert_array_equal(one.coef, two.coef)
    np.testing.assert_array_equal(one.history["loss"], two.history["loss"])
    assert (one.intercept, one.loss, one.optimality) == (two.intercept, two.loss, two.optimality)


@pytest.mark.parametrize("held", [None, 10])
def test_a_fit_needs_two_percent_of_the_memory_of_X(held):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400_000, 10))
    if held:
        rows = np.arange(0, X.size + 1, held, dtype=np.int32)
        X = sparse.csr_array((X.ravel(), rng.integers(0, 500, X.size, dtype=np.int32), rows), shape=(400_000, 500))
    y = rng.standard_normal(400_000)
    tracemalloc.start()
    try:
        fg.fit(X, y, solver="cg", max_iter=3, tol=0, n_threads=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 0.02 * (X.data.nbytes if held else X.nbytes)


# ---- exact gradients in the place of those carried along -------------------------------------------------------------


class Blurred:
    """An objective whose Hessian products, or whose gradients, are wrong by a share."""

    def __init__(self, objective, products=0.0, gradients=0.0):
        self.objective, self.products, self.gradients = objective, products, gradients
        self.rng = np.random.default_rng(0)

    def __getattr__(self, name):
        return getattr(self.objective, name)

    def hessp(self, v, out=None):
        image = self.objective.hessp(v, out=out)
        image += self.products * np.linalg.norm(image) * self.rng.standard_normal(len(image))
        return image

    def value_and_grad(self, w, out=None):
        loss, grad = self.objective.value_and_grad(w, out=out)
        grad += self.gradients * self.rng.standard_normal(len(grad))
        return loss, grad


def run(objective, tol=1e-8, max_iter=1000):
    monitor = Monitor(objective, tol, max_iter)
    options = Options(w0=np.zeros(objective.n_features + objective.fit_intercept), tol=tol, max_iter=max_iter)
    return cg.solve(objective, options, monitor)


def test_wrong_products_slow_it_but_do_not_mislead_it():
    """What is carried along vanishes at the wrong place; the exact gradient tells, and it goes on from there."""
    X, y = data(300, 10)
    exact = fg.MSE(X, y, fit_intercept=True)
    plain = run(exact)
    blurred = run(Blurred(exact, products=1e-4))
    assert plain.converged
    assert blurred.converged
    assert blurred.optimality <= 1e-8
    assert blurred.n_iter > plain.n_iter
    assert blurred.loss == pytest.approx(plain.loss, rel=1e-12)


def test_a_stall_is_an_end_and_no_convergence(monkeypatch):
    """Where no gradient can be had that is better than 1e-3."""
    monkeypatch.setattr(cg, "MOMENTS_BYTES", 0)
    X, y = data(300, 10)
    outcome = run(Blurred(fg.MSE(X, y, fit_intercept=True), gradients=1e-3))
    assert not outcome.converged
    assert f"no progress at {cg.STALLED} exact gradients" in outcome.stop_reason
    assert outcome.n_iter < 200


def test_a_replaced_gradient_keeps_the_direction_where_it_may():
    X, y = conditioned(400, 30, 1e4)
    objective = fg.MSE(X, y, fit_intercept=True)
    descent = cg.Descent(objective, Coordinates(Monitor(objective, 0.0, 1).geometry), np.zeros(31))
    for _ in range(5):
        descent.step()
    before = descent.p.copy()
    descent.replace()
    np.testing.assert_allclose(descent.p, before, rtol=1e-6, atol=1e-9 * np.abs(before).max())
    descent.g = descent.g + 10 * np.linalg.norm(descent.g)     # carried far away
    descent.replace()
    np.testing.assert_array_equal(descent.p, -descent.g)


@pytest.mark.parametrize("kind", ["gaussian", "integers", "offset", "fitted"])
@pytest.mark.parametrize("seed", range(8))
def test_rounding_leads_nowhere_where_F_is_flat(seed, kind):
    """Three rows or two, as one may weigh nothing, and eight columns: most directions change no prediction."""
    problem = make_problem(3, 8, np.float64, seed, kind, scaled=bool(seed % 2))
    X, y, s = problem.doubles()
    r = fg.fit(X, y, solver="cg", sample_weight=s)
    assert r.converged
    assert np.average((X @ r.coef + r.intercept - y) ** 2, weights=s) <= 1e-12 * np.average(y**2)
    shortest = fg.fit(X, y, solver="moments", sample_weight=s).coef
    lengths = np.sqrt(np.average((X - np.average(X, 0, s)) ** 2, 0, s))
    # Longer where an eigenvalue of 1e-13 is none to the moments; a step where F is flat makes it 1e13 times as long.
    assert np.linalg.norm(lengths * r.coef) <= 1e4 * np.linalg.norm(lengths * shortest)


def test_a_point_that_carried_figures_led_to_is_given_up_if_it_is_worse():
    X, y = data(300, 10)
    objective = fg.MSE(X, y, fit_intercept=True)
    descent = cg.Descent(objective, Coordinates(Monitor(objective, 0.0, 1).geometry), np.zeros(11))
    for _ in range(3):
        descent.step()
    descent.replace()
    kept, loss = descent.w.copy(), descent.loss
    descent.u = descent.u + 10.0
    descent.w = descent.coordinates.parameters(descent.u)
    descent.replace()
    np.testing.assert_array_equal(descent.w, kept)
    assert descent.loss == loss
    np.testing.assert_array_equal(descent.p, -descent.g)
    np.testing.assert_allclose(descent.coordinates.parameters(descent.u), kept, rtol=1e-12, atol=1e-12)


def test_tol_0_makes_every_iteration_and_harms_nothing():
    X, y = data(300, 7)
    r = fg.fit(X, y, solver="cg", tol=0, max_iter=300)
    assert r.n_iter == 300
    assert not r.converged
    np.testing.assert_allclose(r.coef, least_squares(X, y)[0], rtol=1e-12, atol=1e-12)
    assert fg.fit(X, np.zeros(300), solver="cg", tol=0, max_iter=5).coef.tolist() == [0.0] * 7


# ---- handing over ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hard_data_is_handed_over_to_the_moments(dtype):
    X, y = conditioned(2000, 100, 1e9)
    X = X.astype(dtype)
    r = fg.fit(X, y, solver="cg")
    assert r.converged
    assert "handed over" in r.stop_reason
    assert r.solver == "cg"
    assert r.n_iter < 1000
    assert len(r.history["loss"]) == r.n_iter + 1
    assert r.n_passes >= r.n_iter
    alone = fg.fit(X, y, solver="moments")
    np.testing.assert_allclose(r.coef, alone.coef, rtol=0, atol=1e-3 * np.abs(alone.coef).max())
    assert r.loss == pytest.approx(alone.loss, rel=1e-9)
    assert r.gap_bound < 1e-6 * r.loss


def test_nothing_is_handed_over_that_is_to_be_seen_or_too_large(monkeypatch):
    X, y = conditioned(2000, 100, 1e9)
    given = {"solver": "cg", "max_iter": 600}
    assert not by_hand(fg.fit(X, y, **given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.ConvergenceWarning)
        assert by_hand(fg.fit(X, y, callback=lambda iterate: None, **given))
        assert by_hand(fg.fit(X, y, X_val=X, y_val=y, patience=600, **given))
        assert by_hand(fg.fit(X, y, tol=0, **given))
        monkeypatch.setattr(cg, "MOMENTS_BYTES", 3 * 8 * 100 * 100 - 1)
        assert by_hand(fg.fit(X, y, **given))


# ---- the trial before the moments ------------------------------------------------------------------------------------


@pytest.fixture
def tried(monkeypatch):
    """Small problems are taken for such whose moments take long."""
    monkeypatch.setattr(_chooser, "worth_a_trial", lambda objective: True)
    monkeypatch.setattr(cg, "moments_seconds", lambda objective: 40 * _costs.pass_seconds(objective))


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("means", [0.0, 100.0])
def test_a_trial_ends_with_the_digits_of_moments(means, l2, fit_intercept):
    X, y = conditioned(2000, 30, 3.0)
    X, y = X + means, y + 0.1 * np.random.default_rng(1).standard_normal(2000)
    given = {"l2": l2, "fit_intercept": fit_intercept}
    r, exact = fg.fit(X, y, **given), fg.fit(X, y, solver="moments", **given)
    assert r.solver == "cg"
    assert r.choice.startswith("tried before the second moments")
    assert r.converged
    if fit_intercept or means == 0:     # else means are all that there is to find at first
        assert by_hand(r)
        assert r.stop_reason.startswith("optimality is within tol=1e-08")
    np.testing.assert_allclose(r.coef, exact.coef, rtol=0, atol=1e-9 * np.abs(exact.coef).max())
    assert r.loss == pytest.approx(exact.loss, rel=1e-12)
    assert r.optimality <= 1e-10


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("kind", ["hard", "exact", "singular", "few iterations"])
def test_a_trial_leaves_to_the_moments_what_it_is_slow_at(kind):
    X, y = conditioned(2000, 30, 1e5 if kind == "hard" else 3.0)
    y = X @ np.arange(30.0) + 1 if kind == "exact" else y + 0.1 * np.random.default_rng(1).standard_normal(2000)
    if kind == "singular":
        X = np.column_stack([X, 1e3 * X[:, :3] + X[:, 3:6], X[:, 0]])
    r = fg.fit(X, y, **({"max_iter": 3} if kind == "few iterations" else {}))
    exact = fg.fit(X, y, solver="moments")
    assert r.converged
    assert r.loss <= exact.loss * (1 + 1e-12) + 1e-28 * float(y @ y)
    assert len(r.history["loss"]) == r.n_iter + 1
    assert (np.diff(r.history["loss"]) <= 1e-9 * r.history["loss"][0]).all()
    if kind != "singular":
        assert not by_hand(r)
        np.testing.assert_allclose(r.coef, exact.coef, rtol=0, atol=1e-9 * np.abs(exact.coef).max())


@pytest.mark.usefixtures("tried")
def test_nothing_is_tried_where_each_iterate_is_seen_or_made():
    X, y = conditioned(2000, 30, 3.0)
    assert fg.fit(X, y).solver == "cg"
    assert fg.fit(X, y, tol=0).solver == "moments"
    assert fg.fit(X, y, callback=lambda state: None).solver == "moments"
    assert fg.fit(X, y, X_val=X, y_val=y).solver == "moments"
    assert fg.fit(X, np.column_stack([y, y])).solver == "moments"


@pytest.mark.parametrize(
    ("shape", "trial"),
    [((20_000, 1000), True), ((100_000, 2000), True), ((20_000, 300), False), ((3000, 1000), False)],
)
def test_trials_are_for_what_the_moments_take_long_for(shape, trial):
    choice = choose(Shape(*shape), may_try=True)
    assert (choice.solver, choice.trial) == (("cg", True) if trial else ("moments", False))
    assert choose(Shape(*shape, np.float32), may_try=True).solver == "moments"
    assert choose(Shape(*shape)).solver == "moments"


# ---- the choice ------------------------------------------------------------------------------------------------------


class Shape:
    """As much of an objective as its cost depends on, of any size without the memory."""

    def __init__(self, n, d, dtype=np.float64, held=None):
        self.n_features, self.dtype = d, np.dtype(dtype)
        if held is None:
            self.X = np.broadcast_to(np.zeros((), dtype), (n, d))
        else:
            entries = np.broadcast_to(np.zeros((), dtype), n * held)
            self.X = CSR(entries, np.broadcast_to(np.int64(0), n * held), np.broadcast_to(np.int64(0), n + 1), d)


@pytest.mark.parametrize(
    ("shape", "solver"),
    [
        (Shape(442, 10), "moments"),
        (Shape(1_000_000, 20), "moments"),
        (Shape(100_000, 100, np.float32), "moments"),
        (Shape(20_000, 1000), "moments"),
        (Shape(1_000_000, 4000), "moments"),
        (Shape(100_000, 12_000), "cg"),             # n d^2 arithmetic
        (Shape(100, 20_000), "moments"),            # by rows
        (Shape(4000, 1_000_000), "moments"),
        (Shape(10_000, 100_000), "cg"),             # rows too many for that, and the matrix of columns too large
        (Shape(1_000_000, 100, held=5), "moments"),
        (Shape(1_000_000, 20_000, held=20), "cg"),
        (Shape(1_000_000, 10_000_000, held=20), "cg"),
    ],
)
def test_auto_takes_the_cheaper(shape, solver):
    choice = choose(shape)
    assert choice.solver == solver
    assert "second moments" in choice.reason
    assert "conjugate gradients" in choice.reason
    assert "\n" not in choice.reason


def test_auto_weighs_the_figures_that_it_tells():
    shape = Shape(1_000_000, 2000)
    reason = choose(shape).reason
    assert f"{_costs.moments_seconds(shape):.3g} s for the second moments" in reason
    assert f"300 passes of {_costs.pass_seconds(shape) * 1e3:.3g} ms" in reason
    assert "9.6 GB" in choose(Shape(30_000, 20_000)).reason
    assert "filled with their zeros" in choose(Shape(10_000, 10_000, held=3)).reason


def test_auto_takes_fista_for_l1():
    assert choose(Shape(100, 10), l1=0.1).solver == "fista"
    assert choose(Shape(100, 10), l1=0.0).solver == "moments"


def test_auto_fits_what_is_wide_and_sparse_by_conjugate_gradients():
    rng = np.random.default_rng(0)
    X = sparse.random_array((5000, 20_000), density=1e-3, format="csr", rng=rng)
    y = X @ rng.standard_normal(20_000) + 0.1 * rng.standard_normal(5000)
    r = fg.fit(X, y, l2=1e-3)
    assert r.solver == "cg"
    assert r.converged
    assert by_hand(r)
    assert r.optimality <= 1e-8
    assert r.gap_bound <= 1e-6 * r.loss
    stacked = sparse.vstack([X, np.sqrt(5000 * 1e-3) * sparse.eye_array(20_000)])
    targets = np.append(y - r.intercept, np.zeros(20_000))
    solved = sparse.linalg.lsqr(stacked, targets, atol=1e-12, btol=1e-12, iter_lim=2000)[0]
    np.testing.assert_allclose(r.coef, solved, rtol=0, atol=1e-4 * np.abs(solved).max())
    lines = r.explain().splitlines()
    assert len(lines) == 3
    assert lines[0] == f"cg: {r.choice}"
    assert lines[1].startswith(f"{r.n_iter} iterations, {r.n_passes} passes over X, ")
    assert lines[2].startswith("converged: loss ")
    assert "above the optimum" in lines[2]


def test_explain_in_words():
    X, y = data(50, 3)
    r = fg.fit(X, y, solver="gd", lr=0.01, max_iter=1, tol=0)
    text = dataclasses.replace(r, n_passes=1).explain()
    assert "1 iteration of lr=0.01, 1 pass over X" in text
    assert "asked for" in text
    assert "not converged" in text
    assert "no bound on the gap is known" in text
