"""Stochastic gradient descent, a row an update, under any of scikit-learn's rules, dense or sparse.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. With p = x_i.w + b at the parameters
before it, update t of the next row i in the order finds the step

    eta = eta0, or 1 / (alpha (offset + t - 1)), or eta0 / t^power_t            (constant, optimal, invscaling)
    u = -eta s_i dloss/dp, the derivative being cut off at 1e12
    u = ± s_i min(eta0, loss / |x_i|^2), or ± s_i loss / (|x_i|^2 + 1 / (2 eta0))     (pa1, pa2: towards y_i)

and does

    w <- max(0, 1 - eta l2) w + u x_i,      b <- b + intercept_step u

with l1 = penalty l1_ratio and l2 = penalty (1 - l1_ratio), after which each w_j moves towards zero, but not beyond, by
all the eta l1 since it was moved last: every w_j if the rows are dense, those that row i has entries for if they are
sparse (the cumulative penalty of Tsuruoka, Tsujii and Ananiadou, 2009). The steps pa1 and pa2 are those of Crammer,
Dekel, Keshet, Shalev-Shwartz and Singer, Online passive-aggressive algorithms, 2006. Everything is double, whatever X
is.

The run's sums are those that scikit-learn watches: the loss before each update, and with it the penalty of the
parameters as they stood before they were truncated, and for sparse rows only of those that the row before had entries
for. A mean of these decides when a fit ends, so they are the same here.

Averages are kept as in src/kernels/sgd.pyx, and averages of truncated parameters as scikit-learn has them: as if what
was taken from them had never been there, since the scale was last multiplied into w.

Row by row (fastgd/_plain_rows.pxd), the operations are scikit-learn's own. Here, dense rows are copied to tiles of
doubles, padded with zeros to whole vectors; one loop then does for all. Without l1, a panel of rows is looked at
together: their products with w and with one another wait for nothing, and from them all steps follow without w, as in
src/kernels/sgd.pyx, whatever the loss.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport pow
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy, memset

from fastgd._access cimport sparse_start
from fastgd._plain_rows cimport (
    LANES, all_lanes, averages, count, dot, is_passive, lanes, left_by_l2, load, next_tile, padded, rate_at, slope_at,
    sums_of_lanes, take_row, tile_rows, truncates,
)
from fastgd._plain_types cimport INVSCALING, PlainKernels, PlainRule, PlainRun, Tile
from fastgd._targets cimport target_at
from fastgd._types cimport Rows, SGDState, SparseRows, real

cdef enum:
    PANEL = 4               # rows looked at together
    TERMS = 9               # of the series for t^-power_t,
    LATE = 4096             # which is used from this t on

ctypedef fused any_rows:
    Rows
    SparseRows


# ---- steps ---------------------------------------------------------------------------------------------------------

cdef void late_powers(double t, double power_t, double eta, double *out, Py_ssize_t size) noexcept nogil:
    """eta (t + k)^-power_t for t >= LATE and 0 <= power_t <= 1, by the binomial series in k / t < 1 / 64.

    Its terms fall faster than 64^-j, so TERMS of them leave less than a rounding.
    """
    cdef double c[TERMS]
    cdef double h, sum
    cdef Py_ssize_t k, j
    c[0] = eta / pow(t, power_t)
    for j in range(1, TERMS):
        c[j] = -c[j - 1] * (power_t + j - 1) / j
    for k in range(size):
        h = k / t
        sum = c[TERMS - 1]
        for j in range(TERMS - 2, -1, -1):
            sum = sum * h + c[j]
        out[k] = sum


cdef void fill_rates(const PlainRule *rule, double t, Py_ssize_t size, double *out) noexcept nogil:
    """The steps eta of updates t, t + 1, ..."""
    cdef Py_ssize_t k
    if rule.schedule == INVSCALING and t >= LATE and 0 <= rule.power_t <= 1:
        late_powers(t, rule.power_t, rule.eta, out, size)
        return
    for k in range(size):
        out[k] = rate_at(rule, t + k)


# ---- panels of dense rows ------------------------------------------------------------------------------------------

cdef inline void multiply(const double *const *x, const double *w, Py_ssize_t width, double *out) noexcept nogil:
    """x_q.w for each q and then, row by row, x_q.x_i for i <= q."""
    cdef lanes zero = all_lanes(0.0), v, x0, x1, x2, x3
    cdef lanes p0 = zero, p1 = zero, p2 = zero, p3 = zero, g00 = zero, g10 = zero, g11 = zero, g20 = zero, g21 = zero
    cdef lanes g22 = zero, g30 = zero, g31 = zero, g32 = zero, g33 = zero
    cdef Py_ssize_t k, j
    for k in range(width // LANES):
        j = k * LANES
        v = load(w + j)
        x0 = load(x[0] + j)
        x1 = load(x[1] + j)
        x2 = load(x[2] + j)
        x3 = load(x[3] + j)
        p0 += v * x0
        p1 += v * x1
        p2 += v * x2
        p3 += v * x3
        g00 += x0 * x0
        g10 += x1 * x0
        g11 += x1 * x1
        g20 += x2 * x0
        g21 += x2 * x1
        g22 += x2 * x2
        g30 += x3 * x0
        g31 += x3 * x1
        g32 += x3 * x2
        g33 += x3 * x3
    (<lanes *> out)[0] = sums_of_lanes(p0, p1, p2, p3)
    (<lanes *> (out + 4))[0] = sums_of_lanes(g00, g10, g11, g20)
    (<lanes *> (out + 8))[0] = sums_of_lanes(g21, g22, g30, g31)
    (<lanes *> (out + 12))[0] = sums_of_lanes(g32, g33, g32, g33)


cdef inline void add_panel(const double *const *x, const double *a, Py_ssize_t width, double *out) noexcept nogil:
    """out += sum_q a[q] x_q"""
    cdef lanes a0 = all_lanes(a[0]), a1 = all_lanes(a[1]), a2 = all_lanes(a[2]), a3 = all_lanes(a[3])
    cdef Py_ssize_t k, j
    for k in range(width // LANES):
        j = k * LANES
        (<lanes *> (out + j))[0] = (
            load(out + j) + a0 * load(x[0] + j) + a1 * load(x[1] + j) + a2 * load(x[2] + j) + a3 * load(x[3] + j)
        )


cdef inline double step_of(const PlainRule *rule, Tile *tile, Py_ssize_t row, double r) noexcept nogil:
    """The step u of a row whose residual is r, which is noted."""
    tile.residual[row] = r
    return -(tile.rate[row] * tile.weight[row]) * slope_at(rule, r)


cdef inline void note_norm(
    PlainRun *run, Tile *tile, Py_ssize_t row, double left, double u, double b, double length
) noexcept nogil:
    """Note |w|^2 before the update by a row of this square length and find it after.

    |left w + u x|^2 = left^2 |w|^2 + 2 left u w.x + u^2 |x|^2, where w.x = r + y - b.
    """
    cdef double product = tile.residual[row] + tile.target[row] - b
    tile.square[row] = run.square
    run.square = left * left * run.square + u * (2 * left * product + u * length)


cdef inline void solve(
    const PlainRule *rule, PlainRun *run, SGDState *state, Tile *tile, Py_ssize_t at, const double *products,
    const double *scale, double *u_out
) noexcept nogil:
    """Find the steps u of a panel, the norms of w before each, and where the intercept goes.

    With b the intercept before the panel and κ the intercept's step,

        r_q = scale_q x_q.v + b - y_q + sum_{i<q} u_i (scale_q / scale_{i+1} x_q.x_i + κ)

    It is written out, because what goes through memory takes longer than the sums.
    """
    cdef double k = rule.intercept_step, b = state.intercept
    cdef double inverse0 = 1.0 / scale[1], inverse1 = 1.0 / scale[2], inverse2 = 1.0 / scale[3]
    cdef double r0 = scale[0] * products[0] + (b - tile.target[at])
    cdef double r1 = scale[1] * products[1] + (b - tile.target[at + 1])
    cdef double r2 = scale[2] * products[2] + (b - tile.target[at + 2])
    cdef double r3 = scale[3] * products[3] + (b - tile.target[at + 3])
    cdef double u0, u1, u2, u3
    u0 = step_of(rule, tile, at, r0)
    r1 += u0 * (scale[1] * inverse0 * products[5] + k)
    r2 += u0 * (scale[2] * inverse0 * products[7] + k)
    r3 += u0 * (scale[3] * inverse0 * products[10] + k)
    u1 = step_of(rule, tile, at + 1, r1)
    r2 += u1 * (scale[2] * inverse1 * products[8] + k)
    r3 += u1 * (scale[3] * inverse1 * products[11] + k)
    u2 = step_of(rule, tile, at + 2, r2)
    r3 += u2 * (scale[3] * inverse2 * products[12] + k)
    u3 = step_of(rule, tile, at + 3, r3)
    note_norm(run, tile, at, left_by_l2(rule, tile.rate[at]), u0, b, products[4])
    b += k * u0
    note_norm(run, tile, at + 1, left_by_l2(rule, tile.rate[at + 1]), u1, b, products[6])
    b += k * u1
    note_norm(run, tile, at + 2, left_by_l2(rule, tile.rate[at + 2]), u2, b, products[9])
    b += k * u2
    note_norm(run, tile, at + 3, left_by_l2(rule, tile.rate[at + 3]), u3, b, products[13])
    state.intercept = b + k * u3
    u_out[0], u_out[1], u_out[2], u_out[3] = u0, u1, u2, u3


cdef inline void add_to_average(
    const PlainRule *rule, SGDState *state, const double *scale, const double *u, double *a_out
) noexcept nogil:
    """By how much of each row the total moves, so that it goes on to have what was averaged before."""
    cdef double b = state.intercept
    cdef Py_ssize_t q
    for q in range(PANEL):
        b -= rule.intercept_step * u[q]
    for q in range(PANEL):
        b += rule.intercept_step * u[q]
        a_out[q] = -u[q] / scale[q + 1] * state.total_scale
        state.total_scale += scale[q + 1]
        state.intercept_total += b
    state.n_averaged += PANEL


cdef inline void count_rows(const PlainRule *rule, PlainRun *run, const Tile *tile, Py_ssize_t size) noexcept nogil:
    """Add what the first rows of the tile contribute to the sums."""
    cdef double after = run.square
    cdef Py_ssize_t q
    for q in range(size):
        run.square = tile.square[q]
        count(rule, run, tile.residual[q])
    run.square = after


cdef Py_ssize_t take_panels(
    const PlainRule *rule, PlainRun *run, SGDState *state, Tile *tile, Py_ssize_t size, Py_ssize_t width
) noexcept nogil:
    """Panels of the tile's rows, as long as the scale allows; returns how many rows."""
    cdef double products[12 + LANES]
    cdef double u[PANEL]
    cdef double a[PANEL]
    cdef double scale[PANEL + 1]
    cdef bint adds = averages(rule, run)
    cdef Py_ssize_t at = 0, q
    run.square = dot(state.w, state.w, width, True) * (state.scale * state.scale)   # rid of the roundings so far
    while at + PANEL <= size:
        scale[0] = state.scale
        for q in range(PANEL):
            scale[q + 1] = scale[q] * left_by_l2(rule, tile.rate[at + q])
        if scale[PANEL] < rule.floor:
            break
        multiply(tile.x + at, state.w, width, products)
        solve(rule, run, state, tile, at, products, scale, u)
        for q in range(PANEL):
            a[q] = u[q] / scale[q + 1]
        add_panel(tile.x + at, a, width, state.w)
        if adds:
            add_to_average(rule, state, scale, u, a)
            add_panel(tile.x + at, a, width, state.total)
        state.scale = scale[PANEL]
        at += PANEL
    count_rows(rule, run, tile, at)
    run.t += at
    return at


