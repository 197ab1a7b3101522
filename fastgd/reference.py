"""Gradient descent on mean squared error in plain Python: the textbook, and the oracle of the compiled kernels.

Every kernel of fastgd has its twin here, on lists of floats and with nothing but the standard library, written as the
formula is. The tests hold the compiled code to these functions, so what you read here is what fastgd computes. With
rows x_i, targets y_i, weights s_i (all 1 unless given), parameters w and intercept b:

    r_i = x_i.w + b - y_i                          the residual of row i
    L(w, b) = sum_i s_i r_i^2 / S                  mean squared error, with S = sum_i s_i
    dL/dw_j = (2/S) sum_i s_i r_i x_ij             its gradient, by the chain rule
    dL/db = (2/S) sum_i s_i r_i

Sums are `math.fsum`'s, which rounds once however many terms there are.

>>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]              # y = 2 x + 1
>>> w, losses = gradient_descent(X, y, lr=0.2, max_iter=200)
>>> [round(entry, 6) for entry in w]                           # the intercept comes last
[2.0, 1.0]

The chain rule follows in a section of its own, for any function of numbers, forward and in reverse:

>>> derivative(lambda x: (3 * x**2 + 2 * x + 1) ** 2)(2.0)     # dz/dx = 2 y (6 x + 2)
476.0
>>> grad(lambda w: (w[0] * 3.0 + w[1] - 5.0) ** 2)([1.0, 1.0])
[-6.0, -2.0]
"""

from __future__ import annotations

import itertools
import math
import operator
import random
from collections.abc import Callable, Iterator, Sequence
from math import fsum
from typing import Any, TypeVar

Vector = Sequence[float]
Matrix = Sequence[Sequence[float]]
Weights = Sequence[float] | None
Number = TypeVar("Number", bound="float | Chained")


def dot(a: Vector, b: Vector) -> float:
    """The sum of a_k b_k."""
    return fsum(p * q for p, q in zip(a, b, strict=True))


def weights(sample_weight: Weights, y: Vector) -> Vector:
    """One for each row where none are given."""
    return [1.0] * len(y) if sample_weight is None else sample_weight


def residuals(X: Matrix, y: Vector, w: Vector, intercept: float = 0.0) -> list[float]:
    """How far each prediction is off: r_i = x_i.w + b - y_i."""
    return [dot(x, w) + intercept - target for x, target in zip(X, y, strict=True)]


# ---- mean squared error ----------------------------------------------------------------------------------------------


def value_sums(X: Matrix, y: Vector, w: Vector, sample_weight: Weights = None, intercept: float = 0.0) -> list[float]:
    """What rows contribute to the loss and to its derivative by the intercept.

    Parameters
    ----------
    X : list of n rows of d floats
    y : list of n floats
    w : list of d floats
    sample_weight : list of n floats, optional
        Not negative; by default ones.
    intercept : float, default 0.0

    Returns
    -------
    list of 2 floats
        sum_i s_i r_i^2 and sum_i s_i r_i. Sums over parts of the rows add up to those over all of them.
    """
    s, r = weights(sample_weight, y), residuals(X, y, w, intercept)
    return [fsum(s_i * r_i * r_i for s_i, r_i in zip(s, r, strict=True)), dot(s, r)]


def gradient_sums(
    X: Matrix, y: Vector, w: Vector, sample_weight: Weights = None, intercept: float = 0.0
) -> list[float]:
    """`value_sums`, and after them what the rows contribute to the gradient: sum_i s_i r_i x_ij for each column j."""
    s, r = weights(sample_weight, y), residuals(X, y, w, intercept)
    factors = [s_i * r_i for s_i, r_i in zip(s, r, strict=True)]
    return [dot(factors, r), fsum(factors), *(dot(factors, column) for column in zip(*X, strict=True))]


def mse(X: Matrix, y: Vector, w: Vector, sample_weight: Weights = None, intercept: float = 0.0) -> float:
    """Mean squared error: L(w, b) = sum_i s_i (x_i.w + b - y_i)^2 / sum_i s_i.

    Parameters are those of `value_sums`; the result is in units of y squared.
    """
    return value_sums(X, y, w, sample_weight, intercept)[0] / fsum(weights(sample_weight, y))


def mse_grad(X: Matrix, y: Vector, w: Vector, sample_weight: Weights = None, intercept: float = 0.0) -> list[float]:
    """Gradient of the mean squared error by w: dL/dw_j = (2/S) sum_i s_i r_i x_ij, or (2/S) X'(s o r).

    The chain rule on each term of L: the outer derivative is 2 r_i, the inner one d r_i / d w_j = x_ij.
    """
    return mse_value_and_grad(X, y, w, sample_weight, intercept)[1]


def mse_value_and_grad(
    X: Matrix, y: Vector, w: Vector, sample_weight: Weights = None, intercept: float = 0.0
) -> tuple[float, list[float]]:
    """`mse` and `mse_grad` from the same residuals."""
    total = fsum(weights(sample_weight, y))
    loss, _, *slopes = gradient_sums(X, y, w, sample_weight, intercept)
    return loss / total, [2.0 / total * slope for slope in slopes]


def objective(
    X: Matrix, y: Vector, w: Vector, sample_weight: Weights = None, fit_intercept: bool = False, l2: float = 0.0
) -> tuple[float, list[float]]:
    """F(w) = L(w) + l2 |w|^2 and its gradient, as `fastgd.MSE(...).value_and_grad(w)` gives them.

    Parameters
    ----------
    X, y, sample_weight
        As for `value_sums`.
    w : list of d floats, or of d + 1 with the intercept last
    fit_intercept : bool, default False
        Whether w has an intercept. It is the coefficient of a column of ones, and it is not penalised.
    l2 : float, default 0.0

    Returns
    -------
    tuple of float and list of as many floats as w has
        dF/dw_j = dL/dw_j + 2 l2 w_j, and last, with an intercept, dF/db = (2/S) sum_i s_i r_i.
    """
    coef, intercept = (w[:-1], w[-1]) if fit_intercept else (w, 0.0)
    total = fsum(weights(sample_weight, y))
    loss, residual, *slopes = gradient_sums(X, y, coef, sample_weight, intercept)
    gradient = [2.0 / total * slope + 2.0 * l2 * w_j for slope, w_j in zip(slopes, coef, strict=True)]
    if fit_intercept:
        gradient.append(2.0 / total * residual)
    return loss / total + l2 * dot(coef, coef), gradient


