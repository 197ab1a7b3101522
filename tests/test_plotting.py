"""What pictures show: lines hold the history, scales and labels are readable, and what is missing is named."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastgd as fg
from fastgd.plotting import FitDisplay
from fastgd.plotting._descent_path import extents
from fastgd.plotting._look import told_apart

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def line_data(n=60, noise=0.4):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 2, (n, 1))
    return x, 3 * x[:, 0] + 1 + noise * rng.standard_normal(n)


def wide_data(n=300, d=6):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, d))
    return X, X @ rng.standard_normal(d) + rng.standard_normal(n)


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def inside(ax):
    """Whether nothing of the axes is cut off, to the pixel."""
    box = ax.get_tightbbox()
    return (box.min > -1).all() and (box.max < ax.figure.bbox.size + 1).all()


def draw(figure):
    """Draw all of it, with warnings as errors: labels without a glyph, axes without room."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()


# ---- the loss curve --------------------------------------------------------------------------------------------------


def test_the_line_is_the_history():
    X, y = wide_data()
    r = fg.fit(X, y, solver="gd")
    display = fg.LossCurveDisplay.from_result(r)
    np.testing.assert_array_equal(display.line_.get_xdata(), r.history["iteration"])
    np.testing.assert_array_equal(display.line_.get_ydata(), r.history["loss"])
    assert isinstance(display.ax_, Axes)
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_xlabel() == "iteration"
    assert display.ax_.get_ylabel() == "loss [units of y²]"
    assert legend_of(display.ax_) == ["gd", "start", f"optimum: {r.loss:,.5g}"]
    assert display.start_.get_xydata().tolist() == [[0, r.history["loss"][0]]]
    assert display.end_.get_xydata().tolist() == [[r.n_iter, r.history["loss"][-1]]]
    draw(display.figure_)


def test_against_time_and_above_the_optimum():
    X, y = wide_data()
    r, optimum = fg.fit(X, y, solver="gd"), fg.fit(X, y).loss
    display = fg.LossCurveDisplay.from_result(r, optimum=optimum, x="seconds", y_unit="km/h")
    np.testing.assert_array_equal(display.line_.get_xdata(), r.history["seconds"])
    np.testing.assert_array_equal(display.line_.get_ydata(), r.history["loss"] - optimum)
    assert display.ax_.get_xlabel() == "time since the start of the fit"
    assert display.ax_.xaxis.get_major_formatter()(0.25e-3) == "250 µs"
    assert display.ax_.get_ylabel() == "loss above the optimum [(km/h)²]"
    assert display.ax_.get_yscale() == "log"


def test_an_end_at_the_optimum_lies_on_the_edge_of_a_logarithmic_scale():
    display = fg.LossCurveDisplay([100.0, 1.0, 0.5], optimum=0.5, converged=True).plot()
    draw(display.figure_)
    assert display.ax_.get_yscale() == "log"
    (at,) = display.end_.get_transform().transform(display.end_.get_xydata())
    assert display.ax_.transAxes.inverted().transform(at)[1] == pytest.approx(0.0, abs=1e-12)
    assert display.line_.get_ydata().tolist() == [99.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([100.0, 50.0, 1.0], "log"),
        ([100.0, 50.0, 1.1], "linear"),
        ([1e3, 1.0, 0.0], "log"),       # an exact fit's zero does not count
        ([5.0, 0.0], "linear"),
        ([0.0, 0.0], "linear"),
        ([3.0], "linear"),
        ([1e2, -1.0, 1.0], "log"),
        ([-5.0, -500.0], "linear"),
        ([1.0, np.inf, 2.0], "linear"),
    ],
)
def test_the_scale_is_logarithmic_where_losses_span_two_decades(losses, scale):
    display = fg.LossCurveDisplay(losses).plot()
    draw(display.figure_)
    assert display.ax_.get_yscale() == scale
    other = {"log": "linear", "linear": "log"}[scale]
    if min(losses) > 0:
        assert display.plot(scale=other).ax_.get_yscale() == other


