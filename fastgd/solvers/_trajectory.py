"""Many steps of gradient descent at once: the same trajectory, in the eigenbasis of the Hessian.

F is quadratic, so in coordinates e along the eigenvectors of its Hessian every component goes its own way. With λ an
eigenvalue, m the momentum and e = p e_0, the update is

    δ <- β δ - lr λ p,    p <- p + δ,        β = m, or m (1 - lr λ) if the gradient is taken ahead (Nesterov),

from p = 1 and δ = 0: a 2 x 2 matrix T for each eigenvalue, and p_k is an entry of T^k. With g_0 = λ e_0 the components
of the first gradient,

    F(w_k) = F* + sum p_k^2 g_0^2 / 2λ,        |grad F(w_k)|^2 = sum p_k^2 g_0^2.

Of k = K b + j the powers T^j and T^Kb are tabulated, and the sums over many k are a product of two matrices: d
multiplications an epoch, where a pass over X takes n d (Goh, Why momentum really works, Distill 2017, has the basis).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastgd.objective import MSE, SecondMoments
from fastgd.solvers._certificate import Geometry
from fastgd.solvers._scaling import Coordinates
from fastgd.solvers.moments import NormalEquations, loss_and_grad

__all__ = ["Landing", "Point", "Spectrum", "Trajectory"]

EPS = float(np.finfo(np.float64).eps)
#: Epochs between tabulated states, and the number of such blocks that are computed together, at most.
BLOCK = 1024
MOST_BLOCKS = 128
#: Entries of the table, if that makes blocks shorter.
TABLE = 1 << 16
#: Relative errors of a loss beyond which the trajectory is left to the passes.
ACCURATE = 1e-10
#: Share of the optimum in the mean square of y (about the moments' shift) below which it is computed by a pass.
DIFFERENCE = 1e-4
#: Components that are this much smaller than the largest are left out, and what is this small is taken for zero.
NEGLIGIBLE, NOTHING = 1e-24, 1e-140
#: Iterates whose optimality is computed together.
BATCH = 4096


class Point(NamedTuple):
    """An iterate: coordinates in a frame and the gradient by them; parameters, loss and the gradient by those."""

    u: np.ndarray
    slope: np.ndarray
    w: np.ndarray
    loss: float
    grad: np.ndarray


class Spectrum:
    """Eigenvalues and eigenvectors of the Hessian, in the columns as they are or in standardised ones.

    Parameters
    ----------
    moments : SecondMoments
    objective : MSE
    standardised : bool

    Attributes
    ----------
    values, vectors : ndarray
        Ascending; negligible eigenvalues are zero.
    blur : ndarray
        By how much rounding may have changed each eigenvalue.
    geometry : Geometry
    """

    def __init__(self, moments: SecondMoments, objective: MSE, *, standardised: bool) -> None:
        self.moments, self.objective = moments, objective
        self.equations = NormalEquations(
            moments, fit_intercept=objective.fit_intercept, l2=objective.l2, dtype=objective.dtype
        )
        self.geometry = self.equations.geometry
        self.coordinates = Coordinates(self.geometry)
        self.standardised = standardised
        self.values, self.vectors, self.blur = self.scaled() if standardised else self.as_they_are()
        self.values[self.values <= 10 * self.blur] = 0.0

    @property
    def largest(self) -> float:
        return float(self.values[-1])

    def as_they_are(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues, eigenvectors and blur of H of the columns as they are.

        With C the second moments about the means m, H = 2/S A'A, where A has the rows of the root of C, sqrt(S) (m, 1)
        and sqrt(S l2) I. Its singular values are off by eps times the largest of them, which where means are large
        leaves twice the digits that the eigenvalues of H itself would have.
        """
        d, weight, fit_intercept = self.moments.n_features, self.geometry.weight, self.objective.fit_intercept
        means = self.moments.means
        centred = self.moments.about(means)[:d, :d]
        squares, axes = np.linalg.eigh(centred)
        sides = np.sqrt(weight) * np.append(means[:d], 1.0)
        ridge = np.sqrt(weight * self.objective.l2) * np.eye(d, d + 1)
        root = np.hstack([np.sqrt(np.maximum(squares, 0.0))[:, None] * axes.T, np.zeros((d, 1))])
        stack = np.vstack([root, sides, ridge])[:, : d + fit_intercept] * np.sqrt(2 / weight)
        _, singular, vectors = np.linalg.svd(stack, full_matrices=False)
        singular = singular[::-1]
        blur = self.rounding * (2 * singular[-1] * singular + 2 * squares[-1] / weight)
        return singular**2, np.ascontiguousarray(vectors[::-1].T), blur

    def scaled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Those of the standardised columns: of twice the matrix of the normal equations, and 2 for the intercept."""
        d = self.moments.n_features
        hessian = 2 * np.eye(d + self.objective.fit_intercept)
        hessian[:d, :d] = 2 * self.equations.matrix
        values, vectors = np.linalg.eigh(hessian)
        return values, vectors, np.full(len(values), self.rounding * values[-1])

    @property
    def rounding(self) -> float:
        """Relative to the whole, of an eigenvalue."""
        return 2 * EPS * float(np.sqrt(self.moments.n_features + 1))

    def optimum(self) -> np.ndarray:
        """The parameters with the least F."""
        coef = self.equations.solution()
        return np.append(coef, self.equations.intercept(coef)) if self.objective.fit_intercept else coef

    def coordinates_of(self, w: np.ndarray) -> np.ndarray:
        """The components of parameters along the eigenvectors."""
        return self.vectors.T @ (self.coordinates.standardised(w) if self.standardised else w)

    def gradient(self, grad: np.ndarray) -> np.ndarray:
        """The components of a gradient along the eigenvectors, given that by w."""
        return self.vectors.T @ (self.coordinates.gradient(grad) if self.standardised else grad)

    def axes(self) -> np.ndarray:
        """The eigenvectors as changes of w, one a row."""
        rows = self.vectors.T
        return np.array([self.coordinates.parameters(row) for row in rows]) if self.standardised else rows

    def gap_bound(self, point: Point) -> float:
        """F - F* <= |grad|^2 / 2λmin, and the rounding of F; NaN where λmin is not known to some digits."""
        least, blur = float(self.values[0]), float(self.blur[0])
        if least <= 1000 * blur:
            return float("nan")
        return float(np.sum(self.gradient(point.grad) ** 2) / (2 * (least - blur))) + 4 * EPS * point.loss


class Landing(NamedTuple):
    """Where a trajectory ended: the iterates before, and w, the change that led to it and the gradient before that."""

    losses: np.ndarray
    norms: np.ndarray
    w: np.ndarray
    change: np.ndarray
    grad_before: np.ndarray


class Trajectory:
    """The iterates of gradient descent with a fixed step and momentum.

    Parameters
    ----------
    spectrum : Spectrum
    w0 : ndarray
    lr, momentum : float
    nesterov : bool
    """

    def __init__(self, spectrum: Spectrum, w0: np.ndarray, lr: float, momentum: float, nesterov: bool) -> None:
        objective, self.spectrum, self.lr = spectrum.objective, spectrum, lr
        self.start = self.w0 = w0
        if spectrum.standardised:  # constant columns go to the intercept
            self.start = spectrum.coordinates.parameters(spectrum.coordinates.standardised(w0))
        penalties = objective.fit_intercept, objective.l2
        self.kept = spectrum.values > 0
        best = spectrum.optimum()
        self.optimum = loss_and_grad(spectrum.moments, best, *penalties)[0]
        if self.optimum < self.smallest_difference():
            self.look_at_the_optimum(best)
        self.offsets = np.where(self.kept, spectrum.coordinates_of(w0) - spectrum.coordinates_of(best), 0.0)
        self.first_loss, grad = loss_and_grad(spectrum.moments, w0, *penalties)
        self.first_norm = float(np.linalg.norm(grad))
        self.slopes = np.where(self.kept, spectrum.values * self.offsets, spectrum.gradient(grad))
        self.axes = spectrum.axes()
        pull = lr * spectrum.values
        ahead = momentum * (1 - pull) if nesterov else np.full_like(pull, momentum)
        self.momentum = momentum
        self.step = np.array([[1 - pull, ahead], [-pull, ahead]])

    def look_at_the_optimum(self, best: np.ndarray) -> None:
        """Take F* from a pass at the optimum, less what its gradient there says is still to gain."""
        grad = np.empty(len(best))
        loss, _ = self.spectrum.objective.value_and_grad(best, out=grad)
        gain = self.spectrum.gradient(grad)[self.kept] ** 2 / self.spectrum.values[self.kept]
        self.optimum = max(loss - float(gain.sum()) / 2, 0.0)

    def accurate(self, max_iter: int) -> bool:
        """Whether the losses have nine digits, as far as some of the iterates show.

        At those, loss and gradient by the moments themselves must be what the eigenvalues say. A gradient that is off
        by δ moves the component e by δ / λ at most, and the loss by e δ. Where the loss is so small that the moments do
        not know it, the eigenvalues must be good; and components whose eigenvalues are lost must have nothing to do.
        """
        blur, values, kept = self.spectrum.blur, self.spectrum.values, self.kept
        lost = self.slopes[~kept]
        if len(lost) and max_iter * self.lr * float(lost @ lost) > ACCURATE * self.optimum:
            return False
        objective, known = self.spectrum.objective, self.smallest_difference()
        for k in (0, *(8**i for i in range(20) if 8**i < max_iter), max_iter):
            factors = power(self.step, k)[0, 0]
            loss = self.optimum + float(self.slopes @ (self.offsets * factors**2)) / 2
            if loss < known:
                return bool((blur[kept] <= ACCURATE * values[kept]).all())
            w = self.iterates(factors[None])[0]
            value, grad = loss_and_grad(self.spectrum.moments, w, objective.fit_intercept, objective.l2)
            off = self.spectrum.gradient(grad) - self.slopes * factors
            if abs(value - loss) + float(np.abs(self.offsets * factors) @ np.abs(off)) > ACCURATE * loss:
                return False
        return True

    def smallest_difference(self) -> float:
        """The smallest loss that is known to ten digits as a difference of moments."""
        moments = self.spectrum.moments
        return DIFFERENCE * float(moments.gram[-2, -2]) / moments.weight

    def run(self, max_iter: int, tol: float) -> Landing:
        """Go on to `max_iter`, or to the first iterate that meets the tolerance."""
        losses, norms, last = [], [], max_iter
        for chunk in self.chunks(max_iter):
            loss, square = self.sums(chunk)
            losses.append(loss)
            norms.append(self.norms(chunk) if self.spectrum.standardised else np.sqrt(square))
            found = self.first_to_meet(tol, chunk, loss, square) if tol > 0 else None
            if found is not None:
                last = chunk.start + found
                break
        losses[0][0], norms[0][0] = self.first_loss, self.first_norm  # a penalty on constant columns is in these alone
        before, here = (power(self.step, k)[0, 0] for k in (max(last - 1, 0), last))
        return Landing(
            losses=np.concatenate(losses)[: last + 1],
            norms=np.concatenate(norms)[: last + 1],
            w=self.iterates(here[None])[0] if last else self.w0,
            change=self.spectrum.vectors @ (self.offsets * (here - before)),
            grad_before=self.spectrum.vectors @ (self.slopes * before),
        )

    def chunks(self, max_iter: int) -> Iterator[Chunk]:
        """The iterates 0 to max_iter in chunks, each twice as long as the one before, up to a limit."""
        length = max(32, min(BLOCK, max_iter + 1, TABLE // len(self.slopes)))
        table = powers(self.step, length)
        jumps = powers(table[:, :, -1], min(MOST_BLOCKS, -(-(max_iter + 1) // length)))
        state, start, blocks = np.array([np.ones_like(self.slopes), np.zeros_like(self.slopes)]), 0, 1
        while start <= max_iter:
            blocks = min(blocks, jumps.shape[2] - 1)
            states = np.einsum("ijkd,jd->ikd", jumps[:, :, : blocks + 1], state)
            states[np.abs(states) < NOTHING] = 0.0
            size = np.abs(self.slopes) * np.abs(state).sum(axis=0)
            kept = np.flatnonzero((size > NEGLIGIBLE * size.max()) & self.kept)
            yield Chunk(start, min(blocks * length, max_iter + 1 - start), states[:, :-1], table[0, :, :-1], kept)
            state, start, blocks = states[:, -1], start + blocks * length, 2 * blocks

    def sums(self, chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
        """The losses of a chunk, and the squares of the gradients in the coordinates of the spectrum."""
        (p, change), (of_p, of_change) = chunk.states[:, :, chunk.kept], chunk.table[:, :, chunk.kept]
        slopes, offsets = self.slopes[chunk.kept], self.offsets[chunk.kept]
        starts, within = [p * p], [of_p * of_p]
        if self.momentum > 0:
            starts += [p * change, change * change]
            within += [2 * of_p * of_change, of_change * of_change]
        powers_within = np.hstack(within).T
        sums = [
            (np.hstack([weights * start for start in starts]) @ powers_within).ravel()[: chunk.length]
            for weights in (slopes * offsets / 2, slopes * slopes)
        ]
        return self.optimum + np.maximum(sums[0], 0.0), np.maximum(sums[1], 0.0)

    def norms(self, chunk: Chunk) -> np.ndarray:
        """The lengths of the gradients by w, where the spectrum is that of standardised columns."""
        if not len(chunk.kept):
            return np.zeros(chunk.length)
        back = by_parameters(self.spectrum.coordinates, self.spectrum.vectors.T)
        rows = (self.slopes[:, None] * back)[chunk.kept]
        norms = []
        for start in range(0, chunk.length, BATCH):
            part = np.arange(start, min(start + BATCH, chunk.length))
            grads = chunk.factors(part, chunk.kept) @ rows
            norms.append(np.sqrt(np.einsum("ij,ij->i", grads, grads)))
        return np.concatenate(norms)

    def iterates(self, factors: np.ndarray) -> np.ndarray:
        """w, one a row, of the factors p of the components."""
        return self.start + ((factors - 1) * self.offsets) @ self.axes

    def first_to_meet(self, tol: float, chunk: Chunk, loss: np.ndarray, square: np.ndarray) -> int | None:
        """The place in the chunk of the first iterate that `judge` would call converged.

        What that needs of each is a gradient that is short enough for its loss, or a loss that is near zero. Only of
        those few is the optimality computed. What depends on w alone changes slowly: it is looked at now and then.
        """
        geometry, count = self.spectrum.geometry, len(self.start)
        ratio = 1.0 if self.spectrum.standardised else stretch(self.spectrum.coordinates)
        sample = np.append(np.arange(0, chunk.length, len(chunk.table[0])), chunk.length - 1)
        _, noise, relative = self.measured(chunk, sample, loss, square)
        with np.errstate(divide="ignore", invalid="ignore"):
            floor = np.sqrt(square / (4 * count * loss)) / ratio
            if geometry.l2 == 0:  # both go with the residual, whose square the loss is
                floor = np.minimum(floor, np.sqrt(loss) * np.min(relative / np.sqrt(loss[sample])) / 2)
                within = np.maximum(tol, 2 * np.max(noise * np.sqrt(loss[sample])) / np.sqrt(loss))
            else:
                within = np.full(len(loss), max(tol, 2 * float(noise.max())))
        places = np.flatnonzero(~(floor > 1.001 * within))  # what is not a number is looked at, too
        for start in range(0, len(places), BATCH):
            part = places[start : start + BATCH]
            optimality, noise, _ = self.measured(chunk, part, loss, square)
            met = np.flatnonzero(optimality <= np.maximum(tol, noise))
            if len(met):
                return int(part[met[0]])
        return None

    def measured(
        self, chunk: Chunk, places: np.ndarray, loss: np.ndarray, square: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`Geometry.measure` of many iterates, and the relative residuals."""
        factors = chunk.factors(places)
        lengths = np.sqrt(square[places])
        if not self.spectrum.standardised:
            grads = (self.slopes * factors) @ self.spectrum.vectors.T
            lengths = np.linalg.norm(standardised(self.spectrum.coordinates, grads), axis=1)
        return measure(self.spectrum.geometry, self.iterates(factors), loss[places], lengths)