cdef Py_ssize_t scratch_doubles(Py_ssize_t d) noexcept nogil:
    """What a run needs for dense rows of d columns."""
    return tile_rows(padded(d)) * padded(d)


cdef inline void descend(
    const Rows *rows, const PlainRule *rule, PlainRun *run, SGDState *state, Py_ssize_t visits, double *scratch,
    real *unused
) noexcept nogil:
    cdef Py_ssize_t width = padded(rows.d), stop = min(run.at + visits, run.count), size, q
    cdef Tile tile
    memset(scratch, 0, scratch_doubles(rows.d) * sizeof(double))
    while run.at < stop:
        size = next_tile(rows, rule, run, stop, &tile, unused, scratch, True)
        fill_rates(rule, run.t, size, tile.rate)
        q = 0
        if not truncates(rule) and not is_passive(rule):
            q = take_panels(rule, run, state, &tile, size, width)
        while q < size:
            take_row(rule, run, state, &tile, q, width, True)
            q += 1
        run.at += size


# ---- keys of rows --------------------------------------------------------------------------------------------------
#
# A number for each row that depends on its entries and its target alone: in the order of these, rows come in the same
# order however they were given. It is a sum over the entries, so that zeros may be left out and columns come in any
# order; each term is stirred by splitmix64 (Steele, Lea and Flood, 2014), because numbers of few digits differ in few
# bits.

