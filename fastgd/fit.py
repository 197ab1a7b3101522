"""Fits: data and options in, `FitResult` out."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np

from fastgd import _validation as validate
from fastgd._checkpoint import checkpoint_of
from fastgd._files import AnyPath
from fastgd._held_out import HeldOut
from fastgd._progress import bar
from fastgd._recorder import Recorder
from fastgd.errors import ConvergenceWarning
from fastgd.objective import MSE, ROUNDING, SecondMoments
from fastgd.result import FitResult, counted, side_by_side
from fastgd.solvers import SOLVERS, Choice, _penalised_moments, choose
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._monitor import History, Iterate, Monitor
from fastgd.solvers.moments import NormalEquations, loss_and_grad

__all__ = ["Moments", "fit"]

logger = logging.getLogger("fastgd")

#: What `tol=None` means for data computed in this dtype.
DEFAULT_TOL = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-8}

#: Of the options of `fit` that not every solver has a use for.
DEFAULTS = {option.name: option.default for option in fields(Options)}
#: Options that `solver="auto"` takes into account.
AUTO_USES = frozenset({"l1"})
SEARCHES = ("backtracking", "bb")    # of "gd" alone
STEP_RULES = ("auto", *SEARCHES)
SCHEDULES = ("auto", "constant", "invscaling", "adaptive")


def fit(
    X: Any,
    y: Any,
    *,
    solver: str = "auto",
    lr: float | str = "auto",
    max_iter: int = 1000,
    tol: float | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    fit_intercept: bool = True,
    sample_weight: Any = None,
    w0: Any = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    batch_size: int = 1,
    schedule: str = "auto",
    power_t: float = 0.25,
    average: bool = True,
    random_state: Any = None,
    X_val: Any = None,
    y_val: Any = None,
    patience: int = 10,
    callback: Callable[[Iterate], Any] | None = None,
    progress: bool = False,
    checkpoint: AnyPath | None = None,
    every: float = 30.0,
    resume: bool = False,
    keep_path: bool = False,
    n_threads: int | None = None,
) -> FitResult:
    """Fit a linear model by least squares: the w, b that minimise F(w, b).

    F(w, b) = sum_i s_i (x_i.w + b - y_i)^2 / sum_i s_i + l1 |w|_1 + l2 |w|^2.

    An option that the solver has no use for is refused, unless it is at its default.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features)
        float32 and float64 of any stride are read where they are; other real dtypes are converted piece by piece.
    y : array_like of shape (n_samples,) or (n_samples, n_targets)
        Columns of targets are fitted one by one; F is then the sum over the targets.
    solver : {"auto", "moments", "cg", "gd", "fista", "sgd", "saga"}, default "auto"
        "moments" solves exactly from the second moments, "cg" by conjugate gradients; "gd" is gradient descent;
        "fista" is accelerated proximal gradient descent, for l1; "sgd" is stochastic gradient descent, "saga" its
        variance-reduced form. "auto" takes "fista" if there is an l1, else the cheaper of "moments" and "cg", and tries
        "cg" first where moments would take long; `FitResult.explain` tells why. Where many coefficients fit equally
        well, "moments" gives the shortest, "cg" from zeros the shortest in standardised columns.
    lr : float or {"auto", "backtracking", "bb"}, default "auto"
        Of "gd", "sgd" and "saga", the step size: w <- w - lr * grad F(w). A number is the textbook's, in the columns as
        they are. Else the columns are standardised, without touching X (sparse ones are not centred by "sgd" and
        "saga"), and the step is found: "auto" is one that cannot diverge, of "gd" 1/λmax of the Hessian by standardised
        columns, of the others by the mean square length of a row; "backtracking" is Armijo's line search and "bb"
        Barzilai and Borwein's step, both for "gd" alone. The result's `lr` is the number that was used, in the columns
        in which it was: of a line search the last one, of a schedule that of the first epoch.
    max_iter : int, default 1000
        Iterations that a solver may make; "moments" has no need of it. An iteration is a step of "gd", with a pass over
        X unless the steps are found through the second moments; of "cg" a conjugate direction and its pass; of "fista"
        the minimum over the columns that matter, or a proximal step, and a pass; of "sgd" an epoch, of "saga" one to
        five, and the pass that finds the loss; of "moments" the solution and each correction, by a pass.
    tol : float, optional
        Bound on the result's `optimality` at which a fit has converged; by default 1e-8, or 1e-5 for float32 data. A
        fit also ends where nothing is to be gained: gradients at the level of their rounding, parameters or losses that
        have stopped changing. 0 means: make `max_iter` iterations, whatever they gain.
    l1, l2 : float, default 0.0
        Factors of |w|_1 and |w|^2; the intercept is not penalised. l1 needs "fista", "sgd", "saga" or "auto", l2 none
        in particular.
    fit_intercept : bool, default True
    sample_weight : array_like of shape (n_samples,), optional
        A weight of 0 is the same as the row's absence, 2 the same as its repetition.
    w0 : array_like of shape (n_features,) or (n_features + 1,), optional
        Where to start, the intercept last if it is given; by default zeros. With several targets, one column each.
    momentum : float, default 0.0
        Of "gd" and "sgd", below 1: v <- momentum * v - lr * grad F(w), w <- w + v (Polyak, 1964).
    nesterov : bool, default False
        Of "gd": the gradient is taken at w + momentum * v instead (Nesterov, 1983). A momentum of 0 then stands for one
        that grows, and starts anew when it leads uphill, which does as well as that which the condition number asks
        for.
    batch_size : int, default 1
        Rows in an update of "sgd".
    schedule : {"auto", "constant", "invscaling", "adaptive"}, default "auto"
        How "sgd" changes its step from epoch to epoch: "auto" halves it when two epochs in turn have hardly lowered the
        loss; with lr="auto" it falls within the first epoch, grows while the loss falls by more than noise explains,
        and then shrinks, and the parameters themselves are taken in place of their average. "invscaling" divides it by
        t**power_t in epoch t, "adaptive" by 5 whenever an epoch has not lowered the loss.
    power_t : float, default 0.25
        Of "invscaling".
    average : bool, default True
        Whether the parameters of "sgd" after an epoch are the average over what came before, the later epochs weighing
        more, or those of the last update.
    random_state : int, numpy.random.Generator or None, default None
        Of "sgd" and "saga": seeds the order of the rows. None is the same as 0, so that a fit can be repeated.
    X_val, y_val : array_like, optional
        A validation set: `history` then holds ``val_loss``, the mean squared error there, and the parameters with the
        least of them are returned.
    patience : int, default 10
        Iterations without a lower validation loss after which the fit ends.
    callback : callable, optional
        Called with an `Iterate` at the start and after each iteration, of one target after the other; a true result, or
        StopIteration, ends the fit of that target. For it or a validation set, iterates are made one by one, which
        "gd", "cg" and "fista" else need not do.
    progress : bool, default False
        Show a bar with iteration, loss, optimality and the time left, on stderr if that is a terminal, or in a
        notebook; needs rich, the extra ``cli``. It changes nothing of the fit, and where many iterates are found at
        once it jumps.
    checkpoint : str or path-like, optional
        A file that holds the state of a long fit, and in the end its result, so that a fit that was interrupted, killed
        or lost its machine goes on; needs safetensors, the extra ``io``. It is replaced as a whole: a kill at any
        moment leaves the last good one. "moments" has no state on the way and begins anew.
    every : float, default 30.0
        Seconds after which the state is written again, at an iteration's end.
    resume : bool, default False
        Go on from the checkpoint, if there is one: the result then has the bits that it would have had without the
        interruption, `history`'s ``seconds`` apart, or a warning says why not. A checkpoint of other data or options,
        another version or instruction set is refused, as is one without a callback or bar in a fit that has one,
        because that finds iterates in another way; so is one that is there without `resume`. The callback sees what
        comes after it.
    keep_path : bool, default False
        Keep the parameters of each iterate for `FitResult.plot` to draw. Iterates are then made one by one, and one
        pass more goes over X, in which (n_features + 1)^2 numbers are found. Of one target only.
    n_threads : int, optional
        Threads a pass may use; results have the same bits for any number.

    Returns
    -------
    FitResult

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, an array holds NaN or an infinity, or the solver has no use
        for an option that was given.
    OverflowError
        If squares of the data leave the range of float64.
    DivergenceError
        If the lr of "gd" is not below 2/λmax, or what takes its place with momentum, before the first step; or if the
        loss of a descent passes 10^3 times its start.
    FileExistsError
        If the checkpoint is there and `resume` is False.
    ImportError
        If a progress bar is asked for and rich is not installed, or a checkpoint and safetensors is not.
    OSError
        If the checkpoint cannot be read, or none can be written there.

    Warns
    -----
    ConvergenceWarning
        If the fit ended without having converged, unless `tol` is 0, or a callback or the validation set ended it.
    RuntimeWarning
        If a checkpoint could not be written, as where the disk is full, or comes from where sums are rounded in another
        way; the fit goes on.

    Examples
    --------
    >>> import numpy as np, fastgd as fg
    >>> r = fg.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> round(float(r.coef[0]), 12), round(r.intercept, 12)
    (2.0, 1.0)
    """
    given: dict[str, Any] = {
        "lr": step_size(lr),
        "l1": validate.as_number(l1, "l1", least=0),
        "momentum": validate.as_number(momentum, "momentum", least=0, below=1),
        "nesterov": validate.as_flag(nesterov, "nesterov"),
        "batch_size": validate.as_positive_integer(batch_size, "batch_size"),
        "schedule": validate.as_choice(schedule, "schedule", SCHEDULES),
        "power_t": validate.as_number(power_t, "power_t", least=0),
        "average": validate.as_flag(average, "average"),
        "random_state": validate.as_seed(random_state, "random_state"),
    }
    refuse_unused(validate.as_choice(solver, "solver", ("auto", *SOLVERS)), given)
    given["max_iter"] = validate.as_positive_integer(max_iter, "max_iter")
    tol = None if tol is None else validate.as_number(tol, "tol", least=0)
    patience = validate.as_positive_integer(patience, "patience")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of an Iterate, or None, got {callback!r}")
    every, resume = validate.as_number(every, "every", least=0), validate.as_flag(resume, "resume")
    names = validate.column_names(X)
    X = validate.as_matrix(X)
    columns = validate.as_targets(y, len(X))
    n_targets = None if columns is None else len(columns)
    if validate.as_flag(keep_path, "keep_path") and n_targets is not None:
        raise ValueError(f"keep_path=True needs y of shape (n_samples,), got {n_targets} columns of targets")
    starts = starts_from(w0, X.shape[1], validate.as_flag(fit_intercept, "fit_intercept"), n_targets)
    held_out = None
    if X_val is not None or y_val is not None:
        held_out = HeldOut(X_val, y_val, X.shape[1], n_targets, fit_intercept, n_threads)
    asked = {**given, "solver": solver, "tol": tol, "patience": patience}
    l2 = validate.as_number(l2, "l2", least=0)
    asked |= {"l2": l2, "fit_intercept": bool(fit_intercept), "keep_path": bool(keep_path)}
    keeper = None
    if checkpoint is not None or resume:
        facts = asked | {"callback": callback is not None}
        data = {"X": X, "y": y, "w0": starts, "sample_weight": sample_weight, "X_val": X_val, "y_val": y_val}
        keeper = checkpoint_of(checkpoint, every, resume, facts, data)
    fitted = [] if keeper is None else list(keeper.finished)
    given["shared"] = None if columns is None else {}
    with bar(validate.as_flag(progress, "progress"), given["max_iter"]) as show:
        recorder = Recorder(callback) if keep_path else None
        for place in range(len(fitted), len(starts)):
            target = y if columns is None else columns[place]
            objective = MSE(X, target, sample_weight, fit_intercept, l2, n_threads)
            options = Options(
                w0=starts[place], tol=DEFAULT_TOL[objective.dtype] if tol is None else tol, **given
            )
            monitor = Monitor(
                objective,
                options.tol,
                options.max_iter,
                l1=options.l1,
                val_loss=None if held_out is None else partial(held_out.loss, place),
                patience=patience,
                callback=recorder or callback,
                bar=show,
                keeper=keeper,
            )
            result, complaint = fit_target(objective, solver, options, monitor, names, asked)
            if recorder is not None:
                result = recorder.added_to(result, objective, options.l1)
            fitted.append((result, complaint))
            if keeper is not None:
                keeper.take(fitted, last=place + 1 == len(starts), alone=not given["shared"])
    for _, complaint in fitted:
        if complaint:
            warnings.warn(complaint, ConvergenceWarning, stacklevel=2)
    results = [result for result, _ in fitted]
    return results[0] if columns is None else side_by_side(results)


def fit_target(
    objective: MSE,
    solver: str,
    options: Options,
    monitor: Monitor,
    names: tuple[str, ...] | None,
    asked: dict[str, Any],
) -> tuple[FitResult, str]:
    """Fit one vector of targets: the result, and what is to be warned of, if anything."""
    may_try = monitor.plain and options.tol > 0 and options.shared is None
    choice = choose(objective, options.l1, may_try=may_try) if solver == "auto" else Choice(solver, "asked for")
    options = dataclasses.replace(options, trial=True) if choice.trial else options
    logger.debug("solver %s: %s", choice.solver, choice.reason)
    outcome = SOLVERS[choice.solver].solve(objective, options, monitor)
    tell(choice, outcome)
    complaint = ""
    if not outcome.converged and options.tol > 0 and not monitor.ended_by_choice:
        complaint = (
            f"the fit ended with optimality {outcome.optimality:.3g}, above tol={options.tol:g} "
            f"({choice.solver}: {outcome.stop_reason})"
        )
    columns = objective.n_features, objective.dtype, names
    return as_result(outcome, choice, monitor.history, columns, asked), complaint


def tell(choice: Choice, outcome: Outcome) -> None:
    """Tell who listens to the logger how a fit ended."""
    if logger.isEnabledFor(logging.INFO):
        counts = f"{counted(outcome.n_iter, 'iteration')}, {counted(outcome.n_passes, 'pass')} over X"
        logger.info(
            "%s: %s; %s, loss %.6g, optimality %.3g",
            choice.solver, outcome.stop_reason, counts, outcome.loss, outcome.optimality,
        )  # fmt: skip


def refuse_unused(solver: str, given: dict[str, Any]) -> None:
    """Raise ValueError for the first option that is not at its default and that the solver has no use for.

    Or for a rule for lr that is another solver's.
    """
    used = AUTO_USES if solver == "auto" else SOLVERS[solver].uses
    for name, value in given.items():
        if value != DEFAULTS[name] and name not in used:
            able = [repr(other) for other, method in SOLVERS.items() if name in method.uses]
            raise ValueError(f"solver={solver!r} has no use for {name}; it is for {', '.join(able) or 'no solver yet'}")
    if given["lr"] in SEARCHES and solver != "gd":
        raise ValueError(f"solver={solver!r} has no use for lr={given['lr']!r}; it is for 'gd'")


def step_size(lr: Any) -> float | str:
    """The step size as a number, or the name of the rule that finds it."""
    if isinstance(lr, str):
        if lr not in STEP_RULES:
            raise TypeError(f"lr must be a finite number above 0 or one of {', '.join(STEP_RULES)}, got {lr!r}")
        return lr
    return validate.as_number(lr, "lr", above=0)


def starts_from(w0: Any, n_features: int, fit_intercept: bool, n_targets: int | None) -> np.ndarray:
    """The first parameters as float64, a row for each target, an intercept of 0 added where none was given."""
    size = n_features + fit_intercept
    starts = np.zeros((n_targets or 1, size))
    if w0 is None:
        return starts
    given = validate.as_array(w0, "w0")
    shapes = {(length,) if n_targets is None else (length, n_targets) for length in (n_features, size)}
    if given.shape not in shapes:
        raise ValueError(f"w0 must have shape {' or '.join(map(str, sorted(shapes)))}, got {given.shape}")
    validate.refuse_nonfinite(w0=given)
    starts[:, : len(given)] = given.T
    return starts


def as_result(
    outcome: Outcome,
    choice: Choice,
    history: History,
    columns: tuple[int, np.dtype, tuple[str, ...] | None],
    asked: dict[str, Any],
) -> FitResult:
    """The result of a fit with these options to columns of this number, dtype, and names."""
    n_features, dtype, names = columns
    return FitResult(
        coef=outcome.w[:n_features].astype(dtype),
        intercept=float(outcome.w[n_features]) if len(outcome.w) > n_features else 0.0,
        loss=outcome.loss,
        n_iter=outcome.n_iter,
        n_passes=outcome.n_passes,
        converged=outcome.converged,
        stop_reason=outcome.stop_reason,
        solver=choice.solver,
        choice=choice.reason,
        lr=outcome.lr,
        optimality=outcome.optimality,
        gap_bound=outcome.gap_bound,
        history=history.arrays(),
        feature_names=names,
        options=asked,
    )


class Moments(SecondMoments):
    """Sufficient statistics of a least-squares fit: stream them in, merge those of parts, solve; exact.

    Holds XᵀX, Xᵀy, yᵀy, Σx, Σy and Σs of the rows seen, about a shift near their means so that large means lose
    nothing, in (n_features + 2)^2 doubles.

    Parameters
    ----------
    n_features : int
        Columns of X.
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

    def fit(self, *, l1: float = 0.0, l2: float = 0.0, fit_intercept: bool = True) -> FitResult:
        """The least-squares fit to all rows seen, without going back to them: lasso and elastic net included.

        It minimises F(w, b) = sum_i s_i (x_i.w + b - y_i)^2 / sum_i s_i + l1 |w|_1 + l2 |w|^2, whose quadratic part
        the moments hold. Without l1 it is solved at once. With it, columns are taken in as they want to enter, F is
        minimised over these by their products, and the gradient by all columns comes from the moments, until the
        duality gap is 1e-10 of F.

        The loss and the certificate are computed from the moments too. Columns far from zero lose nothing if an
        intercept is fitted; but of a loss that is the fraction f of the mean square of y about its mean, rounding hides
        about 1e-15 / f: with the data at hand, `fastgd.fit` refines the solution by exact residuals. With l1, the
        result's `gap_bound` counts that in. Of moments summed in float32 the fit has float32's precision, and where
        the columns are so nearly collinear, or the loss so small, that this says nothing of the solution, it warns.

        Parameters
        ----------
        l1, l2 : float, default 0.0
            Factors of |w|_1 and |w|^2; the intercept is not penalised.
        fit_intercept : bool, default True
            Whether the model has an intercept.

        Returns
        -------
        FitResult
            With solver "moments" and no pass over X. Its `history` has the start, at zeros, and each iteration; without
            l1 there is one.

        Raises
        ------
        TypeError, ValueError
            If no rows have been seen, or an argument has the wrong type or range.

        Warns
        -----
        ConvergenceWarning
            If moments summed in float32 are not exact enough; with l1 also if the fit ended for any other reason
            without having converged.
        """
        if not self.n_samples:
            raise ValueError("no rows yet: call update(X, y) first")
        l1 = validate.as_number(l1, "l1", least=0)
        l2 = validate.as_number(l2, "l2", least=0)
        fit_intercept = validate.as_flag(fit_intercept, "fit_intercept")
        history = History()
        if l1 > 0:
            outcome = self._penalised(l1, l2, fit_intercept, history)
        else:
            outcome = self._solved(l2, fit_intercept, history)
        choice = Choice("moments", "of moments alone")
        tell(choice, outcome)
        columns = self.n_features, np.dtype(np.float64), None
        return as_result(outcome, choice, history, columns, {"l1": l1, "l2": l2, "fit_intercept": fit_intercept})

    def _penalised(self, l1: float, l2: float, fit_intercept: bool, history: History) -> Outcome:
        """The fit with an l1 penalty."""
        outcome = _penalised_moments.solve(
            self, fit_intercept=fit_intercept, l1=l1, l2=l2, tol=DEFAULT_TOL[self._dtype], history=history
        )
        if not outcome.converged:
            complaint = f"the fit is not to be relied on: {outcome.stop_reason} (optimality {outcome.optimality:.3g})"
            warnings.warn(complaint, ConvergenceWarning, stacklevel=3)
        return outcome

    @property
    def _dtype(self) -> np.dtype:
        """The dtype whose precision the moments have."""
        exact = self.rounding <= ROUNDING[np.dtype(np.float64)]
        return np.dtype(np.float64 if exact else np.float32)

    def _solved(self, l2: float, fit_intercept: bool, history: History) -> Outcome:
        """The fit without one, by the normal equations."""
        dtype = self._dtype
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
            warnings.warn(f"the fit is not to be relied on: {reason}", ConvergenceWarning, stacklevel=3)
        return Outcome(
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
