// String instructions and their REP forms. What they do to registers and memory is computed here one element
// at a time, as the manual's pseudo-code has it ("REP/REPE/REPZ/REPNE/REPNZ", SDM 2B); where the manual is
// silent (which operand of CMPS faults first, what a 67h prefix clears, EFLAGS between iterations) what is
// expected was measured on an Intel processor.
#include "cpu_machine.h"

#include "cpu/engine/exec.h"

static struct tm *t;
static bool in_loop;
#define S (t->v->s)

static int setup(void **s, enum tm_kind kind)
{
    t = tm_new(kind);
    if (*s) t->v->loop_engine = true;
    return 0;
}
static int long_setup(void **s) { return setup(s, TM_LONG); }
static int prot_setup(void **s) { return setup(s, TM_PROTECTED); }
static int real_setup(void **s) { return setup(s, TM_REAL); }
static int teardown(void **s) { return tm_free(t), 0; }

enum op { MOVS = 0xA4, CMPS = 0xA6, STOS = 0xAA, LODS = 0xAC, SCAS = 0xAE };

// Puts [67] [66] rep [48] op; hlt at CODE. Returns the instruction's length.
static unsigned code(enum op op, unsigned rep, unsigned size, bool addr)
{
    u8 b[8];
    unsigned n = 0;
    if (addr) b[n++] = 0x67;
    if (size == 2) b[n++] = 0x66;
    if (rep) b[n++] = (u8)rep;
    if (size == 8) b[n++] = 0x48;
    b[n++] = (u8)(op | (size > 1));
    b[n] = 0xF4;
    phys_write(&t->p, 0, CODE, b, n + 1);
    return n;
}

static void start(void)
{
    S.rip = CODE;
    S.activity = ACTIVITY_ACTIVE;
    cpu_mode_changed(t->v);
    cpu_attention(t->v);
}
static void go(void) // to a HLT
{
    start();
    assert_int_equal(vcpu_run(t->v, 10000000), RUN_HALTED);
}

// ---- the manual's pseudo-code, one element at a time, for 64-bit addresses or 32-bit ones that do not wrap
// ----
struct model {
    u64 rax, rcx, rsi, rdi, flags, units;
};

static u64 cmp_flags(u64 a, u64 b, unsigned size)
{
    u64 top = 1ull << (8 * size - 1), mask = top | (top - 1), r = (a - b) & mask, f = 0;
    if (a < b) f |= FL_CF;
    if (!__builtin_parity((unsigned)r & 0xFF)) f |= FL_PF;
    if ((a ^ b ^ r) & 0x10) f |= FL_AF;
    if (r == 0) f |= FL_ZF;
    if (r & top) f |= FL_SF;
    if ((a ^ b) & (a ^ r) & top) f |= FL_OF;
    return f;
}
static void model_run(struct model *m, u8 *ram, enum op op, unsigned rep, unsigned size, bool down)
{
    u64 step = down ? -(u64)size : size, mask = size == 8 ? ~0ull : (1ull << 8 * size) - 1;
    while (m->rcx) {
        u64 a = 0, b = 0, to = m->rdi;
        bool moves = op == MOVS || op == STOS;
        if (op == MOVS || op == CMPS || op == LODS)
            memcpy(&a, ram + m->rsi, size), m->rsi += step;
        else
            a = m->rax & mask;
        if (op == CMPS || op == SCAS) memcpy(&b, ram + to, size);
        if (moves) memcpy(ram + to, &a, size);
        if (op != LODS)
            m->rdi += step;
        else
            m->rax = size == 4 ? a : (m->rax & ~mask) | a;
        m->rcx--;
        m->units += moves ? (to % 16 + size) / 16 : 1;
        if (op == CMPS || op == SCAS) {
            m->flags = cmp_flags(a, b, size);
            if ((a == b) != (rep == 0xF3)) break;
        }
    }
}

enum { AREA = 0x200000, AREA_SIZE = 0x8000 };
static u8 *expected; // RAM as the model leaves it

static u64 seed = 12345;
static u64 any(u64 n)
{
    return (seed = seed * 6364136223846793005ull + 1442695040888963407ull, seed >> 33) % n;
}

