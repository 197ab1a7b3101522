"""Stochastic gradient descent on mean squared error: runs of updates, each from a batch of rows, dense or sparse.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. With r_i = x_i.w + b - y_i at the
parameters before it, update t takes the next batch B of rows in the order and does

    w <- max(0, 1 - rate_t l2) w - (rate_t / |B|) sum_i s_i r_i x_i
    b <- b - intercept_step (rate_t / |B|) sum_i s_i r_i

and then moves each w_j towards zero, but not beyond, by all the rate_t l1 since it was moved last: every w_j if the
rows are dense, those that B has entries for if they are sparse (the cumulative penalty of Tsuruoka, Tsujii and
Ananiadou, 2009). The textbook's factor 2 and a schedule of steps are in the rates. Everything is double, whatever X
is, and

    sums[0] += sum_i s_i r_i^2        sums[1] += sum_i r_i^2        sums[2] += sum_i s_i

over the rows as they come, so that watching the loss costs nothing.

===================================  ====================================================================
a row an update, dense, without l1   panels of rows, each of them read once for as short a chain of operations
                                     from one panel's w to the next as can be (`look_ahead`)
a row an update                      `row_by_row`
more                                 passes over each batch that find its residuals, add its rows, and truncate
                                     (`pass_over`)
===================================  ====================================================================

Shrinking and averaging concern all parameters, but rows have few entries: w is kept apart from its scale, and of the
average only what w does not tell (SGDState in fastgd/_types.pxd; Bottou, Stochastic gradient descent tricks, 2012,
sections 5.1 and 5.3).

A kernel goes on from where the run is and returns after about as many visits to rows as it was told, so that Ctrl-C
is heard between calls, in the midst of a large batch too.

Panels are written on vectors of the C compiler's, which Cython takes for doubles (`lanes`), because their products,
the sums of their lanes and the order of both decide the time.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from fastgd._access cimport row_at, sparse_start
from fastgd._panels cimport (
    all_lanes, any_rows, ask_for_panel, collect, find_rows, index, LANES, lanes, lay_out, Layout, LINES, load,
    PANEL, prefetch_row, prefetch_target, rows_ahead, spread, sums_of_lanes,
)
from fastgd._targets cimport target_at, weight_at
from fastgd._types cimport Rows, SGDKernels, SGDRun, SGDState, SparseRows, Targets, real

cdef enum:
    GROUPS = 3              # of lanes that a row has at most for w to stay in registers
    TILE = 256              # rows whose targets and factors are fetched together
    TWICE_LEAST = 256       # bytes of a row that is asked for twice,
    TWICE_FROM = 1 << 25    # and of all rows

cdef double FLOOR = 1e-3    # a scale below this is multiplied into w, before the average loses more digits to it
cdef double ITS_FLOOR = 1e-9    # the same of scikit-learn, whose averages of truncated parameters depend on it


# ---- the state -----------------------------------------------------------------------------------------------------

cdef void fold(SGDState *state, Py_ssize_t d) noexcept nogil:
    """Multiply the scale into w and add to the total what it does not have of w."""
    cdef Py_ssize_t j
    if state.scale == 1:
        return
    if state.total != NULL:
        for j in range(d):
            state.total[j] += state.total_scale * state.w[j]
        state.total_scale = 0
    for j in range(d):
        state.w[j] *= state.scale
    state.scale = 1


cdef inline double rate_of(const SGDRun *run, Py_ssize_t update) noexcept nogil:
    return run.rates[update * run.rate_step]


cdef inline double left_by_l2(const SGDRun *run, double rate) noexcept nogil:
    """The factor by which an update shrinks the parameters."""
    return max(0.0, 1.0 - rate * run.l2)


cdef inline double floor_of(const SGDRun *run) noexcept nogil:
    return ITS_FLOOR if run.as_always else FLOOR


cdef inline void shrink(const SGDRun *run, SGDState *state, double rate, Py_ssize_t d) noexcept nogil:
    state.scale *= left_by_l2(run, rate)
    if state.scale < floor_of(run):
        fold(state, d)


cdef inline void average(const SGDRun *run, SGDState *state) noexcept nogil:
    """Add the parameters to the average."""
    if run.averages:
        state.total_scale += state.scale
        state.intercept_total += state.intercept
        state.n_averaged += 1


cdef inline double truncated(double w, double due, double *taken) noexcept nogil:
    """w, moved towards zero by what is due less what was taken from it; without a branch, and NaN stays NaN."""
    cdef double sign = <double> (w > 0) - <double> (w < 0), left = sign * w - (due + sign * taken[0])
    cdef double moved = sign * (0.0 if left < 0 else left)
    taken[0] += moved - w
    return moved


# ---- rows ----------------------------------------------------------------------------------------------------------

cdef inline double sparse_dot(const real *x, const index *columns, Py_ssize_t size, const double *w) noexcept nogil:
    """In four chains of sums, because one would wait for itself."""
    cdef double p0 = 0, p1 = 0, p2 = 0, p3 = 0
    cdef Py_ssize_t k = 0
    while k + 4 <= size:
        p0 += w[columns[k]] * x[k]
        p1 += w[columns[k + 1]] * x[k + 1]
        p2 += w[columns[k + 2]] * x[k + 2]
        p3 += w[columns[k + 3]] * x[k + 3]
        k += 4
    while k < size:
        p0 += w[columns[k]] * x[k]
        k += 1
    return (p0 + p1) + (p2 + p3)


cdef inline double dense_dot(const real *x, const double *w, Py_ssize_t d) noexcept nogil:
    """In as many chains of lanes."""
    cdef lanes p0 = all_lanes(0.0), p1 = p0, p2 = p0, p3 = p0
    cdef double product = 0
    cdef double sums[LANES]
    cdef Py_ssize_t j = 0, k
    while j + 4 * LANES <= d:
        p0 += load(w + j) * load(x + j)
        p1 += load(w + j + LANES) * load(x + j + LANES)
        p2 += load(w + j + 2 * LANES) * load(x + j + 2 * LANES)
        p3 += load(w + j + 3 * LANES) * load(x + j + 3 * LANES)
        j += 4 * LANES
    while j + LANES <= d:
        p0 += load(w + j) * load(x + j)
        j += LANES
    (<lanes *> sums)[0] = sums_of_lanes(p0, p1, p2, p3)
    for k in range(j, d):
        product += w[k] * x[k]
    return product + (sums[0] + sums[1]) + (sums[2] + sums[3])


cdef inline void sparse_add(
    const real *x, const index *columns, Py_ssize_t size, double c, double *out
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(size):
        out[columns[k]] += c * x[k]


cdef inline double predict(const any_rows *rows, Py_ssize_t i, const double *w, real *buffer) noexcept nogil:
    """x_i.w"""
    cdef const real *x
    cdef Py_ssize_t start, size
    if any_rows is Rows:
        return dense_dot(row_at(rows, i, buffer), w, rows.d)
    else:
        start = sparse_start(rows, i)
        size = sparse_start(rows, i + 1) - start
        x = <const real *> rows.data + start
        if rows.is_long:
            return sparse_dot(x, <const int64_t *> rows.indices + start, size, w)
        return sparse_dot(x, <const int32_t *> rows.indices + start, size, w)


cdef inline void add(const any_rows *rows, Py_ssize_t i, double c, double *out, real *buffer) noexcept nogil:
    """out += c x_i"""
    cdef const real *x
    cdef Py_ssize_t start, size, j
    if any_rows is Rows:
        x = row_at(rows, i, buffer)
        for j in range(rows.d):
            out[j] += c * x[j]
    else:
        start = sparse_start(rows, i)
        size = sparse_start(rows, i + 1) - start
        x = <const real *> rows.data + start
        if rows.is_long:
            sparse_add(x, <const int64_t *> rows.indices + start, size, c, out)
        else:
            sparse_add(x, <const int32_t *> rows.indices + start, size, c, out)


cdef inline void sparse_truncate(
    const index *columns, Py_ssize_t size, SGDState *state, double averaged
) noexcept nogil:
    """Truncate the parameters of these columns, of which `averaged` is in the average."""
    cdef double *w = state.w
    cdef double *taken = state.taken
    cdef double due = state.due, scale = state.scale, inverse = 1.0 / scale, moved
    cdef Py_ssize_t k, j
    for k in range(size):
        j = columns[k]
        moved = truncated(scale * w[j], due, taken + j) * inverse
        if averaged != 0:
            state.total[j] += averaged * (w[j] - moved)
        w[j] = moved


cdef void dense_truncate(SGDState *state, Py_ssize_t d, double averaged) noexcept nogil:
    """The same for all columns."""
    cdef double *w = state.w
    cdef double *taken = state.taken
    cdef double *total = state.total
    cdef double due = state.due, scale = state.scale, inverse = 1.0 / scale, moved
    cdef Py_ssize_t j
    if averaged == 0:
        for j in range(d):
            w[j] = truncated(scale * w[j], due, taken + j) * inverse
    else:
        for j in range(d):
            moved = truncated(scale * w[j], due, taken + j) * inverse
            total[j] += averaged * (w[j] - moved)
            w[j] = moved


cdef inline void truncate(const any_rows *rows, Py_ssize_t i, const SGDRun *run, SGDState *state) noexcept nogil:
    """Truncate the parameters that row i has entries for."""
    cdef double averaged = state.total_scale if run.averages and not run.as_always else 0.0
    cdef Py_ssize_t start, size
    if any_rows is Rows:
        dense_truncate(state, rows.d, averaged)
    else:
        start = sparse_start(rows, i)
        size = sparse_start(rows, i + 1) - start
        if rows.is_long:
            sparse_truncate(<const int64_t *> rows.indices + start, size, state, averaged)
        else:
            sparse_truncate(<const int32_t *> rows.indices + start, size, state, averaged)


cdef inline double residual(
    const any_rows *rows, Py_ssize_t i, const SGDState *state, double *sums_out, real *buffer
) noexcept nogil:
    """s_i r_i, counted."""
    cdef double s = weight_at(&rows.targets, i)
    cdef double r = state.scale * predict(rows, i, state.w, buffer) + (state.intercept - target_at(&rows.targets, i))
    sums_out[0] += s * r * r
    sums_out[1] += r * r
    sums_out[2] += s
    return s * r


cdef inline void move(
    const any_rows *rows, Py_ssize_t i, double c, const SGDRun *run, SGDState *state, real *buffer
) noexcept nogil:
    """w -= c x_i, of which the average takes back what it has."""
    add(rows, i, -c, state.w, buffer)
    if run.averages:
        add(rows, i, state.total_scale * c, state.total, buffer)


cdef inline void ask_for(const any_rows *rows, const SGDRun *run, Py_ssize_t at, real *unused) noexcept nogil:
    """Prefetch the row at this place of the order, if there is one."""
    if at < run.count:
        prefetch_row(rows, run.order[at], unused)


# ---- a row an update -----------------------------------------------------------------------------------------------

cdef inline void row_by_row(
    const any_rows *rows, SGDRun *run, SGDState *state, Py_ssize_t stop, double *sums_out, real *buffer,
    const bint plain
) noexcept nogil:
    """`plain` is a literal: neither penalties nor averages."""
    cdef Py_ssize_t ahead = rows_ahead(rows, buffer), i
    cdef double rate, c
    while run.at < stop:
        ask_for(rows, run, run.at + ahead, buffer)
        i = run.order[run.at]
        rate = rate_of(run, run.at)
        c = rate * residual(rows, i, state, sums_out, buffer)
        state.intercept -= run.intercept_step * c
        if plain:
            add(rows, i, -c, state.w, buffer)
        else:
            shrink(run, state, rate, rows.d)
            move(rows, i, c / state.scale, run, state, buffer)
            if run.l1 > 0:
                state.due += rate * run.l1
                truncate(rows, i, run, state)
            average(run, state)
        run.at += 1


# ---- passes over a batch -------------------------------------------------------------------------------------------

cdef enum:
    PREDICT     # the passes: this one finds the factors of the rows,
    ADD         # this one adds the rows to w,
    TRUNCATE    # and this one, with l1 and sparse rows, truncates what they have entries for


cdef inline Py_ssize_t next_stage(
    const any_rows *rows, const SGDRun *run, SGDState *state, Py_ssize_t size, double rate, double *factors
) noexcept nogil:
    """What is done once between the passes over a batch of this size; returns the next one."""
    cdef double total = 0, inverse
    cdef Py_ssize_t k
    if run.stage == PREDICT:
        for k in range(size):
            total += factors[k]
        state.intercept -= run.intercept_step * total
        shrink(run, state, rate, rows.d)
        inverse = 1.0 / state.scale
        for k in range(size):
            factors[k] *= inverse
        return ADD
    if run.stage == ADD and run.l1 > 0:
        state.due += rate * run.l1
        if any_rows is SparseRows:
            return TRUNCATE
        else:
            truncate(rows, 0, run, state)
    average(run, state)
    return PREDICT


cdef Py_ssize_t pass_over(
    const any_rows *rows, SGDRun *run, SGDState *state, Py_ssize_t visits, double *sums_out, real *scratch
) noexcept nogil:
    """Go on with a pass for so many rows at most; returns how many."""
    cdef double *factors = <double *> scratch           # of the rows of a batch
    cdef real *buffer = <real *> (factors + run.batch)
    cdef Py_ssize_t ahead = rows_ahead(rows, buffer), update = run.at // run.batch, first = update * run.batch
    cdef Py_ssize_t last = min(first + run.batch, run.count), stop = min(run.at + visits, last), begin = run.at, k
    cdef double rate = rate_of(run, update), share = rate / (last - first)
    if run.stage == PREDICT:
        for k in range(begin, stop):
            ask_for(rows, run, k + ahead, buffer)
            factors[k - first] = share * residual(rows, run.order[k], state, sums_out, buffer)
    elif run.stage == ADD:
        for k in range(begin, stop):
            ask_for(rows, run, k + ahead, buffer)
            move(rows, run.order[k], factors[k - first], run, state, buffer)
    else:
        for k in range(begin, stop):
            truncate(rows, run.order[k], run, state)
    run.at = stop
    if stop == last:
        run.stage = next_stage(rows, run, state, last - first, rate, factors)
        if run.stage != PREDICT:
            run.at = first
    return stop - begin


# ---- panels of dense rows ------------------------------------------------------------------------------------------
#
# To take one row after the other is a chain: a product with w, whose lanes are summed, a residual, an update of w, and
# only then the next product. Look ahead instead: the products of PANEL rows with the present w and with one another
# wait for nothing, and from them the residuals follow without w. With rows 0, 1, ... of the panel, the steps
# c_i = rate_i s_i r_i and the intercept's step κ,
#
#     r_q = x_q.w + b - y_q - sum_{i<q} c_i (x_q.x_i + κ)
#
# and one update by all rows ends the panel. If w also shrinks, w = scale_q v before row q, and v moves by
# c_i / scale_{i+1} x_i:
#
#     r_q = scale_q x_q.v + b - y_q - sum_{i<q} c_i (scale_q / scale_{i+1} x_q.x_i + κ)
#
# Rows further on are asked for after a panel's own were read, which would else wait behind them, and while the sums of
# its lanes and its residuals wait for one another. Memory has more of them asked for at once than L2 takes note of, and
# the rest is dropped: half way, long rows are asked for again, which costs little for what is there by then.

ctypedef struct Tile:
    # Of up to TILE rows of the order.
    Py_ssize_t size
    double target[TILE]
    double weight[TILE]
    double rate[TILE]
    double factor[TILE]     # rate times weight
    double residual[TILE]   # as far as they are known


cdef void pick(
    const void *source, bint is_float, Py_ssize_t step, const Py_ssize_t *order, Py_ssize_t size, double *out
) noexcept nogil:
    """out[k] = source[order[k] * step]"""
    cdef Py_ssize_t k
    if is_float:
        for k in range(size):
            out[k] = (<const float *> source)[order[k] * step]
    else:
        for k in range(size):
            out[k] = (<const double *> source)[order[k] * step]


cdef void fetch(const Targets *targets, const SGDRun *run, Py_ssize_t stop, Tile *tile) noexcept nogil:
    """Fill the tile from where the run is."""
    cdef const Py_ssize_t *order = run.order + run.at
    cdef Py_ssize_t size = min(<Py_ssize_t> TILE, stop - run.at), k
    tile.size = size
    for k in range(size):
        tile.target[k] = 0
        tile.weight[k] = 1
        tile.rate[k] = rate_of(run, run.at + k)
    if targets.y != NULL:
        pick(targets.y, targets.y_is_float, targets.y_step, order, size, tile.target)
    if targets.s != NULL:
        pick(targets.s, targets.s_is_float, targets.s_step, order, size, tile.weight)
    for k in range(size):
        tile.factor[k] = tile.rate[k] * tile.weight[k]


cdef void count(Tile *tile, Py_ssize_t size, double *sums_out) noexcept nogil:
    """Add what the first rows of the tile contribute to the sums."""
    cdef lanes loss = all_lanes(0.0), squares = loss, weight = loss, r, s
    cdef double sums[LANES]
    cdef Py_ssize_t k
    for k in range(size, TILE):
        tile.weight[k] = tile.residual[k] = 0
    for k in range(TILE // LANES):
        r = (<const lanes *> tile.residual)[k]
        s = (<const lanes *> tile.weight)[k]
        loss += s * r * r
        squares += r * r
        weight += s
    (<lanes *> sums)[0] = sums_of_lanes(loss, squares, weight, weight)
    for k in range(3):
        sums_out[k] += sums[k]


cdef inline void multiply_group(
    const real **x, Py_ssize_t j, lanes w, const lanes *mask, lanes *sums, const bint is_last
) noexcept nogil:
    """Add the products of a group of columns, of which j is the first, to the sums; of the last only what is new."""
    cdef lanes x0 = load(x[0] + j), x1 = load(x[1] + j), x2 = load(x[2] + j), x3 = load(x[3] + j)
    sums[0] += w * x0
    sums[1] += w * x1
    sums[2] += w * x2
    sums[3] += w * x3
    if is_last:
        x0 *= mask[0]
        x1 *= mask[0]
        x2 *= mask[0]
    sums[4] += x1 * x0
    sums[5] += x2 * x0
    sums[6] += x2 * x1
    sums[7] += x3 * x0
    sums[8] += x3 * x1
    sums[9] += x3 * x2


cdef inline void multiply(
    const real **x, const lanes *w, const Layout *layout, double *products_out, const int groups
) noexcept nogil:
    """x_q.w for each q and then, row by row, x_q.x_i for i < q."""
    cdef Py_ssize_t last = (groups if groups else layout.groups) - 1, k
    cdef lanes sums[10]
    for k in range(10):
        sums[k] = all_lanes(0.0)
    for k in range(last):
        multiply_group(x, LANES * k, w[k], NULL, sums, False)
    multiply_group(x, layout.tail, w[last], <const lanes *> layout.mask, sums, True)
    (<lanes *> products_out)[0] = sums_of_lanes(sums[0], sums[1], sums[2], sums[3])
    (<lanes *> (products_out + 4))[0] = sums_of_lanes(sums[4], sums[5], sums[6], sums[7])
    (<lanes *> (products_out + 8))[0] = sums_of_lanes(sums[8], sums[9], sums[8], sums[9])


cdef inline void add_panel(
    const real **x, const double *c, const Layout *layout, lanes *out, const int groups
) noexcept nogil:
    """out -= sum_q c[q] x_q"""
    cdef lanes c0 = all_lanes(c[0]), c1 = all_lanes(c[1]), c2 = all_lanes(c[2]), c3 = all_lanes(c[3])
    cdef lanes mask = (<const lanes *> layout.mask)[0], v
    cdef Py_ssize_t last = (groups if groups else layout.groups) - 1, k, j
    for k in range(last):
        j = LANES * k
        v = out[k] - c0 * load(x[0] + j)
        v -= c1 * load(x[1] + j)
        v -= c2 * load(x[2] + j)
        out[k] = v - c3 * load(x[3] + j)
    j = layout.tail
    v = out[last] - (mask * c0) * load(x[0] + j)
    v -= (mask * c1) * load(x[1] + j)
    v -= (mask * c2) * load(x[2] + j)
    out[last] = v - (mask * c3) * load(x[3] + j)


cdef inline void ask_for_targets(const Rows *rows, const SGDRun *run, Py_ssize_t at) noexcept nogil:
    """Prefetch those of the panel at this place of the order, if there is one."""
    cdef Py_ssize_t q
    if at + PANEL <= run.count:
        for q in range(PANEL):
            prefetch_target(&rows.targets, run.order[at + q])


cdef inline Py_ssize_t rows_ahead_again(const Rows *rows, Py_ssize_t ahead, real *unused) noexcept nogil:
    """How many rows before its use a row is asked for a second time; 0: not at all."""
    cdef Py_ssize_t size = rows.d * sizeof(real)
    if TWICE_LEAST <= size <= 64 * LINES and rows.n * size >= TWICE_FROM:
        return ahead // 2
    return 0


cdef inline void solve(
    const double *products, const double *scale, Tile *tile, Py_ssize_t at, const SGDRun *run, SGDState *state,
    double *c_out, const bint plain
) noexcept nogil:
    """Find the residuals of a panel and the factors of its rows in the update of w, then in that of the average."""
    cdef double r[PANEL]
    cdef double f[PANEL]                # r[q] times this is the step
    cdef double b = state.intercept, step, t
    cdef Py_ssize_t q, i
    for q in range(PANEL):
        f[q] = tile.factor[at + q]
        r[q] = (products[q] if plain else scale[q] * products[q]) + (b - tile.target[at + q])
        for i in range(q):
            t = products[PANEL + q * (q - 1) // 2 + i]
            if not plain:
                t *= scale[q] / scale[i + 1]
            r[q] -= r[i] * (f[i] * (t + run.intercept_step))
    for q in range(PANEL):
        tile.residual[at + q] = r[q]
        step = f[q] * r[q]
        b -= run.intercept_step * step
        c_out[q] = step if plain else step / scale[q + 1]
        if not plain and run.averages:
            c_out[PANEL + q] = -c_out[q] * state.total_scale
            state.total_scale += scale[q + 1]
            state.intercept_total += b
    state.intercept = b


cdef inline void look_ahead(
    const Rows *rows, SGDRun *run, SGDState *state, Py_ssize_t stop, double *sums_out, real *scratch,
    const int groups, const bint plain
) noexcept nogil:
    """Panels until fewer rows than one are left, or the scale is to be folded before the next.

    `groups` and `plain` are literals: how many groups of LANES a row has, so that w stays in registers, or 0 for any
    row; and that there is no scale and no average.
    """
    cdef Layout layout = lay_out(rows)
    cdef Py_ssize_t width = LANES * layout.groups, ahead = rows_ahead(rows, scratch)
    cdef Py_ssize_t again = rows_ahead_again(rows, ahead, scratch)
    cdef lanes registers[GROUPS]
    cdef double *spread_w = <double *> scratch
    cdef double *spread_total = spread_w + width
    cdef real *buffer = <real *> (spread_total + width)
    cdef lanes *w = <lanes *> spread_w
    cdef const real *x[PANEL]
    cdef double products[8 + LANES]
    cdef double c[2 * PANEL]            # the factors of the rows, then those in the average
    cdef double scale[PANEL + 1]        # before each row, and after the last
    cdef const Py_ssize_t *order
    cdef Py_ssize_t at, q
    cdef Tile tile
    memset(c, 0, sizeof(c))
    if not layout.in_place:
        memset(buffer, 0, PANEL * width * sizeof(real))
    spread(state.w, &layout, spread_w)
    if groups:
        w = registers
        for q in range(groups):
            registers[q] = (<lanes *> spread_w)[q]
    if not plain and run.averages:
        spread(state.total, &layout, spread_total)
    while run.at + PANEL <= stop:
        fetch(&rows.targets, run, stop, &tile)
        order = run.order + run.at
        at = 0
        while at + PANEL <= tile.size:
            if not plain:
                scale[0] = state.scale
                for q in range(PANEL):
                    scale[q + 1] = scale[q] * left_by_l2(run, tile.rate[at + q])
                if scale[PANEL] < floor_of(run):
                    stop = 0
                    break
            find_rows(rows, order + at, &layout, buffer, x)
            ask_for_targets(rows, run, run.at + at + TILE)
            multiply(x, w, &layout, products, groups)
            ask_for_panel(rows, order + min(at + ahead, run.count - run.at - PANEL), buffer)
            if again:
                ask_for_panel(rows, order + min(at + again, run.count - run.at - PANEL), buffer)
            solve(products, scale, &tile, at, run, state, c, plain)
            add_panel(x, c, &layout, w, groups)
            if not plain:
                state.scale = scale[PANEL]
                if run.averages:
                    add_panel(x, c + PANEL, &layout, <lanes *> spread_total, groups)
                    state.n_averaged += PANEL
            at += PANEL
        count(&tile, at, sums_out)
        run.at += at
    if groups:
        for q in range(groups):
            (<lanes *> spread_w)[q] = registers[q]
    collect(spread_w, &layout, state.w)
    if not plain and run.averages:
        collect(spread_total, &layout, state.total)


cdef inline void look_ahead_fitting(
    const Rows *rows, SGDRun *run, SGDState *state, Py_ssize_t stop, double *sums_out, real *scratch, const bint plain
) noexcept nogil:
    cdef Py_ssize_t groups = (rows.d - 1) // LANES + 1
    if plain and groups == 2:
        look_ahead(rows, run, state, stop, sums_out, scratch, 2, plain)
    elif plain and groups == GROUPS:
        look_ahead(rows, run, state, stop, sums_out, scratch, GROUPS, plain)
    else:
        look_ahead(rows, run, state, stop, sums_out, scratch, 0, plain)


# ---- the kernels of the table --------------------------------------------------------------------------------------

cdef inline void single_rows(
    const any_rows *rows, SGDRun *run, SGDState *state, Py_ssize_t stop, double *sums_out, real *scratch,
    const bint plain
) noexcept nogil:
    """A row an update; what `look_ahead` leaves over goes row by row."""
    cdef Py_ssize_t until = stop
    while run.at < stop:
        if any_rows is Rows:
            if plain or run.l1 == 0:
                look_ahead_fitting(rows, run, state, stop, sums_out, scratch, plain)
                until = min(run.at + PANEL, stop)
        row_by_row(rows, run, state, until, sums_out, scratch, plain)


cdef inline void descend(
    const any_rows *rows, SGDRun *run, SGDState *state, Py_ssize_t visits, double *sums_out, real *scratch
) noexcept nogil:
    cdef Py_ssize_t stop = min(run.at + visits, run.count)
    if run.batch > 1:
        while visits > 0 and run.at < run.count:
            visits -= pass_over(rows, run, state, visits, sums_out, scratch)
    elif run.l1 == 0 and run.l2 == 0 and not run.averages:
        fold(state, rows.d)
        single_rows(rows, run, state, stop, sums_out, scratch, True)
    else:
        single_rows(rows, run, state, stop, sums_out, scratch, False)


cdef Py_ssize_t scratch_doubles(const SGDRun *run, Py_ssize_t d) noexcept nogil:
    """What a run needs for rows of d columns, dense or sparse."""
    return (PANEL + 2) * (d + LANES) + run.batch


cdef void dense_f32(
    const Rows *rows, SGDRun *run, SGDState *state, Py_ssize_t visits, double *sums_out, void *scratch
) noexcept nogil:
    descend(rows, run, state, visits, sums_out, <float *> scratch)


cdef void dense_f64(
    const Rows *rows, SGDRun *run, SGDState *state, Py_ssize_t visits, double *sums_out, void *scratch
) noexcept nogil:
    descend(rows, run, state, visits, sums_out, <double *> scratch)


cdef void sparse_f32(
    const SparseRows *rows, SGDRun *run, SGDState *state, Py_ssize_t visits, double *sums_out, void *scratch
) noexcept nogil:
    descend(rows, run, state, visits, sums_out, <float *> scratch)


cdef void sparse_f64(
    const SparseRows *rows, SGDRun *run, SGDState *state, Py_ssize_t visits, double *sums_out, void *scratch
) noexcept nogil:
    descend(rows, run, state, visits, sums_out, <double *> scratch)


cdef SGDKernels kernels = SGDKernels(
    dense_f32=dense_f32, dense_f64=dense_f64, sparse_f32=sparse_f32, sparse_f64=sparse_f64,
    scratch_doubles=scratch_doubles,
)

table = PyCapsule_New(&kernels, "fastgd.SGDKernels", NULL)