def test_a_validation_set_has_a_line_and_marks_what_was_returned():
    X, y = wide_data(40, 30)
    X_val, y_val = wide_data(200, 30)
    r = fg.fit(X, y, solver="gd", X_val=X_val, y_val=y_val, patience=20)
    best = int(np.argmin(r.history["val_loss"]))
    assert best < r.n_iter
    display = fg.LossCurveDisplay.from_result(r)
    np.testing.assert_array_equal(display.val_line_.get_ydata(), r.history["val_loss"])
    assert display.end_.get_xydata().tolist() == [[best, r.history["loss"][best]]]
    assert legend_of(display.ax_)[1:] == ["on the validation set", "start", "returned: least validation loss"]


def test_a_fit_that_ended_early_says_why_and_what_its_loss_cannot_be_below():
    X, y = wide_data()
    r = fg.fit(X, y, solver="fista", l1=0.5, tol=0, max_iter=1)
    assert 1e-3 * np.ptp(r.history["loss"]) < r.gap_bound < r.loss
    display = fg.LossCurveDisplay.from_result(r)
    assert set(display.least_.get_ydata()) == {r.loss - r.gap_bound}
    assert legend_of(display.ax_)[-1] == "end: max_iter=1 reached"
    assert not any("optimum" in text for text in legend_of(display.ax_))


def test_the_line_that_no_loss_is_below():
    curve = fg.LossCurveDisplay([4.0, 3.0, 2.0], least=1.5)
    display = curve.plot()
    assert list(display.least_.get_ydata()) == [1.5, 1.5]
    assert "no loss is below 1.5" in legend_of(display.ax_)
    for least, optimum in ((2.0, None), (-0.5, None), (1.5, 1.0)):  # at the last loss; says nothing; known better
        assert fg.LossCurveDisplay([4.0, 3.0, 2.0], least=least, optimum=optimum).plot().least_ is None


def test_curves_share_axes_and_their_legend_names_each_thing_once():
    X, y = wide_data()
    _, ax = plt.subplots()
    for solver in ("gd", "cg"):
        display = fg.LossCurveDisplay.from_result(fg.fit(X, y, solver=solver), ax=ax)
        assert display.ax_ is ax
    texts = legend_of(ax)
    assert texts[:2] == ["gd", "cg"]
    assert len(texts) == len(set(texts))


def test_style_names_and_epochs():
    X, y = wide_data()
    r = fg.fit(X, y, solver="sgd", max_iter=4, tol=0)
    display = fg.LossCurveDisplay.from_result(r, name="5 $ and 6 $", c="red", lw=5)
    assert display.line_.get_color() == "red"
    assert display.line_.get_linewidth() == 5
    assert display.ax_.get_xlabel() == "epoch"
    assert legend_of(display.ax_)[0] == r"5 \$ and 6 \$"
    assert display.plot(name="other").line_.get_label() == "other"
    draw(display.figure_)


def test_exact_solvers_have_a_start_and_a_solution():
    X, y = wide_data()
    r = fg.fit(X, y)
    assert r.solver == "moments"
    display = r.plot().loss_curve
    np.testing.assert_array_equal(display.line_.get_ydata(), r.history["loss"])
    assert f"optimum: {r.loss:,.5g}" in legend_of(display.ax_)
    draw(display.figure_)


def test_several_targets_have_the_curve_of_their_sum():
    X, y = wide_data()
    r = fg.fit(X, np.column_stack([y, 2 * y, y**2]), solver="gd")
    display = r.plot(y_unit="min").loss_curve
    np.testing.assert_array_equal(display.line_.get_ydata(), r.history["loss"])
    assert display.ax_.get_ylabel() == "loss, sum over 3 targets [min²]"


def test_moments_alone_have_a_curve():
    X, y = wide_data()
    r = fg.Moments(6).update(X, y).fit()
    np.testing.assert_array_equal(r.plot().loss_curve.line_.get_ydata(), r.history["loss"])


def test_a_minimum_has_a_curve():
    r = fg.minimize(lambda v: (v[0] - 1) ** 2 + 10 * (v[1] + 2) ** 2, [3.0, 4.0])
    display = fg.LossCurveDisplay.from_result(r)
    np.testing.assert_array_equal(display.line_.get_ydata(), r.history["loss"])
    assert display.ax_.get_ylabel() == "loss"
    assert legend_of(display.ax_)[2].startswith("end: the gradient's largest entry")    # "optimum" it cannot say


def test_a_single_loss_is_at_a_whole_iteration_within_the_marker_of_the_start():
    display = fg.LossCurveDisplay([5.0]).plot()
    draw(display.figure_)
    ticks = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert ticks == ["-1", "0", "1"]
    assert display.start_.get_markersize() > display.end_.get_markersize()


