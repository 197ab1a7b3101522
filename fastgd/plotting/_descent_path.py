"""The way of a descent over the contours of the loss of two parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgd import _validation as validate
from fastgd._path import DescentPath
from fastgd.fit import fit
from fastgd.plotting import _look as look
from fastgd.result import FitResult, counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["DescentPathDisplay"]

#: Points along each axis of a contour plot: of a fit, whose loss has a formula, and of a function, which is called.
GRID, CALLED = 301, 121
#: Rings of a contour plot, and the room about a path as a share of its extent.
RINGS, ROOM = 14, 0.1
#: Losses that differ by less than this share of them differ by rounding.
FLAT = 1e-13
#: Parameters that differ by less than this share of them are the same in a picture.
RESOLVED = 1e-9
#: As far, as a share of the path's extent, the bowl is shown on all sides of the optimum.
AROUND = 0.25
#: Of the two axes of a contour plot the shorter shows at least this share of the loss that the longer shows.
LEAST_SHARE = 0.3
#: Inches that a legend takes, about: its width, and the height of a row.
LEGEND = np.array([2.1, 0.26])
#: Where it may be: the corner or edge of the axes that it touches, from -1 to 1.
PLACES = {
    f"{row} {column}": np.array([x, y])
    for row, y in (("upper", 1), ("lower", -1))
    for column, x in (("right", 1), ("left", -1), ("center", 0))
}
#: Shares of the axes that a bar takes where no layout engine makes room for it, and that are left empty beside it.
SHARE, GAP = 0.15, 0.04
#: Axes whose extents differ by less than this have one unit length, so that gradients cross contours at right angles.
SQUARE = 2.5


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
        What was drawn on.
    figure_ : matplotlib Figure
        The figure of that.
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
    >>> display = fg.DescentPathDisplay.from_result(r)
    >>> display.figure_.savefig("path.png")
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
        self.path = as_points(path)
        self.xx0, self.xx1 = as_ascending(xx0, "xx0"), as_ascending(xx1, "xx1")
        self.response = validate.as_array(response, "response").astype(np.float64)
        if self.response.shape != (len(self.xx1), len(self.xx0)):
            shapes = f"{self.response.shape} for {len(self.xx0)} of xx0 and {len(self.xx1)} of xx1"
            raise ValueError(f"response must have a row for each of xx1 and a column for each of xx0, got {shapes}")
        if not np.isfinite(self.response).any():
            raise ValueError("response must have finite entries, got none")
        self.names = as_names(names)
        self.optimum = None if optimum is None else as_point(optimum, "optimum")
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
        unit = look.unit_of(y_unit)
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
        others = len(names) - 2
        title = f"where the {'other one is' if others == 1 else f'other {others} parameters are'} "
        title = title + ("optimal" if known else "as in the end") if others else ""
        return cls(
            track,
            xx0=xx0,
            xx1=xx1,
            response=path.loss_over(pair, centre, xx0, xx1),
            names=[names[place] for place in pair],
            optimum=centre[pair] if known else None,
            title=title,
            unit=unit,
            step=look.step_of(result.solver),
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
            Whose parameters the fit has; it need not be fitted.
        X : array_like of shape (n_samples, n_features)
            If it has columns with names, these are the parameters'.
        y : array_like of shape (n_samples,)
            The target.
        sample_weight : array_like of shape (n_samples,), optional
            Of the rows.
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
            Of the two variables.
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
        >>> display = fg.DescentPathDisplay.from_function(rosenbrock, path, optimum=r.x)
        """
        if not callable(f):
            raise TypeError(f"f must be a function of two numbers in an array, got {f!r}")
        points, names = as_points(path), as_names(names)
        optimum = None if optimum is None else as_point(optimum, "optimum")
        xx0, xx1 = (np.linspace(*ends, CALLED) for ends in extents(around(points, optimum), np.ones(2)))
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
        validate.as_flag(colorbar, "colorbar")
        ratio = float(np.ptp(self.xx0) / np.ptp(self.xx1))
        square = 1 / SQUARE < ratio < SQUARE
        self.ax_ = ax = look.axes_for(ax, 0.8 + min(max(4.7 / ratio, 2.0), 4.7) if square else 4.4)
        self.figure_ = ax.figure
        size = look.inches(ax)
        if square:
            ax.set_aspect("equal")
            size = np.minimum(size, [size[1] * ratio, size[0] / ratio])
        self._contoured(ax, cmap)
        if colorbar:
            self._barred(ax, size)
        marker, label = "o" if len(self.path) <= look.FEW else "", f"path of {counted(len(self.path) - 1, self.step)}"
        style = look.styled(
            line_kw, color=look.VERMILION, linewidth=1.6, marker=marker, markersize=3.5, label=label,
            path_effects=look.outlined(3.2),
        )  # fmt: skip
        (self.line_,) = ax.plot(*self.path.T, **style)
        self._marked(ax)
        self._labelled(ax, size)
        if square and (engine := ax.figure.get_layout_engine()) is not None:
            engine.execute(ax.figure.figure)     # once more than when it is drawn: axes that keep a shape need it
        return self

    def _labelled(self, ax: Axes, size: np.ndarray) -> None:
        """Label the axes, as large as the contours, and name what there is."""
        ax.set_xlim(self.xx0[0], self.xx0[-1])
        ax.set_ylim(self.xx1[0], self.xx1[-1])
        look.label_few(ax.xaxis, size[0])
        look.label_few(ax.yaxis, size[1])
        ax.set_xlabel(look.in_lines(self.names[0]))
        ax.set_ylabel(look.in_lines(self.names[1]))
        ax.set_title(look.plain(self.title), fontsize="medium")
        letters = look.legend_size(size)
        taken = LEGEND * [1, len(ax.get_legend_handles_labels()[1])] * (1.0 if letters is None else letters / 10)
        ax.legend(loc=self._emptiest(np.minimum(taken / size, 1.0)), fontsize=letters)

    def _contoured(self, ax: Axes, cmap: Any) -> None:
        """Draw contours that have areas between them that grow in line: of a bowl, rings of the same width."""
        response = np.ma.masked_invalid(self.response)
        levels = np.unique(np.quantile(response.compressed(), np.linspace(0.0, 1.0, RINGS + 1) ** 2))
        if np.ptp(levels) <= FLAT * abs(levels).max():
            levels = levels[0] + np.array([0.0, max(abs(levels[0]), 1.0)])
        colors = look.pyplot().get_cmap(cmap)(np.linspace(0.75, 0.05, len(levels) - 1))
        self.surface_ = ax.contourf(self.xx0, self.xx1, response, levels=levels, colors=colors)
        ax.contour(self.xx0, self.xx1, response, levels=levels[1:-1], colors="white", linewidths=0.7)

    def _barred(self, ax: Axes, size: np.ndarray) -> None:
        """Tell the losses on a bar as high as the axes, for which a layout engine makes room, or else the axes do."""
        if ax.figure.get_layout_engine() is not None:
            where: dict[str, Any] = {"cax": ax.inset_axes((1.03, 0.0, 0.045, 1.0))}
        else:
            width, height = look.inches(ax) * [1 - SHARE - GAP, 1]
            high = min(1.0, width / height * size[1] / size[0]) if ax.get_aspect() == 1 else 1.0
            where = {"ax": ax, "fraction": SHARE, "pad": GAP, "shrink": high}
        levels = self.surface_.levels
        every = 2
        while len(levels[::every]) * look.HIGH > 72 * size[1] and every < len(levels) - 1:
            every += 1
        ticks = levels[::every] if np.nanmax(self.response) > levels[0] else levels[:1]
        bar = ax.figure.colorbar(self.surface_, label=f"{self.loss_name}{self.unit}", ticks=ticks, **where)
        bar.ax.set_yticklabels(look.told_apart(ticks))

    def _emptiest(self, taken: np.ndarray) -> str:
        """The place for a legend of this size that hides least of the path; matplotlib's "best" shuns contours too.

        Sizes are shares of the axes.
        """
        count = len(self.path)
        along = np.linspace(0, count - 1, 8 * count)
        points = np.column_stack([np.interp(along, np.arange(count), column) for column in self.path.T])
        if self.optimum is not None:
            points = np.vstack([points, np.tile(self.optimum, (len(points), 1))])    # its mark is as much as the path
        points = (points - [self.xx0[0], self.xx1[0]]) / [np.ptp(self.xx0), np.ptp(self.xx1)]

        def hidden(place: str) -> tuple[int, float]:
            """How many points it hides, and how near the nearest is."""
            off = np.abs(points - (0.5 + PLACES[place] * (1 - taken) / 2))
            return int((off <= taken / 2).all(axis=1).sum()), -float(off.max(axis=1).min())

        return min(PLACES, key=hidden)

    def _marked(self, ax: Axes) -> None:
        """Mark start, end and optimum; an end that is the optimum has the mark of that alone."""
        color = self.line_.get_color()
        style: dict[str, Any] = {"linestyle": "", "zorder": 4}
        hollow = {"color": color, "marker": "o", "markersize": 9, "markerfacecolor": "white", "markeredgewidth": 2}
        (self.start_,) = ax.plot(*self.path[:1].T, label="start", **style, **hollow)
        square = {"color": color, "marker": "s", "markersize": 8, "markeredgecolor": "white"}
        (self.end_,) = ax.plot(*self.path[-1:].T, label="end", **style, **square)
        if len(self.path) == 1:
            self.end_.set(visible=False, label="_nolegend_")
        self.optimum_ = None
        if self.optimum is None:
            return
        (self.optimum_,) = ax.plot(
            *self.optimum[:, None], label="optimum", color=look.DARK, marker="*", markersize=16,
            markeredgecolor="white", **style,
        )  # fmt: skip
        extent = np.array([np.ptp(self.xx0), np.ptp(self.xx1)])
        if (np.abs(self.path[-1] - self.optimum) < 0.01 * extent).all():
            self.end_.set(visible=False, label="_nolegend_")


