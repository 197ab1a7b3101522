"""All that a fit has to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgd.plotting import _look as look
from fastgd.plotting._descent_path import DescentPathDisplay
from fastgd.plotting._loss_curve import LossCurveDisplay
from fastgd.result import FitResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FitDisplay"]


class FitDisplay:
    """What `FitResult.plot` draws: the loss curve, and the path beside it if there is one.

    Parameters
    ----------
    loss_curve : LossCurveDisplay
        The losses.
    path : DescentPathDisplay, optional
        The way through two parameters; it is drawn beside the losses.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    axes_ : ndarray of matplotlib Axes
        One for each of the displays.
    """

    figure_: Figure
    axes_: np.ndarray

    def __init__(self, loss_curve: LossCurveDisplay, path: DescentPathDisplay | None = None) -> None:
        self.loss_curve = loss_curve
        self.path = path

    @classmethod
    def from_result(
        cls,
        result: FitResult,
        *,
        parameters: tuple[int | str, int | str] | None = None,
        feature_names: Sequence[str] | None = None,
        y_unit: str | None = None,
        ax: Any = None,
    ) -> FitDisplay:
        """Draw the losses of a fit, and its path if it has kept one of two parameters or two are named.

        Parameters
        ----------
        result : FitResult
            Of `fastgd.fit`.
        parameters, feature_names, y_unit, ax
            As for `FitResult.plot`.

        Returns
        -------
        FitDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            As for `FitResult.plot`.
        """
        if not isinstance(result, FitResult):
            raise TypeError(f"result must be a FitResult, got {type(result).__name__}")
        curve = LossCurveDisplay.collect(result, y_unit=y_unit)
        path = None
        if parameters is not None or (result.path is not None and len(result.path.w) == 2):
            path = DescentPathDisplay.collect(
                result, parameters=parameters, feature_names=feature_names, y_unit=y_unit
            )
        return cls(curve, path).plot(ax)

    def plot(self, ax: Any = None) -> FitDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes or a sequence of them, optional
            One for each picture; by default a new figure.

        Returns
        -------
        self : FitDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If the axes are none, or fewer or more than the pictures.
        """
        displays: list[Any] = [self.loss_curve] if self.path is None else [self.loss_curve, self.path]
        if ax is None:
            size = (6.4 * len(displays), 4.6)
            ax = look.pyplot().subplots(1, len(displays), figsize=size, layout="constrained", squeeze=False)[1]
        self.axes_ = np.ravel(np.asarray(ax, dtype=object))
        if len(self.axes_) != len(displays):
            raise ValueError(f"ax must be Axes for {len(displays)} pictures, got {len(self.axes_)}")
        if any(axes is None for axes in self.axes_):
            raise TypeError("ax must be matplotlib Axes for each picture, got None among them")
        for display, axes in zip(displays, self.axes_, strict=True):
            display.plot(axes)
        self.figure_ = self.axes_[0].figure
        return self