def hessian_product(
    X: Matrix, v: Vector, sample_weight: Weights = None, fit_intercept: bool = False, l2: float = 0.0
) -> list[float]:
    """H v with H = (2/S) X'SX + 2 l2 I, the second derivative of F: how its gradient changes along v.

    F is quadratic, so H is the same everywhere, and H v is the gradient at v of the same problem with targets of zero.
    """
    return objective(X, [0.0] * len(X), v, sample_weight, fit_intercept, l2)[1]


def update(w: Vector, gradient: Vector, lr: float) -> list[float]:
    """The step of gradient descent, against the gradient: w_j - lr g_j."""
    return [w_j - lr * g_j for w_j, g_j in zip(w, gradient, strict=True)]


# ---- stochastic descent ----------------------------------------------------------------------------------------------


def sgd_epoch(
    X: Matrix,
    y: Vector,
    w: Vector,
    order: Sequence[int],
    rates: Vector,
    sample_weight: Weights = None,
    intercept: float = 0.0,
    batch_size: int = 1,
    l1: float = 0.0,
    l2: float = 0.0,
    intercept_step: float = 1.0,
    sparse: bool = False,
) -> tuple[list[float], list[tuple[list[float], float]]]:
    """Stochastic gradient descent: an update for each batch of rows, against the gradient that the batch alone has.

    With r_i the residuals of the batch B before the update,

        w <- max(0, 1 - rate l2) w - (rate / |B|) sum_i s_i r_i x_i
        b <- b - intercept_step (rate / |B|) sum_i s_i r_i

    which for rate = 2 lr is a step of lr against the gradient of the batch's mean squared error plus l2 |w|^2. For l1,
    each w_j then moves towards zero, but not beyond, until it was moved by all that the updates so far have asked for,
    the sum of rate l1 (Tsuruoka, Tsujii and Ananiadou, Stochastic gradient descent training for L1-regularized
    log-linear models with cumulative penalty, 2009).

    Parameters
    ----------
    X, y, w, sample_weight, intercept
        As for `value_sums`; w and the intercept are where the descent starts.
    order : list of int
        The rows, in the order in which they are taken. Rows may repeat or be left out.
    rates : list of floats
        One for each update.
    batch_size : int, default 1
        Rows in an update; the last may have fewer.
    l1, l2, intercept_step : float
        As above. With an intercept_step of 0 no intercept is fitted.
    sparse : bool, default False
        Whether zeros are not stored: w_j is then moved only by updates whose batch has entries in column j.

    Returns
    -------
    sums : list of 3 floats
        sum s_i r_i^2, sum r_i^2 and sum s_i over the rows as they came.
    steps : list of (w, b)
        The parameters after each update. What averaging gives is their mean.
    """
    s, w, squares, steps = weights(sample_weight, y), list(w), [], []
    due, taken = 0.0, [0.0] * len(w)
    for t, start in enumerate(range(0, len(order), batch_size)):
        batch, rate = order[start : start + batch_size], rates[t]
        rows = [X[i] for i in batch]
        r = residuals(rows, [y[i] for i in batch], w, intercept)
        factors = [rate / len(batch) * s[i] * r_i for i, r_i in zip(batch, r, strict=True)]
        squares += [r_i * r_i for r_i in r]
        columns = list(zip(*rows, strict=True))
        kept = max(0.0, 1.0 - rate * l2)
        w = [kept * w_j - dot(factors, column) for w_j, column in zip(w, columns, strict=True)]
        intercept -= intercept_step * fsum(factors)
        due += rate * l1
        for j, column in enumerate(columns):
            if l1 and (any(column) or not sparse):
                moved = max(0.0, w[j] - (due + taken[j])) if w[j] > 0 else min(0.0, w[j] + (due - taken[j]))
                taken[j] += moved - w[j]
                w[j] = moved
        steps.append((w, intercept))
    seen = [s[i] for i in order]
    return [dot(seen, squares), fsum(squares), fsum(seen)], steps


def loss_and_slope(loss: str, r: float, epsilon: float) -> tuple[float, float]:
    """A loss of the residual r = p - y and its derivative by p; epsilon is of all but the first.

    ===========================  ==============================================
    squared_error                r^2 / 2
    huber                        the same up to |r| = epsilon, linear beyond
    epsilon_insensitive          max(0, |r| - epsilon)
    squared_epsilon_insensitive  max(0, |r| - epsilon)^2
    ===========================  ==============================================
    """
    sign = 1.0 if r > 0 else -1.0
    beyond = max(0.0, abs(r) - epsilon)
    if loss == "squared_error" or (loss == "huber" and beyond == 0):
        return r * r / 2, r
    if loss == "huber":
        return epsilon * (abs(r) - epsilon / 2), sign * epsilon
    if loss == "epsilon_insensitive":
        return beyond, sign if beyond > 0 else 0.0
    return beyond * beyond, 2 * sign * beyond


