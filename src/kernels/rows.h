/* Rows on vectors: what the loops of mse.pyx over rows are where memory must be read in the order of its addresses, w
   and the gradient must not leave the registers, and lanes are to be added up with the fewest shuffles.

       r_i = x_i.w - y_i        loss += s_i r_i^2        residual += s_i r_i        g += s_i r_i x_i

   A row is `groups` vectors, the last of them from element `tail` on. Rows are taken four at a time, because the lanes
   of four products are added up with as many shuffles as those of two; of more than TOGETHER groups one by one, so that
   the memory is never idle. */
#ifndef FASTGD_ROWS_H
#define FASTGD_ROWS_H

#include <stddef.h>

#pragma GCC diagnostic ignored "-Wpsabi"        /* no vector crosses a call */

#ifdef __clang__
#define FASTGD_MIX(places, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FASTGD_MIX(places, a, b, ...) __builtin_shuffle(a, b, (places) {__VA_ARGS__})
#endif

#define FASTGD_TOGETHER 4

/* Bytes of a vector: what the machine has, because compilers take longer ones apart element by element. */
#if defined(__AVX512F__)
#define FASTGD_VECTOR 64
#elif defined(__AVX__)
#define FASTGD_VECTOR 32
#else
#define FASTGD_VECTOR 16
#endif
#define FASTGD_HALF_VECTOR (FASTGD_VECTOR == 64 ? 32 : FASTGD_VECTOR)
#define FASTGD_GROUPS (FASTGD_VECTOR == 16 ? 8 : 7)     /* at least 16 doubles, which is what wide rows need */
#define FASTGD_FLOATS (FASTGD_VECTOR / 4)
#define FASTGD_DOUBLES (FASTGD_VECTOR / 8)
#define FASTGD_HALF_FLOATS (FASTGD_HALF_VECTOR / 4)
#define FASTGD_HALF_DOUBLES (FASTGD_HALF_VECTOR / 8)

#define FASTGD_VECTORS(bytes, f32, i32, f64, i64)                                                                     \
    typedef float f32 __attribute__((vector_size(bytes), aligned(4), may_alias));                                     \
    typedef int i32 __attribute__((vector_size(bytes)));                                                              \
    typedef double f64 __attribute__((vector_size(bytes), aligned(8), may_alias));                                    \
    typedef long long i64 __attribute__((vector_size(bytes)))

FASTGD_VECTORS(FASTGD_VECTOR, vector_f32, vector_i32, vector_f64, vector_i64);
FASTGD_VECTORS(FASTGD_HALF_VECTOR, half_f32, half_i32, half_f64, half_i64);     /* of the longest; else the same */
typedef float four_f __attribute__((vector_size(16), aligned(4), may_alias));
typedef double four_d __attribute__((vector_size(32), aligned(8), may_alias));

/* Rows of a tile, and what they sum up to. Row q of four i is at x + q apart + i step, its target at
   target + q run + i turn. */
typedef struct {
    const void *x;
    ptrdiff_t apart, step;              /* elements */
    ptrdiff_t tail;
    ptrdiff_t ahead;                    /* elements after which the next rows are asked for; 0: not at all */
    ptrdiff_t count;                    /* fours */
    const double *target, *weight;
    ptrdiff_t run, turn;
    double loss[4], residual[4];        /* by the row's place among the four */
} Fours;

/* Keeps reads of memory in the order of the source: the compiler would start with any row, and with it the memory's own
   prefetching. What is in registers stays there. */
#define FASTGD_IN_ORDER() __asm__ __volatile__("" ::: "memory")

/* The halves of the longest vectors added up. */
#if FASTGD_VECTOR == 64
static CYTHON_INLINE half_f32 halved_f32(vector_f32 v) { return ((half_f32 *) &v)[0] + ((half_f32 *) &v)[1]; }
static CYTHON_INLINE half_f64 halved_f64(vector_f64 v) { return ((half_f64 *) &v)[0] + ((half_f64 *) &v)[1]; }
#else
static CYTHON_INLINE half_f32 halved_f32(vector_f32 v) { return v; }
static CYTHON_INLINE half_f64 halved_f64(vector_f64 v) { return v; }
#endif

