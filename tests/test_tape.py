"""The compiled tape against its twin, `run_plain`, which evaluates node by node in NumPy.

Random graphs work on small integers, kept small by remainders, so that sums are exact in any order and both must agree
to the bit, whatever is fused, stored or computed twice.
"""

from __future__ import annotations

import inspect
import math
import re
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from bounds import DOUBLE, UNIT, gamma
from graphs import Writer
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import LAYOUTS

import fastgd as fg
from fastgd import _kernels, _tape
from fastgd._graph import ELEMENTWISE, Node, run_plain
from fastgd._lowering import LONGEST, lower
from fastgd._schedule import Schedule
from fastgd._tape import Tape

w = Writer()
DTYPES = (np.float32, np.float64)
#: One, a few, and either side of the lengths of blocks.
LENGTHS = (0, 1, 2, 7, 255, 256, 257, LONGEST - 1, LONGEST, LONGEST + 1, 3 * LONGEST + 5)


def agree(inputs: list[Node], outputs: list[Node], arrays: list[np.ndarray], tape: Tape | None = None) -> None:
    """Equal to the bit, in shape and in dtype, and new."""
    expected = run_plain(inputs, outputs, arrays)
    before = [array.copy() for array in arrays]
    results = (tape or Tape(inputs, outputs))(*arrays)
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == wanted.shape and result.dtype == wanted.dtype
        np.testing.assert_array_equal(result, wanted)
        assert result.flags.writeable
        assert not any(np.shares_memory(result, array) for array in arrays)
    for i, result in enumerate(results):
        assert not any(np.may_share_memory(result, other) for other in results[:i])
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


# ---- random graphs ---------------------------------------------------------------------------------------------------

SHAPES = [(), (1,), (3,), (1, 3), (5, 1), (5, 3), (2, 5, 3), (2, 1, 1), (700, 3), (700, 1), (3, 700), (40, 60), (60,),
          (2, 40, 60), (2000,), (0,), (0, 3)]
UNARY = (np.negative, np.absolute, np.sign, np.rint)
BINARY = (np.add, np.subtract, np.maximum, np.minimum, np.multiply)
COMPARISONS = (np.less, np.greater_equal, np.equal)


def small(x: Node) -> Node:
    """Of any whole numbers, ones between 0 and 7."""
    return w(np.remainder, x, w.constant(np.asarray(8, x.dtype)))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Node], list[Node]]:
    dtype = draw(st.sampled_from(DTYPES))
    inputs = [w.input(draw(st.sampled_from(SHAPES)), dtype) for _ in range(draw(st.integers(1, 3)))]
    nodes = [*inputs, w.constant(np.asarray(3, dtype)), w.constant(np.arange(3, dtype=dtype))]

    def some(shape: tuple[int, ...] | None = None) -> Node:
        return draw(st.sampled_from([node for node in nodes if shape is None or fit(node.shape, shape)]))

    for _ in range(draw(st.integers(1, 25))):
        x = some()
        y = some(x.shape)
        kind = draw(st.sampled_from(("unary", "binary", "binary", "binary", "where", "cast", "sum", "view", "matmul",
                                     "call")))
        if kind == "unary":
            node = w(draw(st.sampled_from(UNARY)), x)
        elif kind == "binary":
            node = small(w(draw(st.sampled_from(BINARY)), x, y))
        elif kind == "where":
            node = w.where(w(draw(st.sampled_from(COMPARISONS)), x, y), x, y)
        elif kind == "cast":
            other = np.float64 if dtype == np.float32 else np.float32
            node = w.astype(w(np.sign, w.astype(x, draw(st.sampled_from((other, np.int64))))), dtype)
        elif kind == "sum" and x.shape:
            axes = sorted(draw(st.sets(st.integers(0, len(x.shape) - 1), min_size=1)))
            node = small(w.sum(x, axes, draw(st.booleans())))
        elif kind == "matmul" and len(x.shape) >= 2:
            node = small(w.matmul(w.call("transpose", x, axes=(*range(len(x.shape) - 2), -1, -2)), x))
        elif kind == "call" and 0 not in x.shape and x.shape:
            node = draw(st.sampled_from((w.call("max", x, axis=0), w.call("real", x),
                                         w.call("concatenate", x, x, axis=0))))
        else:
            node = draw(st.sampled_from(views(x)))
        nodes.append(node)
    return inputs, draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=5))