def plain_sgd(
    X: Matrix,
    y: Vector,
    w: Vector,
    order: Sequence[int],
    sample_weight: Weights = None,
    intercept: float = 0.0,
    *,
    loss: str = "squared_error",
    schedule: str = "constant",
    epsilon: float = 0.1,
    eta: float = 0.01,
    power_t: float = 0.25,
    alpha: float = 0.0,
    l1_ratio: float = 0.0,
    step_alpha: float = 1.0,
    intercept_step: float = 1.0,
    t: float = 1.0,
    sparse: bool = False,
) -> tuple[float, float, list[tuple[list[float], float]]]:
    """Stochastic gradient descent, a row an update, under the rules of scikit-learn's SGDRegressor.

    With p = x_i.w + b at the parameters before it, update t by row i is

        w <- max(0, 1 - eta_t alpha (1 - l1_ratio)) w + u x_i,      b <- b + intercept_step u,
        u = -eta_t s_i dloss/dp

    with eta_t = eta, or 1 / (step_alpha (t0 + t - 1)) for "optimal", where t0 = step_alpha^(-3/4) makes the first step
    that of a typical w (Bottou, Stochastic gradient descent tricks, 2012), or eta / t^power_t for "invscaling". The
    passive-aggressive steps are u = ± s_i min(eta, loss / |x_i|^2), "pa1", and ± s_i loss / (|x_i|^2 + 1 / (2 eta)),
    "pa2", towards y_i (Crammer and others, Online passive-aggressive algorithms, 2006); "pa1" passes over rows of
    zeros. Then each w_j moves towards zero as in `sgd_epoch`, by eta_t alpha l1_ratio.

    Parameters
    ----------
    X, y, w, sample_weight, intercept
        As for `value_sums`; w and the intercept are where the descent starts.
    order : list of int
        The rows, in the order in which they are taken.
    loss : str
        See `loss_and_slope`.
    schedule : {"constant", "optimal", "invscaling", "pa1", "pa2"}
    epsilon, eta, power_t, alpha, l1_ratio, step_alpha, intercept_step : float
        As above.
    t : float, default 1.0
        The number of the first update.
    sparse : bool, default False
        Whether zeros are not stored, as for `sgd_epoch`.

    Returns
    -------
    loss, objective : float
        Sums of the loss before each update, and of the loss and alpha (l1_ratio |v|_1 + (1 - l1_ratio) / 2 |v|^2), v
        being what w was before it was truncated last, where sparse only its entries that the row had.
    steps : list of (w, b)
        The parameters after each update. What averaging gives is their mean, but for the truncation.
    """
    s, w, losses, objectives, steps = weights(sample_weight, y), list(w), [], [], []
    due, taken = 0.0, [0.0] * len(w)
    square, absolute = dot(w, w), fsum(map(abs, w))
    passive = schedule in ("pa1", "pa2")
    for i in order:
        x = X[i]
        r = dot(x, w) + intercept - y[i]
        value, slope = loss_and_slope(loss, r, epsilon)
        losses.append(value)
        penalty = 0.0 if passive else alpha * (l1_ratio * absolute + (1 - l1_ratio) / 2 * square)
        objectives.append(value + penalty)
        rate = eta
        if schedule == "optimal":
            rate = 1 / (step_alpha * (step_alpha**-0.75 + t - 1))
        elif schedule == "invscaling":
            rate = eta / t**power_t
        length = dot(x, x)
        if schedule == "pa1" and length == 0:
            continue
        u = -rate * max(-1e12, min(1e12, slope))
        if passive:
            size = min(eta, value / length) if schedule == "pa1" else value / (length + 1 / (2 * eta))
            u = -size if r > 0 else size
        u *= s[i]
        kept = max(0.0, 1 - (1 - l1_ratio) * rate * alpha)
        w = [kept * w_j + u * x_j for w_j, x_j in zip(w, x, strict=True)]
        intercept += intercept_step * u
        square, absolute = kept * kept * square, kept * absolute
        if u:
            held = [w_j for w_j, x_j in zip(w, x, strict=True) if x_j or not sparse]
            square, absolute = dot(held, held), fsum(map(abs, held))
        due += l1_ratio * rate * alpha
        for j, x_j in enumerate(x):
            if alpha * l1_ratio and (x_j or not sparse):
                moved = max(0.0, w[j] - (due + taken[j])) if w[j] > 0 else min(0.0, w[j] + (due - taken[j]))
                taken[j] += moved - w[j]
                w[j] = moved
        steps.append((w, intercept))
        t += 1
    return fsum(losses), fsum(objectives), steps


def metric_epoch(
    X: Matrix,
    y: Vector,
    v: Vector,
    order: Sequence[int],
    rate: float,
    metric: Vector,
    sample_weight: Weights = None,
    intercept: float = 0.0,
    *,
    means: Vector | None = None,
    drift: Vector | None = None,
    intercept_drift: float = 0.0,
    anchor: Vector | None = None,
    batch_size: int = 1,
    momentum: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    intercept_step: float = 1.0,
    clamps: bool = False,
) -> list[tuple[list[float], float]]:
    """Stochastic updates in a diagonal metric, of centred rows z_i = x_i - means, with variance reduction.

    For a batch B, with f_i = s_i (z_i.v + c - y_i) at the parameters (v, c) before the update,

        p_j = (1 / |B|) sum_i f_i z_ij + drift_j + l2 v_j       p_c = (1 / |B|) sum_i f_i + drift_c
        step_j <- momentum step_j - rate metric_j p_j           step_c <- momentum step_c - rate intercept_step p_c
        v_j <- v_j + step_j                                     c <- c + step_c

    and then anchor_j + v_j moves towards zero, but not beyond, by rate metric_j l1. A run that clamps divides f_i by
    rate s_i q_i / |B| where that is above one, q_i = sum_j metric_j z_ij^2 + intercept_step: a row alone then takes
    (v, c) no further than to where its residual vanishes (normalised LMS; Nagumo and Noda, 1967).

    With targets of zero, v the distance from a snapshot, and as drift half the gradient there, each row pulls by the
    difference between its gradient now and at the snapshot: SVRG (Johnson and Zhang, Accelerating stochastic gradient
    descent using predictive variance reduction, 2013), which a linear model needs no table of residuals for, as SAGA
    has it (Defazio, Bach and Lacoste-Julien, 2014).

    Returns
    -------
    list of (v, c)
        The parameters after each update.
    """
    s, d = weights(sample_weight, y), len(v)
    means, drift, anchor = ([0.0] * d if values is None else values for values in (means, drift, anchor))
    step, step_c, steps, v = [0.0] * d, 0.0, [], list(v)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = [[x - m for x, m in zip(X[i], means, strict=True)] for i in batch]
        factors = []
        for i, z in zip(batch, rows, strict=True):
            f = s[i] * (dot(z, v) + intercept - y[i])
            square = fsum(q * x * x for q, x in zip(metric, z, strict=True)) + intercept_step
            reach = rate / min(batch_size, len(order)) * s[i] * square
            factors.append(f / reach if clamps and reach > 1 else f)
        for j, column in enumerate(zip(*rows, strict=True)):
            pull = dot(factors, column) / len(batch) + drift[j] + l2 * v[j]
            step[j] = momentum * step[j] - rate * metric[j] * pull
        step_c = momentum * step_c - rate * intercept_step * (fsum(factors) / len(batch) + intercept_drift)
        v = [shrunk(a + v_j + p, rate * q * l1) - a for a, v_j, p, q in zip(anchor, v, step, metric, strict=True)]
        intercept += step_c
        steps.append((v, intercept))
    return steps


