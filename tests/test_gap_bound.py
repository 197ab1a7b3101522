"""`gap_bound` of every solver: finite where F has a penalty, and never below F(w) - F*, wherever the fit has ended.

The gap is that of the parameters that are returned, in rational arithmetic, or, with l1, to 64 bits of mantissa against
the least F that is known.
"""

import warnings

import numpy as np
import pytest
import scipy.sparse
from test_fista import exact_loss as long_loss
from test_fit import data, exact_gap, exact_loss, weights

import fastgd as fg
from fastgd.solvers import gd

SOLVERS = {
    "moments": {"solver": "moments"},
    "cg": {"solver": "cg"},
    "fista": {"solver": "fista"},
    "gd": {"solver": "gd"},
    "gd, lr a number": {"solver": "gd", "lr": 1e-5},
    "gd, nesterov": {"solver": "gd", "nesterov": True},
    "gd, backtracking": {"solver": "gd", "lr": "backtracking"},
    "gd, bb": {"solver": "gd", "lr": "bb"},
    "sgd": {"solver": "sgd"},
    "sgd, lr a number": {"solver": "sgd", "lr": 1e-4, "batch_size": 5},
    "saga": {"solver": "saga"},
    "saga, lr a number": {"solver": "saga", "lr": 1e-4},
}


def stop_at(iteration):
    return lambda state: state.iteration == iteration


def endings(X, y):
    """How a fit may end: by its tolerance, max_iter, a callback, a validation set."""
    return {
        "tol": {},
        "max_iter": {"max_iter": 3},
        "at the start": {"callback": stop_at(0)},
        "callback": {"callback": stop_at(1)},
        "validation": {"X_val": X[::-1][:5] + 1, "y_val": y[:5], "patience": 2},
    }


def fit(X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.ConvergenceWarning)
        return fg.fit(X, y, **options)


def assert_bounds(r, gap, loss):
    """It bounds the gap, and is hardly more than F, which is no less than the gap."""
    assert 0 <= gap <= r.gap_bound <= 2.1 * loss


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SOLVERS)
def test_it_bounds_the_gap_of_a_ridge_fit(name, dtype):
    for seed, l2 in enumerate((1e-12, 1e-2, 1e-5, 1.0, 1e3)):
        n, d = (6, 8) if seed == 2 else (25, 3)
        X, y = data(n, d, seed, dtype, means=[0.0, 3.0, 50.0][seed % 3])
        given = {"l2": l2, "fit_intercept": seed % 4 != 1, "sample_weight": weights(n) if seed % 2 else None}
        exact = given["sample_weight"], l2
        for ending, options in endings(X, y).items():
            r = fit(X, y, **SOLVERS[name] | given | options)
            gap = exact_gap(X, y, r, *exact, given["fit_intercept"])
            assert_bounds(r, gap, exact_loss(X, y, r.coef, r.intercept, *exact))
            if ending == "tol" and l2 >= 1e-2 and "number" not in name and r.converged:
                assert r.gap_bound < 1e-4 * r.loss


@pytest.mark.parametrize("kind", ["sparse", "integers", "many blocks"])
@pytest.mark.parametrize("name", SOLVERS)
def test_it_does_whatever_the_columns_are(name, kind, monkeypatch):
    rng = np.random.default_rng(0)
    if kind == "many blocks":
        monkeypatch.setattr("fastgd._blocks.BLOCK_BYTES", 512, raising=True)
    X = np.where(rng.uniform(size=(60, 5)) < 0.4, rng.integers(-9, 10, (60, 5)), 0)
    y = X @ rng.standard_normal(5) + rng.standard_normal(60)
    given = {"sparse": scipy.sparse.csr_array(X.astype(float)), "integers": X, "many blocks": X.astype(float)}[kind]
    for l2 in (1e-3, 1.0):
        for options in ({}, {"max_iter": 1, "tol": 0}):
            r = fit(given, y, **SOLVERS[name] | {"l2": l2} | options)
            assert_bounds(r, exact_gap(X, y, r, l2=l2), exact_loss(X, y, r.coef, r.intercept, l2=l2))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("name", ["sgd", "sgd, lr a number", "saga", "saga, lr a number"])
def test_it_bounds_the_gap_of_a_stochastic_fit_with_l1(name, l2, dtype):
    for seed in range(4):
        X, y = data(40, 6, seed, dtype)
        given = {"l1": 10.0 ** (seed - 3), "l2": l2}
        best = fit(X.astype(float), y, solver="fista", tol=1e-14, **given)
        least = long_loss(X, y, np.append(best.coef, best.intercept), None, *given.values())
        for options in endings(X, y).values():
            r = fit(X, y, **SOLVERS[name] | given | options)
            loss = long_loss(X, y, np.append(r.coef.astype(float), r.intercept), None, *given.values())
            assert loss - least <= r.gap_bound <= 2.1 * loss


def test_nearly_collinear_columns_have_one_with_a_penalty():
    """Of which the second moments alone would not say."""
    X, y = data(50, 3)
    X = np.column_stack([X, X[:, 0] * (1 + 1e-9), X[:, 1]])
    for l2 in (1e-14, 1e-9):
        for solver in ("moments", "cg", "gd"):
            r = fit(X, y, solver=solver, l2=l2)
            assert_bounds(r, exact_gap(X, y, r, l2=l2), exact_loss(X, y, r.coef, r.intercept, l2=l2))


@pytest.mark.parametrize("name", ["gd", "sgd", "saga", "cg", "fista"])
def test_it_costs_no_pass_unless_float32_tells_little(name, monkeypatch):
    monkeypatch.setattr(gd, "cheapest_way", lambda *_: "passes")
    X, y = data(200, 4)
    options = SOLVERS[name] | {"max_iter": 3, "tol": 0, "fit_intercept": False}

    def passes(dtype, l2):
        return fit(X.astype(dtype), y, l2=l2, **options).n_passes

    assert passes(np.float64, 1e-9) == passes(np.float64, 0.0)
    assert passes(np.float32, 1e-9) == passes(np.float32, 0.0) + 1


@pytest.mark.parametrize("name", ["gd", "saga", "cg", "fista"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_float32_tells_enough_where_a_fit_has_converged(name, fit_intercept, monkeypatch):
    monkeypatch.setattr(gd, "cheapest_way", lambda *_: "passes")
    monkeypatch.setattr("fastgd.solvers._monitor.pass_in_double", None)     # not to be called
    X, y = data(200, 4, dtype=np.float32)
    r = fit(X, y, l2=1.0, fit_intercept=fit_intercept, **SOLVERS[name])
    assert 0 <= exact_gap(X, y, r, l2=1.0, fit_intercept=fit_intercept) <= r.gap_bound <= 1e-4 * r.loss


@pytest.mark.parametrize("name", ["gd", "sgd", "saga", "cg", "fista"])
def test_without_a_penalty_there_is_none(name, monkeypatch):
    monkeypatch.setattr(gd, "cheapest_way", lambda *_: "passes")
    X, y = data(30, 4)
    for options in endings(X, y).values():
        assert np.isnan(fit(X, y, **SOLVERS[name] | options).gap_bound)
