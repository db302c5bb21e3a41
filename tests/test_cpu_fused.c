// A comparison and its branch in one body do what both do one after the other: each pair, each condition,
// operands for every mixture of flags, taken and not, and with a memory operand that is not in the fast table
// yet.
#include "cpu_machine.h"

#include "cpu/engine/exec.h"

static bool loop_only; // a sanitizer's build by gcc: no block is entered

// Encodings of what goes before, with EBX or [RSI] for r/m and ECX for reg.
static const struct first {
    const char *name;
    u8 n, code[4];
} firsts[] = {
    {"cmp ebx,ecx", 2, {0x39, 0xCB}},
    {"cmp [rsi],ecx", 2, {0x39, 0x0E}},
    {"cmp rbx,rcx", 3, {0x48, 0x39, 0xCB}},
    {"cmp [rsi],rcx", 3, {0x48, 0x39, 0x0E}},
    {"cmp ecx,[rsi]", 2, {0x3B, 0x0E}},
    {"cmp rcx,[rsi]", 3, {0x48, 0x3B, 0x0E}},
    {"cmp bl,7", 3, {0x80, 0xFB, 0x07}},
    {"cmp byte [rsi],7", 3, {0x80, 0x3E, 0x07}},
    {"cmp ebx,7", 3, {0x83, 0xFB, 0x07}},
    {"cmp dword [rsi],7", 3, {0x83, 0x3E, 0x07}},
    {"cmp rbx,7", 4, {0x48, 0x83, 0xFB, 0x07}},
    {"cmp qword [rsi],7", 4, {0x48, 0x83, 0x3E, 0x07}},
    {"test bl,cl", 2, {0x84, 0xCB}},
    {"test ebx,ecx", 2, {0x85, 0xCB}},
    {"test rbx,rcx", 3, {0x48, 0x85, 0xCB}},
    {"test bl,7", 3, {0xF6, 0xC3, 0x07}},
    {"test byte [rsi],7", 3, {0xF6, 0x06, 0x07}},
    {"and ebx,7", 3, {0x83, 0xE3, 0x07}},
    {"add rbx,7", 4, {0x48, 0x83, 0xC3, 0x07}},
    {"sub rbx,rcx", 3, {0x48, 0x29, 0xCB}},
    {"sub ebx,7", 3, {0x83, 0xEB, 0x07}},
    {"sub rbx,7", 4, {0x48, 0x83, 0xEB, 0x07}},
    {"dec ebx", 2, {0xFF, 0xCB}},
    {"dec rbx", 3, {0x48, 0xFF, 0xCB}},
};
static const u64 operands[][2] = {
    {0, 0},
    {1, 0},
    {0, 1},
    {7, 7},
    {6, 8},
    {8, 7},
    {0x80, 1},
    {0x7F, 0xFF},
    {0x80000000, 7},
    {7, 0x80000000},
    {0x7FFFFFFF, UINT32_MAX},
    {1ull << 63, 1},
    {INT64_MAX, UINT64_MAX},
    {UINT64_MAX, 1ull << 63},
    {8, 8},
};
enum { CONDITIONS = 0xF3FC }; // all but O, NO, P, NP

// Whether the instruction runs as itself, not together with another.
static bool is_own(const struct insn *in)
{
    const struct body *b = rows[in->row].body;
    for (unsigned w = 0; w < 4; w++)
        for (unsigned form = 0; form < 4; form++)
            if (in->exec == b->fast[0][w][form]) return true;
    return in->exec == exec_slow;
}

static struct tm *pair_new(const struct first *f, unsigned cc, bool loop)
{
    static const u8 rest[] = {6,    0xB8, 1, 0, 0, 0,   0xF4,
                              0xB8, 2,    0, 0, 0, 0xF4}; // mov eax,1; hlt; mov eax,2; hlt
    struct tm *t = tm_new(TM_LONG);
    u8 branch = (u8)(0x70 | cc);
    tm_write(t, CODE, f->code, f->n);
    tm_write(t, CODE + f->n, &branch, 1);
    tm_write(t, CODE + f->n + 1, rest, sizeof rest);
    t->v->loop_engine = loop;
    t->v->s.rip = CODE;
    return t;
}