def shrunk(w: float, reach: float) -> float:
    """What is left of w, moved towards zero but not beyond: the proximal step of reach |w|."""
    return max(0.0, w - reach) if w > 0 else min(0.0, w + reach)


# ---- second moments --------------------------------------------------------------------------------------------------


class SplitMix:
    """Random bits: splitmix64 (Steele, Lea and Flood, 2014)."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def draw(self) -> int:
        """64 bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    def pieces(self, count: int, size: int) -> Iterator[int]:
        """`count` numbers of `size` bits, the lowest bits of each draw first."""
        bits = 0
        for k in range(count):
            bits = bits >> size if k * size % 64 else self.draw()
            yield bits % 2**size

    def below(self, bound: int, bits: int) -> int:
        """Uniform on 0 to bound - 1, from these 32 bits, or other ones if they would favour some (Lemire, 2019)."""
        while bits * bound % 2**32 < 2**32 % bound:
            bits = self.draw() >> 32
        return bits * bound >> 32

    def shuffled(self, rows: list[int]) -> list[int]:
        """As Fisher and Yates do it."""
        for last, bits in zip(reversed(range(len(rows))), self.pieces(len(rows), 32), strict=True):
            other = self.below(last + 1, bits)
            rows[last], rows[other] = rows[other], rows[last]
        return rows

    def shuffled_within(self, order: list[int], window: int) -> list[int]:
        """Each window of so many places by itself."""
        return [row for start in range(0, len(order), window) for row in self.shuffled(order[start : start + window])]


def shuffle(n: int, seed: int, stretch: int = 1, window: int = 1) -> list[int]:
    """The rows 0 to n - 1 in random order: whole stretches of them, and then the rows of each window.

    More than 8192 stretches are dealt to 256 buckets first, which are shuffled one by one (Rao, 1961; Sandelius, 1962).
    """
    random = SplitMix(SplitMix(seed).draw())
    stretches = range(0, n, stretch)
    buckets: list[list[int]] = [[] for _ in range(256)]
    if len(stretches) > 8192:
        for start, bucket in zip(stretches, random.pieces(len(stretches), 8), strict=True):
            buckets[bucket].append(start)
    else:
        buckets[0] += stretches
    starts = [start for bucket in buckets for start in random.shuffled(bucket)]
    order = [row for start in starts for row in range(start, min(start + stretch, n))]
    return order if window == 1 else random.shuffled_within(order, window)


def shuffle_within(order: list[int], seed: int, window: int) -> list[int]:
    """An order whose windows of so many places are shuffled, each by itself."""
    return SplitMix(SplitMix(seed).draw()).shuffled_within(order, window)


def panel(X: Matrix, y: Vector, sample_weight: Weights = None, shift: Vector | None = None) -> list[list[float]]:
    """The rows sqrt(s_i) z_i, with z_i = (x_i, y_i, 1) - (shift, 0).

    Parameters
    ----------
    X, y, sample_weight
        As for `value_sums`.
    shift : list of d + 1 floats, optional
        What is taken from x and y, by default zeros. Near their means, it keeps what large means would cancel.

    Returns
    -------
    list of n rows of d + 2 floats
    """
    s = weights(sample_weight, y)
    return [[sqrt(s_i) * z for z in row] for s_i, row in zip(s, shifted(X, y, shift), strict=True)]


def shifted(X: Matrix, y: Vector, shift: Vector | None) -> list[list[float]]:
    """The rows z_i of `panel`, without their weights."""
    shift = [0.0] * (len(X[0]) + 1) if shift is None else shift
    return [
        [entry - origin for entry, origin in zip([*x, target, 1.0], [*shift, 0.0], strict=True)]
        for x, target in zip(X, y, strict=True)
    ]


def moments(X: Matrix, y: Vector, sample_weight: Weights = None, shift: Vector | None = None) -> list[list[float]]:
    """The Gram matrix G_ab = sum_i s_i z_ia z_ib of z_i = (x_i, y_i, 1) - (shift, 0); parameters as for `panel`.

    It holds X'SX, X'Sy and y'Sy, and in its last column the sums of X and y and of the weights: all that a
    least-squares fit needs to know of the data.
    """
    s, columns = weights(sample_weight, y), list(zip(*shifted(X, y, shift), strict=True))
    return [[fsum(s_i * p * q for s_i, p, q in zip(s, a, b, strict=True)) for b in columns] for a in columns]


def column_sums(
    X: Matrix, y: Vector, sample_weight: Weights = None, shift: Vector | None = None
) -> tuple[list[float], list[float]]:
    """The last column and the diagonal of `moments`: sum_i s_i z_ia and sum_i s_i z_ia^2."""
    s, columns = weights(sample_weight, y), list(zip(*shifted(X, y, shift), strict=True))
    squares = [fsum(s_i * z * z for s_i, z in zip(s, column, strict=True)) for column in columns]
    return [dot(s, column) for column in columns], squares


