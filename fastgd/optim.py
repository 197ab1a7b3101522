"""Update rules of gradient descent: SGD, Adam, AdamW, Adagrad and RMSprop, in place on memory that the caller owns.

>>> import numpy as np
>>> from fastgd import optim
>>> w = np.array([1.0, -2.0])
>>> opt = optim.SGD(w, lr=0.1, momentum=0.9)
>>> for _ in range(200):
...     opt.step(2 * w)                     # the gradient of |w|^2
>>> bool(abs(w).max() < 1e-3)
True

Names, defaults and the order of operations are PyTorch's; so a step gives what `torch.optim` gives, up to rounding. A
parameter is a NumPy array, a CPU tensor of PyTorch, or anything with the buffer protocol or DLPack, float32 or float64,
in any strides. It is never copied: what cannot be updated in place is refused by name. A step is one pass over the
parameter, its gradient and its state, and allocates nothing.

`lr` is a number or a function of the number of steps so far, 0 before the first. `constant`, `exponential`, `cosine`,
`step_decay`, `warm_up` and `inverse_scaling` make the usual ones.
"""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastgd import _updates
from fastgd._buffers import parameter_view, refuse_shared
from fastgd._validation import as_flag, as_number, as_positive_integer

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "constant",
    "cosine",
    "exponential",
    "inverse_scaling",
    "step_decay",
    "warm_up",
]

Schedule: TypeAlias = Callable[[int], float]


# ---- options ---------------------------------------------------------------------------------------------------------


def as_rate(value: Any, name: str) -> float | Schedule:
    """A learning rate: a number of at least 0, or a function of the number of steps."""
    return value if callable(value) else not_negative(value, name)


def not_negative(value: Any, name: str) -> float:
    return as_number(value, name, least=0.0)


def below_one(value: Any, name: str) -> float:
    return as_number(value, name, least=0.0, below=1.0)


def as_betas(value: Any, name: str) -> tuple[float, float]:
    """The decay rates of two averages."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers, got {value!r}")
    return below_one(value[0], f"{name}[0]"), below_one(value[1], f"{name}[1]")


#: Option -> what checks it.
CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "lr": as_rate,
    "momentum": not_negative,
    "dampening": as_number,
    "weight_decay": not_negative,
    "nesterov": as_flag,
    "maximize": as_flag,
    "betas": as_betas,
    "eps": not_negative,
    "amsgrad": as_flag,
    "lr_decay": not_negative,
    "initial_accumulator_value": not_negative,
    "alpha": below_one,
    "centered": as_flag,
}


class ParamGroup(MutableMapping[str, Any]):
    """The options of some parameters, by name: `opt.param_groups[0]["lr"] = 0.01` holds from the next step on.

    An option that says whether there is a state, as of momentum, stays as it was when the optimiser was made.
    """

    def __init__(self, optimizer: type[Optimizer], options: dict[str, Any]) -> None:
        self._optimizer = optimizer
        self.compiled = _updates.Group(optimizer.rule)
        self.configure(checked(optimizer, options))

    def configure(self, options: dict[str, Any]) -> None:
        """Take over options that were checked."""
        self._options = options
        self.compiled.configure(options | {"decoupled": self._optimizer.decoupled})

    def __getitem__(self, name: str) -> Any:
        return self._options[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.configure(self.changed({name: value}))

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"option {name!r} cannot be taken away")

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def __repr__(self) -> str:
        return repr(self._options)

    def changed(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The options with these changes, checked; nothing is taken over."""
        options = checked(self._optimizer, self._options | dict(changes))
        if self._optimizer.states(options) != self._optimizer.states(self._options):
            raise ValueError(
                f"{', '.join(changes)} cannot be changed so that the optimiser has other state: make a new one"
            )
        return options


def checked(optimizer: type[Optimizer], options: dict[str, Any]) -> dict[str, Any]:
    """The options as numbers and flags, or an error that names the one that is none of the optimiser's or is wrong."""
    for name in options:
        if name not in optimizer.options:
            raise ValueError(
                f"{optimizer.__name__} has no option {name!r}, but {', '.join(map(repr, optimizer.options))}"
            )
    options = {name: CHECKS[name](value, name) for name, value in options.items()}
    if options.get("nesterov") and (options["momentum"] == 0 or options["dampening"] != 0):
        raise ValueError(
            f"nesterov=True needs a momentum and no dampening, "
            f"got momentum={options['momentum']:g} and dampening={options['dampening']:g}"
        )
    return options


# ---- parameters ------------------------------------------------------------------------------------------------------


