"""Sums over one block of sparse rows (CSR): what mse.pyx and moments.pyx are to dense ones, and predictions.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. The meaning of `sums` is that of the
dense kernels: with r_i = x_i.w + b - y_i,

    sums:     sums[0] += sum_i s_i r_i^2      sums[1] += sum_i s_i r_i      sums[2 + j] += sum_i s_i r_i x_ij
    columns:  sums[a] += sum_i s_i z_ia       sums[d + 2 + a] += sum_i s_i z_ia^2       z_i = (x_i, y_i, 1) - (shift, 0)

A row is read from memory once: what its dot product has brought to the nearest cache, the gradient takes from there.
Entries of a row meet those of w and of the gradient

=========================  ===========================================================================================
eight at a time            by the gather and scatter instructions of AVX-512, if the columns of every row ascend, so
                           that no two of the eight are the same, and these instructions are fast (SparseRows.by_lanes)
four at a time             else: products are made by vectors, whose elements are loaded and stored one by one
one by one                 in the last rows, after which there is nothing that a vector could reach into
=========================  ===========================================================================================

Parameters, gradient and products are double, but where X is float and `fits_float` the gradient is computed from a w of
floats and carried in double from one tile of rows to the next: in caches, where the time goes, floats take half the
room. This module is compiled without the vectors that compilers put together element by element (see setup.py).
Entries of a row that name the same column add up; indices are trusted to be below d.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from fastgd._targets cimport load_run, target_at, weight_at
from fastgd._types cimport ASCENDING, INSIDE, OUTSIDE, SparseKernels, SparseRows, real

ctypedef fused index:
    int32_t
    int64_t

ctypedef fused lane:
    float
    double

cdef extern from "scatter.h":
    enum:
        SCATTERS "FASTGD_SCATTERS"
    double dot_fours_f32_f32_i32(const float *x, const int32_t *column, Py_ssize_t n, const float *w) noexcept nogil
    double dot_fours_f32_f32_i64(const float *x, const int64_t *column, Py_ssize_t n, const float *w) noexcept nogil
    double dot_fours_f32_f64_i32(const float *x, const int32_t *column, Py_ssize_t n, const double *w) noexcept nogil
    double dot_fours_f32_f64_i64(const float *x, const int64_t *column, Py_ssize_t n, const double *w) noexcept nogil
    double dot_fours_f64_f64_i32(const double *x, const int32_t *column, Py_ssize_t n, const double *w) noexcept nogil
    double dot_fours_f64_f64_i64(const double *x, const int64_t *column, Py_ssize_t n, const double *w) noexcept nogil
    void add_fours_f32_f32_i32(const float *x, const int32_t *column, Py_ssize_t n, float c, float *g) noexcept nogil
    void add_fours_f32_f32_i64(const float *x, const int64_t *column, Py_ssize_t n, float c, float *g) noexcept nogil
    void add_fours_f32_f64_i32(const float *x, const int32_t *column, Py_ssize_t n, double c, double *g) noexcept nogil
    void add_fours_f32_f64_i64(const float *x, const int64_t *column, Py_ssize_t n, double c, double *g) noexcept nogil
    void add_fours_f64_f64_i32(const double *x, const int32_t *column, Py_ssize_t n, double c, double *g) noexcept nogil
    void add_fours_f64_f64_i64(const double *x, const int64_t *column, Py_ssize_t n, double c, double *g) noexcept nogil
    void carry_f32(float *g, Py_ssize_t d, double *out) noexcept nogil
    double gather_dot_f32_i32(const float *x, const int32_t *column, Py_ssize_t count, const double *w) noexcept nogil
    double gather_dot_f32_i64(const float *x, const int64_t *column, Py_ssize_t count, const double *w) noexcept nogil
    double gather_dot_f64_i32(const double *x, const int32_t *column, Py_ssize_t count, const double *w) noexcept nogil
    double gather_dot_f64_i64(const double *x, const int64_t *column, Py_ssize_t count, const double *w) noexcept nogil
    void scatter_add_f32_i32(const float *x, const int32_t *column, Py_ssize_t n, double c, double *g) noexcept nogil
    void scatter_add_f32_i64(const float *x, const int64_t *column, Py_ssize_t n, double c, double *g) noexcept nogil
    void scatter_add_f64_i32(const double *x, const int32_t *column, Py_ssize_t n, double c, double *g) noexcept nogil
    void scatter_add_f64_i64(const double *x, const int64_t *column, Py_ssize_t n, double c, double *g) noexcept nogil

cdef enum:
    RUN = 64        # rows whose targets are loaded together
    TILE = 512      # rows, whole runs, whose gradient may be summed in float


# ---- one row -------------------------------------------------------------------------------------------------------

cdef inline double dot(const real *x, const index *column, Py_ssize_t count, const lane *w) noexcept nogil:
    """sum_k x[k] w[column[k]]."""
    cdef double p = 0
    cdef Py_ssize_t k
    for k in range(count):
        p += x[k] * w[column[k]]
    return p


cdef inline void scatter(const real *x, const index *column, Py_ssize_t count, lane c, lane *g) noexcept nogil:
    """g[column[k]] += c x[k]."""
    cdef Py_ssize_t k
    for k in range(count):
        g[column[k]] += <lane> (c * x[k])


cdef inline double dot_fours(const real *x, const index *column, Py_ssize_t count, const lane *w) noexcept nogil:
    """`dot` by fours; up to three entries after those of the row must be there."""
    if real is double and index is int32_t:
        return dot_fours_f64_f64_i32(x, column, count, <const double *> w)
    elif real is double:
        return dot_fours_f64_f64_i64(x, column, count, <const double *> w)
    elif lane is double and index is int32_t:
        return dot_fours_f32_f64_i32(x, column, count, w)
    elif lane is double:
        return dot_fours_f32_f64_i64(x, column, count, w)
    elif index is int32_t:
        return dot_fours_f32_f32_i32(x, column, count, w)
    else:
        return dot_fours_f32_f32_i64(x, column, count, w)


cdef inline void add_fours(const real *x, const index *column, Py_ssize_t count, lane c, lane *g) noexcept nogil:
    """`scatter` by fours, with as many entries after those of the row."""
    if real is double and index is int32_t:
        add_fours_f64_f64_i32(x, column, count, c, <double *> g)
    elif real is double:
        add_fours_f64_f64_i64(x, column, count, c, <double *> g)
    elif lane is double and index is int32_t:
        add_fours_f32_f64_i32(x, column, count, c, g)
    elif lane is double:
        add_fours_f32_f64_i64(x, column, count, c, g)
    elif index is int32_t:
        add_fours_f32_f32_i32(x, column, count, c, g)
    else:
        add_fours_f32_f32_i64(x, column, count, c, g)


cdef inline double gather_dot(const real *x, const index *column, Py_ssize_t count, const double *w) noexcept nogil:
    """`dot` by lanes."""
    if real is float and index is int32_t:
        return gather_dot_f32_i32(x, column, count, w)
    elif real is float:
        return gather_dot_f32_i64(x, column, count, w)
    elif index is int32_t:
        return gather_dot_f64_i32(x, column, count, w)
    else:
        return gather_dot_f64_i64(x, column, count, w)


cdef inline void scatter_lanes(
    const real *x, const index *column, Py_ssize_t count, double c, double *g
) noexcept nogil:
    """`scatter` by lanes, of columns that are all different."""
    if real is float and index is int32_t:
        scatter_add_f32_i32(x, column, count, c, g)
    elif real is float:
        scatter_add_f32_i64(x, column, count, c, g)
    elif index is int32_t:
        scatter_add_f64_i32(x, column, count, c, g)
    else:
        scatter_add_f64_i64(x, column, count, c, g)


# ---- mean squared error --------------------------------------------------------------------------------------------

cdef inline void sum_by_eights(
    const SparseRows *rows, const real *data, const index *indices, const index *indptr, const double *w, double b,
    double *sums_out, bint with_gradient
) noexcept nogil:
    cdef double target[RUN]
    cdef double weight[RUN]
    cdef double loss = 0, residual = 0, r, c
    cdef Py_ssize_t start = 0, first = indptr[0], at, count, length, i
    while start < rows.n:
        count = min(rows.n - start, <Py_ssize_t> RUN)
        load_run(&rows.targets, b, start, count, target, weight)
        for i in range(count):
            at = indptr[start + i] - first
            length = indptr[start + i + 1] - first - at
            r = gather_dot(data + at, indices + at, length, w) - target[i]
            c = weight[i] * r
            loss += c * r
            residual += c
            if with_gradient:
                scatter_lanes(data + at, indices + at, length, c, sums_out + 2)
        start += count
    sums_out[0] += loss
    sums_out[1] += residual


cdef inline void sum_by_fours(
    const SparseRows *rows, const real *data, const index *indices, const index *indptr, const lane *w, double b,
    double *sums_out, lane *g
) noexcept nogil:
    """Sums of a w and into a gradient `g` (NULL: none) of this precision; what is left in a `g` of float is zero."""
    cdef double target[RUN]
    cdef double weight[RUN]
    cdef double loss = 0, residual = 0, r, c
    cdef Py_ssize_t start = 0, first = indptr[0], last = indptr[rows.n] - first - 3, at, count, length, i
    while start < rows.n:
        count = min(rows.n - start, <Py_ssize_t> RUN)
        load_run(&rows.targets, b, start, count, target, weight)
        for i in range(count):
            at = indptr[start + i] - first
            length = indptr[start + i + 1] - first - at
            if at + length < last:
                r = dot_fours(data + at, indices + at, length, w) - target[i]
            else:
                r = dot(data + at, indices + at, length, w) - target[i]
            c = weight[i] * r
            loss += c * r
            residual += c
            if g != NULL and at + length < last:
                add_fours(data + at, indices + at, length, <lane> c, g)
            elif g != NULL:
                scatter(data + at, indices + at, length, <lane> c, g)
        start += count
        if lane is float and (start % TILE == 0 or start == rows.n):
            carry_f32(g, rows.d, sums_out + 2)
    sums_out[0] += loss
    sums_out[1] += residual


cdef inline void sum_rows(
    const SparseRows *rows, const index *indptr, const double *w, double b, double *sums_out, bint with_gradient,
    float *scratch, real like
) noexcept nogil:
    """The sums, and the gradient by way of w and itself in float if there is `scratch` for the two."""
    cdef const real *data = <const real *> rows.data
    cdef const index *indices = <const index *> rows.indices
    cdef Py_ssize_t j
    if SCATTERS and rows.by_lanes:
        sum_by_eights(rows, data, indices, indptr, w, b, sums_out, with_gradient)
    elif real is double or scratch == NULL:
        sum_by_fours(rows, data, indices, indptr, w, b, sums_out, sums_out + 2 if with_gradient else NULL)
    else:
        for j in range(rows.d):
            scratch[j] = <float> w[j]
            scratch[rows.d + j] = 0
        sum_by_fours(rows, data, indices, indptr, <const float *> scratch, b, sums_out, scratch + rows.d)


cdef inline void predict_rows(
    const SparseRows *rows, const real *data, const index *indices, const index *indptr, const double *w, double b,
    double *out
) noexcept nogil:
    """out[i] = x_i.w + b."""
    cdef Py_ssize_t first = indptr[0], last = indptr[rows.n] - first - 3, at, length, i
    for i in range(rows.n):
        at = indptr[i] - first
        length = indptr[i + 1] - first - at
        if at + length < last:
            out[i] = dot_fours(data + at, indices + at, length, w) + b
        else:
            out[i] = dot(data + at, indices + at, length, w) + b


cdef inline bint fits_float(const SparseRows *rows, const index *indptr) noexcept nogil:
    """Whether the gradient is worth summing in float: the entries of a tile are many beside what is carried then."""
    cdef Py_ssize_t tiles = max((rows.n + TILE - 1) // TILE, <Py_ssize_t> 1)
    return not (SCATTERS and rows.by_lanes) and (indptr[rows.n] - indptr[0]) // tiles >= 2 * rows.d


# ---- second moments ------------------------------------------------------------------------------------------------
#
# What a row does not hold is zero, and about a shift minus that. Sums over the rows that hold a column are taken entry
# by entry; the others are counted, so that where there are none nothing is added, and a column of large mean that
# every row holds loses no digits.

ctypedef struct Column:
    # What is known of a column while rows are summed.
    Py_ssize_t row          # the last row that held it, and
    double value            # the sum of the entries it held
    Py_ssize_t count        # rows that held it, and
    double weight           # the sum of their weights


cdef inline void sum_column(
    Column *column, double value, double shift, double weight, double *sum_out, double *square_out
) noexcept nogil:
    cdef double z = value - shift
    sum_out[0] += weight * z
    square_out[0] += weight * z * z
    column.count += 1
    column.weight += weight


cdef inline void sum_columns(
    const SparseRows *rows, const real *data, const index *indices, const index *indptr, const double *shift,
    double *sums_out, Column *columns
) noexcept nogil:
    """The first d entries of each half of `sums_out` from the entries that rows hold."""
    cdef double *squares_out = sums_out + rows.d + 2
    cdef Py_ssize_t first = indptr[0], i, j, k
    cdef double s
    for i in range(rows.n):
        s = weight_at(&rows.targets, i)
        for k in range(indptr[i] - first, indptr[i + 1] - first):
            j = indices[k]
            if columns[j].row != i + 1:
                columns[j].row = i + 1
                columns[j].value = 0
            columns[j].value += data[k]
        for k in range(indptr[i] - first, indptr[i + 1] - first):
            j = indices[k]
            if columns[j].row == i + 1:         # and not again for a column that the row repeats
                columns[j].row = 0
                sum_column(&columns[j], columns[j].value, shift[j], s, sums_out + j, squares_out + j)


cdef void sum_rest(
    const SparseRows *rows, const double *shift, double *sums_out, const Column *columns
) noexcept nogil:
    """What `sum_columns` leaves: zeros that are not held, y and the column of ones."""
    cdef Py_ssize_t d = rows.d, i, j
    cdef double *squares_out = sums_out + d + 2
    cdef double total = 0, s, z
    for i in range(rows.n):
        s = weight_at(&rows.targets, i)
        z = target_at(&rows.targets, i) - shift[d] if rows.targets.y != NULL else 0.0
        total += s
        sums_out[d] += s * z
        squares_out[d] += s * z * z
    sums_out[d + 1] += total
    squares_out[d + 1] += total
    for j in range(d):
        if columns[j].count < rows.n and shift[j] != 0:
            s = max(total - columns[j].weight, 0.0)
            sums_out[j] -= s * shift[j]
            squares_out[j] += s * shift[j] * shift[j]


cdef inline void fill_rows(
    const SparseRows *rows, const real *data, const index *indices, const index *indptr, Py_ssize_t start,
    Py_ssize_t count, const double *shift, double *panel_out
) noexcept nogil:
    """The rows sqrt(s) ([x, y, 1] less (shift, 0))."""
    cdef Py_ssize_t d = rows.d, first = indptr[0], i, j, k, row
    cdef double *panel = panel_out
    cdef double scale
    for i in range(count):
        row = start + i
        for j in range(d):
            panel[j] = -shift[j]
        for k in range(indptr[row] - first, indptr[row + 1] - first):
            panel[indices[k]] += data[k]
        panel[d] = target_at(&rows.targets, row) - shift[d] if rows.targets.y != NULL else 0.0
        panel[d + 1] = 1.0
        if rows.targets.s != NULL:
            scale = sqrt(weight_at(&rows.targets, row))
            for j in range(d + 2):
                panel[j] *= scale
        panel += d + 2


# ---- indices -------------------------------------------------------------------------------------------------------

cdef inline bint ascend(const index *column, Py_ssize_t count, Py_ssize_t d, bint *outside_out) noexcept nogil:
    """Whether the columns of a row ascend; and sets `outside_out` if any is below 0 or not below d."""
    cdef Py_ssize_t k
    cdef bint falls = False, outside = False
    for k in range(count):
        outside |= (column[k] < 0) | (column[k] >= d)
    for k in range(count - 1):
        falls |= column[k + 1] <= column[k]
    outside_out[0] |= outside
    return not falls


cdef inline int examine_rows(const SparseRows *rows, const index *indices, const index *indptr) noexcept nogil:
    cdef bint ascending = True, outside = False
    cdef Py_ssize_t first = indptr[0], i
    for i in range(rows.n):
        ascending &= ascend(indices + (indptr[i] - first), indptr[i + 1] - indptr[i], rows.d, &outside)
    return OUTSIDE if outside else ASCENDING if ascending else INSIDE


# ---- the kernels of the table --------------------------------------------------------------------------------------
#
# An argument `like` has X's type and no meaning else.

cdef inline void sum_any(
    const SparseRows *rows, const double *w, double b, double *sums_out, bint with_gradient, float *scratch, real like
) noexcept nogil:
    if rows.is_long:
        sum_rows(rows, <const int64_t *> rows.indptr, w, b, sums_out, with_gradient, scratch, like)
    else:
        sum_rows(rows, <const int32_t *> rows.indptr, w, b, sums_out, with_gradient, scratch, like)


cdef inline void predict_any(const SparseRows *rows, const double *w, double b, double *out, real like) noexcept nogil:
    cdef const real *x = <const real *> rows.data
    if rows.is_long:
        predict_rows(rows, x, <const int64_t *> rows.indices, <const int64_t *> rows.indptr, w, b, out)
    else:
        predict_rows(rows, x, <const int32_t *> rows.indices, <const int32_t *> rows.indptr, w, b, out)


cdef inline void columns_any(
    const SparseRows *rows, const double *shift, double *sums_out, Column *columns, real like
) noexcept nogil:
    cdef const real *x = <const real *> rows.data
    memset(columns, 0, rows.d * sizeof(Column))
    if rows.is_long:
        sum_columns(
            rows, x, <const int64_t *> rows.indices, <const int64_t *> rows.indptr, shift, sums_out, columns
        )
    else:
        sum_columns(
            rows, x, <const int32_t *> rows.indices, <const int32_t *> rows.indptr, shift, sums_out, columns
        )
    sum_rest(rows, shift, sums_out, columns)


cdef inline void panel_any(
    const SparseRows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, double *panel_out, real like
) noexcept nogil:
    cdef const real *x = <const real *> rows.data
    if rows.is_long:
        fill_rows(
            rows, x, <const int64_t *> rows.indices, <const int64_t *> rows.indptr, start, count, shift, panel_out
        )
    else:
        fill_rows(
            rows, x, <const int32_t *> rows.indices, <const int32_t *> rows.indptr, start, count, shift, panel_out
        )


cdef int examine(const SparseRows *rows) noexcept nogil:
    """What the indices are like, whatever the data are."""
    if rows.is_long:
        return examine_rows(rows, <const int64_t *> rows.indices, <const int64_t *> rows.indptr)
    return examine_rows(rows, <const int32_t *> rows.indices, <const int32_t *> rows.indptr)


cdef Py_ssize_t scratch_bytes(const SparseRows *rows) noexcept nogil:
    """What `columns` needs of scratch."""
    return rows.d * sizeof(Column)


cdef Py_ssize_t sums_f32_bytes(const SparseRows *rows) noexcept nogil:
    """What `sums_f32` is to be given of scratch; where that is nothing, NULL."""
    if rows.is_long:
        return 2 * rows.d * sizeof(float) if fits_float(rows, <const int64_t *> rows.indptr) else 0
    return 2 * rows.d * sizeof(float) if fits_float(rows, <const int32_t *> rows.indptr) else 0


cdef void value_f32(const SparseRows *rows, const double *w, double b, double *sums_out) noexcept nogil:
    sum_any(rows, w, b, sums_out, False, NULL, <float> 0)


cdef void value_f64(const SparseRows *rows, const double *w, double b, double *sums_out) noexcept nogil:
    sum_any(rows, w, b, sums_out, False, NULL, <double> 0)


cdef void sums_f32(
    const SparseRows *rows, const double *w, double b, double *sums_out, void *scratch
) noexcept nogil:
    sum_any(rows, w, b, sums_out, True, <float *> scratch, <float> 0)


cdef void sums_f64(
    const SparseRows *rows, const double *w, double b, double *sums_out, void *scratch
) noexcept nogil:
    sum_any(rows, w, b, sums_out, True, <float *> scratch, <double> 0)


cdef void predict_f32(const SparseRows *rows, const double *w, double b, double *out) noexcept nogil:
    predict_any(rows, w, b, out, <float> 0)


cdef void predict_f64(const SparseRows *rows, const double *w, double b, double *out) noexcept nogil:
    predict_any(rows, w, b, out, <double> 0)


cdef void columns_f32(const SparseRows *rows, const double *shift, double *sums_out, void *scratch) noexcept nogil:
    columns_any(rows, shift, sums_out, <Column *> scratch, <float> 0)


cdef void columns_f64(const SparseRows *rows, const double *shift, double *sums_out, void *scratch) noexcept nogil:
    columns_any(rows, shift, sums_out, <Column *> scratch, <double> 0)


cdef void panel_f32(
    const SparseRows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, double *panel_out
) noexcept nogil:
    panel_any(rows, start, count, shift, panel_out, <float> 0)


cdef void panel_f64(
    const SparseRows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, double *panel_out
) noexcept nogil:
    panel_any(rows, start, count, shift, panel_out, <double> 0)


cdef SparseKernels kernels = SparseKernels(
    value_f32=value_f32, value_f64=value_f64, sums_f32=sums_f32, sums_f64=sums_f64, predict_f32=predict_f32,
    predict_f64=predict_f64, columns_f32=columns_f32, columns_f64=columns_f64, panel_f32=panel_f32,
    panel_f64=panel_f64, scratch_bytes=scratch_bytes, sums_f32_bytes=sums_f32_bytes, examine=examine,
)

table = PyCapsule_New(&kernels, "fastgd.SparseKernels", NULL)
