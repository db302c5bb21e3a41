/*
 * SSE2 floating point in double precision: a matrix product, an orbit integration, the Mandelbrot set. Only
 * operations whose result IEEE 754 fixes (+ - * / square root), so checksums agree everywhere.
 */
#include "bench.h"

static uint64_t bits(double d)
{
    uint64_t v;
    memcpy(&v, &d, sizeof(v));
    return v;
}

/* ---- the product of two 128 x 128 matrices, 8 times ---- */

#define N 128
static double *matrix_a, *matrix_b, *matrix_c;

static void matrix_prepare(void)
{
    if (matrix_a) return;
    matrix_a = page_alloc(N * N * 8 / 4096);
    matrix_b = page_alloc(N * N * 8 / 4096);
    matrix_c = page_alloc(N * N * 8 / 4096);
}

static uint64_t matrix_run(unsigned scale)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < N * N; i++) {
        matrix_a[i] = (double)(int)(i % 17) - 8;
        matrix_b[i] = (double)(int)(i % 23) / 7;
    }
    for (unsigned round = 0; round < 8 * scale; round++) {
        for (unsigned i = 0; i < N; i++)
            for (unsigned j = 0; j < N; j++) {
                double s = 0;
                for (unsigned k = 0; k < N; k++) s += matrix_a[i * N + k] * matrix_b[k * N + j];
                matrix_c[i * N + j] = s;
            }
        for (unsigned i = 0; i < N * N; i += 101) sum = bench_mix(sum, bits(matrix_c[i]));
        matrix_a[round % (N * N)] = matrix_c[round] / 1000;
    }
    return sum;
}

/* ---- five bodies, 200,000 steps ---- */

#define BODIES 5
struct body {
    double x[3], v[3], mass;
};

static double square_root(double d)
{
    asm("sqrtsd %0, %0" : "+x"(d));
    return d;
}

static uint64_t bodies_run(unsigned scale)
{
    struct body b[BODIES];
    for (int i = 0; i < BODIES; i++) {
        b[i].mass = i ? 0.001 * i : 40;
        for (int k = 0; k < 3; k++) {
            b[i].x[k] = i * (k == 0 ? 3.0 : 0.3) + k;
            b[i].v[k] = i * (k == 1 ? 0.9 : 0.02);
        }
    }
    for (unsigned step = 0; step < 200000 * scale; step++) {
        for (int i = 0; i < BODIES; i++)
            for (int j = i + 1; j < BODIES; j++) {
                double d[3], r2 = 0.01;
                for (int k = 0; k < 3; k++) {
                    d[k] = b[i].x[k] - b[j].x[k];
                    r2 += d[k] * d[k];
                }
                double f = 0.001 / (r2 * square_root(r2));
                for (int k = 0; k < 3; k++) {
                    b[i].v[k] -= d[k] * b[j].mass * f;
                    b[j].v[k] += d[k] * b[i].mass * f;
                }
            }
        for (int i = 0; i < BODIES; i++)
            for (int k = 0; k < 3; k++) b[i].x[k] += 0.001 * b[i].v[k];
    }
    uint64_t sum = 0;
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) sum = bench_mix(sum, bits(b[i].x[k]));
    return sum;
}

/* ---- the Mandelbrot set, 256 x 256 points, 100 iterations at most ---- */

static uint64_t mandelbrot_run(unsigned scale)
{
    uint64_t inside = 0;
    for (unsigned round = 0; round < 4 * scale; round++)
        for (unsigned py = 0; py < 256; py++)
            for (unsigned px = 0; px < 256; px++) {
                double cx = (double)(int)px / 96 - 2, cy = (double)(int)py / 128 - 1, x = 0, y = 0;
                unsigned i = 0;
                for (; i < 100 && x * x + y * y < 4; i++) {
                    double t = x * x - y * y + cx;
                    y = 2 * x * y + cy;
                    x = t;
                }
                inside += i;
            }
    return inside;
}

const struct workload bench_fp[] = {
    {"matrix", "SSE2: product of 128 x 128 matrices, 8 times", matrix_prepare, matrix_run, NULL},
    {"bodies", "SSE2: five bodies, 200,000 steps", NULL, bodies_run, NULL},
    {"mandelbrot", "SSE2: the Mandelbrot set, 4 times", NULL, mandelbrot_run, NULL},
    {0},
};
