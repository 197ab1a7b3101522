"""The estimators: scikit-learn's own checks, its numbers, and what they promise beyond them."""

from __future__ import annotations

import copy
import itertools
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from scipy.sparse import coo_array, csc_matrix, csr_array, csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import ElasticNet, LinearRegression, Ridge
from sklearn.linear_model import SGDRegressor as Peer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

import fastgd as fg
from fastgd._plain_fit import ascending, expands
from fastgd.estimators import textbook

LOSSES = ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
PENALTIES = [None, "l2", "l1", "elasticnet"]
SCHEDULES = ["constant", "optimal", "invscaling", "adaptive", "pa1", "pa2"]
#: Whether scikit-learn has other rules for when a fit ends and for "pa1" and "pa2" than since 1.8.
OLD = tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8)


def data(n: int = 80, d: int = 5, seed: int = 0, density: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X, y and weights."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * (rng.random((n, d)) < density)
    y = X @ (rng.standard_normal(d) * (rng.random(d) < 0.7)) + 0.7 + 0.3 * rng.standard_normal(n)
    return X, y, rng.uniform(0, 2, n)


def quietly(model: Any, *args: Any, **kwargs: Any) -> Any:
    """The model fitted, without its warnings of convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*args, **kwargs)


# ---- scikit-learn's checks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        fg.GDRegressor(),
        fg.GDRegressor(0.01),
        fg.GDRegressor(0.01, l1_ratio=0.5),
        fg.GDRegressor(solver="cg", fit_intercept=False),
        fg.GDRegressor(solver="gd", max_iter=20000, warm_start=True),
        fg.GDRegressor(n_threads=2, tol=1e-6),
        fg.SGDRegressor(),
        fg.SGDRegressor(penalty="elasticnet", learning_rate="adaptive", fit_intercept=False),
        fg.SGDRegressor("huber", learning_rate="constant", average=True, penalty=None),
        fg.SGDRegressor("epsilon_insensitive", learning_rate="pa1", max_iter=5),
        fg.SGDRegressor("squared_epsilon_insensitive", learning_rate="constant", penalty="l1", average=10),
        fg.SGDRegressor(early_stopping=True),
        fg.SGDRegressor(learning_rate="optimal", average=True, max_iter=50),
        fg.SGDRegressor("huber", average=10, tol=None, max_iter=20),
        fg.GDRegressor(solver="moments", tol=0),
        fg.GDRegressor(0.01, l1_ratio=1.0, solver="fista", warm_start=True),
    ],
    ids=repr,
)
def test_scikit_learns_checks(estimator: Any) -> None:
    """All of them pass; none is expected to fail. One needs an environment variable that SciPy reads at its import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    status = Counter(result["status"] for result in results)
    assert status["passed"] > 50
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] not in ("passed", "skipped")] == []
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}


# ---- scikit-learn's numbers ------------------------------------------------------------------------------------------


def settings(**values: Any) -> Iterator[dict[str, Any]]:
    """All combinations of these values of parameters that scikit-learn has, and had always."""
    for combination in itertools.product(*values.values()):
        options = dict(zip(values, combination, strict=True)) | {"shuffle": False}
        passive = options["learning_rate"].startswith("pa")
        if passive and options["loss"] != "epsilon_insensitive":
            continue
        if OLD and (passive or options.get("tol") is not None):
            continue
        yield options


def assert_same(model: Any, peer: Any) -> None:
    scale = max(1.0, float(np.abs(peer.coef_).max()))
    assert model.coef_ == pytest.approx(peer.coef_, rel=1e-9, abs=1e-9 * scale)
    assert model.intercept_ == pytest.approx(peer.intercept_, rel=1e-9, abs=1e-9 * scale)
    assert (model.n_iter_, model.t_) == (peer.n_iter_, peer.t_)
    assert (model.coef_.shape, model.intercept_.shape) == (peer.coef_.shape, peer.intercept_.shape)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("average", [False, True, 1, 57, 100000])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_coefficients_are_scikit_learns(loss: str, penalty: str | None, average: Any, kind: str) -> None:
    """In every combination, with weights and without, and after as many epochs, by its rule for when to stop."""
    X, y, s = data(density=0.4 if kind == "sparse" else 1.0)
    X = csr_matrix(X) if kind == "sparse" else X
    for options in settings(
        loss=[loss], penalty=[penalty], average=[average], learning_rate=SCHEDULES, alpha=[1e-4, 0.1],
        tol=[1e-3, None], max_iter=[12], n_iter_no_change=[2], l1_ratio=[0.3],
    ):  # fmt: skip
        for weights in (None, s):
            assert_same(
                quietly(fg.SGDRegressor(**options), X, y, sample_weight=weights),
                quietly(Peer(**options), X, y, sample_weight=weights),
            )


@pytest.mark.parametrize("eta0", [0.3, 1.0, 10.0, 1e6])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_steps_that_are_too_long_lead_where_scikit_learns_do(loss: str, penalty: str | None, eta0: float) -> None:
    """Rounding grows with them, so that the order of every sum counts; a descent that diverges does so as there."""
    X, y, s = data()
    for options in settings(
        loss=[loss], penalty=[penalty], average=[False, True], eta0=[eta0], power_t=[0.25, 0.5],
        learning_rate=["constant", "adaptive", "invscaling"], tol=[None], max_iter=[15],
    ):  # fmt: skip
        for weights in (None, s, s - 0.1):
            model = quietly(fg.SGDRegressor(**options), X, y, sample_weight=weights)
            assert_same(model, quietly(Peer(**options), X, y, sample_weight=weights))


