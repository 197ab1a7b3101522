"""Sparse rows: their kernels against the reference under the bounds of `bounds`, and all that is public against dense.

Kernels of sparse rows compute in double whatever the data is, so the bounds are those of double, but for the gradient
of float32 rows: that may be summed in float, a tile of rows at a time, as that of dense ones is.
"""

from __future__ import annotations

import itertools
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import bounds
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import lsqr
from strategies import Problem, make_problem, problems
from test_kernels import (
    LEVELS,
    assert_within,
    by_dtype,
    check_objective,
    eight_helpers,
    everywhere,
    many,
    running_at,
    shifts,
    variants,
)

import fastgd as fg
from fastgd import _blocks, _engine, _sparse, reference
from fastgd._csr import CSR
from fastgd._sparse import SparseBlock
from fastgd.solvers import choose

assert eight_helpers  # a fixture

INDEX = [np.int32, np.int64]
by_index = pytest.mark.parametrize("index", INDEX, ids=["int32", "int64"])


def compressed(X: np.ndarray, index: type, seed: int = 0, repeat: bool = False) -> CSR:
    """The matrix in CSR: rows in any order of columns, some zeros held; `repeat` splits entries in two."""
    rng = np.random.default_rng(seed)
    data, indices, indptr = [], [], [0]
    for row in X:
        columns = rng.permutation(np.flatnonzero((row != 0) | (rng.random(len(row)) < 0.1)))
        parts = rng.integers(-2, 3, len(columns)) if repeat else np.zeros(0, int)
        data += [row[columns[len(parts) :]], row[columns[: len(parts)]] - parts, parts]
        indices += [columns[len(parts) :], columns[: len(parts)], columns[: len(parts)]]
        indptr.append(sum(map(len, data)))
    return CSR(
        np.concatenate(data).astype(X.dtype), np.concatenate(indices).astype(index), np.array(indptr, index), X.shape[1]
    )


def ordered(X: CSR) -> CSR:
    """The same matrix with the columns of every row in ascending order."""
    rows = np.repeat(np.arange(len(X)), np.diff(X.indptr))
    order = np.lexsort([X.indices, rows])
    return CSR(X.data[order], X.indices[order], X.indptr, X.shape[1], ascending=True)


def thinned(problem: Problem, share: float = 0.4) -> Problem:
    """Most entries zero, the first and the last row empty."""
    held = np.random.default_rng(len(problem.y)).random(problem.X.shape) < share
    held[[0, -1]] &= len(problem.y) < 3
    return Problem(np.where(held, problem.X, 0).astype(problem.dtype), problem.y, problem.s, problem.w, problem.b)


def twin(X: CSR) -> list[list[float]]:
    return reference.dense_rows(X.data.astype(float).tolist(), X.indices.tolist(), X.indptr.tolist(), X.shape[1])


def random_rows(n: int, d: int, held: int, dtype: type = np.float64) -> sparse.csr_array:
    """Rows of `held` entries each, in any columns."""
    rng = np.random.default_rng(0)
    indptr = np.arange(0, n * held + 1, held, dtype=np.int32)
    return as_scipy(CSR(rng.standard_normal(n * held).astype(dtype), rng.integers(0, d, n * held, np.int32), indptr, d))


def as_scipy(X: CSR, kind: type = sparse.csr_array) -> sparse.csr_array:
    return kind((X.data, X.indices, X.indptr), shape=X.shape)


# ---- kernels ---------------------------------------------------------------------------------------------------------

SUM_KERNELS = {
    "value": (_sparse.add_value, True, 2),
    "gradient": (_sparse.add_sums, True, None),
    "curvature": (_sparse.add_curvature, False, None),
}


def blocks_of(problem: Problem) -> dict[str, SparseBlock]:
    mixed = {index.__name__: compressed(problem.X, index, seed) for seed, index in enumerate(INDEX)}
    matrices = mixed | {f"{name}, ascending": ordered(X) for name, X in mixed.items()}
    return {name: SparseBlock(X, problem.y, problem.s) for name, X in matrices.items()}


