"""Backpropagation for a network: two layers on the diabetes data, beside the same network in PyTorch.

The network is a function of plain NumPy. `fastgd.value_and_grad` gives its loss and the gradients of all weights,
`fastgd.compile` keeps the graph of that, and `fastgd.optim.Adam` updates the weights in place. PyTorch starts from the
same weights and sees the same batches; without it, it is left out.

    python examples/mlp.py
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes

import fastgd as fg

HIDDEN, BATCH, LR = 32, 64, 3e-3
TRAINING_ROWS = 320  # five batches; the other 122 are held out

Params = dict[str, np.ndarray]


# ---- data, and where to start ----------------------------------------------------------------------------------------


def diabetes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, in random order; all columns and the target standardised, in float32."""
    X, y = load_diabetes(return_X_y=True)
    order = rng.permutation(len(y))
    X, y = X[order], y[order]
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    X, y = X.astype(np.float32), y.astype(np.float32)
    return X[:TRAINING_ROWS], y[:TRAINING_ROWS], X[TRAINING_ROWS:], y[TRAINING_ROWS:]


def initial(rng: np.random.Generator, columns: int) -> Params:
    """Weights of variance 1 / inputs, and zeros."""
    return {
        "W1": (rng.standard_normal((columns, HIDDEN)) / np.sqrt(columns)).astype(np.float32),
        "b1": np.zeros(HIDDEN, np.float32),
        "W2": (rng.standard_normal((HIDDEN, 1)) / np.sqrt(HIDDEN)).astype(np.float32),
        "b2": np.zeros(1, np.float32),
    }


def batches(rng: np.random.Generator, epochs: int) -> np.ndarray:
    """The rows of each batch of each epoch."""
    return np.stack([rng.permutation(TRAINING_ROWS).reshape(-1, BATCH) for _ in range(epochs)])


# ---- the network -----------------------------------------------------------------------------------------------------


def predict(params: Params, X: np.ndarray) -> Any:
    """A hidden layer of tanh, and a weighted sum of it."""
    hidden = np.tanh(X @ params["W1"] + params["b1"])
    return (hidden @ params["W2"] + params["b2"])[:, 0]


def loss(params: Params, X: np.ndarray, y: np.ndarray) -> Any:
    """Mean squared error."""
    return np.mean((predict(params, X) - y) ** 2)


def train(params: Params, X: np.ndarray, y: np.ndarray, epochs: np.ndarray) -> tuple[list[float], float]:
    """The mean loss of each epoch, and seconds a step. The weights are updated in place."""
    loss_and_gradient = fg.compile(fg.value_and_grad(loss))
    optimizer = fg.optim.Adam(list(params.values()), lr=LR)
    losses, seconds = [], []
    for epoch in epochs:
        total = 0.0
        for rows in epoch:
            X_batch, y_batch = X[rows], y[rows]
            start = perf_counter()
            value, gradient = loss_and_gradient(params, X_batch, y_batch)
            optimizer.step(list(gradient.values()))
            seconds.append(perf_counter() - start)
            total += float(value)
        losses.append(total / len(epoch))
    return losses, float(np.median(seconds))


# ---- the same in PyTorch ---------------------------------------------------------------------------------------------


def train_torch(
    torch: Any, start: Params, X: np.ndarray, y: np.ndarray, epochs: np.ndarray
) -> tuple[Params, list[float], float]:
    """The weights that PyTorch ends with, the mean loss of each epoch, and seconds a step."""
    torch.set_num_threads(1)  # more only slow down matrices as small as these
    net = torch.nn.Sequential(torch.nn.Linear(X.shape[1], HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1))
    with torch.no_grad():
        for layer, W, b in ((net[0], "W1", "b1"), (net[2], "W2", "b2")):
            layer.weight.copy_(torch.from_numpy(start[W].T.copy()))
            layer.bias.copy_(torch.from_numpy(start[b]))
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)
    losses, seconds = [], []
    for epoch in epochs:
        total = 0.0
        for rows in epoch:
            X_batch, y_batch = torch.from_numpy(X[rows]), torch.from_numpy(y[rows])
            begin = perf_counter()
            optimizer.zero_grad()
            value = torch.nn.functional.mse_loss(net(X_batch)[:, 0], y_batch)
            value.backward()
            optimizer.step()
            seconds.append(perf_counter() - begin)
            total += value.item()
        losses.append(total / len(epoch))
    W1, b1, W2, b2 = (p.detach().numpy() for p in net.parameters())
    return {"W1": W1.T, "b1": b1, "W2": W2.T, "b2": b2}, losses, float(np.median(seconds))


# ---- both ------------------------------------------------------------------------------------------------------------


def r2(params: Params, X: np.ndarray, y: np.ndarray) -> float:
    """The share of the targets' variance that is predicted."""
    return 1.0 - float(np.sum((predict(params, X) - y) ** 2) / np.sum((y - y.mean()) ** 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=20, help="passes over the data (default: %(default)s)")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    X, y, X_test, y_test = diabetes(rng)
    start, epochs = initial(rng, X.shape[1]), batches(rng, options.epochs)
    params = {name: value.copy() for name, value in start.items()}
    losses, seconds = train(params, X, y, epochs)

    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: fastgd alone\n")
        print(f"{'epoch':>5}{'fastgd':>12}")
        for epoch, own in enumerate(losses, start=1):
            print(f"{epoch:>5}{own:>12.6f}")
        print(f"\ntest R² {r2(params, X_test, y_test):.4f}, {1e6 * seconds:.1f} µs a step")
        return

    other, torch_losses, torch_seconds = train_torch(torch, start, X, y, epochs)
    print(f"{'epoch':>5}{'fastgd':>12}{'PyTorch':>12}")
    for epoch, (own, its) in enumerate(zip(losses, torch_losses, strict=True), start=1):
        print(f"{epoch:>5}{own:>12.6f}{its:>12.6f}")
    print(f"\n{'':<16}{'fastgd':>10}{'PyTorch':>10}")
    print(f"{'test R²':<16}{r2(params, X_test, y_test):>10.4f}{r2(other, X_test, y_test):>10.4f}")
    print(f"{'µs a step':<16}{1e6 * seconds:>10.1f}{1e6 * torch_seconds:>10.1f}   {torch_seconds / seconds:.1f}×")
    apart = max(float(np.abs(params[name] - other[name]).max()) for name in params)
    print(f"\nthe weights differ by {apart:.1e} at most")


if __name__ == "__main__":
    main()
