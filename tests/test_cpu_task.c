// Task switches: SDM chapter 9. What is saved and loaded (figures 9-2, 9-10), the flags of table 9-2, each
// check of table 9-1 with the task that its fault belongs to, and the pseudo-code of JMP, CALL, INT n, IRET
// for the rest. The new task runs at level 3, so that its faults have a stack: that of its TSS.
#include "cpu_machine.h"

#include "cpu/system/debug.h"

static struct tm *t;
#define S (t->v->s)

// The tasks: of the kernel (OLD, where the machine begins), and another (NEW), each with a 32-bit and a
// 16-bit TSS.
enum {
    OLD16_TSS = 0x4800,
    NEW_TSS = 0x6000,
    NEW16_TSS = 0x6200,
    NEW_CODE = 0x7800,
    NEW_STACK = 0x3A000,
    NEW_KERNEL = 0x26000
};
enum {
    SEL_OLD16 = 0xE0,
    SEL_NEW = 0xE8,
    SEL_NEW16 = 0xF0,
    SEL_TASK = 0xF8,
    SEL_TASK16 = 0x100,
    SEL_MORE = 0x108,
    TABLE_END = 0x120
};
enum { VECTOR = 0x77 }; // a task gate of level 3

static void put16(u64 a, u16 x) { tm_write(t, a, &x, 2); }
static void put32(u64 a, u32 x) { tm_write(t, a, &x, 4); }
static unsigned ar_byte(u16 sel) { return (unsigned)tm_read(t, GDT + (sel & 0xFFF8) + 5, 1); }

// Offsets in a TSS: 32 bits, 16 bits.
struct offsets {
    u8 n, eip, flags, gpr, seg, step, count, ldt;
};
static const struct offsets wide = {4, 0x20, 0x24, 0x28, 0x48, 4, 6, 0x60},
                            narrow = {2, 0x0E, 0x10, 0x12, 0x22, 2, 4, 0x2A};

static void task_gate(u64 at, u16 tss, unsigned ar) { tm_write64(t, at, (u64)tss << 16 | (u64)ar << 40); }

static void new_task(u64 tss, const struct offsets *o)
{
    memset(t->p.ram + tss, 0, 0x68);
    static const u16 sel[] = {SEL_UDATA | 3, SEL_UCODE32 | 3, SEL_UDATA | 3, SEL_UDATA | 3, 0, SEL_UDATA};
    if (o == &wide) {
        put32(tss + 4, NEW_KERNEL), put32(tss + 8, SEL_DATA), put32(tss + 0x64, 0x680000);
        put32(tss + 0x1C, (u32)S.cr3);
    } else
        put16(tss + 2, NEW_KERNEL & 0xFFFF), put16(tss + 4, SEL_DATA16);
    for (unsigned i = 0; i < o->n; i++) {
        t->p.ram[tss + o->eip + i] = (u8)((u32)NEW_CODE >> 8 * i);
        t->p.ram[tss + o->flags + i] = (u8)((u32)(FL_CF | 2) >> 8 * i);
    }
    for (unsigned i = 0; i < 8; i++)
        for (unsigned k = 0; k < o->n; k++)
            t->p.ram[tss + o->gpr + o->n * i + k] = (u8)((i == RSP ? NEW_STACK : 0xA1B2C300u + i) >> 8 * k);
    for (unsigned i = 0; i < o->count; i++) put16(tss + o->seg + o->step * i, sel[i]);
}

// The kernel's task, of the one or the other TSS, about to switch.
static void kernel(bool in16)
{
    static const u8 handler[] = {0xCD, 0x80}; // the new task's program: INT 80h
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) tm_load(t, i, SEL_DATA);
    tm_load(t, SEG_CS, SEL_CODE32);
    for (unsigned i = 0; i < 16; i++) S.gpr[i] = i < 8 ? 0x11223300u + i : 0;
    S.gpr[RSP] = STACK;
    cpu_set_rflags(t->v, 2 | FL_ZF);
    S.cr0 &= ~(u64)CR0_TS;
    S.dr[6] = 0xFFFF0FF0, S.dr[7] = 0x400;
    S.seg[SEG_LDTR] = (struct segment){.ar = AR_UNUSABLE};
    S.gdtr.limit = TABLE_END - 1;
    struct {
        u16 sel;
        u32 base, limit, type;
    } d[] = {{SEL_TSS, TSS, 0x167, 9},
             {SEL_OLD16, OLD16_TSS, 0x2B, 1},
             {SEL_NEW, NEW_TSS, 0x67, 9},
             {SEL_NEW16, NEW16_TSS, 0x2B, 1}};
    u16 now = in16 ? SEL_OLD16 : SEL_TSS;
    for (unsigned i = 0; i < 4; i++)
        tm_write64(t, GDT + d[i].sel,
                   tm_descriptor(d[i].base, d[i].limit, AR_P | d[i].type | (d[i].sel == now ? 2 : 0)));
    tm_load(t, SEG_TR, now);
    task_gate(GDT + SEL_TASK, SEL_NEW, 0x85), task_gate(GDT + SEL_TASK16, SEL_NEW16, 0x85);
    tm_write64(t, GDT + SEL_MORE, 0), tm_write64(t, GDT + SEL_MORE + 8, 0),
        tm_write64(t, GDT + SEL_MORE + 16, 0);
    new_task(NEW_TSS, &wide), new_task(NEW16_TSS, &narrow);
    tm_write(t, NEW_CODE, handler, sizeof handler);
    task_gate(IDT + 8 * VECTOR, SEL_NEW, 0xE5);
    for (unsigned v = 0; v < 0x20; v++) tm_gate(t, v, SEL_CODE32, 14, 0, 0, false);
    cpu_mode_changed(t->v);
}

