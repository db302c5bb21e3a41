// Virtual-8086 mode, its extensions (CR4.VME) and those of protected mode (CR4.PVI). Expected: SDM volume 3
// chapter 22, and the "Operation" sections of INT n, IRET, PUSHF, POPF, CLI and STI. The guest test of the
// same name runs on Bochs too.
#include "cpu_machine.h"

static struct tm *t;
static int setup(void **s) { return t = tm_new(TM_PROTECTED), 0; }
static int long_setup(void **s) { return t = tm_new(TM_LONG), 0; }
static int teardown(void **s) { return tm_free(t), 0; }
#define S (t->v->s)

enum { IOPL0 = 0, IOPL3 = 0x3000, V86_SP = 0x6000, REDIRECT = TSS + 0x68, IOMAP = TSS + 0x88 };
enum { F_EIP, F_CS, F_FLAGS, F_ESP, F_SS, F_ES, F_DS, F_FS, F_GS };

// In virtual-8086 mode with the flags besides VM, CS base 0. The TSS has a redirection bitmap that redirects
// nothing, and the 256 vectors at 0 lead to a HLT at 0000:(HANDLER + 16 * vector) as the IDT does: there it
// is a #GP.
static void v86(u64 flags, u64 cr4)
{
    u16 iomap = IOMAP - TSS;
    tm_write(t, TSS + 0x66, &iomap, 2);
    memset(t->p.ram + REDIRECT, 0xFF, 0x20 + 0x60);
    for (unsigned i = 0; i < 256; i++) {
        u32 entry = HANDLER + 16 * i;
        tm_write(t, 4 * i, &entry, 4);
    }
    S.cr4 = cr4;
    cpu_set_rflags(t->v, flags | FL_VM | 2);
    static const u16 sel[] = {[SEG_ES] = 0x1111, [SEG_DS] = 0, [SEG_FS] = 0x4444, [SEG_GS] = 0x5555};
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) seg_load_real(t->v, i, sel[i]);
    S.gpr[RSP] = V86_SP;
    cpu_mode_changed(t->v);
}

// The frame that an event left on the kernel's stack, behind its error code.
static u32 frame(unsigned item)
{
    bool error = (KERNEL_STACK - S.gpr[RSP]) == 40;
    return (u32)tm_read(t, S.gpr[RSP] + 4 * (error + item), 4);
}

static void expect_left(int got, int vector, u32 ip)
{
    assert_int_equal(got, vector);
    assert_int_equal(frame(F_EIP), ip);
    assert_int_equal(S.gpr[RSP], KERNEL_STACK - (vector == VEC_GP ? 40 : 36));
    if (vector == VEC_GP) assert_int_equal(tm_read(t, S.gpr[RSP], 4), 0);
}

