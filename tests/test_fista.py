"""Fits with an l1 penalty: held against scikit-learn, the conditions of the optimum, and the textbook's loop."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from bounds import gamma
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet

import fastgd as fg
from fastgd import _proximal, reference
from fastgd.objective import MSE, column_moments
from fastgd.solvers import fista
from fastgd.solvers._certificate import Geometry
from fastgd.solvers._duality import Rounding, duality_gap, pass_in_double
from fastgd.solvers._lasso import PenalisedQuadratic, best_of_way

DIABETES = load_diabetes(return_X_y=True)


def data(n, d, seed=0, density=None, means=0.0, dtype=float):
    """Some columns that count among many, of unlike scales; sparse if a density is given."""
    rng = np.random.default_rng(seed)
    w = np.where(rng.uniform(size=d) < 0.2, rng.standard_normal(d), 0.0)
    if density is None:
        X = rng.standard_normal((n, d)) @ (np.eye(d) + 0.5 * rng.standard_normal((d, d)) / np.sqrt(d))
        X = X * rng.uniform(0.5, 2.0, d) + means * rng.uniform(-1, 1, d)
    else:
        X = scipy.sparse.random(n, d, density, "csr", random_state=seed, data_rvs=rng.standard_normal)
    y = X @ w + rng.standard_normal(n) + 2.0
    return X.astype(dtype), y


def weights(n, seed=1):
    return np.random.default_rng(seed).integers(0, 4, n).astype(float)


def dense(X):
    return np.asarray(X.todense() if scipy.sparse.issparse(X) else X, float)


def parts(X, y, w, b, s, l1, l2):
    """F, and the gradient of its smooth part by w and by b."""
    X, s = dense(X), np.ones(len(y)) if s is None else s
    r = X @ w + b - y
    loss = s @ r**2 / s.sum() + l2 * w @ w + l1 * np.abs(w).sum()
    return float(loss), 2 / s.sum() * X.T @ (s * r) + 2 * l2 * w, 2 / s.sum() * float(s @ r)


def l1_max(X, y, s=None, fit_intercept=True):
    """The least l1 at which all coefficients are zero."""
    s = np.ones(len(y)) if s is None else s
    b = np.average(y, weights=s) if fit_intercept else 0.0
    return float(np.abs(parts(X, y, np.zeros(X.shape[1]), b, s, 0.0, 0.0)[1]).max())


def penalties(X, y, share, ratio, s=None, fit_intercept=True):
    """l1 and l2 of an elastic net, and scikit-learn's alpha: it minimises half of F."""
    alpha = share * l1_max(X, y, s, fit_intercept) / 2 / ratio
    return 2 * alpha * ratio, alpha * (1 - ratio), alpha


