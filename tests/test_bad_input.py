"""What is refused, and how; what is taken, and that it is left as it was.

A refusal says which argument is wrong, what was expected of it and what came, and leaves everything untouched.
"""

import inspect
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import fastgd as fg

N, D = 20, 3


def shape_of(X):
    return X.shape if hasattr(X, "indptr") else np.shape(X)


def rows(X):
    return shape_of(X)[0] if shape_of(X) else 1


def columns(X):
    return shape_of(X)[1] if len(shape_of(X)) == 2 else D


def step(X, y, w, sample_weight):
    return fg.MSE(X, y, sample_weight).step_(w, 1e-3), w


#: Every entry point that reads arrays. The names of the parameters are those that a message must use.
ENTRIES = {
    "mse": lambda X, y, w: fg.mse(X, y, w),
    "mse_grad": lambda X, y, w: fg.mse_grad(X, y, w),
    "mse_value_and_grad": lambda X, y, w: fg.mse_value_and_grad(X, y, w),
    "MSE.value": lambda X, y, w, sample_weight: fg.MSE(X, y, sample_weight).value(w),
    "MSE.grad": lambda X, y, w, sample_weight: fg.MSE(X, y, sample_weight).grad(w),
    "MSE.value_and_grad": lambda X, y, w, sample_weight: fg.MSE(X, y, sample_weight).value_and_grad(w),
    "MSE.hessp": lambda X, v, sample_weight: fg.MSE(X, np.zeros(rows(X)), sample_weight).hessp(v),
    "MSE.step_": step,
    "MSE.lipschitz": lambda X, sample_weight: fg.MSE(X, np.zeros(rows(X)), sample_weight).lipschitz(),
    "fit(moments)": lambda X, y, w0, sample_weight: (
        fg.fit(X, y, w0=w0, sample_weight=sample_weight, solver="moments").coef
    ),
    "fit(gd)": lambda X, y, w0, sample_weight: (
        fg.fit(X, y, w0=w0, sample_weight=sample_weight, solver="gd", max_iter=2, tol=0).coef
    ),
    "Moments.update": lambda X, y, sample_weight: fg.Moments(columns(X)).update(X, y, sample_weight).fit(l2=0.1).coef,
    "FitResult.predict": lambda X: fitted(columns(X)).predict(X),
}
ARGUMENTS = [(entry, name) for entry, call in ENTRIES.items() for name in inspect.signature(call).parameters]
OPTIONAL = ("sample_weight", "w0")
#: Without what is written to: `step_` takes a writable ndarray of native floats only.
READ = [pair for pair in ARGUMENTS if pair != ("MSE.step_", "w")]


def fitted(n_features, zero=False):
    rng = np.random.default_rng(n_features)
    X = rng.standard_normal((2 * n_features + 3, n_features))
    return fg.fit(X, np.zeros(len(X)) if zero else X.sum(axis=1))


def good(n=N, d=D, seed=0):
    """Arguments of every name, all valid and none alike."""
    rng = np.random.default_rng(seed)
    return {
        "X": rng.standard_normal((n, d)),
        "y": rng.standard_normal(n),
        "w": rng.standard_normal(d),
        "v": rng.standard_normal(d),
        "w0": rng.standard_normal(d + 1),
        "sample_weight": rng.uniform(0.5, 2.0, n),
    }


def call(entry, arguments):
    given = {name: arguments[name] for name in inspect.signature(ENTRIES[entry]).parameters}
    if entry == "MSE.step_" and isinstance(given["w"], np.ndarray):
        given["w"] = given["w"].copy()
    return ENTRIES[entry](**given)


def spoilt(array, value, index):
    """A copy, laid out in memory like the array, with one element replaced."""
    array = array.copy(order="K")
    array[index] = value
    return array


def place(index):
    """An index as messages write it."""
    index = np.atleast_1d(index)
    return str(int(index[0])) if len(index) == 1 else f"({', '.join(map(str, index))})"


