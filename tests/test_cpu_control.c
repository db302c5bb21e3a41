// Control registers, MSRs, CPUID, privileged and system-call instructions. Expected values: SDM volume 2
// (exceptions of each instruction), volume 3 chapters 2, 5, 11 (CR rules), volume 4 (MSRs).
#include <stdio.h>
#include "cpu/system/model.h"
#include "cpu_machine.h"

static struct tm *t;
static int real_setup(void **s) { return t = tm_new(TM_REAL), 0; }
static int prot_setup(void **s) { return t = tm_new(TM_PROTECTED), 0; }
static int long_setup(void **s) { return t = tm_new(TM_LONG), 0; }
static int teardown(void **s) { return tm_free(t), 0; }
#define S (t->v->s)

static int mov_to_cr(unsigned cr, u64 value) // mov crN,rax
{
    S.gpr[RAX] = value;
    S.gpr[RSP] = STACK;
    if (cr == 8) return TM_RUN(t, 0x44, 0x0F, 0x22, 0xC0);
    return TM_RUN(t, 0x0F, 0x22, (u8)(0xC0 | cr << 3));
}

static void cr0_rules(void **state)
{
    u64 cr0 = S.cr0;
    assert_int_equal(mov_to_cr(0, cr0 | CR0_NW), VEC_GP);       // NW without CD
    assert_int_equal(mov_to_cr(0, cr0 | 1ull << 32), VEC_GP);   // upper half
    assert_int_equal(mov_to_cr(0, cr0 & ~(u64)CR0_PE), VEC_GP); // PG without PE
    assert_int_equal(mov_to_cr(0, cr0 & ~(u64)CR0_PG), VEC_GP); // paging off in 64-bit mode
    // ET stays 1, reserved bits are ignored
    assert_int_equal(mov_to_cr(0, (cr0 & ~(u64)CR0_ET) | 1 << 6), NOTHING);
    assert_int_equal(S.cr0, cr0);
    assert_int_equal(mov_to_cr(0, cr0 | CR0_NW | CR0_CD), NOTHING);
    assert_int_equal(S.cr0, cr0 | CR0_NW | CR0_CD);
}

static void cr0_activating_ia32e(void **state)
{
    tm_write64(t, PML4, 0x41007);
    tm_write64(t, 0x41000, 0x42007);
    for (unsigned i = 0; i < 8; i++) tm_write64(t, 0x42000 + 8 * i, (u64)i << 21 | 0xE7);
    S.cr3 = PML4;
    S.msr.efer = EFER_LME;
    assert_int_equal(mov_to_cr(0, S.cr0 | CR0_PG), VEC_GP); // LME without PAE
    S.cr4 = CR4_PAE;
    S.seg[SEG_TR].ar = AR_P | 3;
    assert_int_equal(mov_to_cr(0, S.cr0 | CR0_PG), VEC_GP); // a 16-bit TSS
    S.seg[SEG_TR].ar = AR_P | 11;
    u32 cs = S.seg[SEG_CS].ar;
    S.seg[SEG_CS].ar |= AR_L;
    assert_int_equal(mov_to_cr(0, S.cr0 | CR0_PG), VEC_GP); // CS.L already
    S.seg[SEG_CS].ar = cs;
    assert_int_equal(mov_to_cr(0, S.cr0 | CR0_PG), NOTHING);
    assert_true(S.msr.efer & EFER_LMA);
    assert_false(cpu_long64(t->v)); // compatibility mode until CS.L
    assert_int_equal(mov_to_cr(0, S.cr0 & ~(u64)CR0_PG), NOTHING);
    assert_false(S.msr.efer & EFER_LMA);
}

static void pae_loads_pdptes(void **state)
{
    tm_write64(t, 0x40000, 0x42001);
    tm_write64(t, 0x40008, 0x42001 | 2); // bit 1 is reserved in a PDPTE
    for (unsigned i = 0; i < 8; i++) tm_write64(t, 0x42000 + 8 * i, (u64)i << 21 | 0xE7);
    S.cr4 = CR4_PAE;
    S.cr3 = 0x40000;
    assert_int_equal(mov_to_cr(0, S.cr0 | CR0_PG), VEC_GP);
    assert_false(S.cr0 & CR0_PG);
    tm_write64(t, 0x40008, 0);
    assert_int_equal(mov_to_cr(0, S.cr0 | CR0_PG), NOTHING);
    assert_int_equal(S.pdpte[0], 0x42001);
    tm_write64(t, 0x40018, 1ull << 50 | 1); // beyond MAXPHYADDR: seen at the next MOV CR3
    assert_int_equal(mov_to_cr(3, 0x40000), VEC_GP);
    assert_int_equal(S.pdpte[3], 0);
}

static void cr3_rules(void **state)
{
    assert_int_equal(mov_to_cr(3, PML4 | 1ull << t->f.maxphyaddr), VEC_GP);
    assert_int_equal(mov_to_cr(3, PML4 | 1ull << 63), VEC_GP); // reserved without PCIDE
    assert_int_equal(mov_to_cr(3, PML4 | 0x18), NOTHING);
    assert_int_equal(S.cr3, PML4 | 0x18);
    assert_int_equal(mov_to_cr(4, S.cr4 | CR4_PCIDE), VEC_GP); // CR3[11:0] is not 0
    assert_int_equal(mov_to_cr(3, PML4), NOTHING);
    assert_int_equal(mov_to_cr(4, S.cr4 | CR4_PCIDE), NOTHING);
    assert_int_equal(mov_to_cr(3, PML4 | 7 | 1ull << 63), NOTHING);
    assert_int_equal(S.cr3, PML4 | 7); // bit 63 is not kept
}

static void cr4_rules(void **state)
{
    assert_int_equal(mov_to_cr(4, S.cr4 | 1 << 15), VEC_GP);
    assert_int_equal(mov_to_cr(4, S.cr4 | 1ull << 40), VEC_GP);
    assert_int_equal(mov_to_cr(4, S.cr4 & ~(u64)CR4_PAE), VEC_GP); // in IA-32e mode
    assert_int_equal(mov_to_cr(4, S.cr4 ^ CR4_LA57), VEC_GP);      // likewise
    assert_int_equal(mov_to_cr(4, S.cr4 | CR4_VMXE), NOTHING);
    assert_int_equal(mov_to_cr(4, S.cr4 | CR4_PGE | CR4_UMIP | CR4_OSXSAVE), NOTHING);
    t->f.bits[0] = t->f.bits[1] = 0; // a processor that has nothing
    assert_int_equal(cr4_valid_mask(t->v), CR4_PCE);
}

static void cr_numbers_and_privilege(void **state)
{
    for (unsigned n = 0; n < 16; n++) {
        bool exists = n == 0 || n == 2 || n == 3 || n == 4 || n == 8;
        S.gpr[RSP] = STACK;
        assert_int_equal(TM_RUN(t, 0x40 | (n >> 3) << 2, 0x0F, 0x20, 0xC0 | (n & 7) << 3),
                         exists ? NOTHING : VEC_UD);
        tm_user(t);
        assert_int_equal(TM_RUN(t, 0x40 | (n >> 3) << 2, 0x0F, 0x20, 0xC0 | (n & 7) << 3),
                         exists ? VEC_GP : VEC_UD);
        for (unsigned i = SEG_ES; i <= SEG_GS; i++) tm_load(t, i, SEL_DATA);
        tm_load(t, SEG_CS, SEL_CODE64);
        cpu_mode_changed(t->v);
    }
    assert_int_equal(mov_to_cr(8, 16), VEC_GP);
}

static void lmsw_cannot_clear_pe(void **state)
{
    S.gpr[RAX] = 0xFFFE;
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0xF0), NOTHING); // lmsw ax
    assert_int_equal(S.cr0 & 0x3F, CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE);
    S.gpr[RAX] = 0xFFFFFFFFFFFFFFFF;
    assert_int_equal(TM_RUN(t, 0x0F, 0x06, 0x0F, 0x01, 0xE0), NOTHING); // clts; smsw eax
    assert_int_equal(S.gpr[RAX], S.cr0);
    assert_false(S.cr0 & CR0_TS);
}

static void debug_registers(void **state)
{
    S.gpr[RAX] = 0xFFFFFFFF;
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xF0), NOTHING); // mov dr6,rax
    assert_int_equal(S.dr[6], 0xFFFFEFFF);
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xE0, 0x0F, 0x21, 0xE3), NOTHING); // DR4 is DR6 while DE is 0
    assert_int_equal(S.gpr[RBX], 0xFFFFEFFF);
    S.gpr[RAX] = 0xFFFFDF00;                                // GD stays 0
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xF8), NOTHING); // mov dr7,rax
    assert_int_equal(S.dr[7], 0xFFFF0700);
    S.gpr[RAX] = 1ull << 32;
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xF0), VEC_GP);
    assert_int_equal(mov_to_cr(4, S.cr4 | CR4_DE), NOTHING);
    assert_int_equal(TM_RUN(t, 0x0F, 0x21, 0xE3), VEC_UD);
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xE3), VEC_UD);
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x21, 0xC3), VEC_GP);
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xC3), VEC_GP);
}

// ---- MSRs ----

static int wrmsr(u32 msr, u64 value)
{
    S.gpr[RCX] = msr, S.gpr[RAX] = (u32)value, S.gpr[RDX] = value >> 32;
    S.gpr[RSP] = STACK;
    return TM_RUN(t, 0x0F, 0x30);
}
static u64 rdmsr(u32 msr, int expected)
{
    S.gpr[RCX] = msr;
    S.gpr[RSP] = STACK;
    assert_int_equal(TM_RUN(t, 0x0F, 0x32), expected);
    return S.gpr[RDX] << 32 | S.gpr[RAX];
}

// Silicon (seen on a family 6 model 207 at CPL 3): a number that names no register is #UD before the
// privilege check; DR4 and DR5 under CR4.DE are #UD after it.
static void register_numbers_before_privilege(void **state)
{
    t->v->s.cr4 |= CR4_DE;
    cpu_mode_changed(t->v);
    assert_int_equal(TM_RUN(t, 0x0F, 0x21, 0xE0), VEC_UD); // MOV RAX, DR4 at CPL 0
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x21, 0xC0), VEC_GP); // MOV RAX, DR0
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x21, 0xE0), VEC_GP); // MOV RAX, DR4
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xE0), VEC_GP); // MOV DR4, RAX
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x44, 0x0F, 0x21, 0xC0), VEC_UD); // MOV RAX, DR8
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x44, 0x0F, 0x23, 0xC0), VEC_UD); // MOV DR8, RAX
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x20, 0xC0), VEC_GP); // MOV RAX, CR0
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x20, 0xC8), VEC_UD); // MOV RAX, CR1
}

static void msr_values_and_masks(void **state)
{
    // clang-format off
    struct { u32 msr; u64 good, bad; } c[] = {
        {0x277, 0x0606060606060606, 0x0606060606060602}, // PAT: type 2 is reserved
        {0x277, 0x0007040600070406, 0x0306060606060606},
        {0x2FF, 0xC06, 0x1C06}, {0x2FF, 0x806, 0x807},   // MTRR_DEF_TYPE
        {0x200, 0x80000006, 0x80000107}, {0x200, 0x80000000, 0x80000002}, {0x201, 0xFF80000800, 0xFF80000801},
        {0x201, 0, 1ull << 40}, {0x250, 0x0606060606060606, 0x0606060606060607}, {0x26F, 0x0505050505050505, 2},
        {0xC0000082, 0xFFFF800000000000, 0x7F00000000000000}, {0x176, 0x7FFFFFFFFFFF, 1ull << 60},
        {0xC0000103, 0xFFFFFFFF, 1ull << 32}, {0x17A, 7, 8}, {0x48, 1, 8},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        assert_int_equal(wrmsr(c[i].msr, c[i].good), NOTHING);
        assert_int_equal(rdmsr(c[i].msr, NOTHING), c[i].good);
        assert_int_equal(wrmsr(c[i].msr, c[i].bad), VEC_GP);
        assert_int_equal(rdmsr(c[i].msr, NOTHING), c[i].good);
    }
}

