"""The exact solution, with nothing to tune: as good as an orthogonal factorisation's on whatever columns come.

Every problem is held against `numpy.linalg.lstsq` on centred columns, weighted by sqrt(s), once in their own units and
once at unit length, of which the better counts: lstsq cuts what is small beside the largest singular value.
"""

import warnings

import numpy as np
import pytest
from test_fit import assert_fits, data, least_squares, weights

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


def lines(rng, n, d):
    """Powers of one variable."""
    return np.linspace(1, 2, n)[:, None] ** np.arange(1, d + 1)


MAKE = {
    "tall": tall,
    "constant columns": with_constants,
    "units of 1e-6 to 1e6": in_units,
    "means of 1e4": far_from_zero,
    "a sum of others": a_sum,
    "categories": categories,
    "powers": lines,
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
    ("tall", 3_000, 600, F64, False),
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
    """Loss as told and as it is, computed from what was returned in extended precision, is the least one, or zero as far as rounding tells.

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