/* The sums of neighbouring lanes of two vectors; of all lanes of one, and of four. */
#if FASTGD_VECTOR == 16
static CYTHON_INLINE half_f32 pairs_f32(half_f32 a, half_f32 b) {
    return FASTGD_MIX(half_i32, a, b, 0, 2, 4, 6) + FASTGD_MIX(half_i32, a, b, 1, 3, 5, 7);
}

static CYTHON_INLINE half_f64 pairs_f64(half_f64 a, half_f64 b) {
    return FASTGD_MIX(half_i64, a, b, 0, 2) + FASTGD_MIX(half_i64, a, b, 1, 3);
}

static CYTHON_INLINE float sum_f32(half_f32 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
static CYTHON_INLINE double sum_f64(half_f64 v) { return v[0] + v[1]; }

static CYTHON_INLINE four_d four_sums_f32(const vector_f32 *v) {
    return __builtin_convertvector(pairs_f32(pairs_f32(v[0], v[1]), pairs_f32(v[2], v[3])), four_d);
}

static CYTHON_INLINE four_d four_sums_f64(const vector_f64 *v) {
    half_f64 ab = pairs_f64(v[0], v[1]), cd = pairs_f64(v[2], v[3]);
    return (four_d) {ab[0], ab[1], cd[0], cd[1]};
}
#else
static CYTHON_INLINE half_f32 pairs_f32(half_f32 a, half_f32 b) {
    return FASTGD_MIX(half_i32, a, b, 0, 2, 8, 10, 4, 6, 12, 14) + FASTGD_MIX(half_i32, a, b, 1, 3, 9, 11, 5, 7, 13, 15);
}

static CYTHON_INLINE half_f64 pairs_f64(half_f64 a, half_f64 b) {
    return FASTGD_MIX(half_i64, a, b, 0, 4, 2, 6) + FASTGD_MIX(half_i64, a, b, 1, 5, 3, 7);
}

static CYTHON_INLINE float sum_f32(half_f32 v) {
    four_f sums = ((four_f *) &v)[0] + ((four_f *) &v)[1];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

static CYTHON_INLINE double sum_f64(half_f64 v) { return (v[0] + v[2]) + (v[1] + v[3]); }

static CYTHON_INLINE four_d four_sums_f32(const vector_f32 *v) {
    half_f32 sums = pairs_f32(
        pairs_f32(halved_f32(v[0]), halved_f32(v[1])), pairs_f32(halved_f32(v[2]), halved_f32(v[3])));
    return __builtin_convertvector(((four_f *) &sums)[0] + ((four_f *) &sums)[1], four_d);
}

static CYTHON_INLINE four_d four_sums_f64(const vector_f64 *v) {
    half_f64 ab = pairs_f64(halved_f64(v[0]), halved_f64(v[1])), cd = pairs_f64(halved_f64(v[2]), halved_f64(v[3]));
    return FASTGD_MIX(half_i64, ab, cd, 0, 1, 4, 5) + FASTGD_MIX(half_i64, ab, cd, 2, 3, 6, 7);
}
#endif

/* The sum of 16 numbers in memory. */
#define FASTGD_SUM_OF_16(name, real, half, lanes)                                                                     \
    static CYTHON_INLINE real sum_of_16_##name(const real *p) {                                                       \
        half sum = *(const half *) p;                                                                                 \
        for (int k = lanes; k < 16; k += lanes)                                                                       \
            sum += *(const half *) (p + k);                                                                           \
        return sum_##name(sum);                                                                                       \
    }

FASTGD_SUM_OF_16(f32, float, half_f32, FASTGD_HALF_FLOATS)
FASTGD_SUM_OF_16(f64, double, half_f64, FASTGD_HALF_DOUBLES)

#define FASTGD_SUM_FOURS(name, real, vector, lanes)                                                                   \
    static CYTHON_INLINE vector dot_##name(const vector *w, const real *x, ptrdiff_t tail, const int groups) {       \
        vector even = {0}, odd = {0};                                                                                 \
        for (int j = 0; j < groups - 1; j++) {                                                                        \
            if (groups > FASTGD_TOGETHER && j % 2)                                                                    \
                odd += w[j] * *(const vector *) (x + j * lanes);                                                      \
            else                                                                                                      \
                even += w[j] * *(const vector *) (x + j * lanes);                                                     \
            FASTGD_IN_ORDER();                                                                                        \
        }                                                                                                             \
        even += w[groups - 1] * *(const vector *) (x + tail);                                                         \
        FASTGD_IN_ORDER();                                                                                            \
        return even + odd;                                                                                            \
    }                                                                                                                 \
    static CYTHON_INLINE void add_##name(const real *x, real c, ptrdiff_t tail, vector *g, const int groups) {       \
        vector factor = (vector) {0} + c;                                                                             \
        for (int j = 0; j < groups - 1; j++)                                                                          \
            g[j] += factor * *(const vector *) (x + j * lanes);                                                       \
        g[groups - 1] += factor * *(const vector *) (x + tail);                                                       \
    }                                                                                                                 \
    /* w and g have groups vectors; `groups` and `copies` of g, so that no sum waits for itself, are literals. */     \
    static CYTHON_INLINE void sum_fours_##name(                                                                       \
        Fours *rows, const real *w_lanes, real *g_lanes, const int groups, const int copies)                         \
    {                                                                                                                 \
        vector w[FASTGD_GROUPS], g[FASTGD_GROUPS], partial[4];                                                        \
        four_d loss = *(four_d *) rows->loss, residual = *(four_d *) rows->residual, target, weight;                  \
        ptrdiff_t apart = rows->apart, tail = rows->tail;                                                             \
        for (int j = 0; j < groups; j++)                                                                              \
            w[j] = ((const vector *) w_lanes)[j];                                                                     \
        for (int j = 0; j < copies * groups; j++)                                                                     \
            g[j] = (vector) {0};                                                                                      \
        for (ptrdiff_t i = 0; i < rows->count; i++) {                                                                 \
            const real *x = (const real *) rows->x + i * rows->step;                                                  \
            const double *t = rows->target + i * rows->turn, *s = rows->weight + i * rows->turn;                      \
            if (rows->ahead)                                                                                          \
                for (int q = 0; q < 4; q++)                                                                           \
                    for (int j = 0; j < groups; j++)                                                                  \
                        __builtin_prefetch(x + q * apart + rows->ahead + j * lanes);                                  \
            if (rows->run == 1) {                                                                                     \
                target = *(const four_d *) t;                                                                         \
                weight = *(const four_d *) s;                                                                         \
            } else {                                                                                                  \
                target = (four_d) {t[0], t[rows->run], t[2 * rows->run], t[3 * rows->run]};                           \
                weight = (four_d) {s[0], s[rows->run], s[2 * rows->run], s[3 * rows->run]};                           \
            }                                                                                                         \
            if (groups <= FASTGD_TOGETHER) {                                                                          \
                for (int q = 0; q < 4; q++)                                                                           \
                    partial[q] = dot_##name(w, x + q * apart, tail, groups);                                          \
                four_d r = four_sums_##name(partial) - target, c = weight * r;                                        \
                loss += c * r;                                                                                        \
                residual += c;                                                                                        \
                for (int q = 0; q < 4; q++)                                                                           \
                    add_##name(x + q * apart, (real) c[q], tail, g + q % copies * groups, groups);                    \
            } else {                                                                                                  \
                for (int q = 0; q < 4; q++, x += apart) {                                                             \
                    double r = sum_##name(halved_##name(dot_##name(w, x, tail, groups))) - target[q], c = weight[q] * r;             \
                    loss[0] += c * r;                                                                                 \
                    residual[0] += c;                                                                                 \
                    add_##name(x, (real) c, tail, g, groups);                                                         \
                }                                                                                                     \
            }                                                                                                         \
        }                                                                                                             \
        for (int j = 0; j < groups; j++) {                                                                            \
            for (int k = 1; k < copies; k++)                                                                          \
                g[j] += g[k * groups + j];                                                                            \
            ((vector *) g_lanes)[j] += g[j];                                                                          \
        }                                                                                                             \
        *(four_d *) rows->loss = loss;                                                                                \
        *(four_d *) rows->residual = residual;                                                                        \
    }