def test_sums_are_made_in_scikit_learns_order_where_rounding_grows() -> None:
    """Else they are made faster: a few long steps, of a schedule that falls, make nothing of it."""
    X, y, s = data(400, 150)
    reach = 0.01 * ((X**2).sum(axis=1).max() + 1)       # of eta0 = 0.01
    assert 1 < reach < 4
    for eta, power_t, loss, weights, expected in (
        (0.019 / reach, 0.0, "squared_error", None, False),
        (0.021 / reach, 0.0, "squared_error", None, True),
        (0.021 / reach, 0.0, "epsilon_insensitive", None, False),
        (0.011 / reach, 0.0, "squared_epsilon_insensitive", None, True),
        (0.021 / reach, 0.25, "squared_error", None, False),        # two or three steps
        (0.08 / reach, 0.25, "squared_error", None, True),          # hundreds of them
        (0.2 / reach, 0.25, "squared_error", None, True),
        (1e-9, 0.0, "huber", s - 0.1, True),
        (1e-9, 0.0, "huber", s, False),
    ):
        assert expands(X, weights, loss, ("invscaling", eta, power_t), 1.0) == expected, (eta, power_t, loss)
    model = quietly(fg.SGDRegressor(shuffle=False, tol=None, max_iter=5), X, y)
    assert_same(model, quietly(Peer(shuffle=False, tol=None, max_iter=5), X, y))


@pytest.mark.parametrize("size", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_passive_steps_beyond_the_target_are_scikit_learns(penalty: str | None, size: float) -> None:
    """As those of short rows are, of heavy ones, and of eta0 that bounds nothing."""
    X, y, s = data(200)
    for options in settings(
        loss=["epsilon_insensitive"], penalty=[penalty], learning_rate=["pa1", "pa2"], eta0=[0.01, 1.0],
        epsilon=[0.0, 0.1], average=[False, True], tol=[None], max_iter=[10],
    ):  # fmt: skip
        for weights in (None, s, 1.5 * s):
            model = quietly(fg.SGDRegressor(**options), size * X, y, sample_weight=weights)
            assert_same(model, quietly(Peer(**options), size * X, y, sample_weight=weights))


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("loss", LOSSES)
def test_steps_and_losses_of_other_sizes_are_scikit_learns(loss: str, kind: str) -> None:
    X, y, s = data(120, 7, density=0.4 if kind == "sparse" else 1.0)
    X = csr_matrix(X) if kind == "sparse" else X
    for options in settings(
        loss=[loss], learning_rate=SCHEDULES, eta0=[0.002, 0.05], power_t=[0.0, 0.6], epsilon=[0.0, 0.7],
        fit_intercept=[True, False], penalty=["l2", "l1"], tol=[None, 0.01], max_iter=[6],
    ):  # fmt: skip
        model = quietly(fg.SGDRegressor(**options), X, y, sample_weight=s)
        assert_same(model, quietly(Peer(**options), X, y, sample_weight=s))


def test_the_defaults_are_scikit_learns() -> None:
    assert fg.SGDRegressor().get_params() == Peer().get_params()


def test_other_parameters_mean_the_same() -> None:
    X, y, s = data(200, 9)
    for options in (
        {"eta0": 0.05, "power_t": 0.6, "epsilon": 0.7, "loss": "huber"},
        {"fit_intercept": False},
        {"power_t": 0.0, "n_iter_no_change": 1},
        {"tol": 0.0, "max_iter": 3},
        {"learning_rate": "adaptive", "eta0": 0.02, "max_iter": 200},
        {"loss": "epsilon_insensitive", "epsilon": 0.0},
    ):
        model = quietly(fg.SGDRegressor(shuffle=False, **options), X, y, sample_weight=s)
        assert_same(model, quietly(Peer(shuffle=False, **options), X, y, sample_weight=s))


def test_where_a_fit_starts_is_scikit_learns() -> None:
    X, y, _ = data()
    options = {"shuffle": False, "max_iter": 4, "tol": None, "warm_start": True}
    model, peer = fg.SGDRegressor(**options), Peer(**options)
    assert_same(model.fit(X, y, [1, 2, 3, 4, 5], [6]), peer.fit(X, y, [1, 2, 3, 4, 5], [6]))
    assert_same(model.fit(X, y), peer.fit(X, y))
    assert_same(model.partial_fit(X[:9], y[:9]), peer.partial_fit(X[:9], y[:9]))
    assert_same(model.set_params(warm_start=False).fit(X, y), peer.set_params(warm_start=False).fit(X, y))
    with pytest.raises(ValueError, match="Provided coef_init does not match dataset"):
        model.fit(X, y, coef_init=[1.0])
    with pytest.raises(ValueError, match="Provided intercept_init does not match dataset"):
        model.fit(X, y, intercept_init=[1.0, 2.0])


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("average", [False, True, 30])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_partial_fits_are_scikit_learns(loss: str, penalty: str | None, average: Any, kind: str) -> None:
    """Batch after batch, single rows too, and after a fit; averages and schedules go on."""
    X, y, s = data(60, density=0.5 if kind == "sparse" else 1.0)
    X = csr_matrix(X) if kind == "sparse" else X
    for options in settings(
        loss=[loss], penalty=[penalty], average=[average], learning_rate=SCHEDULES, alpha=[0.01], max_iter=[3],
        tol=[None],
    ):  # fmt: skip
        model, peer = fg.SGDRegressor(**options), Peer(**options)
        for part in (slice(0, 20), slice(20, 21), slice(21, 60), slice(0, 60)):
            assert_same(
                model.partial_fit(X[part], y[part], sample_weight=s[part]),
                peer.partial_fit(X[part], y[part], sample_weight=s[part]),
            )
        assert len(model.loss_curve_) == model.n_iter_ == 1
        assert np.isnan(model.optimality_)
        quietly(model, X, y), quietly(peer, X, y)
        assert_same(model.partial_fit(X[:9], y[:9]), peer.partial_fit(X[:9], y[:9]))


@pytest.mark.parametrize("loss", LOSSES)
def test_warm_starts_are_scikit_learns(loss: str) -> None:
    """Without an average, which scikit-learn adds to the sum of the next."""
    X, y, s = data()
    for options in settings(
        loss=[loss], penalty=PENALTIES, learning_rate=SCHEDULES, warm_start=[True], max_iter=[3], tol=[None],
        alpha=[0.01],
    ):  # fmt: skip
        model, peer = fg.SGDRegressor(**options), Peer(**options)
        for weights in (None, s, None):
            assert_same(quietly(model, X, y, sample_weight=weights), quietly(peer, X, y, sample_weight=weights))


def test_single_rows_are_looked_at_too() -> None:
    """Although scikit-learn's validation is gone round where they need none."""
    X, y, _ = data()
    model, other = fg.SGDRegressor(random_state=0), fg.SGDRegressor(random_state=0)
    for i in range(80):
        model.partial_fit(X[i : i + 1], y[i : i + 1])
        other.partial_fit(X[i : i + 1].tolist(), y[i : i + 1].tolist())
    assert model.coef_.tolist() == other.coef_.tolist()
    assert model.t_ == other.t_ == 81
    for bad, target, message in (
        (np.full((1, 5), np.nan), y[:1], "Input X contains NaN"),
        (X[:1], np.array([np.inf]), "Input y contains infinity"),
        (X[:1, :4], y[:1], "X has 4 features"),
        (X[:2], y[:1], "inconsistent numbers of samples"),
        (X[0], y[:1], "Expected 2D array"),
        (X[:0], y[:0], "Found array with 0 sample"),
    ):
        with pytest.raises(ValueError, match=message):
            model.partial_fit(bad, target)
    named = fg.SGDRegressor().fit(pd.DataFrame(X, columns=list("abcde")), y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        named.partial_fit(X[:1], y[:1])


@pytest.mark.parametrize("average", [False, True, 40])
@pytest.mark.parametrize("penalty", [None, "l1"])
@pytest.mark.parametrize("loss", LOSSES)
def test_early_stopping_is_scikit_learns(loss: str, penalty: str | None, average: Any) -> None:
    """Where no scale is left out of its scores; also where rows weigh nothing, or less than that."""
    X, y, s = data(150, 6)
    s[::3] = 0
    for learning_rate, fraction, (state, weights) in itertools.product(
        ["constant", "invscaling", "adaptive"], [0.1, 0.3], enumerate((None, s, s - 0.01))
    ):
        options = {
            "loss": loss, "penalty": penalty, "average": average, "learning_rate": learning_rate, "random_state": state,
            "validation_fraction": fraction, "early_stopping": True, "tol": 1e-4, "n_iter_no_change": 3,
            "max_iter": 30, "shuffle": False,
        }  # fmt: skip
        model = quietly(fg.SGDRegressor(**options), X, y, sample_weight=weights)
        assert_same(model, quietly(Peer(**options), X, y, sample_weight=weights))
        assert len(model.validation_scores_) == model.n_iter_


def test_early_stopping_scores_the_parameters() -> None:
    """Which a strong l2 penalty has shrunk by a factor that scikit-learn leaves out."""
    X, y, _ = data(300, 4)
    model = fg.SGDRegressor(
        alpha=0.5, early_stopping=True, shuffle=False, random_state=1, max_iter=3, tol=None, eta0=0.05
    ).fit(X, y)
    rows = np.zeros(300, bool)
    split = sklearn.model_selection.ShuffleSplit(test_size=0.1, random_state=1)
    rows[next(split.split(X))[1]] = True
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[rows], y[rows]), rel=1e-12)
    assert "max_iter=3" in model.stop_reason_