def test_a_million_iterations_have_numbers_that_do_not_touch():
    display = fg.LossCurveDisplay(1 + 1 / np.arange(1, 1_000_002)).plot()
    draw(display.figure_)
    boxes = [text.get_window_extent() for text in display.ax_.get_xticklabels()]
    assert len(boxes) > 3
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


def test_colours_tell_curves_apart_and_a_style_has_its_own():
    losses = fg.LossCurveDisplay([3.0, 2.0, 1.0], val_loss=[3.0, 2.5, 2.6], step="epoch").plot()
    other = fg.LossCurveDisplay([4.0, 1.0], name="other").plot(losses.ax_)
    assert (losses.line_.get_color(), other.line_.get_color()) == ("#0072B2", "#E69F00")
    assert losses.val_line_.get_color() == losses.line_.get_color()
    assert other.ax_.get_xlabel() == "iteration or epoch"
    with plt.style.context("dark_background"):
        display = fg.LossCurveDisplay([3.0, 2.0]).plot()
        assert display.line_.get_color() == plt.rcParams["axes.prop_cycle"].by_key()["color"][0]
        assert display.start_.get_markerfacecolor() == display.ax_.get_facecolor()


def test_the_legend_of_many_curves_stands_beside_them():
    ax = None
    for place in range(8):
        ax = fg.LossCurveDisplay([2.0, 1.0], name=f"curve {place}").plot(ax).ax_
    draw(ax.figure)
    assert ax.get_legend().get_window_extent().x0 > ax.get_window_extent().x1
    assert inside(ax)
    assert len({line.get_color() for line in ax.lines}) == 6


@pytest.mark.parametrize(
    ("unit", "shown"),
    [("min", "min²"), ("€", "€²"), ("$", r"\$²"), ("km/h", "(km/h)²"), ("kg m", "(kg m)²"), ("m²", "(m²)²")],
)
def test_units_are_squared(unit, shown):
    X, y = wide_data()
    model = fg.SGDRegressor().fit(X, y)
    assert fg.LossCurveDisplay.from_estimator(model, y_unit=unit).ax_.get_ylabel() == f"objective [{shown}]"
    model = fg.SGDRegressor(loss="epsilon_insensitive").fit(X, y)
    label = fg.LossCurveDisplay.from_estimator(model, y_unit=unit).ax_.get_ylabel()
    assert label == "objective [" + unit.replace("$", r"\$") + "]"


def test_estimators_have_curves():
    X, y = wide_data()
    for model, step, first in ((fg.GDRegressor(solver="gd"), "iteration", 0), (fg.SGDRegressor(), "epoch", 1)):
        display = fg.LossCurveDisplay.from_estimator(make_pipeline(StandardScaler(), model).fit(X, y))
        np.testing.assert_array_equal(display.line_.get_ydata(), model.loss_curve_)
        assert display.line_.get_xdata().tolist() == list(range(first, model.n_iter_ + 1))
        assert display.ax_.get_xlabel() == step
        assert display.ax_.get_ylabel() == "objective [units of y²]"
        texts = legend_of(display.ax_)
        assert texts[:2] == [type(model).__name__, "start" if first == 0 else "after 1 epoch"]
        assert texts[2].startswith("end: ")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: fg.LossCurveDisplay.from_result(LinearRegression()), ValueError, "this LinearRegression has not"),
        (lambda r: fg.LossCurveDisplay.from_result(fg.FitResult(**vars(r) | {"history": {}})), ValueError,
         "needs result.history['loss'], which this FitResult has not"),
        (lambda r: fg.LossCurveDisplay.from_estimator(LinearRegression()), ValueError, "LinearRegression has no loss_"),
        (lambda r: fg.LossCurveDisplay.from_result(r, x="time"), ValueError, "x must be one of 'iteration', 'seconds'"),
        (lambda r: fg.LossCurveDisplay.from_result(r, scale="logit"), ValueError, "scale must be one of 'auto', 'log'"),
        (lambda r: fg.LossCurveDisplay.from_result(r, y_unit=3), TypeError, "y_unit must be a string or None, got 3"),
        (lambda r: fg.LossCurveDisplay.from_result(r, ax=3), TypeError, "ax must be matplotlib Axes or None, got int"),
        (lambda r: fg.LossCurveDisplay.from_result(r, optimum="0"), TypeError, "optimum must be a"),
        (lambda r: fg.LossCurveDisplay([1.0, 2.0]).plot(x="seconds"), ValueError, "needs the seconds of each loss"),
        (lambda r: fg.LossCurveDisplay([]), ValueError, "loss must have shape (n,) with n above 0, got (0,)"),
        (lambda r: fg.LossCurveDisplay([1.0], seconds=[1, 2]), ValueError, "seconds must have the shape of loss, (1,)"),
        (lambda r: fg.LossCurveDisplay([np.nan, np.inf]), ValueError, "loss must have finite entries, got none"),
        (lambda r: fg.LossCurveDisplay(["a"]), TypeError, "loss must hold real numbers, got dtype <U1"),
        (lambda r: fg.LossCurveDisplay(None), TypeError, "loss must be an array, got None"),
        (lambda r: fg.LossCurveDisplay([1.0], least="0"), TypeError, "least must be a finite number, got '0'"),
        (lambda r: fg.LossCurveDisplay([0.0, -1.0]).plot(scale="log"), ValueError,
         "scale='log' needs a loss above 0, and the largest is 0"),
        (lambda r: fg.LossCurveDisplay([3.0], optimum=3.0).plot(scale="log"), ValueError,
         "scale='log' needs a loss above 3, and the largest is 3"),
    ],
)  # fmt: skip
def test_curves_refuse_by_name(call, error, message):
    r = fg.fit(*line_data(), solver="gd")
    with pytest.raises(error, match=re.escape(message)) as caught:
        call(r)
    assert "\n" not in str(caught.value)


