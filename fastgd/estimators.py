"""scikit-learn estimators: linear regression by `fastgd.fit`, and by scikit-learn's own stochastic descent, faster.

>>> import fastgd as fg
>>> model = fg.GDRegressor().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
>>> model.predict([[3.0]]).round(9)
array([7.])

scikit-learn is an extra: ``pip install 'fastgd[sklearn]'``. `fastgd` imports this module when one of the estimators is
first asked for.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from fastgd import _validation as validate
from fastgd import errors
from fastgd._csr import CSR
from fastgd._plain_fit import Curves, Order, Stopping, block_of, expands, mean_loss, optimality, train, visits
from fastgd._plain_sgd import LOSSES, SCHEDULES, Descent
from fastgd._scikit import (
    BaseEstimator,
    CallbackSupportMixin,
    ConvergenceWarning,
    Interval,
    RegressorMixin,
    ShuffleSplit,
    StrOptions,
    Watch,
    _fit_context,
    check_is_fitted,
    check_random_state,
    r2_score,
    refuse_masked,
    safe_sparse_dot,
    validate_data,
    weights_of,
)
from fastgd.fit import SEARCHES, Moments, fit
from fastgd.result import FitResult, side_by_side
from fastgd.solvers import SOLVERS
from fastgd.solvers._monitor import Iterate

__all__ = ["GDRegressor", "SGDRegressor"]

logger = logging.getLogger("fastgd")

FLOATS = [np.float64, np.float32]
#: Seeds that are drawn are below this, as scikit-learn's.
MAX_SEED = np.iinfo(np.int32).max
#: Of which the validation takes longer than an epoch.
FEW_NUMBERS = 4096
#: By which the intercept's steps are multiplied for sparse rows, whose entries are seldom: as in scikit-learn.
SPARSE_INTERCEPT_STEP = 0.01


def textbook(alpha: float, l1_ratio: float) -> tuple[float, float]:
    """The (l1, l2) of F = L + l1 |w|_1 + l2 |w|^2, the objective of `fastgd.fit`, with the minimum of scikit-learn's.

    That is half of F: L / 2 + alpha (l1_ratio |w|_1 + (1 - l1_ratio) / 2 |w|^2).
    """
    return 2 * alpha * l1_ratio, alpha * (1 - l1_ratio)


def seed_of(random_state: Any) -> int:
    """A whole number is its own seed: to seed scikit-learn's generator takes as long as to fit hundreds of rows."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(MAX_SEED))


class LinearRegressor(CallbackSupportMixin, RegressorMixin, BaseEstimator):
    """What the two estimators share: how they predict, and what they say of themselves."""

    coef_: Any
    intercept_: Any

    def predict(self, X: Any) -> np.ndarray:
        """Predict with the linear model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A row for each sample.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            float32 if X and the coefficients are, else float64.
        """
        check_is_fitted(self, "coef_")      # which a fit that failed leaves without
        refuse_masked(X=X)
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
        return safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


# ---- the optimum -----------------------------------------------------------------------------------------------------


