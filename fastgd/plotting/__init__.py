"""Pictures of fits, after scikit-learn's conventions for displays.

`from_result` and `from_estimator` collect what is to be drawn and draw it; `plot` draws it again, on other axes. What
was drawn stands in attributes that end in an underscore. Needs matplotlib, the extra ``plot``, imported at first use.
"""

from fastgd.plotting._descent_path import DescentPathDisplay
from fastgd.plotting._fit import FitDisplay
from fastgd.plotting._loss_curve import LossCurveDisplay

__all__ = ["DescentPathDisplay", "FitDisplay", "LossCurveDisplay"]