# ---- sparse rows -----------------------------------------------------------------------------------------------------


def dense_rows(
    data: Vector, indices: Sequence[int], indptr: Sequence[int], n_features: int
) -> list[list[float]]:
    """The rows of a matrix in compressed sparse row format (CSR), zeros written out.

    With it every function here is the twin of a kernel on sparse rows too: their sums leave out the zeros, which add
    nothing.

    Parameters
    ----------
    data, indices : lists of as many floats and ints
        Entries, and the column of each. Those of a row that name the same column add up.
    indptr : list of n + 1 ints
        Row i has the entries indptr[i], indptr[i] + 1, ..., indptr[i + 1] - 1.
    n_features : int
    """
    rows = [[0.0] * n_features for _ in indptr[1:]]
    for row, start, stop in zip(rows, indptr, indptr[1:], strict=False):
        for k in range(start, stop):
            row[indices[k]] += data[k]
    return rows


# ---- linear algebra --------------------------------------------------------------------------------------------------


def cholesky(A: Matrix) -> list[list[float]]:
    """The lower triangular L with L L' = A, for a symmetric positive definite A.

    Row by row from A_ij = sum_{k<=j} L_ik L_jk (Golub and Van Loan, Matrix Computations, 4th ed., section 4.2). Where A
    is not positive definite, a square root or a division fails.
    """
    L: list[list[float]] = []
    for i, a in enumerate(A):
        row: list[float] = []
        for j in range(i):
            row.append((a[j] - dot(row, L[j][:j])) / L[j][j])
        row.append(sqrt(a[i] - dot(row, row)))
        L.append(row + [0.0] * (len(A) - i - 1))
    return L


def cholesky_solve(L: Matrix, b: Vector) -> list[float]:
    """The x with L L' x = b, for a lower triangular L: forward substitution in L z = b, then backward in L' x = z."""
    z: list[float] = []
    for i, row in enumerate(L):
        z.append((b[i] - dot(row[:i], z)) / row[i])
    x: list[float] = []  # entries i + 1, i + 2, ... of the solution
    for i in reversed(range(len(L))):
        x.insert(0, (z[i] - dot([row[i] for row in L[i + 1 :]], x)) / L[i][i])
    return x


def largest_eigenvalue(
    product: Callable[[list[float]], Vector], size: int, *, rtol: float = 1e-10, max_products: int = 100_000
) -> float:
    """λmax of a symmetric positive semi-definite matrix, given by its products with vectors, by power iteration.

    v <- A v / |A v| turns v towards the eigenvector of λmax, and with it v.Av towards λmax, from below (Golub and Van
    Loan, section 7.3.1). Gradient descent converges for steps below 2/λmax of the Hessian.

    Parameters
    ----------
    product : callable
        ``product(v)`` is A v.
    size : int
        Rows of A.
    rtol, max_products : float, int
        Ends when |A v - λ v| <= rtol λ, so that an eigenvalue is within rtol λ of λ, or after so many products.
    """
    generator = random.Random(0)
    v = [generator.gauss(0.0, 1.0) for _ in range(size)]
    length = sqrt(dot(v, v))
    value = 0.0
    for _ in range(max_products):
        v = [v_j / length for v_j in v]
        image = list(product(v))
        value, length = dot(v, image), sqrt(dot(image, image))
        off = [image_j - value * v_j for image_j, v_j in zip(image, v, strict=True)]
        if length == 0.0 or sqrt(dot(off, off)) <= rtol * value:
            break
        v = image
    return value


# ---- update rules ----------------------------------------------------------------------------------------------------
#
# Each changes the parameters p and the state of a rule, lists of floats, by the gradient g at step t = 1, 2, ...; the
# options are those of `fastgd.optim`, which are PyTorch's.


def penalised(p: Vector, g: Vector, weight_decay: float, maximize: bool) -> list[float]:
    """The gradient of what is to be made small: (-g if it is to be made large, else g) + weight_decay p."""
    sign = -1.0 if maximize else 1.0
    return [sign * g_j + weight_decay * p_j for p_j, g_j in zip(p, g, strict=True)]


def sgd_step(
    p: list[float], g: Vector, state: dict[str, list[float]], t: int, *, lr: float, momentum: float = 0.0,
    dampening: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False, maximize: bool = False,
) -> None:  # fmt: skip
    """Polyak's or Nesterov's momentum.

    b <- momentum b + (1 - dampening) g, at first b = g; p <- p - lr b, or with nesterov p <- p - lr (g + momentum b).
    """
    for j, d in enumerate(penalised(p, g, weight_decay, maximize)):
        if momentum:
            buffer = state["momentum_buffer"]
            buffer[j] = d if t == 1 else momentum * buffer[j] + (1.0 - dampening) * d
            d = d + momentum * buffer[j] if nesterov else buffer[j]
        p[j] -= lr * d


def adam_step(
    p: list[float], g: Vector, state: dict[str, list[float]], t: int, *, lr: float,
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0, amsgrad: bool = False,
    maximize: bool = False, decoupled: bool = False,
) -> None:  # fmt: skip
    """With decaying averages m of g and v of g^2, rid of their bias to zero: p <- p - lr m / (sqrt(v) + eps).

    Kingma and Ba (2015), algorithm 1; `decoupled` is AdamW, p <- (1 - lr weight_decay) p before it, of Loshchilov and
    Hutter (2019); with amsgrad the largest v so far takes its place, of Reddi, Kale and Kumar (2018).
    """
    beta1, beta2 = betas
    m, v = state["exp_avg"], state["exp_avg_sq"]
    for j, d in enumerate(penalised(p, g, 0.0 if decoupled else weight_decay, maximize)):
        m[j] += (1.0 - beta1) * (d - m[j])
        v[j] = beta2 * v[j] + (1.0 - beta2) * d * d
        largest = v[j]
        if amsgrad:
            largest = state["max_exp_avg_sq"][j] = max(state["max_exp_avg_sq"][j], v[j])
        if decoupled:
            p[j] *= 1.0 - lr * weight_decay
        p[j] -= lr / (1.0 - beta1**t) * m[j] / (sqrt(largest) / sqrt(1.0 - beta2**t) + eps)


