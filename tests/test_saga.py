"""`fit(..., solver="saga")`: linear convergence to the optimum, whatever the data; penalties, and textbook steps."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet
from test_fit import assert_fits, data, least_squares, weights
from test_sgd import loss_of

import fastgd as fg
from fastgd.objective import MSE
from fastgd.solvers import saga
from fastgd.solvers.saga import Direction, Point

# ---- the optimum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("shape", [(12, 3), (50, 5), (1000, 20), (200, 60)])
def test_it_converges_to_the_optimum(shape: tuple[int, int], fit_intercept: bool, weighted: bool, l2: float) -> None:
    X, y = data(*shape)
    s = weights(len(y)) if weighted else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = fg.fit(X, y, solver="saga", l2=l2, fit_intercept=fit_intercept, sample_weight=s)
    assert r.converged
    assert r.optimality <= 1e-8
    assert_fits(r, *least_squares(X, y, s, l2, fit_intercept), rtol=1e-5)


def test_diabetes() -> None:
    X, y = load_diabetes(return_X_y=True)
    r = fg.fit(X, y, solver="saga")
    assert r.converged
    best = least_squares(X, y)
    assert r.loss == pytest.approx(loss_of(X, y, *best), rel=1e-10)


def test_few_epochs_reach_any_digit() -> None:
    """An epoch divides the gap by some n / d: it is linear convergence, and fast."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 10))
    y = X @ rng.standard_normal(10) + rng.standard_normal(20_000)
    r = fg.fit(X, y, solver="saga")
    best = loss_of(X, y, *least_squares(X, y))
    gaps = r.history["loss"] / best - 1
    assert r.n_iter <= 6
    assert gaps[1] < 1e-2
    assert (gaps[2:5] <= np.maximum(gaps[1:4] / 100, 1e-13)).all()


def test_scales_and_means_cost_nothing() -> None:
    X, y = data(1000, 5, means=0.0)
    units = np.array([1e6, 1e-6, 1.0, 1e3, 1e-3])
    plain, scaled = (fg.fit(Z, y, solver="saga") for Z in (X, X * units + 100 * units))
    assert plain.converged
    assert scaled.converged
    assert scaled.n_iter <= plain.n_iter + 2
    assert scaled.coef * units == pytest.approx(plain.coef, rel=1e-6)


@pytest.mark.parametrize("kind", ["heavy", "outlier", "sorted", "constant", "collinear", "wide", "correlated"])
def test_no_data_makes_it_rise(kind: str) -> None:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((20 if kind == "wide" else 3000, 40 if kind == "wide" else 6))
    if kind == "heavy":
        X = rng.standard_t(1.5, (3000, 6))
    elif kind == "outlier":
        X[17] *= 1e3
    elif kind == "sorted":
        X.sort(axis=0)
    elif kind == "constant":
        X[:, 2] = 7.0
    elif kind == "collinear":
        X[:, 3] = X[:, 1] - 2 * X[:, 0]
    elif kind == "correlated":
        X[:, 1:] += 30 * X[:, :1]
    y = X @ rng.standard_normal(X.shape[1]) + rng.standard_normal(len(X))
    r = fg.fit(X, y, solver="saga")
    assert r.converged
    assert (np.diff(r.history["loss"]) <= 1e-15 * r.history["loss"][:-1]).all()
    assert r.loss == pytest.approx(loss_of(X, y, *least_squares(X, y)), rel=1e-8, abs=1e-12)