def fit(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether shapes broadcast."""
    return all(i == j or 1 in (i, j) for i, j in zip(reversed(a), reversed(b), strict=False))


def views(x: Node) -> list[Node]:
    return [
        w.call("reshape", x, shape=(math.prod(x.shape),)),
        w.call("transpose", x, axes=tuple(reversed(range(len(x.shape))))),
        w.call("broadcast_to", x, shape=(2, *x.shape)),
        w.call("index", x, key=(..., None)),
        w.call("index", x, key=tuple(slice(None, None, -1) for _ in x.shape)),
        w.call("index", x, key=tuple(slice(None, None, 2) for _ in x.shape)),
    ]


@settings(max_examples=400, deadline=None)
@given(graph=graphs(), layout=st.sampled_from(sorted(LAYOUTS)), seed=st.integers(0, 99))
def test_random_graphs(graph: tuple[list[Node], list[Node]], layout: str, seed: int) -> None:
    inputs, outputs = graph
    if sum(math.prod(node.shape) for node in outputs) > 1_000_000:
        return
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(-4, 5, node.shape).astype(node.dtype) for node in inputs]
    tape = Tape(inputs, outputs)
    agree(inputs, outputs, arrays, tape)
    laid_out = [LAYOUTS[layout](array) if array.ndim == 2 and array.size else array for array in arrays]
    agree(inputs, outputs, laid_out, tape)
    agree(inputs, outputs, arrays, tape)


# ---- elementwise -----------------------------------------------------------------------------------------------------


def chain(x: Node, y: Node) -> Node:
    """A composition that keeps several values alive."""
    one = w.constant(np.asarray(1, x.dtype))
    a = w(np.tanh, w(np.multiply, x, y))
    b = w(np.exp, w(np.negative, w(np.square, x)))
    c = w(np.log, w(np.add, one, w(np.multiply, a, a)))
    d = w(np.divide, w(np.subtract, b, c), w(np.add, one, w(np.square, y)))
    return w.where(w(np.less, a, d), w(np.sqrt, w(np.absolute, d)), w(np.multiply, a, c))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_lengths_around_blocks(n: int, dtype: type) -> None:
    x, y, rng = w.input((n,), dtype), w.input((n,), dtype), np.random.default_rng(n)
    arrays = [rng.standard_normal(n).astype(dtype) for _ in range(2)]
    agree([x, y], [chain(x, y)], arrays)


@pytest.mark.parametrize("shape", [(), (1, 1), (3, 4, 5), (1, 3000), (3000, 1), (50, 7, 60), (0, 5)])
def test_shapes(shape: tuple[int, ...]) -> None:
    x, y, rng = w.input(shape), w.input(shape), np.random.default_rng(0)
    agree([x, y], [chain(x, y)], [rng.standard_normal(shape), rng.standard_normal(shape)])


@pytest.mark.parametrize("shapes", [
    ((300, 40), (40,)), ((300, 40), (300, 1)), ((30, 4000), (4000,)), ((30, 4000), (30, 1)), ((300, 1), (1, 40)),
    ((6, 50, 40), (50, 1)), ((6, 50, 40), (6, 1, 40)), ((6, 50, 40), (6, 1, 1)), ((3, 2000, 3), (2000, 3)),
    ((3, 2000, 3), (3, 1, 3)), ((2, 3, 4, 5, 6), (3, 1, 5, 1)), ((2000, 3), ()),
])
def test_broadcasting(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Multiplication, addition and choice round in the same way whatever the strides are."""
    x, y = map(w.input, shapes)
    rng = np.random.default_rng(1)
    s = w(np.add, w(np.multiply, x, y), y)
    outputs = [s, w.where(w(np.greater, x, y), x, y), w(np.maximum, y, s)]
    arrays = [np.asarray(rng.standard_normal(shape)) for shape in shapes]
    agree([x, y], outputs, arrays)
    agree([x, y], outputs, [np.asarray(array, order="F") for array in arrays])
    agree([x, y], outputs, [np.broadcast_to(rng.standard_normal(), shape) for shape in shapes])


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(70, 50), (3, 5000), (5000, 3)])
def test_layouts(layout: str, dtype: type, shape: tuple[int, int]) -> None:
    x, rng = w.input(shape, dtype), np.random.default_rng(2)
    y = w(np.add, w(np.square, x), w(np.negative, x))
    A = LAYOUTS[layout](rng.integers(-9, 9, shape).astype(dtype))
    A.flags.writeable = False
    agree([x], [y, w.sum(y), w.sum(y, (0,)), w.sum(y, (1,)), w.call("transpose", y, axes=(1, 0))], [A])


