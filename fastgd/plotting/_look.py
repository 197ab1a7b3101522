"""What all pictures have in common: axes, colours, and how numbers, units and names are written."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS",
    "DARK",
    "FEW",
    "GREY",
    "VERMILION",
    "axes_for",
    "in_figures",
    "in_lines",
    "inches",
    "label_few",
    "legend_size",
    "new_color",
    "once",
    "outlined",
    "plain",
    "plain_marker",
    "pyplot",
    "step_of",
    "styled",
    "told_apart",
    "unit_of",
]

#: Iterates up to this number have a marker each.
FEW = 100
#: Colours after Okabe and Ito, which all eyes tell apart; those that are next to each other, in grey too.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
VERMILION, DARK, GREY = "#D55E00", "#222222", "#808080"
#: A number beside an axis takes as many points of its length, and more than MOST of them are too many.
WIDE, HIGH, MOST = 55.0, 24.0, 8
#: Axes that are at least as wide and as high, in inches, have room for a legend in full size.
ROOMY = (3.2, 2.2)
#: A name takes two lines of as many letters.
LETTERS = 36
#: The digits of an exponent.
ABOVE = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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


def inches(ax: Axes) -> np.ndarray:
    """Width and height of axes, about: the layout of a figure is settled when it is drawn."""
    return ax.bbox.size / ax.figure.dpi


# ---- style -----------------------------------------------------------------------------------------------------------


def styled(given: dict[str, Any], **default: Any) -> dict[str, Any]:
    """The style of a line, what was given in place of the default, under whichever of its names."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return default | normalize_kwargs(given, Line2D)


def outlined(width: float) -> list[Any]:
    """A white edge, of this width with the line, which then shows over dark areas and in grey."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="white", alpha=0.6)]


def new_color(ax: Axes) -> str | None:
    """One that no line has yet; None, which leaves it to matplotlib, where the user's style has colours of its own."""
    from matplotlib import rcParams, rcParamsDefault

    if rcParams["axes.prop_cycle"] != rcParamsDefault["axes.prop_cycle"]:
        return None
    taken = {line.get_color() for line in ax.lines}
    return next((color for color in COLORS if color not in taken), COLORS[len(ax.lines) % len(COLORS)])


def legend_size(size: np.ndarray) -> float | None:
    """Of the letters in a legend, in points, where axes are small; None is the style's own."""
    scale = float(np.min(size / ROOMY))
    return None if scale >= 1 else max(6.0, 10.0 * scale)


def once(ax: Axes, label: str) -> str:
    """The label for a legend, or none if it is there already."""
    return "_nolegend_" if label in ax.get_legend_handles_labels()[1] else label


def plain_marker(handle: Any) -> bool:
    """Whether a legend's handle is a marker without a line."""
    return hasattr(handle, "get_linestyle") and handle.get_linestyle() == "None"


# ---- words -----------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text in which a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def in_lines(name: str) -> str:
    """A name on one line or two, with an ellipsis for what does not fit."""
    return plain("\n".join(textwrap.wrap(name, LETTERS, max_lines=2, placeholder=" …")))


def unit_of(y_unit: str | None, power: str = "²") -> str:
    """The unit of a loss that is a power of those of y, in brackets."""
    if y_unit is None:
        return f" [units of y{power}]"
    if not isinstance(y_unit, str):
        raise TypeError(f"y_unit must be a string or None, got {y_unit!r}")
    composed = power and re.search(r"[\s\d/·*^²³⁻-]", y_unit)
    return plain(f" [({y_unit}){power}]" if composed else f" [{y_unit}{power}]")


def step_of(solver: str) -> str:
    """What an iteration of the solver is called."""
    return "epoch" if solver == "sgd" else "iteration"


# ---- numbers ---------------------------------------------------------------------------------------------------------


def in_figures(value: float, digits: int = 5, full: bool = False) -> str:
    """A number to so many digits, all of them if `full`, with commas, and powers of ten as one writes them."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    power = int(exponent)
    plain = -4 <= power < 7
    text = f"{value:,.{max(0, digits - 1 - power)}f}" if plain else mantissa
    if not full and "." in text:
        text = text.rstrip("0").rstrip(".")
    return text if plain else f"{text}×10{str(power).translate(ABOVE)}"


def told_apart(values: np.ndarray) -> list[str]:
    """Different numbers with as many digits each as tell them apart, at least three."""
    texts: list[str] = []
    for digits in range(3, 18):
        texts = [in_figures(value, digits, full=True) for value in values]
        if len(set(texts)) == len(texts):
            break
    return texts


def label_few(axis: Any, length: float, whole: bool = False) -> None:
    """As many numbers along an axis of so many inches as it has room for, with one power of ten for all.

    Whole numbers, of iterations, have commas between thousands instead.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter

    count = int(np.clip(72 * length / (WIDE if axis.axis_name == "x" else HIGH), 2, MOST))
    steps = [1, 2, 4, 5, 10] if whole else [1, 2, 2.5, 4, 5, 10]
    axis.set_major_locator(MaxNLocator(count, steps=steps, integer=whole, min_n_ticks=1))
    if whole:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        return
    formatter = ScalarFormatter(useMathText=True)
    formatter.set_powerlimits((-3, 5))
    axis.set_major_formatter(formatter)
