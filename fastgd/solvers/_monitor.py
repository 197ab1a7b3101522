"""What watches every descent: history, tolerance, early stopping, callbacks, divergence."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastgd.errors import DivergenceError
from fastgd.objective import MSE, column_moments
from fastgd.solvers._certificate import Geometry, judge, length, shortest

__all__ = ["BLOW_UP", "History", "Iterate", "Monitor", "Outcome", "divergence"]

#: A loss this many times the first one is divergence, whatever the eigenvalues say.
BLOW_UP = 1e3


@dataclass
class History:
    """The losses and gradient norms of the iterates, and the seconds since the start of the fit."""

    start: float = field(default_factory=time.perf_counter)
    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)

    def add(self, loss: float, grad: np.ndarray) -> None:
        self.loss.append(loss)
        self.grad_norm.append(length(grad))
        self.seconds.append(time.perf_counter() - self.start)

    def extend(self, loss: np.ndarray, grad_norm: np.ndarray) -> None:
        """Add iterates that were found together; the time they took is shared among them."""
        before = self.seconds[-1] if self.seconds else 0.0
        shares = np.arange(1, len(loss) + 1) / max(len(loss), 1)
        self.loss.extend(loss.tolist())
        self.grad_norm.extend(grad_norm.tolist())
        self.seconds.extend((before + (time.perf_counter() - self.start - before) * shares).tolist())

    def arrays(self) -> dict[str, np.ndarray]:
        columns = {
            "iteration": np.arange(len(self.loss)),
            "loss": np.array(self.loss),
            "grad_norm": np.array(self.grad_norm),
            "seconds": np.array(self.seconds),
        }
        return columns | ({"val_loss": np.array(self.val_loss)} if self.val_loss else {})


@dataclass(frozen=True)
class Iterate:
    """What a callback is shown after each iteration.

    Attributes
    ----------
    iteration : int
        0 at the start.
    coef : ndarray of shape (n_features,)
        A copy.
    intercept : float
    loss : float
        F at these parameters, in units of y squared.
    optimality : float
        See `fastgd.FitResult`.
    val_loss : float or None
        Mean squared error on the validation set, if there is one.
    seconds : float
        Since the fit began.
    """

    iteration: int
    coef: np.ndarray
    intercept: float
    loss: float
    optimality: float
    val_loss: float | None
    seconds: float


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


class Monitor:
    """Sees the iterates of a descent and says when it is to end.

    Parameters
    ----------
    objective : MSE
    tol : float
    max_iter : int
    l1 : float
        Factor of |w|_1, which the objective does not know of.
    val_loss : callable, optional
        Parameters -> mean squared error on a validation set.
    patience : int
        Iterations without a lower validation loss after which the descent ends.
    callback : callable, optional
        Called with an `Iterate` after each; a true result or StopIteration ends the descent.
    """

    def __init__(
        self,
        objective: MSE,
        tol: float,
        max_iter: int,
        *,
        l1: float = 0.0,
        val_loss: Callable[[np.ndarray], float] | None = None,
        patience: int = 10,
        callback: Callable[[Iterate], Any] | None = None,
    ) -> None:
        self.objective = objective
        self.tol, self.max_iter, self.l1 = tol, max_iter, l1
        self.val_loss, self.patience, self.callback = val_loss, patience, callback
        self.history = History()
        self.extra_passes = 0   # over X, that the objective does not know of
        self.optimality = self.noise = float("nan")
        self.converged = False
        self.ended_by_choice = False    # a callback's or the validation set's
        self.best_loss, self.best_w = np.inf, np.empty(0)
        self.best_val, self.best_val_at, self.best_val_w = np.inf, 0, np.empty(0)
        self._geometry: Geometry | None = None

    @property
    def geometry(self) -> Geometry:
        """Lengths and means of the columns: one pass, at first use."""
        if self._geometry is None:
            objective = self.objective
            self.extra_passes += 1
            self._geometry = Geometry(
                *column_moments(objective),
                fit_intercept=objective.fit_intercept,
                l2=objective.l2,
                dtype=objective.dtype,
                l1=self.l1,
            )
        return self._geometry

    @geometry.setter
    def geometry(self, geometry: Geometry) -> None:
        self._geometry = geometry

    @property
    def plain(self) -> bool:
        """Whether nobody but the history needs to see each iterate, so that many may be found at once."""
        return self.val_loss is None and self.callback is None

    @property
    def n_iter(self) -> int:
        return len(self.history.loss) - 1

    @property
    def n_passes(self) -> int:
        return self.objective.n_passes + self.extra_passes

    def see(
        self,
        w: np.ndarray,
        loss: float,
        grad: np.ndarray,
        *,
        lr: float = float("nan"),
        max_lr: float = float("nan"),
    ) -> str:
        """Take in the next iterate, the start first; return why to end, or nothing.

        Parameters
        ----------
        w, grad : ndarray
            Parameters and the objective's gradient there, without the l1 penalty's; read, not kept.
        loss : float
            F(w), all penalties included.
        lr, max_lr : float
            The step size in use and the largest safe one, for the error.

        Raises
        ------
        DivergenceError
            If the loss is more than 10^3 times what it was at the start.
        """
        history = self.history
        d = self.objective.n_features
        history.add(loss, np.append(shortest(w[:d], grad[:d], self.l1), grad[d:]))
        if loss < self.best_loss:
            self.best_loss, self.best_w = loss, w.copy()
        if not loss <= BLOW_UP * max(history.loss[0], np.finfo(self.objective.dtype).tiny):
            raise divergence(
                lr, max_lr, f"the loss rose from {history.loss[0]:g} to {loss:g}", self.best_w, self.best_loss
            )
        self.optimality, noise = self.geometry.measure(w, loss, grad)
        self.converged, reason = judge(self.tol, self.optimality, noise)
        chosen = self._early(w) or self._called(w, loss)
        self.ended_by_choice = bool(chosen)
        return chosen or reason or self._exhausted()

    def note(self, w: np.ndarray, loss: float, grad: np.ndarray) -> str:
        """Take in the next iterate of a method that needs no step size and judges itself whether it has converged.

        Returns why to end, if the validation set or the callback say so. Who asks for neither needs no certificate of
        the start.
        """
        history = self.history
        history.add(loss, grad)
        if self.plain and len(history.loss) == 1:
            return ""
        self.optimality, self.noise = self.geometry.measure(w, loss, grad)
        if self.plain:
            return ""
        chosen = self._early(w) or self._called(w, loss)
        self.ended_by_choice = bool(chosen)
        return chosen

    def judge(self) -> None:
        """Say whether the last iterate has converged: also with tol = 0, if no gradient tells it from the optimum."""
        self.converged, _ = judge(max(self.tol, self.noise), self.optimality, self.noise)

    def outcome(
        self, w: np.ndarray, loss: float, reason: str, *, lr: float | None = None, gap_bound: float = float("nan")
    ) -> Outcome:
        """What a solver returns that ended at the last iterate: with a validation set, the best one by that."""
        optimality, converged = self.optimality, self.converged
        if self.val_loss is not None and self.best_val_at < self.n_iter:
            w, gap_bound, converged = self.best_val_w, float("nan"), False
            self.ended_by_choice = True
            smooth, grad = self.objective.value_and_grad(w)
            loss = smooth + self.l1 * float(np.abs(w[: self.objective.n_features]).sum())
            optimality, _ = self.geometry.measure(w, loss, grad)
        return Outcome(
            w=w,
            loss=loss,
            optimality=optimality,
            gap_bound=gap_bound,
            n_iter=self.n_iter,
            converged=converged,
            stop_reason=reason,
            lr=lr,
            n_passes=self.n_passes,
        )

    def _exhausted(self) -> str:
        return f"max_iter={self.max_iter} reached" if self.n_iter >= self.max_iter else ""

    def _early(self, w: np.ndarray) -> str:
        """Whether the validation loss has stopped falling."""
        if self.val_loss is None:
            return ""
        value = self.val_loss(w)
        self.history.val_loss.append(value)
        if value < self.best_val or self.n_iter == 0:
            self.best_val, self.best_val_at, self.best_val_w = value, self.n_iter, w.copy()
        if self.n_iter - self.best_val_at < self.patience:
            return ""
        return f"the validation loss has not fallen for {self.patience} iterations"

    def _called(self, w: np.ndarray, loss: float) -> str:
        if self.callback is None:
            return ""
        d = self.objective.n_features
        iterate = Iterate(
            iteration=self.n_iter,
            coef=w[:d].copy(),
            intercept=float(w[d]) if len(w) > d else 0.0,
            loss=loss,
            optimality=self.optimality,
            val_loss=self.history.val_loss[-1] if self.val_loss else None,
            seconds=self.history.seconds[-1],
        )
        try:
            stop = self.callback(iterate)
        except StopIteration:
            stop = True
        return "the callback ended it" if stop else ""


def divergence(lr: float, limit: float, why: str, w: np.ndarray, loss: float) -> DivergenceError:
    return DivergenceError(
        f"gradient descent diverges with lr={lr:.6g}: {why}. It converges for lr below 2/λmax = {limit:.6g}; "
        f"lr='auto' takes {limit / 2:.6g}",
        lr=lr,
        max_lr=limit,
        w=w,
        loss=loss,
    )
