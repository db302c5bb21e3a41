// The engine: what it keeps of code must never be seen. Self-modifying code, code that other mappings and
// devices write, instructions across pages, slices that end at the exact instruction. Each program runs in
// both engines; what is expected follows from the program alone (SDM 3A 10.1.3: a processor's own stores to
// its code are seen at once).
#include "cpu_machine.h"

#include "cpu/engine/exec.h"

static struct tm *t;
static bool in_loop;
#define S (t->v->s)

static int long_setup(void **s)
{
    t = tm_new(TM_LONG);
    if (*s) t->v->loop_engine = true;
    in_loop = *s != NULL;
    return 0;
}
static int prot_setup(void **s)
{
    t = tm_new(TM_PROTECTED);
    if (*s) t->v->loop_engine = true;
    in_loop = *s != NULL;
    return 0;
}
static int teardown(void **s) { return tm_free(t), 0; }

#define BYTES(...) (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__})
static u64 put(u64 at, const u8 *bytes,
               size_t n) // as a device would: what is known of code there is forgotten
{
    phys_write(&t->p, 0, at, bytes, (unsigned)n);
    return at + n;
}

// Runs from `rip` until HLT, keeping what the engine has derived so far.
static void go(u64 rip)
{
    S.rip = rip;
    S.activity = ACTIVITY_ACTIVE;
    cpu_attention(t->v);
    assert_int_equal(vcpu_run(t->v, 1000000), RUN_HALTED);
}

static void store_into_the_next_instruction(void **state)
{
    // mov byte [rip+1],2; mov eax,1; hlt
    put(CODE, BYTES(0xC6, 0x05, 1, 0, 0, 0, 2, 0xB8, 1, 0, 0, 0, 0xF4));
    go(CODE);
    assert_int_equal(S.gpr[RAX], 2);
}

static void store_into_a_loop_that_runs(void **state)
{
    // ecx = 10; again: add eax,1 (whose immediate becomes ecx's low byte); mov [again+2],cl; dec ecx; jnz
    // again; hlt
    put(CODE, BYTES(0x31, 0xC0, 0xB9, 10, 0, 0, 0, 0x83, 0xC0, 1, 0x88, 0x0D, 0xF9, 0xFF, 0xFF, 0xFF, 0xFF,
                    0xC9, 0x75, 0xF3, 0xF4));
    go(CODE);
    assert_int_equal(S.gpr[RAX], 1 + 10 + 9 + 8 + 7 + 6 + 5 + 4 + 3 + 2);
}

static void store_from_another_page(void **state)
{
    // At DATA: mov eax,1; ret. The first store opens the page for direct stores before it holds code.
    // mov byte [DATA+0x80],0; call DATA; add ebx,eax; mov byte [DATA+1],7; call DATA; add ebx,eax; hlt
    put(DATA, BYTES(0xB8, 1, 0, 0, 0, 0xC3));
    S.gpr[RBX] = 0;
    put(CODE, BYTES(0xC6, 0x04, 0x25, 0x80, 0x90, 0, 0, 0, 0xE8, 0xF3, 0x0F, 0, 0, 0x01, 0xC3, 0xC6, 0x04,
                    0x25, 0x01, 0x90, 0, 0, 7, 0xE8, 0xE4, 0x0F, 0, 0, 0x01, 0xC3, 0xF4));
    go(CODE);
    assert_int_equal(S.gpr[RBX], 8);
    t->p.ram[DATA + 1] = 1;
    phys_write(&t->p, 0, DATA + 1, "\1", 1);
    go(CODE);
    assert_int_equal(S.gpr[RBX], 16); // and again, when all of it is linked
}

static void store_through_another_mapping(void **state)
{
    tm_write64(t, 0x41008, 0x42007); // 1 GiB and up: the same memory again
    cpu_tlb_flushed(t->v);
    put(DATA, BYTES(0xB8, 1, 0, 0, 0, 0xC3));
    // mov rdi,40009001h; call DATA; mov ebx,eax; mov byte [rdi],9; call DATA; hlt
    put(CODE, BYTES(0xBF, 0x01, 0x90, 0, 0x40, 0xE8, 0xF6, 0x0F, 0, 0, 0x89, 0xC3, 0xC6, 0x07, 9, 0xE8, 0xEC,
                    0x0F, 0, 0, 0xF4));
    go(CODE);
    assert_int_equal(S.gpr[RBX], 1);
    assert_int_equal(S.gpr[RAX], 9);
}

static void store_by_a_device(void **state)
{
    put(CODE, BYTES(0xB8, 1, 0, 0, 0, 0xF4));
    go(CODE);
    assert_int_equal(S.gpr[RAX], 1);
    phys_write(&t->p, 0, CODE + 1, "\5", 1);
    go(CODE);
    assert_int_equal(S.gpr[RAX], 5);
}

