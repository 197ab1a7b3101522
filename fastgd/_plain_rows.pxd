"""The updates of src/kernels/plain_sgd.pyx, row by row, by the operations of scikit-learn in their order.

Shared by the kernels, which may regroup sums, and src/_plain_sgd.pyx, which is compiled so that nothing is regrouped.
"""

from libc.math cimport fabs, pow
from libc.stdint cimport int32_t, int64_t

from fastgd._access cimport sparse_start
from fastgd._plain_types cimport (
    EPSILON_INSENSITIVE, HUBER, INVSCALING, OPTIMAL, PA1, PA2, SQUARED_ERROR, PlainRule, PlainRun, TILE, Tile,
)
from fastgd._targets cimport target_at, weight_at
from fastgd._types cimport Rows, SGDState, SparseRows, real

cdef enum:
    TILE_DOUBLES = 2048     # of rows that are copied together, unless 4 rows have more
    LINES = 16              # of cache, that are asked for of a row at most

cdef extern from *:
    """
    #ifndef FASTGD_MAX_SLOPE
    #define FASTGD_MAX_SLOPE 1e12
    static inline void prefetch_line(const void *address) { __builtin_prefetch(address, 0, 2); }
    #endif
    """
    const double MAX_SLOPE "FASTGD_MAX_SLOPE"       # of a loss; steeper ones are taken for this
    void prefetch_line(const void *address) noexcept nogil

cdef extern from "lanes.h":
    """
    #ifndef FASTGD_MAGNITUDES
    #define FASTGD_MAGNITUDES
    static CYTHON_INLINE lanes magnitudes(lanes v) { return (lanes) ((places) v & 0x7fffffffffffffffLL); }
    #endif
    """
    enum:
        LANES "FASTGD_LANES"    # doubles in a vector
    ctypedef double lanes
    lanes all_lanes(double value) noexcept nogil
    lanes widened(const float *x) noexcept nogil
    lanes magnitudes(lanes v) noexcept nogil
    lanes sums_of_lanes(lanes a, lanes b, lanes c, lanes d) noexcept nogil      # sum a, sum b, sum c, sum d, ...


ctypedef fused index:
    int32_t
    int64_t


# ---- the rules -----------------------------------------------------------------------------------------------------

cdef inline double loss_at(const PlainRule *rule, double r) noexcept nogil:
    """The loss of a residual r = p - y."""
    cdef double beyond = fabs(r) - rule.epsilon
    if rule.loss == SQUARED_ERROR:
        return 0.5 * r * r
    if rule.loss == HUBER:
        return 0.5 * r * r if beyond <= 0 else rule.epsilon * (fabs(r) - 0.5 * rule.epsilon)
    if not beyond > 0:
        return beyond if beyond != beyond else 0.0     # NaN is to be seen
    return beyond if rule.loss == EPSILON_INSENSITIVE else beyond * beyond


cdef inline double slope_at(const PlainRule *rule, double r) noexcept nogil:
    """Its derivative by p, no larger than MAX_SLOPE."""
    cdef double slope = r, beyond, sign
    if rule.loss != SQUARED_ERROR:
        beyond = fabs(r) - rule.epsilon
        sign = 1.0 if r > 0 else -1.0
        if rule.loss == HUBER:
            slope = r if beyond <= 0 else sign * rule.epsilon
        elif not beyond > 0:
            slope = beyond if beyond != beyond else 0.0
        else:
            slope = sign if rule.loss == EPSILON_INSENSITIVE else sign * (2 * beyond)
    if slope > MAX_SLOPE:
        return MAX_SLOPE
    if slope < -MAX_SLOPE:
        return -MAX_SLOPE
    return slope


cdef inline bint is_passive(const PlainRule *rule) noexcept nogil:
    return rule.schedule == PA1 or rule.schedule == PA2


cdef inline double passive_step(const PlainRule *rule, double r, double square) noexcept nogil:
    """u / s of pa1 and pa2, for a row of this square length."""
    cdef double loss = loss_at(rule, r), step
    if rule.schedule == PA1:
        step = min(rule.eta, loss / square)
    else:
        step = loss / (square + 0.5 / rule.eta)
    return -step if r > 0 else step


cdef inline double left_by_l2(const PlainRule *rule, double rate) noexcept nogil:
    """The factor by which an update shrinks the parameters."""
    return max(0.0, 1.0 - (1.0 - rule.l1_ratio) * rate * rule.penalty)


