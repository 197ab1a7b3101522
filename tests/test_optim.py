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
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from bounds import TINY, UNIT, gamma, outside
from hypothesis import given
from hypothesis import strategies as st
from test_kernels import LEVELS, by_dtype, many, running_at

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


@dataclass
class Off:
    """Numbers and by how much those that a kernel computes may be off, when each operation rounds once."""

    value: np.ndarray
    error: np.ndarray
    u: float

    def rounded(self, k: int = 1) -> Off:
        """After so many roundings more, of the kernel's and of the twin's."""
        return Off(self.value, self.error + (gamma(k, self.u) + gamma(k)) * (np.abs(self.value) + self.error), self.u)

    def __add__(self, other: Off) -> Off:
        return Off(self.value + other.value, self.error + other.error, self.u).rounded()

    def __sub__(self, other: Off) -> Off:
        return Off(self.value - other.value, self.error + other.error, self.u).rounded()

    def __mul__(self, other: Off | float) -> Off:
        if not isinstance(other, Off):      # a coefficient, computed in double, rounded, and used once
            return Off(other * self.value, abs(other) * self.error, self.u).rounded(3)
        error = np.abs(self.value) * other.error + (np.abs(other.value) + other.error) * self.error
        return Off(self.value * other.value, error, self.u).rounded()

    def __truediv__(self, other: Off) -> Off:
        """|x/y - x'/y'| <= (|x - x'| + |x/y| |y - y'|) / |y'|."""
        quotient, least = self.value / other.value, other.value - other.error
        error = (self.error + np.abs(quotient) * other.error) / np.where(least > 0, least, np.nan)
        return Off(quotient, np.nan_to_num(error, nan=np.inf), self.u).rounded()

    def root(self) -> Off:
        """|sqrt(x) - sqrt(x')| = |x - x'| / (sqrt(x) + sqrt(x')), and at most the root of the difference."""
        root = np.sqrt(self.value)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.minimum(np.sqrt(self.error), np.nan_to_num(self.error / root, nan=np.inf))
        return Off(root, error, self.u).rounded()

    def maximum(self, other: Off) -> Off:
        return Off(np.maximum(self.value, other.value), np.maximum(self.error, other.error), self.u)


def walk(
    name: str, options: dict[str, Any], p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int
) -> dict[str, Off]:
    """The parameters ("p") and the state after a step, and how far rounding may carry the kernel from them."""
    u = UNIT[p.dtype]

    def exact(x: np.ndarray) -> Off:
        return Off(x.astype(np.float64), np.zeros(x.shape), u)

    get, lr = options.get, options["lr"]
    x, old = exact(p), {key: exact(value) for key, value in state.items()}
    decay = get("weight_decay", 0.0)
    d = exact(-g if get("maximize") else g)
    if decay and name != "AdamW":
        d = d + x * decay
    after = {}
    if name == "SGD":
        if get("momentum"):
            take = 1.0 if t == 1 else 1.0 - get("dampening", 0.0)
            keep = 0.0 if t == 1 else options["momentum"]
            b = after["momentum_buffer"] = old["momentum_buffer"] * keep + d * take
            d = d + b * options["momentum"] if get("nesterov") else b
        return after | {"p": x - d * lr}
    if name in ("Adam", "AdamW"):
        beta1, beta2 = options["betas"]
        m = after["exp_avg"] = old["exp_avg"] + (d - old["exp_avg"]) * (1.0 - beta1)
        v = after["exp_avg_sq"] = old["exp_avg_sq"] * beta2 + d * d * (1.0 - beta2)
        if get("amsgrad"):
            v = after["max_exp_avg_sq"] = old["max_exp_avg_sq"].maximum(v)
        if name == "AdamW":
            x = x * (1.0 - lr * decay)
        spread = v.root() * (1.0 / np.sqrt(1.0 - beta2**t)) + exact(np.full(p.shape, options["eps"])).rounded()
        return after | {"p": x - m * (lr / (1.0 - beta1**t)) / spread}
    eps = exact(np.full(p.shape, options["eps"])).rounded()
    if name == "Adagrad":
        v = after["sum"] = old["sum"] + d * d
        return after | {"p": x - d * (lr / (1.0 + (t - 1) * options["lr_decay"])) / (v.root() + eps)}
    v = after["square_avg"] = old["square_avg"] * options["alpha"] + d * d * (1.0 - options["alpha"])
    if options["centered"]:
        a = after["grad_avg"] = old["grad_avg"] + (d - old["grad_avg"]) * (1.0 - options["alpha"])
        v = (v - a * a).maximum(exact(np.zeros(p.shape)))
    d = d / (v.root() + eps)
    if options["momentum"]:
        d = after["momentum_buffer"] = old["momentum_buffer"] * options["momentum"] + d
    return after | {"p": x - d * lr}


