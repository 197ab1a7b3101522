"""Update rules against their twins and PyTorch, on any memory that can be shared; what they refuse; what they save."""

from __future__ import annotations

import array
import ctypes
import io
import itertools
import pickle
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from bounds import DOUBLE, TINY, UNIT, gamma
from hypothesis import given
from hypothesis import strategies as st
from test_kernels import LEVELS, by_dtype, many, running_at

import fastgd as fg
from fastgd import optim, reference

#: Every rule with the options that change what it does, alone and together.
RULES: list[tuple[str, dict[str, Any]]] = [
    *(
        ("SGD", {"lr": 0.1, "weight_decay": decay, "maximize": up, **momentum})
        for decay, up, momentum in itertools.product(
            (0.0, 0.01),
            (False, True),
            ({}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "nesterov": True}),
        )
    ),
    *(
        (name, {"amsgrad": largest, "maximize": up, "weight_decay": decay, **more})
        for name, largest, up, decay, more in itertools.product(
            ("Adam", "AdamW"), (False, True), (False, True), (0.0, 0.1),
            ({}, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3}, {"betas": (0.0, 0.0)}),
        )
    ),
    *(
        ("Adagrad", {"weight_decay": decay, "maximize": up, **more})
        for decay, up, more in itertools.product(
            (0.0, 0.1), (False, True), ({}, {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.5, "eps": 1e-4})
        )
    ),
    *(
        ("RMSprop", {"centered": centred, "momentum": momentum, "weight_decay": decay, "maximize": up, **more})
        for centred, momentum, decay, up, more in itertools.product(
            (False, True), (0.0, 0.9), (0.0, 0.1), (False, True), ({}, {"lr": 0.001, "alpha": 0.9, "eps": 1e-5})
        )
    ),
]  # fmt: skip
by_rule = pytest.mark.parametrize(
    ("name", "options"), RULES, ids=[f"{n}-{'-'.join(f'{k}={v}' for k, v in o.items())}" for n, o in RULES]
)
#: One of each, with all its state.
EACH = [
    ("SGD", {"momentum": 0.9}), ("Adam", {"amsgrad": True}), ("AdamW", {}), ("Adagrad", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
]  # fmt: skip
each = pytest.mark.parametrize(("name", "options"), EACH, ids=[n for n, _ in EACH])


def make(name: str, params: Any, **options: Any) -> optim.Optimizer:
    return getattr(optim, name)(params, **options)


def draw(shape: Any, dtype: Any, seed: Any = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ---- the twins -------------------------------------------------------------------------------------------------------

TWINS = {
    "SGD": reference.sgd_step, "Adam": reference.adam_step, "AdamW": reference.adam_step,
    "Adagrad": reference.adagrad_step, "RMSprop": reference.rmsprop_step,
}  # fmt: skip


def twin_of(name: str, opt: optim.Optimizer, p: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """Where the twin goes from p, in double."""
    group = opt.param_groups[0]
    options = dict(group)
    start = options.pop("initial_accumulator_value", 0.0)
    if name == "AdamW":
        options["decoupled"] = True
    w = p.astype(np.float64).tolist()
    state = {key: [start] * len(w) for key in opt.states(group)}
    for t, g in enumerate(gradients, start=1):
        TWINS[name](w, g.astype(np.float64).tolist(), state, t, **options)
    return np.array(w)


def step_bound(name: str, opt: optim.Optimizer, path: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """How far an element may be from the twin's after steps along `path`, by rounding alone.

    Each rule is one formula of the gradients so far and of p, of at most 25 roundings a step (a root and a quotient are
    one each; coefficients are rounded once). With no weight decay the state depends on the gradients alone: sums of
    terms of one sign, whose relative error after t steps is at most γ_25t, except averages of gradients, whose error is
    relative to the average of |g|, and the centred second moment, whose is relative to the moment itself. So steps are
    compared with their size where no gradient cancels: the test below gives all gradients of an element one sign, the
    one under which p moves away from zero, where weight decay adds terms of the same sign too. Then p is the sum of its
    start and of T steps, each relatively off by γ_25t, and each weighed by at most |p| at the end.
    """
    u, tiny = UNIT[path.dtype], TINY[path.dtype]
    steps = len(gradients)
    size = np.abs(path).max(axis=0)
    return gamma(25 * steps + 2 * steps, u) * size * (1 + steps) + 100 * tiny + gamma(50 * steps, DOUBLE) * size