static void model_agrees(enum op op, unsigned rep, unsigned size, bool down, struct model m, u64 slice)
{
    const struct model in = m;
    u64 f = (down ? FL_DF : 0) | 2 | FL_CF | FL_AF;
    memcpy(expected, t->p.ram + AREA, AREA_SIZE);
    m.flags = f & FL_ARITH;
    m.units = 0;
    model_run(&m, expected - AREA, op, rep, size, down);
    code(op, rep, size, false);
    S.gpr[RAX] = in.rax, S.gpr[RCX] = in.rcx, S.gpr[RSI] = in.rsi, S.gpr[RDI] = in.rdi;
    cpu_set_rflags(t->v, f);
    u64 before = S.units;
    start();
    enum run_exit why;
    while ((why = vcpu_run(t->v, slice)) == RUN_BUDGET)
        if (S.rip == CODE) assert_int_equal(cpu_rflags(t->v) & ~(u64)FL_RF, f); // not before it ends
    assert_int_equal(why, RUN_HALTED);
    assert_int_equal(S.gpr[RAX], m.rax);
    assert_int_equal(S.gpr[RCX], m.rcx);
    assert_int_equal(S.gpr[RSI], m.rsi);
    assert_int_equal(S.gpr[RDI], m.rdi);
    assert_int_equal(cpu_rflags(t->v), (f & ~(u64)FL_ARITH) | m.flags);
    assert_int_equal(S.units - before, m.units + 2); // REP and HLT are an instruction each
    assert_memory_equal(t->p.ram + AREA, expected, AREA_SIZE);
}

static void as_the_manual_says(void **state)
{
    static const enum op ops[] = {MOVS, CMPS, STOS, LODS, SCAS};
    static const u64 slices[] = {1u << 30, 1, 2, 3, 17, 100, 300};
    expected = malloc(AREA_SIZE);
    unsigned most = t->v->s.msr.efer & EFER_LMA ? 4 : 3;
    for (unsigned round = 0; round < 6000; round++) {
        enum op op = ops[any(5)];
        unsigned size = 1u << any(most), rep = any(2) ? 0xF2 : 0xF3;
        bool down = any(2), compares = op == CMPS || op == SCAS;
        struct model m = {.rax = any(2) ? ~0ull : any(1u << 30) * 0x123456789ull,
                          .rcx = 1 + any(any(4) ? 40 : 0x2000 / size)};
        if (most == 3) m.rax = (u32)m.rax;
        m.rdi = AREA + 0x3000 + any(0x2000);
        m.rsi = any(3) ? AREA + 0x3000 + any(0x2000) : m.rdi + any(40) - 20; // near: they overlap
        if (!any(4)) m.rdi &= ~15ull, m.rsi &= ~15ull;
        u8 same = (u8)any(256);
        for (unsigned i = 0; i < AREA_SIZE; i++) t->p.ram[AREA + i] = compares ? same : (u8)any(256);
        if (compares) { // runs of equal or of unequal elements, that end somewhere
            for (unsigned i = 0; i < 8; i++) m.rax = m.rax << 8 | same;
            if (rep == 0xF2) m.rax = ~m.rax;
            if (most == 3) m.rax = (u32)m.rax;
            if (any(2)) t->p.ram[AREA + 0x3000 + any(0x2000)] ^= (u8)(rep == 0xF2 ? 0xFF : 1 << any(8));
        }
        model_agrees(op, rep, size, down, m, slices[any(ARRAY_LEN(slices))]);
    }
    free(expected);
}

