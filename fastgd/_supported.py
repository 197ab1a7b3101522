"""The list of NumPy functions that derivatives go through, from the tables that the code itself uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastgd import _primitives as p
from fastgd import autodiff  # noqa: F401  (fills the tables)
from fastgd._rules import FLAT
from fastgd._traced import FUNCTIONS, UFUNC_METHODS, UFUNCS, VALUES_ONLY, full_name

__all__ = ["Supported", "as_markdown", "supported"]

ELEMENTWISE_FUNCTIONS = {np.where, np.clip, np.sinc, np.select, np.nan_to_num, np.round, np.isclose}
DERIVATIVE, ZERO, NONE = "derivative", "zero", "none"


class Supported(NamedTuple):
    """A function that traced values may be given to.

    Attributes
    ----------
    name : str
        As a user writes it.
    function : object
        What is called; None for SciPy's, which is not imported.
    elementwise : bool
        Whether it works element by element, with broadcasting.
    derivative : {"derivative", "zero", "none"}
        Whether derivatives go through; they are zero where the function is constant between jumps, and there are none
        where results are bools or integers.
    """

    name: str
    function: Any
    elementwise: bool
    derivative: str


def supported() -> list[Supported]:
    """All functions, by name."""
    return sorted([*ufuncs(), *of_scipy(), *methods_of_ufuncs(), *functions()], key=lambda entry: entry.name)


def ufuncs() -> Iterator[Supported]:
    for ufunc in UFUNCS:
        if not isinstance(ufunc, np.ufunc) or getattr(np, ufunc.__name__, None) is not ufunc:
            continue
        kind = ZERO if ufunc.__name__ in FLAT else DERIVATIVE if gives_floats(ufunc) else NONE
        yield Supported(full_name(ufunc), ufunc, ufunc is not np.matmul, kind)


def gives_floats(ufunc: np.ufunc) -> bool:
    """Whether the ufunc of float64 is float64."""
    try:
        return p.loop_of(ufunc, *"d" * ufunc.nin).result.kind == "f"
    except TypeError:
        return False


def of_scipy() -> Iterator[Supported]:
    for name in p.OF_SCIPY:
        yield Supported(f"scipy.special.{name}", None, True, DERIVATIVE)


def methods_of_ufuncs() -> Iterator[Supported]:
    for ufunc, method in UFUNC_METHODS:
        yield Supported(f"{full_name(ufunc)}.{method}", getattr(ufunc, method), False, DERIVATIVE)


def functions() -> Iterator[Supported]:
    seen: set[str] = set()
    for function in FUNCTIONS:
        if callable(function) and (name := full_name(function)) not in seen and not inside_numpy_only(function):
            seen.add(name)
            kind = ZERO if function is np.round else NONE if function in VALUES_ONLY else DERIVATIVE
            yield Supported(name, function, function in ELEMENTWISE_FUNCTIONS, kind)


def inside_numpy_only(function: Any) -> bool:
    """Whether NumPy never asks what a function means on traced values: np.array and np.asarray."""
    return function in (np.array, np.asarray)


def as_markdown() -> str:
    """The list for the documentation."""
    headings = {
        DERIVATIVE: "Derivatives go through",
        ZERO: "The derivative is zero wherever there is one",
        NONE: "Results are bools, integers or shapes, and have no derivative",
    }
    lines: list[str] = []
    entries = supported()
    for kind, heading in headings.items():
        for elementwise, what in ((True, "element by element, with broadcasting"), (False, "of whole arrays")):
            names = [entry.name for entry in entries if (entry.derivative, entry.elementwise) == (kind, elementwise)]
            if names:
                lines += [f"**{heading}**, {what}:", "", ", ".join(f"`{name}`" for name in names), ""]
    return "\n".join(lines)

