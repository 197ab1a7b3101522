"""The chain rule as a table: its figures against derivatives by other ways, and how it reads."""

from __future__ import annotations

import html
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgd as fg
from fastgd import reference
from fastgd._supported import supported


def textbook(x):
    return (3 * x**2 + 2 * x + 1) ** 2


TEXTBOOK = """\
textbook = (3*x**2 + 2*x + 1)**2 at x = 2

step               value   local derivatives           d·/dx ↓
x                      2                                     1
u1 = x**2              4   ∂u1/∂x = 2*x = 4                  4
u2 = 3*u1             12   ∂u2/∂u1 = 3                      12
u3 = 2*x               4   ∂u3/∂x = 2                        2
u4 = u2 + u3          16   ∂u4/∂u2 = 1, ∂u4/∂u3 = 1         14
u5 = u4 + 1           17   ∂u5/∂u4 = 1                      14
textbook = u5**2     289   ∂textbook/∂u5 = 2*u5 = 34       476

dtextbook/dx = 476.0
             = (12*x + 4)*(3*x**2 + 2*x + 1)"""


def test_the_textbook_example():
    table = fg.explain(textbook, 2.0)
    assert str(table) == repr(table) == TEXTBOOK
    assert table.derivatives == {"x": 476.0}
    assert [step.product for step in table.steps] == [1, 4, 12, 2, 14, 14, 476]
    assert table.steps[1].partials == (("x", "2*x", 4.0),)
    x = sp.Symbol("x", real=True)
    assert sp.simplify(table.symbolic["x"] - 2 * (3 * x**2 + 2 * x + 1) * (6 * x + 2)) == 0


def test_several_numbers_are_explained_in_reverse():
    table = fg.explain(lambda a, b: np.sin(a) * b + np.exp(-a / b), 0.5, 2.0)
    assert table.mode == "reverse"
    assert [step.expression for step in table.steps] == ["", "", "sin(a)", "u1*b", "-a", "u3/b", "exp(u4)", "u2 + u5"]
    assert [step.name for step in table.steps] == ["a", "b", "u1", "u2", "u3", "u4", "u5", "z"]
    by_hand = {"a": 2 * math.cos(0.5) - 0.5 * math.exp(-0.25), "b": math.sin(0.5) + 0.125 * math.exp(-0.25)}
    assert table.derivatives == pytest.approx(by_hand, rel=1e-15)
    a, b = sp.symbols("a b", real=True)
    assert table.symbolic == {"a": b * sp.cos(a) - sp.exp(-a / b) / b, "b": sp.sin(a) + a * sp.exp(-a / b) / b**2}
    text = str(table)
    assert "∂z/∂· ↑" in text
    assert "∂u2/∂u1 = b = 2, ∂u2/∂b = u1 = 0.479426" in text
    assert "∂z/∂a = 1.365764732245043" in text


# ---- figures ---------------------------------------------------------------------------------------------------------

UNARY = [
    "np.sin({})", "np.tanh({})", "np.exp(-{}**2)", "np.log(1 + {}**2)", "np.sqrt(2 + {})", "-{}", "{}**2",
    "1 / (3 + {})",
]
BINARY = ["({} + {})", "({} - {})", "{} * {}", "{} / (3 + {})", "np.maximum({}, {})", "np.arctan2({}, 2 + {})"]
EXPRESSIONS = st.recursive(
    st.sampled_from(["x", "y", "0.5"]),
    lambda part: st.one_of(
        st.builds(lambda form, a: f"({form})".format(a), st.sampled_from(UNARY), part),
        st.builds(lambda form, a, b: f"({form})".format(a, b), st.sampled_from(BINARY), part, part),
    ),
    max_leaves=8,
)
POINTS = st.floats(-0.9, 0.9)


def products_by_hand(table):
    """dz/du of each step from the local derivatives alone, added up over all ways to the result."""
    total = dict.fromkeys((step.name for step in table.steps), 0.0) | {table.output: 1.0}
    for step in reversed(table.steps):
        for partial in step.partials:
            total[partial.of] += total[step.name] * (1.0 if partial.value is None else partial.value)
    return total


