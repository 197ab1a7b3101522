"""Gradient descent, in the four steps of the textbook.

1. Initialise the parameters. 2. Compute the gradient of the loss. 3. Move against it: w <- w - lr * grad F(w).
4. Repeat until the gradient or the parameters stop changing.
"""

from __future__ import annotations

import numpy as np

from fastgd import _mse
from fastgd.objective import MSE
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._monitor import Monitor, divergence

__all__ = ["USES", "solve"]

#: Options of `fit` that it has a use for.
USES = frozenset({"lr"})


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Descend with a fixed step, by default 1/λmax.

    Raises
    ------
    DivergenceError
        If lr is not below 2/λmax, before the first step; or if the loss should pass 10^3 times its start.
    """
    largest = objective.lipschitz()
    lr = safe_step(options, largest)
    limit = 2.0 / largest if largest > 0 else float("inf")
    w = options.w0
    grad = np.empty(len(w))
    while True:
        loss, _ = objective.value_and_grad(w, out=grad)
        if reason := monitor.see(w, loss, grad, lr=lr, max_lr=limit):
            break
        before = w.copy()
        _mse.update(w, grad, lr)
        if options.tol > 0 and np.array_equal(w, before):
            reason = "the parameters stopped changing"
            break
    bound = float(grad @ grad) / (4 * objective.l2) if strongly_convex(objective) else float("nan")
    return monitor.outcome(w, loss, reason, lr=lr, gap_bound=bound)


def strongly_convex(objective: MSE) -> bool:
    """Whether l2 alone gives F a known modulus, 2 l2: it does not reach the intercept."""
    return objective.l2 > 0 and not objective.fit_intercept


def safe_step(options: Options, largest: float) -> float:
    """The step size asked for, or 1/λmax."""
    limit = 2.0 / largest if largest > 0 else float("inf")
    if isinstance(options.lr, str):
        return limit / 2 if largest > 0 else 1.0
    if options.lr >= limit:
        raise divergence(options.lr, limit, "the step is not below 2/λmax", options.w0.copy(), float("nan"))
    return options.lr
