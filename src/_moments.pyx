"""Second moments of NumPy arrays, over the kernels of src/kernels/moments.pyx."""

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isfinite, sqrt

from fastgd._rows cimport RowBlock, fill_targets, native
from fastgd._types cimport MomentsKernels, Rows, Targets, moments_fn

cnp.import_array()

cdef enum:
    LINE = 64                   # bytes of a cache line, where scratch starts
    LEAST_ROWS = 512            # in a call of the kernel, and of which their number is a multiple: whole tiles
    SHORT_BYTES = 1 << 21       # of X that are always one block
    PIECE_PRODUCTS = 1 << 28    # products of columns between two looks at Ctrl-C

cdef MomentsKernels *kernels


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels
    kernels = <MomentsKernels *> PyCapsule_GetPointer(table, "fastgd.MomentsKernels")


cdef int run(
    moments_fn kernel, const Rows *source, bint is_float, Py_ssize_t most, const double *shift, double *out
) except -1:
    """The kernel on all rows, `most` of them at a time: Ctrl-C is heard between."""
    cdef Rows rows = source[0]
    cdef Py_ssize_t start = 0, size = 4 if is_float else 8
    cdef char *scratch = <char *> PyMem_RawMalloc(kernels.scratch_bytes(source) + LINE)
    if scratch == NULL:
        raise MemoryError()
    try:
        while start < source.n:
            rows.n = min(most, source.n - start)
            with nogil:
                kernel(&rows, shift, out, scratch + (LINE - <size_t> scratch % LINE))
            PyErr_CheckSignals()
            advance(&rows, size)
            start += rows.n
    finally:
        PyMem_RawFree(scratch)
    return 0


cdef void advance(Rows *rows, Py_ssize_t size) noexcept:
    """Point behind the rows."""
    cdef Targets *targets = &rows.targets
    rows.X = <const char *> rows.X + rows.n * rows.x_row * size
    if targets.y != NULL:
        targets.y = <const char *> targets.y + rows.n * targets.y_step * (4 if targets.y_is_float else 8)
    if targets.s != NULL:
        targets.s = <const char *> targets.s + rows.n * targets.s_step * (4 if targets.s_is_float else 8)


cdef int check(RowBlock block, double[::1] shift, Py_ssize_t size, Py_ssize_t wanted) except -1:
    if shift.shape[0] != block.rows.d + 1 or size != wanted:
        raise ValueError(f"a block of {block.rows.d} columns takes a shift of one entry more and {wanted} sums")
    return 0


