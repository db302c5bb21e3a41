// A processor with memory and hand-made tables, no board: for tests of system instructions and delivery.
// Every vector's handler is a HLT at HANDLER + 16 * vector, so where the processor halts says what struck.
#ifndef TESTS_CPU_MACHINE_H
#define TESTS_CPU_MACHINE_H

#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/system/system.h"
#include "cpu/system/cpuid.h"
#include "tests/rows_run.h"
#include "vmx/intercept.h"

// clang-format off
enum {
    GDT = 0x1000, IDT = 0x2000, TSS = 0x4000, LDT = 0x5000, CODE = 0x8000, DATA = 0x9000, HANDLER = 0xA000,
    KERNEL_STACK = 0x20000, IST_STACK = 0x24000, STACK = 0x30000, USER_STACK = 0x38000, PML4 = 0x40000,
};
enum {
    SEL_CODE32 = 0x08, SEL_DATA = 0x10, SEL_UCODE32 = 0x18, SEL_UDATA = 0x20, SEL_TSS = 0x28, SEL_CODE64 = 0x38,
    SEL_UCODE64 = 0x40, SEL_LDT = 0x48, SEL_CONFORMING = 0x58, SEL_DATA_NP = 0x60, SEL_DATA_RO = 0x68, SEL_CODE_NP = 0x70,
    SEL_CODE_XO = 0x78, SEL_CODE_DPL1 = 0x80, SEL_DATA_DPL1 = 0x88, SEL_GATE = 0x90, SEL_CODE16 = 0xA0, SEL_DATA16 = 0xA8,
    SEL_TSS2 = 0xB0, SEL_GATE_NP = 0xC0, SEL_SMALL = 0xD0, SEL_LD = 0xD8, GDT_END = 0xE0,
};
// clang-format on
enum { NOTHING = -1 }; // halted at a HLT of its own

struct tm {
    struct phys p;
    struct cpu_features f;
    struct vcpu *v;
};

static inline u64 tm_descriptor(u32 base, u32 limit, u32 ar) // ar as in struct segment
{
    return (limit & 0xFFFF) | (u64)(base & 0xFFFFFF) << 16 | (u64)(ar & 0xF0FF) << 40 |
           (u64)(limit >> 16 & 0xF) << 48 | (u64)(base >> 24) << 56;
}
static inline void tm_write(struct tm *t, u64 a, const void *b, size_t n) { memcpy(t->p.ram + a, b, n); }
static inline void tm_write64(struct tm *t, u64 a, u64 x) { tm_write(t, a, &x, 8); }
static inline u64 tm_read(struct tm *t, u64 a, unsigned n)
{
    u64 x = 0;
    memcpy(&x, t->p.ram + a, n);
    return x;
}

static inline void tm_gate(struct tm *t, unsigned vector, u16 sel, unsigned type, unsigned dpl, unsigned ist,
                           bool long_gate)
{
    u32 offset = HANDLER + 16 * vector;
    u64 low = (offset & 0xFFFF) | (u64)sel << 16 | (u64)(type | dpl << 5 | 0x80) << 40 |
              (u64)(offset >> 16) << 48 | (u64)ist << 32;
    tm_write64(t, IDT + vector * (long_gate ? 16 : 8), low);
    if (long_gate) tm_write64(t, IDT + vector * 16 + 8, 0);
}

static inline void tm_load(struct tm *t, unsigned seg, u16 sel)
{
    struct descriptor d = {tm_read(t, GDT + (sel & 0xFFF8), 8), 0};
    seg_from_descriptor(&t->v->s.seg[seg], sel, &d);
    t->v->s.seg[seg].ar |= (d.raw >> 44 & 1);
}

enum tm_kind { TM_REAL, TM_PROTECTED, TM_LONG };

