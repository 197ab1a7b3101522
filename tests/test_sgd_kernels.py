"""The stochastic kernels against `reference.sgd_epoch`, under the bound of `bounds.sgd_bounds`, and scikit-learn."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import bounds
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDRegressor
from strategies import LAYOUTS, SIZES, make_problem
from test_kernels import LEVELS, assert_within, by_dtype, everywhere, many, running_at

from fastgd import _sgd, reference
from fastgd._csr import CSR
from fastgd._rows import RowBlock
from fastgd._sparse import SparseBlock

KINDS = ("gaussian", "fitted", "integers", "sparse", "duplicates", "offset")


def sparse_block(X: np.ndarray, y: np.ndarray, s: np.ndarray | None, index: type) -> SparseBlock:
    """X without its zeros; the entries of each row from the last column to the first."""
    parts = [np.flatnonzero(row)[::-1] for row in X]
    indptr = np.cumsum([0, *map(len, parts)]).astype(index)
    data = np.concatenate([row[part] for row, part in zip(X, parts, strict=True)])
    return SparseBlock(CSR(data, np.concatenate(parts).astype(index), indptr, X.shape[1]), y, s)


def blocks_of(X: np.ndarray, y: np.ndarray, s: np.ndarray | None, sparse: bool) -> dict[str, RowBlock | SparseBlock]:
    """The same rows in every form that a kernel takes."""
    if sparse:
        return {str(index): sparse_block(X, y, s, index) for index in (np.int32, np.int64)}
    return {
        name: RowBlock(lay_out(X), lay_out(y), None if s is None else lay_out(s)) for name, lay_out in LAYOUTS.items()
    }


def make_descent(
    n: int, d: int, dtype: type, seed: int, kind: str, scaled: bool, updates: int, batch_size: int
) -> tuple[bounds.Descent, np.ndarray, np.ndarray, np.ndarray | None]:
    """A run on random rows, with rates of which the largest is small, fair, or nearly too large; and its data."""
    rng = np.random.default_rng([seed, updates, batch_size])
    problem = make_problem(n, d, dtype, seed, kind, scaled)
    if rng.random() < 0.3:
        problem = problem.unweighted()
    X, y, s = problem.doubles()
    order = rng.integers(0, n, (updates - 1) * batch_size + rng.integers(1, batch_size + 1))
    step = rng.choice([0.0, 0.01, 1.0])
    steepest = np.max(s * ((X * X).sum(axis=1) + step)) or 1.0
    rates = rng.choice([0.05, 0.5, 1.5]) / steepest * rng.uniform(0.1, 1, 1 if rng.random() < 0.3 else updates)
    strength = rates.max() or 1.0
    return (
        bounds.Descent(
            X, y, s, problem.w, problem.b, order, rates, batch_size,
            l1=rng.choice([0.0, 0.0, 0.01, 1.0]) * np.abs(problem.w).max() / strength,
            l2=rng.choice([0.0, 0.0, 0.01, 0.4, 3.0]) / strength,
            intercept_step=step,
            average_from=rng.choice([0, updates // 2, updates]),
        ),
        problem.X, problem.y, problem.s,
    )  # fmt: skip


def check_run(descent: bounds.Descent, X: np.ndarray, y: np.ndarray, s: np.ndarray | None, sparse: bool) -> None:
    d, updates = X.shape[1], -(-len(descent.order) // descent.batch_size)
    options = {"l1": descent.l1, "l2": descent.l2, "intercept_step": descent.intercept_step}
    rates = np.broadcast_to(descent.rates, updates)
    sums, steps = reference.sgd_epoch(
        descent.X.tolist(), descent.y.tolist(), descent.w.tolist(), descent.order.tolist(), rates.tolist(),
        descent.s.tolist(), descent.b, descent.batch_size, sparse=sparse, **options,
    )  # fmt: skip
    mean = [np.append(w, b) for w, b in steps[descent.average_from :]]
    expected = np.concatenate([*map(np.atleast_1d, steps[-1]), sums, *([np.mean(mean, axis=0)] if mean else [])])
    run = bounds.Descent(**{**vars(descent), "rates": rates})

    def computed(block: RowBlock | SparseBlock) -> np.ndarray:
        state = _sgd.State(descent.w, descent.b)
        sums = _sgd.run(
            block, state, descent.order, descent.rates, descent.batch_size, average_from=descent.average_from, **options
        )
        assert (state.n_updates, state.n_averaged) == (updates, len(mean))
        average = [*map(np.atleast_1d, state.average)] if mean else []
        return np.concatenate([state.coef, [state.intercept], sums, *average])

    names, results = everywhere(blocks_of(X, y, s, sparse), computed)
    assert results.shape[1] == d + 4 + (d + 1 if mean else 0)
    assert_within(names, results, expected, bounds.sgd_bounds(run, steps))


@by_dtype
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_runs(sparse: bool, dtype: type) -> None:
    shapes = [(n, d) for n in SIZES[:12] for d in SIZES[:18] if n * d <= 1500]

    @many
    @given(
        st.sampled_from(shapes),
        st.integers(0, 2**32),
        st.sampled_from(["sparse", "integers"] if sparse else KINDS),
        st.booleans(),
        st.integers(1, 14),
        st.sampled_from([1, 1, 1, 2, 5, 16]),
    )
    def holds(shape: tuple[int, int], seed: int, kind: str, scaled: bool, updates: int, batch_size: int) -> None:
        check_run(*make_descent(*shape, dtype, seed, kind, scaled, updates, batch_size), sparse)

    holds()


@by_dtype
@pytest.mark.parametrize("d", SIZES)
def test_runs_of_every_size(d: int, dtype: type) -> None:
    for turn, (updates, batch_size) in enumerate([(1, 1), (3, 1), (4, 1), (9, 1), (2, 33)]):
        check_run(*make_descent(5, d, dtype, turn, "gaussian", turn % 2 == 0, updates, batch_size), sparse=turn == 3)


@by_dtype
@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize("l1", [0.0, 0.25])
def test_runs_of_small_integers_are_exact(batch_size: int, l1: float, dtype: type) -> None:
    """Steps that are powers of two: while all digits fit, no kernel may round, whatever it regroups."""
    for d, seed in itertools.product((1, 3, 9, 20), range(5)):
        rng = np.random.default_rng([seed, d])
        X = rng.integers(-2, 3, (7, d)) * (rng.random((7, d)) < 4 / (3 + d))
        y, s, w = rng.integers(-3, 4, 7), rng.integers(0, 3, 7), rng.integers(-2, 3, d)
        order = rng.integers(0, 7, 5 * batch_size)
        for sparse in (False, True):
            sums, steps = reference.sgd_epoch(
                X.tolist(), y.tolist(), w.tolist(), order.tolist(), [0.125] * 5, s.tolist(), 1.0, batch_size,
                l1=l1, sparse=sparse,
            )  # fmt: skip
            for level in LEVELS:
                with running_at(level):
                    state = _sgd.State(w, 1.0)
                    data = X.astype(dtype), y.astype(dtype), s.astype(dtype)
                    block = sparse_block(*data, np.int32) if sparse else RowBlock(*data)
                    seen = _sgd.run(block, state, order, np.array([0.125]), batch_size, l1=l1, average_from=2)
                    assert list(seen) == sums
                    assert (state.coef.tolist(), state.intercept) == steps[-1]
                    assert (3 * state.average[0]).tolist() == pytest.approx(np.sum([w for w, _ in steps[2:]], axis=0))


# ---- scikit-learn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("average", [0, 1, 50])
@pytest.mark.parametrize("penalty", [None, "l2", "l1", "elasticnet"])
def test_scikit_learn_comes_to_the_same(penalty: str | None, average: int, sparse: bool) -> None:
    """Row for row in the same order, for a constant and a decreasing rate, to rounding."""
    rng = np.random.default_rng(7)
    X = rng.standard_normal((120, 23)) * (rng.random((120, 23)) < (0.3 if sparse else 1))
    y = X @ (rng.standard_normal(23) * (rng.random(23) < 0.5)) + 0.3 + 0.1 * rng.standard_normal(120)
    s, epochs, alpha = rng.uniform(0, 2, 120), 5, 0.02
    l1_ratio = {None: 0.0, "l2": 0.0, "l1": 1.0, "elasticnet": 0.4}[penalty]
    for schedule in ("constant", "invscaling"):
        peer = SGDRegressor(
            penalty=penalty, alpha=alpha, l1_ratio=l1_ratio, learning_rate=schedule, eta0=0.02, max_iter=epochs,
            tol=None, shuffle=False, average=average or False,
        )  # fmt: skip
        peer.fit(csr_matrix(X) if sparse else X, y, sample_weight=s)
        rates = 0.02 / np.arange(1, epochs * 120 + 1) ** peer.power_t if schedule == "invscaling" else np.array([0.02])
        state = _sgd.State(np.zeros(23))
        _sgd.run(
            sparse_block(X, y, s, np.int32) if sparse else RowBlock(X, y, s),
            state, np.tile(np.arange(120), epochs), rates,
            l1=alpha * l1_ratio if penalty else 0.0, l2=alpha * (1 - l1_ratio) if penalty else 0.0,
            intercept_step=0.01 if sparse else 1.0, average_from=average - 1 if average else None, as_always=True,
        )  # fmt: skip
        coef, intercept = state.average if average else (state.coef, state.intercept)
        assert coef == pytest.approx(peer.coef_, rel=1e-11, abs=1e-12)
        assert intercept == pytest.approx(peer.intercept_[0], rel=1e-11)
        if penalty == "l1" and not average:
            assert 0 < np.count_nonzero(coef) < 23


# ---- the state -------------------------------------------------------------------------------------------------------


def penalised_run(state: _sgd.State, order: np.ndarray, sparse: bool, batch_size: int = 1) -> tuple[float, ...]:
    problem = make_problem(300, 9, np.float64, seed=2, kind="sparse", scaled=False)
    block = sparse_block(problem.X, problem.y, problem.s, np.int64) if sparse else RowBlock(problem.X, problem.y)
    return _sgd.run(block, state, order, np.array([0.05]), batch_size, l1=0.01, l2=0.1, average_from=70)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_a_run_goes_on_with_the_same_bits(sparse: bool, batch_size: int) -> None:
    """In a new state loaded from the dictionary of an old one, before and after averaging began."""
    order = np.random.default_rng(0).integers(0, 300, 1200)
    for cut in (40, 800):
        one, other, loaded = _sgd.State(np.ones(9)), _sgd.State(np.ones(9)), _sgd.State([0.0])
        penalised_run(one, order[:cut], sparse, batch_size)
        penalised_run(other, order[:cut], sparse, batch_size)
        loaded.load_state_dict(other.state_dict())
        penalised_run(other, order[:3], sparse, batch_size)  # which is not to be seen in the copy
        sums = [penalised_run(state, order[cut:], sparse, batch_size) for state in (one, loaded)]
        assert sums[0] == sums[1]
        states = [one.state_dict(), loaded.state_dict()]
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            assert np.array_equal(value, states[1][name]), name
        assert one.n_updates == 1200 // batch_size
        assert one.n_averaged == 1200 // batch_size - 70
        assert (one.average[0] != one.coef).any()


def test_the_average_of_a_new_state() -> None:
    with pytest.raises(ValueError, match="no update was averaged yet"):
        _ = _sgd.State([1.0, 2.0]).average


# ---- long runs -------------------------------------------------------------------------------------------------------


def integers(n: int, dtype: type, sparse: bool) -> tuple[RowBlock | SparseBlock, list[np.ndarray]]:
    rng = np.random.default_rng(3)
    X, y = rng.integers(-2, 3, (n, 3)), rng.integers(-2, 3, n)
    data = X.astype(dtype), y.astype(dtype)
    return (sparse_block(*data, None, np.int32) if sparse else RowBlock(*data)), [X, y]


@by_dtype
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_runs_longer_than_a_piece(sparse: bool, dtype: type) -> None:
    """More rows than pass between two looks at Ctrl-C, singly and in one batch, without a rounding."""
    n = 1 << 17
    block, (X, y) = integers(n, dtype, sparse)
    order = np.random.default_rng(4).permutation(n)
    r = X @ [1, -1, 2] + 1 - y
    state = _sgd.State([1, -1, 2], 1.0)
    assert _sgd.run(block, state, order, np.array([0.0])) == (np.sum(r * r), np.sum(r * r), n)
    assert (state.coef.tolist(), state.intercept, state.n_updates) == ([1, -1, 2], 1.0, n)
    assert _sgd.run(block, state, order, np.array([0.5]), n) == (np.sum(r * r), np.sum(r * r), n)
    assert state.coef.tolist() == ([1, -1, 2] - r @ X / (2 * n)).tolist()
    assert (state.intercept, state.n_updates) == (1 - np.sum(r) / (2 * n), n + 1)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("whole", [False, True], ids=["rows", "a batch"])
def test_a_run_hears_ctrl_c(whole: bool, sparse: bool, seconds_to_hear: Callable[..., float]) -> None:
    """Within 50 ms, of which a busy machine may take its share: the least of five."""
    block, _ = integers(1000, np.float64, sparse)
    order = np.random.default_rng(5).integers(0, 1000, 20_000_000)
    delays = []
    for _ in range(5):
        state = _sgd.State(np.zeros(3))
        delays.append(seconds_to_hear(
            0.06, _sgd.run, block, state, order, np.array([0.01]), len(order) if whole else 1, l1=0.1
        ))
        assert state.n_updates < len(order)
        assert np.isfinite(state.coef).all()
    assert min(delays) < 0.05


# ---- orders ----------------------------------------------------------------------------------------------------------


def shuffled(n: int, seed: int, stretch: int = 1, window: int = 1) -> np.ndarray:
    order = np.full(n, -1, dtype=np.intp)
    _sgd.shuffle(order, seed, stretch, window)
    return order


@many
@given(st.integers(1, 40), st.integers(0, 2**64 - 1), st.integers(1, 9), st.integers(1, 50))
def test_short_orders(n: int, seed: int, stretch: int, window: int) -> None:
    order = shuffled(n, seed, stretch, window).tolist()
    assert order == reference.shuffle(n, seed, stretch, window)
    assert sorted(order) == list(range(n))


@pytest.mark.parametrize("n", [8191, 8192, 8193, 65536, 140_001])
@pytest.mark.parametrize(("stretch", "window"), [(1, 1), (7, 100), (3, 1), (1, 70_000)])
def test_long_orders(n: int, stretch: int, window: int) -> None:
    """With and without buckets, and in more pieces than one between looks at Ctrl-C."""
    order = shuffled(n, n, stretch, window)
    assert order.tolist() == reference.shuffle(n, n, stretch, window)
    assert np.array_equal(np.sort(order), np.arange(n))


@many
@given(st.lists(st.integers(0, 99), max_size=40), st.integers(0, 2**64 - 1), st.integers(1, 50))
def test_windows_of_an_order(rows: list[int], seed: int, window: int) -> None:
    order = np.array(rows, dtype=np.intp)
    _sgd.shuffle_within(order, seed, window)
    assert order.tolist() == reference.shuffle_within(rows, seed, window)
    for start in range(0, len(rows), window):
        assert sorted(order[start : start + window]) == sorted(rows[start : start + window])


def test_a_window_has_a_row() -> None:
    with pytest.raises(ValueError, match="a window must have a row at least; got 0"):
        _sgd.shuffle_within(np.arange(5), 1, 0)


def chi_squares(counts: np.ndarray) -> float:
    """How far counts of what should be equally frequent are from that, in standard deviations of the statistic."""
    expected, freedom = counts.mean(), counts.size - 1
    return (((counts - expected) ** 2).sum() / expected - freedom) / np.sqrt(2 * freedom)


def test_all_short_orders_are_equally_likely() -> None:
    found = [tuple(shuffled(5, seed)) for seed in range(12_000)]
    counts = np.array([found.count(order) for order in itertools.permutations(range(5))])
    assert abs(chi_squares(counts)) < 4


def test_rows_of_long_orders_go_anywhere() -> None:
    """Where two neighbours go, in tenths of the order, over many seeds."""
    n, counts = 10_000, np.zeros((10, 10))
    for seed in range(4000):
        order = shuffled(n, seed)
        first, second = (int(np.flatnonzero(order == row)[0]) * 10 // n for row in (4321, 4322))
        counts[first, second] += 1
    assert abs(chi_squares(counts)) < 4


def test_seeds_give_different_orders() -> None:
    """Also those of consecutive epochs, which share not more places than chance has it."""
    orders = [shuffled(9000, seed) for seed in (0, 1, 2, 2**63, 2**64 - 1)]
    for one, other in itertools.combinations(orders, 2):
        assert np.count_nonzero(one == other) < 10


def test_stretches_stay_in_windows() -> None:
    n, stretch, window = 100_003, 20, 1000
    order = shuffled(n, 1, stretch, window)
    for start in range(0, n - window, window):
        part = order[start : start + window]
        assert len(np.unique(part // stretch)) <= window // stretch + 2
        assert np.ptp(part) > n / 2
        assert np.count_nonzero(np.diff(part) == 1) < 10


def test_a_shuffle_hears_ctrl_c(seconds_to_hear: Callable[..., float]) -> None:
    order = np.empty(20_000_000, dtype=np.intp)
    delays = [seconds_to_hear(0.005 + 0.012 * turn, _sgd.shuffle, order, turn) for turn in range(5)]
    assert np.median(delays) < 0.05


@pytest.mark.parametrize(
    ("order", "options", "error", "words"),
    [
        (np.arange(0), {}, ValueError, "must have a row at least; got 0, 1 and 1"),
        (np.arange(3), {"stretch": 0}, ValueError, "must have a row at least; got 3, 0 and 1"),
        (np.arange(3), {"window": 0}, ValueError, "must have a row at least; got 3, 1 and 0"),
        (np.arange(6)[::2], {}, ValueError, "contiguous"),
        (np.arange(3.0), {}, ValueError, "dtype mismatch"),
        (np.arange(3), {"seed": -1}, OverflowError, "negative"),
    ],
    ids=str,
)
def test_wrong_orders(order: np.ndarray, options: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        _sgd.shuffle(order, **{"seed": 0, **options})


# ---- what is not finite, what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"l1": 0.1}, {"l2": 0.1}, {"batch_size": 3}, {"average_from": 0}], ids=str)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_what_is_not_finite_comes_out(sparse: bool, options: dict) -> None:
    """A NaN in any element, and a rate that is too large."""
    for d in (1, 5, 9, 40):
        problem = make_problem(9, d, np.float64, seed=d, scaled=False)
        order = np.arange(9)
        for place in (0, 4, 8):
            for where, value in itertools.product("Xy", (np.nan, np.inf)):
                X, y = problem.X.copy(), problem.y.copy()
                (X[place] if where == "X" else y)[place % d if where == "X" else place] = value
                block = sparse_block(X, y, None, np.int32) if sparse else RowBlock(X, y)
                sums = _sgd.run(block, _sgd.State(np.zeros(d)), order, np.array([0.01]), **options)
                assert not np.isfinite(sums[0])
        block = sparse_block(problem.X, problem.y, None, np.int32) if sparse else RowBlock(problem.X, problem.y)
        with np.errstate(all="ignore"):
            sums = _sgd.run(block, _sgd.State(np.ones(d)), np.tile(order, 40), np.array([1e30]), **options)
        assert not np.isfinite(sums[0])


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_outside_the_rows_counts(layout: str, dtype: type) -> None:
    """Whatever lies between and around the elements is NaN, and so are rows that are left out."""
    for d in range(1, 41):
        problem = make_problem(9, d, dtype, seed=d, scaled=False)
        problem.X[[0, 3, 8]] = np.nan
        block = RowBlock(*(LAYOUTS[layout](array) for array in (problem.X, problem.y, problem.s)))
        for options in ({}, {"l2": 0.1, "average_from": 0}, {"l1": 0.1}, {"batch_size": 3}):

            def run(block: RowBlock, d: int = d, options: dict = options) -> np.ndarray:
                state = _sgd.State(np.ones(d))
                sums = _sgd.run(block, state, np.array([1, 2, 4, 5, 6, 7, 1]), np.array([0.01]), **options)
                return np.concatenate([state.coef, sums])

            _, computed = everywhere({layout: block}, run)
            assert np.isfinite(computed).all(), (d, options)


GOOD = {"order": np.arange(6), "rates": np.array([0.1])}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"order": np.array([0, 6])}, IndexError, "rows from 0 to 5, got 6"),
        ({"order": np.array([0, -1])}, IndexError, "rows from 0 to 5, got -1"),
        ({"order": np.arange(0)}, ValueError, "at least a row, and so does an update; got 0 and 1"),
        ({"batch_size": 0}, ValueError, "at least a row, and so does an update; got 6 and 0"),
        ({"rates": np.ones(5)}, ValueError, "rates must be one or 6, one for each update; got 5"),
        ({"rates": np.ones(6), "batch_size": 4}, ValueError, "rates must be one or 2"),
        ({"rates": np.ones(0)}, ValueError, "rates must be one or 6"),
        ({"state": _sgd.State(np.zeros(4))}, ValueError, "the rows have 3 columns, the state 4"),
        ({"block": np.ones((6, 3))}, TypeError, "SparseBlock"),
        ({"state": None}, TypeError, "state"),
    ],
    ids=str,
)
def test_wrong_arguments(change: dict, error: type, words: str) -> None:
    state = change.get("state", _sgd.State(np.zeros(3)))
    with pytest.raises(error, match=words):
        _sgd.run(**{"block": RowBlock(np.ones((6, 3)), np.ones(6)), "state": state, **GOOD, **change})
    assert state is None or state.n_updates == 0


def test_vectors_of_a_state_have_one_length() -> None:
    state = _sgd.State(np.zeros(3))
    with pytest.raises(ValueError, match="one length"):
        state.load_state_dict({**state.state_dict(), "total": np.zeros(4)})
    assert state.n_features == 3


# ---- the check is checked --------------------------------------------------------------------------------------------


WRONG: dict[str, Callable[[dict], None]] = {
    "a rate": lambda options: options["rates"].__setitem__(3, options["rates"][3] * (1 + 1e-10)),
    "the order": lambda options: options["order"].__setitem__(slice(2, 4), options["order"][[3, 2]]),
    "l1": lambda options: options.update(l1=options["l1"] * (1 + 1e-9)),
    "l2": lambda options: options.update(l2=options["l2"] * (1 + 1e-9)),
    "the intercept's step": lambda options: options.update(intercept_step=options["intercept_step"] * (1 + 1e-9)),
    "where averaging starts": lambda options: options.update(average_from=options["average_from"] + 1),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_bound_catches_what_is_wrong(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    X, y, w = rng.standard_normal((9, 5)), rng.standard_normal(9), rng.standard_normal(5)
    descent = bounds.Descent(
        X, y, np.ones(9), w, 0.5, np.arange(9), np.full(9, 0.02), 1, l1=0.1, l2=0.2, intercept_step=1.0, average_from=4
    )
    check_run(descent, X, y, None, sparse=False)
    right = _sgd.run

    def changed(block: RowBlock, state: _sgd.State, order: np.ndarray, rates: np.ndarray, *batch: int, **others: float):
        options = {"order": order.copy(), "rates": rates.copy(), **others}
        WRONG[wrong](options)
        return right(block, state, options.pop("order"), options.pop("rates"), *batch, **options)

    monkeypatch.setattr(_sgd, "run", changed)
    with pytest.raises(AssertionError):
        check_run(descent, X, y, None, sparse=False)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_a_part_of_sparse_rows_is_as_good_as_the_rows_alone(index: type) -> None:
    """Its row starts do not begin at zero."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 6)) * (rng.random((30, 6)) < 0.5)
    y, rates, order = rng.standard_normal(30), np.array([0.01]), np.arange(7)
    states = []
    for block in (sparse_block(X, y, None, index).part(11, 18), sparse_block(X[11:18], y[11:18], None, index)):
        for batch in (1, 3):
            states.append(_sgd.State(np.ones(6)))
            _sgd.run(block, states[-1], order, rates, batch, l1=0.01)
    for part, alone in zip(states[:2], states[2:], strict=True):
        np.testing.assert_array_equal(part.coef, alone.coef)
