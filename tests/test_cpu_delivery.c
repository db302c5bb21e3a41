// Event delivery: frames, error codes, stack switches, the double-fault table. Expected values: SDM volume 3,
// chapter 7 (interrupt and exception handling), and the pseudocode of INT n and IRET.
#include "cpu_machine.h"

static struct tm *t;
static int real_setup(void **s) { return t = tm_new(TM_REAL), 0; }
static int prot_setup(void **s) { return t = tm_new(TM_PROTECTED), 0; }
static int long_setup(void **s) { return t = tm_new(TM_LONG), 0; }
static int teardown(void **s) { return tm_free(t), 0; }
#define S (t->v->s)

static void real_int(void **state)
{
    S.rflags |= FL_IF | FL_TF * 0;
    assert_int_equal(TM_RUN(t, 0xCD, 0x21), 0x21);
    assert_int_equal(S.gpr[RSP], 0x7000 - 6);
    assert_int_equal(tm_read(t, 0x7000 - 6, 2), CODE + 2);
    assert_int_equal(tm_read(t, 0x7000 - 4, 2), 0);
    assert_int_equal(tm_read(t, 0x7000 - 2, 2) & 0x202, 0x202);
    assert_false(S.rflags & FL_IF);
}

static void real_fault_pushes_no_error_code(void **state)
{
    assert_int_equal(TM_RUN(t, 0x31, 0xD2, 0x31, 0xC9, 0xF7, 0xF1), VEC_DE); // xor dx,dx; xor cx,cx; div cx
    assert_int_equal(S.gpr[RSP], 0x7000 - 6);
    assert_int_equal(tm_read(t, 0x7000 - 6, 2), CODE + 4);
    S.gpr[RSP] = 0x7000;
    S.gpr[RBX] = 0xFFFF;
    assert_int_equal(TM_RUN(t, 0x8B, 0x07), VEC_GP); // mov ax,[bx]: a word at FFFFh
    assert_int_equal(S.gpr[RSP], 0x7000 - 6);
}

static void real_idt_limit_is_gp_then_df_then_shutdown(void **state)
{
    S.idtr.limit = 0x21 * 4 + 3;
    assert_int_equal(TM_RUN(t, 0xCD, 0x21), 0x21);
    S.idtr.limit = 0x21 * 4 + 2;
    assert_int_equal(TM_RUN(t, 0xCD, 0x21), VEC_GP);
    S.idtr.limit = 8 * 4 + 3; // #GP is beyond, #DF is inside
    assert_int_equal(TM_RUN(t, 0xCD, 0x21), VEC_DF);
    S.idtr.limit = 3;
    assert_int_equal(TM_RUN(t, 0xCD, 0x21), -100 - RUN_SHUTDOWN);
}

static void protected_int_same_level(void **state)
{
    S.rflags |= FL_IF;
    assert_int_equal(TM_RUN(t, 0xCD, 0x30), 0x30);
    assert_int_equal(S.gpr[RSP], STACK - 12);
    assert_int_equal(tm_read(t, STACK - 12, 4), CODE + 2);
    assert_int_equal(tm_read(t, STACK - 8, 4) & 0xFFFF, SEL_CODE32);
    assert_int_equal(tm_read(t, STACK - 4, 4) & FL_IF, FL_IF);
    assert_false(S.rflags & FL_IF);
    tm_gate(t, 0x31, SEL_CODE32, 15, 0, 0, false); // a trap gate leaves IF
    S.rflags |= FL_IF;
    assert_int_equal(TM_RUN(t, 0xCD, 0x31), 0x31);
    assert_true(S.rflags & FL_IF);
}

static void protected_16bit_gate(void **state)
{
    tm_gate(t, 0x31, SEL_CODE32, 6, 0, 0, false);
    assert_int_equal(TM_RUN(t, 0xCD, 0x31), 0x31);
    assert_int_equal(S.gpr[RSP], STACK - 6);
    assert_int_equal(tm_read(t, STACK - 6, 2), CODE + 2);
    assert_int_equal(tm_read(t, STACK - 4, 2), SEL_CODE32);
}

