"""The exact solution from second moments, refined by exact residuals.

One pass forms the Gram matrix G of [X, y, 1]; the normal equations are solved in columns scaled to unit length; a
further pass takes the true gradient at the solution, which certifies it and, where it still says so, corrects it
(iterative refinement; Bjoerck, Numerical Methods for Least Squares Problems, 1996, section 6.6.5).

Squares hold an angle between columns to half its digits: directions below some 1e-7 are lost in the rounding of R.
Where the gradient has a part in these, or corrections do not settle, one more pass forms the Gram matrix of Z = X W, in
which W takes the columns to such that R would have as orthonormal ones. What rounding had covered is now as large as
the rest, or it is not there: "Cholesky QR twice", with eigenvectors (Fukaya et al., Shifted Cholesky QR for Computing
the QR Factorization of Ill-Conditioned Matrices, SIAM J. Sci. Comput. 42, 2020).

Of many float32 rows G is summed in float32 lanes first, in half the time. Its rounding moves the eigenvalues of the
scaled matrix R by up to `blur`. Where that is more than BLURRED, a small share, of the smallest, or R cannot be
factored, nothing is concluded from it: G is summed again in double. Otherwise refinement gains a factor of 1/BLURRED or
more from each pass, and bounds derived from R are widened by what the blur may hide. Of wide float64 rows, too, where
products and not memory bound the time: those of columns at unit deviation, of which CLEAR is asked instead.

Where float32 rows are so far from zero that the rounding of a pass counts, passes are made in double, about the shift.

Where the rows are so few that Python's own time is most of a fit's, `_exact` does the same in one call.
"""

from __future__ import annotations

import copy
import math
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastgd import _exact, _moments, _sparse
from fastgd._csr import CSR
from fastgd._rows import RowBlock
from fastgd._spectrum import largest_eigenvalue
from fastgd.objective import MSE, ROUNDING, TINIEST_SQUARE, TINIEST_SQUARES, SecondMoments
from fastgd.solvers import _dual
from fastgd.solvers._certificate import CONSTANT, EXCESS, FAR, HIDDEN, Geometry
from fastgd.solvers._costs import clear
from fastgd.solvers._dual import in_dtype, with_intercept
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._monitor import Monitor

__all__ = ["USES", "NormalEquations", "solve"]

#: Options of `fit` that it has a use for.
USES: frozenset[str] = frozenset()
#: Rows from which on, and so many for each column, float32 data is first summed in float32: rounding errors of
#: different tiles then average out, and the time of a pass counts.
NARROW_ROWS = 4096
NARROW_ROWS_PER_COLUMN = 2
#: Of the smallest eigenvalue, what the rounding of the moments may change.
BLURRED = 1 / 32
#: The same where X is float64 and its columns were multiplied in float32: refinement is to reach the digits of float64.
CLEAR = 1e-3
#: Rows that are then multiplied and rounded at once, and rows that show the columns' deviations.
CLEAR_PANEL = 2048
CLEAR_PIECE = 128
SAMPLE = 256
#: Corrections by an exact residual, at most; of nearly collinear columns so many before the moments are sharpened.
MAX_REFINEMENTS = 2
CLEAR_REFINEMENTS = 4
DELICATE_REFINEMENTS = 1
#: Of nearly collinear columns, what a correction may still gain of the loss and is not made for.
SETTLED = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-9}
#: Of predictions, the share by which a correction must change them to be made.
MOVED = {np.dtype(np.float32): 4 * float(np.finfo(np.float32).eps), np.dtype(np.float64): 1e-12}
#: Columns and bytes of X up to which all is done in one compiled call.
AT_ONCE_COLUMNS = 64
AT_ONCE_BYTES = 1 << 21
#: Rows of the Gram matrix that are centred at once.
STRIP = 128
#: Rows of X that are turned at once for sharpened moments.
PANEL_ROWS = 1024

#: Why a fit ended that did as it should.
SOLVED = "solved exactly from the second moments"

