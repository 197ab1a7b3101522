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
rows of up to FASTGD_GROUPS vectors  w and the gradient stay in registers (`sum_rows_narrow`)
wider                               panels of up to PANEL rows: their dot products, then one update of the
                                    gradient by all of them (`sum_rows_wide`)
==================================  ====================================================================

In which order rows are read depends on the CPU, as `Rows.streams` tells. Intel's cores keep more cache lines under way
from several sequential streams than from one: the row kernels then follow several places of the block at once, each in
address order, and ask for what comes next; both halves of the work on a panel ask for half of the next one, so that
the memory is never idle. AMD's follow one stream best, and prefetches only disturb them; but long rows (FAR_BYTES),
which w and the gradient drive out of the nearest cache, they too read faster the other way. Prefetches go to the L2
cache, which has more requests under way than L1.

The loops over narrow rows, and over the rows of a panel that are read one after the other, are C on vectors (`rows.h`),
which holds the compiler to the order of the reads and to the registers. The others over lanes have constant lengths
after inlining, which is why this module is compiled with ``CYTHON_INLINE`` meaning ``always_inline`` (see setup.py).
Sums are written in lanes, because it is compiled without leave to reorder them: that would read the lines of a row in
any order, and the memory's own prefetching goes by it.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport fabs
from libc.string cimport memset

from fastgd._targets cimport load_run
from fastgd._types cimport MSEKernels, Rows, real

cdef enum:
    LINE = 64               # bytes of the caches
    LANES = 16              # elements that a wide row is gone through by
    LANES_MAX = 128         # floats in FASTGD_GROUPS vectors, at most
    STREAMS = 4             # of narrow rows, where there are several; and rows that are taken together
    PANEL = 8               # of wide rows, at most
    PANEL_BYTES = 1 << 20   # what a panel may take of the L2 cache,
    NEAR_BYTES = 3 << 13    # and of the L1 cache, what rows may take that are not to leave it
    SHORT_ROW = 1 << 10     # bytes, up to which rows from memory update the gradient four at a time,
    FAR_BYTES = 7 << 10     # and from which on they are read side by side on any CPU
    AHEAD = 2048            # bytes before its use that a stream's next data is asked for
    TILE = 256              # rows
    SHORT_TILE = 64         # narrow rows: to load the targets of more interrupts the reading of X for too long
    TILE_MAX = 2048         # rows in a tile of columns, so that what is kept for each row stays in L1,
    RUN = 512               # and of which a column's sum is carried in double
    LONG_RUN = 4096         # rows in a tile that does not fit TILE_BYTES
    FEW = 4                 # columns: fewer vectors to a row than it takes to add up their lanes
    SHORT_RUN = 640         # bytes of a column that are not worth a visit for themselves
    TILE_BYTES = 1 << 22    # what a tile of columns may take of the L2 cache


cdef extern from *:
    """
    static inline void prefetch_line(const void *address) { __builtin_prefetch(address); }
    static inline void prefetch_to_l2(const void *address) { __builtin_prefetch(address, 0, 2); }
    """
    void prefetch_line(const void *address) noexcept nogil
    void prefetch_to_l2(const void *address) noexcept nogil

cdef extern from "rows.h":
    const Py_ssize_t FASTGD_VECTOR      # bytes
    const Py_ssize_t FASTGD_GROUPS      # vectors of a narrow row, at most: then registers hold w and the gradient
    ctypedef struct Fours:
        const void *x
        Py_ssize_t apart
        Py_ssize_t step
        Py_ssize_t tail
        Py_ssize_t ahead
        Py_ssize_t count
        const double *target
        const double *weight
        Py_ssize_t run
        Py_ssize_t turn
        double loss[4]
        double residual[4]
    void sum_fours_f32(Fours *rows, const float *w, float *g_out, int groups, int copies) noexcept nogil
    void sum_fours_f64(Fours *rows, const double *w, double *g_out, int groups, int copies) noexcept nogil
    float wide_dot_f32(const float *x, const float *w, const float *last, Py_ssize_t d) noexcept nogil
    double wide_dot_f64(const double *x, const double *w, const double *last, Py_ssize_t d) noexcept nogil
    void wide_add_f32(const float **x, const float *c, Py_ssize_t d, float *g, int height) noexcept nogil
    void wide_add_f64(const double **x, const double *c, Py_ssize_t d, double *g, int height) noexcept nogil
    float sum_of_16_f32(const float *partial) noexcept nogil
    double sum_of_16_f64(const double *partial) noexcept nogil


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


