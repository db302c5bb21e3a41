// What emitted code will stand on: a body in three forms, checked, callable and tail-threaded. A function in
// C plays the emitted code: it takes a block's place and calls the callable form of each instruction, and the
// checked one where that cannot go on.
#include <sys/mman.h>

#include "cpu_machine.h"

#include "cpu/engine/exec.h"
#include "cpu/engine/fp.h"

enum { UNMAPPED = 0x1000000, SPAN = 0x1000, TABLES = 0x50000 }; // above the tables' 16 MiB: not present

static unsigned called, refused; // callable forms that went on, and that did not
static u8 seen[2048];            // rows that went on
static struct vcpu_state before; // of a callable form
static u8 ram_before[SPAN];
static bool loop_only; // a sanitizer's build by gcc: no block is entered

static void emitted(struct vcpu *v, const struct insn *in);

// Behind the branch that ends a block: to the next one, which is emitted code too.
static void emitted_branch(struct vcpu *v, const struct insn *in)
{
    if (!v->d.attention && v->d.budget > 0) block_find(v)->in[0].exec = emitted;
    exec_goto(v, in);
}

// Emitted code for a block. Without a branch the last of its instructions is the pseudo-instruction that ends
// it.
static void emitted(struct vcpu *v, const struct insn *in)
{
    const struct block *b = insn_block(in);
    for (; in != b->in + b->n; in++) {
        call_fn *call = decode_callable(in, v->d.mode);
        before = v->s;
        memcpy(ram_before, v->phys->ram + DATA, SPAN);
        if (call && call(v, in)) {
            called++;
            seen[in->row] = 1;
            if (in->term) {
                v->s.rip = v->d.npc;
                emitted_branch(v, in);
                return;
            }
            continue;
        }
        if (call) {
            refused++;
            assert_memory_equal(&v->s, &before, sizeof before); // nothing has happened
            assert_memory_equal(v->phys->ram + DATA, ram_before, SPAN);
        }
        if (exec_checked(v, in)) continue;
        if (in->term) emitted_branch(v, in);
        return;
    }
    in->exec(v, in);
}

// ---- the same as machine code: the host's instructions, written by hand ----
#if defined(__x86_64__)
struct emitter {
    u8 *at, *end;
};
static unsigned emitters_run;
static void emit_bytes(struct emitter *e, const void *bytes, size_t n)
{
    assert_true((size_t)(e->end - e->at) >= n);
    memcpy(e->at, bytes, n);
    e->at += n;
}
#define EMIT(e, ...) emit_bytes(e, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
// rdi: the processor, which RBX keeps; rsi: the instruction; rax: whom to call.
static void emit_arguments(struct emitter *e, const void *in, const void *whom)
{
    EMIT(e, 0x48, 0x89, 0xDF, 0x48, 0xBE); // mov rdi,rbx; mov rsi,in
    emit_bytes(e, &in, 8);
    EMIT(e, 0x48, 0xB8); // mov rax,whom
    emit_bytes(e, &whom, 8);
}

// An emitter, for the ADD of the program with 32-bit registers: no call at all.
static bool emit_add(struct emitter *e, const struct insn *in)
{
    u32 to = in->m, from = in->r, flags = offsetof(struct vcpu, s.fl);
    if (in->osz != W32 || in->mem) return false;
    EMIT(e, 0x8B, 0x8B); // mov ecx,[rbx+to]
    emit_bytes(e, &to, 4);
    EMIT(e, 0x03, 0x8B); // add ecx,[rbx+from]
    emit_bytes(e, &from, 4);
    EMIT(e, 0x9F, 0x0F, 0x90, 0xC0, 0x48, 0x89, 0x8B); // lahf; seto al; mov [rbx+to],rcx
    emit_bytes(e, &to, 4);
    EMIT(e, 0x66, 0x89, 0x83); // mov [rbx+flags],ax
    emit_bytes(e, &flags, 4);
    emitters_run++;
    return true;
}

