"""scikit-learn's Ridge by its Cholesky solver, with a penalty that changes no digit of the answer."""

from __future__ import annotations

import sklearn
from contest import Run
from problems import Data
from sklearn.linear_model import Ridge

VERSION = sklearn.__version__


def fit(data: Data) -> Run:
    X, y = data.X, data.y
    return Run(lambda: Ridge(alpha=1e-9, solver="cholesky").fit(X, y).coef_)


RUNS = {"fit": fit, "estimator: fit": fit}