def twin_step(
    name: str, options: dict[str, Any], p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int
) -> dict[str, np.ndarray]:
    """The parameters and the state after a step of `fastgd.reference`."""
    options = {key: value for key, value in options.items() if key != "initial_accumulator_value"}
    if name == "AdamW":
        options["decoupled"] = True
    w, states = p.tolist(), {key: value.tolist() for key, value in state.items()}
    TWINS[name](w, g.tolist(), states, t, **options)
    return {key: np.array(value) for key, value in states.items()} | {"p": np.array(w)}


@given(
    rule=st.sampled_from(RULES), dtype=st.sampled_from([np.float32, np.float64]), n=st.integers(1, 70),
    t=st.integers(1, 30), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@many
def test_a_step_is_the_twins(rule, dtype, n, t, seed):
    """From any parameters and state, at every instruction-set level; scales apart by up to a million."""
    name, given_options = rule
    rng = np.random.default_rng(seed)
    p, g = (draw(n, dtype, rng) * dtype(10.0 ** rng.uniform(-3, 3)) for _ in range(2))
    options = dict(make(name, p, **given_options).param_groups[0])
    keys = make(name, p, **given_options).states(options)
    signed = ("momentum_buffer", "exp_avg", "grad_avg")
    state = {key: draw(n, dtype, rng) * dtype(10.0 ** rng.uniform(-3, 3)) for key in keys}
    state = {key: value if key in signed else np.abs(value) for key, value in state.items()}
    if "grad_avg" in state:     # a mean of squares is above the square of the mean
        state["square_avg"] += 2 * state["grad_avg"] ** 2
    if t == 1:
        state = {key: np.zeros_like(value) if key == "momentum_buffer" else value for key, value in state.items()}
    expected = twin_step(name, options, p, g, state, t)
    allowed = walk(name, options, p, g, state, t)
    assert allowed.keys() == expected.keys()
    for level in LEVELS:
        with running_at(level):
            w = p.copy()
            opt = make(name, w, **given_options)
            saved = opt.state_dict() | {"state.0.step": t - 1} | {f"state.0.{key}": v for key, v in state.items()}
            opt.load_state_dict(saved)
            opt.step(g)
            done = opt.state_dict()
        assert done["state.0.step"] == t
        computed = {key: done[f"state.0.{key}"] for key in state} | {"p": w}
        for key, value in computed.items():
            assert value.dtype == dtype
            bound = allowed[key].error + 1e3 * TINY[np.dtype(dtype)]
            assert np.isfinite(bound).all()
            bad = outside(value, expected[key], bound)
            assert not bad.any(), (level, key, value[bad], expected[key][bad], bound[bad])


@by_dtype
@by_rule
def test_bits_do_not_depend_on_the_place(name, options, dtype):
    """An element in the midst of vectors, one of what is left over, and one alone: all the same."""
    for level in LEVELS:
        with running_at(level):
            found = set()
            for n in (1, 2, 7, 16, 33, 131):
                p = np.full(n, 0.7, dtype)
                opt = make(name, p, **options)
                for g in (0.3, -1.1, 0.013, 5.7):
                    opt.step(np.full(n, g, dtype))
                found |= set(p.tolist())
            assert len(found) == 1, (level, found)


@by_dtype
@each
def test_the_bound_is_no_wide_one(name, options, dtype):
    """A step that is wrong by a thousandth is outside: the test above can fail."""
    p, g = draw(50, dtype, 1), draw(50, dtype, 2)
    opt = make(name, p, **options)
    group = dict(opt.param_groups[0])
    state = {key: np.full(50, 0.5 if key == "grad_avg" else 2, dtype) for key in opt.states(group)}
    allowed = walk(name, group, p, g, state, 5)["p"]
    move = np.abs(allowed.value - p)
    assert (allowed.error < 1e-3 * move + 4 * UNIT[np.dtype(dtype)] * np.abs(p)).all()


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


@pytest.mark.peer("torch")
@by_dtype
@by_rule
def test_ten_steps_are_pytorchs(name, options, dtype):
    import torch

    mine = [draw((7, 5), dtype, 1), draw(33, dtype, 2)]
    theirs = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in mine]
    opt, peer = make(name, mine, **options), getattr(torch.optim, name)(theirs, **options)
    rng = np.random.default_rng(3)
    for _ in range(10):
        gradients = [draw(p.shape, dtype, rng) for p in mine]
        opt.step(gradients)
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = torch.from_numpy(g)
        peer.step()
    for p, q in zip(mine, theirs, strict=True):
        tolerance = 1e-6 if dtype == np.float32 else 1e-12
        np.testing.assert_allclose(p, q.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_what_rules_have_in_common_is_none():
    with pytest.raises(TypeError, match="abstract class Optimizer"):
        optim.Optimizer([np.zeros(2)], {"lr": 0.1}, False)


@pytest.mark.peer("torch")
@pytest.mark.parametrize("name", [name for name, _ in EACH])
def test_defaults_are_pytorchs(name):
    import torch

    peer = getattr(torch.optim, name)([torch.zeros(1)])
    for option, value in make(name, np.zeros(1)).param_groups[0].items():
        assert peer.param_groups[0][option] == value, option


@pytest.mark.peer("torch")
@each
def test_a_tensor_is_updated_in_place(name, options):
    """Also one that requires grad, whose gradients PyTorch leaves in `grad`, and autograd is told of the change."""
    import torch

    p = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64))
    before, version = p.detach().clone(), p._version
    q = p.detach().numpy().copy()
    opt, other = make(name, [p], **options), make(name, q, **options)
    for _ in range(3):
        opt.zero_grad()
        assert p.grad is None
        (p**2).sum().backward()
        other.step(p.grad.numpy())
        opt.step()
    assert not torch.equal(p, before)
    np.testing.assert_array_equal(p.detach().numpy(), q)
    assert p._version > version
    opt.step([torch.ones(2, 2, dtype=torch.float64)])
    loss = (p**3).sum()
    opt.step([p.detach().clone()])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.peer("torch")
