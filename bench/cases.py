"""The cases: what a user does, and what the right answer is, from NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import functions
import numpy as np
from problems import Data

__all__ = ["CASES", "ELASTIC_NET", "SGD_EPOCHS", "UPDATES", "UPDATE_RATE", "Case"]


#: lr of update rules.
UPDATE_RATE = 1e-3

#: Name of the rule, as fastgd and PyTorch have it -> options.
UPDATES: dict[str, dict[str, float]] = {
    "SGD": {"momentum": 0.9}, "Adam": {}, "AdamW": {}, "Adagrad": {}, "RMSprop": {},
}  # fmt: skip


#: Parameters of the elastic net, as scikit-learn has them: some of the coefficients are zero.
ELASTIC_NET = {"alpha": 0.1, "l1_ratio": 0.5}
#: Of SGDRegressor, so that all do the same work; else it has its defaults.
SGD_EPOCHS = {"max_iter": 10, "tol": None}


class Case(NamedTuple):
    """`truth` is what an answer is compared with, `error` how far an answer is off it."""

    truth: Callable[[Data], Any]
    error: Callable[[np.ndarray, Any], float]
    tolerance: dict[str, float]
    reads: bool = True  # whether the time to read X bounds it from below


def gradient(data: Data) -> np.ndarray:
    w = data.w.astype(np.float64)
    if data.problem.density:
        return 2 / data.n * data.transposed_product(data.product(w) - data.y)
    slopes = np.zeros(data.d)
    for X, y in data.parts():
        slopes += X.T @ (X @ w - y)
    return 2 / data.n * slopes


def step(data: Data) -> np.ndarray:
    return data.w - data.lr * gradient(data)


def gram(data: Data) -> np.ndarray:
    total = np.zeros((data.d, data.d))
    for X, _ in data.parts():
        total += X.T @ X
    return total


def centred_moments(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Of centred columns: their products with one another and with the target."""
    means, target_mean = data.X.mean(axis=0, dtype=np.float64), data.y.mean(dtype=np.float64)
    total, products = np.zeros((data.d, data.d)), np.zeros(data.d)
    for X, y in data.parts():
        total += (X - means).T @ (X - means)
        products += (X - means).T @ (y - target_mean)
    return total, products


def optimum(data: Data) -> np.ndarray:
    """The coefficients of the least-squares fit with an intercept."""
    return np.linalg.solve(*centred_moments(data))


def elastic_net(data: Data) -> np.ndarray:
    """The coefficients of the elastic net with an intercept, one after the other until none moves."""
    total, products = (moments / data.n for moments in centred_moments(data))
    alpha, l1_ratio = ELASTIC_NET["alpha"], ELASTIC_NET["l1_ratio"]
    l1, l2 = alpha * l1_ratio, alpha * (1 - l1_ratio)
    w, before = np.zeros(data.d), np.full(data.d, np.inf)
    while np.abs(w - before).max() > 1e-14:
        before = w.copy()
        for j in range(data.d):
            pull = products[j] - total[j] @ w + total[j, j] * w[j]
            w[j] = np.sign(pull) * max(abs(pull) - l1, 0) / (total[j, j] + l2)
    return w


def moved(by: Callable[[np.ndarray], np.ndarray]) -> Callable[[Data], np.ndarray]:
    """Parameters after the first step of an update rule, which X, of one row, is the gradient for."""
    return lambda data: data.w.astype(np.float64) - UPDATE_RATE * by(data.X[0].astype(np.float64))


def of_length_one(eps: float) -> Callable[[np.ndarray], np.ndarray]:
    """What the first step of the rules that divide by the gradient's size makes of it."""
    return lambda g: g / (np.abs(g) + eps)


def decayed(data: Data) -> np.ndarray:
    return moved(of_length_one(1e-8))(data) - UPDATE_RATE * 0.01 * data.w


def gradient_of_a_composition(data: Data) -> np.ndarray:
    """By a step along the imaginary axis, without cancellation (Squire and Trapp 1998)."""
    tiny = 1e-30
    return functions.composition_at(np, data.X[:, 0].astype(np.float64) + 1j * tiny).imag / tiny


