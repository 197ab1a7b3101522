"""How far above its minimum a penalised F can be, at most: the duality gap of one exact pass.

For any numbers t_i of weighted sum zero, sum_i s_i (r_i^2 - 2 t_i r_i + t_i^2) >= 0 gives a lower bound of F which is
linear in w and does not depend on b, so that its minimum is known. With t = a (r - m), m the weighted mean of the
residuals r (0 without an intercept), v = (2/S) X'S(r - m) and q = sum_i s_i (r_i - m)^2 / S,

    F(w, b) - F* <= m^2 + (1 - a)^2 q + sum_j ( l1 |w_j| + a v_j w_j + l2 w_j^2 + max(|a v_j| - l1, 0)^2 / (4 l2) ).

Each term is at least 0. Without l2 the last one asks for a <= l1 / max |v_j| (the scaled residual of Fercoq, Gramfort
and Salmon, "Mind the duality gap", ICML 2015); with l2 the same point of the lasso with rows sqrt(S l2) I below X and
zeros below y is a second bound. A third has a = 1, which near the optimum is best: without l1 it is |grad F|^2 / (4 l2)
for centred columns, as strong convexity gives it. A fourth has the a that is best without l1, where the sum is a
quadratic in a: far from the optimum, and with a small l2, it is not much more than F. The smallest counts.

Rounding is allowed for: a sum of m terms is off by no more than gamma_m = m u / (1 - m u) times the sum of their
magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), those of residuals and of the
sums over rows are bounded by the lengths of the columns (Cauchy and Schwarz), and all are counted against the bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastgd import _mse, _sparse
from fastgd._csr import CSR
from fastgd._engine import sum_blocks
from fastgd._rows import RowBlock
from fastgd._sparse import SparseBlock
from fastgd.objective import MSE, SecondMoments
from fastgd.solvers._certificate import Geometry

__all__ = ["Rounding", "duality_gap", "gap_of_moments", "pass_in_double"]

#: Numbers that are converted at once.
PANEL = 1 << 16

EPS = 2.0**-52
UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
#: Rows that a kernel may add up in float32 before it goes on in double.
TILE = 512


@dataclass(frozen=True)
class Rounding:
    """What the rounding of a pass may hide: relative errors of residuals and of sums over rows."""

    residual: float
    sums: float

    @classmethod
    def of_pass(cls, dtype: np.dtype, rows: list[int], n_terms: int) -> Rounding:
        """Of blocks of so many rows each, computed in dtype with parameters it can hold, n_terms of them not zero.

        The parameters that are zero add exact zeros. A block's sums leave a tile in double.
        """
        unit, double = UNIT[dtype], UNIT[np.dtype(np.float64)]
        return cls((n_terms + 4) * unit, (min(max(rows), TILE) + 4) * unit + (max(rows) + len(rows) + 8) * double)


def duality_gap(geometry: Geometry, w: np.ndarray, loss: float, grad: np.ndarray, rounding: Rounding) -> float:
    """An upper bound of F(w) - F*, and the rounding of F; NaN without a penalty.

    Parameters
    ----------
    geometry : Geometry
        Of the columns; holds l1, l2 and whether there is an intercept.
    w : ndarray
        Parameters, the intercept last if there is one.
    loss, grad : float and ndarray
        F less l1 |w|_1, and its gradient, as a pass over X gives them.
    rounding : Rounding
        Of that pass.
    """
    l1, l2 = geometry.l1, geometry.l2
    if l1 == l2 == 0:
        return float("nan")
    d = len(geometry.lengths)
    coef, root = w[:d], math.sqrt(geometry.weight)
    magnitude = np.abs(coef)
    penalty = l2 * float(coef @ coef)
    slope, intercept = geometry.split(grad)
    reach = float(geometry.raw_lengths @ magnitude) + geometry.raw_y_length
    reach += root * abs(float(w[d])) if geometry.fit_intercept else 0.0
    off = rounding.residual * reach / root  # of the root mean square of the residuals
    spread = math.sqrt(max(loss - penalty, 0.0) + 4 * EPS * loss) + off
    blur = off + rounding.sums * spread     # of a mean of residuals
    # With an intercept a column's mean times that of the residuals is taken off: as much again, and its own rounding.
    hidden = (4 * blur + rounding.sums * abs(intercept)) / root * geometry.raw_lengths
    hidden += 8 * EPS * (np.abs(slope) + 2 * l2 * magnitude + l1)
    square = (spread * (1 + rounding.sums)) ** 2
    gap = least_bound(coef, slope, hidden, square, l1, l2)
    price = l1 * float(magnitude.sum())
    return float((abs(intercept) / 2 + blur) ** 2 + gap) * (1 + (d + 16) * EPS) + 4 * EPS * (loss + price)


def gap_of_moments(
    geometry: Geometry, moments: SecondMoments, w: np.ndarray, loss: float, grad: np.ndarray, off: float
) -> float:
    """The same where F and its gradient come from second moments; at least one of the penalties is not zero.

    An entry of the Gram matrix G of z = (x, y, 1) - (shift, 0) is off by no more than `off` times the lengths of its
    two columns, which holds for what else is rounded on the way from it. With v the direction whose v.z are the
    residuals, the entries of G v are then off by that times their column's length and sum_j |z_j| |v_j|.

    Parameters
    ----------
    geometry, w, loss, grad
        As for `duality_gap`.
    moments : SecondMoments
    off : float
    """
    l1, l2, d = geometry.l1, geometry.l2, len(geometry.lengths)
    coef, shift, root = w[:d], moments.shift[:d], math.sqrt(geometry.weight)
    magnitude = np.abs(coef)
    b = float(w[d]) if geometry.fit_intercept else 0.0
    level = float(shift @ coef) - moments.shift[d] + b     # what the residuals have in common
    lost = (d + 4) * EPS * (float(np.abs(shift) @ magnitude) + abs(moments.shift[d]) + abs(b))
    lengths = np.sqrt(moments.gram.diagonal())
    total = (float(lengths[:d] @ magnitude) + lengths[d]) / root + abs(level) + lost
    slope, intercept = geometry.split(grad)
    square = max(loss - l2 * float(coef @ coef), 0.0) + 4 * EPS * loss + off * total * total
    if geometry.fit_intercept:  # what is lost of the mean of the residuals is in the intercept's part alone
        hidden = 4 * off * total * (lengths[:d] / root + EPS * np.abs(shift))
        hidden += 4 * EPS * np.abs(geometry.means * intercept)
    else:
        hidden = 4 * (off * total + lost) * (lengths[:d] / root + np.abs(shift))
        square += 2 * lost * total
    hidden += 8 * EPS * (np.abs(slope) + 2 * l2 * magnitude + l1)
    gap = least_bound(coef, slope, hidden, square, l1, l2)
    mean = abs(intercept) / 2 + off * total + lost if geometry.fit_intercept else 0.0
    price = l1 * float(magnitude.sum())
    return float(mean**2 + gap) * (1 + (d + 16) * EPS) + 4 * EPS * (loss + price)


def least_bound(
    coef: np.ndarray, slope: np.ndarray, hidden: np.ndarray, square: float, l1: float, l2: float
) -> float:
    """The smallest of the bounds that can be had, `square` being the part of F that the rows have."""
    gap = scaled_bound(coef, slope, hidden, square + l2 * float(coef @ coef), l1) if l1 > 0 else np.inf
    if l2 > 0:
        v = slope - 2 * l2 * coef
        a = np.array([1.0, best_share(coef, v, square, l2)])
        with np.errstate(over="ignore"):    # then there is a smaller one
            bounds = (1 - a) ** 2 * square + conjugate_bound(coef, np.outer(a, v), np.outer(a, hidden), l1, l2)
        gap = min(gap, *bounds.tolist())
    return gap


def scaled_bound(coef: np.ndarray, slope: np.ndarray, hidden: np.ndarray, square: float, l1: float) -> float:
    """(1 - a)^2 q + sum_j (l1 |w_j| + a v_j w_j), v off by no more than `hidden`, for the best a >= 0 allowed."""
    largest = float((np.abs(slope) + hidden).max())
    best = 1 - float(slope @ coef) / (2 * square) if square > 0 else 1.0
    a = min(max(best, 0.0), (1 - 4 * EPS) * l1 / largest if largest > 0 else 1.0)
    magnitude = np.abs(coef)
    price, met = l1 * magnitude, a * slope * coef
    blur = a * hidden * magnitude + 4 * EPS * (price + np.abs(met))
    return (1 - a) ** 2 * square + float((np.maximum(price + met, 0.0) + blur).sum())


def best_share(coef: np.ndarray, v: np.ndarray, square: float, l2: float) -> float:
    """The a that minimises (1 - a)^2 q + sum_j (a v_j w_j + l2 w_j^2 + a^2 v_j^2 / (4 l2)), between 0 and 1."""
    bend = 2 * square + float(v @ v) / (2 * l2)
    return min(max((2 * square - float(v @ coef)) / bend, 0.0), 1.0) if bend > 0 else 1.0


def conjugate_bound(coef: np.ndarray, slopes: np.ndarray, hidden: np.ndarray, l1: float, l2: float) -> np.ndarray:
    """sum_j (l1 |w_j| + v_j w_j + l2 w_j^2 + max(|v_j| - l1, 0)^2 / (4 l2)) of each v, off by no more than `hidden`.

    A term is convex in v, so it is largest at an end of the interval that v_j lies in. With p = -v sign(w), where
    p >= l1 it is (p - l1 - 2 l2 |w|)^2 / (4 l2), which cancels nothing.
    """
    magnitude = np.abs(coef)
    along = slopes * np.where(coef < 0, 1.0, -1.0)
    p = np.stack([along - hidden, along + hidden])
    beyond = (p - l1 - 2 * l2 * magnitude) ** 2 / (4 * l2)
    short = (l1 - p) * magnitude + l2 * magnitude**2 + np.maximum(-l1 - p, 0.0) ** 2 / (4 * l2)
    bounds: np.ndarray = np.where(p >= l1, beyond, short).max(axis=0).sum(axis=-1)
    return bounds


def pass_in_double(objective: MSE, w: np.ndarray) -> tuple[float, np.ndarray]:
    """F and its gradient, without l1, with every product and sum in double, whatever X is.

    A bound that allows for the rounding of float32 sums would be no better than those.
    """
    d = objective.n_features
    coef, b = w[:d], float(w[d]) if len(w) > d else 0.0
    add: Any = _sparse.add_sums if isinstance(objective.X, CSR) else _mse.add_sums

    def add_in_double(rows: RowBlock | SparseBlock, sums_out: np.ndarray) -> None:
        for part in in_double(rows):
            add(part, coef, b, sums_out)

    sums = sum_blocks(objective.blocks, add_in_double, d + 2, objective.n_threads)  # s r^2, s r and s r x
    grad = np.append(sums[2:], sums[1])[: len(w)] * (2 / objective.total_weight)
    grad[:d] += 2 * objective.l2 * coef
    return float(sums[0] / objective.total_weight + objective.l2 * (coef @ coef)), grad


def in_double(rows: RowBlock | SparseBlock) -> Iterator[RowBlock | SparseBlock]:
    """Rows with their numbers converted, a few at a time."""
    if isinstance(rows, SparseBlock):
        for start, stop in rows.X.cuts(PANEL):
            few = rows.part(start, stop)
            X = CSR(few.X.data.astype(np.float64), few.X.indices, few.X.indptr, few.X.shape[1], few.X.ascending)
            yield SparseBlock(X, few.y, few.s)
    else:
        step = max(256, PANEL // rows.X.shape[1])
        for start in range(0, len(rows), step):
            part = rows.part(start, min(start + step, len(rows)))
            yield RowBlock(part.X.astype(np.float64, order="C"), part.y, part.s)
