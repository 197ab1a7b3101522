"""Exact fits of short blocks in one compiled call, held against the long way in Python, which stays the reference."""

import numpy as np
import pytest

import fastgd as fg
from fastgd import _exact, _kernels
from fastgd._rows import RowBlock
from fastgd.solvers import moments

EPS = np.finfo(float).eps


def data(n, d, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * rng.uniform(0.1, 100, d) + rng.uniform(-50, 50, d)
    return X.astype(dtype), X @ rng.standard_normal(d) + 10 * rng.standard_normal(n)


def both_ways(monkeypatch, X, y, **given):
    """The fit at once, and the long way's; and whether the first one was one."""
    calls = []

    def counted(*args):
        calls.append(solve(*args))
        return calls[-1]

    solve = _exact.solve
    with monkeypatch.context() as patch:
        patch.setattr(_exact, "solve", counted)
        first = fg.fit(X, y, solver="moments", **given)
        patch.setattr(moments, "is_short", lambda objective: False)
        second = fg.fit(X, y, solver="moments", **given)
    return first, second, [found is not None for found in calls]


def assert_same(first, second, X):
    """To rounding, which refinement leaves 1e-12 of in predictions (float64), or 4 eps (float32)."""
    rtol = float(4 * np.finfo(X.dtype).eps) if X.dtype == np.float32 else 1e-11
    reach = np.abs(X).max(axis=0)
    largest = float(np.abs(reach * second.coef).max())
    np.testing.assert_allclose(reach * first.coef, reach * second.coef, rtol=0, atol=rtol * largest)
    assert first.intercept == pytest.approx(second.intercept, rel=rtol, abs=rtol * largest)
    assert first.loss == pytest.approx(second.loss, rel=1e-12)
    assert first.gap_bound == pytest.approx(second.gap_bound, rel=1e-6, abs=8 * EPS * second.loss)
    assert first.optimality == pytest.approx(second.optimality, rel=1e-3, abs=1e-10)
    assert (first.converged, first.stop_reason, first.solver) == (second.converged, second.stop_reason, second.solver)
    for name in ("loss", "grad_norm"):
        assert first.history[name][0] == pytest.approx(second.history[name][0], rel=1e-12)
    assert len(first.history["seconds"]) == first.n_iter + 1 == first.n_passes


@pytest.mark.parametrize("d", [1, 2, 3, 4, 7, 8, 9, 10, 16, 17, 33, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("given", [{}, {"l2": 0.3}, {"weighted": True}, {"weighted": True, "l2": 1e-3}], ids=str)
def test_it_is_the_long_way(monkeypatch, d, dtype, fit_intercept, given):
    X, y = data(500, d, dtype)
    given = dict(given)
    if given.pop("weighted", False):
        given["sample_weight"] = np.random.default_rng(1).uniform(0.1, 3.0, 500)
    first, second, at_once = both_ways(monkeypatch, X, y, fit_intercept=fit_intercept, **given)
    assert at_once == [True]
    assert_same(first, second, X)


@pytest.mark.parametrize("order", ["C", "F", "strided", "backwards"])
@pytest.mark.parametrize("target", [np.float32, np.float64])
def test_any_layout(monkeypatch, order, target):
    X, y = data(300, 12)
    X = {"C": X, "F": np.asfortranarray(X), "strided": np.repeat(X, 2, 1)[:, ::2], "backwards": X[::-1]}[order]
    first, second, at_once = both_ways(monkeypatch, X, y.astype(target))
    assert at_once == [True]
    assert_same(first, second, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_level_of_instruction_sets(dtype):
    X, y = data(300, 12, dtype)
    before, fits = _kernels.current, []
    try:
        for level in _kernels.available():
            _kernels.use(level)
            fits.append(fg.fit(X, y, solver="moments"))
    finally:
        _kernels.use(before)
    assert all(one.converged for one in fits)
    # A pass rounds a residual by eps of the terms it is the sum of.
    reach = np.linalg.norm(np.abs(X).max(axis=0) * fits[0].coef) / np.sqrt(fits[0].loss)
    for one in fits[1:]:
        assert one.loss == pytest.approx(fits[0].loss, rel=float(2 * np.finfo(dtype).eps * reach))


def test_a_start_is_where_the_history_starts(monkeypatch):
    X, y = data(200, 5)
    w0 = np.random.default_rng(2).standard_normal(6)
    first, second, _ = both_ways(monkeypatch, X, y, w0=w0)
    assert_same(first, second, X)
    assert first.history["loss"][0] == pytest.approx(np.mean((X @ w0[:-1] + w0[-1] - y) ** 2), rel=1e-12)


def test_columns_at_small_angles_are_refined(monkeypatch):
    """Cosines of 1e-5 between columns: one solution by Cholesky is not enough, a second corrects it."""
    X, y = data(400, 6)
    X[:, 3:] = X[:, :3] + 1e-4 * X[:, 3:]
    first, second, at_once = both_ways(monkeypatch, X, y)
    assert at_once == [True]
    assert first.n_iter == second.n_iter >= 1
    assert first.loss == pytest.approx(second.loss, rel=1e-9)


def test_rows_that_are_fitted_exactly(monkeypatch):
    X, _ = data(100, 4)
    first, second, at_once = both_ways(monkeypatch, X, X @ [1.0, -2.0, 3.0, 0.5] + 7.0)
    assert at_once == [True]
    assert first.optimality == second.optimality == 0.0
    assert first.converged
    np.testing.assert_allclose(first.coef, [1.0, -2.0, 3.0, 0.5], rtol=1e-12)


IRREGULAR = {
    "a constant column": lambda X: np.column_stack([X, np.full(len(X), 3.0)]),
    "a column twice": lambda X: X[:, [0, 1, 1]],
    "a sum": lambda X: np.column_stack([X, X.sum(axis=1)]),
    "nearly a sum": lambda X: np.column_stack([X, X.sum(axis=1) * (1 + 3e-7 * np.cos(np.arange(len(X))))]),
    "zeros": lambda X: np.column_stack([X, np.zeros(len(X))]),
}


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_what_is_not_regular_goes_the_long_way(monkeypatch, kind, fit_intercept):
    X, y = data(200, 3)
    first, second, at_once = both_ways(monkeypatch, IRREGULAR[kind](X), y, fit_intercept=fit_intercept)
    assert at_once == ([fit_intercept is False] if kind == "a constant column" else [False])
    np.testing.assert_allclose(first.coef, second.coef, rtol=1e-9, atol=1e-12 * np.abs(second.coef).max())
    assert first.n_passes == second.n_passes


def test_long_and_wide_blocks_go_the_long_way(monkeypatch):
    for X, y in (data(300, 65), data(5000, 64), data(4096, 3, np.float32)):
        assert both_ways(monkeypatch, X, y)[2] == []
    X, y = data(300, 5)
    assert both_ways(monkeypatch, X.astype(">f8"), y)[2] == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["X", "y"])
def test_what_is_not_finite_is_named(place, value):
    X, y = data(100, 4)
    (X if place == "X" else y)[7] = value
    with pytest.raises(ValueError, match=f"{place} holds {value}"):
        fg.fit(X, y)


def test_a_gradient_beyond_float32_is_an_error_both_ways(monkeypatch):
    X, y = data(100, 2, np.float32)
    with pytest.raises(OverflowError, match="overflow"):
        fg.fit(X * np.float32(1e15), y * 1e30, w0=[1e15, 0.0, 0.0])
    monkeypatch.setattr(moments, "is_short", lambda objective: False)
    with pytest.raises(OverflowError, match="overflow"):
        fg.fit(X * np.float32(1e15), y * 1e30, w0=[1e15, 0.0, 0.0])


def test_a_door_that_was_given_the_wrong_sizes_says_so():
    X, y = data(20, 3)
    block, limits = RowBlock(X, y), (0.0, 1e3, 1e-9, 1e-12, 1e-12, 1e-3, 1e-5, 2)
    gram, shift, w0 = np.eye(5), np.zeros(4), np.zeros(4)
    for wrong in ((shift[:3], gram, w0), (shift, gram[:4], w0), (shift, np.eye(4), w0), (shift, gram, w0[:3])):
        with pytest.raises(ValueError, match="a block of 3 columns"):
            _exact.solve(block, *wrong, True, 0.0, limits)
    with pytest.raises(ValueError, match="refinements are at most 6"):
        _exact.solve(block, shift, gram, w0, True, 0.0, (*limits[:-1], 7))
