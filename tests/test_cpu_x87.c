// The two ways of cpu/instructions/x87.c, each on the host's own x87, leave the same state: every instruction
// that computes, over random registers.
#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/engine/fp.h"
#include "cpu/engine/insn.h"
#include "cpu/host/host.h"
#include "cpu/instructions/x87.h"

enum { ROUNDS = 3000 };
exec_fn op_x87_reg, op_x87_load, op_x87_store;
static u64 seed = 0x243F6A8885A308D3;
static u64 rnd(void) // xorshift*
{
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return seed * 0x2545F4914F6CDD1D;
}

static void random_value(u64 *m, u16 *se)
{
    // clang-format off
    static const struct { u64 m; u16 se; } special[] = {
        {0, 0}, {0, 0x8000}, {1ull << 63, 0x3FFF}, {1ull << 63, 0xBFFF}, {3ull << 62, 0x4000}, {1ull << 63, 0x7FFF}, {1ull << 63, 0xFFFF},
        {3ull << 62, 0x7FFF}, {(1ull << 63) | 1, 0x7FFF}, {1, 0}, {1ull << 62, 0x8000}, {~0ull, 0x7FFE}, {1ull << 63, 1}, {1ull << 62, 0x3FFF},
        {1ull << 63, 0x403E}, {1ull << 63, 0xC01E}, {(1ull << 63) | 3, 0x3FBF},
    };
    // clang-format on
    unsigned kind = rnd() % 4;
    if (kind == 0) {
        unsigned i = rnd() % ARRAY_LEN(special);
        *m = special[i].m, *se = special[i].se;
    } else {
        *m = rnd() | 1ull << 63;
        *se = (u16)(kind == 1 ? rnd() : 0x3FFF - 40 + rnd() % 80) | (u16)(rnd() & 0x8000);
        if (kind == 3) *m &= ~0ull << (rnd() % 64) | 1ull << 63;
    }
}

static void random_state(struct fpu_state *f)
{
    memset(f, 0, sizeof *f);
    for (unsigned i = 0; i < 8; i++) random_value(&f->r[i].m, &f->r[i].se);
    f->fcw = (u16)(FCW_RESET & ~0xF00) | (u16)(rnd() & 0xF00); // precision and rounding
    if (rnd() % 16 == 0) f->fcw &= (u16) ~(1 << rnd() % 6);
    f->fsw = (u16)rnd() & (u16) ~(FSW_ES | FSW_B);
    if (f->fsw & ~f->fcw & 0x3F) f->fsw &= (u16)~0x3F; // nothing pending
    for (unsigned i = 0; i < 8; i++)
        if (rnd() % 8 == 0) f->ftw |= (u16)(3 << 2 * i);
}

static void compare(const char *what, unsigned op, unsigned modrm, const struct fpu_state *from,
                    const struct fpu_state *a, const struct fpu_state *b)
{
    if (!memcmp(a, b, sizeof *a)) return;
    fail_msg("%s, %02x %02x, fcw %04x, fsw %04x, ftw %04x: the short way leaves fsw %04x, ftw %04x, the long "
             "one %04x, %04x",
             what, op, modrm, from->fcw, from->fsw, from->ftw, a->fsw, a->ftw, b->fsw, b->ftw);
}

static void registers(void **state)
{
    if (!fp_host_capable() || !HOST_FP) skip();
    unsigned taken[8] = {0};
    for (unsigned i = 0; i < rows_n; i++) {
        const struct row *r = &rows[i];
        if (r->body->checked[W32] != op_x87_reg) continue;
        for (unsigned n = 0; n < ROUNDS; n++) {
            struct fpu_state from, a, b;
            u16 fl = (u16)((rnd() & 0xD5) << 8 | 0x200 | (rnd() & 1)), fla = fl, flb = fl;
            u8 modrm = r->modrm & MODRM_EXACT ? (u8)r->modrm : (u8)(0xC0 | row_digit(r) << 3 | (rnd() & 7));
            random_state(&from);
            a = b = from;
            bool went = x87_short_reg(&a, r->opcode, modrm, &fla);
            if (went) x87_long_reg(&b, r->opcode, modrm, &flb);
            compare(r->name, r->opcode, modrm, &from, &a, &b);
            assert_int_equal(fla, flb);
            taken[r->opcode & 7] += went;
        }
    }
    assert_true(taken[0] && taken[1] && taken[3] && taken[4] && taken[5] && taken[6] && taken[7]);
    assert_true(taken[0] > ROUNDS);
}

static void memory(void **state)
{
    if (!fp_host_capable() || !HOST_FP) skip();
    unsigned loads = 0, stores = 0;
    for (unsigned i = 0; i < rows_n; i++) {
        const struct row *r = &rows[i];
        u8 digit = (u8)row_digit(r);
        if (r->body->checked[W32] != op_x87_load && r->body->checked[W32] != op_x87_store) continue;
        for (unsigned n = 0; n < ROUNDS; n++) {
            struct fpu_state from, a, b;
            u8 ma[16] = {0}, mb[16] = {0};
            u16 sw;
            random_state(&from);
            a = b = from;
            if (r->body->checked[W32] == op_x87_load) {
                u64 x = rnd();
                u16 se;
                if (r->opcode == 0xDB) random_value(&x, &se), memcpy(ma + 8, &se, 2);
                if (rnd() % 4 == 0) x = rnd() % 2 ? 0x3FF0000000000000 : 0x3F800000; // 1.0
                memcpy(ma, &x, 8);
                memcpy(mb, ma, 16);
                if (x87_short_load(&a, r->opcode, digit, ma)) {
                    x87_long_load(&b, r->opcode, digit, mb);
                    loads++;
                }
            } else if (x87_short_store(&a, r->opcode, digit, ma, &sw)) {
                compare(r->name, r->opcode, digit, &from, &a, &from); // nothing yet
                x87_short_stored(&a, digit, sw);
                assert_true(x87_long_store(&b, r->opcode, digit, mb));
                stores++;
            }
            compare(r->name, r->opcode, digit, &from, &a, &b);
            assert_memory_equal(ma, mb, sizeof ma);
        }
    }
    assert_true(loads > 10 * ROUNDS && stores > 5 * ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(registers), cmocka_unit_test(memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
