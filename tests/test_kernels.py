"""Every kernel against its twin in `fastgd.reference`, under the rounding error bounds of `bounds`.

Kernel x dtype x layout x weights x intercept x instruction-set level: Hypothesis draws the problem, and each problem
goes through all the rest. No bound here is a number that was tuned: `bounds` counts the roundings.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import bounds
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import LAYOUTS, SIZES, Problem, make_problem, problems

import fastgd as fg
from fastgd import _blocks, _cpu, _engine, _kernels, _moments, _mse, _rows, reference
from fastgd._blocks import row_blocks
from fastgd._engine import sum_blocks
from fastgd._rows import RowBlock

DTYPES = [np.float32, np.float64]
LEVELS = _kernels.available()

by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def running_at(level: str) -> Iterator[None]:
    """Kernels of one instruction-set level."""
    before = _kernels.current
    _kernels.use(level)
    try:
        yield
    finally:
        _kernels.use(before)


@contextmanager
def reading_places(count: int) -> Iterator[None]:
    """Blocks that are read in so many places at once."""
    _rows.use_streams(count)
    try:
        yield
    finally:
        _rows.use_streams(_cpu.streams)


def everywhere(blocks: dict[str, object], run: Callable[[object], np.ndarray]) -> tuple[list[str], np.ndarray]:
    """What `run` makes of each block at each level, and which is which."""
    names, results = [], []
    for level in LEVELS:
        with running_at(level):
            for layout, block in blocks.items():
                names.append(f"{level}, {layout}")
                results.append(run(block))
    return names, np.array(results)


def assert_within(names: list[str], computed: np.ndarray, expected: np.ndarray, bound: np.ndarray) -> None:
    """Every row of `computed` is within the bound of `expected`."""
    bad = bounds.outside(computed, expected, bound)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise AssertionError(
            f"{names[place[0]]}: entry {place[1:]} is {computed[place]!r}, not {expected[place[1:]]!r} "
            f"to within {bound[place[1:]]:.3g}; {int(bad.sum())} of {bad.size} entries are off"
        )


def row_block(problem: Problem, layout: str) -> RowBlock:
    lay_out = LAYOUTS[layout]
    return RowBlock(lay_out(problem.X), lay_out(problem.y), None if problem.s is None else lay_out(problem.s))


def variants(problem: Problem) -> list[Problem]:
    """With and without weights, with and without an intercept."""
    return [p for q in (problem, problem.unweighted()) for p in (q, q.without_intercept())]


# ---- sums of residuals: value, gradient, curvature -------------------------------------------------------------------


def expected_sums(problem: Problem, targets: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The oracle's sums, and the bound of a kernel that computes in the precision of X."""
    X, y, s = problem.lists()
    y = y if targets else [0.0] * len(y)
    w = problem.w.tolist()
    residuals = np.array(reference.residuals(X, y, w, problem.b))
    doubles = problem.doubles()
    return np.array(reference.gradient_sums(X, y, w, s, problem.b)), bounds.sums_bound(
        doubles[0], np.array(y), problem.w, doubles[2], problem.b, residuals, problem.dtype
    )


#: name: kernel, whether it takes targets, how many of its sums it fills
SUM_KERNELS = {
    "value": (_mse.add_value, True, 2),
    "gradient": (_mse.add_sums, True, None),
    "curvature": (_mse.add_curvature, False, None),
}


def check_sums(kernel: str, problem: Problem, layouts: tuple[str, ...] = tuple(LAYOUTS)) -> None:
    add, targets, filled = SUM_KERNELS[kernel]
    expected, bound = expected_sums(problem, targets)
    if filled:
        expected[filled:] = bound[filled:] = 0.0

    def run(block: RowBlock) -> np.ndarray:
        out = np.zeros(problem.X.shape[1] + 2)
        add(block, problem.w, problem.b, out)
        return out

    blocks = {name: row_block(problem, name) for name in layouts}
    with reading_places(5 - _cpu.streams):  # 4 where this CPU takes 1, and 1 where it takes 4
        blocks |= {f"{name}, in other streams": row_block(problem, name) for name in layouts[:2]}
    names, computed = everywhere(blocks, run)
    assert_within(names, computed, expected, bound)


@by_dtype
@pytest.mark.parametrize("kernel", SUM_KERNELS)
def test_sums(kernel: str, dtype: type) -> None:
    @many
    @given(problems(dtype, most=1500))
    def holds(problem: Problem) -> None:
        for variant in variants(problem):
            check_sums(kernel, variant)

    holds()


@by_dtype
@pytest.mark.parametrize("d", SIZES)
def test_sums_of_every_size(d: int, dtype: type) -> None:
    """All pairs of sizes, but for those whose reference takes seconds; their weights and intercepts take turns."""
    for turn, n in enumerate(n for n in SIZES if n * d <= 20_000):
        problem = variants(make_problem(n, d, dtype, seed=turn, kind="fitted" if turn % 3 else "gaussian"))[turn % 4]
        for kernel in ("value", "gradient") if turn % 2 else ("gradient", "curvature"):
            check_sums(kernel, problem)


@by_dtype
@pytest.mark.parametrize("n", [255, 256, 257, 511, 513, 1023, 1024, 1025, 2049, 4099])
@pytest.mark.parametrize("d", [1, 2, 3, 8, 9])
def test_sums_of_several_tiles(n: int, d: int, dtype: type) -> None:
    check_sums("gradient", make_problem(n, d, dtype, seed=1))
    check_sums("value", make_problem(n, d, dtype, seed=2), ("C", "Fortran", "strided"))


@by_dtype
@pytest.mark.parametrize("columns", [1, 3, 20, 300])
def test_float_rows_are_carried_in_double(columns: int, dtype: type) -> None:
    """Equal rows, whose sum loses a little every time if it is carried in float."""
    n = 100_000 // columns
    X = np.tile(np.linspace(0.1, 0.3, columns, dtype=dtype), (n, 1))
    problem = Problem(X, np.full(n, -0.7, dtype), None, np.full(columns, 0.3), 0.1)
    check_sums("gradient", problem, ("C", "Fortran", "strided"))


@by_dtype
@pytest.mark.parametrize("shape", [(2_400_000, 2), (4_700_000, 1), (30_000, 160)])
def test_long_passes_of_integers_are_exact(shape: tuple[int, int], dtype: type) -> None:
    """More than a chunk between two looks at Ctrl-C (16 MiB), of numbers so small that nothing is ever rounded."""
    rng = np.random.default_rng(7)
    X, y = rng.integers(-2, 3, shape).astype(dtype), rng.integers(-2, 3, shape[0]).astype(dtype)
    s, w, b = rng.integers(0, 3, shape[0]), rng.integers(-1, 2, shape[1]).astype(np.float64), 2
    r = X.astype(np.int64) @ w.astype(np.int64) + b - y.astype(np.int64)
    expected = [np.sum(s * r * r), np.sum(s * r), *((s * r) @ X.astype(np.int64))]
    for order in "CF":
        block = RowBlock(np.asarray(X, order=order), y, s.astype(dtype))
        assert X.nbytes > 1 << 24
        out = np.zeros(shape[1] + 2)
        _mse.add_sums(block, w, b, out)
        assert out.tolist() == expected
        out = np.zeros(shape[1] + 2)
        _mse.add_value(block, w, b, out)
        assert out.tolist() == [*expected[:2], *[0] * shape[1]]