// ---- the slice, and what is derived, do not show ----
static struct vcpu_state *first; // as the first run left it
static void same_however_cut(const struct vcpu_state *from, u64 slice, bool code_there, bool swapped)
{
    S = *from;
    tlb_reset(&S.itlb), tlb_reset(&S.dtlb);
    cpu_drop_derived(t->v);
    cpu_mode_changed(t->v);
    // Four pages of one set of the data TLB, the source's the one that goes next; the destination's is a
    // fifth of it. (Swapped, for what is translated last takes the other's place.)
    static const u64 pages[] = {0x400, 0x601, 0x806, 0xA07};
    for (unsigned i = 0; i < 4; i++) {
        phys_write(&t->p, 0, DATA, (u8[]){0x8A, 0x03, 0xF4}, 3); // mov al,[rbx]; hlt
        S.gpr[RBX] = pages[i] << 12, S.rip = DATA, S.activity = ACTIVITY_ACTIVE;
        cpu_attention(t->v);
        assert_int_equal(vcpu_run(t->v, 100), RUN_HALTED);
    }
    if (code_there) { // decoded code in the destination's page, which is as good as data
        S.rip = 0xC04F00, S.activity = ACTIVITY_ACTIVE;
        t->p.ram[0xC04F00] = 0xF4;
        cpu_attention(t->v);
        assert_int_equal(vcpu_run(t->v, 100), RUN_HALTED);
        tlb_reset(&S.itlb);
        cpu_drop_fast(t->v);
    }
    S.gpr[swapped ? RDI : RSI] = 0x400100, S.gpr[swapped ? RSI : RDI] = 0xC04100;
    S.gpr[RCX] = 0x200, S.gpr[RAX] = 0, S.gpr[RBX] = 0;
    S.units = from->units, S.extra = from->extra;
    start();
    enum run_exit why;
    while ((why = vcpu_run(t->v, slice)) == RUN_BUDGET)
        ;
    assert_int_equal(why, RUN_HALTED);
    tlb_reset(&S.itlb); // not what this is about
    if (!first) {
        first = malloc(sizeof *first);
        *first = S;
        return;
    }
    assert_memory_equal(&S.gpr, first->gpr, sizeof S.gpr);
    assert_int_equal(S.units, first->units);
    assert_memory_equal(&S.dtlb, &first->dtlb, sizeof S.dtlb);
    assert_memory_equal(&S, first, sizeof S);
}
static void however_it_is_cut(void **state)
{
    struct vcpu_state from = S;
    static const enum op ops[] = {MOVS, CMPS, STOS, LODS, SCAS};
    for (unsigned i = 0; i < 2 * ARRAY_LEN(ops); i++) {
        memset(t->p.ram + 0x400000, 0, 0x1000);
        memset(t->p.ram + 0xC04000, 0, 0x1000);
        code(ops[i / 2], 0xF3, 1, false);
        for (u64 slice = 1; slice < 4000; slice = slice * 5 + 1)
            for (unsigned there = 0; there < 2; there++) same_however_cut(&from, slice, there, i & 1);
        free(first);
        first = NULL;
    }
}

// ---- a REP over code: what it writes is seen ----
static void moves_onto_code(void **state)
{
    enum { THERE = 0x300000 }; // mov al,1; hlt
    for (unsigned down = 0; down < 2; down++)
        for (unsigned stos = 0; stos < 2; stos++) {
            phys_write(&t->p, 0, THERE, (u8[]){0xB0, 1, 0xF4, 0xF4}, 4);
            S.rip = THERE, S.activity = ACTIVITY_ACTIVE;
            cpu_attention(t->v);
            assert_int_equal(vcpu_run(t->v, 100), RUN_HALTED);
            assert_int_equal((u8)S.gpr[RAX], 1);
            phys_write(&t->p, 0, AREA, (u8[]){0xB0, 2, 0xF4, 0xF4}, 4);
            S.gpr[RAX] = 0xF4F403B0; // mov al,3; hlt
            S.gpr[RSI] = AREA, S.gpr[RDI] = THERE, S.gpr[RCX] = stos ? 1 : 4;
            if (down && !stos) S.gpr[RSI] += 3, S.gpr[RDI] += 3;
            cpu_set_rflags(t->v, down ? 2 | FL_DF : 2);
            code(stos ? STOS : MOVS, 0xF3, stos ? 4 : 1, false);
            go();
            S.gpr[RAX] = 0;
            S.rip = THERE, S.activity = ACTIVITY_ACTIVE;
            cpu_attention(t->v);
            assert_int_equal(vcpu_run(t->v, 100), RUN_HALTED);
            assert_int_equal((u8)S.gpr[RAX], stos ? 3 : 2);
        }
}