def check_sums(problem: Problem, kernel: str) -> None:
    add, targets, filled = SUM_KERNELS[kernel]
    X, y, s = problem.lists()
    y = y if targets else [0.0] * len(y)
    doubles, w = problem.doubles(), problem.w.tolist()
    residuals = np.array(reference.residuals(X, y, w, problem.b))
    expected = np.array(reference.gradient_sums(X, y, w, s, problem.b))
    lanes = np.dtype(np.float64 if filled else problem.dtype)
    bound = bounds.sums_bound(doubles[0], np.array(y), problem.w, doubles[2], problem.b, residuals, lanes)
    if filled:
        expected[filled:] = bound[filled:] = 0.0

    def run(block: SparseBlock) -> np.ndarray:
        out = np.zeros(len(w) + 2)
        add(block, problem.w, problem.b, out)
        return out

    assert_within(*everywhere(blocks_of(problem), run), expected, bound)


def check_columns(problem: Problem, kernel: str) -> None:
    X, y, s = problem.lists()
    for shift in shifts(problem):
        panel = np.array(reference.panel(X, y, s, shift.tolist()))
        z = np.array(reference.panel(X, y, None, shift.tolist()))
        n, order = panel.shape

        def run_columns(block: SparseBlock, shift: np.ndarray = shift, order: int = order) -> np.ndarray:
            out = np.zeros(2 * order)
            _sparse.add_columns(block, shift, out)
            return out

        def run_panel(block: SparseBlock, shift: np.ndarray = shift, shape: tuple = panel.shape) -> np.ndarray:
            out = np.full(shape, np.nan)
            for start in range(0, shape[0], 5):
                _sparse.fill_panel(block, start, shift, out[start : start + 5])
            return out

        if kernel == "panel":
            assert_within(*everywhere(blocks_of(problem), run_panel), panel, bounds.panel_bound(panel))
            continue
        # The weight of the rows that do not hold a column is a difference of sums of n weights each.
        rest = bounds.gamma(2 * n + 4) * problem.doubles()[2].sum() * np.abs(np.append(shift, 0.0))
        bound = bounds.columns_bound(panel, z) + np.concatenate([rest, rest * np.abs(np.append(shift, 0.0))])
        bound += bounds.TINY[np.dtype(np.float64)] * problem.doubles()[2].sum()  # of s (z z), if z z underflows
        expected = np.concatenate(reference.column_sums(X, y, s, shift.tolist()))
        assert_within(*everywhere(blocks_of(problem), run_columns), expected, bound)


def check_predictions(problem: Problem, _kernel: str) -> None:
    X, _, _ = problem.lists()
    nothing = [0.0] * len(X)
    expected = np.array(reference.residuals(X, nothing, problem.w.tolist(), problem.b))
    d = len(problem.w)
    size = np.abs(problem.doubles()[0]) @ np.abs(problem.w) + abs(problem.b)
    bound = (bounds.gamma(d + 2) + bounds.gamma(4)) * size + 2 * d * bounds.TINY[np.dtype(np.float64)]

    def run(block: SparseBlock) -> np.ndarray:
        out = np.full(len(block), np.nan)
        _sparse.predict(block, problem.w, problem.b, out)
        return out

    assert_within(*everywhere(blocks_of(problem), run), expected, bound)


CHECKS = {
    **dict.fromkeys(SUM_KERNELS, check_sums),
    "columns": check_columns,
    "panel": check_columns,
    "predictions": check_predictions,
}


@by_dtype
@pytest.mark.parametrize("kernel", CHECKS)
def test_kernels(kernel: str, dtype: type) -> None:
    @many
    @given(problems(dtype, most=800), st.sampled_from([0.1, 0.5, 1.0]))
    def holds(problem: Problem, share: float) -> None:
        problem = thinned(problem, share)
        for variant in variants(problem)[:: 1 if kernel in SUM_KERNELS else 2]:
            CHECKS[kernel](variant, kernel)

    holds()


@by_dtype
@pytest.mark.parametrize("d", [1, 3, 17, 200])
def test_kernels_of_many_rows(d: int, dtype: type) -> None:
    """More than a run of targets, and rows of every length up to d."""
    for n in (63, 64, 65, 300):
        problem = thinned(make_problem(n, d, dtype, seed=n, kind="fitted"), share=0.5)
        for kernel, check in CHECKS.items():
            check(problem, kernel)


