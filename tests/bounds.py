"""How far a kernel may be from the oracle: rounding error bounds, by counting.

Every operation is fl(a op b) = (a op b)(1 + δ) + η, with |δ| <= u, the unit roundoff, and η, zero unless a product
underflows, below the smallest subnormal (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 2.2).
A term that passes k roundings on its way into a result carries a factor 1 + θ, |θ| <= γ_k = k u / (1 - k u) (lemma
3.1). A sum of m terms takes each of them through at most m - 1 additions, whatever the order: lanes, tiles and blocks
change nothing, and a fused multiply-add only leaves a rounding out. A term that is rounded a times in float and b times
in double carries (1 + γ_a)(1 + γ_b): `growth`.

The bounds hold for the difference of two computed numbers, so each counts the roundings of the kernel and those of the
oracle, where `math.fsum` rounds once however many terms there are. Each count has one rounding to spare, for the
rounding of the bound itself: its relative error is far below 1/k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = [
    "cholesky_bounds",
    "columns_bound",
    "gradient_bound",
    "moments_bound",
    "objective_bound",
    "outside",
    "panel_bound",
    "sgd_bounds",
    "sums_bound",
    "update_bound",
]

UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
TINY = {np.dtype(np.float32): 2.0**-149, np.dtype(np.float64): 2.0**-1074}
DOUBLE = UNIT[np.dtype(np.float64)]
TILE = 512  # rows that a kernel may add up in float before it goes on in double


def gamma(k: int, u: float = DOUBLE) -> float:
    return k * u / (1 - k * u)


def growth(in_x: int, u: float, in_double: int) -> float:
    """|θ| of a term rounded so many times in the precision of X and so many times in double."""
    return (1 + gamma(in_x, u)) * (1 + gamma(in_double)) - 1


def outside(computed: np.ndarray, expected: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Where |computed - expected| is not within the bound; NaN is not."""
    return ~(np.abs(np.asarray(computed, np.float64) - expected) <= bound)


# ---- mean squared error ----------------------------------------------------------------------------------------------


