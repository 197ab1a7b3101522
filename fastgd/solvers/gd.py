"""Gradient descent, in the four steps of the textbook.

1. Initialise the parameters. 2. Compute the gradient of the loss. 3. Move against it: w <- w - lr * grad F(w).
4. Repeat until the gradient or the parameters stop changing.
"""

from __future__ import annotations

import numpy as np

from fastgd import _mse
from fastgd.errors import DivergenceError
from fastgd.objective import MSE, column_moments
from fastgd.solvers._certificate import Geometry, judge
from fastgd.solvers._interface import History, Options, Outcome

__all__ = ["solve"]

#: A loss this many times the first one is divergence, whatever the eigenvalues say.
BLOW_UP = 1e3


def solve(objective: MSE, options: Options, history: History) -> Outcome:
    """Descend with a fixed step, by default 1/λmax.

    Raises
    ------
    DivergenceError
        If lr is not below 2/λmax, before the first step; or if the loss should pass 10^3 times its start.
    """
    largest = objective.lipschitz()
    lr = safe_step(options, largest)
    geometry = Geometry(
        *column_moments(objective), fit_intercept=objective.fit_intercept, l2=objective.l2, dtype=objective.dtype
    )
    w = options.w0
    grad = np.empty(len(w))
    best, best_w = np.inf, w.copy()
    for k in range(options.max_iter + 1):
        loss, _ = objective.value_and_grad(w, out=grad)
        history.add(loss, grad)
        if loss < best:
            best = loss
            best_w[:] = w
        if not loss <= BLOW_UP * max(history.loss[0], np.finfo(objective.dtype).tiny):
            raise divergence(lr, largest, f"the loss rose from {history.loss[0]:g} to {loss:g}", best_w, best)
        optimality, noise = geometry.measure(w, loss, grad)
        converged, reason = judge(options.tol, optimality, noise)
        if reason or k == options.max_iter:
            break
        before = w.copy()
        _mse.update(w, grad, lr)
        if options.tol > 0 and np.array_equal(w, before):
            reason = "the parameters stopped changing"
            break
    return Outcome(
        w=w,
        loss=loss,
        optimality=optimality,
        gap_bound=float(grad @ grad) / (4 * objective.l2) if strongly_convex(objective) else float("nan"),
        n_iter=k,
        converged=converged,
        stop_reason=reason or f"max_iter={options.max_iter} reached",
        lr=lr,
        n_passes=objective.n_passes + 1,
    )


def strongly_convex(objective: MSE) -> bool:
    """Whether l2 alone gives F a known modulus, 2 l2: it does not reach the intercept."""
    return objective.l2 > 0 and not objective.fit_intercept


def safe_step(options: Options, largest: float) -> float:
    """The step size asked for, or 1/λmax."""
    if options.lr is None:
        return 1.0 / largest if largest > 0 else 1.0
    if options.lr * largest >= 2.0:
        raise divergence(options.lr, largest, "the step is not below 2/λmax", options.w0.copy(), float("nan"))
    return options.lr


def divergence(lr: float, largest: float, why: str, w: np.ndarray, loss: float) -> DivergenceError:
    limit = 2.0 / largest if largest > 0 else float("inf")
    return DivergenceError(
        f"gradient descent diverges with lr={lr:.6g}: {why}. It converges for lr below 2/λmax = {limit:.6g}; "
        f"lr='auto' takes {limit / 2:.6g}",
        lr=lr,
        max_lr=limit,
        w=w,
        loss=loss,
    )