# ---- keep_path -------------------------------------------------------------------------------------------------------


SOLVERS = {
    "moments": {}, "cg": {}, "gd": {}, "fista": {"l1": 0.1}, "sgd": {"max_iter": 5, "tol": 0}, "saga": {"l1": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_path_is_what_a_callback_sees_and_changes_nothing(solver, fit_intercept):
    X, y = wide_data()
    options = SOLVERS[solver] | {"solver": solver, "fit_intercept": fit_intercept, "l2": 0.05}
    seen = []
    r = fg.fit(X, y, keep_path=True, callback=seen.append, **options)
    plain = fg.fit(X, y, callback=lambda iterate: None, **options)
    np.testing.assert_array_equal(r.coef, plain.coef)
    assert r.n_passes == plain.n_passes + 1
    assert plain.path is None
    expected = [np.append(i.coef, [i.intercept] * fit_intercept) for i in seen]
    np.testing.assert_array_equal(r.path.parameters, expected)
    np.testing.assert_allclose(r.path.loss_at(r.path.parameters), r.history["loss"], rtol=1e-10)
    assert fg.FitResult(**vars(r)) == r
    assert r != plain


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64, sparse.csr_matrix])
def test_the_loss_about_a_path_is_that_of_the_data(kind, weighted):
    X, y = wide_data()
    X = kind(X) if kind is sparse.csr_matrix else X.astype(kind)
    y = y.astype(X.dtype)
    s = np.random.default_rng(3).uniform(0, 2, len(y)) if weighted else None
    r = fg.fit(X, y, solver="gd", l2=0.3, sample_weight=s, max_iter=3, tol=0, keep_path=True)
    objective = fg.MSE(X, y, s, fit_intercept=True, l2=0.3)
    points = np.random.default_rng(4).standard_normal((5, 7))
    np.testing.assert_allclose(r.path.loss_at(points), [objective.value(w) for w in points], rtol=1e-6)
    optimum = fg.fit(X, y, l2=0.3, sample_weight=s)
    np.testing.assert_allclose(r.path.optimum(), np.append(optimum.coef, optimum.intercept), rtol=1e-5, atol=1e-6)


def test_the_optimum_of_columns_of_very_different_units():
    X, y = wide_data()
    X = X * np.geomspace(1e-9, 1e9, 6)
    r = fg.fit(X, y, solver="gd", max_iter=2, tol=0, keep_path=True)
    optimum = fg.fit(X, y)
    np.testing.assert_allclose(r.path.optimum(), np.append(optimum.coef, optimum.intercept), rtol=1e-6)