def test_float32_data_is_nearly_the_same() -> None:
    """scikit-learn computes with float32 then."""
    X, y, _ = data(500, 6)
    X, y = X.astype(np.float32), y.astype(np.float32)
    options = {"shuffle": False, "max_iter": 5, "tol": None}
    model, peer = fg.SGDRegressor(**options).fit(X, y), Peer(**options).fit(X, y)
    assert model.coef_.dtype == model.intercept_.dtype == model.predict(X).dtype == np.float32
    assert model.coef_ == pytest.approx(peer.coef_, abs=1e-4)


# ---- with the rows in random order -----------------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_shuffled_fit_does_not_depend_on_how_the_rows_come(early_stopping: bool) -> None:
    X, y, _ = data(120)
    s = np.random.default_rng(1).integers(0, 4, 120)
    other = np.random.default_rng(2).permutation(120)
    model = fg.SGDRegressor(random_state=3, max_iter=6, tol=None, early_stopping=early_stopping)
    first = clone(model).fit(X, y, sample_weight=s)
    repeated = clone(model).fit(X.repeat(s, axis=0), y.repeat(s))
    moved = clone(model).fit(X[other], y[other], sample_weight=s[other])
    assert first.coef_.tolist() == repeated.coef_.tolist() == moved.coef_.tolist()
    assert first.n_iter_ == 6
    model.set_params(fit_intercept=False)       # of which the steps are others for sparse rows
    sparse, dense = (clone(model).fit(Z, y, sample_weight=s) for Z in (csr_array(X), X))
    assert sparse.coef_ == pytest.approx(dense.coef_, rel=1e-9)
    model.set_params(fit_intercept=True)
    assert clone(model).set_params(random_state=4).fit(X, y, sample_weight=s).coef_.tolist() != first.coef_.tolist()


def test_keys_are_sorted_whole() -> None:
    """Also where only those bits differ in which places are kept while sorting, and where keys repeat."""
    rng = np.random.default_rng(0)
    for keys in (
        rng.integers(0, 2**64, 1000, dtype=np.uint64),
        np.uint64(2**63) + rng.integers(0, 600, 1000, dtype=np.uint64),
        np.array([5], np.uint64),
    ):
        assert (keys[ascending(keys)] == np.sort(keys)).all()
        assert sorted(ascending(keys).tolist()) == list(range(len(keys)))


def test_large_weights_multiply_the_steps() -> None:
    """Instead of making an epoch longer and longer: a thousand times the weight is not a thousand visits."""
    X, y, _ = data(50)
    model = fg.SGDRegressor(random_state=0, max_iter=1, tol=None, alpha=0.1, eta0=1e-6, learning_rate="constant")
    heavy = clone(model).fit(X, y, sample_weight=np.full(50, 1000.0))
    light = clone(model).set_params(eta0=1e-3).fit(X, y)
    assert heavy.coef_ == pytest.approx(light.coef_, rel=1e-12)