def test_weights_are_absence_and_repetition() -> None:
    X, y = data(600, 4)
    s = np.random.default_rng(2).integers(0, 3, 600)
    again = np.repeat(np.arange(600), s)
    weighted, repeated = fg.fit(X, y, solver="saga", sample_weight=s), fg.fit(X[again], y[again], solver="saga")
    assert weighted.coef == pytest.approx(repeated.coef, rel=1e-6)
    assert weighted.loss == pytest.approx(repeated.loss, rel=1e-12)


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.3), (0.2, 0.0), (0.5, 0.1), (1e4, 0.0)])
def test_penalties(l1: float, l2: float, form: str) -> None:
    """Against scikit-learn, whose objective is half of F, at its tightest."""
    X, y = data(800, 8, means=0.0)
    y += 3 * X[:, 0] - X[:, 0] * least_squares(X, y)[0][0]
    peer = ElasticNet(alpha=l1 / 2 + l2, l1_ratio=l1 / 2 / (l1 / 2 + l2), tol=1e-14, max_iter=10**6).fit(X, y)
    least = loss_of(X, y, peer.coef_, peer.intercept_) + l1 * np.abs(peer.coef_).sum() + l2 * (peer.coef_**2).sum()
    r = fg.fit(X if form == "dense" else csr_matrix(X), y, solver="saga", l1=l1, l2=l2)
    assert r.converged
    assert r.loss == pytest.approx(least, rel=1e-9)
    assert r.coef == pytest.approx(peer.coef_, rel=1e-5, abs=1e-6)
    assert np.array_equal(r.coef == 0, peer.coef_ == 0)


@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_sparse_rows(l2: float) -> None:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((3000, 40)) * (rng.random((3000, 40)) < 0.1)
    y = X @ rng.standard_normal(40) + 1.0 + rng.standard_normal(3000)
    r = fg.fit(csr_matrix(X), y, solver="saga", l2=l2)
    assert r.converged
    assert_fits(r, *least_squares(X, y, l2=l2), rtol=1e-5)


def test_float32() -> None:
    X, y = data(3000, 5, dtype=np.float32)
    r = fg.fit(X, y, solver="saga")
    assert r.converged
    assert r.coef.dtype == np.float32
    assert_fits(r, *least_squares(X, y), rtol=1e-4)


@pytest.mark.parametrize("convert", [
    np.asfortranarray, lambda X: X[::-1][::-1], lambda X: X.astype(">f8"), lambda X: np.rint(10 * X).astype(int),
], ids=["fortran", "view", "swapped", "integers"])  # fmt: skip
def test_layouts_and_types(convert: Any) -> None:
    X, y = data(2000, 5)
    r = fg.fit(convert(X), y, solver="saga")
    assert r.converged
    assert_fits(r, *least_squares(convert(X), y), rtol=1e-6)


def test_converted_sparse_rows() -> None:
    X, y = data(2000, 5)
    X = np.rint(X)
    r = fg.fit(csr_matrix(X.astype(int)), y, solver="saga")
    assert r.converged
    assert_fits(r, *least_squares(X, y), rtol=1e-6)


def test_several_targets() -> None:
    X, y = data(400, 3)
    Y = np.column_stack([y, -2 * y + X[:, 0]])
    r = fg.fit(X, Y, solver="saga")
    assert r.coef == pytest.approx(np.column_stack([least_squares(X, Y[:, k])[0] for k in range(2)]), rel=1e-6)


# ---- its steps -------------------------------------------------------------------------------------------------------


def test_a_number_is_the_step_in_the_columns_as_they_are() -> None:
    """The first epoch by hand: from the snapshot, each row's gradient less what it had there, plus their mean."""
    X, y = data(64, 3, means=0.0)
    lr = 0.01
    r = fg.fit(X, y, solver="saga", lr=lr, max_iter=1, tol=0, random_state=6, fit_intercept=False)
    order = np.concatenate(list(saga.Epochs(MSE(X, y), 7, 64.0).orders()))
    start = np.zeros(3)
    mean = 2 * X.T @ (X @ start - y) / 64
    w, seen = start, []
    for i in order:
        w = w - lr * (2 * (X[i] @ w - y[i]) * X[i] - 2 * (X[i] @ start - y[i]) * X[i] + mean)
        seen.append(w)
    assert r.coef == pytest.approx(np.mean(seen[32:], axis=0), rel=1e-11)
    assert r.lr == lr


def test_textbook_steps_converge() -> None:
    X, y = data(500, 4, means=0.0)
    r = fg.fit(X, y, solver="saga", lr=0.02)
    assert r.converged
    assert_fits(r, *least_squares(X, y), rtol=1e-6)