static void segments_of_the_8086(void **state)
{
    v86(0, 0);
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        assert_int_equal(S.seg[i].limit, 0xFFFF);
        assert_int_equal(S.seg[i].ar, 0xF3);
    }
    assert_int_equal(cpu_cpl(t->v), 3);
    // mov ax,1234h; mov es,ax; mov es:[10h],al; hlt (#GP). Then a word at FFFFh; a far jump beyond; a far
    // call.
    expect_left(TM_RUN(t, 0xB8, 0x34, 0x12, 0x8E, 0xC0, 0x26, 0xA2, 0x10, 0, 0xF4), VEC_GP, CODE + 9);
    assert_int_equal(t->p.ram[0x12350], 0x34);
    assert_int_equal(frame(F_ES), 0x1234);
    v86(0, 0);
    expect_left(TM_RUN(t, 0xA1, 0xFF, 0xFF), VEC_GP, CODE);
    v86(0, 0);
    expect_left(TM_RUN(t, 0x66, 0xEA, 0, 0, 1, 0, 0, 0), VEC_GP, CODE);
    v86(0, 0);
    t->p.ram[0x7805] = 0xF4;
    expect_left(TM_RUN(t, 0x9A, 0x05, 0x08, 0x00, 0x07), VEC_GP, 0x805);
    assert_int_equal(frame(F_CS), 0x700);
    assert_int_equal(tm_read(t, V86_SP - 4, 4), CODE + 5);
    // What protected mode alone has is #UD; what level 0 alone may is #GP.
    // clang-format off
    static const struct { u8 code[3]; int vector; } c[] = {
        {{0x0F, 0x00, 0xD8}, VEC_UD}, {{0x0F, 0x00, 0xC0}, VEC_UD}, {{0x0F, 0x02, 0xC0}, VEC_UD}, {{0x63, 0xC0, 0x90}, VEC_UD},
        {{0x0F, 0x01, 0xC1}, VEC_UD}, {{0x0F, 0x22, 0xC0}, VEC_GP}, {{0x0F, 0x06, 0x90}, VEC_GP}, {{0x0F, 0x08, 0x90}, VEC_GP},
        {{0x0F, 0x21, 0xC0}, VEC_GP}, {{0x0F, 0x32, 0x90}, VEC_GP}, {{0x0F, 0x01, 0x10}, VEC_GP}, {{0x0F, 0x01, 0x30}, VEC_GP},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        v86(IOPL3, 0);
        expect_left(tm_run(t, c[i].code, 3), c[i].vector, CODE);
    }
}

static void events_leave_for_level_0(void **state)
{
    v86(FL_IF | FL_NT | IOPL3 | FL_CF | FL_VIF, 0);
    expect_left(TM_RUN(t, 0x0F, 0x0B), VEC_UD, CODE);
    assert_int_equal(frame(F_CS), 0);
    assert_int_equal(frame(F_FLAGS), FL_VM | FL_RF | FL_IF | FL_NT | IOPL3 | FL_CF | FL_VIF | 2);
    assert_int_equal(frame(F_ESP), V86_SP);
    assert_int_equal(frame(F_SS), 0);
    assert_int_equal(frame(F_ES), 0x1111);
    assert_int_equal(frame(F_DS), 0);
    assert_int_equal(frame(F_FS), 0x4444);
    assert_int_equal(frame(F_GS), 0x5555);
    assert_int_equal(S.seg[SEG_CS].sel, SEL_CODE32);
    assert_int_equal(S.seg[SEG_SS].sel, SEL_DATA);
    static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
        assert_int_equal(S.seg[data[i]].sel, 0);
        assert_int_equal(S.seg[data[i]].ar, AR_UNUSABLE);
    }
    assert_int_equal(cpu_rflags(t->v), IOPL3 | FL_CF | FL_VIF | 2); // VM, NT, RF and IF are clear
    // INT3 and INTO do not look at IOPL; their gates must have DPL 3.
    tm_gate(t, 3, SEL_CODE32, 14, 3, 0, false);
    v86(0, 0);
    expect_left(TM_RUN(t, 0xCC), 3, CODE + 1);
    v86(0, 0);
    assert_int_equal(TM_RUN(t, 0xB0, 0x7F, 0x04, 1, 0xCE), VEC_GP); // mov al,7fh; add al,1; into
    assert_int_equal(tm_read(t, S.gpr[RSP], 4), 4 * 8 + 2);
    // A 16-bit gate pushes words.
    tm_gate(t, 6, SEL_CODE32, 6, 0, 0, false);
    v86(0, 0);
    assert_int_equal(TM_RUN(t, 0x0F, 0x0B), VEC_UD);
    assert_int_equal(S.gpr[RSP], KERNEL_STACK - 18);
    assert_int_equal(tm_read(t, KERNEL_STACK - 18, 2), CODE);
    assert_int_equal(tm_read(t, KERNEL_STACK - 2, 2), 0x5555);
    // Only a nonconforming segment of level 0 may be behind the gate.
    static const u16 bad[] = {SEL_CONFORMING, SEL_CODE_DPL1, SEL_UCODE32};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        tm_gate(t, 6, bad[i], 14, 0, 0, false);
        v86(0, 0);
        assert_int_equal(TM_RUN(t, 0x0F, 0x0B), VEC_GP);
        assert_int_equal(tm_read(t, S.gpr[RSP], 4), bad[i] | 1);
    }
}

