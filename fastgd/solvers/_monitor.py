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
from fastgd.solvers._duality import Rounding, duality_gap, pass_in_double
from fastgd.solvers._state import Keeper, Loop

__all__ = ["BLOW_UP", "History", "Iterate", "Monitor", "Outcome", "divergence"]

#: A loss this many times the first one is divergence, whatever the eigenvalues say.
BLOW_UP = 1e3
#: Of F: a bound of its gap that is no larger tells enough.
TELLS = 1e-4


class Column:
    """Numbers that come one by one, or many at once: a list of floats that takes arrays as they are."""

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []     # what came before the last ones
        self._last: list[float] = []
        self._before = 0

    def __len__(self) -> int:
        return self._before + len(self._last)

    def __getitem__(self, place: int) -> float:
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        for piece in self._pieces:
            if place < len(piece):
                return float(piece[place])
            place -= len(piece)
        return self._last[place]

    def append(self, value: float) -> None:
        self._last.append(value)

    def pop(self) -> float:
        """Take back the number that was appended last."""
        return self._last.pop()

    def extend(self, values: np.ndarray) -> None:
        self._pieces += [np.array(self._last), values] if self._last else [values]
        self._before += len(self._last) + len(values)
        self._last = []

    def array(self) -> np.ndarray:
        last = np.array(self._last)
        return np.concatenate([*self._pieces, last]) if self._pieces else last


