// Segment loads, system descriptors, far transfers, IRET. Expected values: SDM volume 2, the "Exceptions" and
// "Operation" sections of each instruction.
#include "cpu_machine.h"

static struct tm *t;
static int real_setup(void **s) { return t = tm_new(TM_REAL), 0; }
static int prot_setup(void **s) { return t = tm_new(TM_PROTECTED), 0; }
static int long_setup(void **s) { return t = tm_new(TM_LONG), 0; }
static int teardown(void **s) { return tm_free(t), 0; }
#define S (t->v->s)

static void expect(int got, int vector, u32 error)
{
    assert_int_equal(got, vector);
    if (vector == NOTHING) return;
    bool lng = S.msr.efer & EFER_LMA;
    assert_int_equal(tm_read(t, S.gpr[RSP], lng ? 8 : 4), error);
    assert_int_equal(tm_read(t, S.gpr[RSP] + (lng ? 8 : 4), lng ? 8 : 4), CODE);
}
static void kernel(void)
{
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) tm_load(t, i, SEL_DATA);
    tm_load(t, SEG_CS, S.msr.efer & EFER_LMA ? SEL_CODE64 : SEL_CODE32);
    S.gpr[RSP] = STACK;
    S.rflags = 2;
    cpu_mode_changed(t->v);
}

// mov ds,ax at CPL 0 and 3.
static void load_ds(void **state)
{
    // clang-format off
    struct { u16 sel; int at0, at3; u32 error; } c[] = {
        {SEL_DATA, NOTHING, VEC_GP, SEL_DATA}, {SEL_UDATA | 3, NOTHING, NOTHING, 0}, {0, NOTHING, NOTHING, 0}, {3, NOTHING, NOTHING, 0},
        {SEL_DATA | 3, VEC_GP, VEC_GP, SEL_DATA}, {SEL_DATA_RO, NOTHING, VEC_GP, SEL_DATA_RO},
        {SEL_DATA_NP, VEC_NP, VEC_GP, SEL_DATA_NP}, {SEL_CODE32, NOTHING, VEC_GP, SEL_CODE32},
        {SEL_CODE_XO, VEC_GP, VEC_GP, SEL_CODE_XO}, {SEL_CONFORMING | 3, NOTHING, NOTHING, 0},
        {GDT_END, VEC_GP, VEC_GP, GDT_END}, {SEL_TSS, VEC_GP, VEC_GP, SEL_TSS}, {SEL_DATA | 4, VEC_GP, VEC_GP, SEL_DATA | 4},
    };
    // clang-format on
    for (unsigned cpl = 0; cpl < 4; cpl += 3)
        for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
            if (cpl)
                tm_user(t);
            else
                kernel();
            S.gpr[RAX] = c[i].sel;
            int vector = cpl ? c[i].at3 : c[i].at0;
            // At CPL 3 a HLT of its own is a #GP: end with INT 80h.
            int got = cpl ? TM_RUN(t, 0x8E, 0xD8, 0xCD, 0x80) : TM_RUN(t, 0x8E, 0xD8);
            if (cpl && vector == NOTHING)
                assert_int_equal(got, 0x80);
            else
                expect(got, vector, c[i].error);
            if (vector == NOTHING) {
                assert_int_equal(S.seg[SEG_DS].sel, c[i].sel);
                assert_int_equal(!!(S.seg[SEG_DS].ar & AR_UNUSABLE), c[i].sel < 4);
                // accessed, in memory too
                if (c[i].sel >= 4) assert_true(t->p.ram[GDT + (c[i].sel & ~7) + 5] & 1);
            }
        }
}

static void load_ss(void **state)
{
    // clang-format off
    struct { u16 sel; int vector; u32 error; } c[] = {
        {SEL_DATA, NOTHING, 0}, {0, VEC_GP, 0}, {3, VEC_GP, 0}, {SEL_DATA | 1, VEC_GP, SEL_DATA}, {SEL_DATA_RO, VEC_GP, SEL_DATA_RO},
        {SEL_UDATA | 3, VEC_GP, SEL_UDATA}, {SEL_UDATA, VEC_GP, SEL_UDATA}, {SEL_DATA_NP, VEC_SS, SEL_DATA_NP},
        {SEL_CODE32, VEC_GP, SEL_CODE32}, {GDT_END + 8, VEC_GP, GDT_END + 8},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        kernel();
        S.gpr[RAX] = c[i].sel;
        expect(TM_RUN(t, 0x8E, 0xD0, 0x90), c[i].vector, c[i].error);
    }
    kernel();
    assert_int_equal(TM_RUN(t, 0x8E, 0xC8), VEC_UD); // mov cs,ax
}

static void load_ss_null_in_64bit_mode(void **state)
{
    S.gpr[RAX] = 0;
    expect(TM_RUN(t, 0x8E, 0xD0, 0x90), NOTHING, 0);
    assert_true(S.seg[SEG_SS].ar & AR_UNUSABLE);
    S.gpr[RAX] = 3; // RPL must be CPL
    expect(TM_RUN(t, 0x8E, 0xD0, 0x90), VEC_GP, 0);
    tm_user(t);
    S.gpr[RAX] = 3; // and CPL must not be 3
    expect(TM_RUN(t, 0x8E, 0xD0, 0x90), VEC_GP, 0);
}

static void accessed_bit_and_hidden_part(void **state)
{
    tm_write64(t, GDT + SEL_DATA16,
               tm_descriptor(0x12345678, 0x00012, AR_P | AR_S | AR_WRITABLE | AR_G | AR_DB));
    S.gpr[RAX] = SEL_DATA16;
    expect(TM_RUN(t, 0x8E, 0xE0), NOTHING, 0); // fs
    assert_int_equal(S.seg[SEG_FS].base, 0x12345678);
    assert_int_equal(S.seg[SEG_FS].limit, 0x12FFF);
    assert_int_equal(S.seg[SEG_FS].ar, AR_P | AR_S | AR_WRITABLE | AR_G | AR_DB | AR_ACCESSED);
    S.gpr[RAX] = 0;
    assert_int_equal(TM_RUN(t, 0x8E, 0xE0, 0x64, 0xA1, 0, 0, 0, 0), VEC_GP); // mov fs,ax; mov eax,fs:[0]
    assert_int_equal(tm_read(t, S.gpr[RSP], 4), 0);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), CODE + 2);
}