def test_weights_are_relative() -> None:
    """With the rows in random order, whatever part of one they are: the objective is that of GDRegressor."""
    X, y, s = data(2000, 4)
    best = fg.GDRegressor(0.5).fit(X, y, sample_weight=s)
    for factor in (0.3, 1.0, 1.9, 100.0):
        model = fg.SGDRegressor(
            alpha=0.5, random_state=0, average=2000, eta0=0.02 / max(factor, 1), max_iter=60, tol=None
        )
        model.fit(X, y, sample_weight=factor * s)
        assert model.coef_ == pytest.approx(best.coef_, abs=0.01), factor
        assert model.optimality_ < 0.01


def test_a_shuffled_fit_comes_as_near_as_scikit_learns() -> None:
    X, y, _ = data(2000, 8)
    model = fg.SGDRegressor(random_state=0).fit(X, y)
    best = fg.GDRegressor(alpha=1e-4).fit(X, y)
    assert model.coef_ == pytest.approx(best.coef_, abs=0.02)
    assert model.optimality_ < 0.02
    assert np.diff(model.loss_curve_[:3]).max() < 0
    assert "has not fallen by tol=0.001 for 5 epochs" in model.stop_reason_


def test_seeds() -> None:
    X, y, _ = data()
    whole = [fg.SGDRegressor(random_state=seed).fit(X, y).coef_.tolist() for seed in (0, np.int64(0), 1, 2**32 - 1)]
    assert whole[0] == whole[1]
    assert len(set(map(tuple, whole))) == 3
    fits = [fg.SGDRegressor(random_state=np.random.RandomState(7)).fit(X, y).coef_.tolist() for _ in range(2)]
    state = np.random.RandomState(7)
    going_on = [fg.SGDRegressor(random_state=state).fit(X, y).coef_.tolist() for _ in range(2)]
    assert fits[0] == fits[1] == going_on[0] != going_on[1]


# ---- never wrong in silence ------------------------------------------------------------------------------------------


def test_a_descent_that_goes_uphill_warns() -> None:
    """One of five columns thirty times as long as the others: scikit-learn's fit is worse than the mean, and silent."""
    X, y, _ = data(300)
    X[:, 2] *= 30
    with pytest.warns(ConvergenceWarning, match=r"uphill, from an objective of .* scale the columns") as seen:
        model = fg.SGDRegressor(random_state=0).fit(X, y)
    assert model.score(X, y) < 0
    assert seen[0].filename == __file__


def test_overflow_is_an_error() -> None:
    X, y, _ = data()
    model = fg.SGDRegressor(eta0=1e80, learning_rate="constant")
    with pytest.raises(ValueError, match=r"Floating-point under-/overflow occurred at epoch #\d+"):
        model.fit(X * 1e150, y)
    for method in (lambda: model.predict(X), model.sparsify, model.densify):
        with pytest.raises(NotFittedError):     # although n_features_in_ is there
            method()


def test_too_few_epochs_warn() -> None:
    X, y, _ = data()
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration reached") as seen:
        fg.SGDRegressor(max_iter=2).fit(X, y)
    assert issubclass(seen[0].category, fg.ConvergenceWarning)
    assert seen[0].filename == __file__
    with pytest.warns(ConvergenceWarning, match=r"ended with optimality .* \(gd: max_iter=3 reached\)") as seen:
        fg.GDRegressor(solver="gd", max_iter=3).fit(X, y)
    assert issubclass(seen[0].category, fg.ConvergenceWarning)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fg.SGDRegressor(max_iter=2, tol=None).fit(X, y)
        fg.GDRegressor(solver="gd", max_iter=3, tol=0).fit(X, y)


@pytest.mark.parametrize("loss", LOSSES)
def test_optimality_measures_the_gradient_of_every_loss(loss: str) -> None:
    """Small where scikit-learn's objective is least, as a slow descent with an average finds it, and not elsewhere."""
    X, y, s = data(1500, 4)
    model = fg.SGDRegressor(
        loss, alpha=0.05, average=3000, power_t=0.5, eta0=1.0 if loss == "huber" else 0.05, max_iter=400, tol=None,
        random_state=0,
    )  # fmt: skip
    model.fit(X, y, sample_weight=s)
    assert model.optimality_ < 0.005
    off = model.set_params(max_iter=1, eta0=1e-12, average=False, warm_start=True)
    off.fit(X, y, coef_init=model.coef_ + 0.3, sample_weight=s)
    assert off.optimality_ > 0.05


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (fg.SGDRegressor(alpha=-1), "'alpha' parameter of SGDRegressor must be a float in the range"),
        (fg.SGDRegressor("hinge"), "'loss' parameter of SGDRegressor must be a str among"),
        (fg.SGDRegressor(average=-1), "'average' parameter of SGDRegressor"),
        (fg.SGDRegressor(max_iter=0), "'max_iter' parameter of SGDRegressor"),
        (fg.SGDRegressor(learning_rate="optimal", alpha=0), "alpha must be > 0 since learning_rate is 'optimal'"),
        (fg.SGDRegressor(learning_rate="pa1"), "Learning rate 'pa1' only works with loss 'epsilon_insensitive'"),
        (fg.SGDRegressor(penalty="elasticnet", l1_ratio=None), "l1_ratio must be set when penalty is 'elasticnet'"),
        (fg.GDRegressor(alpha=-1), "'alpha' parameter of GDRegressor must be a float in the range"),
        (fg.GDRegressor(l1_ratio=1.5), "'l1_ratio' parameter of GDRegressor"),
        (fg.GDRegressor(solver="magic"), "'solver' parameter of GDRegressor must be a str among"),
        (fg.GDRegressor(lr=0.0), "'lr' parameter of GDRegressor"),
        (fg.GDRegressor(lr=0.1), "solver='auto' has no use for lr"),
        (fg.GDRegressor(tol=-1), "'tol' parameter of GDRegressor"),
        (fg.GDRegressor(n_threads=0), "'n_threads' parameter of GDRegressor"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
def test_bad_parameters(estimator: Any, message: str) -> None:
    X, y, _ = data()
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)


