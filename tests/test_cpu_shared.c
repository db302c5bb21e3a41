// Processors that share their memory: whatever one of them, or a device, stores into code, the others run the
// new bytes, whichever of them decoded the old ones, in both engines (SDM 3A, "Handling Self- and
// Cross-Modifying Code": between the store and the run each has come out of a HLT, or time has passed).
#include <stdio.h>
#include <unistd.h>

#include "cpu_machine.h"

#include "cpu/engine/engine.h"

static struct tm *t;
static struct vcpu *runner, *writer;
enum { PAGES = 0x100000 }; // where each store finds pages that none has touched

// A test's state: which of the two runs, and the engine.
struct roles {
    unsigned runner;
    bool loop;
};
static struct roles roles[4] = {{0, false}, {0, true}, {1, false}, {1, true}};

static struct vcpu *twin_of(const struct vcpu *v, unsigned index)
{
    struct vcpu *w = vcpu_new(index, v->phys, v->features);
    assert_non_null(w);
    w->s = v->s;
    cpu_drop_derived(w);
    cpu_mode_changed(w);
    return w;
}

static int setup(void **state)
{
    const struct roles *r = *state;
    t = tm_new(TM_LONG);
    struct vcpu *second = twin_of(t->v, 1);
    runner = r->runner ? second : t->v, writer = r->runner ? t->v : second;
    if (r->loop) runner->loop_engine = writer->loop_engine = true;
    writer->s.gpr[RSP] = STACK + 0x1000;
    return 0;
}

static int teardown(void **state)
{
    vcpu_free(writer == t->v ? runner : writer);
    tm_free(t);
    return 0;
}

#define BYTES(...) (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__})
static void put(u64 at, const u8 *bytes, size_t n) { phys_write(&t->p, 0, at, bytes, n); }

static void go(struct vcpu *v, u64 rip)
{
    v->s.rip = rip;
    v->s.activity = ACTIVITY_ACTIVE;
    cpu_attention(v);
    assert_int_equal(vcpu_run(v, 1000000), RUN_HALTED);
    assert_true(v->s.rip < HANDLER || v->s.rip >= HANDLER + 0x1000);
}

// ---- the ways in which a byte comes into memory; the writer's programs take RDI, AL ----
enum way { MOV, PUSH, LOCKED, MOVS, STOS, SSE, ACROSS, DEVICE, WAYS };
// clang-format off
static const struct { u8 code[16], n; } program[WAYS] = {
    [MOV] = {{0x88, 0x07, 0xF4}, 3},                                // mov [rdi],al
    [PUSH] = {{0x48, 0x89, 0xE3, 0x48, 0x8D, 0x67, 0x08, 0x50, 0x48, 0x89, 0xDC, 0xF4}, 12}, // mov rbx,rsp; lea rsp,[rdi+8]; push rax; mov rsp,rbx
    [LOCKED] = {{0xF0, 0x86, 0x07, 0xF4}, 4},                       // lock xchg [rdi],al
    [MOVS] = {{0x88, 0x06, 0xF3, 0xA4, 0xF4}, 5},                   // mov [rsi],al; rep movsb
    [STOS] = {{0xF3, 0xAA, 0xF4}, 3},                               // rep stosb
    [SSE] = {{0x66, 0x48, 0x0F, 0x6E, 0xC0, 0x66, 0x0F, 0xD6, 0x07, 0xF4}, 10}, // movq xmm0,rax; movq [rdi],xmm0
    [ACROSS] = {{0x66, 0x89, 0x47, 0xFF, 0xF4}, 5},                 // mov [rdi-1],ax, at the start of a page: two pages at once
};
// clang-format on

static void store(enum way way, u64 at, u64 value)
{
    enum { AT = 0x9800, SOURCE = 0x9000 };
    if (way == DEVICE) {
        phys_write(&t->p, 0, at, &value, 1);
        return;
    }
    // once, so that it is linked and fast
    if (writer->s.rip != (u64)AT + program[way].n) put(AT, program[way].code, program[way].n);
    writer->s.gpr[RAX] = way == ACROSS ? value << 8 | 0x90 : value;
    writer->s.gpr[RDI] = at, writer->s.gpr[RSI] = SOURCE, writer->s.gpr[RCX] = 1;
    go(writer, AT);
}