static void protected_int_from_user(void **state)
{
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0xCD, 0x80), 0x80);
    assert_int_equal(S.gpr[RSP], KERNEL_STACK - 20);
    assert_int_equal(tm_read(t, KERNEL_STACK - 20, 4), CODE + 2);
    assert_int_equal(tm_read(t, KERNEL_STACK - 16, 4) & 0xFFFF, SEL_UCODE32 | 3);
    assert_int_equal(tm_read(t, KERNEL_STACK - 8, 4), USER_STACK);
    assert_int_equal(tm_read(t, KERNEL_STACK - 4, 4) & 0xFFFF, SEL_UDATA | 3);
    assert_int_equal(S.seg[SEG_SS].sel, SEL_DATA);
    assert_int_equal(cpu_cpl(t->v), 0);
}

// Vector, error code, and RIP of what struck; the frame has an error code.
static void expect_error(int got, int vector, u32 error, u64 rip)
{
    assert_int_equal(got, vector);
    bool lng = S.msr.efer & EFER_LMA;
    assert_int_equal(tm_read(t, S.gpr[RSP], lng ? 8 : 4), error);
    assert_int_equal(tm_read(t, S.gpr[RSP] + (lng ? 8 : 4), lng ? 8 : 4), rip);
}

static void gate_dpl_and_presence(void **state)
{
    tm_user(t);
    expect_error(TM_RUN(t, 0xCD, 0x30), VEC_GP, 0x30 * 8 + 2, CODE); // gate DPL 0 from CPL 3: EXT 0
    tm_user(t);
    expect_error(TM_RUN(t, 0xCC), VEC_GP, 3 * 8 + 2, CODE); // INT3 is checked too
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0xF1), VEC_DB); // INT1 is not
    u64 gate = IDT + 0x80 * 8;
    t->p.ram[gate + 5] &= 0x7F;
    tm_user(t);
    expect_error(TM_RUN(t, 0xCD, 0x80), VEC_NP, 0x80 * 8 + 2, CODE);
    t->p.ram[gate + 5] = 0x8C | 0x60; // a call gate is none
    tm_user(t);
    expect_error(TM_RUN(t, 0xCD, 0x80), VEC_GP, 0x80 * 8 + 2, CODE);
    S.idtr.limit = 0x80 * 8 - 1;
    tm_user(t);
    expect_error(TM_RUN(t, 0xCD, 0x80), VEC_GP, 0x80 * 8 + 2, CODE);
}

static void ext_bit_for_faults_during_faults(void **state)
{
    t->p.ram[IDT + 6 * 8 + 5] &= 0x7F; // #UD's gate is not present: #NP(IDT, EXT), from a benign first event
    expect_error(TM_RUN(t, 0x0F, 0x0B), VEC_NP, 6 * 8 + 2 + 1, CODE);
}

static void gate_selector_checks(void **state)
{
    // clang-format off
    struct { u16 sel; int vector; u32 error; } c[] = {
        {0, VEC_GP, 0}, {GDT_END, VEC_GP, GDT_END}, {SEL_DATA, VEC_GP, SEL_DATA}, {SEL_CODE_NP, VEC_NP, SEL_CODE_NP},
        {SEL_UCODE32, VEC_GP, SEL_UCODE32}, {SEL_TSS, VEC_GP, SEL_TSS},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        tm_gate(t, 0x31, c[i].sel, 14, 0, 0, false);
        S.gpr[RSP] = STACK;
        expect_error(TM_RUN(t, 0xCD, 0x31), c[i].vector, c[i].error, CODE);
    }
}

