"""The descent under scikit-learn's rules against `reference.plain_sgd`, and against scikit-learn bit for bit."""

from __future__ import annotations

import itertools
import signal
import time
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDRegressor
from strategies import LAYOUTS, SIZES
from test_kernels import LEVELS, by_dtype, running_at
from test_sgd_kernels import sparse_block

from fastgd import _plain_sgd, reference
from fastgd._plain_sgd import LOSSES, SCHEDULES, Descent
from fastgd._rows import RowBlock
from fastgd._sparse import SparseBlock

PENALTIES = {None: (0.0, 0.0), "l2": (0.5, 0.0), "l1": (0.25, 1.0), "elasticnet": (1.0, 0.5)}
U = 2.0**-53

every_loss = pytest.mark.parametrize("loss", LOSSES)
every_penalty = pytest.mark.parametrize("penalty", PENALTIES)


def twin(X: np.ndarray, y: np.ndarray, w: np.ndarray, order: Any, s: Any, b: float, **options: Any) -> Any:
    return reference.plain_sgd(
        X.tolist(), y.tolist(), w.tolist(), list(order), None if s is None else s.tolist(), b, **options
    )


def blocks(X: np.ndarray, y: np.ndarray, s: np.ndarray | None) -> dict[str, tuple[RowBlock | SparseBlock, bool]]:
    """Each layout, and sparse rows; and whether they are."""
    dense = {
        name: (RowBlock(lay_out(X), lay_out(y), None if s is None else lay_out(s)), False)
        for name, lay_out in LAYOUTS.items()
    }
    return dense | {f"sparse {index.__name__}": (sparse_block(X, y, s, index), True) for index in (np.int32, np.int64)}


# ---- against the twin ------------------------------------------------------------------------------------------------


@by_dtype
@every_loss
@every_penalty
def test_runs_of_small_integers_are_exact(penalty: str | None, loss: str, dtype: type) -> None:
    """Steps and what penalties leave are powers of two: while all digits fit, no kernel may round."""
    alpha, l1_ratio = PENALTIES[penalty]
    options: dict[str, Any] = {"loss": loss, "eta": 0.25, "epsilon": 1.0, "alpha": 4 * alpha, "l1_ratio": l1_ratio}
    if penalty == "l2":
        options["alpha"] = 2.0          # leaves a half
    for d, seed in itertools.product((1, 3, 9, 20), range(3)):
        rng = np.random.default_rng([seed, d])
        X = rng.integers(-1, 2, (7, d)) * (rng.random((7, d)) < 4 / (3 + d))
        y, s, w = rng.integers(-3, 4, 7), rng.integers(0, 3, 7), rng.integers(-2, 3, d)
        order = rng.integers(0, 7, 6)
        for name, (block, sparse) in blocks(X.astype(dtype), y.astype(dtype), s.astype(dtype)).items():
            losses, objective, steps = twin(X, y, w, order, s, 1.0, sparse=sparse, **options)
            for level, strict in itertools.product(LEVELS, (False, True)):
                with running_at(level):
                    descent = Descent(w, 1.0, strict=strict, average=1 if penalty in (None, "l2") else 0, **options)
                    seen = descent.go(block, order)
                where = f"{level}, {name}, strict={strict}"
                assert seen[0] == losses, where
                assert seen[1] == pytest.approx(objective, rel=1e-13), where
                assert (descent.coef.tolist(), descent.intercept) == steps[-1], where
                if descent.n_averaged:
                    mean = np.mean([step for step, _ in steps], axis=0)
                    assert descent.average[0].tolist() == pytest.approx(mean.tolist(), rel=1e-14, abs=1e-14), where


def error_bound(X: np.ndarray, y: np.ndarray, s: np.ndarray, b: float, order: Any, steps: Any, **rule: Any) -> Any:
    """How far coefficients and intercept may be from the oracle's after a run: each update's roundings, carried on.

    As `bounds.sgd_bounds` does it, with a residual whose slope is at most `steep` times as uncertain as it, and with 24
    roundings for the step, of which the series of a power has most.
    """
    w, E, e = rule["w"], np.zeros(X.shape[1]), 0.0
    steep = 2.0 if rule["loss"] == "squared_epsilon_insensitive" else 1.0
    d, due, path = X.shape[1], 0.0, []
    for t, (i, (new, new_b)) in enumerate(zip(order, steps, strict=True)):
        x = np.abs(X[i])
        rate = rule["eta"] / (t + rule["t"]) ** rule["power_t"]
        terms = x @ np.abs(w) + abs(b) + abs(y[i]) + rule["epsilon"] + sum(x @ move + move_b for move, move_b in path)
        rho = x @ E + e + 2 * (d + 24) * U * terms
        r = X[i] @ w + b - y[i]
        size = abs(reference.loss_and_slope(rule["loss"], r, rule["epsilon"])[1]) + steep * rho
        u, off = rate * s[i] * size, rate * s[i] * (steep * rho + 48 * U * size)
        kept = max(0.0, 1.0 - rate * rule["alpha"] * (1 - rule["l1_ratio"]))
        due += rate * rule["alpha"] * rule["l1_ratio"]
        E = kept * E + off * x + 48 * U * ((2 - kept) * np.abs(w) + u * x + 2 * due * (t + 1))
        e += off + 48 * U * (abs(b) + u)
        path = [*path, (2 * u * x, 2 * u)][-3:]
        w, b = np.array(new), new_b
    return E, e


