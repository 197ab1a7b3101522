"""What every solver is given and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fastgd.objective import MSE

__all__ = ["History", "Options", "Outcome", "Solver"]


@dataclass
class Options:
    """What the caller of `fit` asked for. A step size of None means "auto"."""

    tol: float
    max_iter: int
    lr: float | None
    w0: np.ndarray


@dataclass
class History:
    """The losses and gradient norms of the iterates, and the seconds since the start of the fit."""

    start: float = field(default_factory=time.perf_counter)
    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, loss: float, grad: np.ndarray) -> None:
        self.loss.append(loss)
        self.grad_norm.append(float(np.sqrt(grad @ grad)))
        self.seconds.append(time.perf_counter() - self.start)

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "iteration": np.arange(len(self.loss)),
            "loss": np.array(self.loss),
            "grad_norm": np.array(self.grad_norm),
            "seconds": np.array(self.seconds),
        }


@dataclass
class Outcome:
    """Where a solver ended: parameters (float64, an intercept last), what F and its gradient are there, and why."""

    w: np.ndarray
    loss: float
    optimality: float
    gap_bound: float
    n_iter: int
    converged: bool
    stop_reason: str
    lr: float | None
    n_passes: int


Solver = Callable[[MSE, Options, History], Outcome]