// ---- faults ----
enum { WINDOW = 0x600000, TABLE = 0x43000 }; // small pages: two that are there, and nothing around them
static void window(void)
{
    tm_write64(t, 0x42018, TABLE | 7);
    memset(t->p.ram + TABLE, 0, 0x1000);
    tm_write64(t, TABLE + 8, 0x100000 | 7), tm_write64(t, TABLE + 16, 0x101000 | 7);
    tlb_reset(&S.itlb), tlb_reset(&S.dtlb);
    cpu_tlb_flushed(t->v);
}
enum { LOW = WINDOW + 0x1000, END = WINDOW + 0x3000 };

// runs what is at CODE: it faults at itself. The flags pushed
static u64 fault(int vector, u64 rcx, u64 rsi, u64 rdi)
{
    S.gpr[RCX] = rcx, S.gpr[RSI] = rsi, S.gpr[RDI] = rdi, S.gpr[RSP] = STACK;
    go();
    assert_int_equal(S.rip - 1, HANDLER + 16 * vector);
    u64 frame = S.gpr[RSP] + (vector == VEC_DB ? 0 : 8);
    assert_int_equal(tm_read(t, frame, 8), CODE);
    return tm_read(t, frame + 16, 8);
}
static void registers(u64 rcx, u64 rsi, u64 rdi)
{
    assert_int_equal(S.gpr[RCX], rcx);
    assert_int_equal(S.gpr[RSI], rsi);
    assert_int_equal(S.gpr[RDI], rdi);
}

static void a_fault_on_the_way(void **state)
{
    window();
    memset(t->p.ram + 0x100000, 7, 0x2000);
    static const enum op ops[] = {MOVS, CMPS, STOS, LODS, SCAS};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
        for (unsigned down = 0; down < 2; down++)
            for (unsigned size = 1; size <= 8; size *= 2) {
                enum op op = ops[i];
                bool uses_si = op == MOVS || op == CMPS || op == LODS, uses_di = op != LODS;
                u64 f = 2 | FL_CF | FL_OF | (down ? FL_DF : 0), k = 0x1800 / size;
                code(op, 0xF3, size, false);
                S.gpr[RAX] = 0x0707070707070707;
                cpu_set_rflags(t->v, f);
                u64 at = down ? LOW + 0x1800 - size : END - 0x1800, end = down ? LOW - size : END,
                    far = AREA + 0x4000;
                // ES:rDI runs out of the window, or DS:rSI does. EFLAGS are what they were before the
                // instruction.
                if (uses_di) {
                    memset(t->p.ram + AREA, 7, AREA_SIZE);
                    assert_int_equal(fault(VEC_PF, k + 5, far, at), f | FL_RF);
                    registers(5, uses_si ? far + (down ? -0x1800 : 0x1800) : far, end);
                    assert_int_equal(S.cr2, end);
                }
                if (uses_si) {
                    cpu_set_rflags(t->v, f);
                    assert_int_equal(fault(VEC_PF, k + 5, at, far), f | FL_RF);
                    registers(5, end, uses_di ? far + (down ? -0x1800 : 0x1800) : far);
                    assert_int_equal(S.cr2, end);
                }
            }
}

static void which_operand_faults_first(void **state)
{
    window();
    static const u8 reps[] = {0, 0xF2, 0xF3};
    for (unsigned i = 0; i < 3; i++) {
        code(CMPS, reps[i], 4, false);
        fault(VEC_PF, 5, LOW - 8, END + 3);
        assert_int_equal(S.cr2, END + 3);
        fault(VEC_PF, 5, END - 2, END + 6); // DS:rSI goes over the end
        assert_int_equal(S.cr2, END + 6);
        fault(VEC_PF, 5, END + 6, END - 2);
        assert_int_equal(S.cr2, END);
        fault(VEC_PF, 5, 1ull << 63, END + 3);
        fault(VEC_GP, 5, END + 3, 1ull << 63);
        code(MOVS, reps[i], 4, false);
        fault(VEC_PF, 5, LOW - 8, END + 3);
        assert_int_equal(S.cr2, LOW - 8);
        fault(VEC_PF, 5, END - 2, END + 6);
        assert_int_equal(S.cr2, END);
        fault(VEC_GP, 5, 1ull << 63, END + 3);
        fault(VEC_PF, 5, END + 3, 1ull << 63);
        registers(5, END + 3, 1ull << 63);
    }
}

