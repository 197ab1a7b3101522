"""Pictures of fits, after scikit-learn's conventions for displays.

`from_result` and `from_estimator` collect what is to be drawn and draw it; `plot` draws it again, on other axes. What
was drawn stands in attributes that end in an underscore. Needs matplotlib, the extra ``plot``, imported at first use.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgd import _validation as validate
from fastgd._path import DescentPath
from fastgd.fit import fit
from fastgd.result import FitResult, counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["DescentPathDisplay", "FitDisplay", "LossCurveDisplay"]

#: Losses whose largest is as many times the least are drawn on a logarithmic scale.
DECADES = 100.0
#: Iterates up to this number have a marker each.
FEW = 100
#: Points along each axis of a contour plot, its rings, and the room about a path as a share of its extent.
GRID, RINGS, ROOM = 121, 14, 0.1
#: Losses that differ by less than this share of them differ by rounding.
FLAT = 1e-13
#: As far, as a share of the path's extent, the bowl is shown on all sides of the optimum.
AROUND = 0.25
#: Of the two axes of a contour plot the shorter shows at least this share of the loss that the longer shows.
LEAST_SHARE = 0.3
#: What a legend takes of the axes, about, and where its middle may be.
LEGEND = (0.46, 0.34)
PLACES = {
    f"{row} {column}": (x, y)
    for row, y in (("upper", 1 - LEGEND[1] / 2), ("lower", LEGEND[1] / 2))
    for column, x in (("right", 1 - LEGEND[0] / 2), ("left", LEGEND[0] / 2), ("center", 0.5))
}
#: Axes whose extents differ by less than this have one unit length, so that gradients cross contours at right angles.
SQUARE = 2.5
#: Colours after Okabe and Ito, which all eyes tell apart.
VERMILION, DARK, GREY = "#D55E00", "#222222", "#666666"


def pyplot() -> Any:
    """matplotlib.pyplot.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'fastgd[plot]'") from None
    return pyplot


def axes_for(ax: Axes | None, height: float = 4.4) -> Axes:
    """The axes, or those of a new figure of this height in inches."""
    plt = pyplot()
    if ax is None:
        return plt.subplots(figsize=(6.4, height), layout="constrained")[1]
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes or None, got {type(ax).__name__}")
    return ax


def styled(given: dict[str, Any], **default: Any) -> dict[str, Any]:
    """The style of a line, what was given in place of the default, under whichever of its names."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return default | normalize_kwargs(given, Line2D)


def plain(text: str) -> str:
    """Text in which a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def squared(unit: str | None) -> str:
    """The unit of a loss, in brackets."""
    if unit is None:
        return " [units of y²]"
    if not isinstance(unit, str):
        raise TypeError(f"y_unit must be a string or None, got {unit!r}")
    return plain(f" [{unit}²]" if unit.isalpha() else f" [({unit})²]")


def spans_decades(values: np.ndarray) -> bool:
    """Whether values above 0 span two decades or more; zeros, which a logarithmic scale lacks, do not count."""
    above = values[values > 0]
    return bool(len(above) and above.max() >= DECADES * above.min())


def step_of(solver: str) -> str:
    """What an iteration of the solver is called."""
    return "epoch" if solver == "sgd" else "iteration"


def once(ax: Axes, label: str) -> str:
    """The label for a legend, or none if it is there already."""
    return "_nolegend_" if label in ax.get_legend_handles_labels()[1] else label


def plain_marker(handle: Any) -> bool:
    """Whether a legend's handle is a marker without a line."""
    return hasattr(handle, "get_linestyle") and handle.get_linestyle() == "None"


def in_figures(value: float) -> str:
    """A number to five digits, with commas between thousands."""
    return f"{value:,.5g}"


# ---- the loss curve --------------------------------------------------------------------------------------------------


