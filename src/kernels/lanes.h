/* Vectors as gcc and clang have them on every machine, and the sums of their lanes, of four vectors at a time. */
#ifndef FASTGD_LANES_H
#define FASTGD_LANES_H

#ifdef __AVX__
#include <immintrin.h>
#endif
#pragma GCC diagnostic ignored "-Wpsabi"        /* no vector crosses a call */

#ifdef __clang__
#define PICK(places, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(places, a, b, ...) __builtin_shuffle(a, b, (places) {__VA_ARGS__})
#endif
/* Sums of neighbouring lanes, of a and b in turn; and sums of lanes two apart. */
#define FOUR_PAIRS(places, a, b) (PICK(places, a, b, 0, 4, 2, 6) + PICK(places, a, b, 1, 5, 3, 7))
#define FOUR_TWOS(places, a, b) (PICK(places, a, b, 0, 1, 4, 5) + PICK(places, a, b, 2, 3, 6, 7))
#define EIGHT_PAIRS(places, a, b) \
    (PICK(places, a, b, 0, 8, 2, 10, 4, 12, 6, 14) + PICK(places, a, b, 1, 9, 3, 11, 5, 13, 7, 15))
#define EIGHT_TWOS(places, a, b) \
    (PICK(places, a, b, 0, 1, 4, 5, 8, 9, 12, 13) + PICK(places, a, b, 2, 3, 6, 7, 10, 11, 14, 15))

/* Doubles in a vector, of which ten and some fit into the registers. */
#ifdef __AVX512F__
#define FASTGD_LANES 8
#define PAIRS EIGHT_PAIRS
#define TWOS EIGHT_TWOS
#else
#define FASTGD_LANES 4
#define PAIRS FOUR_PAIRS
#define TWOS FOUR_TWOS
#endif

typedef double lanes __attribute__((vector_size(8 * FASTGD_LANES), aligned(8), may_alias));
typedef long long places __attribute__((vector_size(8 * FASTGD_LANES)));
typedef float half_lanes __attribute__((vector_size(4 * FASTGD_LANES), aligned(4), may_alias));

static CYTHON_INLINE lanes all_lanes(double value) { return (lanes) {0} + value; }

static CYTHON_INLINE lanes widened(const float *x) {
#if defined(__AVX512F__)
    return (lanes) _mm512_cvtps_pd(_mm256_loadu_ps(x));     /* of the last, gcc 12 makes six instructions */
#elif defined(__AVX__)
    return (lanes) _mm256_cvtps_pd(_mm_loadu_ps(x));
#else
    return __builtin_convertvector(*(const half_lanes *) x, lanes);
#endif
}

/* The sums of a, b, c and d, in the first four lanes. */
static CYTHON_INLINE lanes sums_of_lanes(lanes a, lanes b, lanes c, lanes d) {
    lanes ab = PAIRS(places, a, b), cd = PAIRS(places, c, d);
    lanes sums = TWOS(places, ab, cd);
    if (FASTGD_LANES == 8)
        sums = TWOS(places, sums, sums);
    return sums;
}
#endif