static u64 sp(void) { return S.seg[SEG_SS].ar & AR_DB ? S.gpr[RSP] : S.gpr[RSP] & 0xFFFF; }

enum how { BY_JMP, BY_CALL, BY_INT, BY_IRET, BY_GATE };
static int go(enum how how, u16 sel)
{
    u8 s0 = (u8)sel, s1 = (u8)(sel >> 8);
    switch (how) {
    case BY_JMP:
    case BY_GATE: return TM_RUN(t, 0xEA, 0x99, 0x99, 0x99, 0x99, s0, s1); // the offset says nothing
    case BY_CALL: return TM_RUN(t, 0x9A, 0x99, 0x99, 0x99, 0x99, s0, s1);
    case BY_INT: return TM_RUN(t, 0xCD, VECTOR);
    default: S.rflags |= FL_NT; return TM_RUN(t, 0xCF);
    }
}

static int setup(void **s)
{
    t = tm_new(TM_PROTECTED);
    if (*s) t->v->loop_engine = true;
    return 0;
}
static int teardown(void **s) { return tm_free(t), 0; }

// ---- what is saved and loaded, and table 9-2 ----
static void tasks_switch(void **state)
{
    for (unsigned from16 = 0; from16 < 2; from16++)
        for (unsigned to16 = 0; to16 < 2; to16++)
            for (enum how how = BY_JMP; how <= BY_GATE; how++) {
                const struct offsets *f = from16 ? &narrow : &wide, *o = to16 ? &narrow : &wide;
                u16 old = from16 ? SEL_OLD16 : SEL_TSS, sel = to16 ? SEL_NEW16 : SEL_NEW;
                u64 from = from16 ? OLD16_TSS : TSS, to = to16 ? NEW16_TSS : NEW_TSS;
                kernel(from16);
                S.dr[7] = 0x7FF;
                if (how == BY_IRET) {
                    put16(from, sel);
                    t->p.ram[GDT + sel + 5] |= 2;
                }
                if (to16) task_gate(IDT + 8 * VECTOR, SEL_NEW16, 0xE5);
                bool nested = how == BY_CALL || how == BY_INT;
                assert_int_equal(go(how, how == BY_GATE ? to16 ? SEL_TASK16 : SEL_TASK : sel), 0x80);
                // The new task, in the handler of its INT 80h, on the stack of its TSS.
                assert_int_equal(S.seg[SEG_TR].sel, sel);
                assert_int_equal(S.seg[SEG_TR].ar & 0xF, to16 ? 3 : 11);
                assert_int_equal(S.seg[SEG_TR].base, to);
                assert_true(S.cr0 & CR0_TS);
                assert_int_equal(S.dr[7], 0x6AA); // L0-L3, LE
                assert_int_equal(tm_read(t, sp(), 4), NEW_CODE + 2);
                u32 flags = (u32)tm_read(t, sp() + 8, 4);
                assert_int_equal(flags, FL_CF | 2 | (nested ? FL_NT : 0));
                assert_int_equal(tm_read(t, sp() + 4, 2), SEL_UCODE32 | 3);
                for (unsigned i = 0; i < 8; i++) {
                    u32 x = i == RSP ? NEW_STACK : 0xA1B2C300u + i;
                    u32 loaded = i == RSP ? (u32)tm_read(t, sp() + 12, 4) : (u32)S.gpr[i];
                    assert_int_equal(loaded, to16 ? 0xFFFF0000 | (x & 0xFFFF) : x);
                }
                assert_int_equal(S.seg[SEG_DS].sel, SEL_UDATA | 3);
                assert_int_equal(S.seg[SEG_DS].ar & 0xFF, 0xF3);
                assert_int_equal(S.seg[SEG_FS].sel, 0);
                assert_int_equal(S.seg[SEG_GS].sel, to16 ? 0 : SEL_UDATA);
                // The old one.
                unsigned length = how == BY_IRET ? 1 : how == BY_INT ? 2 : 7;
                assert_int_equal(tm_read(t, from + f->eip, f->n), CODE + length);
                assert_int_equal(tm_read(t, from + f->flags, f->n), 2 | FL_ZF); // of IRET without NT
                for (unsigned i = 0; i < 8; i++) {
                    u32 x = i == RSP ? STACK : 0x11223300u + i;
                    assert_int_equal(tm_read(t, from + f->gpr + f->n * i, f->n), from16 ? x & 0xFFFF : x);
                }
                for (unsigned i = 0; i < f->count; i++)
                    assert_int_equal(tm_read(t, from + f->seg + f->step * i, 2),
                                     i == 1 ? SEL_CODE32 : SEL_DATA);
                // Busy, busy, link.
                assert_int_equal(ar_byte(old), (from16 ? 0x81 : 0x89) | (nested ? 2 : 0));
                assert_int_equal(ar_byte(sel), to16 ? 0x83 : 0x8B);
                assert_int_equal(tm_read(t, to, 2), nested ? old : 0);
                (void)o;
            }
    assert_int_equal(t->v->unimplemented_n, 0);
}

