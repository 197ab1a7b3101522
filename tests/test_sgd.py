"""`fit(..., solver="sgd")`: what it reaches with nothing to tune, the textbook's trajectory, and how it fails."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import ElasticNet
from test_fit import data, least_squares, weights

import fastgd as fg
from fastgd import reference
from fastgd.objective import MSE
from fastgd.solvers._epochs import SPAN, Epochs, spans
from fastgd.solvers.sgd import FACTOR, LONG, PATIENCE, QUIET, QUIETER, RAISE, STALLED, STEP, Schedule, Settling


def sgd(X: Any, y: Any, **options: Any) -> fg.FitResult:
    """A fit that is not expected to meet tol."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.ConvergenceWarning)
        return fg.fit(X, y, solver="sgd", **options)


def loss_of(X: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: float, s: np.ndarray | None = None) -> float:
    return float(np.average((X @ coef + intercept - y) ** 2, weights=s))


def gap(r: fg.FitResult, X: np.ndarray, y: np.ndarray, s: np.ndarray | None = None) -> float:
    """How far the loss is above the least one, relative to it."""
    least = loss_of(X, y, *least_squares(X, y, s), s)
    return loss_of(np.asarray(X, float), y, r.coef, r.intercept, s) / least - 1


# ---- nothing to tune -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_column_thirty_times_the_others(seed: int) -> None:
    """On which scikit-learn's defaults come to R^2 < 0 without a warning."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((1000, 5))
    X[:, 0] *= 30
    y = X @ rng.standard_normal(5) + rng.standard_normal(1000)
    r = sgd(X, y)
    best = loss_of(X, y, *least_squares(X, y))
    assert (loss_of(X, y, r.coef, r.intercept) - best) / np.var(y) < 0.01
    assert gap(r, X, y) < 1e-3


def test_scales_and_means_cost_nothing() -> None:
    """The same columns in other units: the same epochs, to the rounding that large means leave."""
    X, y = data(2000, 4, means=0.0)
    units = np.array([1e6, 1e-6, 1.0, 1e3])
    plain, scaled = sgd(X, y, max_iter=5), sgd(X * units + 10 * units, y, max_iter=5)
    assert scaled.history["loss"][1:] == pytest.approx(plain.history["loss"][1:], rel=1e-8)
    assert scaled.coef * units == pytest.approx(plain.coef, rel=1e-7)


@pytest.mark.parametrize("kind", ["heavy", "outlier", "sorted", "constant", "few"])
def test_the_auto_step_cannot_diverge(kind: str) -> None:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((5 if kind == "few" else 3000, 6))
    if kind == "heavy":
        X = rng.standard_cauchy((3000, 6))
    elif kind == "outlier":
        X[17] *= 1e6
    elif kind == "sorted":
        X.sort(axis=0)
    elif kind == "constant":
        X[:, 2] = 7.0
    y = X @ rng.standard_normal(6) + 0.1 * rng.standard_normal(len(X))
    r = sgd(X, y, max_iter=30)
    assert np.isfinite(r.history["loss"]).all()
    assert r.history["loss"].max() == r.history["loss"][0]
    assert r.loss < 0.2 * r.history["loss"][0]
    if kind == "constant":
        assert r.coef[2] == 0


def test_it_ends_when_the_loss_has_stopped_falling_and_warns() -> None:
    X, y = data(500, 4)
    with pytest.warns(fg.ConvergenceWarning, match="sgd: the loss stopped falling"):
        r = fg.fit(X, y, solver="sgd")
    assert STALLED < r.n_iter < 200
    assert not r.converged
    least = np.minimum.accumulate(r.history["loss"])
    assert least[-1 - STALLED] * (1 - 1e-5) < least[-1]


def test_without_a_tolerance_it_makes_all_epochs() -> None:
    X, y = data(60, 2)
    r = fg.fit(X, y, solver="sgd", tol=0, max_iter=150)
    assert (r.n_iter, r.stop_reason) == (150, "max_iter=150 reached")


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000, 5000])
def test_batches_of_every_size_come_near_the_optimum(batch_size: int) -> None:
    X, y = data(1000, 5)
    assert gap(sgd(X, y, batch_size=batch_size, max_iter=200), X, y) < 2e-3


@pytest.mark.parametrize("options", [
    {"momentum": 0.5}, {"momentum": 0.9, "batch_size": 16}, {"schedule": "constant"}, {"schedule": "invscaling"},
    {"schedule": "adaptive"}, {"schedule": "adaptive", "average": False},
], ids=str)  # fmt: skip
def test_options_come_near_the_optimum(options: dict[str, Any]) -> None:
    X, y = data(2000, 5)
    assert gap(sgd(X, y, max_iter=60, **options), X, y) < 5e-3


def test_the_noise_of_the_last_parameters_falls_with_the_step() -> None:
    """To rate E|z|^2 / 2 of the loss, STEP / 2 over the root of the epochs; a third to thrice that, for it is noise."""
    X, y = data(2000, 5)
    r = sgd(X, y, max_iter=64, tol=0, average=False, schedule="invscaling", power_t=0.5)
    least = loss_of(X, y, *least_squares(X, y))
    late = np.mean(r.history["loss"][48:] / least - 1)
    assert STEP / 2 / 8 / 3 < late < STEP / 2 / 8 * 3


def test_averaging_is_nearer_than_the_last_parameters() -> None:
    X, y = data(2000, 5)
    fits = [sgd(X, y, average=average, max_iter=10, schedule="constant") for average in (True, False)]
    assert gap(fits[0], X, y) < 0.1 * gap(fits[1], X, y)


# ---- schedules -------------------------------------------------------------------------------------------------------


def test_schedules() -> None:
    losses = [5.0, 4.0, 4.0, 3.0, 3.0, 3.0]
    rates = {}
    for name in ("constant", "invscaling", "adaptive", "auto"):
        schedule = Schedule(name, 0.5, 0.25, 10.0)
        rates[name] = [schedule.rate]
        for loss in losses:
            schedule.take(loss)
            rates[name].append(schedule.rate)
    assert rates["constant"] == [0.5] * 7
    assert rates["invscaling"] == [0.5 / epoch**0.25 for epoch in range(1, 8)]
    assert np.array(rates["adaptive"]) == pytest.approx(0.5 / 5 ** np.array([0, 0, 0, 1, 1, 2, 3]))
    assert rates["auto"] == [0.5] * 6 + [0.5 * FACTOR]
    assert PATIENCE == 2


def test_settling() -> None:
    """Steps fall in the first epoch, grow while more is gained than noise explains, and become quiet in pairs."""
    schedule = Settling(rate=0.1, loss=10.0, updates=1000.0, noise=1e-2)
    assert schedule.fall == pytest.approx(LONG / 100)
    rates = []
    for loss in (5.0, 4.0, 3.99, 3.9899, 3.98985, 3.98984, 3.98983):
        schedule.take(loss)
        rates.append((schedule.rate, schedule.quiet))
    fallen = 0.1 / np.sqrt(1 + 100 / LONG)
    quiet = [QUIET / 1000, QUIET / 1000, QUIET * QUIETER / 1000, QUIET * QUIETER / 1000]
    raised = min(0.1, fallen * RAISE)
    assert [k for _, k in rates] == [0, 0, 0, 1, 2, 3, 4]
    assert [rate for rate, _ in rates] == pytest.approx([fallen, raised, raised, *quiet])
    assert schedule.fall == float("inf")


def test_one_update_an_epoch_does_not_become_quiet() -> None:
    """Without noise, slow progress is no reason for smaller steps."""
    schedule = Settling(rate=0.5, loss=10.0, updates=1.0, noise=1e-2)
    for loss in (5.0, 5.0, 5.0, 5.0):
        schedule.take(loss)
    assert schedule.quiet == 0
    assert schedule.rate == pytest.approx(0.5 / np.sqrt(1 + 0.5 / LONG))


@pytest.mark.parametrize(("n", "d"), [(20_000, 5), (30_000, 40)])
def test_quiet_epochs_bring_the_digits_that_averages_do_not(n: int, d: int) -> None:
    X, y = data(n, d, means=0.0)
    r = sgd(X, y, max_iter=16, tol=0)
    gaps = r.history["loss"] / loss_of(X, y, *least_squares(X, y)) - 1
    assert gaps[1] < 4 * d / n
    assert gaps[-2:].max() < 1e-3 * d / n


def test_steps_that_fell_too_far_grow_again() -> None:
    """Neighbouring columns nearly alike, and little noise: the first epoch leaves most of it, the next ones do not."""
    rng = np.random.default_rng(0)
    distance = np.abs(np.subtract.outer(np.arange(20), np.arange(20)))
    X = rng.standard_normal((20_000, 20)) @ np.linalg.cholesky(0.99**distance).T
    y = X @ rng.standard_normal(20) + 0.1 * rng.standard_normal(20_000)
    gaps = sgd(X, y, max_iter=12, tol=0).history["loss"] / loss_of(X, y, *least_squares(X, y)) - 1
    assert gaps[1] > 0.05
    assert gaps[-1] < 2e-3


def test_a_schedule_is_exhausted_by_epochs_without_a_fall() -> None:
    schedule = Schedule("constant", 0.5, 0.25, 10.0)
    for epoch in range(STALLED):
        assert not schedule.exhausted, epoch
        schedule.take(10.0)
    assert schedule.exhausted


# ---- the textbook ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_number_is_the_textbooks_step(batch_size: int, average: bool) -> None:
    """Against the twin of the other stochastic kernel, in the same order of rows; and scikit-learn's convention."""
    X, y = data(150, 3, means=0.0)
    s, lr, l2 = weights(150), 0.01, 0.05
    r = sgd(X, y, sample_weight=s, lr=lr, l2=l2, batch_size=batch_size, average=average, schedule="constant",
            max_iter=1, random_state=3)  # fmt: skip
    epochs = Epochs(MSE(X, y, s), 3, float(s.sum()), batch_size=batch_size)
    (order,) = epochs.orders()
    updates, mean = -(-150 // batch_size), s.mean()
    _, steps = reference.sgd_epoch(
        X.tolist(), y.tolist(), [0.0] * 3, order.tolist(), [2 * lr / mean] * updates, s.tolist(),
        batch_size=batch_size, l2=l2 * mean,
    )  # fmt: skip
    first = 75 // batch_size
    expected = np.mean([[*w, b] for w, b in steps[first:]], axis=0) if average else np.append(*steps[-1])
    assert np.append(r.coef, r.intercept) == pytest.approx(expected, rel=1e-10)
    assert r.lr == lr


def test_momentum_is_polyaks() -> None:
    X, y = data(40, 2, means=0.0)
    r = sgd(X, y, lr=0.01, momentum=0.7, average=False, schedule="constant", max_iter=1, fit_intercept=False)
    (order,) = Epochs(MSE(X, y), 0, 40.0).orders()
    w = v = np.zeros(2)
    for i in order:
        v = 0.7 * v - 0.01 * 2 * (X[i] @ w - y[i]) * X[i]
        w = w + v
    assert r.coef == pytest.approx(w, rel=1e-12)


@pytest.mark.parametrize("options", [{}, {"batch_size": 10}, {"momentum": 0.9}, {"l2": 0.5}, {"s": True}], ids=str)
@pytest.mark.parametrize("factor", [30.0, 1e4, 1e200])
def test_too_large_a_step_is_an_error_that_names_one_that_converges(factor: float, options: dict[str, Any]) -> None:
    options = dict(options)
    X, y = data(300, 4)
    if options.pop("s", False):
        options["sample_weight"] = weights(300)
    with pytest.raises(fg.DivergenceError, match="stochastic gradient descent diverges with lr=") as caught:
        fg.fit(X, y, solver="sgd", lr=factor, max_iter=50, **options)
    error = caught.value
    assert error.lr == factor
    assert 0 < error.max_lr < 0.2
    assert error.loss == MSE(X, y, options.get("sample_weight"), True, options.get("l2", 0.0)).value(error.w)
    assert f"{error.max_lr:.6g}" in str(error)
    r = sgd(X, y, lr=error.max_lr, max_iter=50, **options)
    assert r.loss < 0.5 * r.history["loss"][0]


def test_the_error_of_sparse_rows_names_the_same_step() -> None:
    X, y = data(300, 4)
    limits = []
    for form in (X, csr_matrix(X)):
        with pytest.raises(fg.DivergenceError) as caught:
            fg.fit(form, y, solver="sgd", lr=50.0)
        limits.append(caught.value.max_lr)
    assert limits[0] == pytest.approx(limits[1], rel=1e-12)
    assert limits[0] == pytest.approx(1 / ((X * X).sum(axis=1).max() + 1))


# ---- data and weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", ["auto", 0.003])
def test_weights_are_absence_and_repetition_in_effect(lr: float | str) -> None:
    X, y = data(1500, 4)
    s = np.random.default_rng(2).integers(0, 3, 1500)
    again = np.repeat(np.arange(1500), s)
    weighted = sgd(X, y, sample_weight=s, lr=lr, max_iter=60)
    repeated = sgd(X[again], y[again], lr=lr, max_iter=60)
    assert gap(weighted, X, y, s) < 1e-3
    assert gap(repeated, X, y, s) < 1e-3


def test_only_the_ratio_of_weights_counts() -> None:
    X, y = data(300, 3)
    s = weights(300)
    for lr in ("auto", 0.002):
        one, other = (sgd(X, y, sample_weight=factor * s, lr=lr, max_iter=3, l2=0.1, l1=0.1) for factor in (1, 1024))
        assert one.coef == pytest.approx(other.coef, rel=1e-12)


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.3), (0.2, 0.0), (0.1, 0.1)])
def test_penalties(l1: float, l2: float, form: str) -> None:
    """F is near its least, which scikit-learn finds: its objective is half of F."""
    X, y = data(2000, 6, means=0.0)
    peer = ElasticNet(alpha=l1 / 2 + l2, l1_ratio=l1 / 2 / (l1 / 2 + l2), tol=1e-12, max_iter=10**5).fit(X, y)
    least = loss_of(X, y, peer.coef_, peer.intercept_) + l1 * np.abs(peer.coef_).sum() + l2 * (peer.coef_**2).sum()
    r = sgd(X if form == "dense" else csr_matrix(X), y, l1=l1, l2=l2, max_iter=60)
    assert r.loss == pytest.approx(least, rel=2e-3)
    assert r.loss >= least * (1 - 1e-9)


