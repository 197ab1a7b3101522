"""The kernels of updates in a metric against `reference.metric_epoch`, under a bound of rounding errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from bounds import gamma
from hypothesis import given
from hypothesis import strategies as st
from strategies import SIZES, make_problem
from test_kernels import LEVELS, assert_within, by_dtype, everywhere, many, running_at
from test_sgd_kernels import blocks_of, sparse_block

from fastgd import _saga, reference
from fastgd._csr import CSR
from fastgd._rows import RowBlock
from fastgd._sparse import SparseBlock

#: Sums of a lag's parameters come from a series, or from a difference of which it leaves some 11 digits.
LAG = 1e-10


@dataclass
class Run:
    """A run of updates; its data in double, as the twin takes it."""

    X: np.ndarray
    y: np.ndarray
    s: np.ndarray
    v: np.ndarray
    c: float
    order: np.ndarray
    rate: float
    metric: np.ndarray
    average_from: int
    options: dict[str, Any]


def make_run(
    n: int, d: int, dtype: type, seed: int, kind: str, scaled: bool, updates: int, batch_size: int, sparse: bool
) -> tuple[Run, np.ndarray, np.ndarray, np.ndarray | None]:
    """A run on random rows with any of the terms, its rate small, fair, or too large but for the clamp."""
    rng = np.random.default_rng([seed, updates, batch_size])
    problem = make_problem(n, d, dtype, seed, kind, scaled)
    if rng.random() < 0.3:
        problem = problem.unweighted()
    X, y, s = problem.doubles()
    squares = (X * X).mean(axis=0)
    metric = rng.uniform(0.1, 1, d) / np.where(squares > 0, squares, 1.0) / d
    step = float(rng.choice([0.0, 1.0]))
    means = X.mean(axis=0) * rng.uniform(0, 2, d) if not sparse and rng.random() < 0.7 else None
    Z = X if means is None else X - means
    steepest = (s * ((Z * Z) @ metric + step)).max() or 1.0
    clamps = bool(rng.random() < 0.5)
    rate = float(rng.choice([0.05, 0.5, 1.5, 10.0 if clamps else 1.0]) / steepest)
    force = np.abs(problem.w) / (metric * rate)
    momentum = float(rng.choice([0.0, 0.0, 0.6]))
    options = {
        "means": means, "drift": 0.1 * force * rng.standard_normal(d) if rng.random() < 0.6 else None,
        "intercept_drift": 0.1 / rate * float(rng.standard_normal()),
        "anchor": problem.w * rng.standard_normal(d) if rng.random() < 0.5 else None, "batch_size": batch_size,
        "momentum": momentum, "l1": float(rng.choice([0.0, 0.1])) * float(np.median(force)),
        "l2": float(rng.choice([0.0, 1e-9, 0.01, 0.5])) / (rate * metric.max()), "intercept_step": step,
        "clamps": clamps,
    }  # fmt: skip
    order = rng.integers(0, n, (updates - 1) * batch_size + rng.integers(1, batch_size + 1))
    first = int(rng.choice([0, updates // 2, updates]))
    run = Run(X, y, s, problem.w, problem.b, order, rate, metric, first, options)
    return run, problem.X, problem.y, problem.s


def run_bounds(run: Run, steps: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """For the parameters after a run and the mean of the averaged ones, which may differ by this from the oracle's.

    E and e bound how far v and c are from the oracle's, M and μ the same of their steps. Of a row of the batch

        residual     is off by ρ = |z|.E + e and by the roundings of its terms: a difference, a product of length d and
                     its sum, and 4 operations besides; in the oracle 5
        factor       f = s r by s ρ, and relatively by 2 operations; a clamp divides it by a sum of d + 1 terms of 3
                     operations each, and as min(1, 1 / reach) is continuous, two that take it differently agree as well
        pull         adds up |B| terms of 3 operations, the drift and l2 v
        step         a rate, a metric, a momentum: 6 operations on each of its terms
        v, c         one operation; the proximal step, which brings two points no farther apart, 3 on v, anchor, reach

    The mean is a sum of as many terms as updates, of which truncation takes back a part; a lag's is summed at once.
    """
    d, o = len(run.v), run.options
    zeros = np.zeros(d)
    means, drift, anchor = (zeros if o[name] is None else o[name] for name in ("means", "drift", "anchor"))
    pace, mom, size = run.rate * run.metric, o["momentum"], o["batch_size"]
    v, c, E, e, M, mu = run.v, run.c, zeros, 0.0, zeros, 0.0
    velocity, velocity_c, total, spent = zeros, 0.0, np.zeros(d + 1), np.zeros(d + 1)
    for t, (new, new_c) in enumerate(steps):
        batch = run.order[t * size : (t + 1) * size]
        Z, s = np.abs(run.X[batch] - means), run.s[batch]
        terms = Z @ np.abs(v) + abs(c) + np.abs(run.y[batch])
        rho = Z @ E + e + 2 * gamma(d + 8) * (terms + Z @ E + e)
        r = np.abs((run.X[batch] - means) @ v + c - run.y[batch]) + rho
        f, delta = s * r, s * rho + 2 * gamma(d + 10) * s * r
        pull = f @ Z / len(batch) + np.abs(drift) + o["l2"] * (np.abs(v) + E)
        pull_c = f.sum() / len(batch) + abs(o["intercept_drift"])
        rounds = 2 * gamma(len(batch) + 16)
        moved = mom * (np.abs(velocity) + M) + pace * pull
        moved_c = mom * (abs(velocity_c) + mu) + run.rate * o["intercept_step"] * pull_c
        M = mom * M + pace * (delta @ Z / len(batch) + o["l2"] * E) + rounds * moved
        mu = mom * mu + run.rate * o["intercept_step"] * delta.sum() / len(batch) + rounds * moved_c
        E = E + M + 2 * gamma(6) * (np.abs(v) + E + moved + np.abs(anchor) + pace * o["l1"])
        e = e + mu + 2 * gamma(3) * (abs(c) + e + moved_c)
        velocity, velocity_c = moved, moved_c
        v, c = new, new_c
        if t >= run.average_from:
            total += np.append(E, e)
            spent += np.append(np.abs(v) + E + moved + 2 * np.abs(anchor) + pace * o["l1"], abs(c) + e + moved_c)
    count = len(steps) - run.average_from
    if count <= 0:
        return np.append(E, e)
    lag = np.append(LAG * pace * np.abs(drift) * count**2, 0.0)
    return np.concatenate([E, [e], total / count + (gamma(2 * count + 8) + gamma(4)) * spent / count + lag])


def check_run(run: Run, X: np.ndarray, y: np.ndarray, s: np.ndarray | None, sparse: bool) -> None:
    as_lists = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in run.options.items()}
    steps = reference.metric_epoch(
        run.X.tolist(), run.y.tolist(), run.v.tolist(), run.order.tolist(), run.rate, run.metric.tolist(),
        run.s.tolist(), run.c, **as_lists,
    )  # fmt: skip
    averaged = [np.append(v, c) for v, c in steps[run.average_from :]]
    expected = np.append(*steps[-1])
    if averaged:
        expected = np.concatenate([expected, np.mean(averaged, axis=0)])

    def computed(block: RowBlock | SparseBlock) -> np.ndarray:
        state = _saga.State(run.v, run.c)
        first = run.average_from * run.options["batch_size"]
        _saga.run(block, state, run.order, run.rate, run.metric, average_from=first, **run.options)
        assert state.n_averaged == len(averaged)
        average = [*map(np.atleast_1d, state.average)] if averaged else []
        return np.concatenate([state.coef, [state.intercept], *average])

    names, results = everywhere(blocks_of(X, y, s, sparse), computed)
    bound = run_bounds(run, [(np.array(v), c) for v, c in steps])
    assert_within(names, results, expected, bound)


@by_dtype
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_runs(sparse: bool, dtype: type) -> None:
    shapes = [(n, d) for n in SIZES[:12] for d in SIZES[:18] if n * d <= 1500]

    @many
    @given(
        st.sampled_from(shapes),
        st.integers(0, 2**32),
        st.sampled_from(["sparse"] if sparse else ["gaussian", "fitted", "sparse", "duplicates", "offset"]),
        st.booleans(),
        st.integers(1, 14),
        st.sampled_from([1, 1, 1, 2, 5, 16]),
    )
    def holds(shape: tuple[int, int], seed: int, kind: str, scaled: bool, updates: int, batch_size: int) -> None:
        check_run(*make_run(*shape, dtype, seed, kind, scaled, updates, batch_size, sparse), sparse)

    holds()


@by_dtype
@pytest.mark.parametrize("d", SIZES)
def test_runs_of_every_size(d: int, dtype: type) -> None:
    for turn, (updates, batch_size) in enumerate([(1, 1), (3, 1), (4, 1), (9, 1), (2, 33)]):
        check_run(*make_run(5, d, dtype, turn, "gaussian", turn % 2 == 0, updates, batch_size, False), sparse=False)


@pytest.mark.parametrize("l1", [0.0, 0.01])
@pytest.mark.parametrize("l2", [0.0, 1e-9, 0.01])
def test_columns_met_after_long_are_where_each_update_had_brought_them(l1: float, l2: float) -> None:
    """Entries that thousands of rows leave out; the same as dense rows, which know no lag."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((4000, 9)) * (rng.random((4000, 9)) < 0.002)
    X[:, 0] = 1.0
    y, v, drift, anchor = rng.standard_normal(4000), *(rng.standard_normal((3, 9)))
    states = []
    for block in (RowBlock(X, y), sparse_block(X, y, None, np.int32)):
        state = _saga.State(v, 0.5)
        _saga.run(
            block, state, np.arange(4000), 0.01, np.ones(9), drift=0.1 * drift, anchor=anchor, l1=l1, l2=l2,
            average_from=2000,
        )  # fmt: skip
        states.append(state)
    dense, lazy = states
    assert lazy.coef == pytest.approx(dense.coef, rel=1e-11, abs=1e-11)
    assert lazy.average[0] == pytest.approx(dense.average[0], rel=1e-9, abs=1e-9)
    assert np.abs(dense.coef - v).min() > 0


