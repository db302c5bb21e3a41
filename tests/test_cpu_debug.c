// Debug registers: SDM chapter 19 (debug exceptions, their conditions, RF, TF), 7.8.3 (the shadow of a MOV to
// SS), table 7-2 (what comes first). What is expected is the manual's; which accesses share a byte with a
// breakpoint is counted here byte by byte. An Intel processor (family 6, model 207) under ptrace does the
// same where level 3 can see it: data breakpoints of one and of two operands, across a page, of a fault,
// within a REP with RF, held back and merged by a MOV to SS, together with steps. Every test runs in both
// engines.
#include "cpu_machine.h"

#include "cpu/system/debug.h"

static struct tm *t;
#define S (t->v->s)

static int setup(void **s, enum tm_kind kind)
{
    t = tm_new(kind);
    if (*s) t->v->loop_engine = true;
    S.dr[6] = 0xFFFF0FF0, S.dr[7] = 0x400;
    return 0;
}
static int long_setup(void **s) { return setup(s, TM_LONG); }
static int prot_setup(void **s) { return setup(s, TM_PROTECTED); }
static int real_setup(void **s) { return setup(s, TM_REAL); }
static int teardown(void **s) { return tm_free(t), 0; }

enum { EXECUTION, WRITE, PORT, ACCESS };
// Sets breakpoint n, of 1, 2, 4 or 8 bytes, local or global.
static void breakpoint(unsigned n, u64 a, unsigned kind, unsigned size, bool global)
{
    static const u8 len[] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    S.dr[n] = a;
    S.dr[7] &= ~((u64)15 << (16 + 4 * n));
    S.dr[7] |= 1ull << (2 * n + global) | (u64)(kind | len[size] << 2) << (16 + 4 * n);
    debug_changed(t->v);
}
static void no_breakpoints(void)
{
    S.dr[7] = 0x400, S.dr[6] = 0xFFFF0FF0;
    debug_changed(t->v);
}

// From where it stands to the next HLT: the vector of the handler, or NOTHING.
static int on(void)
{
    S.activity = ACTIVITY_ACTIVE;
    cpu_mode_changed(t->v);
    cpu_attention(t->v);
    assert_int_equal(vcpu_run(t->v, 1000000), RUN_HALTED);
    u64 at = S.rip - 1;
    return at >= HANDLER && at < HANDLER + 0x1000 ? (int)(at - HANDLER) / 16 : NOTHING;
}
// The frame of 64-bit mode.
static u64 frame_rip(void) { return tm_read(t, S.gpr[RSP], 8); }
static u64 frame_flags(void) { return tm_read(t, S.gpr[RSP] + 16, 8); }
// The handler's IRET, with RF in the image or not.
static int back(bool rf)
{
    u64 f = frame_flags();
    S.rip = frame_rip();
    cpu_set_rflags(t->v, rf ? f | FL_RF : f & ~(u64)FL_RF);
    S.gpr[RSP] = tm_read(t, S.gpr[RSP] + 24, 8);
    return on();
}
#define EXPECT_DB(status, what, rip) \
    do { \
        assert_int_equal(status, VEC_DB); \
        assert_int_equal(S.dr[6], 0xFFFF0FF0 | (what)); \
        assert_int_equal(frame_rip(), rip); \
        S.dr[6] = 0xFFFF0FF0; \
    } while (0)

// ---- instructions ----
static void on_an_instruction(void **state)
{
    for (unsigned n = 0; n < 4; n++)
        for (unsigned global = 0; global < 2; global++) {
            no_breakpoints();
            breakpoint(n, CODE + 1, EXECUTION, 1, global);
            S.gpr[RAX] = 0;
            // nop; rex.w inc rax; nop
            EXPECT_DB(TM_RUN(t, 0x90, 0x48, 0xFF, 0xC0, 0x90), 1 << n, CODE + 1);
            assert_int_equal(S.gpr[RAX], 0); // a fault
            assert_int_equal(frame_flags() & FL_RF, 0);
            EXPECT_DB(back(false), 1 << n, CODE + 1); // not let through: it strikes again
            assert_int_equal(back(true), NOTHING);
            assert_int_equal(S.gpr[RAX], 1);
            assert_int_equal(S.rflags & FL_RF, 0); // for one instruction
        }
    no_breakpoints();
    breakpoint(1, CODE + 2, EXECUTION, 1, false); // not its first byte
    assert_int_equal(TM_RUN(t, 0x90, 0x48, 0xFF, 0xC0, 0x90), NOTHING);
    S.dr[7] &= ~(u64)DR7_ENABLES;
    debug_changed(t->v);
    breakpoint(2, 0, EXECUTION, 1, false); // enables are each their own
    S.dr[1] = CODE + 1;
    assert_int_equal(TM_RUN(t, 0x90, 0x48, 0xFF, 0xC0, 0x90), NOTHING);
    // Two on one instruction, and on the one behind it.
    no_breakpoints();
    breakpoint(0, CODE, EXECUTION, 1, false);
    breakpoint(3, CODE, EXECUTION, 1, true);
    breakpoint(1, CODE + 1, EXECUTION, 1, true);
    EXPECT_DB(TM_RUN(t, 0x90, 0x90), 9, CODE);
    EXPECT_DB(back(true), 2, CODE + 1);
    assert_int_equal(back(true), NOTHING);
}