@pytest.mark.parametrize("Estimator", [fg.GDRegressor, fg.SGDRegressor])
def test_bad_data(Estimator: Any) -> None:
    X, y, s = data()
    model = Estimator()
    with pytest.raises(NotFittedError):
        model.predict(X)
    model.fit(X, y)
    with pytest.raises(ValueError, match="X has 3 features, but"):
        model.predict(X[:, :3])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.fit(np.where(X > 2, np.nan, X), y)
    with pytest.raises(ValueError, match="Input y contains"):
        model.fit(X, np.where(y > 2, np.inf, y))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(X, y[:-1])
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(79,\)"):
        model.fit(X, y, sample_weight=s[:-1])
    with pytest.raises(ValueError, match="weight"):
        model.fit(X, y, sample_weight=0 * s)


@pytest.mark.parametrize("Estimator", [fg.GDRegressor, fg.SGDRegressor])
def test_masked_arrays_are_refused(Estimator: Any) -> None:
    """scikit-learn takes what is under the mask."""
    X, y, s = data()
    masked = [np.ma.masked_array(array, mask=array > 1) for array in (X, y, s)]
    model = Estimator().fit(X, y)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(TypeError, match="X is a masked array"):
            method(masked[0], y)
        with pytest.raises(TypeError, match="y is a masked array"):
            method(X, masked[1])
        with pytest.raises(TypeError, match="sample_weight is a masked array"):
            method(X, y, sample_weight=masked[2])
    with pytest.raises(TypeError, match="X is a masked array"):
        model.predict(masked[0])


def test_negative_weights() -> None:
    X, y, s = data()
    with pytest.raises(ValueError, match="sample_weight must not be negative, got -1 at index 3"):
        fg.GDRegressor().fit(X, y, sample_weight=np.where(np.arange(80) == 3, -1, s))
    options = {"shuffle": False, "max_iter": 2, "tol": None}
    s[3] = -0.5     # which scikit-learn's descent does not mind
    model = quietly(fg.SGDRegressor(**options), X, y, sample_weight=s)
    assert_same(model, quietly(Peer(**options), X, y, sample_weight=s))
    assert np.isnan(model.optimality_)


# ---- the optimum -----------------------------------------------------------------------------------------------------


def test_the_optimum_is_the_peers() -> None:
    X, y, s = data(300, 7)
    for model, peer in (
        (fg.GDRegressor(), LinearRegression()),
        (fg.GDRegressor(fit_intercept=False), LinearRegression(fit_intercept=False)),
        (fg.GDRegressor(0.1), Ridge(0.1 * s.sum())),
        (fg.GDRegressor(0.1, l1_ratio=1.0), ElasticNet(0.1, l1_ratio=1.0, tol=1e-12)),
        (fg.GDRegressor(0.1, l1_ratio=0.4), ElasticNet(0.1, l1_ratio=0.4, tol=1e-12)),
    ):
        model.fit(X, y, sample_weight=s)
        peer.fit(X, y, sample_weight=s)
        assert model.coef_ == pytest.approx(peer.coef_, rel=1e-6, abs=1e-8)
        assert model.intercept_ == pytest.approx(peer.intercept_, rel=1e-6)
        assert model.predict(X) == pytest.approx(peer.predict(X), rel=1e-6)
        assert model.optimality_ < 1e-8
        assert model.score(X, y, s) == pytest.approx(peer.score(X, y, s), rel=1e-9)


def test_the_translation_of_the_objective() -> None:
    """The loss curve ends at scikit-learn's objective, which is half of fastgd's."""
    X, y, s = data(100)
    alpha, l1_ratio = 0.2, 0.3
    assert textbook(alpha, l1_ratio) == pytest.approx((0.12, 0.14))
    model = fg.GDRegressor(alpha, l1_ratio=l1_ratio).fit(X, y, sample_weight=s)
    w, r = model.coef_, X @ model.coef_ + model.intercept_ - y
    objective = s @ r**2 / (2 * s.sum()) + alpha * (l1_ratio * np.abs(w).sum() + (1 - l1_ratio) / 2 * w @ w)
    assert model.loss_curve_[-1] == pytest.approx(objective, rel=1e-12)
    assert model.loss_curve_[0] == pytest.approx(s @ y**2 / (2 * s.sum()), rel=1e-12)
    assert len(model.loss_curve_) == model.n_iter_ + 1
    assert model.gap_bound_ < 1e-9 * objective
    assert (model.solver_, type(model.stop_reason_)) == ("fista", str)


@pytest.mark.parametrize("solver", ["auto", "moments", "cg", "gd", "sgd", "saga"])
def test_every_solver(solver: str) -> None:
    X, y, _ = data(300, 4)
    model = quietly(fg.GDRegressor(0.01, solver=solver, max_iter=300, random_state=1), X, y)
    assert model.coef_ == pytest.approx(Ridge(3.0).fit(X, y).coef_, abs=1e-2 if solver == "sgd" else 1e-6)
    assert model.solver_ == ("moments" if solver == "auto" else solver)
    again = quietly(fg.GDRegressor(0.01, solver=solver, max_iter=300, random_state=1), X, y)
    other = quietly(fg.GDRegressor(0.01, solver=solver, max_iter=300, random_state=np.random.RandomState(2)), X, y)
    assert again.coef_.tolist() == model.coef_.tolist()
    assert (other.coef_.tolist() == model.coef_.tolist()) == (solver not in ("sgd", "saga"))