def test_a_tensor_without_gradient_is_left_alone():
    import torch

    p, q = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    opt = optim.Adam(iter([p, q]))
    with pytest.raises(ValueError, match="no parameter has a gradient"):
        opt.step()
    p.sum().backward()
    opt.step()
    assert (p != 1).all()
    assert (q == 1).all()
    assert (opt.state_dict()["state.0.step"], opt.state_dict()["state.1.step"]) == (1, 0)


@pytest.mark.peer("torch")
def test_tensors_that_are_refused():
    import torch

    refuse(TypeError, "parameter 0 is a tensor on meta, and must be on the CPU", torch.zeros(3, device="meta"))
    refuse(TypeError, "parameter 0 is a tensor of layout torch.sparse_coo", torch.zeros(3).to_sparse())
    refuse(TypeError, "parameter 0 must be float32 or float64, got a tensor of torch.bfloat16",
           torch.zeros(3, dtype=torch.bfloat16))  # fmt: skip
    refuse(ValueError, "parameter 0 is a tensor that was computed", torch.zeros(3, requires_grad=True) * 2)
    refuse(ValueError, "parameter 0 has elements that share memory", torch.zeros(1).expand(3))
    p = torch.nn.Parameter(torch.zeros(3))
    opt = optim.SGD(p)
    with pytest.raises(TypeError, match="gradient 0 is a tensor of layout"):
        opt.step(torch.ones(3).to_sparse())
    with pytest.raises(TypeError, match="gradient 0 must have dtype float32"):
        opt.step(torch.ones(3, dtype=torch.float64))
    p.data = torch.ones(3)
    with pytest.raises(ValueError, match="parameter 0 has got other memory"):
        opt.step(torch.ones(3))


@pytest.mark.peer("torch")
def test_a_tensor_that_was_the_last_gradient_is_looked_at_again():
    import torch

    p, g = torch.zeros(3), torch.ones(3)
    opt = optim.SGD(p, lr=1.0)
    opt.step(g)
    g *= 2
    opt.step(g)
    g.data = torch.full((3,), 4.0)
    opt.step(g)
    assert p.tolist() == [-7.0] * 3


# ---- memory of all kinds ---------------------------------------------------------------------------------------------


