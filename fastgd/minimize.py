"""Gradient descent on any loss: a function and a start in, `MinimizeResult` out."""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastgd import _validation as validate
from fastgd._descents import DESCENTS, Settings
from fastgd._function import Function, Parameters, Point, derived, in_short
from fastgd._line_search import Along, Stuck
from fastgd._progress import Show, bar
from fastgd._sympy import as_function, is_sympy
from fastgd.errors import ConvergenceWarning, DivergenceError, NonFiniteError
from fastgd.result import counted
from fastgd.solvers._monitor import BLOW_UP, History

__all__ = ["MinimizeResult", "minimize"]

logger = logging.getLogger("fastgd")

#: The method that needs no tuning.
AUTO = "lbfgs"
#: Which methods have a use for which setting.
USES = {
    "lr": ("gd", "momentum", "nesterov", "adam"),
    "momentum": ("momentum", "nesterov"),
    "memory": ("auto", "lbfgs"),
}
#: What `tol=None` means for losses that come in float64 and in less.
DEFAULT_TOL, COARSE_TOL = 1e-7, 1e-3
#: Iterations unless they are given, as of SciPy's L-BFGS-B, and changes that "lbfgs" remembers.
MAXITER, MEMORY = 15_000, 10
#: Iterations in which neither loss nor gradient became less than ever, and the loss kept within rounding of its least.
PATIENCE = 100
#: How far a slope may be from the difference quotient, as a share of the larger, before jac is called wrong.
DISAGREEMENT = 0.1
#: How many roundings of x the gradient at the end may hold.
ROUNDINGS = 10.0
#: By how much f and its trace may differ, as a share of the loss at the start: in the order of sums.
SAME = 1e-6

CONVERGED, EXHAUSTED, STUCK, ROUNDED, CALLED = 0, 1, 2, 3, 99


class End(NamedTuple):
    """Why a descent ended: a status and a sentence."""

    status: int
    message: str