// Table "Processor States Following Power-up, Reset, or INIT" (volume 3, 11.1.1), over a state of which
// nothing is what it becomes.
static void processor_after_reset_and_init(void **state)
{
    for (unsigned init = 0; init < 2; init++) {
        const u64 units = S.units = 1000;
        memset(S.gpr, 0xA5, sizeof S.gpr);
        memset(S.xmm, 0xA5, sizeof S.xmm);
        memset(&S.fpu, 0xA5, sizeof S.fpu);
        memset(S.dr, 0xA5, sizeof S.dr);
        for (unsigned i = 0; i < SEG_COUNT; i++)
            S.seg[i] = (struct segment){.sel = 8, .base = 0x1000, .limit = 5, .ar = 0xC09B};
        S.gdtr = S.idtr = (struct dtable){.base = 0x5000, .limit = 7};
        S.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_NW | CR0_CD | CR0_TS, S.cr2 = 5, S.cr3 = 0x1000,
        S.cr4 = CR4_OSXSAVE;
        S.xcr0 = 3, S.mxcsr = 0x1FA0, S.pkru = 0x55555554, S.msr.xss = 0x100, S.msr.pkrs = 0xC,
        S.rflags = 0x202, S.fl = fl_pack(FL_ARITH);
        S.activity = ACTIVITY_HLT, S.blocking = BLOCKING_BY_NMI, S.pending_dbg = 0x4000, S.monitor_addr = 1;
        S.nmi_pending = true, S.sipi_pending = true;
        S.msr.lstar = 0x1234, S.msr.efer = EFER_SCE;
        tlb_fill(&S.itlb, laddr_of(0x5000), &(struct walk_result){.page_shift = 12}, &(struct tlb_entry){0});
        tlb_fill(&S.dtlb, laddr_of(0x5000), &(struct walk_result){.page_shift = 12}, &(struct tlb_entry){0});
        assert_non_null(tlb_find(&S.dtlb, laddr_of(0x5000)));
        struct fpu_state fpu = S.fpu;
        vcpu_reset(t->v, init);

        assert_int_equal(cpu_rflags(t->v), 2);
        assert_int_equal(S.rip, 0xFFF0);
        assert_int_equal(S.cr0, 0x60000010); // CD and NW were set: INIT keeps them
        assert_true(S.cr2 == 0 && S.cr3 == 0 && S.cr4 == 0);
        assert_true(S.seg[SEG_CS].sel == 0xF000 && S.seg[SEG_CS].base == 0xFFFF0000 &&
                    S.seg[SEG_CS].limit == 0xFFFF);
        assert_int_equal(S.seg[SEG_CS].ar, 0x9B);
        for (unsigned i = 0; i < SEG_COUNT; i++) {
            if (i == SEG_CS) continue;
            assert_true(S.seg[i].sel == 0 && S.seg[i].base == 0 && S.seg[i].limit == 0xFFFF);
            assert_int_equal(S.seg[i].ar, i == SEG_LDTR ? 0x82 : i == SEG_TR ? 0x8B : 0x93);
        }
        assert_true(S.gdtr.base == 0 && S.gdtr.limit == 0xFFFF && S.idtr.base == 0 && S.idtr.limit == 0xFFFF);
        for (unsigned i = 0; i < 16; i++)
            if (i != RDX) assert_int_equal(S.gpr[i], 0);
        assert_int_equal(S.gpr[RDX] & 0xF00, 0x600); // 000n06xxH
        for (unsigned i = 0; i < 4; i++) assert_int_equal(S.dr[i], 0);
        assert_true(S.dr[6] == 0xFFFF0FF0 && S.dr[7] == 0x400);
        assert_int_equal(S.msr.efer, 0);
        assert_int_equal(S.activity, ACTIVITY_ACTIVE);
        assert_true(S.blocking == 0 && S.pending_dbg == 0 && S.monitor_addr == 0);
        // one that came after the INIT is what the processor waits for (cpu_signal drops one from before)
        assert_int_equal(S.sipi_pending, init);
        assert_int_equal(S.nmi_pending, init); // held over an INIT
        assert_true(!tlb_find(&S.itlb, laddr_of(0x5000)) && !tlb_find(&S.dtlb, laddr_of(0x5000)));
        assert_true(!S.vmx.on && S.vmx.vmcs_pointer == UINT64_MAX);
        if (init) { // kept: x87, SSE, XCR0, PKRU, MSRs
            assert_memory_equal(&S.fpu, &fpu, sizeof fpu);
            for (unsigned i = 0; i < 16; i++)
                assert_true(S.xmm[i][0] == 0xA5A5A5A5A5A5A5A5 && S.xmm[i][1] == S.xmm[i][0]);
            assert_true(S.mxcsr == 0x1FA0 && S.xcr0 == 3 && S.msr.lstar == 0x1234 && S.units == units);
            assert_true(S.pkru == 0x55555554 && S.msr.xss == 0x100 && S.msr.pkrs == 0xC);
        } else {
            assert_true(S.fpu.fcw == 0x40 && S.fpu.fsw == 0 && S.fpu.ftw == 0x5555);
            for (unsigned i = 0; i < 8; i++) assert_true(S.fpu.r[i].m == 0 && S.fpu.r[i].se == 0);
            for (unsigned i = 0; i < 16; i++) assert_true(S.xmm[i][0] == 0 && S.xmm[i][1] == 0);
            assert_true(S.mxcsr == 0x1F80 && S.xcr0 == 1 && S.msr.lstar == 0);
            assert_true(S.pkru == 0 && S.msr.xss == 0 && S.msr.pkrs == 0);
        }
        S.rip = CODE;
    }
    // INIT as the run loop takes it: an INIT, not a reset.
    S.msr.lstar = 0x1234, S.xcr0 = 3, S.nmi_pending = false;
    cpu_signal(t->v, CPU_SIGNAL_INIT, 0);
    vcpu_run(t->v, 0);
    assert_true(S.msr.lstar == 0x1234 && S.xcr0 == 3 && !S.init_pending && S.rip == 0xFFF0);
    // INIT with caches on, and an application processor: it waits for a SIPI.
    S.cr0 = CR0_ET | CR0_PE;
    t->v->index = 1;
    vcpu_reset(t->v, true);
    assert_int_equal(S.cr0, 0x10);
    assert_int_equal(S.activity, ACTIVITY_WAIT_SIPI);
    t->v->index = 0;
}

// Every processor is told of stores into code; one that goes is told no more, and of its code nothing is
// left.
static void a_freed_processor_is_told_nothing(void **state)
{
    struct vcpu *second = vcpu_new(1, &t->p, &t->f);
    assert_ptr_equal(t->p.subscribers, &t->v->subscriber);
    assert_ptr_equal(t->p.subscribers->next, &second->subscriber);
    second->s.activity = ACTIVITY_ACTIVE,
    second->s.seg[SEG_CS] = (struct segment){.limit = 0xFFFF, .ar = second->s.seg[SEG_CS].ar};
    second->s.rip = 0x8000; // real mode, in a page that nobody else runs in
    t->p.ram[second->s.rip] = 0xF4;
    cpu_mode_changed(second);
    assert_int_equal(vcpu_run(second, 10), RUN_HALTED);
    assert_int_not_equal(t->p.code[0x8], 0);
    vcpu_free(second);
    assert_int_equal(t->p.code[0x8], 0);
    assert_ptr_equal(t->p.subscribers, &t->v->subscriber);
    assert_null(t->p.subscribers->next);
}

static struct {
    u64 at[8];
    unsigned n;
} seen; // the time that the board sees at each access
static u64 see_read(void *o, unsigned cpu, u16 port, unsigned size)
{
    return seen.at[seen.n++] = cpu_vtime(t->v), 0;
}
static void see_write(void *o, unsigned cpu, u16 port, unsigned size, u64 value)
{
    seen.at[seen.n++] = cpu_vtime(t->v);
}

// A port access happens at its own instruction's time, in the midst of a block.
static void ports_see_the_time(void **state)
{
    static const struct cpu_board_ops board = {.port_read = see_read, .port_write = see_write};
    u64 next = UINT64_MAX;
    t->v->board = &board, t->v->clock_next = &next;
    seen.n = 0;
    u64 begin = S.units * CPU_TICKS_PER_UNIT + S.skipped;
    // in nop nop out in nop out
    assert_int_equal(TM_RUN(t, 0xE4, 0x80, 0x90, 0x90, 0xE6, 0x80, 0xE4, 0x80, 0x90, 0xE6, 0x80), NOTHING);
    assert_int_equal(seen.n, 4);
    u64 port = seen.at[2] - seen.at[1]; // one access
    assert_true(port >= CPU_TICKS_PER_UNIT);
    // what the access costs is charged before
    assert_int_equal(seen.at[0] - begin, port - CPU_TICKS_PER_UNIT);
    assert_int_equal(seen.at[1] - seen.at[0], port + 2 * CPU_TICKS_PER_UNIT);
    assert_int_equal(seen.at[3] - seen.at[2], port + CPU_TICKS_PER_UNIT);
    t->v->board = NULL, t->v->clock_next = NULL;
}

static bool page_dirty(u64 a) { return t->p.dirty[a >> PAGE_SHIFT >> 6] >> (a >> PAGE_SHIFT & 63) & 1; }

// Whatever stores, the state hash must learn of it: fast and slow stores, those that cross pages, those of
// event delivery.
static void stores_mark_pages_dirty(void **state)
{
    // clang-format off
    static const struct { u64 to; u8 code[8], n; unsigned pages; } cases[] = {
        {0x300800, {0x48, 0x89, 0x07}, 3, 1},             // mov [rdi], rax
        {0x300FFC, {0x48, 0x89, 0x07}, 3, 2},             // across
        {0x300800, {0x0F, 0x11, 0x07}, 3, 1},             // movups [rdi], xmm0
        {0x300FF8, {0x0F, 0x11, 0x07}, 3, 2},
        {0x300FFE, {0x48, 0x01, 0x07}, 3, 2},             // add [rdi], rax
        {0x300FF8, {0xB1, 0x10, 0xF3, 0xAA}, 4, 2},       // mov cl, 16; rep stosb
        {0x300800, {0x0F, 0xAE, 0x07}, 3, 1},             // fxsave [rdi]
        {0x300F00, {0x0F, 0xAE, 0x07}, 3, 2},
        {0x301018, {0x48, 0x89, 0xFC, 0xCD, 0x30}, 5, 2}, // mov rsp, rdi; int 30h
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        for (unsigned again = 0; again < 2; again++) { // the second time the fast table knows the pages
            phys_dirty_clear(&t->p);
            tlbops_drop_writes(t->v);
            S.gpr[RDI] = cases[i].to, S.gpr[RSP] = STACK, S.gpr[RCX] = 0;
            tm_run(t, cases[i].code, cases[i].n);
            assert_true(page_dirty(0x300000));
            assert_int_equal(page_dirty(0x301000), cases[i].pages == 2);
            assert_false(page_dirty(0x302000));
        }
    }
}