FLOAT64 = np.dtype(np.float64)
EPS = float(np.finfo(np.float64).eps)


class NormalEquations:
    """The centred, scaled normal equations of a set of moments, factored.

    Columns are scaled to unit length: R = D C D + S l2 D^2, with C the (centred) second moments of X, S the sum of the
    weights and D the inverse column lengths. R is factored by Cholesky, or, where it is singular to working precision,
    by its eigenvectors, of which the negligible ones are left out.

    Parameters
    ----------
    moments : SecondMoments
    fit_intercept : bool
    l2 : float
    dtype : dtype
        In which passes over the data compute.
    """

    def __init__(
        self, moments: SecondMoments, *, fit_intercept: bool, l2: float, dtype: np.dtype = FLOAT64
    ) -> None:
        d = moments.n_features
        self.fit_intercept, self.l2, self.dtype = fit_intercept, l2, dtype
        self.aim_at(moments)
        gram, weight = self.about_origin(moments), self.geometry.weight
        self.scale = self.geometry.inverse_lengths
        matrix = gram[:d, :d] * self.scale
        matrix *= self.scale[:, None]
        if fit_intercept:
            sums = self.scale * gram[-1, :d]
            for start in range(0, d, STRIP):
                strip = slice(start, start + STRIP)
                matrix[strip] -= np.multiply.outer(sums[strip], sums / weight)
        diagonal = matrix.reshape(-1)[:: d + 1]
        if l2:
            diagonal += weight * l2 * self.scale**2
        if not self.scale.all():
            diagonal += self.scale == 0     # constant columns stand alone, with coefficient 0
        self.rounding = moments.rounding if moments.rounding > ROUNDING[FLOAT64] else 0.0
        self.sharp = False
        self.factor(matrix, moments)

    def about_origin(self, moments: SecondMoments) -> np.ndarray:
        """The Gram matrix about a shift if an intercept is fitted, which takes it up, else about zero."""
        return moments.gram if self.fit_intercept else moments.about(np.zeros(moments.n_features + 1))

    def aim_at(self, moments: SecondMoments) -> None:
        """Take the targets of these moments, whose columns are those of the factor."""
        self.geometry = geometry_of(moments, fit_intercept=self.fit_intercept, l2=self.l2, dtype=self.dtype)
        gram = self.about_origin(moments)
        products = gram[-2, :-2]
        if self.fit_intercept:
            products = products - gram[-1, :-2] * (gram[-1, -2] / self.geometry.weight)
        self.right_side = self.geometry.inverse_lengths * products

    def of_target(self, moments: SecondMoments) -> NormalEquations:
        """The same columns with the targets of these moments: shares the factor."""
        other = copy.copy(self)
        other.aim_at(moments)
        # Products with targets that are less exact than the columns' own leave no bound.
        other.bounds = self.bounds and moments.rounding <= max(self.rounding, ROUNDING[FLOAT64])
        return other

    def factor(self, matrix: np.ndarray, moments: SecondMoments) -> None:
        """Factor R by Cholesky, if it is regular to working precision.

        The rounding of the moments adds up to `blur` to R, in norm: an entry is off by `rounding` times the lengths of
        its columns about the shift, and errors of independent signs in d x d entries have a norm of about sqrt(d)
        times one of them. It is 0 where the rounding is that of float64, which R's own is.
        """
        d = len(matrix)
        self.lower: np.ndarray | None = None
        self.trusted = False    # whether R^-1 has correct digits to bound a gap by
        self.bounds = True      # and whether the right side has
        self.least = 0.0        # a lower bound of R's smallest eigenvalue, estimated where R is blurred
        self.blur = self.rounding * math.sqrt(d) * self.longest(moments) ** 2 if self.rounding > 0 else 0.0
        self.matrix = matrix
        try:
            lower = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return
        pivot = float(lower.diagonal().min()) ** 2
        if not pivot > max(nothing(d), self.blur):
            return
        self.lower = lower
        self.trusted = pivot > 1000 * math.sqrt(d) * EPS
        if self.blur > 0:
            # The Lanczos process comes near the largest eigenvalue of R^-1 from below: half of it is left for that.
            inverse = largest_eigenvalue(lambda v, out: np.copyto(out, self.solve_scaled(v)), d, rtol=0.1)
            share = CLEAR if self.dtype == FLOAT64 else BLURRED
            self.trusted = self.trusted and bool(self.blur <= share / (2 * inverse))
            self.least = 1 / (2 * inverse) - self.blur

    def longest(self, moments: SecondMoments) -> float:
        """The largest ratio of the length of a column about the shift to that about its mean, or about zero."""
        squares, lengths = np.diagonal(moments.gram)[:-2], self.geometry.lengths
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.max(np.sqrt(squares) / lengths, where=squares > 0, initial=1.0))

    @property
    def max_refinements(self) -> int:
        """Corrections that may be needed."""
        return CLEAR_REFINEMENTS if self.blur > 0 and self.dtype == FLOAT64 else MAX_REFINEMENTS

    @property
    def delicate(self) -> bool:
        """Whether R could be factored, but its inverse has few correct digits."""
        return self.lower is not None and not self.trusted

    @property
    def blurred(self) -> bool:
        """Whether the rounding of the moments hides what R is."""
        return self.blur > 0 and not self.trusted

    @cached_property
    def eigen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of R, and the eigenvectors of what are zeros but for rounding.

        Of sharpened equations: values, and vectors that are not orthonormal, of which R^-1 is the sum in the same way.
        """
        values, vectors = np.linalg.eigh(self.matrix)
        kept = values > max(nothing(len(values)), self.blur) * values[-1]
        return values[kept], vectors[:, kept], vectors[:, ~kept]

    def sharpen(self, objective: MSE) -> None:
        """Resolve what the rounding of R covers, in one pass over X: eigenvectors of the Gram matrix of Z = X W.

        W = D V max(E, floor)^-1/2 of the eigenvectors V and eigenvalues E of R, so Z'Z (and the penalty in the same
        coordinates, S l2 W'W) is the identity but for what rounding covered. What is zero in it but for rounding, too,
        is zero.
        """
        values, vectors = np.linalg.eigh(self.matrix)
        floor = nothing(len(values)) * values[-1]
        vectors /= np.sqrt(np.maximum(values, floor))
        turned = self.scale[:, None] * vectors
        gram = gram_of_turned(objective, self.geometry.means, turned)
        if self.fit_intercept:
            gram -= np.multiply.outer(gram[-1], gram[-1] / self.geometry.weight)
        matrix = gram[:-1, :-1]
        if self.l2:
            matrix += (self.geometry.weight * self.l2) * (turned.T @ turned)
        values, rotation = np.linalg.eigh(matrix)
        vectors = vectors @ rotation
        kept = values > np.maximum(self.resolution(vectors) ** 2, nothing(len(values)) * values[-1])
        self.eigen = values[kept], vectors[:, kept], vectors[:, ~kept]
        self.lower, self.sharp = None, True
        self.trusted = bool(kept.all() and values[0] > 1000 * math.sqrt(len(values)) * EPS)

    def resolution(self, vectors: np.ndarray) -> np.ndarray:
        """How long X D v is of rounding alone, that of X itself included."""
        return 8 * EPS * np.sqrt(np.square((self.geometry.raw_lengths * self.scale)[:, None] * vectors).sum(axis=0))

    def hides(self, grad: np.ndarray, loss: float, noise: float) -> bool:
        """Whether the gradient has a part among the directions left out as zeros, beyond the level of its rounding."""
        if self.lower is not None or self.sharp or not noise > 0:
            return False
        slope = self.scale * self.geometry.split(grad)[0] * (math.sqrt(self.geometry.weight / loss) / 2)
        left_out = self.eigen[2].T @ slope
        return bool(math.sqrt(left_out @ left_out) > noise)

    def solve_scaled(self, right_side: np.ndarray) -> np.ndarray:
        """R^-1 times a vector; the pseudo-inverse where R is singular."""
        if self.lower is not None:
            x = right_side.copy()
            _moments.solve_cholesky(self.lower, x)
            return x
        values, vectors, _ = self.eigen
        return vectors @ ((vectors.T @ right_side) / values)

    def shortest(self, coef: np.ndarray) -> np.ndarray:
        """The shortest of the vectors of coefficients that predict what `coef` predicts."""
        if self.lower is not None or not self.eigen[2].shape[1]:
            return coef
        basis, _ = np.linalg.qr(self.scale[:, None] * self.eigen[2])
        return coef - basis @ (basis.T @ coef)

    def solution(self) -> np.ndarray:
        """The coefficients, in the units of X and y."""
        return self.shortest(self.scale * self.solve_scaled(self.right_side))

    def intercept(self, coef: np.ndarray) -> float:
        """The best intercept for these coefficients."""
        return self.geometry.y_mean - float(self.geometry.means @ coef)

    def moved_by(self, step: np.ndarray, coef: np.ndarray, dtype: np.dtype) -> bool:
        """Whether a step changes predictions by more than rounding the coefficients does."""
        step, coef = self.geometry.lengths * step, self.geometry.lengths * coef
        return bool(math.sqrt(step @ step) > MOVED[dtype] * math.sqrt(coef @ coef))

    def gap_bound(self, gain: float, loss: float, moments: SecondMoments, w: np.ndarray) -> float:
        """What F(w) - F* cannot exceed, if `gain` is what a Newton step would gain by the gradient of the moments.

        That and the rounding of F. NaN where R is so nearly singular that its inverse means little. Where the rounding
        of the moments blurs R, its eigenvalues may be smaller by that share; and it hides a gradient of some length,
        which a pass over float64 rows does not.
        """
        if not (self.trusted and self.bounds):
            return math.nan
        if self.blur > 0:
            terms = np.sqrt(np.diagonal(moments.gram)) @ np.abs(residual_direction(moments.shift, w))
            hidden = 0.0 if self.dtype == FLOAT64 else self.rounding * np.sqrt(len(w)) * self.longest(moments) * terms
            step = np.sqrt(gain * self.geometry.weight / (1 - BLURRED)) + hidden / np.sqrt(self.least)
            gain = step * step / self.geometry.weight
        return float(gain + 4 * EPS * loss)

    def correction(self, grad: np.ndarray) -> tuple[np.ndarray, float, float]:
        """The Newton step for a gradient of F, and what it gains: F(w) - F* = half the gradient times the step.

        The step is that of the coefficients and that of the intercept that goes with centred columns.
        """
        slope, intercept = self.geometry.split(grad)
        scaled = self.scale * slope * (self.geometry.weight / 2)
        step = self.solve_scaled(scaled)
        gain = float(scaled @ step) / self.geometry.weight + intercept * intercept / 4
        return -self.scale * step, -intercept / 2, gain


def geometry_of(
    moments: SecondMoments, *, fit_intercept: bool, l2: float, dtype: np.dtype, l1: float = 0.0
) -> Geometry:
    """Lengths and means of the columns, without a pass."""
    gram = moments.gram
    return Geometry(moments.shift, gram[-1], gram.diagonal(), fit_intercept=fit_intercept, l2=l2, dtype=dtype, l1=l1)


def nothing(d: int) -> float:
    """What a pivot or an eigenvalue of nothing may be after rounding: of factoring, and of sums over millions of rows.

    Pivots of a column's multiple were half of this and less, of 50 rows to a million.
    """
    return 10 * (d + 8) * EPS


def gram_of_turned(objective: MSE, means: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """The Gram matrix of [Z, 1], weighted, with Z = (X - means) turned, in double and in one pass over X."""
    doors: Any = _sparse if isinstance(objective.X, CSR) else _moments
    d, order = turned.shape[0], turned.shape[1] + 1
    shift = np.append(means, 0.0)
    gram = np.zeros((order, order))
    panel = np.empty((min(PANEL_ROWS, len(objective.X)), d + 2))
    image = np.empty((len(panel), order))
    for block in objective.blocks:
        for rows in block.pieces():
            for start in range(0, len(rows), len(panel)):
                part, z = panel[: len(rows) - start], image[: len(rows) - start]
                doors.fill_panel(rows, start, shift, part)
                np.matmul(part[:, :d], turned, out=z[:, :-1])
                z[:, -1] = part[:, -1]
                gram += z.T @ z
    return gram


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Solve from the moments, then take one exact pass for the certificate and as many as it asks for to refine."""
    if len(objective.X) <= objective.n_features:
        return _dual.solve(objective, options, monitor)
    known = None
    if is_short(objective):
        known = gathered(objective, FLOAT64)
        monitor.extra_passes += 1
        outcome = solve_at_once(known, objective, options, monitor)
        if outcome is not None:
            return outcome
    shared = options.shared
    if shared is not None and "equations" in shared:
        moments = with_targets_of(objective, shared["moments"]) if known is None else known
        equations = shared["equations"].of_target(moments)
    else:
        moments, equations = normal_equations(objective, monitor, known)
        if shared is not None:
            shared.update(moments=moments, equations=equations)
    return solve_from(moments, equations, objective, options, monitor)