static void unreal_mode(void **state)
{
    // Enter with a 4 GiB FS from protected mode: the limit outlives the load of a selector in real mode.
    S.seg[SEG_FS].limit = 0xFFFFFFFF;
    S.seg[SEG_FS].ar |= AR_G;
    t->p.ram[0x123450 + 5] = 0x5A;
    S.gpr[RAX] = 0x12, S.gpr[RBX] = 0x123330 + 5;
    assert_int_equal(TM_RUN(t, 0x8E, 0xE0, 0x67, 0x64, 0x8A, 0x0B), NOTHING); // mov fs,ax; mov cl,fs:[ebx]
    assert_int_equal(S.seg[SEG_FS].base, 0x120);
    assert_int_equal(S.seg[SEG_FS].limit, 0xFFFFFFFF);
    assert_int_equal(S.gpr[RCX] & 0xFF, t->p.ram[0x123330 + 5 + 0x120]);
    assert_int_equal(S.gpr[RCX] & 0xFF, 0x5A);
}

static void ltr_and_lldt(void **state)
{
    // clang-format off
    struct { u16 sel; int ltr, lldt; u32 error; } c[] = {
        {0, VEC_GP, NOTHING, 0}, {SEL_TSS2, NOTHING, VEC_GP, SEL_TSS2}, {SEL_LDT, VEC_GP, NOTHING, SEL_LDT},
        {SEL_DATA, VEC_GP, VEC_GP, SEL_DATA}, {SEL_TSS2 | 4, VEC_GP, VEC_GP, SEL_TSS2 | 4}, {GDT_END, VEC_GP, VEC_GP, GDT_END},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        kernel();
        S.gpr[RAX] = c[i].sel;
        expect(TM_RUN(t, 0x0F, 0x00, 0xD8), c[i].ltr, c[i].error);
        kernel();
        S.gpr[RAX] = c[i].sel;
        expect(TM_RUN(t, 0x0F, 0x00, 0xD0), c[i].lldt, c[i].error);
    }
    assert_int_equal(t->p.ram[GDT + SEL_TSS2 + 5] & 0x1F, 11); // busy in memory
    kernel();
    S.gpr[RAX] = SEL_TSS2;
    expect(TM_RUN(t, 0x0F, 0x00, 0xD8), VEC_GP, SEL_TSS2); // a busy TSS
    t->p.ram[GDT + SEL_TSS2 + 5] = 9;                      // not present
    kernel();
    S.gpr[RAX] = SEL_TSS2;
    expect(TM_RUN(t, 0x0F, 0x00, 0xD8), VEC_NP, SEL_TSS2);
}

static void ldt_selectors(void **state)
{
    tm_write64(t, LDT + 8, tm_descriptor(0x1000, 0xFF, AR_P | AR_S | AR_WRITABLE));
    S.gpr[RAX] = SEL_LDT, S.gpr[RBX] = 8 | 4, S.gpr[RCX] = 0x20 | 4;
    expect(TM_RUN(t, 0x0F, 0x00, 0xD0, 0x8E, 0xE3), NOTHING, 0); // lldt ax; mov fs,bx
    assert_int_equal(S.seg[SEG_FS].base, 0x1000);
    expect(TM_RUN(t, 0x8E, 0xE1), VEC_GP, 0x20 | 4); // beyond its limit
}

static u64 inspect(u8 op, u16 sel, bool *zf)
{
    kernel();
    S.gpr[RAX] = sel, S.gpr[RBX] = 0x1111111111111111ull;
    assert_int_equal(op >= 4 ? TM_RUN(t, 0x0F, 0x00, 0xC0 | (u8)(op << 3)) : TM_RUN(t, 0x0F, op, 0xD8),
                     NOTHING);
    *zf = cpu_rflags(t->v) & FL_ZF;
    return S.gpr[RBX];
}

static void verify_and_inspect(void **state)
{
    // clang-format off
    struct { u16 sel; bool verr, verw, lar, lsl; } c[] = {
        {SEL_DATA, true, true, true, true}, {SEL_DATA_RO, true, false, true, true}, {SEL_CODE32, true, false, true, true},
        {SEL_CODE_XO, false, false, true, true}, {0, false, false, false, false}, {GDT_END, false, false, false, false},
        {SEL_TSS, false, false, true, true}, {SEL_LDT, false, false, true, true}, {SEL_GATE, false, false, true, false},
        {SEL_DATA | 3, false, false, false, false}, {SEL_CONFORMING | 3, true, false, true, true},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        bool zf;
        inspect(4, c[i].sel, &zf), assert_int_equal(zf, c[i].verr);
        inspect(5, c[i].sel, &zf), assert_int_equal(zf, c[i].verw);
        u64 lar = inspect(2, c[i].sel, &zf);
        assert_int_equal(zf, c[i].lar);
        if (!zf) assert_int_equal(lar, 0x1111111111111111ull);
        u64 lsl = inspect(3, c[i].sel, &zf);
        assert_int_equal(zf, c[i].lsl);
        if (!zf) assert_int_equal(lsl, 0x1111111111111111ull);
    }
    bool zf;
    assert_int_equal(inspect(2, SEL_TSS2, &zf), 0x8900);
    assert_int_equal(inspect(3, SEL_DATA, &zf), 0xFFFFFFFF);
    assert_int_equal(inspect(3, SEL_TSS2, &zf), 0x67);
}

static void arpl_raises_the_rpl(void **state)
{
    S.gpr[RAX] = 0x11230, S.gpr[RBX] = 2;
    assert_int_equal(TM_RUN(t, 0x63, 0xD8), NOTHING); // arpl ax,bx
    assert_int_equal(S.gpr[RAX], 0x11232);
    assert_true(cpu_rflags(t->v) & FL_ZF);
    assert_int_equal(TM_RUN(t, 0x63, 0xD8), NOTHING);
    assert_false(cpu_rflags(t->v) & FL_ZF);
}

// jmp sel:off through memory at DATA
static int jump(u16 sel, u32 offset, u8 digit)
{
    tm_write(t, DATA, &offset, 4);
    tm_write(t, DATA + 4, &sel, 2);
    if (S.msr.efer & EFER_LMA) return TM_RUN(t, 0xFF, 0x04 | (u8)(digit << 3), 0x25, 0, DATA >> 8, 0, 0);
    return TM_RUN(t, 0xFF, 0x05 | (u8)(digit << 3), 0, DATA >> 8, 0, 0);
}