def test_columns_that_repeat_within_a_row_add_up() -> None:
    data, indices, indptr = np.array([1.0, 2.0, -1.0, 4.0]), np.array([1, 0, 1, 1]), np.array([0, 3, 4])
    y, options = np.array([1.0, -2.0]), {"l1": 0.1, "l2": 0.2, "drift": [0.1, 0.2], "anchor": [0.0, 0.3]}
    X = np.array([[2.0, 0.0], [0.0, 4.0]])
    results = []
    for block in (SparseBlock(CSR(data, indices, indptr, 2), y), RowBlock(X, y)):
        state = _saga.State([0.5, -0.5])
        _saga.run(block, state, np.array([0, 1, 0]), 0.05, np.ones(2), average_from=0, **options)
        results.append([*state.coef, state.intercept, *state.average[0]])
    assert results[0] == pytest.approx(results[1], rel=1e-14)


@pytest.mark.parametrize("offset", [0, 5])
def test_sparse_rows_may_start_within_their_arrays(offset: int) -> None:
    """A part of a matrix has an indptr that does not start at zero."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 4)) * (rng.random((12, 4)) < 0.6)
    whole = sparse_block(X, np.ones(12), None, np.int32)
    part = whole.part(offset, 12)
    results = []
    for block in (part, RowBlock(X[offset:], np.ones(12 - offset))):
        state = _saga.State(np.zeros(4))
        _saga.run(block, state, np.arange(12 - offset), 0.1, np.ones(4))
        results.append([*state.coef, state.intercept])
    assert results[0] == pytest.approx(results[1], rel=1e-13)


def test_a_clamped_row_is_fitted_and_no_more() -> None:
    for level in LEVELS:
        with running_at(level):
            state = _saga.State(np.zeros(3))
            _saga.run(RowBlock(np.array([[1e3, 2.0, -5e6]]), np.array([7.0])), state, np.array([0]), 1e9, np.ones(3),
                      clamps=True)  # fmt: skip
            assert np.array([1e3, 2.0, -5e6]) @ state.coef + state.intercept == pytest.approx(7.0, rel=1e-12)


def test_runs_go_on_with_the_same_bits_wherever_they_are_cut() -> None:
    problem = make_problem(300, 9, np.float64, seed=2, kind="sparse", scaled=False)
    order = np.random.default_rng(0).integers(0, 300, 1200)
    block = RowBlock(problem.X, problem.y, problem.s)
    for options in ({"drift": np.ones(9)}, {"momentum": 0.5, "batch_size": 4, "l2": 0.1}):
        one, other = _saga.State(np.ones(9)), _saga.State(np.ones(9))
        _saga.run(block, one, order, 0.02, np.ones(9), average_from=400, **options)
        _saga.run(block, other, order[:400], 0.02, np.ones(9), **options)
        _saga.run(block, other, order[400:], 0.02, np.ones(9), average_from=0, **options)
        assert np.array_equal(one.coef, other.coef)
        assert np.array_equal(one.average[0], other.average[0])


def test_a_state_that_was_saved_goes_on_with_the_same_bits() -> None:
    """Velocity and average among it, whatever the state it is loaded into held."""
    problem = make_problem(300, 9, np.float64, seed=2, kind="sparse", scaled=False)
    block, order = RowBlock(problem.X, problem.y, problem.s), np.random.default_rng(0).integers(0, 300, 1200)
    for options in ({"drift": np.ones(9)}, {"momentum": 0.5, "batch_size": 4}, {"momentum": 0.9, "l1": 0.01}):
        one, other = _saga.State(np.ones(9), 0.5), _saga.State([7.0])
        _saga.run(block, one, order[:400], 0.02, np.ones(9), average_from=200, **options)
        saved = one.state_dict()
        _saga.run(block, one, order[400:], 0.02, np.ones(9), average_from=0, **options)
        other.load_state_dict(saved)
        assert other.n_features == 9
        _saga.run(block, other, order[400:], 0.02, np.ones(9), average_from=0, **options)
        states = [one.state_dict(), other.state_dict()]
        assert [*states[0]] == [*states[1]]
        for left, right in zip(*(state.values() for state in states), strict=True):
            assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


def test_a_state_that_does_not_fit_together_changes_nothing() -> None:
    state = _saga.State([1.0, 2.0], 0.5)
    good = state.state_dict()
    changes = [{"velocity": np.ones(3)}, {"total": np.ones(1)}, {"n_averaged": None}, {"coef": [1.0, 2.0, 3.0]}]
    for change in changes:
        with pytest.raises((TypeError, ValueError)):
            state.load_state_dict({**good, "intercept": 9.0, **change})
        assert state.coef.tolist() == [1.0, 2.0] and state.intercept == 0.5


def test_what_is_refused() -> None:
    block, order = RowBlock(np.ones((3, 2)), np.ones(3)), np.arange(3)
    with pytest.raises(ValueError, match="the rows have 2 columns, the state 3"):
        _saga.run(block, _saga.State(np.zeros(3)), order, 0.1, np.ones(3))
    with pytest.raises(IndexError, match="rows from 0 to 2, got -1"):
        _saga.run(block, _saga.State(np.zeros(2)), np.array([0, -1]), 0.1, np.ones(2))
    with pytest.raises(ValueError, match="metric must have 2 entries"):
        _saga.run(block, _saga.State(np.zeros(2)), order, 0.1, np.ones(3))
    with pytest.raises(ValueError, match="a run takes at least a row"):
        _saga.run(block, _saga.State(np.zeros(2)), order[:0], 0.1, np.ones(2))
    sparse = sparse_block(np.ones((3, 2)), np.ones(3), None, np.int32)
    with pytest.raises(ValueError, match="sparse rows are not centred"):
        _saga.run(sparse, _saga.State(np.zeros(2)), order, 0.1, np.ones(2), means=np.ones(2))
    with pytest.raises(ValueError, match="no update was averaged yet"):
        _ = _saga.State([1.0, 2.0]).average


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("whole", [False, True], ids=["rows", "a batch"])
def test_a_run_hears_ctrl_c(whole: bool, sparse: bool, seconds_to_hear: Callable[..., float]) -> None:
    """Within 50 ms, of which a busy machine may take its share: the least of five."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1000, 3)), np.ones(1000)
    block = sparse_block(X, y, None, np.int32) if sparse else RowBlock(X, y)
    order = rng.integers(0, 1000, 20_000_000)
    delays = []
    for _ in range(5):
        state = _saga.State(np.zeros(3))
        delays.append(seconds_to_hear(
            0.06, _saga.run, block, state, order, 0.01, np.ones(3), batch_size=len(order) if whole else 1, l1=0.1
        ))
        assert np.isfinite(state.coef).all()
    assert min(delays) < 0.05