def test_several_targets() -> None:
    X, y, s = data(100)
    Y = np.column_stack([y, X[:, 0] - y, np.ones(100)])
    model, peer = fg.GDRegressor(0.1).fit(X, Y, sample_weight=s), Ridge(0.1 * s.sum()).fit(X, Y, sample_weight=s)
    assert (model.coef_.shape, model.intercept_.shape) == ((3, 5), (3,))
    assert model.coef_ == pytest.approx(peer.coef_, abs=1e-9)
    assert model.predict(X) == pytest.approx(peer.predict(X), abs=1e-9)
    single = fg.GDRegressor().fit(X, y[:, None])
    assert (single.coef_.shape, single.intercept_.shape, single.predict(X).shape) == ((1, 5), (1,), (100, 1))
    assert get_tags(model).target_tags.multi_output
    assert not get_tags(fg.SGDRegressor()).target_tags.multi_output


def test_warm_starts_of_the_optimum() -> None:
    X, y, _ = data(200)
    for target, fit_intercept in itertools.product((y, y[:, None], np.column_stack([y, -y])), (True, False)):
        model = fg.GDRegressor(solver="cg", warm_start=True, fit_intercept=fit_intercept).fit(X, target)
        first = model.n_iter_
        assert model.fit(X, target).n_iter_ < first
        assert clone(model).fit(X, target).coef_ == pytest.approx(model.coef_, abs=1e-9)
    two = np.column_stack([y, -y])
    with pytest.raises(ValueError, match="X has 4 features, but GDRegressor is expecting 5 features"):
        model.fit(X[:, :4], two)
    for target, count in ((y, 1), (np.column_stack([two, y]), 3)):
        with pytest.raises(ValueError, match=f"warm_start needs as many targets as before, 2, got {count}"):
            model.fit(X, target)
    assert model.predict(X) == pytest.approx(two, abs=2)        # the model is what it was before


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_partial_fits_of_the_optimum_are_exact(l1_ratio: float) -> None:
    X, y, s = data(200)
    for target in (y, np.column_stack([y, -2 * y])):
        model = fg.GDRegressor(0.3, l1_ratio=l1_ratio)
        for part in (slice(0, 7), slice(7, 8), slice(8, 200)):
            model.partial_fit(X[part], target[part], sample_weight=s[part])
        whole = fg.GDRegressor(0.3, l1_ratio=l1_ratio).fit(X, target, sample_weight=s)
        assert model.coef_ == pytest.approx(whole.coef_, rel=1e-9)
        assert model.loss_curve_[-1] == pytest.approx(whole.loss_curve_[-1], rel=1e-12)
        assert model.intercept_ == pytest.approx(whole.intercept_, rel=1e-9)
        again = pickle.loads(pickle.dumps(model)).partial_fit(X, target)
        assert again.coef_ == pytest.approx(model.partial_fit(csr_matrix(X), target).coef_, rel=1e-9)
    with pytest.raises(ValueError, match="y has 1 targets, but before it had 2"):
        model.partial_fit(X, y)
    with pytest.warns(UserWarning, match="partial_fit begins anew") as seen:
        model.fit(X[:50], y[:50]).partial_fit(X, y)
    assert seen[0].filename == __file__
    assert model.coef_ == pytest.approx(fg.GDRegressor(0.3, l1_ratio=l1_ratio).fit(X, y).coef_)


def test_a_partial_fit_that_moments_do_not_tell_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, _ = data(200)
    real = fg.Moments.fit
    monkeypatch.setattr(fg.Moments, "fit", lambda *given, **options: replace(real(*given, **options), converged=False))
    with pytest.warns(ConvergenceWarning, match="the fit ended with optimality") as seen:
        fg.GDRegressor().partial_fit(X, y)
    assert seen[0].filename == __file__


def test_dtypes_of_the_optimum() -> None:
    X, y, _ = data(200)
    model = fg.GDRegressor().fit(X.astype(np.float32), y)
    assert (model.coef_.dtype, model.predict(X.astype(np.float32)).dtype, model.predict(X).dtype) == (
        np.float32, np.float32, np.float64,
    )  # fmt: skip
    many = fg.GDRegressor().fit(X.astype(np.float32), np.column_stack([y, y]))
    assert many.predict(X.astype(np.float32)).dtype == np.float32


def test_data_is_read_where_it_is() -> None:
    """Any order and stride, without a copy; also sparse matrices of other formats, and integers."""
    X, y, _ = data(200)
    expected = fg.GDRegressor().fit(X, y).coef_
    stride = np.zeros((400, 10))
    stride[::2, ::2] = X
    for same in (np.asfortranarray(X), stride[::2, ::2], csc_matrix(X), coo_array(X), X.tolist(), X.astype(">f8")):
        assert fg.GDRegressor().fit(same, y).coef_ == pytest.approx(expected, rel=1e-9)
        fits = [fg.SGDRegressor(shuffle=False, tol=None, max_iter=3).fit(Z, y) for Z in (same, X)]
        if not hasattr(same, "tocsr"):
            assert fits[0].coef_ == pytest.approx(fits[1].coef_, rel=1e-12)
    integers = np.arange(40).reshape(20, 2) % 7
    assert fg.GDRegressor().fit(integers, integers[:, 0]).coef_ == pytest.approx([1, 0], abs=1e-9)