// Small pages at 600000h: [0] P, [1] Q, [2] P again, [3] R.
enum { WINDOW = 0x600000, TABLE = 0x43000, P = 0x100000, Q = 0x101000, R = 0x102000 };
static void window(void)
{
    tm_write64(t, 0x42018, TABLE | 7);
    tm_write64(t, TABLE, P | 7), tm_write64(t, TABLE + 8, Q | 7);
    tm_write64(t, TABLE + 16, P | 7), tm_write64(t, TABLE + 24, R | 7);
    tlb_reset(&S.itlb), tlb_reset(&S.dtlb);
    cpu_tlb_flushed(t->v);
}
// mov ebp,3; again: mov eax,WINDOW+at; call rax; mov cl,al; mov eax,WINDOW+2000h+at; call rax; mov ch,al; dec
// ebp; jnz again
static void call_both(u32 at)
{
    u8 c[] = {0xBD, 3, 0,    0,    0, 0xB8, 0,    0,    0x60, 0,    0xFF, 0xD0, 0x88, 0xC1,
              0xB8, 0, 0x20, 0x60, 0, 0xFF, 0xD0, 0x88, 0xC5, 0xFF, 0xCD, 0x75, 0xEA, 0xF4};
    c[6] = (u8)at, c[7] = (u8)(at >> 8), c[15] = (u8)at, c[16] = (u8)(0x20 + (at >> 8));
    put(CODE, c, sizeof c);
    S.gpr[RCX] = 0;
    go(CODE);
}

static void next_page_of_another_mapping(void **state)
{
    window();
    put(Q, BYTES(0xB0, 'Q', 0xC3)), put(R, BYTES(0xB0, 'R', 0xC3));
    put(P + 0x10, BYTES(0xE9, 0xEB, 0x0F, 0, 0));                   // jmp to the next page
    put(P + 0x20, BYTES(0x31, 0xC0, 0x0F, 0x84, 0xD8, 0x0F, 0, 0)); // xor eax,eax; jz
    put(P + 0x30, BYTES(0xE8, 0xCB, 0x0F, 0, 0, 0xC3));             // call; ret
    memset(t->p.ram + P + 0xF00, 0x90, 0x100);                      // NOPs into the next page
    u32 at[] = {0x10, 0x20, 0x30, 0xF00, 0xFFF};
    for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
        call_both(at[i]);
        assert_int_equal(S.gpr[RCX], 'R' << 8 | 'Q');
    }
}

static void instruction_across_pages(void **state)
{
    window();
    put(P + 0xFFE, BYTES(0xB8, 1)); // mov eax,imm32: three bytes on the next page; then mov al,ah; ret
    put(Q, BYTES('q', 0, 0, 0x88, 0xE0, 0xC3)), put(R, BYTES('r', 0, 0, 0x88, 0xE0, 0xC3));
    call_both(0xFFE);
    assert_int_equal(S.gpr[RCX], 'r' << 8 | 'q');
    // Its second page is written: by the processor, by a device.
    S.gpr[RDI] = Q;
    put(CODE, BYTES(0xC6, 0x07, 'x', 0xF4)); // mov byte [rdi],'x'
    go(CODE);
    call_both(0xFFE);
    assert_int_equal(S.gpr[RCX], 'r' << 8 | 'x');
    phys_write(&t->p, 0, Q, "y", 1);
    call_both(0xFFE);
    assert_int_equal(S.gpr[RCX], 'r' << 8 | 'y');
    // The page table changes, and INVLPG says so.
    tm_write64(t, TABLE + 8, R | 7);
    S.gpr[RDI] = WINDOW + 0x1000;
    put(CODE, BYTES(0x0F, 0x01, 0x3F, 0xF4)); // invlpg [rdi]
    go(CODE);
    call_both(0xFFE);
    assert_int_equal(S.gpr[RCX], 'r' << 8 | 'r');
    // No second page: the fault is at its address, the instruction at its own.
    tm_write64(t, TABLE + 8, 0);
    put(CODE, BYTES(0x0F, 0x01, 0x3F, 0xF4));
    go(CODE);
    put(CODE, BYTES(0xB8, 0xFE, 0x0F, 0x60, 0, 0xFF, 0xE0));
    S.gpr[RSP] = STACK;
    go(CODE);
    assert_int_equal(S.rip - 1, HANDLER + 16 * VEC_PF);
    assert_int_equal(S.cr2, WINDOW + 0x1000);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 8, 8), WINDOW + 0xFFE);
}

