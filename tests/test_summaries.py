"""What objects and fits say: summaries in terminals and notebooks, the bar of several targets, the logger."""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from scipy import sparse

import fastgd as fg
from fastgd._progress import PAUSE, Common, bar
from fastgd._summary import as_html, as_text, figures, lines_of


def data(n=50, d=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    return X, X @ np.arange(1.0, d + 1) + rng.standard_normal(n)


# ---- repr ------------------------------------------------------------------------------------------------------------


def rows_of(text):
    """Title, and name -> value; all values begin in one column."""
    title, *lines = text.splitlines()
    width = len(lines[0]) - len(lines[0][2:].split("  ", 1)[1].lstrip())
    assert all(line.startswith("  ") and line == line.rstrip() for line in lines)
    rows = {}
    for line in lines:
        name = line[:width].strip()
        if not name:    # goes on with the value above
            rows[next(reversed(rows))] += "\n" + line[width:]
            continue
        assert line[width - 1] == " "
        assert line[width] != " "
        rows[name] = line[width:]
    return title, rows


def test_a_result_shows_a_small_aligned_summary():
    r = fg.fit(*data())
    title, rows = rows_of(repr(r))
    assert title == "FitResult: moments, converged"
    assert list(rows) == ["coef", "intercept", "loss", "optimality", "iterations", "passes over X", "ended"]
    assert rows["coef"] == "[" + ", ".join(f"{value:.6g}" for value in r.coef) + "]"
    assert rows["intercept"] == f"{r.intercept:.6g}"
    assert rows["loss"] == f"{r.loss:.6g}, at most {r.gap_bound:.2g} above the optimum"
    assert rows["ended"] == r.stop_reason
    assert str(r) == repr(r)


def test_a_result_says_that_it_has_not_converged_and_its_step():
    with pytest.warns(fg.ConvergenceWarning):
        r = fg.fit(*data(), solver="gd", lr=0.01, max_iter=3)
    title, rows = rows_of(repr(r))
    assert title == "FitResult: gd, not converged"
    assert rows["iterations"] == "3 of lr=0.01"
    assert rows["loss"] == f"{r.loss:.6g}"     # no bound on the gap is known


@pytest.mark.parametrize(("d", "targets"), [(3, 2), (1000, 1), (1000, 40)])
def test_the_summary_of_many_coefficients_is_small(d, targets):
    coef = np.random.default_rng(0).standard_normal((d, targets)).squeeze()
    fields = vars(fg.fit(*data())) | {"coef": coef, "intercept": np.zeros(targets)}
    text = repr(fg.FitResult(**fields))
    assert len(text.splitlines()) < 20
    assert all(len(line) <= 120 for line in text.splitlines())
    assert " × ".join(map(str, coef.shape)) in rows_of(text)[1]["coef"]


def named(names, targets=1):
    """The row of coefficients of a fit that knows the names of its columns."""
    coef = np.arange(1.0, len(names) * targets + 1).reshape(len(names), targets) / 4
    fields = vars(fg.fit(*data())) | {"coef": coef[:, 0] if targets == 1 else coef, "feature_names": tuple(names)}
    text = repr(fg.FitResult(**fields))
    assert all(len(line) <= 120 for line in text.splitlines())
    return rows_of(text)[1]["coef"].split("\n")


def test_coefficients_stand_behind_the_names_of_their_columns():
    assert named(["km", "a <b> & c", "x"]) == ["km         0.25", "a <b> & c   0.5", "x          0.75"]
    assert named(["a", "b"], 3) == ["a  0.25   0.5  0.75", "b     1  1.25   1.5"]
    lines = named(["Größe " * 20, "two\nlines", *map(str, range(98))])
    assert lines[0].startswith("Größe Größe")
    assert lines[0].split("  ")[0].endswith("…")
    assert lines[1].startswith("two lines ")
    assert lines[3] == "… of 100"
    assert lines[-1].split() == ["97", "25"]
    assert len({len(line) for line in [*lines[:3], *lines[4:]]}) == 1      # numbers end in one column
    wide = named(["name " * 20] * 9, 40)
    assert wide[0].split()[-7:] == ["0.25", "0.5", "0.75", "…", "9.5", "9.75", "10"]
    assert wide[3] == "… of 9 × 40"


def test_columns_of_several_targets_stand_one_below_the_other():
    assert figures(np.array([[1.0, -20.5], [300.25, 4.0]])) == "[[     1,  -20.5],\n [300.25,      4]]  2 × 2"


def test_long_lines_are_broken_between_words():
    assert lines_of("short\n" + "word " * 30) == ["short", " ".join(["word"] * 22), " ".join(["word"] * 8)]


def test_a_path_shows_its_size_and_ends():
    r = fg.fit(*data(), solver="gd", keep_path=True)
    title, rows = rows_of(repr(r.path))
    assert title == "DescentPath: the parameters of each iterate"
    assert rows["iterates"] == str(r.n_iter + 1)
    assert rows["parameters"] == "4, the last the intercept"
    assert rows["returned"] == figures(np.append(r.coef, r.intercept))


class Table(HTMLParser):
    """The tags of a document and the texts of its cells."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert {name for name, _ in attributes} <= {"style"}

    def handle_data(self, text):
        self.texts.append(text)


@pytest.mark.parametrize("reason", ["as asked", "<script>alert('x')</script> & more"])
def test_a_notebook_shows_the_same_as_a_table_without_scripts(reason):
    r = fg.FitResult(**vars(fg.fit(*data())) | {"stop_reason": reason})
    table = Table()
    table.feed(r._repr_html_())
    assert set(table.tags) == {"table", "caption", "tbody", "tr", "th", "td"}
    title, rows = rows_of(repr(r))
    assert table.texts == [title, *(text for row in rows.items() for text in row)]


def test_results_are_equal_and_pickled_with_their_path():
    X, y = data()
    one, other = (fg.fit(X, y, solver="gd", tol=0, max_iter=n, keep_path=True) for n in (2, 3))
    copy = pickle.loads(pickle.dumps(one))
    for name in ("loss", "seconds"):
        np.testing.assert_array_equal(copy.history[name], one.history[name])
    assert copy == one
    assert fg.FitResult(**vars(one) | {"path": other.path}) != one


def test_objectives_and_moments_show_what_they_hold():
    X, y = data()
    title, rows = rows_of(repr(fg.MSE(X, y, np.full(50, 0.5), fit_intercept=True, l2=0.25, n_threads=1)))
    assert title == "MSE of a linear model"
    assert rows == {
        "X": "50 × 3, dense, float64, weights of sum 25", "intercept": "fitted", "l2": "0.25", "threads": "1",
    }  # fmt: skip
    shown = rows_of(repr(fg.MSE(sparse.csr_matrix(X.astype(np.float32)), y)))[1]
    assert shown["X"] == "50 × 3, sparse, float32"
    assert shown["intercept"] == "none"
    moments = fg.Moments(3)
    assert rows_of(repr(moments)) == ("Moments: second moments of X and y", {"rows": "0", "columns": "3"})
    rows = rows_of(repr(moments.update(X, y)))[1]
    assert rows["rows"] == "50"
    assert rows["means of X"] == figures(X.mean(axis=0))
    assert rows["mean of y"] == f"{y.mean():.6g}"
    assert "<table " in moments._repr_html_()


def test_values_of_several_lines_stay_in_their_column():
    assert as_text("title", [("a", "1\n2"), ("long", "3")]) == "title\n  a     1\n        2\n  long  3"
    assert "<td" in as_html("t", [("a", "<")])
    assert "&lt;" in as_html("t", [("a", "<")])


# ---- the bar ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def screen(monkeypatch):
    """What bars write, on a terminal of 80 columns."""
    return terminal(monkeypatch, 80)


def terminal(monkeypatch, width):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, legacy_windows=False)
    monkeypatch.setattr("fastgd._bar.Console", lambda **given: console)
    return stream


def plain(stream):
    """What was written, without colours and the like: what stood on a line after each other, as lines."""
    return re.sub(r"\x1b\[[\d;?]*\w", "", stream.getvalue()).replace("\r", "\n")


def test_a_bar_tells_iteration_loss_optimality_and_the_time_left(screen, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fastgd._progress.time.monotonic", lambda: now[0])
    with bar(True, 1000) as show:
        for number, loss in enumerate([5.0, 4.0, 3.0]):
            now[0] += PAUSE
            show(number, loss, loss / 10)
        Common.lines.refresh()
    assert re.search(r"iteration 2 / 1,000 ─+ loss 3, optimality 3\.0e-01, ≤ \d+:\d\d left", plain(screen))


@pytest.mark.parametrize("total", [100, 1_000_000])
@pytest.mark.parametrize("width", [200, 80, 60, 40, 20])
def test_a_bar_fits_into_terminals_of_any_width(total, width, monkeypatch):
    """With columns to spare for the ^C of an interrupt, and the time left as long as there is room."""
    stream = terminal(monkeypatch, width)
    with bar(True, total) as show:
        show(0, 41.571, 0.15)
        Common.lines.refresh()
    lines = [line.rstrip() for line in plain(stream).splitlines()]
    assert max(map(len, lines)) <= width - 4
    words = {20: ["0 %", "41.571"], 40: ["41.571", "≤ -:--"], 60: ["─", "loss 41.571", "1.5e-01", "≤ -:--"]}
    known = words[max(narrower for narrower in words if narrower <= width)]
    assert any(all(word in line for word in known) for line in lines)


def test_a_bar_begins_anew_with_each_target(screen):
    with bar(True, 10) as show:
        for _ in range(3):
            for number in range(4):
                show(number, 1.0, 0.1)
        Common.lines.refresh()
    assert "target 3: iteration 0 / 10" in plain(screen)


@pytest.mark.parametrize("end", [None, KeyError, KeyboardInterrupt])
def test_a_bar_leaves_nothing_behind(end, screen):
    """The last that is written shows the cursor, goes up to the line and wipes it."""
    with contextlib.suppress(KeyError, KeyboardInterrupt), bar(True, 10) as show:
        show(0, 1.0, 0.1)
        if end is not None:
            raise end
    assert screen.getvalue().endswith("\n\x1b[?25h\r\x1b[1A\x1b[2K")
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == 1
    assert Common.lines is None
    assert Common.fits == 0


@pytest.mark.usefixtures("screen")
def test_fits_at_the_same_time_have_a_line_each():
    """In threads, and within the callback of another fit."""
    with ThreadPoolExecutor(3) as pool:
        losses = list(pool.map(lambda seed: fg.fit(*data(), solver="gd", progress=True).loss, range(9)))
    assert len(set(losses)) == 1
    seen = []

    def within(_):
        fg.fit(*data(), solver="gd", progress=True, callback=lambda inner: seen.append(len(Common.lines.tasks)))

    fg.fit(*data(), solver="gd", max_iter=2, tol=0, progress=True, callback=within)
    assert set(seen) == {2}
    assert Common.lines is None


@pytest.mark.filterwarnings("ignore::fastgd.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["moments", "cg", "gd", "fista", "sgd", "saga"])
def test_a_bar_changes_nothing_of_a_fit(solver, screen):
    """Iterates that are found at once, as nobody needs to see each, still are."""
    X, y = data(400)
    given = {"solver": solver, "max_iter": 3000} | ({"l1": 0.1} if solver in ("fista", "saga") else {})
    one, other = fg.fit(X, y, **given), fg.fit(X, y, progress=True, **given)
    np.testing.assert_array_equal(one.coef, other.coef)
    np.testing.assert_array_equal(one.history["loss"], other.history["loss"])
    assert (one.n_passes, one.stop_reason) == (other.n_passes, other.stop_reason)
    assert screen.getvalue()


def test_a_bar_of_a_notebook_needs_no_widgets_and_leaves_nothing(monkeypatch):
    """What IPython is given: text in one place of the output, which is empty in the end."""
    texts = []

    def update(bundle, raw):
        assert raw
        texts.append(bundle["text/plain"])

    def display(bundle, raw, display_id):
        assert display_id
        update(bundle, raw)
        return SimpleNamespace(update=update)

    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr("rich.console.get_ipython", lambda: shell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    with bar(True, 1000) as show:
        show(0, 5.0, 0.1)
    assert texts[0] == texts[-1] == ""
    assert re.fullmatch(r"iteration 0 / 1,000 ─+ loss 5, optimality 1\.0e-01, ≤ -:-- left", texts[1])


def test_nothing_is_printed_by_default(capfd):
    fg.fit(*data(), solver="gd")
    X, y = data()
    fg.fit(X, np.column_stack([y, y]))
    assert capfd.readouterr() == ("", "")


# ---- the logger ------------------------------------------------------------------------------------------------------


def test_the_logger_tells_the_choice_and_the_end(caplog):
    X, y = data()
    with caplog.at_level(logging.DEBUG, "fastgd"):
        r = fg.fit(X, y)
        fg.fit(X, np.column_stack([y, y]), solver="gd")
    choice, end, *others = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert choice == ("DEBUG", f"solver moments: {r.choice}")
    assert end[0] == "INFO"
    assert end[1].startswith(f"moments: {r.stop_reason}; 1 iteration, {r.n_passes} passes over X, loss ")
    assert [level for level, _ in others] == ["DEBUG", "INFO"] * 2      # of each target
    assert others[0][1] == "solver gd: asked for"


def test_the_logger_tells_how_a_fit_of_moments_ended(caplog):
    with caplog.at_level(logging.INFO, "fastgd"):
        fg.Moments(3).update(*data()).fit()
    (record,) = caplog.records
    assert record.getMessage().startswith("moments: solved exactly from the second moments; 1 iteration, 0 passes over")


def test_the_logger_tells_how_a_descent_of_any_function_ended(caplog):
    with caplog.at_level(logging.INFO, "fastgd"):
        r = fg.minimize(lambda x: (x[0] - 1) ** 2, [3.0])
    (record,) = caplog.records
    assert record.getMessage() == (
        f"minimize by lbfgs: {r.message}; {r.nit} iterations, {r.nfev} values, {r.njev} gradients, loss {r.fun:.6g}"
    )


def test_the_logger_is_silent_where_no_logging_is_set_up():
    code = f"""
import sys
sys.path.insert(0, {str(Path(fg.__file__).parents[1])!r})
import logging
import fastgd as fg
logging.getLogger("fastgd").setLevel(logging.DEBUG)
logging.getLogger("fastgd").error("a handler of last resort would print this")
fg.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.5])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