@by_dtype
@by_index
def test_entries_that_repeat_a_column_add_up(index: type, dtype: type) -> None:
    """Exactly so: all are small integers."""
    problem = make_problem(150, 9, dtype, seed=3, kind="integers", scaled=False)
    problem = Problem(thinned(problem).X, np.rint(9 * problem.y), np.arange(150.0) % 3, problem.w, 2.0)
    X = compressed(problem.X, index, repeat=True)
    assert len(X.data) > np.count_nonzero(problem.X)
    assert twin(X) == problem.X.tolist()
    _, y, s = problem.lists()
    block, shift = SparseBlock(X, problem.y, problem.s), np.arange(10.0) % 3 - 1
    sums, columns, panel = np.zeros(11), np.zeros(22), np.zeros((150, 11))
    _sparse.add_sums(block, problem.w, problem.b, sums)
    _sparse.add_columns(block, shift, columns)
    _sparse.fill_panel(SparseBlock(X, problem.y), 0, shift, panel)
    assert sums.tolist() == reference.gradient_sums(twin(X), y, problem.w.tolist(), s, 2.0)
    assert columns.tolist() == [*itertools.chain(*reference.column_sums(twin(X), y, s, shift.tolist()))]
    assert panel.tolist() == reference.panel(twin(X), y, None, shift.tolist())
    _sparse.add_sums(block, problem.w, problem.b, sums)
    assert sums.tolist() == [2 * entry for entry in reference.gradient_sums(twin(X), y, problem.w.tolist(), s, 2.0)]


@by_index
@pytest.mark.parametrize("level", LEVELS)
def test_rows_shorter_than_a_vector_take_nothing_from_their_neighbours(level: str, index: type) -> None:
    """Where the last vector of a row reaches into the next row, whatever stands there counts as zero."""
    for dtype, length, strange in itertools.product((np.float32, np.float64), range(6), (np.nan, np.inf)):
        columns = np.concatenate([np.arange(length), np.arange(6, 12)]).astype(index)
        X = CSR(np.ones(length + 6, dtype), columns, np.array([0, length, length + 6], index), 12)
        X.data[length:], w = strange, np.ones(12)
        w[6:] = strange
        sums, out = np.zeros(14), np.zeros(2)
        with running_at(level):
            _sparse.add_sums(SparseBlock(X), w, 0.0, sums)
            _sparse.predict(SparseBlock(X), w, 0.0, out)
        assert out[0] == length
        assert sums[2:8].tolist() == [length] * length + [0] * (6 - length)
        assert not np.isfinite(sums[8:]).any()


@pytest.mark.parametrize("level", LEVELS)
def test_short_float_rows_of_many_columns_are_summed_in_double(level: str) -> None:
    """To carry the sums of a tile into double would take longer than to sum its few entries there."""
    n, d = 900, 1500
    columns = (np.arange(n)[:, None] + 500 * np.arange(3)) % d
    data = np.random.default_rng(0).standard_normal(3 * n).astype(np.float32)
    X = CSR(data, columns.ravel(), np.arange(0, 3 * n + 1, 3), d)
    y, w = np.random.default_rng(1).standard_normal(n), np.random.default_rng(2).standard_normal(d)
    sums, dense, ones = np.zeros(d + 2), np.array(twin(X)), np.ones(n)
    with running_at(level):
        _sparse.add_sums(SparseBlock(X, y), w, 0.5, sums)
    r = np.array(reference.residuals(dense.tolist(), y.tolist(), w.tolist(), 0.5))
    expected = np.array(reference.gradient_sums(dense.tolist(), y.tolist(), w.tolist(), ones.tolist(), 0.5))
    bound = bounds.sums_bound(dense, y, w, ones, 0.5, r, np.dtype(np.float64))
    assert not bounds.outside(sums, expected, bound).any()


@pytest.mark.parametrize("level", LEVELS)
def test_float_sums_are_carried_in_double_over_many_rows(level: str) -> None:
    """Summed in float alone, a million terms of one sign lose the fifth digit."""
    n = 1_000_000
    rng = np.random.default_rng(0)
    values = (100 + rng.standard_normal((n, 2))).astype(np.float32)
    X = CSR(values.ravel(), np.tile(np.arange(2, dtype=np.int32), n), np.arange(0, 2 * n + 1, 2, dtype=np.int32), 2)
    w, sums = np.array([0.5, 0.25]), np.zeros(4)
    with running_at(level):
        _sparse.add_sums(SparseBlock(X), w, 0.0, sums)
    wide = values.astype(np.float64)
    exact = wide.T @ (wide @ w)
    assert np.abs(sums[2:] / exact - 1).max() <= 1e-6
    alone = np.cumsum(values[:, 0] * (wide @ w).astype(np.float32), dtype=np.float32)[-1]
    assert abs(alone / exact[0] - 1) > 1e-5


