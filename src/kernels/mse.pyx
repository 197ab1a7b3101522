"""Mean squared error of a linear model over one block of rows: value, gradient sums and parameter update.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. With r_i = x_i.w + b - y_i the
kernels add, over the rows of a block,

    sums[0] += sum_i s_i r_i^2        sums[1] += sum_i s_i r_i        sums[2 + j] += sum_i s_i r_i x_ij

and leave every normalisation to the caller; but the gradient of few wide rows goes straight to where it is wanted
(`gradient_in_place`). X is read once. Dot products and the gradient of a tile run in X's
own precision; residuals, losses and everything carried from one tile to the next are double, so that a float32
gradient over 10^7 rows is as good as one over 10^3.

The shape of X decides the shape of the loop:

==================================  ====================================================================
rows closer together than columns   column by column over tiles of rows that stay in the cache
                                    (`sum_columns`); copied into a buffer first unless x_row is 1
rows of up to 64 bytes              blocks of LANES rows, transposed (`sum_rows_short`)
rows of up to NARROW_BYTES          w and the gradient stay in registers (`sum_rows_narrow`)
wider                               panels of up to PANEL rows: their dot products together, then one
                                    update of the gradient by all of them (`sum_rows_wide`)
==================================  ====================================================================

The row kernels follow several places of the block at once, each in address order, and ask for what comes next:
a core that reads several sequential streams keeps more cache lines under way than one that reads a single
stream. Both halves of the work on a panel ask for half of the next one, so that the memory is never idle.

Loops over lanes have constant lengths after inlining, which is why this module is compiled with
``CYTHON_INLINE`` meaning ``always_inline`` (see setup.py).
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport fabs
from libc.string cimport memset

from fastgd._targets cimport load_run
from fastgd._types cimport MSEKernels, Rows, real

cdef enum:
    VECTOR = 64             # bytes
    LANES = 16              # rows of a block that is transposed; elements that a wide row is gone through by
    NARROW_BYTES = 512      # w and the gradient of a narrow row then fill 16 of AVX-512's 32 registers
    LANES_MAX = 128         # NARROW_BYTES of float
    STREAMS = 4             # of narrow rows
    TOGETHER = 3            # groups, up to which the lanes of several rows are added up together
    PANEL = 8               # of wide rows, at most
    PANEL_BYTES = 1 << 20   # what a panel may take of the L2 cache
    AHEAD = 2048            # bytes before its use that a stream's next data is asked for
    TILE = 256              # rows
    TILE_MAX = 512          # rows in a tile of columns, so that what is kept for each row stays in L1
    LONG_RUN = 4096         # rows in a tile that does not fit TILE_BYTES
    FEW = 4                 # columns: fewer vectors to a row than it takes to add up their lanes
    SHORT_RUN = 640         # bytes of a column that are not worth a visit for themselves
    TILE_BYTES = 1 << 20    # what a tile of columns may take of the L2 cache


cdef extern from *:
    """
    static inline void prefetch_line(const void *address) { __builtin_prefetch(address); }
    """
    void prefetch_line(const void *address) noexcept nogil

cdef extern from "lanes.h":
    void four_sums_f32(const float *partial, float *out) noexcept nogil
    void four_sums_f64(const double *partial, double *out) noexcept nogil


ctypedef struct Tile:
    # The rows first + q * length + i for q < present and i < count; targets (less the intercept b) and weights of
    # stream q start at q * run. loss and residual are carried from tile to tile.
    double b
    double factor           # that the gradient is multiplied by
    Py_ssize_t start        # where the streams begin
    Py_ssize_t streams
    Py_ssize_t length       # of each
    Py_ssize_t run          # rows of each in a tile, at most
    Py_ssize_t left         # rows after the streams, at most a run
    Py_ssize_t next
    Py_ssize_t first
    Py_ssize_t present
    Py_ssize_t count
    Py_ssize_t pending      # rows whose gradient is in X's precision
    double loss
    double residual
    double target[TILE]
    double weight[TILE]


ctypedef struct LaneSums:
    # The loss and the residual of a tile whose rows are in lanes, by lane.
    double loss[LANES]
    double residual[LANES]


# ---- the walk over the rows --------------------------------------------------------------------------------------

cdef inline void start_tiles(Tile *tile, double b) noexcept nogil:
    tile.b = b
    tile.factor = 1
    tile.pending = 0
    tile.loss = 0
    tile.residual = 0


cdef inline void follow(
    Tile *tile, Py_ssize_t start, Py_ssize_t count, Py_ssize_t streams, Py_ssize_t unit
) noexcept nogil:
    """Go on with so many rows from `start` on, in streams of a multiple of `unit` rows, and those left over."""
    tile.start = start
    tile.streams = streams
    tile.run = TILE // streams
    tile.length = count // (streams * unit) * unit
    tile.left = count - streams * tile.length
    tile.next = 0


cdef bint next_tile(const Rows *rows, Tile *tile) noexcept nogil:
    """Step to the next rows of the streams, last to those left over, in one stream; False at the end."""
    cdef Py_ssize_t q
    if tile.next < tile.length:
        tile.first = tile.start + tile.next
        tile.present = tile.streams
        tile.count = min(tile.length - tile.next, tile.run)
        tile.next += tile.count
    elif tile.left:
        tile.first = tile.start + tile.streams * tile.length
        tile.present = 1
        tile.count = tile.left
        tile.left = 0
    else:
        return False
    for q in range(tile.present):
        load_run(
            &rows.targets, tile.b, tile.first + q * tile.length, tile.count, tile.target + q * tile.run,
            tile.weight + q * tile.run,
        )
    return True


cdef inline double book_residual(Tile *tile, Py_ssize_t at, double prediction) noexcept nogil:
    """Count the residual of the row at this place of the tile; return s_i r_i, its factor in the gradient."""
    cdef double r = prediction - tile.target[at]
    cdef double c = tile.weight[at] * r
    tile.loss += c * r
    tile.residual += c
    return c


cdef const real *gather(const Rows *rows, Py_ssize_t i, real *buffer) noexcept nogil:
    """Row i copied into the buffer."""
    cdef const real *x = <const real *> rows.X + i * rows.x_row
    cdef Py_ssize_t k
    for k in range(rows.d):
        buffer[k] = x[k * rows.x_col]
    return buffer


cdef Py_ssize_t rows_in_place(const Rows *rows, Py_ssize_t lanes) noexcept nogil:
    """The first so many rows can be read where they are, `lanes` elements at least; the others are gathered.

    A row shorter than that is read together with the start of the next ones. They must be rows of X: the lanes they
    fill meet zeros of w, which NaN that is no part of X would survive.
    """
    if rows.x_col != 1:
        return 0
    if rows.d >= lanes:
        return rows.n
    return rows.n - (lanes - 1) // rows.d if rows.x_row == rows.d else 0


# ---- rows that fit the registers -----------------------------------------------------------------------------------
#
# A row is held in groups of as many elements as a vector has, the last of them x[d - lanes : d]: it overlaps the group
# before where d is no multiple, so that nothing outside the row is read. The lanes of w that repeat a column are zero,
# and what they collect of the gradient is dropped.

cdef inline Py_ssize_t lanes_of(real like) noexcept nogil:
    return VECTOR // <Py_ssize_t> sizeof(real)


cdef inline Py_ssize_t before_last(Py_ssize_t d, Py_ssize_t lanes) noexcept nogil:
    """The elements before the last group: the largest multiple of `lanes` below d."""
    return (d - 1) // lanes * lanes


cdef inline void spread(const double *w, Py_ssize_t d, real *w_lanes) noexcept nogil:
    """w in lanes."""
    cdef Py_ssize_t lanes = lanes_of(<real> 0), whole = before_last(d, lanes), start = d - lanes, k
    for k in range(whole):
        w_lanes[k] = <real> w[k]
    for k in range(lanes):
        w_lanes[whole + k] = <real> w[start + k] if whole <= start + k else 0


cdef inline void collect(const real *g_lanes, Py_ssize_t d, double *out) noexcept nogil:
    """out += the gradient in lanes."""
    cdef Py_ssize_t lanes = lanes_of(<real> 0), whole = before_last(d, lanes), start = d - lanes, k
    for k in range(whole):
        out[k] += g_lanes[k]
    for k in range(whole, d):
        out[k] += g_lanes[whole + k - start]


cdef inline void prefetch_row(const real *x, Py_ssize_t vectors) noexcept nogil:
    """Ask for the cache lines of so many vectors from x on, which need not be memory of X: a prefetch never faults."""
    cdef Py_ssize_t line
    for line in range(vectors):
        prefetch_line(<const char *> x + VECTOR * line)


cdef inline void predict_four(
    const real **x, const real *w_lanes, Py_ssize_t tail, real *out, const int groups
) noexcept nogil:
    """out[q] = x[q].w; the lanes of all four are added up together."""
    cdef real partial[STREAMS * LANES]
    cdef Py_ssize_t lanes = lanes_of(<real> 0), whole = lanes * (groups - 1), q, j, k
    for q in range(STREAMS):
        for k in range(VECTOR // <Py_ssize_t> sizeof(real)):
            partial[q * lanes + k] = w_lanes[whole + k] * x[q][tail + k]
        for j in range(groups - 1):
            for k in range(VECTOR // <Py_ssize_t> sizeof(real)):
                partial[q * lanes + k] += w_lanes[j * lanes + k] * x[q][j * lanes + k]
    if real is float:
        four_sums_f32(partial, out)
    else:
        four_sums_f64(partial, out)


cdef inline real predict_one(const real *x, const real *w_lanes, Py_ssize_t tail, const int groups) noexcept nogil:
    """x.w, in two chains of sums, because one would wait for itself."""
    cdef real even[LANES]
    cdef real odd[LANES]
    cdef Py_ssize_t lanes = lanes_of(<real> 0), whole = lanes * (groups - 1), j, k
    cdef real product = 0
    for k in range(VECTOR // <Py_ssize_t> sizeof(real)):
        even[k] = w_lanes[whole + k] * x[tail + k]
        odd[k] = w_lanes[k] * x[k]
    for j in range(1, groups - 1):
        for k in range(VECTOR // <Py_ssize_t> sizeof(real)):
            if j % 2:
                even[k] += w_lanes[j * lanes + k] * x[j * lanes + k]
            else:
                odd[k] += w_lanes[j * lanes + k] * x[j * lanes + k]
    for k in range(VECTOR // <Py_ssize_t> sizeof(real)):
        product += even[k] + odd[k]
    return product


cdef inline void add_row(const real *x, real c, Py_ssize_t tail, real *g_lanes, const int groups) noexcept nogil:
    """g += c x"""
    cdef Py_ssize_t lanes = lanes_of(<real> 0), whole = lanes * (groups - 1), k
    for k in range(whole):
        g_lanes[k] += c * x[k]
    for k in range(VECTOR // <Py_ssize_t> sizeof(real)):
        g_lanes[whole + k] += c * x[tail + k]


cdef void gather_four(const Rows *rows, const real **x, real *buffer) noexcept nogil:
    """Copy rows whose elements are apart, and point to the copies."""
    cdef Py_ssize_t q, k
    for q in range(STREAMS):
        for k in range(rows.d):
            buffer[k] = x[q][k * rows.x_col]
        x[q] = buffer
        buffer += rows.d


cdef inline void sum_rows_narrow(
    const Rows *rows, const double *w, double b, double *sums_out, real *buffer, const int groups
) noexcept nogil:
    """`groups` is a literal at every call, so w, the gradient and the rows stay in registers."""
    cdef Py_ssize_t lanes = lanes_of(<real> 0), tail = rows.d - lanes, i, q, k
    cdef const real *first[STREAMS]     # of those not there, the first one again
    cdef const real *x[STREAMS]
    cdef real w_lanes[LANES_MAX]
    cdef real g_lanes[LANES_MAX]
    cdef real product[STREAMS]
    cdef double c[STREAMS]
    cdef Tile tile
    start_tiles(&tile, b)
    follow(&tile, 0, rows.n, STREAMS, 1)
    spread(w, rows.d, w_lanes)
    while next_tile(rows, &tile):
        for k in range(lanes * groups):
            g_lanes[k] = 0
        for q in range(STREAMS):
            first[q] = <const real *> rows.X + tile.first * rows.x_row
            if q < tile.present:
                first[q] += q * tile.length * rows.x_row
        for i in range(tile.count):
            for q in range(STREAMS):
                x[q] = first[q] + i * rows.x_row
                prefetch_row(x[q] + AHEAD // sizeof(real), groups)
            if rows.x_col != 1:
                gather_four(rows, x, buffer)
            if groups <= TOGETHER:
                predict_four(x, w_lanes, tail, product, groups)
                for q in range(tile.present):
                    c[q] = book_residual(&tile, q * tile.run + i, product[q])
                for q in range(tile.present):
                    add_row(x[q], <real> c[q], tail, g_lanes, groups)
            else:
                for q in range(tile.present):
                    product[q] = predict_one(x[q], w_lanes, tail, groups)
                    c[q] = book_residual(&tile, q * tile.run + i, product[q])
                    add_row(x[q], <real> c[q], tail, g_lanes, groups)
        collect(g_lanes, rows.d, sums_out + 2)
    sums_out[0] += tile.loss
    sums_out[1] += tile.residual


# ---- rows of one cache line ----------------------------------------------------------------------------------------
#
# Adding up the lanes of so short a row would take longer than its product with w. Blocks of LANES rows are transposed
# instead, so that every lane is a row of its own. A block is transposed by dealing it out into piles, like cards:
# element `lanes * k + j` of LANES rows of 16 lanes is dealt into 4 piles twice, of 8 lanes into 4 piles and then 2.

cdef inline void deal4(const real *block, const int count, real *out) noexcept nogil:
    """out[p * count + m] = block[4 * m + p]; `count` is a literal at every call."""
    cdef Py_ssize_t m
    for m in range(count):
        out[m] = block[4 * m]
        out[count + m] = block[4 * m + 1]
        out[2 * count + m] = block[4 * m + 2]
        out[3 * count + m] = block[4 * m + 3]


cdef inline void deal2(const real *block, const int count, real *out) noexcept nogil:
    """out[p * count + m] = block[2 * m + p]."""
    cdef Py_ssize_t m
    for m in range(count):
        out[m] = block[2 * m]
        out[count + m] = block[2 * m + 1]


cdef inline void transpose_rows(
    const Rows *rows, Py_ssize_t at, Py_ssize_t count, Py_ssize_t in_place, real *out, const int lanes
) noexcept nogil:
    """out[j * LANES + k] = x_kj of `count` rows from `at` on."""
    cdef const real *x = <const real *> rows.X + at * rows.x_row
    cdef real block[LANES * LANES]
    cdef real dealt[LANES * LANES]
    cdef Py_ssize_t j, k
    if count < LANES:
        memset(block, 0, LANES * lanes * sizeof(real))
    if at + count <= in_place:
        for k in range(count):
            prefetch_line(<const char *> (x + k * rows.x_row) + AHEAD)
            for j in range(lanes):
                block[k * lanes + j] = x[k * rows.x_row + j]
    else:
        for k in range(count):
            for j in range(lanes):
                block[k * lanes + j] = x[k * rows.x_row + j * rows.x_col] if j < rows.d else 0
    if lanes == 16:
        deal4(block, 64, dealt)
        deal4(dealt, 64, out)
    else:
        deal4(block, 32, dealt)
        deal2(dealt, 64, out)


cdef inline void book_lanes(
    const Tile *tile, Py_ssize_t at, Py_ssize_t count, const real *prediction, LaneSums *sums, real *c_out
) noexcept nogil:
    """`book_residual` for LANES rows in lanes of their own, of which `count` are there."""
    cdef double target[LANES]
    cdef double weight[LANES]
    cdef double r[LANES]
    cdef double c[LANES]
    cdef Py_ssize_t k
    if count < LANES:
        memset(target, 0, sizeof(target))
        memset(weight, 0, sizeof(weight))
        for k in range(count):
            target[k] = tile.target[at + k]
            weight[k] = tile.weight[at + k]
    else:
        for k in range(LANES):
            target[k] = tile.target[at + k]
        for k in range(LANES):
            weight[k] = tile.weight[at + k]
    for k in range(LANES):
        r[k] = prediction[k] - target[k]
        c[k] = weight[k] * r[k]
    for k in range(LANES):
        sums.loss[k] += c[k] * r[k]
    for k in range(LANES):
        sums.residual[k] += c[k]
    for k in range(LANES):
        c_out[k] = <real> c[k]


cdef inline void sum_rows_short(
    const Rows *rows, const double *w, double b, double *sums_out, real *g, const int lanes
) noexcept nogil:
    """Rows of up to `lanes` elements, 8 or 16, a literal at every call; g is room for LANES columns' lanes."""
    cdef Py_ssize_t in_place = rows_in_place(rows, lanes), i, q, j, k, count
    cdef real w_lanes[LANES]
    cdef real x[LANES * LANES]
    cdef real prediction[LANES]
    cdef real other[LANES]
    cdef real c[LANES]
    cdef LaneSums lane_sums
    cdef Tile tile
    start_tiles(&tile, b)
    follow(&tile, 0, rows.n, STREAMS, LANES)
    memset(&lane_sums, 0, sizeof(LaneSums))
    for k in range(LANES):
        w_lanes[k] = <real> w[k] if k < rows.d else 0
    while next_tile(rows, &tile):
        memset(g, 0, rows.d * LANES * sizeof(real))
        i = 0
        while i < tile.count:
            count = min(tile.count - i, <Py_ssize_t> LANES)
            for q in range(tile.present):
                transpose_rows(rows, tile.first + q * tile.length + i, count, in_place, x, lanes)
                for k in range(LANES):
                    prediction[k] = other[k] = 0
                for j in range(lanes // 2):     # two chains of sums, because one would wait for itself
                    for k in range(LANES):
                        prediction[k] += w_lanes[2 * j] * x[2 * j * LANES + k]
                    for k in range(LANES):
                        other[k] += w_lanes[2 * j + 1] * x[(2 * j + 1) * LANES + k]
                for k in range(LANES):
                    prediction[k] += other[k]
                book_lanes(&tile, q * tile.run + i, count, prediction, &lane_sums, c)
                for j in range(rows.d):
                    for k in range(LANES):
                        g[j * LANES + k] += c[k] * x[j * LANES + k]
            i += LANES
        for j in range(rows.d):
            for k in range(LANES):
                sums_out[2 + j] += g[j * LANES + k]
    for k in range(LANES):
        sums_out[0] += lane_sums.loss[k]
        sums_out[1] += lane_sums.residual[k]


cdef void sum_rows_fitting(
    const Rows *rows, const double *w, double b, double *sums_out, real *buffer
) noexcept nogil:
    cdef Py_ssize_t groups = (rows.d - 1) // lanes_of(<real> 0) + 1
    if rows.d <= 8:
        sum_rows_short(rows, w, b, sums_out, buffer, 8)
    elif groups == 1:
        sum_rows_short(rows, w, b, sums_out, buffer, 16)
    elif groups == 2:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 2)
    elif groups == 3:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 3)
    elif groups == 4:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 4)
    elif groups == 5:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 5)
    elif groups == 6:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 6)
    elif groups == 7:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 7)
    else:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 8)