static void msr_reset_values(void **state)
{
    vcpu_reset(t->v, false);
    u64 x;
    // clang-format off
    struct { u32 msr; u64 value; } c[] = {{0x277, 0x0007040600070406}, {0x3A, 5}, {0x3B, 0}, {0x1D9, 0}, {0xC0000080, 0},
                                          {0xFE, 0x50A}, {0x179, 0}, {0xCE, 20 << 8}, {0x2FF, 0}};
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        assert_true(msr_read(t->v, c[i].msr, &x));
        assert_int_equal(x, c[i].value);
    }
    assert_true(msr_read(t->v, 0x1A0, &x));
    assert_true(x & 1); // fast strings
}

// SDM vol. 4, table 2-2; which bits take a write without #GP: as probes of MSRs on silicon and KVM's unit
// test of MSRs have it.
static void misc_enable_bits_take_effect(void **state)
{
    u64 x = rdmsr(0x1A0, NOTHING);
    assert_int_equal(x, BIT(0) | BIT(11) | BIT(12) | BIT(18));
    // 0, 3, 16, 18, 22, 23, 34 and what is read-only
    assert_int_equal(wrmsr(0x1A0, 0x400C50809 | BIT(12)), NOTHING);
    assert_int_equal(rdmsr(0x1A0, NOTHING), 0x400C51809);
    assert_int_equal(wrmsr(0x1A0, 0), NOTHING);
    assert_int_equal(rdmsr(0x1A0, NOTHING), BIT(11) | BIT(12)); // BTS and PEBS stay unavailable
    for (unsigned i = 0; i < 64; i++) {
        bool known = BIT(i) & (0x400C50809 | BIT(7) | BIT(11) | BIT(12));
        assert_int_equal(wrmsr(0x1A0, BIT(i)), known ? NOTHING : VEC_GP);
    }
    u32 out[4];
    assert_int_equal(wrmsr(0x1A0, 0), NOTHING);
    cpuid_query(t->v, 1, 0, out);
    assert_false(out[2] & 1u << 3); // MONITOR
    assert_true(out[2] & 1u << 14); // xTPR's switch is there, whichever way it is turned
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0xC8), VEC_UD);
    assert_int_equal(wrmsr(0x1A0, BIT(18) | BIT(22)), NOTHING);
    cpuid_query(t->v, 1, 0, out);
    assert_true(out[2] & 1u << 3);
    u32 two[4];
    cpuid_query(t->v, 0, 0, out);
    assert_int_equal(out[0], 2);
    cpuid_query(t->v, 2, 0, two);
    cpuid_query(t->v, 7, 0, out);
    assert_memory_equal(out, two, sizeof two); // leaves 3 and up are not visible
    cpuid_query(t->v, 0x80000000, 0, out);
    assert_int_equal(out[0], 0x80000008);
    assert_int_equal(wrmsr(0x1A0, BIT(18)), NOTHING);
    cpuid_query(t->v, 0, 0, out);
    assert_true(out[0] > 2);

    assert_int_equal(wrmsr(0xC0000080, S.msr.efer | EFER_NXE), NOTHING);
    assert_int_equal(wrmsr(0xC0000080, S.msr.efer & ~(u64)EFER_NXE), NOTHING);
    assert_int_equal(wrmsr(0x1A0, BIT(34)), NOTHING);
    cpuid_query(t->v, 0x80000001, 0, out);
    assert_false(out[3] & 1u << 20);
    assert_int_equal(wrmsr(0xC0000080, S.msr.efer | EFER_NXE), VEC_GP);
    assert_int_equal(wrmsr(0x1A0, 0), NOTHING);
    cpuid_query(t->v, 0x80000001, 0, out);
    assert_true(out[3] & 1u << 20);
    assert_int_equal(wrmsr(0xC0000080, S.msr.efer | EFER_NXE), NOTHING);
    // NXE that is set stays when the feature is taken away, and such a state can be saved and loaded
    assert_int_equal(wrmsr(0x1A0, BIT(34)), NOTHING);
    assert_true(S.msr.efer & EFER_NXE);
    assert_null(cpu_state_impossible(t->v, &S));
    assert_int_equal(wrmsr(0x1A0, 0), NOTHING);
    t->f.bits[FEATURE_NX / 64] &= ~(1ull << FEATURE_NX % 64);
    assert_int_equal(wrmsr(0x1A0, BIT(34)), VEC_GP);
    cpu_features_max(&t->f);
}

// Reserved to the manual, ignored by processors.
static void high_halves_are_ignored(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        u32 msr = i ? 0xC0000084 : 0x174;
        assert_int_equal(wrmsr(msr, ~0ull), NOTHING);
        assert_int_equal(rdmsr(msr, NOTHING), 0xFFFFFFFF);
        assert_int_equal(wrmsr(msr, 0x500000000), NOTHING);
        assert_int_equal(rdmsr(msr, NOTHING), 0);
    }
}

static void idle_power_msrs(void **state)
{
    assert_int_equal(rdmsr(0x1FC, NOTHING), 0);
    assert_int_equal(wrmsr(0x1FC, 2), NOTHING); // C1E
    assert_int_equal(rdmsr(0x1FC, NOTHING), 2);
    assert_int_equal(wrmsr(0x1FC, BIT(40)), VEC_GP);
    assert_int_equal(rdmsr(0xE2, NOTHING), 0);
    assert_int_equal(wrmsr(0xE2, 0x1E000400), NOTHING);
    assert_int_equal(rdmsr(0xE2, NOTHING), 0x1E000400);
    assert_int_equal(wrmsr(0xE2, 0x1E008403), NOTHING); // locks 15:0
    assert_int_equal(wrmsr(0xE2, 0x1E008402), VEC_GP);
    assert_int_equal(wrmsr(0xE2, 0x1E000403), VEC_GP);
    assert_int_equal(wrmsr(0xE2, 0x8403), NOTHING);
    assert_int_equal(rdmsr(0xE2, NOTHING), 0x8403);
    assert_int_equal(wrmsr(0xE2, BIT(31) | 0x8403), VEC_GP);
    vcpu_reset(t->v, false);
    u64 x;
    assert_true(msr_read(t->v, 0xE2, &x));
    assert_int_equal(x, 0);
    t->f.bits[FEATURE_MONITOR / 64] &= ~(1ull << FEATURE_MONITOR % 64);
    assert_false(msr_read(t->v, 0x1FC, &x));
    assert_false(msr_read(t->v, 0xE2, &x));
    cpu_features_max(&t->f);
}

// NOP with an operand looks at none; INVD and WBINVD are level 0's; CPUID's name, and what it clears.
static void nops_caches_and_cpuid(void **state)
{
    S.gpr[RSI] = 0x100000000, S.gpr[RSP] = STACK;
    assert_int_equal(TM_RUN(t, 0x0F, 0x1F, 0x06, 0x0F, 0x1C, 0x0E, 0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00),
                     NOTHING);
    assert_int_equal(TM_RUN(t, 0x0F, 0x08, 0x0F, 0x09), NOTHING);
    S.gpr[RAX] = S.gpr[RBX] = S.gpr[RCX] = S.gpr[RDX] = ~0ull << 32;
    assert_int_equal(TM_RUN(t, 0x0F, 0xA2), NOTHING);
    assert_true(S.gpr[RBX] == 0x756E6547 && S.gpr[RDX] == 0x49656E69 && S.gpr[RCX] == 0x6C65746E);
    assert_int_equal(S.gpr[RAX] >> 32, 0);
    for (unsigned i = 0; i < 2; i++) {
        tm_user(t);
        assert_int_equal(TM_RUN(t, 0x0F, i ? 0x09 : 0x08), VEC_GP);
    }
}

static void unknown_msrs_are_gp_and_named(void **state)
{
    // of them the last-branch records: 1C9h, 1C8h, 680h-69Fh, 6C0h, 14CEh
    static const u32 absent[] = {0x122, 0xC4,  0x4E,  0x38D, 0x186, 0x189,  0xC0010015,
                                 0x600, 0x1C8, 0x1C9, 0x680, 0x6C0, 0x14CE, 0x345};
    for (unsigned i = 0; i < ARRAY_LEN(absent); i++) {
        rdmsr(absent[i], VEC_GP);
        assert_int_equal(wrmsr(absent[i], 0), VEC_GP);
    }
    assert_string_equal(t->v->unimplemented[0].name, "rdmsr");
    assert_int_equal(t->v->unimplemented[0].count, ARRAY_LEN(absent));
    assert_string_equal(t->v->unimplemented[1].name, "wrmsr");
    assert_int_equal(wrmsr(0x1D9, 1), NOTHING); // IA32_DEBUGCTL.LBR: it can be set, and nothing is recorded
    assert_string_equal(t->v->unimplemented[2].name, "debugctl.lbr");
    assert_int_equal(t->v->unimplemented[2].count, 1);
    static const u32 read_only[] = {0xFE, 0x17, 0xCE, 0x179, 0x10A, 0x480};
    for (unsigned i = 0; i < ARRAY_LEN(read_only); i++) {
        rdmsr(read_only[i], NOTHING);
        assert_int_equal(wrmsr(read_only[i], 0), VEC_GP);
    }
    rdmsr(0x49, VEC_GP); // write-only
    assert_int_equal(wrmsr(0x49, 1), NOTHING);
    tm_user(t);
    S.gpr[RCX] = 0x277;
    assert_int_equal(TM_RUN(t, 0x0F, 0x32), VEC_GP);
}

static void efer_rules(void **state)
{
    u64 efer = S.msr.efer;
    assert_int_equal(wrmsr(0xC0000080, efer & ~(u64)EFER_LME), VEC_GP); // while paging is on
    assert_int_equal(wrmsr(0xC0000080, efer | 1 << 12), VEC_GP);        // SVME: not this processor
    assert_int_equal(wrmsr(0xC0000080, efer & ~(u64)(EFER_LMA | EFER_SCE)), NOTHING);
    assert_int_equal(S.msr.efer, efer & ~(u64)EFER_SCE); // LMA is the processor's
}

static void feature_control_locks(void **state)
{
    assert_int_equal(wrmsr(0x3A, 5), VEC_GP); // locked from reset
    S.msr.feature_control = 0;
    assert_int_equal(wrmsr(0x3A, 0x100), VEC_GP);
    assert_int_equal(wrmsr(0x3A, 4), NOTHING);
    assert_int_equal(wrmsr(0x3A, 5), NOTHING);
    assert_int_equal(wrmsr(0x3A, 4), VEC_GP);
}

static void tsc_and_its_adjustment(void **state)
{
    assert_int_equal(wrmsr(0x3B, 1000), NOTHING);
    u64 a = rdmsr(0x10, NOTHING);
    assert_true(a >= 1000 && a < 1000000);
    assert_int_equal(wrmsr(0x10, 1ull << 40), NOTHING);
    u64 b = rdmsr(0x10, NOTHING);
    assert_true(b >= 1ull << 40 && b < (1ull << 40) + 1000000);
    u64 adjust = rdmsr(0x3B, NOTHING); // SDM 18.17.3: a write of the TSC moves TSC_ADJUST by as much
    assert_true(adjust > (1ull << 40) - 1000000 && adjust <= (1ull << 40) + 1000);
    S.gpr[RCX] = 5;
    S.msr.tsc_aux = 77;
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0xF9), NOTHING); // rdtscp
    assert_int_equal(S.gpr[RCX], 77);
    assert_int_equal(TM_RUN(t, 0xF3, 0x0F, 0xC7, 0xFB), NOTHING); // rdpid rbx
    assert_int_equal(S.gpr[RBX], 77);
    S.cr4 |= CR4_TSD;
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x31), VEC_GP);
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0xF9), VEC_GP);
}

