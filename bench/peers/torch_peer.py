"""PyTorch on the CPU, eager, by the operations with the fewest temporaries; tensors share memory with the arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import functions
import numpy as np
import torch
from cases import UPDATE_RATE, UPDATES
from contest import Run
from problems import Data

VERSION = torch.__version__

set_threads = torch.set_num_threads
warnings.filterwarnings("ignore", message="Sparse ")  # CSR tensors are called a beta, and not checked
torch.autograd.set_grad_enabled(False)


def tensors(data: Data) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.from_numpy(data.X), torch.from_numpy(data.y), torch.from_numpy(data.w.copy())


def gradient(data: Data) -> Run:
    X, y, w = tensors(data)
    XT, scale, r, g = X.t(), 2 / data.n, torch.empty_like(y), torch.empty_like(w)

    def call() -> torch.Tensor:
        torch.addmv(y, X, w, beta=-1, out=r)
        return torch.addmv(g, XT, r, beta=0, alpha=scale, out=g)

    return Run(call)


def gradient_function(data: Data) -> Run:
    X, y, w = tensors(data)
    n = data.n
    return Run(lambda: (2 / n) * (X.t() @ torch.addmv(y, X, w, beta=-1)))


def step(data: Data) -> Run:
    X, y, w = tensors(data)
    XT, rate, r = X.t(), 2 * data.lr / data.n, torch.empty_like(y)

    def call() -> torch.Tensor:
        torch.addmv(y, X, w, beta=-1, out=r)
        return w.addmv_(XT, r, alpha=-rate)

    return Run(call)


def moments(data: Data) -> Run:
    X, _, _ = tensors(data)
    return Run(lambda: X.t() @ X)


def sgd_epoch(data: Data) -> Run:
    part = data.head(data.sgd_rows)
    X, targets, w = torch.from_numpy(part.X), part.y.tolist(), torch.from_numpy(np.empty_like(data.w))
    rate = 2 * data.sgd_lr

    def call() -> torch.Tensor:
        w.zero_()
        for i in np.random.default_rng(0).permutation(part.n).tolist():
            x = X[i]
            w.add_(x, alpha=-rate * (float(x.dot(w)) - targets[i]))
        return w

    return Run(call, rows=part.n)


def backward(loss: Callable[[], torch.Tensor], leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    """The gradient of a number with respect to leaves, forward and backward."""
    with torch.enable_grad():
        return list(torch.autograd.grad(loss(), leaves))


def gradient_of_a_composition(data: Data) -> Run:
    x = torch.from_numpy(data.X[:, 0]).requires_grad_()
    return Run(lambda: backward(lambda: functions.composition(torch, x), [x])[0])


def textbook_derivative(data: Data) -> Run:
    x = torch.tensor(float(data.w[0]), dtype=torch.float64, requires_grad=True)
    return Run(lambda: backward(lambda: functions.textbook(x), [x])[0])


def network_step(data: Data) -> Run:
    leaves = [torch.from_numpy(p).requires_grad_() for p in functions.parameters(data)]
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y[:, None])
    return Run(
        lambda: backward(lambda: functions.network(torch, *leaves, X, y), leaves),
        lambda found: torch.cat([g.ravel() for g in found]).numpy(),
    )


def sparse_gradient(data: Data) -> Run:
    """The transpose is made ready beforehand, as for SciPy."""
    y, w = torch.from_numpy(data.y), torch.from_numpy(data.w)
    indptr, indices, values = (torch.from_numpy(array) for array in (data.X.indptr, data.X.indices, data.X.data))
    X = torch.sparse_csr_tensor(indptr, indices, values, size=data.X.shape)
    XT, scale = X.t().to_sparse_csr(), 2 / data.n
    return Run(lambda: (XT @ (X @ w - y)).mul_(scale))


def update(data: Data, rule: str, options: dict[str, Any]) -> Run:
    """As its users call it: with a gradient that is in place, and nothing said of how the step is to be made."""
    w = torch.from_numpy(data.w.copy())
    w.grad = torch.from_numpy(data.X[0])
    step = getattr(torch.optim, rule)([w], UPDATE_RATE, **options).step
    return Run(step, lambda _: w.numpy().copy())


RUNS = {
    **{f"update: {rule}": partial(update, rule=rule, options=options) for rule, options in UPDATES.items()},
    "gradient": gradient,
    "gradient function": gradient_function,
    "step": step,
    "moments": moments,
    "SGD epoch": sgd_epoch,
    "sparse gradient": sparse_gradient,
    "gradient of a composition": gradient_of_a_composition,
    "textbook derivative": textbook_derivative,
    "network step": network_step,
}