// Before all that fetching and executing may raise (table 7-2), and before its effects.
static void before_other_faults(void **state)
{
    breakpoint(0, CODE + 1, EXECUTION, 1, false);
    EXPECT_DB(TM_RUN(t, 0x90, 0x0F, 0x0B), 1, CODE + 1); // ud2
    assert_int_equal(back(true), VEC_UD);
    assert_int_equal(frame_flags() & FL_RF, FL_RF); // a fault sets it in the image
    // Code that is not there: #DB, then #PF.
    no_breakpoints();
    breakpoint(0, 0x900000, EXECUTION, 1, false);
    tm_write64(t, 0x42000 + 8 * 4, 0);
    S.gpr[RAX] = 0x900000;
    EXPECT_DB(TM_RUN(t, 0xFF, 0xE0), 1, 0x900000); // jmp rax
    assert_int_equal(back(true), VEC_PF);
    assert_int_equal(S.cr2, 0x900000);
}

// A loop that runs at speed when its third round enables a breakpoint in it, in its page or in another.
static void in_the_midst(void **state)
{
    for (unsigned far = 0; far < 2; far++) {
        u64 sub = far ? DATA : CODE + 0x100;
        no_breakpoints();
        S.dr[2] = sub + 1;
        static const u8 called[] = {0x90, 0x48, 0xFF, 0xC6, 0xC3}; // nop; inc rsi; ret
        tm_write(t, sub, called, sizeof called);
        S.gpr[RSI] = 0, S.gpr[RCX] = 5, S.gpr[RBX] = sub, S.gpr[RAX] = 0x410;
        // again: call rbx; cmp rcx,3; jne on; mov dr7,rax; on: dec rcx; jnz again
        EXPECT_DB(TM_RUN(t, 0xFF, 0xD3, 0x48, 0x83, 0xF9, 3, 0x75, 3, 0x0F, 0x23, 0xF8, 0x48, 0xFF, 0xC9,
                         0x75, 0xF0),
                  4, sub + 1);
        assert_int_equal(S.gpr[RCX], 2);
        assert_int_equal(S.gpr[RSI], 3);
        EXPECT_DB(back(true), 4, sub + 1);
        assert_int_equal(back(true), NOTHING);
        assert_int_equal(S.gpr[RSI], 5);
    }
}

// It is a linear address: segment bases count, and pages elsewhere do not.
static void linear_addresses(void **state)
{
    seg_load_real(t->v, SEG_CS, 0x100);
    breakpoint(0, CODE + 1, EXECUTION, 1, false);
    tm_write(t, CODE, "\x90\x90\xF4", 3);
    S.rip = CODE - 0x1000;
    assert_int_equal(on(), VEC_DB);
    assert_int_equal(tm_read(t, S.gpr[RSP], 2), CODE + 1 - 0x1000);
}

// ---- data ----
static const struct {
    u8 code[8], n, size;
    bool reads, writes;
} accesses[] = {
    {{0x8A, 0x06}, 2, 1, true, false},        // mov al,[rsi]
    {{0x88, 0x06}, 2, 1, false, true},        // mov [rsi],al
    {{0x66, 0x8B, 0x06}, 3, 2, true, false},  // mov ax,[rsi]
    {{0x66, 0x89, 0x06}, 3, 2, false, true},  // mov [rsi],ax
    {{0x8B, 0x06}, 2, 4, true, false},        // mov eax,[rsi]
    {{0x89, 0x06}, 2, 4, false, true},        // mov [rsi],eax
    {{0x48, 0x8B, 0x06}, 3, 8, true, false},  // mov rax,[rsi]
    {{0x48, 0x89, 0x06}, 3, 8, false, true},  // mov [rsi],rax
    {{0xFF, 0x06}, 2, 4, true, true},         // inc dword [rsi]
    {{0x48, 0x39, 0x06}, 3, 8, true, false},  // cmp [rsi],rax
    {{0x0F, 0x10, 0x06}, 3, 16, true, false}, // movups xmm0,[rsi]
    {{0x0F, 0x11, 0x06}, 3, 16, false, true}, // movups [rsi],xmm0
};