class GDRegressor(LinearRegressor):
    """Linear regression by least squares, with nothing to tune and a certificate: `fastgd.fit` for scikit-learn.

    Minimises sum_i s_i (x_i.w + b - y_i)^2 / (2 sum_i s_i) + alpha (l1_ratio |w|_1 + (1 - l1_ratio) / 2 |w|^2), the
    objective of ElasticNet. Columns need no scaling.

    Parameters
    ----------
    alpha : float, default 0.0
        Factor of the penalty; 0 is ordinary least squares.
    l1_ratio : float, default 0.0
        From 0, ridge, to 1, lasso.
    fit_intercept : bool, default True
        Whether the model has an intercept; it is not penalised.
    solver : {"auto", "moments", "cg", "gd", "fista", "sgd", "saga"}, default "auto"
        As for `fastgd.fit`.
    max_iter : int, default 1000
        Iterations that the solver may make.
    tol : float, optional
        Bound on `optimality_` at which a fit has converged; by default 1e-8, or 1e-5 for float32 data. 0 means: make
        `max_iter` iterations.
    lr : float or {"auto", "backtracking", "bb"}, default "auto"
        The step size of "gd", "sgd" and "saga", as for `fastgd.fit`: w <- w - lr grad F, with F twice the objective.
    warm_start : bool, default False
        Whether `fit` starts from the coefficients there are.
    random_state : int, RandomState or None, default None
        Of "sgd" and "saga": seeds the order of the rows.
    n_threads : int, optional
        Threads a pass may use; results have the same bits for any number.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        The coefficients, in units of y per unit of the column.
    intercept_ : float or ndarray of shape (n_targets,)
        The intercept; 0 without one.
    n_iter_ : int
        Iterations made.
    loss_curve_ : ndarray of shape (n_iter_ + 1,)
        The objective at the start and after each iteration; of several targets, the sum.
    optimality_ : float
        The scale-free gradient, 0 at the optimum: see `fastgd.FitResult`.
    gap_bound_ : float
        Upper bound of the objective's distance from its minimum; NaN where none is known.
    stop_reason_ : str
        Why the fit ended.
    solver_ : str
        Which method was used.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where X had names that are strings.

    See Also
    --------
    SGDRegressor : one row after the other, as scikit-learn's estimator of that name.
    fastgd.fit : the same with all options.

    Examples
    --------
    >>> import numpy as np, fastgd as fg
    >>> X = np.arange(20.0).reshape(10, 2) ** [1, 2]
    >>> model = fg.GDRegressor().fit(X, X @ [3.0, -1.0] + 2)
    >>> model.coef_.round(6), round(model.intercept_, 6)
    (array([ 3., -1.]), 2.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "lr": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto", *SEARCHES})],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        alpha: float = 0.0,
        *,
        l1_ratio: float = 0.0,
        fit_intercept: bool = True,
        solver: str = "auto",
        max_iter: int = 1000,
        tol: float | None = None,
        lr: float | str = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.lr = lr
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_threads = n_threads

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GDRegressor:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A row for each sample.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            The targets.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of 0 is the same as the row's absence, 2 the same as its repetition.

        Returns
        -------
        self : GDRegressor

        Raises
        ------
        ValueError, TypeError
            If an argument has the wrong type, shape or range, or the solver has no use for a parameter that was given.
        DivergenceError
            If `lr` is too large.

        Warns
        -----
        ConvergenceWarning
            If the fit ended without having converged; not if `tol` is 0 or a callback ended it.
        """
        given = X, y
        going_on = self.warm_start and hasattr(self, "coef_")
        X, y, weights = self._checked(X, y, sample_weight, reset=not going_on)
        targets = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        n_targets = 1 if targets.ndim == 1 else targets.shape[1]
        start = self._start(n_targets) if going_on else None
        bounded = self.solver not in ("auto", "moments")        # whose corrections are not counted against max_iter
        watch = Watch(self, *given, sample_weight, self.max_iter * n_targets if bounded else None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.ConvergenceWarning)     # as scikit-learn's, below
            result = fit(
                X, targets, sample_weight=weights, w0=start,
                callback=None if watch.context is None else Shown(watch, X, y), **options_of(self),
            )  # fmt: skip
        self._take(result, y.ndim == 2)
        if not result.converged and self.tol != 0 and not watch.stopped:
            warn_of(result)
        watch.end()
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> GDRegressor:
        """Take in more rows, in one pass, and fit all that came so far, exactly.

        The rows themselves are not kept, but their second moments, (n_features + 2)^2 numbers for each target. `fit`
        keeps none, so that after it this begins anew. There is no such method with an l1 penalty.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A row for each sample.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            The targets.
        sample_weight : array-like of shape (n_samples,), optional
            Of the rows; by default each counts once.

        Returns
        -------
        self : GDRegressor

        Warns
        -----
        UserWarning
            If what the model was fitted to before is forgotten, as after `fit`.
        ConvergenceWarning
            If the moments are not exact enough to tell the optimum.
        """
        first = not hasattr(self, "_moments")
        X, y, weights = self._checked(X, y, sample_weight, reset=first)
        if first and hasattr(self, "coef_"):
            message = "partial_fit begins anew: fit keeps no moments; give its rows again, if they are to count"
            warnings.warn(message, UserWarning, stacklevel=3)
        columns = y.T if y.ndim == 2 else [y]
        if first:
            self._moments = [Moments(X.shape[1], self.n_threads, dtype=np.float64) for _ in columns]
        if len(columns) != len(self._moments):
            raise ValueError(f"y has {len(columns)} targets, but before it had {len(self._moments)}")
        for one, column in zip(self._moments, columns, strict=True):
            one.update(X, np.ascontiguousarray(column), weights)
        l1, l2 = textbook(self.alpha, self.l1_ratio)
        moments = self._moments
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.ConvergenceWarning)
            results = [one.fit(l1=l1, l2=l2, fit_intercept=bool(self.fit_intercept)) for one in moments]
        result = results[0] if len(results) == 1 else side_by_side(results)
        self._take(result, y.ndim == 2)
        self._moments = moments
        if not result.converged:
            warn_of(result)
        return self

    def _checked(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """The data as `fastgd.fit` takes them."""
        refuse_masked(X=X, y=y, sample_weight=sample_weight)
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=FLOATS, multi_output=True, y_numeric=True, reset=reset
        )
        return X, y, None if sample_weight is None else weights_of(sample_weight, X)

    def _start(self, n_targets: int) -> np.ndarray:
        """The parameters there are, as `w0`."""
        w = np.atleast_2d(self.coef_).T.astype(np.float64)
        if w.shape[1] != n_targets:
            raise ValueError(f"warm_start needs as many targets as before, {w.shape[1]}, got {n_targets}")
        if self.fit_intercept:
            w = np.concatenate([w, np.reshape(self.intercept_, (1, -1))])
        return w[:, 0] if n_targets == 1 else w

    def _take(self, result: FitResult, as_columns: bool) -> None:
        """Make the result the fitted attributes; with a first axis of targets if y had columns."""
        self.coef_ = np.ascontiguousarray(result.coef.T)
        self.intercept_ = result.intercept
        if as_columns:
            self.coef_ = self.coef_.reshape(-1, len(result.coef))
            self.intercept_ = np.reshape(self.intercept_, -1).astype(self.coef_.dtype)
        self.n_iter_ = result.n_iter
        self.loss_curve_ = result.history["loss"] / 2
        self.optimality_ = result.optimality
        self.gap_bound_ = result.gap_bound / 2
        self.stop_reason_ = result.stop_reason
        self.solver_ = result.solver
        self.__dict__.pop("_moments", None)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def options_of(model: GDRegressor) -> dict[str, Any]:
    """The parameters of a model as options of `fastgd.fit`."""
    l1, l2 = textbook(model.alpha, model.l1_ratio)
    options = {
        "solver": model.solver, "lr": model.lr, "max_iter": int(model.max_iter), "tol": model.tol,
        "fit_intercept": bool(model.fit_intercept), "l1": l1, "l2": l2, "n_threads": model.n_threads,
    }  # fmt: skip
    if model.solver != "auto" and "random_state" in SOLVERS[model.solver].uses and model.random_state is not None:
        options["random_state"] = seed_of(model.random_state)
    return options