@by_dtype
@pytest.mark.parametrize("loss", ["squared_error", "huber", "squared_epsilon_insensitive"])
@every_penalty
def test_runs_are_within_their_rounding(penalty: str | None, loss: str, dtype: type) -> None:
    """Of every width, before and after t = 4096, where powers of t come from a series."""
    alpha, l1_ratio = PENALTIES[penalty]
    for d, t in itertools.product(SIZES[:-1], (1.0, 5000.0)):
        rng = np.random.default_rng([d, int(t)])
        X, y = rng.standard_normal((11, d)).astype(dtype), rng.standard_normal(11).astype(dtype)
        s, w, order = rng.uniform(0, 2, 11).astype(dtype), rng.standard_normal(d), rng.integers(0, 11, 10)
        options: dict[str, Any] = {
            "loss": loss, "schedule": "invscaling", "eta": t**0.3 / (4 * d), "epsilon": 0.3, "power_t": 0.3,
            "alpha": alpha / 10, "l1_ratio": l1_ratio, "t": t,
        }  # fmt: skip
        doubles = X.astype(float), y.astype(float)
        _, _, steps = twin(*doubles, w, order, s.astype(float), 0.5, **options)
        bound = error_bound(*doubles, s.astype(float), 0.5, order, steps, w=w, **options)
        for name, (block, _) in blocks(X, y, s).items():
            for level, strict in itertools.product(LEVELS, (False, True)):
                with running_at(level):
                    descent = Descent(w, 0.5, strict=strict, **options)
                    descent.go(block, order)
                assert (np.abs(descent.coef - steps[-1][0]) <= bound[0]).all(), (level, name, d)
                assert abs(descent.intercept - steps[-1][1]) <= bound[1], (level, name, d)


@pytest.mark.parametrize("schedule", ["optimal", "pa1", "pa2", "invscaling"])
def test_schedules(schedule: str) -> None:
    rng = np.random.default_rng(5)
    X, y, s = rng.standard_normal((40, 6)), rng.standard_normal(40), rng.uniform(0, 2, 40)
    X[3] = 0.0      # which pa1 passes over
    options: dict[str, Any] = {"loss": "epsilon_insensitive", "schedule": schedule, "step_alpha": 0.5, "epsilon": 0.2}
    losses, objective, steps = twin(X, y, np.zeros(6), range(40), s, 0.0, **options)
    assert len(steps) == (39 if schedule == "pa1" else 40)
    for strict in (False, True):
        descent = Descent(np.zeros(6), strict=strict, **options)
        seen = descent.go(RowBlock(X, y, s), np.arange(40))
        assert seen == pytest.approx((losses, objective), rel=1e-12)
        assert descent.coef == pytest.approx(np.array(steps[-1][0]), rel=1e-11)
        assert descent.t == len(steps) + 1


def test_a_steep_slope_is_cut_off() -> None:
    for strict in (False, True):
        descent = Descent([0.0], eta=1.0, strict=strict)
        descent.go(RowBlock(np.ones((1, 1)), np.array([1e15])), np.zeros(1, np.intp))
        _, _, steps = twin(np.ones((1, 1)), np.array([1e15]), np.zeros(1), [0], None, 0.0, eta=1.0)
        assert (descent.coef.tolist(), descent.intercept) == steps[0] == ([1e12], 1e12)