def refusal(kind, *words):
    """`pytest.raises` for a message that has all these words, in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(map(re.escape, words)))


# ---- NaN and infinities ----------------------------------------------------------------------------------------------

LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.mark.filterwarnings("error")  # the refusal is all that is said
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("entry", "name"), ARGUMENTS)
def test_nonfinite_element_is_named_wherever_it_is(entry, name, value):
    for n, d in [(1, 1), (2, 1), (5, 3), (20, 8), (9, 17), (7, 40), (5, 70), (3, 130)]:
        arguments = good(n, d)
        array = arguments[name]
        for index in {(0,) * array.ndim, tuple(size // 2 for size in array.shape), tuple(k - 1 for k in array.shape)}:
            with refusal(ValueError, f"{name} holds {value} at index {place(index)}"):
                call(entry, arguments | {name: spoilt(array, value, index)})


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("entry", "name"), READ)
def test_nonfinite_element_is_named_in_every_layout(entry, name, layout, dtype):
    arguments = good(11, 5)
    array = arguments[name]
    index = (7, 2)[: array.ndim] if name in ("X", "y", "sample_weight") else (2,)
    bad = LAYOUTS[layout](spoilt(array.astype(dtype), np.nan, index))
    with refusal(ValueError, f"{name} holds nan at index {place(index)}"):
        call(entry, arguments | {name: bad})


@pytest.fixture(scope="module")
def many_blocks():
    return {d: good(2**23 // (8 * d) + 5, d) for d in (8, 70)}


@pytest.mark.parametrize("d", [8, 70])
@pytest.mark.parametrize(("entry", "name"), [(e, n) for e, n in ARGUMENTS if n in ("X", "y", "sample_weight")])
def test_nonfinite_element_is_named_in_the_last_of_many_blocks(entry, name, d, many_blocks):
    arguments = many_blocks[d]
    array = arguments[name]
    index = tuple(size - 1 for size in array.shape)
    bad = spoilt(array, -np.inf, index)
    layouts = {"C": bad, "float32": bad.astype(np.float32)}
    if name == "X":
        layouts |= {"Fortran": np.asfortranarray(bad), "converted": bad.astype(">f4")}
    for array in layouts.values():
        with refusal(ValueError, f"{name} holds -inf at index {place(index)}"):
            call(entry, arguments | {name: array})


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("entry", [entry for entry, name in ARGUMENTS if name == "sample_weight"])
def test_nonfinite_element_is_named_though_its_weight_is_zero(entry, value):
    for n, d in [(5, 1), (20, 3), (9, 17), (6, 70)]:
        arguments = good(n, d)
        arguments["sample_weight"][3] = 0.0
        for name, index in {"X": (3, d - 1), "y": (3,)}.items():
            if name in inspect.signature(ENTRIES[entry]).parameters:
                with refusal(ValueError, f"{name} holds {value} at index {place(index)}"):
                    call(entry, arguments | {name: spoilt(arguments[name], value, index)})


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("entry", [entry for entry, name in ARGUMENTS if name in ("w", "v")])
def test_nonfinite_element_is_named_though_its_parameter_is_zero(entry, value, dtype, order):
    for n, d in [(5, 1), (20, 3), (40, 8), (9, 17), (6, 130)]:
        arguments = good(n, d) | {"w": np.zeros(d), "v": np.zeros(d)}
        for index in [(n - 1, 0), (n // 2, d - 1)]:
            bad = np.array(spoilt(arguments["X"], value, index), dtype, order=order)
            with refusal(ValueError, f"X holds {value} at index {place(index)}"):
                call(entry, arguments | {"X": bad})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predict_names_a_nonfinite_element_though_its_coefficient_is_zero(value, order):
    for n, d in [(1, 1), (20, 3), (70, 64), (300, 130)]:
        result = fitted(d, zero=True)
        assert not result.coef.any()
        index = (n - 1, d - 1)
        with refusal(ValueError, f"X holds {value} at index {place(index)}"):
            result.predict(np.array(spoilt(good(n, d)["X"], value, index), order=order))


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_first_nonfinite_element_in_row_order_is_named(order):
    arguments = good()
    bad = np.array(arguments["X"], order=order)
    bad[5, 2], bad[7, 0], bad[9, 1] = -np.inf, np.nan, np.inf
    for entry in ENTRIES:
        with refusal(ValueError, "X holds -inf at index (5, 2)"):
            call(entry, arguments | {"X": bad})


def test_what_becomes_nonfinite_later_is_named():
    arguments = good()
    p = fg.MSE(arguments["X"], arguments["y"], arguments["sample_weight"])
    p.value(arguments["w"])
    for name, index in {"X": (4, 1), "y": (6,), "sample_weight": (8,)}.items():
        before = arguments[name][index]
        arguments[name][index] = np.nan
        for method in (p.value, p.grad, p.value_and_grad, lambda w: p.step_(w, 0.1)):
            with refusal(ValueError, f"{name} holds nan at index {place(index)}"):
                method(arguments["w"])
        arguments[name][index] = before
    assert np.isfinite(p.value(arguments["w"]))


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("entry", ENTRIES)
def test_finite_input_that_overflows_is_not_taken_for_a_nonfinite_one(entry, dtype):
    """It comes out as an infinity, or as an error that speaks of overflow or divergence: no element is to blame."""
    largest = float(np.finfo(dtype).max)
    for n, d in [(20, 3), (9, 17), (6, 130)]:
        arguments = good(n, d)
        for name in ("X", "y"):
            if name not in inspect.signature(ENTRIES[entry]).parameters:
                continue
            huge = np.empty(arguments[name].shape, dtype)
            huge[:] = 0.9 * largest
            huge[::2] *= -1
            try:
                result = call(entry, arguments | {name: huge})
            except (OverflowError, fg.DivergenceError) as error:
                assert "overflow" in str(error) or "diverge" in str(error)
            else:
                result = result[0] if isinstance(result, tuple) else result
                # In float32 the sums may fit the doubles that carry them.
                assert dtype == np.float32 or not np.isfinite(result).all()


def test_overflow_of_the_loss_is_infinity():
    arguments = good()
    huge = 1e200 * np.abs(arguments["X"])
    assert fg.mse(huge, arguments["y"], np.ones(D)) == np.inf
    assert fg.MSE(huge, arguments["y"]).value(np.ones(D)) == np.inf
    assert fg.mse(huge.astype(">f8"), arguments["y"], np.ones(D)) == np.inf


@pytest.mark.parametrize("solver", ["moments", "cg", "gd", "fista", "sgd", "saga"])
def test_squares_that_overflow_are_an_error_and_no_warning_beside_it(solver):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 3)), rng.standard_normal(300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(OverflowError, match="scale the data down"):
            fg.fit(X, 1e160 * y, solver=solver)


@pytest.mark.parametrize("solver", ["cg", "gd", "fista", "sgd", "saga"])
@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_a_gradient_whose_square_overflows_has_a_length(solver, l2):
    rng = np.random.default_rng(0)
    X, y = 1e3 * rng.standard_normal((300, 3)), rng.standard_normal(300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", fg.ConvergenceWarning)
        r, same = (fg.fit(X, y * scale, solver=solver, l2=l2, max_iter=2) for scale in (1e152, 1.0))
    norms = r.history["grad_norm"]
    assert 1e154 < norms[0] < np.inf
    np.testing.assert_allclose(norms[0], 1e152 * same.history["grad_norm"][0], rtol=1e-12)


# ---- dtypes ----------------------------------------------------------------------------------------------------------


class NotAnArray:
    pass


#: What is no array of real numbers -> (how to make it of one that is, what the message says of it).
WRONG_KINDS = {
    "object": (lambda a: a.astype(object), "object"),
    "complex": (lambda a: a.astype(complex), "complex128"),
    "strings": (lambda a: a.astype(str), "<U"),
    "bytes": (lambda a: a.astype("S8"), "S8"),
    "datetimes": (lambda a: a.astype(int).astype("datetime64[s]"), "datetime64"),
    "time spans": (lambda a: a.astype(int).astype("timedelta64[s]"), "timedelta64"),
    "records": (lambda a: np.zeros(a.shape, [("a", float)]), "[('a', '<f8')]"),
    "with a None": (lambda a: [None, *a.tolist()[1:]] if a.ndim == 1 else [[None] * len(a[0]), *a.tolist()[1:]], "obj"),
    "masked": (lambda a: np.ma.masked_array(a, mask=False), "mask"),
    "an object": (lambda a: NotAnArray(), "object"),
    "a dict": (lambda a: {0: 1.0}, "object"),
    "a string": (lambda a: "1.0", "<U3"),
}


@pytest.mark.parametrize("kind", WRONG_KINDS)
@pytest.mark.parametrize(("entry", "name"), ARGUMENTS)
def test_wrong_kind_is_a_type_error(entry, name, kind):
    make, said = WRONG_KINDS[kind]
    arguments = good()
    bad = make(arguments[name])
    if entry == "MSE.step_" and name == "w" and type(bad) is not np.ndarray:
        said = type(bad).__name__  # it has to be an ndarray
    with pytest.raises(TypeError) as caught:
        call(entry, arguments | {name: bad})
    assert re.match(rf"{name}\b", str(caught.value)), caught.value
    assert said in str(caught.value)


@pytest.mark.parametrize(("entry", "name"), [(e, n) for e, n in ARGUMENTS if n not in OPTIONAL])
def test_none_is_a_type_error(entry, name):
    with refusal(TypeError, f"{name} must be ", "array, got None"):
        call(entry, good() | {name: None})


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize(("entry", "name"), [(e, n) for e, n in ARGUMENTS if n != "X"])
def test_what_is_no_matrix_must_not_be_sparse(entry, name, form):
    arguments = good()
    for make in (sparse.coo_matrix, sparse.coo_array):
        bad = make(arguments[name][:, None]).asformat(form)
        said = type(bad).__name__ if (entry, name) == ("MSE.step_", "w") else "is a sparse matrix"
        with refusal(TypeError, name, said):
            call(entry, arguments | {name: bad})


@pytest.mark.parametrize("rows", [[[1.0, 2.0], [3.0]], [[1.0], 2.0]])
def test_ragged_lists_are_a_value_error(rows):
    for refused in (
        lambda: fg.mse(rows, [1.0, 2.0], [1.0]),
        lambda: fg.fit(rows, [1.0, 2.0]),
        lambda: fg.Moments(1).update(rows, [1.0, 2.0]),
        lambda: fitted(1).predict(rows),
    ):
        with refusal(ValueError, "X is not a rectangular array"):
            refused()
    with refusal(ValueError, "y is not a rectangular array"):
        fg.mse([[1.0], [2.0]], rows, [1.0])


# ---- shapes ----------------------------------------------------------------------------------------------------------

#: Shapes X must not have, y being as long as X where X has a length.
WRONG_X = [(), (N,), (N, D, 1), (0, D), (N, 0), (0, 0)]
#: Shapes that a vector of n entries, one for each row, must not have.
WRONG_ROWS = [(), (N - 1,), (N + 1,), (1,), (0,), (N, 1), (1, N), (N, 2), (N, 1, 1)]
#: Shapes that a vector of d parameters must not have.
WRONG_PARAMETERS = [(), (D - 1,), (D + 1,), (1,), (0,), (D, 1), (1, D), (D, D)]


@pytest.mark.parametrize("shape", WRONG_X)
def test_wrong_shape_of_X(shape):
    X, y = np.ones(shape), np.ones(shape[:1] or (1,))
    for refused in (
        lambda: fg.mse(X, y, np.ones(D)),
        lambda: fg.mse_grad(X, y, np.ones(D)),
        lambda: fg.mse_value_and_grad(X, y, np.ones(D)),
        lambda: fg.MSE(X, y),
        lambda: fg.fit(X, y),
        lambda: fg.fit(X, y, solver="gd"),
        lambda: fg.Moments(D).update(X, y),
        lambda: fitted(D).predict(X),
    ):
        with pytest.raises(ValueError, match=r"^X must have ") as caught:
            refused()
        assert str(shape) in str(caught.value)
        assert "(n_samples, n_features)" in str(caught.value) or "at least one row and one column" in str(caught.value)


def test_one_dimensional_X_is_told_what_to_write():
    with refusal(ValueError, "one feature is X[:, None]", "one sample X[None, :]"):
        fg.fit(np.ones(3), np.ones(3))


@pytest.mark.parametrize("columns", [D - 1, D + 1])
def test_wrong_number_of_columns(columns):
    X = np.ones((N, columns))
    for refused in (lambda: fg.Moments(D).update(X, np.ones(N)), lambda: fitted(D).predict(X)):
        with refusal(ValueError, f"X must have {D} columns, got {columns}"):
            refused()


@pytest.mark.parametrize("shape", WRONG_ROWS)
@pytest.mark.parametrize(("entry", "name"), [(e, n) for e, n in ARGUMENTS if n in ("y", "sample_weight")])
def test_wrong_shape_of_what_has_one_entry_a_row(entry, name, shape):
    if name == "y" and shape == (N, 2) and entry.startswith("fit("):
        assert call(entry, good() | {name: np.ones(shape), "w0": None}).shape == (D, 2)
        return
    with refusal(ValueError, f"{name} must have shape ({N},)", f"got {shape}"):
        call(entry, good() | {name: np.ones(shape)})


def test_a_column_vector_never_broadcasts():
    for n in (1, 2, 7):
        X, w = np.ones((n, 2)), np.ones(2)
        for y in (np.ones((n, 1)), np.ones((n, 1), np.float32), [[1.0]] * n, np.ones((1, n))):
            for refused in (
                lambda X=X, y=y: fg.mse(X, y, w),
                lambda X=X, y=y: fg.mse_value_and_grad(X, y, w),
                lambda X=X, y=y: fg.MSE(X, y),
                lambda X=X, y=y: fg.fit(X, y),
                lambda X=X, y=y: fg.Moments(2).update(X, y),
            ):
                with refusal(ValueError, f"y must have shape ({n},)", f"got {np.shape(y)}", "y.ravel()"):
                    refused()


@pytest.mark.parametrize("shape", WRONG_PARAMETERS)
@pytest.mark.parametrize(("entry", "name"), [(e, n) for e, n in ARGUMENTS if n in ("w", "v")])
def test_wrong_shape_of_parameters(entry, name, shape):
    with refusal(ValueError, f"{name} must have shape ({D},), got {shape}"):
        call(entry, good() | {name: np.ones(shape)})


def test_parameters_have_an_entry_for_the_intercept():
    arguments = good()
    p = fg.MSE(arguments["X"], arguments["y"], fit_intercept=True)
    for name, method in {"w": p.value, "v": p.hessp}.items():
        with refusal(ValueError, f"{name} must have shape ({D + 1},), got ({D},)"):
            method(np.ones(D))
        assert np.isfinite(method(np.ones(D + 1))).all()


@pytest.mark.parametrize("solver", ["moments", "gd"])
def test_wrong_shape_of_the_start(solver):
    X, y = good()["X"], good()["y"]
    for intercept, lengths in {True: (D, D + 1), False: (D,)}.items():
        for shape in [(), (0,), (1,), (D - 1,), (D + 2,), (D, 1), (1, D), *([] if intercept else [(D + 1,)])]:
            with refusal(ValueError, "w0 must have shape", f"got {shape}") as caught:
                fg.fit(X, y, w0=np.ones(shape), fit_intercept=intercept, solver=solver)
            assert all(f"({length},)" in str(caught.value) for length in lengths)
        for length in lengths:
            fg.fit(X, y, w0=np.ones(length), fit_intercept=intercept, solver=solver, max_iter=1, tol=0)


# ---- numbers ---------------------------------------------------------------------------------------------------------

X0, Y0 = good()["X"], good()["y"]
NO_NUMBER = [True, np.True_, "1", None, 1j, [0.1], np.ones(1), np.nan.__class__]
NO_INTEGER = [True, np.True_, 1.0, np.nan, "1", 1j, [1], np.float64(2)]
TOO_LARGE = 10**400  # no double

NUMBERS = {
    "fit(lr)": ("lr", lambda x: fg.fit(X0, Y0, solver="gd", lr=x), NO_NUMBER, [0, 0.0, -1, np.nan, np.inf, TOO_LARGE]),
    "fit(lr), auto": ("lr", lambda x: fg.fit(X0, Y0, lr=x), NO_NUMBER, [0, 0.0, -1, np.nan, np.inf, TOO_LARGE]),
    "fit(tol)": (
        "tol",
        lambda x: fg.fit(X0, Y0, tol=x),
        [x for x in NO_NUMBER if x is not None],
        [-1, -1e-300, np.nan, np.inf, TOO_LARGE],
    ),
    "fit(l2)": ("l2", lambda x: fg.fit(X0, Y0, l2=x), NO_NUMBER, [-1, -1e-300, np.nan, np.inf, TOO_LARGE]),
    "MSE(l2)": ("l2", lambda x: fg.MSE(X0, Y0, l2=x), NO_NUMBER, [-1, -1e-300, np.nan, np.inf, TOO_LARGE]),
    "Moments.fit(l1)": (
        "l1",
        lambda x: fg.Moments(D).update(X0, Y0).fit(l1=x),
        NO_NUMBER,
        [-1, -1e-300, np.nan, np.inf, TOO_LARGE],
    ),
    "Moments.fit(l2)": (
        "l2",
        lambda x: fg.Moments(D).update(X0, Y0).fit(l2=x),
        NO_NUMBER,
        [-1, -1e-300, np.nan, np.inf, TOO_LARGE],
    ),
    "step_(lr)": (
        "lr",
        lambda x: fg.MSE(X0, Y0).step_(np.ones(D), x),
        NO_NUMBER,
        [-1, -1e-300, np.nan, np.inf, TOO_LARGE],
    ),
    "fit(max_iter)": ("max_iter", lambda x: fg.fit(X0, Y0, max_iter=x), [*NO_INTEGER, None], [0, -1]),
    "fit(n_threads)": ("n_threads", lambda x: fg.fit(X0, Y0, n_threads=x), NO_INTEGER, [0, -1]),
    "MSE(n_threads)": ("n_threads", lambda x: fg.MSE(X0, Y0, n_threads=x), NO_INTEGER, [0, -1]),
    "Moments(n_threads)": ("n_threads", lambda x: fg.Moments(D, n_threads=x), NO_INTEGER, [0, -1]),
    "Moments(n_features)": ("n_features", fg.Moments, [*NO_INTEGER, None], [0, -1]),
}


@pytest.mark.parametrize(
    ("case", "error", "value"),
    [
        pytest.param(case, error, value, id=f"{case}={str(value)[:12]}")
        for case, (_, _, *wrong) in NUMBERS.items()
        for error, values in zip((TypeError, ValueError), wrong, strict=True)
        for value in values
    ],
)
def test_wrong_number_is_named(case, error, value):
    name, function, *_ = NUMBERS[case]
    # A float that is handed to C comes back as one: -1 as -1.0.
    came = {repr(value)} | ({repr(float(value))} if isinstance(value, int) and value != TOO_LARGE else set())
    with pytest.raises(error) as caught:
        function(value)
    assert re.match(rf"{name} must be ", str(caught.value)), caught.value
    assert any(f"got {said}"[:40] in str(caught.value) for said in came), caught.value


@pytest.mark.parametrize("value", [0, 1, 1.0, "True", None, np.ones(1, bool)])
def test_a_flag_is_true_or_false(value):
    for refused in (
        lambda: fg.fit(X0, Y0, fit_intercept=value),
        lambda: fg.MSE(X0, Y0, fit_intercept=value),
        lambda: fg.Moments(D).update(X0, Y0).fit(fit_intercept=value),
    ):
        with refusal(TypeError, f"fit_intercept must be True or False, got {value!r}"):
            refused()


@pytest.mark.parametrize("solver", ["newton", "", "GD", None, 3, ("gd",)])
def test_unknown_solver(solver):
    with refusal((ValueError, TypeError), "solver must be ", f"got {solver!r}") as caught:
        fg.fit(X0, Y0, solver=solver)
    assert all(repr(name) in str(caught.value) for name in ("auto", "moments", "gd"))


def test_options_are_keyword_only():
    with pytest.raises(TypeError):
        fg.fit(X0, Y0, "gd")
    with pytest.raises(TypeError):
        fg.Moments(D).update(X0, Y0).fit(0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, "float16", "no dtype", object()])
def test_moments_take_no_other_dtype(dtype):
    with refusal(ValueError, "dtype must be None or float64, got"):
        fg.Moments(D, dtype=dtype)


def test_moments_without_rows_and_other_things_to_merge():
    with refusal(ValueError, "no rows yet", "update(X, y)"):
        fg.Moments(D).fit()
    with refusal(TypeError, "other must be Moments, got ndarray"):
        fg.Moments(D).merge(np.ones((D + 2, D + 2)))
    with refusal(ValueError, "4 features", "3"):
        fg.Moments(D).merge(fg.Moments(4))


# ---- sparse matrices -------------------------------------------------------------------------------------------------


class Rows:
    """A matrix in CSR format of a class of its own."""

    def __init__(self, **parts):
        self.__dict__ |= parts


def parts(X):
    """What CSR needs, of a dense matrix: every element is held."""
    n, d = X.shape
    return {
        "data": X.ravel(), "indices": np.tile(np.arange(d, dtype=np.int32), n),
        "indptr": np.arange(0, n * d + 1, d, dtype=np.int32), "shape": (n, d),
    }


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


#: What is wrong -> (with which part, how to make it so, error, what is said).
WRONG_SPARSE = {
    "short indptr": ("indptr", lambda a: a[:-1], ValueError, f".indptr must have {N + 1} entries"),
    "long indptr": ("indptr", lambda a: np.append(a, 0), ValueError, f"one more than rows, got {N + 2}"),
    "empty indptr": ("indptr", lambda a: a[:0], ValueError, "got 0"),
    "indptr starts late": ("indptr", lambda a: changed(a, 0, 1), ValueError, ".indptr must start at 0, got 1"),
    "indptr starts early": ("indptr", lambda a: changed(a, 0, -1), ValueError, ".indptr must start at 0, got -1"),
    "indptr falls": ("indptr", lambda a: changed(a, 5, 30), ValueError, "must not fall, but row 5 is from 30 to 18"),
    "indptr ends late": ("indptr", lambda a: changed(a, -1, 61), ValueError, "ends at 61, but there are 60 entries"),
    "indptr beyond int32": ("indptr", lambda a: changed(a.astype(int), -1, 2**40), ValueError, f"ends at {2**40}"),
    "indptr beyond int64": ("indptr", lambda a: changed(a.astype("u8"), -1, 2**63), ValueError, "must not fall"),
    "indptr of floats": ("indptr", lambda a: a * 1.0, TypeError, ".indptr must hold integers, got dtype float64"),
    "indptr of two axes": ("indptr", lambda a: a[:, None], ValueError, ".indptr must have one axis, got shape"),
    "index too large": ("indices", lambda a: changed(a, 7, D), ValueError, f"from 0 to {D - 1}, got {D} in row 2"),
    "index below 0": ("indices", lambda a: changed(a, -1, -1), ValueError, f"got -1 in row {N - 1}"),
    "index beyond int64": ("indices", lambda a: changed(a.astype("u8"), 0, 2**63), ValueError, "in row 0"),
    "indices of floats": ("indices", lambda a: a * 1.0, TypeError, ".indices must hold integers, got dtype float64"),
    "indices of bools": ("indices", lambda a: a > 1, TypeError, "got dtype bool"),
    "indices of two axes": ("indices", lambda a: a.reshape(N, D), ValueError, ".indices must have one axis"),
    "too few indices": ("indices", lambda a: a[:-1], ValueError, ".data must have shape (59,)"),
    "too little data": ("data", lambda a: a[:-1], ValueError, ".data must have shape (60,)"),
    "data of two axes": ("data", lambda a: a.reshape(N, D), ValueError, f"got ({N}, {D})"),
    "data of objects": ("data", lambda a: a.astype(object), TypeError, "must hold real numbers, got dtype object"),
    "complex data": ("data", lambda a: a * 1j, TypeError, "got dtype complex128"),
    "masked data": ("data", np.ma.masked_array, TypeError, ".data is a masked array"),
    "no data": ("data", lambda a: None, TypeError, ".data must be an array, got None"),
    "one size": ("shape", lambda a: (N,), ValueError, "must have shape (n_samples, n_features), got (20,)"),
    "three sizes": ("shape", lambda a: (N, D, 1), ValueError, "must have shape (n_samples, n_features)"),
    "sizes of floats": ("shape", lambda a: (20.0, 3.0), TypeError, ".shape must be (n_samples, n_features)"),
    "no sizes": ("shape", lambda a: None, TypeError, ".shape must be (n_samples, n_features), got None"),
    "a negative size": ("shape", lambda a: (N, -1), TypeError, ".shape must be"),
    "no rows": ("shape", lambda a: (0, D), ValueError, "at least one row and one column"),
    "no columns": ("shape", lambda a: (N, 0), ValueError, "at least one row and one column"),
    "another format": ("format", lambda a: "csc", TypeError, "is a sparse matrix, but none in CSR format"),
}


def refuse_sparse(X, error, said):
    """Every entry point refuses X, in these words."""
    w = good()["w"]
    for refused in (
        lambda: fg.mse(X, Y0, w),
        lambda: fg.mse_value_and_grad(X, Y0, w),
        lambda: fg.MSE(X, Y0),
        lambda: fg.fit(X, Y0),
        lambda: fg.Moments(D).update(X, Y0),
        lambda: fitted(D).predict(X),
    ):
        with pytest.raises(error, match=r"^X\b") as caught:
            refused()
        assert said in str(caught.value)


@pytest.mark.parametrize("kind", WRONG_SPARSE)
def test_wrong_sparse_matrix_is_named(kind):
    part, make, error, said = WRONG_SPARSE[kind]
    right = parts(X0)
    fg.mse(Rows(**right), Y0, np.ones(D))
    refuse_sparse(Rows(**right | {part: make(right.get(part))}), error, said)


def test_part_of_csr_is_no_sparse_matrix():
    right = parts(X0)
    for name in ("data", "indices", "shape"):
        some = {key: value for key, value in right.items() if key != name}
        refuse_sparse(Rows(**some), TypeError, "is a sparse matrix, but none in CSR format")
        refuse_sparse(Rows(**some, tocsr=lambda: 0), TypeError, "is a sparse matrix, but none in CSR format")


def test_columns_are_never_taken_for_rows():
    """A square matrix of compressed columns has all that one of rows has, but its format."""
    X = np.random.default_rng(0).standard_normal((5, 5))
    for make in (sparse.csc_array, sparse.csc_matrix):
        np.testing.assert_allclose(fg.mse_grad(make(X), np.ones(5), np.ones(5)), fg.mse_grad(X, np.ones(5), np.ones(5)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("entry", [entry for entry, name in ARGUMENTS if name == "X"])
def test_nonfinite_entry_of_sparse_rows_is_named(entry, value, dtype):
    arguments = good(11, 5)
    arguments["sample_weight"][7] = 0
    arguments["w"][:] = arguments["v"][:] = 0
    for index in ((0, 0), (7, 2), (10, 4)):
        right = parts(spoilt(arguments["X"], value, index).astype(dtype))
        held = np.ones((11, 5), bool)
        held[3] = held[7, 0] = False
        right |= {"data": right["data"][held.ravel()], "indices": right["indices"][held.ravel()]}
        right["indptr"] = np.append(0, np.cumsum(held.sum(axis=1)))
        with refusal(ValueError, f"X holds {value} at index {place(index)}"):
            call(entry, arguments | {"X": Rows(**right)})


def test_out_that_overlaps_sparse_rows_is_refused():
    right = parts(good()["X"])
    right["indices"] = np.zeros(N * D, np.int64)
    X, w = Rows(**right), np.ones(D)
    for out in (right["data"][3 : 3 + D], right["indices"].view(np.float64)[:D], Y0[:D]):
        before = out.tobytes()
        for write in (lambda out=out: fg.mse_grad(X, Y0, w, out=out), lambda out=out: fg.MSE(X, Y0).step_(out, 0.1)):
            with refusal(ValueError, "shares memory with", "y" if out.base is Y0 else "X"):
                write()
            assert out.tobytes() == before


# ---- weights ---------------------------------------------------------------------------------------------------------

WEIGHTED = [entry for entry, name in ARGUMENTS if name == "sample_weight"]


@pytest.mark.parametrize("dtype", [float, np.float32, np.float16, ">f8", int])
@pytest.mark.parametrize("entry", WEIGHTED)
def test_negative_weight_is_named(entry, dtype):
    weights = np.ones(N, dtype)
    weights[7] = -2
    with refusal(ValueError, "sample_weight must not be negative, got -2 at index 7"):
        call(entry, good() | {"sample_weight": weights})


@pytest.mark.parametrize("dtype", [float, np.float32, bool])
@pytest.mark.parametrize("entry", WEIGHTED)
def test_weights_must_not_all_be_zero(entry, dtype):
    with refusal(ValueError, "sample_weight is zero everywhere"):
        call(entry, good() | {"sample_weight": np.zeros(N, dtype)})


# ---- out= ------------------------------------------------------------------------------------------------------------


def unaligned(array):
    """The same elements, one byte off their alignment."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert not copy.flags.aligned
    return copy