// The row's body as a translator would have it: with an emitter for one of them.
static struct body body_of(const struct insn *in)
{
    struct body body = *rows[in->row].body;
    if (!strcmp(rows[in->row].name, "add")) body.emit = emit_add;
    return body;
}

static exec_fn *assemble(const struct block *b, u8 *room, size_t size)
{
    struct emitter e = {room, room + size};
    EMIT(&e, 0x53, 0x48, 0x89, 0xFB); // push rbx; mov rbx,rdi
    for (const struct insn *in = b->in; in != b->in + b->n && !in->term; in++) {
        struct body body = body_of(in);
        call_fn *call = decode_callable(in, b->mode);
        if (body.emit && body.emit(&e, in)) continue;
        u8 *went_on = NULL;
        if (call) {
            emit_arguments(&e, in, (const void *)(uintptr_t)call);
            EMIT(&e, 0xFF, 0xD0, 0x84, 0xC0, 0x75, 0); // call rax; test al,al; jnz
            went_on = e.at;
        }
        emit_arguments(&e, in, (const void *)(uintptr_t)exec_checked);
        EMIT(&e, 0xFF, 0xD0, 0x84, 0xC0, 0x75, 2, 0x5B, 0xC3); // call rax; test al,al; jnz over; pop rbx; ret
        if (went_on) went_on[-1] = (u8)(e.at - went_on);
    }
    // what ends the block goes on by itself
    const struct insn *last = b->in[b->n - 1].term ? &b->in[b->n - 1] : &b->in[b->n];
    emit_arguments(&e, last, (const void *)(uintptr_t)last->exec);
    EMIT(&e, 0x5B, 0xFF, 0xE0); // pop rbx; jmp rax
    return (exec_fn *)(uintptr_t)room;
}
#endif

enum engine_kind { THREADED, LOOP, EMITTED };

static struct tm *program_new(enum engine_kind kind, u64 at, const u8 *code, size_t n)
{
    struct tm *t = tm_new(TM_LONG);
    // The last page of the lower half of the canonical addresses is CODE's.
    tm_write64(t, PML4 + 8 * 255, TABLES | 7);
    tm_write64(t, TABLES + 8 * 511, (TABLES + 0x1000) | 7);
    tm_write64(t, TABLES + 0x1000 + 8 * 511, (TABLES + 0x2000) | 7);
    tm_write64(t, TABLES + 0x2000 + 8 * 511, CODE | 0x67);
    struct vcpu_state *s = &t->v->s;
    t->v->loop_engine = kind == LOOP;
    for (unsigned i = 0; i < 16; i++)
        if (i != RSP) s->gpr[i] = 0x1234567890ABCDEFull * (i + 3);
    s->gpr[RSI] = DATA + 0x100;
    s->gpr[RDI] = UNMAPPED;
    s->gpr[RCX] = 5;
    for (unsigned i = 0; i < 16; i++)
        s->xmm[i][0] = 0x3FF8000000000000ull + i, s->xmm[i][1] = 0x4008000000000000ull - i;
    for (unsigned i = 0; i < SPAN; i++) t->p.ram[DATA + i] = (u8)(i * 7 + 1);
    tm_write(t, CODE + (at & ~PAGE_MASK), code, n);
    s->rip = at;
    s->activity = ACTIVITY_ACTIVE;
    return t;
}

static struct tm *run(enum engine_kind kind, u64 at, const u8 *code, size_t n)
{
    struct tm *t = program_new(kind, at, code, n);
    struct block *b = block_find(t->v); // in all three, as it fills the instruction TLB
    if (kind == EMITTED && !loop_only) b->in[0].exec = emitted;
    assert_int_equal(vcpu_run(t->v, 1000000), RUN_HALTED);
    return t;
}

