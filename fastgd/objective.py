"""The objective of a linear model over any source of data: its value, gradient and curvature, and second moments.

Conventions
-----------
X is (n, d), y (n,), sample weights s (n,), parameters w (d,) and, with an intercept, b as entry d of w. Then

    r_i = x_i.w + b - y_i                                         in units of y
    L(w) = sum_i s_i r_i^2 / sum_i s_i                            in units of y squared
    F(w) = L(w) + l2 |w|^2                                        the intercept is not penalised
    grad F = (2 / sum_i s_i) X'(s o r) + 2 l2 w                   in units of F per unit of w
    H = (2 / sum_i s_i) X'SX + 2 l2                               constant: F is quadratic

A penalty l1 |w|_1 has no gradient at zero; it is left to the solvers that can add it (`fastgd.solvers`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgd import _moments, _mse, _sparse
from fastgd import _validation as validate
from fastgd._blocks import Block, row_blocks
from fastgd._csr import CSR
from fastgd._engine import resolve_threads, sum_blocks
from fastgd._rows import RowBlock
from fastgd._spectrum import largest_eigenvalue
from fastgd._summary import Summarised, figures
from fastgd.errors import DivergenceError

__all__ = ["MSE", "SecondMoments", "mse", "mse_grad", "mse_value_and_grad"]


#: A mean square below this may have lost digits to underflow: in float64, and where float32 is summed in float32.
TINIEST_SQUARE = 1e-280
TINIEST_SQUARE_IN_FLOAT32 = 1e-30
#: How far an entry of second moments may be off, relative to the lengths of its two columns. Of float32 lanes that are
#: carried on in double every few hundred rows it is 16 times the unit roundoff: sums of 256 squares are off by 5 of
#: them (a random walk), and different tiles by different amounts.
ROUNDING = {np.dtype(np.float32): 2.0**-20, np.dtype(np.float64): 2.0**-52}
FLOAT32_ROUNDING, FLOAT64_ROUNDING = ROUNDING.values()
TINIEST_SQUARES = (TINIEST_SQUARE, TINIEST_SQUARE_IN_FLOAT32)
#: Rows that show whether columns need a shift.
SAMPLE = 128
#: Rows that BLAS multiplies in place at once, and products of columns, which bound its time between looks at Ctrl-C.
IN_PLACE_ROWS = 1 << 14
IN_PLACE_PRODUCTS = 1 << 37


class MSE(_mse.DenseMSE, Summarised):
    """Mean squared error of a linear model, with its data checked once and read in place.

    F(w) = sum_i s_i (x_i.w + b - y_i)^2 / sum_i s_i + l2 |w|^2. The arrays are held, not copied: what the caller
    writes into them counts from the next call on.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features)
        float32 and float64 of any stride are read where they are, other real dtypes are converted piece by piece.
    y : array_like of shape (n_samples,)
        The target.
    sample_weight : array_like of shape (n_samples,), optional
        Not negative, and not zero everywhere.
    fit_intercept : bool, default False
        Parameters then have n_features + 1 entries, the intercept last.
    l2 : float, default 0.0
        Factor of |w|^2; the intercept is not penalised.
    n_threads : int, optional
        Threads a pass may use; by default one for each CPU this process may run on, OMP_NUM_THREADS at most. Results
        have the same bits for any number.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range. NaN and infinities in X and y are found by the first pass
        over them, which raises ValueError with the first index.
    OverflowError
        If a gradient or Hessian product of finite data overflows. A loss that overflows is returned as infinity.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        fit_intercept: bool = False,
        l2: float = 0.0,
        n_threads: int | None = None,
    ) -> None:
        self.X = validate.as_matrix(X)
        self.y = validate.as_vector(y, len(self.X))
        self.sample_weight, total_weight = validate.as_weights(sample_weight, len(self.X))
        self.dtype = validate.kernel_dtype(self.X.dtype)
        self.blocks: list[Block] = row_blocks(self.X, self.y, self.sample_weight)
        # One block has no use for a second thread, and to count the CPUs takes as long as a pass over a short one.
        self.n_threads = resolve_threads(1 if n_threads is None and len(self.blocks) == 1 else n_threads)
        only = self.blocks[0] if len(self.blocks) == 1 and isinstance(self.blocks[0], RowBlock) else None
        if only is not None and next(iter(only.pieces())) is not only:
            only = None     # one call of the kernel would keep Ctrl-C waiting
        self._doors: Any = _sparse if isinstance(self.X, CSR) else _mse
        super().__init__(
            (*(self.X.arrays if isinstance(self.X, CSR) else (self.X,)), self.y, self.sample_weight),
            only,
            self.X.shape[1],
            total_weight,
            validate.as_flag(fit_intercept, "fit_intercept"),
            validate.as_number(l2, "l2", least=0),
            self.dtype == np.float32,
        )
        self._largest: float | None = None

    def lipschitz(self) -> float:
        """The Lipschitz constant of the gradient: λmax, the largest eigenvalue of H.

        Gradient descent with a fixed step converges below 2/λmax and diverges above. Found by the Lanczos process on
        Hessian products, one pass over X each, from below and to at least five digits; kept for later calls.

        Returns
        -------
        float
            In units of F per unit of w squared.
        """
        if self._largest is None:
            size = self.n_features + self.fit_intercept
            rtol = 1e-5 if self.dtype == np.float32 else 1e-6
            self._largest = largest_eigenvalue(lambda v, out: self.hessp(v, out=out), size, rtol=rtol)
        return self._largest

    def _summary(self) -> tuple[str, list[tuple[str, str]]]:
        n, d = self.X.shape
        kind = "sparse" if isinstance(self.X, CSR) else "dense"
        weights = "" if self.sample_weight is None else f", weights of sum {self.total_weight:.6g}"
        return "MSE of a linear model", [
            ("X", f"{n:,} × {d:,}, {kind}, {self.X.dtype}{weights}"),
            ("intercept", "fitted" if self.fit_intercept else "none"),
            ("l2", f"{self.l2:.6g}"),
            ("threads", f"{self.n_threads}"),
        ]

    def _on_blocks(
        self, w: np.ndarray, b: float, sums: np.ndarray, with_gradient: bool, curvature: bool
    ) -> None:
        """Fill `sums` from all blocks: what `DenseMSE` does itself where there is a single native one."""
        doors = self._doors
        add = doors.add_curvature if curvature else doors.add_sums if with_gradient else doors.add_value
        sum_blocks(self.blocks, lambda rows, out: add(rows, w, b, out), len(sums), self.n_threads, sums)

    def _on_parameters(self, w: Any, name: str) -> np.ndarray:
        return validate.as_parameters(w, self.n_features + self.fit_intercept, name)

    def _on_out(self, out: Any, name: str = "out") -> None:
        validate.check_out(out, self.n_features + self.fit_intercept, name)

    def _on_overlap(self, out: np.ndarray, w: Any, name: str) -> None:
        data = {"X": self.X, "y": self.y, "sample_weight": self.sample_weight}
        if w is None:  # w itself is written to
            validate.refuse_overlap(out, name, **data)
        else:
            validate.refuse_overlap(out, "out", **data, **{name: w})

    def _on_lr(self, lr: Any) -> float:
        return validate.as_number(lr, "lr", least=0)

    def _on_overflow(self, w: Any, name: str = "w") -> None:
        """A sum that is not finite: bad input, or finite input too large for its square."""
        validate.refuse_nonfinite(X=self.X, y=self.y, sample_weight=self.sample_weight, **{name: w})

    def _on_divergence(self, w: np.ndarray, loss: float, lr: float) -> None:
        raise DivergenceError(
            f"a step of lr={lr:g} overflows (the loss is {loss:g}), w was left as it is: lr or the data is too large",
            lr=lr,
            w=w.copy(),
            loss=loss,
        )


