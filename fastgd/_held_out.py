"""The loss on rows that a fit does not see."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgd import _validation as validate
from fastgd.objective import MSE

__all__ = ["HeldOut"]


class HeldOut:
    """A validation set and the mean squared error of parameters on it.

    Parameters
    ----------
    X, y : array_like
        As for `fit`: y has one column for each target, or is a vector where the targets of the fit are one.
    n_features : int
    n_targets : int or None
        None for a vector.
    fit_intercept : bool
    n_threads : int, optional

    Raises
    ------
    TypeError, ValueError
        If only one is given, or shapes do not match those of the fit.
    """

    def __init__(
        self, X: Any, y: Any, n_features: int, n_targets: int | None, fit_intercept: bool, n_threads: int | None
    ) -> None:
        if X is None or y is None:
            missing = "X_val" if X is None else "y_val"
            raise TypeError(f"{missing} must be given too: a validation set is both X_val and y_val")
        X = validate.as_matrix(X, "X_val", n_features)
        columns = validate.as_targets(y, len(X), "y_val")
        if (None if columns is None else len(columns)) != n_targets:
            wanted = "a vector" if n_targets is None else f"of shape ({len(X)}, {n_targets})"
            raise ValueError(f"y_val must be {wanted}, as y is, got shape {np.shape(y)}")
        targets = columns or [validate.as_vector(y, len(X), "y_val")]
        validate.refuse_nonfinite(X_val=X, y_val=validate.as_array(y, "y_val"))
        self.objectives = [MSE(X, target, None, fit_intercept, n_threads=n_threads) for target in targets]

    def loss(self, place: int, w: np.ndarray) -> float:
        """Of the target at this place, in units of y squared; the intercept is last in w if there is one."""
        return self.objectives[place].value(w)