static const u8 program[] = {
    // mov [rsi],rax: the first access to the page misses the fast table
    0x48, 0x89, 0x06, 0x48, 0x8B, 0x5E, 0x08, // mov rbx,[rsi+8]
    0x01, 0xD8,                               // add eax,ebx
    0x48, 0x11, 0x46, 0x10,                   // adc [rsi+16],rax
    0xC1, 0xE3, 0x07,                         // shl ebx,7
    0xD3, 0xFA,                               // sar edx,cl
    0x48, 0x0F, 0xAF, 0x56, 0x18,             // imul rdx,[rsi+24]
    0x50,                                     // push rax
    0x41, 0x58,                               // pop r8
    0x4C, 0x8D, 0x4C, 0x8E, 0x10,             // lea r9,[rsi+rcx*4+16]
    0x0F, 0xB6, 0x44, 0x8E, 0x02,             // movzx eax,byte [rsi+rcx*4+2]
    0x48, 0x0F, 0x43, 0x56, 0x20,             // cmovae rdx,[rsi+32]
    0x0F, 0x92, 0x46, 0x28,                   // setb byte [rsi+40]
    0x0F, 0xBA, 0xE2, 0x09,                   // bt edx,9
    0xF3, 0x0F, 0x6F, 0x46, 0x31,             // movdqu xmm0,[rsi+49]
    0x66, 0x0F, 0xFC, 0xC8,                   // paddb xmm1,xmm0
    0x66, 0x0F, 0x58, 0xD3,                   // addpd xmm2,xmm3
    0xF2, 0x0F, 0x2C, 0xC2,                   // cvttsd2si eax,xmm2
    0xF2, 0x0F, 0x11, 0x56, 0x50,             // movsd [rsi+80],xmm2
    0x48, 0x83, 0x07, 0x01,                   // add qword [rdi],1: page fault
    0xB8, 1,    0,    0,    0,                // mov eax,1
    0xF4,
};
enum { FAULT_AT = sizeof program - 10, FAULT_INDEX = 20 };

static void block_of_callable_forms(void **state)
{
    struct tm *t[3];
    if (loop_only || !fp_host_capable()) skip();
    called = refused = 0;
    memset(seen, 0, sizeof seen);
    for (unsigned k = 0; k < 3; k++) t[k] = run((enum engine_kind)k, CODE, program, sizeof program);
    unsigned rows_seen = 0;
    for (unsigned i = 0; i < sizeof seen; i++) rows_seen += seen[i];
    assert_true(rows_seen >= 17);
    // The first MOV to the page, PUSH to the stack, and what faulted.
    assert_int_equal(refused, 3);
    assert_int_equal(called + refused, FAULT_INDEX);
    for (unsigned k = 0; k < 3; k++) {
        struct vcpu_state *s = &t[k]->v->s;
        assert_int_equal(s->rip, HANDLER + 16 * 14 + 1);
        assert_int_equal(s->cr2, UNMAPPED);
        // error code: a write, not present
        assert_int_equal(tm_read(t[k], s->gpr[RSP], 8), 2);
        // RIP of the instruction that faulted
        assert_int_equal(tm_read(t[k], s->gpr[RSP] + 8, 8), CODE + FAULT_AT);
        assert_int_equal(cpu_retired(t[k]->v), FAULT_INDEX - 1 + 1); // what came before it, and HLT
        assert_memory_equal(s, &t[THREADED]->v->s, sizeof *s);
        assert_memory_equal(t[k]->p.ram, t[THREADED]->p.ram, 16 << 20);
    }
    for (unsigned k = 0; k < 3; k++) tm_free(t[k]);
}