@by_index
@pytest.mark.parametrize("level", LEVELS)
def test_what_indices_are_like(level: str, index: type) -> None:
    """What may be scattered together is found out from the indices, whatever a matrix says of itself."""
    indptr = np.array([0, 12, 12, 31], index)
    rows = np.concatenate([np.arange(0, 24, 2), np.arange(19)]).astype(index)

    def found(place: int, column: int) -> int:
        indices = rows.copy()
        indices[place] = column
        return _sparse.examine(CSR(np.ones(31), indices, indptr, 24))

    with running_at(level):
        assert found(0, 0) == _sparse.ASCENDING
        assert found(11, 23) == _sparse.ASCENDING
        for place, column in [(7, 16), (7, 12), (11, 20), (0, 2), (12, 1), (30, 17), (29, 18)]:
            assert found(place, column) == _sparse.INSIDE
        for place, column in [(0, -1), (11, 24), (30, 24), (7, 2**31 - 1), (15, -(2**31))]:
            assert found(place, column) == _sparse.OUTSIDE


@by_dtype
def test_a_full_column_of_large_mean_loses_no_digits(dtype: type) -> None:
    """About a shift near the mean, squares are those of the deviations: rows that lack the column are none."""
    n = 500
    rng = np.random.default_rng(0)
    X = np.column_stack([2.0**26 + rng.integers(-4, 5, n) * 8, rng.integers(0, 2, n)]).astype(dtype)
    s = rng.uniform(0.5, 1.5, n)
    out, shift = np.zeros(8), np.array([2.0**26, 0.0, 0.0])
    _sparse.add_columns(SparseBlock(compressed(X, np.int32), np.zeros(n), s), shift, out)
    exact = reference.column_sums(X.astype(float).tolist(), [0.0] * n, s.tolist(), shift.tolist())
    np.testing.assert_allclose(out, np.concatenate(exact), rtol=n * 2.0**-52)


def test_bounds_catch_wrong_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = thinned(make_problem(40, 5, np.float64, seed=8, scaled=False))
    for kernel, check in CHECKS.items():
        check(problem, kernel)
        with monkeypatch.context() as patch:
            for name in ("add_value", "add_sums", "add_curvature", "add_columns", "fill_panel", "predict"):
                right = getattr(_sparse, name)

                def wrong(block: SparseBlock, *arguments: object, right: Callable = right) -> None:
                    right(block, *arguments)
                    arguments[-1].flat[1] *= 1 + 1e-12

                patch.setattr(_sparse, name, wrong)
                if kernel in SUM_KERNELS and SUM_KERNELS[kernel][0].__name__ == name:
                    patch.setitem(SUM_KERNELS, kernel, (wrong, *SUM_KERNELS[kernel][1:]))
            with pytest.raises(AssertionError, match="entries are off"):
                check(problem, kernel)


# ---- what is public --------------------------------------------------------------------------------------------------