class Exported:
    """Something that speaks DLPack alone."""

    def __init__(self, values: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.values, self.device = values, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def reversed_view(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.zeros(shape, dtype)[tuple(slice(None, None, -1) for _ in shape)]


def every_other(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.zeros([2 * n + 1 for n in shape], dtype)[tuple(slice(1, None, 2) for _ in shape)]


LAYOUTS = {
    "C": np.zeros,
    "Fortran": lambda shape, dtype: np.zeros(shape, dtype, order="F"),
    "axes in another order": lambda shape, dtype: np.zeros(shape[1:] + shape[:1], dtype).transpose(
        len(shape) - 1, *range(len(shape) - 1)
    ),
    "backwards": reversed_view,
    "every other": every_other,
    "a column": lambda shape, dtype: np.zeros((*shape, 3), dtype)[..., 1],
}


@each
@by_dtype
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4), (70, 60), (3, 1, 2), (0, 3)])
def test_any_strides_in_place(shape, dtype, name, options):
    """The bits are those of contiguous memory, for parameter and gradient in any two layouts; nothing else changes."""
    start, gradients = draw(shape, dtype, 1), [draw(shape, dtype, k) for k in (2, 3)]
    expected = start.copy()
    opt = make(name, expected, **options)
    for g in gradients:
        opt.step(g)
    state = opt.state_dict()
    for (mine, lay_p), (theirs, lay_g) in itertools.product(LAYOUTS.items(), repeat=2):
        p = lay_p(shape, dtype)
        p[...] = start
        owner = p if p.base is None else p.base
        total = owner.size - p.size
        opt = make(name, p, **options)
        for values in gradients:
            g = lay_g(shape, dtype)
            g[...] = values
            opt.step([g][0])
        np.testing.assert_array_equal(p, expected, err_msg=f"{mine}, {theirs}")
        assert np.count_nonzero(owner) <= owner.size - total
        for key, value in opt.state_dict().items():
            np.testing.assert_array_equal(value, state[key])


def test_a_number_is_a_parameter_too():
    p = np.array(3.0)
    opt = optim.SGD(p, lr=0.5)
    opt.step(np.array(1.0))
    opt.step(np.float64(1.0))
    opt.step(1.0)
    opt.step(1)
    assert p == 1.0


def test_memory_of_others():
    typed, raw = array.array("f", [1, 2, 3]), (ctypes.c_double * 3)(1, 2, 3)
    viewed = memoryview(bytearray(24)).cast("d")
    exported = np.ones(3)
    opt = optim.SGD([typed, raw, viewed, Exported(exported)], lr=1.0)
    opt.step([array.array("f", [1, 1, 1]), (ctypes.c_double * 3)(1, 1, 1), np.ones(3), Exported(np.ones(3))])
    assert list(typed) == [0, 1, 2]
    assert list(raw) == [0, 1, 2]
    assert viewed.tolist() == [-1, -1, -1]
    assert exported.tolist() == [0, 0, 0]


