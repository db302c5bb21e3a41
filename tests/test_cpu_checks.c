// The checking build: each invariant of mmu/invariant.h that the run loop, the blocks and the bodies rely on
// is broken once, in a process of its own, which must end in panic() with the text of that check. Elsewhere
// the checks are nothing.
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu_machine.h"

#include "cpu/engine/exec.h"

#ifdef MATRYOSHKA_CHECKS
enum { CHECKS = 1 };
#else
enum { CHECKS = 0 };
#endif

static struct tm *t;
#define S (t->v->s)

static int setup(void **s) { return t = tm_new(TM_LONG), 0; }
static int teardown(void **s) { return tm_free(t), 0; }

// Runs `broken` in a child and says whether it panicked with `text`.
static void expect_panic(void (*broken)(void), const char *text)
{
    if (!CHECKS) skip();
    int fd[2];
    char said[4096];
    size_t n = 0;
    assert_int_equal(pipe(fd), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGABRT, SIG_DFL);
        dup2(fd[1], 2);
        close(fd[0]);
        close(fd[1]);
        broken();
        _exit(0);
    }
    close(fd[1]);
    for (ssize_t got; n < sizeof said - 1 && (got = read(fd[0], said + n, sizeof said - 1 - n)) > 0;)
        n += (size_t)got;
    said[n] = 0;
    close(fd[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(said, text))
        fail_msg("not \"%s\" but: %s", text, said);
}

static void code(const char *bytes, size_t n)
{
    phys_write(&t->p, 0, CODE, bytes, (unsigned)n);
    S.rip = CODE;
    S.activity = ACTIVITY_ACTIVE;
    cpu_attention(t->v);
}
#define CODE_IS(bytes) code(bytes, sizeof bytes - 1)

static void run_with_a_stale_mode(void)
{
    CODE_IS("\xF4");
    S.cr0 |= CR0_TS; // and no cpu_mode_changed
    vcpu_run(t->v, 100);
}
static void the_mode_word_at_a_boundary(void **state)
{
    expect_panic(run_with_a_stale_mode, "v->d.mode == mode_compute(v)");
}

static void run_beyond_4_gib(void)
{
    S.seg[SEG_CS].ar &= ~(u32)AR_L; // compatibility mode
    S.seg[SEG_CS].ar |= AR_DB;
    CODE_IS("\xF4");
    S.rip = BIT(32) | CODE;
    cpu_mode_changed(t->v);
    vcpu_run(t->v, 100);
}
static void rip_outside_64_bit_mode(void **state)
{
    expect_panic(run_beyond_4_gib, "v->s.rip <= UINT32_MAX");
}

// A block of NOP, CLTS, HLT, whose CLTS is made to go on in the block.
static void run_a_mode_change_inside_a_block(void)
{
    CODE_IS("\x90\x0F\x06\xF4");
    S.cr0 |= CR0_TS;
    cpu_mode_changed(t->v);
    struct block *b = block_find(t->v);
    b->in[1].term = 0;
    vcpu_run(t->v, 100);
}
static void a_mode_change_ends_the_block(void **state)
{
    expect_panic(run_a_mode_change_inside_a_block, "in->term");
}

static void run_a_block_of_another_mode(void)
{
    CODE_IS("\x90\xF4");
    block_find(t->v)->mode ^= MODE_TS;
    vcpu_run(t->v, 100);
}
static void a_block_is_of_the_mode(void **state)
{
    expect_panic(run_a_block_of_another_mode, "block_is_at_rip");
}

static void run_a_block_from_elsewhere(void)
{
    CODE_IS("\x90\xF4");
    block_find(t->v)->pa ^= 1;
    vcpu_run(t->v, 100);
}
static void a_block_is_at_rip(void **state) { expect_panic(run_a_block_from_elsewhere, "block_is_at_rip"); }

static void find_inside_an_instruction(void)
{
    CODE_IS("\x90\xF4");
    t->v->d.in = block_find(t->v)->in;
    block_find(t->v);
}
static void nothing_runs_between_instructions(void **state)
{
    expect_panic(find_inside_an_instruction, "!v->d.in");
}

// NOP, CLTS; JMP; HLT, whose block gives the slice more than it had.
static void run_a_slice_too_long(void)
{
    CODE_IS("\xF4");
    block_find(t->v)->n_check = -BLOCK_DROPPED;
    phys_write(&t->p, 0, CODE - 0x40, "\x90\x0F\x06\xEB\x3B", 5);
    S.rip = CODE - 0x40;
    vcpu_run(t->v, 100);
}
static void a_slice_is_shorter_than_a_dropped_block(void **state)
{
    if (t->v->loop_engine) skip(); // the loop counts by itself
    expect_panic(run_a_slice_too_long, "SLICE_MAX");
}

int main(void)
{
    // clang-format off
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        TEST(the_mode_word_at_a_boundary), TEST(rip_outside_64_bit_mode), TEST(a_mode_change_ends_the_block),
        TEST(a_block_is_of_the_mode), TEST(a_block_is_at_rip), TEST(nothing_runs_between_instructions),
        TEST(a_slice_is_shorter_than_a_dropped_block),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}