static void on_data(void **state)
{
    static const u8 sizes[] = {1, 2, 4, 8};
    enum { AT = DATA + 0x800, AT_BORDER = DATA + 0x1000 };
    for (unsigned where = 0; where < 2; where++)
        for (unsigned i = 0; i < ARRAY_LEN(accesses); i++)
            for (unsigned k = 0; k < ARRAY_LEN(sizes); k++)
                for (unsigned kind = WRITE; kind <= ACCESS; kind += ACCESS - WRITE)
                    for (int off = -16; off <= 8; off++) {
                        u64 watch = (where ? AT_BORDER - 8 : AT) + 3, a = (watch & ~7ull) + (u64)off;
                        u64 first = watch - watch % sizes[k];
                        bool met = false;
                        for (unsigned b = 0; b < accesses[i].size; b++)
                            met |= a + b >= first && a + b < first + sizes[k];
                        met = met && (accesses[i].writes || (accesses[i].reads && kind == ACCESS));
                        no_breakpoints();
                        S.gpr[RSP] = STACK;
                        tm_write(t, CODE, accesses[i].code, 8);
                        tm_write(t, CODE + accesses[i].n, "\x90\xF4", 2);
                        cpu_drop_derived(t->v);
                        S.rip = CODE, S.gpr[RSI] = a;
                        assert_int_equal(on(), NOTHING); // fills the fast table
                        breakpoint(2, watch, kind, sizes[k], off & 1);
                        S.rip = CODE;
                        cpu_set_rflags(t->v, 2);
                        if (!met) {
                            assert_int_equal(on(), NOTHING);
                            assert_int_equal(S.dr[6], 0xFFFF0FF0);
                            continue;
                        }
                        EXPECT_DB(on(), 4, CODE + accesses[i].n); // a trap
                        assert_int_equal(frame_flags() & FL_RF, 0);
                        assert_int_equal(back(false), NOTHING);
                    }
}

// Whoever accesses it: the stack, a far pointer, a descriptor that the processor reads; several at once.
static void of_all_kinds(void **state)
{
    breakpoint(0, STACK - 8, WRITE, 8, false);
    EXPECT_DB(TM_RUN(t, 0x50, 0x90), 1, CODE + 1); // push rax
    S.gpr[RSP] = STACK;
    EXPECT_DB(TM_RUN(t, 0xE8, 1, 0, 0, 0, 0x90, 0x90), 1, CODE + 6); // call: at its target
    no_breakpoints();
    S.gpr[RSP] = STACK;
    breakpoint(0, DATA, ACCESS, 4, false);
    breakpoint(1, DATA + 0x800, WRITE, 4, false);
    breakpoint(3, DATA + 0x804, ACCESS, 1, false);
    S.gpr[RSI] = DATA, S.gpr[RDI] = DATA + 0x800;
    EXPECT_DB(TM_RUN(t, 0x48, 0xA5), 11, CODE + 2); // movsq
    no_breakpoints();
    S.gpr[RSP] = STACK;
    breakpoint(2, GDT + SEL_DATA, ACCESS, 8, false);
    S.gpr[RAX] = SEL_DATA;
    EXPECT_DB(TM_RUN(t, 0x8E, 0xD8), 4, CODE + 2); // mov ds,ax
    // An instruction that faults has not completed: no trap is left of what it read.
    no_breakpoints();
    S.gpr[RSP] = STACK;
    breakpoint(0, DATA, ACCESS, 8, false);
    S.gpr[RSI] = DATA, S.gpr[RDI] = 0x100000000;
    assert_int_equal(TM_RUN(t, 0x48, 0xA5), VEC_PF);
    assert_int_equal(S.dr[6], 0xFFFF0FF0);
    // With a single step in one exception; a data breakpoint of an instruction that has one on it.
    cpu_set_rflags(t->v, 2 | FL_TF), S.gpr[RSP] = STACK;
    EXPECT_DB(TM_RUN(t, 0x8B, 0x06), 1 | DR6_BS, CODE + 2);
    cpu_set_rflags(t->v, 2), S.gpr[RSP] = STACK;
    breakpoint(1, CODE, EXECUTION, 1, false);
    EXPECT_DB(TM_RUN(t, 0x8B, 0x06), 2, CODE);
    EXPECT_DB(back(true), 1, CODE + 2); // RF does not hold data breakpoints back
}

// A delivery that meets one: behind it, at the handler.
static void of_a_delivery(void **state)
{
    breakpoint(0, STACK - 8, WRITE, 8, false); // SS of the frame
    assert_int_equal(TM_RUN(t, 0xCD, 0x80), VEC_DB);
    assert_int_equal(S.dr[6], 0xFFFF0FF1);
    assert_int_equal(frame_rip(), HANDLER + 16 * 0x80);
}

