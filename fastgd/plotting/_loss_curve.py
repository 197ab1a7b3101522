"""The loss against the iteration, or against time."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgd import _validation as validate
from fastgd.plotting import _look as look
from fastgd.result import FitResult, counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["LossCurveDisplay"]

#: Losses whose largest is as many times the least are drawn on a logarithmic scale.
DECADES = 100.0
#: A legend of more entries stands beside the axes.
CROWDED = 6


class LossCurveDisplay:
    """The loss against the iteration, or against time.

    Parameters
    ----------
    loss : array_like of shape (n,)
        The losses, in the order of the descent.
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
        What was drawn on.
    figure_ : matplotlib Figure
        The figure of that.
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
    >>> display = fg.LossCurveDisplay.from_result(r, y_unit="min")
    >>> display.figure_.savefig("loss.png")
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
        self.loss = validate.as_array(loss, "loss").astype(np.float64)
        if self.loss.ndim != 1 or not len(self.loss):
            raise ValueError(f"loss must have shape (n,) with n above 0, got {self.loss.shape}")
        if not np.isfinite(self.loss).any():
            raise ValueError("loss must have finite entries, got none")
        self.iteration = np.arange(len(self.loss)) if iteration is None else self._beside(iteration, "iteration")
        self.seconds = None if seconds is None else self._beside(seconds, "seconds").astype(np.float64)
        self.val_loss = None if val_loss is None else self._beside(val_loss, "val_loss").astype(np.float64)
        self.optimum = None if optimum is None else validate.as_number(optimum, "optimum")
        self.least = None if least is None else validate.as_number(least, "least")
        self.converged = converged
        self.ended = ended
        self.name = name
        self.loss_name = loss_name
        self.unit = unit
        self.step = step

    def _beside(self, values: Any, name: str) -> np.ndarray:
        """An array that has an entry for each loss."""
        array = validate.as_array(values, name)
        if array.shape != self.loss.shape:
            raise ValueError(f"{name} must have the shape of loss, {self.loss.shape}, got {array.shape}")
        return array

    @classmethod
    def collect(
        cls, result: Any, *, optimum: float | None = None, name: str | None = None, y_unit: str | None = None
    ) -> LossCurveDisplay:
        """`from_result`, without drawing."""
        unit = look.unit_of(y_unit)
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
            converged=fitted and result.converged,      # of a function that is not convex, nobody knows
            ended=result.stop_reason if fitted else str(getattr(result, "message", "")),
            name=solver if name is None else name,
            loss_name="loss" if n_targets == 1 else f"loss, sum over {n_targets} targets",
            unit=unit if fitted else "",
            step=look.step_of(solver),
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
        y_unit: str | None = None,
        ax: Axes | None = None,
        scale: str = "auto",
        **line_kw: Any,
    ) -> LossCurveDisplay:
        """Draw the `loss_curve_` of a fitted estimator, or of the last step of a fitted pipeline.

        Parameters
        ----------
        estimator : GDRegressor, SGDRegressor or another with `loss_curve_` and `n_iter_`
            Fitted.
        optimum : float, optional
            The least objective. Objectives are then drawn above it.
        name : str, optional
            Of the curve; by default the estimator's class.
        y_unit : str, optional
            The unit of y, such as "min": the objective is in its square, or in itself if the loss is
            "epsilon_insensitive".
        ax, scale, **line_kw
            As for `plot`.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If the estimator has no `loss_curve_`, or an argument is of the wrong kind.
        """
        model = estimator[-1] if hasattr(estimator, "steps") else estimator
        name = type(model).__name__ if name is None else name
        curve = getattr(model, "loss_curve_", None)
        if curve is None:
            raise ValueError(f"{type(model).__name__} has no loss_curve_: fit it first")
        reason = getattr(model, "stop_reason_", "")
        unit = look.unit_of(y_unit, "" if getattr(model, "loss", None) == "epsilon_insensitive" else "²")
        first = max(int(model.n_iter_) + 1 - len(curve), 0)     # 0 if the curve has the start, which epochs have not
        display = cls(
            curve, iteration=np.arange(first, first + len(curve)), optimum=optimum, ended=reason, name=name,
            loss_name="objective", unit=unit, step="epoch" if first else "iteration",
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
            What the losses are drawn over.
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
        above = self.optimum or 0.0
        shown = self.loss - above
        if scale == "log" and not (shown > 0).any():
            raise ValueError(f"scale='log' needs a loss above {above:g}, and the largest is {np.nanmax(self.loss):g}")
        self.ax_ = ax = look.axes_for(ax)
        self.figure_ = ax.figure
        along = self.iteration if x == "iteration" else np.asarray(self.seconds)
        marker = "." if len(shown) <= look.FEW else ""
        label = look.plain(name or self.name or self.loss_name)
        style = look.styled(line_kw, color=look.new_color(ax), linewidth=2.0, marker=marker, label=label)
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
            label = look.once(ax, "on the validation set")
            style = {"color": self.line_.get_color(), "linewidth": 2.0, "linestyle": "--", "label": label}
            (self.val_line_,) = ax.plot(along, self.val_loss - above, **style)

    def _marked(self, ax: Axes, along: np.ndarray, shown: np.ndarray) -> None:
        """Mark the start, and the end or the parameters that were returned."""
        ground = ax.get_facecolor()
        style: dict[str, Any] = {"color": self.line_.get_color(), "linestyle": "", "zorder": 4}
        hollow: dict[str, Any] = {"marker": "o", "markerfacecolor": ground, "markeredgewidth": 2}
        hollow["markersize"] = 8 if len(shown) > 1 else 15      # about the end, which is in the same place
        first = int(self.iteration[0])
        label = "start" if first == 0 else f"after {counted(first, self.step)}"
        (self.start_,) = ax.plot(along[:1], shown[:1], label=look.once(ax, label), **style, **hollow)
        at, label, marker = len(shown) - 1, f"end: {textwrap.shorten(self.ended, 44, placeholder=' …')}", "s"
        if self.val_loss is not None and np.argmin(self.val_loss) < at:
            at, label, marker = int(np.argmin(self.val_loss)), "returned: least validation loss", "D"
        elif self.converged:
            label, marker = f"optimum: {look.in_figures(self.loss[at])}", "*"
        elif not self.ended:
            label = "end"
        size = 15 if marker == "*" else 8
        style |= {"label": look.once(ax, look.plain(label)), "marker": marker, "markersize": size}
        (self.end_,) = ax.plot(along[at : at + 1], shown[at : at + 1], **style, markeredgecolor=ground)

    def _scaled(self, ax: Axes, logarithmic: bool) -> None:
        """Set the scale. On a logarithmic one that which is not above 0 lies on the lower edge."""
        if not logarithmic:
            if ax.get_yscale() == "linear":     # as another curve may have set it
                look.label_few(ax.yaxis, look.inches(ax)[1])
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
        label = look.once(ax, look.plain(f"no loss is below {look.in_figures(self.least)}"))
        self.least_ = ax.axhline(self.least, color=look.GREY, linewidth=1.2, linestyle=(0, (4, 3)), label=label)

    def _labelled(self, ax: Axes, x: str) -> None:
        """Label the axes, and name what there is: curves first, their markers below."""
        from matplotlib.ticker import EngFormatter

        size = look.inches(ax)
        look.label_few(ax.xaxis, size[0], whole=x == "iteration")
        if x == "iteration":
            steps = {*ax.get_xlabel().split(" or ")} & {"iteration", "epoch"} | {self.step}     # curves may share axes
            ax.set_xlabel(" or ".join(sorted(steps, reverse=True)))
        else:
            ax.xaxis.set_major_formatter(EngFormatter("s"))
            ax.set_xlabel("time since the start of the fit")
        above = "" if self.optimum is None else " above the optimum"
        ax.set_ylabel(f"{self.loss_name}{above}{self.unit}")
        ax.grid(True, color=look.GREY, alpha=0.3, linewidth=0.8)
        ax.set_axisbelow(True)
        entries = list(zip(*ax.get_legend_handles_labels(), strict=True))
        entries.sort(key=lambda entry: look.plain_marker(entry[0]))
        beside = len(entries) > CROWDED and ax.figure.get_layout_engine() is not None     # which makes room for it
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0} if beside else {}
        ax.legend(*zip(*entries, strict=True), fontsize=look.legend_size(size), **place)


def spans_decades(values: np.ndarray) -> bool:
    """Whether values above 0 span two decades or more; zeros, which a logarithmic scale lacks, do not count."""
    above = values[(values > 0) & np.isfinite(values)]
    return bool(len(above) and above.max() >= DECADES * above.min())