@settings(max_examples=50)
@given(EXPRESSIONS, POINTS, POINTS)
def test_products_are_those_of_the_local_derivatives(expression, x, y):
    f = eval(f"lambda x, y: {expression} + 0 * (x + y)", {"np": np})
    table = fg.explain(f, x, y)
    by_hand = products_by_hand(table)
    for step in table.steps:
        assert step.product == pytest.approx(by_hand[step.name], rel=1e-12, abs=1e-12)
    gradient = fg.grad(f, argnums=(0, 1))(x, y)
    assert list(table.derivatives.values()) == pytest.approx(gradient, rel=1e-12, abs=1e-12)
    assert table.steps[-1].value == pytest.approx(f(x, y), rel=1e-14)
    forward = fg.explain(f, x, y, argnums=0)
    assert forward.mode == "forward"
    assert forward.derivatives["x"] == pytest.approx(gradient[0], rel=1e-12, abs=1e-12)


def test_the_reference_has_the_same_products():
    def f(a, b, sin, tanh):
        return tanh(a * b) * sin(b) / a + b**3

    table = fg.explain(lambda a, b: f(a, b, np.sin, np.tanh), 0.7, 1.3)
    values = reference.Value(0.7), reference.Value(1.3)
    back = reference.adjoints(f(*values, reference.sin, reference.tanh))
    assert [step.product for step in table.steps[:2]] == pytest.approx([back[v.number] for v in values], rel=1e-14)
    steps = sorted(step.product for step in table.steps)
    assert steps == pytest.approx(sorted(back.values()), rel=1e-14)


def test_arrays_have_their_shapes_and_first_entries():
    rng = np.random.default_rng(0)
    X, y, w = rng.standard_normal((5, 3)), rng.standard_normal(5), np.array([1.0, 2.0, 3.0])

    def loss(w):
        return np.mean((X @ w - y) ** 2)

    table = fg.explain(loss, w)
    steps = {step.name: step for step in table.steps}
    assert list(steps) == ["w", "X", "y", "u1", "u2", "u3", "u4", "loss"]
    assert steps["u1"].expression == "X @ w"
    assert steps["u1"].partials == (("w", "X @ dw", None),)
    np.testing.assert_allclose(steps["u1"].value, X @ w, rtol=1e-15)
    np.testing.assert_allclose(steps["u1"].product, 2 * (X @ w - y) / 5, rtol=1e-14)
    np.testing.assert_allclose(table.derivatives["w"], 2 * X.T @ (X @ w - y) / 5, rtol=1e-14)
    assert steps["X"].product is None
    text = str(table)
    assert text.startswith("loss = sum((X @ w - y)**2)*0.2 at w = [1, 2, 3] (3,)\n")
    assert "du1 = X @ dw" in text and "[0.1257, -0.1321, 0.6404, …] (5, 3)" in text and table.symbolic is None


def test_arguments_in_structures():
    params = {"W": np.ones((3, 2)), "b": [np.zeros(2), 0.5]}
    table = fg.explain(lambda p, X: np.sum(np.tanh(X @ p["W"] + p["b"][0]) * p["b"][1]), params, np.eye(3), argnums=0)
    assert list(table.derivatives) == ["p['W']", "p['b'][0]", "p['b'][1]"]
    assert table.derivatives["p['W']"].shape == (3, 2)
    assert "X @ p['W']" in str(table)
    assert [step.name for step in table.steps][:4] == ["p['W']", "p['b'][0]", "p['b'][1]", "X"]


def test_keywords_are_given():
    table = fg.explain(lambda w, *, data: np.sum(data * w), np.ones(2), data=np.array([1.0, 2.0]))
    assert table.function == "sum(data*w)"
    assert table.derivatives["w"].tolist() == [1.0, 2.0]


def test_float32_stays():
    table = fg.explain(lambda w: np.sum(w**2), np.ones(2, np.float32))
    assert {step.value.dtype for step in table.steps if np.ndim(step.value)} == {np.dtype(np.float32)}


