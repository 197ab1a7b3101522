"""Functions whose derivatives the benchmarks take, in terms of a module that has NumPy's names."""

from __future__ import annotations

from typing import Any

import numpy as np
from problems import Data

__all__ = ["composition", "composition_at", "network", "parameters", "textbook"]


def textbook(x: Any) -> Any:
    """The chain rule's first example."""
    return (3 * x**2 + 2 * x + 1) ** 2


def composition_at(xp: Any, x: Any) -> Any:
    """Some twenty operations, element by element; defined for complex numbers too."""
    a = xp.sin(x) * xp.exp(-0.5 * x * x)
    b = xp.tanh(a + 0.3 * x) / (1.0 + x * x)
    c = xp.log(1.0 + xp.exp(b)) * xp.cos(a)
    d = xp.sqrt(1.0 + c * c) - a * b
    return d * d + 0.5 * c


def composition(xp: Any, x: Any) -> Any:
    return xp.sum(composition_at(xp, x))


def parameters(data: Data, hidden: int = 32) -> list[np.ndarray]:
    """W1, b1, W2, b2 of a network with one hidden layer and one output."""
    rng = np.random.default_rng(1)
    shapes = [(data.d, hidden), (hidden,), (hidden, 1), (1,)]
    return [(0.3 * rng.standard_normal(shape)).astype(data.dtype) for shape in shapes]


def network(xp: Any, W1: Any, b1: Any, W2: Any, b2: Any, X: Any, y: Any) -> Any:
    """The mean squared error of a network."""
    return xp.mean((xp.tanh(X @ W1 + b1) @ W2 + b2 - y) ** 2)