def warn_of(result: FitResult) -> None:
    """Warn of a fit that has not converged, at the line that called `fit`, through scikit-learn's decorator."""
    message = f"the fit ended with optimality {result.optimality:.3g} ({result.solver}: {result.stop_reason})"
    warnings.warn(message, ConvergenceWarning, stacklevel=4)


class Shown:
    """The iterates of `fastgd.fit`, of one target after the other, as the tasks of a scikit-learn fit."""

    def __init__(self, watch: Watch, X: Any, y: np.ndarray) -> None:
        self.watch, self.as_columns = watch, y.ndim == 2
        self.dtype = X.dtype
        n_targets = y.shape[1] if y.ndim == 2 else 1
        self.coef, self.intercept = np.zeros((n_targets, X.shape[1])), np.zeros(n_targets)
        self.target, self.count = -1, 0

    def __call__(self, iterate: Iterate) -> bool:
        """Show an iterate, other than the start of a target; whether to stop."""
        self.target += iterate.iteration == 0
        self.coef[self.target], self.intercept[self.target] = iterate.coef, iterate.intercept
        if iterate.iteration == 0:
            return self.watch.stopped
        self.count += 1
        return self.watch.iterated(self.count, self.attributes)

    def attributes(self) -> dict[str, Any]:
        """What a model needs to predict with the parameters there are so far."""
        coef = self.coef.astype(self.dtype)
        if self.as_columns:
            return {"coef_": coef, "intercept_": self.intercept.astype(self.dtype), "n_iter_": self.count}
        return {"coef_": coef[0], "intercept_": float(self.intercept[0]), "n_iter_": self.count}


# ---- one row after the other -----------------------------------------------------------------------------------------