// Fifteen bytes, split everywhere. Decoded once, however often it runs and whatever follows it.
static void long_instruction_across_pages(void **state)
{
    enum { RESULT = 0x9080, N = 15 };
    static const u8 store[N] = {0x3E,        0x3E, 0x3E, 0x3E, 0x48, 0xC7, 0x80, RESULT & 0xFF,
                                RESULT >> 8, 0,    0,    'q',  0,    0,    0};
    // at `to`: the same store; ret
    static const u8 jump[N] = {0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0xE9};
    static const u8 jz[N] = {0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x0F, 0x84};
    static const u8 *const all[] = {store, jump, jz};
    // ebp = 9; again: xor eax,eax; mov ecx,..; call rcx; dec ebp; jnz again; hlt
    u8 c[] = {0xBD, 9, 0, 0, 0, 0x31, 0xC0, 0xB9, 0, 0, 0x60, 0, 0xFF, 0xD1, 0xFF, 0xCD, 0x75, 0xF3, 0xF4};
    window();
    for (unsigned kind = 0; kind < 3; kind++)
        for (unsigned split = 1; split < N; split++) {
            u8 b[N];
            memcpy(b, all[kind], N);
            u32 second = N - split, to = 0x40, rel = to - second;
            if (kind) memcpy(b + 11, &rel, 4);
            put(P + 0x1000 - split, b, split);
            for (unsigned k = 0; k < 2; k++) { // both pages that may be the second
                u64 page = k ? R : Q;
                u8 there[N + 1];
                memcpy(there, store, N);
                there[11] = k ? 'r' : 'q', there[N] = 0xC3;
                put(page + to, there, N + 1);
                put(page, b + split, second), put(page + second, BYTES(0xC3));
                if (k && !kind && split <= 11) put(page + 11 - split, BYTES('r'));
            }
            c[8] = (u8)(0x1000 - split), c[9] = (u8)((0x1000 - split) >> 8);
            put(CODE, c, sizeof c);
            bool changes = kind || split <= 11; // with the second page
            for (unsigned k = 0; k < 2; k++) {
                tm_write64(t, TABLE + 8, (k ? R : Q) | 7);
                tlb_invlpg(&S.itlb, laddr_of(WINDOW + 0x1000)),
                    tlb_invlpg(&S.dtlb, laddr_of(WINDOW + 0x1000));
                cpu_tlb_flushed(t->v);
                u64 built = 0;
                for (unsigned again = 0; again < 2; again++) {
                    tm_write64(t, RESULT, 0);
                    go(CODE);
                    assert_int_equal(tm_read(t, RESULT, 8), k && changes ? 'r' : 'q');
                    if (again) assert_int_equal(t->v->d.engine->blocks_built, built);
                    built = t->v->d.engine->blocks_built;
                }
            }
            if (!kind && split <= 11) { // its second half is written
                phys_write(&t->p, 0, R + 11 - split, "x", 1);
                go(CODE);
                assert_int_equal(tm_read(t, RESULT, 8), 'x');
            }
        }
}

// Two address spaces that differ in one page of code, in turns; every counter that the engine and the TLBs
// keep comes to its end and begins anew meanwhile. What was linked before must not be good after.
static void counters_run_out(void **state)
{
    enum { TABLE2 = 0x4A000, PML4_2 = 0x47000, CALLS = 200 };
    struct engine *e = t->v->d.engine;
    window();
    put(P, BYTES(0xB0, 1, 0xE9, 0xF9, 0x0F, 0, 0)); // mov al,1; jmp to the next page
    put(Q, BYTES(0x01, 0xC7, 0xC3));                // add edi,eax; ret
    put(R, BYTES(0x01, 0xC6, 0xC3));                // add esi,eax; ret
    memcpy(t->p.ram + PML4_2, t->p.ram + PML4, 8), tm_write64(t, PML4_2, 0x48007);
    tm_write64(t, 0x48000, 0x49007);
    memcpy(t->p.ram + 0x49000, t->p.ram + 0x42000, 64), tm_write64(t, 0x49018, TABLE2 | 7);
    tm_write64(t, TABLE2, P | 7), tm_write64(t, TABLE2 + 8, R | 7);
    S.cr4 |= CR4_PGE;
    cpu_mode_changed(t->v);
    // again: mov cr3,rbx; call WINDOW; mov cr3,rcx; call WINDOW; dec ebp; jnz again; hlt
    put(CODE, BYTES(0x0F, 0x22, 0xDB, 0xE8, 0xF8, 0x7F, 0x5F, 0, 0x0F, 0x22, 0xD9, 0xE8, 0xF0, 0x7F, 0x5F, 0,
                    0xFF, 0xCD, 0x75, 0xEC, 0xF4));
    static const u32 from[] = {UINT32_MAX - 60, GEN_LAST - 60, GEN_LAST - 1, 60};
    for (unsigned global = 0; global < 2; global++) { // the code of the loop is on a global page
        u64 leaf = 0xE7 | global << 8;
        tm_write64(t, 0x42000, leaf), tm_write64(t, 0x49000, leaf);
        for (unsigned i = 0; i < ARRAY_LEN(from); i++)
            for (unsigned what = 0; what < 3; what++) {
                tlb_reset(&S.itlb), tlb_reset(&S.dtlb);
                cpu_drop_derived(t->v);
                S.gpr[RBX] = PML4, S.gpr[RCX] = PML4_2, S.gpr[RSP] = STACK, S.gpr[RAX] = 0;
                S.gpr[RBP] = 20, S.gpr[RSI] = S.gpr[RDI] = 0;
                go(CODE); // links under the numbers that come again
                if (what == 0) e->next_gen = from[i];
                if (what == 1) S.itlb.next_serial = S.dtlb.next_serial = from[i];
                if (what == 2) {
                    S.itlb.drops = e->drops[0] = S.dtlb.drops = e->drops[1] = from[i];
                    S.itlb.restarts = e->restarts[0] = S.dtlb.restarts = e->restarts[1] = UINT32_MAX;
                    S.itlb.next_serial = S.dtlb.next_serial = UINT32_MAX - 60;
                }
                S.gpr[RBP] = CALLS, S.gpr[RSI] = S.gpr[RDI] = 0;
                go(CODE);
                assert_int_equal(S.gpr[RSI], CALLS);
                assert_int_equal(S.gpr[RDI], CALLS);
            }
    }
}

