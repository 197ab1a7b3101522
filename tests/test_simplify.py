"""How lean the graphs of derivatives are, and that what makes them so changes no values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgd as fg
from fastgd._graph import ELEMENTWISE, in_order
from fastgd._traced import Trace
from fastgd._transform import simplified
from fastgd.autodiff import gradient_nodes

X = np.linspace(-2, 2, 7)


def names(f, of_gradient=True, x=X):
    """The elementwise operations of f's gradient, or of f itself."""
    with Trace() as trace:
        node = trace.input(x)
        output = f(node)
        outputs = gradient_nodes(output, [node]) if of_gradient else [output]
        nodes = in_order(simplified(trace, outputs))
        return sorted(n.primitive.name for n in nodes if n.primitive.kind == ELEMENTWISE)


@pytest.mark.parametrize(("f", "expected"), [
    (lambda x: np.sum(x), []),
    (lambda x: np.sum(x**2), ["multiply"]),
    (lambda x: np.mean(x**2), ["multiply"]),
    (lambda x: 0.5 * np.sum((x - 1) ** 2), ["subtract"]),
    (lambda x: np.sum(np.exp(x)), ["exp"]),
    (lambda x: np.sum(np.exp(-x)), ["exp", "negative", "negative"]),
    (lambda x: np.sum(np.log(x)), ["divide"]),
    (lambda x: np.sum(np.tanh(x)), ["square", "subtract", "tanh"]),
    (lambda x: np.sum(x * x * x), ["add", "multiply", "multiply", "square"]),
    (lambda x: np.sum(x**3), ["multiply", "square"]),
    (lambda x: np.sum(1 / x), ["divide", "negative", "square"]),
    (lambda x: np.sum(x**-2), ["divide", "multiply", "square"]),
    (lambda x: np.sum(x**5 + x**4), ["add", "multiply", "multiply", "multiply", "square", "square"]),
    (lambda x: np.sum(np.sin(x) ** 2 + np.cos(x) ** 2 - np.sin(x) ** 2),
     ["cos", "multiply", "multiply", "multiply", "multiply", "multiply", "sin", "subtract", "subtract"]),
])
def test_gradients_have_few_elementwise_steps(f, expected):
    got = names(f)
    assert len(got) <= len(expected) and set(got) <= set(expected), got


@pytest.mark.parametrize(("f", "expected"), [
    (lambda x: 1.0 * x * 1 / 1, []), (lambda x: x - 0.0, []), (lambda x: np.negative(-x), []), (lambda x: x / 2.0,
                                                                                                ["multiply"]),
    (lambda x: x / 3.0, ["divide"]), (lambda x: 2 * (3 * x) * 5, ["multiply"]), (lambda x: -(2 * x), ["multiply"]),
    (lambda x: x + -np.exp(x), ["exp", "subtract"]), (lambda x: x * x, ["square"]), (lambda x: x**1, []),
    (lambda x: x * (1 / (2 + x)), ["add", "divide"]), (lambda x: x**8, ["square"] * 3), (lambda x: x**-1, ["divide"]),
    (lambda x: np.exp(x) + np.exp(x), ["exp", "multiply"]), (lambda x: x + 0, ["add"]), (lambda x: x * 0, ["multiply"]),
    (lambda x: x - x, ["subtract"]), (lambda x: 1e200 * (1e200 * x), ["multiply", "multiply"]),
    (lambda x: (x + 1) * (1 + x), ["add", "square"]), (lambda x: x * 2.0 + 2.0 * x, ["multiply"]),
    (lambda x: np.broadcast_to(3.0 * x[0], (7,)) * x, ["multiply", "multiply"]),
])
def test_operations_become_cheaper_ones(f, expected):
    assert names(f, of_gradient=False) == expected
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(fg.compile(f)(X), f(X), rtol=1e-15)


def test_gradients_of_sums_and_means_make_no_array_of_one_number():
    with Trace() as trace:
        x = trace.input(np.ones((3, 4)))
        (gradient,) = gradient_nodes(np.mean(np.exp(x)), [x])
        assert not [n for n in in_order([gradient]) if n.primitive.name == "broadcast_to"]


def test_minus_zero_nan_and_infinity_survive():
    x = np.array([-0.0, 0.0, np.nan, np.inf, -np.inf])
    with np.errstate(all="ignore"):
        for f in (lambda x: x + 0, lambda x: x * 0, lambda x: x - x, lambda x: x - 0.0, lambda x: 0 - x,
                  lambda x: x / -1,
                  lambda x: -x * -1, lambda x: x + -0.0, lambda x: -(x - 1) + 1, lambda x: x**2 * 0, lambda x: x**0):
            got, expected = fg.compile(f)(x), f(x)
            np.testing.assert_array_equal(got, expected)
            known = ~np.isnan(x)
            np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(expected[known]))


EXPRESSIONS = st.recursive(
    st.sampled_from([lambda x: x, lambda x: 2.0, lambda x: -1.0, lambda x: 0.0, lambda x: 1.0, lambda x: 0.3]),
    lambda part: st.one_of(
        st.builds(lambda a, b: lambda x: a(x) + b(x), part, part), st.builds(lambda a, b: lambda x: a(x) - b(x), part,
                                                                             part),
        st.builds(lambda a, b: lambda x: a(x) * b(x), part, part), st.builds(lambda a: lambda x: -a(x), part),
        st.builds(lambda a, b: lambda x: a(x) / (b(x) * b(x) + 1.0), part, part),
        st.builds(lambda a, n: lambda x: a(x) ** n, part, st.integers(0, 5)),
        st.builds(lambda a: lambda x: np.abs(a(x)), part), st.builds(lambda a: lambda x: np.square(a(x)), part),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(EXPRESSIONS, st.floats(-2, 2))
def test_simplified_expressions_have_the_values_of_plain_ones(f, point):
    x = np.array([point, 0.7])
    with np.errstate(all="ignore"):
        expected = f(x) + 0.0 * x
        got = fg.compile(lambda x: f(x) + 0.0 * x)(x)
        largest = f_of_sizes(f, x)
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14 * largest)


def f_of_sizes(f, x):
    """The largest element of what an expression computes on the way."""
    sizes = []

    class Watched(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, **options):
            out = getattr(ufunc, method)(*(np.asarray(i) for i in inputs), **options)
            sizes.append(float(np.max(np.abs(out), initial=0.0)))
            return np.asarray(out).view(Watched)

    f(x.view(Watched))
    return max(sizes, default=1.0)