# ---- the walk over the rows --------------------------------------------------------------------------------------

cdef inline void start_tiles(Tile *tile, double b) noexcept nogil:
    tile.b = b
    tile.factor = 1
    tile.pending = 0
    tile.loss = 0
    tile.residual = 0


cdef inline void follow(
    Tile *tile, Py_ssize_t start, Py_ssize_t count, Py_ssize_t streams, Py_ssize_t unit, Py_ssize_t most
) noexcept nogil:
    """Go on with so many rows from `start` on, in streams of a multiple of `unit` rows, and those left over.

    A tile has `most` rows, TILE at most.
    """
    tile.start = start
    tile.streams = streams
    tile.run = most // streams
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
# and what they collect of the gradient is dropped. A row shorter than a vector is read together with what follows it.

cdef inline Py_ssize_t lanes_of(real like) noexcept nogil:
    return FASTGD_VECTOR // <Py_ssize_t> sizeof(real)


cdef inline Py_ssize_t before_last(Py_ssize_t d, Py_ssize_t lanes) noexcept nogil:
    """The elements before the last group: the largest multiple of `lanes` below d."""
    return (d - 1) // lanes * lanes


cdef inline void spread(const double *w, Py_ssize_t d, real *w_lanes) noexcept nogil:
    """w in lanes."""
    cdef Py_ssize_t lanes = lanes_of(<real> 0), whole = before_last(d, lanes), start = max(d - lanes, <Py_ssize_t> 0), k
    for k in range(whole):
        w_lanes[k] = <real> w[k]
    for k in range(lanes):
        w_lanes[whole + k] = <real> w[start + k] if whole <= start + k < d else 0


cdef inline void collect(const real *g_lanes, Py_ssize_t d, double *out) noexcept nogil:
    """out += the gradient in lanes."""
    cdef Py_ssize_t lanes = lanes_of(<real> 0), whole = before_last(d, lanes), start = max(d - lanes, <Py_ssize_t> 0), k
    for k in range(whole):
        out[k] += g_lanes[k]
    for k in range(whole, d):
        out[k] += g_lanes[whole + k - start]


cdef inline void prefetch_row(const real *x, Py_ssize_t lines) noexcept nogil:
    """Ask for so many cache lines from x on, which need not be memory of X: a prefetch never faults."""
    cdef Py_ssize_t line
    for line in range(lines):
        prefetch_to_l2(<const char *> x + LINE * line)


cdef inline void sum_fours(
    Fours *fours, const real *w_lanes, real *g_lanes, const int groups, const int copies
) noexcept nogil:
    if real is float:
        sum_fours_f32(fours, w_lanes, g_lanes, groups, copies)
    else:
        sum_fours_f64(fours, w_lanes, g_lanes, groups, copies)


cdef inline Py_ssize_t fours_in_place(const Rows *rows, const Tile *tile, real like) noexcept nogil:
    """How many fours of the tile are there whole and can be read where they are."""
    cdef Py_ssize_t in_place = rows_in_place(rows, lanes_of(like))
    if tile.present == 1:
        return max(<Py_ssize_t> 0, min(tile.count, in_place - tile.first)) // STREAMS
    return max(<Py_ssize_t> 0, min(tile.count, in_place - tile.first - (STREAMS - 1) * tile.length))


cdef inline void copy_four(const Rows *rows, const Tile *tile, Py_ssize_t i, Fours *fours, real *buffer) noexcept nogil:
    """The i-th four of the tile alone, copied to the buffer; rows not there are zero and have no weight."""
    cdef Py_ssize_t width = max(rows.d, lanes_of(<real> 0)), apart = tile.length, run = tile.run, count = STREAMS, q
    cdef double *target = <double *> (buffer + STREAMS * width)
    if tile.present == 1:
        apart = run = 1
        i *= STREAMS
        count = min(tile.count - i, <Py_ssize_t> STREAMS)
    memset(buffer, 0, STREAMS * width * sizeof(real))
    for q in range(STREAMS):
        target[q] = target[STREAMS + q] = 0
        if q < count:
            gather(rows, tile.first + q * apart + i, buffer + q * width)
            target[q] = tile.target[q * run + i]
            target[STREAMS + q] = tile.weight[q * run + i]
    fours.x = buffer
    fours.apart = width
    fours.ahead = 0
    fours.count = fours.run = 1
    fours.target = target
    fours.weight = target + STREAMS