static void bytes_of_the_next_page_are_fetched_only_when_needed(void **state)
{
    window();
    tm_write64(t, TABLE + 8, 0);
    put(P + 0xFFD, BYTES(0xB0, 'p', 0xC3)); // ends with the page
    put(CODE, BYTES(0xB8, 0xFD, 0x0F, 0x60, 0, 0xFF, 0xD0, 0xF4));
    go(CODE);
    assert_int_equal(S.gpr[RAX] & 0xFF, 'p');
}

static void page_remapped_under_linked_code(void **state)
{
    window();
    put(P, BYTES(0xB0, 'P', 0xC3)), put(R, BYTES(0xB0, 'R', 0xC3));
    // ebp = 3: mov eax,WINDOW; call rax; dec ebp; jnz; [TABLE] = R|7; invlpg [WINDOW]; call rax
    put(CODE,
        BYTES(0xBD, 3, 0, 0, 0, 0xB8, 0, 0, 0x60, 0, 0xFF, 0xD0, 0xFF, 0xCD, 0x75, 0xF5, 0xBB, 0, 0, 0x60, 0,
              0xC7, 0x04, 0x25, 0, 0x30, 0x04, 0, 0x07, 0x20, 0x10, 0, 0x0F, 0x01, 0x3B, 0xFF, 0xD3, 0xF4));
    go(CODE);
    assert_int_equal(S.gpr[RAX] & 0xFF, 'R');
}

static void code_written_while_the_slice_is_long(void **state)
{
    put(DATA, BYTES(0xB8, 1, 0, 0, 0, 0xC3));
    u8 c[] = {0xE8, 0xFB, 0x0F, 0,    0,    0x01,
              0xC3, 0xFF, 0xCD, 0x75, 0xF5, 0xF4}; // call DATA; add ebx,eax; dec ebp; jnz; hlt
    put(CODE, c, sizeof c);
    for (u64 units = 1ull << 33; units; units = units == UINT64_MAX ? 0 : UINT64_MAX) {
        S.gpr[RBX] = 0, S.gpr[RBP] = 3, S.rip = CODE, S.activity = ACTIVITY_ACTIVE;
        phys_write(&t->p, 0, DATA + 1, "\1", 1);
        cpu_attention(t->v);
        assert_int_equal(vcpu_run(t->v, units), RUN_HALTED);
        assert_int_equal(S.gpr[RBX], 3);
        phys_write(&t->p, 0, DATA + 1, "\2", 1); // the call's link leads to a block that is no more
        S.gpr[RBP] = 3, S.rip = CODE, S.activity = ACTIVITY_ACTIVE;
        cpu_attention(t->v);
        assert_int_equal(vcpu_run(t->v, units), RUN_HALTED);
        assert_int_equal(S.gpr[RBX], 9);
    }
}

// A board whose port tells of an interrupt that comes and goes.
static u64 blinking_port(void *opaque, unsigned cpu, u16 port, unsigned size)
{
    cpu_signal(t->v, CPU_SIGNAL_INTR_ON, 0);
    cpu_signal(t->v, CPU_SIGNAL_INTR_OFF, 0);
    return 3;
}
static int next_vector;
static int give_vector(void *opaque, unsigned cpu)
{
    cpu_signal(t->v, CPU_SIGNAL_INTR_OFF, 0);
    return next_vector;
}
static const struct cpu_board_ops board = {.port_read = blinking_port, .intr_ack = give_vector};