def is_short(objective: MSE) -> bool:
    """Whether X is a single native block of few columns, and not to be summed in float32 first."""
    X, blocks = objective.X, objective.blocks
    return (
        objective.n_features <= AT_ONCE_COLUMNS
        and len(blocks) == 1
        and isinstance(blocks[0], RowBlock)
        and X.nbytes <= AT_ONCE_BYTES
        and (objective.dtype == FLOAT64 or len(X) < NARROW_ROWS)
    )


def solve_at_once(moments: SecondMoments, objective: MSE, options: Options, monitor: Monitor) -> Outcome | None:
    """`solve_from` in one compiled call, where all is regular; None where it is not, as `_exact` tells."""
    dtype, d = objective.dtype, objective.n_features
    excess = math.sqrt(EXCESS[dtype] / (d + 1))
    limits = CONSTANT, FAR, SETTLED[dtype], MOVED[dtype], 1000 * math.sqrt(d) * EPS, excess, HIDDEN, MAX_REFINEMENTS
    block: Any = objective.blocks[0]
    found = _exact.solve(
        block, moments.shift, moments.gram, options.w0, objective.fit_intercept, objective.l2, limits
    )
    if found is None:
        return None
    monitor.extra_passes += len(found[0]) - 1
    if not monitor.plain:
        monitor.geometry = geometry_of(moments, fit_intercept=objective.fit_intercept, l2=objective.l2, dtype=dtype)
    for w, figures in zip(found[0], found[1].tolist(), strict=True):
        loss, grad_norm, optimality, noise, bound = figures
        reason = monitor.take(w, loss, grad_norm, optimality, noise)
        if reason:
            break
    monitor.judge()
    return monitor.outcome(w, loss, reason or SOLVED, gap_bound=bound)


