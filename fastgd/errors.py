"""The errors and warnings that are fastgd's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ConvergenceWarning", "DerivativeError", "DivergenceError", "NonFiniteError", "TraceError"]


class DivergenceError(ArithmeticError):
    """Descent that goes uphill: the step size is too large for this loss.

    Attributes
    ----------
    lr : float
        The step size that was used.
    max_lr : float
        A bound below which every step size is safe: of plain gradient descent 2/λmax; NaN where none is known.
    w : ndarray or None
        The best parameters seen, the intercept last if one is fitted.
    loss : float
        The loss at `w`; NaN where it was not computed.
    """

    def __init__(
        self,
        message: str,
        *,
        lr: float = float("nan"),
        max_lr: float = float("nan"),
        w: np.ndarray | None = None,
        loss: float = float("nan"),
    ) -> None:
        super().__init__(message)
        self.lr = lr
        self.max_lr = max_lr
        self.w = w
        self.loss = loss


class NonFiniteError(ArithmeticError):
    """A loss or its gradient that is NaN or infinite where the descent needs it.

    Attributes
    ----------
    x : object
        The parameters at which it is, laid out as the start was.
    iteration : int
        How many iterations were made before; 0 at the start.
    """

    def __init__(self, message: str, *, x: Any = None, iteration: int = 0) -> None:
        super().__init__(message)
        self.x = x
        self.iteration = iteration


class ConvergenceWarning(UserWarning):
    """A fit that ended without meeting its tolerance."""


class TraceError(TypeError):
    """A function cannot be traced: it keeps traced values, or branches on one where its trace is to be fixed."""


class DerivativeError(AssertionError):
    """A derivative is not the limit of difference quotients, as `fastgd.check_grads` found.

    Attributes
    ----------
    expected : float
        The difference quotient along a random direction.
    got : float
        The derivative along it.
    """

    def __init__(self, message: str, *, expected: float = float("nan"), got: float = float("nan")) -> None:
        super().__init__(message)
        self.expected = expected
        self.got = got