static void device_input_into_the_running_code(void **state)
{
    t->v->board = &board;
    // edi = immediate; ecx = 2; rep insb; mov eax,01010101h; hlt. The last port read comes after the first
    // store.
    put(CODE, BYTES(0xBF, 0x0D, 0x80, 0, 0, 0xB9, 2, 0, 0, 0, 0xF3, 0x6C, 0xB8, 1, 1, 1, 1, 0xF4));
    go(CODE);
    assert_int_equal(S.gpr[RAX], 0x01010303);
    // One byte at a time, each followed by a read of the port.
    put(CODE, BYTES(0xBF, 0x0B, 0x80, 0, 0, 0x6C, 0xE4, 0x10, 0x90, 0x90, 0xB8, 1, 1, 1, 1, 0xF4));
    go(CODE);
    assert_int_equal(S.gpr[RAX], 0x01010103);
}

static void limits_are_not_linked(void **state)
{
    // 200 NOPs below a limit, then with the limit in their midst: the fault is at the first byte beyond.
    enum { NOPS = 0xB000 };
    memset(t->p.ram + NOPS, 0x90, 200);
    t->p.ram[NOPS + 200] = 0xF4;
    S.seg[SEG_CS].limit = 0xFFFF, S.seg[SEG_CS].ar &= ~(u32)AR_G;
    cpu_mode_changed(t->v);
    go(NOPS);
    go(NOPS);
    assert_int_equal(S.rip, NOPS + 201);
    for (u32 at = 60; at < 200; at += 7) {
        S.seg[SEG_CS].limit = NOPS + at - 1;
        cpu_mode_changed(t->v);
        S.gpr[RSP] = STACK;
        tm_gate(t, VEC_GP, SEL_CODE32, 14, 0, 0, false);
        go(NOPS);
        assert_int_equal(S.rip - 1, HANDLER + 16 * VEC_GP);
        assert_int_equal(tm_read(t, S.gpr[RSP] + 4, 4), NOPS + at);
    }
}

// ---- 32-bit code runs as fast as 64-bit code does: branches, the stack, FS and GS ----
static void wrappers_of_flat_code(void **state)
{
    // clang-format off
    static const u8 code[][8] = {
        {0xE8, 0, 0, 0, 0}, {0xC3}, {0xC2, 8, 0}, {0x74, 0}, {0x0F, 0x85, 0, 0, 0, 0}, {0xEB, 0}, {0xE9, 0, 0, 0, 0}, {0xFF, 0xD0},
        {0xFF, 0xE1}, {0xFF, 0x14, 0x85, 0, 0x90, 0, 0}, {0xFF, 0x63, 8}, {0x50}, {0x5B}, {0x6A, 1}, {0x68, 1, 0, 0, 0}, {0xC9},
        {0x64, 0xA1, 0, 0, 0, 0}, {0x64, 0x8B, 0x03}, {0x65, 0x89, 0x0D, 0x14, 0, 0, 0},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(code); i++) {
        struct insn in = {0};
        assert_true(decode_insn(t->v, code[i], 8, t->v->d.mode, &in));
        if (in.exec == exec_slow) fail_msg("%02x %02x runs the long way", code[i][0], code[i][1]);
    }
    // Not with a 16-bit stack, nor with less than 4 GiB behind FS.
    struct insn in = {0};
    S.seg[SEG_SS].ar &= ~(u32)AR_DB, S.seg[SEG_FS].limit = 0xFFFFFFF;
    cpu_mode_changed(t->v);
    assert_true(decode_insn(t->v, code[0], 8, t->v->d.mode, &in));
    assert_true(in.exec == exec_slow);
    assert_true(decode_insn(t->v, code[17], 8, t->v->d.mode, &in));
    assert_true(in.exec == exec_slow);
}