def test_results_have_the_order_of_their_arguments() -> None:
    x = w.input((30, 40))
    A = np.asfortranarray(np.random.default_rng(0).standard_normal((30, 40)))
    (result,) = Tape([x], [w(np.square, x)])(A)
    assert result.flags.f_contiguous
    np.testing.assert_array_equal(result, A**2)


def test_unaligned_and_byte_swapped() -> None:
    n, rng = 3000, np.random.default_rng(3)
    x = w.input((n,))
    values = rng.standard_normal(n)
    raw = np.zeros(8 * n + 1, np.uint8)
    raw[1:] = values.view(np.uint8)
    unaligned = raw[1:].view(np.float64)
    assert not unaligned.flags.aligned
    y = [w(np.exp, x), w.sum(x)]
    tape = Tape([x], y)
    for array in (unaligned, values.astype(">f8"), values.astype("<f8")):
        for result, expected in zip(tape(array), tape(values), strict=True):
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("pair", [(a, b) for a in "?ilqfd" for b in "?ilqfd"])
def test_conversions(pair: tuple[str, str]) -> None:
    source, target = pair
    x = w.input((2500,), source)
    values = np.random.default_rng(4).integers(-3, 4, 2500).astype(source)
    agree([x], [w.astype(x, target)], [values])
    agree([x], [w.astype(x, target)], [np.repeat(values, 2)[::2]])


def test_dtypes_that_have_no_loop_go_through_numpy() -> None:
    x = w.input((100,), np.float16)
    agree([x], [w.astype(w(np.add, x, x), np.float32), w.sum(x)], [np.arange(100, dtype=np.float16)])


# ---- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 8, 129, 4096, 1_000_003])
def test_full_sums_are_more_accurate_than_numpys(n: int, dtype: type) -> None:
    """In float: one rounding, of the result. In double: eight lanes of at most 16, halves of a block, then 64 bits."""
    values = (np.random.default_rng(5).standard_normal(n) * 10.0 ** np.arange(n).clip(0, 3)).astype(dtype)
    x = w.input((n,), dtype)
    ((total,),) = (Tape([x], [w.sum(x)])(values),)
    exact, size = math.fsum(values), math.fsum(np.abs(values))
    depth = 16 + math.ceil(math.log2(LONGEST / 128)) + 3
    assert abs(float(total) - exact) <= gamma(depth) * size + (UNIT[np.dtype(dtype)] + DOUBLE) * abs(exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(4, 30, 50), (2, 3, 4000), (4000, 2, 3), (3, 0, 2), (1, 5, 1)])
def test_sums_over_axes(shape: tuple[int, ...], axis: tuple[int, ...], keepdims: bool, dtype: type) -> None:
    x = w.input(shape, dtype)
    A = np.random.default_rng(6).standard_normal(shape).astype(dtype)
    (result,) = Tape([x], [w.sum(w(np.negative, x), axis, keepdims)])(A)
    exact = np.sum(-A.astype(np.longdouble), axis=axis, keepdims=keepdims)
    size = np.sum(np.abs(A).astype(np.float64), axis=axis, keepdims=keepdims)
    terms = math.prod(shape[i] for i in axis)
    assert result.shape == exact.shape and result.dtype == dtype
    bound = gamma(terms + 2) * size + UNIT[np.dtype(dtype)] * np.abs(exact)
    assert np.all(np.abs(result - exact) <= bound)


