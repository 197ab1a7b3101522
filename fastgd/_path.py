"""The way that a descent took through the parameters, and the loss about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgd._summary import Summarised, figures

__all__ = ["DescentPath"]


@dataclass(frozen=True, eq=False, repr=False)
class DescentPath(Summarised):
    """The parameters of each iterate, and F about the last of them: its smooth part is quadratic, so it is known.

    Parameters are those of w and, with an intercept, b as the last.

    Attributes
    ----------
    parameters : ndarray of shape (n_iter + 1, n_parameters)
        The start first.
    fit_intercept : bool
        Whether the last parameter is the intercept.
    w : ndarray of shape (n_parameters,)
        Those that the fit returned.
    loss : float
        F there, in units of y squared.
    grad : ndarray of shape (n_parameters,)
        The gradient of F without l1 there.
    hessian : ndarray of shape (n_parameters, n_parameters)
        Of F without l1, the same everywhere.
    l1 : float
        Factor of |w|_1.
    """

    parameters: np.ndarray
    fit_intercept: bool
    w: np.ndarray
    loss: float
    grad: np.ndarray
    hessian: np.ndarray
    l1: float

    def _summary(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [
            ("iterates", f"{len(self.parameters):,}"),
            ("parameters", f"{len(self.w):,}" + (", the last the intercept" if self.fit_intercept else "")),
            ("start", figures(self.parameters[0])),
            ("returned", figures(self.w)),
            ("loss there", figures(self.loss)),
        ]
        return "DescentPath: the parameters of each iterate", rows

    @property
    def n_features(self) -> int:
        return len(self.w) - self.fit_intercept

    def optimum(self) -> np.ndarray | None:
        """The parameters of least loss, the nearest to `w` if many have it; None with an l1, which has no formula.

        They solve H (w* - w) = -grad F(w), here in units in which the diagonal of H is 1, by the eigenvectors of H.
        """
        if self.l1 > 0:
            return None
        diagonal = np.diagonal(self.hessian)
        units = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        values, vectors = np.linalg.eigh(self.hessian / np.outer(units, units))
        known = values > len(values) * np.finfo(np.float64).eps * values[-1]
        step = vectors[:, known] @ (vectors[:, known].T @ (-self.grad / units) / values[known])
        return self.w + step / units

    def loss_at(self, points: np.ndarray) -> np.ndarray:
        """F at parameters of shape (..., n_parameters): F(w) + g.u + u'Hu / 2 + l1 (|w + u|_1 - |w|_1)."""
        step = points - self.w
        smooth = step @ self.grad + 0.5 * np.einsum("...i,...i->...", step @ self.hessian, step)
        d = self.n_features
        absolute = np.abs(points[..., :d]).sum(axis=-1) - np.abs(self.w[:d]).sum()
        return self.loss + smooth + self.l1 * absolute

    def loss_over(self, pair: list[int], centre: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """F over the plane of two parameters through `centre`: an array of shape (len(second), len(first)).

        In the plane F is known from its value, slope and curvature at the centre c, by which all others stand still:
        F(c) + s.v + v'Hv / 2 + l1 (|c + v|_1 - |c|_1) at v in two dimensions.
        """
        middle = centre[pair]
        values = np.array(np.meshgrid(first, second))
        v = values - middle[:, None, None]
        slope = (self.grad + self.hessian @ (centre - self.w))[pair]
        bend = np.einsum("ikl,ij,jkl->kl", v, self.hessian[np.ix_(pair, pair)], v)
        penalised = [place for place, parameter in enumerate(pair) if parameter < self.n_features]
        absolute = (np.abs(values) - np.abs(middle)[:, None, None])[penalised].sum(axis=0)
        return self.loss_at(centre) + np.tensordot(slope, v, 1) + 0.5 * bend + self.l1 * absolute