@dataclass
class Plain:
    """The four attributes, and no class of SciPy's."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]


def sources(X: np.ndarray) -> dict[str, object]:
    """The same matrix in every form that is taken."""
    rows = {index.__name__: compressed(X, index, seed=5) for index in INDEX}
    some = rows["int32"]
    read_only = [array.copy() for array in some.arrays]
    for array in read_only:
        array.setflags(write=False)
    bytes_ = np.zeros(some.data.nbytes + 1, np.uint8)
    unaligned = bytes_[1:].view(X.dtype)
    unaligned[:] = some.data
    matrix = as_scipy(some).copy()  # conversions sort the rows of what they are given
    longer = [np.append(array, array[:1]) for array in (some.data, some.indices)]
    swapped = [array.astype(array.dtype.newbyteorder()) for array in some.arrays]
    return {
        **{name: as_scipy(rows[name]) for name in rows},
        "matrix": as_scipy(some, sparse.csr_matrix),
        "plain": Plain(*some.arrays, X.shape),
        "indptr int64": Plain(some.data, some.indices, some.indptr.astype(np.int64), X.shape),
        "indices int64": Plain(some.data, some.indices.astype(np.int64), some.indptr, X.shape),
        "unsigned": Plain(some.data, some.indices.astype(np.uint16), some.indptr.astype(np.uint64), X.shape),
        "read-only": Plain(*read_only, X.shape),
        "unaligned data": Plain(unaligned, some.indices, some.indptr, X.shape),
        "strided": Plain(*(np.repeat(array, 2)[::2] for array in some.arrays), X.shape),
        "backwards": Plain(*(array[::-1].copy()[::-1] for array in some.arrays), X.shape),
        "swapped": Plain(*swapped, X.shape),
        "with more entries than rows have": Plain(*longer, some.indptr, X.shape),
        **{form: matrix.asformat(form) for form in ("csc", "coo", "bsr", "lil", "dok")},
    }


@by_dtype
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (40, 5), (12, 90)])
def test_objective(shape: tuple[int, int], fit_intercept: bool, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one block, in many, and converted a few entries at a time."""
    problem = thinned(make_problem(*shape, dtype, seed=2))
    for variant, (block, piece) in zip(variants(problem), [(1 << 21, 1 << 19), (64, 64)] * 2, strict=True):
        monkeypatch.setattr(_blocks, "BLOCK_BYTES", block)
        monkeypatch.setattr(_blocks, "SUMS_SHARE", 50 if block > 64 else 1)
        monkeypatch.setattr(_blocks, "PIECE_BYTES", piece)
        given = {name: (X, variant.y, variant.s) for name, X in sources(variant.X).items()}
        given["swapped y"] = (as_scipy(compressed(variant.X, np.int32)), variant.y.astype(">f8"), variant.s)
        for l2 in (0.0, 0.3):
            check_objective(variant, given, l2, fit_intercept)
    assert len(fg.MSE(given["int32"][0], problem.y).blocks) > 1 or shape[0] == 1


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.bool_, np.float16, np.longdouble])
def test_data_of_other_dtypes(dtype: type) -> None:
    problem = thinned(make_problem(30, 6, np.float64, seed=1, scaled=False))
    X = (20 * np.abs(problem.X)).astype(dtype)
    narrow = dtype is np.float16
    same = Problem(X.astype(np.float32 if narrow else np.float64), problem.y, problem.s, problem.w, problem.b)
    rows = compressed(X, np.int32)
    check_objective(same, {"plain": (Plain(*rows.arrays, X.shape), same.y, same.s)}, 0.0, True)


@by_dtype
@by_index
def test_nothing_is_copied_or_changed(index: type, dtype: type) -> None:
    rows = compressed(thinned(make_problem(30, 6, dtype, seed=1)).X, index)
    before = [array.tobytes() for array in rows.arrays]
    X = as_scipy(rows)
    p = fg.MSE(X, np.ones(30))
    for ours, theirs in zip(p.X.arrays, (X.data, X.indices, X.indptr), strict=True):
        assert np.shares_memory(ours, theirs)
    p.grad(np.ones(6))
    fg.fit(X, np.ones(30), solver="moments").predict(X)
    assert [array.tobytes() for array in rows.arrays] == before
    X.data *= 2
    np.testing.assert_array_equal(p.grad(np.ones(6)), fg.mse_grad(X, np.ones(30), np.ones(6)))


