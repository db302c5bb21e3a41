// Pieces of memory of one size: none is in use twice, what is given comes again, and chunks end where they
// end.
#include "devices/pool.h"
#include "tests/machine_test.h"

static void pieces(void **state)
{
    static const u64 sizes[] = {8, 24, 4096, POOL_CHUNK};
    for (unsigned k = 0; k < ARRAY_LEN(sizes); k++) {
        struct pool p = {.size = sizes[k]};
        enum { N = 1200 };
        u64 *piece[N], n = sizes[k] == POOL_CHUNK ? 3 : N;
        for (u64 i = 0; i < n; i++) {
            piece[i] = pool_take(&p);
            assert_non_null(piece[i]);
            memset(piece[i], 0xA5, sizes[k]); // all of it is there
            *piece[i] = i;
        }
        for (u64 i = 0; i < n; i++) assert_int_equal(*piece[i], i);
        assert_int_equal(p.chunks, (n * sizes[k] + POOL_CHUNK - 1) / POOL_CHUNK);
        u64 chunks = p.chunks;
        pool_give(&p, NULL);
        for (u64 i = 0; i < n; i += 2) pool_give(&p, piece[i]);
        for (u64 i = 0; i < n; i += 2) *(piece[i] = pool_take(&p)) = i;
        for (u64 i = 0; i < n; i++) assert_int_equal(*piece[i], i);
        assert_int_equal(p.chunks, chunks);
        pool_forget(&p);
        assert_true(p.size == sizes[k] && !p.chunks && !p.free && !p.chunk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pieces)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
