"""What is the same for every solver: callbacks, validation sets, progress, several targets, weights, bad options."""

import re
import sys
import warnings

import numpy as np
import pytest

import fastgd as fg
from fastgd.solvers import SOLVERS
from fastgd.solvers._interface import Options
from fastgd.solvers._monitor import Monitor

#: Options with which a solver comes near the optimum of the data below, and how near.
EXACT = {"moments": {}, "cg": {}, "gd": {"max_iter": 100_000}, "fista": {}, "saga": {}}
ITERATIVE = [name for name in EXACT if name != "moments"]


def data(n=120, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) + rng.uniform(-1, 1, d)
    return X, X @ rng.standard_normal(d) + 1.0 + rng.standard_normal(n)


def fit(solver, X, y, **given):
    return fg.fit(X, y, solver=solver, **(EXACT[solver] | given))


def refusal(kind, *words):
    """`pytest.raises` for a message that has all these words, in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(map(re.escape, words)))


def assert_same(solver, coef, expected, rounding=1e-11):
    """The same bits; but "gd" finds many iterates at once if nobody watches, which are the same to rounding."""
    if solver == "gd":
        np.testing.assert_allclose(coef, expected, rtol=0, atol=rounding * np.abs(expected).max())
    else:
        np.testing.assert_array_equal(coef, expected)


def mean_square(X, y, coef, intercept=0.0):
    return np.mean((X @ coef + intercept - y) ** 2)


@pytest.mark.parametrize("solver", EXACT)
def test_the_solvers_here_are_there(solver):
    assert solver in SOLVERS


# ---- callbacks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_callback_is_shown_every_iterate(solver, fit_intercept):
    X, y = data()
    seen = []
    r = fit(solver, X, y, callback=seen.append, fit_intercept=fit_intercept)     # append returns None
    assert all(isinstance(iterate, fg.Iterate) for iterate in seen)
    assert [iterate.iteration for iterate in seen] == list(range(r.n_iter + 1))
    for iterate, loss, seconds in zip(seen, r.history["loss"], r.history["seconds"], strict=True):
        assert iterate.loss == pytest.approx(loss, rel=1e-12)
        assert mean_square(X, y, iterate.coef, iterate.intercept) == pytest.approx(iterate.loss, rel=1e-9)
        assert 0 <= iterate.seconds <= seconds
        assert iterate.val_loss is None
        assert iterate.optimality >= 0
    assert seen[0].coef.tolist() == [0.0] * 4
    np.testing.assert_allclose(seen[-1].coef, r.coef, rtol=1e-12)
    assert seen[-1].intercept == pytest.approx(r.intercept, rel=1e-9)
    assert seen[-1].optimality == pytest.approx(r.optimality, rel=1e-2, abs=1e-9)
    assert seen[0].optimality > seen[-1].optimality


@pytest.mark.parametrize("solver", EXACT)
def test_what_a_callback_is_shown_is_a_copy(solver):
    X, y = data()
    def spoil(iterate):
        iterate.coef[:] = np.nan
    r = fit(solver, X, y, callback=spoil)
    assert_same(solver, r.coef, fit(solver, X, y).coef)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("how", ["True", "1", "StopIteration"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_callback_ends_a_fit(solver, how, after):
    def callback(iterate):
        if iterate.iteration < after:
            return None
        if how == "StopIteration":
            raise StopIteration
        return {"True": True, "1": 1}[how]

    if solver == "moments" and after > 1:
        after = 1   # there is one step
    X, y = data()
    r = fit(solver, X, y, callback=callback)
    assert r.n_iter == after
    assert r.stop_reason.startswith("the callback ended it")
    assert len(r.history["loss"]) == after + 1
    assert r.loss == pytest.approx(mean_square(X, y, r.coef, r.intercept), rel=1e-12)
    if after == 0:
        assert r.coef.tolist() == [0.0] * 4
        assert not r.converged
    elif solver != "moments":
        assert r.loss < r.history["loss"][0]
        assert not r.converged


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("error", [KeyError, RuntimeError, KeyboardInterrupt, ArithmeticError])
def test_an_exception_of_a_callback_comes_through(solver, error):
    def callback(iterate):
        if iterate.iteration == 1:
            raise error("mine")

    with pytest.raises(error, match="mine"):
        fit(solver, *data(), callback=callback)


@pytest.mark.parametrize("solver", EXACT)
def test_a_callback_that_only_looks_changes_nothing(solver):
    X, y = data()
    plain, watched = fit(solver, X, y), fit(solver, X, y, callback=lambda iterate: 0)
    assert_same(solver, watched.coef, plain.coef)
    assert watched.n_iter == plain.n_iter
    assert watched.stop_reason == plain.stop_reason
    assert watched.loss == pytest.approx(plain.loss, rel=1e-14)


# ---- validation sets -------------------------------------------------------------------------------------------------


def overfitted(seed=0):
    """Fewer rows than columns, noisy targets: what fits best is far from what predicts best."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((230, 50)) * np.geomspace(1, 0.05, 50)
    y = X @ (rng.standard_normal(50) * np.geomspace(1, 0.01, 50)) + rng.standard_normal(230)
    return X[:60], y[:60], X[60:], y[60:]


