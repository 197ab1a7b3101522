"""Whole fits by the descent of src/_plain_sgd.pyx: the order of the rows, epoch after epoch, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fastgd import _plain_sgd
from fastgd._csr import CSR
from fastgd._plain_sgd import Descent
from fastgd._rows import RowBlock, is_native
from fastgd._sgd import shuffle
from fastgd._sparse import SparseBlock
from fastgd.objective import MSE, column_moments
from fastgd.result import predict_dense, predict_sparse
from fastgd.solvers._certificate import Geometry

__all__ = ["Curves", "Order", "Stopping", "block_of", "expands", "mean_loss", "optimality", "train", "visits"]

#: How many times as many visits as rows there may be, for the rows' weights to be visits.
MOST_VISITS = 8
#: Below this an adaptive step is not divided any more.
LEAST_ADAPTIVE = 1e-6
#: Logarithm of a factor by which rounding may grow and still be nothing.
MOST_GROWTH = np.log(1e4)
#: The greatest second derivatives of the losses, jumps of the first apart.
CURVATURE = {"squared_error": 1.0, "huber": 1.0, "epsilon_insensitive": 0.0, "squared_epsilon_insensitive": 2.0}


def block_of(X: np.ndarray | CSR, y: np.ndarray, s: np.ndarray | None) -> RowBlock | SparseBlock:
    """All rows as the kernels read them; copied where they cannot be read in place."""
    y = np.require(y, None, "A")
    s = None if s is None else np.require(s, None, "A")
    if isinstance(X, CSR):
        return SparseBlock(CSR(np.require(X.data, None, ["C", "A"]), *X.arrays[1:], X.shape[1], X.ascending), y, s)
    return RowBlock(X if is_native(X) else np.require(X, None, ["C", "A"]), y, s)


def visits(block: RowBlock | SparseBlock, s: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows an epoch visits, in an order that depends on what they hold alone, and the weight of a visit to each.

    A row is visited once for each unit of its weight, or part of one, and not at all if that is zero. A weight of 2 is
    then the same as the row's repetition, as it is for the objective, and rows may come in any order. Weights so large
    that an epoch would have MOST_VISITS times as many visits as rows are left as they are, a visit each.

    Returns
    -------
    rows : ndarray of intp
    weights : ndarray of shape (n_samples,), or None for ones
    """
    rows = ascending(_plain_sgd.keys(block))
    if s is None:
        return rows, None
    times = np.where(s == 0, 0.0, np.maximum(np.ceil(s), 1.0))
    if times.sum() > MOST_VISITS * len(s):
        times = (s != 0).astype(float)
    weights = np.divide(s, times, out=np.zeros(len(s)), where=times > 0, casting="unsafe")
    return np.repeat(rows, times.astype(np.intp)[rows]), weights


def ascending(keys: np.ndarray) -> np.ndarray:
    """The places of the keys, which are random numbers of 64 bits, from the least to the greatest.

    Sorted with their places in their lowest bits, in a tenth of the time of `argsort`, which is left for the case that
    the other bits of two of them are the same.
    """
    mask = np.uint64((1 << (len(keys) - 1).bit_length()) - 1)
    places = np.arange(len(keys), dtype=np.uint64)
    places |= keys & ~mask
    places.sort()
    order = (places & mask).astype(np.intp)
    found = keys[order]
    return order if (found[1:] >= found[:-1]).all() else np.argsort(keys, kind="stable")


def expands(X: np.ndarray, s: np.ndarray | None, loss: str, rate: tuple[str, float, float], t: float) -> bool:
    """Whether updates from number t on may carry two descents far apart that were near each other: rounding grows too.

    An update by row x of weight s multiplies the difference of two descents by I - eta s loss'' z z^T, with z = (x, 1).
    That makes it longer, by the factor eta s loss'' |z|^2 - 1 at most, only if this is above 1, or s below 0.

    Parameters
    ----------
    rate : tuple
        The schedule, eta0 and power_t. The steps of some schedules, which are not known before, are taken to expand.
    """
    schedule, eta, power_t = rate
    if schedule in ("optimal", "pa1", "pa2"):
        return True
    decay = power_t if schedule == "invscaling" else 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        reach = (np.einsum("ij,ij->i", X, X) + 1.0) * (eta * CURVATURE[loss])
        reach = reach if s is None else reach * s
        most = reach.max()
        if reach.min() < 0 or most / (t + len(X)) ** decay > 2:     # and goes on to
            return True
        if most / t**decay <= 2:
            return False
        factors = reach / np.arange(t, t + len(X)) ** decay - 1
    return bool(np.log(factors[factors > 1]).sum() > MOST_GROWTH)


class Order:
    """The order of the rows in each epoch.

    Parameters
    ----------
    rows : ndarray of intp
        What is visited, in the order of an epoch without a seed.
    seed : int, optional
        Of a new random order in every epoch.
    """

    def __init__(self, rows: np.ndarray, seed: int | None) -> None:
        self.rows, self.seed = rows, seed
        self._places = np.empty(0 if seed is None else len(rows), np.intp)

    def __len__(self) -> int:
        return len(self.rows)

    def epoch(self, number: int) -> np.ndarray:
        """The rows of this epoch."""
        if self.seed is None:
            return self.rows
        shuffle(self._places, (self.seed << 32) + number)
        return self.rows[self._places]