static void stack_from_tss_checks(void **state)
{
    // clang-format off
    struct { u16 ss; int vector; u32 error; } c[] = {
        {0, VEC_TS, 0}, {GDT_END, VEC_TS, GDT_END}, {SEL_DATA | 3, VEC_TS, SEL_DATA}, {SEL_DATA_RO, VEC_TS, SEL_DATA_RO},
        {SEL_UDATA, VEC_TS, SEL_UDATA}, {SEL_DATA_NP, VEC_SS, SEL_DATA_NP}, {SEL_CODE32, VEC_TS, SEL_CODE32},
    };
    // clang-format on
    // Vector 80h goes to level 1 through a good gate; its stack is what is wrong. The fault itself goes to
    // level 0.
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        u16 ss = c[i].ss;
        if (ss == (SEL_DATA | 3)) ss = SEL_DATA_DPL1; // RPL 0 where level 1 wants 1
        u32 error = ss & 0xFFFC;
        if (i == 5) {
            tm_write64(t, GDT + SEL_DATA_NP,
                       tm_descriptor(0, 0xFFFFF, AR_S | AR_WRITABLE | AR_DB | AR_G | 1 << 5));
            ss |= 1;
        }
        tm_gate(t, 0x80, SEL_CODE_DPL1, 14, 3, 0, false);
        tm_write(t, TSS + 16, &ss, 2);
        tm_user(t);
        expect_error(TM_RUN(t, 0xCD, 0x80), c[i].vector, error, CODE);
    }
    // the TSS ends before SS1: #TS with the selector of the TSS; level 0 still fits
    S.seg[SEG_TR].limit = 0x10;
    tm_user(t);
    expect_error(TM_RUN(t, 0xCD, 0x80), VEC_TS, SEL_TSS, CODE);
}

static void stack_limit_is_ss_with_selector(void **state)
{
    // level 1 has room for two words, the frame wants five: expand-down-less flat wraps; use a small segment
    u32 esp1 = 8;
    tm_write64(t, GDT + SEL_DATA_DPL1, tm_descriptor(0, 0xFF, AR_P | AR_S | AR_WRITABLE | AR_DB | 1 << 5));
    esp1 = 0x200;
    tm_write(t, TSS + 12, &esp1, 4);
    tm_gate(t, 0x80, SEL_CODE_DPL1, 14, 3, 0, false);
    tm_user(t);
    expect_error(TM_RUN(t, 0xCD, 0x80), VEC_SS, SEL_DATA_DPL1, CODE);
}