class Chunk(NamedTuple):
    """Iterates from `start` on: p and δ at the first of each block, and what the others are in terms of them."""

    start: int
    length: int
    states: np.ndarray
    table: np.ndarray
    kept: np.ndarray

    def factors(self, places: np.ndarray, components: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The p of these iterates, one a row."""
        block, within = np.divmod(places, self.table.shape[1])
        (p, change), (of_p, of_change) = self.states[:, :, components], self.table[:, :, components]
        return of_p[within] * p[block] + of_change[within] * change[block]


def standardised(coordinates: Coordinates, grads: np.ndarray) -> np.ndarray:
    """Gradients, one a row, by the parameters of standardised columns, given those by w."""
    d, geometry = len(coordinates.scale), coordinates.geometry
    if not geometry.fit_intercept:
        return grads * coordinates.scale
    return np.column_stack([(grads[:, :d] - np.outer(grads[:, d], geometry.means)) * coordinates.scale, grads[:, d]])


def by_parameters(coordinates: Coordinates, grads: np.ndarray) -> np.ndarray:
    """The other way round: gradients by w."""
    d = len(coordinates.deviations)
    slopes = grads[:, :d] * coordinates.deviations
    if grads.shape[1] == d:
        return slopes
    return np.column_stack([slopes + np.outer(grads[:, d], coordinates.geometry.means), grads[:, d]])


def stretch(coordinates: Coordinates) -> float:
    """A bound on the length of a gradient by w over its length by standardised parameters: a Frobenius norm."""
    geometry = coordinates.geometry
    squares = coordinates.deviations @ coordinates.deviations + geometry.means @ geometry.means
    return float(np.sqrt(squares + geometry.fit_intercept))


def measure(
    geometry: Geometry, w: np.ndarray, loss: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`Geometry.measure` of many parameters, one a row, and their relative residuals.

    Parameters
    ----------
    geometry : Geometry
    w : ndarray of shape (k, n_parameters)
    loss : ndarray of shape (k,)
    lengths : ndarray of shape (k,)
        Of the gradients by the parameters of standardised columns.
    """
    coef = w[:, : len(geometry.lengths)]
    plain = geometry.l2 == 0
    penalty = geometry.l2 * np.einsum("ij,ij->i", coef, coef)
    residual = np.sqrt(np.maximum(loss - penalty, 0.0) * geometry.weight)
    reach = np.linalg.norm(geometry.raw_lengths * coef, axis=1) + geometry.raw_y_length
    spread = np.sqrt(coef.shape[1]) * np.linalg.norm(geometry.counted * coef, axis=1) + geometry.y_counted
    with np.errstate(divide="ignore", invalid="ignore"):
        most = geometry.excess * np.sqrt(np.maximum(loss, 0.0) * geometry.weight)
        noise = np.where(residual > 0, np.minimum(geometry.eps * reach, most) / residual, np.inf)
        cosine = lengths * np.sqrt(geometry.weight / w.shape[1]) / (2 * residual)
        optimality = np.where(lengths > 0, cosine, 0.0)
        relative = np.where(spread > 0, residual / spread, np.inf)
    if plain:
        exact = residual <= 4 * geometry.eps * reach
        noise, optimality = np.where(exact, 0.0, noise), np.where(exact, 0.0, np.minimum(optimality, relative))
    return optimality, noise, relative


def powers(step: np.ndarray, count: int) -> np.ndarray:
    """The powers 0 to count, along axis 2, of 2 x 2 matrices (2, 2, d), by doubling."""
    table = np.empty((2, 2, count + 1, step.shape[-1]))
    table[:, :, 0] = np.eye(2)[:, :, None]
    done, factor = 1, step
    while done <= count:
        more = min(done, count + 1 - done)
        table[:, :, done : done + more] = np.einsum("ijkd,jld->ilkd", table[:, :, :more], factor)
        done += more
        factor = times(factor, factor)
    return table


def times(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Products of 2 x 2 matrices, far below anything that counts taken for zero."""
    product = np.einsum("ijd,jld->ild", left, right)
    product[np.abs(product) < NOTHING] = 0.0
    return product


def power(step: np.ndarray, k: int) -> np.ndarray:
    """One power of 2 x 2 matrices."""
    result = np.repeat(np.eye(2)[:, :, None], step.shape[-1], axis=2)
    while k:
        if k & 1:
            result = times(result, step)
        step = times(step, step)
        k >>= 1
    return result
