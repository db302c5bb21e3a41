// Physical memory: layout, spans over pages and over the edge of RAM, pieces that the board sees, dirty bits,
// and the call before bytes of a watched page change.
#include "tests/mmu_tables.h"

#define MIB (1024ull * 1024)

struct board_access {
    bool write;
    paddr a;
    unsigned size, cpu;
    u64 value;
};
struct board {
    struct board_access log[64];
    unsigned n;
};

static u64 board_read(void *opaque, unsigned cpu, paddr a, unsigned size)
{
    struct board *b = opaque;

    b->log[b->n++] = (struct board_access){.a = a, .size = size, .cpu = cpu};
    return 0x1122334455667788ull + a;
}
static void board_write(void *opaque, unsigned cpu, paddr a, unsigned size, u64 value)
{
    struct board *b = opaque;

    b->log[b->n++] = (struct board_access){.write = true, .a = a, .size = size, .cpu = cpu, .value = value};
}
static const struct phys_ops board_ops = {board_read, board_write};

static void test_sizes(void **state)
{
    struct phys p;
    const char *why = NULL;

    (void)state;
    assert_false(phys_init(&p, 0, &why));
    assert_non_null(why);
    why = NULL;
    assert_false(phys_init(&p, 4097, &why));
    assert_non_null(why);
    why = NULL;
    assert_false(phys_init(&p, 1ull << 60, &why));
    assert_non_null(why);

    // 3 GiB + 1 MiB: the rest appears at 4 GiB, the hole is not RAM.
    assert_true(phys_init(&p, PHYS_HOLE_FIRST + MIB, &why));
    assert_int_equal(p.low_size, PHYS_HOLE_FIRST);
    assert_int_equal(p.pages, (PHYS_HOLE_END + MIB) / 4096);
    assert_true(phys_is_ram(&p, PHYS_HOLE_FIRST - 1));
    assert_false(phys_is_ram(&p, PHYS_HOLE_FIRST));
    assert_false(phys_is_ram(&p, PHYS_HOLE_END - 1));
    assert_true(phys_is_ram(&p, PHYS_HOLE_END));
    assert_true(phys_is_ram(&p, PHYS_HOLE_END + MIB - 1));
    assert_false(phys_is_ram(&p, PHYS_HOLE_END + MIB));
    assert_null(phys_host(&p, PHYS_HOLE_FIRST));
    assert_ptr_equal(phys_host(&p, PHYS_HOLE_END + 5), p.ram + PHYS_HOLE_END + 5);
    phys_write32(&p, 0, PHYS_HOLE_END + MIB - 4, 0xCAFEF00D);
    assert_int_equal(phys_read32(&p, 0, PHYS_HOLE_END + MIB - 4), 0xCAFEF00D);
    phys_write8(&p, 0, PHYS_HOLE_FIRST - 1, 0x5A);
    assert_int_equal(phys_read8(&p, 0, PHYS_HOLE_FIRST - 1), 0x5A);
    phys_free(&p);
}

static void test_two_machines(void **state)
{
    struct phys a, b;
    const char *why;

    (void)state;
    assert_true(phys_init(&a, MIB, &why));
    assert_true(phys_init(&b, 2 * MIB, &why));
    phys_write64(&a, 0, 0x1000, 1);
    phys_write64(&b, 0, 0x1000, 2);
    assert_int_equal(phys_read64(&a, 0, 0x1000), 1);
    assert_int_equal(phys_read64(&b, 0, 0x1000), 2);
    assert_false(phys_is_ram(&a, MIB));
    assert_true(phys_is_ram(&b, MIB));
    phys_free(&a);
    assert_int_equal(phys_read64(&b, 0, 0x1000), 2);
    phys_free(&b);
}