@pytest.mark.parametrize("solver", EXACT)
def test_history_holds_the_loss_on_the_validation_set(solver):
    X, y, X_val, y_val = overfitted()
    seen = []
    r = fit(solver, X, y, X_val=X_val, y_val=y_val, patience=10_000, callback=seen.append)
    assert len(r.history["val_loss"]) == len(r.history["loss"]) == len(seen)
    for iterate, value in zip(seen, r.history["val_loss"], strict=True):
        assert iterate.val_loss == value
        assert value == pytest.approx(mean_square(X_val, y_val, iterate.coef, iterate.intercept), rel=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("patience", [1, 3, 10_000])
def test_the_parameters_of_least_validation_loss_are_returned(solver, patience):
    X, y, X_val, y_val = overfitted()
    r = fit(solver, X, y, X_val=X_val, y_val=y_val, patience=patience)
    values = r.history["val_loss"]
    best = int(np.argmin(values))
    assert mean_square(X_val, y_val, r.coef, r.intercept) == pytest.approx(values[best], rel=1e-9)
    assert r.loss == pytest.approx(mean_square(X, y, r.coef, r.intercept), rel=1e-12)
    assert r.loss == pytest.approx(r.history["loss"][best], rel=1e-9)
    if solver == "moments":
        return
    assert 0 < best < r.n_iter      # neither the start nor the end
    assert not r.converged
    assert f"least at iteration {best}" in r.stop_reason
    assert np.isnan(r.gap_bound)
    if patience < 100:
        assert r.n_iter == best + patience
        assert f"has not fallen for {patience} iterations" in r.stop_reason


@pytest.mark.parametrize("solver", EXACT)
def test_a_validation_set_that_only_falls_ends_nothing(solver):
    X, y = data()
    r = fit(solver, X, y, X_val=X, y_val=y, patience=3)
    plain = fit(solver, X, y)
    assert r.converged
    np.testing.assert_allclose(r.coef, plain.coef, rtol=1e-6)
    assert r.history["val_loss"][-1] == pytest.approx(r.loss, rel=1e-12)


@pytest.mark.parametrize("solver", EXACT)
def test_a_validation_set_counts_no_penalty_and_no_weights(solver):
    X, y = data()
    s = np.random.default_rng(0).uniform(0, 2, len(X))
    seen = []
    r = fit(solver, X, y, X_val=X[:30], y_val=y[:30], l2=0.5, sample_weight=s, callback=seen.append, patience=10_000)
    for iterate, value in zip(seen, r.history["val_loss"], strict=True):
        assert value == pytest.approx(mean_square(X[:30], y[:30], iterate.coef, iterate.intercept), rel=1e-9)


# ---- progress --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", EXACT)
def test_a_bar_shows_iteration_loss_and_optimality(solver, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")      # rich then takes any stream for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    seen = []
    r = fit(solver, *data(), progress=True, callback=seen.append)
    out = capsys.readouterr().err
    assert "iteration" in out
    assert "loss" in out
    assert "optimality" in out
    assert len(seen) == r.n_iter + 1
    assert_same(solver, r.coef, fit(solver, *data()).coef)


def test_a_bar_lets_a_callback_end_the_fit(capsys):
    X, y = data()
    r = fg.fit(X, y, solver="cg", progress=True, callback=lambda iterate: iterate.iteration == 2)
    assert r.n_iter == 2
    capsys.readouterr()
    with pytest.raises(KeyError):
        fg.fit(X, y, solver="cg", progress=True, callback=lambda iterate: {}[1])


def test_without_rich_a_bar_is_refused_in_one_line_and_a_fit_is_not(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    X, y = data()
    with refusal(ImportError, "progress=True needs rich", "pip install 'fastgd[cli]'") as caught:
        fg.fit(X, y, progress=True)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert fg.fit(X, y).converged


def test_a_fit_without_a_bar_prints_nothing(capsys):
    for solver in EXACT:
        fit(solver, *data())
    assert capsys.readouterr() == ("", "")


# ---- several targets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", *EXACT])
@pytest.mark.parametrize("given", [{}, {"l2": 0.1}, {"fit_intercept": False}, {"tol": 0, "max_iter": 5}], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_several_targets_are_the_fits_one_by_one(solver, given, dtype):
    X, _ = data()
    rng = np.random.default_rng(1)
    Y = X @ rng.standard_normal((4, 3)) + rng.standard_normal((120, 3))
    X = X.astype(dtype)
    given = EXACT.get(solver, {}) | given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.ConvergenceWarning)
        together = fg.fit(X, Y, solver=solver, **given)
        single = [fg.fit(X, Y[:, k], solver=solver, **given) for k in range(3)]
    assert together.coef.shape == (4, 3)
    assert together.coef.dtype == dtype
    assert together.intercept.shape == (3,)
    rounding = 100 * np.finfo(dtype).eps    # "moments" forms the products of the columns once for all targets
    for k, one in enumerate(single):
        if solver in ("auto", "moments"):
            np.testing.assert_allclose(together.coef[:, k], one.coef, rtol=0, atol=rounding * np.abs(one.coef).max())
            assert together.intercept[k] == pytest.approx(one.intercept, rel=float(rounding))
        else:
            np.testing.assert_array_equal(together.coef[:, k], one.coef)
            assert together.intercept[k] == one.intercept
            assert together.n_passes == sum(one.n_passes for one in single)
            assert together.optimality == max(one.optimality for one in single)
            assert together.n_iter == max(one.n_iter for one in single)
    assert together.loss == pytest.approx(sum(one.loss for one in single), rel=float(rounding))
    assert together.converged == all(one.converged for one in single)
    assert len(together.history["loss"]) == together.n_iter + 1
    assert together.history["loss"][0] == pytest.approx(sum(one.history["loss"][0] for one in single))
    assert together.history["loss"][-1] == pytest.approx(together.loss)
    predictions = np.column_stack([one.predict(X) for one in single])
    np.testing.assert_allclose(together.predict(X), predictions, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("solver", EXACT)
def test_several_targets_start_and_are_validated_each_by_itself(solver):
    X, y, X_val, y_val = overfitted()
    Y, Y_val = np.column_stack([y, -2 * y]), np.column_stack([y_val, -2 * y_val])
    starts = np.random.default_rng(0).standard_normal((51, 2))
    given = {"patience": 2}
    r = fit(solver, X, Y, w0=starts, X_val=X_val, y_val=Y_val, **given)
    for k in (0, 1):
        one = fit(solver, X, Y[:, k], w0=starts[:, k], X_val=X_val, y_val=Y_val[:, k], **given)
        atol = 1e-12 * np.abs(one.coef).max() if solver == "moments" else 0.0    # as above
        np.testing.assert_allclose(r.coef[:, k], one.coef, rtol=0, atol=atol)
    first = sum(mean_square(X_val, Y_val[:, k], starts[:50, k], starts[50, k]) for k in (0, 1))
    assert r.history["val_loss"][0] == pytest.approx(first, rel=1e-12)


# ---- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("given", [{}, {"l2": 0.1}, {"fit_intercept": False}], ids=str)
def test_weight_0_is_absence_and_weight_2_repetition(solver, given):
    X, y = data()
    times = np.random.default_rng(0).integers(0, 4, len(X))
    given = EXACT[solver] | {"tol": 1e-10} | given
    weighted = fg.fit(X, y, solver=solver, sample_weight=times, **given)
    repeated = fg.fit(np.repeat(X, times, 0), np.repeat(y, times), solver=solver, **given)
    np.testing.assert_allclose(weighted.coef, repeated.coef, rtol=0, atol=1e-9)
    assert weighted.intercept == pytest.approx(repeated.intercept, abs=1e-9)
    assert weighted.loss == pytest.approx(repeated.loss, rel=1e-12)
    spoilt = X.copy()
    spoilt[times == 0] = 1e6
    again = fg.fit(spoilt, y, solver=solver, sample_weight=times, **given)
    np.testing.assert_allclose(again.coef, repeated.coef, rtol=0, atol=1e-9)


# ---- a warm start ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", EXACT)
def test_the_start_is_the_first_iterate(solver):
    X, y = data()
    w0 = np.array([1.0, -2.0, 3.0, 0.5, 7.0])
    for start, intercept in ((w0, 7.0), (w0[:4], 0.0)):
        seen = []
        fit(solver, X, y, w0=start, callback=seen.append)
        np.testing.assert_array_equal(seen[0].coef, w0[:4])
        assert seen[0].intercept == intercept
    np.testing.assert_array_equal(w0, [1.0, -2.0, 3.0, 0.5, 7.0])


@pytest.mark.parametrize("solver", EXACT)
def test_a_start_that_fits_exactly_is_no_divergence(solver):
    """From a loss of 0, one of 1e-31 is no rise but rounding."""
    X = np.random.default_rng(0).integers(-9, 9, (50, 3)).astype(float)
    w0 = np.array([1.0, 2.0, -3.0, 4.0])
    y = X @ w0[:3] + w0[3]
    for given in ({}, {"tol": 0, "max_iter": 20}):
        r = fg.fit(X, y, solver=solver, w0=w0, callback=lambda iterate: None, **given)
        np.testing.assert_allclose(r.coef, w0[:3], rtol=1e-12)
        assert r.history["loss"][0] == 0


# ---- bad input -------------------------------------------------------------------------------------------------------

X0, Y0 = data(20, 3)
X_NAN, Y_INF = X0.copy(), Y0.copy()
X_NAN[4, 1], Y_INF[7] = np.nan, np.inf


@pytest.mark.parametrize("solver", ["auto", *EXACT])
@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"X_val": X0}, TypeError, ["y_val must be given too"]),
        ({"y_val": Y0}, TypeError, ["X_val must be given too"]),
        ({"X_val": X0[:, :2], "y_val": Y0}, ValueError, ["X_val must have 3 columns, got 2"]),
        ({"X_val": X0[0], "y_val": Y0}, ValueError, ["X_val must have shape (n_samples, n_features), got (3,)"]),
        ({"X_val": X0[:0], "y_val": Y0[:0]}, ValueError, ["X_val must have at least one row", "got shape (0, 3)"]),
        ({"X_val": X0, "y_val": Y0[:-1]}, ValueError, ["y_val must", "(20,)", "got", "(19,)"]),
        ({"X_val": X0, "y_val": Y0[:, None]}, ValueError, ["y_val must", "(20,)", "got", "(20, 1)"]),
        ({"X_val": X0, "y_val": np.ones((20, 2))}, ValueError, ["y_val must be a vector", "got shape (20, 2)"]),
        ({"X_val": X0, "y_val": ["a"] * 20}, TypeError, ["y_val must hold real numbers"]),
        ({"X_val": "text", "y_val": Y0}, TypeError, ["X_val must hold real numbers"]),
        ({"X_val": X_NAN, "y_val": Y0}, ValueError, ["X_val holds nan at index (4, 1)"]),
        ({"X_val": X0, "y_val": Y_INF}, ValueError, ["y_val holds inf at index 7"]),
        ({"patience": 0}, ValueError, ["patience must be an integer of at least 1, got 0"]),
        ({"patience": 2.0}, TypeError, ["patience must be an integer of at least 1, got 2.0"]),
        ({"patience": True}, TypeError, ["patience must be an integer of at least 1, got True"]),
        ({"callback": 3}, TypeError, ["callback must be a function of an Iterate, or None, got 3"]),
        ({"callback": "print"}, TypeError, ["callback must be a function of an Iterate, or None, got 'print'"]),
        ({"progress": 1}, TypeError, ["progress must be True or False, got 1"]),
        ({"progress": "yes"}, TypeError, ["progress must be True or False, got 'yes'"]),
        ({"progress": None}, TypeError, ["progress must be True or False, got None"]),
        ({"l1": -1}, ValueError, ["l1 must be a finite number of at least 0, got -1"]),
        ({"l1": np.nan}, ValueError, ["l1 must be a finite number of at least 0, got nan"]),
        ({"l1": "1"}, TypeError, ["l1 must be a finite number of at least 0, got '1'"]),
        ({"momentum": 1}, ValueError, ["momentum must be a finite number of at least 0 and below 1, got 1"]),
        ({"momentum": 1.5}, ValueError, ["momentum must be a finite number of at least 0 and below 1, got 1.5"]),
        ({"momentum": -0.1}, ValueError, ["momentum must be a finite number of at least 0 and below 1, got -0.1"]),
        ({"momentum": None}, TypeError, ["momentum must be a finite number", "got None"]),
        ({"nesterov": 1}, TypeError, ["nesterov must be True or False, got 1"]),
        ({"batch_size": 0}, ValueError, ["batch_size must be an integer of at least 1, got 0"]),
        ({"batch_size": 1.5}, TypeError, ["batch_size must be an integer of at least 1, got 1.5"]),
        ({"schedule": "linear"}, ValueError, ["schedule must be one of 'auto', 'constant'", "got 'linear'"]),
        ({"schedule": None}, TypeError, ["schedule must be one of 'auto'", "got None"]),
        ({"power_t": -1}, ValueError, ["power_t must be a finite number of at least 0, got -1"]),
        ({"power_t": np.inf}, ValueError, ["power_t must be a finite number of at least 0, got inf"]),
        ({"average": 1}, TypeError, ["average must be True or False, got 1"]),
        ({"random_state": -1}, ValueError, ["random_state must be an integer from 0 to 2^63 - 1, got -1"]),
        ({"random_state": 2**63}, ValueError, ["random_state must be an integer from 0 to 2^63 - 1, got 9223372"]),
        ({"random_state": 1.0}, TypeError, ["random_state must be an integer, a numpy.random.Generator or None"]),
        ({"random_state": "0"}, TypeError, ["random_state must be", "got '0'"]),
        ({"lr": "fast"}, TypeError, ["lr must be a finite number above 0 or one of auto", "bb, got 'fast'"]),
        ({"w0": np.ones((4, 2))}, ValueError, ["w0 must have shape (3,) or (4,), got (4, 2)"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_bad_options_are_named(solver, given, error, words):
    with refusal(error, *words):
        fg.fit(X0, Y0, solver=solver, **given)


#: Options that only some solvers have a use for, at values that are not their defaults.
PARTICULAR = {
    "lr": [0.1, "bb", "backtracking"],
    "l1": [0.1],
    "momentum": [0.5],
    "nesterov": [True],
    "batch_size": [2],
    "schedule": ["constant"],
    "power_t": [0.5],
    "average": [False],
    "random_state": [1],
}


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("name", PARTICULAR)
def test_an_option_without_a_use_is_refused(solver, name):
    """Rather than ignored; at its default, given or not, it is not."""
    uses = {"l1"} if solver == "auto" else SOLVERS[solver].uses
    if name in uses:
        return
    able = [repr(other) for other, method in SOLVERS.items() if name in method.uses]
    for value in PARTICULAR[name]:
        with refusal(ValueError, f"solver={solver!r} has no use for {name}; it is for ", *(able or ["no solver yet"])):
            fg.fit(X0, Y0, solver=solver, **{name: value})
    default = {field: value for field, value in vars(Options(w0=np.zeros(1))).items() if field != "w0"}[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.ConvergenceWarning)
        fg.fit(X0, Y0, solver=solver, max_iter=5, **{name: default})


@pytest.mark.parametrize("solver", ["sgd", "saga"])
@pytest.mark.parametrize("lr", ["backtracking", "bb"])
def test_a_line_search_of_a_stochastic_solver_is_refused(solver, lr):
    with refusal(ValueError, f"solver={solver!r} has no use for lr={lr!r}; it is for 'gd'"):
        fg.fit(X0, Y0, solver=solver, lr=lr)


def test_targets_of_a_validation_set_are_as_many_as_those_of_the_fit():
    Y = np.column_stack([Y0, Y0])
    for y_val, came in ((Y0, "(20,)"), (np.ones((20, 3)), "(20, 3)"), (np.ones((19, 2)), "(19, 2)")):
        with refusal(ValueError, "y_val must be of shape (20, 2), as y is", f"got shape {came}"):
            fg.fit(X0, Y, X_val=X0, y_val=y_val)


def test_random_generators_are_taken():
    assert fg.fit(X0, Y0, random_state=0).converged
    assert fg.fit(X0, Y0, random_state=None).converged


# ---- the monitor by itself -------------------------------------------------------------------------------------------


def test_figures_from_a_pass_take_the_place_of_those_carried_along():
    X, y = data()
    objective = fg.MSE(X, y, fit_intercept=True)
    values = []
    monitor = Monitor(objective, 1e-8, 100, val_loss=lambda w: values.append(w) or 1.0)
    best = fg.fit(X, y)
    w = np.append(best.coef, best.intercept)
    loss, grad = objective.value_and_grad(w)
    assert monitor.see(np.zeros(5), *objective.value_and_grad(np.zeros(5))) == ""
    assert monitor.see(w, loss + 1.0, 0 * grad)         # carried along, and wrong
    assert monitor.converged
    assert monitor.correct(w, loss, grad + 1.0) == ""
    assert not monitor.converged
    assert monitor.n_iter == 1
    assert len(values) == 2
    assert monitor.history.loss[-1] == loss
    assert {len(column) for column in monitor.history.arrays().values()} == {2}