static void far_jump_checks(void **state)
{
    t->p.ram[0x7800] = 0xF4;
    // clang-format off
    struct { u16 sel; u32 offset; int vector; u32 error; } c[] = {
        {SEL_CODE32, 0x7800, NOTHING, 0}, {SEL_CODE32 | 1, 0x7800, VEC_GP, SEL_CODE32}, {0, 0x7800, VEC_GP, 0},
        {GDT_END, 0, VEC_GP, GDT_END}, {SEL_DATA, 0x7800, VEC_GP, SEL_DATA}, {SEL_CODE_NP, 0x7800, VEC_NP, SEL_CODE_NP},
        {SEL_UCODE32 | 3, 0x7800, VEC_GP, SEL_UCODE32}, {SEL_CONFORMING | 3, 0x7800, NOTHING, 0}, {SEL_SMALL, 0x1000, VEC_GP, 0},
        {SEL_LDT, 0, VEC_GP, SEL_LDT}, {SEL_GATE, 0, NOTHING, 0}, {SEL_GATE_NP, 0, VEC_NP, SEL_GATE_NP},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        kernel();
        expect(jump(c[i].sel, c[i].offset, 5), c[i].vector, c[i].error);
        if (c[i].vector != NOTHING) continue;
        assert_int_equal(S.rip - 1, (c[i].sel & ~3) == SEL_GATE ? 0x7700 : c[i].offset);
        assert_int_equal(S.seg[SEG_CS].sel & 3, 0);
        kernel();
        assert_int_equal(jump(c[i].sel, c[i].offset, 3), NOTHING); // CALL leaves CS:EIP
        assert_int_equal(S.gpr[RSP], STACK - 8);
        assert_int_equal(tm_read(t, STACK - 8, 4), CODE + 6);
        assert_int_equal(tm_read(t, STACK - 4, 4) & 0xFFFF, SEL_CODE32);
    }
}

static void long_and_default_size_conflict(void **state)
{
    expect(jump(SEL_LD, 0x7800, 5), VEC_GP, SEL_LD); // L and D in IA-32e mode
}

static void call_gate_to_inner_level(void **state)
{
    tm_user(t);
    assert_int_equal(jump(SEL_GATE | 3, 0x99999999, 3), NOTHING);
    assert_int_equal(S.rip - 1, 0x7700);
    assert_int_equal(cpu_cpl(t->v), 0);
    assert_int_equal(S.gpr[RSP], KERNEL_STACK - 16);
    assert_int_equal(tm_read(t, KERNEL_STACK - 16, 4), CODE + 6);
    assert_int_equal(tm_read(t, KERNEL_STACK - 12, 4) & 0xFFFF, SEL_UCODE32 | 3);
    assert_int_equal(tm_read(t, KERNEL_STACK - 8, 4), USER_STACK);
    assert_int_equal(tm_read(t, KERNEL_STACK - 4, 4) & 0xFFFF, SEL_UDATA | 3);
}

static void call_gate_copies_parameters(void **state)
{
    t->p.ram[GDT + SEL_GATE + 4] = 2;
    tm_user(t);
    u64 args = 0x2222222211111111ull;
    tm_write64(t, USER_STACK, args);
    assert_int_equal(jump(SEL_GATE | 3, 0, 3), NOTHING);
    assert_int_equal(S.gpr[RSP], KERNEL_STACK - 24);
    assert_int_equal(tm_read(t, KERNEL_STACK - 16, 8), args);
}

// Up to 31, in the width of the gate; those that the caller's stack does not hold are #SS(0), in the caller;
// a conforming segment has no new stack and so no copy (SDM 6.8.5).
static void call_gates_of_many_parameters(void **state)
{
    for (unsigned wide = 0; wide < 2; wide++)
        for (unsigned count = 0; count < 32; count += 31) {
            unsigned n = wide ? 4 : 2;
            tm_user(t);
            tm_write64(t, GDT + SEL_GATE,
                       0x7700 | (u64)SEL_CODE32 << 16 | (u64)count << 32 |
                           (u64)((wide ? 12 : 4) | 3 << 5 | 0x80) << 40);
            for (unsigned i = 0; i < 31 * n; i++) t->p.ram[USER_STACK + i] = (u8)(i + 1);
            assert_int_equal(jump(SEL_GATE | 3, 0, 3), NOTHING);
            assert_int_equal(S.gpr[RSP], KERNEL_STACK - n * (count + 4));
            assert_memory_equal(t->p.ram + KERNEL_STACK - n * (count + 2), t->p.ram + USER_STACK, n * count);
            assert_int_equal(tm_read(t, S.gpr[RSP], n), (CODE + 6) & (wide ? UINT32_MAX : 0xFFFF));
            assert_int_equal(tm_read(t, S.gpr[RSP] + n, 2), SEL_UCODE32 | 3);
            assert_int_equal(tm_read(t, KERNEL_STACK - 2 * n, n), USER_STACK & (wide ? UINT32_MAX : 0xFFFF));
            assert_int_equal(tm_read(t, KERNEL_STACK - n, 2), SEL_UDATA | 3);
        }
    tm_user(t);
    S.seg[SEG_SS].limit = USER_STACK + 31 * 4 - 2;
    expect(jump(SEL_GATE | 3, 0, 3), VEC_SS, 0);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), CODE);
    tm_user(t);
    tm_write64(t, GDT + SEL_GATE,
               0x7700 | (u64)SEL_CONFORMING << 16 | (u64)31 << 32 | (u64)(12 | 3 << 5 | 0x80) << 40);
    t->p.ram[0x7700] = 0xCD, t->p.ram[0x7701] = 0x80;
    assert_int_equal(jump(SEL_GATE | 3, 0, 3), 0x80);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 12, 4), USER_STACK - 8);
}

static void long_call_gate(void **state)
{
    tm_user(t);
    assert_int_equal(jump(SEL_GATE | 3, 0, 3), NOTHING);
    assert_int_equal(S.rip - 1, 0x7700);
    assert_int_equal(S.gpr[RSP], KERNEL_STACK - 32);
    assert_true(S.seg[SEG_SS].ar & AR_UNUSABLE);
    assert_int_equal(tm_read(t, KERNEL_STACK - 8, 8), SEL_UDATA | 3);
}

static void push_frame(const u64 *items, unsigned n, unsigned size) // items[0] at the lowest address
{
    S.gpr[RSP] = STACK - n * size;
    for (unsigned i = 0; i < n; i++) tm_write(t, S.gpr[RSP] + i * size, &items[i], size);
}