def test_a_path_is_of_one_target():
    X, y = wide_data()
    with pytest.raises(ValueError, match=r"keep_path=True needs y of shape \(n_samples,\), got 2 columns of targets"):
        fg.fit(X, np.column_stack([y, y]), keep_path=True)
    with pytest.raises(TypeError, match="keep_path must be True or False, got 1"):
        fg.fit(X, y, keep_path=1)


# ---- the path --------------------------------------------------------------------------------------------------------


def test_the_path_of_two_parameters():
    x, y = line_data()
    r = fg.fit(x, y, solver="gd", lr=0.35, keep_path=True)
    display = fg.DescentPathDisplay.from_result(r, y_unit="min")
    np.testing.assert_array_equal(display.line_.get_xydata(), r.path.parameters)
    assert display.start_.get_xydata().tolist() == [[0.0, 0.0]]
    np.testing.assert_allclose(display.optimum_.get_xydata(), [[*fg.fit(x, y).coef, fg.fit(x, y).intercept]], rtol=1e-9)
    assert legend_of(display.ax_) == [f"path of {r.n_iter} iterations", "start", "optimum"]
    assert not display.end_.get_visible()
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("coef[0]", "intercept")
    assert [axes.get_ylabel() for axes in display.ax_.child_axes] == ["loss [min²]"]
    assert display.ax_.get_aspect() == 1.0
    objective = fg.MSE(x, y, fit_intercept=True)
    for row, column in ((0, 0), (7, 100), (60, 60)):
        w = np.array([display.xx0[column], display.xx1[row]])
        assert display.response[row, column] == pytest.approx(objective.value(w), rel=1e-9)
    (left, right), (low, high) = display.ax_.get_xlim(), display.ax_.get_ylim()
    inside = (r.path.parameters > [left, low]) & (r.path.parameters < [right, high])
    assert inside.all()
    draw(display.figure_)


def test_two_of_many_parameters_over_the_plane_through_the_optimum():
    X, y = wide_data()
    r = fg.fit(X, y, solver="gd", lr=0.02, max_iter=10, tol=0, keep_path=True)
    names = list("abcdef")
    display = fg.DescentPathDisplay.from_result(r, parameters=("intercept", "c"), feature_names=names)
    np.testing.assert_array_equal(display.line_.get_xydata(), r.path.parameters[:, [6, 2]])
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("intercept", "c")
    assert display.ax_.get_title() == "where the other 5 parameters are optimal"
    assert legend_of(display.ax_) == ["path of 10 iterations", "start", "end", "optimum"]
    best = fg.fit(X, y)
    w = np.append(best.coef, best.intercept)
    assert display.response.min() == pytest.approx(best.loss, rel=1e-3)
    w[[6, 2]] = display.xx0[3], display.xx1[90]
    assert display.response[90, 3] == pytest.approx(fg.MSE(X, y, fit_intercept=True).value(w), rel=1e-9)
    draw(display.figure_)


def test_with_an_l1_the_loss_has_its_kinks_and_the_optimum_is_known_if_the_fit_converged():
    X, y = wide_data()
    r = fg.fit(X, y, l1=0.5, keep_path=True)
    display = fg.DescentPathDisplay.from_result(r, parameters=(0, 1))
    w = np.append(r.coef, r.intercept)
    w[:2] = display.xx0[5], display.xx1[9]
    expected = fg.MSE(X, y, fit_intercept=True).value(w) + 0.5 * np.abs(w[:6]).sum()
    assert display.response[9, 5] == pytest.approx(expected, rel=1e-9)
    np.testing.assert_array_equal(display.optimum, r.coef[:2])
    ended = fg.fit(X, y, solver="fista", l1=0.5, keep_path=True, callback=lambda iterate: iterate.iteration == 1)
    assert not ended.converged
    display = fg.DescentPathDisplay.from_result(ended, parameters=(0, 1))
    assert display.optimum_ is None
    assert display.ax_.get_title() == "where the other 5 parameters are as in the end"
    assert legend_of(display.ax_) == ["path of 1 iteration", "start", "end"]


def test_a_path_that_does_not_move_can_be_seen():
    x, y = line_data()
    best = fg.fit(x, y)
    r = fg.fit(x, y, solver="gd", w0=np.append(best.coef, best.intercept), keep_path=True)
    display = fg.DescentPathDisplay.from_result(r)
    draw(display.figure_)
    assert display.optimum == pytest.approx([best.coef[0], best.intercept], rel=1e-9)
    assert np.ptp(display.ax_.get_xlim()) > 0.1
    assert legend_of(display.ax_) == ["path of 0 iterations", "start", "optimum"]
    r = fg.fit(np.zeros((5, 2)), np.zeros(5), fit_intercept=False, keep_path=True)   # a loss that is flat
    display = fg.DescentPathDisplay.from_result(r)
    draw(display.figure_)