class MinimizeResult(dict[str, Any]):
    """What `minimize` returns: a dict whose entries are attributes too, as `scipy.optimize.OptimizeResult`.

    Attributes
    ----------
    x : object
        The parameters, laid out as `x0`.
    fun : float
        The loss there.
    jac : object
        The gradient there, laid out as `x0`.
    nit : int
        Iterations.
    nfev, njev : int
        Calls of the loss and of its gradient; one that gives both counts as both.
    status : int
        0 if the gradient met `tol`; 3 if the loss is as low as rounding allows; 1 if `maxiter` or `maxfun` was
        reached, 2 if the line search found no lower point, 99 if the callback ended it.
    success : bool
        Whether status is 0 or 3.
    message : str
        The same in words.
    method : str
        The method that ran.
    history : dict of ndarray
        ``iteration``, ``loss``, ``grad_norm`` (Euclidean) and ``seconds``; entry k after k iterations, so entry 0 is
        the start.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; it has {', '.join(self)}") from None

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        """An entry a line; of the history its length."""
        width = max(map(len, self), default=0)
        lines = []
        for name, value in self.items():
            text = f"{len(value['loss'])} entries of {', '.join(value)}" if name == "history" else repr(value)
            lines.append(f"{name:>{width}}: " + text.replace("\n", "\n" + " " * (width + 2)))
        return "\n".join(lines)


def minimize(
    f: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str | None = "auto",
    jac: Callable[..., Any] | bool | None = None,
    *,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    maxiter: int = MAXITER,
    maxfun: int | None = None,
    lr: float | None = None,
    momentum: float | None = None,
    memory: int = MEMORY,
    progress: bool = False,
) -> MinimizeResult:
    r"""Descend a differentiable function from `x0` to a minimum.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` returns the loss, one number. x has the layout of `x0`, its arrays are float64 and f's own. Or
        a SymPy expression, whose symbols by name, or those of a Lambda as it has them, are the entries of x.
    x0 : float, array_like, or (nested) list, tuple or dict of these
        Where to start. A list of nothing but numbers is an array. It is not modified.
    args : tuple, default ()
        Further arguments of `f` and `jac`; anything else than a tuple is the only one.
    method : {"auto", "lbfgs", "bb", "gd", "momentum", "nesterov", "adam"}, default "auto"
        See Notes. None is "auto".
    jac : callable, True or None, default None
        ``jac(x, *args)`` returns the gradient, laid out as x. True: f returns (loss, gradient). None: the gradient is
        derived from f by `fastgd.value_and_grad`, with one trace for all calls (`fastgd.compile`) unless a branch of f
        depends on a value: f must then depend on nothing that changes but x.
    tol : float, optional
        Bound on the largest absolute entry of the gradient at which the descent has converged, in units of the loss per
        unit of x, as SciPy's gtol. By default 1e-7 (1e-3 of losses that come in float32), times that entry or the loss
        at the start, whichever is larger, if both are below 1 there, so that a loss in small units does not end at its
        start. 0 means: make `maxiter` iterations, whatever they gain.
    callback : callable, optional
        Called after each iteration as SciPy does: ``callback(xk)``, or ``callback(intermediate_result=...)`` if that is
        the name of its only parameter, with ``x``, ``fun``, ``nit`` and ``grad_norm``. A true result or StopIteration
        ends the descent.
    options : dict, optional
        Any of the arguments from `maxiter` on, and ``gtol`` for `tol`, as SciPy wants them.
    maxiter : int, default 15000
        Iterations at most.
    maxfun : int, optional
        Calls of f after which no iteration begins.
    lr : float, optional
        Of "gd", "momentum", "nesterov" and "adam": the textbook's fixed step. By default a line search finds each.
    momentum : float, optional
        Of "momentum" and "nesterov", below 1. By default it grows and starts anew where it would lead uphill, which
        spares knowing the condition number; with `lr`, that of "momentum" is 0.9.
    memory : int, default 10
        Of "lbfgs": how many changes it remembers.
    progress : bool, default False
        Show a bar with iteration, loss and gradient; needs rich, the extra ``cli``.

    Returns
    -------
    MinimizeResult
        With x, fun, jac, nit, nfev, njev, status, success, message, method and history. x and jac have the layout of
        `x0`, float32 where that was: they are rounded at the end, `fun` is of the x before.

    Raises
    ------
    TypeError, ValueError
        If an argument, or what f or jac returns, has the wrong type, shape, layout or range, or the method has no use
        for a setting.
    NonFiniteError
        If the loss or its gradient is NaN or infinite at the start, after a step of `lr`, or however short the line
        search makes its steps.
    DivergenceError
        If with `lr` the loss rises by more than 10^3 times its start, or what the first step was to gain.
    ImportError
        If a progress bar is asked for and rich is not installed.

    Warns
    -----
    ConvergenceWarning
        If the descent ended without success, unless `tol` is 0 or the callback ended it.

    Notes
    -----
    ==========  ================================================  =========================================
    method      direction                                         step
    ==========  ================================================  =========================================
    "gd"        against the gradient                              Armijo's backtracking, or `lr`
    "momentum"  a velocity that remembers (Polyak)                Armijo's backtracking, or `lr`
    "nesterov"  against the gradient ahead (Nesterov)             Beck and Teboulle's backtracking, or `lr`
    "adam"      mean gradient, entries scaled (Kingma and Ba)     Armijo's backtracking, or `lr`
    "bb"        against the gradient                              Barzilai and Borwein's, by a nonmonotone search
    "lbfgs"     -H gradient, H from the last changes              Wolfe's conditions, or Hager and Zhang's
    ==========  ================================================  =========================================

    "auto" is "lbfgs": gradient descent in a metric that it learns from the last `memory` gradients, at the cost of
    4 `memory` products of vectors an iteration and no more calls of f than any other. The first five need a number of
    iterations that grows with the condition number of the Hessian, or its square root, which no step size helps: on
    ill-conditioned losses, of which Rosenbrock's is the mildest, they take thousands where it takes tens. Methods and
    line searches, with their sources, are in `fastgd._descents` and `fastgd._line_search`.

    Of "nesterov" the iterates are the points at which the gradient is taken, as in PyTorch.

    Examples
    --------
    >>> import numpy as np, fastgd as fg
    >>> r = fg.minimize(lambda x: (x - 3.0)**2, 0.0)
    >>> round(r.x, 6), r.success, r.method
    (3.0, True, 'lbfgs')
    """
    given = merged(options, tol=tol, maxiter=maxiter, maxfun=maxfun, lr=lr, momentum=momentum, memory=memory)
    method = validate.as_choice("auto" if method is None else method, "method", ("auto", *DESCENTS))
    settings = settings_of(method, given)
    parameters = Parameters(x0)
    function = function_of(f, jac, args if isinstance(args, tuple) else (args,), parameters)
    name = AUTO if method == "auto" else method
    limit = given["maxiter"] = validate.as_positive_integer(given["maxiter"], "maxiter")
    with bar(validate.as_flag(progress, "progress"), limit, "gradient") as show:
        watch = Watch(function, given, settings.lr, shown_to(callback, parameters), show)
        point, end = descend(function, name, settings, watch)
    if jac is None or jac is False:
        end = watch.traced(point) or end
    if logger.isEnabledFor(logging.INFO):
        calls = f"{counted(function.nfev, 'value')}, {counted(function.njev, 'gradient')}"
        counts = f"{counted(watch.nit, 'iteration')}, {calls}"
        logger.info("minimize by %s: %s; %s, loss %.6g", name, end.message, counts, point.loss)
    result = MinimizeResult(
        x=parameters.returned(point.x),
        fun=point.loss,
        jac=parameters.returned(point.grad),
        nit=watch.nit,
        nfev=function.nfev,
        njev=function.njev,
        status=end.status,
        success=end.status in (CONVERGED, ROUNDED),
        message=end.message,
        method=name,
        history=watch.history.arrays(),
    )
    if end.status in (EXHAUSTED, STUCK) and watch.tol > 0:
        reached = f"the gradient's largest entry is {watch.measure:.3g}, above tol={watch.tol:.3g}"
        warnings.warn(f"the descent ended, and {reached} ({name}: {end.message})", ConvergenceWarning, stacklevel=2)
    return result


def descend(function: Function, name: str, settings: Settings, watch: Watch) -> tuple[Point, End]:
    """Go from point to point until there is a reason to end."""
    descent = DESCENTS[name](function, settings)
    point = function.look(function.parameters.start, with_grad=True)
    try:
        while not (end := watch.see(point)):
            with np.errstate(all="ignore"):     # a step that is too long may overflow in what the search makes of it
                point = descent.advance(point)
    except Stuck as stuck:
        end = watch.stuck(stuck)
    return point, watch.misfit(point, end) or end


# ---- what users give -------------------------------------------------------------------------------------------------


def merged(options: Mapping[str, Any] | None, **arguments: Any) -> dict[str, Any]:
    """The arguments, some of them given as options."""
    if options is None:
        return arguments
    if not isinstance(options, Mapping):
        raise TypeError(f"options must be a dict or None, got {options!r}")
    defaults = inspect.signature(minimize).parameters
    for option, value in options.items():
        name = "tol" if option == "gtol" else option
        if name not in arguments or option == "tol":
            known = ", ".join(sorted({"gtol", *arguments} - {"tol"}))
            raise ValueError(f"options has an unknown key {option!r}; known are {known}")
        if arguments[name] != defaults[name].default:
            raise ValueError(f"{name} is given twice, as an argument and in options")
        arguments[name] = value
    return arguments


def settings_of(method: str, given: dict[str, Any]) -> Settings:
    """The settings that are a method's, in range; none of them for a method that has no use for it."""
    lr, momentum = given["lr"], given["momentum"]
    settings = Settings(
        None if lr is None else validate.as_number(lr, "lr", above=0),
        None if momentum is None else validate.as_number(momentum, "momentum", least=0, below=1),
        validate.as_positive_integer(given["memory"], "memory"),
    )
    for name, value in settings._asdict().items():
        if value not in (None, MEMORY) and method not in USES[name]:
            raise ValueError(f"method={method!r} has no use for {name}; it is for {', '.join(map(repr, USES[name]))}")
    return settings


def function_of(f: Any, jac: Any, args: tuple[Any, ...], parameters: Parameters) -> Function:
    """The loss and its gradient, wherever it comes from."""
    if is_sympy(f):
        f = as_function(f)
    if not callable(f):
        raise TypeError(f"f must be a function of x, got {in_short(f)}")
    if callable(jac):
        return Function(f, jac, None, args, parameters)
    if jac is True:
        return Function(None, None, f, args, parameters)
    if jac is not None and jac is not False:
        raise TypeError(f"jac must be a function of x, True (f returns loss and gradient) or None, got {in_short(jac)}")
    both = derived(f)
    return Function(f, lambda *given: both(*given)[1], both, args, parameters)


def shown_to(callback: Any, parameters: Parameters) -> Callable[[Point, int], Any] | None:
    """The callback as a function of a point and its iteration."""
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"callback must be a function of x, or None, got {in_short(callback)}")
    try:
        names = list(inspect.signature(callback).parameters)
    except ValueError:      # some that are compiled have none
        names = []
    if names != ["intermediate_result"]:
        return lambda point, nit: callback(parameters.returned(point.x))

    def show(point: Point, nit: int) -> Any:
        x = parameters.returned(point.x)
        return callback(intermediate_result=MinimizeResult(x=x, fun=point.loss, nit=nit, grad_norm=point.norm))

    return show


# ---- what watches the descent ----------------------------------------------------------------------------------------


class Watch:
    """Sees the points of a descent and says when it is to end.

    Parameters
    ----------
    function : Function
    given : dict
        tol, maxiter and maxfun.
    lr : float or None
        A fixed step, which may diverge.
    callback : callable, optional
        Of a point and its iteration.
    bar : callable, optional
        Of a `Step`.
    """

    def __init__(
        self,
        function: Function,
        given: dict[str, Any],
        lr: float | None,
        callback: Callable[[Point, int], Any] | None,
        bar: Show | None,
    ) -> None:
        self.function, self.lr, self.callback, self.bar = function, lr, callback, bar
        tol, maxfun = given["tol"], given["maxfun"]
        self.given_tol = None if tol is None else validate.as_number(tol, "tol", least=0)
        self.maxiter = given["maxiter"]
        self.maxfun = math.inf if maxfun is None else validate.as_positive_integer(maxfun, "maxfun")
        self.history = History()
        self.tol = self.measure = math.nan
        self.best: Point | None = None
        self.least_loss, self.least_measure, self.moved_at = math.inf, math.inf, 0
        self.scale = 0.0        # of the loss, for divergence

    @property
    def nit(self) -> int:
        return len(self.history.loss) - 1

    def see(self, point: Point) -> End | None:
        """Take in the next point, the start first; return why to end, or nothing.

        Raises
        ------
        DivergenceError, NonFiniteError
            If there is no going on from there.
        """
        if self.best is None and point.is_finite:
            self._begin(point)
        if self.lr is not None and self.best is not None:
            self._refuse_rise(point, self.lr, self.best)
        if not point.is_finite:
            raise self._not_finite(point, self.nit + 1) from self.function.failure
        self.history.append(point.loss, point.norm)
        self.measure = float(np.abs(point.grad).max())
        rounding = self._is_rounding(point)
        if self.bar is not None:
            self.bar(self.nit, point.loss, self.measure)
        called = self._called(point)
        return self._converged() or called or rounding or self._exhausted()

    def stuck(self, stuck: Stuck) -> End:
        """Why to end where the line search found no step.

        Raises
        ------
        NonFiniteError
            If the loss or its gradient was not finite at the shortest.
        """
        along, last = stuck.along, stuck.along.bottomless or stuck.last
        if not -math.inf < along.start.slope < 0:
            return End(STUCK, f"the gradient's largest entry, {self.measure:.3g}, has a square out of float64's range")
        if not last.point.is_finite:
            raise self._not_finite(last.point, self.nit) from self.function.failure
        if stuck.gain <= along.noise or self.measure <= rounding_of_gradient(along):
            return self._rounded()
        return End(STUCK, "the line search found no lower point")

    def misfit(self, point: Point, end: End) -> End | None:
        """Why the descent did not converge, if where it ended the gradient is not that of the loss."""
        on_its_way = self.lr is not None and point.loss < self.history.loss[0]
        if end.status in (CONVERGED, CALLED) or on_its_way or not point.grad.any():
            return None
        with np.errstate(all="ignore"):
            along = Along(self.function, point, -point.grad / point.norm)
            quotient = difference(along)
        if quotient is None:
            return None
        return End(
            STUCK,
            f"{end.message}; but along the gradient f changes by {-quotient:.6g} per unit of step where jac says "
            f"{-along.start.slope:.6g}: jac is not the gradient of f there, or f has a kink",
        )

    def traced(self, point: Point) -> End | None:
        """Why the end is none: f itself, where the descent of its trace ended, gives another loss than that."""
        loss = self.function.look(point.x).loss
        if abs(loss - point.loss) <= SAME * max(abs(point.loss), abs(self.history.loss[0])):
            return None
        return End(
            STUCK,
            f"f gives {loss:.6g} at the end and its trace {point.loss:.6g}: f depends on more than its arguments, and "
            "that has changed; with jac=fastgd.grad(f) it is traced anew each time",
        )

    def _begin(self, point: Point) -> None:
        largest = float(np.abs(point.grad).max())
        default = DEFAULT_TOL if self.function.eps <= np.finfo(np.float64).eps else COARSE_TOL
        scale = min(1.0, max(largest, abs(point.loss)))
        self.tol = default * scale if self.given_tol is None else self.given_tol
        gain = 0.0 if self.lr is None else self.lr * float(point.grad @ point.grad)
        self.scale = max(abs(point.loss), gain, np.finfo(np.float64).tiny)
        self.best = point

    def _refuse_rise(self, point: Point, lr: float, best: Point) -> None:
        """Raise DivergenceError where a fixed step has led far uphill; NaN is for who comes next."""
        if point.loss < best.loss:
            self.best = best = point
        first = self.history.loss[0] if len(self.history.loss) else point.loss
        if point.loss - first > BLOW_UP * self.scale:
            raise DivergenceError(
                f"the descent diverges with lr={lr:.6g}: in iteration {self.nit + 1} the loss is {point.loss:g}, "
                f"at the start it was {first:g}. Take a smaller lr, or none, and a line search finds the step",
                lr=lr,
                w=self.function.parameters.returned(best.x),
                loss=best.loss,
            )

    def _not_finite(self, point: Point, iteration: int) -> NonFiniteError:
        """What is not finite, and where."""
        parameters = self.function.parameters
        if math.isfinite(point.loss):
            place = int((~np.isfinite(point.grad)).argmax())
            what = f"the gradient holds {point.grad[place]} at x{parameters.where(place)}"
        else:
            what = f"the loss is {point.loss}"
        shown = parameters.returned(point.x)
        if self.best is None:
            when = "at the start"
        elif self.lr is not None:
            when = f"in iteration {iteration}, after a step with lr={self.lr:.6g}"
        else:
            when = f"after iteration {iteration}, however short the step"
        if point.loss == -math.inf:
            when += ": f has no minimum"
        return NonFiniteError(f"{what} {when}; x is {in_short(shown)}", x=shown, iteration=iteration)

    def _converged(self) -> End | None:
        if self.measure > self.tol:
            return None
        return End(CONVERGED, f"the gradient's largest entry, {self.measure:.3g}, is within tol={self.tol:.3g}")

    def _exhausted(self) -> End | None:
        if self.nit >= self.maxiter:
            return End(EXHAUSTED, f"maxiter={self.maxiter} reached")
        return End(EXHAUSTED, f"maxfun={self.maxfun} reached") if self.function.nfev >= self.maxfun else None

    def _called(self, point: Point) -> End | None:
        if self.callback is None or self.nit == 0:
            return None
        try:
            stop = self.callback(point, self.nit)
        except StopIteration:
            stop = True
        return End(CALLED, "the callback ended it") if stop else None

    def _is_rounding(self, point: Point) -> End | None:
        """Whether for long the loss was the least ever but for rounding, and the gradient not less than ever."""
        loss, noise = point.loss, self.function.noise(point.loss)
        lower = loss < self.least_loss - self.function.eps * abs(loss)
        if lower or loss > self.least_loss + noise or self.measure < self.least_measure:
            self.moved_at = self.nit
        self.least_loss, self.least_measure = min(self.least_loss, loss), min(self.least_measure, self.measure)
        if self.lr is not None or self.tol == 0 or self.nit - self.moved_at < PATIENCE:
            return None
        return self._rounded()

    def _rounded(self) -> End:
        return End(
            ROUNDED,
            f"the loss is as low as rounding allows; the gradient's largest entry is {self.measure:.3g}, "
            f"tol={self.tol:.3g}",
        )


def rounding_of_gradient(along: Along) -> float:
    """By how much the rounding of x changes the gradient, by the curvature along a direction."""
    start, direction = along.start.point, along.direction
    largest = float(np.abs(start.x).max())
    step = float(np.cbrt(along.function.eps)) * max(largest, 1.0) / float(np.abs(direction).max())
    change = along.function.look(start.x + step * direction, with_grad=True).grad - start.grad
    curvature = float(np.abs(change).max()) / (step * float(np.abs(direction).max()))
    return ROUNDINGS * along.function.eps * curvature * largest


def difference(along: Along) -> float | None:
    """The slope along a direction by a difference quotient, where it is not that of the gradient; else nothing.

    The quotient is a central one, over the step that balances its two errors (Nocedal and Wright, section 8.1); it is
    believed if one over half the step agrees with it.
    """
    start, direction, slope = along.start.point, along.direction, along.start.slope
    size = max(float(np.abs(start.x).max()), 1.0) / float(np.abs(direction).max())
    step = float(np.cbrt(along.function.eps)) * size
    quotients = []
    for t in (step, step / 2):
        ahead, behind = (along.function.look(start.x + sign * t * direction).loss for sign in (1, -1))
        quotients.append((ahead - behind) / (2 * t))
    rounding = 2 * along.noise / step
    one, half = quotients
    if not abs(one - half) <= DISAGREEMENT * abs(one) + rounding:
        return None
    return half if abs(half - slope) > DISAGREEMENT * max(abs(half), abs(slope)) + rounding else None
