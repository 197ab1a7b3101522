"""The exact solution, with nothing to tune: as good as an orthogonal factorisation's on whatever columns come.

Every problem is held against `numpy.linalg.lstsq` on centred columns, weighted by sqrt(s), once in their own units and
once at unit length, of which the better counts: lstsq cuts what is small beside the largest singular value.
"""

import os
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
from test_fit import assert_fits, data, exact_gap, least_squares, weights

import fastgd as fg

# ---- 50 problems -----------------------------------------------------------------------------------------------------

#: What a loss may be above the least one, relatively.
WITHIN = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-5}
#: Passes over X beyond the one for the moments.
PASSES = 1 + 6


def tall(rng, n, d):
    return rng.standard_normal((n, d)) @ (np.eye(d) + 0.3 * rng.standard_normal((d, d)) / np.sqrt(d))


def conditioned(rng, n, d, kappa):
    """Columns of unit length or so whose singular values fall evenly, on a logarithmic scale, to 1/kappa."""
    left, right = (np.linalg.qr(rng.standard_normal((size, min(n, d))))[0] for size in (n, d))
    return np.sqrt(n) * left * np.geomspace(1, 1 / kappa, min(n, d)) @ right.T


def collinear(rng, n, d, angle):
    """The last column is the first but for that angle; of 0, exactly."""
    X = tall(rng, n, d)
    X[:, -1] = X[:, 0] + angle * rng.standard_normal(n)
    return X


