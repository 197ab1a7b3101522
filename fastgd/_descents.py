"""The methods of `minimize`: from a point and what came before, the next point.

A method sees the loss f as a function of one vector x. With g = grad f(x):

gd         x <- x - t g
momentum   v <- m v - g, x <- x + t v                           (Polyak, Some methods of speeding up the convergence of
                                                                iteration methods, 1964)
nesterov   z' = x - t g, x <- z' + m (z' - z), z <- z'           (Nesterov, A method of solving a convex programming
                                                                problem with convergence rate O(1/k^2), 1983)
adam       a <- β1 a + (1 - β1) g, c <- β2 c + (1 - β2) g^2,    (Kingma and Ba, Adam: a method for stochastic
           x <- x - t â / (sqrt(ĉ) + ε)                         optimization, 2015, algorithm 1)
bb         x <- x - t g, t from the last changes of x and g     (Barzilai and Borwein, Two-point step size gradient
                                                                methods, 1988)
lbfgs      x <- x - t H g, H from the last m such changes       (Nocedal and Wright, Numerical Optimization, 2nd ed.,
                                                                algorithms 7.4 and 7.5)

With lr given, t is lr (the first four have a use for it). Else a line search finds t, so that there is nothing to tune:
the loss then falls from each point to the next, of "bb" in the long run.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from fastgd._function import Function, Point, length
from fastgd._line_search import ENOUGH, Along, Stuck, backtrack, search

__all__ = ["DESCENTS", "Descent", "Settings"]

#: How much longer a step is tried after one that was enough at once.
GROWTH = 2.0
#: Polyak's m for a fixed step, where none is given.
HEAVY = 0.9
#: The least cosine between a direction and -g with which it is followed.
LEAST_COSINE = 1e-6
#: Kingma and Ba's β1, β2 and ε.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
#: The losses that the nonmonotone search looks back on (Raydan, The Barzilai and Borwein gradient method for the large
#: scale unconstrained minimization problem, 1997).
LOOK_BACK = 10
#: Of "bb": below this ratio of the two step sizes the shortest of the last so many short ones is taken (Frassoldati,
#: Zanghirati and Zanni, New adaptive stepsize selections in gradient methods, 2008, ABBmin1).
SHORT_BELOW, SHORT_STEPS = 0.8, 9
#: Where the curvature is negative, how much longer the next step is.
CONCAVE_GROWTH = 10.0


class Settings(NamedTuple):
    """What users set: a step size, a momentum, how many changes are remembered; None where they did not."""

    lr: float | None
    momentum: float | None
    memory: int


class Descent(Protocol):
    """A method in the middle of its way."""

    def advance(self, point: Point) -> Point:
        """The next point.

        Raises
        ------
        Stuck
            If the line search finds none.
        """


class Steps:
    """How far along a direction: lr, or what Armijo's search finds, from the last step on.

    Parameters
    ----------
    function : Function
    lr : float or None
    share : float
        δ of the search.
    growth : float
        How much longer the first trial is than the last step if that was enough at once.
    """

    def __init__(self, function: Function, lr: float | None, share: float = ENOUGH, growth: float = GROWTH) -> None:
        self.function, self.lr, self.share, self.growth = function, lr, share, growth
        self.next: float | None = None

    def take(self, point: Point, direction: np.ndarray, *, with_grad: bool = True) -> Point:
        """The point that such a step leads to."""
        if self.lr is not None:
            return self.function.look(point.x + self.lr * direction, with_grad=with_grad)
        along = Along(self.function, point, direction)
        first = first_step(direction) if self.next is None else self.next
        trial = backtrack(along, first, self.share, with_grad=with_grad)
        self.next = trial.step * self.growth if trial.step == first else trial.step
        return trial.point


def first_step(direction: np.ndarray) -> float:
    """A step of length 1, or 1 if that is shorter: as SciPy's BFGS begins."""
    return min(1.0, 1.0 / length(direction))


def leads_down(direction: np.ndarray, point: Point) -> bool:
    """Whether the angle between a direction and the one against the gradient is far enough from a right one."""
    return float(direction @ point.grad) < -LEAST_COSINE * length(direction) * point.norm


