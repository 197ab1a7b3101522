/* Entries of a sparse row some at a time, for sparse.pyx, for float and double x and 32-bit and 64-bit columns.

       gather_dot(x, column, count, w)         sum_k x[k] w[column[k]]
       scatter_add(x, column, count, c, g)     g[column[k]] += c x[k], of columns that are all different

   take eight, by the gather and scatter instructions of AVX-512; SCATTERS says whether this instruction set has them.

       dot_fours(x, column, count, w)          the same sum
       add_fours(x, column, count, c, g)       the same, of any columns

   take four: each w is loaded, and each g added to, by itself, and what happens to x in between is done to vectors.
   In Cython neither can be had: compilers make of such loops vectors that go through memory. */
#ifndef FASTGD_SCATTER_H
#define FASTGD_SCATTER_H

#include <stddef.h>
#include <stdint.h>
#ifdef __AVX__
#include <immintrin.h>
#endif
#pragma GCC diagnostic ignored "-Wpsabi"        /* no vector crosses a call */

/* w and g are double, or float where x is.

   The last four of a row reach up to three entries beyond it, which must be there. They count as zero, whatever they
   and the w of their columns are: so rows of any length end without a branch that cannot be foreseen. The processor
   does not see that X is read in order, among as many jumps, so it is told to fetch what comes FASTGD_AHEAD later. */
enum { FASTGD_AHEAD = 512 };

typedef float four_f32 __attribute__((vector_size(16), aligned(4), may_alias));
typedef double four_f64 __attribute__((vector_size(32), aligned(8), may_alias));
typedef int places_f32 __attribute__((vector_size(16)));
typedef long long places_f64 __attribute__((vector_size(32)));

static CYTHON_INLINE four_f64 widened_f32(const float *x) {
#ifdef __AVX__
    return (four_f64) _mm256_cvtps_pd(_mm_loadu_ps(x));     /* of the other, gcc 12 makes four instructions */
#else
    return __builtin_convertvector(*(const four_f32 *) x, four_f64);
#endif
}

#define load_f32_f32(x) (*(const four_f32 *) (x))
#define load_f32_f64(x) widened_f32(x)
#define load_f64_f64(x) (*(const four_f64 *) (x))
#define first_of(lane, v, count) ((four_##lane) ((places_##lane) (v) & ((places_##lane) {0, 1, 2, 3} < (count))))

#define FASTGD_FOURS(name, real, load, lane, scalar, index)                                                           \
    static CYTHON_INLINE four_##lane products_##name(                                                                 \
        const real *x, const index *column, const scalar *w)                                                          \
    {                                                                                                                 \
        return load(x) * (four_##lane) {w[column[0]], w[column[1]], w[column[2]], w[column[3]]};                      \
    }                                                                                                                 \
    static CYTHON_INLINE double dot_fours_##name(                                                                     \
        const real *x, const index *column, ptrdiff_t count, const scalar *w)                                         \
    {                                                                                                                 \
        four_##lane sum = {0};                                                                                        \
        ptrdiff_t k = 0;                                                                                              \
        for (; k + 4 <= count; k += 4) {                                                                              \
            __builtin_prefetch(x + k + FASTGD_AHEAD);                                                                 \
            __builtin_prefetch(column + k + FASTGD_AHEAD);                                                            \
            sum += products_##name(x + k, column + k, w);                                                             \
        }                                                                                                             \
        sum += first_of(lane, products_##name(x + k, column + k, w), (int) (count - k));                              \
        return (sum[0] + sum[2]) + (sum[1] + sum[3]);                                                                 \
    }                                                                                                                 \
    static CYTHON_INLINE void add_four_##name(const index *column, four_##lane v, scalar *g)                          \
    {                                                                                                                 \
        for (int q = 0; q < 4; q++)                                                                                   \
            g[column[q]] += v[q];                                                                                     \
    }                                                                                                                 \
    static CYTHON_INLINE void add_fours_##name(                                                                       \
        const real *x, const index *column, ptrdiff_t count, scalar c, scalar *g)                                     \
    {                                                                                                                 \
        ptrdiff_t k = 0;                                                                                              \
        for (; k + 4 <= count; k += 4)                                                                                \
            add_four_##name(column + k, c * load(x + k), g);                                                          \
        add_four_##name(column + k, first_of(lane, c * load(x + k), (int) (count - k)), g);                           \
    }