@dataclass
class Stopping:
    """When a fit has stopped to gain, as scikit-learn has it.

    Attributes
    ----------
    tol : float or None
        What an epoch must gain on the best one so far.
    patience : int
        Epochs in turn that may gain less.
    adaptive : bool
        Whether the step is divided by 5 first.
    best : float
        The least value so far.
    idle : int
        How many of the last epochs have gained too little.
    """

    tol: float | None
    patience: int
    adaptive: bool
    best: float = np.inf
    idle: int = 0

    def see(self, value: float, descent: Descent) -> bool:
        """Take in the value after an epoch, the lower the better; whether to stop."""
        self.idle = self.idle + 1 if self.tol is not None and value > self.best - self.tol else 0
        self.best = min(self.best, value)
        if self.idle < self.patience:
            return False
        if self.adaptive and descent.eta > LEAST_ADAPTIVE:
            descent.eta /= 5
            self.idle = 0
            return False
        return True


@dataclass
class Curves:
    """What a fit has gone through.

    Attributes
    ----------
    objective : list of float
        The mean of the objective over an epoch, at the parameters as they were at each row.
    loss : list of float
        The same without the penalty.
    score : list of float
        After each epoch, on the rows set aside, if any.
    reason : str
        Why it ended.
    """

    objective: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def n_iter(self) -> int:
        return len(self.loss)


def train(
    descent: Descent,
    block: RowBlock | SparseBlock,
    order: Order,
    stopping: Stopping,
    max_iter: int,
    score: Callable[[np.ndarray, float], float] | None,
    watch: Callable[[Curves], bool],
) -> Curves:
    """Descend for epochs until `stopping` or `watch` say so.

    Parameters
    ----------
    score : callable, optional
        Of coefficients and an intercept, the higher the better: what `stopping` then sees instead of the objective.
    watch : callable
        Called after each epoch; a true result ends the fit.

    Raises
    ------
    ValueError
        If a parameter overflows.
    """
    curves = Curves()
    for epoch in range(max_iter):
        loss, objective = descent.go(block, order.epoch(epoch))
        if not descent.is_finite:
            raise ValueError(
                f"Floating-point under-/overflow occurred at epoch #{epoch + 1}. Scaling input data with "
                "StandardScaler or MinMaxScaler might help."
            )
        curves.loss.append(loss / len(order))
        curves.objective.append(objective / len(order))
        value = curves.objective[-1]
        if score is not None:
            curves.score.append(score(descent.coef, descent.intercept))
            value = -curves.score[-1]
        stops = stopping.see(value, descent)
        if watch(curves):
            curves.reason = "a callback ended it"
            return curves
        if stops:
            what = "objective has not fallen" if score is None else "validation score has not risen"
            curves.reason = f"the {what} by tol={stopping.tol:g} for {stopping.patience} epochs"
            return curves
    curves.reason = f"max_iter={max_iter} reached"
    return curves


# ---- the certificate -------------------------------------------------------------------------------------------------


def loss_and_slope(loss: str, r: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The loss of residuals r = p - y, and its derivative by p."""
    beyond = np.maximum(np.abs(r) - epsilon, 0.0)
    if loss == "squared_error":
        return 0.5 * r * r, r
    if loss == "huber":
        near = np.clip(r, -epsilon, epsilon)
        return 0.5 * near * near + epsilon * beyond, near
    if loss == "epsilon_insensitive":
        return beyond, np.sign(r) * (beyond > 0)
    return beyond * beyond, 2 * np.sign(r) * beyond


def mean_loss(
    X: np.ndarray | CSR, y: np.ndarray, s: np.ndarray | None, w: np.ndarray, loss: str, epsilon: float
) -> tuple[float, np.ndarray]:
    """The weighted mean of the loss at w, the intercept last; and the targets of which the residuals are its slopes."""
    wide = np.dtype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if not w.any():
            prediction = np.zeros(len(y))
        elif isinstance(X, CSR):
            prediction = predict_sparse(X, w[:-1], float(w[-1]), wide)
        else:
            prediction = predict_dense(X, w[:-1], float(w[-1]), wide)
        losses, slopes = loss_and_slope(loss, prediction - y, epsilon)
        loss_there = losses.mean() if s is None else np.average(losses, weights=s)
        return float(loss_there), prediction - slopes


def optimality(
    X: np.ndarray | CSR,
    target: np.ndarray,
    s: np.ndarray | None,
    w: np.ndarray,
    *,
    fit_intercept: bool,
    l1: float,
    l2: float,
) -> float:
    """How near the optimum w is: `optimality` of `fastgd.FitResult`, for any loss; NaN where nothing can be said.

    The gradient of the mean loss is that of half the mean squared error of a linear model whose residuals are the
    slopes of the losses; by these targets, of `mean_loss`, it is measured.

    Parameters
    ----------
    w : ndarray of shape (n_features + 1,)
        The intercept last.
    l1, l2 : float
        Of F = L + l1 |w|_1 + l2 |w|^2, twice the objective of the estimators.
    """
    if not np.isfinite(target).all() or (s is not None and s.min() < 0):
        return float("nan")
    if not fit_intercept:
        w, target = w[:-1], target - w[-1]
    try:
        objective = MSE(X, target, s, fit_intercept, l2)
        value, grad = objective.value_and_grad(w)
        moments = column_moments(objective)
    except OverflowError:
        return float("nan")
    geometry = Geometry(*moments, fit_intercept=fit_intercept, l2=l2, dtype=objective.dtype, l1=l1)
    return geometry.measure(w, value + l1 * float(np.abs(w[: X.shape[1]]).sum()), grad)[0]