// 67h in 64-bit mode: the upper halves of RCX, and of what MOVS and STOS write by, go before the first
// iteration.
static void upper_halves(void **state)
{
    window();
    static const enum op ops[] = {MOVS, CMPS, STOS, LODS, SCAS};
    const u64 hi = 0xABCDull << 48;
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
        for (unsigned rep = 0xF2; rep <= 0xF3; rep++) {
            u64 si = ops[i] == MOVS ? 0 : hi, di = ops[i] == MOVS || ops[i] == STOS ? 0 : hi;
            code(ops[i], rep, 1, true);
            S.gpr[RCX] = hi, S.gpr[RSI] = hi | LOW, S.gpr[RDI] = hi | LOW; // no iteration
            go();
            registers(0, si | LOW, di | LOW);
            fault(VEC_PF, hi | 5, hi | END, hi | END);
            registers(5, si | END, di | END);
        }
    code(MOVS, 0, 1, true); // without REP nothing is written before the fault
    fault(VEC_PF, hi | 5, hi | END, hi | END);
    registers(hi | 5, hi | END, hi | END);
    S.gpr[RSI] = hi | LOW, S.gpr[RDI] = hi | LOW;
    go();
    registers(hi | 5, LOW + 1, LOW + 1);
    code(MOVS, 0xF3, 1, false);
    S.gpr[RCX] = 0, S.gpr[RSI] = hi | LOW, S.gpr[RDI] = hi | LOW;
    go();
    registers(0, hi | LOW, hi | LOW);
}

static void addresses_that_wrap(void **state) // 67h: at 4 GiB, whose last page is mapped here
{
    enum { DIR = 0x44000, LAST = 0x45000, ZERO = 0x46000 };
    tm_write64(t, 0x41018, DIR | 7), tm_write64(t, DIR + 8 * 511, LAST | 7),
        tm_write64(t, LAST + 8 * 511, 0x102000 | 7);
    tlb_reset(&S.dtlb), cpu_tlb_flushed(t->v);
    memset(t->p.ram + 0x102000, 1, 0x1000);
    memcpy(expected = malloc(0x1000), t->p.ram, 0x1000);
    code(LODS, 0xF3, 1, true);
    t->p.ram[4] = 0x5A;
    S.gpr[RSI] = 0xFFFFFF80, S.gpr[RCX] = 0x85;
    go();
    assert_int_equal(S.gpr[RAX] & 0xFF, 0x5A);
    registers(0, 5, S.gpr[RDI]);
    cpu_set_rflags(t->v, 2 | FL_DF);
    t->p.ram[0x102FF0] = 0xA5;
    S.gpr[RSI] = 0x20, S.gpr[RCX] = 0x31;
    go();
    assert_int_equal(S.gpr[RAX] & 0xFF, 0xA5);
    registers(0, 0xFFFFFFEF, S.gpr[RDI]);
    code(STOS, 0xF3, 4, true); // an element over the border; without DF
    cpu_set_rflags(t->v, 2);
    tm_write64(t, DIR + 8 * 512, 0);
    tm_write64(t, 0x41020, ZERO | 7), tm_write64(t, ZERO, 0x200087); // 4 GiB itself
    tlb_reset(&S.dtlb), cpu_tlb_flushed(t->v);
    S.gpr[RAX] = 0x44332211, S.gpr[RDI] = 0xFFFFFFFE, S.gpr[RCX] = 2;
    go();
    registers(0, S.gpr[RSI], 6);
    assert_int_equal(tm_read(t, 0x102FFE, 2), 0x2211);
    assert_int_equal(tm_read(t, 0x200000, 2), 0x4433);
    assert_int_equal(tm_read(t, 2, 4), 0x44332211);
    memcpy(t->p.ram, expected, 0x1000);
    free(expected);
}