cdef inline void sum_rows_narrow(
    const Rows *rows, const double *w, double b, double *sums_out, real *buffer, const int groups, const int copies
) noexcept nogil:
    """`groups`, and `copies` of the gradient, are literals at every call (see rows.h)."""
    cdef Py_ssize_t lanes = lanes_of(<real> 0), i, k, whole, fours_there
    cdef bint in_turn
    cdef real w_lanes[LANES_MAX]
    cdef real g_lanes[LANES_MAX]
    cdef Fours fours
    cdef Tile tile
    start_tiles(&tile, b)
    follow(&tile, 0, rows.n, rows.streams, 1, SHORT_TILE)
    memset(&fours, 0, sizeof(Fours))
    fours.tail = max(rows.d - lanes, <Py_ssize_t> 0)
    spread(w, rows.d, w_lanes)
    for k in range(groups * lanes):
        g_lanes[k] = 0
    while next_tile(rows, &tile):
        in_turn = tile.present == 1
        whole = fours_in_place(rows, &tile, <real> 0)
        fours_there = (tile.count + STREAMS - 1) // STREAMS if in_turn else tile.count
        fours.x = <const real *> rows.X + tile.first * rows.x_row
        fours.apart = rows.x_row if in_turn else tile.length * rows.x_row
        fours.step = (STREAMS if in_turn else 1) * rows.x_row
        fours.ahead = AHEAD // sizeof(real) if rows.streams > 1 else 0
        fours.count = whole
        fours.target = tile.target
        fours.weight = tile.weight
        fours.run = 1 if in_turn else tile.run
        fours.turn = STREAMS if in_turn else 1
        sum_fours(&fours, w_lanes, g_lanes, groups, copies)
        for i in range(whole, fours_there):
            copy_four(rows, &tile, i, &fours, buffer)
            sum_fours(&fours, w_lanes, g_lanes, groups, copies)
        tile.pending += tile.present * tile.count
        if tile.pending >= TILE:
            collect(g_lanes, rows.d, sums_out + 2)
            tile.pending = 0
            for k in range(groups * lanes):
                g_lanes[k] = 0
    collect(g_lanes, rows.d, sums_out + 2)
    for k in range(STREAMS):
        sums_out[0] += fours.loss[k]
        sums_out[1] += fours.residual[k]


cdef void sum_rows_fitting(
    const Rows *rows, const double *w, double b, double *sums_out, real *buffer
) noexcept nogil:
    cdef Py_ssize_t groups = (rows.d - 1) // lanes_of(<real> 0) + 1
    if groups == 1:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 1, 4)
    elif groups == 2:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 2, 2)
    elif groups == 3:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 3, 2)
    elif groups == 4:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 4, 1)
    elif groups == 5:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 5, 1)
    elif groups == 6:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 6, 1)
    elif groups == 7:
        sum_rows_narrow(rows, w, b, sums_out, buffer, 7, 1)
    elif groups <= FASTGD_GROUPS:   # always, but only this the compiler can see
        sum_rows_narrow(rows, w, b, sums_out, buffer, FASTGD_GROUPS, 1)


# ---- wider rows ----------------------------------------------------------------------------------------------------