def as_points(path: Any) -> np.ndarray:
    """Points in two dimensions, finite, one at least."""
    points = validate.as_array(path, "path").astype(np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"path must have shape (n, 2) with n above 0, got {points.shape}")
    validate.refuse_nonfinite(path=points)
    return points


def as_point(value: Any, name: str) -> np.ndarray:
    """One point in two dimensions, finite."""
    point = validate.as_array(value, name).astype(np.float64)
    if point.shape != (2,):
        raise ValueError(f"{name} must have shape (2,), got {point.shape}")
    validate.refuse_nonfinite(**{name: point})
    return point


def as_ascending(values: Any, name: str) -> np.ndarray:
    """Two numbers or more that grow."""
    array = validate.as_array(values, name).astype(np.float64)
    if array.ndim != 1 or len(array) < 2 or not (np.isfinite(array).all() and (np.diff(array) > 0).all()):
        came = np.array2string(array, threshold=6)
        raise ValueError(f"{name} must be two finite numbers or more that grow, got {came}")
    return array


def as_names(names: Any) -> tuple[str, str]:
    """Two names."""
    if isinstance(names, str) or len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names must be two strings, got {names!r}")
    return tuple(names)


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
    middle = (most + least) / 2
    half = (most - least) / 2
    half[half < RESOLVED * np.abs(middle)] = 0.0
    heights = np.sqrt(np.where(curvature > 0, curvature, 1.0))
    shown = half * heights
    if not shown.any():     # one point: as far as its own size
        shown = heights * np.maximum(np.abs(points[0]), 1.0)
    half = np.maximum(half, LEAST_SHARE * shown.max() / heights) * (1 + ROOM)
    half = np.maximum(half, RESOLVED * np.abs(middle))
    return list(zip((middle - half).tolist(), (middle + half).tolist(), strict=True))