def adagrad_step(
    p: list[float], g: Vector, state: dict[str, list[float]], t: int, *, lr: float, lr_decay: float = 0.0,
    weight_decay: float = 0.0, eps: float = 1e-10, maximize: bool = False,
) -> None:  # fmt: skip
    """With the sum s <- s + g^2: p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    Duchi, Hazan and Singer (2011).
    """
    total = state["sum"]
    for j, d in enumerate(penalised(p, g, weight_decay, maximize)):
        total[j] += d * d
        p[j] -= lr / (1.0 + (t - 1) * lr_decay) * d / (sqrt(total[j]) + eps)


def rmsprop_step(
    p: list[float], g: Vector, state: dict[str, list[float]], t: int, *, lr: float, alpha: float = 0.99,
    eps: float = 1e-8, weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False,
    maximize: bool = False,
) -> None:  # fmt: skip
    """With v <- alpha v + (1 - alpha) g^2: p <- p - lr b, b <- momentum b + g / (sqrt(v) + eps).

    Tieleman and Hinton (2012). Centred, v less the square of g's own average takes its place: Graves (2013), equations
    38 to 41. All steps are alike, whatever `t` is.
    """
    del t
    v = state["square_avg"]
    for j, d in enumerate(penalised(p, g, weight_decay, maximize)):
        v[j] = alpha * v[j] + (1.0 - alpha) * d * d
        spread = v[j]
        if centered:
            mean = state["grad_avg"]
            mean[j] += (1.0 - alpha) * (d - mean[j])
            spread = max(spread - mean[j] * mean[j], 0.0)
        d /= sqrt(spread) + eps
        if momentum:
            buffer = state["momentum_buffer"]
            buffer[j] = d = momentum * buffer[j] + d
        p[j] -= lr * d


# ---- fits ------------------------------------------------------------------------------------------------------------


def gradient_descent(
    X: Matrix,
    y: Vector,
    lr: float,
    max_iter: int,
    sample_weight: Weights = None,
    fit_intercept: bool = True,
    l2: float = 0.0,
    w0: Vector | None = None,
) -> tuple[list[float], list[float]]:
    """Minimise F in the four steps of the textbook, as `fastgd.fit(X, y, solver="gd", lr=lr, tol=0)` does.

    Parameters
    ----------
    X, y, sample_weight, fit_intercept, l2
        As for `objective`.
    lr : float
        The step size. Below 2/λmax of the Hessian the descent converges, above it diverges.
    max_iter : int
        How many updates to make.
    w0 : list of d floats, or d + 1, optional
        Where to start, by default zeros; an intercept that is not given starts at 0.

    Returns
    -------
    w : list of floats
        The parameters, the intercept last if one is fitted.
    losses : list of max_iter + 1 floats
        Entry 0 is F at the start, entry k after k updates.
    """
    start = list(w0 or [])
    w = start + [0.0] * (len(X[0]) + fit_intercept - len(start))  # step 1: initialise the parameters
    losses = []
    for _ in range(max_iter):  # step 4: repeat
        loss, gradient = objective(X, y, w, sample_weight, fit_intercept, l2)  # step 2: the gradient of the loss
        losses.append(loss)
        w = update(w, gradient, lr)  # step 3: move against it
    losses.append(objective(X, y, w, sample_weight, fit_intercept, l2)[0])
    return w, losses


def momentum_descent(
    X: Matrix,
    y: Vector,
    lr: float,
    momentum: float,
    max_iter: int,
    nesterov: bool = False,
    sample_weight: Weights = None,
    fit_intercept: bool = True,
    l2: float = 0.0,
    w0: Vector | None = None,
) -> tuple[list[float], list[float]]:
    """`gradient_descent` with a memory of its last change.

    With a momentum m, and from v = 0,

        v <- m v - lr grad F(w), w <- w + v             the heavy ball (Polyak, 1964)
        v <- m v - lr grad F(w + m v), w <- w + v       Nesterov's method (1983)

    for `fastgd.fit(X, y, solver="gd", lr=lr, momentum=m, nesterov=nesterov, tol=0)`. Along an eigenvector of the
    Hessian with eigenvalue λ they converge for lr λ < 2 (1 + m), and lr λ < 2 (1 + m) / (1 + 2 m). Other parameters and
    results are those of `gradient_descent`.
    """
    start = list(w0 or [])
    w = start + [0.0] * (len(X[0]) + fit_intercept - len(start))
    v = [0.0] * len(w)
    losses = []
    for _ in range(max_iter):
        losses.append(objective(X, y, w, sample_weight, fit_intercept, l2)[0])
        at = [w_j + momentum * v_j for w_j, v_j in zip(w, v, strict=True)] if nesterov else w
        gradient = objective(X, y, at, sample_weight, fit_intercept, l2)[1]
        v = update([momentum * v_j for v_j in v], gradient, lr)
        w = [w_j + v_j for w_j, v_j in zip(w, v, strict=True)]
    losses.append(objective(X, y, w, sample_weight, fit_intercept, l2)[0])
    return w, losses


def soft_threshold(u: Vector, by: Vector) -> list[float]:
    """Each entry moved towards zero by so much, and no further: the proximal operator of sum_j by_j |u_j|."""
    return [max(entry - p, 0.0) - max(-entry - p, 0.0) for entry, p in zip(u, by, strict=True)]