// CALL, and IRET back: the old task goes on behind the CALL, with its NT; the new one has lost its NT.
static void there_and_back(void **state)
{
    kernel(false);
    put16(NEW_TSS + 0x4C, SEL_CODE32), put16(NEW_TSS + 0x50, SEL_DATA); // of level 0
    tm_write(t, NEW_CODE, "\x40\xCF\x40\xCF", 4);                       // inc eax; iret; inc eax; iret
    // call; call; hlt: the second time it goes on behind its IRET
    assert_int_equal(TM_RUN(t, 0x9A, 0, 0, 0, 0, SEL_NEW, 0, 0x9A, 0, 0, 0, 0, SEL_NEW, 0), NOTHING);
    assert_int_equal(S.rip, CODE + 15);
    assert_int_equal(S.seg[SEG_TR].sel, SEL_TSS);
    assert_int_equal(cpu_rflags(t->v), 2 | FL_ZF);
    for (unsigned i = 0; i < 8; i++) assert_int_equal(S.gpr[i], i == RSP ? STACK : 0x11223300u + i);
    assert_int_equal(tm_read(t, NEW_TSS + 0x28, 4), 0xA1B2C302);
    assert_int_equal(tm_read(t, NEW_TSS + 0x20, 4), NEW_CODE + 4);
    assert_int_equal(tm_read(t, NEW_TSS + 0x24, 4) & FL_NT, 0);
    assert_int_equal(ar_byte(SEL_TSS), 0x8B);
    assert_int_equal(ar_byte(SEL_NEW), 0x89);
    // NMIs are let in again.
    kernel(false);
    put16(TSS, SEL_NEW);
    t->p.ram[GDT + SEL_NEW + 5] |= 2;
    S.blocking = BLOCKING_BY_NMI;
    assert_int_equal(go(BY_IRET, 0), 0x80);
    assert_int_equal(S.blocking, 0);
}

// ---- faults ----
// In the old task nothing has changed.
static void expect_old(int got, int vector, u32 error)
{
    assert_int_equal(got, vector);
    assert_int_equal(tm_read(t, sp(), 4), error);
    assert_int_equal(tm_read(t, sp() + 4, 4), CODE);
    assert_int_equal(S.seg[SEG_TR].sel, SEL_TSS);
    assert_int_equal(ar_byte(SEL_TSS), 0x8B);
    assert_int_equal(S.gpr[RAX], 0x11223300u);
    assert_false(S.cr0 & CR0_TS);
}
// In the new one all registers are loaded, and the fault comes before the first instruction.
static void expect_new(int got, int vector, u32 error, u16 sel)
{
    assert_int_equal(got, vector);
    assert_int_equal(tm_read(t, sp(), 4), error);
    assert_int_equal(tm_read(t, sp() + 4, 4), NEW_CODE);
    assert_int_equal(tm_read(t, sp() + 12, 4) & FL_RF, FL_RF);
    assert_int_equal(S.seg[SEG_TR].sel, sel);
    assert_int_equal(ar_byte(sel) & 2, 2);
    assert_true(S.cr0 & CR0_TS);
    assert_int_equal((u32)S.gpr[RAX], 0xA1B2C300u);
}

