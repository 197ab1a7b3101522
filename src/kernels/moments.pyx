"""Second moments of one block of rows: the Gram matrix of [X, y, 1], and its diagonal and last column alone.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. With z_i = (x_i, y_i, 1) less a
shift of which the last entry is 0, and weights s_i, the kernels add over the rows of a block

    gram:     sums[a * (d + 2) + b] += sum_i s_i z_ia z_ib                       for a <= b
    columns:  sums[a] += sum_i s_i z_ia      and      sums[d + 2 + a] += sum_i s_i z_ia^2

The Gram matrix thus holds X'X, X'y, y'y, and in its last column the sums of X, y and of the weights. A shift near
the column means keeps what the means would cancel. Rows are converted to double, shifted and scaled by sqrt(s_i)
into panels that stay in the cache; `panel` hands out such a panel for a matrix product made elsewhere. An argument
`like` has X's type and no meaning else.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport sqrt

from fastgd._targets cimport target_at, weight_at
from fastgd._types cimport MomentsKernels, Rows, real

cdef enum:
    BLOCK_ROWS = 4          # a block of the Gram matrix that is summed in registers
    BLOCK_COLS = 16
    BLOCK = 64
    PANEL_MAX = 256         # rows
    PANEL_ELEMENTS = 4096   # what a panel may take of the L1 cache


cdef inline Py_ssize_t padded(Py_ssize_t columns) noexcept nogil:
    return (columns + BLOCK_COLS - 1) // BLOCK_COLS * BLOCK_COLS


cdef inline Py_ssize_t panel_rows(Py_ssize_t width) noexcept nogil:
    return min(max(<Py_ssize_t> PANEL_ELEMENTS // width, <Py_ssize_t> 16), <Py_ssize_t> PANEL_MAX)


cdef inline Py_ssize_t distance(Py_ssize_t step) noexcept nogil:
    return -step if step < 0 else step


# ---- panels: rows of [x, y, 1], shifted, scaled, double ------------------------------------------------------------

cdef inline void shift_in(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, double *panel, Py_ssize_t width,
    real like
) noexcept nogil:
    """The first d columns of the panel: X less its shift, walking X in the order of its memory."""
    cdef const real *x = <const real *> rows.X + start * rows.x_row
    cdef Py_ssize_t i, j
    if rows.x_col == 1:
        for i in range(count):
            for j in range(rows.d):
                panel[i * width + j] = x[i * rows.x_row + j] - shift[j]
    elif distance(rows.x_row) < distance(rows.x_col):
        for j in range(rows.d):
            for i in range(count):
                panel[i * width + j] = x[i * rows.x_row + j * rows.x_col] - shift[j]
    else:
        for i in range(count):
            for j in range(rows.d):
                panel[i * width + j] = x[i * rows.x_row + j * rows.x_col] - shift[j]


cdef inline void fill_panel(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, double *panel, Py_ssize_t width,
    real like
) noexcept nogil:
    cdef Py_ssize_t i, j, row, d = rows.d
    cdef double scale
    shift_in(rows, start, count, shift, panel, width, like)
    for i in range(count):
        row = start + i
        panel[i * width + d] = target_at(&rows.targets, row) - shift[d] if rows.targets.y != NULL else 0.0
        panel[i * width + d + 1] = 1.0
        for j in range(d + 2, width):
            panel[i * width + j] = 0.0
    if rows.targets.s != NULL:
        for i in range(count):
            scale = sqrt(weight_at(&rows.targets, start + i))
            for j in range(d + 2):
                panel[i * width + j] *= scale


# ---- sums over a panel -----------------------------------------------------------------------------------------------

cdef void gram_block(
    const double *left, const double *right, Py_ssize_t width, Py_ssize_t count, double *block_out
) noexcept nogil:
    """block_out[a, k] = sum_i left[i, a] right[i, k]."""
    cdef double block[BLOCK]
    cdef Py_ssize_t i, k
    cdef double l0, l1, l2, l3
    for k in range(BLOCK):
        block[k] = 0
    for i in range(count):
        l0 = left[i * width]
        l1 = left[i * width + 1]
        l2 = left[i * width + 2]
        l3 = left[i * width + 3]
        for k in range(BLOCK_COLS):
            block[k] += l0 * right[i * width + k]
            block[BLOCK_COLS + k] += l1 * right[i * width + k]
            block[2 * BLOCK_COLS + k] += l2 * right[i * width + k]
            block[3 * BLOCK_COLS + k] += l3 * right[i * width + k]
    for k in range(BLOCK):
        block_out[k] = block[k]


cdef void add_gram(
    const double *panel, Py_ssize_t width, Py_ssize_t count, Py_ssize_t order, double *sums_out
) noexcept nogil:
    """Add the panel's Gram matrix above and on the diagonal, block by block."""
    cdef double block[BLOCK]
    cdef Py_ssize_t a, b = 0, j, k
    while b < width:
        a = 0
        while a < min(b + BLOCK_COLS, order):
            gram_block(panel + a, panel + b, width, count, block)
            for j in range(a, min(a + BLOCK_ROWS, order)):
                for k in range(max(b, j), min(b + BLOCK_COLS, order)):
                    sums_out[j * order + k] += block[(j - a) * BLOCK_COLS + k - b]
            a += BLOCK_ROWS
        b += BLOCK_COLS