// ---- segments ----
// A segment of 100h bytes at AREA is run out of: a fault at the first element that is not in it.
static void limits(void **state)
{
    // clang-format off
    static const struct { u32 limit; u32 ar; bool down; u32 at, count, done, vector; } r[] = {
        {0xFF, 0, false, 0x10, 0x200, 0xF0, VEC_GP},           // up: to the limit
        {0xFF, 0, true, 0xF0, 0x200, 0xF1, VEC_GP},            // down: to 0, then FFFFFFFFh
        {0xFF, AR_EXPAND_DOWN, true, 0x400, 0x1000, 0x301, VEC_GP},  // down, expand-down: what is above the limit
        {0xFFFFEFFF, AR_EXPAND_DOWN, false, 0xFFFFF100, 0x1000, 0xF00, VEC_GP}, // up, expand-down: to the top, then 0
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(r); i++)
        for (unsigned op = 0; op < 2; op++) {
            struct segment *s = &S.seg[op ? SEG_FS : SEG_ES];
            *s = S.seg[SEG_DS];
            s->base = i == 3 ? AREA + 0x10000 : AREA, s->limit = r[i].limit, s->ar |= r[i].ar;
            S.gpr[RCX] = r[i].count, S.gpr[RSP] = STACK, S.gpr[RAX] = 0;
            S.gpr[op ? RSI : RDI] = r[i].at;
            // rep movsb es:[edi],fs:[esi]
            if (op)
                phys_write(&t->p, 0, CODE, (u8[]){0x64, 0xF3, 0xA4, 0xF4}, 4), S.gpr[RDI] = 0x800000;
            else
                code(STOS, 0xF3, 1, false);
            cpu_set_rflags(t->v, r[i].down ? 2 | FL_DF : 2);
            go();
            assert_int_equal(S.rip - 1, HANDLER + 16 * r[i].vector);
            assert_int_equal(S.gpr[RCX], r[i].count - r[i].done);
            *s = S.seg[SEG_DS];
        }
}

// Real mode: SI and DI wrap at 64 KiB, and only the element that lies over the border faults.
static void sixty_four_kib(void **state)
{
    S.seg[SEG_DS].base = 0x20000, S.seg[SEG_DS].sel = 0x2000, S.seg[SEG_ES].base = 0x38000,
    S.seg[SEG_ES].sel = 0x3800;
    for (unsigned i = 0; i < 0x10000; i++) t->p.ram[0x20000 + i] = (u8)(i * 37 >> 3);
    for (unsigned down = 0; down < 2; down++) {
        memset(t->p.ram + 0x38000, 0, 0x10000);
        code(MOVS, 0xF3, 1, false);
        S.gpr[RSI] = 0xAAAA1234, S.gpr[RDI] = 0xBBBBF234, S.gpr[RCX] = 0xCCCC8000;
        cpu_set_rflags(t->v, down ? 2 | FL_DF : 2);
        go();
        s32 step = down ? -0x8000 : 0x8000;
        registers(0xCCCC0000, 0xAAAA0000 | (u16)(0x1234 + step), 0xBBBB0000 | (u16)(0xF234 + step));
        for (int i = 0; i < 0x8000; i += 7) {
            u16 k = (u16)(down ? -i : i);
            assert_int_equal(t->p.ram[0x38000 + (u16)(0xF234 + k)], t->p.ram[0x20000 + (u16)(0x1234 + k)]);
        }
        assert_int_equal(t->p.ram[0x38000 + (u16)(0xF234 + step)], 0);
    }
    code(STOS, 0xF3, 2, false);
    phys_write(&t->p, 0, CODE, (u8[]){0xF3, 0xAB, 0xF4}, 3); // rep stosw
    S.gpr[RDI] = 0xFF01, S.gpr[RCX] = 0x100, S.gpr[RSP] = 0x7000;
    cpu_set_rflags(t->v, 2);
    go();
    assert_int_equal((u16)S.rip - 1, (u16)(HANDLER + 16 * VEC_GP));
    assert_int_equal((u16)S.gpr[RDI], 0xFFFF);
    assert_int_equal((u16)S.gpr[RCX], 0x100 - 0x7F);
}