static void test_scalars_and_spans(void **state)
{
    struct phys p;
    const char *why;
    u8 out[9000], in[9000];

    (void)state;
    assert_true(phys_init(&p, MIB, &why));
    for (unsigned i = 0; i < sizeof(out); i++) out[i] = (u8)(i * 7 + i / 256);
    phys_write(&p, 0, 0x1FFD, out, sizeof(out));
    phys_read(&p, 0, 0x1FFD, in, sizeof(in));
    assert_memory_equal(out, in, sizeof(out));
    // Little-endian scalars, also over a page boundary.
    for (paddr a = 0x2FF8; a <= 0x3001; a++) {
        phys_write64(&p, 0, a, 0x0807060504030201ull);
        for (unsigned i = 0; i < 8; i++) assert_int_equal(phys_read8(&p, 0, a + i), i + 1);
        assert_int_equal(phys_read16(&p, 0, a + 1), 0x0302);
        assert_int_equal(phys_read32(&p, 0, a + 2), 0x06050403);
        assert_true(phys_read64(&p, 0, a) == 0x0807060504030201ull);
        phys_write16(&p, 0, a + 6, 0xAABB);
        phys_write32(&p, 0, a, 0xDDCCBBEE);
        assert_true(phys_read64(&p, 0, a) == 0xAABB0605DDCCBBEEull);
    }
    phys_free(&p);
}

static void test_mmio_pieces(void **state)
{
    static const struct {
        paddr off;
        u64 size;
        unsigned n;
        unsigned sizes[8];
    } cases[] = {
        {0, 8, 1, {8}},        {0, 16, 2, {8, 8}},        {1, 1, 1, {1}},
        {1, 7, 3, {1, 2, 4}},  {3, 8, 4, {1, 4, 2, 1}},   {4, 8, 2, {4, 4}},
        {6, 4, 2, {2, 2}},     {0xFFE, 4, 2, {2, 2}},     {2, 2, 1, {2}},
        {7, 10, 3, {1, 8, 1}}, {0xFF8, 24, 3, {8, 8, 8}},
    };
    struct phys p;
    struct board b;
    const char *why;

    (void)state;
    assert_true(phys_init(&p, MIB, &why));
    assert_int_equal(phys_read32(&p, 0, 4 * MIB), 0xFFFFFFFF); // nobody there
    phys_write32(&p, 0, 4 * MIB, 1);
    p.ops = &board_ops;
    p.ops_opaque = &b;
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        u8 buf[32], expect[32];
        paddr a = 0xE0000000 + cases[i].off, at = a;

        memset(buf, 0, sizeof(buf));
        b.n = 0;
        phys_read(&p, 3, a, buf, cases[i].size);
        assert_int_equal(b.n, cases[i].n);
        for (unsigned j = 0; j < b.n; j++) {
            u64 v = 0x1122334455667788ull + at;
            assert_int_equal(b.log[j].size, cases[i].sizes[j]);
            assert_int_equal(b.log[j].a, at);
            assert_int_equal(b.log[j].cpu, 3);
            assert_false(b.log[j].write);
            memcpy(expect + (at - a), &v, cases[i].sizes[j]);
            at += cases[i].sizes[j];
        }
        assert_memory_equal(buf, expect, cases[i].size);

        b.n = 0;
        at = a;
        phys_write(&p, 1, a, buf, cases[i].size);
        assert_int_equal(b.n, cases[i].n);
        for (unsigned j = 0; j < b.n; j++) {
            u64 v = 0;
            memcpy(&v, buf + (at - a), cases[i].sizes[j]);
            assert_true(b.log[j].write);
            assert_int_equal(b.log[j].a, at);
            assert_true(b.log[j].value == v);
            at += cases[i].sizes[j];
        }
    }
    // Over the edge of RAM: RAM gets its part, the board the rest.
    b.n = 0;
    phys_write64(&p, 0, MIB - 4, 0x8877665544332211ull);
    assert_int_equal(phys_read32(&p, 0, MIB - 4), 0x44332211);
    assert_int_equal(b.n, 1);
    assert_int_equal(b.log[0].a, MIB);
    assert_int_equal(b.log[0].size, 4);
    assert_int_equal(b.log[0].value, 0x88776655);
    phys_free(&p);
}