cdef inline uint64_t stirred(double value, Py_ssize_t column) noexcept nogil:
    """0 of 0, of either sign."""
    cdef uint64_t z
    if value == 0:
        return 0
    memcpy(&z, &value, sizeof(double))
    z += (<uint64_t> column + 1) * <uint64_t> 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t> 0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline void find_keys(
    const any_rows *rows, Py_ssize_t start, Py_ssize_t stop, uint64_t *keys_out, real *unused
) noexcept nogil:
    """Of rows `start` to `stop`."""
    cdef Py_ssize_t i, j, k
    cdef const real *x
    cdef uint64_t key
    for i in range(start, stop):
        key = stirred(target_at(&rows.targets, i), rows.d)
        if any_rows is Rows:
            x = <const real *> rows.X + i * rows.x_row
            for j in range(rows.d):
                key += stirred(x[j * rows.x_col], j)
        else:
            x = <const real *> rows.data
            for k in range(sparse_start(rows, i), sparse_start(rows, i + 1)):
                if rows.is_long:
                    key += stirred(x[k], (<const int64_t *> rows.indices)[k])
                else:
                    key += stirred(x[k], (<const int32_t *> rows.indices)[k])
        keys_out[i] = key


# ---- the kernels of the table --------------------------------------------------------------------------------------