@dataclass
class History:
    """The losses and gradient norms of the iterates, and the seconds since the start of the fit."""

    start: float = field(default_factory=time.perf_counter)
    loss: Column = field(default_factory=Column)
    grad_norm: Column = field(default_factory=Column)
    seconds: Column = field(default_factory=Column)
    val_loss: list[float] = field(default_factory=list)

    def add(self, loss: float, grad: np.ndarray) -> None:
        self.append(loss, length(grad))

    def append(self, loss: float, grad_norm: float) -> None:
        self.loss.append(loss)
        self.grad_norm.append(grad_norm)
        self.seconds.append(time.perf_counter() - self.start)

    def drop_last(self) -> None:
        """Forget the last iterate, which is to be added again."""
        for column in (self.loss, self.grad_norm, self.seconds):
            column.pop()

    def extend(self, loss: np.ndarray, grad_norm: np.ndarray) -> None:
        """Add iterates that were found together; the time they took is shared among them."""
        before = self.seconds[-1] if self.seconds else 0.0
        shares = np.arange(1, len(loss) + 1) / max(len(loss), 1)
        self.loss.extend(loss)
        self.grad_norm.extend(grad_norm)
        self.seconds.extend(before + (time.perf_counter() - self.start - before) * shares)

    def put_back(self, columns: dict[str, np.ndarray], val_loss: list[float]) -> None:
        """Have these columns and none before; the clock goes on from their last second."""
        self.loss, self.grad_norm, self.seconds, self.val_loss = Column(), Column(), Column(), val_loss
        for name, values in columns.items():
            getattr(self, name).extend(values[:-1])
            for value in values[-1:].tolist():
                getattr(self, name).append(value)
        self.start = time.perf_counter() - (self.seconds[-1] if self.seconds else 0.0)

    def arrays(self) -> dict[str, np.ndarray]:
        columns = {
            "iteration": np.arange(len(self.loss)),
            "loss": self.loss.array(),
            "grad_norm": self.grad_norm.array(),
            "seconds": self.seconds.array(),
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
        0 without one.
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
    bar : callable, optional
        Told iteration, loss and optimality of the iterates that are seen anyway.
    keeper : Keeper, optional
        Of the states of its loops, for a checkpoint.
    """

    FIXED = frozenset(
        {
            "objective", "tol", "max_iter", "l1", "val_loss", "patience", "callback", "bar", "keeper", "history",
            "extra_passes", "_geometry",
        }
    )

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
        bar: Callable[[int, float, float], Any] | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.keeper = keeper
        self.objective = objective
        self.tol, self.max_iter, self.l1 = tol, max_iter, l1
        self.val_loss, self.patience, self.callback, self.bar = val_loss, patience, callback, bar
        self.history = History()
        self.extra_passes = 0   # over X, that the objective does not know of
        self.optimality = self.noise = float("nan")
        self.converged = False
        self._chosen = ""               # a callback's or the validation set's reason to end
        self.best_loss, self.best_w = np.inf, np.empty(0)
        self.best_val, self.best_val_at, self.best_val_w = np.inf, 0, np.empty(0)
        self.rule = "2/λmax"    # which step sizes are safe, for the error
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
    def knows_geometry(self) -> bool:
        """Whether it needs no pass for it any more."""
        return self._geometry is not None

    def loop(self) -> Loop:
        """Of a solver's loops the next one, whose state can be kept; see `_state`."""
        return Loop(self)

    @property
    def plain(self) -> bool:
        """Whether nobody but the history needs to see each iterate, so that many may be found at once."""
        return self.val_loss is None and self.callback is None

    @property
    def ended_by_choice(self) -> bool:
        """Whether a callback or the validation set ended it."""
        return bool(self._chosen)

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
        first = self.history.loss[0] if self.history.loss else loss
        if loss < self.best_loss:
            self.best_loss, self.best_w = loss, w.copy()
        if not loss <= BLOW_UP * max(first, np.finfo(self.objective.dtype).tiny) and not self.vanishes(w, loss, grad):
            why = f"the loss rose from {first:g} to {loss:g}"
            raise divergence(lr, max_lr, why, self.best_w, self.best_loss, self.rule)
        reason = self._measured(w, loss, grad)
        self._tell(loss)
        early = self._early(w)
        self._chosen = self._called(w, loss) or early   # the callback sees the last iterate too
        return self._chosen or reason or self._exhausted()

    def correct(self, w: np.ndarray, loss: float, grad: np.ndarray) -> str:
        """Take in the last iterate again, now with figures from a pass; return why to end by these, or nothing.

        For solvers that know loss and gradient from one iterate to the next but for rounding. Parameters are those of
        `see`; neither the callback nor the validation set sees an iterate twice.
        """
        self.history.drop_last()
        reason = self._measured(w, loss, grad)
        return self._chosen or reason or self._exhausted()

    def note(self, w: np.ndarray, loss: float, grad: np.ndarray) -> str:
        """Take in the next iterate of a method that needs no step size and judges itself whether it has converged.

        Returns why to end, if the validation set or the callback say so. Who asks for neither needs no certificate of
        the start.
        """
        history = self.history
        history.add(loss, grad)
        if self.plain and len(history.loss) == 1:
            self._tell(loss)
            return ""
        self.optimality, self.noise = self.geometry.measure(w, loss, grad)
        return self._shown(w, loss)

    def take(self, w: np.ndarray, loss: float, grad_norm: float, optimality: float, noise: float) -> str:
        """`note`, of an iterate that has been measured."""
        self.history.append(loss, grad_norm)
        self.optimality, self.noise = optimality, noise
        return self._shown(w, loss)

    def _shown(self, w: np.ndarray, loss: float) -> str:
        """Why the validation set or the callback end it, if they do."""
        self._tell(loss)
        if self.plain:
            return ""
        early = self._early(w)
        self._chosen = self._called(w, loss) or early
        return self._chosen

    def _tell(self, loss: float) -> None:
        if self.bar is not None:
            self.bar(self.n_iter, loss, self.optimality)

    def judge(self) -> None:
        """Say whether the last iterate has converged: also with tol = 0, if no gradient tells it from the optimum."""
        self.converged, _ = judge(max(self.tol, self.noise), self.optimality, self.noise)

    def outcome(
        self,
        w: np.ndarray,
        loss: float,
        reason: str,
        *,
        grad: np.ndarray | None = None,
        lr: float | None = None,
        gap_bound: float = float("nan"),
    ) -> Outcome:
        """What a solver returns that ended at the last iterate: with a validation set, the best one by that.

        Of a solver that gives the gradient, as to `see` and from a pass, the bound of the gap is the smaller of its own
        and, if F has a penalty, that by duality.
        """
        optimality, converged = self.optimality, self.converged
        if self.val_loss is not None and self.best_val_at < self.n_iter:
            self._chosen = f"the validation loss was least at iteration {self.best_val_at}, whose parameters these are"
            reason = f"{reason}; {self._chosen}"
            w, gap_bound, converged = self.best_val_w, float("nan"), False
            smooth, grad = self.objective.value_and_grad(w, out=np.empty(len(w)))
            loss = smooth + self.l1 * float(np.abs(w[: self.objective.n_features]).sum())
            optimality, _ = self.geometry.measure(w, loss, grad)
        if grad is not None:
            gap_bound = float(np.fmin(gap_bound, self._duality_gap(w, loss, grad)))
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

    def _duality_gap(self, w: np.ndarray, loss: float, grad: np.ndarray) -> float:
        """By how much F exceeds its minimum at most, at w as X's dtype holds it; NaN without a penalty.

        Loss and gradient are those of a pass, which computes in X's dtype and rounds w to it. Where the rounding of
        float32 leaves a bound that tells little, and with l1, one more is made in double.
        """
        objective, d = self.objective, self.objective.n_features
        if self.l1 == objective.l2 == 0:
            return float("nan")
        rows, double = [len(block.X) for block in objective.blocks], np.dtype(np.float64)
        held = np.append(w[:d].astype(objective.dtype), w[d:])
        count = int(np.count_nonzero(held[:d]))
        if self.l1 == 0 or objective.dtype == double:
            smooth = loss - self.l1 * float(np.abs(w[:d]).sum()) + 4 * float(np.finfo(double).eps) * loss
            if objective.dtype != double:   # the penalty alone is that of w as it is
                smooth += objective.l2 * float(held[:d] @ held[:d] - w[:d] @ w[:d])
                grad = np.append(grad[:d] + 2 * objective.l2 * (held[:d] - w[:d]), grad[d:])
            gap = duality_gap(self.geometry, held, smooth, grad, Rounding.of_pass(objective.dtype, rows, count))
            if objective.dtype == double or gap <= TELLS * loss:
                return gap
        smooth, grad = pass_in_double(objective, held)
        self.extra_passes += 1
        return duality_gap(self.geometry, held, smooth, grad, Rounding.of_pass(double, rows, count))

    def vanishes(self, w: np.ndarray, loss: float, grad: np.ndarray) -> bool:
        """Whether the loss is nothing but rounding, which may be any number of times that of the start."""
        return bool(np.isfinite(loss)) and self.geometry.measure(w, loss, grad) == (0.0, 0.0)

    def _measured(self, w: np.ndarray, loss: float, grad: np.ndarray) -> str:
        """Add an iterate to the history and say whether it has converged."""
        d = self.objective.n_features
        self.history.add(loss, np.append(shortest(w[:d], grad[:d], self.l1), grad[d:]))
        self.optimality, self.noise = self.geometry.measure(w, loss, grad)
        self.converged, reason = judge(self.tol, self.optimality, self.noise)
        return reason

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
        seen_before = self.keeper is not None and self.keeper.pending is not None
        if self.callback is None or seen_before:
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


def divergence(
    lr: float, limit: float, why: str, w: np.ndarray, loss: float, rule: str = "2/λmax"
) -> DivergenceError:
    return DivergenceError(
        f"gradient descent diverges with lr={lr:.6g}: {why}. It converges for lr below {rule} = {limit:.6g}; "
        f"lr={limit / 2:.6g} is safe, and so is lr='auto'",
        lr=lr,
        max_lr=limit,
        w=w,
        loss=loss,
    )
