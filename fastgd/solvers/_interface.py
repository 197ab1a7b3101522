"""What every solver is given and what it gives back.

A solver is a function of an objective, the caller's options and a monitor, and returns an `Outcome`. It shows each of
its iterates to the monitor, the start first, and ends when the monitor has a reason to. So all of them have the same
history, tolerance, early stopping, callbacks and protection against divergence, and each file holds its method alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastgd.objective import MSE
from fastgd.solvers._monitor import Monitor, Outcome

__all__ = ["Options", "Outcome", "Solver"]


@dataclass(frozen=True)
class Options:
    """What the caller of `fit` asked for, validated.

    `lr` is a step size, or the name of a rule that finds one: "auto", "backtracking", "bb". `w0` are the first
    parameters, float64, the intercept last if one is fitted. `l1` is not part of the objective, which is smooth:
    solvers that can, add l1 |w|_1 to what it gives. Those from `batch_size` on are for stochastic solvers. `shared` is
    for what a solver keeps from one target for the next ones of the same X, None where there is one target. A `trial`
    of conjugate gradients goes on to more digits than asked for, as moments would, and leaves the fit to these if they
    are sooner done.
    """

    w0: np.ndarray
    tol: float = 1e-8
    max_iter: int = 1000
    lr: float | str = "auto"
    l1: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    batch_size: int = 1
    schedule: str = "auto"
    power_t: float = 0.25
    average: bool = True
    random_state: int = 0
    shared: dict[str, Any] | None = None
    trial: bool = False


Solver = Callable[[MSE, Options, Monitor], Outcome]