@by_dtype
def test_against_scipy(dtype: type) -> None:
    rng = np.random.default_rng(0)
    X = sparse.random_array((3000, 400), density=0.02, format="csr", dtype=dtype, random_state=0)
    y, w = rng.standard_normal(3000), rng.standard_normal(400)
    expected = 2 / 3000 * (X.T @ (X @ w - y))
    tolerance = {"rtol": 1e-5, "atol": 1e-7} if dtype is np.float32 else {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(fg.mse_grad(X, y, w), expected, **tolerance)
    np.testing.assert_allclose(fg.mse(X, y, w), np.mean((X @ w - y) ** 2), rtol=1e-10)
    for solver in ("moments", "auto"):
        r = fg.fit(X, y, solver=solver, fit_intercept=False)
        exact = lsqr(X.astype(float), y, atol=1e-14, btol=1e-14, iter_lim=5000)[0]
        np.testing.assert_allclose(r.coef, exact, rtol=1e-3 if dtype is np.float32 else 1e-8, atol=1e-6)
        assert r.converged
        np.testing.assert_allclose(r.predict(X), X @ r.coef, rtol=1e-4, atol=1e-6)
        assert r.predict(X).dtype == dtype


@by_dtype
@pytest.mark.parametrize("solver", ["moments", "gd"])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_fit_is_that_of_the_dense_matrix(fit_intercept: bool, solver: str, dtype: type) -> None:
    """Also with empty columns, a constant one and one of a large mean."""
    problem = make_problem(200, 12, dtype, seed=7, scaled=False)
    X = thinned(problem).X
    X[:, 3] = 0
    X[:, 5] = 1
    X[:, 7] = 30 + problem.X[:, 7]
    options = {
        "solver": solver, "fit_intercept": fit_intercept, "sample_weight": problem.s, "l2": 0.01, "max_iter": 4,
        "tol": 0 if solver == "gd" else None,
    }
    expected = fg.fit(X, problem.y, **options)
    r = fg.fit(as_scipy(compressed(X, np.int64)), problem.y, **options)
    rtol = 1e-3 if dtype is np.float32 else 1e-8
    np.testing.assert_allclose(r.coef, expected.coef, rtol=rtol, atol=rtol)
    assert r.loss == pytest.approx(expected.loss, rel=rtol)
    if solver == "moments":
        assert r.converged
        assert r.gap_bound == pytest.approx(expected.gap_bound, abs=1e-9 * r.loss)
    else:
        assert r.optimality == pytest.approx(expected.optimality, rel=10 * rtol)
    np.testing.assert_allclose(
        r.predict(as_scipy(compressed(X, np.int32))), r.predict(X), rtol=rtol, atol=rtol
    )


def test_moments_take_sparse_and_dense_parts_together() -> None:
    problem = make_problem(300, 6, np.float64, seed=3, kind="integers", scaled=False)
    X, y = thinned(problem).X, np.rint(9 * problem.y)
    parts = [slice(0, 100), slice(100, 250), slice(250, 300)]
    m = fg.Moments(6)
    for k, part in enumerate(parts):
        m.update(X[part] if k == 1 else as_scipy(compressed(X[part], np.int32)), y[part])
    exact = reference.moments(X.tolist(), y.tolist())
    assert m.about(np.zeros(7)).tolist() == exact
    wide = make_problem(90, 70, np.float64, seed=3, kind="integers", scaled=False)
    m = fg.Moments(70).update(as_scipy(compressed(wide.X, np.int32)), np.rint(wide.y))
    assert m.about(np.zeros(71)).tolist() == reference.moments(wide.X.tolist(), np.rint(wide.y).tolist())


def test_auto_fills_in_zeros_only_where_they_are_few() -> None:
    y = np.ones(20_000)
    for d, held, solver in [(20, 2, "moments"), (1_000, 50, "moments"), (20_000, 2, "cg")]:
        assert choose(fg.MSE(random_rows(len(y), d, held), y)).solver == solver


def test_empty_columns_are_no_underflow() -> None:
    """And a column of numbers too small to square is, on sparse rows as on dense ones."""
    X = np.zeros((50, 4))
    X[:, 0], X[::3, 2] = np.arange(50), 1e-170
    y = np.arange(50.0)
    for solver in ("moments", "gd"):
        r = fg.fit(as_scipy(compressed(X[:, :2], np.int32)), y, solver=solver, max_iter=20_000)
        assert r.coef.tolist() == pytest.approx([1.0, 0.0], rel=1e-4)
        with pytest.raises(OverflowError, match="the squares of column 2 of X are too small"):
            fg.fit(as_scipy(compressed(X, np.int32)), y, solver=solver)


def test_a_matrix_without_entries() -> None:
    X = sparse.csr_array((30, 4))
    y = np.arange(30.0)
    for solver in ("auto", "moments", "gd"):
        r = fg.fit(X, y, solver=solver)
        assert r.coef.tolist() == [0.0] * 4
        assert r.intercept == pytest.approx(14.5)
    assert fg.mse(X, y, np.ones(4)) == pytest.approx(np.mean(y**2))


# ---- blocks and pieces -----------------------------------------------------------------------------------------------


@by_dtype
@pytest.mark.usefixtures("eight_helpers")
def test_bits_do_not_depend_on_threads(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    X = random_rows(60_000, 500, 50, dtype)
    y, w = np.random.default_rng(0).standard_normal((2, 60_000))
    results = set()
    for n_threads in (1, 2, 3, 8):
        p = fg.MSE(X, y, n_threads=n_threads)
        assert len(p.blocks) > 8
        assert p.blocks[0].X.nbytes * len(p.blocks) > _engine.SHARED_BYTES
        assert len(p.blocks) * 8 * 502 <= X.data.nbytes // 50
        loss, gradient = p.value_and_grad(w[:500])
        results.add((loss.hex(), gradient.tobytes(), p.hessp(w[:500]).tobytes()))
    assert len(results) == 1


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 40), st.integers(0, 30))
def test_parts_cover_all_rows_and_are_no_larger_than_asked(lengths: list[int], most: int, first: int) -> None:
    indptr = np.cumsum([0, *lengths]).astype(np.int32)
    X = CSR(np.ones(indptr[-1]), np.zeros(indptr[-1], np.int32), indptr, 1)[min(first, len(lengths) - 1) :]
    cuts = list(X.cuts(most))
    assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])]
    assert cuts[-1][1] == len(X)
    for start, stop in cuts:
        assert stop - start == 1 or (len(X[start:stop].data) <= most and stop - start <= most)
    for place in range(len(X.data)):
        row = X.row_of(place)
        assert X.indptr[row] <= place + X.indptr[0] < X.indptr[row + 1]