// A descriptor whose last byte lies at the limit of its table is in it; with one byte less it is not.
static void descriptor_table_limits(void **state)
{
    bool lng = S.msr.efer & EFER_LMA;
    const u64 data = tm_descriptor(0, 0xFFFFF, AR_P | AR_S | AR_WRITABLE | AR_DB | AR_G);
    for (unsigned less = 0; less < 2; less++) {
        kernel();
        tm_write64(t, GDT + GDT_END, data);
        S.gdtr.limit = GDT_END + 7 - less;
        S.gpr[RAX] = GDT_END;
        expect(TM_RUN(t, 0x8E, 0xE0), less ? VEC_GP : NOTHING, GDT_END); // mov fs,ax
        kernel();
        S.gpr[RAX] = GDT_END;
        assert_int_equal(TM_RUN(t, 0x0F, 0x00, 0xE0), NOTHING); // verr ax
        assert_int_equal(!!(cpu_rflags(t->v) & FL_ZF), !less);
        // An LDT, and an unusable and a not present one.
        for (unsigned kind = 0; kind < 3; kind++) {
            kernel();
            tm_write64(t, LDT + 0x20, data);
            S.seg[SEG_LDTR] =
                (struct segment){.sel = SEL_LDT, .base = LDT, .limit = 0x27 - less, .ar = AR_P | 2};
            if (kind == 1) S.seg[SEG_LDTR].ar |= AR_UNUSABLE;
            if (kind == 2) S.seg[SEG_LDTR].ar &= ~AR_P;
            S.gpr[RAX] = 0x24;
            expect(TM_RUN(t, 0x8E, 0xE0), less || kind ? VEC_GP : NOTHING, 0x24);
        }
        // A system descriptor has 16 bytes in IA-32e mode.
        kernel();
        tm_write64(t, GDT + GDT_END, tm_descriptor(TSS, 0x67, AR_P | 9));
        tm_write64(t, GDT + GDT_END + 8, 0);
        S.gdtr.limit = GDT_END + (lng ? 15 : 7) - less;
        S.gpr[RAX] = GDT_END;
        expect(TM_RUN(t, 0x0F, 0x00, 0xD8), less ? VEC_GP : NOTHING, GDT_END); // ltr ax
        // What far transfers read.
        kernel();
        tm_write64(t, GDT + GDT_END, tm_read(t, GDT + S.seg[SEG_CS].sel, 8));
        t->p.ram[0x7800] = 0xF4;
        S.gdtr.limit = GDT_END + 7 - less;
        expect(jump(GDT_END, 0x7800, 5), less ? VEC_GP : NOTHING, GDT_END);
        kernel();
        push_frame((u64[]){0x7800, GDT_END, 2, STACK, SEL_DATA}, 5, lng ? 8 : 4);
        const u8 iret[] = {0x48, 0xCF};
        expect(tm_run(t, iret + !lng, 1 + lng), less ? VEC_GP : NOTHING, GDT_END);
    }
}

static void retf_to_user_and_its_checks(void **state)
{
    t->p.ram[0x7800] = 0xCD, t->p.ram[0x7801] = 0x80;
    // clang-format off
    struct { u16 cs, ss; int vector; u32 error; } c[] = {
        {SEL_UCODE32 | 3, SEL_UDATA | 3, 0x80, 0}, {SEL_UCODE32 | 3, SEL_DATA | 3, VEC_GP, SEL_DATA},
        {SEL_UCODE32 | 3, SEL_UDATA, VEC_GP, SEL_UDATA}, {SEL_UCODE32 | 3, 0, VEC_GP, 0}, {0, SEL_UDATA | 3, VEC_GP, 0},
        {SEL_UCODE32, 0, VEC_GP, SEL_UCODE32}, {SEL_CODE32 | 3, SEL_UDATA | 3, VEC_GP, SEL_CODE32}, {SEL_DATA, 0, VEC_GP, SEL_DATA},
        {SEL_CODE_NP, 0, VEC_NP, SEL_CODE_NP},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        kernel();
        push_frame((u64[]){0x7800, c[i].cs, 0x11, 0x22, USER_STACK, c[i].ss}, 6, 4);
        u64 sp = S.gpr[RSP];
        int got = TM_RUN(t, 0xCA, 8, 0); // retf 8
        if (c[i].vector == 0x80) {
            assert_int_equal(got, 0x80);
            assert_int_equal(tm_read(t, S.gpr[RSP], 4), 0x7802);
            // the parameters go on both stacks
            assert_int_equal(tm_read(t, S.gpr[RSP] + 12, 4), USER_STACK + 8);
            // level 0 data is not for level 3
            assert_true(S.seg[SEG_DS].ar & AR_UNUSABLE);
        } else {
            expect(got, c[i].vector, c[i].error);
            assert_int_equal(S.gpr[RSP], sp - 16); // nothing was popped
        }
    }
}

// A return to an outer level clears the selectors of data segments that the new level may not see, and of
// those that are NULL already (1 to 3 become 0), and leaves the bases. Expected: SDM "Operation" of IRET and
// RET; for NULL selectors and bases of FS and GS in 64-bit mode what an Intel processor (family 6, model 207)
// does under Linux, whose 32-bit sigreturn wants it so.
static void returns_drop_data_segments(void **state)
{
    const bool lng = S.msr.efer & EFER_LMA;
    const u32 data = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED | AR_DB | AR_G, base = 0x345000;
    // clang-format off
    struct { u16 sel; u32 ar; int after; } c[] = { // after: the selector at level 3
        {0, AR_UNUSABLE, 0}, {1, AR_UNUSABLE, 0}, {2, AR_UNUSABLE, 0}, {3, AR_UNUSABLE, 0},
        {0, data, 0},        // NULL and usable, as hypervisors load FS and GS
        {3, data | AR_DPL, 0},
        {SEL_DATA, data, 0}, {SEL_DATA_DPL1 | 1, data | 1 << 5, 0}, {SEL_DATA_DPL1, AR_UNUSABLE | 1 << 5, 0},
        {SEL_CODE32, AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED, 0},
        {SEL_UDATA | 3, data | AR_DPL, SEL_UDATA | 3}, {SEL_UDATA, data | AR_DPL, SEL_UDATA},
        {SEL_CONFORMING, AR_P | AR_S | AR_CODE | AR_READABLE | AR_CONFORMING | AR_ACCESSED, SEL_CONFORMING},
    };
    // clang-format on
    static const u8 segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    // clang-format off
    struct { u8 code[2]; u8 n, w; bool iret, lng; u16 cs; } how[] = {
        {{0xCF}, 1, 4, true, false, SEL_UCODE32 | 3}, {{0xCB}, 1, 4, false, false, SEL_UCODE32 | 3},
        {{0x66, 0xCF}, 2, 2, true, false, SEL_UCODE32 | 3}, {{0x66, 0xCB}, 2, 2, false, false, SEL_UCODE32 | 3},
        {{0x48, 0xCF}, 2, 8, true, true, SEL_UCODE64 | 3}, {{0x48, 0xCB}, 2, 8, false, true, SEL_UCODE64 | 3},
        {{0x48, 0xCF}, 2, 8, true, true, SEL_UCODE32 | 3}, {{0xCB}, 1, 4, false, true, SEL_UCODE32 | 3},
        {{0x66, 0xCF}, 2, 2, true, true, SEL_UCODE64 | 3},
    };
    // clang-format on
    t->p.ram[0x7800] = 0xCD, t->p.ram[0x7801] = 0x80;
    for (unsigned h = 0; h < ARRAY_LEN(how); h++)
        for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
            if (how[h].lng != lng) continue;
            kernel();
            for (unsigned k = 0; k < ARRAY_LEN(segs); k++)
                S.seg[segs[k]] =
                    (struct segment){.sel = c[i].sel, .base = base, .limit = 0xFFFFF, .ar = c[i].ar};
            S.gpr[RSP] = 0x6000; // fits 16 bits
            u64 f[5] = {0x7800, how[h].cs, 0x202, 0x6800, SEL_UDATA | 3};
            if (!how[h].iret) f[2] = f[3], f[3] = f[4];
            for (unsigned k = 0; k < 5; k++) tm_write(t, 0x6000 + k * how[h].w, &f[k], how[h].w);
            assert_int_equal(tm_run(t, how[h].code, how[h].n), 0x80);
            for (unsigned k = 0; k < ARRAY_LEN(segs); k++) {
                const struct segment *s = &S.seg[segs[k]];
                assert_int_equal(s->sel, c[i].after);
                assert_int_equal(!!(s->ar & AR_UNUSABLE), !c[i].after);
                if (segs[k] >= SEG_FS) assert_int_equal(s->base, base);
            }
        }
}