static void iret_enters(void **state)
{
    const u32 flags = FL_VM | FL_CF | FL_IF | FL_NT | FL_AC | FL_ID | FL_VIF | FL_VIP | 0x1000 | 2;
    u32 f[9] = {0x7800, 0x0010, flags, 0x12346000, 0x0020, 0x1111, 0x2222, 0x3333, 0x4444};
    t->p.ram[0x7900] = 0xF4; // 0010:7800
    S.gpr[RSP] = STACK - 36;
    tm_write(t, STACK - 36, f, 36);
    assert_int_equal(TM_RUN(t, 0xCF), VEC_GP);
    for (unsigned i = 0; i < 9; i++) assert_int_equal(frame(i), i == F_FLAGS ? flags | FL_RF : f[i]);
    // The image's VM is nothing outside level 0 and in a 16-bit image.
    t->p.ram[0x7800] = 0xF4;
    S.gpr[RSP] = 0x6000, S.rflags = 2;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) tm_load(t, i, i == SEG_CS ? SEL_CODE32 : SEL_DATA);
    cpu_mode_changed(t->v);
    u16 g[3] = {0x7800, SEL_CODE32, 2};
    tm_write(t, 0x6000, g, 6);
    assert_int_equal(TM_RUN(t, 0x66, 0xCF), NOTHING);
    tm_user(t);
    u32 h[3] = {0x7800, SEL_UCODE32 | 3, FL_VM | 2};
    S.gpr[RSP] = STACK, S.rflags = 2;
    tm_write(t, STACK, h, 12);
    t->p.ram[0x7800] = 0xCD, t->p.ram[0x7801] = 0x80;
    assert_int_equal(TM_RUN(t, 0xCF), 0x80);
    assert_int_equal(S.gpr[RSP], KERNEL_STACK - 20);
    // EIP beyond 64 KiB.
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) tm_load(t, i, i == SEG_CS ? SEL_CODE32 : SEL_DATA);
    f[0] = 0x10000;
    S.gpr[RSP] = STACK - 36, S.rflags = 2;
    cpu_mode_changed(t->v);
    tm_write(t, STACK - 36, f, 36);
    assert_int_equal(TM_RUN(t, 0xCF), VEC_GP);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), CODE);
    assert_false(S.rflags & FL_VM);
}