// ebp = 3; again: call `routine`; add ebx,eax; dec ebp; jnz again; hlt
static u64 sum_of_three(u64 routine)
{
    u8 c[] = {0xBD, 3, 0, 0, 0, 0xE8, 0, 0, 0, 0, 0x01, 0xC3, 0xFF, 0xCD, 0x75, 0xF5, 0xF4};
    u32 rel = (u32)(routine - (CODE + 10));
    memcpy(c + 6, &rel, 4);
    if (memcmp(t->p.ram + CODE, c, sizeof c) != 0) put(CODE, c, sizeof c); // linked, the second time
    runner->s.gpr[RBX] = 0;
    go(runner, CODE);
    return runner->s.gpr[RBX];
}

// A routine whose immediate the other processor writes, with and without having opened the page for direct
// stores before it held code; and again and again, when all of it is linked.
static void code_is_written(void **state)
{
    u64 routine = PAGES;
    for (enum way way = 0; way < WAYS; way++)
        for (unsigned opened = 0; opened < 2; opened++, routine += PAGE_SIZE) {
            if (way == ACROSS) continue;
            u64 behind = way == PUSH || way == SSE ? 0xC3ull << 32 : 0; // these store eight bytes
            if (opened) store(way, routine + 0x80, 0);
            put(routine, BYTES(0xB8, 1, 0, 0, 0, 0xC3)); // mov eax,1; ret
            assert_int_equal(sum_of_three(routine), 3);
            for (u64 x = 2; x < 6; x++) {
                store(way, routine + 1, behind | x);
                if (sum_of_three(routine) != 3 * x)
                    fail_msg("way %u, opened %u: the old code ran", way, opened);
            }
        }
}

// One store into two pages of code: NOP | MOV AL,1, which becomes MOV AH,1; movzx eax,al; ret
static void two_pages_are_written_at_once(void **state)
{
    for (unsigned opened = 0; opened < 2; opened++) {
        u64 second = PAGES + (2 * opened + 1) * PAGE_SIZE;
        if (opened) store(ACROSS, second, 0), store(MOV, second + 0x80, 0), store(MOV, second - 0x80, 0);
        put(second - 1, BYTES(0x90, 0xB0, 1, 0x0F, 0xB6, 0xC0, 0xC3));
        for (unsigned again = 0; again < 3; again++) {
            assert_int_equal(sum_of_three(second - 1), 3);
            store(ACROSS, second, 0xB4);
            runner->s.gpr[RAX] = 7;
            assert_int_equal(sum_of_three(second - 1), 3 * 7);
            store(ACROSS, second, 0xB0);
        }
    }
}

// The processor stands in the midst of a loop (of one block, of linked ones) when its code is written.
static void code_is_written_between_two_slices(void **state)
{
    // again: mov al,1; add ebx,eax (six times); jmp again
    u8 c[] = {0xB0, 1, 0x01, 0xC3, 0x01, 0xC3, 0x01, 0xC3, 0x01, 0xC3, 0x01, 0xC3, 0x01, 0xC3, 0xEB, 0xF0};
    put(CODE, c, sizeof c);
    runner->s.rip = CODE, runner->s.gpr[RAX] = runner->s.gpr[RBX] = 0;
    u64 at = 0, sum = 0, al = 0; // what the program itself does
    for (unsigned i = 0; i < 200; i++) {
        u8 value = (u8)(i % 7);
        u64 units = 1 + i * 5 % 23;
        cpu_attention(runner);
        assert_int_equal(vcpu_run(runner, units), RUN_BUDGET);
        for (u64 k = 0; k < units; k++, at = (at + 1) % 8) {
            if (at == 0)
                al = t->p.ram[CODE + 1];
            else if (at < 7)
                sum += al;
        }
        assert_int_equal(runner->s.gpr[RBX], sum);
        store(i % 2 ? MOV : DEVICE, CODE + 1, value);
    }
}

static void second_half_of_an_instruction(void **state)
{
    enum { START = PAGES + PAGE_SIZE - 2 }; // mov eax,imm32: three bytes of it in the next page
    for (unsigned way = 0; way < 2; way++) {
        if (way) store(MOV, START + 0x100, 0);
        put(START, BYTES(0xB8, 1, 0, 0, 0, 0xC3));
        assert_int_equal(sum_of_three(START), 3);
        store(way ? MOV : DEVICE, START + 2, 1);
        assert_int_equal(sum_of_three(START), 3 * 0x101);
        store(way ? MOVS : DEVICE, START + 1, 2);
        assert_int_equal(sum_of_three(START), 3 * 0x102);
        store(way ? MOV : DEVICE, START + 2, 0);
        assert_int_equal(sum_of_three(START), 3 * 2);
    }
}