def test_penalties_that_take_everything() -> None:
    """A scale that falls below its floor, at once or little by little, is multiplied in, also into the average."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 5)), rng.standard_normal(300)
    for alpha in (0.5, 40.0, 200.0):
        options = {"eta": 0.01, "alpha": alpha}
        _, _, steps = twin(X, y, np.zeros(5), range(300), None, 0.0, **options)
        for strict in (False, True):
            descent = Descent(np.zeros(5), average=1, strict=strict, **options)
            descent.go(RowBlock(X, y), np.arange(300))
            assert descent.coef == pytest.approx(np.array(steps[-1][0]), rel=1e-10, abs=1e-13)
            mean = np.mean([w for w, _ in steps], axis=0)
            assert descent.average[0] == pytest.approx(mean, rel=1e-9, abs=1e-10)


def test_an_average_goes_on() -> None:
    """From the mean and the number of the next update alone; and it may begin in the midst of a panel."""
    rng = np.random.default_rng(1)
    block = RowBlock(rng.standard_normal((60, 3)), rng.standard_normal(60))
    for begin in (1, 6, 30, 50):
        whole = Descent(np.zeros(3), average=begin)
        whole.go(block, np.arange(60))
        first = Descent(np.zeros(3), average=begin)
        first.go(block, np.arange(40))
        second = Descent(
            first.coef, first.intercept, average=begin, t=first.t, mean=first.average if first.n_averaged else None
        )
        second.go(block, np.arange(40, 60))
        assert second.n_averaged == whole.n_averaged == 61 - begin
        assert second.average[0] == pytest.approx(whole.average[0], rel=1e-13)
        assert second.average[1] == pytest.approx(whole.average[1], rel=1e-13)


# ---- scikit-learn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@every_loss
@every_penalty
def test_strict_runs_have_the_bits_of_scikit_learn(penalty: str | None, loss: str, sparse: bool) -> None:
    """Also where the descent goes uphill, as that of "optimal" steps does at first."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((90, 11)) * (rng.random((90, 11)) < (0.4 if sparse else 1))
    y, s = X @ rng.standard_normal(11) + rng.standard_normal(90), rng.uniform(0, 2, 90)
    l1_ratio = {"l1": 1.0, "elasticnet": 0.3}.get(penalty or "", 0.0)
    block = sparse_block(X[:, ::-1], y, s, np.int32) if sparse else RowBlock(X, y, s)
    if sparse:      # its entries from the last to the first, as `sparse_block` has them
        X = csr_matrix((block.X.data, block.X.indices, block.X.indptr), shape=X.shape)
    for schedule in SCHEDULES:
        if schedule == "adaptive" or (schedule.startswith("pa") and loss != "epsilon_insensitive"):
            continue
        peer = SGDRegressor(
            loss, penalty=penalty, l1_ratio=0.3, learning_rate=schedule, alpha=0.003, max_iter=3, tol=None,
            shuffle=False,
        )  # fmt: skip
        peer.fit(X, y, sample_weight=s)
        descent = Descent(
            np.zeros(11), loss=loss, schedule=schedule, alpha=0.003 if penalty else 0.0, l1_ratio=l1_ratio,
            step_alpha=0.003, intercept_step=0.01 if sparse else 1.0, strict=True,
        )  # fmt: skip
        for _ in range(3):
            descent.go(block, np.arange(90))
        assert (descent.coef.tolist(), descent.intercept) == (peer.coef_.tolist(), peer.intercept_[0]), schedule


# ---- keys ------------------------------------------------------------------------------------------------------------


@by_dtype
def test_keys_tell_rows_apart_whatever_their_layout(dtype: type) -> None:
    rng = np.random.default_rng(2)
    X, y = rng.integers(-2, 3, (500, 4)).astype(dtype), rng.integers(0, 3, 500).astype(dtype)
    expected = _plain_sgd.keys(RowBlock(X, y))
    rows = np.column_stack([X, y])
    assert len(np.unique(expected)) == len(np.unique(rows, axis=0)) > 300
    X[X == 0] = -0.0
    for level in LEVELS:
        with running_at(level):
            for block, _ in blocks(X, y, None).values():
                assert (_plain_sgd.keys(block) == expected).all()
    swapped = rng.permutation(500)
    assert (_plain_sgd.keys(RowBlock(X[swapped], y[swapped])) == expected[swapped]).all()
    assert (_plain_sgd.keys(RowBlock(X[:, ::-1].copy(), y)) != expected).sum() > 350


# ---- the door --------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    block, descent = RowBlock(np.ones((3, 2)), np.ones(3)), Descent(np.zeros(2))
    with pytest.raises(IndexError, match="rows from 0 to 2, got 3"):
        descent.go(block, np.array([0, 3]))
    with pytest.raises(IndexError, match="got -1"):
        descent.go(block, np.array([-1]))
    with pytest.raises(ValueError, match="2 columns, the descent 3"):
        Descent(np.zeros(3)).go(block, np.array([0]))
    with pytest.raises(ValueError, match="no update was averaged"):
        _ = descent.average
    with pytest.raises(KeyError):
        Descent(np.zeros(2), loss="hinge")
    assert descent.go(block, np.empty(0, np.intp)) == (0.0, 0.0)
    assert descent.is_finite
    assert not Descent([np.inf]).is_finite


def test_ctrl_c_is_heard_in_a_long_run() -> None:
    block, descent = RowBlock(np.ones((1000, 50)), np.ones(1000)), Descent(np.zeros(50), eta=1e-3, strict=True)
    order = np.tile(np.arange(1000), 20000)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    start = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            descent.go(block, order)
        assert time.perf_counter() - start < 0.2 + 0.25
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