def test_an_array_of_one_number():
    t = np.linspace(0, 1, 4)
    table = fg.explain(lambda x: np.exp(t * x) + np.sum(t) * x, 1.0)
    np.testing.assert_allclose(table.derivatives["x"], t * np.exp(t) + 2, rtol=1e-14)
    np.testing.assert_allclose(table.steps[3].product, t * np.exp(t), rtol=1e-14)


A = np.array([[2.0, 1.0], [0.5, 3.0]])


@pytest.mark.parametrize(
    ("f", "x", "changes"),
    [
        (lambda x: np.max(x) + np.min(x), np.arange(3.0), ["dx where x is maximal", "dx where x is minimal"]),
        (lambda x: np.sum(x[1:] * x[[0, 1]]), np.arange(3.0), ["dx[1:]", "dx[c1]"]),
        (lambda x: np.sum(np.concatenate([x, x**2])), np.arange(2.0), ["concatenate([dx, 0], axis=0)"]),
        (lambda x: np.sum(x.T.reshape(4)), A, ["dx.T", "du1.reshape(4,)", "sum(du2)"]),
        (lambda x: np.sum(np.sum(x, axis=0) ** 2), A, ["sum(dx, axis=0)", "sum(du2)"]),
        (lambda x: np.sum(np.cumsum(x)), np.arange(2.0), ["cumsum(dx, axis=0)"]),
        (lambda x: x @ x, np.arange(3.0), ["dx @ x", "x @ dx"]),
        (lambda x: np.sum(x @ x), A, ["dx @ x + x @ dx"]),
        (lambda x: np.sum(np.linalg.inv(x)), A, ["-u1 @ dx @ u1"]),
        (lambda x: np.linalg.det(x), A, ["z*trace(inv(x) @ dx)"]),
        (lambda x: np.linalg.slogdet(x)[1], A, ["trace(inv(x) @ dx)"]),
        (lambda x: np.sum(np.linalg.solve(x, x)), A, ["-solve(x, dx @ u1) + solve(x, dx)"]),
        (lambda x: np.float64(2.0) * np.sum(x), np.arange(2, dtype=np.float32), ["sum(dx)", "float64(du1)"]),
    ],
)
def test_what_is_not_elementwise_says_how_it_passes_on_a_change(f, x, changes):
    table = fg.explain(f, x)
    assert set(changes) <= {partial.formula for step in table.steps for partial in step.partials}
    np.testing.assert_allclose(table.derivatives["x"], fg.grad(f)(x), rtol=1e-14)


UFUNCS = [e for e in supported() if e.elementwise and isinstance(e.function, np.ufunc) and e.derivative != "none"]


@pytest.mark.parametrize("entry", UFUNCS, ids=[entry.name for entry in UFUNCS])
def test_every_elementwise_function_is_explained(entry):
    """Its local derivatives are those of each element, whatever was broadcast."""
    f, lowered = entry.function, entry.name in {"np.arccos", "np.arcsin", "np.arctanh"}
    args = [np.array([[1.25], [1.75]]) - lowered, np.array([1.125, 2.5])][: f.nin]
    table = fg.explain(lambda *args: np.sum(f(*args)), *args)
    shape = np.broadcast_shapes(*(arg.shape for arg in args))
    for i, (argument, gradient) in enumerate(zip(args, table.derivatives.values(), strict=True)):
        np.testing.assert_allclose(gradient, fg.grad(lambda *args: np.sum(f(*args)), argnums=i)(*args), rtol=1e-14)
        slopes = fg.derivative(lambda x: f(*args[:i], x, *args[i + 1 :]))(np.broadcast_to(argument, shape).copy())
        reached = {partial.of: partial.value for partial in table.steps[len(args)].partials}
        if entry.derivative == "derivative" and len(table.steps) == len(args) + 2:  # else it is made of several steps
            local = reached[f"x{i}" if f.nin > 1 else "x"]
            np.testing.assert_allclose(np.broadcast_to(local, shape), slopes, rtol=1e-14)


# ---- names -----------------------------------------------------------------------------------------------------------