// CLI, STI, PUSHF, POPF and IRET by IOPL and CR4.VME. `image` is the word at the top of the stack (POPF) or
// the third (IRET). `after` holds EFLAGS when the program goes on, 0 if it is a #GP(0); `pushed` what PUSHF
// pushed.
static void flags_by_iopl_and_vme(void **state)
{
    enum { CLI = 0xFA, STI = 0xFB, PUSHF = 0x9C, POPF = 0x9D, IRET = 0xCF, W = 0x100 /* 32-bit operand */ };
    enum { IF = FL_IF, VIF = FL_VIF, VIP = FL_VIP, TF = FL_TF };
    // clang-format off
    static const struct { u32 op, flags; bool vme; u32 image, after, pushed; } c[] = {
        // IOPL 3: IF itself, with and without VME.
        {CLI, IOPL3 | IF | VIF, false, 0, IOPL3 | VIF, 0}, {CLI, IOPL3 | IF | VIF, true, 0, IOPL3 | VIF, 0},
        {STI, IOPL3 | VIP, false, 0, IOPL3 | IF | VIP, 0}, {STI, IOPL3 | VIP, true, 0, IOPL3 | IF | VIP, 0},
        {PUSHF, IOPL3 | IF, true, 0, IOPL3 | IF, IOPL3 | IF | 2}, {PUSHF, IOPL3 | VIF, true, 0, IOPL3 | VIF, IOPL3 | 2},
        {PUSHF | W, IOPL3 | VIF | FL_AC, true, 0, IOPL3 | VIF | FL_AC, IOPL3 | VIF | FL_AC | 2},
        {POPF, IOPL3 | VIP, true, IF | FL_NT | FL_DF, IOPL3 | VIP | IF | FL_NT | FL_DF, 0},
        {POPF | W, IOPL3 | VIP, true, IF | FL_AC | FL_ID | VIF, IOPL3 | VIP | IF | FL_AC | FL_ID, 0},
        {IRET, IOPL3 | VIP, true, IF | FL_NT, IOPL3 | VIP | IF | FL_NT, 0},
        {IRET | W, IOPL3 | VIP, false, IF | FL_AC | VIF, IOPL3 | VIP | IF | FL_AC, 0},
        // Below it without VME: #GP(0).
        {CLI, 0x2000, false, 0, 0, 0}, {STI, 0, false, 0, 0, 0}, {PUSHF, 0x1000, false, 0, 0, 0}, {POPF, 0, false, 0, 0, 0},
        {IRET, 0x2000, false, 0, 0, 0},
        // With VME: VIF, in 16-bit images.
        {CLI, IF | VIF, true, 0, IF, 0}, {CLI, IF | VIP | 0x2000, true, 0, IF | VIP | 0x2000, 0},
        {STI, 0, true, 0, VIF, 0}, {STI, IF | 0x1000, true, 0, IF | VIF | 0x1000, 0}, {STI, VIP, true, 0, 0, 0},
        {PUSHF, IF, true, 0, IF, IOPL3 | 2}, {PUSHF, VIF, true, 0, VIF, IOPL3 | IF | 2},
        {PUSHF | W, VIF, true, 0, 0, 0},
        {POPF, 0, true, IF | FL_NT | FL_DF, VIF | FL_NT | FL_DF, 0}, {POPF, IF | VIF, true, IOPL3, IF, 0},
        {POPF, VIP, true, IF, 0, 0}, {POPF, VIP, true, FL_CF, VIP | FL_CF, 0}, {POPF, 0, true, TF, 0, 0},
        {POPF | W, 0, true, 0, 0, 0},
        {IRET, 0, true, IF | FL_NT, VIF | FL_NT, 0}, {IRET, IF | VIF, true, IOPL3, IF, 0}, {IRET, VIP, true, IF, 0, 0},
        {IRET, 0, true, TF, 0, 0}, {IRET, VIP, true, FL_ZF, VIP | FL_ZF, 0}, {IRET | W, 0, true, 0, 0, 0},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        for (unsigned pvi = 0; pvi < 2; pvi++) { // which is of no concern here
            bool wide = c[i].op & W;
            u8 op = (u8)c[i].op, code[4] = {wide ? 0x66 : 0x90, op, 0x0F, 0x0B}; // then UD2
            v86(c[i].flags, (c[i].vme ? CR4_VME : 0) | (pvi ? CR4_PVI : 0));
            u32 image = c[i].image | 2, start = wide ? CODE : CODE + 1, next = start + (wide ? 2 : 1);
            unsigned w = wide ? 4 : 2;
            u32 zero = 0;
            if (op == POPF) tm_write(t, V86_SP, &image, w);
            if (op == IRET)
                tm_write(t, V86_SP, &next, w), tm_write(t, V86_SP + w, &zero, w),
                    tm_write(t, V86_SP + 2 * w, &image, w);
            int got = tm_run(t, code, 4);
            if (!c[i].after) {
                expect_left(got, VEC_GP, start);
                assert_int_equal(frame(F_FLAGS), c[i].flags | FL_VM | FL_RF | 2);
                assert_int_equal(frame(F_ESP), V86_SP);
                continue;
            }
            expect_left(got, VEC_UD, next);
            assert_int_equal(frame(F_FLAGS), c[i].after | FL_VM | FL_RF | 2);
            s32 moved = op == PUSHF ? -(s32)w : op == POPF ? (s32)w : op == IRET ? 3 * (s32)w : 0;
            assert_int_equal(frame(F_ESP), V86_SP + moved);
            if (op == PUSHF) assert_int_equal(tm_read(t, V86_SP - w, w), c[i].pushed);
        }
}

// INT n by IOPL, VME and the redirection bitmap: SDM table 22-2.
static void software_interrupts(void **state)
{
    enum { N = 0x85 };
    // keep: the bit is set; vector: 0 for the 8086 program's own handler
    // clang-format off
    struct { u32 flags; bool vme, keep; int vector; u32 image; } c[] = {
        {IOPL3 | FL_IF, false, false, N, 0}, {IOPL3 | FL_IF, true, true, N, 0}, {0, false, false, VEC_GP, 0},
        {0, true, true, VEC_GP, 0},
        {IOPL3 | FL_IF | FL_CF, true, false, 0, IOPL3 | FL_IF | FL_CF | 2}, {IOPL3 | FL_VIF, true, false, 0, IOPL3 | 2},
        {FL_IF, true, false, 0, IOPL3 | 2}, {FL_VIF | FL_NT, true, false, 0, IOPL3 | FL_IF | FL_NT | 2},
        {FL_IF | FL_VIP | 0x2000, true, false, 0, IOPL3 | 2},
    };
    // clang-format on
    tm_gate(t, N, SEL_CODE32, 14, 3, 0, false);
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        v86(c[i].flags, c[i].vme ? CR4_VME : 0);
        if (!c[i].keep) t->p.ram[REDIRECT + N / 8] &= (u8) ~(1 << (N & 7));
        int got = TM_RUN(t, 0xCD, N);
        if (c[i].vector) {
            expect_left(got, c[i].vector, c[i].vector == N ? CODE + 2 : CODE);
            continue;
        }
        expect_left(got, VEC_GP, HANDLER + 16 * N); // the HLT there
        bool iopl3 = (c[i].flags & IOPL3) == IOPL3;
        assert_int_equal(frame(F_FLAGS), (c[i].flags & ~(u32)(iopl3 ? FL_IF : FL_VIF)) | FL_VM | FL_RF | 2);
        assert_int_equal(frame(F_ESP), V86_SP - 6);
        assert_int_equal(tm_read(t, V86_SP - 6, 2), CODE + 2);
        assert_int_equal(tm_read(t, V86_SP - 4, 2), 0);
        assert_int_equal(tm_read(t, V86_SP - 2, 2), c[i].image);
    }
    // The bitmap is the 32 bytes before the I/O map; a TSS without it, or that ends before, is #GP(0).
    // clang-format off
    struct { u16 map; u32 limit, type; int vector; } b[] = {
        {0x88, 0x68 + N / 8, 11, 0}, {0x88, 0x68 + N / 8 - 1, 11, VEC_GP}, {0x88, 0x66, 11, VEC_GP}, {0x0F, 0x167, 11, VEC_GP},
        {0x88, 0x167, 3, VEC_GP},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(b); i++)
        for (unsigned iopl = 0; iopl <= IOPL3; iopl += IOPL3) {
            v86(iopl, CR4_VME);
            t->p.ram[REDIRECT + N / 8] = 0;
            tm_write(t, TSS + 0x66, &b[i].map, 2);
            S.seg[SEG_TR].limit = b[i].limit, S.seg[SEG_TR].ar = AR_P | b[i].type;
            u32 stack = KERNEL_STACK, stack16 = 0x7000 | SEL_DATA << 16;
            tm_write(t, TSS + 4, &stack, 4);
            if (b[i].type == 3) tm_write(t, TSS + 2, &stack16, 4);
            int got = TM_RUN(t, 0xCD, N);
            assert_int_equal(got, VEC_GP);
            assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), b[i].vector ? CODE : HANDLER + 16 * N);
            u64 restore = KERNEL_STACK | (u64)SEL_DATA << 32;
            tm_write64(t, TSS + 4, restore);
        }
}