def fit(X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fg.fit(X, y, solver="fista", **options)


def peer(X, y, alpha, ratio, s=None, fit_intercept=True):
    model = ElasticNet(alpha=alpha, l1_ratio=ratio, tol=1e-12, max_iter=10**6, fit_intercept=fit_intercept)
    return model.fit(X, y, sample_weight=s)


PROBLEMS = {
    "diabetes": DIABETES,
    "tall": data(400, 40, 1, means=3.0),
    "many columns": data(2000, 200, 2),
    "wide": data(60, 200, 3),
    "sparse": data(1500, 300, 4, density=0.05),
}


# ---- the optimum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_equals_scikit_learn(problem, share, ratio, fit_intercept):
    X, y = PROBLEMS[problem]
    l1, l2, alpha = penalties(X, y, share, ratio, fit_intercept=fit_intercept)
    model = peer(X, y, alpha, ratio, fit_intercept=fit_intercept)
    r = fit(X, y, l1=l1, l2=l2, fit_intercept=fit_intercept)
    best, _, _ = parts(X, y, model.coef_, model.intercept_, None, l1, l2)
    mine, _, _ = parts(X, y, r.coef, r.intercept, None, l1, l2)
    assert mine <= best * (1 + 1e-10)
    assert mine >= best - max(1e-10 * best, model.dual_gap_ * 2)
    assert r.loss == pytest.approx(mine, rel=1e-12)
    assert r.converged
    assert 0 <= r.gap_bound <= 1e-8 * r.loss


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_weights_are_scikit_learns(problem, fit_intercept, ratio):
    X, y = PROBLEMS[problem]
    s = weights(len(y))
    l1, l2, alpha = penalties(X, y, 0.1, ratio, s, fit_intercept)
    model = peer(X, y, alpha, ratio, s, fit_intercept)
    r = fit(X, y, l1=l1, l2=l2, sample_weight=s, fit_intercept=fit_intercept)
    best, _, _ = parts(X, y, model.coef_, model.intercept_, s, l1, l2)
    assert r.loss == pytest.approx(best, rel=1e-9)
    repeated = np.repeat(np.arange(len(y)), s.astype(int))
    again = fit(X[repeated], y[repeated], l1=l1, l2=l2, fit_intercept=fit_intercept)
    assert again.loss == pytest.approx(r.loss, rel=1e-12)
    np.testing.assert_array_equal(again.coef != 0, r.coef != 0)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("share", [0.5, 0.01])
def test_the_conditions_of_the_optimum_hold(problem, share):
    """|g_j| <= l1 where w_j = 0, else g_j = -l1 sign(w_j), to rounding of the gradient's sums."""
    X, y = PROBLEMS[problem]
    l1 = share * l1_max(X, y)
    r = fit(X, y, l1=l1)
    _, slope, intercept = parts(X, y, r.coef, r.intercept, None, l1, 0.0)
    size = np.sqrt((dense(X) ** 2).mean(axis=0) * (y**2).mean())
    held = r.coef != 0
    assert 0 < held.sum() < len(held) or problem == "diabetes"
    assert (np.abs(slope[held] + l1 * np.sign(r.coef[held])) <= 1e-11 * size[held]).all()
    assert (np.abs(slope[~held]) <= l1 + 1e-11 * size[~held]).all()
    assert abs(intercept) <= 1e-11 * np.sqrt((y**2).mean())


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("factor", [1.0 + 1e-9, 10.0])
def test_a_large_l1_gives_zeros_at_once(fit_intercept, factor):
    X, y = PROBLEMS["tall"]
    r = fit(X, y, l1=factor * l1_max(X, y, fit_intercept=fit_intercept), fit_intercept=fit_intercept)
    np.testing.assert_array_equal(r.coef, 0.0)
    assert r.intercept == pytest.approx(y.mean() if fit_intercept else 0.0, rel=1e-14)
    assert r.converged and r.n_iter <= 1
    r = fit(X, y, l1=l1_max(X, y, fit_intercept=fit_intercept) * (1 - 1e-6), fit_intercept=fit_intercept)
    assert np.count_nonzero(r.coef) == 1


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_without_l1_it_is_accelerated_descent(l2, fit_intercept):
    X, y = PROBLEMS["tall"]
    r = fit(X, y, l2=l2, fit_intercept=fit_intercept)
    exact = fg.fit(X, y, solver="moments", l2=l2, fit_intercept=fit_intercept)
    assert r.converged and r.n_iter > 10
    np.testing.assert_allclose(r.coef, exact.coef, rtol=1e-5, atol=1e-6)
    assert np.isnan(r.gap_bound) if l2 == 0 else 0 < r.gap_bound < 1e-8 * r.loss


@pytest.mark.parametrize("options", [{}, {"tol": 0.0, "max_iter": 3000}], ids=["working sets", "steps"])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_units_of_the_columns_cost_nothing(options, l2):
    """Columns of 10^6 and of 10^-6, their penalties equal after l1 is measured in their units: one column at a time."""
    X, y = DIABETES
    factors = 10.0 ** np.array([6, -6, 3, -3, 0, 1, 6, -6, 0, 2])
    for l1 in (1e-12, 1e-3, 1e3):
        r = fit(X * factors, y, l1=l1, l2=l2, **options)
        _, slope, _ = parts(X * factors, y, r.coef, r.intercept, None, l1, l2)
        held = r.coef != 0
        size = np.sqrt((X * factors) ** 2).mean(axis=0) * np.sqrt((y**2).mean())
        tolerance = 1e-7 * size
        assert (np.abs(slope + l1 * np.sign(r.coef))[held] <= tolerance[held]).all()
        assert (np.abs(slope[~held]) <= l1 + tolerance[~held]).all()


def test_constant_and_repeated_columns():
    X, y = PROBLEMS["tall"]
    X = np.column_stack([X, np.full(len(X), 7.0), X[:, :5], -X[:, 3]])
    l1 = 0.05 * l1_max(X, y)
    r = fit(X, y, l1=l1)
    alone = fit(X[:, :40], y, l1=l1)
    assert r.loss == pytest.approx(alone.loss, rel=1e-12)
    assert r.coef[40] == 0.0
    assert r.converged
    w0 = np.ones(X.shape[1])
    assert fit(X, y, l1=l1, w0=w0).loss == pytest.approx(alone.loss, rel=1e-12)


def collinear(seed):
    """Columns that are sums of few others and a little noise; X, y and l1."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((300, 5))
    X = base @ rng.standard_normal((5, 100)) + 1e-4 * rng.standard_normal((300, 100))
    y = X @ rng.standard_normal(100) + rng.standard_normal(300)
    l1 = 10.0 ** -rng.uniform(1, 5) * l1_max(X, y)
    return X, y, l1


@pytest.mark.parametrize("seed", range(20))
def test_collinear_columns(seed):
    """Steps alone would take 10^5 of them and more."""
    X, y, l1 = collinear(seed)
    r = fit(X, y, l1=l1)
    assert r.converged
    assert r.gap_bound <= 1e-7 * r.loss


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_float32_columns(fit_intercept, sparse):
    X, y = data(3000, 120, 5, density=0.1 if sparse else None, dtype=np.float32)
    l1, l2, _ = penalties(X, y, 0.05, 0.9, fit_intercept=fit_intercept)
    r = fit(X, y, l1=l1, l2=l2, fit_intercept=fit_intercept)
    assert r.coef.dtype == np.float32
    exact = fit(X.astype(float), y, l1=l1, l2=l2, fit_intercept=fit_intercept)
    mine, _, _ = parts(X, y, r.coef.astype(float), r.intercept, None, l1, l2)
    assert exact.loss - 1e-12 <= mine <= exact.loss * (1 + 1e-5)
    assert mine - exact.loss <= r.gap_bound <= 1e-4 * r.loss


def test_several_targets():
    X, y = PROBLEMS["tall"]
    Y = np.column_stack([y, y[::-1], 100 * y])
    l1 = 0.1 * l1_max(X, y)
    r = fit(X, Y, l1=l1)
    for column in range(3):
        np.testing.assert_array_equal(r.coef[:, column], fit(X, Y[:, column], l1=l1).coef)


# ---- where it starts and ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_warm_start(problem):
    """At the optimum it ends at once; anywhere else, even far away and with other zeros, at the same optimum."""
    X, y = PROBLEMS[problem]
    l1 = 0.1 * l1_max(X, y)
    r = fit(X, y, l1=l1)
    again = fit(X, y, l1=l1, w0=np.append(r.coef, r.intercept))
    assert again.n_iter == 0
    np.testing.assert_array_equal(again.coef, r.coef)
    far = 10 * np.random.default_rng(0).standard_normal(X.shape[1])
    other = fit(X, y, l1=l1, w0=far)
    assert other.loss == pytest.approx(r.loss, rel=1e-10)
    np.testing.assert_array_equal(other.coef != 0, r.coef != 0)


def test_max_iter_warns_with_the_figure():
    X, y = PROBLEMS["many columns"]
    with pytest.warns(fg.ConvergenceWarning, match="fista: max_iter=1 reached"):
        r = fg.fit(X, y, solver="fista", l1=1e-3 * l1_max(X, y), max_iter=1)
    assert not r.converged and r.n_iter == 1 and r.stop_reason == "max_iter=1 reached"
    assert len(r.history["loss"]) == 2
    full = fit(X, y, l1=1e-3 * l1_max(X, y))
    assert 0 < r.loss - full.loss <= r.gap_bound


def test_tol_0_makes_every_step():
    X, y = PROBLEMS["tall"]
    r = fit(X, y, l1=0.1 * l1_max(X, y), tol=0.0, max_iter=50)
    assert r.n_iter == 50 and len(r.history["loss"]) == 51 and not r.converged
    assert r.loss == r.history["loss"][-1] < r.history["loss"][0]


def test_a_callback_sees_each_step_and_ends_the_fit():
    X, y = PROBLEMS["tall"]
    l1 = 0.1 * l1_max(X, y)
    seen = []
    r = fit(X, y, l1=l1, callback=lambda state: seen.append(state) or len(seen) == 5)
    assert [state.iteration for state in seen] == [0, 1, 2, 3, 4]
    assert r.stop_reason == "the callback ended it" and r.n_iter == 4
    for state in seen:
        assert state.loss == pytest.approx(parts(X, y, state.coef, state.intercept, None, l1, 0.0)[0], rel=1e-12)
    np.testing.assert_array_equal(seen[-1].coef, r.coef)
    whole = fit(X, y, l1=l1, callback=lambda state: False)
    assert whole.converged
    assert whole.loss == pytest.approx(fit(X, y, l1=l1).loss, rel=1e-10)


def test_a_validation_set_ends_the_fit():
    X, y = data(150, 100, 7)
    r = fit(X[:60], y[:60], l1=1e-4, X_val=X[60:], y_val=y[60:], patience=5)
    assert "validation" in r.stop_reason
    best = int(np.argmin(r.history["val_loss"]))
    assert r.history["val_loss"][best] == pytest.approx(np.mean((X[60:] @ r.coef + r.intercept - y[60:]) ** 2))
    assert r.loss == pytest.approx(r.history["loss"][best], rel=1e-12)


def test_history_starts_at_the_start_and_never_rises():
    X, y = PROBLEMS["many columns"]
    l1 = 1e-2 * l1_max(X, y)
    r = fit(X, y, l1=l1)
    assert r.n_iter >= 2
    assert r.history["loss"][0] == pytest.approx(np.mean(y**2), rel=1e-12)
    assert (np.diff(r.history["loss"]) <= 1e-14 * r.loss).all()
    assert r.history["grad_norm"][-1] < 1e-6 * r.history["grad_norm"][0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_few_columns_take_a_pass_for_their_products_and_one_for_the_certificate(monkeypatch, dtype, fit_intercept, l2):
    X, y = data(800, 100, 1, means=3.0, dtype=dtype)
    l1 = 0.02 * l1_max(X, y)
    options = {"l1": l1, "l2": l2, "fit_intercept": fit_intercept, "sample_weight": weights(800)}
    r = fit(X, y, **options)
    assert (r.n_iter, r.n_passes) == (1, 2 if dtype == np.float64 else 3)   # one in double
    monkeypatch.setattr(fista, "narrow", lambda objective: False)
    other = fit(X, y, **options)
    assert other.n_passes > r.n_passes
    eps = float(np.finfo(dtype).eps)
    assert r.loss == pytest.approx(other.loss, rel=16 * eps)
    np.testing.assert_allclose(r.coef, other.coef, rtol=1e3 * eps, atol=1e3 * eps)
    assert r.gap_bound <= max(2 * other.gap_bound, 16 * eps * r.loss)
    assert r.history["loss"][0] == pytest.approx(other.history["loss"][0], rel=16 * eps)


def test_zeros_that_are_the_optimum_are_certified_by_a_pass():
    X, y = data(800, 10, 1)
    X, y = X - X.mean(axis=0), y - y.mean()
    r = fit(X, y, l1=2 * l1_max(X, y))
    assert (r.n_iter, r.n_passes) == (0, 2) and r.converged
    np.testing.assert_array_equal(r.coef, 0.0)


def test_products_that_are_dear_are_made_after_a_trial_of_steps(monkeypatch):
    X, y = PROBLEMS["wide"]
    l1 = 0.01 * l1_max(X, y)
    expected = fit(X, y, l1=l1)
    monkeypatch.setattr(fista, "CHEAP_BYTES", 0)
    monkeypatch.setattr(fista, "TRIAL_STEPS", 7)
    r = fit(X[:, ::-1].copy(), y, l1=l1)
    assert expected.n_iter < 7 < r.n_iter
    assert r.loss == pytest.approx(expected.loss, rel=1e-12)
    assert r.converged and len(np.unique(r.history["loss"][:7])) == 7


def test_more_columns_than_their_products_may_take(monkeypatch):
    """Beyond the memory for products, steps over all columns take over, and no iterate is shown twice."""
    X, y = PROBLEMS["many columns"]
    l1 = 0.1 * l1_max(X, y)
    expected = fit(X, y, l1=l1)
    monkeypatch.setattr(fista, "MOST_BYTES", 8 * 5**2)
    r = fit(X, y, l1=l1)
    assert r.loss == pytest.approx(expected.loss, rel=1e-10)
    assert len(np.unique(r.history["loss"][:5])) == 5
    assert r.n_iter > 5


@pytest.mark.parametrize("options", [{}, {"tol": 0.0, "max_iter": 20}])
def test_bits_do_not_depend_on_the_threads(options):
    X, y = data(2**15, 80, 8)
    l1 = 0.01 * l1_max(X, y)
    one, two = (fit(X, y, l1=l1, n_threads=n, **options) for n in (1, 2))
    np.testing.assert_array_equal(one.coef, two.coef)
    assert one.loss == two.loss and one.gap_bound == two.gap_bound


# ---- the gap ---------------------------------------------------------------------------------------------------------


def exact_loss(X, y, w, s, l1, l2):
    """F with 64 bits of mantissa, so that differences of losses hold the digits that matter."""
    X, w, y = dense(X).astype(np.longdouble), w.astype(np.longdouble), y.astype(np.longdouble)
    s = np.ones(len(y), np.longdouble) if s is None else s.astype(np.longdouble)
    coef, b = w[: X.shape[1]], w[X.shape[1] :].sum()
    return (s @ (X @ coef + b - y) ** 2) / s.sum() + l1 * np.abs(coef).sum() + l2 * coef @ coef


def random_problem(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(5, 200)), int(rng.integers(1, 60))
    dtype = [np.float64, np.float32][seed % 2]
    X, y = data(n, d, seed, density=0.3 if seed % 5 == 0 else None, means=rng.choice([0.0, 5.0]), dtype=dtype)
    s = weights(n, seed) if seed % 3 else None
    fit_intercept = bool(seed % 4)
    l1 = l1_max(X, y, s, fit_intercept) * 10 ** rng.uniform(-3, 0.2)
    l2 = rng.choice([0.0, l1 * 10 ** rng.uniform(-6, 1)])
    return rng, X, y, s, fit_intercept, l1, l2


@pytest.mark.parametrize("seed", range(60))
def test_gap_bound_is_a_bound(seed):
    """Near the optimum, at it, and far away, weighted or not, whatever X is computed in."""
    rng, X, y, s, fit_intercept, l1, l2 = random_problem(seed)
    best = fit(X.astype(float), y, l1=l1, l2=l2, sample_weight=s, fit_intercept=fit_intercept)
    objective = MSE(X, y, s, fit_intercept, l2)
    geometry = Geometry(*column_moments(objective), fit_intercept=fit_intercept, l2=l2, dtype=objective.dtype, l1=l1)
    d, end = X.shape[1], np.append(best.coef, best.intercept)[: X.shape[1] + fit_intercept]
    least = exact_loss(X, y, end, s, l1, l2)
    gaps = []
    for distance in (0.0, 1e-9, 1e-6, 1e-3, 0.1, 1.0, 100.0):
        w = end + distance * (np.abs(end) + 0.1) * rng.standard_normal(len(end)) * (rng.uniform(size=len(end)) < 0.7)
        w[:d] = w[:d].astype(X.dtype)
        smooth, grad = objective.value_and_grad(w, out=np.empty(len(w)))
        rows = [len(block.X) for block in objective.blocks]
        rounding = Rounding.of_pass(objective.dtype, rows, np.count_nonzero(w[:d]))
        gaps.append(duality_gap(geometry, w, smooth, grad, rounding))
        loss = exact_loss(X, y, w, s, l1, l2)
        assert loss - least <= gaps[-1] <= 2.1 * loss
    if X.dtype == np.float64:
        assert gaps[0] <= 1e-9 * least
        assert best.gap_bound <= 1e-9 * best.loss


@pytest.mark.parametrize("seed", range(1, 40, 2))
def test_a_pass_in_double_is_one(seed):
    """Of float32 columns, the same as of float64 ones: a sum of n terms, each with a dot product of length d."""
    rng, X, y, s, fit_intercept, _, l2 = random_problem(seed)
    w = rng.standard_normal(X.shape[1] + fit_intercept)
    loss, grad = pass_in_double(MSE(X, y, s, fit_intercept, l2), w)
    expected, slope = MSE(X.astype(float), y, s, fit_intercept, l2).value_and_grad(w)
    size = np.abs(dense(X)) @ np.abs(w[: X.shape[1]]) + np.abs(w[-1]) + np.abs(y)
    s = np.ones(len(y)) if s is None else s
    k = gamma(2 * (X.shape[1] + len(y)) + 20)
    assert abs(loss - expected) <= 2 * k * (s @ size**2 / s.sum() + l2 * w @ w)
    columns = np.column_stack([np.abs(dense(X)), np.ones(len(y))])[:, : len(w)]
    assert (np.abs(grad - slope) <= 2 * k * (2 * columns.T @ (s * size) / s.sum() + 2 * l2 * np.abs(w))).all()


def test_gap_bound_of_a_result_by_steps():
    X, y = PROBLEMS["tall"]
    l1 = 0.05 * l1_max(X, y)
    least = fit(X, y, l1=l1).loss
    gaps = []
    for steps in (1, 3, 10, 30, 100):
        r = fit(X, y, l1=l1, tol=0.0, max_iter=steps)
        assert r.loss - least <= r.gap_bound
        gaps.append(r.gap_bound)
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 1e-2 * gaps[0]


# ---- the method's pieces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_textbooks_loop_ends_there_too(weighted, fit_intercept):
    X, y = data(40, 6, 9)
    X /= X.std(axis=0)
    s = weights(40) if weighted else None
    l1, l2 = 0.3 * l1_max(X, y, s, fit_intercept), 0.05
    lr = 1 / MSE(X, y, s, fit_intercept, l2).lipschitz()
    w, losses = reference.proximal_gradient_descent(X, y, lr, 400, l1, s, fit_intercept, l2)
    r = fit(X, y, l1=l1, l2=l2, sample_weight=s, fit_intercept=fit_intercept)
    np.testing.assert_allclose(r.coef, w[:6], rtol=1e-8, atol=1e-10)
    assert losses[0] == pytest.approx(r.history["loss"][0], rel=1e-13)
    assert losses[-1] == pytest.approx(r.loss, rel=1e-12)
    np.testing.assert_array_equal(np.array(w[:6]) == 0, r.coef == 0)


def test_the_first_step_is_the_textbooks():
    """Of columns with mean zero and deviation one, standardised parameters are the parameters."""
    rng = np.random.default_rng(10)
    Q, _ = np.linalg.qr(rng.standard_normal((50, 5)) - 0.0)
    X = Q / np.sqrt((Q**2).mean(axis=0))
    y = X @ np.array([3.0, 0.0, -2.0, 0.1, 0.0]) + rng.standard_normal(50)
    for l1 in (0.0, 0.5):
        r = fit(X, y, l1=l1, tol=0.0, max_iter=1, fit_intercept=False)
        w, losses = reference.proximal_gradient_descent(X, y, 1 / (2 * fista.CAUTION), 1, l1, fit_intercept=False)
        np.testing.assert_allclose(r.coef, w, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(r.history["loss"], losses, rtol=1e-11)


def quadratic(k, seed):
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((2 * k, k)) / np.sqrt(2 * k)
    M = Z.T @ Z
    return M, rng.standard_normal(k), rng.uniform(0, 1, k), rng.standard_normal(k) * (rng.uniform(size=k) < 0.5)


@pytest.mark.parametrize("k", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("steps", [0, 1, 2, 10])
def test_compiled_steps_are_the_oracles(k, steps):
    """From one point to the next by no more than the roundings of each step.

    A proximal gradient step does not move points apart, and momentum is below one, so errors grow by a factor of less
    than 3 in a step. A step passes a product of length k and at most 20 operations more, here and in the oracle.
    """
    M, c, p, u = quadratic(k, 100 * k + steps)
    lipschitz = 2 * np.linalg.eigvalsh(M)[-1] * 1.01
    expected, _ = reference.accelerated_proximal_steps(M, c, p, u, lipschitz, steps)
    found, image = u.copy(), M @ u
    curvature = _proximal.descend(M, c, p, found, image, np.empty((4, k)), lipschitz, steps)
    assert curvature == lipschitz
    reach = 10 * (np.linalg.norm(u) + np.linalg.norm(c) / np.linalg.eigvalsh(M)[0])     # more than any iterate's
    size = reach * (1 + 2 / lipschitz * np.linalg.norm(np.abs(M), 2)) + 2 / lipschitz * np.linalg.norm(c)
    bound = 2 * gamma(k + 20) * size * (3.0**steps - 1) / 2
    assert np.linalg.norm(found - expected) <= bound
    assert np.linalg.norm(image - M @ found) <= gamma(2 * k + 8) * np.linalg.norm(np.abs(M) @ np.abs(found))
    if steps:
        assert not np.array_equal(found, u)
        np.testing.assert_array_equal(found == 0, np.array(expected) == 0)


def test_compiled_steps_find_the_curvature():
    for seed in range(20):
        M, c, p, u = quadratic(12, seed)
        found, image = u.copy(), M @ u
        curvature = _proximal.descend(M, c, p, found, image, np.empty((4, 12)), 0.01, 60)
        expected, its = reference.accelerated_proximal_steps(M, c, p, u, 0.01, 60)
        assert curvature == pytest.approx(its, rel=1e-9)
        assert 0.01 < curvature <= 3 * np.linalg.eigvalsh(M)[-1]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_compiled_steps_refuse_sizes_that_do_not_match():
    M, c, p, u = quadratic(4, 0)
    for k, work in ((3, 4), (4, 3)):
        with pytest.raises(ValueError, match="square matrix"):
            _proximal.descend(M, c, p, u[:k].copy(), (M @ u)[:k].copy(), np.empty((work, 4)), 1.0, 1)


@pytest.mark.parametrize("seed", range(30))
def test_the_best_of_the_way_is_the_best(seed):
    rng = np.random.default_rng(seed)
    M, c, p, u = quadratic(15, seed)
    u, step = u + 0.01, 3 * rng.standard_normal(15)
    gradient = 2 * (M @ u - c)
    if gradient @ step + p @ (np.sign(u) * step) > 0:
        step = -step
    end = best_of_way(u, step, gradient, M @ step, p)

    def value(v):
        return v @ M @ v - 2 * c @ v + p @ np.abs(v)

    t = np.linalg.lstsq(step[:, None], end - u, rcond=None)[0][0]
    assert -1e-12 <= t <= 1 + 1e-12
    np.testing.assert_allclose(end, u + t * step, atol=1e-12)
    assert value(end) <= min(value(u + share * step) for share in np.linspace(0, 1, 1001)) + 1e-12


@pytest.mark.parametrize("seed", range(30))
def test_penalised_quadratics_are_minimised(seed):
    """Regular or singular, from anywhere: no subgradient is left."""
    rng = np.random.default_rng(seed)
    M, c, p, u = quadratic(20, seed)
    if seed % 3 == 0:  # twice the same, and one more times -1
        M = M[:, [*range(20), 0, 1, 2]][[*range(20), 0, 1, 2]]
        flip = np.ones(23)
        flip[-1] = -1
        M, c, p = M * flip * flip[:, None], np.append(c, c[:3]) * flip, np.append(p, p[:3]) + 0.1
        u = 10 * rng.standard_normal(23)
    found = PenalisedQuadratic(np.ascontiguousarray(M), c, p).minimise(u, 1e-11)
    slope = 2 * (M @ found - c)
    left = np.where(found != 0, slope + p * np.sign(found), np.maximum(np.abs(slope) - p, 0))
    assert np.linalg.norm(left) <= 1e-11


def test_options_it_has_no_use_for_are_refused():
    X, y = DIABETES
    with pytest.raises(ValueError, match="solver='fista' has no use for momentum"):
        fg.fit(X, y, solver="fista", momentum=0.5)
    with pytest.raises(ValueError, match="l1 must be"):
        fg.fit(X, y, solver="fista", l1=-1.0)