// The last page below 4 GiB is at P, the first at 0: branches, code and stack over the border.
static void over_the_border_at_4_gib(void **state)
{
    enum { DIR = 0x44000, LAST = 0x45000, PAGE = 0x100000 };
    for (unsigned i = 0; i < 4; i++) tm_write64(t, DIR + 8 * i, 0);
    u32 first = 0xE7, last = LAST | 7, page = PAGE | 7;
    tm_write(t, DIR, &first, 4), tm_write(t, DIR + 4 * 1023, &last, 4),
        tm_write(t, LAST + 4 * 1023, &page, 4);
    S.cr3 = DIR, S.cr4 |= CR4_PSE, S.cr0 |= CR0_PG;
    cpu_mode_changed(t->v);
    // ebp = 5; again: call FFFFFFE0h; dec ebp; jnz again; hlt
    put(CODE, BYTES(0xBD, 5, 0, 0, 0, 0xE8, 0xD6, 0x7F, 0xFF, 0xFF, 0x4D, 0x75, 0xF8, 0xF4));
    put(PAGE + 0xFE0, BYTES(0x40, 0x90, 0x90, 0x90, 0x90, 0xE9, 0x16, 0x01, 0, 0)); // inc eax; jmp 100h
    put(0x100, BYTES(0x43, 0xC3));                                                  // inc ebx; ret
    S.gpr[RAX] = S.gpr[RBX] = 0;
    go(CODE);
    assert_int_equal(S.gpr[RAX], 5);
    assert_int_equal(S.gpr[RBX], 5);
    assert_int_equal(S.gpr[RSP], STACK);
    // Straight on: at FFFFFFFEh inc ecx; inc edx | inc esi; ret
    put(CODE + 6, BYTES(0xF4, 0x7F, 0xFF, 0xFF)), put(PAGE + 0xFFE, BYTES(0x41, 0x42)),
        put(0, BYTES(0x46, 0xC3));
    S.gpr[RCX] = S.gpr[RDX] = S.gpr[RSI] = 0;
    go(CODE);
    assert_int_equal(S.gpr[RCX], 5);
    assert_int_equal(S.gpr[RDX], 5);
    assert_int_equal(S.gpr[RSI], 5);
    // again: push eax; push ebx; pop edi; pop esi; call to a RET; with ESP at 0
    put(CODE,
        BYTES(0xBD, 5, 0, 0, 0, 0x50, 0x53, 0x5F, 0x5E, 0xE8, 4, 0, 0, 0, 0x4D, 0x75, 0xF4, 0xF4, 0xC3));
    S.gpr[RSP] = 0, S.gpr[RAX] = 0x11111111, S.gpr[RBX] = 0x22222222;
    go(CODE);
    assert_int_equal(S.gpr[RSP], 0);
    assert_int_equal(S.gpr[RSI], 0x11111111);
    assert_int_equal(S.gpr[RDI], 0x22222222);
    assert_int_equal(tm_read(t, PAGE + 0xFFC, 4), CODE + 14);
    // FS with a base near the top: its addresses wrap. again: mov eax,fs:[edx]; mov fs:[ecx],eax
    put(CODE, BYTES(0xBD, 5, 0, 0, 0, 0x64, 0x8B, 0x02, 0x64, 0x89, 0x01, 0x4D, 0x75, 0xF7, 0xF4));
    S.seg[SEG_FS].base = 0xFFFFF800;
    tm_write64(t, 0x300, 0x5A5A1234);
    S.gpr[RSP] = STACK, S.gpr[RDX] = 0x800 + 0x300, S.gpr[RCX] = 0x10;
    go(CODE);
    assert_int_equal(S.gpr[RAX], 0x5A5A1234);
    assert_int_equal(tm_read(t, PAGE + 0x810, 4), 0x5A5A1234);
    // and with a limit all of a sudden, the same code faults
    S.seg[SEG_FS].limit = 0xAFF;
    cpu_mode_changed(t->v);
    go(CODE);
    assert_int_equal(S.rip - 1, HANDLER + 16 * VEC_GP);
}

// EIP is a register of 32 bits whatever the size of the code: 16-bit code with a limit of 4 GiB goes on at 0,
// behind an instruction that ends a block as behind any other.
static void sixteen_bit_code_over_4_gib(void **state)
{
    // inc cx; inc ax; mov ds,ax at FFFFFFFEh | inc cx; hlt
    put(CODE + 0xC, BYTES(0x41, 0x40, 0x8E, 0xD8, 0x41, 0xF4));
    S.seg[SEG_CS].base = CODE + 0x10, S.seg[SEG_CS].limit = 0xFFFFFFFF, S.seg[SEG_CS].ar &= ~(u32)AR_DB;
    cpu_mode_changed(t->v);
    S.gpr[RCX] = 0, S.gpr[RAX] = SEL_DATA - 1;
    go(0xFFFFFFFC);
    assert_int_equal(S.rip, 2);
    assert_int_equal(S.gpr[RCX], 2);
}

// Straight code, branches and calls: inc rax at every step, so that RAX counts what has run.
static u64 counting_program(void)
{
    u64 at = CODE;
    at = put(at, BYTES(0x31, 0xC0));
    for (unsigned i = 0; i < 100; i++) at = put(at, BYTES(0x48, 0xFF, 0xC0)); // inc rax
    return at;
}

