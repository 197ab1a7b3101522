"""Second moments of NumPy arrays, over the kernels of src/kernels/moments.pyx."""

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer

from fastgd._rows cimport RowBlock
from fastgd._types cimport MomentsKernels, Rows, Targets, moments_fn

cnp.import_array()

cdef enum:
    LINE = 64                   # bytes of a cache line, where scratch starts
    LEAST_ROWS = 512            # in a call of the kernel, and of which their number is a multiple: whole tiles
    PIECE_PRODUCTS = 1 << 28    # products of columns between two looks at Ctrl-C

cdef MomentsKernels *kernels


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels
    kernels = <MomentsKernels *> PyCapsule_GetPointer(table, "fastgd.MomentsKernels")


cdef int run(moments_fn kernel, RowBlock block, Py_ssize_t most, const double *shift, double *out) except -1:
    """The kernel on all rows, `most` of them at a time: Ctrl-C is heard between."""
    cdef Rows rows = block.rows
    cdef Py_ssize_t start = 0, size = 4 if block.is_float else 8
    cdef char *scratch = <char *> PyMem_RawMalloc(kernels.scratch_bytes(&block.rows) + LINE)
    if scratch == NULL:
        raise MemoryError()
    try:
        while start < block.rows.n:
            rows.n = min(most, block.rows.n - start)
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


def add_gram(RowBlock block not None, double[::1] shift, double[::1] out, bint in_double=False):
    """Add the block's Gram matrix of [X, y, 1] less (shift, 0) to `out`, flat (d + 2, d + 2), upper triangle.

    Float X is summed in float from tile to tile, and takes a shift of floats; in double altogether if `in_double`.
    """
    cdef Py_ssize_t order = block.rows.d + 2, most = max(<Py_ssize_t> LEAST_ROWS, PIECE_PRODUCTS // (order * order))
    check(block, shift, out.shape[0], order * order)
    run(
        kernels.gram_f64 if not block.is_float else kernels.gram_f32_in_double if in_double else kernels.gram_f32,
        block, most // LEAST_ROWS * LEAST_ROWS, &shift[0], &out[0],
    )


def add_columns(RowBlock block not None, double[::1] shift, double[::1] out):
    """Add the weighted sums of [X, y, 1] less (shift, 0) to `out[: d + 2]` and those of its squares to the rest."""
    cdef Py_ssize_t order = block.rows.d + 2
    check(block, shift, out.shape[0], 2 * order)
    run(kernels.columns_f32 if block.is_float else kernels.columns_f64, block, block.rows.n, &shift[0], &out[0])


def mirror(double[:, ::1] gram):
    """Copy what is above the diagonal of a square matrix below it."""
    cdef Py_ssize_t order = gram.shape[0], i, j
    if gram.shape[1] != order:
        raise ValueError("mirror takes a square matrix")
    for i in range(order):
        for j in range(i):
            gram[i, j] = gram[j, i]


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