// ---- CPUID ----

static void cpuid_live_bits(void **state)
{
    u32 r[4];
    cpuid_query(t->v, 0, 0, r);
    assert_memory_equal(&r[1], "Genu", 4);
    assert_memory_equal(&r[3], "ineI", 4);
    assert_memory_equal(&r[2], "ntel", 4);
    assert_int_equal(r[0], 0x1F);
    cpuid_query(t->v, 1, 0, r);
    assert_false(r[2] & BIT(27));
    assert_false(r[2] & BIT(31));
    S.cr4 |= CR4_OSXSAVE;
    cpuid_query(t->v, 1, 0, r);
    assert_true(r[2] & BIT(27)); // OSXSAVE follows CR4
    assert_true(r[3] & BIT(9));
    S.msr.apic_base &= ~BIT(11);
    cpuid_query(t->v, 1, 0, r);
    assert_false(r[3] & BIT(9)); // APIC follows its enable
    cpuid_query(t->v, 7, 0, r);
    assert_false(r[2] & BIT(4));
    S.cr4 |= CR4_PKE;
    cpuid_query(t->v, 7, 0, r);
    assert_true(r[2] & BIT(4)); // OSPKE
    assert_int_equal(r[0], 2);
    cpuid_query(t->v, 7, 1, r);
    assert_int_equal(r[0], BIT(19) | BIT(27)); // WRMSRNS, MSRLIST
    assert_int_equal(r[1] | r[2] | r[3], 0);
    cpuid_query(t->v, 7, 2, r);
    assert_int_equal(r[3], BIT(4)); // BHI_CTRL, and BHI_DIS_S in IA32_SPEC_CTRL with it
    assert_int_equal(wrmsr(0x48, BIT(10) | 1), NOTHING);
    assert_int_equal(wrmsr(0x48, BIT(9)), VEC_GP);
    t->f.bits[FEATURE_BHI_CTRL / 64] &= ~(1ull << FEATURE_BHI_CTRL % 64);
    assert_int_equal(wrmsr(0x48, BIT(10)), VEC_GP);
    cpuid_query(t->v, 0x80000001, 0, r);
    assert_true(r[3] & BIT(11)); // SYSCALL in 64-bit mode
    tm_load(t, SEG_CS, SEL_CODE32);
    cpu_mode_changed(t->v);
    cpuid_query(t->v, 0x80000001, 0, r);
    assert_false(r[3] & BIT(11));
    cpuid_query(t->v, 0x15, 0, r);
    assert_int_equal((u64)r[2] * r[1] / r[0], CPU_TSC_HZ);
    cpuid_query(t->v, 0xA, 0, r);
    assert_int_equal(r[0], 0);
    u32 beyond[4];
    cpuid_query(t->v, 0x1F, 0, r);
    cpuid_query(t->v, 0x40000000, 0, beyond); // no hypervisor: the highest basic leaf
    assert_memory_equal(r, beyond, sizeof r);
    cpuid_query(t->v, 0x80000008, 0, r);
    assert_int_equal(r[0] & 0xFF, 40);
}

static bool parse(const char *text, struct cpu_features *f, const char **why)
{
    static char buf[200];
    return cpu_features_parse(f, text, buf, sizeof buf, why);
}

static void cpuid_option(void **state)
{
    struct cpu_features f;
    const char *why = NULL;
    assert_true(parse("max", &f, &why));
    assert_true(feature_on(&f, FEATURE_VMX) && feature_on(&f, FEATURE_SSE42) &&
                !feature_on(&f, FEATURE_HYPERVISOR));
    assert_true(parse("host,-vmx,+hypervisor,phys-bits=36,smap=off,sse4_2=off", &f, &why));
    assert_false(feature_on(&f, FEATURE_VMX) || feature_on(&f, FEATURE_SMAP) ||
                 feature_on(&f, FEATURE_SSE42));
    assert_true(feature_on(&f, FEATURE_HYPERVISOR));
    assert_int_equal(f.maxphyaddr, 36);
    assert_true(parse("qemu64,-sse2,migratable=no,-avx", &f, &why)); // what is built on it goes too
    assert_false(feature_on(&f, FEATURE_SSE3) || feature_on(&f, FEATURE_SSE41));
    assert_true(feature_on(&f, FEATURE_SSE));
    assert_false(parse("max,+smapp", &f, &why));
    assert_non_null(strstr(why, "'smap'"));
    assert_false(parse("max,+avx512f", &f, &why));
    assert_non_null(strstr(why, "avx512f"));
    assert_false(parse("max,phys-bits=60", &f, &why));
    assert_string_equal(why, "phys-bits must be 32 to 52, not '60'");
    assert_false(parse("", &f, &why));
    assert_true(parse("Nehalem-IBRS-v2,pni=off", &f, &why));
    assert_false(feature_on(&f, FEATURE_SSE3));
    assert_true(parse("max,vendor=GenuineIntel,enforce,kvm=off,-svm,hv_relaxed=off,+mds-no", &f, &why));
    // clang-format off
    static const struct { const char *text, *says; } refused[] = {
        {"Skylake-Client-noTSX-IBRS-v3", "not there yet"}, {"Haswell", "not there yet"}, {"EPYC", "AMD's"}, {"EPYC-Rome-v2", "AMD's"}, {"pentium3", "less"},
        {"max,vendor=AuthenticAMD", "GenuineIntel"}, {"max,+svm", "no 'svm'"}, {"max,pmu=on", "no 'pmu'"}, {"max,hv_relaxed", "no 'hv_relaxed'"},
        {"max,hv-spinlocks=0x1fff", "no 'hv-spinlocks'"}, {"max,vmx-ept=off", "one by one"}, {"max,model=6", "cannot be set"}, {"max,-mds-no", "by itself"},
        {"max,-sse2,+sse3", "'sse3' needs 'sse2'"}, {"max,enforce=maybe", "on or off"}, {"max,+q", "-cpu help"}, {"zzz", "-cpu help"}};
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
        if (parse(refused[i].text, &f, &why)) fail_msg("%s is taken", refused[i].text);
        if (!strstr(why, refused[i].says)) fail_msg("%s: %s", refused[i].text, why);
    }
    // From Westmere on they have what is the host's: each what those before it have, and more.
    static const struct {
        const char *model;
        u8 wants;
    } newer[] = {{"Westmere", FEATURE_AES},      {"Westmere", FEATURE_PCLMULQDQ},
                 {"SandyBridge", FEATURE_AVX},   {"IvyBridge", FEATURE_F16C},
                 {"Haswell-noTSX", FEATURE_FMA}, {"Broadwell-noTSX", FEATURE_FMA}};
    bool wanted = true;
    for (unsigned i = 0; cpu_model_name(i); i++) {
        for (unsigned k = 0; k < ARRAY_LEN(newer); k++)
            if (!strcmp(cpu_model_name(i), newer[k].model)) wanted &= cpu_feature_possible(newer[k].wants);
        if (parse(cpu_model_name(i), &f, &why) != wanted) fail_msg("%s: %s", cpu_model_name(i), why);
        if (!wanted) assert_non_null(strstr(why, "wants a host"));
    }
    for (unsigned i = 0; cpu_feature_name(i); i++) { // each can be switched, and by itself
        char text[64];
        snprintf(text, sizeof text, "max,%s=off", cpu_feature_name(i));
        if (!parse(text, &f, &why)) fail_msg("%s: %s", text, why);
    }
    assert_false(parse("mac,+vmx", &f, &why));
    assert_non_null(strstr(why, "'max'"));
    assert_false(parse("max,vmx=maybe", &f, &why));
}

// Known pairs of the edit distance (Levenshtein's).
static void words_that_are_near(void **state)
{
    assert_int_equal(word_distance("kitten", 6, "sitting"), 3);
    assert_int_equal(word_distance("flaw", 4, "lawn"), 2);
    assert_int_equal(word_distance("Haswell", 7, "haswell"), 0);
    assert_int_equal(word_distance("avx=on", 3, "avx"), 0);
    assert_int_equal(word_distance("", 0, "abc"), 3);
    char longest[66];
    memset(longest, 'a', 65), longest[65] = 0;
    assert_int_equal(word_distance(longest, 64, longest + 1), 0);
    assert_int_equal(word_distance(longest, 65, longest), 99);
}

static void feature_off_is_ud(void **state)
{
    // clang-format off
    struct { u8 op[4]; unsigned feature; } c[] = {
        {{0x0F, 0x01, 0xCB, 0x90}, FEATURE_SMAP}, {{0x0F, 0x01, 0xF9, 0x90}, FEATURE_RDTSCP}, {{0x0F, 0xC7, 0xF0, 0x90}, FEATURE_RDRAND},
        {{0x0F, 0xC7, 0xF8, 0x90}, FEATURE_RDSEED}, {{0xF3, 0x0F, 0xC7, 0xF8}, FEATURE_RDPID},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        assert_int_equal(tm_run(t, c[i].op, 4), NOTHING);
        cpu_features_max(&t->f);
        t->f.bits[c[i].feature / 64] &= ~(1ull << c[i].feature % 64);
        assert_int_equal(tm_run(t, c[i].op, 4), VEC_UD);
        cpu_features_max(&t->f);
        S.rflags = 2;
    }
    // What is a NOP without its feature: ENDBR64, RDSSPQ, BNDMK, PREFETCHW, PREFETCH, and NOP with any ModRM.
    u8 nops[][5] = {
        {0xF3, 0x0F, 0x1E, 0xFA, 0x90}, {0xF3, 0x48, 0x0F, 0x1E, 0xC8}, {0xF3, 0x0F, 0x1B, 0x00, 0x90},
        {0x0F, 0x0D, 0x08, 0x90, 0x90}, {0x0F, 0x19, 0x00, 0x90, 0x90}, {0x66, 0x0F, 0x1A, 0xC1, 0x90},
        {0x0F, 0x1D, 0xC0, 0x90, 0x90}, {0x0F, 0x18, 0x20, 0x90, 0x90}, {0xF3, 0x0F, 0x09, 0x90, 0x90}};
    S.gpr[RAX] = 0x7F0000000000; // unmapped: none of them reads it
    for (unsigned i = 0; i < ARRAY_LEN(nops); i++) {
        S.gpr[RCX] = 0x1234;
        assert_int_equal(tm_run(t, nops[i], 5), NOTHING);
        assert_int_equal(S.rip, CODE + 6);
        assert_int_equal(S.gpr[RAX], 0x7F0000000000);
    }
}

// ---- system calls ----

// What the system calls and their returns put into CS and SS, whatever the descriptors say (SDM volume 2, the
// pseudocode): base 0, limit 4 GiB, present, accessed, execute/read and read/write; L or D.
static void assert_flat(unsigned cpl, bool long64)
{
    const struct segment *cs = &S.seg[SEG_CS], *ss = &S.seg[SEG_SS];
    assert_true(cs->base == 0 && cs->limit == 0xFFFFFFFF && ss->base == 0 && ss->limit == 0xFFFFFFFF);
    assert_int_equal(cs->ar, (long64 ? 0xA09B : 0xC09B) | cpl << 5);
    assert_int_equal(ss->ar, 0xC093 | cpl << 5);
}

