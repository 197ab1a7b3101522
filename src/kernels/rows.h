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
#define FASTGD_GROUPS 8

typedef float sixteen_f __attribute__((vector_size(64), aligned(4), may_alias));
typedef float eight_f __attribute__((vector_size(32), aligned(4), may_alias));
typedef float four_f __attribute__((vector_size(16), aligned(4), may_alias));
typedef int eight_i __attribute__((vector_size(32)));
typedef double eight_d __attribute__((vector_size(64), aligned(8), may_alias));
typedef double four_d __attribute__((vector_size(32), aligned(8), may_alias));
typedef long long four_l __attribute__((vector_size(32)));

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

/* The halves of a vector added up, and the sums of neighbouring lanes of two such. */
static CYTHON_INLINE eight_f halves_f32(sixteen_f v) { return ((eight_f *) &v)[0] + ((eight_f *) &v)[1]; }
static CYTHON_INLINE four_d halves_f64(eight_d v) { return ((four_d *) &v)[0] + ((four_d *) &v)[1]; }

static CYTHON_INLINE eight_f pairs_f32(eight_f a, eight_f b) {
    return FASTGD_MIX(eight_i, a, b, 0, 2, 8, 10, 4, 6, 12, 14) + FASTGD_MIX(eight_i, a, b, 1, 3, 9, 11, 5, 7, 13, 15);
}

static CYTHON_INLINE four_d pairs_f64(four_d a, four_d b) {
    return FASTGD_MIX(four_l, a, b, 0, 4, 2, 6) + FASTGD_MIX(four_l, a, b, 1, 5, 3, 7);
}

/* The sums of all lanes of four vectors. */
static CYTHON_INLINE four_d four_sums_f32(const sixteen_f *v) {
    eight_f sums = pairs_f32(
        pairs_f32(halves_f32(v[0]), halves_f32(v[1])), pairs_f32(halves_f32(v[2]), halves_f32(v[3])));
    return __builtin_convertvector(((four_f *) &sums)[0] + ((four_f *) &sums)[1], four_d);
}

static CYTHON_INLINE four_d four_sums_f64(const eight_d *v) {
    four_d ab = pairs_f64(halves_f64(v[0]), halves_f64(v[1])), cd = pairs_f64(halves_f64(v[2]), halves_f64(v[3]));
    return FASTGD_MIX(four_l, ab, cd, 0, 1, 4, 5) + FASTGD_MIX(four_l, ab, cd, 2, 3, 6, 7);
}

/* The sum of all lanes of one. */
static CYTHON_INLINE float sum_f32(sixteen_f v) {
    eight_f half = halves_f32(v);
    four_f sums = ((four_f *) &half)[0] + ((four_f *) &half)[1];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

static CYTHON_INLINE double sum_f64(eight_d v) {
    four_d sums = halves_f64(v);
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

/* The sum of 16 numbers in memory. */
static CYTHON_INLINE float sum_of_16_f32(const float *p) { return sum_f32(*(const sixteen_f *) p); }
static CYTHON_INLINE double sum_of_16_f64(const double *p) {
    return sum_f64(((const eight_d *) p)[0] + ((const eight_d *) p)[1]);
}

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
                    double r = sum_##name(dot_##name(w, x, tail, groups)) - target[q], c = weight[q] * r;             \
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
#define FASTGD_WIDE_DOT(name, real, vector, half, lanes)                                                              \
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
            sums[k] += *(const half *) (last + k * lanes) * *(const half *) (x + d - 16 + k * lanes);                 \
        vector both;                                                                                                  \
        ((half *) &both)[0] = sums[0] + sums[1];                                                                      \
        ((half *) &both)[1] = sums[2] + sums[3];                                                                      \
        return sum_##name(both);                                                                                      \
    }

FASTGD_WIDE_DOT(f32, float, sixteen_f, eight_f, 8)
FASTGD_WIDE_DOT(f64, double, eight_d, four_d, 4)

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

FASTGD_WIDE_ADD(f32, float, eight_f, 8)
FASTGD_WIDE_ADD(f64, double, four_d, 4)
FASTGD_SUM_FOURS(f32, float, sixteen_f, 16)
FASTGD_SUM_FOURS(f64, double, eight_d, 8)
#endif