// A single step over INT n that is redirected: TF is clear in the handler and set in its frame, and nothing
// traps on the way.
static void redirection_ends_single_steps(void **state)
{
    v86(IOPL3 | FL_TF, CR4_VME);
    t->p.ram[REDIRECT + 0x85 / 8] = 0;
    expect_left(TM_RUN(t, 0xCD, 0x85), VEC_GP, HANDLER + 16 * 0x85);
    assert_false(frame(F_FLAGS) & FL_TF);
    assert_true(tm_read(t, V86_SP - 2, 2) & FL_TF);
}

// Ports are the bitmap's affair alone, whatever IOPL.
static void ports_by_the_bitmap(void **state)
{
    for (unsigned iopl = 0; iopl <= IOPL3; iopl += IOPL3) {
        v86(iopl, 0);
        expect_left(TM_RUN(t, 0xE6, 0x80), VEC_GP, CODE);
        v86(iopl, 0);
        t->p.ram[IOMAP + 0x10] = 0xFE;
        expect_left(TM_RUN(t, 0xE6, 0x80, 0x0F, 0x0B), VEC_UD, CODE + 2);
    }
}

// Protected mode with PVI: VIF at level 3 below IOPL 3; PUSHF and POPF know nothing of it.
static void protected_virtual_interrupts(void **state)
{
    // clang-format off
    struct { u8 op; u32 flags; bool pvi; u32 after; } c[] = {
        {0xFA, FL_VIF | FL_IF, true, FL_IF}, {0xFB, FL_IF, true, FL_VIF | FL_IF}, {0xFB, FL_VIP, true, 0},
        {0xFA, FL_VIF, false, 0}, {0xFB, 0, false, 0}, {0xFA, FL_VIF | FL_IF | IOPL3, true, FL_VIF | IOPL3},
        {0xFB, FL_VIP | IOPL3, true, FL_VIP | FL_IF | IOPL3},
    };
    // clang-format on
    bool lng = S.msr.efer & EFER_LMA;
    u64 cr4 = S.cr4;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        tm_user(t);
        S.cr4 = cr4 | (c[i].pvi ? CR4_PVI : CR4_VME);
        cpu_set_rflags(t->v, c[i].flags | 2);
        cpu_mode_changed(t->v);
        const u8 code[] = {c[i].op, 0x0F, 0x0B};
        int got = tm_run(t, code, 3);
        unsigned n = lng ? 8 : 4;
        assert_int_equal(got, c[i].after ? VEC_UD : VEC_GP);
        u64 at = S.gpr[RSP] + (c[i].after ? 0 : n);
        assert_int_equal(tm_read(t, at, n), CODE + !!c[i].after);
        assert_int_equal(tm_read(t, at + 2 * n, 4), (c[i].after ? c[i].after : c[i].flags) | FL_RF | 2);
    }
    // Level 1 is not level 3.
    if (lng) return;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) tm_load(t, i, i == SEG_CS ? SEL_CODE_DPL1 : SEL_DATA_DPL1);
    S.gpr[RSP] = STACK;
    cpu_set_rflags(t->v, 2);
    cpu_mode_changed(t->v);
    assert_int_equal(TM_RUN(t, 0xFA), VEC_GP);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), CODE); // not the HLT behind it
}