# ---- the company they keep -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("Estimator", [fg.GDRegressor, fg.SGDRegressor])
@pytest.mark.parametrize("Frame", [pd.DataFrame, pl.DataFrame])
def test_frames(Frame: Any, Estimator: Any) -> None:
    X, y, s = data()
    names = [f"column {k}" for k in range(5)]
    frame = Frame(dict(zip(names, X.T, strict=True)))
    model = Estimator(**({"random_state": 0} if Estimator is fg.SGDRegressor else {}))
    model.fit(frame, type(frame[names[0]])(y), sample_weight=type(frame[names[0]])(s))
    assert model.n_features_in_ == 5
    plain = clone(model).fit(X, y, sample_weight=s).predict(X)
    assert model.predict(frame) == pytest.approx(plain, rel=1e-9, abs=1e-9)
    if not hasattr(LinearRegression().fit(frame, y), "feature_names_in_"):
        assert (Frame, OLD or sklearn.__version__ < "1.9") == (pl.DataFrame, True)   # does not know polars 2
        return
    assert model.feature_names_in_.tolist() == names
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[names[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)


@pytest.mark.parametrize("Estimator", [fg.GDRegressor, fg.SGDRegressor])
def test_pipelines_searches_and_copies(Estimator: Any) -> None:
    X, y = load_diabetes(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), Estimator())
    search = GridSearchCV(pipe, {f"{Estimator.__name__.lower()}__alpha": [1e-4, 1]})
    search.fit(X, y)
    assert search.best_score_ > 0.4
    found = cross_validate(search.best_estimator_, X, y, n_jobs=2, return_estimator=True)    # from other processes
    assert min(found["test_score"]) > 0.3
    assert min(fitted.score(X, y) for fitted in found["estimator"]) > 0.4
    model = search.best_estimator_[-1]
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert other.predict(X).tolist() == model.predict(X).tolist()
        assert other.get_params() == model.get_params()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            other.partial_fit(X, y)
    assert not hasattr(clone(model), "coef_")
    assert repr(Estimator(alpha=0.5)) == f"{Estimator.__name__}(alpha=0.5)"
    assert "<div" in Estimator()._repr_html_()


@pytest.mark.parametrize("Estimator", [fg.GDRegressor, fg.SGDRegressor])
def test_metadata_is_routed(Estimator: Any) -> None:
    X, y, s = data()
    with sklearn.config_context(enable_metadata_routing=True):
        model = Estimator(**({"random_state": 0} if Estimator is fg.SGDRegressor else {}))
        asked = model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipe = make_pipeline(scaler, asked).fit(X, y, sample_weight=s)
        alone = clone(model).fit(scaler.fit_transform(X), y, sample_weight=s)
        assert pipe[-1].coef_.tolist() == alone.coef_.tolist()
        assert pipe.score(X, y, sample_weight=s) == pytest.approx(
            alone.score(scaler.transform(X), y, sample_weight=s), rel=1e-12
        )
        model.set_partial_fit_request(sample_weight=True)


def test_tags() -> None:
    for model in (fg.GDRegressor(), fg.SGDRegressor()):
        tags = get_tags(model)
        assert tags.estimator_type == "regressor"
        assert tags.input_tags.sparse
        assert tags.target_tags.required
        assert not tags.input_tags.allow_nan
        assert not tags.non_deterministic


def test_who_scores_poorly_says_so() -> None:
    """On the data, and by the score, that scikit-learn's tag is about; its estimator scores as poorly."""
    X, y = make_regression(n_samples=200, n_features=10, n_informative=1, bias=5.0, noise=20, random_state=42)
    X, y = scale(X), scale(y)
    for options in settings(
        loss=LOSSES, penalty=PENALTIES, learning_rate=SCHEDULES, average=[False, True, 10], alpha=[0.01],
        early_stopping=[False, True], random_state=[0],
    ):  # fmt: skip
        model = fg.SGDRegressor(**options | {"shuffle": True})
        if not get_tags(model).regressor_tags.poor_score:
            assert quietly(model, X, y).score(X, y) > 0.5, model
        elif options["average"] and options["learning_rate"] == "optimal" and options["loss"].startswith("squared"):
            assert quietly(model, X, y).score(X, y) < 0
            assert quietly(Peer(**options), X, y).score(X, y) < 0


def test_sparse_coefficients() -> None:
    X, y, _ = data(200, 12)
    model = fg.SGDRegressor(penalty="l1", alpha=0.3, random_state=0).fit(X, y)
    before, coef = model.predict(X), model.coef_
    assert 0 < np.count_nonzero(coef) < 12
    assert model.sparsify().coef_.nnz == np.count_nonzero(coef)
    assert model.predict(X) == pytest.approx(before, rel=1e-12)
    assert model.predict(csr_matrix(X)) == pytest.approx(before, rel=1e-12)
    assert pickle.loads(pickle.dumps(model)).partial_fit(X, y).coef_.shape == (12,)
    assert model.densify().coef_.tolist() == coef.tolist()


def test_what_verbose_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines of scikit-learn, of which older versions do not print the objective."""
    X, y, _ = data()
    lines = []
    for Estimator in (fg.SGDRegressor, Peer):
        Estimator(verbose=1, shuffle=False, max_iter=3, tol=None).fit(X, y)
        lines.append([line for line in capsys.readouterr().out.splitlines() if line.startswith(("Norm", "-- Epoch"))])
    assert [our.startswith(peer) for our, peer in zip(*lines, strict=True)] == [True] * 6
    fg.SGDRegressor(shuffle=False, max_iter=3, tol=None).fit(X, y)
    fg.GDRegressor().fit(X, y)
    assert capsys.readouterr().out == ""
    fg.SGDRegressor(verbose=1, early_stopping=True).fit(X, y)
    assert "Validation score: " in capsys.readouterr().out


def test_the_logger_is_told_why_a_fit_ended(caplog: pytest.LogCaptureFixture) -> None:
    X, y, _ = data()
    with caplog.at_level("INFO", logger="fastgd"):
        model = fg.SGDRegressor(random_state=0).fit(X, y)
        fg.GDRegressor().fit(X, y)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"SGDRegressor: {model.stop_reason_}; {model.n_iter_} epochs, objective ")
    assert second.startswith("moments: solved exactly")


# ---- callbacks -------------------------------------------------------------------------------------------------------


class Recorder:
    """A callback of scikit-learn's protocol that keeps what it is shown, and ends the fit after so many iterations."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.stop_after = stop_after
        self.events: list[str] = []
        self.scores: list[float] = []

    def setup(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
        self.events.append("setup")

    def teardown(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, X: Any = None, y: Any = None, metadata: Any = None,
        fitted_estimator: Any = None,
    ) -> bool:  # fmt: skip
        assert estimator is not fitted_estimator
        self.events.append(f"end {context.task_name}")
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X, y, **(metadata or {})))
        return context.parent is not None and len(self.scores) >= self.stop_after