/* x.w of a row of any width, in four chains of sums; `last` is w[d - 16 : d], zero where it repeats whole groups of 16.
   By halves of the longest vectors: the memory's prefetching follows these better where rows are not aligned. */
#define FASTGD_WIDE_DOT(name, real, half, lanes)                                                                      \
    static CYTHON_INLINE real wide_dot_##name(const real *x, const real *w, const real *last, ptrdiff_t d) {         \
        half sums[4] = {{0}, {0}, {0}, {0}};                                                                          \
        ptrdiff_t whole = (d - 1) / 16 * 16, j = 0;                                                                   \
        for (; j + 4 * lanes <= whole; j += 4 * lanes)                                                                \
            for (int k = 0; k < 4; k++) {                                                                             \
                sums[k] += *(const half *) (w + j + k * lanes) * *(const half *) (x + j + k * lanes);                 \
                FASTGD_IN_ORDER();                                                                                    \
            }                                                                                                         \
        for (; j < whole; j += lanes)                                                                                 \
            sums[0] += *(const half *) (w + j) * *(const half *) (x + j);                                             \
        for (int k = 0; k < 16 / lanes; k++)                                                                          \
            sums[k % 4] += *(const half *) (last + k * lanes) * *(const half *) (x + d - 16 + k * lanes);             \
        return sum_##name((sums[0] + sums[1]) + (sums[2] + sums[3]));                                                 \
    }

