"""What keeps the parameters of each iterate, for pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastgd._path import DescentPath
from fastgd.objective import MSE, SecondMoments
from fastgd.result import FitResult
from fastgd.solvers._monitor import Iterate
from fastgd.solvers.moments import loss_and_grad

__all__ = ["Recorder"]


class Recorder:
    """A callback that keeps the parameters of each iterate, and shows it to another one.

    Parameters
    ----------
    callback : callable, optional
    """

    FIXED = frozenset({"callback"})

    def __init__(self, callback: Callable[[Iterate], Any] | None) -> None:
        self.callback = callback
        self.seen: list[np.ndarray] = []

    def __call__(self, iterate: Iterate) -> Any:
        self.seen.append(np.append(iterate.coef, iterate.intercept))
        return self.callback(iterate) if self.callback is not None else None

    def added_to(self, result: FitResult, objective: MSE, l1: float) -> FitResult:
        """The result with its path, with the loss about it from the second moments: one pass more."""
        d, fit_intercept = objective.n_features, objective.fit_intercept
        size = d + fit_intercept
        moments = SecondMoments(d, objective.n_threads, dtype=np.float64)
        moments.update(objective.X, objective.y, objective.sample_weight)
        w = np.append(result.coef.astype(np.float64), result.intercept)[:size]
        loss, grad = loss_and_grad(moments, w, fit_intercept, objective.l2)
        order = np.append(np.arange(d), d + 1)[:size]       # without y
        hessian = 2 / moments.weight * moments.about(np.zeros(d + 1))[np.ix_(order, order)]
        hessian[np.arange(d), np.arange(d)] += 2 * objective.l2
        path = DescentPath(
            parameters=np.array(self.seen)[:, :size],
            fit_intercept=fit_intercept,
            w=w,
            loss=loss + l1 * float(np.abs(w[:d]).sum()),
            grad=grad,
            hessian=hessian,
            l1=l1,
        )
        return replace(result, path=path, n_passes=result.n_passes + 1)
