"""Derivatives against difference quotients, along random directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastgd import _validation as validate
from fastgd._trees import leaves_of, rebuild
from fastgd.errors import DerivativeError

__all__ = ["Check", "is_float"]

#: By the dtype's character: the step of difference quotients of fourth order, eps^(1/5), and how far they may be off,
#: relative to the sum of what is added up; some thousand times what well-behaved functions show.
STEPS = {"d": 2.0**-11, "f": 2.0**-5}
TOLERANCES = {"d": 1e-7, "f": 4e-3}

Scalar = Callable[[Any], Any]


def is_float(leaf: Any) -> bool:
    """Whether a leaf can be varied."""
    return isinstance(leaf, float) or (isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind == "f")


def precision_of(leaves: Sequence[Any]) -> str:
    """The least precise dtype of the leaves."""
    return "f" if any(getattr(leaf, "dtype", None) == np.float32 for leaf in leaves) else "d"


def random_direction(generator: np.random.Generator, leaves: Sequence[Any]) -> list[Any]:
    """A direction whose entries are of the size of the leaves' entries, or of size 1 where these are 0."""
    out = []
    for leaf in leaves:
        array = np.asarray(leaf)
        size = float(np.sqrt(np.mean(np.square(array.astype(np.float64))))) if array.size else 1.0
        step = generator.normal(size=array.shape) * (size or 1.0)
        out.append(np.asarray(step, array.dtype) if isinstance(leaf, np.ndarray) else array.dtype.type(step))
    return out


def moved(tree: Any, direction: Sequence[Any], t: float) -> Any:
    """The tree moved by t along the direction, in the dtypes of its leaves."""
    leaves = []
    for leaf, v in zip(leaves_of(tree), direction, strict=True):
        leaves.append((leaf + leaf.dtype.type(t) * v) if hasattr(leaf, "dtype") else leaf + t * v)
    return rebuild(tree, leaves)


def quotient(f: Scalar, x: Any, direction: Sequence[Any], h: float) -> tuple[float, float]:
    """Richardson's combination of central differences of steps h and 2h, whose error is of the order h^4.

    And how far these two are apart, which is more than that error where f is smooth.
    """
    near = (float(f(moved(x, direction, h))) - float(f(moved(x, direction, -h)))) / (2 * h)
    far = (float(f(moved(x, direction, 2 * h))) - float(f(moved(x, direction, -2 * h)))) / (4 * h)
    return (4 * near - far) / 3, abs(near - far)


class Projection:
    """A function's results as one number: the sum of their elements, each with a random weight.

    Parameters
    ----------
    f : callable
        Of one argument; returns numbers and arrays in any structure.
    results : any
        What it returns where it is checked.
    generator : numpy.random.Generator
    """

    def __init__(self, f: Callable[[Any], Any], results: Any, generator: np.random.Generator) -> None:
        self.f = f
        self.weights = [generator.normal(size=np.shape(leaf)) for leaf in leaves_of(results)]
        self.size = sum(
            float(np.sum(np.abs(w * np.asarray(leaf, np.float64))))
            for w, leaf in zip(self.weights, leaves_of(results), strict=True)
        )
        self.total_weight = sum(float(np.sum(np.abs(w))) for w in self.weights)

    def __call__(self, x: Any) -> Any:
        total: Any = 0.0
        for weight, leaf in zip(self.weights, leaves_of(self.f(x)), strict=True):
            total = total + np.sum(weight * leaf)
        return total


class Check:
    """Derivatives of f at a point against difference quotients.

    Parameters
    ----------
    f : callable
        Of one argument; returns numbers and arrays in any structure.
    x : any
        A structure of floats.
    modes : dict
        Functions (scalar function, x, direction) that return the derivative along the direction, by name.
    rtol : float, optional
        By default according to precision.
    random_state : int or None
    """

    def __init__(
        self, f: Callable[[Any], Any], x: Any, modes: dict[str, Callable[..., Any]], rtol: float | None,
        random_state: Any,
    ) -> None:
        seed = None if random_state is None else validate.as_seed(random_state, "random_state")
        self.generator = np.random.default_rng(seed)
        self.x, self.leaves, self.modes = x, leaves_of(x), modes
        results = f(x)
        self.projection = Projection(f, results, self.generator)
        precision = precision_of([*self.leaves, *leaves_of(results)])
        self.h = STEPS[precision]
        self.rtol = TOLERANCES[precision] if rtol is None else validate.as_number(rtol, "rtol", least=0)

    def run(self, order: int) -> None:
        """Check derivatives up to this order, in each mode."""
        for mode, along in self.modes.items():
            self.check(self.projection, mode, along, order, self.projection.size)

    def check(self, scalar: Scalar, mode: str, along: Callable[..., Any], order: int, size: float) -> None:
        """The derivative of a number in one mode, and the derivatives of that in all modes."""
        direction = random_direction(self.generator, self.leaves)
        v = rebuild(self.x, direction)
        expected, apart = quotient(scalar, self.x, direction, self.h)
        got = float(along(scalar, self.x, v))
        bound = self.rtol * max(abs(expected), abs(got), size) + min(apart, self.rtol * self.projection.total_weight)
        if not abs(got - expected) <= bound:
            raise DerivativeError(
                f"{mode}: the derivative along a random direction is {got:.10g}, the difference quotient "
                f"{expected:.10g}; they are {abs(got - expected):.3g} apart, and {bound:.3g} is allowed",
                expected=expected, got=got,
            )
        if order > 1:
            for name, again in self.modes.items():
                self.check(
                    lambda point: along(scalar, point, v), f"{name} of {mode}", again, order - 1, max(abs(got), size)
                )