cdef inline double rate_at(const PlainRule *rule, double t) noexcept nogil:
    """The step eta of update t."""
    if rule.schedule == OPTIMAL:
        return 1.0 / (rule.alpha * (rule.offset + t - 1))
    if rule.schedule == INVSCALING:
        return rule.eta / pow(t, rule.power_t)
    return rule.eta


# ---- the state -----------------------------------------------------------------------------------------------------

cdef inline void fold(SGDState *state, Py_ssize_t d) noexcept nogil:
    """Multiply the scale into w and add to the total what it does not have of w."""
    cdef Py_ssize_t j
    if state.total != NULL and state.total_scale != 0:
        for j in range(d):
            state.total[j] += state.total_scale * state.w[j]
        state.total_scale = 0
    if state.scale != 1:
        for j in range(d):
            state.w[j] *= state.scale
        state.scale = 1


cdef inline bint averages(const PlainRule *rule, const PlainRun *run) noexcept nogil:
    return 0 < rule.average <= run.t


cdef inline void count(const PlainRule *rule, PlainRun *run, double r) noexcept nogil:
    """Add what scikit-learn's objective has of a row."""
    cdef double loss = loss_at(rule, r), penalty = 0
    run.loss += loss
    if not is_passive(rule):
        if rule.l1_ratio < 1:
            penalty += (1 - rule.l1_ratio) * 0.5 * run.square
        if rule.l1_ratio > 0:
            penalty += rule.l1_ratio * run.absolute
        penalty *= rule.penalty
    run.objective += loss + penalty


cdef inline void shrink(
    const PlainRule *rule, PlainRun *run, SGDState *state, double rate, Py_ssize_t d
) noexcept nogil:
    cdef double left = left_by_l2(rule, rate)
    if left == 1:
        return
    state.scale *= left
    run.square *= left * left
    run.absolute *= left
    if state.scale < rule.floor:
        fold(state, d)


cdef inline void end_update(const PlainRule *rule, PlainRun *run, SGDState *state) noexcept nogil:
    """Add the parameters to the average, and count the update."""
    if averages(rule, run):
        state.total_scale += state.scale
        state.intercept_total += state.intercept
        state.n_averaged += 1
    run.t += 1


cdef inline double truncated(
    double w, double scale, double inverse, double due, double *taken, const bint regroups
) noexcept nogil:
    """w of scale w, moved towards zero by what is due less what was taken from it; no branch, and NaN stays NaN.

    `inverse` is that of the scale, which it is divided by unless it `regroups`.
    """
    cdef double sign = <double> (w > 0) - <double> (w < 0), owed = due + sign * taken[0]
    cdef double left = sign * w - (owed * inverse if regroups else owed / scale)
    cdef double moved = sign * (0.0 if left < 0 else left)
    taken[0] += scale * (moved - w)
    return moved


cdef inline bint truncates(const PlainRule *rule) noexcept nogil:
    return rule.penalty > 0 and rule.l1_ratio > 0


# ---- dense rows ----------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t padded(Py_ssize_t d) noexcept nogil:
    """Doubles that a row of d columns takes."""
    return (d + 7) & ~<Py_ssize_t> 7