def normal_equations(
    objective: MSE, monitor: Monitor, known: SecondMoments | None
) -> tuple[SecondMoments, NormalEquations]:
    """Moments of the objective's data and the equations they give: by float32 sums first, if there is much to sum.

    `known` are moments that were summed in double before.
    """
    n, d = len(objective.X), objective.n_features
    given: dict[str, Any] = {"fit_intercept": objective.fit_intercept, "l2": objective.l2, "dtype": objective.dtype}
    if known is not None:
        return known, NormalEquations(known, **given)
    moments = None
    if objective.dtype != FLOAT64:
        if n >= max(NARROW_ROWS, NARROW_ROWS_PER_COLUMN * d):
            moments = gathered(objective, None)
    elif clear(objective):
        moments = moments_in_float32(objective)
    if moments is not None:
        monitor.extra_passes += 1
        equations = NormalEquations(moments, **given)
        if not equations.blurred:
            return moments, equations
    monitor.extra_passes += 1
    moments = gathered(objective, FLOAT64)
    return moments, NormalEquations(moments, **given)


def gathered(objective: MSE, dtype: np.dtype | None) -> SecondMoments:
    """The moments of the objective's data, summed in this dtype; a single block has no use for threads."""
    n_threads = objective.n_threads if len(objective.blocks) > 1 else 1
    moments = SecondMoments(objective.n_features, n_threads, dtype=dtype)
    if objective.sample_weight is not None and is_short(objective):
        weights, in_double = objective.sample_weight, dtype is not None
        found = _moments.short_gram(
            objective.X, objective.y, objective.n_features, None, in_double, TINIEST_SQUARES, weights
        )
        if found is not None:
            moments.add(*found)
            return moments
    return moments.update(objective.X, objective.y, objective.sample_weight)


