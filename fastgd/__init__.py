"""Gradient descent at the speed of memory, that cannot fail silently.

>>> import fastgd as fg
>>> r = fg.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])      # the optimum, nothing to tune
>>> g = fg.mse_grad([[1.0, 2.0]], [3.0], [0.0, 0.0])        # kernels: one pass over X
"""

from typing import TYPE_CHECKING, Any

try:
    from fastgd import _kernels, _proximal
except ImportError as error:
    raise ImportError(
        f"fastgd's compiled modules are missing or do not fit this Python ({error}): in a checkout, run "
        "`pip install .`, and import fastgd from another directory"
    ) from None

from fastgd._config import show_config
from fastgd._version import __version__
from fastgd.errors import ConvergenceWarning, DivergenceError
from fastgd.fit import Moments, fit
from fastgd.objective import MSE, mse, mse_grad, mse_value_and_grad
from fastgd.result import FitResult
from fastgd.solvers._monitor import Iterate

if TYPE_CHECKING:
    from fastgd.estimators import GDRegressor as GDRegressor
    from fastgd.estimators import SGDRegressor as SGDRegressor

__all__ = [
    "MSE",
    "ConvergenceWarning",
    "DivergenceError",
    "FitResult",
    "Iterate",
    "Moments",
    "__version__",
    "fit",
    "mse",
    "mse_grad",
    "mse_value_and_grad",
    "show_config",
]

#: What needs an extra, and is imported when it is first asked for; `from fastgd import *` goes without it.
LAZY = {"GDRegressor": "fastgd.estimators", "SGDRegressor": "fastgd.estimators"}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module 'fastgd' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *LAZY])