struct told {
    struct phys *p;
    u64 lines[8]; // that it keeps, by page
    u8 watch;     // pages
    paddr guarded;
    unsigned guards;
    paddr a[8];
    u64 size[8];
    u8 old[8]; // first byte at the time of the call
    unsigned n;
};
static void on_written(void *opaque, paddr a, u64 size)
{
    struct told *t = opaque;

    t->a[t->n] = a;
    t->size[t->n] = size;
    t->old[t->n++] = t->p->ram[a];
}
static void on_guarded(void *opaque, paddr page)
{
    struct told *t = opaque;

    t->guarded = page;
    t->guards++;
}
static u64 kept(void *opaque, paddr page, bool *watched)
{
    struct told *t = opaque;

    if (t->watch >> (page >> PAGE_SHIFT) & 1) *watched = true;
    return t->lines[page >> PAGE_SHIFT];
}
static struct phys_subscriber subscriber(struct told *t)
{
    return (struct phys_subscriber){t, on_written, on_guarded, kept, NULL};
}

static void test_written_and_dirty(void **state)
{
    struct phys p;
    struct told t = {.p = &p};
    const char *why;
    u8 buf[0x3000];

    (void)state;
    assert_true(phys_init(&p, MIB, &why));
    struct phys_subscriber s = subscriber(&t);
    phys_subscribe(&p, &s);
    memset(buf, 0x77, sizeof(buf));

    phys_write64(&p, 0, 0x5000, 1);
    assert_int_equal(t.n, 0); // neither code nor watched
    for (u64 page = 0; page < p.pages; page++)
        assert_int_equal(p.dirty[page / 64] >> (page % 64) & 1, page == 5);
    phys_dirty_clear(&p);
    assert_int_equal(p.dirty[0], 0);

    // each user's bits are its own: all set at first, then what was written since it cleared them
    u64 *hash = phys_dirty_take(&p, PHYS_DIRTY_HASH), *history = phys_dirty_take(&p, PHYS_DIRTY_HISTORY);
    assert_true(hash[0] == ~0ull && history[0] == ~0ull);
    hash[0] = history[0] = 0;
    phys_mark_dirty(&p, 0x3000);
    assert_true(phys_dirty_take(&p, PHYS_DIRTY_HASH) == hash && hash[0] == BIT(3) && history[0] == BIT(3));
    assert_int_equal(p.dirty[0], 0);
    hash[0] = 0;
    phys_mark_dirty(&p, 0x4000);
    phys_dirty_take(&p, PHYS_DIRTY_HISTORY);
    assert_true(hash[0] == BIT(4) && history[0] == (BIT(3) | BIT(4)));

    t.lines[6] = 1ull << 9; // one line of page 6 holds code
    phys_guard_code(&p, 0x6000, t.lines[6]);
    t.watch = 1 << 7;
    phys_watch(&p, 0x7123);
    memset(p.ram + 0x6000, 0x11, 0x2000);
    // a store into another line is told too: whoever listens looks at the line
    phys_write8(&p, 0, 0x6000, 0x22);
    assert_int_equal(t.n, 1);
    assert_int_equal(t.a[0], 0x6000);
    assert_int_equal(t.size[0], 1);
    assert_int_equal(t.old[0], 0x11); // before the bytes change
    assert_int_equal(p.ram[0x6000], 0x22);

    t.n = 0;
    phys_write(&p, 0, 0x5FFC, buf, 0x2008); // pages 5, 6, 7, 8
    assert_int_equal(t.n, 2);
    assert_int_equal(t.a[0], 0x6000);
    assert_int_equal(t.size[0], 0x1000);
    assert_int_equal(t.old[0], 0x22);
    assert_int_equal(t.a[1], 0x7000);
    assert_int_equal(t.size[1], 0x1000);
    assert_int_equal(t.old[1], 0x11);
    assert_int_equal(p.dirty[0], 0xFull << 5);

    t.n = 0;
    phys_write32(&p, 0, 0x6FFE, 3); // a scalar over two told pages
    assert_int_equal(t.n, 2);
    assert_int_equal(t.size[0], 2);
    assert_int_equal(t.a[1], 0x7000);
    assert_int_equal(t.size[1], 2);
    phys_free(&p);
}

