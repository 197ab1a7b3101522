"""Second moments of one block of rows: the Gram matrix of [X, y, 1], and its diagonal and last column alone.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. With z_i = (x_i, y_i, 1) less a
shift of which the last entry is 0, and weights s_i, the kernels add over the rows of a block

    gram:     sums[a * (d + 2) + b] += sum_i s_i z_ia z_ib                       for a <= b
    columns:  sums[a] += sum_i s_i z_ia      and      sums[d + 2 + a] += sum_i s_i z_ia^2

The Gram matrix thus holds X'X, X'y, y'y, and in its last column the sums of X, y and of the weights. A shift near
the column means keeps what the means would cancel.

`gram` copies tiles of rows, shifted and scaled by sqrt(s_i), into a panel that stays in the cache, and adds up the
products of the panel's columns in registers. Panels are `lane`s: of X's own precision, or double for float X too.
Everything carried from one tile to the next is double, and so are the sums of y and of the weights. The shape of X
decides the shape of the panel:

==================================  ====================================================================
rows of contiguous elements that    no panel: vectors of rows, and the same turned round in registers
fit into a vector, or into two      (`gram_short`, `short_rows.h`), where there are AVX2 or AVX-512
at most FEW columns, or MANY that   columns side by side: dot products of column by column, rows in the
are each contiguous                 lanes of a vector (`gram_columns`)
otherwise                           strips of columns, a vector of each row after the other: outer products
                                    of rows, columns in the lanes (`gram_rows`)
==================================  ====================================================================

An argument `like` has X's type, `lane_like` that of the panel, and no meaning else.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport sqrt
from libc.string cimport memset

from fastgd._targets cimport load, target_at, weight_at
from fastgd._types cimport MomentsKernels, Rows, real

ctypedef fused lane:
    float
    double

cdef extern from *:
    """
    #ifdef __AVX512F__
    #define FASTGD_LEFT 8
    #else
    #define FASTGD_LEFT 4
    #endif
    static inline void prefetch_line(const void *address) { __builtin_prefetch(address); }
    """
    enum:
        LEFT "FASTGD_LEFT"      # columns that meet a strip at once: as many as there are registers for
    void prefetch_line(const void *address) noexcept nogil

cdef extern from "lanes.h":
    enum:
        WIDE "FASTGD_LANES"     # doubles in a vector of `lanes`
    ctypedef double lanes
    lanes all_lanes(double value) noexcept nogil
    lanes widened(const float *x) noexcept nogil

cdef extern from *:
    """
    #define SUFFIX f32
    #define REAL float
    #define LANE float
    #define PLACE int
    #define WIDTH (2 * FASTGD_LANES)
    #define LIMIT (WIDTH < 12 ? WIDTH : 12)
    #define LOAD(x) (*(const vector_f32 *) (x))
    #define HALF_LOAD(x) (*(const half_f32 *) (x))
    #include "short_rows.h"
    #define SUFFIX f64
    #define REAL double
    #define LANE double
    #define PLACE long long
    #define WIDTH FASTGD_LANES
    #define LIMIT FASTGD_LANES
    #define LOAD(x) (*(const vector_f64 *) (x))
    #define HALF_LOAD(x) (*(const half_f64 *) (x))
    #include "short_rows.h"
    #define SUFFIX f32_in_double
    #define REAL float
    #define LANE double
    #define PLACE long long
    #define WIDTH FASTGD_LANES
    #define LIMIT FASTGD_LANES
    #define LOAD(x) widened(x)
    #define HALF_LOAD(x) __builtin_convertvector(*(const half_f32 *) (x), half_f64)
    #include "short_rows.h"
    """
    enum:
        SHORT_ROWS "FASTGD_SHORT_ROWS"      # whether this level has what short_rows.h needs,
        SPLITS "FASTGD_SPLITS"              # and for rows in two halves,
        HALF "FASTGD_HALF"                  # of so many elements
        SHORT_SUMS "FASTGD_SHORT_SUMS"
        LANES "FASTGD_LANES"                # doubles in a vector
    ctypedef struct Short_f32:
        pass
    ctypedef struct Short_f64:
        pass
    ctypedef struct Short_f32_in_double:
        pass
    void prepare_f32(Short_f32 *how, Py_ssize_t d, Py_ssize_t rows, const double *shift) noexcept nogil
    void prepare_f64(Short_f64 *how, Py_ssize_t d, Py_ssize_t rows, const double *shift) noexcept nogil
    void prepare_f32_in_double(
        Short_f32_in_double *how, Py_ssize_t d, Py_ssize_t rows, const double *shift
    ) noexcept nogil
    void add_short_f32(
        const void *x, Py_ssize_t step, Py_ssize_t count, const Short_f32 *how, const void *target, const void *root,
        double *sums_out
    ) noexcept nogil
    void add_short_f64(
        const void *x, Py_ssize_t step, Py_ssize_t count, const Short_f64 *how, const void *target, const void *root,
        double *sums_out
    ) noexcept nogil
    void add_short_f32_in_double(
        const void *x, Py_ssize_t step, Py_ssize_t count, const Short_f32_in_double *how, const void *target,
        const void *root, double *sums_out
    ) noexcept nogil

cdef enum:
    VECTOR = 64             # bytes of a row in a strip
    LANES_MAX = 16          # floats in a vector
    LEFT_MAX = 8
    SIDE_ROWS = 4           # that are summed side by side, so that none waits for the one before
    TILE = 256              # rows of a panel of strips
    PITCH = 257             # and from one strip to the next, so that they do not share the same few lines of L1
    LONG_TILE = 512         # rows of a panel of columns
    COLUMN_PITCH = 528
    FEW = 4                 # columns: rows of so few are taken apart into columns,
    EIGHT = 8               # and those of eight floats, which fill only half of a strip
    MANY = 16               # columns of which dot products are taken; of more, rows are put together
    NARROW = 4              # strips
    TURN = 8                # columns, and
    TURN_ROWS = 16          # rows that are turned at once
    WHOLE_F32 = 12          # columns of float rows that are turned as a whole: of more, halves are faster
    AT_ONCE = 64            # rows whose weights are fetched together
    SOON = 4096             # bytes of rows between four of them and those asked for
    PANEL_MAX = 256         # rows of a panel that `columns` fills
    PANEL_ELEMENTS = 4096   # what it may take of the L1 cache


cdef inline Py_ssize_t distance(Py_ssize_t step) noexcept nogil:
    return -step if step < 0 else step


cdef inline bint by_columns(const Rows *rows, lane lane_like) noexcept nogil:
    if distance(rows.x_row) < distance(rows.x_col):
        return rows.d <= MANY * <Py_ssize_t> sizeof(float) // <Py_ssize_t> sizeof(lane)
    return rows.d <= FEW or (rows.d == rows.x_row == EIGHT and lane is float)


cdef inline Py_ssize_t gram_bytes(const Rows *rows, lane lane_like) noexcept nogil:
    """Scratch that `gram` needs."""
    cdef Py_ssize_t lanes = VECTOR // <Py_ssize_t> sizeof(lane), strips = (rows.d + lanes - 1) // lanes
    if by_columns(rows, lane_like):
        return (rows.d + 2) * (COLUMN_PITCH + 1) * sizeof(lane)
    return strips * ((strips * lanes + 2) * lanes * <Py_ssize_t> sizeof(double) + (PITCH + 1) * VECTOR)


# ---- targets and weights of a tile ---------------------------------------------------------------------------------

cdef inline void take_targets(
    const real *y, Py_ssize_t count, double origin, lane *target, double *corner_out, lane lane_like
) noexcept nogil:
    """y_i less its shift, of contiguous y without weights. In one loop: a copy of y would stop the stream of X."""
    cdef double squares = 0, total = 0, t
    cdef Py_ssize_t i
    for i in range(count):
        t = y[i] - origin
        total += t
        squares += t * t
        target[i] = <lane> t
    corner_out[0] += squares
    corner_out[1] += total


cdef inline void load_sides(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, double *sums_out, lane *target,
    lane *root
) noexcept nogil:
    """sqrt(s_i) (y_i - shift) and sqrt(s_i); and add y'y, the sum of y and that of the weights to the Gram matrix."""
    cdef Py_ssize_t order = rows.d + 2, i
    cdef double *corner = sums_out + (order - 2) * order + order - 2
    cdef double origin = shift[rows.d]
    if rows.targets.s != NULL:
        load_weighted(rows, start, count, origin, corner, target, root)
        return
    for i in range(count):
        root[i] = 1
    corner[order + 1] += count
    if rows.targets.y == NULL:
        for i in range(count):
            target[i] = 0
    elif rows.targets.y_step != 1:
        load_apart(rows, start, count, origin, corner, target)
    elif rows.targets.y_is_float:
        take_targets(<const float *> rows.targets.y + start, count, origin, target, corner, <lane> 0)
    else:
        take_targets(<const double *> rows.targets.y + start, count, origin, target, corner, <lane> 0)