static void which_tss(void **state)
{
    // clang-format off
    static const struct { enum how how; u16 sel; u16 change; u8 ar; u16 limit; int vector; u32 error; } c[] = {
        // JMP and CALL to a TSS: not there, its DPL, busy, not present, too small
        {BY_JMP, TABLE_END, 0, 0, 0, VEC_GP, TABLE_END}, {BY_CALL, TABLE_END, 0, 0, 0, VEC_GP, TABLE_END},
        {BY_JMP, SEL_NEW | 3, 0, 0, 0, VEC_GP, SEL_NEW}, {BY_CALL, SEL_NEW | 1, 0, 0, 0, VEC_GP, SEL_NEW},
        {BY_JMP, SEL_NEW, SEL_NEW, 0x8B, 0x67, VEC_GP, SEL_NEW}, {BY_CALL, SEL_NEW, SEL_NEW, 0x8B, 0x67, VEC_GP, SEL_NEW},
        {BY_JMP, SEL_NEW, SEL_NEW, 0x09, 0x67, VEC_NP, SEL_NEW}, {BY_CALL, SEL_NEW, SEL_NEW, 0x09, 0x67, VEC_NP, SEL_NEW},
        {BY_JMP, SEL_NEW, SEL_NEW, 0x89, 0x66, VEC_TS, SEL_NEW}, {BY_CALL, SEL_NEW, SEL_NEW, 0x89, 0x66, VEC_TS, SEL_NEW},
        {BY_JMP, SEL_NEW16, SEL_NEW16, 0x81, 0x2A, VEC_TS, SEL_NEW16}, {BY_JMP, SEL_TSS, 0, 0, 0, VEC_GP, SEL_TSS},
        // through a task gate: its DPL, not present; then the TSS
        {BY_JMP, SEL_TASK | 3, 0, 0, 0, VEC_GP, SEL_TASK}, {BY_CALL, SEL_TASK, SEL_TASK, 0x05, SEL_NEW, VEC_NP, SEL_TASK},
        {BY_JMP, SEL_TASK, SEL_NEW, 0x8B, 0x67, VEC_GP, SEL_NEW}, {BY_JMP, SEL_TASK, SEL_NEW, 0x09, 0x67, VEC_NP, SEL_NEW},
        {BY_CALL, SEL_TASK, SEL_NEW, 0x89, 0x66, VEC_TS, SEL_NEW},
        {BY_INT, 0, SEL_NEW, 0x8B, 0x67, VEC_GP, SEL_NEW}, {BY_INT, 0, SEL_NEW, 0x09, 0x67, VEC_NP, SEL_NEW},
        {BY_INT, 0, SEL_NEW, 0x89, 0x66, VEC_TS, SEL_NEW}, {BY_INT, 0, SEL_NEW, 0x93, 0x67, VEC_GP, SEL_NEW},
        // IRET: #TS, and the TSS must be busy
        {BY_IRET, 0, 0, 0, 0, VEC_TS, 0}, {BY_IRET, TABLE_END, 0, 0, 0, VEC_TS, TABLE_END},
        {BY_IRET, SEL_NEW | 4, 0, 0, 0, VEC_TS, SEL_NEW | 4}, {BY_IRET, SEL_NEW, 0, 0, 0, VEC_TS, SEL_NEW},
        {BY_IRET, SEL_NEW, SEL_NEW, 0x0B, 0x67, VEC_NP, SEL_NEW}, {BY_IRET, SEL_NEW, SEL_NEW, 0x8B, 0x66, VEC_TS, SEL_NEW},
        {BY_IRET, SEL_DATA, 0, 0, 0, VEC_TS, SEL_DATA},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        kernel(false);
        if (c[i].change == SEL_TASK)
            task_gate(GDT + SEL_TASK, SEL_NEW, c[i].ar);
        else if (c[i].change)
            tm_write64(t, GDT + c[i].change,
                       tm_descriptor(c[i].change == SEL_NEW ? NEW_TSS : NEW16_TSS, c[i].limit, c[i].ar));
        put16(TSS, c[i].sel);
        expect_old(go(c[i].how, c[i].sel), c[i].vector, c[i].error);
    }
    // Task gates that name no TSS of the GDT: #GP, of an INT n and of others.
    static const u16 named[] = {0, SEL_NEW | 4, SEL_DATA, TABLE_END, SEL_LDT, SEL_TASK};
    for (unsigned i = 0; i < ARRAY_LEN(named); i++)
        for (unsigned n = 0; n < 2; n++) {
            kernel(false);
            task_gate(GDT + SEL_TASK, named[i], 0x85), task_gate(IDT + 8 * VECTOR, named[i], 0xE5);
            expect_old(go(n ? BY_INT : BY_JMP, SEL_TASK), VEC_GP, named[i] & 0xFFFC);
        }
    // Level 3: the DPL of the gate counts, not that of the TSS; in the IDT that of the gate for INT n alone.
    kernel(false);
    tm_user(t);
    assert_int_equal(go(BY_JMP, SEL_TASK | 3), VEC_GP);
    kernel(false);
    task_gate(GDT + SEL_TASK, SEL_NEW, 0xE5);
    tm_user(t);
    assert_int_equal(go(BY_JMP, SEL_TASK | 3), 0x80);
    kernel(false);
    task_gate(IDT + 8 * VECTOR, SEL_NEW, 0x85);
    tm_user(t);
    assert_int_equal(go(BY_INT, 0), VEC_GP);
    assert_int_equal(tm_read(t, sp(), 4), VECTOR * 8 + 2);
    kernel(false);
    task_gate(IDT + 8 * VEC_UD, SEL_NEW, 0x85);
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x0B), 0x80);
    assert_int_equal(tm_read(t, TSS + 0x20, 4), CODE);
    assert_int_equal(tm_read(t, TSS + 0x24, 4) & FL_RF, FL_RF); // of a fault
    // The old TSS has no room for its state; its descriptor is beyond the GDT.
    kernel(false);
    S.seg[SEG_TR].limit = 0x5C;
    assert_int_equal(go(BY_JMP, SEL_NEW), VEC_TS);
    assert_int_equal(tm_read(t, sp(), 4), SEL_TSS);
    kernel(false);
    S.seg[SEG_TR].limit = 0x5D;
    assert_int_equal(go(BY_JMP, SEL_NEW), 0x80);
}