def proximal_gradient_descent(
    X: Matrix,
    y: Vector,
    lr: float,
    max_iter: int,
    l1: float,
    sample_weight: Weights = None,
    fit_intercept: bool = True,
    l2: float = 0.0,
) -> tuple[list[float], list[float]]:
    """Minimise F + l1 |w|_1 from zeros: each update of `gradient_descent` is followed by a shrinkage of w by lr l1.

    Beck and Teboulle, SIAM J. Imaging Sci. 2, 2009, equation 1.4 (ISTA); the intercept, last, is not shrunk. Returns
    the parameters and the losses, as `gradient_descent` does.
    """
    d = len(X[0])
    w = [0.0] * (d + fit_intercept)
    losses = []
    for step in range(max_iter + 1):
        loss, gradient = objective(X, y, w, sample_weight, fit_intercept, l2)
        losses.append(loss + l1 * fsum(map(abs, w[:d])))
        if step < max_iter:
            w = soft_threshold(update(w, gradient, lr), [lr * l1] * d + [0.0] * fit_intercept)
    return w, losses


def accelerated_proximal_steps(
    M: Matrix, c: Vector, p: Vector, u: Vector, lipschitz: float, steps: int
) -> tuple[list[float], float]:
    """Steps on u'Mu - 2 c'u + sum_j p_j |u_j|, and the curvature in use at the end.

    Beck and Teboulle, SIAM J. Imaging Sci. 2, 2009, equations 4.1 to 4.3 (FISTA). Momentum that points uphill is given
    up (O'Donoghue and Candès, Found. Comput. Math. 15, 2015, equation 13). A step that meets a curvature 2 x'Mx / x'x
    above `lipschitz` is taken back, and the next one is shorter.
    """
    u, ahead, t = list(u), list(u), 1.0
    limit = 2 * fsum(row[j] for j, row in enumerate(M))
    for _ in range(steps):
        lr = 1 / lipschitz
        gradient = [2 * (dot(row, ahead) - entry) for row, entry in zip(M, c, strict=True)]
        new = soft_threshold(update(ahead, gradient, lr), [lr * entry for entry in p])
        step = [a - b for a, b in zip(new, ahead, strict=True)]
        curvature, square = 2 * dot(step, [dot(row, step) for row in M]), dot(step, step)
        if curvature > lipschitz * (1 + 1e-9) * square and lipschitz < limit:
            lipschitz = min(max(1.5 * lipschitz, curvature / square), limit)
            ahead, t = u, 1.0
            continue
        before, t = t, (1 + sqrt(1 + 4 * t * t)) / 2
        moved = [a - b for a, b in zip(new, u, strict=True)]
        if dot(step, moved) < 0:
            before = t = 1.0
        ahead = [a + (before - 1) / t * b for a, b in zip(new, moved, strict=True)]
        u = new
        if square == 0:
            break
    return u, lipschitz


def solve_normal_equations(
    X: Matrix, y: Vector, sample_weight: Weights = None, fit_intercept: bool = True, l2: float = 0.0
) -> list[float]:
    """The minimum of F, where its gradient vanishes: (X'SX + S l2 I) w = X'Sy.

    Parameters and result are those of `gradient_descent`: what that comes close to, solved by Cholesky. The columns of
    X, and of ones with an intercept, must be linearly independent, or l2 positive.
    """
    d, G = len(X[0]), moments(X, y, sample_weight)
    places = [*range(d), d + 1] if fit_intercept else list(range(d))  # of the parameters in G; y stands at d
    A = [[G[a][b] + (G[-1][-1] * l2 if a == b < d else 0.0) for b in places] for a in places]
    return cholesky_solve(cholesky(A), [G[a][d] for a in places])


# ---- the chain rule --------------------------------------------------------------------------------------------------


class Chained:
    """A number that knows what it depends on; arithmetic on it applies the chain rule.

    Of an operation u = f(a, b) two things are known: its value, and its local derivatives ∂u/∂a and ∂u/∂b. What becomes
    of them is the difference between the modes: `Dual` multiplies them on at once, from the inputs forward, `Value`
    writes them down, for the way back.

    Attributes
    ----------
    value : float or Chained
    level : int, default 0
        Derivatives nest: to the variable of the inner one, that of the outer one, of a lower level, is a constant.
    """

    value: Any
    level: int

    def follow(self, value: Any, partials: list[tuple[Any, Any]]) -> Any:
        """What depends on numbers of this kind: its value, and pairs of an operand u and the local derivative by u."""
        raise NotImplementedError

    def __pos__(self) -> Any:
        return self

    def __neg__(self) -> Any:
        return chain(operator.neg, [lambda a: -1.0], self)

    def __abs__(self) -> Any:
        return chain(abs, [lambda a: float(a > 0) - float(a < 0)], self)

    def __add__(self, other: Any) -> Any:
        return chain(operator.add, [lambda a, b: 1.0, lambda a, b: 1.0], self, other)

    def __sub__(self, other: Any) -> Any:
        return chain(operator.sub, [lambda a, b: 1.0, lambda a, b: -1.0], self, other)

    def __mul__(self, other: Any) -> Any:
        return chain(operator.mul, [lambda a, b: b, lambda a, b: a], self, other)

    def __truediv__(self, other: Any) -> Any:
        return quotient(self, other)

    def __pow__(self, other: Any) -> Any:
        return power(self, other)

    def __radd__(self, other: float) -> Any:
        return self + other

    def __rsub__(self, other: float) -> Any:
        return -self + other

    def __rmul__(self, other: float) -> Any:
        return self * other

    def __rtruediv__(self, other: float) -> Any:
        return quotient(other, self)

    def __rpow__(self, other: float) -> Any:
        return power(other, self)

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return float(self) != 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, float, Chained)) and float(self) == float(other)

    def __lt__(self, other: Any) -> bool:
        return float(self) < float(other)

    def __le__(self, other: Any) -> bool:
        return float(self) <= float(other)

    def __gt__(self, other: Any) -> bool:
        return float(self) > float(other)

    def __ge__(self, other: Any) -> bool:
        return float(self) >= float(other)