cdef void dense_f32(
    const Rows *rows, const PlainRule *rule, PlainRun *run, SGDState *state, Py_ssize_t visits, void *scratch
) noexcept nogil:
    descend(rows, rule, run, state, visits, <double *> scratch, <float *> NULL)


cdef void dense_f64(
    const Rows *rows, const PlainRule *rule, PlainRun *run, SGDState *state, Py_ssize_t visits, void *scratch
) noexcept nogil:
    descend(rows, rule, run, state, visits, <double *> scratch, <double *> NULL)


cdef void keys_f32(const Rows *rows, Py_ssize_t start, Py_ssize_t stop, void *keys_out) noexcept nogil:
    find_keys(rows, start, stop, <uint64_t *> keys_out, <float *> NULL)


cdef void keys_f64(const Rows *rows, Py_ssize_t start, Py_ssize_t stop, void *keys_out) noexcept nogil:
    find_keys(rows, start, stop, <uint64_t *> keys_out, <double *> NULL)


cdef void sparse_keys_f32(const SparseRows *rows, Py_ssize_t start, Py_ssize_t stop, void *keys_out) noexcept nogil:
    find_keys(rows, start, stop, <uint64_t *> keys_out, <float *> NULL)


cdef void sparse_keys_f64(const SparseRows *rows, Py_ssize_t start, Py_ssize_t stop, void *keys_out) noexcept nogil:
    find_keys(rows, start, stop, <uint64_t *> keys_out, <double *> NULL)


cdef PlainKernels kernels = PlainKernels(
    dense_f32=dense_f32, dense_f64=dense_f64,
    scratch_doubles=scratch_doubles, keys_f32=keys_f32, keys_f64=keys_f64, sparse_keys_f32=sparse_keys_f32,
    sparse_keys_f64=sparse_keys_f64,
)

table = PyCapsule_New(&kernels, "fastgd.PlainKernels", NULL)