static void slices_end_at_the_exact_instruction(void **state)
{
    put(counting_program(), BYTES(0x48, 0xFF, 0xC0, 0xEB, 0xFB)); // inc rax; jmp to it
    for (u64 n = 1; n < 300; n++) {
        S.rip = CODE, S.activity = ACTIVITY_ACTIVE;
        cpu_attention(t->v);
        u64 before = S.units;
        assert_int_equal(vcpu_run(t->v, n), RUN_BUDGET);
        assert_int_equal(S.units - before, n);
        // xor, then 100 INCs, then pairs of INC and JMP
        u64 expected = n <= 101 ? n - 1 : 100 + (n - 100) / 2;
        assert_int_equal(S.gpr[RAX], expected);
    }
}

static void deadlines_are_exact(void **state)
{
    put(counting_program(), BYTES(0x48, 0xFF, 0xC0, 0xEB, 0xFB));
    u64 deadline;
    t->v->clock_next = &deadline;
    t->v->board = &board;
    next_vector = 0x40;
    for (u64 n = 1; n < 300; n++)
        for (unsigned early = 0; early < CPU_TICKS_PER_UNIT; early++) {
            S.rip = CODE, S.activity = ACTIVITY_ACTIVE, S.gpr[RSP] = STACK;
            S.rflags |= FL_IF;
            cpu_attention(t->v);
            u64 before = S.units;
            deadline = (before + n) * CPU_TICKS_PER_UNIT + S.skipped - early;
            assert_int_equal(vcpu_run(t->v, 100000), RUN_BUDGET);
            assert_int_equal(S.units - before, n); // the first instant at or after the deadline
            u64 count = S.gpr[RAX], rip = S.rip;
            deadline = UINT64_MAX;
            cpu_signal(t->v, CPU_SIGNAL_INTR_ON, 0); // the timer's interrupt
            assert_int_equal(vcpu_run(t->v, 100000), RUN_HALTED);
            assert_int_equal(S.rip - 1, HANDLER + 16 * 0x40);
            assert_int_equal(tm_read(t, S.gpr[RSP], 8), rip);
            assert_int_equal(S.gpr[RAX], count);
        }
}

static void interrupt_after(const u8 *code, size_t n, u64 flags, u64 expected)
{
    S.gpr[RSP] = STACK, S.activity = ACTIVITY_ACTIVE, S.rip = CODE;
    S.rflags = 2 | flags;
    S.blocking = 0;
    put(CODE, code, n);
    t->v->board = &board;
    next_vector = 0x40;
    cpu_drop_derived(t->v);
    cpu_signal(t->v, CPU_SIGNAL_INTR_ON, 0);
    assert_int_equal(vcpu_run(t->v, 100000), RUN_HALTED);
    cpu_signal(t->v, CPU_SIGNAL_INTR_OFF, 0);
    if (expected == 0) {
        assert_int_equal(S.rip, CODE + n);
        return;
    }
    assert_int_equal(S.rip - 1, HANDLER + 16 * 0x40);
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), CODE + expected);
}

static void shadows_cover_one_instruction(void **state)
{
    S.gpr[RAX] = SEL_DATA;
    interrupt_after(BYTES(0xFB, 0x90, 0x90, 0xF4), 0, 2); // sti; nop | nop
    interrupt_after(BYTES(0xFB, 0xFB, 0x90, 0xF4), 0, 2); // sti; sti | nop: the second makes no shadow
    interrupt_after(BYTES(0xFB, 0xFA, 0x90, 0xF4), 0, 0); // sti; cli: never
    interrupt_after(BYTES(0xFB, 0x8E, 0xD0, 0x90, 0x90, 0xF4), 0,
                    4); // sti; mov ss,eax; nop | nop: a shadow of its own
}

static void interrupts_at_once(void **state)
{
    S.gpr[RSP] = STACK, S.activity = ACTIVITY_ACTIVE, S.rip = CODE, S.rflags = 2 | FL_IF;
    put(CODE, BYTES(0x90, 0xF4));
    t->v->board = &board;
    next_vector = 0x40;
    cpu_signal(t->v, CPU_SIGNAL_INTR_ON, 0);
    assert_int_equal(vcpu_run(t->v, 100000), RUN_HALTED);
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), CODE); // before the first instruction
}

