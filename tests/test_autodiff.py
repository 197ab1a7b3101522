"""The chain rule for users: derivatives of plain functions, their arguments and results, and what is refused."""

import collections
import gc
import math
import threading
import weakref

import numpy as np
import pytest
from scipy import special

import fastgd as fg
from fastgd.errors import DerivativeError, TraceError

X = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])


def chain(x):
    return (3 * x**2 + 2 * x + 1) ** 2


# ---- the textbook ----------------------------------------------------------------------------------------------------


def test_the_textbook_example_is_exact():
    assert fg.derivative(chain)(2.0) == 476.0
    assert fg.derivative(fg.derivative(chain))(2.0) == 596.0
    assert fg.derivative(fg.derivative(fg.derivative(chain)))(2.0) == 504.0
    assert fg.compile(fg.derivative(chain))(2.0) == 476.0
    assert fg.grad(chain)(2) == 476.0
    assert fg.value_and_grad(chain)(2.0) == (289.0, 476.0)


def test_floats_give_floats():
    assert type(fg.derivative(chain)(2.0)) is float
    assert type(fg.grad(chain)(2)) is float
    assert type(fg.grad(lambda x: sum(x))([1.0, 2.0])[0]) is float
    assert type(fg.compile(chain)(2.0)) is float
    value, gradient = fg.value_and_grad(lambda x: np.sum(x))(X.astype(np.float32))
    assert value.dtype == np.float32 and gradient.dtype == np.float32


def test_derivative_of_an_array_is_element_by_element():
    x = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(fg.derivative(np.tanh)(x), 1 - np.tanh(x) ** 2, rtol=1e-14)
    with pytest.raises(TypeError, match=r"mixes its elements.*use grad if it returns a number, else jacobian"):
        fg.derivative(lambda x: np.cumsum(x))(x)
    np.testing.assert_array_equal(fg.derivative(lambda t: np.stack([t, t**2, 1.0]))(3.0), [1.0, 6.0, 0.0])