cdef inline Py_ssize_t tile_rows(Py_ssize_t width) noexcept nogil:
    """How many rows are looked at together, of which a multiple of 4 goes into L1."""
    return min(max(TILE_DOUBLES // width // 4, <Py_ssize_t> 1) * 4, <Py_ssize_t> TILE)


cdef inline void ask_for(
    const Rows *rows, const PlainRun *run, Py_ssize_t start, Py_ssize_t stop, real *unused
) noexcept nogil:
    """Prefetch the rows at these places of the order, their targets and weights. A prefetch never faults."""
    cdef Py_ssize_t lines = min(rows.d * <Py_ssize_t> sizeof(real) // 64 + 1, <Py_ssize_t> LINES)
    cdef Py_ssize_t at, line, i
    cdef const real *x
    if rows.x_col != 1:
        return
    for at in range(start, min(stop, run.count)):
        i = run.order[at]
        x = <const real *> rows.X + i * rows.x_row
        for line in range(lines):
            prefetch_line(<const char *> x + 64 * line)
        prefetch_line(<const char *> (x + rows.d) - 1)


cdef inline lanes load(const real *x) noexcept nogil:
    if real is float:
        return widened(x)
    else:
        return (<const lanes *> x)[0]


cdef inline void copy(const real *x, Py_ssize_t d, double *out) noexcept nogil:
    """By whole lanes, of which the last repeats some of those before."""
    cdef Py_ssize_t k
    if d < LANES:
        for k in range(d):
            out[k] = x[k]
        return
    for k in range(d // LANES):
        (<lanes *> (out + k * LANES))[0] = load(x + k * LANES)
    (<lanes *> (out + d - LANES))[0] = load(x + d - LANES)


cdef inline void fill(
    const Rows *rows, const PlainRun *run, Py_ssize_t size, Tile *tile, real *unused, double *buffer, const bint pads
) noexcept nogil:
    """The next rows of the order: where they are, or copied to the buffer, of which the padding is zero.

    `pads` is a literal: whether the padding is needed.
    """
    cdef Py_ssize_t width = padded(rows.d), q, j, i
    cdef const real *x
    for q in range(size):
        i = run.order[run.at + q]
        tile.target[q] = target_at(&rows.targets, i)
        tile.weight[q] = weight_at(&rows.targets, i)
        x = <const real *> rows.X + i * rows.x_row
        if real is double:
            if rows.x_col == 1 and (width == rows.d or not pads):
                tile.x[q] = x
                continue
        tile.x[q] = buffer
        if rows.x_col == 1:
            copy(x, rows.d, buffer)
        else:
            for j in range(rows.d):
                buffer[j] = x[j * rows.x_col]
        buffer += width


cdef inline Py_ssize_t next_tile(
    const Rows *rows, const PlainRule *rule, const PlainRun *run, Py_ssize_t stop, Tile *tile, real *unused,
    double *buffer, const bint pads
) noexcept nogil:
    """Fill the tile with the next rows of the order, up to `stop`, and ask for those after it; returns how many.

    It is averaged as a whole or not at all.
    """
    cdef Py_ssize_t most = tile_rows(padded(rows.d)), size = min(most, stop - run.at)
    if run.t < rule.average < run.t + size:
        size = <Py_ssize_t> (rule.average - run.t)
    fill(rows, run, size, tile, unused, buffer, pads)
    ask_for(rows, run, run.at + size, run.at + size + most, unused)
    return size


cdef inline double dot(const double *a, const double *b, Py_ssize_t width, const bint regroups) noexcept nogil:
    """In two chains of lanes, or one by one."""
    cdef lanes p0 = all_lanes(0.0), p1 = p0
    cdef double product = 0
    cdef double sums[LANES]
    cdef Py_ssize_t k
    if not regroups:
        for k in range(width):
            product += a[k] * b[k]
        return product
    for k in range(0, width // LANES - 1, 2):
        p0 += load(a + k * LANES) * load(b + k * LANES)
        p1 += load(a + (k + 1) * LANES) * load(b + (k + 1) * LANES)
    if width // LANES & 1:
        p0 += load(a + width - LANES) * load(b + width - LANES)
    (<lanes *> sums)[0] = sums_of_lanes(p0 + p1, p1, p1, p1)
    return sums[0]


cdef inline void add_row(
    const double *x, double a, Py_ssize_t width, PlainRun *run, SGDState *state, const bint regroups
) noexcept nogil:
    """w += a x, and the norms of w."""
    cdef double *w = state.w
    cdef lanes squares = all_lanes(0.0), magnitude = squares, moved
    cdef double square = 0, absolute = 0, v
    cdef double sums[LANES]
    cdef Py_ssize_t k
    if regroups:
        for k in range(width // LANES):
            moved = load(w + k * LANES) + all_lanes(a) * load(x + k * LANES)
            (<lanes *> (w + k * LANES))[0] = moved
            squares += moved * moved
            magnitude += magnitudes(moved)
        (<lanes *> sums)[0] = sums_of_lanes(squares, magnitude, squares, magnitude)
        square, absolute = sums[0], sums[1]
    else:
        for k in range(width):
            v = w[k] + a * x[k]
            w[k] = v
            square += v * v
            absolute += fabs(v)
    run.square = square * (state.scale * state.scale)
    run.absolute = absolute * state.scale


cdef inline void truncate(SGDState *state, Py_ssize_t width, const bint regroups) noexcept nogil:
    cdef double *w = state.w
    cdef double *taken = state.taken
    cdef double due = state.due, scale = state.scale, inverse = 1.0 / scale
    cdef Py_ssize_t j
    for j in range(width):
        w[j] = truncated(w[j], scale, inverse, due, taken + j, regroups)


cdef inline void take_row(
    const PlainRule *rule, PlainRun *run, SGDState *state, const Tile *tile, Py_ssize_t q, Py_ssize_t width,
    const bint regroups
) noexcept nogil:
    """One update, by row q of the tile. `regroups` is a literal: whether sums may be added up in another order."""
    cdef const double *x = tile.x[q]
    cdef double rate = tile.rate[q], square = 0, r, u, a, taken
    cdef Py_ssize_t j
    r = state.scale * dot(state.w, x, width, regroups) + state.intercept - tile.target[q]
    count(rule, run, r)
    if is_passive(rule):
        square = dot(x, x, width, regroups)
        if square == 0 and rule.schedule == PA1:
            return
        u = passive_step(rule, r, square) * tile.weight[q]
    else:
        u = -rate * slope_at(rule, r) * tile.weight[q]
    shrink(rule, run, state, rate, width)
    if u != 0:
        a = u / state.scale
        if averages(rule, run):
            taken = a * state.total_scale
            for j in range(width):
                state.total[j] -= taken * x[j]
        add_row(x, a, width, run, state, regroups)
        state.intercept += rule.intercept_step * u
    if truncates(rule):
        state.due += rule.l1_ratio * rate * rule.penalty
        truncate(state, width, regroups)
    end_update(rule, run, state)


# ---- sparse rows ---------------------------------------------------------------------------------------------------

cdef inline double sparse_dot(const real *x, const index *columns, Py_ssize_t size, const double *w) noexcept nogil:
    cdef double product = 0
    cdef Py_ssize_t k
    for k in range(size):
        product += w[columns[k]] * x[k]
    return product


cdef inline void sparse_move(
    const real *x, const index *columns, Py_ssize_t size, double a, double taken, PlainRun *run, SGDState *state
) noexcept nogil:
    """w += a x, of which the average takes back what it has; the norms of what was touched."""
    cdef double square = 0, absolute = 0, v
    cdef Py_ssize_t k, j
    for k in range(size):
        j = columns[k]
        if taken != 0:
            state.total[j] -= taken * x[k]
        v = state.w[j] + a * x[k]
        state.w[j] = v
        square += v * v
        absolute += fabs(v)
    run.square = square * (state.scale * state.scale)
    run.absolute = absolute * state.scale


cdef inline void sparse_truncate(const index *columns, Py_ssize_t size, SGDState *state) noexcept nogil:
    cdef double due = state.due, scale = state.scale
    cdef Py_ssize_t k, j
    for k in range(size):
        j = columns[k]
        state.w[j] = truncated(state.w[j], scale, 1.0, due, state.taken + j, False)


cdef inline void take_entries(
    const real *x, const index *columns, Py_ssize_t size, Py_ssize_t d, const PlainRule *rule, PlainRun *run,
    SGDState *state, Tile *tile
) noexcept nogil:
    """One update, by a row of these entries; its target, weight and rate are the first of the tile."""
    cdef double rate = tile.rate[0], square = 0, r, u, a
    cdef Py_ssize_t k
    r = state.scale * sparse_dot(x, columns, size, state.w) + state.intercept - tile.target[0]
    count(rule, run, r)
    if is_passive(rule):
        for k in range(size):
            square += <double> x[k] * x[k]
        if square == 0 and rule.schedule == PA1:
            return
        u = passive_step(rule, r, square) * tile.weight[0]
    else:
        u = -rate * slope_at(rule, r) * tile.weight[0]
    shrink(rule, run, state, rate, d)
    if u != 0:
        a = u / state.scale
        sparse_move(x, columns, size, a, a * state.total_scale if averages(rule, run) else 0.0, run, state)
        state.intercept += rule.intercept_step * u
    if truncates(rule):
        state.due += rule.l1_ratio * rate * rule.penalty
        sparse_truncate(columns, size, state)
    end_update(rule, run, state)


cdef inline void descend_sparse(
    const SparseRows *rows, const PlainRule *rule, PlainRun *run, SGDState *state, Py_ssize_t visits, real *unused
) noexcept nogil:
    cdef Py_ssize_t stop = min(run.at + visits, run.count), start, size, i
    cdef const real *x
    cdef Tile tile
    while run.at < stop:
        i = run.order[run.at]
        start = sparse_start(rows, i)
        size = sparse_start(rows, i + 1) - start
        x = <const real *> rows.data + start
        tile.target[0] = target_at(&rows.targets, i)
        tile.weight[0] = weight_at(&rows.targets, i)
        tile.rate[0] = rate_at(rule, run.t)
        if rows.is_long:
            take_entries(x, <const int64_t *> rows.indices + start, size, rows.d, rule, run, state, &tile)
        else:
            take_entries(x, <const int32_t *> rows.indices + start, size, rows.d, rule, run, state, &tile)
        run.at += 1