// Between two iterations, with RF: it goes on there (SDM 19.3.1.1, 19.3.1.2).
static void of_repeated_strings(void **state)
{
    static const u8 ops[] = {0xA4, 0xAA, 0xAC, 0xA6, 0xAE}; // movs, stos, lods, cmps, scas
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        bool di = ops[i] != 0xAC;
        no_breakpoints();
        breakpoint(1, DATA + 0x105, ACCESS, 1, true);
        S.gpr[RSI] = di ? CODE + 0x200 : DATA + 0x100, S.gpr[RDI] = DATA + 0x100, S.gpr[RCX] = 16,
        S.gpr[RAX] = 0;
        S.gpr[RSP] = STACK;
        cpu_set_rflags(t->v, 2);
        memset(t->p.ram + DATA + 0x100, 0, 16), memset(t->p.ram + CODE + 0x200, 0, 16);
        EXPECT_DB(TM_RUN(t, 0xF3, ops[i], 0x90), 2, CODE);
        assert_int_equal(S.gpr[RCX], 10);
        assert_int_equal(frame_flags() & FL_RF, FL_RF);
        assert_int_equal(back(true), NOTHING);
        assert_int_equal(S.gpr[RCX], 0);
        // In the last iteration: behind the instruction, RF as it was.
        breakpoint(1, DATA + 0x10F, ACCESS, 1, true);
        S.gpr[RSI] = di ? CODE + 0x200 : DATA + 0x100, S.gpr[RDI] = DATA + 0x100, S.gpr[RCX] = 16;
        S.gpr[RSP] = STACK;
        EXPECT_DB(TM_RUN(t, 0xF3, ops[i], 0x90), 2, CODE + 2);
        assert_int_equal(frame_flags() & FL_RF, 0);
    }
    // One on the instruction itself strikes once.
    no_breakpoints();
    breakpoint(0, CODE, EXECUTION, 1, false);
    breakpoint(1, DATA + 0x105, ACCESS, 1, true);
    S.gpr[RDI] = DATA + 0x100, S.gpr[RCX] = 16, S.gpr[RSP] = STACK;
    EXPECT_DB(TM_RUN(t, 0xF3, 0xAA, 0x90), 1, CODE);
    EXPECT_DB(back(true), 2, CODE);
    assert_int_equal(frame_flags() & FL_RF, FL_RF);
    assert_int_equal(back(true), NOTHING);
}

// ---- ports ----
static u64 port_read(void *opaque, unsigned cpu, u16 port, unsigned size) { return 0; }
static void port_write(void *opaque, unsigned cpu, u16 port, unsigned size, u64 value) {}
static const struct cpu_board_ops board = {.port_read = port_read, .port_write = port_write};

static void on_ports(void **state)
{
    static const struct {
        u8 code[4], n, size;
    } c[] = {{{0xEC}, 1, 1}, {{0x66, 0xED}, 2, 2}, {{0xED}, 1, 4}, {{0xEE}, 1, 1}, {{0x66, 0xEF}, 2, 2},
             {{0xEF}, 1, 4}, {{0x6C}, 1, 1},       {{0x6F}, 1, 4}}; // in, out, insb, outsd
    t->v->board = &board;
    for (unsigned de = 0; de < 2; de++)
        for (unsigned i = 0; i < ARRAY_LEN(c); i++)
            for (unsigned size = 1; size <= 4; size *= 2)
                for (unsigned port = 0x60; port < 0x70; port++) {
                    u64 first = 0x67 - 0x67 % size;
                    bool met = de && port + c[i].size > first && port < first + size;
                    no_breakpoints();
                    S.cr4 = (S.cr4 & ~(u64)CR4_DE) | (de ? CR4_DE : 0);
                    breakpoint(3, 0x67, PORT, size, false);
                    cpu_mode_changed(t->v);
                    S.gpr[RDX] = port, S.gpr[RSI] = S.gpr[RDI] = DATA, S.gpr[RSP] = STACK;
                    tm_write(t, CODE, c[i].code, 4);
                    int r = TM_RUN(t, c[i].code[0], c[i].n > 1 ? c[i].code[1] : 0x90, 0x90);
                    if (met)
                        EXPECT_DB(r, 8, CODE + c[i].n);
                    else
                        assert_int_equal(r, NOTHING);
                }
    S.gpr[RDX] = 0x67, S.gpr[RSI] = DATA, S.gpr[RCX] = 3, S.gpr[RSP] = STACK;
    S.cr4 |= CR4_DE;
    debug_changed(t->v);
    EXPECT_DB(TM_RUN(t, 0xF3, 0x6E), 8, CODE); // rep outsb: after each
    assert_int_equal(S.gpr[RCX], 2);
    EXPECT_DB(back(true), 8, CODE);
    EXPECT_DB(back(true), 8, CODE + 2);
    assert_int_equal(back(false), NOTHING);
    // The address of a port is 16 bits, that of a breakpoint is not.
    breakpoint(3, 0x10067, PORT, 1, false);
    assert_int_equal(TM_RUN(t, 0xEC), NOTHING);
}

