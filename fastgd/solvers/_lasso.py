"""Quadratics with an l1 penalty whose matrix is at hand: accelerated proximal steps and solutions on the support.

    Q(u) = u'Mu - 2 c'u + sum_j p_j |u_j|

A proximal gradient step moves against the gradient 2 (Mu - c) and shrinks towards zero; momentum accelerates it (Beck
and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sci. 2, 2009) and is given up when
it points uphill (O'Donoghue and Candès, "Adaptive restart for accelerated gradient schemes", Found. Comput. Math. 15,
2015). Some such steps find which coefficients are zero. On the others, with their signs, Q is a quadratic, which a
Cholesky factor solves at once; the way there ends where Q is least (Wen, Yin, Goldfarb and Zhang, "A fast algorithm for
sparse reconstruction based on shrinkage, subspace optimization, and continuation", SIAM J. Sci. Comput. 32, 2010).
When the steps have found the right zeros, the solution is exact but for rounding.
"""

from __future__ import annotations

import numpy as np

from fastgd import _moments, _proximal

__all__ = ["PenalisedQuadratic", "soft_threshold"]

#: Proximal steps before the first solution on the support, and at most; each time there are twice as many.
FIRST_STEPS = 20
MOST_STEPS = 1000
#: Solutions on supports, at most.
MAX_SOLUTIONS = 100
#: Of the diagonal: what is added to it, so that nearly collinear columns leave a step that can be computed. It shortens
#: steps and moves no solution.
PROXIMAL = 1e-12


def soft_threshold(u: np.ndarray, by: np.ndarray | float) -> np.ndarray:
    """Each entry moved towards zero by so much, and no further: the proximal operator of by |u|_1."""
    return u - np.minimum(np.maximum(u, -by), by)


class PenalisedQuadratic:
    """Q, and how to minimise it.

    Parameters
    ----------
    matrix : ndarray of shape (k, k)
        M, positive semi-definite, its diagonal about one.
    right_side, penalty : ndarray of shape (k,)
        c, and the factors p of |u_j|.
    """

    def __init__(self, matrix: np.ndarray, right_side: np.ndarray, penalty: np.ndarray) -> None:
        self.matrix, self.right_side, self.penalty = matrix, right_side, penalty
        self.lipschitz = 2.0    # a curvature that M has about; steps that turn out too long raise it
        self.work = np.empty((4, len(matrix)))

    def minimise(self, u: np.ndarray, target: float) -> np.ndarray:
        """Where the shortest subgradient is no longer than `target`, or the last point found."""
        if not len(u):
            return u
        u, image = u.copy(), self.matrix @ u
        steps = FIRST_STEPS
        for _ in range(MAX_SOLUTIONS):
            self.lipschitz = _proximal.descend(
                self.matrix, self.right_side, self.penalty, u, image, self.work, self.lipschitz, steps
            )
            u, image = self.solve_on_support(u, image)
            slope = 2 * (image - self.right_side)
            shortest = np.where(u != 0, slope + self.penalty * np.sign(u), soft_threshold(slope, self.penalty))
            if np.sqrt(shortest @ shortest) <= target:
                break
            steps = min(2 * steps, MOST_STEPS)
        return u

    def solve_on_support(self, u: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """On the support of u, from u towards the solution with its signs, to where Q is least."""
        held = np.flatnonzero(u)
        if not len(held):
            return u, image
        matrix = self.matrix[held[:, None], held]
        start, penalty = u[held], self.penalty[held]
        gradient = 2 * (image[held] - self.right_side[held])
        step = -0.5 * (gradient + penalty * np.sign(start))
        raised = matrix.copy()
        raised.ravel()[:: len(held) + 1] += PROXIMAL
        try:
            lower = np.linalg.cholesky(raised)
        except np.linalg.LinAlgError:
            return u, image
        _moments.solve_cholesky(lower, step)
        end = start + step
        crossing = end * start < 0
        if crossing.any():
            reached = best_of_way(start, step, gradient, matrix @ step, penalty)
            clipped = np.where(crossing, 0.0, end)
            end = min(reached, clipped, key=lambda point: rise(start, point, gradient, matrix, penalty))
        u = np.zeros_like(u)
        u[held] = end
        return u, self.matrix @ u


def rise(
    start: np.ndarray, end: np.ndarray, gradient: np.ndarray, matrix: np.ndarray, penalty: np.ndarray
) -> float:
    """Q(end) - Q(start), given the gradient of its smooth part at the start."""
    step = end - start
    return float(gradient @ step + step @ (matrix @ step) + penalty @ (np.abs(end) - np.abs(start)))


def best_of_way(
    start: np.ndarray, step: np.ndarray, gradient: np.ndarray, curved: np.ndarray, penalty: np.ndarray
) -> np.ndarray:
    """Of the points start + t step, 0 <= t <= 1, the one where Q is least; a coefficient that ends there is zero.

    Along the way Q is convex, and its slope rises by 2 p_j |step_j| where coefficient j passes zero.
    """
    crossing = np.flatnonzero((start + step) * start < 0)
    times = -start[crossing] / step[crossing]
    order = np.argsort(times)
    crossing, times = crossing[order], times[order]
    slope = float(gradient @ step + (penalty * np.sign(start)) @ step)
    bend = 2 * float(step @ curved)
    rises = 2 * np.cumsum(penalty[crossing] * np.abs(step[crossing]))
    after = slope + bend * times + rises
    place = int(np.searchsorted(after, 0.0))
    passed = rises[place - 1] if place else 0.0
    t = min(-(slope + passed) / bend, 1.0) if bend > 0 else 1.0
    if place < len(times) and t >= times[place]:
        end = start + times[place] * step
        end[crossing[place]] = 0.0
        return end
    return start + t * step
