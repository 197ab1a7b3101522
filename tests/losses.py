"""The classic test functions of unconstrained minimisation, with their usual starts, and losses of data.

Most are in Moré, Garbow and Hillstrom, Testing unconstrained optimization software, 1981. They are analytic, so that a
complex step gives their gradients to the last digit (Squire and Trapp, Using complex variables to estimate derivatives
of real functions, 1998).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["CLASSICS", "Loss", "huber", "logistic", "quadratic"]


def complex_step(f):
    """The gradient of an analytic function."""

    def gradient(x):
        steps = np.asarray(x) + 1e-30j * np.eye(len(x))
        return np.array([f(row).imag for row in steps]) / 1e-30

    return gradient


@dataclass
class Loss:
    """A function, where to start, and its gradient."""

    f: Callable
    x0: np.ndarray
    jac: Callable


def classic(f, *x0):
    return Loss(f, np.array(x0, float), complex_step(f))


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def extended_rosenbrock(x):
    return np.sum(100 * (x[1::2] - x[::2] ** 2) ** 2 + (1 - x[::2]) ** 2)


def beale(x):
    return sum((c - x[0] * (1 - x[1] ** (i + 1))) ** 2 for i, c in enumerate((1.5, 2.25, 2.625)))


def powell_singular(x):
    a, b, c, d = x
    return (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4


def wood(x):
    """Also known as Colville's."""
    a, b, c, d = x
    return (
        100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
        + 10 * (b + d - 2) ** 2 + 0.1 * (b - d) ** 2
    )


def dixon_price(x):
    i = np.arange(2, len(x) + 1)
    return (x[0] - 1) ** 2 + np.sum(i * (2 * x[1:] ** 2 - x[:-1]) ** 2)


def zakharov(x):
    s = np.sum(0.5 * np.arange(1, len(x) + 1) * x)
    return np.sum(x**2) + s**2 + s**4


def trid(x):
    return np.sum((x - 1) ** 2) - np.sum(x[1:] * x[:-1])


def goldstein_price(x):
    a, b = x
    one = 1 + (a + b + 1) ** 2 * (19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2)
    return one * (30 + (2 * a - 3 * b) ** 2 * (18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2))


def three_humps(x):
    a, b = x
    return 2 * a**2 - 1.05 * a**4 + a**6 / 6 + a * b + b**2


def six_humps(x):
    a, b = x
    return (4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (4 * b**2 - 4) * b**2


def branin(x):
    bend = x[1] - 5.1 / (4 * np.pi**2) * x[0] ** 2 + 5 / np.pi * x[0] - 6
    return bend**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x[0]) + 10


def helical_valley(x):
    angle = np.arctan(x[1] / x[0]) / (2 * np.pi) + (0.5 if x[0].real < 0 else 0.0)
    return 100 * ((x[2] - 10 * angle) ** 2 + (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1) ** 2) + x[2] ** 2


def freudenstein_roth(x):
    a, b = x
    return (-13 + a + ((5 - b) * b - 2) * b) ** 2 + (-29 + a + ((b + 1) * b - 14) * b) ** 2


def variably_dimensioned(x):
    s = np.sum(np.arange(1, len(x) + 1) * (x - 1))
    return np.sum((x - 1) ** 2) + s**2 + s**4


def brown_dennis(x):
    t = np.arange(1, 21) / 5
    return np.sum(((x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2) ** 2)


def broyden_tridiagonal(x):
    z = np.concatenate([[0.0], x, [0.0]])
    return np.sum(((3 - 2 * x) * x - z[:-2] - 2 * z[2:] + 1) ** 2)


def box(x):
    t = np.arange(1, 11) / 10
    return np.sum((np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))) ** 2)


def bard(x):
    y = np.array([14, 18, 22, 25, 29, 32, 35, 39, 37, 58, 73, 96, 134, 210, 439]) / 100
    u = np.arange(1, 16)
    v, w = 16 - u, np.minimum(u, 16 - u)
    return np.sum((y - x[0] - u / (v * x[1] + w * x[2])) ** 2)