// A stop that comes with it takes nothing away: what was met is state when the run loop is left.
static void stop_at(void *opaque, unsigned cpu, u16 port, unsigned size, u64 value) { t->v->stop = true; }
static void and_a_stop(void **state)
{
    const struct cpu_board_ops stops = {.port_read = port_read, .port_write = stop_at};
    t->v->board = &stops;
    S.cr4 |= CR4_DE, S.gpr[RDX] = 0x67;
    breakpoint(0, 0x67, PORT, 1, false);
    tm_write(t, CODE, "\xEE\x90\xF4", 3); // out dx,al
    S.rip = CODE;
    cpu_drop_derived(t->v);
    assert_int_equal(vcpu_run(t->v, 1000), RUN_STOP);
    assert_int_equal(S.rip, CODE + 1);
    t->v->stop = false;
    cpu_loaded(t->v);
    EXPECT_DB(on(), 1, CODE + 1);
}

// ---- RF ----
static void resume_flag(void **state)
{
    // INT3 and INT n push 0, whatever RF was at their start.
    for (unsigned i = 0; i < 2; i++) {
        cpu_set_rflags(t->v, 2 | FL_RF);
        assert_int_equal(i ? TM_RUN(t, 0xCD, 0x80) : TM_RUN(t, 0xCC), i ? 0x80 : VEC_BP);
        assert_int_equal(frame_flags() & FL_RF, 0);
    }
    // INT1 is neither a fault nor a breakpoint: nothing is said in DR6.
    EXPECT_DB(TM_RUN(t, 0xF1), 0, CODE + 1);
    // General detect is a fault, and no instruction breakpoint.
    S.dr[7] |= DR7_GD;
    EXPECT_DB(TM_RUN(t, 0x0F, 0x23, 0xC0), DR6_BD, CODE); // mov dr0,rax
    assert_int_equal(frame_flags() & FL_RF, FL_RF);
    assert_int_equal(S.dr[7] & DR7_GD, 0);
    // IRETQ loads it; an IRET of 16 bits has none, and is an instruction as others.
    for (unsigned w = 0; w < 2; w++) {
        u64 frame[] = {CODE + 0x20, SEL_CODE64, 2 | FL_RF, STACK, 0};
        u16 frame16[] = {(CODE + 0x20) & 0xFFFF, SEL_CODE64, 2, 0x7000, 0};
        breakpoint(0, CODE + 0x20, EXECUTION, 1, false);
        tm_write(t, CODE + 0x20, "\x90\xF4", 2);
        tm_write(t, STACK - 64, w ? (void *)frame16 : (void *)frame, w ? sizeof frame16 : sizeof frame);
        S.gpr[RSP] = STACK - 64;
        cpu_set_rflags(t->v, w ? 2 | FL_RF : 2);
        if (w)
            EXPECT_DB(TM_RUN(t, 0x66, 0xCF), 1, CODE + 0x20);
        else
            assert_int_equal(TM_RUN(t, 0x48, 0xCF), NOTHING);
    }
    // POPF does not load it.
    no_breakpoints();
    breakpoint(0, CODE + 1, EXECUTION, 1, false);
    tm_write64(t, STACK - 8, 2 | FL_RF);
    S.gpr[RSP] = STACK - 8;
    EXPECT_DB(TM_RUN(t, 0x9D, 0x90), 1, CODE + 1);
}

// ---- TF ----
static int stepped(const u8 *code, size_t n, u64 flags)
{
    S.dr[6] = 0xFFFF0FF0;
    cpu_set_rflags(t->v, flags);
    return tm_run(t, code, n);
}
#define STEPPED(...) stepped((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), 2 | FL_TF)

static void single_steps(void **state)
{
    EXPECT_DB(STEPPED(0x90, 0x90), DR6_BS, CODE + 1);
    assert_int_equal(frame_flags(), 2 | FL_TF);
    EXPECT_DB(back(false), DR6_BS, CODE + 2);
    // POPF sets it: the first trap comes after the next instruction. POPF clears it: there is one more.
    tm_write64(t, STACK - 8, 2 | FL_TF);
    S.gpr[RSP] = STACK - 8;
    cpu_set_rflags(t->v, 2);
    EXPECT_DB(TM_RUN(t, 0x9D, 0x90, 0x90), DR6_BS, CODE + 2);
    tm_write64(t, STACK - 8, 2);
    S.gpr[RSP] = STACK - 8;
    EXPECT_DB(STEPPED(0x9D, 0x90, 0x90), DR6_BS, CODE + 1);
    assert_int_equal(back(false), NOTHING);
    // A fault, and INT n, which clears TF, do not trap; HLT does, and is over.
    S.gpr[RSP] = STACK;
    assert_int_equal(STEPPED(0x0F, 0x0B), VEC_UD);
    assert_int_equal(STEPPED(0xCD, 0x80), 0x80);
    assert_int_equal(frame_flags() & FL_TF, FL_TF);
    assert_int_equal(STEPPED(0xCC), VEC_BP);
    assert_int_equal(S.dr[6], 0xFFFF0FF0);
    EXPECT_DB(STEPPED(0xF4, 0x90), DR6_BS, CODE + 1);
    // Not after a MOV to SS, though after the instruction behind it.
    S.gpr[RAX] = SEL_DATA;
    EXPECT_DB(STEPPED(0x8E, 0xD0, 0x90, 0x90), DR6_BS, CODE + 3);
    // An INT n there leaves none.
    assert_int_equal(STEPPED(0x8E, 0xD0, 0xCD, 0x80), 0x80);
    assert_int_equal(S.dr[6], 0xFFFF0FF0);
}