def test_along_a_parameter_that_hardly_changes_as_much_of_the_loss_is_seen():
    (a, b), (low, high) = extents(np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([1.0, 100.0]))
    assert (a, b) == pytest.approx((-0.5, 10.5))
    assert (low, high) == pytest.approx((-0.3 * 5.5 / 10, 0.3 * 5.5 / 10))


def test_the_path_of_an_estimator():
    x, y = line_data()
    frame = pd.DataFrame(x, columns=["price in $"])
    model = fg.GDRegressor(solver="gd", lr=0.3, alpha=0.2, l1_ratio=0.0)
    display = fg.DescentPathDisplay.from_estimator(model, frame, y)
    assert not hasattr(model, "coef_")
    model.fit(frame, y)
    np.testing.assert_allclose(display.path[-1], [*model.coef_, model.intercept_], rtol=1e-12)
    assert display.ax_.get_xlabel() == r"price in \$"
    assert len(display.path) == model.n_iter_ + 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "the fit has 7 parameters: name two, such as parameters=(0, 'intercept')"),
        ({"parameters": (0,)}, ValueError, "two columns by number or name, or 'intercept', got (0,)"),
        ({"parameters": "ab"}, ValueError, "two columns by number or name, or 'intercept', got 'ab'"),
        ({"parameters": 3}, ValueError, "parameters must be two columns by number or name, or 'intercept', got 3"),
        ({"parameters": (1, 1)}, ValueError, "parameters must be two different ones, got (1, 1)"),
        ({"parameters": (0, 6)}, ValueError, "parameters has column 6, but there are 6 columns"),
        ({"parameters": (-1, 0)}, ValueError, "parameters has column -1, but there are 6 columns"),
        ({"parameters": (0, 1.0)}, TypeError, "parameters must be columns by number or name, or 'intercept', got 1.0"),
        ({"parameters": (0, "x")}, ValueError, "there is no parameter 'x'; there are coef[0], coef[1]"),
        ({"parameters": (0, 1), "feature_names": ["a"]}, ValueError, "feature_names must be 6 strings, one for each"),
    ],
)
def test_paths_refuse_by_name(options, error, message):
    X, y = wide_data()
    r = fg.fit(X, y, solver="gd", keep_path=True)
    with pytest.raises(error, match=re.escape(message)):
        fg.DescentPathDisplay.from_result(r, **options)


def test_what_has_no_path_says_what_keeps_one():
    X, y = wide_data()
    r = fg.fit(X, y)
    for call in (lambda: fg.DescentPathDisplay.from_result(r), lambda: r.plot(parameters=(0, 1))):
        with pytest.raises(ValueError, match=r"which this result has not kept: fit\(\.\.\., keep_path=True\)"):
            call()
    with pytest.raises(TypeError, match="result must be a FitResult, got LinearRegression"):
        fg.DescentPathDisplay.from_result(LinearRegression())
    with pytest.raises(TypeError, match="estimator must be a GDRegressor, got LinearRegression"):
        fg.DescentPathDisplay.from_estimator(LinearRegression(), X, y)
    with pytest.raises(ValueError, match=r"path must have shape \(n, 2\)"):
        fg.DescentPathDisplay([[1.0]], xx0=[0, 1], xx1=[0, 1], response=np.ones((2, 2)), names=("a", "b"))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"path": [[1.0, np.nan]]}, ValueError, "path holds nan at index (0, 1)"),
        ({"path": "ab"}, TypeError, "path must hold real numbers"),
        ({"xx0": [0]}, ValueError, "xx0 must be two finite numbers or more that grow, got [0.]"),
        ({"xx0": [0, 0]}, ValueError, "xx0 must be two finite numbers or more that grow, got [0. 0.]"),
        ({"xx1": np.arange(9.0)[::-1]}, ValueError, "xx1 must be two finite numbers or more that grow, got [8. 7. 6."),
        ({"response": np.ones((2, 3))}, ValueError, "a column for each of xx0, got (2, 3) for 2 of xx0 and 3 of xx1"),
        ({"response": np.full((3, 2), np.inf)}, ValueError, "response must have finite entries, got none"),
        ({"names": "ab"}, ValueError, "names must be two strings, got 'ab'"),
        ({"names": ("a", 1)}, ValueError, "names must be two strings, got ('a', 1)"),
        ({"optimum": [1.0]}, ValueError, "optimum must have shape (2,), got (1,)"),
        ({"optimum": [1.0, np.inf]}, ValueError, "optimum holds inf at index 1"),
    ],
)
def test_parts_of_a_path_are_refused_by_name(given, error, message):
    parts = {"path": [[0.5, 0.5]], "xx0": [0, 1], "xx1": [0, 1, 2], "response": np.ones((3, 2)), "names": ("a", "b")}
    draw(fg.DescentPathDisplay(**parts).plot().figure_)
    with pytest.raises(error, match=re.escape(message)) as caught:
        fg.DescentPathDisplay(**parts | given)
    assert "\n" not in str(caught.value)