FASTGD_WIDE_DOT(f32, float, half_f32, FASTGD_HALF_FLOATS)
FASTGD_WIDE_DOT(f64, double, half_f64, FASTGD_HALF_DOUBLES)

/* g += sum_q c[q] x[q] over `height` rows, a literal, of any width. */
#define FASTGD_WIDE_ADD(name, real, vector, lanes)                                                                    \
    static CYTHON_INLINE void wide_add_##name(                                                                        \
        const real *const *x, const real *c, ptrdiff_t d, real *g, const int height)                                 \
    {                                                                                                                 \
        vector factor[8], sum, next;                                                                                  \
        ptrdiff_t whole = d / (2 * lanes) * (2 * lanes), j;                                                           \
        for (int q = 0; q < height; q++)                                                                              \
            factor[q] = (vector) {0} + c[q];                                                                          \
        for (j = 0; j < whole; j += 2 * lanes) {                                                                      \
            sum = *(vector *) (g + j);                                                                                \
            next = *(vector *) (g + j + lanes);                                                                       \
            for (int q = 0; q < height; q++) {                                                                        \
                sum += factor[q] * *(const vector *) (x[q] + j);                                                      \
                next += factor[q] * *(const vector *) (x[q] + j + lanes);                                             \
            }                                                                                                         \
            *(vector *) (g + j) = sum;                                                                                \
            *(vector *) (g + j + lanes) = next;                                                                       \
        }                                                                                                             \
        for (; j < d; j++)                                                                                            \
            for (int q = 0; q < height; q++)                                                                          \
                g[j] += c[q] * x[q][j];                                                                               \
    }

FASTGD_WIDE_ADD(f32, float, half_f32, FASTGD_HALF_FLOATS)
FASTGD_WIDE_ADD(f64, double, half_f64, FASTGD_HALF_DOUBLES)
FASTGD_SUM_FOURS(f32, float, vector_f32, FASTGD_FLOATS)
FASTGD_SUM_FOURS(f64, double, vector_f64, FASTGD_DOUBLES)
#endif