// SYSCALL and SYSRET: TF as they leave it.
static void system_calls(void **state)
{
    S.msr.star = (u64)(SEL_UDATA - 8) << 48 | (u64)SEL_CODE64 << 32, S.msr.lstar = CODE + 0x40;
    tm_write(t, CODE + 0x40, "\x90\xF4", 2);
    S.msr.fmask = FL_TF;
    assert_int_equal(STEPPED(0x0F, 0x05), NOTHING);
    assert_int_equal(S.rip, CODE + 0x42);
    S.msr.fmask = 0;
    EXPECT_DB(STEPPED(0x0F, 0x05), DR6_BS, CODE + 0x40);
    S.gpr[RCX] = CODE + 0x40, S.gpr[R11] = 2 | FL_TF, S.gpr[RSP] = STACK;
    cpu_set_rflags(t->v, 2);
    EXPECT_DB(TM_RUN(t, 0x48, 0x0F, 0x07), DR6_BS, CODE + 0x40); // sysret
    assert_int_equal(tm_read(t, S.gpr[RSP] + 8, 2) & 3, 3);      // from level 3
}

// IA32_DEBUGCTL.BTF: after branches that are taken alone. A #DB clears it (SDM 19.4.3).
static void steps_on_branches(void **state)
{
    static const struct {
        const char *code;
        u8 n;
        u64 flags, to; // 0: none
    } c[] = {
        {"\xEB\0", 2, 0, CODE + 2},            // jmp to what follows
        {"\x90\x74\0\x90\x74\2\x90", 7, 0, 0}, // jz
        {"\x90\x74\2", 3, FL_ZF, CODE + 5},
        {"\x74\0", 2, FL_ZF, CODE + 2},
        {"\xE8\0\0\0\0", 5, 0, CODE + 5},  // call
        {"\xE2\0", 2, 0, CODE + 2},        // loop
        {"\xFF\xE6", 2, 0, CODE + 0x40},   // jmp rsi
        {"\x90\x50\x58\xF3\xA4", 5, 0, 0}, // push, pop, rep movsb
    };
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        S.gpr[RSP] = STACK, S.gpr[RSI] = CODE + 0x40, S.gpr[RCX] = 3, S.gpr[RDI] = DATA;
        tm_write(t, CODE + 0x40, "\x90\xF4", 2);
        S.msr.debugctl = DEBUGCTL_BTF;
        int r = stepped((const u8 *)c[i].code, c[i].n, 2 | FL_TF | c[i].flags);
        if (!c[i].to) {
            assert_int_equal(r, NOTHING);
            assert_int_equal(S.msr.debugctl, DEBUGCTL_BTF);
            continue;
        }
        EXPECT_DB(r, DR6_BS, c[i].to);
        assert_int_equal(S.msr.debugctl, 0);
    }
}

// An interrupt, an exception, INT n and their IRET are no branches that are stepped: the delivery clears TF,
// and when the IRET begins TF is 0. Whoever returns with BTF goes on to his next branch
// (SDM 19.4.3, 19.3.1.4).
static int interrupt_vector(void *opaque, unsigned cpu)
{
    S.intr_line = false;
    return 0x55;
}
static const struct cpu_board_ops interrupting = {.intr_ack = interrupt_vector};