// VIF and VIP both set: the next instruction is a #GP, where they count. Entered by IRET, far RET and
// SYSEXIT.
static void pending_virtual_interrupt(void **state)
{
    // clang-format off
    struct { u32 flags; u64 cr4; bool gp; } c[] = {
        {FL_VIF | FL_VIP, CR4_VME, true}, {FL_VIF | FL_VIP | 0x2000, CR4_VME, true}, {FL_VIF | FL_VIP | IOPL3, CR4_VME, false},
        {FL_VIF | FL_VIP, CR4_PVI, false}, {FL_VIF, CR4_VME, false}, {FL_VIP, CR4_VME, false},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        u32 f[9] = {0x7800, 0, c[i].flags | FL_VM | 2, V86_SP};
        t->p.ram[0x7800] = 0x90, t->p.ram[0x7801] = 0x0F, t->p.ram[0x7802] = 0x0B;
        for (unsigned k = SEG_ES; k <= SEG_GS; k++) tm_load(t, k, k == SEG_CS ? SEL_CODE32 : SEL_DATA);
        S.gpr[RSP] = STACK - 36, S.rflags = 2, S.cr4 = c[i].cr4;
        cpu_mode_changed(t->v);
        tm_write(t, STACK - 36, f, 36);
        expect_left(TM_RUN(t, 0xCF), c[i].gp ? VEC_GP : VEC_UD, 0x7800 + !c[i].gp);
    }
    // clang-format off
    struct { u32 flags; u64 cr4; bool gp; } p[] = {
        {FL_VIF | FL_VIP, CR4_PVI, true}, {FL_VIF | FL_VIP | IOPL3, CR4_PVI, false}, {FL_VIF | FL_VIP, CR4_VME, false},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(p); i++)
        for (unsigned how = 0; how < 3; how++) {
            static const u8 code[3][2] = {{0x90, 0xCF}, {0x90, 0xCB}, {0x0F, 0x35}};
            u32 f[5] = {0x7800, SEL_UCODE32 | 3, p[i].flags | 2, USER_STACK, SEL_UDATA | 3};
            if (how == 1) f[2] = f[3], f[3] = f[4];
            t->p.ram[0x7801] = 0xCD, t->p.ram[0x7802] = 0x80;
            for (unsigned k = SEG_ES; k <= SEG_GS; k++) tm_load(t, k, k == SEG_CS ? SEL_CODE32 : SEL_DATA);
            S.gpr[RSP] = STACK - 20, S.cr4 = p[i].cr4;
            S.rflags = how ? p[i].flags | 2 : 2; // at level 0 they do not count
            S.msr.sysenter_cs = SEL_CODE32, S.gpr[RCX] = USER_STACK, S.gpr[RDX] = 0x7800;
            cpu_mode_changed(t->v);
            tm_write(t, STACK - 20, f, 20);
            assert_int_equal(tm_run(t, code[how], 2), p[i].gp ? VEC_GP : 0x80);
            assert_int_equal(tm_read(t, S.gpr[RSP] + 4 * p[i].gp, 4), p[i].gp ? 0x7800 : 0x7803);
        }
}