def with_constants(rng, n, d):
    X = tall(rng, n, d)
    X[:, 0], X[:, d // 2], X[:, -1] = 0.1, -7e5, 0.0
    return X


def in_units(rng, n, d):
    return tall(rng, n, d) * 10 ** rng.uniform(-6, 6, d)


def far_from_zero(rng, n, d):
    return tall(rng, n, d) + 1e4 * rng.uniform(0.5, 1, d)


def a_sum(rng, n, d):
    X = tall(rng, n, d) + 3
    X[:, -1] = X[:, 0] - 2 * X[:, 1]
    return X


def categories(rng, n, d):
    return np.eye(d)[rng.integers(0, d, n)]


def powers(rng, n, d):
    return np.sort(rng.uniform(1, 2, n))[:, None] ** np.arange(1, d + 1)


MAKE = {
    "tall": tall,
    "constant columns": with_constants,
    "units of 1e-6 to 1e6": in_units,
    "means of 1e4": far_from_zero,
    "a sum of others": a_sum,
    "categories": categories,
    "powers": powers,
    **{f"kappa {kappa:g}": lambda rng, n, d, kappa=kappa: conditioned(rng, n, d, kappa) for kappa in (1e3, 1e6)},
    **{
        f"collinear {angle:g}": lambda rng, n, d, angle=angle: collinear(rng, n, d, angle)
        for angle in (0.0, 1e-3, 1e-6, 1e-7, 2e-8, 1e-9)
    },
}

F64, F32 = "float64", "float32"
#: kind, rows, columns, dtype, whether rows are weighted
PROBLEMS = [
    ("tall", 2, 1, F64, False),
    ("tall", 3, 2, F32, False),
    ("tall", 5, 2, F64, True),
    ("tall", 442, 10, F64, False),
    ("tall", 442, 10, F32, True),
    ("tall", 20_000, 17, F32, False),
    ("tall", 100_000, 30, F64, True),
    ("tall", 1_000_000, 8, F64, False),
    ("tall", 1_000_000, 5, F32, False),
    ("tall", 5_000, 600, F64, False),
    ("tall", 3_000, 600, F32, False),
    ("tall", 40, 40, F64, False),
    ("tall", 41, 40, F64, True),
    ("tall", 60, 60, F32, False),
    ("tall", 2, 3, F64, False),
    ("tall", 30, 200, F64, False),
    ("tall", 30, 200, F64, True),
    ("tall", 50, 400, F32, False),
    ("tall", 200, 3_000, F64, False),
    ("constant columns", 500, 9, F64, False),
    ("constant columns", 6_000, 9, F32, True),
    ("constant columns", 20, 60, F64, False),
    ("units of 1e-6 to 1e6", 500, 8, F64, False),
    ("units of 1e-6 to 1e6", 10_000, 20, F32, False),
    ("units of 1e-6 to 1e6", 300, 20, F64, True),
    ("units of 1e-6 to 1e6", 25, 80, F64, False),
    ("means of 1e4", 1_000, 6, F64, False),
    ("means of 1e4", 50_000, 6, F64, True),
    ("means of 1e4", 50_000, 6, F32, False),
    ("means of 1e4", 700, 6, F32, True),
    ("means of 1e4", 2_000, 550, F64, False),
    ("means of 1e4", 30, 90, F64, False),
    ("a sum of others", 400, 5, F64, False),
    ("a sum of others", 9_000, 12, F32, False),
    ("categories", 300, 6, F64, False),
    ("categories", 5_000, 6, F32, True),
    ("powers", 100, 6, F64, False),
    ("powers", 5_000, 4, F32, False),
    ("kappa 1000", 2_000, 30, F64, False),
    ("kappa 1000", 20_000, 30, F32, False),
    ("kappa 1e+06", 2_000, 30, F64, False),
    ("kappa 1e+06", 2_000, 30, F64, True),
    ("kappa 1e+06", 60, 30, F64, False),
    ("collinear 0", 500, 8, F64, True),
    ("collinear 0.001", 8_000, 8, F32, False),
    ("collinear 1e-06", 500, 8, F64, False),
    ("collinear 1e-07", 500, 8, F64, True),
    ("collinear 2e-08", 500, 8, F64, False),
    ("collinear 1e-09", 500, 8, F64, False),
    ("collinear 1e-09", 20_000, 4, F64, False),
]


def problem(kind, n, d, dtype, weighted):
    """X, targets that are not linear in it, along every one of its directions, and weights or None."""
    rng = np.random.default_rng([n, d, len(kind)])
    X = MAKE[kind](rng, n, d).astype(dtype)
    Z = X.astype(float) - X.mean(axis=0, dtype=float)
    left, values, _ = np.linalg.svd(Z if n * d < 1e6 else Z[:: n // 2_000], full_matrices=False)
    y = np.resize(left[:, values > 8 * np.finfo(dtype).eps * values[0]].sum(axis=1), n) * np.sqrt(n)
    y += 5.0 + 0.5 * rng.standard_normal(n) * (n > d)
    return X, y, weights(n) if weighted else None


def centred(X, y, s):
    """Columns and targets less their means, times sqrt(s); the means, and sqrt(s): in extended precision."""
    X, y = X.astype(np.longdouble), y.astype(np.longdouble)
    root = np.ones(len(X), np.longdouble) if s is None else np.sqrt(s.astype(np.longdouble))
    shares = root**2 / (root @ root)
    x_mean, y_mean = shares @ X, shares @ y
    return root[:, None] * (X - x_mean), root * (y - y_mean), x_mean, y_mean, root


def mean_square(A, coef, b, total):
    residual = A @ coef - b
    return float(residual @ residual / total)


def least_loss(A, b, total, eps):
    """The least loss that lstsq finds, of columns in their own units or at unit length.

    Singular values below 8 eps are left out: of the rounding of X in its dtype.
    """
    lengths = np.sqrt((A * A).sum(axis=0))
    losses = []
    for unit in (np.ones(len(lengths)), np.divide(1.0, lengths, out=np.zeros(len(lengths)), where=lengths > 0)):
        coef = np.linalg.lstsq((A * unit).astype(float), b.astype(float), rcond=8 * eps)[0]
        losses.append(mean_square(A, unit * coef, b, total))
    return min(losses)


def assert_is_optimal(r, X, y, s=None):
    """The loss, as told and as the result gives it in extended precision, is the least one, or zero but for rounding.

    Of a fit that can be exact the least loss is the square of a rounding error: any is as good whose residuals are at
    most as large as what it takes to round x_i.w + b, 8 times eps |x_i||w| in the root mean square. A loss that is told
    was summed in X's dtype, of residuals with that rounding.
    """
    A, b, x_mean, y_mean, root = centred(X, y, s)
    total, eps = root @ root, np.finfo(X.dtype).eps
    best = least_loss(A, b, total, eps)
    coef = r.coef.astype(float)
    loss = mean_square(A, coef, b - root * (r.intercept - (y_mean - x_mean @ coef)), total)
    terms = root * (np.abs(X) @ np.abs(coef) + np.abs(y))
    rounding = float(eps * np.sqrt(terms @ terms / total))
    assert loss <= best * (1 + WITHIN[X.dtype]) + (8 * rounding) ** 2
    assert r.loss <= best * (1 + WITHIN[X.dtype]) + (8 * rounding) ** 2 + rounding * np.sqrt(best)


@pytest.mark.parametrize("number", range(len(PROBLEMS)), ids=lambda number: "-".join(map(str, PROBLEMS[number])))
def test_fifty_problems_with_nothing_to_tune(number):
    X, y, s = problem(*PROBLEMS[number])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = fg.fit(X, y) if s is None else fg.fit(X, y, sample_weight=s)
    assert r.converged
    assert r.n_passes <= PASSES
    assert_is_optimal(r, X, y, s)


def test_there_are_fifty_of_them():
    assert len(set(PROBLEMS)) == 50


# ---- nearly collinear columns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("angle", [5e-7, 1e-7, 3e-8, 1e-8, 1e-9, 1e-10])
@pytest.mark.parametrize("weighted", [False, True])
def test_columns_at_any_angle_are_told_apart(weighted, angle, seed):
    """With y along their difference: who takes them for one finds a loss a hundred times as large."""
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((2, 200))
    X, y = np.column_stack([x, x + angle * z]), z + 0.1 * rng.standard_normal(200)
    s = weights(200) if weighted else None
    r = fg.fit(X, y, sample_weight=s)
    assert r.converged
    assert r.n_passes <= PASSES
    assert_is_optimal(r, X, y, s)


@pytest.mark.parametrize("angles", [(1e-8, 1e-9), (0.0, 1e-9), (0.0, 0.0, 1e-8, 1e-9)])
def test_several_lost_directions_at_once(angles):
    """Some of which are there and some are not: of those that are not, the shortest coefficients are taken.

    X's own rounding turns those that are not there towards one of length a by EPS / a, for LAPACK's SVD as for any way.
    """
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 6))
    X = np.column_stack([X, *(X[:, k] + angle * rng.standard_normal(300) for k, angle in enumerate(angles))])
    y = sum((X[:, 6 + k] - X[:, k]) / angle for k, angle in enumerate(angles) if angle) + rng.standard_normal(300)
    r = fg.fit(X, y)
    assert r.converged
    assert r.n_passes <= PASSES
    assert_is_optimal(r, X, y)
    for k, angle in enumerate(angles):
        if not angle:
            bound = np.finfo(float).eps / 1e-9
            assert abs(r.coef[6 + k] - r.coef[k]) <= bound * np.abs(r.coef).max()


def test_no_intercept_and_means_of_1e8():
    """The columns are one direction but for 1e-8 of their length, in which all that y varies lies."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1000, 3))
    X, y = 1e8 + noise, noise @ [1.0, -2.0, 1.0] + 0.1 * rng.standard_normal(1000)
    r = fg.fit(X, y, fit_intercept=False)
    assert r.converged
    least = y - X @ np.linalg.lstsq(X, y, rcond=1e-15)[0]
    assert r.loss <= np.mean(least**2) * (1 + 1e-6)


def test_a_large_mean_does_not_make_a_residual_small():
    """w = (1, -1) is as good as none: the residual is all of y, if only 1e-8 of what the terms x_ij w_j are."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((500, 2))
    X = 1e9 + noise
    y = noise[:, 0] - noise[:, 1] + 1e-3 * rng.standard_normal(500)
    with pytest.warns(fg.ConvergenceWarning):
        r = fg.fit(X, -y, solver="gd", fit_intercept=False, w0=[1.0, -1.0], lr=1e-300, max_iter=1)
    assert not r.converged
    assert r.optimality > 1e-6


# ---- fewer rows than columns -----------------------------------------------------------------------------------------


class Sparse:
    """As SciPy has it."""

    def __init__(self, X):
        self.shape, held = X.shape, X != 0
        self.data, self.indices = X[held], np.nonzero(held)[1].astype(np.int32)
        self.indptr = np.concatenate([[0], np.cumsum(held.sum(axis=1))]).astype(np.int32)


@pytest.mark.parametrize("kind", ["C", "F", "strided", "float32", ">f8", "int16", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "given", [{}, {"fit_intercept": False}, {"l2": 0.3}, {"l2": 1e-3, "fit_intercept": False}], ids=str
)
def test_wide_problems_of_any_source(kind, weighted, given):
    """The shortest of all exact fits, in the units of the columns, and ridge."""
    rng = np.random.default_rng(1)
    values = rng.integers(-9, 10, (40, 300)) * (rng.random((40, 300)) < 0.3)
    y, s = rng.standard_normal(40) + 3, weights(40) if weighted else None
    columns = {
        "C": lambda: values.astype(float),
        "F": lambda: np.asfortranarray(values, float),
        "strided": lambda: np.repeat(values.astype(float), 2, axis=1)[:, ::2],
        "float32": lambda: values.astype(np.float32),
        ">f8": lambda: values.astype(">f8"),
        "int16": lambda: values.astype(np.int16),
        "sparse": lambda: Sparse(values.astype(float)),
    }[kind]()
    r = fg.fit(columns, y, sample_weight=s, **given)
    assert r.solver == "moments"
    assert r.converged
    rtol = 1e-5 if kind == "float32" else 1e-9
    assert_fits(r, *least_squares(values, y, s, given.get("l2", 0.0), given.get("fit_intercept", True)), rtol)


def test_wide_problems_with_rows_twice_and_rows_of_weight_zero():
    X, y = data(30, 90)
    twice = np.repeat(np.arange(30), 2)
    s = np.ones(60)
    s[1] = s[7] = 0.0
    targets = y[twice] + np.tile([0.5, -0.5], 30)
    filled = X[twice].copy()
    filled[1] = 1e6
    r = fg.fit(filled, targets, sample_weight=s)
    assert r.converged
    present = s > 0
    assert_fits(r, *least_squares(X[twice][present], targets[present]), 1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_gap_of_wide_ridge_is_bounded(fit_intercept):
    X, y = data(6, 9)
    for l2 in (1e-3, 1.0):
        r = fg.fit(X, y, l2=l2, fit_intercept=fit_intercept)
        assert 0 <= exact_gap(X, y, r, l2=l2, fit_intercept=fit_intercept) <= r.gap_bound < 1e-12 * r.loss


def test_no_matrix_of_the_size_of_the_columns_is_formed():
    X, y = data(20, 20)
    X = np.tile(X, 1000)
    tracemalloc.start()
    try:
        r = fg.fit(X, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert r.converged
    assert peak < 20 * X[0].nbytes + (1 << 24) < X.shape[1] ** 2 * 8 / 100


# ---- products in float32 of wide float64 rows -----------------------------------------------------------------------


WIDE = {
    "well apart": lambda X: X,
    "far from zero, in many units": lambda X: (X + 30.0) * 10 ** np.linspace(-6, 6, X.shape[1]),
    "a constant": lambda X: np.column_stack([X, np.full(len(X), 0.1)]),
    "at an angle of 1e-3": lambda X: np.column_stack([X, X[:, 0] + 1e-3 * X[:, 1]]) + 1e-6 * X[::-1, :1],
    "of squares beyond float32": lambda X: X * 1e30,
    "an outlier beyond float32": lambda X: np.where(np.arange(X.size).reshape(X.shape) == 700_001, 1e60, X),
}


@pytest.mark.parametrize("kind", WIDE)
@pytest.mark.parametrize("given", [{}, {"fit_intercept": False}, {"l2": 0.1}, {"sample_weight": True}], ids=str)
def test_products_in_float32_cost_no_digits(given, kind, monkeypatch):
    """Of many columns; of fewer here, so that LAPACK is done soon."""
    monkeypatch.setattr(fg.solvers._costs, "CLEAR_COLUMNS", 20)
    X, y = data(2500, 40, means=1.0)
    X = WIDE[kind](X)
    s = weights(2500) if "sample_weight" in given else None
    given = given | ({"sample_weight": s} if s is not None else {})
    r = fg.fit(X, y, **given)
    assert r.converged
    assert r.n_passes <= PASSES
    monkeypatch.setattr(fg.solvers._costs, "CLEAR_COLUMNS", 10_000)
    best = fg.fit(X, y, **given)
    lengths = np.linalg.norm(X, axis=0)
    terms = best.coef * lengths
    np.testing.assert_allclose(r.coef * lengths, terms, rtol=1e-9, atol=1e-9 * np.abs(terms).max())
    assert r.loss == pytest.approx(best.loss, rel=1e-12)
    assert r.history["loss"][0] == pytest.approx(best.history["loss"][0], rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("given", [{}, {"l2": 0.3}, {"fit_intercept": False}], ids=str)
def test_the_gap_of_products_in_float32_is_bounded(given, seed, monkeypatch):
    monkeypatch.setattr(fg.solvers._costs, "CLEAR_COLUMNS", 1)
    X, y = data(60, 4, seed)
    r = fg.fit(X, y, **given)
    assert 0 <= exact_gap(X, y, r, **given) <= r.gap_bound < 1e-12 * r.loss


# ---- several targets, callbacks, validation --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(300, 7), (20_000, 6), (9, 30)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("given", [{}, {"fit_intercept": False}, {"l2": 0.1}, {"sample_weight": True}], ids=str)
def test_targets_share_the_moments(given, dtype, shape):
    """Each target's fit is its own, and each further one costs a few passes, none of them for the moments."""
    X, y = data(*shape, dtype=dtype, means=1.0)
    Y = np.column_stack([y, 100 * y[::-1] - 1e3, np.cos(y), y])
    given = given | ({"sample_weight": weights(len(X))} if "sample_weight" in given else {})
    start = np.random.default_rng(0).standard_normal((X.shape[1], 4))
    together = fg.fit(X, Y, w0=start, **given)
    assert together.converged
    for place, target in enumerate(Y.T):
        alone = fg.fit(X, target, w0=start[:, place], **given)
        rtol = 1e-9 if dtype == np.float64 else 1e-5
        np.testing.assert_allclose(
            together.coef[:, place], alone.coef, rtol=rtol, atol=rtol * np.abs(alone.coef).max()
        )
    losses = [fg.fit(X, target, w0=start[:, place], **given).history["loss"][0] for place, target in enumerate(Y.T)]
    assert together.history["loss"][0] == pytest.approx(sum(losses), rel=1e-12 if dtype == np.float64 else 1e-5)


def test_targets_read_the_columns_a_few_times_each():
    X, y = data(5000, 8)
    Y = np.column_stack([y, y**2, np.sin(y), y, y + 1])
    assert fg.fit(X, Y).n_passes <= 2 + 4 * 2


@pytest.mark.parametrize("shape", [(300, 4), (5, 12)])
def test_a_callback_sees_the_start_and_the_solution(shape):
    X, y = data(*shape)
    seen = []
    r = fg.fit(X, y, callback=seen.append)
    assert [iterate.iteration for iterate in seen] == list(range(r.n_iter + 1))
    assert [iterate.loss for iterate in seen] == r.history["loss"].tolist()
    assert not seen[0].coef.any()
    np.testing.assert_array_equal(seen[-1].coef, r.coef)
    assert seen[-1].optimality == r.optimality
    assert r.converged


@pytest.mark.parametrize("shape", [(300, 4), (5, 12)])
def test_a_callback_may_end_it_at_the_start(shape):
    X, y = data(*shape)
    start = np.arange(shape[1] + 1.0)
    r = fg.fit(X, y, w0=start, callback=lambda iterate: True)
    np.testing.assert_array_equal(r.coef, start[:-1])
    assert r.intercept == start[-1]
    assert (r.n_iter, r.converged, r.stop_reason) == (0, False, "the callback ended it")


@pytest.mark.parametrize("shape", [(300, 4), (20, 30)])
def test_the_validation_loss_is_recorded(shape):
    X, y = data(*shape)
    held, targets = data(50, shape[1], seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = fg.fit(X, y, X_val=held, y_val=targets)
    assert len(r.history["val_loss"]) == r.n_iter + 1
    assert r.history["val_loss"][0] == pytest.approx(np.mean(targets**2), rel=1e-12)
    kept = np.mean((r.predict(held) - targets) ** 2)
    assert kept == pytest.approx(r.history["val_loss"].min(), rel=1e-9)


# ---- memory ----------------------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
import numpy as np
import fastgd as fg

n, d, dtype = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
small, y = rng.standard_normal((5000, d)).astype(dtype), rng.standard_normal(n)
fg.fit(small, small[:, 0])                       # what is loaded once
X = np.empty((n, d), dtype)
for start in range(0, n, 5000):
    X[start : start + 5000] = small
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert fg.fit(X, y).converged
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / X.nbytes)
"""


@pytest.mark.parametrize(("n", "d", "dtype"), [(1_000_000, 20, "float64"), (100_000, 100, "float32")])
def test_the_peak_of_a_process_rises_by_two_percent_of_X_at_most(n, d, dtype, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(n), str(d), dtype],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 0.02


# ---- float32 columns far from zero -----------------------------------------------------------------------------------


def far_in_float32(n, d, mean, noise, seed):
    """Columns, targets, and the least loss, by LAPACK in double from the rounded data."""
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((n, d)) + mean * rng.uniform(0.5, 1, d)).astype(np.float32)
    y = ((X - mean) @ rng.standard_normal(d) + noise * rng.standard_normal(n)).astype(np.float32)
    A, b = (values.astype(float) - values.mean(axis=0, dtype=float) for values in (X, y))
    return X, y, float(np.mean((A @ np.linalg.lstsq(A, b, rcond=None)[0] - b) ** 2))


def loss_in_double(r, X, y):
    return float(np.mean((X.astype(float) @ r.coef.astype(float) + r.intercept - y) ** 2))


@pytest.mark.parametrize("noise", [0.1, 1.0])
@pytest.mark.parametrize("mean", [1e2, 1e3, 1e4])
@pytest.mark.parametrize(("n", "d"), [(300, 5), (200, 100), (3000, 20), (8000, 30)])
def test_float32_columns_far_from_zero_are_fitted_and_certified_in_double(n, d, mean, noise):
    """By moments in double and in float32: the loss is the least, and the one that is told is the true one."""
    for seed in range(3):
        X, y, least = far_in_float32(n, d, mean, noise, seed)
        r = fg.fit(X, y)
        assert r.converged
        assert loss_in_double(r, X, y) <= least * (1 + 1e-8)
        assert r.loss == pytest.approx(least, rel=1e-5)
        assert r.gap_bound >= 0.9 * (loss_in_double(r, X, y) - least) - 1e-12 * least


@pytest.mark.parametrize("solver", ["cg", "gd"])
@pytest.mark.parametrize("noise", [0.1, 1.0])
@pytest.mark.parametrize("mean", [1e2, 1e3, 1e4])
@pytest.mark.parametrize(("n", "d"), [(300, 5), (3000, 20)])
def test_what_float32_passes_cannot_know_is_no_convergence(n, d, mean, noise, solver):
    """Within 1e-5 of the least loss, or a warning with the optimality reached."""
    for seed in range(3):
        X, y, least = far_in_float32(n, d, mean, noise, seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            r = fg.fit(X, y, solver=solver)
        assert r.converged == (not caught)
        assert not caught or f"optimality {r.optimality:.3g}" in str(caught[0].message)
        assert not r.converged or loss_in_double(r, X, y) <= least * (1 + 1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("solver", ["auto", "cg", "gd"])
@pytest.mark.parametrize("shape", [(50, 3), (3, 9)])
def test_targets_whose_squares_overflow_are_refused_and_others_fitted(shape, solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape)
    y = X @ rng.standard_normal(shape[1]) + rng.standard_normal(shape[0])
    for factor in (1e160, 1e200, 1e300):
        with pytest.raises(OverflowError, match="scale the data down"):
            fg.fit(X, factor * y, solver=solver)
    r, large = fg.fit(X, y, solver=solver), fg.fit(X, 1e140 * y, solver=solver)
    assert large.converged
    np.testing.assert_allclose(large.coef, 1e140 * r.coef, rtol=1e-6)