cdef void add_columns(
    const double *panel, Py_ssize_t width, Py_ssize_t count, Py_ssize_t order, double *sums_out
) noexcept nogil:
    cdef const double *p
    cdef double root
    cdef Py_ssize_t i, k
    for i in range(count):
        p = panel + i * width
        root = p[order - 1]
        for k in range(order):
            sums_out[k] += root * p[k]
            sums_out[order + k] += p[k] * p[k]


# ---- the kernels of the table ----------------------------------------------------------------------------------------

cdef Py_ssize_t scratch_reals(const Rows *rows) noexcept nogil:
    """Doubles of scratch that `gram` and `columns` need for these rows."""
    cdef Py_ssize_t width = padded(rows.d + 2)
    return width * panel_rows(width)


cdef inline void sum_panels(
    const Rows *rows, const double *shift, double *sums_out, double *panel, bint gram, real like
) noexcept nogil:
    cdef Py_ssize_t order = rows.d + 2, width = padded(order), start = 0, count
    while start < rows.n:
        count = min(panel_rows(width), rows.n - start)
        fill_panel(rows, start, count, shift, panel, width, like)
        if gram:
            add_gram(panel, width, count, order, sums_out)
        else:
            add_columns(panel, width, count, order, sums_out)
        start += count


cdef void gram_f32(const Rows *rows, const double *shift, double *sums_out, double *scratch) noexcept nogil:
    sum_panels(rows, shift, sums_out, scratch, True, <float> 0)


cdef void gram_f64(const Rows *rows, const double *shift, double *sums_out, double *scratch) noexcept nogil:
    sum_panels(rows, shift, sums_out, scratch, True, <double> 0)


cdef void columns_f32(const Rows *rows, const double *shift, double *sums_out, double *scratch) noexcept nogil:
    sum_panels(rows, shift, sums_out, scratch, False, <float> 0)


cdef void columns_f64(const Rows *rows, const double *shift, double *sums_out, double *scratch) noexcept nogil:
    sum_panels(rows, shift, sums_out, scratch, False, <double> 0)


cdef void panel_f32(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, double *panel_out
) noexcept nogil:
    fill_panel(rows, start, count, shift, panel_out, rows.d + 2, <float> 0)


cdef void panel_f64(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, double *panel_out
) noexcept nogil:
    fill_panel(rows, start, count, shift, panel_out, rows.d + 2, <double> 0)


cdef MomentsKernels kernels = MomentsKernels(
    gram_f32=gram_f32, gram_f64=gram_f64, columns_f32=columns_f32, columns_f64=columns_f64,
    panel_f32=panel_f32, panel_f64=panel_f64, scratch_reals=scratch_reals,
)

table = PyCapsule_New(&kernels, "fastgd.MomentsKernels", NULL)