CLASSICS = {
    "Rosenbrock": classic(rosenbrock, -1.2, 1),
    "Rosenbrock, chained, 10": classic(rosenbrock, *[-1.2, 1] * 5),
    "Rosenbrock, extended, 20": classic(extended_rosenbrock, *[-1.2, 1] * 10),
    "Beale": classic(beale, 1, 1),
    "Booth": classic(lambda x: (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2, 0, 0),
    "Matyas": classic(lambda x: 0.26 * (x[0] ** 2 + x[1] ** 2) - 0.48 * x[0] * x[1], 5, -3),
    "Himmelblau": classic(lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2, 0, 0),
    "Powell, singular": classic(powell_singular, 3, -1, 0, 1),
    "Wood (Colville)": classic(wood, -3, -1, -3, -1),
    "Dixon-Price": classic(dixon_price, *[1] * 4),
    "Zakharov": classic(zakharov, *[1] * 5),
    "Brown, badly scaled": classic(lambda x: (x[0] - 1e6) ** 2 + (x[1] - 2e-6) ** 2 + (x[0] * x[1] - 2) ** 2, 1, 1),
    "Trid": classic(trid, *[0] * 6),
    "sphere": classic(lambda x: np.sum(x**2), 1, -2, 3),
    "sum of squares": classic(lambda x: np.sum(np.arange(1, 11) * x**2), *[1] * 10),
    "hyper-ellipsoid, rotated": classic(lambda x: np.sum(np.cumsum(x) ** 2), *range(1, 9)),
    "Styblinski-Tang": classic(lambda x: np.sum(x**4 - 16 * x**2 + 5 * x) / 2, *[0] * 4),
    "McCormick": classic(lambda x: np.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1, 0, 0),
    "camel, three humps": classic(three_humps, 1, -1),
    "camel, six humps": classic(six_humps, 1, 1),
    "Goldstein-Price": classic(goldstein_price, -0.5, 0.25),
    "Branin": classic(branin, 2.5, 7.5),
    "helical valley": classic(helical_valley, -1, 0, 0),
    "Freudenstein-Roth": classic(freudenstein_roth, 0.5, -2),
    "variably dimensioned": classic(variably_dimensioned, *(1 - np.arange(1, 11) / 10)),
    "Brown-Dennis": classic(brown_dennis, 25, 5, -5, -1),
    "Broyden, tridiagonal": classic(broyden_tridiagonal, *[-1] * 30),
    "Box": classic(box, 0, 10, 20),
    "Bard": classic(bard, 1, 1, 1),
}


def logistic(n=200, d=8, *, seed=0, l2=1e-3):
    """Cross entropy of labels -1 and 1, columns of very different lengths."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.geomspace(0.1, 10, d)
    y = np.sign(X @ rng.standard_normal(d) + rng.standard_normal(n))

    def f(w):
        return np.mean(np.logaddexp(0, -y * (X @ w))) + l2 * np.sum(w**2)

    def jac(w):
        return X.T @ (-y / (1 + np.exp(y * (X @ w)))) / n + 2 * l2 * w

    return Loss(f, np.zeros(d), jac)


def huber(n=200, d=6, *, seed=1, delta=1.0):
    """Huber's loss of a regression with outliers: quadratic within delta, linear beyond."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.geomspace(0.1, 10, d)
    y = X @ rng.standard_normal(d) + rng.standard_t(1.5, n)

    def f(w):
        r = np.abs(X @ w - y)
        return np.mean(np.where(r <= delta, r**2 / 2, delta * (r - delta / 2)))

    def jac(w):
        return X.T @ np.clip(X @ w - y, -delta, delta) / n

    return Loss(f, np.zeros(d), jac)


def quadratic(eigenvalues, *, seed=0, shift=0.0):
    """(x - b).A(x - b) / 2 + shift, A of these eigenvalues in directions drawn at random."""
    rng = np.random.default_rng(seed)
    d = len(eigenvalues)
    Q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    A, b = (Q * eigenvalues) @ Q.T, rng.standard_normal(d)
    return Loss(lambda x: (x - b) @ A @ (x - b) / 2 + shift, b + Q @ rng.standard_normal(d), lambda x: A @ (x - b))