// The same seen by the program: FS keeps working at level 3 of 64-bit code, and is no segment in 32-bit code.
static void fs_outlives_iret(void **state)
{
    const u8 read_fs[] = {0x64, 0x8B, 0x04, 0x25, 0, 0, 0, 0, 0xCD, 0x80}; // mov eax,fs:[0]; int 80h
    for (unsigned compat = 0; compat < 2; compat++) {
        kernel();
        tm_write64(t, DATA, 0x1122334455667788ull);
        tm_write(t, 0x7800, read_fs, sizeof read_fs);
        S.seg[SEG_FS] = (struct segment){
            .base = DATA, .limit = 0xFFFFFFFF, .ar = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED | AR_DB | AR_G};
        push_frame((u64[]){0x7800, compat ? SEL_UCODE32 | 3 : SEL_UCODE64 | 3, 2, USER_STACK, SEL_UDATA | 3},
                   5, 8);
        assert_int_equal(TM_RUN(t, 0x48, 0xCF), compat ? VEC_GP : 0x80);
        if (!compat) assert_int_equal(S.gpr[RAX], 0x55667788);
    }
}

// A return to the same level leaves NULL selectors as they are; so does a load, which clears the base.
static void null_selectors_keep_their_rpl(void **state)
{
    t->p.ram[0x7800] = 0xF4;
    S.seg[SEG_FS].base = S.seg[SEG_GS].base = 0x345000;
    S.gpr[RAX] = 3;
    push_frame((u64[]){0x7800, S.seg[SEG_CS].sel, 2, STACK, SEL_DATA}, 5, S.msr.efer & EFER_LMA ? 8 : 4);
    // mov fs,ax; iret (in 32-bit code after dec eax)
    assert_int_equal(TM_RUN(t, 0x8E, 0xE0, 0x48, 0xCF), NOTHING);
    assert_int_equal(S.rip - 1, 0x7800);
    assert_int_equal(S.seg[SEG_FS].sel, 3);
    assert_int_equal(S.seg[SEG_FS].base, 0);
    assert_int_equal(S.seg[SEG_GS].base, 0x345000);
}

static void iret_flags_by_privilege(void **state)
{
    t->p.ram[0x7800] = 0x9C, t->p.ram[0x7801] = 0xF4; // pushf; hlt
    push_frame((u64[]){0x7800, SEL_CODE32, 0x3000 | FL_IF | FL_CF | FL_ID | 2}, 3, 4);
    assert_int_equal(TM_RUN(t, 0xCF), NOTHING);
    assert_int_equal(tm_read(t, STACK - 4, 4), 0x3000 | FL_IF | FL_CF | FL_ID | 2);
    // From level 3 with IOPL 0: IF and IOPL stay.
    tm_user(t);
    S.rflags = 2;
    t->p.ram[0x7801] = 0xCD, t->p.ram[0x7802] = 0x80;
    push_frame((u64[]){0x7800, SEL_UCODE32 | 3, 0x3000 | FL_IF | FL_CF | 2}, 3, 4);
    assert_int_equal(TM_RUN(t, 0xCF), 0x80);
    assert_int_equal(tm_read(t, STACK - 4, 4), FL_CF | 2);
}

static void iret_checks(void **state)
{
    // clang-format off
    struct { u16 cs; u32 eip; int vector; u32 error; } c[] = {
        {0, 0, VEC_GP, 0}, {SEL_DATA, 0, VEC_GP, SEL_DATA}, {SEL_CODE_NP, 0, VEC_NP, SEL_CODE_NP}, {SEL_SMALL, 0x1000, VEC_GP, 0},
        {GDT_END, 0, VEC_GP, GDT_END},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        kernel();
        push_frame((u64[]){c[i].eip, c[i].cs, 2}, 3, 4);
        expect(TM_RUN(t, 0xCF), c[i].vector, c[i].error);
    }
}

// A stack that is not present is #NP of IRET and #SS of RET (SDM: the exceptions of the one, the operation of
// the other; Bochs has both).
static void returns_to_an_absent_stack(void **state)
{
    bool lng = S.msr.efer & EFER_LMA;
    const u8 iret[] = {0x48, 0xCF}, retf[] = {0x48, 0xCB};
    const u64 code = (lng ? SEL_UCODE64 : SEL_UCODE32) | 3, n = lng ? 8 : 4;
    tm_write64(t, GDT + SEL_DATA_NP, tm_descriptor(0, 0xFFFFF, AR_S | AR_WRITABLE | AR_DB | AR_G | AR_DPL));
    kernel();
    push_frame((u64[]){0x7800, code, 2, USER_STACK, SEL_DATA_NP | 3}, 5, (unsigned)n);
    expect(tm_run(t, iret + !lng, 1 + lng), VEC_NP, SEL_DATA_NP);
    kernel();
    push_frame((u64[]){0x7800, code, USER_STACK, SEL_DATA_NP | 3}, 4, (unsigned)n);
    expect(tm_run(t, retf + !lng, 1 + lng), VEC_SS, SEL_DATA_NP);
}

// A far CALL with a 64-bit offset to compatibility mode takes 32 bits of it; JMP has all of it within the
// limit (SDM, operation of both).
static void wide_offset_to_compatibility_mode(void **state)
{
    const u16 sel = SEL_CODE32;
    tm_write64(t, DATA, 0x100007800);
    tm_write(t, DATA + 8, &sel, 2);
    t->p.ram[0x7800] = 0xF4;
    expect(TM_RUN(t, 0x48, 0xFF, 0x2C, 0x25, 0, DATA >> 8, 0, 0), VEC_GP, 0); // jmp m16:64
    kernel();
    assert_int_equal(TM_RUN(t, 0x48, 0xFF, 0x1C, 0x25, 0, DATA >> 8, 0, 0), NOTHING); // call m16:64
    assert_int_equal(S.rip, 0x7801);
    assert_int_equal(S.seg[SEG_CS].sel, SEL_CODE32);
    assert_int_equal(tm_read(t, STACK - 8, 8), SEL_CODE64);
    assert_int_equal(tm_read(t, STACK - 16, 8), CODE + 8);
}