def test_names_do_not_meet():
    table = fg.explain(lambda u2, z, c1: u2 * z * np.array([1.0, 2.0])[0] + np.sum(np.ones(3) * c1), 2.0, 3.0, 4.0)
    names = [step.name for step in table.steps]
    assert len(set(names)) == len(names)
    assert names[-1] == "result"


@pytest.mark.parametrize(
    ("f", "formula"),
    [
        (lambda x: x - (x - 1) - -x, "x - (x - 1) - (-x)"),
        (lambda x: -(x**2) + (-x) ** 2, "-x**2 + (-x)**2"),
        (lambda x: x / (x / 2) / 3 * (x * 4), "x/(x/2)/3*x*4"),
        (lambda x: (2**x) ** x - 2 ** (x**x), "(2**x)**x - 2**x**x"),
        (lambda x: (x + 1) * (x - 1) / (x + 2), "(x + 1)*(x - 1)/(x + 2)"),
        (lambda x: np.where(x > 0, abs(x), np.sqrt(x)) % 2, "where(x > 0, abs(x), sqrt(x)) % 2"),
        (lambda x: -(x + 1), "-(x + 1)"),
        (lambda x: x * -2.5e-7, "x*(-2.5e-07)"),
    ],
)
def test_formulas_have_the_brackets_they_need(f, formula):
    table = fg.explain(f, 1.7)
    assert table.function == formula
    assert eval(formula, vars(np) | {"x": 1.7, "abs": abs}) == pytest.approx(f(1.7), rel=1e-15)


def test_functions_that_do_nothing():
    assert "z = x " in str(fg.explain(lambda x: x, 0.5))
    assert fg.explain(lambda x: x, 0.5).derivatives == {"x": 1.0}
    assert fg.explain(lambda x: 3.0, 0.5).derivatives == {"x": 0.0}
    assert fg.explain(lambda x, y: y, 0.5, 2.0).derivatives == {"x": 0.0, "y": 1.0}
    assert fg.explain(lambda w: 1.0, np.ones(2)).derivatives["w"].tolist() == [0.0, 0.0]


def test_branches_and_derivatives_are_explained():
    assert fg.explain(lambda x: x * x if x > 0 else -x, -2.0).function == "-x"
    table = fg.explain(fg.derivative(lambda x: x**3), 2.0)
    assert table.derivatives == {"x": 12.0}
    assert str(table.symbolic["x"]) == "6*x"


def test_a_function_of_its_own_arguments():
    """What has no signature that can be read has arguments x, or x0, x1."""
    assert list(fg.explain(np.sin, 0.5).derivatives) == ["x"]
    assert list(fg.explain(np.hypot, 3.0, 4.0).derivatives.values()) == [0.6, 0.8]


def test_sympy_expressions_are_explained():
    x, y = sp.symbols("x y")
    table = fg.explain(sp.exp(-(x**2) / 2) * y, 0.5, 1.0)
    assert table.function == "y*exp(-0.5*x**2)"
    assert {name: str(found) for name, found in table.symbolic.items()} == {
        "x": "-x*y*exp(-x**2/2)", "y": "exp(-x**2/2)",
    }


# ---- how it is shown -------------------------------------------------------------------------------------------------


def halvings(x):
    for _ in range(110):
        x = 0.5 * (x + 1)
    return x


def test_long_tables_show_head_and_tail():
    table = fg.explain(halvings, 0.5)
    lines = str(table).splitlines()
    assert len(table.steps) == 221
    assert table.symbolic is None
    assert lines.count("… 181 steps") == 1
    assert sum(bool(re.match(r"(x|u\d+|halvings)\b.*", line)) for line in lines[1:]) == 40
    assert lines[0] == "halvings = f(x) at x = 0.5"
    assert lines[-1] == f"dhalvings/dx = {2.0**-110!r}"
    assert "… 181 steps" in table._repr_html_()