def mse(X: Any, y: Any, w: Any) -> float:
    """Mean squared error of the predictions Xw: L(w) = sum_i (x_i.w - y_i)^2 / n, in one pass over X.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features)
        float32 and float64 of any stride are read where they are, other real dtypes are converted piece by piece.
    y : array_like of shape (n_samples,)
        The target.
    w : array_like of shape (n_features,)
        A coefficient for each column, in units of y per unit of the column.

    Returns
    -------
    float
        In units of y squared.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong dtype or shape, or holds NaN or an infinity. A loss of finite data that overflows is
        returned as infinity.
    """
    short = _mse.short_pass(X, y, w, None, False)
    return MSE(X, y).value(w) if short is None else short[0]


def mse_grad(X: Any, y: Any, w: Any, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient of the mean squared error: (2/n) X'(Xw - y), in one pass over X.

    Parameters
    ----------
    X, y, w : array_like
        As for `mse`.
    out : ndarray of shape (n_features,), optional
        float32 or float64, sharing no memory with the other arguments; written to and returned.

    Returns
    -------
    ndarray of shape (n_features,)
        In units of y squared per unit of w; float32 if X is float32 (or float16), else float64.

    Raises
    ------
    TypeError, ValueError
        As `mse`, and if `out` has the wrong dtype or shape, is read-only, or overlaps an input.
    OverflowError
        If the gradient of finite data overflows.
    """
    return mse_value_and_grad(X, y, w, out)[1]


def mse_value_and_grad(X: Any, y: Any, w: Any, out: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """`mse` and `mse_grad`, both in one pass over X.

    Parameters
    ----------
    X, y, w : array_like
        As for `mse`.
    out : ndarray of shape (n_features,), optional
        As for `mse_grad`.

    Returns
    -------
    loss : float
        As of `mse`.
    gradient : ndarray of shape (n_features,)
        As of `mse_grad`; `out`, if it was given.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `mse_grad`.
    """
    short = _mse.short_pass(X, y, w, out, True)
    return MSE(X, y).value_and_grad(w, out) if short is None else short


class SecondMoments(Summarised):
    """XᵀX, Xᵀy, yᵀy, Σx, Σy and Σs of all rows seen so far, about a shift near the means.

    They are kept as one matrix, the Gram matrix of z = (x, y, 1) - (shift, 0). It is all that a least-squares fit needs
    of the data, and moments of parts merge into those of the whole.

    Parameters
    ----------
    n_features : int
        Columns of X.
    n_threads : int, optional
        As for `MSE`.
    dtype : {None, float64}, default None
        In which products are summed within a few hundred rows; from there on it is float64. None is X's own. `rounding`
        tells what that leaves.
    """

    #: Up to this width the compiled kernel forms the Gram matrix while it reads X; above, BLAS from panels.
    KERNEL_WIDTH = 512

    def __init__(self, n_features: int, n_threads: int | None = None, *, dtype: Any = None) -> None:
        self.n_features = validate.as_positive_integer(n_features, "n_features")
        self.asked_threads = None if n_threads is None else validate.as_positive_integer(n_threads, "n_threads")
        self.in_double = validate.as_accumulator(dtype)
        self.rounding = FLOAT64_ROUNDING
        self.n_samples = 0
        self.shift = np.zeros(n_features + 1)
        self.gram = np.zeros((n_features + 2, n_features + 2))

    def _summary(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("rows", f"{self.n_samples:,}"), ("columns", f"{self.n_features:,}")]
        if self.n_samples:
            rows += [
                ("weight", f"{self.weight:.6g}"),
                ("means of X", figures(self.means[:-1])),
                ("mean of y", figures(self.means[-1])),
                ("rounding", f"{self.rounding:.2g}"),
            ]
        return f"{type(self).__name__}: second moments of X and y", rows

    def update(self, X: Any, y: Any, sample_weight: Any = None) -> SecondMoments:
        """Add rows.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Rows that have not been seen yet; they are not kept.
        y : array_like of shape (n_samples,)
            Their targets.
        sample_weight : array_like of shape (n_samples,), optional
            A weight of 0 is the same as the row's absence, 2 the same as its repetition.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type or shape, or holds NaN or an infinity. Nothing is added then.
        """
        shift = self.shift if self.n_samples else None
        short = None
        if sample_weight is None and self.n_features <= self.KERNEL_WIDTH:
            short = _moments.short_gram(X, y, self.n_features, shift, self.in_double, TINIEST_SQUARES)
        self.add(*(self.sum(X, y, sample_weight, shift) if short is None else short))
        return self

    def add(self, n_samples: int, shift: np.ndarray, gram: np.ndarray, narrow: bool) -> None:
        """Add the Gram matrix of so many rows about the shift, summed in float32 where `narrow`."""
        self.shift = shift
        self.gram = self.gram + gram if self.n_samples else gram
        self.n_samples += n_samples
        self.rounding = max(self.rounding, FLOAT32_ROUNDING if narrow else FLOAT64_ROUNDING)

    def sum(
        self, X: Any, y: Any, sample_weight: Any, shift: np.ndarray | None
    ) -> tuple[int, np.ndarray, np.ndarray, bool]:
        """The rows' number, the shift (chosen where None), the Gram matrix, and whether it was summed in float32."""
        X = validate.as_matrix(X, n_features=self.n_features)
        y = validate.as_vector(y, len(X))
        weights, _ = validate.as_weights(sample_weight, len(X))
        first = shift is None
        if shift is None:
            shift = self.first_shift(X, y, weights)
        in_double = self.in_double or isinstance(X, CSR)
        narrow = validate.kernel_dtype(X.dtype) == np.float32 and not in_double
        if narrow and (first or np.array_equal(shift[:-1].astype(np.float32), shift[:-1])):
            gram = self.moments_of(X, y, weights, shift, in_double=False)
            if fits_float32(X, y, weights, shift, gram):
                return len(X), shift, gram, True
        gram = self.moments_of(X, y, weights, shift, in_double=True)
        if not np.isfinite(gram).all():
            validate.refuse_nonfinite(X=X, y=y, sample_weight=weights)
            raise OverflowError("the second moments of X and y overflow; scale the data down")
        refuse_underflow(X, y, weights, shift, np.diagonal(gram))
        return len(X), shift, gram, False

    @property
    def n_threads(self) -> int:
        """Threads an update may use."""
        return resolve_threads(self.asked_threads)

    def first_shift(self, X: np.ndarray | CSR, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """A row amid the others, or zero where BLAS can read X in place and no column's mean is far from zero."""
        shift = typical_row(X, y, weights)
        if self.n_features > self.KERNEL_WIDTH and weights is None and not isinstance(X, CSR) and near_zero(X):
            shift[:-1] = 0.0
        return shift

    def moments_of(
        self, X: np.ndarray | CSR, y: np.ndarray, weights: np.ndarray | None, shift: np.ndarray, *, in_double: bool
    ) -> np.ndarray:
        """The Gram matrix of these rows about the shift."""
        order = self.n_features + 2
        blocks = row_blocks(X, y, weights, least=max(512, 64 * order))
        if self.n_features > self.KERNEL_WIDTH or isinstance(X, CSR):
            return gram_by_panels(blocks, shift, in_double)
        sums = np.zeros(order * order)
        sum_blocks(
            blocks, lambda rows, out: _moments.add_gram(rows, shift, out, in_double), len(sums), self.n_threads, sums
        )
        gram = sums.reshape(order, order)
        _moments.mirror(gram)
        return gram

    def merge(self, other: SecondMoments) -> SecondMoments:
        """Add the rows that `other` has seen.

        Parameters
        ----------
        other : Moments
            Of as many features; it stays as it is.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `other` is something else, or of other features.
        """
        if not isinstance(other, SecondMoments):
            raise TypeError(f"other must be Moments, got {type(other).__name__}")
        if other.n_features != self.n_features:
            raise ValueError(f"other has {other.n_features} features, these moments {self.n_features}")
        if not self.n_samples:
            self.shift = other.shift.copy()
        self.gram += other.about(self.shift)
        self.n_samples += other.n_samples
        self.rounding = max(self.rounding, other.rounding)
        return self

    def about(self, shift: np.ndarray) -> np.ndarray:
        """The Gram matrix of (x, y, 1) - (shift, 0)."""
        step = np.append(self.shift - shift, 0.0)
        sums = self.gram[-1]
        return self.gram + np.outer(step, sums) + np.outer(sums, step) + sums[-1] * np.outer(step, step)

    @property
    def weight(self) -> float:
        """Sum of the sample weights."""
        return float(self.gram[-1, -1])

    @property
    def means(self) -> np.ndarray:
        """Weighted means of the columns of X, then of y."""
        return self.shift + self.gram[-1, :-1] / self.weight


def typical_row(X: np.ndarray | CSR, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """A row amid the others, as double: of the first, middle and last row the middle value of each column.

    As a shift it needs to be near the means only; the middle of three is also when one of the rows is an outlier. Rows
    of weight zero are not there.
    """
    places = [first_weighted(weights, start) for start in (0, len(X) // 2, len(X) - 1)]
    rows = np.empty((3, X.shape[1] + 1))
    rows[:, :-1], rows[:, -1] = X[places], y[places]
    rows.sort(axis=0)
    return rows[1].copy()


def first_weighted(weights: np.ndarray | None, start: int) -> int:
    """The first row from `start` on, and then from the beginning, with a weight above zero."""
    if weights is None or weights[start] > 0:
        return start
    step = 1 << 16
    for place in (*range(start, len(weights), step), *range(0, start, step)):
        found = weights[place : place + step] > 0
        if found.any():
            return place + int(found.argmax())
    raise ValueError("sample_weight is zero everywhere")


def near_zero(X: np.ndarray) -> bool:
    """Whether sums of squares about zero lose no more than a digit beside those about the means.

    As far as some rows show: no column's mean is more than three times its deviation.
    """
    rows = X[:: max(1, len(X) // SAMPLE)].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        means, squares = rows.mean(axis=0), np.einsum("ij,ij->j", rows, rows) / len(rows)
        return bool((means**2 < 9 * (squares - means**2)).all())


def fits_float32(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray | None, shift: np.ndarray, gram: np.ndarray
) -> bool:
    """Whether float32 lanes could hold the squares: nothing overflowed, and no digit was lost at the other end."""
    if not np.isfinite(gram).all():
        return False
    small = np.diagonal(gram) < TINIEST_SQUARE_IN_FLOAT32 * len(X)
    if small[-1]:
        return False
    return varying_column(X, y, weights, shift, small) is None


def refuse_underflow(
    X: np.ndarray | CSR, y: np.ndarray, weights: np.ndarray | None, shift: np.ndarray, squares: np.ndarray
) -> None:
    """Raise OverflowError if squares about the shift have lost their digits, or all, to the end of float64's range."""
    column = varying_column(X, y, weights, shift, squares < TINIEST_SQUARE * squares[-1])
    if column is not None:
        name = f"column {column} of X" if column < X.shape[1] else "y"
        raise OverflowError(f"the squares of {name} are too small for float64; scale it up")


def varying_column(
    X: np.ndarray | CSR, y: np.ndarray, weights: np.ndarray | None, shift: np.ndarray, suspects: np.ndarray
) -> int | None:
    """The first suspect, of the columns of X and of y, that is not constant: its squares should not be as small.

    Those of a constant column are zero too, but all its entries are the shift.
    """
    if not suspects.any():
        return None
    step = 1 << 16
    columns = np.flatnonzero(suspects[:-1])
    if len(columns) and isinstance(X, CSR):  # of which many may be empty
        columns = columns[np.append((shift[:-1] != 0) | X.held(), True)[columns]]
    for column in columns:
        values = X[:, column] if column < X.shape[1] else y
        for start in range(0, len(values), step):
            varies = values[start : start + step] != shift[column]
            if weights is not None:
                varies &= weights[start : start + step] > 0
            if varies.any():
                return int(column)
    return None


def gram_by_panels(blocks: list[Block], shift: np.ndarray, in_double: bool) -> np.ndarray:
    """The Gram matrix by BLAS, from panels of so many rows that adding up their products stays cheap."""
    order = len(shift) + 1
    gram = np.zeros((order, order))
    first = blocks[0]
    dtype = np.dtype(np.float64) if in_double else validate.kernel_dtype(first.X.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # whoever asked looks at the sums
        natives = [block for block in blocks if isinstance(block, RowBlock)]
        if natives and first.s is None and first.X.dtype == dtype and not shift[:-1].any():
            add_in_place(natives, shift[-1], gram)
        else:
            add_copied(blocks, shift, dtype, gram)
        gram[-2:, -2:] = sum(side_moments(block, shift[-1]) for block in blocks)
    return gram


def side_moments(block: Block, y_shift: float) -> np.ndarray:
    """The Gram matrix of (y - shift, 1), in double whatever X is."""
    target = np.asarray(block.y, np.float64) - y_shift
    weights = np.ones(len(target)) if block.s is None else np.asarray(block.s, np.float64)
    weighted = weights * target
    return np.array([[weighted @ target, weighted.sum()], [weighted.sum(), weights.sum()]])


def add_in_place(blocks: list[RowBlock], y_shift: float, gram: np.ndarray) -> None:
    """Add the Gram matrix of X as it is, without a copy."""
    d = len(gram) - 2
    product = np.empty((d, d), blocks[0].X.dtype)
    rows = max(1024, min(IN_PLACE_ROWS, IN_PLACE_PRODUCTS // (d * d)))
    for block in blocks:
        target = np.asarray(block.y, np.float64) - y_shift
        sides = np.column_stack([target, np.ones(len(target))]).astype(product.dtype)
        for start in range(0, len(sides), rows):
            part = block.X[start : start + rows]
            gram[:d, :d] += np.matmul(part.T, part, out=product)
            gram[d:, :d] += sides[start : start + rows].T @ part
    gram[:d, d:] = gram[d:, :d].T


def add_copied(blocks: list[Block], shift: np.ndarray, dtype: np.dtype, gram: np.ndarray) -> None:
    """Add the Gram matrix of the rows shifted and scaled, panel after panel."""
    doors = _sparse if isinstance(blocks[0].X, CSR) else _moments
    product = np.empty(gram.shape, dtype)
    panel = np.empty((min(max(256, len(gram)), 2048), len(gram)), dtype)
    filled = 0
    for block in blocks:
        for rows in block.pieces():
            start = 0
            while start < len(rows):
                part = panel[filled : filled + len(rows) - start]
                doors.fill_panel(rows, start, shift, part)
                start += len(part)
                filled += len(part)
                if filled == len(panel):
                    gram += np.matmul(panel.T, panel, out=product)
                    filled = 0
    rest = panel[:filled]
    gram += np.matmul(rest.T, rest, out=product)


def column_moments(objective: MSE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A shift, and about it the sums and the sums of squares of the columns of [X, y, 1], in one pass over X."""
    shift = typical_row(objective.X, objective.y, objective.sample_weight)
    order = len(shift) + 1
    doors = _sparse if isinstance(objective.X, CSR) else _moments
    sums = sum_blocks(
        objective.blocks, lambda rows, out: doors.add_columns(rows, shift, out), 2 * order, objective.n_threads
    )
    if not np.isfinite(sums).all():
        validate.refuse_nonfinite(X=objective.X, y=objective.y, sample_weight=objective.sample_weight)
        raise OverflowError("the squares of X or y overflow; scale the data down")
    refuse_underflow(objective.X, objective.y, objective.sample_weight, shift, sums[order:])
    return shift, sums[:order], sums[order:]
