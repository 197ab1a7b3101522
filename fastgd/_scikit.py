"""What the estimators need of scikit-learn, which is an extra and whose versions differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastgd import errors

try:
    from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
    from sklearn.exceptions import ConvergenceWarning as ScikitWarning
    from sklearn.metrics import r2_score
    from sklearn.model_selection import ShuffleSplit
    from sklearn.utils import check_random_state
    from sklearn.utils._param_validation import Interval, StrOptions
    from sklearn.utils.extmath import safe_sparse_dot
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"GDRegressor and SGDRegressor need scikit-learn 1.6 or newer ({error}): pip install 'fastgd[sklearn]'"
    ) from None

try:
    from sklearn import callback
except ImportError:     # before 1.9
    callback = None


class NoCallbacks:
    """In place of scikit-learn's mixin, where there is none."""


CallbackSupportMixin: Any = NoCallbacks if callback is None else callback.CallbackSupportMixin

__all__ = [
    "BaseEstimator",
    "CallbackSupportMixin",
    "ConvergenceWarning",
    "Interval",
    "RegressorMixin",
    "ShuffleSplit",
    "StrOptions",
    "Watch",
    "_fit_context",
    "check_is_fitted",
    "check_random_state",
    "r2_score",
    "refuse_masked",
    "safe_sparse_dot",
    "validate_data",
    "weights_of",
]


class ConvergenceWarning(errors.ConvergenceWarning, ScikitWarning):
    """A fit that ended without meeting its tolerance; scikit-learn's warning and fastgd's."""


class Watch:
    """The tasks of a fit as the callbacks of the estimator see them: the fit, and in it each iteration.

    A task begins where the one before has ended, so that the time between is its own. Only after it a fit may know that
    it was the last, so a fit that ends before `max_iter` has one task more, without attributes, as those of
    scikit-learn's LogisticRegression have. Of an estimator without callbacks, or with a scikit-learn that has none,
    nothing is done.

    Parameters
    ----------
    estimator : estimator
    X, y, sample_weight
        As the user gave them.
    max_iter : int, optional
        How many iterations there will be at most, if that is known.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, max_iter: int | None) -> None:
        self.context: Any = None
        self.task: Any = None
        self.max_iter = max_iter
        self.stopped = False
        if getattr(estimator, "_skl_callbacks", None):
            metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
            self.given = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
            self.context = estimator._init_callback_context(max_subtasks=max_iter)
            self.context.call_on_fit_task_begin(**self.given)
            self._begin(1, None)

    def _begin(self, iteration: int, attributes: Callable[[], dict[str, Any]] | None) -> None:
        self.task = self.context.subcontext(task_name=f"iteration {iteration}")
        self.task.call_on_fit_task_begin(**self.given, reconstruction_attributes=attributes)

    def iterated(self, iteration: int, attributes: Callable[[], dict[str, Any]]) -> bool:
        """Show that an iteration, counted from 1, is done, with the fitted attributes after it; whether to stop."""
        if self.context is None:
            return False
        task, self.task = self.task, None
        if task.call_on_fit_task_end(**self.given, reconstruction_attributes=attributes):
            self.stopped = True
        elif self.max_iter is None or iteration < self.max_iter:
            self._begin(iteration + 1, attributes)
        return self.stopped

    def end(self) -> None:
        """Show that the fit is done, whose attributes are those of the estimator."""
        if self.task is not None:
            self.task.call_on_fit_task_end(estimator=self.given["estimator"])
        if self.context is not None:
            self.context.call_on_fit_task_end(**self.given, reconstruction_attributes={})


def refuse_masked(**arrays: Any) -> None:
    """Raise TypeError for a masked array, whose mask scikit-learn would drop in silence."""
    for name, value in arrays.items():
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; fill or drop the masked entries first")


def weights_of(sample_weight: Any, X: Any) -> np.ndarray:
    """The weights of the rows of X, in its dtype.

    Raises
    ------
    ValueError
        If they do not fit X, are not finite or zero everywhere, which scikit-learn 1.6 lets pass.
    """
    weights: np.ndarray = _check_sample_weight(sample_weight, X, dtype=X.dtype)
    if not weights.any():
        raise ValueError("sample_weight is zero everywhere")
    return weights