class SGDRegressor(LinearRegressor):
    """Linear model fitted by stochastic gradient descent: scikit-learn's SGDRegressor, but faster.

    Minimises sum_i s_i loss(x_i.w + b, y_i) / sum_i s_i + alpha (l1_ratio |w|_1 + (1 - l1_ratio) / 2 |w|^2) by an
    update for each row. Every parameter has the name, meaning and default that it has there, and with `shuffle=False`
    the coefficients are the same to rounding.

    What differs, all of it for the better:

    - With `shuffle=True` the order of the rows is another one, and it does not depend on how the rows came. A row is
      visited as many times an epoch as its weight says, so that a weight of 2 is the row's repetition and 0 its absence
      (up to 8 visits a row on average; larger weights multiply the steps). With `shuffle=False` weights multiply the
      steps, and the sum of the losses is divided by the number of rows, as in scikit-learn.
    - Early stopping scores the parameters; scikit-learn leaves out the scale by which an l2 penalty has shrunk them.
    - `partial_fit` ignores `early_stopping`, which is the caller's there, instead of refusing it.
    - A warm start with `average` begins the average anew; scikit-learn adds the old one to the new sum.
    - float32 data is computed with in float64.
    - A fit that ends above the loss it began with, because the columns are far from standardised or `eta0` is too
      large, warns.

    All else is as in scikit-learn 1.8 and later, whichever version is installed: before, the loss without the penalty
    decided when a fit ends, and "pa1" and "pa2" knew no `eta0`. The negative `power_t` that is deprecated there is
    refused.

    Parameters
    ----------
    loss : {"squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"}, default "squared_error"
        Of r = x.w + b - y: r^2 / 2; the same up to |r| = epsilon and linear beyond; max(0, |r| - epsilon); its square.
    penalty : {"l2", "l1", "elasticnet", None}, default "l2"
    alpha : float, default 0.0001
        Factor of the penalty, and of the schedule "optimal".
    l1_ratio : float, default 0.15
        Share of l1 in "elasticnet".
    fit_intercept : bool, default True
        Whether the model has an intercept; it is not penalised.
    max_iter : int, default 1000
        Epochs that `fit` may make.
    tol : float or None, default 1e-3
        What an epoch must gain on the best mean objective so far, or on the validation score; None: nothing.
    shuffle : bool, default True
        Whether the rows come in a new random order each epoch.
    verbose : int, default 0
        Whether to print a few figures after each epoch.
    epsilon : float, default 0.1
        Of the losses.
    random_state : int, RandomState or None, default None
        Seeds the order of the rows and the choice of a validation set.
    learning_rate : {"invscaling", "constant", "optimal", "adaptive", "pa1", "pa2"}, default "invscaling"
        The step of update t: eta0 / t^power_t; eta0; 1 / (alpha (t0 + t)); eta0, divided by 5 whenever the fit would
        end; the two passive-aggressive steps, for "epsilon_insensitive" alone.
    eta0 : float, default 0.01
    power_t : float, default 0.25
        The exponent of "invscaling".
    early_stopping : bool, default False
        Whether to set rows aside and end by the score there.
    validation_fraction : float, default 0.1
        How many of them.
    n_iter_no_change : int, default 5
        Epochs without such a gain after which the fit ends.
    warm_start : bool, default False
        Whether `fit` goes on from the coefficients there are.
    average : bool or int, default False
        Whether `coef_` is the mean over all updates, or over those from this one on.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        The coefficients, in units of y per unit of the column.
    intercept_ : ndarray of shape (1,)
        The intercept; 0 without one.
    n_iter_ : int
        Epochs made.
    t_ : float
        1 and the number of rows seen.
    loss_curve_ : ndarray of shape (n_iter_,)
        The mean of the objective over each epoch, at the parameters as they were at each row.
    validation_scores_ : ndarray of shape (n_iter_,)
        With `early_stopping`, the score after each epoch.
    optimality_ : float
        The scale-free gradient of the objective, 0 at the optimum (see `fastgd.FitResult`); NaN after `partial_fit`.
    stop_reason_ : str
        Why the fit ended.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where X had names that are strings.

    See Also
    --------
    GDRegressor : the optimum, with nothing to tune.
    sklearn.linear_model.SGDRegressor : its documentation goes into more detail.

    References
    ----------
    L. Bottou, Stochastic gradient descent tricks, 2012.

    Examples
    --------
    >>> import numpy as np, fastgd as fg
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 2))
    >>> model = fg.SGDRegressor(random_state=0).fit(X, X @ [3.0, -1.0] + 2)
    >>> model.coef_.round(2)
    array([ 3., -1.])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "loss": [StrOptions(set(LOSSES))],
        "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
        "fit_intercept": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "shuffle": ["boolean"],
        "verbose": ["verbose"],
        "epsilon": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "average": [Interval(Integral, 0, None, closed="neither"), "boolean"],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float | None = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        random_state: Any = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool | int = False,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, coef_init: Any = None, intercept_init: Any = None, sample_weight: Any = None
    ) -> SGDRegressor:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A row for each sample.
        y : array-like of shape (n_samples,)
            The targets.
        coef_init : array-like of shape (n_features,), optional
            Where to start.
        intercept_init : array-like of shape (1,), optional
            The intercept to start from.
        sample_weight : array-like of shape (n_samples,), optional
            Of the rows; by default each counts once.

        Returns
        -------
        self : SGDRegressor

        Raises
        ------
        ValueError, TypeError
            If an argument has the wrong type, shape or range, parameters do not go together, or the descent overflows.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs were not enough for `tol`, or the loss at the end is above that of the start.
        """
        self._refuse_what_does_not_fit()
        going_on = self.warm_start and hasattr(self, "coef_")
        watch = Watch(self, X, y, sample_weight, self.max_iter)
        X, y, s = self._checked(X, y, sample_weight, reset=not going_on)
        if not going_on:
            self._forget()
        self.t_ = 1.0
        start = self._start(X.shape[1], coef_init, intercept_init)
        curves = self._descend(X, y, s, start, watch, int(self.max_iter), anew=True)
        self._judge(X, y, s, start)
        logger.info(
            "SGDRegressor: %s; %d epochs, objective %.6g in the last, optimality %.3g",
            curves.reason, curves.n_iter, curves.objective[-1], self.optimality_,
        )  # fmt: skip
        if self.tol is not None and curves.n_iter == self.max_iter and not watch.stopped:
            warnings.warn(
                "Maximum number of iteration reached before convergence. Consider increasing max_iter to improve the "
                "fit.",
                ConvergenceWarning,
                stacklevel=3,       # the line that called fit, through scikit-learn's decorator
            )
        watch.end()
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> SGDRegressor:
        """Make one epoch on these rows, all of them.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A row for each sample.
        y : array-like of shape (n_samples,)
            The targets.
        sample_weight : array-like of shape (n_samples,), optional
            Of the rows; by default each counts once.

        Returns
        -------
        self : SGDRegressor
        """
        self._refuse_what_does_not_fit()
        if sample_weight is None and self._is_ready(X, y):
            s = None
        else:
            X, y, s = self._checked(X, y, sample_weight, reset=not hasattr(self, "coef_"))
        self.t_ = getattr(self, "t_", 1.0)
        self._descend(X, y, s, self._start(X.shape[1]), Watch(None, X, y, None, 1), 1, anew=False)
        self.optimality_ = float("nan")
        return self

    def densify(self) -> SGDRegressor:
        """Make `coef_` a dense array again."""
        check_is_fitted(self, "coef_")
        if hasattr(self.coef_, "toarray"):
            self.coef_ = self.coef_.toarray().ravel()
        return self

    def sparsify(self) -> SGDRegressor:
        """Make `coef_` a sparse matrix, which takes less memory where most of it is zero."""
        check_is_fitted(self, "coef_")
        from scipy.sparse import csr_matrix

        self.coef_ = csr_matrix(self.coef_)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict with the linear model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A row for each sample.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return super().predict(X).ravel()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # A score of 0.5 on scikit-learn's example is not reached, by its own estimator neither: "optimal" begins with
        # steps far too long for a regression, and those of "huber" are at most eta0 epsilon |x| long.
        crawls = self.loss == "huber" and bool(self.average or self.penalty == "l1")
        tags.regressor_tags.poor_score = self.learning_rate == "optimal" or crawls
        return tags

    # ---- its parts ----

    def _refuse_what_does_not_fit(self) -> None:
        """Raise ValueError for parameters that do not go together, in scikit-learn's words."""
        if self.learning_rate == "optimal" and self.alpha == 0:
            raise ValueError(
                "alpha must be > 0 since learning_rate is 'optimal'. alpha is used to compute the optimal learning "
                "rate."
            )
        if self.learning_rate in ("pa1", "pa2") and self.loss != "epsilon_insensitive":
            raise ValueError(f"Learning rate '{self.learning_rate}' only works with loss 'epsilon_insensitive'.")
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise ValueError("l1_ratio must be set when penalty is 'elasticnet'")

    def _checked(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """The data as the descent takes them; sparse rows as scikit-learn has them, for `CSR` to be made of."""
        refuse_masked(X=X, y=y, sample_weight=sample_weight)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=FLOATS, y_numeric=True, reset=reset)
        weights = None if sample_weight is None else weights_of(sample_weight, X)
        return X, y.astype(X.dtype, copy=False), weights

    def _is_ready(self, X: Any, y: Any) -> bool:
        """Whether these are a few rows that scikit-learn's validation would find nothing wrong with, nor change.

        It takes longer than all the rest, where rows come one by one.
        """
        return (
            type(X) is type(y) is np.ndarray
            and X.dtype == y.dtype
            and X.dtype in FLOATS
            and X.dtype.isnative
            and (X.ndim, y.ndim) == (2, 1)
            and 0 < X.size <= FEW_NUMBERS
            and len(X) == len(y)
            and X.shape[1] == getattr(self, "n_features_in_", -1)
            and not hasattr(self, "feature_names_in_")
            and bool(np.isfinite(X).all() and np.isfinite(y).all())
        )

    def _forget(self) -> None:
        for name in ("coef_", "intercept_", "_last", "_mean", "validation_scores_"):
            self.__dict__.pop(name, None)

    def _start(self, n_features: int, coef_init: Any = None, intercept_init: Any = None) -> tuple[np.ndarray, float]:
        """The first coefficients and intercept: those given, those of the last update, or zeros."""
        coef, intercept = np.zeros(n_features), 0.0
        if hasattr(self, "coef_"):
            self.densify()
            coef, intercept = self.coef_, self.intercept_[0]
            if self.average and hasattr(self, "_last"):
                coef, intercept = self._last
        if coef_init is not None:
            coef = np.asarray(coef_init, np.float64).ravel()
            if coef.shape != (n_features,):
                raise ValueError("Provided coef_init does not match dataset.")
        if intercept_init is not None:
            values = np.asarray(intercept_init, np.float64)
            if values.shape not in ((1,), ()):
                raise ValueError("Provided intercept_init does not match dataset.")
            intercept = values.item()
        return coef, float(intercept)

    def _l1_share(self) -> float:
        """Of the penalty, that of l1."""
        return {"l1": 1.0, "elasticnet": self.l1_ratio}.get(self.penalty or "", 0.0) or 0.0

    def _new_descent(
        self, start: tuple[np.ndarray, float], X: np.ndarray | CSR, s: np.ndarray | None, mean_weight: float, anew: bool
    ) -> Descent:
        strict, intercept_step = False, SPARSE_INTERCEPT_STEP      # sparse rows are always taken in scikit-learn's way
        if not isinstance(X, CSR):
            rate = self.learning_rate, self.eta0, self.power_t
            strict = not self.shuffle and expands(X, s, self.loss, rate, self.t_)
            intercept_step = 1.0
        return Descent(
            *start, loss=self.loss, schedule=self.learning_rate, epsilon=self.epsilon, eta=self.eta0,
            power_t=self.power_t, alpha=self.alpha * mean_weight if self.penalty else 0.0, l1_ratio=self._l1_share(),
            step_alpha=self.alpha, intercept_step=intercept_step * bool(self.fit_intercept),
            average=int(self.average), t=self.t_, mean=None if anew else getattr(self, "_mean", None),
            strict=strict,
        )  # fmt: skip

    def _descend(
        self,
        X: Any,
        y: np.ndarray,
        s: np.ndarray | None,
        start: tuple[np.ndarray, float],
        watch: Watch,
        max_iter: int,
        *,
        anew: bool,
    ) -> Curves:
        """Make epochs, and the fitted attributes of what they lead to."""
        rows = validate.as_matrix(X)
        block, order, mean_weight = block_of(rows, y, s), np.arange(len(rows)), 1.0
        if self.shuffle and not (s is None and len(rows) == 1):
            order, s = visits(block, s)
            block = block_of(rows, y, s)
            mean_weight = 1.0 if s is None else float(s[order].mean())      # the penalty's, too, is then the visits'
        score = None
        if self.early_stopping and anew:
            order, score = self._set_aside(order, X, y, s)
        shuffles = self.shuffle and len(order) > 1
        seed = seed_of(self.random_state) if shuffles else None
        descent = self._new_descent(start, rows, s, mean_weight, anew)
        stopping = Stopping(self.tol, self.n_iter_no_change, self.learning_rate == "adaptive")

        def seen(curves: Curves) -> bool:
            if self.verbose:
                report(curves, descent)
            n_iter = curves.n_iter
            return watch.iterated(n_iter, lambda: self._parameters(descent, X.dtype) | {"n_iter_": n_iter})

        curves = train(descent, block, Order(order, seed), stopping, max_iter, score, seen)
        self.__dict__.update(self._parameters(descent, X.dtype))
        self._last = descent.coef, descent.intercept
        self._mean = descent.average if descent.n_averaged else None
        self.n_iter_ = curves.n_iter
        self.t_ += curves.n_iter * len(rows)
        self.loss_curve_ = np.array(curves.objective)
        if score is not None:
            self.validation_scores_ = np.array(curves.score)
        self.stop_reason_ = curves.reason
        return curves

    def _parameters(self, descent: Descent, dtype: np.dtype) -> dict[str, Any]:
        """The averaged parameters, if there are any, else the last ones, as fitted attributes."""
        coef, intercept = descent.average if descent.n_averaged else (descent.coef, descent.intercept)
        return {"coef_": coef.astype(dtype), "intercept_": np.array([intercept], dtype)}

    def _set_aside(
        self, order: np.ndarray, X: Any, y: np.ndarray, s: np.ndarray | None
    ) -> tuple[np.ndarray, Callable[[np.ndarray, float], float]]:
        """What is left of the order without a validation set, and the score on that."""
        split = ShuffleSplit(test_size=self.validation_fraction, random_state=self.random_state)
        left, aside = next(split.split(np.zeros((len(order), 1))))
        rows = order[np.sort(aside)]
        weights = None if s is None else s[rows]
        if weights is not None and not weights.any():
            raise ValueError(
                "The sample weights for validation set are all zero, consider using a different random state."
            )
        X_val, y_val = X[rows], y[rows]

        def score(coef: np.ndarray, intercept: float) -> float:
            prediction = safe_sparse_dot(X_val, coef, dense_output=True) + intercept
            return float(r2_score(y_val, prediction, sample_weight=weights))

        return order[np.sort(left)], score

    def _judge(self, X: Any, y: np.ndarray, s: np.ndarray | None, start: tuple[np.ndarray, float]) -> None:
        """Find how near the optimum the fit has come, and warn if it went uphill."""
        alpha = self.alpha if self.penalty else 0.0
        if s is not None and not self.shuffle:
            alpha *= len(s) / s.sum(dtype=np.float64)
        l1, l2 = textbook(alpha, self._l1_share())
        rows, objective, target = validate.as_matrix(X), [], y
        for coef, intercept in (start, (self.coef_, self.intercept_[0])):
            w = np.append(coef, intercept).astype(np.float64)
            loss, target = mean_loss(rows, y, s, w, self.loss, self.epsilon)
            with np.errstate(over="ignore"):
                objective.append(loss + (l1 * np.abs(w[:-1]).sum() + l2 * w[:-1] @ w[:-1]) / 2)
        self.optimality_ = optimality(rows, target, s, w, fit_intercept=bool(self.fit_intercept), l1=l1, l2=l2)
        if not objective[1] <= objective[0]:
            warnings.warn(
                f"the descent went uphill, from an objective of {objective[0]:.3g} to {objective[1]:.3g}: scale the "
                "columns (StandardScaler), lower eta0, or take GDRegressor",
                ConvergenceWarning,
                stacklevel=4,
            )


def report(curves: Curves, descent: Descent) -> None:
    """Print what scikit-learn prints after an epoch."""
    coef = descent.coef
    validation = f", Validation score: {curves.score[-1]:f}" if curves.score else ""
    print(f"-- Epoch {curves.n_iter}")
    print(
        f"Norm: {np.linalg.norm(coef):.2f}, NNZs: {np.count_nonzero(coef)}, Bias: {descent.intercept:.6f}, "
        f"T: {descent.t - 1:.0f}, Avg. loss: {curves.loss[-1]:f}, Objective: {curves.objective[-1]:f}{validation}"
    )