// Tables and code up to the end of the lower half of canonical addresses, and what lies behind it: a
// descriptor is #GP with its selector (SDM MOV, RET: a descriptor's address that is not canonical), a
// gate with its vector, an instruction that goes on there #GP(0).
static void tables_at_the_end_of_canonical_addresses(void **state)
{
    const u64 end = 1ull << 47;
    tm_write64(t, PML4 + 255 * 8, 0x41007);
    tm_write64(t, 0x41000 + 511 * 8, 0x42007);
    tm_write64(t, 0x42000 + 511 * 8, 0xE7); // the last 2 MiB are the first of memory
    memmove(t->p.ram + 0x1FFF00, t->p.ram + GDT, GDT_END);
    tm_write64(t, 0x1FFFF8, tm_descriptor(LDT, 0x1F, AR_P | 2));
    S.gdtr.base = end - 0x100, S.gdtr.limit = 0x1FF;
    kernel();
    S.gpr[RAX] = SEL_DATA;
    expect(TM_RUN(t, 0x8E, 0xD8), NOTHING, 0); // mov ds,ax
    S.gpr[RAX] = 0x100;
    expect(TM_RUN(t, 0x8E, 0xD8), VEC_GP, 0x100);
    kernel();
    S.gpr[RAX] = 0xF8;
    expect(TM_RUN(t, 0x0F, 0x00, 0xD0), VEC_GP, 0xF8); // lldt ax: half of its descriptor
    kernel();
    S.gdtr.base = GDT, S.gdtr.limit = GDT_END - 1;
    memmove(t->p.ram + 0x1FF400, t->p.ram + IDT, 0xC00);
    S.idtr.base = end - 0xC00;
    assert_int_equal(TM_RUN(t, 0xCD, 0xBF), 0xBF);
    kernel();
    expect(TM_RUN(t, 0xCD, 0xC0), VEC_GP, 0xC0 * 8 + 2);
    kernel();
    S.idtr.base = IDT;
    t->p.ram[0x1FFFFF] = 0xB8; // mov eax,imm32, the first byte of five
    S.gpr[RAX] = end - 1;
    assert_int_equal(TM_RUN(t, 0xFF, 0xE0), VEC_GP); // jmp rax
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), 0);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 8, 8), end - 1);
}

static void long_iret(void **state)
{
    t->p.ram[0x7800] = 0xCD, t->p.ram[0x7801] = 0x80;
    push_frame((u64[]){0x7800, SEL_UCODE64 | 3, 0x202, USER_STACK, SEL_UDATA | 3}, 5, 8);
    assert_int_equal(TM_RUN(t, 0x48, 0xCF), 0x80);
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), 0x7802);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 8, 8), SEL_UCODE64 | 3);
    // To 32-bit code.
    kernel();
    push_frame((u64[]){0x7800, SEL_UCODE32 | 3, 0x202, USER_STACK, SEL_UDATA | 3}, 5, 8);
    assert_int_equal(TM_RUN(t, 0x48, 0xCF), 0x80);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 8, 8), SEL_UCODE32 | 3);
    // Same level, NULL SS: allowed to 64-bit code below level 3; RSP is popped.
    kernel();
    t->p.ram[0x7810] = 0xF4;
    push_frame((u64[]){0x7810, SEL_CODE64, 2, 0x31000, 0}, 5, 8);
    assert_int_equal(TM_RUN(t, 0x48, 0xCF), NOTHING);
    assert_int_equal(S.gpr[RSP], 0x31000);
    assert_true(S.seg[SEG_SS].ar & AR_UNUSABLE);
    // Level 3 with a NULL SS, a RIP that is not canonical, NT.
    kernel();
    push_frame((u64[]){0x7800, SEL_UCODE64 | 3, 0x202, USER_STACK, 3}, 5, 8);
    expect(TM_RUN(t, 0x48, 0xCF), VEC_GP, 0);
    kernel();
    push_frame((u64[]){1ull << 47, SEL_UCODE64 | 3, 0x202, USER_STACK, SEL_UDATA | 3}, 5, 8);
    expect(TM_RUN(t, 0x48, 0xCF), VEC_GP, 0);
    kernel();
    S.rflags |= FL_NT;
    push_frame((u64[]){0x7800, SEL_UCODE64 | 3, 0x202, USER_STACK, SEL_UDATA | 3}, 5, 8);
    expect(TM_RUN(t, 0x48, 0xCF), VEC_GP, 0);
}

static void iret_to_a_16bit_stack_keeps_the_upper_half(void **state)
{
    bool lng = S.msr.efer & EFER_LMA; // to compatibility mode: what Linux has its espfix64 for
    tm_write64(t, GDT + SEL_DATA16, tm_descriptor(0, 0xFFFF, AR_P | AR_S | AR_WRITABLE | AR_DPL));
    // mov eax,esp; int 80h
    t->p.ram[0x7800] = 0x89, t->p.ram[0x7801] = 0xE0, t->p.ram[0x7802] = 0xCD, t->p.ram[0x7803] = 0x80;
    kernel();
    push_frame((u64[]){0x7800, SEL_UCODE32 | 3, 2, 0x5555F000, SEL_DATA16 | 3}, 5, lng ? 8 : 4);
    const u8 iret[] = {0x48, 0xCF};
    assert_int_equal(tm_run(t, iret + !lng, 1 + lng), 0x80);
    assert_int_equal(S.gpr[RAX], ((STACK - 40) & 0xFFFF0000) | 0xF000); // SDM IRET: only SP is loaded
}