def test_sums_of_infinities() -> None:
    x = w.input((5000,))
    A = np.ones(5000)
    for bad, expected in ((np.inf, np.inf), (-np.inf, -np.inf), (np.nan, np.nan)):
        A[4321] = bad
        (total,) = Tape([x], [w.sum(x)])(A)
        np.testing.assert_equal(float(total), expected)
    A[10] = np.inf
    A[4321] = -np.inf
    with np.errstate(invalid="ignore"):
        assert np.isnan(Tape([x], [w.sum(x)])(A)[0])


# ---- products, calls, views ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", [
    ((3, 4), (4, 5)), ((1, 1), (1, 1)), ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((7, 1), (1, 9)), ((200, 300), (300, 100)),
    ((6, 3, 4), (4, 5)), ((6, 3, 4), (6, 4, 5)), ((2, 1, 3, 4), (6, 4, 5)), ((0, 3, 4), (4, 5)),
    ((5000, 400), (400, 400)),
])
def test_products(shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: type) -> None:
    """Small whole numbers, whose products are exact in any order; the last one is cut into pieces."""
    a, b = w.input(shapes[0], dtype), w.input(shapes[1], dtype)
    rng = np.random.default_rng(7)
    arrays = [rng.integers(-4, 5, shape).astype(dtype) for shape in shapes]
    agree([a, b], [w.matmul(a, b)], arrays)
    agree([a, b], [w.matmul(a, b)], [np.asarray(array, order="F") for array in arrays])
    agree([a, b], [w.matmul(a, b)], [np.repeat(array, 2, -1)[..., ::2] for array in arrays])


def test_outputs_are_new_arrays() -> None:
    """Also where they are inputs, constants, views, one value twice, or what a call made of its argument itself."""
    x, c = w.input((4, 5)), w.constant(np.arange(20.0).reshape(4, 5))
    y = w(np.add, x, c)
    outputs = [x, x, c, y, y, w.call("transpose", x, axes=(1, 0)), w.call("real", x), w.call("real", y),
               w.call("index", y, key=(slice(1, 3),)), w.call("broadcast_to", y, shape=(2, 4, 5))]
    A = np.random.default_rng(8).standard_normal((4, 5))
    agree([x], outputs, [A])
    tape = Tape([x], outputs)
    for result in tape(A):
        result[...] = np.nan
    for result in tape(A):
        assert not np.isnan(result).any()
    np.testing.assert_array_equal(c.value, np.arange(20.0).reshape(4, 5))


def test_views_of_views() -> None:
    """Of an argument, of a constant and of a value of the arena, which is read by a group, a product and a call."""
    rng = np.random.default_rng(11)
    x, c = w.input((6, 7, 8)), w.constant(rng.integers(-3, 4, (6, 7, 8)).astype(np.float64))
    outputs = []
    for source in (x, c, w(np.negative, x)):
        part = w.call("index", source, key=(slice(4, 0, -1), slice(1, None), slice(None, None, 3)))
        turned = w.call("transpose", w.call("index", part, key=(slice(1, None),)), axes=(2, 0, 1))
        row = w.call("index", turned, key=(1,))
        outputs += [w(np.square, turned), w.sum(turned, (1,)), w.matmul(turned, w.call("transpose", row, axes=(1, 0))),
                    w.call("max", turned, axis=0), w.call("reshape", row, shape=(18,)), turned]
    A = rng.integers(-3, 4, (6, 7, 8)).astype(np.float64)
    for array in (A, np.asfortranarray(A), A[::-1]):
        agree([x], outputs, [array])


def test_an_error_in_a_call_is_passed_on_and_the_tape_goes_on_working() -> None:
    x = w.input((3,))
    node = w.call("index", x, key=(0,))
    node.attributes["key"] = (slice(None), 7)
    with pytest.raises(IndexError):
        Tape([x], [w(np.exp, node)])(np.ones(3))
    broken = w.call("max", x, axis=0)
    tape = Tape([x], [w(np.exp, broken)])
    broken.attributes["axis"] = 5
    with pytest.raises(np.exceptions.AxisError):
        tape(np.ones(3))
    broken.attributes["axis"] = 0
    assert tape(np.ones(3))[0] == np.exp(1.0)