static inline struct tm *tm_new(enum tm_kind kind)
{
    struct tm *t = calloc(1, sizeof *t);
    const char *why;
    assert_true(phys_init(&t->p, 16 << 20, &why));
    cpu_features_max(&t->f);
    t->v = vcpu_new(0, &t->p, &t->f);
    assert_non_null(t->v);
    rows_run_watch(t->v);
    struct vcpu_state *s = &t->v->s;
    bool lng = kind == TM_LONG;
    const u32 code = AR_P | AR_S | AR_CODE | AR_READABLE | AR_DB | AR_G,
              data = AR_P | AR_S | AR_WRITABLE | AR_DB | AR_G;
    // clang-format off
    struct { u16 sel; u32 base, limit, ar; } g[] = {
        {SEL_CODE32, 0, 0xFFFFF, code}, {SEL_DATA, 0, 0xFFFFF, data}, {SEL_UCODE32, 0, 0xFFFFF, code | AR_DPL},
        {SEL_UDATA, 0, 0xFFFFF, data | AR_DPL}, {SEL_TSS, TSS, 0x167, AR_P | 9}, {SEL_CODE64, 0, 0xFFFFF, (code & ~AR_DB) | AR_L},
        {SEL_UCODE64, 0, 0xFFFFF, (code & ~AR_DB) | AR_L | AR_DPL}, {SEL_LDT, LDT, 0x1F, AR_P | 2},
        {SEL_CONFORMING, 0, 0xFFFFF, (lng ? (code & ~AR_DB) | AR_L : code) | AR_CONFORMING}, {SEL_DATA_NP, 0, 0xFFFFF, data & ~AR_P},
        {SEL_DATA_RO, 0, 0xFFFFF, data & ~AR_WRITABLE}, {SEL_CODE_NP, 0, 0xFFFFF, code & ~AR_P},
        {SEL_CODE_XO, 0, 0xFFFFF, code & ~AR_READABLE}, {SEL_CODE_DPL1, 0, 0xFFFFF, code | 1 << 5},
        {SEL_DATA_DPL1, 0, 0xFFFFF, data | 1 << 5}, {SEL_CODE16, 0, 0xFFFF, code & ~(AR_DB | AR_G)},
        {SEL_DATA16, 0, 0xFFFF, data & ~(AR_DB | AR_G)}, {SEL_TSS2, TSS, 0x67, AR_P | 9},
        {SEL_SMALL, 0, 0x0FFF, code & ~AR_G}, {SEL_LD, 0, 0xFFFFF, code | AR_L},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(g); i++)
        tm_write64(t, GDT + g[i].sel, tm_descriptor(g[i].base, g[i].limit, g[i].ar));
    u16 kernel = lng ? SEL_CODE64 : SEL_CODE32;
    for (unsigned i = 0; i < 2; i++) { // call gates to the kernel's code: DPL 3; the second is not present
        tm_write64(t, GDT + (i ? SEL_GATE_NP : SEL_GATE),
                   0x7700 | (u64)kernel << 16 | (u64)(12 | 3 << 5 | (i ? 0 : 0x80)) << 40);
        tm_write64(t, GDT + (i ? SEL_GATE_NP : SEL_GATE) + 8, 0);
    }
    for (unsigned i = 0; i < 256; i++) {
        t->p.ram[HANDLER + 16 * i] = 0xF4;
        tm_gate(t, i, kernel, 14, i == 0x80 ? 3 : 0, 0, lng);
    }
    t->p.ram[0x7700] = 0xF4;
    if (kind == TM_REAL) {
        for (unsigned i = 0; i < 256; i++) {
            u32 entry = (HANDLER + 16 * i) & 0xFFFF;
            tm_write(t, 4 * i, &entry, 4);
        }
        s->idtr.base = 0, s->idtr.limit = 0x3FF;
        for (unsigned i = SEG_ES; i <= SEG_GS; i++) seg_load_real(t->v, i, 0);
        s->seg[SEG_CS].ar = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED;
    } else {
        s->cr0 = CR0_PE | CR0_ET | CR0_NE;
        s->gdtr.base = GDT, s->gdtr.limit = GDT_END - 1;
        s->idtr.base = IDT, s->idtr.limit = lng ? 0xFFF : 0x7FF;
        for (unsigned i = SEG_ES; i <= SEG_GS; i++) tm_load(t, i, SEL_DATA);
        tm_load(t, SEG_CS, kernel);
        s->seg[SEG_TR] = (struct segment){.base = TSS, .limit = 0x167, .ar = AR_P | 11, .sel = SEL_TSS};
        s->seg[SEG_LDTR] = (struct segment){.ar = AR_UNUSABLE};
        if (lng) {
            tm_write64(t, PML4, 0x41007);
            tm_write64(t, 0x41000, 0x42007);
            for (unsigned i = 0; i < 8; i++) tm_write64(t, 0x42000 + 8 * i, (u64)i << 21 | 0xE7);
            s->cr3 = PML4;
            s->cr4 = CR4_PAE | CR4_OSFXSR;
            s->msr.efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
            s->cr0 |= CR0_PG | CR0_WP;
            tm_write64(t, TSS + 4, KERNEL_STACK);
            tm_write64(t, TSS + 0x24, IST_STACK);
        } else {
            tm_write64(t, TSS + 4, KERNEL_STACK | (u64)SEL_DATA << 32);
            tm_write64(t, TSS + 12, (KERNEL_STACK + 0x800) | (u64)(SEL_DATA_DPL1 | 1) << 32);
        }
        u16 iomap = 0x68;
        tm_write(t, TSS + 0x66, &iomap, 2);
        memset(t->p.ram + TSS + 0x68, 0xFF, 0x100);
    }
    s->gpr[RSP] = STACK;
    if (kind == TM_REAL) s->gpr[RSP] = 0x7000;
    cpu_drop_derived(t->v);
    cpu_mode_changed(t->v);
    return t;
}

static inline void tm_free(struct tm *t)
{
    vcpu_free(t->v);
    phys_free(&t->p);
    free(t);
}

static inline void tm_user(struct tm *t) // CPL 3, code in the width of the kernel's
{
    bool lng = t->v->s.msr.efer & EFER_LMA;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) tm_load(t, i, SEL_UDATA | 3);
    tm_load(t, SEG_CS, (lng ? SEL_UCODE64 : SEL_UCODE32) | 3);
    t->v->s.gpr[RSP] = USER_STACK;
    cpu_mode_changed(t->v);
}

// Runs the bytes at CODE until the processor halts. The vector whose handler it halted in, or NOTHING. Code
// of level 3 that comes to its end calls INT 80h.
static inline int tm_run(struct tm *t, const void *bytes, size_t n)
{
    struct vcpu_state *s = &t->v->s;
    tm_write(t, CODE, bytes, n);
    t->p.ram[CODE + n] = 0xF4;
    // HLT would be a #GP of its own
    if (cpu_cpl(t->v) == 3) t->p.ram[CODE + n] = 0xCD, t->p.ram[CODE + n + 1] = 0x80;
    s->rip = CODE;
    s->activity = ACTIVITY_ACTIVE;
    cpu_drop_derived(t->v);
    cpu_attention(t->v);
    enum run_exit why = vcpu_run(t->v, 1000000);
    if (why != RUN_HALTED) return -100 - (int)why;
    u64 at = s->rip - 1;
    if (at >= HANDLER && at < HANDLER + 0x1000) return (int)(at - HANDLER) / 16;
    return NOTHING;
}
#define TM_RUN(t, ...) tm_run(t, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

#endif
