"""Gradient descent at the speed of memory, that cannot fail silently.

>>> import fastgd as fg
>>> r = fg.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])      # the optimum, nothing to tune
>>> g = fg.mse_grad([[1.0, 2.0]], [3.0], [0.0, 0.0])        # kernels: one pass over X
"""

import logging
from typing import TYPE_CHECKING, Any

try:
    from fastgd import _kernels, _proximal
except ImportError as error:
    raise ImportError(
        f"fastgd's compiled modules are missing or do not fit this Python ({error}): in a checkout, run "
        "`pip install .`, and import fastgd from another directory"
    ) from None

from fastgd import optim
from fastgd._config import show_config
from fastgd._version import __version__
from fastgd.errors import ConvergenceWarning, DivergenceError, NewerFormatError, NonFiniteError
from fastgd.fit import Moments, fit
from fastgd.io import load
from fastgd.minimize import minimize
from fastgd.objective import MSE, mse, mse_grad, mse_value_and_grad
from fastgd.result import FitResult
from fastgd.solvers._monitor import Iterate

if TYPE_CHECKING:
    from fastgd._explain import explain
    from fastgd.autodiff import check_grads, compile, derivative, grad, hessp, jacobian, value_and_grad  # noqa: A004
    from fastgd.estimators import GDRegressor as GDRegressor
    from fastgd.estimators import SGDRegressor as SGDRegressor
    from fastgd.plotting import DescentPathDisplay, LossCurveDisplay

#: What is imported at first use, and from where.
_LATER = dict.fromkeys(
    ("check_grads", "compile", "derivative", "grad", "hessp", "jacobian", "value_and_grad"),
    "fastgd.autodiff",
) | {"explain": "fastgd._explain", "GDRegressor": "fastgd.estimators", "SGDRegressor": "fastgd.estimators"}
_LATER |= dict.fromkeys(("DescentPathDisplay", "LossCurveDisplay"), "fastgd.plotting")

logging.getLogger("fastgd").addHandler(logging.NullHandler())     # says nothing unless it is asked to

__all__ = [
    "MSE",
    "ConvergenceWarning",
    "DescentPathDisplay",
    "DivergenceError",
    "FitResult",
    "Iterate",
    "LossCurveDisplay",
    "Moments",
    "NewerFormatError",
    "NonFiniteError",
    "__version__",
    "check_grads",
    "compile",
    "derivative",
    "explain",
    "fit",
    "grad",
    "hessp",
    "jacobian",
    "load",
    "minimize",
    "mse",
    "mse_grad",
    "mse_value_and_grad",
    "optim",
    "show_config",
    "value_and_grad",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'fastgd' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LATER})