cdef inline void prefetch_group(const real *x) noexcept nogil:
    """Ask for LANES elements."""
    prefetch_row(x, LANES * <Py_ssize_t> sizeof(real) // LINE)


cdef inline real sum_of_lanes(const real *partial) noexcept nogil:
    if real is float:
        return sum_of_16_f32(partial)
    else:
        return sum_of_16_f64(partial)


cdef inline void spread_last(const real *w, Py_ssize_t d, real *last_out) noexcept nogil:
    """The last LANES of w, zero where they repeat what whole groups before them have."""
    cdef Py_ssize_t whole = before_last(d, LANES), k
    for k in range(LANES):
        last_out[k] = w[d - LANES + k] if d - LANES + k >= whole else 0


cdef inline real dot(const real *x, const real *w, const real *last, Py_ssize_t d) noexcept nogil:
    """x.w, in address order."""
    if real is float:
        return wide_dot_f32(x, w, last, d)
    else:
        return wide_dot_f64(x, w, last, d)


cdef inline void predict(
    const real **x, const real *w, const real *last, Py_ssize_t d, Py_ssize_t ahead, real *out, const int height
) noexcept nogil:
    """out[q] = x[q].w of a panel, its rows side by side.

    Asks for what lies `ahead` elements further on in the first half of its rows.
    """
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
        for k in range(LANES):
            partial[q * LANES + k] += x[q][d - LANES + k] * last[k]
        out[q] = sum_of_lanes(partial + q * LANES)


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


cdef inline void add_rows(const real **x, const real *c, Py_ssize_t d, real *g, const int height) noexcept nogil:
    """The same of rows that were read in turn: they are in the caches, and nothing is asked for."""
    if real is float:
        wide_add_f32(x, c, d, g, height)
    else:
        wide_add_f64(x, c, d, g, height)


cdef inline const real *as_real(const double *w, Py_ssize_t d, real *buffer) noexcept nogil:
    """w in X's precision: where it is, or copied to the buffer."""
    cdef Py_ssize_t k
    if real is double:
        return w
    else:
        for k in range(d):
            buffer[k] = <real> w[k]
        return buffer


cdef inline bint side_by_side(const Rows *rows, real like) noexcept nogil:
    """Whether the rows of a panel are read at the same time, from places far apart."""
    cdef Py_ssize_t row_bytes = rows.d * <Py_ssize_t> sizeof(real)
    return rows.streams > 1 or (row_bytes >= FAR_BYTES and rows.n * row_bytes > PANEL_BYTES)


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


cdef inline void sum_side_by_side(
    const Rows *rows, Tile *tile, const real *w, double *sums_out, bint with_gradient, real *g, real *buffer,
    const int height
) noexcept nogil:
    """The rows that the tile was told to follow, a row of each of `height` streams, a literal at every call."""
    cdef Py_ssize_t d = rows.d, i, q
    cdef Py_ssize_t rows_ahead = max(<Py_ssize_t> 1, AHEAD // (d * <Py_ssize_t> sizeof(real)))
    cdef Py_ssize_t ahead = rows_ahead * rows.x_row if rows.x_col == 1 else 0
    cdef const real *x[PANEL]
    cdef real c[PANEL]
    cdef real last[LANES]
    spread_last(w, d, last)
    while next_tile(rows, tile):
        if tile.pending + tile.present * tile.count > TILE:
            flush(tile, d, sums_out + 2, g)
        tile.pending += tile.present * tile.count
        for i in range(tile.count):
            find_panel(rows, tile, i, buffer, x, height)
            predict(x, w, last, d, ahead, c, height)
            for q in range(tile.present):
                c[q] = <real> (tile.factor * book_residual(tile, q * tile.run + i, c[q]))
            for q in range(tile.present, height):
                c[q] = 0
            if with_gradient:
                add_panel(x, c, d, ahead, g, height)


cdef inline void sum_in_turn(
    const Rows *rows, Tile *tile, const real *w, double *sums_out, bint with_gradient, real *g, real *buffer,
    const int height
) noexcept nogil:
    """The same in the order of the rows, of which `height` update the gradient together."""
    cdef Py_ssize_t d = rows.d, i, q, k
    cdef const real *x[PANEL]
    cdef real c[PANEL]
    cdef real last[LANES]
    spread_last(w, d, last)
    while next_tile(rows, tile):
        if tile.pending + tile.count > TILE:
            flush(tile, d, sums_out + 2, g)
        tile.pending += tile.count
        i = 0
        while i < tile.count:
            for q in range(height):
                k = tile.first + i + q
                x[q] = <const real *> rows.X + k * rows.x_row if rows.x_col == 1 else gather(rows, k, buffer + q * d)
                c[q] = <real> (tile.factor * book_residual(tile, i + q, dot(x[q], w, last, d)))
            if with_gradient:
                add_rows(x, c, d, g, height)
            i += height


cdef inline Py_ssize_t panel_height(const Rows *rows, real like) noexcept nogil:
    """Rows in a panel.

    As many as PANEL_BYTES hold. But rows read in turn are best met by the gradient before they leave the nearest
    cache; of those that come from memory, long ones one by one, so that the memory is never idle.
    """
    cdef Py_ssize_t row_bytes = rows.d * <Py_ssize_t> sizeof(real), fitting = PANEL_BYTES // row_bytes, near
    if not side_by_side(rows, like):
        near = NEAR_BYTES // row_bytes - 2      # beside w and the gradient
        if rows.n * row_bytes > PANEL_BYTES:
            near = 4 if row_bytes <= SHORT_ROW else 1
        if near >= 1:
            fitting = near
    return 8 if fitting >= 8 else 4 if fitting >= 4 else 1


cdef inline Py_ssize_t follow_panels(
    const Rows *rows, Tile *tile, Py_ssize_t start, Py_ssize_t height, bint apart
) noexcept nogil:
    """Go on with as many rows from `start` on as make whole panels; returns where they end."""
    cdef Py_ssize_t count = (rows.n - start) // height * height
    follow(tile, start, count, height if apart else 1, 1, TILE)
    return start + count


cdef inline void sum_all_panels(
    const Rows *rows, Tile *tile, const real *w, double *sums_out, bint with_gradient, real *g, real *buffer
) noexcept nogil:
    """The highest panels that the caches hold, lower ones for the rows left over."""
    cdef Py_ssize_t highest = panel_height(rows, <real> 0), done = 0
    cdef bint apart = side_by_side(rows, <real> 0)
    if highest == 8:
        done = follow_panels(rows, tile, 0, 8, apart)
        if apart:
            sum_side_by_side(rows, tile, w, sums_out, with_gradient, g, buffer, 8)
        else:
            sum_in_turn(rows, tile, w, sums_out, with_gradient, g, buffer, 8)
    if highest >= 4:
        done = follow_panels(rows, tile, done, 4, apart)
        if apart:
            sum_side_by_side(rows, tile, w, sums_out, with_gradient, g, buffer, 4)
        else:
            sum_in_turn(rows, tile, w, sums_out, with_gradient, g, buffer, 4)
    if apart:
        follow(tile, done, rows.n - done, 2, 1, TILE)
        sum_side_by_side(rows, tile, w, sums_out, with_gradient, g, buffer, 2)
    else:
        follow(tile, done, rows.n - done, 1, 1, TILE)
        sum_in_turn(rows, tile, w, sums_out, with_gradient, g, buffer, 1)
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
    cdef int beyond = 0         # counted so that the loop vectorises
    cdef Py_ssize_t j
    cdef Tile tile
    start_tiles(&tile, b)
    tile.factor = factor
    memset(g_out, 0, rows.d * sizeof(real))
    sum_all_panels(rows, &tile, w, sums_out, True, g_out, <real *> NULL)
    for j in range(rows.d):
        beyond |= not fabs(g_out[j]) <= limit
    return beyond == 0


# ---- columns -------------------------------------------------------------------------------------------------------

cdef struct ColumnTile:
    # What is kept for each row of a tile; predictions and factors in X's precision.
    double *target
    double *weight
    void *prediction
    void *factor
    bint with_gradient


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


cdef inline void ask(const real *next, Py_ssize_t x_col, Py_ssize_t i, const int asks) noexcept nogil:
    """Ask for elements i to i + LANES of so many columns from `next` on."""
    cdef Py_ssize_t q
    for q in range(asks):
        prefetch_to_l2(next + q * x_col + i)
        if real is double:
            prefetch_to_l2(next + q * x_col + i + LANES // 2)


cdef inline void predict_group(
    const real *x, Py_ssize_t x_col, Py_ssize_t count, const double *w, const real *next, real *out,
    const int columns, const int asks
) noexcept nogil:
    """out[i] += x_i.w of 1, 4 or 8 columns; asks for the same rows of columns from `next` on. Both are literals."""
    cdef const real *x4 = x + 4 * x_col
    cdef real u[8]
    cdef real block[LANES]      # out may not be where x is, but only this the compiler can see
    cdef Py_ssize_t i = 0, q, k
    for q in range(columns):
        u[q] = <real> w[q]
    while i + LANES <= count:
        ask(next, x_col, i, asks)
        for k in range(LANES):
            block[k] = out[i + k] + u[0] * x[i + k]
            if columns >= 4:
                block[k] += u[1] * x[x_col + i + k] + u[2] * x[2 * x_col + i + k] + u[3] * x[3 * x_col + i + k]
            if columns == 8:
                block[k] += (
                    u[4] * x4[i + k] + u[5] * x4[x_col + i + k] + u[6] * x4[2 * x_col + i + k]
                    + u[7] * x4[3 * x_col + i + k]
                )
        for k in range(LANES):
            out[i + k] = block[k]
        i += LANES
    while i < count:
        for q in range(columns):
            out[i] += u[q] * x[q * x_col + i]
        i += 1


cdef inline Py_ssize_t predict_columns(
    const real *x, Py_ssize_t x_col, Py_ssize_t count, Py_ssize_t d, const double *w, real *out, const bint asks
) noexcept nogil:
    """out[i] = x_i.w, up to eight columns at a time.

    If it `asks`, a literal, then for the next rows of half the columns; `add_columns` for those of the other half, from
    the column on that this returns. A column of a tile is too short for the memory's own prefetching, and the memory
    must not be idle while the gradient reads the tile again from the caches.
    """
    cdef Py_ssize_t j = 0, asked = 0
    memset(out, 0, count * sizeof(real))
    while j < d:
        if j + 8 <= d:
            predict_group(x + j * x_col, x_col, count, w + j, x + count + asked * x_col, out, 8, 4 * asks)
            j += 8
            asked += 4
        elif j + 4 <= d:
            predict_group(x + j * x_col, x_col, count, w + j, x + count + asked * x_col, out, 4, 2 * asks)
            j += 4
            asked += 2
        else:
            predict_group(x + j * x_col, x_col, count, w + j, x + count + asked * x_col, out, 1, asks)
            j += 1
            asked += 1
    return asked


cdef inline void book_residuals(
    const double *target, const double *weight, const real *prediction, Py_ssize_t count, double *sums_out,
    real *factor_out
) noexcept nogil:
    """`book_residual` for all rows of a tile."""
    cdef Py_ssize_t whole = count // LANES * LANES, i = 0, k
    cdef double loss[LANES]
    cdef double residual[LANES]
    cdef double r, c
    if whole:
        for k in range(LANES):
            loss[k] = residual[k] = 0
        while i < whole:
            for k in range(LANES):
                r = prediction[i + k] - target[i + k]
                c = weight[i + k] * r
                loss[k] += c * r
                residual[k] += c
                factor_out[i + k] = <real> c
            i += LANES
        sums_out[0] += sum_of_16_f64(loss)
        sums_out[1] += sum_of_16_f64(residual)
    for i in range(whole, count):
        r = prediction[i] - target[i]
        c = weight[i] * r
        sums_out[0] += c * r
        sums_out[1] += c
        factor_out[i] = <real> c


cdef inline void add_dots(
    const real *x, Py_ssize_t x_col, const real *c, Py_ssize_t count, const real *next, double *out,
    const int columns, const int asks
) noexcept nogil:
    """out[q] += x_q.c of 1 or 4 columns, in lanes; asks as `predict_group` does."""
    cdef const real *x1 = x + x_col
    cdef const real *x2 = x1 + x_col
    cdef const real *x3 = x2 + x_col
    cdef real partial[4 * LANES]
    cdef real rest
    cdef Py_ssize_t whole = count // LANES * LANES, i = 0, k, q
    if whole:
        for k in range(columns * LANES):
            partial[k] = 0
        while i < whole:
            ask(next, x_col, i, asks)
            for k in range(LANES):
                partial[k] += c[i + k] * x[i + k]
                if columns == 4:
                    partial[LANES + k] += c[i + k] * x1[i + k]
                    partial[2 * LANES + k] += c[i + k] * x2[i + k]
                    partial[3 * LANES + k] += c[i + k] * x3[i + k]
            i += LANES
        for q in range(columns):
            out[q] += sum_of_lanes(partial + q * LANES)
    if whole < count:
        for q in range(columns):
            rest = 0
            for i in range(whole, count):
                rest += c[i] * x[q * x_col + i]
            out[q] += rest


cdef inline void add_columns(
    const real *x, Py_ssize_t x_col, Py_ssize_t count, Py_ssize_t d, const real *c, double *out, Py_ssize_t asked,
    const bint asks
) noexcept nogil:
    """out[j] += sum_i c_i x_ij, four columns at a time, carried in double from run to run of RUN rows.

    If it `asks`, then for the next rows from column `asked` on.
    """
    cdef Py_ssize_t start, length, j = 0
    cdef const real *next
    while j < d:
        start = 0
        next = x + count + min(asked, d - 1) * x_col
        while start < count:
            length = min(count - start, <Py_ssize_t> RUN)
            if j + 4 <= d:
                add_dots(x + j * x_col + start, x_col, c + start, length, next + start, out + j, 4, 2 * asks)
            else:
                add_dots(x + j * x_col + start, x_col, c + start, length, next + start, out + j, 1, asks)
            start += length
        asked += 2 if j + 4 <= d else 1
        j += 4 if j + 4 <= d else 1


cdef inline void sum_tile_of_columns(
    const real *x, Py_ssize_t x_col, Py_ssize_t count, Py_ssize_t d, const double *w, const ColumnTile *tile,
    double *sums_out, const bint asks
) noexcept nogil:
    """A tile whose targets are loaded."""
    cdef real *prediction = <real *> tile.prediction
    cdef real *factor = <real *> tile.factor
    cdef Py_ssize_t asked = predict_columns(x, x_col, count, d, w, prediction, asks)
    book_residuals(tile.target, tile.weight, prediction, count, sums_out, factor)
    if tile.with_gradient:
        add_columns(x, x_col, count, d, factor, sums_out + 2, asked, asks)


cdef void sum_columns(
    const Rows *rows, const double *w, double b, double *sums_out, bint with_gradient, real *scratch
) noexcept nogil:
    cdef Py_ssize_t height = tile_rows(rows, sizeof(real)), start = 0, count
    cdef Py_ssize_t apart = height + LANES     # so that columns of a copy do not share the same few lines of L1
    cdef ColumnTile tile
    cdef real *copy
    tile.target = <double *> scratch
    tile.weight = tile.target + height
    tile.prediction = tile.weight + height
    tile.factor = <real *> tile.prediction + height
    tile.with_gradient = with_gradient
    copy = <real *> tile.factor + height
    while start < rows.n:
        count = min(height, rows.n - start)
        load_run(&rows.targets, b, start, count, tile.target, tile.weight)
        if rows.x_row != 1:
            copy_columns(rows, start, count, apart, copy)
            sum_tile_of_columns(copy, apart, count, rows.d, w, &tile, sums_out, False)
        elif rows.d == 1:
            sum_tile_of_columns(<const real *> rows.X + start, rows.x_col, count, 1, w, &tile, sums_out, False)
        else:
            sum_tile_of_columns(<const real *> rows.X + start, rows.x_col, count, rows.d, w, &tile, sums_out, True)
        start += count


# ---- the kernels of the table --------------------------------------------------------------------------------------

cdef inline bint fits_registers(const Rows *rows, Py_ssize_t itemsize) noexcept nogil:
    return rows.d * itemsize <= FASTGD_GROUPS * FASTGD_VECTOR


cdef Py_ssize_t scratch_reals(const Rows *rows) noexcept nogil:
    """Elements of scratch, 8 bytes each, that the kernels need for these rows, whatever the precision."""
    cdef Py_ssize_t height = max(tile_rows(rows, sizeof(float)), tile_rows(rows, sizeof(double)))
    if by_columns(rows):
        return 4 * height + (0 if rows.x_row == 1 else (height + LANES) * rows.d)
    return max((PANEL + 2) * rows.d, STREAMS * <Py_ssize_t> LANES + 2 * STREAMS)


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
    cdef int beyond = 0         # counted so that the loop vectorises
    cdef Py_ssize_t j
    for j in range(size):
        values[j] *= factor
        beyond |= not fabs(values[j]) <= limit
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
