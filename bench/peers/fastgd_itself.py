"""fastgd, as its users call it."""

from __future__ import annotations

import numpy as np
from contest import Run
from problems import Data

import fastgd as fg
from fastgd._engine import sum_blocks

VERSION = f"{fg.__version__} ({fg._kernels.current})"


def gradient(data: Data) -> Run:
    objective = fg.MSE(data.X, data.y, n_threads=data.threads)
    w, out = data.w, np.empty_like(data.w)
    return Run(lambda: objective.grad(w, out=out))


def gradient_function(data: Data) -> Run:
    X, y, w = data.X, data.y, data.w
    return Run(lambda: fg.mse_grad(X, y, w))


def step(data: Data) -> Run:
    objective = fg.MSE(data.X, data.y, n_threads=data.threads)
    w, lr = data.w.copy(), data.lr
    return Run(lambda: objective.step_(w, lr), lambda _: w.copy())


def moments(data: Data) -> Run:
    X, y, d, threads = data.X, data.y, data.d, data.threads
    return Run(
        lambda: fg.Moments(d, n_threads=threads).update(X, y),
        lambda found: found.about(np.zeros(d + 1))[:d, :d],
    )


def engine(data: Data) -> Run:
    """A pass over all blocks of X with a kernel that does nothing: what the engine takes for itself."""
    objective = fg.MSE(data.X, data.y, n_threads=data.threads)
    blocks, size, threads = objective.blocks, data.d + 2, objective.n_threads
    return Run(lambda: sum_blocks(blocks, lambda rows, out: None, size, threads))


RUNS = {
    "gradient": gradient,
    "gradient function": gradient_function,
    "step": step,
    "moments": moments,
    "sparse gradient": gradient,
    "engine": engine,
}