// Table 9-1 from "LDT segment selector of new task is valid" on.
static void which_segments(void **state)
{
    enum { ES = 0x48, CS = 0x4C, SS = 0x50, DS = 0x54, FS = 0x58, GS = 0x5C, LDTR = 0x60 };
    // clang-format off
    static const struct { u8 field; u16 sel; int vector; u16 error; u32 more; } c[] = {
        {LDTR, SEL_LDT | 4, VEC_TS, SEL_LDT | 4, 0}, {LDTR, TABLE_END, VEC_TS, TABLE_END, 0}, {LDTR, SEL_DATA, VEC_TS, SEL_DATA, 0},
        {LDTR, SEL_MORE, VEC_TS, SEL_MORE, 2}, // not present
        {CS, SEL_UCODE32 | 1, VEC_TS, SEL_UCODE32, 0}, {CS, SEL_CODE32 | 3, VEC_TS, SEL_CODE32, 0}, {CS, 3, VEC_TS, 0, 0},
        {CS, SEL_UDATA | 3, VEC_TS, SEL_UDATA, 0}, {CS, TABLE_END | 3, VEC_TS, TABLE_END, 0}, {CS, SEL_LDT | 3, VEC_TS, SEL_LDT, 0},
        {CS, SEL_MORE | 3, VEC_NP, SEL_MORE, AR_S | AR_CODE | AR_READABLE | AR_DPL | AR_DB},
        {CS, SEL_MORE | 1, VEC_TS, SEL_MORE, AR_P | AR_S | AR_CODE | AR_CONFORMING | AR_DPL | AR_DB},
        {CS, 7, VEC_TS, 4, 0}, // in an LDT, which there is none of
        {SS, 0, VEC_TS, 0, 0}, {SS, 3, VEC_TS, 0, 0}, {SS, SEL_DATA, VEC_TS, SEL_DATA, 0}, {SS, SEL_UDATA, VEC_TS, SEL_UDATA, 0},
        {SS, SEL_DATA | 3, VEC_TS, SEL_DATA, 0}, {SS, SEL_UCODE32 | 3, VEC_TS, SEL_UCODE32, 0}, {SS, SEL_LDT | 3, VEC_TS, SEL_LDT, 0},
        {SS, SEL_MORE | 3, VEC_SS, SEL_MORE, AR_S | AR_WRITABLE | AR_DPL | AR_DB}, {SS, TABLE_END | 3, VEC_TS, TABLE_END, 0},
        {SS, SEL_MORE | 3, VEC_TS, SEL_MORE, AR_P | AR_S | AR_DPL | AR_DB}, // not writable
        {DS, SEL_DATA, VEC_TS, SEL_DATA, 0}, {DS, TABLE_END, VEC_TS, TABLE_END, 0}, {DS, SEL_LDT, VEC_TS, SEL_LDT, 0},
        {DS, SEL_MORE, VEC_NP, SEL_MORE, AR_S | AR_DPL}, {ES, SEL_CODE_XO, VEC_TS, SEL_CODE_XO, 0}, {ES, SEL_DATA | 3, VEC_TS, SEL_DATA, 0},
        {FS, SEL_MORE | 3, VEC_NP, SEL_MORE, AR_S | AR_DPL}, {GS, TABLE_END, VEC_TS, TABLE_END, 0}, {GS, SEL_CODE32, VEC_TS, SEL_CODE32, 0},
        {FS, 2, 0x80, 0, 0}, {GS, SEL_CONFORMING | 3, 0x80, 0, 0}, {DS, SEL_UDATA, 0x80, 0, 0}, {LDTR, SEL_LDT, 0x80, 0, 0}, {LDTR, 3, 0x80, 0, 0},
        {CS, SEL_CONFORMING | 3, 0x80, 0, 0},
    };
    // clang-format on
    static const enum how hows[] = {BY_JMP, BY_CALL, BY_INT, BY_IRET};
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        for (unsigned k = 0; k < ARRAY_LEN(hows) + 1; k++) {
            kernel(false);
            put16(NEW_TSS + c[i].field, c[i].sel);
            tm_write64(t, GDT + SEL_MORE, tm_descriptor(0, 0xFFFF, c[i].more));
            put16(TSS, SEL_NEW);
            bool event = k == ARRAY_LEN(hows); // a #UD: EXT
            if (event) task_gate(IDT + 8 * VEC_UD, SEL_NEW, 0x85);
            if (!event && hows[k] == BY_IRET) t->p.ram[GDT + SEL_NEW + 5] |= 2;
            int got = event ? TM_RUN(t, 0x0F, 0x0B) : go(hows[k], SEL_NEW);
            if (c[i].vector == 0x80) {
                assert_int_equal(got, 0x80);
                continue;
            }
            expect_new(got, c[i].vector, c[i].error | event, SEL_NEW);
            assert_int_equal(S.seg[SEG_CS].sel, SEL_CODE32); // the handler's
            u16 field_sel[] = {S.seg[SEG_ES].sel, 0, 0, S.seg[SEG_DS].sel, S.seg[SEG_FS].sel,
                               S.seg[SEG_GS].sel};
            unsigned n = (c[i].field - 0x48u) / 4; // the selector is there, whatever it names
            if (n == 0 || (n > 2 && n < 6)) assert_int_equal(field_sel[n], c[i].sel);
        }
    // EIP beyond the limit of the code segment: #GP(0), or of an event #GP(EXT), in the new task.
    for (unsigned event = 0; event < 2; event++) {
        kernel(false);
        tm_write64(t, GDT + SEL_MORE,
                   tm_descriptor(0, NEW_CODE - 1, AR_P | AR_S | AR_CODE | AR_READABLE | AR_DPL | AR_DB));
        put16(NEW_TSS + CS, SEL_MORE | 3);
        task_gate(IDT + 8 * VEC_UD, SEL_NEW, 0x85);
        expect_new(event ? TM_RUN(t, 0x0F, 0x0B) : go(BY_JMP, SEL_NEW), VEC_GP, event, SEL_NEW);
    }
    // A code segment in the new LDT.
    kernel(false);
    put16(NEW_TSS + LDTR, SEL_LDT), put16(NEW_TSS + CS, 8 | 7);
    tm_write64(t, LDT + 8, tm_read(t, GDT + SEL_UCODE32, 8));
    assert_int_equal(go(BY_JMP, SEL_NEW), 0x80);
    assert_int_equal(S.seg[SEG_LDTR].base, LDT);
    kernel(false);
    put16(NEW16_TSS + 0x2A, SEL_LDT), put16(NEW16_TSS + 0x24, 8 | 7);
    assert_int_equal(go(BY_JMP, SEL_NEW16), 0x80);
    assert_int_equal(S.seg[SEG_LDTR].base, LDT);
}