cdef inline void load_apart(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, double origin, double *corner_out, lane *target
) noexcept nogil:
    """`take_targets` of y at any stride."""
    cdef double t[LONG_TILE]
    load(rows.targets.y, rows.targets.y_is_float, rows.targets.y_step, start, count, t)
    take_targets(<const double *> t, count, origin, target, corner_out, <lane> 0)


cdef inline void load_weighted(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, double origin, double *corner_out, lane *target, lane *root
) noexcept nogil:
    cdef double t[LONG_TILE]
    cdef double s[LONG_TILE]
    cdef double squares = 0, total = 0, weight = 0
    cdef Py_ssize_t order = rows.d + 2, i
    if rows.targets.y == NULL:
        memset(t, 0, count * sizeof(double))
        origin = 0
    else:
        load(rows.targets.y, rows.targets.y_is_float, rows.targets.y_step, start, count, t)
    load(rows.targets.s, rows.targets.s_is_float, rows.targets.s_step, start, count, s)
    for i in range(count):
        t[i] -= origin
        weight += s[i]
        total += s[i] * t[i]
        squares += s[i] * t[i] * t[i]
    for i in range(count):
        s[i] = sqrt(s[i])
        root[i] = <lane> s[i]
        target[i] = <lane> (s[i] * t[i])
    corner_out[0] += squares
    corner_out[1] += total
    corner_out[order + 1] += weight


# ---- short rows ----------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t short_width(lane lane_like) noexcept nogil:
    """Lanes in a vector."""
    return 2 * LANES if lane is float else LANES


cdef inline Py_ssize_t short_limit(lane lane_like) noexcept nogil:
    """The longest rows that are turned as a whole."""
    return min(short_width(lane_like), <Py_ssize_t> WHOLE_F32)


cdef inline bint is_short(const Rows *rows, lane lane_like) noexcept nogil:
    """Whether all sums of rows stay in registers."""
    cdef Py_ssize_t most = 2 * HALF if SPLITS else short_limit(lane_like)
    return SHORT_ROWS and rows.d <= most and rows.x_col == 1 and rows.x_row >= rows.d


cdef inline void collect_turned(
    const double *sums, Py_ssize_t d, Py_ssize_t rows, Py_ssize_t width, double *sums_out
) noexcept nogil:
    """Add up the rows of a vector."""
    cdef Py_ssize_t order = d + 2, turns = d // 2, row, j, k, m
    for row in range(rows):
        for j in range(d):
            for k in range(turns + 1):
                m = (j + k) % d
                if 2 * k < d or j < m:      # turned by half its length, a row meets itself twice
                    sums_out[min(j, m) * order + max(j, m)] += sums[k * width + row * d + j]
            sums_out[j * order + d] += sums[(turns + 1) * width + row * d + j]
            sums_out[j * order + d + 1] += sums[(turns + 2) * width + row * d + j]