// Any 16-bit program may single-step here too; and SYSENTER leads out.
static void single_step_and_sysenter(void **state)
{
    v86(IOPL3 | FL_TF, 0);
    expect_left(TM_RUN(t, 0x90, 0x90), VEC_DB, CODE + 1);
    v86(IOPL3 | FL_IF, 0);
    t->p.ram[0x7700] = 0xF4;
    S.msr.sysenter_cs = SEL_CODE32, S.msr.sysenter_esp = STACK, S.msr.sysenter_eip = 0x7700;
    assert_int_equal(TM_RUN(t, 0x0F, 0x34), NOTHING);
    assert_int_equal(S.rip, 0x7701);
    assert_false(S.rflags & (FL_VM | FL_IF));
    assert_int_equal(cpu_cpl(t->v), 0);
    assert_int_equal(S.seg[SEG_CS].base, 0);
    assert_int_equal(S.seg[SEG_ES].sel, 0x1111);
}

int main(void)
{
#define P(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    // clang-format off
    const struct CMUnitTest tests[] = {
        P(segments_of_the_8086), P(events_leave_for_level_0), P(iret_enters), P(flags_by_iopl_and_vme), P(software_interrupts),
        P(redirection_ends_single_steps), P(ports_by_the_bitmap), P(protected_virtual_interrupts),
        cmocka_unit_test_setup_teardown(protected_virtual_interrupts, long_setup, teardown), P(single_step_and_sysenter),
        P(pending_virtual_interrupt),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}
