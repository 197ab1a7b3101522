"""The chain rule by hand and by machine, and what it is for: gradient descent for linear regression in four steps.

    python examples/chain_rule.py
"""

from __future__ import annotations

import numpy as np

import fastgd as fg
from fastgd import reference


def z(x):
    """The textbook's z = y² with y = 3x² + 2x + 1; x may be all that can be multiplied and added."""
    y = 3 * x**2 + 2 * x + 1
    return y**2


def by_hand(x: float) -> float:
    """dz/dx = dz/dy dy/dx = 2y (6x + 2)."""
    y = 3 * x**2 + 2 * x + 1
    dz_dy = 2 * y
    dy_dx = 6 * x + 2
    return dz_dy * dy_dx


def one_derivative(x: float) -> None:
    """The same number in four ways, and the way to it."""
    print(f"z = y², y = 3x² + 2x + 1, at x = {x}\n")
    print(f"by hand, 2y (6x + 2)          {by_hand(x)}")

    u = z(reference.Dual(x, 1.0))  # forward: a slope is carried along with each value
    print(f"forward, by dual numbers      {u.slope}")

    start = reference.Value(x)  # in reverse: what was done is remembered, and gone back over
    end = z(start)
    print(f"in reverse, by a tape         {reference.adjoints(end)[start.number]}")

    print(f"fastgd.derivative             {fg.derivative(z)(x)}")
    print(f"and the second derivative     {fg.derivative(fg.derivative(z))(x)}\n")
    print(fg.explain(z, x))


def linear_regression(steps: int = 200, lr: float = 0.1) -> None:
    """Gradient descent on the mean squared error of y = w x + b, whose gradient nobody writes down."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.0, 1.0, 100)
    y = 2.0 * X + 1.0 + 0.1 * rng.standard_normal(100)

    def loss(parameters):
        w, b = parameters
        return np.mean((w * X + b - y) ** 2)

    gradient = fg.grad(loss)
    parameters = np.zeros(2)  # 1. initialise
    for step in range(steps + 1):  # 4. repeat
        g = gradient(parameters)  # 2. the gradient of the loss
        if step % 50 == 0:
            w, b = parameters
            print(f"step {step:>3}: loss {loss(parameters):.6f}, w {w:.4f}, b {b:.4f}, gradient {np.abs(g).max():.1e}")
        parameters = parameters - lr * g  # 3. move against it
    exact = fg.fit(X[:, None], y)
    print(f"the optimum:  {'':>6}{exact.loss:.6f}, w {exact.coef[0]:.4f}, b {exact.intercept:.4f}")


def main() -> None:
    one_derivative(2.0)
    print("\nLinear regression, y = w x + b:\n")
    linear_regression()


if __name__ == "__main__":
    main()