def test_a_chain_of_a_thousand_steps_that_double():
    """Formulas are not written out where that would take 2^1000 characters."""

    def f(x):
        for _ in range(1000):
            x = 0.5 * x + 0.5 * x * x
        return x

    table = fg.explain(f, 0.99)
    assert table.function == "f(x)"
    assert table.symbolic is None

    def shorter(x):
        for _ in range(10):
            x = 0.5 * x + 0.5 * x * x
        return x

    assert len(fg.explain(shorter, 0.99).steps) < 60
    assert fg.explain(shorter, 0.99).symbolic is None


class Texts(HTMLParser):
    """The tags and texts of a page, which must be closed in the right order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []

    def handle_starttag(self, tag, _):
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_html_has_the_same_cells_and_is_escaped():
    table = fg.explain(lambda x: np.where(x < 2, x**2, x) if x > 0 else x, 1.5)
    page = table._repr_html_()
    parser = Texts()
    parser.feed(page)
    assert not parser.open
    assert set(parser.tags) <= {"div", "table", "thead", "tbody", "tr", "th", "td", "br"}
    assert "u1 = x < 2" in parser.texts and "∂z/∂u2 = where(u1, 1, 0) = 1" in parser.texts
    assert "x &lt; 2" in page and "x < 2" not in page
    for line in str(table).splitlines():
        for cell in re.split(r" {3,}|, (?=∂)", line):
            assert cell.strip() in html.unescape(page)


def test_symbolic_derivatives_are_absent_without_sympy():
    code = """
import sys
sys.modules["sympy"] = None
import fastgd as fg
table = fg.explain(lambda x: x**2, 3.0)
assert table.symbolic is None
print(table)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("dz/dx = 6.0")


def test_all_operations_that_sympy_has_are_translated():
    cases = [
        lambda x: np.cos(x) + np.cosh(x) + np.exp(x) + np.log(x) + np.sign(x) + np.sinh(x) + np.sqrt(x) + np.tan(x),
        lambda x: np.arccos(x) + np.arcsin(x) + np.arcsinh(x) + np.arctan(x) + np.arctanh(x) + np.arccosh(x + 1),
        lambda x: np.abs(x) + np.arctan2(x, 2) + np.cbrt(x) + np.exp2(x) + np.expm1(x) + np.hypot(x, 2) + np.square(x),
        lambda x: np.log10(x) + np.log1p(x) + np.log2(x) + np.logaddexp(x, 2) + np.logaddexp2(x, 2) + np.reciprocal(x),
        lambda x: np.maximum(x, 0.2) * np.minimum(x, 0.3) + np.where((x > 0) & ~(x >= 1) | (x < -2), x**3, -x),
        lambda x: np.where(x <= 1, x, 2 * x) + np.where(x == 1, 2 * x, x**4) + np.where(x != 1, x**2, x) + x**x,
    ]
    for f in cases:
        table = fg.explain(f, 0.7)
        (symbol,) = table.symbolic["x"].free_symbols
        assert float(table.symbolic["x"].subs(symbol, 0.7)) == pytest.approx(table.derivatives["x"], rel=1e-12)
    assert fg.explain(lambda x: np.floor(x) * x, 0.7).symbolic is None


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "args", "options", "error", "message"),
    [
        (lambda w: w * 2, (np.ones(3),), {}, TypeError, r"must return a number .* several, got shape \(3,\)"),
        (lambda x: (x, x), (1.0,), {}, TypeError, "must return a number or an array, got tuple"),
        (lambda: 1.0, (), {}, TypeError, "no argument to derive by"),
        (lambda x: x, ("a",), {}, TypeError, "x must be a number"),
        (lambda x: x, (np.arange(3),), {}, TypeError, "x must be float32 or float64"),
        (lambda x: x, (1.0,), {"argnums": 1}, ValueError, "argnums=1"),
        (3.0, (1.0,), {}, TypeError, "f must be a function or a SymPy expression, got 3.0"),
    ],
)
def test_what_cannot_be_explained_is_refused_by_name(f, args, options, error, message):
    with pytest.raises(error, match=message):
        fg.explain(f, *args, **options)


def test_no_table_within_a_derivative():
    with pytest.raises(TypeError, match="within a function that is being derived"):
        fg.grad(lambda x: fg.explain(lambda y: y, 1.0).derivatives["y"] * x)(1.0)
