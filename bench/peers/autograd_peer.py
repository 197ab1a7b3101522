"""HIPS autograd: reverse mode on NumPy, traced anew in each call."""

from __future__ import annotations

from importlib.metadata import version

import autograd
import autograd.numpy as anp
import functions
import numpy as np
from contest import Run
from problems import Data

VERSION = version("autograd")


def gradient_of_a_composition(data: Data) -> Run:
    x, gradient = data.X[:, 0], autograd.grad(lambda x: functions.composition(anp, x))
    return Run(lambda: gradient(x))


def textbook_derivative(data: Data) -> Run:
    x, derivative = float(data.w[0]), autograd.grad(functions.textbook)
    return Run(lambda: derivative(x))


def network_step(data: Data) -> Run:
    arguments = (*functions.parameters(data), data.X, data.y[:, None])
    step = autograd.value_and_grad(lambda *a: functions.network(anp, *a), argnum=(0, 1, 2, 3))
    return Run(lambda: step(*arguments), lambda found: np.concatenate([g.ravel() for g in found[1]]))


RUNS = {
    "gradient of a composition": gradient_of_a_composition,
    "textbook derivative": textbook_derivative,
    "network step": network_step,
}