def test_a_call_that_returns_something_else_than_was_traced() -> None:
    x = w.input((3, 2))
    node = w.call("max", x, axis=0)
    node.attributes["axis"] = 1
    with pytest.raises(ValueError, match=r"shape \(3,\).*traced with \(2,\)"):
        Tape([x], [node])(np.ones((3, 2)))


# ---- plans -----------------------------------------------------------------------------------------------------------


def with_gradient(n: int) -> tuple[Node, list[Node]]:
    """sum tanh(x)² and its gradient, 2 tanh(x) (1 - tanh(x)²)."""
    x, one, two = w.input((n,)), w.constant(1.0), w.constant(2.0)
    t = w(np.tanh, x)
    square = w(np.square, t)
    return x, [w.sum(square), w(np.multiply, w(np.multiply, two, t), w(np.subtract, one, square))]


def log_sum_exp(n: int) -> tuple[Node, list[Node]]:
    """log sum exp(x²) and its gradient: a sum stands between, and exp(x²) would have to be kept."""
    x, two = w.input((n,)), w.constant(2.0)
    e = w(np.exp, w(np.square, x))
    total = w.sum(e)
    return x, [w(np.log, total), w(np.multiply, w(np.multiply, two, x), w(np.divide, e, total))]


def test_a_sum_and_its_gradient_are_one_group() -> None:
    x, outputs = with_gradient(100_000)
    assert [step.kind for step in Schedule([x], outputs).steps] == [ELEMENTWISE]


def test_values_are_computed_again_where_that_costs_less() -> None:
    big, small_one = (Schedule([x], outputs) for x, outputs in (log_sum_exp(1_000_000), log_sum_exp(1000)))
    kept = [{schedule.nodes[i].primitive.name for i in schedule.stored} for schedule in (big, small_one)]
    assert "exp" not in kept[0] and "exp" in kept[1]


def test_long_recurrences_are_not_computed_again_from_the_start() -> None:
    """x <- x / sum exp x, 40 times: what a step needs is stored, or the work would grow with the square."""
    x = start = w.input((100_000,))
    for _ in range(40):
        x = w(np.divide, x, w.sum(w(np.exp, x)))
    schedule = Schedule([start], [x])
    assert sum(len(step.nodes) for step in schedule.steps) < 40 * 8
    agree([start], [w(np.greater, x, x)], [np.ones(100_000)])


@pytest.mark.parametrize("make", [with_gradient, log_sum_exp])
def test_memory_of_a_chain(make: Callable[[int], tuple[Node, list[Node]]]) -> None:
    """Peak: the outputs and less than 1 MiB."""
    n = 1_000_000
    x, outputs = make(n)
    tape = Tape([x], outputs)
    A = np.random.default_rng(9).uniform(-1, 1, n)
    tape(A)
    tracemalloc.start()
    try:
        results = Tape([x], outputs)(A)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(result.nbytes for result in results) <= peak <= 8 * n + (1 << 20)
    for result, expected in zip(results, run_plain([x], outputs, [A]), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-13)


def test_memory_of_a_compiled_gradient() -> None:
    """Of some twenty operations, through the public functions."""

    def f(x: np.ndarray) -> np.floating:
        a = np.sin(x) * np.exp(-0.5 * x * x)
        b = np.tanh(a + 0.3 * x) / (1.0 + x * x)
        c = np.log(1.0 + np.exp(b)) * np.cos(a)
        return np.mean((np.sqrt(1.0 + c * c) - a * b) ** 2 + np.where(x > 0, c, a))

    compiled = fg.compile(fg.value_and_grad(f))
    A = np.random.default_rng(12).standard_normal(500_000)
    compiled(A)
    tracemalloc.start()
    try:
        compiled(A)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert A.nbytes <= peak <= A.nbytes + (1 << 20)