static void returns_to_user_code(void **state)
{
    // SYSRET and SYSEXIT, to 64-bit and 32-bit code that pauses: run one instruction only.
    // clang-format off
    static const struct { u8 code[3], n; bool long64; u16 cs, ss; } cases[] = {
        {{0x48, 0x0F, 0x07}, 3, true, 0x2B, 0x23},  {{0x0F, 0x07}, 2, false, 0x1B, 0x23},
        {{0x48, 0x0F, 0x35}, 3, true, 0x223, 0x22B}, {{0x0F, 0x35}, 2, false, 0x213, 0x21B},
    };
    // clang-format on
    S.msr.star = (u64)0x1B << 48, S.msr.sysenter_cs = 0x200;
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        tm_load(t, SEG_CS, SEL_CODE64), tm_load(t, SEG_SS, SEL_DATA);
        tm_write(t, CODE, cases[i].code, cases[i].n);
        S.gpr[RCX] = S.gpr[RDX] = 0x7800, S.gpr[R11] = 2, S.rip = CODE, S.activity = ACTIVITY_ACTIVE;
        cpu_drop_derived(t->v);
        cpu_mode_changed(t->v);
        assert_int_equal(vcpu_run(t->v, 1), RUN_BUDGET);
        assert_int_equal(S.rip, 0x7800);
        assert_int_equal(S.seg[SEG_CS].sel, cases[i].cs);
        assert_int_equal(S.seg[SEG_SS].sel, cases[i].ss);
        assert_flat(3, cases[i].long64);
    }
    // IA32_SYSENTER_CS: bits 15:2 must not be 0, any of them will do.
    for (unsigned bit = 0; bit < 16; bit++) {
        tm_load(t, SEG_CS, SEL_CODE64), tm_load(t, SEG_SS, SEL_DATA);
        S.msr.sysenter_cs = 1u << bit;
        S.msr.sysenter_eip = 0x7800;
        S.gpr[RCX] = S.gpr[RDX] = 0x7800, S.gpr[RSP] = STACK;
        t->p.ram[0x7800] = 0xF4;
        assert_int_equal(TM_RUN(t, 0x0F, 0x34), bit < 2 ? VEC_GP : NOTHING);
        tm_load(t, SEG_CS, SEL_CODE64), tm_load(t, SEG_SS, SEL_DATA);
        S.gpr[RSP] = STACK;
        cpu_mode_changed(t->v);
        tm_write(t, CODE, (const u8[]){0x48, 0x0F, 0x35}, 3);
        S.rip = CODE, S.activity = ACTIVITY_ACTIVE;
        cpu_drop_derived(t->v);
        vcpu_run(t->v, 1);
        assert_int_equal(cpu_cpl(t->v) == 3, bit >= 2);
    }
}

static void syscall_and_sysret(void **state)
{
    t->p.ram[0x7800] = 0xF4;
    S.msr.star = (u64)0x1B << 48 | (u64)SEL_CODE64 << 32, S.msr.lstar = 0x7800, S.msr.fmask = FL_IF | FL_TF;
    tm_user(t);
    S.rflags = 2 | FL_IF;
    assert_int_equal(TM_RUN(t, 0x0F, 0x05), NOTHING);
    assert_int_equal(S.rip, 0x7801);
    assert_int_equal(S.gpr[RCX], CODE + 2);
    assert_int_equal(S.gpr[R11], 2 | FL_IF);
    assert_int_equal(cpu_rflags(t->v), 2);
    assert_int_equal(S.seg[SEG_CS].sel, SEL_CODE64);
    assert_int_equal(S.seg[SEG_SS].sel, SEL_CODE64 + 8);
    assert_flat(0, true);
    assert_int_equal(cpu_cpl(t->v), 0);
    t->p.ram[0x7800] = 0xCD, t->p.ram[0x7801] = 0x80;
    S.gpr[RCX] = 0x7800, S.gpr[R11] = 0xFFFFFFFF & ~(u64)FL_TF & ~(u64)FL_NT;
    assert_int_equal(TM_RUN(t, 0x48, 0x0F, 0x07), 0x80);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 8, 8), 0x1B + 16);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 32, 8), 0x1B + 8);
    // RF and VM are not taken
    assert_int_equal(tm_read(t, S.gpr[RSP] + 16, 8), (0x3C7FD7 & ~FL_TF & ~FL_NT) | 2);
    // the RPL in IA32_STAR does not get into CS, and does into SS (SDM SYSCALL, operation)
    t->p.ram[0x7800] = 0xF4;
    S.msr.star |= 3ull << 32;
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x05), NOTHING);
    assert_int_equal(S.seg[SEG_CS].sel, SEL_CODE64);
    assert_int_equal(S.seg[SEG_SS].sel, (SEL_CODE64 + 8) | 3);
    assert_flat(0, true);
    S.gpr[RCX] = 1ull << 50;
    assert_int_equal(TM_RUN(t, 0x48, 0x0F, 0x07), VEC_GP);
    S.msr.efer &= ~(u64)EFER_SCE;
    assert_int_equal(TM_RUN(t, 0x0F, 0x05), VEC_UD);
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x48, 0x0F, 0x07), VEC_UD); // #UD before #GP
    S.msr.efer |= EFER_SCE;
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x48, 0x0F, 0x07), VEC_GP);
}

static void sysenter_and_sysexit(void **state)
{
    assert_int_equal(TM_RUN(t, 0x0F, 0x34), VEC_GP); // SYSENTER_CS is 0
    t->p.ram[0x7800] = 0xF4;
    S.msr.sysenter_cs = SEL_CODE32, S.msr.sysenter_esp = 0x31000, S.msr.sysenter_eip = 0x7800;
    tm_user(t);
    S.rflags |= FL_IF;
    assert_int_equal(TM_RUN(t, 0x0F, 0x34), NOTHING);
    assert_int_equal(S.rip, 0x7801);
    assert_int_equal(S.gpr[RSP], 0x31000);
    assert_int_equal(S.seg[SEG_CS].sel, SEL_CODE32);
    assert_int_equal(S.seg[SEG_SS].sel, SEL_CODE32 + 8);
    assert_flat(0, false);
    assert_false(S.rflags & FL_IF);
    t->p.ram[0x7800] = 0xCD, t->p.ram[0x7801] = 0x80;
    S.gpr[RDX] = 0x7800, S.gpr[RCX] = USER_STACK;
    assert_int_equal(TM_RUN(t, 0x0F, 0x35), 0x80);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), (SEL_CODE32 + 16) | 3);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 12, 4), USER_STACK);
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x35), VEC_GP);
}

static void bases(void **state)
{
    assert_int_equal(TM_RUN(t, 0xF3, 0x48, 0x0F, 0xAE, 0xC0), VEC_UD); // CR4.FSGSBASE is 0
    S.cr4 |= CR4_FSGSBASE;
    cpu_mode_changed(t->v);
    S.gpr[RAX] = 0x123456789000, S.msr.kernel_gs_base = 0x777;
    // wrgsbase rax; swapgs
    assert_int_equal(TM_RUN(t, 0xF3, 0x48, 0x0F, 0xAE, 0xD8, 0x0F, 0x01, 0xF8), NOTHING);
    assert_int_equal(S.seg[SEG_GS].base, 0x777);
    assert_int_equal(S.msr.kernel_gs_base, 0x123456789000);
    assert_int_equal(TM_RUN(t, 0xF3, 0x0F, 0xAE, 0xCB), NOTHING); // rdgsbase ebx
    assert_int_equal(S.gpr[RBX], 0x777);
    S.gpr[RAX] = 1ull << 62;
    assert_int_equal(TM_RUN(t, 0xF3, 0x48, 0x0F, 0xAE, 0xD0), VEC_GP);
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0xF8), VEC_GP);
}

// ---- flags, tables, ports ----

static void cli_sti_by_iopl(void **state)
{
    tm_user(t);
    S.rflags = 2;
    assert_int_equal(TM_RUN(t, 0xFA), VEC_GP);
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0xFB), VEC_GP);
    tm_user(t);
    S.rflags = 2 | FL_IOPL;
    assert_int_equal(TM_RUN(t, 0xFB, 0xFA, 0xFB, 0xCD, 0x80), 0x80);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 16, 8) & FL_IF, FL_IF);
}

static void popf_by_privilege(void **state)
{
    u64 image = 0x3000 | FL_IF | FL_CF | FL_ID | FL_AC | FL_VIF | FL_VIP | FL_VM | 2;
    tm_write64(t, STACK - 8, image);
    S.gpr[RSP] = STACK - 8;
    assert_int_equal(TM_RUN(t, 0x9D), NOTHING);
    assert_int_equal(cpu_rflags(t->v), 0x3000 | FL_IF | FL_CF | FL_ID | FL_AC | 2);
    // VIF and VIP stay as they are, set or not, at any level.
    for (unsigned user = 0; user < 2; user++) {
        S.rflags = 2 | FL_VIF | FL_VIP;
        if (user) tm_user(t);
        S.gpr[RSP] = STACK - 8;
        tm_write64(t, STACK - 8, 2 | FL_CF);
        if (user) {
            assert_int_equal(TM_RUN(t, 0x9D, 0xCD, 0x80), 0x80);
            assert_int_equal(tm_read(t, S.gpr[RSP] + 16, 8), FL_VIF | FL_VIP | FL_CF | 2);
        } else {
            assert_int_equal(TM_RUN(t, 0x9D), NOTHING);
            assert_int_equal(cpu_rflags(t->v), FL_VIF | FL_VIP | FL_CF | 2);
        }
    }
    S.rflags = 2 | 0x1000;
    tm_user(t);
    S.gpr[RSP] = STACK - 8;
    tm_write64(t, STACK - 8, image);
    assert_int_equal(TM_RUN(t, 0x9D, 0xCD, 0x80), 0x80);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 16, 8), 0x1000 | FL_CF | FL_ID | FL_AC | 2);
}

// SGDT and SIDT store a word and then a doubleword, in 64-bit mode a quadword: an address that is 2 modulo 4
// or 6 modulo 8 is aligned for both (SDM 3.5.1).
static void table_alignment(void **state)
{
    bool lng = S.msr.efer & EFER_LMA;
    S.cr0 |= CR0_AM;
    for (unsigned sidt = 0; sidt < 2; sidt++)
        for (unsigned ac = 0; ac < 2; ac++)
            for (unsigned i = 0; i < 16; i++) {
                bool aligned = lng ? i % 8 == 6 : i % 4 == 2;
                tm_user(t);
                cpu_set_rflags(t->v, 2 | (ac ? FL_AC : 0));
                cpu_mode_changed(t->v);
                S.gpr[RBX] = DATA + i;
                tm_write64(t, DATA + i, 0x5555);
                int end = TM_RUN(t, 0x0F, 0x01, sidt ? 0x0B : 0x03);
                assert_int_equal(end, ac && !aligned ? VEC_AC : 0x80);
                u64 limit = end == VEC_AC ? 0x5555 : sidt ? S.idtr.limit : S.gdtr.limit;
                assert_int_equal(tm_read(t, DATA + i, 2), limit);
            }
}