def test_sparse_rows() -> None:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((4000, 40)) * (rng.random((4000, 40)) < 0.1) * 10.0 ** rng.uniform(-4, 4, 40)
    y = X @ (rng.standard_normal(40) / np.maximum(X.std(axis=0), 1e-300)) + 1.0 + rng.standard_normal(4000)
    for options in ({}, {"batch_size": 8}, {"momentum": 0.5}):
        assert gap(sgd(csr_matrix(X), y, max_iter=50, **options), X, y) < 5e-3


def test_float32_is_fitted_in_double() -> None:
    X, y = data(3000, 5, dtype=np.float32)
    r = sgd(X, y, max_iter=40)
    assert r.coef.dtype == np.float32
    assert gap(r, X.astype(float), y) < 1e-3


@pytest.mark.parametrize("convert", [
    np.asfortranarray, lambda X: X[::-1][::-1], lambda X: X.astype(">f8"), lambda X: np.rint(10 * X).astype(int),
], ids=["fortran", "view", "swapped", "integers"])  # fmt: skip
def test_layouts_and_types(convert: Any) -> None:
    X, y = data(3000, 5)
    assert gap(sgd(convert(X), y, max_iter=30), np.asarray(convert(X), float), y) < 1e-3


def test_several_targets() -> None:
    X, y = data(800, 3)
    Y = np.column_stack([y, -2 * y + X[:, 0]])
    r = sgd(X, Y, max_iter=20)
    for k in range(2):
        assert r.coef[:, k] == pytest.approx(sgd(X, Y[:, k], max_iter=20).coef)