@by_dtype
@pytest.mark.parametrize("kernel", SUM_KERNELS)
def test_sums_are_added_to_what_is_there(kernel: str, dtype: type) -> None:
    """Two halves added to one vector of sums are the sums of the whole, exactly so for small integers."""
    add, _, filled = SUM_KERNELS[kernel]
    for d in (1, 3, 8, 9, 17, 200):
        problem = make_problem(40, d, dtype, seed=d, kind="integers", scaled=False)
        y = np.rint(problem.y)
        whole, halves = np.full(d + 2, 5.0), np.full(d + 2, 5.0)
        add(RowBlock(problem.X, y), problem.w, 1.0, whole)
        add(RowBlock(problem.X[:13], y[:13]), problem.w, 1.0, halves)
        add(RowBlock(problem.X[13:], y[13:]), problem.w, 1.0, halves)
        assert whole.tolist() == halves.tolist()
        assert (whole != 5.0).sum() > 1
        assert filled is None or (whole[filled:] == 5.0).all()


# ---- update ----------------------------------------------------------------------------------------------------------


@by_dtype
def test_update(dtype: type) -> None:
    @many
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        d = data.draw(st.sampled_from(SIZES))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        w = (rng.standard_normal(d) * 10.0 ** rng.uniform(-6, 6, d)).astype(dtype)
        g = rng.standard_normal(d) * 10.0 ** rng.uniform(-6, 6, d) * (rng.random(d) < 0.9)
        lr = data.draw(st.floats(0, 1e6))
        if data.draw(st.booleans()):
            lr, g = 1.0, w * (1 + rng.integers(-4, 5, d) * 2.0**-40)  # steps that all but cancel
        check_update(w, g, lr)

    holds()