// An expand-down stack (SDM 6.3): offsets above the limit up to FFFFFFFFh, or FFFFh with B = 0. The frame of
// five words must lie there whole.
static void expand_down_stack(void **state)
{
    const u32 down = AR_P | AR_S | AR_WRITABLE | AR_EXPAND_DOWN | 1 << 5;
    // clang-format off
    struct { u32 ar, esp; bool gate16; int vector; } c[] = {
        {AR_DB, 0x1000 + 20, false, 0x80},   // the last word is at limit + 1
        {AR_DB, 0x1000 + 19, false, VEC_SS}, // at the limit
        {AR_DB, 0x1000, false, VEC_SS},      // where an ordinary segment has room
        {0, 0x1000 + 20, false, 0x80}, {0, 0x1000 + 19, false, VEC_SS},
        {0, 0, false, 0x80},                 // 16 bits: the first word ends at FFFFh
        {0, 2, false, VEC_SS},               // and here beyond
        {AR_DB, 2, false, VEC_SS},           // beyond FFFFFFFFh
        {0, 0x1000 + 10, true, 0x80}, {0, 0x1000 + 9, true, VEC_SS}, {0, 1, true, VEC_SS},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        tm_write64(t, GDT + SEL_DATA_DPL1, tm_descriptor(0x50000, 0x0FFF, down | c[i].ar));
        tm_write(t, TSS + 12, &c[i].esp, 4);
        tm_gate(t, 0x80, SEL_CODE_DPL1, c[i].gate16 ? 6 : 14, 3, 0, false);
        tm_user(t);
        int got = TM_RUN(t, 0xCD, 0x80);
        if (c[i].vector == 0x80) { // HLT at level 1 is a #GP: what counts is where it struck
            assert_int_equal(got, VEC_GP);
            assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), HANDLER + 16 * 0x80);
            unsigned n = c[i].gate16 ? 2 : 4;
            u64 top = c[i].ar & AR_DB ? c[i].esp : (c[i].esp & 0xFFFF ? c[i].esp & 0xFFFF : 0x10000);
            assert_int_equal(tm_read(t, 0x50000 + top - n, 2), SEL_UDATA | 3);
            assert_int_equal(tm_read(t, 0x50000 + top - 5 * n, n), CODE + 2);
        } else
            expect_error(got, VEC_SS, SEL_DATA_DPL1, CODE);
    }
    // The present stack: no room is #SS(0), which finds none either; the #DF comes on a good one.
    tm_write64(t, GDT + SEL_DATA16, tm_descriptor(0x50000, 0x0FFF, (down & ~AR_DPL) | AR_DB));
    for (unsigned room = 0; room < 2; room++) {
        tm_user(t);
        for (unsigned i = SEG_ES; i <= SEG_GS; i++)
            tm_load(t, i, i == SEG_CS ? SEL_CODE32 : i == SEG_SS ? SEL_DATA16 : SEL_DATA);
        S.gpr[RSP] = 0x1000 + 11 + room;
        cpu_mode_changed(t->v);
        assert_int_equal(TM_RUN(t, 0xCD, 0x30), room ? 0x30 : -100 - RUN_SHUTDOWN);
    }
}

// The limits of the tables are those of the last byte of an entry: the entry that ends at the limit is in,
// with one byte less it is out.
static void table_limits(void **state)
{
    bool lng = S.msr.efer & EFER_LMA;
    unsigned n = lng ? 16 : 8;
    u16 cs = S.seg[SEG_CS].sel;
    // The IDT.
    for (unsigned less = 0; less < 2; less++) {
        S.idtr.limit = 0x30 * n + n - 1 - less;
        int got = TM_RUN(t, 0xCD, 0x30);
        if (less)
            expect_error(got, VEC_GP, 0x30 * 8 + 2, CODE);
        else
            assert_int_equal(got, 0x30);
        S.gpr[RSP] = STACK;
    }
    S.idtr.limit = lng ? 0xFFF : 0x7FF;
    // The GDT: the code segment of a gate, and the stack's of the TSS. Copies at its end, the last one being
    // the one in question.
    u64 end = GDT_END;
    tm_write64(t, GDT + end, tm_read(t, GDT + cs, 8));
    tm_gate(t, 0x31, (u16)end, 14, 0, 0, lng);
    for (unsigned less = 0; less < 2; less++) {
        S.gdtr.limit = (u32)end + 7 - less;
        int got = TM_RUN(t, 0xCD, 0x31);
        if (less)
            expect_error(got, VEC_GP, (u32)end, CODE);
        else
            assert_int_equal(got, 0x31);
        S.gpr[RSP] = STACK;
        S.seg[SEG_CS].sel = cs;
    }
    if (lng) return;
    tm_write64(t, GDT + end, tm_read(t, GDT + SEL_DATA, 8));
    for (unsigned less = 0; less < 2; less++) {
        u16 ss = SEL_DATA_DPL1 | 1;
        tm_write64(t, GDT + end,
                   tm_descriptor(0, 0xFFFFF, AR_P | AR_S | AR_WRITABLE | AR_DB | AR_G | 1 << 5));
        ss = (u16)end | 1;
        tm_write(t, TSS + 16, &ss, 2);
        tm_gate(t, 0x80, SEL_CODE_DPL1, 14, 3, 0, false);
        S.gdtr.limit = (u32)end + 7 - less;
        tm_user(t);
        int got = TM_RUN(t, 0xCD, 0x80);
        if (less)
            expect_error(got, VEC_TS, (u32)end, CODE);
        else {
            assert_int_equal(got, VEC_GP); // the HLT at level 1
            assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), HANDLER + 16 * 0x80);
        }
    }
}