static void umip(void **state)
{
    // clang-format off
    u8 op[][4] = {{0x0F, 0x01, 0x03, 0x90}, {0x0F, 0x01, 0x0B, 0x90}, {0x0F, 0x00, 0xC0, 0x90}, {0x0F, 0x00, 0xC8, 0x90}, {0x0F, 0x01, 0xE0, 0x90}};
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(op); i++) {
        u8 code[6] = {op[i][0], op[i][1], op[i][2], op[i][3], 0xCD, 0x80};
        tm_user(t);
        S.gpr[RBX] = DATA;
        S.cr4 &= ~(u64)CR4_UMIP;
        assert_int_equal(tm_run(t, code, 6), 0x80);
        tm_user(t);
        S.cr4 |= CR4_UMIP;
        assert_int_equal(tm_run(t, code, 6), VEC_GP);
    }
}

static void table_registers(void **state)
{
    S.gpr[RBX] = DATA;
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0x03), NOTHING); // sgdt [rbx]
    assert_int_equal(tm_read(t, DATA, 2), GDT_END - 1);
    assert_int_equal(tm_read(t, DATA + 2, 8), GDT);
    tm_write64(t, DATA + 2, 1ull << 60);
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0x1B), VEC_GP); // lidt: not canonical
    tm_write64(t, DATA + 2, 0xFFFF800000001000);
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0x13), NOTHING);
    assert_int_equal(S.gdtr.base, 0xFFFF800000001000);
}

static void lgdt_with_16bit_operand_takes_24_bits(void **state)
{
    S.gpr[RBX] = DATA;
    tm_write64(t, DATA, 0xFF12345600DFull);
    assert_int_equal(TM_RUN(t, 0x66, 0x0F, 0x01, 0x13), NOTHING);
    assert_int_equal(S.gdtr.base, 0x00123456);
    assert_int_equal(S.gdtr.limit, 0xDF);
}

static void io_permission_bitmap(void **state)
{
    tm_user(t);
    S.rflags = 2;
    assert_int_equal(TM_RUN(t, 0xE4, 0x80), VEC_GP);
    t->p.ram[TSS + 0x68 + 0x80 / 8] = 0xFE; // port 80h alone
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0xE4, 0x80, 0xCD, 0x80), 0x80);
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x66, 0xE5, 0x80, 0xCD, 0x80), VEC_GP); // 81h is not allowed
    // 87h and 88h: two bytes of the map
    t->p.ram[TSS + 0x68 + 0x80 / 8] = 0x7F, t->p.ram[TSS + 0x68 + 0x80 / 8 + 1] = 0xFE;
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0x66, 0xE5, 0x87, 0xCD, 0x80), 0x80);
    // the second byte of the pair is beyond the limit, whatever the size
    S.seg[SEG_TR].limit = 0x68 + 0x88 / 8 - 1;
    tm_user(t);
    assert_int_equal(TM_RUN(t, 0xE4, 0x87, 0xCD, 0x80), VEC_GP);
    S.seg[SEG_TR].limit = 0x167;
    tm_user(t);
    S.rflags = 2 | FL_IOPL;
    assert_int_equal(TM_RUN(t, 0xE4, 0xF0, 0xCD, 0x80), 0x80);
}

static void clac_stac_and_monitor_at_level_3(void **state)
{
    u8 op[][3] = {{0x0F, 0x01, 0xCA}, {0x0F, 0x01, 0xCB}, {0x0F, 0x01, 0xC8}, {0x0F, 0x01, 0xC9}};
    for (unsigned i = 0; i < ARRAY_LEN(op); i++) {
        tm_user(t);
        assert_int_equal(tm_run(t, op[i], 3), VEC_UD);
    }
}

static void monitor_and_mwait(void **state)
{
    // MWAIT without MONITOR, or after a store to the line, goes on; armed, it waits.
    S.gpr[RAX] = DATA, S.gpr[RCX] = 0;
    u8 unarmed[] = {0x0F, 0x01, 0xC9, 0x90}, armed[] = {0x0F, 0x01, 0xC8, 0x0F, 0x01, 0xC9, 0x90};
    // monitor; inc qword [rax]; mwait; nop
    u8 stored[] = {0x0F, 0x01, 0xC8, 0x48, 0xFF, 0x00, 0x0F, 0x01, 0xC9, 0x90};
    assert_int_equal(tm_run(t, unarmed, 4), NOTHING);
    assert_int_equal(S.rip, CODE + 5);
    assert_int_equal(tm_run(t, armed, 7), NOTHING);
    assert_int_equal(S.rip, CODE + 6);
    assert_int_equal(tm_run(t, stored, 10), NOTHING);
    assert_int_equal(S.rip, CODE + 11);
    S.gpr[RCX] = 1; // no extensions
    assert_int_equal(tm_run(t, armed, 7), VEC_GP);
}

static void bound_range(void **state)
{
    tm_write64(t, DATA, 0x0000000AFFFFFFF6ull); // -10 to 10
    S.gpr[RBX] = DATA;
    struct {
        u32 index;
        int vector;
    } c[] = {{0, NOTHING}, {10, NOTHING}, {11, VEC_BR}, {(u32)-10, NOTHING}, {(u32)-11, VEC_BR}};
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        S.gpr[RAX] = c[i].index;
        assert_int_equal(TM_RUN(t, 0x62, 0x03), c[i].vector);
        if (c[i].vector == VEC_BR) assert_int_equal(tm_read(t, S.gpr[RSP], 4), CODE);
    }
}

static void invpcid_checks(void **state)
{
    // clang-format off
    struct { u64 type, d0, d1; int vector; } c[] = {
        {4, 0, 0, VEC_GP}, {0, 0, 0, NOTHING}, {0, 1, 0, VEC_GP}, {1, 1, 0, VEC_GP}, {2, 1, 0, NOTHING}, {0, 1 << 12, 0, VEC_GP},
        {3, 1ull << 63, 0, VEC_GP}, {0, 0, 1ull << 60, VEC_GP}, {2, 0, 1ull << 60, NOTHING},
    };
    // clang-format on
    S.gpr[RBX] = DATA;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        tm_write64(t, DATA, c[i].d0);
        tm_write64(t, DATA + 8, c[i].d1);
        S.gpr[RAX] = c[i].type;
        assert_int_equal(TM_RUN(t, 0x66, 0x0F, 0x38, 0x82, 0x03), c[i].vector);
    }
}

static void invlpg_after_a_change(void **state)
{
    // Two loads of 200000h around a change of its entry: stale without INVLPG, new with it.
    *(u64 *)(t->p.ram + 0x200000) = 1, *(u64 *)(t->p.ram + 0x400000) = 2;
    u8 code[] = {0x48, 0x8B, 0x1B, 0x48, 0x89, 0x07, 0x48, 0x8B, 0x0E, 0x0F, 0x01, 0x3E, 0x48, 0x8B, 0x16};
    S.gpr[RBX] = S.gpr[RSI] = 0x200000, S.gpr[RDI] = 0x42000 + 8, S.gpr[RAX] = 0x4000E7;
    assert_int_equal(tm_run(t, code, sizeof code), NOTHING);
    assert_int_equal(S.gpr[RBX], 1);
    assert_int_equal(S.gpr[RCX], 1);
    assert_int_equal(S.gpr[RDX], 2);
}

static void sti_shadow_covers_one_instruction(void **state)
{
    // With an interrupt waiting and no board to acknowledge it, what can be seen is the blocking itself.
    S.rflags = 2;
    assert_int_equal(TM_RUN(t, 0xFB), NOTHING); // sti; hlt: the shadow ends with the HLT
    assert_int_equal(S.blocking & BLOCKING_BY_STI, 0);
    S.gpr[RAX] = SEL_DATA;
    assert_int_equal(TM_RUN(t, 0x8E, 0xD0), NOTHING);
    assert_int_equal(S.blocking & BLOCKING_BY_MOV_SS, 0);
}

// SDM volume 2: UMONITOR, UMWAIT, TPAUSE, MOVDIR64B.
static void user_waits(void **state)
{
    static const u8 tpause[] = {0x66, 0x0F, 0xAE, 0xF1}, umwait[] = {0xF2, 0x0F, 0xAE, 0xF1}; // ecx
    static const u8 umonitor[] = {0xF3, 0x0F, 0xAE, 0xF7};                                    // rdi
    assert_true(msr_write(t->v, 0xE1, 0));
    assert_false(msr_write(t->v, 0xE1, 2));
    assert_false(msr_write(t->v, 0xE1, 1ull << 32));
    for (unsigned i = 0; i < 2; i++) {
        const u8 *code = i ? umwait : tpause;
        S.gpr[RCX] = 2, S.gpr[RAX] = S.gpr[RDX] = 0; // a reserved bit
        assert_int_equal(tm_run(t, code, 4), VEC_GP);
        S.gpr[RCX] = 0xFFFFFFFF00000001, S.fl = fl_pack(FL_ARITH); // the past
        u64 before = S.units;
        assert_int_equal(tm_run(t, code, 4), NOTHING);
        u64 at_once = S.units - before;
        assert_int_equal(fl_unpack(S.fl), 0);
        // a time to come: UMWAIT waits with the monitor armed only
        S.gpr[RDI] = DATA;
        if (i) assert_int_equal(tm_run(t, umonitor, 4), NOTHING);
        u64 monitor = S.monitor_addr;
        assert_int_equal(monitor, i ? DATA | 1 : 0);
        u64 until = cpu_vtime(t->v) + S.msr.tsc_offset + 400;
        S.gpr[RAX] = (u32)until, S.gpr[RDX] = until >> 32;
        assert_int_equal(tm_run(t, code, 4), NOTHING);
        assert_true(cpu_vtime(t->v) + S.msr.tsc_offset >= until);
        assert_int_equal(fl_unpack(S.fl), 0);
        // the operating system's limit, which CF tells
        assert_true(msr_write(t->v, 0xE1, 0x41));
        S.gpr[RAX] = S.gpr[RDX] = 0xFFFFFFFF;
        if (i) assert_int_equal(tm_run(t, umonitor, 4), NOTHING);
        before = S.units;
        assert_int_equal(tm_run(t, code, 4), NOTHING);
        assert_int_equal(fl_unpack(S.fl), FL_CF);
        assert_int_equal(S.units - before, at_once + 0x40 / CPU_TICKS_PER_UNIT);
        assert_true(msr_write(t->v, 0xE1, 0));
        if (i) { // not armed, or written to
            tm_write64(t, DATA, 1), S.monitor_addr = 0;
            before = S.units;
            assert_int_equal(tm_run(t, code, 4), NOTHING);
            assert_int_equal(S.units - before, at_once);
        }
        S.cr4 |= CR4_TSD; // CPL 0 may
        cpu_mode_changed(t->v);
        S.gpr[RAX] = S.gpr[RDX] = 0;
        assert_int_equal(tm_run(t, code, 4), NOTHING);
        tm_user(t);
        assert_int_equal(tm_run(t, code, 4), VEC_GP);
        S.cr4 &= ~(u64)CR4_TSD;
        cpu_mode_changed(t->v);
        assert_int_equal(tm_run(t, code, 4), NOTHING);
        S.gpr[RDI] = 0x8000000000000000; // not canonical
        assert_int_equal(tm_run(t, umonitor, 4), VEC_GP);
        for (unsigned k = SEG_ES; k <= SEG_GS; k++) tm_load(t, k, SEL_DATA);
        tm_load(t, SEG_CS, SEL_CODE64);
        cpu_mode_changed(t->v);
    }
}

