// The native side: signals carry state in and out. INT3 in native_run traps; the handler swaps the
// interrupted context for the test's; the test's own exception traps again, the handler records it and puts
// native_run's context back.
#define _GNU_SOURCE
#include <string.h>

#include "tests/silicon/record.h"

#if defined(__x86_64__) && defined(__linux__)
#include <asm/ldt.h>
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

const bool native_possible = true;

// The YMM state of a signal frame lies behind its XSAVE header, in the standard format.
enum { FRAME_XSTATE_BV = 512, FRAME_YMM = 576, FRAME_SIZE = 576 + 256 };
bool native_has_ymm(void) { return __builtin_cpu_supports("avx"); } // asks XCR0 too

static const int reg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                               REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

// A signal handler has no argument of ours: the one place of the test where something is global.
static struct {
    bool inside; // a test is running
    bool wanted; // the next trap starts one
    u32 x87_known;
    const struct side_state *in;
    struct outcome *out;
    greg_t saved[NGREG];
    u8 saved_fp[FRAME_SIZE];
} run;

enum { SEL_CODE16 = 0x07, SEL_DATA16 = 0x0F, SEL_CODE32 = 0x17 }; // of the LDT

static bool ldt_set(unsigned selector, struct user_desc d)
{
    d.entry_number = selector >> 3, d.useable = 1;
    if (syscall(SYS_modify_ldt, 1, &d, sizeof d)) return false;
    bool there; // under some hypervisors (PVM) the call succeeds, and no LDT is ever loaded
    asm("lar %1, %%eax\n\tsetz %0" : "=q"(there) : "r"(selector) : "eax", "cc");
    return there;
}
// 32-bit code too is in a segment of our own: a kernel that runs no 32-bit programs has none.
bool native_has(unsigned bits)
{
    enum { DATA, CODE = 2 }; // user_desc.contents
    if (bits == 64) return true;
    if (bits == 32)
        return ldt_set(
            SEL_CODE32,
            (struct user_desc){.limit = 0xFFFFF, .limit_in_pages = 1, .seg_32bit = 1, .contents = CODE});
    return ldt_set(SEL_CODE16,
                   (struct user_desc){.base_addr = CODE_BASE, .limit = CODE_SIZE - 1, .contents = CODE}) &&
           ldt_set(SEL_DATA16,
                   (struct user_desc){.base_addr = DATA_BASE, .limit = DATA_SIZE - 1, .contents = DATA});
}

static bool all_zero(const void *p, size_t n)
{
    const u8 *b = p;
    for (size_t i = 0; i < n; i++) {
        if (b[i]) return false;
    }
    return true;
}
static bool x87_initial(const struct side_state *s)
{
    return s->fcw == 0x37F && s->fsw == 0 && s->tags == 0 && all_zero(s->st, sizeof s->st);
}

static void legacy_put(u8 *b, const struct side_state *s)
{
    memcpy(b, &s->fcw, 2);
    memcpy(b + 2, &s->fsw, 2);
    b[4] = s->tags;
    memset(b + 6, 0, 18); // FOP, FIP, FDP
    memcpy(b + 24, &s->mxcsr, 4);
    for (unsigned i = 0; i < 8; i++) memcpy(b + 32 + 16 * i, s->st[i], 10);
    memcpy(b + 160, s->xmm, sizeof s->xmm);
    u64 bv;
    // The signal frame's XSAVE header. A component in its initial configuration is said to be so: some
    // processors then count it as not in use, others go by its contents; loaded as "in use" the former would
    // say that it is.
    memcpy(&bv, b + FRAME_XSTATE_BV, 8);
    if (native_has_ymm()) {
        memcpy(b + FRAME_YMM, s->ymm_high, sizeof s->ymm_high);
        bv = (bv & ~4ull) | (all_zero(s->ymm_high, sizeof s->ymm_high) ? 0 : 4);
    }
    bv = (bv & ~3ull) | (x87_initial(s) ? 0 : 1) | (all_zero(s->xmm, sizeof s->xmm) ? 0 : 2);
    memcpy(b + 512, &bv, 8);
}

static void legacy_get(const u8 *b, struct side_state *s)
{
    memcpy(&s->fcw, b, 2);
    memcpy(&s->fsw, b + 2, 2);
    s->tags = b[4];
    memcpy(&s->mxcsr, b + 24, 4);
    for (unsigned i = 0; i < 8; i++) memcpy(s->st[i], b + 32 + 16 * i, 10);
    memcpy(s->xmm, b + 160, sizeof s->xmm);
    u64 bv;
    memcpy(&bv, b + FRAME_XSTATE_BV, 8);
    memset(s->ymm_high, 0, sizeof s->ymm_high); // in its initial configuration the frame does not have it
    if (native_has_ymm() && bv & 4) memcpy(s->ymm_high, b + FRAME_YMM, sizeof s->ymm_high);
}