def test_dead_values_make_room_for_others() -> None:
    """A chain of matrix products has two intermediate values at a time."""
    x = start = w.input((50, 50))
    for _ in range(20):
        x = w.matmul(x, start)
    lowered = lower(Schedule([start], [x]), [(400, 8)])
    assert lowered.arena_bytes < 3 * 50 * 50 * 8


def test_stub_matches() -> None:
    """Names and parameters of the stub are those of the module."""
    stub = Path(_tape.__file__).with_name("_tape.pyi").read_text()
    functions = re.findall(r"def (\w+)\(self, (\*?\w+)", stub.partition("class Tape:")[2])
    members = {name for name in vars(Tape) if not name.startswith("__")}
    assert {name for name, _ in functions if not name.startswith("__")} == members
    for name, parameter in functions:
        if not name.startswith("__"):
            assert str(inspect.signature(getattr(Tape, name))).startswith(f"(self, {parameter}"), name
    assert callable(_tape.use)


# ---- arguments -------------------------------------------------------------------------------------------------------


def test_arguments_that_do_not_fit() -> None:
    x, y = w.input((3, 4)), w.input((), np.float32)
    tape = Tape([x, y], [w(np.exp, x), w.astype(y, np.float64)])
    A, b = np.zeros((3, 4)), np.float32(1)
    with pytest.raises(TypeError, match="takes 2 arrays, got 1"):
        tape(A)
    with pytest.raises(ValueError, match=r"argument 0 .* shape \(4, 3\).* for \(3, 4\)"):
        tape(A.T, b)
    with pytest.raises(TypeError, match=r"argument 0 .* dtype float32.* for float64"):
        tape(A.astype(np.float32), b)
    with pytest.raises(TypeError, match=r"argument 1 .* dtype float64.* for float32"):
        tape(A, np.float64(1))
    with pytest.raises(TypeError, match=r"argument 0 .* dtype complex128"):
        tape(A.astype(complex), b)
    assert tape(A, 1.5)[1] == 1.5 and tape(A.tolist(), b)[0].shape == (3, 4)


def test_graphs_that_do_not_fit() -> None:
    x, y = w.input((3,)), w.input((3,))
    with pytest.raises(ValueError, match="input of shape"):
        Tape([x], [w(np.add, x, y)])
    with pytest.raises(ValueError, match="different nodes"):
        Tape([x, x], [w(np.exp, x)])


def test_values_in_the_middle_as_inputs() -> None:
    """Inputs may be any nodes; what only they need is not computed."""
    x = w.input((3,))
    y = w(np.exp, x)
    agree([y], [w(np.log, y)], [np.ones(3)])