@pytest.mark.parametrize("lr", [50.0, 1e200])
def test_too_large_a_step_is_an_error_that_names_one_that_converges(lr: float) -> None:
    X, y = data(300, 4)
    with pytest.raises(fg.DivergenceError, match="diverges with lr=") as caught:
        fg.fit(X, y, solver="saga", lr=lr)
    error = caught.value
    assert (error.lr, error.loss) == (lr, MSE(X, y, None, True).value(error.w))
    r = fg.fit(X, y, solver="saga", lr=error.max_lr, max_iter=400, tol=1e-6)
    assert r.converged


def test_the_best_point_along_a_conjugate_direction() -> None:
    """Two steps in the plane find the optimum of a quadratic whatever the moves are."""
    X, y = data(30, 2, means=0.0)
    objective = MSE(X, y)
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    at, last = Point(np.zeros(2), *objective.value_and_grad(np.zeros(2))), Direction()
    for move in (np.array([1e-3, 2e-3]), np.array([5.0, -1.0])):
        before = at.loss
        at, last = saga.step(objective, at, move, last, 0.0, conjugate=True)
        assert at.loss < before
    assert at.w == pytest.approx(best, rel=1e-10)
    assert at.loss == objective.value(at.w)


# ---- what all solvers have -------------------------------------------------------------------------------------------


def test_a_fit_can_be_repeated_bit_for_bit() -> None:
    X, y = data(700, 4)
    fits = [fg.fit(X, y, solver="saga", random_state=seed, tol=1e-3) for seed in (None, 0, 1, 1)]
    assert np.array_equal(fits[0].coef, fits[1].coef)
    assert not np.array_equal(fits[1].coef, fits[2].coef)
    assert np.array_equal(fits[2].coef, fits[3].coef)


def test_a_loss_that_cannot_fall_ends_the_fit() -> None:
    """Beyond the digits of the data: either the tolerance's rounding level, or a stop with a warning."""
    X, y = data(300, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        r = fg.fit(X, y, solver="saga", tol=1e-300, max_iter=200)
    assert r.stop_reason in ("the gradient is at rounding level", "the loss stopped falling")
    assert [w.category for w in caught] == [fg.ConvergenceWarning] * (r.stop_reason == "the loss stopped falling")
    assert r.n_iter < 100
    assert r.optimality < 1e-12


def test_callbacks_validation_and_start() -> None:
    X, y = data(600, 3)
    seen: list[int] = []
    r = fg.fit(X, y, solver="saga", callback=lambda it: seen.append(it.iteration) or it.iteration == 2)
    assert (seen, r.n_iter, r.stop_reason) == ([0, 1, 2], 2, "the callback ended it")
    r = fg.fit(X[:400], y[:400], solver="saga", X_val=X[400:], y_val=y[400:])
    assert r.history["val_loss"].min() == pytest.approx(loss_of(X[400:], y[400:], r.coef, r.intercept))
    best = np.append(*least_squares(X, y))
    assert fg.fit(X, y, solver="saga", w0=best).n_iter == 0
    near = fg.fit(X, y, solver="saga", w0=best + 1e-6)
    assert near.n_iter < fg.fit(X, y, solver="saga").n_iter


def test_with_no_tolerance_it_makes_all_epochs() -> None:
    X, y = data(100, 3)
    r = fg.fit(X, y, solver="saga", tol=0, max_iter=40)
    assert (r.n_iter, r.stop_reason) == (40, "max_iter=40 reached")


def test_the_passes_between_snapshots_count() -> None:
    """Two for the start and the lengths of the columns; with l1, the rows' and one for the loss in each iteration."""
    X, y = data(2000, 4)
    r = fg.fit(X, y, solver="saga", l1=0.01, max_iter=5, tol=0)
    assert r.n_passes == 2 + 2 * 5
    few = fg.fit(X[:30], y[:30], solver="saga", l1=0.01, max_iter=5, tol=0)
    assert few.n_passes == 2 + (2 + 1) * 5


def test_options_without_use_are_refused() -> None:
    X, y = data(30, 2)
    with pytest.raises(ValueError, match="solver='saga' has no use for momentum"):
        fg.fit(X, y, solver="saga", momentum=0.5)
