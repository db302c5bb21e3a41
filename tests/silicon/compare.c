// Two outcomes of a test: what differs, beyond what the manual leaves open.
#include <stdio.h>
#include <string.h>

#include "tests/silicon/silicon.h"

static const char *const gpr_name[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                         "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

static u32 differ(bool say, u32 bit, const char *what, u64 in, u64 host, u64 ours)
{
    if (host == ours) return 0;
    if (!say) return bit;
    printf("#   %-10s in %016llx  host %016llx  ours %016llx\n", what, (unsigned long long)in,
           (unsigned long long)host, (unsigned long long)ours);
    return bit;
}

// Bytes that may differ: instruction and data pointers and the opcode of x87 (vendors keep them at different
// times), MXCSR_MASK.
bool compare_state_area(const struct row *r)
{
    return r && r->map == MAP_0F &&
           (!strncmp(r->name, "fx", 2) || !strncmp(r->name, "xsave", 5) || !strncmp(r->name, "xrstor", 6));
}
static bool env_area(const struct row *r)
{
    return !strcmp(r->name, "fnsave") || !strcmp(r->name, "fnstenv") || !strcmp(r->name, "frstor") ||
           !strcmp(r->name, "fldenv");
}
static bool pointer_byte(const struct test *t, u64 i)
{
    if (!t->row || !t->operand) return false;
    u64 at = i - (t->operand - DATA_BASE);
    if (compare_state_area(t->row)) return (at >= 6 && at < 24) || (at >= 28 && at < 32);
    if (!env_area(t->row)) return false;
    bool small = encode_operand16(t->code, t->n, t->in.bits);
    return small ? at >= 6 && at < 14 : at >= 12 && at < 28;
}

static bool masked_move(const struct row *r)
{
    return !strncmp(r->name, "vmaskmovp", 9) || !strncmp(r->name, "vpmaskmov", 9);
}
static bool stack_span(const struct row *r)
{
    return r && (!strcmp(r->name, "enter") || !strcmp(r->name, "pusha") || !strcmp(r->name, "popa"));
}

u32 compare(const struct test *t, const struct outcome *host, const struct outcome *ours, const u8 *host_data,
            const u8 *our_data, bool say)
{
    const struct side_state *h = &host->s, *o = &ours->s, *in = &t->in;
    u32 bad = 0;
    char what[32];
    if (h->mxcsr & 0x20000) return 0; // AMD's misaligned mode, which we do not have: LDMXCSR took it
    // Both misaligned and outside its stack segment: which comes first is the processor's choice.
    bool either = host->vector == 13 && ours->vector == 12 && in->bits == 16 &&
                  (!t->row || row_aligned(t->row) || compare_state_area(t->row));
    // An environment is read in pieces: its first may be misaligned while its last is outside the segment.
    if (host->vector == 17 && (ours->vector == 12 || ours->vector == 13) && in->bits == 16 && t->row &&
        (env_area(t->row) || compare_state_area(t->row)))
        either = true;
    if (!either) bad |= differ(say, D_VECTOR, "vector", 0, host->vector, ours->vector);
    if (host->vector == ours->vector) {
        bad |= differ(say, D_ERROR, "error", 0, host->vector == 3 || host->vector == 6 ? 0 : host->error,
                      ours->error);
        // Which byte of a large area, or of what is moved under a mask, a fault names within its page is the
        // processor's choice.
        bool large = t->row && (compare_state_area(t->row) || env_area(t->row) || masked_move(t->row));
        u64 fine = large ? PAGE_MASK : ~0ull;
        bad |= differ(say, D_CR2, "cr2", 0, host->cr2 & fine, ours->cr2 & fine);
    }
    bad |= differ(say, D_RIP, "rip", in->rip, h->rip, o->rip);
    // Linux keeps ID to itself across a signal. An exception that stops an instruction before its flags are
    // defined leaves them alone on both sides.
    u64 undefined = FL_RF | FL_ID | (host->vector == 3 || h->rip == in->rip + t->n ? (u32)t->undefined : 0) |
                    t->undefined >> 32;
    bad |= differ(say, D_FLAGS, "rflags", in->rflags, h->rflags & ~undefined, o->rflags & ~undefined);
    u64 gpr_mask = in->bits == 64 ? ~0ull : 0xFFFFFFFF; // upper halves do not outlive 32-bit code for certain
    bool some_popped = host->vector != 3 && stack_span(t->row);
    for (unsigned i = 0; i < (in->bits == 64 ? 16u : 8u) && !some_popped; i++) {
        u64 m = i == RSP && in->bits == 16 ? 0xFFFF : gpr_mask;
        bad |= differ(say, D_GPR, gpr_name[i], in->gpr[i], h->gpr[i] & m, o->gpr[i] & m);
    }
    for (unsigned i = 0; i < 16; i++) {
        for (unsigned k = 0; k < 2; k++) {
            if (h->xmm[i][k] == o->xmm[i][k]) continue;
            snprintf(what, sizeof what, "xmm%u.%s", i, k ? "high" : "low");
            bad |= differ(say, D_XMM, what, in->xmm[i][k], h->xmm[i][k], o->xmm[i][k]);
        }
    }
    for (unsigned i = 0; i < 16; i++) {
        for (unsigned k = 0; k < 2; k++) {
            if (h->ymm_high[i][k] == o->ymm_high[i][k]) continue;
            snprintf(what, sizeof what, "ymm%u.%s", i, k ? "q3" : "q2");
            bad |= differ(say, D_YMM, what, in->ymm_high[i][k], h->ymm_high[i][k], o->ymm_high[i][k]);
        }
    }
    bad |= differ(say, D_MXCSR, "mxcsr", in->mxcsr, h->mxcsr, o->mxcsr);
    bad |= differ(say, D_FCW, "fcw", in->fcw, h->fcw, o->fcw);
    bad |= differ(say, D_FSW, "fsw", in->fsw, h->fsw, o->fsw);
    if (host->x87_known & X87_POINTERS) {
        bad |= differ(say, D_FSW, "fop", 0, host->fop, ours->fop);
        bad |= differ(say, D_FSW, "fip", 0, host->fip, ours->fip);
    }
    // CPUID.7:EBX[6], which we do not report: the silicon keeps FDP of unmasked exceptions alone,
    // which in a sequence may be of an instruction without an operand in memory
    if (host->x87_known & X87_DATA_POINTER || (host->x87_known && t->row && h->fsw & 0x80))
        bad |= differ(say, D_FSW, "fdp", 0, host->fdp, ours->fdp);
    bad |= differ(say, D_TAGS, "tags", in->tags, h->tags, o->tags);
    for (unsigned i = 0; i < 8; i++) {
        u64 a = 0, b = 0, c = 0;
        if (!memcmp(h->st[i], o->st[i], 10)) continue;
        memcpy(&a, in->st[i], 8), memcpy(&b, h->st[i], 8), memcpy(&c, o->st[i], 8);
        snprintf(what, sizeof what, "st%u.m", i);
        bad |= differ(say, D_ST, what, a, b, c);
        a = b = c = 0;
        memcpy(&a, in->st[i] + 8, 2), memcpy(&b, h->st[i] + 8, 2), memcpy(&c, o->st[i] + 8, 2);
        snprintf(what, sizeof what, "st%u.se", i);
        bad |= differ(say, D_ST, what, a, b, c);
    }
    // ENTER, PUSHA and POPA that fault on the way: the silicon has done a part of it, we have done nothing.
    bool partial = host->vector != 3 && stack_span(t->row);
    if (!partial && memcmp(host_data, our_data, DATA_SIZE)) {
        for (unsigned i = 0, shown = 0; i < DATA_SIZE && shown < 4; i++) {
            if (host_data[i] == our_data[i] || pointer_byte(t, i)) continue;
            snprintf(what, sizeof what, "data+%x", i);
            bad |= differ(say, D_DATA, what, t->data[i], host_data[i], our_data[i]);
            shown++;
        }
    }
    return bad;
}