// ---- alignment ----
static void alignment_checks(void **state)
{
    tm_user(t);
    S.cr0 |= CR0_AM;
    memset(t->p.ram + AREA, 7, AREA_SIZE);
    static const enum op ops[] = {MOVS, CMPS, STOS, LODS, SCAS};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
        for (unsigned odd = 0; odd < 2; odd++) {
            code(ops[i], 0xF3, 4, false);
            phys_write(&t->p, 0, CODE + 2, (u8[]){0xCD, 0x80}, 2);
            S.gpr[RAX] = 0x07070707;
            S.gpr[RSI] = S.gpr[RDI] = AREA + odd, S.gpr[RCX] = 0x600, S.gpr[RSP] = USER_STACK;
            tm_load(t, SEG_CS, SEL_UCODE64 | 3), tm_load(t, SEG_SS, SEL_UDATA | 3);
            cpu_set_rflags(t->v, 2 | FL_AC);
            go();
            assert_int_equal(S.rip - 1, HANDLER + 16 * (odd ? VEC_AC : 0x80));
            assert_int_equal(S.gpr[RCX], odd ? 0x600 : 0);
        }
}

// ---- one iteration at a time ----
static u64 port_read(void *opaque, unsigned cpu, u16 port, unsigned size) { return 0x55; }
static unsigned written;
static void port_write(void *opaque, unsigned cpu, u16 port, unsigned size, u64 value) { written++; }
static const struct cpu_board_ops board = {.port_read = port_read, .port_write = port_write};

// TF: a #DB after each iteration, with RIP at the instruction and RF set, and the arithmetic flags not yet
// written.
static void single_step(void **state)
{
    t->v->board = &board;
    static const u8 ops[] = {MOVS, CMPS, STOS, LODS, SCAS, 0x6C, 0x6E};
    enum { N = 5 };
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
        for (unsigned down = 0; down < 2; down++) {
            bool uses_si = ops[i] == MOVS || ops[i] == CMPS || ops[i] == LODS || ops[i] == 0x6E;
            bool uses_di = ops[i] != LODS && ops[i] != 0x6E, compares = ops[i] == CMPS || ops[i] == SCAS;
            u64 f = 2 | FL_TF | FL_CF | (down ? FL_DF : 0);
            s64 step = down ? -1 : 1;
            memset(t->p.ram + AREA, 7, AREA_SIZE);
            code(ops[i], 0xF3, 1, false);
            phys_write(&t->p, 0, CODE + 2, (u8[]){0x90, 0xF4}, 2);
            S.gpr[RAX] = 7, S.gpr[RDX] = 0x10, S.gpr[RCX] = N, S.gpr[RSI] = AREA + 0x100,
            S.gpr[RDI] = AREA + 0x200;
            cpu_set_rflags(t->v, f);
            written = 0;
            for (int n = 1; n <= N; n++) {
                S.gpr[RSP] = STACK, S.dr[6] = 0xFFFF0FF0;
                go();
                assert_int_equal(S.rip - 1, HANDLER + 16 * VEC_DB);
                assert_int_equal(S.dr[6] & BIT(14), BIT(14));
                assert_int_equal(tm_read(t, S.gpr[RSP], 8), n < N ? CODE : CODE + 2);
                u64 pushed = tm_read(t, S.gpr[RSP] + 16, 8);
                if (n < N)
                    assert_int_equal(pushed, f | FL_RF);
                else
                    assert_int_equal(pushed, compares ? (f & ~(u64)FL_ARITH) | FL_ZF | FL_PF : f);
                registers(N - (u64)n, AREA + 0x100 + (u64)(uses_si ? n * step : 0),
                          AREA + 0x200 + (u64)(uses_di ? n * step : 0));
                if (ops[i] == 0x6E) assert_int_equal(written, n);
                cpu_set_rflags(t->v, pushed); // the handler's IRET
            }
        }
    // It ends where the comparison says so, with RCX left.
    code(SCAS, 0xF2, 1, false);
    S.gpr[RAX] = 7, S.gpr[RCX] = N, S.gpr[RDI] = AREA + 0x200, S.gpr[RSP] = STACK;
    t->p.ram[AREA + 0x200] = 6;
    cpu_set_rflags(t->v, 2 | FL_TF);
    go();
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), CODE);
    cpu_set_rflags(t->v, tm_read(t, S.gpr[RSP] + 16, 8)), S.gpr[RSP] = STACK;
    go();
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), CODE + 2);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 16, 8), 2 | FL_TF | FL_ZF | FL_PF);
    assert_int_equal(S.gpr[RCX], N - 2);
    // No iteration: one trap, after the instruction.
    code(MOVS, 0xF3, 1, false);
    S.gpr[RCX] = 0, S.gpr[RSP] = STACK;
    cpu_set_rflags(t->v, 2 | FL_TF);
    go();
    assert_int_equal(S.rip - 1, HANDLER + 16 * VEC_DB);
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), CODE + 2);
}

