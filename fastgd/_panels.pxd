"""What the stochastic kernels have in common: vectors of lanes, and panels of dense rows that are looked at together.

A row is read as vectors of LANES and as double. The last is x[d - LANES : d], which repeats some of the one before it,
so that nothing outside the row is read; what belongs to it is spread likewise, with zeros where it repeats.

Rows further on are asked for before they are used. They come into L2, which has many more requests under way than L1.
"""

from libc.stdint cimport int32_t, int64_t

from fastgd._access cimport sparse_start
from fastgd._types cimport Rows, SparseRows, Targets, real

cdef enum:
    PANEL = 4               # rows looked at together
    LINES = 16              # of cache, that are asked for of a row at most
    AHEAD = 16384           # bytes of rows between those in use and those asked for,
    AHEAD_LEAST = 8         # and rows,
    AHEAD_MOST = 48         # at least and at most


cdef extern from *:
    """
    static inline void prefetch_line(const void *address) { __builtin_prefetch(address, 0, 2); }
    """
    void prefetch_line(const void *address) noexcept nogil

cdef extern from "lanes.h":
    enum:
        LANES "FASTGD_LANES"    # doubles in a vector, to multiples of which rows are padded
    ctypedef double lanes
    lanes all_lanes(double value) noexcept nogil
    lanes widened(const float *x) noexcept nogil
    lanes sums_of_lanes(lanes a, lanes b, lanes c, lanes d) noexcept nogil      # sum a, sum b, sum c, sum d, ...


ctypedef fused any_rows:
    Rows
    SparseRows

ctypedef fused index:
    int32_t
    int64_t


cdef inline lanes load(const real *x) noexcept nogil:
    if real is float:
        return widened(x)
    else:
        return (<const lanes *> x)[0]


cdef inline void prefetch_bytes(const void *start, Py_ssize_t size) noexcept nogil:
    """Ask for the cache lines of so many bytes, of many for the first: the hardware then sees where they lead.

    A prefetch never faults.
    """
    cdef Py_ssize_t line
    for line in range(min(size // 64 + 1, <Py_ssize_t> LINES)):
        prefetch_line(<const char *> start + 64 * line)


cdef inline void prefetch_row(const any_rows *rows, Py_ssize_t i, real *unused) noexcept nogil:
    cdef Py_ssize_t start, size
    if any_rows is Rows:
        if rows.x_col == 1:
            prefetch_bytes(<const real *> rows.X + i * rows.x_row, rows.d * sizeof(real))
    else:
        start = sparse_start(rows, i)
        size = sparse_start(rows, i + 1) - start
        prefetch_bytes(<const real *> rows.data + start, size * sizeof(real))
        if rows.is_long:
            prefetch_bytes(<const int64_t *> rows.indices + start, size * sizeof(int64_t))
        else:
            prefetch_bytes(<const int32_t *> rows.indices + start, size * sizeof(int32_t))


cdef inline void prefetch_target(const Targets *targets, Py_ssize_t i) noexcept nogil:
    if targets.y != NULL:
        prefetch_line(<const char *> targets.y + i * targets.y_step * (4 if targets.y_is_float else 8))
    if targets.s != NULL:
        prefetch_line(<const char *> targets.s + i * targets.s_step * (4 if targets.s_is_float else 8))


ctypedef struct Layout:
    Py_ssize_t groups       # of lanes in a row
    Py_ssize_t whole        # columns before the last group
    Py_ssize_t tail         # the column in the first lane of the last group
    bint in_place           # rows are read where they are; else they are copied to `width` elements, the rest zeros
    double mask[LANES]      # of the last group


cdef inline Layout lay_out(const Rows *rows) noexcept nogil:
    cdef Layout layout
    cdef Py_ssize_t k
    layout.groups = (rows.d - 1) // LANES + 1
    layout.whole = LANES * (layout.groups - 1)
    layout.in_place = rows.x_col == 1 and rows.d >= LANES
    layout.tail = rows.d - LANES if layout.in_place else layout.whole
    for k in range(LANES):
        layout.mask[k] = 1.0 if layout.whole <= layout.tail + k < rows.d else 0.0
    return layout


cdef inline void spread(const double *values, const Layout *layout, double *out) noexcept nogil:
    """Parameters to lanes."""
    cdef Py_ssize_t k
    for k in range(layout.whole):
        out[k] = values[k]
    for k in range(LANES):
        out[layout.whole + k] = values[layout.tail + k] if layout.mask[k] != 0 else 0.0


cdef inline void collect(const double *values, const Layout *layout, double *out) noexcept nogil:
    """Lanes to parameters."""
    cdef Py_ssize_t k
    for k in range(layout.whole):
        out[k] = values[k]
    for k in range(LANES):
        if layout.mask[k] != 0:
            out[layout.tail + k] = values[layout.whole + k]


cdef inline void find_rows(
    const Rows *rows, const Py_ssize_t *order, const Layout *layout, real *buffer, const real **x_out
) noexcept nogil:
    """Rows of the order: where they are, or copied to the buffer."""
    cdef Py_ssize_t q, j
    for q in range(PANEL):
        x_out[q] = <const real *> rows.X + order[q] * rows.x_row
    if not layout.in_place:
        for q in range(PANEL):
            for j in range(rows.d):
                buffer[j] = x_out[q][j * rows.x_col]
            x_out[q] = buffer
            buffer += LANES * layout.groups


cdef inline Py_ssize_t rows_ahead(const any_rows *rows, real *unused) noexcept nogil:
    """How many rows before its use a row is asked for."""
    cdef Py_ssize_t size
    if any_rows is Rows:
        size = rows.d * sizeof(real)
    else:
        size = (sparse_start(rows, rows.n) - sparse_start(rows, 0)) // rows.n * (sizeof(real) + 4)
    return min(max(AHEAD // (size + 1), <Py_ssize_t> AHEAD_LEAST), <Py_ssize_t> AHEAD_MOST)


cdef inline void ask_for_panel(const Rows *rows, const Py_ssize_t *order, real *unused) noexcept nogil:
    """Prefetch rows of the order, from the first byte to the last."""
    cdef Py_ssize_t size = rows.d * sizeof(real), q
    cdef const real *x
    for q in range(PANEL):
        x = <const real *> rows.X + order[q] * rows.x_row
        prefetch_bytes(x, size)
        prefetch_line(<const char *> x + size - 1)
