// The x87 of cpu/instructions/portable_x87.c against the host's (the long way of cpu/instructions/x87.c):
// each instruction on random registers, tags, control and status words, with and without masks. All of the
// state must be the same, the flags, and what is stored.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "tests/float_test.h"

#include "cpu/engine/fp.h"
#include "cpu/engine/insn.h"
#include "cpu/host/host.h"
#include "cpu/instructions/x87.h"

exec_fn op_x87_reg, op_x87_load, op_x87_store;

static void random_state(struct fpu_state *f)
{
    memset(f, 0, sizeof *f);
    static const u16 precision[] = {0, 0x200, 0x300};
    f->fcw = (u16)(0x40 | (pick(3) ? 0x3F : pick(64)) | precision[pick(3)] | pick(4) << 10);
    f->fsw = (u16)rnd() & (u16) ~(FSW_ES | FSW_B);
    if (pick(4)) f->fsw &= (u16)(f->fcw | ~0x3F); // else exceptions are pending: as with CR0.NE clear
    x87_update_es(f);
    u64 kinds = rnd();
    for (unsigned i = 0; i < 8; i++) {
        u64 m = rnd();
        u16 e = (u16)(0x3FFF - 70 + pick(140));
        switch (kinds >> 4 * i & 7) {
        case 0: e = 0; break;
        case 1: e = 0x7FFF; break;
        case 2: e = (u16)(pick(2) ? 1 : 0x7FFE); break;
        case 3: e = (u16)rnd() & 0x7FFF; break;
        default: break;
        }
        if (pick(8)) m |= BIT(63);
        if (!pick(3)) m &= pick(2) ? BIT(63) : 3 * BIT(62);
        f->r[i].m = m, f->r[i].se = (u16)(e | (rnd() & 0x8000));
        if (!pick(8)) f->ftw |= (u16)(3 << 2 * i);
    }
}

// The transcendental ones: within a unit in the last place, where they are defined.
static bool transcendental(u8 op, u8 modrm)
{
    return op == 0xD9 &&
           (modrm == 0xFB || modrm >= 0xFE || modrm == 0xF9 || (modrm >= 0xF0 && modrm <= 0xF3));
}
static bool near(const struct fpu_state *host, const struct fpu_state *ours, unsigned p)
{
    u64 a = host->r[p].m, b = ours->r[p].m;
    int e = host->r[p].se - ours->r[p].se;
    if (!e) return a - b + 1 <= 2;
    return e == 1 ? a == BIT(63) && b == UINT64_MAX : e == -1 && b == BIT(63) && a == UINT64_MAX;
}
static bool defined(u8 modrm, const struct fpu_state *f)
{
    unsigned e = f->r[x87_top(f)].se & 0x7FFF;
    return (modrm != 0xF0 && modrm != 0xF9) || e < 0x3FFD;
}
static void forgive(const struct fpu_state *from, const struct fpu_state *host, struct fpu_state *ours)
{
    for (unsigned p = 0; p < 8; p++)
        if (near(host, ours, p)) ours->r[p].m = host->r[p].m, ours->r[p].se = host->r[p].se;
    // C1 is of the rounding, if not of a stack fault; PE and UE may be there for what is exact
    u16 open = 0x30 | (host->fsw & ~from->fsw & FSW_SF ? 0 : 0x200);
    ours->fsw = (u16)((ours->fsw & ~open) | (host->fsw & open));
    x87_update_es(ours);
}

static void check(const char *what, unsigned op, unsigned modrm, const struct fpu_state *from,
                  const struct fpu_state *host, const struct fpu_state *ours)
{
    compared++;
    // How far a reduction goes that is not complete is the processor's choice.
    if (!strncmp(what, "fprem", 5) && host->fsw & ours->fsw & 0x400 && !__builtin_cpu_is("amd")) return;
    if (!memcmp(host, ours, sizeof *host) || wrong++ > 20) return;
    print_error("%s, %02x %02x, fcw %04x, fsw %04x, ftw %04x: host fsw %04x, ftw %04x, ours %04x, %04x\n",
                what, op, modrm, from->fcw, from->fsw, from->ftw, host->fsw, host->ftw, ours->fsw, ours->ftw);
    for (unsigned i = 0; i < 8; i++) {
        unsigned p = (x87_top(from) + i) & 7;
        print_error("  st%u (before) %04x %016llx: host %04x %016llx, ours %04x %016llx\n", i, from->r[p].se,
                    (unsigned long long)from->r[p].m, host->r[p].se, (unsigned long long)host->r[p].m,
                    ours->r[p].se, (unsigned long long)ours->r[p].m);
    }
}

static void instructions(void **state)
{
    if (!fp_host_capable() || !HOST_FP) skip();
    unsigned seen = 0;
    for (unsigned i = 0; i < rows_n; i++) {
        const struct row *r = &rows[i];
        exec_fn *body = r->body->checked[W32];
        u8 digit = (u8)row_digit(r), op = (u8)r->opcode;
        if (body != op_x87_reg && body != op_x87_load && body != op_x87_store) continue;
        seen++;
        for (unsigned long n = 0; n < rounds / 10; n++) {
            struct fpu_state from, host, ours;
            u16 fl = (u16)((rnd() & 0xD5) << 8 | 0x200 | (rnd() & 1)), host_fl = fl, our_fl = fl;
            random_state(&from);
            host = ours = from;
            if (body == op_x87_reg) {
                u8 modrm = r->modrm & MODRM_EXACT ? (u8)r->modrm : (u8)(0xC0 | digit << 3 | pick(8));
                if (transcendental(op, modrm) && (!defined(modrm, &from) || !__builtin_cpu_is("amd")))
                    continue;
                portable_x87_reg(&ours, op, modrm, &our_fl);
                x87_long_reg(&host, op, modrm, &host_fl);
                if (transcendental(op, modrm)) forgive(&from, &host, &ours);
                check(r->name, op, modrm, &from, &host, &ours);
                bool compares = digit == 5 || digit == 6;
                if ((op == 0xDB || op == 0xDF) && compares && host_fl != our_fl)
                    wrong++, print_error("%s: flags\n", r->name);
                continue;
            }
            u8 mem[16] = {0}, host_mem[16], our_mem[16];
            u64 x = pick(2)   ? rnd()
                    : pick(2) ? from.r[0].m
                              : (u64)pick(3) << 62 | (u64)pick(3) << 22 | pick(2);
            if (pick(4) == 0) x = pick(2) ? 0x3FF0000000000000 : 0x3F800000; // 1.0
            memcpy(mem, &x, 8);
            memcpy(mem + 8, &from.r[1].se, 2);
            if (op == 0xDF && digit == 4) // FBLD: of digits
                for (unsigned k = 0; k < 9; k++) mem[k] = (u8)(pick(10) | pick(10) << 4);
            memcpy(host_mem, mem, 16), memcpy(our_mem, mem, 16);
            if (body == op_x87_load) {
                x87_long_load(&host, op, digit, host_mem);
                portable_x87_load(&ours, op, digit, our_mem);
            } else {
                bool a = x87_long_store(&host, op, digit, host_mem),
                     b = portable_x87_store(&ours, op, digit, our_mem);
                if (a != b) wrong++, print_error("%s: whether it stores\n", r->name);
            }
            check(r->name, op, digit, &from, &host, &ours);
            if (memcmp(host_mem, our_mem, 16)) wrong++, print_error("%s: memory\n", r->name);
        }
    }
    assert_int_equal(wrong, 0);
    assert_true(seen > 90);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(instructions)};
    return float_main(argc, argv, tests, ARRAY_LEN(tests));
}