def test_structures_of_parameters():
    params = {"layers": [(np.zeros(2), np.zeros(1)), {"w": np.zeros((2, 2))}], "last": np.zeros(3)}
    opt = optim.SGD(params, lr=1.0)
    grads = {"last": np.full(3, 4.0), "layers": ([np.full(2, 1.0), np.full(1, 2.0)], {"w": np.full((2, 2), 3.0)})}
    opt.step(grads)
    (a, b), c = params["layers"]
    assert [x.ravel()[0] for x in (a, b, c["w"], params["last"])] == [-1, -2, -3, -4]
    for wrong, message in [
        ({"layers": grads["layers"]}, r"grads must be a dict of 'layers', 'last', got a dict of 'layers'"),
        (grads | {"layers": grads["layers"][0]}, r"gradient 0 .* must have|grads\['layers'\]\[0\] must be a list"),
        (grads | {"layers": [grads["layers"][0]]}, r"grads\['layers'\] must be a list or tuple of 2, .* a list of 1"),
        ([np.ones(2)], r"grads must be a dict of 'layers', 'last', got a list of 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            opt.step(wrong)
    with pytest.raises(ValueError, match=r"gradient 1 \(params\['layers'\]\[0\]\[1\]\) must have shape \(1,\)"):
        opt.step(grads | {"layers": [(np.ones(2), np.ones(2)), {"w": np.ones((2, 2))}]})


def test_groups_have_options_of_their_own():
    a, b, c = (np.zeros(2) for _ in range(3))
    opt = optim.SGD([{"params": [a, b], "lr": 1.0}, {"params": c, "momentum": 0.5}], lr=10.0)
    one = np.ones(2)
    opt.step([[one, one], one])
    opt.step([[one, one], one])
    assert [x[0] for x in (a, b, c)] == [-2, -2, -25]
    opt.param_groups[0]["lr"] = 0.5
    opt.step([[one, one], one])
    assert a[0] == -2.5
    with pytest.raises(ValueError, match="momentum cannot be changed so that the optimiser has other state"):
        opt.param_groups[0]["momentum"] = 0.5
    with pytest.raises(ValueError, match="SGD has no option 'betas'"):
        optim.SGD([{"params": a, "betas": (0.9, 0.99)}])
    with pytest.raises(TypeError, match="cannot be taken away"):
        del opt.param_groups[0]["lr"]


# ---- what is refused -------------------------------------------------------------------------------------------------


def refuse(error: type[Exception], message: str, params: Any, rule: Any = optim.Adam, **options: Any) -> None:
    with pytest.raises(error, match=message):
        rule(params, **options)


def read_only(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False
    return values


def test_parameters_that_are_refused():
    w = np.zeros((4, 3))
    refuse(TypeError, "parameter 0 must be float32 or float64 in native byte order.*int64", np.zeros(3, np.int64))
    refuse(TypeError, "parameter 0 must be float32 or float64 in native byte order.*float16", np.zeros(3, np.float16))
    refuse(TypeError, "parameter 0 must be float32 or float64 in native byte order.*>f8", np.zeros(3, ">f8"))
    refuse(TypeError, "parameter 0 must be an array, a tensor, .*got float", [1.0, 2.0])
    refuse(TypeError, "parameter 0 must be an array, a tensor, .*got NoneType", None)
    refuse(TypeError, "parameter 0 is a masked array", np.ma.zeros(3))
    refuse(ValueError, r"parameter 1 is read-only", [w, read_only(np.zeros(2))])
    refuse(ValueError, "parameter 0 is read-only", memoryview(bytes(16)).cast("d"))
    refuse(ValueError, "parameter 0 must be aligned", np.zeros(17, np.uint8)[1:].view(np.float64))
    refuse(ValueError, "parameter 0 has elements that share memory", np.lib.stride_tricks.as_strided(w, (3, 3), (8, 8)))
    refuse(ValueError, r"parameter 1 \(params\['b'\]\) shares memory with parameter 0 \(params\['a'\]\)",
           {"a": w, "b": w[1:2, ::2]})  # fmt: skip
    refuse(ValueError, "parameter 1 shares memory with parameter 0", [w, w])
    refuse(ValueError, "params holds no parameter", [])
    refuse(TypeError, "parameter 0 is on a device of DLPack's type 2", Exported(np.zeros(3), (2, 0)))
    optim.Adam([w[:, 0], w[:, 1], w[:, 2]])     # between each other, not over each other


@pytest.mark.parametrize(
    ("rule", "option", "value", "error"),
    [
        (optim.SGD, "lr", -0.1, ValueError), (optim.SGD, "lr", float("nan"), ValueError),
        (optim.SGD, "lr", "fast", TypeError), (optim.SGD, "momentum", -1, ValueError),
        (optim.SGD, "weight_decay", -1, ValueError), (optim.SGD, "dampening", None, TypeError),
        (optim.SGD, "nesterov", 1, TypeError), (optim.SGD, "maximize", "yes", TypeError),
        (optim.Adam, "betas", 0.9, TypeError), (optim.Adam, "betas", (0.9, 1.0), ValueError),
        (optim.Adam, "betas", (-0.1, 0.9), ValueError), (optim.Adam, "eps", -1e-8, ValueError),
        (optim.Adam, "amsgrad", None, TypeError), (optim.AdamW, "weight_decay", float("inf"), ValueError),
        (optim.Adagrad, "lr_decay", -1, ValueError), (optim.Adagrad, "initial_accumulator_value", -1, ValueError),
        (optim.RMSprop, "alpha", 1.0, ValueError), (optim.RMSprop, "centered", 0, TypeError),
        (optim.SGD, "check_finite", "last", ValueError), (optim.SGD, "check_finite", 1, ValueError),
    ],
)  # fmt: skip
def test_options_that_are_refused(rule, option, value, error):
    refuse(error, option, np.zeros(2), rule, **{option: value})


def test_nesterov_needs_momentum_alone():
    refuse(ValueError, "nesterov=True needs a momentum and no dampening", np.zeros(2), optim.SGD, nesterov=True)
    refuse(ValueError, "nesterov=True needs a momentum and no dampening", np.zeros(2), optim.SGD, nesterov=True,
           momentum=0.9, dampening=0.1)  # fmt: skip


@each
def test_gradients_that_are_refused_change_nothing(name, options):
    a, b = np.ones((2, 3), np.float32), np.ones(4)
    opt = make(name, [a, b], **options)
    before, fine = opt.state_dict(), np.ones((2, 3), np.float32)
    nan = np.ones(4)
    nan[2] = np.nan
    inf = fine.copy()
    inf[1, 2] = -np.inf
    for grads, error, message in [
        ([fine, np.ones(3)], ValueError, r"gradient 1 must have shape \(4,\).*got \(3,\)"),
        ([fine.T, np.ones(4)], ValueError, r"gradient 0 must have shape \(2, 3\).*got \(3, 2\)"),
        ([fine, np.ones(4, np.float32)], TypeError, "gradient 1 must have dtype float64.*got float32"),
        ([fine, np.ones(4, np.int64)], TypeError, "gradient 1 must have dtype float64.*got int64"),
        ([fine, np.ones(4, ">f8")], TypeError, "gradient 1 must have dtype float64.*got >f8"),
        ([fine, np.zeros(33, np.uint8)[1:].view(np.float64)], ValueError, "gradient 1 must be aligned"),
        ([fine, [1.0] * 4], TypeError, "gradient 1 must be an array, a tensor"),
        ([fine, None], TypeError, "gradient 1 must be an array.*NoneType"),
        ([fine, b], ValueError, "gradient 1 shares memory with parameter 1"),
        ([a[::-1], np.ones(4)], ValueError, "gradient 0 shares memory with parameter 0"),
        ([fine], ValueError, "grads must be a list or tuple of 2, as the parameters are, got a list of 1"),
        (fine, ValueError, "grads must be a list or tuple of 2, as the parameters are, got a ndarray"),
        ([fine, nan], ValueError, "gradient 1 holds nan at index 2; nothing was changed"),
        ([inf, nan], ValueError, r"gradient 0 holds -inf at index \(1, 2\); nothing was changed"),
        (None, TypeError, "parameter 0 is no PyTorch tensor"),
    ]:
        with pytest.raises(error, match=message):
            opt.step(grads)
        assert (a == 1).all()
        assert (b == 1).all()
        assert_same_state(opt.state_dict(), before)
    a.flags.writeable = False
    with pytest.raises(ValueError, match="parameter 0 has become read-only"):
        opt.step([fine, np.ones(4)])


@by_dtype
@each
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_a_large_gradient_is_left_out(bad, name, options, dtype):
    """At every level: those elements stay as they were, all others make the step, and the error says so."""
    n = 70_001
    places = [0, 17, 40_000, n - 1]
    for level in LEVELS:
        with running_at(level):
            p, q = np.ones(n, dtype), np.ones(n, dtype)
            opt, other = make(name, p, **options), make(name, q, check_finite=False, **options)
            for _ in range(2):
                opt.step(np.full(n, 0.5, dtype))
                other.step(np.full(n, 0.5, dtype))
            before, state = p.copy(), opt.state_dict()
            g = draw(n, dtype, 5)
            g[places] = bad
            with pytest.raises(ValueError, match=f"gradient 0 holds {bad} at index 0; the step left such elements"):
                opt.step(g)
            other.step(g)
            assert opt.steps == 3
            good = np.ones(n, bool)
            good[places] = False
            np.testing.assert_array_equal(p[places], before[places])
            np.testing.assert_array_equal(p[good], q[good])
            assert not np.isfinite(q[places]).any() or name == "RMSprop" or np.isinf(bad)
            for key, value in opt.state_dict().items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_array_equal(value[places], state[key][places])
                    np.testing.assert_array_equal(value[good], other.state_dict()[key][good])


def test_check_finite_first_changes_nothing():
    p, g = np.ones(200_000), np.ones(200_000)
    g[150_000] = np.nan
    opt = optim.Adam(p, check_finite="first")
    with pytest.raises(ValueError, match="gradient 0 holds nan at index 150000; nothing was changed"):
        opt.step(g)
    assert (p == 1).all()
    assert opt.steps == 0
    strided = np.ones((400, 1000))[:, ::2]
    with pytest.raises(ValueError, match=r"gradient 0 holds nan at index \(300, 0\); nothing was changed"):
        optim.Adam(strided, check_finite="first").step(g.reshape(400, 500))


def test_a_centred_moment_that_rounds_below_zero_counts_as_zero():
    p = np.zeros(1000, np.float32)
    opt = optim.RMSprop(p, centered=True, alpha=0.5, eps=1.0)
    g = np.linspace(1, 2, 1000, dtype=np.float32)
    for _ in range(100):
        opt.step(g)
    assert np.isfinite(p).all()


# ---- learning rates --------------------------------------------------------------------------------------------------


def test_schedules():
    assert [optim.constant(0.1)(k) for k in (0, 9)] == [0.1, 0.1]
    assert [optim.exponential(1.0, 0.5)(k) for k in range(3)] == [1.0, 0.5, 0.25]
    assert [optim.step_decay(1.0, 2, 0.5)(k) for k in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert [optim.cosine(1.0, 2, 0.5)(k) for k in range(4)] == pytest.approx([1.0, 0.75, 0.5, 0.5])
    assert [optim.warm_up(1.0, 4)(k) for k in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [optim.warm_up(optim.exponential(1.0, 0.5), 2)(k) for k in range(3)] == [0.5, 0.5, 0.25]
    assert [optim.inverse_scaling(1.0, 1.0)(k) for k in range(3)] == pytest.approx([1, 1 / 2, 1 / 3])


@pytest.mark.parametrize(
    ("make_schedule", "error", "message"),
    [
        (lambda: optim.constant(-1), ValueError, "lr"), (lambda: optim.exponential(1, 0), ValueError, "gamma"),
        (lambda: optim.step_decay(1, 0), ValueError, "every"), (lambda: optim.cosine(1, 1.5), TypeError, "steps"),
        (lambda: optim.cosine(1, 5, -1), ValueError, "lr_min"), (lambda: optim.warm_up("a", 5), TypeError, "schedule"),
        (lambda: optim.warm_up(1.0, 0), ValueError, "steps"),
        (lambda: optim.inverse_scaling(1, -1), ValueError, "power"),
    ],
)  # fmt: skip
def test_schedules_that_are_refused(make_schedule, error, message):
    with pytest.raises(error, match=message):
        make_schedule()


@pytest.mark.peer("torch")
@pytest.mark.parametrize(
    ("schedule", "peer"),
    [
        (optim.exponential(0.1, 0.9), lambda s, o: s.ExponentialLR(o, 0.9)),
        (optim.step_decay(0.1, 3, 0.5), lambda s, o: s.StepLR(o, 3, 0.5)),
        (optim.cosine(0.1, 8, 0.01), lambda s, o: s.CosineAnnealingLR(o, 8, 0.01)),
        (optim.warm_up(0.1, 4), lambda s, o: s.LinearLR(o, 0.25, 1.0, 3)),
    ],
)
def test_schedules_are_pytorchs(schedule, peer):
    import torch

    opt = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    other = peer(torch.optim.lr_scheduler, opt)
    for k in range(8):
        assert schedule(k) == pytest.approx(opt.param_groups[0]["lr"], rel=1e-12)
        opt.step()
        other.step()


def test_a_schedule_is_asked_at_each_step():
    p, seen = np.zeros(1), []
    opt = optim.SGD(p, lr=lambda step: seen.append(step) or 10.0**-step)
    for _ in range(3):
        opt.step(np.ones(1))
    assert seen == [0, 1, 2]
    assert p[0] == pytest.approx(-1.11)
    for lr, error, message in [
        (lambda step: -1.0, ValueError, r"lr\(0\) must be a finite number of at least 0, got -1"),
        (lambda step: None, TypeError, r"lr\(0\) must be a finite number"),
        (lambda step: float("nan"), ValueError, r"lr\(0\)"),
        (lambda step: 1 / step, ZeroDivisionError, "division"),
    ]:
        with pytest.raises(error, match=message):
            optim.SGD(p, lr=lr).step(np.ones(1))
    assert p[0] == pytest.approx(-1.11)


# ---- saving ----------------------------------------------------------------------------------------------------------


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def through_pickle(state):
    return pickle.loads(pickle.dumps(state))


def through_npz(state):
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    return np.load(file)  # no pickle


@by_dtype
@each
@pytest.mark.parametrize("way", [dict, through_pickle, through_npz])
@pytest.mark.parametrize("lr", [0.01, optim.exponential(0.1, 0.9)])
def test_going_on_after_saving_has_the_same_bits(lr, way, name, options, dtype):
    a, b, c = draw((3, 4), dtype, 1), np.asfortranarray(draw((5, 2), dtype, 2)), np.array(1.0, dtype)
    opt = make(name, [a, b, c], lr=lr, **options)
    rng = np.random.default_rng(0)
    gradients = [[draw(p.shape, dtype, rng) for p in (a, b)] + [dtype(rng.random())] for _ in range(6)]
    for g in gradients[:3]:
        opt.step(g)
    copies = [p.copy(order="K") for p in (a, b, c)]
    saved = way(opt.state_dict())
    other = make(name, copies, lr=0.5 if isinstance(lr, float) else lr, **options)
    other.load_state_dict(saved)
    for g in gradients[3:]:
        opt.step(g)
        other.step(g)
    for p, q in zip((a, b, c), copies, strict=True):
        assert p.tobytes() == q.tobytes()
    assert_same_state(opt.state_dict(), other.state_dict())
    assert other.steps == 6


def test_a_saved_state_is_a_copy():
    p = np.zeros(3)
    opt = optim.Adam(p)
    saved = opt.state_dict()
    opt.step(np.ones(3))
    assert (saved["state.0.exp_avg"] == 0).all()
    opt.load_state_dict(saved)
    opt.step(np.ones(3))
    assert (saved["state.0.exp_avg"] == 0).all()


def test_states_that_are_refused_change_nothing():
    p = np.zeros((2, 3))
    opt = optim.Adam(p, amsgrad=True)
    opt.step(np.ones((2, 3)))
    good = opt.state_dict()
    scheduled = optim.Adam(p, lr=optim.constant(0.1), amsgrad=True).state_dict()
    for state, error, message in [
        (None, TypeError, "state must be a dict"),
        ({}, ValueError, "state must be of an optimizer 'Adam', got None"),
        (optim.SGD(p).state_dict(), ValueError, "state must be of an optimizer 'Adam', got 'SGD'"),
        (optim.Adam(p).state_dict(), ValueError, r"it has no 'state.0.max_exp_avg_sq'"),
        (optim.Adam([p, np.zeros(2)], amsgrad=True).state_dict(), ValueError, "it must not have 'state.1.exp_avg'"),
        (scheduled, ValueError, "it has no 'param_groups.0.lr'"),
        (good | {"state.0.exp_avg": np.zeros((3, 2))}, ValueError, r"must have shape \(2, 3\), got \(3, 2\)"),
        (good | {"state.0.exp_avg": np.zeros((2, 3), np.float32)}, TypeError, "must be an array of float64, got fl"),
        (good | {"state.0.exp_avg": [[0.0]]}, TypeError, "must be an array of float64, got list"),
        (good | {"state.0.step": -1}, ValueError, r"state\['state.0.step'\] must be an integer of at least 0"),
        (good | {"steps": 1.5}, ValueError, r"state\['steps'\] must be an integer"),
        (good | {"param_groups.0.lr": -1.0}, ValueError, "lr must be a finite number of at least 0"),
        (good | {"param_groups.0.amsgrad": False}, ValueError, "other state"),
        (good | {"param_groups.0.betas": (0.9,)}, TypeError, "betas must be two numbers"),
    ]:
        with pytest.raises(error, match=message):
            opt.load_state_dict(state)
        assert_same_state(opt.state_dict(), good)


def test_an_optimiser_is_not_pickled():
    with pytest.raises(TypeError, match=r"pickle its state_dict\(\)"):
        pickle.dumps(optim.Adam(np.zeros(2)))


# ---- the step as a call ----------------------------------------------------------------------------------------------


def test_a_step_allocates_nothing():
    p, g = [np.zeros(1000), np.zeros((40, 30)).T], [np.ones(1000), np.ones((30, 40))]
    opt = optim.Adam(p)
    for _ in range(3):
        opt.step(g)
    before = sys.getallocatedblocks()
    for _ in range(1000):
        opt.step(g)
    assert sys.getallocatedblocks() - before < 50


def test_no_step_within_a_step():
    p = np.zeros(2)
    opt = optim.SGD(p, lr=lambda step: opt.step(np.ones(2)))
    with pytest.raises(RuntimeError, match="in the midst of a step"):
        opt.step(np.ones(2))
    assert (p == 0).all()


def test_ctrl_c_is_heard_in_time():
    """During steps of a tenth of a second, and the optimiser can go on."""
    p = np.zeros(16_000_000)
    g = np.ones_like(p)
    opt = optim.Adam(p)
    opt.step(g)
    sent = []

    def interrupt():
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    timer = threading.Timer(0.15, interrupt)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        timer.start()
        while True:
            opt.step(g)
    late = time.perf_counter() - sent[0]
    assert late < 0.05, f"{1e3 * late:.0f} ms"
    opt.step(g)


def test_another_thread_runs_during_a_step():
    """The GIL is released: a thread that only counts gets on while a long step is made."""
    p = np.zeros(30_000_000)
    opt, g, going, count = optim.Adam(p), np.ones(30_000_000), [True], [0]
    opt.step(g)

    def run():
        while going[0]:
            count[0] += 1

    before = sys.getswitchinterval()
    thread = threading.Thread(target=run)
    sys.setswitchinterval(1e-4)
    try:
        thread.start()
        time.sleep(0.05)
        start = count[0]
        opt.step(g)
        assert count[0] > start
    finally:
        going[0] = False
        thread.join()
        sys.setswitchinterval(before)