class Vector(np.ndarray):
    pass


def writers(arguments):
    """Every entry point with an `out`, over a single block, over many, and over converted ones."""
    X, y, w, s = (arguments[name] for name in ("X", "y", "w", "sample_weight"))
    for data in (X, X.astype(">f8"), np.resize(X, (2**18, D))):
        targets, weights = np.resize(y, len(data)), np.resize(s, len(data))
        p = fg.MSE(data, targets, weights)
        yield "w", w, lambda out, w=w, data=data, targets=targets: fg.mse_grad(data, targets, w, out=out)
        yield "w", w, lambda out, w=w, data=data, targets=targets: fg.mse_value_and_grad(data, targets, w, out=out)
        yield "w", w, lambda out, w=w, p=p: p.grad(w, out=out)
        yield "w", w, lambda out, w=w, p=p: p.value_and_grad(w, out=out)
        yield "v", w, lambda out, w=w, p=p: p.hessp(w, out=out)


WRONG_OUT = {
    "list": (lambda: [0.0] * D, TypeError, "out must be a NumPy array, got list"),
    "integers": (lambda: np.zeros(D, int), TypeError, "got int64"),
    "half precision": (lambda: np.zeros(D, np.float16), TypeError, "got float16"),
    "complex": (lambda: np.zeros(D, complex), TypeError, "got complex128"),
    "big-endian": (lambda: np.zeros(D, ">f8"), TypeError, "got >f8"),
    "short": (lambda: np.zeros(D - 1), ValueError, f"out must have shape ({D},), got ({D - 1},)"),
    "long": (lambda: np.zeros(D + 1), ValueError, f"out must have shape ({D},), got ({D + 1},)"),
    "column": (lambda: np.zeros((D, 1)), ValueError, f"out must have shape ({D},), got ({D}, 1)"),
    "scalar": (lambda: np.zeros(()), ValueError, f"out must have shape ({D},), got ()"),
    "read-only": (lambda: np.frombuffer(bytes(8 * D)), ValueError, "out is read-only"),
    "unaligned": (lambda: unaligned(np.zeros(D)), ValueError, "out must be aligned"),
}