class Dual(Chained):
    """Forward mode: value + slope ε with ε² = 0, where the slope is the derivative by the input, du/dx.

    For u = f(a, b) the chain rule is du/dx = ∂u/∂a da/dx + ∂u/∂b db/dx (Clifford, 1873; Wengert, A simple automatic
    derivative evaluation program, 1964). One run gives the derivative by one input, and of all outputs.
    """

    def __init__(self, value: Any, slope: Any = 0.0, level: int = 0) -> None:
        self.value, self.slope, self.level = value, slope, level

    def follow(self, value: Any, partials: list[tuple[Any, Any]]) -> Dual:
        """Its slope is the sum over operands."""
        return Dual(value, sum(local * u.slope for u, local in partials), self.level)

    def __repr__(self) -> str:
        return f"Dual({self.value!r}, {self.slope!r})"


class Value(Chained):
    """Reverse mode: remembers its operands and the local derivatives by them, for `adjoints` to go back over.

    One run, and one way back, give the derivatives of one output by all inputs, at a few times the cost of the output
    (Linnainmaa, 1970; Griewank and Walther, Evaluating Derivatives, 2nd ed., sections 3.2 and 3.3).
    """

    made = itertools.count()

    def __init__(self, value: Any, partials: Sequence[tuple[Any, Any]] = (), level: int = 0) -> None:
        self.value, self.partials, self.level = value, partials, level
        self.number = next(Value.made)  # operands have lower ones than what is made of them

    def follow(self, value: Any, partials: list[tuple[Any, Any]]) -> Value:
        """It keeps the pairs."""
        return Value(value, partials, self.level)

    def __repr__(self) -> str:
        return f"Value({self.value!r})"


def chain(function: Callable[..., Any], partials: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """An elementary function of numbers, and by the way of `Chained.follow` its derivative: a line makes a new one.

    Parameters
    ----------
    function : callable
        On floats.
    partials : list of callable
        For each operand, the derivative of `function` by it as a function of all of them. They are written in
        operations that are chained themselves, so there are derivatives of derivatives.
    *operands : float or Chained
        Those of the highest level are what is differentiated by; the others are constants.
    """
    chained = [u for u in operands if isinstance(u, Chained)]
    if not chained:
        return function(*operands)
    top = max(chained, key=lambda u: u.level)
    variable = [isinstance(u, Chained) and u.level == top.level for u in operands]
    inner = [u.value if varies else u for u, varies in zip(operands, variable, strict=True)]
    value = chain(function, partials, *inner)
    pairs = [
        (u, partial(*inner)) for u, varies, partial in zip(operands, variable, partials, strict=True) if varies
    ]
    return top.follow(value, pairs)


def quotient(a: Number, b: Number) -> Number:
    """The quotient a / b, with the derivatives 1/b and -a/b²."""
    return chain(operator.truediv, [lambda a, b: 1.0 / b, lambda a, b: -(a / b) / b], a, b)


def power(a: Number, b: Number) -> Number:
    """The power a^b, with the derivatives b a^(b-1), for a constant b of 0 everywhere 0, and log(a) a^b."""

    def by_base(a: Any, b: Any) -> Any:
        return b * power(a, b - 1.0) if isinstance(b, Chained) or b != 0.0 else 0.0

    return chain(math.pow, [by_base, lambda a, b: log(a) * power(a, b)], a, b)


def exp(x: Number) -> Number:
    """Its own derivative."""
    return chain(math.exp, [exp], x)


def log(x: Number) -> Number:
    """The natural logarithm; its derivative is 1/x."""
    return chain(math.log, [lambda x: 1.0 / x], x)


def sqrt(x: Number) -> Number:
    """The square root; its derivative is 1 / (2 √x)."""
    return chain(math.sqrt, [lambda x: 0.5 / sqrt(x)], x)


def sin(x: Number) -> Number:
    """The sine; its derivative is cos x."""
    return chain(math.sin, [cos], x)


def cos(x: Number) -> Number:
    """The cosine; its derivative is -sin x."""
    return chain(math.cos, [lambda x: -sin(x)], x)


def tanh(x: Number) -> Number:
    """The hyperbolic tangent; its derivative is 1 - tanh² x."""
    return chain(math.tanh, [lambda x: 1.0 - tanh(x) * tanh(x)], x)


def adjoints(z: Value) -> dict[int, Any]:
    """dz/du for every u that z depends on, by the number of u: from z back to the inputs.

    dz/dz = 1, and each u hands dz/du ∂u/∂a on to its operands a, where the parts of all that a goes into add up. It
    must have all parts itself before it hands them on, so the order is that of making, backwards.
    """
    found, waiting = {z.number: z}, [z]
    while waiting:
        for u, _ in waiting.pop().partials:
            if u.number not in found:
                found[u.number] = u
                waiting.append(u)
    adjoint = dict.fromkeys(found, 0.0) | {z.number: 1.0}
    for number in sorted(found, reverse=True):
        for u, local in found[number].partials:
            adjoint[u.number] = adjoint[u.number] + adjoint[number] * local
    return adjoint


LEVELS = itertools.count(1)


def derivative(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function f', by forward mode.

    Parameters
    ----------
    f : callable
        A number made of one by arithmetic and the functions of this module. It is run, so it may branch and loop.

    Returns
    -------
    callable
        Also of what is differentiated itself: ``derivative(derivative(f))`` is f''.
    """

    def of(x: Any) -> Any:
        level = next(LEVELS)
        z = f(Dual(x, 1.0, level))
        return z.slope if isinstance(z, Dual) and z.level == level else 0.0  # else z is a constant

    return of


def grad(f: Callable[[list[Any]], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """The gradient of a number made of a list of numbers, by reverse mode: the list of ∂f/∂w_j.

    `f` and the result are as for `derivative`: the derivative of a gradient along a line, Hv, is
    ``derivative(lambda t: grad(f)([w_j + t * v_j for ...])[i])(0.0)``.
    """

    def of(w: Sequence[Any]) -> list[Any]:
        level = next(LEVELS)
        variables = [Value(w_j, level=level) for w_j in w]
        z = f(variables)
        back = adjoints(z) if isinstance(z, Value) and z.level == level else {}
        return [back.get(u.number, 0.0) for u in variables]

    return of
