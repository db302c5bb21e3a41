// Matryoshka's side: a processor in 64-bit mode at CPL 3 over a few hand-made pages. Every exception goes
// through the IDT to a handler that halts at CPL 0, so delivery takes part: vector, error code and return
// state are read from its stack.
#include <stdlib.h>
#include <string.h>

#include "cpu/system/cpuid.h"
#include "cpu/state/mode.h"
#include "tests/rows_run.h"
#include "tests/silicon/silicon.h"

// Physical memory: tables, GDT, IDT, TSS and handlers in the first 2 MiB (mapped one to one for the
// supervisor).
// clang-format off
enum { PML4 = 0x1000, PDPT = 0x2000, PD_LOW = 0x3000, PT_CODE = 0x6000, PT_DATA = 0x7000, GDT = 0x8000, IDT = 0x9000,
       TSS = 0xA000, HANDLERS = 0xB000, STACK_TOP = 0xE000, CODE_PHYS = 0x400000, DATA_PHYS = 0x500000, RAM = 8 << 20 };
// clang-format on
enum { SEL_CODE0 = 0x08, SEL_DATA0 = 0x10, SEL_DATA3 = 0x1B, SEL_CODE3 = 0x23, SEL_TSS = 0x28 };

struct guest {
    struct phys phys;
    struct cpu_features features;
    struct vcpu *v;
};

static void put64(struct guest *g, paddr a, u64 x) { memcpy(g->phys.ram + a, &x, 8); }

// The code's pages are no neighbours in physical memory.
static paddr code_phys(u64 linear)
{
    return CODE_PHYS + 3 * ((linear - CODE_BASE) & PAGE_MASK) + (linear & ~PAGE_MASK);
}

static void map_tables(struct guest *g)
{
    enum { P = 1, W = 2, U = 4, PS = 0x80, AD = 0x60 };
    put64(g, PML4, PDPT | P | W | U);
    put64(g, PDPT, PD_LOW | P | W | U);
    put64(g, PD_LOW, 0 | P | W | PS | AD);
    put64(g, PD_LOW + 8 * (CODE_BASE >> 21), PT_CODE | P | W | U);
    put64(g, PD_LOW + 8 * (DATA_BASE >> 21), PT_DATA | P | W | U);
    for (u64 i = 0; i < CODE_SIZE / PAGE_SIZE; i++)
        put64(g, PT_CODE + 8 * i, code_phys(CODE_BASE + i * PAGE_SIZE) | P | W | U | AD);
    for (u64 i = 0; i < DATA_SIZE / PAGE_SIZE; i++)
        put64(g, PT_DATA + 8 * i, (DATA_PHYS + i * PAGE_SIZE) | P | W | U | AD);
}

static void map_system(struct guest *g)
{
    put64(g, GDT + SEL_CODE0, 0x00AF9B000000FFFFull);
    put64(g, GDT + SEL_DATA0, 0x00CF93000000FFFFull);
    put64(g, GDT + (SEL_DATA3 & ~7), 0x00CFF3000000FFFFull);
    put64(g, GDT + (SEL_CODE3 & ~7), 0x00AFFB000000FFFFull);
    put64(g, GDT + SEL_TSS, 0x00008B0000000067ull | (u64)TSS << 16);
    put64(g, TSS + 4, STACK_TOP);        // RSP0
    put64(g, TSS + 0x60, 0x68ull << 48); // I/O map base beyond the limit: no port
    for (u64 i = 0; i < 32; i++) {
        u64 at = HANDLERS + 16 * i;
        put64(g, IDT + 16 * i, (at & 0xFFFF) | SEL_CODE0 << 16 | 0xEE0000000000ull | (at >> 16) << 48);
        g->phys.ram[at] = 0xF4; // HLT
    }
}

static struct segment segment(u16 sel, u32 ar, u32 limit)
{
    return (struct segment){.base = 0, .limit = limit, .ar = ar, .sel = sel};
}

static void system_registers(struct vcpu *v)
{
    struct vcpu_state *s = &v->s;
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    s->cr3 = PML4;
    s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    s->msr.efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    s->gdtr = (struct dtable){.base = GDT, .limit = 0x37};
    s->idtr = (struct dtable){.base = IDT, .limit = 32 * 16 - 1};
    s->seg[SEG_TR] = segment(SEL_TSS, 0x8B, 0x67);
    s->seg[SEG_TR].base = TSS;
    s->xcr0 = feature_on(v->features, FEATURE_AVX) ? 7 : 3;
}

static void segments(struct vcpu *v, unsigned bits, bool supervisor)
{
    if (supervisor) {
        for (unsigned i = 0; i < SEG_LDTR; i++) v->s.seg[i] = segment(SEL_DATA0, 0xC093, 0xFFFFFFFF);
        v->s.seg[SEG_CS] = segment(SEL_CODE0, 0xA09B, 0xFFFFFFFF);
        return;
    }
    for (unsigned i = 0; i < SEG_LDTR; i++) {
        v->s.seg[i] = segment(SEL_DATA3, bits == 16 ? 0xF3 : 0xC0F3, bits == 16 ? DATA_SIZE - 1 : 0xFFFFFFFF);
        v->s.seg[i].base = bits == 16 ? DATA_BASE : 0;
    }
    if (bits == 16) {
        v->s.seg[SEG_CS] = segment(SEL_CODE3, 0xFB, CODE_SIZE - 1);
        v->s.seg[SEG_CS].base = CODE_BASE;
        return;
    }
    v->s.seg[SEG_CS] = segment(SEL_CODE3, bits == 32 ? 0xC0FB : 0xA0FB, 0xFFFFFFFF);
}