// An error code goes to the new stack, in the width of the TSS; without room it is #SS(EXT).
static void error_codes(void **state)
{
    for (unsigned narrow_tss = 0; narrow_tss < 2; narrow_tss++) {
        kernel(false);
        task_gate(IDT + 8 * VEC_NP, narrow_tss ? SEL_NEW16 : SEL_NEW, 0x85);
        S.gpr[RAX] = SEL_DATA_NP;
        if (narrow_tss)
            put16(NEW16_TSS + 0x26, SEL_DATA16), put16(NEW16_TSS + 0x24, SEL_CODE32),
                put16(NEW16_TSS + 0x28, 0), put16(NEW16_TSS + 0x22, 0);
        assert_int_equal(TM_RUN(t, 0x8E, 0xD8), 0x80); // mov ds,eax
        if (narrow_tss) {
            assert_int_equal(tm_read(t, 0xA000 - 2, 2), SEL_DATA_NP);
            assert_int_equal(sp(), 0xA000 - 2 - 12);
        } else {
            assert_int_equal(tm_read(t, NEW_STACK - 4, 4), SEL_DATA_NP);
            assert_int_equal(tm_read(t, sp() + 12, 4), NEW_STACK - 4);
        }
    }
    kernel(false);
    task_gate(IDT + 8 * VEC_GP, SEL_NEW, 0x85);
    put32(NEW_TSS + 0x38, 2); // ESP: the error code wraps to the top of 4 GiB
    tm_write64(t, GDT + SEL_MORE, tm_descriptor(0, 0xFFF, AR_P | AR_S | AR_WRITABLE | AR_DPL | AR_DB));
    put16(NEW_TSS + 0x50, SEL_MORE | 3);
    task_gate(IDT + 8 * VEC_DF, SEL_NEW16, 0x85); // #GP and #SS: a double fault, to a task of its own
    S.gpr[RAX] = TABLE_END;
    assert_int_equal(TM_RUN(t, 0x8E, 0xD8), 0x80);
    assert_int_equal(S.seg[SEG_TR].sel, SEL_NEW16);
    assert_int_equal(tm_read(t, NEW16_TSS, 2), SEL_NEW);
    assert_int_equal(tm_read(t, NEW_TSS + 0x20, 4), NEW_CODE);
}