def grown(s: float) -> tuple[float, float]:
    """A momentum that grows from 0 towards 1, and the s that gives the next: s begins at 1 (Nesterov, 1983)."""
    following = (1 + math.sqrt(1 + 4 * s * s)) / 2
    return (s - 1) / following, following


class GradientDescent:
    """Steps against the gradient."""

    def __init__(self, function: Function, settings: Settings) -> None:
        self.steps = Steps(function, settings.lr)

    def advance(self, point: Point) -> Point:
        return self.steps.take(point, -point.grad)


class Remembering(ABC):
    """Steps in directions that remember earlier gradients.

    With a line search the memory is lost where the direction leads uphill or no step along it is enough: what follows
    is a step of a descent that begins here.
    """

    steps: Steps

    @abstractmethod
    def forget(self) -> None:
        """Be as at the start."""

    @abstractmethod
    def direction(self, grad: np.ndarray) -> np.ndarray:
        """Where to go from a point with this gradient, which is taken in."""

    def advance(self, point: Point) -> Point:
        direction = self.direction(point.grad)
        if self.steps.lr is not None:
            return self.steps.take(point, direction)
        if leads_down(direction, point):
            try:
                return self.steps.take(point, direction)
            except Stuck:
                pass
        self.forget()
        return self.steps.take(point, self.direction(point.grad))


class Momentum(Remembering):
    """Steps along a velocity.

    Where neither lr nor a momentum is given, that grows as Nesterov's does, and starts anew where the velocity leads
    uphill or too far.
    """

    def __init__(self, function: Function, settings: Settings) -> None:
        self.steps = Steps(function, settings.lr)
        self.momentum = HEAVY if settings.momentum is None and settings.lr is not None else settings.momentum
        self.forget()

    def forget(self) -> None:
        self.velocity: np.ndarray | float = 0.0
        self.count = 1.0

    def direction(self, grad: np.ndarray) -> np.ndarray:
        momentum = self.momentum
        if momentum is None:
            momentum, self.count = grown(self.count)
        self.velocity = momentum * self.velocity - grad
        return self.velocity


class Adam(Remembering):
    """Steps along the mean of the gradients, each entry divided by the root mean square of its own."""

    def __init__(self, function: Function, settings: Settings) -> None:
        self.steps = Steps(function, settings.lr)
        self.forget()

    def forget(self) -> None:
        self.count, self.mean, self.square = 0, np.zeros(1), np.zeros(1)

    def direction(self, grad: np.ndarray) -> np.ndarray:
        self.count += 1
        self.mean = BETA_1 * self.mean + (1 - BETA_1) * grad
        self.square = BETA_2 * self.square + (1 - BETA_2) * grad**2
        mean, square = self.mean / (1 - BETA_1**self.count), self.square / (1 - BETA_2**self.count)
        return -mean / (np.sqrt(square) + EPSILON)


class Nesterov:
    """Nesterov's method, seen at the points where the gradient is taken, as PyTorch does it.

    A momentum that is not given grows, m = (s - 1) / s' with s' = (1 + sqrt(1 + 4 s^2)) / 2, and starts anew where the
    gradient and the change of z are at an acute angle (O'Donoghue and Candes, Adaptive restart for accelerated gradient
    schemes, 2015, the gradient scheme). With a line search the step fulfils f(z') <= f(x) - t |g|^2 / 2 (Beck and
    Teboulle, A fast iterative shrinkage-thresholding algorithm, 2009): it begins with one that fulfils Wolfe's
    conditions, and grows only where the momentum starts anew. Where f would be above what it was, z' is the next point
    and the momentum starts anew.
    """

    def __init__(self, function: Function, settings: Settings) -> None:
        self.function, self.momentum = function, settings.momentum
        self.steps = Steps(function, settings.lr, share=0.5, growth=1.0)
        self.count = 1.0
        self.before: np.ndarray | None = None

    def advance(self, point: Point) -> Point:
        reached = None
        if self.steps.lr is None:
            if self.before is None:
                self.steps.next = search(Along(self.function, point, -point.grad), first_step(point.grad)).step
            reached = self.steps.take(point, -point.grad, with_grad=False)
        z = point.x - self.steps.lr * point.grad if reached is None else reached.x
        change = z - (point.x if self.before is None else self.before)
        self.before = z
        momentum = self.momentum
        if momentum is None:
            if float(point.grad @ change) > 0:
                self.start_anew()
            momentum, self.count = grown(self.count)
        if reached is not None and momentum == 0:
            return reached
        following = self.function.look(z + momentum * change, with_grad=True)
        if reached is None or (following.loss <= point.loss + self.function.noise(point.loss) and following.is_finite):
            return following
        self.start_anew()
        return reached

    def start_anew(self) -> None:
        self.count = 1.0
        if self.steps.next is not None:
            self.steps.next *= GROWTH