// The TSS: the stack pointer of a level must lie in it whole.
static void tss_limits(void **state)
{
    bool lng = S.msr.efer & EFER_LMA;
    // clang-format off
    struct { u32 last; unsigned ist; bool tss16; } c[] = {
        {lng ? 11 : 9, 0, false}, {0x2B, 1, false}, {0x5B, 7, false}, {5, 0, true},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        for (unsigned less = 0; less < 2; less++) {
            if ((c[i].ist && !lng) || (c[i].tss16 && lng)) continue;
            u64 ist7 = IST_STACK;
            if (lng) tm_write64(t, TSS + 0x54, ist7);
            if (c[i].tss16) {
                u32 stack = 0x7000 | SEL_DATA << 16;
                tm_write(t, TSS + 2, &stack, 4);
                S.seg[SEG_TR].ar = AR_P | 3;
            }
            tm_gate(t, 0x80, lng ? SEL_CODE64 : SEL_CODE32, 14, 3, c[i].ist, lng);
            tm_user(t);
            S.seg[SEG_TR].limit = c[i].last - less;
            int got = TM_RUN(t, 0xCD, 0x80);
            if (!less)
                assert_int_equal(got, 0x80);
            else if (c[i].ist) // the #TS has no IST, and the TSS has RSP0
                expect_error(got, VEC_TS, SEL_TSS, CODE);
            else // the #TS needs the same stack: so does the #DF
                assert_int_equal(got, -100 - RUN_SHUTDOWN);
        }
}

static void long_int_same_level_aligns(void **state)
{
    S.gpr[RSP] = STACK - 3;
    assert_int_equal(TM_RUN(t, 0xCD, 0x30), 0x30);
    u64 top = (STACK - 3) & ~0xFull;
    assert_int_equal(S.gpr[RSP], top - 40);
    assert_int_equal(tm_read(t, top - 40, 8), CODE + 2);
    assert_int_equal(tm_read(t, top - 32, 8), SEL_CODE64);
    assert_int_equal(tm_read(t, top - 16, 8), STACK - 3);
    assert_int_equal(tm_read(t, top - 8, 8), SEL_DATA);
}

static void long_int_from_user_nulls_ss(void **state)
{
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0xCD, 0x80), 0x80);
    assert_int_equal(S.gpr[RSP], KERNEL_STACK - 40);
    assert_int_equal(S.seg[SEG_SS].sel, 0);
    assert_true(S.seg[SEG_SS].ar & AR_UNUSABLE);
    assert_int_equal(cpu_cpl(t->v), 0);
    assert_int_equal(tm_read(t, KERNEL_STACK - 8, 8), SEL_UDATA | 3);
    assert_int_equal(tm_read(t, KERNEL_STACK - 16, 8), USER_STACK);
}

static void long_ist(void **state)
{
    tm_gate(t, 0x30, SEL_CODE64, 14, 0, 1, true);
    assert_int_equal(TM_RUN(t, 0xCD, 0x30), 0x30);
    assert_int_equal(S.gpr[RSP], IST_STACK - 40);
    assert_int_equal(S.seg[SEG_SS].sel, SEL_DATA); // same level: SS stays
    tm_write64(t, TSS + 0x24, 1ull << 63);         // not canonical
    expect_error(TM_RUN(t, 0xCD, 0x30), VEC_SS, 0, CODE);
    S.seg[SEG_TR].limit = 0x2A;
    expect_error(TM_RUN(t, 0xCD, 0x30), VEC_TS, SEL_TSS, CODE);
}