@pytest.mark.parametrize("kind", WRONG_OUT)
def test_wrong_out_is_refused_and_not_written(kind):
    make, error, said = WRONG_OUT[kind]
    for _, _, write in writers(good()):
        out = make()
        with pytest.raises(error, match=r"^out\b") as caught:
            write(out)
        assert said in str(caught.value)
        assert not np.any(out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_is_written_and_returned(dtype):
    arguments = good()
    memory = np.full(4 * D, 9.0, dtype)
    for out in (memory[:D], memory[: 2 * D : 2], memory[2 * D - 1 : D - 1 : -1]):
        for _, _, write in writers(arguments):
            expected = write(None)
            expected = expected[1] if isinstance(expected, tuple) else expected
            out[:] = 9
            got = write(out)
            got = got[1] if isinstance(got, tuple) else got
            assert got is out
            np.testing.assert_array_equal(out, expected.astype(dtype))


def test_out_that_overlaps_an_input_is_refused():
    def refused(write, out, name):
        before = out.tobytes()
        with refusal(ValueError, f"out shares memory with {name}"):
            write(out)
        assert out.tobytes() == before

    arguments = good()
    X, y, w, s = (arguments[name] for name in ("X", "y", "w", "sample_weight"))
    p = fg.MSE(X, y, s)
    for out, name in ((X[4], "X"), (X[:D, 1], "X"), (X.ravel()[1 : 1 + D], "X"), (y[2 : 2 + D], "y"), (w, "w")):
        refused(lambda out: fg.mse_grad(X, y, w, out=out), out, name)
        refused(lambda out: fg.mse_value_and_grad(X, y, w, out=out), out, name)
        refused(lambda out: p.grad(w, out=out), out, name)
        refused(lambda out: p.value_and_grad(w, out=out), out, name)
    refused(lambda out: p.grad(w, out=out), s[5 : 5 + D], "sample_weight")
    refused(lambda out: p.value_and_grad(w, out=out), s[::2][:D], "sample_weight")
    refused(lambda out: p.hessp(w, out=out), X[N - 1], "X")
    for big in (np.resize(X, (2**18, D)), X.astype(">f8")):
        targets = np.resize(y, len(big))
        refused(lambda out: fg.mse_grad(big, targets, w, out=out), w, "w")
        refused(lambda out: fg.mse_grad(big, targets, w, out=out), targets[-D:], "y")
    big = np.resize(X, (2**18, D))
    refused(lambda out: fg.mse_grad(big, np.resize(y, 2**18), w, out=out), big[-1], "X")


def test_out_that_overlaps_the_direction_is_refused():
    arguments = good()
    v = arguments["v"]
    with refusal(ValueError, "out shares memory with v"):
        fg.MSE(arguments["X"], arguments["y"]).hessp(v, out=v)
    np.testing.assert_array_equal(v, good()["v"])


@pytest.mark.parametrize("kind", ["subclass", "memory map", "__array__"])
def test_out_that_overlaps_parameters_of_another_type_is_refused(kind, tmp_path):
    arguments = good()
    X, y = arguments["X"], arguments["y"]
    if kind == "memory map":
        w = np.memmap(tmp_path / "w", np.float64, "w+", shape=D)
        w[:] = arguments["w"]
    else:
        w = arguments["w"].copy()
    out = np.asarray(w)
    given = {"subclass": w.view(Vector), "memory map": w, "__array__": Frame(w)}[kind]
    for write in (
        lambda: fg.mse_grad(X, y, given, out=out),
        lambda: fg.MSE(X, y).grad(given, out=out),
        lambda: fg.MSE(X, y).value_and_grad(given, out=out),
        lambda: fg.MSE(X, y).hessp(given, out=out),
    ):
        with refusal(ValueError, "out shares memory with"):
            write()
        np.testing.assert_array_equal(out, arguments["w"])


def test_out_between_the_elements_of_an_input_is_taken():
    """It shares no element, though the spans of memory overlap."""
    arguments = good()
    X, y = arguments["X"], arguments["y"]
    memory = np.zeros(2 * D)
    w, out = memory[::2], memory[1::2]
    w[:] = arguments["w"]
    expected = fg.mse_grad(X, y, arguments["w"])
    np.testing.assert_array_equal(fg.mse_grad(X, y, w, out=out), expected)
    np.testing.assert_array_equal(w, arguments["w"])
    wide = np.zeros((N, D + 1))
    wide[:, :D] = X
    np.testing.assert_array_equal(
        fg.mse_grad(wide[:, :D], y, w, out=wide[4 : 4 + D, D]), fg.mse_grad(wide[:, :D], y, w)
    )
    np.testing.assert_array_equal(wide[:, :D], X)


@pytest.mark.parametrize("kind", [kind for kind in WRONG_OUT if kind != "list"])
def test_parameters_to_step_in_place(kind):
    make, error, said = WRONG_OUT[kind]
    p = fg.MSE(X0, Y0)
    w = make()
    with pytest.raises(error, match=r"^w\b") as caught:
        p.step_(w, 0.1)
    assert said.replace("out", "w", 1) in str(caught.value)
    assert not np.any(w)


def test_parameters_to_step_in_place_are_no_list_and_no_part_of_the_data():
    X, y, s = (good()[name] for name in ("X", "y", "sample_weight"))
    p = fg.MSE(X, y, s)
    with refusal(TypeError, "w must be a NumPy array, got list"):
        p.step_([0.0] * D, 0.1)
    for w, name in ((X[3], "X"), (y[:D], "y"), (s[:D], "sample_weight")):
        before = w.copy()
        with refusal(ValueError, f"w shares memory with {name}"):
            p.step_(w, 0.1)
        np.testing.assert_array_equal(w, before)


# ---- what is taken ---------------------------------------------------------------------------------------------------


class Frame:
    """Has an array, as a data frame does, and is none."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def memory_map(array, folder):
    path = folder / f"{array.size}-{array.ndim}-{np.random.default_rng().integers(10**9)}"
    array.tofile(path)
    return np.memmap(path, array.dtype, "r", shape=array.shape)


#: What may be given instead of an array of doubles that hold small integers.
TAKEN = {
    "float32": lambda a, folder: a.astype(np.float32),
    "float16": lambda a, folder: a.astype(np.float16),
    "long double": lambda a, folder: a.astype(np.longdouble),
    "int64": lambda a, folder: a.astype(np.int64),
    "int8": lambda a, folder: a.astype(np.int8),
    "big-endian": lambda a, folder: a.astype(">f8"),
    "big-endian int": lambda a, folder: a.astype(">i2"),
    "lists": lambda a, folder: a.tolist(),
    "tuples": lambda a, folder: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    "Fortran order": lambda a, folder: np.asfortranarray(a),
    "every other": lambda a, folder: (
        np.repeat(np.repeat(a, 2, 0), 2, -1)[::2, ::2] if a.ndim == 2 else a.repeat(2)[::2]
    ),
    "backwards": lambda a, folder: np.flip(np.flip(a).copy()),
    "read-only": lambda a, folder: read_only(a),
    "memory map": memory_map,
    "unaligned": lambda a, folder: unaligned(a),
    "unaligned float32": lambda a, folder: unaligned(a.astype(np.float32)),
    "odd strides": lambda a, folder: odd_strides(a),
    "subclass": lambda a, folder: a.copy().view(Vector),
    "__array__": lambda a, folder: Frame(a.copy()),
}


def odd_strides(array):
    """Elements that are not whole elements apart."""
    record = np.zeros(array.shape, np.dtype([("value", array.dtype), ("odd", np.int8)]))
    record["value"] = array
    return record["value"]


def memory_of(value):
    """The bytes that an argument holds."""
    value = value.array if isinstance(value, Frame) else value
    if not isinstance(value, np.ndarray):
        return repr(value)
    return (value.tobytes(), value.strides, value.flags.writeable, value.dtype)


def integers(n, d):
    rng = np.random.default_rng(d)
    return {
        "X": rng.integers(-3, 4, (n, d)).astype(float),
        "y": rng.integers(-3, 4, n).astype(float),
        "w": rng.integers(-3, 4, d).astype(float),
        "v": rng.integers(-3, 4, d).astype(float),
        "w0": rng.integers(-3, 4, d + 1).astype(float),
        "sample_weight": rng.integers(1, 4, n).astype(float),
    }


EXACT = [e for e in ENTRIES if not e.startswith(("fit", "Moments", "FitResult", "MSE.lipschitz"))]


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize(("entry", "name"), READ)
def test_taken_is_what_holds_real_numbers_and_nothing_is_changed(entry, name, kind, tmp_path):
    for n, d in ((13, 3), (9, 21)):
        arguments = integers(n, d)
        expected = call(entry, arguments)
        given = arguments | {name: TAKEN[kind](arguments[name], tmp_path)}
        before = {key: memory_of(value) for key, value in given.items()}
        got = call(entry, given)
        assert {key: memory_of(value) for key, value in given.items()} == before
        got, expected = (np.hstack(result) if isinstance(result, tuple) else result for result in (got, expected))
        if entry in EXACT:
            # Sums of small integers are exact in any order; but means are rounded to X's precision.
            narrow = name == "X" and kind in ("float32", "float16", "unaligned float32")
            np.testing.assert_allclose(got, expected, rtol=1e-7 if narrow else 1e-15)
        else:
            np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("entry", "name"), READ)
def test_booleans_are_zeros_and_ones(entry, name):
    arguments = integers(13, 3)
    flags = arguments[name] > 0
    flags[0] = True
    for given in (flags, flags.tolist()):
        got, expected = (call(entry, arguments | {name: value}) for value in (given, flags.astype(float)))
        got, expected = (np.hstack(result) if isinstance(result, tuple) else result for result in (got, expected))
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_arrays_of_many_blocks_are_not_changed(many_blocks):
    arguments = many_blocks[8]
    for order in ("C", "F"):
        given = {name: np.array(array, order=order) for name, array in arguments.items()}
        for entry in ENTRIES:
            call(entry, given)
            for name, array in given.items():
                np.testing.assert_array_equal(array, arguments[name], err_msg=f"{entry} changed {name}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "big-endian"])
def test_steps_change_w_alone(layout, dtype):
    arguments = good()
    w = LAYOUTS[layout](arguments["w"].astype(dtype))
    before = {name: memory_of(value) for name, value in arguments.items()}
    p = fg.MSE(arguments["X"], arguments["y"], arguments["sample_weight"])
    start = w.copy()
    loss, gradient = p.value_and_grad(start)
    assert p.step_(w, 0.125) == loss
    np.testing.assert_array_equal(w, (start - 0.125 * gradient).astype(dtype))
    assert {name: memory_of(value) for name, value in arguments.items()} == before


@pytest.mark.parametrize("name", ["X", "y", "w", "sample_weight"])
def test_a_refused_step_changes_nothing(name):
    arguments = good()
    bad = arguments | {name: spoilt(arguments[name], np.nan, (2, 1)[: arguments[name].ndim])}
    before = bad["w"].tobytes()
    with pytest.raises(ValueError, match=name):
        step(bad["X"], bad["y"], bad["w"], bad["sample_weight"])
    assert bad["w"].tobytes() == before


def test_a_refused_call_does_not_write_to_out():
    arguments = good()
    bad = spoilt(arguments["y"], np.nan, 2)
    for data in (arguments["X"], arguments["X"].astype(">f8")):
        out = np.full(D, 9.0)
        for refused in (
            lambda data=data, out=out: fg.mse_grad(data, bad, arguments["w"], out=out),
            lambda data=data, out=out: fg.MSE(data, bad).value_and_grad(arguments["w"], out=out),
        ):
            with pytest.raises(ValueError, match="y holds nan"):
                refused()
            assert (out == 9.0).all()


# ---- moments that refused their input --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("factor", [np.nan, 1e200])
def test_moments_stay_as_they_were_when_an_update_is_refused(factor):
    arguments = good()
    X, y = arguments["X"], arguments["y"]
    expected = fg.Moments(D).update(X, y).fit()
    empty, m = fg.Moments(D), fg.Moments(D).update(X, y)
    for moments in (empty, m):
        with pytest.raises((ValueError, OverflowError)):
            moments.update(X * factor, y)
    assert (empty.n_samples, m.n_samples) == (0, N)
    np.testing.assert_array_equal(m.fit().coef, expected.coef)
    np.testing.assert_array_equal(m.merge(empty).fit().coef, expected.coef)
    np.testing.assert_array_equal(empty.update(X, y).fit().coef, expected.coef)


# ---- divergence ------------------------------------------------------------------------------------------------------


def hessian(X, s, l2, fit_intercept):
    X = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    s = np.ones(len(X)) if s is None else s
    H = 2 / s.sum() * (X.T * s) @ X
    H[np.diag_indices(D)] += 2 * l2
    return H


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_a_step_at_the_limit_diverges_and_one_below_does_not(dtype, fit_intercept, weighted, l2):
    arguments = good()
    X, y = arguments["X"].astype(dtype), arguments["y"]
    s = arguments["sample_weight"] if weighted else None
    limit = 2 / np.linalg.eigvalsh(hessian(X.astype(float), s, l2, fit_intercept))[-1]
    given = {"solver": "gd", "sample_weight": s, "l2": l2, "fit_intercept": fit_intercept, "tol": 0, "max_iter": 400}
    w0 = arguments["w0"] if fit_intercept else arguments["w"]
    for factor in (1 + 2e-5, 1.5, 1e3, 1e300):
        lr = float(limit * factor)
        with pytest.raises(fg.DivergenceError) as caught:
            fg.fit(X, y, lr=lr, w0=w0, **given)
        error = caught.value
        assert error.lr == lr
        assert error.max_lr == pytest.approx(limit, rel=1e-5)
        np.testing.assert_array_equal(error.w, w0)
        assert np.isnan(error.loss) or error.loss >= 0
        assert f"lr={lr:.6g}" in str(error)
        assert f"{error.max_lr:.6g}" in str(error)
    result = fg.fit(X, y, lr=float(limit * (1 - 2e-5)), w0=w0, **given)
    assert result.lr == limit * (1 - 2e-5)
    loss = result.history["loss"]
    assert len(loss) == 401
    assert (loss[1:] <= loss[:-1] * (1 + 8 * np.finfo(dtype).eps)).all()


def test_the_limit_itself_diverges():
    """H = 2, so that 2/λmax is 1 exactly: the loss would stay where it is for ever."""
    X, y = [[1.0], [1.0]], [1.0, 3.0]
    for lr in (1, 1.0, np.float32(1)):
        with refusal(fg.DivergenceError, "lr=1:", "2/λmax = 1;"):
            fg.fit(X, y, solver="gd", lr=lr, fit_intercept=False)
    fg.fit(X, y, solver="gd", lr=0.999, fit_intercept=False, tol=0, max_iter=10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("what", ["the loss overflows", "the gradient overflows", "the step overflows"])
def test_a_step_that_overflows_leaves_w_as_it_was(what, dtype):
    largest = float(np.finfo(dtype).max)
    X, y, w, lr = np.ones((N, D)), np.ones(N), np.ones(D), 1e-3
    if what == "the loss overflows":
        w[:] = 1e200 if dtype == np.float64 else largest / 2
        X *= 1e150
    elif what == "the gradient overflows":
        X, y, w = np.full((N, D), 0.9 * largest), np.full(N, 1e10), np.zeros(D)
    else:
        w, lr = 10 * w, largest
    w = w.astype(dtype)
    for data in (X.astype(dtype) if X.max() <= largest else X, X.astype(">f8")):
        p = fg.MSE(data, y)
        before = w.tobytes()
        with pytest.raises(fg.DivergenceError) as caught:
            p.step_(w, lr)
        assert w.tobytes() == before
        assert caught.value.lr == lr
        np.testing.assert_array_equal(caught.value.w, w)
        assert f"lr={lr:g}" in str(caught.value)


# ---- data frames -----------------------------------------------------------------------------------------------------


def test_a_frame_of_several_real_types_is_taken():
    """Of bool beside float, and of pandas' own integers, NumPy makes objects."""
    frame = pd.DataFrame({"a": X0[:, 0], "b": X0[:, 1] > 0, "c": pd.array(np.arange(len(X0)) ** 2, dtype="Int64")})
    plain = np.column_stack([X0[:, 0], X0[:, 1] > 0, np.arange(len(X0)) ** 2]).astype(float)
    assert np.asarray(frame).dtype == object
    # The frame's columns are contiguous, which decides the order of sums: they agree to rounding, here of 16 EPS.
    np.testing.assert_allclose(fg.fit(frame, pd.Series(Y0)).coef, fg.fit(plain, Y0).coef, rtol=16 * np.finfo(float).eps)


def test_a_frame_with_a_column_of_text_is_refused_by_its_name():
    frame = pd.DataFrame({"a": X0[:, 0], "carrier": ["UA"] * len(X0)})
    with pytest.raises(TypeError, match=r"X must hold real numbers, but its column 'carrier' has dtype"):
        fg.fit(frame, Y0)


def test_a_frame_with_a_missing_value_is_refused():
    frame = pd.DataFrame({"a": X0[:, 0], "b": pd.array([None] + [1] * (len(X0) - 1), dtype="Int64")})
    with pytest.raises(ValueError, match=r"X holds nan at index \(0, 1\)"):
        fg.fit(frame, Y0)
