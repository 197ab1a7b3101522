"""Stochastic gradient descent: an update for each mini-batch, against the gradient of its mean squared error.

With a number as step it is the textbook's, in the columns as they are: w <- w - lr grad F_B(w), with F_B the objective
of the batch's rows. With lr="auto" rows are centred, unless they are sparse, and measured in the metric of standardised
columns while they are read, and 2 lr is STEP / E|z|^2 (Bach and Moulines, 2013), z being such a row with a one for the
intercept; of a batch the Hessian's largest eigenvalue counts too, and momentum m takes its share, 1 - m. One row can
move the parameters no further than to where its residual vanishes, so that it cannot diverge.

Constant steps keep the parameters moving about the optimum by as much as the noise of a row makes them. Their average
has the variance of the optimum itself, d / n, after an epoch of n rows: what is returned is the mean of the epochs'
means, later ones weighing more, of the first its latter part alone (suffix averaging, Rakhlin, Shamir and Sridharan,
2012; polynomial decay, Shamir and Zhang, 2013).

Over an epoch the noise of the rows at the optimum adds up to zero. What an average keeps of it, rows make that meet a
moved w, and that is less with smaller steps; what it keeps of the start is more. So with lr="auto" and schedule="auto"
(`Settling`) steps fall with the root of the updates in the first epoch (Polyak and Juditsky, 1992); they grow again
while the loss falls by more than noise explains; and when it hardly falls, epochs become so quiet that the parameters
at their ends are taken, each second one through the rows of the last backwards, which cancels what the order of the
rows does to first order (FlipFlop; Rajput, Lee and Papailiopoulos, 2022).
"""

from __future__ import annotations

import math

import numpy as np

from fastgd import _saga
from fastgd.objective import MSE
from fastgd.solvers._epochs import Epochs, Metric, blown_up, diverged, evaluate, run_epoch
from fastgd.solvers._interface import Options, Outcome
from fastgd.solvers._monitor import Monitor

__all__ = ["USES", "Schedule", "solve"]

#: Options of `fit` that it has a use for.
USES = frozenset({"lr", "l1", "momentum", "batch_size", "schedule", "power_t", "average", "random_state"})

#: The step times the mean square length of a row.
STEP = 0.5
#: By how much a loss must be below the least before, relative to it, to have fallen;
FALL = 1e-6
#: epochs without a fall after which there is none to be had.
STALLED = 10
#: "auto" multiplies the step by this factor after so many epochs in which the loss has fallen by less than SLOW.
FACTOR, PATIENCE, SLOW = 0.5, 2, 1e-4
#: The factor of "adaptive", which is scikit-learn's.
ADAPTIVE_FACTOR = 0.2
#: Epoch k has the weight (DECAY + 1) / (k + DECAY) in the mean of the epochs.
DECAY = 3
#: Of the first epoch, the part that is left out of its mean; of steps that fall.
LATTER, LATTER_OF_FALLING = 1 / 2, 1 / 4
#: Where steps fall, they do after so many of the times that the first one takes to forget the start.
LONG = 25.0
#: The factor by which a step grows again.
RAISE = 4.0
#: The step of a quiet epoch times its updates; and the factor for every two of them.
QUIET, QUIETER = 0.7, 0.7


class Schedule:
    """The step of each epoch, and whether the loss has stopped falling.

    Parameters
    ----------
    name : {"auto", "constant", "invscaling", "adaptive"}
    rate : float
        Of the first epoch.
    power_t : float
        Of "invscaling".
    loss : float
        At the start.

    Attributes
    ----------
    fall : float
        The part of an epoch after which its steps have fallen by the root of 2.
    quiet : int
        Which one of the quiet epochs comes next, from 1; 0 before them.
    """

    FIXED: frozenset[str] = frozenset()
    fall, quiet, latter = float("inf"), 0, LATTER

    def __init__(self, name: str, rate: float, power_t: float, loss: float) -> None:
        self.name, self.first, self.rate, self.power_t = name, rate, rate, power_t
        self.epoch, self.least, self.stalled, self.slowed = 1, loss, 0, 0

    def take(self, loss: float) -> None:
        """An epoch has ended with this loss."""
        gain = 1 - loss / self.least if self.least > 0 else 0.0
        self.epoch += 1
        self.stalled = 0 if gain > FALL else self.stalled + 1
        self.least = min(self.least, loss)
        self.adapt(gain)

    def adapt(self, gain: float) -> None:
        """Find the next rate; the loss has fallen by `gain` of itself."""
        self.slowed = 0 if gain > SLOW else self.slowed + 1
        if self.name == "invscaling":
            self.rate = self.first / self.epoch**self.power_t
        elif self.name == "adaptive" and self.stalled:
            self.rate *= ADAPTIVE_FACTOR
        elif self.name == "auto" and self.slowed and self.slowed % PATIENCE == 0:
            self.rate *= FACTOR

    @property
    def exhausted(self) -> bool:
        """Whether the loss has not fallen for so long that it will not."""
        return self.stalled >= STALLED