def split_groups(params: Any) -> tuple[list[Any], list[dict[str, Any]], bool]:
    """The parameters and the options of each group, and whether groups were given at all."""
    if isinstance(params, Iterator):
        params = list(params)
    if isinstance(params, (list, tuple)) and params and all(is_group(part) for part in params):
        members = [list(part["params"]) if isinstance(part["params"], Iterator) else part["params"] for part in params]
        return members, [{name: part[name] for name in part if name != "params"} for part in params], True
    return [params], [{}], False


def is_group(part: Any) -> bool:
    return isinstance(part, dict) and "params" in part


class Optimizer(_updates.Stepper, metaclass=ABCMeta):
    """What all update rules have in common. Use one of its subclasses.

    Attributes
    ----------
    param_groups : list of ParamGroup
        Options by name, one group unless several were given; they may be changed between steps.
    steps : int
        Steps that were completed.
    """

    rule: ClassVar[int]
    options: ClassVar[tuple[str, ...]]
    decoupled: ClassVar[bool] = False

    param_groups: list[ParamGroup]

    def __init__(self, params: Any, defaults: dict[str, Any], check_finite: bool | str) -> None:
        check = {False: 0, True: 1, "first": 2}.get(check_finite) if isinstance(check_finite, (bool, str)) else None
        if check is None:
            raise ValueError(f"check_finite must be True, False or 'first', got {check_finite!r}")
        members, settings, grouped = split_groups(params)
        self.param_groups = [ParamGroup(type(self), defaults | options) for options in settings]
        self._parameters: list[_updates.Parameter] = []
        self._members: list[int] = []
        structures = [self._add(part, k, grouped) for k, part in enumerate(members)]
        if not self._parameters:
            raise ValueError("params holds no parameter")
        refuse_shared(self._parameters)
        structure = (None, tuple(structures)) if grouped else structures[0]
        groups = [group.compiled for group in self.param_groups]
        super().__init__(self._parameters, groups, self._members, structure, check)

    def _add(self, params: Any, group: int, grouped: bool) -> Any:
        """Add the parameters of a group, and return their structure."""
        leaves: list[tuple[str, Any]] = []
        structure = _updates.flatten(params, f"[{group}]" if grouped else "", leaves)
        states = self.states(self.param_groups[group])
        for path, leaf in leaves:
            number = len(self._parameters)
            name = str(number) if path in ("", f"[{number}]") else f"{number} (params{path})"
            array, owner = parameter_view(leaf, f"parameter {name}")
            parameter = _updates.Parameter(array, owner, name, tuple(states.values()))
            self._start(parameter, self.param_groups[group])
            self._parameters.append(parameter)
            self._members.append(group)
        return structure

    @classmethod
    @abstractmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, int]:
        """What is kept for each parameter under these options: PyTorch's name -> the kernels' place for it."""

    def _start(self, parameter: _updates.Parameter, group: ParamGroup) -> None:
        """Fill the state of a parameter that has made no step, where that is not zero."""

    def zero_grad(self) -> None:
        """Set `grad` of PyTorch's tensors to None, as PyTorch does by default."""
        for parameter in self._parameters:
            if parameter.owner is not None:
                parameter.owner.grad = None

    def __repr__(self) -> str:
        shown = "; ".join(", ".join(f"{name}={value!r}" for name, value in g.items()) for g in self.param_groups)
        return f"{type(self).__name__}({len(self._parameters)} parameters; {shown})"

    # ---- saving and going on -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What another optimiser of this class, on parameters of the same shapes, needs to go on with the same bits.

        Returns
        -------
        dict
            Plain names -> plain values: `optimizer`, the name of the class; `steps`; `param_groups.K.NAME`, the options
            of group K, but an lr that is a function; `state.I.step` and `state.I.NAME`, copies of the state of
            parameter I under PyTorch's names. It can be pickled, and stored by `np.savez(file, **state)`; what
            `np.load` gives back can be loaded. Parameters are not part of it.
        """
        return {
            name: value.copy(order="K") if isinstance(value, np.ndarray) else value for name, value in self._entries()
        }

    def _entries(self) -> Iterator[tuple[str, Any]]:
        """Names and values of `state_dict`, the arrays themselves."""
        yield "optimizer", type(self).__name__
        yield "steps", self.steps
        for k, group in enumerate(self.param_groups):
            yield from ((f"param_groups.{k}.{name}", value) for name, value in group.items() if not callable(value))
        for k, parameter in enumerate(self._parameters):
            yield f"state.{k}.step", parameter.steps
            yield from ((f"state.{k}.{name}", array) for name, array in self._arrays(k))

    def _arrays(self, k: int) -> list[tuple[str, np.ndarray]]:
        """The state of parameter k by PyTorch's names."""
        states = self._parameters[k].states
        group = self.param_groups[self._members[k]]
        return [(name, states[slot]) for name, slot in self.states(group).items()]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was called.

        Parameters
        ----------
        state : mapping
            What `state_dict` returned, or the same read back from a file. It is copied.

        Raises
        ------
        TypeError, ValueError
            If it is of another class, or of other parameters or options; nothing was changed then. An lr that is a
            function here must have been one there, and stays; one that is a number must have been a number.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a dict as state_dict() returns it, got {type(state).__name__}")
        kind, mine = as_plain(state.get("optimizer")), type(self).__name__
        if kind != mine:
            raise ValueError(f"state must be of an optimizer {mine!r}, got {kind!r}")
        expected = dict(self._entries())
        missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
        if missing or unknown:
            raise ValueError(f"state does not fit this optimizer: {difference(missing, unknown)}")
        values = {name: as_entry(state[name], name, value) for name, value in expected.items()}
        options = [
            group.changed({name: values[f"param_groups.{k}.{name}"] for name in group if not callable(group[name])})
            for k, group in enumerate(self.param_groups)
        ]
        for group, loaded in zip(self.param_groups, options, strict=True):
            group.configure(loaded)
        for k, parameter in enumerate(self._parameters):
            parameter.go_to(values[f"state.{k}.step"])
            for name, array in self._arrays(k):
                array[...] = values[f"state.{k}.{name}"]
        self.go_to(values["steps"])