class LossCurveDisplay:
    """The loss against the iteration, or against time.

    Parameters
    ----------
    loss : array_like of shape (n,)
    iteration, seconds, val_loss : array_like of shape (n,), optional
        Of each loss; iterations are by default counted from 0.
    optimum : float, optional
        The least loss, if it is known from elsewhere. Losses are then drawn above it.
    least : float, optional
        What no loss can be below, drawn as a line where losses are not drawn above the optimum.
    converged : bool, default False
        Whether the last loss is marked as the optimum.
    ended : str, default ""
        Why the descent ended.
    name : str, optional
        Of the curve, in the legend.
    loss_name, unit, step : str
        Names of the loss, of its unit in brackets, and of an iteration.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        The losses.
    val_line_ : matplotlib Line2D or None
        Those on the validation set.
    start_, end_ : matplotlib Line2D
        The markers of the first and last loss; with a validation set, the second is on that of least validation loss.
    least_ : matplotlib Line2D or None
        The line that no loss can be below.

    See Also
    --------
    DescentPathDisplay : the parameters, over the contours of the loss.

    Examples
    --------
    >>> import fastgd as fg
    >>> r = fg.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.5], solver="gd", lr=0.1)
    >>> display = fg.LossCurveDisplay.from_result(r, y_unit="min")  # doctest: +SKIP
    >>> display.figure_.savefig("loss.png")                         # doctest: +SKIP
    """

    ax_: Axes
    figure_: Figure
    line_: Line2D
    val_line_: Line2D | None
    start_: Line2D
    end_: Line2D
    least_: Line2D | None

    def __init__(
        self,
        loss: Any,
        *,
        iteration: Any = None,
        seconds: Any = None,
        val_loss: Any = None,
        optimum: float | None = None,
        least: float | None = None,
        converged: bool = False,
        ended: str = "",
        name: str | None = None,
        loss_name: str = "loss",
        unit: str = "",
        step: str = "iteration",
    ) -> None:
        self.loss = np.asarray(loss, np.float64)
        if self.loss.ndim != 1 or not len(self.loss):
            raise ValueError(f"loss must have shape (n,) with n above 0, got {self.loss.shape}")
        self.iteration = np.arange(len(self.loss)) if iteration is None else np.asarray(iteration)
        self.seconds = None if seconds is None else np.asarray(seconds, np.float64)
        self.val_loss = None if val_loss is None else np.asarray(val_loss, np.float64)
        for what in ("iteration", "seconds", "val_loss"):
            values = getattr(self, what)
            if values is not None and values.shape != self.loss.shape:
                raise ValueError(f"{what} must have the shape of loss, {self.loss.shape}, got {values.shape}")
        self.optimum = None if optimum is None else validate.as_number(optimum, "optimum")
        self.least = least
        self.converged = converged
        self.ended = ended
        self.name = name
        self.loss_name = loss_name
        self.unit = unit
        self.step = step

    @classmethod
    def collect(
        cls, result: Any, *, optimum: float | None = None, name: str | None = None, y_unit: str | None = None
    ) -> LossCurveDisplay:
        """`from_result`, without drawing."""
        unit = squared(y_unit)
        history = getattr(result, "history", None)
        if not history or not len(history.get("loss", ())):
            raise ValueError(
                f"a loss curve needs result.history['loss'], which this {type(result).__name__} has not; "
                "a result of fastgd.fit has it"
            )
        fitted = isinstance(result, FitResult)
        n_targets = result.coef.shape[1] if fitted and result.coef.ndim == 2 else 1
        solver = result.solver if fitted else getattr(result, "method", "")
        return cls(
            history["loss"],
            iteration=history.get("iteration"),
            seconds=history.get("seconds"),
            val_loss=history.get("val_loss"),
            optimum=optimum,
            least=result.loss - result.gap_bound if fitted and np.isfinite(result.gap_bound) else None,
            converged=bool(result.converged if fitted else getattr(result, "success", False)),
            ended=result.stop_reason if fitted else str(getattr(result, "message", "")),
            name=solver if name is None else name,
            loss_name="loss" if n_targets == 1 else f"loss, sum over {n_targets} targets",
            unit=unit if fitted else "",
            step=step_of(solver),
        )

    @classmethod
    def from_result(
        cls,
        result: Any,
        *,
        optimum: float | None = None,
        name: str | None = None,
        y_unit: str | None = None,
        ax: Axes | None = None,
        x: str = "iteration",
        scale: str = "auto",
        **line_kw: Any,
    ) -> LossCurveDisplay:
        """Draw the losses that a fit went through.

        Parameters
        ----------
        result : FitResult
            Or what `fastgd.minimize` returns.
        optimum : float, optional
            The least loss, such as that of an exact fit. Losses are then drawn above it.
        name : str, optional
            Of the curve; by default the solver's.
        y_unit : str, optional
            The unit of y, such as "min": losses are in its square.
        ax, x, scale, **line_kw
            As for `plot`.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If the result has no history, or an argument is of the wrong kind.
        """
        return cls.collect(result, optimum=optimum, name=name, y_unit=y_unit).plot(ax, x=x, scale=scale, **line_kw)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        optimum: float | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        scale: str = "auto",
        **line_kw: Any,
    ) -> LossCurveDisplay:
        """Draw the `loss_curve_` of a fitted estimator, or of the last step of a fitted pipeline.

        Parameters
        ----------
        estimator : GDRegressor, SGDRegressor or another with `loss_curve_` and `n_iter_`
        optimum : float, optional
            The least objective. Objectives are then drawn above it.
        name : str, optional
            Of the curve; by default the estimator's class.
        ax, scale, **line_kw
            As for `plot`.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the estimator has no `loss_curve_`.
        """
        model = estimator[-1] if hasattr(estimator, "steps") else estimator
        name = type(model).__name__ if name is None else name
        curve = getattr(model, "loss_curve_", None)
        if curve is None:
            raise ValueError(f"{type(model).__name__} has no loss_curve_: fit it first")
        reason = getattr(model, "stop_reason_", "")
        first = max(int(model.n_iter_) + 1 - len(curve), 0)     # 0 if the curve has the start, which epochs have not
        display = cls(
            curve, iteration=np.arange(first, first + len(curve)), optimum=optimum, ended=reason, name=name,
            loss_name="objective", step="epoch" if first else "iteration",
        )  # fmt: skip
        return display.plot(ax, scale=scale, **line_kw)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        x: str = "iteration",
        scale: str = "auto",
        **line_kw: Any,
    ) -> LossCurveDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.
        name : str, optional
            Of the curve, in place of its own.
        x : {"iteration", "seconds"}, default "iteration"
        scale : {"auto", "log", "linear"}, default "auto"
            Of the losses: "auto" is logarithmic where they span two decades.
        **line_kw
            For `matplotlib.axes.Axes.plot`, of the losses.

        Returns
        -------
        self : LossCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If an argument is of the wrong kind, or there are no seconds.
        """
        validate.as_choice(scale, "scale", ("auto", "log", "linear"))
        if validate.as_choice(x, "x", ("iteration", "seconds")) == "seconds" and self.seconds is None:
            raise ValueError("x='seconds' needs the seconds of each loss, which are not known; x='iteration' does not")
        self.ax_ = ax = axes_for(ax)
        self.figure_ = ax.figure
        above = self.optimum or 0.0
        shown = self.loss - above
        along = self.iteration if x == "iteration" else np.asarray(self.seconds)
        marker = "." if len(shown) <= FEW else ""
        style = styled(line_kw, linewidth=2.0, marker=marker, label=plain(name or self.name or self.loss_name))
        (self.line_,) = ax.plot(along, shown, **style)
        self._validated(ax, along, above)
        self._marked(ax, along, shown)
        self._bounded(ax)
        self._scaled(ax, scale == "log" or (scale == "auto" and spans_decades(shown)))
        self._labelled(ax, x)
        return self

    def _validated(self, ax: Axes, along: np.ndarray, above: float) -> None:
        """Draw the losses on the validation set."""
        self.val_line_ = None
        if self.val_loss is not None:
            style = {"linewidth": 2.0, "linestyle": "--", "label": once(ax, "on the validation set")}
            (self.val_line_,) = ax.plot(along, self.val_loss - above, **style)

    def _marked(self, ax: Axes, along: np.ndarray, shown: np.ndarray) -> None:
        """Mark the start, and the end or the parameters that were returned."""
        color = self.line_.get_color()
        style: dict[str, Any] = {"color": color, "linestyle": "", "zorder": 4}
        hollow = {"marker": "o", "markersize": 8, "markerfacecolor": "white", "markeredgewidth": 2}
        first = int(self.iteration[0])
        label = "start" if first == 0 else f"after {counted(first, self.step)}"
        (self.start_,) = ax.plot(along[:1], shown[:1], label=once(ax, label), **style, **hollow)
        at, label, marker = len(shown) - 1, f"end: {textwrap.shorten(self.ended, 44, placeholder=' …')}", "s"
        if self.val_loss is not None and np.argmin(self.val_loss) < at:
            at, label, marker = int(np.argmin(self.val_loss)), "returned: least validation loss", "D"
        elif self.converged:
            label, marker = f"optimum: {in_figures(self.loss[at])}", "*"
        elif not self.ended:
            label = "end"
        size = 15 if marker == "*" else 8
        where = along[at : at + 1], shown[at : at + 1]
        (self.end_,) = ax.plot(
            *where, label=once(ax, plain(label)), **style, marker=marker, markersize=size, markeredgecolor="white"
        )

    def _scaled(self, ax: Axes, logarithmic: bool) -> None:
        """Set the scale. On a logarithmic one that which is not above 0 lies on the lower edge."""
        if not logarithmic:
            return
        ax.set_yscale("log")
        if self.end_.get_ydata()[0] <= 0:
            self.end_.set(transform=ax.get_xaxis_transform(), ydata=[0.0], clip_on=False)

    def _bounded(self, ax: Axes) -> None:
        """Draw the line that no loss can be below, where it can be told from the last loss."""
        self.least_ = None
        if self.least is None or self.optimum is not None:
            return
        if self.loss.min() - self.least < 1e-3 * np.ptp(self.loss) or self.least <= 0:
            return
        label = plain(f"no loss is below {in_figures(self.least)}")
        self.least_ = ax.axhline(self.least, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label=once(ax, label))

    def _labelled(self, ax: Axes, x: str) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        if x == "iteration":
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        ax.set_xlabel(self.step if x == "iteration" else "time since the start of the fit [s]")
        above = "" if self.optimum is None else " above the optimum"
        ax.set_ylabel(f"{self.loss_name}{above}{self.unit}")
        ax.grid(True, color="#dddddd", linewidth=0.8)
        ax.set_axisbelow(True)
        entries = list(zip(*ax.get_legend_handles_labels(), strict=True))
        entries.sort(key=lambda entry: plain_marker(entry[0]))     # curves first, their markers below
        ax.legend(*zip(*entries, strict=True))


# ---- the path --------------------------------------------------------------------------------------------------------


class DescentPathDisplay:
    """The way of a descent over the contours of the loss of two parameters.

    Parameters
    ----------
    path : array_like of shape (n, 2)
        The two parameters of each iterate, the start first.
    xx0, xx1 : array_like of shape (n0,) and (n1,)
        Where the loss is known: values of the first and of the second parameter.
    response : array_like of shape (n1, n0)
        The loss there.
    names : pair of str
        Of the parameters.
    optimum : array_like of shape (2,), optional
        Where the loss is least.
    title, loss_name, unit, step : str
        A title, and names of the loss, of its unit in brackets, and of an iteration.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        The path.
    surface_ : matplotlib QuadContourSet
        The filled contours.
    start_, end_ : matplotlib Line2D
        The markers of the first and the last iterate.
    optimum_ : matplotlib Line2D or None
        That of the optimum.

    See Also
    --------
    LossCurveDisplay : the loss against the iteration.

    Examples
    --------
    >>> import fastgd as fg
    >>> r = fg.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.5], solver="gd", lr=0.1, keep_path=True)
    >>> display = fg.DescentPathDisplay.from_result(r)  # doctest: +SKIP
    >>> display.figure_.savefig("path.png")             # doctest: +SKIP
    """

    ax_: Axes
    figure_: Figure
    line_: Line2D
    surface_: Any
    start_: Line2D
    end_: Line2D
    optimum_: Line2D | None

    def __init__(
        self,
        path: Any,
        *,
        xx0: Any,
        xx1: Any,
        response: Any,
        names: Sequence[str],
        optimum: Any = None,
        title: str = "",
        loss_name: str = "loss",
        unit: str = "",
        step: str = "iteration",
    ) -> None:
        self.path = np.asarray(path, np.float64)
        self.xx0, self.xx1 = np.asarray(xx0, np.float64), np.asarray(xx1, np.float64)
        self.response = np.asarray(response, np.float64)
        if self.path.ndim != 2 or self.path.shape[1] != 2 or not len(self.path):
            raise ValueError(f"path must have shape (n, 2) with n above 0, got {self.path.shape}")
        if self.response.shape != (*self.xx1.shape, *self.xx0.shape) or self.response.ndim != 2:
            shapes = f"xx0 {self.xx0.shape} and xx1 {self.xx1.shape}"
            raise ValueError(f"response must have a row for each of xx1 and a column for each of xx0, got "
                             f"{self.response.shape} for {shapes}")
        self.names = tuple(names)
        self.optimum = None if optimum is None else np.asarray(optimum, np.float64)
        if not np.isfinite(self.response).any():
            raise ValueError("response must have finite entries, got none")
        self.title = title
        self.loss_name = loss_name
        self.unit = unit
        self.step = step

    @classmethod
    def collect(
        cls,
        result: FitResult,
        *,
        parameters: tuple[int | str, int | str] | None = None,
        feature_names: Sequence[str] | None = None,
        y_unit: str | None = None,
    ) -> DescentPathDisplay:
        """`from_result`, without drawing."""
        unit = squared(y_unit)
        if not isinstance(result, FitResult):
            raise TypeError(f"result must be a FitResult, got {type(result).__name__}")
        if result.path is None:
            raise ValueError(
                "a path needs the parameters of each iterate, which this result has not kept: fit(..., keep_path=True)"
            )
        path = result.path
        names = names_of(path, result.feature_names if feature_names is None else feature_names)
        pair = two_of(names, path.n_features, parameters)
        centre = path.optimum()
        known = centre is not None or result.converged
        centre = path.w if centre is None else centre
        track = path.parameters[:, pair]
        curvature = np.diagonal(path.hessian)[pair]
        xx0, xx1 = (np.linspace(*ends, GRID) for ends in extents(around(track, centre[pair]), curvature))
        points = np.tile(centre, (GRID, GRID, 1))
        points[..., pair[0]], points[..., pair[1]] = np.meshgrid(xx0, xx1)
        others = len(names) - 2
        title = f"where the {'other one is' if others == 1 else f'other {others} parameters are'} "
        title = title + ("optimal" if known else "as in the end") if others else ""
        return cls(
            track,
            xx0=xx0,
            xx1=xx1,
            response=path.loss_at(points),
            names=[names[place] for place in pair],
            optimum=centre[pair] if known else None,
            title=title,
            unit=unit,
            step=step_of(result.solver),
        )

    @classmethod
    def from_result(
        cls,
        result: FitResult,
        *,
        parameters: tuple[int | str, int | str] | None = None,
        feature_names: Sequence[str] | None = None,
        y_unit: str | None = None,
        ax: Axes | None = None,
        cmap: Any = "Blues",
        colorbar: bool = True,
        **line_kw: Any,
    ) -> DescentPathDisplay:
        """Draw the path of a fit that has kept it.

        Of more than two parameters, the contours are those of the plane through the optimum, and the path is seen
        from above.

        Parameters
        ----------
        result : FitResult
            Of ``fastgd.fit(..., keep_path=True)``.
        parameters : pair of {int, str}, optional
            Columns by number or name, or "intercept"; by default the two that there are.
        feature_names : sequence of str, optional
            The names of the columns, by default those that the fit knows.
        y_unit : str, optional
            The unit of y, such as "min": losses are in its square.
        ax, cmap, colorbar, **line_kw
            As for `plot`.

        Returns
        -------
        DescentPathDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If the result has kept no path, or there are no such parameters.
        """
        display = cls.collect(result, parameters=parameters, feature_names=feature_names, y_unit=y_unit)
        return display.plot(ax, cmap=cmap, colorbar=colorbar, **line_kw)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        parameters: tuple[int | str, int | str] | None = None,
        y_unit: str | None = None,
        ax: Axes | None = None,
        cmap: Any = "Blues",
        colorbar: bool = True,
        **line_kw: Any,
    ) -> DescentPathDisplay:
        """Fit as the estimator would, which stays as it is, and draw the path, over the loss of `fastgd.fit`.

        Parameters
        ----------
        estimator : GDRegressor
        X : array_like of shape (n_samples, n_features)
            If it has columns with names, these are the parameters'.
        y : array_like of shape (n_samples,)
        sample_weight : array_like of shape (n_samples,), optional
        parameters : pair of {int, str}, optional
            Columns by number or name, or "intercept"; by default the two that there are.
        y_unit : str, optional
            The unit of y, such as "min": losses are in its square.
        ax, cmap, colorbar, **line_kw
            As for `plot`.

        Returns
        -------
        DescentPathDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If the estimator is no GDRegressor, the data are not such as it takes, or there are no such parameters.
        """
        from fastgd.estimators import GDRegressor, options_of

        if not isinstance(estimator, GDRegressor):
            raise TypeError(f"estimator must be a GDRegressor, got {type(estimator).__name__}")
        result = fit(X, y, sample_weight=sample_weight, keep_path=True, **options_of(estimator))
        columns = getattr(X, "columns", None)
        return cls.from_result(
            result,
            parameters=parameters,
            feature_names=None if columns is None else [str(column) for column in columns],
            y_unit=y_unit,
            ax=ax,
            cmap=cmap,
            colorbar=colorbar,
            **line_kw,
        )

    @classmethod
    def from_function(
        cls,
        f: Callable[[np.ndarray], Any],
        path: Any,
        *,
        names: Sequence[str] = ("x[0]", "x[1]"),
        optimum: Any = None,
        ax: Axes | None = None,
        cmap: Any = "Blues",
        colorbar: bool = True,
        **line_kw: Any,
    ) -> DescentPathDisplay:
        """Draw a path over the contours of a function, such as one that `fastgd.minimize` descends.

        Parameters
        ----------
        f : callable
            Of an array of shape (2,); it is called 14,641 times. Where it is NaN or infinite nothing is drawn.
        path : array_like of shape (n, 2)
            The points, the start first.
        names : pair of str, default ("x[0]", "x[1]")
        optimum : array_like of shape (2,), optional
            Where the function is least.
        ax, cmap, colorbar, **line_kw
            As for `plot`.

        Returns
        -------
        DescentPathDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If the path is not finite or has another shape, or the function is nowhere finite.

        Examples
        --------
        >>> import fastgd as fg
        >>> def rosenbrock(x):
        ...     return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> path = [[-1.2, 1.0]]
        >>> r = fg.minimize(rosenbrock, path[0], callback=lambda x: path.append(x))
        >>> display = fg.DescentPathDisplay.from_function(rosenbrock, path, optimum=r.x)  # doctest: +SKIP
        """
        points = validate.as_array(path, "path")
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise ValueError(f"path must have shape (n, 2) with n above 0, got {points.shape}")
        validate.refuse_nonfinite(path=points)
        xx0, xx1 = (np.linspace(*ends, GRID) for ends in extents(around(points, optimum), np.ones(2)))
        with np.errstate(all="ignore"):
            response = np.array([[float(f(np.array([first, second]))) for first in xx0] for second in xx1])
        display = cls(
            points, xx0=xx0, xx1=xx1, response=response, names=names, optimum=optimum, loss_name="value of the function"
        )
        return display.plot(ax, cmap=cmap, colorbar=colorbar, **line_kw)

    def plot(
        self, ax: Axes | None = None, *, cmap: Any = "Blues", colorbar: bool = True, **line_kw: Any
    ) -> DescentPathDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.
        cmap : str or matplotlib Colormap, default "Blues"
            Of the contours.
        colorbar : bool, default True
            Whether a bar beside the axes tells the losses.
        **line_kw
            For `matplotlib.axes.Axes.plot`, of the path.

        Returns
        -------
        self : DescentPathDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `ax` are no axes.
        """
        ratio = np.ptp(self.xx0) / np.ptp(self.xx1)
        square = 1 / SQUARE < ratio < SQUARE
        self.ax_ = ax = axes_for(ax, 0.8 + float(np.clip(4.7 / ratio, 2.0, 4.7)) if square else 4.4)
        self.figure_ = ax.figure
        self._contoured(ax, cmap, colorbar)
        marker, label = "o" if len(self.path) <= FEW else "", f"path of {counted(len(self.path) - 1, self.step)}"
        style = styled(line_kw, color=VERMILION, linewidth=1.6, marker=marker, markersize=3.5, label=label)
        (self.line_,) = ax.plot(*self.path.T, **style)
        self._marked(ax)
        ax.set_xlim(self.xx0[0], self.xx0[-1])
        ax.set_ylim(self.xx1[0], self.xx1[-1])
        if square:
            ax.set_aspect("equal")
        for axis in (ax.xaxis, ax.yaxis):
            label_few(axis)
        ax.set_xlabel(plain(self.names[0]))
        ax.set_ylabel(plain(self.names[1]))
        ax.set_title(self.title, fontsize="medium")
        ax.legend(loc=self._emptiest())
        return self

    def _contoured(self, ax: Axes, cmap: Any, colorbar: bool) -> None:
        """Draw contours that have areas between them that grow in line: of a bowl, rings of the same width."""
        response = np.ma.masked_invalid(self.response)
        levels = np.unique(np.quantile(response.compressed(), np.linspace(0.0, 1.0, RINGS + 1) ** 2))
        if np.ptp(levels) <= FLAT * abs(levels).max():
            levels = levels[0] + np.array([0.0, max(abs(levels[0]), 1.0)])
        colors = pyplot().get_cmap(cmap)(np.linspace(0.75, 0.05, len(levels) - 1))
        self.surface_ = ax.contourf(self.xx0, self.xx1, response, levels=levels, colors=colors)
        ax.contour(self.xx0, self.xx1, response, levels=levels[1:-1], colors="white", linewidths=0.7)
        if colorbar:
            beside = ax.inset_axes((1.03, 0.0, 0.045, 1.0))     # as high as the axes, whatever their aspect
            ticks = levels if len(levels) < 4 else levels[::2]
            bar = ax.figure.colorbar(self.surface_, cax=beside, label=f"{self.loss_name}{self.unit}", ticks=ticks)
            bar.ax.set_yticklabels(told_apart(ticks))

    def _emptiest(self) -> str:
        """The place for a legend that hides least of the path; "best" of matplotlib's keeps off the contours too."""
        count = len(self.path)
        along = np.linspace(0, count - 1, 8 * count)
        points = np.column_stack([np.interp(along, np.arange(count), column) for column in self.path.T])
        if self.optimum is not None:
            points = np.vstack([points, np.tile(self.optimum, (len(points), 1))])    # its mark is as much as the path
        points = (points - [self.xx0[0], self.xx1[0]]) / [np.ptp(self.xx0), np.ptp(self.xx1)]

        def hidden(place: str) -> tuple[int, float]:
            """How many points it hides, and how near the nearest is."""
            off = np.abs(points - PLACES[place])
            return int((off <= np.divide(LEGEND, 2)).all(axis=1).sum()), -float(off.max(axis=1).min())

        return min(PLACES, key=hidden)

    def _marked(self, ax: Axes) -> None:
        """Mark start, end and optimum; an end that is the optimum has the mark of that alone."""
        color = self.line_.get_color()
        style: dict[str, Any] = {"linestyle": "", "zorder": 4}
        hollow = {"color": color, "marker": "o", "markersize": 9, "markerfacecolor": "white", "markeredgewidth": 2}
        (self.start_,) = ax.plot(*self.path[:1].T, label="start", **style, **hollow)
        (self.end_,) = ax.plot(
            *self.path[-1:].T, label="end", color=color, marker="s", markersize=8, markeredgecolor="white", **style
        )
        self.optimum_ = None
        if self.optimum is None:
            return
        (self.optimum_,) = ax.plot(
            *self.optimum[:, None], label="optimum", color=DARK, marker="*", markersize=16, markeredgecolor="white",
            **style,
        )  # fmt: skip
        extent = np.array([np.ptp(self.xx0), np.ptp(self.xx1)])
        if (np.abs(self.path[-1] - self.optimum) < 0.01 * extent).all():
            self.end_.set(visible=False, label="_nolegend_")