def sums_bound(
    X: np.ndarray, y: np.ndarray, w: np.ndarray, s: np.ndarray, b: float, residuals: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """For sum s r^2, sum s r and sum s r x_j: what `reference.gradient_sums` and a kernel on `dtype` may differ by.

    Residuals first. With a_i = |x_i|.|w| + |b| + |y_i|, the terms of r_i pass

        kernel    the rounding of w to X's precision (float only), a dot product of length d in X's precision, and in
                  double y - b and the difference of the two
        oracle    the product, fsum, + b, - y

    which leaves |r_kernel - r_oracle| <= e_i = (θ_kernel + θ_oracle) a_i, and both below R_i = |r_i| + e_i. Then each
    sum of s_i r_i x_ij is off by sum s_i |x_ij| e_i, and by the roundings after r_i, relative to s_i |x_ij| R_i:

        kernel    s r in double, its rounding to X's precision (float only), times x and the sum of a tile in X's
                  precision, the sum of tiles and blocks in double; losses and residuals are summed in double alone
        oracle    s r, times x, fsum

    As R_i <= a_i (1 + θ), this is within the textbook's γ |X|'(s o (|X||w| + |b| + |y|)), and sharper for good fits.
    """
    n, d = X.shape
    u, tiny, rounds = UNIT[dtype], 2 * TINY[dtype], int(dtype == np.float32)
    size = np.abs(X) @ np.abs(w) + abs(b) + np.abs(y)
    e = (growth(d + rounds, u, 3) + gamma(5)) * size + tiny * (d + np.abs(X).sum(axis=1))
    R = np.abs(residuals) + e
    tile = min(n, TILE) if rounds else n
    after = growth(tile + rounds, u, n + 2 if rounds else 2) + gamma(4)
    return np.concatenate(
        [
            [2 * (s * R) @ e + (gamma(n + 2) + gamma(4)) * (s * R) @ R + tiny * (n + R.sum())],
            [s @ e + (gamma(n + 1) + gamma(3)) * s @ R + tiny * n],
            np.abs(X).T @ (s * e + after * s * R + tiny) + tiny * n,
        ]
    )


@dataclass
class Penalised:
    """An objective's parameters, its raw sums by the oracle and their bound."""

    coef: np.ndarray
    weight: float  # sum of the weights
    n: int
    sums: np.ndarray
    bound: np.ndarray
    l2: float


def objective_bound(p: Penalised) -> float:
    """For F = sums[0] / S + l2 |w|^2.

    Kernel: S is a sum of n weights, the quotient, d additions; l2 w w and as many additions. Oracle: fsum, quotient,
    addition; product, fsum, product, addition.
    """
    penalty = p.l2 * float(p.coef @ p.coef)
    relative = gamma(p.n + len(p.coef) + 2) + gamma(4)
    return float(
        p.bound[0] / p.weight
        + relative * (p.sums[0] + p.bound[0]) / p.weight
        + (gamma(len(p.coef) + 3) + gamma(5)) * penalty
        + 4 * (len(p.coef) + 2) * TINY[np.dtype(np.float64)]
    )


def gradient_bound(p: Penalised, gradient: np.ndarray, out: np.dtype) -> np.ndarray:
    """For (2/S) sums[2:] + 2 l2 w and, last, (2/S) sums[1]; `gradient` is the oracle's, `out` what it is rounded to.

    Kernel: S is a sum of n weights, the quotient 2/S, the product, one addition; l2 w and one addition; the rounding
    of the result. Oracle: fsum, quotient, product, addition; product, addition.
    """
    sums, bound = np.roll(p.sums[1:], -1), np.roll(p.bound[1:], -1)
    coef = np.append(p.coef, 0.0)
    in_double = (2 / p.weight) * (bound + (gamma(p.n + 4) + gamma(5)) * (np.abs(sums) + bound))
    in_double += (gamma(3) + gamma(3)) * 2 * p.l2 * np.abs(coef) + 4 * TINY[np.dtype(np.float64)]
    in_double = in_double[: len(gradient)]
    return in_double + 2 * UNIT[out] * (np.abs(gradient) + in_double) + TINY[out]


def update_bound(w: np.ndarray, step: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """For w - step, with step = lr g; `w` is the result.

    Kernel and oracle: the product and the difference in double; kernel: the rounding of the result to w's precision.
    """
    result = 2 * gamma(2) + (gamma(2, UNIT[dtype]) if dtype == np.float32 else 0.0)
    return 2 * gamma(2) * np.abs(step) + result * np.abs(w) + TINY[dtype]


# ---- second moments --------------------------------------------------------------------------------------------------
#
# An entry of a panel is sqrt(s) (x - shift): the difference of two given numbers, a root and a product, three roundings
# relative to |z| sqrt(s). In a panel of float each is one of float, and root and y less its shift are rounded twice, in
# double and to float; float columns take a shift of floats.

FLOAT = np.dtype(np.float32)


def panel_bound(panel: np.ndarray, lanes: np.dtype = np.dtype(np.float64)) -> np.ndarray:
    """Kernel and oracle: three roundings each, and those of the kernel to float."""
    kernel = growth(3, UNIT[FLOAT], 3) if lanes == FLOAT else gamma(4)
    return (kernel + gamma(4)) * np.abs(panel) + 4 * TINY[lanes]


def moments_bound(
    panel: np.ndarray, z: np.ndarray, lanes: np.dtype = np.dtype(np.float64), tile: int = TILE
) -> np.ndarray:
    """For the Gram matrix, given the oracle's `panel` and the same without weights.

    Kernel: two entries of a panel, their product, a sum of n; in float lanes the entries, the product and a sum of the
    rows of a tile in float, the rest in double, and sums of y and of the weights in double altogether. Oracle: two
    differences, s z, times z, fsum.
    """
    n, p = len(panel), np.abs(panel)
    lost = (p + np.abs(z)).sum(axis=0)  # what meets a sqrt(s) z or an s z that underflows
    lost = 4 * (n + lost + lost[:, None])
    relative = np.full(lost.shape, gamma(n + 7) + gamma(8))
    tiny = np.full(lost.shape, TINY[np.dtype(np.float64)])
    if lanes == FLOAT:
        relative[:-2] = relative[:, :-2] = growth(min(n, tile) + 7, UNIT[FLOAT], n + 7) + gamma(8)
        tiny[:-2] = tiny[:, :-2] = TINY[FLOAT]
    return relative * (p.T @ p) + tiny * lost


def columns_bound(panel: np.ndarray, z: np.ndarray) -> np.ndarray:
    """For the sums of the columns and of their squares: the last column and the diagonal of the Gram matrix."""
    bound = moments_bound(panel, z)
    return np.concatenate([bound[:, -1], np.diagonal(bound)])


# ---- stochastic descent ----------------------------------------------------------------------------------------------


@dataclass
class Descent:
    """A run of stochastic updates, its data in double, as `reference.sgd_epoch` takes it."""

    X: np.ndarray
    y: np.ndarray
    s: np.ndarray
    w: np.ndarray
    b: float
    order: np.ndarray
    rates: np.ndarray
    batch_size: int
    l1: float
    l2: float
    intercept_step: float
    average_from: int


def sgd_bounds(run: Descent, steps: list[tuple[list[float], float]]) -> np.ndarray:
    """For the parameters after a run, the three sums over its rows, and the mean of the averaged parameters.

    `steps` are the oracle's. E and e bound how far w and b are from them, update for update. For a row of the batch,

        residual     off by ρ = |x|.E + e, and by the roundings of its terms: a product of length d and at most 20
                     operations besides, with scales, and 5 in the oracle. A kernel that looks ahead has not w but the w
                     of up to 3 updates before and their steps c x, so the terms are |x|.(|w| + 2 sum |c x|) and such
        step c       rate s r / |B| takes 6 operations here and there: δ = rate s / |B| (ρ + 2 γ_6 |r|)
        w, b         E <- max(0, 1 - rate l2) E + sum |x| δ and 2 γ of as many operations as rows, and 10, on the terms
        truncation   moves the error of w to what was taken and back, and their sum is not increased: where w is not
                     clipped, w' = w - taken - due and taken' = -due, else w' = 0 and taken' = taken - w. E bounds both.
                     What is due is a sum of as many terms as updates

    The average is computed as total + total_scale w, from terms that are up to 1 / FLOOR = 1000 times as large as the
    parameters and their steps, for each update that was averaged before, and passes two operations an update.
    """
    w, b, E, e = run.w, run.b, np.zeros_like(run.w), 0.0
    d, due = len(w), 0.0
    sums, recent, averaged, terms = np.zeros(3), [], [], np.zeros(d + 1)
    for t, (new, new_b) in enumerate(steps):
        batch = run.order[t * run.batch_size : (t + 1) * run.batch_size]
        rate, new = run.rates[t], np.array(new)
        X, y, s = np.abs(run.X[batch]), run.y[batch], run.s[batch]
        path = sum((np.append(c @ x, run.intercept_step * c.sum()) for c, x in recent), np.zeros(d + 1))
        size = X @ (np.abs(w) + 2 * path[:-1]) + abs(b) + 2 * path[-1] + np.abs(y)
        rho = X @ E + e + (gamma(d + 21) + gamma(6)) * size
        R = np.abs(run.X[batch] @ w + b - y) + rho
        c, delta = rate / len(batch) * s * R, rate / len(batch) * s * (rho + 2 * gamma(7) * R)
        sums += [s @ (2 * R * rho), (2 * R * rho).sum(), 0.0]
        sums += (gamma(len(run.order) + 4) + gamma(5)) * np.array([s @ R**2, (R**2).sum(), s.sum()])
        kept = max(0.0, 1.0 - rate * run.l2)
        moved, moved_b = c @ X, run.intercept_step * c.sum()
        E = kept * E + delta @ X + 2 * gamma(len(batch) + 11) * ((1 + rate * run.l2) * np.abs(w) + moved)
        e += run.intercept_step * delta.sum() + 2 * gamma(len(batch) + 7) * (abs(b) + moved_b)
        if run.l1:
            due += rate * run.l1
            E = E + 2 * gamma(t + 4) * due + 2 * gamma(7) * (np.abs(w) + moved + 2 * due)
        if t >= run.average_from:
            averaged.append(np.append(E, e))
            terms[:-1] += 2 * len(averaged) * (moved + np.abs(new - kept * w) + np.abs(new)) + np.abs(new)
            terms[-1] += abs(new_b) + e
        recent = [*recent, (c, X)][-3:]
        w, b = new, new_b
    mean = []
    if averaged:
        terms[:-1] /= 1e-3
        n = len(averaged)
        mean = np.sum(averaged, axis=0) / n + (gamma(2 * n + 12) + gamma(3)) * terms / n
    return np.concatenate([E, [e], sums, mean])


# ---- triangular systems ----------------------------------------------------------------------------------------------


def cholesky_bounds(L: np.ndarray, x: np.ndarray, oracle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For the residual of L L' x = b at the kernel's x, and for its distance from the oracle's solution.

    Substitution solves (L + ΔL) z = b exactly, |ΔL| <= γ |L| (Higham, theorem 8.5): terms pass a product, at most
    d - 1 additions, a difference and a quotient; in the oracle, a product, fsum, a difference and a quotient. Two
    triangles make |b - L L' x| <= (2 γ + γ^2) |L||L'||x|, and so

        |x - x_oracle| <= |(L L')^-1| (the residuals of both) <= M(L')^-1 M(L)^-1 (...),

    where M(L), the comparison matrix, has the magnitudes of L on the diagonal and less them elsewhere (section 8.3).
    """
    d = len(x)
    magnitude = np.abs(L) @ np.abs(L).T
    residual = (2 * gamma(d + 3) + gamma(d + 3) ** 2) * (magnitude @ np.abs(x))
    both = residual + (2 * gamma(5) + gamma(5) ** 2) * (magnitude @ np.abs(oracle))
    for i in range(d):
        both[i] = (both[i] + np.abs(L[i, :i]) @ both[:i]) / abs(L[i, i])
    for i in reversed(range(d)):
        both[i] = (both[i] + np.abs(L[i + 1 :, i]) @ both[i + 1 :]) / abs(L[i, i])
    return residual, both * (1 + gamma(4 * d + 8))
