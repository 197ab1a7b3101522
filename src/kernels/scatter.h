/* Entries of a sparse row eight at a time, by the gather and scatter instructions of AVX-512, for sparse.pyx.

   In Cython they cannot be had: compilers make of loops over eight entries narrower vectors that go through memory.

       gather_dot(x, column, count, w)         sum_k x[k] w[column[k]]
       scatter_add(x, column, count, c, g)     g[column[k]] += c x[k], of columns that are all different

   for float and double x and 32-bit and 64-bit columns. SCATTERS says whether this instruction set has them. */
#ifndef FASTGD_SCATTER_H
#define FASTGD_SCATTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __AVX512F__
#define FASTGD_SCATTERS 1
#include <immintrin.h>

static inline __mmask8 held(ptrdiff_t left) { return left >= 8 ? 0xff : (__mmask8)((1u << left) - 1); }

static inline __m512d values_f32(const float *x, __mmask8 m) { return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, x)); }
static inline __m512d values_f64(const double *x, __mmask8 m) { return _mm512_maskz_loadu_pd(m, x); }

#define columns_i32 _mm256_maskz_loadu_epi32
#define columns_i64 _mm512_maskz_loadu_epi64

#define FASTGD_OVER(x_name, real, i_name, index, columns)                                                             \
    static inline double gather_dot_##x_name##_##i_name(                                                              \
        const real *x, const index *column, ptrdiff_t count, const double *w)                                        \
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
