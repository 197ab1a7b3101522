"""`Moments.fit` with an l1 penalty: held against scikit-learn, fits of the rows, and the conditions of the optimum."""

import warnings

import numpy as np
import pytest
from test_fista import PROBLEMS, collinear, data, dense, exact_loss, l1_max, parts, peer, penalties, weights

import fastgd as fg
from fastgd.solvers._duality import gap_of_moments
from fastgd.solvers._penalised_moments import ProblemOfMoments
from fastgd.solvers._scaling import Coordinates
from fastgd.solvers._working_set import ColumnsOfMoments, WorkingSet
from fastgd.solvers.moments import geometry_of, loss_and_grad


def moments(X, y, s=None, dtype=None):
    return fg.Moments(X.shape[1], dtype=dtype).update(X, y, s)


def fit(m, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return m.fit(**options)


# ---- the optimum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 1e-4])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_equals_the_fit_of_the_rows(problem, share, ratio, fit_intercept):
    X, y = PROBLEMS[problem]
    l1, l2, _ = penalties(X, y, share, ratio, fit_intercept=fit_intercept)
    r = fit(moments(X, y), l1=l1, l2=l2, fit_intercept=fit_intercept)
    rows = fg.fit(X, y, l1=l1, l2=l2, fit_intercept=fit_intercept)
    mine, _, _ = parts(X, y, r.coef, r.intercept, None, l1, l2)
    best, _, _ = parts(X, y, rows.coef, rows.intercept, None, l1, l2)
    assert mine == pytest.approx(best, rel=1e-12)
    assert r.loss == pytest.approx(mine, rel=1e-10)
    np.testing.assert_array_equal(r.coef != 0, rows.coef != 0)
    assert r.converged and r.optimality <= 1e-9
    assert 0 <= r.gap_bound <= 1e-7 * r.loss
    assert r.options == {"l1": l1, "l2": l2, "fit_intercept": fit_intercept}
    assert (r.solver, r.n_passes, r.lr) == ("moments", 0, None)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_equals_scikit_learn(problem, ratio, fit_intercept, weighted):
    X, y = PROBLEMS[problem]
    s = weights(len(y)) if weighted else None
    l1, l2, alpha = penalties(X, y, 0.05, ratio, s, fit_intercept)
    model = peer(X, y, alpha, ratio, s, fit_intercept)
    r = fit(moments(X, y, s), l1=l1, l2=l2, fit_intercept=fit_intercept)
    best, _, _ = parts(X, y, model.coef_, model.intercept_, s, l1, l2)
    assert r.loss == pytest.approx(best, rel=1e-9)
    mine, _, _ = parts(X, y, r.coef, r.intercept, s, l1, l2)
    assert mine <= best * (1 + 1e-12)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("share", [0.5, 0.01])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_the_conditions_of_the_optimum_hold(problem, share, l2):
    """|g_j| <= l1 where w_j = 0, else g_j = -l1 sign(w_j), to rounding of the gradient's sums."""
    X, y = PROBLEMS[problem]
    l1 = share * l1_max(X, y)
    r = fit(moments(X, y), l1=l1, l2=l2)
    _, slope, intercept = parts(X, y, r.coef, r.intercept, None, l1, l2)
    size = np.sqrt((dense(X) ** 2).mean(axis=0) * (y**2).mean())
    held = r.coef != 0
    assert held.any()
    assert (np.abs(slope[held] + l1 * np.sign(r.coef[held])) <= 1e-11 * size[held]).all()
    assert (np.abs(slope[~held]) <= l1 + 1e-11 * size[~held]).all()
    assert abs(intercept) <= 1e-11 * np.sqrt((y**2).mean())


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("factor", [1.0 + 1e-9, 10.0, 1e300])
def test_a_large_l1_gives_zeros(fit_intercept, factor):
    X, y = PROBLEMS["tall"]
    m, least = moments(X, y), l1_max(X, y, fit_intercept=fit_intercept)
    r = fit(m, l1=factor * least, fit_intercept=fit_intercept)
    np.testing.assert_array_equal(r.coef, 0.0)
    assert r.intercept == pytest.approx(y.mean() if fit_intercept else 0.0, rel=1e-14)
    assert r.loss == pytest.approx(y.var() if fit_intercept else (y**2).mean(), rel=1e-14)
    assert r.converged and r.n_iter <= 1 and r.gap_bound <= 1e-10 * r.loss
    r = fit(m, l1=least * (1 - 1e-6), fit_intercept=fit_intercept)
    assert np.count_nonzero(r.coef) == 1


def test_an_l1_that_hardly_counts_gives_least_squares():
    X, y = PROBLEMS["tall"]
    m = moments(X, y)
    r, exact = fit(m, l1=1e-9), fit(m)
    np.testing.assert_allclose(r.coef, exact.coef, rtol=1e-6, atol=1e-8)
    assert r.converged
    assert fit(m, l1=0.0, l2=0.5).loss == fit(m, l2=0.5).loss


def test_constant_and_repeated_columns():
    X, y = PROBLEMS["tall"]
    more = np.column_stack([X, np.full(len(X), 7.0), X[:, :5], -X[:, 3]])
    for l2 in (0.0, 0.1):
        l1 = 0.05 * l1_max(X, y)
        r, alone = fit(moments(more, y), l1=l1, l2=l2), fit(moments(X, y), l1=l1, l2=l2)
        assert r.coef[40] == 0.0
        assert r.converged
        if l2 == 0:
            assert r.loss == pytest.approx(alone.loss, rel=1e-12)
        assert r.loss == pytest.approx(fg.fit(more, y, l1=l1, l2=l2).loss, rel=1e-12)


def test_columns_and_targets_that_do_not_vary():
    X, y = np.full((20, 3), 2.0), np.arange(20.0)
    r = fit(moments(X, y), l1=0.1)
    np.testing.assert_array_equal(r.coef, 0.0)
    assert (r.intercept, r.converged) == (9.5, True)
    r = fit(moments(data(20, 3)[0], np.full(20, 5.0)), l1=0.1)
    np.testing.assert_array_equal(r.coef, 0.0)
    assert (r.intercept, r.loss, r.optimality, r.converged) == (5.0, 0.0, 0.0, True)


@pytest.mark.parametrize("seed", range(10))
def test_collinear_columns(seed):
    X, y, l1 = collinear(seed)
    r, rows = fit(moments(X, y), l1=l1), fg.fit(X, y, l1=l1)
    assert r.converged
    mine, _, _ = parts(X, y, r.coef, r.intercept, None, l1, 0.0)
    assert mine == pytest.approx(rows.loss, rel=1e-9)
    assert r.gap_bound <= 1e-5 * r.loss


def test_more_columns_than_enter_at_once():
    """Some hundred iterations' worth of columns, few of which count: those are taken in, and all are certified."""
    X, y = data(3000, 1200, 7)
    for share in (0.2, 0.01):
        l1 = share * l1_max(X, y)
        r = fit(moments(X, y), l1=l1)
        assert r.converged and 1 < r.n_iter < 12
        assert r.loss == pytest.approx(fg.fit(X, y, l1=l1).loss, rel=1e-10)
        assert r.gap_bound <= 1e-8 * r.loss


@pytest.mark.parametrize("far", [0.0, 1e3, 1e6])
def test_columns_far_from_zero_lose_nothing(far):
    X, y = PROBLEMS["tall"]
    X, y = np.round(X * 2.0**20) / 2.0**20, np.round(y * 2.0**20) / 2.0**20     # sums with `far` are exact
    l1 = 0.02 * l1_max(X, y)
    near, r = fit(moments(X, y), l1=l1), fit(moments(X + far, y - far), l1=l1)
    np.testing.assert_allclose(r.coef, near.coef, rtol=1e-10, atol=1e-11)
    assert r.loss == pytest.approx(near.loss, rel=1e-12)
    assert r.converged and r.gap_bound <= 1e-10 * r.loss


def test_history_falls_from_zeros_and_ends_at_the_result():
    X, y = PROBLEMS["sparse"]
    l1 = 0.01 * l1_max(X, y)
    r = fit(moments(X, y), l1=l1)
    losses = r.history["loss"]
    assert losses[0] == pytest.approx(float((y**2).mean()), rel=1e-12)
    assert (np.diff(losses) <= 1e-14 * losses[0]).all() and losses[-1] == r.loss
    assert len(losses) == r.n_iter + 1 > 2
    assert r.history["grad_norm"][-1] <= 1e-9 * r.history["grad_norm"][0]


# ---- streams and parts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_streamed_and_merged_moments_give_the_same(weighted, ratio):
    X, y = PROBLEMS["tall"]
    s = weights(len(y)) if weighted else None
    l1, l2, _ = penalties(X, y, 0.05, ratio, s)
    whole = fit(moments(X, y, s), l1=l1, l2=l2)
    streamed, merged = fg.Moments(40), fg.Moments(40)
    for start in range(0, 400, 50):
        rows = slice(start, start + 50)
        part = X[rows], y[rows], None if s is None else s[rows]
        streamed.update(*part)
        merged.merge(fg.Moments(40).update(*part))
    for m in (streamed, merged):
        r = fit(m, l1=l1, l2=l2)
        np.testing.assert_allclose(r.coef, whole.coef, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(r.coef != 0, whole.coef != 0)
        assert r.loss == pytest.approx(whole.loss, rel=1e-12)


def test_rows_in_the_order_of_a_column():
    """The first rows are far from the others, and so is the shift from the means."""
    X, y = data(2000, 5, 3, means=3.0)
    order = np.argsort(X[:, 0])
    X, y = X[order], y[order]
    m = fg.Moments(5)
    for start in range(0, 2000, 100):
        m.update(X[start : start + 100], y[start : start + 100])
    l1 = 0.05 * l1_max(X, y)
    assert fit(m, l1=l1).loss == pytest.approx(fg.fit(X, y, l1=l1).loss, rel=1e-12)


def test_a_fit_leaves_the_moments_as_they_were():
    X, y = PROBLEMS["tall"]
    m = moments(X, y)
    gram, shift = m.gram.copy(), m.shift.copy()
    first = fit(m, l1=0.1)
    np.testing.assert_array_equal(m.gram, gram)
    np.testing.assert_array_equal(m.shift, shift)
    np.testing.assert_array_equal(fit(m, l1=0.1).coef, first.coef)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_products_of_columns_are_those_of_the_rows(fit_intercept, l2):
    X, y = data(300, 12, 1, means=3.0)
    m, objective = moments(X, y, weights(300)), fg.MSE(X, y, weights(300), fit_intercept, l2)
    coordinates = Coordinates(geometry_of(m, fit_intercept=fit_intercept, l2=l2, dtype=np.dtype(float), l1=0.1))
    mine, rows = ColumnsOfMoments(m, coordinates), WorkingSet(objective, coordinates)
    for columns in ([3, 1, 7], [0, 11], [5]):
        mine.extend(np.array(columns))
        rows.extend(np.array(columns))
    np.testing.assert_array_equal(mine.columns, rows.columns)
    np.testing.assert_allclose(mine.matrix, rows.matrix, rtol=1e-11, atol=1e-13)


# ---- the gap ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_gap_bound_is_a_bound(seed):
    """Near the optimum, at it, and far away, of columns near zero and far, weighted or not."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(5, 200)), int(rng.integers(1, 60))
    far = [0.0, 5.0, 300.0][seed % 3]     # farther, and 64 bits would not tell the losses apart
    X, y = data(n, d, seed, means=far)
    s = weights(n, seed) if seed % 2 else None
    fit_intercept = bool(seed % 4)
    l1 = l1_max(X, y, s, fit_intercept) * 10 ** rng.uniform(-3, 0.2)
    l2 = rng.choice([0.0, l1 * 10 ** rng.uniform(-6, 1)])
    m = moments(X, y, s)
    best = fg.fit(X, y, l1=l1, l2=l2, sample_weight=s, fit_intercept=fit_intercept)
    end = np.append(best.coef, best.intercept)[: d + fit_intercept]
    least = exact_loss(X, y, end, s, l1, l2)
    geometry = geometry_of(m, fit_intercept=fit_intercept, l2=l2, dtype=np.dtype(float), l1=l1)
    problem = ProblemOfMoments(m, geometry)
    gaps = []
    for distance in (0.0, 1e-9, 1e-6, 1e-3, 0.1, 1.0, 100.0):
        w = end + distance * (np.abs(end) + 0.1) * rng.standard_normal(len(end)) * (rng.uniform(size=len(end)) < 0.7)
        gaps.append(problem.gap(problem.at(w)))
        loss = exact_loss(X, y, w, s, l1, l2)
        assert loss - least <= gaps[-1] <= 2.1 * loss
    r = m.fit(l1=l1, l2=l2, fit_intercept=fit_intercept)
    mine = exact_loss(X, y, np.append(r.coef, r.intercept)[: d + fit_intercept], s, l1, l2)
    assert mine - least <= r.gap_bound
    if fit_intercept or far < 100:
        assert gaps[0] <= 1e-8 * least
        assert r.gap_bound <= 1e-8 * r.loss


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_gap_bound_counts_what_the_moments_do_not_hold(fit_intercept, l2):
    """A bound from a Gram matrix whose entries are off by so much holds for the right one."""
    X, y = data(200, 8, 2, means=2.0)
    m, l1 = moments(X, y), 0.05 * l1_max(X, y)
    best = fg.fit(X, y, l1=l1, l2=l2, fit_intercept=fit_intercept)
    least = exact_loss(X, y, np.append(best.coef, best.intercept)[: 8 + fit_intercept], None, l1, l2)
    lengths, rng = np.sqrt(m.gram.diagonal()), np.random.default_rng(0)
    for off in (1e-10, 1e-7, 1e-4):
        for _ in range(20):
            wrong = fg.Moments(8).merge(m)
            signs = np.triu(rng.choice([-1.0, 1.0], m.gram.shape))
            wrong.gram += 0.99 * off * np.outer(lengths, lengths) * (signs + np.triu(signs, 1).T)
            wrong.gram[-1, -1] = m.weight   # which is known
            geometry = geometry_of(wrong, fit_intercept=fit_intercept, l2=l2, dtype=np.dtype(float), l1=l1)
            r = wrong.fit(l1=l1, l2=l2, fit_intercept=fit_intercept)
            w = np.append(r.coef, r.intercept)[: 8 + fit_intercept]
            bound = gap_of_moments(geometry, wrong, w, *loss_and_grad(wrong, w, fit_intercept, l2), off)
            assert exact_loss(X, y, w, None, l1, l2) - least <= bound <= 1e4 * off * least


# ---- float32 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("given", [{}, {"l2": 0.3}, {"fit_intercept": False}], ids=str)
@pytest.mark.parametrize("means", [0.0, 3.0])
def test_moments_summed_in_float32(means, given, seed):
    X, y = data(5000, 6, seed, means=means, dtype=np.float32)
    m = moments(X, y)
    assert m.rounding > 1e-7
    l1, fit_intercept = 0.05 * l1_max(X, y), given.get("fit_intercept", True)
    r, best = fit(m, l1=l1, **given), fit(moments(X, y, dtype=np.float64), l1=l1, **given)
    least, mine = (
        exact_loss(X, y, np.append(e.coef, e.intercept)[: 6 + fit_intercept], None, l1, given.get("l2", 0.0))
        for e in (best, r)
    )
    assert r.converged
    assert mine - least <= r.gap_bound <= 1e-2 * r.loss
    assert mine <= least * (1 + 1e-6)


def test_moments_summed_in_float32_say_what_they_do_not_hold():
    """The loss is 10^-9 of the mean square of y, of which they have seven digits."""
    X, y = data(5000, 6, dtype=np.float32)
    y = X.astype(float) @ np.arange(1.0, 7.0) + 1e-4 * y
    narrow, wide = moments(X, y), moments(X, y, dtype=np.float64)
    with pytest.warns(fg.ConvergenceWarning, match="give Moments dtype=float64") as caught:
        r = narrow.fit(l1=1e-9)
    assert caught[0].filename == __file__
    assert not r.converged and "dtype=float64" in r.stop_reason
    assert r.gap_bound > 1e-2 * r.loss
    assert fit(wide, l1=1e-9).converged


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no rows yet"):
        fg.Moments(3).fit(l1=0.1)