def label_few(axis: Any) -> None:
    """At most seven numbers along an axis, with one power of ten for all if they are small or large."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    axis.set_major_locator(MaxNLocator(7))
    formatter = ScalarFormatter(useMathText=True)
    formatter.set_powerlimits((-3, 5))
    axis.set_major_formatter(formatter)


def told_apart(values: np.ndarray) -> list[str]:
    """Growing numbers with as many decimals each as tell them apart."""
    least = float(np.diff(values).min())
    if not 1e-4 < abs(values).max() < 1e7:
        return [f"{value:.3e}" for value in values]
    decimals = max(0, 1 - int(np.floor(np.log10(least)))) if least < 10 else 0
    return [f"{value:,.{decimals}f}" for value in values]


def names_of(path: DescentPath, feature_names: Any) -> list[str]:
    """Names of all parameters."""
    d = path.n_features
    if feature_names is None:
        names = [f"coef[{column}]" for column in range(d)]
    else:
        names = list(feature_names)
        if len(names) != d or not all(isinstance(name, str) for name in names):
            raise ValueError(f"feature_names must be {d} strings, one for each column, got {feature_names!r}")
    return names + ["intercept"] * path.fit_intercept


def two_of(names: list[str], n_features: int, parameters: Any) -> list[int]:
    """The places of two parameters that were named."""
    if parameters is None:
        if len(names) != 2:
            raise ValueError(f"the fit has {len(names)} parameters: name two, such as parameters=(0, {names[-1]!r})")
        return [0, 1]
    if isinstance(parameters, str) or not hasattr(parameters, "__len__") or len(parameters) != 2:
        raise ValueError(f"parameters must be two columns by number or name, or 'intercept', got {parameters!r}")
    places = [place_of(parameter, names, n_features) for parameter in parameters]
    if places[0] == places[1]:
        raise ValueError(f"parameters must be two different ones, got {parameters!r}")
    return places


def place_of(parameter: Any, names: list[str], n_features: int) -> int:
    """The place of a parameter."""
    if isinstance(parameter, str):
        if parameter not in names:
            raise ValueError(f"there is no parameter {parameter!r}; there are {', '.join(names)}")
        return names.index(parameter)
    if not isinstance(parameter, (int, np.integer)) or isinstance(parameter, bool):
        raise TypeError(f"parameters must be columns by number or name, or 'intercept', got {parameter!r}")
    if not 0 <= parameter < n_features:
        raise ValueError(f"parameters has column {parameter}, but there are {n_features} columns")
    return int(parameter)


def around(points: np.ndarray, optimum: Any) -> np.ndarray:
    """The points and, if there is an optimum, corners of the room about it that is to be shown too."""
    if optimum is None:
        return points
    margin = AROUND * np.ptp(np.vstack([points, optimum]), axis=0)
    return np.vstack([points, optimum - margin, optimum + margin])


def extents(points: np.ndarray, curvature: np.ndarray) -> list[tuple[float, float]]:
    """From where to where a plot goes that shows these points, with room about them.

    Along a parameter that hardly changes it goes as far as shows a share of the loss that the other one shows: the loss
    grows by curvature * distance^2 / 2.
    """
    least, most = points.min(axis=0), points.max(axis=0)
    half = (most - least) / 2
    heights = np.sqrt(np.where(curvature > 0, curvature, 1.0))
    shown = half * heights
    if not shown.any():     # one point: as far as its own size
        shown = heights * np.maximum(np.abs(points[0]), 1.0)
    half = np.maximum(half, LEAST_SHARE * shown.max() / heights) * (1 + ROOM)
    middle = (most + least) / 2
    return list(zip((middle - half).tolist(), (middle + half).tolist(), strict=True))


# ---- both ------------------------------------------------------------------------------------------------------------


class FitDisplay:
    """What `FitResult.plot` draws: the loss curve, and the path beside it if there is one.

    Parameters
    ----------
    loss_curve : LossCurveDisplay
    path : DescentPathDisplay, optional

    Attributes
    ----------
    figure_ : matplotlib Figure
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
    ) -> FitDisplay:
        """Collect what there is to draw of a fit; see `FitResult.plot`."""
        curve = LossCurveDisplay.collect(result, y_unit=y_unit)
        path = None
        if parameters is not None or (result.path is not None and len(result.path.w) == 2):
            path = DescentPathDisplay.collect(
                result, parameters=parameters, feature_names=feature_names, y_unit=y_unit
            )
        return cls(curve, path)

    def plot(self, ax: Any = None) -> FitDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes or a sequence of them, optional
            One for each picture; by default a new figure.

        Returns
        -------
        self : FitDisplay
        """
        displays: list[Any] = [self.loss_curve] if self.path is None else [self.loss_curve, self.path]
        if ax is None:
            size = (6.4 * len(displays), 4.6)
            ax = pyplot().subplots(1, len(displays), figsize=size, layout="constrained", squeeze=False)[1]
        self.axes_ = np.ravel(np.asarray(ax, dtype=object))
        if len(self.axes_) != len(displays):
            raise ValueError(f"ax must be Axes for {len(displays)} pictures, got {len(self.axes_)}")
        for display, axes in zip(displays, self.axes_, strict=True):
            display.plot(axes)
        self.figure_ = self.axes_[0].figure
        return self