static void long_gate_needs_64bit_code(void **state)
{
    tm_gate(t, 0x30, SEL_CODE32, 14, 0, 0, true);
    expect_error(TM_RUN(t, 0xCD, 0x30), VEC_GP, SEL_CODE32, CODE);
    tm_gate(t, 0x30, SEL_CODE64, 6, 0, 0, true); // no 16-bit gates in IA-32e mode
    expect_error(TM_RUN(t, 0xCD, 0x30), VEC_GP, 0x30 * 8 + 2, CODE);
}

static void long_page_fault_frame(void **state)
{
    // mov rax,[4000000h]: beyond the 16 MiB that are mapped
    assert_int_equal(TM_RUN(t, 0x48, 0x8B, 0x04, 0x25, 0, 0, 0, 4), VEC_PF);
    assert_int_equal(S.cr2, 0x4000000);
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), 0); // not present, read, supervisor
    assert_int_equal(tm_read(t, S.gpr[RSP] + 8, 8), CODE);
    assert_true(tm_read(t, S.gpr[RSP] + 24, 8) & FL_RF); // a fault pushes RF = 1
}

// A frame is stored whole or not at all: of one that crosses into a page that is not there, nothing is left.
static void no_half_frames(void **state)
{
    const u64 edge = 0x600000; // from here on mapped, below it not
    tm_write64(t, 0x42000 + 8 * (edge / 0x200000 - 1), 0);
    tm_gate(t, VEC_PF, SEL_CODE64, 14, 0, 1, true);
    for (u64 at = 16; at < 48; at += 16) { // 16, 32 bytes of the frame's 40 are above the edge
        memset(t->p.ram + edge, 0x5A, 64);
        S.gpr[RSP] = edge + at;
        assert_int_equal(TM_RUN(t, 0xCD, 0x30), VEC_PF);
        assert_int_equal(tm_read(t, S.gpr[RSP], 8), 2);
        assert_int_equal(tm_read(t, S.gpr[RSP] + 32, 8), edge + at); // RSP as it was
        for (unsigned i = 0; i < 64; i++) assert_int_equal(t->p.ram[edge + i], 0x5A);
    }
}

static void page_fault_on_the_kernel_stack_is_double_fault(void **state)
{
    tm_gate(t, VEC_DF, SEL_CODE64, 14, 0, 1, true);
    tm_write64(t, TSS + 4, 0x6000000); // not mapped
    tm_user(t);
    // The page fault cannot be pushed (#PF while #PF): #DF with error 0, on its own stack.
    assert_int_equal(TM_RUN(t, 0x48, 0x8B, 0x04, 0x25, 0, 0, 0, 4), VEC_DF);
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), 0);
    assert_int_equal(S.gpr[RSP], IST_STACK - 48);
    assert_int_equal(S.cr2, 0x6000000 - 8);
    tm_gate(t, VEC_DF, SEL_CODE64, 14, 0, 0, true); // and if that has no stack either: shutdown
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x48, 0x8B, 0x04, 0x25, 0, 0, 0, 4), -100 - RUN_SHUTDOWN);
}