// A REP that overwrites itself goes on as what it has become, however it is cut: at the iteration behind the
// store, as after an interrupt there (SDM 10.1.3 has the processor fetch anew what was stored to).
static void over_itself(void **state)
{
    static const struct {
        u8 code[4], n;
        int at; // RDI of the first element, from CODE; it may lie at a border of pages
        bool down;
        u64 rcx;      // in the end
        int behind;   // RDI in the end
        unsigned end; // RIP in the end, from where it begins
        u64 boundary; // added to CODE: the instruction crosses
    } c[] = {
        {{0xF3, 0xAA}, 2, -4, false, 11, 2, 3, 0}, // rep stosb of NOPs: nop; stosb, which stores a NOP over
                                                   // itself
        {{0xF3, 0xA4}, 2, -4, false, 11, 2, 3, 0}, // rep movsb of NOPs, alike
        {{0xF3, 0xAA}, 2, 6, true, 10, 0, 8, 0},   // from above: its second byte becomes a NOP: rep nop
        {{0xF3, 0xAA}, 2, -0x100, false, 0, -0xF0, 3, 0}, // elsewhere in its page
        {{0xF3, 0xAA}, 2, -4, false, 11, 2, 3, 0xFFF},    // across a border: the first byte
        {{0xF3, 0xAA}, 2, 6, true, 10, 0, 8, 0xFFF},      // and the second
    };
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        for (unsigned slice = 0; slice < 5; slice++) {
            u64 at = CODE + c[i].boundary;
            memset(t->p.ram + at - 0x200, 0xF4, 0x400);
            tm_write(t, at, c[i].code, c[i].n);
            memset(t->p.ram + DATA + 0x800, 0x90, 64);
            cpu_drop_derived(t->v);
            S.gpr[RAX] = 0x90, S.gpr[RCX] = 16, S.gpr[RSI] = DATA + 0x800;
            S.gpr[RDI] = at + (u64)c[i].at;
            cpu_set_rflags(t->v, 2 | (c[i].down ? FL_DF : 0));
            start();
            S.rip = at;
            unsigned k = 0;
            while (vcpu_run(t->v, slice ? slice : 100000) != RUN_HALTED) assert_true(++k < 1000);
            assert_int_equal(S.gpr[RCX], c[i].rcx);
            assert_int_equal(S.gpr[RDI], at + (u64)c[i].behind);
            assert_int_equal(S.rip, at + c[i].end);
        }
}

// Both engines: a state that is not NULL asks for the loop.
#define BOTH(f, kind) \
    {#f " (threaded, " #kind ")", f, kind##_setup, teardown, NULL}, \
    { \
#f " (loop, " #kind ")", f, kind##_setup, teardown, &in_loop \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(as_the_manual_says, long),
        BOTH(as_the_manual_says, prot),
        BOTH(however_it_is_cut, long),
        BOTH(moves_onto_code, long),
        BOTH(over_itself, long),
        BOTH(a_fault_on_the_way, long),
        BOTH(which_operand_faults_first, long),
        BOTH(upper_halves, long),
        BOTH(addresses_that_wrap, long),
        BOTH(limits, prot),
        BOTH(sixty_four_kib, real),
        BOTH(alignment_checks, long),
        BOTH(single_step, long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
