"""fastgd, as its users call it."""

from __future__ import annotations

from functools import partial

import functions
import numpy as np
from cases import ELASTIC_NET, SGD_EPOCHS, UPDATE_RATE, UPDATES
from contest import Run
from problems import Data

import fastgd as fg
from fastgd import _sgd
from fastgd._engine import sum_blocks
from fastgd._rows import RowBlock

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


def fit(data: Data) -> Run:
    X, y, threads = data.X, data.y, data.threads
    return Run(lambda: fg.fit(X, y, n_threads=threads).coef)


def sgd_epoch(data: Data, stretch: int = 1, window: int = 1) -> Run:
    """One epoch over the rows in a new random order, made within the time, as scikit-learn makes its own."""
    block, n = RowBlock(data.X, data.y, None), data.n
    rates = np.array([2 * data.sgd_lr])  # the derivative of a square

    def call() -> np.ndarray:
        state, order = _sgd.State(np.zeros(data.d)), np.empty(n, dtype=np.intp)
        _sgd.shuffle(order, 0, stretch, window)
        _sgd.run(block, state, order, rates, intercept_step=0.0)
        return state.coef

    return Run(call)


def sgd_epoch_in_stretches(data: Data) -> Run:
    """The same in an order that memory is read faster by, as `_sgd.shuffle` recommends it."""
    row = data.d * data.dtype.itemsize
    return sgd_epoch(data, max(1, (8 << 10) // row), max(1, (128 << 10) // row))


def estimator_fit(data: Data, parameters: dict[str, float] | None = None) -> Run:
    X, y, threads = data.X, data.y, data.threads
    return Run(lambda: fg.GDRegressor(**parameters or {}, n_threads=threads).fit(X, y).coef_)


def estimator_sgd(data: Data, shuffle: bool) -> Run:
    X, y = data.X, data.y
    return Run(lambda: fg.SGDRegressor(**SGD_EPOCHS, shuffle=shuffle, random_state=0).fit(X, y).coef_)


def gradient_of_a_composition(data: Data) -> Run:
    x, gradient = data.X[:, 0], fg.compile(fg.grad(lambda x: functions.composition(np, x)))
    return Run(lambda: gradient(x))


def textbook_derivative(data: Data) -> Run:
    x, derivative = float(data.w[0]), fg.compile(fg.derivative(functions.textbook))
    return Run(lambda: derivative(x))


def network_step(data: Data) -> Run:
    arguments = (*functions.parameters(data), data.X, data.y[:, None])
    step = fg.compile(fg.value_and_grad(lambda *a: functions.network(np, *a), argnums=(0, 1, 2, 3)))
    return Run(lambda: step(*arguments), lambda found: np.concatenate([g.ravel() for g in found[1]]))


def engine(data: Data) -> Run:
    """A pass over all blocks of X with a kernel that does nothing: what the engine takes for itself."""
    objective = fg.MSE(data.X, data.y, n_threads=data.threads)
    blocks, size, threads = objective.blocks, data.d + 2, objective.n_threads
    return Run(lambda: sum_blocks(blocks, lambda rows, out: None, size, threads))


def update(data: Data, rule: str, options: dict[str, float]) -> Run:
    w, g = data.w.copy(), data.X[0]
    step = getattr(fg.optim, rule)([w], UPDATE_RATE, **options).step
    return Run(lambda: step([g]), lambda _: w.copy())


RUNS = {
    **{f"update: {rule}": partial(update, rule=rule, options=options) for rule, options in UPDATES.items()},
    "gradient": gradient,
    "gradient function": gradient_function,
    "step": step,
    "moments": moments,
    "fit": fit,
    "SGD epoch": sgd_epoch,
    "SGD epoch in stretches": sgd_epoch_in_stretches,
    "estimator: fit": estimator_fit,
    "estimator: elastic net": partial(estimator_fit, parameters=ELASTIC_NET),
    "estimator: SGD": partial(estimator_sgd, shuffle=True),
    "estimator: SGD in order": partial(estimator_sgd, shuffle=False),
    "sparse gradient": gradient,
    "gradient of a composition": gradient_of_a_composition,
    "textbook derivative": textbook_derivative,
    "network step": network_step,
    "engine overhead": engine,
}
