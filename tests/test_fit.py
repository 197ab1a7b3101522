"""Fits, their certificates and histories, sufficient statistics, and the objective underneath them.

Held against other ways to the same numbers: LAPACK's orthogonal factorisations, rational arithmetic, scikit-learn, and
the textbook's loop.
"""

import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from fractions import Fraction

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge

import fastgd as fg
from fastgd._engine import SHARED_BYTES

DIABETES = load_diabetes(return_X_y=True)


def data(n, d, seed=0, dtype=float, means=3.0):
    """Columns of unlike means and scales, correlated, with targets that are not quite linear in them."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) @ (np.eye(d) + 0.3 * rng.standard_normal((d, d)) / np.sqrt(d))
    X = X * rng.uniform(0.5, 2.0, d) + means * rng.uniform(-1, 1, d)
    y = X @ rng.standard_normal(d) + 2.0 + rng.standard_normal(n)
    return X.astype(dtype), y


def weights(n, seed=1):
    return np.random.default_rng(seed).uniform(0.1, 3.0, n)


def least_squares(X, y, s=None, l2=0.0, fit_intercept=True):
    """Coefficients and intercept by LAPACK's SVD: of the centred columns, weighted by sqrt(s), above sqrt(S l2) I."""
    X, y = np.asarray(X, float), np.asarray(y, float)
    s = np.ones(len(X)) if s is None else np.asarray(s, float)
    x_mean, y_mean = (np.average(X, 0, s), np.average(y, 0, s)) if fit_intercept else (np.zeros(X.shape[1]), 0.0)
    root = np.sqrt(s)
    A, b = root[:, None] * (X - x_mean), root * (y - y_mean)
    if l2:
        A, b = np.vstack([A, np.sqrt(s.sum() * l2) * np.eye(X.shape[1])]), np.append(b, np.zeros(X.shape[1]))
    coef = np.linalg.lstsq(A, b, rcond=None)[0]
    return coef, y_mean - x_mean @ coef if fit_intercept else 0.0


def assert_fits(result, coef, intercept, rtol):
    """Equal in every coefficient, relative to the largest; and in the intercept, relative to what it is the sum of."""
    found, offset = (getattr(result, name, getattr(result, name + "_", None)) for name in ("coef", "intercept"))
    np.testing.assert_allclose(found, coef, rtol=rtol, atol=rtol * np.abs(coef).max())
    assert offset == pytest.approx(intercept, rel=rtol, abs=rtol * max(1.0, np.abs(coef).max()))


# ---- the optimum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_diabetes_equals_lstsq(fit_intercept):
    X, y = DIABETES
    coef, intercept = least_squares(X, y, fit_intercept=fit_intercept)
    r = fg.fit(X, y, fit_intercept=fit_intercept)
    np.testing.assert_allclose(r.coef, coef, rtol=1e-9)
    assert r.intercept == pytest.approx(intercept, rel=1e-9)
    peer = LinearRegression(fit_intercept=fit_intercept).fit(X, y)
    np.testing.assert_allclose(r.coef, peer.coef_, rtol=1e-9)
    assert r.loss == pytest.approx(np.mean((X @ coef + intercept - y) ** 2), rel=1e-12)
    assert r.converged
    assert r.solver == "moments"


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_units_of_the_columns_cost_no_digits(shift, fit_intercept):
    """Columns in units that differ by 10^12.

    lstsq itself does not do this: it cuts singular values below eps * n times the largest, so columns of 10^-6 beside
    such of 10^6 lose their digits or their coefficients. The reference is lstsq on the columns in their own units, its
    coefficients divided by the factors. Rounding the products perturbs each element by eps and thus the coefficients
    by eps times the condition number of the columns at unit length, which is below 10^3 here.
    """
    X, y = DIABETES
    X = X + shift * np.abs(X).max()
    factors = 10 ** np.linspace(-6, 6, X.shape[1])
    coef, intercept = least_squares(X, y, fit_intercept=fit_intercept)
    r = fg.fit(X * factors, y, fit_intercept=fit_intercept)
    np.testing.assert_allclose(r.coef * factors, coef, rtol=1e-9)
    assert r.intercept == pytest.approx(intercept, rel=1e-9)
    assert r.converged


@pytest.mark.parametrize("factor", [1e-300, 1e-170, 1e-160, 1e-140, 1e-30, 1e30, 1e140, 1e170, 1e300])
@pytest.mark.parametrize("kind", ["diabetes", "a line about its middle row", "two levels"])
def test_units_at_the_ends_of_the_doubles_cost_no_digits_or_are_refused(kind, factor):
    """What squares to nothing or to infinity is solved or refused, and no wrong answer is said to have converged.

    Of the last two columns the sums about a row are zero, too, as a constant's are.
    """
    X, y = {
        "diabetes": DIABETES,
        "a line about its middle row": (np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.5])),
        "two levels": (np.array([[0.0], [1.0], [0.0], [-1.0], [0.0]]), np.array([1.0, 3.0, 0.5, -1.0, 1.5])),
    }[kind]
    coef, _ = least_squares(X, y)
    for columns, targets, unit in ((X * factor, y, 1 / factor), (X, y * factor, factor)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fg.ConvergenceWarning)
            try:
                r = fg.fit(columns, targets)
            except OverflowError:
                continue
        if r.converged:
            np.testing.assert_allclose(r.coef / unit, coef, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 7, 16, 17, 63, 64, 65, 100, 130])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_narrow_and_wide_equal_lstsq(d, weighted, fit_intercept):
    """Widths on either side of those that fill the kernel's vectors."""
    X, y = data(3 * d + 50, d)
    s = weights(len(X)) if weighted else None
    coef, intercept = least_squares(X, y, s, fit_intercept=fit_intercept)
    r = fg.fit(X, y, sample_weight=s, fit_intercept=fit_intercept)
    assert_fits(r, coef, intercept, 1e-9)
    assert r.converged
    assert r.intercept != 0.0 if fit_intercept else r.intercept == 0.0


@pytest.mark.parametrize("d", [3, 70])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8", np.float16])
def test_many_blocks_equal_lstsq(d, order, dtype):
    n = 2**21 // d
    X, y = data(n, d)
    X = np.array(X, dtype, order=order)
    r = fg.fit(X, y)
    coef, intercept = least_squares(X, y)
    # Coefficients are rounded to float32 where X is computed in it, and refined by residuals that are.
    narrow = r.coef.dtype == np.float32
    assert narrow == (np.dtype(dtype).itemsize < 8)
    assert_fits(r, coef, intercept, 2e-6 if narrow else 1e-9)
    assert r.converged