void native_handler(int sig, siginfo_t *info, void *context);
__attribute__((used, visibility("hidden"))) void native_handler(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
    if (!run.inside) {
        if (!run.wanted) abort();
        memcpy(run.saved, g, sizeof run.saved);
        memcpy(run.saved_fp, fp, native_has_ymm() ? FRAME_SIZE : 512);
        for (unsigned i = 0; i < 16; i++) g[reg_of[i]] = (greg_t)run.in->gpr[i];
        g[REG_RIP] = (greg_t)run.in->rip;
        g[REG_EFL] = (greg_t)run.in->rflags;
        if (run.in->bits == 32) g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xFFFFll) | SEL_CODE32;
        legacy_put(fp, run.in);
        if (run.in->bits == 16)
            g[REG_CSGSFS] =
                (g[REG_CSGSFS] & 0x0000FFFFFFFF0000ll) | SEL_CODE16 | (greg_t)((u64)SEL_DATA16 << 48);
        run.inside = true;
        return;
    }
    struct outcome *o = run.out;
    for (unsigned i = 0; i < 16; i++) o->s.gpr[i] = (u64)g[reg_of[i]];
    o->s.rip = (u64)g[REG_RIP];
    o->s.rflags = (u64)g[REG_EFL];
    legacy_get(fp, &o->s);
    o->vector = (u32)g[REG_TRAPNO];
    o->error = (u32)g[REG_ERR];
    memcpy(&o->fop, fp + 6, 2);
    memcpy(&o->fip, fp + 8, 8);
    memcpy(&o->fdp, fp + 16, 8);
    o->x87_known = run.x87_known;
    o->cr2 = o->vector == 14 ? (u64)g[REG_CR2] : 0;
    memcpy(g, run.saved, sizeof run.saved);
    u64 was;
    memcpy(&was, run.saved_fp + FRAME_XSTATE_BV, 8);
    memcpy(fp, run.saved_fp, 512);
    u64 bv;
    memcpy(&bv, fp + FRAME_XSTATE_BV, 8);
    bv |= 3;
    if (native_has_ymm()) { // what the kernel did not save is not what the frame has behind it
        memcpy(fp + FRAME_YMM, run.saved_fp + FRAME_YMM, FRAME_SIZE - FRAME_YMM);
        bv = (bv & ~4ull) | (was & 4);
    }
    memcpy(fp + FRAME_XSTATE_BV, &bv, 8);
    run.inside = run.wanted = false;
}

// A test may run with AC set, which Linux leaves set for a handler; compiled code need not be aligned.
asm(".pushsection .text\nnative_entry:\n\tpushfq\n\tandl $0xFFFBFFFF, (%rsp)\n\tpopfq\n\tjmp "
    "native_handler\n\t.popsection");
void native_entry(int sig, siginfo_t *info, void *context) __attribute__((visibility("hidden")));

bool native_init(const char **why)
{
    int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    if (mmap((void *)CODE_BASE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, fixed, -1, 0) !=
            (void *)CODE_BASE ||
        mmap((void *)DATA_BASE, DATA_SIZE, PROT_READ | PROT_WRITE, fixed, -1, 0) != (void *)DATA_BASE) {
        *why = "the host does not map memory at the addresses of the test";
        return false;
    }
    struct recording_cpu cpu;
    native_cpu(&cpu);
    u32 a, b = 0, c = 0, d;
    __cpuid_count(7, 0, a, b, c, d);
    if (!strcmp(cpu.vendor, "GenuineIntel") && c & 1u << 16)
        run.x87_known = X87_POINTERS | (b & 1u << 6 ? 0 : X87_DATA_POINTER);
    static u8 stack[1 << 16];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction sa = {.sa_sigaction = native_entry, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS};
    *why = "sigaction";
    if (sigaltstack(&alt, NULL)) return false;
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++) {
        if (sigaction(signals[i], &sa, NULL)) return false;
    }
    return true;
}

void native_run(const u8 *code, unsigned n, const struct side_state *in, struct outcome *out)
{
    u8 *at = (u8 *)code_linear(in->bits, in->rip);
    unsigned room = code_room((u64)at, n + 1);
    memcpy(at, code, room < n ? room : n);
    if (room > n) at[n] = 0xCC;
    // 64-bit code runs with null data segments; other code needs real ones.
    asm volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(in->bits == 16 ? SEL_DATA16 : 0x2B));
    run.in = in;
    run.out = out;
    run.wanted = true;
    asm volatile("int3" : : : "memory");
    // POPF may have set ID, which Linux does not bring back with the context.
    asm volatile(
        "lea -128(%%rsp), %%rsp\n\tpushfq\n\tandl $0xFFDFFFFF, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp"
        :
        :
        : "cc", "memory");
}

u8 *native_data(void) { return (u8 *)DATA_BASE; }

void native_cpu(struct recording_cpu *cpu)
{
    u32 a, b, c, d, *f = cpu->features;
    memset(cpu, 0, sizeof *cpu);
    __cpuid(0, a, b, c, d);
    memcpy(cpu->vendor, (const u32[]){b, d, c}, 12);
    __cpuid(1, cpu->signature, b, f[0], f[1]);
    __cpuid_count(7, 0, a, f[2], f[3], f[4]);
    __cpuid_count(0xD, 1, f[5], b, c, d);
    for (u32 i = 0; i < 3; i++) {
        u32 r[4];
        __cpuid(0x80000002 + i, r[0], r[1], r[2], r[3]);
        memcpy(cpu->brand + 16 * i, r, 16);
    }
}

#else
const bool native_possible = false;
bool native_init(const char **why)
{
    *why = "the host is not x86-64 Linux";
    return false;
}
void native_run(const u8 *code, unsigned n, const struct side_state *in, struct outcome *out) {}
bool native_has(unsigned bits) { return false; }
bool native_has_ymm(void) { return false; }
u8 *native_data(void) { return NULL; }
void native_cpu(struct recording_cpu *cpu) { memset(cpu, 0, sizeof *cpu); }
#endif