FITS = [
    (fg.SGDRegressor(random_state=0, max_iter=8, tol=None), 1),
    (fg.GDRegressor(solver="gd", max_iter=8, tol=0), 1),
    (fg.GDRegressor(solver="cg", max_iter=4, tol=0), 2),
]


@pytest.mark.parametrize(("model", "n_targets"), FITS, ids=repr)
def test_callbacks_see_each_iteration(model: Any, n_targets: int) -> None:
    X, y, s = data(100)
    Y = y if n_targets == 1 else np.column_stack([y, X[:, 1] - y])
    if not hasattr(model, "set_callbacks"):
        assert tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9)
        return
    plain = quietly(clone(model), X, Y, sample_weight=s)
    seen = Recorder()
    watched = quietly(clone(model).set_callbacks(seen), pd.DataFrame(X), Y, sample_weight=s)
    assert watched.coef_ == pytest.approx(plain.coef_, rel=1e-9)
    count = model.max_iter * n_targets
    iterations = [f"{what} iteration {k}" for k in range(1, count + 1) for what in ("begin", "end")]
    assert seen.events == ["setup", "begin fit", *iterations, "end fit", "teardown"]
    assert seen.scores[-1] == seen.scores[-2] == pytest.approx(plain.score(X, Y, s), rel=1e-9)
    assert seen.scores[0] < seen.scores[-1]


def test_tasks_last_as_long_as_their_iterations() -> None:
    """One begins where another has ended; the one that was begun before the fit was known to end has no attributes."""
    X, y, _ = data(100)
    model = fg.SGDRegressor(random_state=0)
    if not hasattr(model, "set_callbacks"):
        return

    class Pairs(Recorder):
        """Keeps the score of what it is shown at the beginning and the end of each task."""

        def on_fit_task_begin(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> None:
            super().on_fit_task_begin(estimator, context)
            self.scores.append(np.nan if fitted_estimator is None else fitted_estimator.score(X, y))

        def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> bool:
            super().on_fit_task_end(estimator, context)
            self.scores.append(np.nan if fitted_estimator is None else fitted_estimator.score(X, y))
            return False

    seen = Pairs()
    last = model.set_callbacks(seen).fit(X, y).n_iter_
    assert last < model.max_iter
    tasks = [f"{what} iteration {k}" for k in range(1, last + 2) for what in ("begin", "end")]
    assert seen.events == ["setup", "begin fit", *tasks, "end fit", "teardown"]
    start, first, *between, empty, whole = seen.scores
    assert np.isnan([start, first, empty]).all()
    assert between[::2] == between[1::2]        # after an iteration, and before the next
    assert between[-1] == whole == model.score(X, y)


def test_corrections_of_an_exact_solution_are_tasks_too() -> None:
    """Which a solver makes that has no need of `max_iter`."""
    X, y, _ = data(200)
    X[:, 1] = X[:, 0] + 1e-6 * X[:, 1]
    X[:, 3] = 1e5 * X[:, 2] + 1e-2 * X[:, 3]
    model = fg.GDRegressor(max_iter=1, tol=1e-16)
    if not hasattr(model, "set_callbacks"):
        return
    seen = Recorder()
    model.set_callbacks(seen).fit(X, y)
    assert model.n_iter_ == 2
    assert seen.events[4:7] == ["begin iteration 2", "end iteration 2", "begin iteration 3"]


def test_scikit_learns_own_callbacks() -> None:
    """A monitor on a step of a pipeline, and a bar for a search, which reaches its steps."""
    if not hasattr(fg.SGDRegressor, "set_callbacks"):
        return
    from sklearn.callback import ProgressBar, ScoringMonitor

    X, y, _ = data(100)
    monitor = ScoringMonitor(scoring="r2")
    pipe = make_pipeline(StandardScaler(), fg.SGDRegressor(random_state=0).set_callbacks(monitor)).fit(X, y)
    scores = [row["r2"] for row in monitor.get_logs().data]
    assert len(scores) == 1 + pipe[-1].n_iter_
    assert scores[0] == scores[-1] == pipe.score(X, y)
    search = GridSearchCV(fg.GDRegressor(solver="cg"), {"alpha": [0.0, 1.0]}, cv=2, n_jobs=2)
    assert search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y).best_score_ > 0.5


@pytest.mark.parametrize(("model", "n_targets"), FITS, ids=repr)
def test_a_callback_can_end_a_fit(model: Any, n_targets: int) -> None:
    X, y, _ = data(100)
    if not hasattr(model, "set_callbacks"):
        return
    seen = Recorder(stop_after=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watched = clone(model).set_params(tol=1e-12).set_callbacks(seen)
        watched.fit(X, y if n_targets == 1 else np.column_stack([y, -y]))
    assert "callback ended it" in watched.stop_reason_
    assert seen.events[-2:] == ["end fit", "teardown"]
    assert watched.n_iter_ == 2
    with pytest.raises(TypeError, match="FitCallback protocol"):
        watched.set_callbacks("no")


# ---- without scikit-learn --------------------------------------------------------------------------------------------


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Code in a Python of its own, with this fastgd and without scikit-learn."""
    start = f"import sys; sys.path.insert(0, {str(Path(fg.__file__).parents[1])!r}); sys.modules['sklearn'] = None\n"
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, timeout=120)


def test_without_scikit_learn_the_rest_works() -> None:
    done = python(
        """
import fastgd as fg
from fastgd import *
assert {"GDRegressor", "SGDRegressor"} <= set(dir(fg))
print(fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]).coef.round(6))
for name in ("GDRegressor", "SGDRegressor"):
    try:
        getattr(fg, name)
    except ImportError as error:
        print(error)
fg.Regressor
"""
    )
    first, *asked = done.stdout.splitlines()
    assert first == "[2.]"
    assert len(asked) == 2
    assert all("need scikit-learn" in line and "pip install 'fastgd[sklearn]'" in line for line in asked)
    assert "AttributeError: module 'fastgd' has no attribute 'Regressor'" in done.stderr.splitlines()[-1]