// Machine code in the place of the block: it calls the callable forms, falls back to the checked one, has one
// row's own code, and is left by the fault in its middle. (The program's block ends in no branch: HLT is of
// the next.)
static void block_as_machine_code(void **state)
{
#if defined(__x86_64__)
    enum { ROOM = 0x4000 };
    if (loop_only || !fp_host_capable()) skip();
    u8 *room = mmap(NULL, ROOM, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) skip(); // a host that lets nobody write code
    emitters_run = 0;
    struct tm *t[2];
    for (unsigned k = 0; k < 2; k++) {
        t[k] = program_new(k ? THREADED : LOOP, CODE, program, sizeof program);
        struct block *b = block_find(t[k]->v);
        assert_in_range(b->n, FAULT_INDEX + 1, FAULT_INDEX + 2);
        if (k) b->in[0].exec = assemble(b, room, ROOM);
        assert_int_equal(vcpu_run(t[k]->v, 1000000), RUN_HALTED);
        assert_int_equal(t[k]->v->s.rip, HANDLER + 16 * 14 + 1);
    }
    assert_int_equal(emitters_run, 1);
    assert_memory_equal(&t[1]->v->s, &t[0]->v->s, sizeof t[0]->v->s);
    assert_memory_equal(t[1]->p.ram, t[0]->p.ram, 16 << 20);
    for (unsigned k = 0; k < 2; k++) tm_free(t[k]);
    munmap(room, ROOM);
#else
    skip();
#endif
}

// CALL, RET, JMP and Jcc, relative and indirect, over and over.
static const u8 branches[] = {
    0x31, 0xC0,                      // 00 xor eax,eax
    0x4C, 0x8D, 0x25, 0x15, 0, 0, 0, // 02 lea r12,[rip+15h]: 1Eh
    0x4C, 0x89, 0x26,                // 09 mov [rsi],r12
    0xE8, 0x0A, 0,    0,    0,       // 0C call 1Bh
    0xFF, 0x16,                      // 11 call [rsi]
    0x3C, 0x40,                      // 13 cmp al,40h
    0x72, 0xF5,                      // 15 jb 0Ch
    0xEB, 0x0A,                      // 17 jmp 23h
    0x90, 0xF4,                      // 19
    0xFF, 0xC0, 0xC3,                // 1B inc eax; ret
    0xFF, 0xC0, 0xC2, 0,    0,       // 1E inc eax; ret 0
    0x41, 0xFF, 0xD4,                // 23 call r12
    0x79, 0x01,                      // 26 jns 29h
    0xF4,                            // 28
    0xF4,                            // 29
};
static void blocks_that_branch(void **state)
{
    struct tm *t[3];
    called = refused = 0;
    for (unsigned k = 0; k < 3; k++) t[k] = run((enum engine_kind)k, CODE, branches, sizeof branches);
    if (!loop_only) assert_true(called > 32 * 7);
    for (unsigned k = 0; k < 3; k++) {
        struct vcpu_state *s = &t[k]->v->s;
        assert_int_equal(s->rip, CODE + 0x2A);
        assert_int_equal(s->gpr[RAX], 0x41);
        assert_int_equal(s->gpr[RSP], STACK);
        assert_int_equal(cpu_retired(t[k]->v), 3 + 32 * 8 + 1 + 3 + 2);
        assert_memory_equal(s, &t[THREADED]->v->s, sizeof *s);
    }
    for (unsigned k = 0; k < 3; k++) tm_free(t[k]);
}

// A relative branch whose target is not canonical is refused by the branch, not by the fetch there (SDM
// volume 2, JMP, CALL, Jcc).
static void branch_out_of_canonical_space(void **state)
{
    static const u8 code[][5] = {{0xEB, 0x7F}, {0xE8, 0x7F, 0, 0, 0}, {0x70, 0x7F, 0x71, 0x7F}};
    static const u64 end = 0x7FFFFFFFFFF0;
    for (unsigned i = 0; i < 3; i++)
        for (unsigned k = 0; k < 3; k++) {
            struct tm *t = run((enum engine_kind)k, end, code[i], sizeof code[i]);
            u64 rip = tm_read(t, t->v->s.gpr[RSP] + 8, 8);
            assert_int_equal(t->v->s.rip, HANDLER + 16 * 13 + 1);
            assert_true(rip == end || (i == 2 && rip == end + 2));
            assert_int_equal(tm_read(t, t->v->s.gpr[RSP] + 32, 8), STACK); // the CALL pushed nothing
            tm_free(t);
        }
}