// SDM volume 2: WRMSRNS, RDMSRLIST, WRMSRLIST.
static const u8 wrmsrns[] = {0x0F, 0x01, 0xC6}, rdmsrlist[] = {0xF2, 0x0F, 0x01, 0xC6},
                wrmsrlist[] = {0xF3, 0x0F, 0x01, 0xC6};
enum { LIST = DATA, VALUES = DATA + 0x200 };

static void list_of(unsigned n, u64 msr, u64 value)
{
    tm_write64(t, LIST + 8 * n, msr), tm_write64(t, VALUES + 8 * n, value);
}
static int lists(const u8 *code, u64 which)
{
    S.gpr[RSI] = LIST, S.gpr[RDI] = VALUES, S.gpr[RCX] = which;
    return tm_run(t, code, 4);
}

static void msr_lists(void **state)
{
    S.gpr[RCX] = 0x174, S.gpr[RAX] = 0x77, S.gpr[RDX] = 0;
    assert_int_equal(tm_run(t, wrmsrns, 3), NOTHING);
    assert_int_equal(S.msr.sysenter_cs, 0x77);
    S.gpr[RCX] = 0x4B564D00;
    assert_int_equal(tm_run(t, wrmsrns, 3), VEC_GP);
    assert_int_equal(TM_RUN(t, 0x66, 0x0F, 0x01, 0xC6), VEC_UD);
    assert_int_equal(TM_RUN(t, 0xF0, 0x0F, 0x01, 0xC6), VEC_UD);
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0xC5), VEC_UD); // PCONFIG

    // entries 0, 5 and 63; the others are not looked at
    for (unsigned i = 0; i < 64; i++) list_of(i, ~0ull, 0xEE);
    S.msr.lstar = 0x1111, S.msr.cstar = 0x2222, S.msr.sysenter_eip = 0xFFFFFFFF80000000;
    list_of(0, 0xC0000082, 0), list_of(5, 0x176, 0), list_of(63, 0xC0000083, 0);
    assert_int_equal(lists(rdmsrlist, 1ull << 63 | 1 << 5 | 1), NOTHING);
    assert_int_equal(S.gpr[RCX], 0);
    assert_int_equal(tm_read(t, VALUES, 8), 0x1111);
    assert_int_equal(tm_read(t, VALUES + 40, 8), 0xFFFFFFFF80000000);
    assert_int_equal(tm_read(t, VALUES + 504, 8), 0x2222);
    assert_int_equal(tm_read(t, VALUES + 8, 8), 0xEE);
    assert_int_equal(lists(rdmsrlist, 0), NOTHING); // nothing asked for
    list_of(1, 0x2F, 0xEE);                         // IA32_BARRIER
    assert_int_equal(lists(rdmsrlist, 2), NOTHING);
    assert_int_equal(tm_read(t, VALUES + 8, 8), 0);
    assert_int_equal(lists(wrmsrlist, 2), VEC_GP);

    list_of(0, 0xC0000082, 0x8000), list_of(5, 0x176, 0x9000), list_of(63, 0xC0000083, 0xA000);
    assert_int_equal(lists(wrmsrlist, 1ull << 63 | 1 << 5 | 1), NOTHING);
    assert_int_equal(S.gpr[RCX], 0);
    assert_true(S.msr.lstar == 0x8000 && S.msr.sysenter_eip == 0x9000 && S.msr.cstar == 0xA000);

    // What faults is not done; what came before it is.
    static const struct {
        u64 msr, value;
    } bad[] = {{0x4B564D00, 0}, {1ull << 32 | 0x176, 0}, {0x176, 1ull << 60}, {~0ull, 0}};
    for (unsigned i = 0; i < 2 * ARRAY_LEN(bad); i++) {
        bool write = i & 1;
        if (bad[i / 2].msr == 0x176 && !write) continue; // its value does not matter
        S.msr.lstar = 0x1234;
        list_of(0, 0xC0000082, 0x5678), list_of(5, bad[i / 2].msr, bad[i / 2].value);
        assert_int_equal(lists(write ? wrmsrlist : rdmsrlist, 1ull << 63 | 1 << 5 | 1), VEC_GP);
        assert_true(S.gpr[RCX] == (1ull << 63 | 1 << 5));
        assert_int_equal(write ? S.msr.lstar : tm_read(t, VALUES, 8), write ? 0x5678 : 0x1234);
    }
    // alignment, canonical addresses, pages
    for (unsigned i = 0; i < 2; i++) {
        const u8 *code = i ? wrmsrlist : rdmsrlist;
        S.gpr[RSI] = LIST + 4, S.gpr[RDI] = VALUES, S.gpr[RCX] = 0;
        assert_int_equal(tm_run(t, code, 4), VEC_GP);
        S.gpr[RSI] = LIST, S.gpr[RDI] = VALUES + 1;
        assert_int_equal(tm_run(t, code, 4), VEC_GP);
        S.gpr[RSI] = 0x7FFFFFFFFFF8, S.gpr[RDI] = VALUES, S.gpr[RCX] = 2;
        assert_int_equal(tm_run(t, code, 4), VEC_GP);
        S.gpr[RSI] = 0x40000000;
        assert_int_equal(tm_run(t, code, 4), VEC_PF);
        assert_int_equal(S.cr2, 0x40000008);
    }
}

// Between two entries the boundary has its turn: a single-step trap points at the instruction.
static void msr_lists_are_interruptible(void **state)
{
    list_of(0, 0xC0000082, 0), list_of(1, 0xC0000083, 0), list_of(2, 0x176, 0);
    S.msr.lstar = 0x11, S.msr.cstar = 0x22, S.msr.sysenter_eip = 0x33;
    u64 rsp = S.gpr[RSP];
    cpu_set_rflags(t->v, cpu_rflags(t->v) | FL_TF);
    for (unsigned n = 1; n <= 3; n++) {
        if (n == 1)
            assert_int_equal(lists(rdmsrlist, 7), VEC_DB);
        else {
            S.gpr[RSP] = rsp;
            cpu_set_rflags(t->v, cpu_rflags(t->v) | FL_TF);
            assert_int_equal(tm_run(t, rdmsrlist, 4), VEC_DB);
        }
        assert_int_equal(S.gpr[RCX], 7 & ~((1u << n) - 1));
        assert_int_equal(tm_read(t, S.gpr[RSP], 8), n < 3 ? CODE : CODE + 4);
        assert_int_equal(tm_read(t, VALUES + 8 * (n - 1), 8), 0x11 * n);
    }
}

static void msr_lists_elsewhere(void **state) // 32-bit code, CPL 3
{
    assert_int_equal(lists(rdmsrlist, 0), VEC_UD);
    assert_int_equal(lists(wrmsrlist, 0), VEC_UD);
    S.gpr[RCX] = 0x174, S.gpr[RAX] = 0x78, S.gpr[RDX] = 0;
    assert_int_equal(tm_run(t, wrmsrns, 3), NOTHING);
    assert_int_equal(S.msr.sysenter_cs, 0x78);
    tm_user(t);
    assert_int_equal(tm_run(t, wrmsrns, 3), VEC_GP);
}
static void msr_lists_of_a_user(void **state)
{
    tm_user(t);
    assert_int_equal(lists(rdmsrlist, 0), VEC_GP);
    tm_user(t);
    assert_int_equal(lists(wrmsrlist, 0), VEC_GP);
}

static void a_line_moves_whole(void **state)
{
    static const u8 movdir64b[] = {0x66, 0x0F, 0x38, 0xF8, 0x06},
                    with_67[] = {0x67, 0x66, 0x0F, 0x38, 0xF8, 0x06};
    for (unsigned i = 0; i < 64; i++) t->p.ram[DATA + 3 + i] = (u8)(i + 1), t->p.ram[DATA + 0x100 + i] = 0xEE;
    S.gpr[RSI] = DATA + 3, S.gpr[RAX] = DATA + 0x110; // rax, [rsi]
    assert_int_equal(tm_run(t, movdir64b, 5), VEC_GP);
    assert_int_equal(t->p.ram[DATA + 0x110], 0xEE);
    S.gpr[RAX] = DATA + 0x100;
    assert_int_equal(tm_run(t, movdir64b, 5), NOTHING);
    for (unsigned i = 0; i < 64; i++) assert_int_equal(t->p.ram[DATA + 0x100 + i], i + 1);
    assert_int_equal(t->p.ram[DATA + 0x140], 0);
    S.gpr[RAX] = 0xABCD00000000 | (DATA + 0x200);
    assert_int_equal(tm_run(t, with_67, 6), NOTHING);
    for (unsigned i = 0; i < 64; i++) assert_int_equal(t->p.ram[DATA + 0x200 + i], i + 1);
    S.gpr[RAX] = 0x7F0000000000; // unmapped
    assert_int_equal(tm_run(t, movdir64b, 5), VEC_PF);
    // registers have no such form
    assert_int_equal(TM_RUN(t, 0x66, 0x0F, 0x38, 0xF8, 0xC6), VEC_UD);
}

static void speculation_controls(void **state)
{
    u64 x;
    assert_true(msr_write(t->v, 0x10B, 1) && msr_write(t->v, 0x10B, 0));
    assert_false(msr_write(t->v, 0x10B, 2));
    assert_false(msr_read(t->v, 0x10B, &x));
    assert_true(msr_write(t->v, 0x48, 7));
    assert_true(msr_read(t->v, 0x48, &x) && x == 7);
    assert_false(msr_write(t->v, 0x48, 8));
    t->f.bits[FEATURE_SSBD / 64] &= ~(1ull << FEATURE_SSBD % 64);
    assert_false(msr_write(t->v, 0x48, 4));
    t->f.bits[FEATURE_FLUSH_L1D / 64] &= ~(1ull << FEATURE_FLUSH_L1D % 64);
    assert_false(msr_write(t->v, 0x10B, 1));
    u32 r[4];
    cpu_features_max(&t->f);
    cpuid_query(t->v, 7, 0, r);
    assert_int_equal(r[3] & 0xBC000400, 0xBC000400);
}