def test_a_plot_of_a_path_refuses_by_name():
    display = fg.DescentPathDisplay.from_function(lambda x: x @ x, [[1.0, 1.0]])
    with pytest.raises(TypeError, match="colorbar must be True or False, got 1"):
        display.plot(colorbar=1)
    with pytest.raises(TypeError, match="ax must be matplotlib Axes or None, got str"):
        display.plot("ax")
    with pytest.raises(TypeError, match="f must be a function of two numbers in an array, got 3"):
        fg.DescentPathDisplay.from_function(3, [[1.0, 1.0]])


def test_the_path_over_a_function():
    path = [[-1.0, 2.0], [0.5, 0.5], [1.0, 0.0]]
    display = fg.DescentPathDisplay.from_function(lambda x: np.log(x[0] + 0.8) ** 2 + x[1] ** 2, path, names=("u", "v"))
    np.testing.assert_array_equal(display.line_.get_xydata(), path)
    assert display.optimum_ is None
    assert display.response[3, 90] == np.log(display.xx0[90] + 0.8) ** 2 + display.xx1[3] ** 2
    assert np.isnan(display.response[:, 0]).all()       # where it is not defined, nothing is drawn
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("u", "v")
    assert [axes.get_ylabel() for axes in display.ax_.child_axes] == ["value of the function"]
    draw(display.figure_)
    with pytest.raises(ValueError, match="response must have finite entries, got none"):
        fg.DescentPathDisplay.from_function(lambda x: np.inf, path)
    with pytest.raises(ValueError, match=r"path must have shape \(n, 2\) with n above 0, got \(2,\)"):
        fg.DescentPathDisplay.from_function(lambda x: 1.0, path[0])
    with pytest.raises(ValueError, match="path"):
        fg.DescentPathDisplay.from_function(lambda x: 1.0, [[np.nan, 1.0]])


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_legend_keeps_off_the_path(corner):
    start = np.array(corner) * 2.0 - 1.0
    display = fg.DescentPathDisplay.from_function(lambda x: x @ x, [start, start / 2, start / 4], optimum=[0.0, 0.0])
    draw(display.figure_)
    box = display.ax_.get_legend().get_window_extent()
    points = display.ax_.transData.transform(np.vstack([np.linspace(start, start / 4, 50), [[0.0, 0.0]]]))
    assert not any(box.contains(*point) for point in points)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.0, 0.163, 24.63], ["0", "0.163", "24.6"]),
        ([15.10408, 15.10419, 15.10925], ["15.1041", "15.1042", "15.1092"]),
        ([1000.0, 51000.0], ["1,000", "51,000"]),
        ([1e-9, 3e-9], ["1.00×10⁻⁹", "3.00×10⁻⁹"]),
        ([1e9, 3e9], ["1.00×10⁹", "3.00×10⁹"]),
        ([1e-7, 1e3], ["1.00×10⁻⁷", "1,000"]),
        ([1.0, 1.0 + 1e-15], ["1.000000000000000", "1.000000000000001"]),
    ],
)
def test_losses_beside_a_bar_can_be_told_apart(values, texts):
    assert told_apart(np.array(values)) == texts