def test_more_layouts_than_are_kept() -> None:
    x = w.input((4, 5))
    tape = Tape([x], [w(np.square, x)])
    for step in range(1, 40):
        A = np.arange(20.0 * step).reshape(4, 5 * step)[:, ::step]
        np.testing.assert_array_equal(tape(A)[0], A**2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars(dtype: type) -> None:
    x, y = w.input((), dtype), w.input((), dtype)
    z = w(np.divide, w(np.exp, x), y)
    tape = Tape([x, y], [z, w(np.square, z), x])
    expected = run_plain([x, y], [z, w(np.square, z), x], [np.asarray(0.5, dtype), np.asarray(3.0, dtype)])
    results = tape.scalars(0.5, 3)
    assert [type(result) for result in results] == [float] * 3 and results == tuple(map(float, expected))
    assert tuple(map(float, tape(0.5, 3))) == results
    with pytest.raises(TypeError, match="takes 2 numbers, got 1"):
        tape.scalars(1.0)
    with pytest.raises(TypeError):
        tape.scalars(1.0, "2")
    v = w.input((3,))
    with pytest.raises(TypeError, match="without dimensions"):
        Tape([v], [w(np.exp, v)]).scalars(1.0)


# ---- floating-point errors, threads, signals -------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 100_000])
def test_floating_point_errors_are_reported_as_numpy_does(n: int) -> None:
    x = w.input((n,))
    tape = Tape([x], [w(np.divide, w.constant(1.0), x), w(np.exp, x), w(np.sqrt, x)])
    fine, zero, large, negative = np.ones(n), np.ones(n), np.ones(n), np.ones(n)
    zero[-1], large[-1], negative[0] = 0.0, 1000.0, -1.0
    tape(fine)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        tape(zero)
    with pytest.warns(RuntimeWarning, match="overflow"):
        tape(large)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        tape(negative)
    with np.errstate(all="ignore"):
        tape(zero)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        tape(zero)
    tape(fine)      # what came before does not stick


def test_floating_point_errors_before_a_call_are_not_forgotten() -> None:
    x = w.input((10,))
    tape = Tape([x], [w.call("max", w(np.log, x), axis=0)])
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        tape(np.zeros(10))


def test_threads_may_share_a_tape() -> None:
    x = w.input((30_000,))
    a = w(np.exp, w(np.negative, w(np.square, x)))
    outputs = [w(np.divide, a, w.sum(a)), w.call("max", a, axis=0)]
    tape = Tape([x], outputs)
    wrong: list[int] = []

    def work(seed: int) -> None:
        A = np.random.default_rng(seed).standard_normal(30_000)
        expected = tape(A)
        for _ in range(50):
            results = tape(A)
            if not all(np.array_equal(r, e) for r, e in zip(results, expected, strict=True)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("kind", ["elementwise", "product"])
def test_ctrl_c_is_heard(kind: str) -> None:
    """Within a call that would take far longer than a signal may wait; times are the processor's."""
    if kind == "elementwise":
        x = w.input((1_000_000,))
        y = x
        for _ in range(200):
            y = w(np.tanh, w(np.power, w(np.exp, y), y))
        tape, A = Tape([x], [w.sum(y)]), np.full(1_000_000, 0.3)
    else:
        x = w.input((4000, 4000))
        y = w.matmul(x, x)
        tape, A = Tape([x], [w.sum(w.matmul(y, y))]), np.zeros((4000, 4000))
    rang: list[float] = []

    def ring(*_: object) -> None:
        rang.append(time.process_time())
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGPROF, ring)
    try:
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, 0.2)
        with pytest.raises(KeyboardInterrupt):
            tape(A)
        assert rang[0] - start < 0.2 + 0.1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# ---- sine and cosine -------------------------------------------------------------------------------------------------


@pytest.fixture(params=_kernels.available())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _kernels.current
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)


@pytest.mark.parametrize("ufunc", [np.sin, np.cos])
@pytest.mark.usefixtures("level")
def test_sine_and_cosine(ufunc: np.ufunc) -> None:
    """Off by less than one unit in the last place, near the multiples of pi/2 too; and what they are beyond."""
    rng = np.random.default_rng(10)
    k = np.arange(-20_000, 20_001)
    multiples = k * 31 * (2 * np.arctan(np.longdouble(1)))
    near = multiples.astype(np.float64)
    values = np.concatenate([
        rng.uniform(-1, 1, 100_000), rng.uniform(-30, 30, 100_000), rng.uniform(-1e6, 1e6, 100_000),
        10.0 ** rng.uniform(-308, 0, 100_000), near, np.nextafter(near, np.inf), near * (1 + 1e-9), [5e-324, 0.0],
    ])
    x = w.input(values.shape)
    tape = Tape([x], [w(ufunc, x)])
    exact = ufunc(values.astype(np.longdouble))
    (result,) = tape(values)
    assert np.all(np.abs(result - exact) < np.spacing(np.abs(exact).astype(np.float64)))
    np.testing.assert_array_equal(tape(-values)[0], -result if ufunc is np.sin else result)
    np.testing.assert_array_equal(tape(np.repeat(values, 3)[::3])[0], result)
    assert np.signbit(Tape([s := w.input(())], [w(np.sin, s)])(-0.0)[0])
    special = np.array([np.inf, -np.inf, np.nan, 1e300, -1e22, 1000000.5, 1.0, -0.0])
    y = w.input(special.shape)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(Tape([y], [w(ufunc, y)])(special)[0], ufunc(special), rtol=2.0**-52)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        Tape([y], [w(ufunc, y)])(special)