// Every load of a segment register in real mode changes selector and base and nothing else of the hidden
// part: Bochs, QEMU, KVM's and Xen's emulators agree, and the manual (SDM 11.9.2) has software load fitting
// descriptors before PE is cleared.
static void real_mode_loads_keep_rights_and_limit(void **state)
{
    const u32 code = AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED,
              data = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED;
    // clang-format off
    struct { u8 code[8]; u8 n; } c[] = {
        {{0xEA, 0x00, 0x08, 0x00, 0x07}, 5},       // jmp 0700:0800
        {{0x9A, 0x00, 0x08, 0x00, 0x07}, 5},       // call 0700:0800
        {{0xFF, 0x2E, 0x00, 0x60}, 4},             // jmp far [6000h]
        {{0xCB}, 1}, {{0xCF}, 1}, {{0xCD, 0x40}, 2}, // retf, iret, int 40h
    };
    // clang-format on
    t->p.ram[0x7800] = 0xF4;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        u16 frame[3] = {0x0800, 0x0700, 2};
        tm_write(t, 0x6000, frame, 6), tm_write(t, 4 * 0x40, frame, 4);
        S.seg[SEG_CS] = (struct segment){.limit = 0x1FFFF, .ar = code | AR_AVL};
        S.gpr[RSP] = 0x6000;
        S.rflags = 2;
        cpu_mode_changed(t->v);
        assert_int_equal(tm_run(t, c[i].code, c[i].n), NOTHING);
        assert_int_equal(S.seg[SEG_CS].sel, 0x700);
        assert_int_equal(S.seg[SEG_CS].base, 0x7000);
        assert_int_equal(S.seg[SEG_CS].limit, 0x1FFFF);
        assert_int_equal(S.seg[SEG_CS].ar, code | AR_AVL);
    }
    S.seg[SEG_CS] = (struct segment){.limit = 0xFFFF, .ar = code};
    // mov ds,ax; mov fs,ax; push ax; pop es; les bx,[6000h] is the last load of ES; lgs bx,[6000h]
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        if (i != SEG_CS)
            S.seg[i] = (struct segment){.limit = 0xFFFFF,
                                        .ar = data | AR_G | AR_AVL | AR_EXPAND_DOWN * (i == SEG_GS)};
    S.seg[SEG_DS] = (struct segment){.sel = 3, .ar = AR_UNUSABLE}; // NULL: becomes a segment of real mode
    S.seg[SEG_ES].ar = data & ~AR_WRITABLE;
    S.gpr[RAX] = 0x100, S.gpr[RSP] = 0x6000;
    u16 far[2] = {0x1111, 0x0200};
    tm_write(t, 0x6000, far, 4);
    cpu_mode_changed(t->v);
    assert_int_equal(TM_RUN(t, 0x8E, 0xE0, 0x50, 0x07, 0x36, 0x0F, 0xB5, 0x1E, 0, 0x60, 0x8E, 0xD8), NOTHING);
    // clang-format off
    struct { u8 seg; u16 sel; u32 limit, ar; } want[] = {
        {SEG_FS, 0x100, 0xFFFFF, data | AR_G | AR_AVL}, {SEG_ES, 0x100, 0xFFFFF, data & ~AR_WRITABLE},
        {SEG_GS, 0x200, 0xFFFFF, data | AR_G | AR_AVL | AR_EXPAND_DOWN}, {SEG_DS, 0x100, 0xFFFF, data},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
        const struct segment *s = &S.seg[want[i].seg];
        assert_int_equal(s->sel, want[i].sel);
        assert_int_equal(s->base, want[i].sel * 16);
        assert_int_equal(s->limit, want[i].limit);
        assert_int_equal(s->ar, want[i].ar);
    }
}

// What an option ROM does: from protected mode to real mode by a far jump, then PE without one. CS is a code
// segment all along, and the 16-bit code segment's: a write through it is refused once PE is set.
static void cs_is_code_through_real_mode(void **state)
{
    const u32 code = AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED;
    // PE=0; jmp 0:7840
    const u8 to_real[] = {0x0F, 0x20, 0xC0, 0x24, 0xFE, 0x0F, 0x22, 0xC0, 0xEA, 0x40, 0x78, 0, 0};
    // PE=1; mov cs:[6000h],al
    const u8 to_protected[] = {0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0, 0x2E, 0xA2, 0, 0x60};
    tm_write(t, 0x7800, to_real, sizeof to_real);
    tm_write(t, 0x7840, to_protected, sizeof to_protected);
    int got = TM_RUN(t, 0xEA, 0x00, 0x78, 0, 0, SEL_CODE16, 0); // jmp 00A0:7800
    assert_int_equal(S.seg[SEG_CS].sel, SEL_CODE32);            // the handler's
    assert_int_equal(got, VEC_GP);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), 0x7848);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 8, 4) & 0xFFFF, 0);
    t->p.ram[0x7848] = 0xF4;
    kernel();
    assert_int_equal(TM_RUN(t, 0xEA, 0x00, 0x78, 0, 0, SEL_CODE16, 0), NOTHING);
    assert_int_equal(S.seg[SEG_CS].sel, 0);
    assert_int_equal(S.seg[SEG_CS].ar, code);
}

// Reset and INIT set the hidden part, the SIPI changes CS alone (SDM table 11-1, 10.4.4.1).
static void reset_and_sipi_set_their_own(void **state)
{
    for (unsigned init = 0; init < 2; init++) {
        vcpu_reset(t->v, init);
        for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
            assert_int_equal(S.seg[i].limit, 0xFFFF);
            assert_int_equal(S.seg[i].ar & ~AR_CODE, AR_P | AR_S | AR_WRITABLE | AR_ACCESSED);
        }
    }
    S.seg[SEG_CS].ar |= AR_AVL; // to tell that it stays
    S.activity = ACTIVITY_WAIT_SIPI;
    cpu_signal(t->v, CPU_SIGNAL_SIPI, 7);
    t->p.ram[0x7000] = 0xF4;
    cpu_drop_derived(t->v);
    assert_int_equal(vcpu_run(t->v, 100), RUN_HALTED);
    assert_int_equal(S.rip, 1);
    assert_int_equal(S.seg[SEG_CS].sel, 0x700);
    assert_int_equal(S.seg[SEG_CS].base, 0x7000);
    assert_int_equal(S.seg[SEG_CS].limit, 0xFFFF);
    assert_int_equal(S.seg[SEG_CS].ar, AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED | AR_AVL);
}

static void real_iret_and_far(void **state)
{
    t->p.ram[0x7800] = 0xF4;
    S.gpr[RSP] = 0x6000;
    u16 f[3] = {0x0800, 0x0700, 0x0203}; // 0700:0800 = 7800h
    tm_write(t, 0x6000, f, 6);
    assert_int_equal(TM_RUN(t, 0xCF), NOTHING);
    assert_int_equal(S.seg[SEG_CS].sel, 0x700);
    assert_int_equal(S.seg[SEG_CS].base, 0x7000);
    assert_int_equal(S.gpr[RSP], 0x6006);
    assert_int_equal(cpu_rflags(t->v), 0x203);
    seg_load_real(t->v, SEG_CS, 0);
    S.rflags = 2;
    assert_int_equal(TM_RUN(t, 0x9A, 0, 8, 0, 7), NOTHING); // call 0700:0800
    assert_int_equal(tm_read(t, 0x6002, 2), CODE + 5);
    assert_int_equal(tm_read(t, 0x6004, 2), 0);
    seg_load_real(t->v, SEG_CS, 0);
    // A 32-bit far jump beyond the limit of 64 KiB.
    assert_int_equal(TM_RUN(t, 0x66, 0xEA, 0, 0, 1, 0, 0, 0), VEC_GP);
}