def test_names_of_a_frame_are_known():
    """A fit keeps the names of a frame's columns, and the picture has them without being told."""
    frame = pd.DataFrame({"km": np.arange(20.0), "stops": np.arange(20) % 3})
    r = fg.fit(frame, frame["km"] * 2 + frame["stops"], solver="gd", keep_path=True)
    assert fg.DescentPathDisplay.from_result(r, parameters=("km", "stops")).ax_.get_xlabel().startswith("km")


@pytest.mark.parametrize("given", ["new", "of a figure without a layout", "of a small figure"])
@pytest.mark.parametrize("slope", [0.5, 3.0])
def test_nothing_is_cut_off(given, slope):
    """Neither the bar's label, which stands outside the axes, nor a long name."""
    x, y = line_data()
    r = fg.fit(x, slope * y, solver="gd", lr=0.35, keep_path=True)
    small = {"figsize": (5, 3), "layout": "constrained"}
    figures = {"new": None, "of a figure without a layout": {}, "of a small figure": small}
    ax = None if figures[given] is None else plt.subplots(**figures[given])[1]
    display = fg.DescentPathDisplay.from_result(r, feature_names=["Größe der Wohnung " * 9], ax=ax)
    assert len(display.ax_.get_xlabel().splitlines()) == 2
    draw(display.figure_)
    assert inside(display.ax_)
    for bar in set(display.figure_.axes) - {display.ax_}:
        assert inside(bar)
        assert bar.get_window_extent().height == pytest.approx(display.ax_.get_window_extent().height, rel=0.01)


@pytest.mark.parametrize("l1", [0.0, 0.5])
def test_the_loss_over_a_plane_is_that_at_its_points(l1):
    X, y = wide_data()
    path = fg.fit(X, y, solver="fista", l1=l1, l2=0.1, max_iter=3, tol=0, keep_path=True).path
    centre = np.arange(7.0)
    first, second = np.linspace(-2, 2, 5), np.linspace(3, 9, 4)
    for pair in ([0, 4], [5, 1], [6, 2], [3, 6]):
        points = np.tile(centre, (4, 5, 1))
        points[..., pair[0]], points[..., pair[1]] = np.meshgrid(first, second)
        np.testing.assert_allclose(path.loss_over(pair, centre, first, second), path.loss_at(points), rtol=1e-12)


# ---- r.plot() --------------------------------------------------------------------------------------------------------


def test_a_fit_of_two_parameters_that_has_kept_its_path_draws_both():
    x, y = line_data()
    r = fg.fit(x, y, solver="gd", keep_path=True)
    display = r.plot(feature_names=["hours"], y_unit="€")
    assert isinstance(display, FitDisplay)
    assert [axes.get_ylabel() for axes in display.axes_] == ["loss [€²]", "intercept"]
    assert display.path.ax_.get_xlabel() == "hours"
    assert len(fg.fit(x, y, solver="gd").plot().axes_) == 1
    figure, axes = plt.subplots(1, 2)
    assert r.plot(axes).figure_ is figure
    with pytest.raises(ValueError, match="ax must be Axes for 2 pictures, got 1"):
        r.plot(axes[0])
    with pytest.raises(TypeError, match="ax must be matplotlib Axes for each picture, got None"):
        r.plot([axes[0], None])
    with pytest.raises(TypeError, match="result must be a FitResult, got LinearRegression"):
        FitDisplay.from_result(LinearRegression())
    assert FitDisplay.from_result(r, ax=axes).axes_[1] is axes[1]
    draw(display.figure_)


def test_a_fit_of_more_parameters_draws_the_path_of_two_that_are_named():
    X, y = wide_data()
    r = fg.fit(X, y, solver="gd", keep_path=True)
    _, ax = plt.subplots()
    assert r.plot(ax).path is None
    assert r.plot(parameters=(1, "intercept")).path.names == ("coef[1]", "intercept")


# ---- without matplotlib; the guide -----------------------------------------------------------------------------------


def test_without_matplotlib_pictures_say_what_to_install_and_the_rest_works():
    code = f"""
import sys
sys.path.insert(0, {str(Path(fg.__file__).parents[1])!r})
import fastgd as fg
from fastgd import *
r = fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.5], solver="gd", keep_path=True)
assert "matplotlib" not in sys.modules
sys.modules["matplotlib"] = None
for call in (r.plot, lambda: LossCurveDisplay.from_result(r), lambda: DescentPathDisplay.from_result(r)):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["plots need matplotlib: pip install 'fastgd[plot]'"] * 3, done.stderr
