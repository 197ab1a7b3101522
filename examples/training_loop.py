"""A training loop of one's own around fastgd's step: own schedule, early stopping, and the optimum to compare with.

`fastgd.MSE` holds the data, checked once and read in place; `step_` is one pass over it and one update of a vector that
stays the caller's.

    python examples/training_loop.py
"""

from __future__ import annotations

import math

import numpy as np

import fastgd as fg

STEPS = 1_000
WARM_UP = 50
PATIENCE = 10  # looks at the validation loss that may pass without a better one
LOOK_EVERY = 10  # steps


def made_up_data(rows: int, rng: np.random.Generator, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of different strength and targets with noise: hardly more rows than columns, so fits can overdo it."""
    X = rng.standard_normal((rows, len(truth))) / np.sqrt(1 + np.arange(len(truth)))
    return X, 3.0 + X @ truth + rng.standard_normal(rows)


def step_size(step: int, largest: float) -> float:
    """A linear warm-up to `largest`, then a cosine down to a tenth of it."""
    if step < WARM_UP:
        return largest * (step + 1) / WARM_UP
    share = (step - WARM_UP) / (STEPS - WARM_UP)
    return largest * (0.55 + 0.45 * math.cos(math.pi * share))


def main() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(100)
    X, y = made_up_data(150, rng, truth)
    X_val, y_val = made_up_data(1_000, rng, truth)

    training = fg.MSE(X, y, fit_intercept=True)
    validation = fg.MSE(X_val, y_val, fit_intercept=True)
    largest = 1.0 / training.lipschitz()  # below 2/λmax, so that no step climbs

    w = np.zeros(X.shape[1] + 1)  # ours: step_ writes into it. The intercept comes last
    best, best_step, best_w = math.inf, 0, w.copy()
    for step in range(STEPS):
        if step % LOOK_EVERY == 0:
            held_out = validation.value(w)
            if held_out < best:
                best, best_step = held_out, step
                best_w[:] = w
            elif step - best_step >= PATIENCE * LOOK_EVERY:
                break
        loss = training.step_(w, step_size(step, largest))  # the loss before the step comes for free
        if step % 50 == 0:
            print(f"step {step:>4}: training loss {loss:.4f}, best validation loss {best:.4f}")
    print(f"stopped at step {step}; the best was step {best_step}")

    r = fg.fit(X, y)
    optimum = np.append(r.coef, r.intercept)
    print(f"{'':<24}{'training loss':>14}{'validation loss':>17}")
    for name, parameters in (("own loop, stopped early", best_w), ("fastgd.fit, the optimum", optimum)):
        print(f"{name:<24}{training.value(parameters):>14.4f}{validation.value(parameters):>17.4f}")


if __name__ == "__main__":
    main()