// Both have decoded the page: what one forgets the other still has.
static void one_forgets_its_code(void **state)
{
    enum { ROUTINE = PAGES };
    void (*const forget[])(struct vcpu *) = {cpu_drop_derived, cpu_drop_fast};
    for (unsigned i = 0; i < 3; i++) {
        put(ROUTINE, BYTES(0xB8, 1, 0, 0, 0, 0xC3, 0xF4));
        go(writer, ROUTINE + 6);
        assert_int_equal(sum_of_three(ROUTINE), 3);
        if (i < 2)
            forget[i](writer);
        else {
            struct vcpu_state s = writer->s;
            vcpu_reset(writer, true);
            writer->s = s;
            cpu_mode_changed(writer), cpu_context_changed(writer);
        }
        for (u64 x = 2; x < 5; x++) {
            store(MOV, ROUTINE + 1, x);
            assert_int_equal(sum_of_three(ROUTINE), 3 * x);
        }
    }
}

// Nothing is guarded for longer than somebody has code there: the page is open for direct stores again.
static void the_page_is_opened_again(void **state)
{
    enum { ROUTINE = PAGES };
    put(ROUTINE, BYTES(0xB8, 1, 0, 0, 0, 0xC3));
    assert_int_equal(sum_of_three(ROUTINE), 3);
    assert_int_not_equal(t->p.code[ROUTINE >> PAGE_SHIFT], 0);
    store(MOV, ROUTINE + 0x400, 1); // another line
    assert_int_not_equal(t->p.code[ROUTINE >> PAGE_SHIFT], 0);
    store(MOV, ROUTINE, 0x90);
    assert_int_equal(t->p.code[ROUTINE >> PAGE_SHIFT], 0);
    put(ROUTINE, BYTES(0xB8));
    assert_int_equal(sum_of_three(ROUTINE), 3);
    cpu_drop_derived(runner);
    assert_int_equal(t->p.code[ROUTINE >> PAGE_SHIFT], 0);
}

// The host's memory follows what is used: sixteen processors that have run, and dropped all that they had
// derived.
static u64 resident(void)
{
    unsigned long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f) {
        if (fscanf(f, "%lu %lu", &total, &pages) != 2) pages = 0;
        fclose(f);
    }
    return pages * (u64)sysconf(_SC_PAGESIZE);
}

static void sixteen_processors(void **state)
{
    enum { N = 16 };
    u64 before = resident();
    if (!before) skip(); // a host that does not say
    struct phys p;
    const char *why;
    struct vcpu *v[N];
    assert_true(phys_init(&p, 8ull << 30, &why));
    before = resident();
    for (unsigned i = 0; i < N; i++) {
        v[i] = vcpu_new(i, &p, &t->f);
        assert_non_null(v[i]);
        u64 at = 0x800 * (i + 1); // real mode: 100 NOPs; hlt
        memset(p.ram + at, 0x90, 100), p.ram[at + 100] = 0xF4;
        for (unsigned again = 0; again < 2; again++) {
            v[i]->s.seg[SEG_CS].base = v[i]->s.seg[SEG_CS].sel = 0;
            v[i]->s.rip = at, v[i]->s.activity = ACTIVITY_ACTIVE;
            cpu_mode_changed(v[i]), cpu_attention(v[i]);
            assert_int_equal(vcpu_run(v[i], 1000), RUN_HALTED);
            cpu_drop_derived(v[i]);
        }
    }
    u64 used = resident() - before;
    assert_in_range(used, 0, 100 << 20);
    for (unsigned i = 0; i < N; i++) vcpu_free(v[i]);
    phys_free(&p);
}

// clang-format off
#define ALL(f)                                                                                                         \
    {#f " (first, threaded)", f, setup, teardown, &roles[0]}, {#f " (first, loop)", f, setup, teardown, &roles[1]},    \
        {#f " (second, threaded)", f, setup, teardown, &roles[2]}, {#f " (second, loop)", f, setup, teardown, &roles[3]}
// clang-format on

int main(void)
{
    // clang-format off
    const struct CMUnitTest tests[] = {
        ALL(code_is_written), ALL(two_pages_are_written_at_once), ALL(code_is_written_between_two_slices), ALL(second_half_of_an_instruction),
        ALL(one_forgets_its_code), ALL(the_page_is_opened_again),
        {"sixteen_processors", sixteen_processors, setup, teardown, &roles[0]},
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}
