"""scikit-learn's SGDRegressor: one epoch over shuffled rows at a fixed step, without penalty and intercept.

And, for whole fits, its LinearRegression, its ElasticNet and its SGDRegressor.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import sklearn
from cases import ELASTIC_NET, SGD_EPOCHS
from contest import Run
from problems import Data
from sklearn.linear_model import ElasticNet, LinearRegression, SGDRegressor

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


def elastic_net(data: Data) -> Run:
    X, y = data.X, data.y
    return Run(lambda: ElasticNet(**ELASTIC_NET).fit(X, y).coef_)


def sgd_fit(data: Data, shuffle: bool) -> Run:
    X, y = data.X, data.y
    return Run(lambda: SGDRegressor(**SGD_EPOCHS, shuffle=shuffle, random_state=0).fit(X, y).coef_)


RUNS = {
    "fit": fit,
    "SGD epoch": sgd_epoch,
    "SGD epoch in stretches": sgd_epoch,
    "estimator: fit": fit,
    "estimator: elastic net": elastic_net,
    "estimator: SGD": partial(sgd_fit, shuffle=True),
    "estimator: SGD in order": partial(sgd_fit, shuffle=False),
}