FASTGD_FOURS(f32_f32_i32, float, load_f32_f32, f32, float, int32_t)
FASTGD_FOURS(f32_f32_i64, float, load_f32_f32, f32, float, int64_t)
FASTGD_FOURS(f32_f64_i32, float, load_f32_f64, f64, double, int32_t)
FASTGD_FOURS(f32_f64_i64, float, load_f32_f64, f64, double, int64_t)
FASTGD_FOURS(f64_f64_i32, double, load_f64_f64, f64, double, int32_t)
FASTGD_FOURS(f64_f64_i64, double, load_f64_f64, f64, double, int64_t)

/* out[j] += g[j] and g[j] = 0, for d entries. */
static CYTHON_INLINE void carry_f32(float *g, ptrdiff_t d, double *out) {
    ptrdiff_t j = 0;
    for (; j + 4 <= d; j += 4) {
        *(four_f64 *) (out + j) += widened_f32(g + j);
        *(four_f32 *) (g + j) = (four_f32) {0};
    }
    for (; j < d; j++) {
        out[j] += g[j];
        g[j] = 0;
    }
}

#ifdef __AVX512F__
#define FASTGD_SCATTERS 1

static inline __mmask8 held(ptrdiff_t left) { return left >= 8 ? 0xff : (__mmask8)((1u << left) - 1); }

static inline __m512d values_f32(const float *x, __mmask8 m) { return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, x)); }
static inline __m512d values_f64(const double *x, __mmask8 m) { return _mm512_maskz_loadu_pd(m, x); }

#define columns_i32 _mm256_maskz_loadu_epi32
#define columns_i64 _mm512_maskz_loadu_epi64

#define FASTGD_OVER(x_name, real, i_name, index, columns)                                                             \
    static inline double gather_dot_##x_name##_##i_name(                                                              \
        const real *x, const index *column, ptrdiff_t count, const double *w)                                         \
    {                                                                                                                 \
        __m512d sum = _mm512_setzero_pd();                                                                            \
        for (ptrdiff_t k = 0; k < count; k += 8) {                                                                    \
            __mmask8 m = held(count - k);                                                                             \
            columns at = columns_##i_name(m, column + k);                                                             \
            __m512d met = _mm512_mask_##i_name##gather_pd(_mm512_setzero_pd(), m, at, w, 8);                          \
            sum = _mm512_fmadd_pd(values_##x_name(x + k, m), met, sum);                                               \
        }                                                                                                             \
        return _mm512_reduce_add_pd(sum);                                                                             \
    }                                                                                                                 \
    static inline void scatter_add_##x_name##_##i_name(                                                               \
        const real *x, const index *column, ptrdiff_t count, double c, double *g)                                     \
    {                                                                                                                 \
        for (ptrdiff_t k = 0; k < count; k += 8) {                                                                    \
            __mmask8 m = held(count - k);                                                                             \
            columns at = columns_##i_name(m, column + k);                                                             \
            __m512d met = _mm512_mask_##i_name##gather_pd(_mm512_setzero_pd(), m, at, g, 8);                          \
            met = _mm512_fmadd_pd(_mm512_set1_pd(c), values_##x_name(x + k, m), met);                                 \
            _mm512_mask_##i_name##scatter_pd(g, m, at, met, 8);                                                       \
        }                                                                                                             \
    }

#else
#define FASTGD_SCATTERS 0
#define FASTGD_OVER(x_name, real, i_name, index, columns)                                                             \
    static inline double gather_dot_##x_name##_##i_name(                                                              \
        const real *x, const index *column, ptrdiff_t count, const double *w) { return 0; }                           \
    static inline void scatter_add_##x_name##_##i_name(                                                               \
        const real *x, const index *column, ptrdiff_t count, double c, double *g) {}
#endif

FASTGD_OVER(f32, float, i32, int32_t, __m256i)
FASTGD_OVER(f32, float, i64, int64_t, __m512i)
FASTGD_OVER(f64, double, i32, int32_t, __m256i)
FASTGD_OVER(f64, double, i64, int64_t, __m512i)
#endif
