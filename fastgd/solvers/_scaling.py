"""Columns standardised without touching X: coordinates in which scale costs nothing.

With m_j the mean of column j, a_j its deviation (its root mean square where no intercept is fitted, and m = 0 then),

    u_j = a_j w_j      and last, with an intercept,      u_b = b + m.w,

the model x.w + b is that of the columns (x_j - m_j) / a_j, which have mean zero and deviation one. A method that works
on u sees those columns, and coefficients come back in the user's units. Constant columns keep a coefficient of zero.
"""

from __future__ import annotations

import numpy as np

from fastgd._spectrum import largest_eigenvalue
from fastgd.objective import MSE
from fastgd.solvers._certificate import Geometry

__all__ = ["Coordinates"]


class Coordinates:
    """From the parameters of the columns as they are to those of standardised columns, and back.

    Parameters
    ----------
    geometry : Geometry
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        deviations = geometry.lengths / np.sqrt(geometry.weight)
        self.scale = np.divide(1.0, deviations, out=np.zeros_like(deviations), where=deviations > 0)
        self.deviations = deviations

    def parameters(self, u: np.ndarray) -> np.ndarray:
        """w, the intercept last, of the standardised parameters u."""
        d = len(self.scale)
        w = u.copy()
        w[:d] *= self.scale
        if len(u) > d:
            w[d] -= self.geometry.means @ w[:d]
        return w

    def standardised(self, w: np.ndarray) -> np.ndarray:
        """The parameters u of w."""
        d = len(self.scale)
        u = w.copy()
        u[:d] *= self.deviations
        if len(w) > d:
            u[d] += self.geometry.means @ w[:d]
        return u

    def gradient(self, grad: np.ndarray) -> np.ndarray:
        """The gradient by u, given that by w."""
        slope, intercept = self.geometry.split(grad)
        scaled = self.scale * slope
        return np.append(scaled, intercept) if self.geometry.fit_intercept else scaled

    def hessp(self, objective: MSE, v: np.ndarray) -> np.ndarray:
        """The Hessian by u times v, in one pass over X."""
        return self.gradient(objective.hessp(self.parameters(v)))

    def lipschitz(self, objective: MSE, rtol: float = 1e-4, max_products: int = 100) -> float:
        """The largest eigenvalue of the Hessian by u, from below, one pass over X for each product."""
        return largest_eigenvalue(
            lambda v, out: np.copyto(out, self.hessp(objective, v)),
            objective.n_features + objective.fit_intercept,
            rtol=rtol,
            max_products=max_products,
        )