cdef inline void collect_halves(const double *sums, Py_ssize_t d, double *sums_out) noexcept nogil:
    cdef Py_ssize_t order = d + 2, first, j, k, m
    for j in range(d):
        first = j // HALF * HALF
        for k in range(HALF // 2 + 1):
            m = first + (j + k) % HALF
            if m < d and (2 * k < HALF or j < m):
                sums_out[min(j, m) * order + max(j, m)] += sums[(first // HALF * 5 + k) * HALF + j % HALF]
        if j < HALF:
            for k in range(d - HALF):
                sums_out[j * order + HALF + k] += sums[(10 + k) * HALF + j]
        sums_out[j * order + d] += sums[(18 + j // HALF) * HALF + j % HALF]
        sums_out[j * order + d + 1] += sums[(20 + j // HALF) * HALF + j % HALF]


cdef inline void add_rows(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, const lane *target, const lane *root,
    double *sums_out, real like
) noexcept nogil:
    """Rows one by one: those after which there is no more to read that would fill a vector."""
    cdef const real *x = <const real *> rows.X + start * rows.x_row
    cdef Py_ssize_t d = rows.d, order = rows.d + 2, i, j, k
    cdef lane z[2 * HALF]
    for i in range(count):
        for j in range(d):
            z[j] = (x[j] - <lane> shift[j]) * root[i]
            for k in range(j + 1):
                sums_out[k * order + j] += z[k] * z[j]
            sums_out[j * order + d] += z[j] * target[i]
            sums_out[j * order + d + 1] += z[j] * root[i]
        x += rows.x_row


cdef inline void gram_short(
    const Rows *rows, const double *shift, double *sums_out, lane lane_like, real like
) noexcept nogil:
    cdef Py_ssize_t width = short_width(lane_like), d = rows.d, together, tile, start = 0, count, whole
    cdef lane target[TILE + 2 * LANES_MAX]      # of which vectors are read from any place
    cdef lane root[TILE + 2 * LANES_MAX]
    cdef lane *scales = root if rows.targets.s != NULL else NULL
    cdef double sums[SHORT_SUMS]
    cdef const real *x = <const real *> rows.X
    cdef bint turns = d <= short_limit(lane_like)
    cdef Short_f32 how_f32
    cdef Short_f64 how_f64
    cdef Short_f32_in_double how_f32_in_double
    together = width // d if turns and rows.x_row == d else 1
    tile = TILE // together * together
    memset(sums, 0, sizeof(sums))
    if lane is float:
        prepare_f32(&how_f32, d, together, shift)
    elif real is double:
        prepare_f64(&how_f64, d, together, shift)
    else:
        prepare_f32_in_double(&how_f32_in_double, d, together, shift)
    while start < rows.n:
        count = min(tile, rows.n - start)
        load_sides(rows, start, count, shift, sums_out, target, root)
        whole = whole_rows(rows, start, count, width if turns else 2 * HALF)
        whole = min((whole + together - 1) // together, count // together) * together
        if lane is float:
            add_short_f32(<const void *> x, rows.x_row, whole, &how_f32, target, scales, sums)
        elif real is double:
            add_short_f64(<const void *> x, rows.x_row, whole, &how_f64, target, scales, sums)
        else:
            add_short_f32_in_double(<const void *> x, rows.x_row, whole, &how_f32_in_double, target, scales, sums)
        add_rows(rows, start + whole, count - whole, shift, target + whole, root + whole, sums_out, like)
        x += count * rows.x_row
        start += count
    if turns:
        collect_turned(sums, d, together, width, sums_out)
    else:
        collect_halves(sums, d, sums_out)


# ---- rows: strips of columns ---------------------------------------------------------------------------------------

cdef inline Py_ssize_t lanes_of(lane lane_like) noexcept nogil:
    return VECTOR // <Py_ssize_t> sizeof(lane)


cdef inline void copy_lanes(const real *x, const lane *origin, lane *out) noexcept nogil:
    cdef lane row[LANES_MAX]
    cdef Py_ssize_t k
    for k in range(VECTOR // <Py_ssize_t> sizeof(lane)):
        row[k] = x[k] - origin[k]
    for k in range(VECTOR // <Py_ssize_t> sizeof(lane)):
        out[k] = row[k]


cdef inline void copy_rows(
    const real *x, Py_ssize_t x_row, Py_ssize_t count, Py_ssize_t strips, const lane *origin, lane *panel
) noexcept nogil:
    """Whole strips of rows, read in vectors."""
    cdef const real *from_x
    cdef lane *out
    cdef Py_ssize_t lanes = lanes_of(<lane> 0), i, strip
    if strips <= NARROW:    # so many streams of memory at once are followed well, and rows then take less time
        for strip in range(strips):
            from_x = x + strip * lanes
            out = panel + strip * PITCH * lanes
            for i in range(count):
                copy_lanes(from_x + i * x_row, origin, out + i * lanes)
            origin += lanes
    else:
        for i in range(count):
            for strip in range(strips):
                copy_lanes(x + strip * lanes, origin + strip * lanes, panel + (strip * PITCH + i) * lanes)
            x += x_row


cdef inline void copy_columns(
    const real *x, Py_ssize_t x_col, Py_ssize_t count, Py_ssize_t columns, const lane *origin, lane *panel
) noexcept nogil:
    """Groups of eight columns of contiguous elements, sixteen rows at a time: gcc makes shuffles of vectors of this."""
    cdef lane block[TURN_ROWS * TURN]
    cdef const real *from_x
    cdef lane *out
    cdef lane o0, o1, o2, o3, o4, o5, o6, o7
    cdef Py_ssize_t lanes = lanes_of(<lane> 0), i, j = 0, k, m
    while j < columns:
        o0 = origin[j]
        o1 = origin[j + 1]
        o2 = origin[j + 2]
        o3 = origin[j + 3]
        o4 = origin[j + 4]
        o5 = origin[j + 5]
        o6 = origin[j + 6]
        o7 = origin[j + 7]
        i = 0
        while i < count:
            from_x = x + j * x_col + i
            out = panel + (j // lanes * PITCH + i) * lanes + j % lanes
            for k in range(TURN):
                prefetch_line(from_x + k * x_col + TILE)
            for m in range(TURN_ROWS):
                block[m * TURN] = from_x[m] - o0
                block[m * TURN + 1] = from_x[x_col + m] - o1
                block[m * TURN + 2] = from_x[2 * x_col + m] - o2
                block[m * TURN + 3] = from_x[3 * x_col + m] - o3
                block[m * TURN + 4] = from_x[4 * x_col + m] - o4
                block[m * TURN + 5] = from_x[5 * x_col + m] - o5
                block[m * TURN + 6] = from_x[6 * x_col + m] - o6
                block[m * TURN + 7] = from_x[7 * x_col + m] - o7
            for m in range(TURN_ROWS):
                for k in range(TURN):
                    out[m * lanes + k] = block[m * TURN + k]
            i += TURN_ROWS
        j += TURN


cdef inline void scale_rows(Py_ssize_t count, Py_ssize_t strips, const lane *root, lane *panel) noexcept nogil:
    cdef lane row[LANES_MAX]
    cdef lane *out
    cdef Py_ssize_t lanes = lanes_of(<lane> 0), i, strip, k
    for strip in range(strips):
        for i in range(count):
            out = panel + (strip * PITCH + i) * lanes
            for k in range(VECTOR // <Py_ssize_t> sizeof(lane)):
                row[k] = out[k] * root[i]
            for k in range(VECTOR // <Py_ssize_t> sizeof(lane)):
                out[k] = row[k]


cdef inline void copy_rest(
    const Rows *rows, const real *x, Py_ssize_t start, Py_ssize_t count, Py_ssize_t first, const lane *origin,
    lane *panel
) noexcept nogil:
    """Columns from `first` on of rows from `start` on, element by element."""
    cdef Py_ssize_t lanes = lanes_of(<lane> 0), i, j
    cdef lane *out
    for j in range(first, rows.d):
        out = panel + j // lanes * PITCH * lanes + j % lanes
        for i in range(start, count):
            out[i * lanes] = x[i * rows.x_row + j * rows.x_col] - origin[j]


cdef inline Py_ssize_t whole_rows(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, Py_ssize_t reach
) noexcept nogil:
    """The first so many rows of a tile after whose start `reach` elements can be read, though they have only d."""
    if reach <= rows.d:
        return count
    if rows.x_row < rows.d:
        return 0
    return max(<Py_ssize_t> 0, min(count, rows.n - start - 1 - (reach - rows.d - 1) // rows.x_row))


cdef inline void fill_strips(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const lane *origin, const lane *root, lane *panel, real like
) noexcept nogil:
    """panel[(j // lanes * PITCH + i) * lanes + j % lanes] = sqrt(s_i) (x_ij - shift_j).

    The last strip's lanes beyond column d hold anything: what becomes of them is dropped.
    """
    cdef Py_ssize_t lanes = lanes_of(<lane> 0), strips = (rows.d + lanes - 1) // lanes, whole, even
    cdef const real *x = <const real *> rows.X + start * rows.x_row
    if rows.x_col == 1:
        whole = whole_rows(rows, start, count, strips * lanes)
        even = rows.d // lanes
        copy_rows(x, rows.x_row, whole, strips, origin, panel)
        copy_rows(x + whole * rows.x_row, rows.x_row, count - whole, even, origin, panel + whole * lanes)
        copy_rest(rows, x, whole, count, even * lanes, origin, panel)
    elif rows.x_row == 1:
        whole = count // TURN_ROWS * TURN_ROWS
        even = rows.d // TURN * TURN
        copy_columns(x, rows.x_col, whole, even, origin, panel)
        copy_rest(rows, x, whole, count, 0, origin, panel)
        copy_rest(rows, x, 0, whole, even, origin, panel)
    else:
        copy_rest(rows, x, 0, count, 0, origin, panel)
    if rows.targets.s != NULL:
        scale_rows(count, strips, root, panel)


cdef inline void add_outer(const lane *left, const lane *right, lane *block) noexcept nogil:
    """block[a * lanes + k] += left[a] right[k] for four a."""
    cdef lane l0 = left[0], l1 = left[1], l2 = left[2], l3 = left[3]
    cdef Py_ssize_t lanes = lanes_of(<lane> 0), k
    for k in range(VECTOR // <Py_ssize_t> sizeof(lane)):
        block[k] += l0 * right[k]
        block[lanes + k] += l1 * right[k]
        block[2 * lanes + k] += l2 * right[k]
        block[3 * lanes + k] += l3 * right[k]


cdef inline void gram_block(
    const lane *left, const lane *right, Py_ssize_t count, const int columns, const char *ahead, Py_ssize_t step,
    double *sums_out
) noexcept nogil:
    """sums[a * lanes + k] += sum_i left[i, a] right[i, k] for 4 or 8 columns a, a literal.

    Each row asks for a line of what will be read next, `step` bytes further on.
    """
    cdef lane block[LEFT_MAX * LANES_MAX]
    cdef Py_ssize_t lanes = lanes_of(<lane> 0), i, k
    for k in range(columns * lanes):
        block[k] = 0
    for i in range(count):
        prefetch_line(ahead + i * step)
        add_outer(left + i * lanes, right + i * lanes, block)
        if columns == LEFT_MAX:
            add_outer(left + i * lanes + 4, right + i * lanes, block + 4 * lanes)
    for k in range(columns * lanes):
        sums_out[k] += block[k]


cdef void gram_block_4(
    const lane *left, const lane *right, Py_ssize_t count, const char *ahead, Py_ssize_t step, double *sums_out
) noexcept nogil:
    gram_block(left, right, count, 4, ahead, step, sums_out)


cdef void gram_block_8(
    const lane *left, const lane *right, Py_ssize_t count, const char *ahead, Py_ssize_t step, double *sums_out
) noexcept nogil:
    gram_block(left, right, count, LEFT_MAX, ahead, step, sums_out)


cdef void side_block(
    const lane *strip, const lane *target, const lane *root, Py_ssize_t count, const char *ahead, Py_ssize_t step,
    double *sums_out
) noexcept nogil:
    """The strip's products with the targets and with the roots of the weights: a vector of each.

    Each row asks for `step` bytes, as in `gram_block`.
    """
    cdef lane block[2 * SIDE_ROWS * LANES_MAX]
    cdef Py_ssize_t lanes = lanes_of(<lane> 0), i = 0, k
    for k in range(2 * SIDE_ROWS * lanes):
        block[k] = 0
    while i + SIDE_ROWS <= count:
        prefetch_line(ahead + i * step)
        prefetch_line(ahead + (i + 1) * step)
        prefetch_line(ahead + (i + 2) * step)
        prefetch_line(ahead + (i + 3) * step)
        for k in range(VECTOR // <Py_ssize_t> sizeof(lane)):
            block[k] += target[i] * strip[k]
            block[lanes + k] += root[i] * strip[k]
            block[2 * lanes + k] += target[i + 1] * strip[lanes + k]
            block[3 * lanes + k] += root[i + 1] * strip[lanes + k]
            block[4 * lanes + k] += target[i + 2] * strip[2 * lanes + k]
            block[5 * lanes + k] += root[i + 2] * strip[2 * lanes + k]
            block[6 * lanes + k] += target[i + 3] * strip[3 * lanes + k]
            block[7 * lanes + k] += root[i + 3] * strip[3 * lanes + k]
        strip += SIDE_ROWS * lanes
        i += SIDE_ROWS
    while i < count:
        for k in range(VECTOR // <Py_ssize_t> sizeof(lane)):
            block[k] += target[i] * strip[k]
            block[lanes + k] += root[i] * strip[k]
        strip += lanes
        i += 1
    for k in range(2 * lanes):
        sums_out[k] += <double> block[k] + block[2 * lanes + k] + block[4 * lanes + k] + block[6 * lanes + k]


cdef void collect_rows(
    const double *sums, Py_ssize_t d, Py_ssize_t lanes, Py_ssize_t height, double *sums_out
) noexcept nogil:
    cdef const double *column
    cdef Py_ssize_t order = d + 2, a, b
    for b in range(d):
        column = sums + b // lanes * height * lanes + b % lanes
        for a in range(b, d):
            sums_out[b * order + a] += column[a * lanes]
        sums_out[b * order + d] += column[(height - 2) * lanes]
        sums_out[b * order + d + 1] += column[(height - 1) * lanes]


cdef inline void gram_rows(
    const Rows *rows, const double *shift, double *sums_out, void *scratch, lane lane_like, real like
) noexcept nogil:
    """The sums of columns a and b, b in the lanes, are carried at sums[b // lanes][a][b % lanes], a from b's strip on.

    After those of the columns follow those of the targets and of the roots of the weights.
    """
    cdef Py_ssize_t lanes = lanes_of(lane_like), d = rows.d, strips = (d + lanes - 1) // lanes
    cdef Py_ssize_t height = strips * lanes + 2, start = 0, count, a, b, j, step
    cdef lane target[TILE]
    cdef lane root[TILE]
    cdef const char *ahead
    cdef double *sums = <double *> scratch
    cdef lane *panel = <lane *> (sums + height * strips * lanes)
    cdef lane *origin = panel + strips * PITCH * lanes
    cdef lane *left
    cdef lane *right
    memset(sums, 0, height * strips * lanes * sizeof(double))
    for j in range(strips * lanes):
        origin[j] = <lane> shift[j] if j < d else 0
    while start < rows.n:
        count = min(<Py_ssize_t> TILE, rows.n - start)
        load_sides(rows, start, count, shift, sums_out, target, root)
        fill_strips(rows, start, count, origin, root, panel, like)
        for b in range(strips):
            right = panel + b * PITCH * lanes
            # What the next tile has in the place of this strip, a share of it with each block: memory is always busy.
            ahead = <const char *> (<const real *> rows.X + (start + count) * rows.x_row) + b * TILE * VECTOR
            step = VECTOR // ((d - b * lanes + LEFT - 1) // LEFT + 1) if rows.x_col == 1 else 0
            side_block(right, target, root, count, ahead, step, sums + (b * height + height - 2) * lanes)
            ahead += count * step
            a = b * lanes
            while a < d:
                left = panel + a // lanes * PITCH * lanes + a % lanes
                if LEFT == LEFT_MAX and a + 4 < d:
                    gram_block_8(left, right, count, ahead, step, sums + (b * height + a) * lanes)
                    a += LEFT_MAX
                else:
                    gram_block_4(left, right, count, ahead, step, sums + (b * height + a) * lanes)
                    a += 4
                ahead += count * step
        start += count
    collect_rows(sums, d, lanes, height, sums_out)


# ---- columns -------------------------------------------------------------------------------------------------------

cdef inline void transpose(
    const real *x, Py_ssize_t count, const int d, const lane *origin, lane *out
) noexcept nogil:
    """out[j * COLUMN_PITCH + i] = x[i * d + j] - origin[j]; `d` is a literal, so that rows are shuffled as vectors."""
    cdef Py_ssize_t i, j
    for i in range(count):
        for j in range(d):
            out[j * COLUMN_PITCH + i] = x[i * d + j] - origin[j]


cdef inline void transpose_eight(const real *x, Py_ssize_t count, const lane *origin, lane *out) noexcept nogil:
    """`transpose` of eight columns, which gcc does not unroll."""
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = x[i * EIGHT] - origin[0]
        out[COLUMN_PITCH + i] = x[i * EIGHT + 1] - origin[1]
        out[2 * COLUMN_PITCH + i] = x[i * EIGHT + 2] - origin[2]
        out[3 * COLUMN_PITCH + i] = x[i * EIGHT + 3] - origin[3]
        out[4 * COLUMN_PITCH + i] = x[i * EIGHT + 4] - origin[4]
        out[5 * COLUMN_PITCH + i] = x[i * EIGHT + 5] - origin[5]
        out[6 * COLUMN_PITCH + i] = x[i * EIGHT + 6] - origin[6]
        out[7 * COLUMN_PITCH + i] = x[i * EIGHT + 7] - origin[7]


cdef inline void fill_columns(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const lane *origin, const lane *root, lane *panel, real like
) noexcept nogil:
    """panel[j * COLUMN_PITCH + i] = sqrt(s_i) (x_ij - shift_j)."""
    cdef const real *x = <const real *> rows.X + start * rows.x_row
    cdef lane *out
    cdef lane shift
    cdef Py_ssize_t d = rows.d, i, j
    if rows.x_col == 1 and rows.x_row == d == 2:
        transpose(x, count, 2, origin, panel)
    elif rows.x_col == 1 and rows.x_row == d == 3:
        transpose(x, count, 3, origin, panel)
    elif rows.x_col == 1 and rows.x_row == d == 4:
        transpose(x, count, 4, origin, panel)
    elif rows.x_col == 1 and rows.x_row == d == EIGHT:
        transpose_eight(x, count, origin, panel)
    else:
        for j in range(d):
            out = panel + j * COLUMN_PITCH
            shift = origin[j]
            if rows.x_row == 1:
                for i in range(count):
                    out[i] = x[j * rows.x_col + i] - shift
            else:
                for i in range(count):
                    out[i] = x[j * rows.x_col + i * rows.x_row] - shift
    if rows.targets.s != NULL:
        for j in range(d):
            for i in range(count):
                panel[j * COLUMN_PITCH + i] *= root[i]


ctypedef struct Ahead:
    # Where X and y of the next tile are asked for, and how many bytes of them with each vector of rows; 0: not at all.
    const char *x
    const char *y
    Py_ssize_t x_step
    Py_ssize_t y_step


cdef inline Ahead look_ahead(const Rows *rows, Py_ssize_t lanes, real like) noexcept nogil:
    """To be spread over all dot products of a tile, so that memory is always busy."""
    cdef Ahead ahead = Ahead(NULL, NULL, 0, 0)
    cdef Py_ssize_t calls = 0, b = 0
    while b < rows.d + 2:
        calls += (min(b + 2, rows.d) + 3) // 4
        b += 2
    if rows.x_col == 1 and rows.x_row == rows.d:
        ahead.x_step = rows.d * lanes * <Py_ssize_t> sizeof(real) // calls
    if rows.targets.y != NULL and rows.targets.y_step == 1:
        ahead.y_step = lanes * (4 if rows.targets.y_is_float else 8) // calls
    return ahead


cdef inline void start_ahead(const Rows *rows, Py_ssize_t start, Ahead *ahead, real like) noexcept nogil:
    """At the tile that starts there."""
    ahead.x = <const char *> (<const real *> rows.X + start * rows.x_row)
    ahead.y = ahead.x
    if ahead.y_step:
        ahead.y = <const char *> rows.targets.y + start * (4 if rows.targets.y_is_float else 8)


cdef inline void dots(
    const lane *left, Py_ssize_t columns, const lane *right, Py_ssize_t pairs, Py_ssize_t count, const bint few,
    Ahead *ahead, double *out
) noexcept nogil:
    """out[2 * a + b] = the product of column a of at most 4 on the left and column b of at most 2 on the right.

    `few` is a literal: there are at most 2 on the left.
    """
    cdef const lane *p = left
    cdef const lane *q = left + min(<Py_ssize_t> 1, columns - 1) * COLUMN_PITCH
    cdef const lane *r = left + min(<Py_ssize_t> 2, columns - 1) * COLUMN_PITCH
    cdef const lane *s = left + min(<Py_ssize_t> 3, columns - 1) * COLUMN_PITCH
    cdef const lane *u = right
    cdef const lane *v = right + (pairs - 1) * COLUMN_PITCH
    cdef Py_ssize_t lanes = lanes_of(<lane> 0), i = 0, k, m
    cdef lane block[8 * LANES_MAX]
    for k in range(8 * lanes):
        block[k] = 0
    while i + lanes <= count:
        prefetch_line(ahead.x)
        prefetch_line(ahead.x + ahead.x_step // 2)
        prefetch_line(ahead.y)
        ahead.x += ahead.x_step
        ahead.y += ahead.y_step
        for k in range(VECTOR // <Py_ssize_t> sizeof(lane)):
            block[k] += p[i + k] * u[i + k]
            block[lanes + k] += p[i + k] * v[i + k]
            block[2 * lanes + k] += q[i + k] * u[i + k]
            block[3 * lanes + k] += q[i + k] * v[i + k]
            if not few:
                block[4 * lanes + k] += r[i + k] * u[i + k]
                block[5 * lanes + k] += r[i + k] * v[i + k]
                block[6 * lanes + k] += s[i + k] * u[i + k]
                block[7 * lanes + k] += s[i + k] * v[i + k]
        i += lanes
    for m in range(4 if few else 8):
        out[m] = 0
        for k in range(lanes):
            out[m] += block[m * lanes + k]
    for k in range(i, count):
        out[0] += p[k] * u[k]
        out[1] += p[k] * v[k]
        out[2] += q[k] * u[k]
        out[3] += q[k] * v[k]
        if not few:
            out[4] += r[k] * u[k]
            out[5] += r[k] * v[k]
            out[6] += s[k] * u[k]
            out[7] += s[k] * v[k]


cdef inline void prefetch_column(const Rows *rows, Py_ssize_t start, Py_ssize_t j, real like) noexcept nogil:
    """Ask for contiguous column j of the tile that starts there."""
    cdef const real *x = <const real *> rows.X + start + j * rows.x_col
    cdef Py_ssize_t line
    for line in range(LONG_TILE * <Py_ssize_t> sizeof(real) // 64):
        prefetch_line(<const char *> x + 64 * line)


cdef inline void gram_columns(
    const Rows *rows, const double *shift, double *sums_out, void *scratch, lane lane_like, real like
) noexcept nogil:
    cdef Py_ssize_t d = rows.d, order = d + 2, start = 0, count, pairs, a, b, j, k
    cdef lane *panel = <lane *> scratch
    cdef lane *origin = panel + order * COLUMN_PITCH
    cdef lane *left
    cdef lane *right
    cdef Ahead ahead = look_ahead(rows, lanes_of(lane_like), like)
    cdef double products[8]
    for j in range(d):
        origin[j] = <lane> shift[j]
    while start < rows.n:
        count = min(<Py_ssize_t> LONG_TILE, rows.n - start)
        load_sides(
            rows, start, count, shift, sums_out, panel + d * COLUMN_PITCH, panel + (d + 1) * COLUMN_PITCH
        )
        fill_columns(rows, start, count, origin, panel + (d + 1) * COLUMN_PITCH, panel, like)
        start_ahead(rows, start + count, &ahead, like)
        b = 0
        while b < order:
            if rows.x_row == 1:
                for j in range(b, min(b + 2, d)):
                    prefetch_column(rows, start + count, j, like)
            right = panel + b * COLUMN_PITCH
            a = 0
            while a < min(b + 2, d):
                left = panel + a * COLUMN_PITCH
                pairs = min(<Py_ssize_t> 2, order - b)
                if d - a <= 2:
                    dots(left, d - a, right, pairs, count, True, &ahead, products)
                else:
                    dots(left, min(<Py_ssize_t> 4, d - a), right, pairs, count, False, &ahead, products)
                for j in range(a, min(a + 4, d)):
                    for k in range(max(b, j), min(b + 2, order)):
                        sums_out[j * order + k] += products[2 * (j - a) + k - b]
                a += 4
            b += 2
        start += count


# ---- panels of whole rows of [x, y, 1], shifted and scaled ---------------------------------------------------------

cdef inline void shift_in(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, lane *panel, Py_ssize_t width, real like
) noexcept nogil:
    """The first d columns of the panel: X less its shift, walking X in the order of its memory."""
    cdef const real *x = <const real *> rows.X + start * rows.x_row
    cdef Py_ssize_t i, j
    if rows.x_col == 1:
        for i in range(count):
            for j in range(rows.d):
                panel[i * width + j] = <lane> (x[i * rows.x_row + j] - shift[j])
    elif distance(rows.x_row) < distance(rows.x_col):
        for j in range(rows.d):
            for i in range(count):
                panel[i * width + j] = <lane> (x[i * rows.x_row + j * rows.x_col] - shift[j])
    else:
        for i in range(count):
            for j in range(rows.d):
                panel[i * width + j] = <lane> (x[i * rows.x_row + j * rows.x_col] - shift[j])


cdef inline void fill_panel(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, lane *panel, real like
) noexcept nogil:
    cdef Py_ssize_t i, j, row, d = rows.d, width = rows.d + 2
    cdef double scale
    shift_in(rows, start, count, shift, panel, width, like)
    for i in range(count):
        row = start + i
        panel[i * width + d] = <lane> (target_at(&rows.targets, row) - shift[d]) if rows.targets.y != NULL else 0.0
        panel[i * width + d + 1] = 1.0
    if rows.targets.s != NULL:
        for i in range(count):
            scale = sqrt(weight_at(&rows.targets, start + i))
            for j in range(width):
                panel[i * width + j] = <lane> (panel[i * width + j] * scale)


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


# ---- the sums of columns, of rows of contiguous elements: no panel -------------------------------------------------

cdef inline lanes vector_at(const real *x) noexcept nogil:
    if real is float:
        return widened(x)
    else:
        return (<const lanes *> x)[0]


cdef inline void sum_group(
    const real *x, Py_ssize_t step, const double *weight, lanes shift, lanes *sum_out, lanes *squares_out,
    const int rows, const bint weighted
) noexcept nogil:
    """Add a group of columns of one row or of four, a literal; `weighted` is one too."""
    cdef lanes z0 = vector_at(x) - shift, z1, z2, z3
    cdef lanes y0 = all_lanes(weight[0]) * z0 if weighted else z0, y1, y2, y3
    if rows == 1:
        sum_out[0] += y0
        squares_out[0] += y0 * z0
        return
    z1 = vector_at(x + step) - shift
    z2 = vector_at(x + 2 * step) - shift
    z3 = vector_at(x + 3 * step) - shift
    y1 = all_lanes(weight[1]) * z1 if weighted else z1
    y2 = all_lanes(weight[2]) * z2 if weighted else z2
    y3 = all_lanes(weight[3]) * z3 if weighted else z3
    sum_out[0] += (y0 + y1) + (y2 + y3)
    squares_out[0] += (y0 * z0 + y1 * z1) + (y2 * z2 + y3 * z3)


cdef inline void sum_rows(
    const real *x, Py_ssize_t step, Py_ssize_t d, const double *weight, const double *shift, lanes *sums_out,
    const int rows, const bint weighted
) noexcept nogil:
    """All groups of one row or of four: their sums, then the sums of their squares. The last is x[d - WIDE : d].

    Four rows are no stream that the hardware would see: those further on are asked for.
    """
    cdef Py_ssize_t groups = (d - 1) // WIDE + 1, ahead = max(SOON // (4 * d * <Py_ssize_t> sizeof(real)), 1) * 4, k, j
    for k in range(groups):
        j = min(WIDE * k, d - WIDE)
        if rows == 4:
            prefetch_line(x + ahead * step + j)
            prefetch_line(x + (ahead + 1) * step + j)
            prefetch_line(x + (ahead + 2) * step + j)
            prefetch_line(x + (ahead + 3) * step + j)
        sum_group(
            x + j, step, weight, (<const lanes *> (shift + j))[0], sums_out + k, sums_out + groups + k, rows, weighted
        )


cdef inline void sum_sides(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, double origin, double *weight_out, double *sums_out
) noexcept nogil:
    """The weights of some rows; and add what y and the column of ones have, at the place of y among the sums."""
    cdef Py_ssize_t order = rows.d + 2, i
    cdef double t, total = 0, squares = 0, weights = 0
    for i in range(count):
        weight_out[i] = weight_at(&rows.targets, start + i)
        t = target_at(&rows.targets, start + i) - origin if rows.targets.y != NULL else 0.0
        total += weight_out[i] * t
        squares += weight_out[i] * t * t
        weights += weight_out[i]
    sums_out[0] += total
    sums_out[1] += weights
    sums_out[order] += squares
    sums_out[order + 1] += weights


cdef inline void columns_of_rows(
    const Rows *rows, const double *shift, double *sums_out, double *scratch, real like, const bint weighted
) noexcept nogil:
    """Four rows after the other, whose groups of columns are added to sums in the cache."""
    cdef const real *x = <const real *> rows.X
    cdef Py_ssize_t d = rows.d, step = rows.x_row, width = ((d - 1) // WIDE + 1) * WIDE, start = 0, count, i, k
    cdef double *weight = scratch + 2 * width
    memset(scratch, 0, 2 * width * sizeof(double))
    while start < rows.n:
        count = min(<Py_ssize_t> AT_ONCE, rows.n - start)
        sum_sides(rows, start, count, shift[d], weight, sums_out + d)
        i = 0
        while i + 4 <= count:
            sum_rows(x + (start + i) * step, step, d, weight + i, shift, <lanes *> scratch, 4, weighted)
            i += 4
        while i < count:
            sum_rows(x + (start + i) * step, step, d, weight + i, shift, <lanes *> scratch, 1, weighted)
            i += 1
        start += count
    for i in range(d):
        k = i if i < width - WIDE else i + width - d
        sums_out[i] += scratch[k]
        sums_out[d + 2 + i] += scratch[width + k]


# ---- the kernels of the table ----------------------------------------------------------------------------------------

cdef inline Py_ssize_t panel_rows(Py_ssize_t width) noexcept nogil:
    return min(max(<Py_ssize_t> PANEL_ELEMENTS // width, <Py_ssize_t> 16), <Py_ssize_t> PANEL_MAX)


cdef Py_ssize_t scratch_bytes(const Rows *rows) noexcept nogil:
    """Bytes of scratch, at an address that is a multiple of VECTOR, that `gram` and `columns` need for these rows."""
    cdef Py_ssize_t width = rows.d + 2
    return max(
        gram_bytes(rows, <float> 0), gram_bytes(rows, <double> 0),
        width * panel_rows(width) * <Py_ssize_t> sizeof(double),
    )


cdef inline void gram(
    const Rows *rows, const double *shift, double *sums_out, void *scratch, lane lane_like, real like
) noexcept nogil:
    if is_short(rows, lane_like):
        gram_short(rows, shift, sums_out, lane_like, like)
    elif by_columns(rows, lane_like):
        gram_columns(rows, shift, sums_out, scratch, lane_like, like)
    else:
        gram_rows(rows, shift, sums_out, scratch, lane_like, like)


cdef inline void columns(
    const Rows *rows, const double *shift, double *sums_out, double *scratch, real like
) noexcept nogil:
    cdef Py_ssize_t width = rows.d + 2, start = 0, count
    if rows.x_col == 1 and rows.d >= WIDE:
        if rows.targets.s == NULL:
            columns_of_rows(rows, shift, sums_out, scratch, like, False)
        else:
            columns_of_rows(rows, shift, sums_out, scratch, like, True)
        return
    while start < rows.n:
        count = min(panel_rows(width), rows.n - start)
        fill_panel(rows, start, count, shift, scratch, like)
        add_columns(scratch, width, count, width, sums_out)
        start += count


cdef void gram_f32(const Rows *rows, const double *shift, double *sums_out, void *scratch) noexcept nogil:
    gram(rows, shift, sums_out, scratch, <float> 0, <float> 0)


cdef void gram_f32_in_double(const Rows *rows, const double *shift, double *sums_out, void *scratch) noexcept nogil:
    gram(rows, shift, sums_out, scratch, <double> 0, <float> 0)


cdef void gram_f64(const Rows *rows, const double *shift, double *sums_out, void *scratch) noexcept nogil:
    gram(rows, shift, sums_out, scratch, <double> 0, <double> 0)


cdef void columns_f32(const Rows *rows, const double *shift, double *sums_out, void *scratch) noexcept nogil:
    columns(rows, shift, sums_out, <double *> scratch, <float> 0)


cdef void columns_f64(const Rows *rows, const double *shift, double *sums_out, void *scratch) noexcept nogil:
    columns(rows, shift, sums_out, <double *> scratch, <double> 0)


cdef void panel_f32(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, void *panel_out
) noexcept nogil:
    fill_panel(rows, start, count, shift, <float *> panel_out, <float> 0)


cdef void panel_f32_in_double(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, void *panel_out
) noexcept nogil:
    fill_panel(rows, start, count, shift, <double *> panel_out, <float> 0)


cdef void panel_f64(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, void *panel_out
) noexcept nogil:
    fill_panel(rows, start, count, shift, <double *> panel_out, <double> 0)


cdef MomentsKernels kernels = MomentsKernels(
    gram_f32=gram_f32, gram_f32_in_double=gram_f32_in_double, gram_f64=gram_f64, columns_f32=columns_f32,
    columns_f64=columns_f64, panel_f32=panel_f32, panel_f32_in_double=panel_f32_in_double, panel_f64=panel_f64,
    scratch_bytes=scratch_bytes,
)

table = PyCapsule_New(&kernels, "fastgd.MomentsKernels", NULL)