// With `known`, the fast table knows the operand's page, and the branch has its link.
static void pair_run(struct tm *t, const u64 x[2], bool known)
{
    struct vcpu *v = t->v;
    if (!known) cpu_tlb_forget(v);
    v->s.gpr[RAX] = 0, v->s.gpr[RBX] = x[0], v->s.gpr[RCX] = x[1], v->s.gpr[RSI] = DATA;
    tm_write64(t, DATA, x[0]);
    v->s.rip = CODE, v->s.fl = 0x0200;
    v->s.activity = ACTIVITY_ACTIVE;
    assert_int_equal(vcpu_run(v, 1000), RUN_HALTED);
}

static void pairs_do_what_both_do(void **state)
{
    unsigned taken = 0, not_taken = 0;
    if (loop_only) skip();
    for (unsigned i = 0; i < ARRAY_LEN(firsts); i++)
        for (unsigned cc = 0; cc < 16; cc++) {
            const struct first *f = &firsts[i];
            struct tm *fast = pair_new(f, cc, false), *loop = pair_new(f, cc, true);
            bool fused = !is_own(block_find(fast->v)->in);
            if (fused != (CONDITIONS >> cc & 1)) fail_msg("%s, condition %u: fused %u", f->name, cc, fused);
            for (unsigned k = 0; k < 2 * ARRAY_LEN(operands); k++) {
                const u64 *x = operands[k / 2];
                const struct vcpu_state *a = &fast->v->s, *b = &loop->v->s;
                pair_run(fast, x, k & 1);
                pair_run(loop, x, k & 1);
                if (a->rip != b->rip || a->fl != b->fl || memcmp(a->gpr, b->gpr, sizeof a->gpr) ||
                    a->units != b->units)
                    fail_msg("%s, condition %u, operands %lx %lx: rip %lx and %lx, flags %x and %x, eax %lx "
                             "and %lx",
                             f->name, cc, (unsigned long)x[0], (unsigned long)x[1], (unsigned long)a->rip,
                             (unsigned long)b->rip, a->fl, b->fl, (unsigned long)a->gpr[RAX],
                             (unsigned long)b->gpr[RAX]);
                *(a->gpr[RAX] == 2 ? &taken : &not_taken) += 1;
            }
            tm_free(fast), tm_free(loop);
        }
    assert_true(taken > 1000 && not_taken > 1000);
}

// Whoever begins at the branch finds it there.
static void branch_alone(void **state)
{
    for (unsigned zero = 0; zero < 2; zero++) {
        struct tm *t = tm_new(TM_LONG);
        tm_write(t, CODE, (const u8[]){0x39, 0xCB, 0x74, 6, 0xB8, 1, 0, 0, 0, 0xF4, 0xB8, 2, 0, 0, 0, 0xF4},
                 16);
        t->v->s.gpr[RBX] = 1, t->v->s.gpr[RCX] = 2; // the comparison would say: not equal
        t->v->s.fl = zero ? 0x4000 : 0;
        t->v->s.activity = ACTIVITY_ACTIVE;
        t->v->s.rip = CODE;
        block_find(t->v);
        t->v->s.rip = CODE + 2;
        assert_int_equal(vcpu_run(t->v, 1000), RUN_HALTED);
        assert_int_equal(t->v->s.gpr[RAX], zero ? 2 : 1);
        tm_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_do_what_both_do),
        cmocka_unit_test(branch_alone),
    };
    struct tm *probe = tm_new(TM_LONG);
    loop_only = probe->v->loop_engine;
    tm_free(probe);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