def check_update(w: np.ndarray, g: np.ndarray, lr: float) -> None:
    expected = np.array(reference.update(w.astype(np.float64).tolist(), g.tolist(), lr))

    def run(layout: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        moved = layout(w)
        whole = moved if moved.base is None else moved.base
        untouched = np.count_nonzero(np.isnan(whole))
        _mse.update(moved, g, lr)
        assert np.count_nonzero(np.isnan(whole)) == untouched
        return moved.astype(np.float64)

    names, computed = everywhere(LAYOUTS, run)
    assert_within(names, computed, expected, bounds.update_bound(expected, lr * g, w.dtype))


@by_dtype
@pytest.mark.parametrize("d", SIZES)
def test_update_of_every_size(d: int, dtype: type) -> None:
    problem = make_problem(1, d, dtype, seed=d)
    check_update(problem.X[0], problem.w, 0.3)


# ---- second moments --------------------------------------------------------------------------------------------------


def shifts(problem: Problem) -> list[np.ndarray]:
    """None, and a row amid the others."""
    X, y, _ = problem.doubles()
    middle = len(X) // 2
    return [np.zeros(X.shape[1] + 1), np.append(X[middle], y[middle])]


def panels(problem: Problem, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The oracle's panel of all rows, and the one without weights."""
    X, y, s = problem.lists()
    return np.array(reference.panel(X, y, s, shift.tolist())), np.array(reference.panel(X, y, None, shift.tolist()))


def lanes_of(problem: Problem) -> list[np.dtype]:
    """The precisions in which moments of the problem may be summed: that of X, and double."""
    return [np.dtype(lanes) for lanes in {problem.X.dtype.type, np.float64}]


def check_panel(problem: Problem, shift: np.ndarray, layouts: tuple[str, ...] = tuple(LAYOUTS)) -> None:
    X, y, s = problem.lists()
    expected = np.array(reference.panel(X, y, s, shift.tolist()))
    n, order = expected.shape
    for (start, stop), lanes in itertools.product({(0, n), (n // 2, n), (n // 3, n // 3 + 1)}, lanes_of(problem)):
        bound = bounds.panel_bound(expected, lanes)

        def run(block: RowBlock, start: int = start, stop: int = stop, lanes: np.dtype = lanes) -> np.ndarray:
            out = np.full((stop - start, order), np.nan, lanes)
            _moments.fill_panel(block, start, shift, out)
            return out

        names, computed = everywhere({name: row_block(problem, name) for name in layouts}, run)
        assert_within(names, computed, expected[start:stop], bound[start:stop])


def check_gram(problem: Problem, shift: np.ndarray, layouts: tuple[str, ...] = tuple(LAYOUTS)) -> None:
    X, y, s = problem.lists()
    panel, z = panels(problem, shift)
    order = panel.shape[1]
    expected = np.triu(reference.moments(X, y, s, shift.tolist()))  # the kernel leaves the lower triangle alone
    for lanes in lanes_of(problem):

        def run(block: RowBlock, lanes: np.dtype = lanes) -> np.ndarray:
            out = np.zeros(order * order)
            _moments.add_gram(block, shift, out, lanes == np.float64)
            return out.reshape(order, order)

        names, computed = everywhere({name: row_block(problem, name) for name in layouts}, run)
        assert_within(names, computed, expected, np.triu(bounds.moments_bound(panel, z, lanes)))


def check_columns(problem: Problem, shift: np.ndarray, layouts: tuple[str, ...] = tuple(LAYOUTS)) -> None:
    X, y, s = problem.lists()
    panel, z = panels(problem, shift)
    expected = np.concatenate(reference.column_sums(X, y, s, shift.tolist()))

    def run(block: RowBlock) -> np.ndarray:
        out = np.zeros(2 * panel.shape[1])
        _moments.add_columns(block, shift, out)
        return out

    names, computed = everywhere({name: row_block(problem, name) for name in layouts}, run)
    assert_within(names, computed, expected, bounds.columns_bound(panel, z))


#: name: check, and what the oracle pays for n rows of d columns
MOMENT_KERNELS = {
    "gram": (check_gram, lambda n, d: (n + 8) * (d + 2) ** 2),
    "columns": (check_columns, lambda n, d: 2 * (n + 8) * (d + 2)),
    "panel": (check_panel, lambda n, d: 2 * n * (d + 2)),
}


@by_dtype
@pytest.mark.parametrize("kernel", MOMENT_KERNELS)
def test_moments(kernel: str, dtype: type) -> None:
    check, cost = MOMENT_KERNELS[kernel]

    @many
    @given(problems(dtype, cost, 4000), st.sampled_from([0, 1]))
    def holds(problem: Problem, shift: int) -> None:
        check(problem, shifts(problem)[shift])
        check(problem.unweighted(), shifts(problem)[shift])

    holds()


@by_dtype
@pytest.mark.parametrize("kernel", MOMENT_KERNELS)
@pytest.mark.parametrize("d", SIZES)
def test_moments_of_every_size(d: int, kernel: str, dtype: type) -> None:
    check, cost = MOMENT_KERNELS[kernel]
    for turn, n in enumerate(n for n in SIZES if n <= 3 or cost(n, d) <= 20_000):
        if n > 1 and cost(n, d) > 5e6:
            continue
        problem = make_problem(n, d, dtype, seed=turn, kind="offset" if turn % 2 else "gaussian")
        check(problem if turn % 3 else problem.unweighted(), shifts(problem)[turn % 2], ("C", "Fortran", "strided"))


@by_dtype
@pytest.mark.parametrize("in_double", [False, True], ids=["", "in double"])
@pytest.mark.parametrize("by", ["the kernel", "BLAS"])
@pytest.mark.parametrize("d", [1, 8, 17, 64])
def test_public_moments(d: int, by: str, in_double: bool, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fg.Moments` about the shift it chose, with means far from zero and near."""
    if by == "BLAS":
        monkeypatch.setattr(fg.Moments, "KERNEL_WIDTH", 0)
    lanes = np.dtype(np.float64 if in_double else dtype)
    for n, kind in itertools.product((1, 5, 300) if d < 60 else (1, 90), ("offset", "gaussian")):
        problem = make_problem(n, d, dtype, seed=n, kind=kind)
        for variant in (problem, problem.unweighted()):
            shift = fg.Moments(d).update(variant.X, variant.y, variant.s).shift
            X, y, s = variant.lists()
            expected, (panel, z) = np.array(reference.moments(X, y, s, shift.tolist())), panels(variant, shift)
            if by == "BLAS" and kind == "gaussian" and n >= 90:
                assert shift[:-1].any() == (variant.s is not None)

            def run(source: tuple, d: int = d) -> np.ndarray:
                return fg.Moments(d, dtype=np.float64 if in_double else None).update(*source).gram

            sources = {
                name: tuple(None if array is None else lay_out(array) for array in (variant.X, variant.y, variant.s))
                for name, lay_out in LAYOUTS.items()
            }
            names, computed = everywhere(sources, run)
            assert_within(names, computed, expected, bounds.moments_bound(panel, z, lanes))
            for gram in computed:
                np.testing.assert_array_equal(gram, gram.T)


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("d", [3, 20])
def test_float32_moments_of_many_rows(d: int, layout: str) -> None:
    """What float32 lanes leave is within what `rounding` says, though the bound by counting is far above it."""
    problem = make_problem(100_000, d, np.float32, seed=d, kind="offset")
    X = np.asarray(problem.X, order=layout)
    for s in (None, problem.s):
        narrow = fg.Moments(d).update(X, problem.y, s)
        wide = fg.Moments(d, dtype=np.float64).update(X, problem.y, s)
        lengths = np.sqrt(np.diagonal(wide.gram))
        off = np.abs(narrow.gram - wide.gram) / np.outer(lengths, lengths)
        assert wide.rounding == 2.0**-52
        assert narrow.rounding == 2.0**-20
        assert 1e-12 < off.max() <= narrow.rounding / 4


#: Factors of what makes squares too small for float32, or too large. Those of y are double in any case.
BEYOND_FLOAT32 = {"X": (1e-17, 1e20), "y": (1e-17, 1e37), "s": (1e-31, 1e37)}


@pytest.mark.parametrize("factor", [1e-35, 1e-31, 1e-24, 1e-20, 1e-17, 1.0, 1e15, 1e18, 1e20, 1e30, 1e37])
@pytest.mark.parametrize("where", BEYOND_FLOAT32)
def test_moments_beyond_the_squares_of_float32(where: str, factor: float) -> None:
    """What overflows float32 lanes, or loses digits at their other end, is summed in double."""
    base = make_problem(300, 3, np.float32, seed=5, scaled=False)
    arrays = {"X": base.X, "y": base.y, "s": base.s.astype(np.float64)}
    arrays[where] = (arrays[where] * factor).astype(arrays[where].dtype)
    narrow = fg.Moments(3).update(*arrays.values())
    wide = fg.Moments(3, dtype=np.float64).update(*arrays.values())
    lengths = np.sqrt(np.diagonal(wide.gram))
    assert (np.abs(narrow.gram - wide.gram) <= 2.0**-20 * np.outer(lengths, lengths)).all()
    least, most = BEYOND_FLOAT32[where]
    assert narrow.rounding == (2.0**-20 if least < factor < most else 2.0**-52)


def test_constant_columns_are_summed_in_float32() -> None:
    """They are their own shift, so their squares are zeros without underflow."""
    problem = make_problem(300, 3, np.float32, seed=5, scaled=False)
    X = np.column_stack([problem.X, np.full(300, 0.1, np.float32), np.zeros(300, np.float32)])
    assert fg.Moments(5).update(X, problem.y).rounding == 2.0**-20
    X[150, 4] = 1e-30   # and this does underflow
    assert fg.Moments(5).update(X, problem.y).rounding == 2.0**-52


def test_a_shift_of_doubles_makes_double_moments() -> None:
    """Moments that began with float64 rows keep their shift, which float32 lanes could not take from float32 rows."""
    problem = make_problem(50, 3, np.float64, seed=1, kind="offset")
    m = fg.Moments(3).update(problem.X, problem.y)
    m.update(problem.X.astype(np.float32), problem.y)
    assert m.rounding == 2.0**-52


def test_merged_moments_are_those_of_the_whole() -> None:
    """Exactly, for integers, whatever the parts' shifts."""
    problem = make_problem(600, 4, np.float64, seed=3, kind="integers", scaled=False)
    y, s = np.rint(9 * problem.y), (np.arange(600.0) % 3) ** 2
    whole = fg.Moments(4).update(problem.X, y, s)
    merged = fg.Moments(4)
    for start, stop in [(0, 7), (7, 400), (400, 600)]:
        part = slice(start, stop)
        merged.merge(fg.Moments(4).update(problem.X[part], y[part], s[part]))
    streamed = fg.Moments(4).update(problem.X[:250], y[:250], s[:250]).update(problem.X[250:], y[250:], s[250:])
    exact = reference.moments(problem.X.tolist(), y.tolist(), s.tolist())
    for moments in (whole, merged, streamed):
        assert moments.about(np.zeros(5)).tolist() == exact
        assert moments.n_samples == 600


@by_dtype
def test_large_means_lose_nothing(dtype: type) -> None:
    """Columns with a mean of 1e8 and a spread of 1 (64 in float32, which has steps of 8 there), against fractions."""
    rng = np.random.default_rng(3)
    n, d = 300, 5
    X = (1e8 + rng.standard_normal((n, d)) * (64 if dtype is np.float32 else 1)).astype(dtype)
    y = 1e8 + rng.standard_normal(n)
    s = rng.uniform(0.5, 2, n)
    moments = fg.Moments(d, dtype=np.float64).update(X, y, s)
    sums, weight = moments.gram[-1, :-1], moments.weight
    centred = moments.gram[:-1, :-1] - np.outer(sums, sums) / weight

    columns = [[Fraction(float(entry)) for entry in column] for column in (*X.T, y)]
    weights = [Fraction(float(entry)) for entry in s]
    means = [sum(map(Fraction.__mul__, weights, column)) / sum(weights) for column in columns]
    columns = [[entry - mean for entry in column] for column, mean in zip(columns, means, strict=True)]
    exact = np.array(
        [[float(sum(p * q * r for p, q, r in zip(weights, a, b, strict=True))) for b in columns] for a in columns]
    )

    # The moments about the shift are within their bound, the product of the sums within that of its factors; the last
    # difference, product and quotient make three roundings, and the exact figures are rounded once.
    panel, z = panels(Problem(X, y, s, np.zeros(d), 0.0), moments.shift)
    gram, bound = panel.T @ panel, bounds.moments_bound(panel, z)
    outer = np.outer(gram[-1, :-1], gram[-1, :-1]) / gram[-1, -1]
    slack = np.abs(gram[-1, :-1]) * bound[-1, :-1, None] / gram[-1, -1]
    bound = bound[:-1, :-1] + slack + slack.T + np.abs(outer) * bound[-1, -1] / gram[-1, -1]
    bound += bounds.gamma(5) * (np.abs(gram[:-1, :-1]) + np.abs(outer))
    assert_within(["centred"], centred[None], exact, bound)
    assert (np.diagonal(bound) < 1e-12 * np.diagonal(exact)).all()

    uncentred = np.array(reference.moments(X.astype(np.float64).tolist(), y.tolist(), s.tolist()))
    naive = uncentred[:-1, :-1] - np.outer(uncentred[-1, :-1], uncentred[-1, :-1]) / uncentred[-1, -1]
    assert bounds.outside(naive, exact, bound).all()


# ---- triangular systems ----------------------------------------------------------------------------------------------


def random_factor(d: int, rng: np.random.Generator) -> np.ndarray:
    """Lower triangular, its rows of all sizes; the larger it is, the less there is beside the diagonal."""
    L = np.tril(rng.standard_normal((d, d))) * rng.choice([1.0, 1 / d, 0.0], (d, 1))
    np.fill_diagonal(L, rng.uniform(0.5, 2, d))
    return L * 10.0 ** rng.uniform(-3, 3, (d, 1))


def check_cholesky_solve(L: np.ndarray, b: np.ndarray) -> None:
    oracle = np.array(reference.cholesky_solve(L.tolist(), b.tolist()))
    x = b.copy()
    _moments.solve_cholesky(L, x)
    residual, distance = bounds.cholesky_bounds(L, x, oracle)
    image = [reference.dot(column, x.tolist()) for column in L.T.tolist()]
    image = np.array([reference.dot(row, image) for row in L.tolist()])
    # The residual itself is computed with two products and two sums of `fsum`.
    residual += bounds.gamma(5) * (np.abs(L) @ np.abs(L).T @ np.abs(x))
    assert_within(["residual"], image[None], b, residual)
    assert_within(["solution"], x[None], oracle, distance)


@many
@given(st.sampled_from([d for d in SIZES if d <= 65]), st.integers(0, 2**32), st.booleans())
def test_cholesky_solve(d: int, seed: int, sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    b = rng.standard_normal(d) * 10.0 ** rng.uniform(-6, 6, d)
    check_cholesky_solve(random_factor(d, rng), b * (rng.random(d) < 0.5) if sparse else b)


@pytest.mark.parametrize("d", SIZES[:-1])
def test_cholesky_solve_of_every_size(d: int) -> None:
    rng = np.random.default_rng(d)
    check_cholesky_solve(random_factor(d, rng), rng.standard_normal(d))


# ---- the public functions --------------------------------------------------------------------------------------------


def other_layouts(array: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    """What no kernel reads in place, or may not write to."""
    bytes_ = np.zeros(array.nbytes + 1, np.uint8)
    unaligned = bytes_[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    read_only = array.copy()
    read_only.setflags(write=False)
    array.tofile(path)
    return {
        "unaligned": unaligned,
        "swapped": array.astype(array.dtype.newbyteorder()),
        "read-only": read_only,
        "memory map": np.memmap(path, array.dtype, "r", shape=array.shape),
    }


def check_objective(problem: Problem, sources: dict[str, tuple], l2: float, fit_intercept: bool) -> None:
    """All that `fg.MSE` computes, and the three functions, for the same data from several sources (X, y, s)."""
    X, y, s = problem.lists()
    if not fit_intercept:
        problem = problem.without_intercept()
    w = np.append(problem.w, problem.b) if fit_intercept else problem.w
    options = {"fit_intercept": fit_intercept, "l2": l2}
    loss, gradient = reference.objective(X, y, w.tolist(), s, **options)
    product = np.array(reference.hessian_product(X, w.tolist(), s, **options))
    gradient = np.array(gradient)
    weight = math.fsum(s or [1.0] * len(y))
    penalised = bounds.Penalised(problem.w, weight, len(y), *expected_sums(problem), l2)
    curved = bounds.Penalised(problem.w, weight, len(y), *expected_sums(problem, False), l2)
    loss_bound = bounds.objective_bound(penalised)
    bound = bounds.gradient_bound(penalised, gradient, problem.dtype)
    lr = 0.25
    stepped = np.array(reference.update(w.tolist(), gradient.tolist(), lr))
    # step_ moves by the gradient in double, before any rounding to float32
    moved = lr * bounds.gradient_bound(penalised, gradient, np.dtype(np.float64))
    moved += bounds.update_bound(np.abs(stepped) + moved, lr * gradient, np.dtype(np.float64))

    def run(source: tuple) -> np.ndarray:
        p = fg.MSE(*source, **options)
        out, product_out = np.full((2, 2 * len(w) - 1), np.nan)
        after, backwards = np.repeat(w, 2)[::2], w[::-1].copy()[::-1]
        losses = p.value(w), p.value_and_grad(w)[0], p.step_(after, lr)
        parts = p.grad(w), p.value_and_grad(backwards, out=out[::2])[1], p.hessp(w), p.hessp(w, out=product_out[::2])
        assert np.isnan(out[1::2]).all()
        assert parts[0].dtype == parts[2].dtype == problem.dtype
        return np.concatenate([losses, *parts, after])

    names, computed = everywhere(sources, run)
    double = np.dtype(np.float64)
    assert_within(
        names,
        computed,
        np.concatenate([[loss] * 3, gradient, gradient, product, product, stepped]),
        np.concatenate(
            [
                [loss_bound] * 3,
                bound,
                bounds.gradient_bound(penalised, gradient, double),
                bounds.gradient_bound(curved, product, problem.dtype),
                bounds.gradient_bound(curved, product, double),
                moved,
            ]
        ),
    )
    if l2 or s or fit_intercept:
        return

    def run_functions(source: tuple) -> np.ndarray:
        given, targets, _ = source
        value, slopes = fg.mse_value_and_grad(given, targets, w)
        assert slopes.dtype == problem.dtype
        return np.concatenate([[fg.mse(given, targets, w), value], slopes, fg.mse_grad(given, targets, w)])

    assert loss == pytest.approx(reference.mse(X, y, w.tolist()), rel=1e-15, abs=0)
    names, computed = everywhere(sources, run_functions)
    assert_within(
        names,
        computed,
        np.concatenate([[loss] * 2, gradient, gradient]),
        np.concatenate([[loss_bound] * 2, bound, bound]),
    )


@by_dtype
def test_objective(dtype: type, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("maps")

    @many
    @given(problems(dtype, most=1000), st.sampled_from([0.0, 0.3]), st.booleans(), st.booleans())
    def holds(problem: Problem, l2: float, fit_intercept: bool, weighted: bool) -> None:
        if not weighted:
            problem = problem.unweighted()
        sources = {
            name: tuple(None if array is None else lay_out(array) for array in (problem.X, problem.y, problem.s))
            for name, lay_out in LAYOUTS.items()
        }
        X, y = other_layouts(problem.X, folder / "X"), other_layouts(problem.y, folder / "y")
        sources |= {name: (X[name], y[name], problem.s) for name in X}
        if problem.s is not None:
            s = other_layouts(problem.s, folder / "s")
            sources |= {f"{name} weights": (problem.X, y[name], s[name]) for name in s}
        check_objective(problem, sources, l2, fit_intercept)

    holds()


@pytest.mark.parametrize(
    "dtype",
    [np.int8, np.int32, np.uint16, np.int64, np.bool_, np.float16, np.longdouble],
    ids=lambda dtype: dtype.__name__,
)
def test_objective_of_other_dtypes(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are converted to what the kernels compute in, float32 for float16 and double for the others."""

    @settings(max_examples=30, deadline=None)
    @given(st.tuples(*[st.sampled_from(SIZES[:12])] * 2), st.integers(0, 2**32), st.booleans(), st.booleans())
    def holds(shape: tuple[int, int], seed: int, fit_intercept: bool, pieces: bool) -> None:
        n, d = shape
        problem = make_problem(n, d, np.float64, seed, scaled=False)
        X = (20 * np.abs(problem.X)).astype(dtype)
        y = np.rint(20 * problem.y).astype(np.int16)
        s = (problem.s > 0.5 if seed % 2 else np.ceil(problem.s)).astype([np.uint8, np.bool_][seed % 2])
        problem = Problem(X.astype(np.float32 if dtype is np.float16 else np.float64), y, s, problem.w, problem.b)
        sources = {
            name: (lay_out(X), lay_out(y), lay_out(s))
            for name, lay_out in {
                "C": np.ascontiguousarray,
                "Fortran": np.asfortranarray,
                "strided": lambda array: np.repeat(array, 2, axis=0)[::2],
                "reversed": lambda array: array[::-1].copy()[::-1],
                "swapped": lambda array: array.astype(array.dtype.newbyteorder()),
            }.items()
        }
        with monkeypatch.context() as patch:
            if pieces:  # several to a block
                patch.setattr(_blocks, "PIECE_BYTES", 256)
            check_objective(problem, sources, 0.0, fit_intercept)

    holds()


@by_dtype
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("d", [1, 7, 40, 600])
def test_objective_of_several_blocks(d: int, order: str, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, so that there are many: the oracle is slow."""
    monkeypatch.setattr(_blocks, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(_blocks, "WHOLE_TILES", 16)
    monkeypatch.setattr(_blocks, "LONG_RUN", 16)
    n = max(8_000 // d, 90)
    problem = make_problem(n, d, dtype, seed=d, kind="fitted")
    monkeypatch.setattr(fg.objective, "row_blocks", lambda X, y, s: row_blocks(X, y, s, least=16))
    assert len(fg.MSE(problem.X, problem.y).blocks) > 5
    for variant in (problem, problem.unweighted()):
        sources = {order: (np.asarray(variant.X, order=order), variant.y, variant.s)}
        check_objective(variant, sources, 0.1, fit_intercept=True)


@by_dtype
def test_objective_beyond_one_block(dtype: type) -> None:
    """More than 2 MiB, at which the package itself cuts blocks."""
    problem = make_problem(800, 700, dtype, seed=11, kind="fitted")
    assert len(fg.MSE(problem.X, problem.y).blocks) > 1
    check_objective(problem, {"C": (problem.X, problem.y, problem.s)}, 0.1, fit_intercept=True)


@by_dtype
def test_lipschitz(dtype: type) -> None:
    """The largest eigenvalue of the Hessian: to the five digits that are promised, and not above it but for rounding.

    The products that are computed are those of H + ΔH, |ΔH| <= θ (2/S) |X|'S|X| for the roundings of `sums_bound`, and
    the norm of that is at most θ times the trace of H.
    """
    for seed, (n, d, l2) in enumerate(itertools.product((3, 40), (1, 2, 9), (0.0, 0.5))):
        problem = make_problem(n, d, dtype, seed, scaled=False)
        X, _, s = problem.lists()

        def product(v: list[float], X: list = X, s: list = s, l2: float = l2) -> list[float]:
            return reference.hessian_product(X, v, s, fit_intercept=True, l2=l2)

        rtol = 1e-10
        largest = reference.largest_eigenvalue(product, d + 1, rtol=rtol)
        trace = sum(product([float(k == j) for k in range(d + 1)])[j] for j in range(d + 1))
        rounding = rtol * largest + bounds.growth(d + n + 2, bounds.UNIT[np.dtype(dtype)], n + 9) * trace
        found = fg.MSE(problem.X, problem.y, problem.s, fit_intercept=True, l2=l2).lipschitz()
        assert largest * (1 - 1e-5) - rounding <= found <= largest + rounding


# ---- memory outside X ------------------------------------------------------------------------------------------------


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_outside_the_data_counts(layout: str, dtype: type) -> None:
    """Whatever lies between and around the elements is NaN, and n and d end anywhere in a vector."""
    for d in range(1, 41):
        for n in (1, 2, 3, 4, 5, 16, 17, 70):
            problem = make_problem(n, d, dtype, seed=n, scaled=False)
            block = row_block(problem, layout)
            order = d + 2
            shift = np.zeros(d + 1)

            def run(block: RowBlock, problem: Problem = problem, shift: np.ndarray = shift) -> np.ndarray:
                d = len(problem.w)
                value, sums, curvature = np.zeros((3, d + 2))
                gram, columns, panel = np.zeros((d + 2) ** 2), np.zeros(2 * d + 4), np.empty((len(block), d + 2))
                _mse.add_value(block, problem.w, 0.5, value)
                _mse.add_sums(block, problem.w, 0.5, sums)
                _mse.add_curvature(block, problem.w, 0.5, curvature)
                _moments.add_gram(block, shift, gram)
                _moments.add_columns(block, shift, columns)
                _moments.fill_panel(block, 0, shift, panel)
                return np.concatenate([value, sums, curvature, gram, columns, panel.ravel()])

            names, computed = everywhere({layout: block}, run)
            assert computed.shape == (len(LEVELS), 3 * order + order**2 + 2 * order + n * order)
            assert np.isfinite(computed).all(), (names, n, d)
            for array in (block.X, block.y, block.s):
                assert np.isfinite(array).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["X", "y", "s"])
def test_nan_inside_the_data_counts(where: str, layout: str) -> None:
    """The layouts above would hide nothing: a NaN in any one element reaches the sums."""
    for n, d in [(1, 1), (3, 5), (5, 17), (70, 3)]:
        problem = make_problem(n, d, np.float64, seed=n, scaled=False)
        block = row_block(problem, layout)
        for place in np.ndindex(getattr(problem, where).shape):
            before = getattr(block, where)[place]
            getattr(block, where)[place] = np.nan
            value, gram = np.zeros(d + 2), np.zeros((d + 2) ** 2)
            _mse.add_value(block, problem.w, 0.5, value)
            _moments.add_gram(block, np.zeros(d + 1), gram)
            assert np.isnan(value[0]), (n, d, place)
            assert np.isnan(gram).any(), (n, d, place)
            getattr(block, where)[place] = before


@by_dtype
def test_overlapping_rows_and_repeated_elements(dtype: type) -> None:
    """Strides of zero and rows that share elements are arrays too."""
    line = np.random.default_rng(5).standard_normal(200).astype(dtype)
    views = {
        "one row": np.broadcast_to(line[:23], (40, 23)),
        "one column": np.broadcast_to(line[:40, None], (40, 23)),
        "windows": np.lib.stride_tricks.sliding_window_view(line, 23)[:40],
        "windows of few": np.lib.stride_tricks.sliding_window_view(line, 5)[:40],
        "windows, stepped": np.lib.stride_tricks.sliding_window_view(line, 23)[:120:3],
    }
    for name, X in views.items():
        base = make_problem(40, X.shape[1], dtype, seed=1, scaled=False)
        problem = Problem(np.ascontiguousarray(X), base.y, base.s, base.w, base.b)
        expected, bound = expected_sums(problem)

        def run(block: RowBlock, problem: Problem = problem) -> np.ndarray:
            out = np.zeros(problem.X.shape[1] + 2)
            _mse.add_sums(block, problem.w, problem.b, out)
            return out

        names, computed = everywhere({name: RowBlock(X, base.y, base.s)}, run)
        assert_within(names, computed, expected, bound)


def test_nothing_outside_the_data_is_read() -> None:
    """Not even what is dropped afterwards: pages around the data may not be touched."""
    script = [sys.executable, str(Path(__file__).with_name("guard_pages.py"))]
    run = subprocess.run(script, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert subprocess.run([*script, "overrun"], capture_output=True, check=False).returncode == -signal.SIGSEGV


# ---- bits ------------------------------------------------------------------------------------------------------------


@functools.cache
def many_blocks(dtype: type) -> tuple[Problem, list]:
    d = 9
    n = 10 * _blocks.BLOCK_BYTES // (d * np.dtype(dtype).itemsize)
    problem = make_problem(n, d, dtype, seed=23)
    blocks = row_blocks(problem.X, problem.y, problem.s)
    assert len(blocks) >= 9
    return problem, blocks


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("n", "d"), [(500, 20_000), (130, 100_000), (50, 1_000_000)])
def test_few_wide_rows_are_shared_and_read_in_short_pieces(n: int, d: int, order: str) -> None:
    """No call of a kernel keeps Ctrl-C waiting for more than some tens of milliseconds."""
    X = np.lib.stride_tricks.as_strided(np.ones(1), (n, d), (8 * d, 8) if order == "C" else (8, 8 * n), writeable=False)
    blocks = row_blocks(X, np.ones(n), None)
    if order == "C":
        assert len(blocks) == -(-n // _blocks.LEAST_ROWS)
    pieces = [piece for block in blocks for piece in block.pieces()]
    assert sum(map(len, pieces)) == n
    assert max(len(piece) for piece in pieces) * d * 8 <= 300_000_000


@pytest.fixture
def eight_helpers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A pool of as many threads, however many CPUs there are."""
    with ThreadPoolExecutor(8) as pool:
        monkeypatch.setattr(_engine, "_pool", pool)
        yield


@pytest.mark.usefixtures("eight_helpers")
@by_dtype
def test_bits_do_not_depend_on_threads(dtype: type) -> None:
    """Nor on which block is summed first: each thread sleeps at random."""
    problem, blocks = many_blocks(dtype)
    d = problem.X.shape[1]
    shift = np.zeros(d + 1)
    kernels = {
        "value": (lambda rows, out: _mse.add_value(rows, problem.w, problem.b, out), d + 2),
        "gradient": (lambda rows, out: _mse.add_sums(rows, problem.w, problem.b, out), d + 2),
        "curvature": (lambda rows, out: _mse.add_curvature(rows, problem.w, problem.b, out), d + 2),
        "gram": (lambda rows, out: _moments.add_gram(rows, shift, out), (d + 2) ** 2),
        "columns": (lambda rows, out: _moments.add_columns(rows, shift, out), 2 * (d + 2)),
    }
    for name, (kernel, size) in kernels.items():
        alone = sum_blocks(blocks, kernel, size, 1)
        threads: set[int] = set()

        def late(rows: RowBlock, out: np.ndarray, kernel: Callable = kernel, threads: set = threads) -> None:
            threads.add(threading.get_ident())
            time.sleep(random.Random(out.ctypes.data).uniform(0, 0.004))
            kernel(rows, out)

        for n_threads in (1, 2, 3, 4, 7, 8):
            assert sum_blocks(blocks, late, size, n_threads).tobytes() == alone.tobytes(), (name, n_threads)
        assert len(threads) > 2, "the threads were not used"
        assert np.isfinite(alone).all()


@pytest.mark.usefixtures("eight_helpers")
@pytest.mark.parametrize("omp", [None, "1", "3", "4096", "4,2", "", "many"])
def test_bits_of_an_objective_do_not_depend_on_threads(omp: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`n_threads` is bounded by the CPUs and by OMP_NUM_THREADS, and changes no bit."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if omp is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    limit = {"1": 1, "3": 3, "4,2": 4}.get(omp, 8)
    problem, _ = many_blocks(np.float32)
    results = set()
    for n_threads in (1, 2, 3, 4, 7, 8, 100, None):
        p = fg.MSE(problem.X, problem.y, problem.s, n_threads=n_threads)
        assert p.n_threads == min(n_threads or 8, limit)
        loss, gradient = p.value_and_grad(problem.w)
        moments = fg.Moments(p.n_features, n_threads=n_threads)
        assert moments.n_threads == p.n_threads
        results.add((loss.hex(), gradient.tobytes(), p.hessp(problem.w).tobytes(), p.value(problem.w).hex()))
    moments_of = {
        fg.Moments(problem.X.shape[1], n_threads=n).update(problem.X, problem.y, problem.s).gram.tobytes()
        for n in (1, 2, 8)
    }
    assert len(results) == len(moments_of) == 1


@by_dtype
def test_one_thread_inside_a_worker(dtype: type) -> None:
    with ThreadPoolExecutor(1) as pool:
        X = np.ones((3, 2), dtype)
        assert pool.submit(lambda: fg.MSE(X, np.ones(3), n_threads=8).n_threads).result() == 1


@by_dtype
@pytest.mark.parametrize("layout", ["C", "F"])
def test_bits_do_not_depend_on_where_the_data_lies(layout: str, dtype: type) -> None:
    """The same numbers at any place of a cache line, read by vectors that then cross it or not."""
    for n, d in [(301, 1), (301, 3), (83, 9), (83, 17), (41, 40), (21, 150)]:
        problem = make_problem(n, d, dtype, seed=d)
        y, s = problem.y.astype(dtype), problem.s.astype(dtype)

        def at(array: np.ndarray, places: int) -> np.ndarray:
            whole = np.empty(array.size + 16, dtype)
            view = whole[places : places + array.size].reshape(array.shape, order=layout)
            view[...] = array
            return view

        def run(block: RowBlock, problem: Problem = problem, d: int = d) -> np.ndarray:
            sums, gram = np.zeros(d + 2), np.zeros((d + 2) ** 2)
            _mse.add_sums(block, problem.w, problem.b, sums)
            _moments.add_gram(block, np.zeros(d + 1), gram)
            return np.concatenate([sums, gram])

        blocks = {str(k): RowBlock(at(problem.X, k), at(y, k), at(s, 15 - k)) for k in range(16)}
        _, computed = everywhere(blocks, run)
        for results in computed.reshape(len(LEVELS), len(blocks), -1):
            assert len({row.tobytes() for row in results}) == 1, (n, d)


# ---- the check is checked --------------------------------------------------------------------------------------------


def plain_sums(problem: Problem, work: np.dtype, carry: np.dtype) -> np.ndarray:
    """What the kernel computes, in a few lines of NumPy: in one precision, its rows added up in another."""
    X, y, s = problem.doubles()
    r = (X.astype(work) @ problem.w.astype(work)).astype(np.float64) + problem.b - y
    c = s * r
    slopes = np.zeros(X.shape[1], carry)
    for i in range(len(X)):
        slopes += (c[i].astype(work) * X[i].astype(work)).astype(carry)
    return np.concatenate([[np.sum(c * r), np.sum(c)], slopes])


def judged(problem: Problem, computed: np.ndarray) -> np.ndarray:
    expected, bound = expected_sums(problem)
    return bounds.outside(computed, expected, bound)


@pytest.mark.parametrize("d", [1, 3, 17, 65])
def test_bound_accepts_plain_sums(d: int) -> None:
    """In the right precision a few lines of NumPy pass, so what is caught below is the defect."""
    problem = make_problem(50, d, np.float32, seed=d, scaled=False)
    assert not judged(problem, plain_sums(problem, np.float32, np.float64)).any()
    problem = make_problem(50, d, np.float64, seed=d, scaled=False)
    assert not judged(problem, plain_sums(problem, np.float64, np.float64)).any()


@pytest.mark.parametrize("d", [1, 3, 17, 65])
def test_bound_catches_float_in_place_of_double(d: int) -> None:
    problem = make_problem(50, d, np.float64, seed=d, scaled=False)
    assert judged(problem, plain_sums(problem, np.float32, np.float64)).all()
    assert judged(problem, plain_sums(problem, np.float64, np.float32))[2:].any()


@pytest.mark.parametrize("d", [1, 4])
def test_bound_catches_float_sums_over_many_rows(d: int) -> None:
    """Right for a tile, wrong for a hundred: float32 must not carry the sums."""
    n = 30_000
    X = np.tile(np.linspace(0.1, 0.3, d, dtype=np.float32), (n, 1))
    problem = Problem(X, np.full(n, -0.7, np.float32), None, np.full(d, 0.3), 0.1)
    assert not judged(problem, plain_sums(problem, np.float32, np.float64)).any()
    assert judged(problem, plain_sums(problem, np.float32, np.float32))[2:].any()


MUTANTS: dict[str, Callable[[Problem], Problem]] = {
    "a row too few": lambda p: Problem(p.X[:-1], p.y[:-1], p.s[:-1], p.w, p.b),
    "a row twice": lambda p: Problem(np.r_[p.X, p.X[:1]], np.r_[p.y, p.y[:1]], np.r_[p.s, p.s[:1]], p.w, p.b),
    "the last column forgotten": lambda p: Problem(p.X * (np.arange(p.X.shape[1]) < len(p.w) - 1), p.y, p.s, p.w, p.b),
    "no weights": lambda p: p.unweighted(),
    "roots of the weights": lambda p: Problem(p.X, p.y, np.sqrt(p.s), p.w, p.b),
    "no intercept": lambda p: p.without_intercept(),
    "the intercept's sign": lambda p: Problem(p.X, p.y, p.s, p.w, -p.b),
    "no targets": lambda p: Problem(p.X, 0 * p.y, p.s, p.w, p.b),
    "columns swapped": lambda p: Problem(p.X[:, ::-1], p.y, p.s, p.w, p.b),
    "rows of y swapped": lambda p: Problem(p.X, p.y[::-1], p.s, p.w, p.b),
}


@by_dtype
@pytest.mark.parametrize("mutant", MUTANTS)
def test_bound_catches_wrong_sums(mutant: str, dtype: type) -> None:
    """Kernels run on a changed problem, judged by the right one."""
    for n, d in [(40, 3), (150, 9), (40, 33)]:
        problem = make_problem(n, d, dtype, seed=n + d, scaled=False)
        problem.s[[0, -1]] = 1.0  # rows that count
        changed = MUTANTS[mutant](problem)
        out = np.zeros(d + 2)
        _mse.add_sums(RowBlock(changed.X, changed.y, changed.s), changed.w, changed.b, out)
        bad = judged(problem, out)
        assert bad[0]
        assert bad[2:].any()


@by_dtype
def test_bound_catches_one_wrong_element(dtype: type) -> None:
    """The smallest change beyond the bound, in any one element, and NaN in place of it."""
    problem = make_problem(33, 17, dtype, seed=4)
    expected, bound = expected_sums(problem)
    out = np.zeros(19)
    _mse.add_sums(RowBlock(problem.X, problem.y, problem.s), problem.w, problem.b, out)
    assert_within(["as computed"], out[None], expected, bound)
    for place in range(19):
        for wrong in (expected[place] + 1.1 * bound[place], expected[place] - 1.1 * bound[place], np.nan, np.inf):
            changed = out.copy()
            changed[place] = wrong
            with pytest.raises(AssertionError, match=rf"entry \({place},\) is"):
                assert_within(["changed"], changed[None], expected, bound)


@by_dtype
def test_bound_is_not_far_above_the_error(dtype: type) -> None:
    """Errors come within an eighth of the bound where terms are few: it is no formality."""
    ratios = []
    for seed in range(200):
        problem = make_problem(1, 1, dtype, seed, scaled=False)
        expected, bound = expected_sums(problem)
        out = np.zeros(3)
        _mse.add_sums(RowBlock(problem.X, problem.y, problem.s), problem.w, problem.b, out)
        ratios.append(np.abs(out - expected) / bound)
    assert np.max(ratios, axis=0)[2] > 1 / 8
    assert np.max(ratios) <= 1


@by_dtype
@pytest.mark.parametrize("check", [check_gram, check_columns, check_panel])
def test_moments_bounds_catch_wrong_sums(check: Callable, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    in_double = dtype is np.float64 or check is check_columns
    problem = make_problem(40, 5, dtype, seed=8, scaled=False)
    shift = shifts(problem)[1]
    check(problem, shift)
    for name in ("add_gram", "add_columns", "fill_panel"):
        right = getattr(_moments, name)

        def wrong(block: RowBlock, *arguments: object, right: Callable = right) -> None:
            right(block, *arguments)
            out = next(a for a in arguments[::-1] if isinstance(a, np.ndarray))
            out.flat[1] *= 1 + (1e-12 if in_double else 1e-4)

        monkeypatch.setattr(_moments, name, wrong)
    with pytest.raises(AssertionError, match="entries are off"):
        check(problem, shift)


def test_update_bound_catches_a_wrong_step(monkeypatch: pytest.MonkeyPatch) -> None:
    w, g = np.array([1.0, -2.0, 3.0]), np.array([0.1, 0.2, 0.3])
    check_update(w, g, 0.1)
    right = _mse.update
    monkeypatch.setattr(_mse, "update", lambda w, g, lr: right(w, g, lr * (1 + 1e-12)))
    with pytest.raises(AssertionError, match="entries are off"):
        check_update(w, g, 0.1)


def test_cholesky_bounds_catch_a_wrong_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    L, b = random_factor(9, rng), rng.standard_normal(9)
    check_cholesky_solve(L, b)
    right = _moments.solve_cholesky
    for place in range(9):

        def wrong(L: np.ndarray, x: np.ndarray, place: int = place) -> None:
            right(L, x)
            x[place] *= 1 + 1e-11

        monkeypatch.setattr(_moments, "solve_cholesky", wrong)
        with pytest.raises(AssertionError, match="entries are off"):
            check_cholesky_solve(L, b)


def test_objective_bounds_catch_wrong_results(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem(20, 3, np.float64, seed=2, scaled=False)
    sources = {"C": (problem.X, problem.y, problem.s)}
    check_objective(problem, sources, 0.1, True)
    for name, wrong in {
        "value": lambda right: lambda self, w: right(self, w) * (1 + 1e-12),
        "hessp": lambda right: lambda self, w, out=None: right(self, w, out) * (1 + 1e-12),
        "grad": lambda right: lambda self, w, out=None: right(self, w, out) * (1 + 1e-12),
        "step_": lambda right: lambda self, w, lr: right(self, w, lr * (1 + 1e-12)),
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(fg.MSE, name, wrong(getattr(fg.MSE, name)))
            with pytest.raises(AssertionError, match="entries are off"):
                check_objective(problem, sources, 0.1, True)


# ---- the oracle itself -----------------------------------------------------------------------------------------------


def test_reference_against_fractions() -> None:
    """The oracle's sums are within its own few roundings of the exact ones."""
    for seed in range(40):
        problem = make_problem(5, 4, np.float64, seed, kind="fitted" if seed % 2 else "gaussian")
        X, y, s = problem.lists()
        w, b = [Fraction(w_j) for w_j in problem.w.tolist()], Fraction(problem.b)
        rows, weights = [[Fraction(entry) for entry in x] for x in X], [Fraction(s_i) for s_i in s]
        r = [sum(map(Fraction.__mul__, x, w)) + b - Fraction(target) for x, target in zip(rows, y, strict=True)]
        factors = [s_i * r_i for s_i, r_i in zip(weights, r, strict=True)]
        exact = [sum(map(Fraction.__mul__, factors, r)), sum(factors)]
        exact += [sum(map(Fraction.__mul__, factors, column)) for column in zip(*rows, strict=True)]
        computed = reference.gradient_sums(X, y, problem.w.tolist(), s, problem.b)
        size = np.abs(problem.X) @ np.abs(problem.w) + abs(problem.b) + np.abs(problem.y)
        e = bounds.gamma(4) * size
        R = np.abs([float(r_i) for r_i in r]) + e
        bound = [
            2 * (s * R) @ e + bounds.gamma(4) * (s * R) @ R,
            s @ e + bounds.gamma(4) * (s @ R),
            *(np.abs(problem.X).T @ (s * (e + bounds.gamma(4) * R))),
        ]
        for got, wanted, limit in zip(computed, exact, bound, strict=True):
            assert abs(Fraction(got) - wanted) <= limit
        assert computed[:2] == pytest.approx(reference.value_sums(X, y, problem.w.tolist(), s, problem.b), rel=1e-12)


def test_reference_gradient_is_the_derivative() -> None:
    """F is quadratic, so a central difference has no error but rounding's."""
    problem = make_problem(9, 3, np.float64, seed=1, scaled=False)
    X, y, s = problem.lists()
    w = [*problem.w.tolist(), problem.b]
    options = {"fit_intercept": True, "l2": 0.3}
    gradient = reference.objective(X, y, w, s, **options)[1]
    for j in range(4):
        axis = [float(k == j) for k in range(4)]
        (below, _), (above, moved) = (
            reference.objective(X, y, reference.update(w, axis, -step), s, **options) for step in (-1, 1)
        )
        assert gradient[j] == pytest.approx((above - below) / 2, rel=1e-12, abs=1e-12)
        row = reference.hessian_product(X, axis, s, **options)
        assert row == pytest.approx([p - q for p, q in zip(moved, gradient, strict=True)], rel=1e-12, abs=1e-12)
    assert reference.mse(X, y, w[:3], s, w[3]) == reference.objective(X, y, w, s, fit_intercept=True)[0]
    assert reference.mse_grad(X, y, w[:3], s, w[3]) == reference.objective(X, y, w, s, fit_intercept=True)[1][:3]


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.2])
def test_reference_descends_to_its_exact_solution(l2: float, fit_intercept: bool) -> None:
    problem = make_problem(30, 3, np.float64, seed=6, scaled=False)
    X, y, s = problem.lists()
    options = {"sample_weight": s, "fit_intercept": fit_intercept, "l2": l2}
    exact = reference.solve_normal_equations(X, y, **options)
    assert reference.objective(X, y, exact, **options)[1] == pytest.approx([0.0] * len(exact), abs=1e-13)
    largest = reference.largest_eigenvalue(
        lambda v: reference.hessian_product(X, v, s, fit_intercept=fit_intercept, l2=l2), len(exact)
    )
    w, losses = reference.gradient_descent(X, y, 1 / largest, 400, **options)
    assert w == pytest.approx(exact, rel=1e-9, abs=1e-9)
    assert len(losses) == 401
    assert losses[0] == reference.objective(X, y, [0.0] * len(exact), **options)[0]
    assert losses[-1] == pytest.approx(reference.objective(X, y, exact, **options)[0], rel=1e-12)
    assert losses[:10] == sorted(set(losses[:10]), reverse=True)


@by_dtype
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_gradient_descent_follows_the_reference(fit_intercept: bool, dtype: type) -> None:
    """Update by update. With steps below 2/λmax no error grows, so they add up to those of all steps so far."""
    problem = make_problem(40, 3, dtype, seed=9, scaled=False)
    X, y, s = problem.lists()
    options = {"sample_weight": s, "fit_intercept": fit_intercept, "l2": 0.05}
    w0 = [0.5, -0.25, 1.0]
    largest = reference.largest_eigenvalue(
        lambda v: reference.hessian_product(X, v, s, fit_intercept=fit_intercept, l2=0.05), 3 + fit_intercept
    )
    lr, steps = 0.9 / largest, 60
    fit = fg.fit(problem.X, problem.y, solver="gd", lr=lr, max_iter=steps, tol=0, w0=w0, **options)
    losses = reference.gradient_descent(X, y, lr, steps, w0=w0, **options)[1]
    assert (fit.n_iter, len(fit.history["loss"])) == (steps, steps + 1)
    double = np.dtype(np.float64)
    off = 0.0
    for k in range(steps + 1):
        w = np.array(reference.gradient_descent(X, y, lr, k, w0=w0, **options)[0])
        at = Problem(problem.X, problem.y, problem.s, w[:3], w[3] if fit_intercept else 0.0)
        gradient = np.array(reference.objective(X, y, w.tolist(), **options)[1])
        p = bounds.Penalised(w[:3], math.fsum(s), 40, *expected_sums(at), 0.05)
        # F(w + e) - F(w) <= |g||e| + λmax |e|^2 / 2; the bounds at w + e are those at w but for a factor near 1.
        limit = 1.01 * bounds.objective_bound(p) + np.linalg.norm(gradient) * off + largest * off**2
        assert abs(fit.history["loss"][k] - losses[k]) <= limit
        step = lr * bounds.gradient_bound(p, gradient, double) + bounds.update_bound(w, lr * gradient, double)
        off += 1.01 * float(np.linalg.norm(step))
    assert off < (1e-3 if dtype is np.float32 else 1e-12)
    rounding = np.linalg.norm(w) * np.finfo(dtype).eps  # of coef to X's dtype
    assert np.linalg.norm(np.append(fit.coef, fit.intercept)[: len(w)] - w) <= off + rounding