// The T flag: #DB with BT, after the switch and before the first instruction (SDM 19.3.1.5).
static void trap_flag(void **state)
{
    for (enum how how = BY_JMP; how <= BY_IRET; how++) {
        kernel(false);
        t->p.ram[NEW_TSS + 0x64] = 1;
        put16(TSS, SEL_NEW);
        if (how == BY_IRET) t->p.ram[GDT + SEL_NEW + 5] |= 2;
        assert_int_equal(go(how, SEL_NEW), VEC_DB);
        assert_int_equal(S.dr[6], 0xFFFF0FF0 | DR6_BT);
        assert_int_equal(tm_read(t, sp(), 4), NEW_CODE);
        assert_int_equal(S.seg[SEG_TR].sel, SEL_NEW);
    }
    // TF of the new task: after its first instruction. RF of it: over an instruction breakpoint.
    kernel(false);
    put32(NEW_TSS + 0x24, 2 | FL_TF);
    t->p.ram[NEW_CODE] = 0x90, t->p.ram[NEW_CODE + 1] = 0x90;
    assert_int_equal(go(BY_JMP, SEL_NEW), VEC_DB);
    assert_int_equal(S.dr[6], 0xFFFF0FF0 | DR6_BS);
    assert_int_equal(tm_read(t, sp(), 4), NEW_CODE + 1);
    // TF of the old task: the switch is not stepped (SDM 19.4.3, footnote), with IA32_DEBUGCTL.BTF or
    // without.
    for (enum how how = BY_JMP; how <= BY_GATE; how++)
        for (unsigned btf = 0; btf < 2; btf++) {
            kernel(false);
            put16(TSS, SEL_NEW);
            if (how == BY_IRET) t->p.ram[GDT + SEL_NEW + 5] |= 2;
            S.rflags |= FL_TF, S.msr.debugctl = btf ? DEBUGCTL_BTF : 0;
            cpu_mode_changed(t->v);
            assert_int_equal(go(how, how == BY_GATE ? SEL_TASK : SEL_NEW), 0x80);
            assert_int_equal(S.dr[6], 0xFFFF0FF0);
            assert_int_equal(S.msr.debugctl, btf ? DEBUGCTL_BTF : 0);
            assert_int_equal(S.seg[SEG_TR].sel, SEL_NEW);
            S.msr.debugctl = 0;
        }
    for (unsigned rf = 0; rf < 2; rf++) {
        kernel(false);
        S.dr[0] = NEW_CODE, S.dr[7] = 0x402; // G0; a local one the switch would end
        put32(NEW_TSS + 0x24, 2 | (rf ? FL_RF : 0));
        debug_changed(t->v);
        assert_int_equal(go(BY_JMP, SEL_NEW), rf ? 0x80 : VEC_DB);
        kernel(false);
        S.dr[7] = 0x401;
        debug_changed(t->v);
        assert_int_equal(go(BY_JMP, SEL_NEW), 0x80);
    }
}

// Into virtual-8086 mode: selectors are paragraphs, and nothing is checked.
static void to_an_8086(void **state)
{
    kernel(false);
    static const u16 sel[] = {0x111, NEW_CODE >> 4, 0x3A00, 0x444, 0x555, 0x666};
    for (unsigned i = 0; i < 6; i++) put16(NEW_TSS + 0x48 + 4 * i, sel[i]);
    put32(NEW_TSS + 0x20, 0), put32(NEW_TSS + 0x24, 2 | FL_VM | FL_IOPL), put32(NEW_TSS + 0x38, 0x100);
    assert_int_equal(go(BY_JMP, SEL_NEW), 0x80);
    u64 sp = S.gpr[RSP]; // EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS
    assert_int_equal(tm_read(t, sp + 4, 2), NEW_CODE >> 4);
    assert_int_equal(tm_read(t, sp + 8, 4) & FL_VM, FL_VM);
    assert_int_equal(tm_read(t, sp + 16, 2), 0x3A00);
    assert_int_equal(tm_read(t, sp + 20, 2), 0x111);
    assert_int_equal(tm_read(t, sp + 24, 2), 0x444);
}

// ---- paging ----
enum { DIRECTORY = 0x50000, OTHER = 0x51000, TABLES = 0x52000 };
static void paging(bool pae)
{
    if (pae) {
        for (unsigned i = 0; i < 2; i++) {
            u64 d = i ? OTHER : DIRECTORY;
            tm_write64(t, d, (u64)(TABLES + 0x2000) | 1);
            for (unsigned k = 1; k < 4; k++) tm_write64(t, d + 8 * k, 0);
        }
        for (unsigned i = 0; i < 8; i++) tm_write64(t, TABLES + 0x2000 + 8 * i, (u64)i << 21 | 0xE7);
        S.cr4 |= CR4_PAE;
        for (unsigned k = 0; k < 4; k++) S.pdpte[k] = tm_read(t, DIRECTORY + 8 * k, 8);
    } else {
        memset(t->p.ram + DIRECTORY, 0, 0x2000);
        for (unsigned i = 0; i < 1024; i++)
            put32(TABLES + 4 * i, i << 12 | 0x67), put32(TABLES + 0x1000 + 4 * i, i << 12 | 0x67);
        put32(DIRECTORY, TABLES | 0x67), put32(OTHER, (TABLES + 0x1000) | 0x67);
    }
    S.cr3 = DIRECTORY;
    S.cr0 |= CR0_PG | CR0_WP;
    tlb_reset(&S.itlb), tlb_reset(&S.dtlb);
    cpu_drop_derived(t->v);
    cpu_mode_changed(t->v);
}