# ---- what all solvers have -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_a_fit_can_be_repeated_bit_for_bit(form: str) -> None:
    X, y = data(700, 4)
    X = X if form == "dense" else csr_matrix(X)
    fits = {
        name: sgd(X, y, max_iter=3, random_state=seed)
        for name, seed in [
            ("none", None), ("zero", 0), ("one", 1), ("one again", np.int32(1)),
            ("drawn", np.random.default_rng(9)), ("drawn again", np.random.default_rng(9)),
        ]
    }  # fmt: skip
    coefs = {name: (*r.coef, r.intercept) for name, r in fits.items()}
    assert coefs["none"] == coefs["zero"]
    assert coefs["one"] == coefs["one again"] != coefs["zero"]
    assert coefs["drawn"] == coefs["drawn again"] != coefs["zero"]
    with pytest.raises(TypeError, match="random_state must be an integer"):
        sgd(X, y, random_state=0.5)


@pytest.mark.parametrize("batch_size", [1, 48, 20_000])
def test_an_order_made_in_pieces_has_every_row_once(batch_size: int) -> None:
    n = 300_001
    X = np.broadcast_to(np.zeros((n, 1)), (n, 9))
    epochs = Epochs(MSE(X, np.zeros(n)), 0, float(n), batch_size=batch_size)
    pieces = list(epochs.orders())
    order = np.concatenate(pieces)
    assert len(pieces) > 3
    assert max(map(len, pieces)) < n // 3
    assert all(len(piece) % batch_size == 0 for piece in pieces[:-1])
    assert np.array_equal(np.sort(order), np.arange(n))
    assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 0.1
    again = np.concatenate(list(epochs.orders()))
    assert np.mean(order == again) < 0.01