@pytest.mark.parametrize("d", [3, 70])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("means", [0.0, 30.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8", np.float16])
def test_gram_matrices_by_blas_equal_lstsq(dtype, means, order, d, monkeypatch):
    """As those of many columns are: in place where no column's mean is far from zero, else from shifted panels."""
    monkeypatch.setattr(fg.Moments.__base__, "KERNEL_WIDTH", 0)
    n = 2**21 // d
    X, y = data(n, d, means=means)
    X = np.array(X, dtype, order=order)
    s = weights(n)
    for weight in (None, s):
        r = fg.fit(X, y, sample_weight=weight)
        assert r.converged
        coef, intercept = least_squares(X, y, weight)
        if r.coef.dtype == np.float64:
            assert_fits(r, coef, intercept, 1e-9)
        else:  # an intercept at the means, where it does not add up what rounding the coefficients costs
            np.testing.assert_allclose(r.coef, coef, rtol=2e-6, atol=2e-6 * np.abs(coef).max())
            middle = X.astype(float).mean(axis=0)
            assert r.intercept + middle @ r.coef == pytest.approx(intercept + middle @ coef, rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("solver", ["moments", "gd"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_float32_fits_float32_columns(solver, fit_intercept):
    X, y = data(400, 5, dtype=np.float32)
    coef, intercept = least_squares(X, y, fit_intercept=fit_intercept)
    r = fg.fit(X, y, solver=solver, fit_intercept=fit_intercept, max_iter=20_000)
    assert r.coef.dtype == np.float32
    assert r.converged
    # tol = 1e-5 bounds the cosine between residual and columns: the error of the prediction relative to the residual.
    assert_fits(r, coef, intercept, 1e-4 if solver == "gd" else 2e-6)


@pytest.mark.parametrize("solver", ["moments", "gd"])
def test_gd_and_moments_agree(solver):
    X, y = data(300, 4, means=0.3)
    s = weights(300)
    for given in ({}, {"fit_intercept": False}, {"l2": 0.3}, {"sample_weight": s}, {"sample_weight": s, "l2": 0.3}):
        r = fg.fit(X, y, solver=solver, max_iter=100_000, tol=1e-12, **given)
        names = {"sample_weight": "s"}
        expected = least_squares(X, y, **{names.get(name, name): value for name, value in given.items()})
        assert r.converged
        assert r.solver == solver
        assert_fits(r, *expected, 1e-9)


def test_weights_are_absences_and_repetitions():
    X, y = data(60, 4, means=0.3)
    counts = np.random.default_rng(2).integers(0, 4, 60)
    assert {0, 1, 2, 3} <= set(counts)
    repeated = np.repeat(np.arange(60), counts)
    for solver in ("moments", "gd"):
        for given in ({}, {"l2": 0.2}, {"fit_intercept": False}):
            a, b = (
                fg.fit(*rows, sample_weight=s, solver=solver, tol=1e-12, max_iter=100_000, **given)
                for rows, s in (((X, y), counts), ((X[repeated], y[repeated]), None))
            )
            assert_fits(a, b.coef, b.intercept, 1e-9)
            assert a.loss == pytest.approx(b.loss, rel=1e-12)
    w = np.ones(4)
    assert fg.MSE(X, y, counts).value(w) == pytest.approx(fg.mse(X[repeated], y[repeated], w), rel=1e-13)


@pytest.mark.parametrize("fill", [-999.0, 1e6, 1e10, 1e100])
@pytest.mark.parametrize("stream", [False, True])
def test_rows_of_weight_zero_are_absent_whatever_they_hold(fill, stream):
    """Filled-in values with a weight of zero must not cost the others their digits, wherever in X they are."""
    X, y = data(60, 4)
    s = weights(60)
    for absent in ([0], [0, 30, 59], [0, 1, 2], range(20)):
        present = np.setdiff1d(np.arange(60), absent)
        filled, targets, zeroed = X.copy(), y.copy(), s.copy()
        filled[absent], targets[absent], zeroed[absent] = fill, fill, 0.0
        coef, intercept = least_squares(X[present], y[present], s[present])
        r = (
            fg.Moments(4).update(filled, targets, zeroed).fit()
            if stream
            else fg.fit(filled, targets, sample_weight=zeroed)
        )
        assert_fits(r, coef, intercept, 1e-9)


@pytest.mark.parametrize("d", [5, 80])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_l2_equals_the_closed_form_and_ridge(d, weighted, fit_intercept):
    """F = L + l2 |w|^2, so (X'SX / S + l2) w = X'Sy / S; scikit-learn's Ridge minimises S L + alpha |w|^2."""
    X, y = data(40, d)  # fewer rows than columns too
    s = weights(40) if weighted else np.ones(40)
    for l2 in (1e-3, 0.1, 10.0):
        r = fg.fit(X, y, l2=l2, sample_weight=s if weighted else None, fit_intercept=fit_intercept)
        x_mean, y_mean = (np.average(X, 0, s), np.average(y, 0, s)) if fit_intercept else (np.zeros(d), 0.0)
        Z, t = X - x_mean, y - y_mean
        coef = np.linalg.solve((Z.T * s) @ Z / s.sum() + l2 * np.eye(d), (Z.T * s) @ t / s.sum())
        assert_fits(r, coef, y_mean - x_mean @ coef, 1e-9)
        peer = Ridge(alpha=l2 * s.sum(), fit_intercept=fit_intercept, solver="svd").fit(X, y, sample_weight=s)
        assert_fits(peer, r.coef, r.intercept, 1e-9)
        loss = np.average((X @ r.coef + r.intercept - y) ** 2, weights=s) + l2 * r.coef @ r.coef
        assert r.loss == pytest.approx(loss, rel=1e-12)
        assert r.converged


SINGULAR = {
    "a column twice": lambda X: X[:, [0, 1, 1, 2]],
    "a column twice, in other units": lambda X: X[:, [0, 1, 1, 2]] * [1, 1, 1000, 1],
    "a sum of others": lambda X: np.column_stack([X, X[:, 0] - 2 * X[:, 1]]),
    "a constant": lambda X: np.column_stack([X, np.full(len(X), 0.1)]),
    "constants and zeros": lambda X: np.column_stack([np.zeros(len(X)), X, np.full(len(X), 7e5), np.zeros(len(X))]),
    "constants alone": lambda X: np.full((len(X), 2), 3.0),
    "all at once": lambda X: np.column_stack([X[:, [0, 1, 1]], X[:, 0] + X[:, 1], np.ones(len(X))]),
    "columns like a category's": lambda X: np.eye(3)[np.arange(len(X)) % 3],
}


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("kind", SINGULAR)
def test_where_many_fit_the_shortest_is_taken(kind, fit_intercept):
    """As lstsq does, on centred columns if an intercept is fitted."""
    X, y = data(50, 3)
    X = SINGULAR[kind](X)
    coef, intercept = least_squares(X, y, fit_intercept=fit_intercept)
    for columns in (X, np.repeat(X, 2000, axis=0)):
        r = fg.fit(columns, np.repeat(y, len(columns) // 50), fit_intercept=fit_intercept)
        assert_fits(r, coef, intercept, 1e-9)
        assert r.converged
    streamed = fg.Moments(X.shape[1]).update(X, y).fit(fit_intercept=fit_intercept)
    assert_fits(streamed, coef, intercept, 1e-9)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 4), (2, 1), (2, 5), (7, 20), (20, 90)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_fewer_rows_than_columns(n, d, fit_intercept):
    X, y = data(n, d)
    coef, intercept = least_squares(X, y, fit_intercept=fit_intercept)
    r = fg.fit(X, y, fit_intercept=fit_intercept)
    assert_fits(r, coef, intercept, 1e-9)
    np.testing.assert_allclose(r.predict(X), y if d >= n else X @ coef + intercept, rtol=1e-9)
    assert r.converged


@pytest.mark.parametrize("mean", [1e4, 1e6, 1e8])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stream", [False, True])
def test_columns_of_large_mean(stream, seed, mean):
    """x = mean + noise of 1. A number near the mean less the mean is exact: the reference has the columns to the bit.

    Coefficients to 1e-9 is what scikit-learn, too, gives: both centre the columns before they square them.
    """
    noise, y = data(500, 3, seed)
    X = mean + noise
    coef, intercept = least_squares(X - mean, y)
    r = fg.Moments(3).update(X, y).fit() if stream else fg.fit(X, y)
    assert_fits(LinearRegression().fit(X, y), coef, intercept - mean * coef.sum(), 1e-9)
    assert_fits(r, coef, intercept - mean * coef.sum(), 1e-9)
    assert r.loss == pytest.approx(np.mean(((X - mean) @ coef + intercept - y) ** 2), rel=1e-15 * mean)


# ---- the certificate -------------------------------------------------------------------------------------------------


def exact_loss(X, y, coef, intercept, s=None, l2=0.0):
    """F in rational arithmetic, rounded once."""
    coef, intercept = [Fraction(float(c)) for c in coef], Fraction(float(intercept))
    s = [Fraction(1)] * len(X) if s is None else [Fraction(float(k)) for k in s]
    residuals = (
        sum((Fraction(float(a)) * c for a, c in zip(x, coef, strict=True)), intercept - Fraction(float(t)))
        for x, t in zip(X, y, strict=True)
    )
    total = sum(k * r * r for k, r in zip(s, residuals, strict=True))
    return float(total / sum(s) + Fraction(l2) * sum(c * c for c in coef))


def exact_gap(X, y, result, s=None, l2=0.0, fit_intercept=True):
    """F(w) - F*, in rational arithmetic: with H w* = h for the optimum, it is (w - w*)'H(w - w*) / 2."""
    n, d = X.shape
    columns = [[Fraction(float(a)) for a in X[:, j]] for j in range(d)] + [[Fraction(1)] * n] * fit_intercept
    s = [Fraction(1)] * n if s is None else [Fraction(float(k)) for k in s]
    y = [Fraction(float(t)) for t in y]
    size, total = len(columns), sum(s)
    gram = [
        [sum(k * a * b for k, a, b in zip(s, columns[i], columns[j], strict=True)) / total for j in range(size)]
        for i in range(size)
    ]
    for j in range(d):
        gram[j][j] += Fraction(l2)
    right = [sum(k * a * t for k, a, t in zip(s, column, y, strict=True)) / total for column in columns]
    w = [Fraction(float(c)) for c in result.coef] + [Fraction(float(result.intercept))] * fit_intercept
    residual = [sum(a * b for a, b in zip(row, w, strict=True)) - c for row, c in zip(gram, right, strict=True)]
    # The gap is the residual times the inverse of the Gram matrix times the residual: by elimination.
    rows = [[*row, r] for row, r in zip(gram, residual, strict=True)]
    for k in range(size):
        for i in range(k + 1, size):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    step = [Fraction(0)] * size
    for i in reversed(range(size)):
        step[i] = (rows[i][size] - sum(rows[i][j] * step[j] for j in range(i + 1, size))) / rows[i][i]
    return float(sum(a * b for a, b in zip(residual, step, strict=True)))


def test_the_exact_gap_is_what_it_should_be():
    """One column, no intercept: F(w) = mean (x w - y)^2 with x = (1, 2), y = (1, 1): F* at 3/5, and F(1) - F* = 2/5."""
    X, y = np.array([[1.0], [2.0]]), np.array([1.0, 1.0])
    r = fg.fit(X, y, fit_intercept=False, solver="gd", lr=1e-300, max_iter=1, w0=[1.0], tol=0)
    assert exact_gap(X, y, r, fit_intercept=False) == pytest.approx(0.4, rel=1e-15)
    assert exact_loss(X, y, r.coef, r.intercept) == 0.5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "given", [{}, {"l2": 0.3}, {"fit_intercept": False}, {"fit_intercept": False, "l2": 0.1}], ids=str
)
@pytest.mark.parametrize("means", [3.0, 1e2, 1e4])
def test_gap_bound_of_moments_is_a_bound(means, given, dtype, seed):
    X, y = data(30, 4, seed, dtype, means)
    r = fg.fit(X, y, solver="moments", **given)
    gap = exact_gap(X, y, r, **given)
    assert gap >= 0
    assert gap <= r.gap_bound
    # and one that says something
    assert r.gap_bound < (1e-6 if dtype == np.float32 else 1e-13) * r.loss


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("angle", [1e-5, 1e-6, 1e-7, 5e-8, 1e-8, 1e-9])
def test_gap_bound_of_nearly_collinear_columns(angle, seed):
    """Two columns at a small angle, and y along their difference.

    The columns hold that difference to 16 digits less those of the angle, their squares only half as many. A fit from
    squares may fall short of the optimum, but must not say that it is nearer than it is. A tenth of the bound and a
    trillionth of F are left to rounding, of which the test above allows nothing.
    """
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((2, 200))
    X, y = np.column_stack([x, x + angle * z]), z + 0.1 * rng.standard_normal(200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.ConvergenceWarning)
        r = fg.fit(X, y)
    assert np.isnan(r.gap_bound) or exact_gap(X, y, r) <= 1.1 * r.gap_bound + 1e-12 * r.loss


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
def test_gap_bound_of_gd_is_a_bound(weighted, dtype, steps):
    X, y = data(30, 4, dtype=dtype)
    s = weights(30) if weighted else None
    for l2 in (0.01, 1.0):
        r = fg.fit(X, y, solver="gd", l2=l2, fit_intercept=False, sample_weight=s, max_iter=steps, tol=0)
        assert exact_gap(X, y, r, s, l2, fit_intercept=False) <= r.gap_bound
        assert r.gap_bound < np.inf


def test_gap_bound_of_gd_is_nan_where_no_modulus_is_known():
    X, y = data(30, 4)
    for given in ({}, {"fit_intercept": False}):
        assert np.isnan(fg.fit(X, y, solver="gd", max_iter=3, tol=0, **given).gap_bound)


@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("solver", ["gd", "moments"])
def test_optimality_is_within_tol_at_convergence(solver, tol):
    X, y = data(200, 4)
    for given in ({}, {"l2": 0.1}, {"fit_intercept": False}, {"sample_weight": weights(200)}):
        r = fg.fit(X, y, solver=solver, tol=tol, max_iter=100_000, **given)
        assert r.converged
        assert 0 <= r.optimality <= tol
        # one step earlier it was not
        if solver == "gd":
            with pytest.warns(fg.ConvergenceWarning):
                before = fg.fit(X, y, solver=solver, tol=tol, max_iter=r.n_iter - 1, **given)
            assert not before.converged
            assert before.optimality > tol


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_optimality_is_the_smaller_of_two_measures(fit_intercept, weighted, l2):
    """|grad F| / ((2/S) |X|_F |r|) and |r| / (|X|_F |w| + |y|), the latter without a penalty only; both where (centred)
    columns have length 1 and rows are weighted by sqrt(s)."""
    X, y = data(80, 3)
    s = weights(80) if weighted else np.ones(80)
    root = np.sqrt(s)
    columns = root[:, None] * (X - np.average(X, 0, s) * fit_intercept)
    target = root * (y - np.average(y, 0, s) * fit_intercept)
    lengths = np.linalg.norm(columns, axis=0)
    best = fg.fit(X, y, sample_weight=s, fit_intercept=fit_intercept, l2=l2)
    smaller = set()
    for w0 in (np.array([1.0, -2.0, 0.5, 3.0]), np.append(best.coef, best.intercept) * 1.001):
        w0 = w0[: 3 + fit_intercept]
        r = fg.fit(
            X, y, sample_weight=s, fit_intercept=fit_intercept, l2=l2, solver="gd", lr=1e-300, w0=w0, max_iter=1, tol=0
        )
        np.testing.assert_array_equal(r.coef, w0[:3])
        residual = root * (X @ r.coef + r.intercept - y)
        grad = (columns.T @ residual + l2 * s.sum() * r.coef) / lengths
        grad = np.append(grad, root / np.linalg.norm(root) @ residual) if fit_intercept else grad
        measures = [
            np.linalg.norm(grad) / np.sqrt(len(grad)) / np.linalg.norm(residual),
            np.linalg.norm(residual) / (np.sqrt(3) * np.linalg.norm(lengths * r.coef) + np.linalg.norm(target)),
        ][: 1 if l2 else 2]
        smaller.add(int(np.argmin(measures)))
        assert r.optimality == pytest.approx(min(measures), rel=1e-9)
    assert smaller == ({0} if l2 else {0, 1})


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_optimality_does_not_depend_on_units(fit_intercept):
    """The same point in other units of the columns and of y, away from the optimum, has the same optimality."""
    X, y = data(80, 4)
    w0 = np.array([1.0, -2.0, 0.5, 3.0, 0.25])[: 4 + fit_intercept]
    given = {"solver": "gd", "fit_intercept": fit_intercept, "lr": 1e-300, "max_iter": 1, "tol": 0}
    expected = fg.fit(X, y, w0=w0, **given).optimality
    assert expected > 1e-3
    for exponent in (-8, -3, 0, 5):
        for unit in (1e-8, 1.0, 1e6):
            factors = 10.0 ** (exponent * np.linspace(-1, 1, 4))
            start = np.append(w0[:4] / factors, w0[4:]) * unit
            got = fg.fit(X * factors, y * unit, w0=start, **given)
            np.testing.assert_array_equal(got.coef, start[:4])
            assert got.optimality == pytest.approx(expected, rel=1e-9)


def test_an_exact_fit_is_certified():
    X, _ = data(50, 3)
    r = fg.fit(X, X @ [1.0, 2.0, 3.0] + 4.0)
    assert_fits(r, np.array([1.0, 2.0, 3.0]), 4.0, 1e-12)
    assert r.converged
    assert r.optimality <= 1e-8


def test_a_fit_that_falls_short_warns_with_the_figure_and_the_callers_line():
    X, y = data(100, 3)
    with pytest.warns(fg.ConvergenceWarning) as caught:
        r = fg.fit(X, y, solver="gd", max_iter=3, tol=1e-9)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert f"{r.optimality:.3g}" in message
    assert "tol=1e-09" in message
    assert "max_iter=3" in message
    assert caught[0].filename == __file__
    assert not r.converged
    assert r.optimality > 1e-9
    assert "max_iter=3" in r.stop_reason
    assert r.n_iter == 3


# ---- moments summed in float32 ---------------------------------------------------------------------------------------


def many_float32_rows(kind, n=20_000):
    """Columns whose squares float32 sums hold to enough digits, and such of which they do not."""
    X, y = data(n, 5, dtype=np.float32, means=1.0)
    rng = np.random.default_rng(0)
    if kind == "at an angle of 1e-3":
        X = np.column_stack([X, X[:, 0] + np.float32(1e-3) * rng.standard_normal(n)]).astype(np.float32)
    elif kind == "a column twice":
        X = X[:, [0, 1, 2, 3, 4, 2]]
    elif kind == "far from a typical row":
        X[[0, n // 2, n - 1], 1] = 1e5  # which three places give
        y = y + X[:, 1] * np.float32(1e-3)
    return X, y


#: kind: whether float32 sums are enough
FLOAT32_ROWS = {
    "well apart": True,
    "at an angle of 1e-3": False,
    "a column twice": False,
    "far from a typical row": False,
}


@pytest.mark.parametrize("kind", FLOAT32_ROWS)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_fit_sums_in_double_where_float32_would_hide_the_columns(kind, fit_intercept):
    X, y = many_float32_rows(kind)
    r = fg.fit(X, y, fit_intercept=fit_intercept)
    coef, intercept = least_squares(X, y, fit_intercept=fit_intercept)
    assert r.converged
    best = np.mean((X @ coef + intercept - y) ** 2)
    assert np.mean((X @ r.coef.astype(float) + r.intercept - y) ** 2) <= best * (1 + 1e-9)
    assert r.loss == pytest.approx(best, rel=1e-6)
    if kind != "at an angle of 1e-3":  # of which float32 coefficients keep few digits
        assert_fits(r, coef, intercept, 2e-6)
    if FLOAT32_ROWS[kind]:
        assert r.n_passes <= 3


@pytest.mark.parametrize("kind", FLOAT32_ROWS)
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_moments_summed_in_float32_say_what_they_do_not_hold(kind, l2):
    X, y = many_float32_rows(kind)
    d = X.shape[1]
    m, exact = fg.Moments(d).update(X, y), fg.Moments(d, dtype=np.float64).update(X, y)
    expected = exact.fit(l2=l2)
    assert expected.converged
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        r = m.fit(l2=l2)
    assert r.converged == (not caught) == (r.stop_reason == expected.stop_reason) == np.isfinite(r.gap_bound)
    if l2 == 0.0:
        assert r.converged == FLOAT32_ROWS[kind]
    if r.converged:
        assert_fits(r, expected.coef, expected.intercept, 2e-5)
    else:
        assert caught[0].category is fg.ConvergenceWarning
        assert caught[0].filename == __file__
        assert "dtype=float64" in str(caught[0].message)
        assert "dtype=float64" in r.stop_reason


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("given", [{}, {"l2": 0.3}, {"fit_intercept": False}], ids=str)
@pytest.mark.parametrize("means", [0.0, 3.0, 10.0])
def test_gap_bound_of_moments_summed_in_float32_is_a_bound(means, given, seed):
    X, y = data(5000, 4, seed, np.float32, means)
    m = fg.Moments(4).update(X, y)
    assert m.rounding > 1e-7
    # The gap by a factorisation in double: that of the best coefficients is known to 1e-15.
    l2, fit_intercept = given.get("l2", 0.0), given.get("fit_intercept", True)
    coef, intercept = least_squares(X, y, l2=l2, fit_intercept=fit_intercept)
    Z = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X.astype(float)
    for r in (fg.fit(X, y, solver="moments", **given), m.fit(**given)):
        off = np.append(r.coef - coef, r.intercept - intercept)[: Z.shape[1]]
        gap = np.mean((Z @ off) ** 2) + l2 * off[:4] @ off[:4]
        assert gap <= r.gap_bound
        assert r.gap_bound < 1e-5 * r.loss


def test_rounding_of_merged_moments_is_the_larger():
    X, y = data(300, 3)
    wide, narrow = fg.Moments(3).update(X, y), fg.Moments(3).update(X.astype(np.float32), y)
    assert wide.rounding < narrow.rounding
    assert fg.Moments(3).update(X, y).merge(narrow).rounding == narrow.rounding
    assert narrow.merge(wide).rounding == narrow.rounding
    assert fg.Moments(3, dtype=np.float64).update(X.astype(np.float32), y).rounding == wide.rounding


# ---- history and start -----------------------------------------------------------------------------------------------


def full_loss(X, y, w, l2=0.0, s=None):
    """F(w) and its gradient, by the formula; the intercept last if w has one."""
    d = X.shape[1]
    s = np.ones(len(X)) if s is None else s
    r = X @ w[:d] + (w[d] if len(w) > d else 0.0) - y
    grad = 2 / s.sum() * X.T @ (s * r) + 2 * l2 * w[:d]
    if len(w) > d:
        grad = np.append(grad, 2 / s.sum() * (s @ r))
    return (s @ r**2) / s.sum() + l2 * w[:d] @ w[:d], grad


@pytest.mark.parametrize("solver", ["moments", "gd"])
@pytest.mark.parametrize(
    "given",
    [{}, {"l2": 0.3}, {"fit_intercept": False}, {"sample_weight": weights(100)}],
    ids=["plain", "l2", "no intercept", "weights"],
)
def test_history_starts_at_the_start(solver, given):
    X, y = data(100, 3)
    intercept = given.get("fit_intercept", True)
    for w0 in (None, [1.0, -1.0, 2.0], *([[1.0, -1.0, 2.0, 5.0]] if intercept else [])):
        r = fg.fit(X, y, solver=solver, w0=w0, max_iter=7, tol=0, **given)
        start = np.zeros(3 + intercept)
        start[: len(w0 or [])] = w0 or []
        loss, grad = full_loss(X, y, start, given.get("l2", 0.0), given.get("sample_weight"))
        assert r.history["loss"][0] == pytest.approx(loss, rel=1e-12)
        assert r.history["grad_norm"][0] == pytest.approx(np.linalg.norm(grad), rel=1e-12)
        w = np.append(r.coef, r.intercept) if intercept else r.coef
        loss, grad = full_loss(X, y, w, given.get("l2", 0.0), given.get("sample_weight"))
        assert r.loss == r.history["loss"][-1] == pytest.approx(loss, rel=1e-12)
        assert r.history["grad_norm"][-1] == pytest.approx(np.linalg.norm(grad), rel=1e-9, abs=1e-12)
        assert set(r.history) == {"iteration", "loss", "grad_norm", "seconds"}
        np.testing.assert_array_equal(r.history["iteration"], np.arange(r.n_iter + 1))
        assert {len(column) for column in r.history.values()} == {r.n_iter + 1}
        assert (np.diff(r.history["seconds"]) >= 0).all() and r.history["seconds"][0] >= 0


def test_tol_zero_runs_max_iter_without_a_warning():
    X, y = data(100, 3)
    for steps in (1, 2, 17):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            r = fg.fit(X, y, solver="gd", tol=0, max_iter=steps)
        assert r.n_iter == steps
        assert not r.converged
        assert f"max_iter={steps}" in r.stop_reason


def test_start_at_the_optimum_ends_at_once():
    X, y = data(100, 3)
    best = fg.fit(X, y)
    r = fg.fit(X, y, solver="gd", w0=np.append(best.coef, best.intercept))
    assert r.n_iter == 0
    assert r.converged
    np.testing.assert_array_equal(r.coef, best.coef)
    # the optimum does not depend on the start
    r = fg.fit(X, y, solver="moments", w0=[1e3, -1e3, 1e3])
    assert_fits(r, best.coef, best.intercept, 1e-12)


def textbook(X, y, lr, steps, l2=0.0, s=None, fit_intercept=True):
    """Gradient descent in extended precision: w <- w - lr * grad F(w); yields w and F(w), the start first."""
    X, y = np.asarray(X, np.longdouble), np.asarray(y, np.longdouble)
    s = np.ones(len(X), np.longdouble) if s is None else np.asarray(s, np.longdouble)
    w, b = np.zeros(X.shape[1], np.longdouble), np.longdouble(0)
    for _ in range(steps + 1):
        r = X @ w + b - y
        yield w.copy(), b, (s @ r**2) / s.sum() + l2 * (w @ w)
        w -= lr * (2 / s.sum() * (X.T @ (s * r)) + 2 * l2 * w)
        b -= lr * (2 / s.sum() * (s @ r)) * fit_intercept


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.4])
def test_gd_is_the_textbooks_iterate_by_iterate(fit_intercept, weighted, l2):
    X, y = data(60, 5)
    s = weights(60) if weighted else None
    given = {"l2": l2, "fit_intercept": fit_intercept}
    p = fg.MSE(X, y, s, **given)
    lr = 1.5 / p.lipschitz()  # above 1/λmax: the largest component overshoots and swings
    stepped = np.zeros(5 + fit_intercept)
    for k, (w, b, loss) in enumerate(textbook(X, y, lr, 50, s=s, **given)):
        w, b, loss = w.astype(float), float(b), float(loss)
        if k:
            r = fg.fit(X, y, solver="gd", lr=lr, tol=0, max_iter=k, sample_weight=s, **given)
            assert r.lr == lr
            assert_fits(r, w, b, 1e-12)
            assert r.loss == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(stepped[:5], w, rtol=1e-12, atol=1e-12 * np.abs(w).max())
        assert p.step_(stepped, lr) == pytest.approx(loss, rel=1e-12)
    assert k == 50
    np.testing.assert_allclose(
        r.history["loss"], [float(x[2]) for x in textbook(X, y, lr, 50, s=s, **given)], rtol=1e-12
    )


def test_the_step_that_was_used_is_told():
    """That of "auto" is one of standardised columns, however many iterations are asked for."""
    X, y = data(50, 3)
    p = fg.MSE((X - X.mean(axis=0)) / X.std(axis=0), y, fit_intercept=True)
    for steps in (1, 10_000):
        r = fg.fit(X, y, solver="gd", tol=0, max_iter=steps)
        assert r.lr == pytest.approx(1 / p.lipschitz(), rel=1e-10)
    assert fg.fit(X, y, solver="gd", lr=0.01, tol=0, max_iter=1).lr == 0.01
    assert fg.fit(X, y).lr is None


# ---- sufficient statistics -------------------------------------------------------------------------------------------


def pieces(n, sizes):
    start = 0
    while start < n:
        for size in sizes:
            yield slice(start, min(start + size, n))
            start += size
            if start >= n:
                return


@pytest.mark.parametrize("d", [4, 70])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", [(1,), (7, 1, 40), (100,), (500,)])
def test_moments_in_pieces_are_those_of_the_whole(sizes, weighted, d):
    X, y = data(500, d)
    X[:, 0] += np.linspace(0, 50, 500)  # pieces differ in their means, and so in their shifts
    s = weights(500) if weighted else None
    whole = fg.Moments(d).update(X, y, s)
    streamed, merged = fg.Moments(d), fg.Moments(d)
    for part in pieces(500, sizes):
        args = X[part], y[part], None if s is None else s[part]
        assert streamed.update(*args) is streamed
        assert merged.merge(fg.Moments(d).update(*args)) is merged
    for l2, fit_intercept in ((0.0, True), (0.2, True), (0.0, False)):
        expected = whole.fit(l2=l2, fit_intercept=fit_intercept)
        assert_fits(expected, *least_squares(X, y, s, l2, fit_intercept), 1e-9)
        for m in (streamed, merged):
            assert m.n_samples == 500
            assert m.weight == pytest.approx(500 if s is None else s.sum(), rel=1e-13)
            np.testing.assert_allclose(m.means, np.average(np.column_stack([X, y]), 0, s), rtol=1e-12)
            r = m.fit(l2=l2, fit_intercept=fit_intercept)
            assert_fits(r, expected.coef, expected.intercept, 1e-10)
            assert r.loss == pytest.approx(expected.loss, rel=1e-10)
            assert r.converged


def test_moments_and_fit_agree_on_everything():
    X, y = data(300, 5)
    s = weights(300)
    for l2 in (0.0, 0.1):
        a, b = fg.Moments(5).update(X, y, s).fit(l2=l2), fg.fit(X, y, sample_weight=s, l2=l2)
        assert_fits(a, b.coef, b.intercept, 1e-11)
        assert a.loss == pytest.approx(b.loss, rel=1e-11)
        assert a.history["loss"][0] == pytest.approx(b.history["loss"][0], rel=1e-12)
        assert (a.solver, a.n_passes, a.converged) == ("moments", 0, True)


def test_moments_of_parts_with_far_apart_means_merge():
    """Two clusters of large mean, each seen about its own shift."""
    X, y = data(400, 3)
    X[:200] += 1e6
    X[200:] += 1.001e6
    whole = fg.Moments(3).update(X, y)
    parts = [fg.Moments(3).update(X[part], y[part]) for part in (slice(0, 200), slice(200, 400))]
    coef, intercept = least_squares(X - 1e6, y)
    for m in (whole, parts[0].merge(parts[1])):
        assert_fits(m.fit(), coef, intercept - 1e6 * coef.sum(), 1e-7)


def test_merging_what_is_empty_changes_nothing():
    X, y = data(30, 3)
    expected = fg.Moments(3).update(X, y).fit()
    full = fg.Moments(3).update(X, y)
    np.testing.assert_array_equal(full.merge(fg.Moments(3)).fit().coef, expected.coef)
    np.testing.assert_array_equal(fg.Moments(3).merge(full).fit().coef, expected.coef)


# ---- the objective ---------------------------------------------------------------------------------------------------


def hessian(X, s, l2, fit_intercept):
    X = np.asarray(X, float)
    d = X.shape[1]
    X = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    s = np.ones(len(X)) if s is None else s
    H = 2 / s.sum() * (X.T * s) @ X
    H[np.diag_indices(d)] += 2 * l2
    return H


OBJECTIVES = [
    pytest.param(n, d, weighted, l2, intercept, id=f"{n}x{d}{'s' * weighted}{'b' * intercept},l2={l2}")
    for n, d in ((1, 1), (40, 1), (50, 3), (40, 16), (40, 17), (30, 70), (400, 150))
    for weighted in (False, True)
    for l2, intercept in ((0.0, False), (0.0, True), (0.5, True))
]


@pytest.mark.parametrize(("n", "d", "weighted", "l2", "intercept"), OBJECTIVES)
def test_hessp_and_lipschitz_are_those_of_the_matrix(n, d, weighted, l2, intercept):
    X, y = data(n, d)
    s = weights(n) if weighted else None
    v = np.random.default_rng(3).standard_normal(d + intercept)
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 1e-5)):
        p = fg.MSE(X.astype(dtype), y, s, fit_intercept=intercept, l2=l2)
        H = hessian(X.astype(dtype), s, l2, intercept)
        scale = np.abs(H) @ np.abs(v)  # the sum of the magnitudes of what hessp adds up
        got = p.hessp(v)
        assert got.dtype == dtype
        assert (np.abs(got - H @ v) <= rtol * scale).all()
        largest = np.linalg.eigvalsh(H)[-1]
        assert p.lipschitz() == pytest.approx(largest, rel=1e-5)
        if dtype == np.float64:
            assert p.lipschitz() <= largest * (1 + 1e-12)
            value, grad = full_loss(X, y, v, l2, s)
            assert p.value(v) == pytest.approx(value, rel=1e-12)
            np.testing.assert_allclose(p.grad(v), grad, rtol=1e-11, atol=1e-12 * np.abs(grad).max())


@pytest.mark.parametrize("spectrum", ["equal", "two clusters", "even", "steep", "one large", "zero"])
def test_lipschitz_of_hard_spectra(spectrum):
    d = 250
    values = {
        "equal": np.ones(d),
        "two clusters": np.repeat([1.0, 1.0 - 1e-9], d // 2),
        "even": np.linspace(0, 1, d),
        "steep": 10.0 ** -np.arange(d),
        "one large": np.append(np.ones(d - 1), 1e12),
        "zero": np.zeros(d),
    }[spectrum]
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    X = left * np.sqrt(values) @ right
    assert fg.MSE(X, np.ones(d)).lipschitz() == pytest.approx(2 / d * values.max(), rel=1e-5)


def test_lipschitz_reads_the_data_once():
    X, y = data(50, 5)
    p = fg.MSE(X, y)
    first = p.lipschitz()
    passes = p.n_passes
    assert 1 <= passes <= 5  # the Lanczos process ends with the space
    assert p.lipschitz() == first
    assert p.n_passes == passes


# ---- what a result is ------------------------------------------------------------------------------------------------


def test_results_are_plain_and_picklable():
    X, y = data(40, 3)
    for r in (fg.fit(X, y), fg.fit(X, y, solver="gd", max_iter=4, tol=0), fg.Moments(3).update(X, y).fit()):
        copy = pickle.loads(pickle.dumps(r))
        for name in r.__dataclass_fields__:
            np.testing.assert_equal(getattr(copy, name), getattr(r, name))
        np.testing.assert_array_equal(copy.predict(X), r.predict(X))
        for name, kind in {
            "intercept": float,
            "loss": float,
            "optimality": float,
            "gap_bound": float,
            "n_iter": int,
            "n_passes": int,
            "converged": bool,
            "stop_reason": str,
            "solver": str,
        }.items():
            assert type(getattr(r, name)) is kind, name
        assert r.stop_reason
        assert r.n_passes >= 0
        with pytest.raises(AttributeError):
            r.intercept = 0.0


def test_results_compare_without_an_error():
    X, y = data(40, 3)
    r, other = fg.fit(X, y), fg.fit(X, y + 1)
    assert (r == r) is True
    assert (r != other) is True


@pytest.mark.parametrize("n_features", [1, 3, 40])
@pytest.mark.parametrize("trained", [np.float32, np.float64])
def test_predict_in_every_dtype(n_features, trained):
    X, y = data(100, n_features, dtype=trained)
    r = fg.fit(X, y)
    grid = np.random.default_rng(0).integers(0, 2, (30, n_features))
    expected = grid @ r.coef.astype(float) + r.intercept
    for dtype in (
        bool,
        np.int8,
        np.uint16,
        np.int64,
        np.float16,
        np.float32,
        np.float64,
        np.longdouble,
        ">f4",
        ">f8",
        ">i4",
    ):
        for order in ("C", "F"):
            got = r.predict(np.array(grid, dtype, order=order))
            narrow = trained == np.float32 and np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize <= 4
            assert got.dtype == (np.float32 if narrow else np.float64)
            assert got.shape == (30,)
            np.testing.assert_allclose(got, expected, rtol=1e-5 if narrow else 1e-12, atol=1e-5 if narrow else 1e-12)
    np.testing.assert_array_equal(r.predict(grid.tolist()), r.predict(grid))


def test_predict_in_pieces_is_predict():
    X, y = data(2**17, 10)
    r = fg.fit(X, y)
    np.testing.assert_allclose(r.predict(X), X @ r.coef + r.intercept, rtol=1e-12, atol=1e-12)
    assert np.mean((r.predict(X) - y) ** 2) == pytest.approx(r.loss, rel=1e-12)


# ---- threads, forks, memory, Ctrl-C ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large():
    X, y = data(2**19, 12)
    assert X.nbytes // 2 >= SHARED_BYTES  # float32, too, is shared among threads
    return X, y, weights(len(X))


@pytest.mark.parametrize("solver", ["moments", "gd"])
def test_bits_do_not_depend_on_the_threads(solver, large):
    X, y, s = large
    for columns in (X, np.asfortranarray(X), X.astype(np.float32), X.astype(">f4")):
        one, two, many = (
            fg.fit(columns, y, sample_weight=s, solver=solver, max_iter=3, tol=0, n_threads=k) for k in (1, 2, 64)
        )
        for other in (two, many):
            np.testing.assert_array_equal(other.coef, one.coef)
            np.testing.assert_array_equal(other.history["loss"], one.history["loss"])
            assert (other.intercept, other.loss, other.optimality) == (one.intercept, one.loss, one.optimality)


def test_bits_of_moments_do_not_depend_on_the_threads(large):
    X, y, s = large
    one, two = (fg.Moments(12, n_threads=k).update(X, y, s).fit() for k in (1, 2))
    np.testing.assert_array_equal(one.coef, two.coef)
    assert one.loss == two.loss


@pytest.mark.parametrize("rows", [30, 2**18])
def test_one_objective_in_many_threads(rows, large):
    """Its memory is lent to one caller at a time; the others get their own."""
    X, y, s = (array[:rows] for array in large)
    p = fg.MSE(X, y, s, l2=0.1)
    rng = np.random.default_rng(0)
    points = rng.standard_normal((8, 12))
    expected = [(p.value_and_grad(w), p.hessp(w)) for w in points]
    wrong, start = [], threading.Barrier(8)

    def work(w, loss, grad, product):
        start.wait()
        for _ in range(300 if rows < 100 else 3):
            got = p.value_and_grad(w)
            stepped = w.copy()
            if not (
                got[0] == loss == p.step_(stepped, 0.125)
                and np.array_equal(got[1], grad)
                and np.array_equal(p.hessp(w), product)
                and np.array_equal(stepped, w - 0.125 * grad)
            ):
                wrong.append(w)

    threads = [
        threading.Thread(target=work, args=(w, loss, grad, product))
        for w, ((loss, grad), product) in zip(points, expected, strict=True)
    ]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(before)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


FORK = """
import os, sys
import numpy as np
import fastgd as fg

X, y = np.random.default_rng(0).standard_normal((2**19, 8)), np.zeros(2**19)
p = fg.MSE(X, y, n_threads=2)
w = np.ones(8)
loss, grad = p.value_and_grad(w)        # starts the helper threads
child = os.fork()
if child == 0:
    again = p.value_and_grad(w)
    fitted = fg.fit(X, y, n_threads=2)  # a new pool, too
    os._exit(0 if again[0] == loss and np.array_equal(again[1], grad) and fitted.converged else 1)
status = os.waitpid(child, 0)[1]
assert p.value(w) == loss
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_fork_after_a_threaded_pass(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


def endless(dtype, columns=8):
    """Rows that are one row in memory: a pass over them takes many seconds and no space."""
    row = np.random.default_rng(0).standard_normal(columns).astype(dtype)
    return np.broadcast_to(row, (2**29, columns)), np.broadcast_to(np.zeros(1), 2**29)


def few_wide_rows():
    """Each is the one before from its second element on: some gigabytes to read, 16 megabytes of memory."""
    X = np.lib.stride_tricks.sliding_window_view(np.random.default_rng(0).standard_normal(2_002_000), 2_000_000)
    return X, np.zeros(len(X))


LONG_PASSES = {
    "value, one thread": lambda: fg.MSE(*endless(float), n_threads=1).value(np.ones(8)),
    "gradient": lambda: fg.MSE(*endless(float)).grad(np.ones(8)),
    "gradient, float32, wide": lambda: fg.MSE(*endless(np.float32, 200)).grad(np.ones(200)),
    "gradient, few wide rows": lambda: fg.MSE(*few_wide_rows()).grad(np.ones(2_000_000)),
    "gradient, converted": lambda: fg.MSE(*endless(np.int16)).grad(np.ones(8)),
    "moments": lambda: fg.Moments(8).update(*endless(float)),
    "moments, by BLAS": lambda: fg.Moments(100).update(*endless(float, 100)),
    "lipschitz": lambda: fg.MSE(*endless(float)).lipschitz(),
    "fit": lambda: fg.fit(*endless(float), solver="gd"),
}


@pytest.mark.parametrize("what", LONG_PASSES)
def test_ctrl_c_is_heard_during_a_pass(what):
    """A timer's signal in place of the key: the handler is the one of Ctrl-C."""
    sent = []

    def interrupt(number, frame):
        sent.append(time.perf_counter())
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGALRM, interrupt)
    start = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            LONG_PASSES[what]()
        end = time.perf_counter()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sent[0] - start < 0.2 + 0.5  # Python was given the chance to run the handler
    assert end - sent[0] < 0.5  # and the other threads did not go on for long
    X, y = data(50, 3)
    assert fg.fit(X, y).converged  # nothing is left in a bad state


@pytest.mark.parametrize(
    ("solver", "kind"),
    [("moments", kind) for kind in ("float64", "float32", "Fortran order", "int16", "backwards")]
    + [("gd", kind) for kind in ("float64", "Fortran order", "backwards")],
)
def test_a_fit_needs_two_percent_of_the_memory_of_X(solver, kind):
    rng = np.random.default_rng(0)
    integers = rng.integers(-100, 100, (2**21, 64 if kind == "int16" else 10), np.int16)
    X = {
        "float64": lambda: integers.astype(float),
        "float32": lambda: integers.astype(np.float32),
        "Fortran order": lambda: np.asfortranarray(integers, float),
        "int16": lambda: integers,
        "backwards": lambda: integers.astype(np.float32)[::-1],
    }[kind]()
    y = rng.standard_normal(len(X))
    tracemalloc.start()
    try:
        fg.fit(X, y, solver=solver, max_iter=1, tol=0, **({"lr": 1e-9} if solver == "gd" else {}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 0.02 * X.nbytes, f"{peak / X.nbytes:.3%} of X"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("angle", [1e-5, 1e-6, 1e-7])
def test_nearly_collinear_columns_are_refined_or_not_said_to_have_converged(angle, seed):
    """Squares hold the angle to few digits; exact residuals bring the others back, as far as refinement gets."""
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((2, 200))
    X, y = np.column_stack([x, x + angle * z]), z + 0.1 * rng.standard_normal(200)
    centred = X - X.mean(axis=0)
    best = np.linalg.lstsq(centred, y - y.mean(), rcond=1e-15)[0]
    optimum = np.mean((centred @ best - (y - y.mean())) ** 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.ConvergenceWarning)
        r = fg.fit(X, y)
    assert not r.converged or r.loss <= optimum * (1 + 1e-6)


def test_tol_0_makes_every_update_though_none_changes_anything():
    X = np.array([[1.0], [2.0], [3.0]])
    r = fg.fit(X, 2 * X[:, 0] + 1, solver="gd", w0=[2.0, 1.0], tol=0, max_iter=7)
    assert r.n_iter == 7
    assert len(r.history["loss"]) == 8