def textbook_derivative(data: Data) -> np.ndarray:
    x = float(data.w[0])
    return np.asarray(2 * (3 * x**2 + 2 * x + 1) * (6 * x + 2))


def network_gradient(data: Data) -> np.ndarray:
    """Backpropagation by hand."""
    W1, b1, W2, b2 = (p.astype(np.float64) for p in functions.parameters(data))
    X, y = data.X.astype(np.float64), data.y[:, None].astype(np.float64)
    h = np.tanh(X @ W1 + b1)
    g = 2 / data.n * (h @ W2 + b2 - y)
    inner = (g @ W2.T) * (1 - h**2)
    parts = (X.T @ inner, inner.sum(axis=0), h.T @ g, g.sum(axis=0))
    return np.concatenate([part.ravel() for part in parts])


def nothing(data: Data) -> np.ndarray:
    return np.zeros(data.d + 2)


def relative(answer: np.ndarray, truth: np.ndarray) -> float:
    """The length of what is wrong in units of the answer's length."""
    if np.shape(answer) != truth.shape:
        return np.inf
    length = float(np.linalg.norm(truth)) or 1.0
    return float(np.linalg.norm(np.asarray(answer, np.float64) - truth)) / length


def sample(data: Data) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows from the beginning, their targets, and the least mean squared error on them."""
    part = data.head(20_000)
    X, y = part.X.astype(np.float64), part.y.astype(np.float64)
    return X, y, mean_square(X @ np.linalg.lstsq(X, y)[0] - y)


def excess(answer: np.ndarray, truth: tuple[np.ndarray, np.ndarray, float]) -> float:
    """By which part the loss on the sample is greater than the least one."""
    X, y, least = truth
    return mean_square(X @ np.asarray(answer, np.float64) - y) / least - 1


def mean_square(r: np.ndarray) -> float:
    return float(r @ r) / len(r)


#: float32's tolerance is wide because peers add up millions of rows in float32.
SUMS = {"float32": 1e-2, "float64": 1e-9}
#: Solvers of peers end at tolerances of their own.
FITS = {"float32": 1e-2, "float64": 1e-6}
#: scikit-learn's elastic net ends where the duality gap is 1e-4 of the loss.
NETS = {"float32": 2e-2, "float64": 2e-2}
#: Stochastic descent ends near the optimum, in whatever order it went through the rows.
NEAR = {"float32": 0.2, "float64": 0.2}

CASES = {
    "gradient": Case(gradient, relative, SUMS),
    "gradient function": Case(gradient, relative, SUMS),
    "step": Case(step, relative, SUMS),
    "moments": Case(gram, relative, SUMS),
    "fit": Case(optimum, relative, FITS),
    "SGD epoch": Case(sample, excess, NEAR),
    "SGD epoch in stretches": Case(sample, excess, NEAR),
    "estimator: fit": Case(optimum, relative, FITS),
    "estimator: elastic net": Case(elastic_net, relative, NETS),
    "estimator: SGD": Case(sample, excess, NEAR),
    "estimator: SGD in order": Case(sample, excess, NEAR),
    "sparse gradient": Case(gradient, relative, SUMS),
    "update: SGD": Case(moved(lambda g: g), relative, SUMS, reads=False),
    "update: Adam": Case(moved(of_length_one(1e-8)), relative, SUMS, reads=False),
    "update: AdamW": Case(decayed, relative, SUMS, reads=False),
    "update: Adagrad": Case(moved(of_length_one(1e-10)), relative, SUMS, reads=False),
    "update: RMSprop": Case(moved(lambda g: 10 * of_length_one(1e-7)(g)), relative, SUMS, reads=False),
    "gradient of a composition": Case(gradient_of_a_composition, relative, SUMS, reads=False),
    "textbook derivative": Case(textbook_derivative, relative, SUMS, reads=False),
    "network step": Case(network_gradient, relative, SUMS, reads=False),
    "engine overhead": Case(nothing, relative, SUMS, reads=False),
}
