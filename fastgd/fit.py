"""Fits: data and options in, `FitResult` out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fastgd import _validation as validate
from fastgd.errors import ConvergenceWarning
from fastgd.objective import MSE, ROUNDING, SecondMoments
from fastgd.result import FitResult
from fastgd.solvers import SOLVERS, choose
from fastgd.solvers._interface import History, Options, Outcome
from fastgd.solvers.moments import NormalEquations, loss_and_grad

__all__ = ["Moments", "fit"]

#: What `tol=None` means for data computed in this dtype.
DEFAULT_TOL = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-8}


def fit(
    X: Any,
    y: Any,
    *,
    solver: str = "auto",
    lr: float | str = "auto",
    max_iter: int = 1000,
    tol: float | None = None,
    l2: float = 0.0,
    fit_intercept: bool = True,
    sample_weight: Any = None,
    w0: Any = None,
    n_threads: int | None = None,
) -> FitResult:
    """Fit a linear model by least squares: the w, b that minimise sum_i s_i (x_i.w + b - y_i)^2 / sum_i s_i + l2 |w|^2.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features)
        float32 and float64 of any stride are read where they are; other real dtypes are converted piece by piece.
    y : array_like of shape (n_samples,)
    solver : {"auto", "moments", "gd"}, default "auto"
        "moments" solves exactly from the second moments; "gd" is gradient descent with a fixed step; "auto" takes the
        cheaper one.
    lr : float or "auto", default "auto"
        Step size of "gd": w <- w - lr * grad F(w). "auto" is 1/λmax of F's Hessian. λmax takes some passes over X
        before the first step, also to refuse a step size that diverges.
    max_iter : int, default 1000
        Updates "gd" may make.
    tol : float, optional
        Bound on the result's `optimality` at which a fit has converged; by default 1e-8, or 1e-5 for float32 data. 0
        means: make `max_iter` updates.
    l2 : float, default 0.0
        Factor of |w|^2; the intercept is not penalised.
    fit_intercept : bool, default True
    sample_weight : array_like of shape (n_samples,), optional
        A weight of 0 is the same as the row's absence, 2 the same as its repetition.
    w0 : array_like of shape (n_features,) or (n_features + 1,), optional
        Where to start, the intercept last if it is given; by default zeros.
    n_threads : int, optional
        Threads a pass may use; results have the same bits for any number.

    Returns
    -------
    FitResult

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or an array holds NaN or an infinity.
    DivergenceError
        If lr is not below 2/λmax.

    Warns
    -----
    ConvergenceWarning
        If the fit ended without meeting `tol`, unless that is 0.

    Examples
    --------
    >>> import numpy as np, fastgd as fg
    >>> r = fg.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> round(float(r.coef[0]), 12), round(r.intercept, 12)
    (2.0, 1.0)
    """
    objective = MSE(X, y, sample_weight, fit_intercept, l2, n_threads)
    options = Options(
        tol=DEFAULT_TOL[objective.dtype] if tol is None else validate.as_number(tol, "tol", least=0),
        max_iter=validate.as_positive_integer(max_iter, "max_iter"),
        lr=step_size(lr),
        w0=start_from(w0, objective),
    )
    if solver not in (*SOLVERS, "auto"):
        raise ValueError(f"solver must be one of 'auto', {', '.join(map(repr, SOLVERS))}; got {solver!r}")
    name = choose(objective) if solver == "auto" else solver
    history = History()
    outcome = SOLVERS[name](objective, options, history)
    if not outcome.converged and options.tol > 0:
        warnings.warn(
            f"the fit ended with optimality {outcome.optimality:.3g}, above tol={options.tol:g} "
            f"({name}: {outcome.stop_reason})",
            ConvergenceWarning,
            stacklevel=2,
        )
    return as_result(outcome, name, history, objective.n_features, objective.dtype)


def step_size(lr: Any) -> float | None:
    """The step size as a number; None for "auto"."""
    if isinstance(lr, str):
        if lr != "auto":
            raise TypeError(f"lr must be a finite number above 0 or 'auto', got {lr!r}")
        return None
    return validate.as_number(lr, "lr", above=0)


def start_from(w0: Any, objective: MSE) -> np.ndarray:
    """The first parameters as float64, an intercept of 0 added where one is fitted and none was given."""
    size = objective.n_features + objective.fit_intercept
    if w0 is None:
        return np.zeros(size)
    given = validate.as_array(w0, "w0")
    shapes = {(objective.n_features,), (size,)}
    if given.shape not in shapes:
        raise ValueError(f"w0 must have shape {' or '.join(map(str, sorted(shapes)))}, got {given.shape}")
    validate.refuse_nonfinite(w0=given)
    w = np.zeros(size)
    w[: len(given)] = given
    return w


def as_result(outcome: Outcome, solver: str, history: History, n_features: int, dtype: np.dtype) -> FitResult:
    return FitResult(
        coef=outcome.w[:n_features].astype(dtype),
        intercept=float(outcome.w[n_features]) if len(outcome.w) > n_features else 0.0,
        loss=outcome.loss,
        n_iter=outcome.n_iter,
        n_passes=outcome.n_passes,
        converged=outcome.converged,
        stop_reason=outcome.stop_reason,
        solver=solver,
        lr=outcome.lr,
        optimality=outcome.optimality,
        gap_bound=outcome.gap_bound,
        history=history.arrays(),
    )


class Moments(SecondMoments):
    """Sufficient statistics of a least-squares fit: stream them in, merge those of parts, solve; exact.

    Holds XᵀX, Xᵀy, yᵀy, Σx, Σy and Σs of the rows seen, about a shift near their means so that large means lose
    nothing, in (n_features + 2)^2 doubles.

    Parameters
    ----------
    n_features : int
    n_threads : int, optional
        Threads an update may use; results have the same bits for any number.
    dtype : {None, float64}, default None
        In which products are summed within a few hundred rows; from there on it is float64. None is X's own: moments of
        float32 columns then have an error of some 1e-7 of the lengths of their columns, and take half the time.
        float64 leaves the rounding of float64 for float32 columns too. What squares beyond float32's range needs
        float64 and gets it. A fit from moments that are not exact enough for it does not call itself converged.

    Examples
    --------
    >>> import numpy as np, fastgd as fg
    >>> m = fg.Moments(1)
    >>> for start in range(0, 100, 10):
    ...     x = np.arange(start, start + 10.0)
    ...     _ = m.update(x[:, None], 2 * x + 1)
    >>> round(float(m.fit().coef[0]), 12)
    2.0
    """

    def fit(self, *, l2: float = 0.0, fit_intercept: bool = True) -> FitResult:
        """The least-squares fit to all rows seen, without going back to them.

        The loss and the certificate are computed from the moments too: with the data at hand, `fastgd.fit` refines
        the solution by exact residuals. Of moments summed in float32 it has float32's precision, and where the columns
        are so nearly collinear that this says nothing of the solution, it warns.

        Parameters
        ----------
        l2 : float, default 0.0
        fit_intercept : bool, default True

        Returns
        -------
        FitResult

        Raises
        ------
        ValueError
            If no rows have been seen.

        Warns
        -----
        ConvergenceWarning
            If moments summed in float32 are not exact enough.
        """
        if not self.n_samples:
            raise ValueError("no rows yet: call update(X, y) first")
        l2 = validate.as_number(l2, "l2", least=0)
        fit_intercept = validate.as_flag(fit_intercept, "fit_intercept")
        history = History()
        exact = self.rounding <= ROUNDING[np.dtype(np.float64)]
        dtype = np.dtype(np.float64 if exact else np.float32)
        equations = NormalEquations(self, fit_intercept=fit_intercept, l2=l2, dtype=dtype)
        start = np.zeros(self.n_features + fit_intercept)
        history.add(*loss_and_grad(self, start, fit_intercept, l2))
        w = coef = equations.solution()
        if fit_intercept:
            w = np.append(coef, equations.intercept(coef))
        loss, grad = loss_and_grad(self, w, fit_intercept, l2)
        history.add(loss, grad)
        optimality, noise = equations.geometry.measure(w, loss, grad)
        gain = equations.correction(grad)[2]
        reason = "solved exactly from the second moments"
        if equations.blurred:
            reason = "the columns are too nearly collinear for moments summed in float32; give Moments dtype=float64"
            warnings.warn(f"the fit is not to be relied on: {reason}", ConvergenceWarning, stacklevel=2)
        outcome = Outcome(
            w=w,
            loss=loss,
            optimality=optimality,
            gap_bound=equations.gap_bound(gain, loss, self, w),
            n_iter=1,
            converged=optimality <= max(DEFAULT_TOL[dtype], noise) and not equations.blurred,
            stop_reason=reason,
            lr=None,
            n_passes=0,
        )
        return as_result(outcome, "moments", history, self.n_features, np.dtype(np.float64))
