// Floating point: scalar double arithmetic (bodies under gravity) and packed SSE2 (escape times of the
// Mandelbrot set, two points at a time).
#include "bench.h"

#include <emmintrin.h>

static double root(double x) { return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(x))); }

u64 work_fp(void)
{
    enum { BODIES = 5, STEPS = 120000 };
    double p[BODIES][3], v[BODIES][3], m[BODIES];
    for (int i = 0; i < BODIES; i++) {
        m[i] = 1.0 / (1 + i);
        for (int k = 0; k < 3; k++) {
            p[i][k] = (i + 1) * (k == i % 3 ? 1.5 : 0.25);
            v[i][k] = (k == (i + 1) % 3 ? 0.4 : -0.05) / (i + 1);
        }
    }
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < BODIES; i++)
            for (int j = i + 1; j < BODIES; j++) {
                double d[3], square = 0.01;
                for (int k = 0; k < 3; k++) {
                    d[k] = p[i][k] - p[j][k];
                    square += d[k] * d[k];
                }
                double pull = 0.001 / (square * root(square));
                for (int k = 0; k < 3; k++) {
                    v[i][k] -= d[k] * m[j] * pull;
                    v[j][k] += d[k] * m[i] * pull;
                }
            }
        for (int i = 0; i < BODIES; i++)
            for (int k = 0; k < 3; k++) p[i][k] += 0.001 * v[i][k];
    }
    u64 sum = 0, bits;
    for (int i = 0; i < BODIES; i++) {
        memcpy(&bits, &p[i][0], 8);
        sum = sum * 31 + bits;
    }
    return sum;
}

u64 work_simd(void)
{
    enum { SIZE = 450, LIMIT = 100 };
    const __m128d four = _mm_set1_pd(4.0), two = _mm_set1_pd(2.0);
    u64 sum = 0;
    for (int y = 0; y < SIZE; y++) {
        __m128d ci = _mm_set1_pd(2.0 * y / SIZE - 1.0);
        for (int x = 0; x < SIZE; x += 2) {
            __m128d cr = _mm_set_pd(2.5 * (x + 1) / SIZE - 2.0, 2.5 * x / SIZE - 2.0);
            __m128d zr = _mm_setzero_pd(), zi = _mm_setzero_pd();
            __m128i count = _mm_setzero_si128();
            for (int i = 0; i < LIMIT; i++) {
                __m128d rr = _mm_mul_pd(zr, zr), ii = _mm_mul_pd(zi, zi);
                __m128d inside = _mm_cmplt_pd(_mm_add_pd(rr, ii), four);
                if (!_mm_movemask_pd(inside)) break;
                count = _mm_sub_epi64(count, _mm_castpd_si128(inside));
                zi = _mm_add_pd(_mm_mul_pd(_mm_mul_pd(two, zr), zi), ci);
                zr = _mm_add_pd(_mm_sub_pd(rr, ii), cr);
            }
            sum = sum * 31 + (u64)_mm_cvtsi128_si64(count);
            sum = sum * 31 + (u64)_mm_cvtsi128_si64(_mm_unpackhi_epi64(count, count));
        }
    }
    return sum;
}