struct guest *guest_new(bool loop_engine)
{
    struct cpu_features f;
    cpu_features_max(&f);
    return guest_new_cpu(loop_engine, &f);
}
struct guest *guest_new_cpu(bool loop_engine, const struct cpu_features *f)
{
    const char *why;
    struct guest *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    if (!phys_init(&g->phys, RAM, &why)) {
        free(g);
        return NULL;
    }
    g->features = *f;
    g->v = vcpu_new(0, &g->phys, &g->features);
    rows_run_watch(g->v);
    map_tables(g);
    map_system(g);
    system_registers(g->v);
    segments(g->v, 64, false);
    if (loop_engine) g->v->loop_engine = true;
    cpu_mode_changed(g->v);
    cpu_context_changed(g->v);
    return g;
}

void guest_free(struct guest *g)
{
    vcpu_free(g->v);
    phys_free(&g->phys);
    free(g);
}

struct vcpu *guest_vcpu(struct guest *g) { return g->v; }
u8 *guest_data(struct guest *g) { return g->phys.ram + DATA_PHYS; }
void guest_data_changed(struct guest *g)
{
    phys_mark_dirty(&g->phys, DATA_PHYS);
    phys_mark_dirty(&g->phys, DATA_PHYS + PAGE_SIZE);
}

static void state_put(struct vcpu *v, const struct side_state *in)
{
    struct vcpu_state *s = &v->s;
    memcpy(s->gpr, in->gpr, sizeof s->gpr);
    s->rip = in->rip;
    cpu_set_rflags(v, in->rflags);
    memcpy(s->xmm, in->xmm, sizeof s->xmm);
    memcpy(s->ymm_high, in->ymm_high, sizeof s->ymm_high);
    s->mxcsr = in->mxcsr;
    memset(&s->xrstor, 0, sizeof s->xrstor); // as after RESET: the host's XRSTOR was of a signal's frame
    memset(&s->fpu, 0, sizeof s->fpu);
    s->fpu.fcw = in->fcw;
    s->fpu.fsw = in->fsw;
    s->fpu.ftw = 0;
    for (unsigned i = 0; i < 8; i++) {
        s->fpu.ftw |= (u16)((in->tags >> i & 1 ? 0 : 3) << 2 * i);
        unsigned p = ((in->fsw >> 11) + i) & 7;
        memcpy(&s->fpu.r[p].m, in->st[i], 8);
        memcpy(&s->fpu.r[p].se, in->st[i] + 8, 2);
    }
    s->activity = ACTIVITY_ACTIVE;
    s->cr2 = 0;
    segments(v, in->bits, in->supervisor);
    cpu_mode_changed(v);
    cpu_attention(v);
}

static void state_get(struct vcpu *v, struct side_state *out)
{
    struct vcpu_state *s = &v->s;
    memcpy(out->gpr, s->gpr, sizeof s->gpr);
    memcpy(out->xmm, s->xmm, sizeof s->xmm);
    memcpy(out->ymm_high, s->ymm_high, sizeof s->ymm_high);
    out->mxcsr = s->mxcsr;
    out->fcw = s->fpu.fcw;
    out->fsw = s->fpu.fsw;
    out->tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        out->tags |= (u8)(((s->fpu.ftw >> 2 * i & 3) != 3) << i);
        unsigned p = ((s->fpu.fsw >> 11) + i) & 7;
        memcpy(out->st[i], &s->fpu.r[p].m, 8);
        memcpy(out->st[i] + 8, &s->fpu.r[p].se, 2);
    }
}

static bool has_error_code(u32 vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

void guest_run(struct guest *g, const u8 *code, unsigned n, const struct side_state *in, struct outcome *out)
{
    struct vcpu *v = g->v;
    u8 bytes[256];
    memcpy(bytes, code, n);
    bytes[n] = 0xCC;
    u64 at = code_linear(in->bits, in->rip);
    unsigned room = code_room(at, n + 1), first = (unsigned)(PAGE_SIZE - (at & ~PAGE_MASK));
    if (first > room) first = room;
    phys_write(&g->phys, 0, code_phys(at), bytes, first);
    if (first < room) phys_write(&g->phys, 0, code_phys(at + first), bytes + first, room - first);
    state_put(v, in);
    enum run_exit why = vcpu_run(v, 100000);
    state_get(v, &out->s);
    out->fop = v->s.fpu.fop, out->fip = v->s.fpu.fip, out->fdp = v->s.fpu.fdp;
    out->vector = 255;
    out->error = (u32)why;
    if (why != RUN_HALTED || v->s.rip < HANDLERS || v->s.rip >= HANDLERS + 32 * 16) return;
    out->vector = (u32)(v->s.rip - HANDLERS) / 16;
    u64 frame[6];
    const u8 *sp = g->phys.ram + v->s.gpr[RSP];
    out->error = 0;
    if (has_error_code(out->vector)) {
        memcpy(&out->error, sp, 4);
        sp += 8;
    }
    memcpy(frame, sp, 40);
    out->s.rip = frame[0];
    out->s.rflags = frame[2];
    out->s.gpr[RSP] = frame[3];
    out->cr2 = out->vector == 14 ? v->s.cr2 : 0;
}