def as_plain(value: Any) -> Any:
    """A number, flag, text or pair as Python has it, where a file gave back an array of it."""
    if not isinstance(value, (np.generic, np.ndarray)):
        return value
    return value.item() if value.ndim == 0 else tuple(value.tolist())


def as_entry(value: Any, name: str, expected: Any) -> Any:
    """An entry of a saved state that can take the place of this one."""
    if isinstance(expected, np.ndarray):
        if not isinstance(value, (np.generic, np.ndarray)) or value.dtype != expected.dtype:
            kind = getattr(value, "dtype", type(value).__name__)
            raise TypeError(f"state[{name!r}] must be an array of {expected.dtype}, got {kind}")
        if value.shape != expected.shape:
            raise ValueError(f"state[{name!r}] must have shape {expected.shape}, got {value.shape}")
        return value
    value = as_plain(value)
    if type(expected) is int and not (type(value) is int and value >= 0):
        raise ValueError(f"state[{name!r}] must be an integer of at least 0, got {value!r}")
    return value


def difference(missing: set[str], unknown: set[str]) -> str:
    parts = [("has no", missing), ("must not have", unknown)]
    return "it " + " and ".join(f"{what} {', '.join(map(repr, sorted(names)))}" for what, names in parts if names)


# ---- the rules -------------------------------------------------------------------------------------------------------


class SGD(Optimizer):
    """Gradient descent, with Polyak's momentum or Nesterov's.

    With the gradient g + weight_decay p, at the first step b = g and afterwards

        b <- momentum b + (1 - dampening) g,    p <- p - lr b   or, nesterov,   p <- p - lr (g + momentum b)

    Sutskever, Martens, Dahl and Hinton, On the importance of initialization and momentum in deep learning (2013), as
    PyTorch has it: lr multiplies the whole velocity.

    Parameters
    ----------
    params : array, or nested list, tuple or dict of arrays, or list of dicts
        What is updated: NumPy arrays, PyTorch's tensors, or anything with the buffer protocol or DLPack, float32 or
        float64. A list of dicts, each with `params` and options of their own, makes groups.
    lr : float or callable, default 1e-3
        A number of at least 0, or a function of the number of steps so far.
    momentum : float, default 0.0
        How much of b is kept from step to step.
    dampening : float, default 0.0
        How much of the gradient is kept out of b.
    weight_decay : float, default 0.0
        Twice the factor of an l2 penalty, whose gradient is added.
    nesterov : bool, default False
        Step by g + momentum b, which needs a momentum and no dampening.
    maximize : bool, default False
        Go uphill.
    check_finite : bool or "first", default True
        A NaN or an infinity in a gradient is an error that names its parameter and index. Gradients of at most 256 KiB
        in all are looked at before anything is changed. To read larger ones twice would take a fifth to a third of a
        step: they are looked at as they are used, which costs nothing, and an element that is not finite changes
        neither its parameter nor its state, while all others make the step; the error comes after it. "first" looks at
        all gradients before anything is changed, whatever that costs. False looks at none.

    Raises
    ------
    TypeError, ValueError
        If an option is wrong; if a parameter would have to be copied, is read-only, is neither float32 nor float64, is
        not on the CPU, or shares memory with another.
    """

    rule = _updates.SGD
    options = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Schedule = 1e-3,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        check_finite: bool | str = True,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, check_finite)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, int]:
        """The velocity, with momentum."""
        return {"momentum_buffer": 0} if options["momentum"] else {}


