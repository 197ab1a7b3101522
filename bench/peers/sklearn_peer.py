"""scikit-learn's SGDRegressor: one epoch over shuffled rows at a fixed step, without penalty and intercept.

And its LinearRegression, for a whole fit.
"""

from __future__ import annotations

import numpy as np
import sklearn
from contest import Run
from problems import Data
from sklearn.linear_model import LinearRegression, SGDRegressor

VERSION = sklearn.__version__


def sgd_epoch(data: Data) -> Run:
    X, y = data.X, data.y
    settings = {
        "loss": "squared_error",
        "penalty": None,
        "fit_intercept": False,
        "learning_rate": "constant",
        "eta0": 2 * data.sgd_lr,  # its loss is half the square
        "random_state": 0,
    }
    return Run(lambda: np.asarray(SGDRegressor(**settings).partial_fit(X, y).coef_))


def fit(data: Data) -> Run:
    X, y = data.X, data.y
    return Run(lambda: LinearRegression().fit(X, y).coef_)


RUNS = {"fit": fit, "SGD epoch": sgd_epoch, "SGD epoch in stretches": sgd_epoch}