def moments_in_float32(objective: MSE) -> SecondMoments | None:
    """Moments of float64 rows: products of columns in float32, those with the targets in double; None if they overflow.

    Columns are centred and divided by their deviations, as far as some rows show, before they are rounded.
    """
    X: Any = objective.X
    d = objective.n_features
    sample = X[:: max(1, len(X) // SAMPLE)].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # looked at below
        shift, deviations = np.append(sample.mean(axis=0), float(objective.y[0])), sample.std(axis=0)
        deviations[~(deviations > 0)] = 1.0
        if not (np.isfinite(deviations).all() and np.isfinite(shift).all()):
            return None
        gram = gram_of_rounded(objective, shift, deviations)
        gram[:d, :d] *= deviations
        gram[:d, :d] *= deviations[:, None]
    if not np.isfinite(gram).all() or gram.diagonal().min() < TINIEST_SQUARE * len(X):
        return None
    moments = SecondMoments(d, objective.n_threads)
    moments.shift, moments.gram, moments.n_samples = shift, gram, len(X)
    moments.rounding = ROUNDING[np.dtype(np.float32)]
    return moments


def gram_of_rounded(objective: MSE, shift: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """The Gram matrix of [(X - shift) / deviations, y - shift, 1], that of the columns of X summed in float32."""
    d = objective.n_features
    gram = np.zeros((d + 2, d + 2))
    units = np.append(1.0 / deviations, [1.0, 1.0])
    piece, product = np.empty((CLEAR_PIECE, d + 2)), np.empty((d, d), np.float32)
    panel, filled = np.empty((CLEAR_PANEL, d), np.float32), 0
    pieces: list[Any] = [rows for block in objective.blocks for rows in block.pieces()]
    for rows in pieces:
        for start in range(0, len(rows), CLEAR_PIECE):
            part = piece[: len(rows) - start]
            _moments.fill_panel(rows, start, shift, part)
            gram[d:] += part[:, d:].T @ part
            if filled + len(part) > CLEAR_PANEL:
                gram[:d, :d] += np.matmul(panel[:filled].T, panel[:filled], out=product)
                filled = 0
            part *= units
            panel[filled : filled + len(part)] = part[:, :d]
            filled += len(part)
    gram[:d, :d] += np.matmul(panel[:filled].T, panel[:filled], out=product)
    gram[:d, d:] = gram[d:, :d].T
    return gram


def with_targets_of(objective: MSE, moments: SecondMoments) -> SecondMoments:
    """Moments of the same columns and weights with this objective's targets, in one pass over X.

    At w = 0 and the mean of y as intercept, the gradient is the products of the columns and the centred targets.
    """
    d, weight = objective.n_features, moments.weight
    y = np.asarray(objective.y, np.float64)
    total = float(y.sum() if objective.sample_weight is None else objective.sample_weight @ y)
    w = np.zeros(d + objective.fit_intercept)
    mean = total / weight if objective.fit_intercept else 0.0
    w[d:] = mean
    loss, grad = objective.value_and_grad(w, out=np.empty(len(w)))
    grad *= -weight / 2
    total = float(grad[d]) if objective.fit_intercept else total
    other = copy.copy(moments)
    other.shift = np.append(moments.shift[:d], mean)
    other.gram = moments.gram.copy()
    other.gram[d, :d] = other.gram[:d, d] = grad[:d] - moments.shift[:d] * total
    other.gram[d, d] = loss * weight
    other.gram[d, d + 1] = other.gram[d + 1, d] = total
    other.rounding = max(moments.rounding, ROUNDING[objective.dtype])
    return other


def pass_in_double(objective: MSE, w: np.ndarray, shift: np.ndarray) -> tuple[float, np.ndarray]:
    """F(w) and its gradient in one pass over float32 X, in double and about the shift, which takes the means away."""
    doors: Any = _sparse if isinstance(objective.X, CSR) else _moments
    d, v = objective.n_features, residual_direction(shift, w)
    panel = np.empty((min(PANEL_ROWS, len(objective.X)), d + 2))
    total, image = 0.0, np.zeros(d + 2)
    for block in objective.blocks:
        for rows in block.pieces():
            for start in range(0, len(rows), len(panel)):
                part = panel[: len(rows) - start]
                doors.fill_panel(rows, start, shift, part)
                residual = part @ v
                total += float(residual @ residual)
                image += residual @ part
    grad = gradient_of(image, shift, w, objective.total_weight, objective.fit_intercept, objective.l2)
    return total / objective.total_weight + objective.l2 * float(w[:d] @ w[:d]), grad


class Point(NamedTuple):
    """Parameters, F and its gradient there, and what a correction gains by the equations at hand."""

    w: np.ndarray
    loss: float
    grad: np.ndarray
    gain: float


def solve_from(
    moments: SecondMoments, equations: NormalEquations, objective: MSE, options: Options, monitor: Monitor
) -> Outcome:
    """`solve`, with the moments of the objective's data at hand."""
    fit_intercept = objective.fit_intercept
    monitor.geometry = equations.geometry
    if equations.blur > 0 and objective.dtype == FLOAT64 and options.w0.any():  # the start may be near the optimum
        at_start = objective.value_and_grad(options.w0, out=np.empty(len(options.w0)))
    else:
        at_start = loss_and_grad(moments, options.w0, fit_intercept, objective.l2)
    point = Point(options.w0, *at_start, math.nan)
    reason = monitor.note(*point[:3])
    coef, offset, refinements = in_dtype(equations.solution(), objective), 0.0, 0
    while not reason:
        w = with_intercept(coef, equations.intercept(coef) + offset) if fit_intercept else coef
        loss, grad = look(w, moments, objective, equations.geometry, monitor)
        reason = monitor.note(w, loss, grad)
        step, shift, gain = equations.correction(grad)
        point = Point(w, loss, grad, gain)
        if needs_sharpening(equations, point, monitor.noise, refinements):
            equations.sharpen(objective)
            monitor.extra_passes += 1
            step, shift, gain = equations.correction(grad)
            point, refinements = Point(w, loss, grad, gain), 0
        if reason or refinements == equations.max_refinements or is_settled(equations, objective, point, monitor.noise):
            break
        if not equations.moved_by(step, coef, objective.dtype):
            break
        coef = in_dtype(equations.shortest(coef + step), objective)
        offset += shift
        refinements += 1
    return concluded(equations, moments, objective, monitor, point, reason)


def look(
    w: np.ndarray, moments: SecondMoments, objective: MSE, geometry: Geometry, monitor: Monitor
) -> tuple[float, np.ndarray]:
    """F(w) and its gradient by a pass; once float32 hides a part of the loss, by passes in double."""
    if not geometry.in_double:
        loss, grad = objective.value_and_grad(w, out=np.empty(len(w)))
        if not geometry.is_rough(w, loss, len(objective.X)):
            return loss, grad
        geometry.know_double()
    monitor.extra_passes += 1
    return pass_in_double(objective, w, moments.shift)


def promising(equations: NormalEquations, point: Point, noise: float) -> bool:
    """Whether a correction would gain more than rounding does, unless the residual itself is of rounding."""
    return noise > 0 and point.gain > SETTLED[equations.dtype] * point.loss


def needs_sharpening(equations: NormalEquations, point: Point, noise: float, refinements: int) -> bool:
    """Whether R does not hold what the gradient asks for: among the directions left out, or after a correction."""
    if equations.sharp:
        return False
    if equations.delicate:
        return refinements >= DELICATE_REFINEMENTS and promising(equations, point, noise)
    return equations.hides(point.grad, point.loss, noise)


def is_settled(equations: NormalEquations, objective: MSE, point: Point, noise: float) -> bool:
    """Whether a correction has nothing to gain.

    Errors of a gradient's terms average out; a step that follows them would lose what the moments hold, unless that is
    little: where there is much to gain. The intercept follows from the coefficients, and its own rounding counts not.
    """
    if promising(equations, point, noise):
        return False
    if equations.delicate or equations.sharp:
        return True
    return equations.geometry.cosine(*point[:3]) <= 8 * noise / math.sqrt(len(objective.X))


def concluded(
    equations: NormalEquations, moments: SecondMoments, objective: MSE, monitor: Monitor, point: Point, reason: str
) -> Outcome:
    """The outcome at the last iterate: `reason` is why somebody else ended the fit, if so."""
    w, loss, grad, gain = point
    monitor.judge()
    if not reason:
        reason = SOLVED
        if (equations.delicate or equations.sharp) and promising(equations, point, monitor.noise):
            monitor.converged = False
            reason = "the columns are nearly collinear, and refinement has not settled"
    if objective.dtype != FLOAT64 and not equations.geometry.in_double:
        # The moments know the gradient to more digits than a pass.
        gain = equations.correction(loss_and_grad(moments, w, objective.fit_intercept, objective.l2)[1])[2]
    bound = equations.gap_bound(gain, loss, moments, w)
    return monitor.outcome(w, loss, reason, grad=grad if math.isnan(bound) else None, gap_bound=bound)


def residual_direction(shift: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The v of which v.((x, y, 1) - (shift, 0)) is the residual of a row (x, y)."""
    d = len(shift) - 1
    v = np.empty(d + 2)
    v[:d] = w[:d]
    v[d] = -1.0
    v[d + 1] = shift[:d] @ w[:d] - shift[d]
    if len(w) > d:
        v[d + 1] += w[d]
    return v


def loss_and_grad(
    moments: SecondMoments, w: np.ndarray, fit_intercept: bool, l2: float
) -> tuple[float, np.ndarray]:
    """F(w) and its gradient without a pass: quadratic forms of the Gram matrix of (x, y, 1) - (shift, 0)."""
    d, weight = moments.n_features, moments.weight
    v = residual_direction(moments.shift, w)
    image = moments.gram @ v
    grad = gradient_of(image, moments.shift, w, weight, fit_intercept, l2)
    return float(v @ image) / weight + l2 * float(w[:d] @ w[:d]), grad


def gradient_of(
    image: np.ndarray, shift: np.ndarray, w: np.ndarray, weight: float, fit_intercept: bool, l2: float
) -> np.ndarray:
    """The gradient of F, given the sums of the residuals times (x, y, 1) - (shift, 0)."""
    d = len(shift) - 1
    grad = np.empty(d + fit_intercept)
    np.multiply(shift[:d], image[-1], out=grad[:d])
    grad[:d] += image[:d]
    grad[d:] = image[-1:]
    grad *= 2 / weight
    if l2:
        grad[:d] += 2 * l2 * w[:d]
    return grad