class Adam(Optimizer):
    """Steps in units of the gradient's root mean square, with momentum.

    With the gradient g + weight_decay p and (β1, β2) = betas, at step t

        m <- β1 m + (1 - β1) g,    v <- β2 v + (1 - β2) g²
        p <- p - lr m / (1 - β1^t) / (sqrt(v / (1 - β2^t)) + eps)

    Kingma and Ba, Adam: a method for stochastic optimization (2015), algorithm 1. With amsgrad the largest v so far
    takes the place of v: Reddi, Kale and Kumar, On the convergence of Adam and beyond (2018), algorithm 2, as PyTorch
    has it.

    Parameters
    ----------
    params, lr, maximize, check_finite
        As of `SGD`.
    betas : tuple of two floats, default (0.9, 0.999)
        How much the two averages keep from step to step, each below 1.
    eps : float, default 1e-8
        Added to the root, so that nothing is divided by zero.
    weight_decay : float, default 0.0
        As of `SGD`.
    amsgrad : bool, default False
        Divide by the root of the largest v so far.

    Raises
    ------
    TypeError, ValueError
        As of `SGD`.
    """

    rule = _updates.ADAM
    options = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Schedule = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        check_finite: bool | str = True,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, check_finite)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, int]:
        """Averages of the gradient and its square, and with amsgrad the largest of the latter."""
        return {"exp_avg": 0, "exp_avg_sq": 1} | ({"max_exp_avg_sq": 2} if options["amsgrad"] else {})


class AdamW(Adam):
    """Adam whose weight decay does not go through the averages: p <- (1 - lr weight_decay) p before each step.

    Loshchilov and Hutter, Decoupled weight decay regularization (2019), algorithm 2, as PyTorch has it.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, maximize, check_finite
        As of `Adam`.
    weight_decay : float, default 0.01
        How much of p is taken away at each step, times lr.

    Raises
    ------
    TypeError, ValueError
        As of `SGD`.
    """

    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float | Schedule = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        maximize: bool = False,
        check_finite: bool | str = True,
    ) -> None:
        super().__init__(
            params, lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize,
            check_finite=check_finite,
        )  # fmt: skip


class Adagrad(Optimizer):
    """Steps in units of the root of the sum of all squared gradients.

    With the gradient g + weight_decay p, at step t

        s <- s + g²,    p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)

    Duchi, Hazan and Singer, Adaptive subgradient methods for online learning and stochastic optimization (2011), with
    a diagonal matrix.

    Parameters
    ----------
    params, maximize, check_finite
        As of `SGD`.
    lr : float or callable, default 1e-2
        As of `SGD`.
    lr_decay : float, default 0.0
        How fast the step size falls.
    weight_decay : float, default 0.0
        As of `SGD`.
    initial_accumulator_value : float, default 0.0
        What s starts from.
    eps : float, default 1e-10
        Added to the root, so that nothing is divided by zero.

    Raises
    ------
    TypeError, ValueError
        As of `SGD`.
    """

    rule = _updates.ADAGRAD
    options = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Schedule = 1e-2,
        *,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
        check_finite: bool | str = True,
    ) -> None:
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "eps": eps, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, check_finite)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, int]:  # noqa: ARG003
        """The sum of squares."""
        return {"sum": 0}

    def _start(self, parameter: _updates.Parameter, group: ParamGroup) -> None:
        parameter.states[0][...] = group["initial_accumulator_value"]


