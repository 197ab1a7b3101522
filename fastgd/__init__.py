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

from fastgd._config import show_config
from fastgd._version import __version__
from fastgd.errors import ConvergenceWarning, DivergenceError, NonFiniteError
from fastgd.fit import Moments, fit
from fastgd.minimize import minimize
from fastgd.objective import MSE, mse, mse_grad, mse_value_and_grad
from fastgd.result import FitResult
from fastgd.solvers._monitor import Iterate

__all__ = [
    "MSE",
    "ConvergenceWarning",
    "DivergenceError",
    "FitResult",
    "Iterate",
    "Moments",
    "NonFiniteError",
    "__version__",
    "fit",
    "minimize",
    "mse",
    "mse_grad",
    "mse_value_and_grad",
    "show_config",
]