static void branches_and_interrupts(void **state)
{
    static const struct {
        u8 code[4];
        int vector;
        u8 behind;                             // what the frame points behind
    } c[] = {{{0x90, 0x90, 0xEB, 0}, 0x55, 0}, // nop; nop; jmp: an interrupt comes before
             {{0x0F, 0x0B, 0xEB, 0}, VEC_UD, 0},
             {{0xCD, 0x80, 0xEB, 0}, 0x80, 2},
             {{0xCC, 0x90, 0xEB, 0}, VEC_BP, 1}};
    t->v->board = &interrupting;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        S.gpr[RSP] = STACK, S.msr.debugctl = DEBUGCTL_BTF, S.intr_line = c[i].vector == 0x55;
        assert_int_equal(stepped(c[i].code, 4, 2 | FL_TF | (S.intr_line ? FL_IF : 0)), c[i].vector);
        assert_int_equal(S.dr[6], 0xFFFF0FF0);
        assert_int_equal(S.msr.debugctl, DEBUGCTL_BTF);
        assert_int_equal(frame_rip(), CODE + c[i].behind);
        assert_int_equal(frame_flags() & FL_TF, FL_TF);
        // The handler's own IRET, back to where it was.
        tm_write(t, HANDLER + 16 * (u64)c[i].vector, "\x48\xCF", 2);
        if (c[i].vector == VEC_UD) tm_write(t, CODE, "\x90\x90", 2);
        cpu_drop_derived(t->v);
        S.rip = HANDLER + 16 * (u64)c[i].vector;
        EXPECT_DB(on(), DR6_BS, CODE + 4);
        assert_int_equal(S.msr.debugctl, 0);
        t->p.ram[HANDLER + 16 * c[i].vector] = 0xF4;
        cpu_drop_derived(t->v);
    }
    // An IRET that TF was set for is a branch, and so are the far ones.
    u64 frame[] = {CODE + 0x20, SEL_CODE64, 2, STACK, SEL_DATA};
    tm_write(t, CODE + 0x20, "\x90\xF4", 2);
    tm_write(t, STACK - 64, frame, sizeof frame);
    S.gpr[RSP] = STACK - 64, S.msr.debugctl = DEBUGCTL_BTF;
    EXPECT_DB(STEPPED(0x90, 0x48, 0xCF), DR6_BS, CODE + 0x20);
    S.gpr[RSP] = STACK - 64, S.msr.debugctl = DEBUGCTL_BTF;
    EXPECT_DB(STEPPED(0x90, 0x48, 0xCB), DR6_BS, CODE + 0x20); // retfq
    // SYSCALL goes by TF as it leaves it, and is a branch.
    S.msr.star = (u64)SEL_CODE64 << 32, S.msr.lstar = CODE + 0x40, S.msr.fmask = 0;
    tm_write(t, CODE + 0x40, "\x90\xF4", 2);
    S.gpr[RSP] = STACK, S.msr.debugctl = DEBUGCTL_BTF;
    EXPECT_DB(STEPPED(0x90, 0x0F, 0x05), DR6_BS, CODE + 0x40);
}

// ---- the shadow of a MOV to SS (SDM 7.8.3) ----
static void shadows(void **state)
{
    tm_write64(t, DATA, SEL_DATA);
    breakpoint(0, DATA, ACCESS, 2, false);
    S.gpr[RSI] = DATA;
    // Held back over the next instruction; one on that one is merged.
    EXPECT_DB(TM_RUN(t, 0x8E, 0x16, 0x90, 0x90), 1, CODE + 3); // mov ss,[rsi]; nop
    breakpoint(2, DATA + 0x100, ACCESS, 1, false);
    S.gpr[RDI] = DATA + 0x100, S.gpr[RSP] = STACK;
    EXPECT_DB(TM_RUN(t, 0x8E, 0x16, 0x8A, 0x07, 0x90), 5, CODE + 4); // mov al,[rdi]
    cpu_set_rflags(t->v, 2 | FL_TF), S.gpr[RSP] = STACK;
    EXPECT_DB(TM_RUN(t, 0x8E, 0x16, 0x90, 0x90), 1 | DR6_BS, CODE + 3);
    cpu_set_rflags(t->v, 2);
    // Over the delivery of an INT3, an INT n, a fault: at the handler's first instruction.
    static const struct {
        u8 code[2], vector;
    } c[] = {{{0xCC, 0x90}, VEC_BP}, {{0xCD, 0x80}, 0x80}, {{0x0F, 0x0B}, VEC_UD}};
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        S.gpr[RSP] = STACK;
        EXPECT_DB(TM_RUN(t, 0x8E, 0x16, c[i].code[0], c[i].code[1]), 1, HANDLER + 16 * c[i].vector);
    }
    // An instruction breakpoint behind it does not strike at all.
    no_breakpoints();
    breakpoint(1, CODE + 2, EXECUTION, 1, false);
    S.gpr[RSP] = STACK;
    assert_int_equal(TM_RUN(t, 0x8E, 0x16, 0x90), NOTHING);
    // STI has no such shadow.
    breakpoint(1, CODE + 1, EXECUTION, 1, false);
    EXPECT_DB(TM_RUN(t, 0xFB, 0x90), 2, CODE + 1);
}