class Settling(Schedule):
    """What lr="auto" does about schedule="auto": averaged epochs while these gain by it, then ever quieter ones.

    Parameters
    ----------
    rate : float
        Of the first update.
    loss : float
        At the start.
    updates : float
        In an epoch, each counted as often as momentum repeats it.
    noise : float
        By which part of the least loss that after an averaged epoch exceeds it, about: d / n.
    """

    latter = LATTER_OF_FALLING

    def __init__(self, rate: float, loss: float, updates: float, noise: float) -> None:
        super().__init__("auto", rate, 0.0, loss)
        self.updates, self.noise = updates, noise
        self.fall = LONG / (rate * updates)

    def adapt(self, gain: float) -> None:
        if self.epoch == 2:
            self.rate, self.fall = self.rate / math.sqrt(1 + 1 / self.fall), float("inf")
        elif self.quiet:
            self.quiet += 1
        elif gain > self.noise:
            self.rate = min(self.rate * RAISE, self.first)
        elif gain < SLOW and self.rate * self.updates > QUIET:
            self.quiet = 1
        if self.quiet:
            self.rate = QUIET * QUIETER ** ((self.quiet - 1) // 2) / self.updates


class Average:
    """The mean of the epochs' means."""

    FIXED: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.epochs, self.coef, self.intercept = 0, np.empty(0), 0.0

    def take(self, coef: np.ndarray, intercept: float) -> None:
        self.epochs += 1
        if self.epochs == 1:
            self.coef, self.intercept = coef, intercept
        share = (DECAY + 1) / (self.epochs + DECAY)
        self.coef = self.coef + share * (coef - self.coef)
        self.intercept += share * (intercept - self.intercept)


def solve(objective: MSE, options: Options, monitor: Monitor) -> Outcome:
    """Epochs of updates, each ended by a pass that finds the loss of what would be returned.

    Raises
    ------
    DivergenceError
        If lr is a number and the loss passes 10^3 times its start.
    """
    auto, w = isinstance(options.lr, str), options.w0
    loss, grad = evaluate(objective, w, options.l1)
    reason = monitor.see(w, loss, grad)
    metric = Metric.standard(objective, monitor.geometry) if auto else Metric.plain(objective.n_features)
    schedule = schedule_of(objective, options, first_rate(objective, options, metric), loss)
    epochs = Epochs(objective, options.random_state, monitor.geometry.weight, batch_size=options.batch_size)
    state, average = _saga.State(*metric.centred(w, objective.n_features)), Average()
    loop = monitor.loop()
    w, loss, grad, schedule, epochs, state, average = loop.resumed(w, loss, grad, schedule, epochs, state, average)
    while not reason:
        loop.keep(w, loss, grad, schedule, epochs, state, average)
        w, loss, grad = epoch(epochs, state, average, metric, schedule, options)
        monitor.extra_passes += 1
        if diverged(monitor, w, loss, grad):
            if not auto:
                raise blown_up(objective, options, monitor, loss)
            schedule.rate, schedule.first = schedule.rate * FACTOR, schedule.first * FACTOR
            state, average = _saga.State(*metric.centred(monitor.best_w, objective.n_features)), Average()
            continue
        schedule.take(loss)
        reason = monitor.see(w, loss, grad, lr=schedule.rate / 2)
        if not reason and options.tol > 0 and schedule.exhausted:
            reason = "the loss stopped falling"
        if schedule.quiet == 1:
            state = _saga.State(*metric.centred(w, objective.n_features))
    return monitor.outcome(w, loss, reason, grad=grad, lr=schedule.first / 2)


def schedule_of(objective: MSE, options: Options, rate: float, loss: float) -> Schedule:
    if options.schedule != "auto" or not isinstance(options.lr, str):
        return Schedule(options.schedule, rate, options.power_t, loss)
    n = len(objective.X)
    updates = math.ceil(n / options.batch_size) / (1 - options.momentum)
    return Settling(rate, loss, updates, len(options.w0) / n)


def first_rate(objective: MSE, options: Options, metric: Metric) -> float:
    """Twice the step size, the factor that the textbook's gradient has."""
    if not isinstance(options.lr, str):
        return 2 * options.lr
    together = options.batch_size
    curvature = metric.spread / together
    if together > 1:
        curvature += (1 - 1 / together) * metric.largest(objective)
    return STEP * (1 - options.momentum) / curvature


def epoch(
    epochs: Epochs, state: _saga.State, average: Average, metric: Metric, schedule: Schedule, options: Options
) -> tuple[np.ndarray, float, np.ndarray]:
    """Run all rows; the parameters that would be returned, F there and the gradient of its smooth part."""
    objective, n = epochs.objective, len(epochs.objective.X)
    averages = options.average and not schedule.quiet
    begin = int(schedule.latter * n) if average.epochs == 0 else 0
    epochs.turn(back=schedule.quiet > 0 and schedule.quiet % 2 == 0)
    finite = run_epoch(
        epochs, state, metric, schedule.rate, fall=schedule.fall * n, average_from=begin if averages else -1,
        l1=options.l1 / 2, l2=objective.l2, momentum=options.momentum, clamps=isinstance(options.lr, str),
    )
    if not finite:
        return options.w0, float("inf"), np.zeros(len(options.w0))
    coef, intercept = state.coef, state.intercept
    if averages:
        average.take(*state.average)
        state.forget()
        coef, intercept = average.coef, average.intercept
    w = metric.parameters(coef, intercept, len(options.w0))
    return w, *evaluate(objective, w, options.l1)