cdef int run_gram(const Rows *rows, bint is_float, bint in_double, const double *shift, double *out) except -1:
    cdef Py_ssize_t order = rows.d + 2, most = max(<Py_ssize_t> LEAST_ROWS, PIECE_PRODUCTS // (order * order))
    run(
        kernels.gram_f64 if not is_float else kernels.gram_f32_in_double if in_double else kernels.gram_f32,
        rows, is_float, most // LEAST_ROWS * LEAST_ROWS, shift, out,
    )
    return 0


def add_gram(RowBlock block not None, double[::1] shift, double[::1] out, bint in_double=False):
    """Add the block's Gram matrix of [X, y, 1] less (shift, 0) to `out`, flat (d + 2, d + 2), upper triangle.

    Float X is summed in float from tile to tile, and takes a shift of floats; in double altogether if `in_double`.
    """
    cdef Py_ssize_t order = block.rows.d + 2
    check(block, shift, out.shape[0], order * order)
    run_gram(&block.rows, block.is_float, in_double, &shift[0], &out[0])


def add_columns(RowBlock block not None, double[::1] shift, double[::1] out):
    """Add the weighted sums of [X, y, 1] less (shift, 0) to `out[: d + 2]` and those of its squares to the rest."""
    cdef Py_ssize_t order = block.rows.d + 2
    check(block, shift, out.shape[0], 2 * order)
    run(
        kernels.columns_f32 if block.is_float else kernels.columns_f64, &block.rows, block.is_float, block.rows.n,
        &shift[0], &out[0],
    )


cdef void copy_below(double *gram, Py_ssize_t order) noexcept:
    cdef Py_ssize_t i, j
    for i in range(order):
        for j in range(i):
            gram[i * order + j] = gram[j * order + i]


def mirror(double[:, ::1] gram):
    """Copy what is above the diagonal of a square matrix below it."""
    if gram.shape[1] != gram.shape[0]:
        raise ValueError("mirror takes a square matrix")
    copy_below(&gram[0, 0], gram.shape[0])


# ---- few rows: what Python would take longer for than the kernel ---------------------------------------------------

cdef bint point_at(object X, object y, object s, Py_ssize_t d, Rows *rows) except -1:
    """Whether these are native arrays of a short block of d columns, pointed at then; s may be None."""
    cdef Py_ssize_t size
    if type(X) is not cnp.ndarray or type(y) is not cnp.ndarray:
        return False
    if cnp.PyArray_NDIM(X) != 2 or cnp.PyArray_NDIM(y) != 1 or not native(X) or not native(y):
        return False
    if s is not None and not (
        type(s) is cnp.ndarray and cnp.PyArray_NDIM(s) == 1 and native(s)
        and cnp.PyArray_DIM(s, 0) == cnp.PyArray_DIM(X, 0)
    ):
        return False
    size = cnp.PyArray_ITEMSIZE(X)
    rows.X = cnp.PyArray_DATA(X)
    rows.n = cnp.PyArray_DIM(X, 0)
    rows.d = cnp.PyArray_DIM(X, 1)
    rows.x_row = cnp.PyArray_STRIDE(X, 0) // size
    rows.x_col = cnp.PyArray_STRIDE(X, 1) // size
    rows.streams = 1
    fill_targets(&rows.targets, y, s)
    return 0 < rows.n == cnp.PyArray_DIM(y, 0) and rows.d == d and rows.n * rows.d * size <= SHORT_BYTES


cdef inline double element(const void *x, bint is_float, Py_ssize_t place) noexcept:
    return (<const float *> x)[place] if is_float else (<const double *> x)[place]


cdef inline double middle(const void *x, bint is_float, Py_ssize_t step, const Py_ssize_t *places) noexcept:
    """The middle one of three elements."""
    cdef double a = element(x, is_float, places[0] * step), b = element(x, is_float, places[1] * step)
    cdef double c = element(x, is_float, places[2] * step)
    return max(min(a, b), min(max(a, b), c))


cdef Py_ssize_t first_weighted(const Rows *rows, Py_ssize_t start) noexcept:
    """`first_weighted` of `fastgd.objective`; where no weight is above zero, the start."""
    cdef const Targets *targets = &rows.targets
    cdef Py_ssize_t i, place
    for i in range(rows.n if targets.s != NULL else 0):
        place = (start + i) % rows.n
        if element(targets.s, targets.s_is_float, place * targets.s_step) > 0:
            return place
    return start


cdef void take_typical(const Rows *rows, bint is_float, double *shift_out) noexcept:
    """`typical_row` of `fastgd.objective`."""
    cdef Py_ssize_t j, size = 4 if is_float else 8
    cdef Py_ssize_t[3] places
    places[0], places[1], places[2] = 0, rows.n // 2, rows.n - 1
    for j in range(3):
        places[j] = first_weighted(rows, places[j])
    for j in range(rows.d):
        shift_out[j] = middle(<const char *> rows.X + j * rows.x_col * size, is_float, rows.x_row, places)
    shift_out[rows.d] = middle(rows.targets.y, rows.targets.y_is_float, rows.targets.y_step, places)


cdef bint are_floats(const double *values, Py_ssize_t size) noexcept:
    cdef Py_ssize_t j
    for j in range(size):
        if <float> values[j] != values[j]:
            return False
    return True


cdef bint sound(const double *gram, Py_ssize_t order, double least) noexcept:
    """Whether all sums above the diagonal are finite, and those of squares not below `least`."""
    cdef Py_ssize_t i, j
    for i in range(order):
        if gram[i * order + i] < least:
            return False
        for j in range(i, order):
            if not isfinite(gram[i * order + j]):
                return False
    return True


def short_gram(X, y, Py_ssize_t d, cnp.ndarray shift, bint in_double, least, s=None):
    """(n, shift, Gram matrix, whether summed in float) of few rows of native arrays, weighted by s if given; else None.

    And None where a sum is not finite, or one of squares below that of rows of which each has the square `least[0]`,
    or `least[1]` where float32 is summed in float32. The shift is that of a typical row where None is given.
    """
    cdef Rows rows
    cdef cnp.npy_intp shape[2]
    cdef cnp.ndarray gram
    cdef const double *by
    cdef double total
    cdef bint is_float, narrow
    if not point_at(X, y, s, d, &rows):
        return None
    is_float = cnp.PyArray_TYPE(X) == cnp.NPY_FLOAT
    shape[0] = d + 1
    if shift is None:
        shift = cnp.PyArray_EMPTY(1, shape, cnp.NPY_DOUBLE, 0)
        take_typical(&rows, is_float, <double *> cnp.PyArray_DATA(shift))
    elif not (
        shift.ndim == 1 and cnp.PyArray_DIM(shift, 0) == d + 1 and cnp.PyArray_TYPE(shift) == cnp.NPY_DOUBLE
        and cnp.PyArray_IS_C_CONTIGUOUS(shift)
    ):
        raise ValueError("a shift is float64 and has one entry more than there are columns")
    by = <const double *> cnp.PyArray_DATA(shift)
    narrow = is_float and not in_double and are_floats(by, d)
    shape[0] = shape[1] = d + 2
    gram = cnp.PyArray_ZEROS(2, shape, cnp.NPY_DOUBLE, 0)
    run_gram(&rows, is_float, not narrow, by, <double *> cnp.PyArray_DATA(gram))
    total = (<const double *> cnp.PyArray_DATA(gram))[(d + 2) * (d + 2) - 1]
    if not (total > 0 and sound(<const double *> cnp.PyArray_DATA(gram), d + 2, <double> least[narrow] * total)):
        return None
    copy_below(<double *> cnp.PyArray_DATA(gram), d + 2)
    return rows.n, shift, gram, narrow


def fill_panel(RowBlock block not None, Py_ssize_t start, double[::1] shift, cnp.ndarray panel_out not None):
    """Rows `start`, `start + 1`, ... of sqrt(s) * ([X, y, 1] less (shift, 0)), as many as the panel holds.

    The panel is C-contiguous, and float64, or float32 of float32 columns.
    """
    cdef Py_ssize_t count = len(panel_out)
    cdef bint narrow = cnp.PyArray_TYPE(panel_out) == cnp.NPY_FLOAT
    cdef void *out = cnp.PyArray_DATA(panel_out)
    if not (
        cnp.PyArray_IS_C_CONTIGUOUS(panel_out) and panel_out.ndim == 2
        and (cnp.PyArray_TYPE(panel_out) == cnp.NPY_DOUBLE or (narrow and block.is_float))
    ):
        raise ValueError("a panel is a contiguous matrix of float64, or of float32 for float32 columns")
    check(block, shift, cnp.PyArray_DIM(panel_out, 1), block.rows.d + 2)
    if start < 0 or start + count > block.rows.n:
        raise ValueError("the panel reaches beyond the block")
    with nogil:
        if narrow:
            kernels.panel_f32(&block.rows, start, count, &shift[0], out)
        elif block.is_float:
            kernels.panel_f32_in_double(&block.rows, start, count, &shift[0], out)
        else:
            kernels.panel_f64(&block.rows, start, count, &shift[0], out)


def solve_cholesky(double[:, ::1] lower, double[::1] x_out):
    """Overwrite x with the solution of L L' x = b, of which it holds b; L is lower triangular.

    Forward substitution by rows of L, then backward by the same rows, as columns of L' (Golub and Van Loan, Matrix
    Computations, 4th ed., algorithms 3.1.1 and 3.1.4).
    """
    cdef Py_ssize_t d = x_out.shape[0], i, j
    cdef double *x = &x_out[0]
    cdef const double *row
    cdef double dot
    if lower.shape[0] != d or lower.shape[1] != d:
        raise ValueError("solve_cholesky takes a square factor of the vector's size")
    with nogil:
        for i in range(d):
            row = &lower[i, 0]
            dot = 0
            for j in range(i):
                dot += row[j] * x[j]
            x[i] = (x[i] - dot) / row[i]
        for i in range(d - 1, -1, -1):
            row = &lower[i, 0]
            x[i] /= row[i]
            for j in range(i):
                x[j] -= x[i] * row[j]


# ---- gradient descent on a quadratic ---------------------------------------------------------------------------------

cdef struct Pace:
    # Of a step: its size and momentum, whether the gradient is taken ahead, and whether the momentum grows with t.
    double lr
    double momentum
    double t
    bint nesterov
    bint restarted


cdef double grow(double *t) noexcept nogil:
    """The next momentum of one that grows: (t_k - 1) / t_{k+1}, t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2."""
    cdef double grown = (1 + sqrt(1 + 4 * t[0] * t[0])) / 2, momentum = (t[0] - 1) / grown
    t[0] = grown
    return momentum


cdef void next_change(Pace *pace, Py_ssize_t d, const double *slope, double *before, double *change) noexcept nogil:
    """Overwrite the last change with the next one, and the slope before with this one."""
    cdef double momentum = grow(&pace.t) if pace.restarted else pace.momentum
    cdef double ahead = momentum if pace.nesterov else 0.0, uphill = 0, that
    cdef Py_ssize_t j
    for j in range(d):
        that = slope[j] + ahead * (slope[j] - before[j])
        change[j] = momentum * change[j] - pace.lr * that
        uphill += that * change[j]
        before[j] = slope[j]
    if pace.restarted and uphill > 0:
        pace.t = 1
        for j in range(d):
            change[j] = -pace.lr * slope[j]


cdef void slope_at(
    const double *matrix, const double *side, const double *anchor, const double *e, double *slope_out, Py_ssize_t d
) noexcept nogil:
    """anchor + (M + 2 a a') e, with M the matrix and a the side."""
    cdef double along = 0, total
    cdef const double *row
    cdef Py_ssize_t i, j
    for j in range(d):
        along += side[j] * e[j]
    for i in range(d):
        row = matrix + i * d
        total = 0
        for j in range(d):
            total += row[j] * e[j]
        slope_out[i] = anchor[i] + (total + 2 * along * side[i])


def descend(
    const double[:, ::1] matrix, const double[::1] side, const double[::1] anchor, double[::1] change,
    double[::1] before, double[:, ::1] moved_out, double[:, ::1] slopes_out, pace
):
    """Follow gradient descent on a quadratic: the fixed step, momentum and restarts of `fastgd.solvers.gd`.

    At a distance e from an anchor the slope is anchor + (M + 2 a a') e. Row 0 of the distances and the slopes is where
    it goes on from, the rows after it are filled. Returns t, by which the momentum of a restarted descent grows.

    Parameters
    ----------
    matrix, side, anchor : ndarray
        M (d, d), a (d,), and the slope at e = 0.
    change, before : ndarray of shape (d,)
        The last change and the slope before it; overwritten by those of the last step.
    moved_out, slopes_out : ndarray of shape (steps + 1, d)
    pace : tuple
        lr, momentum, t, nesterov, restarted.
    """
    cdef Py_ssize_t d = side.shape[0], rows = moved_out.shape[0], k, j
    cdef Pace given
    cdef double *e
    if not (
        matrix.shape[0] == matrix.shape[1] == anchor.shape[0] == change.shape[0] == before.shape[0] == d > 0
        and moved_out.shape[1] == slopes_out.shape[1] == d and slopes_out.shape[0] == rows > 0
    ):
        raise ValueError("descend takes a square matrix, and vectors and rows of its size")
    given.lr, given.momentum, given.t, given.nesterov, given.restarted = pace
    with nogil:
        for k in range(1, rows):
            next_change(&given, d, &slopes_out[k - 1, 0], &before[0], &change[0])
            e = &moved_out[k, 0]
            for j in range(d):
                e[j] = moved_out[k - 1, j] + change[j]
            slope_at(&matrix[0, 0], &side[0], &anchor[0], e, &slopes_out[k, 0], d)
    return given.t