// Protected mode: addresses of 32 bits, MOV DR writes 32, POP SS shadows as well.
static void of_32_bits(void **state)
{
    S.dr[0] = ~0ull, S.gpr[RAX] = 0xFFFFFFFF00000000 | DATA;
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xC0), NOTHING); // mov dr0,eax
    assert_int_equal(S.dr[0], DATA);
    breakpoint(0, DATA, ACCESS, 2, false);
    tm_write64(t, DATA, SEL_DATA);
    S.gpr[RSP] = DATA;
    assert_int_equal(TM_RUN(t, 0x17, 0xBC, 0, 0, 3, 0, 0x90), VEC_DB); // pop ss; mov esp,STACK
    assert_int_equal(S.dr[6], 0xFFFF0FF1);
    assert_int_equal(tm_read(t, S.gpr[RSP], 4), CODE + 6);
    // A segment's base: what counts is the linear address, which wraps at 4 GiB.
    S.seg[SEG_FS].base = 0xFFFFF000;
    no_breakpoints();
    breakpoint(3, DATA, WRITE, 4, false);
    S.gpr[RDI] = DATA + 0x1000 - 1, S.gpr[RSP] = STACK;
    assert_int_equal(TM_RUN(t, 0x64, 0x66, 0x89, 0x07), VEC_DB); // mov fs:[edi],ax
    assert_int_equal(S.dr[6], 0xFFFF0FF8);
}

// DR7 and CR4.DE by the instructions, and with state that is put there whole.
static void what_says_so(void **state)
{
    t->v->board = &board;
    S.dr[1] = 0x67, S.gpr[RAX] = 0x400 | 4 | 2 << 20, S.gpr[RDX] = 0x67;
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xF8, 0xEC), NOTHING); // mov dr7,rax; in al,dx
    S.gpr[RAX] = S.cr4 | CR4_DE;
    EXPECT_DB(TM_RUN(t, 0x0F, 0x22, 0xE0, 0xEC), 2, CODE + 4); // mov cr4,rax; in al,dx
    S.dr[1] = CODE + 1, S.dr[7] = 0x404;
    cpu_loaded(t->v);
    EXPECT_DB(TM_RUN(t, 0x90, 0x90), 2, CODE + 1);
    S.gpr[RAX] = 0x400, S.gpr[RSP] = STACK;
    assert_int_equal(TM_RUN(t, 0x0F, 0x23, 0xF8, 0x90), NOTHING);
    assert_int_equal(t->v->d.breaks.any, 0);
    assert_int_equal(t->v->unimplemented_n, 0);
}

// A #DB by an IST whose frame meets a data breakpoint brings the next one, for ever, without an instruction.
// (Processors do so: CVE-2015-8104.) Time passes in it, so that a run ends, and others have their turn.
static void without_end(void **state)
{
    tm_gate(t, VEC_DB, SEL_CODE64, 14, 0, 1, true);
    breakpoint(0, IST_STACK - 8, WRITE, 8, false);
    static const u8 int1[] = {0xF1};
    tm_write(t, CODE, int1, sizeof int1);
    S.rip = CODE;
    cpu_attention(t->v);
    for (unsigned i = 0; i < 3; i++) {
        u64 before = S.units;
        assert_int_equal(vcpu_run(t->v, 1000), RUN_BUDGET);
        assert_in_range(S.units - before, 1000, 5000);
        assert_int_equal(S.gpr[RSP], IST_STACK - 40);
        assert_int_equal(S.rip, HANDLER + 16 * VEC_DB);
    }
    u64 deadline = S.units * CPU_TICKS_PER_UNIT + S.skipped + 500 * CPU_TICKS_PER_UNIT, before = S.units;
    t->v->clock_next = &deadline;
    assert_int_equal(vcpu_run(t->v, 100000), RUN_BUDGET);
    assert_in_range(S.units - before, 500, 5000);
    t->v->clock_next = NULL;
    no_breakpoints();
    assert_int_equal(on(), VEC_DB); // to the handler's first instruction
}

static int loop = 1;
#define BOTH(f, kind) \
    {#f " (threaded)", f, kind##_setup, teardown, NULL}, { #f " (loop)", f, kind##_setup, teardown, &loop }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(on_an_instruction, long),
        BOTH(before_other_faults, long),
        BOTH(in_the_midst, long),
        BOTH(linear_addresses, real),
        BOTH(on_data, long),
        BOTH(of_all_kinds, long),
        BOTH(of_a_delivery, long),
        BOTH(of_repeated_strings, long),
        BOTH(on_ports, long),
        BOTH(and_a_stop, long),
        BOTH(resume_flag, long),
        BOTH(single_steps, long),
        BOTH(system_calls, long),
        BOTH(steps_on_branches, long),
        BOTH(branches_and_interrupts, long),
        BOTH(shadows, long),
        BOTH(of_32_bits, prot),
        BOTH(what_says_so, long),
        BOTH(without_end, long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