static void rf_lives_for_one_instruction(void **state)
{
    t->v->board = &board;
    next_vector = 0x40;
    // An IRET loads RF; what is interrupted later pushes it clear (SDM 19.3.1.1).
    u64 frame[5] = {CODE + 0x40, SEL_CODE64, 2 | FL_RF, STACK, SEL_DATA};
    tm_write(t, STACK - 0x100, frame, sizeof frame);
    put(CODE, BYTES(0x48, 0xCF));
    put(CODE + 0x40, BYTES(0x90, 0x90, 0xFB, 0x90, 0x90, 0xF4)); // nop; nop; sti; nop | nop
    S.gpr[RSP] = STACK - 0x100, S.rflags = 2;
    cpu_signal(t->v, CPU_SIGNAL_INTR_ON, 0);
    go(CODE);
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), CODE + 0x44);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 16, 8), 2 | FL_IF);
    // Interrupted at once, RF is pushed as it was loaded.
    frame[2] |= FL_IF;
    tm_write(t, STACK - 0x100, frame, sizeof frame);
    S.gpr[RSP] = STACK - 0x100, S.rflags = 2;
    cpu_signal(t->v, CPU_SIGNAL_INTR_ON, 0);
    go(CODE);
    assert_int_equal(tm_read(t, S.gpr[RSP], 8), CODE + 0x40);
    assert_int_equal(tm_read(t, S.gpr[RSP] + 16, 8), 2 | FL_IF | FL_RF);
}

static void rep_is_interrupted_and_goes_on(void **state)
{
    enum { AT = 0x200000, N = 10000 };
    put(CODE, BYTES(0xF3, 0xAA, 0xF4)); // rep stosb; hlt
    u64 deadline;
    t->v->clock_next = &deadline;
    t->v->board = &board;
    next_vector = 0x40;
    for (u64 units = 1; units < 600; units += 37) {
        memset(t->p.ram + AT, 0, N + 1);
        S.gpr[RDI] = AT, S.gpr[RCX] = N, S.gpr[RAX] = 0x55, S.gpr[RSP] = STACK;
        S.rip = CODE, S.activity = ACTIVITY_ACTIVE, S.rflags = 2 | FL_IF;
        cpu_attention(t->v);
        deadline = (S.units + units) * CPU_TICKS_PER_UNIT + S.skipped;
        assert_int_equal(vcpu_run(t->v, 100000), RUN_BUDGET);
        assert_int_equal(S.rip, CODE);
        assert_int_equal(S.gpr[RCX], N - 16 * units); // a unit of time for 16 bytes
        assert_int_equal(S.gpr[RDI], AT + 16 * units);
        assert_int_equal(t->p.ram[AT + 16 * units - 1], 0x55);
        assert_int_equal(t->p.ram[AT + 16 * units], 0);
        deadline = UINT64_MAX;
        cpu_signal(t->v, CPU_SIGNAL_INTR_ON, 0);
        assert_int_equal(vcpu_run(t->v, 100000), RUN_HALTED);
        assert_int_equal(tm_read(t, S.gpr[RSP], 8), CODE);
        assert_int_equal(tm_read(t, S.gpr[RSP] + 16, 8),
                         2 | FL_IF | FL_RF); // between two iterations (SDM 19.3.1.1)
        S.rflags = 2 | FL_RF;                // as the handler's IRET has it
        go(CODE);
        assert_int_equal(S.rip, CODE + 3);
        assert_int_equal(S.gpr[RCX], 0);
        assert_int_equal(t->p.ram[AT + N - 1], 0x55);
        assert_int_equal(t->p.ram[AT + N], 0);
        assert_int_equal(S.rflags & FL_RF, 0);
    }
}

// Both engines: a state that is not NULL asks for the loop.
#define BOTH(f, kind) \
    {#f " (threaded)", f, kind##_setup, teardown, NULL}, { #f " (loop)", f, kind##_setup, teardown, &in_loop }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(store_into_the_next_instruction, long),
        BOTH(store_into_a_loop_that_runs, long),
        BOTH(store_from_another_page, long),
        BOTH(store_through_another_mapping, long),
        BOTH(store_by_a_device, long),
        BOTH(next_page_of_another_mapping, long),
        BOTH(instruction_across_pages, long),
        BOTH(long_instruction_across_pages, long),
        BOTH(counters_run_out, long),
        BOTH(bytes_of_the_next_page_are_fetched_only_when_needed, long),
        BOTH(page_remapped_under_linked_code, long),
        BOTH(code_written_while_the_slice_is_long, long),
        BOTH(device_input_into_the_running_code, long),
        BOTH(limits_are_not_linked, prot),
        BOTH(wrappers_of_flat_code, prot),
        BOTH(over_the_border_at_4_gib, prot),
        BOTH(sixteen_bit_code_over_4_gib, prot),
        BOTH(slices_end_at_the_exact_instruction, long),
        BOTH(deadlines_are_exact, long),
        BOTH(shadows_cover_one_instruction, long),
        BOTH(interrupts_at_once, long),
        BOTH(rf_lives_for_one_instruction, long),
        BOTH(rep_is_interrupted_and_goes_on, long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