@by_dtype
def test_pieces_add_up_to_the_block(dtype: type) -> None:
    """A long block is summed in pieces, between which Ctrl-C is heard."""
    n, m = 700_000, 4
    rng = np.random.default_rng(0)
    indptr = np.arange(0, n * m + 1, m)
    X = CSR(rng.integers(-2, 3, n * m).astype(dtype), rng.integers(0, 5, n * m), indptr, 5)
    y = rng.integers(-2, 3, n).astype(dtype)
    w = rng.integers(-2, 3, 5).astype(float)
    block = SparseBlock(X, y)
    pieces = list(block.pieces())
    assert len(pieces) > 1
    assert sum(map(len, pieces)) == n
    whole, parts = np.zeros((2, 7))
    _sparse.add_sums(block, w, 1.0, whole)
    for piece in pieces:
        _sparse.add_sums(piece, w, 1.0, parts)
    matrix = as_scipy(X).astype(np.int64)
    r = matrix @ w.astype(int) + 1 - y.astype(int)
    assert whole.tolist() == parts.tolist() == [r @ r, r.sum(), *(matrix.T @ r)]


def test_a_fit_takes_little_memory_beside_the_data() -> None:
    X = random_rows(400_000, 100, 10)
    y = np.ones(400_000)
    p = fg.MSE(X, y, n_threads=1)
    p.grad(np.zeros(100))
    tracemalloc.start()
    fg.MSE(X, y, n_threads=1).grad(np.zeros(100))
    fg.fit(X, y, solver="gd", max_iter=2, tol=0, n_threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 0.02 * (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes)


def test_doors_check_what_they_are_given() -> None:
    X = compressed(np.ones((4, 3)), np.int32)
    for wrong in (
        CSR(X.data[::2], X.indices[::2], X.indptr // 2, 3),
        CSR(X.data.astype(int), X.indices, X.indptr, 3),
        CSR(X.data, X.indices, X.indptr.astype(np.int64), 3),
        CSR(X.data[:-1], X.indices, X.indptr, 3),
    ):
        with pytest.raises(ValueError, match="SparseBlock takes"):
            SparseBlock(wrong)
    block = SparseBlock(X)
    for refused in (
        lambda: SparseBlock(X, np.ones(3)),
        lambda: SparseBlock(X, np.ones(4), np.ones(5)),
        lambda: _sparse.add_sums(block, np.ones(2), 0.0, np.zeros(5)),
        lambda: _sparse.add_value(block, np.ones(3), 0.0, np.zeros(4)),
        lambda: _sparse.predict(block, np.ones(3), 0.0, np.zeros(3)),
        lambda: _sparse.add_columns(block, np.zeros(4), np.zeros(9)),
        lambda: _sparse.fill_panel(block, 2, np.zeros(4), np.zeros((3, 5))),
    ):
        with pytest.raises(ValueError, match=r"takes|beyond"):
            refused()
    for call in (_sparse.add_sums, _sparse.predict):
        with pytest.raises(TypeError):
            call(SimpleNamespace(), np.ones(3), 0.0, np.zeros(5))