static void xcr0_and_the_pkru_component(void **state)
{
    u32 r[4];
    u8 xsetbv[] = {0x0F, 0x01, 0xD1};
    S.gpr[RCX] = 0, S.gpr[RAX] = 3, S.gpr[RDX] = 0;
    assert_int_equal(tm_run(t, xsetbv, 3), VEC_UD); // CR4.OSXSAVE is 0
    S.cr4 |= CR4_OSXSAVE | CR4_PKE;
    cpu_feature_switch(&t->f, FEATURE_AVX, false); // test_cpu_avx has it
    static const u32 bad[] = {2, 0, 7, 0x1B, 0x403};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        S.gpr[RAX] = bad[i];
        assert_int_equal(tm_run(t, xsetbv, 3), VEC_GP);
    }
    // no supervisor component is there, and PKRU is none
    for (unsigned n = 0; n < 64; n++) assert_false(msr_write(t->v, 0xDA0, 1ull << n));
    assert_true(msr_write(t->v, 0xDA0, 0));
    S.gpr[RAX] = 0x203;
    assert_int_equal(tm_run(t, xsetbv, 3), NOTHING);
    assert_int_equal(S.xcr0, 0x203);
    // SDM volume 1, 13.5.7: 8 bytes; at A80h in the standard format on every processor that has it, after the
    // header else.
    cpuid_query(t->v, 0xD, 9, r);
    assert_int_equal(r[0], 8);
    assert_int_equal(r[1], 0xA80);
    cpuid_query(t->v, 0xD, 0, r);
    assert_int_equal(r[0], 0x203);
    assert_int_equal(r[1], 0xA88);
    assert_true(r[2] == 0xA88 && r[3] == 0); // for all components, whatever XCR0 is
    S.xcr0 = 1;
    cpuid_query(t->v, 0xD, 0, r);
    assert_true(r[1] == 576 && r[2] == 0xA88 && r[3] == 0);
    S.xcr0 = 0x203;
    cpuid_query(t->v, 0xD, 1, r);
    assert_int_equal(r[1], 576 + 8);
    S.cr4 |= CR4_PKE, S.pkru = 0x12345678, S.gpr[RCX] = 0, S.gpr[RDX] = S.gpr[RAX] = UINT64_MAX;
    cpu_mode_changed(t->v);
    assert_int_equal(TM_RUN(t, 0x0F, 0x01, 0xEE), NOTHING); // rdpkru
    assert_true(S.gpr[RAX] == 0x12345678 && S.gpr[RDX] == 0);
    S.cr4 &= ~(u64)CR4_PKE;
    cpu_mode_changed(t->v);
    S.pkru = 0x55555554;
    S.gpr[RBX] = DATA, S.gpr[RAX] = 0x203, S.gpr[RDX] = 0;
    memset(t->p.ram + DATA, 0, 0x1000);
    assert_int_equal(TM_RUN(t, 0x0F, 0xAE, 0x23), NOTHING); // xsave [rbx]
    assert_int_equal(tm_read(t, DATA + 0xA80, 8), 0x55555554);
    assert_true(tm_read(t, DATA + 512, 8) & 0x200);
    tm_write64(t, DATA + 0xA80, 0x1234);
    assert_int_equal(TM_RUN(t, 0x0F, 0xAE, 0x2B), NOTHING); // xrstor
    assert_int_equal(S.pkru, 0x1234);
    memset(t->p.ram + DATA, 0, 0x1000);
    assert_int_equal(TM_RUN(t, 0x0F, 0xC7, 0x23), NOTHING); // xsavec
    assert_int_equal(tm_read(t, DATA + 576, 8), 0x1234);
    tm_write64(t, DATA + 512, tm_read(t, DATA + 512, 8) & ~0x200ull);
    S.gpr[RAX] = 0x203;
    assert_int_equal(TM_RUN(t, 0x0F, 0xAE, 0x2B), NOTHING); // in its initial configuration: 0
    assert_int_equal(S.pkru, 0);
}

// CR0.NE = 0 (SDM 2.5; volume 1, appendix D): an unmasked exception asserts FERR# at the next waiting
// instruction, which waits for an interrupt unless IGNNE# is asserted.
static struct {
    bool pin, ignne;
    unsigned changes;
} ferr;
static bool ferr_pin(void *opaque, unsigned cpu, bool level)
{
    ferr.changes += ferr.pin != level;
    ferr.pin = level;
    return ferr.ignne;
}
static int ferr_ack(void *opaque, unsigned cpu)
{
    cpu_signal(t->v, CPU_SIGNAL_INTR_OFF, 0);
    return 0x75;
}
static const struct cpu_board_ops ferr_board = {.ferr = ferr_pin, .intr_ack = ferr_ack};

static void x87_error_without_ne(void **state)
{
    // fldcw [rbx]; fld1; fldz; fdivp; fld1; fnstsw ax
    static const u8 code[] = {0xD9, 0x2B, 0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9, 0xD9, 0xE8, 0xDF, 0xE0};
    enum { WAITS = CODE + 8 };
    u16 fcw = 0x0340; // all unmasked
    tm_write(t, DATA, &fcw, 2);
    S.gpr[RBX] = DATA;
    for (unsigned i = 0; i < 4; i++) {
        S.fpu.fcw = 0x37F, S.fpu.ftw = 0xFFFF, S.fpu.fsw = 0;
        S.gpr[RAX] = 0, S.gpr[RSP] = STACK;
        cpu_set_rflags(t->v, 2 | FL_IF);
        S.cr0 = i == 0 ? S.cr0 | CR0_NE : S.cr0 & ~(u64)CR0_NE;
        t->v->board = i == 1 ? NULL : &ferr_board;
        ferr.pin = false, ferr.ignne = i == 2, ferr.changes = 0;
        int r = tm_run(t, code, sizeof code);
        assert_int_equal(ferr.changes, i >= 2);
        if (i == 0) {
            assert_int_equal(r, VEC_MF);
        } else if (i < 3) { // nobody listens, or IGNNE#: it goes on, and the exception stays
            assert_int_equal(r, NOTHING);
            assert_int_equal(S.gpr[RAX] & 0x8084, 0x8084); // ZE, ES, B
        } else {                                           // stands still at FLD1
            assert_int_equal(S.rip, WAITS);
            assert_int_equal(S.activity, ACTIVITY_HLT);
            assert_int_equal(S.gpr[RAX], 0);
        }
    }
    // The interrupt comes there, and its return finds the same; with IGNNE# it goes on.
    cpu_signal(t->v, CPU_SIGNAL_INTR_ON, 0);
    assert_int_equal(vcpu_run(t->v, 1000), RUN_HALTED);
    assert_int_equal(S.rip, HANDLER + 16 * 0x75 + 1);
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), WAITS);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 16, 8), 2 | FL_IF);
    for (unsigned ignne = 0; ignne < 2; ignne++) {
        S.rip = WAITS, S.activity = ACTIVITY_ACTIVE, ferr.ignne = ignne;
        cpu_attention(t->v);
        assert_int_equal(vcpu_run(t->v, 1000), RUN_HALTED);
        assert_int_equal(S.rip, ignne ? CODE + sizeof code + 1 : WAITS);
    }
    // FERR# falls with ES: FNCLEX, FNINIT, FNSAVE, masks by FLDCW (under IGNNE#) and FNSTENV, FXRSTOR; and
    // with NE.
    static const struct {
        u8 code[4], n;
    } c[] = {{{0xDB, 0xE2}, 2}, {{0xDB, 0xE3}, 2},       {{0xDD, 0x33}, 2},      {{0xD9, 0x29}, 2},
             {{0xD9, 0x33}, 2}, {{0x0F, 0xAE, 0x0A}, 3}, {{0x0F, 0x22, 0xC0}, 3}};
    u16 masked = 0x37F;
    u8 image[512] = {0x7F, 3};
    image[24] = 0x80, image[25] = 0x1F; // MXCSR
    tm_write(t, DATA + 0x200, &masked, 2), tm_write(t, DATA + 0x400, image, sizeof image);
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        S.fpu.fcw = 0x340, S.fpu.fsw = 0x8084, ferr.pin = true;
        S.cr0 &= ~(u64)CR0_NE;
        S.gpr[RAX] = S.cr0 | CR0_NE, S.gpr[RBX] = DATA + 0x800, S.gpr[RCX] = DATA + 0x200,
        S.gpr[RDX] = DATA + 0x400;
        assert_int_equal(tm_run(t, c[i].code, c[i].n), NOTHING);
        assert_false(ferr.pin);
    }
    assert_int_equal(t->v->unimplemented_n, 0);
}

static void rdrand_is_deterministic(void **state)
{
    S.rng_state = 1;
    // rdrand rax; rdseed rbx
    assert_int_equal(TM_RUN(t, 0x48, 0x0F, 0xC7, 0xF0, 0x48, 0x0F, 0xC7, 0xFB), NOTHING);
    assert_int_equal(cpu_rflags(t->v) & 0x8D5, FL_CF);
    u64 a = S.gpr[RAX], b = S.gpr[RBX];
    assert_int_not_equal(a, b);
    S.rng_state = 1;
    S.gpr[RAX] = 0;
    assert_int_equal(TM_RUN(t, 0x66, 0x0F, 0xC7, 0xF0), NOTHING);
    assert_int_equal(S.gpr[RAX], a & 0xFFFF);
}

// An instruction that crosses a page above 4 GiB, found again: its second page is looked up where it is. (Its
// low half of address, 40009000h, is mapped to nothing.)
static void crossing_above_4g(void **state)
{
    struct tm *t = tm_new(TM_LONG);
    tm_write64(t, PML4 + 8 * 256, 0x50007);
    tm_write64(t, 0x50000 + 8, 0x51007);
    tm_write64(t, 0x51000, 0x2000E7);
    tm_write(t, 0x208FFE, "\xBA\x78\x56\x34\x12\xFF\xC3\xC3", 8); // mov edx, 12345678h; inc ebx; ret
    t->v->s.gpr[RBX] = 0;
    int vector = TM_RUN(t, 0x48, 0xB8, 0xFE, 0x8F, 0, 0x40, 0, 0x80, 0xFF, 0xFF, // mov rax, FFFF800040008FFEh
                        0xB9, 3, 0, 0, 0, 0xFF, 0xD0, 0xE2, 0xFC);               // mov ecx, 3; call rax; loop
    assert_int_equal(vector, NOTHING);
    assert_int_equal(t->v->s.gpr[RBX], 3);
    assert_int_equal(t->v->s.gpr[RDX], 0x12345678);
    tm_free(t);
}

int main(void)
{
#define R(f) cmocka_unit_test_setup_teardown(f, real_setup, teardown)
#define P(f) cmocka_unit_test_setup_teardown(f, prot_setup, teardown)
#define L(f) cmocka_unit_test_setup_teardown(f, long_setup, teardown)
    (void)real_setup;
    // clang-format off
    const struct CMUnitTest tests[] = {
        L(cr0_rules), P(cr0_activating_ia32e), P(pae_loads_pdptes), L(cr3_rules), L(cr4_rules), L(cr_numbers_and_privilege),
        P(lmsw_cannot_clear_pe), L(debug_registers), L(register_numbers_before_privilege), L(msr_values_and_masks),
        L(msr_reset_values), L(processor_after_reset_and_init), L(misc_enable_bits_take_effect), L(high_halves_are_ignored),
        L(idle_power_msrs),
        L(ports_see_the_time), L(stores_mark_pages_dirty),
        L(a_freed_processor_is_told_nothing),
        L(nops_caches_and_cpuid), L(unknown_msrs_are_gp_and_named), L(efer_rules), L(feature_control_locks), L(tsc_and_its_adjustment), L(cpuid_live_bits),
        cmocka_unit_test(crossing_above_4g),
        cmocka_unit_test(cpuid_option), cmocka_unit_test(words_that_are_near), L(feature_off_is_ud), L(syscall_and_sysret), L(returns_to_user_code), P(sysenter_and_sysexit), L(bases),
        L(cli_sti_by_iopl), L(popf_by_privilege), L(umip), L(table_alignment), P(table_alignment), L(table_registers), P(lgdt_with_16bit_operand_takes_24_bits),
        L(io_permission_bitmap), L(clac_stac_and_monitor_at_level_3), L(monitor_and_mwait), P(bound_range), L(invpcid_checks),
        L(invlpg_after_a_change), L(sti_shadow_covers_one_instruction), L(rdrand_is_deterministic), L(xcr0_and_the_pkru_component), L(user_waits), L(a_line_moves_whole), L(msr_lists), L(msr_lists_are_interruptible), P(msr_lists_elsewhere), L(msr_lists_of_a_user), L(speculation_controls),
        L(x87_error_without_ne),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}