@pytest.mark.parametrize("kind", ["few", "in pieces", "converted"])
def test_an_epoch_can_be_gone_through_backwards(kind: str) -> None:
    n = 300_001 if kind == "in pieces" else 1000
    X = np.broadcast_to(np.arange(n, dtype=">f8" if kind == "converted" else float)[:, None], (n, 9))
    epochs = Epochs(MSE(X, np.zeros(n)), 0, float(n))

    def rows() -> np.ndarray:
        """In the order in which they come; each has its number in its columns."""
        return np.concatenate([np.asarray(block.X)[order, 0] for block, order in epochs])

    first = rows()
    epochs.turn(back=True)
    assert np.array_equal(rows(), first[::-1])
    epochs.turn(back=False)
    second = rows()
    assert not np.array_equal(second, first)
    assert np.array_equal(np.sort(second), np.arange(n))


@pytest.mark.parametrize(("at", "count", "batch"), [(0, 10_000, 1), (0, 100, 1), (5000, 3000, 7), (0, 1000, 600)])
def test_spans_of_falling_steps(at: int, count: int, batch: int) -> None:
    runs = list(spans(at, count, batch))
    assert [begin for begin, _ in runs] == [0, *(end for _, end in runs[:-1])]
    assert runs[-1][1] == count
    for begin, end in runs[:-1]:
        assert begin % batch == 0
        assert end - begin <= max(SPAN, (at + begin) // 2, batch)


def test_rows_beyond_the_caches() -> None:
    """Shuffled by stretches and windows, sorted by what they say: as near the optimum as at random."""
    X, y = data(300_000, 8)
    rows = np.argsort(y)
    assert gap(sgd(X[rows], y[rows], max_iter=5), X, y) < 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "sgd"},
        {"solver": "sgd", "average": False},
        {"solver": "sgd", "momentum": 0.9, "batch_size": 7},
        {"solver": "sgd", "lr": 1e-3},
        {"solver": "saga"},
        {"solver": "saga", "lr": 1e-3},
    ],
)
def test_a_start_at_a_loss_of_zero_is_left_by_rounding_alone(options: dict[str, Any]) -> None:
    """Which is no divergence, however many times the loss of the start it is."""
    rng = np.random.default_rng(0)
    w0 = np.array([1.0, 2.0, -3.0, 4.0, 5.0])
    for scale in (1, 3, 1e-3):
        X = rng.integers(-9, 9, (50, 4)) * scale
        r = fg.fit(X, X @ w0[:4] + 5, w0=w0, tol=0, max_iter=6, **options)
        assert r.n_iter == 6
        assert r.loss < 1e-26


