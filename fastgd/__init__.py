"""Gradient descent at the speed of memory, that cannot fail silently.

>>> import fastgd as fg
>>> r = fg.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])      # the optimum, nothing to tune
>>> g = fg.mse_grad([[1.0, 2.0]], [3.0], [0.0, 0.0])        # kernels: one pass over X
"""

try:
    from fastgd import _kernels, _proximal
except ImportError as error:
    raise ImportError(
        f"fastgd's compiled modules are missing or do not fit this Python ({error}): in a checkout, run "
        "`pip install .`, and import fastgd from another directory"
    ) from None

import logging
from typing import TYPE_CHECKING, Any

from fastgd import optim
from fastgd._config import show_config
from fastgd._version import __version__
from fastgd.errors import ConvergenceWarning, DivergenceError
from fastgd.fit import Moments, fit
from fastgd.objective import MSE, mse, mse_grad, mse_value_and_grad
from fastgd.result import FitResult
from fastgd.solvers._monitor import Iterate

if TYPE_CHECKING:
    from fastgd.plotting import DescentPathDisplay, LossCurveDisplay

#: What is imported at first use, and from where.
_LATER = dict.fromkeys(("DescentPathDisplay", "LossCurveDisplay"), "fastgd.plotting")

logging.getLogger("fastgd").addHandler(logging.NullHandler())

__all__ = [
    "MSE",
    "ConvergenceWarning",
    "DescentPathDisplay",
    "DivergenceError",
    "FitResult",
    "Iterate",
    "LossCurveDisplay",
    "Moments",
    "__version__",
    "fit",
    "mse",
    "mse_grad",
    "mse_value_and_grad",
    "optim",
    "show_config",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'fastgd' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
