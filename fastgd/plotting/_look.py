"""What all pictures have in common: axes, colours, and how numbers, units and names are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "DARK",
    "FEW",
    "GREY",
    "VERMILION",
    "axes_for",
    "in_figures",
    "label_few",
    "once",
    "plain",
    "plain_marker",
    "pyplot",
    "squared",
    "step_of",
    "styled",
    "told_apart",
]

#: Iterates up to this number have a marker each.
FEW = 100
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