def test_functions_that_do_not_depend_on_the_argument_have_zeros():
    assert fg.derivative(lambda x: 3.0)(1.0) == 0.0
    np.testing.assert_array_equal(fg.grad(lambda x, y: np.sum(y))(X, X), np.zeros_like(X))
    np.testing.assert_array_equal(fg.jacobian(lambda x: np.ones(2))(np.ones(3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(fg.hessp(lambda x: np.sum(x))(X, X), np.zeros_like(X))


# ---- structures ------------------------------------------------------------------------------------------------------

Layer = collections.namedtuple("Layer", "w b")


def test_gradients_have_the_structure_of_the_argument():
    def f(p):
        return np.sum(p["layers"][0].w ** 2) + p["layers"][0].b * 3.0 + np.sum(p["more"][1] * X)

    point = {"layers": [Layer(np.ones(2), 1.0)], "more": (2.0, X)}
    gradient = fg.grad(f)(point)
    assert list(gradient) == ["layers", "more"] and isinstance(gradient["layers"][0], Layer)
    np.testing.assert_array_equal(gradient["layers"][0].w, [2.0, 2.0])
    assert gradient["layers"][0].b == 3.0 and gradient["more"][0] == 0.0
    np.testing.assert_array_equal(gradient["more"][1], X)
    compiled = fg.compile(fg.value_and_grad(f))
    np.testing.assert_array_equal(compiled(point)[1]["more"][1], X)
    assert compiled(point)[0] == f(point)


def test_argnums():
    f = lambda x, y, z: x * y**2 + z
    assert fg.grad(f, argnums=1)(2.0, 3.0, 1.0) == 12.0
    assert fg.grad(f, argnums=(0, 1))(2.0, 3.0, 1.0) == (9.0, 12.0)
    assert fg.grad(f, argnums=[-1])(2.0, 3.0, 1.0) == (1.0,)
    assert fg.grad(lambda x, *, scale: x * scale)(2.0, scale=5.0) == 5.0
    for argnums in (3, (0, 5), -4):
        with pytest.raises(ValueError, match=r"argnums=.* but the function was called with 3 positional arguments"):
            fg.grad(f, argnums=argnums)(1.0, 2.0, 3.0)
    for argnums in ("x", 1.0, None, True):
        with pytest.raises(TypeError, match="argnums must be an int or a sequence of ints"):
            fg.grad(f, argnums=argnums)(1.0, 2.0, 3.0)


def test_jacobians_by_rows_and_by_columns():
    wide = lambda x: np.stack([np.sum(x**2), np.prod(x)])
    tall = lambda x: np.concatenate([np.sin(x), x**2, x[:1] * x[1:]])
    x = np.array([0.5, -1.0, 2.0])
    np.testing.assert_allclose(fg.jacobian(wide)(x), [2 * x, np.prod(x) / x], rtol=1e-14)
    expected = np.concatenate([np.diag(np.cos(x)), np.diag(2 * x), [[x[1], x[0], 0], [x[2], 0, x[0]]]])
    np.testing.assert_allclose(fg.jacobian(tall)(x), expected, rtol=1e-14)
    np.testing.assert_allclose(fg.compile(fg.jacobian(tall))(x), expected, rtol=1e-14)
    assert fg.jacobian(lambda x: x @ X)(np.ones((4, 2))).shape == (4, 3, 4, 2)
    both = fg.jacobian(lambda x, y: x * y, argnums=(0, 1))(x, 2.0)
    np.testing.assert_array_equal(both[0], 2 * np.eye(3))
    np.testing.assert_array_equal(both[1], x)


def test_hessian_products_are_columns_of_the_hessian():
    f = lambda x: np.sum(np.sin(x) * x[::-1] ** 2) + np.exp(x[0] * x[1])
    x = np.array([0.3, -0.7, 1.1])
    hessian = fg.jacobian(fg.grad(f))(x)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-13)
    for i, v in enumerate(np.eye(3)):
        np.testing.assert_allclose(fg.hessp(f)(x, v), hessian[i], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(fg.compile(fg.hessp(f))(x, x), hessian @ x, rtol=1e-12)
    with pytest.raises(ValueError, match=r"v must have the shape of x, \(3,\), got \(2,\)"):
        fg.hessp(f)(x, x[:2])
    with pytest.raises(TypeError, match="structure of x"):
        fg.hessp(f)(x, [x])


# ---- nesting ---------------------------------------------------------------------------------------------------------


def test_an_inner_derivative_takes_the_outer_variable_as_fixed():
    assert fg.derivative(lambda x: x * fg.derivative(lambda y: x * y)(x))(3.0) == 6.0
    assert fg.derivative(lambda x: x * fg.derivative(lambda y: x * y)(2.0))(3.0) == 6.0
    assert fg.grad(lambda x: x * fg.grad(lambda y: x + y)(1.0))(5.0) == 1.0
    assert fg.derivative(lambda x: fg.derivative(lambda y: x**2 * y**3)(x))(2.0) == 2 * 2.0 * 3 * 4.0 + 4.0 * 6 * 2.0


def test_derivatives_within_a_function_of_numbers_that_are_not_traced_are_numbers():
    def f(x):
        slope = fg.derivative(lambda t: t**3)(2.0)
        assert slope == 12.0 and type(slope) is float
        return slope * x

    assert fg.grad(f)(1.0) == 12.0
    assert fg.compile(fg.grad(f))(1.0) == 12.0


def test_mixed_modes_agree():
    f = lambda x: np.exp(np.sin(x)) / (1 + x**2)
    orders = [a(b(f))(0.7) for a in (fg.grad, fg.derivative) for b in (fg.grad, fg.derivative)]
    np.testing.assert_allclose(orders, orders[0], rtol=1e-13)


# ---- Python --------------------------------------------------------------------------------------------------------


def test_branches_and_loops_go_by_values():
    def f(x):
        n = 0
        while x < 100:
            x, n = x * 3, n + 1
        return x**2 if n % 2 else -x

    assert fg.derivative(f)(2.0) == -81.0
    assert fg.derivative(f)(10.0) == 2 * 27.0 * 270.0
    assert fg.grad(lambda x: sum(v * i for i, v in enumerate(x)))([1.0, 2.0, 3.0]) == [0.0, 1.0, 2.0]
    np.testing.assert_array_equal(fg.grad(lambda x: max(x) + min(x))(np.array([3.0, 1.0, 2.0])), [1, 1, 0])
    np.testing.assert_array_equal(fg.grad(lambda x: sum(x[i] ** 2 for i in range(len(x))))(X[0]), 2 * X[0])
    np.testing.assert_array_equal(fg.grad(lambda x: sorted(x)[1])(np.array([3.0, 1.0, 2.0])), [0, 0, 1])


def test_values_can_be_printed(capsys):
    def f(x):
        y = x**2
        print(f"{y:.3f}", y)
        return y

    assert fg.grad(f)(3.0) == 6.0
    assert capsys.readouterr().out.startswith("9.000 9.0")


def test_traced_values_look_like_arrays():
    def f(x):
        assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2, 3), 2, 6, np.float64, 2)
        assert x.T.shape == (3, 2) and x[0].shape == (3,) and x[:, None, 1].shape == (2, 1)
        assert np.shape(x) == (2, 3) and np.ndim(x) == 2 and np.size(x) == 6
        assert np.shape(x.sum().item()) == () and [row.shape for row in x] == [(3,), (3,)]
        assert np.shape(x.reshape(-1).tolist()[2]) == ()
        assert 17.0 not in x
        assert not np.any(x == None) and np.all(x != "a")  # noqa: E711
        return (x.sum() + x.mean() + x.max() + x.min(axis=0).sum() + x.prod() + x.std() + x.dot(x.T).trace()
                + abs(x).sum() + (-x + +x).sum() + (x % 2.0).sum() + (2.0 // x).sum() + x.clip(-1, 1).sum())

    fg.check_grads(f, X + 0.1)


def test_indexing():
    i, mask = np.array([[0, 1], [1, 0]]), X > 0.3
    for key in (0, -1, slice(None, None, -1), (1, 2), (slice(None), 1), ..., None, (..., 0), (0, [0, 2, 2]), i, mask,
                ([0, 1, 1], [2, 0, 0]), (slice(None), [True, False, True]), np.int64(1), [], (None, slice(0, 1), None,
                                                                                              -1)):
        fg.check_grads(lambda x: x[key] ** 2, X)
        np.testing.assert_array_equal(fg.compile(lambda x: x[key])(X), X[key])
    fg.check_grads(lambda x: x[x > 0.3] ** 2, X)
    fg.check_grads(lambda x: x[np.argsort(x[:, 0])] * X, X)
    with pytest.raises(IndexError):
        fg.grad(lambda x: x[5, 0])(X)
    with pytest.raises(TypeError, match="index array must hold integers or bools, got dtype float64"):
        fg.grad(lambda x: x[x])(X[0])


def test_float32_goes_through_with_pythons_numbers_and_not_with_float64():
    x = X.astype(np.float32)
    assert fg.grad(lambda x: np.sum(2.0 * x**2 + 1))(x).dtype == np.float32
    value, gradient = fg.value_and_grad(lambda x: np.sum(np.float64(2.0) * x))(x)
    assert type(value) is float and gradient.dtype == np.float32
    step = fg.compile(lambda x, lr: x - lr * x)
    assert step(x, 0.1).dtype == np.float32
    assert step(x, np.float64(0.1)).dtype == np.float64
    assert fg.derivative(lambda t: np.sum(t * x))(2.0) == pytest.approx(float(np.sum(x)))
    fg.check_grads(lambda x: np.tanh(x) @ x.T, x)


# ---- compile ---------------------------------------------------------------------------------------------------------


def test_compiled_functions_are_traced_once_for_each_kind_of_arguments():
    calls = []

    @fg.compile
    def f(x, n=2):
        """Doc."""
        calls.append(1)
        return np.sum(x**n)

    assert f.__name__ == "f" and f.__doc__ == "Doc."
    for x in (X, X + 1, 2 * X):
        assert f(x) == pytest.approx(np.sum(x**2))
    assert len(calls) == f.n_traces == 1
    f(X[0])
    f(X.astype(np.float32))
    f(X, 3)
    assert f(X, n=3) == pytest.approx(np.sum(X**3))
    assert len(calls) == f.n_traces == 5
    assert f(X, 3) == pytest.approx(np.sum(X**3))
    assert len(calls) == 5


def test_compiled_functions_refuse_branches_on_values():
    v = np.array([1.0, 2.0])
    for f, x in ((lambda x: x if x > 0 else -x, 1.0), (lambda x: x[int(x[0])], v), (lambda x: x * round(x), 1.0),
                 (lambda x: x[x > 0], v), (lambda x: x[np.nonzero(x)], v), (lambda x: max(x), v),
                 (lambda x: x if np.all(x > 0) else -x, v)):
        with pytest.raises(TraceError, match=r"depends on a value.*np\.where"):
            fg.compile(f)(x)
        fg.grad(lambda x: np.sum(f(x)))(x)
    relu = fg.compile(fg.grad(lambda x: np.sum(np.where(x > 0, x, 0.0))))
    np.testing.assert_array_equal(relu(X), X > 0)


def test_compiled_functions_work_in_functions_that_are_traced():
    f = fg.compile(lambda x: np.sum(x**2))
    np.testing.assert_array_equal(fg.grad(f)(X), 2 * X)
    np.testing.assert_array_equal(fg.compile(fg.grad(f))(X), 2 * X)
    np.testing.assert_array_equal(fg.compile(fg.compile(fg.grad(f)))(X), 2 * X)


def test_compiled_functions_return_any_structure_and_what_is_not_traced():
    f = fg.compile(lambda x, name: {"y": [x * 2, 3], "name": name, "x": x, "z": np.ones(2)})
    out = f(X, "n")
    np.testing.assert_array_equal(out["y"][0], 2 * X)
    assert out["y"][1] == 3 and out["name"] == "n"
    assert not np.shares_memory(out["x"], X)
    out["x"][:] = 0
    out["z"][:] = 0
    np.testing.assert_array_equal(f(X, "n")["z"], np.ones(2))


def test_compiled_functions_run_in_threads():
    f = fg.compile(fg.value_and_grad(lambda x: np.sum(np.exp(-x * x) * np.sin(x))))
    inputs = [np.full(1000, t / 10) for t in range(8)]
    expected = [fg.value_and_grad(lambda x: np.sum(np.exp(-x * x) * np.sin(x)))(x) for x in inputs]
    results = [[] for _ in inputs]

    def work(i):
        for _ in range(50):
            results[i].append(f(inputs[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, (value, gradient) in zip(results, expected, strict=True):
        assert len(got) == 50
        for v, g in got:
            assert v == pytest.approx(value, rel=1e-13)
            np.testing.assert_allclose(g, gradient, rtol=1e-13)


def test_compiled_functions_look_at_their_arguments():
    f = fg.compile(lambda x: x)
    for x, message in ((np.ones(2, complex), "complex128"), (np.array([None]), "object"), ({1, 2}, "got set"),
                       (np.ma.masked_less(np.ones(2), 0), "masked"), (np.ones(2, ">f8"), ">f8")):
        with pytest.raises(TypeError, match=message):
            f(x)
    assert f(np.array([True, False])).dtype == bool and f(np.arange(3)).dtype == np.arange(3).dtype


def test_methods_can_be_compiled():
    class Model:
        scale = 2.0

        @fg.compile
        def loss(self, x):
            return np.sum(self.scale * x)

    assert Model().loss(X) == pytest.approx(2 * np.sum(X))


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("f", "message"), [
    (lambda x: np.fft.fft(x), r"fastgd has no derivative of np\.fft\.fft"),
    (lambda x: np.interp(0.5, x, x), r"fastgd has no derivative of np\.interp"),
    (lambda x: np.nextafter(x, 1.0), r"fastgd has no derivative of np\.nextafter"),
    (lambda x: x * np.ma.masked_less(np.ones(3), 0), "masked array"),
    (lambda x: np.searchsorted(x, x, sorter=np.arange(3)),
     r"np\.searchsorted of a traced value takes no array as sorter="),
    (lambda x: special.j0(x), r"fastgd has no derivative of the ufunc j0"),
    (lambda x: np.frompyfunc(math.sin, 1, 1)(x), r"fastgd has no derivative of the ufunc sin"),
    (lambda x: np.multiply.accumulate(x), r"fastgd has no derivative of np\.multiply\.accumulate"),
    (lambda x: math.sin(x[0]), r"np\.sin instead of math\.sin"),
    (lambda x: float(x[0]), "would cut the derivative"),
    (lambda x: x.__setitem__(0, 1.0), r"cannot be written into.*np\.where"),
    (lambda x: np.zeros(3).__iadd__(x), r"np\.add writes into an array"),
    (lambda x: np.exp(x, out=np.zeros(3)), r"np\.exp writes into an array"),
    (lambda x: np.sum(x, out=np.zeros(())), r"np\.sum of a traced value takes no out="),
    (lambda x: np.exp(x, where=[True, False, True]), r"np\.exp of a traced value takes no where"),
    (lambda x: np.array([x[0], x[1]]), r"np\.stack"),
    (lambda x: np.asarray(x), r"np\.stack"),
    (lambda x: x * 1j, "real numbers"),
    (lambda x: x + np.array([1j] * 3), "dtype complex128"),
    (lambda x: x.astype(complex), "cannot have dtype complex128"),
    (lambda x: x.astype(object), "cannot have dtype object"),
    (lambda x: x + np.array([None] * 3), "dtype object"),
    (lambda x: x + "a", "no number"),
    (lambda x: x + None, "no number"),
    (lambda x: np.einsum("i,i,i", x, x, x), "one or two operands, got 3"),
    (lambda x: np.linalg.norm(x.reshape(1, 3), 2), r"ord=None or 'fro'"),
    (lambda x: np.linalg.norm(x, 0), r"takes ord None, 'fro', a positive number or ±inf, got 0"),
    (lambda x: x.fill(0.0), r"np\.full_like"),
    (lambda x: x.sort(), r"np\.sort"),
    (lambda x: x & 1, "bitwise_and is not defined on values of type float64, int"),
    (lambda x: np.linalg.qr(x.reshape(1, 3)), r"np\.linalg\.qr"),
])
def test_what_has_no_derivative_says_so_by_name(f, message):
    with pytest.raises(TypeError, match=message):
        fg.grad(lambda x: np.sum(f(x)))(np.array([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(("x", "message"), [
    (np.array([1, 2]), "argument 0 of f must be float32 or float64 to have a derivative, got dtype int64"),
    ({"a": [np.ones(2), np.arange(3)]}, r"argument 0 of f\['a'\]\[1\] must be float32 or float64.*int64"),
    (np.ones(2, complex), "got dtype complex128"),
    (np.ones(2, np.float16), "got dtype float16"),
    (np.ones(2, ">f8"), "got dtype >f8"),
    (np.ma.masked_less(np.ones(2), 0), "argument 0 of f is a masked array"),
    (True, "argument 0 of f must be a number, an array, or a list, tuple or dict of these, got bool"),
    ("abc", "got str"),
    (None, "got NoneType"),
])
def test_arguments_without_derivative_are_named(x, message):
    def f(_):
        return 1.0

    for transform in (fg.grad, fg.value_and_grad, fg.jacobian):
        with pytest.raises(TypeError, match=message):
            transform(f)(x)


def test_gradients_are_of_numbers():
    def f(x):
        return x**2

    with pytest.raises(TypeError, match=r"f must return a number to have a gradient, got shape \(2, 3\).*jacobian"):
        fg.grad(f)(X)
    for result, what in (((1.0, 2.0), "tuple"), (None, "NoneType"), ({"a": 1.0}, "dict")):
        with pytest.raises(TypeError, match=f"must return a number or an array, got {what}"):
            fg.grad(lambda x: result)(X)


def test_traced_values_that_escape_are_refused():
    kept = []
    fg.grad(lambda x: kept.append(x) or np.sum(x))(X)
    for f in (lambda: kept[0] + 1, lambda: np.sum(kept[0]), lambda: bool(kept[0][0, 0] > 0),
              lambda: fg.grad(lambda x: np.sum(x * kept[0]))(X), lambda: fg.grad(np.sum)(kept[0])):
        with pytest.raises(TraceError, match="outside the call"):
            f()
    assert repr(kept[0]) == "Traced(shape=(2, 3), dtype=float64)"


def test_a_trace_leaves_nothing_behind():
    class Watched(np.ndarray):
        pass

    gc.disable()
    try:
        x = np.ones(100_000).view(Watched)
        alive = weakref.ref(x)
        fg.grad(lambda v, constant=x: np.sum(v * constant))(np.ones(100_000))
        fg.grad(lambda v: np.sum(v * v))(x)
        del x
        assert alive() is None
    finally:
        gc.enable()


def test_errors_within_a_function_do_not_disturb_later_calls():
    def f(_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fg.grad(f)(1.0)
    assert fg.grad(chain)(2.0) == 476.0


def test_arrays_that_change_while_a_function_runs():
    def f(x):
        weights, total = np.zeros(3), 0.0
        for i in range(3):
            weights[:] = 0
            weights[i] = i + 1
            total = total + np.sum(weights * x)
        return total

    np.testing.assert_array_equal(fg.grad(f)(np.ones(3)), [1, 2, 3])


@pytest.mark.parametrize("shape", [(100_000,), (400, 500), (3, 200_000), (200_000, 3), (20, 20, 20, 20)])
def test_large_arrays_that_change_while_a_function_runs_are_refused(shape):
    def f(x):
        weights, total = np.zeros(shape), 0.0
        for i in range(3):
            weights[:] = i + 1
            total = total + np.sum(weights * x)
        return total

    for call in (fg.grad(f), fg.compile(f)):
        with pytest.raises(TraceError, match="was written into after the function had used it"):
            call(1.0)


# ---- check_grads -----------------------------------------------------------------------------------------------------


def test_check_grads_of_large_and_of_structured_arguments():
    fg.check_grads(lambda x: np.sum(np.tanh(x)), np.linspace(-2, 2, 100_000))
    fg.check_grads(lambda x: np.tanh(x) ** 2, np.linspace(-2, 2, 100_000, dtype=np.float32))
    fg.check_grads(lambda p, n, q: p["w"] ** n * q[0], {"w": X}, 3, (2.0, X))
    fg.check_grads(lambda x: {"a": x**2, "b": [np.sin(x), 1.0]}, 0.3)
    fg.check_grads(lambda x: x**5, 0.0)


def test_check_grads_finds_wrong_second_derivatives(monkeypatch):
    from fastgd import _rules

    def wrong(g, _, x):
        return g * np.where(x > 1e9, 0.0, np.cos(fg.autodiff.p.stop_gradient(x)))

    monkeypatch.setitem(_rules.ELEMENTWISE_RULES, "sin", (wrong,))
    fg.check_grads(np.sin, X, order=1)
    for mode in ("forward", "reverse"):
        with pytest.raises(DerivativeError, match=f"{mode} of {mode}: the derivative along a random direction is 0"):
            fg.check_grads(np.sin, X, modes=[mode])


def test_check_grads_looks_at_its_arguments():
    with pytest.raises(TypeError, match="needs an argument of floats"):
        fg.check_grads(lambda n: n, 3)
    with pytest.raises(ValueError, match="order must be 1 or 2, got 3"):
        fg.check_grads(np.sin, 1.0, order=3)
    with pytest.raises(ValueError, match="modes must be one of 'forward', 'reverse'; got 'sideways'"):
        fg.check_grads(np.sin, 1.0, modes=["sideways"])
    with pytest.raises(TypeError, match=r"argument 0 of .*\[1\] must be float32 or float64.*int64"):
        fg.check_grads(lambda p: p[0], [1.0, np.arange(3)])
    with pytest.raises(ValueError, match="rtol"):
        fg.check_grads(np.sin, 1.0, rtol=-1.0)
    with pytest.raises(DerivativeError):
        fg.check_grads(lambda x: np.floor(1e3 * x), 0.5)
