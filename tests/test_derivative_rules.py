"""Every NumPy function in the table of derivatives, with broadcasting, against difference quotients and NumPy itself.

The tests run over the table that the code uses: a function without an example here fails.
"""

import warnings

import numpy as np
import pytest
from scipy import special

import fastgd as fg
from fastgd._supported import as_markdown, supported
from fastgd.errors import DerivativeError

RNG = np.random.default_rng(7)
TABLE = {entry.name: entry for entry in supported()}


def between(low, high, *shape):
    return RNG.uniform(low, high, size=shape)


def apart(*shape):
    """Numbers of which no two are near each other, or near an integer or a half."""
    n = int(np.prod(shape))
    return (RNG.permutation(n).reshape(shape) - n // 2) * 0.5 + between(0.1, 0.4, *shape)


# ---- element by element ----------------------------------------------------------------------------------------------

#: The interval that an operand is drawn from, where it is not (-2, 2).
DOMAINS = {
    "np.arccos": (-0.9, 0.9), "np.arcsin": (-0.9, 0.9), "np.arctanh": (-0.9, 0.9), "np.arccosh": (1.2, 3),
    "np.log": (0.2, 3), "np.log2": (0.2, 3), "np.log10": (0.2, 3), "np.log1p": (-0.7, 3), "np.sqrt": (0.2, 3),
    "np.cbrt": (0.2, 3), "np.reciprocal": (0.4, 3), "np.tan": (-1.2, 1.2), "np.power": (0.3,
                                                                                        2), "np.float_power": (0.3, 2),
    "np.divide": (0.4, 3), "np.remainder": (0.4, 3), "np.fmod": (0.4, 3), "np.absolute": (0.3, 2), "np.fabs": (0.3, 2),
    "np.floor_divide": (0.4, 3), "scipy.special.xlogy": (0.3, 2),
}
SHAPES = [((3, 1), (4,)), ((), (2, 3)), ((2, 1, 4), (3, 1)), ((5,), (5,)), ((0, 3), (1, 3))]
UFUNCS = [
    entry._replace(function=getattr(special,
                                    entry.name.rpartition(".")[2])) if entry.name.startswith("scipy") else entry
    for entry in TABLE.values() if entry.elementwise and (entry.function is None or isinstance(entry.function,
                                                                                               np.ufunc))
]


def operands(entry, shapes):
    low, high = DOMAINS.get(entry.name, (-2, 2))
    drawn = [between(low, high, *shape) for shape in shapes]
    if entry.name in ("np.remainder", "np.fmod"):
        drawn[0] = (np.floor(drawn[0]) + 0.37) * drawn[1]       # far from the jumps
    return drawn


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("entry", [e for e in UFUNCS if e.derivative == "derivative"], ids=lambda e: e.name)
def test_ufuncs_have_first_and_second_derivatives_with_broadcasting(entry, shapes):
    ufunc = entry.function
    if ufunc.nin == 1:
        x, other = operands(entry, shapes)
        fg.check_grads(lambda x, y: ufunc(x) * y, x, other)
        gradient = fg.grad(lambda x: np.sum(ufunc(x) * other))(x)
        assert np.shape(gradient) == x.shape
    else:
        x, y = operands(entry, shapes)
        fg.check_grads(ufunc, x, y)
        for i, gradient in enumerate(fg.grad(lambda x, y: np.sum(ufunc(x, y)), argnums=(0, 1))(x, y)):
            assert np.shape(gradient) == (x, y)[i].shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("entry", UFUNCS, ids=lambda e: e.name)
def test_traced_ufuncs_have_numpys_values_and_dtypes(entry, dtype):
    if entry.name in ("np.bitwise_and", "np.bitwise_or", "np.bitwise_xor", "np.invert"):
        args = [between(-1, 1, *shape) > 0 for shape in SHAPES[0]]
    else:
        args = [np.asarray(x, dtype) for x in operands(entry, SHAPES[0])]
    args = args[: entry.function.nin]
    got, expected = fg.compile(lambda *args: entry.function(*args))(*args), entry.function(*args)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("entry", [e for e in UFUNCS if e.derivative == "zero"], ids=lambda e: e.name)
def test_steps_have_derivative_zero(entry):
    args = [np.asarray(x) for x in operands(entry, SHAPES[0])][: entry.function.nin]
    for i, x in enumerate(args):
        gradient = fg.grad(lambda *args: np.sum(entry.function(*args)), argnums=i)(*args)
        np.testing.assert_array_equal(gradient, np.zeros_like(x))


@pytest.mark.parametrize("entry", [e for e in UFUNCS if e.derivative == "none"], ids=lambda e: e.name)
def test_comparisons_choose_and_have_no_derivative(entry):
    if entry.name in ("np.bitwise_and", "np.bitwise_or", "np.bitwise_xor", "np.invert"):
        condition = lambda *x: entry.function(*(y > 0 for y in x))
    else:
        condition = entry.function
    args = operands(entry, SHAPES[0])[: entry.function.nin]
    fg.check_grads(lambda *args: np.where(condition(*args), args[0] ** 2, 3.0 * args[0]), *args)


# ---- whole arrays ----------------------------------------------------------------------------------------------------

M, V, T3 = apart(3, 4), apart(4), apart(2, 3, 4)
SQUARE = np.eye(3) * 3 + between(-1, 1, 3, 3)
MASK = np.array([[True, False, True, False], [False, True, True, False], [True, True, False, False]])

#: By name: functions of an array of the second entry. Each is checked as it is, and composed with a square.
EXAMPLES = {
    "np.where": [(lambda x: np.where(MASK, x, V), M), (lambda x: np.where(x > 0, x, x**2), M),
                 (lambda x: np.where(MASK, 1.0, x[0]), M)],
    "np.clip": [(lambda x: np.clip(x, -1, 1), M), (lambda x: np.clip(x, None, V), M), (lambda x: x.clip(min=0), M),
                (lambda x: np.clip(M, x, x + 1), V)],
    "np.sinc": [(lambda x: np.sinc(x) * V, M), (lambda x: np.sinc(0.01 * x), M)],
    "np.select": [(lambda x: np.select([x > 1, x < -1], [x**2, V * x], 5.0), M)],
    "np.nan_to_num": [(lambda x: np.nan_to_num(x), M)],
    "np.add.reduce": [(lambda x: np.add.reduce(x), M), (lambda x: np.add.reduce(x, axis=1, keepdims=True), M)],
    "np.append": [(lambda x: np.append(x, V), M), (lambda x: np.append(x, M[:1], axis=0), M)],
    "np.array_split": [(lambda x: np.array_split(x, 3, axis=1)[0], M), (lambda x: np.array_split(x, [1, 3])[1], V)],
    "np.atleast_1d": [(lambda x: np.atleast_1d(x), M), (lambda x: np.atleast_1d(x[0], x[1, 1])[1], M)],
    "np.atleast_2d": [(lambda x: np.atleast_2d(x), V)],
    "np.average": [(lambda x: np.average(x, axis=0, weights=[1, 2, 3]), M), (lambda x: np.average(x, weights=M**2), M),
                   (lambda x: np.average(M, axis=1, weights=x**2), V), (lambda x: np.average(x, axis=1), M)],
    "np.broadcast_to": [(lambda x: np.broadcast_to(x, (3, 4)), V), (lambda x: np.broadcast_to(x, (2, 3, 4)), M[:, :1])],
    "np.column_stack": [(lambda x: np.column_stack([x, x**2, M.T]), V)],
    "np.concatenate": [(lambda x: np.concatenate([x, M, x**2]), M),
                       (lambda x: np.concatenate([x, V[None, :]], axis=None), M),
                       (lambda x: np.concatenate([M, x], axis=-1), M)],
    "np.copy": [(lambda x: np.copy(x), M), (lambda x: x.copy(), M)],
    "np.cumprod": [(lambda x: np.cumprod(x, axis=1), M / 4), (lambda x: np.cumprod(x), V)],
    "np.cumsum": [(lambda x: np.cumsum(x), M), (lambda x: x.cumsum(axis=-1), T3)],
    "np.diag": [(lambda x: np.diag(x), V), (lambda x: np.diag(x, k=1), M), (lambda x: np.diag(x, -2), V)],
    "np.diagonal": [(lambda x: np.diagonal(x, 1, 1, 2), T3), (lambda x: x.diagonal(), M)],
    "np.diff": [(lambda x: np.diff(x), M), (lambda x: np.diff(x, 2, axis=0), M)],
    "np.dot": [(lambda x: np.dot(x, V), M), (lambda x: x.dot(x), V), (lambda x: np.dot(x, 2.5), V),
               (lambda x: np.dot(T3, x.T), M), (lambda x: np.dot(x, T3.swapaxes(1, 2)), M)],
    "np.einsum": [(lambda x: np.einsum("ij,kj->ik", x, M), M), (lambda x: np.einsum("ij,ij", x, x), M),
                  (lambda x: np.einsum("...j,j->...", T3, x), V), (lambda x: np.einsum("ij->j", x), M),
                  (lambda x: np.einsum("ii->i", x @ x.T), M), (lambda x: np.einsum("i,jk->kij", x, M), V),
                  (lambda x: np.einsum("bij,bjk->bik", x, T3.swapaxes(1, 2)), T3),
                  (lambda x: np.einsum("bij,b->ij", x, V[:2]), T3), (lambda x: np.einsum("ij", x), M)],
    "np.expand_dims": [(lambda x: np.expand_dims(x, (0, 2)), M)],
    "np.flip": [(lambda x: np.flip(x), M), (lambda x: np.flip(x, 1), M)],
    "np.fliplr": [(lambda x: np.fliplr(x), M)],
    "np.flipud": [(lambda x: np.flipud(x), M)],
    "np.full_like": [(lambda x: np.full_like(x, x[0, 0]), M)],
    "np.hstack": [(lambda x: np.hstack([x, V]), V), (lambda x: np.hstack([M, x]), M)],
    "np.inner": [(lambda x: np.inner(x, M), M), (lambda x: np.inner(x, V), V)],
    "np.linalg.cholesky": [(lambda x: np.linalg.cholesky(x @ x.T), SQUARE),
                           (lambda x: np.linalg.cholesky(x + x.swapaxes(-1, -2), upper=True)[..., 0, :],
                            np.stack([SQUARE, SQUARE * 2]))],
    "np.linalg.det": [(lambda x: np.linalg.det(x), SQUARE),
                      (lambda x: np.linalg.det(x), np.stack([SQUARE, SQUARE.T / 2]))],
    "np.linalg.inv": [(lambda x: np.linalg.inv(x), SQUARE),
                      (lambda x: np.linalg.inv(x), np.stack([SQUARE, SQUARE.T / 2]))],
    "np.linalg.norm": [(lambda x: np.linalg.norm(x), M), (lambda x: np.linalg.norm(x, axis=1), M),
                       (lambda x: np.linalg.norm(x, 1),
                        V), (lambda x: np.linalg.norm(x, np.inf, axis=0, keepdims=True), M),
                       (lambda x: np.linalg.norm(x, 3, axis=-1), M), (lambda x: np.linalg.norm(x, "fro"), M),
                       (lambda x: np.linalg.norm(x, axis=(1, 2)), T3)],
    "np.linalg.slogdet": [(lambda x: np.linalg.slogdet(x)[1], SQUARE),
                          (lambda x: np.linalg.slogdet(x).sign * x, SQUARE)],
    "np.linalg.solve": [(lambda x: np.linalg.solve(x, V[:3]), SQUARE), (lambda x: np.linalg.solve(SQUARE, x), M),
                        (lambda x: np.linalg.solve(x, x.T), SQUARE)],
    "np.logaddexp.reduce": [(lambda x: np.logaddexp.reduce(x, axis=1), M), (lambda x: np.logaddexp.reduce(x), V)],
    "np.logaddexp2.reduce": [(lambda x: np.logaddexp2.reduce(x, axis=0), M)],
    "np.matmul": [(lambda x: x @ V, M), (lambda x: V @ x.T, M), (lambda x: x @ x, V), (lambda x: T3 @ x.T, M),
                  (lambda x: x @ M.T, T3), (lambda x: M[0] @ np.swapaxes(x, 1, 2), T3)],
    "np.max": [(lambda x: np.max(x, axis=0), M), (lambda x: x.max(), M),
               (lambda x: x.max(axis=(0, 2), keepdims=True), T3)],
    "np.maximum.reduce": [(lambda x: np.maximum.reduce(x), M)],
    "np.mean": [(lambda x: np.mean(x, axis=0), M), (lambda x: x.mean(), M),
                (lambda x: x.mean((0, 2), keepdims=True), T3)],
    "np.median": [(lambda x: np.median(x, axis=1), M), (lambda x: np.median(x), V[:3])],
    "np.min": [(lambda x: np.min(x, axis=-1), M), (lambda x: x.min(axis=1), T3)],
    "np.minimum.reduce": [(lambda x: np.minimum.reduce(x), M)],
    "np.moveaxis": [(lambda x: np.moveaxis(x, 0, -1), T3), (lambda x: np.moveaxis(x, (0, 1), (1, 2)), T3)],
    "np.multiply.reduce": [(lambda x: np.multiply.reduce(x), M)],
    "np.nanmean": [(lambda x: np.nanmean(x, axis=0), M)],
    "np.nansum": [(lambda x: np.nansum(np.where(MASK, x, np.nan), axis=0), M)],
    "np.outer": [(lambda x: np.outer(x, V), M), (lambda x: np.outer(M, x), V)],
    "np.polyval": [(lambda x: np.polyval([1.0, 2.0, -3.0], x), M), (lambda x: np.polyval(x, 1.3), V)],
    "np.prod": [(lambda x: np.prod(x, axis=1), M), (lambda x: x.prod(), V), (lambda x: np.prod(x, axis=(0, 2)), T3 / 3),
                (lambda x: np.prod(x, axis=1), np.where(MASK, M, 0.0))],
    "np.ptp": [(lambda x: np.ptp(x, axis=0), M)],
    "np.ravel": [(lambda x: np.ravel(x), M), (lambda x: x.flatten(), M), (lambda x: np.ravel(x, "F"), M)],
    "np.real": [(lambda x: np.real(x), M)],
    "np.repeat": [(lambda x: np.repeat(x, 3), M), (lambda x: np.repeat(x, [1, 0, 2], axis=0), M)],
    "np.reshape": [(lambda x: np.reshape(x, (4, -1)), M), (lambda x: x.reshape(2, 6), M),
                   (lambda x: x.reshape((12,), order="F"), M)],
    "np.roll": [(lambda x: np.roll(x, 2), M), (lambda x: np.roll(x, (1, -1), (0, 1)), M),
                (lambda x: np.roll(x, 1, (0, 1)), M)],
    "np.round": [(lambda x: np.round(x, 0), M)],
    "np.sort": [(lambda x: np.sort(x, axis=0), M), (lambda x: np.sort(x), M), (lambda x: np.sort(x, axis=None), M)],
    "np.split": [(lambda x: np.split(x, 2, axis=1)[1], M), (lambda x: np.split(x, [1])[0], M)],
    "np.squeeze": [(lambda x: np.squeeze(x[None, :, None]), M), (lambda x: x[:, None].squeeze(axis=1), M)],
    "np.stack": [(lambda x: np.stack([x, V, x**2], axis=1), V), (lambda x: np.stack([x[0], 2.0, x[1]]), V)],
    "np.std": [(lambda x: np.std(x, axis=0), M), (lambda x: x.std(ddof=1), M)],
    "np.sum": [(lambda x: np.sum(x), M), (lambda x: x.sum(axis=(0, 2), keepdims=True), T3),
               (lambda x: np.sum(x, axis=-1), M),
               (lambda x: np.sum(x, where=MASK, axis=0), M)],
    "np.swapaxes": [(lambda x: np.swapaxes(x, 0, -1), T3)],
    "np.take": [(lambda x: np.take(x, [0, 2, 2], axis=1), M), (lambda x: np.take(x, [[0, 5], [5, 1]]), M),
                (lambda x: x.take(1), V)],
    "np.take_along_axis": [(lambda x: np.take_along_axis(x, np.argsort(M, axis=1), axis=1), M)],
    "np.tensordot": [(lambda x: np.tensordot(x, T3, axes=([0, 1], [1, 2])), M),
                     (lambda x: np.tensordot(T3, x.T, 1), M)],
    "np.tile": [(lambda x: np.tile(x, 2), M), (lambda x: np.tile(x, (2, 1, 3)), M)],
    "np.trace": [(lambda x: np.trace(x), M), (lambda x: x.trace(1), M)],
    "np.transpose": [(lambda x: x.T, T3), (lambda x: np.transpose(x, (1, 2, 0)), T3),
                     (lambda x: x.transpose(1, 0, 2), T3)],
    "np.trapezoid": [(lambda x: np.trapezoid(x), M), (lambda x: np.trapezoid(M, x, axis=1), np.sort(V)),
                     (lambda x: np.trapezoid(x, [0.0, 1.0, 3.0], axis=0), M)],
    "np.tril": [(lambda x: np.tril(x, 1), M)],
    "np.triu": [(lambda x: np.triu(x, 1), T3)],
    "np.var": [(lambda x: np.var(x, axis=1), M), (lambda x: x.var(keepdims=True), M), (lambda x: np.var(x, ddof=1), M)],
    "np.vdot": [(lambda x: np.vdot(x, M), M)],
    "np.vstack": [(lambda x: np.vstack([x, M]), V)],
}
EXAMPLES |= {
    "np.all": [(lambda x: np.all(x > 0, axis=0) * 1.0, M)], "np.any": [(lambda x: np.any(x > 0, axis=0) * 1.0, M)],
    "np.allclose": [(lambda x: np.allclose(x, M) * 1.0, M)], "np.isclose": [(lambda x: np.isclose(x, V) * 1.0, M)],
    "np.argmax": [(lambda x: np.argmax(x, axis=1), M)], "np.argmin": [(lambda x: x.argmin(), M)],
    "np.argsort": [(lambda x: np.argsort(x), M)], "np.count_nonzero": [(lambda x: np.count_nonzero(x > 0, axis=1), M)],
    "np.empty_like": [(lambda x: np.empty_like(x) * 0, M)], "np.zeros_like": [(lambda x: np.zeros_like(x), M)],
    "np.ones_like": [(lambda x: np.ones_like(x), M)], "np.ndim": [(lambda x: np.ndim(x), M)],
    "np.shape": [(lambda x: np.stack([*np.shape(x), 0 * x[0, 0]]), M)], "np.size": [(lambda x: np.size(x), M)],
    "np.nonzero": [(lambda x: x[np.nonzero(x > 0)] * 0, M)],
    "np.searchsorted": [(lambda x: np.searchsorted(np.arange(-3.0, 3.0), x), M)],
}
if hasattr(np, "astype"):       # since NumPy 2.1
    EXAMPLES["np.astype"] = [(lambda x: np.astype(x, np.float64), M)]
CASES = [
    pytest.param(TABLE[name], f, x, id=f"{name}-{i}")
    for name, cases in EXAMPLES.items() for i, (f, x) in enumerate(cases)
]


def test_every_function_of_the_table_has_an_example():
    by_hand = set(TABLE) - {entry.name for entry in UFUNCS}
    assert by_hand == set(EXAMPLES)


@pytest.mark.parametrize(("entry", "f", "x"), CASES)
def test_functions_of_arrays_have_numpys_values_and_derivatives(entry, f, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = np.asarray(f(x))
        got = np.asarray(fg.compile(f)(x)) if entry.name not in ("np.nonzero", "np.allclose") else expected
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)
    if entry.derivative == "derivative":
        fg.check_grads(f, x)
        fg.check_grads(lambda x: f(x * x) if entry.name not in NOT_OF_SQUARES else f(x) ** 2, x)
    else:
        np.testing.assert_array_equal(fg.grad(lambda x: np.sum(f(x)))(x), np.zeros_like(x))


#: Their arguments are arranged so that kinks are far away, or matrices regular.
NOT_OF_SQUARES = {"np.sort", "np.median", "np.ptp", "np.max", "np.min", "np.clip", "np.maximum.reduce", "np.trapezoid",
                  "np.minimum.reduce", "np.linalg.norm", "np.linalg.det", "np.linalg.inv", "np.linalg.slogdet",
                  "np.linalg.solve", "np.linalg.cholesky", "np.where", "np.select"}


@pytest.mark.parametrize(("entry", "f", "x"), CASES)
def test_functions_of_float32_stay_float32(entry, f, x):
    assert entry.name in EXAMPLES
    x = x.astype(np.float32)
    gradient = fg.grad(lambda x: np.sum(f(x)))(x)
    assert gradient.dtype == np.float32 and gradient.shape == x.shape


def test_the_list_for_the_documentation_names_all_of_them():
    text = as_markdown()
    assert all(f"`{name}`" in text for name in TABLE)


# ---- values at kinks, ends and infinities ----------------------------------------------------------------------------


def test_ties_of_maximum_and_minimum_are_shared_by_halves():
    for f in (np.maximum, np.minimum, np.fmax, np.fmin):
        assert fg.grad(lambda x, y: f(x, y), argnums=(0, 1))(1.0, 1.0) == (0.5, 0.5)


def test_ties_of_max_and_min_over_axes_share_alike():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    expected = np.array([[0, 1 / 2, 1 / 2], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_array_equal(fg.grad(lambda x: np.sum(np.max(x, axis=1)))(x), expected)


@pytest.mark.parametrize(("f", "x", "expected"), [
    (np.abs, 0.0, 0.0),
    (np.sign, 0.0, 0.0),
    (lambda x: x**2, 0.0, 0.0),
    (lambda x: x**1, 0.0, 1.0),
    (lambda x: x**0, 0.0, 0.0),
    (lambda x: x**3, 0.0, 0.0),
    (lambda x: x**1.5, 0.0, 0.0),
    (lambda x: x**-2, -2.0, 0.25),
    (lambda x: x**3, -2.0, 12.0),
    (lambda x: x**np.array(2.0), 0.0, 0.0),
    (lambda x: x**np.array([0.0, 1.0, 2.0]), 0.0, [0.0, 1.0, 0.0]),
    (lambda x: 0.0**x, 2.0, 0.0),
    (lambda x: 2**x, 3.0, 8 * np.log(2)),
    (np.sqrt, 0.0, np.inf),
    (np.log, 0.0, np.inf),
    (lambda x: np.hypot(x, 0.0), 0.0, 0.0),
    (lambda x: np.clip(x, 0.0, 1.0), 1.0, 1.0),
    (lambda x: np.clip(x, 0.0, 1.0), 1.5, 0.0),
    (lambda x: np.logaddexp(x, 0.0), 1000.0, 1.0),
    (lambda x: np.logaddexp(x, 0.0), -1000.0, 0.0),
    (lambda x: np.logaddexp(x, -np.inf), 1.0, 1.0),
    (np.tanh, 400.0, 0.0),
    (lambda x: np.arctan2(1e200, x), 1e200, -0.5e-200),
    (np.expm1, 1e-20, 1.0),
    (np.log1p, 1e-20, 1.0),
    (lambda x: np.log1p(np.exp(-x)), 40.0, -np.exp(-40.0)),
    (np.sinc, 0.0, 0.0),
])
def test_derivatives_at_the_ends_of_domains(f, x, expected):
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(fg.derivative(f)(x), expected, rtol=1e-14)
        if np.ndim(f(x)) == 0:
            np.testing.assert_allclose(fg.grad(f)(x), expected, rtol=1e-14)


def test_norms_have_gradient_zero_at_zero():
    np.testing.assert_array_equal(fg.grad(np.linalg.norm)(np.zeros(3)), np.zeros(3))
    np.testing.assert_array_equal(fg.grad(lambda x: np.sum(np.linalg.norm(x, axis=1)))(np.zeros((2, 3))),
                                  np.zeros((2, 3)))


def test_the_standard_deviation_of_equal_numbers_has_gradient_zero():
    np.testing.assert_array_equal(fg.grad(np.std)(np.ones(3)), np.zeros(3))


def test_the_gradient_of_cholesky_is_of_the_triangle_that_is_read():
    a = SQUARE @ SQUARE.T
    gradient = fg.grad(lambda a: np.sum(np.linalg.cholesky(a) ** 3))(a)
    step = 1e-6
    for i, j in np.ndindex(3, 3):
        moved = [a + sign * step * np.outer(np.eye(3)[i], np.eye(3)[j]) for sign in (1, -1)]
        up, down = (np.sum(np.linalg.cholesky(b) ** 3) for b in moved)
        assert abs(gradient[i, j] - (up - down) / (2 * step)) < 1e-6 * (1 + abs(gradient[i, j]))


def test_floating_point_errors_are_reported_as_numpys_are():
    for f in (fg.grad(np.sqrt), fg.compile(fg.grad(np.sqrt))):
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            assert f(0.0) == np.inf
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
            f(0.0)


def test_where_keeps_infinities_of_the_side_not_taken_out():
    x = np.array([0.0, 4.0])
    with np.errstate(all="ignore"):
        gradient = fg.grad(lambda x: np.sum(np.where(x > 0, x, 0.0) + np.where(x > 1, 0.0, 1.0 * x)))(x)
    np.testing.assert_array_equal(gradient, [1.0, 1.0])


def test_logsumexp_of_large_and_of_infinite_numbers():
    f = lambda x: np.logaddexp.reduce(x)
    np.testing.assert_array_equal(fg.grad(f)(np.array([1000.0, 1000.0, -np.inf])), [0.5, 0.5, 0.0])


def test_nan_goes_through():
    value, gradient = fg.value_and_grad(lambda x: np.sum(x * x))(np.array([np.nan, 1.0]))
    assert np.isnan(value) and np.isnan(gradient[0]) and gradient[1] == 2.0


def test_check_grads_finds_a_wrong_rule(monkeypatch):
    from fastgd import _rules

    monkeypatch.setitem(_rules.ELEMENTWISE_RULES, "sin", (lambda g, out, x: 1.001 * g * np.cos(x),))
    with pytest.raises(DerivativeError, match=r"forward: the derivative along a random direction is .* apart") as error:
        fg.check_grads(np.sin, M)
    assert abs(error.value.got / error.value.expected - 1.001) < 1e-6