static void protected_only_instructions_are_ud_in_real_mode(void **state)
{
    u8 op[][3] = {{0x0F, 0x00, 0xC0}, {0x0F, 0x00, 0xC8}, {0x0F, 0x00, 0xD0},
                  {0x0F, 0x00, 0xD8}, {0x0F, 0x00, 0xE0}, {0x0F, 0x00, 0xE8},
                  {0x0F, 0x02, 0xC0}, {0x0F, 0x03, 0xC0}, {0x63, 0xC0, 0x90}};
    for (unsigned i = 0; i < ARRAY_LEN(op); i++) assert_int_equal(tm_run(t, op[i], 3), VEC_UD);
}

static void pop_and_push_of_segment_registers(void **state)
{
    u64 fill = 0xAAAAAAAAAAAAAAAAull;
    tm_write64(t, STACK - 8, fill);
    expect(TM_RUN(t, 0x1E), NOTHING, 0); // push ds: 32-bit slot, 16 bits written
    assert_int_equal(S.gpr[RSP], STACK - 4);
    assert_int_equal(tm_read(t, STACK - 4, 4), 0xAAAA0000 | SEL_DATA);
    expect(TM_RUN(t, 0x66, 0x1E), NOTHING, 0);
    assert_int_equal(S.gpr[RSP], STACK - 6);
    u64 x = SEL_UDATA | 3;
    S.gpr[RSP] = STACK - 4;
    tm_write(t, STACK - 4, &x, 4);
    expect(TM_RUN(t, 0x0F, 0xA1), NOTHING, 0); // pop fs
    assert_int_equal(S.seg[SEG_FS].sel, SEL_UDATA | 3);
    assert_int_equal(S.gpr[RSP], STACK);
}

// PUSH, POP and MOV of each selector, with what is theirs by the manual: a slot of the operand size,
// zero-extended in a register, two bytes in memory.
static void selectors_to_and_fro(void **state)
{
    static const struct {
        u8 seg, push[2], pop[2];
    } c[] = {{SEG_ES, {0x06}, {0x07}},
             {SEG_CS, {0x0E}, {0}},
             {SEG_SS, {0x16}, {0x17}},
             {SEG_DS, {0x1E}, {0x1F}},
             {SEG_FS, {0x0F, 0xA0}, {0x0F, 0xA1}},
             {SEG_GS, {0x0F, 0xA8}, {0x0F, 0xA9}}};
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        kernel();
        u16 sel = c[i].seg == SEG_CS ? SEL_CODE32 : SEL_DATA;
        expect(TM_RUN(t, 0x90, c[i].push[0], c[i].push[1] ? c[i].push[1] : 0x90), NOTHING, 0);
        assert_int_equal(S.gpr[RSP], STACK - 4);
        assert_int_equal(tm_read(t, STACK - 4, 2), sel);
        S.gpr[RAX] = ~0ull, S.gpr[RBX] = DATA;
        tm_write64(t, DATA, ~0ull);
        u8 modrm = (u8)(c[i].seg << 3);
        expect(TM_RUN(t, 0x8C, 0xC0 | modrm, 0x8C, 0x03 | modrm), NOTHING, 0); // mov eax,seg; mov [ebx],seg
        assert_int_equal(S.gpr[RAX], sel);
        assert_int_equal(tm_read(t, DATA, 4), 0xFFFF0000 | sel);
        if (!c[i].pop[0]) continue;
        u16 other = c[i].seg == SEG_SS ? SEL_DATA : SEL_UDATA | 3;
        tm_write64(t, STACK - 4, other);
        expect(TM_RUN(t, 0x90, c[i].pop[0], c[i].pop[1] ? c[i].pop[1] : 0x90), NOTHING, 0);
        assert_int_equal(S.gpr[RSP], STACK);
        assert_int_equal(S.seg[c[i].seg].sel, other);
    }
    kernel();
    tm_write64(t, DATA, (u64)(SEL_UDATA | 3) << 32 | 0x12345678);
    S.gpr[RBX] = DATA;
    expect(TM_RUN(t, 0xC4, 0x03), NOTHING, 0); // les eax,[ebx]
    assert_true(S.gpr[RAX] == 0x12345678 && S.seg[SEG_ES].sel == (SEL_UDATA | 3));
}

static void lss_loads_both_or_nothing(void **state)
{
    u64 far = (u64)SEL_DATA << 32 | 0x31000;
    tm_write64(t, DATA, far);
    S.gpr[RBX] = DATA;
    expect(TM_RUN(t, 0x0F, 0xB2, 0x23), NOTHING, 0); // lss esp,[ebx]
    assert_int_equal(S.gpr[RSP], 0x31000);
    tm_write64(t, DATA, (u64)SEL_DATA_RO << 32 | 0x32000);
    expect(TM_RUN(t, 0x0F, 0xB2, 0x23), VEC_GP, SEL_DATA_RO);
    assert_int_equal(S.gpr[RSP], 0x31000 - 16);
}

int main(void)
{
#define R(f) cmocka_unit_test_setup_teardown(f, real_setup, teardown)
#define P(f) cmocka_unit_test_setup_teardown(f, prot_setup, teardown)
#define L(f) cmocka_unit_test_setup_teardown(f, long_setup, teardown)
    // clang-format off
    const struct CMUnitTest tests[] = {
        P(load_ds), P(load_ss), L(load_ss_null_in_64bit_mode), P(accessed_bit_and_hidden_part), R(unreal_mode),
        P(ltr_and_lldt), L(ltr_and_lldt), P(ldt_selectors), P(verify_and_inspect), P(arpl_raises_the_rpl), P(far_jump_checks),
        L(long_and_default_size_conflict), P(call_gate_to_inner_level),
        P(call_gate_copies_parameters), P(call_gates_of_many_parameters), L(long_call_gate), P(descriptor_table_limits), L(descriptor_table_limits), P(retf_to_user_and_its_checks), P(returns_drop_data_segments),
        L(returns_drop_data_segments), L(fs_outlives_iret), P(null_selectors_keep_their_rpl),
        L(null_selectors_keep_their_rpl), P(iret_flags_by_privilege), P(iret_checks), P(returns_to_an_absent_stack),
        L(returns_to_an_absent_stack), L(wide_offset_to_compatibility_mode), L(tables_at_the_end_of_canonical_addresses), L(long_iret),
        P(iret_to_a_16bit_stack_keeps_the_upper_half), L(iret_to_a_16bit_stack_keeps_the_upper_half), R(real_iret_and_far), R(real_mode_loads_keep_rights_and_limit),
        P(cs_is_code_through_real_mode), R(reset_and_sipi_set_their_own), R(protected_only_instructions_are_ud_in_real_mode),
        P(pop_and_push_of_segment_registers), P(selectors_to_and_fro), P(lss_loads_both_or_nothing),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}