class BarzilaiBorwein:
    """Steps against the gradient of 1 / the curvature along the last change.

    With s and y the last changes of x and g, the long step is s.s / s.y and the short one s.y / y.y. The long one is
    taken where they are alike, else the shortest of the last SHORT_STEPS short ones, which takes out of g what the
    largest eigenvalues put in. A step is cut if the loss would not fall below the largest of the last LOOK_BACK by a
    share of what the slope promises.
    """

    def __init__(self, function: Function, settings: Settings) -> None:  # noqa: ARG002  # like all of them
        self.function = function
        self.losses: deque[float] = deque(maxlen=LOOK_BACK)
        self.short: deque[float] = deque(maxlen=SHORT_STEPS)
        self.next: float | None = None

    def advance(self, point: Point) -> Point:
        self.losses.append(point.loss)
        direction = -point.grad
        step = first_step(direction) if self.next is None else self.next
        trial = backtrack(Along(self.function, point, direction), step, ENOUGH, max(self.losses))
        self.next = self.following(trial.step, trial.point.x - point.x, trial.point.grad - point.grad)
        return trial.point

    def following(self, step: float, s: np.ndarray, y: np.ndarray) -> float:
        """The next step to try."""
        product = float(s @ y)
        if not product > 0:
            return CONCAVE_GROWTH * step
        long, short = float(s @ s) / product, product / float(y @ y)
        self.short.append(short)
        return min(self.short) if short < SHORT_BELOW * long else long


class LimitedMemory:
    """Quasi-Newton steps: H is what the last changes of x and g tell of the inverse Hessian.

    The search fulfils Wolfe's conditions, so that s.y > 0 and H is positive definite. Where it fails, and where the
    direction is all but at right angles to g, the changes are forgotten and the step is one against the gradient, of
    which the first trial is as long as the gradient or 1.
    """

    def __init__(self, function: Function, settings: Settings) -> None:
        self.function = function
        self.pairs: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=settings.memory)

    def advance(self, point: Point) -> Point:
        direction, first = self.direction(point.grad), 1.0
        if not self.pairs or not leads_down(direction, point):
            self.pairs.clear()
            direction, first = -point.grad / point.norm, min(1.0, point.norm)
        try:
            reached = search(Along(self.function, point, direction), first).point
        except Stuck as stuck:
            if not self.pairs:
                raise
            return self.begin_anew(point, stuck)
        s, y = reached.x - point.x, reached.grad - point.grad
        product = float(s @ y)
        if product > np.finfo(np.float64).eps * float(y @ y):
            self.pairs.append((s, y, product))
        return reached

    def begin_anew(self, point: Point, stuck: Stuck) -> Point:
        """A step against the gradient; if none is enough either, what the first search was stuck in is the answer.

        The quadratic with the Hessian H^-1 would have fallen by g.H g / 2 to its minimum.
        """
        self.pairs.clear()
        try:
            return self.advance(point)
        except Stuck:
            stuck.gain = -0.5 * stuck.along.start.slope
            raise stuck from None

    def direction(self, grad: np.ndarray) -> np.ndarray:
        """-H grad (Nocedal and Wright, algorithm 7.4, with the scale of equation 7.20)."""
        q = -grad
        shares = []
        for s, y, product in reversed(self.pairs):
            share = s.dot(q) / product
            q -= share * y
            shares.append(share)
        if self.pairs:
            _, y, product = self.pairs[-1]
            q *= product / y.dot(y)
        for (s, y, product), share in zip(self.pairs, reversed(shares), strict=True):
            q += (share - y.dot(q) / product) * s
        return q


#: By the names that users give.
DESCENTS: dict[str, Callable[[Function, Settings], Descent]] = {
    "gd": GradientDescent,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adam": Adam,
    "bb": BarzilaiBorwein,
    "lbfgs": LimitedMemory,
}