class RMSprop(Optimizer):
    """Steps in units of the gradient's root mean square.

    With the gradient g + weight_decay p

        v <- alpha v + (1 - alpha) g²,    g <- g / (sqrt(v) + eps)
        p <- p - lr g    or, with momentum,    b <- momentum b + g,  p <- p - lr b

    Tieleman and Hinton, Lecture 6.5 (Coursera, 2012). Centred, v less the square of the gradient's own average takes
    the place of v: Graves, Generating sequences with recurrent neural networks (2013), equations 38 to 41; where
    rounding makes that negative it counts as zero, and not as NaN as in PyTorch.

    Parameters
    ----------
    params, maximize, check_finite
        As of `SGD`.
    lr : float or callable, default 1e-2
        As of `SGD`.
    alpha : float, default 0.99
        How much the average v keeps from step to step, below 1.
    eps : float, default 1e-8
        Added to the root, so that nothing is divided by zero.
    weight_decay : float, default 0.0
        As of `SGD`.
    momentum : float, default 0.0
        How much of b is kept from step to step.
    centered : bool, default False
        Divide by the root of the variance instead, v less the square of the gradient's average.

    Raises
    ------
    TypeError, ValueError
        As of `SGD`.
    """

    rule = _updates.RMSPROP
    options = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Schedule = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
        check_finite: bool | str = True,
    ) -> None:
        defaults = {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
            "centered": centered, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, check_finite)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, int]:
        """The average of squares, the velocity with momentum, the average of gradients if it is centred."""
        momentum = {"momentum_buffer": 1} if options["momentum"] else {}
        return {"square_avg": 0} | momentum | ({"grad_avg": 2} if options["centered"] else {})


# ---- learning rates --------------------------------------------------------------------------------------------------


def constant(lr: float) -> Schedule:
    """The same at every step.

    Parameters
    ----------
    lr : float
        The step size, at least 0.

    Returns
    -------
    callable
        Takes the number of steps so far, 0 before the first, and returns the step size of the next.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number in its range.
    """
    lr = not_negative(lr, "lr")
    return lambda step: lr


def exponential(lr: float, gamma: float) -> Schedule:
    """A geometric sequence: lr gamma^step.

    Parameters
    ----------
    lr : float
        The step size at the start, at least 0.
    gamma : float
        What each step multiplies it by, above 0.

    Returns
    -------
    callable
        Takes the number of steps so far, 0 before the first, and returns the step size of the next.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number in its range.
    """
    lr, gamma = not_negative(lr, "lr"), as_number(gamma, "gamma", above=0.0)
    return lambda step: lr * gamma**step


def step_decay(lr: float, every: int, gamma: float = 0.1) -> Schedule:
    """Times gamma every so many steps: lr gamma^floor(step / every).

    Parameters
    ----------
    lr : float
        The step size at the start, at least 0.
    every : int
        After how many steps it changes.
    gamma : float, default 0.1
        By what it is multiplied then, above 0.

    Returns
    -------
    callable
        Takes the number of steps so far, 0 before the first, and returns the step size of the next.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number in its range.
    """
    lr, gamma, every = not_negative(lr, "lr"), as_number(gamma, "gamma", above=0.0), as_positive_integer(every, "every")
    return lambda step: lr * gamma ** (step // every)


def cosine(lr: float, steps: int, lr_min: float = 0.0) -> Schedule:
    """From lr to lr_min along half a cosine, in so many steps, and lr_min after them.

    Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts (2017), equation 5, without restarts.

    Parameters
    ----------
    lr : float
        The step size at the start, at least 0.
    steps : int
        How many it takes to fall.
    lr_min : float, default 0.0
        The step size at their end, at least 0.

    Returns
    -------
    callable
        Takes the number of steps so far, 0 before the first, and returns the step size of the next.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number in its range.
    """
    lr, lr_min = not_negative(lr, "lr"), not_negative(lr_min, "lr_min")
    steps = as_positive_integer(steps, "steps")
    return lambda step: lr_min + 0.5 * (lr - lr_min) * (1.0 + math.cos(math.pi * min(step, steps) / steps))


def warm_up(schedule: float | Schedule, steps: int) -> Schedule:
    """A schedule, or a fixed rate, that is reached linearly: of so many steps, the k-th has k/steps of it.

    Parameters
    ----------
    schedule : float or callable
        A step size, or a function of the number of steps, such as another of these.
    steps : int
        How many it takes to reach it.

    Returns
    -------
    callable
        Takes the number of steps so far, 0 before the first, and returns the step size of the next.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number in its range.
    """
    inner = as_rate(schedule, "schedule")
    steps = as_positive_integer(steps, "steps")
    after = inner if callable(inner) else constant(inner)
    return lambda step: after(step) * min(1.0, (step + 1) / steps)


def inverse_scaling(lr: float, power: float = 0.5) -> Schedule:
    """A falling rate, lr / (step + 1)^power, under which plain stochastic descent converges if 0.5 < power <= 1.

    Robbins and Monro, A stochastic approximation method (1951).

    Parameters
    ----------
    lr : float
        The step size at the start, at least 0.
    power : float, default 0.5
        How fast it falls; at least 0, which is `constant`.

    Returns
    -------
    callable
        Takes the number of steps so far, 0 before the first, and returns the step size of the next.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number in its range.
    """
    lr, power = not_negative(lr, "lr"), not_negative(power, "power")
    return lambda step: lr / (step + 1) ** power