# ---- wider rows ----------------------------------------------------------------------------------------------------

cdef inline void prefetch_group(const real *x) noexcept nogil:
    """Ask for LANES elements."""
    prefetch_row(x, LANES * <Py_ssize_t> sizeof(real) // VECTOR)


cdef inline void predict(
    const real **x, const real *w, Py_ssize_t d, Py_ssize_t ahead, real *out, const int height
) noexcept nogil:
    """out[q] = x[q].w of a panel; asks for what lies `ahead` elements further on in the first half of its rows."""
    cdef const real *x0 = x[0]
    cdef const real *x1 = x[1]
    cdef const real *x2 = x[2]
    cdef const real *x3 = x[3]
    cdef const real *x4 = x[4]
    cdef const real *x5 = x[5]
    cdef const real *x6 = x[6]
    cdef const real *x7 = x[7]
    cdef Py_ssize_t whole = before_last(d, LANES), j = 0, k, q
    cdef real partial[PANEL * LANES]
    cdef real last[LANES]
    cdef real total
    for k in range(LANES):
        last[k] = w[d - LANES + k] if d - LANES + k >= whole else 0
    for k in range(height * LANES):
        partial[k] = 0
    while j < whole:
        prefetch_group(x0 + ahead + j)
        if height >= 4:
            prefetch_group(x1 + ahead + j)
        if height == 8:
            prefetch_group(x2 + ahead + j)
            prefetch_group(x3 + ahead + j)
        for k in range(LANES):
            partial[k] += x0[j + k] * w[j + k]
            partial[LANES + k] += x1[j + k] * w[j + k]
            if height >= 4:
                partial[2 * LANES + k] += x2[j + k] * w[j + k]
                partial[3 * LANES + k] += x3[j + k] * w[j + k]
            if height == 8:
                partial[4 * LANES + k] += x4[j + k] * w[j + k]
                partial[5 * LANES + k] += x5[j + k] * w[j + k]
                partial[6 * LANES + k] += x6[j + k] * w[j + k]
                partial[7 * LANES + k] += x7[j + k] * w[j + k]
        j += LANES
    for q in range(height):
        total = 0
        for k in range(LANES):
            total += partial[q * LANES + k] + x[q][d - LANES + k] * last[k]
        out[q] = total


cdef inline void weigh(
    const real **x, const real *c, Py_ssize_t j, real *block_out, const int height
) noexcept nogil:
    """block_out[k] += sum_q c[q] x[q][j + k]."""
    cdef const real *x0 = x[0]
    cdef const real *x1 = x[1]
    cdef const real *x2 = x[2]
    cdef const real *x3 = x[3]
    cdef const real *x4 = x[4]
    cdef const real *x5 = x[5]
    cdef const real *x6 = x[6]
    cdef const real *x7 = x[7]
    cdef Py_ssize_t k
    for k in range(LANES):
        block_out[k] += c[0] * x0[j + k] + c[1] * x1[j + k]
        if height >= 4:
            block_out[k] += c[2] * x2[j + k] + c[3] * x3[j + k]
        if height == 8:
            block_out[k] += c[4] * x4[j + k] + c[5] * x5[j + k] + c[6] * x6[j + k] + c[7] * x7[j + k]


cdef inline void add_panel(
    const real **x, const real *c, Py_ssize_t d, Py_ssize_t ahead, real *g, const int height
) noexcept nogil:
    """g += sum_q c[q] x[q]; asks for what lies `ahead` elements further on in the second half of the rows."""
    cdef real block[LANES]      # g may not be where x is, but only this the compiler can see
    cdef Py_ssize_t whole = before_last(d, LANES), j = 0, k, q
    while j < whole:
        for q in range(height // 2, height):
            prefetch_group(x[q] + ahead + j)
        for k in range(LANES):
            block[k] = g[j + k]
        weigh(x, c, j, block, height)
        for k in range(LANES):
            g[j + k] = block[k]
        j += LANES
    j = d - LANES
    for k in range(LANES):
        block[k] = 0
    weigh(x, c, j, block, height)
    for k in range(whole - j, LANES):
        g[j + k] += block[k]


cdef inline const real *as_real(const double *w, Py_ssize_t d, real *buffer) noexcept nogil:
    """w in X's precision: where it is, or copied to the buffer."""
    cdef Py_ssize_t k
    if real is double:
        return w
    else:
        for k in range(d):
            buffer[k] = <real> w[k]
        return buffer


cdef inline void find_panel(
    const Rows *rows, const Tile *tile, Py_ssize_t i, real *buffer, const real **x, const int height
) noexcept nogil:
    """The i-th rows of the streams: where they are, or gathered; the first one also for those that are not there."""
    cdef Py_ssize_t at, q
    for q in range(tile.present):
        at = tile.first + q * tile.length + i
        x[q] = <const real *> rows.X + at * rows.x_row if rows.x_col == 1 else gather(rows, at, buffer + q * rows.d)
    for q in range(tile.present, height):
        x[q] = x[0]


cdef inline void flush(Tile *tile, Py_ssize_t d, double *out, real *g) noexcept nogil:
    """Carry the gradient of the rows since the last flush into double."""
    cdef Py_ssize_t k
    if real is float:
        for k in range(d):
            out[k] += g[k]
        memset(g, 0, d * sizeof(real))
    tile.pending = 0


cdef inline void sum_panels(
    const Rows *rows, Tile *tile, const real *w, double *sums_out, bint with_gradient, real *g, real *buffer,
    const int height
) noexcept nogil:
    """The rows that the tile was told to follow, in panels of `height`, a literal at every call."""
    cdef Py_ssize_t d = rows.d, i, q
    cdef Py_ssize_t rows_ahead = max(<Py_ssize_t> 1, AHEAD // (d * <Py_ssize_t> sizeof(real)))
    cdef Py_ssize_t ahead = rows_ahead * rows.x_row if rows.x_col == 1 else 0
    cdef const real *x[PANEL]
    cdef real c[PANEL]
    while next_tile(rows, tile):
        if tile.pending + tile.present * tile.count > TILE:
            flush(tile, d, sums_out + 2, g)
        tile.pending += tile.present * tile.count
        for i in range(tile.count):
            find_panel(rows, tile, i, buffer, x, height)
            predict(x, w, d, ahead, c, height)
            for q in range(tile.present):
                c[q] = <real> (tile.factor * book_residual(tile, q * tile.run + i, c[q]))
            for q in range(tile.present, height):
                c[q] = 0
            if with_gradient:
                add_panel(x, c, d, ahead, g, height)


cdef inline void sum_all_panels(
    const Rows *rows, Tile *tile, const real *w, double *sums_out, bint with_gradient, real *g, real *buffer
) noexcept nogil:
    """The highest panels that PANEL_BYTES hold, lower ones for the rows left over."""
    cdef Py_ssize_t fitting = PANEL_BYTES // (rows.d * <Py_ssize_t> sizeof(real)), done = 0, count
    if fitting >= 8:
        done = rows.n // 8 * 8
        follow(tile, 0, done, 8, 1)
        sum_panels(rows, tile, w, sums_out, with_gradient, g, buffer, 8)
    if fitting >= 4:
        count = (rows.n - done) // 4 * 4
        follow(tile, done, count, 4, 1)
        sum_panels(rows, tile, w, sums_out, with_gradient, g, buffer, 4)
        done += count
    follow(tile, done, rows.n - done, 2, 1)
    sum_panels(rows, tile, w, sums_out, with_gradient, g, buffer, 2)
    sums_out[0] += tile.loss
    sums_out[1] += tile.residual


cdef void sum_rows_wide(
    const Rows *rows, const double *w, double b, double *sums_out, bint with_gradient, real *scratch
) noexcept nogil:
    cdef real *g = scratch + rows.d
    cdef Tile tile
    start_tiles(&tile, b)
    if real is double:
        g = sums_out + 2    # needs no tile of its own: the sums are in X's precision
    else:
        memset(g, 0, rows.d * sizeof(real))
    sum_all_panels(
        rows, &tile, as_real(w, rows.d, scratch), sums_out, with_gradient, g, scratch + 2 * rows.d
    )
    if with_gradient:
        flush(&tile, rows.d, sums_out + 2, g)


cdef inline bint gradient_in_place(
    const Rows *rows, const real *w, double b, double factor, double *sums_out, real *g_out, double limit
) noexcept nogil:
    """factor sum_i s_i r_i x_i of rows that `goes_in_place`, in X's precision, where it is wanted.

    Few rows take little more time than it does to convert parameters and sums. Returns whether all of the gradient is
    of at most this magnitude.
    """
    cdef real beyond = 0        # counted so that the loop vectorises
    cdef Py_ssize_t j
    cdef Tile tile
    start_tiles(&tile, b)
    tile.factor = factor
    memset(g_out, 0, rows.d * sizeof(real))
    sum_all_panels(rows, &tile, w, sums_out, True, g_out, <real *> NULL)
    for j in range(rows.d):
        beyond += 0 if fabs(g_out[j]) <= limit else 1
    return beyond == 0


# ---- columns -------------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t distance(Py_ssize_t step) noexcept nogil:
    return -step if step < 0 else step


cdef inline bint few_columns(const Rows *rows) noexcept nogil:
    """A C-contiguous block of 2 to FEW columns."""
    return rows.x_col == 1 and rows.x_row == rows.d and 2 <= rows.d <= FEW


cdef inline bint by_columns(const Rows *rows) noexcept nogil:
    return distance(rows.x_row) < distance(rows.x_col) or rows.d == 1 or few_columns(rows)


cdef inline Py_ssize_t tile_rows(const Rows *rows, Py_ssize_t itemsize) noexcept nogil:
    """Rows in a tile of columns: what TILE_BYTES hold.

    Columns too many for that are read twice in any case, and then in runs as long as possible; unless they are copied,
    which keeps the runs to what makes use of whole cache lines.
    """
    cdef Py_ssize_t fitting = TILE_BYTES // (rows.d * itemsize) // 16 * 16
    if fitting * itemsize < SHORT_RUN:
        return min(LONG_RUN if rows.x_row == 1 else 16, rows.n)
    return min(fitting, <Py_ssize_t> TILE_MAX, rows.n)


cdef inline void transpose(const real *x, Py_ssize_t count, const int d, Py_ssize_t x_col, real *out) noexcept nogil:
    """out[j * x_col + i] = x[i * d + j]; `d` is a literal at every call, so that rows become shuffles of vectors."""
    cdef Py_ssize_t i, j
    for i in range(count):
        for j in range(d):
            out[j * x_col + i] = x[i * d + j]


cdef void transpose_few(const real *x, Py_ssize_t count, Py_ssize_t d, Py_ssize_t x_col, real *out) noexcept nogil:
    if d == 2:
        transpose(x, count, 2, x_col, out)
    elif d == 3:
        transpose(x, count, 3, x_col, out)
    else:
        transpose(x, count, FEW, x_col, out)


cdef void copy_columns(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, Py_ssize_t x_col, real *out
) noexcept nogil:
    """out[j * x_col + i] = x_ij of `count` rows from `start` on."""
    cdef const real *x = <const real *> rows.X + start * rows.x_row
    cdef Py_ssize_t i, j
    if few_columns(rows):
        transpose_few(x, count, rows.d, x_col, out)
        return
    for j in range(rows.d):
        for i in range(count):
            out[j * x_col + i] = x[i * rows.x_row + j * rows.x_col]


cdef inline void predict_columns(
    const real *x, Py_ssize_t x_col, Py_ssize_t count, Py_ssize_t d, const double *w, real *out
) noexcept nogil:
    """out[i] = x_i.w, four columns at a time."""
    cdef Py_ssize_t i, j = 0
    cdef const real *x0
    cdef const real *x1
    cdef const real *x2
    cdef const real *x3
    cdef real w0, w1, w2, w3
    memset(out, 0, count * sizeof(real))
    while j + 4 <= d:
        x0 = x + j * x_col
        x1 = x0 + x_col
        x2 = x1 + x_col
        x3 = x2 + x_col
        w0 = <real> w[j]
        w1 = <real> w[j + 1]
        w2 = <real> w[j + 2]
        w3 = <real> w[j + 3]
        for i in range(count):
            out[i] += w0 * x0[i] + w1 * x1[i] + w2 * x2[i] + w3 * x3[i]
        j += 4
    while j < d:
        x0 = x + j * x_col
        w0 = <real> w[j]
        for i in range(count):
            out[i] += w0 * x0[i]
        j += 1


cdef inline void book_residuals(
    const double *target, const double *weight, const real *prediction, Py_ssize_t count, double *sums_out,
    real *factor_out
) noexcept nogil:
    """`book_residual` for all rows of a tile."""
    cdef double loss = 0, residual = 0, r, c
    cdef Py_ssize_t i
    for i in range(count):
        r = prediction[i] - target[i]
        c = weight[i] * r
        loss += c * r
        residual += c
        factor_out[i] = <real> c
    sums_out[0] += loss
    sums_out[1] += residual


cdef inline void add_columns(
    const real *x, Py_ssize_t x_col, Py_ssize_t count, Py_ssize_t d, const real *c, double *out
) noexcept nogil:
    """out[j] += sum_i c_i x_ij, four columns at a time, carried in double from run to run of TILE_MAX rows."""
    cdef Py_ssize_t start, stop, i, j = 0
    cdef const real *x0
    cdef const real *x1
    cdef const real *x2
    cdef const real *x3
    cdef real g0, g1, g2, g3
    while j + 4 <= d:
        x0 = x + j * x_col
        x1 = x0 + x_col
        x2 = x1 + x_col
        x3 = x2 + x_col
        start = 0
        while start < count:
            stop = min(start + TILE_MAX, count)
            g0 = g1 = g2 = g3 = 0
            for i in range(start, stop):
                g0 += c[i] * x0[i]
                g1 += c[i] * x1[i]
                g2 += c[i] * x2[i]
                g3 += c[i] * x3[i]
            out[j] += g0
            out[j + 1] += g1
            out[j + 2] += g2
            out[j + 3] += g3
            start = stop
        j += 4
    while j < d:
        x0 = x + j * x_col
        start = 0
        while start < count:
            stop = min(start + TILE_MAX, count)
            g0 = 0
            for i in range(start, stop):
                g0 += c[i] * x0[i]
            out[j] += g0
            start = stop
        j += 1


cdef void sum_columns(
    const Rows *rows, const double *w, double b, double *sums_out, bint with_gradient, real *scratch
) noexcept nogil:
    cdef Py_ssize_t height = tile_rows(rows, sizeof(real)), start = 0, count, x_col
    cdef Py_ssize_t apart = height + LANES     # so that columns of a copy do not share the same few lines of L1
    cdef double *target = <double *> scratch
    cdef double *weight = target + height
    cdef real *prediction = <real *> (weight + height)
    cdef real *factor = prediction + height
    cdef real *copy = factor + height
    cdef const real *x
    while start < rows.n:
        count = min(height, rows.n - start)
        load_run(&rows.targets, b, start, count, target, weight)
        if rows.x_row == 1:
            x = <const real *> rows.X + start
            x_col = rows.x_col
        else:
            copy_columns(rows, start, count, apart, copy)
            x = copy
            x_col = apart
        predict_columns(x, x_col, count, rows.d, w, prediction)
        book_residuals(target, weight, prediction, count, sums_out, factor)
        if with_gradient:
            add_columns(x, x_col, count, rows.d, factor, sums_out + 2)
        start += count


# ---- the kernels of the table --------------------------------------------------------------------------------------

cdef inline bint fits_registers(const Rows *rows, Py_ssize_t itemsize) noexcept nogil:
    return rows.d * itemsize <= NARROW_BYTES


cdef Py_ssize_t scratch_reals(const Rows *rows) noexcept nogil:
    """Elements of scratch, 8 bytes each, that the kernels need for these rows, whatever the precision."""
    cdef Py_ssize_t height = max(tile_rows(rows, sizeof(float)), tile_rows(rows, sizeof(double)))
    if by_columns(rows):
        return 4 * height + (0 if rows.x_row == 1 else (height + LANES) * rows.d)
    return (PANEL + 2) * rows.d + LANES * LANES


cdef bint goes_in_place(const Rows *rows, Py_ssize_t itemsize) noexcept nogil:
    """Whether `gradient_f32` or `_f64` may be called: wide rows as they lie, so few that no sum needs double."""
    return rows.x_col == 1 and rows.n <= TILE and not by_columns(rows) and not fits_registers(rows, itemsize)


cdef void sums(const Rows *rows, const double *w, double b, double *sums_out, real *scratch) noexcept nogil:
    if by_columns(rows):
        sum_columns(rows, w, b, sums_out, True, scratch)
    elif fits_registers(rows, sizeof(real)):
        sum_rows_fitting(rows, w, b, sums_out, scratch)
    else:
        sum_rows_wide(rows, w, b, sums_out, True, scratch)


cdef void value(const Rows *rows, const double *w, double b, double *sums_out, real *scratch) noexcept nogil:
    """sums[0] and sums[1] alone. Where w is in registers the gradient costs no time, so it is computed and dropped."""
    cdef double unused[LANES_MAX + 2]
    if by_columns(rows):
        sum_columns(rows, w, b, sums_out, False, scratch)
    elif fits_registers(rows, sizeof(real)):
        memset(unused, 0, (rows.d + 2) * sizeof(double))
        sum_rows_fitting(rows, w, b, unused, scratch)
        sums_out[0] += unused[0]
        sums_out[1] += unused[1]
    else:
        sum_rows_wide(rows, w, b, sums_out, False, scratch)


cdef void update(real *w, const double *g, Py_ssize_t w_step, Py_ssize_t d, double lr) noexcept nogil:
    """w[j] -= lr * g[j], the third step of gradient descent."""
    cdef Py_ssize_t j
    if w_step == 1:
        for j in range(d):
            w[j] = <real> (w[j] - lr * g[j])
    else:
        for j in range(d):
            w[j * w_step] = <real> (w[j * w_step] - lr * g[j])


cdef void widen(const float *values, Py_ssize_t step, Py_ssize_t size, double *out) noexcept nogil:
    """out[j] = values[j * step]."""
    cdef Py_ssize_t j
    if step == 1:
        for j in range(size):
            out[j] = values[j]
    else:
        for j in range(size):
            out[j] = values[j * step]


cdef void narrow(const double *values, Py_ssize_t step, Py_ssize_t size, float *out) noexcept nogil:
    """out[j * step] = values[j]."""
    cdef Py_ssize_t j
    if step == 1:
        for j in range(size):
            out[j] = <float> values[j]
    else:
        for j in range(size):
            out[j * step] = <float> values[j]


cdef bint scale(double *values, Py_ssize_t size, double factor, double limit) noexcept nogil:
    """Multiply in place; return whether every product is a number of at most this magnitude."""
    cdef double beyond = 0      # counted as double, so that the loop vectorises
    cdef Py_ssize_t j
    for j in range(size):
        values[j] *= factor
        beyond += 0.0 if fabs(values[j]) <= limit else 1.0
    return beyond == 0


cdef void value_f32(const Rows *rows, const double *w, double b, double *sums_out, void *scratch) noexcept nogil:
    value(rows, w, b, sums_out, <float *> scratch)


cdef void value_f64(const Rows *rows, const double *w, double b, double *sums_out, void *scratch) noexcept nogil:
    value(rows, w, b, sums_out, <double *> scratch)


cdef void sums_f32(const Rows *rows, const double *w, double b, double *sums_out, void *scratch) noexcept nogil:
    sums(rows, w, b, sums_out, <float *> scratch)


cdef void sums_f64(const Rows *rows, const double *w, double b, double *sums_out, void *scratch) noexcept nogil:
    sums(rows, w, b, sums_out, <double *> scratch)


cdef bint gradient_f32(
    const Rows *rows, const float *w, double b, double factor, double *sums_out, float *g_out
) noexcept nogil:
    return gradient_in_place(rows, w, b, factor, sums_out, g_out, FLT_MAX)


cdef bint gradient_f64(
    const Rows *rows, const double *w, double b, double factor, double *sums_out, double *g_out
) noexcept nogil:
    return gradient_in_place(rows, w, b, factor, sums_out, g_out, DBL_MAX)


cdef void update_f32(float *w, const double *g, Py_ssize_t w_step, Py_ssize_t d, double lr) noexcept nogil:
    update(w, g, w_step, d, lr)


cdef void update_f64(double *w, const double *g, Py_ssize_t w_step, Py_ssize_t d, double lr) noexcept nogil:
    update(w, g, w_step, d, lr)


cdef MSEKernels kernels = MSEKernels(
    value_f32=value_f32, value_f64=value_f64, sums_f32=sums_f32, sums_f64=sums_f64,
    scratch_reals=scratch_reals, update_f32=update_f32, update_f64=update_f64, widen=widen, narrow=narrow, scale=scale,
    goes_in_place=goes_in_place, gradient_f32=gradient_f32, gradient_f64=gradient_f64,
)

table = PyCapsule_New(&kernels, "fastgd.MSEKernels", NULL)