static void double_fault_table(void **state)
{
    // SDM table 7-5: rows are the first exception, columns the second.
    // clang-format off
    struct { u8 first, second; int result; } c[] = {
        {VEC_UD, VEC_GP, VEC_GP}, {VEC_DB, VEC_PF, VEC_PF}, {VEC_DE, VEC_GP, VEC_DF}, {VEC_TS, VEC_SS, VEC_DF},
        {VEC_NP, VEC_NP, VEC_DF}, {VEC_GP, VEC_PF, VEC_PF}, {VEC_PF, VEC_GP, VEC_DF}, {VEC_PF, VEC_PF, VEC_DF},
        {VEC_PF, VEC_UD, VEC_UD}, {VEC_GP, VEC_NM, VEC_NM}, {VEC_DF, VEC_GP, -1}, {VEC_DF, VEC_PF, -1},
        {VEC_DF, VEC_DB, VEC_DB}, {VEC_VE, VEC_GP, VEC_DF}, {VEC_GP, VEC_VE, VEC_VE}, {VEC_AC, VEC_TS, VEC_TS},
        {VEC_CP, VEC_GP, VEC_DF},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        struct event a = {.kind = EVENT_INTERRUPTION, .vector = c[i].first, .type = EVT_HW_EXCEPTION};
        // clang-format off
        struct event b = {.kind = EVENT_INTERRUPTION, .vector = c[i].second, .type = EVT_HW_EXCEPTION, .error = 7}, r;
        // clang-format on
        bool alive = deliver_combine(&a, &b, &r);
        assert_int_equal(alive, c[i].result >= 0);
        if (!alive) continue;
        assert_int_equal(r.vector, c[i].result);
        if (r.vector == VEC_DF) assert_true(r.has_error && r.error == 0);
    }
    // INT 13: benign
    struct event a = {.kind = EVENT_INTERRUPTION, .vector = VEC_GP, .type = EVT_SW_INTERRUPT};
    struct event b = {.kind = EVENT_INTERRUPTION, .vector = VEC_GP, .type = EVT_HW_EXCEPTION}, r;
    assert_true(deliver_combine(&a, &b, &r));
    assert_int_equal(r.vector, VEC_GP);
}

// INTO: a trap if OF is 1, by a gate whose DPL counts, with no EXT in what goes wrong.
static void into_on_overflow(void **state)
{
    for (unsigned of = 0; of < 2; of++)
        for (unsigned dpl = 0; dpl < 4; dpl += 3) {
            tm_user(t);
            tm_gate(t, VEC_OF, SEL_CODE32, 14, dpl, 0, false);
            cpu_set_rflags(t->v, of ? 2 | FL_OF : 2);
            int r = TM_RUN(t, 0xCE);
            assert_int_equal(r, !of ? 0x80 : dpl ? VEC_OF : VEC_GP);
            if (of && dpl) assert_int_equal(tm_read(t, S.gpr[RSP], 4), CODE + 1);
            if (of && !dpl) assert_int_equal(tm_read(t, S.gpr[RSP], 4), VEC_OF * 8 + 2);
        }
}

static void debug_exception_notes_dr6(void **state)
{
    S.dr[6] = 0xFFFF0FF0 | 3;
    S.dr[7] |= BIT(13); // general detect
    cpu_mode_changed(t->v);
    assert_int_equal(TM_RUN(t, 0x0F, 0x21, 0xC0), VEC_DB); // mov rax,dr0
    assert_int_equal(S.dr[6] & 0xE00F, 0x2000);
    assert_false(S.dr[7] & BIT(13));
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), CODE); // a fault
}

int main(void)
{
#define R(f) cmocka_unit_test_setup_teardown(f, real_setup, teardown)
#define P(f) cmocka_unit_test_setup_teardown(f, prot_setup, teardown)
#define L(f) cmocka_unit_test_setup_teardown(f, long_setup, teardown)
    // clang-format off
    const struct CMUnitTest tests[] = {
        R(real_int), R(real_fault_pushes_no_error_code), R(real_idt_limit_is_gp_then_df_then_shutdown),
        P(protected_int_same_level), P(protected_16bit_gate), P(protected_int_from_user), P(gate_dpl_and_presence),
        P(ext_bit_for_faults_during_faults), P(gate_selector_checks), P(stack_from_tss_checks),
        P(stack_limit_is_ss_with_selector), P(expand_down_stack), P(table_limits), L(table_limits),
        P(tss_limits), L(tss_limits), L(long_int_same_level_aligns), L(long_int_from_user_nulls_ss), L(long_ist),
        L(long_gate_needs_64bit_code), L(long_page_fault_frame), L(page_fault_on_the_kernel_stack_is_double_fault),
        L(no_half_frames),
        L(debug_exception_notes_dr6), P(into_on_overflow), cmocka_unit_test(double_fault_table),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}