def test_callbacks_validation_and_start() -> None:
    X, y = data(600, 3)
    seen: list[int] = []
    r = sgd(X, y, callback=lambda it: seen.append(it.iteration) or it.iteration == 4)
    assert (seen, r.n_iter, r.stop_reason) == ([0, 1, 2, 3, 4], 4, "the callback ended it")
    r = sgd(X[:400], y[:400], X_val=X[400:], y_val=y[400:], patience=3)
    assert r.history["val_loss"].min() == pytest.approx(loss_of(X[400:], y[400:], r.coef, r.intercept))
    best = np.append(*least_squares(X, y))
    r = fg.fit(X, y, solver="sgd", w0=best)
    assert (r.n_iter, r.converged) == (0, True)
    assert r.history["loss"][0] == pytest.approx(loss_of(X, y, best[:-1], best[-1]))


def test_the_history_holds_the_losses_of_what_would_be_returned() -> None:
    X, y = data(600, 3)
    for epochs in (1, 3):
        r = sgd(X, y, max_iter=epochs)
        assert r.history["loss"][-1] == r.loss == pytest.approx(loss_of(X, y, r.coef, r.intercept), rel=1e-12)


def test_an_epoch_is_a_pass_and_so_is_the_loss_after_it() -> None:
    X, y = data(300, 4)
    assert sgd(X, y, max_iter=7, tol=0).n_passes == 2 + 2 * 7     # those two: the start, and the lengths of the columns


def test_shuffles_differ_between_epochs() -> None:
    X, y = data(64, 2)
    epochs = Epochs(MSE(X, y), 0, 64.0)
    assert not np.array_equal(*(np.concatenate(list(epochs.orders())) for _ in range(2)))