static void with_paging(void **state)
{
    // CR3 from a 32-bit TSS; the new task's code lies elsewhere there.
    kernel(false);
    paging(false);
    put32(TABLES + 0x1000 + 4 * (NEW_CODE >> 12), 0x60000 | 0x67);
    tm_write(t, 0x60000 + (NEW_CODE & 0xFFF), "\xCD\x80", 2), tm_write(t, NEW_CODE, "\x0F\x0B", 2);
    put32(NEW_TSS + 0x1C, OTHER);
    assert_int_equal(go(BY_JMP, SEL_NEW), 0x80);
    assert_int_equal(S.cr3, OTHER);
    // A 16-bit one has none.
    kernel(false);
    paging(false);
    assert_int_equal(go(BY_JMP, SEL_NEW16), 0x80);
    assert_int_equal(S.cr3, DIRECTORY);
    // What is not there faults in the old task, and nothing has changed: the new TSS, its second page, its
    // link, the old TSS, the GDT.
    // clang-format off
    static const struct { u32 page, bits; enum how how; u32 error, cr2, new_tss; } c[] = {
        {0x6000, 0, BY_JMP, 0, 0x6000, NEW_TSS}, {0x7000, 0, BY_JMP, 0, 0x7000, 0x6FD0}, {0x6000, 0x65, BY_CALL, 3, 0x6000, NEW_TSS},
        {0x4000, 0x65, BY_JMP, 3, 0x4020, NEW_TSS}, {0x4000, 0x65, BY_CALL, 3, 0x4020, NEW_TSS}, {0x1000, 0x65, BY_JMP, 3, GDT + SEL_TSS + 5, NEW_TSS},
        {0x1000, 0x65, BY_CALL, 3, GDT + SEL_NEW + 5, NEW_TSS},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        kernel(false);
        // accessed bits would be set in the read-only GDT
        for (u16 s = 8; s < GDT_END; s += 8)
            if (tm_read(t, GDT + s, 8) >> 44 & 1) t->p.ram[GDT + s + 5] |= 1;
        new_task(c[i].new_tss, &wide);
        tm_write64(t, GDT + SEL_NEW, tm_descriptor(c[i].new_tss, 0x67, AR_P | 9));
        paging(false);
        put32(TABLES + 4 * (c[i].page >> 12), c[i].bits ? c[i].page | c[i].bits : 0);
        u8 before[0x60];
        memcpy(before, t->p.ram + TSS, sizeof before);
        expect_old(go(c[i].how, SEL_NEW), VEC_PF, c[i].error);
        assert_int_equal(S.cr2, c[i].cr2);
        assert_memory_equal(before, t->p.ram + TSS, sizeof before);
        assert_int_equal(ar_byte(SEL_NEW), 0x89);
    }
    // Of the old TSS no more than what is saved need be there.
    kernel(false);
    paging(false);
    put32(TABLES + 4 * 5, 0);
    S.seg[SEG_TR].base = 0x5000 - 0x5E;
    assert_int_equal(go(BY_JMP, SEL_NEW), 0x80);
    // PAE: the PDPTEs of the new CR3; a bad one is #GP(0), and the old task's.
    kernel(false);
    paging(true);
    put32(NEW_TSS + 0x1C, OTHER);
    tm_write64(t, OTHER + 8, TABLES | 1);
    assert_int_equal(go(BY_JMP, SEL_NEW), 0x80);
    assert_int_equal(S.pdpte[1], TABLES | 1);
    kernel(false);
    paging(true);
    put32(NEW_TSS + 0x1C, OTHER);
    tm_write64(t, OTHER + 8, TABLES | 3);
    expect_old(go(BY_JMP, SEL_NEW), VEC_GP, 0);
    kernel(false);
    paging(true);
    put32(NEW_TSS + 0x1C, 0x1000000 | OTHER); // where no memory is: all ones
    expect_old(go(BY_JMP, SEL_NEW), VEC_GP, 0);
}

static int loop = 1;
#define BOTH(f) \
    {#f " (threaded)", f, setup, teardown, NULL}, { #f " (loop)", f, setup, teardown, &loop }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(tasks_switch), BOTH(there_and_back), BOTH(which_tss),  BOTH(which_segments),
        BOTH(error_codes),  BOTH(trap_flag),      BOTH(to_an_8086), BOTH(with_paging),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