// In every row: where there is a tail-threaded form of an instruction, there is a callable one.
static void every_fast_body_is_callable(void **state)
{
    unsigned n = 0;
    for (unsigned i = 0; i < rows_n; i++)
        for (unsigned w = 0; w < 4; w++)
            for (unsigned form = 0; form < 4; form++) {
                const struct body *b = rows[i].body;
                if (!b->fast[0][w][form] != !b->call[w][form])
                    fail_msg("row %u, %s, width %u, form %u: only one of tail-threaded and callable", i,
                             rows[i].name, w, form);
                n += b->call[w][form] != NULL;
            }
    assert_true(n > 2000);
}

// In every row, width and form: nothing is in the fast table, so a callable form with a memory operand, or on
// the stack, goes on only if it does not touch memory; and when it does not go on, nothing has happened.
static void forms_that_cannot_go_on_change_nothing(void **state)
{
    struct tm *t = tm_new(TM_LONG);
    struct vcpu *v = t->v;
    unsigned refusals = 0;
    static u64 room[(sizeof(struct block) + 2 * sizeof(struct insn)) / sizeof(u64)];
    struct insn *in = ((struct block *)room)->in;
    for (unsigned i = 0; i < rows_n; i++)
        for (unsigned w = 0; w < 4; w++)
            for (unsigned form = FORM_REG; form <= FORM_S; form++) {
                call_fn *call = rows[i].body->call[w][form];
                // no such encoding
                if (!call || row_mod(&rows[i]) == (form == FORM_REG ? MOD_MEM : MOD_REG)) continue;
                // not offered: its body may be an instruction that the host has not
                if (rows[i].feature && !cpuid_host((enum feature)rows[i].feature)) continue;
                memset(in, 0, sizeof *in);
                in->row = (u16)i, in->len = 3, in->osz = w & 3, in->asz = W64, in->seg = SEG_DS;
                in->op = rows[i].opcode;
                if (rows[i].vex) in->v = rows[i].unit & UNIT_AVX ? 1 : GPR_OFF(RDX);
                in->mem = form != FORM_REG;
                in->r = row_has(&rows[i], 1 << KIND_G | 1 << KIND_Z) ? GPR_OFF(RDX) : 2;
                in->m = form == FORM_REG ? row_has(&rows[i], 1 << KIND_W | 1 << KIND_U) ? 3 : GPR_OFF(RBX)
                                         : GPR_OFF(RSI);
                in->x = form == FORM_B ? GPR_ZERO_OFF : GPR_OFF(RCX);
                in->imm = 3;
                for (unsigned g = 0; g < 16; g++)
                    if (g != RSP) v->s.gpr[g] = 0x0123456789ABCDEFull * (g + 1);
                v->s.gpr[RSI] = DATA;
                v->s.gpr[RCX] = 0x20;
                v->s.gpr[RBP] = v->s.gpr[RSP] = STACK;
                before = v->s;
                s64 budget = v->d.budget;
                bool went_on = call(v, in);
                bool leaves_memory = !strcmp(rows[i].name, "lea") || !strcmp(rows[i].name, "nop") ||
                                     strstr(rows[i].name, "prefetch");
                if (form != FORM_REG && went_on && !leaves_memory)
                    fail_msg("%s went on without its operand", rows[i].name);
                if (!went_on) {
                    refusals++;
                    if (memcmp(&v->s, &before, sizeof before) || v->d.budget != budget ||
                        v->d.event.kind != EVENT_NONE)
                        fail_msg("%s, width %u, form %u: changed the state and did not go on", rows[i].name,
                                 w, form);
                }
            }
    assert_true(refusals > 1000);
    tm_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_of_callable_forms),
        cmocka_unit_test(block_as_machine_code),
        cmocka_unit_test(blocks_that_branch),
        cmocka_unit_test(branch_out_of_canonical_space),
        cmocka_unit_test(every_fast_body_is_callable),
        cmocka_unit_test(forms_that_cannot_go_on_change_nothing),
    };
    struct tm *probe = tm_new(TM_LONG);
    loop_only = probe->v->loop_engine;
    tm_free(probe);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
