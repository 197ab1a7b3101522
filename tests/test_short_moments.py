"""Second moments of short rows with a gap between them, and of few rows in one call of compiled code."""

from __future__ import annotations

import bounds
import numpy as np
import pytest
from strategies import make_problem

import fastgd as fg
from fastgd import _kernels, _moments, reference
from fastgd._rows import RowBlock
from fastgd.objective import TINIEST_SQUARES

LEVELS = _kernels.available()
by_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@by_dtype
@pytest.mark.parametrize("gap", [1, 7])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_rows_with_a_gap(gap: int, weighted: bool, dtype: type) -> None:
    """Rows that are not one after the other, at every level, in float and in double."""
    level = _kernels.current
    for d in range(1, 18):
        problem = make_problem(70, d, dtype, seed=d, kind="offset")
        problem = problem if weighted else problem.unweighted()
        wide = np.full((70, d + gap), np.nan, dtype)
        wide[:, :d] = problem.X
        block = RowBlock(wide[:, :d], problem.y, problem.s)
        X, y, s = problem.lists()
        shift = np.append(problem.X[35], problem.y[35]).astype(np.float64)
        panel, z = (np.array(reference.panel(X, y, by, shift.tolist())) for by in (s, None))
        expected = np.triu(reference.moments(X, y, s, shift.tolist()))
        for lanes in {np.dtype(dtype), np.dtype(np.float64)}:
            bound = np.triu(bounds.moments_bound(panel, z, lanes))
            for name in LEVELS:
                out = np.zeros((d + 2) ** 2)
                _kernels.use(name)
                try:
                    _moments.add_gram(block, shift, out, lanes == np.float64)
                finally:
                    _kernels.use(level)
                assert not bounds.outside(out.reshape(1, d + 2, d + 2), expected, bound).any(), (name, d, lanes)


@by_dtype
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("d", [1, 2, 10, 33])
def test_few_rows_have_the_bits_of_the_long_way(
    d: int, order: str, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in (1, 2, 3, 50):
        problem = make_problem(n, d, dtype, seed=n, kind="offset")
        X, y = np.asarray(problem.X, order=order), problem.y
        short, rest = fg.Moments(d).update(X, y), fg.Moments(d).update(2 * X[:1], y[:1])
        rest.update(X, y)
        with monkeypatch.context() as patched:
            patched.setattr(_moments, "short_gram", lambda *args: None)
            long, long_rest = fg.Moments(d).update(X, y), fg.Moments(d).update(2 * X[:1], y[:1])
            long_rest.update(X, y)
        for one, other in ((short, long), (rest, long_rest)):
            np.testing.assert_array_equal(one.gram, other.gram)
            np.testing.assert_array_equal(one.shift, other.shift)
            assert (one.n_samples, one.rounding) == (other.n_samples, other.rounding)


def test_what_does_not_go_the_short_way() -> None:
    X, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20.0)

    def way(X: object = X, y: object = y, d: int = 3) -> object:
        return _moments.short_gram(X, y, d, None, False, TINIEST_SQUARES)

    assert way() is not None
    nan, constant = X.copy(), X.copy()
    nan[7, 1], constant[:, 2] = np.nan, 0.1
    for others in (
        way(X.tolist()), way(y=y.tolist()), way(X.astype(int)), way(X.astype(">f8")), way(X[:19]), way(X[:0], y[:0]),
        way(d=4), way(y=y[:, None]), way(X[0]), way(nan), way(y=nan[:, 1]), way(constant), way(X * 1e200),
        way(X * 1e-160), way(np.ones((1 << 18, 3)), np.ones(1 << 18)),
    ):
        assert others is None


def test_a_shift_of_the_wrong_kind_is_refused() -> None:
    X, y = np.ones((4, 2)), np.ones(4)
    for shift in (np.zeros(2), np.zeros(3, np.float32), np.zeros((3, 1)), np.zeros(6)[::2]):
        with pytest.raises(ValueError, match="a shift is float64 and has one entry more than there are columns"):
            _moments.short_gram(X, y, 2, shift, False, TINIEST_SQUARES)


@by_dtype
@pytest.mark.parametrize("weights", ["all", "zero at both ends and amid", "integers", "one"])
@pytest.mark.parametrize("in_double", [False, True])
def test_few_weighted_rows_are_as_many_of_them(in_double: bool, weights: str, dtype: type) -> None:
    """The shift and the sums of `SecondMoments`, whose way is a longer one."""
    rng = np.random.default_rng(0)
    X, y = (rng.standard_normal(shape).astype(dtype) + 3 for shape in ((40, 5), 40))
    s = rng.uniform(0.5, 2, 40)
    if weights == "zero at both ends and amid":
        s[:7] = s[-5:] = s[18:23] = 0.0
    elif weights == "integers":
        s = rng.integers(0, 3, 40).astype(np.float32)
    elif weights == "one":
        s = np.eye(40)[11]
    found = _moments.short_gram(X, y, 5, None, in_double, TINIEST_SQUARES, s)
    if weights == "one":    # squares of one row about itself are none
        assert found is None
        return
    expected = fg.Moments(5, dtype=np.float64 if in_double else None).sum(X, y, s, None)
    assert found[0] == expected[0]
    assert found[3] == expected[3]
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-15)
    for other in (s[:-1], s[::-1].astype(">f8"), list(s), s[:, None]):
        assert _moments.short_gram(X, y, 5, None, in_double, TINIEST_SQUARES, other) is None
    assert _moments.short_gram(X, y, 5, None, in_double, TINIEST_SQUARES, np.zeros(40)) is None