// Two who keep something: both are told of everything, and what one gives up stays guarded for the other.
static void test_two_subscribers(void **state)
{
    struct phys p;
    const char *why;

    (void)state;
    assert_true(phys_init(&p, MIB, &why));
    struct told t[2] = {{.p = &p}, {.p = &p}};
    struct phys_subscriber s[2] = {subscriber(&t[0]), subscriber(&t[1])};
    for (unsigned i = 0; i < 2; i++) phys_subscribe(&p, &s[i]);

    t[0].lines[2] = 3;
    phys_guard_code(&p, 0x2040, 3);
    t[1].lines[2] = 6;
    phys_guard_code(&p, 0x2080, 6);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(t[i].guards, 1); // the second line found the page guarded
        assert_int_equal(t[i].guarded >> PAGE_SHIFT, 2);
    }
    assert_int_equal(p.code[2], 7);
    phys_write8(&p, 0, 0x2800, 1); // not a line of either
    assert_true(t[0].n == 1 && t[1].n == 1 && p.code[2] == 7);
    t[0].lines[2] = 0; // as it does when told
    phys_write8(&p, 0, 0x2000, 1);
    assert_true(t[0].n == 2 && t[1].n == 2);
    assert_int_equal(p.code[2], 6);
    t[1].lines[2] = 0;
    phys_release(&p, 0x2000);
    assert_int_equal(p.code[2], 0);
    t[0].lines[2] = 1; // but what was not guarded does not become so
    phys_release(&p, 0x2000);
    assert_int_equal(p.code[2], 0);

    t[0].watch = t[1].watch = 1 << 3;
    phys_watch(&p, 0x3000);
    phys_watch(&p, 0x3000);
    assert_true(t[0].guards == 2 && t[1].guards == 2);
    t[0].watch = 0;
    phys_release(&p, 0x3FFF);
    assert_true(phys_code_or_watch(&p, 0x3000));
    t[1].watch = 0;
    phys_release(&p, 0x3000);
    assert_false(phys_code_or_watch(&p, 0x3000));

    t[0].n = t[1].n = 0;
    t[1].watch = 1 << 3;
    phys_watch(&p, 0x3000);
    phys_unsubscribe(&p, &s[0]);
    phys_write8(&p, 0, 0x3000, 1);
    assert_true(t[0].n == 0 && t[1].n == 1);
    phys_unsubscribe(&p, &s[1]);
    assert_null(p.subscribers);
    phys_free(&p);
}

static void test_lines(void **state)
{
    (void)state;
    assert_true(phys_lines(0x1000, 1) == 1 && phys_lines(0x103F, 1) == 1 && phys_lines(0x103F, 2) == 3);
    assert_true(phys_lines(0x1FFF, 1) == BIT(63) && phys_lines(0x1FBF, 0x41) == 3ull << 62);
    assert_true(phys_lines(0x1000, PAGE_SIZE) == UINT64_MAX);
}

static void test_a20(void **state)
{
    struct phys p = {.a20_masked = true};

    (void)state;
    assert_int_equal(phys_a20(&p, 0x123456), 0x023456);
    assert_int_equal(phys_a20(&p, 0x300000), 0x200000);
    p.a20_masked = false;
    assert_int_equal(phys_a20(&p, 0x123456), 0x123456);
}

int main(void)
{
    // clang-format off
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_two_machines),
        cmocka_unit_test(test_scalars_and_spans), cmocka_unit_test(test_mmio_pieces),
        cmocka_unit_test(test_written_and_dirty), cmocka_unit_test(test_two_subscribers),
        cmocka_unit_test(test_lines), cmocka_unit_test(test_a20),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}
